//! Where users stand: cursors, and the conversations of many users with what is unread, in one statement.
//!
//! Owns: the table `cursors`, the order of a user's conversations, the count of unread messages.
//! Never: begins or ends a transaction; the caller does.
//! Bounds: a count looks at [`UNREAD_SCAN_MAX`] messages, and only for conversations that are in the answer.

use std::fmt::Write as _;

use rusqlite::{Connection, Row};

use super::append::{columns, get_conv};
use super::{Error, get_seq, get_uint, int};
use crate::ids::{ConvId, GroupId, Seq, UserId};
use crate::limits::{HEADS_MAX, UNREAD_MAX, UNREAD_SCAN_MAX};
use crate::store::{ConvState, Heads};

/// Keeps what is larger than before. The caller has judged whether it is the user's to say.
pub(super) fn keep_cursor(conn: &Connection, user: UserId, conv: i64, recv: Seq, read: Seq) -> Result<(), Error> {
    let sql = "INSERT INTO cursors (user_id, conv, recv_seq, read_seq) VALUES (?1, ?2, ?3, ?4)
               ON CONFLICT (user_id, conv) DO UPDATE SET
                   recv_seq = max(recv_seq, excluded.recv_seq), read_seq = max(read_seq, excluded.read_seq)
               WHERE excluded.recv_seq > recv_seq OR excluded.read_seq > read_seq";
    conn.prepare_cached(sql)?.execute([int(user.get()), conv, int(recv.get()), int(read.get())])?;
    Ok(())
}

/// Removes the cursor of a member who leaves.
pub(super) fn forget_cursor(conn: &Connection, group: GroupId, user: UserId) -> Result<(), Error> {
    let (kind, a, b) = columns(ConvId::Group(group));
    let sql = "DELETE FROM cursors WHERE user_id = ?1
               AND conv = (SELECT conv FROM convs WHERE kind = ?2 AND a = ?3 AND b = ?4)";
    conn.prepare_cached(sql)?.execute([int(user.get()), kind, a, b])?;
    Ok(())
}

/// One [`crate::store::Read::Heads`].
pub(super) struct Ask {
    pub(super) user: UserId,
    pub(super) before: Option<(u64, ConvId)>,
    pub(super) missed: bool,
    pub(super) max: u32,
}

/// The answers to `asks`, in their order. One statement, whatever their number; without any, none.
pub(super) fn heads(conn: &Connection, epoch: u64, asks: &[Ask]) -> Result<Vec<Heads>, Error> {
    let mut answers: Vec<Heads> = asks.iter().map(|_| Heads { epoch, ..Heads::default() }).collect();
    if asks.is_empty() {
        return Ok(answers);
    }
    let mut statement = conn.prepare_cached(HEADS_SQL)?;
    let mut rows = statement.query((list(asks), UNREAD_MAX as i64, UNREAD_SCAN_MAX as i64))?;
    while let Some(row) = rows.next()? {
        let n = get_uint(row, 0)?;
        let heads = usize::try_from(n).ok().and_then(|n| answers.get_mut(n));
        let heads = heads.ok_or_else(|| Error::Broken(format!("an answer to ask {n}, which is none")))?;
        heads.more = row.get(1)?;
        heads.convs.push(read_state(row)?);
    }
    Ok(answers)
}

/// The asks as one JSON array, so that the statement stays the same: `[user, newest_ms, kind, a, b, max, all]` each. Whoever
/// asks for the first page asks from a place before all others.
fn list(asks: &[Ask]) -> String {
    let mut list = String::from("[");
    for (n, ask) in asks.iter().enumerate() {
        let (ms, (kind, a, b)) = ask.before.map_or((i64::MAX, (i64::MAX, 0, 0)), |(ms, conv)| (int(ms), columns(conv)));
        let (comma, max) = (if n == 0 { "" } else { "," }, ask.max.clamp(1, HEADS_MAX));
        // Writing to a text cannot fail.
        let _ = write!(list, "{comma}[{},{ms},{kind},{a},{b},{max},{}]", ask.user, u8::from(!ask.missed));
    }
    list.push(']');
    list
}

