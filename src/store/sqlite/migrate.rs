//! Numbered changes of the schema, applied at start.
//!
//! Owns: the list of migrations; `PRAGMA user_version` is the number of the last one applied.
//! Never: touches a database that is not ours or newer than this program.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::backup::{refuse_foreign_log, renew_if_restored};
use super::{Error, Role, Synchronous, first, get_uint, int, make_private};
use crate::store::location::random_epoch;

/// In order; number `n` stands at `n - 1`.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("../schema/sqlite/0001_spine.sql"),
    include_str!("../schema/sqlite/0002_standing.sql"),
    include_str!("../schema/sqlite/0003_social.sql"),
    include_str!("../schema/sqlite/0004_uploads.sql"),
    include_str!("../schema/sqlite/0005_changes.sql"),
    include_str!("../schema/sqlite/0006_lists.sql"),
    include_str!("../schema/sqlite/0007_blocks.sql"),
    include_str!("../schema/sqlite/0008_files.sql"),
    include_str!("../schema/sqlite/0009_logins.sql"),
    include_str!("../schema/sqlite/0010_groups.sql"),
    include_str!("../schema/sqlite/0011_hidden.sql"),
    include_str!("../schema/sqlite/0012_api_keys.sql"),
    include_str!("../schema/sqlite/0013_counts.sql"),
];
/// `imga` in ASCII: marks a SQLite file as ours.
const APPLICATION_ID: i64 = 0x696d_6761;

/// Makes or updates the database and returns its epoch.
pub(super) fn prepare(path: &Path) -> Result<u64, Error> {
    refuse_foreign_log(path)?;
    make_private(path);
    // FULL: a half-kept migration would be worse than a half-kept message.
    let mut conn = Role::Writer(Synchronous::Full).connect(path)?;
    // A new index of a large table is sorted in files: it would take gigabytes of memory.
    conn.pragma_update(None, "temp_store", "FILE")?;
    migrate(&mut conn, MIGRATIONS)
}

/// Applies what is missing of `migrations`, all or nothing.
pub(super) fn migrate(conn: &mut Connection, migrations: &[&str]) -> Result<u64, Error> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = tx.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let application: i64 = tx.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 = tx.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let fresh = version == 0 && application == 0 && tables == 0;
    if !fresh && application != APPLICATION_ID {
        return Err(Error::Broken("the file is a SQLite database of another program".to_owned()));
    }
    let known = int(migrations.len() as u64);
    if version > known {
        let text = format!("its schema is number {version}, this program knows {known}: use a newer imgate");
        return Err(Error::Broken(text));
    }
    for sql in migrations.iter().skip(usize::try_from(version).unwrap_or(usize::MAX)) {
        tx.execute_batch(sql)?;
    }
    if version < known {
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.pragma_update(None, "user_version", known)?;
    }
    if fresh {
        let sql = "INSERT INTO meta (name, value) VALUES ('epoch', ?1), ('next_id', 1)";
        tx.execute(sql, [int(random_epoch()?)])?;
    }
    let is_restored = renew_if_restored(&tx)?;
    let epoch = first(&tx, "SELECT value FROM meta WHERE name = 'epoch'", &[], |row| get_uint(row, 0))?;
    let epoch = epoch.ok_or_else(|| Error::Broken("it has no epoch".to_owned()))?;
    tx.commit()?;
    if is_restored {
        tracing::warn!("the database is a backup that was put in place: clients that have seen more begin anew");
    }
    Ok(epoch)
}
