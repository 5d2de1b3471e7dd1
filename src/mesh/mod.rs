//! Where threads meet: the lanes between shards, the store's answers, the control plane's notices,
//! hand-overs, and the node's orders.
//!
//! Owns: every queue into a shard, its bound, and the waker that wakes the shard (`waker`). One
//! FIFO per ordered pair of shards (`lane`), the callbacks of the control plane (`notice`), and
//! what a shard's thread holds of all this ([`MeshEndpoint`], in `inbox`). Never: blocks; a queue
//! that is full says so. Never knows what is handed over: that is the driver's type. Bounds: asks
//! and settles are reserved by the threads that ask, so their queues are as long as all
//! reservations and never full; deliveries by [`crate::limits::DELIVER_MSGS_PER_LANE_MAX`],
//! hand-overs by [`HANDOVERS_MAX`], notices by [`crate::limits::NOTICES_MAX`].

mod adjusted;
mod far;
mod inbox;
mod lane;
mod notice;
#[cfg(test)]
mod tests;
mod waker;

use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError};
use imgate_tls::Session;
use mio::{Poll, Token, Waker};

pub use self::adjusted::Adjusted;
pub use self::far::{FarEnd, Here, Movements, Outgoing, Wake};
pub use self::inbox::{Arrival, MeshEndpoint};
pub use self::notice::Notices;
use self::waker::ShardWaker;
use crate::caller::Peer;
use crate::ids::ShardId;
use crate::limits::{ADJUSTMENTS_WAITING_MAX, HANDOVERS_MAX, LANE_BATCHES_MAX, ORDERS_MAX, STORE_ASKS_MAX};
use crate::shard::Drain;
use crate::store::worker::{Replies, Reply};

/// What a queue between threads says when it is full or its reader has stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("busy")]
pub struct Full;

/// The token under which a waker shows in its shard's poll.
pub const WAKER: Token = Token(usize::MAX);

/// What the node orders a shard to do. But for the first, each at most once, in this order.
#[derive(Clone, Debug)]
pub enum Order {
    /// Go by other settings.
    Adjust(Arc<Adjusted>),
    /// Close the listeners; take no new connection.
    StopAccepting,
    /// Refuse posts from now on; report [`StopProgress::Quiet`] when no ask is outstanding.
    Quiesce,
    /// Close every session as the [`Drain`] says; report [`StopProgress::Empty`] when no connection
    /// is left.
    CloseAll(Drain),
    /// End the thread; report [`StopProgress::Over`] first.
    Exit,
}

/// How far a shard has come in stopping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopProgress {
    /// All asks of this shard are settled.
    Quiet(ShardId),
    /// No connection is left.
    Empty(ShardId),
    /// The thread ends, with what it leaves behind.
    Over {
        /// The shard.
        shard: ShardId,
        /// Connections whose sockets are still open.
        open: usize,
        /// Sessions that were not told to end.
        unreached: usize,
        /// Asks that are not settled.
        unanswered: usize,
    },
}

/// A connection on its way from one thread to another: a socket that is registered nowhere, and the
/// TLS session on it, with a record that may be cut.
#[derive(Debug)]
pub struct Wire {
    /// Non-blocking.
    pub socket: TcpStream,
    /// Bytes are plain without one.
    pub tls: Option<Session>,
}

/// Where the gate hands over what is no upgrade. Implemented by the control plane, called on shard
/// threads, never blocks.
pub trait ControlPlane: Send + Sync {
    /// Takes over a non-blocking connection of `peer` with the bytes already read from it.
    ///
    /// # Errors
    /// Too many; the connection comes back with its bytes, so that it can be told 503.
    fn serve(&self, wire: Wire, read: Vec<u8>, peer: Peer) -> Result<(), (Wire, Vec<u8>)>;

    /// How many connections it holds: they are the process's like those of the shards. May be a
    /// little old.
    fn connections(&self) -> usize;
}

/// The way back: a kept-alive HTTP connection that turns out to be an upgrade goes to a shard's
/// gate again, with its request head re-written in `read`.
pub trait Gate: Send + Sync {
    /// Takes over a non-blocking connection of `peer`.
    ///
    /// # Errors
    /// [`Full`]: the connection comes back.
    fn admit(&self, wire: Wire, read: Vec<u8>, peer: Peer) -> Result<(), Wire>;
}

/// A shard's poll, with the waker registered as [`WAKER`], and its end of the mesh.
pub type ShardEnd<H> = (Poll, MeshEndpoint<H>);

/// Everything that [`build`] makes.
pub struct Mesh<H> {
    /// One for each shard.
    pub endpoints: Vec<ShardEnd<H>>,
    /// For the control plane.
    pub notices: Notices,
    /// For the store.
    pub replies: Arc<StoreReplies>,
    /// For the control plane's [`Gate`].
    pub handovers: HandOverSenders<H>,
    /// For the node.
    pub orders: Orders,
    /// What the shards report to the node.
    pub progress: Receiver<StopProgress>,
}

