//! How near the whole process is to the memory that it may take, as the drivers see it.
//!
//! Owns: [`Pressure`], which one thread of the node writes and all drivers read, and what is let go
//! at which nearness: first new connections, which lose nothing and try again; then what can be
//! read again; then the slowest readers.
//! Never: measures. The account of outboxes and of what clients have begun to send has bounds of
//! its own; this is the last one, for everything together.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::limits::{MEMORY_CACHES_PERCENT, MEMORY_NEWCOMERS_AGAIN_PERCENT, MEMORY_NEWCOMERS_PERCENT};

/// What the process takes, and what it may take.
#[derive(Debug)]
pub struct Pressure {
    max: u64,
    resident: AtomicU64,
    /// Since newcomers were refused, it has not fallen below what lets them in again.
    is_near: AtomicBool,
}

/// What is to be let go.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Shedding {
    /// Nothing.
    Nothing,
    /// Connections that are not accepted yet.
    Newcomers,
    /// What is kept to be quick, too.
    Caches,
    /// So many bytes of what is queued for the slowest readers, too.
    Readers(u64),
}

impl Pressure {
    /// A process that may take `max` bytes.
    #[must_use]
    pub const fn new(max: u64) -> Self {
        Self { max, resident: AtomicU64::new(0), is_near: AtomicBool::new(false) }
    }

    /// Bytes that the process may take.
    #[must_use]
    pub const fn max(&self) -> u64 {
        self.max
    }

    /// The process takes so many bytes. Newcomers are refused from [`MEMORY_NEWCOMERS_PERCENT`] on
    /// and let in below [`MEMORY_NEWCOMERS_AGAIN_PERCENT`], so that a process that stays near the
    /// first does not change its mind with each look.
    pub fn tell(&self, resident: u64) {
        let bound = match self.is_near.load(Ordering::Relaxed) {
            true => MEMORY_NEWCOMERS_AGAIN_PERCENT,
            false => MEMORY_NEWCOMERS_PERCENT,
        };
        self.is_near.store(resident >= self.max / 100 * bound, Ordering::Relaxed);
        self.resident.store(resident, Ordering::Relaxed);
    }

    /// Whether it takes more than it may.
    #[must_use]
    pub fn is_exceeded(&self) -> bool {
        self.resident.load(Ordering::Relaxed) >= self.max
    }

    /// Whether new connections are refused for it.
    #[must_use]
    pub fn refuses_newcomers(&self) -> bool {
        self.shedding() >= Shedding::Newcomers
    }

    /// What is to be let go now.
    pub(super) fn shedding(&self) -> Shedding {
        let resident = self.resident.load(Ordering::Relaxed);
        match resident.checked_sub(self.max) {
            Some(excess) => Shedding::Readers(excess),
            None if resident >= self.max / 100 * MEMORY_CACHES_PERCENT => Shedding::Caches,
            None if self.is_near.load(Ordering::Relaxed) => Shedding::Newcomers,
            None => Shedding::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newcomers_go_first_then_caches_then_the_slowest_readers() {
        let pressure = Pressure::new(1000);
        let at = |resident| {
            pressure.tell(resident);
            pressure.shedding()
        };
        assert_eq!([at(0), at(899)], [Shedding::Nothing; 2]);
        assert_eq!([at(900), at(949)], [Shedding::Newcomers; 2]);
        assert!(pressure.refuses_newcomers());
        assert_eq!([at(950), at(999)], [Shedding::Caches; 2]);
        assert_eq!([at(1000), at(1300)], [Shedding::Readers(0), Shedding::Readers(300)]);
        // The way back is longer than the way there.
        assert_eq!(
            [at(899), at(850), at(849), at(899)],
            [Shedding::Newcomers, Shedding::Newcomers, Shedding::Nothing, Shedding::Nothing]
        );
        assert_eq!(at(10), Shedding::Nothing);
        assert!(!pressure.refuses_newcomers());
    }
}
