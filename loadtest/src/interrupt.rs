//! SIGINT, SIGTERM and SIGHUP (the terminal closes): the first ends the run with a report of what was measured, the second ends
//! the program at once.
//!
//! Owns: [`Interrupt`], the flag that the signals set and that everything that waits looks at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

/// Whether a signal has asked for the end. Copies tell the same.
#[derive(Clone, Default, Debug)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens to the three signals; to SIGHUP not if it was ignored at the start (`nohup`).
    ///
    /// # Errors
    ///
    /// The system does not let it.
    pub(crate) fn listen() -> Result<Self> {
        let Self(flag) = Self::default();
        let signals = [SIGINT, SIGTERM, SIGHUP];
        let wanted = signals.into_iter().filter(|&signal| signal != SIGHUP || !is_ignored(signal));
        for signal in wanted {
            // In this order: a signal that finds the flag set, by any of them, does as always.
            flag::register_conditional_default(signal, Arc::clone(&flag))?;
            flag::register(signal, Arc::clone(&flag))?;
        }
        Ok(Self(flag))
    }

    /// An error if one has come: for what has nothing to report yet.
    ///
    /// # Errors
    ///
    /// A signal has come.
    pub(crate) fn check(&self) -> Result<()> {
        ensure!(!self.is_set(), "before anything was measured");
        Ok(())
    }

    /// Whether one has come.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
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
