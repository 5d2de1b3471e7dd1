//! Where users stand: cursors, and the conversations of many users with what is unread, in few
//! statements.
//!
//! Owns: the table `cursors`, the order of a user's conversations, the count of unread messages.
//! Never: begins or ends a transaction; the caller does.
//! Bounds: of a user with many conversations the newest of those in the index by time
//! ([`HEADS_SCAN_MAX`] where what is received is passed over); messages are counted as [`allot`]
//! says, and only for conversations that are in the answer.

use std::cmp::Reverse;

use mysql::{Row, Value};

use super::append::{columns, get_conv};
use super::fault::Fault;
use super::statement::{Session, Shape, broken, get_id, get_seq, get_uint, get_user, int, take_text, text};
use crate::ids::{ConvId, Seq, UserId};
use crate::limits::{DIRECTS_UNLISTED_MAX, HEADS_MAX, HEADS_SCAN_MAX, UNREAD_MAX};
use crate::store::newest::{PREVIEW_CHARS, is_shown, newest};
use crate::store::unread::{Count, allot};
use crate::store::{ConvState, Heads};

const FORGET: Shape = Shape {
    before: "DELETE FROM cursors WHERE ",
    each: "(user_id = ? AND conv = ?)",
    width: 2,
    between: " OR ",
    after: "",
};
/// Users, rows of conversations and cursors; those of users who were deleted are passed over.
/// Nothing is locked for that, because logins and joins would wait for it: a cursor that is written
/// while its user is being deleted, not after, may stay. `VALUES()` is the only way that both MySQL
/// and MariaDB know.
const KEEP: &str = "INSERT INTO cursors (user_id, conv, recv_seq, read_seq)
    SELECT STRAIGHT_JOIN u.id, w.row_id, w.recv, w.seen
    FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT UNSIGNED PATH '$[0]', row_id BIGINT UNSIGNED PATH '$[1]',
                                       recv BIGINT UNSIGNED PATH '$[2]', seen BIGINT UNSIGNED PATH '$[3]')) w
    JOIN users u FORCE INDEX (PRIMARY) ON u.id = w.id WHERE u.mobile NOT LIKE '\u{200b}%'
    ON DUPLICATE KEY UPDATE recv_seq = GREATEST(recv_seq, VALUES(recv_seq)),
                            read_seq = GREATEST(read_seq, VALUES(read_seq))";

/// A user and the row of a conversation, and how far the user has received and read there.
type Kept = ((UserId, u64), (Seq, Seq));

/// Writes the cursors of a batch by user and conversation's row, sorted; those that are `gone`
/// first. The locks of their conversations are held, so no other gateway writes the same rows.
pub(super) fn store_cursors(session: &mut Session, gone: &[(UserId, u64)], kept: &[Kept]) -> Result<(), Fault> {
    let gone: Vec<Value> = gone.iter().flat_map(|(user, row)| [int(user.get()), int(*row)]).collect();
    session.change_all(&FORGET, &[], &gone)?;
    let kept = kept.iter().map(|((user, row), (recv, read))| [user.get(), *row, recv.get(), read.get()]);
    session.change_each(KEEP, kept)?;
    Ok(())
}

/// [`DIRECTS_UNLISTED_MAX`] stands in the text. Of the users, those with direct conversations in
/// the index by time, or too many that are not.
const CROWDED_USERS: &str = "
    SELECT w.a FROM JSON_TABLE(?, '$[*]' COLUMNS (a BIGINT UNSIGNED PATH '$[0]')) w
    WHERE EXISTS (SELECT 1 FROM convs c WHERE c.kind = 10 AND c.a = w.a AND c.a_ms IS NOT NULL)
       OR EXISTS (SELECT 1 FROM convs c WHERE c.kind = 10 AND c.b = w.a AND c.b_ms IS NOT NULL)
       OR (SELECT COUNT(*) FROM convs c WHERE c.kind = 10 AND c.a = w.a AND c.a_ms IS NULL)
        + (SELECT COUNT(*) FROM convs c WHERE c.kind = 10 AND c.b = w.a AND c.b_ms IS NULL AND c.a < c.b) >= 500";

