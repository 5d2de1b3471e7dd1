//! Pages of a conversation.

use axum::extract::State;
use axum::response::Response;
use utoipa::{IntoParams, ToSchema};

use super::asking::Reader;
use super::refusal::{self, Failure, Refusal};
use crate::api::binding::Asked;
use crate::api::services::history::{self, NoPage};
use crate::api::{App, envelope, messages};

/// Which page. Only the description is used: the fields are read as `/message/history` reads them.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "a description")]
pub(super) struct PageSearch {
    /// 10: direct, 11: group.
    kind: u64,
    /// The other user, or the group.
    dstid: u64,
    /// The last rows with a lower `seq`.
    before: Option<u64>,
    /// The first rows with a higher `seq`. Not together with `before`; with neither the newest rows.
    after: Option<u64>,
    /// 1 to 200 rows, 50 unless it is said.
    limit: Option<u32>,
}

/// A page, as `cmd` 4 answers over the WebSocket. Only the description is used.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description")]
pub(super) struct HistoryPage {
    cmd: u64,
    kind: u64,
    dstid: u64,
    /// The messages as they are pushed (docs/protocol.md), in ascending order of `seq`.
    #[schema(value_type = Vec<Object>)]
    rows: Vec<()>,
    /// Whether there is more in the direction of the request.
    more: bool,
    /// The oldest `seq` that one may see.
    floor: u64,
    /// The newest `seq` there is.
    head: u64,
    /// When it changes: forget what you hold.
    epoch: u64,
}

/// A page of a conversation.
#[utoipa::path(get, path = "/api/v1/history", tag = "messages", params(PageSearch),
    responses((status = 200, body = HistoryPage), (status = "4XX", body = Failure)))]
pub(super) async fn history(State(app): State<App>, Reader(reader): Reader, asked: Asked) -> Result<Response, Refusal> {
    let (conv, from, rows) = messages::wanted(&asked.query(), reader).ok_or(refusal::BAD_QUERY)?;
    match history::page(&app.services, reader, conv, from, rows).await {
        Ok(page) => {
            let (kind, dstid) = (conv.kind() as u8, conv.dstid_for(reader));
            let (rows, standing) = (messages::rows(conv, &page), messages::standing(&page));
            Ok(envelope::json(format!(r#"{{"cmd":4,"kind":{kind},"dstid":{dstid},"rows":{rows},{standing}}}"#)))
        }
        Err(NoPage::Refused(why)) => Err(why.into()),
        Err(NoPage::Trouble(why)) => Err(why.into()),
    }
}
