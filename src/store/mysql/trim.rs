//! Retention, a bounded step at a time.
//!
//! Owns: which conversations and keys a step looks at, and where the next one begins. Never: moves
//! a floor down, or takes another gateway's trimming for its own: one at a time has the lease, and
//! should two trim at a change of hands, the second finds nothing. Bounds: a step looks at or
//! removes as many rows as it was given; one look for each conversation that loses something for
//! its age, and one statement for all others.

use mysql::Value;

use super::fault::Fault;
use super::files::{Gone, refer};
use super::statement::{Session, Shape, get_seq, get_uint, int, take_bytes};
use super::{Error, Mysql};
use crate::ids::Seq;
use crate::limits::RETENTION_LEASE_S;
use crate::store::files::Place;
use crate::store::{Retention, Trimmed};

/// One to look at a conversation, one to remove a message: with less there would be no progress.
const STEPS_MIN: u32 = 2;

/// `ts_ms` again: another gateway may have removed the key since it was looked at, and it may be
/// claimed anew.
const OLD_CLAIMS: Shape = Shape {
    before: "DELETE FROM claims WHERE ",
    each: "(sender = ? AND `key` = ? AND ts_ms < ?)",
    width: 3,
    between: " OR ",
    after: "",
};

/// Where the next step begins. Kept in memory: after a restart the pass begins again, which costs
/// reading only.
#[derive(Default)]
pub(super) enum Progress {
    /// The pass begins.
    #[default]
    Start,
    /// Conversations up to this row are done.
    Convs(u64),
    /// All conversations are, and the keys up to this one.
    Keys(u64, Vec<u8>),
}

/// The right to trim: one gateway at a time has it, by a row of `meta` that says who and until
/// when.
pub(super) struct Lease {
    /// This gateway.
    owner: u32,
    /// Monotonic milliseconds at which it is asked for again.
    renew_ms: u64,
}

impl Lease {
    /// Of a gateway: see [`crate::store::Options::gateway`].
    pub(super) const fn new(owner: u32) -> Self {
        Self { owner, renew_ms: 0 }
    }
}

/// Takes, or keeps, the lease. The database's clock decides. `false`: another gateway has it.
fn hold(db: &mut Mysql) -> Result<bool, Error> {
    let (now_ms, owner) = (db.link.now_ms(), db.lease.owner);
    if now_ms < db.lease.renew_ms {
        return Ok(true);
    }
    let owners = db.ask(|session| {
        let sql = "INSERT INTO meta (name, value) VALUES ('retention', ? * 4294967296 + UNIX_TIMESTAMP() + ?)
                   ON DUPLICATE KEY UPDATE value = IF(value % 4294967296 < UNIX_TIMESTAMP()
                       OR value DIV 4294967296 = ?, VALUES(value), value)";
        let mine = || int(u64::from(owner));
        session.run(sql, vec![mine(), int(RETENTION_LEASE_S), mine()])?;
        let sql = "SELECT value DIV 4294967296 FROM meta WHERE name = 'retention'";
        session.rows(sql, Vec::new(), |row| get_uint(row, 0))
    })?;
    let held = owners == [u64::from(owner)];
    db.lease.renew_ms = if held { now_ms + RETENTION_LEASE_S * 1000 / 2 } else { 0 };
    Ok(held)
}

/// See [`crate::store::Backend::trim`]. Nothing to do while another gateway does it.
pub(super) fn trim(db: &mut Mysql, retention: &Retention, steps_max: u32) -> Result<Trimmed, Error> {
    if !hold(db)? {
        db.trim = Progress::Start;
        return Ok(Trimmed { done: true, elsewhere: true, ..Trimmed::default() });
    }
    // What fails leaves a pass that begins again.
    match std::mem::take(&mut db.trim) {
        Progress::Start => trim_convs(db, retention, 0, steps_max),
        Progress::Convs(row) => trim_convs(db, retention, row, steps_max),
        Progress::Keys(sender, key) => trim_keys(db, retention, (sender, key), steps_max),
    }
}

/// A conversation whose floor moves.
struct Cut {
    row: u64,
    floor: Seq,
    /// The new floor.
    to: Seq,
}

fn trim_convs(db: &mut Mysql, retention: &Retention, after: u64, steps_max: u32) -> Result<Trimmed, Error> {
    let steps = u64::from(steps_max.max(STEPS_MIN));
    let (cuts, next) = db.ask(|session| plan(session, retention, after, steps))?;
    let messages = if cuts.is_empty() { 0 } else { db.transact(|session| cut_all(session, &cuts))? };
    db.trim = next;
    Ok(Trimmed { messages, ..Trimmed::default() })
}

/// A conversation as a step finds it.
struct Seen {
    row: u64,
    head: Seq,
    floor: Seq,
    /// Whether its oldest message is of before the line.
    old: bool,
}

