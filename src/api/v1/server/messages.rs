//! Messages of backends.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::MaySend;
use super::fields::Fields;
use crate::api::app::App;
use crate::api::services::backends::{self, Sending, Sent};
use crate::api::services::{Services, accounts};
use crate::api::trails::Particulars;
use crate::api::v1::answer;
use crate::api::v1::asking::Body;
use crate::api::v1::refusal::{self, Failure, Problem, Refusal};
use crate::clock;
use crate::ids::{GroupId, UserId};
use crate::limits;
use crate::shard::Way;
use crate::wire::command::Parser;
use crate::wire::{Command, Post, Profile, Reject};

/// Messages to be sent, at most 100.
#[derive(Deserialize, ToSchema)]
pub(in crate::api::v1) struct SendWish {
    messages: Vec<MessageWish>,
}

/// One of them.
#[derive(Deserialize, ToSchema)]
struct MessageWish {
    /// Its author. Without one it is the system, a user of its own that is made when it is first
    /// needed; into a group the system writes without being a member.
    from: Option<u64>,
    to: Addressee,
    /// As a client gives it: with the same `from` and `cid` it is stored once, however often it is
    /// sent, and `dup` says that it was there. Up to 64 bytes.
    cid: Option<String>,
    /// `false`: only sessions that are open now get it. To `all` it must be `false`.
    #[serde(default = "yes")]
    store: bool,
    /// The message's own fields, as in `cmd` 10 and 11 (docs/protocol.md): `media`, `content`,
    /// `url` and whatever your clients know. Its readers get them as they are written here.
    #[schema(value_type = std::collections::HashMap<String, serde_json::Value>)]
    message: Fields,
}

const fn yes() -> bool {
    true
}

/// Where to: one of the three.
#[derive(Deserialize, ToSchema)]
struct Addressee {
    user: Option<u64>,
    group: Option<u64>,
    /// Every session of this gateway. The clients show it in their conversation with its author.
    #[serde(default)]
    all: bool,
}

/// What became of each message, in their order.
#[derive(Serialize, ToSchema)]
pub(in crate::api::v1) struct Outcomes {
    results: Vec<Outcome>,
}

/// What became of one: `ts` where it was sent, `error` where it was not.
#[derive(Serialize, ToSchema)]
struct Outcome {
    /// Its place in the conversation; absent where it was not to be stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    /// Its number on this server.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    /// Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    ts: Option<u64>,
    /// It had been sent before.
    #[serde(skip_serializing_if = "Option::is_none")]
    dup: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Problem>,
}

/// Sends messages as the system or as any user, to users, groups or everybody. Messages of one call
/// by one author to one conversation keep their order. 200 also when some were refused: each has
/// its own result. What is refused with `busy` or `unsure` may be sent again, with the same `cid`.
#[utoipa::path(post, path = "/api/v1/server/messages", tag = "server", request_body = SendWish, security(("api_key" = [])),
    responses((status = 200, body = Outcomes), (status = "4XX", body = Failure)))]
pub(in crate::api::v1) async fn send(
    State(app): State<App>,
    _key: MaySend,
    Body(wish): Body<SendWish>,
) -> Result<Response, Refusal> {
    if wish.messages.len() > limits::API_BATCH_MAX {
        return Err(refusal::TOO_MANY_MESSAGES);
    }
    let services = &app.services;
    let now_ms = clock::wall_ms();
    let known = authors(services, &wish.messages).await?;
    let named: Vec<Option<UserId>> = wish.messages.iter().map(|message| UserId::new(message.from?)).collect();
    let mut results: Vec<Option<Outcome>> = Vec::with_capacity(wish.messages.len());
    let mut sendings = Vec::new();
    let mut parser = Parser::default();
    let mut tries = limits::ANNOUNCE_TRIES_MAX;
    for message in wish.messages {
        match readied(services, &mut parser, message, &known, now_ms).await {
            Ok(Readied::One(sending)) => {
                sendings.push(sending);
                results.push(None);
            }
            Ok(Readied::All(post, from)) => {
                let said = backends::announce(services, from, &post.body, now_ms, &mut tries).await;
                results.push(Some(said.map_or_else(Outcome::refused, |()| Outcome::sent(now_ms))));
            }
            Err(why) => results.push(Some(Outcome::not_sent(why))),
        }
    }
    let mut sent = backends::send(services, sendings).await.into_iter();
    let results: Vec<Outcome> =
        results.into_iter().filter_map(|result| result.or_else(|| Some(Outcome::of(sent.next()?)))).collect();
    let said = said_by(&named, &results);
    let mut response = answer(StatusCode::OK, &Outcomes { results });
    if let Some(said) = said {
        response.extensions_mut().insert(Particulars(json!({ "of": said })));
    }
    Ok(response)
}

