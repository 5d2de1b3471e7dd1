//! SIGINT and SIGTERM: the first ends the run with a report of what was measured, the second ends
//! the program at once.
//!
//! Owns: [`Interrupt`], the flag that the signals set and that everything that waits looks at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, ensure};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Whether a signal has asked for the end. Copies tell the same.
#[derive(Clone, Default, Debug)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens to both signals.
    ///
    /// # Errors
    ///
    /// The system does not let it.
    pub(crate) fn listen() -> Result<Self> {
        let Self(flag) = Self::default();
        for signal in [SIGINT, SIGTERM] {
            // In this order: a signal that finds the flag set, by either of them, does as always.
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
