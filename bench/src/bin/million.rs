//! `million`: a million sessions of real shards in memory: bytes each, CPU each, and a reconnect of everybody.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use bench::gateway::Plan;
use bench::{clock, million, process};
use clap::Parser;

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
}

fn main() -> Result<()> {
    let Cli { users, shards, volatile, json } = Cli::parse();
    let report = million::run(Plan { shards, users, in_group: true, volatile })?;
    println!("{}, {}", clock::date(imgate::clock::wall_ms()), process::machine());
    println!("{}", report.text());
    match json {
        Some(path) if path.as_os_str() == "-" => println!("{}", report.json()),
        Some(path) => fs::write(path, format!("{:#}\n", report.json()))?,
        None => {}
    }
    Ok(())
}
