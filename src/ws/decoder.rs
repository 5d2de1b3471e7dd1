//! From the bytes of one connection to its messages.
//!
//! Owns: [`Decoder`], the receiving state of a connection: the message that is being assembled, the
//! bytes that cannot be decoded yet, and whether the stream has ended.
//! Never: copies or allocates for a message that arrived whole; keeps memory while nothing is
//! incomplete; reserves room because a header claims a length; hands anything out after a close
//! frame or a violation.
//! Bounds: [`Limits`] for the message; for undecoded bytes [`UNREAD_BYTES_MAX`], and below
//! `TAIL_BYTES_MAX` unless the sink stopped.

use std::mem;
use std::ops::ControlFlow;

use tungstenite::protocol::frame::coding::CloseCode;

use super::frame::{self, Header, apply_mask};
use super::{Limits, Violation};
use crate::limits::{CONTROL_BYTES_MAX, UNREAD_BYTES_MAX};

#[cfg(test)]
mod tests;

/// The receiving half of one connection, made for a driver with one scratch buffer for all its
/// connections:
///
/// 1. Read the socket into the scratch buffer, give what came to [`feed`](Self::feed).
/// 2. The sink gets each message, borrowed from the scratch buffer if it arrived whole. It answers
///    [`ControlFlow::Break`] when it can take no more *after* this one.
/// 3. After [`Progress::Stopped`], do not read the socket. When the session can go on, call
///    [`resume`](Self::resume) until it answers [`Progress::Drained`]; only then read again.
///
/// A driver that shares its time gives each call an allowance of frames
/// ([`feed_frames`](Self::feed_frames)): a peer can make thousands of frames that no sink hears of
/// out of one read.
///
/// Idle, it is 8 bytes and owns no heap memory.
#[derive(Default, Debug)]
pub struct Decoder {
    /// What is incomplete or unread, or that the stream has ended. `None` between messages: the
    /// only state of nearly all connections nearly always.
    partial: Option<Box<Partial>>,
}

const _: () = assert!(size_of::<Decoder>() <= 8, "a million idle decoders cost 8 MB");

/// One thing that the peer said. Borrowed: from the driver's scratch buffer, or from the decoder's
/// memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Incoming<'a> {
    /// A whole text message.
    Text(&'a str),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// A whole message in its compressed form, on a connection where these may come: to be opened
    /// by an [`Inflater`](super::deflate::Inflater).
    Deflated {
        /// It becomes a text, otherwise a binary message.
        text: bool,
        /// What came.
        payload: &'a [u8],
    },
    /// A ping, to be answered with the same payload of at most [`CONTROL_BYTES_MAX`] bytes.
    Ping(&'a [u8]),
    /// A pong, asked for or not.
    Pong(&'a [u8]),
    /// The peer closes: the last thing that a sink gets. The code is one that may be sent (RFC
    /// 6455, section 7.4).
    Close {
        /// `None`: the close frame was empty.
        code: Option<u16>,
    },
}

impl<'a> Incoming<'a> {
    /// Its payload, without the code of a close frame.
    #[must_use]
    pub const fn payload(self) -> &'a [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) | Self::Ping(bytes) | Self::Pong(bytes) | Self::Deflated { payload: bytes, .. } => {
                bytes
            }
            Self::Close { .. } => &[],
        }
    }
}

/// How far a call came.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Progress {
    /// Every message that has arrived was handed out. Read the socket.
    Drained,
    /// The sink stopped, or the allowance of frames is used up. There may be more to hand out: call
    /// [`Decoder::resume`] before reading the socket.
    Stopped,
    /// The peer has closed, or has violated the protocol before. Whatever it sends is dropped.
    Closed,
}

/// What a connection owns while something is incomplete.
#[derive(Default, Debug)]
struct Partial {
    /// Bytes as they came, still masked, from `unread_from` on: the start of a header or control
    /// frame, or what the sink did not want yet.
    unread: Vec<u8>,
    /// How much of `unread` has been decoded; at most half of it.
    unread_from: usize,
    /// The open data message.
    message: Option<Assembly>,
    /// When the driver noted first that this message or, without one, this frame is incomplete; in
    /// its milliseconds.
    since_ms: Option<u64>,
    /// A close frame or a violation has been seen. Never cleared, and nothing else is kept any
    /// more.
    ended: bool,
}

