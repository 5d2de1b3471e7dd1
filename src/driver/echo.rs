//! The hidden echo route: every message comes back as it was, so that a protocol test suite can
//! judge the codec.
//!
//! Owns: the state of an echo connection. It is no session: the shard does not know it.
//! Bounds: [`Limits::ECHO`] for a message; it is not read while more than [`ECHO_QUEUE_BYTES_MAX`]
//! wait to be written.

use std::mem;
use std::ops::ControlFlow;

use super::Driver;
use super::conn::State;
use super::inflating::open;
use super::ready::Recent;
use super::transport::{Got, Took};
use crate::fair::Holding;
use crate::ids::ConnId;
use crate::limits::{ECHO_QUEUE_BYTES_MAX, READ_SCRATCH_BYTES};
use crate::metrics::DriverTally;
use crate::wire::push;
use crate::ws::deflate::{Deflater, Inflater, Window};
use crate::ws::frame::{BINARY, TEXT};
use crate::ws::{Decoder, Incoming, Limits, Progress, frame};

/// An echo connection.
#[derive(Default)]
pub(super) struct Echo {
    decoder: Decoder,
    /// With which window the peer inflates, if compression was agreed upon.
    deflate: Option<Window>,
    /// Frames for the peer, and how much of them it has.
    queue: Vec<u8>,
    sent: usize,
    /// The decoder holds unread bytes.
    held: bool,
    /// Monotonic milliseconds at which it was read last.
    read_ms: u64,
    /// What it has brought lately.
    pub(super) recent: Recent,
}

impl Echo {
    /// An echo connection that has already sent `unread`.
    pub(super) fn new(deflate: Option<Window>, unread: &[u8]) -> Self {
        let mut decoder = Decoder::default();
        decoder.keep(unread);
        Self { decoder, deflate, held: !unread.is_empty(), ..Self::default() }
    }

    fn waiting(&self) -> usize {
        self.queue.len() - self.sent
    }

    /// What it keeps is as if it had begun now.
    pub(super) const fn note_anew(&mut self, now_ms: u64) {
        self.read_ms = now_ms;
    }

    /// What it keeps.
    pub(super) fn holding(&self) -> Holding {
        Holding { bytes: self.decoder.heap_bytes() + self.queue.capacity(), since_ms: self.read_ms }
    }

    /// Answers everything in `bytes` (or in what was held). `Some` is the last frame: the
    /// connection ends with it.
    fn answer(&mut self, bytes: Option<&mut [u8]>, tools: &mut Tools<'_>) -> Option<Box<[u8]>> {
        let (queue, mut last, mut spoiled) = (&mut self.queue, None, None);
        let (sent, deflate) = (self.sent, self.deflate);
        let limits = Limits::ECHO.with_deflate(deflate.is_some());
        let sink = |incoming: Incoming<'_>| {
            let was_deflated = matches!(incoming, Incoming::Deflated { .. });
            let window = deflate.filter(|_| was_deflated);
            let incoming = match open(tools.inflater, tools.tally, incoming, limits.message_bytes, &mut 0) {
                Ok(incoming) => incoming,
                Err(violation) => {
                    spoiled = Some(violation);
                    return ControlFlow::Break(());
                }
            };
            match incoming {
                Incoming::Text(text) => append(queue, TEXT, text.as_bytes(), window, tools.deflater),
                Incoming::Binary(bytes) => append(queue, BINARY, bytes, window, tools.deflater),
                // Was opened before.
                Incoming::Deflated { .. } => {}
                Incoming::Ping(payload) => queue.extend_from_slice(&push::pong(payload)),
                Incoming::Pong(_) => {}
                Incoming::Close { code } => last = Some(push::close_echo(code)),
            }
            if queue.len() - sent > ECHO_QUEUE_BYTES_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let progress = match bytes {
            Some(bytes) => self.decoder.feed(bytes, &limits, sink),
            None => self.decoder.resume(&limits, sink),
        };
        let progress = spoiled.map_or(progress, Err);
        self.held = matches!(progress, Ok(Progress::Stopped));
        match progress {
            Ok(_) => last,
            Err(violation) => Some(push::close_echo(Some(violation.close_code()))),
        }
    }
}

/// What the thread has for compressed messages.
struct Tools<'a> {
    inflater: &'a mut Option<Box<Inflater>>,
    deflater: &'a mut Deflater,
    tally: &'a mut DriverTally,
}

