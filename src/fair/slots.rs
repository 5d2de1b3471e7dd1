//! Slots of which a few holders have most: which holders have one, in which state, and which gives
//! way.

use std::collections::BTreeSet;
use std::hash::Hash;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use slab::Slab;

/// What the holder of a slot does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hold {
    /// Nothing: it may go first.
    Idle,
    /// The other side is waited for: it may go when no slot is idle.
    Waiting,
    /// Work is being done for it: it stays.
    Working,
}

/// A taken slot. The id of a slot that was left fits no later holder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotId {
    index: usize,
    serial: u64,
}

/// At most so many slots, which are shared by groups (networks). `T` is what its owner keeps at
/// each slot, to tell the holder that it has to go. Everything costs a logarithm of the slots, but
/// [`SlotTable::heaviest`], which looks at all.
pub struct SlotTable<G, T> {
    slots_max: usize,
    slots: Slab<Slot<G, T>>,
    groups: HashMap<G, Group, RandomState>,
    /// The groups by how many of their slots are idle, and how many are waiting.
    busiest: [BTreeSet<(usize, G)>; 2],
    counts: [usize; 3],
    bytes: usize,
    serial: u64,
}

struct Slot<G, T> {
    serial: u64,
    group: G,
    hold: Hold,
    /// When it began to hold so, or last made progress.
    since_ms: u64,
    /// What it holds of memory.
    bytes: usize,
    holder: T,
}

#[derive(Default)]
struct Group {
    slots: usize,
    /// Its slots that are idle, and those that are waiting, the oldest first.
    oldest: [BTreeSet<(u64, usize)>; 2],
}

impl<G: Copy + Ord + Hash, T> SlotTable<G, T> {
    /// No slot is taken, nothing is reserved.
    #[must_use]
    pub fn new(slots_max: usize) -> Self {
        Self {
            slots_max,
            slots: Slab::new(),
            groups: HashMap::default(),
            busiest: Default::default(),
            counts: [0; 3],
            bytes: 0,
            serial: 0,
        }
    }

    /// Slots that are free.
    #[must_use]
    pub fn free(&self) -> usize {
        self.slots_max.saturating_sub(self.slots.len())
    }

    /// Slots whose holders do this.
    #[must_use]
    pub const fn count(&self, hold: Hold) -> usize {
        self.counts[hold as usize]
    }

    /// Slots of a group.
    #[must_use]
    pub fn of(&self, group: G) -> usize {
        self.groups.get(&group).map_or(0, |of| of.slots)
    }

    /// What all slots hold of memory together.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a free slot; `None` without one.
    pub fn take(&mut self, group: G, hold: Hold, now_ms: u64, holder: T) -> Option<SlotId> {
        if self.free() == 0 {
            return None;
        }
        self.serial += 1;
        let slot = Slot { serial: self.serial, group, hold, since_ms: now_ms, bytes: 0, holder };
        let index = self.slots.insert(slot);
        self.groups.entry(group).or_default().slots += 1;
        self.enter(index);
        Some(SlotId { index, serial: self.serial })
    }

    /// Gives a slot back. What was kept at it, if it was not gone already.
    pub fn leave(&mut self, id: SlotId) -> Option<T> {
        self.slot(id)?;
        self.exit(id.index);
        let slot = self.slots.remove(id.index);
        self.bytes -= slot.bytes;
        self.forget(slot.group);
        Some(slot.holder)
    }

    /// The holder of a slot does something else now, or makes progress. Answers whether
    /// it still has the slot.
    pub fn hold(&mut self, id: SlotId, hold: Hold, now_ms: u64) -> bool {
        self.change(id, |slot| {
            slot.hold = hold;
            slot.since_ms = now_ms;
        })
    }

    /// What a slot holds of memory from now on. Answers whether it still has the slot.
    pub fn weigh(&mut self, id: SlotId, bytes: usize) -> bool {
        let Some(slot) = self.slots.get_mut(id.index).filter(|slot| slot.serial == id.serial) else { return false };
        self.bytes = self.bytes - slot.bytes + bytes;
        slot.bytes = bytes;
        true
    }

    /// What a slot holds of memory.
    #[must_use]
    pub fn weight(&self, id: SlotId) -> usize {
        self.slot(id).map_or(0, |slot| slot.bytes)
    }

