//! `verify`: users with several devices talk, break off and come back while the server is killed;
//! at the end everything is compared with everything.
//!
//! Owns: the flags, the order of the stages, the report. What a device does and what is compared is
//! in [`crate::verify`].
//! Never: ends without a verdict because a stage did not come to its end; what is missing then is a
//! finding.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::board::Count;
use crate::clock::{Clock, pause, seconds_ns};
use crate::goals::{Generator, Goals};
use crate::http::{Door, Url, await_answer};
use crate::interrupt::Interrupt;
use crate::limits::{
    ABANDONED_MAX, DEVICES_MAX, GROUPS_MAX, LINGER_MS, PAYLOAD_BYTES_MAX, RATE_MAX, SECONDS_MAX, SERVERS_MAX,
    THREADS_MAX, raise_descriptors,
};
use crate::options::allow;
use crate::report::Report;
use crate::tokens::Tokens;
use crate::verify::audit::{Audited, audit};
use crate::verify::book::{Book, Conv, Fault, Finding};
use crate::verify::crew::{self, Crew, histogram};
use crate::verify::dice::mix;
use crate::verify::keeper::{Duty, Keeper, Order, duration_ns};
use crate::verify::people::{User, Wish, assemble};
use crate::verify::{CrewLane, Habits, RunStage, World};

/// Between two looks at the run.
const LOOK_MS: u64 = 20;
/// How long the server may take until it answers for the first time, and again after the torment.
const START_SECONDS: u64 = 30;
/// How long before a finding an event is told with it.
const STORY_MS: u32 = 30_000;

#[derive(Args, Clone, Debug)]
pub(crate) struct Flags {
    /// Where the gateway listens: HOST:PORT. Several, with commas: gateways of one system; a user's
    /// devices are on different ones, and each comes back to another one.
    #[arg(long, default_value = "127.0.0.1:8081", value_delimiter = ',')]
    target: Vec<String>,
    /// Users.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(2..=DEVICES_MAX as i64))]
    users: u32,
    /// Devices of each user, all of them online.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=16))]
    devices: u16,
    /// Groups to make.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=GROUPS_MAX as i64))]
    groups: u32,
    /// Members of each group.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=DEVICES_MAX as i64))]
    group_size: u32,
    /// Groups that exist already and that users of --tokens are members of, instead of new ones.
    #[arg(long, value_delimiter = ',', requires = "tokens")]
    group_ids: Vec<u64>,
    /// Users that exist already: a file of `id token` lines. Without it they are registered over
    /// HTTP.
    #[arg(long)]
    tokens: Option<PathBuf>,
    /// Messages per second, all devices together.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=RATE_MAX))]
    rate: u64,
    /// How long messages are sent and the torment lasts.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    seconds: u64,
    /// Mean bytes of content.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=PAYLOAD_BYTES_MAX as i64))]
    payload: u32,
    /// Mean time between two disconnects of a device (clean, reset, or left standing); 0s: never.
    #[arg(long, default_value = "15s")]
    churn: String,
    /// Share of the devices that stop reading now and then, with small receive buffers, as in 10%.
    #[arg(long, default_value = "0%", value_parser = permille)]
    stalled: u64,
    /// Share of the messages with which an old acked one is sent again, as in 5%.
    #[arg(long, default_value = "5%", value_parser = permille)]
    repeats: u64,
    /// Share of the messages that are sent to other people's groups, where they must be refused.
    #[arg(long, default_value = "0.5%", value_parser = permille)]
    intrusions: u64,
    /// Run a command once, at a time of the torment: --at 10s 'kill -9 $PID'. Repeatable.
    #[arg(long, num_args = 2, value_names = ["TIME", "COMMAND"], action = clap::ArgAction::Append)]
    at: Vec<String>,
    /// Run a command again and again: --every 20s 'kill -9 $PID'. Repeatable.
    #[arg(long, num_args = 2, value_names = ["TIME", "COMMAND"], action = clap::ArgAction::Append)]
    every: Vec<String>,
    /// Start a server with this command line, give its process as PID to the commands, and start
    /// it again when it dies. Repeatable: PID is each of them in its turn, and PID_1, PID_2, … are
    /// all of them.
    #[arg(long, action = clap::ArgAction::Append)]
    server_cmd: Vec<String>,
    /// Where the output of --server-cmd is appended. Without it its errors are shown here.
    #[arg(long, requires = "server_cmd")]
    server_log: Option<PathBuf>,
    /// How late a message may be on a device that is connected and reads, after the first device
    /// has it: 10s. Later is a finding.
    #[arg(long, value_name = "TIME")]
    lag_max: Option<String>,
    /// The server may forget old messages (`keep_age` and its like): what it says is not kept any
    /// more is counted. Without it that is a loss.
    #[arg(long)]
    retention: bool,
    /// The random choices; the report names it.
    #[arg(long)]
    seed: Option<u64>,
    /// How long each stage of the end may take: everything acked and heard of, all devices synced,
    /// everything read again.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=600))]
    drain: u64,
    /// Threads of the devices.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=THREADS_MAX as i64))]
    threads: u16,
    /// Allow a target that is not this machine.
    #[arg(long)]
    i_own_the_target: bool,
    #[command(flatten)]
    goals: Goals,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Reads `10%` or `10` as 100 in a thousand.
fn permille(text: &str) -> Result<u64, String> {
    let number: f64 = text.trim_end_matches('%').parse().map_err(|_| format!("{text:?} is not a share: write 10%"))?;
    if (0.0..=100.0).contains(&number) {
        Ok((number * 10.0) as u64)
    } else {
        Err(format!("{text:?} is not between 0% and 100%"))
    }
}

impl Flags {
    fn orders(&self) -> Result<Vec<Order>> {
        let mut orders = Vec::new();
        for (flags, again) in [(&self.at, false), (&self.every, true)] {
            for two in flags.chunks_exact(2) {
                let at_ns = duration_ns(&two[0])?;
                ensure!(!again || at_ns >= 100_000_000, "--every: at least 100ms");
                orders.push(Order { at_ns, every_ns: again.then_some(at_ns), command: two[1].clone() });
            }
        }
        Ok(orders)
    }

