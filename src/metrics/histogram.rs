//! How long something takes, in buckets that can be added up over shards and gateways.
//!
//! Owns: the buckets: powers of two of a microsecond, from 64 µs to 16.8 s, and everything above.
//! Never: reads a clock. Recording is an index and three additions.
//! Bounds: [`BUCKETS`] counters.

use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets, the last one without an upper bound.
pub const BUCKETS: usize = 20;
/// The upper bound of the first bucket is so many bits of nanoseconds: 65.5 µs.
const FIRST_BITS: u32 = 16;

/// The upper bound of a bucket in seconds; `None`: it has none.
#[must_use]
pub fn bound_seconds(bucket: usize) -> Option<f64> {
    let bits = FIRST_BITS + u32::try_from(bucket).ok()?;
    (bucket + 1 < BUCKETS).then(|| 2f64.powi(bits.try_into().unwrap_or(i32::MAX)) / 1e9)
}

const fn bucket_of(ns: u64) -> usize {
    // The smallest bucket whose bound is not below `ns`.
    let bits = u64::BITS - ns.saturating_sub(1).leading_zeros();
    let bucket = bits.saturating_sub(FIRST_BITS) as usize;
    if bucket < BUCKETS { bucket } else { BUCKETS - 1 }
}

/// The counts of one thread, or a copy of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Histogram {
    /// How many took as long as the bucket says, not added up.
    pub counts: [u64; BUCKETS],
    /// Nanoseconds of all together.
    pub sum_ns: u64,
}

impl Histogram {
    /// Counts one that took `ns` nanoseconds.
    pub const fn record(&mut self, ns: u64) {
        self.record_many(ns, 1);
    }

    /// Counts `count` that took `ns` nanoseconds each.
    pub const fn record_many(&mut self, ns: u64, count: u64) {
        self.counts[bucket_of(ns)] += count;
        self.sum_ns = self.sum_ns.saturating_add(ns.saturating_mul(count));
    }

    /// Adds what another one has counted.
    pub fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
    }
}

/// The same for several threads.
#[derive(Debug, Default)]
pub struct SharedHistogram {
    counts: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

impl SharedHistogram {
    /// Counts one that took `ns` nanoseconds.
    pub fn record(&self, ns: u64) {
        if let Some(count) = self.counts.get(bucket_of(ns)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// A copy; while others record, its parts may be from two moments.
    #[must_use]
    pub fn read(&self) -> Histogram {
        Histogram {
            counts: self.counts.each_ref().map(|count| count.load(Ordering::Relaxed)),
            sum_ns: self.sum_ns.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_is_not_above_its_bound() {
        for (ns, bucket) in [
            (0, 0),
            (1, 0),
            (65_536, 0),
            (65_537, 1),
            (131_072, 1),
            (1_000_000, 4),
            (17_179_869_184, 18),
            (17_179_869_185, 19),
            (u64::MAX, 19),
        ] {
            assert_eq!(bucket_of(ns), bucket, "{ns}");
            let above = bound_seconds(bucket).is_none_or(|bound| ns as f64 / 1e9 <= bound);
            let below = bucket == 0 || bound_seconds(bucket - 1).is_some_and(|bound| ns as f64 / 1e9 > bound);
            assert!(above && below, "{ns} in {bucket}");
        }
        assert_eq!((bound_seconds(0), bound_seconds(BUCKETS - 1)), (Some(0.000_065_536), None));
    }

    #[test]
    fn shared_and_own_count_the_same() {
        let (shared, mut own) = (SharedHistogram::default(), Histogram::default());
        for ns in [5, 70_000, 70_000, 3_000_000_000, u64::MAX / 4] {
            shared.record(ns);
            own.record(ns);
        }
        assert_eq!(shared.read(), own);
        own.add(&shared.read());
        assert_eq!(own.counts.iter().sum::<u64>(), 10);
        assert_eq!(own.counts[1], 4);
    }
}
