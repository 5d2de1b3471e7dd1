//! `capacity`: the largest rate at which a gateway keeps given bounds, found by raising the rate
//! until they do not hold, narrowing down, and holding the answer for longer.
//!
//! Owns: the [`Search`], the proof of its answer, and the guess at what gave way. The traffic is
//! that of `direct`, and judged as there.
//! Never: believes one bad step (it is tried again), takes this program's own limit for the
//! server's, or forgives a step in which something went wrong because the next one held.
//! Bounds: a search halves, so it ends; [`PROOFS_MAX`] proofs.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::direct::{self, Load, Outcome};
use crate::conduct::Steady;
use crate::cpus::Cpus;
use crate::exit::Exit;
use crate::goals::milliseconds;
use crate::interrupt::Interrupt;
use crate::limits::{CONNECTIONS_MAX, PAYLOAD_BYTES_MAX, RATE_MAX, SECONDS_MAX};
use crate::options::{Measure, Options};
use crate::page::Chart;
use crate::report::Report;
use crate::say::say;
use crate::split::worker::Station;

/// How long the last messages of a step may take to arrive: after an overload they wait in the
/// server.
const DRAIN_SECONDS: u64 = 30;
/// How long a gateway that went may take to come back before the search goes on.
const RETURN_SECONDS: u64 = 60;
/// An answer that does not hold for longer is searched for below it and proved again, so often.
const PROOFS_MAX: u32 = 4;
/// A thread that used this much of a core had no more to give.
const BUSY_PERCENT: f64 = 85.0;
/// Processes that used this much of each of their cores had no more to give.
const FULL_PERCENT: f64 = 90.0;
/// How the server calls those of its threads that are alone in their roles.
const SHARD: &str = "shard-";

#[derive(Args, Clone, Debug)]
pub(crate) struct Flags {
    #[command(flatten)]
    pub(crate) options: Options,
    /// Pairs of users: the first two of the tokens file, the next two, …
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=CONNECTIONS_MAX as i64 / 2))]
    pairs: u32,
    /// The p99 of acks and of deliveries that is good enough, in milliseconds.
    #[arg(long, value_name = "MS", default_value = "100", value_parser = milliseconds)]
    p99_ms: f64,
    /// The rate to begin with: messages per second, all pairs together. Answers come on top.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=RATE_MAX))]
    from_rate: u64,
    /// No rate above this is tried.
    #[arg(long, default_value_t = RATE_MAX, value_parser = clap::value_parser!(u64).range(1..=RATE_MAX))]
    rate_max: u64,
    /// Length of a step of the search.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(2..=SECONDS_MAX))]
    step_seconds: u64,
    /// Length of the run that proves the answer.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(2..=SECONDS_MAX))]
    verify_seconds: u64,
    /// How exact the answer is, in percent.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=50))]
    precision: u64,
    /// Bytes of each message's content.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=PAYLOAD_BYTES_MAX as i64))]
    payload: u32,
}

/// What the search wants next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    /// To know whether this rate holds.
    Try(u64),
    /// Nothing: this is the answer.
    Found(u64),
    /// Nothing: not even one message a second holds.
    Nothing,
}

/// A search by doubling and halving.
#[derive(Clone, Debug)]
struct Search {
    from: u64,
    max: u64,
    precision: u64,
    /// Rates that have held.
    held: BTreeSet<u64>,
    /// The lowest that has not.
    high: Option<u64>,
}

impl Search {
    const fn new(from: u64, max: u64, precision: u64) -> Self {
        Self { from, max, precision, held: BTreeSet::new(), high: None }
    }

    /// The highest rate that has held, below those that have not: what held before and does not now
    /// was luck.
    fn low(&self) -> Option<u64> {
        self.held.range(..self.high.unwrap_or(u64::MAX)).next_back().copied()
    }

