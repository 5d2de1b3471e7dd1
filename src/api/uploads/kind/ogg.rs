//! What is in an Ogg file (RFC 3533), by the first packets of its streams.
//!
//! Owns: the walk over the pages with which the streams begin; all of them stand before any other.
//! Never: reads beyond the head that it is given.

use super::Kind;

/// With what the first packets of moving pictures begin: Theora, Dirac, VP8, and OGM's.
const VIDEO: [&[u8]; 4] = [b"\x80theora", b"BBCD\0", b"OVP80", b"\x01video"];
/// Bytes of a page before its table of segments (RFC 3533, section 6).
const PAGE_HEAD_BYTES: usize = 27;
/// A page with which a stream begins.
const BEGINS: u8 = 2;

/// The kind of a file that begins with `head`.
pub(super) fn kind(head: &[u8]) -> Kind {
    let mut left = head;
    while left.starts_with(b"OggS") {
        let page = left;
        let (Some(flags), Some(segments)) = (page.get(5), page.get(PAGE_HEAD_BYTES - 1)) else { break };
        let start = PAGE_HEAD_BYTES + usize::from(*segments);
        let (Some(table), Some(packet)) = (page.get(PAGE_HEAD_BYTES..start), page.get(start..)) else { break };
        if flags & BEGINS == 0 {
            break;
        }
        if VIDEO.iter().any(|first| packet.starts_with(first)) {
            return Kind::Ogv;
        }
        let bytes: usize = table.iter().map(|segment| usize::from(*segment)).sum();
        left = packet.get(bytes..).unwrap_or_default();
    }
    Kind::Ogg
}
