//! What differs between the families of routes before a handler runs: `/api/v1` and, with the
//! feature `legacy`, the routes of the old systems.
//!
//! Owns: the trait by which the general parts (`limiter`, `connection`) ask a family about a path.
//! Never: names a family; the list of them is the limiter's.

use axum::http::Method;
use axum::response::Response;

use super::slots::RequestClass;
use crate::limits;

/// Memory of one read of rows of a list: [`limits::HTTP_LIST_ROWS_MAX`] of 2 KiB.
pub(super) const ROWS_BYTES: usize = limits::HTTP_LIST_ROWS_MAX as usize * 2048;

/// What is said of a body in a content coding where there is no JSON to say it in.
pub(super) const ENCODED: &str = "Unsupported Media Type: no Content-Encoding is understood\n";

/// A family of routes. A path that no family owns is a page or a file.
pub(super) trait Family: Sync {
    /// Whether `path` is one of its routes, or would be.
    fn owns(&self, path: &str) -> bool;

    /// Whether calls of `path` count among the requests of their user. Those that many a page loads
    /// at once do not, nor do uploads, which have a bound of their own.
    fn is_of_user(&self, path: &str) -> bool;

    /// Whether `path` takes uploads: these may last [`crate::limits::UPLOAD_MS_MAX`], and whoever
    /// reads the body bounds it.
    fn is_upload(&self, path: &str) -> bool;

    /// Which reserve of connections a call of `path` may use.
    fn class(&self, path: &str) -> RequestClass;

    /// Bytes of memory that the answer may take while it is made: its rows, and its text.
    fn reading(&self, method: &Method, path: &str) -> usize;

    /// The answer when a user has too many requests under way.
    fn too_many(&self) -> Response;

    /// The answer when there is no memory or no connection for the request now.
    fn busy(&self) -> Response;

    /// The answer to a body of `bytes`, which is not read.
    fn too_large(&self, bytes: u64) -> Response;

    /// The answer to a body in a content coding, which is not read: 415.
    fn encoded(&self) -> Response;
}