    fn habits(&self) -> Result<Habits> {
        let lag_ms_max = |text: &String| {
            let ms = duration_ns(text)? / 1_000_000;
            u32::try_from(ms).context("--lag-max: at most 49 days")
        };
        let devices = u64::from(self.users) * u64::from(self.devices);
        ensure!(devices <= DEVICES_MAX as u64, "at most {DEVICES_MAX} devices, {devices} asked for");
        Ok(Habits {
            send_gap_ns: devices * 1_000_000_000 / self.rate,
            churn_ns: duration_ns(&self.churn)?,
            stalled_permille: self.stalled,
            repeat_permille: self.repeats,
            intrusion_permille: self.intrusions,
            payload: self.payload as usize,
            devices: self.devices,
            lag_ms_max: self.lag_max.as_ref().map(lag_ms_max).transpose()?,
            retention: self.retention,
        })
    }
}

/// A run from outside: what is conducted, and what is shown meanwhile.
struct Conductor<'a> {
    flags: &'a Flags,
    bases: &'a [Url],
    clock: Clock,
    keeper: &'a Keeper,
    bar: ProgressBar,
    interrupt: &'a Interrupt,
}

/// One of a thread's counters.
type Counter = fn(&CrewLane) -> &Count;

/// What a run found out.
struct Findings {
    world: Arc<World>,
    ack_ns: Histogram<u64>,
    lag_ns: Histogram<u64>,
    audited: Audited,
    run_seconds: f64,
}

