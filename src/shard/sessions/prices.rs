//! What every command and frame costs its sender: the one table.
//!
//! Owns: [`Price`]. A unit is about half a microsecond of a shard; what works for others besides
//! (the store, a lane, other sessions) costs as much more.
//! Never: knows the payer. Answers to what the server has asked cost nothing.

use crate::limits::{WATCH_USERS_MAX, WATCH_USERS_PER_UNIT};
use crate::wire::Command;

/// A price in the three currencies of a pace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shard) struct Price {
    /// Units of work.
    pub cost: u64,
    /// Messages: text and binary ones, whatever they say.
    pub messages: u64,
    /// Bytes as they came over the wire, inflated.
    pub bytes: u64,
}

const fn message(cost: u64) -> Price {
    Price { cost, messages: 1, bytes: 0 }
}

const fn frame(cost: u64) -> Price {
    Price { cost, messages: 0, bytes: 0 }
}

impl Price {
    /// A heartbeat: parsed, and an answer.
    pub(in crate::shard) const HEARTBEAT: Self = message(1);
    /// A ping: an answer.
    pub(in crate::shard) const PING: Self = frame(1);
    /// A pong that was not asked for: is of no use.
    pub(in crate::shard) const PONG: Self = frame(4);
    /// A fragment of a message: a message can be sent whole.
    pub(in crate::shard) const FRAGMENT: Self = frame(4);
    /// A message that is no command: parsed, and a refusal.
    pub(in crate::shard) const UNREADABLE: Self = message(4);
    /// A post or a recall, its way to its home and back included; the store is paid for by the
    /// bound on unanswered ones.
    pub(in crate::shard) const POST: Self = message(4);
    /// Typing, or a word about what was received and read.
    pub(in crate::shard) const WORD: Self = message(4);
    /// A word about a conversation that does not exist: the store was asked for nothing.
    pub(in crate::shard) const VAIN_WORD: Self = frame(28);
    /// A page of a conversation, or of the list of conversations: a read and up to 256 KiB.
    pub(in crate::shard) const PAGE: Self = message(32);
    /// A begun KiB that compression has saved on the wire, in one read.
    pub(in crate::shard) const INFLATED_KIB: Self = frame(1);

    /// Of a list of `users` to be watched: each is looked up here and at its own shard.
    pub(in crate::shard) fn watch(users: usize) -> Self {
        let users = u64::try_from(users.min(WATCH_USERS_MAX)).unwrap_or(0);
        message(1 + users / WATCH_USERS_PER_UNIT)
    }

    /// Of a command.
    pub(in crate::shard) fn of(command: &Command) -> Self {
        match command {
            Command::Heartbeat => Self::HEARTBEAT,
            Command::Post(_) | Command::Say(_) | Command::Recall(_) => Self::POST,
            Command::Sync(_) | Command::Convs(_) => Self::PAGE,
            Command::Cursor(_) | Command::Typing(_) => Self::WORD,
            Command::Watch(users) => Self::watch(users.len()),
        }
    }

    /// What was read besides: so many bytes, fragments, and bytes that compression has saved.
    pub(in crate::shard) fn of_read(bytes: usize, fragments: u32, inflated: usize) -> Self {
        let kib = u64::try_from(inflated.div_ceil(1024)).unwrap_or(u64::MAX);
        let fragments = Self::FRAGMENT.cost * u64::from(fragments);
        Self {
            cost: fragments.saturating_add(kib.saturating_mul(Self::INFLATED_KIB.cost)),
            messages: 0,
            bytes: u64::try_from(bytes.saturating_add(inflated)).unwrap_or(u64::MAX),
        }
    }
}
