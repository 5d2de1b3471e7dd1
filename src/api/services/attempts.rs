//! How often somebody may try to log in, to register, to look people up; and how often upload a
//! file.
//!
//! Owns: which rate holds for which key, and what was refused by it.
//! Never: counts a login that succeeded, or failed through our fault, against its account; never
//! lets a stranger's wrong passwords lock out whoever brings the right one from elsewhere, or a
//! valid token; never punishes a whole address for one account.
//! Bounds: [`limits::ATTEMPT_KEYS_MAX`] keys in each generation of a table, two generations; the
//! oldest are forgotten, which is in their favour.

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::clock::Clock;
use crate::fair::{Network, Rate, Rates};
use crate::ids::UserId;
use crate::limits;
use crate::metrics::accounts::{AccountCounts, Lookup};
use crate::store::Rule;

/// What the operator allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Allowed {
    /// Whether anybody may make an account.
    pub registration: bool,
    /// Who gets into a group of our own API whose maker does not say it.
    pub group_rule: Rule,
    /// Registrations of one network in a minute, and at once; 0: without a bound.
    pub registrations_per_minute: u32,
    /// Registrations of all networks together; 0: without a bound.
    pub registrations_per_minute_all: u32,
    /// Cards of other users that one user may look up by number in a minute, and at once; 0:
    /// without a bound.
    pub lookups_per_minute: u32,
    /// Look-ups of a mobile number, found or not; 0: without a bound.
    pub mobile_lookups_per_minute: u32,
}

impl Default for Allowed {
    fn default() -> Self {
        Self {
            registration: true,
            group_rule: Rule::Invitation,
            registrations_per_minute: limits::REGISTRATIONS_PER_MINUTE_DEFAULT,
            registrations_per_minute_all: 0,
            lookups_per_minute: limits::LOOKUPS_PER_MINUTE_DEFAULT,
            mobile_lookups_per_minute: limits::MOBILE_LOOKUPS_PER_MINUTE_DEFAULT,
        }
    }
}

/// See the module.
pub struct Attempts {
    clock: Clock,
    allowed: RwLock<Allowed>,
    counts: Arc<AccountCounts>,
    hasher: RandomState,
    addresses: Mutex<Rates<Network>>,
    /// Wrong passwords of an account from one network.
    unproven: Mutex<Rates<(u64, Network)>>,
    /// Wrong passwords of an account from everywhere.
    accounts: Mutex<Rates<u64>>,
    /// Wrong passwords of those who have proved by a token that the account is theirs.
    owners: Mutex<Rates<UserId>>,
    registrations: Mutex<Rates<Network>>,
    all_registrations: Mutex<Rates<()>>,
    lookups: Mutex<Rates<UserId>>,
    mobile_lookups: Mutex<Rates<UserId>>,
    uploads: Mutex<Rates<UserId>>,
    portraits: Mutex<Rates<Network>>,
    all_portraits: Mutex<Rates<()>>,
    group_lines: Mutex<Rates<UserId>>,
    /// Lines in the log about logins that failed.
    lines: Mutex<Rates<Network>>,
    all_lines: Mutex<Rates<()>>,
    /// Logins that failed without a line.
    unsaid: AtomicU64,
}

/// A password that is being tried. Unless it turns out [`Attempt::wrong`], it has not counted.
#[must_use]
pub struct Attempt<'a> {
    of: &'a Attempts,
    key: Key,
    wrong: bool,
}

enum Key {
    Owner(UserId),
    Unproven {
        account: u64,
        network: Network,
        /// It counts among those from everywhere, which were not too many.
        in_all: bool,
    },
}

impl Attempts {
    /// Nothing was tried yet.
    #[must_use]
    pub fn new(allowed: Allowed, counts: Arc<AccountCounts>) -> Self {
        Self {
            clock: Clock::start(),
            allowed: RwLock::new(allowed),
            counts,
            hasher: RandomState::new(),
            addresses: rates(),
            unproven: rates(),
            accounts: rates(),
            owners: rates(),
            registrations: rates(),
            all_registrations: rates(),
            lookups: rates(),
            mobile_lookups: rates(),
            uploads: rates(),
            portraits: rates(),
            all_portraits: rates(),
            group_lines: rates(),
            lines: rates(),
            all_lines: rates(),
            unsaid: AtomicU64::new(0),
        }
    }

