//! What the threads of one flood share: the stage, the attackers' counters, and what the measuring
//! thread has seen last.
//!
//! Owns: [`Signals`]. Every counter has one writer; threads look at the stage each turn and at
//! least every few milliseconds.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::board::Count;
use crate::interrupt::Interrupt;

/// How far a flood is. It only moves forward.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum FloodStage {
    /// The well-behaved connect; nothing counts yet.
    Settling,
    /// The well-behaved alone.
    Calm,
    /// Attackers that are sessions or guests connect and keep quiet.
    Gathering,
    /// The flood.
    Flooding,
    /// The attackers are gone.
    After,
    /// All end.
    Done,
}

/// The stages in which something is measured.
pub(crate) const STAGES: usize = FloodStage::Done as usize;

/// What the attackers of one thread have done.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Attackers that stand: connected, or, as sessions and guests, upgraded.
    pub(crate) standing: Count,
    /// Connections that stood, in all.
    pub(crate) stood: Count,
    /// Connections that the gateway ended or refused.
    pub(crate) ended: Count,
    /// Attempts that this machine refused for want of ports or descriptors.
    pub(crate) short: Count,
    pub(crate) sent_bytes: Count,
    pub(crate) received_bytes: Count,
}

/// Shared by the threads of one flood.
#[derive(Debug)]
pub(crate) struct Signals {
    stage: AtomicU8,
    /// Set by a signal.
    interrupted: Interrupt,
    /// Of the attackers, one for each thread.
    pub(crate) lanes: Vec<Counts>,
    /// Well-behaved sessions that stand.
    pub(crate) residents: Count,
    /// After the flood: one more than what is due from before and has no answer; 0: not counted
    /// yet.
    pub(crate) awaited: Count,
    /// The gateway's resident memory as it was told last, in bytes; 0: not told.
    pub(crate) rss_bytes: AtomicU64,
    /// The same at the end of the calm.
    calm_rss_bytes: AtomicU64,
    /// The gateway's longest turn quantile as it was told last, in microseconds.
    pub(crate) turn_us: AtomicU64,
    /// How often the gateway has told its figures.
    pub(crate) readings: AtomicU64,
}

impl Signals {
    pub(crate) fn new(threads: usize, interrupted: Interrupt) -> Self {
        Self {
            stage: AtomicU8::new(FloodStage::Settling as u8),
            interrupted,
            lanes: (0..threads).map(|_| Counts::default()).collect(),
            residents: Count::default(),
            awaited: Count::default(),
            rss_bytes: AtomicU64::new(0),
            calm_rss_bytes: AtomicU64::new(0),
            turn_us: AtomicU64::new(0),
            readings: AtomicU64::new(0),
        }
    }

    /// The present stage.
    pub(crate) fn stage(&self) -> FloodStage {
        match self.stage.load(Ordering::Acquire) {
            0 => FloodStage::Settling,
            1 => FloodStage::Calm,
            2 => FloodStage::Gathering,
            3 => FloodStage::Flooding,
            4 => FloodStage::After,
            _ => FloodStage::Done,
        }
    }

    /// Moves on.
    pub(crate) fn enter(&self, stage: FloodStage) {
        self.stage.store(stage as u8, Ordering::Release);
    }

    /// Tells the gateway's resident memory in a stage.
    pub(crate) fn tell_rss(&self, stage: FloodStage, bytes: u64) {
        self.rss_bytes.store(bytes, Ordering::Relaxed);
        if stage <= FloodStage::Calm {
            self.calm_rss_bytes.store(bytes, Ordering::Relaxed);
        }
    }

    /// The gateway's resident memory at the end of the calm.
    pub(crate) fn rss_start_bytes(&self) -> u64 {
        self.calm_rss_bytes.load(Ordering::Relaxed)
    }

    /// Whether a signal has asked for the end.
    pub(crate) fn interrupted(&self) -> bool {
        self.interrupted.is_set()
    }

    /// The sum of a counter over the attacking threads.
    pub(crate) fn sum(&self, count: impl Fn(&Counts) -> &Count) -> u64 {
        self.lanes.iter().map(|lane| count(lane).get()).sum()
    }
}