/// Puts the direct conversations of users with many of them into the index by time, new ones
/// included. What another gateway makes at this moment may be left out; it is listed all the same,
/// as what is not in the index is, and the next one puts it there.
pub(super) fn list_crowded(session: &mut Session, fresh: &[ConvId]) -> Result<(), Fault> {
    let mut users: Vec<u64> = Vec::new();
    for conv in fresh {
        if let ConvId::Direct { lo, hi } = conv {
            users.extend([lo.get(), hi.get()]);
        }
    }
    users.sort_unstable();
    users.dedup();
    let crowded = session.find_each(CROWDED_USERS, users.into_iter().map(|user| [user]), |row| get_uint(row, 0))?;
    for user in crowded {
        for sql in [
            "UPDATE convs SET a_ms = newest_ms WHERE kind = 10 AND a = ? AND a_ms IS NULL",
            "UPDATE convs SET b_ms = newest_ms WHERE kind = 10 AND b = ? AND b_ms IS NULL AND a < b",
        ] {
            session.run(sql, vec![int(user)])?;
        }
    }
    Ok(())
}

const _: () = assert!(DIRECTS_UNLISTED_MAX == 500, "the number in the statements above and in the migration");

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
    conv: u64,
}

/// The answers to `asks`, in their order, and how many statements they took: a few whatever their
/// number, and one more for each user with many conversations; without any, none.
pub(super) fn heads(session: &mut Session, asks: &[Ask]) -> Result<(Vec<Heads>, u64), Fault> {
    if asks.is_empty() {
        return Ok((Vec::new(), 0));
    }
    let epoch = session.epoch;
    let list = text(&list(asks));
    let mut queries = 4;
    let mut found: Vec<(Vec<Found>, bool)> = asks.iter().map(|_| (Vec::new(), false)).collect();
    let rows = session
        .rows(HEADS, vec![list.clone()], |row| Ok((get_uint(row, 0)?, get_uint(row, 1)? != 0, read_found(row)?)))?;
    for (n, more, one) in rows {
        let place = place_of(&mut found, n)?;
        place.0.push(one);
        place.1 = more;
    }
    for n in session.rows(CROWDED, vec![list], |row| get_uint(row, 0))? {
        let place = place_of(&mut found, n)?;
        let ask = usize::try_from(n).ok().and_then(|n| asks.get(n));
        let ask = ask.ok_or_else(|| broken(format!("an answer to ask {n}, which is none")))?;
        queries += 1;
        place.0.extend(recent(session, ask)?);
        place.0.sort_unstable_by_key(|found| Reverse((found.state.ts_ms, found.state.conv)));
        let most = ask.max.clamp(1, HEADS_MAX) as usize;
        place.1 |= place.0.len() > most;
        place.0.truncate(most);
    }
    count_unread(session, asks, &mut found)?;
    find_newest(session, asks, &mut found)?;
    let answer = |(convs, more): (Vec<Found>, bool)| {
        let convs = convs.into_iter().map(|found| found.state).collect();
        Heads { convs, more, epoch }
    };
    Ok((found.into_iter().map(answer).collect(), queries))
}

fn place_of<T>(found: &mut [T], n: u64) -> Result<&mut T, Fault> {
    let place = usize::try_from(n).ok().and_then(|n| found.get_mut(n));
    place.ok_or_else(|| broken(format!("an answer to ask {n}, which is none")))
}

/// The newest of the conversations that are in the index by time: one more than the page has, so
/// that more are known.
fn recent(session: &mut Session, ask: &Ask) -> Result<Vec<Found>, Fault> {
    let (ms, [kind, a, b]) = place(ask);
    let most = u64::from(ask.max.clamp(1, HEADS_MAX)) + 1;
    let looks = if ask.missed { u64::from(HEADS_SCAN_MAX) } else { most };
    let user = int(ask.user.get());
    let side = [user.clone(), int(ms), int(ms), int(kind), int(a), int(b), int(looks)];
    let mut values = side.to_vec();
    values.extend(side);
    values.extend([user, int(u64::from(!ask.missed)), int(most)]);
    session.rows(RECENT, values, |row| read_found(row))
}

