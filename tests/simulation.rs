//! The shards, simulated: many shards, slow and dying sessions, a failing store and a virtual clock in one thread, all from one seed.
//!
//! An independent model checks the invariants (docs/architecture.md) after every step; it shares no code with `shard/`.
//! `SEED=n cargo test --test simulation every_promise -- --nocapture` replays one seed with a full trace (`volatile` instead of `every_promise`
//! for one without a store); `SEEDS=n` tries more of them. A failing seed prints its number, the step, the first counter-example and the last
//! lines of its trace.

#[path = "simulation/client.rs"]
mod client;
#[path = "simulation/cluster.rs"]
mod cluster;
#[path = "simulation/connections.rs"]
mod connections;
#[path = "simulation/database.rs"]
mod database;
#[path = "simulation/frames.rs"]
mod frames;
#[path = "simulation/gateways.rs"]
mod gateways;
#[path = "simulation/hear.rs"]
mod hear;
#[path = "simulation/many.rs"]
mod many;
#[path = "simulation/moves.rs"]
mod moves;
#[path = "simulation/obey.rs"]
mod obey;
#[path = "simulation/plan.rs"]
mod plan;
#[path = "simulation/random.rs"]
mod random;
#[path = "simulation/standing.rs"]
mod standing;
#[path = "simulation/trace.rs"]
mod trace;
#[path = "simulation/truth.rs"]
mod truth;
#[path = "simulation/verdict.rs"]
mod verdict;
#[path = "simulation/whispers.rs"]
mod whispers;
#[path = "simulation/words.rs"]
mod words;
#[path = "simulation/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use imgate::cluster::exchange::PlantedFault;
use imgate::shard::PlantedBug;

use plan::{Failure, Plan};
use trace::Trace;
use verdict::Met;

/// Seeds of the ordinary run.
const SEEDS: u64 = 1024;
/// Seeds of the run without a store.
const VOLATILE_SEEDS: u64 = 256;
/// Seeds of the run of two gateways on one store.
const PAIR_SEEDS: u64 = 96;
/// Seeds of the run of several gateways that tell each other what they store.
const CLUSTER_SEEDS: u64 = 1024;
/// Seeds in which a fault of these must show.
const CLUSTER_BUG_SEEDS: u64 = 192;
/// Seeds of the run in which each work of the store fails once in every way.
const FAULT_SEEDS: u64 = 3;
/// Threads that share the seeds.
const THREADS: usize = 2;

/// Runs a plan; a panic inside (an assertion of the shard) is a failure like any other.
fn attempt(plan: &Plan, trace: &Trace) -> Result<Met, String> {
    let (plan, trace) = (plan.clone(), trace.clone());
    catch_unwind(AssertUnwindSafe(|| verdict::run(plan, trace))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panicked: {}", text.unwrap_or_default()))
    })
}

/// The lowest failing seed below `seeds`, tried by several threads; or what all of them met.
fn first_failure(seeds: u64, volatile: bool, bug: Option<PlantedBug>) -> Result<BTreeMap<&'static str, u64>, u64> {
    let next = AtomicU64::new(0);
    let failed = AtomicU64::new(u64::MAX);
    let met = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds || failed.load(Ordering::Relaxed) < seed {
                        return;
                    }
                    match attempt(&Plan::new(seed, volatile, bug), &Trace::default()) {
                        Ok(one) => {
                            let mut met = met.lock().expect("no run panics with the lock held");
                            for (what, times) in one {
                                *met.entry(what).or_default() += times;
                            }
                        }
                        Err(_) => {
                            failed.fetch_min(seed, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    match failed.into_inner() {
        u64::MAX => Ok(met.into_inner().expect("no run panics with the lock held")),
        seed => Err(seed),
    }
}

/// All seeds, or the one that the environment names, must hold. Gives what they met; nothing for a single seed.
fn every_seed_holds(seeds: u64, volatile: bool) -> BTreeMap<&'static str, u64> {
    let number =
        |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("SEED and SEEDS are numbers"));
    let (wanted, seeds) = (number("SEED"), number("SEEDS").unwrap_or(seeds));
    let seed = match wanted.map_or_else(|| first_failure(seeds, volatile, None), Err) {
        Ok(met) => return met,
        Err(seed) => seed,
    };
    let plan = Plan::new(seed, volatile, None);
    let trace = Trace::watching(wanted.is_some());
    if let Err(why) = attempt(&plan, &trace) {
        panic!("seed {seed}: {why}\n{plan:?}\nthe last lines:\n{}", trace.tail());
    }
    assert!(wanted.is_some(), "seed {seed} fails, but not when it is run again: it depends on something else");
    BTreeMap::new()
}

