//! How sessions begin.
//!
//! Owns: registration before the read at open (a commit precedes its delivery, so nothing falls
//! between), and what the store's answer means.
//! Never: delivers to, or reads from, a session of which the store has not said that it may exist.

mod arrivals;
mod interest;
mod members;
mod ready;

use crate::ids::{ConnId, GroupId, Seq};
use crate::limits;
use crate::shard::PlantedBug;
use crate::shard::asks::Purpose;
use crate::shard::catching_up::CatchingUp;
use crate::shard::effect::Effect;
use crate::shard::event::Hello;
use crate::shard::io::{Io, Note};
use crate::shard::opening::arrivals::Arrivals;
use crate::shard::opening::interest::Interest;
use crate::shard::opening::ready::Readies;
use crate::shard::retries::Retry;
use crate::shard::session::{Flag, Phase, Session};
use crate::shard::sessions::Sessions;
use crate::store::{self, Read, UserState};
use crate::wire::{CloseCode, Profile, push};

/// The sessions that are about to open.
#[derive(Default)]
pub(in crate::shard) struct Opening {
    arrivals: Arrivals,
    interest: Interest,
    readies: Readies,
}

impl Opening {
    /// When the next batch of them is to be asked about.
    pub(in crate::shard) fn next_ms(&self) -> Option<u64> {
        self.arrivals.next_ms()
    }

    /// For `check_invariants`.
    pub(in crate::shard) fn check(&self) {
        self.interest.check();
    }
}

impl Opening {
    /// A connection of this shard has been upgraded.
    pub(in crate::shard) fn open(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        catching_up: &mut CatchingUp,
        conn: ConnId,
        hello: &Hello,
        (response, ended): (Box<[u8]>, bool),
    ) {
        let user = hello.identity.user();
        let mut session = Session::new(conn.generation, hello, io.now);
        session.set(Flag::Ended, ended);
        let responds = !response.is_empty();
        if responds {
            session.outbox_mut(&mut io.held, io.now.mono_ms).response(response, &mut io.held);
        }
        if let Profile::Legacy(echo) = hello.profile {
            session.outbox_mut(&mut io.held, io.now.mono_ms).control(push::welcome(echo), &mut io.held);
        }
        sessions.table.insert(conn.slot, session);
        io.tally.sessions += 1;
        io.tally.opened += 1;
        io.counting.opened(user);
        io.tally.profiles[hello.profile.index()] += 1;
        if responds {
            sessions.respond(io, conn, hello.profile);
        }
        if hello.profile == Profile::Room {
            return self.enter_room(io, sessions, catching_up, conn);
        }
        sessions.roster.add_session(&mut sessions.table, user, conn.slot);
        io.tally.users_online = sessions.roster.users_online() as u64;
        if io.quiescing || io.closing {
            return sessions.close(io, conn, CloseCode::Shutdown);
        }
        if sessions.opening_of(user) > limits::OPENINGS_PER_USER_MAX {
            return sessions.close(io, conn, CloseCode::Unavailable);
        }
        if io.has_bug(PlantedBug::EarlyReplacement) && !sessions.make_room(io, user, conn) {
            return sessions.close(io, conn, CloseCode::Replaced);
        }
        if self.arrivals.come(io.now_ms(), conn) {
            self.ask_open(io, sessions, conn);
        }
    }

    /// Asks the store about sessions that have come lately, if it is time.
    pub(in crate::shard) fn ask_about_arrivals(&mut self, io: &mut Io, sessions: &mut Sessions) {
        self.arrivals.begin(io.now_ms());
        while let Some(conn) = self.arrivals.next() {
            self.ask_open(io, sessions, conn);
        }
    }

    /// A guest enters `/chatroom`: the store knows no guests, and all of them hear each other.
    fn enter_room(&mut self, io: &mut Io, sessions: &mut Sessions, catching_up: &mut CatchingUp, conn: ConnId) {
        if io.closing {
            return sessions.close(io, conn, CloseCode::Shutdown);
        }
        sessions.roster.join(&mut sessions.table, conn, GroupId::ROOM, Seq::ZERO);
        self.open_when_heard(io, sessions, catching_up, conn);
    }

