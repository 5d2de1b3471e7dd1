//! What is done to each server: the columns of the table.
//!
//! Owns: [`Scenario`] and the figures that each yields.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::profile::Recording;
use super::server::{Programs, Server};
use crate::load::drive::Drive;
use crate::load::{Crowd, Load, Pace, Traffic};
use crate::process::{self, usage};
use crate::scrape::Inside;

/// Bytes of a message.
const BYTES: usize = 150;
/// Bytes of a long one.
const LONG_BYTES: usize = 1024;
/// Before memory is looked at.
const SETTLE: Duration = Duration::from_secs(2);
/// The idle scenario's first step: what a server allocates once, with its first connections, is not
/// in the slope.
const FIRST_STEP_SHARE: usize = 5;

/// A column of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scenario {
    /// Connections that do nothing: memory of each, and what it cost to connect.
    Idle { connections: usize },
    /// 1,000 members, 50 messages a second.
    Group1000,
    /// 10,000 members, 10 messages a second.
    Group10000,
    /// 1,000 members, 50 messages of 1 KiB a second.
    GroupLong,
    /// 1,000 members, ten publishers, 200 messages a second together.
    Busy,
    /// 1,000 members, one publisher with 16 messages under way.
    Saturated,
    /// 100 pairs with one message under way each.
    Direct,
    /// 100 pairs, 10,000 messages a second together.
    DirectRate,
}

impl Scenario {
    /// Its name on the command line and in the table.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle { .. } => "idle",
            Self::Group1000 => "group-1000",
            Self::Group10000 => "group-10000",
            Self::GroupLong => "group-1000-long",
            Self::Busy => "busy",
            Self::Saturated => "saturated",
            Self::Direct => "direct",
            Self::DirectRate => "direct-10000",
        }
    }

    /// How many connections it needs.
    #[must_use]
    pub const fn members(self) -> usize {
        match self {
            Self::Idle { connections } => connections,
            Self::Group10000 => 10_000,
            Self::Group1000 | Self::GroupLong | Self::Busy | Self::Saturated => 1000,
            Self::Direct | Self::DirectRate => 200,
        }
    }

    fn load(self) -> Option<Load> {
        let group = |publishers, pace| (Traffic::Group { publishers }, pace);
        let (traffic, pace) = match self {
            Self::Idle { .. } => return None,
            Self::Group1000 | Self::GroupLong => group(1, Pace::Rate(50.0)),
            Self::Group10000 => group(1, Pace::Rate(10.0)),
            Self::Busy => group(10, Pace::Rate(200.0)),
            Self::Saturated => group(1, Pace::Window(16)),
            Self::Direct => (Traffic::Pairs, Pace::Window(1)),
            Self::DirectRate => (Traffic::Pairs, Pace::Rate(10_000.0)),
        };
        let bytes = if self == Self::GroupLong { LONG_BYTES } else { BYTES };
        Some(Load { members: self.members(), traffic, pace, bytes })
    }

    /// Deliveries that an open loop asks for, per second; `None` in a closed one.
    #[must_use]
    pub fn offered(self) -> Option<f64> {
        match self.load()? {
            Load { pace: Pace::Rate(rate), traffic: Traffic::Pairs, .. } => Some(rate),
            Load { pace: Pace::Rate(rate), members, .. } => Some(rate * (members as f64 - 1.0)),
            _ => None,
        }
    }
}

/// What one run yields.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// User-space bytes per idle connection.
    pub bytes_per_connection: Option<f64>,
    /// Server CPU per connection and upgrade, in microseconds.
    pub connect_us: Option<f64>,
    /// Server CPU per delivery, in microseconds.
    pub delivery_us: Option<f64>,
    /// Bytes of frames per delivery, as they come to the member, before TLS.
    pub delivery_bytes: Option<f64>,
    /// Deliveries per second.
    pub rate: Option<f64>,
    /// Milliseconds from due to read: median, 99th percentile.
    pub latency_ms: Option<(f64, f64)>,
    /// Milliseconds from due until the author had the ack: median, 99th percentile.
    pub ack_ms: Option<(f64, f64)>,
    /// What the gateway itself counted, for each delivery.
    pub inside: Option<Inside>,
    /// Deliveries that never came.
    pub lost: u64,
    /// Share of its core that the generator used.
    pub generator_share: f64,
    /// Where the server's time went, as a section of Markdown, if it was looked at.
    pub profile: Option<String>,
}

