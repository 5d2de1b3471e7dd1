//! The store's threads and their queues: group commit for writes, separate threads for reads.
//!
//! Owns: the queues, the threads, the retry of transient errors in order ([`writer`]), the lanes
//! and the gathering of reads ([`lanes`], [`reader`]), whose turn it is when more waits than can be
//! done at once ([`backlog`]), the [`Gauges`].
//! Never: refuses a shard; a shard reserves its place before it asks
//! ([`crate::limits::STORE_ASKS_MAX`]), so the queues are as long as all reservations together. The
//! control plane is refused when its share is full.
//! Bounds: a queue holds [`STORE_ASKS_MAX`] asks of each shard and [`STORE_CALLS_MAX`] calls of
//! each lane; an ask that has reached its worker is answered within
//! [`crate::limits::COMMIT_RETRY_MS_MAX`] and one try of the database, and a read waits no longer
//! than [`crate::limits::READ_WAIT_MS_MAX`].
//!
//! A panic on a store's thread (in a backend, or in a [`Call`]) aborts the process: half-answered
//! asks would never be answered, and after a restart the clients sync.

mod backlog;
mod complaint;
mod gathered;
mod gauges;
mod lanes;
mod reader;
mod sleepers;
mod trimming;
mod writer;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use parking_lot::Mutex;

use self::complaint::Complaint;
use self::gauges::Counters;
pub use self::gauges::Gauges;
use self::lanes::{CallPlaces, ReadQueue, Whose};
pub use self::lanes::{LANES, Lane, LanePlace};
use self::trimming::{Keeping, Trimming};
use super::location::{Opened, Upkeep};
use super::{Backend, ConvState, Error, Keep, Read, ReadAnswer, RetentionView, Write, Written};
use crate::clock::Clock;
use crate::ids::{ShardId, writer_of};
use crate::limits::{
    HEADS_MAX, PREVIEW_BYTES_MAX, READS_GATHERED_BYTES_MAX, READS_LIGHT_MAX, STORE_ASKS_MAX, STORE_CALLS_MAX,
    STORE_CONNS_MAX, UPKEEP_MS,
};
use crate::threads::Priority;

/// The asking shard, and the number under which it remembers the ask.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ticket {
    /// Where the answer goes.
    pub shard: ShardId,
    /// The shard's own number for it; comes back unchanged.
    pub ask: u32,
}

/// The answer to one ask of a shard. Every ask gets exactly one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// To a [`Write`].
    Written(Result<Written, Error>),
    /// To a [`Read`].
    Read(Result<ReadAnswer, Error>),
}

/// Where answers go: the mesh, or a test's list. Called from the store's threads, once per commit
/// or batch of reads and shard; after [`Store::stop`] from the thread that asked.
pub trait Replies: Send + Sync {
    /// Hands `replies` (ask number, answer) to `shard` and wakes it. Order is kept per caller.
    fn settle(&self, shard: ShardId, replies: Vec<(u32, Reply)>);
}

/// What the control plane runs on a store thread; it brings its own way to answer. It must not
/// panic (see above).
pub type Call = Box<dyn FnOnce(&mut dyn Backend) + Send>;

/// The control plane's share of the queue is full, or the store has stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the store is busy")]
pub struct Busy;

/// A cheap handle on the running store; clones share it. Without [`Store::stop`], the threads end
/// by themselves, with everything answered, after the last handle is gone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    /// One for each writing worker.
    writers: Vec<Queue<Write>>,
    /// What all reading threads share.
    readers: Arc<ReadQueue>,
    /// Of the control plane, in all writers' queues.
    places: CallPlaces,
    replies: Arc<dyn Replies>,
    counters: Arc<Counters>,
    keeping: Arc<Keeping>,
    /// Set when nothing is taken from the queues any more.
    ended: AtomicBool,
    /// Emptied by [`Store::stop`]. The upkeep's thread ends when its sender is dropped.
    threads: Mutex<Threads>,
}

