//! The family of scenarios: each is one file with its flags and a `run` that returns a report.
//!
//! To add one: a file here with `Flags` and `run`, a variant of [`Scenario`], an arm in [`Scenario::run`], a section in the README.

pub(crate) mod check;
pub(crate) mod direct;
pub(crate) mod fanout;
pub(crate) mod idle;
mod pair;
pub(crate) mod slow;
pub(crate) mod verify;

use anyhow::Result;
use clap::Subcommand;

use crate::report::Report;

/// What to do.
#[derive(Subcommand, Debug)]
pub(crate) enum Scenario {
    /// Many connections that do nothing: memory per connection, and whether they all still answer.
    Idle(idle::Flags),
    /// One group at a steady rate: every member gets every message once and in order.
    Fanout(fanout::Flags),
    /// Pairs of users that answer each other.
    Direct(direct::Flags),
    /// Compares what a `direct` run was acked with the history that the server has.
    Check(check::Flags),
    /// Torments the server while devices talk, and compares everything that anybody saw: nothing acked is lost, nothing is seen twice.
    Verify(verify::Flags),
    /// A group in which some members stop reading: the others must not feel it, and those who wake up must miss nothing.
    Slow(slow::Flags),
}

impl Scenario {
    /// Runs it. An error means that there is no result: wrong flags, no server, too few descriptors.
    pub(crate) fn run(&self) -> Result<Report> {
        match self {
            Self::Idle(flags) => idle::run(flags),
            Self::Fanout(flags) => fanout::run(flags),
            Self::Direct(flags) => direct::run(flags),
            Self::Check(flags) => check::run(flags),
            Self::Verify(flags) => verify::run(flags),
            Self::Slow(flags) => slow::run(flags),
        }
    }

    /// Whether the report is wanted as JSON.
    pub(crate) fn json(&self) -> bool {
        match self {
            Self::Idle(flags) => flags.options.json,
            Self::Fanout(flags) => flags.options.json,
            Self::Direct(flags) => flags.options.json,
            Self::Check(flags) => flags.json,
            Self::Verify(flags) => flags.json,
            Self::Slow(flags) => flags.options.json,
        }
    }
}
