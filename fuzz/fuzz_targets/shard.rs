//! The whole shard: the simulation with a fuzzer in the place of chance. The first two bytes are the shape of the world, the others
//! decide what happens, and every promise is checked.
//!
//! The corpus is `tests/corpus/shard`; `cargo test --test simulation` replays it.

#![no_main]
#![allow(dead_code, reason = "the tests use all of it")]

#[path = "../../tests/simulation/client.rs"]
mod client;
#[path = "../../tests/simulation/connections.rs"]
mod connections;
#[path = "../../tests/simulation/database.rs"]
mod database;
#[path = "../../tests/simulation/frames.rs"]
mod frames;
#[path = "../../tests/simulation/hear.rs"]
mod hear;
#[path = "../../tests/simulation/moves.rs"]
mod moves;
#[path = "../../tests/simulation/obey.rs"]
mod obey;
#[path = "../../tests/simulation/plan.rs"]
mod plan;
#[path = "../../tests/simulation/random.rs"]
mod random;
#[path = "../../tests/simulation/standing.rs"]
mod standing;
#[path = "../../tests/simulation/trace.rs"]
mod trace;
#[path = "../../tests/simulation/truth.rs"]
mod truth;
#[path = "../../tests/simulation/verdict.rs"]
mod verdict;
#[path = "../../tests/simulation/whispers.rs"]
mod whispers;
#[path = "../../tests/simulation/words.rs"]
mod words;
#[path = "../../tests/simulation/world.rs"]
mod world;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some(plan) = plan::Plan::taped(input) else { return };
    if let Err(why) = verdict::run(plan, trace::Trace::default()) {
        panic!("{why}");
    }
});
