//! The store's threads, played: queues that are worked off when chance says so, with commits that fail or stay silent.
//!
//! Owns: one FIFO for each writer, the reads that wait, and the in-memory backend behind them.

use std::collections::VecDeque;

use imgate::ids::{ConvId, Seq, ShardId, writer_of};
use imgate::store::memory::{Connection, Memory};
use imgate::store::worker::Reply;
use imgate::store::{Backend, Error, PageStart, Read, ReadAnswer, Retention, Write, Written};

use crate::plan::{Failure, Plan};
use crate::random::Random;
use crate::truth::Truth;

/// An answer on its way to a shard; `lane` is the thread that gives it, whose answers stay in order.
pub(crate) struct Settled {
    pub(crate) shard: ShardId,
    pub(crate) lane: usize,
    pub(crate) ask: u32,
    pub(crate) reply: Reply,
}

/// The store with its queues.
pub(crate) struct Database {
    pub(crate) backend: Connection,
    writers: Vec<VecDeque<(ShardId, u32, Write)>>,
    reads: Vec<(ShardId, u32, Read)>,
    /// Commits and reads that had something to do before the calm.
    pub(crate) works: u64,
    /// What was committed since another gateway on the same database last heard of it; `None`: there is no other.
    pub(crate) news: Option<Vec<(Vec<Write>, Vec<Written>)>>,
}

impl Database {
    /// The threads of a gateway on `memory`, so many of them writing.
    pub(crate) fn new(memory: &Memory, writers: u16) -> Self {
        let writers = (0..writers).map(|_| VecDeque::new()).collect();
        Self { backend: memory.connect(), writers, reads: Vec::new(), works: 0, news: None }
    }

    /// Whether the next work fails as the plan says; counts it.
    fn fault(&mut self, world: &Weather<'_>) -> Option<Failure> {
        if world.calm {
            return None;
        }
        self.works += 1;
        world.plan.fault.filter(|&(work, _)| work == self.works).map(|(_, failure)| failure)
    }

    fn happened(&mut self, writes: Vec<Write>, written: Vec<Written>) {
        if let Some(news) = &mut self.news {
            news.push((writes, written));
        }
    }

    /// Queues a write.
    pub(crate) fn write(&mut self, shard: ShardId, ask: u32, write: Write) {
        let writers = u16::try_from(self.writers.len()).unwrap_or(1);
        self.writers[writer_of(write.conv(), writers)].push_back((shard, ask, write));
    }

    /// Queues a read.
    pub(crate) fn read(&mut self, shard: ShardId, ask: u32, read: Read) {
        self.reads.push((shard, ask, read));
    }

    /// Whether nothing waits.
    pub(crate) fn is_idle(&self) -> bool {
        self.reads.is_empty() && self.writers.iter().all(VecDeque::is_empty)
    }

    /// One transaction of a random writer, if one has work.
    pub(crate) fn commit(&mut self, world: Weather<'_>, truth: &mut Truth) -> Result<Vec<Settled>, String> {
        let busy: Vec<usize> = (0..self.writers.len()).filter(|&lane| !self.writers[lane].is_empty()).collect();
        if busy.is_empty() {
            return Ok(Vec::new());
        }
        let lane = world.random.pick(&busy);
        let fault = self.fault(&world);
        let queue = &mut self.writers[lane];
        let size = if world.calm { queue.len() } else { world.random.index(queue.len()) + 1 };
        let batch: Vec<(ShardId, u32, Write)> = queue.drain(..size).collect();
        let writes: Vec<Write> = batch.iter().map(|(.., write)| write.clone()).collect();
        let [refused, silent, lost] = world.outage.unwrap_or(world.plan.commits);
        let luck = if world.calm { 1000 } else { world.random.below(1000) };
        let [refused, silent, lost] = fault.map_or([refused, silent, lost], |failure| match failure {
            Failure::Refused => [1000, 0, 0],
            Failure::Silent => [0, 1000, 0],
            Failure::Lost => [0, 0, 1000],
        });
        let outcome: Result<Vec<Written>, Error> = if luck < refused {
            Err(Error::Unavailable("simulated".to_owned()))
        } else if luck < refused + lost {
            Err(Error::Unknown("simulated, lost".to_owned()))
        } else {
            let silent = luck < refused + lost + silent;
            let written = self.backend.commit(&writes).map_err(|error| format!("store: {error}"))?;
            truth.commit(world.step, silent, &writes, &written)?;
            self.happened(writes.clone(), written.clone());
            if silent { Err(Error::Unknown("simulated, done".to_owned())) } else { Ok(written) }
        };
        let answers: Vec<Result<Written, Error>> = match outcome {
            Ok(written) => written.into_iter().map(Ok).collect(),
            Err(error) => writes.iter().map(|_| Err(error.clone())).collect(),
        };
        Ok(batch
            .into_iter()
            .zip(answers)
            .map(|((shard, ask, _), answer)| Settled { shard, lane, ask, reply: Reply::Written(answer) })
            .collect())
    }