#[derive(Default)]
struct Threads {
    workers: Vec<JoinHandle<()>>,
    upkeep: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Store {
    /// Starts one thread for each connection of `opened`. `shards` is the number of shards that
    /// will ask.
    ///
    /// # Errors
    /// The operating system gives no thread; those already started end by themselves.
    pub fn start(opened: Opened, shards: u16, replies: Arc<dyn Replies>, clock: Clock) -> io::Result<Self> {
        let Opened { writers, readers, upkeep, keep } = opened;
        assert!(!writers.is_empty() && writers.len() <= STORE_CONNS_MAX, "open() gives 1..=STORE_CONNS_MAX writers");
        assert!(!readers.is_empty() && readers.len() <= STORE_CONNS_MAX, "open() gives 1..=STORE_CONNS_MAX readers");
        let places = usize::from(shards) * STORE_ASKS_MAX as usize + LANES * STORE_CALLS_MAX + 1;
        let counters = Arc::new(Counters::default());
        let write_queues: Vec<Queue<Write>> = writers.iter().map(|_| Queue::new(places)).collect();
        // One alone serves the rest, too.
        let express = readers.len() > 1;
        let read_queue = Arc::new(ReadQueue::new(places, express, clock));
        let mut threads = Threads::default();
        // The first writer has it; with several, the database keeps their transactions apart.
        let keeping = Arc::<Keeping>::default();
        keeping.keep(keep);
        let mut trimming = Some(Trimming::new(Arc::clone(&keeping)));
        for (n, (backend, queue)) in writers.into_iter().zip(&write_queues).enumerate() {
            let mut worker = writer::Writer::new(backend, queue, shards, &replies, &counters, clock);
            worker.trims(trimming.take());
            threads.workers.push(spawn(format!("store-write-{n}"), move || worker.run())?);
        }
        for (n, backend) in readers.into_iter().enumerate() {
            let outbox = Outbox::new(shards, &replies);
            let worker = reader::Reader::new(backend, &read_queue, express && n == 0, outbox, &counters, clock);
            threads.workers.push(spawn(format!("store-read-{n}"), move || {
                Priority::Reads.give_way();
                worker.run();
            })?);
        }
        if let Some(upkeep) = upkeep {
            let (stop, stopped) = bounded(1);
            let counters = Arc::clone(&counters);
            threads.upkeep = Some((
                stop,
                spawn("store-upkeep".to_owned(), move || {
                    Priority::Upkeep.give_way();
                    tend(upkeep, &stopped, &counters, clock);
                })?,
            ));
        }
        let ended = AtomicBool::new(false);
        let (writers, readers, threads) = (write_queues, read_queue, Mutex::new(threads));
        let places = CallPlaces::default();
        Ok(Self { inner: Arc::new(Inner { writers, readers, places, replies, counters, keeping, ended, threads }) })
    }

    /// Queues a write of a shard. The conversation decides the worker.
    pub fn write(&self, ticket: Ticket, write: Write) {
        let worker = writer_of(write.conv(), u16::try_from(self.inner.writers.len()).unwrap_or(u16::MAX));
        self.inner.ask(&self.inner.writers[worker], ticket, write);
    }

    /// Queues a read of a shard. The reading threads hear of it by [`Store::ring`].
    pub fn read(&self, ticket: Ticket, read: Read) {
        self.inner.ask_read(ticket, read);
    }

    /// Wakes reading threads for what was queued. Once for all that a shard asks in one turn: a
    /// thread that is woken for the first of them takes the core from the shard for one read.
    pub fn ring(&self) {
        self.inner.readers.ring();
    }

    /// Runs `call` on a writing connection, in its own transaction(s). While no more waits than one
    /// batch takes, in order with what was queued before for the same worker (with SQLite there is
    /// one); after that, lanes and users are served in turn.
    ///
    /// # Errors
    /// [`Busy`]: it will not run. A call that was taken runs, or is dropped by [`Store::stop`].
    pub fn call(&self, place: LanePlace, call: Call) -> Result<(), Busy> {
        self.inner.call(place, call)
    }

    /// Runs `call` on a reading connection.
    ///
    /// # Errors
    /// As [`Store::call`]. One that has waited for [`crate::limits::READ_WAIT_MS_MAX`] is dropped,
    /// too, and one that runs for longer than [`crate::limits::READ_RUN_MS_MAX`] finds its
    /// statements ended.
    pub fn query(&self, place: LanePlace, call: Call) -> Result<(), Busy> {
        self.inner.query(place, call)
    }

    /// Keeps for [`Store::gauges`] how far our clock is from the database's.
    pub fn note_clock_offset(&self, offset_ms: Option<i64>) {
        self.inner.counters.clock_is_off(offset_ms);
    }

    /// What is kept, and how far retention is.
    #[must_use]
    pub fn retention(&self) -> RetentionView {
        self.inner.keeping.view()
    }

    /// Keeps so much from now on; what is too much goes at once.
    pub fn keep(&self, keep: Keep) {
        self.inner.keeping.keep(keep);
        self.inner.wake_trimming();
    }

    /// Begins a pass of retention over everything; one that is under way is followed by another.
    /// `false`: there is none, because everything is kept.
    #[must_use]
    pub fn begin_retention(&self) -> bool {
        let begun = self.inner.keeping.begin();
        self.inner.wake_trimming();
        begun
    }

    /// A reading of the counters.
    #[must_use]
    pub fn gauges(&self) -> Gauges {
        let writes: usize = self.inner.writers.iter().map(|queue| queue.sender.len()).sum();
        let mut gauges = self.inner.counters.read();
        let readers = &self.inner.readers;
        (gauges.reads_queued, gauges.reads_late) = (readers.queued(), readers.late());
        gauges.writes_queued += writes;
        gauges.users_waiting += readers.whose();
        gauges
    }

    /// Ends the store: what is queued is done and answered, then the threads end and the
    /// connections close. What is asked later is answered with [`Error::Unavailable`] at once.
    /// Blocks; never called on a store's thread.
    pub fn stop(&self) {
        let inner = &*self.inner;
        let Threads { workers, upkeep } = std::mem::take(&mut *inner.threads.lock());
        if let Some((stop, thread)) = upkeep {
            drop(stop);
            end(thread);
        }
        if workers.is_empty() {
            return;
        }
        // The places for these are part of every queue's length, so a queue that is full is one
        // that is being emptied.
        for queue in &inner.writers {
            let _ = queue.sender.send(Job::Stop);
        }
        inner.readers.stop();
        workers.into_iter().for_each(end);
        // In this order: an ask that comes after the sweep sees the flag and sweeps again.
        inner.ended.store(true, Ordering::SeqCst);
        inner.sweep();
    }
}

impl Inner {
    fn ask<T: Ask>(&self, queue: &Queue<T>, ticket: Ticket, ask: T) {
        match queue.sender.try_send(Job::Ask(ticket, ask)) {
            Ok(()) if self.ended.load(Ordering::SeqCst) => self.sweep(),
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                // Its own queue holds a receiver, so the only cause is a shard that asked without a
                // reservation.
                debug_assert!(false, "a shard asks within its reservation");
                self.replies.settle(ticket.shard, vec![(ticket.ask, T::refused("the queue is full"))]);
            }
        }
    }

