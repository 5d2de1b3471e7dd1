//! The acks of a stream wait a little for each other (`session::stream` says of which, and why).
//!
//! Owns: when acks wait, and when they leave.
//! Never: reorders. What waits is in the outbox already, at its place.
//! Bounds: [`limits::ACKS_WAITING_MAX`] acks of a session; one entry per session that waits, and a
//! stale one for each whose acks went early.

use crate::ids::ConnId;
use crate::limits;
use crate::shard::io::Io;
use crate::shard::session::{Flag, Phase};
use crate::shard::sessions::Sessions;

impl Sessions {
    /// `conn` has posted, `gap_ms` after whatever was heard of it before.
    pub(in crate::shard) fn note_post(&mut self, io: &mut Io, conn: ConnId, gap_ms: u64) {
        if io.setup.coalesce_ms > 0
            && let Some(session) = self.table.get_mut(conn)
        {
            session.stream.post(gap_ms, io.setup.coalesce_ms);
        }
    }

    /// The ack of a direct message; `None` for a session that gets none.
    pub(in crate::shard) fn give_ack(&mut self, io: &mut Io, conn: ConnId, ack: Option<Box<[u8]>>) {
        match ack {
            Some(ack) if self.may_wait(io, conn) => self.keep_ack(io, conn, ack),
            ack => self.give_answer(io, conn, ack),
        }
    }

    fn may_wait(&self, io: &Io, conn: ConnId) -> bool {
        let Some(session) = self.table.get(conn) else { return false };
        // What is on its way already takes the ack along.
        session.stream.is_fast() && session.phase() == Phase::Open && !session.is(Flag::Flushing) && !io.quiescing
    }

    fn keep_ack(&mut self, io: &mut Io, conn: ConnId, ack: Box<[u8]>) {
        let Some(session) = self.table.get_mut(conn) else { return };
        session.answered();
        let first = !session.is(Flag::AcksWait);
        session.set(Flag::AcksWait, true);
        let outbox = session.outbox_mut(&mut io.held, io.now.mono_ms);
        outbox.answer(ack, &mut io.held);
        let full = outbox.answers() >= limits::ACKS_WAITING_MAX;
        if first {
            outbox.offer(io.now_ms());
            self.acks_waiting.add(io.now_ms() + u64::from(io.setup.coalesce_ms), conn.slot);
        }
        io.tally.acks_waited += 1;
        if full {
            self.ask_flush(io, conn);
        }
        self.regulate(io, conn);
    }

    /// Sends the acks that have waited until `now_ms`.
    pub(in crate::shard) fn send_waiting_acks(&mut self, io: &mut Io, now_ms: u64) {
        while let Some((_, slot)) = self.acks_waiting.due(now_ms) {
            // Its acks went early, or its session: what another of that slot keeps meanwhile leaves
            // a little sooner.
            let Some(session) = self.table.at_mut(slot).filter(|session| session.is(Flag::AcksWait)) else {
                continue;
            };
            let silent_ms = session.silent_ms(io.now_ms());
            session.stream.settle(silent_ms, io.setup.coalesce_ms);
            let conn = ConnId { slot, generation: session.generation };
            self.ask_flush(io, conn);
        }
    }
}
