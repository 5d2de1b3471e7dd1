//! The PROXY protocol, versions 1 and 2: what a proxy that does not read HTTP says of its client,
//! before the client's first byte ("The PROXY protocol", haproxy's `doc/proxy-protocol.txt`).
//!
//! Owns: [`parse`]. Both versions, `LOCAL` and `UNKNOWN` (the proxy speaks for itself), IPv4 and
//! IPv6; of the extensions of version 2 only whether the client's side is encrypted.
//! Never: guesses whether there is a header: a listener says so. Never panics, and never asks for
//! more than [`PREAMBLE_BYTES_MAX`] bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Peer;
use crate::limits::PREAMBLE_BYTES_MAX;

/// A whole header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Preamble {
    /// Bytes of the header; the client's own begin behind it.
    pub len: usize,
    /// The client; `None`: the proxy itself asks (a health check), or does not know for whom.
    pub client: Option<Peer>,
}

/// What stands before the first request is no header of the PROXY protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no header of the PROXY protocol")]
pub struct BadPreamble;

/// What version 1 begins with.
const V1: &[u8] = b"PROXY ";
/// A line of version 1 with the longest addresses, its end included.
const V1_BYTES_MAX: usize = 107;
/// What version 2 begins with.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The extension that says how the client's side is encrypted, and the bit that says that it is.
const TLV_SSL: u8 = 0x20;
const CLIENT_SSL: u8 = 0x01;

/// Whether `bytes`, which were to be something else, begin with such a header.
#[must_use]
pub fn is_announced(bytes: &[u8]) -> bool {
    bytes.starts_with(V1) || bytes.starts_with(V2)
}

/// Reads the header at the start of `bytes`, everything that the connection has sent; `None` means
/// that more is needed.
///
/// # Errors
/// [`BadPreamble`], as soon as it is certain that no further byte can help.
pub fn parse(bytes: &[u8]) -> Result<Option<Preamble>, BadPreamble> {
    let begins = |signature: &[u8]| bytes.iter().zip(signature).all(|(a, b)| a == b);
    if begins(V1) {
        return line(bytes);
    }
    if begins(V2) {
        return block(bytes);
    }
    Err(BadPreamble)
}

/// Version 1: `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443`, or `PROXY UNKNOWN` and anything.
fn line(bytes: &[u8]) -> Result<Option<Preamble>, BadPreamble> {
    let bounded = bytes.get(..V1_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = bounded.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < V1_BYTES_MAX { Ok(None) } else { Err(BadPreamble) };
    };
    let text = bounded.get(V1.len()..end).and_then(|line| std::str::from_utf8(line).ok()).ok_or(BadPreamble)?;
    let mut words = text.split(' ');
    let client = match words.next() {
        Some("UNKNOWN") => None,
        Some("TCP4") => Some(client_of::<Ipv4Addr>(words)?.into()),
        Some("TCP6") => Some(client_of::<Ipv6Addr>(words)?.into()),
        _ => return Err(BadPreamble),
    };
    Ok(Some(Preamble { len: end + 2, client: client.map(Peer::plain) }))
}

/// The first of two addresses, if two ports follow them and nothing else.
fn client_of<'a, A: std::str::FromStr>(mut words: impl Iterator<Item = &'a str>) -> Result<A, BadPreamble> {
    let mut address = || words.next().and_then(|word| word.parse::<A>().ok()).ok_or(BadPreamble);
    let (client, _) = (address()?, address()?);
    let is_port = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit()) && word.parse::<u16>().is_ok();
    let ports = [words.next(), words.next()].iter().flatten().filter(|word| is_port(word)).count();
    if ports == 2 && words.next().is_none() { Ok(client) } else { Err(BadPreamble) }
}

/// Version 2: the signature, version and command, family and protocol, a length, addresses,
/// extensions.
fn block(bytes: &[u8]) -> Result<Option<Preamble>, BadPreamble> {
    let Some((fixed, rest)) = bytes.split_at_checked(V2.len()).and_then(|(_, rest)| rest.split_first_chunk::<4>())
    else {
        return Ok(None);
    };
    let &[version_and_command, family, high, low] = fixed;
    let is_local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(BadPreamble),
    };
    let body_len = usize::from(u16::from_be_bytes([high, low]));
    let len = V2.len() + fixed.len() + body_len;
    if len > PREAMBLE_BYTES_MAX {
        return Err(BadPreamble);
    }
    let Some(body) = rest.get(..body_len) else { return Ok(None) };
    let client = if is_local { None } else { described(family, body)? };
    Ok(Some(Preamble { len, client }))
}

