//! What an operator may do through the admin port: `POST /admin/drain`, and `GET /admin/top`
//! (`top`).
//!
//! Owns: the check of the operator's token ([`Key::admin_token`](crate::auth::Key::admin_token)).
//! Never: does anything without it. The port may be reached by whoever reads the metrics, and they
//! may not stop the gateway.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use crossbeam_channel::Sender;
use serde_json::json;

use super::{Insight, text};
use crate::metrics::Board;

/// The way from the admin port to whoever runs the gateway.
#[derive(Clone)]
pub struct Operator {
    /// Asks for the orderly stop. It holds one wish; a further one is the same.
    pub drain: Sender<()>,
    /// Where the shards are asked who takes the most.
    pub board: Board,
    /// What a gateway that serves has to say against itself on `/readyz`, if anything.
    pub degraded: Option<Degraded>,
}

/// See [`Operator::degraded`].
pub type Degraded = Arc<dyn Fn() -> Option<&'static str> + Send + Sync>;

/// Lets pass who shows the operator's token.
pub(super) async fn is_operator(State(insight): State<Insight>, request: Request, next: Next) -> Response {
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = shown.and_then(|value| value.strip_prefix("Bearer "));
    if token.is_some_and(|token| insight.key.is_admin_token(token)) {
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
