//! Whether an object store is worth being asked.
//!
//! While it does not answer, each request would wait for it as long as it may, and whoever waits
//! holds a connection of the gateway. So after some failures one after the other it is asked by one
//! request now and then, and all others are refused at once.
//! Bounds: [`limits::OBJECT_FAILURES_MAX`], [`limits::OBJECT_PAUSE_MS`].

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::limits;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// One after the other, up to the bound.
    failures: AtomicU32,
    /// When the next request may be tried while the store is away.
    next_ms: AtomicU64,
}

impl Health {
    /// Whether so many requests have failed that the store counts as away.
    pub(super) fn is_away(&self) -> bool {
        self.failures.load(Ordering::Relaxed) >= limits::OBJECT_FAILURES_MAX
    }

    /// Whether a request may be made now; of those that ask at once while the store is away, one.
    pub(super) fn may_ask(&self, now_ms: u64) -> bool {
        if !self.is_away() {
            return true;
        }
        let next_ms = self.next_ms.load(Ordering::Relaxed);
        let after_ms = now_ms.saturating_add(limits::OBJECT_PAUSE_MS);
        now_ms >= next_ms
            && self.next_ms.compare_exchange(next_ms, after_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// It has answered.
    pub(super) fn worked(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }

    /// It has failed once more.
    pub(super) fn failed(&self, now_ms: u64) {
        self.next_ms.store(now_ms.saturating_add(limits::OBJECT_PAUSE_MS), Ordering::Relaxed);
        // Not beyond the bound, so that it never wraps.
        let more = |failures: u32| (failures < limits::OBJECT_FAILURES_MAX).then_some(failures + 1);
        let _ = self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_fails_is_asked_now_and_then_and_by_one() {
        let health = Health::default();
        for _ in 0..limits::OBJECT_FAILURES_MAX {
            assert!(health.may_ask(1_000) && health.may_ask(1_000), "a failure alone means nothing");
            health.failed(1_000);
        }
        assert!(health.is_away() && !health.may_ask(1_000 + limits::OBJECT_PAUSE_MS - 1));
        let later_ms = 1_000 + limits::OBJECT_PAUSE_MS;
        assert!(health.may_ask(later_ms), "one tries");
        assert!(!health.may_ask(later_ms), "the others do not");
        assert!(health.may_ask(later_ms + limits::OBJECT_PAUSE_MS), "it may be that it never comes back");
        health.failed(later_ms);
        assert!(!health.may_ask(later_ms));
        health.worked();
        assert!(!health.is_away() && health.may_ask(later_ms));
    }
}
