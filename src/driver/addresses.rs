//! What each address has of the gate: connections, guests, and how often it connects.
//!
//! Owns: the counters that all shards share ([`AddressCounts`]), one shard's view of them and its
//! connect rates ([`Addresses`]).
//! Never: keeps anything of a connection but the two bytes that name its counter
//! ([`NetworkCounter`]): an address cannot be asked of a socket any more once it is closed.
//! Bounds: [`ADDRESS_COUNTERS`], [`CONNECT_KEYS_MAX`]. Addresses of trusted proxies have no share
//! and no rate: they stand for many.

use std::hash::BuildHasher;
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use foldhash::fast::RandomState;

use crate::fair::{Network, Networks, Rate, Rates};
use crate::limits::{ADDRESS_COUNTERS, CONNECT_KEYS_MAX};
use crate::mesh::Adjusted;

/// The counter of the network that a connection comes from; 0 for one that is not counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NetworkCounter(u16);

impl NetworkCounter {
    /// Not counted.
    pub(super) const NONE: Self = Self(0);
}

/// The one that connects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Visitor {
    /// Whose share it takes.
    pub(super) network: Network,
    /// A trusted proxy: no share per address holds for it.
    pub(super) trusted: bool,
    /// Its counter.
    pub(super) origin: NetworkCounter,
}

/// What the gate allows an address, and guests.
#[derive(Clone, Debug)]
pub struct AddressLimits {
    /// Networks that are exempt.
    pub trusted: Networks,
    /// Connections in a second; 0: any number.
    pub connect_rate: u64,
    /// Connections at once after a rest.
    pub connect_burst: u64,
    /// Connections of one address at once; 0: any number.
    pub connections: u32,
    /// Guests of `/chatroom` at once.
    pub guests: usize,
    /// Of these, of one address; 0: any number.
    pub guests_per_address: u32,
}

/// Counts of connections and guests, by a hash of their network with a secret. Two networks that
/// meet in one counter share their share, which cannot be aimed at.
pub struct AddressCounts {
    seed: RandomState,
    connections: Box<[AtomicU32]>,
    guests: Box<[AtomicU32]>,
    all_guests: AtomicUsize,
}

impl AddressCounts {
    /// No connection. What is not limited is counted all the same: it may be limited later.
    #[must_use]
    pub fn new() -> Self {
        let counters = || (0..ADDRESS_COUNTERS).map(|_| AtomicU32::new(0)).collect();
        Self {
            seed: RandomState::default(),
            connections: counters(),
            guests: counters(),
            all_guests: AtomicUsize::new(0),
        }
    }
}

impl Default for AddressCounts {
    fn default() -> Self {
        Self::new()
    }
}

/// One shard's view.
pub(super) struct Addresses {
    limits: AddressLimits,
    counts: Arc<AddressCounts>,
    /// Each shard gets an equal part of the connections, so it allows an equal part of the rate.
    rate: Option<Rate>,
    rates: Rates<Network>,
    shards: u64,
}

impl Addresses {
    pub(super) fn new(limits: AddressLimits, counts: Arc<AddressCounts>, shards: u16) -> Self {
        let shards = u64::from(shards.max(1));
        let rate = connect_rate(&limits, shards);
        Self { limits, counts, rate, rates: Rates::new(CONNECT_KEYS_MAX), shards }
    }

    /// Goes by other limits from now on. Connections and guests that are here stay.
    pub(super) fn adjust(&mut self, to: &Adjusted) {
        self.limits = AddressLimits {
            trusted: mem::take(&mut self.limits.trusted),
            connect_rate: to.connect_rate,
            connect_burst: to.connect_burst,
            connections: to.connections_per_address,
            guests: to.guests,
            guests_per_address: to.guests_per_address,
        };
        self.rate = connect_rate(&self.limits, self.shards);
    }

    /// The visitor from `address`; without one, a visitor that is not counted.
    pub(super) fn visitor(&self, address: Option<IpAddr>) -> Visitor {
        let Some(address) = address else {
            return Visitor { network: Network::of([0; 4].into()), trusted: true, origin: NetworkCounter::NONE };
        };
        let network = Network::of(address);
        if self.limits.trusted.contains(address) {
            return Visitor { network, trusted: true, origin: NetworkCounter::NONE };
        }
        // From 1 on.
        let counter = self.counts.seed.hash_one(network) % (ADDRESS_COUNTERS as u64 - 1) + 1;
        Visitor { network, trusted: false, origin: NetworkCounter(u16::try_from(counter).unwrap_or_default()) }
    }

    /// Whether it may connect once more now; counts if it may.
    pub(super) fn may_connect(&mut self, visitor: Visitor, now_ms: u64) -> bool {
        match self.rate {
            Some(rate) if !visitor.trusted => self.rates.take(visitor.network, rate, now_ms),
            _ => true,
        }
    }

    /// Whether its address has as many connections as it may.
    pub(super) fn is_full(&self, origin: NetworkCounter) -> bool {
        let most = self.limits.connections;
        most > 0 && at(&self.counts.connections, origin).is_some_and(|n| n.load(Ordering::Relaxed) >= most)
    }

    /// A connection begins.
    pub(super) fn enter(&self, origin: NetworkCounter) {
        add(&self.counts.connections, origin);
    }

