//! The right to a data directory: one gateway at a time.
//!
//! Owns: the lock, a file in the directory.
//! Never: waits. What ends gives it back, however it ends.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::location::OpenError;

/// The file whose lock says that a gateway runs on the data directory. It is never removed: between
/// unlocking and removing another process could have locked it.
const LOCK_FILE: &str = "imgate.lock";

/// The exclusive right to a data directory, until it is dropped or the process ends.
#[derive(Debug)]
pub struct DataLock {
    /// The lock belongs to the open file.
    _file: File,
}

impl DataLock {
    /// Takes it; the directory is made if it is missing.
    ///
    /// # Errors
    /// [`OpenError::Locked`], or [`OpenError::Directory`].
    pub fn take(data_dir: &Path) -> Result<Self, OpenError> {
        let unusable = |e: io::Error| OpenError::Directory { path: data_dir.to_owned(), why: e.to_string() };
        // What is said here is private to the gateway's account.
        DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(unusable)?;
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(data_dir.join(LOCK_FILE));
        let file = file.map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked(PathBuf::from(data_dir))),
            Err(TryLockError::Error(e)) => Err(without_locks(data_dir, &e)),
        }
    }
}

/// A network file system that was mounted without locks is found here.
fn without_locks(data_dir: &Path, error: &io::Error) -> OpenError {
    OpenError::Directory { path: data_dir.to_owned(), why: format!("it cannot be locked: {error}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_without_locks_is_told() {
        let said = without_locks(Path::new("/srv/data"), &io::Error::from_raw_os_error(37)).to_string();
        let begins = "the data directory /srv/data cannot be used: it cannot be locked: No locks available";
        assert!(said.starts_with(begins), "{said}");
    }
}
