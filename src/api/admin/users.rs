//! `/admin/users/…`: a user's sessions on this gateway, listed and ended, and bans.
//!
//! Never: without the operator's token: it says who is here, from where, and with what. Never waits
//! for the database to list sessions, beyond a moment: an operator looks when something is slow.
//! Bounds: one user, whose sessions are on one shard:
//! [`SESSIONS_SHOWN_MAX`](crate::limits::SESSIONS_SHOWN_MAX) of them, and one answer within
//! [`NOTICE_MS_MAX`](crate::limits::NOTICE_MS_MAX).

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{Insight, text};
use crate::api::services::operator::{self, Deed, DeedOutcome};
use crate::api::trails::Particulars;
use crate::ids::{LoginId, SessionName, ShardId, UserId, decimal, shard_of};
use crate::limits;
use crate::metrics::names;
use crate::shard::{Answer, HeldBack, Notice, SessionView};
use crate::store::LoginInfo;
use crate::wire::Reject;

/// The sessions of a user on this gateway.
pub(super) async fn sessions(State(insight): State<Insight>, Path(user): Path<String>) -> Response {
    let Some(user) = user_of(&user) else { return no_user() };
    let shard = shard_of(user, insight.services.homes.shards());
    let Answer::Sessions(sessions) = insight.services.notify(shard, Notice::Sessions { user }).await else {
        return silent(shard, "ask again");
    };
    let logins = if sessions.iter().any(|session| session.login.is_some()) {
        logins_of(&insight, user).await
    } else {
        Vec::new()
    };
    let sessions: Vec<Value> = sessions.iter().map(|session| shown(shard, session, &logins)).collect();
    Json(json!({ "user": user.get(), "sessions": sessions })).into_response()
}

/// Ends all of them; they may come back.
pub(super) async fn end_sessions(State(insight): State<Insight>, Path(user): Path<String>) -> Response {
    let Some(user) = user_of(&user) else { return no_user() };
    end(&insight, user, None).await
}

/// Ends one of them; it may come back.
pub(super) async fn end_session(
    State(insight): State<Insight>,
    Path((user, session)): Path<(String, String)>,
) -> Response {
    let Some(user) = user_of(&user) else { return no_user() };
    match SessionName::parse(&session) {
        Some(session) => end(&insight, user, Some(session)).await,
        None => no_session(),
    }
}

async fn end(insight: &Insight, user: UserId, only: Option<SessionName>) -> Response {
    let shard = shard_of(user, insight.services.homes.shards());
    if only.is_some_and(|SessionName(other, _)| other != shard) {
        return no_session();
    }
    let notice = Notice::EndSessions { user, only: only.map(|SessionName(_, conn)| conn) };
    // Said before it is known what becomes of it: a shard that does not answer in time may do it
    // all the same.
    tracing::info!(%user, session = only.map(|session| session.to_string()), "the operator ends sessions of a user");
    let sessions = match insight.services.notify(shard, notice).await {
        Answer::Ended { sessions } => sessions,
        Answer::Refused(Reject::Busy) => return silent(shard, "nothing was ended"),
        _ => return silent(shard, "sessions may have been ended or not; ask again"),
    };
    if sessions == 0 && only.is_some() {
        return no_session();
    }
    let mut of = json!({ "ended": sessions });
    if let Some(session) = only {
        of["session"] = session.to_string().into();
    }
    let mut response = Json(json!({ "ended": sessions })).into_response();
    response.extensions_mut().insert(Particulars(of));
    response
}

/// Bans a user, as `imgate user ban` does.
pub(super) async fn ban(State(insight): State<Insight>, Path(user): Path<String>) -> Response {
    act(&insight, Deed::Ban, &user).await
}

/// Ends a ban.
pub(super) async fn unban(State(insight): State<Insight>, Path(user): Path<String>) -> Response {
    act(&insight, Deed::Unban, &user).await
}

async fn act(insight: &Insight, deed: Deed, user: &str) -> Response {
    let Some(user) = user_of(user) else { return no_user() };
    tracing::info!(?deed, %user, "the operator asks");
    let services = Arc::clone(&insight.services);
    // What was begun goes on when whoever asked goes away.
    let done = tokio::spawn(async move { operator::on_gateway(&services, deed, user).await });
    match done.await.unwrap_or(DeedOutcome::Unsure) {
        DeedOutcome::Account(account) => Json(account).into_response(),
        DeedOutcome::NoSuchUser => text(StatusCode::NOT_FOUND, format!("there is no user {user}\n")),
        DeedOutcome::Busy => text(StatusCode::SERVICE_UNAVAILABLE, "not done, or not all of it; ask again\n"),
        DeedOutcome::Unsure => text(StatusCode::SERVICE_UNAVAILABLE, "done or not done; ask again\n"),
        DeedOutcome::Broken => text(StatusCode::SERVICE_UNAVAILABLE, "the database is broken; the log says how\n"),
    }
}

/// The user's logins; none if the database does not say at once.
async fn logins_of(insight: &Insight, user: UserId) -> Vec<LoginInfo> {
    let read = insight.db.read(move |store| store.logins().logins_of(user));
    let read = tokio::time::timeout(Duration::from_millis(limits::READY_MS_MAX), read).await;
    read.ok().and_then(Result::ok).unwrap_or_default()
}

fn shown(shard: ShardId, session: &SessionView, logins: &[LoginInfo]) -> Value {
    let socket = session.socket.as_ref();
    let transport = socket.map(|socket| names::transport(socket.tls, session.deflates));
    let held_back = session.held_back.map(|why| match why {
        HeldBack::Pace => "pace",
        HeldBack::Answers => "answers",
    });
    json!({
        "id": SessionName(shard, session.conn).to_string(),
        "shard": shard.0,
        "profile": names::PROFILE_LABELS.get(session.profile.index()),
        "transport": transport.and_then(|place| names::TRANSPORT_LABELS.get(place)),
        "address": socket.and_then(|socket| socket.address.as_deref()),
        "device": session.device.label(),
        "login": session.login.map(|login| shown_login(login, logins)),
        "open": session.open,
        "silent_ms": session.silent_ms,
        "pings": session.pings,
        "waiting_bytes": session.waiting_bytes,
        "unanswered": session.unanswered,
        "behind": session.behind,
        "held_back": held_back,
    })
}

fn shown_login(login: LoginId, logins: &[LoginInfo]) -> Value {
    let mut shown = json!({ "id": login.get() });
    if let Some(info) = logins.iter().find(|info| info.login == login) {
        shown["agent"] = info.agent.as_str().into();
        shown["address"] = info.address.as_str().into();
        shown["created_ms"] = info.created_ms.into();
    }
    shown
}

fn user_of(text: &str) -> Option<UserId> {
    decimal(text).and_then(UserId::new)
}

fn no_user() -> Response {
    text(StatusCode::BAD_REQUEST, "a user is a number from 1 to 2^53 - 1\n")
}

fn no_session() -> Response {
    text(StatusCode::NOT_FOUND, "this user has no such session here, or none any more\n")
}

fn silent(ShardId(shard): ShardId, so: &str) -> Response {
    text(StatusCode::SERVICE_UNAVAILABLE, format!("shard {shard} does not answer: {so}\n"))
}
