//! Taking back a message.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer;
use super::asking::{Actor, Body};
use super::refusal::{self, Failure, Refusal};
use crate::api::app::App;
use crate::api::services::recalls;
use crate::ids::{GroupId, Seq, UserId};
use crate::wire::Target;

/// Which message.
#[derive(Deserialize, ToSchema)]
pub(super) struct Recall {
    /// 10: direct, 11: group.
    kind: u64,
    /// The other user, or the group.
    dstid: u64,
    /// The message's place in the conversation.
    seq: u64,
}

/// The message that says so.
#[derive(Serialize, ToSchema)]
pub(super) struct Recalled {
    /// Its place.
    seq: u64,
}

/// Takes back a message of one's own, at most two minutes old. Everybody gets a message that names
/// it; its text is gone for good.
#[utoipa::path(post, path = "/api/v1/messages/recall", tag = "messages", request_body = Recall,
    responses((status = 200, body = Recalled), (status = "4XX", body = Failure)))]
pub(super) async fn recall(
    State(app): State<App>,
    Actor(user): Actor,
    Body(asked): Body<Recall>,
) -> Result<Response, Refusal> {
    let of = match asked.kind {
        10 => UserId::new(asked.dstid).map(Target::User).ok_or(refusal::NO_SUCH_USER)?,
        11 => GroupId::new(asked.dstid).map(Target::Group).ok_or(refusal::NO_SUCH_GROUP)?,
        _ => return Err(refusal::BAD_KIND),
    };
    let seq = Seq::new(asked.seq).filter(|&seq| seq > Seq::ZERO).ok_or(refusal::NO_SUCH_MESSAGE)?;
    let seq = recalls::recall(&app.services, user, of, seq).await?;
    Ok(answer(StatusCode::OK, &Recalled { seq: seq.get() }))
}
