//! Gateways that are compared: started here, or found running; each with users of its own.
//!
//! Owns: their command lines, ports, processes, and a folder with their data and tokens that goes
//! at the end.
//! Never: touches a process that it did not start.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::clock::Clock;
use crate::http::{Url, await_answer};
use crate::interrupt::Interrupt;
use crate::options::allow;
use crate::probe::Probe;
use crate::verify::keeper::{Duty, Keeper};
use crate::verify::people::register;

/// How long a gateway may take until it answers.
const START_SECONDS: u64 = 60;

/// One gateway.
#[derive(Debug)]
pub(super) struct Gateway {
    pub(super) name: String,
    /// `HOST:PORT`.
    pub(super) target: String,
    /// Where its metrics are; `None`: nowhere.
    metrics: Option<Url>,
    /// Its command line, if it is ours to start.
    command: Option<String>,
    /// The `id token` lines of its users.
    pub(super) tokens: PathBuf,
    keeper: Keeper,
}

impl Gateway {
    /// One that is started here: in `command`, `{listen}`, `{admin}` and `{data}` stand for two
    /// addresses and a folder.
    pub(super) fn to_start(name: &str, command: &str, folder: &Folder) -> Result<Self> {
        let (listen, admin) = (free_address()?, free_address()?);
        let data = folder.0.join(name);
        let data = data.to_str().context("a temporary folder whose name is no text")?;
        let command = command.replace("{listen}", &listen).replace("{admin}", &admin).replace("{data}", data);
        let metrics = Some(Url::parse(&format!("http://{admin}/metrics"))?);
        Ok(Self::new(name, listen, metrics, Some(command), folder))
    }

    /// One that runs already. `metrics`: a URL, or `off`.
    pub(super) fn running(name: &str, target: &str, metrics: &str, vouched: bool, folder: &Folder) -> Result<Self> {
        allow(&Url::parse(&format!("http://{target}"))?, vouched)?;
        let metrics = if metrics == "off" { None } else { Some(Url::parse(metrics)?) };
        if let Some(url) = &metrics {
            allow(url, vouched)?;
        }
        Ok(Self::new(name, target.to_owned(), metrics, None, folder))
    }

    fn new(name: &str, target: String, metrics: Option<Url>, command: Option<String>, folder: &Folder) -> Self {
        let tokens = folder.0.join(format!("{name}.tokens"));
        Self { name: name.to_owned(), target, metrics, command, tokens, keeper: Keeper::default() }
    }

    /// Its figures: counters from its metrics, CPU time from the system if the process is ours.
    pub(super) fn probe(&self) -> Option<Probe> {
        match (self.keeper.pid(), &self.metrics) {
            (Some(pid), Some(url)) => Some(Probe::Both(pid, url.clone())),
            (Some(pid), None) => Some(Probe::Processes(vec![pid])),
            (None, url) => url.clone().map(Probe::Metrics),
        }
    }

    /// Registers `users` and writes their tokens, as soon as the gateway answers.
    fn people(&self, users: usize, run: u64, clock: Clock, interrupt: &Interrupt) -> Result<()> {
        let base = Url::parse(&format!("http://{}", self.target))?;
        await_answer(&base, clock, START_SECONDS, interrupt)?;
        let mut lines = String::new();
        for place in 0..users {
            interrupt.check()?;
            let (id, token) = register(&base, run, place).context("cannot register a user")?;
            lines.push_str(&format!("{id} {token}\n"));
        }
        std::fs::write(&self.tokens, lines).with_context(|| format!("cannot write {}", self.tokens.display()))
    }
}

/// Starts the gateways that are ours, gives each `users`, lets `work` be done with them, and stops
/// them in any case.
pub(super) fn keep<T>(
    gateways: &[Gateway],
    users: usize,
    run: u64,
    clock: Clock,
    interrupt: &Interrupt,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    std::thread::scope(|scope| {
        let kept: Vec<_> = gateways
            .iter()
            .map(|gateway| {
                let log = gateway.tokens.with_extension("log");
                let servers = gateway.command.iter().cloned().collect();
                let duty = Duty { servers, log: Some(log), orders: Vec::new() };
                scope.spawn(move || gateway.keeper.keep(duty, clock))
            })
            .collect();
        let ready = gateways.iter().try_for_each(|gateway| {
            gateway.people(users, run, clock, interrupt).with_context(|| {
                let log = std::fs::read_to_string(gateway.tokens.with_extension("log")).unwrap_or_default();
                format!("gateway {}: {}", gateway.name, log.lines().last().unwrap_or("it said nothing"))
            })
        });
        let outcome = ready.and_then(|()| work());
        gateways.iter().for_each(|gateway| gateway.keeper.stop());
        for thread in kept {
            match thread.join() {
                Ok(kept) => kept?,
                Err(_) => bail!("a keeper panicked"),
            }
        }
        for gateway in gateways {
            if let Some(crash) = gateway.keeper.crashes().first() {
                bail!("gateway {}: {crash}", gateway.name);
            }
        }
        outcome
    })
}

/// A folder that goes with its owner.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(run: u64) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("autoclient-{run:x}"));
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Left-overs in the temporary directory are no failure.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An address of this machine that is not in use.
fn free_address() -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
    Ok(listener.local_addr()?.to_string())
}
