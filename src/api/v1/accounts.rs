//! Registration, login, logout, and the user herself.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use super::answer;
use super::asking::{Actor, Body, Caller, Reader};
use super::objects::{Done, LoggedIn, Me, Token};
use super::refusal::{self, Failure, Refusal};
use crate::api::App;
use crate::api::services::accounts::{self, Account, Knock, Registration};
use crate::api::services::profiles;
use crate::auth::{Identity, Issuer};
use crate::clock;
use crate::store::UserChange;

/// Who wants to be a user.
#[derive(Deserialize, ToSchema)]
pub(super) struct RegisterWish {
    /// The login name: 1 to 20 characters, unique without regard to case; of a telephone number only the digits count.
    mobile: String,
    /// At least 8 characters, at most 256 bytes.
    password: String,
    /// Up to 20 characters.
    #[serde(default)]
    nickname: String,
    /// URL, up to 250 characters.
    #[serde(default)]
    avatar: String,
    /// `M`, `W`, `U` or empty; anything else counts as `U`.
    #[serde(default)]
    sex: String,
    /// Up to 140 characters.
    #[serde(default)]
    memo: String,
}

/// Makes a user who is logged in at once.
#[utoipa::path(post, path = "/api/v1/register", tag = "account", request_body = RegisterWish, security(()),
    responses((status = 201, body = LoggedIn), (status = "4XX", body = Failure)))]
pub(super) async fn register(
    State(app): State<App>,
    caller: Caller,
    Body(wish): Body<RegisterWish>,
) -> Result<Response, Refusal> {
    let RegisterWish { mobile, password, nickname, avatar, sex, memo } = wish;
    let wish = Registration { mobile, password, nickname, avatar, sex, memo };
    let account = accounts::register(&app.services, wish, knock(&caller, &[])).await?;
    Ok(logged_in(&app, &caller, StatusCode::CREATED, account))
}

/// Who wants to log in.
#[derive(Deserialize, ToSchema)]
pub(super) struct LoginWish {
    mobile: String,
    password: String,
}

/// Logs in. Other logins of the user stay.
#[utoipa::path(post, path = "/api/v1/login", tag = "account", request_body = LoginWish, security(()),
    responses((status = 200, body = LoggedIn), (status = "4XX", body = Failure)))]
pub(super) async fn login(
    State(app): State<App>,
    caller: Caller,
    Body(wish): Body<LoginWish>,
) -> Result<Response, Refusal> {
    let (headers, place) = caller.head();
    let presented = app.presented(headers, place);
    let account = accounts::login(&app.services, &wish.mobile, wish.password, knock(&caller, &presented)).await?;
    Ok(logged_in(&app, &caller, StatusCode::OK, account))
}

fn knock<'a>(caller: &Caller, presented: &'a [Identity]) -> Knock<'a> {
    Knock { from: caller.address(), presented, issuer: Issuer::Own, now_ms: clock::wall_ms() }
}

/// How far to log out.
#[derive(Deserialize, ToSchema)]
pub(super) struct LogoutWish {
    /// Also void every token made so far, and end the sessions that were opened with them.
    #[serde(default)]
    everywhere: bool,
}

/// Logs out: removes the cookie. Without `everywhere` the token itself lives on until it expires.
#[utoipa::path(post, path = "/api/v1/logout", tag = "account", request_body = LogoutWish,
    responses((status = 200, body = Done), (status = "4XX", body = Failure)))]
pub(super) async fn logout(
    State(app): State<App>,
    Actor(user): Actor,
    caller: Caller,
    Body(wish): Body<LogoutWish>,
) -> Result<Response, Refusal> {
    if wish.everywhere {
        profiles::log_out_everywhere(&app.services, user).await?;
    }
    let mut response = answer(StatusCode::OK, &Done {});
    app.log_out(&mut response, caller.head(), user);
    Ok(response)
}

/// The user who asks.
#[utoipa::path(get, path = "/api/v1/me", tag = "account",
    responses((status = 200, body = Me), (status = "4XX", body = Failure)))]
pub(super) async fn me(State(app): State<App>, Reader(user): Reader) -> Result<Response, Refusal> {
    let user = accounts::find(&app.services, user).await?.ok_or(refusal::NOT_LOGGED_IN)?;
    Ok(answer(StatusCode::OK, &Me::from(user)))
}

/// New values; what is not there stays.
#[derive(Deserialize, ToSchema)]
pub(super) struct ProfileWish {
    nickname: Option<String>,
    avatar: Option<String>,
    sex: Option<String>,
    memo: Option<String>,
}

/// Changes one's profile.
#[utoipa::path(patch, path = "/api/v1/me", tag = "account", request_body = ProfileWish,
    responses((status = 200, body = Me), (status = "4XX", body = Failure)))]
pub(super) async fn change_me(
    State(app): State<App>,
    Actor(user): Actor,
    Body(wish): Body<ProfileWish>,
) -> Result<Response, Refusal> {
    let ProfileWish { nickname, avatar, sex, memo } = wish;
    let user = profiles::update(&app.services, user, UserChange { nickname, avatar, sex, memo }).await?;
    Ok(answer(StatusCode::OK, &Me::from(user)))
}

/// The password as it is and as it shall be.
#[derive(Deserialize, ToSchema)]
pub(super) struct PasswordWish {
    old: String,
    /// At least 8 characters, at most 256 bytes.
    new: String,
}

/// Changes one's password. Every other token is void from now on, and its sessions end.
#[utoipa::path(post, path = "/api/v1/me/password", tag = "account", request_body = PasswordWish,
    responses((status = 200, body = Token), (status = "4XX", body = Failure)))]
pub(super) async fn change_password(
    State(app): State<App>,
    Actor(user): Actor,
    caller: Caller,
    Body(wish): Body<PasswordWish>,
) -> Result<Response, Refusal> {
    let PasswordWish { old, new } = wish;
    let changed = profiles::change_password(&app.services, user, old, new, Issuer::Own, clock::wall_ms()).await?;
    let mut response = answer(StatusCode::OK, &Token { token: changed.token.clone() });
    app.log_in(&mut response, caller.head(), (user, &changed.token));
    Ok(response)
}

fn logged_in(app: &App, caller: &Caller, status: StatusCode, account: Account) -> Response {
    let Account { user, token } = account;
    let id = user.id;
    let mut response = answer(status, &LoggedIn { user: user.into(), token: token.clone() });
    app.log_in(&mut response, caller.head(), (id, &token));
    response
}
