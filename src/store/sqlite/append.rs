//! Group commit: many writes in one transaction.
//!
//! Owns: the judge, the numbering, the claims of post keys; the order of a batch is the order of its numbers.
//! Never: keeps anything of a transaction for the next one but reserved ids and what [`Known`] may keep.
//!
//! The ordinary message costs two statements, its key and its row, and its conversation one for each batch: the key is
//! looked for by claiming it, the judge's yes and the head are remembered.

use rusqlite::{CachedStatement, Connection, Row};

use super::admissions::forget_request;
use super::changes::note;
use super::files::{recall, refer};
use super::known::{Head, Known};
use super::standing::{Crowd, crowd, forget_cursor, keep_cursor, list_all};
use super::{Ended, Error, IdBlock, Sqlite, exists, first, get_group, get_id, get_seq, get_uint, get_user, int};
use crate::ids::{ConvId, GroupId, Kind, MsgId, Seq, UserId};
use crate::limits::GROUPS_JOINED_MAX;
use crate::store::changes::Note;
use crate::store::files::Place;
use crate::store::key::key_bytes;
use crate::store::{NewMessage, Recall, Refusal, Write, Written};

/// See [`crate::store::Backend::commit`].
pub(super) fn commit(db: &mut Sqlite, writes: &[Write]) -> Result<Vec<Written>, Error> {
    if writes.is_empty() {
        return Ok(Vec::new());
    }
    db.begin()?;
    match apply(db, writes) {
        Err(error) => {
            // What cannot be rolled back now is rolled back before the next transaction.
            let _ = db.roll_back();
            Err(error)
        }
        Ok(written) => match db.finish() {
            Ended::Committed => Ok(written),
            Ended::RolledBack(error) => Err(error),
            Ended::Unclear(error) => find_out(&db.conn, written, error),
        },
    }
}

/// Everything between the beginning and the end of the transaction.
fn apply(db: &mut Sqlite, writes: &[Write]) -> Result<Vec<Written>, Error> {
    let Sqlite { conn, ids, known, .. } = db;
    known.look_around(conn)?;
    let mut batch = Batch { conn, ids, known, claim: conn.prepare_cached(CLAIM)?, store: conn.prepare_cached(STORE)? };
    let written = writes.iter().map(|write| batch.apply(write)).collect::<Result<Vec<_>, _>>()?;
    batch.write_heads()?;
    Ok(written)
}

/// Claims a key, unless it is claimed.
const CLAIM: &str = "INSERT INTO claims (sender, key, conv, seq, id, ts_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                     ON CONFLICT (sender, key) DO NOTHING";
const STORE: &str = "INSERT INTO messages (id, conv, seq, ts_ms, sender, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

/// The commit said that something was wrong and the transaction is over: its last message tells whether it is stored.
fn find_out(conn: &Connection, written: Vec<Written>, error: Error) -> Result<Vec<Written>, Error> {
    let stored = written.iter().rev().find_map(|w| if let Written::Stored { id, .. } = w { Some(*id) } else { None });
    let Some(id) = stored else {
        return Err(Error::Unknown(error.into_words()));
    };
    match exists(conn, "SELECT 1 FROM messages WHERE id = ?1", &[&int(id.get())]) {
        Ok(true) => Ok(written),
        Ok(false) => Err(Error::Unavailable(error.into_words())),
        Err(_) => Err(Error::Unknown(error.into_words())),
    }
}

/// A running transaction.
struct Batch<'a> {
    conn: &'a Connection,
    ids: &'a mut IdBlock,
    known: &'a mut Known,
    claim: CachedStatement<'a>,
    store: CachedStatement<'a>,
}

