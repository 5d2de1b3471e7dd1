//! What is read of the machine: files below `/proc` and `/sys`, and the limits of this process.
//!
//! Never: fails. What cannot be read is absent, and the check that wanted it says so.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

/// Where the files are.
#[derive(Clone, Debug)]
pub struct Machine {
    root: PathBuf,
    /// Descriptors that a process may have: what it has by itself, and the most that it may give
    /// itself; `None`: any number.
    pub nofile: (Option<u64>, Option<u64>),
    /// Bytes that a file of a process may have; `None`: any number.
    pub fsize: Option<u64>,
}

impl Machine {
    /// This one.
    #[must_use]
    pub fn this() -> Self {
        let nofile = getrlimit(Resource::Nofile);
        let fsize = getrlimit(Resource::Fsize).current;
        Self { root: PathBuf::from("/"), nofile: (nofile.current, nofile.maximum), fsize }
    }

    /// One whose files lie below `root`, with the limit of descriptors.
    #[must_use]
    pub fn at(root: &Path, soft: u64, hard: u64) -> Self {
        Self { root: root.to_owned(), nofile: (Some(soft), Some(hard)), fsize: None }
    }

    /// A file's text without the blanks around it.
    pub(super) fn text(&self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.root.join(path)).ok()?;
        Some(text.trim().to_owned())
    }

    /// The numbers of a kernel setting such as `net.ipv4.tcp_mem`.
    pub(super) fn sysctl(&self, key: &str) -> Option<Vec<u64>> {
        let text = self.text(&format!("proc/sys/{}", key.replace('.', "/")))?;
        text.split_whitespace().map(|number| number.parse().ok()).collect()
    }

    /// The one number of a kernel setting.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.sysctl(key)?.first().copied()
    }

    /// A line of `/proc/meminfo`, in bytes.
    pub(super) fn memory(&self, field: &str) -> Option<u64> {
        let text = self.text("proc/meminfo")?;
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
        let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kib * 1024)
    }

    /// Whether version 1 of the control groups bounds `what` (`memory`, `cpu`) of this process.
    pub(super) fn is_in_old_groups(&self, what: &str) -> bool {
        let groups = self.text("proc/self/cgroup").unwrap_or_default();
        let controllers = groups.lines().filter_map(|line| line.split(':').nth(1));
        controllers.flat_map(|list| list.split(',')).any(|controller| controller == what)
    }

    /// What a file of the control group (version 2) says, in the process's own and those around it.
    pub(super) fn of_groups(&self, file: &str) -> Vec<String> {
        let groups = self.text("proc/self/cgroup").unwrap_or_default();
        let Some(group) = groups.lines().find_map(|line| line.strip_prefix("0::/")) else { return Vec::new() };
        let all = Path::new(group).ancestors();
        all.filter_map(|group| self.text(&format!("sys/fs/cgroup/{}/{file}", group.display()))).collect()
    }
}
