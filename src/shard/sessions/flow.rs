//! Which sessions are read, and when they are written to.
//!
//! Owns: the one place where a session is paused or resumed: too many unanswered commands, a user
//! over the pace or over the share of posts.
//! Never: refuses or drops what was read.

use std::rc::Rc;

use crate::ids::{ConnId, UserId};
use crate::limits;
use crate::shard::PlantedBug;
use crate::shard::broken::broken;
use crate::shard::effect::Effect;
use crate::shard::io::Io;
use crate::shard::lanes::Crowding;
use crate::shard::session::outbox::{Batch, Form};
use crate::shard::session::{Flag, Phase, Session};
use crate::shard::sessions::Sessions;
use crate::shard::sessions::pace::{Look, Payer};
use crate::shard::sessions::prices::Price;
use crate::shard::sessions::shares::most_of;
use crate::wire::{CloseCode, Profile};

impl Sessions {
    /// As [`Sessions::flush`], for a session that is to be looked up.
    pub(in crate::shard) fn ask_flush(&mut self, io: &mut Io, conn: ConnId) {
        if let Some(session) = self.table.get_mut(conn) {
            Self::flush(io, conn, session);
        }
    }

    /// Has the outbox written at the end of the turn, unless that was asked already.
    pub(in crate::shard) fn flush(io: &mut Io, conn: ConnId, session: &mut Session) {
        if session.phase() == Phase::Open
            && !session.is(Flag::Flushing)
            && let Some(outbox) = session.outbox.as_deref_mut()
        {
            outbox.offer(io.now_ms());
            session.set(Flag::Flushing, true);
            session.set(Flag::AcksWait, false);
            io.push(Effect::Flush { conn });
        }
    }

    /// Tells the driver when the session's wish to be read has changed.
    pub(in crate::shard) fn regulate(&mut self, io: &mut Io, conn: ConnId) {
        let Some(session) = self.table.get(conn) else { return };
        if session.phase() != Phase::Open {
            return;
        }
        let mut wanted = session.wants_reading() && !self.paces.rests(Payer::of(session, conn));
        let user = session.user;
        if wanted && !self.has_share(io, session) {
            self.note_limited(user);
            wanted = false;
        }
        let Some(session) = self.table.get_mut(conn) else { return };
        if session.paused != wanted {
            return;
        }
        session.paused = !wanted;
        if session.paused {
            io.push(Effect::Pause { conn });
        } else {
            session.hear(io.now_ms());
            io.push(Effect::Resume { conn });
        }
    }

    /// Whether a session may be read although posts of its user are under way. Half of what a user
    /// may have is whoever's of the sessions that comes first; of the other half each session has
    /// its part. A session with nothing unanswered may always be read, so none starves beside
    /// another.
    fn has_share(&self, io: &Io, session: &Session) -> bool {
        let crowding = io.lanes.crowding();
        let calm = self.shares.is_calm() && crowding == Crowding::None;
        if calm || session.unanswered() == 0 || session.profile == Profile::Room {
            return true;
        }
        let (under_way, most) = (self.shares.of(session.user), most_of(crowding));
        if under_way * 2 < most {
            return true;
        }
        let own = u32::from(session.unanswered());
        match u32::try_from(self.roster.sessions_of(&self.table, session.user).len()) {
            Ok(0 | 1) => own < most || under_way == 0,
            Ok(sessions) => own < (most / (2 * sessions)).max(1) || under_way == 0,
            Err(_) => false,
        }
    }

    /// A session of `user` is not read until one of the user's posts is answered.
    fn note_limited(&mut self, user: UserId) {
        self.shares.limit(user);
    }

    /// A post of `user` is on its way to its home.
    pub(in crate::shard) fn begin_share(&mut self, user: UserId) {
        self.shares.begin(user);
    }

    /// A post of `user` is answered: whoever has waited for it is read again.
    pub(in crate::shard) fn end_share(&mut self, io: &mut Io, user: UserId) {
        if self.shares.end(user) {
            self.regulate_user(io, user);
        }
    }