/// What goes from the conversations after `after`: looking at one costs a step, and so does each
/// message that goes.
fn plan(session: &mut Session, retention: &Retention, after: u64, steps: u64) -> Result<(Vec<Cut>, Progress), Fault> {
    let sql = "SELECT STRAIGHT_JOIN c.conv, c.head, c.floor, COALESCE(m.ts_ms < ?, 0)
               FROM convs c FORCE INDEX (PRIMARY) LEFT JOIN messages m ON m.conv = c.conv AND m.seq = c.floor
               WHERE c.conv > ? ORDER BY c.conv LIMIT ?";
    let seen = session.rows(sql, vec![int(retention.before_ms), int(after), int(steps)], |row| {
        let (head, floor) = (get_seq(row, 1)?, get_seq(row, 2)?);
        Ok(Seen { row: get_uint(row, 0)?, head, floor, old: get_uint(row, 3)? != 0 })
    })?;
    let complete = (seen.len() as u64) < steps;
    let (mut cuts, mut left, mut done) = (Vec::new(), steps, after);
    for Seen { row, head, floor, old } in seen {
        if left == 0 {
            return Ok((cuts, Progress::Convs(done)));
        }
        left -= 1;
        // One more is looked for than there are steps left, so that a conversation that wants more
        // is known.
        let reach = floor.get().saturating_add(left).saturating_add(1).min(head.get().saturating_add(1));
        let by_age = if old { young_from(session, row, floor, reach, retention.before_ms)? } else { floor };
        let wanted = retention.floor_by_count(head).max(by_age);
        let to = wanted.get().min(floor.get().saturating_add(left));
        if to > floor.get() {
            left -= to - floor.get();
            cuts.push(Cut { row, floor, to: Seq::new(to).unwrap_or(floor) });
        }
        if wanted.get() > to.max(floor.get()) {
            // It comes first in the next step.
            return Ok((cuts, Progress::Convs(done)));
        }
        done = row;
    }
    let next = if complete { Progress::Keys(0, Vec::new()) } else { Progress::Convs(done) };
    Ok((cuts, next))
}

/// The first number from `floor` on, below `reach`, whose message is not of before `before_ms`;
/// `reach` if there is none.
fn young_from(session: &mut Session, row: u64, floor: Seq, reach: u64, before_ms: u64) -> Result<Seq, Fault> {
    let sql = "SELECT seq FROM messages WHERE conv = ? AND seq >= ? AND seq < ? AND ts_ms >= ? ORDER BY seq LIMIT 1";
    let values = vec![int(row), int(floor.get()), int(reach), int(before_ms)];
    let young = session.first(sql, values, |row| get_seq(row, 0))?;
    Ok(young.or_else(|| Seq::new(reach)).unwrap_or(floor))
}

/// In the order of the rows, as all batches lock them.
fn cut_all(session: &mut Session, cuts: &[Cut]) -> Result<u64, Fault> {
    let mut gone = 0;
    for Cut { row, floor, to } in cuts {
        let sql = "UPDATE convs SET floor = ? WHERE conv = ? AND floor < ?";
        session.run(sql, vec![int(to.get()), int(*row), int(to.get())])?;
        let sql = "DELETE FROM messages WHERE conv = ? AND seq >= ? AND seq < ?";
        gone += session.run(sql, vec![int(*row), int(floor.get()), int(to.get())])?;
    }
    let (place, recalled_by) = (Place::Message, None);
    let cuts = cuts.iter().map(|cut| Gone { place, a: cut.row, from: cut.floor.get(), to: cut.to.get(), recalled_by });
    refer(session, &cuts.collect::<Vec<_>>(), &[])?;
    Ok(gone)
}

/// A claimed key as a step finds it.
struct Key {
    sender: u64,
    key: Vec<u8>,
    ts_ms: u64,
}

/// Goes through the keys in their own order, because the time that counts is the message's, which
/// has no index.
fn trim_keys(db: &mut Mysql, retention: &Retention, after: (u64, Vec<u8>), steps: u32) -> Result<Trimmed, Error> {
    let before_ms = retention.keys_before_ms;
    if before_ms == 0 {
        return Ok(Trimmed { done: true, ..Trimmed::default() });
    }
    let steps = u64::from(steps.max(1));
    // Not as a comparison of pairs, of which the optimizer makes no range.
    let sql = "SELECT sender, `key`, ts_ms FROM claims FORCE INDEX (PRIMARY)
               WHERE (sender = ? AND `key` > ?) OR sender > ? ORDER BY sender, `key` LIMIT ?";
    let mut seen = db.ask(|session| {
        let values = vec![int(after.0), Value::Bytes(after.1.clone()), int(after.0), int(steps)];
        session.rows(sql, values, |row| {
            Ok(Key { sender: get_uint(row, 0)?, key: take_bytes(row, 1)?, ts_ms: get_uint(row, 2)? })
        })
    })?;
    let done = (seen.len() as u64) < steps;
    let old: Vec<Value> = seen
        .iter()
        .filter(|key| key.ts_ms < before_ms)
        .flat_map(|key| [int(key.sender), Value::Bytes(key.key.clone()), int(before_ms)])
        .collect();
    let keys = if old.is_empty() { 0 } else { db.transact(|session| session.change_all(&OLD_CLAIMS, &[], &old))? };
    if let Some(last) = seen.pop().filter(|_| !done) {
        db.trim = Progress::Keys(last.sender, last.key);
    }
    Ok(Trimmed { keys, done, ..Trimmed::default() })
}
