//! `side-by-side`: imgate and others under the same loads, on this machine, in one command; a page,
//! a picture and JSON.

use std::fs;
use std::path::{self, Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use bench::side::{Programs, Run, Scenario, Server, Sheet, plot, scenario};
use bench::{clock, origin, process};
use clap::Parser;

/// Seconds of a run that are not its steady stretch: start, connect, warm-up, drain, end.
const OVERHEAD_SECONDS: f64 = 4.0;
/// Descriptors beside the connections.
const SPARE_DESCRIPTORS: usize = 100;

/// Measures servers side by side: each alone on one core, the load on another, interleaved.
#[derive(Parser)]
struct Cli {
    /// Times that everything is measured; the table shows medians.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// The length of all together; each steady stretch gets its share, at least two seconds.
    #[arg(long, default_value_t = 45.0)]
    minutes: f64,
    /// Only these servers, as `floor,imgate-volatile`. The ratios need the floor.
    #[arg(long, value_delimiter = ',')]
    servers: Vec<String>,
    /// Only these scenarios, as `idle,busy`.
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<String>,
    /// Connections of the idle scenario. Each side needs as many descriptors.
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
    /// Cores of the server, as `0` or `0,1`.
    #[arg(long, value_delimiter = ',', default_values_t = [0])]
    server_cores: Vec<usize>,
    /// Cores of the load generator.
    #[arg(long, value_delimiter = ',', default_values_t = [1])]
    load_cores: Vec<usize>,
    /// The gateway; without it, the one that is built beside this program.
    #[arg(long)]
    imgate: Option<PathBuf>,
    /// nats-server.
    #[arg(long, default_value = "nats-server")]
    nats: PathBuf,
    /// Node.
    #[arg(long, default_value = "node")]
    node: PathBuf,
    /// The folder of the Node server, where `npm ci` has been run.
    #[arg(long)]
    node_server: Option<PathBuf>,
    /// Where the page and the picture go; without it, nowhere.
    #[arg(long)]
    out: Option<PathBuf>,
    /// The machine's name in the names of these files.
    #[arg(long, default_value = "this-machine")]
    machine: String,
    /// Where everything goes as JSON; `-` is standard output.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Where the profiles of the first round go, as Markdown: `perf` looks at each server while it
    /// works, which makes it a little dearer.
    #[arg(long)]
    profiles: Option<PathBuf>,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let scenarios = cli.chosen_scenarios()?;
    let most = scenarios.iter().map(|scenario| scenario.members()).max().unwrap_or_default();
    process::raise_descriptors(most + SPARE_DESCRIPTORS)?;
    let programs = cli.programs()?;
    let mut sheet = Sheet {
        date: clock::date(imgate::clock::wall_ms()),
        machine: process::machine(),
        commit: origin::commit(),
        command: format!("cargo run --profile dist -p bench --bin side-by-side -- {}", origin::arguments()),
        runs: Vec::new(),
        skipped: Vec::new(),
    };
    let mut servers = cli.chosen_servers()?;
    servers.retain(|&server| match programs.missing(server) {
        None => true,
        Some(why) => {
            eprintln!("{}: skipped: {why}", server.name());
            sheet.skipped.push((server, why));
            false
        }
    });
    let runs = usize::from(cli.rounds) * servers.len() * scenarios.len();
    let seconds = (cli.minutes * 60.0 / runs.max(1) as f64 - OVERHEAD_SECONDS).max(2.0);
    eprintln!("{runs} runs, steady stretches of {seconds:.1} s");
    for round in 0..usize::from(cli.rounds) {
        for &scenario in &scenarios {
            for &server in &servers {
                let run = cli.run(&programs, round, server, scenario, seconds);
                show(&run);
                sheet.runs.push(run);
            }
        }
    }
    cli.write(&sheet)
}

impl Cli {
    fn chosen_servers(&self) -> Result<Vec<Server>> {
        let known = |name: &String| Server::ALL.iter().any(|server| server.name() == name);
        let names: Vec<&str> = Server::ALL.iter().map(|server| server.name()).collect();
        ensure!(self.servers.iter().all(known), "--servers: there are {}", names.join(", "));
        let chosen = |server: &Server| self.servers.is_empty() || self.servers.iter().any(|name| name == server.name());
        Ok(Server::ALL.into_iter().filter(chosen).collect())
    }

    fn chosen_scenarios(&self) -> Result<Vec<Scenario>> {
        let all = [
            Scenario::Idle { connections: self.idle },
            Scenario::Group1000,
            Scenario::Group10000,
            Scenario::GroupLong,
            Scenario::Busy,
            Scenario::Saturated,
            Scenario::Direct,
            Scenario::DirectRate,
        ];
        let known = |name: &String| all.iter().any(|scenario| scenario.name() == name);
        let names: Vec<&str> = all.iter().map(|scenario| scenario.name()).collect();
        ensure!(self.scenarios.iter().all(known), "--scenarios: there are {}", names.join(", "));
        let chosen = |s: &Scenario| self.scenarios.is_empty() || self.scenarios.iter().any(|name| name == s.name());
        Ok(all.into_iter().filter(chosen).collect())
    }

    fn programs(&self) -> Result<Programs> {
        let own = std::env::current_exe()?;
        let ours = own.parent().context("this program lies in a folder")?.to_owned();
        if std::env::var_os("CARGO").is_some() {
            build(&ours, self.imgate.is_none())?;
        }
        let member = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("bench"), PathBuf::from);
        Ok(Programs {
            // Each server starts in a folder of its own.
            imgate: path::absolute(self.imgate.clone().unwrap_or_else(|| ours.join("imgate")))?,
            ours,
            node: self.node.clone(),
            node_server: self.node_server.clone().unwrap_or_else(|| member.join("node")).canonicalize()?,
            nats: self.nats.clone(),
        })
    }

    fn run(&self, programs: &Programs, round: usize, server: Server, of: Scenario, seconds: f64) -> Run {
        let cores = (&self.server_cores[..], &self.load_cores[..]);
        let profiled = self.profiles.is_some() && round == 0;
        let figures =
            scenario::measure(programs, server, of, seconds, cores, profiled).map_err(|error| format!("{error:#}"));
        Run { round, server, scenario: of, figures }
    }

    fn write(&self, sheet: &Sheet) -> Result<()> {
        let name = format!("{}-{}", sheet.date, self.machine);
        let page = sheet.markdown(&format!("{name}.svg"));
        println!("{page}");
        if let Some(folder) = &self.out {
            fs::create_dir_all(folder)?;
            fs::write(folder.join(format!("{name}.md")), page)?;
            fs::write(folder.join(format!("{name}.svg")), plot::svg(sheet))?;
        }
        if let Some(path) = &self.profiles {
            fs::write(path, profiles(sheet))?;
        }
        match &self.json {
            Some(path) if path.as_os_str() == "-" => println!("{}", sheet.json()),
            Some(path) => fs::write(path, format!("{:#}\n", sheet.json()))?,
            None => {}
        }
        Ok(())
    }
}

