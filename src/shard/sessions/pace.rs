//! How fast a user may go: what each command and frame costs is taken from a purse per user.
//!
//! Owns: the purses of users that have spent something lately, those that rest because theirs is
//! overdrawn, and those that are closed because that has not ended for long.
//! Never: refuses or drops what was read; whoever is over the pace is not read until it is there
//! again. Keeps nothing of a session or user that is silent.
//! Bounds: [`limits::PACED_USERS_MAX`] purses; of further users nothing is counted, in their
//! favour.

use std::collections::BTreeSet;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::fair::{Flow, Purse};
use crate::ids::{ConnId, UserId};
use crate::limits;

use crate::shard::session::Session;
use crate::shard::sessions::prices::Price;
use crate::shard::setup::{CURRENCIES, PaceLimits};
use crate::wire::Profile;

/// The one that pays.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(in crate::shard) enum Payer {
    /// A user, for all sessions.
    User(UserId),
    /// A guest, for one connection: all guests are one and the same user.
    Guest(ConnId),
}

impl Payer {
    /// The one that pays for a session.
    pub(in crate::shard) const fn of(session: &Session, conn: ConnId) -> Self {
        match session.profile {
            Profile::Room => Self::Guest(conn),
            Profile::V2 | Profile::Legacy(_) => Self::User(session.user),
        }
    }

    const fn is_user(self) -> bool {
        matches!(self, Self::User(_))
    }
}

/// What is kept of a payer that does not come below half a burst any more.
#[derive(Debug)]
struct Greed {
    /// Since when.
    since_ms: u64,
    /// What each of the sessions has spent since then. At most [`limits::SESSIONS_PER_USER_MAX`].
    spent: SmallVec<[(ConnId, u64); 1]>,
}

impl Greed {
    fn note(&mut self, conn: ConnId, amount: u64) {
        if let Some((_, spent)) = self.spent.iter_mut().find(|(other, _)| *other == conn) {
            *spent = spent.saturating_add(amount);
        } else if self.spent.len() < limits::SESSIONS_PER_USER_MAX {
            self.spent.push((conn, amount));
        } else if let Some(least) = self.spent.iter_mut().min_by_key(|(_, spent)| *spent) {
            *least = (conn, amount);
        }
    }

    /// The sessions that have spent most: the others of the same user need not suffer for them.
    fn spenders(&self) -> SmallVec<[ConnId; 2]> {
        let most = self.spent.iter().map(|&(_, spent)| spent).max().unwrap_or(0);
        self.spent.iter().filter(|&&(_, spent)| spent >= most / 4).map(|&(conn, _)| conn).collect()
    }
}

#[derive(Debug)]
struct Account {
    purse: Purse<CURRENCIES>,
    greed: Option<Box<Greed>>,
}

/// What becomes of a payer whose rest should be over.
pub(in crate::shard) enum Look {
    /// May be read again.
    Ready,
    /// Has not come below the pace for so long that these sessions end.
    Over(SmallVec<[ConnId; 2]>),
}

/// The purses of a shard.
pub(in crate::shard) struct Paces {
    flows: PaceLimits,
    accounts: HashMap<Payer, Account, RandomState>,
    /// Payers whose sessions are not read, and when that is looked at again.
    resting: HashMap<Payer, u64, RandomState>,
    /// How many of those are users.
    users: usize,
    due: BTreeSet<(u64, Payer)>,
    sweep_ms: u64,
}

impl Paces {
    /// Nothing was spent.
    pub(in crate::shard) fn new(flows: PaceLimits) -> Self {
        let (accounts, resting) = (HashMap::default(), HashMap::default());
        Self { flows, accounts, resting, users: 0, due: BTreeSet::new(), sweep_ms: 0 }
    }

