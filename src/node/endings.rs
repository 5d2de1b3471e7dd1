//! Whether the gateway before this one was stopped, or ended in another way: killed, aborted, or
//! with its machine.
//!
//! Owns: two files of the data directory: how often that was so, and one that is there while a
//! gateway runs. To take one away needs no room, so that a stop on a full disk is a stop.
//! Never: fails. What the disk does not take is not counted.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::ids::NodeId;

/// What is known of the ends so far.
#[derive(Clone)]
pub(super) struct Endings {
    path: PathBuf,
    unclean: u64,
}

impl Endings {
    /// Those of the gateways `node` on the directory `data`, before this one has begun. Needs the
    /// right to the directory: whoever has it may be about to stop.
    pub(super) fn of(data: &Path, node: NodeId) -> Self {
        // Another number on this directory is another gateway, with a count of its own.
        let path = data.join(format!("endings-{}", node.0));
        let counted = fs::read_to_string(&path).ok().and_then(|line| line.trim().parse().ok()).unwrap_or(0_u64);
        let ran_on = running(&path).exists();
        Self { path, unclean: counted.saturating_add(u64::from(ran_on)) }
    }

    /// How many of them were not stopped.
    pub(super) const fn unclean(&self) -> u64 {
        self.unclean
    }

    /// A gateway serves from now on.
    pub(super) fn begin(&self) {
        // Never half of a line, wherever it is cut off.
        let new = self.path.with_extension("new");
        let written = write_through(&new, &format!("{}\n", self.unclean)).and_then(|()| fs::rename(&new, &self.path));
        self.told(written.and_then(|()| fs::write(running(&self.path), "")));
    }

    /// It was stopped. A disk that hangs holds this for as long.
    pub(super) fn stopped(&self) {
        let removed = fs::remove_file(running(&self.path));
        self.told(removed.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) }));
    }

    fn told(&self, done: std::io::Result<()>) {
        if let Err(error) = done {
            tracing::debug!(%error, path = %self.path.display(), "how the gateway ends is not remembered");
        }
    }
}

/// A file whose name is there before its content would be, after a power cut, an empty one.
fn write_through(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// The file that is there while a gateway runs, beside its count.
fn running(path: &Path) -> PathBuf {
    path.with_extension("running")
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
        assert_eq!(next().unclean(), 2, "this one, too");
        third.stopped();
        assert_eq!(next().unclean(), 1, "it is counted once");
        assert_eq!(Endings::of(data.path(), NodeId(4)).unclean(), 0, "another gateway's");
        for (line, unclean) in [("", 0), ("4\n", 4), ("x\n", 0)] {
            fs::write(&third.path, line).expect("a file");
            assert_eq!(next().unclean(), unclean, "{line:?}");
        }
        let nowhere = Endings::of(&data.path().join("none"), NodeId(0));
        nowhere.begin();
        nowhere.stopped();
        assert!(nowhere.unclean() == 0 && !data.path().join("none").exists(), "no directory is made");
    }

    #[test]
    fn a_stop_needs_no_room_on_the_disk() {
        let data = tempfile::tempdir().expect("a directory");
        let gateway = Endings::of(data.path(), NodeId(3));
        gateway.begin();
        // Nothing can be written from now on.
        fs::create_dir(gateway.path.with_extension("new")).expect("a directory");
        gateway.stopped();
        assert_eq!(Endings::of(data.path(), NodeId(3)).unclean(), 0);
    }
}
