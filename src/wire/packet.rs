//! A message as it leaves the server: encoded and framed once, shared by all sessions that get it.
//!
//! Owns: [`Packet`], the only maker of a chat message's frame, and the one spelling of a chat
//! message's JSON.
//! Never: changes after it is made. The compressed frame is added lazily, once, behind a lock that
//! is only taken to make it.
//! Bounds: a body is a client's message ([`crate::limits::MESSAGE_BYTES_MAX`]); the server's fields
//! add less than 160 bytes.

use std::sync::OnceLock;

use super::encode::{self, Scratch};
use super::preview::Closed;
use super::recall;
use crate::ids::{ConvId, MsgId, Seq, UserId};
use crate::ws::deflate::Deflater;

/// What a stored message has and a volatile one has not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stored {
    /// Its number in the database.
    pub id: MsgId,
    /// Its place in the conversation.
    pub seq: Seq,
}

/// When a message passed two places on its way, in monotonic microseconds of this gateway's clock;
/// 0: it did not come by there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Milestones {
    /// The shard of its author has read it.
    pub said_us: u64,
    /// Its home knew that it may be handed on: that it is stored, or need not be, here or at
    /// another gateway.
    pub known_us: u64,
}

impl Milestones {
    /// Of a message that its home knows at `known_us`. A shard's turn may have begun before that of
    /// another in which the message was read, so that both are taken as the same time then.
    #[must_use]
    pub fn new(said_us: u64, known_us: u64) -> Self {
        Self { said_us, known_us: known_us.max(said_us) }
    }
}

/// One chat message: a complete unmasked, unfragmented WebSocket text frame.
#[derive(Debug)]
pub struct Packet {
    /// Header and JSON, contiguous.
    plain: Box<[u8]>,
    /// See [`Packet::deflated`]; made when it is first asked for. `None`: not worth it, the plain
    /// frame serves. Most packets are never asked, so the slot costs one pointer.
    deflated: OnceLock<Option<Box<Box<[u8]>>>>,
    /// Length of the frame header at the start of `plain`.
    header: u8,
    /// See [`Packet::is_hidden`].
    hidden: bool,
    /// See [`Packet::milestones`].
    milestones: Milestones,
}

const _: () = assert!(size_of::<Packet>() <= 56, "a packet is two fat words, a slot, two bytes and two times");

impl Packet {
    /// Encodes `{"id":…,"seq":…,"ts":…,"userid":…,"cmd":…,"dstid":…,BODY}` (`id` and `seq` only if
    /// stored) behind its frame header. `dstid` is the group, or the user of the pair that is not
    /// the sender (the sender, in notes to oneself).
    #[must_use]
    pub fn chat(conv: ConvId, sender: UserId, stored: Option<Stored>, ts_ms: u64, body: &str) -> Self {
        let mut head = encode::scratch();
        write_head(&mut head, conv, sender, stored, ts_ms, body);
        let (plain, header) = encode::frame(encode::TEXT, &[&head, body.as_bytes(), b"}"]);
        Self {
            plain,
            deflated: OnceLock::new(),
            header,
            hidden: recall::is_hidden(body),
            milestones: Milestones::default(),
        }
    }

    /// Frames what [`super::room::parse`] has made of a guest's words.
    #[must_use]
    pub fn room(json: &str) -> Self {
        let (plain, header) = encode::frame(encode::TEXT, &[json.as_bytes()]);
        Self { plain, deflated: OnceLock::new(), header, hidden: false, milestones: Milestones::default() }
    }

    /// The same message, which has passed there then.
    #[must_use]
    pub const fn passed(mut self, milestones: Milestones) -> Self {
        self.milestones = milestones;
        self
    }

    /// What is measured of its way, if anything is: of what was read from the store nothing is.
    #[must_use]
    pub const fn milestones(&self) -> Milestones {
        self.milestones
    }

    /// The whole frame, ready for a socket.
    #[must_use]
    pub fn frame(&self) -> &[u8] {
        &self.plain
    }

    /// The JSON inside, for rows of a sync answer and for tests.
    #[must_use]
    pub fn json(&self) -> &[u8] {
        self.plain.get(usize::from(self.header)..).unwrap_or_default()
    }

    /// Whether it is for sessions of our own protocol only ([`recall::is_hidden`]): a legacy
    /// session counts it, and is not sent it.
    #[must_use]
    pub const fn is_hidden(&self) -> bool {
        self.hidden
    }

    /// The whole frame, compressed for sessions that agreed upon it ([`Self::deflate`]). `None`: it
    /// was not asked for yet, or the plain one is as good.
    #[must_use]
    pub fn deflated(&self) -> Option<&[u8]> {
        self.deflated.get()?.as_deref().map(|frame| &**frame)
    }

    /// The same, made now if it was not. Two threads may make it at the same time, because neither
    /// waits for the other; one of the two is kept.
    pub fn deflate(&self, deflater: &mut Deflater) -> Option<&[u8]> {
        if !deflater.takes(self.json().len()) {
            return None;
        }
        if self.deflated.get().is_none() {
            // Fails if the other was faster.
            let _ = self.deflated.set(deflater.frame(encode::TEXT, self.json()).map(Box::new));
        }
        self.deflated()
    }
}

