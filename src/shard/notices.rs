//! What the control plane tells this shard, and the answers.
//!
//! Owns: the notices under way. A membership is stored by the group's home, told to the user's shard in one order with the group's deliveries, and
//! answered when that shard has confirmed.
//! Never: leaves a notice without its one answer.

use slab::Slab;

use super::Shard;
use super::asks::Purpose;
use super::effect::{Effect, Effects};
use super::event::{Answer, Notice};
use super::hints::Concern;
use super::peer::{Membership, PeerMsg};
use super::revisions::RecentMembers;
use crate::ids::{ConvId, GroupId, UserId, shard_of};
use crate::limits;
use crate::store::{self, Write};
use crate::wire::{CloseCode, Reject};

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
pub(super) struct Notices {
    pending: Slab<Pending>,
    recent: RecentMembers,
}

impl Notices {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// The memberships that they change.
    pub(super) fn memberships(&self) -> impl Iterator<Item = (GroupId, UserId)> {
        self.pending.iter().map(|(_, pending)| (pending.group, pending.user))
    }
}

impl Shard {
    /// The control plane has something to say.
    pub(super) fn notice(&mut self, id: u64, notice: Notice, fx: &mut Effects) {
        match notice {
            Notice::Join { group, user } => self.change_membership(id, group, user, Write::Join { group, user }, fx),
            Notice::Leave { group, user } => self.change_membership(id, group, user, Write::Leave { group, user }, fx),
            Notice::MemberSeen { group, user, since, age_ms } => {
                let change = since.map_or(Membership::Left, |since| Membership::Joined { since });
                self.member_seen(id, (group, user), change, age_ms, fx);
            }
            Notice::LoggedOut { user, epoch } => {
                self.close_older(user, epoch, fx);
                fx.push(Effect::Answer { id, answer: Answer::Done });
            }
            Notice::LoginEnded { user, login } => {
                self.close_login(user, login, fx);
                fx.push(Effect::Answer { id, answer: Answer::Done });
            }
            Notice::Banned { user } => {
                self.close_user(user, CloseCode::Banned, fx);
                fx.push(Effect::Answer { id, answer: Answer::Done });
            }
            Notice::Block { owner, other, on } => {
                self.block_changed(owner, other, on, fx);
                fx.push(Effect::Answer { id, answer: Answer::Done });
            }
            Notice::Changed { user, what, id: of } => {
                self.hint(Concern::User(user, what), of, fx);
                fx.push(Effect::Answer { id, answer: Answer::Done });
            }
            Notice::GroupChanged { group } => {
                self.hint(Concern::Group(group), group.get(), fx);
                fx.push(Effect::Answer { id, answer: Answer::Done });
            }
            Notice::Introduced { reader, of } => {
                self.introduced(reader, of);
                fx.push(Effect::Answer { id, answer: Answer::Done });
            }
            Notice::Recall { user, of, seq } => self.recall_for(id, user, of, seq, fx),
            Notice::Line { user, group, body } => self.line_for(id, user, group, body, fx),
            Notice::Hello => fx.push(Effect::Answer { id, answer: Answer::Done }),
        }
    }

    fn change_membership(&mut self, id: u64, group: GroupId, user: UserId, write: Write, fx: &mut Effects) {
        if self.quiescing {
            return fx.push(Effect::Answer { id, answer: Answer::Refused(Reject::Stopping) });
        }
        if self.notices.pending.len() >= limits::NOTICES_MAX {
            return fx.push(Effect::Answer { id, answer: Answer::Refused(Reject::Busy) });
        }
        let entry = self.notices.pending.vacant_entry();
        let notice = u32::try_from(entry.key()).unwrap_or(u32::MAX);
        let Some(ask) = self.asks.take(Purpose::Member { notice }) else {
            return fx.push(Effect::Answer { id, answer: Answer::Refused(Reject::Busy) });
        };
        entry.insert(Pending { id, group, user, answer: Answer::Done });
        fx.push(Effect::Write { ask, write });
    }

    /// Another gateway may have changed a membership: it is told to the user's shard as a change of this home is, unless this home knows better.
    fn member_seen(
        &mut self,
        id: u64,
        (group, user): (GroupId, UserId),
        change: Membership,
        age_ms: u64,
        fx: &mut Effects,
    ) {
        let changing = self.notices.memberships().any(|one| one == (group, user));
        let refusal = if self.quiescing {
            Some(Reject::Stopping)
        } else if changing || self.notices.recent.has(group, user, age_ms, self.now_ms) {
            Some(Reject::Retry)
        } else {
            (self.notices.pending.len() >= limits::NOTICES_MAX).then_some(Reject::Busy)
        };
        if let Some(why) = refusal {
            return fx.push(Effect::Answer { id, answer: Answer::Refused(why) });
        }
        let notice = self.notices.pending.insert(Pending { id, group, user, answer: Answer::Done });
        self.tell_member(u32::try_from(notice).unwrap_or(u32::MAX), change, true, fx);
    }

    /// The store has changed the membership, or not.
    pub(super) fn member_settled(
        &mut self,
        notice: u32,
        reply: Result<store::Membership, store::Error>,
        fx: &mut Effects,
    ) {
        if let Some(pending) = self.notices.pending.get(notice as usize) {
            self.notices.recent.note(pending.group, pending.user, self.now_ms);
        }
        let refused = match reply {
            Ok(store::Membership::Joined { since, already }) => {
                return self.tell_member(notice, Membership::Joined { since }, !already, fx);
            }
            Ok(store::Membership::Left { was_member }) => {
                return self.tell_member(notice, Membership::Left, was_member, fx);
            }
            Ok(store::Membership::Refused(store::Refusal::Owner)) => Answer::OwnerStays,
            Ok(store::Membership::Refused(refusal)) => Answer::Refused(refusal.into()),
            Err(store::Error::Unknown(_)) => Answer::Refused(Reject::Retry),
            Err(_) => Answer::Refused(Reject::Busy),
        };
        if let Some(pending) = self.notices.pending.try_remove(notice as usize) {
            fx.push(Effect::Answer { id: pending.id, answer: refused });
        }
    }

    /// `news`: the membership was another one before.
    fn tell_member(&mut self, notice: u32, change: Membership, news: bool, fx: &mut Effects) {
        let Some(pending) = self.notices.pending.get_mut(notice as usize) else { return };
        pending.answer = if news { Answer::Done } else { Answer::AsBefore };
        let pending = &*pending;
        let to = shard_of(pending.user, self.setup.shards);
        if matches!(change, Membership::Joined { .. }) && to != self.setup.id {
            self.listeners.add(pending.group, to);
        }
        let msg = PeerMsg::Member { ask: notice, group: pending.group, user: pending.user, change };
        self.send(to, msg, fx);
    }

    /// The user's shard has confirmed.
    pub(super) fn member_known(&mut self, notice: u32, fx: &mut Effects) {
        if let Some(pending) = self.notices.pending.try_remove(notice as usize) {
            fx.push(Effect::Answer { id: pending.id, answer: pending.answer });
        }
    }

    /// The home of a group tells of a membership.
    pub(super) fn member(&mut self, group: GroupId, user: UserId, change: Membership) {
        match change {
            Membership::Joined { since } => {
                self.member_joined(group, user, since);
                // The home counts this shard in before it tells; of somebody who is not online it is told that it need not.
                self.heard_for_nobody(ConvId::Group(group));
            }
            Membership::Left => self.member_left(group, user),
        }
    }
}
