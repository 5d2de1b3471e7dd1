//! Seats of which a few hold most: who has one, in which state, and who gives way.

use std::collections::BTreeSet;
use std::hash::Hash;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use slab::Slab;

/// What the holder of a seat does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hold {
    /// Nothing: it may go first.
    Idle,
    /// The other side is waited for: it may go when there is nobody idle.
    Waiting,
    /// Work is being done for it: it stays.
    Working,
}

/// A taken seat. That of somebody who has gone fits nobody who comes later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SeatId {
    slot: usize,
    serial: u64,
}

/// At most so many seats, which are shared by groups (networks). `T` is what its owner keeps at
/// each seat, to tell the holder that it has to go. Everything costs a logarithm of the seats, but
/// [`Seats::heaviest`], which looks at all.
pub struct Seats<G, T> {
    seats_max: usize,
    seats: Slab<Seat<G, T>>,
    groups: HashMap<G, Group, RandomState>,
    /// The groups by how many of their seats are idle, and how many are waiting.
    busiest: [BTreeSet<(usize, G)>; 2],
    counts: [usize; 3],
    bytes: usize,
    serial: u64,
}

struct Seat<G, T> {
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
    seats: usize,
    /// Its seats that are idle, and those that are waiting, the oldest first.
    oldest: [BTreeSet<(u64, usize)>; 2],
}

impl<G: Copy + Ord + Hash, T> Seats<G, T> {
    /// No seat is taken, nothing is reserved.
    #[must_use]
    pub fn new(seats_max: usize) -> Self {
        Self {
            seats_max,
            seats: Slab::new(),
            groups: HashMap::default(),
            busiest: Default::default(),
            counts: [0; 3],
            bytes: 0,
            serial: 0,
        }
    }

    /// Seats that nobody has.
    #[must_use]
    pub fn free(&self) -> usize {
        self.seats_max.saturating_sub(self.seats.len())
    }

    /// Seats whose holders do this.
    #[must_use]
    pub const fn count(&self, hold: Hold) -> usize {
        self.counts[hold as usize]
    }

    /// Seats of a group.
    #[must_use]
    pub fn of(&self, group: G) -> usize {
        self.groups.get(&group).map_or(0, |of| of.seats)
    }

    /// What all seats hold of memory together.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a free seat; `None` without one.
    pub fn take(&mut self, group: G, hold: Hold, now_ms: u64, holder: T) -> Option<SeatId> {
        if self.free() == 0 {
            return None;
        }
        self.serial += 1;
        let seat = Seat { serial: self.serial, group, hold, since_ms: now_ms, bytes: 0, holder };
        let slot = self.seats.insert(seat);
        self.groups.entry(group).or_default().seats += 1;
        self.enter(slot);
        Some(SeatId { slot, serial: self.serial })
    }

    /// Gives a seat back. What was kept at it, if it was not gone already.
    pub fn leave(&mut self, id: SeatId) -> Option<T> {
        self.seat(id)?;
        self.exit(id.slot);
        let seat = self.seats.remove(id.slot);
        self.bytes -= seat.bytes;
        self.forget(seat.group);
        Some(seat.holder)
    }

    /// The holder of a seat does something else now, or makes progress. Answers whether
    /// it still has the seat.
    pub fn hold(&mut self, id: SeatId, hold: Hold, now_ms: u64) -> bool {
        self.change(id, |seat| {
            seat.hold = hold;
            seat.since_ms = now_ms;
        })
    }

    /// What the holder of a seat does; `None` when it has gone.
    #[must_use]
    pub fn state(&self, id: SeatId) -> Option<Hold> {
        self.seat(id).map(|seat| seat.hold)
    }

    /// What a seat holds of memory from now on. Answers whether it still has the seat.
    pub fn weigh(&mut self, id: SeatId, bytes: usize) -> bool {
        let Some(seat) = self.seats.get_mut(id.slot).filter(|seat| seat.serial == id.serial) else { return false };
        self.bytes = self.bytes - seat.bytes + bytes;
        seat.bytes = bytes;
        true
    }

    /// What a seat holds of memory.
    #[must_use]
    pub fn weight(&self, id: SeatId) -> usize {
        self.seat(id).map_or(0, |seat| seat.bytes)
    }

