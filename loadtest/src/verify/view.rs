//! What one device has of one conversation: rule 1 of docs/protocol.md, and the state of its sync.
//!
//! Owns: [`View`]. It shows a message only if its `seq` is the next one, and folds what it has
//! shown into one number.

use super::RunStage;
use super::dice::mix;
use crate::ledger::OwnOrder;

/// A sync request that is not yet answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) after: u64,
    pub(crate) at_ns: u64,
    /// The stage of the run when it was asked.
    pub(crate) stage: RunStage,
}

/// What to do with a message that carries a `seq`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DeviceSight {
    /// It is the next one, and is shown now.
    Show,
    /// It was shown before.
    Skip,
    /// Something is missing before it.
    Hole,
}

/// One conversation on one device.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// By place in the book.
    pub(crate) conv: u32,
    /// Everything up to here has been shown.
    pub(crate) last: u64,
    /// The highest `seq` heard of.
    pub(crate) heard: u64,
    /// Everything shown, in its order, folded.
    pub(crate) chain: u64,
    /// Whether rows had gone (retention) before they could be shown.
    pub(crate) trimmed: bool,
    /// Whether it shall be synced.
    pub(crate) dirty: bool,
    /// Not before this time.
    pub(crate) hold_ns: u64,
    /// The unanswered request, at most one.
    pub(crate) asked: Option<Asked>,
    /// Questions on this connection whose answers were waited for in vain: those come before the
    /// answer to `asked`.
    pub(crate) given_up: u32,
    /// The database's epoch, once told.
    pub(crate) epoch: Option<u64>,
    /// Whether the present stage's question has been answered: there is nothing more.
    pub(crate) settled: bool,
    /// What it had before it was read again from the beginning.
    pub(crate) before: Option<(u64, u64)>,
    /// Since when everything has been shown at once: connected, read, and synced, in milliseconds
    /// of the run.
    pub(crate) steady_ms: Option<u32>,
    /// The device's own messages on this connection that needed no second try.
    pub(crate) order: OwnOrder,
}

impl View {
    /// A view that begins behind `base`.
    pub(crate) fn new(conv: u32, base: u64) -> Self {
        Self {
            conv,
            last: base,
            heard: base,
            chain: 0,
            trimmed: false,
            dirty: true,
            hold_ns: 0,
            asked: None,
            given_up: 0,
            epoch: None,
            settled: false,
            before: None,
            steady_ms: None,
            order: OwnOrder::default(),
        }
    }

    /// How late a message is that is shown now and that some device had at `first_ms`. `None`: this
    /// view may be late.
    pub(crate) fn lag_ms(&self, first_ms: u32, now_ms: u32) -> Option<u32> {
        Some(now_ms.saturating_sub(first_ms.max(self.steady_ms?)))
    }

    /// Enters a message by its `seq` and print.
    pub(crate) fn see(&mut self, seq: u64, print: u64) -> DeviceSight {
        self.heard = self.heard.max(seq);
        if seq <= self.last {
            return DeviceSight::Skip;
        }
        if seq > self.last + 1 {
            self.dirty = true;
            return DeviceSight::Hole;
        }
        self.last = seq;
        self.chain = fold(self.chain, seq, print);
        DeviceSight::Show
    }

    /// What lies before `floor` is gone for good: go on there.
    pub(crate) fn skip_to(&mut self, floor: u64) {
        if floor > self.last + 1 {
            self.last = floor - 1;
            self.trimmed = true;
        }
    }

    /// Forgets everything shown and begins again behind `base`.
    pub(crate) fn begin_again(&mut self, base: u64) {
        self.before = Some((self.last, self.chain));
        (self.last, self.chain, self.settled, self.dirty) = (base, 0, false, true);
    }
}

/// Folds one more message into a chain.
pub(crate) fn fold(chain: u64, seq: u64, print: u64) -> u64 {
    mix(chain ^ mix(seq ^ mix(print)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_next_is_shown() {
        let mut view = View::new(0, 4);
        view.dirty = false;
        let sights: Vec<_> = [5, 5, 7, 6, 7, 3].map(|seq| view.see(seq, seq)).into_iter().collect();
        use DeviceSight::{Hole, Show, Skip};
        assert_eq!(sights, [Show, Skip, Hole, Show, Show, Skip]);
        assert!(view.dirty && view.last == 7 && view.heard == 7);
    }

    #[test]
    fn a_view_is_late_from_when_it_could_have_shown_it() {
        let mut view = View::new(0, 4);
        assert_eq!(view.lag_ms(10, 50), None, "it is not connected");
        view.steady_ms = Some(30);
        assert_eq!([10, 40, 60].map(|first| view.lag_ms(first, 50)), [Some(20), Some(10), Some(0)]);
        view.steady_ms = None;
        assert_eq!(view.lag_ms(10, 50), None);
    }

    #[test]
    fn chains_tell_order_and_content_apart() {
        let chain = |prints: [u64; 2]| fold(fold(0, 1, prints[0]), 2, prints[1]);
        assert_eq!(chain([8, 9]), chain([8, 9]));
        assert_ne!(chain([8, 9]), chain([9, 8]));
    }
}
