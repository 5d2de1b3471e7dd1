//! The backend without a disk: tests, the simulation, and volatile runs.
//!
//! Owns: everything that it keeps, behind one lock, so that its connections are one database.
//! Never: fails, waits for anything but the lock, or depends on chance: the same calls give the
//! same state.
//! Bounds: none of its own; without retention it keeps every message until the process ends.

mod admissions;
mod api_keys;
mod append;
mod changes;
mod erasing;
mod files;
mod groups;
mod logins;
mod people;
mod recent;
mod social;
mod standing;
mod trimming;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use parking_lot::Mutex;

use self::admissions::Doors;
use self::files::Library;
use self::recent::Lately;
use self::standing::Cursor;
use super::changes::Note;
use super::decide::Claimed;
use super::folding::{SEEDED_MAX, fold, seeded_mobile, seeded_number};
use super::{
    Admissions, ApiKey, ApiKeys, Backend, Changes, Error, Files, Group, Groups, LoginInfo, Logins, NewUser, Page,
    PageStart, People, PostKey, Read, ReadAnswer, Recent, Refusal, Retention, Row, Rule, Seed, Seeded, Seen, Since,
    Social, Trimmed, User, UserState, Write, Written,
};
use crate::ids::{ConvId, GroupId, LoginId, Seq, UserId};
use crate::limits::{BLOCKS_MAX, SYNC_ROWS_MAX};

/// A database in memory. Clones and connections share it.
#[derive(Clone)]
pub struct Memory {
    state: Arc<Mutex<State>>,
}

impl Memory {
    /// An empty database of epoch 1.
    #[must_use]
    pub fn new() -> Self {
        Self::with_epoch(1)
    }

    /// An empty database of that epoch.
    #[must_use]
    pub fn with_epoch(epoch: u64) -> Self {
        Self { state: Arc::new(Mutex::new(State { epoch, ..State::default() })) }
    }

    /// One more connection to it.
    #[must_use]
    pub fn connect(&self) -> Connection {
        Connection { state: Arc::clone(&self.state), user_queries: 0, trimmed_to: None }
    }

