//! A writing worker: group commit, and what happens when the database fails.
//!
//! Owns: its connection, and the order of everything written to its conversations.
//! Never: waits for more writes to come; what gathered while the last commit ran is the next batch. Never gives a later
//! write to the database while an earlier one may still be tried again.
//! Bounds: [`COMMIT_WRITES_MAX`] writes and about [`COMMIT_BYTES_MAX`] bytes in a batch; retries of at most
//! [`COMMIT_RETRY_MS_MAX`], and none at all once the database is known to fail.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::trimming::Trimming;
use super::{Counters, Job, Outbox, Queue, Replies, Reply, Ticket};
use crate::clock::Clock;
use crate::limits::{COMMIT_BYTES_MAX, COMMIT_RETRY_MS_MAX, COMMIT_RETRY_MS_MIN, COMMIT_WRITES_MAX, STORE_PROBE_MS};
use crate::store::{Backend, Error, Write, Written};

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

pub(super) struct Writer {
    backend: Box<dyn Backend>,
    jobs: Receiver<Job<Write>>,
    outbox: Outbox,
    counters: Arc<Counters>,
    clock: Clock,
    health: Health,
    /// The operator has read in the log that the database fails, and not yet that it works again.
    told: bool,
    /// Retention, if this worker has it.
    trimming: Option<Trimming>,
    /// The batch: who asked, and what.
    tickets: Vec<Ticket>,
    writes: Vec<Write>,
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
            told: false,
            trimming: None,
            tickets: Vec::new(),
            writes: Vec::new(),
        }
    }

    /// Gives the worker the database's retention.
    pub(super) fn trims(&mut self, trimming: Option<Trimming>) {
        self.trimming = trimming;
    }

    pub(super) fn run(mut self) {
        while let Some(job) = self.next() {
            let mut next = Some(job);
            while let Some(job) = next.take() {
                match job {
                    Job::Ask(ticket, write) => next = self.gather(ticket, write),
                    Job::Call(call) => call.run(&mut *self.backend),
                    Job::Stop => return,
                }
            }
        }
    }

    /// Waits for work. While the database fails it is asked now and then, so that a gateway that nobody sends anything
    /// any more, because it is not ready, becomes ready again; while it is well, a step of retention may come between two
    /// batches.
    fn next(&mut self) -> Option<Job<Write>> {
        loop {
            let due_ms = match self.health {
                Health::Failing { probe_ms } => probe_ms,
                Health::Well | Health::Doubtful => match &mut self.trimming {
                    None => return self.jobs.recv().ok(),
                    Some(trimming) => {
                        trimming.step(&mut *self.backend, self.clock.now(), &self.counters);
                        trimming.due_ms()
                    }
                },
            };
            let pause = Duration::from_millis(due_ms.saturating_sub(self.clock.now().mono_ms));
            match self.jobs.recv_timeout(pause) {
                Ok(job) => return Some(job),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.probe(),
            }
        }
    }

    /// Asks a failing database whether it is well again.
    fn probe(&mut self) {
        if matches!(self.health, Health::Failing { .. }) {
            match self.backend.ping() {
                Ok(()) => self.turn(Health::Doubtful),
                Err(error) => self.fail(&error),
            }
        }
    }

    /// Commits `write` and what has gathered behind it; gives back the job that ended the gathering.
    fn gather(&mut self, ticket: Ticket, write: Write) -> Option<Job<Write>> {
        let mut bytes = bytes_of(&write);
        self.tickets.push(ticket);
        self.writes.push(write);
        let mut next = None;
        while self.writes.len() < COMMIT_WRITES_MAX && bytes < COMMIT_BYTES_MAX {
            match self.jobs.try_recv() {
                Ok(Job::Ask(ticket, write)) => {
                    bytes = bytes.saturating_add(bytes_of(&write));
                    self.tickets.push(ticket);
                    self.writes.push(write);
                }
                Ok(other) => {
                    next = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        self.commit();
        next
    }

    /// Commits the batch and answers all of it.
    fn commit(&mut self) {
        let outcome = self.decide();
        match outcome {
            Ok(written) => {
                for (ticket, written) in self.tickets.drain(..).zip(written) {
                    self.outbox.push(ticket, Reply::Written(Ok(written)));
                }
            }
            Err(error) => {
                for ticket in self.tickets.drain(..) {
                    self.outbox.push(ticket, Reply::Written(Err(error.clone())));
                }
            }
        }
        self.writes.clear();
        self.outbox.settle();
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
            match self.try_commit() {
                Ok(written) => {
                    self.turn(Health::Well);
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
                // Whoever asked knows what to do under the same key; trying again here could only hide it.
                Err(error @ Error::Unknown(_)) => return Err(error),
                Err(error @ Error::Broken(_)) => {
                    self.fail(&error);
                    return Err(error);
                }
            }
        }
    }

    fn try_commit(&mut self) -> Result<Vec<Written>, Error> {
        let began = self.clock.nanos();
        let outcome = match self.backend.commit(&self.writes) {
            // Something was committed, but nobody can say which answer belongs to whom.
            Ok(written) if written.len() != self.writes.len() => {
                Err(Error::Broken(format!("{} answers to {} writes", written.len(), self.writes.len())))
            }
            outcome => outcome,
        };
        match &outcome {
            Ok(written) => {
                let rows = written.iter().filter(|w| matches!(w, Written::Stored { .. })).count();
                self.counters.committed(written.len(), rows, self.clock.nanos().saturating_sub(began));
            }
            Err(_) => self.counters.commit_failed(),
        }
        outcome
    }

    /// The database fails, or still does. Its own words are for the operator: clients are told `busy`, the metrics only
    /// count. Said once per outage, which a commit ends and a ping does not: a full disk takes a small write now and then.
    fn fail(&mut self, why: &Error) {
        if !self.told {
            tracing::error!(%why, "the database fails: posts are refused until it works again");
            self.told = true;
        }
        self.turn(Health::Failing { probe_ms: self.clock.now().mono_ms + STORE_PROBE_MS });
    }

    fn turn(&mut self, health: Health) {
        if health.fails() != self.health.fails() {
            self.counters.writer_fails(health.fails());
        }
        if self.told && health == Health::Well {
            tracing::info!("the database works again");
            self.told = false;
        }
        self.health = health;
    }
}

fn bytes_of(write: &Write) -> usize {
    match write {
        Write::Append(message) => message.body.len(),
        Write::Recall(recall) => recall.message.body.len() + recall.blank.len(),
        Write::Head(_) | Write::Join { .. } | Write::Leave { .. } | Write::Cursor { .. } => 0,
    }
}
