//! The budget of all outboxes of the process, as one shard's driver sees it.
//!
//! Owns: this shard's share in the common sum, and the verdict when the sum is too large. The sum
//! is a relaxed atomic that each shard moves once a turn by what has changed: it may be a turn old,
//! so the budget is kept but for what one turn of each shard adds.
//! Never: decides which session has to go; that is the shard's, which is told of the excess as data
//! ([`crate::shard::Event::Overdrawn`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One shard's view.
pub(super) struct Budget {
    all: Arc<AtomicUsize>,
    all_max: usize,
    /// This shard's equal part: a shard that keeps no more is not asked to let go.
    part: usize,
    /// What this shard has put into the sum.
    mine: usize,
}

impl Budget {
    /// Nothing is kept yet.
    pub(super) const fn new(all: Arc<AtomicUsize>, all_max: usize, part: usize) -> Self {
        Self { all, all_max, part, mine: 0 }
    }

    /// Brings the sum up to date: this shard keeps `held` bytes alive. By how much the sum is too
    /// large, if it is and if this shard has to do with it.
    pub(super) fn settle(&mut self, held: usize) -> Option<usize> {
        if held != self.mine {
            // Two's complement: adding a negative difference takes it away.
            self.all.fetch_add(held.wrapping_sub(self.mine), Ordering::Relaxed);
            self.mine = held;
        }
        if held <= self.part {
            return None;
        }
        let excess = self.all.load(Ordering::Relaxed).saturating_sub(self.all_max);
        (excess > 0).then_some(excess)
    }

    /// What this shard may keep whatever the others keep.
    pub(super) const fn part(&self) -> usize {
        self.part
    }

    /// Whether the sum is to be looked at again although nothing happens here: the others may have
    /// grown.
    pub(super) const fn watches(&self) -> bool {
        self.mine > self.part
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        self.all.fetch_sub(self.mine, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_keeps_more_than_its_part_is_told_of_the_excess() {
        let all = Arc::new(AtomicUsize::new(0));
        let view = || Budget::new(Arc::clone(&all), 100, 50);
        let (mut small, mut large) = (view(), view());
        assert_eq!((small.settle(40), large.settle(55)), (None, None), "95 of 100");
        assert!(large.watches() && !small.watches(), "the small one may grow while the large one sleeps");
        assert_eq!((small.settle(50), large.settle(55)), (None, Some(5)));
        assert_eq!((large.settle(40), all.load(Ordering::Relaxed)), (None, 90), "what is let go leaves the sum");
        drop(small);
        assert_eq!(all.load(Ordering::Relaxed), 40, "a shard that ends keeps nothing alive");
    }
}
