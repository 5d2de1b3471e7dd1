//! Where a session stands in the rosters of its groups.
//!
//! Owns: [`Membership`], the first of which lies in the session itself, and [`Places`], where the
//! further ones lie, each pointing to the next.
//! Never: more than one membership of a session in one group.
//! Bounds: 20 bytes a membership (and 4 in the group's roster), 5 to 12 more for each of a session
//! with more than [`WALK_MAX`]; [`crate::limits::GROUPS_JOINED_MAX`] of one user. A search takes
//! [`WALK_MAX`] steps and one lookup.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashTable};

use crate::chunks::Chunks;
use crate::ids::Seq;

/// How far a search walks along the list of a session before it looks into an index: nearly
/// every user is in fewer groups, and has none.
const WALK_MAX: usize = 16;

/// No group, no place, no next one.
const NONE: u32 = u32::MAX;

/// A session's place in the roster of one group.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct Membership {
    /// Key of the group.
    pub group: u32,
    /// Index into the group's members.
    pub place: u32,
    /// See [`Membership::since`]; bytes, because eight aligned ones would cost four more.
    since: [u8; 8],
    /// Index of the session's next one.
    next: u32,
}

const _: () = assert!(size_of::<Membership>() == 20, "a further membership costs 24 bytes, 4 of them in the roster");

impl Membership {
    /// What a session has that is in no group.
    pub(in crate::shard) const NONE: Self = Self { group: NONE, place: NONE, since: [0; 8], next: NONE };

    pub(in crate::shard) const fn new(group: u32, place: u32, since: Seq) -> Self {
        Self { group, place, since: since.get().to_ne_bytes(), next: NONE }
    }

    /// Only what is after this is for this member.
    pub(in crate::shard) fn since(&self) -> Seq {
        Seq::new(u64::from_ne_bytes(self.since)).unwrap_or_default()
    }

    /// Whether it is [`Membership::NONE`].
    pub(in crate::shard) const fn is_none(&self) -> bool {
        self.group == NONE
    }
}

/// Where a membership lies.
enum Spot {
    /// In the session.
    First,
    /// Here, at this index.
    Further(u32),
}

/// All memberships but the first one of each session.
pub(in crate::shard) struct Places {
    further: Chunks<Membership>,
    /// The first free entry; each points to the next.
    free: u32,
    /// Of each session (by its slot) with many, where the further ones lie, by group.
    long: HashMap<u32, HashTable<u32>, RandomState>,
    hasher: RandomState,
    /// Steps along lists and lookups so far.
    #[cfg(test)]
    pub steps: std::cell::Cell<usize>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            further: Chunks::new(),
            free: NONE,
            long: HashMap::default(),
            hasher: RandomState::default(),
            #[cfg(test)]
            steps: std::cell::Cell::new(0),
        }
    }
}

impl Places {
    /// The memberships of the session whose first one is `first`.
    pub(in crate::shard) fn of<'a>(&'a self, first: &'a Membership) -> impl Iterator<Item = &'a Membership> {
        let first = (!first.is_none()).then_some(first);
        std::iter::successors(first, |membership| self.further.get(membership.next))
    }

    /// The one in `group` of the session in `slot`.
    pub(in crate::shard) fn find(&self, slot: u32, first: &Membership, group: u32) -> Option<Membership> {
        match self.locate(slot, first, group)? {
            Spot::First => Some(*first),
            Spot::Further(index) => self.further.get(index).copied(),
        }
    }

    fn locate(&self, slot: u32, first: &Membership, group: u32) -> Option<Spot> {
        if first.group == group {
            return Some(Spot::First);
        }
        let mut index = first.next;
        for _ in 0..WALK_MAX {
            self.count_step();
            let membership = self.further.get(index)?;
            if membership.group == group {
                return Some(Spot::Further(index));
            }
            index = membership.next;
        }
        self.count_step();
        let is_it = |&at: &u32| self.further.get(at).is_some_and(|membership| membership.group == group);
        self.long.get(&slot)?.find(self.hasher.hash_one(group), is_it).map(|&at| Spot::Further(at))
    }

