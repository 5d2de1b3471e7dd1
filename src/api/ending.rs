//! The end of a port's connections: each is told, and has time for what is under way.
//!
//! Owns: [`Ending`], of one port; [`AdminPort`], which goes on while the public one ends.
//! Never: counts a connection on which nothing was asked: when it is cut off, nothing is lost.
//! Bounds: the patience that it is given.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

use super::slots::ConnectionSlots;

/// What a connection has to do with the end of its port.
#[derive(Clone)]
pub(super) struct Mortal {
    /// Turns true once.
    pub(super) stop: watch::Receiver<bool>,
    /// Closed when the last connection has gone: each has a copy.
    pub(super) alive: mpsc::Sender<()>,
}

/// The other end of all copies of a [`Mortal`].
pub(super) struct Ending {
    stop: watch::Sender<bool>,
    gone: mpsc::Receiver<()>,
}

impl Ending {
    pub(super) fn new() -> (Self, Mortal) {
        let (stop, stopped) = watch::channel(false);
        let (alive, gone) = mpsc::channel(1);
        (Self { stop, gone }, Mortal { stop: stopped, alive })
    }

    /// Tells them, waits for at most `patience`, and then ends the runtime; how many requests were
    /// under way then. Blocks.
    pub(super) fn end(mut self, runtime: Runtime, slots: &ConnectionSlots, patience: Duration) -> usize {
        // The receivers live in the contexts; without any there is nothing left to tell.
        self.stop.send_replace(true);
        let ended = runtime.block_on(async { tokio::time::timeout(patience, self.gone.recv()).await });
        let cut = if ended.is_err() { slots.busy() } else { 0 };
        runtime.shutdown_background();
        cut
    }
}

/// The admin port of a gateway whose public one has ended.
pub struct AdminPort {
    pub(super) runtime: Runtime,
    pub(super) ending: Ending,
    pub(super) slots: Arc<ConnectionSlots>,
}

impl AdminPort {
    /// As [`super::ApiHandle::stop_public`], of this port. Blocks.
    pub fn stop(self, patience: Duration) -> usize {
        self.ending.end(self.runtime, &self.slots, patience)
    }
}
