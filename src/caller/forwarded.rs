//! What proxies say of the client they ask for: `X-Forwarded-For`, `-Proto`, `-Host` and `-Port`,
//! and `Forwarded` (RFC 7239).
//!
//! Owns: the walk from the nearest proxy to the first one that is not trusted, and the ways in
//! which proxies write an address.
//! Never: believes what stands to the left of an address that is not trusted: any client may have
//! written it. A peer that is not trusted is not even heard; that is the caller's check.
//!
//! Where a request has both kinds, `X-Forwarded-…` counts alone: the proxies that people run set
//! it, and pass on the `Forwarded` of whoever asks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Headers;
use super::headers::list;
use crate::fair::Networks;
use crate::http::value::{UNREADABLE, text};

/// What trusted proxies say.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Told<'a> {
    /// The client: the first address, from the nearest on, that is not a trusted proxy's.
    pub(super) client: Option<IpAddr>,
    /// Whether the browser's side is encrypted.
    pub(super) https: Option<bool>,
    /// The host that the browser asks.
    pub(super) host: Option<&'a str>,
    /// The port that the browser asks, where `host` may be without one.
    pub(super) port: Option<u16>,
}

/// Whether a request says anything of the client that it comes from.
pub(super) fn is_said(head: &impl Headers) -> bool {
    let is_there = |name: &&'static str| head.values(name).next().is_some();
    ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "forwarded"].iter().any(is_there)
}

/// What a trusted peer says of the client it asks for.
pub(super) fn told<'a>(head: &'a impl Headers, trusted: &Networks) -> Told<'a> {
    let [clients, protos, hosts, ports] =
        ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port"].map(|name| list(head, name));
    if [&clients, &protos, &hosts, &ports].iter().all(|list| list.is_empty()) {
        return standard(head, trusted);
    }
    let (client, hops) = walk(&clients, trusted);
    // Each proxy appends one element to each list, or writes the only one. So the outermost trusted
    // proxy wrote the one that stands where it wrote the client's address.
    let pick = |list: &[&'a str]| list.get(list.len().saturating_sub(hops.max(1))).copied();
    // A proxy that rewrites the host says for whom it asks, or how. A lone host was written by
    // another client.
    let is_proxied = !clients.is_empty() || !protos.is_empty();
    Told {
        client,
        https: pick(&protos).and_then(is_https),
        host: pick(&hosts).filter(|_| is_proxied),
        port: pick(&ports).and_then(|port| port.parse().ok()).filter(|_| is_proxied),
    }
}

/// The first address, from the right, that is not trusted, or else the leftmost that can be read;
/// and how many elements that took. The walk ends where a proxy does not say an address.
fn walk(clients: &[&str], trusted: &Networks) -> (Option<IpAddr>, usize) {
    let mut client = None;
    for (index, text) in clients.iter().rev().enumerate() {
        let Some(found) = address(text) else { return (client, index + 1) };
        client = Some(found);
        if !trusted.contains(found) {
            return (client, index + 1);
        }
    }
    (client, clients.len())
}

/// `Forwarded`: each proxy appends an element with everything that it says.
fn standard<'a>(head: &'a impl Headers, trusted: &Networks) -> Told<'a> {
    let mut told = Told::default();
    let lines: Vec<&[u8]> = head.values("forwarded").collect();
    for element in lines.into_iter().rev().flat_map(Elements) {
        let Some(element) = Element::parse(element) else { break };
        let is_proxied = element.client.is_some() || element.https.is_some();
        told.https = element.https.or(told.https);
        told.host = element.host.filter(|_| is_proxied).or(told.host);
        let Some(Some(client)) = element.client else { break };
        told.client = Some(client);
        if !trusted.contains(client) {
            break;
        }
    }
    told
}

/// The elements of a line, the last one first. So a quotation mark that is never closed, which
/// a client sent to swallow what proxies append to it, spoils only what stands to its left.
struct Elements<'a>(&'a [u8]);

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let line = self.0;
        if line.is_empty() {
            return None;
        }
        let mut commas = memchr::memchr_iter(b',', line).rev();
        let whole = |at: &usize| line.get(at + 1..).is_some_and(|rest| !rest.contains(&b'"') || has_pairs(rest));
        let (rest, element) = match commas.find(whole) {
            Some(at) => (line.get(..at)?, line.get(at + 1..)?),
            None => (&b""[..], line),
        };
        self.0 = rest;
        Some(element)
    }
}

