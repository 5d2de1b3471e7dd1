//! Users, as backends make, change, ban, disconnect and erase them.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::{MayData, MayModerate, MayTokens, MayUsers};
use crate::api::app::App;
use crate::api::services::accounts::{self, Registration};
use crate::api::services::operator::{self, Deed, DeedOutcome};
use crate::api::services::subjects::{self, Portrait};
use crate::api::services::{StoreFailure, backends, profiles};
use crate::api::trails::Particulars;
use crate::api::v1::answer;
use crate::api::v1::asking::{Body, Caller, Params, user_of};
use crate::api::v1::objects::{Done, Friend, Group, Login, Me, Token, User};
use crate::api::v1::refusal::{self, Failure, Refusal};
use crate::auth::Issuer;
use crate::clock;
use crate::ids::{ConvId, UserId};
use crate::limits;
use crate::store::{self, UserChange};
use crate::wire::Target;

/// A user to be made: one of yours (`subject`), or one with a login name.
#[derive(Deserialize, ToSchema)]
pub(in crate::api::v1) struct NewUserWish {
    /// Your own name for the user, of up to 255 characters: what your tokens (`sub`) call it. It
    /// always stands for the same user; one that is there already gets the nickname and avatar that
    /// are given, and is answered with 200.
    subject: Option<String>,
    /// A login name, as at registration.
    mobile: Option<String>,
    /// As at registration. Without one nobody logs in as this user but with a token that you make.
    #[serde(default)]
    password: String,
    nickname: Option<String>,
    avatar: Option<String>,
    /// Not together with `subject`.
    #[serde(default)]
    sex: String,
    /// Not together with `subject`.
    #[serde(default)]
    memo: String,
}

/// Makes a user, also where registration is closed.
#[utoipa::path(post, path = "/api/v1/server/users", tag = "server", request_body = NewUserWish, security(("api_key" = [])),
    responses((status = 200, body = Me), (status = 201, body = Me), (status = "4XX", body = Failure)))]
pub(in crate::api::v1) async fn create_user(
    State(app): State<App>,
    _key: MayUsers,
    caller: Caller,
    Body(wish): Body<NewUserWish>,
) -> Result<Response, Refusal> {
    let NewUserWish { subject, mobile, password, nickname, avatar, sex, memo } = wish;
    let (services, now_ms) = (&app.services, clock::wall_ms());
    let (user, is_new) = match (subject, mobile) {
        (Some(subject), None) if password.is_empty() && sex.is_empty() && memo.is_empty() => {
            let portrait = Portrait { nickname, avatar };
            subjects::find_or_make(services, checked(&subject)?, portrait, now_ms).await?
        }
        (None, Some(mobile)) => {
            let (nickname, avatar) = (nickname.unwrap_or_default(), avatar.unwrap_or_default());
            let wish = Registration { mobile, password, nickname, avatar, sex, memo };
            (backends::create_user(services, wish, caller.address(), now_ms).await?, true)
        }
        _ => return Err(refusal::BAD_NEW_USER),
    };
    let of = json!({ "user": user.id.get(), "new": is_new });
    let mut response = answer(if is_new { StatusCode::CREATED } else { StatusCode::OK }, &Me::from(user));
    response.extensions_mut().insert(Particulars(json!({ "of": of })));
    Ok(response)
}

fn checked(subject: &str) -> Result<&str, Refusal> {
    let fits = !subject.is_empty() && subject.chars().nth(limits::SUBJECT_CHARS_MAX).is_none();
    if fits { Ok(subject) } else { Err(refusal::BAD_SUBJECT) }
}

/// Which user: one of the two.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::api::v1) struct UserQuery {
    /// Your own name for the user.
    #[param(min_length = 1, max_length = 255)]
    subject: Option<String>,
    /// Exactly this login name, however it is spelled.
    mobile: Option<String>,
}

