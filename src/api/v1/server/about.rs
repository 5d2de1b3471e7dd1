//! Who is online, what was said, and how much the gateway does.

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::json;
use url::form_urlencoded;
use utoipa::{IntoParams, ToSchema};

use super::{MayHistory, MayOnline, MayStats};
use crate::api::app::App;
use crate::api::history::{PageWish, rows, standing};
use crate::api::json::json as json_body;
use crate::api::services::backends;
use crate::api::trails::Particulars;
use crate::api::v1::answer;
use crate::api::v1::asking::Body;
use crate::api::v1::history::HistoryPage;
use crate::api::v1::refusal::{self, Failure, Refusal};
use crate::ids::{ConvId, UserId};
use crate::limits;

/// Whom is asked about.
#[derive(Deserialize, ToSchema)]
pub(in crate::api::v1) struct OnlineWish {
    /// At most 1,000.
    #[schema(max_items = 1000)]
    users: Vec<u64>,
}

/// Who is online.
#[derive(Serialize, ToSchema)]
pub(in crate::api::v1) struct Online {
    /// Those of the users who have a session, with `cluster` on any gateway, ascending.
    online: Vec<u64>,
}

/// Which of these users are online.
#[utoipa::path(post, path = "/api/v1/server/online", tag = "server", request_body = OnlineWish, security(("api_key" = [])),
    responses((status = 200, body = Online), (status = "4XX", body = Failure)))]
pub(in crate::api::v1) async fn online(
    State(app): State<App>,
    _key: MayOnline,
    Body(wish): Body<OnlineWish>,
) -> Result<Response, Refusal> {
    let users: Option<Vec<UserId>> = wish.users.into_iter().map(UserId::new).collect();
    let users = users.filter(|users| users.len() <= limits::API_ONLINE_MAX).ok_or(refusal::BAD_USERS)?;
    let online = backends::online(&app.services, users).await?;
    Ok(answer(StatusCode::OK, &Online { online: online.into_iter().map(UserId::get).collect() }))
}

/// Which page. Only the description is used: the fields are read by [`PageWish::parse`].
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "a description")]
pub(in crate::api::v1) struct AnyPage {
    /// 10: direct, 11: group.
    kind: u64,
    /// One user of a direct conversation; not of a group.
    user: Option<u64>,
    /// The other user, or the group.
    dstid: u64,
    /// The last rows with a lower `seq`.
    before: Option<u64>,
    /// The first rows with a higher `seq`. Not together with `before`; with neither the newest
    /// rows.
    after: Option<u64>,
    /// 1 to 200 rows, 50 unless it is said.
    limit: Option<u32>,
}

/// A page of any conversation, all that is kept of it.
#[utoipa::path(get, path = "/api/v1/server/history", tag = "server", params(AnyPage), security(("api_key" = [])),
    responses((status = 200, body = HistoryPage), (status = "4XX", body = Failure)))]
pub(in crate::api::v1) async fn history(
    State(app): State<App>,
    _key: MayHistory,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let query = query.unwrap_or_default();
    let field =
        |name: &str| form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value);
    let user = match field("kind").as_deref() {
        // The same for everybody.
        Some("11") => UserId::new(1),
        _ => field("user").and_then(|user| user.parse().ok()).and_then(UserId::new),
    };
    let user = user.ok_or(refusal::BAD_QUERY)?;
    let wish = PageWish::parse(&query, user).ok_or(refusal::BAD_QUERY)?;
    let page = backends::page(&app.services, wish.conv, wish.from, wish.rows).await?;
    let (kind, dstid) = (wish.conv.kind() as u8, wish.conv.dstid_for(user));
    let (rows, standing) = (rows(wish.conv, &page), standing(&page));
    let mut response = json_body(format!(r#"{{"cmd":4,"kind":{kind},"dstid":{dstid},"rows":{rows},{standing}}}"#));
    let of = match wish.conv {
        ConvId::Group(group) => json!({ "group": group.get() }),
        ConvId::Direct { lo, hi } => json!({ "users": [lo.get(), hi.get()] }),
    };
    response.extensions_mut().insert(Particulars(json!({ "of": of })));
    Ok(response)
}

/// What this gateway holds now, and what it has done since it started.
#[derive(Serialize, ToSchema)]
pub(in crate::api::v1) struct Stats {
    version: &'static str,
    shards: usize,
    /// WebSockets and what is about to become one.
    connections: u64,
    sessions: u64,
    users_online: u64,
    /// Messages stored.
    stored: u64,
    /// Messages put on their way to a session.
    delivered: u64,
}

/// The gateway's numbers; `/metrics` on the admin port has all of them.
#[utoipa::path(get, path = "/api/v1/server/stats", tag = "server", security(("api_key" = [])),
    responses((status = 200, body = Stats), (status = "4XX", body = Failure)))]
pub(in crate::api::v1) async fn stats(State(app): State<App>, _key: MayStats) -> Response {
    let reports = app.board.reports();
    let sum = |of: fn(&crate::metrics::ShardReport) -> u64| reports.iter().map(of).sum();
    let stats = Stats {
        version: env!("CARGO_PKG_VERSION"),
        shards: reports.len(),
        connections: sum(|report| report.driver.connections),
        sessions: sum(|report| report.tally.sessions),
        users_online: sum(|report| report.tally.users_online),
        stored: sum(|report| report.tally.stored),
        delivered: sum(|report| report.tally.delivered),
    };
    answer(StatusCode::OK, &stats)
}
