//! Group commit: many writes in one transaction of few statements.
//!
//! Owns: the order of the locks, which is the same for every gateway: users who join or leave in
//! the order of their ids, missing conversations in the order of their members, conversations in
//! the order of their rows, claims in the order of their keys.
//! Never: keeps a lock longer than its transaction, or a claim of what was refused.
//! Bounds: [`TRIES_MAX`] tries when a key turns out to be claimed.
//!
//! A key is claimed by inserting its row with the final numbers, after the conversation is locked.
//! A resend finds a duplicate there; then everything is undone and decided again with all claims
//! looked up. So the ordinary batch, which has no resends, neither looks for claims nor writes them
//! twice.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};
use mysql::{Row, Value};

use super::changes::note;
use super::fault::{DUPLICATE, Fault, LOCK_WAIT, SYNTAX};
use super::files::{Gone, Text, refer};
use super::read::find_past;
use super::standing::{list_crowded, store_cursors};
use super::statement::{
    Session, Shape, broken, get_group, get_id, get_seq, get_uint, get_user, int, take_bytes, take_text, text,
};
use super::{IdBlock, Mysql};
use crate::ids::{ConvId, GroupId, Kind, Seq, UserId};
use crate::limits::{MYSQL_CONVS_CACHED_MAX, MYSQL_HELD_LOOK_MS, MYSQL_HELD_LOOKS, MYSQL_OPEN_S};
use crate::store::changes::Note;
use crate::store::decide::{
    Claimed, ConvHead, Decided, GroupRules, Key, Known, MemberChange, Recalled, appends, decide, joiners, judge_direct,
    left, movers, other_of, places, recalls, sorted,
};
use crate::store::files::Place;
use crate::store::key::key_bytes;
use crate::store::{Error, Write, Written};

/// Since when (exclusive) users are members of groups.
pub(super) type Members = HashMap<(GroupId, UserId), Seq, FixedState>;

/// The first try finds that keys are claimed, the second knows which; the third is for a race with
/// another gateway.
const TRIES_MAX: usize = 3;

const OWNERS: Shape = Shape { after: ") AND NOT dissolved", ..list("SELECT id, owner FROM chat_groups WHERE id IN (") };
/// Pairs and triples are joined as one JSON array: a long list of ORs costs the optimizer the
/// square of its length where the first column is the same. STRAIGHT_JOIN: the list first, then one
/// look into the primary key for each.
///
/// Of pairs of recipient and sender: the recipients that there are, and whether they block the
/// sender. Those that were deleted have login names like [`crate::store::folding::ERASED_LIKE`].
const RECIPIENTS: &str = "SELECT STRAIGHT_JOIN t.id, w.b, o.owner IS NOT NULL
    FROM JSON_TABLE(?, '$[*]' COLUMNS (a BIGINT UNSIGNED PATH '$[0]', b BIGINT UNSIGNED PATH '$[1]')) w
    JOIN users t ON t.id = w.a AND t.mobile NOT LIKE '\u{200b}%'
    LEFT JOIN blocks o ON o.owner = w.a AND o.blocked = w.b";
const MEMBERS: &str = "SELECT STRAIGHT_JOIN t.group_id, t.user_id, t.since
    FROM JSON_TABLE(?, '$[*]' COLUMNS (a BIGINT UNSIGNED PATH '$[0]', b BIGINT UNSIGNED PATH '$[1]')) w
    JOIN members t ON t.group_id = w.a AND t.user_id = w.b";
const CONVS: &str = "SELECT STRAIGHT_JOIN t.conv, t.kind, t.a, t.b, t.head, t.floor, t.closed, t.hidden
    FROM JSON_TABLE(?, '$[*]' COLUMNS (kind TINYINT UNSIGNED PATH '$[0]', a BIGINT UNSIGNED PATH '$[1]',
                                       b BIGINT UNSIGNED PATH '$[2]')) w
    JOIN convs t ON t.kind = w.kind AND t.a = w.a AND t.b = w.b";
