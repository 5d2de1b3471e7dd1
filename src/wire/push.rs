//! What one session alone is told: acks, refusals, heartbeats, sync answers, the welcome, control
//! frames.
//!
//! Owns: their encoding. Every function returns one complete unmasked WebSocket frame.
//! Never: writes a chat message itself; the rows of a sync answer are spelled by `packet`.

use super::command::Target;
use super::encode::{self, Scratch};
use super::packet::{Stored, write_chat, write_chat_cut};
use super::preview::{self, Closed};
use super::{CloseCode, Echo, Reject};
use crate::ids::{ConvId, Seq, UserId};
use crate::limits::CONTROL_BYTES_MAX;
use crate::store::{ConvState, Heads, Newest, Page};

/// `cmd` 1: `{"cmd":1,"cid":…,"kind":…,"dstid":…,"id":…,"seq":…,"ts":…,"dup":true}`. A volatile
/// message has no `stored`, and its ack no `id` and `seq`; a post without `cid` gets an ack
/// without. `dup`: it was stored before, this is the old ack.
#[must_use]
pub fn ack(cid: Option<&str>, of: Target, stored: Option<Stored>, ts_ms: u64, dup: bool) -> Box<[u8]> {
    let mut out = open(1);
    if let Some(cid) = cid {
        encode::string_field(&mut out, "cid", cid);
    }
    target(&mut out, of);
    if let Some(Stored { id, seq }) = stored {
        encode::number_field(&mut out, "id", id.get());
        encode::number_field(&mut out, "seq", seq.get());
    }
    encode::number_field(&mut out, "ts", ts_ms);
    if dup {
        encode::bool_field(&mut out, "dup", true);
    }
    close_object(out)
}

/// `cmd` 2 for v2 sessions: `{"cmd":2,"cid":…,"kind":…,"dstid":…,"code":…,"msg":…,"retry":…}`,
/// `cid` only if it could be read, `kind` and `dstid` only if the command was understood: they tell
/// which sync, or which post without a `cid`, is meant.
#[must_use]
pub fn refusal(reject: Reject, cid: Option<&str>, of: Option<Target>) -> Box<[u8]> {
    let mut out = open(2);
    if let Some(cid) = cid {
        encode::string_field(&mut out, "cid", cid);
    }
    if let Some(of) = of {
        encode::number_field(&mut out, "kind", of.kind() as u64);
        encode::number_field(&mut out, "dstid", of.dstid());
    }
    encode::number_field(&mut out, "code", u64::from(reject.code()));
    encode::string_field(&mut out, "msg", reject.message());
    encode::bool_field(&mut out, "retry", reject.retry());
    close_object(out)
}

/// A refusal for legacy sessions: a text without `}`, which the old pages log and otherwise ignore.
#[must_use]
pub fn legacy_refusal(reject: Reject) -> Box<[u8]> {
    framed(encode::TEXT, &[b"refused: ", reject.message().as_bytes()])
}

/// `cmd` 0: `{"cmd":0,"ts":…}`.
#[must_use]
pub fn heartbeat(ts_ms: u64) -> Box<[u8]> {
    let mut out = open(0);
    encode::number_field(&mut out, "ts", ts_ms);
    close_object(out)
}

/// `cmd` 4, the answer:
/// `{"cmd":4,"kind":…,"dstid":…,"rows":[…],"more":…,"floor":…,"head":…,"epoch":…}` with the rows as
/// [`super::Packet`] writes them, and `"reset":true` when the client's `after` lies above the head.
#[must_use]
pub fn sync(of: Target, reader: UserId, page: &Page, reset: bool) -> Box<[u8]> {
    let conv = of.conv(reader);
    let mut out = open(4);
    target(&mut out, of);
    encode::key(&mut out, "rows");
    out.push(b'[');
    for (at, row) in page.rows.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let stored = Some(Stored { id: row.id, seq: row.seq });
        write_chat(&mut out, conv, row.sender, stored, row.ts_ms, &row.body);
    }
    out.push(b']');
    encode::bool_field(&mut out, "more", page.more);
    encode::number_field(&mut out, "floor", page.floor.get());
    encode::number_field(&mut out, "head", page.head.get());
    encode::number_field(&mut out, "epoch", page.epoch);
    if reset {
        encode::bool_field(&mut out, "reset", true);
    }
    close_object(out)
}

