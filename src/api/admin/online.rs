//! `GET /admin/online`: the users online on this gateway, page by page.
//!
//! Never: without the operator's token; stops a shard for the whole list. It is no picture of one
//! moment: a user of whom a session comes or goes while the pages are read may be missing, or
//! stand there twice.
//! Bounds: [`ROSTER_ASKS`] questions to shards a page, of
//! [`ROSTER_SLOTS`](crate::shard::ROSTER_SLOTS) places each.

use std::collections::HashMap;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::{Insight, text};
use crate::api::services::Services;
use crate::ids::{ShardId, UserId};
use crate::shard::{Answer, Notice};

/// Questions for one page, one after the other: up to 16,384 users.
const ROSTER_ASKS: usize = 16;

/// Where a page begins: the place of a session in a shard. Written `SHARD.PLACE`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cursor {
    shard: ShardId,
    place: u32,
}

impl Cursor {
    const FIRST: Self = Self { shard: ShardId(0), place: 0 };

    fn parse(text: &str) -> Option<Self> {
        let (shard, place) = text.split_once('.')?;
        Some(Self { shard: ShardId(shard.parse().ok()?), place: place.parse().ok()? })
    }

    fn text(self) -> String {
        format!("{}.{}", self.shard.0, self.place)
    }
}

/// One page.
pub(super) async fn online(State(insight): State<Insight>, Query(asked): Query<HashMap<String, String>>) -> Response {
    let after = asked.get("after").map_or(Some(Cursor::FIRST), |text| Cursor::parse(text));
    let shards = insight.services.homes.shards();
    let Some(from) = after.filter(|cursor| cursor.shard.0 < shards) else {
        return text(StatusCode::BAD_REQUEST, "after is what the page before has as next\n");
    };
    match page(&insight.services, from, shards).await {
        Ok((users, next)) => {
            let users: Vec<u64> = users.into_iter().map(UserId::get).collect();
            Json(json!({ "users": users, "next": next.map(Cursor::text) })).into_response()
        }
        Err(ShardId(shard)) => text(StatusCode::SERVICE_UNAVAILABLE, format!("shard {shard} does not answer\n")),
    }
}

/// The users from `from` on, and where the next ones begin.
///
/// # Errors
/// The shard that does not answer.
async fn page(services: &Services, from: Cursor, shards: u16) -> Result<(Vec<UserId>, Option<Cursor>), ShardId> {
    let (mut at, mut all) = (from, Vec::new());
    for _ in 0..ROSTER_ASKS {
        let answer = services.notify(at.shard, Notice::Roster { from: at.place }).await;
        let Answer::Roster { users, next } = answer else { return Err(at.shard) };
        all.extend(users);
        at = match next {
            Some(place) => Cursor { place, ..at },
            None if at.shard.0 + 1 < shards => Cursor { shard: ShardId(at.shard.0 + 1), place: 0 },
            None => return Ok((all, None)),
        };
    }
    Ok((all, Some(at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_written() {
        let cursor = Cursor { shard: ShardId(3), place: 1024 };
        assert_eq!(Cursor::parse(&cursor.text()), Some(cursor));
        for bad in ["", ".", "1", "1.", ".1", "-1.0", "0.-1", "0.4294967296", "0.1.2", "x.0"] {
            assert_eq!(Cursor::parse(bad), None, "{bad}");
        }
    }
}
