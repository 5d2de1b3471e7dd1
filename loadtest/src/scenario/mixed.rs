//! `mixed`: a day in the life. Users chat in pairs and in a group, type, read, look at history and
//! lists, ask who is online, go and come back, log in: in the proportions that a file says.
//!
//! Owns: the flags, the run, and the verdict. With `--drift` the end of a long run is compared with
//! its beginning.

mod actor;
mod drift;
mod logins;
mod mix;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::conduct::Steady;
use crate::exit::Exit;
use crate::goals::{Generator, within};
use crate::interrupt::Interrupt;
use crate::limits::{CONNECTIONS_MAX, HEARING_NS, SOAK_SECONDS_MAX, SPEED_MAX};
use crate::net::Plan;
use crate::options::{Measure, Options};
use crate::report::Report;
use crate::scenario::direct::{self, Direct};
use crate::scenario::traffic::{Found, Traffic};
use crate::split::control::Fleet;
use crate::split::worker::Station;
use crate::split::{Dealing, Job, perform};
use crate::tally::{Reckoning, Tally};
use actor::{Day, Findings, Mixed, Terms};
use logins::Logins;
use mix::{KINDS, Kind, Mix, Pace};

/// How long a run by workers listens on to the group once all of them have what they know of.
const FLEET_LINGER_SECONDS: u64 = 2;

#[derive(Args, Clone, Debug)]
pub(crate) struct Flags {
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(flatten)]
    measure: Measure,
    #[command(flatten)]
    traffic: Traffic,
    /// Users, an even number: the first of the tokens file. The first two are a pair, the next two,
    /// …
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..=CONNECTIONS_MAX as i64))]
    users: u32,
    /// How often one user does what in an hour: a TOML file such as `loadtest/mix/day.toml`, which
    /// is used without one.
    #[arg(long, value_name = "FILE")]
    mix: Option<PathBuf>,
    /// A group of which all users are members. Without it nothing happens in groups.
    #[arg(long, value_name = "ID")]
    group: Option<u64>,
    /// Everything so many times as often: 60 puts an hour into a minute.
    #[arg(long, default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// Seconds of the measurement in which the rates rise from nothing.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=SOAK_SECONDS_MAX))]
    ramp: u64,
    /// Fail when memory, CPU time per delivery or latency are worse in the last quarter of the run
    /// than in its second.
    #[arg(long)]
    drift: bool,
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed > 0.0 && speed <= SPEED_MAX => Ok(speed),
        _ => Err(format!("{text:?} is not a number above 0 and up to {SPEED_MAX}")),
    }
}

/// What a run has shown.
struct Outcome {
    plan: Arc<Plan>,
    steady: Steady,
    tally: Tally,
    findings: Findings,
    scheduled: u64,
    lost: u64,
    open: u64,
}

impl Flags {
    /// Fails where the flags contradict each other.
    fn check(&self) -> Result<()> {
        ensure!(!self.options.legacy, "the old protocol answers nothing: mixed speaks the new one only");
        ensure!(self.users.is_multiple_of(2), "--users: an even number, because users talk in pairs");
        ensure!(self.ramp <= self.measure.seconds, "--ramp is longer than --seconds");
        let shortest = drift::SECONDS_MIN;
        ensure!(!self.drift || self.measure.seconds >= shortest, "--drift needs --seconds of {shortest} or more");
        Ok(())
    }

    /// How often each kind is due, of the mix that a text says; `None`: of that of a day.
    fn paces(&self, mix: Option<&str>) -> Result<[Pace; KINDS]> {
        let mut mix = Mix::of(mix)
            .with_context(|| self.mix.as_ref().map_or_else(String::new, |path| path.display().to_string()))?;
        if self.group.is_none() {
            mix = mix.without_group();
        }
        Ok(Kind::ALL.map(|kind| mix.pace(kind, self.users, self.speed, self.ramp, self.measure.seconds)))
    }

    fn plan(&self, interrupt: &Interrupt) -> Result<Arc<Plan>> {
        let mut plan = self.options.plan(self.users as usize, usize::MAX, true, true, interrupt)?;
        if self.drift {
            let plan = Arc::get_mut(&mut plan).context("a plan that is shared before the run")?;
            if plan.timeline.is_none() {
                plan.timeline = Some(plan.empty_timeline());
            }
        }
        Ok(plan)
    }

