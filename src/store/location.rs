//! Where the store is: the `--store` URL, and what is opened for it.
//!
//! Owns: the list of backends. A new one is one private module and one arm here.
//! Never: keeps a connection; what is opened goes to [`Store::start`](super::worker::Store::start)
//! or to a command.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::memory::Memory;
use super::{Backend, DataLock, Error, Keep, mysql, sqlite};
use crate::limits::STORE_CONNS_MAX;

/// What an ack is worth on SQLite. Other databases have their own setting.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Synchronous {
    /// The log is synced in every commit: an acked message survives a loss of power.
    #[default]
    Full,
    /// The log is synced at checkpoints: an acked message survives a crash of the process, not a
    /// loss of power.
    Normal,
}

/// How to open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// For SQLite only.
    pub synchronous: Synchronous,
    /// Writing connections, `1..=STORE_CONNS_MAX`. MySQL commits theirs side by side; SQLite writes
    /// one transaction at a time, so more than one only waits there; the tests use it.
    pub writers: usize,
    /// Reading connections, `1..=STORE_CONNS_MAX`.
    pub readers: usize,
    /// How much is kept.
    pub keep: Keep,
    /// Tells gateways on one database apart: random, of each process. One of them has retention.
    pub gateway: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { synchronous: Synchronous::Full, writers: 1, readers: 3, keep: Keep::default(), gateway: 0 }
    }
}

/// Work on the database beside reading and writing, on a thread of its own, once every
/// [`crate::limits::UPKEEP_MS`].
pub trait Upkeep: Send {
    /// One round.
    ///
    /// # Errors
    /// As the database says; the next round tries again.
    fn tend(&mut self) -> Result<(), Error>;
}

/// An open database.
pub struct Opened {
    /// For the writing workers; a conversation's is [`crate::ids::writer_of`]. At least one.
    pub writers: Vec<Box<dyn Backend>>,
    /// For the reading threads. At least one. Writes through them fail.
    pub readers: Vec<Box<dyn Backend>>,
    /// If the database wants any.
    pub upkeep: Option<Box<dyn Upkeep>>,
    /// How much is kept; the first writing worker removes the rest.
    pub keep: Keep,
}

/// Why there is no store.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OpenError {
    /// The exclusive lock on the data directory is held by another process.
    #[error("another gateway is running on the data directory {}", .0.display())]
    Locked(PathBuf),
    /// The URL names a database that exists, but not here.
    #[error(
        "this build of imgate has no support for a store of the kind `{0}`; it knows `sqlite:`, `mysql:` and `memory:`"
    )]
    Unsupported(String),
    /// The URL of a store that is known, with a place that cannot be chosen.
    #[error("the store `{0}:` takes no path; where the database lies is said by the data directory (`--data`)")]
    Placed(&'static str),
    /// The URL says nothing.
    #[error("`{0}` is no store; imgate knows `sqlite:`, `mysql:` and `memory:`")]
    Unreadable(String),
    /// The URL of a database server says something that cannot be. The text never repeats the URL,
    /// which may hold a password.
    #[error("the URL of the store cannot be used: {0}")]
    Url(String),
    /// The data directory cannot be made or written.
    #[error("the data directory {} cannot be used: {why}", .path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the operating system says.
        why: String,
    },
    /// The database itself.
    #[error(transparent)]
    Store(#[from] Error),
}

/// Why there is no backup.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BackupError {
    /// The database has tools of its own, or nothing to keep.
    #[error("imgate copies no store of the kind `{0}`: use the tools of that database")]
    NotOurs(String),
    /// There is no database.
    #[error("there is no database in {}", .0.display())]
    Missing(PathBuf),
    /// Nothing is overwritten: neither a file of that name, nor a copy that is being made or was
    /// cut short.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// The copy cannot be written.
    #[error("cannot write {}: {why}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the operating system says.
        why: String,
    },
    /// It was told to end before it was done.
    #[error("it was stopped before it was done")]
    Stopped,
    /// The database itself.
    #[error(transparent)]
    Store(#[from] Error),
}

/// Says whether a backup is to end before it is whole. Asked often, on the backup's thread.
pub trait Halt: Send + Sync {
    /// Whether it is.
    fn is_told(&self) -> bool;
}

/// Lets a backup come to its end.
pub struct NeverHalt;

impl Halt for NeverHalt {
    fn is_told(&self) -> bool {
        false
    }
}

/// Writes a consistent copy of the store that `url` names to `target`, while a gateway runs on it
/// or not; returns its bytes. Put in the place of the database, it becomes a database of another
/// epoch. It ends soon after `halt` says so.
///
/// # Errors
/// See [`BackupError`]; nothing is left at `target`.
pub fn backup(url: &str, data_dir: &Path, target: &Path, halt: &Arc<dyn Halt>) -> Result<u64, BackupError> {
    match url {
        "sqlite" | "sqlite:" => sqlite::backup(data_dir, target, halt),
        // A URL may hold a password: only its scheme is repeated.
        _ => Err(BackupError::NotOurs(url.split(':').next().unwrap_or_default().to_owned())),
    }
}

