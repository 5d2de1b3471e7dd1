//! A server that is told to stop while it has all the connections.

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::clock::{Clock, seconds_ns};
use crate::conduct::Conductor;
use crate::exit::Exit;
use crate::report::Report;

/// A process, and no other one that is given its number later (pidfd_open(2)).
pub(super) struct Server(OwnedFd);

/// How it stopped.
pub(super) struct Stop {
    /// From the signal until the last connection was gone.
    closed_ns: Option<u64>,
    /// From the signal until the process was.
    gone_ns: Option<u64>,
    /// Connections that stood when the time was over.
    left: u64,
}

impl Server {
    /// The process of that number.
    pub(super) fn of(pid: u32) -> Result<Self> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw).context("--server-pid: no number of a process")?;
        Ok(Self(pidfd_open(number, PidfdFlags::empty()).with_context(|| format!("cannot find the process {pid}"))?))
    }

    /// Sends it SIGTERM, and waits so many seconds for its end.
    pub(super) fn stop(&self, conductor: &Conductor<'_>, within: u64) -> Result<Stop> {
        let clock = Clock::start();
        pidfd_send_signal(&self.0, Signal::TERM).context("cannot signal the server")?;
        let all_closed = conductor.wait_for("stopping", within, |board| board.sum(|l| &l.open) == 0);
        let closed_ns = all_closed.then(|| clock.nanos());
        let left_ns = seconds_ns(within).saturating_sub(clock.nanos());
        let gone_ns = self.await_end(left_ns)?.then(|| clock.nanos());
        Ok(Stop { closed_ns, gone_ns, left: conductor.board().sum(|l| &l.open) })
    }

    fn await_end(&self, ns: u64) -> Result<bool> {
        let limit = Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 };
        loop {
            match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&limit)) {
                Ok(ready) => return Ok(ready > 0),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("cannot wait for the server's end"),
            }
        }
    }
}

fn in_seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

impl Stop {
    /// Tells it, and fails where it did not come to its end in time.
    pub(super) fn tell(&self, report: &mut Report, within: u64) {
        report.figure("all_closed_after", self.closed_ns.map(in_seconds), "s");
        report.figure("stopped_after", self.gone_ns.map(in_seconds), "s");
        report.must_be_zero("still_open", self.left);
        if self.gone_ns.is_none() {
            report.fail(Exit::Failed, format!("the server had not stopped after {within} s"));
        }
    }
}
