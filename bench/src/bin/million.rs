//! `million`: a million sessions of real shards in memory: bytes each, CPU each, and a reconnect of
//! everybody.

use std::fs;
use std::iter;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bench::curves::{Panel, Row};
use bench::gateway::Plan;
use bench::{clock, curves, million, process};
use clap::Parser;
use serde_json::Value;

/// Drives real shards behind in-memory transports to a million sessions.
#[derive(Parser)]
struct Cli {
    /// Users, each with one session, all in one group.
    #[arg(long, default_value_t = 1_000_000)]
    users: u32,
    /// Shards, turned one after the other by one thread.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    shards: u16,
    /// A pure router: no message is stored.
    #[arg(long)]
    volatile: bool,
    /// Where the figures go as JSON; `-` is standard output.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Where the picture goes, as SVG: memory, processor time and time against sessions.
    #[arg(long)]
    plot: Option<PathBuf>,
    /// What `autoclient idle --json` has printed: the same of real sockets, below the other in the
    /// picture.
    #[arg(long, requires = "plot")]
    sockets: Option<PathBuf>,
}

fn main() -> Result<()> {
    let Cli { users, shards, volatile, json, plot, sockets } = Cli::parse();
    let sockets = sockets.map(|path| real(&path)).transpose()?;
    let report = million::run(Plan { shards, users, in_group: true, volatile })?;
    println!("{}, {}", clock::date(imgate::clock::wall_ms()), process::machine());
    println!("{}", report.text());
    match json {
        Some(path) if path.as_os_str() == "-" => println!("{}", report.json()),
        Some(path) => fs::write(path, format!("{:#}\n", report.json()))?,
        None => {}
    }
    if let Some(path) = plot {
        let rows: Vec<Row> = iter::once(report.curves()).chain(sockets).collect();
        fs::write(path, curves::svg(&rows))?;
    }
    Ok(())
}

/// The steps of `autoclient idle --json`, each above the first, which is before anybody came.
fn real(path: &Path) -> Result<Row> {
    let report: Value = serde_json::from_slice(&fs::read(path)?).context("what autoclient printed is JSON")?;
    let steps = report["steps"].as_array().context("`autoclient idle` tells its steps")?;
    let first = steps.first().context("there is a first step")?;
    let curve = |title, key: &str, unit: f64| -> Result<Panel> {
        let of = |step: &Value, key: &str| step[key].as_f64().with_context(|| format!("a step tells `{key}`"));
        let zero = of(first, key)?;
        let points = steps.iter().map(|step| Ok((of(step, "connections")?, (of(step, key)? - zero) / unit)));
        Ok(Panel { title, points: points.collect::<Result<_>>()? })
    };
    let panels = vec![
        curve("user-space memory, MiB", "resident_bytes", f64::from(1 << 20))?,
        curve("CPU of the gateway, s", "cpu_seconds", 1.0)?,
        curve("time, s", "open_seconds", 1.0)?,
    ];
    Ok(Row { title: "Real sockets: one gateway, as fast as the client opens them".to_owned(), panels })
}
