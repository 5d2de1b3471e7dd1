//! What one shard's thread holds of the mesh: its inbox, and its way to the others.
//!
//! Owns: the receiving ends of every queue into the shard, the batch that is being read, and the
//! list of shards to wake at the end of the turn. Never: blocks, and never wakes twice for one
//! destination and turn. Bounds: each queue by its name in `limits.rs`; how much of them one turn
//! takes is the driver's business.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError};

use super::far::FarEndpoint;
use super::lane::{Batch, Lanes, Taken, pair};
use super::notice::NoticeBox;
use super::waker::ShardWaker;
use super::{Order, StopProgress};
use crate::ids::ShardId;
use crate::shard::{Answer, FarIn, FarOut, Notice, PeerMsg};
use crate::store::worker::Reply;

/// One shard's end of the mesh. `H` is what the driver hands over from shard to shard.
pub struct MeshEndpoint<H> {
    pub(super) me: ShardId,
    pub(super) shards: u16,
    pub(super) wakers: Arc<[ShardWaker]>,
    /// Which shards are to be woken at the end of the turn.
    pub(super) touched: Vec<bool>,
    pub(super) lanes: Lanes,
    pub(super) taken: Arc<[Taken]>,
    pub(super) batches: Receiver<Batch>,
    /// The batch that is being read.
    pub(super) reading: Option<(ShardId, std::vec::IntoIter<PeerMsg>)>,
    /// That batch, until it is asked when it was sent.
    pub(super) arrival: Option<Arrival>,
    pub(super) replies: Receiver<Vec<(u32, Reply)>>,
    /// The store's answers that are being read.
    pub(super) settling: std::vec::IntoIter<(u32, Reply)>,
    pub(super) notices: NoticeBox,
    pub(super) handovers_in: Receiver<Box<H>>,
    pub(super) handovers_out: Arc<[Sender<Box<H>>]>,
    /// The way to other gateways, if there are any.
    pub(super) far: Option<FarEndpoint>,
    pub(super) orders: Receiver<Order>,
    pub(super) progress: Sender<StopProgress>,
}

/// A batch of messages that has come from another shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// When the turn ended in which they were said, by the process's
    /// [`crate::clock::Clock::nanos`].
    pub sent_ns: u64,
    /// How many there are.
    pub msgs: u64,
}

impl<H> MeshEndpoint<H> {
    /// Which shard sits here.
    #[must_use]
    pub const fn me(&self) -> ShardId {
        self.me
    }

    /// How many shards there are.
    #[must_use]
    pub const fn shards(&self) -> u16 {
        self.shards
    }

    /// The next order of the node.
    pub fn order(&mut self) -> Option<Order> {
        self.orders.try_recv().ok()
    }

    /// The next answer of the store.
    pub fn settled(&mut self) -> Option<(u32, Reply)> {
        loop {
            if let Some(next) = self.settling.next() {
                return Some(next);
            }
            self.settling = self.replies.try_recv().ok()?.into_iter();
        }
    }

    /// The next message of another shard.
    pub fn peer(&mut self) -> Option<(ShardId, PeerMsg)> {
        loop {
            if let Some((from, msgs)) = &mut self.reading {
                if let Some(msg) = msgs.next() {
                    return Some((*from, msg));
                }
                self.reading = None;
            }
            let batch = self.batches.try_recv().ok()?;
            self.taken[pair(batch.from, self.me, self.shards)].add(batch.delivers);
            self.arrival = Some(Arrival { sent_ns: batch.sent_ns, msgs: batch.msgs.len() as u64 });
            self.reading = Some((batch.from, batch.msgs.into_iter()));
        }
    }

    /// The batch that the last [`MeshEndpoint::peer`] has begun to read, if it has begun one; told
    /// once.
    pub fn arrived(&mut self) -> Option<Arrival> {
        self.arrival.take()
    }

    /// The next notice of the control plane, with the number under which [`MeshEndpoint::answer`]
    /// settles it.
    pub fn notice(&mut self) -> Option<(u64, Notice)> {
        self.notices.take()
    }