/// In whose names how many messages were sent, or may have been; `None`: in nobody's.
fn said_by(named: &[Option<UserId>], results: &[Outcome]) -> Option<serde_json::Value> {
    let refused = |outcome: &Outcome| outcome.error.as_ref().is_some_and(|error| !error.is_unsure());
    let said = named.iter().zip(results).filter(|(_, outcome)| !refused(outcome));
    let said: Vec<u64> = said.filter_map(|(from, _)| Some((*from)?.get())).collect();
    let users: BTreeSet<u64> = said.iter().copied().collect();
    (!said.is_empty()).then(|| json!({ "users": users, "messages": said.len() }))
}

enum Readied {
    One(Sending),
    All(Post, UserId),
}

/// Those of the authors who are users.
async fn authors(services: &Services, messages: &[MessageWish]) -> Result<Vec<UserId>, Refusal> {
    let mut named: Vec<UserId> = messages.iter().filter_map(|message| UserId::new(message.from?)).collect();
    named.sort_unstable();
    named.dedup();
    let found = if named.is_empty() { Vec::new() } else { accounts::all_of(services, named).await? };
    Ok(found.into_iter().filter(|user| !user.is_erased()).map(|user| user.id).collect())
}

async fn readied(
    services: &Services,
    parser: &mut Parser,
    wish: MessageWish,
    known: &[UserId],
    now_ms: u64,
) -> Result<Readied, Refusal> {
    let MessageWish { from, to, cid, store, message } = wish;
    let from = from.map(|from| UserId::new(from).filter(|user| known.contains(user)).ok_or(refusal::NO_SUCH_USER));
    let from = from.transpose()?;
    let author = backends::author(services, from, now_ms).await?;
    let (kind, dstid) = match to {
        Addressee { user: Some(user), group: None, all: false } => {
            (10, UserId::new(user).ok_or(refusal::NO_SUCH_USER)?.get())
        }
        Addressee { user: None, group: Some(group), all: false } => {
            (11, GroupId::new(group).ok_or(refusal::NO_SUCH_GROUP)?.get())
        }
        Addressee { user: None, group: None, all: true } if store => return Err(refusal::STORED_FOR_ALL),
        Addressee { user: None, group: None, all: true } => (10, author.get()),
        _ => return Err(refusal::BAD_ADDRESSEE),
    };
    let text = message.of_command(kind, dstid, cid.as_deref());
    let post = match parser.parse(&text, Profile::V2) {
        Ok(Command::Post(post)) => post,
        Ok(_) => return Err(refusal::BAD_JSON),
        Err(refused) => return Err(refusal::of_message(refused.reject)),
    };
    if to.all {
        return Ok(Readied::All(post, author));
    }
    let way = match (store, from, to.group) {
        (false, ..) => Way::Fleeting,
        (true, None, Some(_)) => Way::Server,
        (true, ..) => Way::Judged,
    };
    let as_server = from.is_none() && to.group.is_some();
    Ok(Readied::One(Sending { from: author, post, way, as_server }))
}

impl Outcome {
    const NONE: Self = Self { seq: None, id: None, ts: None, dup: None, error: None };

    const fn sent(ts_ms: u64) -> Self {
        Self { ts: Some(ts_ms), dup: Some(false), ..Self::NONE }
    }

    fn of(sent: Result<Sent, Reject>) -> Self {
        match sent {
            Ok(Sent { stored, ts_ms, dup }) => Self {
                seq: stored.map(|stored| stored.seq.get()),
                id: stored.map(|stored| stored.id.get()),
                ts: Some(ts_ms),
                dup: Some(dup),
                error: None,
            },
            Err(why) => Self::refused(why),
        }
    }

    fn refused(why: Reject) -> Self {
        Self::not_sent(refusal::of_message(why))
    }

    fn not_sent(why: Refusal) -> Self {
        Self { error: Some(why.into()), ..Self::NONE }
    }
}
