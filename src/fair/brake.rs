//! The last value of each key, at most once in a pause.

use std::collections::VecDeque;
use std::hash::Hash;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// What becomes of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Braked<V> {
    /// It is to be carried out now.
    Now(V),
    /// It waits for the end of its key's pause, in the place of the value that is given back, if
    /// there was one.
    Later(Option<V>),
}

/// Values by key, each carried out at once unless its key has had one within the pause; then the
/// last one waits and the others are dropped. Keys that pause are at most `keys_max`; for one more
/// there is no pause, so a user that fills the table slows no other down.
pub struct Brake<K, V> {
    pause_ms: u64,
    keys_max: usize,
    waiting: HashMap<K, Option<V>, RandomState>,
    /// The ends of the pauses, in their order, because all are equally long; also of keys that were
    /// forgotten meanwhile.
    pauses: VecDeque<(u64, K)>,
}

impl<K: Hash + Eq + Copy, V> Brake<K, V> {
    /// Nothing has been carried out yet.
    #[must_use]
    pub fn new(pause_ms: u64, keys_max: usize) -> Self {
        Self { pause_ms, keys_max, waiting: HashMap::default(), pauses: VecDeque::new() }
    }

    /// Takes a value.
    pub fn take(&mut self, key: K, value: V, now_ms: u64) -> Braked<V> {
        if let Some(waiting) = self.waiting.get_mut(&key) {
            return Braked::Later(waiting.replace(value));
        }
        if self.pauses.len() < self.keys_max {
            self.waiting.insert(key, None);
            self.pauses.push_back((now_ms + self.pause_ms, key));
        }
        Braked::Now(value)
    }

    /// A value whose turn has come.
    pub fn pop(&mut self, now_ms: u64) -> Option<(K, V)> {
        while let Some(&(over_ms, key)) = self.pauses.front()
            && over_ms <= now_ms
        {
            self.pauses.pop_front();
            match self.waiting.get_mut(&key).map(Option::take) {
                Some(Some(value)) => {
                    self.pauses.push_back((now_ms + self.pause_ms, key));
                    return Some((key, value));
                }
                Some(None) => {
                    self.waiting.remove(&key);
                }
                None => {}
            }
        }
        None
    }

    /// Whether a further value of `key` would have to wait.
    #[must_use]
    pub fn pauses(&self, key: &K) -> bool {
        self.waiting.contains_key(key)
    }

    /// Forgets a key that will never come again. What has waited.
    pub fn forget(&mut self, key: &K) -> Option<V> {
        self.waiting.remove(key).flatten()
    }

    /// When [`Brake::pop`] has something to do.
    #[must_use]
    pub fn next_ms(&self) -> Option<u64> {
        self.pauses.front().map(|&(over_ms, _)| over_ms)
    }

    /// The values that wait.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.waiting.values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_goes_at_once_and_the_last_of_the_others_when_the_pause_is_over() {
        let mut brake = Brake::new(100, 8);
        assert_eq!(brake.take("a", 1, 0), Braked::Now(1));
        assert_eq!(brake.take("b", 2, 10), Braked::Now(2), "each key has its own pause");
        assert_eq!((brake.take("a", 3, 20), brake.take("a", 4, 30)), (Braked::Later(None), Braked::Later(Some(3))));
        assert_eq!((brake.pop(99), brake.next_ms()), (None, Some(100)));
        assert_eq!((brake.pop(100), brake.pop(100)), (Some(("a", 4)), None));
        assert_eq!(brake.take("a", 5, 150), Braked::Later(None), "a value that has waited begins a pause, too");
        assert_eq!((brake.pop(199), brake.pop(200)), (None, Some(("a", 5))));
        assert_eq!((brake.pop(300), brake.next_ms()), (None, None));
        assert_eq!(brake.take("a", 6, 300), Braked::Now(6));
    }

    #[test]
    fn a_key_that_is_gone_takes_its_value_along_and_a_full_table_brakes_nobody_else() {
        let mut brake = Brake::new(100, 2);
        let taken = [brake.take(1, 'x', 0), brake.take(1, 'y', 0), brake.take(2, 'z', 0), brake.take(3, 'u', 0)];
        assert_eq!(taken, [Braked::Now('x'), Braked::Later(None), Braked::Now('z'), Braked::Now('u')]);
        assert_eq!(brake.take(3, 'v', 0), Braked::Now('v'));
        assert!(brake.pauses(&1) && brake.pauses(&2) && !brake.pauses(&3) && brake.values().count() == 1);
        assert_eq!((brake.forget(&1), brake.forget(&3)), (Some('y'), None));
        assert_eq!((brake.pop(100), brake.next_ms()), (None, None));
    }
}
