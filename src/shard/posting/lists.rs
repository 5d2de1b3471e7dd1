//! Lists of conversations that clients ask for (`cmd` 5): one of a user at a time.
//!
//! Owns: the lists under way and those that wait for them, by user.
//! Never: lets the devices of one user fill the store's readers; the first list after an open is
//! `ready`'s.
//! Bounds: [`limits::LISTS_WAITING_MAX`] that wait of one user; a further one is refused `busy`.

use std::collections::VecDeque;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::ids::{ConnId, UserId};
use crate::limits;
use crate::shard::asks::Purpose;
use crate::shard::effect::Effect;
use crate::shard::io::Io;
use crate::shard::posting::Posting;
use crate::shard::sessions::Sessions;
use crate::store::{self, Heads, Read};
use crate::wire::command::Convs;
use crate::wire::{Reject, push};

/// Users with a list under way, each with the lists that wait for it.
#[derive(Default)]
pub(in crate::shard) struct Lists {
    waiting: HashMap<UserId, VecDeque<(ConnId, Convs)>, RandomState>,
}

impl Posting {
    /// `cmd` 5: a further page.
    pub(in crate::shard) fn convs(&mut self, io: &mut Io, sessions: &mut Sessions, conn: ConnId, convs: Convs) {
        let Some(user) = sessions.table.get(conn).map(|session| session.user) else { return };
        if io.quiescing {
            return sessions.tell_refusal(io, conn, Reject::Stopping, None, None);
        }
        let begun = match self.lists.waiting.get_mut(&user) {
            Some(waiting) if waiting.len() < limits::LISTS_WAITING_MAX => {
                waiting.push_back((conn, convs));
                true
            }
            Some(_) => false,
            None => {
                let asked = self.ask_list(io, conn, user, convs);
                if asked {
                    self.lists.waiting.insert(user, VecDeque::new());
                }
                asked
            }
        };
        match sessions.table.get_mut(conn) {
            Some(session) if begun => session.asked(),
            _ => sessions.tell_refusal(io, conn, Reject::Busy, None, None),
        }
    }

    /// `false`: the store cannot be asked now.
    fn ask_list(&mut self, io: &mut Io, conn: ConnId, user: UserId, convs: Convs) -> bool {
        let Some(ask) = io.asks.take(Purpose::Convs { conn, user }) else { return false };
        let before = convs.before.map(|(ts_ms, of)| {
            let conv = of.conv(user);
            (ts_ms, conv)
        });
        io.push(Effect::Read { ask, read: Read::Heads { user, before, missed: false, max: limits::HEADS_MAX } });
        true
    }

    /// The store has listed a page.
    pub(in crate::shard) fn convs_settled(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        conn: ConnId,
        user: UserId,
        reply: Result<Heads, store::Error>,
    ) {
        self.next_list(io, sessions, user);
        let Some(session) = sessions.table.get_mut(conn) else { return };
        session.answered();
        match reply {
            Ok(heads) => {
                sessions.answer_page(io, conn, push::ready(user, &heads));
            }
            Err(_) => sessions.tell_refusal(io, conn, Reject::Busy, None, None),
        }
        sessions.regulate(io, conn);
    }

    /// A list of a user has come: it is the next one's turn.
    fn next_list(&mut self, io: &mut Io, sessions: &mut Sessions, user: UserId) {
        while let Some((conn, convs)) = self.lists.waiting.get_mut(&user).and_then(VecDeque::pop_front) {
            if sessions.table.get(conn).is_none() {
                continue;
            }
            if !io.quiescing && self.ask_list(io, conn, user, convs) {
                return;
            }
            if let Some(session) = sessions.table.get_mut(conn) {
                session.answered();
            }
            let reject = if io.quiescing { Reject::Stopping } else { Reject::Busy };
            sessions.tell_refusal(io, conn, reject, None, None);
            sessions.regulate(io, conn);
        }
        self.lists.waiting.remove(&user);
    }
}
