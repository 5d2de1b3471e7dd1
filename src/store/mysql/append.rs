//! Group commit: many writes in one transaction of few statements.
//!
//! Owns: the order of the locks, which is the same for every gateway: missing conversations in the order of their members,
//! conversations in the order of their rows, users who join in the order of their ids, claims in the order of their keys.
//! Never: keeps a lock longer than its transaction, or a claim of what was refused.
//! Bounds: [`TRIES_MAX`] tries when a key turns out to be claimed.
//!
//! A key is claimed by inserting its row with the final numbers, after the conversation is locked. A resend finds a
//! duplicate there; then everything is undone and decided again with all claims looked up. So the ordinary batch, which
//! has no resends, neither looks for claims nor writes them twice.

use std::collections::BTreeMap;

use foldhash::fast::FixedState;
use hashbrown::HashSet;
use mysql::{Row, Value};

use super::batch::{Claim, Decided, Head, Known, Members, Recalled, decide, judge_direct};
use super::changes::note;
use super::fault::{DUPLICATE, Fault};
use super::files::{Gone, Text, refer};
use super::read::find_past;
use super::standing::{list_crowded, store_cursors};
use super::statement::{
    Session, Shape, broken, get_group, get_id, get_seq, get_uint, get_user, int, take_bytes, take_text, text,
};
use super::{IdBlock, Mysql};
use crate::ids::{ConvId, GroupId, Kind, Seq, UserId};
use crate::limits::MYSQL_CONVS_CACHED_MAX;
use crate::store::changes::Note;
use crate::store::files::Place;
use crate::store::key::key_bytes;
use crate::store::{NewMessage, Write, Written};

/// The first try finds that keys are claimed, the second knows which; the third is for a race with another gateway.
const TRIES_MAX: usize = 3;

const USERS: Shape = list("SELECT id FROM users WHERE id IN (");
/// Pairs and triples are joined as one JSON array: a long list of ORs costs the optimizer the square of its length where the
/// first column is the same. STRAIGHT_JOIN: the list first, then one look into the primary key for each.
const BLOCKS: &str = "SELECT STRAIGHT_JOIN t.owner, t.blocked
    FROM JSON_TABLE(?, '$[*]' COLUMNS (a BIGINT UNSIGNED PATH '$[0]', b BIGINT UNSIGNED PATH '$[1]')) w
    JOIN blocks t ON t.owner = w.a AND t.blocked = w.b";
const MEMBERS: &str = "SELECT STRAIGHT_JOIN t.group_id, t.user_id, t.since
    FROM JSON_TABLE(?, '$[*]' COLUMNS (a BIGINT UNSIGNED PATH '$[0]', b BIGINT UNSIGNED PATH '$[1]')) w
    JOIN members t ON t.group_id = w.a AND t.user_id = w.b";
const CONVS: &str = "SELECT STRAIGHT_JOIN t.conv, t.kind, t.a, t.b, t.head, t.floor, t.closed, t.hidden
    FROM JSON_TABLE(?, '$[*]' COLUMNS (kind TINYINT UNSIGNED PATH '$[0]', a BIGINT UNSIGNED PATH '$[1]',
                                       b BIGINT UNSIGNED PATH '$[2]')) w
    JOIN convs t ON t.kind = w.kind AND t.a = w.a AND t.b = w.b";
/// In the order of the index that is forced, which is the order of the locks.
const LOCK_USERS: Shape =
    Shape { after: ") ORDER BY id FOR UPDATE", ..list("SELECT id FROM users FORCE INDEX (PRIMARY) WHERE id IN (") };
