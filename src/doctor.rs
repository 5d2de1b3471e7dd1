//! What would stop this machine from carrying a gateway with so many connections, and the command
//! that mends it.
//!
//! Owns: [`examine`], the list of checks, and how a finding is shown. Never: changes anything but a
//! file of its own in the data directory, for the time of a sync, and an object of its own in the
//! object store, which it removes. To add a check:
//! a function from what was read to a [`Finding`], in `kernel`, `host`, `owners`, `storage`,
//! `reach`, `proxies` or `running`, and a line in its list.

mod disk;
mod host;
mod kernel;
mod machine;
mod owners;
mod proxies;
mod reach;
mod running;
mod storage;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::config::Config;
pub use machine::Machine;

/// How much a finding matters; the exit code follows the worst.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// As it should be.
    Ok,
    /// It could not be read here, or is only told.
    Note,
    /// It works, until something happens.
    Warning,
    /// The target is not reached like this.
    Stops,
}

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What was looked at: a setting's name, or a word.
    pub what: &'static str,
    /// What it is.
    pub found: String,
    /// What it should be, if it should be something else.
    pub wanted: Option<String>,
    /// What follows from it, if it matters.
    pub why: Option<String>,
    /// The command that mends it.
    pub mend: Option<String>,
}

impl Finding {
    /// As it should be.
    fn ok(what: &'static str, found: impl Into<String>) -> Self {
        Self { severity: Severity::Ok, what, found: found.into(), wanted: None, why: None, mend: None }
    }

    /// It is told, and nothing follows.
    fn note(what: &'static str, found: impl Into<String>, why: impl Into<String>) -> Self {
        Self { severity: Severity::Note, why: Some(why.into()), ..Self::ok(what, found) }
    }

    /// It should be something else.
    fn bad(severity: Severity, what: &'static str, found: impl Into<String>, why: impl Into<String>) -> Self {
        Self { severity, why: Some(why.into()), ..Self::ok(what, found) }
    }

    fn wanted(self, wanted: impl Into<String>) -> Self {
        Self { wanted: Some(wanted.into()), ..self }
    }

    fn mend(self, command: impl Into<String>) -> Self {
        Self { mend: Some(command.into()), ..self }
    }
}

/// What was found, and for which target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Connections that the machine shall carry.
    pub target_connections: u64,
    /// The worst severity.
    pub verdict: Severity,
    /// Everything that was looked at.
    pub findings: Vec<Finding>,
}

impl Severity {
    /// The word in JSON.
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Stops => "stops",
        }
    }
}

impl Report {
    /// For scripts.
    #[must_use]
    pub fn json(&self) -> Value {
        let finding = |finding: &Finding| {
            let mut object = Map::new();
            object.insert("severity".to_owned(), finding.severity.word().into());
            object.insert("what".to_owned(), finding.what.into());
            object.insert("found".to_owned(), finding.found.clone().into());
            for (key, text) in [("wanted", &finding.wanted), ("why", &finding.why), ("mend", &finding.mend)] {
                if let Some(text) = text {
                    object.insert(key.to_owned(), text.clone().into());
                }
            }
            Value::Object(object)
        };
        json!({
            "target_connections": self.target_connections,
            "verdict": self.verdict.word(),
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
        })
    }

    /// For people: what matters first, each with its remedy; what is as it should be is a word
    /// each.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!("for {} connections\n", grouped(self.target_connections));
        let mut findings: Vec<&Finding> = self.findings.iter().collect();
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        for finding in findings {
            let mark = match finding.severity {
                Severity::Ok => "ok      ",
                Severity::Note => "note    ",
                Severity::Warning => "WARNING ",
                Severity::Stops => "STOPS   ",
            };
            let wanted = finding.wanted.as_ref().map(|wanted| format!(", wanted {wanted}")).unwrap_or_default();
            // Writing into a string cannot fail.
            let _ = writeln!(out, "{mark} {}: {}{wanted}", finding.what, finding.found);
            for (name, line) in [("why ", &finding.why), ("mend", &finding.mend)] {
                if let Some(line) = line {
                    let _ = writeln!(out, "         {name}  {line}");
                }
            }
        }
        let verdict = match self.verdict {
            Severity::Ok | Severity::Note => "nothing stands in the way",
            Severity::Warning => "it works, until something happens: see the warnings",
            Severity::Stops => "the target is not reached like this",
        };
        let _ = writeln!(out, "{verdict}");
        out
    }
}

/// What a gateway that runs on the configuration says in its metrics, twice.
#[derive(Clone, Debug)]
pub struct Scrapes {
    /// Where its admin port is.
    pub admin: SocketAddr,
    /// First.
    pub before: String,
    /// And a while later.
    pub now: String,
    /// So much later.
    pub between: Duration,
}

/// Looks at everything; `scrapes` if there is a gateway that runs.
#[must_use]
pub fn examine(machine: &Machine, config: &Config, scrapes: Option<&Scrapes>, target_connections: u64) -> Report {
    let need = Need::of(config, target_connections);
    let mut findings = kernel::findings(machine, &need);
    findings.extend(host::findings(machine, &need));
    findings.extend(disk::findings(&config.data));
    findings.extend(owners::findings(&config.data));
    findings.extend(storage::findings(config));
    findings.extend(config.objects.as_ref().map(storage::objects));
    findings.extend(reach::findings(config));
    findings.extend(proxies::findings(config, scrapes));
    findings.extend(running::findings(scrapes, &need, &config.fingerprint()));
    let verdict = findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Ok);
    Report { target_connections, verdict, findings }
}

/// What the target needs.
#[derive(Clone, Debug)]
struct Need {
    connections: u64,
    /// Descriptors: the connections, and what is not theirs.
    descriptors: u64,
    /// Bytes of the gateway's own memory.
    user_bytes: u64,
    /// Bytes of the kernel's.
    kernel_bytes: u64,
    shards: u64,
    /// Ports that are listened on.
    ports: Vec<u16>,
    max_connections: u64,
    /// What the configuration lets the process take; 0: nothing is set.
    memory_max: u64,
}

/// Descriptors that are no connections: listeners, polls, the database, files, the admin port.
const DESCRIPTORS_OWN: u64 = crate::limits::DESCRIPTORS_RESERVED as u64 + 128;
/// Bytes of an idle connection in user space; `scripts/million.sh` measures it.
const USER_BYTES_EACH: u64 = 200;
/// Bytes of an idle connection in the kernel, this end only: half of the 13 KB that a pair is
/// reckoned at.
const KERNEL_BYTES_EACH: u64 = 6_656;
/// What a gateway takes without connections: code, tables, caches, hashing of passwords.
const USER_BYTES_BASE: u64 = 128 * 1024 * 1024;

impl Need {
    fn of(config: &Config, connections: u64) -> Self {
        let addresses = config.listen.iter().chain(&config.listen_proxy).chain([&config.admin]);
        Self {
            connections,
            descriptors: connections + DESCRIPTORS_OWN,
            user_bytes: USER_BYTES_BASE + connections * USER_BYTES_EACH,
            kernel_bytes: connections * KERNEL_BYTES_EACH,
            shards: config.shards.into(),
            ports: addresses.map(SocketAddr::port).filter(|port| *port > 0).collect(),
            max_connections: config.max_connections as u64,
            memory_max: config.memory_max,
        }
    }
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes as `1.5 GiB`.
fn bytes(number: u64) -> String {
    bytesize::ByteSize(number).display().iec().to_string()
}
