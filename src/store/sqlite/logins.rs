//! Logins.
//!
//! Owns: the table `logins`.

use rusqlite::{Connection, Row};

use super::changes::note;
use super::{Error, Sqlite, all, exists, first, get_uint, int};
use crate::ids::{LoginId, UserId};
use crate::store::changes::Note;
use crate::store::logins::{free, give_way};
use crate::store::{LoggedIn, LoginInfo, Logins, NewLogin};

impl Logins for Sqlite {
    fn log_in(&mut self, user: UserId, new: &NewLogin) -> Result<Option<LoggedIn>, Error> {
        self.transact(|conn| log_in(conn, user, new))
    }

    fn login(&mut self, user: UserId, login: LoginId) -> Result<Option<LoginInfo>, Error> {
        let sql = "SELECT login, agent, address, created_ms, used_ms, expires_ms FROM logins
                   WHERE user_id = ?1 AND login = ?2";
        first(&self.conn, sql, &[&int(user.get()), &login.get()], read_login)
    }

    fn logins_of(&mut self, user: UserId) -> Result<Vec<LoginInfo>, Error> {
        list(&self.conn, user)
    }

    fn use_login(&mut self, user: UserId, login: LoginId, now_ms: u64) -> Result<(), Error> {
        self.transact(|conn| {
            let sql = "UPDATE logins SET used_ms = ?3 WHERE user_id = ?1 AND login = ?2 AND used_ms < ?3";
            conn.prepare_cached(sql)?.execute((int(user.get()), login.get(), int(now_ms)))?;
            Ok(())
        })
    }

    fn end_login(&mut self, user: UserId, login: LoginId) -> Result<bool, Error> {
        self.transact(|conn| end(conn, user, login))
    }
}

fn list(conn: &Connection, user: UserId) -> Result<Vec<LoginInfo>, Error> {
    let sql = "SELECT login, agent, address, created_ms, used_ms, expires_ms FROM logins
               WHERE user_id = ?1 ORDER BY used_ms DESC, login";
    all(conn, sql, &[&int(user.get())], read_login)
}

fn log_in(conn: &Connection, user: UserId, new: &NewLogin) -> Result<Option<LoggedIn>, Error> {
    let known = "SELECT 1 FROM users WHERE id = ?1 AND token_epoch = ?2";
    if !exists(conn, known, &[&int(user.get()), &new.epoch])? {
        return Ok(None);
    }
    let logins = list(conn, user)?;
    let ended = give_way(&logins, new.created_ms);
    for &login in &ended {
        end(conn, user, login)?;
    }
    let login = free(&logins, new.wanted);
    let sql = "INSERT INTO logins (user_id, login, agent, address, created_ms, used_ms, expires_ms)
               VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6)";
    let (created, expires) = (int(new.created_ms), int(new.expires_ms));
    conn.prepare_cached(sql)?.execute((int(user.get()), login.get(), &new.agent, &new.address, created, expires))?;
    Ok(Some(LoggedIn { login, ended }))
}

fn end(conn: &Connection, user: UserId, login: LoginId) -> Result<bool, Error> {
    let sql = "DELETE FROM logins WHERE user_id = ?1 AND login = ?2";
    let was = conn.prepare_cached(sql)?.execute((int(user.get()), login.get()))? > 0;
    if was {
        note(conn, user, Note::Login(login))?;
    }
    Ok(was)
}

/// Every login of a user whose tokens are all void now.
pub(super) fn forget_logins(conn: &Connection, user: UserId) -> Result<(), Error> {
    conn.prepare_cached("DELETE FROM logins WHERE user_id = ?1")?.execute([int(user.get())])?;
    Ok(())
}

pub(super) fn get_login(row: &Row<'_>, column: usize) -> Result<LoginId, Error> {
    let raw: u32 = row.get(column)?;
    LoginId::new(raw).ok_or_else(|| Error::Broken(format!("{raw} is no login")))
}

fn read_login(row: &Row<'_>) -> Result<LoginInfo, Error> {
    Ok(LoginInfo {
        login: get_login(row, 0)?,
        agent: row.get(1)?,
        address: row.get(2)?,
        created_ms: get_uint(row, 3)?,
        used_ms: get_uint(row, 4)?,
        expires_ms: get_uint(row, 5)?,
    })
}
