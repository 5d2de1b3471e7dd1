//! Pages of conversations and the state of users, many at once from one snapshot.
//!
//! Owns: the clamp to the time of membership.
//! Never: writes, or waits for a writer.
//! Bounds: a page fetches [`MYSQL_PAGE_STEP`] rows and then what is likely to fit, so that little
//! is carried in vain.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use mysql::{Row as Found, Value};

use super::append::{ConvRow, Members, find_conv_rows, find_members};
use super::fault::Fault;
use super::logins::get_login;
use super::standing;
use super::statement::{Session, Shape, broken, get_group, get_id, get_seq, get_uint, get_user, int, take_text};
use crate::ids::{ConvId, GroupId, Seq, UserId};
use crate::limits::{BLOCKS_MAX, MYSQL_PAGE_STEP, MYSQL_ROWS_MAX, SYNC_ROWS_MAX};
use crate::store::{Heads, Page, PageStart, Read, ReadAnswer, Refusal, Row, Seen, UserState};

const USERS: Shape = Shape {
    before: "SELECT id, token_epoch, banned FROM users WHERE id IN (",
    each: "?",
    width: 1,
    between: ", ",
    after: ")",
};
const JOINED: Shape = Shape {
    before: "SELECT user_id, group_id, since FROM members WHERE user_id IN (",
    each: "?",
    width: 1,
    between: ", ",
    after: ") ORDER BY user_id, group_id",
};

const LOGINS: Shape = Shape {
    before: "SELECT user_id, login FROM logins WHERE user_id IN (",
    each: "?",
    width: 1,
    between: ", ",
    after: ") ORDER BY user_id, login",
};

/// See [`crate::store::Backend::read`].
pub(super) fn read(session: &mut Session, reads: &[Read], queries: &mut u64) -> Result<Vec<ReadAnswer>, Fault> {
    session.begin_snapshot()?;
    let answers = answer_all(session, reads, queries)?;
    session.text("COMMIT")?;
    Ok(answers)
}

fn answer_all(session: &mut Session, reads: &[Read], queries: &mut u64) -> Result<Vec<ReadAnswer>, Fault> {
    let states = user_states(session, reads, queries)?;
    let mut heads = user_heads(session, reads, queries)?.into_iter();
    let convs = conv_rows(session, reads)?;
    let members = memberships(session, reads)?;
    let past = past_memberships(session, reads, &members)?;
    let mut answers = Vec::with_capacity(reads.len());
    for read in reads {
        answers.push(match read {
            Read::Open { user } => ReadAnswer::Open(states.get(user).cloned().unwrap_or_default()),
            Read::Heads { .. } => ReadAnswer::Heads(heads.next().expect("invariant: an answer for each ask, in order")),
            Read::Page { conv, reader, from, rows_max, bytes_max } => {
                match seen((&members, &past), &convs, *conv, *reader) {
                    Ok(seen) => {
                        let rows_max = (*rows_max).clamp(1, SYNC_ROWS_MAX);
                        let ask = Ask { from: *from, rows_max, bytes_max: *bytes_max };
                        ReadAnswer::Page(page(session, convs.get(conv), seen, &ask)?)
                    }
                    Err(refusal) => ReadAnswer::Refused(refusal),
                }
            }
        });
    }
    Ok(answers)
}

fn distinct<T: Ord>(list: impl Iterator<Item = T>) -> Vec<T> {
    let mut list: Vec<T> = list.collect();
    list.sort_unstable();
    list.dedup();
    list
}

/// Five statements for hundreds of users.
fn user_states(
    session: &mut Session,
    reads: &[Read],
    queries: &mut u64,
) -> Result<HashMap<UserId, UserState, FixedState>, Fault> {
    let users = reads.iter().filter_map(|read| if let Read::Open { user } = read { Some(*user) } else { None });
    let list: Vec<Value> = distinct(users).into_iter().map(|user| int(user.get())).collect();
    *queries += 5 * list.len().div_ceil(MYSQL_ROWS_MAX) as u64;
    let mut states: HashMap<UserId, UserState, FixedState> = HashMap::default();
    for (user, epoch, banned) in
        session.find_all(&USERS, &list, |row| Ok((get_user(row, 0)?, get_uint(row, 1)?, get_uint(row, 2)?)))?
    {
        let token_epoch = u32::try_from(epoch).map_err(|_| broken(format!("{epoch} is no token epoch")))?;
        states.insert(user, UserState { token_epoch, banned: banned != 0, ..UserState::default() });
    }
    for (user, group, since) in
        session.find_all(&JOINED, &list, |row| Ok((get_user(row, 0)?, get_group(row, 1)?, get_seq(row, 2)?)))?
    {
        states.entry(user).or_default().groups.push((group, since));
    }
    for (user, other) in pairs(session, &BLOCKS, BLOCKS_OF_ONE, &list)? {
        states.entry(user).or_default().blocks.push(other);
    }
    for (user, other) in pairs(session, &BLOCKED_BY, BLOCKED_BY_OF_ONE, &list)? {
        states.entry(user).or_default().blocked_by.push(other);
    }
    for (user, login) in session.find_all(&LOGINS, &list, |row| Ok((get_user(row, 0)?, get_login(row, 1)?)))? {
        states.entry(user).or_default().logins.push(login);
    }
    for state in states.values_mut() {
        for list in [&mut state.blocks, &mut state.blocked_by] {
            list.sort_unstable();
            list.truncate(BLOCKS_MAX as usize);
        }
    }
    Ok(states)
}

