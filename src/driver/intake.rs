//! Reading a session: bytes to commands, in the shard's scratch buffer.
//!
//! Owns: the way of one read: decode in place, parse, give the event, obey a pause after every one
//! of them.
//! Never: keeps a byte itself; what is incomplete or unwanted now stays with the connection's
//! decoder.
//! Bounds: a [`Quantum`] per connection and turn, a [`Share`] for all of a kind.
//!
//! Panics: decoding and parsing are pure, and a panic there costs only that connection, counted.
//! The shard is stepped from inside the same call, so that a message need not be copied; a panic
//! there is not ours to survive, and goes on (docs/decisions/0003).

use std::mem;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::Driver;
use super::conn::{Conn, State};
use super::inflating::open;
use super::ready::{Quantum, Ready, Share};
use super::transport::Got;
use crate::fair::Holding;
use crate::ids::ConnId;
use crate::limits::{
    FREE_READ_BYTES, TURN_HEAVY_BYTES_MAX, TURN_HEAVY_FRAMES_MAX, TURN_HEAVY_US, TURN_LIGHT_BYTES_MAX,
    TURN_LIGHT_FRAMES_MAX, TURN_LIGHT_PRESSED_US,
};
use crate::shard::Event;
use crate::wire::command::Parser;
use crate::wire::{CloseCode, Command, Profile, room};
use crate::ws::{Decoder, Incoming, Limits, Progress, Violation};

/// What decoding led to.
enum Decoded {
    /// Everything was given to the shard.
    Drained,
    /// The shard wants no more now, the session has ended, or the quantum is used up.
    Stopped,
    /// The peer broke a rule.
    Violated(Violation),
    /// Our code panicked over the peer's bytes.
    Panicked,
}

/// What a connection may still bring in this turn.
struct Left {
    quantum: Quantum,
    /// When its turn is over in any case, in nanoseconds of the clock; `u64::MAX`: when the quantum
    /// is.
    end_ns: u64,
    /// What it has brought that was given to the shard.
    events: u32,
    /// Bytes that compressed messages are more than what came of them, and were not told.
    inflated: usize,
    /// Bytes on the wire that were around what was sealed.
    wrapping: usize,
    /// The work that the shard had been asked for before.
    work: u64,
}

/// Whether the shard is to be told of a read: a few bytes are paid for with the message that they
/// are.
const fn is_dear(bytes: usize, events: u32, fragments: u32, inflated: usize) -> bool {
    fragments > 0 || inflated > 0 || bytes > FREE_READ_BYTES || (bytes > 0 && events == 0)
}

/// Work for a heavy connection between two looks at the clock: a message is one, and each
/// [`HEAVY_BYTES`] of it one more. A look costs a quarter of the smallest frame, and a kilobyte may
/// be a list that takes a tenth of a millisecond.
const HEAVY_LOOK: usize = 8;
/// See [`HEAVY_LOOK`].
const HEAVY_BYTES: usize = 128;

impl Driver {
    /// Reads the light ones that wait, each once, as far as their share of the turn goes.
    pub(super) fn read_light(&mut self) {
        let mut share =
            Share::new(TURN_LIGHT_BYTES_MAX, TURN_LIGHT_FRAMES_MAX, self.part_us.max(TURN_LIGHT_PRESSED_US));
        let count = self.ready.light();
        let mut all = true;
        for _ in 0..count {
            if share.is_spent(|| self.clock.nanos()) {
                all = false;
                break;
            }
            let Some(id) = self.ready.next_light() else { break };
            // A whole one, also for the last: whoever is read with less would seem to be heavy.
            let quantum = self.ready.quantum();
            self.visit(id, quantum, u64::MAX, &mut share);
        }
        self.ready.end_light(all);
    }

    /// Reads the heavy ones in turn, as far as their share of the turn goes.
    pub(super) fn read_heavy(&mut self) {
        let mut share = Share::new(TURN_HEAVY_BYTES_MAX, TURN_HEAVY_FRAMES_MAX, TURN_HEAVY_US);
        let end_ns = share.begin(self.clock.nanos());
        while !share.is_spent(|| self.clock.nanos()) {
            let Some(id) = self.ready.next_heavy() else { break };
            let quantum = share.cut(Ready::heavy_quantum());
            self.visit(id, quantum, end_ns, &mut share);
        }
    }

