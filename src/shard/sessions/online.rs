//! Which users are online: for each the sessions on this shard, in the order in which they came.
//!
//! Owns: an index of sessions by user. It holds the slot of a user's first session and nothing
//! else: the user's id is read in the session, and there is the slot of the next one.
//! Never: outlives a session; it is told before the session's slot is emptied.
//! Bounds: 5 bytes a place, of which between 7 in 16 and 7 in 8 are taken; sessions of one user by
//! the policy of devices.

use crate::shard::broken::broken;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use smallvec::SmallVec;

use crate::ids::UserId;
use crate::shard::session::NO_SLOT;
use crate::shard::sessions::table::SessionTable;

/// The index is in so many parts: when it grows it is one part that is made anew in one turn, some
/// ten thousand users of a million.
const PARTS: usize = 64;

/// The users with at least one session here.
pub(in crate::shard) struct Online {
    parts: Vec<HashTable<u32>>,
    hasher: DefaultHashBuilder,
    users: usize,
}

impl Default for Online {
    fn default() -> Self {
        let parts = (0..PARTS).map(|_| HashTable::new()).collect();
        Self { parts, hasher: DefaultHashBuilder::default(), users: 0 }
    }
}

/// The part of a hash. The bits are others than those by which a table finds its places.
const fn part_of(hash: u64) -> usize {
    (hash >> 40) as usize % PARTS
}

impl Online {
    /// How many users.
    pub(in crate::shard) const fn len(&self) -> usize {
        self.users
    }

    /// The sessions of `user`, by slot.
    pub(in crate::shard) fn sessions_of(&self, sessions: &SessionTable, user: UserId) -> SmallVec<[u32; 2]> {
        let mut slots = SmallVec::new();
        let mut next = self.first(sessions, user);
        while let Some(slot) = next {
            slots.push(slot);
            next = sessions.at(slot).map(|session| session.sibling).filter(|&slot| slot != NO_SLOT);
        }
        slots
    }

    /// All users, in no order.
    pub(in crate::shard) fn users(&self, sessions: &SessionTable) -> Vec<UserId> {
        self.parts.iter().flatten().filter_map(|&first| Some(sessions.at(first)?.user)).collect()
    }

    fn first(&self, sessions: &SessionTable, user: UserId) -> Option<u32> {
        let hash = self.hasher.hash_one(user);
        self.parts.get(part_of(hash))?.find(hash, |&slot| is_of(sessions, slot, user)).copied()
    }

    /// Adds the session in `slot`, behind the others of its user.
    pub(in crate::shard) fn add(&mut self, sessions: &mut SessionTable, user: UserId, slot: u32) {
        if let Some(&last) = self.sessions_of(sessions, user).last() {
            if let Some(session) = sessions.at_mut(last) {
                session.sibling = slot;
            }
            return;
        }
        let hash = self.hasher.hash_one(user);
        let hasher = &self.hasher;
        if let Some(part) = self.parts.get_mut(part_of(hash)) {
            part.insert_unique(hash, slot, |&slot| sessions.at(slot).map_or(0, |other| hasher.hash_one(other.user)));
            self.users += 1;
        }
    }

    /// Takes the session in `slot` out.
    pub(in crate::shard) fn remove(&mut self, sessions: &mut SessionTable, user: UserId, slot: u32) {
        let all = self.sessions_of(sessions, user);
        let Some(index) = all.iter().position(|&other| other == slot) else { broken("a session is found by its user") };
        let next = sessions.at_mut(slot).map_or(NO_SLOT, |session| std::mem::replace(&mut session.sibling, NO_SLOT));
        if let Some(&before) = index.checked_sub(1).and_then(|before| all.get(before)) {
            if let Some(session) = sessions.at_mut(before) {
                session.sibling = next;
            }
            return;
        }
        let hash = self.hasher.hash_one(user);
        let Some(part) = self.parts.get_mut(part_of(hash)) else { return };
        if let Ok(mut entry) = part.find_entry(hash, |&first| first == slot) {
            if next == NO_SLOT {
                entry.remove();
                self.users -= 1;
            } else {
                *entry.get_mut() = next;
            }
        }
    }

    /// Every session is found by its user, and nothing else. For `check_invariants`.
    pub(in crate::shard) fn check(&self, sessions: &SessionTable) {
        assert_eq!(self.parts.iter().map(HashTable::len).sum::<usize>(), self.users, "users are counted");
        for &first in self.parts.iter().flatten() {
            let user = sessions.at(first).map(|session| session.user);
            let all = user.map(|user| self.sessions_of(sessions, user)).unwrap_or_default();
            assert_eq!(all.first(), Some(&first), "a user is found by its id");
            assert!(
                all.iter().all(|&slot| user.is_some_and(|user| is_of(sessions, slot, user))),
                "a user's slots are its own"
            );
        }
    }
}

fn is_of(sessions: &SessionTable, slot: u32, user: UserId) -> bool {
    sessions.at(slot).is_some_and(|session| session.user == user)
}