/// In the order of the index that is forced, which is the order of the locks.
const LOCK_USERS: Shape = Shape {
    after: ") AND mobile NOT LIKE '\u{200b}%' ORDER BY id FOR UPDATE",
    ..list("SELECT id FROM users FORCE INDEX (PRIMARY) WHERE id IN (")
};
const NEW_CONVS: Shape = Shape {
    before: "INSERT IGNORE INTO convs (kind, a, b, head, floor) VALUES ",
    each: "(?, ?, ?, 0, 1)",
    width: 3,
    between: ", ",
    after: "",
};
/// As [`LOCK_USERS`]: without the hint a small table is read from end to end, and rows are waited
/// for that are not asked for.
const LOCK_CONVS: Shape = Shape {
    after: ") ORDER BY conv FOR UPDATE",
    ..list("SELECT conv, kind, a, b, head, closed, hidden, newest_ms FROM convs FORCE INDEX (PRIMARY) WHERE conv IN (")
};
/// As [`LOCK_CONVS`], without waiting for those that another transaction holds.
const LOCK_FREE_CONVS: Shape = Shape { after: ") ORDER BY conv FOR UPDATE SKIP LOCKED", ..LOCK_CONVS };
const JOINED: Shape =
    Shape { after: ") GROUP BY user_id", ..list("SELECT user_id, COUNT(*) FROM members WHERE user_id IN (") };
const CLAIMS: Shape = Shape {
    before: "SELECT k.sender, k.`key`, c.kind, c.a, c.b, k.seq, k.id, k.ts_ms FROM claims k \
             JOIN convs c ON c.conv = k.conv WHERE ",
    each: "(k.sender = ? AND k.`key` = ?)",
    width: 2,
    between: " OR ",
    after: "",
};
const NEW_CLAIMS: Shape = Shape {
    before: "INSERT INTO claims (sender, `key`, conv, seq, id, ts_ms, created_s) VALUES ",
    each: "(?, ?, ?, ?, ?, ?, UNIX_TIMESTAMP())",
    width: 6,
    between: ", ",
    after: "",
};
const NEW_MESSAGES: Shape = Shape {
    before: "INSERT INTO messages (conv, seq, id, ts_ms, sender, body) VALUES ",
    each: "(?, ?, ?, ?, ?, ?)",
    width: 6,
    between: ", ",
    after: "",
};
/// The list first, then one look into the primary key for each: the hint as with [`LOCK_CONVS`].
const MOVE_HEADS: &str = "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (conv BIGINT UNSIGNED PATH '$[0]',
        moved BIGINT UNSIGNED PATH '$[1]', newest_ms BIGINT UNSIGNED PATH '$[2]')) w
    STRAIGHT_JOIN convs t FORCE INDEX (PRIMARY) ON t.conv = w.conv SET t.head = t.head + w.moved, t.newest_ms = w.newest_ms,
        t.a_ms = IF(t.a_ms IS NULL, NULL, w.newest_ms), t.b_ms = IF(t.b_ms IS NULL, NULL, w.newest_ms)";
/// How many have joined and left: the locks of the groups' conversations make the sum exact.
const SIZES: &str = "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT UNSIGNED PATH '$[0]',
        joined BIGINT UNSIGNED PATH '$[1]', gone BIGINT UNSIGNED PATH '$[2]')) w
    STRAIGHT_JOIN chat_groups t ON t.id = w.id SET t.member_count = t.member_count + w.joined - w.gone";
const LEAVE: Shape = Shape {
    before: "DELETE FROM members WHERE ",
    each: "(group_id = ? AND user_id = ?)",
    width: 2,
    between: " OR ",
    after: "",
};
const LET_IN: Shape = Shape { before: "DELETE FROM group_requests WHERE ", ..LEAVE };
const FORGET_PAST: Shape = Shape { before: "DELETE FROM past_members WHERE ", ..LEAVE };
const PAST: Shape = Shape {
    before: "INSERT INTO past_members (group_id, user_id, since, until_seq) VALUES ",
    each: "(?, ?, ?, ?)",
    width: 4,
    between: ", ",
    after: " ON DUPLICATE KEY UPDATE since = VALUES(since), until_seq = VALUES(until_seq)",
};
const JOIN: Shape = Shape {
    before: "INSERT INTO members (group_id, user_id, since) VALUES ",
    each: "(?, ?, ?)",
    width: 3,
    between: ", ",
    after: "",
};

