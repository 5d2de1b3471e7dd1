//! Group commit: many writes in one transaction.
//!
//! Owns: the judge, the numbering, the claims of post keys; the order of a batch is the order of its numbers.
//! Never: keeps anything of a transaction for the next one but reserved ids; another connection may write in between.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use rusqlite::{Connection, Row};

use super::standing::{forget_cursor, keep_cursor};
use super::{Ended, Error, IdBlock, Sqlite, exists, first, get_group, get_id, get_seq, get_uint, get_user, int};
use crate::ids::{ConvId, GroupId, Kind, MsgId, Seq, UserId};
use crate::limits::GROUPS_JOINED_MAX;
use crate::store::key::key_bytes;
use crate::store::{NewMessage, Recall, Refusal, Write, Written};

/// See [`crate::store::Backend::commit`].
pub(super) fn commit(db: &mut Sqlite, writes: &[Write]) -> Result<Vec<Written>, Error> {
    if writes.is_empty() {
        return Ok(Vec::new());
    }
    db.begin()?;
    let Sqlite { conn, ids, .. } = &mut *db;
    let mut batch = Batch { conn, ids, heads: HashMap::default() };
    let applied = writes.iter().map(|write| batch.apply(write)).collect::<Result<Vec<_>, _>>();
    match applied.and_then(|written| batch.write_heads().map(|()| written)) {
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

/// A conversation as far as this transaction has come.
struct Head {
    /// Row of the conversation; `None` until it has its first message.
    conv: Option<i64>,
    seq: Seq,
    /// The time of the message that got `seq`; meaningless unless `dirty`.
    newest_ms: i64,
    /// Whether `seq` is newer than the row.
    dirty: bool,
}

/// A running transaction.
struct Batch<'a> {
    conn: &'a Connection,
    ids: &'a mut IdBlock,
    heads: HashMap<ConvId, Head, FixedState>,
}

impl Batch<'_> {
    fn apply(&mut self, write: &Write) -> Result<Written, Error> {
        match write {
            Write::Append(message) => self.append(message, None),
            Write::Recall(recall) => self.append(&recall.message, Some(recall)),
            Write::Head(conv) => Ok(Written::Head { head: self.head(*conv)?.seq }),
            Write::Join { group, user } => self.join(*group, *user),
            Write::Leave { group, user } => {
                let sql = "DELETE FROM members WHERE group_id = ?1 AND user_id = ?2";
                let gone = self.conn.prepare_cached(sql)?.execute([int(group.get()), int(user.get())])?;
                if gone > 0 {
                    forget_cursor(self.conn, *group, *user)?;
                }
                Ok(Written::Left { was_member: gone > 0 })
            }
            Write::Cursor { user, conv, recv, read } => self.cursor(*user, *conv, *recv, *read),
        }
    }

    fn append(&mut self, message: &NewMessage, recall: Option<&Recall>) -> Result<Written, Error> {
        let conn = self.conn;
        let sender = int(message.sender.get());
        let key = key_bytes(&message.key);
        // The claim comes before the judge: a resend of what was stored gets its old answer, whatever has changed.
        if let Some(duplicate) = claimed(conn, sender, &key)? {
            return Ok(duplicate);
        }
        if let Err(refusal) = judge(conn, message.conv, message.sender)? {
            return Ok(Written::Refused(refusal));
        }
        if let Some(recall) = recall
            && let Err(refusal) = blank(conn, self.head(message.conv)?.conv, recall)?
        {
            return Ok(Written::Refused(refusal));
        }
        let id = self.ids.take(conn)?;
        let head = self.head(message.conv)?;
        let conv = match head.conv {
            Some(conv) => conv,
            None => *head.conv.insert(new_conv(conn, message.conv)?),
        };
        head.seq = head.seq.next();
        (head.newest_ms, head.dirty) = (int(message.ts_ms), true);
        let seq = head.seq;
        let (seq_int, id_int, ts) = (int(seq.get()), int(id.get()), int(message.ts_ms));
        let sql = "INSERT INTO messages (id, conv, seq, ts_ms, sender, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        conn.prepare_cached(sql)?.execute((id_int, conv, seq_int, ts, sender, &*message.body))?;
        let sql = "INSERT INTO claims (sender, key, conv, seq, id, ts_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        conn.prepare_cached(sql)?.execute((sender, key, conv, seq_int, id_int, ts))?;
        Ok(Written::Stored { seq, id, ts_ms: message.ts_ms })
    }

    fn join(&mut self, group: GroupId, user: UserId) -> Result<Written, Error> {
        let conn = self.conn;
        match member_since(conn, group, user)? {
            Ok(since) => return Ok(Written::Joined { since, already: true }),
            Err(Refusal::NotMember) => {}
            Err(refusal) => return Ok(Written::Refused(refusal)),
        }
        if !user_exists(conn, user)? {
            return Ok(Written::Refused(Refusal::NoSuchUser));
        }
        if joined_too_many(conn, user)? {
            return Ok(Written::Refused(Refusal::TooManyGroups));
        }
        let since = self.head(ConvId::Group(group))?.seq;
        add_member(conn, group, user, since)?;
        Ok(Written::Joined { since, already: false })
    }

    fn cursor(&mut self, user: UserId, conv: ConvId, recv: Seq, read: Seq) -> Result<Written, Error> {
        let own = match conv {
            ConvId::Direct { .. } => conv.is_between(user),
            ConvId::Group(group) => member_since(self.conn, group, user)?.is_ok(),
        };
        if own {
            let head = self.head(conv)?;
            let (recv, read) = (recv.min(head.seq), read.min(head.seq));
            if let Some(conv) = head.conv {
                keep_cursor(self.conn, user, conv, recv, read)?;
            }
        }
        Ok(Written::Kept)
    }

    fn head(&mut self, conv: ConvId) -> Result<&mut Head, Error> {
        match self.heads.entry(conv) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let row = conv_row(self.conn, conv)?;
                let (conv, seq) = row.map_or((None, Seq::ZERO), |row| (Some(row.conv), row.head));
                Ok(entry.insert(Head { conv, seq, newest_ms: 0, dirty: false }))
            }
        }
    }

    /// One update per conversation, not per message.
    fn write_heads(&mut self) -> Result<(), Error> {
        let sql = "UPDATE convs SET head = ?2, newest_ms = ?3 WHERE conv = ?1";
        let mut update = self.conn.prepare_cached(sql)?;
        for head in self.heads.values().filter(|head| head.dirty) {
            update.execute((head.conv, int(head.seq.get()), head.newest_ms))?;
        }
        Ok(())
    }
}