    /// Asks the store about the session's user, now or, when there is no slot, soon.
    pub(in crate::shard) fn ask_open(&mut self, io: &mut Io, sessions: &mut Sessions, conn: ConnId) {
        let Some(session) = sessions.table.get(conn) else { return };
        if session.phase() != Phase::Opening {
            return;
        }
        let user = session.user;
        if io.quiescing {
            return sessions.close(io, conn, CloseCode::Shutdown);
        }
        if session.opens_too_long(io.now_ms()) {
            return sessions.close(io, conn, CloseCode::Unavailable);
        }
        match io.asks.take(Purpose::Open { conn }) {
            Some(ask) => io.push(Effect::Read { ask, read: Read::Open { user } }),
            None => io.retry(Retry::Open(conn)),
        }
    }

    /// The store has said how the session's user stands.
    pub(in crate::shard) fn open_settled(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        catching_up: &mut CatchingUp,
        conn: ConnId,
        reply: Result<UserState, store::Error>,
    ) {
        let Some(session) = sessions.table.get_mut(conn) else { return };
        if session.phase() != Phase::Opening {
            return;
        }
        match reply {
            Ok(UserState { banned: true, .. }) => sessions.close(io, conn, CloseCode::Banned),
            Ok(state)
                if session.is_older_than(state.token_epoch)
                    || session.login().is_some_and(|login| !state.logins.contains(&login)) =>
            {
                sessions.close(io, conn, CloseCode::BadToken);
            }
            Ok(state) => {
                let user = session.user;
                sessions.blocks.learn(user, state.blocks, state.blocked_by, io.now_ms());
                self.known(io, sessions, catching_up, conn, &state.groups);
            }
            Err(_) => io.retry(Retry::Open(conn)),
        }
    }

    /// The user is known, and these are the groups.
    pub(in crate::shard) fn known(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        catching_up: &mut CatchingUp,
        conn: ConnId,
        groups: &[(GroupId, Seq)],
    ) {
        let Some(session) = sessions.table.get_mut(conn) else { return };
        let left =
            session.unfinished.as_mut().map(|unfinished| std::mem::take(&mut unfinished.left)).unwrap_or_default();
        for &(group, since) in groups.iter().filter(|(group, _)| !left.contains(group)) {
            sessions.roster.join(&mut sessions.table, conn, group, since);
        }
        self.open_when_heard(io, sessions, catching_up, conn);
    }

    /// The session is in the rosters of its groups, and their homes know that: whatever is handed
    /// on from now on is sent to this shard.
    pub(in crate::shard) fn registered(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        catching_up: &mut CatchingUp,
        conn: ConnId,
    ) {
        let Some(session) = sessions.table.get(conn) else { return };
        match session.profile {
            Profile::Room => self.opened(io, sessions, catching_up, conn),
            _ if io.setup.volatile => self.opened(io, sessions, catching_up, conn),
            Profile::Legacy(_) if io.has_bug(PlantedBug::ForgottenReplay) => {
                self.opened(io, sessions, catching_up, conn);
            }
            // What the page has missed comes first: until that is known, new messages are noted and
            // not sent.
            Profile::Legacy(_) => self.ask_heads(io, sessions, conn),
            Profile::V2 => {
                self.opened(io, sessions, catching_up, conn);
                self.ask_heads(io, sessions, conn);
            }
        }
    }

    /// The session is in full use from now on: it may take the place of others now, and not before.
    /// The store has let it in, and its peer has had the time to be seen gone.
    pub(in crate::shard) fn opened(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        catching_up: &mut CatchingUp,
        conn: ConnId,
    ) {
        let Some(session) = sessions.table.get(conn) else { return };
        let ended = session.is(Flag::Ended) && !io.has_bug(PlantedBug::PlaceForTheGone);
        let (user, counts) = (session.user, session.profile != Profile::Room && !ended);
        if counts && !sessions.make_room(io, user, conn) {
            return sessions.close(io, conn, CloseCode::Replaced);
        }
        let Some(session) = sessions.table.get_mut(conn) else { return };
        session.opened();
        if let Some(unfinished) = session.unfinished.as_mut() {
            unfinished.left.clear();
        }
        session.tidy(&mut io.held);
        if counts {
            sessions.has_come(io, user, conn);
        }
        if !sessions.has_more_to_tell(io, conn) {
            sessions.ask_flush(io, conn);
        }
        sessions.regulate(io, conn);
        if sessions.table.get(conn).is_some_and(|session| session.paused) {
            // Its user went too fast with another device: it is open all the same.
            io.push(Effect::Resume { conn });
            io.push(Effect::Pause { conn });
        }
        catching_up.catch_up(io, sessions, conn);
        io.notes.push_back(Note::Opened { user });
    }
}
