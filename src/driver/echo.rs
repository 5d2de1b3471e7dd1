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
use super::ready::Recent;
use super::transport::{Got, Took};
use crate::fair::Holding;
use crate::ids::ConnId;
use crate::limits::{ECHO_QUEUE_BYTES_MAX, READ_SCRATCH_BYTES};
use crate::wire::push;
use crate::ws::frame::{BINARY, TEXT};
use crate::ws::{Decoder, Incoming, Limits, Progress, frame};

/// An echo connection.
#[derive(Default)]
pub(super) struct Echo {
    decoder: Decoder,
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
    pub(super) fn new(unread: &[u8]) -> Self {
        let mut decoder = Decoder::default();
        decoder.keep(unread);
        Self { decoder, held: !unread.is_empty(), ..Self::default() }
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
    fn answer(&mut self, bytes: Option<&mut [u8]>) -> Option<Box<[u8]>> {
        let (queue, mut last) = (&mut self.queue, None);
        let sent = self.sent;
        let sink = |incoming: Incoming<'_>| {
            match incoming {
                Incoming::Text(text) => append(queue, TEXT, text.as_bytes()),
                Incoming::Binary(bytes) => append(queue, BINARY, bytes),
                Incoming::Ping(payload) => queue.extend_from_slice(&push::pong(payload)),
                Incoming::Pong(_) => {}
                Incoming::Close { code } => last = Some(push::close_echo(code)),
            }
            if queue.len() - sent > ECHO_QUEUE_BYTES_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let progress = match bytes {
            Some(bytes) => self.decoder.feed(bytes, &Limits::ECHO, sink),
            None => self.decoder.resume(&Limits::ECHO, sink),
        };
        self.held = matches!(progress, Ok(Progress::Stopped));
        match progress {
            Ok(_) => last,
            Err(violation) => Some(push::close_echo(Some(violation.close_code()))),
        }
    }
}

/// Appends one unfragmented frame.
fn append(queue: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
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
            last = echo.answer(None);
        }
        let reads = last.is_none() && !echo.held && echo.waiting() <= ECHO_QUEUE_BYTES_MAX;
        let mut scratch = mem::take(&mut self.read_scratch);
        if reads {
            got = self.pull(id, &mut scratch, READ_SCRATCH_BYTES);
        }
        let Some(conn) = self.table.get_mut(id) else { return 0 };
        let ending = conn.ending;
        let State::Echo(echo) = &mut conn.state else { return 0 };
        let (read, whole) = if let Got::Bytes { n, drained } = got { (n, drained) } else { (0, true) };
        if read > 0 {
            last = echo.answer(scratch.get_mut(..read));
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
                self.part(id, words);
            }
            (None, Got::End | Got::Broken) => self.doom(id),
            (None, Got::Bytes { drained, .. }) => {
                self.soil(id);
                if !drained || ending {
                    self.list(id);
                }
            }
            (None, Got::Nothing) => self.soil(id),
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
            Took::All if waited == 0 => {}
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
            Took::Broken => self.doom(id),
        }
        waited
    }
}
