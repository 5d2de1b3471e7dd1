//! Users, for the control plane.
//!
//! Owns: their rows and the mapping to [`User`].

use mysql::{Row, Value};

use super::changes::note;
use super::erasing::erase;
use super::fault::{DUPLICATE, Fault};
use super::files::{Text, refer, refer_anew};
use super::logins::forget_logins;
use super::statement::{Session, Shape, broken, get_uint, get_user, given, int, take_text, text};
use super::{Mysql, reserve_from};
use crate::ids::UserId;
use crate::store::changes::Note;
use crate::store::files::Place;
use crate::store::folding::{ERASED_LIKE, fold};
use crate::store::{Error, NewUser, People, User, UserChange};

const USERS: Shape = Shape {
    before: "SELECT id, mobile, password, avatar, sex, nickname, memo, created_ms, token_epoch, banned
             FROM users WHERE id IN (",
    each: "?",
    width: 1,
    between: ", ",
    after: ")",
};

impl People for Mysql {
    fn create_user(&mut self, user: &NewUser) -> Result<Option<User>, Error> {
        match self.transact(|session| create_user(session, user)) {
            // Another transaction has taken the number since it was looked up.
            Err(Fault::Raced) => Ok(None),
            outcome => Ok(outcome?),
        }
    }

    fn user(&mut self, id: UserId) -> Result<Option<User>, Error> {
        self.ask(|session| find_user(session, id))
    }

    fn user_by_mobile(&mut self, mobile: &str) -> Result<Option<User>, Error> {
        self.ask(|session| user_by_mobile(session, mobile))
    }

    fn users(&mut self, ids: &[UserId]) -> Result<Vec<User>, Error> {
        let list: Vec<Value> = ids.iter().map(|id| int(id.get())).collect();
        let mut found = self.ask(|session| session.find_all(&USERS, &list, read_user))?;
        found.sort_unstable_by_key(|user| user.id);
        found.dedup_by_key(|user| user.id);
        Ok(found)
    }

    fn update_user(&mut self, user: UserId, change: &UserChange) -> Result<Option<User>, Error> {
        let UserChange { nickname, avatar, sex, memo } = change;
        let sql = "UPDATE users SET nickname = COALESCE(?, nickname), avatar = COALESCE(?, avatar),
                          sex = COALESCE(?, sex), memo = COALESCE(?, memo) WHERE id = ? AND mobile NOT LIKE ?";
        let values = vec![given(nickname), given(avatar), given(sex), given(memo), int(user.get()), text(ERASED_LIKE)];
        Ok(self.transact(|session| {
            session.run(sql, values)?;
            // What the statement has found stays as it is until the end: its row is locked. Nor
            // does anybody come back who was deleted.
            let changed = find_user(session, user)?.filter(|user| !user.is_erased());
            if changed.is_some() {
                refer_anew(session, Place::Avatar, user.get(), avatar.as_deref())?;
            }
            Ok(changed)
        })?)
    }

    fn set_password(&mut self, user: UserId, old: &str, new: &str, log_out: bool) -> Result<Option<u32>, Error> {
        Ok(self.transact(|session| {
            // Locked and compared here, byte by byte: what a collation takes for equal is not.
            let sql = "SELECT id FROM users WHERE id = ? FOR UPDATE";
            session.first(sql, vec![int(user.get())], |row| get_user(row, 0))?;
            let Some(found) = find_user(session, user)?.filter(|found| found.password == old) else { return Ok(None) };
            let epoch = found.token_epoch + u32::from(log_out);
            let sql = "UPDATE users SET password = ?, token_epoch = ? WHERE id = ?";
            session.run(sql, vec![text(new), int(u64::from(epoch)), int(user.get())])?;
            if log_out {
                forget_logins(session, user)?;
            }
            note(session, log_out.then_some((user, Note::Standing)))?;
            Ok(Some(epoch))
        })?)
    }

    fn log_out(&mut self, user: UserId, now_s: u32) -> Result<Option<u32>, Error> {
        Ok(self.transact(|session| {
            let sql = "UPDATE users SET token_epoch = GREATEST(token_epoch + 1, ?) WHERE id = ?";
            session.run(sql, vec![int(u64::from(now_s)), int(user.get())])?;
            let epoch = find_user(session, user)?.map(|user| user.token_epoch);
            forget_logins(session, user)?;
            note(session, epoch.map(|_| (user, Note::Standing)))?;
            Ok(epoch)
        })?)
    }

    fn set_banned(&mut self, user: UserId, banned: bool) -> Result<bool, Error> {
        Ok(self.transact(|session| {
            let sql = "UPDATE users SET banned = ? WHERE id = ?";
            session.run(sql, vec![int(u64::from(banned)), int(user.get())])?;
            let found = find_user(session, user)?.is_some();
            note(session, found.then_some((user, Note::Standing)))?;
            Ok(found)
        })?)
    }

    fn erase(&mut self, user: UserId) -> Result<bool, Error> {
        Ok(self.transact(|session| erase(session, user))?)
    }
}

/// `None`: the mobile number is taken. [`Fault::Raced`]: it is taken since a moment ago.
pub(super) fn create_user(session: &mut Session, new: &NewUser) -> Result<Option<User>, Fault> {
    let key = fold(&new.mobile);
    // Looked up first: a number that is taken costs no id.
    let sql = "SELECT id FROM users WHERE mobile_key = ?";
    if session.first(sql, vec![text(&key)], |row| get_user(row, 0))?.is_some() {
        return Ok(None);
    }
    let raw = reserve_from(session, "next_user", new.wanted.map_or(0, UserId::get))?;
    let id = UserId::new(raw).ok_or_else(|| broken("the user ids are used up".to_owned()))?;
    let sql = "INSERT INTO users (id, mobile, mobile_key, password, avatar, sex, nickname, memo, created_ms)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let texts = [&new.mobile, &key, &new.password, &new.avatar, &new.sex, &new.nickname, &new.memo];
    let texts = texts.into_iter().map(|value| text(value));
    let values = [int(raw)].into_iter().chain(texts).chain([int(new.created_ms)]).collect();
    match session.run(sql, values) {
        Err(fault) if fault.is(DUPLICATE) => Err(Fault::Raced),
        Err(fault) => Err(fault),
        Ok(_) => {
            refer(session, &[], &[Text { place: Place::Avatar, a: raw, b: 0, text: &new.avatar }])?;
            find_user(session, id)
        }
    }
}

pub(super) fn find_user(session: &mut Session, id: UserId) -> Result<Option<User>, Fault> {
    let sql = "SELECT id, mobile, password, avatar, sex, nickname, memo, created_ms, token_epoch, banned
               FROM users WHERE id = ?";
    session.first(sql, vec![int(id.get())], read_user)
}

pub(super) fn user_by_mobile(session: &mut Session, mobile: &str) -> Result<Option<User>, Fault> {
    let sql = "SELECT id, mobile, password, avatar, sex, nickname, memo, created_ms, token_epoch, banned
               FROM users WHERE mobile_key = ?";
    session.first(sql, vec![text(&fold(mobile))], read_user)
}

pub(super) fn read_user(row: &mut Row) -> Result<User, Fault> {
    let token_epoch = get_uint(row, 8)?;
    Ok(User {
        id: get_user(row, 0)?,
        mobile: take_text(row, 1)?,
        password: take_text(row, 2)?,
        avatar: take_text(row, 3)?,
        sex: take_text(row, 4)?,
        nickname: take_text(row, 5)?,
        memo: take_text(row, 6)?,
        created_ms: get_uint(row, 7)?,
        token_epoch: u32::try_from(token_epoch).map_err(|_| broken(format!("{token_epoch} is no token epoch")))?,
        banned: get_uint(row, 9)? != 0,
    })
}
