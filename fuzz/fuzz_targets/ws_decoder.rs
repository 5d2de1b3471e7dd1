//! Any bytes as frames, cut anywhere: see the function.
//!
//! The corpus is `tests/corpus/ws_decoder`; `cargo test --test fuzz_corpus` replays it.

#![no_main]
#![allow(dead_code, reason = "each target has a program of its own")]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/fuzz/mod.rs"]
mod target;

fuzz_target!(|input: &[u8]| target::ws_decoder(input));
