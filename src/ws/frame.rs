//! Frame headers and masking (RFC 6455, section 5.2 and 5.3).
//!
//! Owns: the opcodes, the parser of a client's frame header, the writers of both sides' headers,
//! the mask.
//! Never: knows which message a frame belongs to; that is the decoder's.
//! Bounds: a header is at most [`HEADER_BYTES_MAX`] bytes from us and [`CLIENT_HEADER_BYTES_MAX`]
//! from a client.

use super::Violation;
use crate::limits::CONTROL_BYTES_MAX;

/// Opcode of a frame that continues a fragmented message.
pub const CONTINUATION: u8 = 0x0;
/// Opcode of a text message.
pub const TEXT: u8 = 0x1;
/// Opcode of a binary message.
pub const BINARY: u8 = 0x2;
/// Opcode of a close frame.
pub const CLOSE: u8 = 0x8;
/// Opcode of a ping.
pub const PING: u8 = 0x9;
/// Opcode of a pong.
pub const PONG: u8 = 0xA;

/// The longest header of a server's frame: two bytes and a 64-bit length.
pub const HEADER_BYTES_MAX: usize = 10;
/// The longest header of a client's frame: a server's and the masking key.
pub const CLIENT_HEADER_BYTES_MAX: usize = HEADER_BYTES_MAX + MASK_BYTES;

const MASK_BYTES: usize = 4;
const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
/// Of the first frame of a message: it is compressed (RFC 7692, section 6).
const DEFLATED: u8 = 0x40;
const OPCODE: u8 = 0x0F;
const CONTROL: u8 = 0x08;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7F;
/// In the 7-bit length: the next two bytes are the length.
const LENGTH_16: u8 = 126;
/// In the 7-bit length: the next eight bytes are the length.
const LENGTH_64: u8 = 127;

/// The header of a client's frame that breaks no rule which one header can break.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    /// The last frame of its message.
    pub(super) fin: bool,
    /// One of the six opcodes.
    pub(super) opcode: u8,
    /// It begins a compressed message.
    pub(super) deflated: bool,
    /// Payload bytes as claimed, below 2^63. A control frame's is at most [`CONTROL_BYTES_MAX`].
    pub(super) payload_len: u64,
    /// The masking key.
    pub(super) mask: [u8; MASK_BYTES],
    /// Bytes that the header itself takes.
    pub(super) header_len: usize,
}

impl Header {
    /// Reads the header at the start of `bytes`; `None` means that it has not arrived whole.
    ///
    /// `deflate`: messages may be compressed.
    ///
    /// The first two bytes are judged as soon as they are there: a peer that sent a wrong one may
    /// never send a third. Lengths that are not minimally encoded are accepted, also of control
    /// frames, as tungstenite does.
    pub(super) fn parse(bytes: &[u8], deflate: bool) -> Result<Option<Self>, Violation> {
        let Some((&[first, second], rest)) = bytes.split_first_chunk() else { return Ok(None) };
        Self::judge(first, second, deflate)?;
        let (payload_len, rest) = match second & LENGTH {
            LENGTH_16 => match rest.split_first_chunk() {
                Some((&len, rest)) => (u64::from(u16::from_be_bytes(len)), rest),
                None => return Ok(None),
            },
            LENGTH_64 => match rest.split_first_chunk() {
                Some((&len, rest)) => (u64::from_be_bytes(len), rest),
                None => return Ok(None),
            },
            len => (u64::from(len), rest),
        };
        if payload_len > u64::MAX >> 1 {
            return Err(Violation::LengthTopBit);
        }
        if first & CONTROL != 0 && payload_len > CONTROL_BYTES_MAX as u64 {
            return Err(Violation::LongControl);
        }
        let Some((&mask, rest)) = rest.split_first_chunk() else { return Ok(None) };
        let header_len = bytes.len() - rest.len();
        let (fin, opcode, deflated) = (first & FIN != 0, first & OPCODE, first & DEFLATED != 0);
        Ok(Some(Self { fin, opcode, deflated, payload_len, mask, header_len }))
    }

    /// A control frame may stand between the fragments of a message and is never one itself.
    pub(super) const fn is_control(&self) -> bool {
        self.opcode & CONTROL != 0
    }

    fn judge(first: u8, second: u8, deflate: bool) -> Result<(), Violation> {
        let opcode = first & OPCODE;
        let may_be_deflated = deflate && matches!(opcode, TEXT | BINARY);
        if first & RESERVED != 0 && !(may_be_deflated && first & RESERVED == DEFLATED) {
            return Err(Violation::ReservedBits);
        }
        if !matches!(opcode, CONTINUATION | TEXT | BINARY | CLOSE | PING | PONG) {
            return Err(Violation::ReservedOpcode(opcode));
        }
        if second & MASKED == 0 {
            return Err(Violation::Unmasked);
        }
        if opcode & CONTROL != 0 && first & FIN == 0 {
            return Err(Violation::FragmentedControl);
        }
        Ok(())
    }
}

