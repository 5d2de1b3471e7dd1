//! Groups, for the control plane.
//!
//! Owns: their rows, the flags of those that were dissolved, and the mapping to [`Group`].
//! Never: touches a membership but the owner's first; that is the order's ([`super::append`]).
//!
//! Whatever counts or compares locks the row of its user or group first, so that two gateways do
//! it one after the other.

use mysql::{Row, Value};

use super::admissions::lock_group;
use super::changes::note;
use super::fault::Fault;
use super::files::{Gone, Text, refer, refer_anew};
use super::people::read_user;
use super::social::{lock_user, number};
use super::statement::{Session, broken, get_group, get_int, get_uint, get_user, given, int, take_text, text};
use super::{Mysql, reserve_from};
use crate::ids::{GroupId, Kind, UserId};
use crate::limits::GROUPS_JOINED_MAX;
use crate::store::changes::Note;
use crate::store::files::Place;
use crate::store::folding::fold;
use crate::store::{Error, Group, GroupChange, Groups, NewGroup, Regrouped, Rule, User};

impl Groups for Mysql {
    fn create_group(&mut self, group: &NewGroup) -> Result<Option<Group>, Error> {
        Ok(self.transact(|session| create_group(session, group))?)
    }

    fn group(&mut self, id: GroupId) -> Result<Option<Group>, Error> {
        self.ask(|session| group(session, id))
    }

    fn group_by_name(&mut self, name: &str) -> Result<Option<Group>, Error> {
        self.ask(|session| group_by_name(session, name))
    }

    fn groups_named(&mut self, name: &str, max: u32) -> Result<Vec<(Group, u64)>, Error> {
        let sql = "SELECT g.id, g.name, g.owner, g.icon, g.cate, g.memo, g.created_ms, g.rule, g.members_add,
                      g.member_count
                   FROM chat_groups g WHERE g.name_key = ? AND NOT g.dissolved AND g.rule <> 2 ORDER BY g.id LIMIT ?";
        let values = vec![text(&fold(name)), int(u64::from(max))];
        self.ask(|session| session.rows(sql, values.clone(), |row| Ok((read_group(row)?, get_uint(row, 9)?))))
    }

