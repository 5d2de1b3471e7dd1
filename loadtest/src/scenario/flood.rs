//! `flood`: attackers of one sort after another, and whether the well-behaved beside them feel it.
//!
//! Owns: the flags, the stages of each flood in their order, and the report. What is measured and
//! judged is in `crate::flood`.

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::ScopedJoinHandle;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;
use serde_json::json;

use crate::clock::{Clock, pause, seconds_ns};
use crate::exit::Exit;
use crate::flood::attack::{self, Fates};
use crate::flood::errand::{ACTS, Act};
use crate::flood::kind::Kind;
use crate::flood::measured::{Measured, at_ms};
use crate::flood::payload::Payload;
use crate::flood::prepare;
use crate::flood::signals::{FloodStage, Signals};
use crate::flood::verdict::{Bounds, FloodOutcome, FloodVerdict, judge};
use crate::flood::watch::{self, Findings, Paces, People};
use crate::flood::{Account, FloodUser, Target};
use crate::goals::milliseconds;
use crate::http::Url;
use crate::interrupt::Interrupt;
use crate::limits::{ATTACKERS_MAX, CONNECT_RATE_MAX, ERRANDS_MAX, SECONDS_MAX, SOURCES_MAX, raise_descriptors};
use crate::options::allow;
use crate::report::Report;
use crate::say::say;
use crate::stamp::Run;
use crate::tokens::Tokens;

/// Between two looks at the stage.
const LOOK_MS: u64 = 20;
/// How long the well-behaved may take until they are in: the flood before may have left traces.
const READY_SECONDS: u64 = 45;
/// How long the gateway's turn quantiles remember: a flood before this one must not be judged
/// again.
const FORGET_SECONDS: u64 = 150;
/// How long sessions and guests may gather.
const GATHER_SECONDS: u64 = 30;
/// Sessions of one user among the attackers: half of what the gateway allows.
const SESSIONS_PER_USER: usize = 4;
/// Accounts of the well-behaved that log in; the attackers have as many of their own.
const ACCOUNTS: usize = 4;
/// Users that come by WebSocket in turn.
const NEWCOMERS: usize = 16;

/// One flood or all of them.
#[derive(Clone, Copy, Debug)]
enum Which {
    All,
    One(Kind),
}

fn which(name: &str) -> Result<Which, String> {
    if name == "all" {
        return Ok(Which::All);
    }
    let names: Vec<&str> = Kind::all().iter().map(|kind| kind.name()).collect();
    Kind::from_str(name, false).map(Which::One).map_err(|_| format!("none of all, {}", names.join(", ")))
}

