//! Whether the gateway before this one was stopped, or ended in another way: killed, aborted, or
//! with its machine.
//!
//! Owns: a file of the data directory with one line: how often that was so, and whether a gateway
//! runs now.
//! Never: fails. What the disk does not take is not counted, and where there is no data directory
//! none is made.

use std::fs;
use std::path::{Path, PathBuf};

use crate::ids::NodeId;

/// What stands behind the count while a gateway runs.
const RUNS: &str = "running";

/// What is known of the ends so far.
pub(super) struct Endings {
    path: PathBuf,
    unclean: u64,
}

impl Endings {
    /// Those of the gateways `node` on the directory `data`, before this one has begun.
    pub(super) fn of(data: &Path, node: NodeId) -> Self {
        // Gateways may share a directory, each with a number of its own.
        let path = data.join(format!("endings-{}", node.0));
        let unclean = fs::read_to_string(&path).map_or(0, |text| counted(&text));
        Self { path, unclean }
    }

    /// How many of them were not stopped.
    pub(super) const fn unclean(&self) -> u64 {
        self.unclean
    }

    /// A gateway serves from now on.
    pub(super) fn begin(&self) {
        self.write(&format!("{} {RUNS}\n", self.unclean));
    }

    /// It was stopped.
    pub(super) fn stopped(&self) {
        self.write(&format!("{}\n", self.unclean));
    }

    fn write(&self, line: &str) {
        // Never half of a line, wherever it is cut off.
        let new = self.path.with_extension("new");
        let written = fs::write(&new, line).and_then(|()| fs::rename(&new, &self.path));
        if let Err(error) = written {
            tracing::debug!(%error, path = %self.path.display(), "how the gateway ends is not remembered");
        }
    }
}

/// How many ends without a stop a line stands for. One that a power cut has emptied is of a gateway
/// that ran.
fn counted(line: &str) -> u64 {
    let mut words = line.split_whitespace();
    let before = words.next().and_then(|count| count.parse().ok());
    let was_stopped = before.is_some() && words.next().is_none();
    before.unwrap_or(0_u64).saturating_add(u64::from(!was_stopped))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_stopped_is_counted() {
        let data = tempfile::tempdir().expect("a directory");
        let next = || Endings::of(data.path(), NodeId(3));
        let first = next();
        assert_eq!(first.unclean(), 0);
        first.begin();
        first.stopped();
        let second = next();
        assert_eq!(second.unclean(), 0, "a stop is no crash");
        second.begin();
        assert_eq!(next().unclean(), 1, "it was killed");
        let third = next();
        third.begin();
        third.stopped();
        assert_eq!(next().unclean(), 1, "it is counted once");
        assert_eq!(Endings::of(data.path(), NodeId(4)).unclean(), 0, "another gateway's");
        for (line, unclean) in [("", 1), ("4\n", 4), ("4 running\n", 5), ("x\n", 1)] {
            fs::write(&third.path, line).expect("a file");
            assert_eq!(next().unclean(), unclean, "{line:?}");
        }
        let nowhere = Endings::of(&data.path().join("none"), NodeId(0));
        nowhere.begin();
        assert!(nowhere.unclean() == 0 && !data.path().join("none").exists(), "no directory is made");
    }
}
