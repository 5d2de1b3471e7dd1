//! Messages that the server has compressed (RFC 7692), each for itself: nothing is carried from one
//! to the next, as the client asks for.
//!
//! Owns: [`Inflater`], one for each engine thread.
//! Bounds: a message is at most [`MESSAGE_BYTES_MAX`].

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use crate::limits::MESSAGE_BYTES_MAX;

/// What a client offers, and what a server must agree to.
pub(crate) const OFFER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
/// What every sender leaves away at the end of a message (RFC 7692, section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// Whether a server's answer to [`OFFER`] is one that it may give (RFC 7692, section 7.1): each
/// message stands for itself, nothing is said twice, and a window of its own choice is one that
/// there is.
pub(crate) fn is_agreement(answer: &str) -> bool {
    let mut parts = answer.split(';').map(str::trim);
    if parts.next() != Some("permessage-deflate") {
        return false;
    }
    let mut said = Vec::new();
    for part in parts {
        let (name, value) =
            part.split_once('=').map_or((part, None), |(name, value)| (name.trim(), Some(value.trim())));
        let bits = value.map(|value| value.trim_matches('"').parse::<u8>());
        let may = match name {
            "server_no_context_takeover" | "client_no_context_takeover" => value.is_none(),
            "server_max_window_bits" => matches!(bits, Some(Ok(8..=15))),
            _ => false,
        };
        if !may || said.contains(&name) {
            return false;
        }
        said.push(name);
    }
    said.contains(&"server_no_context_takeover")
}

/// Room for one message, made for the first.
#[derive(Default)]
pub(crate) struct Inflater {
    state: Box<DecompressorOxide>,
    out: Vec<u8>,
}

impl Inflater {
    /// The message that `payload` is the compressed form of; `None`: it is none, or too long.
    pub(crate) fn open(&mut self, payload: &[u8]) -> Option<&[u8]> {
        self.state.init();
        let mut len = 0;
        for piece in [payload, &TAIL] {
            self.inflate(piece, &mut len)?;
        }
        self.out.get(..len)
    }

    fn inflate(&mut self, mut piece: &[u8], len: &mut usize) -> Option<()> {
        const FLAGS: u32 = TINFL_FLAG_HAS_MORE_INPUT | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        loop {
            if *len == self.out.len() {
                if *len >= MESSAGE_BYTES_MAX {
                    return None;
                }
                self.out.resize((2 * *len).clamp(64 * 1024, MESSAGE_BYTES_MAX), 0);
            }
            let (status, read, written) = decompress(&mut self.state, piece, &mut self.out, *len, FLAGS);
            piece = piece.get(read..)?;
            *len += written;
            match status {
                TINFLStatus::NeedsMoreInput if piece.is_empty() => return Some(()),
                // A final block. What follows, the tail at least, begins anew (RFC 7692, section
                // 7.2.3.4).
                TINFLStatus::Done if piece.is_empty() => {
                    self.state.init();
                    return Some(());
                }
                TINFLStatus::Done if read + written > 0 => self.state.init(),
                TINFLStatus::HasMoreOutput => {}
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_of_the_rfc_are_opened_one_after_the_other() {
        let mut inflater = Inflater::default();
        // RFC 7692, sections 7.2.3.1, 7.2.3.3, 7.2.3.4 and 7.2.3.5.
        for compressed in [
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
        ] {
            for _ in 0..2 {
                assert_eq!(inflater.open(compressed), Some(&b"Hello"[..]));
            }
        }
        assert_eq!(inflater.open(&[0xff, 0xff]), None, "that is no message");
        assert_eq!(inflater.open(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]), Some(&b"Hello"[..]));
    }

    #[test]
    fn a_server_must_agree_that_each_message_stands_for_itself() {
        assert!(is_agreement(OFFER) && is_agreement("permessage-deflate;server_no_context_takeover"));
        assert!(is_agreement("permessage-deflate; server_no_context_takeover; server_max_window_bits=\"12\""));
        for other in [
            "permessage-deflate",
            "x-other; server_no_context_takeover",
            "",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=16",
            "permessage-deflate; server_no_context_takeover; client_max_window_bits=15",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; server_no_context_takeover, permessage-deflate; server_no_context_takeover",
        ] {
            assert!(!is_agreement(other), "{other}");
        }
    }
}
