//! A million sessions in memory: what they weigh, what a step costs, what happens when all of them
//! come back at once.
//!
//! Owns: the acts of that run and their figures. Everything but the kernel is real: sessions,
//! rosters, timers, outboxes, packets, sweeps, messages between shards (see [`crate::gateway`]).

use std::fmt::Write as _;
use std::iter;

use anyhow::{Result, ensure};
use imgate::limits::IDLE_MS;
use serde_json::{Value, json};

use crate::clock;
use crate::curves::{Panel, Row};
use crate::gateway::{Gateway, Plan};
use crate::process::usage;

/// Upgrades that are given together, as a turn would.
const OPENS: u32 = 256;
/// Virtual milliseconds for each such batch: about 25,000 upgrades a second.
const OPENS_MS: u64 = 10;
/// Steps at which memory is looked at while everybody connects.
const STEPS: u32 = 10;
/// Group messages one by one, and in batches.
const MESSAGES: u64 = 10;
const BATCH: u64 = 16;
/// Direct messages, and how many of them come in one turn of a millisecond.
const DIRECTS: u32 = 100_000;
const DIRECTS_PER_TURN: u32 = 50;
/// A step that is coprime to any number of users that is no multiple of it: pairs that look random
/// and are not.
const STRIDE: u32 = 7_919;

/// What one act cost.
#[derive(Clone, Copy, Debug)]
pub struct Act {
    /// What was done.
    pub name: &'static str,
    /// Of what there were `count`.
    pub unit: &'static str,
    /// How many.
    pub count: u64,
    /// Processor time of all of them.
    pub cpu_ns: u64,
}

/// What there was when so many had come.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Sessions so far.
    pub sessions: u32,
    /// Resident bytes above the empty gateway.
    pub bytes: u64,
    /// Processor time of all the opens so far, without the proofs of identity.
    pub cpu_ns: u64,
    /// Time since the first came.
    pub wall_ns: u64,
}

/// All figures of a run.
pub struct Report {
    /// Shards, users, mode.
    pub plan: Plan,
    /// While everybody came.
    pub steps: Vec<Step>,
    /// What was done, in order.
    pub acts: Vec<Act>,
    /// Resident bytes above the empty gateway: before everybody left (with what the messages have
    /// left behind), then, and when everybody was back.
    pub before_bytes: u64,
    /// See above.
    pub left_bytes: u64,
    /// See above.
    pub back_bytes: u64,
    /// Messages between shards per direct message.
    pub hops_per_direct: f64,
    /// Requests to the store per reconnect.
    pub asks_per_reconnect: f64,
    /// Time of the whole run.
    pub wall_ns: u64,
}

impl Report {
    /// Growth per session between the first and the last step: what is allocated once is not in it.
    #[must_use]
    pub fn bytes_per_session(&self) -> f64 {
        let (Some(first), Some(last)) = (self.steps.first(), self.steps.last()) else { return 0.0 };
        (last.bytes as f64 - first.bytes as f64) / f64::from((last.sessions - first.sessions).max(1))
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let Plan { shards, users, volatile, .. } = self.plan;
        let mode = if volatile { "volatile" } else { "stored" };
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let full = self.steps.last().map_or(0, |step| step.bytes);
        let mut text = format!("{users} sessions of {users} users in one group of all, {shards} shards, {mode}\n\n");
        let _ = writeln!(text, "{:<66}{:>12.1} bytes", "memory per session (slope)", self.bytes_per_session());
        let _ = writeln!(text, "{:<66}{:>12.1} MiB", "memory of all, idle", mib(full));
        let _ = writeln!(text, "{:<66}{:>12.1} MiB", "memory before the storm", mib(self.before_bytes));
        let _ = writeln!(text, "{:<66}{:>12.1} MiB", "memory when all have left", mib(self.left_bytes));
        let _ = writeln!(text, "{:<66}{:>12.1} MiB", "memory when all are back", mib(self.back_bytes));
        for act in &self.acts {
            let each = act.cpu_ns as f64 / act.count.max(1) as f64;
            let what = format!("{}, CPU per {}", act.name, act.unit);
            let _ = writeln!(text, "{what:<66}{each:>12.1} ns{:>14.3} s in all", act.cpu_ns as f64 / 1e9);
        }
        let _ = writeln!(text, "{:<66}{:>12.2}", "messages between shards per direct message", self.hops_per_direct);
        let _ = writeln!(text, "{:<66}{:>12.2}", "requests to the store per reconnect", self.asks_per_reconnect);
        let _ = writeln!(text, "{:<66}{:>12.1} s", "the whole run", self.wall_ns as f64 / 1e9);
        text
    }

