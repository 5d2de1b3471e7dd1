//! The headers of WebSocket frames, for the floor server and the load generator; both trust their
//! peer, which is ours.
//!
//! Owns: [`next`], one frame at the start of a buffer, in either direction.

use imgate::ws::frame::apply_mask;

/// One frame, unmasked.
#[derive(Debug)]
pub struct Frame<'a> {
    /// RFC 6455, section 5.2.
    pub opcode: u8,
    /// Whether the payload is compressed (RFC 7692, section 6).
    pub deflated: bool,
    /// What it carries.
    pub payload: &'a [u8],
    /// Bytes of the whole frame.
    pub bytes: usize,
}

/// The frame at the start of `bytes`, unmasked in place. `None`: it is not complete.
pub fn next(bytes: &mut [u8]) -> Option<Frame<'_>> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (len, mut at) = match second & 0x7f {
        126 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?, 10),
        short => (usize::from(short), 2),
    };
    let mask: Option<[u8; 4]> = if second & 0x80 == 0 { None } else { Some(bytes.get(at..at + 4)?.try_into().ok()?) };
    at += mask.map_or(0, |mask| mask.len());
    let end = at.checked_add(len)?;
    let payload = bytes.get_mut(at..end)?;
    if let Some(mask) = mask {
        apply_mask(payload, mask);
    }
    Some(Frame { opcode: first & 0x0f, deflated: first & 0x40 != 0, payload, bytes: end })
}

#[cfg(test)]
mod tests {
    use super::*;
    use imgate::ws::frame::{TEXT, write_header, write_masked};

    #[test]
    fn frames_of_all_lengths_in_both_directions() {
        for len in [0, 5, 125, 126, 65_535, 65_536] {
            let payload = vec![b'a'; len];
            let (mut masked, mut plain) = (Vec::new(), Vec::new());
            write_masked(&mut masked, TEXT, &payload, [1, 2, 3, 4]);
            write_header(&mut plain, TEXT, len);
            plain.extend_from_slice(&payload);
            for mut wire in [masked, plain] {
                let whole = wire.len();
                wire.push(0);
                assert!(next(&mut wire[..whole - 1]).is_none(), "{len}: one byte is missing");
                let frame = next(&mut wire).expect("complete");
                assert_eq!((frame.opcode, frame.payload, frame.bytes), (TEXT, &payload[..], whole));
            }
        }
    }
}
