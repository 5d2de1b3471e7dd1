//! The shards, simulated: many shards, slow and dying sessions, a failing store and a virtual clock in one thread, all from one seed.
//!
//! An independent model checks the promises of the design (section 5) after every step; it shares no code with `shard/`.
//! `SEED=n cargo test --test simulation -- --nocapture` replays one seed with a full trace. A failing seed prints its number, the
//! step, the first counter-example and the last lines of its trace.

#[path = "simulation/client.rs"]
mod client;
#[path = "simulation/database.rs"]
mod database;
#[path = "simulation/frames.rs"]
mod frames;
#[path = "simulation/hear.rs"]
mod hear;
#[path = "simulation/moves.rs"]
mod moves;
#[path = "simulation/plan.rs"]
mod plan;
#[path = "simulation/random.rs"]
mod random;
#[path = "simulation/trace.rs"]
mod trace;
#[path = "simulation/truth.rs"]
mod truth;
#[path = "simulation/verdict.rs"]
mod verdict;
#[path = "simulation/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use imgate::shard::PlantedBug;

use plan::Plan;
use trace::Trace;

/// Seeds of the ordinary run.
const SEEDS: u64 = 256;
/// Seeds of the run without a store.
const VOLATILE_SEEDS: u64 = 64;
/// Threads that share the seeds.
const THREADS: usize = 2;

/// Runs a plan; a panic inside (an assertion of the shard) is a failure like any other.
fn attempt(plan: &Plan, trace: &Trace) -> Result<(), String> {
    let (plan, trace) = (plan.clone(), trace.clone());
    catch_unwind(AssertUnwindSafe(|| verdict::run(plan, trace))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    })
}

/// The lowest failing seed below `seeds`, tried by several threads.
fn first_failure(seeds: u64, volatile: bool, bug: Option<PlantedBug>) -> Option<u64> {
    let next = AtomicU64::new(0);
    let failed = AtomicU64::new(u64::MAX);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds || failed.load(Ordering::Relaxed) < seed {
                        return;
                    }
                    if attempt(&Plan::new(seed, volatile, bug), &Trace::default()).is_err() {
                        failed.fetch_min(seed, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    Some(failed.into_inner()).filter(|&seed| seed != u64::MAX)
}

/// All seeds, or the one that the environment names, must hold.
fn every_seed_holds(seeds: u64, volatile: bool) {
    let wanted = std::env::var("SEED").ok().map(|seed| seed.parse::<u64>().expect("SEED is a number"));
    let seed = match wanted {
        Some(seed) => seed,
        None => match first_failure(seeds, volatile, None) {
            Some(seed) => seed,
            None => return,
        },
    };
    let plan = Plan::new(seed, volatile, None);
    let trace = Trace::watching(wanted.is_some());
    if let Err(why) = attempt(&plan, &trace) {
        panic!("seed {seed}: {why}\n{plan:?}\nthe last lines:\n{}", trace.tail());
    }
}

/// A shard that breaks this rule must fail in at least one of the ordinary seeds.
fn is_noticed(bug: PlantedBug) {
    assert!(first_failure(SEEDS, false, Some(bug)).is_some(), "{bug:?} goes unnoticed in {SEEDS} seeds");
}

#[test]
fn every_promise_holds_in_every_seed() {
    every_seed_holds(SEEDS, false);
}

#[test]
fn a_volatile_gateway_keeps_order_and_counts_what_it_drops() {
    every_seed_holds(VOLATILE_SEEDS, true);
}

#[test]
fn a_seed_is_the_same_run_each_time() {
    for seed in 0..4 {
        let digests = [(); 2].map(|()| {
            let trace = Trace::digesting();
            let outcome = attempt(&Plan::new(seed, false, None), &trace);
            (trace.digest(), outcome)
        });
        assert_eq!(digests[0], digests[1], "seed {seed}");
    }
}

#[test]
fn an_ack_before_the_commit_is_noticed() {
    is_noticed(PlantedBug::AckBeforeCommit);
}

#[test]
fn a_skipped_dedupe_is_noticed() {
    is_noticed(PlantedBug::SkippedDedupe);
}

#[test]
fn a_lost_wake_is_noticed() {
    is_noticed(PlantedBug::LostWake);
}

#[test]
fn a_reordered_fan_out_is_noticed() {
    is_noticed(PlantedBug::ReorderedFanOut);
}

#[test]
fn a_forgotten_behind_mark_is_noticed() {
    is_noticed(PlantedBug::ForgottenBehindMark);
}

#[test]
#[ignore = "a list of all failing seeds, for work on the shard"]
fn survey() {
    let seeds = std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS);
    for seed in 0..seeds {
        if let Err(why) = attempt(&Plan::new(seed, std::env::var("VOLATILE").is_ok(), None), &Trace::default()) {
            println!("seed {seed}: {why}");
        }
    }
}
