//! The waker of one shard: wakes its poll, but only when it sleeps.
//!
//! Owns: the armed flag, and the fences between it and the queues. Never: wakes a shard that is
//! awake; that shard looks into its inbox before it sleeps. A wake is a system call, a look is not.

use std::sync::atomic::{AtomicBool, Ordering, fence};

use mio::Waker;

/// One shard's waker; shared with every thread that may put something into its inbox.
#[derive(Debug)]
pub(super) struct ShardWaker {
    /// Set by the shard before its last look into the inbox, cleared by whoever wakes it, or by the
    /// shard when it wakes by itself.
    armed: AtomicBool,
    waker: Waker,
}

impl ShardWaker {
    pub(super) const fn new(waker: Waker) -> Self {
        Self { armed: AtomicBool::new(false), waker }
    }

    /// Called after everything was put into the queues. Answers whether a wake was needed.
    ///
    /// The fence orders the push before the look at the flag; its counterpart is in
    /// [`ShardWaker::arm`]. Without the pair the producer could see the flag still down while the
    /// consumer sees the queue still empty, and the message would lie there until the next one.
    pub(super) fn wake(&self) -> bool {
        fence(Ordering::SeqCst);
        if !self.armed.load(Ordering::Relaxed) || !self.armed.swap(false, Ordering::AcqRel) {
            return false;
        }
        if let Err(error) = self.waker.wake() {
            // The event descriptor is ours and open as long as this lives; a failure here is a
            // breach of the kernel's promise, and the shard would sleep on.
            tracing::error!(%error, "a shard could not be woken");
        }
        true
    }

    /// The shard wants to sleep: from now on it is to be woken. It must look into its inbox once
    /// more before it does.
    pub(super) fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// The shard is awake.
    pub(super) fn disarm(&self) {
        self.armed.store(false, Ordering::Relaxed);
    }
}
