//! The answers that a home has given lately, so that a resend is answered without the store; in volatile mode the only dedupe there is.
//!
//! Owns: a ring of [`crate::limits::RECENT_POSTS_MAX`] answers and the index into it.
//! Never: is the judge; in stored mode what it has forgotten the database knows.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::ids::{ConvId, UserId};
use crate::store::PostKey;
use crate::wire::packet::Stored;

/// An answer that was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Given {
    /// In which conversation.
    pub conv: ConvId,
    /// `None` in volatile mode.
    pub stored: Option<Stored>,
    /// As it was acked.
    pub ts_ms: u64,
}

/// The window.
#[derive(Default)]
pub(super) struct Recent {
    ring: VecDeque<(UserId, PostKey)>,
    given: HashMap<(UserId, PostKey), Given>,
}

impl Recent {
    /// Remembers an answer, and forgets the oldest when there are `max`. Only keys that a client can send again are worth it.
    pub(super) fn remember(&mut self, sender: UserId, key: &PostKey, given: Given, max: usize) {
        if matches!(key, PostKey::Server { .. }) {
            return;
        }
        let key = (sender, key.clone());
        if self.given.insert(key.clone(), given).is_none() {
            self.ring.push_back(key);
        }
        while self.ring.len() > max {
            if let Some(oldest) = self.ring.pop_front() {
                self.given.remove(&oldest);
            }
        }
    }

    /// The answer to the same post, if it was given lately.
    pub(super) fn find(&self, sender: UserId, key: &PostKey) -> Option<Given> {
        if self.given.is_empty() || matches!(key, PostKey::Server { .. }) {
            return None;
        }
        self.given.get(&(sender, key.clone())).copied()
    }
}
