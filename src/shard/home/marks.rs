//! Which conversations have marks for which lane: what a full lane has refused, and whose turn it
//! is when there is room again.
//!
//! Owns: the list of each lane, and the place in it where the last turn stopped. The marks
//! themselves are the conversation's.
//! Never: lets one lane wait for another, or one conversation of a lane for ever for those before
//! it.
//! Bounds: a conversation stands once in a lane's list, so [`crate::limits::CONVS_ACTIVE_MAX`] a
//! lane.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};

use crate::ids::{ConvId, ShardId};

/// The marks of a home, by lane.
#[derive(Debug, Default)]
pub(in crate::shard) struct Marks {
    lanes: BTreeMap<ShardId, MarkedLane>,
}

#[derive(Debug, Default)]
struct MarkedLane {
    convs: BTreeSet<ConvId>,
    /// The conversation that had its turn last.
    last: Option<ConvId>,
}

impl Marks {
    /// Whether there is none.
    pub(in crate::shard) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// The lanes with marks.
    pub(in crate::shard) fn lanes(&self) -> Vec<ShardId> {
        self.lanes.keys().copied().collect()
    }

    /// `conv` has a mark for the lane to `shard`.
    pub(in crate::shard) fn add(&mut self, shard: ShardId, conv: ConvId) {
        self.lanes.entry(shard).or_default().convs.insert(conv);
    }

    /// It has none any more.
    pub(in crate::shard) fn remove(&mut self, shard: ShardId, conv: ConvId) {
        let Some(lane) = self.lanes.get_mut(&shard) else { return };
        lane.convs.remove(&conv);
        if lane.convs.is_empty() {
            self.lanes.remove(&shard);
        }
    }

    /// The next conversation of that lane, round and round.
    pub(in crate::shard) fn next(&self, shard: ShardId) -> Option<ConvId> {
        let lane = self.lanes.get(&shard)?;
        let after = lane.last.map_or(Unbounded, Excluded);
        lane.convs.range((after, Unbounded)).next().or_else(|| lane.convs.first()).copied()
    }

    /// `conv` has had its turn in that lane.
    pub(super) fn had_turn(&mut self, shard: ShardId, conv: ConvId) {
        if let Some(lane) = self.lanes.get_mut(&shard) {
            lane.last = Some(conv);
        }
    }

    /// Whether `conv` has a mark for the lane to `shard`. For `check_invariants`.
    pub(in crate::shard) fn check(&self, shard: ShardId, conv: ConvId) -> bool {
        self.lanes.get(&shard).is_some_and(|lane| lane.convs.contains(&conv))
    }

    /// How many marks there are. For `check_invariants`.
    pub(in crate::shard) fn len(&self) -> usize {
        self.lanes.values().map(|lane| lane.convs.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::GroupId;

    fn conv(n: u64) -> ConvId {
        ConvId::Group(GroupId::new(n).expect("small"))
    }

    #[test]
    fn each_conversation_of_a_lane_has_its_turn_although_the_first_come_again() {
        let mut marks = Marks::default();
        (1..=3).for_each(|n| marks.add(ShardId(1), conv(n)));
        marks.add(ShardId(2), conv(9));
        let mut order = Vec::new();
        for _ in 0..6 {
            let next = marks.next(ShardId(1)).expect("there are three");
            assert_eq!(marks.next(ShardId(1)), Some(next), "a lane without room waits in its place");
            marks.had_turn(ShardId(1), next);
            // Sent, and marked again at once.
            marks.remove(ShardId(1), next);
            marks.add(ShardId(1), next);
            order.push(next);
        }
        assert_eq!(order, [1, 2, 3, 1, 2, 3].map(conv));
        assert_eq!((marks.len(), marks.lanes().len()), (4, 2));
        marks.remove(ShardId(2), conv(9));
        assert_eq!(marks.next(ShardId(2)), None);
    }
}
