//! Bytes on the bus between gateways: see the function.
//!
//! The corpus is `tests/corpus/envelope`; `cargo test --test fuzz_corpus` replays it.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/fuzz/envelope.rs"]
mod target;

fuzz_target!(|input: &[u8]| target::envelope(input));
