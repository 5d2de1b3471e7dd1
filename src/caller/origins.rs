//! Which pages may use the cookies of their visitors.
//!
//! Owns: [`Origins`] (the pages of other origins that an operator lists), the comparison of a
//! page's origin with the host that the browser asks.
//! Never: takes `null` for anybody's origin.

use std::sync::Arc;

use super::Headers;
use super::headers::only;
use crate::http::value::text;
use crate::limits::ORIGINS_MAX;
use crate::metrics::proxies::Unsaid;

/// Origins of pages (RFC 6454) beside our own that may use cookies. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Origins(Arc<[Listed]>);

/// An origin in a list, in lower case, its port written out if its scheme has a usual one.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Listed {
    scheme: String,
    host: String,
    port: Option<u16>,
}

/// A page's origin.
#[derive(Clone, Copy, Debug)]
struct Origin<'a> {
    scheme: &'a str,
    authority: Authority<'a>,
}

/// A host, and a port if one is said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Authority<'a> {
    /// A name, an IPv4 address, or an IPv6 address in its brackets.
    host: &'a str,
    port: Option<u16>,
}

impl Origins {
    /// Reads `https://chat.example` or `https://chat.example:8443`, one from each text; a slash at
    /// its end is forgiven.
    ///
    /// # Errors
    /// The first text that is no origin, or the last one if there are more than [`ORIGINS_MAX`].
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut listed = Vec::new();
        for text in texts {
            let trimmed = text.trim();
            let origin = Origin::parse(trimmed.strip_suffix('/').unwrap_or(trimmed));
            let origin = origin.filter(|_| listed.len() < ORIGINS_MAX).ok_or_else(|| text.to_owned())?;
            listed.push(Listed {
                scheme: origin.scheme.to_ascii_lowercase(),
                host: origin.authority.host.to_ascii_lowercase(),
                port: origin.port(),
            });
        }
        Ok(Self(listed.into()))
    }

    /// Whether a browser says that a page of another origin asks: one that is neither that of
    /// `host` (with `port`, where it may have none) nor listed. `https`: whether the browser asks
    /// with it. A request that does not come from a page belongs to no other origin.
    pub(super) fn is_foreign(
        &self,
        head: &impl Headers,
        host: Option<Authority<'_>>,
        port: Option<u16>,
        https: bool,
    ) -> bool {
        // No page can write this header. Without it, `none` is an address that was typed.
        let is_site = |site: &str| matches!(site, "same-origin" | "none");
        let sites = || head.values("sec-fetch-site").map(text);
        let is_near = sites().all(is_site);
        let is_same = is_near && sites().any(|site| site == "same-origin");
        let mut pages = head.values("origin").map(text).peekable();
        if pages.peek().is_none() {
            return !is_near;
        }
        !pages.all(|page| {
            let Some(page) = Origin::parse(page) else { return false };
            // The browser knows better than a host that some proxy may have rewritten.
            self.lists(page) || is_near && (is_same || host.is_some_and(|host| page.is_of(host, port, https)))
        })
    }

    /// What a browser shows of one of our own pages that nothing says: see [`Unsaid`]. With what
    /// [`Self::is_foreign`] is given.
    pub(super) fn unsaid(
        &self,
        head: &impl Headers,
        host: Option<Authority<'_>>,
        port: Option<u16>,
        https: bool,
    ) -> Option<Unsaid> {
        let page = Origin::parse(only(head, "origin")?).filter(|page| !self.lists(*page))?;
        let mut sites = head.values("sec-fetch-site").map(text).peekable();
        // Only the browser knows that a page is ours where the host says something else.
        let is_told = sites.peek().is_some();
        if !sites.all(|site| site == "same-origin") {
            return None;
        }
        let is_https = page.scheme.eq_ignore_ascii_case("https");
        if host.is_some_and(|host| page.is_of(host, port, https)) {
            return (is_https && !https).then_some(Unsaid::Scheme);
        }
        // One that is said to be encrypted and is not has been told too much.
        (is_told && is_https >= https).then_some(Unsaid::Host)
    }

    /// Whether none is listed.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the value of an `Origin` header is listed.
    pub(super) fn has(&self, origin: &str) -> bool {
        Origin::parse(origin).is_some_and(|page| self.lists(page))
    }

    fn lists(&self, page: Origin<'_>) -> bool {
        self.0.iter().any(|listed| {
            page.scheme.eq_ignore_ascii_case(&listed.scheme)
                && page.authority.host.eq_ignore_ascii_case(&listed.host)
                && page.port() == listed.port
        })
    }
}

