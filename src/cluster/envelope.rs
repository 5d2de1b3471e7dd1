//! What gateways say to each other, as bytes.
//!
//! Owns: the form of an envelope: `IMGB`, a version, whether it is for one gateway (1) or all (0),
//! the sender's node, that one gateway, the sender's boot and count, when it was sent, the epoch of
//! the sender's database, a tag, then items of kind, length and payload. Numbers are little-endian.
//! The tag is the first 16 bytes of HMAC-SHA256 (RFC 2104, section 5 allows to cut it) over
//! everything else: access to the bus is not access to chat.
//! Never: panics, whatever the bytes are, and never trusts a length that it has not looked at.
//! Bounds: [`ENVELOPE_BYTES_MAX`]. Items of unknown kinds are skipped and counted, so that a newer
//! gateway may say more.

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::ids::{ConvId, GroupId, MsgId, Seq, UserId};
use crate::limits::{
    DIGEST_HEADS_MAX, ENVELOPE_BYTES_MAX, ENVELOPE_FILL_BYTES, MESSAGE_BYTES_MAX, NOT_HERE_PIECE, PRESENCE_PIECE,
    SESSIONS_PER_USER_MAX,
};
use crate::shard::{FarDevice, FarRow, FarSaid, FarWord};
use crate::store::{RecentConv, Row};
use crate::wire::{Device, Hint};

const MAGIC: [u8; 4] = *b"IMGB";
const VERSION: u8 = 2;
const TAG_BYTES: usize = 16;
/// Magic, version, for one or for all, node, that one, boot, count, time, epoch.
const HEAD_BYTES: usize = 4 + 1 + 1 + 2 + 2 + 8 + 8 + 8 + 8;
/// Kind and length.
const ITEM_HEAD_BYTES: usize = 1 + 4;
/// Of a digest, before its conversations: from, to, piece, last.
const DIGEST_START_BYTES: usize = 8 + 8 + 2 + 1;
/// A conversation in a digest: kind and two numbers, the lowest and the newest.
const DIGEST_HEAD_BYTES: usize = 1 + 8 + 8 + 8 + 8;
const _: () = assert!(
    HEAD_BYTES + TAG_BYTES + ITEM_HEAD_BYTES + DIGEST_START_BYTES + DIGEST_HEADS_MAX * DIGEST_HEAD_BYTES
        <= ENVELOPE_BYTES_MAX,
    "a digest fits an envelope"
);
/// A body of the store: what a client may send, with what the server adds.
const BODY_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX;
/// Of a message that is kept nowhere, before its body: for whom, conversation, author, time.
const SAID_START_BYTES: usize = 1 + 17 + 8 + 8;
/// A body of that: a guest's message has each character by number at the worst.
const SAID_BODY_BYTES_MAX: usize = 6 * MESSAGE_BYTES_MAX + 64;
const _: () = assert!(
    HEAD_BYTES + TAG_BYTES + ENVELOPE_FILL_BYTES + ITEM_HEAD_BYTES + SAID_START_BYTES + SAID_BODY_BYTES_MAX
        <= ENVELOPE_BYTES_MAX,
    "the longest message of a guest fits an envelope that is nearly full"
);

const ROW: u8 = 1;
const DIGEST: u8 = 2;
const HELLO: u8 = 3;
const BYE: u8 = 4;
const START: u8 = 5;
const TAKEN: u8 = 6;
const CURSOR: u8 = 7;
const TYPING: u8 = 8;
const HINT: u8 = 9;
const GROUP_HINT: u8 = 10;
const PRESENCE: u8 = 11;
const LISTED: u8 = 12;
const WHO_IS_THERE: u8 = 13;
const CHANGED: u8 = 14;
const DEVICES: u8 = 15;
const SAID: u8 = 16;
const DISCONNECT: u8 = 17;
const MEMBERS_HERE: u8 = 18;
const NOT_HERE: u8 = 19;
/// A session in it: class, tag, time, id.
const DEVICE_BYTES: usize = 1 + 4 + 8 + 8;

/// In a change of presence: the user has come. Ids are smaller.
const COMES: u64 = 1 << 63;

/// The largest word: a cursor.
const WORD_BYTES_MAX: usize = 8 + 17 + 8 + 8;

/// Hints by the number that says them.
const HINTS: [Hint; 3] = [Hint::Friends, Hint::Groups, Hint::Profile];

/// The gateway that speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct From {
    /// The number among the gateways of the database.
    pub node: u16,
    /// Random for each start of the process.
    pub boot: u64,
    /// Counts the envelopes of a boot, from 1.
    pub count: u64,
    /// Wall time in Unix milliseconds.
    pub sent_ms: u64,
    /// The epoch of the database.
    pub epoch: u64,
}

