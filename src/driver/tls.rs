//! TLS connections: their handshakes, and the sessions beside their sockets.
//!
//! Owns: what every thread needs for TLS ([`Tls`]), the line of handshakes that wait for their next
//! step, how bytes pass a session, and the accounts of records that are cut.
//! Never: delays the sessions that stand: a turn has [`TURN_HANDSHAKE_STEPS_MAX`] steps for
//! newcomers, and [`TURN_PART_US`]. Keeps plaintext: what a socket does not take stays with the
//! shard, but for the rest of one record.
//! Bounds: handshakes are heads (`heads`), by number, address and deadline; records that have not
//! come whole are part of [`crate::config::Config::inbound_budget`] and have the time of a message,
//! those that were not taken whole are part of [`crate::config::Config::outbox_budget`].

use std::collections::{HashMap, VecDeque};

use imgate_tls::limits::{RECORD_OVERHEAD_BYTES_MAX, RECORD_WIRE_BYTES_MAX};
use imgate_tls::{Acceptor, End, Failure, Finished, Handshake, KeyLife, Outgoing, Session, Step};

use super::Driver;
use super::conn::{Conn, State};
use super::table::Table;
use super::transport::{Got, Took, Transport};
use crate::caller::preamble;
use crate::fair::{Holding, Holdings};
use crate::http::Response;
use crate::ids::ConnId;
use crate::limits::{
    HANDSHAKES_PATIENT_MAX, HEADS_PENDING_MAX, READ_SCRATCH_BYTES, TURN_EVICTIONS_MAX, TURN_HANDSHAKE_STEPS_MAX,
    TURN_PART_US, UNREAD_LOOK_BYTES, WRITE_SCRATCH_BYTES,
};
use crate::metrics::tally::{GateRefusal, HandshakeEnd};
use crate::shard::Event;

/// What one thread has for TLS.
pub(super) struct Tls {
    acceptor: Acceptor,
    line: Line,
    /// Ciphertext on its way out of, and into, a session.
    out: Outgoing,
    input: Box<[u8]>,
    cut: Cut,
}

/// Handshakes that have bytes to be read, and some that have ended since.
#[derive(Default)]
struct Line(VecDeque<ConnId>);

/// A TLS handshake on its way.
pub(super) struct Newcomer {
    handshake: Handshake,
    /// Monotonic milliseconds at which it came.
    since_ms: u64,
    /// Stands in the line.
    waits: bool,
    /// The socket may have more than was read.
    more: bool,
}

/// What is kept of records that are cut, and whose.
#[derive(Default)]
struct Cut {
    /// What has come of records that are not whole, since the last one that was.
    begun: Holdings<ConnId>,
    /// What is left of records that their readers have not taken whole.
    unsent: Holdings<ConnId>,
    each: HashMap<ConnId, Kept>,
}

/// What is kept of one connection's records.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Kept {
    begun: Holding,
    unsent: Holding,
}

impl Tls {
    pub(super) fn new(acceptor: Acceptor) -> Self {
        Self {
            acceptor,
            line: Line::default(),
            out: Outgoing::new(WRITE_SCRATCH_BYTES, KeyLife::default()),
            input: vec![0; RECORD_WIRE_BYTES_MAX + READ_SCRATCH_BYTES].into(),
            cut: Cut::default(),
        }
    }

    /// Whether a handshake waits for a step.
    pub(super) fn is_busy(&self) -> bool {
        !self.line.0.is_empty()
    }

    /// What has come of records that are not whole.
    pub(super) const fn begun(&self) -> &Holdings<ConnId> {
        &self.cut.begun
    }

    /// What has come of a record counts as if it had begun then.
    pub(super) fn note_anew(&mut self, id: ConnId, since_ms: u64) {
        if let Some(kept) = self.cut.each.get(&id).copied() {
            self.cut.set(id, Kept { begun: Holding { since_ms, ..kept.begun }, ..kept });
        }
    }

    /// The connection is gone, or another thread's.
    pub(super) fn forget(&mut self, id: ConnId) {
        self.cut.set(id, Kept::default());
    }

    /// Begins the handshake of a connection.
    pub(super) fn begin(&self, now_ms: u64) -> Option<Box<Newcomer>> {
        let handshake = self.acceptor.accept().ok()?;
        Some(Box::new(Newcomer { handshake, since_ms: now_ms, waits: false, more: false }))
    }