    fn next(&self) -> Next {
        match (self.low(), self.high) {
            (None, None) => Next::Try(self.from.min(self.max)),
            (Some(low), None) if low >= self.max => Next::Found(low),
            (Some(low), None) => Next::Try((low * 2).min(self.max)),
            (None, Some(high)) if high <= 1 => Next::Nothing,
            (None, Some(high)) => Next::Try(high / 2),
            (Some(low), Some(high)) if (high - low) * 100 <= self.precision * low || high - low <= 1 => {
                Next::Found(low)
            }
            (Some(low), Some(high)) => Next::Try(low + (high - low) / 2),
        }
    }

    fn learn(&mut self, rate: u64, held: bool) {
        if held {
            self.held.insert(rate);
        } else {
            self.high = Some(self.high.map_or(rate, |high| high.min(rate)));
        }
    }
}

/// The verdict on a step. Where nothing went wrong and every connection stood, what is not answered
/// yet is a backlog, if there was one: the rate is too high, and nothing is broken. A gateway that
/// kept up and has not answered all the same has lost something.
///
/// `faults` and `gone`: messages that were wrong, and connections that went or did not come about.
fn verdict(run: Exit, faults: u64, gone: u64, kept_up: bool) -> Exit {
    if run == Exit::Failed && faults == 0 && gone == 0 && !kept_up { Exit::Exceeded } else { run }
}

/// Whether what was acked in the steady phase is what was sent: a message and its answer, so many a
/// second.
fn kept_up(acked_per_second: f64, rate: u64) -> bool {
    acked_per_second >= 0.95 * 2.0 * rate as f64
}

/// One run at one rate.
#[derive(Clone, Debug)]
struct Step {
    rate: u64,
    /// Whether the bounds held, and if not, what the run says.
    verdict: Exit,
    why: String,
    steady: Steady,
    /// p50 and p99 of acks, p99 of deliveries, in milliseconds.
    ms: [f64; 3],
    /// Lost, doubled, out of order or shown to a stranger.
    faults: u64,
}

impl Step {
    fn of(rate: u64, flags: &Flags, report: &Report, outcome: &Outcome) -> Self {
        let Outcome { plan, steady, tally, lost, open } = outcome;
        let ms = |ns: u64| ns as f64 / 1e6;
        let faults = lost + tally.doubled + tally.out_of_order + tally.misdelivered;
        let (board, wanted) = (&plan.board, u64::from(flags.pairs) * 2);
        let gone = board.sum(|l| &l.dropped) + board.sum(|l| &l.timeouts) + wanted.saturating_sub(*open);
        Self {
            rate,
            verdict: verdict(report.exit(), faults, gone, kept_up(steady.acked_per_second, rate)),
            why: report.failures().join(", "),
            steady: steady.clone(),
            ms: [
                ms(tally.ack_ns.value_at_quantile(0.5)),
                ms(tally.ack_ns.value_at_quantile(0.99)),
                ms(tally.delivery_ns.value_at_quantile(0.99)),
            ],
            faults,
        }
    }

    fn json(&self) -> Value {
        json!({
            "rate": self.rate,
            "verdict": self.verdict.name(),
            "why": self.why,
            "acked_per_second": self.steady.acked_per_second,
            "ack_p50_ms": self.ms[0],
            "ack_p99_ms": self.ms[1],
            "delivery_p99_ms": self.ms[2],
            "server_cpu_percent": self.steady.server_percent,
            "client_cpu_percent": self.steady.client_percent,
            "machine_cpu_percent": self.steady.machine_percent,
            "thread_cpu_percent": self.steady.threads,
        })
    }

    fn shown(&self) -> String {
        let cpu = self.steady.server_percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.0}"));
        let why = if self.why.is_empty() { "held".to_owned() } else { self.why.clone() };
        format!("{:>8}/s  ack p99 {:>8.1} ms  server {cpu:>4} %  {why}", self.rate, self.ms[1])
    }
}

/// What gave way, and whether that was this program.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Weakest {
    told: String,
    ours: bool,
}

impl Weakest {
    const fn theirs(told: String) -> Self {
        Self { told, ours: false }
    }
}