    /// What the operator allows.
    #[must_use]
    pub fn allowed(&self) -> Allowed {
        *self.allowed.read()
    }

    /// Allows something else from now on. What was tried so far still counts.
    pub fn allow(&self, allowed: Allowed) {
        *self.allowed.write() = allowed;
    }

    /// What became of everything that was tried.
    #[must_use]
    pub fn counts(&self) -> &AccountCounts {
        &self.counts
    }

    /// Whether the log may say that a login from `address` has failed, and how many it has not
    /// spoken of since the last one that it has.
    pub fn line(&self, address: IpAddr) -> Option<u64> {
        let (now_ms, network) = (self.now_ms(), Network::of(address));
        let may = self.lines.lock().take(network, LINE_RATE, now_ms)
            && self.all_lines.lock().take((), ALL_LINES_RATE, now_ms);
        if may {
            return Some(self.unsaid.swap(0, Ordering::Relaxed));
        }
        self.unsaid.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// Whether anybody may make an account.
    #[must_use]
    pub fn registration_is_open(&self) -> bool {
        self.allowed().registration
    }

    /// Whether somebody at `address` may try to log in now; counts as a try. This machine itself
    /// may always: a proxy that does not say for whom it asks would be everybody.
    #[must_use]
    pub fn from_address(&self, address: IpAddr) -> bool {
        let network = Network::of(address);
        network.is_loopback() || self.addresses.lock().take(network, ADDRESS_RATE, self.now_ms())
    }

    /// Takes a try of [`Attempts::from_address`] back: that it came to nothing was not the fault of
    /// who tried.
    pub fn forgive_address(&self, address: IpAddr) {
        self.addresses.lock().give_back(&Network::of(address), ADDRESS_RATE);
    }

    /// Whether a password of the account `name` (in its normal form) may be tried now from
    /// `address`. `owner`: the user whose valid token was presented, and whose account it is; tries
    /// without proof do not count for the owner, nor the owner's for them. `None`: it may not.
    ///
    /// When too many wrong passwords have come from everywhere, a network has
    /// [`limits::CROWDED_ATTEMPTS_MAX`] tries instead of [`limits::ACCOUNT_ATTEMPTS_MAX`]: whoever
    /// guesses from many networks guesses less, and whoever knows the password gets in from any
    /// network that has not guessed.
    pub fn on_account(&self, name: &str, address: IpAddr, owner: Option<UserId>) -> Option<Attempt<'_>> {
        if let Some(owner) = owner {
            return self.of_owner(owner);
        }
        let now_ms = self.now_ms();
        let (account, network) = (self.hasher.hash_one(name.to_lowercase()), Network::of(address));
        let in_all = self.accounts.lock().take(account, ALL_RATE, now_ms);
        // Dropped, it takes back what has counted among all.
        let attempt = Attempt { of: self, key: Key::Unproven { account, network, in_all }, wrong: false };
        let rate = if in_all { ACCOUNT_RATE } else { CROWDED_RATE };
        if self.unproven.lock().take((account, network), rate, now_ms) {
            return Some(attempt);
        }
        // The network's own count was not taken, so only the other one is given back.
        attempt.refused();
        None
    }

