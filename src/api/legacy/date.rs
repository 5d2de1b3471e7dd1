//! Dates as Go's encoder writes them (RFC 3339), for `createat` of the old systems' objects.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// `unix_ms` in UTC: `2026-11-20T21:53:25.947Z`, without trailing zeros of the fraction, and
/// without a fraction of zero; [`ZERO`] beyond the year 9999, for which there is no such text.
pub(in crate::api) fn rfc3339(unix_ms: u64) -> String {
    let nanos = i128::from(unix_ms) * 1_000_000;
    let date = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok();
    date.and_then(|date| date.format(&Rfc3339).ok()).unwrap_or_else(|| ZERO.to_owned())
}

/// Go's zero time, which stands for "no such thing".
pub(super) const ZERO: &str = "0001-01-01T00:00:00Z";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_as_go_writes_them() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_795_211_605_947, "2026-11-20T21:53:25.947Z"),
            (1_795_211_605_900, "2026-11-20T21:53:25.9Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
            (u64::MAX, ZERO),
        ] {
            assert_eq!(rfc3339(unix_ms), text);
        }
    }
}
