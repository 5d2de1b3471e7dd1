//! `/files/…`: kept files on their way out.
//!
//! The address is the right to read the file: it is made with the gateway's key and cannot be
//! guessed, and `<img>` brings no token. The content never changes, so it may be cached for ever.
//! Nothing that is served from here can act on behalf of a page. `?name=` says under which name a
//! browser saves it.

use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use serde::Deserialize;

use super::app::App;
use super::delivery::{self, Content};
use super::uploads::blobs::Name;
use super::uploads::kind::Kind;
use super::uploads::naming;
use super::uploads::place::NotHad;

/// How the file is called where it is saved.
#[derive(Deserialize, Default)]
struct Called {
    #[serde(default)]
    name: String,
}

/// The handler.
pub(super) async fn file(State(app): State<App>, Path(name): Path<String>, request: Request) -> Response {
    // A name stands in a URL as it is: of two spellings a text that shows one would not hold the
    // file of the other.
    let spelled = request.uri().path().ends_with(&name);
    // Files that the originals have kept had other names.
    let Some(wanted) = Name::parse(&name).filter(|_| spelled) else { return app.unrouted(request).await };
    let (source, len) = match app.uploads.find(wanted, is_whole(&request)).await {
        Ok(Some(found)) => found,
        Ok(None) => return app.unrouted(request).await,
        Err(NotHad::Disk(_)) => return delivery::broken(),
        Err(NotHad::Object(_)) => return delivery::unavailable(),
    };
    let kind = Kind::ALL.into_iter().find(|kind| name.ends_with(&format!(".{}", kind.ext()))).unwrap_or(Kind::Other);
    let content = Content { source, len, mime: kind.mime(), tag: format!("\"{name}\""), modified_ms: None };
    let mut response = delivery::answer(request.method(), request.headers(), content);
    // 412 and 416 answer to what one client held or asked for, and nothing else may be told them.
    let (is_content, is_held) = (response.status().is_success(), response.status() == StatusCode::NOT_MODIFIED);
    let keeps = if is_content || is_held { "public, max-age=31536000, immutable" } else { "no-store" };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(keeps));
    guard(&mut response, kind);
    // A query that is none names nothing.
    let called = Query::<Called>::try_from_uri(request.uri()).map(|Query(called)| called).unwrap_or_default();
    if !called.name.is_empty()
        && let Ok(value) = HeaderValue::from_str(&naming::disposition(disposition(kind), &called.name))
    {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    response
}

/// Whether the answer will be all of the file, as far as the request says.
fn is_whole(request: &Request) -> bool {
    let conditions = [header::RANGE, header::IF_NONE_MATCH, header::IF_MATCH];
    request.method() != Method::HEAD && !conditions.iter().any(|name| request.headers().contains_key(name))
}

/// Headers for what users have uploaded: shown as what it is, or saved; never run.
pub(super) fn guard(response: &mut Response, kind: Kind) {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'"));
    if !kind.is_shown() {
        headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static(disposition(kind)));
    }
}

const fn disposition(kind: Kind) -> &'static str {
    if kind.is_shown() { "inline" } else { "attachment" }
}
