//! Groups, as backends make and change them. What an owner may do, a backend may.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;

use super::MayGroups;
use crate::api::app::App;
use crate::api::services::groups::{self, Wish};
use crate::api::services::{admissions, backends};
use crate::api::v1::asking::{Body, Params, after_of, group_of, user_of};
use crate::api::v1::doors::RoleWish;
use crate::api::v1::groups::GroupEdit;
use crate::api::v1::objects::{Done, Group, Member, Members, Rule};
use crate::api::v1::people::{Paging, ROWS};
use crate::api::v1::refusal::{self, Failure, Refusal};
use crate::api::v1::{answer, page};
use crate::clock;
use crate::ids::UserId;
use crate::limits;
use crate::store::{self, GroupChange};

/// A group to be made.
#[derive(Deserialize, ToSchema)]
pub(in crate::api::v1) struct NewGroupWish {
    /// Its owner and first member.
    owner: u64,
    /// 1 to 30 characters.
    name: String,
    /// URL, up to 250 characters.
    #[serde(default)]
    icon: String,
    #[serde(default)]
    cate: i64,
    /// Up to 120 characters.
    #[serde(default)]
    memo: String,
    /// Who gets in by asking; as the setting `group_rule` says unless it is said.
    rule: Option<Rule>,
    /// Members from the beginning, at most 100; they need not be friends of the owner.
    #[serde(default)]
    members: Vec<u64>,
}

/// Makes a group. Who cannot be added (no such user, in too many groups) is left out, which
/// `members` of the answer shows.
#[utoipa::path(post, path = "/api/v1/server/groups", tag = "server", request_body = NewGroupWish, security(("api_key" = [])),
    responses((status = 201, body = Group), (status = "4XX", body = Failure)))]
pub(in crate::api::v1) async fn create_group(
    State(app): State<App>,
    _key: MayGroups,
    Body(wish): Body<NewGroupWish>,
) -> Result<Response, Refusal> {
    let NewGroupWish { owner, name, icon, cate, memo, rule, members } = wish;
    if members.len() > limits::GROUP_ADDED_MAX {
        return Err(refusal::TOO_MANY_MEMBERS);
    }
    let members: Option<Vec<UserId>> = members.into_iter().map(UserId::new).collect();
    let (owner, members) = UserId::new(owner).zip(members).ok_or(refusal::NO_SUCH_USER)?;
    let services = &app.services;
    let known = crate::api::services::accounts::find(services, owner).await?.filter(|user| !user.is_erased());
    known.ok_or(refusal::NO_SUCH_USER)?;
    let rule = rule.map_or_else(|| services.attempts.allowed().group_rule, store::Rule::from);
    let made = groups::create(services, owner, Wish { name, icon, cate, memo, rule }, clock::wall_ms()).await?;
    for member in members {
        if let Err(why) = backends::add_member(services, &made, member).await {
            tracing::debug!(group = %made.id, %member, %why, "a user was left out of a new group");
        }
    }
    Ok(answer(StatusCode::CREATED, &Group::from(backends::group(services, made.id).await?)))
}

/// A group. `role` is its owner's.
#[utoipa::path(get, path = "/api/v1/server/groups/{id}", tag = "server", params(("id" = u64, Path)), security(("api_key" = [])),
    responses((status = 200, body = Group), (status = "4XX", body = Failure)))]
pub(in crate::api::v1) async fn group(
    State(app): State<App>,
    _key: MayGroups,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    Ok(answer(StatusCode::OK, &Group::from(backends::group(&app.services, group_of(&id)?).await?)))
}

/// Changes a group.
#[utoipa::path(patch, path = "/api/v1/server/groups/{id}", tag = "server", params(("id" = u64, Path)), request_body = GroupEdit,
    security(("api_key" = [])), responses((status = 200, body = Group), (status = "4XX", body = Failure)))]
