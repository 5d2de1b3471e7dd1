//! Webhooks: what backends are told by themselves, over HTTP.
//!
//! Owns: the events, their queues (one for each endpoint), and the thread that tells them
//! (`telling`, with `endpoint` for where to, `signing` for the proof and `journal` for what a
//! restart must not lose); the messages of groups that wait until it is known which members are
//! away ([`GroupMessages`]), which the control plane finds out.
//! Never: blocks whoever has something to tell, and never lets one endpoint wait for another.
//! Bounds: [`limits::HOOK_EVENTS_MAX`] events and [`limits::HOOK_BYTES_MAX`] wait for one endpoint,
//! [`limits::HOOK_GROUP_WAITING_MAX`] messages of groups; what finds no room is dropped and
//! counted. An event is told at least once, or given up and counted after
//! [`limits::HOOK_TRIES_MAX`] tries; those of one endpoint in the order in which they were put into
//! its queue. What waits when the process ends is told by the next one.

mod endpoint;
mod event;
mod journal;
mod signing;
mod story;
mod telling;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};

pub use self::endpoint::{Endpoint, is_private};
use self::event::Event;
pub use self::event::{HookEvent, HookKinds};
use self::journal::Journal;
pub use self::signing::{BadSecret, Secrets};
use crate::fair::Networks;
use crate::ids::{GroupId, Seq};
use crate::limits;
use crate::metrics::backends::{BackendCounts, Hooked};
use crate::wire::Packet;

/// What webhooks are set up with.
pub struct Setup {
    /// Where to tell; none: nothing is told.
    pub endpoints: Vec<Endpoint>,
    /// What signs.
    pub secrets: Secrets,
    /// What is told.
    pub kinds: HookKinds,
    /// Networks that are not the Internet's and may be told something all the same.
    pub private: Networks,
    /// Where it is counted.
    pub counts: Arc<BackendCounts>,
    /// Pause before a second try, in milliseconds; it doubles with each further one.
    pub retry_ms: u64,
    /// The directory of what waits; made if there is an endpoint.
    pub journals: PathBuf,
}

/// Where events are put; clones share it.
#[derive(Clone, Default)]
pub struct Hooks {
    queues: Arc<[Queue]>,
    kinds: HookKinds,
    counts: Arc<BackendCounts>,
    /// Events so far.
    numbers: Arc<AtomicU64>,
    groups: Option<GroupQueue>,
}

/// The way to one endpoint.
struct Queue {
    to: mpsc::Sender<Event>,
    held: Arc<Held>,
}

/// What waits for one endpoint, wherever it is.
#[derive(Debug, Default)]
struct Held {
    events: AtomicUsize,
    bytes: AtomicUsize,
    /// Events that found no place, since the log has been told.
    dropped: AtomicU64,
}

impl Held {
    /// Notes for the log that an event found no place.
    fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts one more in, if there is room.
    fn take(&self, bytes: usize) -> bool {
        let events = self.events.fetch_add(1, Ordering::AcqRel);
        let before = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        let fits = events < limits::HOOK_EVENTS_MAX && before + bytes <= limits::HOOK_BYTES_MAX;
        if !fits {
            self.leave(1, bytes);
        }
        fits
    }

    /// Counts some out.
    fn leave(&self, events: usize, bytes: usize) {
        self.events.fetch_sub(events, Ordering::AcqRel);
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
    }
}

/// A message of a group that was stored just now.
#[derive(Debug)]
pub struct GroupMessage {
    /// The group.
    pub group: GroupId,
    /// Its place there.
    pub seq: Seq,
    /// The message.
    pub packet: Arc<Packet>,
}

impl GroupMessage {
    /// The number of its author.
    #[must_use]
    pub fn author(&self) -> Option<u64> {
        event::author(&self.packet)
    }

    /// What it takes of memory, about.
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.packet.frame().len()
    }
}

#[derive(Clone)]
struct GroupQueue {
    to: mpsc::Sender<GroupMessage>,
    bytes: Arc<AtomicUsize>,
    from: Arc<Mutex<Option<GroupMessages>>>,
}

/// The messages of groups that wait until it is known which members are away.
pub struct GroupMessages {
    from: mpsc::Receiver<GroupMessage>,
    bytes: Arc<AtomicUsize>,
}

impl GroupMessages {
    /// The next one; `None` when there will be none.
    pub async fn next(&mut self) -> Option<GroupMessage> {
        let message = self.from.recv().await?;
        Some(self.took(message))
    }

    /// The next one, if it is here.
    pub fn try_next(&mut self) -> Option<GroupMessage> {
        let message = self.from.try_recv().ok()?;
        Some(self.took(message))
    }

    fn took(&self, message: GroupMessage) -> GroupMessage {
        self.bytes.fetch_sub(message.bytes(), Ordering::AcqRel);
        message
    }
}

