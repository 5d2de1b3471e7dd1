//! The only reader of the operating system's clock in this crate.
//!
//! Owns: [`Clock`], whose zero all threads of one run share, so that a time written into a message
//! can be compared by the receiver.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Monotonic time since the run began. A copy counts from the same zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock at zero.
    pub(crate) fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The clock that this one is `ahead_ns` ahead of; `None`: no clock of this machine can be.
    pub(crate) fn behind(self, ahead_ns: i64) -> Option<Self> {
        let by = Duration::from_nanos(ahead_ns.unsigned_abs());
        let start = if ahead_ns < 0 { self.start.checked_sub(by) } else { self.start.checked_add(by) };
        start.map(|start| Self { start })
    }

    /// Nanoseconds since the start.
    pub(crate) fn nanos(self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// CPU time of the calling thread so far, in nanoseconds.
pub(crate) fn thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// CPU time of this process so far, in seconds.
pub(crate) fn process_cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Nanoseconds of whole seconds.
pub(crate) const fn seconds_ns(seconds: u64) -> u64 {
    seconds.saturating_mul(1_000_000_000)
}

/// A pause of the conducting thread between two looks at the board.
pub(crate) fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// The present second in RFC 3339, in universal time: `2026-11-20T21:57:56Z`.
pub(crate) fn rfc3339_now() -> String {
    rfc3339(unix_seconds())
}

/// Seconds since the beginning of 1970.
pub(crate) fn unix_seconds() -> u64 {
    // A clock before 1970 is no clock.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn rfc3339(unix: u64) -> String {
    let (days, second) = (unix / 86_400, unix % 86_400);
    // Days since the first of March of the year 0, in eras of 400 years, which all have the same
    // length.
    let from_march = days + 719_468;
    let (era, day) = (from_march / 146_097, from_march % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = (era * 400 + year + u64::from(month >= 10), if month < 10 { month + 3 } else { month - 9 });
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_ahead_leads_to_the_other() {
        let own = Clock::start();
        let earlier = own.behind(-5_000_000_000).expect("this machine runs for so long");
        let between = earlier.nanos().abs_diff(own.nanos());
        assert!((4_999_000_000..=5_100_000_000).contains(&between), "{between}");
        assert_eq!(own.behind(3_600_000_000_000).expect("a time").nanos(), 0, "it has not begun yet");
    }

    #[test]
    fn seconds_have_dates() {
        for (unix, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_164_799, "2024-02-28T23:59:59Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_795_211_876, "2026-11-20T21:57:56Z"),
        ] {
            assert_eq!(rfc3339(unix), date);
        }
    }
}
