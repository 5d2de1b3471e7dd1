//! The clocks of two processes: how far one is ahead of the other, and how sure that is.
//!
//! Owns: [`ClockOffset`]. A question and its answer tell it as well as half of their way allows;
//! of many the one with the shortest way counts (as in NTP, RFC 5905).

/// How far a worker's clock is ahead of the control's, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ClockOffset {
    pub(crate) ahead_ns: i64,
    /// It is not farther from the truth than this: half of the time that question and answer took.
    pub(crate) unsure_ns: u64,
}

impl ClockOffset {
    /// From one question: when it left and when its answer came by the control's clock, and what
    /// the worker's said between.
    pub(crate) fn of(asked_ns: u64, answered_ns: u64, theirs_ns: u64) -> Self {
        let way_ns = answered_ns.saturating_sub(asked_ns);
        let ours_ns = asked_ns.saturating_add(way_ns / 2);
        let ahead = i128::from(theirs_ns) - i128::from(ours_ns);
        let ahead_ns = ahead.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
        Self { ahead_ns, unsure_ns: way_ns.div_ceil(2) }
    }

    /// The surer of two.
    pub(crate) const fn or(self, other: Self) -> Self {
        if other.unsure_ns < self.unsure_ns { other } else { self }
    }

    /// How much farther ahead it is than it was, in nanoseconds: what two crystals differ by.
    pub(crate) const fn since(self, before: Self) -> i64 {
        self.ahead_ns.saturating_sub(before.ahead_ns)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_truth_is_within_what_it_is_unsure_of(
            ahead in -1_000_000_000_000_i64..1_000_000_000_000, asked in 0..1_000_000_000_u64, ways in prop::collection::vec((0..50_000_000_u64, 0..50_000_000_u64), 1..9)
        ) {
            let told = ways.iter().map(|(there, back)| {
                let theirs = i128::from(asked + there) + i128::from(ahead) + 1_000_000_000_000;
                ClockOffset::of(asked, asked + there + back, theirs as u64)
            });
            let best = told.reduce(ClockOffset::or).expect("one");
            prop_assert!(best.ahead_ns.abs_diff(ahead + 1_000_000_000_000) <= best.unsure_ns + 1);
            let least = ways.iter().map(|(there, back)| (there + back).div_ceil(2)).min();
            prop_assert_eq!(Some(best.unsure_ns), least);
        }
    }

    #[test]
    fn no_time_is_too_far() {
        let far = ClockOffset::of(0, 10, u64::MAX);
        assert_eq!(far, ClockOffset { ahead_ns: i64::MAX, unsure_ns: 5 });
        assert_eq!(ClockOffset::of(u64::MAX, 0, 0), ClockOffset { ahead_ns: i64::MIN, unsure_ns: 0 });
        assert_eq!(far.since(ClockOffset { ahead_ns: -1, unsure_ns: 0 }), i64::MAX);
    }
}