#[derive(Args, Clone, Debug)]
pub(crate) struct Flags {
    /// What to flood with, one after another: pongs, pings, fragments, typing, presence, marks,
    /// syncs, lists, posts, half-heads, idle-http, slow-bodies, slow-readers, connects, logins,
    /// registrations, pictures, guests, or all.
    #[arg(required = true, value_parser = which)]
    floods: Vec<Which>,
    /// Where the gateway listens: HOST:PORT.
    #[arg(long, default_value = "127.0.0.1:8081")]
    target: String,
    /// Its admin port: HOST:PORT.
    #[arg(long, default_value = "127.0.0.1:8082")]
    admin: String,
    /// Users: a file of `id token` lines, as `imgate seed` prints them. The first are the
    /// well-behaved.
    #[arg(long)]
    tokens: PathBuf,
    /// Attackers of each flood; without it, each flood has its own number.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=ATTACKERS_MAX as i64))]
    attackers: Option<u32>,
    /// Length of the flood, in seconds.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    seconds: u64,
    /// Length of the calm before it, in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    calm: u64,
    /// How long the gateway's memory may take to come back, in seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=600))]
    recovery: u64,
    /// Attacking threads.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    threads: u16,
    /// Connections that the attackers open per second, all together.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=CONNECT_RATE_MAX))]
    connect_rate: u64,
    /// Source addresses of the attackers in 127.0.0.0/8 (loopback targets only); 1: that of the
    /// well-behaved.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=SOURCES_MAX as i64))]
    sources: u8,
    /// Pairs of well-behaved users whose sessions stand.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=100))]
    pairs: u16,
    /// Heartbeats per second, all pairs together.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    heartbeats: u32,
    /// Direct messages per second, all pairs together.
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    directs: u32,
    /// Newcomers per second by WebSocket, and as many by HTTP.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    newcomers: u32,
    /// Logins per second; 0: no logins, and no accounts are registered.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=20))]
    logins: u32,
    /// p99 of heartbeats and direct messages may be so many times the calm one …
    #[arg(long, default_value_t = 3.0)]
    factor: f64,
    /// … and so many milliseconds more.
    #[arg(long, default_value_t = 5.0)]
    slack_ms: f64,
    /// They may not be above so many milliseconds, whatever the calm was.
    #[arg(long, value_name = "MS", value_parser = milliseconds)]
    p99_ms: Option<f64>,
    /// Every newcomer must be in within so many milliseconds.
    #[arg(long, default_value_t = 1_000.0)]
    within_ms: f64,
    /// p99.9 of the gateway's turns, in milliseconds.
    #[arg(long, default_value_t = 20.0)]
    turn_ms: f64,
    /// Resident memory of the gateway at any second, in MiB: the sum of its memory budgets by
    /// default, and 64.
    #[arg(long, default_value_t = 448)]
    rss_budget: u64,
    /// How much of it may stay behind the recovery, in MiB.
    #[arg(long, default_value_t = 16)]
    rss_back: u64,
    /// p99 of the measuring thread's own lateness, in milliseconds; beyond it slow answers prove
    /// nothing.
    #[arg(long, default_value_t = 2.0)]
    lag_ms: f64,
    /// Allow a target that is not this machine. A flood of another's server is an attack.
    #[arg(long, alias = "yes-the-target-is-mine")]
    i_own_the_target: bool,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What all floods of a run share.
struct Course<'a> {
    flags: &'a Flags,
    target: Target,
    people: People,
    /// Users of the attackers.
    crowd: Vec<FloodUser>,
    /// Accounts that attackers log in to.
    accounts: Vec<Account>,
    salt: u64,
    interrupt: Interrupt,
}

pub(crate) fn run(flags: &Flags, interrupt: &Interrupt) -> Result<Report> {
    let kinds: Vec<Kind> = flags
        .floods
        .iter()
        .flat_map(|which| match which {
            Which::All => Kind::all().to_vec(),
            Which::One(kind) => vec![*kind],
        })
        .collect();
    // A report has one place for each.
    let kinds: Vec<Kind> =
        kinds.iter().enumerate().filter(|(at, kind)| !kinds[..*at].contains(kind)).map(|(_, kind)| *kind).collect();
    let run = prepare_run(flags, &kinds, interrupt)?;
    let (mut judged, mut unfit, mut library) = (Vec::new(), Vec::new(), None);
    for kind in kinds {
        if interrupt.is_set() {
            break;
        }
        let outcome = match one(&run, kind, &mut library) {
            Ok(outcome) => outcome,
            // What was not prepared was not judged.
            Err(_) if interrupt.is_set() => break,
            Err(error) => {
                let why = format!("refused: {error:#}");
                say(&format!("{}: {why}", kind.name()));
                unfit.push((kind, why));
                continue;
            }
        };
        let verdict = judge(&flags.bounds(), &outcome);
        say(&format!("{}: {}", kind.name(), sentence(&verdict)));
        judged.push((kind, outcome, verdict));
    }
    let mut report = Report::new("flood", interrupt);
    report.text("target", &run.target.public.host);
    for (kind, why) in unfit {
        report.fail(Exit::Unfit, format!("{}: {why}", kind.name()));
        report.value(kind.name(), json!({"verdict": "refused", "reasons": [&why]}), why);
    }
    conclude(&mut report, &flags.bounds(), &judged);
    Ok(report)
}

