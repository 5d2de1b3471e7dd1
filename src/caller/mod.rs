//! Which user asks, and from where: judged here once, for the gate and for the control plane alike.
//!
//! Owns: [`Judge`] (what the judgement needs to know), [`Peer`] (the other end of a connection),
//! [`Place`] (where a request comes from: the client behind trusted proxies, the browser's scheme,
//! whether a page of another origin asks), the proof of an identity (`proof`), login cookies
//! (`cookies`), the page origins that count (`origins`) and those that may read (`sharing`), what
//! proxies say in headers (`forwarded`) and before the first request (`preamble`).
//! Never: reads a socket or a clock, or asks the store: what it needs are arguments, and
//! [`Headers`] is all that it knows of a request. Never believes a header of a peer that is no
//! trusted proxy.
//! Bounds: those of the request head; [`crate::limits::COOKIES_TRIED_MAX`] signatures checked per
//! request, [`crate::limits::LOGIN_COOKIES_MAX`] login cookies kept in one browser,
//! [`crate::limits::PREAMBLE_BYTES_MAX`].

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

mod cookies;
mod forwarded;
mod headers;
mod origins;
pub mod preamble;
mod proof;
mod sharing;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};

use crate::auth::Key;
use crate::fair::Networks;
use crate::metrics::proxies::{Heard, Unsaid};
use forwarded::Told;
pub use headers::Headers;
use origins::Authority;
pub use origins::Origins;
pub use proof::{ClaimedIdentity, Unproven, bearer, is_jwt};
pub use sharing::{Readers, Share};

/// What the log says of a peer that speaks as a proxy does and is not believed, beside its address.
/// It may be none: clients write what they like.
const UNTRUSTED: &str = "headers as proxies send them, of an address that is not in trusted_proxies: not believed; add it only if it is your own proxy";

/// Names a peer in the log that is not believed, the `count`th of its kind: now and then, twice as
/// many later each time. Strangers from anywhere may send such headers, so only of what has a
/// proxy's sort of address the log warns.
pub fn tell_untrusted(peer: Peer, heard: Heard, count: u64) {
    match heard {
        _ if !count.is_power_of_two() => {}
        Heard::UntrustedPrivate => tracing::warn!(address = %peer.address, "{UNTRUSTED}"),
        Heard::Untrusted => tracing::info!(address = %peer.address, "{UNTRUSTED}"),
        Heard::Direct | Heard::Silent | Heard::Believed | Heard::NoClient => {}
    }
}

/// The other end of a connection, as the kernel or the header of the PROXY protocol names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// Whether the connection was encrypted on its way from there.
    pub tls: bool,
}

impl Peer {
    /// In the place of a peer that is gone, so that its address cannot be asked any more: no proxy,
    /// and no address at all.
    pub const GONE: Self = Self::plain(IpAddr::V4(Ipv4Addr::UNSPECIFIED));

    /// A peer on a connection without TLS.
    #[must_use]
    pub const fn plain(address: IpAddr) -> Self {
        Self { address, tls: false }
    }
}

/// Where a request comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The address that the request is counted for: the peer's, or the one that trusted proxies
    /// name. An IPv4 address is never written as IPv6.
    pub client: IpAddr,
    /// Whether the browser's side is encrypted.
    pub https: bool,
    /// Whether a page of another origin asks: then the cookies are its visitor's, but not the wish.
    pub foreign: bool,
}

/// What the judgement needs to know. Cheap to share, never changed.
#[derive(Clone, Debug)]
pub struct Judge {
    key: Key,
    trusted: Networks,
    origins: Origins,
    readers: Readers,
    /// What tells the login cookies of this gateway (or cluster) from those of another one on the
    /// same host.
    tag: String,
    /// The tag of the key by which is read, too, while keys are replaced.
    fallback_tag: Option<String>,
}

impl Judge {
    /// A judge of tokens that `key` has signed. Peers in `trusted` are proxies whose word about a
    /// client is believed; pages of `origins` may use cookies as our own may.
    #[must_use]
    pub fn new(key: Key, trusted: Networks, origins: Origins) -> Self {
        let (tag, fallback_tag) = (key.tag(), key.fallback_tag());
        Self { key, trusted, origins, readers: Readers::default(), tag, fallback_tag }
    }

    /// Whether `peer` may speak for others: in headers, or by the PROXY protocol.
    #[must_use]
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.contains(peer)
    }

    /// Whether a request says anything of the client that it comes from, believed or not.
    #[must_use]
    pub fn speaks_for_others(head: &impl Headers) -> bool {
        forwarded::is_said(head)
    }

    /// What becomes of what a request that `peer` has sent says of its client.
    #[must_use]
    pub fn heard(&self, head: &impl Headers, peer: Peer) -> Heard {
        match (Self::speaks_for_others(head), self.trusts(peer.address)) {
            (false, false) => Heard::Direct,
            (false, true) => Heard::Silent,
            (true, true) if self.told(head, peer).client.is_some() => Heard::Believed,
            (true, true) => Heard::NoClient,
            (true, false) if is_private(peer.address) => Heard::UntrustedPrivate,
            (true, false) => Heard::Untrusted,
        }
    }

    /// What the page of a browser shows that is not said: a proxy in front that says too little.
    /// Of a peer that can be one: others write what they like.
    #[must_use]
    pub fn unsaid(&self, head: &impl Headers, peer: Peer) -> Option<Unsaid> {
        if !self.trusts(peer.address) && !is_private(peer.address) {
            return None;
        }
        let told = self.told(head, peer);
        let host = told.host.or_else(|| headers::only(head, "host")).and_then(Authority::parse);
        self.origins.unsaid(head, host, told.port, told.https.unwrap_or(peer.tls))
    }

    fn told<'a>(&self, head: &'a impl Headers, peer: Peer) -> Told<'a> {
        if self.trusts(peer.address) { forwarded::told(head, &self.trusted) } else { Told::default() }
    }

    /// Where the request with these headers comes from, if `peer` has sent it.
    #[must_use]
    pub fn place(&self, head: &impl Headers, peer: Peer) -> Place {
        let told = self.told(head, peer);
        let https = told.https.unwrap_or(peer.tls);
        // With two `Host` lines it is not known which of them a proxy went by.
        let host = told.host.or_else(|| headers::only(head, "host")).and_then(Authority::parse);
        let foreign = self.origins.is_foreign(head, host, told.port, https);
        Place { client: told.client.unwrap_or(peer.address).to_canonical(), https, foreign }
    }
}

/// Whether an address is of a network that the Internet does not know, as those of proxies are (RFC
/// 1918, 6598, 4193), or of this machine.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            let is_shared = first == 100 && second & 0xc0 == 64;
            address.is_private() || address.is_loopback() || address.is_link_local() || is_shared
        }
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local(),
    }
}
