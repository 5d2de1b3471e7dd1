//! The only reader of the operating system's clocks.
//!
//! Owns: [`Now`], one reading of both clocks, taken once per turn and passed on as a value; how a
//! time is written ([`http_date`]).
//! Never: is read from inside `shard/`, `wire/`, `ws/` or `http/`; they are given a `Now`.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// One reading of the clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// Monotonic milliseconds since the process's first reading. For deadlines.
    pub mono_ms: u64,
    /// Wall time in Unix milliseconds. May step back; for people (`ts`) and token expiry, never for
    /// order.
    pub wall_ms: u64,
    /// Microseconds beyond `mono_ms`, below a thousand. For measuring.
    pub sub_us: u16,
}

impl Now {
    /// Monotonic microseconds since the process's first reading.
    #[must_use]
    pub fn mono_us(self) -> u64 {
        self.mono_ms * 1000 + u64::from(self.sub_us)
    }
}

/// The source of [`Now`]: holds the instant that monotonic time counts from.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock whose monotonic time starts at zero now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Reads both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        Self::now_at(self.nanos())
    }

    /// Both clocks when monotonic time, read just now, is `nanos` (of [`Clock::nanos`]): spares a
    /// reading.
    #[must_use]
    pub fn now_at(nanos: u64) -> Now {
        // Below a thousand.
        let sub_us = (nanos / 1000 % 1000) as u16;
        Now { mono_ms: nanos / 1_000_000, wall_ms: wall_ms(), sub_us }
    }

    /// Monotonic nanoseconds since the start, for measuring a turn and for sleeping to a deadline.
    #[must_use]
    pub fn nanos(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Wall time in Unix milliseconds; 0 for a clock set before 1970.
#[must_use]
pub fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}

/// Unix milliseconds as HTTP writes them (RFC 9110, section 5.6.7): in `Date` and `Last-Modified`.
/// What lies beyond the four digits of a year is their last second.
#[must_use]
pub fn http_date(unix_ms: u64) -> String {
    const LAST_SECOND: u64 = 253_370_764_799;
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs((unix_ms / 1000).min(LAST_SECOND)))
}

/// What the system calls monotonic time, in microseconds: for another process, which compares it
/// with a reading of its own. It counts from where the system says, not from the process's start.
#[must_use]
pub fn system_monotonic_us() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let whole_us = u64::try_from(time.tv_sec).unwrap_or(0).saturating_mul(1_000_000);
    whole_us.saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000)
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_keeps_its_microseconds() {
        let now = Clock::now_at(7_654_321_999);
        assert_eq!((now.mono_ms, now.sub_us, now.mono_us()), (7_654, 321, 7_654_321));
    }

    #[test]
    fn times_are_written_as_http_has_them() {
        assert_eq!(http_date(784_111_777_000), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(http_date(951_782_400_999), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(http_date(u64::MAX), "Thu, 31 Dec 9998 23:59:59 GMT");
    }
}
