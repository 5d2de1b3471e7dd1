//! The conducting thread: starts the engine threads, moves the run from phase to phase, draws the
//! progress bar.
//!
//! Owns: [`perform`] and the [`Conductor`], whose steps the scenarios put together. It sleeps
//! between looks at the board; nothing is measured with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

use crate::board::{Board, Phase};
use crate::clock::{pause, seconds_ns};
use crate::cpus::MachineTime;
use crate::engine::{self, Actor};
use crate::http;
use crate::limits::{GLANCE_MS_MAX, INTERRUPTED_DRAIN_NS, LINGER_MS, OPENING_NS_MAX};
use crate::net::Plan;
use crate::probe::{Probe, Sample, own_cpu_seconds};
use crate::split::control::{Fleet, ShutOut};
use crate::timeline::{ClientCpu, Timeline};

/// Between two looks at the board.
const LOOK_MS: u64 = 20;
/// A stretch of this length says nothing about CPU time.
const STEADY_SECONDS_MIN: f64 = 0.1;

/// Steps of a run.
pub(crate) struct Conductor<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) probe: Option<&'a Probe>,
    pub(crate) bar: ProgressBar,
}

/// CPU times over the steady stretch of a run, and what was delivered in it.
#[derive(Clone, Default, Debug)]
pub(crate) struct Steady {
    /// CPU microseconds of the server per message delivered.
    pub(crate) cpu_us_per_delivery: Option<f64>,
    /// Share of one core that the server used, in percent.
    pub(crate) server_percent: Option<f64>,
    /// Share of one core that this load generator used, in percent.
    pub(crate) client_percent: Option<f64>,
    /// Share of the machine on which this program is that everything on it used, in percent.
    pub(crate) machine_percent: Option<f64>,
    /// Messages delivered per second.
    pub(crate) deliveries_per_second: f64,
    /// Messages acked per second.
    pub(crate) acked_per_second: f64,
    /// Writes in each of the store's transactions, on average.
    pub(crate) mean_batch: Option<f64>,
    /// Share of the time in which the store's writers were in a transaction, in percent.
    pub(crate) committing_percent: Option<f64>,
    /// Share of one core that the server's threads used, by what they do, in percent.
    pub(crate) threads: BTreeMap<String, f64>,
}

/// Runs `actors`, one thread each with its members' places in the tokens file, while `conduct`
/// moves the phases. Stops them in any case.
pub(crate) fn perform<A: Actor, T>(
    plan: &Arc<Plan>,
    probe: Option<&Probe>,
    actors: Vec<(Vec<u32>, A)>,
    conduct: impl FnOnce(&Conductor<'_>) -> Result<T>,
) -> Result<(T, Vec<A>)> {
    let bar = Conductor::bar()?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = actors
            .into_iter()
            .enumerate()
            .map(|(lane, (logins, actor))| {
                let plan = Arc::clone(plan);
                scope.spawn(move || engine::run(plan, lane, &logins, actor))
            })
            .collect();
        let ending = Ending(plan);
        let outcome = conduct(&Conductor { plan, probe, bar: bar.clone() });
        drop(ending);
        bar.finish_and_clear();
        let actors = threads.into_iter().map(|thread| match thread.join() {
            Ok(result) => result.context("an engine thread failed"),
            Err(_) => bail!("an engine thread panicked"),
        });
        let actors: Result<Vec<A>> = actors.collect();
        Ok((outcome?, actors?))
    })
}

/// The run is over when this goes, be it in a panic: threads end, and who waits for them goes on.
pub(crate) struct Ending<'a>(pub(crate) &'a Plan);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.board.enter(Phase::Stopping, self.0.clock.nanos());
    }
}