/// Seeds that never meet a trouble prove nothing about it.
fn all_is_met(met: &BTreeMap<&'static str, u64>, concerned: impl Fn(&str) -> bool) {
    let unmet: Vec<_> = met.iter().filter(|(what, times)| concerned(what) && **times == 0).collect();
    assert!(unmet.is_empty(), "the seeds never met {unmet:?}");
}

/// A shard that breaks this rule must fail in at least one of the ordinary seeds, and for that reason.
fn is_noticed(bug: PlantedBug, by: &[&str]) {
    let seed = first_failure(SEEDS, false, Some(bug)).expect_err("the planted bug goes unnoticed");
    let why = attempt(&Plan::new(seed, false, Some(bug)), &Trace::default()).expect_err("the seed fails again");
    assert!(by.iter().any(|promise| why.contains(promise)), "seed {seed} fails for another reason: {why}");
}

#[test]
fn every_promise_holds_in_every_seed() {
    let met = every_seed_holds(SEEDS, false);
    all_is_met(&met, |what| !what.starts_with("volatile"));
}

#[test]
fn a_volatile_gateway_keeps_order_and_counts_what_it_drops() {
    let met = every_seed_holds(VOLATILE_SEEDS, true);
    all_is_met(&met, |what| what.starts_with("volatile"));
}

/// Beyond the ordinary numbers: 1394, messages missed behind 200 conversations that were confirmed were not replayed; 1535, a cid that was used again
/// with another text after an unknown outcome showed that text, and not the one that was stored; 2372 without a store, a shard over its budget that has
/// nothing to let go of; 18171, a message behind some that the home had never told of, after a crash, was not read. Two were mistakes of the
/// model: 1797, how far somebody has read, said by somebody who had left the group; 2997, what retention took away in the midst of a replay.
#[test]
fn seeds_that_once_failed_hold() {
    for (seed, volatile) in [(1394, false), (1535, false), (1797, false), (2372, true), (2997, false), (18171, false)] {
        let plan = Plan::new(seed, volatile, None);
        attempt(&plan, &Trace::default()).unwrap_or_else(|why| panic!("seed {seed}: {why}\n{plan:?}"));
    }
}

/// The same of several gateways: a conversation that was forgotten while it waited for a row, and a page that was read before
/// something was stored and answered after it was told of.
#[test]
fn seeds_of_several_gateways_that_once_failed_hold() {
    for seed in [804, 1513] {
        cluster::run(seed, None, None, &Trace::default()).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
}

/// The same of two gateways that do not know each other: 1174, a home was forgotten while the clock of the other gateway was ahead, and took
/// for new what it had handed on. One was a mistake of the model: 3656, a list that was refused because too many were under way.
#[test]
fn seeds_of_two_gateways_that_once_failed_hold() {
    for seed in [1174, 3656] {
        gateways::run(seed, &Trace::default()).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
}

/// What the fuzz target `shard` kept: runs whose chances are bytes.
#[test]
fn tapes_that_were_kept_hold() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/shard");
    let mut tapes = 0;
    for file in std::fs::read_dir(folder).expect("there is a corpus") {
        let path = file.expect("it can be listed").path();
        let plan = Plan::taped(&std::fs::read(&path).expect("it can be read")).expect("it has a shape");
        attempt(&plan, &Trace::default()).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        tapes += 1;
    }
    assert!(tapes >= 8, "{tapes} tapes");
}

/// `SEED=n` and `SEEDS=n` as for the others.
#[test]
fn two_gateways_on_one_store_keep_every_promise() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds = number("SEED").map_or_else(|| 0..number("SEEDS").unwrap_or(PAIR_SEEDS), |seed| seed..seed + 1);
    let mut met = [0; 2];
    for seed in seeds {
        let trace = Trace::watching(number("SEED").is_some());
        let run = catch_unwind(AssertUnwindSafe(|| gateways::run(seed, &trace)));
        match run.unwrap_or_else(|_| Err("panicked".to_owned())) {
            Ok(one) => (0..2).for_each(|what| met[what] += one[what]),
            Err(why) => panic!("seed {seed}: {why}\n{:?}\nthe last lines:\n{}", Plan::pair(seed), trace.tail()),
        }
    }
    assert!(number("SEED").is_some() || met.iter().all(|times| *times > 0), "rows in turn, gap reads: {met:?}");
}