/// A statement that ends with a list of numbers.
const fn list(before: &'static str) -> Shape {
    Shape { before, each: "?", width: 1, between: ", ", after: ")" }
}

/// See [`crate::store::Backend::commit`].
pub(super) fn commit(db: &mut Mysql, writes: &[Write]) -> Result<Vec<Written>, Error> {
    if writes.is_empty() {
        return Ok(Vec::new());
    }
    let mut how = How { all_claims: false, pass_over: db.is_wary() };
    let (mut last, began_ms, mut stood_still) = (Fault::Raced, db.link.now_ms(), false);
    for _ in 0..TRIES_MAX {
        match attempt(db, writes, how) {
            Err(Fault::Raced) => (last, how.all_claims) = (Fault::Raced, true),
            // A conversation is held for longer than a commit takes. Until that is over, no other
            // one waits for it.
            Err(fault) if fault.is(LOCK_WAIT) && !how.pass_over && db.may_pass_over() => {
                db.be_wary();
                (last, how.pass_over) = (fault, true);
            }
            // An older server does not know how to pass over rows.
            Err(fault) if fault.is(SYNTAX) && how.pass_over => {
                db.never_pass_over();
                (last, how.pass_over) = (fault, false);
            }
            // This gateway stood still in the transaction, and the server ended it before COMMIT
            // was sent. That is no trouble of the database's: on a new connection it is done at
            // once.
            Err(fault @ Fault::Lost(_)) if !stood_still && has_stood_still(db.link.now_ms() - began_ms) => {
                (last, stood_still) = (fault, true);
            }
            outcome => return Ok(outcome?),
        }
    }
    Err(last.into())
}

/// Whether a connection that is lost after so long may have been ended for its silence.
const fn has_stood_still(spent_ms: u64) -> bool {
    spent_ms >= MYSQL_OPEN_S as u64 * 1000
}

/// How a transaction goes about it.
#[derive(Clone, Copy)]
struct How {
    /// Claims are looked up for every message, not only for those that are refused.
    all_claims: bool,
    /// Conversations that another transaction holds are not waited for: what is written to them is
    /// refused with [`crate::store::Refusal::Held`].
    pass_over: bool,
}

/// One transaction. [`Fault::Raced`]: nothing is stored, a key is claimed already.
fn attempt(db: &mut Mysql, writes: &[Write], how: How) -> Result<Vec<Written>, Fault> {
    let appends = appends(writes).count() as u64;
    db.session()?;
    let (mut convs, mut ids) = (std::mem::take(&mut db.convs), std::mem::replace(&mut db.ids, IdBlock::EMPTY));
    // Of no use after the time in which conversations are passed over.
    let mut in_vain = std::mem::take(&mut db.in_vain);
    if !how.pass_over || in_vain.len() > MYSQL_CONVS_CACHED_MAX {
        in_vain = HashSet::default();
    }
    let mut rows = Rows { known: &mut convs, in_vain: &mut in_vain, fresh: Vec::new() };
    let outcome = match ids.ensure(db.link.current()?, appends) {
        Ok(()) => db.transact(|session| apply(session, &mut rows, ids.next, writes, how)),
        Err(fault) => {
            db.link.roll_back(&fault);
            Err(fault)
        }
    };
    // The rows of a transaction that was rolled back are not there.
    let fresh = if outcome.is_ok() { rows.fresh } else { Vec::new() };
    if convs.len() + fresh.len() > MYSQL_CONVS_CACHED_MAX {
        convs.clear();
    }
    convs.extend(fresh);
    // Also when it failed: an unknown outcome may have used them.
    ids.next = ids.next.saturating_add(appends);
    // Should the connection be another one next time, both are forgotten then.
    (db.convs, db.ids, db.in_vain) = (convs, ids, in_vain);
    outcome
}