    /// The threads of this process, with their users.
    fn actors(&self, plan: &Arc<Plan>, paces: [Pace; KINDS]) -> Result<Vec<(Vec<u32>, Mixed)>> {
        let (users, terms) = (self.users as usize, terms(self, plan, paces));
        let shared = Arc::new(direct::Flags::driven(self.options.clone(), self.measure, self.users / 2));
        let actor = |lane| {
            let logins = Dealing::Pairs.places(users, plan.board.lanes.len(), lane);
            let direct = Direct::new(&shared, plan.run, plan, lane, &logins)?;
            let mixed = Mixed::new(&terms, direct, lane, logins.len());
            Ok((logins, mixed))
        };
        plan.own.clone().map(actor).collect()
    }
}

/// A worker's part. Logins are the control's.
pub(crate) fn part(flags: &Flags, station: &mut Station) -> Result<()> {
    flags.check()?;
    let paces = flags.paces(station.part()?.mix.as_deref())?;
    let plan = flags.plan(&station.interrupt)?;
    station.work(&plan, flags.actors(&plan, paces)?)
}

pub(crate) fn run(flags: &Flags, interrupt: &Interrupt) -> Result<Report> {
    flags.check()?;
    let blind = flags.drift && flags.options.probe()?.is_none();
    ensure!(!blind, "--drift is about the server's memory and CPU time: it needs --metrics or --server-pid");
    let outcome = measure(flags, interrupt)?;
    let mut report = Report::new("mixed", interrupt);
    report.count("users", u64::from(flags.users));
    report.count("seconds", flags.measure.seconds);
    report.figure("speed", Some(flags.speed), "times the mix");
    judge(&mut report, flags, &outcome);
    report.steady(&outcome.steady);
    flags.options.wire(&mut report, &outcome.plan);
    flags.options.show(&mut report, &outcome.plan);
    if let Some(timeline) = outcome.plan.timeline.as_ref().filter(|_| flags.drift && !interrupt.is_set()) {
        drift::judge(&mut report, &timeline.points());
    }
    report.troubles(&outcome.plan.board.troubles());
    Ok(report)
}

