//! The `Host` header: how many there must be, and what may stand in one.
//!
//! Owns: the rule of RFC 9112, section 3.2, for the gate and the control plane alike.
//! Never: says which hosts are ours; that is for [`crate::caller`] and the admin port.
//! Bounds: one pass over the value.

/// Whether a request has as many `Host` lines as it must have, with a value that can be a host:
/// one, or none in HTTP/1.0.
#[must_use]
pub fn is_right<'a>(mut values: impl Iterator<Item = &'a [u8]>, is_1_1: bool) -> bool {
    match (values.next(), values.next()) {
        (None, _) => !is_1_1,
        (Some(host), None) => can_be(host),
        (Some(_), Some(_)) => false,
    }
}

/// Whether `value` is `uri-host [":" port]` (RFC 9110, section 7.2). An empty one is: it stands for
/// a target without an authority.
fn can_be(value: &[u8]) -> bool {
    let value = value.trim_ascii();
    let (host, port) = match value.strip_prefix(b"[") {
        Some(rest) => {
            let Some(end) = memchr::memchr(b']', rest) else { return false };
            let (address, port) = rest.split_at(end);
            if address.is_empty() || !address.iter().all(|&byte| is_of_address(byte)) {
                return false;
            }
            (&b""[..], port.get(1..).unwrap_or_default())
        }
        None => value.split_at(memchr::memchr(b':', value).unwrap_or(value.len())),
    };
    let port = match port.split_first() {
        None => true,
        Some((b':', digits)) => digits.iter().all(u8::is_ascii_digit),
        Some(_) => false,
    };
    port && host.iter().all(|&byte| is_of_name(byte))
}

/// Of a registered name: unreserved characters, sub-delimiters, and what is percent-encoded (RFC
/// 3986, section 3.2.2).
const fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'%' | b'!' | b'$' | b'&')
        || matches!(byte, b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
}

/// Of an address in brackets, perhaps with a zone.
const fn is_of_address(byte: u8) -> bool {
    is_of_name(byte) || byte == b':'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_is_wanted_and_it_must_be_one() {
        let right = |hosts: &[&str], is_1_1| is_right(hosts.iter().map(|host| host.as_bytes()), is_1_1);
        assert!(right(&["im.example"], true) && right(&["im.example"], false));
        assert!(!right(&[], true) && right(&[], false), "HTTP/1.0 had none yet");
        assert!(!right(&["a", "a"], true) && !right(&["a", "b"], false));
        for host in ["", "a:", "a_b.example:8081", "127.0.0.1", "[::1]", "[fe80::1%25eth0]:80", "xn--bcher-kva.example"]
        {
            assert!(right(&[host], true), "{host:?}");
        }
        for host in
            ["a b", "a/b", "a@b", "a:80:80", "a:x", "http://a", "[::1", "[]", "[::1]x", "a\\b", "\"a\"", "b\u{fc}cher"]
        {
            assert!(!right(&[host], true), "{host:?}");
        }
    }
}