/// Row numbers of conversations: those of earlier transactions, and those that this one has looked
/// up or made.
struct Rows<'a> {
    known: &'a mut HashMap<ConvId, u64, FixedState>,
    /// See [`Mysql`].
    in_vain: &'a mut HashSet<u64, FixedState>,
    fresh: Vec<(ConvId, u64)>,
}

/// The rows of the conversations that are locked: all that the batch names and that there are.
type Locked = HashMap<ConvId, u64, FixedState>;

fn apply(
    session: &mut Session,
    rows: &mut Rows<'_>,
    first_id: u64,
    writes: &[Write],
    how: How,
) -> Result<Vec<Written>, Fault> {
    let mut known = Known::default();
    read_users(session, writes, &mut known)?;
    let locked = lock_convs(session, rows, writes, &mut known, how.pass_over)?;
    read_members(session, writes, &mut known)?;
    read_recalled(session, writes, &locked, &mut known)?;
    if how.all_claims {
        let claims = appends(writes).map(|message| (message.sender, &message.key)).collect();
        read_claims(session, claims, &mut known)?;
    }
    let mut decided = decide(&known, writes, first_id)?;
    if !how.all_claims && !decided.refused.is_empty() {
        read_claims(session, std::mem::take(&mut decided.refused), &mut known)?;
        decided = decide(&known, writes, first_id)?;
    }
    Storing { session, locked, known: &known, decided: &decided }.store()?;
    Ok(decided.written)
}

/// What the judge of direct messages wants to know, and which of those who want to join or to leave
/// exist. Those are locked, so that two gateways count one user's groups one after the other, and
/// a deletion comes before a leave or behind it; before the conversations, which are held while
/// this waits.
fn read_users(session: &mut Session, writes: &[Write], known: &mut Known<'_>) -> Result<(), Fault> {
    let pairs: HashSet<(UserId, UserId), FixedState> = appends(writes)
        .filter_map(|message| match message.conv {
            ConvId::Direct { lo, hi } => Some((other_of(lo, hi, message.sender), message.sender)),
            ConvId::Group(_) => None,
        })
        .collect();
    let list = pairs.iter().map(|(recipient, sender)| [recipient.get(), sender.get()]);
    let read = |row: &mut Row| Ok((get_user(row, 0)?, get_user(row, 1)?, get_uint(row, 2)? != 0));
    for (recipient, sender, blocks) in session.find_each(RECIPIENTS, list, read)? {
        known.users.insert(recipient);
        if blocks {
            known.blocks.insert((recipient, sender));
        }
    }
    let ids: Vec<Value> = movers(writes).iter().map(|user| int(user.get())).collect();
    known.users.extend(session.find_all(&LOCK_USERS, &ids, |row| get_user(row, 0))?);
    Ok(())
}

