//! A writing worker: group commit, and what happens when the database fails.
//!
//! Owns: its connection, and the order of everything written to its conversations.
//! Never: waits for more writes to come; what gathered while the last commit ran is the next batch.
//! Never gives a later write to the database while an earlier one may still be tried again. A batch
//! that breaks is tried in parts, in order, so that only what breaks is refused. Whenever more
//! waits than one batch takes, each user has a turn in it ([`Backlog`]); until then what came first
//! goes first.
//! Bounds: [`COMMIT_WRITES_MAX`] writes, about [`COMMIT_CPU_US_MAX`] of CPU time and about
//! [`COMMIT_BYTES_MAX`] bytes in a batch; retries of at most [`COMMIT_RETRY_MS_MAX`], and none at
//! all once the database is known to fail.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use rustix::time::{ClockId, clock_gettime};

use super::backlog::Backlog;
use super::gathered::{Gathered, isolate};
use super::trimming::Trimming;
use super::{Complaint, Counters, Job, Outbox, Queue, Replies, Reply, Ticket};
use crate::clock::Clock;
use crate::limits::{
    COMMIT_BYTES_MAX, COMMIT_CALLS_MAX, COMMIT_CPU_SHARED_US, COMMIT_CPU_US_MAX, COMMIT_RETRY_MS_MAX,
    COMMIT_RETRY_MS_MIN, COMMIT_SHARED_MS, COMMIT_WRITES_FIRST, COMMIT_WRITES_MAX, COMMIT_WRITES_MIN,
    COMMIT_WRITES_SHARED_MIN, CONTENDED_RETRY_MS_MAX, STORE_DOUBT_MS, STORE_PROBE_MS, STORE_REST_MS,
    STORE_REST_WRITES_MAX,
};
use crate::log::outage::{Outage, OutageLine};
use crate::store::{Backend, Error, StoreCause, Write, Written};

/// What is known of the database.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    /// The last commit succeeded: a failing one is retried.
    Well,
    /// It fails. Until `probe_ms` (monotonic) everything is refused at once; then one try decides.
    Failing { probe_ms: u64 },
    /// A ping succeeded, no commit has yet: one try decides.
    Doubtful,
}

impl Health {
    const fn fails(self) -> bool {
        matches!(self, Self::Failing { .. })
    }
}

/// What a write costs this thread, learned from the commits, and so how many of them fit into a
/// commit.
#[derive(Default)]
struct Cost {
    /// Nanoseconds of CPU time, a mean over some commits; 0: not known.
    of_write_ns: u64,
}

impl Cost {
    /// So many writes took so long.
    fn learn(&mut self, writes: usize, cpu_ns: u64) {
        // What a commit costs whatever is in it would be taken for the cost of a few writes.
        if writes >= COMMIT_WRITES_SHARED_MIN {
            let now_ns = cpu_ns / writes as u64;
            self.of_write_ns = if self.of_write_ns == 0 { now_ns } else { (self.of_write_ns * 7 + now_ns) / 8 };
        }
    }

    /// How many writes the next commit may have; `shared`: users that write now and then wait for
    /// its end.
    fn writes_max(&self, shared: bool) -> usize {
        if self.of_write_ns == 0 {
            return COMMIT_WRITES_FIRST;
        }
        let (cpu_us, least) = match shared {
            true => (COMMIT_CPU_SHARED_US, COMMIT_WRITES_SHARED_MIN),
            false => (COMMIT_CPU_US_MAX, COMMIT_WRITES_MIN),
        };
        let fits = cpu_us * 1000 / self.of_write_ns;
        usize::try_from(fits).unwrap_or(usize::MAX).clamp(least, COMMIT_WRITES_MAX)
    }
}

/// Whether much is written, looked at every [`STORE_REST_MS`].
#[derive(Default)]
struct Busy {
    /// Monotonic milliseconds of the next look. `None`: nothing was written since the last one.
    due_ms: Option<u64>,
    writes: u64,
    /// Much was written, and what that has left behind was not let go.
    was: bool,
}

impl Busy {
    fn note(&mut self, writes: usize, now_ms: u64) {
        self.due_ms.get_or_insert(now_ms + STORE_REST_MS);
        self.writes += writes as u64;
        self.was |= self.writes > STORE_REST_WRITES_MAX;
    }

