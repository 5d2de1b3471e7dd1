//! Which bucket, where, and by which key: what the settings say of an object store.
//!
//! Owns: [`ObjectTarget`], and what a bucket, a prefix and an endpoint may be.
//! Never: shows a key. What is shown is the URL of `files` and where the store is.

use std::fmt;

use rusty_s3::{Bucket, Credentials, UrlStyle};
use url::Url;

use crate::limits::OBJECT_PREFIX_BYTES_MAX;

/// A place for files in an object store.
#[derive(Clone, PartialEq, Eq)]
pub struct ObjectTarget {
    bucket: String,
    /// With a slash at its end, or empty.
    prefix: String,
    endpoint: Url,
    region: String,
    path_style: bool,
    access_key: String,
    secret_key: String,
}

/// What is wrong with the settings of an object store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadTarget {
    /// No `s3://BUCKET` or `s3://BUCKET/PREFIX`.
    #[error("wanted: s3://BUCKET or s3://BUCKET/PREFIX; a bucket is 3 to 63 letters, digits, `.`, `-` or `_`")]
    Url,
    /// The prefix is no list of plain names.
    #[error("a prefix is made of letters, digits, `.`, `-`, `_` and single `/`, at most 200 bytes")]
    Prefix,
    /// The endpoint is no plain URL.
    #[error("an endpoint is http://HOST or https://HOST, with a port and a path if need be, without a password")]
    Endpoint,
    /// A bucket that is a part of the host's name cannot be one of this endpoint.
    #[error("this bucket cannot be a part of the endpoint's host name: it wants s3_path_style = true")]
    Style,
}

/// With nothing of the keys.
impl fmt::Debug for ObjectTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { region, path_style, .. } = self;
        write!(f, "ObjectTarget({}, region {region}, path style {path_style})", self.shown())
    }
}

impl ObjectTarget {
    /// The target that `url` names, `s3://BUCKET/PREFIX`, at `endpoint`; without one at Amazon's in
    /// `region`.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn new(
        url: &str,
        endpoint: Option<&str>,
        region: &str,
        path_style: bool,
        (access_key, secret_key): (&str, &str),
    ) -> Result<Self, BadTarget> {
        let (bucket, prefix) = parse_files(url)?;
        let amazons = || format!("https://s3.{region}.amazonaws.com");
        let endpoint = Url::parse(&endpoint.map_or_else(amazons, str::to_owned)).map_err(|_| BadTarget::Endpoint)?;
        let plain = endpoint.username().is_empty()
            && endpoint.password().is_none()
            && endpoint.query().is_none()
            && endpoint.fragment().is_none()
            && endpoint.has_host()
            && matches!(endpoint.scheme(), "http" | "https");
        if !plain {
            return Err(BadTarget::Endpoint);
        }
        let [region, access_key, secret_key] = [region, access_key, secret_key].map(str::to_owned);
        let target = Self { bucket, prefix, endpoint, region, path_style, access_key, secret_key };
        target.parts().map(|_| target)
    }

    /// What signs and names, as the library has it.
    pub(super) fn parts(&self) -> Result<(Bucket, Credentials), BadTarget> {
        let style = if self.path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let bucket = Bucket::new(self.endpoint.clone(), style, self.bucket.clone(), self.region.clone());
        let credentials = Credentials::new(self.access_key.clone(), self.secret_key.clone());
        bucket.map(|bucket| (bucket, credentials)).map_err(|_| BadTarget::Style)
    }

    /// The full name of an object.
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The name of an object of ours by its full one.
    pub(super) fn name<'a>(&self, key: &'a str) -> Option<&'a str> {
        key.strip_prefix(&self.prefix)
    }

    /// For people: the URL and where it is.
    #[must_use]
    pub fn shown(&self) -> String {
        let prefix = self.prefix.trim_end_matches('/');
        let slash = if prefix.is_empty() { "" } else { "/" };
        format!("s3://{}{slash}{prefix} at {}", self.bucket, self.endpoint.origin().ascii_serialization())
    }
}

/// Bucket and prefix of `s3://BUCKET/PREFIX`.
fn parse_files(url: &str) -> Result<(String, String), BadTarget> {
    let rest = url.strip_prefix("s3://").ok_or(BadTarget::Url)?;
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    if !(3..=63).contains(&bucket.len()) || !is_plain(bucket) || bucket.starts_with('.') {
        return Err(BadTarget::Url);
    }
    if prefix.is_empty() {
        return Ok((bucket.to_owned(), String::new()));
    }
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    // Two dots would lead out of the bucket.
    let are_names = prefix.split('/').all(|part| !part.is_empty() && part != "." && part != ".." && is_plain(part));
    if !are_names || prefix.len() > OBJECT_PREFIX_BYTES_MAX {
        return Err(BadTarget::Prefix);
    }
    Ok((bucket.to_owned(), format!("{prefix}/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str, endpoint: Option<&str>, path_style: bool) -> Result<ObjectTarget, BadTarget> {
        ObjectTarget::new(url, endpoint, "eu-west-1", path_style, ("key", "open-sesame"))
    }

    #[test]
    fn a_target_is_a_bucket_a_prefix_and_a_place() {
        let shown = |url, endpoint| target(url, endpoint, true).expect("a target").shown();
        assert_eq!(shown("s3://chat", None), "s3://chat at https://s3.eu-west-1.amazonaws.com");
        assert_eq!(shown("s3://chat/a/b/", Some("http://127.0.0.1:9000")), "s3://chat/a/b at http://127.0.0.1:9000");
        let names = target("s3://chat/a/b", None, true).expect("a target");
        assert_eq!((names.key("x").as_str(), names.name("a/b/x"), names.name("c/x")), ("a/b/x", Some("x"), None));
        assert_eq!(target("s3://chat/", None, true).expect("a target").key("x"), "x");
    }

    #[test]
    fn what_leads_elsewhere_is_none() {
        for url in ["", "chat", "s3:chat", "s3://", "s3://ab", "https://chat", "s3://a b c", "s3://../x"] {
            assert_eq!(target(url, None, true), Err(BadTarget::Url), "{url}");
        }
        let long = format!("s3://chat/{}", "a".repeat(300));
        for url in ["s3://chat/../x", "s3://chat/a//b", "s3://chat//", "s3://chat/ä", "s3://chat/a?b", &long] {
            assert_eq!(target(url, None, true), Err(BadTarget::Prefix), "{url}");
        }
        for endpoint in ["", "x", "ftp://x", "http://u:p@x", "http://x?a=b", "https://"] {
            assert_eq!(target("s3://chat", Some(endpoint), true), Err(BadTarget::Endpoint), "{endpoint}");
        }
        assert_eq!(target("s3://chat", Some("http://127.0.0.1:9"), false), Err(BadTarget::Style));
        assert!(target("s3://chat", None, false).is_ok());
    }

    #[test]
    fn no_key_is_shown() {
        let target = target("s3://chat", None, true).expect("a target");
        assert!(!format!("{target:?}").contains("sesame"));
    }
}
