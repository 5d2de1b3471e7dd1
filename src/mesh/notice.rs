//! The control plane's way to the shards: a question, and what to do with its answer.
//!
//! Owns: the count of unanswered notices per shard, and the callbacks of those that the shard has
//! taken. Never: waits. A callback runs on the shard's thread and only passes the answer on; when
//! the shard ends, it is dropped unrun. Bounds: [`NOTICES_MAX`] unanswered notices per shard,
//! wherever they are.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender};

use super::Full;
use super::waker::ShardWaker;
use crate::ids::ShardId;
use crate::limits::NOTICES_MAX;
use crate::shard::{Answer, Notice};

/// What is called with the answer.
pub(super) type Then = Box<dyn FnOnce(Answer) + Send>;

/// The control plane's way to the shards; clones share it.
#[derive(Clone)]
pub struct Notices {
    queues: Arc<[Arc<NoticeQueue>]>,
    wakers: Arc<[ShardWaker]>,
}

/// One shard's queue. Both ends of the channel belong to it, because a bounded channel keeps what
/// is in it when its receivers go: one of them must empty it.
struct NoticeQueue {
    to: Sender<(Notice, Then)>,
    from: Receiver<(Notice, Then)>,
    unanswered: AtomicUsize,
    /// The shard has ended.
    closed: AtomicBool,
}

impl NoticeQueue {
    /// Drops what waits, and with it the callbacks.
    fn empty(&self) {
        while self.from.try_recv().is_ok() {}
    }
}

/// A shard's end of it.
pub(super) struct NoticeBox {
    queue: Arc<NoticeQueue>,
    /// By the number under which the shard knows the notice.
    callbacks: HashMap<u64, Then>,
    next_id: u64,
}

/// The queues of all shards, and the boxes behind them.
pub(super) fn queues(wakers: &Arc<[ShardWaker]>) -> (Notices, Vec<NoticeBox>) {
    let mut boxes = Vec::with_capacity(wakers.len());
    let queues = wakers.iter().map(|_| {
        let (to, from) = crossbeam_channel::bounded(NOTICES_MAX);
        let queue = Arc::new(NoticeQueue { to, from, unanswered: AtomicUsize::new(0), closed: AtomicBool::new(false) });
        boxes.push(NoticeBox { queue: Arc::clone(&queue), callbacks: HashMap::new(), next_id: 0 });
        queue
    });
    let queues = queues.collect();
    (Notices { queues, wakers: Arc::clone(wakers) }, boxes)
}

impl Notices {
    /// How many shards there are, for [`crate::ids::shard_of`] and [`crate::ids::home_of`].
    #[must_use]
    pub fn shards(&self) -> u16 {
        u16::try_from(self.queues.len()).expect("the mesh is built for at most u16::MAX shards")
    }

    /// Sends `notice` to `shard`; `then` is called once, on the shard's thread, with the answer: it
    /// must only pass it on. When the shard ends without an answer, `then` is dropped.
    ///
    /// # Errors
    /// [`Full`]: nothing was sent; `then` was dropped.
    pub fn ask(&self, shard: ShardId, notice: Notice, then: Box<dyn FnOnce(Answer) + Send>) -> Result<(), Full> {
        let index = usize::from(shard.0);
        let (Some(queue), Some(waker)) = (self.queues.get(index), self.wakers.get(index)) else { return Err(Full) };
        if queue.unanswered.fetch_add(1, Ordering::AcqRel) >= NOTICES_MAX || queue.to.try_send((notice, then)).is_err()
        {
            queue.unanswered.fetch_sub(1, Ordering::AcqRel);
            return Err(Full);
        }
        if queue.closed.load(Ordering::SeqCst) {
            // Put in before or after the shard emptied its box for the last time: empty it again,
            // which drops `then`.
            queue.empty();
            return Err(Full);
        }
        waker.wake();
        Ok(())
    }
}

impl NoticeBox {
    /// The next notice, and the number under which it is to be answered.
    pub(super) fn take(&mut self) -> Option<(u64, Notice)> {
        let (notice, then) = self.queue.from.try_recv().ok()?;
        let id = self.next_id;
        self.next_id += 1;
        self.callbacks.insert(id, then);
        Some((id, notice))
    }

    /// Passes an answer on.
    pub(super) fn answer(&mut self, id: u64, answer: Answer) {
        let then = self.callbacks.remove(&id);
        debug_assert!(then.is_some(), "a notice is answered exactly once");
        if let Some(then) = then {
            self.queue.unanswered.fetch_sub(1, Ordering::AcqRel);
            then(answer);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.from.is_empty()
    }
}

impl Drop for NoticeBox {
    fn drop(&mut self) {
        // In this order: whoever puts something in after the box was emptied sees that it is
        // closed.
        self.queue.closed.store(true, Ordering::SeqCst);
        self.queue.empty();
    }
}
