//! The default backend: one SQLite file in the data directory, write-ahead log, nothing to install.
//!
//! Owns: the settings of every connection, the life of a
//! transaction.
//! Never: is called from a shard's thread; every statement may wait for the disk.
//! Bounds: [`SQLITE_BUSY_MS`] for a lock, [`WAL_PAGES_MAX`] for the log between two checkpoints.

mod admissions;
mod api_keys;
mod append;
mod backup;
mod changes;
mod checkpoints;
mod erasing;
mod files;
mod groups;
mod known;
mod logins;
mod migrate;
mod people;
mod read;
mod seed;
mod social;
mod standing;
#[cfg(test)]
mod tests;
mod trim;

pub(super) use self::backup::{backup, bytes as backup_bytes};
use self::checkpoints::{Checkpoints, Rewind};

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, ToSql};

use super::data_lock::DataLock;
use super::location::{OpenError, Opened, Synchronous};
use super::{
    Admissions, ApiKeys, Backend, Changes, Error, Files, Groups, Keep, Logins, People, Read, ReadAnswer, Retention,
    Seed, Seeded, Social, Trimmed, Write, Written,
};
use crate::clock::Clock;
use crate::ids::{GroupId, ID_MAX, MsgId, Seq, UserId};
use crate::limits::{ID_BLOCK, SQLITE_BUSY_MS, WAL_PAGES_MAX};
use crate::threads;

/// The database file in the data directory.
const FILE: &str = "imgate.db";
/// Page cache of a writing connection: the inner pages of the indexes of some ten million messages.
const WRITER_CACHE_KIB: u32 = 64 * 1024;
/// Page cache of a reading connection. SQLite empties it at each commit of another connection, so
/// it is of use within a batch and hardly beyond; the operating system keeps the pages. A large one
/// grew with every user that connected, as if the session had cost it.
const READER_CACHE_KIB: u32 = 128;
/// Steps of SQLite's machine between two looks at the clock: a tenth of a millisecond or so.
const SQLITE_STEPS: i32 = 2_000;
/// Different statements of one connection; there are fewer.
const STATEMENTS_MAX: usize = 96;

/// Applies what is missing of the schema, and connects. `lock`: of `data_dir`.
pub(super) fn open(
    data_dir: &Path,
    lock: &Arc<DataLock>,
    synchronous: Synchronous,
    writers: usize,
    readers: usize,
) -> Result<Opened, OpenError> {
    let path = data_dir.join(FILE);
    let epoch = migrate::prepare(&path)?;
    let rewind = Rewind::default();
    let connect = |role: Role, n: usize| -> Result<Vec<Box<dyn Backend>>, Error> {
        let one = |_| {
            Ok(Box::new(Sqlite { rewind: rewind.clone(), ..Sqlite::connect(&path, role, epoch, lock)? })
                as Box<dyn Backend>)
        };
        (0..n).map(one).collect()
    };
    let checkpoints = Checkpoints::connect(&path, synchronous, rewind.clone(), lock)?;
    Ok(Opened {
        writers: connect(Role::Writer(synchronous), writers)?,
        readers: connect(Role::Reader, readers)?,
        upkeep: Some(Box::new(checkpoints)),
        keep: Keep::default(),
    })
}

