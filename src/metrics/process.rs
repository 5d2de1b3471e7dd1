//! The numbers of the process: CPU, memory, descriptors, threads.
//!
//! Owns: [`ProcessNumbers`] and its reading from `/proc/self` and the process's CPU clock (Linux;
//! elsewhere nothing is known).
//! Never: fails. What the system does not tell is left out of a scrape.

use std::fs;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// What the system knows of this process. `None`: it did not say.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct ProcessNumbers {
    /// User and system CPU time in seconds. From the CPU clock, because `/proc/self/stat` counts in
    /// hundredths of a second.
    pub cpu_seconds: Option<f64>,
    /// Resident memory in bytes.
    pub resident_bytes: Option<u64>,
    /// Open descriptors.
    pub open_fds: Option<u64>,
    /// Descriptors that may be open.
    pub max_fds: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
    /// Resident memory in bytes that it may take; given by the starting thread.
    pub memory_max: Option<u64>,
    /// How many processes before it were not stopped; given by the starting thread.
    pub unclean_ends: Option<u64>,
    /// Unix time of the start in milliseconds; given by the starting thread.
    pub start_ms: Option<u64>,
}

impl ProcessNumbers {
    /// As [`ProcessNumbers::read`], in a time that does not grow with the descriptors: kernels
    /// before 6.2 only list them, and of a million that takes a second and a gigabyte. There
    /// `reckoned` is told instead.
    #[must_use]
    pub fn read_quickly(start_ms: u64, reckoned: Option<u64>) -> Self {
        Self { open_fds: told_fds().or(reckoned), ..Self::read_all(start_ms, None) }
    }

    /// Asks the system. `start_ms` is the wall time at which the process began.
    #[must_use]
    pub fn read(start_ms: u64) -> Self {
        Self::read_all(start_ms, open_fds())
    }

    fn read_all(start_ms: u64, open_fds: Option<u64>) -> Self {
        let status = status();
        Self {
            cpu_seconds: cpu_seconds(),
            resident_bytes: status_field(&status, "VmRSS").map(|kib| kib * 1024),
            open_fds,
            max_fds: getrlimit(Resource::Nofile).current,
            threads: status_field(&status, "Threads"),
            memory_max: None,
            unclean_ends: None,
            start_ms: Some(start_ms),
        }
    }
}

fn status() -> String {
    fs::read_to_string("/proc/self/status").unwrap_or_default()
}

/// Resident memory of the process in bytes, if the system tells it.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    status_field(&status(), "VmRSS").map(|kib| kib * 1024)
}

fn cpu_seconds() -> Option<f64> {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u32::try_from(time.tv_sec).ok()?;
    let nanos = u32::try_from(time.tv_nsec).ok()?;
    Some(f64::from(seconds) + f64::from(nanos) / 1e9)
}

/// Linux 6.2 and later tell the number as the size of the directory.
fn told_fds() -> Option<u64> {
    fs::metadata("/proc/self/fd").ok().map(|directory| directory.len()).filter(|told| *told > 0)
}

/// With a million descriptors, listing them takes long.
fn open_fds() -> Option<u64> {
    if let Some(told) = told_fds() {
        return Some(told);
    }
    // One of those listed is the listing's own.
    let listed = fs::read_dir("/proc/self/fd").ok()?.count();
    u64::try_from(listed).ok().map(|n| n.saturating_sub(1))
}

/// The number in the line `name: 123 kB` of `/proc/self/status` and its like.
#[must_use]
pub fn status_field(status: &str, name: &str) -> Option<u64> {
    status.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(':')?;
        value.split_whitespace().next()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_lines() {
        let status = "Name:\timgate\nVmRSS:\t   5120 kB\nThreads:\t4\n";
        assert_eq!(status_field(status, "VmRSS"), Some(5120));
        assert_eq!(status_field(status, "Threads"), Some(4));
        assert_eq!(status_field(status, "VmR"), None);
        assert_eq!(status_field(status, "Name"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_says_everything() {
        let before = ProcessNumbers::read(1000);
        let held: Vec<_> = (0..10).filter_map(|_| fs::File::open("/proc/self/status").ok()).collect();
        let after = ProcessNumbers::read(1000);
        assert_eq!(held.len(), 10);
        // Other tests of this process open and close files meanwhile; ten more than nothing is
        // certain.
        assert!(after.open_fds >= Some(10), "{after:?}");
        assert!(after.cpu_seconds >= before.cpu_seconds && before.cpu_seconds > Some(0.0), "{before:?}");
        assert!(after.resident_bytes > Some(100_000) && after.threads >= Some(1), "{after:?}");
        assert!(after.max_fds >= after.open_fds, "{after:?}");
    }
}