/// A data message of which a part has arrived.
#[derive(Debug)]
struct Assembly {
    /// Text, otherwise binary.
    text: bool,
    /// It is compressed.
    deflated: bool,
    /// Frames so far, at most [`Limits::fragments`].
    fragments: u32,
    /// The unmasked payload so far, at most [`Limits::message_bytes`].
    bytes: Vec<u8>,
    /// Of a text that is not compressed: `bytes[..valid]` is UTF-8, and what follows (at most three
    /// bytes) may become it.
    valid: usize,
    /// The frame whose payload is arriving; `None` between two fragments.
    frame: Option<Arriving>,
}

/// The rest of a data frame.
#[derive(Clone, Copy, Debug)]
struct Arriving {
    /// The message ends with this frame.
    fin: bool,
    /// Payload bytes that have not come.
    remaining: usize,
    /// The masking key, turned so that it starts at the next byte.
    mask: [u8; 4],
}

/// The longest beginning that is kept as it came: one byte less is the most of a masked control
/// frame that is not whole.
const TAIL_BYTES_MAX: usize = frame::CLIENT_HEADER_BYTES_MAX + CONTROL_BYTES_MAX;

impl Decoder {
    /// Decodes `input`, the next bytes of the connection, in place: afterwards its content is
    /// undefined. Whatever cannot be decoded yet is kept, so the caller can reuse the buffer at
    /// once. A driver reads at most [`UNREAD_BYTES_MAX`] at a time, and not while the sink is
    /// stopped.
    ///
    /// # Errors
    /// The [`Violation`] that ends the connection; the messages before it have been handed out.
    /// Told once: later calls answer [`Progress::Closed`].
    pub fn feed<S>(&mut self, input: &mut [u8], limits: &Limits, sink: S) -> Result<Progress, Violation>
    where
        S: FnMut(Incoming<'_>) -> ControlFlow<()>,
    {
        self.feed_frames(input, limits, &mut { u32::MAX }, sink)
    }

    /// As [`feed`](Self::feed), for at most `frames` frames, of which those that were begun are
    /// taken away: also the fragments and empty frames that no sink hears of.
    ///
    /// # Errors
    /// As there.
    pub fn feed_frames<S>(
        &mut self,
        input: &mut [u8],
        limits: &Limits,
        frames: &mut u32,
        mut sink: S,
    ) -> Result<Progress, Violation>
    where
        S: FnMut(Incoming<'_>) -> ControlFlow<()>,
    {
        let mut from = 0;
        if self.has_unread() {
            // The start of a frame is waiting. It is completed in the decoder's memory with a few
            // bytes of the input, and those that were not needed are decoded where they came from:
            // only the frame on the border is copied.
            let lent = input.len().min(TAIL_BYTES_MAX);
            self.keep(input.get(..lent).unwrap_or_default());
            let progress = self.resume_frames(limits, frames, &mut sink)?;
            from = lent - self.take_back(lent);
            if progress != Progress::Drained {
                self.keep(input.get(from..).unwrap_or_default());
                return Ok(progress);
            }
        }
        let rest = input.get_mut(from..).unwrap_or_default();
        let outcome = self.run(rest, limits, frames, &mut sink);
        if let Ok((taken, _)) = outcome {
            self.renew(taken);
            self.keep(rest.get(taken..).unwrap_or_default());
        }
        self.settle(outcome)
    }

    /// Goes on after [`Progress::Stopped`] with the bytes that are already there.
    ///
    /// # Errors
    /// As [`feed`](Self::feed).
    pub fn resume<S>(&mut self, limits: &Limits, sink: S) -> Result<Progress, Violation>
    where
        S: FnMut(Incoming<'_>) -> ControlFlow<()>,
    {
        self.resume_frames(limits, &mut { u32::MAX }, sink)
    }

    /// As [`resume`](Self::resume), for at most `frames` frames, as
    /// [`feed_frames`](Self::feed_frames) counts them.
    ///
    /// # Errors
    /// As [`feed`](Self::feed).
    pub fn resume_frames<S>(&mut self, limits: &Limits, frames: &mut u32, mut sink: S) -> Result<Progress, Violation>
    where
        S: FnMut(Incoming<'_>) -> ControlFlow<()>,
    {
        let Some(partial) = &mut self.partial else { return Ok(Progress::Drained) };
        if partial.ended {
            return Ok(Progress::Closed);
        }
        let (mut unread, mut from) = (mem::take(&mut partial.unread), mem::take(&mut partial.unread_from));
        let outcome = self.run(unread.get_mut(from..).unwrap_or_default(), limits, frames, &mut sink);
        if let Ok((taken, _)) = outcome {
            self.renew(taken);
            from += taken;
            // Moving the rest forward only when it is the smaller half keeps a sink that stops
            // after every message linear.
            if from * 2 >= unread.len() {
                unread.drain(..from);
                unread.shrink_to_fit();
                from = 0;
            }
            if !unread.is_empty() {
                let partial = self.partial.get_or_insert_default();
                (partial.unread, partial.unread_from) = (unread, from);
            }
        }
        self.settle(outcome)
    }

    /// Keeps bytes undecoded, behind those that are kept already: what came together with the
    /// request head, before the session can take messages. [`resume`](Self::resume) decodes them.
    pub fn keep(&mut self, bytes: &[u8]) {
        if bytes.is_empty() || self.has_ended() {
            return;
        }
        let unread = &mut self.partial.get_or_insert_default().unread;
        unread.reserve_exact(bytes.len());
        unread.extend_from_slice(bytes);
        debug_assert!(
            self.unread_bytes() <= UNREAD_BYTES_MAX + TAIL_BYTES_MAX,
            "the driver reads while the sink is stopped"
        );
    }

    /// Notes at `now_ms` (any clock that only goes forward) that something is incomplete, unless
    /// that is noted already.
    pub fn note_since(&mut self, now_ms: u64) {
        if let Some(partial) = &mut self.partial {
            partial.since_ms.get_or_insert(now_ms);
        }
    }

    /// Notes at `now_ms` that what is incomplete counts as begun just now.
    pub fn note_anew(&mut self, now_ms: u64) {
        if let Some(partial) = &mut self.partial {
            partial.since_ms = Some(now_ms);
        }
    }

    /// Since when the same message, or a frame outside of one, is incomplete, as
    /// [`note_since`](Self::note_since) has noted it; 0 before that, and when nothing is.
    #[must_use]
    pub fn since_ms(&self) -> u64 {
        self.partial.as_ref().and_then(|partial| partial.since_ms).unwrap_or_default()
    }

    /// Heap memory that the connection's input occupies, in bytes; 0 when nothing is incomplete.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| {
            let message = partial.message.as_ref().map_or(0, |message| message.bytes.capacity());
            size_of::<Partial>() + partial.unread.capacity() + message
        })
    }

    fn has_ended(&self) -> bool {
        self.partial.as_ref().is_some_and(|partial| partial.ended)
    }

    fn has_unread(&self) -> bool {
        self.unread_bytes() > 0
    }

    fn unread_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| partial.unread.len() - partial.unread_from)
    }

    /// Forgets the unread bytes if all of them are among the last `lent` ones, and says how many
    /// they were.
    fn take_back(&mut self, lent: usize) -> usize {
        let unread = self.unread_bytes();
        if unread > lent {
            return 0;
        }
        if let Some(partial) = &mut self.partial {
            partial.unread = Vec::new();
            partial.unread_from = 0;
        }
        self.release();
        unread
    }

    /// Bytes were decoded: what is incomplete now, unless it is the same message, is so only from
    /// now on.
    fn renew(&mut self, taken: usize) {
        if let Some(partial) = &mut self.partial
            && partial.message.is_none()
            && taken > 0
        {
            partial.since_ms = None;
        }
    }

    /// Ends a call: a closed stream keeps nothing, an open one only what is incomplete.
    fn settle(&mut self, outcome: Result<(usize, Progress), Violation>) -> Result<Progress, Violation> {
        let progress = outcome.map(|(_, progress)| progress);
        if matches!(progress, Err(_) | Ok(Progress::Closed)) {
            self.end();
        }
        self.release();
        progress
    }

    fn end(&mut self) {
        self.partial = Some(Box::new(Partial { ended: true, ..Partial::default() }));
    }

    fn release(&mut self) {
        let idle = |partial: &Partial| partial.unread.is_empty() && partial.message.is_none() && !partial.ended;
        if self.partial.as_deref().is_some_and(idle) {
            self.partial = None;
        }
    }

    /// Decodes from the start of `rest`, up to `frames` frames, and says how many bytes it took.
    /// What it leaves after [`Progress::Drained`] is the beginning of a frame, shorter than
    /// [`TAIL_BYTES_MAX`].
    fn run<S>(
        &mut self,
        mut rest: &mut [u8],
        limits: &Limits,
        frames: &mut u32,
        sink: &mut S,
    ) -> Result<(usize, Progress), Violation>
    where
        S: FnMut(Incoming<'_>) -> ControlFlow<()>,
    {
        if self.has_ended() {
            return Ok((rest.len(), Progress::Closed));
        }
        let offered = rest.len();
        loop {
            let taken = if let Some(message) = self.arriving() {
                if !message.absorb(&mut rest)? {
                    return Ok((offered, Progress::Drained));
                }
                self.finish_frame(sink)?
            } else {
                let Some(header) = Header::parse(rest, limits.deflate)? else {
                    return Ok((offered - rest.len(), Progress::Drained));
                };
                self.admit(&header, limits)?;
                // `admit` compared the length with a `usize`, and a control frame's is below 126.
                let payload_len = usize::try_from(header.payload_len).map_err(|_| Violation::MessageTooBig)?;
                let whole = rest.len() - header.header_len >= payload_len;
                if header.is_control() && !whole {
                    return Ok((offered - rest.len(), Progress::Drained));
                }
                let Some(fewer) = frames.checked_sub(1) else { return Ok((offered - rest.len(), Progress::Stopped)) };
                *frames = fewer;
                let body = mem::take(&mut rest).get_mut(header.header_len..).unwrap_or_default();
                if whole && header.fin && header.opcode != frame::CONTINUATION {
                    let (payload, after) = body.split_at_mut(payload_len);
                    rest = after;
                    apply_mask(payload, header.mask);
                    if header.opcode == frame::CLOSE {
                        let code = close_code(payload)?;
                        // Nothing follows a close frame, so the sink's wish to stop means nothing
                        // either.
                        let _ = sink(Incoming::Close { code });
                        self.end();
                        return Ok((offered - rest.len(), Progress::Closed));
                    }
                    sink(incoming(header.opcode, header.deflated, payload)?)
                } else {
                    rest = body;
                    self.begin_frame(&header, payload_len);
                    ControlFlow::Continue(())
                }
            };
            if taken.is_break() {
                return Ok((offered - rest.len(), Progress::Stopped));
            }
        }
    }

    /// The open message, if the payload of one of its frames is due.
    fn arriving(&mut self) -> Option<&mut Assembly> {
        self.partial.as_mut()?.message.as_mut().filter(|message| message.frame.is_some())
    }

    /// Judges a frame by the message that it belongs to, before any byte of its payload is kept.
    fn admit(&self, header: &Header, limits: &Limits) -> Result<(), Violation> {
        if header.is_control() {
            return Ok(());
        }
        let open = self.partial.as_ref().and_then(|partial| partial.message.as_ref());
        let (bytes, fragments) = match (open, header.opcode) {
            (None, frame::CONTINUATION) => return Err(Violation::OrphanContinuation),
            (Some(message), frame::CONTINUATION) => (message.bytes.len(), message.fragments),
            (Some(_), _) => return Err(Violation::InterruptedMessage),
            (None, _) => (0, 0),
        };
        if header.payload_len > limits.message_bytes.saturating_sub(bytes) as u64 {
            return Err(Violation::MessageTooBig);
        }
        if fragments >= limits.fragments {
            return Err(Violation::TooManyFragments);
        }
        Ok(())
    }

    /// Starts a frame that is a fragment, or not all here. `admit` has let it in.
    fn begin_frame(&mut self, header: &Header, payload_len: usize) {
        let partial = self.partial.get_or_insert_default();
        if partial.message.is_none() {
            partial.since_ms = None;
        }
        let message = partial.message.get_or_insert_with(|| Assembly {
            text: header.opcode == frame::TEXT,
            deflated: header.deflated,
            fragments: 0,
            bytes: Vec::new(),
            valid: 0,
            frame: None,
        });
        message.fragments += 1;
        message.frame = Some(Arriving { fin: header.fin, remaining: payload_len, mask: header.mask });
    }

    /// The open frame has all its payload: hands the message out if it was the last one.
    fn finish_frame<S>(&mut self, sink: &mut S) -> Result<ControlFlow<()>, Violation>
    where
        S: FnMut(Incoming<'_>) -> ControlFlow<()>,
    {
        let Some(partial) = &mut self.partial else { return Ok(ControlFlow::Continue(())) };
        let frame = partial.message.as_mut().and_then(|message| message.frame.take());
        if frame.is_some_and(|frame| frame.fin)
            && let Some(message) = partial.message.take()
        {
            let opcode = if message.text { frame::TEXT } else { frame::BINARY };
            return Ok(sink(incoming(opcode, message.deflated, &message.bytes)?));
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl Assembly {
    /// Takes what has arrived of the open frame's payload; true when that was all of it.
    fn absorb(&mut self, rest: &mut &mut [u8]) -> Result<bool, Violation> {
        let Some(frame) = &mut self.frame else { return Ok(true) };
        let len = frame.remaining.min(rest.len());
        let (payload, after) = mem::take(rest).split_at_mut(len);
        *rest = after;
        apply_mask(payload, frame.mask);
        let turn = len % frame.mask.len();
        frame.mask.rotate_left(turn);
        frame.remaining -= len;
        let remaining = frame.remaining;

        // Doubling keeps appending linear; the end of the frame is a bound that saves up to half of
        // the memory. A claimed length alone reserves nothing.
        let needed = self.bytes.len() + len;
        if needed > self.bytes.capacity() {
            let wanted = (self.bytes.capacity() * 2).clamp(needed, needed + remaining);
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(payload);
        if self.text && !self.deflated {
            self.validate()?;
        }
        Ok(remaining == 0)
    }

    /// Fails on the first byte that no UTF-8 text can have here, whatever follows: a peer is told
    /// at once, not at the end of 64 KiB (Autobahn 6.4). Looks at each byte once, apart from an
    /// unfinished character.
    fn validate(&mut self) -> Result<(), Violation> {
        match simdutf8::compat::from_utf8(self.bytes.get(self.valid..).unwrap_or_default()) {
            Ok(text) => self.valid += text.len(),
            Err(error) if error.error_len().is_none() => self.valid += error.valid_up_to(),
            Err(_) => return Err(Violation::BadText),
        }
        Ok(())
    }
}

/// A whole message or control frame other than a close. An assembled text is checked a second time
/// here: it is rare, the check costs less than the copy did, and the type says the truth without
/// `unsafe`.
fn incoming(opcode: u8, deflated: bool, payload: &[u8]) -> Result<Incoming<'_>, Violation> {
    Ok(match opcode {
        _ if deflated => Incoming::Deflated { text: opcode == frame::TEXT, payload },
        frame::TEXT => Incoming::Text(simdutf8::basic::from_utf8(payload).map_err(|_| Violation::BadText)?),
        frame::PING => Incoming::Ping(payload),
        frame::PONG => Incoming::Pong(payload),
        _ => Incoming::Binary(payload),
    })
}

/// The code of a close frame, if it has one (RFC 6455, sections 5.5.1 and 7.4).
fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let Some((&code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(Violation::ShortClose) };
    };
    if simdutf8::basic::from_utf8(reason).is_err() {
        return Err(Violation::BadCloseReason);
    }
    let code = u16::from_be_bytes(code);
    if !CloseCode::from(code).is_allowed() {
        return Err(Violation::BadCloseCode(code));
    }
    Ok(Some(code))
}