impl Flags {
    fn bounds(&self) -> Bounds {
        Bounds {
            factor: self.factor,
            slack_ms: self.slack_ms,
            p99_ms: self.p99_ms,
            within_ms: self.within_ms,
            turn_ms: self.turn_ms,
            rss_mib: self.rss_budget,
            rss_back_mib: self.rss_back,
            lag_ms: self.lag_ms,
        }
    }

    fn paces(&self) -> Paces {
        Paces {
            heartbeats: self.heartbeats,
            directs: self.directs,
            newcomers: self.newcomers,
            logins: self.logins,
            within_ns: (self.within_ms * 1e6) as u64,
        }
    }

    fn attackers(&self, kind: Kind) -> usize {
        self.attackers.map_or_else(|| kind.attackers(), |attackers| attackers as usize)
    }
}

/// Looks at the flags, reads the users, raises the descriptor limit, and registers accounts.
fn prepare_run<'a>(flags: &'a Flags, kinds: &[Kind], interrupt: &Interrupt) -> Result<Course<'a>> {
    let public = Url::parse(&format!("http://{}", flags.target))?;
    let admin = Url::parse(&format!("http://{}", flags.admin))?;
    let address = allow(&public, flags.i_own_the_target)?;
    let admin_address = allow(&admin, flags.i_own_the_target)?;
    let threads = usize::from(flags.threads);
    let target = Target {
        address,
        public,
        admin,
        admin_address,
        clock: Clock::start(),
        sources: if address.ip().is_loopback() && address.is_ipv4() { flags.sources } else { 1 },
        connect_gap_ns: 1_000_000_000 * threads as u64 / flags.connect_rate,
        threads,
    };
    let tokens = Tokens::read(&flags.tokens)?;
    let residents = 2 * usize::from(flags.pairs);
    let well = residents + NEWCOMERS;
    let most = kinds.iter().map(|kind| flags.attackers(*kind)).max().unwrap_or(0);
    let users = kinds.iter().filter(|kind| kind.needs_users()).map(|kind| flags.attackers(*kind)).max().unwrap_or(0);
    tokens.need(well + users.div_ceil(SESSIONS_PER_USER))?;
    raise_descriptors(most + residents + ERRANDS_MAX)?;
    let user = |place: usize| {
        let (id, token) = tokens.get(place);
        FloodUser { id, token: token.to_owned() }
    };
    let salt = Run::new().number();
    let attacked = kinds.contains(&Kind::Logins);
    ensure!(flags.logins > 0 || !attacked, "the flood of logins needs --logins");
    let count = if flags.logins > 0 { ACCOUNTS } else { 0 };
    let mut accounts = prepare::accounts(&target, salt, if attacked { 2 * count } else { count }, interrupt)
        .context("the target refuses")?;
    let own = accounts.drain(..count).collect();
    Ok(Course {
        flags,
        target,
        people: People {
            residents: (0..residents).map(user).collect(),
            newcomers: (residents..well).map(user).collect(),
            accounts: own,
        },
        crowd: (well..tokens.len().min(well + users)).map(user).collect(),
        accounts,
        salt,
        interrupt: interrupt.clone(),
    })
}

