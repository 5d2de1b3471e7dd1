//! Where users stand: cursors, and the conversations of many users with what is unread.
//!
//! Owns: the table `cursors`, the order of a user's conversations, the count of unread messages.
//! Never: begins or ends a transaction; the caller does.
//! Bounds: of a user with many conversations the newest of those in the index by time
//! ([`HEADS_SCAN_MAX`] where what is received is passed over); messages are counted as [`allot`]
//! says, and only for conversations that are in the answer.

use std::fmt::Write as _;

use rusqlite::{Connection, Row};

use super::append::{columns, get_conv};
use super::{Error, first, get_id, get_seq, get_uint, get_user, int};
use crate::ids::{ConvId, Seq, UserId};
use crate::limits::{DIRECTS_UNLISTED_MAX, HEADS_MAX, HEADS_SCAN_MAX, UNREAD_MAX};
use crate::store::folding::ERASED_LIKE;
use crate::store::newest::{PREVIEW_CHARS, is_shown, newest};
use crate::store::unread::{Count, allot};
use crate::store::{ConvState, Heads};

/// Keeps what is larger than before. The caller has judged whether it is the user's to say.
pub(super) fn keep_cursor(conn: &Connection, user: UserId, conv: i64, recv: Seq, read: Seq) -> Result<(), Error> {
    let sql = "INSERT INTO cursors (user_id, conv, recv_seq, read_seq)
               SELECT id, ?2, ?3, ?4 FROM users WHERE id = ?1 AND mobile NOT LIKE ?5
               ON CONFLICT (user_id, conv) DO UPDATE SET
                   recv_seq = max(recv_seq, excluded.recv_seq), read_seq = max(read_seq, excluded.read_seq)
               WHERE excluded.recv_seq > recv_seq OR excluded.read_seq > read_seq";
    conn.prepare_cached(sql)?.execute((int(user.get()), conv, int(recv.get()), int(read.get()), ERASED_LIKE))?;
    Ok(())
}

/// Removes the cursor of a membership that ends.
pub(super) fn forget_cursor(conn: &Connection, user: UserId, conv: i64) -> Result<(), Error> {
    conn.prepare_cached("DELETE FROM cursors WHERE user_id = ?1 AND conv = ?2")?.execute([int(user.get()), conv])?;
    Ok(())
}

/// Whether a user's direct conversations are in the index by time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Crowd {
    /// They are too few for it.
    Few,
    /// They will be too many with the next one, and are not there yet.
    Full,
    /// They are.
    Listed,
}

/// How many direct conversations a user has. Looks at [`DIRECTS_UNLISTED_MAX`] entries of an index
/// at most.
pub(super) fn crowd(conn: &Connection, user: UserId) -> Result<Crowd, Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM convs WHERE kind = 10 AND a = ?1 AND a_ms >= 0)
                   OR EXISTS (SELECT 1 FROM convs WHERE kind = 10 AND b = ?1 AND b_ms >= 0),
                      (SELECT count(*) FROM convs WHERE kind = 10 AND a = ?1 AND a_ms IS NULL)
                    + (SELECT count(*) FROM convs WHERE kind = 10 AND b = ?1 AND b_ms IS NULL AND a < b)";
    let found = first(conn, sql, &[&int(user.get())], |row| Ok((row.get::<_, bool>(0)?, get_uint(row, 1)?)))?;
    Ok(match found {
        Some((true, _)) => Crowd::Listed,
        Some((false, unlisted)) if unlisted + 1 >= DIRECTS_UNLISTED_MAX => Crowd::Full,
        _ => Crowd::Few,
    })
}

/// Puts a user's direct conversations into the index by time.
pub(super) fn list_all(conn: &Connection, user: UserId) -> Result<(), Error> {
    for sql in [
        "UPDATE convs SET a_ms = newest_ms WHERE kind = 10 AND a = ?1 AND a_ms IS NULL",
        "UPDATE convs SET b_ms = newest_ms WHERE kind = 10 AND b = ?1 AND b_ms IS NULL AND a < b",
    ] {
        conn.prepare_cached(sql)?.execute([int(user.get())])?;
    }
    Ok(())
}

/// One [`crate::store::Read::Heads`].
pub(super) struct Ask {
    pub(super) user: UserId,
    pub(super) before: Option<(u64, ConvId)>,
    pub(super) missed: bool,
    pub(super) max: u32,
}

/// A conversation in an answer, not yet counted.
struct Found {
    state: ConvState,
    /// Its row.
    conv: i64,
}