/// Locks every conversation of the batch until the transaction ends, and reads its head. Pairs that
/// have no row get one if a message to them passes the judge; a group without a row does not exist.
fn lock_convs(
    session: &mut Session,
    rows: &mut Rows<'_>,
    writes: &[Write],
    known: &mut Known<'_>,
    pass_over: bool,
) -> Result<Locked, Fault> {
    let mut convs = sorted(writes.iter().map(Write::conv));
    let unknown: Vec<ConvId> = convs.iter().copied().filter(|conv| !rows.known.contains_key(conv)).collect();
    rows.fresh = find_convs(session, &unknown)?;
    let found: HashSet<ConvId, FixedState> = rows.fresh.iter().map(|(conv, _)| *conv).collect();
    let missing: HashSet<ConvId, FixedState> = unknown.into_iter().filter(|conv| !found.contains(conv)).collect();
    let wanted = appends(writes).filter(|message| match message.conv {
        ConvId::Direct { lo, hi } => {
            missing.contains(&message.conv) && judge_direct(known, lo, hi, message.sender).is_ok()
        }
        ConvId::Group(_) => false,
    });
    let wanted = sorted(wanted.map(|message| message.conv));
    if !wanted.is_empty() {
        let list = wanted.iter().flat_map(|conv| columns(*conv)).map(int).collect();
        session.write_all(&NEW_CONVS, &[], list)?;
        list_crowded(session, &wanted)?;
        rows.fresh.extend(find_convs(session, &wanted)?);
    }
    let fresh: HashMap<ConvId, u64, FixedState> = rows.fresh.iter().copied().collect();
    let row_of = |conv: &ConvId| rows.known.get(conv).or_else(|| fresh.get(conv)).copied();
    convs.retain(|conv| row_of(conv).is_some());
    let ids = sorted(convs.iter().filter_map(row_of));
    let mut locked = Locked::default();
    if pass_over {
        lock_free_rows(session, ids, rows.in_vain, known, &mut locked)?;
        known.held.extend(convs.iter().filter(|conv| !locked.contains_key(*conv)));
        // Two sorts have no answer that says no: the batch is tried in parts, until they stand
        // alone.
        let has_no_refusal = |write: &Write| matches!(write, Write::Head(_) | Write::Cursor { .. });
        if writes.iter().any(|write| has_no_refusal(write) && known.held.contains(&write.conv())) {
            return Err(Error::Contended("another transaction holds a conversation".to_owned()).into());
        }
    } else {
        lock_rows(session, &LOCK_CONVS, &ids, known, &mut locked)?;
    }
    let as_known = |conv: &ConvId| known.held.contains(conv) || locked.get(conv).copied() == row_of(conv);
    if convs.iter().all(as_known) {
        return Ok(locked);
    }
    // Another database stands where ours was. Everything that was remembered goes.
    rows.known.clear();
    Err(Fault::Lost("the rows of conversations are not what they were".to_owned()))
}

/// Locks what no other transaction holds. What another gateway holds for one commit is free again
/// soon: some more looks are for that, and not for what they were in vain for already. Two that
/// look at what the other one holds would both look in vain, so whichever has locked a later row
/// than it waits for gives up first.
fn lock_free_rows(
    session: &mut Session,
    mut ids: Vec<u64>,
    in_vain: &mut HashSet<u64, FixedState>,
    known: &mut Known<'_>,
    locked: &mut Locked,
) -> Result<(), Fault> {
    for look in 0..=MYSQL_HELD_LOOKS {
        lock_rows(session, &LOCK_FREE_CONVS, &ids, known, locked)?;
        let free: HashSet<u64, FixedState> = locked.values().copied().collect();
        ids.retain(|row| !free.contains(row));
        in_vain.retain(|row| !free.contains(row));
        if ids.iter().all(|row| in_vain.contains(row)) {
            return Ok(());
        }
        let in_order = ids.iter().min() > locked.values().max();
        if look >= if in_order { MYSQL_HELD_LOOKS } else { 1 } {
            break;
        }
        thread::sleep(Duration::from_millis(MYSQL_HELD_LOOK_MS));
    }
    in_vain.extend(ids);
    Ok(())
}

fn lock_rows(
    session: &mut Session,
    lock: &Shape,
    ids: &[u64],
    known: &mut Known<'_>,
    locked: &mut Locked,
) -> Result<(), Fault> {
    let list: Vec<Value> = ids.iter().map(|row| int(*row)).collect();
    session.find_all(lock, &list, |row| {
        let conv = get_conv(row, 1)?;
        let (closed, hidden) = (get_uint(row, 5)? != 0, get_uint(row, 6)? != 0);
        // Every group that exists has a conversation's row.
        if let (ConvId::Group(group), false) = (conv, closed) {
            known.groups.insert(group, GroupRules { hidden });
        }
        known.heads.insert(conv, ConvHead { seq: get_seq(row, 4)?, newest_ms: get_uint(row, 7)? });
        locked.insert(conv, get_uint(row, 0)?);
        Ok(())
    })?;
    Ok(())
}

