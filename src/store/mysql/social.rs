//! Friends, blocks, profiles and groups, for the control plane.
//!
//! Owns: the table `friends`, and the flags of groups that were dissolved.
//! Never: touches a membership; that is the order's ([`super::append`]).
//!
//! Whatever counts or compares locks the rows of its users first, in the order of their numbers, so
//! that two gateways do it one after the other.

use mysql::Value;

use super::Mysql;
use super::accounts::{group, read_group, read_user, user as find_user};
use super::admissions::lock_group;
use super::changes::note;
use super::erasing::erase;
use super::fault::Fault;
use super::files::{Gone, Text, refer};
use super::logins::forget_logins;
use super::statement::{Session, Shape, get_uint, get_user, int, take_text, text};
use crate::ids::{GroupId, Kind, UserId};
use crate::limits::FRIENDS_MAX;
use crate::store::changes::Note;
use crate::store::files::Place;
use crate::store::folding::{fold, is_erased};
use crate::store::{Befriended, Error, Friend, Group, GroupChange, Regrouped, Rule, Social, User, UserChange};

const USERS: Shape = Shape {
    before: "SELECT id, mobile, password, avatar, sex, nickname, memo, created_ms, token_epoch, banned
             FROM users WHERE id IN (",
    each: "?",
    width: 1,
    between: ", ",
    after: ")",
};

impl Social for Mysql {
    fn users(&mut self, ids: &[UserId]) -> Result<Vec<User>, Error> {
        let list: Vec<Value> = ids.iter().map(|id| int(id.get())).collect();
        let mut found = self.ask(|session| session.find_all(&USERS, &list, read_user))?;
        found.sort_unstable_by_key(|user| user.id);
        found.dedup_by_key(|user| user.id);
        Ok(found)
    }

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

    fn blocked(&mut self, owner: UserId, after: Option<UserId>, max: u32) -> Result<Vec<User>, Error> {
        let sql = "SELECT u.id, u.mobile, u.password, u.avatar, u.sex, u.nickname, u.memo, u.created_ms, u.token_epoch,
                          u.banned
                   FROM blocks b JOIN users u ON u.id = b.blocked
                   WHERE b.owner = ? AND b.blocked > ? ORDER BY b.blocked LIMIT ?";
        let values = vec![int(owner.get()), number(after), int(u64::from(max))];
        self.ask(|session| session.rows(sql, values.clone(), read_user))
    }

    fn update_user(&mut self, user: UserId, change: &UserChange) -> Result<Option<User>, Error> {
        let UserChange { nickname, avatar, sex, memo } = change;
        let sql = "UPDATE users SET nickname = COALESCE(?, nickname), avatar = COALESCE(?, avatar),
                          sex = COALESCE(?, sex), memo = COALESCE(?, memo) WHERE id = ?";
        let values = vec![given(nickname), given(avatar), given(sex), given(memo), int(user.get())];
        Ok(self.transact(|session| {
            session.run(sql, values)?;
            refer_anew(session, Place::Avatar, user.get(), avatar.as_deref())?;
            find_user(session, user)
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

    fn log_out(&mut self, user: UserId) -> Result<Option<u32>, Error> {
        Ok(self.transact(|session| {
            let sql = "UPDATE users SET token_epoch = token_epoch + 1 WHERE id = ?";
            session.run(sql, vec![int(user.get())])?;
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

    fn uploaded(&mut self, user: UserId) -> Result<u64, Error> {
        let (sql, values) = ("SELECT upload_bytes FROM users WHERE id = ?", vec![int(user.get())]);
        let weighs = self.ask(|session| session.first(sql, values.clone(), |row| get_uint(row, 0)))?;
        Ok(weighs.unwrap_or(0))
    }

    fn groups_named(&mut self, name: &str, max: u32) -> Result<Vec<(Group, u64)>, Error> {
        let sql = "SELECT g.id, g.name, g.owner, g.icon, g.cate, g.memo, g.created_ms, g.rule, g.members_add,
                      g.member_count
                   FROM chat_groups g WHERE g.name_key = ? AND NOT g.dissolved AND g.rule <> 2 ORDER BY g.id LIMIT ?";
        let values = vec![text(&fold(name)), int(u64::from(max))];
        self.ask(|session| session.rows(sql, values.clone(), |row| Ok((read_group(row)?, get_uint(row, 9)?))))
    }

    fn members(&mut self, group: GroupId, after: Option<UserId>, max: u32) -> Result<Vec<User>, Error> {
        let sql = "SELECT u.id, u.mobile, u.password, u.avatar, u.sex, u.nickname, u.memo, u.created_ms, u.token_epoch,
                          u.banned
                   FROM members m JOIN users u ON u.id = m.user_id
                   WHERE m.group_id = ? AND m.user_id > ? ORDER BY m.user_id LIMIT ?";
        let values = vec![int(group.get()), number(after), int(u64::from(max))];
        self.ask(|session| session.rows(sql, values.clone(), read_user))
    }

    fn membership(&mut self, group: GroupId, user: UserId) -> Result<(u64, bool), Error> {
        let sql = "SELECT CAST(COALESCE((SELECT member_count FROM chat_groups WHERE id = ?), 0) AS UNSIGNED),
                          EXISTS (SELECT 1 FROM members WHERE group_id = ? AND user_id = ?)";
        let id = int(group.get());
        let values = vec![id.clone(), id, int(user.get())];
        let found = self
            .ask(|session| session.first(sql, values.clone(), |row| Ok((get_uint(row, 0)?, get_uint(row, 1)? != 0))))?;
        Ok(found.unwrap_or_default())
    }

    fn update_group(&mut self, id: GroupId, owner: UserId, change: &GroupChange) -> Result<Option<Regrouped>, Error> {
        let GroupChange { name, icon, memo, rule, members_add } = change;
        let number = |value: Option<u64>| value.map_or(Value::NULL, int);
        let hidden = rule.map(|rule| u64::from(rule == Rule::Invitation));
        let key = name.as_deref().map(fold);
        let sql = "UPDATE chat_groups SET name = COALESCE(?, name), name_key = COALESCE(?, name_key),
                          icon = COALESCE(?, icon), memo = COALESCE(?, memo), rule = COALESCE(?, rule),
                          members_add = COALESCE(?, members_add)
                   WHERE id = ? AND owner = ? AND NOT dissolved";
        let values = vec![
            given(name),
            given(&key),
            given(icon),
            given(memo),
            number(rule.map(|rule| rule as u64)),
            number(members_add.map(u64::from)),
            int(id.get()),
            int(owner.get()),
        ];
        Ok(self.transact(|session| {
            lock_group(session, id)?;
            let before = group(session, id)?;
            session.run(sql, values)?;
            let changed = group(session, id)?.filter(|group| group.owner == owner);
            if changed.is_some() {
                if let Some(hidden) = hidden {
                    let sql = "UPDATE convs SET hidden = ? WHERE kind = ? AND a = ? AND b = 0";
                    session.run(sql, vec![int(hidden), int(Kind::Group as u64), int(id.get())])?;
                }
                refer_anew(session, Place::Icon, id.get(), icon.as_deref())?;
            }
            Ok(before.zip(changed).map(|(before, group)| Regrouped { renamed: before.name != group.name, group }))
        })?)
    }

    fn dissolve(&mut self, id: GroupId, owner: UserId) -> Result<bool, Error> {
        Ok(self.transact(|session| {
            let conv = lock_group(session, id)?;
            let sql = "SELECT id FROM chat_groups WHERE id = ? AND owner = ?";
            let hers = session.first(sql, vec![int(id.get()), int(owner.get())], |row| get_uint(row, 0))?;
            let (Some(conv), Some(_)) = (conv, hers) else { return Ok(false) };
            session.run("UPDATE convs SET closed = TRUE WHERE conv = ?", vec![int(conv)])?;
            session.run("UPDATE chat_groups SET dissolved = TRUE WHERE id = ?", vec![int(id.get())])?;
            Ok(true)
        })?)
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

/// An avatar or icon was replaced, if it was.
fn refer_anew(session: &mut Session, place: Place, a: u64, new: Option<&str>) -> Result<(), Fault> {
    let Some(text) = new else { return Ok(()) };
    refer(session, &[Gone::only(place, a)], &[Text { place, a, b: 0, text }])
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

/// A new value, or NULL where the old one stays.
fn given(value: &Option<String>) -> Value {
    value.as_deref().map_or(Value::NULL, text)
}