    /// Reads once, `wanted` bytes at most, and opens them into `into`.
    fn pull(
        &mut self,
        transport: &mut Transport,
        session: &mut Session,
        into: &mut [u8],
        wanted: usize,
        minute: u64,
    ) -> Got {
        // So much that, with what is kept, the plaintext fits.
        let wanted = wanted.min(into.len().saturating_sub(RECORD_WIRE_BYTES_MAX)).max(1);
        if session.has_ended() {
            return Got::End;
        }
        let fresh = self.input.get_mut(RECORD_WIRE_BYTES_MAX..RECORD_WIRE_BYTES_MAX + wanted);
        let (wire, drained) = match transport.read(fresh.unwrap_or_default()) {
            Got::Bytes { wire, drained, .. } => (wire, drained),
            other => return other,
        };
        match self.open(session, wire, into, minute) {
            // Of a session that has ended the next read says so.
            Got::Bytes { n, wrapping, .. } => {
                Got::Bytes { n, wire, wrapping, drained: drained && !session.has_ended() }
            }
            other => other,
        }
    }

    /// Opens `read` bytes that lie in the input, and what is kept, into `into`. What came before an
    /// end is given first; the end is told by the next read.
    fn open(&mut self, session: &mut Session, read: usize, into: &mut [u8], minute: u64) -> Got {
        let opened = session.open(&mut self.input, RECORD_WIRE_BYTES_MAX..RECORD_WIRE_BYTES_MAX + read, minute);
        let plain = self.input.get(opened.plain).unwrap_or_default();
        let n = plain.len().min(into.len());
        match opened.end {
            Some(End::Closed) if n == 0 => Got::End,
            Some(End::Alert(_) | End::Refused(_)) if n == 0 => Got::Broken,
            _ => {
                into[..n].copy_from_slice(&plain[..n]);
                let wrapping = opened.records * RECORD_OVERHEAD_BYTES_MAX;
                Got::Bytes { n, wire: read, wrapping, drained: false }
            }
        }
    }

    /// Says something to a connection that ends with it.
    pub(super) fn tell(&mut self, transport: &mut Transport, session: &mut Session, words: &[u8]) {
        if self.push(transport, session, words) == Took::All {
            session.close();
            let _ = self.push(transport, session, &[]);
        }
    }

    /// Seals and writes. Plaintext that was taken may still be on its way as the rest of a record.
    fn push(&mut self, transport: &mut Transport, session: &mut Session, bytes: &[u8]) -> Took {
        let mut taken = 0;
        loop {
            let rest = bytes.get(taken..).unwrap_or_default();
            let sealed = session.seal(rest.get(..WRITE_SCRATCH_BYTES).unwrap_or(rest), &mut self.out);
            if sealed.refused().is_some() {
                // Its last word leaves, if the socket takes it.
                let sent = transport.write(sealed.bytes()).bytes_of(sealed.bytes().len());
                sealed.sent(sent.unwrap_or_default());
                return Took::Broken;
            }
            if sealed.bytes().is_empty() {
                return Took::All;
            }
            let len = sealed.bytes().len();
            let Some(sent) = transport.write(sealed.bytes()).bytes_of(len) else { return Took::Broken };
            taken += sealed.sent(sent);
            if sent < len {
                return Took::Part(taken);
            }
            if taken == bytes.len() {
                return Took::All;
            }
        }
    }
}

impl Took {
    /// How many of `len` bytes were taken; `None`: the connection is broken.
    const fn bytes_of(self, len: usize) -> Option<usize> {
        match self {
            Self::All => Some(len),
            Self::Part(n) => Some(n),
            Self::Broken => None,
        }
    }
}

impl Line {
    /// Those that have ended are let go of when the line is twice as long as there can be
    /// handshakes.
    fn push(&mut self, id: ConnId, table: &Table) {
        self.0.push_back(id);
        if self.0.len() > 2 * HEADS_PENDING_MAX {
            self.0.retain(|id| table.get(*id).is_some_and(Conn::waits_for_step));
        }
    }

    /// While very many wait, the newest go first: the oldest are about to give up, and a step that
    /// comes too late is made for nothing. Those that have ended are no step.
    fn pop(&mut self, table: &Table) -> Option<ConnId> {
        loop {
            let crowded = self.0.len() > HANDSHAKES_PATIENT_MAX;
            let id = if crowded { self.0.pop_back() } else { self.0.pop_front() }?;
            if table.get(id).is_some_and(Conn::waits_for_step) {
                return Some(id);
            }
        }
    }
}

impl Conn {
    /// Whether it is a handshake that has bytes to be read.
    fn waits_for_step(&self) -> bool {
        matches!(&self.state, State::Handshake(newcomer) if newcomer.waits && !self.closed)
    }
}

