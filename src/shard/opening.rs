//! How sessions begin and end.
//!
//! Owns: registration before the read at open (a commit precedes its delivery, so nothing falls between), what the store's answer means, liveness,
//! every way of closing.
//! Never: delivers to, or reads from, a session of which the store has not said that it may exist.

use super::asks::Purpose;
use super::deadlines::{Retry, ping_after};
use super::effect::{Effect, Effects};
use super::event::Hello;
use super::pace::Payer;
use super::prices::Price;
use super::session::{Flag, Phase, Session};
use super::{PlantedBug, Shard};
use crate::clock::Now;
use crate::ids::{ConnId, ConvId, GroupId, LoginId, Seq, UserId};
use crate::limits;
use crate::metrics::tally::{Revocation, Slowness};
use crate::store::{self, Read, UserState};
use crate::wire::{CloseCode, Profile, push};

/// Sessions that are looked at before it is seen how many of them had to be pinged or ended.
const LOOKS: u32 = 1024;

impl Shard {
    /// A connection of this shard has been upgraded.
    pub(super) fn open(&mut self, now: Now, conn: ConnId, hello: &Hello, fx: &mut Effects) {
        let user = hello.identity.user();
        let mut session = Session::new(conn.generation, hello, now);
        if let Profile::Legacy(echo) = hello.profile {
            session.outbox_mut(&self.held).control(push::welcome(echo));
        }
        self.sessions.insert(conn.slot, session);
        self.tally.sessions += 1;
        if hello.profile == Profile::Room {
            return self.enter_room(now, conn, fx);
        }
        self.roster.add_session(&mut self.sessions, user, conn.slot);
        self.tally.users_online = self.roster.users_online() as u64;
        self.make_room(user, conn, hello, fx);
        if self.quiescing || self.closing {
            return self.close(conn, CloseCode::Shutdown, fx);
        }
        if self.arrivals.come(now.mono_ms, conn) {
            self.ask_open(now, conn, fx);
        }
    }

    /// Asks the store about those who have come lately, if it is time.
    pub(super) fn ask_about_arrivals(&mut self, now: Now, fx: &mut Effects) {
        self.arrivals.begin(now.mono_ms);
        while let Some(conn) = self.arrivals.next() {
            self.ask_open(now, conn, fx);
        }
    }

    /// A guest enters `/chatroom`: she is no user, no store knows her, and everybody hears her from now on.
    fn enter_room(&mut self, now: Now, conn: ConnId, fx: &mut Effects) {
        if self.closing {
            return self.close(conn, CloseCode::Shutdown, fx);
        }
        self.roster.join(&mut self.sessions, conn, GroupId::ROOM, Seq::ZERO);
        self.open_when_heard(now, conn, fx);
    }

    /// Asks the store who this is, now or, when there is no slot, soon.
    pub(super) fn ask_open(&mut self, now: Now, conn: ConnId, fx: &mut Effects) {
        let Some(session) = self.sessions.get(conn) else { return };
        if session.phase != Phase::Opening {
            return;
        }
        let user = session.user;
        if self.quiescing {
            return self.close(conn, CloseCode::Shutdown, fx);
        }
        if session.opens_too_long(now.mono_ms) {
            return self.close(conn, CloseCode::Unavailable, fx);
        }
        match self.asks.take(Purpose::Open { conn }) {
            Some(ask) => fx.push(Effect::Read { ask, read: Read::Open { user } }),
            None => self.retries.add(now.mono_ms, Retry::Open(conn)),
        }
    }

