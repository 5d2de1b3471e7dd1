//! Writing: everything that is queued for a connection, contiguous, at the end of the turn.
//!
//! Owns: when a connection is written to, and what happens when its socket is full. What is written
//! is the shard's to say ([`Shard::poll_send`](crate::shard::Shard::poll_send)).
//! Bounds: [`TURN_WRITE_BYTES_MAX`] per connection and turn; one that has more comes again when all
//! others have had their turn. [`TURN_WRITE_ALL_BYTES_MAX`] and the time of a part for all; those
//! sooner that have brought less lately.

use super::Driver;
use super::conn::{Reports, State};
use super::ready::Share;
use super::table::token_of;
use super::tls;
use super::transport::Took;
use crate::ids::ConnId;
use crate::limits::{TURN_WRITE_ALL_BYTES_MAX, TURN_WRITE_BYTES_MAX, TURN_WRITES_MAX};

/// How far a flush came.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Flushed {
    /// Nothing is left.
    All,
    /// The socket is full; it will say when it is not.
    Blocked,
    /// The turn's share is used up.
    Budget,
    /// The socket is broken.
    Broken,
}

impl Driver {
    /// Flushes every connection that has become dirty. What these flushes cause waits for the next
    /// turn.
    pub(super) fn flush_dirty(&mut self) {
        let mut share = Share::new(TURN_WRITE_ALL_BYTES_MAX, TURN_WRITES_MAX, self.part_us);
        for _ in 0..self.dirty.len() {
            if share.is_spent(|| self.clock.nanos()) {
                break;
            }
            let Some(id) = self.dirty.next() else { break };
            let Some(conn) = self.table.get_mut(id) else { continue };
            conn.dirty = false;
            if conn.closed {
                continue;
            }
            let written = match &conn.state {
                State::Handshake(_) => self.flush_newcomer(id),
                State::Head(_) => self.flush_records(id),
                State::Open(_) => self.flush_session(id),
                State::Echo(_) => self.flush_echo(id),
                State::Closing(_) => self.flush_closing(id),
            };
            share.take(written, 1);
        }
    }

    fn flush_session(&mut self, id: ConnId) -> usize {
        let (flushed, written) = self.write_outbox(id);
        self.settle_flush(id, flushed);
        written
    }

    pub(super) fn is_paused(&self, id: ConnId) -> bool {
        self.table.get(id).is_some_and(|conn| matches!(&conn.state, State::Open(open) if open.paused))
    }

    /// Writes the last words, then the shard's outbox, then the end of the stream.
    fn flush_closing(&mut self, id: ConnId) -> usize {
        let Some(conn) = self.table.get_mut(id) else { return 0 };
        let State::Closing(closing) = &mut conn.state else { return 0 };
        let (session, finished) = (closing.session, closing.finished);
        if finished {
            return 0;
        }
        let words = closing.words.get(closing.sent..).unwrap_or_default();
        let mut flushed = Flushed::All;
        if !words.is_empty() {
            let words = words.to_vec();
            let took = self.push(id, &words);
            let Some(conn) = self.table.get_mut(id) else { return 0 };
            let State::Closing(closing) = &mut conn.state else { return 0 };
            match took {
                Took::All => closing.sent = closing.words.len(),
                Took::Part(n) => {
                    closing.sent += n;
                    flushed = Flushed::Blocked;
                }
                Took::Broken => flushed = Flushed::Broken,
            }
        }
        let mut written = 0;
        if flushed == Flushed::All && session {
            (flushed, written) = self.write_outbox(id);
        }
        if flushed == Flushed::All {
            flushed = self.close_session(id);
        }
        if flushed == Flushed::All {
            self.finish(id);
        }
        self.settle_flush(id, flushed);
        written
    }

    /// Says by TLS that nothing more comes, before the socket says it.
    fn close_session(&mut self, id: ConnId) -> Flushed {
        let Some((_, session)) = self.table.secured(id) else { return Flushed::All };
        session.close();
        match self.settle_records(id) {
            Took::All => Flushed::All,
            Took::Part(_) => Flushed::Blocked,
            Took::Broken => Flushed::Broken,
        }
    }

    /// Writes what a handshake has to say.
    fn flush_newcomer(&mut self, id: ConnId) -> usize {
        if self.flush_handshake(id) == Took::Broken {
            self.lose_handshake(id);
        }
        0
    }

    /// Writes what a session owes that has nothing to say yet.
    fn flush_records(&mut self, id: ConnId) -> usize {
        match self.settle_records(id) {
            Took::All => {}
            Took::Part(_) => self.block(id),
            Took::Broken => self.mark_closed(id),
        }
        0
    }

    /// Everything is said. The peer's end of stream ends the connection; without it, the deadline
    /// does.
    fn finish(&mut self, id: ConnId) {
        let Some(conn) = self.table.get_mut(id) else { return };
        let State::Closing(closing) = &mut conn.state else { return };
        closing.finished = true;
        closing.words = Vec::new();
        if closing.heard_end {
            // The end of the socket is the end of the stream.
            self.mark_closed(id);
        } else {
            conn.transport.finish();
        }
    }

    fn settle_flush(&mut self, id: ConnId, flushed: Flushed) {
        match flushed {
            Flushed::All => {}
            Flushed::Blocked => self.block(id),
            Flushed::Budget => self.lag(id),
            Flushed::Broken => self.mark_closed(id),
        }
    }

    /// A socket is full: it is left alone until the kernel reports room.
    pub(super) fn block(&mut self, id: ConnId) {
        let Some(conn) = self.table.get_mut(id) else { return };
        conn.blocked = true;
        if conn.reports != Reports::Bytes {
            return;
        }
        if conn.transport.report_room(self.poll.registry(), token_of(id)).is_ok() {
            conn.reports = Reports::Room;
        } else {
            // It would never be known that there is room.
            self.mark_closed(id);
        }
    }

    /// Writes what the shard has for `id` until there is nothing, the socket is full or the turn's
    /// share is used up. How far it came, and with how many bytes.
    pub(super) fn write_outbox(&mut self, id: ConnId) -> (Flushed, usize) {
        // What is left of a record goes before all that the shard has.
        match self.settle_records(id) {
            Took::All => {}
            Took::Part(_) => return (Flushed::Blocked, 0),
            Took::Broken => return (Flushed::Broken, 0),
        }
        let (mut sends, mut total) = (0, 0);
        let flushed = loop {
            let polled = self.shard.poll_send(self.now, id, &mut self.write_scratch, &mut self.effects);
            let Some(transmit) = polled else { break Flushed::All };
            let len = transmit.bytes().len();
            sends += 1;
            match tls::write(&mut self.table, &mut self.tls, id, transmit.bytes(), self.now.mono_ms) {
                Took::All => {
                    total += len;
                    if !transmit.sent(len) {
                        break Flushed::All;
                    }
                }
                Took::Part(n) => {
                    total += n;
                    transmit.sent(n);
                    break Flushed::Blocked;
                }
                Took::Broken => break Flushed::Broken,
            }
            if total >= TURN_WRITE_BYTES_MAX {
                break Flushed::Budget;
            }
        };
        let tally = &mut self.tally;
        tally.sends += sends;
        tally.bytes_out += total as u64;
        self.carry_out();
        (flushed, total)
    }
}