impl Newcomer {
    /// What it keeps is as if it had begun then.
    pub(super) const fn note_anew(&mut self, since_ms: u64) {
        self.since_ms = since_ms;
    }

    /// What is kept for it.
    pub(super) const fn holding(&self) -> Holding {
        Holding { bytes: self.handshake.kept_bytes(), since_ms: self.since_ms }
    }
}

impl Cut {
    /// What a session keeps now. `came`: a record of its peer's came to its end, so that what is
    /// kept of one has begun since.
    fn note(&mut self, id: ConnId, session: &Session, now_ms: u64, came: bool) {
        let (bytes, unsent) = (session.incoming_bytes(), session.unsent_bytes());
        if bytes + unsent == 0 && self.each.is_empty() {
            return;
        }
        let before = self.each.get(&id).copied().unwrap_or_default();
        let holding = |bytes: usize, before: Holding, anew: bool| match bytes {
            0 => Holding::default(),
            _ if before.bytes == 0 || anew => Holding { bytes, since_ms: now_ms },
            _ => Holding { bytes, ..before },
        };
        let (begun, unsent) = (holding(bytes, before.begun, came), holding(unsent, before.unsent, false));
        self.set(id, Kept { begun, unsent });
    }

    fn set(&mut self, id: ConnId, after: Kept) {
        let before = self.each.get(&id).copied().unwrap_or_default();
        self.begun.change(id, before.begun, after.begun);
        self.unsent.change(id, before.unsent, after.unsent);
        if after != Kept::default() {
            self.each.insert(id, after);
        } else if !self.each.is_empty() {
            self.each.remove(&id);
        }
    }
}

impl Driver {
    /// Reads plaintext of a connection once, `wanted` bytes at most.
    pub(super) fn pull(&mut self, id: ConnId, into: &mut [u8], wanted: usize) -> Got {
        let Some(conn) = self.table.get_mut(id) else { return Got::Broken };
        if !conn.is_tls() {
            return conn.transport.read(into.get_mut(..wanted).unwrap_or_default());
        }
        let Some((conn, session)) = self.table.secured(id) else { return Got::Broken };
        let Some(tls) = &mut self.tls else { return Got::Broken };
        let got = tls.pull(&mut conn.transport, session, into, wanted, self.now.mono_ms / 60_000);
        self.after_pull(id, got);
        got
    }

    /// Says what a read has led to, other than plaintext.
    fn after_pull(&mut self, id: ConnId, got: Got) {
        let Some((conn, session)) = self.table.secured(id) else { return };
        let Some(tls) = &mut self.tls else { return };
        let came = matches!(got, Got::Bytes { wrapping, .. } if wrapping > 0);
        if got == Got::End && !matches!(conn.state, State::Open(_) | State::Closing(_)) {
            // Nothing more is said to whoever says nothing more, as on a bare socket. A session may
            // still have its last words.
            session.close();
        }
        if session.wants_write() && !conn.blocked {
            // An alert, or the answer to a key update; what the socket does not take is kept.
            if let Took::Part(_) = tls.push(&mut conn.transport, session, &[])
                && got != Got::Broken
            {
                tls.cut.note(id, session, self.now.mono_ms, came);
                return self.block(id);
            }
            if got == Got::Broken {
                conn.transport.empty(&mut [0; UNREAD_LOOK_BYTES]);
            }
        }
        tls.cut.note(id, session, self.now.mono_ms, came);
    }

    /// Nothing more is said to a connection, which is to know that.
    pub(super) fn close_records(&mut self, id: ConnId) {
        if let Some((_, session)) = self.table.secured(id) {
            session.close();
            // What the socket does not take is not waited for.
            let _ = self.push(id, &[]);
        }
    }

    /// Writes plaintext to a connection, sealed if it is TLS: [`Took::Part`] may be all of it, when
    /// a record was cut.
    pub(super) fn push(&mut self, id: ConnId, bytes: &[u8]) -> Took {
        write(&mut self.table, &mut self.tls, id, bytes, self.now.mono_ms)
    }

    /// Writes what a TLS connection owes besides what its session has to say. Answers whether more
    /// may be written.
    pub(super) fn settle_records(&mut self, id: ConnId) -> Took {
        match self.table.secured(id) {
            Some((_, session)) if session.wants_write() => self.push(id, &[]),
            _ => Took::All,
        }
    }

    /// Bytes that are left of records that their readers have not taken whole.
    pub(super) fn unsent_bytes(&self) -> usize {
        self.tls.as_ref().map_or(0, |tls| tls.cut.unsent.bytes())
    }