    #[cfg(test)]
    fn count_step(&self) {
        self.steps.set(self.steps.get() + 1);
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "tests count steps")]
    const fn count_step(&self) {}

    /// Adds one in a group in which the session is not.
    pub(in crate::shard) fn add(&mut self, slot: u32, first: &mut Membership, membership: Membership) {
        if first.is_none() {
            *first = membership;
            return;
        }
        let membership = Membership { next: first.next, ..membership };
        first.next = match self.further.get_mut(self.free) {
            Some(place) => {
                let index = self.free;
                self.free = place.next;
                *place = membership;
                index
            }
            None => self.further.push(membership),
        };
        if !self.long.is_empty() && self.long.contains_key(&slot) {
            return self.note(slot, membership.group, first.next);
        }
        if self.of(first).nth(WALK_MAX + 1).is_some() {
            self.index(slot, first);
        }
    }

    /// Makes the index of a session that has many from now on.
    fn index(&mut self, slot: u32, first: &Membership) {
        self.long.insert(slot, HashTable::new());
        let mut index = first.next;
        while let Some(membership) = self.further.get(index).copied() {
            self.note(slot, membership.group, index);
            index = membership.next;
        }
    }

    /// Writes into the index of a session, if it has one, where its membership in `group` lies.
    fn note(&mut self, slot: u32, group: u32, index: u32) {
        let (hasher, further) = (&self.hasher, &self.further);
        let Some(long) = self.long.get_mut(&slot) else { return };
        let of = |&at: &u32| hasher.hash_one(further.get(at).map_or(NONE, |membership| membership.group));
        long.insert_unique(hasher.hash_one(group), index, of);
    }

    /// Strikes that out. To be called while the membership lies there.
    fn strike(&mut self, slot: u32, group: u32, index: u32) {
        if self.long.is_empty() {
            return;
        }
        let Some(long) = self.long.get_mut(&slot) else { return };
        if let Ok(entry) = long.find_entry(self.hasher.hash_one(group), |&at| at == index) {
            entry.remove();
        }
        if long.len() <= WALK_MAX / 2 {
            self.long.remove(&slot);
        }
    }

    /// Takes the one in `group` away.
    pub(in crate::shard) fn remove(&mut self, slot: u32, first: &mut Membership, group: u32) -> Option<Membership> {
        let index = match self.locate(slot, first, group)? {
            Spot::First => return self.pop(slot, first),
            Spot::Further(index) => index,
        };
        let (head, gone) = (first.next, self.further.get(index).copied()?);
        let moved = self.further.get(head).copied()?;
        self.strike(slot, gone.group, index);
        first.next = moved.next;
        if index != head {
            // The list has no order: its first entry fills the hole.
            self.strike(slot, moved.group, head);
            if let Some(place) = self.further.get_mut(index) {
                *place = Membership { next: gone.next, ..moved };
            }
            self.note(slot, moved.group, index);
        }
        self.release(head);
        Some(gone)
    }

    /// Takes one away, as long as there is one.
    pub(in crate::shard) fn pop(&mut self, slot: u32, first: &mut Membership) -> Option<Membership> {
        let taken = (!first.is_none()).then_some(*first)?;
        *first = match self.further.get(taken.next).copied() {
            Some(second) => {
                self.strike(slot, second.group, taken.next);
                self.release(taken.next);
                second
            }
            None => Membership::NONE,
        };
        Some(taken)
    }

    /// Forgets the index of a session of which all memberships are about to be taken.
    pub(in crate::shard) fn forget_index(&mut self, slot: u32) {
        if !self.long.is_empty() {
            self.long.remove(&slot);
        }
    }

    /// The place in `group` is another one now.
    pub(in crate::shard) fn moved(&mut self, slot: u32, first: &mut Membership, group: u32, place: u32) {
        match self.locate(slot, first, group) {
            Some(Spot::First) => first.place = place,
            Some(Spot::Further(index)) => {
                if let Some(membership) = self.further.get_mut(index) {
                    membership.place = place;
                }
            }
            None => {}
        }
    }

    fn release(&mut self, index: u32) {
        if let Some(place) = self.further.get_mut(index) {
            *place = Membership { next: self.free, ..Membership::NONE };
            self.free = index;
        }
    }

    /// The index of a session, if it has one, holds all its further memberships, and a long list
    /// has one. For `check_invariants`.
    pub(in crate::shard) fn check(&self, slot: u32, first: &Membership) {
        let further = self.of(first).count().saturating_sub(1);
        match self.long.get(&slot) {
            Some(long) => {
                assert_eq!(long.len(), further, "an index is complete");
                let found = |membership: &Membership| self.find(slot, first, membership.group).is_some();
                assert!(self.of(first).all(found), "and true");
            }
            None => assert!(further <= WALK_MAX, "a long list has an index"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(places: &Places, first: &Membership) -> Vec<u32> {
        let mut groups: Vec<u32> = places.of(first).map(|membership| membership.group).collect();
        groups.sort_unstable();
        groups
    }

    #[test]
    fn memberships_come_and_go_in_any_order() {
        for (count, gone) in [(4, 0), (4, 1), (4, 2), (4, 3), (100, 0), (100, 50), (100, 98), (100, 99)] {
            let mut places = Places::default();
            let mut first = Membership::NONE;
            for group in 0..count {
                let since = Seq::new(u64::from(group)).expect("a small number");
                places.add(1, &mut first, Membership::new(group, group * 10, since));
                places.check(1, &first);
            }
            places.moved(1, &mut first, gone, 99);
            assert_eq!(places.find(1, &first, gone).map(|m| (m.place, m.since().get())), Some((99, u64::from(gone))));
            assert_eq!(places.remove(1, &mut first, gone).map(|m| m.place), Some(99));
            assert!(places.remove(1, &mut first, gone).is_none() && places.find(1, &first, gone).is_none());
            assert_eq!(groups(&places, &first), (0..count).filter(|&group| group != gone).collect::<Vec<_>>());
            for group in (0..count).rev().filter(|&group| group != gone) {
                assert_eq!(places.remove(1, &mut first, group).map(|m| m.group), Some(group));
                places.check(1, &first);
            }
            assert!(first.is_none() && places.long.is_empty(), "nothing is kept of who is in no group");
        }
    }

    #[test]
    fn a_user_of_many_groups_costs_a_few_steps_for_each() {
        const GROUPS: u32 = crate::limits::GROUPS_JOINED_MAX;
        let mut places = Places::default();
        let mut firsts = [Membership::NONE; 2];
        // Two devices: when one goes, the places of the other move.
        for (slot, first) in (0..).zip(&mut firsts) {
            for group in 0..GROUPS {
                assert!(places.find(slot, first, group).is_none());
                places.add(slot, first, Membership::new(group, slot, Seq::ZERO));
            }
        }
        let [mut gone, mut stays] = firsts;
        places.forget_index(0);
        while let Some(membership) = places.pop(0, &mut gone) {
            places.moved(1, &mut stays, membership.group, 0);
        }
        let steps = places.steps.get();
        assert!(
            steps <= 3 * (WALK_MAX + 1) * GROUPS as usize,
            "{steps} steps: two joins and a move of each of {GROUPS}"
        );
        places.check(1, &stays);
        assert_eq!(places.of(&stays).filter(|membership| membership.place == 0).count(), GROUPS as usize);
    }

    #[test]
    fn what_was_given_back_is_used_again() {
        let mut places = Places::default();
        let mut first = Membership::NONE;
        for _ in 0..100 {
            (0..50).for_each(|group| places.add(1, &mut first, Membership::new(group, 0, Seq::ZERO)));
            assert_eq!(groups(&places, &first).len(), 50);
            assert_eq!(std::iter::from_fn(|| places.pop(1, &mut first)).count(), 50);
            assert!(first.is_none());
        }
        assert_eq!(places.further.len(), 49, "one lies with the session");
    }
}
