//! Pages of conversations and the state of users, many at once from one snapshot.
//!
//! Owns: the clamp to the time of membership.
//! Never: writes.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use rusqlite::{Connection, Statement, ToSql};

use super::append::{conv_row, member_since};
use super::logins::get_login;
use super::{Error, Sqlite, first, get_group, get_id, get_seq, get_uint, get_user, int, standing};
use crate::ids::{ConvId, UserId};
use crate::limits::{BLOCKS_MAX, SYNC_ROWS_MAX};
use crate::store::{Page, PageStart, Read, ReadAnswer, Refusal, Row, Seen, UserState};

/// See [`crate::store::Backend::read`].
pub(super) fn read(db: &mut Sqlite, reads: &[Read]) -> Result<Vec<ReadAnswer>, Error> {
    if !db.conn.is_autocommit() {
        db.roll_back()?;
    }
    db.conn.prepare_cached("BEGIN")?.execute([])?;
    let answers = answer_all(&db.conn, db.epoch, reads, &mut db.user_queries);
    // A snapshot that stayed open would keep the log from being emptied. Should this fail, the next
    // read ends it.
    let ended = db.conn.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([]));
    let answers = answers?;
    ended?;
    Ok(answers)
}

fn answer_all(conn: &Connection, epoch: u64, reads: &[Read], queries: &mut u64) -> Result<Vec<ReadAnswer>, Error> {
    let (mut opened, mut asks) = (Vec::new(), Vec::new());
    for read in reads {
        match *read {
            Read::Open { user } => opened.push(user),
            Read::Heads { user, before, missed, max } => asks.push(standing::Ask { user, before, missed, max }),
            Read::Page { .. } => {}
        }
    }
    let states = user_states(conn, &opened)?;
    // What is run once for each user counts once: there is no way to a server that it goes again.
    *queries += if opened.is_empty() { 0 } else { 5 } + if asks.is_empty() { 0 } else { 3 };
    let mut heads = standing::heads(conn, epoch, &asks)?.into_iter();
    let answer = |read: &Read| match read {
        Read::Open { user } => Ok(ReadAnswer::Open(states.get(user).cloned().unwrap_or_default())),
        Read::Heads { .. } => Ok(ReadAnswer::Heads(heads.next().expect("invariant: an answer for each ask, in order"))),
        Read::Page { conv, reader, from, rows_max, bytes_max } => Ok(match seen(conn, *conv, *reader)? {
            Ok(seen) => {
                let ask = Ask { from: *from, rows_max: (*rows_max).clamp(1, SYNC_ROWS_MAX), bytes_max: *bytes_max };
                ReadAnswer::Page(page(conn, epoch, *conv, seen, &ask)?)
            }
            Err(refusal) => ReadAnswer::Refused(refusal),
        }),
    };
    reads.iter().map(answer).collect()
}

/// Of each user: five statements that are kept prepared, each a look into an index.
fn user_states(conn: &Connection, users: &[UserId]) -> Result<HashMap<UserId, UserState, FixedState>, Error> {
    let mut states: HashMap<UserId, UserState, FixedState> = HashMap::default();
    if users.is_empty() {
        return Ok(states);
    }
    let mut user_row = conn.prepare_cached("SELECT token_epoch, banned FROM users WHERE id = ?1")?;
    let mut members =
        conn.prepare_cached("SELECT group_id, since FROM members WHERE user_id = ?1 ORDER BY group_id")?;
    let mut blocks = conn.prepare_cached("SELECT blocked FROM blocks WHERE owner = ?1 ORDER BY blocked LIMIT ?2")?;
    let mut blocked_by = conn.prepare_cached("SELECT owner FROM blocks WHERE blocked = ?1 ORDER BY owner LIMIT ?2")?;
    let mut logins = conn.prepare_cached("SELECT login FROM logins WHERE user_id = ?1 ORDER BY login")?;
    for &user in users {
        if states.contains_key(&user) {
            continue;
        }
        let (id, mut state) = (int(user.get()), UserState::default());
        let mut rows = user_row.query([id])?;
        if let Some(row) = rows.next()? {
            (state.token_epoch, state.banned) = (row.get(0)?, row.get(1)?);
        }
        let mut rows = members.query([id])?;
        while let Some(row) = rows.next()? {
            state.groups.push((get_group(row, 0)?, get_seq(row, 1)?));
        }
        for (statement, list) in [(&mut blocks, &mut state.blocks), (&mut blocked_by, &mut state.blocked_by)] {
            let mut rows = statement.query((id, BLOCKS_MAX))?;
            while let Some(row) = rows.next()? {
                list.push(get_user(row, 0)?);
            }
        }
        let mut rows = logins.query([id])?;
        while let Some(row) = rows.next()? {
            state.logins.push(get_login(row, 0)?);
        }
        states.insert(user, state);
    }
    Ok(states)
}

