//! The web client: the files of `src/web`, built into the binary.
//!
//! Owns: [`FILES`], their types, and the headers that keep a page of ours from ever running somebody else's script.
//! Never: reads a file at run time, and never serves what a user has sent.
//! Bounds: what is built in; a browser that has a file already is told so (`ETag`).

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use sha2::{Digest, Sha256};

/// A file of the web client.
pub(super) struct File {
    /// Where it is served.
    pub(super) path: &'static str,
    pub(super) media_type: &'static str,
    pub(super) bytes: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
const MANIFEST: &str = "application/manifest+json";

/// Built in from `src/web`, under the same path.
macro_rules! file {
    ($path:literal, $media_type:ident) => {
        File { path: $path, media_type: $media_type, bytes: include_bytes!(concat!("../web", $path)) }
    };
}

/// The page itself, at `/`.
const INDEX: File = File { path: "/", media_type: HTML, bytes: include_bytes!("../web/index.html") };

/// Everything that the page loads, and the SDK.
pub(super) const FILES: &[File] = &[
    file!("/app/account.js", SCRIPT),
    file!("/app/api.js", SCRIPT),
    file!("/app/app.css", CSS),
    file!("/app/app.webmanifest", MANIFEST),
    file!("/app/bubbles.js", SCRIPT),
    file!("/app/chat.js", SCRIPT),
    file!("/app/composer.js", SCRIPT),
    file!("/app/dialogs.js", SCRIPT),
    file!("/app/dom.js", SCRIPT),
    file!("/app/emoji.js", SCRIPT),
    file!("/app/groups.js", SCRIPT),
    file!("/app/icon.svg", SVG),
    file!("/app/language.js", SCRIPT),
    file!("/app/main.js", SCRIPT),
    file!("/app/model.js", SCRIPT),
    file!("/app/parts.js", SCRIPT),
    file!("/app/player.js", SCRIPT),
    file!("/app/portrait.js", SCRIPT),
    file!("/app/recorder.js", SCRIPT),
    file!("/app/sessions.js", SCRIPT),
    file!("/app/sidebar.js", SCRIPT),
    file!("/app/theme.js", SCRIPT),
    file!("/app/time.js", SCRIPT),
    file!("/app/welcome.js", SCRIPT),
    file!("/sdk/imgate.js", SCRIPT),
];

/// Scripts, styles, WebSockets (CSP level 3, section 6.7.2.8: `'self'` is also the same host with `ws:` or `wss:`) and everything
/// else from here only, nothing inline; pictures and recordings that are still in memory are `blob:`. Trusted types forbid every
/// way from a string to HTML.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; \
    media-src 'self' blob:; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// Everything but `/`.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.iter().fold(Router::new(), |router, file| {
        let tag: Arc<str> = tag(file.bytes).into();
        router.route(file.path, get(async move |headers: HeaderMap| answer(file, &tag, &headers)))
    })
}

/// `/`.
pub(super) async fn index(headers: HeaderMap) -> Response<Body> {
    answer(&INDEX, &tag(INDEX.bytes), &headers)
}

/// A strong entity tag (RFC 9110, section 8.8.3): of the content, so that it changes with every release that changes it.
fn tag(bytes: &[u8]) -> String {
    format!("\"{}\"", URL_SAFE_NO_PAD.encode(&Sha256::digest(bytes)[..15]))
}

fn answer(file: &File, tag: &str, headers: &HeaderMap) -> Response<Body> {
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let fresh = known
        .flat_map(|list| list.split(','))
        .any(|one| matches!(one.trim().trim_start_matches("W/"), "*") || one.trim().trim_start_matches("W/") == tag);
    let body = if fresh { Bytes::new() } else { Bytes::from_static(file.bytes) };
    let mut response = Response::new(Body::from(body));
    if fresh {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    let fixed = [
        (header::CONTENT_TYPE, file.media_type),
        // Asked for again each time: an upgraded gateway and an old page must not meet.
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(value) = HeaderValue::from_str(tag) {
        headers.insert(header::ETAG, value);
    }
    response
}
