//! `scaling`: the same work on 1, 2, 4 and 8 shards of one gateway on the same cores; what a
//! delivery costs and what crosses between shards.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use bench::load::Crowd;
use bench::scaling::flow::Streams;
use bench::scaling::sheet::ScalingFigures;
use bench::scaling::{ScalingRun, ScalingSheet, Scene, Town};
use bench::{clock, origin, process};
use clap::Parser;

/// Descriptors beside the connections.
const SPARE_DESCRIPTORS: usize = 100;

/// Measures a volatile gateway with different numbers of shards, interleaved. With as many rounds
/// and seconds as by default it takes about five minutes.
#[derive(Parser)]
struct Cli {
    /// Times that everything is measured; the table shows medians.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Length of each steady stretch.
    #[arg(long, default_value_t = 2.5)]
    seconds: f64,
    /// Numbers of shards.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4, 8])]
    shards: Vec<u16>,
    /// Cores of the gateway, as `0` or `0,1`.
    #[arg(long, value_delimiter = ',', default_values_t = [0])]
    server_cores: Vec<usize>,
    /// Cores of the load generator.
    #[arg(long, value_delimiter = ',', default_values_t = [1])]
    load_cores: Vec<usize>,
    /// The gateway; without it, the one that is built beside this program.
    #[arg(long)]
    imgate: Option<PathBuf>,
    /// Where the page goes; without it, nowhere.
    #[arg(long)]
    out: Option<PathBuf>,
    /// The machine's name in the page's name.
    #[arg(long, default_value = "this-machine")]
    machine: String,
    /// Where everything goes as JSON; `-` is standard output.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    ensure!(cli.shards.iter().all(|shards| (1..=64).contains(shards)), "--shards: from 1 to 64 each");
    process::raise_descriptors(Town::MEMBERS + SPARE_DESCRIPTORS)?;
    let imgate = cli.imgate()?;
    let mut sheet = ScalingSheet {
        date: clock::date(imgate::clock::wall_ms()),
        machine: process::machine(),
        commit: origin::commit(),
        command: format!("cargo run --profile quick -p bench --bin scaling -- {}", origin::arguments()),
        cores: cli.server_cores.len(),
        shards: cli.shards.clone(),
        runs: Vec::new(),
    };
    for round in 0..usize::from(cli.rounds) {
        for &shards in &cli.shards {
            for (scene, figures) in cli.visit(&imgate, shards)? {
                show(round, shards, scene, &figures);
                sheet.runs.push(ScalingRun { round, shards, scene, figures });
            }
        }
    }
    cli.write(&sheet)
}

impl Cli {
    fn imgate(&self) -> Result<PathBuf> {
        if let Some(imgate) = &self.imgate {
            return Ok(imgate.clone());
        }
        let own = std::env::current_exe()?;
        let folder = own.parent().context("this program lies in a folder")?;
        if let Some(cargo) = std::env::var_os("CARGO") {
            // Nothing is as misleading as the figures of an old build.
            let profile = match folder.file_name().and_then(|name| name.to_str()) {
                Some("debug") | None => "dev",
                Some(name) => name,
            };
            let wanted = ["-p", "imgate", "--bin", "imgate"];
            let status = Command::new(cargo).args(["build", "--quiet", "--profile", profile]).args(wanted).status()?;
            ensure!(status.success(), "cannot build what is to be measured");
        }
        Ok(folder.join("imgate"))
    }

    /// All scenes with a gateway of so many shards.
    fn visit(&self, imgate: &Path, shards: u16) -> Result<Vec<(Scene, Result<ScalingFigures, String>)>> {
        let town = Town::start(imgate, shards, &self.server_cores)?;
        process::pin(&self.load_cores).context("cannot pin the load generator")?;
        let mut crowd = Crowd::new(town.running.address, None, town.running.dialect.as_ref())?;
        crowd.grow(Town::MEMBERS)?;
        let mut runs = Vec::new();
        for (number, scene) in (1..).zip(Scene::ALL).filter(|(_, scene)| scene.is_possible(shards)) {
            let flows = scene.flows(&town);
            let models: Vec<(f64, f64)> = flows.iter().map(|flow| Scene::hops(&town, flow)).collect();
            let streams = Streams::new(&mut crowd, Town::MEMBERS, &flows, 2 * number);
            let stretch = streams.measure(town.running.pid(), town.admin, self.seconds);
            let figures = stretch.map(|stretch| ScalingFigures::new(&stretch, &models));
            runs.push((scene, figures.map_err(|error| format!("{error:#}: {}", town.running.log()))));
        }
        Ok(runs)
    }

    fn write(&self, sheet: &ScalingSheet) -> Result<()> {
        let page = sheet.markdown();
        println!("{page}");
        if let Some(folder) = &self.out {
            fs::create_dir_all(folder)?;
            fs::write(folder.join(format!("{}-{}-shards.md", sheet.date, self.machine)), page)?;
        }
        match &self.json {
            Some(path) if path.as_os_str() == "-" => println!("{}", sheet.json()),
            Some(path) => fs::write(path, format!("{:#}\n", sheet.json()))?,
            None => {}
        }
        Ok(())
    }
}

fn show(round: usize, shards: u16, scene: Scene, figures: &Result<ScalingFigures, String>) {
    match figures {
        Ok(f) => eprintln!(
            "round {}, {shards} shards, {}: {:.2} µs, {:.0}/s, hops {:.2} (model {:.2}), wakes {:.2}, p50 {:.2} ms, p99 {:.2} ms, lost {}",
            round + 1,
            scene.name(),
            f.cpu_us,
            f.rate,
            f.hops,
            f.model,
            f.wakes,
            f.latency_ms.0,
            f.latency_ms.1,
            f.lost
        ),
        Err(error) => eprintln!("round {}, {shards} shards, {}: {error}", round + 1, scene.name()),
    }
}