const NEW_CONVS: Shape = Shape {
    before: "INSERT IGNORE INTO convs (kind, a, b, head, floor) VALUES ",
    each: "(?, ?, ?, 0, 1)",
    width: 3,
    between: ", ",
    after: "",
};
/// As [`LOCK_USERS`]: without the hint a small table is read from end to end, and rows are waited for that are not asked for.
const LOCK_CONVS: Shape = Shape {
    after: ") ORDER BY conv FOR UPDATE",
    ..list("SELECT conv, kind, a, b, head, closed, hidden FROM convs FORCE INDEX (PRIMARY) WHERE conv IN (")
};
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
/// The list first, then one look into the primary key for each.
const MOVE_HEADS: &str = "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (conv BIGINT UNSIGNED PATH '$[0]',
        moved BIGINT UNSIGNED PATH '$[1]', newest_ms BIGINT UNSIGNED PATH '$[2]')) w
    STRAIGHT_JOIN convs t ON t.conv = w.conv SET t.head = t.head + w.moved, t.newest_ms = w.newest_ms,
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
pub(super) fn commit(db: &mut Mysql, writes: &[Write]) -> Result<Vec<Written>, crate::store::Error> {
    if writes.is_empty() {
        return Ok(Vec::new());
    }
    let mut last = Fault::Raced;
    for tried in 0..TRIES_MAX {
        match attempt(db, writes, tried > 0) {
            Err(Fault::Raced) => last = Fault::Raced,
            outcome => return Ok(outcome?),
        }
    }
    Err(last.into())
}

/// One transaction. [`Fault::Raced`]: nothing is stored, a key is claimed by somebody.
fn attempt(db: &mut Mysql, writes: &[Write], all_claims: bool) -> Result<Vec<Written>, Fault> {
    let appends = appends(writes).count() as u64;
    db.session()?;
    let (mut convs, mut ids) = (std::mem::take(&mut db.convs), std::mem::replace(&mut db.ids, IdBlock::EMPTY));
    let mut rows = Rows { known: &mut convs, fresh: Vec::new() };
    let outcome = match ids.ensure(db.link.current()?, appends) {
        Ok(()) => db.transact(|session| apply(session, &mut rows, ids.next, writes, all_claims)),
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
    (db.convs, db.ids) = (convs, ids);
    outcome
}

/// Row numbers of conversations: those of earlier transactions, and those that this one has looked up or made.
struct Rows<'a> {
    known: &'a mut hashbrown::HashMap<ConvId, u64, FixedState>,
    fresh: Vec<(ConvId, u64)>,
}

fn appends(writes: &[Write]) -> impl Iterator<Item = &NewMessage> {
    writes.iter().filter_map(|write| match write {
        Write::Append(message) | Write::Line(message) => Some(message),
        Write::Recall(recall) => Some(&recall.message),
        Write::Head(_) | Write::Join { .. } | Write::Leave { .. } | Write::Cursor { .. } => None,
    })
}

fn apply(
    session: &mut Session,
    rows: &mut Rows<'_>,
    first_id: u64,
    writes: &[Write],
    all_claims: bool,
) -> Result<Vec<Written>, Fault> {
    let mut known = Known::default();
    read_users(session, writes, &mut known)?;
    lock_convs(session, rows, writes, &mut known)?;
    read_members(session, writes, &mut known)?;
    read_recalled(session, writes, &mut known)?;
    if all_claims {
        let claims = appends(writes).map(|message| (message.sender, key_bytes(&message.key))).collect();
        read_claims(session, claims, &mut known)?;
    }
    let mut decided = decide(&known, writes, first_id)?;
    if !all_claims && !decided.refused.is_empty() {
        read_claims(session, std::mem::take(&mut decided.refused), &mut known)?;
        decided = decide(&known, writes, first_id)?;
    }
    store(session, &decided, &known)?;
    Ok(decided.written)
}