    /// It answers nothing as long as what is returned lives, as a database whose disk hangs.
    #[cfg(test)]
    pub(crate) fn hanging(&self) -> impl Drop + '_ {
        self.state.lock()
    }

    /// Every message of a conversation that is kept, oldest first.
    #[must_use]
    pub fn rows(&self, conv: ConvId) -> Vec<Row> {
        self.state.lock().convs.get(&conv).map(|kept| kept.rows.clone()).unwrap_or_default()
    }

    /// Tells the time of the database's clock, and the second that is written down for what is
    /// stored from now on. Until then [`Backend::recent`] finds nothing.
    pub fn set_clock(&self, now_s: u64, created_s: u64) {
        self.state.lock().lately.set(now_s, created_s);
    }

    /// The highest sequence number of a conversation.
    #[must_use]
    pub fn head(&self, conv: ConvId) -> Seq {
        self.state.lock().head(conv)
    }

    /// Every conversation that has a message, in the order of their identifiers.
    #[must_use]
    pub fn conversations(&self) -> Vec<ConvId> {
        self.state.lock().convs.keys().copied().collect()
    }

    /// The members of a group and the start (exclusive) of their membership, in the order of their
    /// identifiers.
    #[must_use]
    pub fn members(&self, group: GroupId) -> Vec<(UserId, Seq)> {
        self.state.lock().members.get(&group).map(|m| m.iter().map(|(&u, &s)| (u, s)).collect()).unwrap_or_default()
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

/// One connection to a [`Memory`].
pub struct Connection {
    state: Arc<Mutex<State>>,
    /// See [`Backend::user_queries`]: a batch is one look.
    user_queries: u64,
    /// The conversation that [`Backend::trim`] has done last; `None` where a pass begins.
    trimmed_to: Option<ConvId>,
}

impl Backend for Connection {
    fn commit(&mut self, writes: &[Write]) -> Result<Vec<Written>, Error> {
        self.state.lock().commit(writes)
    }

    fn read(&mut self, reads: &[Read]) -> Result<Vec<ReadAnswer>, Error> {
        if reads.iter().any(Read::is_of_user) {
            self.user_queries += 1;
        }
        let state = self.state.lock();
        Ok(reads.iter().map(|read| state.answer(read)).collect())
    }

    fn user_queries(&self) -> u64 {
        self.user_queries
    }

    fn changes(&mut self, after: Option<u64>, max: u32) -> Result<Changes, Error> {
        Ok(self.state.lock().changes_after(after, max))
    }

    fn forget_changes(&mut self, max: u32) -> Result<u64, Error> {
        Ok(self.state.lock().forget_changes(max))
    }

    fn recent(&mut self, since: Since, after: u64, max: u32) -> Result<Recent, Error> {
        let state = self.state.lock();
        Ok(state.lately.recent(state.epoch, since, after, max))
    }

    fn people(&mut self) -> &mut dyn People {
        self
    }

    fn groups(&mut self) -> &mut dyn Groups {
        self
    }

    fn social(&mut self) -> &mut dyn Social {
        self
    }

    fn files(&mut self) -> &mut dyn Files {
        self
    }

    fn admissions(&mut self) -> &mut dyn Admissions {
        self
    }

    fn logins(&mut self) -> &mut dyn Logins {
        self
    }

    fn api_keys(&mut self) -> &mut dyn ApiKeys {
        self
    }

    fn seed(&mut self, seed: &Seed) -> Result<Seeded, Error> {
        self.state.lock().seed(seed)
    }

    fn trim(&mut self, retention: &Retention, steps_max: u32) -> Result<Trimmed, Error> {
        Ok(self.state.lock().trim(retention, steps_max, &mut self.trimmed_to))
    }

    fn ping(&mut self) -> Result<(), Error> {
        let _answers = self.state.lock();
        Ok(())
    }
}

/// A conversation that has messages.
#[derive(Default)]
struct Conv {
    /// The number last given.
    head: Seq,
    /// The oldest number kept; above `head` when nothing is.
    floor: Seq,
    /// The time of the message that got number `head`.
    newest_ms: u64,
    /// Numbers `floor` to `head`.
    rows: Vec<Row>,
    /// Of those, recalls and what they have taken back.
    hidden: BTreeSet<Seq>,
}

impl Conv {
    /// The kept messages above `seq`.
    fn after(&self, seq: Seq) -> &[Row] {
        &self.rows[self.rows.partition_point(|row| row.seq <= seq)..]
    }
}

/// The tables. Whatever is iterated is ordered, so that a simulation repeats.
#[derive(Default)]
struct State {
    /// Bytes that users have uploaded.
    uploads: BTreeMap<UserId, u64>,
    library: Library,
    /// What is alive.
    logins: BTreeMap<UserId, BTreeMap<LoginId, LoginInfo>>,
    api_keys: Vec<ApiKey>,
    epoch: u64,
    /// The message id last given.
    id_last: u64,
    users: BTreeMap<UserId, User>,
    mobiles: BTreeMap<String, UserId>,
    groups: BTreeMap<GroupId, Group>,
    /// Folded names of the groups that are not dissolved.
    names: BTreeSet<(String, GroupId)>,
    dissolved: BTreeSet<GroupId>,
    /// Both directions of every friendship.
    friends: BTreeMap<UserId, BTreeSet<UserId>>,
    members: BTreeMap<GroupId, BTreeMap<UserId, Seq>>,
    joined: BTreeMap<UserId, BTreeSet<GroupId>>,
    /// What former members may read.
    past_members: BTreeMap<(GroupId, UserId), Seen>,
    doors: Doors,
    /// Pairs of a user and one that this user has blocked, and the same the other way round.
    blocks: BTreeSet<(UserId, UserId)>,
    blocked_by: BTreeSet<(UserId, UserId)>,
    convs: BTreeMap<ConvId, Conv>,
    /// The direct conversations of each user that have messages, by the time of the newest.
    directs: BTreeMap<UserId, BTreeSet<(u64, ConvId)>>,
    cursors: HashMap<(UserId, ConvId), Cursor, FixedState>,
    /// What has changed about users, by its number.
    changes: VecDeque<(u64, UserId, Note)>,
    /// The number of the last change.
    changes_last: u64,
    claims: HashMap<(UserId, PostKey), Claimed, FixedState>,
    lately: Lately,
}

/// The second of the pairs whose first is `user`.
fn others(pairs: &BTreeSet<(UserId, UserId)>, user: UserId) -> Vec<UserId> {
    let Some(first) = UserId::new(1) else { return Vec::new() };
    let of_user = pairs.range((user, first)..).take_while(|(one, _)| *one == user);
    of_user.map(|(_, other)| *other).take(BLOCKS_MAX as usize).collect()
}

impl State {
    fn user(&self, id: UserId) -> Option<&User> {
        self.users.get(&id)
    }

    /// The number again, unless there is no such user, or the user was deleted.
    fn living(&self, id: UserId) -> Option<UserId> {
        self.user(id).filter(|user| !user.is_erased()).map(|user| user.id)
    }

    /// The group, unless it was dissolved.
    fn group(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(&id).filter(|_| !self.dissolved.contains(&id))
    }

    fn since(&self, group: GroupId, user: UserId) -> Option<Seq> {
        self.members.get(&group)?.get(&user).copied()
    }

    fn members_count(&self, group: GroupId) -> u64 {
        self.members.get(&group).map_or(0, |m| m.len() as u64)
    }

    fn joined_count(&self, user: UserId) -> usize {
        self.joined.get(&user).map_or(0, BTreeSet::len)
    }

    fn head(&self, conv: ConvId) -> Seq {
        self.convs.get(&conv).map_or(Seq::ZERO, |kept| kept.head)
    }

    fn judge_member(&self, id: GroupId, user: UserId) -> Result<Seq, Refusal> {
        let Some(group) = self.group(id) else { return Err(Refusal::NoSuchGroup) };
        let hidden = group.rule == Rule::Invitation && !self.past_members.contains_key(&(id, user));
        self.since(id, user).ok_or(if hidden { Refusal::NoSuchGroup } else { Refusal::NotMember })
    }

    fn add_member(&mut self, group: GroupId, user: UserId, since: Seq) {
        self.members.entry(group).or_default().insert(user, since);
        // A member that comes back begins anew.
        self.past_members.remove(&(group, user));
        self.doors.moved(group, user);
        self.joined.entry(user).or_default().insert(group);
    }

    fn answer(&self, read: &Read) -> ReadAnswer {
        match read {
            Read::Open { user } => ReadAnswer::Open(self.open(*user)),
            Read::Heads { user, before, missed, max } => ReadAnswer::Heads(self.heads(*user, *before, *missed, *max)),
            Read::Page { conv, reader, from, rows_max, bytes_max } => {
                let rows_max = (*rows_max).clamp(1, SYNC_ROWS_MAX) as usize;
                match self.seen(*conv, *reader) {
                    Ok(seen) => ReadAnswer::Page(self.page(*conv, seen, *from, rows_max, *bytes_max)),
                    Err(refusal) => ReadAnswer::Refused(refusal),
                }
            }
        }
    }

    fn open(&self, user: UserId) -> UserState {
        let joined = self.joined.get(&user).into_iter().flatten();
        UserState {
            token_epoch: self.user(user).map_or(0, |u| u.token_epoch),
            banned: self.user(user).is_some_and(|u| u.banned),
            groups: joined.filter_map(|&group| Some((group, self.since(group, user)?))).collect(),
            blocks: others(&self.blocks, user),
            blocked_by: others(&self.blocked_by, user),
            logins: self.logins.get(&user).into_iter().flat_map(|logins| logins.keys()).copied().collect(),
        }
    }

    /// What `reader` may read.
    fn seen(&self, conv: ConvId, reader: Option<UserId>) -> Result<Seen, Refusal> {
        match (conv, reader) {
            (_, None) => Ok(Seen::WHOLE),
            (ConvId::Direct { lo, hi }, Some(user)) if user == lo || user == hi => Ok(Seen::WHOLE),
            (ConvId::Direct { .. }, Some(_)) => Err(Refusal::NotMember),
            (ConvId::Group(group), Some(user)) => match self.judge_member(group, user) {
                Ok(since) => Ok(Seen::since(since)),
                Err(Refusal::NotMember) => self.past_members.get(&(group, user)).copied().ok_or(Refusal::NotMember),
                Err(refusal) => Err(refusal),
            },
        }
    }

    fn page(&self, conv: ConvId, seen: Seen, from: PageStart, rows_max: usize, bytes_max: usize) -> Page {
        let kept = self.convs.get(&conv);
        let head = seen.head(self.head(conv));
        let Seen { since, .. } = seen;
        let seen = kept.map_or(&[][..], |kept| kept.after(since));
        let seen = &seen[..seen.partition_point(|row| row.seq <= head)];
        let (mut bytes, mut first) = (0usize, true);
        let mut fits = |row: &&Row| {
            bytes = bytes.saturating_add(row.body.len());
            std::mem::take(&mut first) || bytes <= bytes_max
        };
        let (rows, more) = match from {
            PageStart::After(after) => {
                let rest = &seen[seen.partition_point(|row| row.seq <= after)..];
                let rows: Vec<Row> = rest.iter().take(rows_max).take_while(&mut fits).cloned().collect();
                let more = rows.len() < rest.len();
                (rows, more)
            }
            PageStart::Before(before) => {
                let rest = &seen[..seen.partition_point(|row| row.seq < before)];
                let mut rows: Vec<Row> = rest.iter().rev().take(rows_max).take_while(&mut fits).cloned().collect();
                rows.reverse();
                let more = rows.len() < rest.len();
                (rows, more)
            }
        };
        let floor = since.next().max(kept.map_or(Seq::ZERO, |kept| kept.floor));
        Page { rows, more, floor, head, epoch: self.epoch }
    }

    fn seed(&mut self, seed: &Seed) -> Result<Seeded, Error> {
        let first = self.next_user();
        let full = || Error::Unavailable("no numbers left for new users".to_owned());
        let first_user = UserId::new(first).ok_or_else(full)?;
        let (low, high) = (seeded_mobile(0), seeded_mobile(SEEDED_MAX));
        let used = self.mobiles.range(low..=high).rev().find_map(|(key, _)| seeded_number(key));
        let base = used.map_or(1, |n| n + 1);
        if base.checked_add(seed.users).is_none_or(|end| end > SEEDED_MAX) {
            return Err(full());
        }
        for n in 0..seed.users {
            let made = self.create_user(&NewUser {
                mobile: seeded_mobile(base + n),
                password: "!".to_owned(),
                nickname: format!("user {}", first + n),
                created_ms: seed.created_ms,
                ..NewUser::default()
            });
            debug_assert!(made.is_some(), "the numbers above the highest are free");
        }
        let mut groups = Vec::new();
        let size = seed.group_size.min(seed.users);
        for g in 0..if size == 0 { 0 } else { seed.groups } {
            let nth = |k: u64| UserId::new(first + (g.wrapping_mul(size).wrapping_add(k)) % seed.users);
            let (Some(id), Some(owner)) = (GroupId::new(self.next_group()), nth(0)) else {
                return Err(full());
            };
            let name = format!("group {id}");
            let (icon, memo) = (String::new(), String::new());
            self.names.insert((fold(&name), id));
            let created_ms = seed.created_ms;
            let (rule, members_add) = (Rule::Plain, true);
            let group = Group { id, name, owner, icon, cate: 0, memo, created_ms, rule, members_add };
            self.groups.insert(id, group);
            for user in (0..size).filter_map(nth) {
                self.add_member(id, user, Seq::ZERO);
            }
            groups.push(id);
        }
        Ok(Seeded { first_user, users: seed.users, groups })
    }
}
