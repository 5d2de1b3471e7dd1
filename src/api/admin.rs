//! The admin port: `/healthz`, `/readyz`, `/metrics`, a status page; what only an operator may do
//! is in `operate`.
//!
//! Never: on the public port, and never with a secret: whoever reaches it may read all of it.
//! What changes something needs the operator's token. Where
//! only this machine reaches it, a page in somebody's browser does so, too, under a name of its own
//! that leads here (DNS rebinding): such a name gets no answer.

mod keys;
mod online;
mod operate;
mod page;
mod top;
mod upkeep;
mod users;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};

use tokio::sync::Semaphore;

pub use self::operate::{Degraded, Operator, ReloadWish, Reloaded, SetLog, ShowSettings};
use super::services::{Db, Promptness, Services, StoreFailure, pulse};
use super::{json, trails};
use crate::auth::Key;
use crate::ids::ShardId;
use crate::limits;
use crate::metrics::render::{Format, Readiness};

/// Makes the text of a scrape: in which format, and why the gateway is not ready. Called on a
/// blocking thread.
pub type Metrics = Arc<dyn Fn(Format, Readiness) -> String + Send + Sync>;

/// What the admin pages show.
#[derive(Clone)]
pub(super) struct Insight {
    pub(super) metrics: Metrics,
    pub(super) services: Arc<Services>,
    pub(super) db: Db,
    /// One permit per closure that runs; a closure that hangs keeps its own.
    pub(super) probes: Arc<Semaphore>,
    /// Set when the gateway begins to stop.
    pub(super) stopping: Arc<AtomicBool>,
    /// Makes the operator's token.
    pub(super) key: Key,
    /// What an operator may set off.
    pub(super) operator: Operator,
    /// One look at a time who takes the most.
    pub(super) looks: Arc<Semaphore>,
}

/// The routes; of `local` listeners, which only this machine reaches, for names of this machine
/// only.
pub(super) fn routes(insight: Insight, local: bool) -> Router {
    let operators = Router::new()
        .route("/admin/drain", post(operate::drain))
        .route("/admin/reload", post(operate::reload))
        .route("/admin/log", post(operate::set_log))
        .route("/admin/config", get(operate::config))
        .route("/admin/backup", get(upkeep::backup).post(upkeep::begin_backup))
        .route("/admin/retention", get(upkeep::retention).post(upkeep::begin_retention))
        .route("/admin/top", get(top::top))
        .route("/admin/online", get(online::online))
        .route("/admin/users/{user}/sessions", get(users::sessions).delete(users::end_sessions))
        .route("/admin/users/{user}/sessions/{session}", delete(users::end_session))
        .route("/admin/users/{user}/ban", post(users::ban))
        .route("/admin/users/{user}/unban", post(users::unban))
        .route("/admin/keys", get(keys::list).post(keys::make))
        .route("/admin/keys/{id}", delete(keys::end))
        .route("/admin/keys/{id}/rotate", post(keys::rotate))
        .route_layer(from_fn_with_state(insight.clone(), operate::is_operator));
    let routes = Router::new()
        .merge(operators)
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/admin", get(page::status))
        .fallback(async || json::not_found())
        .layer(from_fn(trails::route))
        .with_state(insight);
    if local { routes.layer(from_fn(own_name)) } else { routes }
}

async fn own_name(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if is_own(host) {
        next.run(request).await
    } else {
        text(StatusCode::MISDIRECTED_REQUEST, "not a name of this machine\n")
    }
}

/// Whether nobody on the Internet can have this name: an address, a name without a dot, or one of a
/// private network.
fn is_own(host: &str) -> bool {
    let bare = host.strip_prefix('[').map_or_else(|| host.split(':').next(), |rest| rest.split(']').next());
    let name = bare.unwrap_or_default().to_ascii_lowercase();
    let private = [".localhost", ".local", ".internal", ".home.arpa"];
    name.parse::<IpAddr>().is_ok() || !name.contains('.') || private.iter().any(|end| name.ends_with(end))
}

/// What `/readyz` looks at.
struct Pulse {
    silent: Vec<ShardId>,
    store: Result<Promptness, StoreFailure>,
    stopping: bool,
    short_of_memory: bool,
}

impl Pulse {
    async fn take(insight: &Insight) -> Self {
        let (silent, store) = tokio::join!(pulse::silent(insight.services.homes.as_ref()), insight.db.ping());
        let short_of_memory = (insight.operator.short_of_memory)();
        Self { silent, store, stopping: insight.stopping.load(Ordering::Acquire), short_of_memory }
    }
}

/// Waits for nothing: what is asked whether it lives must say so at once.
async fn healthz(State(insight): State<Insight>) -> Response {
    match (insight.operator.dead)() {
        None => text(StatusCode::OK, "ok\n"),
        Some(shard) => text(StatusCode::SERVICE_UNAVAILABLE, format!("shard {} does not turn any more\n", shard.0)),
    }
}

async fn readyz(State(insight): State<Insight>) -> Response {
    let Pulse { silent, store, stopping, short_of_memory } = Pulse::take(&insight).await;
    let mut reasons: Vec<_> = silent.into_iter().map(|shard| format!("shard {} does not answer", shard.0)).collect();
    if let Err(why) = store {
        reasons.push(format!("store: {}", store_reason(why)));
    }
    if stopping {
        reasons.push("stopping".to_owned());
    }
    if short_of_memory {
        reasons.push("memory: so much of memory_max is taken that newcomers are refused".to_owned());
    }
    if reasons.is_empty() {
        let mut lines = "ready\n".to_owned();
        if store == Ok(Promptness::Slow) {
            lines.push_str("slow: the database takes more than a second to answer\n");
        }
        if let Some(how) = insight.operator.degraded.as_ref().and_then(|degraded| degraded()) {
            lines.extend([how, "\n"]);
        }
        return text(StatusCode::OK, lines);
    }
    let lines: String = reasons.iter().flat_map(|reason| [reason.as_str(), "\n"]).collect();
    text(StatusCode::SERVICE_UNAVAILABLE, lines)
}

/// What an operator can do something with; the database's own words stand in the log.
const fn store_reason(why: StoreFailure) -> &'static str {
    match why {
        StoreFailure::Busy => "busy, or the database does not answer or takes no messages",
        StoreFailure::Unsure => "the database cannot commit (a full disk?); the log says why",
        StoreFailure::Broken => "the database is broken; the log says how",
    }
}

async fn metrics(State(insight): State<Insight>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let format = Format::accepted(accept);
    let pulse = Pulse::take(&insight).await;
    let unready = Readiness {
        shard: !pulse.silent.is_empty(),
        store: pulse.store.is_err(),
        stopping: pulse.stopping,
        memory: pulse.short_of_memory,
    };
    let metrics = Arc::clone(&insight.metrics);
    match blocking(&insight, move || metrics(format, unready)).await {
        Some(page) => ([(header::CONTENT_TYPE, format.content_type())], page).into_response(),
        None => text(StatusCode::SERVICE_UNAVAILABLE, "the shards do not answer\n"),
    }
}

/// Runs what may wait for a shard, but not for long.
async fn blocking<T: Send + 'static>(insight: &Insight, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let probe = Arc::clone(&insight.probes).try_acquire_owned().ok()?;
    let work = tokio::task::spawn_blocking(move || {
        let result = work();
        drop(probe);
        result
    });
    tokio::time::timeout(Duration::from_millis(limits::READY_MS_MAX), work).await.ok()?.ok()
}

fn text(status: StatusCode, body: impl Into<String>) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body.into()).into_response()
}
