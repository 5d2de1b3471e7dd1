//! What is left of a user who was deleted.
//!
//! Never: touches a membership ([`super::append`]) or a message: those are in the others'
//! histories.

use super::admissions::lock_group;
use super::changes::note;
use super::fault::Fault;
use super::files::let_go;
use super::groups::end;
use super::logins::forget_logins;
use super::statement::{Session, get_group, get_uint, int, text};
use crate::ids::{GroupId, UserId};
use crate::store::changes::Note;
use crate::store::folding::{ERASED_LIKE, ERASED_NICKNAME, ERASED_PASSWORD, erased_mobile};

/// See [`crate::store::People::erase`].
pub(super) fn erase(session: &mut Session, user: UserId) -> Result<bool, Fault> {
    let id = || int(user.get());
    let sql = "SELECT id FROM users WHERE id = ? FOR UPDATE";
    if session.first(sql, vec![id()], |row| get_uint(row, 0))?.is_none() {
        return Ok(false);
    }
    let mobile = erased_mobile(user);
    let sql =
        "UPDATE users SET mobile = ?, mobile_key = ?, password = ?, nickname = ?, avatar = '', sex = '', memo = '',
                      token_epoch = token_epoch + 1, banned = TRUE, upload_bytes = 0
               WHERE id = ?";
    session.run(sql, vec![text(&mobile), text(&mobile), text(ERASED_PASSWORD), text(ERASED_NICKNAME), id()])?;
    // A subquery on the table itself is refused, hence the join.
    let sql = "DELETE f FROM friends f JOIN friends o ON o.user_id = f.friend_id AND o.friend_id = f.user_id
               WHERE o.user_id = ?";
    session.run(sql, vec![id()])?;
    session.run("DELETE FROM friends WHERE user_id = ?", vec![id()])?;
    session.run("DELETE FROM blocks WHERE owner = ?", vec![id()])?;
    session.run("DELETE FROM cursors WHERE user_id = ?", vec![id()])?;
    session.run("DELETE FROM past_members WHERE user_id = ?", vec![id()])?;
    session.run("DELETE FROM group_requests WHERE user_id = ?", vec![id()])?;
    forget_logins(session, user)?;
    let ended = hand_over(session, user)?;
    let_go(session, user, &ended)?;
    note(session, [(user, Note::Standing)]).map(|()| true)
}

/// Groups go to the member who has been in them for longest; those without another one end. Which
/// have ended.
fn hand_over(session: &mut Session, user: UserId) -> Result<Vec<GroupId>, Fault> {
    let mut ended = Vec::new();
    let sql = "SELECT id FROM chat_groups WHERE owner = ? AND NOT dissolved";
    let owned = session.rows(sql, vec![int(user.get())], |row| get_group(row, 0))?;
    for id in owned {
        let conv = lock_group(session, id)?;
        let group = id.get();
        // One who was deleted, too, may not have left yet.
        let sql = "SELECT m.user_id FROM members m JOIN users u ON u.id = m.user_id AND u.mobile NOT LIKE ?
                   WHERE m.group_id = ? AND m.user_id <> ? ORDER BY m.since, m.user_id LIMIT 1";
        let values = vec![text(ERASED_LIKE), int(group), int(user.get())];
        let heir = session.first(sql, values, |row| get_uint(row, 0))?;
        match heir {
            Some(heir) => {
                session.run("UPDATE chat_groups SET owner = ? WHERE id = ?", vec![int(heir), int(group)])?;
            }
            None => {
                end(session, id, conv)?;
                ended.push(id);
            }
        }
    }
    Ok(ended)
}