fn find_convs(session: &mut Session, convs: &[ConvId]) -> Result<Vec<(ConvId, u64)>, Fault> {
    let rows = find_conv_rows(session, convs)?;
    Ok(rows.into_iter().map(|(conv, found)| (conv, found.row)).collect())
}

/// A row of `convs`.
pub(super) struct ConvRow {
    pub(super) row: u64,
    pub(super) head: Seq,
    /// The oldest sequence number kept; 1 if nothing was trimmed.
    pub(super) floor: Seq,
    /// A group that was dissolved.
    pub(super) closed: bool,
    /// A group by invitation.
    pub(super) hidden: bool,
}

/// Of the conversations, those that have a row, without a lock.
pub(super) fn find_conv_rows(session: &mut Session, convs: &[ConvId]) -> Result<Vec<(ConvId, ConvRow)>, Fault> {
    session.find_each(CONVS, convs.iter().map(|conv| columns(*conv)), |row| {
        let (head, floor) = (get_seq(row, 4)?, get_seq(row, 5)?);
        let (closed, hidden) = (get_uint(row, 6)? != 0, get_uint(row, 7)? != 0);
        Ok((get_conv(row, 1)?, ConvRow { row: get_uint(row, 0)?, head, floor, closed, hidden }))
    })
}

/// A conversation as `(kind, a, b)`.
pub(super) fn columns(conv: ConvId) -> [u64; 3] {
    let kind = conv.kind() as u64;
    match conv {
        ConvId::Direct { lo, hi } => [kind, lo.get(), hi.get()],
        ConvId::Group(group) => [kind, group.get(), 0],
    }
}

/// A conversation from the columns `kind`, `a`, `b`, of which the first is `at`.
pub(super) fn get_conv(row: &Row, at: usize) -> Result<ConvId, Fault> {
    match get_uint(row, at)? {
        kind if kind == Kind::Direct as u64 => Ok(ConvId::direct(get_user(row, at + 1)?, get_user(row, at + 2)?)),
        kind if kind == Kind::Group as u64 => Ok(ConvId::Group(get_group(row, at + 1)?)),
        kind => Err(broken(format!("{kind} is no kind of conversation"))),
    }
}

/// Memberships and owners, which do not change while the groups are locked.
fn read_members(session: &mut Session, writes: &[Write], known: &mut Known<'_>) -> Result<(), Fault> {
    let pairs = places(writes);
    known.members = find_members(session, &pairs)?;
    let outside: Vec<_> = pairs.into_iter().filter(|pair| !known.members.contains_key(pair)).collect();
    known.past.extend(find_past(session, &outside)?.into_keys());
    let list: Vec<Value> = left(writes).iter().map(|group| int(group.get())).collect();
    known.owners.extend(session.find_all(&OWNERS, &list, |row| Ok((get_group(row, 0)?, get_user(row, 1)?)))?);
    let list: Vec<Value> = joiners(writes).iter().map(|user| int(user.get())).collect();
    known.joined.extend(session.find_all(&JOINED, &list, |row| Ok((get_user(row, 0)?, get_uint(row, 1)?)))?);
    Ok(())
}

/// What is to be recalled, one by one: recalls are rare. Nothing else changes it while the
/// conversations are locked.
fn read_recalled(session: &mut Session, writes: &[Write], locked: &Locked, known: &mut Known<'_>) -> Result<(), Fault> {
    for recall in recalls(writes) {
        let place = (recall.message.conv, recall.seq);
        let Some(row) = locked.get(&place.0) else { continue };
        let sql = "SELECT sender, ts_ms, body FROM messages WHERE conv = ? AND seq = ?";
        let found = session.first(sql, vec![int(*row), int(place.1.get())], |row| {
            Ok(Recalled { sender: get_user(row, 0)?, ts_ms: get_uint(row, 1)?, body: take_text(row, 2)? })
        })?;
        known.recalled.extend(found.map(|found| (place, found)));
    }
    Ok(())
}

