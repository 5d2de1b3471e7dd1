//! Reading a session: bytes to commands, in the shard's scratch buffer.
//!
//! Owns: the way of one read: decode in place, parse, give the event, obey a pause after every one of them.
//! Never: keeps a byte itself; what is incomplete or unwanted now stays with the connection's decoder.
//! Bounds: [`TURN_READ_BYTES_MAX`] per connection and turn.
//!
//! Panics: decoding and parsing are pure, and a panic there costs only that connection, counted. The shard is stepped from inside the same call, so
//! that a message need not be copied; a panic there is not ours to survive, and goes on (design, section 3, rule 6).

use std::mem;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::Driver;
use super::conn::State;
use super::transport::Got;
use crate::ids::ConnId;
use crate::limits::{FREE_READ_BYTES, READ_SCRATCH_BYTES, TURN_READ_BYTES_MAX};
use crate::shard::Event;
use crate::wire::command::Parser;
use crate::wire::{CloseCode, Command, Profile, room};
use crate::ws::{Decoder, Incoming, Limits, Progress, Violation};

/// What decoding led to.
enum Decoded {
    /// Everything was given to the shard.
    Drained,
    /// The shard wants no more now, or the session has ended.
    Stopped,
    /// The peer broke a rule.
    Violated(Violation),
    /// Our code panicked over the peer's bytes.
    Panicked,
}

/// What one read has cost beyond the events that it led to.
#[derive(Default)]
struct Toll {
    bytes: usize,
    fragments: u32,
    events: u32,
}

impl Toll {
    /// Whether the shard is to be told: a few bytes are paid for with the message that they are.
    const fn is_due(&self) -> bool {
        self.fragments > 0 || self.bytes > FREE_READ_BYTES || (self.bytes > 0 && self.events == 0)
    }
}

impl Driver {
    /// Reads a session until its socket is empty, the shard pauses it or the turn's share is used up.
    pub(super) fn read_session(&mut self, id: ConnId) {
        if !self.resume_session(id) {
            return;
        }
        let mut scratch = mem::take(&mut self.read_scratch);
        let mut total = 0;
        while let Some(conn) = self.table.get_mut(id) {
            let ending = conn.ending;
            match conn.transport.read(&mut scratch) {
                Got::Bytes(n) => {
                    total += n;
                    self.shard.tally().bytes_in += n as u64;
                    let bytes = scratch.get_mut(..n).unwrap_or_default();
                    if !self.decode_session(id, Some(bytes)) {
                        break;
                    }
                    // A short read has emptied the socket, unless the kernel said that the end of the stream is there too.
                    if n < READ_SCRATCH_BYTES && !ending {
                        break;
                    }
                    if total >= TURN_READ_BYTES_MAX {
                        self.list(id);
                        break;
                    }
                }
                Got::Nothing => break,
                Got::End => {
                    if conn.is_unwelcomed() {
                        // Whoever has finished sending still hears that she was let in.
                        self.welcome(id);
                    }
                    self.doom(id);
                    break;
                }
                Got::Broken => {
                    self.doom(id);
                    break;
                }
            }
        }
        self.read_scratch = scratch;
    }

    /// Takes what an earlier read has left with the decoder. Answers whether the socket may be read.
    fn resume_session(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.table.get_mut(id) else { return false };
        let State::Open(open) = &mut conn.state else { return false };
        if open.paused {
            return false;
        }
        !mem::take(&mut open.held) || self.decode_session(id, None)
    }