impl Batch<'_> {
    fn apply(&mut self, write: &Write) -> Result<Written, Error> {
        match write {
            Write::Append(message) => self.append(message, None),
            Write::Line(message) => self.line(message),
            Write::Recall(recall) => self.append(&recall.message, Some(recall)),
            Write::Head(conv) => Ok(Written::Head { head: self.known.head(self.conn, *conv)?.seq }),
            Write::Join { group, user } => self.join(*group, *user),
            Write::Leave { group, user } => self.leave(*group, *user),
            Write::Cursor { user, conv, recv, read } => self.cursor(*user, *conv, *recv, *read),
        }
    }

    fn append(&mut self, message: &NewMessage, recall: Option<&Recall>) -> Result<Written, Error> {
        let conn = self.conn;
        let sender = int(message.sender.get());
        let key = key_bytes(&message.key);
        let standing = self.judge(message.conv, message.sender)?;
        if let Err(refusal) = standing
            && !(recall.is_some() && Recall::is_judged_by_row(standing))
        {
            // A resend of what was stored gets its old answer, whatever has changed since.
            return Ok(claimed(conn, sender, &key)?.unwrap_or(Written::Refused(refusal)));
        }
        if let Some(recall) = recall {
            // Judged by the row, which a recall that was done before has changed: so its key is asked first.
            if let Some(duplicate) = claimed(conn, sender, &key)? {
                return Ok(duplicate);
            }
            let of = self.known.head(conn, message.conv)?.conv;
            if let Err(refusal) = Recall::forgiven(standing, blank(conn, of, recall)?) {
                return Ok(Written::Refused(refusal));
            }
        }
        self.insert(message, sender, &key, recall.is_some())
    }

    /// What the server says about a group.
    fn line(&mut self, message: &NewMessage) -> Result<Written, Error> {
        let (sender, key) = (int(message.sender.get()), key_bytes(&message.key));
        match message.conv {
            ConvId::Group(group) if group_exists(self.conn, group)? => self.insert(message, sender, &key, true),
            _ => Ok(claimed(self.conn, sender, &key)?.unwrap_or(Written::Refused(Refusal::NoSuchGroup))),
        }
    }

    /// Claims, numbers and keeps a message that may be kept. `hidden`: it does not count as unread.
    fn insert(&mut self, message: &NewMessage, sender: i64, key: &[u8], hidden: bool) -> Result<Written, Error> {
        let conn = self.conn;
        let conv = match self.known.head(conn, message.conv)?.conv {
            Some(conv) => conv,
            // A resend of a message of another conversation makes none.
            None => match claimed(conn, sender, key)? {
                Some(duplicate) => return Ok(duplicate),
                None => self.new_conv(message.conv)?,
            },
        };
        let (id, seq) = (self.ids.take(conn)?, self.known.head(conn, message.conv)?.seq.next());
        let (seq_int, id_int, ts) = (int(seq.get()), int(id.get()), int(message.ts_ms));
        if self.claim.execute((sender, key, conv, seq_int, id_int, ts))? == 0 {
            let earlier = claimed(conn, sender, key)?;
            return earlier.ok_or_else(|| Error::Broken("a key is claimed for no conversation".to_owned()));
        }
        self.store.execute((id_int, conv, seq_int, ts, sender, &*message.body))?;
        if hidden {
            conn.prepare_cached("UPDATE messages SET hidden = 1 WHERE id = ?1")?.execute([id_int])?;
        }
        refer(conn, Place::Message, conv, seq_int, &message.body)?;
        self.known.moved(message.conv, seq, ts);
        Ok(Written::Stored { seq, id, ts_ms: message.ts_ms })
    }

    /// Whether `sender` may post to `conv`.
    fn judge(&mut self, conv: ConvId, sender: UserId) -> Result<Result<(), Refusal>, Error> {
        match conv {
            ConvId::Group(group) => Ok(member_since(self.conn, group, sender)?.map(|_| ())),
            ConvId::Direct { lo, hi } => {
                if self.known.head(self.conn, conv)?.passes(conv, sender) {
                    return Ok(Ok(()));
                }
                let verdict = judge_direct(self.conn, lo, hi, sender)?;
                if verdict.is_ok() {
                    self.known.head(self.conn, conv)?.let_pass(conv, sender);
                }
                Ok(verdict)
            }
        }
    }

    fn join(&mut self, group: GroupId, user: UserId) -> Result<Written, Error> {
        let conn = self.conn;
        if let Ok(since) = member_since(conn, group, user)? {
            return Ok(Written::Joined { since, already: true });
        }
        if !group_exists(conn, group)? {
            return Ok(Written::Refused(Refusal::NoSuchGroup));
        }
        if !user_exists(conn, user)? {
            return Ok(Written::Refused(Refusal::NoSuchUser));
        }
        if joined_too_many(conn, user)? {
            return Ok(Written::Refused(Refusal::TooManyGroups));
        }
        let since = self.known.head(conn, ConvId::Group(group))?.seq;
        add_member(conn, group, user, since)?;
        note(conn, user, Note::Member(group))?;
        Ok(Written::Joined { since, already: false })
    }

    /// What the member has seen stays readable.
    fn leave(&mut self, group: GroupId, user: UserId) -> Result<Written, Error> {
        let (place, conn) = ([int(group.get()), int(user.get())], self.conn);
        let sql = "DELETE FROM members WHERE group_id = ?1 AND user_id = ?2 RETURNING since";
        let Some(since) = first(conn, sql, &[&place[0], &place[1]], |row| get_seq(row, 0))? else {
            return Ok(Written::Left { was_member: false });
        };
        let until = self.known.head(conn, ConvId::Group(group))?.seq;
        let sql = "INSERT INTO past_members (group_id, user_id, since, until_seq) VALUES (?1, ?2, ?3, ?4)
                   ON CONFLICT (group_id, user_id) DO UPDATE SET since = excluded.since, until_seq = excluded.until_seq";
        conn.prepare_cached(sql)?.execute((place[0], place[1], int(since.get()), int(until.get())))?;
        let sql = "UPDATE chat_groups SET member_count = member_count - 1 WHERE id = ?1";
        conn.prepare_cached(sql)?.execute([place[0]])?;
        forget_cursor(conn, group, user)?;
        note(conn, user, Note::Member(group))?;
        Ok(Written::Left { was_member: true })
    }

    fn cursor(&mut self, user: UserId, conv: ConvId, recv: Seq, read: Seq) -> Result<Written, Error> {
        let own = match conv {
            ConvId::Direct { .. } => conv.is_between(user),
            ConvId::Group(group) => member_since(self.conn, group, user)?.is_ok(),
        };
        if own {
            let head = self.known.head(self.conn, conv)?;
            let (recv, read) = (recv.min(head.seq), read.min(head.seq));
            if let Some(conv) = head.conv {
                keep_cursor(self.conn, user, conv, recv, read)?;
            }
        }
        Ok(Written::Kept)
    }

    /// Makes the row of a conversation. Whoever has many direct ones has them in the index by time.
    fn new_conv(&mut self, conv: ConvId) -> Result<i64, Error> {
        let mut listed = [None; 2];
        if let ConvId::Direct { lo, hi } = conv {
            for (side, user) in listed.iter_mut().zip([Some(lo), Some(hi).filter(|hi| *hi != lo)]) {
                let crowd = user.map_or(Ok(Crowd::Few), |user| crowd(self.conn, user))?;
                if let (Crowd::Full, Some(user)) = (crowd, user) {
                    // What the rows say is what is listed, and what is remembered of them does not say so.
                    self.write_heads()?;
                    self.known.forget();
                    list_all(self.conn, user)?;
                }
                *side = (crowd != Crowd::Few).then_some(0i64);
            }
        }
        let (kind, a, b) = columns(conv);
        let sql = "INSERT INTO convs (kind, a, b, head, floor, a_ms, b_ms) VALUES (?1, ?2, ?3, 0, 1, ?4, ?5)";
        let row = self.conn.prepare_cached(sql)?.insert((kind, a, b, listed[0], listed[1]))?;
        let head = self.known.head(self.conn, conv)?;
        (head.conv, head.listed) = (Some(row), listed != [None; 2]);
        Ok(row)
    }

    /// One update per conversation, not per message.
    fn write_heads(&mut self) -> Result<(), Error> {
        let mut update = self.conn.prepare_cached("UPDATE convs SET head = ?2, newest_ms = ?3 WHERE conv = ?1")?;
        // By itself, because SQLite moves the entries of an index whose columns are named, whether they change or not.
        let mut update_listed = self.conn.prepare_cached(
            "UPDATE convs SET head = ?2, newest_ms = ?3, a_ms = iif(a_ms IS NULL, NULL, ?3),
                              b_ms = iif(b_ms IS NULL, NULL, ?3) WHERE conv = ?1",
        )?;
        self.known.each_moved(|Head { conv, seq, listed, newest_ms, .. }| {
            let update = if *listed { &mut update_listed } else { &mut update };
            update.execute((conv, int(seq.get()), newest_ms))?;
            Ok(())
        })
    }
}

