//! Changes of membership at the home of their group.
//!
//! Owns: the changes under way. A membership is stored by the group's home, told to the user's
//! shard in one order with the group's deliveries, and answered when that shard has confirmed.
//! Never: leaves a change without its one answer.

use crate::shard::broken::broken;
use std::collections::BTreeSet;

use slab::Slab;

use crate::ids::{ConvId, GroupId, Seq, ShardId, UserId, shard_of};
use crate::limits;
use crate::shard::PlantedBug;
use crate::shard::asks::Purpose;
use crate::shard::effect::Effect;
use crate::shard::event::Answer;
use crate::shard::home::Home;
use crate::shard::home::revisions::RecentMembers;
use crate::shard::io::Io;
use crate::shard::peer::{MemberChange, PeerMsg};
use crate::store::{self, Write};
use crate::wire::Reject;

/// What is said of a change that is not there.
const PENDING: &str = "a change of membership without an answer is under way";

/// A change of membership under way.
#[derive(Debug)]
struct Pending {
    id: u64,
    group: GroupId,
    user: UserId,
    /// What is answered when the user's shard knows.
    answer: Answer,
}

/// The notices of this home that are under way.
#[derive(Default)]
pub(in crate::shard) struct Notices {
    pending: Slab<Pending>,
    recent: RecentMembers,
}

impl Notices {
    /// How many there are.
    pub(in crate::shard) fn len(&self) -> usize {
        self.pending.len()
    }

    /// The memberships that they change.
    pub(in crate::shard) fn memberships(&self) -> impl Iterator<Item = (GroupId, UserId)> {
        self.pending.iter().map(|(_, pending)| (pending.group, pending.user))
    }
}

impl Home {
    pub(in crate::shard) fn change_membership(
        &mut self,
        io: &mut Io,
        id: u64,
        group: GroupId,
        user: UserId,
        write: Write,
    ) {
        if io.quiescing {
            return io.push(Effect::Answer { id, answer: Answer::Refused(Reject::Stopping) });
        }
        if self.notices.pending.len() >= limits::NOTICES_MAX {
            return io.push(Effect::Answer { id, answer: Answer::Refused(Reject::Busy) });
        }
        let entry = self.notices.pending.vacant_entry();
        let notice = u32::try_from(entry.key()).unwrap_or(u32::MAX);
        let Some(ask) = io.asks.take(Purpose::Member { notice }) else {
            return io.push(Effect::Answer { id, answer: Answer::Refused(Reject::Busy) });
        };
        entry.insert(Pending { id, group, user, answer: Answer::Done });
        io.push(Effect::Write { ask, write });
    }

    /// Another gateway may have changed a membership: it is told to the user's shard as a change of
    /// this home is, unless this home knows better.
    pub(in crate::shard) fn member_seen(
        &mut self,
        io: &mut Io,
        id: u64,
        (group, user): (GroupId, UserId),
        mut change: MemberChange,
        age_ms: u64,
    ) {
        if let MemberChange::Joined { passed, .. } = &mut change {
            *passed = self.conversations.delivered(ConvId::Group(group)).unwrap_or_default();
        }
        let changing = self.notices.memberships().any(|one| one == (group, user));
        let refusal = if io.quiescing {
            Some(Reject::Stopping)
        } else if changing || self.notices.recent.has(group, user, age_ms, io.now_ms()) {
            Some(Reject::Retry)
        } else {
            (self.notices.pending.len() >= limits::NOTICES_MAX).then_some(Reject::Busy)
        };
        if let Some(why) = refusal {
            return io.push(Effect::Answer { id, answer: Answer::Refused(why) });
        }
        let notice = self.notices.pending.insert(Pending { id, group, user, answer: Answer::Done });
        self.tell_member(io, u32::try_from(notice).unwrap_or(u32::MAX), change, true);
    }

    /// The store has changed the membership, or not.
    pub(in crate::shard) fn member_settled(
        &mut self,
        io: &mut Io,
        notice: u32,
        reply: Result<store::Membership, store::Error>,
    ) {
        let Some(pending) = self.notices.pending.get(notice as usize) else { broken(PENDING) };
        self.notices.recent.note(pending.group, pending.user, io.now_ms());
        let refused = match reply {
            Ok(store::Membership::Joined { since, already }) => {
                return self.tell_member(io, notice, MemberChange::Joined { since, passed: Seq::ZERO }, !already);
            }
            Ok(store::Membership::Left { was_member }) => {
                return self.tell_member(io, notice, MemberChange::Left, was_member);
            }
            Ok(store::Membership::Refused(store::Refusal::Owner)) => Answer::OwnerStays,
            Ok(store::Membership::Refused(refusal)) => Answer::Refused(refusal.into()),
            Err(store::Error::Unknown(_)) => Answer::Refused(Reject::Retry),
            Err(_) => Answer::Refused(Reject::Busy),
        };
        let Some(pending) = self.notices.pending.try_remove(notice as usize) else { broken(PENDING) };
        io.answer(pending.id, refused);
    }

    /// `news`: the membership was another one before.
    fn tell_member(&mut self, io: &mut Io, notice: u32, change: MemberChange, news: bool) {
        let Some(pending) = self.notices.pending.get_mut(notice as usize) else { broken(PENDING) };
        pending.answer = if news { Answer::Done } else { Answer::AsBefore };
        let to = shard_of(pending.user, io.setup.shards);
        if matches!(change, MemberChange::Joined { .. }) && to != io.setup.id {
            self.listeners.add(pending.group, to);
        }
        let msg = PeerMsg::Member { ask: notice, group: pending.group, user: pending.user, change };
        io.send(to, msg);
    }

    /// The user's shard has confirmed.
    pub(in crate::shard) fn member_known(&mut self, io: &mut Io, notice: u32) {
        let Some(pending) = self.notices.pending.try_remove(notice as usize) else { broken(PENDING) };
        io.answer(pending.id, pending.answer);
    }

    /// A shard tells this home of which of its groups it has members.
    pub(in crate::shard) fn peer_interest(&mut self, io: &mut Io, from: ShardId, rows: &[(GroupId, bool)]) {
        // What it said before it had heard of these memberships is no news.
        let on_their_way: BTreeSet<GroupId> = match io.setup.planted_bug {
            Some(PlantedBug::StaleFarewell) => BTreeSet::new(),
            _ => self
                .notices
                .memberships()
                .filter(|&(_, user)| shard_of(user, io.setup.shards) == from)
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
        io.send(from, PeerMsg::InterestKnown);
    }
}
