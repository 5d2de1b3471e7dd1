//! Users, groups and blocks, for the control plane.
//!
//! Owns: their rows and the mapping to [`User`] and [`Group`].
//! Never: begins or ends a transaction; the caller does.

use mysql::{Row, Value};

use super::changes::note;
use super::fault::{DUPLICATE, Fault};
use super::files::{Text, refer};
use super::reserve_from;
use super::statement::{Session, broken, get_group, get_int, get_uint, get_user, int, take_text, text as text_value};
use crate::ids::{GroupId, Kind, UserId};
use crate::limits::GROUPS_JOINED_MAX;
use crate::store::changes::Note;
use crate::store::files::Place;
use crate::store::folding::fold;
use crate::store::{Group, NewGroup, NewUser, Rule, User};

/// `None`: the mobile number is taken. [`Fault::Raced`]: it is taken since a moment ago.
pub(super) fn create_user(session: &mut Session, new: &NewUser) -> Result<Option<User>, Fault> {
    let key = fold(&new.mobile);
    // Looked up first: a number that is taken costs no id.
    let sql = "SELECT id FROM users WHERE mobile_key = ?";
    if session.first(sql, vec![text_value(&key)], |row| get_user(row, 0))?.is_some() {
        return Ok(None);
    }
    let raw = reserve_from(session, "next_user", new.wanted.map_or(0, UserId::get))?;
    let id = UserId::new(raw).ok_or_else(|| broken("the user ids are used up".to_owned()))?;
    let sql = "INSERT INTO users (id, mobile, mobile_key, password, avatar, sex, nickname, memo, created_ms)
               VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let texts = [&new.mobile, &key, &new.password, &new.avatar, &new.sex, &new.nickname, &new.memo];
    let texts = texts.into_iter().map(|text| text_value(text));
    let values = [int(raw)].into_iter().chain(texts).chain([int(new.created_ms)]).collect();
    match session.run(sql, values) {
        Err(fault) if fault.is(DUPLICATE) => Err(Fault::Raced),
        Err(fault) => Err(fault),
        Ok(_) => {
            refer(session, &[], &[Text { place: Place::Avatar, a: raw, b: 0, text: &new.avatar }])?;
            user(session, id)
        }
    }
}

pub(super) fn user(session: &mut Session, id: UserId) -> Result<Option<User>, Fault> {
    let sql = "SELECT id, mobile, password, avatar, sex, nickname, memo, created_ms, token_epoch, banned
               FROM users WHERE id = ?";
    session.first(sql, vec![int(id.get())], read_user)
}

pub(super) fn user_by_mobile(session: &mut Session, mobile: &str) -> Result<Option<User>, Fault> {
    let sql = "SELECT id, mobile, password, avatar, sex, nickname, memo, created_ms, token_epoch, banned
               FROM users WHERE mobile_key = ?";
    session.first(sql, vec![text_value(&fold(mobile))], read_user)
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

/// `None`: the owner has too many, or does not exist.
pub(super) fn create_group(session: &mut Session, new: &NewGroup) -> Result<Option<Group>, Fault> {
    let owner = int(new.owner.get());
    // Locked, so that two gateways count one after the other.
    let sql = "SELECT id FROM users WHERE id = ? FOR UPDATE";
    let known = session.first(sql, vec![owner.clone()], |row| get_user(row, 0))?.is_some();
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
        text_value(&new.name),
        text_value(&fold(&new.name)),
        owner.clone(),
        text_value(&new.icon),
        Value::Int(new.cate),
        text_value(&new.memo),
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
    session.first(sql, vec![text_value(&fold(name))], read_group)
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

pub(super) fn block(session: &mut Session, owner: UserId, other: UserId, on: bool) -> Result<(), Fault> {
    let sql = if on {
        "INSERT IGNORE INTO blocks (owner, blocked) VALUES (?, ?)"
    } else {
        "DELETE FROM blocks WHERE owner = ? AND blocked = ?"
    };
    if session.run(sql, vec![int(owner.get()), int(other.get())])? > 0 {
        note(session, [(owner, Note::Block(other))])?;
    }
    Ok(())
}
