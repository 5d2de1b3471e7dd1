//! Any text as a time or a size in a setting: never a panic, and what is read means what a person means by it.

#![no_main]

use imgate::config::{parse_duration_ms, parse_size};
use libfuzzer_sys::fuzz_target;

/// Far above every bound of a setting: 31 years, a pebibyte.
const MS_MAX: u64 = 1_000_000_000_000;
const BYTES_MAX: u64 = 1 << 50;

fuzz_target!(|text: &str| {
    if let Some(ms) = parse_duration_ms(text) {
        assert!(text == "0" || text.chars().any(char::is_alphabetic), "{text:?} has no unit");
        assert!(ms > MS_MAX || parse_duration_ms(&format!("{ms}ms")) == Some(ms), "{text:?} is {ms} ms");
    }
    if let Some(bytes) = parse_size(text) {
        assert!(text.chars().any(|c| c.is_ascii_digit()), "{text:?} has no number");
        assert!(!text.contains('-'), "{text:?} is negative");
        assert!(bytes > BYTES_MAX || parse_size(&bytes.to_string()) == Some(bytes), "{text:?} is {bytes} bytes");
    }
    if let Ok(number) = text.parse::<u64>()
        && !text.starts_with('+')
    {
        assert_eq!(parse_size(text), Some(number), "a bare number is bytes");
        assert_eq!(parse_duration_ms(text), (text == "0").then_some(0), "a bare number is no time but 0");
    }
});