/// A row of `convs`.
pub(super) struct ConvRow {
    pub(super) conv: i64,
    pub(super) head: Seq,
    /// The oldest sequence number kept; 1 if nothing was trimmed.
    pub(super) floor: Seq,
    /// Whether it is in the index by time.
    pub(super) listed: bool,
}

pub(super) fn conv_row(conn: &Connection, conv: ConvId) -> Result<Option<ConvRow>, Error> {
    let (kind, a, b) = columns(conv);
    let sql = "SELECT conv, head, floor, a_ms IS NOT NULL OR b_ms IS NOT NULL FROM convs
               WHERE kind = ?1 AND a = ?2 AND b = ?3";
    first(conn, sql, &[&kind, &a, &b], |row| {
        Ok(ConvRow { conv: row.get(0)?, head: get_seq(row, 1)?, floor: get_seq(row, 2)?, listed: row.get(3)? })
    })
}

/// A conversation as `(kind, a, b)`.
pub(super) fn columns(conv: ConvId) -> (i64, i64, i64) {
    let kind = conv.kind() as i64;
    match conv {
        ConvId::Direct { lo, hi } => (kind, int(lo.get()), int(hi.get())),
        ConvId::Group(group) => (kind, int(group.get()), 0),
    }
}

/// A conversation from three columns, the first of which is `column`.
pub(super) fn get_conv(row: &Row<'_>, column: usize) -> Result<ConvId, Error> {
    match row.get::<_, i64>(column)? {
        kind if kind == Kind::Direct as i64 => {
            Ok(ConvId::direct(get_user(row, column + 1)?, get_user(row, column + 2)?))
        }
        kind if kind == Kind::Group as i64 => Ok(ConvId::Group(get_group(row, column + 1)?)),
        kind => Err(Error::Broken(format!("{kind} is no kind of conversation"))),
    }
}