fn attempt_cluster(
    seed: u64,
    bug: Option<PlantedBug>,
    fault: Option<PlantedFault>,
    trace: &Trace,
) -> Result<[u64; cluster::MET.len()], String> {
    let run = catch_unwind(AssertUnwindSafe(|| cluster::run(seed, bug, fault, trace)));
    run.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(format!(
            "panicked: {}",
            text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
        ))
    })
}

/// `SEED=n` and `SEEDS=n` as for the others.
#[test]
fn gateways_that_tell_each_other_keep_every_promise() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds = number("SEED").map_or_else(|| 0..number("SEEDS").unwrap_or(CLUSTER_SEEDS), |seed| seed..seed + 1);
    let next = AtomicU64::new(seeds.start);
    let met = Mutex::new([0; cluster::MET.len()]);
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || failed.lock().expect("no panic").is_some() {
                        return;
                    }
                    let trace = Trace::watching(number("SEED").is_some());
                    match attempt_cluster(seed, None, None, &trace) {
                        Ok(one) => {
                            let mut met = met.lock().expect("no panic");
                            (0..met.len()).for_each(|what| met[what] += one[what]);
                        }
                        Err(why) => *failed.lock().expect("no panic") = Some((seed, why, trace.tail())),
                    }
                }
            });
        }
    });
    if let Some((seed, why, tail)) = failed.into_inner().expect("no panic") {
        panic!("seed {seed}: {why}\n{:?}\nthe last lines:\n{tail}", Plan::cluster(seed, None));
    }
    let met = met.into_inner().expect("no panic");
    let all: Vec<_> = cluster::MET.iter().zip(met).collect();
    assert!(number("SEED").is_some() || met.iter().all(|times| *times > 0), "the seeds have met: {all:?}");
    println!("the seeds have met: {all:?}");
}

/// A cluster that breaks a rule is found out by the ordinary seeds.
fn cluster_notices(bug: Option<PlantedBug>, fault: Option<PlantedFault>, by: &[&str]) {
    let found = (0..CLUSTER_BUG_SEEDS)
        .find_map(|seed| Some((seed, attempt_cluster(seed, bug, fault, &Trace::default()).err()?)));
    let (seed, why) = found.expect("the planted bug goes unnoticed");
    assert!(by.iter().any(|promise| why.contains(promise)), "seed {seed} fails for another reason: {why}");
}

#[test]
fn a_home_that_begins_anywhere_is_noticed() {
    // By the promises, or by the shard itself.
    let broken = ["what can be handed on", "a fresh row is not handed on before its answer has come"];
    cluster_notices(Some(PlantedBug::WrongBase), None, &["P4", "P2", broken[0], broken[1]]);
}

#[test]
fn an_ignored_digest_is_noticed() {
    cluster_notices(Some(PlantedBug::IgnoredDigest), None, &["P4"]);
}

#[test]
fn a_home_that_forgets_how_far_it_was_is_noticed() {
    cluster_notices(Some(PlantedBug::ForgottenMemo), None, &["P2", "P3"]);
}

#[test]
fn a_gateway_that_does_not_notice_that_it_is_alone_is_noticed() {
    cluster_notices(None, Some(PlantedFault::ForgottenIsolation), &["P4"]);
}

#[test]
fn a_scan_that_misses_late_commits_is_noticed() {
    cluster_notices(None, Some(PlantedFault::ShortScan), &["P4"]);
}

#[test]
fn words_of_other_gateways_that_are_not_handed_on_are_noticed() {
    cluster_notices(None, Some(PlantedFault::UnheardWords), &["P10"]);
}

