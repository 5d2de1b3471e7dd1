//! What the store's threads count, for metrics and readiness.
//!
//! Owns: the counters, written by the store's threads, read by any thread.
//! Never: is an input of the store's own decisions.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::lanes::LANES;
use crate::metrics::histogram::{Histogram, SharedHistogram};
use crate::store::{StoreCause, Trimmed};

/// One reading. Counters grow from the start of the store; the rest is as of now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Gauges {
    /// Writes and calls in the writers' queues.
    pub writes_queued: usize,
    /// Reads and calls that wait for a reading thread, by [`super::Lane`].
    pub reads_queued: [usize; LANES],
    /// Those that waited too long and were not begun.
    pub reads_late: [u64; LANES],
    /// Users and conversations for which something waits its turn.
    pub users_waiting: usize,
    /// Transactions committed for shards.
    pub commits: u64,
    /// Writes in them, whatever became of each. `writes / commits` is the mean size of a batch.
    pub writes: u64,
    /// Messages stored by them.
    pub rows: u64,
    /// Commits that failed, each try counted.
    pub commit_errors: u64,
    /// Batches of reads that were answered.
    pub read_batches: u64,
    /// Reads in them.
    pub reads: u64,
    /// Reads about users ([`super::super::Read::is_of_user`]) given to the backends, whether they
    /// failed or not.
    pub user_reads: u64,
    /// Statements that these took ([`super::super::Backend::user_queries`]). `user_reads /
    /// user_queries` tells how well the opening of sessions is batched.
    pub user_queries: u64,
    /// Batches of reads that failed.
    pub read_errors: u64,
    /// Messages removed by retention.
    pub trimmed_messages: u64,
    /// Post keys removed by retention.
    pub trimmed_keys: u64,
    /// Rounds of the upkeep and steps of retention that failed.
    pub upkeep_errors: u64,
    /// Nanoseconds that the last successful commit took.
    pub commit_nanos_last: u64,
    /// Nanoseconds of all successful commits together.
    pub commit_nanos_total: u64,
    /// How long each of them took.
    pub commit_times: Histogram,
    /// Writing workers whose database fails now; not ready unless zero.
    pub writers_failing: usize,
    /// Why the writing worker fails that has failed last; of interest while one does.
    pub failing_for: Option<StoreCause>,
    /// Milliseconds by which our clock is ahead of the database's, when that was last asked.
    /// `None`: it has no clock of its own, or did not say.
    pub clock_offset_ms: Option<i64>,
}

impl Gauges {
    /// Whether every writing worker could commit when it last tried.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.writers_failing == 0
    }
}

/// The counters themselves. Each stands for itself, so relaxed order is enough.
#[derive(Default)]
pub(super) struct Counters {
    commits: AtomicU64,
    writes: AtomicU64,
    rows: AtomicU64,
    commit_errors: AtomicU64,
    read_batches: AtomicU64,
    reads: AtomicU64,
    user_reads: AtomicU64,
    user_queries: AtomicU64,
    read_errors: AtomicU64,
    trimmed_messages: AtomicU64,
    trimmed_keys: AtomicU64,
    upkeep_errors: AtomicU64,
    commit_nanos_last: AtomicU64,
    commit_nanos_total: AtomicU64,
    commit_times: SharedHistogram,
    writers_failing: AtomicUsize,
    failing_for: Mutex<Option<StoreCause>>,
    backlog_users: AtomicUsize,
    backlog: AtomicUsize,
    clock_offset_ms: Mutex<Option<i64>>,
}

impl Counters {
    pub(super) fn clock_is_off(&self, offset_ms: Option<i64>) {
        *self.clock_offset_ms.lock() = offset_ms;
    }

    pub(super) fn committed(&self, writes: usize, rows: usize, nanos: u64) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.writes.fetch_add(writes as u64, Ordering::Relaxed);
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        self.commit_nanos_last.store(nanos, Ordering::Relaxed);
        self.commit_nanos_total.fetch_add(nanos, Ordering::Relaxed);
        self.commit_times.record(nanos);
    }

    pub(super) fn commit_failed(&self) {
        self.commit_errors.fetch_add(1, Ordering::Relaxed);
    }

    /// All but what the queues know themselves.
    pub(super) fn read(&self) -> Gauges {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Gauges {
            users_waiting: self.backlog_users.load(Ordering::Relaxed),
            writes_queued: self.backlog.load(Ordering::Relaxed),
            commits: get(&self.commits),
            writes: get(&self.writes),
            rows: get(&self.rows),
            commit_errors: get(&self.commit_errors),
            read_batches: get(&self.read_batches),
            reads: get(&self.reads),
            user_reads: get(&self.user_reads),
            user_queries: get(&self.user_queries),
            read_errors: get(&self.read_errors),
            trimmed_messages: get(&self.trimmed_messages),
            trimmed_keys: get(&self.trimmed_keys),
            upkeep_errors: get(&self.upkeep_errors),
            commit_nanos_last: get(&self.commit_nanos_last),
            commit_nanos_total: get(&self.commit_nanos_total),
            commit_times: self.commit_times.read(),
            writers_failing: self.writers_failing.load(Ordering::Relaxed),
            failing_for: *self.failing_for.lock(),
            clock_offset_ms: *self.clock_offset_ms.lock(),
            ..Gauges::default()
        }
    }

    pub(super) fn reads_answered(&self, reads: usize, failed: bool) {
        let counter = if failed { &self.read_errors } else { &self.read_batches };
        counter.fetch_add(1, Ordering::Relaxed);
        if !failed {
            self.reads.fetch_add(reads as u64, Ordering::Relaxed);
        }
    }

    pub(super) fn users_read(&self, reads: usize, queries: u64) {
        self.user_reads.fetch_add(reads as u64, Ordering::Relaxed);
        self.user_queries.fetch_add(queries, Ordering::Relaxed);
    }

    pub(super) fn trimmed(&self, trimmed: Trimmed) {
        self.trimmed_messages.fetch_add(trimmed.messages, Ordering::Relaxed);
        self.trimmed_keys.fetch_add(trimmed.keys, Ordering::Relaxed);
    }

    /// What waits in turn for a writing worker is `now`, and was `before`: users, and what is
    /// theirs.
    pub(super) fn backlog(&self, before: (usize, usize), now: (usize, usize)) {
        self.backlog_users.fetch_add(now.0, Ordering::Relaxed);
        self.backlog_users.fetch_sub(before.0, Ordering::Relaxed);
        self.backlog.fetch_add(now.1, Ordering::Relaxed);
        self.backlog.fetch_sub(before.1, Ordering::Relaxed);
    }

    pub(super) fn upkeep_failed(&self) {
        self.upkeep_errors.fetch_add(1, Ordering::Relaxed);
    }

    /// A writing worker fails, or still does, for that.
    pub(super) fn fails_for(&self, cause: StoreCause) {
        *self.failing_for.lock() = Some(cause);
    }

    pub(super) fn writer_fails(&self, fails: bool) {
        if fails {
            self.writers_failing.fetch_add(1, Ordering::Relaxed);
        } else {
            self.writers_failing.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