/// `cmd` 3: how far `user` has received and read the conversation, as `listener` calls it:
/// `{"cmd":3,"userid":…,"kind":…,"dstid":…,"recv":…,"read":…}`.
#[must_use]
pub fn cursor(user: UserId, conv: ConvId, listener: UserId, recv: Seq, read: Seq) -> Box<[u8]> {
    let mut out = open(3);
    encode::number_field(&mut out, "userid", user.get());
    encode::number_field(&mut out, "kind", conv.kind() as u64);
    encode::number_field(&mut out, "dstid", conv.dstid_for(listener));
    encode::number_field(&mut out, "recv", recv.get());
    encode::number_field(&mut out, "read", read.get());
    close_object(out)
}

/// What a user's clients show may have changed elsewhere (`cmd` 9): which list to load again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Hint {
    /// The friends, or the blocked users: the id is the other user's.
    Friends,
    /// The groups, or one of them: the id is the group's.
    Groups,
    /// A profile: the id is its user's.
    Profile,
}

impl Hint {
    /// `what` on the wire.
    #[must_use]
    pub const fn what(self) -> &'static str {
        match self {
            Self::Friends => "friends",
            Self::Groups => "groups",
            Self::Profile => "profile",
        }
    }
}

/// `cmd` 9: something has changed elsewhere: `{"cmd":9,"what":…,"id":…}`.
#[must_use]
pub fn hint(what: Hint, id: u64) -> Box<[u8]> {
    let mut out = open(9);
    encode::string_field(&mut out, "what", what.what());
    encode::number_field(&mut out, "id", id);
    close_object(out)
}

/// `cmd` 6: `user` is typing in the conversation, as `listener` calls it:
/// `{"cmd":6,"kind":…,"dstid":…,"userid":…}`.
#[must_use]
pub fn typing(user: UserId, conv: ConvId, listener: UserId) -> Box<[u8]> {
    let mut out = open(6);
    encode::number_field(&mut out, "kind", conv.kind() as u64);
    encode::number_field(&mut out, "dstid", conv.dstid_for(listener));
    encode::number_field(&mut out, "userid", user.get());
    close_object(out)
}

/// `cmd` 7: which of the users are online: `{"cmd":7,"rows":[{"userid":…,"online":…},…]}`.
#[must_use]
pub fn presence(rows: &[(UserId, bool)]) -> Box<[u8]> {
    let mut out = open(7);
    encode::key(&mut out, "rows");
    out.push(b'[');
    for (at, &(user, online)) in rows.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.push(b'{');
        encode::number_field(&mut out, "userid", user.get());
        encode::bool_field(&mut out, "online", online);
        out.push(b'}');
    }
    out.push(b']');
    close_object(out)
}

/// `cmd` 5: `{"cmd":5,"convs":[…],"more":…,"epoch":…}`, each conversation as
/// `{"kind":…,"dstid":…,"head":…,`
/// `"ts":…,"recv":…,"read":…,"unread":…,"floor":…,"last":{…},"cut":true}`, the newest first. `last`
/// is the newest message as [`super::Packet`] writes it, if the reader may read it; `cut`: only its
/// beginning.
#[must_use]
pub fn ready(reader: UserId, heads: &Heads) -> Box<[u8]> {
    let mut out = open(5);
    encode::key(&mut out, "convs");
    out.push(b'[');
    for (at, state) in heads.convs.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.push(b'{');
        encode::number_field(&mut out, "kind", state.conv.kind() as u64);
        encode::number_field(&mut out, "dstid", state.conv.dstid_for(reader));
        encode::number_field(&mut out, "head", state.head.get());
        encode::number_field(&mut out, "ts", state.ts_ms);
        encode::number_field(&mut out, "recv", state.recv.get());
        encode::number_field(&mut out, "read", state.read.get());
        encode::number_field(&mut out, "unread", state.unread);
        encode::number_field(&mut out, "floor", state.floor.get());
        if let Some(newest) = &state.newest {
            write_newest(&mut out, state, newest);
        }
        out.push(b'}');
    }
    out.push(b']');
    encode::bool_field(&mut out, "more", heads.more);
    encode::number_field(&mut out, "epoch", heads.epoch);
    close_object(out)
}

