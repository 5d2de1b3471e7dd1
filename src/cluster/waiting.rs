//! Numbers for which shards had no room: they come back as fast as the shards take them.
//!
//! Owns: the lowest and newest number of each conversation that waits, by shard.
//! Never: lets one conversation wait for ever for those before it, or one shard for another.
//! Bounds: [`FAR_HEADS_MAX`] conversations, all shards together.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};

use crate::ids::{ConvId, Seq, ShardId};
use crate::limits::FAR_HEADS_MAX;
use crate::store::RecentConv;

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Waiting {
    lanes: Vec<Lane>,
    len: usize,
}

#[derive(Debug, Default)]
struct Lane {
    heads: BTreeMap<ConvId, (Seq, Seq)>,
    /// The conversation that had its turn last.
    last: Option<ConvId>,
}

impl Waiting {
    pub(super) fn new(shards: u16) -> Self {
        Self { lanes: (0..shards).map(|_| Lane::default()).collect(), len: 0 }
    }

    /// Whether something waits for a shard.
    pub(super) fn is_for(&self, shard: ShardId) -> bool {
        self.lanes.get(usize::from(shard.0)).is_some_and(|lane| !lane.heads.is_empty())
    }

    /// Keeps it for later. `false`: too many wait.
    pub(super) fn keep(&mut self, shard: ShardId, head: RecentConv) -> bool {
        let Some(lane) = self.lanes.get_mut(usize::from(shard.0)) else { return false };
        if let Some(kept) = lane.heads.get_mut(&head.conv) {
            *kept = (kept.0.min(head.lowest), kept.1.max(head.newest));
            return true;
        }
        if self.len >= FAR_HEADS_MAX {
            return false;
        }
        self.len += 1;
        lane.heads.insert(head.conv, (head.lowest, head.newest));
        true
    }

    /// At most `most` of those that wait for a shard, each conversation in its turn.
    pub(super) fn take(&mut self, shard: ShardId, most: usize) -> Vec<RecentConv> {
        let Some(lane) = self.lanes.get_mut(usize::from(shard.0)) else { return Vec::new() };
        let after = lane.last.map_or(Unbounded, Excluded);
        let rest = lane.heads.range((after, Unbounded)).chain(&lane.heads);
        let turn = most.min(lane.heads.len());
        let taken: Vec<_> =
            rest.take(turn).map(|(&conv, &(lowest, newest))| RecentConv { conv, lowest, newest }).collect();
        for head in &taken {
            lane.heads.remove(&head.conv);
        }
        lane.last = taken.last().map(|head| head.conv).or(lane.last);
        self.len -= taken.len();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::GroupId;

    fn head(n: u64) -> RecentConv {
        let seq = Seq::new(n).expect("small");
        RecentConv { conv: ConvId::Group(GroupId::new(n).expect("small")), lowest: seq, newest: seq }
    }

    #[test]
    fn each_conversation_has_its_turn_although_the_first_come_again() {
        let mut waiting = Waiting::new(2);
        (1..=3).for_each(|n| assert!(waiting.keep(ShardId(1), head(n))));
        let mut order = Vec::new();
        for _ in 0..6 {
            let taken = waiting.take(ShardId(1), 1);
            order.extend(taken.iter().map(|head| head.newest.get()));
            taken.into_iter().for_each(|head| assert!(waiting.keep(ShardId(1), head)));
        }
        assert_eq!(order, [1, 2, 3, 1, 2, 3]);
        assert_eq!(waiting.take(ShardId(1), 10).len(), 3, "none of them twice");
        assert!(!waiting.is_for(ShardId(1)));
    }

    #[test]
    fn numbers_of_one_conversation_are_one_range_and_all_are_bounded() {
        let mut waiting = Waiting::new(1);
        let group = head(1).conv;
        for n in [5, 3, 9] {
            assert!(waiting.keep(ShardId(0), RecentConv { conv: group, ..head(n) }));
        }
        for n in 2..=FAR_HEADS_MAX as u64 {
            assert!(waiting.keep(ShardId(0), head(n)));
        }
        assert!(!waiting.keep(ShardId(0), head(FAR_HEADS_MAX as u64 + 1)), "there are too many");
        assert!(waiting.keep(ShardId(0), head(1)), "one that waits has its place");
        let first = waiting.take(ShardId(0), 1);
        assert_eq!((first[0].lowest.get(), first[0].newest.get()), (1, 9));
        assert!(waiting.keep(ShardId(0), head(FAR_HEADS_MAX as u64 + 1)), "there is room again");
    }
}