impl Conductor<'_> {
    /// A progress bar, hidden unless standard error is a terminal.
    pub(crate) fn bar() -> Result<ProgressBar> {
        let bar = ProgressBar::new(0);
        bar.set_style(ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {elapsed}").context("progress bar")?);
        Ok(bar)
    }

    pub(crate) fn board(&self) -> &Board {
        &self.plan.board
    }

    /// Whether a signal has asked for the end. Then no step waits, except that what is on its way
    /// may arrive.
    pub(crate) fn interrupted(&self) -> bool {
        self.plan.interrupt.is_set()
    }

    /// The server's figures now, as far as they can be read. Once the run is interrupted they are
    /// not waited for.
    pub(crate) fn sample(&self) -> Sample {
        if self.interrupted() { self.glance() } else { self.sample_within(http::TIMEOUT) }
    }

    /// As [`Conductor::sample`], in the midst of a measurement, which does not wait for them.
    fn glance(&self) -> Sample {
        self.sample_within(Duration::from_millis(GLANCE_MS_MAX))
    }

    fn sample_within(&self, patience: Duration) -> Sample {
        self.probe.map(|probe| probe.sample_or_warn(patience)).unwrap_or_default()
    }

    /// CPU seconds of this program so far, or of its workers.
    fn client_cpu(&self) -> ClientCpu {
        match &self.plan.fleet {
            None => ClientCpu { total: own_cpu_seconds(), workers: Vec::new() },
            Some(fleet) => {
                let (total, workers) = fleet.cpu_seconds();
                ClientCpu { total, workers }
            }
        }
    }

    /// How often each worker has told its counters. Those of this process are always those of now.
    fn rounds(&self) -> Vec<u64> {
        self.plan.fleet.as_ref().map_or_else(Vec::new, Fleet::rounds)
    }

    /// Opens connections until `goal` are open, or until it is interrupted. An error if that does
    /// not come about: one cannot be opened, or none has been for a while.
    pub(crate) fn open(&self, goal: usize) -> Result<()> {
        self.board().set_goal(goal);
        self.stage("connecting", goal as u64);
        let mut progress = Progress { most: 0, since_ns: self.plan.clock.nanos() };
        loop {
            let (open, failed) = (self.board().sum(|l| &l.open), self.board().sum(|l| &l.failed));
            self.bar.set_position(open);
            if open >= goal as u64 || self.interrupted() {
                return Ok(());
            }
            let dropped = self.board().sum(|l| &l.dropped);
            // While connections are opened nothing may go, except that a client reconnects.
            let shut_out = self.plan.fleet.as_ref().filter(|_| failed > 0).map(|fleet| fleet.shut_out(self.plan));
            if let Some(ShutOut::Some(workers)) = &shut_out {
                let why = format!("{workers}: cannot reach the server");
                self.plan.interrupt.fail(format!("{why}; {}", self.board().troubles().join("; ")));
                bail!(why);
            }
            let failed = if matches!(shut_out, Some(ShutOut::Unknown)) { 0 } else { failed };
            if failed > 0 || (dropped > 0 && !self.plan.reconnect) || progress.stalls(open, self.plan.clock.nanos()) {
                bail!(
                    "{open} of {goal} connections opened, {failed} failed, {dropped} dropped\n  {}",
                    self.board().troubles().join("\n  ")
                );
            }
            pause(LOOK_MS);
        }
    }

    /// Waits for a number of seconds.
    pub(crate) fn wait(&self, what: &'static str, seconds: u64) {
        self.stage(what, seconds);
        self.wait_until(self.plan.clock.nanos() + seconds_ns(seconds), 0);
    }

    /// Waits until a condition holds, or `seconds` have passed: then false.
    pub(crate) fn wait_for(&self, what: &'static str, seconds: u64, holds: impl Fn(&Board) -> bool) -> bool {
        self.stage(what, seconds);
        let from = self.plan.clock.nanos();
        let (mut before, mut until) = (false, from + seconds_ns(seconds));
        let mut seen = self.rounds();
        while self.plan.clock.nanos() < until {
            // Counters of several threads are not read at one instant: what holds twice in a row
            // holds. Those of a worker count as read anew once it has told them twice since: the
            // first of these may have been on its way.
            let rounds = self.rounds();
            if rounds.iter().zip(&seen).all(|(now, seen)| *now >= seen.saturating_add(2)) {
                seen = rounds;
                let now = holds(self.board());
                if before && now {
                    return true;
                }
                before = now;
            }
            if self.interrupted() {
                until = until.min(self.plan.clock.nanos() + INTERRUPTED_DRAIN_NS);
            }
            self.bar.set_position((self.plan.clock.nanos() - from) / 1_000_000_000);
            pause(LOOK_MS);
        }
        holds(self.board())
    }

    /// The measurement: enters Running, waits `seconds` or until it is interrupted, and looks at
    /// CPU times after a warm-up and at the end.
    pub(crate) fn run(&self, seconds: u64) -> Steady {
        let clock = self.plan.clock;
        // Workers are told of it before it comes.
        let start = clock.nanos() + self.plan.fleet.as_ref().map_or(0, Fleet::lead_ns);
        self.board().enter(Phase::Running, start);
        self.stage("running", seconds);
        let warm_up = (seconds_ns(seconds) / 10).min(seconds_ns(2));
        let timeline = self.plan.timeline.as_ref();
        if let Some(timeline) = timeline {
            timeline.begin(start, self.board(), self.glance(), self.client_cpu());
        }
        let mut seen = Looks { next_ns: start, gap_ns: Timeline::gap_ns(seconds) };
        self.run_until(&mut seen, start + warm_up, start);
        self.mark(false);
        let from = self.counted();
        self.run_until(&mut seen, start + seconds_ns(seconds), start);
        let to = self.counted();
        self.mark(true);
        self.board().enter(Phase::Draining, clock.nanos());
        to.since(&from)
    }

    /// What has been counted so far, and then the server's figures, which may take their time.
    fn counted(&self) -> Counted {
        let board = self.board();
        let (delivered, acked) = (board.sum(|l| &l.delivered), board.sum(|l| &l.acked));
        let (at_ns, client, machine) = (self.plan.clock.nanos(), self.client_cpu().total, MachineTime::now());
        let server = self.glance();
        Counted { at_ns, delivered, acked, client, machine, server, read_ns: self.plan.clock.nanos() }
    }

    /// The stretch in which workers' CPU times count begins, or ends.
    fn mark(&self, end: bool) {
        if let Some(fleet) = &self.plan.fleet {
            fleet.mark(end);
        }
    }

    /// As [`Conductor::wait_until`], and looks at what the timeline shows when it is time.
    fn run_until(&self, seen: &mut Looks, until_ns: u64, start_ns: u64) {
        while let Some(timeline) = &self.plan.timeline
            && seen.next_ns + seen.gap_ns <= until_ns
            && !self.interrupted()
        {
            seen.next_ns += seen.gap_ns;
            self.wait_until(seen.next_ns, start_ns);
            let server = if self.interrupted() { Sample::default() } else { self.glance() };
            timeline.look(self.plan.clock.nanos(), self.board(), server, self.client_cpu());
            // Figures that were late have cost the points that were due meanwhile.
            let late_ns = self.plan.clock.nanos().saturating_sub(seen.next_ns);
            seen.next_ns += late_ns / seen.gap_ns * seen.gap_ns;
        }
        self.wait_until(until_ns, start_ns);
    }

    /// Waits until `until_ns` and calls `look` each second: the server's memory does not tell its
    /// maximum.
    pub(crate) fn watch(&self, what: &'static str, until_ns: u64, mut look: impl FnMut(Sample)) {
        let from = self.plan.clock.nanos();
        self.stage(what, until_ns.saturating_sub(from) / 1_000_000_000);
        let mut next = from;
        while next < until_ns && !self.interrupted() {
            next = (next + 1_000_000_000).min(until_ns);
            self.wait_until(next, from);
            look(self.glance());
        }
    }

    /// Waits until everything on its way has arrived, and a little longer for what should not come.
    /// False: something is missing.
    pub(crate) fn drain(&self, seconds: u64, complete: impl Fn(&Board) -> bool) -> bool {
        let done = self.wait_for("draining", seconds, complete);
        pause(LINGER_MS);
        done
    }

    fn stage(&self, what: &'static str, length: u64) {
        self.bar.set_message(what);
        self.bar.set_length(length);
        self.bar.set_position(0);
    }

    fn wait_until(&self, until_ns: u64, from_ns: u64) {
        while self.plan.clock.nanos() < until_ns && !self.interrupted() {
            if from_ns > 0 {
                // A start that workers were told of may lie ahead.
                self.bar.set_position(self.plan.clock.nanos().saturating_sub(from_ns) / 1_000_000_000);
            }
            pause(LOOK_MS.min((until_ns - self.plan.clock.nanos().min(until_ns)) / 1_000_000 + 1));
        }
    }
}

