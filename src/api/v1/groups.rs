//! Groups and their members.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::asking::{Actor, Body, Params, Reader, after_of, group_of, user_of};
use super::objects::{Done, Group, Groups, Member, Members, Rule};
use super::people::{Paging, ROWS};
use super::refusal::{self, Failure, Refusal};
use super::{answer, page};
use crate::api::app::App;
use crate::api::services::groups::{self, NotJoined, WantedGroup, Wish};
use crate::clock;
use crate::ids::{GroupId, UserId};
use crate::store::{self, GroupChange};

/// Which groups: without a name one's own.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct GroupSearch {
    /// Exactly this name, without regard to case: the oldest 20 of anybody's groups.
    name: Option<String>,
    /// The number of the last group of the page before; one's own groups only.
    after: Option<u64>,
    /// At most so many rows; 500 unless it is said, and never more.
    limit: Option<u32>,
}

/// One's groups by number, or groups of a name.
#[utoipa::path(get, path = "/api/v1/groups", tag = "groups", params(GroupSearch),
    responses((status = 200, body = Groups), (status = "4XX", body = Failure)))]
pub(super) async fn groups(
    State(app): State<App>,
    Reader(user): Reader,
    Params(search): Params<GroupSearch>,
) -> Result<Response, Refusal> {
    let (found, more) = match search.name {
        Some(name) => (groups::named(&app.services, name).await?, false),
        None => {
            let after = search.after.filter(|&after| after > 0);
            let after = after.map(|after| GroupId::new(after).ok_or(refusal::BAD_QUERY)).transpose()?;
            groups::of(&app.services, user, after, search.limit.unwrap_or(ROWS)).await?
        }
    };
    Ok(page(found.into_iter().map(Group::from), more))
}

/// A group to be made.
#[derive(Deserialize, ToSchema)]
pub(super) struct GroupWish {
    /// 1 to 30 characters.
    name: String,
    /// URL, up to 250 characters.
    #[serde(default)]
    icon: String,
    /// Category, as you like.
    #[serde(default)]
    cate: i64,
    /// Up to 120 characters.
    #[serde(default)]
    memo: String,
    /// Who gets in by asking; as the gateway's setting `group_rule` says (`invitation`) unless it
    /// is said.
    rule: Option<Rule>,
    /// Friends who are members from the beginning, at most 100.
    #[serde(default)]
    members: Vec<u64>,
}

/// Makes a group; its maker is its owner and first member.
#[utoipa::path(post, path = "/api/v1/groups", tag = "groups", request_body = GroupWish,
    responses((status = 201, body = Group), (status = "4XX", body = Failure)))]
pub(super) async fn create(
    State(app): State<App>,
    Actor(user): Actor,
    Body(wish): Body<GroupWish>,
) -> Result<Response, Refusal> {
    let GroupWish { name, icon, cate, memo, rule, members } = wish;
    let rule = rule.map_or_else(|| app.services.attempts.allowed().group_rule, store::Rule::from);
    let members: Option<Vec<UserId>> = members.into_iter().map(UserId::new).collect();
    let members = members.ok_or(refusal::NO_SUCH_USER)?;
    let wish = Wish { name, icon, cate, memo, rule };
    let made = groups::create_with(&app.services, user, wish, members, clock::wall_ms()).await?;
    Ok(answer(StatusCode::CREATED, &Group::from(made)))
}

/// A group: for its members, for those who were, and for anybody who may join it or ask to.
#[utoipa::path(get, path = "/api/v1/groups/{id}", tag = "groups", params(("id" = u64, Path)),
    responses((status = 200, body = Group), (status = "4XX", body = Failure)))]
pub(super) async fn group(
    State(app): State<App>,
    Reader(user): Reader,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let found = groups::card(&app.services, user, group_of(&id)?).await?;
    Ok(answer(StatusCode::OK, &Group::from(found)))
}

/// New values; what is not there stays.
#[derive(Deserialize, ToSchema)]
pub(super) struct GroupEdit {
    name: Option<String>,
    icon: Option<String>,
    memo: Option<String>,
    /// Its owner only.
    rule: Option<Rule>,
    /// Its owner only.
    members_add: Option<bool>,
}

