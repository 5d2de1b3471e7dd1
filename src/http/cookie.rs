//! The cookies of a request.
//!
//! Owns: [`Cookie`] and the reading of one `Cookie` header.
//! Never: sets cookies; that is the control plane's.
//! Bounds: the request head's.

use super::value::trimmed;

/// One cookie, borrowed from the request head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cookie<'a> {
    /// Case-sensitive.
    pub name: &'a str,
    /// Without the double quotes that may surround it.
    pub value: &'a str,
}

/// The cookies of one header value. Pieces without `=` are skipped, as browsers never send any, and
/// so are those that are not UTF-8: another application on the same host may set what it likes (RFC
/// 6265, section 5.4: a cookie is octets), and none of ours is such a one.
pub fn parse(header: &[u8]) -> impl Iterator<Item = Cookie<'_>> {
    header.split(|&byte| byte == b';').filter_map(|piece| {
        let (name, value) = str::from_utf8(trimmed(piece)).ok()?.split_once('=')?;
        let value = value.trim_matches([' ', '\t']);
        let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        Some(Cookie { name: name.trim_matches([' ', '\t']), value: unquoted.unwrap_or(value) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(header: &[u8]) -> Vec<(&str, &str)> {
        parse(header).map(|cookie| (cookie.name, cookie.value)).collect()
    }

    #[test]
    fn odd_cookies_are_read_as_browsers_mean_them() {
        assert_eq!(pairs(b"a=1;b = \"2\" ; c; d=; e=f=g;"), [("a", "1"), ("b", "2"), ("d", ""), ("e", "f=g")]);
        assert_eq!(pairs(b"q=\""), [("q", "\"")]);
        assert_eq!(pairs(b""), []);
    }

    #[test]
    fn a_cookie_that_is_no_text_hides_none_of_its_neighbours() {
        assert_eq!(pairs(b"name=Zo\xeb; a=1"), [("a", "1")]);
        assert_eq!(pairs(b"a=1; nick=\xc4\xe3\xba\xc3; \xff=x;b=Zo\xc3\xab"), [("a", "1"), ("b", "Zo\u{eb}")]);
    }
}
