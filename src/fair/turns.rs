//! A queue in which everybody has a turn.

use std::collections::VecDeque;
use std::hash::Hash;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

/// Items that wait, each for a key. They leave one of each key in turn: whoever has thousands waits
/// for those. A key that had nothing waiting is fresh: its item, if it is the only one, leaves
/// before those of the rotation, so that whoever asks now and then does not wait for a round of
/// hundreds that always ask. To be fresh again it must have been out of the rotation for a whole
/// round (the sparse flows of RFC 8290, section 4.2), and after [`FRESH_MAX`] fresh ones the
/// rotation has an item. What is of one key leaves in the order in which it came.
///
/// It has no bound of its own; whoever adds to it has one.
pub struct Turns<K, T> {
    /// Of each key of `fresh` and `order` what waits. Of one in `order` that may be nothing: it has
    /// just been served.
    waiting: HashMap<K, VecDeque<T>, RandomState>,
    /// Keys that were in no list when their first item came, the next one first.
    fresh: VecDeque<K>,
    /// Each other key once, the next one first.
    order: VecDeque<K>,
    len: usize,
    /// Keys of which something waits.
    keys: usize,
    /// Fresh ones that [`Self::pop`] has given since an item of the rotation.
    run: u32,
}

/// Fresh keys that overtake the rotation one after the other: thousands of users that each ask once
/// leave it a part all the same.
pub(super) const FRESH_MAX: u32 = 16;

impl<K, T> Default for Turns<K, T> {
    fn default() -> Self {
        Self { waiting: HashMap::default(), fresh: VecDeque::new(), order: VecDeque::new(), len: 0, keys: 0, run: 0 }
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
            Entry::Occupied(mut queue) => {
                self.keys += usize::from(queue.get().is_empty());
                queue.get_mut().push_back(item);
            }
            Entry::Vacant(place) => {
                place.insert(VecDeque::from([item]));
                self.fresh.push_back(key);
                self.keys += 1;
            }
        }
        self.len += 1;
    }

    /// Takes the first item of the key whose turn it is: of a fresh one as a rule, if there is one.
    pub fn pop(&mut self) -> Option<(K, T)> {
        if self.run < FRESH_MAX
            && let Some(fresh) = self.pop_fresh()
        {
            self.run += 1;
            return Some(fresh);
        }
        self.run = 0;
        let item = self.pop_in_turn().or_else(|| self.pop_fresh());
        if item.is_none() && self.waiting.capacity() > 0 {
            // After a flood the memory goes back.
            *self = Self::default();
        }
        item
    }

    /// Takes the item of the next fresh key that has no more than one. Fresh keys are in the
    /// rotation from then on, and those that have more are so at once: they do not ask now and
    /// then.
    pub fn pop_fresh(&mut self) -> Option<(K, T)> {
        while let Some(key) = self.fresh.pop_front() {
            self.order.push_back(key);
            let Some(queue) = self.waiting.get_mut(&key).filter(|queue| queue.len() == 1) else { continue };
            let item = queue.pop_front()?;
            self.took(key);
            return Some((key, item));
        }
        None
    }

    fn pop_in_turn(&mut self) -> Option<(K, T)> {
        while let Some(key) = self.order.pop_front() {
            let Entry::Occupied(mut queue) = self.waiting.entry(key) else { continue };
            let Some(item) = queue.get_mut().pop_front() else {
                // A round has passed since it was served, and nothing more has come.
                queue.remove();
                continue;
            };
            self.order.push_back(key);
            self.took(key);
            return Some((key, item));
        }
        None
    }

    /// An item of `key` was taken.
    fn took(&mut self, key: K) {
        self.len -= 1;
        self.keys -= usize::from(self.waiting.get(&key).is_none_or(VecDeque::is_empty));
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
        self.keys
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
        assert_eq!(first, [("quiet", 0), ("greedy", 0), ("greedy", 1)]);
        turns.push("quiet", 1);
        assert_eq!((turns.keys(), turns.len()), (2, 999));
        let next: Vec<_> = (0..2).filter_map(|_| turns.pop()).collect();
        assert_eq!(next, [("quiet", 1), ("greedy", 2)], "its round is over");
    }

    #[test]
    fn whoever_comes_now_and_then_does_not_wait_for_a_round_of_hundreds() {
        let mut turns = Turns::new();
        (0..300).for_each(|key| (0..10).for_each(|n| turns.push(key, n)));
        // All of them had their first turn.
        (0..300).for_each(|_| assert!(turns.pop().is_some()));
        turns.push(1000, 0);
        assert_eq!(turns.pop(), Some((1000, 0)));
        turns.push(1000, 1);
        let until = (0..).take_while(|_| turns.pop().expect("somebody waits").0 != 1000).count();
        assert_eq!(until, 300, "more than that is in turn");
        // It stays away for a round.
        (0..302).for_each(|_| assert!(turns.pop().is_some()));
        turns.push(1000, 2);
        assert_eq!(turns.pop_fresh(), Some((1000, 2)));
    }

    #[test]
    fn whoever_was_served_as_a_fresh_one_is_none_until_a_round_has_passed() {
        let mut turns = Turns::new();
        turns.push("often", 0);
        assert_eq!(turns.pop_fresh(), Some(("often", 0)));
        turns.push("often", 1);
        assert_eq!((turns.pop_fresh(), turns.len()), (None, 1), "although nothing else waits");
        assert_eq!(turns.pop(), Some(("often", 1)));
        assert_eq!((turns.pop(), turns.waiting.capacity()), (None, 0));
        turns.push("often", 2);
        assert_eq!(turns.pop_fresh(), Some(("often", 2)));
    }

    #[test]
    fn thousands_who_ask_once_do_not_keep_the_rotation_from_its_turn() {
        let mut turns = Turns::new();
        (0..100).for_each(|n| turns.push(0, n));
        let mut served = 0;
        for key in 1..=1000 {
            turns.push(key, 0);
            served += usize::from(turns.pop().expect("somebody waits").0 == 0);
        }
        assert!(served >= 1000 / (FRESH_MAX as usize + 2), "{served} of 1000");
    }

    proptest! {
        /// Whatever comes and goes: nothing is lost, what is of one key keeps its order, and
        /// between two items of one key that both wait each other key has two at most: one as it
        /// comes, and one in its turn.
        #[test]
        fn everybody_has_a_turn(steps in prop::collection::vec(prop::option::weighted(0.6, 0..6u8), 0..300)) {
            let mut turns = Turns::default();
            let (mut given, mut taken) = ([0u32; 6], [0u32; 6]);
            // How many items of other keys each key has waited for since it was last served, or
            // came.
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
                            prop_assert!(passed[other][key] <= 2, "{} waits for three of {}", other, key);
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
