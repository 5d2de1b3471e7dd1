//! Friends and blocks, for the control plane.
//!
//! Owns: the tables `friends` and `blocks`.
//!
//! Whatever counts or compares locks the rows of its users first, in the order of their numbers, so
//! that two gateways do it one after the other.

use mysql::Value;

use super::Mysql;
use super::changes::note;
use super::fault::Fault;
use super::people::read_user;
use super::statement::{Session, get_uint, get_user, int, take_text, text};
use crate::ids::UserId;
use crate::limits::FRIENDS_MAX;
use crate::store::changes::Note;
use crate::store::folding::{ERASED_LIKE, is_erased};
use crate::store::{Befriended, Error, Friend, Social, User};

impl Social for Mysql {
    fn befriend(&mut self, user: UserId, other: UserId, now_ms: u64) -> Result<Befriended, Error> {
        Ok(self.transact(|session| befriend(session, user, other, now_ms))?)
    }

    fn unfriend(&mut self, user: UserId, other: UserId) -> Result<bool, Error> {
        let (a, b) = (int(user.get()), int(other.get()));
        Ok(self.transact(|session| {
            lock_users(session, user, other)?;
            let sql = "DELETE FROM friends WHERE user_id = ? AND friend_id = ?";
            let was = session.run(sql, vec![a.clone(), b.clone()])? > 0;
            session.run(sql, vec![b, a])?;
            Ok(was)
        })?)
    }

    fn friends(&mut self, user: UserId, after: Option<UserId>, max: u32) -> Result<Vec<Friend>, Error> {
        let sql = "SELECT u.id, u.mobile, u.password, u.avatar, u.sex, u.nickname, u.memo, u.created_ms, u.token_epoch,
                          u.banned, EXISTS (SELECT 1 FROM blocks b WHERE b.owner = ? AND b.blocked = u.id)
                   FROM friends f JOIN users u ON u.id = f.friend_id
                   WHERE f.user_id = ? AND f.friend_id > ? ORDER BY f.friend_id LIMIT ?";
        let me = int(user.get());
        let values = vec![me.clone(), me, number(after), int(u64::from(max))];
        self.ask(|session| {
            session.rows(sql, values.clone(), |row| {
                let blocked = get_uint(row, 10)? != 0;
                Ok(Friend { user: read_user(row)?, blocked })
            })
        })
    }

    fn block(&mut self, owner: UserId, other: UserId, on: bool) -> Result<bool, Error> {
        Ok(self.transact(|session| block(session, owner, other, on))?)
    }

    fn blocked(&mut self, owner: UserId, after: Option<UserId>, max: u32) -> Result<Vec<User>, Error> {
        let sql = "SELECT u.id, u.mobile, u.password, u.avatar, u.sex, u.nickname, u.memo, u.created_ms, u.token_epoch,
                          u.banned
                   FROM blocks b JOIN users u ON u.id = b.blocked
                   WHERE b.owner = ? AND b.blocked > ? ORDER BY b.blocked LIMIT ?";
        let values = vec![int(owner.get()), number(after), int(u64::from(max))];
        self.ask(|session| session.rows(sql, values.clone(), read_user))
    }
}

fn befriend(session: &mut Session, user: UserId, other: UserId, now_ms: u64) -> Result<Befriended, Fault> {
    if user == other || lock_users(session, user, other)? != 2 {
        return Ok(Befriended::NoSuchUser);
    }
    let (a, b) = (int(user.get()), int(other.get()));
    let mut counted = |sql: &'static str, values: Vec<Value>| -> Result<u64, Fault> {
        Ok(session.first(sql, values, |row| get_uint(row, 0))?.unwrap_or(0))
    };
    let one = "SELECT COUNT(*) FROM friends WHERE user_id = ? AND friend_id = ?";
    if counted(one, vec![a.clone(), b.clone()])? > 0 {
        return Ok(Befriended::Already);
    }
    let refused = "SELECT COUNT(*) FROM blocks WHERE owner = ? AND blocked = ?";
    if counted(refused, vec![b.clone(), a.clone()])? > 0 {
        return Ok(Befriended::Blocked);
    }
    let all = "SELECT COUNT(*) FROM friends WHERE user_id = ?";
    let most = counted(all, vec![a.clone()])?.max(counted(all, vec![b.clone()])?);
    if most >= u64::from(FRIENDS_MAX) {
        return Ok(Befriended::TooMany);
    }
    let sql = "INSERT INTO friends (user_id, friend_id, since_ms) VALUES (?, ?, ?), (?, ?, ?)";
    let now = int(now_ms);
    session.run(sql, vec![a.clone(), b.clone(), now.clone(), b, a, now])?;
    Ok(Befriended::New)
}

pub(super) fn block(session: &mut Session, owner: UserId, other: UserId, on: bool) -> Result<bool, Fault> {
    if !lock_user(session, owner)? {
        return Ok(false);
    }
    let sql = if on {
        "INSERT IGNORE INTO blocks (owner, blocked) VALUES (?, ?)"
    } else {
        "DELETE FROM blocks WHERE owner = ? AND blocked = ?"
    };
    if session.run(sql, vec![int(owner.get()), int(other.get())])? > 0 {
        note(session, [(owner, Note::Block(other))])?;
    }
    Ok(true)
}

/// Locks a user until the transaction ends; whether the user exists and was not deleted. What is
/// kept of a user is written behind this lock, and so before a deletion, which removes it, or not.
pub(super) fn lock_user(session: &mut Session, user: UserId) -> Result<bool, Fault> {
    let sql = "SELECT id FROM users WHERE id = ? AND mobile NOT LIKE ? FOR UPDATE";
    Ok(session.first(sql, vec![int(user.get()), text(ERASED_LIKE)], |row| get_user(row, 0))?.is_some())
}

/// Locks both users until the transaction ends; how many of them exist and were not deleted.
fn lock_users(session: &mut Session, one: UserId, other: UserId) -> Result<usize, Fault> {
    let sql = "SELECT id, mobile FROM users FORCE INDEX (PRIMARY) WHERE id IN (?, ?) ORDER BY id FOR UPDATE";
    let found = session.rows(sql, vec![int(one.get()), int(other.get())], |row| take_text(row, 1))?;
    Ok(found.iter().filter(|mobile| !is_erased(mobile)).count())
}

/// Zero stands before every user.
pub(super) fn number(after: Option<UserId>) -> Value {
    int(after.map_or(0, UserId::get))
}
