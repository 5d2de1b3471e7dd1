//! Every way in which a session ends.
//!
//! Owns: the last frame, the counts, and taking a session out of everything that knows it.
//! Never: tells the parts above by itself: they hear of it as a [`Note`](crate::shard::io::Note),
//! before the step ends.

use crate::ids::{ConnId, LoginId, UserId};
use crate::metrics::tally::Revocation;
use crate::shard::effect::Effect;
use crate::shard::event::{ONLINE_USERS_MAX, ROSTER_SLOTS};
use crate::shard::io::{Io, Note};
use crate::shard::session::Phase;
use crate::shard::sessions::Sessions;
use crate::wire::{CloseCode, Profile, push};

impl Sessions {
    /// The peer wants to end: its close frame is echoed, unless the server was the first, and the
    /// end is counted.
    pub(in crate::shard) fn peer_closed(&mut self, io: &mut Io, conn: ConnId, code: Option<u16>) {
        if self.table.get(conn).is_some_and(|session| session.phase() != Phase::Finishing) {
            io.tally.ended_by_peer += 1;
        }
        self.finish(io, conn, push::close_echo(code), (code, true));
    }

    /// Ends a session: it is told why, and counted.
    pub(in crate::shard) fn close(&mut self, io: &mut Io, conn: ConnId, code: CloseCode) {
        if self.table.get(conn).is_none_or(|session| session.phase() == Phase::Finishing) {
            return;
        }
        if let Some(count) = io.tally.closed.get_mut(code.index()) {
            *count += 1;
        }
        let words = if code == CloseCode::Shutdown { self.shutdown_words(io, conn) } else { push::close(code) };
        self.finish(io, conn, words, (Some(code.code()), false));
    }

    /// Its last frame is `last`; what that says, and whether the peer was the first, is for the
    /// trails.
    fn finish(&mut self, io: &mut Io, conn: ConnId, last: Box<[u8]>, (code, by_peer): (Option<u16>, bool)) {
        let Some(session) = self.table.get_mut(conn) else { return };
        match session.phase() {
            Phase::Finishing => return,
            // Nothing was to be delivered before the store had spoken.
            Phase::Opening => {
                if let Some(outbox) = session.outbox.as_deref_mut() {
                    outbox.cut(&mut io.held);
                }
                session.tidy(&mut io.held);
            }
            Phase::Open => {}
        }
        self.forget(io, conn);
        if let Some(session) = self.table.get_mut(conn) {
            session.finish();
            session.outbox_mut(&mut io.held, io.now.mono_ms).control(last, &mut io.held);
        }
        io.push(Effect::Finish { conn, code, by_peer });
    }

    /// The socket is gone.
    pub(in crate::shard) fn gone(&mut self, io: &mut Io, conn: ConnId) {
        if self.table.get(conn).is_some_and(|session| session.phase() != Phase::Finishing) {
            io.tally.ended_by_loss += 1;
            self.forget(io, conn);
        }
        if let Some(mut session) = self.table.remove(conn) {
            session.drop_outbox(&mut io.held);
        }
        self.skip_responses();
    }

    /// Takes a session out of everything but its slot.
    pub(in crate::shard) fn forget(&mut self, io: &mut Io, conn: ConnId) {
        self.roster.leave_all(&mut self.table, conn);
        let Some(session) = self.table.get_mut(conn) else { return };
        let user = session.user;
        let profile = session.profile;
        let guest = profile == Profile::Room;
        let was_behind = session.is_behind();
        session.unfinished = None;
        session.unconfirmed = None;
        io.tally.sessions_behind -= u64::from(was_behind);
        io.tally.sessions -= 1;
        io.tally.profiles[profile.index()] -= 1;
        if guest {
            return;
        }
        self.roster.remove_session(&mut self.table, user, conn.slot);
        self.far_devices.forget(conn);
        if self.roster.sessions_of(&self.table, user).is_empty() {
            self.blocks.forget(user);
            if io.setup.clustered && io.setup.tells_offline {
                self.departures.note(user, io.now_ms());
            }
        }
        io.notes.push_back(Note::Ended { conn, user });
        io.tally.users_online = self.roster.users_online() as u64;
    }

    /// Whether other gateways may still take a user without a session for one that is here.
    pub(in crate::shard) fn has_just_left(&self, io: &Io, user: UserId) -> bool {
        self.departures.has(user, io.now_ms())
    }

    /// Ends the sessions of `user` that were opened with a token older than `epoch`.
    pub(in crate::shard) fn close_older(&mut self, io: &mut Io, user: UserId, epoch: u32) {
        for slot in self.roster.sessions_of(&self.table, user) {
            if let Some(conn) = self.table.name(slot)
                && self.table.get(conn).is_some_and(|session| session.is_older_than(epoch))
            {
                io.tally.revoked[Revocation::LoggedOut as usize] += 1;
                self.close(io, conn, CloseCode::BadToken);
            }
        }
    }

    /// Ends the sessions of `user` that were opened with the token of `login`.
    pub(in crate::shard) fn close_login(&mut self, io: &mut Io, user: UserId, login: LoginId) {
        for slot in self.roster.sessions_of(&self.table, user) {
            if let Some(conn) = self.table.name(slot)
                && self.table.get(conn).is_some_and(|session| session.login() == Some(login))
            {
                io.tally.revoked[Revocation::LoggedOut as usize] += 1;
                self.close(io, conn, CloseCode::BadToken);
            }
        }
    }

    /// Ends all sessions of `user`, or the one of that connection; they may come back. How many
    /// these are.
    pub(in crate::shard) fn disconnect(&mut self, io: &mut Io, user: UserId, only: Option<ConnId>) -> usize {
        let mut ended = 0;
        for slot in self.roster.sessions_of(&self.table, user) {
            if let Some(conn) = self.table.name(slot).filter(|&conn| only.is_none_or(|only| only == conn)) {
                self.close(io, conn, CloseCode::Shutdown);
                ended += 1;
            }
        }
        ended
    }

    /// Which of `users` have a session, here or on another gateway, a bit each, the first the
    /// lowest.
    pub(in crate::shard) fn online_of(&self, users: &[UserId]) -> u64 {
        let online =
            |user: &UserId| !self.roster.sessions_of(&self.table, *user).is_empty() || self.elsewhere.has(*user);
        users.iter().take(ONLINE_USERS_MAX).enumerate().fold(0, |all, (at, user)| all | u64::from(online(user)) << at)
    }

    /// The users with a session in one of [`ROSTER_SLOTS`] slots from `from` on, each where its
    /// first one is, and the slot behind those, if any was ever used.
    pub(in crate::shard) fn roster_from(&self, from: u32) -> (Box<[UserId]>, Option<u32>) {
        let end = from.saturating_add(ROSTER_SLOTS).min(self.table.span());
        let user_of = |slot| self.table.at(slot).map(|session| session.user);
        let is_first = |slot, user| self.roster.sessions_of(&self.table, user).first() == Some(&slot);
        let users = (from..end).filter_map(|slot| user_of(slot).filter(|user| is_first(slot, *user))).collect();
        (users, (end < self.table.span()).then_some(end))
    }

    /// Ends all sessions of `user`.
    pub(in crate::shard) fn close_user(&mut self, io: &mut Io, user: UserId, code: CloseCode) {
        for slot in self.roster.sessions_of(&self.table, user) {
            if let Some(conn) = self.table.name(slot) {
                io.tally.revoked[Revocation::Banned as usize] += 1;
                self.close(io, conn, code);
            }
        }
    }
}
