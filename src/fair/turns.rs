//! A queue in which everybody has a turn.

use std::collections::VecDeque;
use std::hash::Hash;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

/// Items that wait, each for a key. They leave one of each key in turn: whoever has thousands waits for those, and a key
/// with one item waits for one item of each other key at most. What is of one key leaves in the order in which it came.
///
/// It has no bound of its own; whoever adds to it has one.
pub struct Turns<K, T> {
    waiting: HashMap<K, VecDeque<T>, RandomState>,
    /// Each key of `waiting` once, the next one first.
    order: VecDeque<K>,
    len: usize,
}

impl<K, T> Default for Turns<K, T> {
    fn default() -> Self {
        Self { waiting: HashMap::default(), order: VecDeque::new(), len: 0 }
    }
}

impl<K: Copy + Eq + Hash, T> Turns<K, T> {
    /// Nothing waits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `item` wait behind what waits for `key`.
    pub fn push(&mut self, key: K, item: T) {
        match self.waiting.entry(key) {
            Entry::Occupied(mut queue) => queue.get_mut().push_back(item),
            Entry::Vacant(place) => {
                place.insert(VecDeque::from([item]));
                self.order.push_back(key);
            }
        }
        self.len += 1;
    }

    /// Takes the first item of the key whose turn it is.
    pub fn pop(&mut self) -> Option<(K, T)> {
        let key = self.order.pop_front()?;
        let Entry::Occupied(mut queue) = self.waiting.entry(key) else { return None };
        let item = queue.get_mut().pop_front()?;
        if queue.get().is_empty() {
            queue.remove();
        } else {
            self.order.push_back(key);
        }
        if self.len == 1 {
            // After a flood the memory goes back.
            *self = Self::default();
        } else {
            self.len -= 1;
        }
        Some((key, item))
    }

    /// How many items wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// For how many keys items wait.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.order.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_quiet_do_not_wait_for_the_greedy() {
        let mut turns = Turns::new();
        (0..1000).for_each(|n| turns.push("greedy", n));
        turns.push("quiet", 0);
        let first: Vec<_> = (0..3).filter_map(|_| turns.pop()).collect();
        assert_eq!(first, [("greedy", 0), ("quiet", 0), ("greedy", 1)]);
        turns.push("quiet", 1);
        assert_eq!((turns.keys(), turns.len()), (2, 999));
        let next: Vec<_> = (0..2).filter_map(|_| turns.pop()).collect();
        assert_eq!(next, [("greedy", 2), ("quiet", 1)], "behind one of each other key");
    }

    proptest! {
        /// Whatever comes and goes: nothing is lost, what is of one key keeps its order, and between two items of one key
        /// that both wait each other key that waits all the time has one.
        #[test]
        fn everybody_has_a_turn(steps in prop::collection::vec(prop::option::weighted(0.6, 0..6u8), 0..300)) {
            let mut turns = Turns::default();
            let (mut given, mut taken) = ([0u32; 6], [0u32; 6]);
            // How many items of other keys each key has waited for since it was last served, or came.
            let mut passed = [[0u32; 6]; 6];
            let drain = std::iter::repeat_n(None, 300);
            for step in steps.into_iter().chain(drain) {
                let waits = |given: &[u32; 6], taken: &[u32; 6], key: usize| given[key] > taken[key];
                match step {
                    Some(key) => {
                        let key = usize::from(key);
                        if !waits(&given, &taken, key) {
                            passed[key] = [0; 6];
                        }
                        turns.push(key, given[key]);
                        given[key] += 1;
                    }
                    None => {
                        let Some((key, number)) = turns.pop() else {
                            prop_assert_eq!(given, taken);
                            prop_assert!(turns.is_empty() && turns.keys() == 0);
                            continue;
                        };
                        prop_assert_eq!(number, taken[key], "in its order");
                        taken[key] += 1;
                        passed[key] = [0; 6];
                        for other in (0..6).filter(|other| *other != key && waits(&given, &taken, *other)) {
                            passed[other][key] += 1;
                            prop_assert!(passed[other][key] <= 1, "{} waits for two of {}", other, key);
                        }
                    }
                }
                let waiting = (0..6).filter(|key| waits(&given, &taken, *key)).count();
                prop_assert_eq!(turns.keys(), waiting);
                prop_assert_eq!(turns.len() as u32, given.iter().sum::<u32>() - taken.iter().sum::<u32>());
            }
            prop_assert_eq!(given, taken);
        }
    }
}
