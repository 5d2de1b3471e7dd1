//! Friends, blocks, profiles and groups, for the control plane.
//!
//! Owns: the table `friends`, and the flag of groups that were dissolved.
//! Never: touches a membership; that is the order's ([`super::append`]).

use rusqlite::{Connection, ToSql};

use super::accounts::{group, read_group, read_user};
use super::append::user_exists;
use super::changes::note;
use super::erasing::erase;
use super::files::refer_anew;
use super::logins::forget_logins;
use super::{Sqlite, all, exists, first, get_uint, int};
use crate::ids::{GroupId, UserId};
use crate::limits::FRIENDS_MAX;
use crate::store::changes::Note;
use crate::store::files::Place;
use crate::store::folding::fold;
use crate::store::{Befriended, Error, Friend, Group, GroupChange, Regrouped, Social, User, UserChange};

impl Social for Sqlite {
    fn users(&mut self, ids: &[UserId]) -> Result<Vec<User>, Error> {
        let texts: Vec<String> = ids.iter().map(|id| id.get().to_string()).collect();
        let list = format!("[{}]", texts.join(","));
        let sql = "SELECT id, mobile, password, avatar, sex, nickname, memo, created_ms, token_epoch, banned
                   FROM users WHERE id IN (SELECT value FROM json_each(?1)) ORDER BY id";
        all(&self.conn, sql, &[&list], read_user)
    }

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

    fn blocked(&mut self, owner: UserId, after: Option<UserId>, max: u32) -> Result<Vec<User>, Error> {
        let sql = "SELECT u.id, u.mobile, u.password, u.avatar, u.sex, u.nickname, u.memo, u.created_ms, u.token_epoch,
                          u.banned
                   FROM blocks b JOIN users u ON u.id = b.blocked
                   WHERE b.owner = ?1 AND b.blocked > ?2 ORDER BY b.blocked LIMIT ?3";
        all(&self.conn, sql, &[&int(owner.get()), &number(after), &max], read_user)
    }

    fn update_user(&mut self, user: UserId, change: &UserChange) -> Result<Option<User>, Error> {
        let UserChange { nickname, avatar, sex, memo } = change;
        self.transact(|conn| {
            refer_anew(conn, Place::Avatar, user.get(), avatar.as_ref())?;
            let sql = "UPDATE users SET nickname = coalesce(?2, nickname), avatar = coalesce(?3, avatar),
                              sex = coalesce(?4, sex), memo = coalesce(?5, memo) WHERE id = ?1
                       RETURNING id, mobile, password, avatar, sex, nickname, memo, created_ms, token_epoch, banned";
            first(conn, sql, &[&int(user.get()), nickname, avatar, sex, memo], read_user)
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

    fn log_out(&mut self, user: UserId) -> Result<Option<u32>, Error> {
        self.transact(|conn| {
            let sql = "UPDATE users SET token_epoch = token_epoch + 1 WHERE id = ?1 RETURNING token_epoch";
            let epoch = first(conn, sql, &[&int(user.get())], |row| Ok(row.get(0)?))?;
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

    fn uploaded(&mut self, user: UserId) -> Result<u64, Error> {
        let sql = "SELECT upload_bytes FROM users WHERE id = ?1";
        Ok(first(&self.conn, sql, &[&int(user.get())], |row| get_uint(row, 0))?.unwrap_or(0))
    }

    fn groups_named(&mut self, name: &str, max: u32) -> Result<Vec<(Group, u64)>, Error> {
        let sql = "SELECT g.id, g.name, g.owner, g.icon, g.cate, g.memo, g.created_ms, g.rule, g.members_add,
                      g.member_count
                   FROM chat_groups g WHERE g.name_key = ?1 AND NOT g.dissolved AND g.rule <> 2 ORDER BY g.id LIMIT ?2";
        all(&self.conn, sql, &[&fold(name), &max], |row| Ok((read_group(row)?, get_uint(row, 9)?)))
    }

    fn members(&mut self, group: GroupId, after: Option<UserId>, max: u32) -> Result<Vec<User>, Error> {
        let sql = "SELECT u.id, u.mobile, u.password, u.avatar, u.sex, u.nickname, u.memo, u.created_ms, u.token_epoch,
                          u.banned
                   FROM members m JOIN users u ON u.id = m.user_id
                   WHERE m.group_id = ?1 AND m.user_id > ?2 ORDER BY m.user_id LIMIT ?3";
        all(&self.conn, sql, &[&int(group.get()), &number(after), &max], read_user)
    }

    fn membership(&mut self, group: GroupId, user: UserId) -> Result<(u64, bool), Error> {
        let sql = "SELECT coalesce((SELECT member_count FROM chat_groups WHERE id = ?1), 0),
                          EXISTS (SELECT 1 FROM members WHERE group_id = ?1 AND user_id = ?2)";
        let params: [&dyn ToSql; 2] = [&int(group.get()), &int(user.get())];
        let found = first(&self.conn, sql, &params, |row| Ok((get_uint(row, 0)?, row.get(1)?)))?;
        Ok(found.unwrap_or_default())
    }

    fn update_group(&mut self, id: GroupId, owner: UserId, change: &GroupChange) -> Result<Option<Regrouped>, Error> {
        let GroupChange { name, icon, memo, rule, members_add } = change;
        let rule = rule.map(|rule| rule as u8);
        let key = name.as_deref().map(fold);
        self.transact(|conn| {
            let sql = "UPDATE chat_groups SET name = coalesce(?3, name), name_key = coalesce(?4, name_key),
                              icon = coalesce(?5, icon), memo = coalesce(?6, memo),
                              rule = coalesce(?7, rule), members_add = coalesce(?8, members_add)
                       WHERE id = ?1 AND owner = ?2 AND NOT dissolved
                       RETURNING id, name, owner, icon, cate, memo, created_ms, rule, members_add";
            let columns: [&dyn ToSql; 8] =
                [&int(id.get()), &int(owner.get()), name, &key, icon, memo, &rule, members_add];
            let before = group(conn, id)?;
            let changed = first(conn, sql, &columns, read_group)?;
            if changed.is_some() {
                refer_anew(conn, Place::Icon, id.get(), icon.as_ref())?;
            }
            Ok(before.zip(changed).map(|(before, group)| Regrouped { renamed: before.name != group.name, group }))
        })
    }

    fn dissolve(&mut self, id: GroupId, owner: UserId) -> Result<bool, Error> {
        self.transact(|conn| {
            let sql = "UPDATE chat_groups SET dissolved = 1 WHERE id = ?1 AND owner = ?2";
            let hers = conn.prepare_cached(sql)?.execute([int(id.get()), int(owner.get())])? > 0;
            debug_assert!(!hers || group(conn, id)?.is_none(), "nobody finds it");
            Ok(hers)
        })
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

/// Zero stands before every user.
pub(super) fn number(after: Option<UserId>) -> i64 {
    after.map_or(0, |after| int(after.get()))
}
