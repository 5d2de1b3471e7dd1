//! What time it is, and how much of the processor this thread has used.
//!
//! Owns: the only readings of the clocks in this package.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of a clock that only goes forward.
#[must_use]
pub fn nanos() -> u64 {
    reading(ClockId::Monotonic)
}

/// Nanoseconds of processor time of the calling thread, user and system.
#[must_use]
pub fn thread_cpu_nanos() -> u64 {
    reading(ClockId::ThreadCPUTime)
}

/// The day of `wall_ms` (Unix milliseconds) as `2026-11-20`, in UTC.
#[must_use]
pub fn date(wall_ms: u64) -> String {
    // Days to a civil date, with years that begin in March, so that a leap day is a year's last.
    let days = wall_ms / 86_400_000 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    format!("{}-{month:02}-{day:02}", era * 400 + year + u64::from(month <= 2))
}

fn reading(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    // Neither clock is ever negative.
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days() {
        for (ms, day) in [(0, "1970-01-01"), (1_709_164_800_000, "2024-02-29"), (1_795_219_200_000, "2026-11-21")] {
            assert_eq!(date(ms), day);
        }
    }

    #[test]
    fn both_clocks_go_forward() {
        let (before, used) = (nanos(), thread_cpu_nanos());
        let mut n = 0u64;
        while thread_cpu_nanos() == used {
            n = std::hint::black_box(n + 1);
        }
        assert!(nanos() > before && thread_cpu_nanos() > used);
    }
}
