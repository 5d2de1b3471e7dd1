//! What the server spends: CPU time, resident memory and descriptors, from its metrics or straight
//! from `/proc`.
//!
//! Owns: [`Probe`] and [`Sample`]. `/proc/PID` is exact; the metrics work without knowing the
//! process.
//! Never: guesses. A figure that cannot be read is absent, and the report says so.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::http::{self, Url};
use crate::say::say;

/// Ticks per second of the CPU times in `/proc/PID/stat`: `USER_HZ`, which is 100 in the ABI of
/// every Linux that we run on.
const TICKS_PER_SECOND: f64 = 100.0;
/// Metrics may carry this prefix or not.
const PREFIX: &str = "imgate_";

/// Where the figures come from.
#[derive(Clone, Debug)]
pub(crate) enum Probe {
    /// A Prometheus text document.
    Metrics(Url),
    /// Processes of this machine, as one.
    Processes(Vec<u32>),
    /// Of a process of this machine, and what only its metrics tell.
    Both(u32, Url),
}

/// One reading.
#[derive(Clone, Default, PartialEq, Debug)]
pub(crate) struct Sample {
    /// User and system time since the process started, in seconds.
    pub(crate) cpu_seconds: Option<f64>,
    /// Resident memory in bytes: user space only; the kernel's socket buffers are not in it.
    pub(crate) resident_bytes: Option<u64>,
    /// Of it, anonymous memory: heap and stacks (only from `/proc`).
    pub(crate) anonymous_bytes: Option<u64>,
    /// Open descriptors.
    pub(crate) open_fds: Option<u64>,
    /// Transactions of the store's writers (only from metrics, as what follows).
    pub(crate) commits: Option<u64>,
    /// Writes in them.
    pub(crate) writes: Option<u64>,
    /// Reads about one user as a whole.
    pub(crate) user_reads: Option<u64>,
    /// Statements that answered these.
    pub(crate) user_queries: Option<u64>,
    /// Seconds that transactions took.
    pub(crate) commit_seconds: Option<f64>,
    /// CPU seconds by what the threads do.
    pub(crate) threads: BTreeMap<String, f64>,
}

impl Sample {
    /// Writes in each transaction since an earlier reading, on average. `None`: not known, or there
    /// was none.
    pub(crate) fn mean_batch_since(&self, before: &Self) -> Option<f64> {
        let commits = self.commits?.checked_sub(before.commits?).filter(|commits| *commits > 0)?;
        Some(self.writes?.checked_sub(before.writes?)? as f64 / commits as f64)
    }

    /// Of no process.
    fn nothing() -> Self {
        let (none, seconds) = (Some(0), Some(0.0));
        Self { cpu_seconds: seconds, resident_bytes: none, anonymous_bytes: none, open_fds: none, ..Self::default() }
    }

    /// Of one process more, by what `/proc` tells; what is not known of one is not known of all.
    fn and(self, other: &Self) -> Self {
        let sum = |one: Option<u64>, other: Option<u64>| Some(one? + other?);
        Self {
            cpu_seconds: self.cpu_seconds.zip(other.cpu_seconds).map(|(one, other)| one + other),
            resident_bytes: sum(self.resident_bytes, other.resident_bytes),
            anonymous_bytes: sum(self.anonymous_bytes, other.anonymous_bytes),
            open_fds: sum(self.open_fds, other.open_fds),
            ..self
        }
    }

    /// CPU seconds by what the threads do since an earlier reading; those that both know.
    pub(crate) fn threads_since(&self, before: &Self) -> BTreeMap<String, f64> {
        let grown = |(name, cpu): (&String, &f64)| Some((name.clone(), (cpu - before.threads.get(name)?).max(0.0)));
        self.threads.iter().filter_map(grown).collect()
    }
}

impl Probe {
    /// Reads now, and waits for metrics no longer than that.
    pub(crate) fn sample(&self, patience: Duration) -> Result<Sample> {
        match self {
            Self::Metrics(url) => read_metrics(url, patience),
            Self::Processes(pids) => {
                let each = pids.iter().map(|pid| from_proc(&pid.to_string()));
                Ok(each.collect::<Result<Vec<_>>>()?.iter().fold(Sample::nothing(), Sample::and))
            }
            Self::Both(pid, url) => {
                let Sample { cpu_seconds, resident_bytes, anonymous_bytes, open_fds, .. } =
                    from_proc(&pid.to_string())?;
                Ok(Sample { cpu_seconds, resident_bytes, anonymous_bytes, open_fds, ..read_metrics(url, patience)? })
            }
        }
    }

    /// Reads now; what goes wrong is told on standard error and the figures are absent.
    pub(crate) fn sample_or_warn(&self, patience: Duration) -> Sample {
        self.sample(patience).unwrap_or_else(|error| {
            say(&format!("warning: no figures of the server: {error:#}"));
            Sample::default()
        })
    }

