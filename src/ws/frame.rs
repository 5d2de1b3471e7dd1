//! The header of a frame that the server sends (RFC 6455, section 5.2).
//!
//! Owns: the encoding of an unmasked, unfragmented frame's header.

/// The longest header: two bytes and a 64-bit length; server frames carry no mask.
pub const HEADER_BYTES_MAX: usize = 10;

/// Appends the header of a final, unmasked frame with `payload_len` bytes of payload.
pub fn write_header(out: &mut Vec<u8>, opcode: u8, payload_len: usize) {
    out.push(0x80 | (opcode & 0x0f));
    if let Ok(short) = u8::try_from(payload_len)
        && short <= 125
    {
        out.push(short);
    } else if let Ok(medium) = u16::try_from(payload_len) {
        out.push(126);
        out.extend_from_slice(&medium.to_be_bytes());
    } else {
        out.push(127);
        out.extend_from_slice(&(payload_len as u64).to_be_bytes());
    }
}
