//! Which users take the most, counted only while an operator looks.
//!
//! Owns: [`Top`], a bounded count of weights by key, and [`TopReport`], what one shard has counted.
//! Never: counts without a look: no connection and no user carries a counter of its own. Bounds:
//! [`TOP_KEYS_MAX`] keys of a kind; beyond it those that have cost the least are forgotten, and
//! begin anew.

use std::collections::HashMap;
use std::hash::Hash;

use crate::fair::Network;
use crate::ids::{GroupId, UserId};
use crate::limits::TOP_KEYS_MAX;

/// What one user, group or network has taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Weights {
    /// Units of work, by the prices of a pace; of a group, sessions that its messages were for are
    /// not in it.
    pub cost: u64,
    /// Messages sent.
    pub messages: u64,
    /// Bytes sent to us that a pace charges: those of large messages and floods; what comes with
    /// small messages is in their cost.
    pub bytes: u64,
    /// Commands refused.
    pub refused: u64,
    /// Sessions, or connections, opened.
    pub opened: u64,
    /// Bytes that wait in the gateway for a user's sessions when a look ends.
    pub queued: u64,
}

impl Weights {
    fn add(&mut self, more: &Self) {
        self.cost += more.cost;
        self.messages += more.messages;
        self.bytes += more.bytes;
        self.refused += more.refused;
        self.opened += more.opened;
        self.queued += more.queued;
    }

    /// What decides which entries are forgotten: a small message that waits counts as much as one
    /// that was sent.
    const fn total(&self) -> u64 {
        const SMALL_BYTES: u64 = 256;
        self.cost + self.messages + self.refused + self.opened + self.queued / SMALL_BYTES
    }
}

/// Weights by key.
#[derive(Clone, Debug)]
pub struct Top<K> {
    rows: HashMap<K, Weights>,
}

impl<K> Default for Top<K> {
    fn default() -> Self {
        Self { rows: HashMap::new() }
    }
}

impl<K: Copy + Eq + Hash + Ord> Top<K> {
    /// Counts `more` for `key`.
    pub fn note(&mut self, key: K, more: &Weights) {
        if self.rows.len() >= TOP_KEYS_MAX && !self.rows.contains_key(&key) {
            self.forget_half();
        }
        self.rows.entry(key).or_default().add(more);
    }

    /// Forgets those that have taken the least: half of them at once, so that it costs little a
    /// time.
    fn forget_half(&mut self) {
        let mut totals: Vec<u64> = self.rows.values().map(Weights::total).collect();
        let middle = totals.len() / 2;
        let (_, &mut median, _) = totals.select_nth_unstable(middle);
        let mut left = middle;
        self.rows.retain(|_, weights| {
            let goes = left > 0 && weights.total() <= median;
            left -= usize::from(goes);
            !goes
        });
    }

    /// All rows, in no order.
    #[must_use]
    pub fn rows(self) -> Vec<(K, Weights)> {
        self.rows.into_iter().collect()
    }

    /// Adds what another one has counted.
    pub fn merge(&mut self, rows: Vec<(K, Weights)>) {
        rows.iter().for_each(|(key, weights)| self.note(*key, weights));
    }

    /// The first `most` by a weight; equal ones by their keys.
    #[must_use]
    pub fn first(self, most: usize, by: fn(&Weights) -> u64) -> Vec<(K, Weights)> {
        let mut rows: Vec<(K, Weights)> = self.rows().into_iter().filter(|(_, weights)| by(weights) > 0).collect();
        rows.sort_by(|(a, x), (b, y)| by(y).cmp(&by(x)).then(a.cmp(b)));
        rows.truncate(most);
        rows
    }
}

/// What one shard has counted.
#[derive(Clone, Debug, Default)]
pub struct TopReport {
    /// By user.
    pub users: Vec<(UserId, Weights)>,
    /// By group: messages that its home handed on, and their bytes.
    pub groups: Vec<(GroupId, Weights)>,
    /// By network: connections.
    pub networks: Vec<(Network, Weights)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(cost: u64) -> Weights {
        Weights { cost, ..Weights::default() }
    }

    #[test]
    fn the_first_come_first() {
        let mut top = Top::default();
        for (key, weight) in [(1, 5), (2, 50), (3, 5), (2, 1), (4, 0)] {
            top.note(key, &cost(weight));
        }
        assert_eq!(top.first(2, |weights| weights.cost), [(2, cost(51)), (1, cost(5))]);
    }

    #[test]
    fn a_flood_of_keys_neither_grows_nor_hides_who_takes_much() {
        let mut top = Top::default();
        for n in 0..50_000_u64 {
            top.note(n + 10, &cost(1));
            if n % 10 == 0 {
                top.note(1, &cost(20));
            }
            assert!(top.rows.len() <= TOP_KEYS_MAX, "{}", top.rows.len());
        }
        assert_eq!(top.first(1, |weights| weights.cost), [(1, cost(100_000))]);
    }
}
