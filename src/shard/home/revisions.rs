//! The memberships that a home has changed lately.
//!
//! Owns: [`RecentMembers`], by which a reading of the database that is older than such a change is
//! told from news of another gateway.
//! Never: decides how a membership stands; the store does.
//! Bounds: [`limits::MEMBERS_RECENT_MAX`]; the oldest are forgotten, and a reading that was on its
//! way for so long counts as news.

use std::collections::VecDeque;

use crate::ids::{GroupId, UserId};
use crate::limits;

/// The last changes with their times, in the order of these.
#[derive(Default)]
pub(in crate::shard) struct RecentMembers {
    changes: VecDeque<(u64, GroupId, UserId)>,
}

impl RecentMembers {
    /// The store has settled a change now.
    pub(in crate::shard) fn note(&mut self, group: GroupId, user: UserId, now_ms: u64) {
        if self.changes.len() >= limits::MEMBERS_RECENT_MAX {
            self.changes.pop_front();
        }
        self.changes.push_back((now_ms, group, user));
    }

    /// Whether there was a change that a reading of `age_ms` may not have seen. Such a reading may
    /// have been on its way a little longer.
    pub(in crate::shard) fn has(&self, group: GroupId, user: UserId, age_ms: u64, now_ms: u64) -> bool {
        let from_ms = now_ms.saturating_sub(age_ms.saturating_add(limits::MEMBERS_RECENT_MS));
        let late = self.changes.iter().rev().take_while(|(at_ms, ..)| *at_ms >= from_ms);
        late.into_iter().any(|&(_, changed, of)| (changed, of) == (group, user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(n: u64) -> (GroupId, UserId) {
        (GroupId::new(n).expect("small"), UserId::new(n).expect("small"))
    }

    #[test]
    fn a_reading_is_held_against_what_was_changed_since() {
        let ((group, user), (other, stranger)) = (ids(1), ids(2));
        let mut recent = RecentMembers::default();
        recent.note(group, user, 10_000);
        let most = limits::MEMBERS_RECENT_MS;
        assert!(recent.has(group, user, 0, 10_000) && recent.has(group, user, 500, 10_500 + most));
        assert!(!recent.has(group, user, 499, 10_500 + most), "the reading is younger");
        assert!(!recent.has(group, stranger, 0, 10_000) && !recent.has(other, user, 0, 10_000));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut recent = RecentMembers::default();
        for n in 1..=2 * limits::MEMBERS_RECENT_MAX as u64 {
            let (group, user) = ids(n);
            recent.note(group, user, n);
        }
        assert_eq!(recent.changes.len(), limits::MEMBERS_RECENT_MAX);
        let (group, user) = ids(1);
        assert!(!recent.has(group, user, u64::MAX, 10_000));
    }
}
