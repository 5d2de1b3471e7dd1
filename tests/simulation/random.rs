//! The simulation's only source of chance: one number decides everything that happens.
//!
//! Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators" (SplitMix64). Small, ours, and the same on every machine.

/// A stream of numbers that depends on nothing but its seed, and on its tape if it has one.
pub(crate) struct Random {
    state: u64,
    /// Its first numbers, the next one last.
    tape: Vec<u8>,
}

impl Random {
    /// The stream of `seed`.
    pub(crate) const fn new(seed: u64) -> Self {
        Self { state: seed, tape: Vec::new() }
    }

    /// The stream of `seed` behind the numbers of `tape`, of two bytes each: so a fuzzer decides what happens.
    pub(crate) fn taped(seed: u64, tape: &[u8]) -> Self {
        Self { state: seed, tape: tape.iter().rev().copied().collect() }
    }

    /// The next 64 bits; 16 while there is a tape.
    pub(crate) fn bits(&mut self) -> u64 {
        if let Some(high) = self.tape.pop() {
            return u64::from(u16::from_be_bytes([high, self.tape.pop().unwrap_or(0)]));
        }
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..n`; 0 for `n == 0`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { self.bits() % n }
    }

    /// An index in `0..n`.
    pub(crate) fn index(&mut self, n: usize) -> usize {
        usize::try_from(self.below(u64::try_from(n).unwrap_or(u64::MAX))).unwrap_or(0)
    }

    /// A number in `lo..=hi`.
    pub(crate) fn between(&mut self, lo: u64, hi: u64) -> u64 {
        lo + self.below(hi - lo + 1)
    }

    /// True in `per_mille` of 1000 cases.
    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    /// One of `list`.
    pub(crate) fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.index(list.len())]
    }
}
