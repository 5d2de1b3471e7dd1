//! The checker in the spirit of Jepsen: many devices that send, break off and come back while the
//! server is tormented, and books that forget nothing.
//!
//! In reading order: `mail` (what a message says) · `book` (what any device saw, and what
//! contradicts it) · `view` (what one device has of one conversation) · `device` (a correct client
//! of docs/protocol.md with bad habits) · `crew` (the devices of one thread) · `people` (users and
//! groups) · `keeper` (the server's process, commands at given times) · `audit` (the history
//! against the books).
//! Never: shares code with the other scenarios' clients; trusts the server's word where two of its
//! words can be compared.

pub(crate) mod audit;
pub(crate) mod book;
pub(crate) mod crew;
mod device;
pub(crate) mod dice;
pub(crate) mod keeper;
pub(crate) mod mail;
pub(crate) mod people;
mod view;

use std::sync::atomic::{AtomicU8, Ordering};

use crate::board::Count;
use crate::clock::Clock;
use crate::http::Door;
use book::Book;
use people::User;

/// How far a run is. It only moves forward.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum RunStage {
    /// All connect.
    Opening,
    /// Messages, torments.
    Running,
    /// Nothing new: what is unanswered is resent until it is acked, and all devices hear of it.
    Quiet,
    /// Every device asks every conversation once more for what follows.
    Settling,
    /// One device of each user reads everything again from the beginning.
    Rereading,
    /// The end.
    Stopping,
}

const STAGES: [RunStage; 6] = [
    RunStage::Opening,
    RunStage::Running,
    RunStage::Quiet,
    RunStage::Settling,
    RunStage::Rereading,
    RunStage::Stopping,
];

/// How the devices behave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    /// Mean nanoseconds between two messages of a device.
    pub(crate) send_gap_ns: u64,
    /// Mean nanoseconds between two disconnects of a device; 0: never.
    pub(crate) churn_ns: u64,
    /// Devices in a thousand that stop reading now and then.
    pub(crate) stalled_permille: u64,
    /// Acked messages in a thousand that are sent again later.
    pub(crate) repeat_permille: u64,
    /// Messages in a thousand that are sent to a group of other people.
    pub(crate) intrusion_permille: u64,
    /// Bytes of content, in the mean.
    pub(crate) payload: usize,
    /// Devices of each user.
    pub(crate) devices: u16,
    /// How late a message may be on a device that is connected and reads, after the first device
    /// has it.
    pub(crate) lag_ms_max: Option<u32>,
    /// Whether the server may forget old messages.
    pub(crate) retention: bool,
}

/// What all threads of a run share.
#[derive(Debug)]
pub(crate) struct World {
    /// Gateways of one system; at least one.
    pub(crate) doors: Vec<Door>,
    pub(crate) run: u64,
    pub(crate) seed: u64,
    pub(crate) clock: Clock,
    pub(crate) users: Vec<User>,
    pub(crate) book: Book,
    pub(crate) habits: Habits,
    /// One per thread.
    pub(crate) lanes: Vec<CrewLane>,
    stage: AtomicU8,
}

/// What one thread has done so far; only that thread writes.
#[derive(Default, Debug)]
pub(crate) struct CrewLane {
    /// Devices that are connected now.
    pub(crate) open: Count,
    /// Connections that were made.
    pub(crate) connects: Count,
    /// Messages sent for the first time.
    pub(crate) sent: Count,
    /// Messages whose first ack came.
    pub(crate) acked: Count,
    /// Messages sent again because no answer, or `retry`, had come.
    pub(crate) resent: Count,
    /// Messages sent again although they were acked, or by two devices at once.
    pub(crate) repeated: Count,
    /// Acks that said `dup`.
    pub(crate) dups: Count,
    /// Messages that a device could not send because too many were unanswered.
    pub(crate) unsent: Count,
    /// Attempts to post to other people's groups.
    pub(crate) intrusions: Count,
    /// Messages shown, by all devices.
    pub(crate) shown: Count,
    /// Arrivals that were not shown because of their `seq`.
    pub(crate) hidden: Count,
    /// Pushes and acks before which something was missing.
    pub(crate) holes: Count,
    /// Pages read by `cmd` 4.
    pub(crate) pages: Count,
    /// Closing handshakes begun here.
    pub(crate) closed: Count,
    /// Connections reset from here.
    pub(crate) reset: Count,
    /// Connections left standing, unread, while the device came back on another.
    pub(crate) abandoned: Count,
    /// Periods without reading.
    pub(crate) stalls: Count,
    /// Connections that went although it was not wanted here.
    pub(crate) dropped: Count,
    /// Attempts to connect that failed.
    pub(crate) failed: Count,
    /// Refusals that said `retry`.
    pub(crate) refused: Count,
    /// Messages unanswered now (a gauge).
    pub(crate) pending: Count,
    /// Views that lack something now (a gauge).
    pub(crate) behind: Count,
}

impl World {
    /// The gateway of a device's connection: a user's devices are on different ones, and each comes
    /// back to another one.
    pub(crate) fn door(&self, who: book::Who, generation: u32) -> &Door {
        let turn = [who.user, who.device.into(), generation].into_iter().map(u64::from).sum::<u64>();
        &self.doors[(turn % self.doors.len() as u64) as usize]
    }

    /// A world at its beginning, with `threads` lanes.
    pub(crate) fn new(
        doors: Vec<Door>,
        run: u64,
        seed: u64,
        clock: Clock,
        users: Vec<User>,
        book: Book,
        habits: Habits,
        threads: usize,
    ) -> Self {
        let lanes = (0..threads).map(|_| CrewLane::default()).collect();
        Self { doors, run, seed, clock, users, book, habits, lanes, stage: AtomicU8::new(0) }
    }

    /// Where the run is.
    pub(crate) fn stage(&self) -> RunStage {
        STAGES[usize::from(self.stage.load(Ordering::Acquire))]
    }

    /// Moves on.
    pub(crate) fn enter(&self, stage: RunStage) {
        self.stage.store(stage as u8, Ordering::Release);
    }

    /// The sum of one counter over all threads.
    pub(crate) fn sum(&self, count: impl Fn(&CrewLane) -> &Count) -> u64 {
        self.lanes.iter().map(|lane| count(lane).get()).sum()
    }
}