/// Which database lies in `data_dir`, for people. Only its first bytes are read: opening it would
/// leave files of another account beside it.
pub(super) fn describe(data_dir: &Path) -> Result<String, Error> {
    let path = data_dir.join(FILE);
    let version = rusqlite::version();
    let mut head = [0; FILE_HEAD.len()];
    match File::open(&path).and_then(|mut file| io::Read::read_exact(&mut file, &mut head)) {
        Ok(()) if head == *FILE_HEAD => Ok(format!("SQLite {version}, {}", path.display())),
        Ok(()) => Err(Error::Broken(format!("{} is no database", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(format!("SQLite {version}, {} will be made at the first start", path.display()))
        }
        Err(error) => Err(Error::Unavailable(format!("{}: {error}", path.display()))),
    }
}

/// How a database begins (<https://sqlite.org/fileformat.html>, section 1.3).
const FILE_HEAD: &[u8; 16] = b"SQLite format 3\0";

/// The mode of files that only the gateway's account may read.
const PRIVATE: u32 = 0o600;

/// Keeps others on the machine from reading what is said here, also below a directory that they may
/// look into: SQLite gives the files beside the database its mode. A file that was there loses what
/// everybody may do with it; a group stays as the operator has set it.
fn make_private(path: &Path) {
    match File::options().write(true).create_new(true).mode(PRIVATE).open(path) {
        Ok(_) => return,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        // SQLite finds out, and says it better.
        Err(_) => return,
    }
    for suffix in ["", "-wal", "-shm"] {
        let mut file = path.as_os_str().to_owned();
        file.push(suffix);
        let Ok(meta) = std::fs::metadata(&file) else { continue };
        let mode = meta.permissions().mode() & 0o7777;
        // Of another account's file that is not ours to change; SQLite will say whether it can be
        // used.
        if mode & 0o007 != 0
            && let Err(why) = std::fs::set_permissions(&file, Permissions::from_mode(mode & !0o007))
        {
            tracing::warn!(file = ?Path::new(&file), %why, "others on this machine can read the database");
        }
    }
}

/// What a connection is for.
#[derive(Clone, Copy)]
enum Role {
    Writer(Synchronous),
    Reader,
}

impl Role {
    fn connect(self, path: &Path) -> Result<Connection, Error> {
        let conn = Connection::open(path)?;
        conn.busy_timeout(Duration::from_millis(SQLITE_BUSY_MS))?;
        conn.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        let mode: String = conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        if mode != "wal" {
            return Err(Error::Broken(format!("the file system cannot hold a write-ahead log (journal mode {mode})")));
        }
        // Without the guarantee of stable plans SQLite looks at bound values when it plans, and so
        // plans a cached statement anew for each value: a third of the time of an append.
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        // Foreign keys stay unenforced: the judge looks at the same rows anyway, and the schema
        // declares none.
        conn.pragma_update(None, "trusted_schema", false)?;
        conn.pragma_update(None, "temp_store", "MEMORY")?;
        match self {
            Self::Writer(synchronous) => {
                conn.pragma_update(None, "synchronous", sync_name(synchronous))?;
                conn.pragma_update(None, "cache_size", -i64::from(WRITER_CACHE_KIB))?;
                conn.pragma_update(None, "wal_autocheckpoint", WAL_PAGES_MAX)?;
                // After a bulk load the log shrinks to what it normally needs.
                conn.pragma_update(None, "journal_size_limit", i64::from(WAL_PAGES_MAX) * PAGE_BYTES)?;
            }
            Self::Reader => {
                conn.pragma_update(None, "cache_size", -i64::from(READER_CACHE_KIB))?;
                conn.pragma_update(None, "query_only", true)?;
            }
        }
        Ok(conn)
    }
}

/// SQLite's default page.
const PAGE_BYTES: i64 = 4096;

fn sync_name(synchronous: Synchronous) -> &'static str {
    match synchronous {
        Synchronous::Full => "FULL",
        Synchronous::Normal => "NORMAL",
    }
}

/// One connection.
struct Sqlite {
    /// Dropped before the lock.
    conn: Connection,
    /// A connection that reads has its own sort of ping.
    reader: bool,
    /// Read once: it changes only while no gateway runs.
    epoch: u64,
    /// Message ids reserved for this connection.
    ids: IdBlock,
    /// What it remembers of earlier transactions.
    known: known::KnownConvs,
    /// See [`Backend::user_queries`].
    user_queries: u64,
    /// Where the next step of retention begins.
    trim: trim::Progress,
    /// When what runs is ended; never, for a connection that writes.
    until: Until,
    /// Asked for by the upkeep.
    rewind: Rewind,
    _lock: Arc<DataLock>,
}

/// A time at which SQLite ends what it is doing.
struct Until {
    clock: Clock,
    /// Monotonic milliseconds of that clock.
    due_ms: Arc<AtomicU64>,
}

impl Default for Until {
    fn default() -> Self {
        Self { clock: Clock::start(), due_ms: Arc::new(AtomicU64::new(u64::MAX)) }
    }
}

impl Until {
    /// Makes the connection look at the clock, and leave its core to the shards, now and then.
    fn watch(&self, conn: &mut Connection) -> Result<(), Error> {
        let (clock, due_ms) = (self.clock, Arc::clone(&self.due_ms));
        let is_over = move || {
            threads::step_aside();
            clock.now().mono_ms >= due_ms.load(Ordering::Relaxed)
        };
        Ok(conn.progress_handler(SQLITE_STEPS, Some(is_over))?)
    }

    fn set(&self, ms: u64) {
        self.due_ms.store(self.clock.now().mono_ms.saturating_add(ms), Ordering::Relaxed);
    }
}

/// Reserved ids: `next` up to `last`; empty when `next > last`.
struct IdBlock {
    next: u64,
    last: u64,
}

impl IdBlock {
    const EMPTY: Self = Self { next: 1, last: 0 };

    /// The first of `n` free ids in a row, at most [`ID_BLOCK`]; if they are not there, a new block
    /// is reserved in the running transaction.
    fn free(&mut self, conn: &Connection, n: u64) -> Result<u64, Error> {
        if self.next.saturating_add(n) > self.last.saturating_add(1) {
            let sql = "UPDATE meta SET value = value + ?1 WHERE name = 'next_id' RETURNING value";
            let end: i64 = conn.prepare_cached(sql)?.query_one([int(ID_BLOCK)], |row| row.get(0))?;
            let end = uint(end)?;
            *self = Self { next: end.saturating_sub(ID_BLOCK), last: end.saturating_sub(1) };
        }
        Ok(self.next)
    }

    /// So many of them are given now.
    fn take(&mut self, n: usize) {
        self.next = self.next.saturating_add(n as u64);
    }
}

/// How a transaction ended whose statements had all succeeded.
enum Ended {
    Committed,
    /// Certainly not stored.
    RolledBack(Error),
    /// SQLite left the transaction, and said that something was wrong.
    Unclear(Error),
}

impl Sqlite {
    fn connect(path: &Path, role: Role, epoch: u64, lock: &Arc<DataLock>) -> Result<Self, Error> {
        let reader = matches!(role, Role::Reader);
        let mut conn = role.connect(path)?;
        let until = Until::default();
        until.watch(&mut conn)?;
        let (ids, known, trim) = (IdBlock::EMPTY, known::KnownConvs::default(), trim::Progress::default());
        Ok(Self {
            conn,
            reader,
            epoch,
            ids,
            known,
            user_queries: 0,
            trim,
            until,
            rewind: Rewind::default(),
            _lock: Arc::clone(lock),
        })
    }

    /// Begins a writing transaction. One that could not be rolled back earlier must be gone first.
    fn begin(&mut self) -> Result<(), Error> {
        if !self.conn.is_autocommit() {
            self.roll_back()?;
        }
        self.rewind.finish(&self.conn);
        // IMMEDIATE: a lock that is needed anyway is asked for before any work, and cannot be
        // refused in the middle.
        self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(())
    }

    fn roll_back(&mut self) -> Result<(), Error> {
        // A block that was reserved in the transaction is not reserved any more, and heads are
        // where they were.
        self.ids = IdBlock::EMPTY;
        self.known.forget();
        if !self.conn.is_autocommit() {
            self.conn.execute_batch("ROLLBACK")?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Ended {
        let Err(error) = self.conn.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([])) else {
            return Ended::Committed;
        };
        let error = Error::from(error);
        let open = !self.conn.is_autocommit();
        match self.roll_back() {
            Ok(()) if open => Ended::RolledBack(error),
            _ => Ended::Unclear(error),
        }
    }

    /// Runs `body` in a transaction of its own.
    fn transact<T>(&mut self, body: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        self.begin()?;
        // It may change which users may post, and where.
        self.known.forget();
        match body(&self.conn) {
            Err(error) => {
                // What cannot be rolled back now is rolled back before the next transaction.
                let _ = self.roll_back();
                Err(error)
            }
            Ok(done) => match self.finish() {
                Ended::Committed => Ok(done),
                Ended::RolledBack(error) => Err(error),
                Ended::Unclear(error) => Err(Error::Unknown(error.into_words())),
            },
        }
    }
}

impl Backend for Sqlite {
    fn commit(&mut self, writes: &[Write]) -> Result<Vec<Written>, Error> {
        append::commit(self, writes)
    }

    fn read(&mut self, reads: &[Read]) -> Result<Vec<ReadAnswer>, Error> {
        read::read(self, reads)
    }

    fn user_queries(&self) -> u64 {
        self.user_queries
    }

    fn changes(&mut self, after: Option<u64>, max: u32) -> Result<Changes, Error> {
        changes::changes(&self.conn, after, max)
    }

    fn forget_changes(&mut self, max: u32) -> Result<u64, Error> {
        self.transact(|conn| changes::forget(conn, max))
    }

    fn limit(&mut self, ms: u64) {
        self.until.set(ms);
    }

    fn people(&mut self) -> &mut dyn People {
        self
    }

    fn groups(&mut self) -> &mut dyn Groups {
        self
    }

    fn social(&mut self) -> &mut dyn Social {
        self
    }

    fn files(&mut self) -> &mut dyn Files {
        self
    }

    fn admissions(&mut self) -> &mut dyn Admissions {
        self
    }

    fn logins(&mut self) -> &mut dyn Logins {
        self
    }

    fn api_keys(&mut self) -> &mut dyn ApiKeys {
        self
    }

    fn seed(&mut self, seed: &Seed) -> Result<Seeded, Error> {
        self.transact(|conn| seed::seed(conn, seed))
    }

    fn trim(&mut self, retention: &Retention, steps_max: u32) -> Result<Trimmed, Error> {
        trim::trim(self, retention, steps_max)
    }

    fn rest(&mut self) {
        // The page cache; what is needed of it is read again, mostly from the system's. A failure
        // keeps it.
        let _ = self.conn.execute_batch("PRAGMA shrink_memory");
    }

    fn ping(&mut self) -> Result<(), Error> {
        if self.reader {
            self.conn.prepare_cached("SELECT 1 FROM meta LIMIT 1")?.query_one([], |_| Ok(()))?;
            return Ok(());
        }
        self.transact(|conn| {
            let sql = "INSERT INTO meta (name, value) VALUES ('pulse', 1)
                       ON CONFLICT (name) DO UPDATE SET value = value + 1";
            conn.prepare_cached(sql)?.execute([])?;
            Ok(())
        })
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        let text = error.to_string();
        match error.sqlite_error_code() {
            Some(
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::OutOfMemory
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::OperationInterrupted
                | ErrorCode::OperationAborted
                | ErrorCode::SchemaChanged,
            ) => Self::Unavailable(text),
            // Damage, a violated constraint, a statement that does not fit the schema: trying again
            // changes nothing.
            _ => Self::Broken(text),
        }
    }
}

/// A number for SQLite, whose integers are signed. Ours end far below.
fn int(raw: u64) -> i64 {
    i64::try_from(raw).unwrap_or(i64::MAX)
}

fn uint(raw: i64) -> Result<u64, Error> {
    u64::try_from(raw).map_err(|_| Error::Broken(format!("{raw} where no negative number can be")))
}

fn get_uint(row: &Row<'_>, column: usize) -> Result<u64, Error> {
    uint(row.get(column)?)
}

fn get_user(row: &Row<'_>, column: usize) -> Result<UserId, Error> {
    let raw = get_uint(row, column)?;
    UserId::new(raw).ok_or_else(|| Error::Broken(format!("{raw} is no user id")))
}

fn get_group(row: &Row<'_>, column: usize) -> Result<GroupId, Error> {
    let raw = get_uint(row, column)?;
    GroupId::new(raw).ok_or_else(|| Error::Broken(format!("{raw} is no group id")))
}

fn get_id(row: &Row<'_>, column: usize) -> Result<MsgId, Error> {
    let raw = get_uint(row, column)?;
    MsgId::new(raw).ok_or_else(|| Error::Broken(format!("{raw} is no message id")))
}

fn get_seq(row: &Row<'_>, column: usize) -> Result<Seq, Error> {
    let raw = get_uint(row, column)?;
    Seq::new(raw).ok_or_else(|| Error::Broken(format!("{raw} is no sequence number (at most {ID_MAX})")))
}

/// The first row of a cached statement, read by `read`.
fn first<T>(
    conn: &Connection,
    sql: &str,
    params: &[&dyn ToSql],
    read: impl FnOnce(&Row<'_>) -> Result<T, Error>,
) -> Result<Option<T>, Error> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    rows.next()?.map(read).transpose()
}

/// Whether a cached statement finds anything.
fn exists(conn: &Connection, sql: &str, params: &[&dyn ToSql]) -> Result<bool, Error> {
    Ok(conn.prepare_cached(sql)?.query_row(params, |_| Ok(())).optional()?.is_some())
}

/// The rows of a cached statement.
fn all<T>(
    conn: &Connection,
    sql: &str,
    params: &[&dyn ToSql],
    read: impl Fn(&Row<'_>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}