/// One flood from calm to recovery. An error: the gateway was not fit to be flooded.
fn one(run: &Course<'_>, kind: Kind, library: &mut Option<u64>) -> Result<FloodOutcome> {
    let Course { flags, target, people, crowd, accounts, salt, .. } = run;
    let attackers = flags.attackers(kind);
    let users: Vec<FloodUser> =
        if kind.needs_users() { crowd.iter().take(attackers).cloned().collect() } else { Vec::new() };
    if kind.needs_library() && library.is_none() {
        say(&format!("{}: a group with a history for {} users", kind.name(), crowd.len()));
        *library = Some(prepare::library(target, crowd, &run.interrupt)?);
    }
    let payload = Payload::new(kind, &target.public.host, users, accounts.clone(), library.unwrap_or(0), *salt)?;
    let signals = Signals::new(target.threads, run.interrupt.clone());
    std::thread::scope(|scope| {
        let ending = Ending(&signals);
        let watcher = scope.spawn(|| watch::run(target, people, flags.paces(), &signals));
        let mut stages = Stages { run, kind, signals: &signals, standing_max: 0 };
        let calm = stages.calm();
        let mut back_seconds = None;
        let fates = match &calm {
            Ok(()) if !signals.interrupted() => {
                let (payload, signals) = (&payload, &signals);
                let attack = |lane| scope.spawn(move || attack::run(target, payload, kind, signals, lane, attackers));
                let threads: Vec<_> = (0..target.threads).map(attack).collect();
                stages.flood(attackers);
                signals.enter(FloodStage::After);
                let fates = joined(threads);
                back_seconds = stages.recover();
                fates
            }
            _ => Ok(Fates::default()),
        };
        drop(ending);
        let findings = match watcher.join() {
            Ok(findings) => findings.context("the measuring thread failed"),
            Err(_) => bail!("the measuring thread panicked"),
        };
        calm?;
        let (findings, fates) = (findings?, fates?);
        let standing_max = stages.standing_max;
        Ok(outcome(&signals, findings, fates, (attackers, standing_max), back_seconds))
    })
}

fn outcome(
    signals: &Signals,
    findings: Findings,
    fates: Fates,
    (attackers, standing_max): (usize, u64),
    back_seconds: Option<f64>,
) -> FloodOutcome {
    let unfit = fit(&findings.stages[FloodStage::Calm as usize]);
    FloodOutcome {
        attackers,
        unfit: unfit.map(|why| format!("the gateway is in trouble before there is a flood: {why}")),
        findings,
        fates,
        standing_max,
        stood: signals.sum(|lane| &lane.stood),
        ended: signals.sum(|lane| &lane.ended),
        short: signals.sum(|lane| &lane.short),
        sent_bytes: signals.sum(|lane| &lane.sent_bytes),
        received_bytes: signals.sum(|lane| &lane.received_bytes),
        threads: signals.lanes.len(),
        back_seconds,
        interrupted: signals.interrupted(),
    }
}

/// The attackers' fates of all threads.
fn joined(threads: Vec<ScopedJoinHandle<'_, Result<Fates>>>) -> Result<Fates> {
    let count = threads.len() as u64;
    let mut all = Fates::default();
    for thread in threads {
        let Ok(fates) = thread.join() else { bail!("an attacking thread panicked") };
        let Fates { closes, statuses, cpu_ns, flood_ns } = fates.context("an attacking thread failed")?;
        for (sum, one) in [(&mut all.closes, closes), (&mut all.statuses, statuses)] {
            one.into_iter().for_each(|(code, n)| *sum.entry(code).or_default() += n);
        }
        all.cpu_ns += cpu_ns / count;
        all.flood_ns = all.flood_ns.max(flood_ns);
    }
    Ok(all)
}

/// Why a calm is none.
fn fit(calm: &Measured) -> Option<String> {
    let mut wrong = Vec::new();
    for act in ACTS {
        let visits = calm.visits(act);
        let of_all = |(why, n): (&String, &u64)| format!("{}: {n} of {} failed: {why}", act.name(), visits.all());
        wrong.extend(visits.failed.iter().map(of_all));
    }
    wrong.extend(calm.lost.iter().map(|(why, n)| format!("{n} sessions went: {why}")));
    if calm.unanswered > 0 {
        wrong.push(format!("{} heartbeats and messages had no answer", calm.unanswered));
    }
    (!wrong.is_empty()).then(|| wrong.join("; "))
}

/// The stages of one flood, one after another.
struct Stages<'a> {
    run: &'a Course<'a>,
    kind: Kind,
    signals: &'a Signals,
    standing_max: u64,
}