    /// A slot counts for another group now.
    pub fn regroup(&mut self, id: SlotId, group: G) {
        let Some(before) = self.slot(id).map(|slot| slot.group).filter(|before| *before != group) else { return };
        self.exit(id.index);
        if let Some(slot) = self.slots.get_mut(id.index) {
            slot.group = group;
        }
        self.groups.entry(group).or_default().slots += 1;
        self.enter(id.index);
        self.forget(before);
    }

    /// The slot that gives way first among those that hold so: the oldest of the group that has
    /// most of them. [`Hold::Working`] never gives way.
    #[must_use]
    pub fn first(&self, hold: Hold) -> Option<SlotId> {
        let (_, group) = self.busiest.get(hold as usize)?.last()?;
        self.first_of(*group, hold)
    }

    /// The same among those of one group.
    #[must_use]
    pub fn first_of(&self, group: G, hold: Hold) -> Option<SlotId> {
        let (_, index) = self.groups.get(&group)?.oldest.get(hold as usize)?.first()?;
        self.slots.get(*index).map(|slot| SlotId { index: *index, serial: slot.serial })
    }

    /// Of the waiting slots that hold more than `bytes` of memory, since before `until_ms`, the one
    /// with the largest product of bytes and age.
    #[must_use]
    pub fn heaviest(&self, bytes: usize, until_ms: u64) -> Option<SlotId> {
        let product = |slot: &Slot<G, T>| {
            let age_ms = usize::try_from(until_ms - slot.since_ms).unwrap_or(usize::MAX);
            slot.bytes.saturating_mul(age_ms)
        };
        let waits = |slot: &Slot<G, T>| slot.hold == Hold::Waiting && slot.bytes > bytes && slot.since_ms < until_ms;
        let waiting = self.slots.iter().filter(|(_, slot)| waits(slot));
        let (index, slot) = waiting.max_by_key(|(_, slot)| product(slot))?;
        Some(SlotId { index, serial: slot.serial })
    }

    fn slot(&self, id: SlotId) -> Option<&Slot<G, T>> {
        self.slots.get(id.index).filter(|slot| slot.serial == id.serial)
    }

    fn change(&mut self, id: SlotId, change: impl FnOnce(&mut Slot<G, T>)) -> bool {
        if self.slot(id).is_none() {
            return false;
        }
        self.exit(id.index);
        if let Some(slot) = self.slots.get_mut(id.index) {
            change(slot);
        }
        self.enter(id.index);
        true
    }

    /// Puts a slot into the orders of its group.
    fn enter(&mut self, index: usize) {
        let Some(slot) = self.slots.get(index) else { return };
        let (group, since_ms, hold) = (slot.group, slot.since_ms, slot.hold as usize);
        self.counts[hold] += 1;
        self.reorder(group, hold, |oldest| {
            oldest.insert((since_ms, index));
        });
    }

    /// Takes a slot out of them.
    fn exit(&mut self, index: usize) {
        let Some(slot) = self.slots.get(index) else { return };
        let (group, since_ms, hold) = (slot.group, slot.since_ms, slot.hold as usize);
        self.counts[hold] -= 1;
        self.reorder(group, hold, |oldest| {
            oldest.remove(&(since_ms, index));
        });
    }

    fn reorder(&mut self, group: G, hold: usize, change: impl FnOnce(&mut BTreeSet<(u64, usize)>)) {
        let of = self.groups.entry(group).or_default();
        let (Some(oldest), Some(busiest)) = (of.oldest.get_mut(hold), self.busiest.get_mut(hold)) else { return };
        busiest.remove(&(oldest.len(), group));
        change(oldest);
        if !oldest.is_empty() {
            busiest.insert((oldest.len(), group));
        }
    }

