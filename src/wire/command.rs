//! What clients say: bytes of one message in, one [`Command`] out.
//!
//! Owns: the parser and its reusable buffers ([`Parser`], one per shard).
//! Never: judges; whether the sender may is the shard's and the store's business. Never panics on input (fuzzed).
//! (Skeleton: signatures that the other rooms build on; the wire step fills it.)

use std::sync::Arc;

use super::{Profile, Reject};
use crate::ids::{GroupId, Kind, Seq, UserId};
use crate::store::From;

/// One command of a client.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    /// `cmd` 0, also an absent `cmd`: a sign of life. v2 sessions get an answer, legacy ones none.
    Heartbeat,
    /// `cmd` 10 or 11.
    Post(Post),
    /// `cmd` 4: read a conversation.
    Sync(Sync),
}

/// A chat message as its author sent it.
#[derive(Clone, PartialEq, Debug)]
pub struct Post {
    /// Whom it is for.
    pub to: Target,
    /// The client's id for it: 1 to [`crate::limits::CID_BYTES_MAX`] bytes.
    pub cid: Option<Box<str>>,
    /// The surviving JSON fields in the client's order, `cid` included, without braces: see [`crate::store::NewMessage::body`].
    /// Every occurrence of a server-owned or parsed key (`id`, `seq`, `ts`, `userid`, `cmd`, `dstid`, `kind`, `dup`; and all but
    /// the effective `cid`), compared case-insensitively after unescaping, is dropped.
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
pub struct Sync {
    /// Which conversation.
    pub of: Target,
    /// Where from.
    pub from: From,
    /// At most so many rows: 1 to [`crate::limits::SYNC_ROWS_MAX`]; larger wishes are cut, absent means the maximum.
    pub limit: u32,
}

/// A command that cannot be obeyed, with what is needed to tell its sender.
#[derive(Clone, PartialEq, Debug)]
pub struct Refused {
    /// Why.
    pub reject: Reject,
    /// The client's id, if it could be read.
    pub cid: Option<Box<str>>,
}

/// The parser's buffers; one per shard, reused for every message.
#[derive(Default)]
pub struct Parser {
    _private: (),
}

impl Parser {
    /// Reads one message. `message` is the unmasked payload of one WebSocket message (text or binary; bytes are checked to be UTF-8
    /// here). Key names match case-insensitively; the last occurrence of a key wins, as in Go (contract, A.5).
    /// `profile` decides nothing about the syntax but which commands exist: legacy sessions know 0, 10 and 11.
    ///
    /// # Errors
    /// [`Refused`] says why and for which `cid`.
    pub fn parse(&mut self, message: &[u8], profile: Profile) -> Result<Command, Refused> {
        let _ = (message, profile, Seq::ZERO);
        Err(Refused { reject: Reject::Malformed, cid: None })
    }
}