/// Of the pairs, those who are members, and since when.
pub(super) fn find_members(session: &mut Session, pairs: &[(GroupId, UserId)]) -> Result<Members, Fault> {
    let list = pairs.iter().map(|(group, user)| [group.get(), user.get()]);
    let found = session.find_each(MEMBERS, list, |row| {
        let place = (get_group(row, 0)?, get_user(row, 1)?);
        Ok((place, get_seq(row, 2)?))
    })?;
    Ok(found.into_iter().collect())
}

fn read_claims<'a>(session: &mut Session, keys: Vec<Key<'a>>, known: &mut Known<'a>) -> Result<(), Fault> {
    let bytes = |&(sender, key): &Key<'_>| (sender, key_bytes(key));
    let list: Vec<Value> =
        keys.iter().map(bytes).flat_map(|(sender, key)| [int(sender.get()), Value::Bytes(key)]).collect();
    let found = session.find_all(&CLAIMS, &list, |row| {
        let key = (get_user(row, 0)?, take_bytes(row, 1)?);
        let (conv, seq) = (get_conv(row, 2)?, get_seq(row, 5)?);
        Ok((key, Claimed { conv, seq, id: get_id(row, 6)?, ts_ms: get_uint(row, 7)? }))
    })?;
    let found: HashMap<(UserId, Vec<u8>), Claimed, FixedState> = found.into_iter().collect();
    known.claims.extend(keys.into_iter().filter_map(|key| Some((key, *found.get(&bytes(&key))?))));
    Ok(())
}

/// A decided batch on its way into the tables.
struct Storing<'a> {
    session: &'a mut Session,
    locked: Locked,
    known: &'a Known<'a>,
    decided: &'a Decided<'a>,
}

