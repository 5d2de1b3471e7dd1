//! The servers' processes, if they are ours to keep, and the commands that torment them at given
//! times.
//!
//! Owns: the children, their restarts, `PID` and `PID_1`, `PID_2`, … in the commands' environment,
//! the log of what happened when.
//! Never: touches a process that it did not start. The commands do what the user wrote.
//! Bounds: [`COMMANDS_MAX`] commands at the same time, [`EVENTS_KEPT`] events.

use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::clock::{Clock, pause};
use crate::limits::{COMMANDS_MAX, EVENTS_KEPT};

/// How often the keeper looks at everything.
const LOOK_MS: u64 = 10;
/// Pause before a dead server is started again: long enough that a server that cannot start does
/// not spin.
const RESTART_NS: u64 = 300_000_000;
/// How long the server may take to stop when it is asked to.
const STOP_NS: u64 = 12_000_000_000;

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// A command and its times, in nanoseconds since the run began.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Order {
    pub(crate) at_ns: u64,
    /// Again after this time.
    pub(crate) every_ns: Option<u64>,
    pub(crate) command: String,
}

/// Reads `10s`, `500ms`, `2m`.
pub(crate) fn duration_ns(text: &str) -> Result<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => bail!("{text:?} is not a time: write 500ms, 10s or 2m"),
    };
    let number: u64 = number.parse().with_context(|| format!("{text:?} is not a time"))?;
    ensure!(number <= 1_000_000, "{text:?} is too long");
    Ok(number * unit_ms * 1_000_000)
}

/// Shared between the keeper's thread and the one that conducts.
#[derive(Default, Debug)]
pub(crate) struct Keeper {
    /// Whether commands run now: only during the torment.
    armed: AtomicBool,
    stop: AtomicBool,
    armed_ns: AtomicU64,
    /// The servers' processes; `None`: it does not run.
    pids: Mutex<Vec<Option<u32>>>,
    /// Commands that named `PID`.
    turns: AtomicU32,
    /// Commands running now.
    running: AtomicU32,
    pub(crate) commands: AtomicU32,
    pub(crate) failed_commands: AtomicU32,
    pub(crate) deaths: AtomicU32,
    /// Deaths that no signal of a user explains.
    crashes: Mutex<Vec<String>>,
    events: Mutex<Vec<(u32, String)>>,
}

/// What to keep.
#[derive(Clone, Debug)]
pub(crate) struct Duty {
    /// The servers' command lines; none: they are kept elsewhere.
    pub(crate) servers: Vec<String>,
    /// Where their output goes, appended.
    pub(crate) log: Option<PathBuf>,
    pub(crate) orders: Vec<Order>,
}

impl Keeper {
    /// Commands run from now on: their times count from here.
    pub(crate) fn arm(&self, clock: Clock) {
        self.armed_ns.store(clock.nanos(), Ordering::Relaxed);
        self.armed.store(true, Ordering::Release);
    }

    /// No new commands; those under way go on.
    pub(crate) fn disarm(&self) {
        self.armed.store(false, Ordering::Release);
    }

    /// Stops the servers, if they are ours, and ends [`Keeper::keep`].
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Commands that have not ended yet.
    pub(crate) fn busy(&self) -> bool {
        self.running.load(Ordering::Relaxed) > 0
    }

