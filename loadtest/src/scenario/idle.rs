//! `idle`: thousands of connections that do nothing. What does one cost in user space, and do they
//! all still answer at the end?
//!
//! Owns: the steps, the memory slope, the roll call (a heartbeat on every connection, answered
//! within a deadline), and the server's stop with all of them (`stop`).

mod stop;

use std::sync::Arc;

use anyhow::{Result, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::stop::{Server, Stop, Within};
use crate::clock::Clock;
use crate::conduct::Conductor;
use crate::engine::Actor;
use crate::goals::{Generator, Goals};
use crate::interrupt::Interrupt;
use crate::limits::SECONDS_MAX;
use crate::net::{Net, Plan};
use crate::options::Options;
use crate::probe::Sample;
use crate::report::Report;
use crate::scan::scan;
use crate::split::wire::Whole;
use crate::split::worker::Station;
use crate::split::{Dealing, Job, Splits, packed, perform};
use crate::tally::latencies;
use crate::upgrade::Profile;

/// Members asked for a sign of life in one turn, so that the answers do not all come at once.
const ASKED_PER_TURN: usize = 256;

#[derive(Args, Clone, Debug)]
pub(crate) struct Flags {
    #[command(flatten)]
    pub(crate) options: Options,
    /// Connections to open.
    #[arg(long, required_unless_present = "steps")]
    connections: Option<usize>,
    /// Open in steps and look at the memory at each, as 5000,10000,15000. The slope is taken
    /// between the first and the last.
    #[arg(long, value_delimiter = ',', conflicts_with = "connections")]
    steps: Vec<usize>,
    /// How long to hold all connections.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=SECONDS_MAX))]
    seconds: u64,
    /// Quiet time before the memory is looked at.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=60))]
    settle: u64,
    /// How long the answers to the heartbeats at the end may take.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    answer_seconds: u64,
    /// At the end, send SIGTERM to the process of --server-pid, and fail unless it is gone within
    /// so many seconds, and all its connections are seen to be closed within --answer-seconds more.
    #[arg(long, value_name = "SECONDS", requires = "server_pid", value_parser = clap::value_parser!(u64).range(1..=600))]
    stop_within: Option<u64>,
    #[command(flatten)]
    goals: Goals,
}

/// The connections of one thread. Users may have several: only `fanout` and `direct` need different
/// ones.
struct Idle {
    profile: Profile,
    /// Members that have answered.
    answered: Vec<bool>,
    /// Members that have been asked: those below.
    asked: usize,
    /// When they were asked, in groups: up to which member, and when.
    asked_ns: Vec<(usize, u64)>,
    /// From the question to the answer.
    answer_ns: Histogram<u64>,
}

impl Idle {
    fn answer(&mut self, net: &Net, member: u32) {
        if (member as usize) < self.asked && !std::mem::replace(&mut self.answered[member as usize], true) {
            net.lane().answered.add(1);
            let group = self.asked_ns.partition_point(|(below, _)| *below <= member as usize);
            let asked_ns = self.asked_ns.get(group).map_or(0, |(_, at)| *at);
            self.answer_ns.saturating_record(net.plan().clock.nanos().saturating_sub(asked_ns));
        }
    }
}

impl Actor for Idle {
    fn text(&mut self, net: &mut Net, member: u32, text: &str, _now_ns: u64) {
        if scan(text).is_some_and(|fields| fields.cmd == Some(0)) {
            self.answer(net, member);
        }
    }

    fn pong(&mut self, net: &mut Net, member: u32) {
        // Legacy has no heartbeat that is answered; a ping is.
        self.answer(net, member);
    }

    fn turn(&mut self, net: &mut Net, now_ns: u64) -> u64 {
        if !net.board().roll_call() || self.asked == self.answered.len() {
            return u64::MAX;
        }
        let until = (self.asked + ASKED_PER_TURN).min(self.answered.len());
        for member in self.asked..until {
            match self.profile {
                Profile::V2 => net.send(member as u32, r#"{"cmd":0}"#),
                Profile::Legacy => net.ping(member as u32),
            };
        }
        self.asked = until;
        self.asked_ns.push((until, now_ns));
        now_ns
    }
}

/// The server at one step.
struct Step {
    connections: usize,
    /// How long opening them took, without the pauses at each step.
    open_ns: u64,
    sample: Sample,
}

struct Seen {
    steps: Vec<Step>,
    dropped: u64,
    troubles: Vec<String>,
    stop: Option<Stop>,
}

impl Seen {
    /// What was seen until now: what goes when the server is stopped is no trouble.
    fn now(steps: Vec<Step>, conductor: &Conductor<'_>) -> Self {
        let board = conductor.board();
        Self { steps, dropped: board.sum(|l| &l.dropped), troubles: board.troubles(), stop: None }
    }
}

/// How long members took to answer.
#[derive(Serialize, Deserialize, Debug)]
pub(crate) struct Answers {
    #[serde(with = "packed")]
    answer_ns: Histogram<u64>,
}

impl Default for Answers {
    fn default() -> Self {
        Self { answer_ns: latencies() }
    }
}

impl Splits for Idle {
    type Findings = Answers;

    fn close(self, _whole: &Whole) -> Answers {
        Answers { answer_ns: self.answer_ns }
    }

    fn add(sum: &mut Answers, one: &Answers) {
        // All have the same bounds, so adding cannot fail.
        sum.answer_ns.add(&one.answer_ns).expect("invariant: equal bounds");
    }
}

impl Flags {
    fn stop_within(&self) -> Option<Within> {
        self.stop_within.map(|gone_s| Within { gone_s, seen_s: self.answer_seconds })
    }

    /// Where the server is looked at.
    fn steps(&self) -> Result<Vec<usize>> {
        let mut steps = self.steps.clone();
        steps.extend(self.connections);
        ensure!(steps.is_sorted_by(|a, b| a < b), "--steps must rise");
        Ok(steps)
    }

    fn plan(&self, interrupt: &Interrupt) -> Result<Arc<Plan>> {
        self.options.plan(self.steps()?.last().copied().unwrap_or_default(), 0, false, false, interrupt)
    }
}

/// The threads of this process, with their members.
fn actors(total: usize, plan: &Plan) -> Vec<(Vec<u32>, Idle)> {
    let actor = |lane| {
        let logins = Dealing::Singles.places(total, plan.board.lanes.len(), lane);
        let answered = vec![false; logins.len()];
        let (asked_ns, answer_ns) = (Vec::new(), latencies());
        let idle = Idle { profile: plan.profile, answered, asked: 0, asked_ns, answer_ns };
        (logins, idle)
    };
    plan.own.clone().map(actor).collect()
}

/// A worker's part.
pub(crate) fn part(flags: &Flags, station: &mut Station) -> Result<()> {
    let total = flags.steps()?.last().copied().unwrap_or_default();
    let plan = flags.plan(&station.interrupt)?;
    station.work(&plan, actors(total, &plan))
}

pub(crate) fn run(flags: &Flags, interrupt: &Interrupt) -> Result<Report> {
    let steps = flags.steps()?;
    let total = steps.last().copied().unwrap_or_default();
    ensure!(
        flags.stop_within.is_none() || flags.options.server_pid().is_some(),
        "--stop-within stops one process: that of --server-pid"
    );
    let plan = flags.plan(interrupt)?;
    let (probe, job, actors) = (flags.options.probe()?, Job::of(total, Dealing::Singles), actors(total, &plan));
    let (seen, Answers { answer_ns }) =
        perform(&plan, probe.as_ref(), &job, actors, |conductor| conduct(flags, &steps, conductor))?;
    let mut report = Report::new("idle", interrupt);
    report.count("connections", total as u64);
    report.text("server", &probe.map_or_else(|| "no figures".to_owned(), |p| p.describe()));
    report.value("steps", steps_json(&seen.steps), steps_text(&seen.steps));
    report.figure("bytes_per_connection", slope(&seen.steps, |s| s.resident_bytes), "bytes, resident");
    report.figure("anonymous_bytes_per_connection", slope(&seen.steps, |s| s.anonymous_bytes), "bytes, anonymous");
    report.figure("cpu_us_per_connect", cpu_us_per_connect(&seen.steps), "us of the server");
    report.must_be_zero("dropped", seen.dropped);
    if let (Some(stop), Some(within)) = (&seen.stop, flags.stop_within()) {
        stop.tell(&mut report, within);
    }
    flags.goals.tell(&mut report, "answer_latency", &answer_ns, &Generator::default());
    report.must_be_zero_at_the_end("unanswered", (total as u64).saturating_sub(plan.board.sum(|l| &l.answered)));
    flags.options.wire(&mut report, &plan);
    report.troubles(&seen.troubles);
    Ok(report)
}

fn conduct(flags: &Flags, steps: &[usize], conductor: &Conductor<'_>) -> Result<Seen> {
    let mut seen = vec![Step { connections: 0, open_ns: 0, sample: conductor.sample() }];
    let (clock, mut open_ns) = (Clock::start(), 0);
    for &connections in steps {
        let began_ns = clock.nanos();
        conductor.open(connections)?;
        open_ns += clock.nanos() - began_ns;
        if conductor.interrupted() {
            let connections = conductor.board().sum(|l| &l.open) as usize;
            seen.push(Step { connections, open_ns, sample: conductor.sample() });
            break;
        }
        conductor.wait("settling", flags.settle);
        seen.push(Step { connections, open_ns, sample: conductor.sample() });
    }
    conductor.wait("holding", flags.seconds);
    let all = steps.last().copied().unwrap_or_default() as u64;
    if conductor.interrupted() {
        return Ok(Seen::now(seen, conductor));
    }
    conductor.board().call_the_roll();
    conductor.wait_for("roll call", flags.answer_seconds, |board| board.sum(|l| &l.answered) == all);
    let all = Seen::now(seen, conductor);
    let server = flags.stop_within().zip(flags.options.server_pid());
    let stop =
        server.filter(|_| !conductor.interrupted()).map(|(within, pid)| Server::of(pid)?.stop(conductor, within));
    Ok(Seen { stop: stop.transpose()?, ..all })
}

/// Growth per connection between the first and the last step; with one step, between none and it.
/// (What the server allocates once, with its first connections, is in the latter and not in the
/// former.)
fn slope(steps: &[Step], bytes: impl Fn(&Sample) -> Option<u64>) -> Option<f64> {
    let from = if steps.len() > 2 { &steps[1] } else { steps.first()? };
    let to = steps.last()?;
    let grown = bytes(&to.sample)? as f64 - bytes(&from.sample)? as f64;
    let more = to.connections.checked_sub(from.connections).filter(|more| *more > 0)?;
    Some(grown / more as f64)
}

/// CPU of the server between the steps, for each connection. What it does while it holds them is in
/// it: nothing, for as long as no connection is pinged.
fn cpu_us_per_connect(steps: &[Step]) -> Option<f64> {
    let (from, to) = (steps.first()?, steps.last()?);
    let seconds = to.sample.cpu_seconds? - from.sample.cpu_seconds?;
    let more = to.connections.checked_sub(from.connections).filter(|more| *more > 0)?;
    Some(seconds * 1e6 / more as f64)
}

fn steps_json(steps: &[Step]) -> serde_json::Value {
    let one = |Step { connections, open_ns, sample }: &Step| {
        json!({
            "connections": connections,
            "open_seconds": *open_ns as f64 / 1e9,
            "cpu_seconds": sample.cpu_seconds,
            "resident_bytes": sample.resident_bytes,
            "anonymous_bytes": sample.anonymous_bytes,
            "open_fds": sample.open_fds,
        })
    };
    steps.iter().map(one).collect()
}

fn steps_text(steps: &[Step]) -> String {
    let known = |value: Option<u64>| value.map_or_else(|| "?".to_owned(), |v| v.to_string());
    let one = |Step { connections, open_ns, sample }: &Step| {
        format!(
            "\n    {connections} connections: after {:.1} s of opening, resident {} B, anonymous {} B, {} descriptors",
            *open_ns as f64 / 1e9,
            known(sample.resident_bytes),
            known(sample.anonymous_bytes),
            known(sample.open_fds)
        )
    };
    steps.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_leaves_out_what_the_first_connections_cost() {
        let step = |connections, resident| Step {
            connections,
            open_ns: 0,
            sample: Sample { resident_bytes: Some(resident), ..Sample::default() },
        };
        let of = |steps: &[Step]| slope(steps, |s| s.resident_bytes);
        assert_eq!(of(&[step(0, 1_000), step(100, 50_000), step(300, 70_000)]), Some(100.0));
        assert_eq!(of(&[step(0, 1_000), step(100, 11_000)]), Some(100.0));
        assert_eq!(slope(&[step(0, 1), step(1, 2)], |s| s.anonymous_bytes), None);
    }
}
