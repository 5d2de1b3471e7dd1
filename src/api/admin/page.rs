//! The status page at `/admin`: one document with everything in it, which reads `/metrics` and
//! draws.
//!
//! Never: asks for anything else, or runs a script that is not ours: its policy names the one by
//! its hash.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

const PAGE: &str = include_str!("status.html");

/// The policy, with the hash of the script ([CSP3](https://www.w3.org/TR/CSP3/), section 2.3.1).
fn policy() -> String {
    let script = PAGE.split_once("<script>").and_then(|(_, rest)| rest.split_once("</script>")).unwrap_or_default().0;
    let hash = STANDARD.encode(Sha256::digest(script.as_bytes()));
    format!(
        "default-src 'none'; script-src 'sha256-{hash}'; style-src 'unsafe-inline'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// The page.
pub(super) async fn status() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CONTENT_SECURITY_POLICY, policy()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
    ];
    (headers, PAGE).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        assert_eq!(PAGE.matches("<script>").count(), 1, "its hash is that of the only one");
        for other in ["src=", "href=", "@import", "url(", " onload=", " onclick="] {
            assert!(!PAGE.contains(other), "{other}");
        }
        assert!(policy().contains("script-src 'sha256-") && !policy().contains("script-src 'unsafe"));
    }
}
