//! Lists of conversations that clients ask for (`cmd` 5): one of a user at a time.
//!
//! Owns: the lists under way and those that wait for them, by user.
//! Never: lets the devices of one user fill the store's readers; the first list after an open is
//! `ready`'s.
//! Bounds: [`limits::LISTS_WAITING_MAX`] that wait of one user; a further one is refused `busy`.

use std::collections::VecDeque;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::Shard;
use super::asks::Purpose;
use super::effect::{Effect, Effects};
use crate::ids::{ConnId, UserId};
use crate::limits;
use crate::store::{self, Heads, Read};
use crate::wire::command::Convs;
use crate::wire::{Reject, push};

/// Users with a list under way, each with the lists that wait for it.
#[derive(Default)]
pub(super) struct Lists {
    waiting: HashMap<UserId, VecDeque<(ConnId, Convs)>, RandomState>,
}

impl Shard {
    /// `cmd` 5: a further page.
    pub(super) fn convs(&mut self, conn: ConnId, convs: Convs, fx: &mut Effects) {
        let Some(user) = self.sessions.get(conn).map(|session| session.user) else { return };
        if self.quiescing {
            return self.tell_refusal(conn, Reject::Stopping, None, None, fx);
        }
        let begun = match self.lists.waiting.get_mut(&user) {
            Some(waiting) if waiting.len() < limits::LISTS_WAITING_MAX => {
                waiting.push_back((conn, convs));
                true
            }
            Some(_) => false,
            None => {
                let asked = self.ask_list(conn, user, convs, fx);
                if asked {
                    self.lists.waiting.insert(user, VecDeque::new());
                }
                asked
            }
        };
        match self.sessions.get_mut(conn) {
            Some(session) if begun => session.unanswered += 1,
            _ => self.tell_refusal(conn, Reject::Busy, None, None, fx),
        }
    }

    /// `false`: the store cannot be asked now.
    fn ask_list(&mut self, conn: ConnId, user: UserId, convs: Convs, fx: &mut Effects) -> bool {
        let Some(ask) = self.asks.take(Purpose::Convs { conn, user }) else { return false };
        let before = convs.before.map(|(ts_ms, of)| {
            let conv = of.conv(user);
            (ts_ms, conv)
        });
        fx.push(Effect::Read { ask, read: Read::Heads { user, before, missed: false, max: limits::HEADS_MAX } });
        true
    }

    /// The store has listed a page.
    pub(super) fn convs_settled(
        &mut self,
        conn: ConnId,
        user: UserId,
        reply: Result<Heads, store::Error>,
        fx: &mut Effects,
    ) {
        self.next_list(user, fx);
        let Some(session) = self.sessions.get_mut(conn) else { return };
        session.unanswered = session.unanswered.saturating_sub(1);
        match reply {
            Ok(mut heads) => {
                self.add_newest(user, &mut heads);
                self.answer(conn, push::ready(user, &heads), fx);
            }
            Err(_) => self.tell_refusal(conn, Reject::Busy, None, None, fx),
        }
        self.regulate(conn, fx);
    }

    /// A list of a user has come: it is the next one's turn.
    fn next_list(&mut self, user: UserId, fx: &mut Effects) {
        while let Some((conn, convs)) = self.lists.waiting.get_mut(&user).and_then(VecDeque::pop_front) {
            if self.sessions.get(conn).is_none() {
                continue;
            }
            if !self.quiescing && self.ask_list(conn, user, convs, fx) {
                return;
            }
            if let Some(session) = self.sessions.get_mut(conn) {
                session.unanswered = session.unanswered.saturating_sub(1);
            }
            let reject = if self.quiescing { Reject::Stopping } else { Reject::Busy };
            self.tell_refusal(conn, reject, None, None, fx);
            self.regulate(conn, fx);
        }
        self.lists.waiting.remove(&user);
    }
}
