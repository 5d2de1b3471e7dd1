//! The randomness of pauses: clients that lost the same gateway do not come back together.

use crate::limits;

/// Where it comes from.
#[derive(Clone, Debug)]
pub enum Jitter {
    /// A pseudo-random sequence; the seed is to differ from client to client.
    Seeded(u64),
    /// Always the middle, for tests.
    Middle,
}

/// Steps between none and all.
const STEPS: u64 = 1024;

impl Jitter {
    /// `0..STEPS`.
    fn next(&mut self) -> u64 {
        match self {
            Self::Middle => STEPS / 2,
            Self::Seeded(state) => {
                // SplitMix64: any seed will do, also small ones.
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut mixed = *state;
                mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                (mixed ^ (mixed >> 31)) % STEPS
            }
        }
    }

    /// Between half of `most` and all of it.
    pub(crate) fn within(&mut self, most: u64) -> u64 {
        most / 2 + most.saturating_mul(self.next()) / (2 * STEPS)
    }

    /// Between `least` and [`limits::SLOT_JITTER_MS`] more.
    pub(crate) fn beyond(&mut self, least: u64) -> u64 {
        least.saturating_add(limits::SLOT_JITTER_MS * self.next() / STEPS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_differ_and_stay_within_their_bounds() {
        let mut jitter = Jitter::Seeded(1);
        let pauses: Vec<u64> = (0..1000).map(|_| jitter.within(60_000)).collect();
        assert!(pauses.iter().all(|pause| (30_000..60_000).contains(pause)), "{pauses:?}");
        assert!(pauses.iter().any(|pause| *pause < 32_000) && pauses.iter().any(|pause| *pause > 58_000));
        assert!((0..1000).all(|_| (7000..8000).contains(&jitter.beyond(7000))));
        assert_eq!((Jitter::Middle.within(1000), Jitter::Middle.beyond(1000)), (750, 1500));
        assert!(jitter.beyond(u64::MAX) >= u64::MAX - 1, "a server may ask for anything");
    }
}
