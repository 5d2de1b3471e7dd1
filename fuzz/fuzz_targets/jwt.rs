//! Any text as a token of another system: see the function.
//!
//! The corpus is `tests/corpus/jwt`; `cargo test --test fuzz_corpus` replays it.

#![no_main]
#![allow(dead_code, reason = "each target has a program of its own")]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/fuzz/mod.rs"]
mod target;

fuzz_target!(|input: &[u8]| target::jwt(input));
