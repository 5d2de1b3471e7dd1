//! Whether the other end is still there: what is heard of it, pings, and the end of the silent.
//!
//! Owns: the round through the sessions, in which also the end of a token is noticed, and a peer
//! that takes nothing.
//! Bounds: [`limits::TURN_LOOKS_MAX`] looks and [`limits::TURN_TIMERS_MAX`] acts a turn.

use crate::ids::ConnId;
use crate::limits;
use crate::metrics::tally::{Revocation, Slowness};
use crate::shard::io::Io;
use crate::shard::session::{Phase, Session};
use crate::shard::sessions::Sessions;
use crate::shard::sessions::prices::Price;
use crate::shard::sessions::rounds::ping_after;
use crate::wire::{CloseCode, Profile, push};

/// Sessions that are looked at before it is seen how many of them had to be pinged or ended.
const LOOKS: u32 = 1024;

impl Sessions {
    /// Something was heard: life. The session, if it is in use.
    pub(in crate::shard) fn hear(&mut self, io: &mut Io, conn: ConnId) -> Option<&Session> {
        let session = self.table.get_mut(conn)?;
        session.hear(io.now_ms());
        (session.phase() == Phase::Open).then_some(&*session)
    }

    /// A ping is answered with its own payload (RFC 6455, section 5.5.3).
    pub(in crate::shard) fn ping(&mut self, io: &mut Io, conn: ConnId, payload: &[u8]) {
        self.pay(io, conn, &Price::PING);
        let Some(session) = self.hear(io, conn) else { return };
        // A guest that does not read is served all the same: one pong waits and no more (RFC 6455,
        // section 5.5.3 allows it).
        let waits = session.outbox.as_ref().is_some_and(|outbox| outbox.answers() > 0);
        if session.profile != Profile::Room || !waits {
            self.answer(io, conn, push::pong(payload));
        }
    }

    /// Goes on with the round through the sessions: pings the silent, ends the dead. Not through
    /// all of them in one turn, and not with all of them at once: a million sessions would be a
    /// long one.
    pub(in crate::shard) fn look_after(&mut self, io: &mut Io) {
        let mut left = limits::TURN_LOOKS_MAX;
        let mut acts = limits::TURN_TIMERS_MAX;
        while acts > 0 {
            let slots = self.rounds.due(io.now_ms(), self.table.span(), left.min(LOOKS));
            if slots.is_empty() {
                return;
            }
            left -= LOOKS.min(left);
            for slot in slots {
                acts = acts.saturating_sub(usize::from(self.look_at(io, slot)));
            }
        }
    }

    /// Looks at a session; whether there was something to do.
    fn look_at(&mut self, io: &mut Io, slot: u32) -> bool {
        let (seed, ping_after_ms, idle_after_ms) = (io.setup.boot, io.setup.ping_after_ms, io.setup.idle_after_ms);
        let Some(session) = self.table.at_mut(slot) else { return false };
        if session.phase() == Phase::Opening && session.silent_ms(io.now_ms()) >= limits::IDLE_MS {
            // The store answers nothing, not even that it fails.
            let conn = ConnId { slot, generation: session.generation };
            self.close(io, conn, CloseCode::Unavailable);
            return true;
        }
        // One that opens waits for the store, and one that ends for the driver: both have a
        // deadline of another kind.
        if session.phase() != Phase::Open {
            return false;
        }
        // Guests may be silent for ever, and some never read a ping: the kernel's
        // keepalive finds the dead.
        if session.profile == Profile::Room {
            return false;
        }
        if session.unconfirmed.as_ref().is_some_and(|unconfirmed| unconfirmed.is_over(io.now_ms())) {
            session.unconfirmed = None;
        }
        if session.paused {
            // It cannot be heard while it is not read: its deadline pauses with it.
            session.hear(io.now_ms());
        }
        let conn = ConnId { slot, generation: session.generation };
        if session.expiry.is_over(io.now.wall_ms) {
            io.tally.revoked[Revocation::Expired as usize] += 1;
            self.close(io, conn, CloseCode::BadToken);
            return true;
        }
        let silent_ms = session.silent_ms(io.now_ms());
        if silent_ms >= idle_after_ms {
            self.close(io, conn, CloseCode::Idle);
            return true;
        }
        // A peer that sends and does not read is not idle; but it has no claim to the slot for
        // ever.
        if !io.setup.volatile && session.stalled_at().is_some_and(|at| io.now_ms() >= at) {
            self.close_slow(io, conn, Slowness::Stalled);
            return true;
        }
        if silent_ms < ping_after(session.pings, conn, seed, ping_after_ms) {
            return false;
        }
        // It hears of its end instead, soon: a peer that reads late finds the close first.
        if session.expiry.is_over(io.now.wall_ms + limits::PING_JITTER_MS * 2) {
            return false;
        }
        session.pings = session.pings.saturating_add(1);
        session.outbox_mut(&mut io.held, io.now.mono_ms).control(push::ping(&[]), &mut io.held);
        Self::flush(io, conn, session);
        true
    }
}
