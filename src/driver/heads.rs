//! Request heads on their way: reading them, the line of those that are not whole yet, and which of
//! them goes when it is full.
//!
//! Owns: the pieces of a head until they are judged, and when that is worth a try.
//! Never: refuses a newcomer because others have not finished: the oldest of the address with the
//! most goes (408).
//! Bounds: [`HEADS_PENDING_MAX`] on one shard, [`HEADS_PER_ADDRESS_MAX`] of one address,
//! [`HEAD_READ_BYTES`] a read. A head that comes byte by byte is parsed when it has doubled, and
//! when it ends: never longer in sum than twice its length.

use std::mem;

use super::Driver;
use super::addresses::Visitor;
use super::conn::{Head, State};
use super::table::Table;
use super::transport::Got;
use crate::fair::Holding;
use crate::http::Response;
use crate::ids::ConnId;
use crate::limits::{
    HEAD_BYTES_MAX, HEAD_READ_BYTES, HEADS_PENDING_MAX, HEADS_PER_ADDRESS_BUSY_MAX, HEADS_PER_ADDRESS_MAX,
    UNREAD_LOOK_BYTES,
};
use crate::metrics::tally::{GateRefusal, HandshakeEnd};

impl Driver {
    /// Reads on until the head is whole. Answers how many bytes came.
    pub(super) fn read_head(&mut self, id: ConnId) -> usize {
        let Some(conn) = self.table.get(id) else { return 0 };
        let ending = conn.ending();
        let mut scratch = mem::take(&mut self.read_scratch);
        let mut read = 0;
        match self.pull(id, &mut scratch, HEAD_READ_BYTES) {
            Got::Bytes { n, wire, drained, .. } => {
                read = wire;
                self.tally.bytes_in += n as u64;
                if n > 0 {
                    self.hear_head(id, scratch.get(..n).unwrap_or_default());
                }
                if ending || !drained {
                    self.list(id);
                }
            }
            Got::Nothing => {}
            Got::End | Got::Broken => {
                self.tally.gate_refuse(GateRefusal::Gone);
                self.mark_closed(id);
            }
        }
        self.read_scratch = scratch;
        read
    }

    /// Hears the next piece of a head. What has come is judged when that may lead to something.
    pub(super) fn hear_head(&mut self, id: ConnId, piece: &[u8]) {
        let Some(conn) = self.table.get_mut(id) else { return };
        let before = conn.holding();
        let State::Head(head) = &mut conn.state else { return };
        let Some(stash) = head else {
            if !self.judge_head(id, piece, None) {
                let (judged, since_ms) = (piece.len(), self.now.mono_ms);
                self.keep_head(id, Head { stash: piece.to_vec(), judged, since_ms, ..Head::default() });
            }
            return;
        };
        if stash.preamble {
            return self.hear_preamble(id, piece);
        }
        if stash.stash.is_empty() {
            stash.since_ms = self.now.mono_ms;
        }
        let from = stash.stash.len().saturating_sub(END_BYTES_MAX - 1);
        stash.stash.extend_from_slice(piece);
        let (len, judged) = (stash.stash.len(), stash.judged);
        let ends = may_end(stash.stash.get(from..).unwrap_or_default());
        if !ends && len < HEAD_BYTES_MAX && len < 2 * judged {
            let after = conn.holding();
            self.inbound.change(id, before, after);
            return;
        }
        let Some(mut whole) = head.take() else { return };
        self.inbound.change(id, before, Holding::default());
        if !self.judge_head(id, &whole.stash, whole.peer) {
            whole.judged = len;
            self.keep_head(id, *whole);
        }
    }

    /// Keeps what has come of a head that is not whole.
    pub(super) fn keep_head(&mut self, id: ConnId, kept: Head) {
        let Some(conn) = self.table.get_mut(id) else { return };
        let State::Head(head) = &mut conn.state else { return };
        *head = Some(Box::new(kept));
        let after = conn.holding();
        self.inbound.change(id, Holding::default(), after);
    }

    /// A connection waits for its head from now on, and another goes for it if too many do.
    pub(super) fn await_head(&mut self, id: ConnId, visitor: Visitor) {
        let table = &self.table;
        self.head_deadlines.push(self.now.mono_ms, id, |id| awaits_head(table, id));
        self.line_up(id, visitor);
    }

