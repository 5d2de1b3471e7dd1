//! Bulk rows for load tests.
//!
//! Owns: nothing; the rows are as any other's, but with a password that no password fits.
//! Never: begins or ends a transaction: a failed seed leaves nothing.

use rusqlite::Connection;

use super::append::add_member;
use super::{Error, first, get_uint, int};
use crate::ids::{GroupId, Seq, UserId};
use crate::store::folding::{SEEDED_MAX, fold, seeded_mobile, seeded_number};
use crate::store::{Seed, Seeded};

/// See [`crate::store::Backend::seed`].
pub(super) fn seed(conn: &Connection, seed: &Seed) -> Result<Seeded, Error> {
    let first_id = next_id(conn, "users")?;
    let first_user = UserId::new(first_id).ok_or_else(full)?;
    let base = next_mobile(conn)?;
    if base.checked_add(seed.users).is_none_or(|end| end > SEEDED_MAX) {
        return Err(full());
    }
    let sql = "INSERT INTO users (id, mobile, mobile_key, password, avatar, sex, nickname, memo, created_ms)
               VALUES (?1, ?2, ?2, '!', '', '', ?3, '', ?4)";
    let mut insert = conn.prepare_cached(sql)?;
    let created = int(seed.created_ms);
    for n in 0..seed.users {
        let id = first_id + n;
        insert.execute((int(id), seeded_mobile(base + n), format!("user {id}"), created))?;
    }
    let size = seed.group_size.min(seed.users);
    let count = if size == 0 { 0 } else { seed.groups };
    let mut groups = Vec::new();
    for g in 0..count {
        let start = g.wrapping_mul(size);
        groups.push(seed_group(conn, created, size, |k| {
            UserId::new(first_id + start.wrapping_add(k) % seed.users).ok_or_else(full)
        })?);
    }
    Ok(Seeded { first_user, users: seed.users, groups })
}

/// A group of `size` members; `nth` names them, the first is the owner.
fn seed_group(
    conn: &Connection,
    created: i64,
    size: u64,
    nth: impl Fn(u64) -> Result<UserId, Error>,
) -> Result<GroupId, Error> {
    let id = GroupId::new(next_id(conn, "chat_groups")?).ok_or_else(full)?;
    let name = format!("group {id}");
    let sql = "INSERT INTO chat_groups (id, name, name_key, owner, icon, cate, memo, created_ms)
               VALUES (?1, ?2, ?3, ?4, '', 0, '', ?5)";
    let owner = int(nth(0)?.get());
    conn.prepare_cached(sql)?.execute((int(id.get()), &name, fold(&name), owner, created))?;
    for k in 0..size {
        add_member(conn, id, nth(k)?, Seq::ZERO)?;
    }
    Ok(id)
}

/// The number that AUTOINCREMENT would give next.
pub(super) fn next_id(conn: &Connection, table: &str) -> Result<u64, Error> {
    let last = first(conn, "SELECT seq FROM sqlite_sequence WHERE name = ?1", &[&table], |row| get_uint(row, 0))?;
    Ok(last.unwrap_or(0) + 1)
}

/// The first number above every seeded mobile number.
fn next_mobile(conn: &Connection) -> Result<u64, Error> {
    let sql = "SELECT mobile_key FROM users WHERE mobile_key BETWEEN ?1 AND ?2 AND length(mobile_key) = length(?1)
               AND mobile_key NOT GLOB '*[^0-9]*' ORDER BY mobile_key DESC LIMIT 1";
    let (low, high) = (seeded_mobile(0), seeded_mobile(SEEDED_MAX));
    let last: Option<String> = first(conn, sql, &[&low, &high], |row| Ok(row.get(0)?))?;
    Ok(last.and_then(|mobile| seeded_number(&mobile)).map_or(1, |n| n + 1))
}

fn full() -> Error {
    Error::Unavailable("no numbers left for new users or groups".to_owned())
}
