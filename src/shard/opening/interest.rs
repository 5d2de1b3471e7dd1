//! What this shard tells the homes of groups: of which of them it has a member online, so that it
//! is sent their messages, and of which it has none.
//!
//! A shard is sent what is said in a group only while the group's home has it among its
//! listeners (`home`). Three rules make that exact: a session is put into
//! the rosters of its groups, the homes are told and have confirmed, and only then it opens, and
//! the store is asked what it may have missed: so a message was handed on either before the
//! confirmation, and the store knows it, or after it, and is sent here. A home that passes a new
//! membership on counts the member's shard in by itself, and what follows is behind that word in
//! the same lane. And a shard says "no member here" as often as it is sent something without having
//! one; a home overhears it while a membership for that shard is on its way there, because that
//! word is older than the membership.
//!
//! Owns: the groups whose homes are to be told, the announcement under way, and the sessions that
//! wait for it.
//! Never: more than one announcement under way; what changes meanwhile goes with the next one.
//! Bounds: [`limits::INTEREST_ROWS_MAX`] groups an announcement; the groups of the roster, and
//! [`limits::INTEREST_FAREWELLS_MAX`] that are gone from it; the sessions.

use crate::shard::broken::broken;
use std::collections::{BTreeMap, VecDeque};

use hashbrown::HashSet;

use crate::ids::{ConnId, ConvId, GroupId, ShardId, home_of};
use crate::limits;
use crate::shard::PlantedBug;
use crate::shard::catching_up::CatchingUp;
use crate::shard::io::Io;
use crate::shard::opening::Opening;
use crate::shard::peer::PeerMsg;
use crate::shard::session::Phase;
use crate::shard::sessions::Sessions;

/// What is to be said, and which sessions wait for it.
#[derive(Default)]
pub(in crate::shard) struct Interest {
    /// Groups that have come to this shard or gone since their homes were told, in that order, each
    /// once.
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
    pub(in crate::shard) fn check(&self) {
        assert_eq!(self.changed.len(), self.listed.len(), "a group is to be told of once");
        assert!(self.unconfirmed > 0 || self.said.is_empty(), "what was said is confirmed by a home");
    }
}

impl Opening {
    /// Goes on with a session that is in its rosters, now or as soon as the homes of its groups
    /// know of it.
    pub(super) fn open_when_heard(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        catching_up: &mut CatchingUp,
        conn: ConnId,
    ) {
        let unheard = !io.has_bug(PlantedBug::UnheardInterest);
        if unheard && !sessions.roster.is_heard(&sessions.table, conn) {
            return self.interest.waiting.push_back(conn);
        }
        self.registered(io, sessions, catching_up, conn);
    }

    /// Something was sent here for a group that has no member here.
    pub(in crate::shard) fn heard_for_nobody(&mut self, io: &mut Io, sessions: &mut Sessions, conv: ConvId) {
        if let ConvId::Group(group) = conv
            && home_of(conv, io.setup.shards) != io.setup.id
            && !sessions.roster.has(group)
            && self.interest.changed.len() < limits::INTEREST_FAREWELLS_MAX
        {
            self.interest.note(group);
        }
    }

    /// At the end of a turn: the homes of the groups that have come or gone are told, all with one
    /// announcement.
    pub(in crate::shard) fn announce_interest(&mut self, io: &mut Io, sessions: &mut Sessions) {
        for group in sessions.roster.take_changed() {
            // A home that is told too late sends something in vain, and is told then.
            if sessions.roster.has(group) || self.interest.changed.len() < limits::INTEREST_FAREWELLS_MAX {
                self.interest.note(group);
            }
        }
        if self.interest.unconfirmed > 0 || self.interest.changed.is_empty() || io.closing {
            return;
        }
        let mut rows: BTreeMap<ShardId, Vec<(GroupId, bool)>> = BTreeMap::new();
        for _ in 0..limits::INTEREST_ROWS_MAX {
            let Some(group) = self.interest.next() else { break };
            let here = sessions.roster.has(group);
            if here {
                self.interest.said.push(group);
            }
            rows.entry(home_of(ConvId::Group(group), io.setup.shards)).or_default().push((group, here));
        }
        for (home, rows) in rows {
            self.interest.unconfirmed += 1;
            io.tally.interests += rows.len() as u64;
            io.send(home, PeerMsg::Interest { rows: rows.into() });
        }
    }

    /// A home knows.
    pub(in crate::shard) fn interest_known(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        catching_up: &mut CatchingUp,
    ) {
        let unconfirmed = self.interest.unconfirmed.checked_sub(1);
        self.interest.unconfirmed = unconfirmed.unwrap_or_else(|| broken("a home confirms once"));
        if self.interest.unconfirmed > 0 {
            return;
        }
        for group in std::mem::take(&mut self.interest.said) {
            sessions.roster.set_heard(group);
        }
        // Their groups were told in the order in which they came.
        while let Some(&conn) = self.interest.waiting.front() {
            let waits = sessions.table.get(conn).is_some_and(|session| session.phase() == Phase::Opening);
            if waits && !sessions.roster.is_heard(&sessions.table, conn) {
                return;
            }
            self.interest.waiting.pop_front();
            if waits {
                self.registered(io, sessions, catching_up, conn);
            }
        }
    }
}
