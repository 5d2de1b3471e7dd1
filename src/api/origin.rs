//! From which address a request comes.
//!
//! Never: believes a header of somebody who is not on this machine. A proxy that is names its client last in
//! `X-Forwarded-For`; what stands before that anybody may have written.

use std::net::{IpAddr, Ipv4Addr};

use axum::http::{Extensions, HeaderMap};

/// The other end of the connection, on every request that came through a door.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// The address that a request is counted for. A connection whose other end cannot be told is gone already, and counts as
/// this machine.
pub(super) fn of(extensions: &Extensions, headers: &HeaderMap) -> IpAddr {
    let peer = extensions.get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |peer| peer.0);
    if !peer.is_loopback() {
        return peer;
    }
    let forwarded = headers.get_all("x-forwarded-for").iter().next_back().and_then(|value| value.to_str().ok());
    let last = forwarded.and_then(|list| list.rsplit(',').next()).and_then(|address| address.trim().parse().ok());
    last.unwrap_or(peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(peer: &str, forwarded: &[&str]) -> String {
        let mut extensions = Extensions::new();
        extensions.insert(Peer(peer.parse().expect("an address")));
        let mut headers = HeaderMap::new();
        for list in forwarded {
            headers.append("x-forwarded-for", list.parse().expect("a header value"));
        }
        of(&extensions, &headers).to_string()
    }

    #[test]
    fn only_this_machine_is_believed() {
        assert_eq!(seen("192.0.2.9", &["198.51.100.1"]), "192.0.2.9");
        assert_eq!(seen("127.0.0.1", &["203.0.113.5, 198.51.100.1"]), "198.51.100.1");
        assert_eq!(seen("::1", &["203.0.113.5", "2001:db8::1"]), "2001:db8::1");
        assert_eq!(seen("127.0.0.1", &["unknown"]), "127.0.0.1");
        assert_eq!(seen("127.0.0.1", &[]), "127.0.0.1");
        assert_eq!(of(&Extensions::new(), &HeaderMap::new()).to_string(), "127.0.0.1");
    }
}
