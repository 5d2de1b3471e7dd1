//! A list of networks, as an operator writes it.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

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
        texts.into_iter().map(one).collect::<Result<_, _>>().map(Self)
    }

    /// This machine: what is trusted unless the configuration says otherwise.
    #[must_use]
    pub fn loopback() -> Self {
        Self::parse(["127.0.0.0/8", "::1/128"]).unwrap_or_default()
    }

    /// Whether `address` lies in one of them. An IPv4 address that is written as IPv6 is the IPv4
    /// address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
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
        assert!(!Networks::default().contains("127.0.0.1".parse().expect("an address")));
    }
}
