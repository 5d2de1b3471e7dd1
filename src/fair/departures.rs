//! Which keys have gone a moment ago.

use std::collections::VecDeque;
use std::hash::Hash;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// Keys that have gone within the last `ms`, at most `max` departures; beyond them the oldest is
/// forgotten.
#[derive(Debug)]
pub struct Departures<K> {
    ms: u64,
    max: usize,
    /// When each has gone last.
    at_ms: HashMap<K, u64, RandomState>,
    /// All departures in their order, also of those that have gone again since.
    line: VecDeque<(u64, K)>,
}

impl<K: Hash + Eq + Copy> Departures<K> {
    /// None has gone yet.
    #[must_use]
    pub fn new(ms: u64, max: usize) -> Self {
        Self { ms, max, at_ms: HashMap::default(), line: VecDeque::new() }
    }

    /// It has gone now.
    pub fn note(&mut self, key: K, now_ms: u64) {
        while let Some(&(at_ms, oldest)) = self.line.front()
            && (at_ms + self.ms <= now_ms || self.line.len() >= self.max)
        {
            self.line.pop_front();
            if self.at_ms.get(&oldest) == Some(&at_ms) {
                self.at_ms.remove(&oldest);
            }
        }
        self.line.push_back((now_ms, key));
        self.at_ms.insert(key, now_ms);
    }

    /// Whether it has gone a moment ago.
    #[must_use]
    pub fn has(&self, key: K, now_ms: u64) -> bool {
        self.at_ms.get(&key).is_some_and(|at_ms| now_ms < at_ms + self.ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_gone_is_known_for_a_while_and_within_bounds() {
        let mut gone = Departures::new(10, 3);
        gone.note(1, 0);
        gone.note(2, 5);
        assert!(gone.has(1, 9) && !gone.has(1, 10) && gone.has(2, 14) && !gone.has(3, 0));
        gone.note(1, 8);
        assert!(gone.has(1, 17), "its last departure counts");
        gone.note(4, 8);
        assert!(gone.has(1, 8) && gone.has(2, 8) && gone.has(4, 8));
        gone.note(5, 9);
        assert!(!gone.has(2, 9), "the oldest gives way");
        gone.note(6, 100);
        assert_eq!((gone.line.len(), gone.at_ms.len()), (1, 1));
    }
}
