//! How often each key may do something.

use std::hash::Hash;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// At most `most` at once, and one more every `pause_ms`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// What may be done at once after a rest, at least 1.
    pub most: u64,
    /// Milliseconds until one more may be done, at least 1.
    pub pause_ms: u64,
}

/// The allowances of many keys: the "generic cell rate algorithm" (ATM Forum, Traffic Management
/// 4.0, section 4.4.2), which keeps one time for each key, the moment at which its allowance is
/// whole again. Two generations of at most `keys_max` keys each: when the young one is full, the
/// old one is forgotten, in favour of its keys.
pub struct Rates<K> {
    keys_max: usize,
    young: HashMap<K, u64, RandomState>,
    old: HashMap<K, u64, RandomState>,
}

impl<K: Hash + Eq> Rates<K> {
    /// Without a key; nothing is reserved.
    #[must_use]
    pub fn new(keys_max: usize) -> Self {
        Self { keys_max, young: HashMap::default(), old: HashMap::default() }
    }

    /// Whether `key` may do it once more at `now_ms`; counts if it may.
    #[must_use]
    pub fn take(&mut self, key: K, rate: Rate, now_ms: u64) -> bool {
        self.take_many(key, 1, rate, now_ms)
    }

    /// Whether `key` may do it `n` times more at `now_ms`, 1 to [`Rate::most`]; counts all of them
    /// if it may.
    #[must_use]
    pub fn take_many(&mut self, key: K, n: u64, rate: Rate, now_ms: u64) -> bool {
        let whole_ms = self.young.get(&key).or_else(|| self.old.get(&key)).copied().unwrap_or(0).max(now_ms);
        if whole_ms - now_ms > rate.most.saturating_sub(n) * rate.pause_ms {
            return false;
        }
        if self.young.len() >= self.keys_max && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, whole_ms + n * rate.pause_ms);
        true
    }

    /// Takes back one that [`Rates::take`] has counted.
    pub fn give_back(&mut self, key: &K, rate: Rate) {
        if let Some(whole_ms) = self.young.get_mut(key).or_else(|| self.old.get_mut(key)) {
            *whole_ms = whole_ms.saturating_sub(rate.pause_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { most: 3, pause_ms: 100 };

    #[test]
    fn an_allowance_is_used_up_and_comes_back_by_and_by() {
        let mut table = Rates::<u32>::new(100);
        let mut take = |key, now_ms| table.take(key, RATE, now_ms);
        assert_eq!([take(1, 0), take(1, 0), take(1, 0), take(1, 0)], [true, true, true, false]);
        assert!(take(2, 0), "another key has its own");
        assert_eq!([take(1, 99), take(1, 100), take(1, 100)], [false, true, false]);
        assert_eq!([take(1, 9_000), take(1, 9_000), take(1, 9_000), take(1, 9_000)], [true, true, true, false]);
        table.give_back(&1, RATE);
        assert_eq!([table.take(1, RATE, 9_000), table.take(1, RATE, 9_000)], [true, false]);
    }

    #[test]
    fn many_at_once_count_as_many() {
        let mut table = Rates::<u32>::new(100);
        assert_eq!([table.take_many(1, 2, RATE, 0), table.take_many(1, 2, RATE, 0)], [true, false]);
        assert_eq!([table.take(1, RATE, 0), table.take(1, RATE, 0)], [true, false]);
        assert!(table.take_many(1, 3, RATE, 300));
    }

    #[test]
    fn a_full_table_forgets_the_oldest_and_keeps_the_youngest() {
        const KEYS_MAX: usize = 64;
        let mut table = Rates::<usize>::new(KEYS_MAX);
        let once = Rate { most: 1, pause_ms: 100 };
        let last = 5 * KEYS_MAX / 2 - 1;
        for key in 0..=last {
            assert!(table.take(key, once, 0));
            assert!(table.young.len() <= KEYS_MAX && table.old.len() <= KEYS_MAX);
        }
        assert!(!table.take(last, once, 0));
        assert!(table.take(0, once, 0), "forgotten");
    }
}
