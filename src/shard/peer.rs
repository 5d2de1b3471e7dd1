//! What shards say to each other.
//!
//! Owns: [`PeerMsg`], the closed list. Every variant says its kind, which side notices its loss,
//! and how that is repaired.
//! Kinds: an *ask* may be refused where it is made, because the asker reserves its place and the
//! place of the answer; a *settle* always has that place; a *deliver* is refused when the lane is
//! full, and a mark takes its place.
//! Never: carries a reply channel. An answer is a new message.
//! One FIFO per ordered pair of shards carries them all, so an ack never overtakes a push and a
//! push never an ack.

use std::sync::Arc;

use crate::ids::{ConvId, GroupId, Seq, UserId};
use crate::store::{self, PostKey};
use crate::wire::packet::Stored;
use crate::wire::{Packet, Reject};

/// One message from one shard to another (or to itself, inside `step`).
#[derive(Debug)]
pub enum PeerMsg {
    /// *Ask*, author's shard to home. Settled by [`PeerMsg::Posted`], exactly once.
    Post(Box<PeerPost>),
    /// *Settle* of [`PeerMsg::Post`], home to author's shard. Carries the packet if this post is
    /// what is delivered now, for the author's other sessions and (direct) the recipient's sessions
    /// on that shard, so that shard gets no [`PeerMsg::Deliver`].
    Posted(Box<Posted>),
    /// *Deliver*, home to every other shard concerned; of a group to those with a member online.
    /// Refused by a full lane: home notices and leaves a mark.
    Deliver(Delivery),
    /// *Deliver*: what took the place of deliveries that a full lane refused: sessions there are
    /// behind from `from` on, and `upto` was the newest delivered when the mark was sent. Resent by
    /// home each turn until the lane takes it.
    Mark { conv: ConvId, from: Seq, upto: Seq },
    /// *Deliver*, a user's shard to that of the peer in a direct conversation: received and read up
    /// to. Refused by a full lane: dropped; the next word says as much, and the list at open tells
    /// it anyway.
    Cursor { user: UserId, conv: ConvId, recv: Seq, read: Seq },
    /// *Deliver*, the typist's shard to that of the peer in a direct conversation, or to a group's
    /// home and from there to the shards of its members. Refused by a full lane: dropped; a client
    /// that goes on typing is heard two seconds later.
    Typing { user: UserId, conv: ConvId },
    /// *Deliver*, a session's shard to that of the users: tell me whether they are online, now and
    /// when it changes. Refused by a full lane: dropped; it is said again every second until it is
    /// answered, and then in rounds ([`crate::limits::PRESENCE_TICKS`]).
    Watch { users: Box<[UserId]> },
    /// *Deliver*, as [`PeerMsg::Watch`]: no session here wants to know any more. Refused: dropped;
    /// what is not asked for again ends by itself.
    Unwatch { users: Box<[UserId]> },
    /// *Deliver*, the users' shard to one that watches them: which of them are online. Refused:
    /// dropped; the next round asks again.
    Presence { rows: Box<[(UserId, bool)]> },
    /// *Ask*, home of the group to the shard of the user, after the commit; in one order with the
    /// group's deliveries. The place is part of the control plane's notice
    /// ([`crate::limits::NOTICES_MAX`]). Settled by [`PeerMsg::MemberKnown`].
    Member { ask: u32, group: GroupId, user: UserId, change: MemberChange },
    /// *Settle* of [`PeerMsg::Member`].
    MemberKnown { ask: u32 },
    /// *Ask*, a shard to the home of groups: whether it has members of them online. One of a shard
    /// is under way at a time, of at most [`crate::limits::INTEREST_ROWS_MAX`] rows. Settled by
    /// [`PeerMsg::InterestKnown`], exactly once.
    Interest { rows: Box<[(GroupId, bool)]> },
    /// *Settle* of [`PeerMsg::Interest`]: what is handed on from now on is sent to shards with a
    /// member.
    InterestKnown,
}

/// A change of membership as the user's shard hears of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemberChange {
    /// Receives what is after `since`. `passed`: how far the home has handed on before this word; a
    /// session that it finds lacks what lies between, because the membership was stored through
    /// another gateway.
    Joined { since: Seq, passed: Seq },
    /// Receives nothing more.
    Left,
}