#[test]
fn a_gateway_that_does_not_take_in_who_has_come_elsewhere_is_noticed() {
    cluster_notices(None, Some(PlantedFault::StaleAddress), &["P12"]);
}

#[test]
fn a_message_goes_to_the_gateways_of_its_readers_and_to_no_others() {
    let count = many::run();
    println!("of {} gateways: {count:?}", many::NODES);
    assert_eq!(count.missed, 0, "{count:?}");
    assert!((900..=2_100).contains(&count.direct), "{count:?}");
    assert!((1_000..=1_050).contains(&count.group), "{count:?}");
}

#[test]
fn users_of_a_gateway_that_is_gone_and_stay_online_are_noticed() {
    cluster_notices(None, Some(PlantedFault::GhostPresence), &["P11"]);
}

#[test]
fn each_work_of_the_store_fails_once_in_every_way() {
    let run = |seed, fault| {
        let plan = Plan::short(seed, fault);
        let met =
            attempt(&plan, &Trace::default()).unwrap_or_else(|why| panic!("seed {seed}, {fault:?}: {why}\n{plan:?}"));
        met.iter().find(|(what, _)| *what == "works of the store").map_or(0, |(_, works)| *works)
    };
    let mut all = 0;
    for seed in 0..FAULT_SEEDS {
        let works = run(seed, None);
        all += works;
        for work in 1..=works {
            for failure in [Failure::Refused, Failure::Silent, Failure::Lost] {
                run(seed, Some((work, failure)));
            }
        }
    }
    assert!(all > 20 * FAULT_SEEDS, "the seeds hardly ask the store: {all}");
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
fn a_session_that_takes_a_place_when_it_knocks_is_noticed() {
    is_noticed(PlantedBug::EarlyReplacement, &["devices"]);
}

#[test]
fn a_session_that_was_given_up_and_takes_a_place_is_noticed() {
    is_noticed(PlantedBug::PlaceForTheGone, &["devices"]);
}

#[test]
fn an_ack_before_the_commit_is_noticed() {
    // P8: what was acked and then not stored is a failure that a legacy page is never told. Recall: its author takes back what another has got that number for.
    is_noticed(PlantedBug::AckBeforeCommit, &["P1", "P8", "recall: "]);
}

#[test]
fn a_skipped_dedupe_is_noticed() {
    is_noticed(PlantedBug::SkippedDedupe, &["P1", "P3"]);
}

#[test]
fn a_lost_wake_is_noticed() {
    is_noticed(PlantedBug::LostWake, &["P4", "P5"]);
}

#[test]
fn a_reordered_fan_out_is_noticed() {
    is_noticed(PlantedBug::ReorderedFanOut, &["P2", "own messages are in order"]);
}

#[test]
fn a_forgotten_behind_mark_is_noticed() {
    is_noticed(PlantedBug::ForgottenBehindMark, &["P4", "P2"]);
}

#[test]
fn a_cursor_without_a_pong_is_noticed() {
    is_noticed(PlantedBug::UnprovenCursor, &["P6", "P4"]);
}

#[test]
fn a_replay_of_one_conversation_only_is_noticed() {
    is_noticed(PlantedBug::GreedyReplay, &["P4"]);
}

#[test]
fn a_forgotten_replay_is_noticed() {
    is_noticed(PlantedBug::ForgottenReplay, &["P4"]);
}

#[test]
fn a_session_that_opens_unheard_is_noticed() {
    is_noticed(PlantedBug::UnheardInterest, &["P4", "P2"]);
}

#[test]
fn a_stale_farewell_that_is_believed_is_noticed() {
    is_noticed(PlantedBug::StaleFarewell, &["P4", "P2"]);
}

#[test]
fn a_lost_cursor_is_noticed() {
    is_noticed(PlantedBug::LostWord, &["cursors"]);
}

#[test]
fn greed_that_is_not_counted_is_noticed() {
    is_noticed(PlantedBug::UnpacedGreed, &["pace"]);
}

#[test]
fn a_session_that_is_not_read_again_is_noticed() {
    is_noticed(PlantedBug::LostRefill, &["a session that may be read is resumed", "it is not read"]);
}
