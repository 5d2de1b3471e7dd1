//! The write-ahead log is moved into the database beside the writer, and begun anew in time.
//!
//! Owns: [`Checkpoints`], the upkeep of a database, and [`Rewind`], by which it asks the writer.
//! Never: has a commit move more than what was written while the last pass went on. It waits for
//! the sync of the database all the same: SQLite leaves that to the pass that is whole.
//! Bounds: [`WAL_REWIND_PAGES`], [`CHECKPOINT_PASSES_MAX`].

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;

use super::Role;
use crate::limits::{CHECKPOINT_PASSES_MAX, CHECKPOINT_REST_PAGES, WAL_REWIND_PAGES};
use crate::store::Error;
use crate::store::data_lock::DataLock;
use crate::store::location::{Synchronous, Upkeep};

/// Asks the writer to finish a checkpoint. The log begins anew only if nothing is left of it when a
/// transaction begins, and while the writer never pauses nobody else sees such a moment.
#[derive(Clone, Default)]
pub(super) struct Rewind(Arc<AtomicBool>);

impl Rewind {
    fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Between two transactions of the writer: what is asked for is done. If it cannot be, the log
    /// goes on, and the next round of the upkeep says why.
    pub(super) fn finish(&self, conn: &Connection) {
        if self.0.swap(false, Ordering::Relaxed) {
            let _ = pass(conn);
        }
    }
}

/// Moves the log into the database beside the writer, so that commits need not.
pub(super) struct Checkpoints {
    conn: Connection,
    rewind: Rewind,
    _lock: Arc<DataLock>,
}

impl Checkpoints {
    pub(super) fn connect(
        path: &Path,
        synchronous: Synchronous,
        rewind: Rewind,
        lock: &Arc<DataLock>,
    ) -> Result<Self, Error> {
        Ok(Self { conn: Role::Writer(synchronous).connect(path)?, rewind, _lock: Arc::clone(lock) })
    }
}

impl Upkeep for Checkpoints {
    fn tend(&mut self) -> Result<(), Error> {
        let mut before = 0;
        for _ in 0..CHECKPOINT_PASSES_MAX {
            let log = pass(&self.conn)?;
            if log.pages < WAL_REWIND_PAGES {
                return Ok(());
            }
            // Each pass has less to do, because the one before it took less time: little is left
            // for the writer.
            if log.moved.saturating_sub(before) <= CHECKPOINT_REST_PAGES {
                break;
            }
            before = log.moved;
        }
        self.rewind.ask();
        Ok(())
    }
}

/// What a pass has found.
pub(super) struct Log {
    pub(super) pages: u32,
    /// Of these, the ones that are in the database.
    pub(super) moved: u32,
}

/// One checkpoint that waits for no other connection and makes none wait.
pub(super) fn pass(conn: &Connection) -> Result<Log, Error> {
    let mut sql = conn.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?;
    // -1 when there is no log.
    let count = |raw: i64| u32::try_from(raw).unwrap_or(0);
    Ok(sql.query_one([], |row| Ok(Log { pages: count(row.get(1)?), moved: count(row.get(2)?) }))?)
}
