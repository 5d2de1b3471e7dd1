//! Which other shards listen to a group, as its home knows it: those with a member online, and no
//! others.
//!
//! Owns: [`Listeners`], a set of shards for each group that other shards listen to. It is told by
//! those shards ([`crate::shard::peer::PeerMsg::Interest`]), or by a membership that it passes on
//! to one of them itself. Never: leaves out a shard whose word it has confirmed. One too many is
//! harmless: it is sent a message in vain, and says so. Bounds: [`limits::LISTENED_GROUPS_MAX`]
//! groups, each with a bit for every shard. Groups beyond it are sent to all shards.

use hashbrown::HashMap;
use smallvec::{SmallVec, smallvec};

use crate::ids::{GroupId, ShardId};
use crate::limits;

/// A set of shards: a bit each, up to 64 of them without memory of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
struct ShardSet {
    words: SmallVec<[u64; 1]>,
}

/// The word and the bit of a shard.
const fn place(shard: ShardId) -> (usize, u64) {
    (shard.0 as usize / 64, 1 << (shard.0 % 64))
}

impl ShardSet {
    fn none(shards: u16) -> Self {
        Self { words: smallvec![0; usize::from(shards).div_ceil(64).max(1)] }
    }

    fn insert(&mut self, shard: ShardId) {
        let (word, bit) = place(shard);
        if let Some(word) = self.words.get_mut(word) {
            *word |= bit;
        }
    }

    fn remove(&mut self, shard: ShardId) {
        let (word, bit) = place(shard);
        if let Some(word) = self.words.get_mut(word) {
            *word &= !bit;
        }
    }

    fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    fn iter(&self) -> impl Iterator<Item = ShardId> {
        (0u16..).zip(&self.words).flat_map(|(index, &word)| {
            let next = |word: &u64| Some(word & word.wrapping_sub(1)).filter(|&rest| rest != 0);
            std::iter::successors(Some(word).filter(|&word| word != 0), next)
                .map(move |rest| ShardId(index * 64 + u16::try_from(rest.trailing_zeros()).unwrap_or_default()))
        })
    }
}

/// The groups of this home that other shards listen to.
pub(in crate::shard) struct Listeners {
    shards: u16,
    groups: HashMap<GroupId, ShardSet>,
    /// There was a group too many once: since then a group that is not listed is sent to all
    /// shards.
    is_crowded: bool,
}

impl Listeners {
    /// No shard listens to anything yet.
    pub(in crate::shard) fn new(shards: u16) -> Self {
        Self { shards, groups: HashMap::new(), is_crowded: false }
    }

    /// `shard` listens from now on.
    pub(in crate::shard) fn add(&mut self, group: GroupId, shard: ShardId) {
        if let Some(set) = self.groups.get_mut(&group) {
            return set.insert(shard);
        }
        // A group that is not listed any more would be sent to no shard, so crowded once is crowded
        // for good.
        if self.is_crowded || self.groups.len() >= limits::LISTENED_GROUPS_MAX {
            self.is_crowded = true;
            return;
        }
        let mut set = ShardSet::none(self.shards);
        set.insert(shard);
        self.groups.insert(group, set);
    }

    /// `shard` does not listen any more.
    pub(in crate::shard) fn remove(&mut self, group: GroupId, shard: ShardId) {
        let Some(set) = self.groups.get_mut(&group) else { return };
        set.remove(shard);
        if set.is_empty() && !self.is_crowded {
            self.groups.remove(&group);
        }
    }

    /// The other shards that are to be sent what is said in `group`; perhaps with the home's own.
    pub(in crate::shard) fn of(&self, group: GroupId) -> SmallVec<[ShardId; 8]> {
        match self.groups.get(&group) {
            Some(set) => set.iter().collect(),
            None if self.is_crowded => (0..self.shards).map(ShardId).collect(),
            None => SmallVec::new(),
        }
    }

    /// How many groups are listed.
    pub(in crate::shard) fn len(&self) -> usize {
        self.groups.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(n: u64) -> GroupId {
        GroupId::new(n).expect("small")
    }

    #[test]
    fn shards_come_and_go_on_either_side_of_a_word() {
        for shards in [2, 64, 65, limits::SHARDS_MAX] {
            let mut listeners = Listeners::new(shards);
            let some: Vec<ShardId> = [0, 1, 63, 64, 127, shards - 1].map(ShardId).to_vec();
            let mut there: Vec<ShardId> = some.into_iter().filter(|shard| shard.0 < shards).collect();
            there.sort_unstable();
            there.dedup();
            for &shard in there.iter().rev() {
                listeners.add(group(1), shard);
                listeners.add(group(1), shard);
            }
            assert_eq!(listeners.of(group(1)).to_vec(), there);
            assert!(listeners.of(group(2)).is_empty());
            listeners.remove(group(2), ShardId(0));
            while let Some(shard) = there.pop() {
                listeners.remove(group(1), shard);
                assert_eq!(listeners.of(group(1)).to_vec(), there);
            }
            assert_eq!(listeners.len(), 0, "a group that nobody listens to is not kept");
        }
    }

    #[test]
    fn a_group_too_many_is_everybodys_and_stays_so() {
        let mut listeners = Listeners { shards: 3, groups: HashMap::new(), is_crowded: true };
        listeners.groups.insert(group(1), ShardSet::none(3));
        listeners.add(group(1), ShardId(2));
        listeners.add(group(2), ShardId(1));
        assert_eq!(listeners.of(group(1)).to_vec(), [ShardId(2)], "who was listed in time is known exactly");
        assert_eq!(listeners.of(group(2)).len(), 3);
        listeners.remove(group(1), ShardId(2));
        assert!(listeners.of(group(1)).is_empty(), "and stays known");
    }
}