    /// A seat counts for another group now.
    pub fn regroup(&mut self, id: SeatId, group: G) {
        let Some(before) = self.seat(id).map(|seat| seat.group).filter(|before| *before != group) else { return };
        self.exit(id.slot);
        if let Some(seat) = self.seats.get_mut(id.slot) {
            seat.group = group;
        }
        self.groups.entry(group).or_default().seats += 1;
        self.enter(id.slot);
        self.forget(before);
    }

    /// The seat that gives way first among those that hold so: the oldest of the group that has
    /// most of them. [`Hold::Working`] never gives way.
    #[must_use]
    pub fn first(&self, hold: Hold) -> Option<SeatId> {
        let (_, group) = self.busiest.get(hold as usize)?.last()?;
        self.first_of(*group, hold)
    }

    /// The same among those of one group.
    #[must_use]
    pub fn first_of(&self, group: G, hold: Hold) -> Option<SeatId> {
        let (_, slot) = self.groups.get(&group)?.oldest.get(hold as usize)?.first()?;
        self.seats.get(*slot).map(|seat| SeatId { slot: *slot, serial: seat.serial })
    }

    /// Of the waiting seats that hold more than `bytes` of memory, since before `until_ms`, the one
    /// with the largest product of bytes and age.
    #[must_use]
    pub fn heaviest(&self, bytes: usize, until_ms: u64) -> Option<SeatId> {
        let product = |seat: &Seat<G, T>| {
            let age_ms = usize::try_from(until_ms - seat.since_ms).unwrap_or(usize::MAX);
            seat.bytes.saturating_mul(age_ms)
        };
        let waits = |seat: &Seat<G, T>| seat.hold == Hold::Waiting && seat.bytes > bytes && seat.since_ms < until_ms;
        let waiting = self.seats.iter().filter(|(_, seat)| waits(seat));
        let (slot, seat) = waiting.max_by_key(|(_, seat)| product(seat))?;
        Some(SeatId { slot, serial: seat.serial })
    }

    fn seat(&self, id: SeatId) -> Option<&Seat<G, T>> {
        self.seats.get(id.slot).filter(|seat| seat.serial == id.serial)
    }

    fn change(&mut self, id: SeatId, change: impl FnOnce(&mut Seat<G, T>)) -> bool {
        if self.seat(id).is_none() {
            return false;
        }
        self.exit(id.slot);
        if let Some(seat) = self.seats.get_mut(id.slot) {
            change(seat);
        }
        self.enter(id.slot);
        true
    }

    /// Puts a seat into the orders of its group.
    fn enter(&mut self, slot: usize) {
        let Some(seat) = self.seats.get(slot) else { return };
        let (group, since_ms, hold) = (seat.group, seat.since_ms, seat.hold as usize);
        self.counts[hold] += 1;
        self.reorder(group, hold, |oldest| {
            oldest.insert((since_ms, slot));
        });
    }

