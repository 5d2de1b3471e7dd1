//! The family of scenarios: each is one file with its flags and a `run` that returns a report.
//!
//! To add one: a file here with `Flags` and `run`, a variant of [`Scenario`], an arm in
//! [`Scenario::run`], a section in the README.

pub(crate) mod capacity;
pub(crate) mod chatroom;
pub(crate) mod check;
pub(crate) mod churn;
pub(crate) mod compare;
pub(crate) mod cost;
mod crowd;
pub(crate) mod direct;
pub(crate) mod fanout;
mod fleet;
pub(crate) mod flood;
pub(crate) mod idle;
pub(crate) mod mixed;
mod pair;
mod restart;
pub(crate) mod slow;
pub(crate) mod storm;
mod traffic;
pub(crate) mod verify;

use std::path::Path;

use anyhow::{Result, bail};
use clap::Subcommand;

use crate::interrupt::Interrupt;
use crate::options::Options;
use crate::report::Report;
use crate::split::worker::Station;

/// What to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Scenario {
    /// Many connections that do nothing: memory per connection, and whether they all still answer.
    Idle(idle::Flags),
    /// One group at a steady rate: every member gets every message once and in order.
    Fanout(fanout::Flags),
    /// Pairs of users that answer each other.
    Direct(direct::Flags),
    /// A day in the life: chat in pairs and in a group, typing, read marks, history, lists,
    /// presence, reconnects and logins, in the proportions that a file says.
    #[command(mut_arg("legacy", |arg| arg.hide(true)))]
    Mixed(mixed::Flags),
    /// How many messages a second a gateway carries within given bounds: raises the rate until they
    /// do not hold, narrows it down, proves the answer, and says what gave way.
    Capacity(capacity::Flags),
    /// Two reports that were kept with `--json`, beside each other.
    Compare(compare::Flags),
    /// Compares what a `direct` run was acked with the history that the server has.
    Check(check::Flags),
    /// Torments the server while devices talk, and compares everything that any device saw: nothing
    /// acked is lost, nothing is seen twice.
    Verify(verify::Flags),
    /// A group in which some members stop reading: the others must not feel it, and those that wake
    /// up must miss nothing.
    // Both are refused there, or settled: what is synced is stored, and only the new protocol
    // syncs.
    // No run of it, nor of the next three, is shared so far: they say so.
    #[command(mut_arg("legacy", |arg| arg.hide(true)), mut_arg("mode", |arg| arg.hide(true)))]
    #[command(mut_arg("workers", |arg| arg.hide(true)), mut_arg("secret_file", |arg| arg.hide(true)))]
    Slow(slow::Flags),
    /// What a stored and a volatile direct message cost several gateways, in interleaved rounds, as
    /// a Markdown table.
    Cost(cost::Flags),
    /// Connections come and go: CPU and latency of an authenticated upgrade.
    #[command(mut_arg("workers", |arg| arg.hide(true)), mut_arg("secret_file", |arg| arg.hide(true)))]
    Churn(churn::Flags),
    /// All connections go, and all clients come back at once.
    #[command(mut_arg("workers", |arg| arg.hide(true)), mut_arg("secret_file", |arg| arg.hide(true)))]
    Storm(storm::Flags),
    /// The gateway is stopped in order and started again by somebody else: how evenly the clients
    /// go and come back.
    #[command(mut_arg("workers", |arg| arg.hide(true)), mut_arg("secret_file", |arg| arg.hide(true)))]
    Restart(restart::Flags),
    /// simple-chatroom's client that never reads, beside a reader that must receive every message.
    Chatroom(chatroom::Flags),
    /// Attackers that take what they can get, of one sort after another, and whether well-behaved
    /// users beside them feel it.
    Flood(flood::Flags),
}

/// Those whose run several processes may share.
pub(crate) const SHARED: [&str; 5] = ["idle", "fanout", "direct", "mixed", "capacity"];

impl Scenario {
    /// Does a worker's part of it.
    pub(crate) fn part(&self, station: &mut Station) -> Result<()> {
        match self {
            Self::Idle(flags) => idle::part(flags, station),
            Self::Fanout(flags) => fanout::part(flags, station),
            Self::Direct(flags) => direct::part(flags, station),
            Self::Mixed(flags) => mixed::part(flags, station),
            Self::Capacity(flags) => capacity::part(flags, station),
            other => bail!("`{}` cannot be shared by several processes", other.name()),
        }
    }

