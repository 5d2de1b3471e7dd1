//! The headers of a request as [`crate::caller`] reads them, and the place that stands beside them.
//!
//! Never: judges anything itself: the gate and this room give the same answer for the same head.

use axum::http::{Extensions, HeaderMap, HeaderValue, header};

use crate::caller::{Headers, Peer, Place};
use crate::http::value::trimmed;

impl Headers for HeaderMap {
    fn values(&self, name: &'static str) -> impl Iterator<Item = &[u8]> {
        self.get_all(name).iter().map(|value| trimmed(value.as_bytes()))
    }
}

/// Where a request comes from. It was judged once, when the request came (`connection`), and stands
/// beside its headers. Without that it comes from nowhere, and no cookie of it counts.
pub(super) fn place(extensions: &Extensions) -> Place {
    let nowhere = Place { client: Peer::GONE.address, https: false, foreign: true };
    extensions.get::<Place>().copied().unwrap_or(nowhere)
}

/// What the program calls itself that asks; empty where it does not say. It may have the name of a
/// device in it, in whatever bytes.
pub(super) fn agent(headers: &HeaderMap) -> &[u8] {
    headers.get(header::USER_AGENT).map(HeaderValue::as_bytes).unwrap_or_default()
}