/// One statement for all that must be looked at.
fn count_unread(session: &mut Session, asks: &[Ask], found: &mut [(Vec<Found>, bool)]) -> Result<(), Fault> {
    let mut list = Vec::new();
    for ((n, ask), (convs, _)) in (0u64..).zip(asks).zip(&mut *found) {
        let counts = allot(convs.iter().map(|found| &found.state));
        for ((k, one), Count { from, looks, beyond }) in (0u64..).zip(convs).zip(counts) {
            one.state.unread = beyond;
            if looks > 0 {
                list.push([n, k, one.conv, from.prev().get(), looks, ask.user.get()]);
            }
        }
    }
    let counted = |row: &mut Row| Ok((get_uint(row, 0)?, get_uint(row, 1)?, get_uint(row, 2)?));
    for (n, k, unread) in session.find_each(UNREAD, list.into_iter(), counted)? {
        let (convs, _) = place_of(found, n)?;
        let one = place_of(convs, k)?;
        one.state.unread = (one.state.unread + unread).min(UNREAD_MAX);
    }
    Ok(())
}

/// One statement for the newest messages of all whole lists.
fn find_newest(session: &mut Session, asks: &[Ask], found: &mut [(Vec<Found>, bool)]) -> Result<(), Fault> {
    let mut list = Vec::new();
    for (n, (_, (convs, _))) in (0u64..).zip(asks.iter().zip(&*found)).filter(|(_, (ask, _))| !ask.missed) {
        for (k, one) in (0u64..).zip(convs).filter(|(_, one)| is_shown(&one.state)) {
            list.push([n, k, one.conv, one.state.head.get()]);
        }
    }
    let read = |row: &mut Row| {
        let body = take_text(row, 5)?;
        let message = newest(get_id(row, 2)?, get_uint(row, 3)?, get_user(row, 4)?, &body);
        Ok((get_uint(row, 0)?, get_uint(row, 1)?, message))
    };
    for (n, k, message) in session.find_each(NEWEST, list.into_iter(), read)? {
        let (convs, _) = place_of(found, n)?;
        place_of(convs, k)?.state.newest = Some(message);
    }
    Ok(())
}

/// Where a page begins, in order; the first page begins at a place before all others.
fn place(ask: &Ask) -> (u64, [u64; 3]) {
    ask.before.map_or_else(|| (u64::MAX, [u64::from(u8::MAX), 0, 0]), |(ms, conv)| (ms, columns(conv)))
}

/// The asks as one JSON array, so that the statement stays the same: `[n, user, newest_ms, kind, a,
/// b, max, all]` each.
fn list(asks: &[Ask]) -> String {
    let one = |(n, ask): (usize, &Ask)| {
        let (ms, [kind, a, b]) = place(ask);
        let (max, whole) = (ask.max.clamp(1, HEADS_MAX), u8::from(!ask.missed));
        format!("[{n},{},{ms},{kind},{a},{b},{max},{whole}]", ask.user)
    };
    let asks: Vec<String> = asks.iter().enumerate().map(one).collect();
    format!("[{}]", asks.join(","))
}

/// Users with conversations in the index by time.
const CROWDED: &str = "
    SELECT w.n FROM JSON_TABLE(?, '$[*]' COLUMNS (n BIGINT UNSIGNED PATH '$[0]', user_id BIGINT UNSIGNED PATH '$[1]')) w
    WHERE EXISTS (SELECT 1 FROM convs c WHERE c.kind = 10 AND c.a = w.user_id AND c.a_ms IS NOT NULL)
       OR EXISTS (SELECT 1 FROM convs c WHERE c.kind = 10 AND c.b = w.user_id AND c.b_ms IS NOT NULL)";

