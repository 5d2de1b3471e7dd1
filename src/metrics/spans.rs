//! How long something takes at one shard: its turns, and the way of messages to it.
//!
//! Owns: [`Spans`], kept by the shard's thread, and [`SpanSummary`], the copy that it publishes.
//! Never: reads a clock; the driver measures a span and says how long it was.
//! Bounds: three histograms of fixed size (about 100 KiB): spans from 1 µs to [`SPAN_NS_MAX`] with
//! two digits.

use hdrhistogram::Histogram;

/// The quantiles of a summary.
pub const QUANTILES: [f64; 4] = [0.5, 0.9, 0.99, 0.999];

/// A span that is longer counts as this long: a minute. By then an alert has rung.
const SPAN_NS_MAX: u64 = 60_000_000_000;
/// The finest difference between two spans: below it the clock's own cost shows.
const SPAN_NS_MIN: u64 = 1000;
/// Two significant digits: 1.2 ms and 1.3 ms are told apart, and a histogram stays near 32 KiB.
const DIGITS: u8 = 2;
/// The quantiles speak of the last one to two windows, so that they follow what happens now.
const WINDOW_MS: u64 = 60_000;
/// How often the quantiles are worked out anew: one walk over a histogram, some microseconds.
const REFRESH_MS: u64 = 1000;

/// What a scrape shows of one shard's spans of a kind.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct SpanSummary {
    /// How many since the start.
    pub count: u64,
    /// Their time in nanoseconds.
    pub sum_ns: u64,
    /// [`QUANTILES`] of the last one to two minutes in nanoseconds, at most [`REFRESH_MS`] old
    /// while the shard works.
    pub quantiles_ns: [u64; QUANTILES.len()],
    /// The longest of the last one to two minutes in nanoseconds.
    pub max_ns: u64,
}

/// The spans of one kind at one shard.
pub struct Spans {
    /// This window and the one before it.
    current: Histogram<u64>,
    previous: Histogram<u64>,
    /// Both together, while quantiles are worked out.
    both: Histogram<u64>,
    /// Monotonic milliseconds at which the window ends.
    window_end_ms: u64,
    /// Monotonic milliseconds at which the quantiles are due again.
    refresh_ms: u64,
    summary: SpanSummary,
}

impl Spans {
    /// None so far; time starts at `now_ms`.
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        Self {
            current: histogram(),
            previous: histogram(),
            both: histogram(),
            window_end_ms: now_ms + WINDOW_MS,
            refresh_ms: now_ms,
            summary: SpanSummary::default(),
        }
    }

    /// Counts a span of `ns` nanoseconds that ended at `now_ms`.
    pub fn record(&mut self, ns: u64, now_ms: u64) {
        self.record_many(ns, 1, now_ms);
    }

    /// Counts `count` spans of `ns` nanoseconds each that ended together at `now_ms`.
    pub fn record_many(&mut self, ns: u64, count: u64, now_ms: u64) {
        if now_ms >= self.window_end_ms {
            self.turn_window(now_ms);
        }
        self.current.saturating_record_n(ns.clamp(SPAN_NS_MIN, SPAN_NS_MAX), count);
        self.summary.count += count;
        self.summary.sum_ns = self.summary.sum_ns.saturating_add(ns.saturating_mul(count));
        self.summary.max_ns = self.summary.max_ns.max(ns);
        if now_ms >= self.refresh_ms {
            self.refresh_ms = now_ms + REFRESH_MS;
            self.refresh();
        }
    }

    /// The copy for a scrape.
    #[must_use]
    pub const fn summary(&self) -> SpanSummary {
        self.summary
    }

    fn turn_window(&mut self, now_ms: u64) {
        // After a silence of two windows, what is in `current` is as old as what is thrown away.
        let quiet = now_ms >= self.window_end_ms + WINDOW_MS;
        std::mem::swap(&mut self.current, &mut self.previous);
        self.current.reset();
        if quiet {
            self.previous.reset();
        }
        self.window_end_ms = now_ms + WINDOW_MS;
        self.summary.max_ns = if self.previous.is_empty() { 0 } else { self.previous.max() };
        self.refresh_ms = now_ms;
    }

    fn refresh(&mut self) {
        // All three have the same bounds, so that neither call can fail; if one did, the old
        // quantiles would stay.
        if self.both.set_to(&self.current).is_err() || self.both.add(&self.previous).is_err() {
            return;
        }
        self.summary.quantiles_ns = QUANTILES.map(|quantile| self.both.value_at_quantile(quantile));
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(SPAN_NS_MIN, SPAN_NS_MAX, DIGITS)
        .expect("invariant: the constants above are valid bounds")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_says_what_was_recorded() {
        let mut spans = Spans::new(0);
        for n in 1..=1000u64 {
            spans.record(n * 10_000, n);
        }
        spans.record(1_000_000, 2000);
        let summary = spans.summary();
        assert_eq!(summary.count, 1001);
        assert_eq!(summary.sum_ns, 500_500 * 10_000 + 1_000_000);
        assert_eq!(summary.max_ns, 10_000_000);
        for (ns, wanted) in summary.quantiles_ns.into_iter().zip([5_000_000u64, 9_000_000, 9_900_000, 9_990_000]) {
            assert!(ns.abs_diff(wanted) * 50 < wanted, "{ns} is not near {wanted}");
        }
    }

    #[test]
    fn quantiles_forget_what_is_two_windows_old() {
        let mut spans = Spans::new(0);
        spans.record(50_000_000, 0);
        spans.record(10_000, WINDOW_MS);
        assert!(spans.summary().max_ns > 49_000_000, "the window before still counts");
        spans.record(10_000, 2 * WINDOW_MS);
        assert!(spans.summary().max_ns < 11_000, "{:?}", spans.summary());
        assert!(spans.summary().quantiles_ns[3] < 11_000);
        assert_eq!(spans.summary().count, 3, "the count is since the start");
    }

    #[test]
    fn a_silence_is_no_reason_to_remember_longer() {
        let mut spans = Spans::new(0);
        spans.record(50_000_000, 0);
        spans.record(10_000, 5 * WINDOW_MS);
        assert!(spans.summary().max_ns < 11_000);
    }

    #[test]
    fn those_who_came_together_count_each() {
        let mut spans = Spans::new(0);
        spans.record(1_000_000, 0);
        spans.record_many(20_000, 9, 0);
        spans.record(20_000, 2000);
        let summary = spans.summary();
        assert_eq!((summary.count, summary.sum_ns), (11, 1_200_000));
        assert!(summary.quantiles_ns[0] < 21_000 && summary.quantiles_ns[2] > 900_000, "{summary:?}");
    }

    #[test]
    fn nothing_is_too_long_or_too_short() {
        let mut spans = Spans::new(0);
        spans.record(0, 0);
        spans.record(u64::MAX, 0);
        assert_eq!(spans.summary().count, 2);
        assert_eq!(spans.summary().max_ns, u64::MAX);
    }
}