/// The counters and CPU times at one end of the steady stretch.
struct Counted {
    at_ns: u64,
    delivered: u64,
    acked: u64,
    /// CPU seconds of this program.
    client: Option<f64>,
    machine: Option<MachineTime>,
    server: Sample,
    /// When the server's figures were there: of these, not of `at_ns`, they are.
    read_ns: u64,
}

impl Counted {
    /// The stretch from an earlier one to this one.
    fn since(&self, from: &Self) -> Steady {
        let seconds = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1e9;
        let (wall, read) = (seconds(from.at_ns, self.at_ns), seconds(from.read_ns, self.read_ns));
        let share = |grown: Option<f64>, over: f64| {
            grown.filter(|_| over > STEADY_SECONDS_MIN).map(|seconds| seconds * 100.0 / over)
        };
        let grown = |from: Option<f64>, to: Option<f64>| from.zip(to).map(|(from, to)| to - from);
        let per_second = |from: u64, to: u64| (to - from) as f64 / wall.max(STEADY_SECONDS_MIN);
        let server_percent = share(grown(from.server.cpu_seconds, self.server.cpu_seconds), read);
        let deliveries_per_second = per_second(from.delivered, self.delivered);
        let costs = server_percent.filter(|_| deliveries_per_second > 0.0);
        let threads = self.server.threads_since(&from.server).into_iter();
        Steady {
            cpu_us_per_delivery: costs.map(|percent| percent * 1e4 / deliveries_per_second),
            server_percent,
            client_percent: share(grown(from.client, self.client), wall),
            machine_percent: from.machine.zip(self.machine).and_then(|(from, to)| to.percent_since(from)),
            deliveries_per_second,
            acked_per_second: per_second(from.acked, self.acked),
            mean_batch: self.server.mean_batch_since(&from.server),
            committing_percent: share(grown(from.server.commit_seconds, self.server.commit_seconds), read),
            threads: threads.filter_map(|(thread, cpu)| Some((thread, share(Some(cpu), read)?))).collect(),
        }
    }
}

