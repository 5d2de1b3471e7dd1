//! Rules, roles, links and requests of groups.
//!
//! Owns: the table `group_requests`; the columns about admission of `chat_groups` and `members`.

use rusqlite::Connection;

use super::append::user_exists;
use super::groups::read_group;
use super::people::read_user;
use super::social::number;
use super::{Error, Sqlite, all, exists, first, get_uint, get_user, int};
use crate::ids::{GroupId, UserId};
use crate::limits::{GROUP_ADMINS_MAX, GROUPS_OWNED_MAX, REQUESTS_OF_GROUP_MAX, REQUESTS_OF_USER_MAX};
use crate::store::{Admissions, Asked, Group, Role, Standing, User};

impl Admissions for Sqlite {
    fn standing(&mut self, group: GroupId, user: UserId) -> Result<Option<Standing>, Error> {
        let sql =
            "SELECT g.id, g.name, g.owner, g.icon, g.cate, g.memo, g.created_ms, g.rule, g.members_add, g.member_count,
                          m.role, EXISTS (SELECT 1 FROM past_members p WHERE p.group_id = ?1 AND p.user_id = ?2),
                          EXISTS (SELECT 1 FROM group_requests r WHERE r.group_id = ?1 AND r.user_id = ?2)
                   FROM chat_groups g LEFT JOIN members m ON m.group_id = g.id AND m.user_id = ?2
                   WHERE g.id = ?1 AND NOT g.dissolved";
        first(&self.conn, sql, &[&int(group.get()), &int(user.get())], |row| {
            let group = read_group(row)?;
            let role = match row.get::<_, Option<i64>>(10)? {
                None => None,
                Some(_) if group.owner == user => Some(Role::Owner),
                Some(0) => Some(Role::Member),
                Some(_) => Some(Role::Admin),
            };
            Ok(Standing { group, members: get_uint(row, 9)?, role, was_member: row.get(11)?, asked: row.get(12)? })
        })
    }

    fn admins(&mut self, group: GroupId) -> Result<Vec<UserId>, Error> {
        admins(&self.conn, group)
    }

    fn set_role(&mut self, group: GroupId, actor: UserId, user: UserId, role: Role) -> Result<bool, Error> {
        self.transact(|conn| set_role(conn, group, actor, user, role))
    }

    fn invite(&mut self, group: GroupId) -> Result<Option<String>, Error> {
        let sql = "SELECT invite FROM chat_groups WHERE id = ?1 AND NOT dissolved AND invite IS NOT NULL";
        first(&self.conn, sql, &[&int(group.get())], |row| Ok(row.get(0)?))
    }

    fn set_invite(&mut self, group: GroupId, secret: Option<&str>) -> Result<(), Error> {
        self.transact(|conn| {
            let sql = "UPDATE chat_groups SET invite = ?2 WHERE id = ?1";
            conn.prepare_cached(sql)?.execute((int(group.get()), secret))?;
            Ok(())
        })
    }

    fn invited(&mut self, secret: &str) -> Result<Option<(Group, u64)>, Error> {
        let sql =
            "SELECT id, name, owner, icon, cate, memo, created_ms, rule, members_add, member_count FROM chat_groups
                   WHERE invite = ?1 AND NOT dissolved";
        first(&self.conn, sql, &[&secret], |row| Ok((read_group(row)?, get_uint(row, 9)?)))
    }

    fn ask(&mut self, group: GroupId, user: UserId, now_ms: u64) -> Result<Asked, Error> {
        self.transact(|conn| {
            if !user_exists(conn, user)? {
                return Ok(Asked::NoSuchUser);
            }
            let (group, user) = (int(group.get()), int(user.get()));
            if !exists(conn, "SELECT 1 FROM chat_groups WHERE id = ?1 AND NOT dissolved", &[&group])? {
                return Ok(Asked::NoSuchGroup);
            }
            let known = "SELECT 1 FROM group_requests WHERE group_id = ?1 AND user_id = ?2
                         UNION ALL SELECT 1 FROM members WHERE group_id = ?1 AND user_id = ?2";
            if exists(conn, known, &[&group, &user])? {
                return Ok(Asked::Standing);
            }
            let of_user = "SELECT 1 FROM group_requests WHERE user_id = ?1 LIMIT 1 OFFSET ?2";
            let of_group = "SELECT 1 FROM group_requests WHERE group_id = ?1 LIMIT 1 OFFSET ?2";
            if exists(conn, of_user, &[&user, &(REQUESTS_OF_USER_MAX - 1)])?
                || exists(conn, of_group, &[&group, &(REQUESTS_OF_GROUP_MAX - 1)])?
            {
                return Ok(Asked::TooMany);
            }
            let sql = "INSERT INTO group_requests (group_id, user_id, at_ms) VALUES (?1, ?2, ?3)";
            conn.prepare_cached(sql)?.execute([group, user, int(now_ms)])?;
            Ok(Asked::Standing)
        })
    }

