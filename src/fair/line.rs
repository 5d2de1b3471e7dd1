//! What waits, by network and in the order of coming, and what goes when too many wait.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::Network;

/// Waiting keys, each of one network. When there are too many, the oldest goes of the network
/// with the most: so a crowd from one address displaces itself, and whoever comes from elsewhere
/// waits in peace. Bounded by its caller, which makes one go for each that comes.
pub struct WaitingLine<K> {
    /// All, by a number that grows with each that comes.
    order: BTreeMap<u64, (Network, K)>,
    numbers: HashMap<K, u64, RandomState>,
    networks: HashMap<Network, BTreeSet<u64>, RandomState>,
    /// How many each network has.
    sizes: BTreeSet<(usize, Network)>,
    next: u64,
}

impl<K> Default for WaitingLine<K> {
    fn default() -> Self {
        Self {
            order: BTreeMap::new(),
            numbers: HashMap::default(),
            networks: HashMap::default(),
            sizes: BTreeSet::new(),
            next: 0,
        }
    }
}

impl<K: Copy + Eq + Hash> WaitingLine<K> {
    /// `key` of `network` waits from now on; one that waits already goes to the end.
    pub fn enter(&mut self, network: Network, key: K) {
        self.leave(&key);
        let number = self.next;
        self.next += 1;
        self.order.insert(number, (network, key));
        self.numbers.insert(key, number);
        let members = self.networks.entry(network).or_default();
        self.sizes.remove(&(members.len(), network));
        members.insert(number);
        self.sizes.insert((members.len(), network));
    }

    /// `key` does not wait any more; whether it did.
    pub fn leave(&mut self, key: &K) -> bool {
        let Some(number) = self.numbers.remove(key) else { return false };
        let Some((network, _)) = self.order.remove(&number) else { return false };
        let Some(members) = self.networks.get_mut(&network) else { return false };
        self.sizes.remove(&(members.len(), network));
        members.remove(&number);
        if members.is_empty() {
            self.networks.remove(&network);
        } else {
            self.sizes.insert((members.len(), network));
        }
        true
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether the line is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// How many of one network wait.
    #[must_use]
    pub fn len_of(&self, network: Network) -> usize {
        self.networks.get(&network).map_or(0, BTreeSet::len)
    }

    /// The key of one network that has waited longest.
    #[must_use]
    pub fn oldest_of(&self, network: Network) -> Option<K> {
        let number = self.networks.get(&network)?.first()?;
        self.order.get(number).map(|&(_, key)| key)
    }

    /// The key that has waited longest of the network with the most.
    #[must_use]
    pub fn oldest_of_busiest(&self) -> Option<K> {
        self.sizes.last().and_then(|&(_, network)| self.oldest_of(network))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(n: u8) -> Network {
        Network::of([192, 0, 2, n].into())
    }

    #[test]
    fn the_oldest_of_the_busiest_goes() {
        let mut line = WaitingLine::<u32>::default();
        assert_eq!((line.oldest_of_busiest(), line.len()), (None, 0));
        line.enter(network(1), 10);
        for key in 20..25 {
            line.enter(network(2), key);
        }
        line.enter(network(3), 30);
        assert_eq!((line.len(), line.len_of(network(2)), line.len_of(network(9))), (7, 5, 0));
        let mut gone = Vec::new();
        for _ in 0..4 {
            let key = line.oldest_of_busiest().expect("somebody waits");
            assert!(line.leave(&key));
            gone.push(key);
        }
        assert_eq!(gone, [20, 21, 22, 23], "the crowd displaces itself");
        assert_eq!(line.oldest_of(network(1)), Some(10), "those of other networks stay");
    }

    #[test]
    fn who_leaves_in_any_order_leaves_nothing_behind() {
        let mut line = WaitingLine::<u32>::default();
        for key in 0..1000 {
            line.enter(network((key % 7) as u8), key);
        }
        line.enter(network(0), 500);
        assert_eq!(line.len(), 1000, "nobody waits twice");
        for key in 0..1000 {
            let key = key * 37 % 1000;
            assert!(line.leave(&key) && !line.leave(&key));
        }
        assert!(line.is_empty() && line.networks.is_empty() && line.sizes.is_empty() && line.numbers.is_empty());
        assert_eq!(line.oldest_of_busiest(), None);
    }

    #[test]
    fn a_thousand_newcomers_of_a_crowd_never_displace_a_stranger() {
        const PLACES: usize = 64;
        let mut line = WaitingLine::<u32>::default();
        line.enter(network(1), u32::MAX);
        for key in 0..1000 {
            line.enter(network(2), key);
            if line.len() > PLACES {
                let gone = line.oldest_of_busiest().expect("somebody waits");
                line.leave(&gone);
                assert_eq!(gone, key + 1 - PLACES as u32);
            }
        }
        assert_eq!((line.len(), line.len_of(network(1))), (PLACES, 1));
    }
}
