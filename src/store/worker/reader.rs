//! A reading thread: what has gathered is given to the backend together.
//!
//! Owns: its connection.
//! Never: retries; a shard asks again by its own timer, and meanwhile others are served.
//! Bounds: [`READS_GATHERED_MAX`] reads and [`READS_GATHERED_BYTES_MAX`] asked bytes in one batch.

use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::{Counters, Job, Outbox, Queue, Replies, Reply, Ticket};
use crate::limits::{HEADS_MAX, READS_GATHERED_BYTES_MAX, READS_GATHERED_MAX};
use crate::store::{Backend, ConvState, Error, Read};

pub(super) struct Reader {
    backend: Box<dyn Backend>,
    jobs: Receiver<Job<Read>>,
    outbox: Outbox,
    counters: Arc<Counters>,
    /// The batch: who asked, and what.
    tickets: Vec<Ticket>,
    reads: Vec<Read>,
}

impl Reader {
    pub(super) fn new(
        backend: Box<dyn Backend>,
        queue: &Queue<Read>,
        shards: u16,
        replies: &Arc<dyn Replies>,
        counters: &Arc<Counters>,
    ) -> Self {
        Self {
            backend,
            jobs: queue.receiver.clone(),
            outbox: Outbox::new(shards, replies),
            counters: Arc::clone(counters),
            tickets: Vec::new(),
            reads: Vec::new(),
        }
    }

    pub(super) fn run(mut self) {
        while let Ok(job) = self.jobs.recv() {
            let mut next = Some(job);
            while let Some(job) = next.take() {
                match job {
                    Job::Ask(ticket, read) => next = self.gather(ticket, read),
                    Job::Call(call) => call.run(&mut *self.backend),
                    Job::Stop => return,
                }
            }
        }
    }

    /// Answers `read` and what has gathered behind it; gives back the job that ended the gathering.
    fn gather(&mut self, ticket: Ticket, read: Read) -> Option<Job<Read>> {
        let mut bytes = bytes_asked(&read);
        self.tickets.push(ticket);
        self.reads.push(read);
        let mut next = None;
        while self.reads.len() < READS_GATHERED_MAX && bytes < READS_GATHERED_BYTES_MAX {
            match self.jobs.try_recv() {
                Ok(Job::Ask(ticket, read)) => {
                    bytes = bytes.saturating_add(bytes_asked(&read));
                    self.tickets.push(ticket);
                    self.reads.push(read);
                }
                Ok(other) => {
                    next = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        self.answer();
        next
    }

    fn answer(&mut self) {
        let count = self.reads.len();
        let of_users = self.reads.iter().filter(|read| read.is_of_user()).count();
        let queries = self.backend.user_queries();
        let answers = match self.backend.read(&self.reads) {
            Ok(answers) if answers.len() == count => Ok(answers),
            Ok(answers) => Err(Error::Broken(format!("{} answers to {count} reads", answers.len()))),
            Err(error) => Err(error),
        };
        self.reads.clear();
        self.counters.reads_answered(count, answers.is_err());
        self.counters.users_read(of_users, self.backend.user_queries().saturating_sub(queries));
        match answers {
            Ok(answers) => {
                for (ticket, answer) in self.tickets.drain(..).zip(answers) {
                    self.outbox.push(ticket, Reply::Read(Ok(answer)));
                }
            }
            Err(error) => {
                for ticket in self.tickets.drain(..) {
                    self.outbox.push(ticket, Reply::Read(Err(error.clone())));
                }
            }
        }
        self.outbox.settle();
    }
}

/// What the answer may cost at most. A user's state is small ([`crate::limits::GROUPS_JOINED_MAX`] pairs of numbers).
fn bytes_asked(read: &Read) -> usize {
    match read {
        Read::Page { bytes_max, .. } => *bytes_max,
        Read::Open { .. } => 0,
        Read::Heads { max, .. } => (*max).min(HEADS_MAX) as usize * size_of::<ConvState>(),
    }
}

const _: () = assert!(
    READS_GATHERED_MAX * HEADS_MAX as usize * size_of::<ConvState>() <= READS_GATHERED_BYTES_MAX,
    "what hundreds of users ask for when they open is one batch"
);
