//! Friends and blocks, for the control plane.
//!
//! Owns: the tables `friends` and `blocks`.

use rusqlite::Connection;

use super::append::user_exists;
use super::changes::note;
use super::people::read_user;
use super::{Sqlite, all, exists, int};
use crate::ids::UserId;
use crate::limits::FRIENDS_MAX;
use crate::store::changes::Note;
use crate::store::{Befriended, Error, Friend, Social, User};

impl Social for Sqlite {
    fn befriend(&mut self, user: UserId, other: UserId, now_ms: u64) -> Result<Befriended, Error> {
        self.transact(|conn| befriend(conn, user, other, now_ms))
    }

    fn unfriend(&mut self, user: UserId, other: UserId) -> Result<bool, Error> {
        self.transact(|conn| {
            let sql =
                "DELETE FROM friends WHERE (user_id = ?1 AND friend_id = ?2) OR (user_id = ?2 AND friend_id = ?1)";
            Ok(conn.prepare_cached(sql)?.execute([int(user.get()), int(other.get())])? > 0)
        })
    }

    fn friends(&mut self, user: UserId, after: Option<UserId>, max: u32) -> Result<Vec<Friend>, Error> {
        let sql = "SELECT u.id, u.mobile, u.password, u.avatar, u.sex, u.nickname, u.memo, u.created_ms, u.token_epoch,
                          u.banned, EXISTS (SELECT 1 FROM blocks b WHERE b.owner = ?1 AND b.blocked = u.id)
                   FROM friends f JOIN users u ON u.id = f.friend_id
                   WHERE f.user_id = ?1 AND f.friend_id > ?2 ORDER BY f.friend_id LIMIT ?3";
        all(&self.conn, sql, &[&int(user.get()), &number(after), &max], |row| {
            Ok(Friend { user: read_user(row)?, blocked: row.get(10)? })
        })
    }

    fn block(&mut self, owner: UserId, other: UserId, on: bool) -> Result<bool, Error> {
        self.transact(|conn| block(conn, owner, other, on))
    }

    fn blocked(&mut self, owner: UserId, after: Option<UserId>, max: u32) -> Result<Vec<User>, Error> {
        let sql = "SELECT u.id, u.mobile, u.password, u.avatar, u.sex, u.nickname, u.memo, u.created_ms, u.token_epoch,
                          u.banned
                   FROM blocks b JOIN users u ON u.id = b.blocked
                   WHERE b.owner = ?1 AND b.blocked > ?2 ORDER BY b.blocked LIMIT ?3";
        all(&self.conn, sql, &[&int(owner.get()), &number(after), &max], read_user)
    }
}

fn befriend(conn: &Connection, user: UserId, other: UserId, now_ms: u64) -> Result<Befriended, Error> {
    if user == other || !user_exists(conn, user)? || !user_exists(conn, other)? {
        return Ok(Befriended::NoSuchUser);
    }
    let (a, b) = (int(user.get()), int(other.get()));
    if exists(conn, "SELECT 1 FROM friends WHERE user_id = ?1 AND friend_id = ?2", &[&a, &b])? {
        return Ok(Befriended::Already);
    }
    if exists(conn, "SELECT 1 FROM blocks WHERE owner = ?1 AND blocked = ?2", &[&b, &a])? {
        return Ok(Befriended::Blocked);
    }
    let full = "SELECT 1 FROM friends WHERE user_id = ?1 LIMIT 1 OFFSET ?2";
    let last = i64::from(FRIENDS_MAX) - 1;
    if exists(conn, full, &[&a, &last])? || exists(conn, full, &[&b, &last])? {
        return Ok(Befriended::TooMany);
    }
    let sql = "INSERT INTO friends (user_id, friend_id, since_ms) VALUES (?1, ?2, ?3), (?2, ?1, ?3)";
    conn.prepare_cached(sql)?.execute([a, b, int(now_ms)])?;
    Ok(Befriended::New)
}

pub(super) fn block(conn: &Connection, owner: UserId, other: UserId, on: bool) -> Result<bool, Error> {
    if !user_exists(conn, owner)? {
        return Ok(false);
    }
    let sql = if on {
        "INSERT INTO blocks (owner, blocked) VALUES (?1, ?2) ON CONFLICT (owner, blocked) DO NOTHING"
    } else {
        "DELETE FROM blocks WHERE owner = ?1 AND blocked = ?2"
    };
    if conn.prepare_cached(sql)?.execute([int(owner.get()), int(other.get())])? > 0 {
        note(conn, owner, Note::Block(other))?;
    }
    Ok(true)
}

/// Zero stands before every user.
pub(super) fn number(after: Option<UserId>) -> i64 {
    after.map_or(0, |after| int(after.get()))
}
