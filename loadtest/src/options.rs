//! The flags that every scenario shares, and the plan that is made of them.
//!
//! Owns: [`Options`]; the refusal of targets that are not this machine; bounds of the flags.

use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::{Arc, Once};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::board::Board;
use crate::clock::{Clock, pause, seconds_ns};
use crate::cpus::Cpus;
use crate::http::{Door, Url};
use crate::interrupt::Interrupt;
use crate::limits::{
    CONNECT_RATE_MAX, CONNECTIONS_MAX, PAYLOAD_BYTES_MAX, SERVERS_MAX, SOAK_SECONDS_MAX, SOURCES_MAX, THREADS_MAX,
    WORKERS_MAX, raise_descriptors,
};
use crate::net::Plan;
use crate::probe::Probe;
use crate::report::Report;
use crate::say::say;
use crate::split::control::Fleet;
use crate::split::secret::Secret;
use crate::split::worker::Part;
use crate::stamp::Run;
use crate::tokens::Tokens;
use crate::upgrade::Profile;
use imgate_client::pipe::Tls;

/// Flags of all scenarios that open connections.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Where the gateway listens, HOST:PORT; of several gateways on one database all of them,
    /// separated by commas: connections are shared out in turn, the two of a pair to different
    /// ones. What is not a connection (logins, pages) goes to the first.
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', default_value = TARGET)]
    target: Vec<String>,
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
    /// Engine threads; with --workers, of each.
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
    /// The server's metrics: a URL, or `off`. Of the default target
    /// `http://127.0.0.1:8082/metrics`; of another one they are not guessed.
    #[arg(long, value_name = "URL")]
    metrics: Option<String>,
    /// Read CPU time and memory from /proc of this process instead: exact, and needs no metrics. Of
    /// several, separated by commas, the sum.
    #[arg(long, alias = "rss-pid", value_name = "PID", value_delimiter = ',')]
    server_pid: Vec<u32>,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the report as one HTML page, too; of `direct`, `mixed`, `fanout` and `capacity` with
    /// plots over time, for which the server's metrics are read each second.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Share the run among workers (`autoclient worker`) at these addresses: HOST:PORT,HOST:PORT,…
    /// Each has --threads of its own; users, rates and --connect-rate are those of all together.
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    workers: Vec<String>,
    /// The secret of the workers: a file. Without it, that of the environment variable
    /// AUTOCLIENT_SECRET, if there is one.
    #[arg(long, value_name = "FILE", requires = "workers")]
    secret_file: Option<PathBuf>,
    /// What a worker was told: it takes the place of all files.
    #[arg(skip)]
    pub(crate) part: Option<Arc<Part>>,
}

/// Where a gateway listens, and its metrics are, unless it was told otherwise.
pub(crate) const TARGET: &str = "127.0.0.1:8081";
/// See [`TARGET`].
const METRICS: &str = "http://127.0.0.1:8082/metrics";

/// How long one try to reach a gateway that went may take, and the pause between two.
const LISTENING_MS_MAX: u64 = 1_000;
/// See [`LISTENING_MS_MAX`].
const LISTENING_LOOK_MS: u64 = 100;

