//! The books of one receiver: what has come once, twice, late or not at all.
//!
//! Owns: [`Window`] (by content: a sender's own counter), [`Stream`] (by `seq`, every frame judged
//! as it comes) and [`Eye`] (by `seq`, as a client that repairs itself sees it), and of one author
//! the [`OwnOrder`].
//! Bounds: a window is 48 bytes; a stream remembers at most [`HOLES_MAX`] missing numbers one by
//! one and counts the rest as lost; an order remembers [`OWN_ORDER_MAX`] messages.

use std::collections::{BTreeMap, BTreeSet};

use crate::limits::{HOLES_MAX, OWN_ORDER_MAX};

/// How one arrival relates to those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Verdict {
    /// For the first time, and after everything that came before it.
    Fresh,
    /// For the first time, but behind a later one.
    Late,
    /// It has come before.
    Doubled,
}

/// A sender's counters that have arrived: the highest, and which of the 128 below it. Older ones
/// count as doubled, since they cannot be told apart.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Window {
    top: u32,
    /// Bit `i`: `top - i` has arrived.
    seen: u128,
    /// Different counters that have arrived.
    pub(crate) arrived: u32,
}

impl Window {
    /// Enters counter `n` (from 1).
    pub(crate) fn enter(&mut self, n: u32) -> Verdict {
        if n > self.top {
            let step = n - self.top;
            self.seen = self.seen.checked_shl(step).unwrap_or(0) | 1;
            self.top = n;
            self.arrived += 1;
            return Verdict::Fresh;
        }
        let bit = 1_u128.checked_shl(self.top - n).unwrap_or(0);
        if bit == 0 || self.seen & bit != 0 {
            return Verdict::Doubled;
        }
        self.seen |= bit;
        self.arrived += 1;
        Verdict::Late
    }
}

/// What an author has said in one conversation, each once and none refused: it stands there in the
/// order in which it was said, in whatever order the acks come.
#[derive(Clone, Default, Debug)]
pub(crate) struct OwnOrder(BTreeMap<u64, u64>);

impl OwnOrder {
    /// Enters the `seq` of the author's `n`-th. False: it stands before an earlier one, or behind a
    /// later one.
    pub(crate) fn enter(&mut self, n: u64, seq: u64) -> bool {
        let before = self.0.range(..n).next_back().is_none_or(|(_, before)| *before < seq);
        let after = self.0.range(n + 1..).next().is_none_or(|(_, after)| *after > seq);
        self.0.insert(n, seq);
        if self.0.len() > OWN_ORDER_MAX {
            self.0.pop_first();
        }
        before && after
    }
}

/// The sequence numbers of one conversation as one connection receives them, strictly: each push
/// must be the next.
#[derive(Clone, Default, Debug)]
pub(crate) struct Stream {
    /// The first that arrived, and the highest.
    range: Option<(u64, u64)>,
    /// Below the highest and not arrived.
    holes: BTreeSet<u64>,
    /// Above the highest and known from an ack: an ack is an answer and may come before pushes that
    /// the server still reads from its store.
    ahead: BTreeSet<u64>,
    /// Missing numbers beyond what `holes` holds.
    uncounted: u64,
}

impl Stream {
    /// Enters a pushed message.
    pub(crate) fn push(&mut self, seq: u64) -> Verdict {
        let Some((first, last)) = self.range else {
            self.range = Some((seq, seq));
            self.absorb();
            return Verdict::Fresh;
        };
        if self.ahead.contains(&seq) {
            return Verdict::Doubled;
        }
        if seq <= last {
            if seq >= first {
                return if self.holes.remove(&seq) { Verdict::Late } else { Verdict::Doubled };
            }
            // Before what we took for the beginning: everything between is missing as far as we
            // know.
            self.miss(seq + 1, first);
            self.range = Some((seq, last));
            return Verdict::Late;
        }
        let known = std::mem::take(&mut self.ahead);
        self.miss_except(last + 1, seq, &known);
        self.ahead = known.into_iter().filter(|&s| s > seq).collect();
        self.range = Some((first, seq));
        self.absorb();
        Verdict::Fresh
    }

    /// Enters an acked message of one's own: it counts as received.
    pub(crate) fn ack(&mut self, seq: u64) -> Verdict {
        match self.range {
            Some((_, last)) if seq > last + 1 => {
                if self.ahead.len() >= HOLES_MAX {
                    return self.push(seq);
                }
                if self.ahead.insert(seq) { Verdict::Fresh } else { Verdict::Doubled }
            }
            _ => self.push(seq),
        }
    }

    /// The first that arrived.
    pub(crate) fn first(&self) -> Option<u64> {
        self.range.map(|(first, _)| first)
    }

    /// How many of `low..=high` have not arrived.
    pub(crate) fn missing(&self, low: u64, high: u64) -> u64 {
        if low > high {
            return 0;
        }
        let Some((first, last)) = self.range else { return high - low + 1 };
        let before = first.min(high + 1).saturating_sub(low);
        let after = high.saturating_sub(last.max(low - 1)) - self.ahead.range(low..=high).count() as u64;
        before + after + self.holes.range(low..=high).count() as u64 + self.uncounted
    }

    /// How many between the first that arrived and the last have not.
    pub(crate) fn holes(&self) -> u64 {
        self.range.map_or(0, |(first, last)| self.missing(first, last))
    }

