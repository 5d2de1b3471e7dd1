//! Rules, roles, links and requests of groups.
//!
//! Owns: the table `group_requests`; the columns about admission of `chat_groups` and `members`.
//! Whatever counts locks the group's conversation first, as a batch of writes does.

use mysql::Value;

use super::Mysql;
use super::fault::Fault;
use super::groups::read_group;
use super::people::read_user;
use super::social::{lock_user, number};
use super::statement::{Session, get_uint, get_user, int, take_text, text};
use crate::ids::{GroupId, Kind, UserId};
use crate::limits::{GROUP_ADMINS_MAX, GROUPS_OWNED_MAX, REQUESTS_OF_GROUP_MAX, REQUESTS_OF_USER_MAX};
use crate::store::{Admissions, Asked, Error, Group, Role, Standing, User};

impl Admissions for Mysql {
    fn standing(&mut self, group: GroupId, user: UserId) -> Result<Option<Standing>, Error> {
        let sql =
            "SELECT g.id, g.name, g.owner, g.icon, g.cate, g.memo, g.created_ms, g.rule, g.members_add, g.member_count,
                          CAST(COALESCE(m.role + 1, 0) AS UNSIGNED),
                          EXISTS (SELECT 1 FROM past_members p WHERE p.group_id = g.id AND p.user_id = ?),
                          EXISTS (SELECT 1 FROM group_requests r WHERE r.group_id = g.id AND r.user_id = ?)
                   FROM chat_groups g LEFT JOIN members m ON m.group_id = g.id AND m.user_id = ?
                   WHERE g.id = ? AND NOT g.dissolved";
        let id = || int(user.get());
        let values = vec![id(), id(), id(), int(group.get())];
        self.ask(|session| {
            session.first(sql, values.clone(), |row| {
                let group = read_group(row)?;
                let role = match get_uint(row, 10)? {
                    0 => None,
                    _ if group.owner == user => Some(Role::Owner),
                    1 => Some(Role::Member),
                    _ => Some(Role::Admin),
                };
                let (was_member, asked) = (get_uint(row, 11)? != 0, get_uint(row, 12)? != 0);
                Ok(Standing { group, members: get_uint(row, 9)?, role, was_member, asked })
            })
        })
    }

    fn admins(&mut self, group: GroupId) -> Result<Vec<UserId>, Error> {
        self.ask(|session| admins(session, group))
    }

    fn set_role(&mut self, group: GroupId, actor: UserId, user: UserId, role: Role) -> Result<bool, Error> {
        Ok(self.transact(|session| set_role(session, group, actor, user, role))?)
    }

    fn invite(&mut self, group: GroupId) -> Result<Option<String>, Error> {
        let sql = "SELECT invite FROM chat_groups WHERE id = ? AND NOT dissolved AND invite IS NOT NULL";
        let values = vec![int(group.get())];
        self.ask(|session| session.first(sql, values.clone(), |row| take_text(row, 0)))
    }

    fn set_invite(&mut self, group: GroupId, secret: Option<&str>) -> Result<(), Error> {
        let sql = "UPDATE chat_groups SET invite = ? WHERE id = ?";
        let values = vec![secret.map_or(Value::NULL, text), int(group.get())];
        Ok(self.transact(|session| session.run(sql, values).map(|_| ()))?)
    }

    fn invited(&mut self, secret: &str) -> Result<Option<(Group, u64)>, Error> {
        let sql =
            "SELECT id, name, owner, icon, cate, memo, created_ms, rule, members_add, member_count FROM chat_groups
                   WHERE invite = ? AND NOT dissolved";
        let values = vec![text(secret)];
        self.ask(|session| session.first(sql, values.clone(), |row| Ok((read_group(row)?, get_uint(row, 9)?))))
    }