    /// For the report.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Metrics(url) => format!("http://{}{}", url.host, url.path),
            Self::Processes(pids) => pids.iter().map(|pid| format!("/proc/{pid}")).collect::<Vec<_>>().join(", "),
            Self::Both(pid, _) => format!("/proc/{pid}"),
        }
    }
}

/// CPU seconds of this process so far.
pub(crate) fn own_cpu_seconds() -> Option<f64> {
    from_proc("self").ok()?.cpu_seconds
}

fn read_metrics(url: &Url, patience: Duration) -> Result<Sample> {
    let body = http::get_within(url, patience).context("cannot read the server's metrics")?;
    Ok(from_metrics(&String::from_utf8_lossy(&body)))
}

fn from_metrics(text: &str) -> Sample {
    let find = |name: &str| {
        text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
            let value = line.strip_prefix(PREFIX).unwrap_or(line).strip_prefix(name)?.strip_prefix(' ')?;
            value.split(' ').next()?.parse::<f64>().ok()
        })
    };
    Sample {
        cpu_seconds: find("process_cpu_seconds_total"),
        resident_bytes: find("process_resident_memory_bytes").map(|v| v as u64),
        anonymous_bytes: None,
        open_fds: find("process_open_fds").map(|v| v as u64),
        commits: find("store_commits_total").map(|v| v as u64),
        writes: find("store_committed_writes_total").map(|v| v as u64),
        user_reads: find("store_user_reads_total").map(|v| v as u64),
        user_queries: find("store_user_queries_total").map(|v| v as u64),
        commit_seconds: find("store_commit_seconds_total"),
        threads: text.lines().filter_map(thread_cpu).collect(),
    }
}

/// A line of `thread_cpu_seconds_total`.
fn thread_cpu(line: &str) -> Option<(String, f64)> {
    let labelled = line.strip_prefix(PREFIX).unwrap_or(line).strip_prefix("thread_cpu_seconds_total{thread=\"")?;
    let (name, value) = labelled.split_once("\"} ")?;
    Some((name.to_owned(), value.split(' ').next()?.parse().ok()?))
}

fn from_proc(pid: &str) -> Result<Sample> {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}"));
    let stat = read("stat").with_context(|| format!("no process {pid}"))?;
    // Only root and the owner may read the roll-up; it is exact, while `statm` may lag behind
    // per-CPU counters.
    let rollup = read("smaps_rollup").unwrap_or_default();
    let resident = kilobytes(&rollup, "Rss:").or_else(|| resident_by_statm(&read("statm").ok()?));
    Ok(Sample {
        cpu_seconds: cpu_by_stat(&stat),
        resident_bytes: resident,
        anonymous_bytes: kilobytes(&rollup, "Anonymous:"),
        open_fds: std::fs::read_dir(format!("/proc/{pid}/fd")).ok().map(|fds| fds.count() as u64),
        ..Sample::default()
    })
}

/// `utime` and `stime`: the 14th and 15th field. The second, the name in parentheses, may itself
/// contain spaces.
fn cpu_by_stat(stat: &str) -> Option<f64> {
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_ascii_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

fn resident_by_statm(statm: &str) -> Option<u64> {
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn kilobytes(rollup: &str, key: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.split_ascii_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_with_and_without_our_prefix() {
        let text = "# HELP x y\nimgate_process_resident_memory_bytes 1048576\nprocess_cpu_seconds_total 1.5 1700000000\n\
                    process_open_fds_other 9\nprocess_open_fds 12\nimgate_store_commits_total 4\n\
                    imgate_store_committed_writes_total 10\nimgate_thread_cpu_seconds_total{thread=\"shard-0\"} 2.5\n";
        let expected = Sample {
            cpu_seconds: Some(1.5),
            resident_bytes: Some(1_048_576),
            anonymous_bytes: None,
            open_fds: Some(12),
            commits: Some(4),
            writes: Some(10),
            threads: BTreeMap::from([("shard-0".to_owned(), 2.5)]),
            ..Sample::default()
        };
        assert_eq!(from_metrics(text), expected);
        assert_eq!(from_metrics(""), Sample::default());
        let earlier = Sample { commits: Some(2), writes: Some(5), ..Sample::default() };
        assert_eq!((expected.mean_batch_since(&earlier), earlier.mean_batch_since(&earlier)), (Some(2.5), None));
    }

    #[test]
    fn the_process_file_system() {
        assert_eq!(cpu_by_stat("7 (a) b) S 1 1 1 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 9"), Some(2.0));
        assert_eq!(kilobytes("Rss:    12 kB\nAnonymous:     4 kB\n", "Anonymous:"), Some(4096));
        let own = from_proc("self").expect("this process");
        assert!(own.resident_bytes.expect("memory") > 100_000 && own.open_fds.expect("descriptors") >= 3);
        assert!(from_proc("0").is_err());
    }
}
