//! Group commit: many writes in one transaction.
//!
//! Owns: what is loaded for [`decide`], and how it is stored.
//! Never: keeps anything of a transaction for the next one but reserved ids and what [`KnownConvs`]
//! may keep; judges or numbers anything itself.
//!
//! The ordinary message costs two statements, its key and its row, and its conversation one for
//! each batch: the key is looked for by claiming it, the judge's yes and the head are remembered.
//! When a key turns out to be claimed, the batch is decided again with the claims of all that is
//! left of it; what was stored before stays as it is.

use hashbrown::HashSet;
use hashbrown::hash_map::Entry;
use rusqlite::{CachedStatement, Connection, Row};

use super::admissions::forget_request;
use super::changes::note;
use super::files::{recall, refer};
use super::known::{KnownConv, KnownConvs};
use super::standing::{Crowd, crowd, forget_cursor, keep_cursor, list_all};
use super::{Ended, Error, Sqlite, exists, first, get_group, get_id, get_seq, get_uint, get_user, int};
use crate::ids::{ConvId, GroupId, Kind, Seq, UserId};
use crate::limits::GROUPS_JOINED_MAX;
use crate::store::changes::Note;
use crate::store::decide::{
    Claimed, ConvHead, Decided, GroupRules, Key, Known, MemberChange, MemberKey, Placed, Recalled, appends, decide,
    joiners, judge_direct, left, movers, other_of, places, recalls,
};
use crate::store::folding::ERASED_LIKE;
use crate::store::key::key_bytes;
use crate::store::{Refusal, Write, Written, files};

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
    let Sqlite { conn, ids, known: heads, .. } = db;
    heads.look_around(conn)?;
    let mut known = load(conn, heads, writes)?;
    let first_id = ids.free(conn, appends(writes).count() as u64)?;
    let mut decided = decide(&known, writes, first_id)?;
    if find_claims(conn, std::mem::take(&mut decided.refused), &mut known)? {
        decided = decide(&known, writes, first_id)?;
    }
    let mut batch = Batch { conn, heads, claim: conn.prepare_cached(CLAIM)?, store: conn.prepare_cached(STORE)? };
    let mut stored = 0;
    while let Some(placed) = decided.messages.get(stored) {
        if batch.insert(placed)? {
            stored += 1;
            continue;
        }
        let rest = decided.messages.iter().skip(stored).map(|placed| (placed.message.sender, &placed.message.key));
        if !find_claims(conn, rest.collect(), &mut known)? {
            return Err(Error::Broken("a key is claimed for no conversation".to_owned()));
        }
        // Claims of our own: a refusal that comes before them in the batch stays one.
        let ours: HashSet<Key<'_>> =
            decided.messages.iter().take(stored).map(|placed| (placed.message.sender, &placed.message.key)).collect();
        decided = decide(&known, writes, first_id)?;
        let mut refused = std::mem::take(&mut decided.refused);
        refused.retain(|key| !ours.contains(key));
        if find_claims(conn, refused, &mut known)? {
            decided = decide(&known, writes, first_id)?;
        }
    }
    batch.finish(&decided, &known)?;
    ids.take(decided.messages.len());
    Ok(decided.written)
}

/// What the batch is decided by.
fn load<'a>(conn: &Connection, heads: &mut KnownConvs, writes: &'a [Write]) -> Result<Known<'a>, Error> {
    let mut known = Known::default();
    for conv in writes.iter().map(Write::conv) {
        if let Entry::Vacant(entry) = known.heads.entry(conv) {
            let head = heads.head(conn, conv)?;
            entry.insert(ConvHead { seq: head.seq, newest_ms: head.newest_ms });
        }
    }
    for message in appends(writes) {
        let head = heads.head(conn, message.conv)?;
        if head.conv.is_none() {
            // A resend of a message of another conversation makes none.
            find_claims(conn, vec![(message.sender, &message.key)], &mut known)?;
        }
        let ConvId::Direct { lo, hi } = message.conv else { continue };
        let other = other_of(lo, hi, message.sender);
        if head.passes(message.conv, message.sender) {
            known.users.insert(other);
            continue;
        }
        if user_exists(conn, other)? {
            known.users.insert(other);
        }
        let sql = "SELECT 1 FROM blocks WHERE owner = ?1 AND blocked = ?2";
        if exists(conn, sql, &[&int(other.get()), &int(message.sender.get())])? {
            known.blocks.insert((other, message.sender));
        }
        if judge_direct(&known, lo, hi, message.sender).is_ok() {
            head.let_pass(message.conv, message.sender);
        }
    }
    for place in places(writes) {
        load_member(conn, place, &mut known)?;
    }
    for group in left(writes) {
        let sql = "SELECT owner FROM chat_groups WHERE id = ?1 AND NOT dissolved";
        let owner = first(conn, sql, &[&int(group.get())], |row| get_user(row, 0))?;
        known.owners.extend(owner.map(|owner| (group, owner)));
    }
    for user in movers(writes) {
        if user_exists(conn, user)? {
            known.users.insert(user);
        }
    }
    for user in joiners(writes) {
        let sql = "SELECT count(*) FROM members WHERE user_id = ?1";
        let joined = first(conn, sql, &[&int(user.get())], |row| get_uint(row, 0))?;
        known.joined.extend(joined.map(|joined| (user, joined)));
    }
    for recall in recalls(writes) {
        let place = (recall.message.conv, recall.seq);
        let Some(conv) = heads.head(conn, place.0)?.conv else { continue };
        let sql = "SELECT sender, ts_ms, body FROM messages WHERE conv = ?1 AND seq = ?2";
        let found = first(conn, sql, &[&conv, &int(place.1.get())], |row| {
            Ok(Recalled { sender: get_user(row, 0)?, ts_ms: get_uint(row, 1)?, body: row.get(2)? })
        })?;
        known.recalled.extend(found.map(|found| (place, found)));
    }
    Ok(known)
}

