//! Everything that can happen to a shard.
//!
//! Owns: [`Event`], the closed list of causes of work. A new cause is a compile error until it is
//! handled.
//! Never: carries a socket or a clock. Time is the `now` of [`Shard::step`](super::Shard::step).

use std::sync::Arc;

use crate::auth::Identity;
use crate::ids::{ConnId, GroupId, LoginId, Seq, ShardId, UserId};
use crate::shard::far::FarIn;
use crate::shard::peer::{PeerMsg, Way};
use crate::shard::setup::Adjustable;
use crate::store::worker::Reply;
use crate::wire::command::RefusedCommand;
use crate::wire::packet::Stored;
use crate::wire::{CloseCode, Command, Device, Hint, Profile, Target};
use crate::ws::deflate::Window;

/// One cause of work.
#[derive(Debug)]
pub enum Event {
    /// A connection that this shard owns has been upgraded. The driver has reserved `conn.slot`;
    /// nothing was said about this generation before. The session reads nothing until
    /// [`Effect::Resume`](super::effect::Effect::Resume). `response` is what answers the upgrade
    /// (101): it leaves before anything else, in one send with what the session is told first if
    /// that comes within [`Setup::response_ms_max`](super::Setup::response_ms_max). Empty: it has
    /// left already. `ended`: the peer had finished sending by then. It gets its response, and its
    /// session takes the place of none: a gateway that stood still finds upgrades that clients have
    /// given up long ago, and these have sessions elsewhere.
    Open { conn: ConnId, hello: Hello, response: Box<[u8]>, ended: bool },
    /// The peer of a session that is not read yet has finished sending: as `ended` of
    /// [`Event::Open`], from now on. What it has sent before is read when the session has opened.
    PeerEnded { conn: ConnId },
    /// A client's command.
    Command { conn: ConnId, command: Command },
    /// A client's message that is no command.
    Unreadable { conn: ConnId, refused: RefusedCommand },
    /// A ping: is answered, and is life.
    Ping { conn: ConnId, payload: Box<[u8]> },
    /// A pong: is life, and proves that what was sent before its ping has arrived.
    Pong { conn: ConnId, payload: Box<[u8]> },
    /// What was read of a connection in one go beyond the events before it: `bytes` off the wire,
    /// of which some may belong to a message that is not whole yet, `fragments` of messages, and
    /// `inflated` bytes more than came when they were unpacked. Given if there is something worth
    /// it, see [`crate::limits::FREE_READ_BYTES`].
    Spent { conn: ConnId, bytes: usize, fragments: u32, inflated: usize },
    /// The peer's close frame (its code, if it gave one): is echoed, then the connection ends.
    PeerClosed { conn: ConnId, code: Option<u16> },
    /// The peer broke the protocol or a limit: it is told with a close frame, then the connection
    /// ends.
    Violation { conn: ConnId, code: CloseCode },
    /// The socket is gone. Nothing more is said about this generation; its slot may be reused at
    /// once.
    Gone { conn: ConnId },
    /// Memory is wanted that is kept for a session that does not read, and it cannot be had without
    /// the end of its connection, which follows.
    RecordUntaken { conn: ConnId },
    /// All shards together keep so many bytes more alive for their readers than `outbox_budget`
    /// allows: this one lets go of as much, down to
    /// [`Setup::outbox_part`](super::Setup::outbox_part). Given again each turn while it is so,
    /// after the turn's writes, so that only what stays is counted.
    Overdrawn { bytes: usize },
    /// The process takes more memory than it may: what can be read again is forgotten, and so much
    /// of what is queued for the slowest readers is let go.
    Shed { bytes: usize },
    /// A message of another shard, in the order of its lane.
    Peer { from: ShardId, msg: PeerMsg },
    /// Something of another gateway, for the conversation's home.
    Far(FarIn),
    /// The answer of the store to the ask of that number.
    Settled { ask: u32, reply: Reply },
    /// The control plane has something to say. Settled by
    /// [`Effect::Answer`](super::effect::Effect::Answer), exactly once.
    Notice { id: u64, notice: Notice },
    /// The credit of the lane to `to`: so many more deliveries. Given at the start of a turn; until
    /// the first one, there is the full credit.
    Credit { to: ShardId, msgs: u32, bytes: usize },
    /// The configuration was loaded again: these settings are in force from now on.
    Adjusted(Box<Adjustable>),
    /// All events of the turn have been given: marks, deadlines and retries are due.
    TurnEnd,
    /// After [`Event::TurnEnd`], as long as [`Shard::sweep_due`](super::Shard::sweep_due) and the
    /// driver's budget for the turn lasts: one chunk of one group's sweep. A step of its own,
    /// because a broadcast is acted upon before anything else is queued for the same sessions.
    Sweep,
    /// The gateway stops: posts and requests are refused from now on, parked posts too, and no
    /// session catches up any more. [`Shard::outstanding`](super::Shard::outstanding) tells when
    /// all asks are settled.
    Quiesce,
    /// The gateway stops: every session is closed with [`CloseCode::Shutdown`], by as many
    /// [`Event::CloseSome`] as that takes.
    CloseAll(Drain),
    /// Closes the sessions whose time has come, at most so many.
    CloseSome {
        /// At most so many.
        most: u32,
    },
}