    /// Answers one read, any of those that wait.
    pub(crate) fn answer_read(&mut self, world: Weather<'_>, truth: &Truth) -> Result<Vec<Settled>, String> {
        if self.reads.is_empty() {
            return Ok(Vec::new());
        }
        let at = world.random.index(self.reads.len());
        let fault = self.fault(&world);
        let (shard, ask, read) = self.reads.swap_remove(at);
        let answer = if fault.is_some()
            || !world.calm && (world.outage.is_some() || world.random.chance(world.plan.read_failures))
        {
            Err(Error::Unavailable("simulated".to_owned()))
        } else {
            let mut answers =
                self.backend.read(std::slice::from_ref(&read)).map_err(|error| format!("store: {error}"))?;
            let answer = answers.pop().ok_or("store: no answer to a read")?;
            if let (Read::Heads { user, before, missed, max }, ReadAnswer::Heads(heads)) = (&read, &answer) {
                truth.check_heads(*user, *before, (*missed, *max), heads)?;
            }
            Ok(answer)
        };
        Ok(vec![Settled { shard, lane: self.writers.len(), ask, reply: Reply::Read(answer) }])
    }

    /// Retention: messages go. The floors that are left are compared with what was allowed.
    pub(crate) fn trim(&mut self, retention: &Retention, steps_max: u32, truth: &mut Truth) -> Result<u64, String> {
        let trimmed = self.backend.trim(retention, steps_max).map_err(|error| format!("store: {error}"))?;
        let convs: Vec<ConvId> = truth.convs.keys().copied().collect();
        let mut gone = 0;
        for conv in convs {
            let (head, was) = (truth.head(conv), truth.floor(conv));
            let from = PageStart::After(Seq::ZERO);
            let read = Read::Page { conv, reader: None, from, rows_max: 1, bytes_max: 1 };
            let answers = self.backend.read(&[read]).map_err(|error| format!("store: {error}"))?;
            let [ReadAnswer::Page(page)] = answers.as_slice() else {
                return Err("store: no page of a trimmed conversation".to_owned());
            };
            let floor = page.floor.get();
            let by_count = if retention.count == 0 { 1 } else { head.saturating_sub(retention.count) + 1 };
            let old = |seq: u64| truth.message(conv, seq).is_some_and(|message| message.ts < retention.before_ms);
            let by_age = (was..=head).find(|&seq| !old(seq)).unwrap_or(head + 1);
            if floor < was || floor > by_count.max(by_age).max(was) {
                return Err(format!("store: {conv:?} is trimmed from #{was} to #{floor}, head #{head}: {retention:?}"));
            }
            gone += floor - was;
            truth.trimmed(conv, floor);
        }
        if gone != trimmed.messages {
            return Err(format!("store: {trimmed:?}, but {gone} messages have gone"));
        }
        Ok(gone)
    }

    /// The process dies: each writer's last transaction is still committed or not, everything else that waited is forgotten.
    pub(crate) fn crash(&mut self, world: Weather<'_>, truth: &mut Truth) -> Result<(), String> {
        self.reads.clear();
        for lane in 0..self.writers.len() {
            let queue = &mut self.writers[lane];
            let size = world.random.index(queue.len() + 1);
            let writes: Vec<Write> = queue.drain(..).take(size).map(|(.., write)| write).collect();
            let written = self.backend.commit(&writes).map_err(|error| format!("store: {error}"))?;
            truth.commit(world.step, true, &writes, &written)?;
            self.happened(writes, written);
        }
        Ok(())
    }

    /// A transaction of another gateway on the same database.
    pub(crate) fn foreign(&mut self, step: u64, write: Write, truth: &mut Truth) -> Result<(), String> {
        let writes = [write];
        let written = self.backend.commit(&writes).map_err(|error| format!("store: {error}"))?;
        truth.commit(step, true, &writes, &written)
    }
}

/// What the store is told of the world around it.
pub(crate) struct Weather<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) random: &'a mut Random,
    /// The store fails as these shares of 1000 say: refused, done without an answer, lost without an answer.
    pub(crate) outage: Option<[u64; 3]>,
    /// No faults any more.
    pub(crate) calm: bool,
    pub(crate) step: u64,
}
