//! How often somebody may try to log in or to register, per address and per account; and how often upload a file.
//!
//! Owns: the tables of allowances ("generic cell rate algorithm": one time per key says when its allowance is whole again).
//! Never: counts a login that succeeded against its account; never punishes a whole address for one account.
//! Bounds: [`limits::ATTEMPT_KEYS_MAX`] keys in each generation of a table, two generations; the oldest are forgotten, which
//! is in their favour.

use std::hash::Hash;
use std::net::IpAddr;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::clock::Clock;
use crate::ids::UserId;
use crate::limits;

/// See the module.
pub struct Attempts {
    clock: Clock,
    addresses: Mutex<Table<IpAddr>>,
    accounts: Mutex<Table<String>>,
    uploads: Mutex<Table<UserId>>,
    portraits: Mutex<Table<IpAddr>>,
    all_portraits: Mutex<Table<()>>,
}

/// An attempt on an account that was let through; see [`Attempts::forgive`].
#[must_use]
pub struct Attempt(String);

impl Attempts {
    /// Nobody has tried anything.
    #[must_use]
    pub fn new() -> Self {
        Self {
            clock: Clock::start(),
            addresses: Mutex::default(),
            accounts: Mutex::default(),
            uploads: Mutex::default(),
            portraits: Mutex::default(),
            all_portraits: Mutex::default(),
        }
    }

    /// Whether somebody at `address` may try now; counts as a try. This machine itself may always: a proxy that does not
    /// say for whom it asks would be everybody.
    #[must_use]
    pub fn from_address(&self, address: IpAddr) -> bool {
        if address.is_loopback() {
            return true;
        }
        let rate = Rate { most: limits::ADDRESS_ATTEMPTS_MAX, pause_ms: limits::ADDRESS_ATTEMPT_MS };
        self.addresses.lock().take(network(address), rate, self.clock.now().mono_ms)
    }

    /// Whether a password of the account `mobile` may be tried now. `None`: it may not.
    pub fn on_account(&self, mobile: &str) -> Option<Attempt> {
        let key = mobile.trim().to_lowercase();
        let taken = self.accounts.lock().take(key.clone(), ACCOUNT_RATE, self.clock.now().mono_ms);
        taken.then_some(Attempt(key))
    }

    /// Whether `user` may upload a file now; counts as one. `per_minute` is also how many at once; 0: as many as she likes.
    #[must_use]
    pub fn upload(&self, user: UserId, per_minute: u32) -> bool {
        let Some(pause_ms) = 60_000_u64.checked_div(per_minute.into()) else { return true };
        let rate = Rate { most: per_minute.into(), pause_ms: pause_ms.max(1) };
        self.uploads.lock().take(user, rate, self.clock.now().mono_ms)
    }

    /// Whether somebody at `address` who is no user yet may upload a portrait now; counts as one.
    #[must_use]
    pub fn portrait(&self, address: IpAddr) -> bool {
        let now_ms = self.clock.now().mono_ms;
        let own = Rate { most: limits::ADDRESS_PORTRAITS_MAX, pause_ms: limits::ADDRESS_PORTRAIT_MS };
        let all = Rate { most: limits::PORTRAITS_MAX, pause_ms: limits::PORTRAIT_MS };
        // A proxy that does not say for whom it asks is everybody.
        let may = address.is_loopback() || self.portraits.lock().take(network(address), own, now_ms);
        may && self.all_portraits.lock().take((), all, now_ms)
    }

    /// Takes an attempt back: it was the owner's.
    pub fn forgive(&self, attempt: Attempt) {
        self.accounts.lock().give_back(&attempt.0, ACCOUNT_RATE);
    }
}

impl Default for Attempts {
    fn default() -> Self {
        Self::new()
    }
}

const ACCOUNT_RATE: Rate = Rate { most: limits::ACCOUNT_ATTEMPTS_MAX, pause_ms: limits::ACCOUNT_ATTEMPT_MS };

/// A provider gives each customer a /64 at least: its addresses are one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

/// At most `most` at once, and one more every `pause_ms`.
#[derive(Clone, Copy)]
struct Rate {
    most: u64,
    pause_ms: u64,
}

/// When each key's allowance is whole again, in two generations.
struct Table<K> {
    young: HashMap<K, u64, RandomState>,
    old: HashMap<K, u64, RandomState>,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self { young: HashMap::default(), old: HashMap::default() }
    }
}