/// A group, and one place in it.
fn load_member(conn: &Connection, (group, user): MemberKey, known: &mut Known<'_>) -> Result<(), Error> {
    let place = [int(group.get()), int(user.get())];
    let sql =
        "SELECT g.rule = 2, m.since FROM chat_groups g LEFT JOIN members m ON m.group_id = g.id AND m.user_id = ?2
               WHERE g.id = ?1 AND NOT g.dissolved";
    let found = first(conn, sql, &[&place[0], &place[1]], |row| {
        let since = row.get::<_, Option<i64>>(1)?.map(|_| get_seq(row, 1)).transpose()?;
        Ok((row.get(0)?, since))
    })?;
    let since = match found {
        Some((hidden, since)) => {
            known.groups.insert(group, GroupRules { hidden });
            since
        }
        // Of a dissolved group memberships are left.
        None => {
            let sql = "SELECT since FROM members WHERE group_id = ?1 AND user_id = ?2";
            first(conn, sql, &[&place[0], &place[1]], |row| get_seq(row, 0))?
        }
    };
    known.members.extend(since.map(|since| ((group, user), since)));
    let sql = "SELECT 1 FROM past_members WHERE group_id = ?1 AND user_id = ?2";
    if since.is_none() && exists(conn, sql, &[&place[0], &place[1]])? {
        known.past.insert((group, user));
    }
    Ok(())
}

/// Looks for the claims of those keys; whether there are any.
fn find_claims<'a>(conn: &Connection, keys: Vec<Key<'a>>, known: &mut Known<'a>) -> Result<bool, Error> {
    let before = known.claims.len();
    for key in keys {
        known.claims.extend(claimed(conn, key)?.map(|claimed| (key, claimed)));
    }
    Ok(known.claims.len() > before)
}

/// A decided batch on its way into the tables.
struct Batch<'a> {
    conn: &'a Connection,
    heads: &'a mut KnownConvs,
    claim: CachedStatement<'a>,
    store: CachedStatement<'a>,
}