    /// Reads one connection, up to `quantum`, and notes whether that was enough for it.
    fn visit(&mut self, id: ConnId, quantum: Quantum, end_ns: u64, share: &mut Share) {
        let Some(conn) = self.table.get_mut(id) else { return share.take(0, 0) };
        conn.listed = false;
        if conn.closed {
            return share.take(0, 0);
        }
        let mut left = Left { quantum, end_ns, events: 0, inflated: 0, wrapping: 0, work: self.shard.tally().work };
        match &conn.state {
            State::Handshake(_) => {
                left.quantum.bytes = quantum.bytes.saturating_sub(self.read_handshake(id));
            }
            State::Head(_) => left.quantum.bytes = quantum.bytes.saturating_sub(self.read_head(id)),
            State::Open(_) => self.read_session(id, &mut left),
            State::Echo(_) => left.quantum.bytes = quantum.bytes.saturating_sub(self.read_echo(id)),
            State::Closing(_) => self.discard(id, &mut left),
        }
        let frames = quantum.frames - left.quantum.frames;
        self.frames += u64::from(frames);
        share.take(quantum.bytes - left.quantum.bytes, frames);
    }

    /// Reads a session until its socket is empty, the shard pauses it or the quantum is used up.
    fn read_session(&mut self, id: ConnId, left: &mut Left) {
        if self.is_paused(id) {
            // It is read when the shard wants it to be, whatever the kernel reports meanwhile.
            return;
        }
        let quantum = left.quantum;
        let mut whole = self.resume_session(id, left);
        let mut scratch = mem::take(&mut self.read_scratch);
        while whole {
            let Some(conn) = self.table.get_mut(id) else { break };
            if left.quantum.bytes == 0 {
                whole = false;
                break;
            }
            let ending = conn.ending();
            let wanted = left.quantum.bytes.min(scratch.len());
            match self.pull(id, &mut scratch, wanted) {
                Got::Bytes { n, wire, wrapping, drained } => {
                    // Of TLS it may be a little more than was wanted: a record is opened whole.
                    left.quantum.bytes = left.quantum.bytes.saturating_sub(wire.max(n));
                    left.wrapping += wrapping;
                    self.tally.bytes_in += n as u64;
                    if n > 0 {
                        whole = self.decode_session(id, scratch.get_mut(..n), left);
                    }
                    // A short read has emptied the socket, unless the kernel said that the end of
                    // the stream is there too.
                    if drained && !ending {
                        break;
                    }
                }
                Got::Nothing => break,
                Got::End => {
                    // A peer that has finished sending may still read: the response to its upgrade
                    // at least.
                    self.write_outbox(id);
                    self.close_records(id);
                    self.mark_closed(id);
                    break;
                }
                Got::Broken => {
                    self.mark_closed(id);
                    break;
                }
            }
        }
        self.read_scratch = scratch;
        self.charge_wrapping(id, left);
        self.end_visit(id, whole, left, quantum);
    }

    /// Records around little or nothing cost as much to open as those around much: what they are on
    /// the wire is paid for.
    fn charge_wrapping(&mut self, id: ConnId, left: &Left) {
        if is_dear(left.wrapping, left.events, 0, 0) && self.table.get_mut(id).is_some_and(|conn| !conn.closed) {
            self.give(Event::Spent { conn: id, bytes: left.wrapping, fragments: 0, inflated: 0 });
        }
    }

    /// Notes whether a session had more than its quantum. If so, it is read again among others of
    /// its kind, as soon as the shard wants it to be read at all.
    fn end_visit(&mut self, id: ConnId, whole: bool, left: &Left, quantum: Quantum) {
        let work = self.shard.tally().work - left.work;
        let Some(conn) = self.table.get_mut(id) else { return };
        let State::Open(open) = &mut conn.state else { return };
        if !whole && !open.paused {
            if quantum.is_whole() || left.end_ns != u64::MAX {
                open.recent.use_up(self.now.mono_ms);
            } else {
                // What it was given was short.
                open.recent.add_hasty(self.now.mono_ms, work);
            }
            self.list(id);
        } else if left.quantum != quantum {
            if open.profile == Profile::Room && left.events > 0 {
                // What a guest says goes to all guests.
                open.recent.add_for_all(self.now.mono_ms);
            } else {
                open.recent.add(self.now.mono_ms, work);
            }
        }
    }

