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
use super::bell::Bell;
use crate::ids::ShardId;
use crate::limits::NOTICES_MAX;
use crate::shard::{Answer, Notice};

/// What is called with the answer.
pub(super) type Then = Box<dyn FnOnce(Answer) + Send>;

/// The control plane's way to the shards; clones share it.
#[derive(Clone)]
pub struct Notices {
    doors: Arc<[Arc<Door>]>,
    bells: Arc<[Bell]>,
}

/// One shard's door. Both ends of the channel belong to it, because a bounded channel keeps what is
/// in it when its receivers go: one of them must empty it.
struct Door {
    to: Sender<(Notice, Then)>,
    from: Receiver<(Notice, Then)>,
    unanswered: AtomicUsize,
    /// The shard has ended.
    closed: AtomicBool,
}

impl Door {
    /// Drops what waits, and with it the callbacks.
    fn empty(&self) {
        while self.from.try_recv().is_ok() {}
    }
}

/// A shard's end of it.
pub(super) struct NoticeBox {
    door: Arc<Door>,
    /// By the number under which the shard knows the notice.
    callbacks: HashMap<u64, Then>,
    next_id: u64,
}

/// The doors of all shards, and the boxes behind them.
pub(super) fn doors(bells: &Arc<[Bell]>) -> (Notices, Vec<NoticeBox>) {
    let mut boxes = Vec::with_capacity(bells.len());
    let doors = bells.iter().map(|_| {
        let (to, from) = crossbeam_channel::bounded(NOTICES_MAX);
        let door = Arc::new(Door { to, from, unanswered: AtomicUsize::new(0), closed: AtomicBool::new(false) });
        boxes.push(NoticeBox { door: Arc::clone(&door), callbacks: HashMap::new(), next_id: 0 });
        door
    });
    let doors = doors.collect();
    (Notices { doors, bells: Arc::clone(bells) }, boxes)
}

impl Notices {
    /// How many shards there are, for [`crate::ids::shard_of`] and [`crate::ids::home_of`].
    #[must_use]
    pub fn shards(&self) -> u16 {
        u16::try_from(self.doors.len()).expect("the mesh is built for at most u16::MAX shards")
    }

    /// Sends `notice` to `shard`; `then` is called once, on the shard's thread, with the answer: it
    /// must only pass it on. When the shard ends without an answer, `then` is dropped.
    ///
    /// # Errors
    /// [`Full`]: nothing was sent; `then` was dropped.
    pub fn ask(&self, shard: ShardId, notice: Notice, then: Box<dyn FnOnce(Answer) + Send>) -> Result<(), Full> {
        let index = usize::from(shard.0);
        let (Some(door), Some(bell)) = (self.doors.get(index), self.bells.get(index)) else { return Err(Full) };
        if door.unanswered.fetch_add(1, Ordering::AcqRel) >= NOTICES_MAX || door.to.try_send((notice, then)).is_err() {
            door.unanswered.fetch_sub(1, Ordering::AcqRel);
            return Err(Full);
        }
        if door.closed.load(Ordering::SeqCst) {
            // Put in before or after the shard emptied its box for the last time: empty it again,
            // which drops `then`.
            door.empty();
            return Err(Full);
        }
        bell.ring();
        Ok(())
    }
}

impl NoticeBox {
    /// The next notice, and the number under which it is to be answered.
    pub(super) fn take(&mut self) -> Option<(u64, Notice)> {
        let (notice, then) = self.door.from.try_recv().ok()?;
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
            self.door.unanswered.fetch_sub(1, Ordering::AcqRel);
            then(answer);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.door.from.is_empty()
    }
}

impl Drop for NoticeBox {
    fn drop(&mut self) {
        // In this order: whoever puts something in after the box was emptied sees that it is
        // closed.
        self.door.closed.store(true, Ordering::SeqCst);
        self.door.empty();
    }
}