impl<K: Hash + Eq> Table<K> {
    fn take(&mut self, key: K, rate: Rate, now_ms: u64) -> bool {
        let whole_ms = self.young.get(&key).or_else(|| self.old.get(&key)).copied().unwrap_or(0).max(now_ms);
        if whole_ms - now_ms > (rate.most - 1) * rate.pause_ms {
            return false;
        }
        if self.young.len() >= limits::ATTEMPT_KEYS_MAX && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, whole_ms + rate.pause_ms);
        true
    }

    fn give_back(&mut self, key: &K, rate: Rate) {
        if let Some(whole_ms) = self.young.get_mut(key) {
            *whole_ms = whole_ms.saturating_sub(rate.pause_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { most: 3, pause_ms: 100 };

    #[test]
    fn an_allowance_is_used_up_and_comes_back_by_and_by() {
        let mut table = Table::<u32>::default();
        let mut take = |key, now_ms| table.take(key, RATE, now_ms);
        assert_eq!([take(1, 0), take(1, 0), take(1, 0), take(1, 0)], [true, true, true, false]);
        assert!(take(2, 0), "another key has its own");
        assert_eq!([take(1, 99), take(1, 100), take(1, 100)], [false, true, false]);
        assert_eq!([take(1, 9_000), take(1, 9_000), take(1, 9_000), take(1, 9_000)], [true, true, true, false]);
        table.give_back(&1, RATE);
        assert_eq!([table.take(1, RATE, 9_000), table.take(1, RATE, 9_000)], [true, false]);
    }

    #[test]
    fn a_full_table_forgets_the_oldest_and_keeps_the_youngest() {
        let mut table = Table::<usize>::default();
        for key in 0..5 * limits::ATTEMPT_KEYS_MAX / 2 {
            table.take(key, Rate { most: 1, pause_ms: 100 }, 0);
            assert!(table.young.len() <= limits::ATTEMPT_KEYS_MAX && table.old.len() <= limits::ATTEMPT_KEYS_MAX);
        }
        let last = 5 * limits::ATTEMPT_KEYS_MAX / 2 - 1;
        assert!(!table.take(last, Rate { most: 1, pause_ms: 100 }, 0));
        assert!(table.take(0, Rate { most: 1, pause_ms: 100 }, 0), "forgotten");
    }

    #[test]
    fn addresses_of_one_customer_are_one_and_this_machine_is_free() {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(network(address("2001:db8:1:2:3::4")), network(address("2001:db8:1:2:ffff::")));
        assert_ne!(network(address("2001:db8:1:2::")), network(address("2001:db8:1:3::")));
        assert_eq!(network(address("::ffff:192.0.2.1")), address("192.0.2.1"));
        let attempts = Attempts::new();
        assert!((0..2 * limits::ADDRESS_ATTEMPTS_MAX).all(|_| attempts.from_address(address("127.0.0.1"))));
    }

    #[test]
    fn uploads_have_a_pace_or_none() {
        let attempts = Attempts::new();
        let (ann, bob) = (UserId::new(1).expect("an id"), UserId::new(2).expect("an id"));
        assert_eq!([(); 4].map(|()| attempts.upload(ann, 3)), [true, true, true, false]);
        assert!(attempts.upload(bob, 3) && (0..100).all(|_| attempts.upload(ann, 0)));
        let address = |n: u8| IpAddr::from([192, 0, 2, n]);
        let portraits = (0..50).filter(|_| attempts.portrait(address(1))).count() as u64;
        assert_eq!(portraits, limits::ADDRESS_PORTRAITS_MAX);
        let all = (0..=255).flat_map(|n| [n; 20]).filter(|&n| attempts.portrait(address(n))).count() as u64;
        assert_eq!(all, limits::PORTRAITS_MAX - portraits, "of all addresses together");
    }

    #[test]
    fn an_account_is_one_however_it_is_spelled() {
        let attempts = Attempts::new();
        for _ in 0..limits::ACCOUNT_ATTEMPTS_MAX {
            assert!(attempts.on_account("Anna ").is_some());
        }
        assert!(attempts.on_account("anna").is_none());
        assert!(attempts.on_account("berta").is_some());
    }
}
