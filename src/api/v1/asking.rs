//! What a call of `/api/v1` must bring: an identity, a body, numbers.
//!
//! Owns: the guard against forged calls of other sites. A cookie comes along by itself, the header
//! `X-Imgate-User` does not: no form can send it, and no script of another origin may. So a change
//! that is asked for with a cookie wants it.
//! Never: lets a call act for anybody but a user whose token it brings.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;

use super::refusal::{self, Refusal};
use crate::api::app::App;
use crate::api::json::without_bom;
use crate::api::services::accounts;
use crate::api::services::logins::LoginDevice;
use crate::api::trails::Acting;
use crate::api::{bodies, caller};
use crate::auth::Identity;
use crate::caller::{Place, bearer};
use crate::ids::{GroupId, LoginId, UserId, decimal};

/// The header that names the user who calls.
const USER_HEADER: &str = "x-imgate-user";

/// The user who reads.
pub(super) struct Reader(pub(super) UserId);

/// The user who changes something.
pub(super) struct Actor(pub(super) UserId);

/// The login with which a user reads.
pub(super) struct ReadingLogin(pub(super) Identity);

/// The login with which a user changes something.
pub(super) struct ActingLogin(pub(super) Identity);

/// The head of a call, as far as it says who asks, and from where.
pub(super) struct Caller {
    headers: HeaderMap,
    place: Place,
}

/// A body of JSON; none counts as `{}`.
pub(super) struct Body<T>(pub(super) T);

/// The parameters of the URL.
pub(super) struct Params<T>(pub(super) T);

impl FromRequestParts<App> for Reader {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        ReadingLogin::from_request_parts(parts, app).await.map(|login| Self(login.0.user()))
    }
}

impl FromRequestParts<App> for Actor {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        ActingLogin::from_request_parts(parts, app).await.map(|login| Self(login.0.user()))
    }
}

impl FromRequestParts<App> for ReadingLogin {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        Ok(Self(proven(parts, app, claim(&parts.headers)?).await?))
    }
}

impl FromRequestParts<App> for ActingLogin {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let claimed = claim(&parts.headers)?;
        let identity = proven(parts, app, claimed).await?;
        if claimed == 0 && bearer(&parts.headers).is_none() {
            return Err(refusal::MISSING_USER_HEADER);
        }
        Ok(Self(identity))
    }
}

/// The user number of the header; 0 without one.
fn claim(headers: &HeaderMap) -> Result<i64, Refusal> {
    let Some(value) = headers.get(USER_HEADER) else { return Ok(0) };
    let claimed = value.to_str().ok().and_then(|text| text.parse().ok());
    claimed.filter(|claimed| *claimed > 0).ok_or(refusal::BAD_USER_HEADER)
}

async fn proven(parts: &Parts, app: &App, claimed: i64) -> Result<Identity, Refusal> {
    let identity = app.identity(&parts.headers, caller::place(&parts.extensions), claimed);
    let identity = identity.ok_or(refusal::NOT_LOGGED_IN)?;
    accounts::acting(&app.services, identity).await?.ok_or(refusal::NOT_LOGGED_IN)?;
    if let Some(acting) = parts.extensions.get::<Arc<Acting>>() {
        acting.user(identity.user());
    }
    Ok(identity)
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        Ok(Self { headers: parts.headers.clone(), place: caller::place(&parts.extensions) })
    }
}

impl Caller {
    /// The address that the call is counted for.
    pub(super) fn address(&self) -> IpAddr {
        self.place.client
    }

    /// With what the call is made.
    pub(super) fn device(&self) -> LoginDevice<'_> {
        LoginDevice { from: self.address(), agent: caller::agent(&self.headers) }
    }

    /// What cookies depend on.
    pub(super) fn head(&self) -> (&HeaderMap, Place) {
        (&self.headers, self.place)
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let json = kind.is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("application/json"));
        let bytes = bodies::whole(request, state).await.map_err(|unread| {
            let too_large = unread.status() == StatusCode::PAYLOAD_TOO_LARGE;
            if too_large { refusal::TOO_LARGE } else { refusal::BAD_JSON }
        })?;
        let bytes = without_bom(&bytes);
        if bytes.is_empty() {
            return serde_json::from_slice(b"{}").map(Self).map_err(|_| refusal::BAD_JSON);
        }
        // A form of another site can send a body that reads as JSON, but not under this name.
        if !json {
            return Err(refusal::NOT_JSON);
        }
        serde_json::from_slice(bytes).map(Self).map_err(|_| refusal::BAD_JSON)
    }
}

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        Query::try_from_uri(&parts.uri).map(|Query(params)| Self(params)).map_err(|_| refusal::BAD_QUERY)
    }
}

/// The user that a path names.
pub(super) fn user_of(text: &str) -> Result<UserId, Refusal> {
    decimal(text).and_then(UserId::new).ok_or(refusal::NO_SUCH_USER)
}

/// The group that a path names.
pub(super) fn group_of(text: &str) -> Result<GroupId, Refusal> {
    decimal(text).and_then(GroupId::new).ok_or(refusal::NO_SUCH_GROUP)
}

/// The last user of the page before; 0 stands before all of them.
pub(super) fn after_of(number: Option<u64>) -> Result<Option<UserId>, Refusal> {
    match number {
        None | Some(0) => Ok(None),
        Some(number) => UserId::new(number).map(Some).ok_or(refusal::BAD_QUERY),
    }
}

/// The login that a path names.
pub(super) fn login_of(text: &str) -> Result<LoginId, Refusal> {
    decimal(text).and_then(|number| LoginId::new(u32::try_from(number).ok()?)).ok_or(refusal::NO_SUCH_LOGIN)
}
