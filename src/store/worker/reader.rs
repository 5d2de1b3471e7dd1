//! A reading thread: what has gathered is given to the backend together.
//!
//! Owns: its connection.
//! Never: retries; a shard asks again by its own timer, and meanwhile others are served. A batch that breaks is tried in
//! parts, so that only what breaks is refused.
//! Bounds: [`READS_GATHERED_MAX`] reads and [`READS_GATHERED_BYTES_MAX`] asked bytes in one batch.

use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::gathered::{Gathered, isolate};
use super::{Complaint, Counters, Job, Outbox, Queue, Replies, Reply};
use crate::clock::Clock;
use crate::limits::{READS_GATHERED_BYTES_MAX, READS_GATHERED_MAX};
use crate::store::{Backend, Error, Read, ReadAnswer};

pub(super) struct Reader {
    backend: Box<dyn Backend>,
    jobs: Receiver<Job<Read>>,
    batch: Gathered<Read>,
    outbox: Outbox,
    counters: Arc<Counters>,
    clock: Clock,
    complaint: Complaint,
}

impl Reader {
    pub(super) fn new(
        backend: Box<dyn Backend>,
        queue: &Queue<Read>,
        shards: u16,
        replies: &Arc<dyn Replies>,
        counters: &Arc<Counters>,
        clock: Clock,
    ) -> Self {
        Self {
            backend,
            jobs: queue.receiver.clone(),
            batch: Gathered::new(READS_GATHERED_MAX, READS_GATHERED_BYTES_MAX),
            outbox: Outbox::new(shards, replies),
            counters: Arc::clone(counters),
            clock,
            complaint: Complaint::default(),
        }
    }

    pub(super) fn run(mut self) {
        while let Ok(job) = self.jobs.recv() {
            let mut next = Some(job);
            while let Some(job) = next.take() {
                match job {
                    Job::Ask(ticket, read) => {
                        next = self.batch.take(&self.jobs, ticket, read);
                        self.answer();
                    }
                    Job::Call(call) => call.run(&mut *self.backend),
                    Job::Stop => return,
                }
            }
        }
    }

    /// Answers the batch.
    fn answer(&mut self) {
        let Self { backend, batch, counters, .. } = self;
        let mut failed = None;
        let mut attempt = |reads: &[Read]| {
            let answers = read(&mut **backend, reads, counters);
            if let Err(why) = &answers {
                failed = Some(why.clone());
            }
            answers
        };
        let answers = match attempt(batch.asks()) {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            Err(why @ Error::Broken(_)) => isolate(batch.asks(), why, attempt),
            Err(why) => batch.asks().iter().map(|_| Err(why.clone())).collect(),
        };
        if let Some(why) = failed {
            self.complaint
                .about(self.clock.now().mono_ms, |untold| tracing::warn!(%why, untold, "reading the store fails"));
        }
        batch.settle(answers, |ticket, answer| self.outbox.push(ticket, Reply::Read(answer)));
        self.outbox.settle();
    }
}

/// One try.
fn read(backend: &mut dyn Backend, reads: &[Read], counters: &Counters) -> Result<Vec<ReadAnswer>, Error> {
    let of_users = reads.iter().filter(|read| read.is_of_user()).count();
    let queries = backend.user_queries();
    let answers = match backend.read(reads) {
        Ok(answers) if answers.len() != reads.len() => {
            Err(Error::Broken(format!("{} answers to {} reads", answers.len(), reads.len())))
        }
        answers => answers,
    };
    counters.reads_answered(reads.len(), answers.is_err());
    counters.users_read(of_users, backend.user_queries().saturating_sub(queries));
    answers
}
