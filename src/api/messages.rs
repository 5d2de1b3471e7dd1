//! `GET /message/history`: a page of one conversation over HTTP, with the messages as they are on the wire.
//!
//! Query: `kind` (10 direct, 11 group), `dstid` (the other user, or the group), `before` or `after` (a `seq`; neither:
//! the newest), `limit` (default [`ROWS`]), `userid` (optional claim).

use axum::extract::State;
use axum::response::Response;

use super::App;
use super::binding::{Asked, Fields};
use super::envelope::{failure, json};
use super::legacy::trouble;
use super::services::history::{self, NoPage};
use crate::ids::{ConvId, GroupId, ID_MAX, Kind, Seq, UserId};
use crate::store::{Page, PageStart, Refusal};
use crate::wire::Packet;
use crate::wire::packet::Stored;

/// Rows when the client does not say.
const ROWS: u32 = 50;

/// The handler.
pub(super) async fn history(State(app): State<App>, asked: Asked) -> Response {
    let fields = asked.query();
    let reader = match app.acting(&asked, fields.int("userid")).await {
        Ok(reader) => reader,
        Err(refusal) => return refusal,
    };
    let Some((conv, from, rows)) = wanted(&fields, reader) else { return failure("参数错误") };
    match history::page(&app.services, reader, conv, from, rows).await {
        Ok(page) => json(written(conv, &page)),
        Err(NoPage::Refused(Refusal::NoSuchGroup)) => failure("群不存在"),
        Err(NoPage::Refused(Refusal::NoSuchUser)) => failure("用户不存在"),
        Err(NoPage::Refused(_)) => failure("您不是该会话的成员"),
        Err(NoPage::Trouble(why)) => failure(trouble(why)),
    }
}

/// The conversation, where the page starts and how many rows are wanted; `None` when one of them cannot be said.
pub(super) fn wanted(fields: &Fields, reader: UserId) -> Option<(ConvId, PageStart, u32)> {
    let rows = if fields.text("limit").is_empty() { ROWS } else { u32::try_from(fields.int("limit")).unwrap_or(ROWS) };
    Some((conversation(fields, reader)?, start(fields)?, rows))
}

fn conversation(fields: &Fields, reader: UserId) -> Option<ConvId> {
    let dst = u64::try_from(fields.int("dstid")).ok()?;
    match fields.int("kind") {
        kind if kind == i64::from(Kind::Direct as u8) => Some(ConvId::direct(reader, UserId::new(dst)?)),
        kind if kind == i64::from(Kind::Group as u8) => Some(ConvId::Group(GroupId::new(dst)?)),
        _ => None,
    }
}

/// Where the page starts; `None` when that cannot be said. A cursor that is no number is not taken for 0: a client with
/// a bug should hear of it and not read the same page for ever.
fn start(fields: &Fields) -> Option<PageStart> {
    let seq = |name: &str| fields.text(name).parse().ok().and_then(Seq::new);
    match (fields.text("before"), fields.text("after")) {
        ("", "") => Seq::new(ID_MAX).map(PageStart::Before),
        (_, "") => seq("before").map(PageStart::Before),
        ("", _) => seq("after").map(PageStart::After),
        (_, _) => None,
    }
}

/// The envelope of the legacy answers around the messages.
fn written(conv: ConvId, page: &Page) -> String {
    let (rows, total, standing) = (rows(conv, page), page.rows.len(), standing(page));
    format!(r#"{{"code":0,"msg":"","rows":{rows},"total":{total},"data":{{{standing}}}}}"#)
}

/// The messages as one JSON array. They are written here and not by serde, so that they are the packets' own bytes.
pub(super) fn rows(conv: ConvId, page: &Page) -> String {
    let mut out = String::from("[");
    for (i, row) in page.rows.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        let stored = Stored { id: row.id, seq: row.seq };
        let packet = Packet::chat(conv, row.sender, Some(stored), row.ts_ms, &row.body);
        out.push_str(&String::from_utf8_lossy(packet.json()));
    }
    out.push(']');
    out
}

/// Where the conversation stands, as fields of a JSON object without its braces.
pub(super) fn standing(page: &Page) -> String {
    let (more, floor, head, epoch) = (page.more, page.floor, page.head, page.epoch);
    format!(r#""more":{more},"floor":{floor},"head":{head},"epoch":{epoch}"#)
}