impl Stages<'_> {
    /// Waits until `done` or for some seconds, or until Ctrl-C. True: `done`.
    fn wait(&mut self, seconds: f64, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let clock = self.run.target.clock;
        let until = clock.nanos() + (seconds * 1e9) as u64;
        loop {
            self.standing_max = self.standing_max.max(self.signals.sum(|lane| &lane.standing));
            if done(self) {
                return true;
            }
            if clock.nanos() >= until || self.signals.interrupted() {
                return false;
            }
            pause(LOOK_MS);
        }
    }

    /// The well-behaved come in and are measured alone.
    fn calm(&mut self) -> Result<()> {
        let (kind, flags) = (self.kind.name(), self.run.flags);
        let residents = self.run.people.residents.len() as u64;
        let ready = self.wait(READY_SECONDS as f64, |stages| {
            stages.signals.residents.get() >= residents && stages.signals.readings.load(Relaxed) > 0
        });
        if self.signals.interrupted() {
            return Ok(());
        }
        let (standing, readings) = (self.signals.residents.get(), self.signals.readings.load(Relaxed));
        ensure!(
            ready,
            "within {READY_SECONDS} s {standing} of {residents} users are in, and the metrics came {readings} times"
        );
        let turn_us = (flags.turn_ms * 1e3) as u64;
        let remembered = |signals: &Signals| signals.turn_us.load(Relaxed) > turn_us;
        if remembered(self.signals) {
            say(&format!("{kind}: the gateway's turn quantiles remember what was before, at most {FORGET_SECONDS} s"));
            self.wait(FORGET_SECONDS as f64, |stages| !remembered(stages.signals));
        }
        say(&format!("{kind}: calm for {} s", flags.calm));
        self.signals.enter(FloodStage::Calm);
        self.wait(flags.calm as f64, |_| false);
        Ok(())
    }

    /// The attackers come, and flood.
    fn flood(&mut self, attackers: usize) {
        let (kind, seconds) = (self.kind.name(), self.run.flags.seconds);
        if self.kind.manner(1).gathers() {
            self.signals.enter(FloodStage::Gathering);
            say(&format!("{kind}: {attackers} attackers gather"));
            // In steps of two: every second one of the stalled connections is no session.
            self.wait(GATHER_SECONDS as f64, |stages| stages.standing_max >= attackers as u64);
        }
        say(&format!("{kind}: {attackers} attackers for {seconds} s"));
        self.signals.enter(FloodStage::Flooding);
        self.wait(seconds as f64, |_| false);
    }

    /// Waits for late answers and for the memory. Returns how long that took, if it came back.
    fn recover(&mut self) -> Option<f64> {
        let (flags, clock) = (self.run.flags, self.run.target.clock);
        let start = self.signals.rss_start_bytes();
        let begun = clock.nanos();
        let mut back_ns = None;
        say(&format!("{}: recovery", self.kind.name()));
        let patience_ns = flags.paces().patience_ns() + seconds_ns(1);
        let late = begun + patience_ns;
        let readings = self.signals.readings.load(Relaxed);
        self.wait((flags.recovery as f64).max(patience_ns as f64 / 1e9), |stages| {
            let now = clock.nanos();
            // The first reading behind the end may have been asked for before it.
            let fresh = stages.signals.readings.load(Relaxed) > readings + 1;
            let rss = stages.signals.rss_bytes.load(Relaxed);
            if back_ns.is_none() && fresh && rss <= start + flags.rss_back * 1_048_576 {
                back_ns = Some(now);
            }
            back_ns.is_some() && (stages.signals.awaited.get() == 1 || now >= late)
        });
        back_ns.map(|at| (at - begun) as f64 / 1e9)
    }
}

/// Ends all threads of a flood, whatever becomes of the one that conducts it.
struct Ending<'a>(&'a Signals);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.enter(FloodStage::Done);
    }
}