const BLOCKS: Shape = Shape {
    before: "SELECT owner, blocked FROM blocks WHERE owner IN (",
    each: "?",
    width: 1,
    between: ", ",
    after: ") LIMIT 20000",
};
const BLOCKED_BY: Shape = Shape {
    before: "SELECT blocked, owner FROM blocks WHERE blocked IN (",
    each: "?",
    width: 1,
    between: ", ",
    after: ") LIMIT 20000",
};
/// What stands in both.
const PAIRS_MAX: usize = 20_000;
const BLOCKS_OF_ONE: &str = "SELECT owner, blocked FROM blocks WHERE owner = ? ORDER BY blocked LIMIT ?";
const BLOCKED_BY_OF_ONE: &str = "SELECT blocked, owner FROM blocks WHERE blocked = ? ORDER BY owner LIMIT ?";

/// The pairs of all users in one statement; if they are so many that some may be missing, user by
/// user, so that one with very many takes none of the others'.
fn pairs(
    session: &mut Session,
    all: &Shape,
    of_one: &'static str,
    list: &[Value],
) -> Result<Vec<(UserId, UserId)>, Fault> {
    let read = |row: &mut mysql::Row| Ok((get_user(row, 0)?, get_user(row, 1)?));
    let found = session.find_all(all, list, read)?;
    if found.len() < PAIRS_MAX {
        return Ok(found);
    }
    let mut found = Vec::new();
    for user in list {
        found.extend(session.rows(of_one, vec![user.clone(), int(u64::from(BLOCKS_MAX))], read)?);
    }
    Ok(found)
}

/// One statement for all users, in the order of the reads.
fn user_heads(session: &mut Session, reads: &[Read], queries: &mut u64) -> Result<Vec<Heads>, Fault> {
    let asks = reads.iter().filter_map(|read| match *read {
        Read::Heads { user, before, missed, max } => Some(standing::Ask { user, before, missed, max }),
        Read::Open { .. } | Read::Page { .. } => None,
    });
    let asks: Vec<standing::Ask> = asks.collect();
    let (heads, statements) = standing::heads(session, &asks)?;
    *queries += statements;
    Ok(heads)
}

type ConvRows = HashMap<ConvId, ConvRow, FixedState>;

/// One statement for all conversations that are read.
fn conv_rows(session: &mut Session, reads: &[Read]) -> Result<ConvRows, Fault> {
    let convs = reads.iter().filter_map(|read| if let Read::Page { conv, .. } = read { Some(*conv) } else { None });
    Ok(find_conv_rows(session, &distinct(convs))?.into_iter().collect())
}

/// One statement for all groups that are read.
fn memberships(session: &mut Session, reads: &[Read]) -> Result<Members, Fault> {
    let pairs = reads.iter().filter_map(|read| match read {
        Read::Page { conv: ConvId::Group(group), reader: Some(user), .. } => Some((*group, *user)),
        Read::Page { .. } | Read::Open { .. } | Read::Heads { .. } => None,
    });
    find_members(session, &distinct(pairs))
}

pub(super) type Past = HashMap<(GroupId, UserId), Seen, FixedState>;

/// Memberships that have ended, of those who read a group and are no members; mostly there are
/// none, and nothing is asked.
fn past_memberships(session: &mut Session, reads: &[Read], members: &Members) -> Result<Past, Fault> {
    let pairs = reads.iter().filter_map(|read| match read {
        Read::Page { conv: ConvId::Group(group), reader: Some(user), .. } => Some((*group, *user)),
        Read::Page { .. } | Read::Open { .. } | Read::Heads { .. } => None,
    });
    let pairs = distinct(pairs.filter(|pair| !members.contains_key(pair)));
    find_past(session, &pairs)
}

/// Of the pairs, the former members, and what they have seen.
pub(super) fn find_past(session: &mut Session, pairs: &[(GroupId, UserId)]) -> Result<Past, Fault> {
    let list = pairs.iter().map(|(group, user)| [group.get(), user.get()]);
    let found = session.find_each(PAST, list, |row| {
        let seen = Seen { since: get_seq(row, 2)?, until: Some(get_seq(row, 3)?) };
        Ok(((get_group(row, 0)?, get_user(row, 1)?), seen))
    })?;
    Ok(found.into_iter().collect())
}

