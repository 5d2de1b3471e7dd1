//! Where the engine threads and the conducting thread see each other: the phase of the run, and
//! counters.
//!
//! Owns: [`Board`] and one [`Lane`] of counters per thread, written by that thread only and read by
//! the conductor. Threads look at it once per turn and at least every [`crate::limits::TICK_NS`],
//! so no thread needs to be woken.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::limits::TROUBLES_MAX;

/// How far the run is. It only moves forward.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Phase {
    /// Connections are opened, up to the goal.
    Opening,
    /// All go, and stay away until the measurement.
    Leaving,
    /// The measurement: since [`Board::started_ns`].
    Running,
    /// Nothing new is sent; what is on its way arrives.
    Draining,
    /// Close everything and end.
    Stopping,
}

/// A counter with one writer.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Adds; only the lane's own thread does.
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed) + n, Relaxed);
    }

    /// Takes away; only the lane's own thread does.
    pub(crate) fn sub(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).saturating_sub(n), Relaxed);
    }

    /// Sets; only the lane's own thread does.
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// Reads, from any thread.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What one thread has done so far.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    /// Connections open now.
    pub(crate) open: Count,
    /// Of these, those whose goodbye is not answered yet.
    pub(crate) closing: Count,
    /// Connections that could not be opened, for good.
    pub(crate) failed: Count,
    /// Of these, those that the server refused for good.
    pub(crate) denied: Count,
    /// Open connections that went although they were not closed here.
    pub(crate) dropped: Count,
    /// Attempts to connect that had no answer in time.
    pub(crate) timeouts: Count,
    /// Of these, those whose close told when to come back.
    pub(crate) slotted: Count,
    /// Attempts to come back that failed.
    pub(crate) retried: Count,
    /// Connections opened again after they had gone.
    pub(crate) reopened: Count,
    /// Messages of the open loop whose time has come and has been seen.
    pub(crate) scheduled: Count,
    /// Messages handed to a socket for the first time.
    pub(crate) sent: Count,
    /// Messages whose ack came.
    pub(crate) acked: Count,
    /// Messages refused for good.
    pub(crate) refused: Count,
    /// Messages received as pushes.
    pub(crate) delivered: Count,
    /// Messages received for the first time, acks of one's own included.
    pub(crate) arrived: Count,
    /// Messages on their way: unanswered, or (pairs) not yet answered by the other side.
    pub(crate) pending: Count,
    /// What else is under way: answers, and what a group's members have not got yet.
    pub(crate) waiting: Count,
    /// Heartbeats answered.
    pub(crate) answered: Count,
    /// Bytes read from connections, as they came: compressed, before TLS.
    pub(crate) bytes_received: Count,
    /// Bytes written to connections, before TLS.
    pub(crate) bytes_sent: Count,
    /// Messages that came compressed.
    pub(crate) packed: Count,
    /// Bytes of these messages, as they came.
    pub(crate) packed_bytes: Count,
    /// Bytes of these messages, inflated.
    pub(crate) inflated_bytes: Count,
}

/// How many counters a lane has.
const COUNTERS: usize = 23;

impl Lane {
    /// All of them, in the order in which workers tell them.
    pub(crate) const fn counters(&self) -> [&Count; COUNTERS] {
        let Self { open, closing, failed, denied, dropped, timeouts, slotted, retried, reopened, .. } = self;
        let Self { scheduled, sent, acked, refused, delivered, arrived, pending, waiting, answered, .. } = self;
        let Self { bytes_received, bytes_sent, packed, packed_bytes, inflated_bytes, .. } = self;
        [
            open,
            closing,
            failed,
            denied,
            dropped,
            timeouts,
            slotted,
            retried,
            reopened,
            scheduled,
            sent,
            acked,
            refused,
            delivered,
            arrived,
            pending,
            waiting,
            answered,
            bytes_received,
            bytes_sent,
            packed,
            packed_bytes,
            inflated_bytes,
        ]
    }
}

