//! A queue in which every key has its turn.

use std::collections::VecDeque;
use std::hash::Hash;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// Values by key: the keys have their turns one after the other, whatever each has brought, and
/// those of one key keep their order. A key that had nothing here is served after one value of each
/// of the others.
pub struct Turns<K, V> {
    queues: HashMap<K, VecDeque<V>, RandomState>,
    /// The keys with a value, the next one first.
    order: VecDeque<K>,
    len: usize,
}

impl<K: Hash + Eq + Copy, V> Turns<K, V> {
    /// Nothing.
    #[must_use]
    pub fn new() -> Self {
        Self { queues: HashMap::default(), order: VecDeque::new(), len: 0 }
    }

    /// Values that wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a value to those of its key.
    pub fn push(&mut self, key: K, value: V) {
        let queue = self.queues.entry(key).or_default();
        if queue.is_empty() {
            self.order.push_back(key);
        }
        queue.push_back(value);
        self.len += 1;
    }

    /// Takes the first value of the key whose turn it is.
    pub fn pop(&mut self) -> Option<(K, V)> {
        let key = self.order.pop_front()?;
        let queue = self.queues.get_mut(&key)?;
        let value = queue.pop_front()?;
        self.len -= 1;
        if queue.is_empty() {
            self.queues.remove(&key);
        } else {
            self.order.push_back(key);
        }
        Some((key, value))
    }
}

impl<K: Hash + Eq + Copy, V> Default for Turns<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_its_turn_and_keeps_its_order() {
        let mut turns = Turns::new();
        (0..3).for_each(|n| turns.push("greedy", n));
        turns.push("quiet", 7);
        assert_eq!((turns.pop(), turns.pop()), (Some(("greedy", 0)), Some(("quiet", 7))));
        turns.push("quiet", 8);
        assert_eq!(turns.len(), 3);
        let rest: Vec<_> = std::iter::from_fn(|| turns.pop()).collect();
        assert_eq!(rest, [("greedy", 1), ("quiet", 8), ("greedy", 2)]);
        assert!(turns.is_empty() && turns.queues.is_empty() && turns.order.is_empty());
    }
}
