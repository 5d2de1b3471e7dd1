//! Times and sizes as a person writes them: the one parser of both.
//!
//! Owns: what is a time and what is a size, in settings and in arguments of commands.

use std::time::Duration;

use bytesize::ByteSize;

/// What a time looks like, for the words of a refusal.
pub(super) const TIME_UNITS: &str = "a time with its unit, as 250ms, 55s, 5m, 12h, 30d";
/// What a size looks like, for the words of a refusal.
pub(super) const SIZE_UNITS: &str = "a size, as 4096, 64KiB, 16MiB, 2GiB";

/// Milliseconds of `250ms`, `55s`, `5m`, `12h`, `30d` or `1h 30m`. Zero needs no unit. Any other
/// bare number is refused, because its unit would be a guess, and so is what is no whole number of
/// milliseconds.
#[must_use]
pub fn parse_duration_ms(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let time = humantime::parse_duration(text).ok()?;
    let ms = u64::try_from(time.as_millis()).ok()?;
    (Duration::from_millis(ms) == time).then_some(ms)
}

/// Bytes of `4096`, `64KiB`, `16MiB`, `2GiB`; also `16MB`, which is 16,000,000.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    // The crate reads fractions through floating point; a limit is a whole number.
    if text.contains('.') {
        return None;
    }
    text.parse::<ByteSize>().ok().map(|size| size.as_u64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_and_zero_needs_none() {
        for (text, ms) in [
            ("250ms", 250),
            ("55s", 55_000),
            ("5m", 300_000),
            ("12h", 43_200_000),
            ("30d", 2_592_000_000),
            ("1h 30m", 5_400_000),
            ("0", 0),
            ("0s", 0),
            ("0ms", 0),
        ] {
            assert_eq!(parse_duration_ms(text), Some(ms), "{text}");
        }
        for text in ["", "5", "s", "-5s", "5 wombats", "1500us", "999999999999999999d"] {
            assert_eq!(parse_duration_ms(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_have_binary_or_decimal_units() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("256KiB", 262_144),
            ("2 MiB", 2_097_152),
            ("1GiB", 1 << 30),
            ("7B", 7),
            ("5MB", 5_000_000),
        ] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "KiB", "-1", "1.5MiB", "5 wombats"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
