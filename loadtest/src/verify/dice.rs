//! The random choices of a run, from its seed: the same seed makes the same choices, as far as the
//! server's timing lets them meet the same state.
//!
//! Owns: [`Dice`], SplitMix64. Nothing here needs to be unpredictable.

/// One stream of choices.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

/// One step of SplitMix64: also a good mixer of a number.
pub(crate) fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Dice {
    /// A stream of its own for each `place`.
    pub(crate) fn new(seed: u64, place: u64) -> Self {
        Self(mix(seed ^ mix(place)))
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound` (0 if that is 0).
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// True `permille` times in a thousand.
    pub(crate) fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    /// A waiting time with this mean, at most eight times as long: exponential, as independent
    /// events have it.
    pub(crate) fn wait(&mut self, mean: u64) -> u64 {
        let unit = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        (mean as f64 * (-(1.0 - unit).ln()).min(8.0)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_waits_have_their_mean() {
        let mut one = Dice::new(1, 2);
        let mut same = Dice::new(1, 2);
        assert!((0..10).all(|_| one.next() == same.next()));
        assert_ne!(Dice::new(1, 3).next(), Dice::new(1, 2).next());
        let sum: u64 = (0..10_000).map(|_| one.wait(1000)).sum();
        assert!((950..1050).contains(&(sum / 10_000)), "{sum}");
    }
}
