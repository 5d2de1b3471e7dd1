//! The store's threads and their queues: group commit for writes, separate threads for reads.
//!
//! Owns: the queues, the threads, the retry of transient errors in order.
//! Never: refuses a shard; a shard reserves its place before it asks ([`crate::limits::STORE_ASKS_MAX`]), so the queues
//! are as long as all reservations together. The control plane is refused when its share is full.
//! (Skeleton: signatures that the other rooms build on; the store step fills it.)

use super::{Backend, Error, Read, ReadAnswer, Write, Written};
use crate::ids::ShardId;

/// Who asked: the shard, and the number under which it remembers the ask.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket {
    /// Where the answer goes.
    pub shard: ShardId,
    /// The shard's own number for it; comes back unchanged.
    pub ask: u32,
}

/// The answer to one ask of a shard. Every ask gets exactly one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// To a [`Write`].
    Written(Result<Written, Error>),
    /// To a [`Read`].
    Read(Result<ReadAnswer, Error>),
}

/// Where answers go: the mesh, or a test's list. Called from the store's threads, once per commit or batch of reads and shard.
pub trait Replies: Send + Sync {
    /// Hands `replies` (ask number, answer) to `shard` and wakes it. Order is kept per caller.
    fn settle(&self, shard: ShardId, replies: Vec<(u32, Reply)>);
}

/// What the control plane runs on a store thread; it brings its own way to answer.
pub type Call = Box<dyn FnOnce(&mut dyn Backend) + Send>;

/// The control plane's share of the queue is full, or the store has stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the store is busy")]
pub struct Busy;

/// A cheap handle on the running store; clones share it.
#[derive(Clone)]
pub struct Store {
    _private: (),
}

impl Store {
    /// Queues a write of a shard. The conversation decides the worker.
    pub fn write(&self, ticket: Ticket, write: Write) {
        let _ = (ticket, write);
    }

    /// Queues a read of a shard.
    pub fn read(&self, ticket: Ticket, read: Read) {
        let _ = (ticket, read);
    }

    /// Runs `call` on a writing connection, in its own transaction(s), in order with what was queued before.
    ///
    /// # Errors
    /// [`Busy`]: it will not run.
    pub fn call(&self, call: Call) -> Result<(), Busy> {
        drop(call);
        Err(Busy)
    }

    /// Runs `call` on a reading connection.
    ///
    /// # Errors
    /// [`Busy`]: it will not run.
    pub fn query(&self, call: Call) -> Result<(), Busy> {
        drop(call);
        Err(Busy)
    }
}
