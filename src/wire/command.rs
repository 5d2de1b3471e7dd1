//! What clients say: bytes of one message in, one [`Command`] out.
//!
//! Owns: the parser and its reusable buffers ([`Parser`], one per shard).
//! Never: judges; whether the sender may is the shard's and the store's business. Never panics on
//! input (fuzzed).
//! Bounds: a message of [`MESSAGE_BYTES_MAX`], nested at most [`JSON_DEPTH_MAX`] deep; time linear
//! in its length.

use std::sync::Arc;

use simd_json::{Buffers, INPUT_PADDING, Node, Tape, fill_tape_padded};

use super::encode;
use super::fields::{Name, Spans};
use super::{Profile, Reject};
use crate::ids::{ConvId, GroupId, ID_MAX, Kind, Seq, UserId};
use crate::limits::{CID_BYTES_MAX, JSON_DEPTH_MAX, MESSAGE_BYTES_MAX, SYNC_ROWS_MAX, WATCH_USERS_MAX};
use crate::store::PageStart;

/// `media` of a picture: the one message whose missing `url` freezes the old pages for good.
const MEDIA_PICTURE: i64 = 4;

/// One command of a client.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    /// `cmd` 0, also an absent `cmd`: a sign of life. v2 sessions get an answer, legacy ones none.
    Heartbeat,
    /// `cmd` 10 or 11.
    Post(Post),
    /// `cmd` 4: read a conversation.
    Sync(SyncRequest),
    /// `cmd` 3: how far the user has received and read a conversation.
    Cursor(Cursor),
    /// `cmd` 5: a page of the user's conversations.
    Convs(Convs),
    /// `cmd` 6: the user is typing in a conversation.
    Typing(Target),
    /// `cmd` 7: the users whose presence the session wants to know from now on, in ascending order,
    /// at most [`WATCH_USERS_MAX`].
    Watch(Box<[UserId]>),
    /// `cmd` 8: take one's own message back.
    Recall(RecallCommand),
    /// A guest's words to the room: the JSON as all there get it, from [`super::room::parse`].
    Say(Arc<str>),
}

/// A chat message as its author sent it.
#[derive(Clone, PartialEq, Debug)]
pub struct Post {
    /// The recipient.
    pub to: Target,
    /// The client's id for it: 1 to [`crate::limits::CID_BYTES_MAX`] bytes.
    pub cid: Option<Box<str>>,
    /// The surviving JSON fields in the client's order, `cid` included, without braces: see
    /// [`crate::store::NewMessage::body`]. Every occurrence of a server-owned or parsed key (`id`,
    /// `seq`, `ts`, `userid`, `cmd`, `dstid`, `kind`, `dup`, `recall`, `recalled`, `happened`; and
    /// all but the effective `cid`), compared case-insensitively after unescaping, is dropped.
    pub body: Arc<str>,
}

/// The addressee of a command: a user (`kind` 10) or a group (`kind` 11).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// The other user of a direct conversation.
    User(UserId),
    /// A group.
    Group(GroupId),
}

impl Target {
    /// The conversation that `user` means by it.
    #[must_use]
    pub fn conv(self, user: UserId) -> ConvId {
        match self {
            Self::User(other) => ConvId::direct(user, other),
            Self::Group(group) => ConvId::Group(group),
        }
    }

    /// `cmd` and `kind` on the wire.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::User(_) => Kind::Direct,
            Self::Group(_) => Kind::Group,
        }
    }

    /// `dstid` on the wire.
    #[must_use]
    pub const fn dstid(self) -> u64 {
        match self {
            Self::User(user) => user.get(),
            Self::Group(group) => group.get(),
        }
    }
}

/// `cmd` 4.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SyncRequest {
    /// Which conversation.
    pub of: Target,
    /// Where from.
    pub from: PageStart,
    /// At most so many rows: 1 to [`crate::limits::SYNC_ROWS_MAX`]; larger wishes are cut, absent
    /// means the maximum.
    pub limit: u32,
}

