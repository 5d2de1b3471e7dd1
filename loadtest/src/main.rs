//! autoclient: the load generator of imgate, a stranger to the server's insides.
//!
//! The map, from the outside in: `scenario` (one file each) · `options` (shared flags) · `conduct`
//! (phases of a run) · `engine` and `net` (threads and connections) · `upgrade`, `frame`, `scan`,
//! `stamp` (what goes over the wire) · `ledger`, `tally`, `goals`, `report`, `exit` (what was found
//! out) · `split/` (a run that several processes share) · `probe`, `http` (what the server spends)
//! · `board`, `clock`, `limits`, `tokens`, `jwt` (tokens of another system), `interrupt`, `say` ·
//! `verify/`, `chatroom/` and `flood/` (clients of their own, for the scenarios of these names).
//!
//! Never: uses anything of the server's crate; trusts a delivery that it has not checked; runs
//! without an end; panics or judges otherwise because its output is not read. Exit code: see
//! [`exit::Exit`].

mod board;
mod chatroom;
mod clock;
mod conduct;
mod cpus;
mod deflate;
mod engine;
mod exit;
mod flood;
mod frame;
mod goals;
mod http;
mod interrupt;
mod jwt;
mod ledger;
mod limits;
mod net;
mod options;
mod page;
mod probe;
mod report;
mod say;
mod scan;
mod scenario;
mod split;
mod stamp;
mod tally;
mod timeline;
mod tokens;
mod upgrade;
mod verify;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches, Parser, Subcommand, value_parser};

use exit::Exit;
use interrupt::Interrupt;
use report::Report;
use say::say;
use scenario::Scenario;
use split::worker;

#[derive(Parser, Debug)]
// A flag that is given twice counts the last time, so that a script can add to a line that it was
// given.
#[command(name = "autoclient", version, about = "Load generator and checker for imgate", args_override_self = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

/// What a process is for.
#[derive(Subcommand, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one, once")]
enum Task {
    #[command(flatten)]
    Scenario(Scenario),
    /// Waits for a run that others share (`--workers` of a scenario), does its part, and waits
    /// again, until a signal comes.
    Worker(worker::Flags),
    /// Users of another system: signs a token for each, as that system would (JWT, HS256), and
    /// writes the lines that `--tokens` reads.
    Tokens(jwt::Flags),
}

impl Cli {
    /// The command line, with the exit codes that concern each scenario in its `--help`.
    fn described() -> Command {
        let command = Self::command();
        let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
        let all = command.after_long_help(Exit::help(None));
        names.into_iter().fold(all, |command, name| {
            let help = Exit::help(Some(&name));
            command.mut_subcommand(name, |sub| sub.after_long_help(help))
        })
    }
}

/// The command that packages call: `autoclient.1` and a page for each scenario, from the command
/// line as it is.
const MANUAL: &str = "man";

/// The command line, with the command that writes its manual, which is in no help.
fn with_manual() -> Command {
    let directory = Arg::new(DIRECTORY).required(true).value_parser(value_parser!(PathBuf));
    let manual = Command::new(MANUAL).hide(true).about("Writes the manual pages into a directory").arg(directory);
    Cli::described().subcommand(manual)
}

const DIRECTORY: &str = "directory";

/// Writes the manual, if that is asked for.
fn manual(matches: &ArgMatches) -> Option<ExitCode> {
    let directory = matches.subcommand_matches(MANUAL)?.get_one::<PathBuf>(DIRECTORY)?;
    Some(match clap_mangen::generate_to(Cli::described(), directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {}: {error}", directory.display()));
            ExitCode::from(Exit::NoResult.code())
        }
    })
}

