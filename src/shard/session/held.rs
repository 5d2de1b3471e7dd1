//! How much memory the readers of one shard keep alive: the account from which the process's budget
//! is settled.
//!
//! Owns: [`Held`], one number for a shard. Whatever is queued for a reader is entered when it is
//! queued and taken out when it is let go.
//! Never: counts a shared frame or batch twice, however many outboxes refer to it: the first place
//! enters it, the last one takes it out.
//! Bounds: what is behind the number has its own: the process's budget (`outbox_budget`), which the
//! driver watches.

use std::cell::Cell;

use crate::shard::broken::broken;

/// The account of one shard.
#[derive(Debug, Default)]
pub(in crate::shard) struct Held {
    bytes: usize,
}

impl Held {
    /// Bytes that are kept alive.
    pub(in crate::shard) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// So many bytes more are kept alive.
    pub(in crate::shard) const fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// So many bytes are let go.
    pub(super) fn sub(&mut self, bytes: usize) {
        match self.bytes.checked_sub(bytes) {
            Some(left) => self.bytes = left,
            None => broken("what is let go was kept alive"),
        }
    }
}

/// The places in which a shared thing stands: it is kept alive once.
#[derive(Debug, Default)]
pub(in crate::shard) struct Uses(Cell<u32>);

impl Uses {
    /// One place more. Whether it is the first.
    pub(in crate::shard) fn enter(&self) -> bool {
        let before = self.0.get();
        self.0.set(before + 1);
        before == 0
    }

    /// Where it lies in memory: what it counts has no other name, for `check_invariants`.
    pub(in crate::shard) fn name(&self) -> *const () {
        std::ptr::from_ref(self).cast()
    }

    /// One place less. Whether it was the last.
    pub(in crate::shard) fn leave(&self) -> bool {
        let Some(after) = self.0.get().checked_sub(1) else { broken("what is let go stood somewhere") };
        self.0.set(after);
        after == 0
    }
}
