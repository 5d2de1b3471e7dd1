//! What a shard tells the other gateways of its database, and hears of them.
//!
//! Owns: [`FarOut`], [`FarIn`] and [`FarWord`], the closed lists, and [`FarSaid`]. Every variant
//! says its kind, what notices its loss, and how that is repaired.
//! Kinds: a *deliver* may be lost anywhere on its way. A *note* never leaves this gateway and is
//! never lost.
//! Never: says which gateways there are: a shard knows that there are others, and no more.

use std::sync::Arc;

use crate::ids::{ConvId, GroupId, Seq, UserId};
use crate::store::Row;
use crate::wire::{Device, Hint};

/// To the other gateways.
#[derive(Debug)]
pub enum FarOut {
    /// *Deliver*: a message that a home here has got stored. Lost: the next one of the
    /// conversation, or the digest, reveals it, and the home there reads it from the database.
    Row(Box<FarRow>),
    /// *Deliver*: see there. It takes no room that a row could have.
    Word(FarWord),
    /// *Deliver*: a message that is kept nowhere. Lost: for good, and counted. It takes no room
    /// that a row or a word could have.
    Said(Box<FarSaid>),
    /// *Note*: a first session of `whom` is on this shard, or none is any more. What concerns
    /// no session here wakes no shard.
    Here { whom: Whom, on: bool },
    /// *Note*: all users with a session on this shard, because [`FarIn::Census`] has asked.
    Census { users: Box<[UserId]> },
}

/// From the other gateways; what is about a conversation goes to the shard that is its home here.
#[derive(Clone, Debug)]
pub enum FarIn {
    /// *Deliver*: as [`FarOut::Row`].
    Row(Box<FarRow>),
    /// *Deliver*: `lowest` to `newest` were stored lately, says the database, or a message of that
    /// number was refused by a full queue. Lost: the next digest says it again.
    Head { conv: ConvId, lowest: Seq, newest: Seq },
    /// *Deliver*, to the shard of the user, or to every shard: as [`FarOut::Word`].
    Word(FarWord),
    /// *Deliver*, or to every shard what is for everybody: as [`FarOut::Said`].
    Said(Box<FarSaid>),
    /// *Deliver*, to the shard of the users: whether they have a session on another gateway.
    /// Refused by a full queue: how it stands is told again when there is room.
    Elsewhere { rows: Box<[(UserId, bool)]> },
    /// *Deliver*: so many users have come and gone that they are not told one by one any more: the
    /// shard is to tell all that are here. Lost: it is asked again in a moment.
    Census,
    /// *Deliver*: everything that was stored up to a moment ago has been told. Only such time
    /// counts for what a home remembers. Lost: the next one says it two seconds later.
    Covered,
    /// *Deliver*: the most advanced clock of all gateways is so far ahead of this one's. Lost: it
    /// is said again with each [`FarIn::Covered`].
    Ahead { ms: u64 },
    /// *Deliver*: the bus has gone, or is back. While it is away no gateway hears which users have
    /// left another one. Lost: it is said again with each [`FarIn::Covered`].
    Alone { on: bool },
}

/// What users tell and show each other beside messages, from one gateway to the others. Each is
/// said there as a session there would have said it: at the same pace, and never across a block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FarWord {
    /// The store has kept how far a user has received and read. Lost: the next word says as much,
    /// and the list at open tells it anyway.
    Cursor { user: UserId, conv: ConvId, recv: Seq, read: Seq },
    /// A user is typing. Lost: a client that goes on typing is heard two seconds later.
    Typing { user: UserId, conv: ConvId },
    /// Something that the user's clients show has changed: `id` of `what`. Lost: they load their
    /// lists again some time.
    Hint { user: UserId, what: Hint, id: u64 },
    /// Name, icon or description of a group have changed. Lost: as above.
    GroupHint { group: GroupId },
    /// The sessions of a user are to end; they may come back. Lost: those there stay, and whoever
    /// wants them gone asks again.
    Disconnect { user: UserId },
    /// All sessions of a user on the gateway `node`. `asks`: one of them has just come, and whoever
    /// has others says which. Lost: it is said once more a little later, and with the next session.
    Devices { user: UserId, node: u16, asks: bool, list: Box<[FarDevice]> },
}

/// A message that is kept nowhere: what a guest of `/chatroom` says, and what the server says to
/// the sessions that are open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FarSaid {
    /// Where it was said.
    pub conv: ConvId,
    /// To every session but those of guests; `conv` is that of its author with itself.
    pub to_all: bool,
    /// Its author.
    pub sender: UserId,
    /// When it was said, in Unix milliseconds.
    pub ts_ms: u64,
    /// Its fields; of a guest's message the whole of it.
    pub body: Arc<str>,
}

/// A session, as the policy of devices sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FarDevice {
    /// Its class.
    pub device: Device,
    /// Which device it is, 0 if it has not said.
    pub tag: u32,
    /// When it began, in Unix milliseconds of its gateway.
    pub opened_ms: u64,
    /// Tells it from others of its gateway.
    pub id: u64,
}

/// A stored message, as a read of its conversation would bring it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FarRow {
    /// Where it was said.
    pub conv: ConvId,
    /// What was said.
    pub row: Row,
    /// The time of the message before it, zero if it is the first; `None`: not known.
    pub before_ms: Option<u64>,
}

/// A user or a group.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Whom {
    /// With a session.
    User(UserId),
    /// With a member that has a session.
    Group(GroupId),
}
