//! The admin port: `/healthz`, `/readyz`, `/metrics`.
//!
//! Never: on the public port, and never with a secret: whoever reaches it may read all of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use tokio::sync::Semaphore;

use super::services::{Db, Trouble};
use crate::limits;

/// Makes the text of a scrape. Called on a blocking thread.
pub type Metrics = Arc<dyn Fn() -> String + Send + Sync>;

/// Says why the gateway is not ready, one reason each; nothing when it is. Called on a blocking thread.
pub type Readiness = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// What the admin pages show.
#[derive(Clone)]
pub(super) struct Insight {
    pub(super) metrics: Metrics,
    pub(super) readiness: Readiness,
    pub(super) db: Db,
    /// One permit per closure that runs; a closure that hangs keeps its own.
    pub(super) probes: Arc<Semaphore>,
    /// Set when the gateway begins to stop.
    pub(super) stopping: Arc<AtomicBool>,
}

/// The routes.
pub(super) fn routes(insight: Insight) -> Router {
    Router::new()
        .route("/healthz", get(async || text(StatusCode::OK, "ok\n")))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(super::not_found)
        .with_state(insight)
}

async fn readyz(State(insight): State<Insight>) -> Response {
    let readiness = Arc::clone(&insight.readiness);
    let (reasons, store) = tokio::join!(blocking(&insight, move || readiness()), insight.db.ping());
    let mut reasons = reasons.unwrap_or_else(|| vec!["the shards do not answer".to_owned()]);
    if let Err(why) = store {
        reasons.push(format!("store: {}", store_reason(why)));
    }
    if insight.stopping.load(Ordering::Acquire) {
        reasons.push("stopping".to_owned());
    }
    if reasons.is_empty() {
        return text(StatusCode::OK, "ready\n");
    }
    let lines: String = reasons.iter().flat_map(|reason| [reason.as_str(), "\n"]).collect();
    text(StatusCode::SERVICE_UNAVAILABLE, lines)
}

/// What an operator can do something with; the database's own words stand in the log.
const fn store_reason(why: Trouble) -> &'static str {
    match why {
        Trouble::Busy => "busy, or the database does not answer",
        Trouble::Unsure => "the database cannot commit (a full disk?); the log says why",
        Trouble::Broken => "the database is broken; the log says how",
    }
}

async fn metrics(State(insight): State<Insight>) -> Response {
    let metrics = Arc::clone(&insight.metrics);
    match blocking(&insight, move || metrics()).await {
        Some(page) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page).into_response(),
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