/// The newest message of a conversation, of a long one what makes a line.
fn write_newest(out: &mut Scratch, state: &ConvState, newest: &Newest) {
    encode::key(out, "last");
    let stored = Some(Stored { id: newest.id, seq: state.head });
    let mut body = Closed { fields: &newest.body, in_text: false };
    if newest.cut {
        body = preview::close(&newest.body);
    }
    write_chat_cut(out, state.conv, newest.sender, stored, newest.ts_ms, body);
    if newest.cut {
        encode::bool_field(out, "cut", true);
    }
}

/// The first frame of a legacy session: `welcome!` (fastIM) or `hello,world!` (IMChat).
#[must_use]
pub fn welcome(echo: Echo) -> Box<[u8]> {
    let text = match echo {
        Echo::None => "welcome!",
        Echo::Groups => "hello,world!",
    };
    framed(encode::TEXT, &[text.as_bytes()])
}

/// A ping with a payload of at most 125 bytes; what is longer is cut.
#[must_use]
pub fn ping(payload: &[u8]) -> Box<[u8]> {
    control(encode::PING, payload)
}

/// A pong with a payload of at most 125 bytes; what is longer is cut.
#[must_use]
pub fn pong(payload: &[u8]) -> Box<[u8]> {
    control(encode::PONG, payload)
}

/// A close frame with the code's reason.
#[must_use]
pub fn close(code: CloseCode) -> Box<[u8]> {
    framed(encode::CLOSE, &[&code.code().to_be_bytes(), code.reason().as_bytes()])
}

/// The close frame of a session whose gateway stops, with the milliseconds after which it is to
/// come back.
#[must_use]
pub fn close_for(away_ms: u64) -> Box<[u8]> {
    let reason = format!("shutdown retry_ms={away_ms}");
    framed(encode::CLOSE, &[&CloseCode::Shutdown.code().to_be_bytes(), reason.as_bytes()])
}

/// The answer to the peer's close frame: its own code back, or an empty close frame if it gave
/// none.
#[must_use]
pub fn close_echo(code: Option<u16>) -> Box<[u8]> {
    match code {
        Some(code) => framed(encode::CLOSE, &[&code.to_be_bytes()]),
        None => framed(encode::CLOSE, &[]),
    }
}

/// Begins the object of answer `cmd`.
fn open(cmd: u64) -> Scratch {
    let mut out = encode::scratch();
    out.push(b'{');
    encode::number_field(&mut out, "cmd", cmd);
    out
}

/// `kind` and `dstid`.
fn target(out: &mut Scratch, of: Target) {
    encode::number_field(out, "kind", of.kind() as u64);
    encode::number_field(out, "dstid", of.dstid());
}

/// Ends the object and frames it.
fn close_object(mut out: Scratch) -> Box<[u8]> {
    out.push(b'}');
    framed(encode::TEXT, &[&out])
}

fn control(opcode: u8, payload: &[u8]) -> Box<[u8]> {
    framed(opcode, &[payload.get(..CONTROL_BYTES_MAX).unwrap_or(payload)])
}

