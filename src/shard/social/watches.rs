//! Whose presence the sessions of this shard watch (`cmd` 7), and what they have been told.
//!
//! Owns: the lists of the sessions, what is known of each user on one of them, and the rounds that
//! ask the users' shards again.
//! Never: decides which users are online; that is the business of their own shards (`presence`).
//! Bounds: [`limits::WATCH_USERS_MAX`] users a list, [`limits::WATCHES_MAX`] on all lists,
//! [`limits::WATCHERS_PER_USER_MAX`] sessions told of one change, [`limits::TURN_PRESENCE_MAX`] of
//! one user's first answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};

use crate::fair::{Brake, Braked};
use crate::ids::{ConnId, ShardId, UserId, shard_of};
use crate::limits;
use crate::metrics::tally::Merged;
use crate::shard::io::Io;
use crate::shard::peer::PeerMsg;
use crate::shard::sessions::Sessions;
use crate::shard::sessions::table::SessionTable;
use crate::shard::social::Social;
use crate::wire::{Reject, push};

/// What sessions are to be told.
type PresenceNews = BTreeMap<ConnId, Vec<(UserId, bool)>>;

/// A user that sessions here watch.
#[derive(Debug, Default)]
struct Watched {
    /// The sessions that are told when it changes; before the first answer all that wait for it.
    conns: Vec<ConnId>,
    /// As the user's shard said last; `None` before its first answer.
    online: Option<bool>,
}

impl Watched {
    /// So many sessions may be told.
    const fn conns_max(&self) -> usize {
        if self.online.is_none() { limits::TURN_PRESENCE_MAX } else { limits::WATCHERS_PER_USER_MAX }
    }

    /// Whether nothing is to be done for a session to be told, if that is possible.
    fn has(&self, conn: ConnId) -> bool {
        self.conns.len() >= self.conns_max() || self.conns.contains(&conn)
    }
}

/// A round through users in the order of their ids: each is met once in about
/// [`limits::PRESENCE_TICKS`] steps.
#[derive(Default)]
pub(in crate::shard) struct Round {
    next_ms: u64,
    last: Option<UserId>,
}

impl Round {
    /// When the next step is due.
    pub(in crate::shard) const fn next_ms(&self) -> u64 {
        self.next_ms
    }

    /// Whether a step is due; if so, the next one is a tick away.
    pub(in crate::shard) const fn is_due(&mut self, now_ms: u64) -> bool {
        let due = now_ms >= self.next_ms;
        if due {
            self.next_ms = now_ms + limits::PRESENCE_TICK_MS;
        }
        due
    }

    /// The users of this step.
    pub(in crate::shard) fn step<V>(&mut self, users: &BTreeMap<UserId, V>) -> Vec<UserId> {
        let wanted = users.len().div_ceil(limits::PRESENCE_TICKS);
        let after = self.last.map_or(Unbounded, Excluded);
        let met: Vec<UserId> = users.range((after, Unbounded)).take(wanted).map(|(&user, _)| user).collect();
        self.last = if met.len() < wanted { None } else { met.last().copied() };
        met
    }
}

/// The watches of this shard's sessions.
pub(in crate::shard) struct Watches {
    lists: BTreeMap<ConnId, Box<[UserId]>>,
    /// Users on all lists.
    len: usize,
    watched: BTreeMap<UserId, Watched>,
    /// Watched since the last turn: to be asked about.
    fresh: BTreeSet<UserId>,
    /// Not watched any more since the last turn: their shards are told.
    ended: BTreeSet<UserId>,
    /// Asked about, without an answer so far.
    unanswered: BTreeSet<UserId>,
    /// Sessions that were too many to be told of changes, and have not heard the first answer yet.
    owed: VecDeque<(ConnId, UserId)>,
    round: Round,
    /// Lists that wait, because their sessions have had one a moment ago.
    brake: Brake<ConnId, Box<[UserId]>>,
    /// Users on these lists.
    waiting: usize,
}

