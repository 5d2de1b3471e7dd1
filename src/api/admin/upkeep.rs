//! `/admin/backup` and `/admin/retention`: what looks after the database, begun and looked at.
//!
//! Never: waits for what it begins: a backup of a large database takes minutes, and who has asked
//! looks again.

use std::collections::HashMap;
use std::path::Path;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{Insight, blocking, text};
use crate::api::trails::Particulars;
use crate::store::{BackupStage, BackupView, NotBegun, RetentionView};

/// The newest backup that this gateway was asked for.
pub(super) async fn backup(State(insight): State<Insight>) -> Response {
    Json(made(&insight.operator.backups.view())).into_response()
}

/// Begins a backup below the data directory.
pub(super) async fn begin_backup(
    State(insight): State<Insight>,
    Query(asked): Query<HashMap<String, String>>,
) -> Response {
    let backups = insight.operator.backups.clone();
    // It asks the disk.
    match blocking(&insight, move || backups.begin(asked.get("name").map(String::as_str))).await {
        Some(Ok(view)) => {
            let of = view.file.as_deref().and_then(|file| file.file_name()).map(|name| name.to_string_lossy());
            let particulars = Particulars(json!({ "file": of }));
            let mut response = (StatusCode::ACCEPTED, Json(made(&view))).into_response();
            response.extensions_mut().insert(particulars);
            response
        }
        Some(Err(why)) => text(status_of(&why), format!("{why}\n")),
        None => text(StatusCode::SERVICE_UNAVAILABLE, "the disk does not answer; look whether it was begun\n"),
    }
}

fn made(view: &BackupView) -> Value {
    let state = match view.state {
        BackupStage::None => "none",
        BackupStage::Running => "running",
        BackupStage::Done => "done",
        BackupStage::Failed => "failed",
    };
    json!({
        "state": state,
        "file": view.file.as_deref().map(Path::to_string_lossy),
        "began_ms": view.began_ms,
        "ended_ms": view.ended_ms,
        "bytes": view.bytes,
        "why": view.why,
    })
}

const fn status_of(why: &NotBegun) -> StatusCode {
    match why {
        NotBegun::Name => StatusCode::BAD_REQUEST,
        NotBegun::Running | NotBegun::Exists(_) => StatusCode::CONFLICT,
        NotBegun::NotOurs(_) => StatusCode::UNPROCESSABLE_ENTITY,
        NotBegun::Space { .. } => StatusCode::INSUFFICIENT_STORAGE,
        NotBegun::Stopping | NotBegun::Io(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// What is kept, and the pass that removes the rest.
pub(super) async fn retention(State(insight): State<Insight>) -> Response {
    Json(shown(&insight.db.retention())).into_response()
}

/// Begins such a pass now.
pub(super) async fn begin_retention(State(insight): State<Insight>) -> Response {
    if insight.db.begin_retention() {
        tracing::info!("the operator asks for a pass of retention");
        return (StatusCode::ACCEPTED, Json(shown(&insight.db.retention()))).into_response();
    }
    text(StatusCode::CONFLICT, "everything is kept: keep_age and keep_count are 0\n")
}

fn shown(view: &RetentionView) -> Value {
    json!({
        "keep_age_ms": view.keep.age_ms,
        "keep_count": view.keep.count,
        "running": view.running,
        "began_ms": view.began_ms,
        "ended_ms": view.ended_ms,
        "messages": view.messages,
        "keys": view.keys,
        "failed": view.failed,
        "elsewhere": view.elsewhere,
    })
}
