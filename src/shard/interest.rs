//! What this shard tells the homes of groups: of which of them it has a member online, so that it is sent their messages, and of which it has none.
//!
//! A shard is sent what is said in a group only while the group's home has it among its [`listeners`](super::listeners). Three rules make that exact:
//! a session is put into the rosters of its groups, the homes are told and have confirmed, and only then it opens, and the store is asked what it may have missed:
//! so a message was handed on either before the confirmation, and the store knows it, or after it, and is sent here. A home that passes a new membership on
//! counts the member's shard in by itself, and what follows is behind that word in the same lane. And "nobody here" says a shard as often as it is sent something for nobody;
//! a home overhears it while a membership for that shard is on its way there, because that word is older than the membership.
//!
//! Owns: the groups whose homes are to be told, the announcement under way, and the sessions that wait for it.
//! Never: more than one announcement under way; what changes meanwhile goes with the next one.
//! Bounds: [`limits::INTEREST_ROWS_MAX`] groups an announcement; the groups of the roster, and [`limits::INTEREST_FAREWELLS_MAX`] that are gone from it; the sessions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use hashbrown::HashSet;

use super::effect::Effects;
use super::peer::PeerMsg;
use super::session::Phase;
use super::{PlantedBug, Shard};
use crate::clock::Now;
use crate::ids::{ConnId, ConvId, GroupId, ShardId, home_of, shard_of};
use crate::limits;

/// What is to be said, and who waits for it.
#[derive(Default)]
pub(super) struct Interest {
    /// Groups that have come to this shard or gone since their homes were told, in that order, each once.
    changed: VecDeque<GroupId>,
    listed: HashSet<GroupId>,
    /// Homes that have not confirmed the announcement under way.
    unconfirmed: u16,
    /// The groups that it says are here.
    said: Vec<GroupId>,
    /// Sessions in a group whose home has not confirmed.
    waiting: VecDeque<ConnId>,
}

impl Interest {
    fn note(&mut self, group: GroupId) {
        if self.listed.insert(group) {
            self.changed.push_back(group);
        }
    }

    fn next(&mut self) -> Option<GroupId> {
        let group = self.changed.pop_front()?;
        self.listed.remove(&group);
        Some(group)
    }

    /// For `check_invariants`.
    pub(super) fn check(&self) {
        assert_eq!(self.changed.len(), self.listed.len(), "a group is to be told of once");
        assert!(self.unconfirmed > 0 || self.said.is_empty(), "what was said is confirmed by somebody");
    }
}

impl Shard {
    /// Goes on with a session that is in its rosters, now or as soon as the homes of its groups know of it.
    pub(super) fn open_when_heard(&mut self, now: Now, conn: ConnId, fx: &mut Effects) {
        let unheard = self.setup.planted_bug != Some(PlantedBug::UnheardInterest);
        if unheard && !self.roster.is_heard(&self.sessions, conn) {
            return self.interest.waiting.push_back(conn);
        }
        self.registered(now, conn, fx);
    }

    /// Something was sent here for a group of which nobody is here.
    pub(super) fn heard_for_nobody(&mut self, conv: ConvId) {
        if let ConvId::Group(group) = conv
            && home_of(conv, self.setup.shards) != self.setup.id
            && !self.roster.has(group)
            && self.interest.changed.len() < limits::INTEREST_FAREWELLS_MAX
        {
            self.interest.note(group);
        }
    }

    /// At the end of a turn: the homes of the groups that have come or gone are told, all with one announcement.
    pub(super) fn announce_interest(&mut self, fx: &mut Effects) {
        for group in self.roster.take_changed() {
            // Who is told too late that nobody is here sends something for nobody, and is told then.
            if self.roster.has(group) || self.interest.changed.len() < limits::INTEREST_FAREWELLS_MAX {
                self.interest.note(group);
            }
        }
        if self.interest.unconfirmed > 0 || self.interest.changed.is_empty() || self.closing {
            return;
        }
        let mut rows: BTreeMap<ShardId, Vec<(GroupId, bool)>> = BTreeMap::new();
        for _ in 0..limits::INTEREST_ROWS_MAX {
            let Some(group) = self.interest.next() else { break };
            let here = self.roster.has(group);
            if here {
                self.interest.said.push(group);
            }
            rows.entry(home_of(ConvId::Group(group), self.setup.shards)).or_default().push((group, here));
        }
        for (home, rows) in rows {
            self.interest.unconfirmed += 1;
            self.tally.interests += rows.len() as u64;
            self.send(home, PeerMsg::Interest { rows: rows.into() }, fx);
        }
    }

    /// A shard tells this home of which of its groups somebody is there.
    pub(super) fn peer_interest(&mut self, from: ShardId, rows: &[(GroupId, bool)], fx: &mut Effects) {
        // What it said before it had heard of these memberships is no news.
        let on_their_way: BTreeSet<GroupId> = match self.setup.planted_bug {
            Some(PlantedBug::StaleFarewell) => BTreeSet::new(),
            _ => self
                .notices
                .memberships()
                .filter(|&(_, user)| shard_of(user, self.setup.shards) == from)
                .map(|(group, _)| group)
                .collect(),
        };
        for &(group, here) in rows {
            if here {
                self.listeners.add(group, from);
            } else if !on_their_way.contains(&group) {
                self.listeners.remove(group, from);
            }
        }
        self.send(from, PeerMsg::InterestKnown, fx);
    }

    /// A home knows.
    pub(super) fn interest_known(&mut self, now: Now, fx: &mut Effects) {
        debug_assert!(self.interest.unconfirmed > 0, "a home confirms once");
        self.interest.unconfirmed = self.interest.unconfirmed.saturating_sub(1);
        if self.interest.unconfirmed > 0 {
            return;
        }
        for group in std::mem::take(&mut self.interest.said) {
            self.roster.set_heard(group);
        }
        // Their groups were told in the order in which they came.
        while let Some(&conn) = self.interest.waiting.front() {
            let waits = self.sessions.get(conn).is_some_and(|session| session.phase == Phase::Opening);
            if waits && !self.roster.is_heard(&self.sessions, conn) {
                return;
            }
            self.interest.waiting.pop_front();
            if waits {
                self.registered(now, conn, fx);
            }
        }
    }
}