impl<'a> Origin<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let mut bytes = scheme.bytes();
        let is_scheme = bytes.next().is_some_and(|first| first.is_ascii_alphabetic())
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        Some(Self { scheme, authority: Authority::parse(authority)? }).filter(|_| is_scheme)
    }

    /// Its port, or that of its scheme.
    fn port(self) -> Option<u16> {
        self.authority.port.or_else(|| usual_port(self.scheme))
    }

    /// Whether it is the origin of `host`. Where the gateway sees no encryption a page with `https`
    /// is of it, too: a proxy that ends TLS and does not say so is a common one. The other way
    /// round it is not.
    fn is_of(self, host: Authority<'_>, port: Option<u16>, https: bool) -> bool {
        let Some(usual) = usual_port(self.scheme) else { return false };
        let page = self.authority.port.unwrap_or(usual);
        let is_port = page == host.port.unwrap_or(usual) || host.port.is_none() && port == Some(page);
        let is_scheme = !https || self.scheme.eq_ignore_ascii_case("https");
        is_scheme && is_port && self.authority.host.eq_ignore_ascii_case(host.host)
    }
}

fn usual_port(scheme: &str) -> Option<u16> {
    if scheme.eq_ignore_ascii_case("https") {
        Some(443)
    } else if scheme.eq_ignore_ascii_case("http") {
        Some(80)
    } else {
        None
    }
}

