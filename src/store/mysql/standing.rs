//! Where users stand: cursors, and the conversations of many users with what is unread, in one statement.
//!
//! Owns: the table `cursors`, the order of a user's conversations, the count of unread messages.
//! Never: begins or ends a transaction; the caller does.
//! Bounds: a count looks at [`UNREAD_SCAN_MAX`] messages, and only for conversations that are in the answer.

use mysql::{Row, Value};

use super::append::{columns, get_conv};
use super::batch::Decided;
use super::fault::Fault;
use super::statement::{Session, Shape, broken, get_seq, get_uint, int, text};
use crate::ids::{ConvId, UserId};
use crate::limits::{HEADS_MAX, UNREAD_MAX, UNREAD_SCAN_MAX};
use crate::store::{ConvState, Heads};

const FORGET: Shape = Shape {
    before: "DELETE FROM cursors WHERE ",
    each: "(user_id = ? AND conv = ?)",
    width: 2,
    between: " OR ",
    after: "",
};
/// `VALUES()` is the only way that both MySQL and MariaDB know.
const KEEP: Shape = Shape {
    before: "INSERT INTO cursors (user_id, conv, recv_seq, read_seq) VALUES ",
    each: "(?, ?, ?, ?)",
    width: 4,
    between: ", ",
    after: " ON DUPLICATE KEY UPDATE recv_seq = GREATEST(recv_seq, VALUES(recv_seq)), \
            read_seq = GREATEST(read_seq, VALUES(read_seq))",
};