    /// Decodes `bytes` (or what was held) and gives the shard every event in them. Answers whether the session wants more.
    fn decode_session(&mut self, id: ConnId, bytes: Option<&mut [u8]>) -> bool {
        let Some(conn) = self.table.get_mut(id) else { return false };
        let State::Open(open) = &mut conn.state else { return false };
        // Taken out, because the events it leads to may end the session; put back if they did not.
        let mut decoder = mem::take(&mut open.decoder);
        let profile = open.profile;
        let mut toll = Toll { bytes: bytes.as_deref().map_or(0, <[u8]>::len), ..Toll::default() };
        let decoded = self.decode(id, &mut decoder, bytes, profile, &mut toll);
        if let Some(conn) = self.table.get_mut(id)
            && let State::Open(open) = &mut conn.state
        {
            open.decoder = decoder;
            open.held = matches!(decoded, Decoded::Stopped);
        }
        let mut go_on = true;
        if toll.is_due() {
            self.give(Event::Spent { conn: id, bytes: toll.bytes, fragments: toll.fragments, inflated: 0 });
            go_on = self.wants_more(id);
        }
        match decoded {
            Decoded::Drained => return go_on,
            Decoded::Stopped => {}
            Decoded::Violated(violation) => {
                tracing::debug!(%violation, "a peer broke the protocol");
                self.give(Event::Violation { conn: id, code: close_code(violation) });
            }
            Decoded::Panicked => {
                self.shard.tally().parse_panics += 1;
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
        toll: &mut Toll,
    ) -> Decoded {
        let mut stepping = false;
        let Toll { fragments, events, .. } = toll;
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let sink = |incoming: Incoming<'_>| {
                if matches!(incoming, Incoming::Close { .. }) {
                    self.note_farewell(id);
                }
                let Some(event) = self.understand(id, incoming, profile) else {
                    self.doom(id);
                    return ControlFlow::Break(());
                };
                stepping = true;
                *events += 1;
                self.give(event);
                stepping = false;
                if self.wants_more(id) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            match bytes {
                Some(bytes) => decoder.feed_counting(bytes, &Limits::CHAT, fragments, sink),
                None => decoder.resume_counting(&Limits::CHAT, fragments, sink),
            }
        }));
        match caught {
            Ok(Ok(Progress::Drained)) => Decoded::Drained,
            // After a close frame the shard has finished the session.
            Ok(Ok(Progress::Stopped | Progress::Closed)) => Decoded::Stopped,
            Ok(Err(violation)) => Decoded::Violated(violation),
            Err(panic) if stepping => resume_unwind(panic),
            Err(_) => Decoded::Panicked,
        }
    }

    /// The peer's close frame is its last word: when ours is out, nothing has to be waited for.
    fn note_farewell(&mut self, id: ConnId) {
        if let Some(conn) = self.table.get_mut(id)
            && let State::Open(open) = &mut conn.state
        {
            open.farewell = true;
        }
    }

    /// What the peer said, as an event. Pure but for the parser's buffers. `None`: a guest who does not speak the room's language; her connection ends without a
    /// word, as simple-chatroom ends it (contract, C.1).
    fn understand(&mut self, conn: ConnId, incoming: Incoming<'_>, profile: Profile) -> Option<Event> {
        let message = match incoming {
            Incoming::Text(text) => text.as_bytes(),
            Incoming::Binary(bytes) => bytes,
            Incoming::Ping(payload) => return Some(Event::Ping { conn, payload: payload.into() }),
            Incoming::Pong(payload) => return Some(Event::Pong { conn, payload: payload.into() }),
            Incoming::Close { code } => return Some(Event::PeerClosed { conn, code }),
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
        self.table.get(id).is_some_and(|conn| !conn.doomed && matches!(&conn.state, State::Open(open) if !open.paused))
    }

    /// Reads a parting connection only to find the end of its stream: its bytes have no meaning any more.
    pub(super) fn discard(&mut self, id: ConnId) {
        let mut scratch = mem::take(&mut self.read_scratch);
        let mut total = 0;
        while let Some(conn) = self.table.get_mut(id) {
            match conn.transport.read(&mut scratch) {
                Got::Bytes(n) => {
                    total += n;
                    if total >= TURN_READ_BYTES_MAX {
                        self.list(id);
                        break;
                    }
                }
                Got::Nothing => break,
                Got::End => {
                    self.heard_end(id);
                    break;
                }
                Got::Broken => {
                    self.doom(id);
                    break;
                }
            }
        }
        self.read_scratch = scratch;
    }

    /// The peer has finished. If we have too, that is the end; else it may still be reading our last words.
    fn heard_end(&mut self, id: ConnId) {
        let Some(conn) = self.table.get_mut(id) else { return };
        let State::Parting(parting) = &mut conn.state else { return };
        parting.heard_end = true;
        if parting.finished {
            self.doom(id);
        }
    }
}

/// The chat's name for the status code of a violation.
fn close_code(violation: Violation) -> CloseCode {
    CloseCode::ALL.into_iter().find(|code| code.code() == violation.close_code()).unwrap_or(CloseCode::Protocol)
}
