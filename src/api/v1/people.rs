//! Users, friends, blocks.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

use super::asking::{Actor, Params, Reader, after_of, user_of};
use super::objects::{Done, Friend, Friends, User, Users};
use super::refusal::{self, Failure, Refusal};
use super::{answer, page};
use crate::api::app::App;
use crate::api::services::accounts;
use crate::api::services::friends::{self, WantedFriend};
use crate::clock;
use crate::ids::UserId;
use crate::limits;

/// A user.
#[utoipa::path(get, path = "/api/v1/users/{id}", tag = "people", params(("id" = u64, Path)),
    responses((status = 200, body = User), (status = "4XX", body = Failure)))]
pub(super) async fn user(
    State(app): State<App>,
    Reader(reader): Reader,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    may(app.services.attempts.lookup(reader, 1))?;
    let user = accounts::find(&app.services, user_of(&id)?).await?.ok_or(refusal::NO_SUCH_USER)?;
    Ok(answer(StatusCode::OK, &User::from(user)))
}

/// Whom to look for: one of the two.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct UserSearch {
    /// Exactly this mobile number, however it is spelled.
    mobile: Option<String>,
    /// Up to 200 numbers with commas between them; those who do not exist are left out.
    #[param(example = "1,2,3")]
    ids: Option<String>,
}

/// Users by mobile number, or several by their numbers.
#[utoipa::path(get, path = "/api/v1/users", tag = "people", params(UserSearch),
    responses((status = 200, body = Users), (status = "4XX", body = Failure)))]
pub(super) async fn users(
    State(app): State<App>,
    Reader(reader): Reader,
    Params(search): Params<UserSearch>,
) -> Result<Response, Refusal> {
    let attempts = &app.services.attempts;
    let found = match (search.mobile, search.ids) {
        (Some(mobile), None) => {
            may(attempts.lookup_mobile(reader))?;
            accounts::by_mobile(&app.services, &mobile).await?.into_iter().collect()
        }
        (None, Some(ids)) => {
            let ids = numbers(&ids)?;
            may(attempts.lookup(reader, ids.len()))?;
            accounts::all_of(&app.services, ids).await?
        }
        (Some(_), Some(_)) | (None, None) => return Err(refusal::BAD_QUERY),
    };
    Ok(page(found.into_iter().map(User::from), false))
}

/// Looking people up has a pace per user, so that nobody reads the whole directory.
fn may(may: bool) -> Result<(), Refusal> {
    if may { Ok(()) } else { Err(refusal::TOO_OFTEN) }
}

fn numbers(list: &str) -> Result<Vec<UserId>, Refusal> {
    let numbers = list.split(',').filter(|text| !text.is_empty());
    let numbers: Option<Vec<UserId>> = numbers.map(|text| text.trim().parse().ok().and_then(UserId::new)).collect();
    numbers.filter(|list| list.len() <= limits::USERS_LISTED_MAX as usize).ok_or(refusal::BAD_QUERY)
}

/// Where a list begins and ends.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Paging {
    /// The number of the last row of the page before.
    pub(super) after: Option<u64>,
    /// At most so many rows; 500 unless it is said, never more, and less where the call says so. A
    /// page also ends where its answer would be too large.
    pub(super) limit: Option<u32>,
}

/// Rows of a list when nobody says how many.
pub(super) const ROWS: u32 = limits::HTTP_LIST_ROWS_MAX;

/// One's friends, by number.
#[utoipa::path(get, path = "/api/v1/friends", tag = "people", params(Paging),
    responses((status = 200, body = Friends), (status = "4XX", body = Failure)))]
pub(super) async fn friends(
    State(app): State<App>,
    Reader(user): Reader,
    Params(paging): Params<Paging>,
) -> Result<Response, Refusal> {
    let max = paging.limit.unwrap_or(ROWS);
    let found = friends::of(&app.services, user, after_of(paging.after)?, max).await?;
    Ok(page(found.0.into_iter().map(Friend::from), found.1))
}

/// Makes the two friends of each other, at once. Being it is success.
#[utoipa::path(put, path = "/api/v1/friends/{id}", tag = "people", params(("id" = u64, Path)),
    responses((status = 200, body = User), (status = "4XX", body = Failure)))]
pub(super) async fn befriend(
    State(app): State<App>,
    Actor(user): Actor,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let wanted = WantedFriend::Id(user_of(&id)?);
    let (friend, _) = friends::add(&app.services, user, wanted, clock::wall_ms()).await?;
    Ok(answer(StatusCode::OK, &User::from(friend)))
}

/// Ends a friendship, both ways. Without one nothing happens.
#[utoipa::path(delete, path = "/api/v1/friends/{id}", tag = "people", params(("id" = u64, Path)),
    responses((status = 200, body = Done), (status = "4XX", body = Failure)))]
pub(super) async fn unfriend(
    State(app): State<App>,
    Actor(user): Actor,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    friends::remove(&app.services, user, user_of(&id)?).await?;
    Ok(answer(StatusCode::OK, &Done {}))
}

/// Those whom one has blocked, by number.
#[utoipa::path(get, path = "/api/v1/blocks", tag = "people", params(Paging),
    responses((status = 200, body = Users), (status = "4XX", body = Failure)))]
pub(super) async fn blocks(
    State(app): State<App>,
    Reader(user): Reader,
    Params(paging): Params<Paging>,
) -> Result<Response, Refusal> {
    let max = paging.limit.unwrap_or(ROWS);
    let found = friends::blocked(&app.services, user, after_of(paging.after)?, max).await?;
    Ok(page(found.0.into_iter().map(User::from), found.1))
}

/// Refuses direct messages of a user from now on, and their friendship.
#[utoipa::path(put, path = "/api/v1/blocks/{id}", tag = "people", params(("id" = u64, Path)),
    responses((status = 200, body = Done), (status = "4XX", body = Failure)))]
pub(super) async fn block(
    State(app): State<App>,
    Actor(user): Actor,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    friends::block(&app.services, user, user_of(&id)?, true).await?;
    Ok(answer(StatusCode::OK, &Done {}))
}

/// Takes direct messages of a user again.
#[utoipa::path(delete, path = "/api/v1/blocks/{id}", tag = "people", params(("id" = u64, Path)),
    responses((status = 200, body = Done), (status = "4XX", body = Failure)))]
pub(super) async fn unblock(
    State(app): State<App>,
    Actor(user): Actor,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    friends::block(&app.services, user, user_of(&id)?, false).await?;
    Ok(answer(StatusCode::OK, &Done {}))
}