    fn groups_of(&mut self, user: UserId) -> Result<Vec<(Group, u64)>, Error> {
        self.ask(|session| groups_of(session, user))
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

    fn owner(&mut self, id: GroupId) -> Result<Option<UserId>, Error> {
        let (sql, values) = ("SELECT owner FROM chat_groups WHERE id = ?", vec![int(id.get())]);
        self.ask(|session| session.first(sql, values.clone(), |row| get_user(row, 0)))
    }

    fn dissolve(&mut self, id: GroupId, owner: UserId) -> Result<bool, Error> {
        Ok(self.transact(|session| {
            let conv = lock_group(session, id)?;
            let sql = "SELECT id FROM chat_groups WHERE id = ? AND owner = ?";
            let hers = session.first(sql, vec![int(id.get()), int(owner.get())], |row| get_uint(row, 0))?;
            let (Some(conv), Some(_)) = (conv, hers) else { return Ok(false) };
            end(session, id, Some(conv))?;
            // Files are locked behind everything else.
            refer(session, &[Gone::only(Place::Icon, id.get())], &[])?;
            Ok(true)
        })?)
    }
}

/// Ends a group, the conversation of which is locked and has that row, but for what its icon holds.
pub(super) fn end(session: &mut Session, group: GroupId, conv: Option<u64>) -> Result<(), Fault> {
    if let Some(conv) = conv {
        session.run("UPDATE convs SET closed = TRUE WHERE conv = ?", vec![int(conv)])?;
    }
    session.run("UPDATE chat_groups SET dissolved = TRUE WHERE id = ?", vec![int(group.get())])?;
    session.run("DELETE FROM group_requests WHERE group_id = ?", vec![int(group.get())])?;
    Ok(())
}

/// `None`: the owner has too many, or does not exist any more.
pub(super) fn create_group(session: &mut Session, new: &NewGroup) -> Result<Option<Group>, Fault> {
    let owner = int(new.owner.get());
    // Locked, so that two gateways count one after the other.
    let known = lock_user(session, new.owner)?;
    let owned = count(session, "SELECT COUNT(*) FROM chat_groups WHERE owner = ? AND NOT dissolved", &owner)?;
    let joined = count(session, "SELECT COUNT(*) FROM members WHERE user_id = ?", &owner)?;
    if !known || owned >= u64::from(new.owned_max) || joined >= u64::from(GROUPS_JOINED_MAX) {
        return Ok(None);
    }
    let raw = reserve_from(session, "next_group", new.wanted.map_or(0, GroupId::get))?;
    let id = GroupId::new(raw).ok_or_else(|| broken("the group ids are used up".to_owned()))?;
    let sql = "INSERT INTO chat_groups (id, name, name_key, owner, icon, cate, memo, created_ms, member_count, rule)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1, ?)";
    let values = vec![
        int(raw),
        text(&new.name),
        text(&fold(&new.name)),
        owner.clone(),
        text(&new.icon),
        Value::Int(new.cate),
        text(&new.memo),
        int(new.created_ms),
        int(new.rule as u64),
    ];
    session.run(sql, values)?;
    let sql = "INSERT INTO convs (kind, a, b, head, floor, hidden) VALUES (?, ?, 0, 0, 1, ?)";
    let hidden = u64::from(new.rule == Rule::Invitation);
    session.run(sql, vec![int(Kind::Group as u64), int(raw), int(hidden)])?;
    session.run("INSERT INTO members (group_id, user_id, since) VALUES (?, ?, 0)", vec![int(raw), owner])?;
    refer(session, &[], &[Text { place: Place::Icon, a: raw, b: 0, text: &new.icon }])?;
    let made = group(session, id)?;
    note(session, [(new.owner, Note::Member(id))])?;
    Ok(made)
}

fn count(session: &mut Session, sql: &'static str, of: &Value) -> Result<u64, Fault> {
    Ok(session.first(sql, vec![of.clone()], |row| get_uint(row, 0))?.unwrap_or(0))
}

pub(super) fn group(session: &mut Session, id: GroupId) -> Result<Option<Group>, Fault> {
    let sql = "SELECT id, name, owner, icon, cate, memo, created_ms, rule, members_add
               FROM chat_groups WHERE id = ? AND NOT dissolved";
    session.first(sql, vec![int(id.get())], read_group)
}

pub(super) fn group_by_name(session: &mut Session, name: &str) -> Result<Option<Group>, Fault> {
    let sql = "SELECT id, name, owner, icon, cate, memo, created_ms, rule, members_add
               FROM chat_groups
               WHERE name_key = ? AND NOT dissolved AND rule <> 2
               ORDER BY id LIMIT 1";
    session.first(sql, vec![text(&fold(name))], read_group)
}

pub(super) fn groups_of(session: &mut Session, user: UserId) -> Result<Vec<(Group, u64)>, Fault> {
    let sql = "SELECT g.id, g.name, g.owner, g.icon, g.cate, g.memo, g.created_ms, g.rule, g.members_add,
                      g.member_count
               FROM members m JOIN chat_groups g ON g.id = m.group_id WHERE m.user_id = ? AND NOT g.dissolved ORDER BY g.id";
    session.rows(sql, vec![int(user.get())], |row| Ok((read_group(row)?, get_uint(row, 9)?)))
}

pub(super) fn read_group(row: &mut Row) -> Result<Group, Fault> {
    Ok(Group {
        id: get_group(row, 0)?,
        name: take_text(row, 1)?,
        owner: get_user(row, 2)?,
        icon: take_text(row, 3)?,
        cate: get_int(row, 4)?,
        memo: take_text(row, 5)?,
        created_ms: get_uint(row, 6)?,
        rule: get_rule(get_uint(row, 7)?)?,
        members_add: get_uint(row, 8)? != 0,
    })
}

fn get_rule(number: u64) -> Result<Rule, Fault> {
    Rule::from_number(number).ok_or_else(|| broken(format!("{number} is no rule of a group")))
}
