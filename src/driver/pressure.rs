//! How near the whole process is to the memory that it may take, as the drivers see it.
//!
//! Owns: [`Pressure`], which one thread of the node writes and all drivers read, and what is let go
//! at which nearness: first new connections, which lose nothing and try again; then what can be
//! read again; then the slowest readers.
//! Never: measures. The account of outboxes and of what clients have begun to send has bounds of
//! its own; this is the last one, for everything together.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::limits::{
    MEMORY_CACHES_PERCENT, MEMORY_CALM_LOOKS, MEMORY_NEWCOMERS_AGAIN_PERCENT, MEMORY_NEWCOMERS_PERCENT,
};

/// What the process takes, and what it may take.
#[derive(Debug)]
pub struct Pressure {
    max: u64,
    resident: AtomicU64,
    /// For so many looks to come newcomers are refused, unless one finds much less.
    wary: AtomicU32,
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
        Self { max, resident: AtomicU64::new(0), wary: AtomicU32::new(0) }
    }

    /// Bytes that the process may take.
    #[must_use]
    pub const fn max(&self) -> u64 {
        self.max
    }

    /// The process takes so many bytes, found by one look of one thread. Newcomers are refused from
    /// [`MEMORY_NEWCOMERS_PERCENT`] on. They are let in below
    /// [`MEMORY_NEWCOMERS_AGAIN_PERCENT`], or after [`MEMORY_CALM_LOOKS`] below the former: a
    /// process that stays near it does not change its mind with each look, and does not refuse for
    /// ever what it has room for.
    pub fn tell(&self, resident: u64) {
        let reaches = |percent: u64| resident >= self.max / 100 * percent;
        let wary = match self.wary.load(Ordering::Relaxed) {
            _ if reaches(MEMORY_NEWCOMERS_PERCENT) => MEMORY_CALM_LOOKS,
            looks if reaches(MEMORY_NEWCOMERS_AGAIN_PERCENT) => looks.saturating_sub(1),
            _ => 0,
        };
        self.wary.store(wary, Ordering::Relaxed);
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
            None if self.wary.load(Ordering::Relaxed) > 0 => Shedding::Newcomers,
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
        // The way back is longer than the way there, and not for ever.
        assert_eq!([at(899), at(850)], [Shedding::Newcomers; 2]);
        assert_eq!([at(849), at(899)], [Shedding::Nothing; 2]);
        assert_eq!(at(900), Shedding::Newcomers);
        let refused = (0..).take_while(|_| at(880) == Shedding::Newcomers).count();
        assert_eq!(refused + 1, MEMORY_CALM_LOOKS as usize);
        assert_eq!(at(10), Shedding::Nothing);
        assert!(!pressure.refuses_newcomers());
    }
}