pub(crate) fn run(flags: &Flags, interrupt: &Interrupt) -> Result<Report> {
    let (orders, habits) = (flags.orders()?, flags.habits()?);
    ensure!(
        flags.target.len() <= SERVERS_MAX && flags.server_cmd.len() <= SERVERS_MAX,
        "at most {SERVERS_MAX} gateways"
    );
    let bases = flags.target.iter().map(|target| Url::parse(&format!("http://{target}")));
    let bases: Vec<_> = bases.collect::<Result<_>>()?;
    let door = |base: &Url| Ok(Door { address: allow(base, flags.i_own_the_target)?, host: base.host.clone() });
    let doors: Vec<_> = bases.iter().map(door).collect::<Result<_>>()?;
    let devices = flags.users as usize * usize::from(flags.devices);
    raise_descriptors(devices + ABANDONED_MAX * usize::from(flags.threads))?;
    let clock = Clock::start();
    let run = crate::stamp::Run::new().number();
    let seed = flags.seed.unwrap_or_else(|| mix(run) % 1_000_000_000);
    let tokens = flags.tokens.as_deref().map(Tokens::read).transpose()?;
    if let Some(tokens) = &tokens {
        tokens.need(flags.users as usize)?;
    }
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {elapsed}").context("progress bar")?);
    let keeper = Keeper::default();
    let duty = Duty { servers: flags.server_cmd.clone(), log: flags.server_log.clone(), orders };
    let conductor = Conductor { flags, bases: &bases, clock, keeper: &keeper, bar: bar.clone(), interrupt };
    let found = std::thread::scope(|scope| {
        let kept = scope.spawn(|| keeper.keep(duty, clock));
        let found = conductor.prepare(run, seed, tokens.as_ref()).and_then(|(users, convs)| {
            let book = Book::new(convs, clock);
            let threads = usize::from(flags.threads);
            let world = World::new(doors, run, seed, clock, users, book, habits, threads);
            conductor.conduct(Arc::new(world))
        });
        keeper.stop();
        bar.finish_and_clear();
        match kept.join() {
            Ok(kept) => kept?,
            Err(_) => bail!("the keeper panicked"),
        }
        found
    })?;
    for crash in keeper.crashes() {
        found.world.book.blame(Fault::Crashed, || crash);
    }
    Ok(report(flags, seed, &found, &keeper, interrupt))
}

