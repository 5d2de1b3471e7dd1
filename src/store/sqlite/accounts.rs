//! Users, groups and blocks, for the control plane.
//!
//! Owns: their rows and the mapping to [`User`] and [`Group`].
//! Never: begins or ends a transaction; the caller does.

use rusqlite::{Connection, Row};

use super::append::{add_member, joined_too_many, user_exists};
use super::changes::note;
use super::files::refer;
use super::seed::next_id;
use super::{Error, exists, first, get_group, get_uint, get_user, int};
use crate::ids::{GroupId, Seq, UserId};
use crate::store::changes::Note;
use crate::store::files::Place;
use crate::store::folding::fold;
use crate::store::{Group, NewGroup, NewUser, Rule, User};

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
    let columns: [&dyn rusqlite::ToSql; 9] =
        [&new.mobile, &key, &new.password, &new.avatar, &new.sex, &new.nickname, &new.memo, &created, &id];
    let user = first(conn, sql, &columns, read_user)?;
    if let Some(user) = &user {
        refer(conn, Place::Avatar, int(user.id.get()), 0, &new.avatar)?;
    }
    Ok(user)
}

/// The wanted number if it is above every one given so far; AUTOINCREMENT goes on above it. `None`:
/// AUTOINCREMENT decides.
fn kept_number(conn: &Connection, table: &str, wanted: Option<u64>) -> Result<Option<i64>, Error> {
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

/// `None`: the owner has too many, or does not exist.
pub(super) fn create_group(conn: &Connection, new: &NewGroup) -> Result<Option<Group>, Error> {
    let owner = int(new.owner.get());
    let owned = first(conn, "SELECT count(*) FROM chat_groups WHERE owner = ?1 AND NOT dissolved", &[&owner], |row| {
        get_uint(row, 0)
    })?;
    let full = owned.is_none_or(|n| n >= u64::from(new.owned_max));
    if full || !user_exists(conn, new.owner)? || joined_too_many(conn, new.owner)? {
        return Ok(None);
    }
    let sql = "INSERT INTO chat_groups (id, name, name_key, owner, icon, cate, memo, created_ms, rule)
               VALUES (?8, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?9)
               RETURNING id, name, owner, icon, cate, memo, created_ms, rule, members_add";
    let (key, created) = (fold(&new.name), int(new.created_ms));
    let id = kept_number(conn, "chat_groups", new.wanted.map(GroupId::get))?;
    let rule = new.rule as u8;
    let columns: [&dyn rusqlite::ToSql; 9] =
        [&new.name, &key, &owner, &new.icon, &new.cate, &new.memo, &created, &id, &rule];
    let group = first(conn, sql, &columns, read_group)?;
    if let Some(group) = &group {
        add_member(conn, group.id, group.owner, Seq::ZERO)?;
        note(conn, group.owner, Note::Member(group.id))?;
        refer(conn, Place::Icon, int(group.id.get()), 0, &new.icon)?;
    }
    Ok(group)
}

pub(super) fn group(conn: &Connection, id: GroupId) -> Result<Option<Group>, Error> {
    let sql = "SELECT id, name, owner, icon, cate, memo, created_ms, rule, members_add
               FROM chat_groups WHERE id = ?1 AND NOT dissolved";
    first(conn, sql, &[&int(id.get())], read_group)
}

pub(super) fn group_by_name(conn: &Connection, name: &str) -> Result<Option<Group>, Error> {
    let sql = "SELECT id, name, owner, icon, cate, memo, created_ms, rule, members_add
               FROM chat_groups
               WHERE name_key = ?1 AND NOT dissolved AND rule <> 2
               ORDER BY id LIMIT 1";
    first(conn, sql, &[&fold(name)], read_group)
}

pub(super) fn groups_of(conn: &Connection, user: UserId) -> Result<Vec<(Group, u64)>, Error> {
    let sql = "SELECT g.id, g.name, g.owner, g.icon, g.cate, g.memo, g.created_ms, g.rule, g.members_add,
                      g.member_count
               FROM members m JOIN chat_groups g ON g.id = m.group_id WHERE m.user_id = ?1 AND NOT g.dissolved ORDER BY g.id";
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query([int(user.get())])?;
    let mut groups = Vec::new();
    while let Some(row) = rows.next()? {
        groups.push((read_group(row)?, get_uint(row, 9)?));
    }
    Ok(groups)
}

pub(super) fn read_group(row: &Row<'_>) -> Result<Group, Error> {
    Ok(Group {
        id: get_group(row, 0)?,
        name: row.get(1)?,
        owner: get_user(row, 2)?,
        icon: row.get(3)?,
        cate: row.get(4)?,
        memo: row.get(5)?,
        created_ms: get_uint(row, 6)?,
        rule: get_rule(get_uint(row, 7)?)?,
        members_add: row.get(8)?,
    })
}

fn get_rule(number: u64) -> Result<Rule, Error> {
    Rule::from_number(number).ok_or_else(|| Error::Broken(format!("{number} is no rule of a group")))
}

pub(super) fn block(conn: &Connection, owner: UserId, other: UserId, on: bool) -> Result<(), Error> {
    let sql = if on {
        "INSERT INTO blocks (owner, blocked) VALUES (?1, ?2) ON CONFLICT (owner, blocked) DO NOTHING"
    } else {
        "DELETE FROM blocks WHERE owner = ?1 AND blocked = ?2"
    };
    if conn.prepare_cached(sql)?.execute([int(owner.get()), int(other.get())])? > 0 {
        note(conn, owner, Note::Block(other))?;
    }
    Ok(())
}
