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
    /// How many cores' worth a quota leaves to this program, where that is less than `ours`.
    pub(crate) quota: Option<usize>,
    /// Whether the quota is the server's as well, as far as is known.
    pub(crate) quota_of_both: bool,
}

/// What the kernel tells of a process.
#[derive(Clone, Default, Debug)]
struct Told {
    status: String,
    cgroup: String,
}

impl Told {
    fn of(pid: &str) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        // A kernel without cgroups has no quotas either.
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        Some(Self { status, cgroup })
    }

    /// The CPUs that it may use. A process that is not pinned may use all that the machine could
    /// ever have: only those that run count.
    fn allowed(&self, online: Option<&CpuSet>) -> Option<CpuSet> {
        let all = list(self.status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?)?;
        let running = online.map_or_else(|| all.clone(), |online| all.intersection(online).copied().collect());
        (!running.is_empty()).then_some(running)
    }
}

impl Cpus {
    /// Of this process and of the server's, where these were named.
    pub(crate) fn of(server: &[u32]) -> Self {
        let each: Option<Vec<Told>> = server.iter().map(|pid| Told::of(&pid.to_string())).collect();
        let parallelism = std::thread::available_parallelism().map_or(0, usize::from);
        Self::from_told(&Told::of("self").unwrap_or_default(), each.as_deref(), online_set().as_ref(), parallelism)
    }

    /// `server`: `None` where not all of it can be read. `parallelism`: how many threads of this
    /// program run at once, quotas and all; 0: not known.
    fn from_told(own: &Told, server: Option<&[Told]>, online: Option<&CpuSet>, parallelism: usize) -> Self {
        let server = server.filter(|server| !server.is_empty());
        let each: Option<Vec<CpuSet>> = server.and_then(|all| all.iter().map(|one| one.allowed(online)).collect());
        let ours = own.allowed(online).unwrap_or_default();
        Self {
            theirs: each.map(|each| each.into_iter().flatten().collect()),
            online: online.map_or(0, CpuSet::len),
            quota: (1..ours.len()).contains(&parallelism).then_some(parallelism),
            // Both are on this machine: as a rule in one container, if there is one.
            quota_of_both: server.is_none_or(|all| all.iter().all(|one| one.cgroup == own.cgroup)),
            ours,
        }
    }
}

/// The CPUs that the machine has running.
fn online_set() -> Option<CpuSet> {
    list(&fs::read_to_string("/sys/devices/system/cpu/online").ok()?)
}

/// How many CPUs the machine has running; 0: the kernel does not tell.
pub(crate) fn online() -> usize {
    online_set().map_or(0, |cpus| cpus.len())
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
        // Some containers show zeros only.
        let zeros = at("cpu  0 0 0 0 0 0 0 0 0 0\n");
        assert_eq!(zeros.percent_since(zeros), None);
        assert!(MachineTime::now().is_some());
    }

    fn told(allowed: &str, cgroup: &str) -> Told {
        Told { status: format!("Name:\tx\nCpus_allowed_list:\t{allowed}\n"), cgroup: cgroup.to_owned() }
    }

    #[test]
    fn cpus_that_do_not_run_are_no_ones() {
        let (all, online) = (told("0-127", "0::/\n"), list("0-1"));
        let cpus = Cpus::from_told(&all, Some(std::slice::from_ref(&all)), online.as_ref(), 2);
        let two = CpuSet::from([0, 1]);
        assert_eq!((&cpus.ours, &cpus.theirs, cpus.online, cpus.quota), (&two, &Some(two.clone()), 2, None));
        let elsewhere = Cpus::from_told(&told("5", ""), Some(&[told("6", "")]), online.as_ref(), 1);
        assert_eq!((elsewhere.ours.len(), elsewhere.theirs), (0, None), "what contradicts itself is not known");
        let blind = Cpus::from_told(&all, None, None, 128);
        assert_eq!((blind.ours.len(), blind.theirs, blind.online, blind.quota), (128, None, 0, None));
    }

    #[test]
    fn a_quota_is_seen() {
        let (own, online) = (told("0-63", "0::/\n"), list("0-63"));
        let quota = |server: Option<&[Told]>, parallelism| {
            let cpus = Cpus::from_told(&own, server, online.as_ref(), parallelism);
            (cpus.quota, cpus.quota_of_both)
        };
        assert_eq!(quota(None, 2), (Some(2), true));
        assert_eq!(quota(Some(&[told("0-63", "0::/\n")]), 2), (Some(2), true));
        assert_eq!(quota(Some(&[told("0-63", "0::/imgate.service\n")]), 2), (Some(2), false));
        assert_eq!((quota(None, 64).0, quota(None, 0).0), (None, None));
    }

    #[test]
    fn this_process_and_the_machine_are_told() {
        let cpus = Cpus::of(&[std::process::id()]);
        assert!(!cpus.ours.is_empty() && (cpus.online == 0 || cpus.online >= cpus.ours.len()), "{cpus:?}");
        assert_eq!(cpus.theirs.as_ref(), Some(&cpus.ours));
        assert_eq!(Cpus::of(&[]).theirs, None);
        assert_eq!(Cpus::of(&[std::process::id(), 0]).theirs, None, "what is not known of one is not known of all");
    }
}
