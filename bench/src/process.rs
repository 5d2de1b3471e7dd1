//! Processes and the machine under them: what they use, where they run, how many descriptors they
//! may have.
//!
//! Owns: [`Usage`] from `/proc`, the pinning to cores, the descriptor limit.
//! Never: guesses; what the system does not say is an error.

use std::fs::{read_dir, read_to_string};
use std::io;

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Ticks per second of the CPU times in `/proc/PID/stat`: `USER_HZ`, which is 100 in the ABI of
/// every Linux that we run on.
const NANOS_PER_TICK: u64 = 1_000_000_000 / 100;

/// What a process has used so far.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Processor time of all its threads, user and system.
    pub cpu_ns: u64,
    /// Resident memory: user space only, the kernel's socket buffers are not in it.
    pub resident_bytes: u64,
}

/// Looks at process `pid`.
///
/// # Errors
/// There is no such process, or it may not be looked at.
pub fn usage(pid: u32) -> Result<Usage> {
    let stat = read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("no process {pid}"))?;
    let ticks = ticks(&stat).context("/proc/PID/stat is not as it should be")?;
    let mut threads_ns = 0;
    for task in read_dir(format!("/proc/{pid}/task"))?.flatten() {
        // A thread may end between the two looks.
        let line = read_to_string(task.path().join("schedstat")).unwrap_or_default();
        threads_ns += line.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
    }
    // The first counts threads that have ended, in ticks; the second is exact, of those that live.
    let cpu_ns = threads_ns.max(ticks * NANOS_PER_TICK);
    let rollup = read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let resident = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).context("no Rss")?;
    let kib: u64 = resident.split_ascii_whitespace().next().context("no Rss")?.parse()?;
    Ok(Usage { cpu_ns, resident_bytes: kib * 1024 })
}

/// `utime` and `stime`: the 14th and 15th field. The second, the name in parentheses, may itself
/// contain blanks.
fn ticks(stat: &str) -> Option<u64> {
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// The cores that this thread may run on.
///
/// # Errors
/// As the system says.
pub fn cores() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect())
}

/// Keeps this thread, and every process and thread that it starts from now on, on `cores`.
///
/// # Errors
/// There is no such core.
pub fn pin(cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &core in cores.iter().filter(|&&core| core < CpuSet::MAX_CPU) {
        set.set(core);
    }
    Ok(sched_setaffinity(None, &set)?)
}

/// Raises this process's soft limit of descriptors to the hard one, which children inherit.
///
/// # Errors
/// Even the hard limit is below `needed`: nothing here tries to get around it.
pub fn raise_descriptors(needed: usize) -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).context("cannot raise the descriptor limit")?;
    match maximum {
        Some(limit) if limit < needed as u64 => {
            bail!("{needed} descriptors are needed, and the hard limit (ulimit -Hn) is {limit}")
        }
        _ => Ok(()),
    }
}

/// The processor's name and the number of cores, for the reports.
#[must_use]
pub fn machine() -> String {
    let info = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} × {}, Linux {}", model.map_or("unknown processor", |(_, name)| name), kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_known() {
        assert_eq!(ticks("7 (a) b) S 1 1 1 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 9"), Some(200));
        let own = usage(std::process::id()).expect("this process");
        assert!(own.resident_bytes > 100_000);
        assert!(usage(0).is_err());
        assert!(!cores().expect("affinity").is_empty());
    }

    #[test]
    fn an_impossible_number_of_descriptors_is_refused() {
        if getrlimit(Resource::Nofile).maximum.is_some() {
            assert!(raise_descriptors(usize::MAX).is_err());
        }
    }
}
