//! A server that is told to stop while it has all the connections.

use std::cell::Cell;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::board::Board;
use crate::clock::Clock;
use crate::conduct::Conductor;
use crate::exit::Exit;
use crate::report::Report;

/// A process, and no other one that is given its number later (pidfd_open(2)).
pub(super) struct Server(OwnedFd);

/// How long a stop may take.
#[derive(Clone, Copy)]
pub(super) struct Within {
    /// Seconds until the process is gone.
    pub(super) gone_s: u64,
    /// Seconds from then on until all connections are seen to be closed.
    pub(super) seen_s: u64,
}

/// How it stopped.
pub(super) struct Stop {
    /// From the signal until the last connection was gone.
    closed_ns: Option<u64>,
    /// From the signal until the process was.
    gone_ns: Option<u64>,
    /// Connections that were not seen to be closed in time.
    left: u64,
}

impl Server {
    /// The process of that number.
    pub(super) fn of(pid: u32) -> Result<Self> {
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw).context("--server-pid: no number of a process")?;
        Ok(Self(pidfd_open(number, PidfdFlags::empty()).with_context(|| format!("cannot find the process {pid}"))?))
    }

    /// Sends it SIGTERM, and waits for its end. The ends of its connections may be seen a little
    /// later: closing a million of them takes the kernel, and reading that takes this process.
    pub(super) fn stop(&self, conductor: &Conductor<'_>, within: Within) -> Result<Stop> {
        let (clock, closed_ns, gone_ns) = (Clock::start(), Cell::new(None), Cell::new(None));
        pidfd_send_signal(&self.0, Signal::TERM).context("cannot signal the server")?;
        let look = |board: &Board| {
            if closed_ns.get().is_none() && board.sum(|l| &l.open) == 0 {
                closed_ns.set(Some(clock.nanos()));
            }
            if gone_ns.get().is_none() && self.has_ended() {
                gone_ns.set(Some(clock.nanos()));
            }
        };
        let gone = conductor.wait_for("stopping", within.gone_s, |board| {
            look(board);
            gone_ns.get().is_some()
        });
        if gone {
            conductor.wait_for("seeing the ends", within.seen_s, |board| {
                look(board);
                closed_ns.get().is_some()
            });
        }
        Ok(Stop { closed_ns: closed_ns.get(), gone_ns: gone_ns.get(), left: conductor.board().sum(|l| &l.open) })
    }

    fn has_ended(&self) -> bool {
        poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }
}

fn in_seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

impl Stop {
    /// Tells it, and fails where it did not come to its end in time.
    pub(super) fn tell(&self, report: &mut Report, within: Within) {
        report.figure("all_closed_after", self.closed_ns.map(in_seconds), "s");
        report.figure("stopped_after", self.gone_ns.map(in_seconds), "s");
        report.must_be_zero("still_open", self.left);
        if self.gone_ns.is_none() {
            report.fail(Exit::Failed, format!("the server had not stopped after {} s", within.gone_s));
        }
    }
}