/// For whom an envelope is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum To {
    /// All gateways.
    All,
    /// The gateway of that number.
    Node(u16),
}

/// A part of what the database has got lately.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Digest {
    /// From that second of the database's clock,
    pub from_s: u64,
    /// to that one.
    pub to_s: u64,
    /// Which part, from 0.
    pub piece: u16,
    /// The last one.
    pub last: bool,
    /// Conversations.
    pub heads: Vec<RecentConv>,
}

/// A part of the list of users on a gateway.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Of the users with a greater id than this one,
    pub after: u64,
    /// up to that one,
    pub upto: u64,
    /// when so many changes had been said,
    pub number: u64,
    /// these are there, and no others.
    pub users: Vec<UserId>,
}

/// One thing that a gateway says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// A message was stored. Lost: the next one or the digest reveals it.
    Row(Box<FarRow>),
    /// What was stored lately. Lost: whoever lacks it asks the database.
    Digest(Digest),
    /// Something that may be lost.
    Word(FarWord),
    /// A message that is kept nowhere. Lost: for good.
    Said(Box<FarSaid>),
    /// Users have come or gone here: change number `number`; without any, so many changes there
    /// were. Lost: the next one has another number than was expected, and the list is asked for.
    Presence { number: u64, rows: Vec<(UserId, bool)> },
    /// First members of these groups have come here; none named: of any group. Counted as changes
    /// of presence are. Lost: as there, and what is said in any group goes here until then.
    MembersHere { number: u64, groups: Vec<GroupId> },
    /// No member of these groups is here, when so many changes have been said. Lost: what is said
    /// in them goes on coming here, and is answered again.
    NotHere { number: u64, groups: Vec<GroupId> },
    /// A part of the list of users here. Lost: the list is asked for again.
    Listed(Listed),
    /// What other gateways follow in the database has changed: log-outs, bans, memberships, blocks.
    /// Lost: they look every few seconds anyway.
    Changed,
    /// `node` is to tell its list. Lost: it is asked for again.
    WhoIsThere { node: u16 },
    /// I begin: is my number another's already? Lost: two gateways have the same number, which is
    /// counted.
    Start,
    /// The number of the gateway that began as `boot` is mine. Lost: as above.
    Taken { boot: u64 },
    /// I am here. Lost: the next one a second later.
    Hello,
    /// I stop. Lost: silence says it.
    Bye,
}

/// What was heard of one gateway at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// Of whom.
    pub from: From,
    /// For whom.
    pub to: To,
    /// What.
    pub items: Vec<Item>,
    /// Items of kinds that this version does not know.
    pub unknown: u32,
}

/// Why bytes are no envelope of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bad {
    /// Not of this form.
    Damaged,
    /// Of another version.
    Version,
    /// Not made with our key.
    Tag,
}

/// The key of a cluster.
#[derive(Clone)]
pub struct BusKey {
    own: Hmac<Sha256>,
    /// What this one has sealed is read, too.
    fallback: Option<Hmac<Sha256>>,
}

impl BusKey {
    /// From a secret that every gateway has, and a second one by which some may still, or already,
    /// seal while secrets are replaced; `cluster` is the name of the cluster.
    #[must_use]
    pub fn new((secret, fallback): (&[u8; 32], Option<&[u8; 32]>), cluster: &str) -> Self {
        let of = |secret: &[u8; 32]| {
            let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
            block[..secret.len()].copy_from_slice(secret);
            <Hmac<Sha256> as KeyInit>::new(&block).chain_update(cluster.as_bytes()).chain_update([0])
        };
        Self { own: of(secret), fallback: fallback.map(of) }
    }

    fn tag(&self, head: &[u8], items: &[u8]) -> [u8; 32] {
        self.own.clone().chain_update(head).chain_update(items).finalize().into_bytes().into()
    }

    /// Whether the tag is right, in a time that does not depend on where it is wrong.
    fn is_right(&self, head: &[u8], tag: &[u8], items: &[u8]) -> bool {
        let is_of =
            |key: &Hmac<Sha256>| key.clone().chain_update(head).chain_update(items).verify_truncated_left(tag).is_ok();
        is_of(&self.own) || self.fallback.as_ref().is_some_and(is_of)
    }
}

