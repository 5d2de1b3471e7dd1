//! `imgate doctor`: how the findings are printed, and the exit code.

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args;
use imgate::clock::Clock;
use imgate::config::Config;
use imgate::doctor::{Machine, Scrapes, Severity, examine};

use super::ask::{address, ask_well};

/// The arguments.
#[derive(Args)]
pub(crate) struct DoctorArgs {
    /// Connections that the machine shall carry.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    target_connections: u64,
    /// Prints one JSON document.
    #[arg(long)]
    json: bool,
}

/// It works, until something happens.
const EXIT_WARNINGS: u8 = 3;
/// The target is not reached.
const EXIT_STOPS: u8 = 4;

/// Between two looks at a gateway that runs: long enough for a share of the time.
const BETWEEN: Duration = Duration::from_secs(1);

fn scrapes(config: &Config) -> Option<Scrapes> {
    let look = || ask_well(address(config), "GET", "/metrics", None).ok();
    let clock = Clock::start();
    let before = look()?;
    let began_ns = clock.nanos();
    thread::sleep(BETWEEN);
    let now = look()?;
    // From the end of one to the end of the other: a look takes long where the database is slow.
    let between = Duration::from_nanos(clock.nanos() - began_ns);
    Some(Scrapes { admin: address(config), before, now, between })
}

/// Looks and prints.
pub(crate) fn run(config: &Config, args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    // Without a gateway that runs, the rest is told all the same.
    let report = examine(&Machine::this(), config, scrapes(config).as_ref(), args.target_connections);
    let text = if args.json { format!("{}\n", report.json()) } else { report.text() };
    io::stdout().write_all(text.as_bytes())?;
    Ok(match report.verdict {
        Severity::Ok | Severity::Note => ExitCode::SUCCESS,
        Severity::Warning => ExitCode::from(EXIT_WARNINGS),
        Severity::Stops => ExitCode::from(EXIT_STOPS),
    })
}