/// The user that opens a session, and the protocol.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Hello {
    /// The proof.
    pub identity: Identity,
    /// Legacy or v2.
    pub profile: Profile,
    /// Class of device.
    pub device: Device,
    /// What the client calls its device, hashed; 0: it has not said. A new session of the same
    /// device takes the place of the old one.
    pub device_tag: u32,
    /// With which window it inflates what it is sent; `None`: compression was not agreed upon.
    pub deflate: Option<Window>,
}

/// What the control plane tells a shard. All are asks: counted against
/// [`crate::limits::NOTICES_MAX`], refused with `Busy` beyond it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// To the home of the group: store the membership, then tell the user's shard. Lost answer:
    /// joining again is harmless.
    Join { group: GroupId, user: UserId },
    /// To the home of the group. Lost answer: leaving again is harmless.
    Leave { group: GroupId, user: UserId },
    /// To the home of the group: how a membership stood in the database, which another gateway may
    /// have changed, when it was asked `age_ms` ago; `since` is `None` for no member. Refused with
    /// `Retry` when this home has changed it itself about that time: ask again.
    MemberSeen { group: GroupId, user: UserId, since: Option<Seq>, age_ms: u64 },
    /// To the shard of the user: tokens older than `epoch` are void; sessions opened with one are
    /// closed. Lost: the epoch is in the store, and the next open reads it.
    LoggedOut { user: UserId, epoch: u32 },
    /// To the shard of the user: this login has ended; sessions opened with its token are closed.
    /// Lost: as above.
    LoginEnded { user: UserId, login: LoginId },
    /// To the shard of the user: banned; all sessions are closed. Lost: as above.
    Banned { user: UserId },
    /// To the shards of the two: `owner` refuses `other` from now on, or not any more, and neither
    /// hears of the other meanwhile. Answered with [`Answer::Done`] at once. Lost: the next open of
    /// either reads it.
    Block { owner: UserId, other: UserId, on: bool },
    /// To the shard of the user: something that the user's clients show has changed; open sessions
    /// of our own protocol are told (`cmd` 9). Answered with [`Answer::Done`] at once. Lost: the
    /// clients load their lists again some time.
    Changed { user: UserId, what: Hint, id: u64 },
    /// To every shard: name, icon or description of a group have changed; sessions of its members
    /// here that speak our own protocol are told (`cmd` 9), unless they are a crowd
    /// ([`crate::limits::HINT_MEMBERS_MAX`]). Answered with [`Answer::Done`] at once. Lost: as
    /// above.
    GroupChanged { group: GroupId },
    /// To the shard of `reader`: a page of that user was told the name of `of`, and draws that
    /// author's messages from now on. Answered with [`Answer::Done`] at once. Lost: the page's
    /// replay goes on a little later.
    Introduced { reader: UserId, of: UserId },
    /// To any shard: takes the message `seq` of a conversation back for its author `user`, as `cmd`
    /// 8 does; the author's own sessions hear of it like all others. Answered with
    /// [`Answer::Recalled`]. Lost answer: asking again is refused with `no_such_message` if it was
    /// done.
    Recall { user: UserId, of: Target, seq: Seq },
    /// To any shard: stores a message of `user` that the server makes about a group
    /// ([`crate::wire::Line`]), and hands it on like any other. Answered with [`Answer::Posted`].
    /// Lost answer: nothing says so in the group, or something does.
    Line { user: UserId, group: GroupId, body: Arc<str> },
    /// To any shard: stores a message of `user`, or hands it on without storing it, as `way` says;
    /// a backend asks for it, so nothing is paced. Answered with [`Answer::Posted`]. Lost answer:
    /// with a `cid`, asking again gives the first one's.
    Post { user: UserId, to: Target, cid: Option<Box<str>>, body: Arc<str>, way: Way },
    /// To every shard: a message of `user` to every session of our own and of the old protocols,
    /// stored nowhere. Refused with `Busy` while [`crate::limits::ANNOUNCEMENTS_MAX`] are on their
    /// way. Answered with [`Answer::Done`] when it is on its way. Lost: nothing repairs it.
    Announce { user: UserId, body: Arc<str>, ts_ms: u64 },
    /// To the shard of the users, at most [`ONLINE_USERS_MAX`]: which of them have a session?
    /// Answered with [`Answer::Online`] at once. Lost: asked again.
    Online { users: Box<[UserId]> },
    /// To any shard: users with a session in one of the next [`ROSTER_SLOTS`] places from `from`
    /// on. Answered with [`Answer::Roster`] at once. Lost: asked again.
    Roster { from: u32 },
    /// To the shard of the user: its sessions end, and may come back at once (4000). Answered with
    /// [`Answer::Done`] at once. Lost: asked again.
    Disconnect { user: UserId },
    /// To the shard of the user: what is known of the user's sessions on this gateway. Answered
    /// with [`Answer::Sessions`] at once. Lost: asked again.
    Sessions { user: UserId },
    /// To the shard of the user: its sessions on this gateway, or the one of that connection, end,
    /// and may come back at once (4000). Answered with [`Answer::Ended`] at once. Lost: asked
    /// again.
    EndSessions { user: UserId, only: Option<ConnId> },
    /// To any shard: does it turn? Answered with [`Answer::Done`] at once, also while the gateway
    /// stops. Lost: asked again by the next probe.
    Hello,
}