    const fn due_ms(&self) -> Option<u64> {
        self.due_ms
    }

    /// Whether a busy time is over, told once.
    fn is_over(&mut self, now_ms: u64) -> bool {
        if self.due_ms.is_none_or(|due_ms| now_ms < due_ms) {
            return false;
        }
        let calm = std::mem::take(&mut self.writes) <= STORE_REST_WRITES_MAX;
        let over = self.was && calm;
        self.was &= !calm;
        self.due_ms = self.was.then_some(now_ms + STORE_REST_MS);
        over
    }
}

/// CPU time of this thread.
fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

pub(super) struct Writer {
    backend: Box<dyn Backend>,
    jobs: Receiver<Job<Write>>,
    outbox: Outbox,
    counters: Arc<Counters>,
    clock: Clock,
    health: Health,
    /// Whether readiness has been told that the database fails.
    unready: bool,
    /// When a commit has failed last, in monotonic milliseconds.
    commit_failed_ms: u64,
    /// What the log says of a database that fails.
    outage: Outage,
    /// Retention, if this worker has it.
    trimming: Option<Trimming>,
    batch: Gathered<Write>,
    cost: Cost,
    busy: Busy,
    /// What waits in turn, because it is more than a batch.
    backlog: Backlog,
    /// Its users and its length as the counters know them.
    backlog_told: (usize, usize),
    /// Until then (monotonic milliseconds) a batch of what waits in turn is short.
    shared_until_ms: u64,
    complaint: Complaint,
}

impl Writer {
    pub(super) fn new(
        backend: Box<dyn Backend>,
        queue: &Queue<Write>,
        shards: u16,
        replies: &Arc<dyn Replies>,
        counters: &Arc<Counters>,
        clock: Clock,
    ) -> Self {
        Self {
            backend,
            jobs: queue.receiver.clone(),
            outbox: Outbox::new(shards, replies),
            counters: Arc::clone(counters),
            clock,
            health: Health::Well,
            unready: false,
            commit_failed_ms: 0,
            outage: Outage::default(),
            trimming: None,
            batch: Gathered::new(COMMIT_WRITES_FIRST, COMMIT_BYTES_MAX),
            cost: Cost::default(),
            busy: Busy::default(),
            backlog: Backlog::default(),
            backlog_told: (0, 0),
            shared_until_ms: 0,
            complaint: Complaint::default(),
        }
    }

    /// Gives the worker the database's retention.
    pub(super) fn trims(&mut self, trimming: Option<Trimming>) {
        self.trimming = trimming;
    }

    pub(super) fn run(mut self) {
        let mut next = None;
        loop {
            if next.is_none() && self.backlog.is_empty() {
                match self.next() {
                    Some(job) => next = Some(job),
                    None => return,
                }
            }
            self.batch.limit(self.cost.writes_max(false));
            if !self.backlog.is_empty() || self.jobs.len() > fits(next.as_ref(), self.batch.asks_max()) {
                next.take().into_iter().chain(self.jobs.try_iter()).for_each(|job| self.backlog.push(job));
                self.serve_backlog();
                if self.backlog.is_over() {
                    return;
                }
                continue;
            }
            match next.take() {
                Some(Job::Ask(ticket, write)) => {
                    next = self.batch.take(&self.jobs, ticket, write);
                    self.commit();
                }
                Some(Job::Call(call)) => call.run(&mut *self.backend),
                Some(Job::Stop) => return,
                None => {}
            }
        }
    }

    /// A batch of users that write now and then, a batch of what waits in turn, then a few of the
    /// calls. The first one is small as a rule and so is soon committed, and while there are such
    /// users the second one is short: they do not wait for long commits of users that always write.
    fn serve_backlog(&mut self) {
        self.tell_backlog();
        if self.commit_some(false, Backlog::pop_fresh_write) {
            self.shared_until_ms = self.clock.now().mono_ms + COMMIT_SHARED_MS;
        }
        let shared = self.clock.now().mono_ms < self.shared_until_ms;
        self.commit_some(shared, Backlog::pop_write);
        for _ in 0..COMMIT_CALLS_MAX {
            let Some(call) = self.backlog.pop_call() else { break };
            call.run(&mut *self.backend);
        }
        if self.health == Health::Well {
            self.trim();
        }
        self.tell_backlog();
    }

