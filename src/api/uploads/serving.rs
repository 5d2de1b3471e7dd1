//! `/files/…`, `/resource/…`, `/mnt/…`: kept files on their way out.
//!
//! Whoever knows the name may have the file: it is the digest of the content, which nobody guesses, and `<img>` brings no
//! token. It never changes, so it may be cached for ever. Nothing that is served from here can act on behalf of a page.

use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;

use super::kind::{HEAD_BYTES, Kind};
use super::stock::Name;
use crate::api::delivery::{self, Content};
use crate::api::{App, unknown};

/// The handler.
pub(super) async fn file(State(app): State<App>, Path(name): Path<String>, request: Request) -> Response {
    // Files that the originals have kept had other names.
    let Some(wanted) = Name::parse(&name) else { return unknown(State(app), request).await };
    let (object, len) = match app.uploads.find(wanted).await {
        Ok(Some(found)) => found,
        Ok(None) => return unknown(State(app), request).await,
        Err(_) => return delivery::broken(),
    };
    let kind = Kind::ALL.into_iter().find(|kind| name.ends_with(&format!(".{}", kind.ext()))).unwrap_or(Kind::Other);
    let content = Content { object, len, mime: kind.mime(), tag: format!("\"{name}\""), modified_ms: None };
    let mut response = delivery::answer(request.method(), request.headers(), content, app.uploads.desks.clone());
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    guard(&mut response, kind);
    response
}

/// Bytes at the beginning of a file from which [`guarded_kind`] tells its format.
pub(in crate::api) const GUARDED_HEAD_BYTES: usize = HEAD_BYTES;

/// The format of a file that a user has uploaded somewhere else.
pub(in crate::api) fn guarded_kind(head: &[u8]) -> Kind {
    Kind::of(head)
}

/// Headers for what users have uploaded: shown as what it is, or saved; never run.
pub(in crate::api) fn guard(response: &mut Response, kind: Kind) {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox; default-src 'none'"));
    if !kind.is_shown() {
        headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    }
}