/// The earlier message under a key, as the answer to its resend.
fn claimed(conn: &Connection, sender: i64, key: &[u8]) -> Result<Option<Written>, Error> {
    let sql = "SELECT c.kind, c.a, c.b, k.seq, k.id, k.ts_ms FROM claims k JOIN convs c ON c.conv = k.conv
               WHERE k.sender = ?1 AND k.key = ?2";
    first(conn, sql, &[&sender, &key], |row| {
        let conv = get_conv(row, 0)?;
        let id: MsgId = get_id(row, 4)?;
        Ok(Written::Duplicate { conv, seq: get_seq(row, 3)?, id, ts_ms: get_uint(row, 5)? })
    })
}

/// Whether `sender` may post to the pair.
fn judge_direct(conn: &Connection, lo: UserId, hi: UserId, sender: UserId) -> Result<Result<(), Refusal>, Error> {
    if sender != lo && sender != hi {
        return Ok(Err(Refusal::NotMember));
    }
    let other = if sender == lo { hi } else { lo };
    if !user_exists(conn, other)? {
        return Ok(Err(Refusal::NoSuchUser));
    }
    let sql = "SELECT 1 FROM blocks WHERE owner = ?1 AND blocked = ?2";
    if other != sender && exists(conn, sql, &[&int(other.get()), &int(sender.get())])? {
        return Ok(Err(Refusal::Blocked));
    }
    Ok(Ok(()))
}

