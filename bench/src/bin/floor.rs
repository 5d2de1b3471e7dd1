//! `floor`: the floor server on an address, until it is killed.

use std::net::SocketAddr;

use bench::floor::{Floor, FloorPace};
use bench::process;
use clap::Parser;

/// The least that a broadcast server can do.
#[derive(Parser)]
struct Cli {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:9001")]
    listen: SocketAddr,
    /// Send what one turn of the loop has read together, in one contiguous send per member.
    #[arg(long)]
    coalesce: bool,
    /// Coalesce what comes within so many milliseconds.
    #[arg(long, conflicts_with = "coalesce", value_parser = clap::value_parser!(u64).range(1..=1000))]
    wait_ms: Option<u64>,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    process::raise_descriptors(0)?;
    let pace = match (cli.wait_ms, cli.coalesce) {
        (Some(ms), _) => FloorPace::Wait(ms * 1_000_000),
        (None, true) => FloorPace::Turn,
        (None, false) => FloorPace::Each,
    };
    Ok(Floor::bind(cli.listen, pace)?.run()?)
}
