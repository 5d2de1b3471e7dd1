//! Registration, login, logout, and the own account.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use super::asking::{ActingLogin, Actor, Body, Caller, Reader, ReadingLogin, login_of};
use super::objects::{Done, LoggedIn, Login, Logins, Me, Token};
use super::refusal::{self, Failure, Refusal};
use super::{answer, page};
use crate::api::app::App;
use crate::api::services::accounts::{self, LoginContext, Registration, UserToken};
use crate::api::services::{logins, profiles};
use crate::auth::{Identity, Issuer};
use crate::clock;
use crate::store::UserChange;

/// Who wants to be a user.
#[derive(Deserialize, ToSchema)]
pub(super) struct RegisterWish {
    /// The login name: a telephone number of 5 to 15 digits, of which only the digits count, or a
    /// name of 2 to 20 characters: letters and digits, and `.`, `_`, `-`, `@` between them. Unique
    /// without regard to case.
    mobile: String,
    /// At least 8 characters, at most 256 bytes; neither the login name nor one of the passwords
    /// that are tried first.
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
    let account = accounts::register(&app.services, wish, context(&caller, &[])).await?;
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
    let account = accounts::login(&app.services, &wish.mobile, wish.password, context(&caller, &presented)).await?;
    Ok(logged_in(&app, &caller, StatusCode::OK, account))
}

fn context<'a>(caller: &'a Caller, presented: &'a [Identity]) -> LoginContext<'a> {
    LoginContext { device: caller.device(), presented, issuer: Issuer::Own, now_ms: clock::wall_ms() }
}

/// How far to log out.
#[derive(Deserialize, ToSchema)]
pub(super) struct LogoutWish {
    /// Void not only this token but every one made so far, and end the sessions that were opened
    /// with them.
    #[serde(default)]
    everywhere: bool,
}

/// Logs out: the token is void from now on, the sessions that were opened with it end, and the
/// cookie is removed. A token that belongs to no login (one of `imgate token`, or of an earlier
/// version) ends with `everywhere` only.
#[utoipa::path(post, path = "/api/v1/logout", tag = "account", request_body = LogoutWish,
    responses((status = 200, body = Done), (status = "4XX", body = Failure)))]
pub(super) async fn logout(
    State(app): State<App>,
    ActingLogin(identity): ActingLogin,
    caller: Caller,
    Body(wish): Body<LogoutWish>,
) -> Result<Response, Refusal> {
    let user = identity.user();
    if wish.everywhere {
        profiles::log_out_everywhere(&app.services, user).await?;
    } else if let Some(login) = identity.login() {
        logins::end(&app.services, user, login).await?;
    }
    let mut response = answer(StatusCode::OK, &Done {});
    app.log_out(&mut response, caller.head(), user);
    Ok(response)
}

/// One's logins: each is a device, or a program, whose token is good. The one used last comes
/// first.
#[utoipa::path(get, path = "/api/v1/me/logins", tag = "account",
    responses((status = 200, body = Logins), (status = "4XX", body = Failure)))]
pub(super) async fn my_logins(
    State(app): State<App>,
    ReadingLogin(identity): ReadingLogin,
) -> Result<Response, Refusal> {
    let found = logins::of(&app.services, identity.user(), clock::wall_ms()).await?;
    Ok(page(found.into_iter().map(|login| Login::of(login, identity.login())), false))
}

/// Logs one of one's devices out: its token is void, and its sessions end.
#[utoipa::path(delete, path = "/api/v1/me/logins/{id}", tag = "account", params(("id" = u32, Path)),
    responses((status = 200, body = Done), (status = "4XX", body = Failure)))]
pub(super) async fn end_login(
    State(app): State<App>,
    Actor(user): Actor,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    if logins::end(&app.services, user, login_of(&id)?).await? {
        Ok(answer(StatusCode::OK, &Done {}))
    } else {
        Err(refusal::NO_SUCH_LOGIN)
    }
}

/// The password once more, so that nobody who finds an open device deletes the account.
#[derive(Deserialize, ToSchema)]
pub(super) struct DeletionWish {
    password: String,
}

/// Deletes one's account for good: sessions end, the login name is free, profile, friendships,
/// files and memberships are gone; a group of one's own goes to the member of longest standing, or
/// ends. Messages stay in the others' histories, with the bare number as their author.
#[utoipa::path(post, path = "/api/v1/me/delete", tag = "account", request_body = DeletionWish,
    responses((status = 200, body = Done), (status = "4XX", body = Failure)))]
pub(super) async fn delete_me(
    State(app): State<App>,
    Actor(user): Actor,
    caller: Caller,
    Body(wish): Body<DeletionWish>,
) -> Result<Response, Refusal> {
    profiles::delete(&app.services, user, &wish.password).await?;
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
    /// As at registration.
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
    let changed = profiles::change_password(&app.services, user, old, new, context(&caller, &[])).await?;
    let mut response = answer(StatusCode::OK, &Token { token: changed.token.clone() });
    app.log_in(&mut response, caller.head(), (user, &changed.token));
    Ok(response)
}

fn logged_in(app: &App, caller: &Caller, status: StatusCode, account: UserToken) -> Response {
    let UserToken { user, token } = account;
    let id = user.id;
    let mut response = answer(status, &LoggedIn { user: user.into(), token: token.clone() });
    app.log_in(&mut response, caller.head(), (id, &token));
    response
}
