//! Where events are told: a URL, and the addresses that its name may have.
//!
//! Owns: the rule that nothing inside the operator's networks is asked unless the operator names
//! it, whatever a name resolves to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

use crate::fair::Networks;

/// A URL that is told events: `http` or `https`, without a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    url: Url,
}

/// Without its path and query, which may hold a secret.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.shown())
    }
}

impl Endpoint {
    /// Reads it. `None`: no URL of ours.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        let fits = plain && matches!(url.scheme(), "http" | "https") && url.host().is_some();
        fits.then_some(Self { url })
    }

    /// Scheme, host and port.
    #[must_use]
    pub fn shown(&self) -> String {
        self.url.origin().ascii_serialization()
    }

    /// All of it: it may hold a secret.
    pub(super) fn text(&self) -> &str {
        self.url.as_str()
    }

    /// Whether it is asked over TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// The name or address, without the brackets of IPv6.
    pub(super) fn host(&self) -> String {
        match self.url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => String::new(),
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or_default()
    }

    /// The value of `Host`.
    pub(super) fn authority(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Path and query.
    pub(super) fn target(&self) -> String {
        let path = self.url.path();
        self.url.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"))
    }
}

/// Whether `address` may be asked.
pub(super) fn may_ask(address: IpAddr, allowed: &Networks) -> bool {
    let address = address.to_canonical();
    allowed.contains(address) || !is_private(address)
}

/// Whether an address is not one of a host on the Internet: what it leads to depends on the network
/// of the host that asks (IANA's special-purpose address registries).
#[must_use]
pub fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_private_v4(address),
        IpAddr::V6(address) => embedded(address).map_or_else(|| is_private_v6(address), is_private_v4),
    }
}

fn is_private_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    a == 0
        || a >= 224
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_documentation()
        || (a == 100 && b & 0xc0 == 64)
        || (a == 198 && b & 0xfe == 18)
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
}

fn is_private_v6(address: Ipv6Addr) -> bool {
    // Global unicast is 2000::/3, and of it 2001::/23 and the documentation's are not.
    let [first, second, ..] = address.segments();
    first & 0xe000 != 0x2000 || (first == 0x2001 && (second < 0x200 || second == 0xdb8)) || first == 0x3fff
}

/// The IPv4 address that an IPv6 address stands for: NAT64 (RFC 6052), 6to4 (RFC 3056), and the
/// deprecated compatible ones (RFC 4291, section 2.5.5.1).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let of = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match [a, b, c, d, e, f] {
        [0x64, 0xff9b, 0, 0, 0, 0] => Some(of(g, h)),
        [0x2002, ..] => Some(of(b, c)),
        [0, 0, 0, 0, 0, 0] if g != 0 => Some(of(g, h)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_the_internet_is_not_asked_however_it_is_written() {
        for private in [
            "127.0.0.1",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "192.0.0.8",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:c0a8:101::",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
        ] {
            let address: IpAddr = private.parse().expect("an address");
            assert!(is_private(address) && !may_ask(address, &Networks::default()), "{private}");
        }
        for public in
            ["1.1.1.1", "93.184.216.34", "2606:2800:220:1::1", "64:ff9b::101:101", "2002:101:101::1", "::ffff:1.1.1.1"]
        {
            assert!(may_ask(public.parse().expect("an address"), &Networks::default()), "{public}");
        }
        let named = Networks::parse(["10.1.0.0/16"]).expect("a network");
        let may = |address: &str| may_ask(address.parse().expect("an address"), &named);
        assert!(may("10.1.2.3") && may("::ffff:10.1.2.3") && !may("10.2.0.1"), "what the operator names");
    }

    #[test]
    fn an_endpoint_is_a_url_without_a_password() {
        let endpoint = Endpoint::parse("https://hooks.example:8443/in?x=1").expect("a URL");
        assert_eq!((endpoint.host().as_str(), endpoint.port(), endpoint.is_tls()), ("hooks.example", 8443, true));
        assert_eq!((endpoint.authority().as_str(), endpoint.target().as_str()), ("hooks.example:8443", "/in?x=1"));
        assert_eq!(format!("{endpoint:?}"), "Endpoint(https://hooks.example:8443)");
        assert_eq!(Endpoint::parse("http://[::1]/").expect("a URL").host(), "::1");
        for bad in ["", "hooks.example", "ftp://x/", "https://u:p@x/", "https://x/#y", "file:///etc/passwd"] {
            assert!(Endpoint::parse(bad).is_none(), "{bad}");
        }
    }
}