    fn requests(&mut self, group: GroupId, after: Option<UserId>, max: u32) -> Result<Vec<User>, Error> {
        let sql = "SELECT u.id, u.mobile, u.password, u.avatar, u.sex, u.nickname, u.memo, u.created_ms, u.token_epoch,
                          u.banned
                   FROM group_requests r JOIN users u ON u.id = r.user_id
                   WHERE r.group_id = ?1 AND r.user_id > ?2 ORDER BY r.user_id LIMIT ?3";
        all(&self.conn, sql, &[&int(group.get()), &number(after), &max], read_user)
    }

    fn forget_request(&mut self, group: GroupId, user: UserId) -> Result<bool, Error> {
        self.transact(|conn| forget_request(conn, group, user))
    }
}

fn admins(conn: &Connection, group: GroupId) -> Result<Vec<UserId>, Error> {
    let sql = "SELECT m.user_id FROM members m JOIN chat_groups g ON g.id = m.group_id
               WHERE m.group_id = ?1 AND m.role = 1 AND m.user_id <> g.owner ORDER BY m.user_id";
    all(conn, sql, &[&int(group.get())], |row| get_user(row, 0))
}

fn set_role(conn: &Connection, group: GroupId, actor: UserId, user: UserId, role: Role) -> Result<bool, Error> {
    let place = [int(group.get()), int(user.get())];
    let known = "SELECT 1 FROM members m JOIN chat_groups g ON g.id = m.group_id AND NOT g.dissolved
                 WHERE m.group_id = ?1 AND m.user_id = ?2 AND g.owner = ?3";
    // A member who was deleted may not have left yet.
    if !exists(conn, known, &[&place[0], &place[1], &int(actor.get())])? || !user_exists(conn, user)? {
        return Ok(false);
    }
    if role == Role::Owner {
        let full = "SELECT 1 FROM chat_groups WHERE owner = ?1 AND id <> ?2 AND NOT dissolved LIMIT 1 OFFSET ?3";
        if exists(conn, full, &[&place[1], &place[0], &(i64::from(GROUPS_OWNED_MAX) - 1)])? {
            return Ok(false);
        }
        let sql = "UPDATE members SET role = 1 WHERE group_id = ?1
                   AND user_id = (SELECT owner FROM chat_groups WHERE id = ?1)";
        conn.prepare_cached(sql)?.execute([place[0]])?;
        conn.prepare_cached("UPDATE chat_groups SET owner = ?2 WHERE id = ?1")?.execute(place)?;
    } else if role == Role::Admin
        && admins(conn, group)?.iter().filter(|admin| **admin != user).count() >= GROUP_ADMINS_MAX
    {
        return Ok(false);
    }
    let number = i64::from(role != Role::Member);
    let sql = "UPDATE members SET role = ?3 WHERE group_id = ?1 AND user_id = ?2";
    conn.prepare_cached(sql)?.execute([place[0], place[1], number])?;
    Ok(true)
}

/// Forgets all requests for a group that has ended.
pub(super) fn forget_requests(conn: &Connection, group: i64) -> Result<(), Error> {
    conn.prepare_cached("DELETE FROM group_requests WHERE group_id = ?1")?.execute([group])?;
    Ok(())
}

pub(super) fn forget_request(conn: &Connection, group: GroupId, user: UserId) -> Result<bool, Error> {
    let sql = "DELETE FROM group_requests WHERE group_id = ?1 AND user_id = ?2";
    Ok(conn.prepare_cached(sql)?.execute([int(group.get()), int(user.get())])? > 0)
}