/// One line about a judgement.
fn sentence(verdict: &FloodVerdict) -> String {
    let (name, reasons) = verdict.told();
    let reasons: Vec<&str> = reasons.iter().map(String::as_str).collect();
    if reasons.is_empty() { name.to_owned() } else { format!("{name}: {}", reasons.join("; ")) }
}

/// A flood for people: the judgement, then what was measured.
fn shown(outcome: &FloodOutcome, verdict: &FloodVerdict) -> String {
    let codes = |counts: &std::collections::BTreeMap<u16, u64>| {
        let all: Vec<String> = counts.iter().map(|(code, n)| format!("{code}: {n}")).collect();
        if all.is_empty() { "none".to_owned() } else { all.join("  ") }
    };
    let percent = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.0} %"));
    format!(
        "{}\n      {} attackers, at most {} at once; {} stood, {} ended; sent {} KiB, received {} KiB; \
         gateway {}, each attacking thread {}\n      closes {}; statuses {}",
        sentence(verdict),
        outcome.attackers,
        outcome.standing_max,
        outcome.stood,
        outcome.ended,
        outcome.sent_bytes / 1024,
        outcome.received_bytes / 1024,
        percent(outcome.gateway_percent()),
        percent(outcome.attackers_percent()),
        codes(&outcome.fates.closes),
        codes(&outcome.fates.statuses),
    )
}

/// The table at the end, and the exit code.
fn conclude(report: &mut Report, bounds: &Bounds, judged: &[(Kind, FloodOutcome, FloodVerdict)]) {
    for (kind, outcome, verdict) in judged {
        report.value(kind.name(), outcome.json(bounds, verdict), shown(outcome, verdict));
    }
    let mut table = format!(
        "\n  {:14} {:12} {:>17} {:>17} {:>17} {:>9} {:>9} {:>9} {:>9} {:>9} {:>17}\n",
        "flood",
        "verdict",
        "heartbeat p99",
        "ack p99",
        "delivery p99",
        "ws in",
        "http in",
        "login in",
        "admin",
        "turn p99.9",
        "RSS MiB"
    );
    for (kind, outcome, verdict) in judged {
        table.push_str(&row(*kind, outcome, verdict));
        if verdict.exit() != Exit::Passed {
            report.fail(verdict.exit(), format!("{}: {}", kind.name(), verdict.told().0));
        }
    }
    let rows: Vec<_> = judged.iter().map(|(kind, _, verdict)| json!([kind.name(), verdict.told().0])).collect();
    report.value("verdicts", json!(rows), table);
}

fn row(kind: Kind, outcome: &FloodOutcome, verdict: &FloodVerdict) -> String {
    let [calm, flood] = [FloodStage::Calm, FloodStage::Flooding].map(|stage| outcome.stage(stage));
    let ms = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"));
    let p99 = |of: fn(&Measured) -> &Histogram<u64>| {
        format!("{} > {}", ms(at_ms(of(calm), 0.99)), ms(at_ms(of(flood), 0.99)))
    };
    let share = |acts: &[Act]| {
        let (in_time, all) = acts
            .iter()
            .map(|act| flood.visits(*act))
            .fold((0, 0), |(in_time, all), visits| (in_time + visits.in_time, all + visits.all()));
        format!("{in_time}/{all}")
    };
    let mib = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |mib| format!("{mib:.0}"));
    let [start, most, last] = outcome.rss_mib().map(mib);
    format!(
        "  {:14} {:12} {:>17} {:>17} {:>17} {:>9} {:>9} {:>9} {:>9} {:>9} {:>17}\n",
        kind.name(),
        verdict.told().0.split(' ').next().unwrap_or_default(),
        p99(|measured| &measured.heartbeat_ns),
        p99(|measured| &measured.ack_ns),
        p99(|measured| &measured.delivery_ns),
        share(&[Act::Websocket]),
        share(&[Act::Http]),
        share(&[Act::Login]),
        share(&[Act::Healthz, Act::Readyz, Act::Metrics]),
        ms(outcome.turns_ms()[0]),
        format!("{start} > {most} > {last}"),
    )
}