/// The client of a block. TCP over IPv4 or IPv6; a Unix socket and an unspecified family say
/// nothing of an address.
fn described(family: u8, body: &[u8]) -> Result<Option<Peer>, BadPreamble> {
    let (address, extensions) = match family {
        0x11 => {
            let (addresses, rest) = body.split_first_chunk::<12>().ok_or(BadPreamble)?;
            let &[a, b, c, d, ..] = addresses;
            (IpAddr::from([a, b, c, d]), rest)
        }
        0x21 => {
            let (addresses, rest) = body.split_first_chunk::<36>().ok_or(BadPreamble)?;
            let (client, _) = addresses.split_first_chunk::<16>().ok_or(BadPreamble)?;
            (IpAddr::from(*client), rest)
        }
        0x00 | 0x31 => return Ok(None),
        _ => return Err(BadPreamble),
    };
    Ok(Some(Peer { address: address.to_canonical(), tls: is_encrypted(extensions) }))
}

/// Whether an extension says that the client's side is encrypted. What cannot be read says nothing.
fn is_encrypted(mut extensions: &[u8]) -> bool {
    while let Some((&[kind, high, low], rest)) = extensions.split_first_chunk::<3>() {
        let Some((value, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low]))) else { break };
        if kind == TLV_SSL {
            return value.first().is_some_and(|client| client & CLIENT_SSL != 0);
        }
        extensions = rest;
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A block of version 2.
    fn v2(version_and_command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let len = u16::try_from(body.len()).expect("a short body").to_be_bytes();
        [V2, &[version_and_command, family], &len, body].concat()
    }

    fn whole(bytes: &[u8]) -> (usize, Option<String>, bool) {
        let found = parse(bytes).expect("a header").expect("a whole one");
        let client = found.client.map(|peer| peer.address.to_string());
        (found.len, client, found.client.is_some_and(|peer| peer.tls))
    }

    #[test]
    fn a_line_of_version_1_names_its_client() {
        let behind = "GET / HTTP/1.1\r\n\r\n";
        for (line, client) in [
            ("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", Some("192.0.2.1")),
            ("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", Some("255.255.255.255")),
            ("PROXY TCP6 2001:db8::1 ::1 0 65535\r\n", Some("2001:db8::1")),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None),
        ] {
            let found = whole(format!("{line}{behind}").as_bytes());
            assert_eq!(found, (line.len(), client.map(str::to_owned), false), "{line}");
        }
        for line in [
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324 443 1\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324 65536\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 +1 443\r\n",
            "PROXY TCP4 192.0.2.1  198.51.100.1 56324 443\r\n",
            "PROXY TCP4 2001:db8::1 ::1 56324 443\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.1 56324 443\r\n",
            "PROXY TCP4 localhost 198.51.100.1 56324 443\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.1 56324 443\r\n",
            "PROXY \r\n",
            "PROXY TCP4 \u{e9}\r\n",
            "proxy TCP4 192.0.2.1 198.51.100.1 56324 443\r\n",
            "GET / HTTP/1.1\r\n",
            "\r\n\r\nQUIT",
            "\u{16}\u{3}\u{1}",
        ] {
            assert_eq!(parse(line.as_bytes()), Err(BadPreamble), "{line}");
        }
        let endless = format!("PROXY UNKNOWN {}", "x".repeat(V1_BYTES_MAX));
        assert_eq!(parse(&endless.as_bytes()[..V1_BYTES_MAX - 1]), Ok(None));
        assert_eq!(parse(&endless.as_bytes()[..V1_BYTES_MAX]), Err(BadPreamble));
    }

    #[test]
    fn a_block_of_version_2_names_its_client() {
        let v4 = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 4, 1, 0xbb];
        let mut v6 = [0; 36];
        v6[..16].copy_from_slice(&"2001:db8::1".parse::<Ipv6Addr>().expect("an address").octets());
        assert_eq!(whole(&v2(0x21, 0x11, &v4)), (28, Some("192.0.2.1".to_owned()), false));
        assert_eq!(whole(&v2(0x21, 0x21, &v6)), (52, Some("2001:db8::1".to_owned()), false));
        assert_eq!(whole(&v2(0x20, 0x11, &v4)), (28, None, false), "a health check");
        assert_eq!(whole(&v2(0x20, 0xff, &[])), (16, None, false), "whose family means nothing");
        assert_eq!(whole(&v2(0x21, 0x00, &[])), (16, None, false));
        assert_eq!(whole(&v2(0x21, 0x31, &[0; 216])), (232, None, false), "a Unix socket");
        let alpn = [1, 0, 2, b'h', b'2'];
        let ssl = |client: u8| [&v4[..], &alpn, &[0x20, 0, 5, client, 0, 0, 0, 0], &alpn].concat();
        assert!(whole(&v2(0x21, 0x11, &ssl(0x01))).2 && !whole(&v2(0x21, 0x11, &ssl(0x02))).2);
        for wrong in [
            v2(0x21, 0x11, &v4[..11]),
            v2(0x21, 0x21, &v6[..35]),
            v2(0x21, 0x12, &v4),
            v2(0x21, 0x41, &v4),
            v2(0x22, 0x11, &v4),
            v2(0x11, 0x11, &v4),
            v2(0x21, 0x11, &vec![0; PREAMBLE_BYTES_MAX]),
        ] {
            assert_eq!(parse(&wrong), Err(BadPreamble), "{wrong:?}");
        }
        assert_eq!(parse(&v2(0x21, 0x11, &vec![0; PREAMBLE_BYTES_MAX])[..16]), Err(BadPreamble), "told at once");
    }

    fn header() -> impl Strategy<Value = (Vec<u8>, Option<IpAddr>)> {
        let v1 = (any::<[u8; 4]>(), any::<u16>(), any::<u16>()).prop_map(|(address, from, to)| {
            let address = Ipv4Addr::from(address);
            (format!("PROXY TCP4 {address} 198.51.100.1 {from} {to}\r\n").into_bytes(), Some(address.into()))
        });
        let v1_6 = any::<[u8; 16]>().prop_map(|address| {
            let address = Ipv6Addr::from(address);
            (format!("PROXY TCP6 {address} ::1 1 2\r\n").into_bytes(), Some(address.into()))
        });
        let more = || prop::collection::vec(any::<u8>(), 0..64);
        let v2_4 = (any::<[u8; 12]>(), more()).prop_map(|(addresses, more)| {
            let address = IpAddr::from([addresses[0], addresses[1], addresses[2], addresses[3]]);
            (v2(0x21, 0x11, &[&addresses[..], &more].concat()), Some(address))
        });
        let v2_local = (any::<u8>(), more()).prop_map(|(family, more)| (v2(0x20, family, &more), None));
        prop_oneof![v1, v1_6, v2_4, v2_local]
    }

    proptest! {
        #[test]
        fn a_header_in_pieces_is_the_same_header((bytes, client) in header(), behind in prop::collection::vec(any::<u8>(), 0..20)) {
            for cut in 0..bytes.len() {
                prop_assert_eq!(parse(&bytes[..cut]), Ok(None), "cut at {}", cut);
            }
            let found = parse(&[bytes.clone(), behind].concat()).expect("a header").expect("a whole one");
            prop_assert_eq!(found.len, bytes.len());
            let seen = found.client.map(|peer| peer.address.to_canonical());
            prop_assert_eq!(seen, client.map(|address| address.to_canonical()));
        }

        #[test]
        fn no_bytes_stop_it(signature in 0..3, rest in prop::collection::vec(any::<u8>(), 0..300)) {
            let bytes = match signature { 0 => rest, 1 => [V1, &rest].concat(), _ => [V2, &rest].concat() };
            if let Ok(Some(found)) = parse(&bytes) {
                prop_assert!(found.len <= bytes.len() && found.len <= PREAMBLE_BYTES_MAX);
            }
        }
    }
}
