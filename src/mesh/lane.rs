//! The lanes from one shard to all shards: one FIFO per ordered pair, carried in batches.
//!
//! Owns: what was said in this turn and has not left yet, and how many deliveries the receivers
//! have still to take. Never: refuses. Asks and settles have reserved places; deliveries are
//! counted, and the shard is told the credit beforehand ([`Event::Credit`]). Bounds: a lane holds
//! at most the asks and settles of [`crate::limits::POSTS_PER_LANE_MAX`] and of the notices, and
//! [`DELIVER_MSGS_PER_LANE_MAX`] deliveries of [`DELIVER_BYTES_PER_LANE_MAX`] bytes, wherever they
//! are: pending here or in the channel.
//!
//! [`Event::Credit`]: crate::shard::Event::Credit

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Sender, TrySendError};

use crate::ids::ShardId;
use crate::limits::{DELIVER_BYTES_PER_LANE_MAX, DELIVER_MSGS_PER_LANE_MAX};
use crate::shard::PeerMsg;

/// What one shard said to another in one turn.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) from: ShardId,
    pub(super) msgs: Vec<PeerMsg>,
    /// When the turn ended, by [`crate::clock::Clock::nanos`].
    pub(super) sent_ns: u64,
    /// Deliveries among `msgs`, and their bytes.
    pub(super) delivers: Load,
}

/// A number of deliveries and their bytes; as a counter it only grows.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Load {
    msgs: u64,
    bytes: u64,
}

impl Load {
    fn add(&mut self, other: Self) {
        self.msgs += other.msgs;
        self.bytes += other.bytes;
    }
}

/// How much of a lane its receiver has taken since the start. Written by the receiver alone, read
/// by the sender alone; a cache line of its own (two, because processors fetch them in pairs), so
/// that lanes do not slow each other down.
#[derive(Default, Debug)]
#[repr(align(128))]
pub(super) struct Taken {
    msgs: AtomicU64,
    bytes: AtomicU64,
}

impl Taken {
    /// The receiver has taken a batch.
    pub(super) fn add(&self, load: Load) {
        // One writer: a load and a store are enough, and no bus is locked.
        self.msgs.store(self.msgs.load(Ordering::Relaxed) + load.msgs, Ordering::Release);
        self.bytes.store(self.bytes.load(Ordering::Relaxed) + load.bytes, Ordering::Release);
    }

    fn load(&self) -> Load {
        Load { msgs: self.msgs.load(Ordering::Acquire), bytes: self.bytes.load(Ordering::Acquire) }
    }
}

/// The counters of all ordered pairs.
pub(super) fn taken_table(shards: u16) -> Arc<[Taken]> {
    (0..usize::from(shards) * usize::from(shards)).map(|_| Taken::default()).collect()
}

/// The place of a pair in [`taken_table`].
pub(super) fn pair(from: ShardId, to: ShardId, shards: u16) -> usize {
    usize::from(from.0) * usize::from(shards) + usize::from(to.0)
}

/// The lanes that leave one shard.
#[derive(Debug)]
pub(super) struct Lanes {
    me: ShardId,
    lanes: Vec<Lane>,
    taken: Arc<[Taken]>,
}

#[derive(Debug)]
struct Lane {
    channel: Sender<Batch>,
    /// Said, not sent: this turn's messages, and those that a full channel left here.
    pending: Vec<PeerMsg>,
    /// Deliveries in `pending`.
    pending_delivers: Load,
    /// Deliveries ever put into the lane.
    put: Load,
    /// What the receiver had taken when the shard was last told its credit.
    told: Load,
}

impl Lanes {
    pub(super) fn new(me: ShardId, channels: Vec<Sender<Batch>>, taken: Arc<[Taken]>) -> Self {
        let lane = |channel| Lane {
            channel,
            pending: Vec::new(),
            pending_delivers: Load::default(),
            put: Load::default(),
            told: Load::default(),
        };
        Self { me, lanes: channels.into_iter().map(lane).collect(), taken }
    }

    /// Queues a message; it leaves with [`Lanes::send`].
    pub(super) fn put(&mut self, to: ShardId, msg: PeerMsg) {
        let lane = &mut self.lanes[usize::from(to.0)];
        if msg.is_deliver() {
            let load = Load { msgs: 1, bytes: msg.bytes() as u64 };
            lane.put.add(load);
            lane.pending_delivers.add(load);
        }
        lane.pending.push(msg);
    }

    /// The lanes whose receiver has taken deliveries since their credit was last told, with their
    /// credit now.
    pub(super) fn credits(&mut self, mut tell: impl FnMut(ShardId, u32, usize)) {
        let shards = self.lanes.len();
        for (to, lane) in self.lanes.iter_mut().enumerate() {
            let taken = self.taken[usize::from(self.me.0) * shards + to].load();
            if taken == lane.told {
                continue;
            }
            lane.told = taken;
            // The two counters are read one after the other; a batch taken in between shows in the
            // next turn.
            let msgs = u32::try_from(lane.put.msgs.saturating_sub(taken.msgs)).unwrap_or(u32::MAX);
            let bytes = usize::try_from(lane.put.bytes.saturating_sub(taken.bytes)).unwrap_or(usize::MAX);
            let to = ShardId(u16::try_from(to).expect("there are at most u16::MAX shards"));
            tell(to, DELIVER_MSGS_PER_LANE_MAX.saturating_sub(msgs), DELIVER_BYTES_PER_LANE_MAX.saturating_sub(bytes));
        }
    }

    /// Sends one batch, stamped with the time `now_ns`, to every shard that something was said to;
    /// `sent` is called for each. What a full channel does not take stays, in order.
    pub(super) fn send(&mut self, now_ns: u64, mut sent: impl FnMut(ShardId)) {
        for (to, lane) in self.lanes.iter_mut().enumerate() {
            if lane.pending.is_empty() {
                continue;
            }
            let msgs = std::mem::take(&mut lane.pending);
            let batch = Batch { from: self.me, msgs, sent_ns: now_ns, delivers: lane.pending_delivers };
            match lane.channel.try_send(batch) {
                Ok(()) => {
                    lane.pending_delivers = Load::default();
                    sent(ShardId(u16::try_from(to).expect("there are at most u16::MAX shards")));
                }
                Err(TrySendError::Full(batch)) => lane.pending = batch.msgs,
                // The receiver has ended; so will we. Nothing that it should have done is owed any
                // more.
                Err(TrySendError::Disconnected(_)) => lane.pending_delivers = Load::default(),
            }
        }
    }

    /// Whether a full channel left something here.
    pub(super) fn stuck(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.pending.is_empty())
    }
}
