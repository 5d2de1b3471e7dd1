//! The API for pages of other origins: the CORS protocol of the Fetch standard.
//!
//! Owns: the answer to a preflight, the headers that let a page read an answer; also one that is
//! given before there was a look at what is asked for ([`allowed_early`]). Never: decides which
//! pages; `caller` does. Never answers a page that may not: its browser keeps the answer from it.
//! Bounds: a preflight reads three headers, and no user's share of anything.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::app::App;
use crate::caller::{Judge, Share};
use crate::limits::PREFLIGHT_SECS;

/// What a page may send: bearer tokens, JSON and files, the digest of a file, and the choice among
/// cookies.
const HEADERS: &str = "authorization, content-type, x-content-sha256, x-imgate-user";
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
/// Beside those that every page may read: when to try again, what time it is here, and which part
/// of a file this is.
const EXPOSED: &str = "date, retry-after, content-range";

/// Lets the pages that may read an answer read it.
pub(super) async fn pass(State(app): State<App>, request: Request, next: Next) -> Response {
    let judge = app.judge.get();
    if !judge.shares() || !is_shared(request.uri().path()) {
        return next.run(request).await;
    }
    let allowed = allowed(judge.share(request.headers()));
    let asks = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
        && request.headers().contains_key(header::ORIGIN);
    let is_allowed = allowed.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN);
    let mut response = if asks && is_allowed { preflight() } else { next.run(request).await };
    response.headers_mut().extend(allowed);
    response
}

/// What a refusal that does not come from the router says to a page.
pub(super) fn allowed_early(judge: &Judge, path: &str, headers: &HeaderMap) -> HeaderMap {
    if judge.shares() && is_shared(path) { allowed(judge.share(headers)) } else { HeaderMap::new() }
}

/// The API, and the files to which its answers lead.
fn is_shared(path: &str) -> bool {
    path.starts_with("/api/v1/") || path.starts_with("/files/")
}

/// What every answer says to a page.
fn allowed(share: Share<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::VARY, HeaderValue::from_static("origin"));
    let origin = match share {
        Share::None => return headers,
        Share::All => "*",
        Share::Bearer(origin) | Share::Cookies(origin) => origin,
    };
    // It was read from a header, so it is one.
    let Ok(origin) = HeaderValue::from_str(origin) else { return headers };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    if matches!(share, Share::Cookies(_)) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    headers
}

/// A browser asks before it sends what no form could: everything that the API takes may come.
fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS)),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(HEADERS)),
        (header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(PREFLIGHT_SECS)),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}