    /// The first server's process now.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.pids().first().copied().flatten()
    }

    /// The servers' processes now.
    fn pids(&self) -> Vec<Option<u32>> {
        self.pids.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn runs(&self, server: usize, pid: Option<u32>) {
        self.pids.lock().unwrap_or_else(PoisonError::into_inner)[server] = pid;
    }

    /// How the server ended by itself, each time.
    pub(crate) fn crashes(&self) -> Vec<String> {
        self.crashes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What happened at most `window_ms` before a time, and shortly after it.
    pub(crate) fn around(&self, at_ms: u32, window_ms: u32) -> Vec<String> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let near = |(at, _): &&(u32, String)| *at + window_ms >= at_ms && *at <= at_ms + 1000;
        events.iter().filter(near).map(|(at, what)| format!("{:.3} s: {what}", f64::from(*at) / 1e3)).collect()
    }

    fn note(&self, clock: Clock, what: String) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() < EVENTS_KEPT {
            events.push(((clock.nanos() / 1_000_000) as u32, what));
        }
    }

    /// The keeper's thread: until it is stopped.
    pub(crate) fn keep(&self, duty: Duty, clock: Clock) -> Result<()> {
        *self.pids.lock().unwrap_or_else(PoisonError::into_inner) = vec![None; duty.servers.len()];
        let mut servers = Vec::new();
        for place in 0..duty.servers.len() {
            servers.push(Server::Runs(self.start(place, &duty, clock)?));
        }
        let (mut orders, mut children) = (Vec::new(), Vec::new());
        let mut was_armed = false;
        while !self.stop.load(Ordering::Acquire) {
            let now = clock.nanos();
            let armed = self.armed.load(Ordering::Acquire);
            if armed && !was_armed {
                let zero = self.armed_ns.load(Ordering::Relaxed);
                orders = duty.orders.iter().map(|order| Order { at_ns: zero + order.at_ns, ..order.clone() }).collect();
            }
            was_armed = armed;
            if armed {
                self.give(&mut orders, &mut children, now, clock);
            }
            self.reap(&mut children, clock);
            for (place, server) in servers.iter_mut().enumerate() {
                match server {
                    Server::Runs(child) => {
                        if let Some(status) = child.try_wait().context("the server's process")? {
                            self.died(place, status, clock);
                            *server = Server::Again(now + RESTART_NS);
                        }
                    }
                    Server::Again(at) if *at <= now => *server = Server::Runs(self.start(place, &duty, clock)?),
                    Server::Again(_) => {}
                }
            }
            pause(LOOK_MS);
        }
        for (child, _) in &mut children {
            // It may have ended in the meantime.
            let _ = child.kill();
            let _ = child.wait();
        }
        self.end(servers, clock)
    }

    fn start(&self, place: usize, duty: &Duty, clock: Clock) -> Result<Child> {
        let line = &duty.servers[place];
        let mut command = Command::new("sh");
        // `exec`: the child is the server itself, so that its number is the one to kill.
        command.args(["-c", &format!("exec {line}")]).stdin(Stdio::null());
        if let Some(path) = &duty.log {
            let open = || OpenOptions::new().create(true).append(true).open(path);
            command.stdout(open().with_context(|| format!("cannot write {}", path.display()))?);
            command.stderr(open()?);
        } else {
            command.stdout(Stdio::null());
        }
        let child = command.spawn().with_context(|| format!("cannot start {line:?}"))?;
        self.runs(place, Some(child.id()));
        self.note(clock, format!("server {} was started, process {}", place + 1, child.id()));
        Ok(child)
    }

    fn died(&self, place: usize, status: ExitStatus, clock: Clock) {
        let number = place + 1;
        self.runs(place, None);
        self.deaths.fetch_add(1, Ordering::Relaxed);
        let wanted = matches!(status.signal(), Some(SIGKILL | SIGTERM)) || status.success();
        self.note(clock, format!("server {number} ended: {status}"));
        if !wanted {
            let mut crashes = self.crashes.lock().unwrap_or_else(PoisonError::into_inner);
            if crashes.len() < EVENTS_KEPT {
                crashes
                    .push(format!("server {number} ended by itself: {status}, at {:.3} s", clock.nanos() as f64 / 1e9));
            }
        }
    }

    /// Runs what is due.
    fn give(&self, orders: &mut Vec<Order>, children: &mut Vec<(Child, String)>, now: u64, clock: Clock) {
        for order in orders.iter_mut().filter(|order| order.at_ns <= now) {
            order.at_ns = order.every_ns.map_or(u64::MAX, |every| order.at_ns + every);
            let pids = self.pids();
            // `PID` is each server in its turn, so that a command that is repeated meets all of
            // them.
            let turn = self.turns.load(Ordering::Relaxed) as usize % pids.len().max(1);
            if mentions(&order.command, "PID") {
                self.turns.fetch_add(1, Ordering::Relaxed);
            }
            let is_gone = |name: &str, pid: Option<u32>| pid.is_none() && mentions(&order.command, name);
            let gone = is_gone("PID", pids.get(turn).copied().flatten())
                || pids.iter().enumerate().any(|(place, pid)| is_gone(&format!("PID_{}", place + 1), *pid));
            if children.len() >= COMMANDS_MAX || gone {
                self.note(clock, format!("skipped {:?}: no process, or too many commands", order.command));
                continue;
            }
            let mut command = Command::new("sh");
            command.args(["-c", &order.command]).stdin(Stdio::null()).stdout(Stdio::null());
            for (place, pid) in pids.iter().enumerate() {
                let Some(pid) = pid else { continue };
                command.env(format!("PID_{}", place + 1), pid.to_string());
                if place == turn {
                    command.env("PID", pid.to_string());
                }
            }
            self.note(clock, format!("command {:?}", order.command));
            self.commands.fetch_add(1, Ordering::Relaxed);
            match command.spawn() {
                Ok(child) => children.push((child, order.command.clone())),
                Err(_) => {
                    self.failed_commands.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        orders.retain(|order| order.at_ns != u64::MAX);
        self.running.store(children.len() as u32, Ordering::Relaxed);
    }

    fn reap(&self, children: &mut Vec<(Child, String)>, clock: Clock) {
        children.retain_mut(|(child, line)| match child.try_wait() {
            Ok(None) => true,
            Ok(Some(status)) if status.success() => false,
            _ => {
                self.failed_commands.fetch_add(1, Ordering::Relaxed);
                self.note(clock, format!("command {line:?} failed"));
                false
            }
        });
        self.running.store(children.len() as u32, Ordering::Relaxed);
    }

    /// Asks the servers to stop, all at once, and kills those that do not.
    fn end(&self, servers: Vec<Server>, clock: Clock) -> Result<()> {
        let places = servers.into_iter().enumerate();
        let running = places.filter_map(|(place, server)| match server {
            Server::Runs(child) => Some((place, child)),
            Server::Again(_) => None,
        });
        let mut running: Vec<_> = running.collect();
        for (_, child) in &running {
            if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                // It may have ended in the meantime.
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        let until = clock.nanos() + STOP_NS;
        while clock.nanos() < until && !running.is_empty() {
            let mut still = Vec::new();
            for (place, mut child) in running {
                match child.try_wait()? {
                    None => still.push((place, child)),
                    Some(status) if status.success() || status.signal() == Some(SIGTERM) => {}
                    Some(status) => self.died(place, status, clock),
                }
            }
            running = still;
            pause(LOOK_MS);
        }
        for (place, mut child) in running {
            child.kill().context("the server's process")?;
            child.wait()?;
            let story = format!("server {} did not stop when it was asked to", place + 1);
            self.crashes.lock().unwrap_or_else(PoisonError::into_inner).push(story);
        }
        Ok(())
    }
}

/// One of the servers.
#[derive(Debug)]
enum Server {
    Runs(Child),
    /// It has ended, and is started again at that time.
    Again(u64),
}

/// Whether a shell command names a variable: `$PID` is not meant by `$PID_1`.
fn mentions(command: &str, name: &str) -> bool {
    let goes_on = |c: char| c == '_' || c.is_ascii_alphanumeric();
    command.split('$').skip(1).any(|rest| {
        let rest = rest.strip_prefix('{').unwrap_or(rest);
        rest.strip_prefix(name).is_some_and(|rest| !rest.starts_with(goes_on))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(duration_ns("10s").expect("a time"), 10_000_000_000);
        assert_eq!(duration_ns("500ms").expect("a time"), 500_000_000);
        assert_eq!(duration_ns("2m").expect("a time"), 120_000_000_000);
        assert!(["", "10", "s", "-1s", "1h", "9999999s"].into_iter().all(|bad| duration_ns(bad).is_err()));
    }

    #[test]
    fn a_killed_server_is_started_again_and_a_failing_one_is_told() {
        let clock = Clock::start();
        let keeper = Keeper::default();
        let order = |command: &str| Order { at_ns: 0, every_ns: Some(100_000_000), command: command.to_owned() };
        let servers = vec!["sleep 60".to_owned(), "sleep 61".to_owned()];
        let duty = Duty { servers, log: None, orders: vec![order("kill -9 $PID")] };
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| keeper.keep(duty, clock));
            keeper.arm(clock);
            let died = |server| keeper.around(0, 60_000).iter().any(|event| event.contains(&format!("{server} ended")));
            while !(died("server 1") && died("server 2")) {
                pause(1);
            }
            keeper.stop();
            thread.join().expect("the keeper").expect("kept");
        });
        assert!(keeper.crashes().is_empty() && keeper.commands.load(Ordering::Relaxed) >= 2);
        assert!(keeper.around(0, 0).iter().any(|event| event.contains("was started")));

        let keeper = Keeper::default();
        let duty = Duty { servers: vec!["false".to_owned()], log: None, orders: Vec::new() };
        std::thread::scope(|scope| {
            scope.spawn(|| keeper.keep(duty, clock));
            while keeper.crashes().is_empty() {
                pause(1);
            }
            keeper.stop();
        });
        assert!(keeper.crashes()[0].contains("by itself"));
    }

    #[test]
    fn a_variable_is_named_whole() {
        assert!(mentions("kill -9 $PID", "PID") && mentions("kill ${PID_2}; true", "PID_2"));
        assert!(!mentions("kill $PID_1", "PID") && !mentions("kill $PID_12", "PID_1") && !mentions("PID", "PID"));
    }
}