/// How far the opening of connections is.
struct Progress {
    /// The most that were open.
    most: u64,
    /// Since when they are that many.
    since_ns: u64,
}

impl Progress {
    /// Whether nothing moves any more, now that so many are open.
    fn stalls(&mut self, open: u64, now_ns: u64) -> bool {
        if open > self.most {
            *self = Self { most: open, since_ns: now_ns };
        }
        now_ns.saturating_sub(self.since_ns) > OPENING_NS_MAX
    }
}

/// When the timeline was looked at last, and how far apart its points are.
struct Looks {
    next_ns: u64,
    gap_ns: u64,
}

/// Deals `count` things to `threads` in turn.
pub(crate) fn deal(count: usize, threads: usize, thread: usize) -> impl Iterator<Item = usize> {
    (thread..count).step_by(threads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opening_is_given_up_only_when_nothing_moves() {
        let mut progress = Progress { most: 0, since_ns: 0 };
        // One every half a minute, for an hour.
        assert!((1..=120).all(|open| !progress.stalls(open, open * OPENING_NS_MAX / 2)));
        assert!(!progress.stalls(119, 61 * OPENING_NS_MAX), "one went, and a minute has not passed");
        assert!(progress.stalls(120, 61 * OPENING_NS_MAX + 1), "it came back, which is nothing new");
    }

    #[test]
    fn figures_that_come_late_do_not_thin_what_was_counted() {
        let at = |at_ns, delivered, cpu, read_ns| Counted {
            at_ns,
            delivered,
            acked: delivered,
            client: Some(cpu),
            machine: None,
            server: Sample { cpu_seconds: Some(cpu), ..Sample::default() },
            read_ns,
        };
        let second = 1_000_000_000;
        let steady = at(11 * second, 1_100, 2.5, 16 * second).since(&at(second, 100, 0.5, second));
        assert_eq!((steady.deliveries_per_second, steady.acked_per_second), (100.0, 100.0));
        assert!((steady.server_percent.expect("known") - 2.0 / 15.0 * 100.0).abs() < 1e-9, "{steady:?}");
        assert_eq!(steady.client_percent, Some(20.0));
        let nothing = at(second, 100, 0.5, second).since(&at(second, 100, 0.5, second));
        assert_eq!((nothing.deliveries_per_second, nothing.server_percent), (0.0, None), "and no number that is none");
    }
}