/// The answers to `asks`, in their order.
pub(super) fn heads(conn: &Connection, epoch: u64, asks: &[Ask]) -> Result<Vec<Heads>, Error> {
    let mut found = Vec::with_capacity(asks.len());
    for ask in asks {
        let (ms, (kind, a, b)) = ask.before.map_or((i64::MAX, (i64::MAX, 0, 0)), |(ms, conv)| (int(ms), columns(conv)));
        let most = ask.max.clamp(1, HEADS_MAX);
        let looks = if ask.missed { HEADS_SCAN_MAX } else { most + 1 };
        let mut statement = conn.prepare_cached(HEADS_SQL)?;
        let mut rows = statement.query((int(ask.user.get()), ms, kind, a, b, looks, !ask.missed, most + 1))?;
        let mut convs = Vec::new();
        while let Some(row) = rows.next()? {
            convs.push(read_found(row)?);
        }
        let more = convs.len() > most as usize;
        convs.truncate(most as usize);
        found.push((convs, more));
    }
    count_unread(conn, asks, &mut found)?;
    find_newest(conn, asks, &mut found)?;
    let answer = |(convs, more): (Vec<Found>, bool)| {
        let convs = convs.into_iter().map(|found| found.state).collect();
        Heads { convs, more, epoch }
    };
    Ok(found.into_iter().map(answer).collect())
}

fn place_of<T>(found: &mut [T], n: u64) -> Result<&mut T, Error> {
    let place = usize::try_from(n).ok().and_then(|n| found.get_mut(n));
    place.ok_or_else(|| Error::Broken(format!("an answer to ask {n}, which is none")))
}

/// One statement for all that must be looked at.
fn count_unread(conn: &Connection, asks: &[Ask], found: &mut [(Vec<Found>, bool)]) -> Result<(), Error> {
    let mut list = String::from("[");
    for (n, (ask, (convs, _))) in asks.iter().zip(&mut *found).enumerate() {
        for (k, count) in allot(convs.iter().map(|found| &found.state)).into_iter().enumerate() {
            let Some(one) = convs.get_mut(k) else { continue };
            let Count { from, looks, beyond } = count;
            one.state.unread = beyond;
            if looks > 0 {
                let comma = if list.len() == 1 { "" } else { "," };
                let _ = write!(list, "{comma}[{n},{k},{},{},{},{}]", one.conv, from.get(), looks, ask.user);
            }
        }
    }
    // Most users that connect have read all there is.
    if list.len() == 1 {
        return Ok(());
    }
    list.push(']');
    let mut statement = conn.prepare_cached(UNREAD_SQL)?;
    let mut rows = statement.query((&list, int(UNREAD_MAX)))?;
    while let Some(row) = rows.next()? {
        let (convs, _) = place_of(found, get_uint(row, 0)?)?;
        let one = place_of(convs, get_uint(row, 1)?)?;
        one.state.unread = (one.state.unread + get_uint(row, 2)?).min(UNREAD_MAX);
    }
    Ok(())
}

/// One statement for the newest messages of all whole lists.
fn find_newest(conn: &Connection, asks: &[Ask], found: &mut [(Vec<Found>, bool)]) -> Result<(), Error> {
    let mut list = String::from("[");
    for (n, (_, (convs, _))) in asks.iter().zip(&*found).enumerate().filter(|(_, (ask, _))| !ask.missed) {
        for (k, one) in convs.iter().enumerate().filter(|(_, one)| is_shown(&one.state)) {
            let comma = if list.len() == 1 { "" } else { "," };
            let _ = write!(list, "{comma}[{n},{k},{},{}]", one.conv, one.state.head);
        }
    }
    // Most users that connect have no conversations yet.
    if list.len() == 1 {
        return Ok(());
    }
    list.push(']');
    let mut statement = conn.prepare_cached(NEWEST_SQL)?;
    let mut rows = statement.query((&list, int(PREVIEW_CHARS)))?;
    while let Some(row) = rows.next()? {
        let (convs, _) = place_of(found, get_uint(row, 0)?)?;
        let body = row.get_ref(5)?.as_str().map_err(rusqlite::Error::from)?;
        let message = newest(get_id(row, 2)?, get_uint(row, 3)?, get_user(row, 4)?, body);
        place_of(convs, get_uint(row, 1)?)?.state.newest = Some(message);
    }
    Ok(())
}