fn framed(opcode: u8, payload: &[&[u8]]) -> Box<[u8]> {
    encode::frame(opcode, payload).0
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::ids::{GroupId, ID_MAX, MsgId};
    use crate::store::Row;
    use crate::wire::Packet;

    fn user(raw: u64) -> UserId {
        UserId::new(raw).expect("a test's user")
    }

    fn stored(id: u64, seq: u64) -> Stored {
        Stored { id: MsgId::new(id).expect("a test's id"), seq: Seq::new(seq).expect("a test's seq") }
    }

    /// The payload, after checking that header and length are those of one whole frame of that
    /// opcode.
    fn payload(frame: &[u8], opcode: u8) -> &[u8] {
        assert_eq!(frame[0], 0x80 | opcode);
        let (length, header) = match frame[1] {
            126 => (u64::from(u16::from_be_bytes([frame[2], frame[3]])), 4),
            127 => (u64::from_be_bytes(frame[2..10].try_into().expect("eight bytes")), 10),
            short => (u64::from(short), 2),
        };
        assert_eq!(length, (frame.len() - header) as u64);
        &frame[header..]
    }

    fn text(frame: &[u8]) -> &str {
        std::str::from_utf8(payload(frame, 1)).expect("UTF-8")
    }

    #[test]
    fn acks() {
        let to = Target::User(user(2));
        assert_eq!(
            text(&ack(Some("a\"b"), to, Some(stored(9, 3)), 77, false)),
            r#"{"cmd":1,"cid":"a\"b","kind":10,"dstid":2,"id":9,"seq":3,"ts":77}"#
        );
        assert_eq!(
            text(&ack(None, to, Some(stored(9, 3)), 77, true)),
            r#"{"cmd":1,"kind":10,"dstid":2,"id":9,"seq":3,"ts":77,"dup":true}"#
        );
        assert_eq!(text(&ack(Some("x"), to, None, 77, false)), r#"{"cmd":1,"cid":"x","kind":10,"dstid":2,"ts":77}"#);
    }

    #[test]
    fn refusals_in_both_profiles() {
        assert_eq!(
            text(&refusal(Reject::Busy, Some("x"), Some(Target::User(user(2))))),
            r#"{"cmd":2,"cid":"x","kind":10,"dstid":2,"code":20,"msg":"busy, try again","retry":true}"#
        );
        assert_eq!(
            text(&refusal(Reject::Malformed, None, None)),
            r#"{"cmd":2,"code":1,"msg":"malformed command","retry":false}"#
        );
        assert_eq!(text(&legacy_refusal(Reject::Busy)), "refused: busy, try again");
        for reject in Reject::ALL {
            assert!(!text(&legacy_refusal(reject)).contains('}'), "{reject:?} would wake the old pages");
        }
    }

    #[test]
    fn heartbeat_and_welcome() {
        assert_eq!(text(&heartbeat(5)), r#"{"cmd":0,"ts":5}"#);
        assert_eq!(text(&welcome(Echo::None)), "welcome!");
        assert_eq!(text(&welcome(Echo::Groups)), "hello,world!");
    }

    #[test]
    fn typing_names_the_conversation_as_the_listener_does() {
        let conv = ConvId::direct(user(1), user(2));
        assert_eq!(text(&typing(user(1), conv, user(2))), r#"{"cmd":6,"kind":10,"dstid":1,"userid":1}"#);
        let conv = ConvId::Group(GroupId::new(4).expect("a test's group"));
        assert_eq!(text(&typing(user(1), conv, user(2))), r#"{"cmd":6,"kind":11,"dstid":4,"userid":1}"#);
    }

    #[test]
    fn the_list_says_the_newest_message_and_cuts_a_long_one() {
        let seq = |raw| Seq::new(raw).unwrap_or_default();
        let newest = |sender, body: &str, cut| Newest {
            id: MsgId::new(70).expect("small"),
            ts_ms: 9,
            sender,
            body: Arc::from(body),
            cut,
        };
        let state = |conv, newest| ConvState {
            conv,
            head: seq(3),
            ts_ms: 9,
            floor: seq(1),
            recv: seq(2),
            read: seq(1),
            unread: 2,
            newest,
        };
        let group = ConvId::Group(GroupId::new(4).expect("a test's group"));
        let convs = vec![
            state(ConvId::direct(user(1), user(2)), Some(newest(user(2), r#""media":1,"content":"hi""#, false))),
            state(group, Some(newest(user(1), r#""media":1,"content":"a long st"#, true))),
            state(ConvId::direct(user(1), user(3)), None),
        ];
        let row = r#""head":3,"ts":9,"recv":2,"read":1,"unread":2,"floor":1"#;
        assert_eq!(
            text(&ready(user(1), &Heads { convs, more: false, epoch: 1 })),
            format!(
                r#"{{"cmd":5,"convs":[{{"kind":10,"dstid":2,{row},"last":{{"id":70,"seq":3,"ts":9,"userid":2,"cmd":10,"dstid":1,"media":1,"content":"hi"}}}},{{"kind":11,"dstid":4,{row},"last":{{"id":70,"seq":3,"ts":9,"userid":1,"cmd":11,"dstid":4,"media":1,"content":"a long st"}},"cut":true}},{{"kind":10,"dstid":3,{row}}}],"more":false,"epoch":1}}"#
            )
        );
    }

    #[test]
    fn hints() {
        assert_eq!(text(&hint(Hint::Friends, 2)), r#"{"cmd":9,"what":"friends","id":2}"#);
        assert_eq!(text(&hint(Hint::Groups, 7)), r#"{"cmd":9,"what":"groups","id":7}"#);
        assert_eq!(text(&hint(Hint::Profile, 1)), r#"{"cmd":9,"what":"profile","id":1}"#);
    }

    #[test]
    fn presences() {
        assert_eq!(text(&presence(&[])), r#"{"cmd":7,"rows":[]}"#);
        assert_eq!(
            text(&presence(&[(user(1), true), (user(2), false)])),
            r#"{"cmd":7,"rows":[{"userid":1,"online":true},{"userid":2,"online":false}]}"#
        );
    }

    #[test]
    fn control_frames_stay_within_the_rfc() {
        assert_eq!(payload(&ping(b"abc"), 9), b"abc");
        assert_eq!(payload(&pong(&[7; 200]), 10), [7; 125]);
        assert_eq!(payload(&close(CloseCode::Normal), 8), 1000u16.to_be_bytes());
        assert_eq!(payload(&close(CloseCode::Replaced), 8), [&4502u16.to_be_bytes()[..], b"replaced"].concat());
        assert_eq!(payload(&close_echo(Some(1001)), 8), 1001u16.to_be_bytes());
        assert_eq!(payload(&close_echo(None), 8), b"");
        for code in CloseCode::ALL {
            assert!(payload(&close(code), 8).len() <= CONTROL_BYTES_MAX);
        }
    }

    #[test]
    fn an_empty_page_and_a_reset() {
        let page = Page { epoch: u64::MAX, ..Page::default() };
        let to = Target::Group(GroupId::new(4).expect("a test's group"));
        assert_eq!(
            text(&sync(to, user(1), &page, true)),
            r#"{"cmd":4,"kind":11,"dstid":4,"rows":[],"more":false,"floor":0,"head":0,"epoch":9007199254740991,"reset":true}"#
        );
    }

    proptest! {
        #[test]
        fn answers_are_what_serde_json_reads(cid in any::<Option<String>>(), dst in 1..=ID_MAX, ts in 0..=ID_MAX, dup in any::<bool>()) {
            let frame = ack(cid.as_deref(), Target::User(user(dst)), None, ts, dup);
            let mut model = json!({"cmd": 1, "kind": 10, "dstid": dst, "ts": ts});
            if let Some(cid) = &cid {
                model["cid"] = json!(cid);
            }
            if dup {
                model["dup"] = json!(true);
            }
            prop_assert_eq!(serde_json::from_str::<Value>(text(&frame)).ok(), Some(model));

            let frame = refusal(Reject::Retry, cid.as_deref(), None);
            let told = serde_json::from_str::<Value>(text(&frame)).unwrap_or_default();
            prop_assert_eq!(told.get("cid").and_then(Value::as_str), cid.as_deref());
        }

        #[test]
        fn rows_are_packets(
            bodies in prop::collection::vec((any::<String>(), any::<bool>()), 0..20),
            more in any::<bool>(), floor in 0..=ID_MAX, head in 0..=ID_MAX, epoch in 0..=ID_MAX,
        ) {
            let (me, peer) = (user(5), user(9));
            let rows: Vec<Row> = bodies.iter().zip(1..).map(|((content, mine), seq)| Row {
                seq: Seq::new(seq).unwrap_or_default(),
                id: MsgId::new(seq + 100).unwrap_or_else(|| unreachable!("small")),
                ts_ms: seq * 1000,
                sender: if *mine { me } else { peer },
                body: Arc::from(format!("\"content\":{}", json!(content))),
            }).collect();
            let page = Page {
                rows: rows.clone(), more, floor: Seq::new(floor).unwrap_or_default(), head: Seq::new(head).unwrap_or_default(), epoch,
            };
            let frame = sync(Target::User(peer), me, &page, false);
            let packets: Vec<Value> = rows.iter().map(|row| {
                let stored = Some(Stored { id: row.id, seq: row.seq });
                let packet = Packet::chat(ConvId::direct(me, peer), row.sender, stored, row.ts_ms, &row.body);
                assert!(text(&frame).contains(std::str::from_utf8(packet.json()).unwrap_or("?")), "byte for byte");
                serde_json::from_slice(packet.json()).unwrap_or_default()
            }).collect();
            let model = json!({
                "cmd": 4, "kind": 10, "dstid": 9, "rows": packets, "more": more, "floor": floor, "head": head, "epoch": epoch,
            });
            prop_assert_eq!(serde_json::from_str::<Value>(text(&frame)).ok(), Some(model));
        }
    }
}