/// Shared by all threads of a run.
#[derive(Debug)]
pub(crate) struct Board {
    phase: AtomicU8,
    started_ns: AtomicU64,
    /// When nothing more became due: the beginning of [`Phase::Draining`].
    ended_ns: AtomicU64,
    /// Connections that shall be open.
    goal: AtomicUsize,
    /// Whether every connection shall be asked for a sign of life now.
    roll_call: AtomicBool,
    /// Whether the readers that stall do not read now.
    asleep: AtomicBool,
    pub(crate) lanes: Vec<Lane>,
    /// What went wrong, for people: the first few.
    troubles: Mutex<Vec<String>>,
}

impl Board {
    /// A board for `threads` threads, in the phase of opening `goal` connections.
    pub(crate) fn new(threads: usize, goal: usize) -> Self {
        Self {
            phase: AtomicU8::new(Phase::Opening as u8),
            started_ns: AtomicU64::new(0),
            ended_ns: AtomicU64::new(u64::MAX),
            goal: AtomicUsize::new(goal),
            roll_call: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            lanes: (0..threads).map(|_| Lane::default()).collect(),
            troubles: Mutex::default(),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        // Acquire pairs with the release in `enter`: a thread that sees Running also sees when it
        // started.
        match self.phase.load(std::sync::atomic::Ordering::Acquire) {
            0 => Phase::Opening,
            1 => Phase::Leaving,
            2 => Phase::Running,
            3 => Phase::Draining,
            _ => Phase::Stopping,
        }
    }

    /// Moves on.
    pub(crate) fn enter(&self, phase: Phase, now_ns: u64) {
        if phase == Phase::Running {
            self.started_ns.store(now_ns, Relaxed);
        }
        if phase == Phase::Draining {
            self.ended_ns.store(now_ns, Relaxed);
        }
        self.phase.store(phase as u8, std::sync::atomic::Ordering::Release);
    }

    /// When the phase Running was entered.
    pub(crate) fn started_ns(&self) -> u64 {
        self.started_ns.load(Relaxed)
    }

    /// When the phase Draining was entered; until then the end of time.
    pub(crate) fn ended_ns(&self) -> u64 {
        self.ended_ns.load(Relaxed)
    }

    pub(crate) fn goal(&self) -> usize {
        self.goal.load(Relaxed)
    }

    pub(crate) fn set_goal(&self, connections: usize) {
        self.goal.store(connections, Relaxed);
    }

    pub(crate) fn roll_call(&self) -> bool {
        self.roll_call.load(Relaxed)
    }

    pub(crate) fn call_the_roll(&self) {
        self.roll_call.store(true, Relaxed);
    }

    pub(crate) fn asleep(&self) -> bool {
        self.asleep.load(Relaxed)
    }

    pub(crate) fn set_asleep(&self, asleep: bool) {
        self.asleep.store(asleep, Relaxed);
    }

    /// The sum of one counter over all threads.
    pub(crate) fn sum(&self, count: impl Fn(&Lane) -> &Count) -> u64 {
        self.lanes.iter().map(|lane| count(lane).get()).sum()
    }

    /// Notes a problem for people. Beyond the first few nothing is kept: counters tell how many
    /// there were.
    pub(crate) fn trouble(&self, text: impl FnOnce() -> String) {
        let mut troubles = self.troubles.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if troubles.len() < TROUBLES_MAX {
            let text = text();
            if !troubles.contains(&text) {
                troubles.push(text);
            }
        }
    }

    /// The problems so far.
    pub(crate) fn troubles(&self) -> Vec<String> {
        self.troubles.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_tells_every_counter_of_a_lane() {
        assert_eq!(size_of::<Lane>(), COUNTERS * size_of::<Count>());
        let lane = Lane::default();
        (1..).zip(lane.counters()).for_each(|(n, counter)| counter.add(n));
        let told = lane.counters().map(Count::get);
        assert!(told.into_iter().eq(1..=COUNTERS as u64), "each once: {told:?}");
    }
}
