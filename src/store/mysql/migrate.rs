//! Numbered changes of the schema, applied when a connection finds them missing.
//!
//! Owns: the list of migrations; the row `schema` of `meta` is the number of the last one applied,
//! and `schema_min` that of the last one that an older program cannot do without: what only adds
//! leaves it, so that gateways of two versions may run on one database while they are replaced.
//! Never: touches a database that is not ours or that this program does not know enough about.
//! Bounds: waits [`MYSQL_SCHEMA_WAIT_S`] for another gateway that is at it.

use super::fault::{DUPLICATE_COLUMN, DUPLICATE_KEY_NAME, Fault, NO_SUCH_KEY, NO_SUCH_TABLE};
use super::statement::{Session, broken, get_uint, int, take_bytes};
use crate::limits::MYSQL_SCHEMA_WAIT_S;
use crate::store::Error;
use crate::store::location::random_epoch;

/// A change of the schema.
pub(super) struct Migration {
    sql: &'static str,
    /// A program that does not know of it may go on: it only adds what that one neither fills nor
    /// reads.
    only_adds: bool,
}

const fn breaking(sql: &'static str) -> Migration {
    Migration { sql, only_adds: false }
}

const fn adding(sql: &'static str) -> Migration {
    Migration { sql, only_adds: true }
}

/// In order; number `n` stands at `n - 1`.
pub(super) const MIGRATIONS: &[Migration] = &[
    breaking(include_str!("../schema/mysql/0001_spine.sql")),
    breaking(include_str!("../schema/mysql/0002_standing.sql")),
    breaking(include_str!("../schema/mysql/0003_social.sql")),
    breaking(include_str!("../schema/mysql/0004_uploads.sql")),
    breaking(include_str!("../schema/mysql/0005_changes.sql")),
    breaking(include_str!("../schema/mysql/0006_lists.sql")),
    breaking(include_str!("../schema/mysql/0007_blocks.sql")),
    breaking(include_str!("../schema/mysql/0008_files.sql")),
    breaking(include_str!("../schema/mysql/0009_logins.sql")),
    breaking(include_str!("../schema/mysql/0010_groups.sql")),
    breaking(include_str!("../schema/mysql/0011_hidden.sql")),
    adding(include_str!("../schema/mysql/0012_api_keys.sql")),
];

/// Small numbers about the database itself: schema, epoch, pulse, and the next number of everything
/// that has one.
const META: &str = "CREATE TABLE IF NOT EXISTS meta (
    name  VARCHAR(32)     NOT NULL PRIMARY KEY,
    value BIGINT UNSIGNED NOT NULL
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC";

/// Makes or updates the database and returns its epoch.
pub(super) fn prepare(session: &mut Session) -> Result<u64, Fault> {
    migrate(session, MIGRATIONS)
}

/// Applies what is missing of `migrations`, one gateway at a time. Every statement commits itself
/// (MySQL knows no other way), so each can be run again.
fn migrate(session: &mut Session, migrations: &[Migration]) -> Result<u64, Fault> {
    let known = migrations.len() as u64;
    if let Meta { schema: Some(schema), epoch: Some(epoch), least } = Meta::read(session)?
        && (schema == known || (schema > known && least <= known))
    {
        return Ok(epoch);
    }
    lock(session)?;
    let outcome = apply(session, migrations, known);
    // Should this fail, the lock goes with the connection.
    let _ = session.text("DO RELEASE_LOCK(CONCAT('imgate.', MD5(DATABASE())))");
    outcome
}

fn lock(session: &mut Session) -> Result<(), Fault> {
    let sql = "SELECT COALESCE(GET_LOCK(CONCAT('imgate.', MD5(DATABASE())), ?), 0)";
    let taken = session.first(sql, vec![int(u64::from(MYSQL_SCHEMA_WAIT_S))], |row| get_uint(row, 0))?;
    if taken == Some(1) {
        return Ok(());
    }
    Err(Fault::Store(Error::Unavailable("another gateway is changing the schema".to_owned())))
}

fn apply(session: &mut Session, migrations: &[Migration], known: u64) -> Result<u64, Fault> {
    let meta = Meta::read(session)?;
    let schema = match meta.schema {
        Some(schema) => schema,
        None => begin(session)?,
    };
    if schema > known && meta.least > known {
        return Err(broken(format!("its schema is number {schema}, this program knows {known}: use a newer imgate")));
    }
    let done = usize::try_from(schema).unwrap_or(usize::MAX);
    for (Migration { sql, only_adds }, number) in migrations.iter().zip(1_u64..).skip(done) {
        if !only_adds {
            // Before it is done: from its first statement on an older program is wrong here.
            session.text(&format!(
                "INSERT INTO meta (name, value) VALUES ('schema_min', {number}) ON DUPLICATE KEY UPDATE value = {number}"
            ))?;
        }
        // The comments leave first: they are prose, in which a semicolon ends nothing.
        let bare: String =
            sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect::<Vec<_>>().join("\n");
        for statement in bare.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
            match session.text(statement) {
                // A run that was cut off has done it; MySQL cannot be told to add a column or a key
                // only where there is none, or to drop a key only where there is one.
                Err(fault) if [DUPLICATE_COLUMN, DUPLICATE_KEY_NAME, NO_SUCH_KEY].iter().any(|one| fault.is(*one)) => {}
                outcome => outcome?,
            }
        }
        session.text(&format!("UPDATE meta SET value = {number} WHERE name = 'schema'"))?;
        tracing::info!(number, "the schema of the database was brought up to date");
    }
    meta.epoch.map_or_else(|| Meta::read(session)?.epoch.ok_or_else(|| broken("it has no epoch".to_owned())), Ok)
}

/// Makes the one table that says that the database is ours.
fn begin(session: &mut Session) -> Result<u64, Fault> {
    let sql = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name <> 'meta'";
    if session.first(sql, Vec::new(), |row| get_uint(row, 0))? != Some(0) {
        return Err(broken("the database holds tables of another program: give imgate one of its own".to_owned()));
    }
    session.text(META)?;
    let epoch = random_epoch()?;
    session.text(&format!(
        "INSERT INTO meta (name, value) VALUES ('schema', 0), ('epoch', {epoch}), ('pulse', 0), ('next_id', 1), \
         ('next_user', 1), ('next_group', 1), ('next_seeded', 1)"
    ))?;
    Ok(0)
}

/// What `meta` says; nothing if there is no such table.
#[derive(Default)]
struct Meta {
    schema: Option<u64>,
    epoch: Option<u64>,
    /// The lowest number that a program must know.
    least: u64,
}

impl Meta {
    fn read(session: &mut Session) -> Result<Self, Fault> {
        let sql = "SELECT name, value FROM meta WHERE name IN ('schema', 'epoch', 'schema_min')";
        let rows = match session.rows(sql, Vec::new(), |row| Ok((take_bytes(row, 0)?, get_uint(row, 1)?))) {
            Err(fault) if fault.is(NO_SUCH_TABLE) => return Ok(Self::default()),
            rows => rows?,
        };
        let get = |name: &str| rows.iter().find(|(found, _)| found == name.as_bytes()).map(|(_, value)| *value);
        let schema = get("schema");
        // Databases of before there was the row: all of their migrations have to be known.
        Ok(Self { schema, epoch: get("epoch"), least: get("schema_min").or(schema).unwrap_or(0) })
    }
}