    fn ask(&mut self, group: GroupId, user: UserId, now_ms: u64) -> Result<Asked, Error> {
        Ok(self.transact(|session| {
            // In the order of every batch.
            if !lock_user(session, user)? {
                return Ok(Asked::NoSuchUser);
            }
            lock_group(session, group)?;
            let (group, user) = (int(group.get()), int(user.get()));
            let mut count = |sql: &'static str, values: Vec<Value>| -> Result<u64, Fault> {
                Ok(session.first(sql, values, |row| get_uint(row, 0))?.unwrap_or(0))
            };
            if count("SELECT COUNT(*) FROM chat_groups WHERE id = ? AND NOT dissolved", vec![group.clone()])? == 0 {
                return Ok(Asked::NoSuchGroup);
            }
            for known in [
                "SELECT COUNT(*) FROM group_requests WHERE group_id = ? AND user_id = ?",
                "SELECT COUNT(*) FROM members WHERE group_id = ? AND user_id = ?",
            ] {
                if count(known, vec![group.clone(), user.clone()])? > 0 {
                    return Ok(Asked::Standing);
                }
            }
            let of_user = count("SELECT COUNT(*) FROM group_requests WHERE user_id = ?", vec![user.clone()])?;
            let of_group = count("SELECT COUNT(*) FROM group_requests WHERE group_id = ?", vec![group.clone()])?;
            if of_user >= u64::from(REQUESTS_OF_USER_MAX) || of_group >= u64::from(REQUESTS_OF_GROUP_MAX) {
                return Ok(Asked::TooMany);
            }
            let sql = "INSERT INTO group_requests (group_id, user_id, at_ms) VALUES (?, ?, ?)";
            session.run(sql, vec![group, user, int(now_ms)])?;
            Ok(Asked::Standing)
        })?)
    }

    fn requests(&mut self, group: GroupId, after: Option<UserId>, max: u32) -> Result<Vec<User>, Error> {
        let sql = "SELECT u.id, u.mobile, u.password, u.avatar, u.sex, u.nickname, u.memo, u.created_ms, u.token_epoch,
                          u.banned
                   FROM group_requests r JOIN users u ON u.id = r.user_id
                   WHERE r.group_id = ? AND r.user_id > ? ORDER BY r.user_id LIMIT ?";
        let values = vec![int(group.get()), number(after), int(u64::from(max))];
        self.ask(|session| session.rows(sql, values.clone(), read_user))
    }

    fn forget_request(&mut self, group: GroupId, user: UserId) -> Result<bool, Error> {
        let sql = "DELETE FROM group_requests WHERE group_id = ? AND user_id = ?";
        let values = vec![int(group.get()), int(user.get())];
        Ok(self.transact(|session| Ok(session.run(sql, values)? > 0))?)
    }
}

/// Locks a group's conversation, the row of which this is the number, until the transaction ends; a
/// batch of writes does so, too.
pub(super) fn lock_group(session: &mut Session, group: GroupId) -> Result<Option<u64>, Fault> {
    let sql = "SELECT conv FROM convs WHERE kind = ? AND a = ? AND b = 0 FOR UPDATE";
    session.first(sql, vec![int(Kind::Group as u64), int(group.get())], |row| get_uint(row, 0))
}

fn admins(session: &mut Session, group: GroupId) -> Result<Vec<UserId>, Fault> {
    let sql = "SELECT m.user_id FROM members m JOIN chat_groups g ON g.id = m.group_id
               WHERE m.group_id = ? AND m.role = 1 AND m.user_id <> g.owner ORDER BY m.user_id";
    session.rows(sql, vec![int(group.get())], |row| get_user(row, 0))
}

fn set_role(session: &mut Session, group: GroupId, actor: UserId, user: UserId, role: Role) -> Result<bool, Fault> {
    // In the order of every batch. A member who was deleted may not have left yet.
    if !lock_user(session, user)? {
        return Ok(false);
    }
    lock_group(session, group)?;
    let (id, of) = (|| int(group.get()), || int(user.get()));
    let known = "SELECT g.owner FROM members m JOIN chat_groups g ON g.id = m.group_id AND NOT g.dissolved
                 WHERE m.group_id = ? AND m.user_id = ?";
    let owner = session.first(known, vec![id(), of()], |row| get_user(row, 0))?;
    let Some(owner) = owner.filter(|owner| *owner == actor) else { return Ok(false) };
    let set = "UPDATE members SET role = ? WHERE group_id = ? AND user_id = ?";
    if role == Role::Owner {
        let owned = "SELECT COUNT(*) FROM chat_groups WHERE owner = ? AND id <> ? AND NOT dissolved";
        let owned = session.first(owned, vec![of(), id()], |row| get_uint(row, 0))?;
        if owned.unwrap_or(0) >= u64::from(GROUPS_OWNED_MAX) {
            return Ok(false);
        }
        session.run(set, vec![int(1), id(), int(owner.get())])?;
        session.run("UPDATE chat_groups SET owner = ? WHERE id = ?", vec![of(), id()])?;
    } else if role == Role::Admin
        && admins(session, group)?.iter().filter(|admin| **admin != user).count() >= GROUP_ADMINS_MAX
    {
        return Ok(false);
    }
    session.run(set, vec![int(u64::from(role != Role::Member)), id(), of()])?;
    Ok(true)
}