/// CROSS JOIN keeps the order of the tables as it stands here: from the asks through an index to each table. The unread
/// messages are counted last, for what has a place in the answer.
pub(super) const HEADS_SQL: &str = "
    WITH asked AS MATERIALIZED (
        SELECT key AS n, value ->> 0 AS user_id, value ->> 1 AS ms, value ->> 2 AS kind, value ->> 3 AS a,
               value ->> 4 AS b, value ->> 5 AS most, value ->> 6 AS whole
        FROM json_each(?1)
    ), mine AS (
        SELECT q.n, q.user_id, q.most, q.whole, c.conv, c.kind, c.a, c.b, c.head, c.floor, c.newest_ms, 0 AS since
        FROM asked q CROSS JOIN convs c
        WHERE c.kind = 10 AND c.a = q.user_id AND (c.newest_ms, c.kind, c.a, c.b) < (q.ms, q.kind, q.a, q.b)
        UNION ALL
        SELECT q.n, q.user_id, q.most, q.whole, c.conv, c.kind, c.a, c.b, c.head, c.floor, c.newest_ms, 0
        FROM asked q CROSS JOIN convs c
        WHERE c.kind = 10 AND c.b = q.user_id AND c.a < c.b
              AND (c.newest_ms, c.kind, c.a, c.b) < (q.ms, q.kind, q.a, q.b)
        UNION ALL
        SELECT q.n, q.user_id, q.most, q.whole, c.conv, c.kind, c.a, c.b, c.head, c.floor, c.newest_ms, m.since
        FROM asked q CROSS JOIN members m CROSS JOIN convs c
        WHERE m.user_id = q.user_id AND c.kind = 11 AND c.a = m.group_id AND c.b = 0
              AND (c.newest_ms, c.kind, c.a, c.b) < (q.ms, q.kind, q.a, q.b)
    ), ranked AS (
        SELECT *, row_number() OVER (PARTITION BY n ORDER BY newest_ms DESC, kind DESC, a DESC, b DESC) AS place,
               count(*) OVER (PARTITION BY n) AS total
        FROM mine m
        WHERE m.whole = 1 OR (max(m.floor, m.since + 1) <= m.head AND NOT EXISTS (
            SELECT 1 FROM cursors k WHERE k.user_id = m.user_id AND k.conv = m.conv AND k.recv_seq >= m.head))
    ), shown AS (
        SELECT r.*, max(r.since, coalesce(k.recv_seq, 0)) AS recv_seq, max(r.since, coalesce(k.read_seq, 0)) AS read_seq
        FROM ranked r LEFT JOIN cursors k ON k.user_id = r.user_id AND k.conv = r.conv
        WHERE r.place <= r.most
    )
    SELECT s.n, s.total > s.most, s.kind, s.a, s.b, s.head, s.newest_ms, max(s.floor, s.since + 1), s.recv_seq,
           s.read_seq,
           (SELECT count(*) FROM (
               SELECT 1 FROM messages x
               WHERE x.conv = s.conv AND x.seq > max(s.read_seq, s.floor - 1)
                     AND x.seq <= max(s.read_seq, s.floor - 1) + ?3 AND x.sender <> s.user_id
               LIMIT ?2))
    FROM shown s ORDER BY s.n, s.place";

fn read_state(row: &Row<'_>) -> Result<ConvState, Error> {
    Ok(ConvState {
        conv: get_conv(row, 2)?,
        head: get_seq(row, 5)?,
        ts_ms: get_uint(row, 6)?,
        floor: get_seq(row, 7)?,
        recv: get_seq(row, 8)?,
        read: get_seq(row, 9)?,
        unread: get_uint(row, 10)?,
    })
}