/// What the judge of direct messages wants to know, and which of those who want to join exist. Who joins is locked, so that
/// two gateways count one user's groups one after the other; before the conversations, which are held while this waits.
fn read_users(session: &mut Session, writes: &[Write], known: &mut Known) -> Result<(), Fault> {
    let mut others: HashSet<UserId, FixedState> = HashSet::default();
    let mut pairs: HashSet<(UserId, UserId), FixedState> = HashSet::default();
    for message in appends(writes) {
        if let ConvId::Direct { lo, hi } = message.conv {
            let other = if message.sender == lo { hi } else { lo };
            others.insert(other);
            if other != message.sender {
                pairs.insert((other, message.sender));
            }
        }
    }
    let joiners = sorted(joins(writes).map(|(_, user)| user));
    let ids: Vec<Value> = others.iter().map(|user| int(user.get())).collect();
    known.users.extend(session.find_all(&USERS, &ids, |row| get_user(row, 0))?);
    let ids: Vec<Value> = joiners.iter().map(|user| int(user.get())).collect();
    known.users.extend(session.find_all(&LOCK_USERS, &ids, |row| get_user(row, 0))?);
    let list = pairs.iter().map(|(owner, other)| [owner.get(), other.get()]);
    known.blocks.extend(session.find_each(BLOCKS, list, |row| Ok((get_user(row, 0)?, get_user(row, 1)?)))?);
    Ok(())
}

fn joins(writes: &[Write]) -> impl Iterator<Item = (GroupId, UserId)> {
    writes.iter().filter_map(|write| if let Write::Join { group, user } = write { Some((*group, *user)) } else { None })
}

fn sorted<T: Ord>(list: impl Iterator<Item = T>) -> Vec<T> {
    let mut list: Vec<T> = list.collect();
    list.sort_unstable();
    list.dedup();
    list
}

