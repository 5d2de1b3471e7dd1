//! What becomes of the calls of backends and of what webhooks are told, counted by the control
//! plane.
//!
//! Owns: [`BackendCounts`], and the closed lists of outcomes, which are the label values.
//! Never: on the way of a message but for one that a webhook hears of: these are atomics.

use std::sync::atomic::{AtomicU64, Ordering};

use super::labels::{Counters, labels};

labels! {
    /// How a call of a backend began.
    Called {
        /// Its key was good for it.
        Admitted = "admitted",
        /// No key, or one that is not known or has ended.
        NoKey = "no_key",
        /// The key may not do this.
        Scope = "scope",
        /// More calls than the key may make.
        TooFast = "too_fast",
        /// The keys could not be read.
        Trouble = "trouble",
    }
}

labels! {
    /// What became of an event that a webhook was to be told.
    Hooked {
        /// Its endpoint has taken it.
        Delivered = "delivered",
        /// Given up: its endpoint did not take it in all the tries.
        Dead = "dead",
        /// Its queue was full.
        Full = "full",
    }
}

/// The counters.
#[derive(Debug, Default)]
pub struct BackendCounts {
    called: Counters<{ Called::LABELS.len() }>,
    hooked: Counters<{ Hooked::LABELS.len() }>,
    hook_failures: AtomicU64,
    hook_queue: AtomicU64,
    hook_journal_failures: AtomicU64,
}

impl BackendCounts {
    /// Counts a call.
    pub fn called(&self, how: Called) {
        self.called.add(how as usize);
    }

    /// Counts `events` of a webhook.
    pub fn hooked(&self, how: Hooked, events: u64) {
        self.hooked.add_many(how as usize, events);
    }

    /// Counts a request of a webhook that failed and is tried again.
    pub fn hook_failed(&self) {
        self.hook_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts events that could not be put on disk, a batch each.
    pub fn hook_journal_failed(&self) {
        self.hook_journal_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Batches of events that could not be put on disk.
    #[must_use]
    pub fn hook_journal_failures(&self) -> u64 {
        self.hook_journal_failures.load(Ordering::Relaxed)
    }

    /// So many events more wait.
    pub fn hook_queued(&self, events: u64) {
        self.hook_queue.fetch_add(events, Ordering::Relaxed);
    }

    /// So many wait no more.
    pub fn hook_left(&self, events: u64) {
        self.hook_queue.fetch_sub(events, Ordering::Relaxed);
    }

    /// By [`Called::ALL`].
    #[must_use]
    pub fn calls(&self) -> [u64; Called::LABELS.len()] {
        self.called.read()
    }

    /// By [`Hooked::ALL`].
    #[must_use]
    pub fn hooks(&self) -> [u64; Hooked::LABELS.len()] {
        self.hooked.read()
    }

    /// Requests of webhooks that failed.
    #[must_use]
    pub fn hook_failures(&self) -> u64 {
        self.hook_failures.load(Ordering::Relaxed)
    }

    /// Events that wait.
    #[must_use]
    pub fn hook_queue(&self) -> u64 {
        self.hook_queue.load(Ordering::Relaxed)
    }
}