pub(in crate::api::v1) async fn change_group(
    State(app): State<App>,
    _key: MayGroups,
    Path(id): Path<String>,
    Body(edit): Body<GroupEdit>,
) -> Result<Response, Refusal> {
    let found = backends::group(&app.services, group_of(&id)?).await?.group;
    let changed = groups::update(&app.services, found.owner, found.id, GroupChange::from(edit)).await?;
    Ok(answer(StatusCode::OK, &Group::from(changed)))
}

/// Dissolves a group. Doing it again ends what is left of it.
#[utoipa::path(delete, path = "/api/v1/server/groups/{id}", tag = "server", params(("id" = u64, Path)),
    security(("api_key" = [])), responses((status = 200, body = Done), (status = "4XX", body = Failure)))]
pub(in crate::api::v1) async fn dissolve_group(
    State(app): State<App>,
    _key: MayGroups,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let id = group_of(&id)?;
    let owner = backends::owner(&app.services, id).await?;
    groups::dissolve(&app.services, owner, id).await?;
    Ok(answer(StatusCode::OK, &Done {}))
}

/// The members of a group by number, at most 200 in an answer.
#[utoipa::path(get, path = "/api/v1/server/groups/{id}/members", tag = "server", params(("id" = u64, Path), Paging),
    security(("api_key" = [])), responses((status = 200, body = Members), (status = "4XX", body = Failure)))]
pub(in crate::api::v1) async fn group_members(
    State(app): State<App>,
    _key: MayGroups,
    Path(id): Path<String>,
    Params(paging): Params<Paging>,
) -> Result<Response, Refusal> {
    let (after, max) = (after_of(paging.after)?, paging.limit.unwrap_or(ROWS));
    let found = backends::group(&app.services, group_of(&id)?).await?.group;
    let (members, more) = groups::members(&app.services, found.owner, found.id, after, max).await?;
    Ok(page(members.into_iter().map(Member::from), more))
}

/// Makes a user a member, whatever the group's rule. Being one is success.
#[utoipa::path(put, path = "/api/v1/server/groups/{id}/members/{user}", tag = "server",
    params(("id" = u64, Path), ("user" = u64, Path)), security(("api_key" = [])),
    responses((status = 200, body = Done), (status = "4XX", body = Failure)))]
pub(in crate::api::v1) async fn add_member(
    State(app): State<App>,
    _key: MayGroups,
    Path((id, user)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let user = user_of(&user)?;
    crate::api::services::accounts::find(&app.services, user).await?.ok_or(refusal::NO_SUCH_USER)?;
    let found = backends::group(&app.services, group_of(&id)?).await?.group;
    backends::add_member(&app.services, &found, user).await?;
    Ok(answer(StatusCode::OK, &Done {}))
}

/// Gives a member a role; `owner` makes the present owner an admin.
#[utoipa::path(patch, path = "/api/v1/server/groups/{id}/members/{user}", tag = "server",
    params(("id" = u64, Path), ("user" = u64, Path)), request_body = RoleWish, security(("api_key" = [])),
    responses((status = 200, body = Done), (status = "4XX", body = Failure)))]
pub(in crate::api::v1) async fn set_member_role(
    State(app): State<App>,
    _key: MayGroups,
    Path((id, user)): Path<(String, String)>,
    Body(wish): Body<RoleWish>,
) -> Result<Response, Refusal> {
    let found = backends::group(&app.services, group_of(&id)?).await?.group;
    admissions::set_role(&app.services, found.owner, found.id, user_of(&user)?, wish.role.into()).await?;
    Ok(answer(StatusCode::OK, &Done {}))
}

/// Ends a membership. Not being a member is success; the owner stays.
#[utoipa::path(delete, path = "/api/v1/server/groups/{id}/members/{user}", tag = "server",
    params(("id" = u64, Path), ("user" = u64, Path)), security(("api_key" = [])),
    responses((status = 200, body = Done), (status = "4XX", body = Failure)))]
pub(in crate::api::v1) async fn remove_member(
    State(app): State<App>,
    _key: MayGroups,
    Path((id, user)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let found = backends::group(&app.services, group_of(&id)?).await?.group;
    groups::remove(&app.services, found.owner, found.id, user_of(&user)?).await?;
    Ok(answer(StatusCode::OK, &Done {}))
}