    /// For the picture.
    #[must_use]
    pub fn curves(&self) -> Row {
        let curve = |title, of: fn(&Step) -> f64| {
            let points = self.steps.iter().map(|step| (f64::from(step.sessions), of(step)));
            Panel { title, points: iter::once((0.0, 0.0)).chain(points).collect() }
        };
        let Plan { shards, volatile, .. } = self.plan;
        Row {
            title: format!(
                "Real shards in memory: {shards} shards, {}, one group of all",
                if volatile { "volatile" } else { "stored" }
            ),
            panels: vec![
                curve("user-space memory, MiB", |step| step.bytes as f64 / f64::from(1 << 20)),
                curve("CPU of opening, s", |step| step.cpu_ns as f64 / 1e9),
                curve("time, proofs with it, one thread, s", |step| step.wall_ns as f64 / 1e9),
            ],
        }
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let act = |act: &Act| {
            let figures = json!({
                "unit": act.unit, "count": act.count, "cpu_ns": act.cpu_ns,
                "cpu_ns_each": act.cpu_ns as f64 / act.count.max(1) as f64,
            });
            (act.name.to_owned(), figures)
        };
        let step = |step: &Step| {
            let Step { sessions, bytes, cpu_ns, wall_ns } = step;
            json!({ "sessions": sessions, "resident_bytes": bytes, "cpu_ns": cpu_ns, "wall_ns": wall_ns })
        };
        json!({
            "sessions": self.plan.users,
            "shards": self.plan.shards,
            "volatile": self.plan.volatile,
            "bytes_per_session": self.bytes_per_session(),
            "steps": self.steps.iter().map(step).collect::<Vec<_>>(),
            "before_bytes": self.before_bytes,
            "left_bytes": self.left_bytes,
            "back_bytes": self.back_bytes,
            "acts": self.acts.iter().map(act).collect::<serde_json::Map<_, _>>(),
            "hops_per_direct": self.hops_per_direct,
            "asks_per_reconnect": self.asks_per_reconnect,
            "wall_seconds": self.wall_ns as f64 / 1e9,
        })
    }
}

struct Run {
    gateway: Gateway,
    plan: Plan,
    empty_bytes: u64,
    acts: Vec<Act>,
}

/// Does it all.
///
/// # Errors
/// A check failed: somebody did not get what everybody got.
pub fn run(plan: Plan) -> Result<Report> {
    ensure!(plan.users >= STEPS * OPENS, "--users: at least {} are needed for a slope", STEPS * OPENS);
    let began_ns = clock::nanos();
    let gateway = Gateway::new(plan);
    let mut run = Run { gateway, plan, empty_bytes: resident()?, acts: Vec::new() };
    let steps = run.everybody_comes()?;
    run.group_messages()?;
    let hops_per_direct = run.direct_messages()?;
    run.heartbeats()?;
    let before_bytes = run.grown()?;
    let (left_bytes, asks) = run.storm()?;
    let back_bytes = run.grown()?;
    let asks_per_reconnect = asks as f64 / f64::from(plan.users);
    let wall_ns = clock::nanos() - began_ns;
    Ok(Report {
        plan,
        steps,
        acts: run.acts,
        before_bytes,
        left_bytes,
        back_bytes,
        hops_per_direct,
        asks_per_reconnect,
        wall_ns,
    })
}