impl<'a> Authority<'a> {
    /// Reads `chat.example`, `chat.example:8081`, `[2001:db8::1]:8081`.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let end = if text.starts_with('[') { text.find(']')? + 1 } else { text.find(':').unwrap_or(text.len()) };
        let (host, rest) = text.split_at_checked(end)?;
        let is_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inside) => inside.bytes().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(&byte)),
            None => host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)),
        };
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => None,
            None => return None,
            Some("") => None,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            Some(_) => return None,
        };
        (is_host && !host.is_empty()).then_some(Self { host, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Lines<'a>(Vec<(&'a str, &'a str)>);

    impl Headers for Lines<'_> {
        fn values(&self, name: &'static str) -> impl Iterator<Item = &[u8]> {
            self.0.iter().filter(move |(key, _)| *key == name).map(|(_, value)| value.as_bytes())
        }
    }

    fn is_own(origin: &str, host: &str, port: Option<u16>, https: bool) -> bool {
        let lines = Lines(vec![("origin", origin)]);
        !Origins::default().is_foreign(&lines, Authority::parse(host), port, https)
    }

    #[test]
    fn a_page_of_the_same_host_and_port_is_our_own() {
        for (origin, host, https) in [
            ("http://im.example:8081", "im.example:8081", false),
            ("http://IM.example:8081", "im.EXAMPLE:8081", false),
            ("http://im.example", "im.example", false),
            ("http://im.example", "im.example:80", false),
            ("https://im.example", "im.example:443", true),
            ("https://im.example:443", "im.example", true),
            ("https://im.example", "im.example", false),
            ("http://[::1]:8081", "[::1]:8081", false),
            ("http://127.0.0.1:80", "127.0.0.1", false),
        ] {
            assert!(is_own(origin, host, None, https), "{origin} at {host}");
        }
        for (origin, host, https) in [
            ("http://im.example", "im.example:8081", false),
            ("http://im.example:8081", "im.example", false),
            ("http://im.example", "im.example:443", false),
            ("https://im.example", "im.example:80", false),
            ("http://im.example", "im.example", true),
            ("http://im.example.evil.example", "im.example", false),
            ("http://im.example@evil.example", "im.example", false),
            ("http://x@im.example", "im.example", false),
            ("http://evil.example/im.example", "im.example", false),
            ("http://im.example, http://evil.example", "im.example", false),
            ("http://im.example/", "im.example", false),
            ("null", "null", false),
            ("", "im.example", false),
            ("file://", "im.example", false),
            ("im.example", "im.example", false),
            ("ftp://im.example", "im.example", false),
            ("chrome-extension://im.example", "im.example", false),
            ("http://im.example:8081", "im.example:80810", false),
            ("http://im.example:+80", "im.example", false),
        ] {
            assert!(!is_own(origin, host, None, https), "{origin} at {host}");
        }
        assert!(is_own("https://im.example:8443", "im.example", Some(8443), true), "a proxy dropped the port");
        assert!(is_own("https://im.example", "im.example", Some(8081), true), "a proxy names its own port");
        assert!(!is_own("https://im.example:8443", "im.example:8081", Some(8443), true), "the host has one");
    }

    #[test]
    fn the_browsers_word_counts_before_the_host() {
        let seen = |lines: &[(&'static str, &'static str)]| {
            Origins::default().is_foreign(&Lines(lines.to_vec()), Authority::parse("inner:80"), None, false)
        };
        let (same, cross) = (("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site"));
        let (page, ours) = (("origin", "https://chat.example"), ("origin", "http://inner"));
        assert!(!seen(&[]) && !seen(&[same]) && !seen(&[("sec-fetch-site", "none")]));
        assert!(seen(&[cross]) && seen(&[("sec-fetch-site", "same-site")]) && seen(&[("sec-fetch-site", "")]));
        assert!(!seen(&[same, page]), "a proxy has rewritten the host");
        assert!(!seen(&[ours]) && seen(&[ours, cross]) && seen(&[same, cross]));
        assert!(seen(&[same, ("origin", "null")]), "`null` is nobody's");
        assert!(seen(&[ours, page]) && seen(&[page, ours]), "every origin must be ours");
        assert!(seen(&[("sec-fetch-site", "none"), page]));
    }

    #[test]
    fn a_page_shows_what_its_proxy_has_not_said() {
        let same = ("sec-fetch-site", "same-origin");
        let unsaid = |page: &'static str, site: Option<(&'static str, &'static str)>, host: &str, https: bool| {
            let lines = [Some(("origin", page)), site].into_iter().flatten().collect();
            let listed = Origins::parse(["https://app.example"]).expect("an origin");
            listed.unsaid(&Lines(lines), Authority::parse(host), None, https)
        };
        let https = "https://chat.example";
        assert_eq!(unsaid(https, None, "chat.example", false), Some(Unsaid::Scheme));
        assert_eq!(unsaid(https, Some(same), "chat.example", false), Some(Unsaid::Scheme));
        assert_eq!(unsaid(https, None, "chat.example", true), None, "all is said");
        assert_eq!(unsaid("http://chat.example", Some(same), "chat.example", false), None, "and there is nothing");
        assert_eq!(unsaid(https, Some(same), "inner:8081", false), Some(Unsaid::Host));
        assert_eq!(unsaid("https://chat.example:8443", Some(same), "chat.example", true), Some(Unsaid::Host));
        assert_eq!(unsaid(https, None, "inner:8081", false), None, "it may be another site");
        let cross = Some(("sec-fetch-site", "cross-site"));
        assert_eq!(unsaid(https, cross, "chat.example", false), None);
        assert_eq!(unsaid("http://chat.example", Some(same), "chat.example", true), None, "more than all is said");
        assert_eq!(unsaid("https://app.example", Some(same), "inner", false), None, "it is listed");
        assert_eq!(unsaid("null", Some(same), "inner", false), None);
    }

    #[test]
    fn listed_pages_count_wherever_they_are() {
        let texts = ["https://App.example", "http://localhost:3000/", " capacitor://localhost "];
        let origins = Origins::parse(texts).expect("origins");
        let foreign = |origin: &str| {
            let lines = Lines(vec![("origin", origin), ("sec-fetch-site", "same-site")]);
            origins.is_foreign(&lines, Authority::parse("im.example"), None, true)
        };
        for origin in
            ["https://app.example", "https://app.example:443", "http://localhost:3000", "capacitor://localhost"]
        {
            assert!(!foreign(origin), "{origin}");
        }
        for origin in
            ["http://app.example", "https://app.example:8443", "http://localhost", "null", "https://x.example"]
        {
            assert!(foreign(origin), "{origin}");
        }
        for wrong in ["null", "*", "app.example", "https://", "https://a/b", "https://*.example", "://a", "1a://b", ""]
        {
            assert_eq!(Origins::parse([wrong]), Err(wrong.to_owned()));
        }
        assert!(Origins::parse(vec!["https://a.example"; ORIGINS_MAX]).is_ok());
        assert!(Origins::parse(vec!["https://a.example"; ORIGINS_MAX + 1]).is_err());
    }
}