/// What `reader` may read.
fn seen(conn: &Connection, conv: ConvId, reader: Option<UserId>) -> Result<Result<Seen, Refusal>, Error> {
    match (conv, reader) {
        (_, None) => Ok(Ok(Seen::WHOLE)),
        (ConvId::Direct { lo, hi }, Some(user)) if user == lo || user == hi => Ok(Ok(Seen::WHOLE)),
        (ConvId::Direct { .. }, Some(_)) => Ok(Err(Refusal::NotMember)),
        (ConvId::Group(group), Some(user)) => match member_since(conn, group, user)? {
            Ok(since) => Ok(Ok(Seen::since(since))),
            Err(Refusal::NotMember) => {
                let sql = "SELECT since, until_seq FROM past_members WHERE group_id = ?1 AND user_id = ?2";
                let past = first(conn, sql, &[&int(group.get()), &int(user.get())], |row| {
                    Ok(Seen { since: get_seq(row, 0)?, until: Some(get_seq(row, 1)?) })
                })?;
                Ok(past.ok_or(Refusal::NotMember))
            }
            Err(refusal) => Ok(Err(refusal)),
        },
    }
}

/// What a page is asked for.
struct Ask {
    from: PageStart,
    rows_max: u32,
    bytes_max: usize,
}

fn page(conn: &Connection, epoch: u64, conv: ConvId, seen: Seen, ask: &Ask) -> Result<Page, Error> {
    let Some(row) = conv_row(conn, conv)? else {
        return Ok(Page { floor: seen.since.next(), epoch, ..Page::default() });
    };
    let (floor, head) = (row.floor.max(seen.since.next()), seen.head(row.head));
    let mut page = Page { rows: Vec::new(), more: false, floor, head, epoch };
    match ask.from {
        PageStart::After(after) => {
            let sql = "SELECT seq, id, ts_ms, sender, body FROM messages WHERE conv = ?1 AND seq > ?2 AND seq <= ?4
                       ORDER BY seq LIMIT ?3";
            let (after, last) = (int(after.max(floor.prev()).get()), int(head.get()));
            let params: [&dyn ToSql; 4] = [&row.conv, &after, &ask.rows_max, &last];
            page.rows = rows(&mut *conn.prepare_cached(sql)?, &params, ask.bytes_max)?;
            page.more = page.rows.last().is_some_and(|last| last.seq < page.head);
        }
        PageStart::Before(before) => {
            let sql = "SELECT seq, id, ts_ms, sender, body FROM messages WHERE conv = ?1 AND seq < ?2 AND seq >= ?3
                       ORDER BY seq DESC LIMIT ?4";
            let (before, low) = (int(before.min(head.next()).get()), int(floor.get()));
            let params: [&dyn ToSql; 4] = [&row.conv, &before, &low, &ask.rows_max];
            page.rows = rows(&mut *conn.prepare_cached(sql)?, &params, ask.bytes_max)?;
            page.rows.reverse();
            page.more = page.rows.first().is_some_and(|first| first.seq > floor);
        }
    }
    Ok(page)
}

/// The rows of a statement as long as their bodies fit; the first always does.
fn rows(statement: &mut Statement<'_>, params: &[&dyn ToSql], bytes_max: usize) -> Result<Vec<Row>, Error> {
    let mut found = Vec::new();
    let mut bytes = 0usize;
    let mut rows = statement.query(params)?;
    while let Some(row) = rows.next()? {
        let body = row.get_ref(4)?.as_str().map_err(rusqlite::Error::from)?;
        bytes = bytes.saturating_add(body.len());
        if bytes > bytes_max && !found.is_empty() {
            break;
        }
        found.push(Row {
            seq: get_seq(row, 0)?,
            id: get_id(row, 1)?,
            ts_ms: get_uint(row, 2)?,
            sender: get_user(row, 3)?,
            body: Arc::from(body),
        });
    }
    Ok(found)
}
