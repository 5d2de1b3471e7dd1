//! What a shard is told when it is made.
//!
//! Owns: [`Setup`] with the policy of devices and the paces of users, and the rules that the
//! simulation can have broken ([`PlantedBug`]).

use crate::fair::Flow;
use crate::ids::{NodeId, ShardId};
use crate::limits;
use crate::metrics::names;
use crate::wire::Device;

/// What a shard is told when it is made.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Which shard this is.
    pub id: ShardId,
    /// Of how many.
    pub shards: u16,
    /// Of which node.
    pub node: NodeId,
    /// Random for each start of the process: part of server-made post keys, and the source of
    /// jitter.
    pub boot: u64,
    /// `durability = "volatile"`: no message is stored.
    pub volatile: bool,
    /// Pushes queued for one session before it is behind; at most [`limits::OUTBOX_BYTES_MAX`].
    pub outbox_bytes: usize,
    /// This shard's equal part of what all outboxes of the process may keep alive. It is asked to
    /// let go of more only beyond it.
    pub outbox_part: usize,
    /// How long the messages of a busy group may wait for each other, in milliseconds; 0: they
    /// never do. At most [`limits::COALESCE_MS_MAX`].
    pub coalesce_ms: u32,
    /// Bytes of a message from which on sessions that agreed upon it get it compressed.
    pub compression_min_bytes: usize,
    /// Silence in milliseconds after which the server pings; at most
    /// [`limits::PING_AFTER_MS_MAX`].
    pub ping_after_ms: u64,
    /// Silence in milliseconds after which a connection is dead; at most [`limits::IDLE_MS_MAX`],
    /// and more than twice `ping_after_ms`.
    pub idle_after_ms: u64,
    /// How long the response to an upgrade may wait for what its session is told first, in
    /// milliseconds.
    pub response_ms_max: u64,
    /// How many devices of one user may be here at once.
    pub devices: DevicePolicy,
    /// How fast users and guests may go.
    pub pace: PaceLimits,
    /// Other gateways of the same database are to hear at once of what is stored here.
    pub clustered: bool,
    /// Direct messages to users without a session are told
    /// ([`Effect::Offline`](super::Effect::Offline)).
    pub tells_offline: bool,
    /// Messages of groups are told when they are stored
    /// ([`Effect::GroupStored`](super::Effect::GroupStored)).
    pub tells_group: bool,
    /// Breaks one rule on purpose, so that the simulation can prove that it would notice. `None`
    /// outside tests.
    pub planted_bug: Option<PlantedBug>,
}

/// A rule to break. Only `tests/simulation.rs` sets it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlantedBug {
    /// Home acks a post when it is sent to the store.
    AckBeforeCommit,
    /// Posts without a key that the store could know again.
    SkippedDedupe,
    /// A session that went behind is not woken when its socket drains.
    LostWake,
    /// Of a group's messages in one turn the last comes first.
    ReorderedFanOut,
    /// An overflow is forgotten: the session does not become behind.
    ForgottenBehindMark,
    /// A legacy session's messages count as received when the ping behind them is sent, not when
    /// its pong has come.
    UnprovenCursor,
    /// A legacy session opens without what it has missed.
    ForgottenReplay,
    /// A cursor that the store did not take is not stored again.
    LostWord,
    /// A session opens before the homes of its groups have confirmed that they send to its shard.
    UnheardInterest,
    /// A home believes a shard that it has no member, although it has just told it of a member.
    StaleFarewell,
    /// What a user spends is not counted.
    UnpacedGreed,
    /// A session that was not read because its user went too fast is not read again.
    LostRefill,
    /// A home that knows nothing begins with the first message of another gateway that it hears of.
    WrongBase,
    /// What the digest says is not believed.
    IgnoredDigest,
    /// A home that forgets a conversation remembers nothing of it.
    ForgottenMemo,
    /// A session takes the place of another when it knocks, before it is let in.
    EarlyReplacement,
    /// A session whose peer had given up takes the place of another.
    PlaceForTheGone,
    /// An old page is shown again what its user has read elsewhere a moment ago.
    UnguardedPage,
    /// What an old page has missed of the conversation that comes first takes all places.
    GreedyReplay,
}

/// What of a [`Setup`] may change while the shard runs; each means the same as there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Adjustable {
    /// Pushes queued for one session before it is behind.
    pub outbox_bytes: usize,
    /// How long the messages of a busy group may wait for each other.
    pub coalesce_ms: u32,
    /// Bytes of a message from which on it is compressed.
    pub compression_min_bytes: usize,
    /// Silence after which the server pings.
    pub ping_after_ms: u64,
    /// Silence after which a connection is dead.
    pub idle_after_ms: u64,
    /// For sessions that open from now on.
    pub devices: DevicePolicy,
    /// How fast users and guests may go.
    pub pace: PaceLimits,
}

impl Setup {
    /// The same with other settings.
    pub(super) fn adjusted(self, to: &Adjustable) -> Self {
        let Adjustable {
            outbox_bytes,
            coalesce_ms,
            compression_min_bytes,
            ping_after_ms,
            idle_after_ms,
            devices,
            pace,
        } = *to;
        let adjusted = Self {
            outbox_bytes,
            coalesce_ms,
            compression_min_bytes,
            ping_after_ms,
            idle_after_ms,
            devices,
            pace,
            ..self
        };
        adjusted.bounded()
    }

    /// The same within the hard limits.
    pub(super) fn bounded(self) -> Self {
        Self {
            outbox_bytes: self.outbox_bytes.min(limits::OUTBOX_BYTES_MAX),
            coalesce_ms: self.coalesce_ms.min(limits::COALESCE_MS_MAX),
            ..self
        }
    }
}

/// Which devices of one user may coexist.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DevicePolicy {
    /// Of all classes together, `1..=SESSIONS_PER_USER_MAX`.
    pub total: usize,
    /// Of each class, in the order of [`Device::ALL`].
    pub of_class: [usize; Device::ALL.len()],
}

impl Default for DevicePolicy {
    fn default() -> Self {
        Self { total: limits::DEVICES_DEFAULT, of_class: [limits::DEVICES_DEFAULT; Device::ALL.len()] }
    }
}

impl DevicePolicy {
    /// How many of `device`'s class may coexist.
    pub(super) fn of(&self, device: Device) -> usize {
        let class = Device::ALL.iter().position(|&other| other == device);
        class.and_then(|class| self.of_class.get(class)).copied().unwrap_or(self.total)
    }
}

/// The currencies of a pace: units of work, messages, bytes; in the order of
/// [`names::PACE_LABELS`].
pub(super) const CURRENCIES: usize = names::PACE_LABELS.len();

/// How fast users and guests may go. All zero: as fast as they can.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PaceLimits {
    /// Of a user, all sessions together: units of work, messages, bytes.
    pub user: [Flow; CURRENCIES],
    /// Of one guest of `/chatroom`: the same.
    pub guest: [Flow; CURRENCIES],
}
