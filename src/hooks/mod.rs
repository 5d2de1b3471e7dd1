//! Webhooks: what backends are told by themselves, over HTTP.
//!
//! Owns: the events, their queues (one for each endpoint), and the thread that tells them
//! (`telling`, with `endpoint` for where to and `signing` for the proof).
//! Never: blocks whoever has something to tell, and never lets one endpoint wait for another.
//! Bounds: [`limits::HOOK_EVENTS_MAX`] events and [`limits::HOOK_BYTES_MAX`] wait for one endpoint;
//! what finds no room is dropped and counted. An event is told at least once, or given up and
//! counted after [`limits::HOOK_TRIES_MAX`] tries; those of one endpoint in the order in which they
//! were put into its queue. What waits when the process ends is lost, and counted in the log.

mod endpoint;
mod event;
mod signing;
mod telling;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

pub use self::endpoint::{Endpoint, is_private};
use self::event::Event;
pub use self::event::{HookEvent, HookKinds};
pub use self::signing::{BadSecret, Secrets};
use crate::fair::Networks;
use crate::limits;
use crate::metrics::backends::{BackendCounts, Hooked};

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
}

/// Where events are put; clones share it.
#[derive(Clone, Default)]
pub struct Hooks {
    queues: Arc<[Queue]>,
    kinds: HookKinds,
    counts: Arc<BackendCounts>,
    /// Events so far.
    numbers: Arc<AtomicU64>,
}

struct Queue {
    to: mpsc::Sender<Event>,
    bytes: Arc<AtomicUsize>,
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
        let Setup { endpoints, secrets, kinds, private, counts, retry_ms } = setup;
        if endpoints.is_empty() {
            return Ok((Self { counts, ..Self::default() }, Telling { stop, thread: None }));
        }
        let teller = Arc::new(telling::Teller::new(secrets, private, Arc::clone(&counts), retry_ms, &endpoints)?);
        let mut queues = Vec::new();
        let mut tasks = Vec::new();
        for endpoint in endpoints {
            let (to, from) = mpsc::channel(limits::HOOK_EVENTS_MAX);
            let bytes = Arc::new(AtomicUsize::new(0));
            queues.push(Queue { to, bytes: Arc::clone(&bytes) });
            tasks.push(telling::tell(Arc::clone(&teller), endpoint, from, bytes, stopped.clone()));
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
        Ok((
            Self { queues: queues.into(), kinds, counts, numbers: Arc::default() },
            Telling { stop, thread: Some(thread) },
        ))
    }

    /// Whether messages to users without a session are to be told.
    #[must_use]
    pub fn wants_messages(&self) -> bool {
        !self.queues.is_empty() && self.kinds.has_messages()
    }

    /// Puts an event into the queue of each endpoint, or drops it there. Never blocks.
    pub fn tell(&self, what: HookEvent) {
        if self.queues.is_empty() || !self.kinds.has(&what) {
            return;
        }
        let event = Event::now(what, self.numbers.fetch_add(1, Ordering::Relaxed));
        for queue in self.queues.iter() {
            let bytes = event.bytes();
            let fits = queue.bytes.fetch_add(bytes, Ordering::AcqRel) + bytes <= limits::HOOK_BYTES_MAX;
            // Before it is there: whoever takes it counts it out.
            self.counts.hook_queued(1);
            if !fits || queue.to.try_send(event.clone()).is_err() {
                queue.bytes.fetch_sub(bytes, Ordering::AcqRel);
                self.counts.hook_left(1);
                self.counts.hooked(Hooked::Full, 1);
            }
        }
    }
}

impl Telling {
    /// Lets the thread tell what waits, without a second try, for at most `patience`.
    pub fn stop(mut self, patience: Duration) {
        self.stop.send_replace(true);
        let Some(thread) = self.thread.take() else { return };
        let clock = crate::clock::Clock::start();
        while !thread.is_finished() {
            if u128::from(clock.now().mono_ms) >= patience.as_millis() {
                tracing::warn!("webhooks were not told everything that waited");
                return;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        let _ = thread.join();
    }
}