/// Users of one [`Notice::Online`]: as many as [`Answer::Online`] has bits.
pub const ONLINE_USERS_MAX: usize = u64::BITS as usize;
/// Places of sessions that one [`Notice::Roster`] looks at: a tenth of a millisecond.
pub const ROSTER_SLOTS: u32 = 1024;

/// How a [`Notice`] ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Done, and every shard concerned knows.
    Done,
    /// A membership was as it is to be before that; every shard concerned knows.
    AsBefore,
    /// The owner of a group does not leave it.
    OwnerStays,
    /// The message was taken back by the message `seq` of the same conversation.
    Recalled { seq: Seq },
    /// The message is stored (or, on its way to the open sessions only, accepted: `stored` is
    /// `None`). `dup`: it was there already, under the same `cid`.
    Posted { stored: Option<Stored>, ts_ms: u64, dup: bool },
    /// Of the users asked about, in their order, those with a session, a bit each.
    Online { users: u64 },
    /// The users whose first session of this shard is in one of the places, and where the next ones
    /// begin; `None`: there are no further ones.
    Roster { users: Box<[UserId]>, next: Option<u32> },
    /// The sessions of a user, in the order in which they came.
    Sessions(Box<[SessionView]>),
    /// So many sessions were there, and have been told to end.
    Ended { sessions: usize },
    /// Refused by the judge, or `Busy`, or `Retry`.
    Refused(crate::wire::Reject),
}

/// A session as an operator sees it: what its shard knows of it anyway.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionView {
    /// Its connection.
    pub conn: ConnId,
    /// How it is spoken to.
    pub profile: Profile,
    /// Class of device.
    pub device: Device,
    /// The login whose token opened it, if it was one's.
    pub login: Option<LoginId>,
    /// It is let in; `false`: the store has not answered yet for its user.
    pub open: bool,
    /// Milliseconds since something was heard of it; while it opens, since it began.
    pub silent_ms: u64,
    /// Pings that it has not answered.
    pub pings: u8,
    /// Bytes that wait for it here. What the kernel has taken is not among them.
    pub waiting_bytes: usize,
    /// Commands that it has no answer to yet.
    pub unanswered: u16,
    /// It lacks messages, which it will be given from the store.
    pub behind: bool,
    /// Why it is not read at the moment, if it is not.
    pub held_back: Option<HeldBack>,
    /// Its messages may be compressed.
    pub deflates: bool,
    /// What the driver adds.
    pub socket: Option<SocketView>,
}

/// Why a session is not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeldBack {
    /// Its user goes faster than may be.
    Pace,
    /// Too many answers to its commands are under way, or were not taken.
    Answers,
}

/// What only the driver knows of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SocketView {
    /// The other end of the socket: the client's address, or that of a proxy before it. `None`: it
    /// is gone.
    pub address: Option<Box<str>>,
    /// Its bytes are encrypted by the gateway itself.
    pub tls: bool,
}

/// How the sessions of a gateway that stops are closed, and when they come back. All shards are
/// given the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Drain {
    /// Milliseconds over which the closes are spread; 0: as fast as it goes.
    pub spread_ms: u64,
    /// Milliseconds from the beginning to the return of the first.
    pub return_after_ms: u64,
    /// Milliseconds over which the returns are spread, after the first.
    pub return_over_ms: u64,
}