impl Conductor<'_> {
    fn stage(&self, what: &'static str, length: u64) {
        self.bar.set_message(what);
        self.bar.set_length(length);
        self.bar.set_position(0);
    }

    /// Waits until each server answers HTTP.
    fn await_servers(&self) -> Result<()> {
        self.bases.iter().try_for_each(|base| await_answer(base, self.clock, START_SECONDS, self.interrupt))
    }

    fn prepare(&self, run: u64, seed: u64, tokens: Option<&Tokens>) -> Result<(Vec<User>, Vec<Conv>)> {
        self.stage("waiting for the server", 0);
        self.await_servers()?;
        let flags = self.flags;
        let wish = Wish {
            base: &self.bases[0],
            run,
            users: flags.users as usize,
            tokens,
            groups: flags.groups as usize,
            group_size: flags.group_size as usize,
            group_ids: &flags.group_ids,
            seed,
        };
        assemble(wish, |what, place| {
            self.bar.set_message(what);
            self.bar.set_position(place as u64);
            self.interrupt.check()
        })
    }

    /// Takes the run through its stages.
    fn conduct(&self, world: Arc<World>) -> Result<Findings> {
        let (crews, run_seconds) = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..world.lanes.len())
                .map(|lane| {
                    let world = &*world;
                    scope.spawn(move || crew::run(world, lane))
                })
                .collect();
            let outcome = self.stages(&world);
            world.enter(RunStage::Stopping);
            let crews = threads.into_iter().map(|thread| match thread.join() {
                Ok(crew) => crew,
                Err(_) => bail!("a thread of devices panicked"),
            });
            let crews: Result<Vec<Crew>> = crews.collect();
            Ok::<_, anyhow::Error>((crews?, outcome?))
        })?;
        let (mut ack_ns, mut lag_ns) = (histogram(), histogram());
        for crew in &crews {
            // All have the same bounds, so adding cannot fail.
            ack_ns.add(&crew.ack_ns).expect("invariant: equal bounds");
            lag_ns.add(&crew.lag_ns).expect("invariant: equal bounds");
        }
        let outcomes: Vec<_> = crews.iter().flat_map(|crew| crew.outcomes.iter().copied()).collect();
        if self.interrupt.is_set() {
            // Half of what was sent is still under way: the history says nothing yet.
            return Ok(Findings { world, ack_ns, lag_ns, audited: Audited::default(), run_seconds });
        }
        self.stage("comparing with the history", world.book.convs.len() as u64);
        let audited = audit(&world, self.bases, &outcomes, |place| {
            self.bar.set_position(place as u64);
            !self.interrupt.is_set()
        })?;
        Ok(Findings { world, ack_ns, lag_ns, audited, run_seconds })
    }

    /// Returns how long the torment really lasted, in seconds.
    fn stages(&self, world: &World) -> Result<f64> {
        let devices = world.users.len() as u64 * u64::from(world.habits.devices);
        self.stage("connecting", devices);
        let connected = self.wait_for(START_SECONDS, || {
            let open = world.sum(|l| &l.open);
            self.bar.set_position(open);
            open >= devices
        });
        self.interrupt.check()?;
        ensure!(connected, "{} of {devices} devices connected within {START_SECONDS} s", world.sum(|l| &l.open));
        self.stage("running", self.flags.seconds);
        let from = self.clock.nanos();
        world.enter(RunStage::Running);
        self.keeper.arm(self.clock);
        self.wait_for(self.flags.seconds, || {
            self.bar.set_position((self.clock.nanos() - from) / 1_000_000_000);
            false
        });
        self.keeper.disarm();
        let run_seconds = (self.clock.nanos() - from) as f64 / 1e9;
        if self.interrupt.is_set() {
            return Ok(run_seconds);
        }
        world.enter(RunStage::Quiet);
        // A command that brings the database back must have ended before anything can become quiet.
        self.stage("commands under way", 0);
        self.wait_for(self.flags.drain, || !self.keeper.busy());
        if let Err(error) = self.await_servers() {
            world.book.blame(Fault::Protocol, || format!("the torment is over, and {error:#}"));
        }
        self.until("everything acked and heard of", world, || {
            world.sum(|l| &l.pending) == 0 && world.sum(|l| &l.behind) == 0
        });
        world.enter(RunStage::Settling);
        self.until("everybody syncs", world, || world.sum(|l| &l.behind) == 0);
        world.enter(RunStage::Rereading);
        self.until("everything again", world, || world.sum(|l| &l.behind) == 0);
        pause(LINGER_MS);
        Ok(run_seconds)
    }

    /// Waits for the end of a stage of the end; that it did not come is found by the devices.
    fn until(&self, what: &'static str, world: &World, done: impl Fn() -> bool) {
        self.stage(what, self.flags.drain);
        // The gauges are renewed by the devices' threads: what they say at first is of the stage
        // before.
        pause(LINGER_MS);
        let mut before = false;
        self.wait_for(self.flags.drain, || {
            self.bar.set_position(world.sum(|l| &l.pending) + world.sum(|l| &l.behind));
            let now = done();
            std::mem::replace(&mut before, now) && now
        });
    }

    fn wait_for(&self, seconds: u64, mut holds: impl FnMut() -> bool) -> bool {
        let until = self.clock.nanos() + seconds_ns(seconds);
        while self.clock.nanos() < until && !self.interrupt.is_set() {
            if holds() {
                return true;
            }
            pause(LOOK_MS * 3);
        }
        holds()
    }
}