/// Whether every quotation mark has its other one.
fn has_pairs(octets: &[u8]) -> bool {
    let (mut open, mut escaped) = (false, false);
    for &byte in octets {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if open => escaped = true,
            b'"' => open = !open,
            _ => {}
        }
    }
    !open
}

/// One element of `Forwarded`.
#[derive(Default)]
struct Element<'a> {
    /// `for`; inside: `None` for `unknown`, for a name that hides the address, and for what cannot
    /// be read.
    client: Option<Option<IpAddr>>,
    https: Option<bool>,
    host: Option<&'a str>,
}

impl<'a> Element<'a> {
    /// `None`: it is broken. A value that cannot be read is as good as none, and spoils no other
    /// pair: the host is what the client has asked for.
    fn parse(octets: &'a [u8]) -> Option<Self> {
        if !has_pairs(octets) {
            return None;
        }
        let mut element = Self::default();
        for pair in pairs(octets).map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_at_checked(memchr::memchr(b'=', pair)?)?;
            let value = unquoted(value.get(1..)?).map_or(UNREADABLE, text);
            if name.eq_ignore_ascii_case(b"for") {
                element.client = Some(address(value));
            } else if name.eq_ignore_ascii_case(b"proto") {
                element.https = is_https(value);
            } else if name.eq_ignore_ascii_case(b"host") {
                element.host = Some(value);
            }
        }
        Some(element)
    }
}

/// The pairs of an element: semicolons inside quotation marks separate nothing.
fn pairs(octets: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut open, mut escaped) = (false, false);
    octets.split(move |byte| {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if open => escaped = true,
            b'"' => open = !open,
            _ => return *byte == b';' && !open,
        }
        false
    })
}

/// A value without its quotation marks; `None` for one with escapes, which no address, scheme or
/// host needs.
fn unquoted(value: &[u8]) -> Option<&[u8]> {
    match value.strip_prefix(b"\"") {
        Some(rest) => rest.strip_suffix(b"\"").filter(|inside| !inside.iter().any(|byte| b"\"\\".contains(byte))),
        None => Some(value).filter(|value| !value.contains(&b'"')),
    }
}

/// `https` and `http`, and the schemes of WebSockets, which some proxies say for an upgrade.
fn is_https(scheme: &str) -> Option<bool> {
    let is = |one: &str| scheme.eq_ignore_ascii_case(one);
    if is("https") || is("wss") {
        Some(true)
    } else if is("http") || is("ws") {
        Some(false)
    } else {
        None
    }
}

/// An address as proxies write it: `192.0.2.1`, `192.0.2.1:443`, `2001:db8::1`, `[2001:db8::1]`,
/// `[2001:db8::1]:443`, a port that is hidden by a name (RFC 7239, section 6), quotation marks
/// around it. `None` for anything else.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    let found = if let Some(rest) = text.strip_prefix('[') {
        let (inside, behind) = rest.split_once(']')?;
        IpAddr::V6(inside.parse::<Ipv6Addr>().ok().filter(|_| behind.is_empty() || is_port(behind))?)
    } else if let Ok(address) = text.parse::<IpAddr>() {
        address
    } else {
        let (address, port) = text.split_at_checked(text.find(':')?)?;
        IpAddr::V4(address.parse::<Ipv4Addr>().ok().filter(|_| is_port(port))?)
    };
    Some(found.to_canonical())
}