/// `cmd` 3.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Cursor {
    /// Which conversation.
    pub of: Target,
    /// Received up to; what is read is received, too.
    pub recv: Seq,
    /// Read up to; zero if only `recv` is said.
    pub read: Seq,
}

/// `cmd` 5, the request.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Convs {
    /// The last conversation of the page before, and its `ts`; `None`: the first page.
    pub before: Option<(u64, Target)>,
}

/// `cmd` 8.
#[derive(Clone, PartialEq, Debug)]
pub struct RecallCommand {
    /// Which conversation.
    pub of: Target,
    /// The message in it that is to be taken back.
    pub seq: Seq,
    /// The client's id for the message that says so, as in [`Post::cid`].
    pub cid: Option<Box<str>>,
}

/// A command that cannot be obeyed, with what is needed to tell its sender.
#[derive(Clone, PartialEq, Debug)]
pub struct RefusedCommand {
    /// Why.
    pub reject: Reject,
    /// The client's id, if it could be read.
    pub cid: Option<Box<str>>,
}

/// The parser's buffers; one per shard, reused for every message.
pub struct Parser {
    /// The message and simd-json's padding behind it: simd-json unescapes in place.
    scratch: Vec<u8>,
    /// simd-json's own.
    buffers: Buffers,
    /// The parsed message. Away while a message is parsed; if that panics (the driver catches it),
    /// a new one is made.
    tape: Option<Tape<'static>>,
    /// The surviving fields, except `cid`, before they become a [`Post::body`].
    body: String,
}

impl Default for Parser {
    fn default() -> Self {
        Self {
            scratch: Vec::new(),
            buffers: Buffers::with_max_depth(0, JSON_DEPTH_MAX),
            tape: None,
            body: String::new(),
        }
    }
}

impl Parser {
    /// Reads one message. `message` is the unmasked payload of one WebSocket message (text or
    /// binary; bytes are checked to be UTF-8 here). Key names match case-insensitively; the last
    /// occurrence of a key wins, `null` counts as absent, and every occurrence must be of the right
    /// type, as in Go. `profile` decides nothing about the syntax but which commands exist: legacy
    /// sessions know 0, 10 and 11; and that an unusable `cid` of a legacy session counts as none.
    ///
    /// # Errors
    /// [`RefusedCommand`] says why and for which `cid`.
    pub fn parse(&mut self, message: &[u8], profile: Profile) -> Result<Command, RefusedCommand> {
        let malformed = RefusedCommand { reject: Reject::Malformed, cid: None };
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(malformed);
        }
        let Ok(text) = simdutf8::basic::from_utf8(message) else { return Err(malformed) };
        self.scratch.clear();
        self.scratch.extend_from_slice(message);
        self.scratch.resize(message.len() + INPUT_PADDING, 0);
        let mut tape = self.tape.take().unwrap_or_else(Tape::null).reset();
        let read = match fill_tape_padded(&mut self.scratch, message.len(), &mut self.buffers, &mut tape) {
            Ok(()) => match Draft::read(text, &tape.0, &mut self.body) {
                Some(draft) => draft.into_command(profile, &mut self.body),
                None => Err(malformed),
            },
            Err(_) => Err(malformed),
        };
        self.tape = Some(tape.reset());
        read
    }
}

/// The client's id for a message, as it stands there.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Cid<'t> {
    #[default]
    Absent,
    /// No string, empty, or longer than [`CID_BYTES_MAX`].
    Unusable,
    Usable(&'t str),
}

impl<'t> Cid<'t> {
    fn usable(self) -> Option<&'t str> {
        match self {
            Self::Usable(cid) => Some(cid),
            Self::Absent | Self::Unusable => None,
        }
    }
}

