//! Who calls: [`crate::caller`] for the requests of the control plane.
//!
//! Owns: the headers of a request as the judgement reads them, the place that stands beside them,
//! `Set-Cookie`.
//! Never: judges anything itself: the gate and this room give the same answer for the same head.

use axum::http::{Extensions, HeaderMap, HeaderValue, header};
use axum::response::Response;

use super::App;
use crate::auth::Identity;
use crate::caller::{Claim, Headers, Peer, Place, bearer};
use crate::clock;
use crate::ids::UserId;

impl Headers for HeaderMap {
    fn values(&self, name: &'static str) -> impl Iterator<Item = &str> {
        let texts = self.get_all(name).iter().filter_map(|value| std::str::from_utf8(value.as_bytes()).ok());
        texts.map(|text| text.trim_matches([' ', '\t']))
    }
}

/// Where a request comes from. It was judged once, when the request came (`connection`), and stands
/// beside its headers. Without that it comes from nowhere, and no cookie of it counts.
pub(super) fn place(extensions: &Extensions) -> Place {
    let nowhere = Place { client: Peer::GONE.address, https: false, foreign: true };
    extensions.get::<Place>().copied().unwrap_or(nowhere)
}

/// What the program calls itself that asks; empty where it does not say.
pub(super) fn agent(headers: &HeaderMap) -> &str {
    headers.get(header::USER_AGENT).and_then(|value| std::str::from_utf8(value.as_bytes()).ok()).unwrap_or_default()
}

impl App {
    /// The identity that acts: that of the bearer token if there is one, otherwise that of the
    /// login cookie of the user `claimed`; with no claim (0) the only identity presented. `None`:
    /// not logged in as who is claimed.
    pub(super) fn identity(&self, headers: &HeaderMap, place: Place, claimed: i64) -> Option<Identity> {
        let claim = if claimed == 0 { Claim::Any } else { Claim::of(u64::try_from(claimed).ok()) };
        self.judge.acting(headers, || place, bearer(headers), claim, clock::wall_ms()).ok()
    }

    /// Every identity that a request presents.
    pub(super) fn presented(&self, headers: &HeaderMap, place: Place) -> Vec<Identity> {
        self.judge.presented(headers, place, bearer(headers), clock::wall_ms())
    }

    /// Logs `user` in with the browser that asks, unless a page of another origin does.
    pub(super) fn log_in(
        &self,
        response: &mut Response,
        (headers, place): (&HeaderMap, Place),
        (user, token): (UserId, &str),
    ) {
        let ttl_ms = self.services.token_ttl_ms;
        set(response, self.judge.log_in(headers, place, (user, token), ttl_ms, clock::wall_ms()));
    }

    /// Logs `user` out in the browser that asks.
    pub(super) fn log_out(&self, response: &mut Response, (headers, place): (&HeaderMap, Place), user: UserId) {
        set(response, self.judge.log_out(headers, place, user));
    }
}

fn set(response: &mut Response, cookies: Vec<String>) {
    for cookie in cookies {
        // A token is base64url and a name came in a header, so this is always a header value.
        if let Ok(value) = HeaderValue::from_str(&cookie) {
            response.headers_mut().append(header::SET_COOKIE, value);
        }
    }
}
