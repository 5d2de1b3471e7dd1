//! What many keys hold of one budget, and since when: which key has to let go first when it is
//! exceeded, and which holds longest.

use std::collections::BTreeSet;

/// What one key holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Holding {
    /// Bytes; 0: nothing.
    pub bytes: usize,
    /// Since when, in milliseconds of any clock that only goes forward.
    pub since_ms: u64,
}

/// The account of many keys. It keeps nothing of a key itself: whoever changes a holding says what
/// it was, so that a key that holds nothing costs nothing. Keys of one size (within a factor of
/// two) stand in one class in the order of their age, so that every question is answered by looking
/// at the first of each class.
pub struct Holdings<K> {
    classes: [BTreeSet<(u64, K)>; CLASSES],
    bytes: usize,
    len: usize,
}

/// Powers of two: the last class holds everything from 2 GiB on.
const CLASSES: usize = 32;

impl<K> Default for Holdings<K> {
    fn default() -> Self {
        Self { classes: [const { BTreeSet::new() }; CLASSES], bytes: 0, len: 0 }
    }
}

impl<K: Copy + Ord> Holdings<K> {
    /// `key` held `before` and holds `after` now. `before` must be what was said last.
    pub fn change(&mut self, key: K, before: Holding, after: Holding) {
        if before == after {
            return;
        }
        if before.bytes > 0 {
            let known = self.classes[class(before.bytes)].remove(&(before.since_ms, key));
            debug_assert!(known, "a holding is what was said last");
            if known {
                self.bytes -= before.bytes;
                self.len -= 1;
            }
        }
        if after.bytes > 0 {
            let new = self.classes[class(after.bytes)].insert((after.since_ms, key));
            debug_assert!(new, "a key holds one thing");
            if new {
                self.bytes += after.bytes;
                self.len += 1;
            }
        }
    }

    /// Bytes of all.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The key that holds the most for the longest: bytes times age, exact to a factor of two.
    #[must_use]
    pub fn heaviest(&self, now_ms: u64) -> Option<K> {
        let oldest = self.classes.iter().enumerate().filter_map(|(class, keys)| Some((class, *keys.first()?)));
        let weight = |class: usize, since_ms: u64| u128::from(now_ms.saturating_sub(since_ms) + 1) << class;
        oldest.max_by_key(|&(class, (since_ms, _))| weight(class, since_ms)).map(|(_, (_, key))| key)
    }

    /// The key that holds for the longest, and since when.
    #[must_use]
    pub fn oldest(&self) -> Option<(u64, K)> {
        if self.len == 0 {
            return None;
        }
        self.classes.iter().filter_map(BTreeSet::first).min().copied()
    }
}

fn class(bytes: usize) -> usize {
    (bytes.ilog2() as usize).min(CLASSES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Holding = Holding { bytes: 0, since_ms: 0 };

    fn holding(bytes: usize, since_ms: u64) -> Holding {
        Holding { bytes, since_ms }
    }

    #[test]
    fn the_sum_is_exact_and_the_heaviest_goes_first() {
        let mut all = Holdings::<u32>::default();
        assert_eq!((all.heaviest(100), all.oldest(), all.bytes()), (None, None, 0));
        all.change(1, NOTHING, holding(100, 0));
        all.change(2, NOTHING, holding(60_000, 90));
        all.change(3, NOTHING, holding(60_000, 95));
        assert_eq!((all.bytes(), all.oldest()), (120_100, Some((0, 1))));
        assert_eq!(all.heaviest(100), Some(2), "large and older than the other large one");
        all.change(2, holding(60_000, 90), holding(70, 99));
        assert_eq!((all.heaviest(100), all.bytes()), (Some(3), 60_170));
        assert_eq!(all.heaviest(100_000), Some(3));
        all.change(3, holding(60_000, 95), NOTHING);
        assert_eq!(all.heaviest(100), Some(1), "old and small before young and small");
        all.change(1, holding(100, 0), NOTHING);
        all.change(2, holding(70, 99), NOTHING);
        assert_eq!((all.bytes(), all.len, all.heaviest(100), all.oldest()), (0, 0, None, None));
    }

    #[test]
    fn who_lets_go_is_within_a_factor_of_two_of_the_heaviest() {
        let mut all = Holdings::<u64>::default();
        let held: Vec<_> =
            (1..500u64).map(|key| (key, holding((key * 7919 % 65_536) as usize + 1, key * 31 % 997))).collect();
        for &(key, holding) in &held {
            all.change(key, NOTHING, holding);
        }
        let weight = |holding: Holding| holding.bytes as u64 * (1000 - holding.since_ms + 1);
        let most = held.iter().map(|&(_, holding)| weight(holding)).max().expect("there are some");
        let chosen = all.heaviest(1000).expect("somebody");
        let chosen = held.iter().find(|&&(key, _)| key == chosen).expect("one of them").1;
        assert!(2 * weight(chosen) >= most, "{} of {most}", weight(chosen));
    }

    #[test]
    fn sizes_of_every_order_have_a_class() {
        assert_eq!([class(1), class(2), class(3), class(65_536), class(usize::MAX)], [0, 1, 1, 16, CLASSES - 1]);
    }
}
