//! Who gets into a group: adding, roles, requests, links.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use super::asking::{Actor, Body, Params, Reader, after_of, group_of, user_of};
use super::objects::{Done, Group, Invite, Role, User, Users};
use super::people::{Paging, ROWS};
use super::refusal::{Failure, Refusal};
use super::{answer, page};
use crate::api::app::App;
use crate::api::services::{admissions, groups};

/// Adds a friend to a group, as far as the group lets one; or lets in who has asked, as an admin.
/// Being a member is success.
#[utoipa::path(put, path = "/api/v1/groups/{id}/members/{user}", tag = "groups",
    params(("id" = u64, Path), ("user" = u64, Path)),
    responses((status = 200, body = Done), (status = "4XX", body = Failure)))]
pub(super) async fn add(
    State(app): State<App>,
    Actor(actor): Actor,
    Path((id, user)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    admissions::add(&app.services, actor, group_of(&id)?, user_of(&user)?).await?;
    Ok(answer(StatusCode::OK, &Done {}))
}

/// A member's new role.
#[derive(Deserialize, ToSchema)]
pub(super) struct RoleWish {
    /// `owner` hands the group on: who was it becomes an admin.
    pub(super) role: Role,
}

/// Gives a member a role. The group's owner only.
#[utoipa::path(patch, path = "/api/v1/groups/{id}/members/{user}", tag = "groups",
    params(("id" = u64, Path), ("user" = u64, Path)), request_body = RoleWish,
    responses((status = 200, body = Done), (status = "4XX", body = Failure)))]
pub(super) async fn set_role(
    State(app): State<App>,
    Actor(actor): Actor,
    Path((id, user)): Path<(String, String)>,
    Body(wish): Body<RoleWish>,
) -> Result<Response, Refusal> {
    admissions::set_role(&app.services, actor, group_of(&id)?, user_of(&user)?, wish.role.into()).await?;
    Ok(answer(StatusCode::OK, &Done {}))
}

/// Who asks to be let into a group, by number, at most 200 in an answer. Its admins only.
#[utoipa::path(get, path = "/api/v1/groups/{id}/requests", tag = "groups", params(("id" = u64, Path), Paging),
    responses((status = 200, body = Users), (status = "4XX", body = Failure)))]
pub(super) async fn requests(
    State(app): State<App>,
    Reader(user): Reader,
    Path(id): Path<String>,
    Params(paging): Params<Paging>,
) -> Result<Response, Refusal> {
    let (after, max) = (after_of(paging.after)?, paging.limit.unwrap_or(ROWS));
    let found = admissions::requests(&app.services, user, group_of(&id)?, after, max).await?;
    Ok(page(found.0.into_iter().map(User::from), found.1))
}

/// Does not let somebody in, as an admin; or takes one's own request back. There being none is
/// success.
#[utoipa::path(delete, path = "/api/v1/groups/{id}/requests/{user}", tag = "groups",
    params(("id" = u64, Path), ("user" = u64, Path)),
    responses((status = 200, body = Done), (status = "4XX", body = Failure)))]
pub(super) async fn forget_request(
    State(app): State<App>,
    Actor(actor): Actor,
    Path((id, user)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    admissions::forget_request(&app.services, actor, group_of(&id)?, user_of(&user)?).await?;
    Ok(answer(StatusCode::OK, &Done {}))
}

/// The link to a group, if there is one. Its admins, and its members if they may add friends.
#[utoipa::path(get, path = "/api/v1/groups/{id}/invite", tag = "groups", params(("id" = u64, Path)),
    responses((status = 200, body = Invite), (status = "4XX", body = Failure)))]
pub(super) async fn invite(
    State(app): State<App>,
    Reader(user): Reader,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let secret = admissions::invite(&app.services, user, group_of(&id)?).await?;
    Ok(answer(StatusCode::OK, &Invite::from(secret)))
}

/// Makes a new link to a group; an earlier one leads nowhere from now on. Its admins only.
#[utoipa::path(post, path = "/api/v1/groups/{id}/invite", tag = "groups", params(("id" = u64, Path)),
    responses((status = 201, body = Invite), (status = "4XX", body = Failure)))]
pub(super) async fn make_invite(
    State(app): State<App>,
    Actor(user): Actor,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let secret = admissions::set_invite(&app.services, user, group_of(&id)?, true).await?;
    Ok(answer(StatusCode::CREATED, &Invite::from(secret)))
}

/// Revokes the link to a group. Its admins only; there being none is success.
#[utoipa::path(delete, path = "/api/v1/groups/{id}/invite", tag = "groups", params(("id" = u64, Path)),
    responses((status = 200, body = Done), (status = "4XX", body = Failure)))]
pub(super) async fn revoke_invite(
    State(app): State<App>,
    Actor(user): Actor,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    admissions::set_invite(&app.services, user, group_of(&id)?, false).await?;
    Ok(answer(StatusCode::OK, &Done {}))
}

/// The group to which a link leads.
#[utoipa::path(get, path = "/api/v1/invites/{secret}", tag = "groups", params(("secret" = String, Path)),
    responses((status = 200, body = Group), (status = "4XX", body = Failure)))]
pub(super) async fn invited(
    State(app): State<App>,
    Reader(_): Reader,
    Path(secret): Path<String>,
) -> Result<Response, Refusal> {
    let found = admissions::invited(&app.services, secret).await?;
    Ok(answer(StatusCode::OK, &Group::from(found)))
}

/// Joins the group to which a link leads, whatever its rule. Being a member is success.
#[utoipa::path(put, path = "/api/v1/invites/{secret}", tag = "groups", params(("secret" = String, Path)),
    responses((status = 200, body = Group), (status = "4XX", body = Failure)))]
pub(super) async fn join_by(
    State(app): State<App>,
    Actor(user): Actor,
    Path(secret): Path<String>,
) -> Result<Response, Refusal> {
    let group = admissions::join_by(&app.services, user, secret).await?;
    let found = groups::card(&app.services, user, group).await?;
    Ok(answer(StatusCode::OK, &Group::from(found)))
}