impl Storing<'_> {
    /// The row of a conversation that something is stored in.
    fn row(&self, conv: ConvId) -> Result<u64, Fault> {
        self.locked.get(&conv).copied().ok_or_else(|| broken(format!("{conv:?} has no row")))
    }

    fn store(&mut self) -> Result<(), Fault> {
        let decided = self.decided;
        let mut placed = Vec::with_capacity(decided.messages.len());
        for one in &decided.messages {
            placed.push((one.message.sender, key_bytes(&one.message.key), self.row(one.message.conv)?, one));
        }
        placed.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        let list = placed.iter().flat_map(|(sender, key, row, placed)| {
            let (seq, id) = (int(placed.seq.get()), int(placed.id.get()));
            [int(sender.get()), Value::Bytes(key.clone()), int(*row), seq, id, int(placed.message.ts_ms)]
        });
        match self.session.write_all(&NEW_CLAIMS, &[], list.collect()) {
            Err(fault) if fault.is(DUPLICATE) => return Err(Fault::Raced),
            outcome => outcome?,
        };
        placed.sort_unstable_by_key(|(_, _, row, placed)| (*row, placed.seq));
        let list = placed.iter().flat_map(|(sender, _, row, placed)| {
            let (message, seq, id) = (placed.message, int(placed.seq.get()), int(placed.id.get()));
            [int(*row), seq, id, int(message.ts_ms), int(sender.get()), text(&message.body)]
        });
        self.session.write_all(&NEW_MESSAGES, &[], list.collect())?;
        for (&(conv, seq), body) in &decided.blanked {
            let sql = "UPDATE messages SET body = ?, hidden = TRUE WHERE conv = ? AND seq = ?";
            let row = self.row(conv)?;
            self.session.run(sql, vec![text(body), int(row), int(seq.get())])?;
        }
        for placed in decided.messages.iter().filter(|placed| placed.hidden) {
            let sql = "UPDATE messages SET hidden = TRUE WHERE conv = ? AND seq = ?";
            let row = self.row(placed.message.conv)?;
            self.session.run(sql, vec![int(row), int(placed.seq.get())])?;
        }
        store_members(self.session, decided)?;
        self.store_cursors()?;
        self.move_heads()?;
        self.refer_to_files()?;
        note(self.session, decided.members.iter().map(|change| (change.user, Note::Member(change.group))))
    }

    /// A conversation without a row has no cursors.
    fn store_cursors(&mut self) -> Result<(), Fault> {
        let row = |conv: &ConvId| self.locked.get(conv).copied();
        let gone = self.decided.forgotten.iter().filter_map(|(user, conv)| Some((*user, row(conv)?)));
        let kept =
            self.decided.cursors.iter().filter_map(|((user, conv), cursor)| Some(((*user, row(conv)?), *cursor)));
        let (gone, kept) = (sorted(gone), sorted(kept));
        store_cursors(self.session, &gone, &kept)
    }

    /// One statement for all conversations; the locks make `head + n` exact.
    fn move_heads(&mut self) -> Result<(), Fault> {
        let before = |conv| self.known.heads.get(conv).copied().unwrap_or_default().seq.get();
        let mut list = Vec::with_capacity(self.decided.moved.len());
        for (conv, head) in &self.decided.moved {
            list.push([self.row(*conv)?, head.seq.get() - before(conv), head.newest_ms]);
        }
        list.sort_unstable();
        self.session.change_each(MOVE_HEADS, list.into_iter())?;
        Ok(())
    }

    /// What the new messages show is held by them; what was recalled lets go. Of a batch without
    /// files nothing is asked, and of a message that the batch both stores and recalls nothing is
    /// held.
    fn refer_to_files(&mut self) -> Result<(), Fault> {
        let (mut gone, mut texts) = (Vec::new(), Vec::new());
        for place in self.decided.blanked.keys() {
            let Some(found) = self.known.recalled.get(place) else { continue };
            let (a, from, to) = (self.row(place.0)?, place.1.get(), place.1.next().get());
            gone.push(Gone { place: Place::Message, a, from, to, recalled_by: Some(found.sender) });
        }
        for placed in &self.decided.messages {
            let conv = placed.message.conv;
            if !self.decided.blanked.contains_key(&(conv, placed.seq)) {
                let (a, b) = (self.row(conv)?, placed.seq.get());
                texts.push(Text { place: Place::Message, a, b, text: &placed.message.body });
            }
        }
        refer(self.session, &gone, &texts)
    }
}

/// Ends memberships and begins others: first those that end are removed, also those that begin
/// anew, which have no role then.
fn store_members(session: &mut Session, decided: &Decided<'_>) -> Result<(), Fault> {
    let place = |change: &MemberChange| [int(change.group.get()), int(change.user.get())];
    let gone: Vec<Value> = decided.members.iter().filter(|change| change.was).flat_map(place).collect();
    session.change_all(&LEAVE, &[], &gone)?;
    let changed: Vec<Value> = decided.members.iter().flat_map(place).collect();
    session.change_all(&FORGET_PAST, &[], &changed)?;
    session.change_all(&LET_IN, &[], &changed)?;
    let joined = decided.members.iter().filter_map(|change| {
        let [group, user] = place(change);
        Some([group, user, int(change.since?.get())])
    });
    session.write_all(&JOIN, &[], joined.flatten().collect())?;
    let past = decided.past.iter().flat_map(|((group, user), (since, until))| {
        [int(group.get()), int(user.get()), int(since.get()), int(until.get())]
    });
    session.write_all(&PAST, &[], past.collect())?;
    let mut sizes: BTreeMap<GroupId, (u64, u64)> = BTreeMap::new();
    for change in &decided.members {
        let (joined, left) = sizes.entry(change.group).or_default();
        *joined += u64::from(change.since.is_some());
        *left += u64::from(change.was);
    }
    session.change_each(SIZES, sizes.into_iter().map(|(group, (joined, left))| [group.get(), joined, left]))?;
    Ok(())
}
