//! SIGINT, SIGTERM and SIGHUP (the terminal closes): the first ends the run with a report of what was measured, the second ends
//! the program at once.
//!
//! Owns: [`Interrupt`], the flag that the signals set and that everything that waits looks at. A run
//! that several processes share ends in the same way when one of them fails.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Result, ensure};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

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
        let flag = &interrupt.signal;
        let signals = [SIGINT, SIGTERM, SIGHUP];
        let wanted = signals.into_iter().filter(|&signal| signal != SIGHUP || !is_ignored(signal));
        for signal in wanted {
            // In this order: a signal that finds the flag set, by any of them, does as always.
            flag::register_conditional_default(signal, Arc::clone(flag))?;
            flag::register(signal, Arc::clone(flag))?;
        }
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

/// Whether this process ignores `signal`, as the system tells it; where it does not tell, no.
fn is_ignored(signal: i32) -> bool {
    let mask = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    });
    mask.is_some_and(|mask| mask & 1 << (signal - 1) != 0)
}