    fn ask_read(&self, ticket: Ticket, read: Read) {
        match self.readers.ask(ticket, read) {
            Ok(()) if self.ended.load(Ordering::SeqCst) => self.sweep(),
            Ok(()) => {}
            Err(Busy) => {
                debug_assert!(false, "a shard asks within its reservation");
                self.replies.settle(ticket.shard, vec![(ticket.ask, Read::refused("the queue is full"))]);
            }
        }
    }

    fn call(&self, place: LanePlace, call: Call) -> Result<(), Busy> {
        if self.ended.load(Ordering::SeqCst) {
            return Err(Busy);
        }
        let (_, queued) = self.places.queue(place, call)?;
        self.writers[0].sender.try_send(Job::Call(queued)).map_err(|_| Busy)?;
        if self.ended.load(Ordering::SeqCst) {
            self.sweep();
        }
        Ok(())
    }

    fn query(&self, place: LanePlace, call: Call) -> Result<(), Busy> {
        if self.ended.load(Ordering::SeqCst) {
            return Err(Busy);
        }
        self.readers.call(place, call)?;
        if self.ended.load(Ordering::SeqCst) {
            self.sweep();
        }
        Ok(())
    }

    /// The worker that has retention looks whether there is something to do. One that is busy looks
    /// by itself.
    fn wake_trimming(&self) {
        let _ = self.call(LanePlace::of(Lane::Light), Box::new(|_| {}));
    }

    /// Refuses what came too late for the workers.
    fn sweep(&self) {
        self.writers.iter().for_each(|queue| queue.refuse_all(&*self.replies));
        self.readers.refuse_all(&*self.replies);
    }
}

/// The reading threads share the senders of their queue, so its end must be told to them.
impl Drop for Inner {
    fn drop(&mut self) {
        self.readers.stop();
    }
}

/// What shards ask: [`Write`] or [`Read`].
trait Ask {
    /// What it adds to the bytes of a batch: those it brings, or those that its answer may cost.
    fn bytes(&self) -> usize;

    /// The answer of a store that will not do it.
    fn refused(why: &str) -> Reply;
}

impl Ask for Write {
    fn bytes(&self) -> usize {
        match self {
            Self::Append(message) | Self::Line(message) => message.body.len(),
            Self::Recall(recall) => recall.message.body.len() + recall.blank.len(),
            Self::Head(_) | Self::Join { .. } | Self::Leave { .. } | Self::Cursor { .. } => 0,
        }
    }