impl Default for Watches {
    fn default() -> Self {
        Self {
            lists: BTreeMap::new(),
            len: 0,
            watched: BTreeMap::new(),
            fresh: BTreeSet::new(),
            ended: BTreeSet::new(),
            unanswered: BTreeSet::new(),
            owed: VecDeque::new(),
            round: Round::default(),
            brake: Brake::new(limits::WATCH_PACE_MS, limits::WATCHES_PACED_MAX),
            waiting: 0,
        }
    }
}

impl Watches {
    /// A session wants to know of a user. What is known, if anything is.
    fn add(&mut self, conn: ConnId, user: UserId) -> Option<bool> {
        let watched = self.watched.entry(user).or_default();
        if watched.conns.is_empty() {
            self.ended.remove(&user);
            self.fresh.insert(user);
        }
        if watched.conns.len() < watched.conns_max() {
            watched.conns.push(conn);
        }
        watched.online
    }

    /// A session does not want to know any more.
    fn remove(&mut self, conn: ConnId, user: UserId) {
        let Some(watched) = self.watched.get_mut(&user) else { return };
        if let Some(at) = watched.conns.iter().position(|&other| other == conn) {
            watched.conns.swap_remove(at);
        }
        if watched.conns.is_empty() {
            self.watched.remove(&user);
            self.unanswered.remove(&user);
            if !self.fresh.remove(&user) {
                self.ended.insert(user);
            }
        }
    }

    /// Replaces the list of a session. What is known of the users on the new one; `None`: there are
    /// too many watches, and nothing has changed.
    pub(in crate::shard) fn replace(&mut self, conn: ConnId, users: Box<[UserId]>) -> Option<Vec<(UserId, bool)>> {
        let old = self.lists.get(&conn).map_or(0, |list| list.len());
        if self.len - old + self.waiting + users.len() > limits::WATCHES_MAX {
            return None;
        }
        let old = self.lists.remove(&conn).unwrap_or_default();
        let mut known = Vec::new();
        for &user in &users {
            // One that was too many may find a place by now; and the others may have gone, so that
            // nothing is known any more.
            let watched = old.binary_search(&user).ok().and_then(|_| self.watched.get(&user));
            let online = match watched.filter(|watched| watched.has(conn)) {
                Some(watched) => watched.online,
                None => self.add(conn, user),
            };
            known.extend(online.map(|online| (user, online)));
        }
        for &user in old.iter().filter(|user| users.binary_search(user).is_err()) {
            self.remove(conn, user);
        }
        self.len = self.len - old.len() + users.len();
        if !users.is_empty() {
            self.lists.insert(conn, users);
        }
        Some(known)
    }

    /// Takes the list of a session: the one to be carried out now, or nothing if it waits. `None`:
    /// there are too many watches.
    fn take(&mut self, conn: ConnId, users: Box<[UserId]>, now_ms: u64) -> Option<Braked<Box<[UserId]>>> {
        let len = users.len();
        if self.brake.pauses(&conn) && self.len + self.waiting + len > limits::WATCHES_MAX {
            return None;
        }
        let taken = self.brake.take(conn, users, now_ms);
        if let Braked::Later(dropped) = &taken {
            self.waiting = self.waiting + len - dropped.as_ref().map_or(0, |dropped| dropped.len());
        }
        Some(taken)
    }

    /// A list that has waited, when its time has come.
    fn pop(&mut self, now_ms: u64) -> Option<(ConnId, Box<[UserId]>)> {
        let (conn, users) = self.brake.pop(now_ms)?;
        self.waiting -= users.len();
        Some((conn, users))
    }

    /// A session has ended.
    fn end(&mut self, conn: ConnId) {
        self.waiting -= self.brake.forget(&conn).map_or(0, |users| users.len());
        // Fewer users than before always have room.
        self.replace(conn, Box::default());
    }

    /// Whether a session watches a user that is known to be online.
    pub(super) fn sees_online(&self, conn: ConnId, user: UserId) -> bool {
        let watches = self.lists.get(&conn).is_some_and(|list| list.binary_search(&user).is_ok());
        watches && self.watched.get(&user).is_some_and(|watched| watched.online == Some(true))
    }

