//! The answers that a home has given lately, so that a resend is answered without the store; in
//! volatile mode the only dedupe there is.
//!
//! Owns: a ring of [`crate::limits::RECENT_POSTS_MAX`] answers and the index into it. Every message
//! passes through, so a look at the index costs one or two lines of the processor's caches: it
//! holds numbers of four bytes, and keys are compared only where their hashes are alike.
//! Never: is the judge; in stored mode what it has forgotten the database knows.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::ids::{ConvId, UserId};
use crate::store::PostKey;
use crate::wire::packet::Stored;

/// An answer that was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shard) struct Given {
    /// In which conversation.
    pub conv: ConvId,
    /// `None` in volatile mode.
    pub stored: Option<Stored>,
    /// As it was acked.
    pub ts_ms: u64,
}

/// An answer with what it answers.
struct Entry {
    hash: u64,
    sender: UserId,
    key: PostKey,
    given: Given,
}

/// The window.
#[derive(Default)]
pub(in crate::shard) struct RecentAnswers {
    /// The oldest first, numbered one after the other.
    ring: VecDeque<Entry>,
    /// The number of the oldest; numbers wrap around long after they are forgotten.
    first: u32,
    /// Numbers, by the hashes of their entries.
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl RecentAnswers {
    /// Remembers an answer, and forgets the oldest when there are `max`. Only keys that a client
    /// can send again are worth it.
    pub(in crate::shard) fn remember(&mut self, sender: UserId, key: PostKey, given: Given, max: usize) {
        if matches!(key, PostKey::Server { .. }) {
            return;
        }
        let hash = self.hasher.hash_one((sender, &key));
        if let Some(place) = self.place(hash, sender, &key) {
            if let Some(entry) = self.ring.get_mut(place) {
                entry.given = given;
            }
            return;
        }
        while self.ring.len() >= max.max(1) {
            self.forget_oldest();
        }
        let number = self.first.wrapping_add(u32::try_from(self.ring.len()).unwrap_or(u32::MAX));
        self.ring.push_back(Entry { hash, sender, key, given });
        let (ring, first) = (&self.ring, self.first);
        self.index.insert_unique(hash, number, |&number| {
            ring.get(number.wrapping_sub(first) as usize).map_or(0, |entry| entry.hash)
        });
    }

    /// The answer to the same post, if it was given lately.
    pub(in crate::shard) fn find(&self, sender: UserId, key: &PostKey) -> Option<Given> {
        if self.ring.is_empty() || matches!(key, PostKey::Server { .. }) {
            return None;
        }
        let place = self.place(self.hasher.hash_one((sender, key)), sender, key)?;
        self.ring.get(place).map(|entry| entry.given)
    }

    fn place(&self, hash: u64, sender: UserId, key: &PostKey) -> Option<usize> {
        let place = |number: u32| number.wrapping_sub(self.first) as usize;
        let is_it = |number: &u32| {
            let entry = self.ring.get(place(*number));
            entry.is_some_and(|entry| entry.hash == hash && entry.sender == sender && entry.key == *key)
        };
        self.index.find(hash, is_it).map(|&number| place(number))
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.ring.pop_front() else { return };
        let first = self.first;
        if let Ok(entry) = self.index.find_entry(oldest.hash, |&number| number == first) {
            entry.remove();
        }
        self.first = first.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(n: u64) -> UserId {
        UserId::new(n).expect("in range")
    }

    fn key(n: u64) -> PostKey {
        PostKey::Client(n.to_string().into())
    }

    fn given(ts_ms: u64) -> Given {
        Given { conv: ConvId::direct(user(1), user(2)), stored: None, ts_ms }
    }

    #[test]
    fn the_latest_are_known_and_older_ones_forgotten() {
        // Its numbers wrap around on the way.
        let mut recent = RecentAnswers { first: u32::MAX - 500, ..RecentAnswers::default() };
        for n in 0..2000 {
            assert_eq!(recent.find(user(1), &key(n)), None);
            recent.remember(user(1), key(n), given(n), 100);
            let known = (0..=n).filter(|&n| recent.find(user(1), &key(n)).is_some()).count();
            assert_eq!(known as u64, (n + 1).min(100));
            assert_eq!(recent.find(user(1), &key(n)), Some(given(n)));
            assert_eq!((recent.ring.len(), recent.index.len()), (known, known));
        }
    }

    #[test]
    fn a_key_is_known_once_and_only_to_its_sender() {
        let mut recent = RecentAnswers::default();
        recent.remember(user(1), key(7), given(1), 100);
        recent.remember(user(1), key(7), given(2), 100);
        recent.remember(user(2), PostKey::Server { node: 0, boot: 0, counter: 7 }, given(3), 100);
        assert_eq!((recent.find(user(1), &key(7)), recent.find(user(2), &key(7))), (Some(given(2)), None));
        assert_eq!((recent.ring.len(), recent.index.len()), (1, 1), "a server's key comes only once");
    }
}