    fn refused(why: &str) -> Reply {
        Reply::Written(Err(Error::Unavailable(why.to_owned())))
    }
}

impl Ask for Read {
    /// A user's state is small ([`crate::limits::GROUPS_JOINED_MAX`] pairs of numbers).
    fn bytes(&self) -> usize {
        match self {
            Self::Page { bytes_max, .. } => *bytes_max,
            Self::Open { .. } => 0,
            Self::Heads { max, .. } => (*max).min(HEADS_MAX) as usize * HEAD_BYTES,
        }
    }

    fn refused(why: &str) -> Reply {
        Reply::Read(Err(Error::Unavailable(why.to_owned())))
    }
}

/// What stands in a queue.
enum Job<T> {
    Ask(Ticket, T),
    Call(Queued),
    /// The worker that takes it has done what came before, and ends.
    Stop,
}

/// A queued call; its place is free again when it is taken or dropped.
struct Queued {
    call: Call,
    place: CallPlace,
    lane: Lane,
    whose: Whose,
}

impl Queued {
    fn run(self, backend: &mut dyn Backend) {
        drop(self.place);
        (self.call)(backend);
    }
}

/// One of the [`STORE_CALLS_MAX`] places for calls in a lane, so that they never take a shard's.
struct CallPlace(Arc<AtomicUsize>);

impl CallPlace {
    fn take(taken: &Arc<AtomicUsize>) -> Option<Self> {
        let free = |n: usize| (n < STORE_CALLS_MAX).then_some(n + 1);
        taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok()?;
        Some(Self(Arc::clone(taken)))
    }
}

impl Drop for CallPlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A bounded queue. It keeps a receiver, so that nothing is lost between the end of its worker and
/// the last sweep.
struct Queue<T> {
    sender: Sender<Job<T>>,
    receiver: Receiver<Job<T>>,
}

impl<T: Ask> Queue<T> {
    fn new(places: usize) -> Self {
        let (sender, receiver) = bounded(places);
        Self { sender, receiver }
    }

    fn refuse_all(&self, replies: &dyn Replies) {
        for job in self.receiver.try_iter() {
            match job {
                Job::Ask(ticket, _) => replies.settle(ticket.shard, vec![(ticket.ask, T::refused("it has stopped"))]),
                Job::Call(_) | Job::Stop => {}
            }
        }
    }
}

/// Answers of one batch, grouped by shard.
struct Outbox {
    by_shard: Vec<Vec<(u32, Reply)>>,
    replies: Arc<dyn Replies>,
}

impl Outbox {
    fn new(shards: u16, replies: &Arc<dyn Replies>) -> Self {
        Self { by_shard: (0..shards).map(|_| Vec::new()).collect(), replies: Arc::clone(replies) }
    }

    fn push(&mut self, ticket: Ticket, reply: Reply) {
        match self.by_shard.get_mut(usize::from(ticket.shard.0)) {
            Some(list) => list.push((ticket.ask, reply)),
            // More shards than were announced: correct, only not batched.
            None => self.replies.settle(ticket.shard, vec![(ticket.ask, reply)]),
        }
    }

    fn settle(&mut self) {
        for (shard, list) in (0u16..).zip(&mut self.by_shard) {
            if !list.is_empty() {
                self.replies.settle(ShardId(shard), std::mem::take(list));
            }
        }
    }
}

fn tend(mut upkeep: Box<dyn Upkeep>, stopped: &Receiver<()>, counters: &Counters, clock: Clock) {
    let mut complaint = Complaint::default();
    while stopped.recv_timeout(Duration::from_millis(UPKEEP_MS)) == Err(RecvTimeoutError::Timeout) {
        if let Err(why) = upkeep.tend() {
            counters.upkeep_failed();
            complaint.about(clock.now().mono_ms, |untold| tracing::warn!(%why, untold, "the store's upkeep fails"));
        }
    }
}

/// One conversation in an answer, with its newest message.
const HEAD_BYTES: usize = size_of::<ConvState>() + PREVIEW_BYTES_MAX;

const _: () = assert!(
    READS_LIGHT_MAX * HEADS_MAX as usize * HEAD_BYTES <= READS_GATHERED_BYTES_MAX,
    "what many users ask for when they open is one batch"
);

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name).spawn(move || {
        let _abort = AbortOnPanic;
        run();
    })
}

fn end(thread: JoinHandle<()>) {
    // The only other end is a panic, and that has ended the process.
    let _ = thread.join();
}

/// See the head of this file.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}