/// The user of a subject or login name.
#[utoipa::path(get, path = "/api/v1/server/users", tag = "server", params(UserQuery), security(("api_key" = [])),
    responses((status = 200, body = Account), (status = "4XX", body = Failure)))]
pub(in crate::api::v1) async fn find_users(
    State(app): State<App>,
    _key: MayUsers,
    Params(query): Params<UserQuery>,
) -> Result<Response, Refusal> {
    let found = match (query.subject, query.mobile) {
        (Some(subject), None) => subjects::find(&app.services, checked(&subject)?).await?,
        (None, Some(mobile)) => accounts::by_mobile(&app.services, &mobile).await?,
        _ => return Err(refusal::BAD_QUERY),
    };
    Ok(answer(StatusCode::OK, &Account::from(found.ok_or(refusal::NO_SUCH_USER)?)))
}

/// A user as a backend sees one.
#[derive(Serialize, ToSchema)]
pub(in crate::api::v1) struct Account {
    #[serde(flatten)]
    user: Me,
    /// No login and no session.
    banned: bool,
    /// Only the number is left.
    deleted: bool,
}

impl From<store::User> for Account {
    fn from(user: store::User) -> Self {
        let (banned, deleted) = (user.banned, user.is_erased());
        Self { user: user.into(), banned, deleted }
    }
}

/// A user.
#[utoipa::path(get, path = "/api/v1/server/users/{id}", tag = "server", params(("id" = u64, Path)), security(("api_key" = [])),
    responses((status = 200, body = Account), (status = "4XX", body = Failure)))]
pub(in crate::api::v1) async fn user(
    State(app): State<App>,
    _key: MayUsers,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let user = accounts::find(&app.services, user_of(&id)?).await?.ok_or(refusal::NO_SUCH_USER)?;
    Ok(answer(StatusCode::OK, &Account::from(user)))
}

/// New values; what is not there stays.
#[derive(Deserialize, ToSchema)]
pub(in crate::api::v1) struct UserEdit {
    nickname: Option<String>,
    avatar: Option<String>,
    sex: Option<String>,
    memo: Option<String>,
}

/// Changes a user's profile.
#[utoipa::path(patch, path = "/api/v1/server/users/{id}", tag = "server", params(("id" = u64, Path)), request_body = UserEdit,
    security(("api_key" = [])), responses((status = 200, body = Account), (status = "4XX", body = Failure)))]
pub(in crate::api::v1) async fn change_user(
    State(app): State<App>,
    _key: MayUsers,
    Path(id): Path<String>,
    Body(edit): Body<UserEdit>,
) -> Result<Response, Refusal> {
    let user = user_of(&id)?;
    accounts::find(&app.services, user).await?.filter(|user| !user.is_erased()).ok_or(refusal::NO_SUCH_USER)?;
    let UserEdit { nickname, avatar, sex, memo } = edit;
    let user = profiles::update(&app.services, user, UserChange { nickname, avatar, sex, memo }).await?;
    Ok(answer(StatusCode::OK, &Account::from(user)))
}

/// Deletes a user for good, as `imgate user delete`: profile, login name, friendships, files,
/// memberships; a group of its own goes to the member of longest standing, or ends. Messages stay
/// in the others' histories, with the bare number as their author. Doing it again is success.
#[utoipa::path(delete, path = "/api/v1/server/users/{id}", tag = "server", params(("id" = u64, Path)),
    security(("api_key" = [])), responses((status = 200, body = Done), (status = "4XX", body = Failure)))]
pub(in crate::api::v1) async fn erase_user(
    State(app): State<App>,
    _key: MayData,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    act(&app, Deed::Delete, &id).await
}

/// Bans a user: its sessions end at once, and nobody gets in as it.
#[utoipa::path(put, path = "/api/v1/server/users/{id}/ban", tag = "server", params(("id" = u64, Path)),
    security(("api_key" = [])), responses((status = 200, body = Done), (status = "4XX", body = Failure)))]
