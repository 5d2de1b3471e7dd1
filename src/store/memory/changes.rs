//! What has changed about users, in memory.
//!
//! Bounds: [`CHANGES_KEPT_MAX`] rows: one process reads them, and does so all the time.

use super::State;
use crate::ids::UserId;
use crate::limits::{CHANGES_KEPT_MAX, CHANGES_MAX};
use crate::store::changes::{Change, Changed, Changes, Note};

impl State {
    /// Writes down that something about `user` changes.
    pub(super) fn note(&mut self, user: UserId, note: Note) {
        self.changes_last += 1;
        self.changes.push_back((self.changes_last, user, note));
        if self.changes.len() > CHANGES_KEPT_MAX {
            self.changes.pop_front();
        }
    }

    /// See [`crate::store::Backend::changes`].
    pub(super) fn changes_after(&self, after: Option<u64>, max: u32) -> Changes {
        let settled = self.changes_last;
        let Some(after) = after else { return Changes { settled, ..Changes::default() } };
        let from = self.changes.partition_point(|(id, ..)| *id <= after);
        let max = max.clamp(1, CHANGES_MAX) as usize;
        let list = self.changes.range(from..).take(max);
        let list = list.map(|&(id, user, note)| Change { id, user, what: self.stands(user, note) }).collect();
        Changes { list, more: self.changes.len() - from > max, settled, strange: None }
    }

    fn stands(&self, user: UserId, note: Note) -> Changed {
        match note {
            Note::Standing => {
                let found = self.user(user);
                let token_epoch = found.map_or(0, |user| user.token_epoch);
                Changed::Standing { token_epoch, banned: found.is_none_or(|user| user.banned) }
            }
            Note::Member(group) => Changed::Member { group, since: self.since(group, user) },
            Note::Login(login) => {
                let alive = self.logins.get(&user).is_some_and(|logins| logins.contains_key(&login));
                Changed::Login { login, alive }
            }
            Note::Block(other) => Changed::Block { other, on: self.blocks.contains(&(user, other)) },
        }
    }

    /// Nothing: there are never more than the newest.
    pub(super) fn forget_changes(&mut self, _max: u32) -> u64 {
        0
    }
}
