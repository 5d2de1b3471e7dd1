//! The cookies of a request.
//!
//! Owns: [`Cookie`] and the reading of one `Cookie` header.
//! Never: sets cookies; that is the control plane's.
//! Bounds: the request head's.

/// One cookie, borrowed from the request head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cookie<'a> {
    /// Case-sensitive.
    pub name: &'a str,
    /// Without the double quotes that may surround it.
    pub value: &'a str,
}

/// The cookies of one header value; pieces without `=` are skipped, as browsers never send any.
pub fn parse(header: &str) -> impl Iterator<Item = Cookie<'_>> {
    header.split(';').filter_map(|piece| {
        let (name, value) = piece.split_once('=')?;
        let value = value.trim_matches([' ', '\t']);
        let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        Some(Cookie { name: name.trim_matches([' ', '\t']), value: unquoted.unwrap_or(value) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_cookies_are_read_as_browsers_mean_them() {
        let pairs = |header| parse(header).map(|cookie| (cookie.name, cookie.value)).collect::<Vec<_>>();
        assert_eq!(pairs("a=1;b = \"2\" ; c; d=; e=f=g;"), [("a", "1"), ("b", "2"), ("d", ""), ("e", "f=g")]);
        assert_eq!(pairs("q=\""), [("q", "\"")]);
        assert_eq!(pairs(""), []);
    }
}