pub(in crate::api::v1) async fn ban(
    State(app): State<App>,
    _key: MayModerate,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    act(&app, Deed::Ban, &id).await
}

/// Ends a ban.
#[utoipa::path(delete, path = "/api/v1/server/users/{id}/ban", tag = "server", params(("id" = u64, Path)),
    security(("api_key" = [])), responses((status = 200, body = Done), (status = "4XX", body = Failure)))]
pub(in crate::api::v1) async fn unban(
    State(app): State<App>,
    _key: MayModerate,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    act(&app, Deed::Unban, &id).await
}

async fn act(app: &App, deed: Deed, id: &str) -> Result<Response, Refusal> {
    let (services, user) = (std::sync::Arc::clone(&app.services), user_of(id)?);
    // What was begun goes on when the backend goes away.
    let done = tokio::spawn(async move { operator::on_gateway(&services, deed, user).await });
    match done.await.unwrap_or(DeedOutcome::Unsure) {
        DeedOutcome::Account(_) => Ok(answer(StatusCode::OK, &Done {})),
        DeedOutcome::NoSuchUser => Err(refusal::NO_SUCH_USER),
        DeedOutcome::Busy => Err(StoreFailure::Busy.into()),
        DeedOutcome::Unsure => Err(StoreFailure::Unsure.into()),
        DeedOutcome::Broken => Err(StoreFailure::Broken.into()),
    }
}

/// How far a disconnect goes.
#[derive(Deserialize, ToSchema)]
pub(in crate::api::v1) struct DisconnectWish {
    /// Also make every token void that was made so far: the user has to log in again
    /// (4501). Of another system's (`jwt_keys`) those are void that say by `iat` that they were
    /// made before.
    /// Otherwise the clients come back at once (4000).
    #[serde(default)]
    log_out: bool,
}

/// Ends a user's sessions, also those on other gateways of the `cluster`.
#[utoipa::path(post, path = "/api/v1/server/users/{id}/disconnect", tag = "server", params(("id" = u64, Path)),
    request_body = DisconnectWish, security(("api_key" = [])),
    responses((status = 200, body = Done), (status = "4XX", body = Failure)))]
pub(in crate::api::v1) async fn disconnect(
    State(app): State<App>,
    _key: MayModerate,
    Path(id): Path<String>,
    Body(wish): Body<DisconnectWish>,
) -> Result<Response, Refusal> {
    let user = user_of(&id)?;
    accounts::find(&app.services, user).await?.ok_or(refusal::NO_SUCH_USER)?;
    if wish.log_out {
        profiles::log_out_everywhere(&app.services, user).await?;
    } else {
        backends::disconnect(&app.services, user).await?;
    }
    Ok(answer(StatusCode::OK, &Done {}))
}

/// How long a token is good.
#[derive(Deserialize, ToSchema)]
pub(in crate::api::v1) struct TokenWish {
    /// Seconds; never more than the setting `token_ttl`, which it is without.
    ttl_s: Option<u64>,
}

/// Makes a token with which a client gets in as this user: for those who have logged in with you.
#[utoipa::path(post, path = "/api/v1/server/users/{id}/token", tag = "server", params(("id" = u64, Path)),
    request_body = TokenWish, security(("api_key" = [])),
    responses((status = 200, body = Token), (status = "4XX", body = Failure)))]
pub(in crate::api::v1) async fn issue_token(
    State(app): State<App>,
    key: MayTokens,
    Path(id): Path<String>,
    Body(wish): Body<TokenWish>,
) -> Result<Response, Refusal> {
    let services = &app.services;
    let user = accounts::find(services, user_of(&id)?).await?.filter(|user| !user.is_erased());
    let user = user.ok_or(refusal::NO_SUCH_USER)?;
    let most_ms = services.token_ttl_ms();
    let ttl_ms = wish.ttl_s.map_or(most_ms, |s| s.saturating_mul(1000)).min(most_ms);
    let expires_ms = clock::wall_ms().saturating_add(ttl_ms);
    tracing::info!(key = %key.admitted.name, user = %user.id, "a backend makes a token");
    let token = services.key.issue(user.id, user.token_epoch, Issuer::Own, expires_ms);
    Ok(answer(StatusCode::OK, &Token { token }))
}

