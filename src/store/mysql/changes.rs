//! What has changed about users.
//!
//! Owns: the table `changes`.
//! Never: begins or ends a transaction; the caller does.

use mysql::Value;

use super::fault::Fault;
use super::statement::{Session, Shape, broken, get_seq, get_uint, get_user, int};
use crate::ids::UserId;
use crate::limits::{CHANGES_KEPT_S, CHANGES_MAX, CHANGES_SETTLE_S};
use crate::store::changes::{Change, Changed, Changes, Note};

const NOTE: Shape = Shape {
    before: "INSERT INTO changes (user_id, kind, other, at_s) VALUES ",
    each: "(?, ?, ?, UNIX_TIMESTAMP())",
    width: 3,
    between: ", ",
    after: "",
};

/// Writes down what changes in this transaction; its last statement but COMMIT, so that numbers
/// appear soon after they were given.
pub(super) fn note(session: &mut Session, notes: impl IntoIterator<Item = (UserId, Note)>) -> Result<(), Fault> {
    let values = notes.into_iter().flat_map(|(user, note)| {
        let (kind, other) = note.columns();
        [int(user.get()), int(kind), int(other)]
    });
    session.write_all(&NOTE, &[], values.collect())?;
    Ok(())
}

/// See [`crate::store::Backend::changes`].
pub(super) fn changes(session: &mut Session, after: Option<u64>, max: u32) -> Result<Changes, Fault> {
    // Before the rows: what settles meanwhile is for the next answer.
    let sql = "SELECT CAST(COALESCE((SELECT MAX(id) FROM changes WHERE at_s < UNIX_TIMESTAMP() - ?), 0) AS UNSIGNED),
                      CAST(COALESCE((SELECT MIN(id) FROM changes WHERE at_s >= UNIX_TIMESTAMP() - ?), 0) AS UNSIGNED)";
    let settle = int(u64::from(CHANGES_SETTLE_S));
    let lines = session.first(sql, vec![settle.clone(), settle], |row| Ok((get_uint(row, 0)?, get_uint(row, 1)?)))?;
    let (old, young) = lines.unwrap_or_default();
    // Clocks may step back: no number is settled above one that is not.
    let settled = if young > 0 { old.min(young - 1) } else { old };
    let mut changes = Changes { settled, ..Changes::default() };
    let Some(after) = after else { return Ok(changes) };
    let max = max.clamp(1, CHANGES_MAX);
    let mut rows = session.rows(CHANGES, vec![int(after), int(u64::from(max) + 1)], |row| {
        let number = |column| get_uint(row, column);
        let id = number(0)?;
        if number(2)? > Note::LAST {
            // Of a gateway of a later version: it must not hold up the changes behind it.
            return Ok((id, None));
        }
        let what = match Note::from_columns(number(2)?, number(3)?) {
            Some(Note::Standing) => {
                let token_epoch =
                    u32::try_from(number(4)?).map_err(|_| broken("a token epoch is too large".to_owned()))?;
                Changed::Standing { token_epoch, banned: number(5)? != 0 }
            }
            Some(Note::Member(group)) => {
                let since = if row.as_ref(6) == Some(&Value::NULL) { None } else { Some(get_seq(row, 6)?) };
                Changed::Member { group, since }
            }
            Some(Note::Block(other)) => Changed::Block { other, on: number(7)? != 0 },
            Some(Note::Login(login)) => Changed::Login { login, alive: number(8)? != 0 },
            None => return Err(broken("a change of no known kind".to_owned())),
        };
        Ok((id, Some(Change { id, user: get_user(row, 1)?, what })))
    })?;
    changes.more = rows.len() > max as usize;
    rows.truncate(max as usize);
    changes.strange = rows.iter().rev().find(|(_, change)| change.is_none()).map(|(id, _)| *id);
    changes.list = rows.into_iter().filter_map(|(_, change)| change).collect();
    Ok(changes)
}

/// One look into each table for each row. The casts: what was computed with a literal may come back
/// as a decimal.
const CHANGES: &str = "
    SELECT c.id, c.user_id, c.kind, c.other, CAST(COALESCE(u.token_epoch, 0) AS UNSIGNED),
           CAST(COALESCE(u.banned, 1) AS UNSIGNED), m.since, b.owner IS NOT NULL,
           l.login IS NOT NULL
    FROM changes c
    LEFT JOIN users u ON u.id = c.user_id
    LEFT JOIN members m ON c.kind = 2 AND m.group_id = c.other AND m.user_id = c.user_id
    LEFT JOIN blocks b ON c.kind = 3 AND b.owner = c.user_id AND b.blocked = c.other
    LEFT JOIN logins l ON c.kind = 4 AND l.user_id = c.user_id AND l.login = c.other
    WHERE c.id > ? ORDER BY c.id LIMIT ?";

/// See [`crate::store::Backend::forget_changes`].
pub(super) fn forget(session: &mut Session, max: u32) -> Result<u64, Fault> {
    let sql = "DELETE FROM changes WHERE at_s < UNIX_TIMESTAMP() - ? ORDER BY at_s, id LIMIT ?";
    session.run(sql, vec![int(u64::from(CHANGES_KEPT_S)), int(u64::from(max))])
}