fn report(flags: &Flags, seed: u64, found: &Findings, keeper: &Keeper, interrupt: &Interrupt) -> Report {
    let world = &found.world;
    let mut report = Report::new("verify", interrupt);
    report.count("seed", seed);
    report.count("users", u64::from(flags.users));
    report.count("devices", u64::from(flags.users) * u64::from(flags.devices));
    report.count("conversations", world.book.convs.len() as u64);
    report.figure("seconds", Some(found.run_seconds), "s");
    let (sent, acked) = (world.sum(|l| &l.sent), world.sum(|l| &l.acked));
    report.count("sent", sent);
    report.count("acked", acked);
    report.count("shown", world.sum(|l| &l.shown));
    report.figure("acked_per_second", Some(acked as f64 / found.run_seconds), "/s");
    flags.goals.tell(&mut report, "ack_latency", &found.ack_ns, &Generator::default());
    let lag = &found.lag_ns;
    for (key, value_ns) in [
        ("lag_p50", lag.value_at_quantile(0.5)),
        ("lag_p99", lag.value_at_quantile(0.99)),
        ("lag_p99.99", lag.value_at_quantile(0.9999)),
        ("lag_max", lag.max()),
    ] {
        report.figure(key, (!lag.is_empty()).then_some(value_ns as f64 / 1e6), "ms");
    }
    report.count("server_deaths", u64::from(keeper.deaths.load(Ordering::Relaxed)));
    report.count("commands", u64::from(keeper.commands.load(Ordering::Relaxed)));
    report.count("failed_commands", u64::from(keeper.failed_commands.load(Ordering::Relaxed)));
    let counts: [(&'static str, Counter); 17] = [
        ("connects", |l| &l.connects),
        ("dropped", |l| &l.dropped),
        ("failed_connects", |l| &l.failed),
        ("closed", |l| &l.closed),
        ("reset", |l| &l.reset),
        ("abandoned", |l| &l.abandoned),
        ("stalls", |l| &l.stalls),
        ("resent", |l| &l.resent),
        ("repeated", |l| &l.repeated),
        ("dup_acks", |l| &l.dups),
        ("retry_refusals", |l| &l.refused),
        ("intrusions", |l| &l.intrusions),
        ("unsent", |l| &l.unsent),
        ("hidden_repetitions", |l| &l.hidden),
        ("holes_synced", |l| &l.holes),
        ("pages", |l| &l.pages),
        ("behind_at_end", |l| &l.behind),
    ];
    for (key, count) in counts {
        report.count(key, world.sum(count));
    }
    report.count("rows_audited", found.audited.rows);
    report.count("rows_trimmed", found.audited.trimmed);
    report.count("views_audited", found.audited.views);
    let (faults, stories) = world.book.findings();
    for (fault, key) in Fault::ALL {
        report.must_be_zero(key, faults.get(&fault).copied().unwrap_or(0));
    }
    // A check of nothing proves nothing.
    report.must_not_be_zero("acked", acked);
    if !flags.at.is_empty() || !flags.every.is_empty() {
        let (run, failed) = (&keeper.commands, &keeper.failed_commands);
        report.must_not_be_zero(
            "torments",
            u64::from(run.load(Ordering::Relaxed).saturating_sub(failed.load(Ordering::Relaxed))),
        );
    }
    tell(&mut report, keeper, &stories);
    report
}

/// The first counter-example with what happened around it, and the next ones.
fn tell(report: &mut Report, keeper: &Keeper, stories: &[Finding]) {
    let Some(first) = stories.first() else { return };
    let name = |finding: &Finding| {
        let (_, name) = Fault::ALL.iter().find(|(fault, _)| *fault == finding.fault).unwrap_or(&Fault::ALL[0]);
        format!("{name}, found at {:.3} s: {}", f64::from(finding.at_ms) / 1e3, finding.story)
    };
    let events = keeper.around(first.at_ms, STORY_MS);
    let mut shown = name(first);
    events.iter().for_each(|event| shown.push_str(&format!("\n      {event}")));
    report.value("counter_example", json!({"what": name(first), "events": events}), shown);
    report.troubles(&stories[1..].iter().map(name).collect::<Vec<_>>());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        assert_eq!((permille("10%"), permille("0.5"), permille("100%")), (Ok(100), Ok(5), Ok(1000)));
        assert!(permille("x").is_err() && permille("101%").is_err());
    }
}
