//! The only reader of the operating system's clock in this crate.
//!
//! Owns: [`Clock`], whose zero all threads of one run share, so that a time written into a message can be compared by whoever receives it.

use std::time::{Duration, Instant};

/// Monotonic time since the run began. A copy counts from the same zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock at zero.
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Nanoseconds since the start.
    pub(crate) fn nanos(self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Nanoseconds of whole seconds.
pub(crate) const fn seconds_ns(seconds: u64) -> u64 {
    seconds.saturating_mul(1_000_000_000)
}

/// A pause of the conducting thread between two looks at the board.
pub(crate) fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}