/// Appends the JSON of a chat message: what [`Packet::chat`] puts into its frame, also for the rows
/// of a sync answer.
pub(super) fn write_chat(
    out: &mut Scratch,
    conv: ConvId,
    sender: UserId,
    stored: Option<Stored>,
    ts_ms: u64,
    body: &str,
) {
    write_chat_cut(out, conv, sender, stored, ts_ms, Closed { fields: body, in_text: false });
}

/// As [`write_chat`], of a message of which only the beginning is there.
pub(super) fn write_chat_cut(
    out: &mut Scratch,
    conv: ConvId,
    sender: UserId,
    stored: Option<Stored>,
    ts_ms: u64,
    body: Closed<'_>,
) {
    write_head(out, conv, sender, stored, ts_ms, body.fields);
    out.extend_from_slice(body.fields.as_bytes());
    out.extend_from_slice(if body.in_text { "\"}" } else { "}" }.as_bytes());
}

/// The server's fields, up to where the body begins.
fn write_head(out: &mut Scratch, conv: ConvId, sender: UserId, stored: Option<Stored>, ts_ms: u64, body: &str) {
    out.push(b'{');
    if let Some(Stored { id, seq }) = stored {
        encode::number_field(out, "id", id.get());
        encode::number_field(out, "seq", seq.get());
    }
    encode::number_field(out, "ts", ts_ms);
    encode::number_field(out, "userid", sender.get());
    encode::number_field(out, "cmd", conv.kind() as u64);
    encode::number_field(out, "dstid", conv.dstid_for(sender));
    if !body.is_empty() {
        out.push(b',');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::ids::{GroupId, ID_MAX};

    fn user(raw: u64) -> UserId {
        UserId::new(raw).expect("a test's user")
    }

    fn stored(id: u64, seq: u64) -> Stored {
        Stored { id: MsgId::new(id).expect("a test's id"), seq: Seq::new(seq).expect("a test's seq") }
    }

    fn text(packet: &Packet) -> &str {
        std::str::from_utf8(packet.json()).expect("JSON is UTF-8")
    }

    #[test]
    fn the_fields_stand_in_their_order() {
        let conv = ConvId::direct(user(7), user(3));
        let packet = Packet::chat(conv, user(7), Some(stored(90, 4)), 1_700_000_000_000, r#""media":1,"content":"hi""#);
        assert_eq!(
            text(&packet),
            r#"{"id":90,"seq":4,"ts":1700000000000,"userid":7,"cmd":10,"dstid":3,"media":1,"content":"hi"}"#
        );
        assert_eq!(packet.frame()[..2], [0x81, packet.json().len() as u8]);
        assert_eq!(&packet.frame()[2..], packet.json());
    }

    #[test]
    fn dstid_is_the_group_or_the_other_user_or_oneself() {
        let dstid = |conv, sender| {
            let packet = Packet::chat(conv, sender, None, 5, "");
            serde_json::from_slice::<Value>(packet.json()).expect("JSON")["dstid"].clone()
        };
        assert_eq!(dstid(ConvId::direct(user(3), user(7)), user(3)), json!(7));
        assert_eq!(dstid(ConvId::direct(user(3), user(7)), user(7)), json!(3));
        assert_eq!(dstid(ConvId::direct(user(3), user(3)), user(3)), json!(3));
        let group = ConvId::Group(GroupId::new(40).expect("a test's group"));
        assert_eq!(dstid(group, user(3)), json!(40));
    }

    #[test]
    fn an_empty_body_and_a_volatile_message() {
        let group = ConvId::Group(GroupId::new(40).expect("a test's group"));
        assert_eq!(text(&Packet::chat(group, user(3), None, 5, "")), r#"{"ts":5,"userid":3,"cmd":11,"dstid":40}"#);
    }

    #[test]
    fn the_longest_head_needs_no_second_allocation() {
        let mut out = encode::scratch();
        let conv = ConvId::direct(user(ID_MAX), user(ID_MAX - 1));
        write_head(&mut out, conv, user(ID_MAX), Some(stored(ID_MAX, ID_MAX)), ID_MAX, "x");
        assert!(out.len() < 160 && out.capacity() == encode::SCRATCH_BYTES, "{}", out.len());
    }

    proptest! {
        #[test]
        fn what_serde_json_reads_is_what_was_said(
            content in any::<String>(), id in 1..=ID_MAX, seq in 1..=ID_MAX, ts in 0..=ID_MAX,
            a in 1..=ID_MAX, b in 1..=ID_MAX, volatile in any::<bool>(), pad in 0..70_000usize,
        ) {
            let content = content + &"x".repeat(if pad % 7 == 0 { pad } else { 0 });
            let body = format!("\"content\":{}", json!(content));
            let stored = (!volatile).then(|| stored(id, seq));
            let packet = Packet::chat(ConvId::direct(user(a), user(b)), user(a), stored, ts, &body);
            let mut model = json!({"ts": ts, "userid": a, "cmd": 10, "dstid": b, "content": content});
            if !volatile {
                model["id"] = json!(id);
                model["seq"] = json!(seq);
            }
            prop_assert_eq!(&serde_json::from_slice::<Value>(packet.json()).ok(), &Some(model));
            prop_assert_eq!(packet.frame().len() - packet.json().len(), usize::from(packet.header));
        }
    }
}