    /// Goes by other paces from now on. Whoever rests is looked at once more, now.
    pub(in crate::shard) fn adjust(&mut self, flows: PaceLimits, now_ms: u64) {
        if flows == self.flows {
            return;
        }
        self.flows = flows;
        for (payer, account) in &mut self.accounts {
            account.purse.forgive(if matches!(payer, Payer::User(_)) { &flows.user } else { &flows.guest });
        }
        self.due.clear();
        for (payer, due_ms) in &mut self.resting {
            *due_ms = now_ms;
            self.due.insert((now_ms, *payer));
        }
    }

    const fn flows(&self, payer: Payer) -> &[Flow; CURRENCIES] {
        match payer {
            Payer::User(_) => &self.flows.user,
            Payer::Guest(_) => &self.flows.guest,
        }
    }

    /// Whether the sessions of a payer are not to be read.
    pub(in crate::shard) fn rests(&self, payer: Payer) -> bool {
        !self.resting.is_empty() && self.resting.contains_key(&payer)
    }

    /// How many users rest. A guest that does is no more than one connection that is slow.
    pub(in crate::shard) const fn resting_users(&self) -> usize {
        self.users
    }

    /// Spends `price`. The currency that has run out, if one has just now.
    pub(in crate::shard) fn spend(&mut self, payer: Payer, conn: ConnId, price: &Price, now_ms: u64) -> Option<usize> {
        let flows = *self.flows(payer);
        if flows.iter().all(|flow| flow.per_second == 0) {
            return None;
        }
        if self.accounts.len() >= limits::PACED_USERS_MAX && !self.accounts.contains_key(&payer) {
            self.sweep(now_ms);
            if self.accounts.len() >= limits::PACED_USERS_MAX {
                return None;
            }
        }
        let fresh = || Account { purse: Purse::new(now_ms), greed: None };
        let account = self.accounts.entry(payer).or_insert_with(fresh);
        account.purse.refill(&flows, now_ms);
        if account.greed.is_some() && account.purse.is_half_full(&flows) {
            account.greed = None;
        }
        account.purse.spend(&flows, &[price.cost, price.messages, price.bytes]);
        let overdrawn = account.purse.overdrawn(&flows);
        if overdrawn.is_some() && account.greed.is_none() {
            account.greed = Some(Box::new(Greed { since_ms: now_ms, spent: SmallVec::new() }));
        }
        if let Some(greed) = account.greed.as_deref_mut() {
            greed.note(conn, price.cost + price.messages + price.bytes / 256);
        }
        if overdrawn.is_none() || self.resting.contains_key(&payer) {
            return None;
        }
        self.rest(payer, now_ms);
        overdrawn
    }

    /// Notes that a payer rests, and until when.
    fn rest(&mut self, payer: Payer, now_ms: u64) {
        let flows = *self.flows(payer);
        let Some(account) = self.accounts.get(&payer) else { return };
        let over_ms = account.greed.as_ref().map_or(now_ms, |greed| greed.since_ms) + limits::GREED_MS_MAX;
        // What is spent while it rests (a read that was under way) is looked at then.
        let due_ms = account.purse.ready_ms(&flows, limits::PACE_REST_MS).min(over_ms).max(now_ms + 1);
        if self.resting.insert(payer, due_ms).is_none() {
            self.users += usize::from(payer.is_user());
        }
        self.due.insert((due_ms, payer));
    }

    /// The next payer whose rest is over, and how it ends.
    pub(in crate::shard) fn next(&mut self, now_ms: u64) -> Option<(Payer, Look)> {
        while let Some(&(due_ms, payer)) = self.due.first()
            && due_ms <= now_ms
        {
            self.due.pop_first();
            if self.resting.remove(&payer).is_some() {
                self.users -= usize::from(payer.is_user());
            }
            let flows = *self.flows(payer);
            let Some(account) = self.accounts.get_mut(&payer) else { return Some((payer, Look::Ready)) };
            account.purse.refill(&flows, now_ms);
            let overdrawn = account.purse.overdrawn(&flows).is_some();
            if let Some(greed) = account.greed.take_if(|greed| now_ms >= greed.since_ms + limits::GREED_MS_MAX) {
                if overdrawn {
                    // A user that comes back owes all the same.
                    account.greed = Some(Box::new(Greed { since_ms: now_ms, spent: SmallVec::new() }));
                    self.rest(payer, now_ms);
                }
                return Some((payer, Look::Over(greed.spenders())));
            }
            if !overdrawn {
                return Some((payer, Look::Ready));
            }
            self.rest(payer, now_ms);
        }
        None
    }

