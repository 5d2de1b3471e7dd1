//! Two ends with the same keys, a socket that takes what it likes, and somebody in between: see the function.
//!
//! The corpus is `tls/tests/corpus/records`; `cargo test -p imgate-tls` replays it.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tls/tests/fuzz/mod.rs"]
mod target;

fuzz_target!(|input: &[u8]| target::records(input));
