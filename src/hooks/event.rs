//! What webhooks are told.
//!
//! Owns: the kinds of events with their names, and their JSON.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::clock;
use crate::ids::{ConvId, GroupId, Seq, UserId};
use crate::wire::Packet;

/// Something that has happened.
#[derive(Clone, Debug)]
pub enum HookEvent {
    /// A direct message was stored, and `user`, to whom it is, has no session here. `None`: it
    /// found no room on its way to the user's shard; the conversation has messages up to `seq`.
    MessageOffline {
        /// The recipient.
        user: UserId,
        /// The conversation.
        conv: ConvId,
        /// Its place there.
        seq: Seq,
        /// The message.
        packet: Option<Arc<Packet>>,
    },
    /// A message of a group was stored, and these members have no session.
    GroupOffline {
        /// The group.
        group: GroupId,
        /// Its place there.
        seq: Seq,
        /// Which, without the author; at most [`crate::limits::HOOK_GROUP_USERS_MAX`].
        users: Arc<[UserId]>,
        /// There may be others.
        more: bool,
        /// The message.
        packet: Arc<Packet>,
    },
    /// A user was made.
    Registered {
        /// Which.
        user: UserId,
    },
    /// A user was deleted.
    Deleted {
        /// Which.
        user: UserId,
    },
    /// A user is a member of a group from now on.
    Joined {
        /// The group.
        group: GroupId,
        /// The user.
        user: UserId,
    },
    /// A user is no member of a group any more.
    Left {
        /// The group.
        group: GroupId,
        /// The user.
        user: UserId,
    },
}

impl HookEvent {
    const GROUP_OFFLINE: usize = 5;

    const fn kind(&self) -> usize {
        match self {
            Self::MessageOffline { .. } => 0,
            Self::Registered { .. } => 1,
            Self::Deleted { .. } => 2,
            Self::Joined { .. } => 3,
            Self::Left { .. } => 4,
            Self::GroupOffline { .. } => Self::GROUP_OFFLINE,
        }
    }
}

/// Which kinds of events are told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HookKinds(u8);

impl Default for HookKinds {
    /// All of them.
    fn default() -> Self {
        Self((1 << Self::NAMES.len()) - 1)
    }
}

impl HookKinds {
    /// The names of the kinds.
    pub const NAMES: [&str; 6] =
        ["message.offline", "user.registered", "user.deleted", "group.joined", "group.left", "message.group_offline"];

    /// The kinds of these names; `None`: a name that is none.
    #[must_use]
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let one = |name: &str| Self::NAMES.iter().position(|known| *known == name.trim());
        names.into_iter().try_fold(0, |all, name| Some(all | 1 << one(name)?)).map(Self)
    }

    /// Whether such an event is told.
    pub(super) fn has(self, event: &HookEvent) -> bool {
        self.0 >> event.kind() & 1 == 1
    }

    /// Whether messages are.
    pub(super) const fn has_messages(self) -> bool {
        self.0 & 1 == 1
    }

    /// Whether messages of groups are.
    pub(super) const fn has_group_messages(self) -> bool {
        self.0 >> HookEvent::GROUP_OFFLINE & 1 == 1
    }
}

/// An event in a queue.
#[derive(Clone, Debug)]
pub(super) struct Event {
    what: HookEvent,
    /// Counts the events of this process.
    number: u64,
    ts_ms: u64,
}

impl Event {
    /// What has happened now.
    pub(super) fn now(what: HookEvent, number: u64) -> Self {
        Self { what, number, ts_ms: clock::wall_ms() }
    }

    /// What it takes of memory, about.
    pub(super) fn bytes(&self) -> usize {
        let message = match &self.what {
            HookEvent::MessageOffline { packet: Some(packet), .. } => packet.frame().len(),
            HookEvent::GroupOffline { packet, users, .. } => packet.frame().len() + size_of_val(&**users),
            _ => 0,
        };
        size_of::<Self>() + message
    }

    /// Whether it is to be told: a user's notes to itself are not.
    pub(super) fn is_worth_telling(&self) -> bool {
        match &self.what {
            HookEvent::MessageOffline { user, packet: Some(packet), .. } => author(packet) != Some(user.get()),
            _ => true,
        }
    }

    /// What tells it from every other event: `boot` is drawn by lot at each start.
    pub(super) fn id(&self, boot: u64) -> String {
        format!("evt_{boot:016x}_{:x}", self.number)
    }

    /// Its JSON.
    pub(super) fn json(&self, boot: u64) -> String {
        let kind = HookKinds::NAMES.get(self.what.kind()).copied().unwrap_or_default();
        let mut out = json!({ "id": self.id(boot), "kind": kind, "ts": self.ts_ms });
        match &self.what {
            HookEvent::MessageOffline { user, conv, seq, packet } => {
                out["user"] = user.get().into();
                out["peer"] = conv.dstid_for(*user).into();
                out["seq"] = seq.get().into();
                return with_message(out, packet.as_deref());
            }
            HookEvent::GroupOffline { group, seq, users, more, packet } => {
                out["group"] = group.get().into();
                out["seq"] = seq.get().into();
                out["users"] = users.iter().map(|user| user.get()).collect();
                out["more"] = (*more).into();
                return with_message(out, Some(packet));
            }
            HookEvent::Registered { user } | HookEvent::Deleted { user } => out["user"] = user.get().into(),
            HookEvent::Joined { group, user } | HookEvent::Left { group, user } => {
                out["group"] = group.get().into();
                out["user"] = user.get().into();
            }
        }
        out.to_string()
    }
}

/// The event with its message as its recipients get it: numbers that are too long for this program
/// are not for others. Only line breaks, which in JSON stand between values alone, become blanks:
/// an event is a line of a journal.
fn with_message(mut event: Value, packet: Option<&Packet>) -> String {
    event["message"] = Value::Null;
    let mut text = event.to_string();
    let message = packet.and_then(|packet| std::str::from_utf8(packet.json()).ok());
    if let (Some(message), Some(at)) = (message, text.find(NO_MESSAGE)) {
        let message = message.replace(['\n', '\r'], " ");
        text.replace_range(at + NO_MESSAGE.len() - "null".len()..at + NO_MESSAGE.len(), &message);
    }
    text
}

/// Nothing of an event in front of it is a text that a user has chosen.
const NO_MESSAGE: &str = "\"message\":null";

/// The number of the author of a message.
pub(super) fn author(packet: &Packet) -> Option<u64> {
    serde_json::from_slice::<Value>(packet.json()).ok()?["userid"].as_u64()
}