impl Figures {
    /// As one object of the report.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "bytes_per_connection": self.bytes_per_connection,
            "connect_us": self.connect_us,
            "delivery_us": self.delivery_us,
            "delivery_bytes": self.delivery_bytes,
            "deliveries_per_second": self.rate,
            "latency_p50_ms": self.latency_ms.map(|(p50, _)| p50),
            "latency_p99_ms": self.latency_ms.map(|(_, p99)| p99),
            "ack_p50_ms": self.ack_ms.map(|(p50, _)| p50),
            "ack_p99_ms": self.ack_ms.map(|(_, p99)| p99),
            "hops": self.inside.map(|inside| inside.hops),
            "wakes": self.inside.map(|inside| inside.wakes),
            "sends": self.inside.map(|inside| inside.sends),
            "turns": self.inside.map(|inside| inside.turns),
            "hop_p50_us": self.inside.map(|inside| inside.hop_us.0),
            "hop_p99_us": self.inside.map(|inside| inside.hop_us.1),
            "lost": self.lost,
            "generator_share": self.generator_share,
        })
    }
}

/// Starts `server`, does it to it, and ends it; with `profiled`, `perf` looks at it meanwhile,
/// which makes it a little dearer.
///
/// # Errors
/// The server did not survive, with the end of its log.
pub fn measure(
    programs: &Programs,
    server: Server,
    scenario: Scenario,
    seconds: f64,
    cores: (&[usize], &[usize]),
    profiled: bool,
) -> Result<Figures> {
    let running = programs.start(server, scenario.members(), cores.0)?;
    process::pin(cores.1).context("cannot pin the load generator")?;
    let figures = || -> Result<Figures> {
        let mut crowd = Crowd::new(running.address, running.tls.as_ref(), running.dialect.as_ref())?;
        // Whoever only connects is done before `perf` has started.
        let Some(load) = scenario.load() else { return idle(&mut crowd, running.pid(), scenario.members()) };
        crowd.grow(load.members)?;
        let recording = profiled.then(|| Recording::start(running.pid(), running.folder())).transpose()?;
        let outcome = Drive::new(&mut crowd, load).measure(&running.watch(), WARM_SECONDS, seconds)?;
        let title = format!("{}, {}", scenario.name(), server.name());
        let profile = recording.map(|recording| recording.end(&title)).transpose()?;
        let millis = |of: &Histogram<u64>| [0.5, 0.99].map(|q| of.value_at_quantile(q) as f64 / 1e6).into();
        Ok(Figures {
            delivery_us: Some(outcome.cpu_us()),
            delivery_bytes: Some(outcome.bytes_each()),
            rate: Some(outcome.rate()),
            latency_ms: Some(millis(&outcome.latency_ns)),
            ack_ms: (!outcome.ack_ns.is_empty()).then(|| millis(&outcome.ack_ns)),
            inside: outcome.inside,
            lost: outcome.lost,
            generator_share: outcome.generator_share,
            profile,
            ..Figures::default()
        })
    };
    figures().with_context(|| format!("{} under {}: {}", server.name(), scenario.name(), running.log()))
}

/// How long the load runs before anything is counted.
const WARM_SECONDS: f64 = 1.0;

fn idle(crowd: &mut Crowd<'_>, pid: u32, members: usize) -> Result<Figures> {
    let first = members / FIRST_STEP_SHARE;
    crowd.grow(first)?;
    sleep(SETTLE);
    let before = usage(pid)?;
    crowd.grow(members)?;
    sleep(SETTLE);
    let after = usage(pid)?;
    // Bytes that came meanwhile are the members' own; nobody may be lost.
    crowd.turn(Duration::ZERO)?;
    let more = (members - first) as f64;
    Ok(Figures {
        bytes_per_connection: Some((after.resident_bytes as f64 - before.resident_bytes as f64) / more),
        connect_us: Some((after.cpu_ns - before.cpu_ns) as f64 / more / 1000.0),
        ..Figures::default()
    })
}