fn resident() -> Result<u64> {
    Ok(usage(std::process::id())?.resident_bytes)
}

impl Run {
    fn grown(&self) -> Result<u64> {
        Ok(resident()?.saturating_sub(self.empty_bytes))
    }

    fn note(&mut self, name: &'static str, unit: &'static str, count: u64, cpu_ns: u64) {
        self.acts.push(Act { name, unit, count, cpu_ns });
    }

    fn timed(&mut self, act: impl FnOnce(&mut Gateway)) -> u64 {
        let before_ns = clock::thread_cpu_nanos();
        act(&mut self.gateway);
        clock::thread_cpu_nanos() - before_ns
    }

    /// Opens sessions `from..=to`; answers the processor time without the proofs, which the gate
    /// makes.
    fn open(&mut self, from: u32, to: u32) -> u64 {
        let mut cpu_ns = 0;
        let mut next = from;
        while next <= to {
            let end = to.min(next + OPENS - 1);
            let proofs: Vec<_> = (next..=end).map(|number| (number, self.gateway.identity(number))).collect();
            self.gateway.pass(OPENS_MS);
            cpu_ns += self.timed(|gateway| {
                for (number, identity) in proofs {
                    gateway.open(number, identity);
                }
                gateway.settle();
            });
            next = end + 1;
        }
        cpu_ns
    }

    fn everybody_comes(&mut self) -> Result<Vec<Step>> {
        let began_ns = clock::nanos();
        let mut steps = Vec::new();
        let mut cpu_ns = 0;
        let mut from = 1;
        for step in 1..=STEPS {
            let to = (u64::from(self.plan.users) * u64::from(step) / u64::from(STEPS)) as u32;
            cpu_ns += self.open(from, to);
            from = to + 1;
            steps.push(Step { sessions: to, bytes: self.grown()?, cpu_ns, wall_ns: clock::nanos() - began_ns });
        }
        self.all_are_here()?;
        self.note("open", "session", u64::from(self.plan.users), cpu_ns);
        Ok(steps)
    }

    fn all_are_here(&mut self) -> Result<()> {
        for (sessions, slots) in self.gateway.sessions() {
            ensure!(sessions == u64::from(slots), "{sessions} of {slots} sessions are open");
        }
        Ok(())
    }

    fn group_messages(&mut self) -> Result<()> {
        let others = u64::from(self.plan.users) - 1;
        let text = r#"{"cmd":11,"dstid":1,"media":1,"content":"shall we meet at the station at half past?"}"#;
        for (name, batch) in [("group message", 1), ("16 group messages at once", BATCH)] {
            let before = (self.gateway.delivered(), self.gateway.taken(2), self.gateway.taken(self.plan.users));
            let (mut step_ns, mut sweep_ns) = (0, 0);
            for _ in 0..MESSAGES {
                step_ns += self.timed(|gateway| {
                    for _ in 0..batch {
                        gateway.post(1, text.as_bytes());
                    }
                    gateway.advance();
                });
                sweep_ns += self.timed(Gateway::sweep);
                self.gateway.settle();
            }
            let delivered = self.gateway.delivered() - before.0;
            ensure!(
                delivered == MESSAGES * batch * others,
                "{delivered} deliveries of {MESSAGES} × {batch} × {others}"
            );
            let (a, b) = (self.gateway.taken(2) - before.1, self.gateway.taken(self.plan.users) - before.2);
            ensure!(a == b && a > 0, "one member has taken {a} bytes, another {b}");
            self.note(name, "delivery, without the send", delivered, sweep_ns);
            if batch == 1 {
                self.note("group message to all shards", "message, without the sweeps", MESSAGES, step_ns);
            }
        }
        Ok(())
    }