    /// Ends those that have not taken the most for the longest, until `bytes` of what is kept for
    /// readers are let go, or this shard is down to its equal part. At once: whoever does not read
    /// on does not read a close frame either.
    pub(super) fn let_go_of_records(&mut self, bytes: usize) {
        let enough = self.budget.part().max(self.held().saturating_sub(bytes));
        for _ in 0..TURN_EVICTIONS_MAX {
            if self.held() <= enough {
                break;
            }
            let Some(id) = self.tls.as_ref().and_then(|tls| tls.cut.unsent.heaviest(self.now.mono_ms)) else { break };
            if matches!(self.table.get(id).map(|conn| &conn.state), Some(State::Open(_))) {
                self.give(Event::RecordUntaken { conn: id });
            }
            self.mark_closed(id);
            self.reap();
        }
    }

    /// A session has come with records that may be cut.
    pub(super) fn note_records(&mut self, id: ConnId) {
        let Some((_, session)) = self.table.secured(id) else { return };
        let wants = session.wants_write();
        if let Some(tls) = &mut self.tls {
            tls.cut.note(id, session, self.now.mono_ms, true);
        }
        if wants {
            self.mark_dirty(id);
        }
    }

    /// Reads what has come of a handshake. Answers how many bytes.
    pub(super) fn read_handshake(&mut self, id: ConnId) -> usize {
        let Some(conn) = self.table.get_mut(id) else { return 0 };
        let (before, ending) = (conn.holding(), conn.ending());
        let Some(tls) = &mut self.tls else { return 0 };
        let State::Handshake(newcomer) = &mut conn.state else { return 0 };
        let room = newcomer.handshake.room();
        let fresh = tls.input.get_mut(..room).unwrap_or_default();
        // Without room it stands in the line, and is read when it has made a step.
        let got = if room == 0 { Got::Nothing } else { conn.transport.read(fresh) };
        match got {
            Got::Bytes { n, drained, .. } => {
                newcomer.handshake.receive(fresh.get(..n).unwrap_or_default());
                newcomer.more = !drained || ending;
                let waited = std::mem::replace(&mut newcomer.waits, true);
                let after = conn.holding();
                self.inbound.change(id, before, after);
                self.tally.bytes_in += n as u64;
                if !waited {
                    tls.line.push(id, &self.table);
                }
                n
            }
            Got::Nothing => 0,
            Got::End | Got::Broken => {
                self.lose_handshake(id);
                0
            }
        }
    }

    /// The peer of a handshake is gone.
    pub(super) fn lose_handshake(&mut self, id: ConnId) {
        self.tally.handshake(HandshakeEnd::Unfinished);
        self.tally.gate_refuse(GateRefusal::Gone);
        self.mark_closed(id);
    }

    /// Makes the steps of this turn.
    pub(super) fn step_handshakes(&mut self) {
        let began_ns = self.clock.nanos();
        for _ in 0..TURN_HANDSHAKE_STEPS_MAX {
            let Some(id) = self.tls.as_mut().and_then(|tls| tls.line.pop(&self.table)) else { return };
            self.step_handshake(id);
            // A signature by a long RSA key takes as long as ten others.
            if self.clock.nanos().saturating_sub(began_ns) >= TURN_PART_US * 1000 {
                return;
            }
        }
    }

    fn step_handshake(&mut self, id: ConnId) {
        let Some(conn) = self.table.get_mut(id) else { return };
        let before = conn.holding();
        let State::Handshake(newcomer) = &mut conn.state else { return };
        newcomer.waits = false;
        let (step, more) = (newcomer.handshake.step(), std::mem::take(&mut newcomer.more));
        let awaited = newcomer.handshake.is_awaited();
        let after = conn.holding();
        self.inbound.change(id, before, after);
        if awaited && self.flush_handshake(id) == Took::Broken {
            return self.lose_handshake(id);
        }
        match step {
            Step::Wait if more => self.list(id),
            Step::Wait => {}
            Step::More => self.line_up_again(id),
            Step::Done => self.end_handshake(id),
            Step::Failed(failure) => self.fail_handshake(id, failure),
        }
    }

    fn line_up_again(&mut self, id: ConnId) {
        let Some(conn) = self.table.get_mut(id) else { return };
        if let (State::Handshake(newcomer), Some(tls)) = (&mut conn.state, &mut self.tls) {
            (newcomer.waits, newcomer.more) = (true, true);
            tls.line.push(id, &self.table);
        }
    }