    /// Takes what an earlier read has left with the decoder. Answers whether the socket may be
    /// read.
    fn resume_session(&mut self, id: ConnId, left: &mut Left) -> bool {
        let Some(conn) = self.table.get_mut(id) else { return false };
        let State::Open(open) = &mut conn.state else { return false };
        if open.paused {
            return false;
        }
        !mem::take(&mut open.held) || self.decode_session(id, None, left)
    }

    /// Decodes `bytes` (or what was held) and gives the shard every event in them. Answers whether
    /// the session wants more.
    fn decode_session(&mut self, id: ConnId, bytes: Option<&mut [u8]>, left: &mut Left) -> bool {
        let Some(conn) = self.table.get_mut(id) else { return false };
        let before = conn.holding();
        let State::Open(open) = &mut conn.state else { return false };
        // Taken out, because the events it leads to may end the session; put back if they did not.
        let mut decoder = mem::take(&mut open.decoder);
        let (profile, deflates) = (open.profile, open.deflates);
        let (read, frames, events) = (bytes.as_deref().map_or(0, <[u8]>::len), left.quantum.frames, left.events);
        let decoded = self.decode(id, &mut decoder, bytes, profile, deflates, left);
        decoder.note_since(self.now.mono_ms);
        let mut after = Holding::default();
        if let Some(conn) = self.table.get_mut(id)
            && let State::Open(open) = &mut conn.state
        {
            open.decoder = decoder;
            open.held = matches!(decoded, Decoded::Stopped);
            after = open.holding();
        }
        self.inbound.change(id, before, after);
        let events = left.events - events;
        let fragments = (frames - left.quantum.frames).saturating_sub(events);
        let mut go_on = true;
        let inflated = mem::take(&mut left.inflated);
        left.quantum.bytes = left.quantum.bytes.saturating_sub(inflated);
        if is_dear(read, events, fragments, inflated) {
            self.give(Event::Spent { conn: id, bytes: read, fragments, inflated });
            go_on = self.wants_more(id);
        }
        match decoded {
            Decoded::Drained => return go_on,
            Decoded::Stopped => {}
            Decoded::Violated(violation) => {
                tracing::debug!(conn = %self.named(id), %violation, "a peer broke the protocol");
                self.give(Event::Violation { conn: id, code: close_code(violation) });
            }
            Decoded::Panicked => {
                self.tally.parse_panics += 1;
                self.parser = Parser::default();
                self.give(Event::Violation { conn: id, code: CloseCode::Internal });
            }
        }
        false
    }

