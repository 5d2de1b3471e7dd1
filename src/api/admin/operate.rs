//! What an operator may do through the admin port: `POST /admin/drain`, `POST /admin/reload`,
//! `POST /admin/log`, `GET /admin/config`; what else it may is in the files beside this one.
//!
//! Owns: the check of the operator's token ([`Key::admin_token`](crate::auth::Key::admin_token)).
//! Never: does anything without it. The port may be reached by whoever reads the metrics, and they
//! may not stop the gateway.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use crossbeam_channel::Sender;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{Insight, text};
use crate::api::trails::{Acting, Particulars};
use crate::caller::bearer;
use crate::ids::ShardId;
use crate::limits::RELOAD_MS_MAX;
use crate::log;
use crate::metrics::Board;
use crate::store::Backups;

/// The way from the admin port to whoever runs the gateway.
#[derive(Clone)]
pub struct Operator {
    /// Asks for the orderly stop. It holds one wish; a further one is the same.
    pub drain: Sender<()>,
    /// Asks for the configuration to be loaded again. It holds one wish.
    pub reload: Sender<ReloadWish>,
    /// Changes the filter of the log.
    pub log: SetLog,
    /// The settings that are in force, with where each came from; no secrets. What [`Self::log`]
    /// has changed since is not among them.
    pub settings: ShowSettings,
    /// Makes copies of the database.
    pub backups: Backups,
    /// Where the shards are asked who takes the most.
    pub board: Board,
    /// The first shard that has not turned for [`crate::limits::SHARD_DEAD_MS`].
    pub dead: Arc<dyn Fn() -> Option<ShardId> + Send + Sync>,
    /// What a gateway that serves has to say against itself on `/readyz`, if anything.
    pub degraded: Option<Degraded>,
    /// Whether newcomers are refused for want of memory.
    pub short_of_memory: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// See [`Operator::log`]; why a text is no filter.
pub type SetLog = Arc<dyn Fn(&str) -> anyhow::Result<()> + Send + Sync>;

/// See [`Operator::settings`].
pub type ShowSettings = Arc<dyn Fn() -> Value + Send + Sync>;

/// Where the outcome of a reload is wanted.
pub type ReloadWish = oneshot::Sender<Result<Reloaded, String>>;

/// What became of a configuration that was loaded again.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Reloaded {
    /// Settings that have changed since the last time and are in force now.
    pub in_force: Vec<&'static str>,
    /// Settings that are not what the gateway was started with, and wait for a restart.
    pub needs_restart: Vec<&'static str>,
    /// Certificates that stay as they were, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
    /// Files that settings name and that were read again, whether they have changed or not: keys of
    /// tokens, certificates. What they hold is in force.
    pub read_again: Vec<String>,
}

/// See [`Operator::degraded`].
pub type Degraded = Arc<dyn Fn() -> Option<&'static str> + Send + Sync>;

/// Lets pass who shows the operator's token.
pub(super) async fn is_operator(State(insight): State<Insight>, request: Request, next: Next) -> Response {
    if bearer(request.headers()).is_some_and(|token| insight.key.is_admin_token(token)) {
        if let Some(acting) = request.extensions().get::<Arc<Acting>>() {
            acting.operator();
        }
        return next.run(request).await;
    }
    let scheme = [(header::WWW_AUTHENTICATE, "Bearer")];
    (scheme, text(StatusCode::UNAUTHORIZED, "the operator's token is missing; `imgate token --operator` prints it\n"))
        .into_response()
}

/// Begins the orderly stop and says so.
pub(super) async fn drain(State(insight): State<Insight>) -> Response {
    tracing::info!("the operator asks for a drain");
    // Full: it has been asked before. Gone: it is stopping already.
    let _ = insight.operator.drain.try_send(());
    (StatusCode::ACCEPTED, Json(json!({ "draining": true }))).into_response()
}

/// Lets more or less into the log, until the configuration is loaded again.
pub(super) async fn set_log(State(insight): State<Insight>, Query(asked): Query<HashMap<String, String>>) -> Response {
    let Some(filter) = asked.get("filter") else {
        return text(StatusCode::BAD_REQUEST, "filter is missing: a level, or levels by module\n");
    };
    let say = || tracing::info!(filter, "the operator changes the filter of the log, until the next reload");
    // Said while the log still takes it: it may be the last line for long.
    let is_heard = log::check(filter).is_ok() && tracing::enabled!(tracing::Level::INFO);
    if is_heard {
        say();
    }
    if let Err(why) = (insight.operator.log)(filter) {
        return text(StatusCode::UNPROCESSABLE_ENTITY, format!("{why:#}\n"));
    }
    if !is_heard {
        say();
    }
    let mut response = Json(json!({ "filter": filter })).into_response();
    response.extensions_mut().insert(Particulars(json!({ "filter": filter })));
    response
}

/// The settings that are in force.
pub(super) async fn config(State(insight): State<Insight>) -> Response {
    Json((insight.operator.settings)()).into_response()
}

/// Has the configuration loaded again, as SIGHUP does, and says what became of it.
pub(super) async fn reload(State(insight): State<Insight>) -> Response {
    tracing::info!("the operator asks for a reload");
    let (tell, told) = oneshot::channel();
    if insight.operator.reload.try_send(tell).is_err() {
        return text(StatusCode::SERVICE_UNAVAILABLE, "another reload is under way, or the gateway stops\n");
    }
    match tokio::time::timeout(Duration::from_millis(RELOAD_MS_MAX), told).await {
        Ok(Ok(Ok(reloaded))) => Json(reloaded).into_response(),
        Ok(Ok(Err(why))) => text(StatusCode::UNPROCESSABLE_ENTITY, format!("{why}\n")),
        Ok(Err(_)) | Err(_) => {
            text(StatusCode::SERVICE_UNAVAILABLE, "not done in time; the log says what became of it\n")
        }
    }
}