/// The thread that tells.
pub struct Telling {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Hooks {
    /// Starts the thread, if there is an endpoint.
    ///
    /// # Errors
    /// The system gives no thread, or a runtime cannot be made.
    pub fn start(setup: Setup) -> io::Result<(Self, Telling)> {
        let (stop, stopped) = watch::channel(false);
        let Setup { endpoints, secrets, kinds, private, counts, retry_ms, journals } = setup;
        if endpoints.is_empty() {
            return Ok((Self { counts, ..Self::default() }, Telling { stop, thread: None }));
        }
        let teller = Arc::new(telling::Teller::new(secrets, private, Arc::clone(&counts), retry_ms, &endpoints)?);
        journal::look_for_others(&journals, &endpoints);
        let mut queues = Vec::new();
        let mut tasks = Vec::new();
        for endpoint in endpoints {
            let (to, from) = mpsc::channel(limits::HOOK_EVENTS_MAX);
            let held = Arc::<Held>::default();
            let (journal, rows) = Journal::open(&journals, &endpoint, Arc::clone(&counts));
            let waiting = telling::Waiting::new(journal, rows, Arc::clone(&held), &counts);
            queues.push(Queue { to, held });
            tasks.push(telling::tell(Arc::clone(&teller), endpoint, from, waiting, stopped.clone()));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build()?;
        let thread = std::thread::Builder::new().name("hooks".to_owned()).spawn(move || {
            runtime.block_on(async {
                let tasks: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
                for task in tasks {
                    // One that has panicked was printed; the others go on.
                    let _ = task.await;
                }
            });
            // A name that is looked up may take long; nothing waits for it.
            runtime.shutdown_background();
        })?;
        let groups = kinds.has_group_messages().then(GroupQueue::new);
        Ok((
            Self { queues: queues.into(), kinds, counts, numbers: Arc::default(), groups },
            Telling { stop, thread: Some(thread) },
        ))
    }

    /// Whether messages to users without a session are to be told.
    #[must_use]
    pub fn wants_messages(&self) -> bool {
        !self.queues.is_empty() && self.kinds.has_messages()
    }

    /// Whether messages of groups are.
    #[must_use]
    pub const fn wants_group_messages(&self) -> bool {
        self.groups.is_some()
    }

    /// The messages of groups that wait; once.
    #[must_use]
    pub fn group_messages(&self) -> Option<GroupMessages> {
        self.groups.as_ref()?.from.lock().take()
    }

    /// A message of a group was stored: its members that are away are to be found. Never blocks.
    pub fn group_stored(&self, message: GroupMessage) {
        let Some(groups) = &self.groups else { return };
        let bytes = message.bytes();
        let fits = groups.bytes.fetch_add(bytes, Ordering::AcqRel) + bytes <= limits::HOOK_BYTES_MAX;
        if !fits || groups.to.try_send(message).is_err() {
            groups.bytes.fetch_sub(bytes, Ordering::AcqRel);
            self.queues.iter().for_each(|queue| queue.held.drop_one());
            self.counts.hooked(Hooked::Full, self.queues.len() as u64);
        }
    }

    /// Puts an event into the queue of each endpoint, or drops it there. Never blocks.
    pub fn tell(&self, what: HookEvent) {
        if self.queues.is_empty() || !self.kinds.has(&what) {
            return;
        }
        let event = Event::now(what, self.numbers.fetch_add(1, Ordering::Relaxed));
        for queue in self.queues.iter() {
            let bytes = event.bytes();
            // Before it is there: whoever takes it counts it out.
            self.counts.hook_queued(1);
            let has_place = queue.held.take(bytes);
            if has_place && queue.to.try_send(event.clone()).is_ok() {
                continue;
            }
            if has_place {
                queue.held.leave(1, bytes);
            }
            queue.held.drop_one();
            self.counts.hook_left(1);
            self.counts.hooked(Hooked::Full, 1);
        }
    }
}

impl GroupQueue {
    fn new() -> Self {
        let (to, from) = mpsc::channel(limits::HOOK_GROUP_WAITING_MAX);
        let bytes = Arc::<AtomicUsize>::default();
        let messages = GroupMessages { from, bytes: Arc::clone(&bytes) };
        Self { to, bytes, from: Arc::new(Mutex::new(Some(messages))) }
    }
}

impl Telling {
    /// Lets the thread tell what waits, without a second try, for at most `patience`. The rest is
    /// for the next start.
    pub fn stop(mut self, patience: Duration) {
        self.stop.send_replace(true);
        let Some(thread) = self.thread.take() else { return };
        let clock = crate::clock::Clock::start();
        while !thread.is_finished() {
            if u128::from(clock.now().mono_ms) >= patience.as_millis() {
                tracing::info!("webhooks were not told everything that waited; the next start goes on");
                return;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let _ = thread.join();
    }
}
