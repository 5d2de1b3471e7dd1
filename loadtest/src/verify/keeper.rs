//! The server's process, if it is ours to keep, and the commands that torment it at given times.
//!
//! Owns: the child, its restarts, `PID` in the commands' environment, the log of what happened
//! when.
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
    /// The server's process; 0: none.
    pid: AtomicU32,
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
    /// The server's command line; `None`: it is kept elsewhere.
    pub(crate) server: Option<String>,
    /// Where its output goes, appended.
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

    /// Stops the server, if it is ours, and ends [`Keeper::keep`].
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Commands that have not ended yet.
    pub(crate) fn busy(&self) -> bool {
        self.running.load(Ordering::Relaxed) > 0
    }

    /// The server's process now.
    pub(crate) fn pid(&self) -> Option<u32> {
        Some(self.pid.load(Ordering::Relaxed)).filter(|pid| *pid > 0)
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
        let mut server = duty.server.as_deref().map(|line| self.start(line, &duty, clock)).transpose()?;
        let (mut orders, mut children) = (Vec::new(), Vec::new());
        let (mut was_armed, mut again_ns) = (false, None);
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
            if let Some(child) = &mut server
                && let Some(status) = child.try_wait().context("the server's process")?
            {
                self.died(status, clock);
                (server, again_ns) = (None, Some(now + RESTART_NS));
            }
            if let (Some(line), Some(at)) = (&duty.server, again_ns)
                && at <= now
            {
                (server, again_ns) = (Some(self.start(line, &duty, clock)?), None);
            }
            pause(LOOK_MS);
        }
        for (child, _) in &mut children {
            // It may have ended in the meantime.
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(child) = server {
            self.end(child, clock)?;
        }
        Ok(())
    }

    fn start(&self, line: &str, duty: &Duty, clock: Clock) -> Result<Child> {
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
        self.pid.store(child.id(), Ordering::Relaxed);
        self.note(clock, format!("the server was started, process {}", child.id()));
        Ok(child)
    }

    fn died(&self, status: ExitStatus, clock: Clock) {
        self.pid.store(0, Ordering::Relaxed);
        self.deaths.fetch_add(1, Ordering::Relaxed);
        let wanted = matches!(status.signal(), Some(SIGKILL | SIGTERM)) || status.success();
        self.note(clock, format!("the server ended: {status}"));
        if !wanted {
            let mut crashes = self.crashes.lock().unwrap_or_else(PoisonError::into_inner);
            if crashes.len() < EVENTS_KEPT {
                crashes.push(format!("the server ended by itself: {status}, at {:.3} s", clock.nanos() as f64 / 1e9));
            }
        }
    }

    /// Runs what is due.
    fn give(&self, orders: &mut Vec<Order>, children: &mut Vec<(Child, String)>, now: u64, clock: Clock) {
        for order in orders.iter_mut().filter(|order| order.at_ns <= now) {
            order.at_ns = order.every_ns.map_or(u64::MAX, |every| order.at_ns + every);
            let pid = self.pid();
            if children.len() >= COMMANDS_MAX || (pid.is_none() && order.command.contains("$PID")) {
                self.note(clock, format!("skipped {:?}: no process, or too many commands", order.command));
                continue;
            }
            let mut command = Command::new("sh");
            command.args(["-c", &order.command]).stdin(Stdio::null()).stdout(Stdio::null());
            if let Some(pid) = pid {
                command.env("PID", pid.to_string());
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

    /// Asks the server to stop, and kills it if it does not.
    fn end(&self, mut child: Child, clock: Clock) -> Result<()> {
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            // It may have ended in the meantime.
            let _ = kill_process(pid, Signal::TERM);
        }
        let until = clock.nanos() + STOP_NS;
        while clock.nanos() < until {
            if let Some(status) = child.try_wait()? {
                if !status.success() && status.signal() != Some(SIGTERM) {
                    self.died(status, clock);
                }
                return Ok(());
            }
            pause(LOOK_MS);
        }
        child.kill().context("the server's process")?;
        child.wait()?;
        self.crashes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push("the server did not stop when it was asked to".to_owned());
        Ok(())
    }
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
        let duty = Duty { server: Some("sleep 60".to_owned()), log: None, orders: vec![order("kill -9 $PID")] };
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| keeper.keep(duty, clock));
            keeper.arm(clock);
            while keeper.deaths.load(Ordering::Relaxed) < 2 {
                pause(1);
            }
            keeper.stop();
            thread.join().expect("the keeper").expect("kept");
        });
        assert!(keeper.crashes().is_empty() && keeper.commands.load(Ordering::Relaxed) >= 2);
        assert!(keeper.around(0, 0).iter().any(|event| event.contains("was started")));

        let keeper = Keeper::default();
        let duty = Duty { server: Some("false".to_owned()), log: None, orders: Vec::new() };
        std::thread::scope(|scope| {
            scope.spawn(|| keeper.keep(duty, clock));
            while keeper.crashes().is_empty() {
                pause(1);
            }
            keeper.stop();
        });
        assert!(keeper.crashes()[0].contains("by itself"));
    }
}