/// Where the list of conversations goes on.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::api::v1) struct DataQuery {
    /// `ts`, `kind` and `dstid` of the last conversation of the page before.
    before_ts: Option<u64>,
    before_kind: Option<u64>,
    before_dstid: Option<u64>,
}

/// What is kept about a user, but for the messages, which `/api/v1/server/history` gives by
/// conversation.
#[derive(Serialize, ToSchema)]
pub(in crate::api::v1) struct UserData {
    account: Account,
    friends: Vec<Friend>,
    blocked: Vec<User>,
    groups: Vec<Group>,
    logins: Vec<Login>,
    /// Bytes of the user's uploads.
    upload_bytes: u64,
    conversations: Vec<Conversation>,
    /// Whether there are more conversations behind the last one.
    more: bool,
}

/// A conversation of a user.
#[derive(Serialize, ToSchema)]
struct Conversation {
    /// 10: direct, 11: group.
    kind: u8,
    /// The other user, or the group.
    dstid: u64,
    /// Unix milliseconds of the newest message.
    ts: u64,
    /// The newest `seq`.
    head: u64,
    /// The oldest `seq` that the user may see.
    floor: u64,
    /// Received and read up to.
    recv: u64,
    read: u64,
}

/// Everything that is kept about a user, for whoever asks by law what that is. Also of one who is
/// banned.
#[utoipa::path(get, path = "/api/v1/server/users/{id}/data", tag = "server", params(("id" = u64, Path), DataQuery),
    security(("api_key" = [])), responses((status = 200, body = UserData), (status = "4XX", body = Failure)))]
pub(in crate::api::v1) async fn user_data(
    State(app): State<App>,
    _key: MayData,
    Path(id): Path<String>,
    Params(query): Params<DataQuery>,
) -> Result<Response, Refusal> {
    let user = user_of(&id)?;
    let before = before(user, &query)?;
    let found = backends::dossier(&app.services, user, before).await?.ok_or(refusal::NO_SUCH_USER)?;
    let conversation = |state: store::ConvState| Conversation {
        kind: state.conv.kind() as u8,
        dstid: state.conv.dstid_for(user),
        ts: state.ts_ms,
        head: state.head.get(),
        floor: state.floor.get(),
        recv: state.recv.get(),
        read: state.read.get(),
    };
    let data = UserData {
        account: found.user.into(),
        friends: found.friends.into_iter().map(Friend::from).collect(),
        blocked: found.blocked.into_iter().map(User::from).collect(),
        groups: found.groups.into_iter().map(Group::from).collect(),
        logins: found.logins.into_iter().map(|login| Login::of(login, None)).collect(),
        upload_bytes: found.upload_bytes,
        conversations: found.convs.convs.into_iter().map(conversation).collect(),
        more: found.convs.more,
    };
    Ok(answer(StatusCode::OK, &data))
}

fn before(user: UserId, query: &DataQuery) -> Result<Option<(u64, ConvId)>, Refusal> {
    match (query.before_ts, query.before_kind, query.before_dstid) {
        (None, None, None) => Ok(None),
        (Some(ts), Some(kind), Some(dstid)) => {
            Ok(Some((ts, target_of(kind, dstid).ok_or(refusal::BAD_QUERY)?.conv(user))))
        }
        _ => Err(refusal::BAD_QUERY),
    }
}

/// What `kind` and `dstid` name.
pub(super) fn target_of(kind: u64, dstid: u64) -> Option<Target> {
    match kind {
        10 => UserId::new(dstid).map(Target::User),
        11 => crate::ids::GroupId::new(dstid).map(Target::Group),
        _ => None,
    }
}