fn measure(flags: &Flags, interrupt: &Interrupt) -> Result<Outcome> {
    let Flags { options, measure, users, .. } = flags;
    let read =
        |path: &PathBuf| std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let mix = flags.mix.as_ref().map(read).transpose()?;
    let (users, paces) = (*users as usize, flags.paces(mix.as_deref())?);
    let (probe, plan) = (options.probe()?, flags.plan(interrupt)?);
    let job = Job { all_ids: true, mix, ..Job::of(users, Dealing::Pairs) };
    let actors = flags.actors(&plan, paces)?;
    let logins = paces[Kind::Login as usize];
    let visitors = if logins.total > 0 { Some(Logins::prepare(plan.host(), plan.run, interrupt)?) } else { None };
    let scheduled: u64 = Kind::ALL.into_iter().map(|kind| paces[kind as usize].total).sum::<u64>() - logins.total;
    let (performed, visits) = std::thread::scope(|scope| {
        let visits = visitors.as_ref().map(|visitors| scope.spawn(|| visitors.run(&plan, logins)));
        let performed = perform(&plan, probe.as_ref(), &job, actors, |conductor| {
            conductor.open(users)?;
            if flags.group.is_some() {
                // A connection that is open hears the group once the store has told its groups.
                conductor.wait("joining groups", HEARING_NS / 1_000_000_000);
            }
            let steady = conductor.run(measure.seconds);
            conductor.drain(measure.drain, |board| {
                (interrupt.is_set() || board.sum(|l| &l.scheduled) == scheduled)
                    && board.sum(|l| &l.pending) == 0
                    && board.sum(|l| &l.waiting) == 0
                    && board.sum(|l| &l.arrived) >= board.sum(|l| &l.acked)
                    && board.sum(|l| &l.open) == users as u64
            });
            if plan.fleet.is_some() && flags.group.is_some() {
                // A member waits for the group as far as its own process has seen it: what only
                // another one knows may still be on its way.
                conductor.wait("listening on", FLEET_LINGER_SECONDS);
            }
            Ok((steady, conductor.board().sum(|l| &l.open)))
        });
        let visits = visits.map(|visits| visits.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        (performed, visits)
    });
    let ((steady, open), Day { pairs, findings: mut all }) = performed?;
    all.add(&visits.unwrap_or_default());
    let Reckoning { tally, lost } = pairs;
    Ok(Outcome { plan, steady, tally, findings: all, scheduled, lost, open })
}

fn terms(flags: &Flags, plan: &Plan, paces: [Pace; KINDS]) -> Terms {
    Terms {
        paces,
        users: (0..flags.users as usize).map(|place| plan.tokens.get(place).0).collect(),
        group: flags.group,
        // Pairs and group count on their own.
        run: plan.run.beside(),
        payload: flags.measure.payload as usize,
        threads: plan.board.lanes.len(),
        heard: Arc::default(),
    }
}

fn judge(report: &mut Report, flags: &Flags, outcome: &Outcome) {
    let Outcome { plan, steady, tally, findings, scheduled, lost, open } = outcome;
    let found =
        Found { plan, tally, client_percent: steady.client_percent, scheduled: Some(*scheduled), crosses: false };
    let traffic = flags.traffic.or_bounded();
    traffic.judge(report, &found);
    report.must_be_zero_at_the_end("lost", *lost);
    report.must_be_zero("doubled", tally.doubled);
    report.must_be_zero("out_of_order", tally.out_of_order);
    report.must_be_zero("gaps", tally.gaps);
    report.must_be_zero_at_the_end("unacked", plan.board.sum(|l| &l.pending));
    traffic.judge_latencies(report, &found);
    report.must_be_zero("group_lost", findings.group_lost);
    report.must_be_zero("group_doubled", findings.group_doubled);
    report.must_be_zero("group_out_of_order", findings.group_out_of_order);
    report.count("group_unsettled", findings.group_unsettled);
    let (bound, generator) = (traffic.p99_ms(&found), found.generator());
    if let Some(histogram) = &findings.group_delivery_ns {
        report.latency("group_delivery_latency", histogram);
        let clocks_ms = plan.fleet.as_ref().map(Fleet::clocks_ms);
        within(report, "group_delivery_latency", histogram, bound, &Generator { clocks_ms, ..generator });
    }
    let refused: u64 = findings.kinds.iter().map(|one| one.refused).sum();
    let too_many = refused + plan.board.sum(|l| &l.refused) > traffic.refused_max;
    for kind in Kind::ALL {
        let one = &findings.kinds[kind as usize];
        if one.done + one.skipped + one.refused > 0 && kind != Kind::Direct {
            tell(report, kind, one);
            if one.refused > 0 && too_many {
                report.fail(Exit::Refused, format!("{} refused: {}", kind.name(), one.refused));
            }
        }
        if kind.is_prompt() {
            within(report, kind.name(), &one.latency_ns, bound, &generator);
        }
    }
    report.count("hidden_repetitions", tally.hidden);
    report.must_be_zero("dropped", plan.board.sum(|l| &l.dropped));
    report.must_be_zero_at_the_end("not_open_at_the_end", u64::from(flags.users).saturating_sub(*open));
}

/// One row for each kind: how many, and how long until it was answered.
fn tell(report: &mut Report, kind: Kind, one: &actor::KindFindings) {
    let actor::KindFindings { done, skipped, refused, unanswered, answered, latency_ns } = one;
    let ms = |quantile| (!latency_ns.is_empty()).then(|| latency_ns.value_at_quantile(quantile) as f64 / 1e6);
    let (p50, p99, max) = (ms(0.5), ms(0.99), ms(1.0));
    let value = serde_json::json!({
        "done": done, "skipped": skipped, "refused": refused, "unanswered": unanswered,
        "answered": answered, "p50_ms": p50, "p99_ms": p99, "max_ms": max,
    });
    let told = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.3}"));
    let mut shown = format!("{done} done, p50 {}  p99 {}  max {} ms", told(p50), told(p99), told(max));
    for (what, n) in [("skipped", *skipped), ("refused", *refused), ("unanswered", *unanswered)] {
        if n > 0 {
            shown.push_str(&format!(", {n} {what}"));
        }
    }
    report.named(kind.name().to_owned(), value, shown);
    if *unanswered > 0 {
        report.fail(Exit::Failed, format!("{} unanswered: {unanswered}", kind.name()));
    }
}