/// Builds the mesh of `shards` shards.
///
/// # Errors
/// The operating system has no descriptors left for polls and wakers.
pub fn build<H: Send>(shards: u16) -> io::Result<Mesh<H>> {
    let n = usize::from(shards);
    let polls = (0..n).map(|_| Poll::new()).collect::<io::Result<Vec<_>>>()?;
    let wakers = polls.iter().map(|poll| Ok(ShardWaker::new(Waker::new(poll.registry(), WAKER)?)));
    let wakers: Arc<[ShardWaker]> = wakers.collect::<io::Result<Vec<_>>>()?.into();
    let taken = lane::taken_table(shards);
    let (batches_in, batches_out) = channels(n, LANE_BATCHES_MAX * n);
    let (replies_in, replies_out) = channels(n, STORE_ASKS_MAX as usize);
    let (handovers_in, handovers_out) = channels(n, HANDOVERS_MAX);
    let (orders_in, orders_out) = channels(n, ORDERS_MAX);
    let (progress_in, progress) = crossbeam_channel::bounded(n * ORDERS_MAX);
    let (notices, notice_boxes) = notice::queues(&wakers);
    let handovers_in: Arc<[Sender<Box<H>>]> = handovers_in.into();
    let ends = batches_out.into_iter().zip(replies_out).zip(handovers_out).zip(orders_out).zip(notice_boxes);
    let endpoints = ends.enumerate().map(|(i, ((((batches, replies), handovers), orders), notices))| {
        let me = ShardId(u16::try_from(i).expect("there are at most u16::MAX shards"));
        MeshEndpoint {
            me,
            shards,
            wakers: Arc::clone(&wakers),
            touched: vec![false; n],
            lanes: lane::Lanes::new(me, batches_in.clone(), Arc::clone(&taken)),
            taken: Arc::clone(&taken),
            batches,
            reading: None,
            arrival: None,
            replies,
            settling: Vec::new().into_iter(),
            notices,
            far: None,
            handovers_in: handovers,
            handovers_out: Arc::clone(&handovers_in),
            orders,
            progress: progress_in.clone(),
        }
    });
    Ok(Mesh {
        endpoints: polls.into_iter().zip(endpoints).collect(),
        notices,
        replies: Arc::new(StoreReplies { to: replies_in, wakers: Arc::clone(&wakers) }),
        handovers: HandOverSenders { to: handovers_in, wakers: Arc::clone(&wakers) },
        orders: Orders { to: orders_in.into(), wakers },
        progress,
    })
}

fn channels<T>(n: usize, capacity: usize) -> (Vec<Sender<T>>, Vec<Receiver<T>>) {
    (0..n).map(|_| crossbeam_channel::bounded(capacity)).unzip()
}

/// The store's way back to the shards.
pub struct StoreReplies {
    to: Vec<Sender<Vec<(u32, Reply)>>>,
    wakers: Arc<[ShardWaker]>,
}

impl Replies for StoreReplies {
    fn settle(&self, shard: ShardId, replies: Vec<(u32, Reply)>) {
        let index = usize::from(shard.0);
        match self.to[index].try_send(replies) {
            Ok(()) => {
                self.wakers[index].wake();
            }
            // The shard has ended: the last stage of a stop. No thread is left to be told.
            Err(TrySendError::Disconnected(_)) => {}
            // As many places as a shard may have asks, and each hand-in settles at least one. A
            // lost answer would be an ask that never ends.
            Err(TrySendError::Full(_)) => unreachable!("a shard has at most STORE_ASKS_MAX asks"),
        }
    }
}

/// The hand-over queues, for threads that are no shard.
pub struct HandOverSenders<H> {
    to: Arc<[Sender<Box<H>>]>,
    wakers: Arc<[ShardWaker]>,
}

impl<H> HandOverSenders<H> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.to.len()
    }

    /// Never: there is at least one shard.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.to.is_empty()
    }

    /// Hands something to shard number `index` and wakes it.
    ///
    /// # Errors
    /// Gives it back when [`HANDOVERS_MAX`] wait there already, or the shard has ended.
    pub fn hand_over(&self, index: usize, what: Box<H>) -> Result<(), Box<H>> {
        match self.to[index].try_send(what) {
            Ok(()) => {
                self.wakers[index].wake();
                Ok(())
            }
            Err(TrySendError::Full(what) | TrySendError::Disconnected(what)) => Err(what),
        }
    }
}

/// The node's way to the shards; clones share it.
#[derive(Clone)]
pub struct Orders {
    to: Arc<[Sender<Order>]>,
    wakers: Arc<[ShardWaker]>,
}

impl Orders {
    /// Gives an order to every shard.
    pub fn all(&self, order: &Order) {
        for (to, waker) in self.to.iter().zip(self.wakers.iter()) {
            // Each order of a stop is given once, and others leave room for them; a shard that has
            // ended needs none.
            let _ = to.try_send(order.clone());
            waker.wake();
        }
    }

    /// Whether every shard has taken up so many of the adjustments before that it has room for one
    /// more ([`ADJUSTMENTS_WAITING_MAX`]).
    #[must_use]
    pub fn may_adjust(&self) -> bool {
        self.to.iter().all(|orders| orders.len() < ADJUSTMENTS_WAITING_MAX)
    }

    /// Has every shard go by other settings, if it may ([`Orders::may_adjust`]).
    pub fn adjust(&self, to: Adjusted) {
        if self.may_adjust() {
            self.all(&Order::Adjust(Arc::new(to)));
        }
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.to.len()
    }
}