    /// The flags that a worker's part is told in, if several processes may share the run.
    pub(crate) const fn shared_options(&mut self) -> Option<&mut Options> {
        match self {
            Self::Idle(flags) => Some(&mut flags.options),
            Self::Fanout(flags) => Some(flags.options()),
            Self::Direct(flags) => Some(&mut flags.options),
            Self::Mixed(flags) => Some(&mut flags.options),
            Self::Capacity(flags) => Some(&mut flags.options),
            _ => None,
        }
    }

    /// Runs it, at most until it is interrupted. An error means that there is no result: wrong
    /// flags, no server, too few descriptors.
    pub(crate) fn run(&self, interrupt: &Interrupt) -> Result<Report> {
        match self {
            Self::Idle(flags) => idle::run(flags, interrupt),
            Self::Fanout(flags) => fanout::run(flags, interrupt),
            Self::Direct(flags) => direct::run(flags, interrupt),
            Self::Mixed(flags) => mixed::run(flags, interrupt),
            Self::Capacity(flags) => capacity::run(flags, interrupt),
            Self::Compare(flags) => compare::run(flags, interrupt),
            Self::Check(flags) => check::run(flags, interrupt),
            Self::Verify(flags) => verify::run(flags, interrupt),
            Self::Slow(flags) => slow::run(flags, interrupt),
            Self::Cost(flags) => cost::run(flags, interrupt),
            Self::Churn(flags) => churn::run(flags, interrupt),
            Self::Storm(flags) => storm::run(flags, interrupt),
            Self::Restart(flags) => restart::run(flags, interrupt),
            Self::Chatroom(flags) => chatroom::run(flags, interrupt),
            Self::Flood(flags) => flood::run(flags, interrupt),
        }
    }

    /// As it is called on the command line and in reports.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Idle(_) => "idle",
            Self::Fanout(_) => "fanout",
            Self::Direct(_) => "direct",
            Self::Mixed(_) => "mixed",
            Self::Capacity(_) => "capacity",
            Self::Compare(_) => "compare",
            Self::Check(_) => "check",
            Self::Verify(_) => "verify",
            Self::Slow(_) => "slow",
            Self::Cost(_) => "cost",
            Self::Churn(_) => "churn",
            Self::Storm(_) => "storm",
            Self::Restart(_) => "restart",
            Self::Chatroom(_) => "chatroom",
            Self::Flood(_) => "flood",
        }
    }

    /// Where the report is wanted as a page.
    pub(crate) fn html(&self) -> Option<&Path> {
        match self {
            Self::Idle(flags) => flags.options.html.as_deref(),
            Self::Fanout(flags) => flags.html(),
            Self::Direct(flags) => flags.options.html.as_deref(),
            Self::Mixed(flags) => flags.options.html.as_deref(),
            Self::Capacity(flags) => flags.options.html.as_deref(),
            Self::Compare(flags) => flags.html.as_deref(),
            Self::Slow(flags) => flags.html(),
            Self::Churn(flags) => flags.options.html.as_deref(),
            Self::Storm(flags) => flags.options.html.as_deref(),
            Self::Restart(flags) => flags.options.html.as_deref(),
            Self::Check(_) | Self::Verify(_) | Self::Cost(_) | Self::Chatroom(_) | Self::Flood(_) => None,
        }
    }

    /// Whether the report is wanted as JSON.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Idle(flags) => flags.options.json,
            Self::Fanout(flags) => flags.json(),
            Self::Direct(flags) => flags.options.json,
            Self::Mixed(flags) => flags.options.json,
            Self::Capacity(flags) => flags.options.json,
            Self::Compare(flags) => flags.json,
            Self::Check(flags) => flags.json,
            Self::Verify(flags) => flags.json,
            Self::Slow(flags) => flags.json(),
            Self::Cost(flags) => flags.json,
            Self::Churn(flags) => flags.options.json,
            Self::Storm(flags) => flags.options.json,
            Self::Restart(flags) => flags.options.json,
            Self::Chatroom(flags) => flags.json,
            Self::Flood(flags) => flags.json,
        }
    }
}
