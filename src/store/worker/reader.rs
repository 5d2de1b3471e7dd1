//! A reading thread: what has gathered in a lane is given to the backend together.
//!
//! Owns: its connection.
//! Never: retries; a shard asks again by its own timer, and meanwhile others are served. A batch
//! that breaks is tried in parts, so that only what breaks is refused.
//! Bounds: a batch is as large as its lane allows ([`super::lanes`]), and runs for
//! [`READ_RUN_MS_MAX`]; so does a call.

use std::sync::Arc;

use super::gathered::isolate;
use super::lanes::{Next, ReadQueue, Taken};
use super::{Ask, Complaint, Counters, Outbox, Reply};
use crate::clock::Clock;
use crate::limits::READ_RUN_MS_MAX;
use crate::store::{Backend, Error, Read, ReadAnswer};

pub(super) struct Reader {
    backend: Box<dyn Backend>,
    queue: Arc<ReadQueue>,
    /// Serves sessions that open and logins, nothing else.
    express: bool,
    taken: Taken,
    outbox: Outbox,
    counters: Arc<Counters>,
    clock: Clock,
    complaint: Complaint,
}

impl Reader {
    pub(super) fn new(
        backend: Box<dyn Backend>,
        queue: &Arc<ReadQueue>,
        express: bool,
        outbox: Outbox,
        counters: &Arc<Counters>,
        clock: Clock,
    ) -> Self {
        Self {
            backend,
            queue: Arc::clone(queue),
            express,
            taken: Taken::new(),
            outbox,
            counters: Arc::clone(counters),
            clock,
            complaint: Complaint::default(),
        }
    }

    pub(super) fn run(mut self) {
        let mut turn = 0;
        loop {
            match self.queue.take(self.express, &mut turn, self.clock.now().mono_ms, &mut self.taken) {
                Next::Work => self.serve(),
                Next::Wait => self.queue.wait(self.express),
                Next::End => {
                    // The others are told, too.
                    self.queue.stop();
                    return;
                }
            }
        }
    }

    fn serve(&mut self) {
        let Self { taken, outbox, .. } = self;
        for ticket in taken.late.drain(..) {
            outbox.push(ticket, Read::refused("it has waited too long"));
        }
        if taken.reads.asks().is_empty() {
            self.outbox.settle();
        } else {
            self.answer();
        }
        while let Some(call) = self.taken.calls.pop() {
            self.backend.limit(READ_RUN_MS_MAX);
            call.run(&mut *self.backend);
        }
    }

    /// Answers the batch.
    fn answer(&mut self) {
        let Self { backend, taken, counters, .. } = self;
        let batch = &mut taken.reads;
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
    backend.limit(READ_RUN_MS_MAX);
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
