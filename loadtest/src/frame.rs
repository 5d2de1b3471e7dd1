//! The client side of RFC 6455 framing: masked frames out, unmasked frames in, whatever way the
//! bytes are cut.
//!
//! Owns: [`encode`] and the incremental [`Decoder`], which keeps memory only while a frame or
//! message is incomplete.
//! Never: copies a frame that lies whole in the read buffer; accepts what a client must not accept
//! from a server.
//! Bounds: a message is at most [`MESSAGE_BYTES_MAX`].

use tungstenite::protocol::frame::coding::CloseCode;

use crate::limits::MESSAGE_BYTES_MAX;

/// Kinds of frames that we send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Opcode {
    Text = 1,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// What the server sent: a whole message, or a control frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Frame<'a> {
    /// A text message, valid UTF-8.
    Text(&'a str),
    Binary(&'a [u8]),
    /// A text message, compressed; only where that was agreed upon.
    Packed(&'a [u8]),
    Ping(&'a [u8]),
    Pong(&'a [u8]),
    /// A close frame with its code, if it gave one, and its reason. Nothing after it is looked at.
    Close(Option<u16>, &'a str),
}

/// How a server can break RFC 6455.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum FrameFault {
    #[error("a reserved bit is set")]
    ReservedBit,
    #[error("unknown opcode {0}")]
    Opcode(u8),
    #[error("a masked frame from the server")]
    Masked,
    #[error("a control frame that is fragmented or longer than 125 bytes")]
    Control,
    #[error("a continuation of nothing, or a new message inside another")]
    Fragment,
    #[error("a message above {MESSAGE_BYTES_MAX} bytes")]
    TooBig,
    #[error("a text that is not UTF-8")]
    Utf8,
    #[error("a malformed close frame")]
    Close,
}

/// Appends one final, masked frame to `out`.
pub(crate) fn encode(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: [u8; 4]) {
    piece(out, 0x80 | opcode as u8, payload, mask);
}

/// Appends one masked frame with any first byte: a fragment has no final bit, and all but the
/// first have opcode 0.
pub(crate) fn piece(out: &mut Vec<u8>, first: u8, payload: &[u8], mask: [u8; 4]) {
    out.push(first);
    match payload.len() {
        n @ 0..=125 => out.push(0x80 | n as u8),
        n @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(n as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    let (words, rest) = out[start..].as_chunks_mut::<4>();
    let word = u32::from_ne_bytes(mask);
    for four in words {
        *four = (u32::from_ne_bytes(*four) ^ word).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask) {
        *byte ^= key;
    }
}

/// Cuts a server's bytes into frames and puts fragments together. An idle one is a null pointer.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    held: Option<Box<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    /// The beginning of a frame that is not whole.
    bytes: Vec<u8>,
    /// The fragments so far of the message in progress.
    message: Vec<u8>,
    /// Kind of the message in progress.
    kind: Option<Kind>,
    /// Whether messages may be compressed.
    deflate: bool,
    /// A close frame was seen: the rest is ignored.
    closed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Text,
    Binary,
    /// A text, compressed.
    Packed,
}

/// One frame in front of `rest`.
struct Split<'a> {
    last: bool,
    opcode: u8,
    packed: bool,
    payload: &'a [u8],
    rest: &'a [u8],
}

impl Decoder {
    /// Takes what was read and hands every message that is complete to `each`, in order.
    pub(crate) fn feed(&mut self, input: &[u8], each: impl FnMut(Frame<'_>)) -> Result<(), FrameFault> {
        self.feed_as(false, input, each)
    }

    /// As [`Decoder::feed`], of a connection that has agreed to compressed messages if `deflate`.
    pub(crate) fn feed_as(
        &mut self,
        deflate: bool,
        input: &[u8],
        mut each: impl FnMut(Frame<'_>),
    ) -> Result<(), FrameFault> {
        let Some(mut held) = self.held.take() else {
            // The usual case: whole frames, nothing held, nothing to allocate.
            let mut rest = input;
            while let Some(frame) = split(rest, deflate)? {
                if !frame.last || frame.opcode == 8 || frame.opcode == 0 {
                    break;
                }
                rest = frame.rest;
                each(whole(&frame)?);
            }
            if rest.is_empty() {
                return Ok(());
            }
            let mut held = Box::new(Held { deflate, ..Held::default() });
            let left = held.take_frames(rest, &mut each)?;
            held.bytes = left.to_vec();
            self.keep(held);
            return Ok(());
        };
        let mut joined = std::mem::take(&mut held.bytes);
        joined.extend_from_slice(input);
        let left = held.take_frames(&joined, &mut each)?.len();
        // Draining moves only what is left; a long frame that is still incomplete is not copied
        // again.
        joined.drain(..joined.len() - left);
        held.bytes = joined;
        self.keep(held);
        Ok(())
    }

    fn keep(&mut self, held: Box<Held>) {
        if !held.bytes.is_empty() || held.kind.is_some() || held.closed {
            self.held = Some(held);
        }
    }
}

impl Held {
    /// Handles every whole frame of `bytes` and returns what is left.
    fn take_frames<'a>(
        &mut self,
        mut bytes: &'a [u8],
        each: &mut impl FnMut(Frame<'_>),
    ) -> Result<&'a [u8], FrameFault> {
        while !self.closed {
            let Some(frame) = split(bytes, self.deflate)? else { return Ok(bytes) };
            bytes = frame.rest;
            match frame.opcode {
                0 => self.continue_message(frame.last, frame.payload, each)?,
                1 | 2 if self.kind.is_some() => return Err(FrameFault::Fragment),
                1 | 2 if !frame.last => {
                    self.kind = Some(match frame.opcode {
                        1 if frame.packed => Kind::Packed,
                        1 => Kind::Text,
                        _ => Kind::Binary,
                    });
                    self.message = frame.payload.to_vec();
                }
                8 => {
                    self.closed = true;
                    let (code, reason) = close_code(frame.payload)?;
                    each(Frame::Close(code, reason));
                }
                _ => each(whole(&frame)?),
            }
        }
        Ok(&[])
    }

    fn continue_message(
        &mut self,
        last: bool,
        payload: &[u8],
        each: &mut impl FnMut(Frame<'_>),
    ) -> Result<(), FrameFault> {
        let kind = self.kind.ok_or(FrameFault::Fragment)?;
        if self.message.len() + payload.len() > MESSAGE_BYTES_MAX {
            return Err(FrameFault::TooBig);
        }
        self.message.extend_from_slice(payload);
        if last {
            let message = std::mem::take(&mut self.message);
            self.kind = None;
            each(match kind {
                Kind::Text => Frame::Text(text(&message)?),
                Kind::Binary => Frame::Binary(&message),
                Kind::Packed => Frame::Packed(&message),
            });
        }
        Ok(())
    }
}

/// The first frame of `bytes`, if it is whole; its header is judged as soon as it is there.
fn split(bytes: &[u8], deflate: bool) -> Result<Option<Split<'_>>, FrameFault> {
    let [first, second, after @ ..] = bytes else { return Ok(None) };
    let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
    // The first bit marks the beginning of a compressed message (RFC 7692, section 6).
    let packed = deflate && first & 0x70 == 0x40 && matches!(opcode, 1 | 2);
    if first & 0x70 != 0 && !packed {
        return Err(FrameFault::ReservedBit);
    }
    if !matches!(opcode, 0..=2 | 8..=10) {
        return Err(FrameFault::Opcode(opcode));
    }
    if second & 0x80 != 0 {
        return Err(FrameFault::Masked);
    }
    if opcode >= 8 && (!last || *second > 125) {
        return Err(FrameFault::Control);
    }
    let (length, after) = match second {
        126 => match after.split_first_chunk::<2>() {
            Some((length, after)) => (u64::from(u16::from_be_bytes(*length)), after),
            None => return Ok(None),
        },
        127 => match after.split_first_chunk::<8>() {
            Some((length, after)) => (u64::from_be_bytes(*length), after),
            None => return Ok(None),
        },
        short => (u64::from(*short), after),
    };
    if length > MESSAGE_BYTES_MAX as u64 {
        return Err(FrameFault::TooBig);
    }
    let Some((payload, rest)) = after.split_at_checked(length as usize) else { return Ok(None) };
    Ok(Some(Split { last, opcode, packed, payload, rest }))
}

/// A frame that is a message by itself. `split` has let only known opcodes through.
fn whole<'a>(frame: &Split<'a>) -> Result<Frame<'a>, FrameFault> {
    let payload = frame.payload;
    match frame.opcode {
        1 if frame.packed => Ok(Frame::Packed(payload)),
        1 => Ok(Frame::Text(text(payload)?)),
        2 => Ok(Frame::Binary(payload)),
        9 => Ok(Frame::Ping(payload)),
        10 => Ok(Frame::Pong(payload)),
        other => Err(FrameFault::Opcode(other)),
    }
}

fn text(bytes: &[u8]) -> Result<&str, FrameFault> {
    std::str::from_utf8(bytes).map_err(|_| FrameFault::Utf8)
}

/// The code of a close frame's payload, and the reason (RFC 6455, sections 5.5.1 and 7.4).
fn close_code(payload: &[u8]) -> Result<(Option<u16>, &str), FrameFault> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok((None, "")) } else { Err(FrameFault::Close) };
    };
    let reason = text(reason)?;
    let code = u16::from_be_bytes(*code);
    if CloseCode::from(code).is_allowed() { Ok((Some(code), reason)) } else { Err(FrameFault::Close) }
}

#[cfg(test)]
mod tests;
