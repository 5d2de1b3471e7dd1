//! What is asked of an object store, and what becomes of it, counted by the control plane.
//!
//! Owns: [`ObjectCounts`], and the closed lists of operations and outcomes, which are the label
//! values.
//! Never: on the way of a message: these are atomics.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::histogram::{Histogram, SharedHistogram};
use super::labels::{Counters, labels};

labels! {
    /// What the store is asked to do.
    ObjectOperation {
        /// To send a piece of a file.
        Get = "get",
        /// To say how long a file is.
        Head = "head",
        /// To keep one.
        Put = "put",
        /// To remove one.
        Delete = "delete",
        /// To name some.
        List = "list",
    }
}

labels! {
    /// What became of a request, with all its tries.
    ObjectOutcome {
        /// It was done.
        Done = "done",
        /// There is no such file.
        Missing = "missing",
        /// The store does not allow it, or does not understand it: the settings are wrong.
        Refused = "refused",
        /// The store says that it has failed, or what it says makes no sense.
        Failed = "failed",
        /// It did not answer in time.
        Late = "late",
        /// It could not be reached, or the connection was lost.
        Unreachable = "unreachable",
        /// It was not asked, because it had just failed for others.
        Away = "away",
        /// It was not asked, because too many requests were under way.
        Busy = "busy",
    }
}

/// The counters.
#[derive(Debug, Default)]
pub struct ObjectCounts {
    requests: [Counters<{ ObjectOutcome::LABELS.len() }>; ObjectOperation::LABELS.len()],
    seconds: [SharedHistogram; ObjectOperation::LABELS.len()],
    sent: AtomicU64,
    came: AtomicU64,
    /// Whether the last request failed; so that it is up until one has.
    fails: AtomicBool,
}

impl ObjectCounts {
    /// Counts a request that has ended after `ns` nanoseconds, its wait and its tries included.
    pub fn asked(&self, operation: ObjectOperation, outcome: ObjectOutcome, ns: u64) {
        if let Some(requests) = self.requests.get(operation as usize) {
            requests.add(outcome as usize);
        }
        if let Some(seconds) = self.seconds.get(operation as usize) {
            seconds.record(ns);
        }
        match outcome {
            ObjectOutcome::Done | ObjectOutcome::Missing => self.fails.store(false, Ordering::Relaxed),
            // It was not asked.
            ObjectOutcome::Away | ObjectOutcome::Busy => {}
            _ => self.fails.store(true, Ordering::Relaxed),
        }
    }

    /// Counts bytes of files that the store has taken.
    pub fn sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes of files that it has given.
    pub fn came(&self, bytes: u64) {
        self.came.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Requests by [`ObjectOperation::ALL`] and [`ObjectOutcome::ALL`].
    #[must_use]
    pub fn requests(&self) -> [[u64; ObjectOutcome::LABELS.len()]; ObjectOperation::LABELS.len()] {
        self.requests.each_ref().map(Counters::read)
    }

    /// Times by [`ObjectOperation::ALL`].
    #[must_use]
    pub fn seconds(&self) -> [Histogram; ObjectOperation::LABELS.len()] {
        self.seconds.each_ref().map(SharedHistogram::read)
    }

    /// Bytes of files that were sent, and that came.
    #[must_use]
    pub fn bytes(&self) -> [u64; 2] {
        [&self.sent, &self.came].map(|counter| counter.load(Ordering::Relaxed))
    }

    /// Whether the last request that was made did not fail.
    #[must_use]
    pub fn up(&self) -> bool {
        !self.fails.load(Ordering::Relaxed)
    }
}
