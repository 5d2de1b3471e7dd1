//! autoclient: the load generator of imgate, a stranger to the server's insides.
//!
//! The map, from the outside in: `scenario` (one file each) · `options` (shared flags) · `conduct` (phases of a run) · `engine` and `net` (threads and
//! connections) · `upgrade`, `frame`, `scan`, `stamp` (what goes over the wire) · `ledger`, `tally`, `report` (what was found out) · `probe`, `http`
//! (what the server spends) · `board`, `clock`, `limits`, `tokens` · `verify/`, `chatroom/` and `flood/`
//! (clients of their own, for the scenarios of these names).
//!
//! Never: uses anything of the server's crate; trusts a delivery that it has not checked; runs without an end.
//! Exit code: 0 everything held; 1 something was lost, doubled, out of order, unanswered or dropped; 2 there is no result.
//! `flood` has two more: 3 the load generator was the bottleneck; 4 the target was in trouble
//! before there was a flood.

mod board;
mod chatroom;
mod clock;
mod conduct;
mod engine;
mod flood;
mod frame;
mod http;
mod ledger;
mod limits;
mod net;
mod options;
mod probe;
mod report;
mod scan;
mod scenario;
mod stamp;
mod tally;
mod tokens;
mod upgrade;
mod verify;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

#[derive(Parser, Debug)]
// A flag that is given twice counts the last time, so that a script can add to a line that it was given.
#[command(version, about = "Load generator and checker for imgate", args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    scenario: scenario::Scenario,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.scenario.run() {
        Ok(report) => {
            // A reader that has gone away does not change the verdict.
            let _ = std::io::stdout().write_all(report.render(cli.scenario.json()).as_bytes());
            ExitCode::from(report.exit_code())
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
