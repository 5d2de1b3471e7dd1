//! What a request must pass before its handler: the requests of its user under way, and memory for
//! what it will read.
//!
//! Owns: the list of the families of routes, and what is said outside of all of them.
//! Never: says who may do what. A token is looked at to know whose requests these are; the handler
//! judges it.
//! Bounds: [`super::user_requests`], and the budget of [`super::slots`].

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::app::App;
use super::caller;
use super::exchange::Exchange;
use super::family::{ENCODED, Family};
#[cfg(feature = "legacy")]
use super::legacy;
use super::slots::RequestClass;
use super::user_requests::UserRequests;
use super::{json, v1};
use crate::metrics::http::Refused;

/// All families. No path is of two of them.
const FAMILIES: &[&dyn Family] = &[
    &v1::ApiCalls,
    #[cfg(feature = "legacy")]
    &legacy::LegacyCalls,
];

fn family(path: &str) -> Option<&'static dyn Family> {
    FAMILIES.iter().copied().find(|family| family.owns(path))
}

/// Passes a request on when it may be served now.
pub(super) async fn pass(
    State(app): State<App>,
    Extension(exchange): Extension<Arc<Exchange>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let Some(family) = family(path).filter(|family| family.is_of_user(path)) else {
        return next.run(request).await;
    };
    let presented = app.presented(request.headers(), caller::place(request.extensions()));
    if let Some(identity) = presented.first() {
        match UserRequests::enter(&app.user_requests, identity.user()).await {
            Ok(pass) => exchange.keep_permit(pass),
            Err(_) => {
                exchange.slot().slots().counts().refused(Refused::User);
                return soon(family.too_many());
            }
        }
    }
    if exchange.reserve(family.reading(request.method(), path)).await.is_err() {
        return soon(family.busy());
    }
    next.run(request).await
}

/// Whether a request may use the slots that are kept for logins.
pub(super) fn class(path: &str) -> RequestClass {
    family(path).map_or(RequestClass::Other, |family| family.class(path))
}

/// Whether a request may take [`crate::limits::UPLOAD_MS_MAX`].
pub(super) fn is_upload(path: &str) -> bool {
    family(path).is_some_and(|family| family.is_upload(path))
}

/// Not now.
pub(super) fn busy(path: &str) -> Response {
    let page = || json::text(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable\n");
    soon(family(path).map_or_else(page, |family| family.busy()))
}

/// A body of so many bytes is not even read.
pub(super) fn too_large(path: &str, bytes: u64) -> Response {
    let page = || json::text(StatusCode::PAYLOAD_TOO_LARGE, "Payload Too Large\n");
    let mut response = family(path).map_or_else(page, |family| family.too_large(bytes));
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// A body in a content coding is not even read. What would be accepted stands in the answer (RFC
/// 9110, section 15.5.16).
pub(super) fn encoded(path: &str) -> Response {
    let page = || json::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, ENCODED);
    let mut response = family(path).map_or_else(page, |family| family.encoded());
    let headers = response.headers_mut();
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn soon(mut response: Response) -> Response {
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}
