//! Retention in bounded steps: floors move up, messages below them and old post keys go.
//!
//! Owns: how far the pass over all conversations and keys has come ([`Progress`]).
//! Never: moves a head, or leaves a hole above a floor.
//! Bounds: a step looks at, or removes, as many rows as its caller allows; what it only looks at is
//! read outside of the writing transaction.

use rusqlite::Connection;

use super::files::release;
use super::{Error, Sqlite, first, get_seq, get_uint, int};
use crate::ids::Seq;
use crate::store::files::Place;
use crate::store::{Retention, Trimmed};

/// One to look at a conversation, one to remove a message: with less there would be no progress.
const STEPS_MIN: u32 = 2;

/// Where the next step begins. Kept in memory: after a restart the pass begins again, which costs
/// reading only.
#[derive(Default)]
pub(super) enum Progress {
    /// The pass begins.
    #[default]
    Start,
    /// Conversations up to this one are done.
    Convs(i64),
    /// All conversations are, and the keys up to this one.
    Keys(i64, Vec<u8>),
}

/// See [`crate::store::Backend::trim`].
pub(super) fn trim(db: &mut Sqlite, retention: &Retention, steps_max: u32) -> Result<Trimmed, Error> {
    // What fails leaves a pass that begins again.
    match std::mem::take(&mut db.trim) {
        Progress::Start => trim_convs(db, retention, 0, steps_max),
        Progress::Convs(conv) => trim_convs(db, retention, conv, steps_max),
        Progress::Keys(sender, key) => trim_keys(db, retention, (sender, key), steps_max),
    }
}

/// A conversation whose floor moves.
struct Cut {
    conv: i64,
    floor: Seq,
    /// The new floor.
    to: Seq,
}

fn trim_convs(db: &mut Sqlite, retention: &Retention, after: i64, steps_max: u32) -> Result<Trimmed, Error> {
    let (cuts, next) = plan(&db.conn, retention, after, u64::from(steps_max.max(STEPS_MIN)))?;
    let mut messages = 0;
    if !cuts.is_empty() {
        messages = db.transact(|conn| cut_all(conn, &cuts))?;
    }
    db.trim = next;
    Ok(Trimmed { messages, ..Trimmed::default() })
}

/// What goes from the conversations after `after`: looking at one costs a step, and so does each
/// message that goes.
fn plan(conn: &Connection, retention: &Retention, after: i64, steps: u64) -> Result<(Vec<Cut>, Progress), Error> {
    let (mut cuts, mut left, mut done) = (Vec::new(), steps, after);
    let mut statement = conn.prepare_cached("SELECT conv, head, floor FROM convs WHERE conv > ?1 ORDER BY conv")?;
    let mut rows = statement.query([after])?;
    while let Some(row) = rows.next()? {
        if left == 0 {
            return Ok((cuts, Progress::Convs(done)));
        }
        left -= 1;
        let (conv, head, floor): (i64, _, _) = (row.get(0)?, get_seq(row, 1)?, get_seq(row, 2)?);
        let by_count = retention.floor_by_count(head);
        // One more is looked for than there are steps left, so that a conversation that wants more
        // is known.
        let reach = floor.get().saturating_add(left).saturating_add(1).min(head.get() + 1);
        let by_age = young_from(conn, conv, floor, reach, retention.before_ms)?;
        let wanted = by_count.max(by_age);
        let to = wanted.get().min(floor.get().saturating_add(left));
        if to > floor.get() {
            left -= to - floor.get();
            let to = Seq::new(to).unwrap_or(floor);
            cuts.push(Cut { conv, floor, to });
        }
        if wanted.get() > to.max(floor.get()) {
            // It comes first in the next step.
            return Ok((cuts, Progress::Convs(done)));
        }
        done = conv;
    }
    Ok((cuts, Progress::Keys(0, Vec::new())))
}

/// The first number from `floor` on, below `reach`, whose message is not of before `before_ms`;
/// `reach` if there is none.
fn young_from(conn: &Connection, conv: i64, floor: Seq, reach: u64, before_ms: u64) -> Result<Seq, Error> {
    if before_ms == 0 || reach <= floor.get() {
        return Ok(floor);
    }
    let sql =
        "SELECT seq FROM messages WHERE conv = ?1 AND seq >= ?2 AND seq < ?3 AND ts_ms >= ?4 ORDER BY seq LIMIT 1";
    let (low, high, before) = (int(floor.get()), int(reach), int(before_ms));
    let young = first(conn, sql, &[&conv, &low, &high, &before], |row| get_seq(row, 0))?;
    Ok(young.or_else(|| Seq::new(reach)).unwrap_or(floor))
}

fn cut_all(conn: &Connection, cuts: &[Cut]) -> Result<u64, Error> {
    let mut gone = 0;
    for Cut { conv, floor, to } in cuts {
        let sql = "DELETE FROM messages WHERE conv = ?1 AND seq >= ?2 AND seq < ?3";
        gone += conn.prepare_cached(sql)?.execute([*conv, int(floor.get()), int(to.get())])?;
        release(conn, Place::Message, *conv, int(floor.get())..int(to.get()))?;
        let sql = "UPDATE convs SET floor = ?2 WHERE conv = ?1 AND floor < ?2";
        conn.prepare_cached(sql)?.execute([*conv, int(to.get())])?;
    }
    Ok(gone as u64)
}

/// Goes through the keys in their own order. An index by time would cost every append, and this
/// costs little and rarely.
fn trim_keys(db: &mut Sqlite, retention: &Retention, after: (i64, Vec<u8>), steps: u32) -> Result<Trimmed, Error> {
    if retention.keys_before_ms == 0 {
        return Ok(Trimmed { done: true, ..Trimmed::default() });
    }
    let (mut old, mut seen, mut last) = (Vec::new(), 0, None);
    {
        let sql = "SELECT sender, key, ts_ms FROM claims WHERE (sender, key) > (?1, ?2) ORDER BY sender, key LIMIT ?3";
        let mut statement = db.conn.prepare_cached(sql)?;
        let mut rows = statement.query((after.0, after.1, steps.max(1)))?;
        while let Some(row) = rows.next()? {
            let key: (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
            seen += 1;
            if get_uint(row, 2)? < retention.keys_before_ms {
                old.push(key.clone());
            }
            last = Some(key);
        }
    }
    if !old.is_empty() {
        db.transact(|conn| {
            let mut delete = conn.prepare_cached("DELETE FROM claims WHERE sender = ?1 AND key = ?2")?;
            for key in &old {
                delete.execute((key.0, &key.1))?;
            }
            Ok(())
        })?;
    }
    let done = seen < steps.max(1);
    if let Some((sender, key)) = last.filter(|_| !done) {
        db.trim = Progress::Keys(sender, key);
    }
    Ok(Trimmed { keys: old.len() as u64, done, ..Trimmed::default() })
}