/// What there was least of in a run that did not hold, as the server's threads and this program
/// show it.
///
/// `cpus`: of the machine on which both are, if they are on one. `unknown`: why nothing is known of
/// threads, if nothing is.
fn gave_way(steady: &Steady, cpus: Option<&Cpus>, unknown: &str) -> Weakest {
    let busiest = |shards: bool| {
        let some = steady.threads.iter().filter(|(name, _)| !shards || name.starts_with(SHARD));
        some.max_by(|a, b| a.1.total_cmp(b.1))
    };
    if let Some((shard, percent)) = busiest(true).filter(|(_, percent)| **percent >= BUSY_PERCENT) {
        return Weakest::theirs(format!("the core of `{shard}`: it used {percent:.0} % of one"));
    }
    if let Some(weakest) = cpus.and_then(|cpus| full(steady, cpus)) {
        return weakest;
    }
    if let Some(percent) = steady.committing_percent.filter(|percent| *percent >= BUSY_PERCENT) {
        return Weakest::theirs(format!(
            "the store, if one thread writes (as with SQLite): transactions took {percent:.0} % of the time together, \
             waiting for the disk or the database"
        ));
    }
    let used = |percent: Option<f64>| percent.map_or_else(|| "?".to_owned(), |percent| format!("{percent:.0}"));
    let both = format!(
        "the server used {} % of a core, this program {} %",
        used(steady.server_percent),
        used(steady.client_percent)
    );
    Weakest::theirs(match busiest(false) {
        None => format!("not known: {unknown}; {both}"),
        Some((thread, percent)) => {
            let most = match thread.starts_with(SHARD) {
                true => format!("`{thread}` used {percent:.0} % of one"),
                false => format!("the threads of `{thread}` used {percent:.0} % of one together"),
            };
            format!("not known: no shard's core was busy (the most: {most}); {both}")
        }
    })
}

/// A number of cores, for people.
fn cores(number: usize) -> String {
    format!("{number} core{}", if number == 1 { "" } else { "s" })
}

/// The CPUs that were used up, if some were.
fn full(steady: &Steady, cpus: &Cpus) -> Option<Weakest> {
    let (server, client) = (steady.server_percent, steady.client_percent);
    let is_full = |percent: f64, cores: usize| cores > 0 && percent >= FULL_PERCENT * cores as f64;
    let together = |number: usize| {
        let used = server? + client?;
        let told = format!("this machine: the server and this program used {used:.0} % of {} together", cores(number));
        is_full(used, number).then_some(Weakest::theirs(told))
    };
    // A quota of this program alone is its own limit; one of both is as if there were no more
    // cores.
    let bounded = |number: usize| cpus.quota.filter(|_| cpus.quota_of_both).map_or(number, |quota| quota.min(number));
    let own_cores = cpus.quota.unwrap_or(cpus.ours.len());
    let client_alone = || {
        let percent = client.filter(|percent| is_full(*percent, own_cores))?;
        let told = format!("this program's {}, not the server: it used {percent:.0} % of one", cores(own_cores));
        Some(Weakest { told, ours: true })
    };
    let quota_alone = || cpus.quota.filter(|_| !cpus.quota_of_both).and_then(|_| client_alone());
    let Some(theirs) = &cpus.theirs else { return together(bounded(cpus.online)) };
    let ours = &cpus.ours;
    if !ours.is_disjoint(theirs) {
        return quota_alone().or_else(|| together(bounded(ours.union(theirs).count())));
    }
    if let Some(percent) = server.filter(|percent| is_full(*percent, theirs.len())) {
        let told = format!("the {} that the server may use: it used {percent:.0} % of one", cores(theirs.len()));
        return Some(Weakest::theirs(told));
    }
    client_alone()
}

impl Flags {
    /// The run of one step.
    fn at(&self, rate: u64, seconds: u64) -> direct::Flags {
        let measure = Measure { seconds, payload: self.payload, drain: DRAIN_SECONDS };
        direct::Flags::bounded(self.options.clone(), measure, self.pairs, Load::Rate(rate), self.p99_ms)
    }

