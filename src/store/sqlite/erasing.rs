//! What is left of a user who was deleted.
//!
//! Never: touches a membership ([`super::append`]) or a message: those are in the others'
//! histories.

use rusqlite::Connection;

use super::changes::note;
use super::files::let_go;
use super::groups::end;
use super::logins::forget_logins;
use super::{first, int};
use crate::ids::UserId;
use crate::store::Error;
use crate::store::changes::Note;
use crate::store::folding::{ERASED_LIKE, ERASED_NICKNAME, ERASED_PASSWORD, erased_mobile};

/// See [`crate::store::People::erase`].
pub(super) fn erase(conn: &Connection, user: UserId) -> Result<bool, Error> {
    let id = int(user.get());
    let sql =
        "UPDATE users SET mobile = ?2, mobile_key = ?2, password = ?3, nickname = ?4, avatar = '', sex = '', memo = '',
                      token_epoch = token_epoch + 1, banned = 1, upload_bytes = 0
               WHERE id = ?1";
    let values = (id, erased_mobile(user), ERASED_PASSWORD, ERASED_NICKNAME);
    if conn.execute(sql, values)? == 0 {
        return Ok(false);
    }
    let sql =
        "DELETE FROM friends WHERE friend_id = ?1 AND user_id IN (SELECT friend_id FROM friends WHERE user_id = ?1)";
    conn.execute(sql, [id])?;
    conn.execute("DELETE FROM friends WHERE user_id = ?1", [id])?;
    conn.execute("DELETE FROM blocks WHERE owner = ?1", [id])?;
    conn.execute("DELETE FROM cursors WHERE user_id = ?1", [id])?;
    conn.execute("DELETE FROM past_members WHERE user_id = ?1", [id])?;
    conn.execute("DELETE FROM group_requests WHERE user_id = ?1", [id])?;
    forget_logins(conn, user)?;
    let_go(conn, id)?;
    hand_over(conn, id)?;
    note(conn, user, Note::Standing)?;
    Ok(true)
}

/// Groups go to the member who has been in them for longest; those without another one end.
fn hand_over(conn: &Connection, id: i64) -> Result<(), Error> {
    let mut statement = conn.prepare("SELECT id FROM chat_groups WHERE owner = ?1 AND NOT dissolved")?;
    let owned: Vec<i64> = statement.query_map([id], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for group in owned {
        // One who was deleted, too, may not have left yet.
        let sql = "SELECT m.user_id FROM members m JOIN users u ON u.id = m.user_id AND u.mobile NOT LIKE ?3
                   WHERE m.group_id = ?1 AND m.user_id <> ?2 ORDER BY m.since, m.user_id LIMIT 1";
        let heir: Option<i64> = first(conn, sql, &[&group, &id, &ERASED_LIKE], |row| Ok(row.get(0)?))?;
        match heir {
            Some(heir) => drop(conn.execute("UPDATE chat_groups SET owner = ?2 WHERE id = ?1", [group, heir])?),
            None => end(conn, group)?,
        }
    }
    Ok(())
}