/// What one pass over the fields has found. Faults are noted, not returned, so that a `cid` behind
/// them is still read.
#[derive(Default)]
struct Draft<'t> {
    cmd: i64,
    dstid: Option<i64>,
    cid: Cid<'t>,
    /// Where in the body the effective `cid` stood.
    cid_at: usize,
    /// Fields of `cmd` 4 and 5, spelled as the client did: in a post, `after` and its like are
    /// fields that mean nothing to us.
    kind: Option<&'t str>,
    after: Option<&'t str>,
    before: Option<&'t str>,
    limit: Option<&'t str>,
    /// Fields of `cmd` 3, likewise.
    recv: Option<&'t str>,
    read: Option<&'t str>,
    /// The field of `cmd` 7, likewise.
    users: Option<&'t str>,
    /// The field of `cmd` 8, which no message keeps.
    seq: Option<&'t str>,
    /// A field that every command has is of the wrong type.
    malformed: bool,
    /// A field that pages show is of the wrong type.
    bad_media: bool,
    /// Some `media` says picture. Any of them, since Go takes the last one in any case and
    /// JavaScript the last in lower case.
    picture: bool,
    /// There is a `url` in exactly this spelling.
    url: bool,
    /// Some `url`, in any case, is empty or null.
    url_void: bool,
}