    /// Takes a seat out of them.
    fn exit(&mut self, slot: usize) {
        let Some(seat) = self.seats.get(slot) else { return };
        let (group, since_ms, hold) = (seat.group, seat.since_ms, seat.hold as usize);
        self.counts[hold] -= 1;
        self.reorder(group, hold, |oldest| {
            oldest.remove(&(since_ms, slot));
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
            of.seats -= 1;
            if of.seats == 0 {
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
        let mut seats = Seats::<u32, &str>::new(5);
        let mut take = |group, hold, now_ms, holder| seats.take(group, hold, now_ms, holder).expect("a free seat");
        let _single = take(1, Hold::Idle, 1, "single");
        let young = take(2, Hold::Idle, 9, "young");
        let old = take(2, Hold::Idle, 5, "old");
        let (working, waiting) = (take(3, Hold::Working, 0, "working"), take(3, Hold::Waiting, 0, "waiting"));
        assert_eq!((seats.free(), seats.of(2), seats.count(Hold::Idle)), (0, 2, 3));
        assert_eq!(seats.take(4, Hold::Idle, 0, "late"), None);
        assert_eq!(seats.first(Hold::Idle), Some(old));
        assert!(seats.hold(old, Hold::Idle, 10), "it made progress");
        assert_eq!(seats.first(Hold::Idle), Some(young));
        assert_eq!((seats.first(Hold::Waiting), seats.first(Hold::Working)), (Some(waiting), None));
        assert_eq!(seats.leave(young), Some("young"));
        assert_eq!((seats.leave(young), seats.hold(young, Hold::Idle, 0)), (None, false), "it has gone");
        let next = seats.take(2, Hold::Idle, 11, "next").expect("a free seat");
        assert_ne!(next, young, "the same slot is another seat");
        seats.regroup(working, 2);
        assert_eq!((seats.of(3), seats.of(2), seats.first_of(2, Hold::Idle)), (1, 3, Some(old)));
    }

    #[test]
    fn what_is_large_and_old_goes_before_what_is_either() {
        let mut seats = Seats::<u32, ()>::new(4);
        let mut take = |hold, now_ms| seats.take(1, hold, now_ms, ()).expect("a free seat");
        let (large, old, both, working) =
            (take(Hold::Waiting, 90), take(Hold::Waiting, 0), take(Hold::Waiting, 50), take(Hold::Working, 0));
        for (seat, bytes) in [(large, 1000), (old, 10), (both, 900), (working, 5000)] {
            assert!(seats.weigh(seat, bytes));
        }
        assert_eq!((seats.heaviest(0, 100), seats.bytes(), seats.weight(both)), (Some(both), 6910, 900));
        seats.leave(both);
        assert_eq!((seats.heaviest(0, 100), seats.bytes()), (Some(large), 6010));
        assert_eq!((seats.heaviest(0, 90), seats.heaviest(10, 90)), (Some(old), None), "too young, and too light");
    }

    proptest! {
        /// However seats are taken, held and left, the counts are those of a plain list.
        #[test]
        fn counts_agree_with_a_list(steps in prop::collection::vec((0_u8..5, 0_u32..4, 0_usize..16, 0_usize..99), 0..200)) {
            let holds = [Hold::Idle, Hold::Waiting, Hold::Working];
            let mut seats = Seats::<u32, ()>::new(8);
            let mut list: Vec<(SeatId, u32, Hold, usize)> = Vec::new();
            for (now_ms, (what, group, which, bytes)) in (0..).zip(steps) {
                let at = which % list.len().max(1);
                match (what, list.get_mut(at)) {
                    (0, _) | (_, None) => {
                        let taken = seats.take(group, holds[which % 3], now_ms, ());
                        prop_assert_eq!(taken.is_some(), list.len() < 8);
                        list.extend(taken.map(|id| (id, group, holds[which % 3], 0)));
                    }
                    (1, Some(one)) => {
                        one.2 = holds[bytes % 3];
                        prop_assert!(seats.hold(one.0, one.2, now_ms));
                    }
                    (2, Some(one)) => {
                        one.3 = bytes;
                        prop_assert!(seats.weigh(one.0, bytes));
                    }
                    (3, Some(one)) => {
                        one.1 = group;
                        seats.regroup(one.0, group);
                    }
                    (_, Some(_)) => {
                        let gone = list.remove(at);
                        prop_assert!(seats.leave(gone.0).is_some() && seats.leave(gone.0).is_none());
                    }
                }
                prop_assert_eq!(seats.bytes(), list.iter().map(|one| one.3).sum::<usize>());
                for hold in holds {
                    prop_assert_eq!(seats.count(hold), list.iter().filter(|one| one.2 == hold).count());
                }
                for group in 0..4 {
                    prop_assert_eq!(seats.of(group), list.iter().filter(|one| one.1 == group).count());
                }
                for hold in [Hold::Idle, Hold::Waiting] {
                    let most = (0..4).map(|group| list.iter().filter(|one| (one.1, one.2) == (group, hold)).count()).max();
                    let first = seats.first(hold).and_then(|id| list.iter().find(|one| one.0 == id));
                    let of_first = first.map_or(0, |first| list.iter().filter(|one| (one.1, one.2) == (first.1, hold)).count());
                    prop_assert_eq!(Some(of_first), most);
                }
            }
        }
    }
}
