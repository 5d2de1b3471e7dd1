//! `churn`: connections come and go at a rate; what does one authenticated upgrade cost the server,
//! and how long does it take?
//!
//! Owns: the members' coming and going. A member that is open says goodbye at once (RFC 6455,
//! section 7) and is dialled again when the pace allows.

use anyhow::Result;
use clap::Args;
use hdrhistogram::Histogram;

use crate::board::{Board, Phase};
use crate::conduct::{deal, perform};
use crate::engine::Actor;
use crate::goals::{Generator, Goals};
use crate::interrupt::Interrupt;
use crate::limits::SECONDS_MAX;
use crate::net::Net;
use crate::options::Options;
use crate::report::Report;
use crate::verify::crew::histogram;

#[derive(Args, Clone, Debug)]
pub(crate) struct Flags {
    #[command(flatten)]
    pub(crate) options: Options,
    /// Users that come and go; `--connect-rate` is how many come per second, all together.
    #[arg(long, default_value_t = 500)]
    connections: usize,
    /// Length of the measurement.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=SECONDS_MAX))]
    seconds: u64,
    /// How long the last ones may take to come back.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=600))]
    drain: u64,
    /// Fail when one upgrade, with the goodbye, costs the server more CPU microseconds than this.
    #[arg(long)]
    cpu_us_max: Option<f64>,
    #[command(flatten)]
    goals: Goals,
}

/// The members of one thread.
struct Churn {
    begun: bool,
    /// From the call of `connect` to the 101.
    upgrade_ns: Histogram<u64>,
}

impl Actor for Churn {
    fn opened(&mut self, net: &mut Net, member: u32, _again: bool) {
        if net.board().phase() == Phase::Running {
            let took = net.plan().clock.nanos().saturating_sub(net.dialled_ns(member));
            self.upgrade_ns.saturating_record(took);
            net.lane().delivered.add(1);
            net.come_back(member);
        }
    }

    fn text(&mut self, _net: &mut Net, _member: u32, _text: &str, _now_ns: u64) {}

    fn turn(&mut self, net: &mut Net, _now_ns: u64) -> u64 {
        if net.board().phase() == Phase::Running && !std::mem::replace(&mut self.begun, true) {
            for member in 0..net.conns.len() as u32 {
                net.come_back(member);
            }
        }
        u64::MAX
    }
}

pub(crate) fn run(flags: &Flags, interrupt: &Interrupt) -> Result<Report> {
    flags.options.refuse_workers("`churn`")?;
    let Flags { options, connections, .. } = flags;
    let plan = options.plan(*connections, *connections, true, true, interrupt)?;
    let probe = options.probe()?;
    let threads = plan.board.lanes.len();
    let actors = (0..threads)
        .map(|lane| {
            let logins: Vec<u32> = deal(*connections, threads, lane).map(|i| i as u32).collect();
            (logins, Churn { begun: false, upgrade_ns: histogram() })
        })
        .collect();
    let ((steady, open), actors) = perform(&plan, probe.as_ref(), actors, |conductor| {
        conductor.open(*connections)?;
        let steady = conductor.run(flags.seconds);
        // One that has said goodbye and is not answered is not back.
        let back = |board: &Board| board.sum(|l| &l.open).saturating_sub(board.sum(|l| &l.closing));
        conductor.drain(flags.drain, |board| back(board) == *connections as u64);
        Ok((steady, back(conductor.board())))
    })?;
    let mut upgrade_ns = histogram();
    for actor in &actors {
        // All have the same bounds, so adding cannot fail.
        upgrade_ns.add(&actor.upgrade_ns).expect("invariant: equal bounds");
    }
    let mut report = Report::new("churn", interrupt);
    report.count("connections", *connections as u64);
    report.count("seconds", flags.seconds);
    let upgrades = plan.board.sum(|l| &l.delivered);
    report.count("upgrades", upgrades);
    report.count("connect_rate", options.connect_rate());
    report.figure("upgrades_per_second", Some(steady.deliveries_per_second), "/s");
    report.figure("cpu_us_per_upgrade", steady.cpu_us_per_delivery, "us of the server, the goodbye with it");
    report.figure("server_cpu_percent", steady.server_percent, "% of one core");
    report.figure("client_cpu_percent", steady.client_percent, "% of one core");
    let generator = Generator { lag_ms: None, percent: steady.client_percent, threads, clocks_ms: None };
    flags.goals.tell(&mut report, "upgrade_latency", &upgrade_ns, &generator);
    report.must_be_zero("timeouts", plan.board.sum(|l| &l.timeouts));
    report.must_be_zero("failed", plan.board.sum(|l| &l.failed));
    report.must_be_zero("dropped", plan.board.sum(|l| &l.dropped));
    report.must_be_zero_at_the_end("not_back", (*connections as u64).saturating_sub(open));
    if let Some(most) = flags.cpu_us_max {
        let exceeded = steady.cpu_us_per_delivery.is_none_or(|cpu| cpu > most);
        report.exceeded("cpu_us_max_exceeded", exceeded);
    }
    // A measurement of nothing proves nothing.
    report.must_not_be_zero("upgrades", upgrades);
    report.troubles(&plan.board.troubles());
    Ok(report)
}