    /// Whether `owner`, proven by a valid token, may try a password of the account now.
    pub fn of_owner(&self, owner: UserId) -> Option<Attempt<'_>> {
        let may = self.owners.lock().take(owner, ACCOUNT_RATE, self.now_ms());
        // Made only when it may: one that is dropped gives back what it has taken.
        may.then(|| Attempt { of: self, key: Key::Owner(owner), wrong: false })
    }

    /// Whether somebody at `address` may make an account now; counts as one.
    #[must_use]
    pub fn registration(&self, address: IpAddr) -> bool {
        let (now_ms, network) = (self.now_ms(), Network::of(address));
        let own = per_minute(self.allowed().registrations_per_minute);
        let all = per_minute(self.allowed().registrations_per_minute_all);
        let may = network.is_loopback() || own.is_none_or(|rate| self.registrations.lock().take(network, rate, now_ms));
        may && all.is_none_or(|rate| self.all_registrations.lock().take((), rate, now_ms))
    }

    /// Takes a registration back: that it came to nothing was not the fault of who tried.
    pub fn forgive_registration(&self, address: IpAddr) {
        if let Some(rate) = per_minute(self.allowed().registrations_per_minute) {
            self.registrations.lock().give_back(&Network::of(address), rate);
        }
        if let Some(rate) = per_minute(self.allowed().registrations_per_minute_all) {
            self.all_registrations.lock().give_back(&(), rate);
        }
    }

    /// Whether `user` may look up `cards` others by their numbers now; counts as so many.
    #[must_use]
    pub fn lookup(&self, user: UserId, cards: usize) -> bool {
        let Some(rate) = per_minute(self.allowed().lookups_per_minute) else { return true };
        let may = self.lookups.lock().take_many(user, cards as u64, rate, self.now_ms());
        if !may {
            self.counts.refuse(Lookup::Id);
        }
        may
    }

    /// Whether `user` may look up a mobile number now; counts as one.
    #[must_use]
    pub fn lookup_mobile(&self, user: UserId) -> bool {
        let Some(rate) = per_minute(self.allowed().mobile_lookups_per_minute) else { return true };
        let may = self.mobile_lookups.lock().take(user, rate, self.now_ms());
        if !may {
            self.counts.refuse(Lookup::Mobile);
        }
        may
    }

    /// Whether what `user` has done in a group may be said there; counts as one.
    #[must_use]
    pub fn group_line(&self, user: UserId) -> bool {
        let may = self.group_lines.lock().take(user, GROUP_LINE_RATE, self.now_ms());
        if !may {
            self.counts.group_line_dropped();
        }
        may
    }

    /// Whether `user` may upload a file now; counts as one. `of_minute` is also how many at once;
    /// 0: without a bound.
    #[must_use]
    pub fn upload(&self, user: UserId, of_minute: u32) -> bool {
        per_minute(of_minute).is_none_or(|rate| self.uploads.lock().take(user, rate, self.now_ms()))
    }

    /// Whether somebody at `address` who is no user yet may upload a portrait now; counts as one.
    #[must_use]
    pub fn portrait(&self, address: IpAddr) -> bool {
        let (now_ms, network) = (self.now_ms(), Network::of(address));
        let own = Rate { most: limits::ADDRESS_PORTRAITS_MAX, pause_ms: limits::ADDRESS_PORTRAIT_MS };
        let all = Rate { most: limits::PORTRAITS_MAX, pause_ms: limits::PORTRAIT_MS };
        // A proxy that does not say for whom it asks is everybody.
        let may = network.is_loopback() || self.portraits.lock().take(network, own, now_ms);
        may && self.all_portraits.lock().take((), all, now_ms)
    }

    fn now_ms(&self) -> u64 {
        self.clock.now().mono_ms
    }
}

impl Default for Attempts {
    fn default() -> Self {
        Self::new(Allowed::default(), Arc::default())
    }
}

impl Attempt<'_> {
    /// The password does not fit: it counts.
    pub fn wrong(mut self) {
        self.wrong = true;
    }

    /// It was not let through: only what has counted among all is given back.
    fn refused(mut self) {
        self.wrong = true;
        if let Key::Unproven { account, in_all: true, .. } = self.key {
            self.of.accounts.lock().give_back(&account, ALL_RATE);
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.wrong {
            return;
        }
        match self.key {
            Key::Owner(owner) => self.of.owners.lock().give_back(&owner, ACCOUNT_RATE),
            Key::Unproven { account, network, in_all } => {
                self.of.unproven.lock().give_back(&(account, network), ACCOUNT_RATE);
                if in_all {
                    self.of.accounts.lock().give_back(&account, ALL_RATE);
                }
            }
        }
    }
}

fn rates<K: Hash + Eq>() -> Mutex<Rates<K>> {
    Mutex::new(Rates::new(limits::ATTEMPT_KEYS_MAX))
}

