//! The flags that every scenario shares, and the plan that is made of them.
//!
//! Owns: [`Options`]; the refusal of targets that are not this machine; bounds of the flags.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, ensure};
use clap::Args;

use crate::board::Board;
use crate::clock::Clock;
use crate::http::Url;
use crate::interrupt::Interrupt;
use crate::limits::{
    CONNECT_RATE_MAX, CONNECTIONS_MAX, PAYLOAD_BYTES_MAX, SOAK_SECONDS_MAX, SOURCES_MAX, THREADS_MAX, raise_descriptors,
};
use crate::net::Plan;
use crate::probe::Probe;
use crate::report::Report;
use crate::timeline::Timeline;
use crate::tokens::Tokens;
use crate::upgrade::Profile;
use imgate_client::pipe::Tls;

/// Flags of all scenarios that open connections.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Where the gateway listens: HOST:PORT.
    #[arg(long, default_value = "127.0.0.1:8081")]
    target: String,
    /// Open the connections over TLS, believing the certificates in this file (PEM). The target's
    /// host must be a name or an address that the server's certificate has.
    #[arg(long, value_name = "FILE")]
    tls: Option<PathBuf>,
    /// Have the server compress its messages (permessage-deflate without context takeover, RFC
    /// 7692). With a server that does not agree there is no result.
    #[arg(long)]
    compress: bool,
    /// Users: a file of `id token` lines, as `imgate token` and `imgate seed` print them.
    #[arg(long)]
    tokens: PathBuf,
    /// Speak as the old pages do: no subprotocol, so no acks and no heartbeats.
    #[arg(long)]
    pub(crate) legacy: bool,
    /// Engine threads.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=THREADS_MAX as i64))]
    pub(crate) threads: u16,
    /// Connections opened per second.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..=CONNECT_RATE_MAX))]
    connect_rate: u64,
    /// Connections being opened at the same time.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=CONNECTIONS_MAX as i64))]
    connecting_max: u32,
    /// Source addresses in 127.0.0.0/8 (loopback targets only); 0: the system chooses. One has some
    /// 28,000 ports.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u8).range(0..=SOURCES_MAX as i64))]
    sources: u8,
    /// Allow a target that is not this machine. A load test of another's server is an attack.
    #[arg(long)]
    i_own_the_target: bool,
    /// The server's metrics: a URL, or `off`.
    #[arg(long, default_value = "http://127.0.0.1:8082/metrics")]
    metrics: String,
    /// Read CPU time and memory from /proc of this process instead: exact, and needs no metrics.
    #[arg(long, alias = "rss-pid")]
    server_pid: Option<u32>,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the report as one HTML page, too; of `direct`, `mixed`, `fanout` and `capacity` with plots over
    /// time, for which the server's metrics are read each second.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

/// How long and with how much content a scenario measures.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Measure {
    /// Length of the measurement.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=SOAK_SECONDS_MAX))]
    pub(crate) seconds: u64,
    /// Bytes of each message's content.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=PAYLOAD_BYTES_MAX as i64))]
    pub(crate) payload: u32,
    /// How long the last messages may take to arrive.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) drain: u64,
}

/// Fails unless the address is this machine's loopback or the user vouches for it.
pub(crate) fn allow(url: &Url, vouched: bool) -> Result<std::net::SocketAddr> {
    let address = url.address()?;
    ensure!(
        vouched || address.ip().is_loopback(),
        "{address} is not a loopback address: give --i-own-the-target if it is yours"
    );
    Ok(address)
}

impl Options {
    /// Those of a run that another scenario makes of its own flags. The target was looked at by
    /// [`allow`].
    pub(crate) fn inner(target: String, tokens: PathBuf, threads: u16) -> Self {
        Self {
            target,
            tls: None,
            compress: false,
            tokens,
            legacy: false,
            threads,
            connect_rate: 2_000,
            connecting_max: 512,
            sources: 16,
            i_own_the_target: true,
            metrics: "off".to_owned(),
            server_pid: None,
            json: false,
            html: None,
        }
    }

    /// Reads the tokens, raises the descriptor limit and makes the plan for `connections`, of which
    /// `goal` are opened at first.
    pub(crate) fn plan(
        &self,
        connections: usize,
        goal: usize,
        distinct: bool,
        reconnect: bool,
        interrupt: &Interrupt,
    ) -> Result<Arc<Plan>> {
        ensure!(connections > 0, "no connections asked for");
        ensure!(connections <= CONNECTIONS_MAX, "at most {CONNECTIONS_MAX} connections, {connections} asked for");
        let url = Url::parse(&format!("http://{}", self.target))?;
        let address = allow(&url, self.i_own_the_target)?;
        let tls = self.tls.as_deref().map(|file| Tls::trusting(file, &self.target)).transpose()?;
        let tokens = Tokens::read(&self.tokens)?;
        if distinct {
            tokens.need(connections)?;
        }
        raise_descriptors(connections)?;
        let threads = usize::from(self.threads);
        Ok(Arc::new(Plan {
            address,
            host: url.host,
            tls,
            tokens,
            profile: if self.legacy { Profile::Legacy } else { Profile::V2 },
            compress: self.compress,
            dial_gap_ns: 1_000_000_000 * threads as u64 / self.connect_rate,
            connecting_max: (self.connecting_max as usize / threads).max(1),
            sources: if address.ip().is_loopback() { self.sources } else { 0 },
            reconnect,
            narrow_from: usize::MAX,
            leisure_from: usize::MAX,
            watched_every: 1,
            interrupt: interrupt.clone(),
            clock: Clock::start(),
            board: Board::new(threads, goal),
            timeline: self.html.is_some().then(|| Timeline::new(threads)),
        }))
    }

    /// Adds to a report what went over the connections.
    pub(crate) fn wire(&self, report: &mut Report, plan: &Plan) {
        report.count("bytes_received", plan.board.sum(|l| &l.bytes_received));
        report.count("bytes_sent", plan.board.sum(|l| &l.bytes_sent));
        if self.compress {
            report.count("compressed_messages", plan.board.sum(|l| &l.packed));
            report.count("compressed_bytes", plan.board.sum(|l| &l.packed_bytes));
            report.count("inflated_bytes", plan.board.sum(|l| &l.inflated_bytes));
        }
    }

    /// Adds the run second by second to a report, if that is wanted.
    pub(crate) fn show(&self, report: &mut Report, plan: &Plan) {
        if let Some(timeline) = &plan.timeline {
            report.timeline(&timeline.points());
        }
    }

    /// Where the server's figures come from.
    pub(crate) fn probe(&self) -> Result<Option<Probe>> {
        if let Some(pid) = self.server_pid {
            return Ok(Some(Probe::Process(pid)));
        }
        if self.metrics == "off" {
            return Ok(None);
        }
        let url = Url::parse(&self.metrics)?;
        allow(&url, self.i_own_the_target)?;
        Ok(Some(Probe::Metrics(url)))
    }

    /// How long opening `connections` may take: twice what the pace asks for, and a minute.
    pub(crate) fn opening_seconds(&self, connections: usize) -> u64 {
        60 + 2 * connections as u64 / self.connect_rate
    }
}