    /// Writes what a handshake has to say.
    pub(super) fn flush_handshake(&mut self, id: ConnId) -> Took {
        let Some(conn) = self.table.get_mut(id) else { return Took::Broken };
        let before = conn.holding();
        let State::Handshake(newcomer) = &mut conn.state else { return Took::All };
        let output = newcomer.handshake.output();
        if output.is_empty() {
            return Took::All;
        }
        let len = output.len();
        let took = conn.transport.write(output);
        newcomer.handshake.sent(took.bytes_of(len).unwrap_or_default());
        let after = conn.holding();
        self.inbound.change(id, before, after);
        if matches!(took, Took::Part(_)) {
            self.block(id);
        }
        took
    }

    /// From now on the connection is one whose head is awaited, and perhaps here.
    fn end_handshake(&mut self, id: ConnId) {
        let Some(conn) = self.table.get_mut(id) else { return };
        let before = conn.holding();
        let State::Handshake(newcomer) = std::mem::replace(&mut conn.state, State::Head(None)) else { return };
        self.inbound.change(id, before, Holding::default());
        let Ok(Finished { session, unread, tls13, resumed }) = newcomer.handshake.finish() else {
            self.tally.handshake(HandshakeEnd::Failed);
            self.tally.gate_refuse(GateRefusal::Handshake);
            return self.mark_closed(id);
        };
        self.tally.handshake(match (tls13, resumed) {
            (true, false) => HandshakeEnd::Full13,
            (true, true) => HandshakeEnd::Resumed13,
            (false, false) => HandshakeEnd::Full12,
            (false, true) => HandshakeEnd::Resumed12,
        });
        self.table.secure(id, session);
        if unread {
            self.hear_kept(id);
        } else {
            self.read_head(id);
        }
        // What else the socket has was not reported again.
        self.list(id);
    }

    /// Opens what came behind a handshake.
    fn hear_kept(&mut self, id: ConnId) {
        let mut scratch = std::mem::take(&mut self.read_scratch);
        let got = match (self.table.secured(id), &mut self.tls) {
            (Some((_, session)), Some(tls)) => tls.open(session, 0, &mut scratch, self.now.mono_ms / 60_000),
            _ => Got::Nothing,
        };
        self.after_pull(id, got);
        match got {
            Got::Bytes { n: 0, .. } | Got::Nothing => {}
            Got::Bytes { n, .. } => self.hear_head(id, scratch.get(..n).unwrap_or_default()),
            Got::End | Got::Broken => {
                self.tally.gate_refuse(GateRefusal::Gone);
                self.mark_closed(id);
            }
        }
        self.read_scratch = scratch;
    }

    fn fail_handshake(&mut self, id: ConnId, failure: Failure) {
        let asked = match self.table.get(id).map(|conn| &conn.state) {
            Some(State::Handshake(newcomer)) => newcomer.handshake.unused(),
            _ => &[],
        };
        let (end, words) = match failure {
            Failure::NotTls(true) => (HandshakeEnd::NotTls, Response::NotTls.to(asked, self.now.wall_ms)),
            Failure::NotTls(false) => (HandshakeEnd::NotTls, Vec::new()),
            Failure::Incompatible => (HandshakeEnd::Incompatible, Vec::new()),
            Failure::Peer => (HandshakeEnd::Peer, Vec::new()),
            Failure::Misbehaved | Failure::TooLong => (HandshakeEnd::Misbehaved, Vec::new()),
            Failure::Internal => (HandshakeEnd::Failed, Vec::new()),
        };
        let why = if preamble::is_announced(asked) { GateRefusal::Preamble } else { GateRefusal::Handshake };
        self.tally.handshake(end);
        // Not at once: bytes that it has sent and are not read would take the alert along.
        self.refuse(id, why, words);
    }
}

/// As [`Driver::push`], for whoever has borrowed the shard.
pub(super) fn write(table: &mut Table, tls: &mut Option<Tls>, id: ConnId, bytes: &[u8], now_ms: u64) -> Took {
    let Some(conn) = table.get_mut(id) else { return Took::Broken };
    if !conn.is_tls() {
        return conn.transport.write(bytes);
    }
    let (Some((conn, session)), Some(tls)) = (table.secured(id), tls) else { return Took::Broken };
    let took = tls.push(&mut conn.transport, session, bytes);
    tls.cut.note(id, session, now_ms, false);
    took
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn handshakes_that_have_ended_do_not_stay_in_line() {
        let (mut line, table) = (Line::default(), Table::new(Arc::default(), 1));
        for slot in 0..100_000 {
            line.push(ConnId { slot, generation: 0 }, &table);
            assert!(line.0.len() <= 2 * HEADS_PENDING_MAX);
        }
        assert_eq!((line.pop(&table), line.0.len()), (None, 0));
    }
}
