//! From a compressed message to the message.
//!
//! Owns: what one thread needs for it: [`Inflater`].
//! Never: waits for a message's end to refuse it: inflating stops with the first byte too many.
//! Bounds: the message size of its connection, and [`INFLATED_RATIO_MAX`] times what came, above
//! [`INFLATED_FREE_BYTES`].

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use super::super::{Incoming, Violation};
use crate::limits::{INFLATED_FREE_BYTES, INFLATED_KEPT_BYTES, INFLATED_RATIO_MAX};

/// What every sender leaves away at the end of a message (RFC 7692, section 7.2.1): the length of
/// an empty stored block.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
/// An empty stored block, marked as the last one: whoever is in the middle of a block does not
/// understand it.
const PROOF: [u8; 5] = [0x01, 0x00, 0x00, 0xff, 0xff];

/// Inflates messages, one after the other. Some 10 KB, and room for the longest message so far.
#[derive(Default)]
pub struct Inflater {
    state: DecompressorOxide,
    out: Vec<u8>,
}

impl Inflater {
    /// The message that `payload` is the compressed form of, of at most `bytes_max` bytes; an empty
    /// payload is an empty message.
    ///
    /// # Errors
    /// [`Violation::BadDeflate`] if it is none, [`Violation::BadText`] if it is to be a text and is
    /// not UTF-8, [`Violation::InflatesTooBig`] and [`Violation::InflatesTooMuch`] as soon as it is
    /// known to be too long.
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
        self.state.init();
        let mut len = 0;
        for piece in [payload, &TAIL] {
            self.inflate_piece(piece, &mut len, most)?;
            if len > most {
                return Ok(len);
            }
        }
        let before = len;
        if self.inflate_piece(&PROOF, &mut len, most)? && len == before { Ok(len) } else { Err(Violation::BadDeflate) }
    }

    /// Inflates one piece of the input, the whole of it unless there are more than `most` bytes.
    /// Answers whether its end is the end of a block that was marked as the last.
    fn inflate_piece(&mut self, mut piece: &[u8], len: &mut usize, most: usize) -> Result<bool, Violation> {
        const FLAGS: u32 = TINFL_FLAG_HAS_MORE_INPUT | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        loop {
            if *len == self.out.len() {
                let room = (self.out.len() * 2).max(INFLATED_FREE_BYTES).min(most) + 1;
                self.out.resize(room.max(*len + 1), 0);
            }
            // One byte more than is allowed tells that there is more.
            let room = self.out.len().min(most + 1);
            let out = self.out.get_mut(..room).unwrap_or_default();
            let (status, taken, made) = decompress(&mut self.state, piece, out, *len, FLAGS);
            piece = piece.get(taken..).unwrap_or_default();
            *len += made;
            match status {
                _ if *len > most => return Ok(false),
                // A sender may mark any block as the last one: the next begins at the next byte
                // (RFC 7692, section 7.2.1).
                TINFLStatus::Done if piece.is_empty() => {
                    self.state.init();
                    return Ok(true);
                }
                TINFLStatus::Done if taken > 0 || made > 0 => self.state.init(),
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::NeedsMoreInput if piece.is_empty() => return Ok(false),
                _ => return Err(Violation::BadDeflate),
            }
        }
    }
}