/// Writes the cursors of a batch, those of members who left first. The locks of their conversations are held, so no other
/// gateway writes the same rows.
pub(super) fn store_cursors(session: &mut Session, decided: &Decided<'_>) -> Result<(), Fault> {
    let mut gone: Vec<_> = decided.forgotten.iter().copied().collect();
    gone.sort_unstable();
    let gone: Vec<Value> = gone.iter().flat_map(|(user, row)| [int(user.get()), int(*row)]).collect();
    session.change_all(&FORGET, &[], &gone)?;
    let mut kept: Vec<_> = decided.cursors.iter().collect();
    kept.sort_unstable();
    let kept = kept
        .iter()
        .flat_map(|((user, row), (recv, read))| [int(user.get()), int(*row), int(recv.get()), int(read.get())]);
    session.write_all(&KEEP, &[], kept.collect())?;
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
pub(super) fn heads(session: &mut Session, asks: &[Ask]) -> Result<Vec<Heads>, Fault> {
    let epoch = session.epoch;
    let mut answers: Vec<Heads> = asks.iter().map(|_| Heads { epoch, ..Heads::default() }).collect();
    if asks.is_empty() {
        return Ok(answers);
    }
    let values = vec![text(&list(asks)), int(UNREAD_MAX), int(UNREAD_SCAN_MAX as u64)];
    let rows = session.rows(HEADS, values, |row| Ok((get_uint(row, 0)?, get_uint(row, 1)? != 0, read_state(row)?)))?;
    for (n, more, state) in rows {
        let heads = usize::try_from(n).ok().and_then(|n| answers.get_mut(n));
        let heads = heads.ok_or_else(|| broken(format!("an answer to ask {n}, which is none")))?;
        heads.more = more;
        heads.convs.push(state);
    }
    Ok(answers)
}

/// The asks as one JSON array, so that the statement stays the same: `[n, user, newest_ms, kind, a, b, max, all]` each. Whoever
/// asks for the first page asks from a place before all others.
fn list(asks: &[Ask]) -> String {
    let one = |(n, ask): (usize, &Ask)| {
        let (ms, [kind, a, b]) =
            ask.before.map_or_else(|| (u64::MAX, [u64::from(u8::MAX), 0, 0]), |(ms, conv)| (ms, columns(conv)));
        let (max, whole) = (ask.max.clamp(1, HEADS_MAX), u8::from(!ask.missed));
        format!("[{n},{},{ms},{kind},{a},{b},{max},{whole}]", ask.user)
    };
    let asks: Vec<String> = asks.iter().enumerate().map(one).collect();
    format!("[{}]", asks.join(","))
}

/// STRAIGHT_JOIN: from the asks through an index to each table. The unread messages are counted last, for what has a place
/// in the answer. A group has its row from its beginning, so `head > 0` says whether anything was said. The casts: a number
/// that was computed with a literal may come back as a decimal, which is sent as a text.
///
/// The numbers to count are made first and looked up one by one: a range that begins at a column of another table would be
/// read from the conversation's beginning, whatever its length.
const HEADS: &str = "
    WITH asked AS (
        SELECT w.* FROM JSON_TABLE(?, '$[*]' COLUMNS (
            n BIGINT UNSIGNED PATH '$[0]', user_id BIGINT UNSIGNED PATH '$[1]', ms BIGINT UNSIGNED PATH '$[2]',
            kind TINYINT UNSIGNED PATH '$[3]', a BIGINT UNSIGNED PATH '$[4]', b BIGINT UNSIGNED PATH '$[5]',
            most BIGINT UNSIGNED PATH '$[6]', whole TINYINT UNSIGNED PATH '$[7]')) w
    ), mine AS (
        SELECT STRAIGHT_JOIN q.n, q.user_id, q.most, q.whole, c.conv, c.kind, c.a, c.b, c.head, c.floor, c.newest_ms,
               CAST(0 AS UNSIGNED) AS since
        FROM asked q JOIN convs c ON c.kind = 10 AND c.a = q.user_id
        WHERE c.head > 0 AND (c.newest_ms, c.kind, c.a, c.b) < (q.ms, q.kind, q.a, q.b)
        UNION ALL
        SELECT STRAIGHT_JOIN q.n, q.user_id, q.most, q.whole, c.conv, c.kind, c.a, c.b, c.head, c.floor, c.newest_ms,
               CAST(0 AS UNSIGNED)
        FROM asked q JOIN convs c ON c.kind = 10 AND c.b = q.user_id AND c.a < c.b
        WHERE c.head > 0 AND (c.newest_ms, c.kind, c.a, c.b) < (q.ms, q.kind, q.a, q.b)
        UNION ALL
        SELECT STRAIGHT_JOIN q.n, q.user_id, q.most, q.whole, c.conv, c.kind, c.a, c.b, c.head, c.floor, c.newest_ms, m.since
        FROM asked q JOIN members m ON m.user_id = q.user_id JOIN convs c ON c.kind = 11 AND c.a = m.group_id AND c.b = 0
        WHERE c.head > 0 AND (c.newest_ms, c.kind, c.a, c.b) < (q.ms, q.kind, q.a, q.b)
    ), ranked AS (
        SELECT mine.*, ROW_NUMBER() OVER (PARTITION BY n ORDER BY newest_ms DESC, kind DESC, a DESC, b DESC) AS place,
               COUNT(*) OVER (PARTITION BY n) AS total
        FROM mine
        WHERE mine.whole = 1 OR (GREATEST(mine.floor, mine.since + 1) <= mine.head AND NOT EXISTS (
            SELECT 1 FROM cursors k WHERE k.user_id = mine.user_id AND k.conv = mine.conv AND k.recv_seq >= mine.head))
    ), shown AS (
        SELECT r.*, CAST(GREATEST(r.since, COALESCE(k.recv_seq, 0)) AS UNSIGNED) AS recv_seq,
               CAST(GREATEST(r.since, COALESCE(k.read_seq, 0)) AS UNSIGNED) AS read_seq,
               CAST(GREATEST(r.since, COALESCE(k.read_seq, 0), r.floor - 1) AS UNSIGNED) AS base
        FROM ranked r LEFT JOIN cursors k ON k.user_id = r.user_id AND k.conv = r.conv
        WHERE r.place <= r.most
    )
    SELECT s.n, s.total > s.most, s.kind, s.a, s.b, s.head, s.newest_ms, CAST(GREATEST(s.floor, s.since + 1) AS UNSIGNED),
           s.recv_seq, s.read_seq,
           (SELECT STRAIGHT_JOIN CAST(LEAST(?, COUNT(*)) AS UNSIGNED)
            FROM JSON_TABLE(CONCAT('[', SUBSTRING(REPEAT(',0', LEAST(?, GREATEST(s.head, s.base) - s.base)), 2), ']'),
                            '$[*]' COLUMNS (n FOR ORDINALITY)) d
            JOIN messages x ON x.conv = s.conv AND x.seq = s.base + d.n
            WHERE x.sender <> s.user_id)
    FROM shown s ORDER BY s.n, s.place";

fn read_state(row: &Row) -> Result<ConvState, Fault> {
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
