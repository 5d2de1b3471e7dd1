//! A list of networks, as an operator writes it.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};

/// Networks in CIDR notation (RFC 4632), or single addresses. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Networks(Arc<[IpNet]>);

impl Networks {
    /// Reads `10.0.0.0/8`, `2001:db8::/32` or a single address, one from each text.
    ///
    /// # Errors
    /// The first text that is neither.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let one = |text: &str| {
            let text = text.trim();
            text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| text.to_owned())
        };
        texts.into_iter().map(|text| one(text).map(canonical)).collect::<Result<_, _>>().map(Self)
    }

    /// This machine: what is trusted unless the configuration says otherwise.
    #[must_use]
    pub fn loopback() -> Self {
        Self::parse(["127.0.0.0/8", "::1/128"]).unwrap_or_default()
    }

    /// Whether every address of IPv4, or of IPv6, lies in them.
    #[must_use]
    pub fn holds_everybody(&self) -> bool {
        IpNet::aggregate(&self.0.to_vec()).iter().any(|network| network.prefix_len() == 0)
    }

    /// Whether all of them are this machine, or there is none.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.0.iter().all(|network| network.addr().is_loopback())
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each as it is written in the configuration.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    /// Whether `address` lies in one of them. An IPv4 address that is written as IPv6 is the IPv4
    /// address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// A network of IPv4 that is written as IPv6 (`::ffff:10.0.0.0/104`) is the IPv4 network: addresses
/// are compared in that form.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    let v4 = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    v4.and_then(|(address, len)| Ipv4Net::new(address, len).ok()).map_or(network, IpNet::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_single_addresses_are_read() {
        let networks = Networks::parse(["10.0.0.0/8", " 192.0.2.1", "2001:db8::/32"]).expect("all are networks");
        let contains = |text: &str| networks.contains(text.parse().expect("an address"));
        assert!(
            contains("10.1.2.3") && contains("192.0.2.1") && contains("2001:db8::7") && contains("::ffff:10.0.0.1")
        );
        assert!(!contains("192.0.2.2") && !contains("11.0.0.1") && !contains("2001:db9::1"));
        assert_eq!(Networks::parse(["10.0.0.0/33"]), Err("10.0.0.0/33".to_owned()));
        assert!(Networks::loopback().contains("::1".parse().expect("an address")));
        let everybody = |texts: &[&str]| Networks::parse(texts.iter().copied()).expect("networks").holds_everybody();
        assert!(everybody(&["0.0.0.0/0"]) && everybody(&["::/0"]) && everybody(&["128.0.0.0/1", "0.0.0.0/1"]));
        assert!(!everybody(&["0.0.0.0/1", "10.0.0.0/8"]) && !everybody(&[]));
        assert!(Networks::loopback().is_local() && !networks.is_local());
        let mapped = Networks::parse(["::ffff:127.0.0.1", "::ffff:127.0.0.0/104"]).expect("networks");
        assert_eq!(mapped.texts(), ["127.0.0.1/32", "127.0.0.0/8"], "IPv4, written as IPv6");
        assert!(mapped.is_local() && mapped.contains("127.0.0.1".parse().expect("an address")));
        assert!(everybody(&["::ffff:0:0/96"]));
        assert_eq!(networks.texts(), ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"]);
        assert!(!Networks::default().contains("127.0.0.1".parse().expect("an address")));
    }
}
