//! A bounded line in which keys take turns and the longest queue gives way.

use std::collections::VecDeque;
use std::hash::Hash;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::turns::FRESH_MAX;

/// Items of many keys, which are taken in turn by key, and of one key in the order in which they
/// came: whoever brings many waits for its own, not the others for it. A key that was not in the
/// rotation and brings one is taken before it, up to [`FRESH_MAX`] in a row, as in
/// [`super::Turns`]. When the line is full, the last item of the longest queue gives way to that of
/// a key with fewer.
pub struct BoundedTurns<K, T> {
    items_max: usize,
    /// Of each key of `fresh` and `order` what waits. Of one in `order` that may be nothing: it has
    /// just been taken.
    queues: HashMap<K, VecDeque<T>, RandomState>,
    /// Keys that were in no list when their first item came.
    fresh: VecDeque<K>,
    /// Each other key once, in the order of their turns.
    order: VecDeque<K>,
    len: usize,
    /// Fresh ones taken since an item of the rotation.
    run: u32,
}

impl<K: Copy + Hash + Eq, T> BoundedTurns<K, T> {
    /// An empty line for at most `items_max` items. Nothing is reserved.
    #[must_use]
    pub fn new(items_max: usize) -> Self {
        Self { items_max, queues: HashMap::default(), fresh: VecDeque::new(), order: VecDeque::new(), len: 0, run: 0 }
    }

    /// How many wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the line is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many of a key wait.
    #[must_use]
    pub fn of(&self, key: K) -> usize {
        self.queues.get(&key).map_or(0, VecDeque::len)
    }

    /// Puts an item at the end of its key's queue. Answers with the item that gave way to it, if
    /// one had to.
    ///
    /// # Errors
    /// The line is full, and no key has more in it than this one: the item comes back.
    pub fn push(&mut self, key: K, item: T) -> Result<Option<T>, T> {
        let mut displaced = None;
        if self.len >= self.items_max {
            match self.longest() {
                Some((longest, len)) if len > self.of(key) + 1 => displaced = self.pop_back(longest),
                Some(_) | None => return Err(item),
            }
        }
        match self.queues.entry(key) {
            Entry::Occupied(mut queue) => queue.get_mut().push_back(item),
            Entry::Vacant(place) => {
                place.insert(VecDeque::from([item]));
                self.fresh.push_back(key);
            }
        }
        self.len += 1;
        Ok(displaced)
    }

    /// The item whose turn it is.
    pub fn pop(&mut self) -> Option<(K, T)> {
        let fresh = if self.run < FRESH_MAX { self.pop_fresh() } else { None };
        self.run = if fresh.is_some() { self.run + 1 } else { 0 };
        let (key, item) = fresh.or_else(|| self.pop_in_turn()).or_else(|| self.pop_fresh())?;
        self.len -= 1;
        if self.len == 0 {
            // After a flood the memory goes back.
            *self = Self::new(self.items_max);
        }
        Some((key, item))
    }

    fn pop_fresh(&mut self) -> Option<(K, T)> {
        while let Some(key) = self.fresh.pop_front() {
            self.order.push_back(key);
            // Whoever brings several at once is in the rotation.
            let Some(queue) = self.queues.get_mut(&key).filter(|queue| queue.len() == 1) else { continue };
            return queue.pop_front().map(|item| (key, item));
        }
        None
    }

    fn pop_in_turn(&mut self) -> Option<(K, T)> {
        while let Some(key) = self.order.pop_front() {
            let Entry::Occupied(mut queue) = self.queues.entry(key) else { continue };
            let Some(item) = queue.get_mut().pop_front() else {
                // A round has passed, and nothing more has come.
                queue.remove();
                continue;
            };
            self.order.push_back(key);
            return Some((key, item));
        }
        None
    }

    /// Takes the last item of the longest queue out of the line.
    pub fn give_way(&mut self) -> Option<T> {
        let (longest, _) = self.longest()?;
        self.pop_back(longest)
    }

    /// Takes the last item of `key` out of the line.
    pub fn pop_back(&mut self, key: K) -> Option<T> {
        let queue = self.queues.get_mut(&key)?;
        let item = queue.pop_back()?;
        self.len -= 1;
        if queue.is_empty() {
            self.queues.remove(&key);
            self.order.retain(|waiting| *waiting != key);
            self.fresh.retain(|waiting| *waiting != key);
        }
        Some(item)
    }

    fn longest(&self) -> Option<(K, usize)> {
        self.queues.iter().map(|(key, queue)| (*key, queue.len())).max_by_key(|(_, len)| *len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_take_turns_and_the_longest_queue_gives_way() {
        let mut turns = BoundedTurns::new(4);
        for item in ["a1", "a2", "a3", "a4"] {
            assert_eq!(turns.push('a', item), Ok(None));
        }
        assert_eq!(turns.push('a', "a5"), Err("a5"), "its own queue is the longest");
        assert_eq!((turns.push('b', "b1"), turns.push('b', "b2")), (Ok(Some("a4")), Ok(Some("a3"))));
        assert_eq!(turns.push('b', "b3"), Err("b3"), "both have as many");
        let taken: Vec<_> = std::iter::from_fn(|| turns.pop()).map(|(_, item)| item).collect();
        assert_eq!(taken, ["a1", "b1", "a2", "b2"]);
        assert!(turns.is_empty() && turns.queues.is_empty());
    }

    #[test]
    fn whoever_comes_now_and_then_is_taken_before_the_rotation() {
        let mut turns = BoundedTurns::new(100);
        (0..8).for_each(|key| (0..4).for_each(|n| assert_eq!(turns.push(key, n), Ok(None))));
        (0..8).for_each(|_| assert!(turns.pop().is_some()));
        assert_eq!(turns.push(9, 0), Ok(None));
        assert_eq!(turns.pop(), Some((9, 0)));
        assert_eq!(turns.push(9, 1), Ok(None));
        let before = std::iter::from_fn(|| turns.pop()).take_while(|&(key, _)| key != 9).count();
        assert_eq!(before, 8, "more than that is in turn");
    }

    #[test]
    fn what_gives_way_is_the_last_of_the_longest_queue() {
        let mut turns = BoundedTurns::new(4);
        for (key, item) in [('a', 1), ('b', 2), ('b', 3)] {
            assert_eq!(turns.push(key, item), Ok(None));
        }
        assert_eq!((turns.give_way(), turns.pop_back('a'), turns.pop_back('a')), (Some(3), Some(1), None));
        assert_eq!((turns.pop(), turns.pop(), turns.len()), (Some(('b', 2)), None, 0));
    }

    proptest! {
        #[test]
        fn the_line_is_bounded_and_nothing_is_lost(steps in prop::collection::vec((any::<bool>(), 0_u8..5), 0..200)) {
            let mut turns = BoundedTurns::new(8);
            let (mut inside, mut next) = (std::collections::BTreeSet::new(), 0);
            for (push, key) in steps {
                if push {
                    next += 1;
                    match turns.push(key, next) {
                        Ok(displaced) => {
                            inside.insert(next);
                            prop_assert!(displaced.is_none_or(|gone| inside.remove(&gone)));
                        }
                        Err(back) => prop_assert_eq!((back, inside.len()), (next, 8)),
                    }
                } else if let Some((_, item)) = turns.pop() {
                    prop_assert!(inside.remove(&item));
                }
                prop_assert_eq!(turns.len(), inside.len());
                prop_assert_eq!((0..5).map(|key| turns.of(key)).sum::<usize>(), inside.len());
                prop_assert!(turns.len() <= 8 && turns.order.len() + turns.fresh.len() == turns.queues.len());
            }
        }
    }
}