fn main() -> ExitCode {
    let matches = with_manual().get_matches();
    if let Some(done) = manual(&matches) {
        return done;
    }
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let exit = Interrupt::listen().and_then(|interrupt| match cli.task {
        Task::Scenario(scenario) => run(&scenario, &interrupt),
        Task::Worker(flags) => worker::serve(&flags, &interrupt, passed_on).map(|()| Exit::Passed),
        Task::Tokens(flags) => jwt::lines(&flags, &interrupt).and_then(|lines| hand_out(&lines)),
    });
    ExitCode::from(
        exit.unwrap_or_else(|error| {
            say(&format!("error: {error:#}"));
            Exit::NoResult
        })
        .code(),
    )
}

/// Runs a scenario and tells what it found.
fn run(scenario: &Scenario, interrupt: &Interrupt) -> Result<Exit> {
    if let Some(path) = scenario.html() {
        check_page(path).with_context(|| format!("--html {} cannot be written", path.display()))?;
    }
    let report = scenario.run(interrupt).or_else(|error| match interrupt.is_set() {
        // It did not come as far as to measure anything.
        true => Ok(Report::cut_short(scenario.name(), interrupt, &format!("{error:#}"))),
        false => Err(error),
    })?;
    print(&report.render(scenario.json()));
    if let Some(path) = scenario.html() {
        keep_page(&report, path);
    }
    Ok(report.exit())
}

/// The scenario of a command line that a control has passed on.
fn passed_on(arguments: &[String]) -> Result<Scenario> {
    let words = std::iter::once("autoclient").chain(arguments.iter().map(String::as_str));
    match Cli::try_parse_from(words).context("the control's command line")?.task {
        Task::Scenario(scenario) => Ok(scenario),
        Task::Worker(_) | Task::Tokens(_) => bail!("a worker of a worker"),
    }
}

/// The report. A reader that has gone away or a disk that is full does not change the verdict.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        say(&format!("warning: the report could not be written: {error}"));
    }
}

/// Lines that are wanted: unlike a report they must not get lost.
fn hand_out(lines: &str) -> Result<Exit> {
    let mut out = std::io::stdout().lock();
    out.write_all(lines.as_bytes()).and_then(|()| out.flush()).context("the tokens could not be written")?;
    Ok(Exit::Passed)
}

/// Whether a page can be written, before a run is spent on it. Leaves nothing behind, and what is
/// there as it is.
fn check_page(path: &Path) -> std::io::Result<()> {
    let is_new = !path.exists();
    OpenOptions::new().append(true).create(true).open(path)?;
    if is_new { std::fs::remove_file(path) } else { Ok(()) }
}

/// The report as a page. As with [`print()`], that it cannot be written changes nothing.
fn keep_page(report: &Report, path: &Path) {
    let command: Vec<String> = std::env::args().map(|arg| arg.replace('\n', " ")).collect();
    let kept =
        page::page(report, &command.join(" "), &clock::rfc3339_now()).and_then(|page| Ok(std::fs::write(path, page)?));
    if let Err(error) = kept {
        say(&format!("warning: {} could not be written: {error:#}", path.display()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_has_a_page_for_every_scenario() {
        let folder = std::env::temp_dir().join(format!("autoclient-manual-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let arguments = ["autoclient", MANUAL, folder.to_str().expect("UTF-8")];
        let matches = with_manual().try_get_matches_from(arguments).expect("a command");
        assert_eq!(manual(&matches), Some(ExitCode::SUCCESS));
        let mut pages: Vec<String> = std::fs::read_dir(&folder)
            .expect("a folder")
            .map(|entry| entry.expect("a page").file_name().to_string_lossy().into_owned())
            .collect();
        std::fs::remove_dir_all(&folder).expect("it is there");
        pages.sort();
        let command = Cli::described();
        let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set());
        let mut wanted: Vec<String> = shown.map(|sub| format!("autoclient-{}.1", sub.get_name())).collect();
        wanted.push("autoclient.1".to_owned());
        wanted.sort();
        assert_eq!(pages, wanted);
    }

    #[test]
    fn the_command_line_is_sound() {
        with_manual().debug_assert();
    }
}