const PAST: &str = "SELECT STRAIGHT_JOIN t.group_id, t.user_id, t.since, t.until_seq
    FROM JSON_TABLE(?, '$[*]' COLUMNS (a BIGINT UNSIGNED PATH '$[0]', b BIGINT UNSIGNED PATH '$[1]')) w
    JOIN past_members t ON t.group_id = w.a AND t.user_id = w.b";

/// What `reader` may read.
fn seen(
    (members, past): (&Members, &Past),
    convs: &ConvRows,
    conv: ConvId,
    reader: Option<UserId>,
) -> Result<Seen, Refusal> {
    match (conv, reader) {
        (_, None) => Ok(Seen::WHOLE),
        (ConvId::Direct { lo, hi }, Some(user)) if user == lo || user == hi => Ok(Seen::WHOLE),
        (ConvId::Direct { .. }, Some(_)) => Err(Refusal::NotMember),
        // Every group that exists has a row.
        (ConvId::Group(_), Some(_)) if convs.get(&conv).is_none_or(|row| row.closed) => Err(Refusal::NoSuchGroup),
        (ConvId::Group(group), Some(user)) => match members.get(&(group, user)) {
            Some(since) => Ok(Seen::since(*since)),
            // To users that were never a member a group by invitation does not exist.
            None => past.get(&(group, user)).copied().ok_or_else(|| {
                if convs.get(&conv).is_some_and(|row| row.hidden) { Refusal::NoSuchGroup } else { Refusal::NotMember }
            }),
        },
    }
}

/// What a page is asked for.
struct Ask {
    from: PageStart,
    rows_max: u32,
    bytes_max: usize,
}

fn page(session: &mut Session, conv: Option<&ConvRow>, seen: Seen, ask: &Ask) -> Result<Page, Fault> {
    let epoch = session.epoch;
    let Some(conv) = conv else {
        return Ok(Page { floor: seen.since.next(), epoch, ..Page::default() });
    };
    let (floor, head) = (conv.floor.max(seen.since.next()), seen.head(conv.head));
    let mut page = Page { rows: Vec::new(), more: false, floor, head, epoch };
    match ask.from {
        PageStart::After(after) => {
            let sql = "SELECT seq, id, ts_ms, sender, body FROM messages WHERE conv = ? AND seq > ? AND seq <= ?
                       ORDER BY seq LIMIT ?";
            let after = after.max(floor.prev());
            page.rows = rows(ask, |last, limit| {
                let after = last.unwrap_or(after);
                session.rows(sql, vec![int(conv.row), int(after.get()), int(head.get()), limit], read_row)
            })?;
            page.more = page.rows.last().is_some_and(|last| last.seq < page.head);
        }
        PageStart::Before(before) => {
            let sql = "SELECT seq, id, ts_ms, sender, body FROM messages WHERE conv = ? AND seq < ? AND seq >= ?
                       ORDER BY seq DESC LIMIT ?";
            page.rows = rows(ask, |last, limit| {
                let before = last.unwrap_or(before).min(head.next());
                session.rows(sql, vec![int(conv.row), int(before.get()), int(floor.get()), limit], read_row)
            })?;
            page.rows.reverse();
            page.more = page.rows.first().is_some_and(|first| first.seq > floor);
        }
    }
    Ok(page)
}

/// Rows as long as their bodies fit; the first always does. `fetch` gives at most so many after the
/// last one.
fn rows(ask: &Ask, mut fetch: impl FnMut(Option<Seq>, Value) -> Result<Vec<Row>, Fault>) -> Result<Vec<Row>, Fault> {
    let mut found: Vec<Row> = Vec::new();
    let mut bytes = 0usize;
    let mut step = MYSQL_PAGE_STEP.min(ask.rows_max);
    loop {
        let fetched = fetch(found.last().map(|row| row.seq), int(u64::from(step)))?;
        let complete = (fetched.len() as u64) < u64::from(step);
        for row in fetched {
            bytes = bytes.saturating_add(row.body.len());
            if bytes > ask.bytes_max && !found.is_empty() {
                return Ok(found);
            }
            found.push(row);
        }
        let left = ask.rows_max.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
        if complete || left == 0 {
            return Ok(found);
        }
        step = likely_to_fit(ask.bytes_max.saturating_sub(bytes), bytes / found.len().max(1)).min(left);
    }
}

/// How many rows of about `mean` bytes are worth fetching for `bytes` more.
fn likely_to_fit(bytes: usize, mean: usize) -> u32 {
    let fit = bytes / mean.max(1);
    u32::try_from(fit).unwrap_or(u32::MAX).saturating_add(1).max(MYSQL_PAGE_STEP / 4)
}

fn read_row(row: &mut Found) -> Result<Row, Fault> {
    Ok(Row {
        seq: get_seq(row, 0)?,
        id: get_id(row, 1)?,
        ts_ms: get_uint(row, 2)?,
        sender: get_user(row, 3)?,
        body: Arc::from(take_text(row, 4)?),
    })
}