    /// The store has said who this is.
    pub(super) fn open_settled(
        &mut self,
        now: Now,
        conn: ConnId,
        reply: Result<UserState, store::Error>,
        fx: &mut Effects,
    ) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if session.phase != Phase::Opening {
            return;
        }
        match reply {
            Ok(UserState { banned: true, .. }) => self.close(conn, CloseCode::Banned, fx),
            Ok(state)
                if session.is_older_than(state.token_epoch)
                    || session.login().is_some_and(|login| !state.logins.contains(&login)) =>
            {
                self.close(conn, CloseCode::BadToken, fx);
            }
            Ok(state) => {
                let user = session.user;
                self.learn_blocks(user, state.blocks, state.blocked_by);
                self.known(now, conn, &state.groups, fx);
            }
            Err(_) => self.retries.add(now.mono_ms, Retry::Open(conn)),
        }
    }

    /// The user is who she says, and these are her groups.
    fn known(&mut self, now: Now, conn: ConnId, groups: &[(GroupId, Seq)], fx: &mut Effects) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let left = session.trouble.as_mut().map(|trouble| std::mem::take(&mut trouble.left)).unwrap_or_default();
        for &(group, since) in groups.iter().filter(|(group, _)| !left.contains(group)) {
            self.roster.join(&mut self.sessions, conn, group, since);
        }
        self.open_when_heard(now, conn, fx);
    }

    /// The session is in the rosters of its groups, and their homes know that: whatever is handed on from now on is sent to this shard.
    pub(super) fn registered(&mut self, now: Now, conn: ConnId, fx: &mut Effects) {
        let Some(session) = self.sessions.get(conn) else { return };
        match session.profile {
            Profile::Room => self.opened(conn, fx),
            _ if self.setup.volatile => self.opened(conn, fx),
            Profile::Legacy(_) if self.setup.planted_bug == Some(PlantedBug::ForgottenReplay) => self.opened(conn, fx),
            // What the page has missed comes first: until that is known, new messages are noted and not sent.
            Profile::Legacy(_) => self.ask_heads(now, conn, fx),
            Profile::V2 => {
                self.opened(conn, fx);
                self.ask_heads(now, conn, fx);
            }
        }
    }

    /// The session is in full use from now on.
    pub(super) fn opened(&mut self, conn: ConnId, fx: &mut Effects) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        session.phase = Phase::Open;
        let user = session.user;
        if let Some(trouble) = session.trouble.as_mut() {
            trouble.left.clear();
        }
        session.tidy();
        self.ask_flush(conn, fx);
        self.regulate(conn, fx);
        if self.sessions.get(conn).is_some_and(|session| session.paused) {
            // Its user went too fast with another device: it is open all the same.
            fx.push(Effect::Resume { conn });
            fx.push(Effect::Pause { conn });
        }
        self.catch_up(conn, fx);
        self.presence_changed(user);
    }

    /// The user's shard hears of a membership, in one order with the group's deliveries.
    pub(super) fn member_joined(&mut self, group: GroupId, user: UserId, since: Seq) {
        for slot in self.roster.sessions_of(&self.sessions, user) {
            let Some(conn) = self.sessions.name(slot) else { continue };
            if let Some(trouble) = self.sessions.get_mut(conn).and_then(|session| session.trouble.as_mut()) {
                trouble.left.retain(|&left| left != group);
            }
            self.roster.join(&mut self.sessions, conn, group, since);
            self.lacks_only_after(conn, ConvId::Group(group), since);
        }
        // The home that tells of a member sends what follows to where she is.
        self.roster.set_heard(group);
    }

    /// The user's shard hears that a membership has ended.
    pub(super) fn member_left(&mut self, group: GroupId, user: UserId) {
        for slot in self.roster.sessions_of(&self.sessions, user) {
            let Some(conn) = self.sessions.name(slot) else { continue };
            // What she lacks stays noted: the word may be older than the membership that the session was opened with, and then the newer one follows. Else
            // the next page finds no member.
            self.roster.leave(&mut self.sessions, conn, group);
            if let Some(session) = self.sessions.get_mut(conn)
                && session.phase == Phase::Opening
            {
                // The read at open may have seen the membership: its answer must not bring it back.
                session.trouble_mut().left.push(group);
            }
        }
    }

    /// Something was heard: life. The session, if it is in use.
    pub(super) fn hear(&mut self, now: Now, conn: ConnId) -> Option<&Session> {
        let session = self.sessions.get_mut(conn)?;
        session.hear(now.mono_ms);
        (session.phase == Phase::Open).then_some(&*session)
    }

    /// A ping is answered with its own payload (RFC 6455, section 5.5.3).
    pub(super) fn ping(&mut self, now: Now, conn: ConnId, payload: &[u8], fx: &mut Effects) {
        self.pay(conn, &Price::PING, fx);
        let Some(session) = self.hear(now, conn) else { return };
        // Who does not read must be heard all the same in the room: one pong waits for her and no more (RFC 6455, section 5.5.3 allows it).
        let waits = session.outbox.as_ref().is_some_and(|outbox| outbox.answers() > 0);
        if session.profile != Profile::Room || !waits {
            self.answer(conn, push::pong(payload), fx);
        }
    }

    /// Goes on with the round through the sessions: pings the silent, ends the dead. Not through all of them in one turn, and not with all of them at once:
    /// a million sessions would be a long one.
    pub(super) fn look_after(&mut self, now: Now, fx: &mut Effects) {
        let mut left = limits::TURN_LOOKS_MAX;
        let mut acts = limits::TURN_TIMERS_MAX;
        while acts > 0 {
            let slots = self.rounds.due(now.mono_ms, self.sessions.span(), left.min(LOOKS));
            if slots.is_empty() {
                return;
            }
            left -= LOOKS.min(left);
            for slot in slots {
                acts = acts.saturating_sub(usize::from(self.look_at(now, slot, fx)));
            }
        }
    }

    /// Looks at a session; whether there was something to do.
    fn look_at(&mut self, now: Now, slot: u32, fx: &mut Effects) -> bool {
        let (seed, ping_after_ms, idle_after_ms) =
            (self.setup.boot, self.setup.ping_after_ms, self.setup.idle_after_ms);
        let Some(session) = self.sessions.at_mut(slot) else { return false };
        if session.phase == Phase::Opening && session.silent_ms(now.mono_ms) >= limits::IDLE_MS_MAX {
            // The store answers nothing, not even that it fails.
            let conn = ConnId { slot, generation: session.generation };
            self.close(conn, CloseCode::Unavailable, fx);
            return true;
        }
        // One that opens waits for the store, and one that ends for the driver: both have a deadline of another kind.
        if session.phase != Phase::Open {
            return false;
        }
        // Guests may be silent for ever, and some never read a ping (contract, C.2): the kernel's keepalive finds the dead.
        if session.profile == Profile::Room {
            return false;
        }
        if session.unconfirmed.as_ref().is_some_and(|unconfirmed| unconfirmed.is_over(now.mono_ms)) {
            session.unconfirmed = None;
        }
        if session.paused {
            // It cannot be heard while it is not read: its deadline pauses with it.
            session.hear(now.mono_ms);
        }
        let conn = ConnId { slot, generation: session.generation };
        if session.expiry.is_over(now.wall_ms) {
            self.tally.revoked[Revocation::Expired as usize] += 1;
            self.close(conn, CloseCode::BadToken, fx);
            return true;
        }
        let silent_ms = session.silent_ms(now.mono_ms);
        if silent_ms >= idle_after_ms {
            self.close(conn, CloseCode::Idle, fx);
            return true;
        }
        // Somebody who talks and does not listen, or is not read any more, is not idle; but the slot is not his for ever.
        if !self.setup.volatile && session.stalled_at().is_some_and(|at| now.mono_ms >= at) {
            self.close_slow(conn, Slowness::Stalled, fx);
            return true;
        }
        if silent_ms < ping_after(session.pings, conn, seed, ping_after_ms) {
            return false;
        }
        // It hears of its end instead, soon: a peer that reads late finds the close first.
        if session.expiry.is_over(now.wall_ms + limits::PING_JITTER_MS * 2) {
            return false;
        }
        session.pings = session.pings.saturating_add(1);
        session.outbox_mut(&self.held).control(push::ping(&[]));
        self.ask_flush(conn, fx);
        true
    }

    /// The peer wants to end: its close frame is echoed, unless the server was the first, and the end is counted.
    pub(super) fn peer_closed(&mut self, conn: ConnId, code: Option<u16>, fx: &mut Effects) {
        if self.sessions.get(conn).is_some_and(|session| session.phase != Phase::Finishing) {
            self.tally.ended_by_peer += 1;
        }
        self.finish(conn, push::close_echo(code), fx);
    }

    /// Ends a session: it is told why, and counted.
    pub(super) fn close(&mut self, conn: ConnId, code: CloseCode, fx: &mut Effects) {
        if self.sessions.get(conn).is_none_or(|session| session.phase == Phase::Finishing) {
            return;
        }
        if let Some(count) = self.tally.closed.get_mut(code.index()) {
            *count += 1;
        }
        let words = if code == CloseCode::Shutdown { self.shutdown_words(conn) } else { push::close(code) };
        self.finish(conn, words, fx);
    }

    fn finish(&mut self, conn: ConnId, last: Box<[u8]>, fx: &mut Effects) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        match session.phase {
            Phase::Finishing => return,
            // Nothing was to be delivered before the store had spoken.
            Phase::Opening => session.outbox = None,
            Phase::Open => {}
        }
        self.forget(conn);
        if let Some(session) = self.sessions.get_mut(conn) {
            session.phase = Phase::Finishing;
            session.outbox_mut(&self.held).control(last);
        }
        fx.push(Effect::Finish { conn });
    }

    /// The socket is gone.
    pub(super) fn gone(&mut self, conn: ConnId) {
        if self.sessions.get(conn).is_some_and(|session| session.phase != Phase::Finishing) {
            self.tally.ended_by_loss += 1;
            self.forget(conn);
        }
        self.sessions.remove(conn);
    }

    /// Takes a session out of everything but its slot.
    fn forget(&mut self, conn: ConnId) {
        self.roster.leave_all(&mut self.sessions, conn);
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let user = session.user;
        let guest = session.profile == Profile::Room;
        let was_behind = session.is_behind();
        session.trouble = None;
        session.unconfirmed = None;
        self.tally.sessions_behind -= u64::from(was_behind);
        self.tally.sessions -= 1;
        if guest {
            return;
        }
        self.roster.remove_session(&mut self.sessions, user, conn.slot);
        if self.roster.sessions_of(&self.sessions, user).is_empty() {
            self.blocks.forget(user);
        }
        self.end_watch(conn);
        self.presence_changed(user);
        self.hurry_cursors(user);
        self.tally.users_online = self.roster.users_online() as u64;
    }

    /// Ends the sessions of `user` that were opened with a token older than `epoch`.
    pub(super) fn close_older(&mut self, user: UserId, epoch: u32, fx: &mut Effects) {
        for slot in self.roster.sessions_of(&self.sessions, user) {
            if let Some(conn) = self.sessions.name(slot)
                && self.sessions.get(conn).is_some_and(|session| session.is_older_than(epoch))
            {
                self.tally.revoked[Revocation::LoggedOut as usize] += 1;
                self.close(conn, CloseCode::BadToken, fx);
            }
        }
    }

    /// Ends the sessions of `user` that were opened with the token of `login`.
    pub(super) fn close_login(&mut self, user: UserId, login: LoginId, fx: &mut Effects) {
        for slot in self.roster.sessions_of(&self.sessions, user) {
            if let Some(conn) = self.sessions.name(slot)
                && self.sessions.get(conn).is_some_and(|session| session.login() == Some(login))
            {
                self.tally.revoked[Revocation::LoggedOut as usize] += 1;
                self.close(conn, CloseCode::BadToken, fx);
            }
        }
    }

    /// Ends all sessions of `user`.
    pub(super) fn close_user(&mut self, user: UserId, code: CloseCode, fx: &mut Effects) {
        for slot in self.roster.sessions_of(&self.sessions, user) {
            if let Some(conn) = self.sessions.name(slot) {
                self.tally.revoked[Revocation::Banned as usize] += 1;
                self.close(conn, code, fx);
            }
        }
    }

    /// The driver has written everything.
    pub(super) fn flushed(&mut self, conn: ConnId, fx: &mut Effects) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        session.set(Flag::Flushing, false);
        session.tidy();
        if session.outbox.is_some() {
            return self.ask_flush(conn, fx);
        }
        self.regulate(conn, fx);
        if self.setup.planted_bug != Some(PlantedBug::LostWake) {
            self.catch_up(conn, fx);
        }
    }

    /// The driver has written a part, and the socket is full: a session that was not read because of its answers may have few enough now.
    pub(super) fn progress(&mut self, conn: ConnId, fx: &mut Effects) {
        if self.sessions.get(conn).is_some_and(|session| session.paused && session.may_read_on()) {
            self.regulate(conn, fx);
        }
    }

    /// Has the outbox written at the end of the turn, unless that was asked already.
    pub(super) fn ask_flush(&mut self, conn: ConnId, fx: &mut Effects) {
        if let Some(session) = self.sessions.get_mut(conn)
            && session.phase == Phase::Open
            && !session.is(Flag::Flushing)
            && let Some(outbox) = session.outbox.as_deref_mut()
        {
            outbox.offer();
            session.set(Flag::Flushing, true);
            session.set(Flag::AcksWait, false);
            fx.push(Effect::Flush { conn });
        }
    }

    /// Tells the driver when the session's wish to be read has changed.
    pub(super) fn regulate(&mut self, conn: ConnId, fx: &mut Effects) {
        let Some(session) = self.sessions.get(conn) else { return };
        if session.phase != Phase::Open {
            return;
        }
        let mut wanted = session.wants_reading() && !self.paces.rests(Payer::of(session, conn));
        let user = session.user;
        if wanted && !self.has_share(session) {
            self.note_limited(user);
            wanted = false;
        }
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if session.paused != wanted {
            return;
        }
        session.paused = !wanted;
        if session.paused {
            fx.push(Effect::Pause { conn });
        } else {
            session.hear(self.now_ms);
            fx.push(Effect::Resume { conn });
        }
    }
}