    /// When a rest is over.
    pub(in crate::shard) fn next_ms(&self) -> Option<u64> {
        self.due.first().map(|&(due_ms, _)| due_ms)
    }

    /// Forgets payers that owe nothing, now and then. To be called at the end of a turn.
    pub(in crate::shard) fn tidy(&mut self, now_ms: u64) {
        if now_ms >= self.sweep_ms && !self.accounts.is_empty() {
            self.sweep_ms = now_ms + limits::PACE_SWEEP_MS;
            self.sweep(now_ms);
        }
    }

    fn sweep(&mut self, now_ms: u64) {
        let limits = self.flows;
        self.accounts.retain(|payer, account| {
            let flows = if matches!(payer, Payer::User(_)) { &limits.user } else { &limits.guest };
            account.purse.refill(flows, now_ms);
            !account.purse.is_full()
        });
        if self.accounts.capacity() > 4 * self.accounts.len() + 64 {
            self.accounts.shrink_to(2 * self.accounts.len());
        }
    }

    /// For `check_invariants`.
    pub(in crate::shard) fn check(&self) {
        assert!(self.accounts.len() <= limits::PACED_USERS_MAX, "purses are bounded");
        assert_eq!(self.resting.len(), self.due.len(), "every rest ends once");
        let users = self.resting.keys().filter(|payer| payer.is_user()).count();
        assert_eq!(self.users, users, "those that rest are counted");
        assert!(self.due.iter().all(|(due_ms, payer)| self.resting.get(payer) == Some(due_ms)), "at its time");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOWS: PaceLimits = PaceLimits {
        user: [
            Flow { per_second: 100, burst: 100 },
            Flow { per_second: 0, burst: 0 },
            Flow { per_second: 1000, burst: 500 },
        ],
        guest: [Flow { per_second: 0, burst: 0 }; CURRENCIES],
    };

    fn user(n: u64) -> Payer {
        Payer::User(UserId::new(n).expect("small"))
    }

    fn conn(slot: u32) -> ConnId {
        ConnId { slot, generation: 1 }
    }

    fn cost(cost: u64) -> Price {
        Price { cost, messages: 1, bytes: 0 }
    }

    #[test]
    fn a_purse_runs_out_rests_and_is_forgotten() {
        let mut paces = Paces::new(FLOWS);
        assert_eq!(paces.spend(user(1), conn(1), &cost(100), 0), None);
        assert_eq!(paces.spend(user(1), conn(1), &cost(1), 0), Some(0));
        assert_eq!(paces.spend(user(1), conn(1), &cost(1), 0), None, "it rests already");
        let bytes = Price { cost: 0, messages: 0, bytes: 501 };
        assert_eq!(paces.spend(user(2), conn(2), &bytes, 0), Some(2), "bytes run out, too");
        assert_eq!(paces.spend(Payer::Guest(conn(3)), conn(3), &cost(1 << 40), 0), None, "a guest has no pace");
        assert!(paces.rests(user(1)) && paces.rests(user(2)) && paces.resting_users() == 2);
        paces.check();
        let due_ms = paces.next_ms().expect("somebody rests");
        assert!(paces.next(due_ms - 1).is_none());
        assert!(matches!(paces.next(2_000), Some((_, Look::Ready))));
        assert!(matches!(paces.next(2_000), Some((_, Look::Ready))));
        assert!(!paces.rests(user(1)) && paces.next(2_000).is_none());
        paces.check();
        paces.tidy(10_000);
        assert!(paces.accounts.is_empty(), "nothing is kept of who is silent");
    }

    #[test]
    fn a_guest_that_rests_is_no_user_that_is_held_back() {
        let mut paces = Paces::new(PaceLimits { guest: FLOWS.user, ..FLOWS });
        let guest = Payer::Guest(conn(3));
        assert_eq!(paces.spend(guest, conn(3), &cost(101), 0), Some(0));
        assert!(paces.rests(guest) && paces.resting_users() == 0);
        assert_eq!(paces.spend(user(1), conn(1), &cost(101), 0), Some(0));
        assert_eq!(paces.resting_users(), 1);
        paces.check();
        while paces.next(2_000).is_some() {
            paces.check();
        }
        assert!(!paces.rests(guest) && paces.resting_users() == 0);
    }

    #[test]
    fn who_never_comes_below_the_pace_ends_and_her_other_sessions_do_not() {
        let mut paces = Paces::new(FLOWS);
        let mut now_ms = 0;
        let over = loop {
            while !paces.rests(user(1)) {
                paces.spend(user(1), conn(1), &cost(4), now_ms);
            }
            paces.spend(user(1), conn(2), &cost(1), now_ms);
            now_ms = paces.next_ms().expect("it rests");
            match paces.next(now_ms) {
                Some((_, Look::Over(spenders))) => break spenders,
                Some((_, Look::Ready)) | None => assert!(now_ms <= limits::GREED_MS_MAX),
            }
        };
        assert_eq!(over.as_slice(), [conn(1)]);
        assert_eq!(now_ms, limits::GREED_MS_MAX);
    }

    #[test]
    fn who_comes_below_half_a_burst_now_and_then_is_not_greedy() {
        let mut paces = Paces::new(FLOWS);
        for round in 0..100 {
            let now_ms = round * 2_000;
            assert_eq!(paces.spend(user(1), conn(1), &cost(101), now_ms), Some(0));
            assert!(matches!(paces.next(now_ms + 1_000), Some((_, Look::Ready))));
        }
    }

    #[test]
    fn who_rests_goes_on_when_the_pace_is_raised_or_taken_away() {
        let faster = PaceLimits { user: [Flow { per_second: 100, burst: 1000 }; CURRENCIES], ..FLOWS };
        let unbounded = PaceLimits::default();
        for (flows, goes_on) in [(faster, true), (unbounded, true), (FLOWS, false)] {
            let mut paces = Paces::new(FLOWS);
            assert_eq!(paces.spend(user(1), conn(1), &cost(200), 0), Some(0));
            paces.adjust(flows, 1);
            paces.check();
            assert_eq!(matches!(paces.next(1), Some((_, Look::Ready))), goes_on, "{flows:?}");
            assert_eq!(paces.rests(user(1)), !goes_on);
            paces.check();
        }
        let mut paces = Paces::new(unbounded);
        assert_eq!(paces.spend(user(1), conn(1), &cost(200), 0), None);
        paces.adjust(FLOWS, 1);
        assert_eq!(paces.spend(user(1), conn(1), &cost(101), 1), Some(0), "a new bound holds at once");
    }

    #[test]
    fn a_full_table_counts_nothing_of_further_users() {
        let mut paces = Paces::new(FLOWS);
        let most = limits::PACED_USERS_MAX as u64;
        for n in 1..=most {
            paces.spend(user(n), conn(0), &cost(50), 0);
        }
        assert_eq!(paces.spend(user(most + 1), conn(0), &cost(1 << 40), 0), None);
        assert_eq!(paces.spend(user(1), conn(0), &cost(51), 0), Some(0), "who is there is counted");
        assert_eq!(paces.spend(user(most + 1), conn(0), &cost(1 << 40), 500), Some(0), "there is room again");
        paces.check();
    }
}
