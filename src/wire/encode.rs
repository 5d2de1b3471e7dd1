//! How numbers, strings and frames are written.
//!
//! Owns: the JSON primitives that `packet` and `push` are made of, and the assembly of a frame in
//! one allocation.
//! Never: decides what is said.

use crate::ids::ID_MAX;
use crate::ws::frame::{HEADER_BYTES_MAX, write_header};

/// RFC 6455, section 11.8.
pub(super) const TEXT: u8 = 1;
/// RFC 6455, section 5.5.1.
pub(super) const CLOSE: u8 = 8;
/// RFC 6455, section 5.5.2.
pub(super) const PING: u8 = 9;
/// RFC 6455, section 5.5.3.
pub(super) const PONG: u8 = 10;

/// Where a payload is put together.
pub(super) type Scratch = Vec<u8>;

/// Room for any ack or refusal and for the server's fields of a message; sync pages grow.
pub(super) const SCRATCH_BYTES: usize = 256;

/// An empty [`Scratch`]. One allocation, and cheaper than a list on the stack that asks at each of
/// the many small pieces where it lives.
pub(super) fn scratch() -> Scratch {
    Vec::with_capacity(SCRATCH_BYTES)
}

/// Writes a number that a JavaScript number holds exactly. All of ours are below 2^53 where they
/// are made; the mask keeps a damaged one (an epoch out of a foreign database) from becoming a
/// *different* number only in browsers.
pub(super) fn number(out: &mut Scratch, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value & ID_MAX).as_bytes());
}

/// Writes `"key":`, preceded by a comma unless the object has just been opened.
pub(super) fn key(out: &mut Scratch, name: &str) {
    if out.last() != Some(&b'{') {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Writes `"key":number`.
pub(super) fn number_field(out: &mut Scratch, name: &str, value: u64) {
    key(out, name);
    number(out, value);
}

/// Writes `"key":"string"`.
pub(super) fn string_field(out: &mut Scratch, name: &str, value: &str) {
    key(out, name);
    escaped_string(value, |piece| out.extend_from_slice(piece.as_bytes()));
}

/// Writes `"key":true` or `"key":false`.
pub(super) fn bool_field(out: &mut Scratch, name: &str, value: bool) {
    key(out, name);
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// How RFC 8259, section 7 wants control characters written: the short escape where there is one.
const CONTROL_ESCAPES: [&str; 0x20] = [
    "\\u0000", "\\u0001", "\\u0002", "\\u0003", "\\u0004", "\\u0005", "\\u0006", "\\u0007", "\\b", "\\t", "\\n",
    "\\u000b", "\\f", "\\r", "\\u000e", "\\u000f", "\\u0010", "\\u0011", "\\u0012", "\\u0013", "\\u0014", "\\u0015",
    "\\u0016", "\\u0017", "\\u0018", "\\u0019", "\\u001a", "\\u001b", "\\u001c", "\\u001d", "\\u001e", "\\u001f",
];

/// Hands the pieces of `value` as a JSON string, quotes included, to `put`. Escapes what RFC 8259,
/// section 7 demands and nothing else, so that the result is never longer than any other spelling
/// of the same string.
pub(super) fn escaped_string(value: &str, mut put: impl FnMut(&str)) {
    put("\"");
    let mut clean = 0;
    for (at, byte) in value.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            _ => match CONTROL_ESCAPES.get(usize::from(byte)) {
                Some(escape) => escape,
                None => continue,
            },
        };
        // Cuts only beside ASCII characters, so neither side is ever in the middle of one.
        put(value.get(clean..at).unwrap_or_default());
        put(escape);
        clean = at + 1;
    }
    put(value.get(clean..).unwrap_or_default());
    put("\"");
}

/// Length of the header of a server frame with `payload` bytes (RFC 6455, section 5.2).
const fn header_bytes(payload: usize) -> usize {
    match payload {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => HEADER_BYTES_MAX,
    }
}

/// A complete server frame whose payload is the pieces of `payload` in their order, and the length
/// of its header: one allocation of exactly the right size.
pub(super) fn frame(opcode: u8, payload: &[&[u8]]) -> (Box<[u8]>, u8) {
    let payload_len = payload.iter().map(|piece| piece.len()).sum();
    let mut out = Vec::with_capacity(header_bytes(payload_len) + payload_len);
    write_header(&mut out, opcode, payload_len);
    let header = out.len();
    debug_assert_eq!(header, header_bytes(payload_len), "the capacity was computed from the header's length");
    for piece in payload {
        out.extend_from_slice(piece);
    }
    (out.into_boxed_slice(), header as u8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_string_is_what_serde_json_reads(value in any::<String>()) {
            let mut out = Vec::new();
            escaped_string(&value, |piece| out.extend_from_slice(piece.as_bytes()));
            prop_assert_eq!(serde_json::from_slice::<String>(&out).ok(), Some(value.clone()));
            prop_assert_eq!(out, serde_json::to_vec(&value).unwrap_or_default());
        }
    }

    #[test]
    fn every_control_character_is_escaped() {
        let value: String = (0..0x80u8).map(char::from).collect();
        let mut out = Vec::new();
        escaped_string(&value, |piece| out.extend_from_slice(piece.as_bytes()));
        assert_eq!(out, serde_json::to_vec(&value).expect("a string is always JSON"));
    }

    #[test]
    fn headers_change_their_length_where_the_rfc_says() {
        for (payload, header) in [(0, 2), (125, 2), (126, 4), (0xffff, 4), (0x1_0000, 10)] {
            let bytes = vec![b'x'; payload];
            let (frame, measured) = frame(TEXT, &[&bytes]);
            assert_eq!((usize::from(measured), frame.len()), (header, header + payload));
            assert_eq!(frame[0], 0x81);
        }
    }

    #[test]
    fn numbers_stay_below_2_to_the_53() {
        let mut out = scratch();
        number(&mut out, u64::MAX);
        assert_eq!(out.as_slice(), b"9007199254740991");
    }
}
