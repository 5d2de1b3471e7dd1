//! A bounded line in which keys take turns and the longest queue gives way.

use std::collections::VecDeque;
use std::hash::Hash;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// Items of many keys, which are taken in turn by key, and of one key in the order in which they came: whoever brings many
/// waits for its own, not the others for it. When the line is full, the last item of the longest queue gives way to that of
/// a key with fewer.
pub struct BoundedTurns<K, T> {
    items_max: usize,
    queues: HashMap<K, VecDeque<T>, RandomState>,
    /// The keys that have any, in the order of their turns.
    order: VecDeque<K>,
    len: usize,
}

impl<K: Copy + Hash + Eq, T> BoundedTurns<K, T> {
    /// An empty line for at most `items_max` items. Nothing is reserved.
    #[must_use]
    pub fn new(items_max: usize) -> Self {
        Self { items_max, queues: HashMap::default(), order: VecDeque::new(), len: 0 }
    }

    /// How many wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many of a key wait.
    #[must_use]
    pub fn of(&self, key: K) -> usize {
        self.queues.get(&key).map_or(0, VecDeque::len)
    }

    /// Puts an item at the end of its key's queue. Answers with the item that gave way to it, if one had to.
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
        let queue = self.queues.entry(key).or_default();
        if queue.is_empty() {
            self.order.push_back(key);
        }
        queue.push_back(item);
        self.len += 1;
        Ok(displaced)
    }

    /// The item whose turn it is.
    pub fn pop(&mut self) -> Option<(K, T)> {
        let key = self.order.pop_front()?;
        let queue = self.queues.get_mut(&key)?;
        let item = queue.pop_front()?;
        self.len -= 1;
        if queue.is_empty() {
            self.queues.remove(&key);
        } else {
            self.order.push_back(key);
        }
        Some((key, item))
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
                prop_assert!(turns.len() <= 8 && turns.order.len() == turns.queues.len());
            }
        }
    }
}