/// How long an item is as bytes, about.
#[must_use]
pub fn size(item: &Item) -> usize {
    ITEM_HEAD_BYTES
        + match item {
            Item::Row(far) => 17 + 40 + 9 + far.row.body.len(),
            Item::Digest(digest) => DIGEST_START_BYTES + digest.heads.len() * DIGEST_HEAD_BYTES,
            Item::Word(FarWord::Devices { list, .. }) => 11 + DEVICE_BYTES * list.len(),
            Item::Word(_) => WORD_BYTES_MAX,
            Item::Said(said) => SAID_START_BYTES + said.body.len(),
            Item::Presence { rows, .. } => 8 + 8 * rows.len(),
            Item::Listed(listed) => 24 + 8 * listed.users.len(),
            Item::MembersHere { groups, .. } | Item::NotHere { groups, .. } => 8 + 8 * groups.len(),
            Item::WhoIsThere { .. } => 2,
            Item::Taken { .. } => 8,
            Item::Hello | Item::Bye | Item::Start | Item::Changed => 0,
        }
}

/// The bytes of an envelope.
#[must_use]
pub fn encode(key: &BusKey, from: &From, to: To, items: &[Item]) -> Vec<u8> {
    let size: usize = items.iter().map(size).sum();
    let mut bytes = Vec::with_capacity(HEAD_BYTES + TAG_BYTES + size);
    put_head(&mut bytes, from, to);
    for item in items {
        put_item(&mut bytes, item);
    }
    put_tag(key, &mut bytes);
    bytes
}

/// The bytes of an envelope around items that are bytes already, whatever they say.
#[must_use]
pub fn seal(key: &BusKey, from: &From, to: To, items: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + TAG_BYTES + items.len());
    put_head(&mut bytes, from, to);
    bytes.extend_from_slice(items);
    put_tag(key, &mut bytes);
    bytes
}

/// What stands before the items, with room for the tag.
fn put_head(bytes: &mut Vec<u8>, from: &From, to: To) {
    bytes.extend_from_slice(&MAGIC);
    let (one, node) = match to {
        To::All => (0, 0),
        To::Node(node) => (1, node),
    };
    bytes.extend_from_slice(&[VERSION, one]);
    bytes.extend_from_slice(&from.node.to_le_bytes());
    bytes.extend_from_slice(&node.to_le_bytes());
    put_numbers(bytes, [from.boot, from.count, from.sent_ms, from.epoch].into_iter());
    bytes.extend_from_slice(&[0; TAG_BYTES]);
}

fn put_tag(key: &BusKey, bytes: &mut [u8]) {
    let (head, rest) = bytes.split_at_mut(HEAD_BYTES);
    let (tag, items) = rest.split_at_mut(TAG_BYTES);
    tag.copy_from_slice(&key.tag(head, items)[..TAG_BYTES]);
}

fn put_item(bytes: &mut Vec<u8>, item: &Item) {
    let at = bytes.len();
    bytes.extend_from_slice(&[0; ITEM_HEAD_BYTES]);
    let kind = match item {
        Item::Row(far) => {
            put_conv(bytes, far.conv);
            let row = &far.row;
            let before = far.before_ms.map_or(u64::MAX, |ms| ms);
            put_numbers(bytes, [row.seq.get(), row.id.get(), row.ts_ms, row.sender.get(), before].into_iter());
            bytes.extend_from_slice(row.body.as_bytes());
            ROW
        }
        Item::Digest(digest) => {
            bytes.extend_from_slice(&digest.from_s.to_le_bytes());
            bytes.extend_from_slice(&digest.to_s.to_le_bytes());
            bytes.extend_from_slice(&digest.piece.to_le_bytes());
            bytes.push(u8::from(digest.last));
            for head in &digest.heads {
                put_conv(bytes, head.conv);
                bytes.extend_from_slice(&head.lowest.get().to_le_bytes());
                bytes.extend_from_slice(&head.newest.get().to_le_bytes());
            }
            DIGEST
        }
        Item::Word(word) => put_word(bytes, word),
        Item::Said(said) => {
            bytes.push(u8::from(said.to_all));
            put_conv(bytes, said.conv);
            bytes.extend_from_slice(&said.sender.get().to_le_bytes());
            bytes.extend_from_slice(&said.ts_ms.to_le_bytes());
            bytes.extend_from_slice(said.body.as_bytes());
            SAID
        }
        Item::Presence { number, rows } => {
            let rows = rows.iter().map(|(user, on)| user.get() | if *on { COMES } else { 0 });
            put_numbers(bytes, std::iter::once(*number).chain(rows));
            PRESENCE
        }
        Item::Listed(listed) => {
            let users = listed.users.iter().map(|user| user.get());
            put_numbers(bytes, [listed.after, listed.upto, listed.number].into_iter().chain(users));
            LISTED
        }
        Item::MembersHere { number, groups } => {
            put_groups(bytes, *number, groups);
            MEMBERS_HERE
        }
        Item::NotHere { number, groups } => {
            put_groups(bytes, *number, groups);
            NOT_HERE
        }
        Item::WhoIsThere { node } => {
            bytes.extend_from_slice(&node.to_le_bytes());
            WHO_IS_THERE
        }
        Item::Taken { boot } => {
            bytes.extend_from_slice(&boot.to_le_bytes());
            TAKEN
        }
        Item::Start => START,
        Item::Changed => CHANGED,
        Item::Hello => HELLO,
        Item::Bye => BYE,
    };
    let length = u32::try_from(bytes.len() - at - ITEM_HEAD_BYTES).unwrap_or(u32::MAX);
    if let Some(head) = bytes.get_mut(at..at + ITEM_HEAD_BYTES) {
        head[0] = kind;
        head[1..].copy_from_slice(&length.to_le_bytes());
    }
}