/// Appends one unfragmented frame: compressed for a peer that inflates with a `window` that holds
/// it.
fn append(queue: &mut Vec<u8>, opcode: u8, payload: &[u8], window: Option<Window>, deflater: &mut Deflater) {
    if window.is_some_and(|window| window.holds(payload.len())) {
        return deflater.append_always(queue, opcode, payload);
    }
    frame::write_header(queue, opcode, payload.len());
    queue.extend_from_slice(payload);
}

impl Driver {
    /// Reads an echo connection once, and whatever it held before. Answers how many bytes came.
    pub(super) fn read_echo(&mut self, id: ConnId) -> usize {
        let Some(conn) = self.table.get_mut(id) else { return 0 };
        let State::Echo(echo) = &mut conn.state else { return 0 };
        let before = echo.holding();
        echo.read_ms = self.now.mono_ms;
        let mut last = None;
        let mut got = Got::Nothing;
        if echo.held {
            let tools =
                &mut Tools { inflater: &mut self.inflater, deflater: &mut self.echo_deflater, tally: &mut self.tally };
            last = echo.answer(None, tools);
        }
        let reads = last.is_none() && !echo.held && echo.waiting() <= ECHO_QUEUE_BYTES_MAX;
        let mut scratch = mem::take(&mut self.read_scratch);
        if reads {
            got = self.pull(id, &mut scratch, READ_SCRATCH_BYTES);
        }
        let Some(conn) = self.table.get_mut(id) else { return 0 };
        let ending = conn.ending();
        let State::Echo(echo) = &mut conn.state else { return 0 };
        let (read, whole) = if let Got::Bytes { n, drained, .. } = got { (n, drained) } else { (0, true) };
        if read > 0 {
            let tools =
                &mut Tools { inflater: &mut self.inflater, deflater: &mut self.echo_deflater, tally: &mut self.tally };
            last = echo.answer(scratch.get_mut(..read), tools);
        }
        self.read_scratch = scratch;
        if !whole {
            echo.recent.use_up(self.now.mono_ms);
        } else {
            echo.recent.add(self.now.mono_ms, read as u64 / 1024);
        }
        self.inbound.change(id, before, echo.holding());
        match (last, got) {
            (Some(frame), _) => {
                let before = echo.holding();
                let mut words = echo.queue.split_off(echo.sent);
                words.extend_from_slice(&frame);
                self.inbound.change(id, before, echo.holding());
                self.close(id, words);
            }
            (None, Got::End | Got::Broken) => self.mark_closed(id),
            (None, Got::Bytes { drained, .. }) => {
                self.mark_dirty(id);
                if !drained || ending {
                    self.list(id);
                }
            }
            (None, Got::Nothing) => self.mark_dirty(id),
        }
        read
    }

    /// Writes what waits for an echo connection; when it is all out, what was held back is
    /// answered.
    pub(super) fn flush_echo(&mut self, id: ConnId) -> usize {
        let Some(conn) = self.table.get_mut(id) else { return 0 };
        let State::Echo(echo) = &mut conn.state else { return 0 };
        // Taken out while it is written.
        let (queue, sent) = (mem::take(&mut echo.queue), echo.sent);
        let bytes = queue.get(sent..).unwrap_or_default();
        let waited = bytes.len();
        let took = match self.settle_records(id) {
            Took::All if waited > 0 => self.push(id, bytes),
            Took::All => Took::All,
            // Nothing of the queue.
            Took::Part(_) => Took::Part(0),
            Took::Broken => Took::Broken,
        };
        let Some(conn) = self.table.get_mut(id) else { return 0 };
        let State::Echo(echo) = &mut conn.state else { return 0 };
        echo.queue = queue;
        match took {
            // There was nothing, not even a record that had been cut behind all of the queue.
            Took::All if waited == 0 && echo.queue.is_empty() => {}
            Took::All => {
                let before = echo.holding();
                echo.queue = Vec::new();
                echo.sent = 0;
                self.inbound.change(id, before, echo.holding());
                // The edge that announced more may have passed while the queue was full.
                self.list(id);
            }
            Took::Part(n) => {
                echo.sent += n;
                self.block(id);
            }
            Took::Broken => self.mark_closed(id),
        }
        waited
    }
}