impl Batch<'_> {
    /// Claims the key of a message and stores it. `false`: the key is claimed already, and nothing
    /// is stored.
    fn insert(&mut self, placed: &Placed<'_>) -> Result<bool, Error> {
        let (conn, message) = (self.conn, placed.message);
        let conv = match self.heads.head(conn, message.conv)?.conv {
            Some(conv) => conv,
            None => self.new_conv(message.conv)?,
        };
        let sender = int(message.sender.get());
        let (seq, id, ts) = (int(placed.seq.get()), int(placed.id.get()), int(message.ts_ms));
        if self.claim.execute((sender, key_bytes(&message.key), conv, seq, id, ts))? == 0 {
            return Ok(false);
        }
        self.store.execute((id, conv, seq, ts, sender, &*message.body))?;
        if placed.hidden {
            conn.prepare_cached("UPDATE messages SET hidden = 1 WHERE id = ?1")?.execute([id])?;
        }
        self.heads.moved(message.conv, placed.seq, message.ts_ms);
        Ok(true)
    }

    /// Stores everything but the messages, which are stored.
    fn finish(&mut self, decided: &Decided<'_>, known: &Known<'_>) -> Result<(), Error> {
        let conn = self.conn;
        for placed in &decided.messages {
            let (conv, seq) = (placed.message.conv, placed.seq);
            // Of a message that the batch both stores and recalls no file is held.
            if !decided.blanked.contains_key(&(conv, seq))
                && let Some(row) = self.heads.head(conn, conv)?.conv
            {
                refer(conn, files::Place::Message, row, int(seq.get()), &placed.message.body)?;
            }
        }
        for (&place, blank) in &decided.blanked {
            let Some(conv) = self.heads.head(conn, place.0)?.conv else { continue };
            let seq = int(place.1.get());
            let sql = "UPDATE messages SET body = ?3, hidden = 1 WHERE conv = ?1 AND seq = ?2";
            conn.prepare_cached(sql)?.execute((conv, seq, blank))?;
            if let Some(found) = known.recalled.get(&place) {
                recall(conn, conv, seq, int(found.sender.get()))?;
            }
        }
        for (user, conv) in &decided.forgotten {
            if let Some(conv) = self.heads.head(conn, *conv)?.conv {
                forget_cursor(conn, *user, conv)?;
            }
        }
        for ((user, conv), (recv, read)) in &decided.cursors {
            if let Some(conv) = self.heads.head(conn, *conv)?.conv {
                keep_cursor(conn, *user, conv, *recv, *read)?;
            }
        }
        for change in &decided.members {
            change_member(conn, change)?;
        }
        for ((group, user), (since, until)) in &decided.past {
            let sql = "INSERT INTO past_members (group_id, user_id, since, until_seq) VALUES (?1, ?2, ?3, ?4)";
            let place = (int(group.get()), int(user.get()), int(since.get()), int(until.get()));
            conn.prepare_cached(sql)?.execute(place)?;
        }
        self.write_heads()
    }

    /// Makes the row of a conversation. Users with many direct ones have them in the index by time.
    fn new_conv(&mut self, conv: ConvId) -> Result<i64, Error> {
        let mut listed = [None; 2];
        if let ConvId::Direct { lo, hi } = conv {
            for (side, user) in listed.iter_mut().zip([Some(lo), Some(hi).filter(|hi| *hi != lo)]) {
                let crowd = user.map_or(Ok(Crowd::Few), |user| crowd(self.conn, user))?;
                if let (Crowd::Full, Some(user)) = (crowd, user) {
                    // What the rows say is what is listed, and what is remembered of them does not
                    // say so.
                    self.write_heads()?;
                    self.heads.forget();
                    list_all(self.conn, user)?;
                }
                *side = (crowd != Crowd::Few).then_some(0i64);
            }
        }
        let (kind, a, b) = columns(conv);
        let sql = "INSERT INTO convs (kind, a, b, head, floor, a_ms, b_ms) VALUES (?1, ?2, ?3, 0, 1, ?4, ?5)";
        let row = self.conn.prepare_cached(sql)?.insert((kind, a, b, listed[0], listed[1]))?;
        let head = self.heads.head(self.conn, conv)?;
        (head.conv, head.listed) = (Some(row), listed != [None; 2]);
        Ok(row)
    }

    /// One update per conversation, not per message. A head moves only from where it was known to
    /// be: that each number is given once rests on it, the index is not unique.
    fn write_heads(&mut self) -> Result<(), Error> {
        let mut update =
            self.conn.prepare_cached("UPDATE convs SET head = ?2, newest_ms = ?3 WHERE conv = ?1 AND head = ?4")?;
        // By itself, because SQLite moves the entries of an index whose columns are named, whether
        // they change or not.
        let mut update_listed = self.conn.prepare_cached(
            "UPDATE convs SET head = ?2, newest_ms = ?3, a_ms = iif(a_ms IS NULL, NULL, ?3),
                              b_ms = iif(b_ms IS NULL, NULL, ?3) WHERE conv = ?1 AND head = ?4",
        )?;
        self.heads.each_moved(|KnownConv { conv, seq, kept, listed, newest_ms, .. }| {
            let update = if *listed { &mut update_listed } else { &mut update };
            match update.execute((conv, int(seq.get()), int(*newest_ms), int(kept.get())))? {
                1 => Ok(()),
                _ => Err(Error::Broken(format!(
                    "the head of conversation {} is not at {kept}",
                    conv.unwrap_or_default()
                ))),
            }
        })
    }
}

/// Claims a key, unless it is claimed.
const CLAIM: &str = "INSERT INTO claims (sender, key, conv, seq, id, ts_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                     ON CONFLICT (sender, key) DO NOTHING";
const STORE: &str = "INSERT INTO messages (id, conv, seq, ts_ms, sender, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

/// The commit said that something was wrong and the transaction is over: its last message tells
/// whether it is stored.
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

/// A row of `convs`.
pub(super) struct ConvRow {
    pub(super) conv: i64,
    pub(super) head: Seq,
    /// The oldest sequence number kept; 1 if nothing was trimmed.
    pub(super) floor: Seq,
    /// Whether it is in the index by time.
    pub(super) listed: bool,
    /// The time of the newest message.
    pub(super) newest_ms: u64,
}

