//! Which CPUs a process may use, and which the machine has.
//!
//! Owns: [`Cpus`], what is known of a run whose two ends are on this machine, the reading of the
//! kernel's lists (`0-3,8`), and [`MachineTime`], what all programs of the machine have used.
//! Never: takes the CPUs that this process may use for those of the machine or of the server.

use std::collections::BTreeSet;
use std::fs;

/// CPUs by number.
pub(crate) type CpuSet = BTreeSet<usize>;

/// What the ends of a run may use, where both are on this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Cpus {
    /// What this program may use; empty: not known.
    pub(crate) ours: CpuSet,
    /// What the server's processes may use, if they are known.
    pub(crate) theirs: Option<CpuSet>,
    /// What the machine has; 0: not known.
    pub(crate) online: usize,
}

impl Cpus {
    /// Of this process and of the server's, where these were named.
    pub(crate) fn of(server: &[u32]) -> Self {
        let each: Option<Vec<CpuSet>> = server.iter().map(|pid| allowed(&pid.to_string())).collect();
        let theirs = each.filter(|each| !each.is_empty()).map(|each| each.into_iter().flatten().collect());
        Self { ours: allowed("self").unwrap_or_default(), theirs, online: online() }
    }
}

/// The CPUs that a process may use.
fn allowed(pid: &str) -> Option<CpuSet> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    list(status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?)
}

/// How many CPUs the machine has running; 0: the kernel does not tell.
pub(crate) fn online() -> usize {
    let told = fs::read_to_string("/sys/devices/system/cpu/online").ok();
    told.and_then(|text| list(&text)).map_or(0, |cpus| cpus.len())
}

/// CPU time of the whole machine since its start, in ticks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct MachineTime {
    busy: u64,
    all: u64,
}

impl MachineTime {
    /// Until now; `None`: the kernel does not tell.
    pub(crate) fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// The first line has the sum of all CPUs: user, nice, system, idle, waiting for disks,
    /// interrupts, soft ones, stolen. What guests used is in the first two.
    fn parse(stat: &str) -> Option<Self> {
        let ticks = stat.strip_prefix("cpu ")?.lines().next()?.split_ascii_whitespace().take(8);
        let ticks: Vec<u64> = ticks.map(|tick| tick.parse().ok()).collect::<Option<_>>()?;
        let all = ticks.iter().sum();
        let idle: u64 = ticks.get(3..5)?.iter().sum();
        Some(Self { busy: all - idle, all })
    }

    /// How much of the machine was used since an earlier time, in percent of all of it.
    pub(crate) fn percent_since(self, before: Self) -> Option<f64> {
        let all = self.all.checked_sub(before.all).filter(|all| *all > 0)?;
        Some(self.busy.saturating_sub(before.busy) as f64 * 100.0 / all as f64)
    }
}

/// The machine's CPUs and how many of them this process may use, for people.
pub(crate) fn described() -> String {
    let (all, ours) = (online(), std::thread::available_parallelism().map_or(0, usize::from));
    match (all, ours) {
        (0, ours) => format!("this program on {ours} cores"),
        (all, ours) if ours < all => format!("{all} cores, {ours} of them for this program"),
        (all, _) => format!("{all} cores"),
    }
}

/// A list as the kernel writes it. `None`: it is none, or names no CPU.
fn list(text: &str) -> Option<CpuSet> {
    let mut cpus = CpuSet::new();
    for part in text.trim().split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (usize, usize) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        if to > CPU_MAX {
            return None;
        }
        cpus.extend(from..=to);
    }
    (!cpus.is_empty()).then_some(cpus)
}

/// The highest number that is believed: Linux is built for at most 8,192 CPUs.
const CPU_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(list("0-3,8\n"), Some(CpuSet::from([0, 1, 2, 3, 8])));
        assert_eq!(list("\t5"), Some(CpuSet::from([5])));
        for bad in ["", "a", "3-", "0-99999999999", "2-1"] {
            assert_eq!(list(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_machine_is_as_busy_as_it_was_not_idle() {
        let at = |text: &str| MachineTime::parse(text).expect("a line");
        let before = at("cpu  100 0 50 800 50 0 0 0 7 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n");
        assert_eq!(before, MachineTime { busy: 150, all: 1_000 });
        let after = at("cpu  150 10 80 900 100 5 5 50 9 0\n");
        assert_eq!(after.percent_since(before), Some(50.0));
        assert_eq!(before.percent_since(before), None, "no time has passed");
        assert!(MachineTime::parse("cpu0 1 2 3 4 5\n").is_none() && MachineTime::parse("cpu  1 2\n").is_none());
        assert!(MachineTime::now().is_some_and(|now| now.busy > 0));
    }

    #[test]
    fn this_process_and_the_machine_are_told() {
        let cpus = Cpus::of(&[std::process::id()]);
        assert!(!cpus.ours.is_empty() && cpus.online >= cpus.ours.len(), "{cpus:?}");
        assert_eq!(cpus.theirs.as_ref(), Some(&cpus.ours));
        assert_eq!(Cpus::of(&[]).theirs, None);
        assert_eq!(Cpus::of(&[std::process::id(), 0]).theirs, None, "what is not known of one is not known of all");
    }
}