    /// Commits a batch of what `pop` gives, if it gives anything. What has come meanwhile stands in
    /// its turn before the next batch is filled. `shared`: as [`Cost::writes_max`] has it.
    fn commit_some(&mut self, shared: bool, pop: fn(&mut Backlog) -> Option<(Ticket, Write)>) -> bool {
        let Self { backlog, batch, cost, .. } = self;
        batch.limit(cost.writes_max(shared));
        batch.fill(|| pop(backlog));
        let some = !batch.asks().is_empty();
        if some {
            self.commit();
        }
        let Self { backlog, jobs, .. } = self;
        jobs.try_iter().for_each(|job| backlog.push(job));
        some
    }

    fn tell_backlog(&mut self) {
        let now = (self.backlog.keys(), self.backlog.len());
        self.counters.backlog(std::mem::replace(&mut self.backlog_told, now), now);
    }

    /// A step of retention, if this worker has it and it is time for one.
    fn trim(&mut self) {
        if let Some(trimming) = &mut self.trimming {
            trimming.step(&mut *self.backend, self.clock.now(), &self.counters);
        }
    }

    /// Waits for work. While the database fails it is asked now and then, so that a gateway that is
    /// sent nothing any more, because it is not ready, becomes ready again; while it is well, a
    /// step of retention may come between two batches.
    fn next(&mut self) -> Option<Job<Write>> {
        loop {
            let due_ms = match self.health {
                // Not only when nothing comes: calls of the control plane decide nothing about it.
                Health::Failing { probe_ms } if self.clock.now().mono_ms >= probe_ms => {
                    self.probe();
                    continue;
                }
                Health::Failing { probe_ms } => probe_ms,
                Health::Well | Health::Doubtful => {
                    self.trim();
                    let trimming = self.trimming.as_ref().map(Trimming::due_ms);
                    let doubt = self.unready.then_some(self.commit_failed_ms + STORE_DOUBT_MS);
                    match trimming.into_iter().chain(self.busy.due_ms()).chain(doubt).min() {
                        None => return self.jobs.recv().ok(),
                        Some(due_ms) => due_ms,
                    }
                }
            };
            let pause = Duration::from_millis(due_ms.saturating_sub(self.clock.now().mono_ms));
            match self.jobs.recv_timeout(pause) {
                Ok(job) => return Some(job),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    self.rest();
                    self.probe();
                    self.tell(false);
                }
            }
        }
    }

    /// Lets go of what a busy time has left behind, if one is over.
    fn rest(&mut self) {
        if self.busy.is_over(self.clock.now().mono_ms) {
            self.backend.rest();
        }
    }

    /// Asks a failing database whether it is well again.
    fn probe(&mut self) {
        if matches!(self.health, Health::Failing { .. }) {
            match self.backend.ping() {
                Ok(()) => self.turn(Health::Doubtful),
                Err(error) => self.still_fails(&error),
            }
        }
    }

    /// Commits the batch and answers all of it.
    fn commit(&mut self) {
        let (writes, before_ns) = (self.batch.asks().len(), thread_cpu_ns());
        self.commit_all();
        self.cost.learn(writes, thread_cpu_ns().saturating_sub(before_ns));
        self.busy.note(writes, self.clock.now().mono_ms);
        self.rest();
    }

    fn commit_all(&mut self) {
        let answers = match self.decide() {
            Ok(written) => written.into_iter().map(Ok).collect(),
            Err(why @ (Error::Broken(_) | Error::Contended(_))) => self.isolate(why),
            Err(why) => self.batch.asks().iter().map(|_| Err(why.clone())).collect(),
        };
        let Self { batch, outbox, .. } = self;
        batch.settle(answers, |ticket, written| outbox.push(ticket, Reply::Written(written)));
        outbox.settle();
    }

    /// The batch is broken as a whole, or something of it is held: commits it in parts, and decides
    /// whether it is the batch or the database.
    fn isolate(&mut self, why: Error) -> Vec<Result<Written, Error>> {
        let began_ms = self.clock.now().mono_ms;
        let held = matches!(why, Error::Contended(_));
        self.complaint.about(began_ms, |untold| match held {
            true => tracing::warn!(%why, untold, "another transaction holds a conversation; what needs it is refused"),
            false => tracing::error!(%why, untold, "a batch of writes breaks; what breaks it is refused"),
        });
        let Self { backend, batch, counters, clock, .. } = self;
        let answers = isolate(batch.asks(), why.clone(), |part| {
            if clock.now().mono_ms.saturating_sub(began_ms) >= COMMIT_RETRY_MS_MAX {
                // Held is held, and no failure of the database.
                let late = "looking for what breaks a batch takes too long".to_owned();
                return Err(if held { why.clone() } else { Error::Unavailable(late) });
            }
            try_commit(&mut **backend, part, counters, *clock)
        });
        let gone =
            answers.iter().find_map(|answer| answer.as_ref().err().filter(|e| matches!(e, Error::Unavailable(_))));
        match gone.cloned() {
            Some(gone) => self.fail(&gone),
            None if answers.iter().any(Result::is_ok) => {
                self.health = Health::Well;
                self.tell(answers.iter().any(|answer| matches!(answer, Ok(Written::Stored { .. }))));
            }
            None if held => {}
            // Nothing of it can be stored. Once that may be its own fault, if the database takes a
            // ping.
            None => match (self.health, self.backend.ping()) {
                (Health::Well, Ok(())) => self.turn(Health::Doubtful),
                (_, Err(why)) => self.fail(&why),
                (_, Ok(())) => self.fail(&why),
            },
        }
        answers
    }

    fn decide(&mut self) -> Result<Vec<Written>, Error> {
        let began_ms = self.clock.now().mono_ms;
        if let Health::Failing { probe_ms } = self.health
            && began_ms < probe_ms
        {
            return Err(Error::Unavailable("the database fails; it is tried again in a moment".to_owned()));
        }
        let mut pause_ms = COMMIT_RETRY_MS_MIN;
        loop {
            match try_commit(&mut *self.backend, self.batch.asks(), &self.counters, self.clock) {
                Ok(written) => {
                    self.health = Health::Well;
                    self.tell(written.iter().any(|one| matches!(one, Written::Stored { .. })));
                    return Ok(written);
                }
                Err(error @ Error::Unavailable(_)) => {
                    let spent_ms = self.clock.now().mono_ms.saturating_sub(began_ms);
                    if self.health != Health::Well || spent_ms.saturating_add(pause_ms) >= COMMIT_RETRY_MS_MAX {
                        self.fail(&error);
                        return Err(error);
                    }
                    thread::sleep(Duration::from_millis(pause_ms));
                    pause_ms *= 2;
                }
                Err(error @ Error::Contended(_)) => {
                    let spent_ms = self.clock.now().mono_ms.saturating_sub(began_ms);
                    if spent_ms.saturating_add(pause_ms) >= CONTENDED_RETRY_MS_MAX {
                        return Err(error);
                    }
                    thread::sleep(Duration::from_millis(pause_ms));
                    pause_ms *= 2;
                }
                // The asker repeats it under the same key; trying again here could only hide it.
                // After a long silence one try decides: the next batch is not to wait for several.
                Err(error @ Error::Unknown(_)) => {
                    let spent_ms = self.clock.now().mono_ms.saturating_sub(began_ms);
                    if spent_ms >= COMMIT_RETRY_MS_MAX && self.health == Health::Well {
                        self.turn(Health::Doubtful);
                    }
                    return Err(error);
                }
                Err(error @ Error::Broken(_)) => return Err(error),
            }
        }
    }

    /// A commit has failed, and it is the database that fails.
    fn fail(&mut self, why: &Error) {
        self.commit_failed_ms = self.clock.now().mono_ms;
        self.still_fails(why);
    }

    /// The database fails, or still does. Its own words are for the operator: clients are told
    /// `busy`, the metrics only count.
    fn still_fails(&mut self, why: &Error) {
        let now_ms = self.clock.now().mono_ms;
        self.counters.fails_for(StoreCause::of(why));
        match self.outage.failed(now_ms) {
            Some(OutageLine::Begins { .. }) => {
                tracing::error!(%why, "the database fails: posts are refused until it works again");
            }
            Some(OutageLine::Lasts { failures, seconds }) => {
                tracing::error!(%why, failures, seconds, "the database still fails");
            }
            Some(OutageLine::Ended { .. }) | None => {}
        }
        self.turn(Health::Failing { probe_ms: now_ms + STORE_PROBE_MS });
    }

    fn turn(&mut self, health: Health) {
        self.health = health;
        self.tell(false);
    }

    /// Tells readiness and the log what is known. A ping and a commit without a message do not end
    /// what a commit has found a moment ago: a full disk takes a small write now and then.
    /// `stored`: a message was stored just now.
    fn tell(&mut self, stored: bool) {
        let now_ms = self.clock.now().mono_ms;
        let is_over = stored || now_ms >= self.commit_failed_ms + STORE_DOUBT_MS;
        let unready = if self.health.fails() { true } else { self.unready && !is_over };
        if unready == self.unready {
            return;
        }
        self.unready = unready;
        self.counters.writer_fails(unready);
        if !unready && let Some(OutageLine::Ended { seconds, .. }) = self.outage.worked(now_ms) {
            tracing::info!(seconds, "the database works again");
        }
    }
}