    fn forget(&mut self, group: G) {
        if let Some(of) = self.groups.get_mut(&group) {
            of.slots -= 1;
            if of.slots == 0 {
                self.groups.remove(&group);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_oldest_of_the_busiest_goes_first_and_work_stays() {
        let mut slots = SlotTable::<u32, &str>::new(5);
        let mut take = |group, hold, now_ms, holder| slots.take(group, hold, now_ms, holder).expect("a free slot");
        let _single = take(1, Hold::Idle, 1, "single");
        let young = take(2, Hold::Idle, 9, "young");
        let old = take(2, Hold::Idle, 5, "old");
        let (working, waiting) = (take(3, Hold::Working, 0, "working"), take(3, Hold::Waiting, 0, "waiting"));
        assert_eq!((slots.free(), slots.of(2), slots.count(Hold::Idle)), (0, 2, 3));
        assert_eq!(slots.take(4, Hold::Idle, 0, "late"), None);
        assert_eq!(slots.first(Hold::Idle), Some(old));
        assert!(slots.hold(old, Hold::Idle, 10), "it made progress");
        assert_eq!(slots.first(Hold::Idle), Some(young));
        assert_eq!((slots.first(Hold::Waiting), slots.first(Hold::Working)), (Some(waiting), None));
        assert_eq!(slots.leave(young), Some("young"));
        assert_eq!((slots.leave(young), slots.hold(young, Hold::Idle, 0)), (None, false), "it has gone");
        let next = slots.take(2, Hold::Idle, 11, "next").expect("a free slot");
        assert_ne!(next, young, "the same index is another slot");
        slots.regroup(working, 2);
        assert_eq!((slots.of(3), slots.of(2), slots.first_of(2, Hold::Idle)), (1, 3, Some(old)));
    }

    #[test]
    fn what_is_large_and_old_goes_before_what_is_either() {
        let mut slots = SlotTable::<u32, ()>::new(4);
        let mut take = |hold, now_ms| slots.take(1, hold, now_ms, ()).expect("a free slot");
        let (large, old, both, working) =
            (take(Hold::Waiting, 90), take(Hold::Waiting, 0), take(Hold::Waiting, 50), take(Hold::Working, 0));
        for (slot, bytes) in [(large, 1000), (old, 10), (both, 900), (working, 5000)] {
            assert!(slots.weigh(slot, bytes));
        }
        assert_eq!((slots.heaviest(0, 100), slots.bytes(), slots.weight(both)), (Some(both), 6910, 900));
        slots.leave(both);
        assert_eq!((slots.heaviest(0, 100), slots.bytes()), (Some(large), 6010));
        assert_eq!((slots.heaviest(0, 90), slots.heaviest(10, 90)), (Some(old), None), "too young, and too light");
    }

    proptest! {
        /// However slots are taken, held and left, the counts are those of a plain list.
        #[test]
        fn counts_agree_with_a_list(steps in prop::collection::vec((0_u8..5, 0_u32..4, 0_usize..16, 0_usize..99), 0..200)) {
            let holds = [Hold::Idle, Hold::Waiting, Hold::Working];
            let mut slots = SlotTable::<u32, ()>::new(8);
            let mut list: Vec<(SlotId, u32, Hold, usize)> = Vec::new();
            for (now_ms, (what, group, which, bytes)) in (0..).zip(steps) {
                let at = which % list.len().max(1);
                match (what, list.get_mut(at)) {
                    (0, _) | (_, None) => {
                        let taken = slots.take(group, holds[which % 3], now_ms, ());
                        prop_assert_eq!(taken.is_some(), list.len() < 8);
                        list.extend(taken.map(|id| (id, group, holds[which % 3], 0)));
                    }
                    (1, Some(one)) => {
                        one.2 = holds[bytes % 3];
                        prop_assert!(slots.hold(one.0, one.2, now_ms));
                    }
                    (2, Some(one)) => {
                        one.3 = bytes;
                        prop_assert!(slots.weigh(one.0, bytes));
                    }
                    (3, Some(one)) => {
                        one.1 = group;
                        slots.regroup(one.0, group);
                    }
                    (_, Some(_)) => {
                        let gone = list.remove(at);
                        prop_assert!(slots.leave(gone.0).is_some() && slots.leave(gone.0).is_none());
                    }
                }
                prop_assert_eq!(slots.bytes(), list.iter().map(|one| one.3).sum::<usize>());
                for hold in holds {
                    prop_assert_eq!(slots.count(hold), list.iter().filter(|one| one.2 == hold).count());
                }
                for group in 0..4 {
                    prop_assert_eq!(slots.of(group), list.iter().filter(|one| one.1 == group).count());
                }
                for hold in [Hold::Idle, Hold::Waiting] {
                    let most = (0..4).map(|group| list.iter().filter(|one| (one.1, one.2) == (group, hold)).count()).max();
                    let first = slots.first(hold).and_then(|id| list.iter().find(|one| one.0 == id));
                    let of_first = first.map_or(0, |first| list.iter().filter(|one| (one.1, one.2) == (first.1, hold)).count());
                    prop_assert_eq!(Some(of_first), most);
                }
            }
        }
    }
}
