//! The value of a header line, as the octets that it is (RFC 9110, section 5.5).
//!
//! Owns: how what is no text is read: as a text that is no address, host, scheme or token. A line
//! is split first and read afterwards, so that one bad element, which a client may have written,
//! spoils none of those that proxies and browsers have put beside it.
//! Never: drops anything that is there.
//! Bounds: the request head's.

/// What an element reads as that is not UTF-8. No rule allows it anywhere.
pub const UNREADABLE: &str = "\u{fffd}";

/// An element as a text, [`UNREADABLE`] where it is none.
#[must_use]
pub fn text(octets: &[u8]) -> &str {
    str::from_utf8(octets).unwrap_or(UNREADABLE)
}

/// Without the blanks around it, spaces and tabs.
#[must_use]
pub fn trimmed(octets: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = octets.iter().position(|byte| !is_blank(byte)).unwrap_or(octets.len());
    let end = octets.iter().rposition(|byte| !is_blank(byte)).map_or(start, |last| last + 1);
    octets.get(start..end).unwrap_or_default()
}

/// The elements of a line that is a comma-separated list, without empty ones (RFC 9110, section
/// 5.6.1), each read for itself.
pub fn elements(line: &[u8]) -> impl Iterator<Item = &str> {
    line.split(|&byte| byte == b',').map(trimmed).filter(|item| !item.is_empty()).map(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_that_is_no_text_spoils_no_other() {
        let read = |line: &'static [u8]| elements(line).collect::<Vec<_>>();
        assert_eq!(read(b"\xff, 203.0.113.5"), [UNREADABLE, "203.0.113.5"]);
        assert_eq!(read(b"a,caf\xe9\t, ,Zo\xc3\xab"), ["a", UNREADABLE, "Zo\u{eb}"]);
        assert_eq!(read(b" ,\t"), [""; 0]);
    }

    #[test]
    fn blanks_are_trimmed_and_nothing_else() {
        for (value, left) in [(&b" \ta b\t "[..], &b"a b"[..]), (b"\xa0a\x0c", b"\xa0a\x0c"), (b" ", b""), (b"", b"")] {
            assert_eq!(trimmed(value), left);
        }
    }
}
