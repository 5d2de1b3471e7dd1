//! SIGINT, SIGTERM and SIGHUP (the terminal closes): the first ends the run with a report of what
//! was measured, the second ends the program at once. What comes within [`SIGNAL_ECHO_NS`] of the
//! first is its echo and means nothing of its own.
//!
//! Owns: [`Interrupt`], the flag that the signals set and that everything that waits looks at, and
//! the thread that hears them. A run that several processes share ends in the same way when one of
//! them fails.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;

use anyhow::{Result, ensure};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::clock::Clock;
use crate::limits::SIGNAL_ECHO_NS;

/// Whether the run shall end before its time. Copies tell the same.
#[derive(Clone, Default, Debug)]
pub(crate) struct Interrupt {
    /// A signal has come.
    signal: Arc<AtomicBool>,
    /// A worker has failed, and how.
    failed: Arc<OnceLock<String>>,
}

impl Interrupt {
    /// Listens to the three signals; to SIGHUP not if it was ignored at the start (`nohup`).
    ///
    /// # Errors
    ///
    /// The system does not let it.
    pub(crate) fn listen() -> Result<Self> {
        let interrupt = Self::default();
        let signals = [SIGINT, SIGTERM, SIGHUP];
        let wanted = signals.into_iter().filter(|&signal| signal != SIGHUP || !is_ignored(signal));
        let mut signals = Signals::new(wanted)?;
        let flag = Arc::clone(&interrupt.signal);
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let (clock, mut heard) = (Clock::start(), Heard::default());
            for signal in signals.forever() {
                flag.store(true, Ordering::Relaxed);
                if heard.ends_at_once(clock.nanos()) {
                    // Where the system refuses that, the run still ends by itself.
                    let _ = emulate_default_handler(signal);
                }
            }
        })?;
        Ok(interrupt)
    }

    /// An error if the run shall end: for what has nothing to report yet.
    ///
    /// # Errors
    ///
    /// A signal has come, or a worker has failed.
    pub(crate) fn check(&self) -> Result<()> {
        ensure!(!self.is_set(), "before anything was measured");
        Ok(())
    }

    /// Whether the run shall end.
    pub(crate) fn is_set(&self) -> bool {
        self.has_signal() || self.failure().is_some()
    }

    /// Whether a signal has come.
    pub(crate) fn has_signal(&self) -> bool {
        self.signal.load(Ordering::Relaxed)
    }

    /// A worker has failed. Of several the first counts.
    pub(crate) fn fail(&self, why: String) {
        let _ = self.failed.set(why);
    }

    /// Which worker has failed first, and how.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }
}

/// When the first signal came, in nanoseconds of the thread's own clock.
#[derive(Default, Debug)]
struct Heard {
    first_ns: Option<u64>,
}

impl Heard {
    /// A signal has come: whether it is a second one, and no echo of the first.
    fn ends_at_once(&mut self, now_ns: u64) -> bool {
        now_ns.saturating_sub(*self.first_ns.get_or_insert(now_ns)) > SIGNAL_ECHO_NS
    }
}

/// Whether this process ignores `signal`, as the system tells it; where it does not tell, no.
fn is_ignored(signal: i32) -> bool {
    let mask = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    });
    mask.is_some_and(|mask| mask & 1 << (signal - 1) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_echo_of_the_first_signal_is_no_second_one() {
        let mut heard = Heard::default();
        let later_ns = 5_000_000_000;
        for (now_ns, ends) in [
            (later_ns, false),
            (later_ns, false),
            (later_ns + SIGNAL_ECHO_NS, false),
            (later_ns + SIGNAL_ECHO_NS + 1, true),
        ] {
            assert_eq!(heard.ends_at_once(now_ns), ends, "{now_ns}");
        }
    }
}
