//! What has changed about users.
//!
//! Owns: the table `changes`.
//! Never: begins or ends a transaction; the caller does.

use rusqlite::Connection;

use super::logins::get_login;
use super::{Error, first, get_group, get_seq, get_uint, get_user, int};
use crate::ids::UserId;
use crate::limits::{CHANGES_KEPT_S, CHANGES_MAX};
use crate::store::changes::{Change, Changed, Changes, Note};

/// Writes down that something about `user` changes in this transaction.
pub(super) fn note(conn: &Connection, user: UserId, note: Note) -> Result<(), Error> {
    let (kind, other) = note.columns();
    let sql = "INSERT INTO changes (user_id, kind, other, at_s) VALUES (?1, ?2, ?3, unixepoch())";
    conn.prepare_cached(sql)?.execute([int(user.get()), int(kind), int(other)])?;
    Ok(())
}

/// See [`crate::store::Backend::changes`]. There is one writer at a time, so what can be read is
/// complete.
pub(super) fn changes(conn: &Connection, after: Option<u64>, max: u32) -> Result<Changes, Error> {
    let settled = first(conn, "SELECT seq FROM sqlite_sequence WHERE name = 'changes'", &[], |row| get_uint(row, 0))?;
    let mut changes = Changes { settled: settled.unwrap_or(0), ..Changes::default() };
    let Some(after) = after else { return Ok(changes) };
    let max = max.clamp(1, CHANGES_MAX);
    let mut statement = conn.prepare_cached(CHANGES_SQL)?;
    let mut rows = statement.query([int(after), i64::from(max) + 1])?;
    let mut read = 0;
    while let Some(row) = rows.next()? {
        if read == max {
            changes.more = true;
            break;
        }
        read += 1;
        let id = get_uint(row, 0)?;
        let what = match get_uint(row, 2)? {
            Note::STANDING => Changed::Standing { token_epoch: row.get(4)?, banned: row.get(5)? },
            Note::MEMBER => {
                let since = if row.get::<_, Option<i64>>(6)?.is_some() { Some(get_seq(row, 6)?) } else { None };
                Changed::Member { group: get_group(row, 3)?, since }
            }
            Note::BLOCK => Changed::Block { other: get_user(row, 3)?, on: row.get(7)? },
            Note::LOGIN => Changed::Login { login: get_login(row, 3)?, alive: row.get(8)? },
            // Of a later version: it must not hold up the changes behind it.
            _ => {
                changes.strange = Some(id);
                continue;
            }
        };
        changes.list.push(Change { id, user: get_user(row, 1)?, what });
    }
    Ok(changes)
}

/// One look into each table for each row.
pub(super) const CHANGES_SQL: &str = "
    SELECT c.id, c.user_id, c.kind, c.other, coalesce(u.token_epoch, 0), coalesce(u.banned, 1), m.since, b.owner IS NOT NULL,
           l.login IS NOT NULL
    FROM changes c
    LEFT JOIN users u ON u.id = c.user_id
    LEFT JOIN members m ON c.kind = 2 AND m.group_id = c.other AND m.user_id = c.user_id
    LEFT JOIN blocks b ON c.kind = 3 AND b.owner = c.user_id AND b.blocked = c.other
    LEFT JOIN logins l ON c.kind = 4 AND l.user_id = c.user_id AND l.login = c.other
    WHERE c.id > ?1 ORDER BY c.id LIMIT ?2";

/// See [`crate::store::Backend::forget_changes`].
pub(super) fn forget(conn: &Connection, max: u32) -> Result<u64, Error> {
    let sql =
        "DELETE FROM changes WHERE id IN (SELECT id FROM changes ORDER BY id LIMIT ?1) AND at_s < unixepoch() - ?2";
    Ok(conn.prepare_cached(sql)?.execute((max, CHANGES_KEPT_S))? as u64)
}