/// So many in a minute, and at once; `None` for 0.
fn per_minute(many: u32) -> Option<Rate> {
    let pause_ms = 60_000_u64.checked_div(many.into())?;
    Some(Rate { most: many.into(), pause_ms: pause_ms.max(1) })
}

const ADDRESS_RATE: Rate = Rate { most: limits::ADDRESS_ATTEMPTS_MAX, pause_ms: limits::ADDRESS_ATTEMPT_MS };
const ACCOUNT_RATE: Rate = Rate { most: limits::ACCOUNT_ATTEMPTS_MAX, pause_ms: limits::ACCOUNT_ATTEMPT_MS };
const CROWDED_RATE: Rate = Rate { most: limits::CROWDED_ATTEMPTS_MAX, pause_ms: limits::ACCOUNT_ATTEMPT_MS };
const GROUP_LINE_RATE: Rate = Rate { most: limits::GROUP_LINES_MAX, pause_ms: limits::GROUP_LINE_MS };
const LINE_RATE: Rate = Rate { most: limits::LOGIN_LINES_MAX, pause_ms: limits::LOGIN_LINE_MS };
const ALL_LINES_RATE: Rate = Rate { most: limits::LOGIN_LINES_ALL_MAX, pause_ms: limits::LOGIN_LINE_MS };
const ALL_RATE: Rate = Rate { most: limits::ACCOUNT_ATTEMPTS_ALL_MAX, pause_ms: limits::ACCOUNT_ATTEMPT_ALL_MS };

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// Tries wrong passwords until no more are taken; how many were.
    fn guess(attempts: &Attempts, name: &str, from: &str, most: u64) -> u64 {
        let mut guessed = 0;
        while guessed < most
            && let Some(attempt) = attempts.on_account(name, address(from), None)
        {
            attempt.wrong();
            guessed += 1;
        }
        guessed
    }

    #[test]
    fn whoever_comes_and_goes_all_the_time_writes_no_history_full() {
        let attempts = Attempts::default();
        let user = |raw| UserId::new(raw).expect("small");
        let said = (0..10 * limits::GROUP_LINES_MAX).filter(|_| attempts.group_line(user(1))).count() as u64;
        assert!((limits::GROUP_LINES_MAX..2 * limits::GROUP_LINES_MAX).contains(&said), "{said}");
        assert_eq!(attempts.counts().group_lines_dropped(), 10 * limits::GROUP_LINES_MAX - said);
        assert!(attempts.group_line(user(2)), "others' doings are told");
    }

    #[test]
    fn lines_about_failed_logins_are_few_and_shared() {
        let attempts = Attempts::default();
        let line = |from: &str| attempts.line(address(from));
        assert!((0..limits::LOGIN_LINES_MAX).all(|_| line("192.0.2.1") == Some(0)));
        assert!((0..100).all(|_| line("192.0.2.1").is_none()));
        assert_eq!(line("198.51.100.1"), Some(100), "who guesses hides nobody else, and is counted");
        let told = (0..2 * limits::LOGIN_LINES_ALL_MAX).filter(|n| line(&format!("203.0.113.{n}")).is_some()).count();
        assert!((told as u64) < limits::LOGIN_LINES_ALL_MAX, "also of those who come from everywhere");
    }

    #[test]
    fn this_machine_is_free() {
        let attempts = Attempts::default();
        assert!((0..2 * limits::ADDRESS_ATTEMPTS_MAX).all(|_| attempts.from_address(address("127.0.0.1"))));
    }

    #[test]
    fn uploads_have_a_pace_or_none() {
        let attempts = Attempts::default();
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
    fn a_stranger_locks_out_only_the_own_network() {
        let attempts = Attempts::default();
        assert_eq!(guess(&attempts, "Anna", "192.0.2.1", 1000), limits::ACCOUNT_ATTEMPTS_MAX);
        assert!(attempts.on_account("anna", address("192.0.2.1"), None).is_none(), "however it is spelled");
        assert!(attempts.on_account("anna", address("192.0.2.2"), None).is_some());
        assert!(attempts.on_account("berta", address("192.0.2.1"), None).is_some());
        let anna = UserId::new(1).expect("an id");
        assert!(attempts.on_account("anna", address("192.0.2.1"), Some(anna)).is_some(), "who brings her token");
    }

    #[test]
    fn guesses_from_many_networks_are_few_and_the_owner_gets_in_all_the_same() {
        let attempts = Attempts::default();
        let networks = limits::ACCOUNT_ATTEMPTS_ALL_MAX / limits::ACCOUNT_ATTEMPTS_MAX;
        for n in 0..networks {
            assert_eq!(guess(&attempts, "anna", &format!("192.0.2.{n}"), 1000), limits::ACCOUNT_ATTEMPTS_MAX);
        }
        for n in 0..50 {
            assert_eq!(guess(&attempts, "anna", &format!("198.51.100.{n}"), 1000), limits::CROWDED_ATTEMPTS_MAX);
        }
        assert!(attempts.on_account("anna", address("203.0.113.1"), None).is_some());
        assert_eq!(guess(&attempts, "berta", "198.51.100.1", 1000), limits::ACCOUNT_ATTEMPTS_MAX, "another account");
    }

    #[test]
    fn only_wrong_passwords_count() {
        let attempts = Attempts::default();
        let anna = UserId::new(1).expect("an id");
        for _ in 0..10 * limits::ACCOUNT_ATTEMPTS_ALL_MAX {
            assert!(attempts.on_account("anna", address("192.0.2.1"), None).is_some(), "right, or nobody could say");
            assert!(attempts.on_account("anna", address("192.0.2.1"), Some(anna)).is_some());
        }
        assert_eq!(guess(&attempts, "anna", "192.0.2.1", 1000), limits::ACCOUNT_ATTEMPTS_MAX);
        let owner = || attempts.of_owner(anna).map(Attempt::wrong).is_some();
        assert_eq!((0..100).filter(|_| owner()).count() as u64, limits::ACCOUNT_ATTEMPTS_MAX);
    }

    #[test]
    fn what_is_refused_does_not_count_among_all() {
        let attempts = Attempts::default();
        guess(&attempts, "anna", "192.0.2.1", 1000);
        for _ in 0..10 * limits::ACCOUNT_ATTEMPTS_ALL_MAX {
            assert!(attempts.on_account("anna", address("192.0.2.1"), None).is_none());
        }
        assert_eq!(guess(&attempts, "anna", "192.0.2.2", 1000), limits::ACCOUNT_ATTEMPTS_MAX);
    }

    #[test]
    fn registrations_have_a_pace_of_their_own() {
        let allowed = Allowed { registrations_per_minute: 3, registrations_per_minute_all: 5, ..Allowed::default() };
        let attempts = Attempts::new(allowed, Arc::default());
        let many = |from: &str| (0..20).filter(|_| attempts.registration(address(from))).count();
        assert_eq!([many("192.0.2.1"), many("192.0.2.2"), many("192.0.2.3")], [3, 2, 0]);
        attempts.forgive_registration(address("192.0.2.3"));
        assert_eq!(many("192.0.2.3"), 1);
        let none = Allowed { registrations_per_minute: 0, ..Allowed::default() };
        let attempts = Attempts::new(none, Arc::default());
        assert!((0..1000).all(|_| attempts.registration(address("192.0.2.1"))));
    }

    #[test]
    fn looking_people_up_has_a_pace_per_user() {
        let allowed = Allowed { lookups_per_minute: 300, mobile_lookups_per_minute: 2, ..Allowed::default() };
        let attempts = Attempts::new(allowed, Arc::default());
        let (ann, bob) = (UserId::new(1).expect("an id"), UserId::new(2).expect("an id"));
        assert_eq!([200, 200, 100, 1].map(|cards| attempts.lookup(ann, cards)), [true, false, true, false]);
        assert_eq!([(); 3].map(|()| attempts.lookup_mobile(ann)), [true, true, false]);
        assert!(attempts.lookup(bob, 200) && attempts.lookup_mobile(bob));
        assert_eq!(attempts.counts().refused(), [2, 1]);
    }
}
