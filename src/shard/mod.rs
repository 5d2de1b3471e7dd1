//! The heart: a pure state machine that owns users' sessions and orders conversations.
//!
//! (Skeleton: the signatures that driver and simulation build on; the shard step fills it.)

pub mod effect;
pub mod event;
pub mod outbox;
pub mod peer;

use std::rc::Rc;

pub use effect::{Effect, Effects};
pub use event::{Answer, Event, Hello, Notice};
pub use outbox::{Batch, Outbox};
pub use peer::PeerMsg;

use crate::clock::Now;
use crate::ids::{ConnId, NodeId, ShardId};
use crate::metrics::Tally;

/// What a shard is told when it is made.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Which shard this is.
    pub id: ShardId,
    /// Of how many.
    pub shards: u16,
    /// Of which node.
    pub node: NodeId,
    /// Random for each start of the process: part of server-made post keys, and the source of jitter.
    pub boot: u64,
    /// `durability = "volatile"`: no message is stored.
    pub volatile: bool,
    /// Pushes queued for one session before it is behind; at most [`crate::limits::OUTBOX_BYTES_MAX`].
    pub outbox_bytes: usize,
    /// Breaks one rule on purpose, so that the simulation can prove that it would notice. `None` outside tests.
    pub planted_bug: Option<PlantedBug>,
}

/// A rule to break (design, section 3). Only `tests/simulation.rs` sets it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlantedBug {
    /// Home acks a post when it is sent to the store.
    AckBeforeCommit,
    /// Posts without a key that the store could know again.
    SkippedDedupe,
    /// A session that went behind is not woken when its socket drains.
    LostWake,
    /// Home hands on what came last first.
    ReorderedFanOut,
    /// An overflow is forgotten: the session does not become behind.
    ForgottenBehindMark,
}

/// One shard's state.
pub struct Shard {
    setup: Setup,
    tally: Tally,
}

impl Shard {
    /// An empty shard.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        Self { setup, tally: Tally::default() }
    }

    /// Takes one event. The caller drains all effects before the next call.
    pub fn step(&mut self, now: Now, event: Event, effects: &mut Effects) {
        let _ = (now, event, effects, self.setup);
    }

    /// What is queued for a connection; `None` when nothing is.
    pub fn outbox(&mut self, conn: ConnId) -> Option<&mut Outbox> {
        let _ = conn;
        None
    }

    /// Gives back what a socket did not take of a broadcast: `written` bytes of `batch` were sent to `conn`.
    pub fn unsent(&mut self, conn: ConnId, batch: &Rc<Batch>, written: usize) {
        let _ = (conn, batch, written);
    }

    /// Whether [`Event::Sweep`] has something to do.
    #[must_use]
    pub fn sweep_due(&self) -> bool {
        false
    }

    /// Monotonic milliseconds at which [`Event::TurnEnd`] is due although nothing else happens; `None`: never.
    #[must_use]
    pub fn deadline_ms(&self) -> Option<u64> {
        None
    }

    /// Asks of this shard that are not settled: store, posts, notices. Zero after [`Event::Quiesce`] means that it may stop.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        0
    }

    /// The counters; the driver adds its own.
    pub fn tally(&mut self) -> &mut Tally {
        &mut self.tally
    }
}