/// Which part of a run is this process's, and what it is made from.
struct Place {
    tokens: Arc<Tokens>,
    tls: Option<Tls>,
    clock: Clock,
    run: Run,
    lanes: usize,
    own: std::ops::Range<usize>,
    fleet: Option<Fleet>,
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
            target: vec![target],
            tls: None,
            compress: false,
            tokens,
            legacy: false,
            threads,
            connect_rate: 2_000,
            connecting_max: 512,
            sources: 16,
            i_own_the_target: true,
            metrics: Some("off".to_owned()),
            server_pid: Vec::new(),
            json: false,
            html: None,
            workers: Vec::new(),
            secret_file: None,
            part: None,
        }
    }

    /// Reads the tokens and makes the plan for `connections`, of which `goal` are opened at first.
    /// Where they are opened here, the descriptor limit is raised; where workers open them, these
    /// are greeted.
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
        let doors = self.doors()?;
        let Place { tokens, tls, clock, run, lanes, own, fleet } = match &self.part {
            Some(part) => self.told(part)?,
            None => self.here(connections, distinct)?,
        };
        let mut plan = Plan {
            sources: if doors.iter().all(|door| door.address.ip().is_loopback()) { self.sources } else { 0 },
            doors,
            tls,
            tokens,
            profile: if self.legacy { Profile::Legacy } else { Profile::V2 },
            compress: self.compress,
            dial_gap_ns: 1_000_000_000 * lanes as u64 / self.connect_rate,
            connecting_max: (self.connecting_max as usize / lanes).max(1),
            reconnect,
            narrow_from: usize::MAX,
            leisure_from: usize::MAX,
            watched_every: 1,
            interrupt: interrupt.clone(),
            clock,
            run,
            board: Board::new(lanes, goal),
            own,
            fleet,
            timeline: None,
        };
        plan.timeline = self.html.is_some().then(|| plan.empty_timeline());
        Ok(Arc::new(plan))
    }

    /// The gateways.
    fn doors(&self) -> Result<Vec<Door>> {
        ensure!((1..=SERVERS_MAX).contains(&self.target.len()), "--target: from 1 to {SERVERS_MAX} gateways");
        let door = |target: &String| {
            let url = Url::parse(&format!("http://{target}"))?;
            Ok(Door { address: allow(&url, self.i_own_the_target)?, host: url.host })
        };
        self.target.iter().map(door).collect()
    }

    /// The name that the certificates of all of them must have.
    fn tls_name(&self) -> Result<&str> {
        let host =
            |target: &String| target.rsplit_once(':').map_or_else(|| target.clone(), |(host, _)| host.to_owned());
        let [first, others @ ..] = &self.target[..] else { bail!("no --target") };
        ensure!(
            others.iter().all(|other| host(other) == host(first)),
            "--tls with several targets: all of them must have the same host"
        );
        Ok(first)
    }

    /// Of a run whose files are here, and whose connections are opened here or by workers.
    fn here(&self, connections: usize, distinct: bool) -> Result<Place> {
        let tls = match &self.tls {
            Some(file) => Some(Tls::trusting(file, self.tls_name()?)?),
            None => None,
        };
        let tokens = Tokens::read(&self.tokens)?;
        if distinct {
            tokens.need(connections)?;
        }
        let (clock, threads) = (Clock::start(), usize::from(self.threads));
        let (fleet, lanes, own) = if self.workers.is_empty() {
            raise_descriptors(connections)?;
            (None, threads, 0..threads)
        } else {
            let most = WORKERS_MAX;
            ensure!(self.workers.len() <= most, "--workers: at most {most}");
            let secret = Secret::read(self.secret_file.as_deref())?;
            let read = |file: &PathBuf| {
                std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
            };
            let certificates = self.tls.as_ref().map(read).transpose()?;
            let fleet = Fleet::connect(&self.workers, secret.as_ref(), threads, certificates, clock)?;
            let lanes = fleet.len() * threads;
            (Some(fleet), lanes, 0..0)
        };
        Ok(Place { tokens: Arc::new(tokens), tls, clock, run: Run::new(), lanes, own, fleet })
    }

    /// Of a worker's part of a run: files are the control's, which has told what is in them.
    fn told(&self, part: &Part) -> Result<Place> {
        raise_descriptors(part.tokens.own())?;
        let tls = match &part.certificates {
            Some(pem) => Some(Tls::trusting_pem(pem.as_bytes(), self.tls_name()?).context("--tls")?),
            None => None,
        };
        ensure!(tls.is_some() == self.tls.is_some(), "the control has told no certificates");
        Ok(Place {
            tokens: Arc::clone(&part.tokens),
            tls,
            clock: part.clock,
            run: part.run,
            lanes: part.lanes,
            own: part.own(),
            fleet: None,
        })
    }

    /// Processes that open connections.
    pub(crate) fn processes(&self) -> usize {
        match &self.part {
            Some(part) => part.lanes / part.threads,
            None => self.workers.len().max(1),
        }
    }

    /// Fails where several processes share the run, for flags and scenarios that do not go with
    /// that.
    pub(crate) fn refuse_workers(&self, what: &str) -> Result<()> {
        ensure!(
            self.workers.is_empty() && self.part.is_none(),
            "{what} cannot be shared by several processes (--workers): these can be: {}",
            crate::scenario::SHARED.join(", ")
        );
        Ok(())
    }

    /// Adds to a report what went over the connections, and who opened them.
    pub(crate) fn wire(&self, report: &mut Report, plan: &Plan) {
        plan.tell_workers(report);
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

    /// The server's process, if it was named and is the only one.
    pub(crate) fn server_pid(&self) -> Option<u32> {
        match self.server_pid[..] {
            [pid] => Some(pid),
            _ => None,
        }
    }

    /// Connections opened per second, as asked for.
    pub(crate) const fn connect_rate(&self) -> u64 {
        self.connect_rate
    }

    /// Waits until every gateway takes connections, or until `seconds` have passed.
    pub(crate) fn await_listeners(&self, seconds: u64, interrupt: &Interrupt) -> Result<()> {
        let (clock, doors) = (Clock::start(), self.doors()?);
        let patience = Duration::from_millis(LISTENING_MS_MAX);
        for door in doors {
            while TcpStream::connect_timeout(&door.address, patience).is_err()
                && clock.nanos() < seconds_ns(seconds)
                && !interrupt.is_set()
            {
                pause(LISTENING_LOOK_MS);
            }
        }
        Ok(())
    }

    /// What the two ends may use of this machine. `None`: one of them may be on another.
    pub(crate) fn cpus(&self) -> Option<Cpus> {
        let here = self.workers.is_empty() && self.part.is_none();
        let near = || self.doors().is_ok_and(|doors| doors.iter().all(|door| door.address.ip().is_loopback()));
        (here && near()).then(|| Cpus::of(&self.server_pid))
    }

    /// Why nothing is known of what the server's threads do, if it is not.
    pub(crate) fn threads_unknown(&self) -> &'static str {
        match self.probe() {
            Ok(Some(Probe::Metrics(_) | Probe::Both(..))) => "the server's metrics could not be read",
            Ok(Some(Probe::Processes(_))) => {
                "what its threads do is in the server's metrics, not in those of --server-pid"
            }
            _ => "the server's metrics were not asked for (--metrics)",
        }
    }

    /// Where the server's figures come from.
    pub(crate) fn probe(&self) -> Result<Option<Probe>> {
        if !self.server_pid.is_empty() {
            return Ok(Some(Probe::Processes(self.server_pid.clone())));
        }
        let url = match self.metrics.as_deref() {
            Some("off") => return Ok(None),
            Some(url) => Url::parse(url)?,
            None if self.target == [TARGET] => Url::parse(METRICS)?,
            None => {
                // Those at the default address may be another gateway's.
                static TOLD: Once = Once::new();
                TOLD.call_once(|| say("--metrics was not given for this target: the server's figures are not read"));
                return Ok(None);
            }
        };
        allow(&url, self.i_own_the_target)?;
        Ok(Some(Probe::Metrics(url)))
    }
}
