//! How far the clocks of other gateways are ahead of this one's.
//!
//! Owns: for each gateway the smallest difference between this clock and the time at which an
//! envelope was sent, within the last [`CLOCKS_MS`] to twice that. It is the difference of both
//! clocks and the time of the fastest way, so a clock is taken to be ahead by that less than it is
//! (RFC 5905, section 10, filters by the shortest way for the same reason).
//! Bounds: an entry for each gateway that was heard in that time.

use std::collections::BTreeMap;

use crate::clock::Now;
use crate::limits::CLOCKS_MS;

/// See the head of this file.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    /// By gateway: in this span of time, and in the one before it, in milliseconds.
    least: [BTreeMap<u16, i64>; 2],
    turned_ms: u64,
}

impl Clocks {
    /// Gateway `node` has sent something at `sent_ms` by its clock.
    pub(super) fn heard(&mut self, now: Now, node: u16, sent_ms: u64) {
        if self.turned_ms + CLOCKS_MS <= now.mono_ms {
            self.turned_ms = now.mono_ms;
            self.least.swap(0, 1);
            self.least[0].clear();
        }
        let difference = now.wall_ms.cast_signed().saturating_sub(sent_ms.cast_signed());
        let least = self.least[0].entry(node).or_insert(difference);
        *least = difference.min(*least);
    }

    /// How far the most advanced clock is ahead, in milliseconds; 0: it is this one.
    pub(super) fn ahead_ms(&self) -> u64 {
        let least = self.least.iter().flat_map(BTreeMap::values).min();
        least.map_or(0, |least| least.saturating_neg().max(0).cast_unsigned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_advanced_clock_is_known_but_for_the_fastest_way() {
        let mut clocks = Clocks::default();
        let at = |mono_ms| Now { mono_ms, wall_ms: 1_000_000 + mono_ms, sub_us: 0 };
        assert_eq!(clocks.ahead_ms(), 0);
        // One is 500 ms behind, one is 7 s ahead; ways take 40, 3 and 90 ms.
        for (n, way_ms) in [40, 3, 90].into_iter().enumerate() {
            let now = at(n as u64 * 100);
            clocks.heard(now, 1, now.wall_ms - way_ms - 500);
            clocks.heard(now, 2, now.wall_ms - way_ms + 7_000);
        }
        assert_eq!(clocks.ahead_ms(), 6_997);
        // Its clock was set: what was heard before counts for two spans at most.
        for span in 1..=2 {
            clocks.heard(at(span * CLOCKS_MS), 2, at(span * CLOCKS_MS).wall_ms);
        }
        assert_eq!(clocks.ahead_ms(), 0);
        clocks.heard(at(2 * CLOCKS_MS), u16::MAX, u64::MAX);
        assert!(clocks.ahead_ms() < u64::MAX, "any number is only a number");
    }
}
