//! Which users of this shard are online, for the shards that watch them.
//!
//! Owns: which shards want to know of whom and until when, what they were told last, and the pace
//! of the announcements.
//! Never: trusts that a word has arrived: a shard that wants to know asks again, and one that does
//! not is forgotten.
//! Bounds: [`limits::WATCHED_MAX`] users, one announcement of each in [`limits::PRESENCE_PACE_MS`].

use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;

use crate::ids::{ShardId, UserId};
use crate::limits;
use crate::shard::io::Io;
use crate::shard::peer::PeerMsg;
use crate::shard::session::Phase;
use crate::shard::sessions::Sessions;
use crate::shard::social::Social;
use crate::shard::social::watches::Round;

/// A user whom some shard watches.
#[derive(Debug)]
struct Announced {
    /// As it was told last.
    online: bool,
    /// Before that nothing more is told.
    rests_ms: u64,
    /// When the user is looked at again, because something has happened.
    due_ms: Option<u64>,
    /// The shards that are told, and until when unless they ask again.
    shards: SmallVec<[(ShardId, u64); 1]>,
}

/// The users of this shard that are watched.
#[derive(Default)]
pub(in crate::shard) struct Presences {
    announced: BTreeMap<UserId, Announced>,
    due: BTreeSet<(u64, UserId)>,
    round: Round,
}

impl Presences {
    /// A shard wants to know of a user that is `online` now. What it is to be told: a change is not
    /// told before its time.
    fn watch(&mut self, from: ShardId, user: UserId, online: bool, now_ms: u64) -> bool {
        if !self.announced.contains_key(&user) && self.announced.len() >= limits::WATCHED_MAX {
            return online;
        }
        let fresh = Announced { online, rests_ms: 0, due_ms: None, shards: SmallVec::new() };
        let announced = self.announced.entry(user).or_insert(fresh);
        announced.shards.retain(|(shard, _)| *shard != from);
        announced.shards.push((from, now_ms + limits::PRESENCE_LEASE_MS));
        announced.online
    }

    /// Takes out the shards of a user for which `is_over`.
    fn end(&mut self, user: UserId, is_over: impl Fn(ShardId, u64) -> bool) {
        let Some(announced) = self.announced.get_mut(&user) else { return };
        announced.shards.retain(|&mut (shard, until_ms)| !is_over(shard, until_ms));
        if announced.shards.is_empty() {
            if let Some(due_ms) = announced.due_ms {
                self.due.remove(&(due_ms, user));
            }
            self.announced.remove(&user);
        }
    }

    /// A user may have come or gone.
    fn touch(&mut self, user: UserId, now_ms: u64) {
        let Some(announced) = self.announced.get_mut(&user) else { return };
        if announced.due_ms.is_none() {
            let due_ms = announced.rests_ms.max(now_ms);
            announced.due_ms = Some(due_ms);
            self.due.insert((due_ms, user));
        }
    }

    /// The next user to be looked at.
    fn pop(&mut self, now_ms: u64) -> Option<UserId> {
        let &(due_ms, user) = self.due.first()?;
        if due_ms > now_ms {
            return None;
        }
        self.due.pop_first();
        self.announced.get_mut(&user)?.due_ms = None;
        Some(user)
    }

    /// A user was looked at: the shards to be told, if it is news.
    fn look(&mut self, user: UserId, online: bool, now_ms: u64) -> &[(ShardId, u64)] {
        match self.announced.get_mut(&user) {
            Some(announced) if announced.online != online => {
                (announced.online, announced.rests_ms) = (online, now_ms + limits::PRESENCE_PACE_MS);
                &announced.shards
            }
            _ => &[],
        }
    }

    /// When there is something to do.
    pub(in crate::shard) fn next_ms(&self) -> Option<u64> {
        let round = (!self.announced.is_empty()).then_some(self.round.next_ms());
        [self.due.first().map(|&(due_ms, _)| due_ms), round].into_iter().flatten().min()
    }

    /// For `check_invariants`.
    pub(in crate::shard) fn check(&self) {
        let due = self.announced.values().filter(|announced| announced.due_ms.is_some()).count();
        assert_eq!(due, self.due.len(), "a user that is due is in line once");
        for &(due_ms, user) in &self.due {
            let announced = self.announced.get(&user).map(|announced| announced.due_ms);
            assert_eq!(announced, Some(Some(due_ms)), "at its time");
        }
        assert!(self.announced.values().all(|announced| !announced.shards.is_empty()), "a shard is to be told");
        assert!(self.announced.len() <= limits::WATCHED_MAX, "users that are watched are bounded");
    }
}

impl Social {
    /// Whether a user has a session in full use, or one on another gateway.
    fn is_online(&self, sessions: &Sessions, user: UserId) -> bool {
        if sessions.elsewhere.has(user) {
            return true;
        }
        let slots = sessions.roster.sessions_of(&sessions.table, user);
        slots.into_iter().any(|slot| sessions.table.at(slot).is_some_and(|session| session.phase() == Phase::Open))
    }

    /// A session of the user has opened or ended.
    pub(in crate::shard) fn presence_changed(&mut self, io: &mut Io, user: UserId) {
        self.presences.touch(user, io.now_ms());
    }

    /// Users of this shard have come to other gateways, or have left them.
    pub(in crate::shard) fn far_presence(&mut self, io: &mut Io, sessions: &mut Sessions, rows: &[(UserId, bool)]) {
        for &(user, on) in rows {
            if sessions.elsewhere.set(user, on) {
                self.presence_changed(io, user);
                if on {
                    sessions.tell_devices(io, user, true);
                }
            }
        }
    }

    /// Another shard, or this one, watches users of this shard.
    pub(in crate::shard) fn peer_watch(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        from: ShardId,
        users: &[UserId],
    ) {
        let told = |&user: &UserId| {
            let online = self.is_online(sessions, user);
            (user, self.presences.watch(from, user, online, io.now_ms()))
        };
        let rows = users.iter().map(told).collect();
        io.send_if_room(from, PeerMsg::Presence { rows });
    }

    /// It does not any more.
    pub(in crate::shard) fn peer_unwatch(&mut self, from: ShardId, users: &[UserId]) {
        for &user in users {
            self.presences.end(user, |shard, _| shard == from);
        }
    }

    /// Tells the shards that watch what has changed, and forgets those that have not asked for
    /// long.
    pub(super) fn announce_presence(&mut self, io: &mut Io, sessions: &mut Sessions) {
        let now_ms = io.now_ms();
        let mut by_shard: BTreeMap<ShardId, Vec<(UserId, bool)>> = BTreeMap::new();
        for _ in 0..limits::TURN_PRESENCE_MAX {
            let Some(user) = self.presences.pop(now_ms) else { break };
            let online = self.is_online(sessions, user);
            for &(shard, _) in self.presences.look(user, online, now_ms) {
                by_shard.entry(shard).or_default().push((user, online));
            }
        }
        for (shard, rows) in by_shard {
            for rows in rows.chunks(limits::PRESENCE_ROWS_MAX) {
                io.send_if_room(shard, PeerMsg::Presence { rows: rows.into() });
            }
        }
        if self.presences.round.is_due(now_ms) {
            for user in self.presences.round.step(&self.presences.announced) {
                self.presences.end(user, |_, until_ms| until_ms <= now_ms);
            }
        }
    }
}
