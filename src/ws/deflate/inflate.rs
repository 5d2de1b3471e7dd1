//! From a compressed message to the message.
//!
//! Owns: what one thread needs for it: [`Inflater`].
//! Never: waits for a message's end to refuse it: inflating stops with the first byte too many.
//! Bounds: the message size of its connection, and [`INFLATED_RATIO_MAX`] times what came, above
//! [`INFLATED_FREE_BYTES`]; a message of which [`DEFLATED_LOOK_BYTES`] led to next to nothing is
//! refused ([`DEFLATED_RATIO_MAX`]), because the tables of a block cost as much as kilobytes.

use flate2::{Decompress, FlushDecompress, Status};

use super::super::{Incoming, Violation};
use crate::limits::{
    DEFLATED_LOOK_BYTES, DEFLATED_RATIO_MAX, DEFLATED_STREAMS_MAX, INFLATED_FREE_BYTES, INFLATED_KEPT_BYTES,
    INFLATED_RATIO_MAX,
};

/// What every sender leaves away at the end of a message (RFC 7692, section 7.2.1): the length of
/// an empty stored block.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
/// An empty stored block, marked as the last one: whoever is in the middle of a block does not
/// understand it.
const PROOF: [u8; 5] = [0x01, 0x00, 0x00, 0xff, 0xff];

/// How far back a block may refer (RFC 1951, section 2).
const WINDOW_BYTES: usize = 32 * 1024;

/// Inflates messages, one after the other. Some 50 KB, and room for the longest message so far.
pub struct Inflater {
    state: Decompress,
    out: Vec<u8>,
    /// Last blocks of the message.
    streams: u32,
}

impl Default for Inflater {
    fn default() -> Self {
        Self { state: Decompress::new(false), out: Vec::new(), streams: 0 }
    }
}

impl Inflater {
    /// The message that `payload` is the compressed form of, of at most `bytes_max` bytes; an empty
    /// payload is an empty message.
    ///
    /// # Errors
    /// [`Violation::BadDeflate`] if it is none, [`Violation::BadText`] if it is to be a text and is
    /// not UTF-8, [`Violation::InflatesTooBig`] and [`Violation::InflatesTooMuch`] as soon as it is
    /// known to be too long, [`Violation::InflatesToNothing`] as soon as too much of it is empty.
    pub fn open(&mut self, text: bool, payload: &[u8], bytes_max: usize) -> Result<Incoming<'_>, Violation> {
        self.out.truncate(INFLATED_KEPT_BYTES);
        self.out.shrink_to(INFLATED_KEPT_BYTES);
        let of_ratio = payload.len().saturating_mul(INFLATED_RATIO_MAX).max(INFLATED_FREE_BYTES);
        let len = if payload.is_empty() { 0 } else { self.inflate(payload, bytes_max.min(of_ratio))? };
        if len > bytes_max {
            return Err(Violation::InflatesTooBig);
        }
        if len > of_ratio {
            return Err(Violation::InflatesTooMuch);
        }
        let message = self.out.get(..len).unwrap_or_default();
        if !text {
            return Ok(Incoming::Binary(message));
        }
        simdutf8::basic::from_utf8(message).map(Incoming::Text).map_err(|_| Violation::BadText)
    }

    /// Bytes of memory that messages have.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        self.out.capacity()
    }

    /// Inflates into `out`. How many bytes there are; one more than `most` if that is not all.
    fn inflate(&mut self, payload: &[u8], most: usize) -> Result<usize, Violation> {
        self.state.reset(false);
        self.streams = 0;
        let (mut len, mut read) = (0, 0);
        for piece in payload.chunks(DEFLATED_LOOK_BYTES).chain([&TAIL[..]]) {
            self.inflate_piece(piece, &mut len, most)?;
            if len > most {
                return Ok(len);
            }
            read += piece.len();
            if read.saturating_sub(DEFLATED_LOOK_BYTES) > len.saturating_mul(DEFLATED_RATIO_MAX) {
                return Err(Violation::InflatesToNothing);
            }
        }
        let before = len;
        // The proof is no block of the sender's.
        self.streams = 0;
        if self.inflate_piece(&PROOF, &mut len, most)? && len == before { Ok(len) } else { Err(Violation::BadDeflate) }
    }

    /// Behind a last block. What comes may still refer to what was inflated before it.
    fn begin_stream(&mut self, len: usize) -> Result<(), Violation> {
        self.streams += 1;
        if self.streams > DEFLATED_STREAMS_MAX {
            return Err(Violation::InflatesToNothing);
        }
        self.state.reset(false);
        let window = self.out.get(len.saturating_sub(WINDOW_BYTES)..len).unwrap_or_default();
        if !window.is_empty() {
            self.state.set_dictionary(window).map_err(|_| Violation::BadDeflate)?;
        }
        Ok(())
    }

    /// Inflates one piece of the input, the whole of it unless there are more than `most` bytes.
    /// Answers whether its end is the end of a block that was marked as the last.
    fn inflate_piece(&mut self, mut piece: &[u8], len: &mut usize, most: usize) -> Result<bool, Violation> {
        loop {
            if *len == self.out.len() {
                let room = (self.out.len() * 2).max(INFLATED_FREE_BYTES).min(most) + 1;
                self.out.resize(room.max(*len + 1), 0);
            }
            // One byte more than is allowed tells that there is more.
            let room = self.out.len().min(most + 1);
            let out = self.out.get_mut(*len..room).unwrap_or_default();
            let (taken_before, made_before) = (self.state.total_in(), self.state.total_out());
            let status = self.state.decompress(piece, out, FlushDecompress::None);
            let taken = (self.state.total_in() - taken_before) as usize;
            let made = (self.state.total_out() - made_before) as usize;
            piece = piece.get(taken..).unwrap_or_default();
            *len += made;
            match status.map_err(|_| Violation::BadDeflate)? {
                _ if *len > most => return Ok(false),
                // A sender may mark any block as the last one: the next begins at the next byte
                // (RFC 7692, section 7.2.1).
                Status::StreamEnd => {
                    self.begin_stream(*len)?;
                    if piece.is_empty() {
                        return Ok(true);
                    }
                }
                Status::Ok | Status::BufError if *len == room => {}
                Status::Ok | Status::BufError if piece.is_empty() => return Ok(false),
                Status::Ok if taken > 0 || made > 0 => {}
                Status::Ok | Status::BufError => return Err(Violation::BadDeflate),
            }
        }
    }
}