/// Masks or unmasks `payload`, which starts at a multiple of four bytes of its frame (RFC 6455,
/// section 5.3).
///
/// Eight bytes at a time: the compiler makes vector instructions of it, without `unsafe`.
pub fn apply_mask(payload: &mut [u8], mask: [u8; MASK_BYTES]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = payload.as_chunks_mut();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// Appends the header of an unfragmented frame of a server, with the shortest length there is. The
/// payload follows as it is.
pub fn write_header(out: &mut Vec<u8>, opcode: u8, payload_len: usize) {
    write_head(out, FIN | opcode, 0, payload_len);
}

/// The same of a compressed message (RFC 7692, section 6).
pub fn write_deflated_header(out: &mut Vec<u8>, opcode: u8, payload_len: usize) {
    write_head(out, FIN | DEFLATED | opcode, 0, payload_len);
}

/// Opcode and payload of a whole frame that [`write_header`] has begun.
#[must_use]
pub fn unframed(frame: &[u8]) -> (u8, &[u8]) {
    let [first, second, ..] = frame else { return (CLOSE, &[]) };
    let header = match second & LENGTH {
        LENGTH_16 => 4,
        LENGTH_64 => HEADER_BYTES_MAX,
        _ => 2,
    };
    (first & OPCODE, frame.get(header..).unwrap_or_default())
}

/// Appends an unfragmented frame of a client: header, masking key and masked payload. For load
/// generators and tests.
pub fn write_masked(out: &mut Vec<u8>, opcode: u8, payload: &[u8], mask: [u8; MASK_BYTES]) {
    write_head(out, FIN | opcode, MASKED, payload.len());
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    apply_mask(out.get_mut(start..).unwrap_or_default(), mask);
}

fn write_head(out: &mut Vec<u8>, first: u8, masked: u8, payload_len: usize) {
    debug_assert!(first & RESERVED & !DEFLATED == 0, "two of the reserved bits never have a meaning");
    match (u8::try_from(payload_len), u16::try_from(payload_len)) {
        (Ok(len), _) if len < LENGTH_16 => out.extend_from_slice(&[first, masked | len]),
        (_, Ok(len)) => {
            out.extend_from_slice(&[first, masked | LENGTH_16]);
            out.extend_from_slice(&len.to_be_bytes());
        }
        _ => {
            out.extend_from_slice(&[first, masked | LENGTH_64]);
            // A slice's length is below 2^63 on every platform.
            out.extend_from_slice(&(payload_len as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use tungstenite::protocol::frame::FrameHeader;
    use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

    use super::*;

    /// The lengths at which the encoding of a length changes.
    const EDGES: [usize; 9] = [0, 1, 125, 126, 127, 65_534, 65_535, 65_536, 1 << 24];

    #[test]
    fn opcodes_are_tungstenites() {
        let ours = [CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG];
        let theirs = [
            OpCode::Data(Data::Continue),
            OpCode::Data(Data::Text),
            OpCode::Data(Data::Binary),
            OpCode::Control(Control::Close),
            OpCode::Control(Control::Ping),
            OpCode::Control(Control::Pong),
        ];
        assert_eq!(ours, theirs.map(u8::from));
    }

    #[test]
    fn a_server_header_is_what_tungstenite_writes() {
        for len in EDGES {
            for opcode in [TEXT, BINARY, CLOSE, PING, PONG] {
                let (mut ours, mut theirs) = (Vec::new(), Vec::new());
                write_header(&mut ours, opcode, len);
                let header = FrameHeader { opcode: OpCode::from(opcode), mask: None, ..FrameHeader::default() };
                header.format(len as u64, &mut theirs).expect("a vector takes everything");
                assert_eq!(ours, theirs, "{opcode:#x} {len}");
                assert!(ours.len() <= HEADER_BYTES_MAX);
            }
        }
    }

    #[test]
    fn a_masked_frame_is_read_back() {
        for len in EDGES {
            let payload: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let mut frame = Vec::new();
            write_masked(&mut frame, BINARY, &payload, [1, 2, 3, 250]);
            let header = Header::parse(&frame, false).expect("a legal frame").expect("a whole header");
            assert_eq!((header.fin, header.opcode, header.payload_len), (true, BINARY, len as u64));
            assert!(header.header_len <= CLIENT_HEADER_BYTES_MAX);
            let body = &mut frame[header.header_len..];
            apply_mask(body, header.mask);
            assert!(*body == payload[..], "{len}");
        }
    }

    #[test]
    fn the_mask_is_the_rfcs() {
        // RFC 6455, section 5.7: a single-frame masked text message.
        let mut frame = Vec::new();
        write_masked(&mut frame, TEXT, b"Hello", [0x37, 0xfa, 0x21, 0x3d]);
        assert_eq!(frame, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }

    #[test]
    fn a_header_is_whole_or_not_there() {
        for len in EDGES {
            let mut frame = Vec::new();
            write_masked(&mut frame, TEXT, &vec![0; len], [9; 4]);
            let whole = Header::parse(&frame, false).expect("a legal frame").expect("a whole header").header_len;
            for cut in 0..whole {
                assert_eq!(Header::parse(&frame[..cut], false), Ok(None), "{len} cut at {cut}");
            }
        }
    }

    #[test]
    fn every_first_pair_of_bytes_is_judged() {
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                let known = matches!(first & 0x0F, 0 | 1 | 2 | 8 | 9 | 10);
                let legal_control = first & 8 == 0 || first & 0x80 != 0;
                let legal = first & 0x70 == 0 && known && second & 0x80 != 0 && legal_control;
                assert_eq!(Header::parse(&[first, second], false).is_ok(), legal, "{first:#x} {second:#x}");
                // Only the first frame of a message says that it is compressed.
                let is_begun = matches!(first & 0x0F, 1 | 2);
                let deflated = first & 0x70 == 0x40 && is_begun && second & 0x80 != 0;
                let with_deflate = Header::parse(&[first, second], true).is_ok();
                assert_eq!(with_deflate, legal || deflated, "{first:#x} {second:#x}");
            }
        }
    }

    #[test]
    fn a_length_has_63_bits() {
        let claim = |top: u8| [0x82, 0xFF, top, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
        assert_eq!(Header::parse(&claim(0x80), false), Err(Violation::LengthTopBit));
        let header = Header::parse(&claim(0x7F), false).expect("legal so far").expect("a whole header");
        assert_eq!(header.payload_len, 0x7F << 56);
    }
}