    fn miss(&mut self, from: u64, to: u64) {
        self.miss_except(from, to, &BTreeSet::new());
    }

    fn miss_except(&mut self, from: u64, to: u64, known: &BTreeSet<u64>) {
        let room = HOLES_MAX.saturating_sub(self.holes.len()) as u64;
        let until = to.min(from.saturating_add(room));
        self.holes.extend((from..until).filter(|seq| !known.contains(seq)));
        self.uncounted += to.saturating_sub(until.max(from));
    }

    /// Moves on over what acks have already told.
    fn absorb(&mut self) {
        while let Some((first, last)) = self.range
            && self.ahead.remove(&(last + 1))
        {
            self.range = Some((first, last + 1));
        }
    }
}

/// What a client does that shows a message only if its `seq` is the next one, and syncs otherwise.
#[derive(Clone, Default, Debug)]
pub(crate) struct Eye {
    /// The last one shown; 0 before the first.
    pub(crate) last: u64,
    /// The highest one heard of, shown or not.
    heard: u64,
    /// The first one shown.
    pub(crate) first: u64,
}

/// What to do with a message that carries a `seq`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sight {
    /// It is the next one.
    Show,
    /// It was shown before.
    Skip,
    /// Something is missing before it: ask for what follows `last`.
    Sync,
}

impl Eye {
    /// Enters a message, pushed or acked or read.
    pub(crate) fn see(&mut self, seq: u64) -> Sight {
        self.heard = self.heard.max(seq);
        if self.last == 0 {
            self.first = seq;
        } else if seq <= self.last {
            return Sight::Skip;
        } else if seq > self.last + 1 {
            return Sight::Sync;
        }
        self.last = seq;
        Sight::Show
    }

    /// Whether something was heard of that has not been shown.
    pub(crate) fn behind(&self) -> bool {
        self.heard > self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_author_is_understood_in_the_order_of_speaking() {
        let mut order = OwnOrder::default();
        assert!([(1, 3), (4, 9), (2, 4), (3, 8)].into_iter().all(|(n, seq)| order.enter(n, seq)));
        assert!(!order.enter(5, 7), "said last, and stands before the fourth");
        let mut order = OwnOrder::default();
        assert!(order.enter(2, 1) && !order.enter(1, 2), "its ack came last");
        assert!((3..10_000).all(|n| order.enter(n, n)) && order.0.len() == OWN_ORDER_MAX);
    }
    use Verdict::{Doubled, Fresh, Late};

    #[test]
    fn a_window_tells_late_from_doubled() {
        let mut w = Window::default();
        let verdicts: Vec<_> = [1, 3, 2, 3, 2, 200, 4, 100, 100].into_iter().map(|n| w.enter(n)).collect();
        assert_eq!(verdicts, [Fresh, Fresh, Late, Doubled, Doubled, Fresh, Doubled, Late, Doubled]);
        assert_eq!(w.arrived, 5);
    }

    #[test]
    fn a_stream_without_fault_misses_nothing() {
        let mut s = Stream::default();
        assert!((5..20).all(|seq| s.push(seq) == Fresh));
        assert_eq!(s.missing(5, 19), 0);
        assert_eq!(s.missing(3, 21), 4);
        assert_eq!(Stream::default().missing(5, 19), 15);
        assert_eq!(Stream::default().missing(1, 0), 0);
    }

    #[test]
    fn a_stream_finds_holes_lates_and_doubles() {
        let mut s = Stream::default();
        let verdicts: Vec<_> = [5, 7, 6, 6, 10, 7, 3].into_iter().map(|seq| s.push(seq)).collect();
        assert_eq!(verdicts, [Fresh, Fresh, Late, Doubled, Fresh, Doubled, Late]);
        assert_eq!((s.missing(3, 10), s.holes()), (3, 3), "4, 8 and 9");
    }

    #[test]
    fn an_ack_counts_as_received_and_may_be_ahead() {
        let mut s = Stream::default();
        assert_eq!((s.push(1), s.ack(2), s.ack(5), s.ack(5)), (Fresh, Fresh, Fresh, Doubled));
        assert_eq!(s.missing(1, 5), 2);
        assert_eq!((s.push(3), s.push(4), s.push(6)), (Fresh, Fresh, Fresh));
        assert_eq!(s.missing(1, 6), 0);
        assert_eq!((s.push(5), s.ack(6)), (Doubled, Doubled));
    }

    #[test]
    fn an_ack_ahead_does_not_hide_a_hole() {
        let mut s = Stream::default();
        assert_eq!((s.push(1), s.ack(4), s.push(6)), (Fresh, Fresh, Fresh));
        assert_eq!(s.missing(1, 6), 3, "2, 3 and 5");
    }

    #[test]
    fn more_holes_than_can_be_remembered_are_still_counted() {
        let mut s = Stream::default();
        s.push(1);
        s.push(1_000_002);
        assert_eq!(s.missing(1, 1_000_002), 1_000_000);
    }

    #[test]
    fn the_eye_shows_each_once_and_in_order() {
        let mut e = Eye::default();
        let sights: Vec<_> = [4, 5, 5, 7, 6, 7].into_iter().map(|seq| e.see(seq)).collect();
        use Sight::{Show, Skip, Sync};
        assert_eq!(sights, [Show, Show, Skip, Sync, Show, Show]);
        assert!(!e.behind());
        e.see(9);
        assert!(e.behind());
    }
}