/// A post on its way to its home.
#[derive(Debug)]
pub struct PeerPost {
    /// The asker's number for it; comes back in [`Posted`].
    pub ask: u32,
    /// The conversation; its home is the addressee.
    pub conv: ConvId,
    /// The author.
    pub sender: UserId,
    /// Dedupe key.
    pub key: PostKey,
    /// The surviving JSON fields.
    pub body: Arc<str>,
    /// The earlier message of the sender that it takes back.
    pub recall: Option<Seq>,
    /// How it is treated.
    pub way: Way,
    /// See [`crate::wire::packet::Milestones::said_us`].
    pub said_us: u64,
}

/// How a post is treated at its home.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Way {
    /// As a user's: the store judges, and stores it.
    #[default]
    Judged,
    /// As the server's: it is stored whoever its author is, if the group exists.
    Server,
    /// It is handed on to the sessions that are open, and stored nowhere.
    Fleeting,
}

/// What became of a post.
#[derive(Debug)]
pub struct Posted {
    /// The asker's number.
    pub ask: u32,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a post ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Stored (or, volatile, accepted: `stored` is `None`). `packet` as in [`PeerMsg::Posted`]:
    /// `None` when it was delivered before. `missed` is the mark that the lane had no room for yet,
    /// see [`PeerMsg::Mark`]: the shard is behind from there on, up to this message.
    Done { stored: Option<Stored>, ts_ms: u64, dup: bool, packet: Option<Arc<Packet>>, missed: Option<Seq> },
    /// Not stored, or unknown ([`Reject::Retry`]).
    Refused(Reject),
}

/// A message on its way to sessions.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The conversation.
    pub conv: ConvId,
    /// Place in the conversation; `None` in a volatile conversation.
    pub seq: Option<Seq>,
    /// The frame.
    pub packet: Arc<Packet>,
    /// Another gateway has stored it, as far as the home knows, and tells which users are away.
    pub far: bool,
}

impl PeerMsg {
    /// Bytes that this message keeps alive, for the lane's bound.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const FIXED: usize = size_of::<PeerMsg>();
        match self {
            Self::Post(post) => FIXED + size_of::<PeerPost>() + post.body.len(),
            Self::Posted(posted) => match &posted.outcome {
                Outcome::Done { packet: Some(packet), .. } => FIXED + size_of::<Posted>() + packet.frame().len(),
                _ => FIXED + size_of::<Posted>(),
            },
            Self::Deliver(delivery) => FIXED + delivery.packet.frame().len(),
            Self::Watch { users } | Self::Unwatch { users } => FIXED + size_of_val(&**users),
            Self::Presence { rows } => FIXED + size_of_val(&**rows),
            Self::Interest { rows } => FIXED + size_of_val(&**rows),
            Self::Mark { .. }
            | Self::Cursor { .. }
            | Self::Typing { .. }
            | Self::Member { .. }
            | Self::MemberKnown { .. }
            | Self::InterestKnown => FIXED,
        }
    }

    /// Whether a full lane refuses it ([`Event::Credit`](super::event::Event::Credit) tells the
    /// sender beforehand).
    #[must_use]
    pub const fn is_deliver(&self) -> bool {
        match self {
            Self::Deliver(_) | Self::Mark { .. } => true,
            Self::Cursor { .. } | Self::Typing { .. } => true,
            Self::Watch { .. } | Self::Unwatch { .. } | Self::Presence { .. } => true,
            Self::Post(_) | Self::Posted(_) | Self::Member { .. } | Self::MemberKnown { .. } => false,
            Self::Interest { .. } | Self::InterestKnown => false,
        }
    }
}

impl From<store::Refusal> for Reject {
    fn from(refusal: store::Refusal) -> Self {
        match refusal {
            store::Refusal::NoSuchGroup => Self::NoSuchGroup,
            store::Refusal::NoSuchUser => Self::NoSuchUser,
            // The control plane has an answer of its own for owners: no command leaves a group.
            store::Refusal::NotMember | store::Refusal::Owner => Self::NotMember,
            store::Refusal::Blocked => Self::Blocked,
            store::Refusal::TooManyGroups => Self::Busy,
            // What holds the conversation may be an earlier try of the same message, of which no
            // answer has come, here or at another gateway.
            store::Refusal::Held => Self::Retry,
            store::Refusal::NoSuchMessage => Self::NoSuchMessage,
            store::Refusal::NotYours => Self::NotYours,
            store::Refusal::TooLate => Self::TooLate,
        }
    }
}