    /// The next word of another gateway.
    pub fn heard_far(&mut self) -> Option<FarIn> {
        self.far.as_ref()?.next()
    }

    /// Says something to the other gateways, if there is room; what is lost they find in the
    /// database.
    pub fn tell_far(&mut self, what: FarOut) {
        if let Some(far) = &mut self.far {
            far.tell(what);
        }
    }

    /// The next connection handed to this shard.
    pub fn handed_over(&mut self) -> Option<Box<H>> {
        self.handovers_in.try_recv().ok()
    }

    /// Whether anything waits.
    #[must_use]
    pub fn has_mail(&self) -> bool {
        self.reading.is_some()
            || !self.settling.as_slice().is_empty()
            || !self.batches.is_empty()
            || !self.replies.is_empty()
            || !self.notices.is_empty()
            || self.far.as_ref().is_some_and(FarEndpoint::has_mail)
            || !self.handovers_in.is_empty()
            || !self.orders.is_empty()
    }

    /// Batches of other shards that wait: a gauge.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.batches.len()
    }

    /// Says `msg` to `to`, at the end of the turn.
    pub fn say(&mut self, to: ShardId, msg: PeerMsg) {
        self.lanes.put(to, msg);
    }

    /// Tells the lanes whose credit has changed.
    pub fn credits(&mut self, tell: impl FnMut(ShardId, u32, usize)) {
        self.lanes.credits(tell);
    }

    /// Answers the notice `id`.
    pub fn answer(&mut self, id: u64, answer: Answer) {
        self.notices.answer(id, answer);
    }

    /// Hands a connection over; it is heard of at the end of the turn.
    ///
    /// # Errors
    /// Gives it back when [`crate::limits::HANDOVERS_MAX`] wait there already, or the shard has
    /// ended.
    pub fn hand_over(&mut self, to: ShardId, what: Box<H>) -> Result<(), Box<H>> {
        match self.handovers_out[usize::from(to.0)].try_send(what) {
            Ok(()) => {
                self.touched[usize::from(to.0)] = true;
                Ok(())
            }
            Err(TrySendError::Full(what) | TrySendError::Disconnected(what)) => Err(what),
        }
    }

    /// Ends the turn at `now_ns`, by the process's [`crate::clock::Clock::nanos`]: one batch to
    /// each shard that something was said to, one wake for each that has something new. Answers how
    /// many had to be woken.
    pub fn flush(&mut self, now_ns: u64) -> u64 {
        if let Some(far) = &mut self.far {
            far.ring();
        }
        let touched = &mut self.touched;
        self.lanes.send(now_ns, |to| touched[usize::from(to.0)] = true);
        let mut woken = 0;
        for (waker, touched) in self.wakers.iter().zip(&mut self.touched) {
            if std::mem::take(touched) && waker.wake() {
                woken += 1;
            }
        }
        woken
    }

    /// Whether a full lane kept something back, so that [`MeshEndpoint::flush`] must be tried again
    /// soon.
    #[must_use]
    pub fn stuck(&self) -> bool {
        self.lanes.stuck()
    }

    /// Before the shard sleeps. Answers whether it may: `false` when something has come.
    #[must_use]
    pub fn arm(&self) -> bool {
        self.wakers[usize::from(self.me.0)].arm();
        !self.has_mail()
    }

    /// After it woke.
    pub fn disarm(&self) {
        self.wakers[usize::from(self.me.0)].disarm();
    }

    /// Reports to the node how far a stop has come.
    pub fn report(&self, progress: StopProgress) {
        // The node's list is as long as all reports together, and when the node has gone there
        // is no need to know.
        let _ = self.progress.try_send(progress);
    }
}

impl<H> Drop for MeshEndpoint<H> {
    fn drop(&mut self) {
        // A bounded channel keeps what is in it when its receiver goes; connections that wait here
        // would stay open and silent.
        while self.handovers_in.try_recv().is_ok() {}
    }
}