    fn direct_messages(&mut self) -> Result<f64> {
        let users = self.plan.users;
        let (delivered, hops) = (self.gateway.delivered(), self.gateway.counts.hops);
        let mut cpu_ns = 0;
        let mut number = 0;
        for _ in 0..DIRECTS / DIRECTS_PER_TURN {
            let mut texts = Vec::new();
            for _ in 0..DIRECTS_PER_TURN {
                number = (number + STRIDE) % users;
                let peer = (number + users / 2) % users;
                let text = format!(r#"{{"cmd":10,"dstid":{},"media":1,"content":"half past?"}}"#, peer + 1);
                texts.push((number + 1, text));
            }
            self.gateway.pass(1);
            cpu_ns += self.timed(|gateway| {
                for (number, text) in &texts {
                    gateway.post(*number, text.as_bytes());
                }
                gateway.settle();
            });
        }
        let delivered = self.gateway.delivered() - delivered;
        ensure!(delivered == u64::from(DIRECTS), "{delivered} of {DIRECTS} direct messages were delivered");
        self.note("direct message", "message with its ack, without sends", u64::from(DIRECTS), cpu_ns);
        Ok((self.gateway.counts.hops - hops) as f64 / f64::from(DIRECTS))
    }

    /// Everybody is silent until everybody has been pinged, and answers.
    fn heartbeats(&mut self) -> Result<()> {
        let pongs = self.gateway.counts.pongs;
        let everybody = pongs + u64::from(self.plan.users);
        let (mut cpu_ns, mut passed_ms) = (0, 0);
        // In steps, as time passes; in one, all would be due at once.
        while self.gateway.counts.pongs < everybody && passed_ms < IDLE_MS {
            self.gateway.pass(HEARTBEAT_STEP_MS);
            passed_ms += HEARTBEAT_STEP_MS;
            cpu_ns += self.timed(Gateway::settle);
        }
        let pongs = self.gateway.counts.pongs - pongs;
        ensure!(pongs >= u64::from(self.plan.users), "only {pongs} were pinged");
        self.all_are_here()?;
        self.note("heartbeat", "ping and pong, without the sends", pongs, cpu_ns);
        Ok(())
    }

    /// All connections break and come back. Answers the memory in between, and the requests to the
    /// store.
    fn storm(&mut self) -> Result<(u64, u64)> {
        let users = self.plan.users;
        let mut cpu_ns = 0;
        for number in 1..=users {
            self.gateway.lose(number);
            if number % OPENS == 0 || number == users {
                cpu_ns += self.timed(Gateway::settle);
            }
        }
        ensure!(self.gateway.sessions().iter().all(|&(sessions, _)| sessions == 0), "somebody is still here");
        self.note("storm: all connections break", "session", u64::from(users), cpu_ns);
        let left_bytes = self.grown()?;
        let asks = self.gateway.counts.asks;
        let cpu_ns = self.open(1, users);
        self.all_are_here()?;
        self.note("storm: all come back", "session", u64::from(users), cpu_ns);
        Ok((left_bytes, self.gateway.counts.asks - asks))
    }
}

/// How finely the clock moves while everybody is silent.
const HEARTBEAT_STEP_MS: u64 = 250;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_million_passes_all_its_checks() {
        for (shards, volatile) in [(1, true), (3, false)] {
            let report = run(Plan { shards, users: 4000, in_group: true, volatile }).expect("everybody got everything");
            assert_eq!(report.steps.len(), STEPS as usize);
            assert!(
                report.steps.is_sorted_by(|a, b| a.cpu_ns < b.cpu_ns && a.wall_ns < b.wall_ns),
                "{:?}",
                report.steps
            );
            assert!(report.curves().panels.iter().all(|panel| panel.points.len() == STEPS as usize + 1));
            assert!(report.acts.iter().all(|act| act.count > 0 && act.cpu_ns > 0), "{:?}", report.acts);
            assert_eq!(report.hops_per_direct > 0.0, shards > 1);
            assert!(report.text().contains("open, CPU per session"));
        }
    }
}