    fn run_at(&self, rate: u64, seconds: u64, interrupt: &Interrupt) -> Result<(Step, Outcome)> {
        let (report, outcome) = direct::judged(&self.at(rate, seconds), interrupt)?;
        let step = Step::of(rate, self, &report, &outcome);
        say(&step.shown());
        if step.verdict == Exit::Failed {
            // A gateway that went may come back. If it does not, the next run says so.
            self.options.await_listeners(RETURN_SECONDS, interrupt)?;
        }
        Ok((step, outcome))
    }

    /// Goes on until the highest rate that holds is found, as far as it is not interrupted.
    fn search(&self, search: &mut Search, steps: &mut Vec<Step>, interrupt: &Interrupt) -> Result<Option<u64>> {
        loop {
            let rate = match search.next() {
                Next::Try(rate) => rate,
                Next::Found(rate) => return Ok(Some(rate)),
                Next::Nothing => return Ok(None),
            };
            let mut held = false;
            // A bad step may be another program's doing: it is tried again. What has failed has,
            // and no second try undoes that.
            for _ in 0..2 {
                let (step, _) = self.run_at(rate, self.step_seconds, interrupt)?;
                held = step.verdict == Exit::Passed;
                let (ends, failed) = (interrupt.is_set() || step.faults > 0, step.verdict == Exit::Failed);
                steps.push(step);
                if ends {
                    return Ok(None);
                }
                if held || failed {
                    break;
                }
            }
            search.learn(rate, held);
        }
    }

    /// Searches and proves, as far as the gateway lets it. What it has shown until then is in
    /// `steps`, also of a run that could not go on.
    fn find(&self, steps: &mut Vec<Step>, interrupt: &Interrupt) -> Result<Option<(u64, Outcome)>> {
        let mut search = Search::new(self.from_rate, self.rate_max, self.precision);
        for _ in 0..PROOFS_MAX {
            let Some(rate) = self.search(&mut search, steps, interrupt)? else { break };
            let (step, outcome) = self.run_at(rate, self.verify_seconds, interrupt)?;
            let (held, ends) = (step.verdict == Exit::Passed, interrupt.is_set() || step.faults > 0);
            steps.push(step);
            if held {
                return Ok(Some((rate, outcome)));
            }
            if ends {
                break;
            }
            search.learn(rate, false);
        }
        Ok(None)
    }
}

/// A worker's part of one step.
pub(crate) fn part(flags: &Flags, station: &mut Station) -> Result<()> {
    let (rate, seconds) = station.part()?.load.context("the control has told no rate")?;
    ensure!((1..=RATE_MAX).contains(&rate) && (1..=SECONDS_MAX).contains(&seconds), "{rate}/s for {seconds} s");
    direct::part(&flags.at(rate, seconds), station)
}

pub(crate) fn run(flags: &Flags, interrupt: &Interrupt) -> Result<Report> {
    ensure!(!flags.options.legacy, "the old pages' protocol has no acks to measure");
    let mut steps = Vec::new();
    let (proof, broken) = match flags.find(&mut steps, interrupt) {
        Ok(proof) => (proof, None),
        // Before anything was measured there is no result.
        Err(error) if steps.is_empty() => return Err(error),
        Err(error) => (None, Some(error)),
    };
    let mut report = Report::new("capacity", interrupt);
    if let Some(error) = broken.filter(|_| !interrupt.is_set()) {
        report.fail(Exit::Failed, format!("the next run could not be made: {error:#}"));
    }
    tell(&mut report, flags, &steps, proof.as_ref().map(|(rate, _)| *rate));
    if let Some((_, Outcome { plan, steady, tally, .. })) = &proof {
        report.latency("ack_latency", &tally.ack_ns);
        report.latency("delivery_latency", &tally.delivery_ns);
        report.steady(steady);
        plan.tell_workers(&mut report);
        flags.options.show(&mut report, plan);
    }
    Ok(report)
}