    /// Puts a connection into the line of those that wait for their heads, under the address it
    /// comes from.
    pub(super) fn line_up(&mut self, id: ConnId, visitor: Visitor) {
        self.heads.enter(visitor.network, id);
        let gone = if self.heads.len() > HEADS_PENDING_MAX {
            self.heads.oldest_of_busiest()
        } else if !visitor.trusted && self.heads.len_of(visitor.network) > self.heads_share() {
            self.heads.oldest_of(visitor.network)
        } else {
            None
        };
        if let Some(gone) = gone {
            self.evict_head(gone);
        }
    }

    fn heads_share(&self) -> usize {
        if self.heads.len() > HEADS_PENDING_MAX / 2 { HEADS_PER_ADDRESS_BUSY_MAX } else { HEADS_PER_ADDRESS_MAX }
    }

    /// Ends a connection that has not finished its head, because its place is needed. It is told,
    /// if it has said something, and not waited for. What waits in its socket is heard for that,
    /// because the kernel answers unread bytes with a reset, which takes the answer along.
    pub(super) fn evict_head(&mut self, id: ConnId) {
        self.heads.leave(&id);
        let Some(conn) = self.table.get_mut(id) else { return };
        let mut unread = [0; UNREAD_LOOK_BYTES];
        let said = conn.transport.empty(&mut unread);
        let asked = match &conn.state {
            State::Head(Some(head)) if head.is_begun() => Some(head.stash.clone()),
            // Nothing of it was read yet.
            State::Head(None) if !conn.is_tls() && said > 0 => Some(unread.get(..said).unwrap_or_default().to_vec()),
            State::Handshake(_) => {
                self.tally.handshake(HandshakeEnd::Unfinished);
                None
            }
            _ => None,
        };
        if let Some(asked) = asked {
            let words = Response::RequestTimeout.to(&asked, self.now.wall_ms);
            // A fresh socket takes so little, or it is broken.
            let _ = self.push(id, &words);
        }
        self.tally.gate_refuse(GateRefusal::Evicted);
        self.mark_closed(id);
    }

    /// The head has not come in time.
    pub(super) fn head_expired(&mut self, id: ConnId) {
        let Some(conn) = self.table.get(id) else { return };
        if matches!(&conn.state, State::Handshake(_)) {
            self.tally.handshake(HandshakeEnd::Unfinished);
            self.tally.gate_refuse(GateRefusal::Timeout);
            return self.mark_closed(id);
        }
        let State::Head(head) = &conn.state else { return };
        if let Some(head) = head.as_ref().filter(|head| head.is_begun()) {
            let words = Response::RequestTimeout.to(&head.stash, self.now.wall_ms);
            self.refuse(id, GateRefusal::Timeout, words);
        } else {
            // A connection that never said anything, or only half for whom it asks, is not told
            // anything.
            self.tally.gate_refuse(GateRefusal::Timeout);
            self.mark_closed(id);
        }
    }
}

pub(super) fn awaits_head(table: &Table, id: ConnId) -> bool {
    table.get(id).is_some_and(|conn| !conn.closed && matches!(conn.state, State::Head(_) | State::Handshake(_)))
}

/// The longest end of a head that [`may_end`] looks for: an empty line behind another line's end.
const END_BYTES_MAX: usize = 3;

/// Whether a head may end in `bytes`: an empty line, also one whose lines end with a bare line
/// feed.
fn may_end(bytes: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', bytes).any(|at| {
        let rest = bytes.get(at + 1..).unwrap_or_default();
        rest.starts_with(b"\n") || rest.starts_with(b"\r\n")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_head_is_found_wherever_its_pieces_are_cut() {
        for end in ["\r\n\r\n", "\n\n", "\n\r\n", "\r\n\n"] {
            let head = format!("GET / HTTP/1.1\r\nHost: x{end}");
            assert!(crate::http::Head::parse(head.as_bytes()).is_ok_and(|head| head.is_some()), "{head:?}");
            for cut in 1..head.len() {
                let from = cut.saturating_sub(END_BYTES_MAX - 1);
                assert!(may_end(&head.as_bytes()[from..]) || may_end(&head.as_bytes()[..cut]), "{head:?} cut at {cut}");
            }
        }
        assert!(!may_end(b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n"));
    }
}
