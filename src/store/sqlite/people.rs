//! Users, for the control plane.
//!
//! Owns: their rows and the mapping to [`User`].

use rusqlite::{Connection, Row, ToSql};

use super::changes::note;
use super::erasing::erase;
use super::files::{refer, refer_anew};
use super::logins::forget_logins;
use super::seed::next_id;
use super::{Sqlite, all, exists, first, get_uint, get_user, int};
use crate::ids::UserId;
use crate::store::changes::Note;
use crate::store::files::Place;
use crate::store::folding::{ERASED_LIKE, fold};
use crate::store::{Error, NewUser, People, User, UserChange};

impl People for Sqlite {
    fn create_user(&mut self, user: &NewUser) -> Result<Option<User>, Error> {
        self.transact(|conn| create_user(conn, user))
    }

    fn user(&mut self, id: UserId) -> Result<Option<User>, Error> {
        user(&self.conn, id)
    }

    fn user_by_mobile(&mut self, mobile: &str) -> Result<Option<User>, Error> {
        user_by_mobile(&self.conn, mobile)
    }

    fn users(&mut self, ids: &[UserId]) -> Result<Vec<User>, Error> {
        let texts: Vec<String> = ids.iter().map(|id| id.get().to_string()).collect();
        let list = format!("[{}]", texts.join(","));
        let sql = "SELECT id, mobile, password, avatar, sex, nickname, memo, created_ms, token_epoch, banned
                   FROM users WHERE id IN (SELECT value FROM json_each(?1)) ORDER BY id";
        all(&self.conn, sql, &[&list], read_user)
    }

    fn update_user(&mut self, user: UserId, change: &UserChange) -> Result<Option<User>, Error> {
        let UserChange { nickname, avatar, sex, memo } = change;
        self.transact(|conn| {
            let sql = "UPDATE users SET nickname = coalesce(?2, nickname), avatar = coalesce(?3, avatar),
                              sex = coalesce(?4, sex), memo = coalesce(?5, memo) WHERE id = ?1 AND mobile NOT LIKE ?6
                       RETURNING id, mobile, password, avatar, sex, nickname, memo, created_ms, token_epoch, banned";
            let columns: [&dyn ToSql; 6] = [&int(user.get()), nickname, avatar, sex, memo, &ERASED_LIKE];
            let changed = first(conn, sql, &columns, read_user)?;
            if changed.is_some() {
                refer_anew(conn, Place::Avatar, user.get(), avatar.as_ref())?;
            }
            Ok(changed)
        })
    }

    fn set_password(&mut self, user: UserId, old: &str, new: &str, log_out: bool) -> Result<Option<u32>, Error> {
        self.transact(|conn| {
            let sql = "UPDATE users SET password = ?3, token_epoch = token_epoch + ?4 WHERE id = ?1 AND password = ?2
                       RETURNING token_epoch";
            let epoch = first(conn, sql, &[&int(user.get()), &old, &new, &log_out], |row| Ok(row.get(0)?))?;
            if epoch.is_some() && log_out {
                forget_logins(conn, user)?;
                note(conn, user, Note::Standing)?;
            }
            Ok(epoch)
        })
    }

    fn log_out(&mut self, user: UserId, now_s: u32) -> Result<Option<u32>, Error> {
        self.transact(|conn| {
            let sql = "UPDATE users SET token_epoch = max(token_epoch + 1, ?2) WHERE id = ?1 RETURNING token_epoch";
            let epoch = first(conn, sql, &[&int(user.get()), &now_s], |row| Ok(row.get(0)?))?;
            if epoch.is_some() {
                forget_logins(conn, user)?;
                note(conn, user, Note::Standing)?;
            }
            Ok(epoch)
        })
    }

    fn set_banned(&mut self, user: UserId, banned: bool) -> Result<bool, Error> {
        self.transact(|conn| {
            let found = conn.execute("UPDATE users SET banned = ?2 WHERE id = ?1", (int(user.get()), banned))? > 0;
            if found {
                note(conn, user, Note::Standing)?;
            }
            Ok(found)
        })
    }

    fn erase(&mut self, user: UserId) -> Result<bool, Error> {
        self.transact(|conn| erase(conn, user))
    }
}

/// `None`: the mobile number is taken.
pub(super) fn create_user(conn: &Connection, new: &NewUser) -> Result<Option<User>, Error> {
    let key = fold(&new.mobile);
    // Looked up first: AUTOINCREMENT gives its number away even when the insertion then conflicts.
    if exists(conn, "SELECT 1 FROM users WHERE mobile_key = ?1", &[&key])? {
        return Ok(None);
    }
    let sql = "INSERT INTO users (id, mobile, mobile_key, password, avatar, sex, nickname, memo, created_ms)
               VALUES (?9, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
               RETURNING id, mobile, password, avatar, sex, nickname, memo, created_ms, token_epoch, banned";
    let created = int(new.created_ms);
    let id = kept_number(conn, "users", new.wanted.map(UserId::get))?;
    let columns: [&dyn ToSql; 9] =
        [&new.mobile, &key, &new.password, &new.avatar, &new.sex, &new.nickname, &new.memo, &created, &id];
    let user = first(conn, sql, &columns, read_user)?;
    if let Some(user) = &user {
        refer(conn, Place::Avatar, int(user.id.get()), 0, &new.avatar)?;
    }
    Ok(user)
}

/// The wanted number if it is above every one given so far; AUTOINCREMENT goes on above it. `None`:
/// AUTOINCREMENT decides.
pub(super) fn kept_number(conn: &Connection, table: &str, wanted: Option<u64>) -> Result<Option<i64>, Error> {
    let Some(wanted) = wanted else { return Ok(None) };
    Ok((wanted >= next_id(conn, table)?).then_some(int(wanted)))
}

pub(super) fn user(conn: &Connection, id: UserId) -> Result<Option<User>, Error> {
    let sql = "SELECT id, mobile, password, avatar, sex, nickname, memo, created_ms, token_epoch, banned
               FROM users WHERE id = ?1";
    first(conn, sql, &[&int(id.get())], read_user)
}

pub(super) fn user_by_mobile(conn: &Connection, mobile: &str) -> Result<Option<User>, Error> {
    let sql = "SELECT id, mobile, password, avatar, sex, nickname, memo, created_ms, token_epoch, banned
               FROM users WHERE mobile_key = ?1";
    first(conn, sql, &[&fold(mobile)], read_user)
}

pub(super) fn read_user(row: &Row<'_>) -> Result<User, Error> {
    Ok(User {
        id: get_user(row, 0)?,
        mobile: row.get(1)?,
        password: row.get(2)?,
        avatar: row.get(3)?,
        sex: row.get(4)?,
        nickname: row.get(5)?,
        memo: row.get(6)?,
        created_ms: get_uint(row, 7)?,
        token_epoch: row.get(8)?,
        banned: row.get(9)?,
    })
}