pub(super) fn conv_row(conn: &Connection, conv: ConvId) -> Result<Option<ConvRow>, Error> {
    let (kind, a, b) = columns(conv);
    let sql = "SELECT conv, head, floor, a_ms IS NOT NULL OR b_ms IS NOT NULL, newest_ms FROM convs
               WHERE kind = ?1 AND a = ?2 AND b = ?3";
    first(conn, sql, &[&kind, &a, &b], |row| {
        Ok(ConvRow {
            conv: row.get(0)?,
            head: get_seq(row, 1)?,
            floor: get_seq(row, 2)?,
            listed: row.get(3)?,
            newest_ms: get_uint(row, 4)?,
        })
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

/// The message that is stored under a key.
fn claimed(conn: &Connection, (sender, key): Key<'_>) -> Result<Option<Claimed>, Error> {
    let sql = "SELECT c.kind, c.a, c.b, k.seq, k.id, k.ts_ms FROM claims k JOIN convs c ON c.conv = k.conv
               WHERE k.sender = ?1 AND k.key = ?2";
    first(conn, sql, &[&int(sender.get()), &key_bytes(key)], |row| {
        Ok(Claimed { conv: get_conv(row, 0)?, seq: get_seq(row, 3)?, id: get_id(row, 4)?, ts_ms: get_uint(row, 5)? })
    })
}

/// Ends a membership, begins one, or both: the new one has no role then.
fn change_member(conn: &Connection, change: &MemberChange) -> Result<(), Error> {
    let MemberChange { group, user, was, since } = *change;
    let place = [int(group.get()), int(user.get())];
    if was {
        conn.prepare_cached("DELETE FROM members WHERE group_id = ?1 AND user_id = ?2")?.execute(place)?;
        let sql = "UPDATE chat_groups SET member_count = member_count - 1 WHERE id = ?1";
        conn.prepare_cached(sql)?.execute([place[0]])?;
    }
    conn.prepare_cached("DELETE FROM past_members WHERE group_id = ?1 AND user_id = ?2")?.execute(place)?;
    forget_request(conn, group, user)?;
    if let Some(since) = since {
        add_member(conn, group, user, since)?;
    }
    note(conn, user, Note::Member(group))
}

/// Since when (exclusive) `user` is a member of `group`; a dissolved group is none.
pub(super) fn member_since(conn: &Connection, group: GroupId, user: UserId) -> Result<Result<Seq, Refusal>, Error> {
    let sql = "SELECT m.since FROM members m JOIN chat_groups g ON g.id = m.group_id AND NOT g.dissolved
               WHERE m.group_id = ?1 AND m.user_id = ?2";
    let since = first(conn, sql, &[&int(group.get()), &int(user.get())], |row| get_seq(row, 0))?;
    if let Some(since) = since {
        return Ok(Ok(since));
    }
    // To users that were never a member a group by invitation does not exist.
    let sql = "SELECT 1 FROM chat_groups WHERE id = ?1 AND NOT dissolved AND (rule <> 2 OR EXISTS (
                   SELECT 1 FROM past_members p WHERE p.group_id = ?1 AND p.user_id = ?2))";
    let known = exists(conn, sql, &[&int(group.get()), &int(user.get())])?;
    Ok(Err(if known { Refusal::NotMember } else { Refusal::NoSuchGroup }))
}

/// Whether there is such a user, who was not deleted.
pub(super) fn user_exists(conn: &Connection, user: UserId) -> Result<bool, Error> {
    exists(conn, "SELECT 1 FROM users WHERE id = ?1 AND mobile NOT LIKE ?2", &[&int(user.get()), &ERASED_LIKE])
}

/// Whether `user` is in [`GROUPS_JOINED_MAX`] groups.
pub(super) fn joined_too_many(conn: &Connection, user: UserId) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM members WHERE user_id = ?1 LIMIT 1 OFFSET ?2";
    exists(conn, sql, &[&int(user.get()), &(i64::from(GROUPS_JOINED_MAX) - 1)])
}

pub(super) fn add_member(conn: &Connection, group: GroupId, user: UserId, since: Seq) -> Result<(), Error> {
    let sql = "INSERT INTO members (group_id, user_id, since) VALUES (?1, ?2, ?3)";
    conn.prepare_cached(sql)?.execute([int(group.get()), int(user.get()), int(since.get())])?;
    let sql = "UPDATE chat_groups SET member_count = member_count + 1 WHERE id = ?1";
    conn.prepare_cached(sql)?.execute([int(group.get())])?;
    Ok(())
}
