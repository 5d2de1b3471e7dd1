//! What every handler of the public routes knows, and what a request proves about its user.
//!
//! Owns: the identity that acts for a request, the cookies of log-in and log-out, what is served
//! under a path without a route.
//! Never: judges a token or a cookie itself; [`crate::caller`] does, for the gate, too.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;

use super::client::Index;
use super::current_judge::CurrentJudge;
use super::json::not_found;
use super::services::Services;
use super::uploads::Uploads;
use super::user_requests::UserRequests;
use crate::auth::Identity;
use crate::caller::{ClaimedIdentity, Place, bearer};
use crate::clock;
use crate::ids::UserId;
use crate::metrics::Board;
use crate::metrics::http::HttpCounts;

/// See the module.
#[derive(Clone)]
pub(super) struct App {
    pub(super) services: Arc<Services>,
    pub(super) judge: Arc<CurrentJudge>,
    pub(super) uploads: Arc<Uploads>,
    /// Pages that the operator has installed beside ours.
    pub(super) pages: Option<Arc<dyn SitePages>>,
    pub(super) user_requests: Arc<UserRequests>,
    /// The OpenAPI document.
    pub(super) description: Bytes,
    /// Where requests are counted.
    pub(super) counts: Arc<HttpCounts>,
    /// The page of the web client.
    pub(super) index: Arc<Index>,
    /// Where the shards publish their counters.
    pub(super) board: Board,
}

/// Pages that take the place of the web client, and files under paths without a route.
pub(super) trait SitePages: Send + Sync {
    /// The answer at `/`; `None`: the web client's.
    fn front(&self) -> Option<Response>;

    /// The page or file that a request asks for; `None`: there is none.
    fn answer<'a>(&'a self, app: &'a App, asked: &'a Parts) -> Answering<'a>;
}

/// What [`SitePages::answer`] promises.
pub(super) type Answering<'a> = Pin<Box<dyn Future<Output = Option<Response>> + Send + 'a>>;

impl App {
    /// The identity that acts: that of the bearer token if there is one, otherwise that of the
    /// login cookie of the user `claimed`; with no claim (0) the only identity presented. `None`:
    /// not logged in as the claimed user.
    pub(super) fn identity(&self, headers: &HeaderMap, place: Place, claimed: i64) -> Option<Identity> {
        let claim = if claimed == 0 { ClaimedIdentity::Any } else { ClaimedIdentity::of(u64::try_from(claimed).ok()) };
        self.judge.get().acting(headers, || place, bearer(headers), claim, clock::wall_ms()).ok()
    }

    /// Every identity that a request presents.
    pub(super) fn presented(&self, headers: &HeaderMap, place: Place) -> Vec<Identity> {
        self.judge.get().presented(headers, place, bearer(headers), clock::wall_ms())
    }

    /// Logs `user` in with the browser that asks, unless a page of another origin does.
    pub(super) fn log_in(
        &self,
        response: &mut Response,
        (headers, place): (&HeaderMap, Place),
        (user, token): (UserId, &str),
    ) {
        let ttl_ms = self.services.token_ttl_ms();
        set_cookies(response, self.judge.get().log_in(headers, place, (user, token), ttl_ms, clock::wall_ms()));
    }

    /// Logs `user` out in the browser that asks.
    pub(super) fn log_out(&self, response: &mut Response, (headers, place): (&HeaderMap, Place), user: UserId) {
        set_cookies(response, self.judge.get().log_out(headers, place, user));
    }

    /// What has no route: a page or a file of [`App::pages`], if there is one.
    pub(super) async fn unrouted(&self, request: Request) -> Response {
        let Some(pages) = &self.pages else { return not_found() };
        let (asked, _) = request.into_parts();
        match pages.answer(self, &asked).await {
            Some(response) => response,
            None => not_found(),
        }
    }
}

fn set_cookies(response: &mut Response, cookies: Vec<String>) {
    for cookie in cookies {
        // A token is base64url and a name came in a header, so this is always a header value.
        if let Ok(value) = HeaderValue::from_str(&cookie) {
            response.headers_mut().append(header::SET_COOKIE, value);
        }
    }
}
