//! Compressed messages: permessage-deflate (RFC 7692).
//!
//! Owns: what is agreed upon with a client (`offer`), the compressed form of a message
//! ([`Deflater`]), and the way back (`inflate`).
//! Never: carries anything from one message to the next, in either direction: a message is
//! compressed once for all of its receivers, a connection that agreed upon it costs no memory, and
//! no secret of one message can be guessed from the length of another.
//! Bounds: those of [`Inflater`] for what comes; what is sent is shorter than the message.

mod inflate;
mod offer;
#[cfg(test)]
mod tests;

use libdeflater::{CompressionLvl, Compressor};

pub use self::inflate::Inflater;
pub use self::offer::{Agreed, Malformed, agree};
use super::frame;
use crate::limits::COMPRESSED_ANSWER_BYTES_MAX;

/// What a client keeps of a message while it inflates it: 2 to the power of so many bytes, 8 to 15
/// (RFC 7692, section 7.1.2.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Window(u8);

impl Window {
    /// The largest: any message.
    pub const MAX: Self = Self(15);
    /// The smallest.
    pub const MIN: Self = Self(8);

    /// A window of 2 to the power of `bits` bytes; `None` if there is no such one.
    #[must_use]
    pub fn new(bits: u8) -> Option<Self> {
        (Self::MIN.0..=Self::MAX.0).contains(&bits).then_some(Self(bits))
    }

    /// The exponent.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether a message of so many bytes, compressed without regard to windows, can be inflated
    /// with this one: no distance in it is longer than the message itself, nor than the largest
    /// window.
    #[must_use]
    pub const fn holds(self, message_bytes: usize) -> bool {
        self.0 >= Self::MAX.0 || message_bytes <= 1 << self.0
    }
}

/// What has been compressed so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DeflateCounts {
    /// Messages that became shorter.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What has become of these.
    pub deflated_bytes: u64,
    /// Messages that did not become much shorter and are sent as they are.
    pub vain: u64,
}

/// Makes the compressed forms of messages. One for each thread; without a message to compress it is
/// a few words.
pub struct Deflater {
    /// Some 100 KB, made for the first message.
    compressor: Option<Box<Compressor>>,
    scratch: Vec<u8>,
    min_bytes: usize,
    counts: DeflateCounts,
}

/// Of a message's bytes, how many must be saved: one in so many. Less is not worth what the
/// receiver pays.
const SAVED_MIN: usize = 10;
/// Level of libdeflate: what zlib reaches with its level 6, in less than half of the time.
const LEVEL: i32 = 1;
/// Closes the last block's byte for a receiver that appends `00 00 ff ff` (RFC 7692, section
/// 7.2.3.4): the beginning of an empty stored block.
const BEHIND_FINAL_BLOCK: u8 = 0;

impl Deflater {
    /// Compresses messages of `min_bytes` and more.
    #[must_use]
    pub fn new(min_bytes: usize) -> Self {
        Self { compressor: None, scratch: Vec::new(), min_bytes, counts: DeflateCounts::default() }
    }

    /// Compresses messages of `min_bytes` and more from now on.
    pub const fn set_min_bytes(&mut self, min_bytes: usize) {
        self.min_bytes = min_bytes;
    }

    /// Whether a message of so many bytes is looked at at all.
    #[must_use]
    pub const fn takes(&self, message_bytes: usize) -> bool {
        message_bytes >= self.min_bytes
    }

    /// What was done so far.
    #[must_use]
    pub const fn counts(&self) -> DeflateCounts {
        self.counts
    }

    /// The frame of the message `payload`, compressed; `None` if it is short, or does not become
    /// much shorter.
    pub fn frame(&mut self, opcode: u8, payload: &[u8]) -> Option<Box<[u8]>> {
        if !self.takes(payload.len()) {
            return None;
        }
        let most = payload.len() - payload.len().div_ceil(SAVED_MIN);
        let Some(len) = self.compress(payload, most) else {
            self.counts.vain += 1;
            return None;
        };
        self.counts.messages += 1;
        self.counts.bytes += payload.len() as u64;
        self.counts.deflated_bytes += len as u64;
        let compressed = self.scratch.get(..len).unwrap_or_default();
        let mut out = Vec::with_capacity(frame::HEADER_BYTES_MAX + len);
        frame::write_deflated_header(&mut out, opcode, len);
        out.extend_from_slice(compressed);
        Some(out.into_boxed_slice())
    }

    /// The same of a plain, whole frame of ours for one session: compressed if that is worth it,
    /// the session inflates with a large enough `window`, and it is not too long.
    pub fn again(&mut self, plain: Box<[u8]>, window: Window) -> Box<[u8]> {
        let (opcode, payload) = frame::unframed(&plain);
        if payload.len() > COMPRESSED_ANSWER_BYTES_MAX || !window.holds(payload.len()) {
            return plain;
        }
        let deflated = self.frame(opcode, payload);
        deflated.unwrap_or(plain)
    }

    /// Appends the frame of the message `payload`, compressed whether that is worth it or not: for
    /// the route that protocol tests talk to.
    pub fn append_always(&mut self, out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
        let most = self.compressor().deflate_compress_bound(payload.len()) + 1;
        match self.compress(payload, most) {
            Some(len) => {
                frame::write_deflated_header(out, opcode, len);
                out.extend_from_slice(self.scratch.get(..len).unwrap_or_default());
            }
            // Cannot be, but the plain message is right, too.
            None => {
                frame::write_header(out, opcode, payload.len());
                out.extend_from_slice(payload);
            }
        }
        self.scratch.shrink_to(frame::HEADER_BYTES_MAX + crate::limits::MESSAGE_BYTES_MAX);
    }

    /// Compresses into the scratch, at most `most` bytes. How many these are.
    fn compress(&mut self, payload: &[u8], most: usize) -> Option<usize> {
        if self.scratch.len() < most {
            self.scratch.resize(most, 0);
        }
        let compressor = self.compressor.get_or_insert_with(new_compressor);
        let (last, room) = self.scratch.get_mut(..most)?.split_last_mut()?;
        let len = compressor.deflate_compress(payload, room).ok()?;
        match room.get_mut(len) {
            Some(behind) => *behind = BEHIND_FINAL_BLOCK,
            None => *last = BEHIND_FINAL_BLOCK,
        }
        Some(len + 1)
    }

    fn compressor(&mut self) -> &mut Compressor {
        self.compressor.get_or_insert_with(new_compressor)
    }
}

fn new_compressor() -> Box<Compressor> {
    Box::new(Compressor::new(CompressionLvl::new(LEVEL).unwrap_or_default()))
}