/// What is not in the index by time, and groups that were not dissolved. STRAIGHT_JOIN: from the
/// asks through an index to each table. A group has its row from its beginning, so `head > 0` says
/// whether anything was said. The casts: a number that was computed with a literal may come back as
/// a decimal, which is sent as a text.
const HEADS: &str = "
    WITH asked AS (
        SELECT w.* FROM JSON_TABLE(?, '$[*]' COLUMNS (
            n BIGINT UNSIGNED PATH '$[0]', user_id BIGINT UNSIGNED PATH '$[1]', ms BIGINT UNSIGNED PATH '$[2]',
            kind TINYINT UNSIGNED PATH '$[3]', a BIGINT UNSIGNED PATH '$[4]', b BIGINT UNSIGNED PATH '$[5]',
            most BIGINT UNSIGNED PATH '$[6]', whole TINYINT UNSIGNED PATH '$[7]')) w
    ), mine AS (
        SELECT STRAIGHT_JOIN q.n, q.user_id, q.most, q.whole, c.conv, c.kind, c.a, c.b, c.head, c.floor, c.newest_ms,
               CAST(0 AS UNSIGNED) AS since
        FROM asked q JOIN convs c FORCE INDEX (convs_of_smaller)
             ON c.kind = 10 AND c.a = q.user_id AND c.a_ms IS NULL
        WHERE c.head > 0 AND (c.newest_ms, c.kind, c.a, c.b) < (q.ms, q.kind, q.a, q.b)
        UNION ALL
        SELECT STRAIGHT_JOIN q.n, q.user_id, q.most, q.whole, c.conv, c.kind, c.a, c.b, c.head, c.floor, c.newest_ms,
               CAST(0 AS UNSIGNED)
        FROM asked q JOIN convs c FORCE INDEX (convs_of_larger)
             ON c.kind = 10 AND c.b = q.user_id AND c.b_ms IS NULL AND c.a < c.b
        WHERE c.head > 0 AND (c.newest_ms, c.kind, c.a, c.b) < (q.ms, q.kind, q.a, q.b)
        UNION ALL
        SELECT STRAIGHT_JOIN q.n, q.user_id, q.most, q.whole, c.conv, c.kind, c.a, c.b, c.head, c.floor, c.newest_ms, m.since
        FROM asked q JOIN members m ON m.user_id = q.user_id
             JOIN convs c FORCE INDEX (convs_by_members) ON c.kind = 11 AND c.a = m.group_id AND c.b = 0
        WHERE c.head > 0 AND NOT c.closed AND (c.newest_ms, c.kind, c.a, c.b) < (q.ms, q.kind, q.a, q.b)
    ), ranked AS (
        SELECT mine.*, ROW_NUMBER() OVER (PARTITION BY n ORDER BY newest_ms DESC, kind DESC, a DESC, b DESC) AS place,
               COUNT(*) OVER (PARTITION BY n) AS total
        FROM mine
        WHERE mine.whole = 1 OR (GREATEST(mine.floor, mine.since + 1) <= mine.head AND NOT EXISTS (
            SELECT 1 FROM cursors k WHERE k.user_id = mine.user_id AND k.conv = mine.conv AND k.recv_seq >= mine.head))
    )
    SELECT r.n, r.total > r.most, r.kind, r.a, r.b, r.head, r.newest_ms, CAST(GREATEST(r.floor, r.since + 1) AS UNSIGNED),
           CAST(GREATEST(r.since, COALESCE(k.recv_seq, 0)) AS UNSIGNED),
           CAST(GREATEST(r.since, COALESCE(k.read_seq, 0)) AS UNSIGNED), r.conv
    FROM ranked r LEFT JOIN cursors k ON k.user_id = r.user_id AND k.conv = r.conv
    WHERE r.place <= r.most
    ORDER BY r.n, r.place";