    /// A user's shard has said whether the user is online. The sessions to be told, if it is news;
    /// those of a crowd that is told its first answer in the next turns are left out.
    pub(in crate::shard) fn learn(&mut self, user: UserId, online: bool) -> &[ConnId] {
        self.unanswered.remove(&user);
        match self.watched.get_mut(&user) {
            Some(watched) if watched.online != Some(online) => {
                watched.online = Some(online);
                let kept = watched.conns.len().min(limits::WATCHERS_PER_USER_MAX);
                let room = limits::WATCHES_MAX - self.owed.len();
                self.owed.extend(watched.conns.drain(kept..).map(|conn| (conn, user)).take(room));
                &watched.conns
            }
            _ => &[],
        }
    }

    /// The next one that is owed a first answer, and the answer; `None`: there is none.
    pub(in crate::shard) fn pop_owed(&mut self) -> Option<(ConnId, UserId, Option<bool>)> {
        let (conn, user) = self.owed.pop_front()?;
        let watches = self.lists.get(&conn).is_some_and(|list| list.binary_search(&user).is_ok());
        let online = match self.watched.get(&user) {
            _ if !watches => None,
            Some(watched) if watched.online.is_some() || watched.has(conn) => watched.online,
            // All others have gone meanwhile: it is asked anew.
            _ => self.add(conn, user),
        };
        Some((conn, user, online))
    }

    /// The users to be asked about now: the new ones, and at each tick those without an answer and
    /// the next ones of the round.
    fn take_asks(&mut self, now_ms: u64) -> BTreeSet<UserId> {
        let mut asked = std::mem::take(&mut self.fresh);
        self.unanswered.extend(&asked);
        if self.round.is_due(now_ms) {
            asked.extend(self.unanswered.iter().take(limits::TURN_PRESENCE_MAX));
            asked.extend(self.round.step(&self.watched));
        }
        asked
    }

    /// When there is something to do.
    pub(in crate::shard) fn next_ms(&self) -> Option<u64> {
        if !self.fresh.is_empty() || !self.ended.is_empty() || !self.owed.is_empty() {
            return Some(0);
        }
        let round = (!self.watched.is_empty()).then_some(self.round.next_ms());
        [round, self.brake.next_ms()].into_iter().flatten().min()
    }

    /// For `check_invariants`.
    pub(in crate::shard) fn check(&self, sessions: &SessionTable) {
        assert_eq!(self.lists.values().map(|list| list.len()).sum::<usize>(), self.len, "watches are counted");
        let waiting: usize = self.brake.values().map(|users| users.len()).sum();
        assert_eq!(waiting, self.waiting, "watches that wait are counted");
        assert!(self.len + self.waiting <= limits::WATCHES_MAX, "watches are bounded");
        assert!(self.owed.len() <= limits::WATCHES_MAX, "first answers that are owed are bounded");
        assert!(self.lists.keys().all(|&conn| sessions.get(conn).is_some()), "watches end with their session");
        for (user, watched) in &self.watched {
            assert!(!watched.conns.is_empty(), "a user that no session watches is forgotten");
            let lists = |conn| self.lists.get(conn).is_some_and(|list| list.binary_search(user).is_ok());
            assert!(watched.conns.iter().all(lists), "a session that is told has asked");
            assert!(watched.conns.len() <= watched.conns_max(), "a crowd is bounded");
            let waits = self.fresh.contains(user) || self.unanswered.contains(user);
            assert!(watched.online.is_some() || waits, "a user of which nothing is known is asked about");
        }
        let watched = |user| self.watched.contains_key(user);
        assert!(
            self.fresh.iter().all(watched) && self.unanswered.iter().all(watched),
            "only users that are watched are asked about"
        );
        assert!(!self.ended.iter().any(watched), "a watch that goes on has not ended");
    }
}