/// `:443`, or `:_name`.
fn is_port(text: &str) -> bool {
    let Some(port) = text.strip_prefix(':') else { return false };
    let hidden = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    port.parse::<u16>().is_ok() || port.strip_prefix('_').is_some_and(hidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Header lines of a test.
    pub(super) struct Lines<'a, T>(pub(super) &'a [(&'a str, T)]);

    impl<T: AsRef<[u8]>> Headers for Lines<'_, T> {
        fn values(&self, name: &'static str) -> impl Iterator<Item = &[u8]> {
            self.0.iter().filter(move |(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_ref())
        }
    }

    fn networks() -> Networks {
        Networks::parse(["127.0.0.0/8", "10.0.0.0/8", "2001:db8:ff::/48"]).expect("networks")
    }

    fn client(lines: &[(&str, impl AsRef<[u8]>)]) -> Option<String> {
        told(&Lines(lines), &networks()).client.map(|address| address.to_string())
    }

    #[test]
    fn addresses_are_read_as_proxies_write_them() {
        for (text, read) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("192.0.2.1:51234", Some("192.0.2.1")),
            ("192.0.2.1:_port", Some("192.0.2.1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[2001:DB8::1]:443", Some("2001:db8::1")),
            ("\"[2001:db8::1]:443\"", Some("2001:db8::1")),
            ("::ffff:192.0.2.1", Some("192.0.2.1")),
            ("[::ffff:192.0.2.1]:80", Some("192.0.2.1")),
            ("unknown", None),
            ("_hidden", None),
            ("", None),
            ("192.0.2.1:", None),
            ("192.0.2.1:99999", None),
            ("192.0.2.1:80:90", None),
            ("192.0.2.256", None),
            ("[2001:db8::1", None),
            ("[2001:db8::1]443", None),
            ("[192.0.2.1]", None),
            ("fe80::1%eth0", None),
            ("chat.example:80", None),
        ] {
            assert_eq!(address(text).map(|address| address.to_string()).as_deref(), read, "{text}");
        }
    }

    #[test]
    fn the_client_is_the_first_from_the_right_whom_nobody_trusts() {
        for (lines, seen) in [
            (&["203.0.113.5"][..], Some("203.0.113.5")),
            (&["198.51.100.1, 203.0.113.5"], Some("203.0.113.5")),
            (&["198.51.100.1, 203.0.113.5, 10.1.2.3"], Some("203.0.113.5")),
            (&["198.51.100.1, 203.0.113.5", "10.1.2.3:80, [2001:db8:ff::7]:80"], Some("203.0.113.5")),
            (&["10.0.0.1, 10.0.0.2"], Some("10.0.0.1")),
            (&["198.51.100.1, unknown, 10.0.0.2"], Some("10.0.0.2")),
            (&["198.51.100.1, unknown"], None),
            (&["203.0.113.5, ,"], Some("203.0.113.5")),
            (&[""], None),
            (&[], None),
        ] {
            let lines: Vec<_> = lines.iter().map(|line| ("X-Forwarded-For", *line)).collect();
            assert_eq!(client(&lines).as_deref(), seen, "{lines:?}");
        }
    }

    #[test]
    fn scheme_host_and_port_are_those_of_the_outermost_trusted_proxy() {
        let seen = |lines: &[(&'static str, &'static str)]| {
            let lines = Lines(lines);
            let told = told(&lines, &networks());
            (told.https, told.host.map(str::to_owned), told.port)
        };
        let host = |text: &str| Some(text.to_owned());
        let two = ("X-Forwarded-For", "198.51.100.1, 203.0.113.5, 10.0.0.2");
        assert_eq!(seen(&[("X-Forwarded-Proto", "https")]), (Some(true), None, None));
        assert_eq!(seen(&[("X-Forwarded-Proto", "WSS")]), (Some(true), None, None));
        assert_eq!(seen(&[("X-Forwarded-Proto", "gopher")]), (None, None, None));
        assert_eq!(seen(&[two, ("X-Forwarded-Proto", "http, https, http")]), (Some(true), None, None));
        assert_eq!(seen(&[two, ("X-Forwarded-Proto", "https")]), (Some(true), None, None));
        let hosts = ("X-Forwarded-Host", "evil.example, chat.example, inner:80");
        assert_eq!(seen(&[two, hosts]), (None, host("chat.example"), None));
        assert_eq!(seen(&[two, ("X-Forwarded-Port", "8443")]), (None, None, Some(8443)));
        assert_eq!(seen(&[hosts]), (None, None, None), "a lone host was not written by a proxy");
    }

    #[test]
    fn forwarded_is_read_as_the_rfc_writes_it() {
        let seen = |lines: &[&'static str]| {
            let lines: Vec<_> = lines.iter().map(|line| ("Forwarded", *line)).collect();
            let lines = Lines(&lines);
            let told = told(&lines, &networks());
            let client = told.client.map(|address| address.to_string()).unwrap_or_default();
            (client, told.https, told.host.unwrap_or_default().to_owned())
        };
        let is = |client: &str, https, host: &str| (client.to_owned(), https, host.to_owned());
        assert_eq!(seen(&["for=\"[2001:db8:cafe::17]:4711\""]), is("2001:db8:cafe::17", None, ""));
        assert_eq!(
            seen(&["For=192.0.2.60;proto=http;by=203.0.113.43;host=\"a;b,c\""]),
            is("192.0.2.60", Some(false), "a;b,c")
        );
        assert_eq!(seen(&["for=192.0.2.43, for=198.51.100.17"]), is("198.51.100.17", None, ""));
        assert_eq!(
            seen(&["for=192.0.2.43;proto=https;host=chat.example", "for=10.0.0.1;proto=http , for=10.0.0.2"]),
            is("192.0.2.43", Some(true), "chat.example")
        );
        assert_eq!(seen(&["for=192.0.2.43, for=unknown, for=10.0.0.1"]), is("10.0.0.1", None, ""));
        assert_eq!(seen(&["for=_hidden;proto=https"]), is("", Some(true), ""));
        assert_eq!(seen(&["for=\"_gazonk\""]), is("", None, ""));
        assert_eq!(seen(&["host=evil.example"]), is("", None, ""), "a lone host was not written by a proxy");
        // A client opens a quotation to swallow what the proxy appends.
        assert_eq!(seen(&["for=\", for=198.51.100.17;proto=https"]), is("198.51.100.17", Some(true), ""));
        assert_eq!(seen(&["for=\"\\", "for=198.51.100.17"]), is("198.51.100.17", None, ""));
        assert_eq!(seen(&["for=\"192.0.2.1", "for=10.0.0.1"]), is("10.0.0.1", None, ""));
        assert_eq!(seen(&["nonsense"]), is("", None, ""));
    }

    #[test]
    fn what_proxies_set_themselves_hides_what_they_pass_on() {
        let lines = [("Forwarded", "for=198.51.100.1;proto=https"), ("X-Forwarded-For", "203.0.113.5")];
        assert_eq!(client(&lines).as_deref(), Some("203.0.113.5"));
        assert_eq!(told(&Lines(&lines), &networks()).https, None);
    }

    #[test]
    fn what_a_client_writes_that_is_no_text_hides_nothing_that_a_proxy_appends() {
        let (listed, element) = ("x-forwarded-for", "forwarded");
        for (lines, seen) in [
            (&[(listed, &b"\xff, 203.0.113.5"[..])][..], Some("203.0.113.5")),
            (&[(listed, b"caf\xe9, 203.0.113.5, 10.0.0.1")], Some("203.0.113.5")),
            (&[(listed, b"\xff, 203.0.113.5"), (element, b"for=198.51.100.9")], Some("203.0.113.5")),
            (&[(listed, b"198.51.100.1, \xff, 10.0.0.1")], Some("10.0.0.1")),
            (&[(listed, b"198.51.100.1, 203.0.113.5\xff")], None),
            (&[(listed, b"\xff"), (element, b"for=198.51.100.9")], None),
            (&[(listed, b"\xff"), (listed, b"203.0.113.5")], Some("203.0.113.5")),
            (&[(element, b"for=\"\xff\", for=203.0.113.5")], Some("203.0.113.5")),
            (&[(element, b"\xff, for=203.0.113.5;host=\"\xff\";\xff=\xff")], Some("203.0.113.5")),
            (&[(element, b"for=203.0.113.5;host=\"a\\\"b\"")], Some("203.0.113.5")),
            (&[(element, b"for=198.51.100.1, for=\"\xff\", for=10.0.0.1")], Some("10.0.0.1")),
        ] {
            assert_eq!(client(lines).as_deref(), seen, "{lines:?}");
        }
        let lines =
            [(listed, &b"203.0.113.5"[..]), ("x-forwarded-host", b"\xff"), ("x-forwarded-proto", b"\xff, https")];
        let lines = Lines(&lines);
        let told = told(&lines, &networks());
        assert_eq!((told.https, told.host), (Some(true), Some(UNREADABLE)), "a host that is none of ours");
    }
}
