//! `storm`: all connections go at the same moment, and all clients come back at once.
//!
//! Owns: the storm, the pause in which the server's cost of the going is told apart from that of
//! the coming, and the way back of each client. None waits before the first try; one that fails
//! tries again after a pause that doubles, with jitter.

use anyhow::{Result, ensure};
use clap::Args;
use hdrhistogram::Histogram;

use crate::board::Phase;
use crate::conduct::{Conductor, deal, perform};
use crate::engine::Actor;
use crate::goals::{Generator, Goals};
use crate::interrupt::Interrupt;
use crate::net::Net;
use crate::options::Options;
use crate::probe::Sample;
use crate::report::Report;
use crate::verify::crew::histogram;

#[derive(Args, Clone, Debug)]
pub(crate) struct Flags {
    #[command(flatten)]
    pub(crate) options: Options,
    /// Clients, each a user of its own.
    #[arg(long, default_value_t = 15_000)]
    clients: usize,
    /// Quiet time before the storm.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(0..=60))]
    settle: u64,
    /// Seconds between the going and the coming, so that the cost of each is told; 0: they come
    /// back while the server still finds out that they are gone.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=60))]
    away: u64,
    /// How long all of them may take until they are back.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=600))]
    drain: u64,
    /// Fail when they take longer than so many seconds.
    #[arg(long)]
    back_within: Option<f64>,
    /// Fail when the server's store is asked more often than this for each client.
    #[arg(long)]
    queries_max: Option<f64>,
    #[command(flatten)]
    goals: Goals,
}

/// The clients of one thread.
struct Storm {
    gone: bool,
    begun: bool,
    /// From the moment at which all may come back to the 101.
    back_ns: Histogram<u64>,
    /// From the call of `connect` that succeeded to the 101.
    upgrade_ns: Histogram<u64>,
}

impl Actor for Storm {
    fn opened(&mut self, net: &mut Net, member: u32, again: bool) {
        if again && self.begun {
            let now = net.plan().clock.nanos();
            self.back_ns.saturating_record(now.saturating_sub(net.board().started_ns()));
            self.upgrade_ns.saturating_record(now.saturating_sub(net.dialled_ns(member)));
        }
    }

    fn text(&mut self, _net: &mut Net, _member: u32, _text: &str, _now_ns: u64) {}

    fn turn(&mut self, net: &mut Net, now_ns: u64) -> u64 {
        let phase = net.board().phase();
        let members = 0..net.conns.len() as u32;
        if matches!(phase, Phase::Leaving | Phase::Running) && !std::mem::replace(&mut self.gone, true) {
            members.clone().for_each(|member| net.abandon(member));
        }
        if phase == Phase::Running && !std::mem::replace(&mut self.begun, true) {
            net.unpace();
            members.for_each(|member| net.redial(member, now_ns));
            return now_ns;
        }
        u64::MAX
    }
}

/// The server before the storm, when all were gone and when all were back.
struct Seen {
    before: Sample,
    between: Option<Sample>,
    after: Sample,
    reopened: u64,
}

pub(crate) fn run(flags: &Flags, interrupt: &Interrupt) -> Result<Report> {
    flags.options.refuse_workers("`storm`")?;
    let Flags { options, clients, .. } = flags;
    let plan = options.plan(*clients, *clients, true, true, interrupt)?;
    let probe = options.probe()?;
    ensure!(flags.queries_max.is_none() || probe.is_some(), "--queries-max needs --metrics");
    let threads = plan.board.lanes.len();
    let actors = (0..threads)
        .map(|lane| {
            let logins: Vec<u32> = deal(*clients, threads, lane).map(|i| i as u32).collect();
            (logins, Storm { gone: false, begun: false, back_ns: histogram(), upgrade_ns: histogram() })
        })
        .collect();
    let (seen, actors) = perform(&plan, probe.as_ref(), actors, |conductor| conduct(flags, conductor))?;
    let (mut back_ns, mut upgrade_ns) = (histogram(), histogram());
    for actor in &actors {
        // All have the same bounds, so adding cannot fail.
        back_ns.add(&actor.back_ns).expect("invariant: equal bounds");
        upgrade_ns.add(&actor.upgrade_ns).expect("invariant: equal bounds");
    }
    let each = *clients as f64;
    let grown = |of: fn(&Sample) -> Option<u64>| Some(of(&seen.after)?.saturating_sub(of(&seen.before)?) as f64);
    let cpu_us = |from: &Sample, to: &Sample| Some((to.cpu_seconds? - from.cpu_seconds?) * 1e6 / each);
    let apart = |cost: fn(&Seen, &Sample) -> (Sample, Sample)| {
        let (from, to) = cost(&seen, seen.between.as_ref()?);
        cpu_us(&from, &to)
    };
    let back = (back_ns.len() >= *clients as u64).then(|| back_ns.max() as f64 / 1e9);
    let queries = grown(|sample| sample.user_queries).map(|queries| queries / each);

    let mut report = Report::new("storm", interrupt);
    report.count("clients", *clients as u64);
    report.figure("seconds_until_all_are_back", back, "s");
    flags.goals.tell(&mut report, "back_latency", &back_ns, &Generator::default());
    flags.goals.tell(&mut report, "upgrade_latency", &upgrade_ns, &Generator::default());
    report.figure("cpu_us_per_client", cpu_us(&seen.before, &seen.after), "us of the server, going and coming");
    report.figure(
        "cpu_us_per_going",
        apart(|seen, between| (seen.before.clone(), between.clone())),
        "us of the server",
    );
    report.figure(
        "cpu_us_per_coming",
        apart(|seen, between| (between.clone(), seen.after.clone())),
        "us of the server",
    );
    report.figure("store_queries_per_client", queries, "queries");
    report.figure("store_reads_per_client", grown(|sample| sample.user_reads).map(|reads| reads / each), "reads");
    report.must_be_zero("timeouts", plan.board.sum(|l| &l.timeouts));
    report.must_be_zero("dropped", plan.board.sum(|l| &l.dropped));
    report.must_be_zero_at_the_end("not_back", (*clients as u64).saturating_sub(seen.reopened));
    if let Some(most) = flags.back_within {
        report.exceeded("back_within_exceeded", back.is_none_or(|back| back > most));
    }
    if let Some(most) = flags.queries_max {
        report.exceeded("queries_max_exceeded", queries.is_none_or(|queries| queries > most));
    }
    report.troubles(&plan.board.troubles());
    Ok(report)
}

fn conduct(flags: &Flags, conductor: &Conductor<'_>) -> Result<Seen> {
    let (clients, clock) = (flags.clients, conductor.plan.clock);
    conductor.open(clients)?;
    conductor.wait("settling", flags.settle);
    let before = conductor.sample();
    if conductor.interrupted() {
        return Ok(Seen { after: before.clone(), before, between: None, reopened: 0 });
    }
    let between = (flags.away > 0).then(|| {
        conductor.board().enter(Phase::Leaving, clock.nanos());
        conductor.wait("everybody is away", flags.away);
        conductor.sample()
    });
    conductor.board().enter(Phase::Running, clock.nanos());
    conductor.wait_for("everybody comes back", flags.drain, |board| board.sum(|l| &l.reopened) >= clients as u64);
    let reopened = conductor.board().sum(|l| &l.reopened).min(conductor.board().sum(|l| &l.open));
    Ok(Seen { before, between, after: conductor.sample(), reopened })
}
