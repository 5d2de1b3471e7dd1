//! Where threads meet: the lanes between shards, the store's answers, the control plane's notices, hand-overs.
//!
//! (Skeleton: the signatures that the control plane builds on; the driver step fills it.)

use std::net::TcpStream;

use crate::ids::ShardId;
use crate::shard::event::{Answer, Notice};

/// What a queue between threads says when it is full or its reader has stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("busy")]
pub struct Full;

/// The control plane's way to the shards; clones share it.
#[derive(Clone)]
pub struct Notices {
    _private: (),
}

impl Notices {
    /// How many shards there are, for [`crate::ids::shard_of`] and [`crate::ids::home_of`].
    #[must_use]
    pub fn shards(&self) -> u16 {
        1
    }

    /// Sends `notice` to `shard`; `then` is called once, on the shard's thread, with the answer: it must only pass it on. When the shard ends without an
    /// answer, `then` is dropped.
    ///
    /// # Errors
    /// [`Full`]: nothing was sent; `then` was dropped.
    pub fn ask(&self, shard: ShardId, notice: Notice, then: Box<dyn FnOnce(Answer) + Send>) -> Result<(), Full> {
        let _ = (shard, notice);
        drop(then);
        Err(Full)
    }
}

/// Where the gate hands over what is no upgrade. Implemented by the control plane, called on shard threads, never blocks.
pub trait ControlPlane: Send + Sync {
    /// Takes over a non-blocking connection with the bytes already read from it.
    ///
    /// # Errors
    /// [`Full`]: too many; the connection comes back, so that it can be told 503.
    fn serve(&self, stream: TcpStream, read: Vec<u8>) -> Result<(), TcpStream>;
}

/// The way back: a kept-alive HTTP connection that turns out to be an upgrade goes to a shard's gate again, with its request head re-written in `read`.
pub trait Gate: Send + Sync {
    /// Takes over a non-blocking connection.
    ///
    /// # Errors
    /// [`Full`]: the connection comes back.
    fn admit(&self, stream: TcpStream, read: Vec<u8>) -> Result<(), TcpStream>;
}