/// The list of one user (?1) from a place on (?2 to ?5): direct conversations that are not in the
/// index by time; of those that are, the newest of each side, as many as are looked at (?6);
/// groups that were not dissolved. Whether all are wanted (?7), and how many (?8). CROSS JOIN keeps
/// the order of the tables as it stands here.
pub(super) const HEADS_SQL: &str = "
    WITH mine AS (
        SELECT conv, kind, a, b, head, floor, newest_ms, 0 AS since FROM convs INDEXED BY convs_of_smaller
        WHERE kind = 10 AND a = ?1 AND a_ms IS NULL
        UNION ALL
        SELECT conv, kind, a, b, head, floor, newest_ms, 0 FROM convs INDEXED BY convs_of_larger
        WHERE kind = 10 AND b = ?1 AND b_ms IS NULL AND a < b
        UNION ALL
        SELECT * FROM (
            SELECT conv, kind, a, b, head, floor, newest_ms, 0 FROM convs INDEXED BY convs_of_smaller
            WHERE kind = 10 AND a = ?1 AND a_ms <= ?2 AND (newest_ms, kind, a, b) < (?2, ?3, ?4, ?5)
            ORDER BY a_ms DESC, b DESC LIMIT ?6)
        UNION ALL
        SELECT * FROM (
            SELECT conv, kind, a, b, head, floor, newest_ms, 0 FROM convs INDEXED BY convs_of_larger
            WHERE kind = 10 AND b = ?1 AND b_ms <= ?2 AND (newest_ms, kind, a, b) < (?2, ?3, ?4, ?5)
            ORDER BY b_ms DESC, a DESC LIMIT ?6)
        UNION ALL
        SELECT c.conv, c.kind, c.a, c.b, c.head, c.floor, c.newest_ms, m.since
        FROM members m CROSS JOIN convs c CROSS JOIN chat_groups g
        WHERE m.user_id = ?1 AND c.kind = 11 AND c.a = m.group_id AND c.b = 0 AND g.id = m.group_id AND NOT g.dissolved
    ), page AS MATERIALIZED (
        SELECT * FROM mine m
        WHERE (newest_ms, kind, a, b) < (?2, ?3, ?4, ?5)
              AND (?7 OR (max(m.floor, m.since + 1) <= m.head AND NOT EXISTS (
                  SELECT 1 FROM cursors k WHERE k.user_id = ?1 AND k.conv = m.conv AND k.recv_seq >= m.head)))
        ORDER BY newest_ms DESC, kind DESC, a DESC, b DESC LIMIT ?8
    )
    SELECT p.kind, p.a, p.b, p.head, p.newest_ms, max(p.floor, p.since + 1), max(p.since, coalesce(k.recv_seq, 0)),
           max(p.since, coalesce(k.read_seq, 0)), p.conv
    FROM page p LEFT JOIN cursors k ON k.user_id = ?1 AND k.conv = p.conv
    ORDER BY p.newest_ms DESC, p.kind DESC, p.a DESC, p.b DESC";

/// `[n, k, conv, from, looks, user]` each: the messages from that number on that others wrote and
/// that can be read, among so many, up to a number (?2). All columns are in the index: messages lie
/// scattered over their table, and to look at a thousand would read as many pages.
pub(super) const UNREAD_SQL: &str = "
    SELECT q.value ->> 0, q.value ->> 1,
           (SELECT count(*) FROM
               (SELECT 1 FROM messages x
                WHERE x.conv = q.value ->> 2 AND x.seq >= q.value ->> 3 AND x.seq < (q.value ->> 3) + (q.value ->> 4)
                      AND x.sender <> q.value ->> 5 AND NOT x.hidden
                LIMIT ?2))
    FROM json_each(?1) q";

/// `[n, k, conv, seq]` each: that message, of its body the first characters (?2).
const NEWEST_SQL: &str = "
    SELECT q.value ->> 0, q.value ->> 1, x.id, x.ts_ms, x.sender, substr(x.body, 1, ?2)
    FROM json_each(?1) q CROSS JOIN messages x ON x.conv = q.value ->> 2 AND x.seq = q.value ->> 3";

fn read_found(row: &Row<'_>) -> Result<Found, Error> {
    let state = ConvState {
        conv: get_conv(row, 0)?,
        head: get_seq(row, 3)?,
        ts_ms: get_uint(row, 4)?,
        floor: get_seq(row, 5)?,
        recv: get_seq(row, 6)?,
        read: get_seq(row, 7)?,
        unread: 0,
        newest: None,
    };
    Ok(Found { state, conv: row.get(8)? })
}