impl<'t> Draft<'t> {
    /// Reads the fields of `text`, which simd-json has parsed into `tape`, and leaves those that
    /// survive in `body`. `None`: not an object.
    fn read(text: &'t str, tape: &[Node<'t>], body: &mut String) -> Option<Self> {
        let (&Node::Object { len, .. }, mut nodes) = tape.split_first()? else { return None };
        body.clear();
        let mut draft = Self::default();
        let mut spans = Spans::of(text);
        for _ in 0..len {
            let (&Node::String(key), rest) = nodes.split_first()? else { return None };
            let value = rest.first()?;
            let (raw_key, raw) = spans.next()?;
            nodes = rest.get(nodes_in(value)..)?;
            if draft.take(Name::of(key), value, raw, body.len()) {
                if !body.is_empty() {
                    body.push(',');
                }
                body.push_str(raw_key);
                body.push(':');
                body.push_str(raw);
            }
        }
        Some(draft)
    }

    /// Notes one field; true if it survives into the body.
    fn take(&mut self, name: Name, value: &Node<'t>, raw: &'t str, body_len: usize) -> bool {
        let null = raw == "null";
        match name {
            Name::Owned => false,
            Name::Cmd => {
                self.cmd = self.integer(raw).unwrap_or(self.cmd);
                false
            }
            Name::Dstid => {
                self.dstid = self.integer(raw).or(self.dstid);
                false
            }
            Name::Kind => {
                self.kind = if null { self.kind } else { Some(raw) };
                false
            }
            Name::Cid => {
                if !null {
                    self.cid = match value {
                        Node::String(cid) if (1..=CID_BYTES_MAX).contains(&cid.len()) => Cid::Usable(cid),
                        _ => Cid::Unusable,
                    };
                    self.cid_at = body_len;
                }
                false
            }
            Name::Media => {
                let media = self.integer(raw).unwrap_or_default();
                self.picture |= media == MEDIA_PICTURE;
                self.bad_media |= media.unsigned_abs() > ID_MAX;
                true
            }
            Name::Url { exact } => {
                match value {
                    Node::String("") => self.url_void = true,
                    Node::String(_) => self.url |= exact,
                    _ if null => self.url_void = true,
                    _ => self.bad_media = true,
                }
                true
            }
            Name::Text => {
                self.bad_media |= !null && !matches!(value, Node::String(_));
                true
            }
            Name::Amount => {
                self.bad_media |= !null && !raw.starts_with(|c: char| c == '-' || c.is_ascii_digit());
                true
            }
            Name::After => keep(&mut self.after, raw),
            Name::Before => keep(&mut self.before, raw),
            Name::Limit => keep(&mut self.limit, raw),
            Name::Recv => keep(&mut self.recv, raw),
            Name::Read => keep(&mut self.read, raw),
            Name::Users => keep(&mut self.users, raw),
            Name::Seq => {
                keep(&mut self.seq, raw);
                false
            }
            Name::Other => true,
        }
    }

    /// The integer that `raw` is; a fault is noted for anything else but null.
    fn integer(&mut self, raw: &str) -> Option<i64> {
        let read = integer(raw);
        self.malformed |= read.is_none() && raw != "null";
        read
    }

    /// What the fields ask for. `body` is what [`Self::read`] left.
    fn into_command(self, profile: Profile, body: &mut String) -> Result<Command, RefusedCommand> {
        let command = if self.malformed {
            Err(Reject::Malformed)
        } else {
            match (self.cmd, profile) {
                (0, _) => Ok(Command::Heartbeat),
                (10, _) => self.post(Kind::Direct, profile, body).map(Command::Post),
                (11, _) => self.post(Kind::Group, profile, body).map(Command::Post),
                (4, Profile::V2) => self.sync().map(Command::Sync),
                (3, Profile::V2) => self.cursor().map(Command::Cursor),
                (5, Profile::V2) => self.convs().map(Command::Convs),
                (6, Profile::V2) => self.kind().and_then(|kind| self.target(kind)).map(Command::Typing),
                (7, Profile::V2) => self.watch().map(Command::Watch),
                (8, Profile::V2) => self.recall().map(Command::Recall),
                _ => Err(Reject::UnknownCommand),
            }
        };
        command.map_err(|reject| RefusedCommand { reject, cid: self.cid.usable().map(Box::from) })
    }

    fn post(&self, kind: Kind, profile: Profile, body: &mut String) -> Result<Post, Reject> {
        if self.cid == Cid::Unusable && profile == Profile::V2 {
            return Err(Reject::BadField);
        }
        let to = self.target(kind)?;
        if self.bad_media || (self.picture && (!self.url || self.url_void)) {
            return Err(Reject::BadMedia);
        }
        let cid = self.cid.usable();
        if let Some(cid) = cid {
            insert_cid(body, self.cid_at, cid);
        }
        Ok(Post { to, cid: cid.map(Box::from), body: Arc::from(body.as_str()) })
    }

    fn sync(&self) -> Result<SyncRequest, Reject> {
        let kind = self.kind()?;
        let from = match (number(self.after)?, number(self.before)?) {
            (Some(after), None) => PageStart::After(seq(after)?),
            (None, Some(before)) => PageStart::Before(seq(before)?),
            (None, None) => PageStart::Before(seq(ID_MAX.cast_signed())?),
            (Some(_), Some(_)) => return Err(Reject::BadField),
        };
        let limit = match number(self.limit)? {
            None => SYNC_ROWS_MAX,
            Some(rows) if rows >= 1 => u32::try_from(rows).unwrap_or(SYNC_ROWS_MAX).min(SYNC_ROWS_MAX),
            Some(_) => return Err(Reject::BadField),
        };
        Ok(SyncRequest { of: self.target(kind)?, from, limit })
    }

    fn cursor(&self) -> Result<Cursor, Reject> {
        let of = self.target(self.kind()?)?;
        let read = number(self.read)?.map(seq).transpose()?;
        let recv = number(self.recv)?.map(seq).transpose()?;
        match recv.max(read) {
            Some(recv) => Ok(Cursor { of, recv, read: read.unwrap_or_default() }),
            None => Err(Reject::BadField),
        }
    }

    fn convs(&self) -> Result<Convs, Reject> {
        let Some(ts_ms) = number(self.before)? else { return Ok(Convs { before: None }) };
        let ts_ms = u64::try_from(ts_ms).ok().filter(|&ts| ts <= ID_MAX).ok_or(Reject::BadField)?;
        Ok(Convs { before: Some((ts_ms, self.target(self.kind()?)?)) })
    }

    fn watch(&self) -> Result<Box<[UserId]>, Reject> {
        let users = self.users.ok_or(Reject::BadField)?;
        let users = users.strip_prefix('[').and_then(|users| users.strip_suffix(']')).ok_or(Reject::Malformed)?;
        let mut list = Vec::new();
        // Only arrays of integers have no comma but those between their elements; of others some
        // piece is no integer.
        for raw in
            users.split(',').map(|raw| raw.trim_matches([' ', '\t', '\n', '\r'])).filter(|_| !users.trim().is_empty())
        {
            let user = u64::try_from(integer(raw).ok_or(Reject::Malformed)?).ok().and_then(UserId::new);
            if list.len() == WATCH_USERS_MAX {
                return Err(Reject::BadField);
            }
            list.push(user.ok_or(Reject::BadField)?);
        }
        list.sort_unstable();
        list.dedup();
        Ok(list.into_boxed_slice())
    }

    fn recall(&self) -> Result<RecallCommand, Reject> {
        if self.cid == Cid::Unusable {
            return Err(Reject::BadField);
        }
        let of = self.target(self.kind()?)?;
        let seq = number(self.seq)?.map(seq).transpose()?.filter(|&seq| seq > Seq::ZERO).ok_or(Reject::BadField)?;
        Ok(RecallCommand { of, seq, cid: self.cid.usable().map(Box::from) })
    }

    fn kind(&self) -> Result<Kind, Reject> {
        match number(self.kind)? {
            Some(10) => Ok(Kind::Direct),
            Some(11) => Ok(Kind::Group),
            _ => Err(Reject::BadField),
        }
    }

    fn target(&self, kind: Kind) -> Result<Target, Reject> {
        let dstid = self.dstid.and_then(|dstid| u64::try_from(dstid).ok()).ok_or(Reject::BadField)?;
        match kind {
            Kind::Direct => UserId::new(dstid).map(Target::User),
            Kind::Group => GroupId::new(dstid).map(Target::Group),
        }
        .ok_or(Reject::BadField)
    }
}