/// What is in the index by time, of one user, the newest first, as many as are looked at on each
/// side; the columns are those of [`HEADS`].
const RECENT: &str = "
    WITH mine AS (
        (SELECT conv, kind, a, b, head, floor, newest_ms FROM convs FORCE INDEX (convs_of_smaller)
         WHERE kind = 10 AND a = ? AND a_ms <= ? AND head > 0 AND (newest_ms, kind, a, b) < (?, ?, ?, ?)
         ORDER BY a_ms DESC, b DESC LIMIT ?)
        UNION ALL
        (SELECT conv, kind, a, b, head, floor, newest_ms FROM convs FORCE INDEX (convs_of_larger)
         WHERE kind = 10 AND b = ? AND b_ms <= ? AND head > 0 AND (newest_ms, kind, a, b) < (?, ?, ?, ?)
         ORDER BY b_ms DESC, a DESC LIMIT ?)
    )
    SELECT 0, 0, m.kind, m.a, m.b, m.head, m.newest_ms, CAST(GREATEST(m.floor, 1) AS UNSIGNED),
           CAST(COALESCE(k.recv_seq, 0) AS UNSIGNED), CAST(COALESCE(k.read_seq, 0) AS UNSIGNED), m.conv
    FROM mine m LEFT JOIN cursors k ON k.user_id = ? AND k.conv = m.conv
    WHERE ? OR (m.floor <= m.head AND COALESCE(k.recv_seq, 0) < m.head)
    ORDER BY m.newest_ms DESC, m.kind DESC, m.a DESC, m.b DESC LIMIT ?";

/// `[n, k, conv, base, looks, user]` each: the messages after that number that others wrote and
/// that can be read, among so many.
///
/// The numbers to look at are made first and looked up one by one: a range that begins at a column
/// of another table would be read from the conversation's beginning, whatever its length.
const UNREAD: &str = "
    SELECT w.n, w.k,
           (SELECT STRAIGHT_JOIN CAST(COUNT(*) AS UNSIGNED)
            FROM JSON_TABLE(CONCAT('[', SUBSTRING(REPEAT(',0', w.looks), 2), ']'), '$[*]' COLUMNS (n FOR ORDINALITY)) d
            JOIN messages x ON x.conv = w.conv AND x.seq = w.base + d.n
            WHERE x.sender <> w.user_id AND NOT x.hidden)
    FROM JSON_TABLE(?, '$[*]' COLUMNS (
        n BIGINT UNSIGNED PATH '$[0]', k BIGINT UNSIGNED PATH '$[1]', conv BIGINT UNSIGNED PATH '$[2]',
        base BIGINT UNSIGNED PATH '$[3]', looks BIGINT UNSIGNED PATH '$[4]', user_id BIGINT UNSIGNED PATH '$[5]')) w";

/// [`PREVIEW_CHARS`] stands in the text. `[n, k, conv, seq]` each: that message, of its body the
/// first characters.
const NEWEST: &str = "
    SELECT STRAIGHT_JOIN w.n, w.k, x.id, x.ts_ms, x.sender, LEFT(x.body, 401)
    FROM JSON_TABLE(?, '$[*]' COLUMNS (
        n BIGINT UNSIGNED PATH '$[0]', k BIGINT UNSIGNED PATH '$[1]', conv BIGINT UNSIGNED PATH '$[2]',
        seq BIGINT UNSIGNED PATH '$[3]')) w
    JOIN messages x ON x.conv = w.conv AND x.seq = w.seq";

const _: () = assert!(PREVIEW_CHARS == 401, "the number in the statement above");

fn read_found(row: &Row) -> Result<Found, Fault> {
    let state = ConvState {
        conv: get_conv(row, 2)?,
        head: get_seq(row, 5)?,
        ts_ms: get_uint(row, 6)?,
        floor: get_seq(row, 7)?,
        recv: get_seq(row, 8)?,
        read: get_seq(row, 9)?,
        unread: 0,
        newest: None,
    };
    Ok(Found { state, conv: get_uint(row, 10)? })
}