    /// A session has spent `price`.
    pub(in crate::shard) fn pay(&mut self, io: &mut Io, conn: ConnId, price: &Price) {
        let Some(session) = self.table.get(conn) else { return };
        if session.phase() != Phase::Open || io.has_bug(PlantedBug::UnpacedGreed) {
            return;
        }
        io.tally.work += price.cost;
        io.counting.spent(session.user, price.cost, price.messages, price.bytes);
        let payer = Payer::of(session, conn);
        let Some(currency) = self.paces.spend(payer, conn, price, io.now_ms()) else { return };
        if let Some(count) = io.tally.pauses.get_mut(currency) {
            *count += 1;
        }
        self.regulate_all_of(io, payer);
    }

    /// What was read of a connection besides its commands and control frames.
    pub(in crate::shard) fn spent(&mut self, io: &mut Io, conn: ConnId, bytes: usize, fragments: u32, inflated: usize) {
        self.pay(io, conn, &Price::of_read(bytes, fragments, inflated));
    }

    /// Reads those again whose purses have filled up, and ends those that have not kept the pace
    /// for long.
    pub(in crate::shard) fn end_rests(&mut self, io: &mut Io) {
        for _ in 0..limits::TURN_TIMERS_MAX {
            let Some((payer, look)) = self.paces.next(io.now_ms()) else { break };
            if let Look::Over(spenders) = look {
                for conn in spenders {
                    self.close(io, conn, CloseCode::TooFast);
                }
            }
            if !io.has_bug(PlantedBug::LostRefill) {
                self.regulate_all_of(io, payer);
            }
        }
        self.paces.tidy(io.now_ms());
        io.tally.paced = self.paces.resting_users() as u64;
    }

    fn regulate_all_of(&mut self, io: &mut Io, payer: Payer) {
        match payer {
            Payer::Guest(conn) => self.regulate(io, conn),
            Payer::User(user) => self.regulate_user(io, user),
        }
    }

    /// Tells the driver which of a user's sessions are to be read.
    fn regulate_user(&mut self, io: &mut Io, user: UserId) {
        for slot in self.roster.sessions_of(&self.table, user) {
            if let Some(conn) = self.table.name(slot) {
                self.regulate(io, conn);
            }
        }
    }

    /// The socket has taken `n` bytes of what is queued. Whether there is more to be sent.
    pub(in crate::shard) fn taken(&mut self, io: &mut Io, conn: ConnId, n: usize) -> bool {
        let Some(session) = self.table.get_mut(conn) else { return false };
        let Some(outbox) = session.outbox.as_deref_mut() else { broken("what a socket has taken was queued") };
        let responds = outbox.has_response();
        outbox.consume(n, io.now_ms(), &mut io.held);
        let (responded, more) = (responds && !outbox.has_response(), session.sendable().is_some());
        if more && session.paused && session.may_read_on() {
            // It was not read because of its answers, and has few enough now.
            self.regulate(io, conn);
        }
        if responded {
            self.skip_responses();
        }
        more
    }

    /// Everything that may be sent has been taken.
    pub(in crate::shard) fn flushed(&mut self, io: &mut Io, conn: ConnId) {
        let Some(session) = self.table.get_mut(conn) else { return };
        session.set(Flag::Flushing, false);
        session.tidy(&mut io.held);
        if session.phase() == Phase::Open {
            self.regulate(io, conn);
        }
    }

    /// A socket has taken `n` bytes of a broadcast, and not all.
    pub(in crate::shard) fn keep_rest(&mut self, io: &mut Io, conn: ConnId, batch: &Rc<Batch>, form: Form, n: usize) {
        if let Some(session) = self.table.get_mut(conn) {
            session.outbox_mut(&mut io.held, io.now.mono_ms).push_rest(Rc::clone(batch), form, n, &mut io.held);
            session.set(Flag::Flushing, true);
        }
    }
}
