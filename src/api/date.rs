//! Dates as texts: as Go's encoder writes them (RFC 3339), for `createat` of the legacy objects; and as HTTP writes them.

/// `unix_ms` in UTC: `2026-11-20T21:53:25.947Z`, without trailing zeros of the fraction, and without a fraction of zero.
pub(super) fn rfc3339(unix_ms: u64) -> String {
    let (day, in_day) = (unix_ms / DAY_MS, unix_ms % DAY_MS);
    let (year, month, date) = civil(day);
    let (hour, minute, second) = (in_day / 3_600_000, in_day / 60_000 % 60, in_day / 1000 % 60);
    let fraction = match in_day % 1000 {
        0 => String::new(),
        ms => format!(".{ms:03}").trim_end_matches('0').to_owned(),
    };
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// `unix_ms` as in `Last-Modified` (RFC 9110, section 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(super) fn http(unix_ms: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (day, second) = (unix_ms / DAY_MS, unix_ms % DAY_MS / 1000);
    let (year, month, date) = civil(day);
    let weekday = DAYS.iter().cycle().nth((day % 7) as usize).unwrap_or(&"");
    let month = MONTHS.get(month as usize - 1).unwrap_or(&"");
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{weekday}, {date:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

/// Go's zero time, which stands for "no such thing".
pub(super) const ZERO: &str = "0001-01-01T00:00:00Z";

const DAY_MS: u64 = 86_400_000;

/// Year, month and day of month of the day `since_1970` (Hinnant: "chrono-Compatible Low-Level Date Algorithms"): years
/// begin in March there, so that the leap day is the last of its year.
fn civil(since_1970: u64) -> (u64, u64, u64) {
    let days = since_1970 + 719_468; // since 0000-03-01
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let date = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, date)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_as_http_writes_them() {
        assert_eq!(http(784_111_777_000), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(http(951_782_400_999), "Tue, 29 Feb 2000 00:00:00 GMT");
    }

    #[test]
    fn dates_as_go_writes_them() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_795_211_605_947, "2026-11-20T21:53:25.947Z"),
            (1_795_211_605_900, "2026-11-20T21:53:25.9Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(unix_ms), text);
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut last = civil(0);
        for day in 1..60_000 {
            let now = civil(day);
            let next_date = (last.0, last.1, last.2 + 1);
            let next_month = (last.0, last.1 + 1, 1);
            let next_year = (last.0 + 1, 1, 1);
            assert!(now == next_date || now == next_month && last.2 >= 28 || now == next_year && last.2 == 31, "{day}");
            last = now;
        }
    }
}
