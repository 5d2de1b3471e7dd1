//! Where a session stands in the rosters of its groups.
//!
//! Owns: [`Membership`], the first of which lies in the session itself, and [`Places`], where the further ones lie, each pointing to the next.
//! Never: more than one membership of a session in one group.
//! Bounds: 20 bytes a membership (and 4 in the group's roster); [`crate::limits::GROUPS_JOINED_MAX`] of one user, which is as far as a search goes.

use crate::chunks::Chunks;
use crate::ids::Seq;

/// No group, no place, no next one.
const NONE: u32 = u32::MAX;

/// A session's place in the roster of one group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Membership {
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
    pub(super) const NONE: Self = Self { group: NONE, place: NONE, since: [0; 8], next: NONE };

    pub(super) const fn new(group: u32, place: u32, since: Seq) -> Self {
        Self { group, place, since: since.get().to_ne_bytes(), next: NONE }
    }

    /// Only what is after this is for this member.
    pub(super) fn since(&self) -> Seq {
        Seq::new(u64::from_ne_bytes(self.since)).unwrap_or_default()
    }

    /// Whether it is [`Membership::NONE`].
    pub(super) const fn is_none(&self) -> bool {
        self.group == NONE
    }
}

/// All memberships but the first one of each session.
pub(super) struct Places {
    further: Chunks<Membership>,
    /// The first free entry; each points to the next.
    free: u32,
}

impl Default for Places {
    fn default() -> Self {
        Self { further: Chunks::new(), free: NONE }
    }
}

impl Places {
    /// The memberships of the session whose first one is `first`.
    pub(super) fn of<'a>(&'a self, first: &'a Membership) -> impl Iterator<Item = &'a Membership> {
        let first = (!first.is_none()).then_some(first);
        std::iter::successors(first, |membership| self.further.get(membership.next))
    }

    /// The one in `group`.
    pub(super) fn find(&self, first: &Membership, group: u32) -> Option<Membership> {
        self.of(first).find(|membership| membership.group == group).copied()
    }

    /// Adds one in a group in which the session is not.
    pub(super) fn add(&mut self, first: &mut Membership, membership: Membership) {
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
    }

    /// Takes the one in `group` away.
    pub(super) fn remove(&mut self, first: &mut Membership, group: u32) -> Option<Membership> {
        if first.group == group {
            return self.pop(first);
        }
        let mut before = NONE;
        let mut index = first.next;
        while let Some(found) = self.further.get(index).copied() {
            if found.group == group {
                match self.further.get_mut(before) {
                    Some(before) => before.next = found.next,
                    None => first.next = found.next,
                }
                self.release(index);
                return Some(found);
            }
            (before, index) = (index, found.next);
        }
        None
    }

    /// Takes one away, as long as there is one.
    pub(super) fn pop(&mut self, first: &mut Membership) -> Option<Membership> {
        let taken = (!first.is_none()).then_some(*first)?;
        *first = match self.further.get(taken.next).copied() {
            Some(second) => {
                self.release(taken.next);
                second
            }
            None => Membership::NONE,
        };
        Some(taken)
    }

    /// The place in `group` is another one now.
    pub(super) fn moved(&mut self, first: &mut Membership, group: u32, place: u32) {
        if first.group == group {
            first.place = place;
            return;
        }
        let mut index = first.next;
        while let Some(membership) = self.further.get_mut(index) {
            if membership.group == group {
                membership.place = place;
                return;
            }
            index = membership.next;
        }
    }

    fn release(&mut self, index: u32) {
        if let Some(place) = self.further.get_mut(index) {
            *place = Membership { next: self.free, ..Membership::NONE };
            self.free = index;
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
        for gone in 0..4 {
            let mut places = Places::default();
            let mut first = Membership::NONE;
            for group in 0..4 {
                let since = Seq::new(u64::from(group)).expect("a small number");
                places.add(&mut first, Membership::new(group, group * 10, since));
            }
            places.moved(&mut first, gone, 99);
            assert_eq!(places.find(&first, gone).map(|m| (m.place, m.since().get())), Some((99, u64::from(gone))));
            assert_eq!(places.remove(&mut first, gone).map(|m| m.place), Some(99));
            assert!(places.remove(&mut first, gone).is_none() && places.find(&first, gone).is_none());
            assert_eq!(groups(&places, &first), (0..4).filter(|&group| group != gone).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_was_given_back_is_used_again() {
        let mut places = Places::default();
        let mut first = Membership::NONE;
        for _ in 0..100 {
            (0..50).for_each(|group| places.add(&mut first, Membership::new(group, 0, Seq::ZERO)));
            assert_eq!(groups(&places, &first).len(), 50);
            assert_eq!(std::iter::from_fn(|| places.pop(&mut first)).count(), 50);
            assert!(first.is_none());
        }
        assert_eq!(places.further.len(), 49, "one lies with the session");
    }
}
