//! Pages of a conversation.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use utoipa::{IntoParams, ToSchema};

use super::asking::Reader;
use super::refusal::{self, Failure, Refusal};
use crate::api::app::App;
use crate::api::history::{PageWish, rows, standing};
use crate::api::json::json;
use crate::api::services::history::{self, NoPage};

/// Which page. Only the description is used: the fields are read by [`PageWish::parse`].
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
    /// The first rows with a higher `seq`. Not together with `before`; with neither the newest
    /// rows.
    after: Option<u64>,
    /// 1 to 200 rows, 50 unless it is said.
    #[param(minimum = 1, maximum = 200)]
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
pub(super) async fn history(
    State(app): State<App>,
    Reader(reader): Reader,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let wish = PageWish::parse(&query.unwrap_or_default(), reader).ok_or(refusal::BAD_QUERY)?;
    match history::page(&app.services, reader, wish.conv, wish.from, wish.rows).await {
        Ok(page) => {
            let (kind, dstid) = (wish.conv.kind() as u8, wish.conv.dstid_for(reader));
            let (rows, standing) = (rows(wish.conv, &page), standing(&page));
            Ok(json(format!(r#"{{"cmd":4,"kind":{kind},"dstid":{dstid},"rows":{rows},{standing}}}"#)))
        }
        Err(NoPage::Refused(why)) => Err(why.into()),
        Err(NoPage::Store(why)) => Err(why.into()),
    }
}