    fn decode(
        &mut self,
        id: ConnId,
        decoder: &mut Decoder,
        bytes: Option<&mut [u8]>,
        profile: Profile,
        deflates: bool,
        left: &mut Left,
    ) -> Decoded {
        let mut stepping = false;
        let Left { quantum: Quantum { frames, bytes: bytes_left }, end_ns, events, inflated, .. } = left;
        let (mut given, mut spoiled) = (0, None);
        let limits = Limits::CHAT.with_deflate(deflates);
        // Taken out, because it lends what it has opened; only while it may be needed.
        let mut inflater = if deflates { self.inflater.take() } else { None };
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let sink = |incoming: Incoming<'_>| {
                if matches!(incoming, Incoming::Close { .. }) {
                    self.note_close_received(id);
                }
                let opened = open(&mut inflater, &mut self.tally, incoming, limits.message_bytes, inflated);
                let incoming = match opened {
                    Ok(incoming) => incoming,
                    Err(violation) => {
                        spoiled = Some(violation);
                        return ControlFlow::Break(());
                    }
                };
                let bytes = incoming.payload().len();
                let Some(event) = self.understand(id, incoming, profile) else {
                    self.mark_closed(id);
                    return ControlFlow::Break(());
                };
                given += 1 + bytes / HEAVY_BYTES;
                stepping = true;
                *events += 1;
                self.give(event);
                stepping = false;
                let looks = *end_ns != u64::MAX && given >= HEAVY_LOOK;
                if looks {
                    given = 0;
                }
                let late = looks && self.clock.nanos() >= *end_ns;
                // A few bytes on the wire may be as much as a hundred connections bring.
                let full = *inflated > *bytes_left;
                if !late && !full && self.wants_more(id) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            match bytes {
                Some(bytes) => decoder.feed_frames(bytes, &limits, frames, sink),
                None => decoder.resume_frames(&limits, frames, sink),
            }
        }));
        if deflates {
            self.inflater = inflater;
        }
        match caught {
            Ok(_) if let Some(violation) = spoiled => Decoded::Violated(violation),
            Ok(Ok(Progress::Drained)) => Decoded::Drained,
            // After a close frame the shard has finished the session.
            Ok(Ok(Progress::Stopped | Progress::Closed)) => Decoded::Stopped,
            Ok(Err(violation)) => Decoded::Violated(violation),
            Err(panic) if stepping => resume_unwind(panic),
            Err(_) => Decoded::Panicked,
        }
    }

    /// The peer's close frame is its last word: when ours is out, nothing has to be waited for.
    fn note_close_received(&mut self, id: ConnId) {
        if let Some(conn) = self.table.get_mut(id)
            && let State::Open(open) = &mut conn.state
        {
            open.close_received = true;
        }
    }

    /// What the peer said, as an event. Pure but for the parser's buffers. `None`: a guest that
    /// does not speak the room's language; the connection ends without a word, as simple-chatroom
    /// ends it (docs/protocol.md).
    fn understand(&mut self, conn: ConnId, incoming: Incoming<'_>, profile: Profile) -> Option<Event> {
        let message = match incoming {
            Incoming::Text(text) => text.as_bytes(),
            Incoming::Binary(bytes) => bytes,
            Incoming::Ping(payload) => return Some(Event::Ping { conn, payload: payload.into() }),
            Incoming::Pong(payload) => return Some(Event::Pong { conn, payload: payload.into() }),
            Incoming::Close { code } => return Some(Event::PeerClosed { conn, code }),
            // Was opened before.
            Incoming::Deflated { .. } => return None,
        };
        if profile == Profile::Room {
            let words = room::parse(message).ok()?;
            return Some(Event::Command { conn, command: Command::Say(words) });
        }
        Some(match self.parser.parse(message, profile) {
            Ok(command) => Event::Command { conn, command },
            Err(refused) => Event::Unreadable { conn, refused },
        })
    }

    fn wants_more(&self, id: ConnId) -> bool {
        self.table.get(id).is_some_and(|conn| !conn.closed && matches!(&conn.state, State::Open(open) if !open.paused))
    }

    /// Reads a closing connection only to find the end of its stream: its bytes have no meaning any
    /// more.
    fn discard(&mut self, id: ConnId, left: &mut Left) {
        let mut scratch = mem::take(&mut self.read_scratch);
        let mut whole = true;
        while self.table.get(id).is_some() {
            if left.quantum.bytes == 0 {
                whole = false;
                break;
            }
            let wanted = left.quantum.bytes.min(scratch.len());
            match self.pull(id, &mut scratch, wanted) {
                Got::Bytes { n, wire, .. } => {
                    left.quantum.bytes = left.quantum.bytes.saturating_sub(wire.max(n));
                }
                Got::Nothing => break,
                Got::End => {
                    self.heard_end(id);
                    break;
                }
                Got::Broken => {
                    self.mark_closed(id);
                    break;
                }
            }
        }
        self.read_scratch = scratch;
        if let Some(recent) = self.table.get_mut(id).and_then(Conn::recent_mut) {
            if whole {
                recent.add(self.now.mono_ms, 0);
            } else {
                recent.use_up(self.now.mono_ms);
                self.list(id);
            }
        }
    }

    /// The peer has finished. If we have too, that is the end; else it may still be reading our
    /// last words.
    fn heard_end(&mut self, id: ConnId) {
        let Some(conn) = self.table.get_mut(id) else { return };
        let State::Closing(closing) = &mut conn.state else { return };
        closing.heard_end = true;
        if closing.finished {
            self.mark_closed(id);
        }
    }
}

/// The chat's name for the status code of a violation.
fn close_code(violation: Violation) -> CloseCode {
    CloseCode::ALL.into_iter().find(|code| code.code() == violation.close_code()).unwrap_or(CloseCode::Protocol)
}
