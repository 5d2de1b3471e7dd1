//! Other gateways of the same database.
//!
//! Owns: what they say to each other (`envelope`), what one makes of it (`exchange`, a pure state
//! machine), the thread that carries it over NATS (`bus`), whether that brings what is said
//! (`canary`) and what it refuses (`refusals`, `trial`).
//! Never: exists without the setting `cluster`. The database numbers, dedupes and keeps; what
//! stands here makes messages of one gateway reach the sessions of another, at once as a rule.

mod addresses;
mod bus;
mod canary;
mod clocks;
mod credentials;
pub mod envelope;
pub mod exchange;
mod refusals;
mod trial;
mod waiting;
mod whereabouts;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::{Notify, oneshot};

pub use self::bus::{ChangeFeed, Numbers, Setup};
use crate::limits::CLUSTER_START_MS;
use crate::mesh::Wake;
use crate::metrics::cluster::ClusterNumbers;

/// Whether that is a URL of a server of the bus.
#[must_use]
pub fn is_server(text: &str) -> bool {
    bus::is_server(text)
}

/// Tries whether a server of the bus lets this machine in, and lets it say and hear what the
/// gateway `node` of the cluster `name` does. Waits some seconds at most.
///
/// # Errors
/// Why not, without passwords.
pub fn probe(servers: &[String], name: &str, node: u16) -> Result<(), String> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    let outcome = runtime.block_on(trial::of(servers, name, node));
    // A name service that hangs is not waited for.
    runtime.shutdown_background();
    outcome
}

/// What shards call when they have something for the thread of the cluster, and what it waits for.
#[must_use]
pub fn waker() -> (Wake, Arc<Notify>) {
    let notify = Arc::new(Notify::new());
    let other = Arc::clone(&notify);
    (Arc::new(move || other.notify_one()), notify)
}

/// The thread of the cluster.
pub struct Cluster {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
    numbers: Numbers,
    changes: ChangeFeed,
    wake: Arc<Notify>,
}

impl Cluster {
    /// Starts it, and waits until it is known whether another gateway has this one's number; the
    /// bus may come later.
    ///
    /// # Errors
    /// There is no thread, or no poll for it. [`io::ErrorKind::AddrInUse`]: another gateway that
    /// lives has the number.
    pub fn start(setup: Setup) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let (tell, admission) = oneshot::channel();
        let numbers = Numbers::default();
        let shown = Numbers::clone(&numbers);
        let (changes, wake) = (setup.changes.clone(), Arc::clone(&setup.wake));
        let thread = thread::Builder::new()
            .name("cluster".to_owned())
            .spawn(move || runtime.block_on(bus::run(setup, shown, tell, stopped)))?;
        let this = Self { stop, thread, numbers, changes, wake };
        let waiting = Builder::new_current_thread().enable_time().build()?;
        let patience = Duration::from_millis(CLUSTER_START_MS);
        match waiting.block_on(async { tokio::time::timeout(patience, admission).await }) {
            Ok(Ok(false)) => {
                this.stop();
                Err(io::Error::new(io::ErrorKind::AddrInUse, "another gateway that runs has the same number"))
            }
            // Whoever could object has not.
            Ok(Ok(true) | Err(_)) | Err(_) => Ok(this),
        }
    }

    /// What a scrape shows.
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        Numbers::clone(&self.numbers)
    }

    /// To be called when something that other gateways follow in the database was changed here.
    #[must_use]
    pub fn tell_change(&self) -> Wake {
        let (mine, wake) = (Arc::clone(&self.changes.mine), Arc::clone(&self.wake));
        Arc::new(move || {
            mine.store(true, Ordering::Release);
            wake.notify_one();
        })
    }

    /// Is notified when another gateway has changed such a thing.
    #[must_use]
    pub fn heard_change(&self) -> Arc<Notify> {
        Arc::clone(&self.changes.look)
    }

    /// Says goodbye and ends, within a few ticks.
    pub fn stop(self) {
        drop(self.stop);
        // It ends by itself; a panic has been printed.
        let _ = self.thread.join();
    }
}

/// What `/readyz` says of a gateway that serves, but hears of the others late.
#[must_use]
pub fn degraded(numbers: &ClusterNumbers) -> Option<&'static str> {
    if let Some(forbidden) = numbers.forbidden {
        return Some(forbidden);
    }
    if !numbers.up {
        return Some("degraded: the bus between gateways is away, messages between them are some seconds late");
    }
    numbers.refused.then_some(
        "degraded: another gateway has the same `node`, messages between this one and the others are some seconds late",
    )
}
