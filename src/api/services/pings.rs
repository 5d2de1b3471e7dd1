//! Whether the database answers, for `/readyz`.
//!
//! Owns: the ping that is under way, which all that ask meanwhile share; it brings the time by the
//! database's clock, too.
//! Never: says that a database does not answer because it is slow: a gateway that stores a message
//! in two seconds is better than none, and a slow disk under all gateways would take all of them
//! out of their balancer.
//! Bounds: one ping at a time; an answer of this is waited for [`limits::READY_MS_MAX`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Db, StoreFailure, asked};
use crate::store::worker::{Lane, LanePlace};
use crate::store::{Backend, Error, clock_offset_ms};
use crate::{clock, limits};

/// How a database answers that does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Promptness {
    /// Within [`limits::READY_MS_MAX`].
    Prompt,
    /// Later.
    Slow,
}

/// The pings of one [`Db`].
#[derive(Default)]
pub(super) struct Pings {
    last: Mutex<Option<Ping>>,
    /// The last one that ended was answered: the database is there.
    answered: AtomicBool,
}

#[derive(Clone)]
struct Ping {
    /// Monotonic milliseconds.
    began_ms: u64,
    outcome: watch::Receiver<Option<Result<(), StoreFailure>>>,
}

impl Db {
    /// Whether the database answers, on a writing and on a reading connection (a full disk still
    /// reads well), and no thread of the store still refuses what it is asked because its last try
    /// failed. One that has answered before may take [`limits::STORE_SILENT_MS`].
    ///
    /// # Errors
    /// Why not.
    pub async fn ping(&self) -> Result<Promptness, StoreFailure> {
        let Ping { began_ms, mut outcome } = self.ping_under_way()?;
        let patience = Duration::from_millis(limits::READY_MS_MAX);
        let answer = tokio::time::timeout(patience, outcome.wait_for(Option::is_some)).await;
        let promptness = match answer {
            Ok(Ok(answer)) => {
                (*answer).unwrap_or(Err(StoreFailure::Unsure))?;
                Promptness::Prompt
            }
            // The runtime ends.
            Ok(Err(_)) => return Err(StoreFailure::Unsure),
            Err(_) => {
                let silent_ms = self.clock.now().mono_ms.saturating_sub(began_ms);
                if silent_ms >= limits::STORE_SILENT_MS {
                    self.note(Some(&Error::Unavailable(format!("no answer for {} s", silent_ms / 1000))));
                    return Err(StoreFailure::Busy);
                }
                if !self.pings.answered.load(Ordering::Relaxed) {
                    return Err(StoreFailure::Busy);
                }
                Promptness::Slow
            }
        };
        // Behind the answers: a thread that they have found well has said so by now.
        if self.store.gauges().is_ready() { Ok(promptness) } else { Err(StoreFailure::Busy) }
    }

    /// The ping that is not answered yet, or a new one.
    fn ping_under_way(&self) -> Result<Ping, StoreFailure> {
        let mut last = self.pings.last.lock();
        if let Some(ping) = last.as_ref().filter(|ping| ping.outcome.borrow().is_none()) {
            return Ok(ping.clone());
        }
        let (call, written) = asked(|backend: &mut dyn Backend| backend.ping());
        let (query, read) = asked(|backend: &mut dyn Backend| {
            backend.ping()?;
            let before_ms = clock::wall_ms();
            let theirs = backend.wall_ms()?;
            Ok(theirs.map(|theirs_ms| clock_offset_ms(before_ms, theirs_ms, clock::wall_ms())))
        });
        self.store.call(LanePlace::of(Lane::Open), call).map_err(|_| StoreFailure::Busy)?;
        self.store.query(LanePlace::of(Lane::Open), query).map_err(|_| StoreFailure::Busy)?;
        let (tell, outcome) = watch::channel(None);
        let db = self.clone();
        tokio::spawn(async move {
            let (written, read) = tokio::join!(
                db.answered(written, limits::STORE_PING_MS_MAX),
                db.answered(read, limits::STORE_PING_MS_MAX)
            );
            let lost = Err(StoreFailure::Busy);
            let read = read.unwrap_or(Err(StoreFailure::Busy));
            db.store.note_clock_offset(read.unwrap_or_default());
            let outcome = written.unwrap_or(lost).and_then(|()| read.map(drop));
            // Noted here, because nobody may have waited for it. One that failed is not followed
            // by one that is merely slow: a database that stands still would be up by turns.
            db.pings.answered.store(outcome.is_ok(), Ordering::Relaxed);
            let _ = tell.send(Some(outcome));
        });
        let ping = Ping { began_ms: self.clock.now().mono_ms, outcome };
        *last = Some(ping.clone());
        Ok(ping)
    }
}