impl From<GroupEdit> for GroupChange {
    fn from(edit: GroupEdit) -> Self {
        let GroupEdit { name, icon, memo, rule, members_add } = edit;
        Self { name, icon, memo, rule: rule.map(store::Rule::from), members_add }
    }
}

/// Changes a group. Its owner and its admins; who gets in, its owner only.
#[utoipa::path(patch, path = "/api/v1/groups/{id}", tag = "groups", params(("id" = u64, Path)), request_body = GroupEdit,
    responses((status = 200, body = Group), (status = "4XX", body = Failure)))]
pub(super) async fn change(
    State(app): State<App>,
    Actor(user): Actor,
    Path(id): Path<String>,
    Body(edit): Body<GroupEdit>,
) -> Result<Response, Refusal> {
    let changed = groups::update(&app.services, user, group_of(&id)?, edit.into()).await?;
    Ok(answer(StatusCode::OK, &Group::from(changed)))
}

/// Dissolves a group: every membership ends, and nobody reads its messages any more. Its owner
/// only.
#[utoipa::path(delete, path = "/api/v1/groups/{id}", tag = "groups", params(("id" = u64, Path)),
    responses((status = 200, body = Done), (status = "4XX", body = Failure)))]
pub(super) async fn dissolve(
    State(app): State<App>,
    Actor(user): Actor,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    groups::dissolve(&app.services, user, group_of(&id)?).await?;
    Ok(answer(StatusCode::OK, &Done {}))
}

/// The members of a group by number, at most 200 in an answer. Members only.
#[utoipa::path(get, path = "/api/v1/groups/{id}/members", tag = "groups", params(("id" = u64, Path), Paging),
    responses((status = 200, body = Members), (status = "4XX", body = Failure)))]
pub(super) async fn members(
    State(app): State<App>,
    Reader(user): Reader,
    Path(id): Path<String>,
    Params(paging): Params<Paging>,
) -> Result<Response, Refusal> {
    let (after, max) = (after_of(paging.after)?, paging.limit.unwrap_or(ROWS));
    let found = groups::members(&app.services, user, group_of(&id)?, after, max).await?;
    Ok(page(found.0.into_iter().map(Member::from), found.1))
}

/// Joins a group that is open, or asks to be let into one by approval: then it is 202, and the
/// group's admins are told. Being a member is success; what was said before stays unread.
#[utoipa::path(put, path = "/api/v1/groups/{id}/members/me", tag = "groups", params(("id" = u64, Path)),
    responses((status = 200, body = Group), (status = 202, body = Group), (status = "4XX", body = Failure)))]
pub(super) async fn join(
    State(app): State<App>,
    Actor(user): Actor,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let group = group_of(&id)?;
    let status = match groups::join(&app.services, user, WantedGroup::Id(group), clock::wall_ms()).await {
        Ok(_) => StatusCode::OK,
        Err(NotJoined::Asked) => StatusCode::ACCEPTED,
        Err(why) => return Err(why.into()),
    };
    let found = groups::card(&app.services, user, group).await?;
    Ok(answer(status, &Group::from(found)))
}

/// Leaves a group. Not being a member is success; its owner cannot.
#[utoipa::path(delete, path = "/api/v1/groups/{id}/members/me", tag = "groups", params(("id" = u64, Path)),
    responses((status = 200, body = Done), (status = "4XX", body = Failure)))]
pub(super) async fn leave(
    State(app): State<App>,
    Actor(user): Actor,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    groups::remove(&app.services, user, group_of(&id)?, user).await?;
    Ok(answer(StatusCode::OK, &Done {}))
}

/// Ends a membership: one's own, or, as its owner or an admin, another one's.
#[utoipa::path(delete, path = "/api/v1/groups/{id}/members/{user}", tag = "groups",
    params(("id" = u64, Path), ("user" = u64, Path)),
    responses((status = 200, body = Done), (status = "4XX", body = Failure)))]
pub(super) async fn remove(
    State(app): State<App>,
    Actor(actor): Actor,
    Path((id, user)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    groups::remove(&app.services, actor, group_of(&id)?, user_of(&user)?).await?;
    Ok(answer(StatusCode::OK, &Done {}))
}