impl Social {
    /// `cmd` 7. What is known is answered at once, the rest when the users' shards have answered.
    pub(in crate::shard) fn watch(&mut self, io: &mut Io, sessions: &mut Sessions, conn: ConnId, users: Box<[UserId]>) {
        match self.watches.take(conn, users, io.now_ms()) {
            None => sessions.tell_refusal(io, conn, Reject::Busy, None, None),
            Some(Braked::Now(users)) => self.replace_watch(io, sessions, conn, users),
            Some(Braked::Later(dropped)) => {
                io.tally.merged[Merged::Watch as usize] += u64::from(dropped.is_some());
            }
        }
    }

    fn replace_watch(&mut self, io: &mut Io, sessions: &mut Sessions, conn: ConnId, users: Box<[UserId]>) {
        let Some(me) = sessions.table.get(conn).map(|session| session.user) else { return };
        // Whom a block hides is told at once, and never again.
        let hidden = users.iter().filter(|&&user| sessions.blocks.between(me, user));
        let hidden: Vec<(UserId, bool)> = hidden.map(|&user| (user, false)).collect();
        match self.watches.replace(conn, users) {
            None => sessions.tell_refusal(io, conn, Reject::Busy, None, None),
            Some(mut known) => {
                known.retain(|&(user, _)| !sessions.blocks.between(me, user));
                known.extend(hidden);
                if !known.is_empty() {
                    sessions.answer(io, conn, push::presence(&known));
                }
            }
        }
    }

    /// A session has ended, and with it what it watches.
    pub(super) fn end_watch(&mut self, conn: ConnId) {
        self.watches.end(conn);
    }

    /// Asks and tells the users' shards what has gathered, and announces what has changed of users
    /// here.
    pub(super) fn move_presence(&mut self, io: &mut Io, sessions: &mut Sessions) {
        for _ in 0..limits::TURN_WATCHES_MAX {
            let Some((conn, users)) = self.watches.pop(io.now_ms()) else { break };
            self.replace_watch(io, sessions, conn, users);
        }
        let mut news = PresenceNews::new();
        for _ in 0..limits::TURN_PRESENCE_MAX {
            let Some((conn, user, online)) = self.watches.pop_owed() else { break };
            if let Some(online) = online {
                Self::note_presence(sessions, &mut news, conn, user, online);
            }
        }
        Self::tell_presence(io, sessions, news);
        let asked = self.watches.take_asks(io.now_ms());
        let ended = std::mem::take(&mut self.watches.ended);
        self.tell_shards(io, asked, |users| PeerMsg::Watch { users });
        self.tell_shards(io, ended, |users| PeerMsg::Unwatch { users });
        self.announce_presence(io, sessions);
    }

    fn tell_shards(&mut self, io: &mut Io, users: BTreeSet<UserId>, msg: impl Fn(Box<[UserId]>) -> PeerMsg) {
        let mut by_shard: BTreeMap<ShardId, Vec<UserId>> = BTreeMap::new();
        for user in users {
            by_shard.entry(shard_of(user, io.setup.shards)).or_default().push(user);
        }
        for (shard, users) in by_shard {
            for users in users.chunks(limits::PRESENCE_ROWS_MAX) {
                io.send_if_room(shard, msg(users.into()));
            }
        }
    }

    /// The shard of some users has said which of them are online.
    pub(in crate::shard) fn peer_presence(&mut self, io: &mut Io, sessions: &mut Sessions, rows: &[(UserId, bool)]) {
        let mut news = PresenceNews::new();
        for &(user, online) in rows {
            for &conn in self.watches.learn(user, online) {
                Self::note_presence(sessions, &mut news, conn, user, online);
            }
        }
        Self::tell_presence(io, sessions, news);
    }

    fn note_presence(sessions: &Sessions, news: &mut PresenceNews, conn: ConnId, user: UserId, online: bool) {
        let watcher = sessions.table.get(conn).map(|session| session.user);
        if watcher.is_some_and(|watcher| !sessions.blocks.between(watcher, user)) {
            news.entry(conn).or_default().push((user, online));
        }
    }

    fn tell_presence(io: &mut Io, sessions: &mut Sessions, news: PresenceNews) {
        for (conn, rows) in news {
            sessions.whisper(io, conn, push::presence(&rows));
        }
    }
}
