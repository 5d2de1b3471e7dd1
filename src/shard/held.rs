//! How much memory the readers of one shard keep alive: the account from which the process's budget is settled.
//!
//! Owns: [`Held`], one number for a shard. Whatever is queued for a reader is entered when it is queued and taken out when it is let go.
//! Never: counts a shared frame or batch twice, however many outboxes refer to it: the first place enters it, the last one takes it out.
//! Bounds: what is behind the number has its own: the process's budget (`outbox_budget`), which the driver watches.

use std::cell::Cell;
use std::rc::Rc;

/// The account of one shard; clones write into the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct Held(Rc<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    bytes: Cell<usize>,
    now_ms: Cell<u64>,
}

impl Held {
    /// Bytes that are kept alive.
    pub(super) fn bytes(&self) -> usize {
        self.0.bytes.get()
    }

    /// Monotonic time of the step under way, or of the last one: when a socket takes something, its outbox notes this time.
    pub(super) fn now_ms(&self) -> u64 {
        self.0.now_ms.get()
    }

    /// A step begins.
    pub(super) fn set_now(&self, now_ms: u64) {
        self.0.now_ms.set(now_ms);
    }

    /// So many bytes more are kept alive.
    pub(super) fn add(&self, bytes: usize) {
        self.0.bytes.set(self.0.bytes.get() + bytes);
    }

    /// So many bytes are let go.
    pub(super) fn sub(&self, bytes: usize) {
        debug_assert!(self.0.bytes.get() >= bytes, "nothing is let go twice");
        self.0.bytes.set(self.0.bytes.get().saturating_sub(bytes));
    }
}

/// The places in which a shared thing stands: it is kept alive once.
#[derive(Debug, Default)]
pub(super) struct Places(Cell<u32>);

impl Places {
    /// One place more. Whether it is the first.
    pub(super) fn enter(&self) -> bool {
        let before = self.0.get();
        self.0.set(before + 1);
        before == 0
    }

    /// One place less. Whether it was the last.
    pub(super) fn leave(&self) -> bool {
        let after = self.0.get().saturating_sub(1);
        self.0.set(after);
        after == 0
    }
}
