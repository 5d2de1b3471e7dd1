//! The web client: the files of `src/web`, built into the binary.
//!
//! Owns: [`FILES`], their types, the folder under whose name a browser may keep them for ever, and
//! the headers that keep a page of ours from ever running somebody else's script.
//! Never: reads a file at run time, and never serves what a user has sent.
//! Bounds: what is built in; a browser that has a file already does not ask, or is told so
//! (`ETag`).

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::delivery::is_unchanged;

/// A file of the web client.
pub(super) struct WebFile {
    /// Where it is served.
    pub(super) path: &'static str,
    pub(super) media_type: &'static str,
    pub(super) bytes: &'static [u8],
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
const TYPES: &str = "application/typescript; charset=utf-8";
const MANIFEST: &str = "application/manifest+json";

/// Built in from `src/web`, under the same path.
macro_rules! file {
    ($path:literal, $media_type:ident) => {
        WebFile { path: $path, media_type: $media_type, bytes: include_bytes!(concat!("../web", $path)) }
    };
}

/// The module that loads all others.
const MAIN: &str = "/app/main.js";
/// The page itself, at `/`.
const INDEX: &str = include_str!("../web/index.html");

/// Everything that the page loads, and the SDK.
pub(super) const FILES: &[WebFile] = &[
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
    file!("/app/frame.js", SCRIPT),
    file!("/app/groups.js", SCRIPT),
    file!("/app/icon.svg", SVG),
    file!("/app/kept.js", SCRIPT),
    file!("/app/language.js", SCRIPT),
    file!("/app/main.js", SCRIPT),
    file!("/app/model.js", SCRIPT),
    file!("/app/parts.js", SCRIPT),
    file!("/app/player.js", SCRIPT),
    file!("/app/portrait.js", SCRIPT),
    file!("/app/recorder.js", SCRIPT),
    file!("/app/sessions.js", SCRIPT),
    file!("/app/sidebar.js", SCRIPT),
    file!("/app/span.js", SCRIPT),
    file!("/app/theme.js", SCRIPT),
    file!("/app/time.js", SCRIPT),
    file!("/app/welcome.js", SCRIPT),
    file!("/sdk/imgate.d.ts", TYPES),
    file!("/sdk/imgate.js", SCRIPT),
];

/// The name of this version of the files: 64 bits of what is in them, made when they were built in.
/// Modules import one another by relative addresses, so one folder with this name stands for a name
/// of each file.
const VERSION: u64 = version();

/// FNV-1a over words of eight bytes: tells versions apart, no more.
const fn version() -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut files: &[WebFile] = FILES;
    while let Some((file, rest)) = files.split_first() {
        let mut bytes = file.bytes;
        while let Some((word, more)) = bytes.split_first_chunk::<8>() {
            hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(0x0100_0000_01b3);
            bytes = more;
        }
        while let Some((byte, more)) = bytes.split_first() {
            hash = (hash ^ *byte as u64).wrapping_mul(0x0100_0000_01b3);
            bytes = more;
        }
        hash = (hash ^ file.bytes.len() as u64).wrapping_mul(0x0100_0000_01b3);
        files = rest;
    }
    hash
}

/// The folder of this version, without a slash at its end.
pub(super) fn folder() -> String {
    format!("/assets/{VERSION:016x}")
}

/// Scripts, styles, WebSockets (CSP level 3, section 6.7.2.8: `'self'` is also the same host with
/// `ws:` or `wss:`) and everything else from here only, nothing inline; pictures and recordings
/// that are still in memory are `blob:`. Trusted types forbid every way from a string to HTML.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; \
    media-src 'self' blob:; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// How long a browser may keep an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeping {
    /// It asks again each time: an upgraded gateway and an old page must not meet.
    Ask,
    /// Its address changes with its content.
    Forever,
}

/// Everything but `/`: each file under its own name, and in the folder of its version. A folder of
/// another version has the same files: behind a balancer the page may come from a gateway that is
/// older than this one.
pub(super) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.iter().fold(Router::new(), |router, file| {
        let tag: Arc<str> = tag(file.bytes).into();
        let plain = Arc::clone(&tag);
        router
            .route(file.path, get(async move |headers: HeaderMap| answer(file, &plain, &headers, Keeping::Ask)))
            .route(
                &format!("/assets/{{version}}{}", file.path),
                get(async move |Path(version): Path<String>, headers: HeaderMap| {
                    let keeping =
                        if folder().ends_with(&format!("/{version}")) { Keeping::Forever } else { Keeping::Ask };
                    answer(file, &tag, &headers, keeping)
                }),
            )
    })
}

/// The page at `/`, which names the files in the folder of their version.
pub(super) struct Index {
    page: Bytes,
    tag: String,
}

impl Index {
    pub(super) fn new() -> Self {
        let folder = folder();
        // The browser would learn of a module's imports only when it has it: one after the other.
        let modules = FILES.iter().map(|file| file.path).filter(|path| path.ends_with(".js") && *path != MAIN);
        let preloads: String =
            modules.map(|path| format!("<link rel=\"modulepreload\" href=\"{path}\">\n    ")).collect();
        let page = INDEX.replacen("<script", &format!("{preloads}<script"), 1);
        // The manifest keeps its address: an application that was installed is known by it.
        let page =
            page.replace("=\"/app/", &format!("=\"{folder}/app/")).replace("=\"/sdk/", &format!("=\"{folder}/sdk/"));
        let page = page.replace(&format!("{folder}/app/app.webmanifest"), "/app/app.webmanifest");
        Self { tag: tag(page.as_bytes()), page: Bytes::from(page) }
    }

    pub(super) fn answer(&self, headers: &HeaderMap) -> Response<Body> {
        respond(HTML, self.page.clone(), &self.tag, headers, Keeping::Ask)
    }
}

/// A strong entity tag (RFC 9110, section 8.8.3): of the content, so that it changes with every
/// release that changes it.
fn tag(bytes: &[u8]) -> String {
    format!("\"{}\"", URL_SAFE_NO_PAD.encode(&Sha256::digest(bytes)[..15]))
}

fn answer(file: &WebFile, tag: &str, headers: &HeaderMap, keeping: Keeping) -> Response<Body> {
    let mut response = respond(file.media_type, Bytes::from_static(file.bytes), tag, headers, keeping);
    // The SDK is for pages of other origins as well; there is nothing secret in it.
    let (sharing, value) = if file.path.starts_with("/sdk/") {
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        (CROSS_ORIGIN_RESOURCE_POLICY, "cross-origin")
    } else {
        (CROSS_ORIGIN_RESOURCE_POLICY, "same-origin")
    };
    response.headers_mut().insert(sharing, HeaderValue::from_static(value));
    response
}

/// <https://fetch.spec.whatwg.org/#cross-origin-resource-policy-header>
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

fn respond(media_type: &'static str, bytes: Bytes, tag: &str, headers: &HeaderMap, keeping: Keeping) -> Response<Body> {
    let fresh = is_unchanged(headers, tag, None);
    let mut response = Response::new(Body::from(if fresh { Bytes::new() } else { bytes }));
    if fresh {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    let fixed = [
        (header::CONTENT_TYPE, media_type),
        (
            header::CACHE_CONTROL,
            match keeping {
                Keeping::Ask => "no-cache",
                Keeping::Forever => "public, max-age=31536000, immutable",
            },
        ),
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