/// `proved`: the answer.
fn tell(report: &mut Report, flags: &Flags, steps: &[Step], proved: Option<u64>) {
    report.count("pairs", u64::from(flags.pairs));
    report.count("payload_bytes", u64::from(flags.payload));
    report.figure("p99_bound", Some(flags.p99_ms), "ms");
    let shown: Vec<String> = steps.iter().map(Step::shown).collect();
    report.value("steps", steps.iter().map(Step::json).collect(), format!("\n  {}", shown.join("\n  ")));
    report.figure("capacity", proved.map(|rate| rate as f64), "messages/s, and as many answers");
    if let Some(rate) = held_at_first(steps, proved) {
        let shown = format!(
            "{rate}/s, later not: the machine was busy with something else, or what the gateway keeps has grown"
        );
        report.value("held_at_first", json!(rate), shown);
    }
    let faults: u64 = steps.iter().map(|step| step.faults).sum();
    // A message that a stranger was shown counts here, too: the run's failure says which it was.
    report.must_be_zero("lost_doubled_or_out_of_order", faults);
    for step in steps.iter().filter(|step| step.verdict == Exit::Failed && step.faults == 0) {
        report.fail(Exit::Failed, format!("at {}/s: {}", step.rate, step.why));
    }
    let above = proved.unwrap_or(0);
    let refused = steps.iter().filter(|step| step.verdict != Exit::Passed && step.rate > above);
    // The lowest rate that did not hold says the most about what gave way first.
    let first = refused.min_by_key(|step| step.rate);
    let weakest = first.map(|step| match step.verdict {
        Exit::Limited => Weakest { told: format!("this program, not the server: {}", step.why), ours: true },
        _ => gave_way(&step.steady, flags.options.cpus().as_ref(), flags.options.threads_unknown()),
    });
    match weakest {
        Some(Weakest { told, ours }) => {
            report.text("gave_way", &told);
            if ours {
                report.fail(Exit::Limited, format!("the server may carry more; {told}"));
            }
        }
        None => report.text("gave_way", "nothing up to --rate-max"),
    }
    if proved.is_none() && report.exit() == Exit::Passed {
        report.fail(Exit::Exceeded, "no rate held for as long as the proof takes".to_owned());
    }
    by_rate(report, steps);
}

/// The highest rate that has held once and is above the answer: it has not held again.
fn held_at_first(steps: &[Step], proved: Option<u64>) -> Option<u64> {
    let held = steps.iter().filter(|step| step.verdict == Exit::Passed).map(|step| step.rate).max();
    held.filter(|&rate| rate > proved.unwrap_or(0))
}

