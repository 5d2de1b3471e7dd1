//! Pages of one conversation over HTTP: which page is asked for, and its messages as they are on
//! the wire.
//!
//! Never: writes a message anew: rows are the packets' own bytes.

use url::form_urlencoded;

use crate::ids::{ConvId, GroupId, ID_MAX, Kind, Seq, UserId};
use crate::store::{Page, PageStart};
use crate::wire::Packet;
use crate::wire::packet::Stored;

/// Rows when the client does not say.
const ROWS: u32 = 50;

/// A page of a conversation that is asked for.
pub(super) struct PageWish {
    pub(super) conv: ConvId,
    pub(super) from: PageStart,
    pub(super) rows: u32,
}

impl PageWish {
    /// Reads `kind` (10 direct, 11 group), `dstid` (the other user, or the group), `before` or
    /// `after` (a `seq`; neither: the newest) and `limit` (default 50) of the query of a URL; of a
    /// field that is there twice the first counts. `None`: one of them cannot be understood. A
    /// cursor that is no number is not taken for 0: a client with a bug should hear of it and not
    /// read the same page for ever.
    pub(super) fn parse(query: &str, reader: UserId) -> Option<Self> {
        let field = |name: &str| {
            let mut fields = form_urlencoded::parse(query.as_bytes());
            fields.find(|(key, _)| key == name).map(|(_, value)| value).unwrap_or_default()
        };
        let number = |name: &str| field(name).trim().parse::<u64>().ok();
        let seq = |text: &str| text.parse().ok().and_then(Seq::new);
        let conv = match number("kind")? {
            kind if kind == Kind::Direct as u64 => ConvId::direct(reader, UserId::new(number("dstid")?)?),
            kind if kind == Kind::Group as u64 => ConvId::Group(GroupId::new(number("dstid")?)?),
            _ => return None,
        };
        let from = match (field("before").as_ref(), field("after").as_ref()) {
            ("", "") => PageStart::Before(Seq::new(ID_MAX)?),
            (before, "") => PageStart::Before(seq(before)?),
            ("", after) => PageStart::After(seq(after)?),
            (_, _) => return None,
        };
        let rows = match field("limit").as_ref() {
            "" => ROWS,
            // Below the least and above the most there are the least and the most.
            limit => u32::try_from(limit.trim().parse::<i64>().unwrap_or(0).max(0)).unwrap_or(u32::MAX),
        };
        Some(Self { conv, from, rows })
    }
}

/// The messages as one JSON array. They are written here and not by serde, so that they are the
/// packets' own bytes.
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