/// How many jobs may wait behind this one until they are more than it and what can be done with it.
const fn fits(job: Option<&Job<Write>>, writes_max: usize) -> usize {
    match job {
        Some(Job::Call(_)) => COMMIT_CALLS_MAX,
        _ => writes_max,
    }
}

/// One try.
fn try_commit(
    backend: &mut dyn Backend,
    writes: &[Write],
    counters: &Counters,
    clock: Clock,
) -> Result<Vec<Written>, Error> {
    let began = clock.nanos();
    let outcome = backend.commit(writes);
    match &outcome {
        Ok(written) => {
            let rows = written.iter().filter(|w| matches!(w, Written::Stored { .. })).count();
            counters.committed(written.len(), rows, clock.nanos().saturating_sub(began));
        }
        Err(_) => counters.commit_failed(),
    }
    match outcome {
        // Something was committed, but which answer belongs to which ask is not known.
        Ok(written) if written.len() != writes.len() => {
            Err(Error::Unknown(format!("{} answers to {} writes", written.len(), writes.len())))
        }
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_takes_what_fits_into_its_time() {
        let mut cost = Cost::default();
        let after = |cost: &mut Cost, times: u32, cpu_ns: u64| {
            (0..times).for_each(|_| cost.learn(100, cpu_ns));
            [false, true].map(|shared| cost.writes_max(shared))
        };
        cost.learn(1, 1_000_000);
        assert_eq!(cost.writes_max(false), COMMIT_WRITES_FIRST, "a flood may begin");
        assert_eq!(after(&mut cost, 1, 100 * 40_000), [100, 25], "40 microseconds each");
        assert_eq!(after(&mut cost, 100, 100 * 1_000_000), [COMMIT_WRITES_MIN, COMMIT_WRITES_SHARED_MIN]);
        assert_eq!(after(&mut cost, 100, 100), [COMMIT_WRITES_MAX; 2], "a database elsewhere does the work");
        cost.learn(1, 1_000_000);
        assert_eq!(cost.writes_max(false), COMMIT_WRITES_MAX, "a small commit says nothing");
    }

    #[test]
    fn a_busy_time_ends_once() {
        let mut busy = Busy::default();
        assert!(!busy.is_over(0) && busy.due_ms().is_none());
        busy.note(10, 0);
        assert!(!busy.is_over(STORE_REST_MS) && busy.due_ms().is_none(), "it was none");
        busy.note(10_000, 20_000);
        assert!(!busy.is_over(20_000 + STORE_REST_MS), "it has just ended, or goes on");
        busy.note(100, 40_000);
        let due_ms = busy.due_ms().expect("it is looked at again");
        assert!(!busy.is_over(due_ms - 1) && busy.is_over(due_ms));
        assert!(busy.due_ms().is_none() && !busy.is_over(due_ms + STORE_REST_MS), "told once");
    }
}