    /// A connection that began has ended.
    pub(super) fn leave(&self, origin: NetworkCounter) {
        subtract(&self.counts.connections, origin);
    }

    /// Whether there is a place for one more guest from there.
    pub(super) fn takes_guest(&self, origin: NetworkCounter) -> bool {
        let of_address = at(&self.counts.guests, origin).map_or(0, |n| n.load(Ordering::Relaxed));
        self.counts.all_guests.load(Ordering::Relaxed) < self.limits.guests
            && (self.limits.guests_per_address == 0 || of_address < self.limits.guests_per_address)
    }

    /// A guest comes.
    pub(super) fn enter_guest(&self, origin: NetworkCounter) {
        self.counts.all_guests.fetch_add(1, Ordering::Relaxed);
        add(&self.counts.guests, origin);
    }

    /// A guest is gone.
    pub(super) fn leave_guest(&self, origin: NetworkCounter) {
        self.counts.all_guests.fetch_sub(1, Ordering::Relaxed);
        subtract(&self.counts.guests, origin);
    }
}

/// The part of one of so many shards.
fn connect_rate(limits: &AddressLimits, shards: u64) -> Option<Rate> {
    (limits.connect_rate > 0).then(|| Rate {
        most: limits.connect_burst.div_ceil(shards).max(1),
        pause_ms: (1000 * shards / limits.connect_rate).max(1),
    })
}

fn at(counters: &[AtomicU32], origin: NetworkCounter) -> Option<&AtomicU32> {
    (origin != NetworkCounter::NONE).then(|| counters.get(usize::from(origin.0))).flatten()
}

fn add(counters: &[AtomicU32], origin: NetworkCounter) {
    if let Some(counter) = at(counters, origin) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn subtract(counters: &[AtomicU32], origin: NetworkCounter) {
    if let Some(counter) = at(counters, origin) {
        counter.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> AddressLimits {
        AddressLimits {
            trusted: Networks::loopback(),
            connect_rate: 100,
            connect_burst: 10,
            connections: 3,
            guests: 5,
            guests_per_address: 2,
        }
    }

    fn view(limits: &AddressLimits, shards: u16) -> Addresses {
        Addresses::new(limits.clone(), Arc::new(AddressCounts::new()), shards)
    }

    fn visitor(addresses: &Addresses, text: &str) -> Visitor {
        addresses.visitor(Some(text.parse().expect("an address")))
    }

    #[test]
    fn an_address_has_a_share_of_the_connections_and_a_proxy_has_none() {
        let limits = limits();
        let counts = Arc::new(AddressCounts::new());
        let shards = [1, 2].map(|_| Addresses::new(limits.clone(), Arc::clone(&counts), 2));
        let (customer, proxy) = (visitor(&shards[0], "2001:db8::1"), visitor(&shards[0], "127.0.0.1"));
        assert_eq!(
            visitor(&shards[1], "2001:db8::ffff").origin,
            customer.origin,
            "one network, one counter, any shard"
        );
        for n in 0..3 {
            assert!(!shards[n % 2].is_full(customer.origin));
            shards[n % 2].enter(customer.origin);
            shards[0].enter(proxy.origin);
        }
        assert!(shards.iter().all(|shard| shard.is_full(customer.origin) && !shard.is_full(proxy.origin)));
        shards[1].leave(customer.origin);
        assert!(!shards[0].is_full(customer.origin));
        assert!(!shards[0].is_full(NetworkCounter::NONE) && proxy.trusted && !customer.trusted);
    }

    #[test]
    fn an_address_connects_at_its_rate() {
        let mut addresses = view(&limits(), 1);
        let (a, b) = (visitor(&addresses, "192.0.2.1"), visitor(&addresses, "192.0.2.2"));
        let proxy = visitor(&addresses, "127.0.0.1");
        let taken = (0..100).filter(|_| addresses.may_connect(a, 0)).count();
        assert_eq!(taken, 10, "the burst");
        assert!(addresses.may_connect(b, 0) && addresses.may_connect(proxy, 0), "others have their own, proxies none");
        assert!(!addresses.may_connect(a, 9) && addresses.may_connect(a, 10) && !addresses.may_connect(a, 10));
        let mut off = view(&AddressLimits { connect_rate: 0, ..limits() }, 1);
        assert!((0..10_000).all(|_| off.may_connect(a, 0)), "0 is off");
        let mut half = view(&limits(), 2);
        let taken = (0..100).filter(|_| half.may_connect(a, 0)).count();
        assert_eq!(taken, 5, "two shards allow half each");
    }

    #[test]
    fn guests_have_a_bound_in_all_and_per_address() {
        let addresses = view(&limits(), 1);
        let (a, b) = (visitor(&addresses, "192.0.2.1").origin, visitor(&addresses, "192.0.2.2").origin);
        let proxy = visitor(&addresses, "127.0.0.1").origin;
        for _ in 0..2 {
            assert!(addresses.takes_guest(a));
            addresses.enter_guest(a);
        }
        assert!(!addresses.takes_guest(a) && addresses.takes_guest(b));
        for _ in 0..3 {
            assert!(addresses.takes_guest(proxy));
            addresses.enter_guest(proxy);
        }
        assert!(!addresses.takes_guest(b) && !addresses.takes_guest(proxy), "five in all");
        addresses.leave_guest(a);
        assert!(addresses.takes_guest(a));
    }
}