/// The steps as plots.
fn by_rate(report: &mut Report, steps: &[Step]) {
    // Of a rate that was tried again the last try counts.
    let by_rate: BTreeMap<u64, &Step> = steps.iter().map(|step| (step.rate, step)).collect();
    let line = |name: &str, of: &dyn Fn(&Step) -> Option<f64>| {
        let points = by_rate.values().filter_map(|step| Some((step.rate as f64, of(step)?)));
        (name.to_owned(), points.collect::<Vec<_>>())
    };
    let across = "messages per second (answers come on top)";
    report.chart(Chart {
        title: "Latency by rate",
        across,
        up: "milliseconds",
        lines: vec![
            line("ack p50", &|step| Some(step.ms[0])),
            line("ack p99", &|step| Some(step.ms[1])),
            line("delivery p99", &|step| Some(step.ms[2])),
        ],
    });
    let mut threads: Vec<&String> = steps.iter().flat_map(|step| step.steady.threads.keys()).collect();
    threads.sort_unstable();
    threads.dedup();
    let mut lines = vec![
        line("server", &|step| step.steady.server_percent),
        line("this program", &|step| step.steady.client_percent),
    ];
    lines.extend(threads.into_iter().map(|name| line(name, &|step| step.steady.threads.get(name).copied())));
    report.chart(Chart { title: "CPU time by rate", across, up: "percent of one core", lines });
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use proptest::prelude::*;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        flags: Flags,
    }

    proptest! {
        #[test]
        fn a_search_ends_at_what_the_server_carries(
            carries in 0..RATE_MAX, from in 1..RATE_MAX, precision in 1..=50_u64
        ) {
            let mut search = Search::new(from, RATE_MAX, precision);
            let mut steps = 0;
            let found = loop {
                match search.next() {
                    Next::Try(rate) => {
                        prop_assert!((1..=RATE_MAX).contains(&rate));
                        search.learn(rate, rate <= carries);
                    }
                    Next::Found(rate) => break Some(rate),
                    Next::Nothing => break None,
                }
                steps += 1;
                prop_assert!(steps < 64, "it ends");
            };
            match found {
                None => prop_assert_eq!(carries, 0),
                Some(rate) => {
                    prop_assert!(rate <= carries);
                    prop_assert!(carries - rate <= (rate * precision / 100).max(1), "{} of {}", rate, carries);
                }
            }
        }
    }

    #[test]
    fn what_held_by_luck_is_looked_at_again() {
        let mut search = Search::new(100, 1_000, 5);
        search.learn(100, true);
        search.learn(200, true);
        search.learn(200, false);
        assert_eq!((search.low(), search.next()), (Some(100), Next::Try(150)));
        search.learn(100, false);
        assert_eq!((search.low(), search.next()), (None, Next::Try(50)));
    }

    #[test]
    fn a_backlog_is_a_rate_that_did_not_hold_and_no_failure() {
        assert_eq!(verdict(Exit::Failed, 0, 0, false), Exit::Exceeded, "only answers are missing");
        let broken = [(1, 0, false), (0, 1, false), (0, 0, true)];
        assert_eq!(
            broken.map(|(faults, gone, kept_up)| verdict(Exit::Failed, faults, gone, kept_up)),
            [Exit::Failed; 3]
        );
        assert_eq!([1_890.0, 1_901.0].map(|acked| kept_up(acked, 1_000)), [false, true], "of a message and its answer");
        for other in [Exit::Passed, Exit::Limited, Exit::Refused, Exit::Interrupted, Exit::Worker] {
            assert_eq!(verdict(other, 0, 0, false), other);
        }
    }

    #[test]
    fn a_rate_that_held_only_at_first_is_told() {
        let flags = Line::parse_from(["capacity", "--tokens", "file"]).flags;
        let step = |rate, verdict| Step {
            rate,
            verdict,
            why: String::new(),
            steady: Steady::default(),
            ms: [1.0; 3],
            faults: 0,
        };
        let told = |steps: &[Step], proved| {
            let mut report = Report::new("capacity", &Interrupt::default());
            tell(&mut report, &flags, steps, proved);
            report.rows().find(|(key, _)| *key == "held_at_first").map(|(_, shown)| shown.to_owned())
        };
        let (held, not) = (Exit::Passed, Exit::Exceeded);
        let steps = [step(2000, held), step(4000, held), step(8000, not), step(4000, not), step(2000, held)];
        let shown = told(&steps, Some(2000)).expect("a row");
        assert!(shown.starts_with("4000/s, later not"), "{shown}");
        assert!(told(&steps[..4], None).is_some(), "nothing was proved");
        assert_eq!(told(&steps[..3], Some(4000)), None);
        assert_eq!(told(&[step(1, not)], None), None);
    }

    #[test]
    fn what_gave_way_is_what_there_was_least_of() {
        let steady = |threads: &[(&str, f64)], server, committing| Steady {
            threads: threads.iter().map(|(name, percent)| ((*name).to_owned(), *percent)).collect(),
            server_percent: Some(server),
            client_percent: Some(20.0),
            committing_percent: Some(committing),
            ..Steady::default()
        };
        let unknown = "nothing could be read";
        let said = |steady: &Steady, cpus: Option<&Cpus>| gave_way(steady, cpus, unknown).told;
        let shared =
            Cpus { ours: [0, 1].into(), theirs: Some([0, 1].into()), online: 8, quota: None, quota_of_both: true };
        let shared = Some(&shared);
        assert!(
            said(&steady(&[("shard-1", 97.0), ("store", 60.0)], 160.0, 90.0), shared).contains("core of `shard-1`")
        );
        assert!(said(&steady(&[("shard-1", 80.0)], 165.0, 10.0), shared).contains("this machine"));
        assert!(said(&steady(&[("shard-1", 30.0)], 50.0, 95.0), shared).contains("the store"));
        let calm = said(&steady(&[("shard-1", 30.0)], 50.0, 5.0), shared);
        assert!(calm.contains("no shard's core was busy (the most: `shard-1` used 30 %"), "{calm}");
        // Several threads share a role: what they use together is no core.
        let many = said(&steady(&[("shard-1", 30.0), ("store", 88.0)], 120.0, 88.0), None);
        assert!(!many.contains("core of") && many.contains("if one thread writes"), "{many}");
        let many = said(&steady(&[("shard-1", 30.0), ("api", 100.0)], 140.0, 5.0), None);
        assert!(
            many.contains("not known") && many.contains("the threads of `api` used 100 % of one together"),
            "{many}"
        );
        assert!(said(&Steady::default(), None).contains(unknown));
    }

    #[test]
    fn cores_are_those_that_each_end_may_use() {
        let ended = |server, client, cpus: Option<&Cpus>| {
            let steady = Steady { server_percent: Some(server), client_percent: Some(client), ..Steady::default() };
            gave_way(&steady, cpus, "")
        };
        let apart = Cpus { ours: [1].into(), theirs: Some([0].into()), online: 2, quota: None, quota_of_both: true };
        let calm = ended(80.0, 30.0, Some(&apart));
        assert!(!calm.ours && !calm.told.contains("machine") && !calm.told.contains("may use"), "{calm:?}");
        let server = ended(98.0, 20.0, Some(&apart));
        assert!(!server.ours && server.told.contains("the 1 core that the server may use"), "{server:?}");
        let client = ended(50.0, 95.0, Some(&apart));
        assert!(client.ours && client.told.contains("this program's 1 core,"), "{client:?}");
        // Where it is not known what the server may use, only the whole machine says something.
        let unknown = Cpus { theirs: None, ..apart };
        assert!(ended(98.0, 95.0, Some(&unknown)).told.contains("% of 2 cores together"));
        let calm = ended(80.0, 47.0, Some(&unknown));
        assert!(calm.told.contains("the server used 80 % of a core, this program 47 %"), "{calm:?}");
        assert!(
            !ended(400.0, 400.0, None).told.contains("machine"),
            "nothing is said of a machine that is not this one"
        );
    }

    #[test]
    fn a_quota_is_as_good_as_a_lack_of_cores() {
        let ended = |server, client, cpus: &Cpus| {
            let steady = Steady { server_percent: Some(server), client_percent: Some(client), ..Steady::default() };
            gave_way(&steady, Some(cpus), "")
        };
        let all: BTreeSet<usize> = (0..64).collect();
        let of_both = Cpus { ours: all.clone(), theirs: Some(all), online: 64, quota: Some(2), quota_of_both: true };
        let unknown = Cpus { theirs: None, ..of_both.clone() };
        for cpus in [&of_both, &unknown] {
            let full = ended(100.0, 90.0, cpus);
            assert!(!full.ours && full.told.contains("% of 2 cores together"), "{full:?}");
        }
        let of_one = Cpus { quota_of_both: false, ..of_both };
        let server = ended(300.0, 90.0, &of_one);
        assert!(server.told.contains("not known"), "{server:?}");
        let client = ended(300.0, 190.0, &of_one);
        assert!(client.ours && client.told.contains("this program's 2 cores, not the server"), "{client:?}");
    }

    #[test]
    fn a_run_of_workers_or_elsewhere_says_nothing_of_this_machine() {
        let cpus = |line: &str| {
            let words = ["capacity", "--tokens", "file"].into_iter().chain(line.split_ascii_whitespace());
            Line::parse_from(words).flags.options.cpus()
        };
        assert!(cpus("").is_some_and(|cpus| cpus.theirs.is_none()));
        let own = format!("--server-pid {}", std::process::id());
        assert!(cpus(&own).is_some_and(|cpus| cpus.theirs == Some(cpus.ours)));
        assert_eq!(cpus("--workers 127.0.0.1:8090"), None);
        assert_eq!(cpus("--i-own-the-target --target 192.0.2.1:8081"), None);
    }
}