fn profiles(sheet: &Sheet) -> String {
    let Sheet { date, machine, commit, command, runs, .. } = sheet;
    let found = runs.iter().filter_map(|run| run.figures.as_ref().ok()?.profile.as_deref());
    let head = format!("# Profiles, {date}\n\n{machine}. Commit {commit}. Made by:\n\n```\n{command}\n```\n\n");
    found.fold(head, |page, section| page + section)
}

/// Under cargo, the programs beside this one are brought up to date first: nothing is as misleading
/// as the figures of an old build.
fn build(folder: &Path, gateway: bool) -> Result<()> {
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut wanted = vec![vec!["-p", "bench", "--bin", "floor", "--bin", "baseline"]];
    if gateway {
        wanted.push(vec!["-p", "imgate", "--bin", "imgate"]);
    }
    for packages in wanted {
        let status = Command::new(&cargo).args(["build", "--quiet", "--profile", profile]).args(packages).status()?;
        ensure!(status.success(), "cannot build what is to be measured");
    }
    Ok(())
}

fn show(run: &Run) {
    let what = match &run.figures {
        Ok(figures) => figures.json().to_string(),
        Err(error) => error.clone(),
    };
    eprintln!("round {}, {}, {}: {what}", run.round + 1, run.scenario.name(), run.server.name());
}
