//! What a request must pass before its handler: the requests of its user under way, and memory for
//! what it will read.
//!
//! Owns: which route is a login, which one reads a list and what that may take; what is said at
//! each family of routes when it cannot be served now.
//! Never: says who may do what. A token is looked at to know whose requests these are; the handler
//! judges it.
//! Bounds: [`super::crowd`], and the budget of [`super::seating`].

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::crowd::Crowd;
use super::exchange::Exchange;
use super::seating::Errand;
use super::services::Trouble;
use super::{App, caller, envelope, legacy, v1};
use crate::limits;
use crate::metrics::http::Refused;

/// Passes a request on when it may be served now.
pub(super) async fn pass(
    State(app): State<App>,
    Extension(exchange): Extension<Arc<Exchange>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    if !is_of_user(path) {
        return next.run(request).await;
    }
    let reading = reading(request.method(), path);
    let presented = app.presented(request.headers(), caller::place(request.extensions()));
    if let Some(identity) = presented.first() {
        match Crowd::enter(&app.crowd, identity.user()).await {
            Ok(pass) => exchange.keep_pass(pass),
            Err(_) => {
                exchange.seat().seating().counts().refused(Refused::User);
                return too_many(path);
            }
        }
    }
    if exchange.reserve(reading).await.is_err() {
        return busy(path);
    }
    next.run(request).await
}

/// Whether a route is for users, and not a page or a file that a browser loads with many others;
/// nor an upload, of which there are so many at once by themselves.
fn is_of_user(path: &str) -> bool {
    let open = ["/api/v1/config", "/api/v1/openapi.json", "/api/v1/files", "/attach/upload"];
    (path.starts_with("/api/") || is_old(path)) && !open.contains(&path)
}

/// Whether a route is one of the old systems, whose pages know answers of status 200 only.
fn is_old(path: &str) -> bool {
    let begins = ["/contact/", "/message/", "/modification", "/user/", "/attach/"];
    begins.iter().any(|begin| path.starts_with(begin)) || matches!(path, "/login" | "/register")
}

/// Bytes of memory that an answer may take while it is made: its rows, and its text.
fn reading(method: &Method, path: &str) -> usize {
    match path {
        "/contact/loadfriend" | "/contact/loadcommunity" => ROWS_BYTES + limits::HTTP_LIST_BYTES_MAX,
        "/message/history" | "/api/v1/history" => 3 * limits::SYNC_BYTES_MAX,
        "/api/v1/friends" | "/api/v1/blocks" | "/api/v1/groups" | "/api/v1/users" if method == Method::GET => {
            ROWS_BYTES + limits::HTTP_ANSWER_BYTES_MAX
        }
        path if path.starts_with("/api/v1/groups/") && path.ends_with("/members") => {
            ROWS_BYTES + limits::HTTP_ANSWER_BYTES_MAX
        }
        _ => 0,
    }
}

/// One read of rows of a list: [`limits::HTTP_LIST_ROWS_MAX`] of 2 KiB.
const ROWS_BYTES: usize = limits::HTTP_LIST_ROWS_MAX as usize * 2048;

/// Whether a request may use the seats that are kept for logins.
pub(super) fn errand(path: &str) -> Errand {
    match path {
        "/user/login" | "/login" | "/user/register" | "/register" | "/api/v1/login" | "/api/v1/register" => {
            Errand::Login
        }
        _ => Errand::Other,
    }
}

/// A user has too many requests under way.
fn too_many(path: &str) -> Response {
    soon(if path.starts_with("/api/") { v1::too_many() } else { envelope::failure(legacy::TOO_OFTEN) })
}

/// Not now.
pub(super) fn busy(path: &str) -> Response {
    soon(if path.starts_with("/api/") {
        v1::busy()
    } else if is_old(path) {
        envelope::failure(legacy::trouble(Trouble::Busy))
    } else {
        super::page(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable\n")
    })
}

/// A body of so many bytes is not even read.
pub(super) fn too_large(path: &str, bytes: u64) -> Response {
    let mut response = if path.starts_with("/api/") {
        v1::too_large()
    } else if is_old(path) && bytes <= limits::HTTP_DECLARED_BYTES_MAX {
        // The old pages hear of nothing but 200.
        envelope::failure(legacy::TOO_LARGE)
    } else {
        super::page(StatusCode::PAYLOAD_TOO_LARGE, "Payload Too Large\n")
    };
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn soon(mut response: Response) -> Response {
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}
