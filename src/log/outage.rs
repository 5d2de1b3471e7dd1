//! What the log says of something that fails for a while: a line when it begins, a count now and
//! then, a line when it ends, however many requests meet it.
//!
//! Owns: [`Outage`], which decides when a line is due and what it counts; the words are its
//! caller's. Never: counts for the metrics; those count each time. Bounds: [`LOG_OUTAGE_LINES_MAX`]
//! lines in [`LOG_OUTAGE_WINDOW_MS`], also of something that fails at every second try; what is not
//! said is counted in the next line.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::limits::{LOG_OUTAGE_LINES_MAX, LOG_OUTAGE_PAUSE_MS, LOG_OUTAGE_QUIET_MS, LOG_OUTAGE_WINDOW_MS};

/// One thing that may fail, for every thread that notices.
#[derive(Debug, Default)]
pub struct Outage {
    state: Mutex<State>,
    /// Whether it lasts, for calls that succeed: they take no lock while all is well.
    lasts: AtomicBool,
}

/// A line that is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OutageLine {
    /// It begins; `untold` failures of earlier times stand in no line.
    Begins {
        /// How many.
        untold: u64,
    },
    /// It lasts.
    Lasts {
        /// Failures since the last line.
        failures: u64,
        /// For how long, in seconds.
        seconds: u64,
    },
    /// It has ended.
    Ended {
        /// Failures in all.
        failures: u64,
        /// How long it has lasted, in seconds.
        seconds: u64,
    },
}

#[derive(Debug, Default)]
struct State {
    lasts: bool,
    since_ms: u64,
    /// When it has failed last.
    failed_ms: u64,
    /// Failures since the last line.
    failures: u64,
    /// Failures of this outage.
    all: u64,
    /// Whether a line was said of this outage.
    told: bool,
    /// When the last line was said.
    said_ms: u64,
    /// When lines were counted from, and how many there were.
    window: Option<(u64, u32)>,
}

impl Outage {
    /// It has failed once more.
    pub fn failed(&self, now_ms: u64) -> Option<OutageLine> {
        let mut state = self.state.lock();
        state.failed_ms = now_ms;
        if !state.lasts {
            (state.lasts, state.since_ms, state.told, state.all) = (true, now_ms, false, 0);
            self.lasts.store(true, Ordering::Relaxed);
        }
        state.all += 1;
        if !state.told {
            let line = OutageLine::Begins { untold: state.failures };
            state.failures += 1;
            return state.say(now_ms, line);
        }
        state.failures += 1;
        if now_ms.saturating_sub(state.said_ms) < LOG_OUTAGE_PAUSE_MS {
            return None;
        }
        let line = OutageLine::Lasts { failures: state.failures, seconds: state.seconds(now_ms) };
        state.say(now_ms, line)
    }

    /// It has worked.
    pub fn worked(&self, now_ms: u64) -> Option<OutageLine> {
        self.worked_since(now_ms, 0)
    }

    /// It has worked, which is its end if it has not failed for [`LOG_OUTAGE_QUIET_MS`]: of things
    /// of which some work while others fail, such as the reads and the writes of a full disk.
    pub fn worked_quietly(&self, now_ms: u64) -> Option<OutageLine> {
        self.worked_since(now_ms, LOG_OUTAGE_QUIET_MS)
    }

    fn worked_since(&self, now_ms: u64, quiet_ms: u64) -> Option<OutageLine> {
        if !self.lasts.load(Ordering::Relaxed) {
            return None;
        }
        let mut state = self.state.lock();
        if now_ms.saturating_sub(state.failed_ms) < quiet_ms || !std::mem::take(&mut state.lasts) {
            return None;
        }
        self.lasts.store(false, Ordering::Relaxed);
        if !state.told {
            return None;
        }
        let line = OutageLine::Ended { failures: state.all, seconds: state.seconds(now_ms) };
        // An end that is due is said in any case: each belongs to a line that was.
        state.failures = 0;
        state.said_ms = now_ms;
        Some(line)
    }
}

impl State {
    /// The line, if there may be one now. What it counts is told then.
    fn say(&mut self, now_ms: u64, line: OutageLine) -> Option<OutageLine> {
        let (from_ms, lines) = self.window.unwrap_or((now_ms, 0));
        let (from_ms, lines) =
            if now_ms.saturating_sub(from_ms) >= LOG_OUTAGE_WINDOW_MS { (now_ms, 0) } else { (from_ms, lines) };
        let may = lines < LOG_OUTAGE_LINES_MAX / 2;
        self.window = Some((from_ms, lines + u32::from(may)));
        if !may {
            return None;
        }
        (self.failures, self.told, self.said_ms) = (0, true, now_ms);
        Some(line)
    }

    fn seconds(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.since_ms) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_has_a_beginning_a_count_now_and_then_and_an_end() {
        let outage = Outage::default();
        assert_eq!(outage.worked(0), None);
        assert_eq!(outage.failed(1_000), Some(OutageLine::Begins { untold: 0 }));
        for now_ms in 1_001..2_000 {
            assert_eq!(outage.failed(now_ms), None);
        }
        let later_ms = 1_000 + LOG_OUTAGE_PAUSE_MS;
        let seconds = LOG_OUTAGE_PAUSE_MS / 1000;
        assert_eq!(outage.failed(later_ms), Some(OutageLine::Lasts { failures: 1_000, seconds }));
        assert_eq!(outage.failed(later_ms + 1), None);
        assert_eq!(outage.worked(later_ms + 2_000), Some(OutageLine::Ended { failures: 1_002, seconds: seconds + 2 }));
        assert_eq!(outage.worked(later_ms + 2_001), None, "said once");
        assert_eq!(outage.failed(later_ms + 3_000), Some(OutageLine::Begins { untold: 0 }), "another one");
    }

    #[test]
    fn what_works_beside_what_fails_ends_nothing_until_it_was_quiet() {
        let outage = Outage::default();
        assert_eq!(outage.failed(0), Some(OutageLine::Begins { untold: 0 }));
        for now_ms in (0..LOG_OUTAGE_PAUSE_MS).step_by(100) {
            assert_eq!(outage.worked_quietly(now_ms), None, "reads go on");
            assert_eq!(outage.failed(now_ms), None);
        }
        let last_ms = LOG_OUTAGE_PAUSE_MS - 100;
        assert_eq!(outage.worked_quietly(last_ms + LOG_OUTAGE_QUIET_MS - 1), None);
        let (ended_ms, failures) = (last_ms + LOG_OUTAGE_QUIET_MS, 1 + LOG_OUTAGE_PAUSE_MS / 100);
        let ended = OutageLine::Ended { failures, seconds: ended_ms / 1000 };
        assert_eq!(outage.worked_quietly(ended_ms), Some(ended));
        assert_eq!(outage.worked_quietly(ended_ms), None, "said once");
    }

    #[test]
    fn what_fails_at_every_second_try_does_not_fill_the_log() {
        let outage = Outage::default();
        let mut lines = Vec::new();
        for now_ms in 0..LOG_OUTAGE_WINDOW_MS {
            lines.extend(outage.failed(now_ms));
            lines.extend(outage.worked(now_ms));
        }
        assert_eq!(lines.len() as u32, LOG_OUTAGE_LINES_MAX);
        let told = u64::from(LOG_OUTAGE_LINES_MAX / 2);
        let untold = LOG_OUTAGE_WINDOW_MS - told;
        assert_eq!(
            outage.failed(LOG_OUTAGE_WINDOW_MS),
            Some(OutageLine::Begins { untold }),
            "what was not said is counted"
        );
    }
}