/// The payload of a word; its kind.
fn put_word(bytes: &mut Vec<u8>, word: &FarWord) -> u8 {
    match word.clone() {
        FarWord::Devices { user, node, asks, list } => {
            bytes.extend_from_slice(&user.get().to_le_bytes());
            bytes.extend_from_slice(&node.to_le_bytes());
            bytes.push(u8::from(asks));
            for one in list {
                let class = Device::ALL.iter().position(|class| *class == one.device);
                bytes.push(class.and_then(|class| u8::try_from(class).ok()).unwrap_or(u8::MAX));
                bytes.extend_from_slice(&one.tag.to_le_bytes());
                bytes.extend_from_slice(&one.opened_ms.to_le_bytes());
                bytes.extend_from_slice(&one.id.to_le_bytes());
            }
            DEVICES
        }
        FarWord::Cursor { user, conv, recv, read } => {
            bytes.extend_from_slice(&user.get().to_le_bytes());
            put_conv(bytes, conv);
            bytes.extend_from_slice(&recv.get().to_le_bytes());
            bytes.extend_from_slice(&read.get().to_le_bytes());
            CURSOR
        }
        FarWord::Disconnect { user } => {
            bytes.extend_from_slice(&user.get().to_le_bytes());
            DISCONNECT
        }
        FarWord::Typing { user, conv } => {
            bytes.extend_from_slice(&user.get().to_le_bytes());
            put_conv(bytes, conv);
            TYPING
        }
        FarWord::Hint { user, what, id } => {
            bytes.extend_from_slice(&user.get().to_le_bytes());
            let number = HINTS.iter().position(|hint| *hint == what);
            bytes.push(number.and_then(|number| u8::try_from(number).ok()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(&id.to_le_bytes());
            HINT
        }
        FarWord::GroupHint { group } => {
            bytes.extend_from_slice(&group.get().to_le_bytes());
            GROUP_HINT
        }
    }
}

fn put_groups(bytes: &mut Vec<u8>, number: u64, groups: &[GroupId]) {
    put_numbers(bytes, std::iter::once(number).chain(groups.iter().map(|group| group.get())));
}

fn put_numbers(bytes: &mut Vec<u8>, numbers: impl Iterator<Item = u64>) {
    for number in numbers {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
}

fn put_conv(bytes: &mut Vec<u8>, conv: ConvId) {
    let (kind, a, b) = match conv {
        ConvId::Direct { lo, hi } => (1, lo.get(), hi.get()),
        ConvId::Group(group) => (2, group.get(), 0),
    };
    bytes.push(kind);
    bytes.extend_from_slice(&a.to_le_bytes());
    bytes.extend_from_slice(&b.to_le_bytes());
}

/// What stands in bytes of the bus.
///
/// # Errors
/// See [`Bad`].
pub fn decode(key: &BusKey, bytes: &[u8]) -> Result<Envelope, Bad> {
    if bytes.len() < HEAD_BYTES + TAG_BYTES || bytes.len() > ENVELOPE_BYTES_MAX {
        return Err(Bad::Damaged);
    }
    let (head, rest) = bytes.split_at(HEAD_BYTES);
    let (tag, items) = rest.split_at(TAG_BYTES);
    let mut reader = Reader(head);
    if reader.take(MAGIC.len()) != Some(&MAGIC) {
        return Err(Bad::Damaged);
    }
    if reader.byte() != Some(VERSION) {
        return Err(Bad::Version);
    }
    if !key.is_right(head, tag, items) {
        return Err(Bad::Tag);
    }
    let (from, to) = read_from(&mut reader).ok_or(Bad::Damaged)?;
    let (mut reader, mut found, mut unknown) = (Reader(items), Vec::new(), 0);
    while !reader.0.is_empty() {
        let kind = reader.byte().ok_or(Bad::Damaged)?;
        let length = reader.u32().ok_or(Bad::Damaged)?;
        let payload = usize::try_from(length).ok().and_then(|length| reader.take(length)).ok_or(Bad::Damaged)?;
        match kind {
            ROW => found.push(read_row(Reader(payload)).ok_or(Bad::Damaged)?),
            DIGEST => found.push(read_digest(Reader(payload)).ok_or(Bad::Damaged)?),
            HELLO => found.push(Item::Hello),
            BYE => found.push(Item::Bye),
            START => found.push(Item::Start),
            CHANGED => found.push(Item::Changed),
            TAKEN => found.push(Item::Taken { boot: Reader(payload).u64().ok_or(Bad::Damaged)? }),
            PRESENCE => found.push(read_presence(Reader(payload)).ok_or(Bad::Damaged)?),
            LISTED => found.push(read_listed(Reader(payload)).ok_or(Bad::Damaged)?),
            MEMBERS_HERE => {
                let (number, groups) = read_groups(Reader(payload)).ok_or(Bad::Damaged)?;
                found.push(Item::MembersHere { number, groups });
            }
            NOT_HERE => {
                let (number, groups) = read_groups(Reader(payload)).ok_or(Bad::Damaged)?;
                found.push(Item::NotHere { number, groups });
            }
            WHO_IS_THERE => found.push(Item::WhoIsThere { node: Reader(payload).u16().ok_or(Bad::Damaged)? }),
            SAID => found.push(read_said(Reader(payload)).ok_or(Bad::Damaged)?),
            // A newer gateway may know more of them, and what is said so may be lost.
            CURSOR | TYPING | HINT | GROUP_HINT | DEVICES | DISCONNECT => match read_word(kind, Reader(payload)) {
                Some(word) => found.push(Item::Word(word)),
                None => unknown += 1,
            },
            _ => unknown += 1,
        }
    }
    Ok(Envelope { from, to, items: found, unknown })
}

fn read_from(reader: &mut Reader<'_>) -> Option<(From, To)> {
    let (one, node, other) = (reader.byte()?, reader.u16()?, reader.u16()?);
    let to = match one {
        0 if other == 0 => To::All,
        1 => To::Node(other),
        _ => return None,
    };
    let (boot, count, sent_ms, epoch) = (reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?);
    Some((From { node, boot, count, sent_ms, epoch }, to))
}

fn read_row(mut reader: Reader<'_>) -> Option<Item> {
    let conv = reader.conv()?;
    let seq = Seq::new(reader.u64()?).filter(|seq| *seq > Seq::ZERO)?;
    let id = MsgId::new(reader.u64()?)?;
    let ts_ms = reader.u64()?;
    let sender = UserId::new(reader.u64()?)?;
    let before = reader.u64()?;
    if reader.0.len() > BODY_BYTES_MAX {
        return None;
    }
    let body: Arc<str> = std::str::from_utf8(reader.0).ok()?.into();
    let before_ms = (before != u64::MAX).then_some(before);
    Some(Item::Row(Box::new(FarRow { conv, row: Row { seq, id, ts_ms, sender, body }, before_ms })))
}

fn read_said(mut reader: Reader<'_>) -> Option<Item> {
    let (to_all, conv, sender, ts_ms) = (reader.byte()? != 0, reader.conv()?, reader.user()?, reader.u64()?);
    if reader.0.len() > SAID_BODY_BYTES_MAX || (to_all && conv != ConvId::direct(sender, sender)) {
        return None;
    }
    let body: Arc<str> = std::str::from_utf8(reader.0).ok()?.into();
    Some(Item::Said(Box::new(FarSaid { conv, to_all, sender, ts_ms, body })))
}

fn read_digest(mut reader: Reader<'_>) -> Option<Item> {
    let (from_s, to_s, piece, last) = (reader.u64()?, reader.u64()?, reader.u16()?, reader.byte()? != 0);
    let mut heads = Vec::new();
    while !reader.0.is_empty() {
        let (conv, lowest, newest) = (reader.conv()?, Seq::new(reader.u64()?)?, Seq::new(reader.u64()?)?);
        if heads.len() >= DIGEST_HEADS_MAX || lowest == Seq::ZERO || lowest > newest {
            return None;
        }
        heads.push(RecentConv { conv, lowest, newest });
    }
    Some(Item::Digest(Digest { from_s, to_s, piece, last, heads }))
}

fn read_presence(mut reader: Reader<'_>) -> Option<Item> {
    let (number, mut rows) = (reader.u64()?, Vec::new());
    while !reader.0.is_empty() {
        let row = reader.u64()?;
        rows.push((UserId::new(row & !COMES)?, row & COMES != 0));
    }
    (rows.len() <= PRESENCE_PIECE).then_some(Item::Presence { number, rows })
}

fn read_groups(mut reader: Reader<'_>) -> Option<(u64, Vec<GroupId>)> {
    let (number, mut groups) = (reader.u64()?, Vec::new());
    while !reader.0.is_empty() {
        groups.push(GroupId::new(reader.u64()?)?);
    }
    (groups.len() <= NOT_HERE_PIECE).then_some((number, groups))
}

fn read_listed(mut reader: Reader<'_>) -> Option<Item> {
    let (after, upto, number, mut users) = (reader.u64()?, reader.u64()?, reader.u64()?, Vec::new());
    while !reader.0.is_empty() {
        users.push(reader.user()?);
    }
    (users.len() <= PRESENCE_PIECE).then_some(Item::Listed(Listed { after, upto, number, users }))
}

fn read_word(kind: u8, mut reader: Reader<'_>) -> Option<FarWord> {
    Some(match kind {
        CURSOR => {
            let (user, conv) = (reader.user()?, reader.conv()?);
            FarWord::Cursor { user, conv, recv: Seq::new(reader.u64()?)?, read: Seq::new(reader.u64()?)? }
        }
        DISCONNECT => FarWord::Disconnect { user: reader.user()? },
        TYPING => FarWord::Typing { user: reader.user()?, conv: reader.conv()? },
        HINT => {
            let (user, what) = (reader.user()?, reader.byte()?);
            FarWord::Hint { user, what: *HINTS.get(usize::from(what))?, id: reader.u64()? }
        }
        DEVICES => {
            let (user, node, asks, mut list) = (reader.user()?, reader.u16()?, reader.byte()? != 0, Vec::new());
            while !reader.0.is_empty() {
                let device = *Device::ALL.get(usize::from(reader.byte()?))?;
                let (tag, opened_ms, id) = (reader.u32()?, reader.u64()?, reader.u64()?);
                list.push(FarDevice { device, tag, opened_ms, id });
            }
            let fits = list.len() <= SESSIONS_PER_USER_MAX;
            FarWord::Devices { user, node, asks, list: fits.then(|| list.into())? }
        }
        GROUP_HINT => FarWord::GroupHint { group: GroupId::new(reader.u64()?)? },
        _ => return None,
    })
}

/// Bytes that are still to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(first)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn user(&mut self) -> Option<UserId> {
        UserId::new(self.u64()?)
    }

    fn conv(&mut self) -> Option<ConvId> {
        let (kind, a, b) = (self.byte()?, self.u64()?, self.u64()?);
        match kind {
            1 => {
                let (lo, hi) = (UserId::new(a)?, UserId::new(b)?);
                (lo <= hi).then(|| ConvId::direct(lo, hi))
            }
            2 if b == 0 => GroupId::new(a).map(ConvId::Group),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> BusKey {
        BusKey::new((&[7; 32], None), "test")
    }

    fn from() -> From {
        From { node: 3, boot: 9, count: 1, sent_ms: 1_800_000_000_000, epoch: 5 }
    }

    fn user(raw: u64) -> UserId {
        UserId::new(raw).expect("small")
    }

    fn seq(raw: u64) -> Seq {
        Seq::new(raw).expect("small")
    }

    fn said(conv: ConvId, sender: UserId, body: &str) -> Box<FarSaid> {
        Box::new(FarSaid { conv, to_all: false, sender, ts_ms: 77, body: body.into() })
    }

    fn items() -> Vec<Item> {
        let row = |before_ms| FarRow {
            conv: ConvId::direct(user(2), user(1)),
            row: Row {
                seq: seq(4),
                id: MsgId::new(8).expect("small"),
                ts_ms: 77,
                sender: user(2),
                body: "\"a\":\"ö\"".into(),
            },
            before_ms,
        };
        let group = ConvId::Group(GroupId::new(6).expect("small"));
        let heads = vec![RecentConv { conv: group, lowest: seq(1), newest: seq(3) }];
        vec![
            Item::Row(Box::new(row(Some(0)))),
            Item::Row(Box::new(row(None))),
            Item::Digest(Digest { from_s: 10, to_s: 14, piece: 1, last: true, heads }),
            Item::Hello,
            Item::Bye,
            Item::Start,
            Item::Taken { boot: 77 },
            Item::Presence { number: 7, rows: vec![(user(1), true), (user(2), false)] },
            Item::Listed(Listed { after: 0, upto: 9, number: 7, users: vec![user(1)] }),
            Item::MembersHere { number: 7, groups: vec![GroupId::new(6).expect("small")] },
            Item::NotHere { number: 8, groups: Vec::new() },
            Item::WhoIsThere { node: 3 },
            Item::Changed,
            Item::Word(FarWord::Devices {
                user: user(1),
                node: 3,
                asks: true,
                list: [FarDevice { device: Device::Phone, tag: 5, opened_ms: 77, id: 9 }].into(),
            }),
            Item::Word(FarWord::Cursor { user: user(1), conv: group, recv: seq(9), read: seq(0) }),
            Item::Word(FarWord::Typing { user: user(1), conv: ConvId::direct(user(2), user(1)) }),
            Item::Word(FarWord::Hint { user: user(1), what: Hint::Profile, id: 1 }),
            Item::Word(FarWord::GroupHint { group: GroupId::new(6).expect("small") }),
            Item::Word(FarWord::Disconnect { user: user(1) }),
            Item::Said(said(ConvId::Group(GroupId::ROOM), UserId::GUEST, "{}\n")),
            Item::Said(Box::new(FarSaid { to_all: true, ..*said(ConvId::direct(user(1), user(1)), user(1), "ö") })),
        ]
    }

    #[test]
    fn what_is_said_is_heard() {
        let bytes = encode(&key(), &from(), To::All, &items());
        let heard = decode(&key(), &bytes).expect("ours");
        assert_eq!(heard, Envelope { from: from(), to: To::All, items: items(), unknown: 0 });
        let told: usize = items().iter().map(size).sum();
        assert!(bytes.len() <= HEAD_BYTES + TAG_BYTES + told, "sizes are not told too small");
    }

    #[test]
    fn the_largest_digest_is_heard() {
        let head = |n: usize| {
            let group = GroupId::new(n as u64 + 1).expect("small");
            RecentConv { conv: ConvId::Group(group), lowest: seq(1), newest: seq(3) }
        };
        let heads = (0..DIGEST_HEADS_MAX).map(head).collect();
        let most = [Item::Digest(Digest { from_s: 10, to_s: 14, piece: 0, last: true, heads })];
        let bytes = encode(&key(), &from(), To::All, &most);
        assert_eq!(bytes.len(), HEAD_BYTES + TAG_BYTES + size(&most[0]), "its size is known");
        assert_eq!(decode(&key(), &bytes).map(|heard| heard.items), Ok(most.to_vec()));
    }

    #[test]
    fn the_longest_message_of_a_guest_is_heard_and_a_longer_one_is_not() {
        let worst =
            crate::wire::room::parse(format!("{{\"content\":\"{}\"}}", "<".repeat(MESSAGE_BYTES_MAX - 14)).as_bytes())
                .expect("a message");
        assert!(worst.len() <= SAID_BODY_BYTES_MAX && worst.len() > 6 * (MESSAGE_BYTES_MAX - 14));
        let longest = [Item::Said(said(ConvId::Group(GroupId::ROOM), UserId::GUEST, &worst))];
        let bytes = encode(&key(), &from(), To::All, &longest);
        assert_eq!(decode(&key(), &bytes).map(|heard| heard.items), Ok(longest.to_vec()));
        let longer = "x".repeat(SAID_BODY_BYTES_MAX + 1);
        let bytes =
            encode(&key(), &from(), To::All, &[Item::Said(said(ConvId::Group(GroupId::ROOM), UserId::GUEST, &longer))]);
        assert_eq!(decode(&key(), &bytes), Err(Bad::Damaged));
        // What is for everybody stands in its author's conversation with itself.
        let wrong = FarSaid { to_all: true, ..*said(ConvId::direct(user(1), user(2)), user(1), "") };
        let bytes = encode(&key(), &from(), To::All, &[Item::Said(Box::new(wrong))]);
        assert_eq!(decode(&key(), &bytes), Err(Bad::Damaged));
    }

    #[test]
    fn the_form_of_version_2_stays() {
        let bytes = encode(&key(), &from(), To::All, &[Item::Hello, Item::Bye]);
        let hex = data_encoding::HEXLOWER.encode(&bytes);
        let head = "494d47420200030000000900000000000000010000000000000000505c18a30100000500000000000000";
        assert_eq!(hex.get(..head.len()), Some(head));
        assert_eq!(hex.get(hex.len() - 20..), Some("03000000000400000000"));
        let to_one = encode(&key(), &from(), To::Node(258), &[]);
        assert_eq!(data_encoding::HEXLOWER.encode(&to_one[..10]), "494d4742020103000201");
        assert_eq!(decode(&key(), &to_one).map(|heard| heard.to), Ok(To::Node(258)));
    }

    #[test]
    fn the_form_of_words_stays() {
        let group = GroupId::new(6).expect("small");
        let words = [
            FarWord::Cursor { user: user(1), conv: ConvId::Group(group), recv: seq(9), read: seq(8) },
            FarWord::Typing { user: user(1), conv: ConvId::direct(user(1), user(2)) },
            FarWord::Hint { user: user(1), what: Hint::Profile, id: 5 },
            FarWord::GroupHint { group },
        ];
        let items: Vec<_> = words.map(Item::Word).into_iter().chain([Item::Taken { boot: 7 }]).collect();
        let bytes = encode(&key(), &from(), To::All, &items);
        let zeros = |n: usize| "00".repeat(n);
        let number = |n: u8| format!("{n:02x}{}", zeros(7));
        let wanted = [
            format!("0729000000{}02{}{}{}{}", number(1), number(6), zeros(8), number(9), number(8)),
            format!("0819000000{}01{}{}", number(1), number(1), number(2)),
            format!("0911000000{}02{}", number(1), number(5)),
            format!("0a08000000{}", number(6)),
            format!("0608000000{}", number(7)),
        ];
        assert_eq!(data_encoding::HEXLOWER.encode(&bytes[HEAD_BYTES + TAG_BYTES..]), wanted.concat());
    }

    #[test]
    fn words_of_a_newer_gateway_are_skipped_and_counted() {
        let mut bytes = encode(
            &key(),
            &from(),
            To::All,
            &[Item::Hello, Item::Word(FarWord::GroupHint { group: GroupId::new(6).expect("small") })],
        );
        let at = HEAD_BYTES + TAG_BYTES;
        let seal = |bytes: &mut Vec<u8>| put_tag(&key(), bytes);
        bytes[at + ITEM_HEAD_BYTES] = 99;
        seal(&mut bytes);
        let heard = decode(&key(), &bytes).expect("ours");
        assert_eq!((heard.items, heard.unknown), (vec![Item::Hello], 1), "another kind");
        bytes[at + ITEM_HEAD_BYTES] = HINT;
        seal(&mut bytes);
        let heard = decode(&key(), &bytes).expect("ours");
        assert_eq!((heard.items, heard.unknown), (vec![Item::Hello], 1), "a known kind that says something else");
    }

    #[test]
    fn nothing_that_was_touched_is_believed() {
        let bytes = encode(&key(), &from(), To::All, &items());
        for at in 0..bytes.len() {
            let mut touched = bytes.clone();
            touched[at] ^= 1;
            assert!(decode(&key(), &touched).is_err(), "byte {at}");
        }
        for end in 0..bytes.len() {
            assert!(decode(&key(), &bytes[..end]).is_err(), "cut at {end}");
        }
        assert_eq!(decode(&BusKey::new((&[8; 32], None), "test"), &bytes), Err(Bad::Tag), "another secret");
        assert_eq!(decode(&BusKey::new((&[7; 32], None), "other"), &bytes), Err(Bad::Tag), "another cluster");
        for version in [VERSION - 1, VERSION + 1] {
            let mut other = bytes.clone();
            other[4] = version;
            assert_eq!(decode(&key(), &other), Err(Bad::Version));
        }
        assert_eq!(decode(&key(), &vec![0; ENVELOPE_BYTES_MAX + 1]), Err(Bad::Damaged));
    }

    /// Signed bytes, whatever they say, end in a verdict.
    #[test]
    fn garbage_with_a_right_tag_is_damaged_or_unknown() {
        let mut random = 1_u64;
        let mut next = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) as u8
        };
        let (mut damaged, mut unknown) = (0, 0);
        for length in 0..2_000_usize {
            let mut bytes = encode(&key(), &from(), To::All, &[]);
            bytes.push(next() % 16);
            let told = u32::try_from(if length % 3 == 0 { length % 64 } else { length % 61 }).expect("small");
            bytes.extend_from_slice(&told.to_le_bytes());
            bytes.extend((0..length % 64).map(|_| next()));
            put_tag(&key(), &mut bytes);
            match decode(&key(), &bytes) {
                Ok(envelope) => unknown += envelope.unknown,
                Err(Bad::Damaged) => damaged += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
        assert!(damaged > 100 && unknown > 100, "{damaged} {unknown}");
    }
}