/// Blanks what is recalled, in the conversation with row `conv`.
fn blank(conn: &Connection, conv: Option<i64>, of: &Recall) -> Result<Result<(), Refusal>, Error> {
    let sql = "SELECT id, sender, ts_ms, body FROM messages WHERE conv = ?1 AND seq = ?2";
    let found = first(conn, sql, &[&conv, &int(of.seq.get())], |row| {
        let body = row.get_ref(3)?.as_str().map_err(rusqlite::Error::from)?;
        Ok((row.get::<_, i64>(0)?, of.judge(get_user(row, 1)?, get_uint(row, 2)?, body)))
    })?;
    let Some((id, judged)) = found else { return Ok(Err(Refusal::NoSuchMessage)) };
    if let (Ok(()), Some(conv)) = (&judged, conv) {
        conn.prepare_cached("UPDATE messages SET body = ?2, hidden = 1 WHERE id = ?1")?.execute((id, &*of.blank))?;
        recall(conn, conv, int(of.seq.get()), int(of.message.sender.get()))?;
    }
    Ok(judged)
}

/// Since when (exclusive) `user` is a member of `group`; a dissolved group is none.
pub(super) fn member_since(conn: &Connection, group: GroupId, user: UserId) -> Result<Result<Seq, Refusal>, Error> {
    let sql = "SELECT m.since FROM members m JOIN chat_groups g ON g.id = m.group_id AND NOT g.dissolved
               WHERE m.group_id = ?1 AND m.user_id = ?2";
    let since = first(conn, sql, &[&int(group.get()), &int(user.get())], |row| get_seq(row, 0))?;
    if let Some(since) = since {
        return Ok(Ok(since));
    }
    // A group by invitation is none to whoever was never a member of it.
    let sql = "SELECT 1 FROM chat_groups WHERE id = ?1 AND NOT dissolved AND (rule <> 2 OR EXISTS (
                   SELECT 1 FROM past_members p WHERE p.group_id = ?1 AND p.user_id = ?2))";
    let known = exists(conn, sql, &[&int(group.get()), &int(user.get())])?;
    Ok(Err(if known { Refusal::NotMember } else { Refusal::NoSuchGroup }))
}

fn group_exists(conn: &Connection, group: GroupId) -> Result<bool, Error> {
    exists(conn, "SELECT 1 FROM chat_groups WHERE id = ?1 AND NOT dissolved", &[&int(group.get())])
}

pub(super) fn user_exists(conn: &Connection, user: UserId) -> Result<bool, Error> {
    exists(conn, "SELECT 1 FROM users WHERE id = ?1", &[&int(user.get())])
}

/// Whether `user` is in [`GROUPS_JOINED_MAX`] groups.
pub(super) fn joined_too_many(conn: &Connection, user: UserId) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM members WHERE user_id = ?1 LIMIT 1 OFFSET ?2";
    exists(conn, sql, &[&int(user.get()), &(i64::from(GROUPS_JOINED_MAX) - 1)])
}

pub(super) fn add_member(conn: &Connection, group: GroupId, user: UserId, since: Seq) -> Result<(), Error> {
    let sql = "INSERT INTO members (group_id, user_id, since) VALUES (?1, ?2, ?3)";
    conn.prepare_cached(sql)?.execute([int(group.get()), int(user.get()), int(since.get())])?;
    // Who comes back begins anew.
    let sql = "DELETE FROM past_members WHERE group_id = ?1 AND user_id = ?2";
    conn.prepare_cached(sql)?.execute([int(group.get()), int(user.get())])?;
    forget_request(conn, group, user)?;
    let sql = "UPDATE chat_groups SET member_count = member_count + 1 WHERE id = ?1";
    conn.prepare_cached(sql)?.execute([int(group.get())])?;
    Ok(())
}