/// The room on the disk that a copy of that store may take, as it is now; `None` if imgate makes
/// none.
pub(super) fn backup_bytes(url: &str, data_dir: &Path) -> Option<u64> {
    matches!(url, "sqlite" | "sqlite:").then(|| sqlite::backup_bytes(data_dir))
}

/// Opens the store that `url` names: `sqlite` (a file in `data_dir`, which is locked as long as a
/// connection lives; `held` is the caller's lock, if it has it already) or
/// `mysql://user:password@host:port/database` (MySQL or MariaDB, which several gateways may share;
/// see `docs/operations.md`) or `memory:` (gone with the process). A MySQL server that does not
/// answer is no error: the connections are made when they are needed, again and again.
///
/// # Errors
/// See [`OpenError`].
pub fn open(url: &str, data_dir: &Path, held: Option<&Arc<DataLock>>, options: Options) -> Result<Opened, OpenError> {
    let writers = options.writers.clamp(1, STORE_CONNS_MAX);
    let readers = options.readers.clamp(1, STORE_CONNS_MAX);
    let opened = match url {
        "sqlite" | "sqlite:" => {
            let lock = held.cloned().map_or_else(|| DataLock::take(data_dir).map(Arc::new), Ok)?;
            sqlite::open(data_dir, &lock, options.synchronous, writers, readers)
        }
        _ if mysql::is_ours(url) => mysql::open(url, writers, readers, options.gateway),
        "memory" | "memory:" => Ok(open_memory(writers, readers)?),
        _ => Err(match url.split_once(':') {
            Some(("sqlite", _)) => OpenError::Placed("sqlite"),
            Some(("memory", _)) => OpenError::Placed("memory"),
            // A URL may hold a password: only its scheme is repeated.
            Some((scheme, _)) => OpenError::Unsupported(scheme.to_owned()),
            None => OpenError::Unreadable(url.to_owned()),
        }),
    }?;
    Ok(Opened { keep: options.keep, ..opened })
}

fn open_memory(writers: usize, readers: usize) -> Result<Opened, Error> {
    // Another epoch for each start: the clients must notice that everything is gone.
    let memory = Memory::with_epoch(random_epoch()?);
    let connect = |n: usize| (0..n).map(|_| Box::new(memory.connect()) as Box<dyn Backend>).collect();
    Ok(Opened { writers: connect(writers), readers: connect(readers), upkeep: None, keep: Keep::default() })
}

/// A random epoch, `1..=ID_MAX`.
pub(super) fn random_epoch() -> Result<u64, Error> {
    let raw = getrandom::u64().map_err(|e| Error::Unavailable(format!("no random numbers: {e}")))?;
    Ok((raw & crate::ids::ID_MAX).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> OpenError {
        match open(url, Path::new("/nonexistent"), None, Options::default()) {
            Ok(_) => panic!("{url} opened"),
            Err(error) => error,
        }
    }

    #[test]
    fn an_unsupported_store_is_named_without_its_password() {
        let error = refused("postgres://root:secret@db/im");
        assert_eq!(error, OpenError::Unsupported("postgres".into()));
        assert!(!error.to_string().contains("secret"));
        assert_eq!(refused("elsewhere"), OpenError::Unreadable("elsewhere".into()));
    }

    #[test]
    fn a_known_store_is_not_called_unknown_for_its_path() {
        assert_eq!(refused("sqlite:/var/lib/im.db"), OpenError::Placed("sqlite"));
        assert_eq!(refused("memory://here"), OpenError::Placed("memory"));
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_told() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let below = file.path().join("data");
        match open("sqlite", &below, None, Options::default()) {
            Err(OpenError::Directory { path, .. }) => assert_eq!(path, below),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("opened below a file"),
        }
    }

    #[test]
    fn only_our_own_files_are_copied() {
        let never = Arc::new(NeverHalt) as Arc<dyn Halt>;
        let copy = |url: &str, data: &Path| backup(url, data, Path::new("/nonexistent/copy.db"), &never);
        let nowhere = Path::new("/nonexistent");
        let error = copy("mysql://root:secret@db/im", nowhere).expect_err("another database");
        assert_eq!(error, BackupError::NotOurs("mysql".into()));
        assert!(!error.to_string().contains("secret"));
        assert_eq!(copy("memory:", nowhere), Err(BackupError::NotOurs("memory".into())));
        assert_eq!(copy("sqlite:", nowhere), Err(BackupError::Missing(nowhere.into())));
    }

    #[test]
    fn what_is_kept_is_handed_on() {
        let keep = Keep { age_ms: 7, count: 9 };
        let opened = open("memory:", Path::new("/nonexistent"), None, Options { keep, ..Options::default() });
        assert_eq!(opened.map(|opened| opened.keep).ok(), Some(keep));
    }

    #[test]
    fn memory_has_another_epoch_at_each_start() {
        assert_ne!(random_epoch(), random_epoch());
    }
}
