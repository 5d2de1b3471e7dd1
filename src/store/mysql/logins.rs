//! Logins.
//!
//! Owns: the table `logins`. Whatever counts locks the user's row first, so that two gateways do it
//! one after the other.

use mysql::Row;

use super::Mysql;
use super::changes::note;
use super::fault::Fault;
use super::statement::{Session, broken, get_uint, int, take_text, text};
use crate::ids::{LoginId, UserId};
use crate::store::changes::Note;
use crate::store::logins::{free, give_way};
use crate::store::{Error, LoggedIn, LoginInfo, Logins, NewLogin};

impl Logins for Mysql {
    fn log_in(&mut self, user: UserId, new: &NewLogin) -> Result<Option<LoggedIn>, Error> {
        Ok(self.transact(|session| log_in(session, user, new))?)
    }

    fn login(&mut self, user: UserId, login: LoginId) -> Result<Option<LoginInfo>, Error> {
        let sql = "SELECT login, agent, address, created_ms, used_ms, expires_ms FROM logins
                   WHERE user_id = ? AND login = ?";
        let values = vec![int(user.get()), int(login.get().into())];
        self.ask(|session| session.first(sql, values.clone(), read_login))
    }

    fn logins_of(&mut self, user: UserId) -> Result<Vec<LoginInfo>, Error> {
        self.ask(|session| list(session, user))
    }

    fn use_login(&mut self, user: UserId, login: LoginId, now_ms: u64) -> Result<(), Error> {
        let sql = "UPDATE logins SET used_ms = GREATEST(used_ms, ?) WHERE user_id = ? AND login = ?";
        let values = vec![int(now_ms), int(user.get()), int(login.get().into())];
        Ok(self.transact(|session| session.run(sql, values).map(|_| ()))?)
    }

    fn end_login(&mut self, user: UserId, login: LoginId) -> Result<bool, Error> {
        Ok(self.transact(|session| {
            let was = end(session, user, login)?;
            note(session, was.then_some((user, Note::Login(login))))?;
            Ok(was)
        })?)
    }
}

fn list(session: &mut Session, user: UserId) -> Result<Vec<LoginInfo>, Fault> {
    let sql = "SELECT login, agent, address, created_ms, used_ms, expires_ms FROM logins
               WHERE user_id = ? ORDER BY used_ms DESC, login";
    session.rows(sql, vec![int(user.get())], read_login)
}

fn log_in(session: &mut Session, user: UserId, new: &NewLogin) -> Result<Option<LoggedIn>, Fault> {
    let known = "SELECT token_epoch FROM users WHERE id = ? FOR UPDATE";
    let epoch = session.first(known, vec![int(user.get())], |row| get_uint(row, 0))?;
    if epoch != Some(new.epoch.into()) {
        return Ok(None);
    }
    let logins = list(session, user)?;
    let ended = give_way(&logins, new.created_ms);
    for &login in &ended {
        end(session, user, login)?;
    }
    let login = free(&logins, new.wanted);
    let sql = "INSERT INTO logins (user_id, login, agent, address, created_ms, used_ms, expires_ms)
               VALUES (?, ?, ?, ?, ?, ?, ?)";
    let created = int(new.created_ms);
    let values = vec![
        int(user.get()),
        int(login.get().into()),
        text(&new.agent),
        text(&new.address),
        created.clone(),
        created,
        int(new.expires_ms),
    ];
    session.run(sql, values)?;
    note(session, ended.iter().map(|&login| (user, Note::Login(login))))?;
    Ok(Some(LoggedIn { login, ended }))
}

fn end(session: &mut Session, user: UserId, login: LoginId) -> Result<bool, Fault> {
    let sql = "DELETE FROM logins WHERE user_id = ? AND login = ?";
    Ok(session.run(sql, vec![int(user.get()), int(login.get().into())])? > 0)
}

/// Every login of a user whose tokens are all void now.
pub(super) fn forget_logins(session: &mut Session, user: UserId) -> Result<(), Fault> {
    session.run("DELETE FROM logins WHERE user_id = ?", vec![int(user.get())]).map(|_| ())
}

pub(super) fn get_login(row: &Row, column: usize) -> Result<LoginId, Fault> {
    let raw = get_uint(row, column)?;
    let login = u32::try_from(raw).ok().and_then(LoginId::new);
    login.ok_or_else(|| broken(format!("{raw} is no login")))
}

fn read_login(row: &mut Row) -> Result<LoginInfo, Fault> {
    Ok(LoginInfo {
        login: get_login(row, 0)?,
        agent: take_text(row, 1)?,
        address: take_text(row, 2)?,
        created_ms: get_uint(row, 3)?,
        used_ms: get_uint(row, 4)?,
        expires_ms: get_uint(row, 5)?,
    })
}
