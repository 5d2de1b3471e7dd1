//! What one payer has spent lately, in several currencies at once.

/// How fast one currency may be spent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flow {
    /// What comes back in a second; 0: this currency is not counted.
    pub per_second: u64,
    /// What may be spent at once after a rest.
    pub burst: u64,
}

/// A token bucket (RFC 2697 calls it a committed rate and burst) for each of `N` currencies, kept
/// as what is owed: nothing is owed after a rest, so a purse that owes nothing can be forgotten.
/// Spending is never refused, because what was read was read; a key that owes more than a burst is
/// overdrawn, and has to wait.
#[derive(Clone, Copy, Debug)]
pub struct Purse<const N: usize> {
    /// Thousandths of a unit, as of `at_ms`.
    owed: [u64; N],
    at_ms: u64,
}

/// Thousandths of a unit: what comes back in a millisecond is then a whole number.
const UNIT: u64 = 1000;

impl<const N: usize> Purse<N> {
    /// Nothing is owed at `now_ms`.
    #[must_use]
    pub const fn new(now_ms: u64) -> Self {
        Self { owed: [0; N], at_ms: now_ms }
    }

    /// Takes off what has come back since the last call.
    pub fn refill(&mut self, flows: &[Flow; N], now_ms: u64) {
        let passed_ms = now_ms.saturating_sub(self.at_ms);
        self.at_ms = self.at_ms.max(now_ms);
        for (owed, flow) in self.owed.iter_mut().zip(flows) {
            *owed = owed.saturating_sub(flow.per_second.saturating_mul(passed_ms));
        }
    }

    /// Spends `amounts`. To be called after [`Purse::refill`].
    pub fn spend(&mut self, flows: &[Flow; N], amounts: &[u64; N]) {
        for ((owed, flow), amount) in self.owed.iter_mut().zip(flows).zip(amounts) {
            if flow.per_second > 0 {
                *owed = owed.saturating_add(amount.saturating_mul(UNIT));
            }
        }
    }

    /// Forgets what is owed of currencies that `flows` does not count: it would never come back.
    pub fn forgive(&mut self, flows: &[Flow; N]) {
        for (owed, flow) in self.owed.iter_mut().zip(flows) {
            if flow.per_second == 0 {
                *owed = 0;
            }
        }
    }

    /// The first currency of which more than a burst is owed.
    #[must_use]
    pub fn overdrawn(&self, flows: &[Flow; N]) -> Option<usize> {
        self.owed.iter().zip(flows).position(|(&owed, flow)| owed > flow.burst.saturating_mul(UNIT))
    }

    /// Whether at least half of every burst is there.
    #[must_use]
    pub fn is_half_full(&self, flows: &[Flow; N]) -> bool {
        self.owed.iter().zip(flows).all(|(&owed, flow)| owed <= flow.burst.saturating_mul(UNIT) / 2)
    }

    /// Whether nothing is owed.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.owed.iter().all(|&owed| owed == 0)
    }

    /// When, in milliseconds on the clock of the calls, so much will be there of every currency as
    /// comes back in `rest_ms`, or half a burst if that is less.
    #[must_use]
    pub fn ready_ms(&self, flows: &[Flow; N], rest_ms: u64) -> u64 {
        let wait = |(&owed, flow): (&u64, &Flow)| {
            let burst = flow.burst.saturating_mul(UNIT);
            let room = flow.per_second.saturating_mul(rest_ms).min(burst / 2);
            owed.saturating_sub(burst - room).div_ceil(flow.per_second.max(1))
        };
        self.at_ms + self.owed.iter().zip(flows).map(wait).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOWS: [Flow; 2] = [Flow { per_second: 100, burst: 50 }, Flow { per_second: 0, burst: 0 }];

    #[test]
    fn a_burst_is_spent_and_comes_back_by_and_by() {
        let mut purse = Purse::new(1000);
        purse.spend(&FLOWS, &[50, 1_000_000]);
        assert_eq!(purse.overdrawn(&FLOWS), None, "a burst is allowed, and what is not counted costs nothing");
        assert!(!purse.is_half_full(&FLOWS));
        purse.spend(&FLOWS, &[1, 0]);
        assert_eq!(purse.overdrawn(&FLOWS), Some(0));
        assert_eq!(purse.ready_ms(&FLOWS, 100), 1110, "one unit that is owed, and ten to go on with");
        purse.refill(&FLOWS, 1010);
        assert_eq!((purse.overdrawn(&FLOWS), purse.is_full()), (None, false));
        purse.refill(&FLOWS, 1260);
        assert!(purse.is_half_full(&FLOWS));
        purse.refill(&FLOWS, 1510);
        assert!(purse.is_full());
    }

    #[test]
    fn a_debt_is_as_long_as_it_is_large_and_a_short_burst_waits_for_its_half() {
        let mut purse = Purse::new(0);
        purse.spend(&FLOWS, &[1050, 0]);
        assert_eq!(purse.ready_ms(&FLOWS, 0), 10_000);
        assert_eq!(purse.ready_ms(&FLOWS, 60_000), 10_250);
        purse.refill(&FLOWS, 5_000);
        purse.refill(&FLOWS, 4_000);
        assert_eq!(purse.ready_ms(&FLOWS, 0), 10_000, "time does not run backwards");
        purse.spend(&FLOWS, &[u64::MAX, 0]);
        purse.refill(&FLOWS, u64::MAX);
        assert!(purse.is_full(), "no sum is too large");
    }
}