/// A row of `convs`.
pub(super) struct ConvRow {
    pub(super) conv: i64,
    pub(super) head: Seq,
    /// The oldest sequence number kept; 1 if nothing was trimmed.
    pub(super) floor: Seq,
}

pub(super) fn conv_row(conn: &Connection, conv: ConvId) -> Result<Option<ConvRow>, Error> {
    let (kind, a, b) = columns(conv);
    let sql = "SELECT conv, head, floor FROM convs WHERE kind = ?1 AND a = ?2 AND b = ?3";
    first(conn, sql, &[&kind, &a, &b], |row| {
        Ok(ConvRow { conv: row.get(0)?, head: get_seq(row, 1)?, floor: get_seq(row, 2)? })
    })
}

fn new_conv(conn: &Connection, conv: ConvId) -> Result<i64, Error> {
    let sql = "INSERT INTO convs (kind, a, b, head, floor) VALUES (?1, ?2, ?3, 0, 1)";
    Ok(conn.prepare_cached(sql)?.insert(columns(conv))?)
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

/// Whether `sender` may post to `conv`.
fn judge(conn: &Connection, conv: ConvId, sender: UserId) -> Result<Result<(), Refusal>, Error> {
    let (lo, hi) = match conv {
        ConvId::Direct { lo, hi } => (lo, hi),
        ConvId::Group(group) => return Ok(member_since(conn, group, sender)?.map(|_| ())),
    };
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
fn blank(conn: &Connection, conv: Option<i64>, recall: &Recall) -> Result<Result<(), Refusal>, Error> {
    let sql = "SELECT id, sender, ts_ms, body FROM messages WHERE conv = ?1 AND seq = ?2";
    let found = first(conn, sql, &[&conv, &int(recall.seq.get())], |row| {
        let body = row.get_ref(3)?.as_str().map_err(rusqlite::Error::from)?;
        Ok((row.get::<_, i64>(0)?, recall.judge(get_user(row, 1)?, get_uint(row, 2)?, body)))
    })?;
    let Some((id, judged)) = found else { return Ok(Err(Refusal::NoSuchMessage)) };
    if judged.is_ok() {
        conn.prepare_cached("UPDATE messages SET body = ?2 WHERE id = ?1")?.execute((id, &*recall.blank))?;
    }
    Ok(judged)
}

/// Since when (exclusive) `user` is a member of `group`; a dissolved group is none.
pub(super) fn member_since(conn: &Connection, group: GroupId, user: UserId) -> Result<Result<Seq, Refusal>, Error> {
    let sql = "SELECT m.since FROM members m JOIN chat_groups g ON g.id = m.group_id AND NOT g.dissolved
               WHERE m.group_id = ?1 AND m.user_id = ?2";
    let since = first(conn, sql, &[&int(group.get()), &int(user.get())], |row| get_seq(row, 0))?;
    Ok(match since {
        Some(since) => Ok(since),
        None if exists(conn, "SELECT 1 FROM chat_groups WHERE id = ?1 AND NOT dissolved", &[&int(group.get())])? => {
            Err(Refusal::NotMember)
        }
        None => Err(Refusal::NoSuchGroup),
    })
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
    Ok(())
}
