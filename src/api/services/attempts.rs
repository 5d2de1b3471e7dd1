//! How often somebody may try to log in or to register, per address and per account; and how often upload a file.
//!
//! Owns: which rate holds for which key.
//! Never: counts a login that succeeded against its account; never punishes a whole address for one account.
//! Bounds: [`limits::ATTEMPT_KEYS_MAX`] keys in each generation of a table, two generations; the oldest are forgotten, which
//! is in their favour.

use std::hash::Hash;
use std::net::IpAddr;

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::fair::{Network, Rate, Rates};
use crate::ids::UserId;
use crate::limits;

/// See the module.
pub struct Attempts {
    clock: Clock,
    addresses: Mutex<Rates<Network>>,
    accounts: Mutex<Rates<String>>,
    uploads: Mutex<Rates<UserId>>,
    portraits: Mutex<Rates<Network>>,
    all_portraits: Mutex<Rates<()>>,
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
            addresses: rates(),
            accounts: rates(),
            uploads: rates(),
            portraits: rates(),
            all_portraits: rates(),
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
        self.addresses.lock().take(Network::of(address), rate, self.clock.now().mono_ms)
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
        let may = address.is_loopback() || self.portraits.lock().take(Network::of(address), own, now_ms);
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

fn rates<K: Hash + Eq>() -> Mutex<Rates<K>> {
    Mutex::new(Rates::new(limits::ATTEMPT_KEYS_MAX))
}

const ACCOUNT_RATE: Rate = Rate { most: limits::ACCOUNT_ATTEMPTS_MAX, pause_ms: limits::ACCOUNT_ATTEMPT_MS };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_free() {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
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