/// The integer of a field that is there; not being one is a fault.
fn number(raw: Option<&str>) -> Result<Option<i64>, Reject> {
    raw.map(|raw| integer(raw).ok_or(Reject::Malformed)).transpose()
}

/// The sequence number that an integer is.
fn seq(raw: i64) -> Result<Seq, Reject> {
    u64::try_from(raw).ok().and_then(Seq::new).ok_or(Reject::BadField)
}

/// Remembers a field of `cmd` 3, 4, 5 or 7. It stays in the body, because in a post it is the
/// client's own.
fn keep<'t>(slot: &mut Option<&'t str>, raw: &'t str) -> bool {
    if raw != "null" {
        *slot = Some(raw);
    }
    true
}

/// The nodes that a value takes on the tape.
fn nodes_in(value: &Node<'_>) -> usize {
    match value {
        Node::Object { count, .. } | Node::Array { count, .. } => count + 1,
        Node::String(_) | Node::Static(_) => 1,
    }
}

/// The integer that a JSON value is. `10.0` and `1e1` are none, as in Go. What an `i64` cannot hold
/// becomes its end, which is out of every range of ours.
fn integer(raw: &str) -> Option<i64> {
    let digits = raw.strip_prefix('-').unwrap_or(raw);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(raw.parse().unwrap_or(if digits.len() < raw.len() { i64::MIN } else { i64::MAX }))
}

/// Puts `"cid":"…"` into `body` at `at`, where a field begins or the body ends.
fn insert_cid(body: &mut String, at: usize, cid: &str) {
    let mut field = String::with_capacity(cid.len() + 10);
    if at > 0 {
        field.push(',');
    }
    field.push_str("\"cid\":");
    encode::escaped_string(cid, |piece| field.push_str(piece));
    if at == 0 && !body.is_empty() {
        field.push(',');
    }
    // `at` was the body's length once, and only whole fields have been added since: it is a
    // boundary of characters.
    debug_assert!(body.is_char_boundary(at), "the body only grows by whole fields");
    if body.is_char_boundary(at) {
        body.insert_str(at, &field);
    }
}

#[cfg(test)]
mod tests;
