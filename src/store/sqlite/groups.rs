//! Groups, for the control plane.
//!
//! Owns: their rows, the flag of those that were dissolved, and the mapping to [`Group`].
//! Never: touches a membership but the owner's first; that is the order's ([`super::append`]).

use rusqlite::{Connection, Row, ToSql};

use super::admissions::forget_requests;
use super::append::{add_member, joined_too_many, user_exists};
use super::changes::note;
use super::files::{refer, refer_anew, release};
use super::people::{kept_number, read_user};
use super::social::number;
use super::{Sqlite, all, exists, first, get_group, get_uint, get_user, int};
use crate::ids::{GroupId, Seq, UserId};
use crate::store::changes::Note;
use crate::store::files::Place;
use crate::store::folding::fold;
use crate::store::{Error, Group, GroupChange, Groups, NewGroup, Regrouped, Rule, User};

impl Groups for Sqlite {
    fn create_group(&mut self, group: &NewGroup) -> Result<Option<Group>, Error> {
        self.transact(|conn| create_group(conn, group))
    }

    fn group(&mut self, id: GroupId) -> Result<Option<Group>, Error> {
        group(&self.conn, id)
    }

    fn group_by_name(&mut self, name: &str) -> Result<Option<Group>, Error> {
        group_by_name(&self.conn, name)
    }

    fn groups_named(&mut self, name: &str, max: u32) -> Result<Vec<(Group, u64)>, Error> {
        let sql = "SELECT g.id, g.name, g.owner, g.icon, g.cate, g.memo, g.created_ms, g.rule, g.members_add,
                      g.member_count
                   FROM chat_groups g WHERE g.name_key = ?1 AND NOT g.dissolved AND g.rule <> 2 ORDER BY g.id LIMIT ?2";
        all(&self.conn, sql, &[&fold(name), &max], |row| Ok((read_group(row)?, get_uint(row, 9)?)))
    }

    fn groups_of(&mut self, user: UserId) -> Result<Vec<(Group, u64)>, Error> {
        groups_of(&self.conn, user)
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

    fn owner(&mut self, id: GroupId) -> Result<Option<UserId>, Error> {
        first(&self.conn, "SELECT owner FROM chat_groups WHERE id = ?1", &[&int(id.get())], |row| get_user(row, 0))
    }

    fn dissolve(&mut self, id: GroupId, owner: UserId) -> Result<bool, Error> {
        self.transact(|conn| {
            let owned = "SELECT 1 FROM chat_groups WHERE id = ?1 AND owner = ?2";
            let hers = exists(conn, owned, &[&int(id.get()), &int(owner.get())])?;
            if hers {
                end(conn, int(id.get()))?;
            }
            debug_assert!(!hers || group(conn, id)?.is_none(), "nobody finds it");
            Ok(hers)
        })
    }
}

/// Ends a group, and what it holds or waits for.
pub(super) fn end(conn: &Connection, group: i64) -> Result<(), Error> {
    conn.prepare_cached("UPDATE chat_groups SET dissolved = 1 WHERE id = ?1")?.execute([group])?;
    forget_requests(conn, group)?;
    release(conn, Place::Icon, group, 0..1)
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
    let columns: [&dyn ToSql; 9] = [&new.name, &key, &owner, &new.icon, &new.cate, &new.memo, &created, &id, &rule];
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