/// Locks every conversation of the batch until the transaction ends, and reads its head. Pairs that have no row get one
/// if a message to them passes the judge; a group without a row does not exist.
fn lock_convs(session: &mut Session, rows: &mut Rows<'_>, writes: &[Write], known: &mut Known) -> Result<(), Fault> {
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
    let fresh: hashbrown::HashMap<ConvId, u64, FixedState> = rows.fresh.iter().copied().collect();
    let row_of = |conv: &ConvId| rows.known.get(conv).or_else(|| fresh.get(conv)).copied();
    convs.retain(|conv| row_of(conv).is_some());
    let ids = sorted(convs.iter().filter_map(row_of));
    let list: Vec<Value> = ids.iter().map(|row| int(*row)).collect();
    let found = session.find_all(&LOCK_CONVS, &list, |row| {
        let (closed, hidden) = (get_uint(row, 5)? != 0, get_uint(row, 6)? != 0);
        Ok((get_conv(row, 1)?, Head { row: get_uint(row, 0)?, seq: get_seq(row, 4)?, closed, hidden }))
    })?;
    known.heads.extend(found);
    if convs.iter().all(|conv| known.heads.get(conv).map(|head| head.row) == row_of(conv)) {
        return Ok(());
    }
    // Another database stands where ours was. Everything that was remembered goes.
    rows.known.clear();
    Err(Fault::Lost("the rows of conversations are not what they were".to_owned()))
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

/// Memberships, which nobody else changes while the groups are locked.
fn read_members(session: &mut Session, writes: &[Write], known: &mut Known) -> Result<(), Fault> {
    let pairs = sorted(writes.iter().filter_map(|write| match write {
        Write::Join { group, user }
        | Write::Leave { group, user }
        | Write::Cursor { conv: ConvId::Group(group), user, .. } => Some((*group, *user)),
        Write::Append(message) | Write::Line(message) => in_group(message),
        Write::Recall(recall) => in_group(&recall.message),
        Write::Head(_) | Write::Cursor { .. } => None,
    }));
    known.members = find_members(session, &pairs)?;
    let outside: Vec<_> = pairs.into_iter().filter(|pair| !known.members.contains_key(pair)).collect();
    known.past.extend(find_past(session, &outside)?.into_keys());
    let joiners = sorted(joins(writes).map(|(_, user)| user));
    let list: Vec<Value> = joiners.iter().map(|user| int(user.get())).collect();
    known.joined.extend(session.find_all(&JOINED, &list, |row| Ok((get_user(row, 0)?, get_uint(row, 1)?)))?);
    Ok(())
}

/// The sender's place in a group that it is said to.
fn in_group(message: &NewMessage) -> Option<(GroupId, UserId)> {
    match message.conv {
        ConvId::Group(group) => Some((group, message.sender)),
        ConvId::Direct { .. } => None,
    }
}

/// What is to be recalled, one by one: people recall little. Nobody else changes it while the conversations are locked.
fn read_recalled(session: &mut Session, writes: &[Write], known: &mut Known) -> Result<(), Fault> {
    let recalls = writes.iter().filter_map(|write| if let Write::Recall(recall) = write { Some(recall) } else { None });
    for recall in recalls {
        let Some(head) = known.heads.get(&recall.message.conv) else { continue };
        let sql = "SELECT sender, ts_ms, body FROM messages WHERE conv = ? AND seq = ?";
        let found = session.first(sql, vec![int(head.row), int(recall.seq.get())], |row| {
            Ok(Recalled { sender: get_user(row, 0)?, ts_ms: get_uint(row, 1)?, body: take_text(row, 2)? })
        })?;
        known.recalled.extend(found.map(|found| ((head.row, recall.seq), found)));
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

fn read_claims(session: &mut Session, claims: Vec<Claim>, known: &mut Known) -> Result<(), Fault> {
    let list: Vec<Value> =
        claims.into_iter().flat_map(|(sender, key)| [int(sender.get()), Value::Bytes(key)]).collect();
    let found = session.find_all(&CLAIMS, &list, |row| {
        let claim = (get_user(row, 0)?, take_bytes(row, 1)?);
        let (conv, seq) = (get_conv(row, 2)?, get_seq(row, 5)?);
        Ok((claim, Written::Duplicate { conv, seq, id: get_id(row, 6)?, ts_ms: get_uint(row, 7)? }))
    })?;
    known.claims.extend(found);
    Ok(())
}

fn store(session: &mut Session, decided: &Decided<'_>, known: &Known) -> Result<(), Fault> {
    let mut placed: Vec<_> = decided.messages.iter().collect();
    placed.sort_unstable_by(|a, b| (a.message.sender, &a.key).cmp(&(b.message.sender, &b.key)));
    let list = placed.iter().flat_map(|placed| {
        let key = Value::Bytes(placed.key.clone());
        let (seq, id) = (int(placed.seq.get()), int(placed.id.get()));
        [int(placed.message.sender.get()), key, int(placed.row), seq, id, int(placed.message.ts_ms)]
    });
    match session.write_all(&NEW_CLAIMS, &[], list.collect()) {
        Err(fault) if fault.is(DUPLICATE) => return Err(Fault::Raced),
        outcome => outcome?,
    };
    placed.sort_unstable_by_key(|placed| (placed.row, placed.seq));
    let list = placed.iter().flat_map(|placed| {
        let (message, seq, id) = (placed.message, int(placed.seq.get()), int(placed.id.get()));
        [int(placed.row), seq, id, int(message.ts_ms), int(message.sender.get()), text(&message.body)]
    });
    session.write_all(&NEW_MESSAGES, &[], list.collect())?;
    for (&(row, seq), body) in &decided.blanked {
        let sql = "UPDATE messages SET body = ?, hidden = TRUE WHERE conv = ? AND seq = ?";
        session.run(sql, vec![text(body), int(row), int(seq.get())])?;
    }
    for placed in decided.messages.iter().filter(|placed| placed.hidden) {
        let sql = "UPDATE messages SET hidden = TRUE WHERE conv = ? AND seq = ?";
        session.run(sql, vec![int(placed.row), int(placed.seq.get())])?;
    }
    let changed = store_members(session, decided, known)?;
    store_cursors(session, decided)?;
    move_heads(session, decided)?;
    refer_to_files(session, decided, known)?;
    note(session, changed.into_iter().map(|(group, user)| (user, Note::Member(group))))
}

/// What the new messages show is held by them; what was recalled lets go. Of a batch without files nothing is asked, and
/// of a message that the batch both stores and recalls nothing is held.
fn refer_to_files(session: &mut Session, decided: &Decided<'_>, known: &Known) -> Result<(), Fault> {
    let gone = decided.blanked.keys().filter_map(|place| {
        let (row, seq) = *place;
        let recalled_by = Some(known.recalled.get(place)?.sender);
        Some(Gone { place: Place::Message, a: row, from: seq.get(), to: seq.next().get(), recalled_by })
    });
    let stored = decided.messages.iter().filter(|placed| !decided.blanked.contains_key(&(placed.row, placed.seq)));
    let texts = stored.map(|placed| {
        let (a, b) = (placed.row, placed.seq.get());
        Text { place: Place::Message, a, b, text: &placed.message.body }
    });
    refer(session, &gone.collect::<Vec<_>>(), &texts.collect::<Vec<_>>())
}

/// One statement for all conversations; the locks make `head + n` exact.
fn move_heads(session: &mut Session, decided: &Decided<'_>) -> Result<(), Fault> {
    let list = sorted(decided.moved.iter().map(|(row, moved)| [*row, moved.by, moved.newest_ms]));
    session.change_each(MOVE_HEADS, list.into_iter())?;
    Ok(())
}

/// The memberships that are not what they were; one that has ended and begun again is another one, even at the same head: whoever
/// comes back has no role.
fn store_members(session: &mut Session, decided: &Decided<'_>, known: &Known) -> Result<Vec<(GroupId, UserId)>, Fault> {
    let never_was = |place, since: &Option<Seq>| since.is_none() && !known.members.contains_key(place);
    let mut changed: Vec<_> = decided.members.iter().filter(|(place, since)| !never_was(*place, since)).collect();
    changed.sort_unstable();
    // Who left and came back within the batch has a row that is to go.
    let gone = changed.iter().filter(|(place, _)| known.members.contains_key(*place));
    let gone: Vec<Value> = gone.flat_map(|((group, user), _)| [int(group.get()), int(user.get())]).collect();
    session.change_all(&LEAVE, &[], &gone)?;
    let joined = changed
        .iter()
        .filter_map(|((group, user), since)| since.map(|since| [int(group.get()), int(user.get()), int(since.get())]));
    let joined: Vec<Value> = joined.flatten().collect();
    // Who comes back begins anew, and who leaves again ends anew.
    let changed_places = changed.iter().flat_map(|((group, user), _)| [int(group.get()), int(user.get())]);
    session.change_all(&FORGET_PAST, &[], &changed_places.collect::<Vec<_>>())?;
    session.write_all(&JOIN, &[], joined)?;
    let past = decided.past.iter().flat_map(|((group, user), (since, until))| {
        [int(group.get()), int(user.get()), int(since.get()), int(until.get())]
    });
    let let_in = changed.iter().filter(|(_, since)| since.is_some());
    let let_in: Vec<Value> = let_in.flat_map(|((group, user), _)| [int(group.get()), int(user.get())]).collect();
    session.change_all(&LET_IN, &[], &let_in)?;
    session.write_all(&PAST, &[], past.collect())?;
    let mut sizes: BTreeMap<GroupId, (u64, u64)> = BTreeMap::new();
    for ((group, user), since) in &changed {
        let (joined, left) = sizes.entry(*group).or_default();
        *joined += u64::from(since.is_some());
        *left += u64::from(known.members.contains_key(&(*group, *user)));
    }
    session.change_each(SIZES, sizes.into_iter().map(|(group, (joined, left))| [group.get(), joined, left]))?;
    Ok(changed.into_iter().map(|(place, _)| *place).collect())
}
