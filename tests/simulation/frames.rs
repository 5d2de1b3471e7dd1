//! What a client makes of the bytes that a server sends (RFC 6455, section 5).
//!
//! Owns: a strict reader of server frames: unmasked, unfragmented, no reserved bits but those of compression that was agreed upon, the shortest length.
//! Shares no code with the server.

use flate2::{Decompress, FlushDecompress, Status};
use imgate::ws::deflate::Window;

/// One frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Frame {
    /// A text message.
    Text(String),
    /// The server's close frame and its code.
    Close(Option<u16>),
    /// A ping.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
}

/// The bytes of one connection that are not a whole frame yet.
#[derive(Default)]
pub(crate) struct Reader {
    bytes: Vec<u8>,
    /// What a compressed message may refer back to.
    deflate: Option<Window>,
}

impl Reader {
    /// Of a client that has agreed upon compression, or has not.
    pub(crate) fn inflating(deflate: Option<Window>) -> Self {
        Self { bytes: Vec::new(), deflate }
    }

    /// Takes bytes from the socket.
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, String> {
        let [first, second, rest @ ..] = self.bytes.as_slice() else { return Ok(None) };
        let deflated = *first == 0xc1 && self.deflate.is_some();
        if first & 0xf0 != 0x80 && !deflated {
            return Err(format!("a frame starts with {first:#04x}: fragmented or with reserved bits"));
        }
        if second & 0x80 != 0 {
            return Err("a server frame is masked".to_owned());
        }
        let (header, length) = match (second & 0x7f, rest) {
            (126, [a, b, ..]) => (4, usize::from(u16::from_be_bytes([*a, *b]))),
            (127, [a, b, c, d, e, f, g, h, ..]) => {
                let long = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
                (10, usize::try_from(long).map_err(|error| error.to_string())?)
            }
            (126 | 127, _) => return Ok(None),
            (short, _) => (2, usize::from(short)),
        };
        if (header == 4 && length < 126) || (header == 10 && length < 65536) {
            return Err(format!("a length of {length} in a header of {header} bytes"));
        }
        let Some(payload) = self.bytes.get(header..header + length) else { return Ok(None) };
        let inflated = if deflated { inflate(payload, self.deflate)? } else { Vec::new() };
        let frame = Self::frame(first & 0x0f, if deflated { &inflated } else { payload })?;
        self.bytes.drain(..header + length);
        Ok(Some(frame))
    }

    fn frame(opcode: u8, payload: &[u8]) -> Result<Frame, String> {
        if opcode >= 8 && payload.len() > 125 {
            return Err("a control frame of more than 125 bytes".to_owned());
        }
        Ok(match opcode {
            1 => Frame::Text(String::from_utf8(payload.to_vec()).map_err(|error| error.to_string())?),
            8 => match payload {
                [] => Frame::Close(None),
                [a, b, ..] => Frame::Close(Some(u16::from_be_bytes([*a, *b]))),
                _ => return Err("a close frame with half a code".to_owned()),
            },
            9 => Frame::Ping(payload.to_vec()),
            10 => Frame::Pong(payload.to_vec()),
            other => return Err(format!("opcode {other}")),
        })
    }
}

/// A compressed message (RFC 7692, section 7.2.2) that nothing before it belongs to.
fn inflate(payload: &[u8], window: Option<Window>) -> Result<Vec<u8>, String> {
    let whole = [payload, &[0, 0, 0xff, 0xff]].concat();
    let (mut out, mut rest, mut state) = (Vec::with_capacity(1 << 17), &whole[..], Decompress::new(false));
    while !rest.is_empty() {
        let before = state.total_in();
        let status = state.decompress_vec(rest, &mut out, FlushDecompress::Sync).map_err(|error| error.to_string())?;
        let taken = usize::try_from(state.total_in() - before).map_err(|error| error.to_string())?;
        rest = &rest[taken..];
        match status {
            Status::StreamEnd => state.reset(false),
            _ if taken == 0 => return Err("a compressed message that has no end".to_owned()),
            _ => {}
        }
    }
    let bits = window.map_or(0, Window::bits);
    if bits < 15 && out.len() > 1 << bits {
        return Err(format!("a compressed message of {} bytes for a window of 2^{bits}", out.len()));
    }
    if payload.len() >= out.len() {
        return Err(format!("{} bytes are compressed to {}", out.len(), payload.len()));
    }
    Ok(out)
}
