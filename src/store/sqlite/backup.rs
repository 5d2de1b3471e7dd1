//! A consistent copy of the database while a gateway runs on it, and what becomes of a copy that is
//! put back.
//!
//! Owns: the mark of a copy ([`RESTORED`]), and the check that no log of another database lies
//! beside one.
//! Never: takes the lock of the data directory, holds up a writer, or leaves half a copy under the
//! name asked for.
//! Bounds: one reading transaction; meanwhile the log grows by what is written.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Transaction};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::{Error, FILE, int};
use crate::limits::{RESTORE_SKIP, SQLITE_BUSY_MS};
use crate::store::location::{BackupError, Halt, random_epoch};

/// The name in `meta` that marks a copy: a gateway that opens it as a database draws a new epoch.
pub(super) const RESTORED: &str = "restored";

/// Copies the database of `data_dir` to `target`, which must not exist; returns its bytes. Ends
/// soon after `halt` says so.
pub(in crate::store) fn backup(data_dir: &Path, target: &Path, halt: &Arc<dyn Halt>) -> Result<u64, BackupError> {
    let source = data_dir.join(FILE);
    if !source.is_file() {
        return Err(BackupError::Missing(data_dir.to_owned()));
    }
    if target.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(target.to_owned()));
    }
    let copy = Partial::create(target)?;
    copy_into(&source, &copy.path, halt).map_err(|why| if halt.is_told() { BackupError::Stopped } else { why })?;
    if halt.is_told() {
        return Err(BackupError::Stopped);
    }
    copy.keep(target)
}

/// What the database takes on the disk at most, its log included: a copy of it has no more.
pub(in crate::store) fn bytes(data_dir: &Path) -> u64 {
    let of = |name: String| fs::metadata(data_dir.join(name)).map_or(0, |file| file.len());
    of(FILE.to_owned()) + of(format!("{FILE}-wal"))
}

fn copy_into(source: &Path, copy: &Path, halt: &Arc<dyn Halt>) -> Result<(), BackupError> {
    // Without SQLITE_OPEN_URI, a name that begins with `file:` is a name.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(source, flags).map_err(Error::from)?;
    conn.busy_timeout(Duration::from_millis(SQLITE_BUSY_MS)).map_err(Error::from)?;
    heed(&mut conn, halt)?;
    let name = copy.to_str().ok_or_else(|| file_error(copy)(io::Error::other("its name is no UTF-8")))?;
    // https://sqlite.org/lang_vacuum.html#vacuuminto: one snapshot, without the log and without
    // free pages. The backup API would begin anew with every commit of the gateway, because that is
    // another process.
    conn.execute("VACUUM INTO ?1", [name]).map_err(Error::from)?;
    drop(conn);
    let mut copy = Connection::open_with_flags(copy, flags).map_err(Error::from)?;
    heed(&mut copy, halt)?;
    mark(&copy)?;
    copy.close().map_err(|(_, error)| Error::from(error))?;
    Ok(())
}

/// Statements of `conn` end soon after `halt` says so. Interrupting them would not end one that
/// begins afterwards.
fn heed(conn: &mut Connection, halt: &Arc<dyn Halt>) -> Result<(), Error> {
    /// A look costs nanoseconds, so many steps of SQLite's some microseconds.
    const STEPS: std::ffi::c_int = 1000;
    let halt = Arc::clone(halt);
    Ok(conn.progress_handler(STEPS, Some(move || halt.is_told()))?)
}

/// Marks the copy, and reads it once from end to end: a copy that was never read is a hope.
fn mark(copy: &Connection) -> Result<(), Error> {
    let sql = "INSERT INTO meta (name, value) VALUES (?1, 1) ON CONFLICT (name) DO NOTHING";
    copy.execute(sql, [RESTORED])?;
    let verdict: String = copy.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(Error::Broken(format!("the copy is damaged, and so may be the database: {verdict}")));
    }
    Ok(())
}

/// What stands at a copy's place until it is whole; gone if it never is.
struct Partial {
    path: PathBuf,
}

impl Partial {
    fn create(target: &Path) -> Result<Self, BackupError> {
        let mut name = target.file_name().map(OsString::from).ok_or_else(|| {
            file_error(target)(io::Error::new(io::ErrorKind::InvalidInput, "it is no name of a file"))
        })?;
        name.push(".partial");
        let path = target.with_file_name(name);
        // Only its owner may read it: it holds what was said, and the users' passwords, hashed.
        match File::options().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(_) => Ok(Self { path }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(BackupError::Exists(path)),
            Err(error) => Err(file_error(&path)(error)),
        }
    }

    /// Makes the copy safe and gives it its name.
    fn keep(self, target: &Path) -> Result<u64, BackupError> {
        let file = File::open(&self.path).map_err(file_error(&self.path))?;
        file.sync_all().map_err(file_error(&self.path))?;
        let bytes = file.metadata().map_err(file_error(&self.path))?.len();
        match renameat_with(CWD, &self.path, CWD, target, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(BackupError::Exists(target.to_owned())),
            // Not every file system can; most of those can link, which replaces nothing either.
            Err(_) => fs::hard_link(&self.path, target).map_err(file_error(target))?,
        }
        let directory =
            target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(file_error(directory))?;
        Ok(bytes)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After a rename there is nothing left to remove.
        let _ = fs::remove_file(&self.path);
        let mut journal = self.path.clone().into_os_string();
        journal.push("-journal");
        let _ = fs::remove_file(journal);
    }
}

fn file_error(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |error| BackupError::File { path, why: error.to_string() }
}

/// Draws a new epoch if this is a copy that was put in place, so that clients that saw more than it
/// holds are told to begin anew. Numbers that were given away after the copy was made, and lost
/// with the database, are not given again. Whether it is one.
pub(super) fn renew_if_restored(tx: &Transaction<'_>) -> Result<bool, Error> {
    if tx.execute("DELETE FROM meta WHERE name = ?1", [RESTORED])? == 0 {
        return Ok(false);
    }
    tx.execute("UPDATE meta SET value = ?1 WHERE name = 'epoch'", [int(random_epoch()?)])?;
    tx.execute("UPDATE meta SET value = value + ?1 WHERE name = 'next_id'", [int(RESTORE_SKIP)])?;
    for table in ["users", "chat_groups"] {
        let sql = "INSERT INTO sqlite_sequence (name, seq) SELECT ?1, 0
                   WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = ?1)";
        tx.execute(sql, [table])?;
        tx.execute("UPDATE sqlite_sequence SET seq = seq + ?2 WHERE name = ?1", (table, int(RESTORE_SKIP)))?;
    }
    Ok(true)
}

/// Refuses a copy beside which the log of the database before it was left: SQLite would write that
/// into it.
pub(super) fn refuse_foreign_log(path: &Path) -> Result<(), Error> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    let log = PathBuf::from(log);
    let logged = fs::metadata(&log).is_ok_and(|log| log.len() > 0);
    if logged && !writes_a_log(path) {
        let text = format!("{} belongs to another database than {}: remove it", log.display(), path.display());
        return Err(Error::Broken(text));
    }
    Ok(())
}

/// Whether the header says that the database has a write-ahead log
/// (https://sqlite.org/fileformat.html, section 1.3.3). Copies do not, ours always do. A file
/// without a header is left to SQLite to judge.
fn writes_a_log(path: &Path) -> bool {
    const VERSIONS_AT: usize = 18;
    const HEADER_BYTES: usize = 20;
    const ROLLBACK: [u8; 2] = [1, 1];
    let mut header = [0; HEADER_BYTES];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    read.is_err() || header[VERSIONS_AT..] != ROLLBACK
}
