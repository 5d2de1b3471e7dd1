//! Which CPUs a process may use, and which the machine has.
//!
//! Owns: [`Cpus`], what is known of a run whose two ends are on this machine, and the reading of
//! the kernel's lists (`0-3,8`).
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
    fn this_process_and_the_machine_are_told() {
        let cpus = Cpus::of(&[std::process::id()]);
        assert!(!cpus.ours.is_empty() && cpus.online >= cpus.ours.len(), "{cpus:?}");
        assert_eq!(cpus.theirs.as_ref(), Some(&cpus.ours));
        assert_eq!(Cpus::of(&[]).theirs, None);
        assert_eq!(Cpus::of(&[std::process::id(), 0]).theirs, None, "what is not known of one is not known of all");
    }
}
