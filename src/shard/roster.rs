//! Who is here: the sessions of each user, and of each group the sessions of its members on this shard.
//!
//! Owns: the list of a user's sessions, the member list of a group, a group's packets on their way to the members.
//! Never: asks the store, and never decides who is a member; it is told.
//! Bounds: 8 bytes per place in a group here and 24 in the session; groups without a member here do not exist here.

use std::collections::VecDeque;
use std::rc::Rc;

use hashbrown::HashMap;
use slab::Slab;
use smallvec::SmallVec;

use super::coalescing::Pace;
use super::outbox::{Batch, BatchPart};
use super::session::Sessions;
use crate::ids::{ConnId, GroupId, Seq, UserId};

/// A session's place in the roster of one group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Membership {
    /// Key of the [`Group`].
    pub group: u32,
    /// Index into [`Group::members`].
    pub place: u32,
    /// Only what is after this is for this member.
    pub since: Seq,
}

/// A member session in the roster of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Member {
    /// The session's slot; [`TOMBSTONE`] for one that left while sweeps were under way.
    pub slot: u32,
    /// Index into the session's `groups`.
    pub index: u32,
}

/// The slot of nobody.
const TOMBSTONE: u32 = u32::MAX;

/// The ack of a message of a batch: goes to its author in the message's place in the order.
#[derive(Debug)]
pub(super) struct PendingAck {
    /// Index of the message in the batch.
    pub part: usize,
    /// Who gets it.
    pub conn: ConnId,
    /// The frame, until it is given.
    pub frame: Option<Box<[u8]>>,
}

/// What a group's members are to be told next, in order.
#[derive(Debug)]
pub(super) enum Work {
    /// Messages.
    Batch { batch: Rc<Batch>, acks: Vec<PendingAck> },
    /// Messages were lost on the way here: the members are behind.
    Mark { from: Seq, upto: Seq },
}

/// A [`Work`] and how far it has come. Whoever joined the roster later is not concerned.
#[derive(Debug)]
pub(super) struct Sweep {
    /// What.
    pub work: Work,
    /// The next place.
    pub next: usize,
    /// The place after the last.
    pub end: usize,
}

/// A group with members on this shard.
#[derive(Debug)]
pub(super) struct Group {
    /// Which.
    pub id: GroupId,
    /// Their places.
    pub members: Vec<Member>,
    /// Members that left while places could not move.
    tombstones: usize,
    /// The largest [`Membership::since`]: above it nobody needs to be asked one by one.
    pub since_max: Seq,
    /// Messages that no sweep has taken yet, with the acks for their authors.
    pub pending: Vec<BatchPart>,
    /// The acks of `pending`.
    pub acks: Vec<PendingAck>,
    /// Bytes of `pending`.
    pub pending_bytes: usize,
    /// Sweeps under way and waiting.
    pub sweeps: VecDeque<Sweep>,
    /// Whether it is in the shard's list of groups with something to sweep, or of those that wait: no place moves meanwhile.
    pub queued: bool,
    /// Until when it waits, if it does.
    pub due_ms: Option<u64>,
    /// Whether its messages are worth a wait.
    pub pace: Pace,
}

impl Group {
    fn new(id: GroupId) -> Self {
        Self {
            id,
            members: Vec::new(),
            tombstones: 0,
            since_max: Seq::ZERO,
            pending: Vec::new(),
            acks: Vec::new(),
            pending_bytes: 0,
            sweeps: VecDeque::new(),
            queued: false,
            due_ms: None,
            pace: Pace::default(),
        }
    }

    /// Makes a sweep over the present members of what is pending.
    pub(super) fn close_batch(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let batch = Rc::new(Batch::new(std::mem::take(&mut self.pending)));
        let acks = std::mem::take(&mut self.acks);
        self.pending_bytes = 0;
        self.sweeps.push_back(Sweep { work: Work::Batch { batch, acks }, next: 0, end: self.members.len() });
    }

    /// Makes a sweep that leaves the present members behind, or lengthens the last one if it has just that to say to just them.
    pub(super) fn add_mark(&mut self, from: Seq, upto: Seq) {
        let end = self.members.len();
        if let Some(Sweep { work: Work::Mark { upto: last, .. }, next: 0, end: last_end }) = self.sweeps.back_mut()
            && *last_end == end
            && last.next() == from
        {
            *last = upto;
        } else {
            self.sweeps.push_back(Sweep { work: Work::Mark { from, upto }, next: 0, end });
        }
    }

    /// Bytes of messages that wait here. For `check_invariants`.
    fn backlog(&self) -> usize {
        let batches = self.sweeps.iter().filter_map(|sweep| match &sweep.work {
            Work::Batch { batch, .. } => Some(batch.parts()),
            Work::Mark { .. } => None,
        });
        batches.chain([self.pending.as_slice()]).flatten().map(|part| part.frame.bytes().len()).sum()
    }

    /// Whether somebody is left.
    fn is_deserted(&self) -> bool {
        self.members.len() == self.tombstones && self.sweeps.is_empty() && self.pending.is_empty()
    }
}

/// Users and groups with sessions on this shard.
#[derive(Default)]
pub(super) struct Roster {
    users: HashMap<UserId, SmallVec<[u32; 2]>>,
    by_id: HashMap<GroupId, u32>,
    groups: Slab<Group>,
}

impl Roster {
    /// Adds a session of `user`.
    pub(super) fn add_session(&mut self, user: UserId, slot: u32) {
        self.users.entry(user).or_default().push(slot);
    }

    /// Removes a session of `user`.
    pub(super) fn remove_session(&mut self, user: UserId, slot: u32) {
        if let Some(slots) = self.users.get_mut(&user) {
            slots.retain(|&mut other| other != slot);
            if slots.is_empty() {
                self.users.remove(&user);
            }
        }
    }

    /// The sessions of `user`.
    pub(super) fn sessions_of(&self, user: UserId) -> SmallVec<[u32; 2]> {
        self.users.get(&user).cloned().unwrap_or_default()
    }

    /// Users with at least one session.
    pub(super) fn users_online(&self) -> usize {
        self.users.len()
    }

    /// The group, if it has members here.
    pub(super) fn group_mut(&mut self, id: GroupId) -> Option<(u32, &mut Group)> {
        let key = *self.by_id.get(&id)?;
        Some((key, self.groups.get_mut(key as usize)?))
    }

    /// The group of that key.
    pub(super) fn at(&self, key: u32) -> Option<&Group> {
        self.groups.get(key as usize)
    }

    /// As [`Roster::at`], to change it.
    pub(super) fn at_mut(&mut self, key: u32) -> Option<&mut Group> {
        self.groups.get_mut(key as usize)
    }

    /// Whether the session is in the group's roster.
    pub(super) fn is_member(&self, sessions: &Sessions, conn: ConnId, id: GroupId) -> bool {
        let Some(&key) = self.by_id.get(&id) else { return false };
        sessions.get(conn).is_some_and(|session| session.groups.iter().any(|membership| membership.group == key))
    }

    /// Puts a session into a group's roster; being there already is fine.
    pub(super) fn join(&mut self, sessions: &mut Sessions, conn: ConnId, id: GroupId, since: Seq) {
        let Some(session) = sessions.get_mut(conn) else { return };
        let key = match self.by_id.get(&id) {
            Some(&key) => key,
            None => {
                let key = u32::try_from(self.groups.insert(Group::new(id))).unwrap_or(TOMBSTONE);
                self.by_id.insert(id, key);
                key
            }
        };
        if session.groups.iter().any(|membership| membership.group == key) {
            return;
        }
        let Some(group) = self.groups.get_mut(key as usize) else { return };
        // What has arrived before is for those who were there before.
        group.close_batch();
        let place = u32::try_from(group.members.len()).unwrap_or(TOMBSTONE);
        let index = u32::try_from(session.groups.len()).unwrap_or(TOMBSTONE);
        group.members.push(Member { slot: conn.slot, index });
        group.since_max = group.since_max.max(since);
        session.groups.push(Membership { group: key, place, since });
    }

    /// Takes a session out of one group's roster. Returns whether it was there.
    pub(super) fn leave(&mut self, sessions: &mut Sessions, conn: ConnId, id: GroupId) -> bool {
        let Some(&key) = self.by_id.get(&id) else { return false };
        let Some(session) = sessions.get_mut(conn) else { return false };
        let Some(index) = session.groups.iter().position(|membership| membership.group == key) else { return false };
        let membership = session.groups.swap_remove(index);
        if let Some(moved) = session.groups.get(index).copied()
            && let Some(member) =
                self.groups.get_mut(moved.group as usize).and_then(|group| group.members.get_mut(moved.place as usize))
        {
            member.index = u32::try_from(index).unwrap_or(TOMBSTONE);
        }
        self.vacate(sessions, membership);
        true
    }

    /// Takes a session that is about to go out of all its groups.
    pub(super) fn leave_all(&mut self, sessions: &mut Sessions, conn: ConnId) {
        let groups = sessions.get_mut(conn).map(|session| std::mem::take(&mut session.groups)).unwrap_or_default();
        for membership in groups {
            self.vacate(sessions, membership);
        }
    }

    fn vacate(&mut self, sessions: &mut Sessions, membership: Membership) {
        let Some(group) = self.groups.get_mut(membership.group as usize) else { return };
        let place = membership.place as usize;
        if !group.queued {
            group.members.swap_remove(place);
            Self::renumber(group, sessions, place);
        } else if let Some(member) = group.members.get_mut(place) {
            // A sweep counts places: nobody moves until it is over. (`sweeps` would not tell: the one that is carried out now is not among them, and it is
            // the one that may end a session.)
            member.slot = TOMBSTONE;
            group.tombstones += 1;
        }
        self.forget_if_deserted(membership.group);
    }

    /// Tells the session at `place`, who has moved there, its new place.
    fn renumber(group: &Group, sessions: &mut Sessions, place: usize) {
        if let Some(member) = group.members.get(place)
            && let Some(session) = sessions.at_mut(member.slot)
            && let Some(membership) = session.groups.get_mut(member.index as usize)
        {
            membership.place = u32::try_from(place).unwrap_or(TOMBSTONE);
        }
    }

    /// After the last sweep: fills the places of those who left meanwhile.
    pub(super) fn bury(&mut self, sessions: &mut Sessions, key: u32) {
        let Some(group) = self.groups.get_mut(key as usize) else { return };
        if !group.sweeps.is_empty() {
            return;
        }
        let mut place = 0;
        while group.tombstones > 0 && place < group.members.len() {
            if group.members.get(place).is_some_and(|member| member.slot == TOMBSTONE) {
                group.members.swap_remove(place);
                group.tombstones -= 1;
                if group.members.get(place).is_some_and(|member| member.slot != TOMBSTONE) {
                    Self::renumber(group, sessions, place);
                }
            } else {
                place += 1;
            }
        }
        self.forget_if_deserted(key);
    }

    fn forget_if_deserted(&mut self, key: u32) {
        if let Some(group) = self.groups.get(key as usize)
            && group.is_deserted()
            && !group.queued
        {
            let id = group.id;
            self.groups.remove(key as usize);
            self.by_id.remove(&id);
        }
    }

    /// The member at a place of a group, unless somebody left it.
    pub(super) fn member(&self, key: u32, place: usize) -> Option<Member> {
        self.at(key)?.members.get(place).copied().filter(|member| member.slot != TOMBSTONE)
    }

    /// Every place and its occupant agree, and `backlog` is what waits for sweeps. For `check_invariants`.
    pub(super) fn check(&self, sessions: &Sessions, backlog: usize) {
        assert_eq!(
            self.groups.iter().map(|(_, group)| group.backlog()).sum::<usize>(),
            backlog,
            "what waits is counted"
        );
        for (key, group) in &self.groups {
            assert_eq!(self.by_id.get(&group.id).copied(), u32::try_from(key).ok(), "a group is found by its id");
            let dead = group.members.iter().filter(|member| member.slot == TOMBSTONE).count();
            assert_eq!(dead, group.tombstones, "tombstones are counted");
            for (place, member) in group.members.iter().enumerate().filter(|(_, member)| member.slot != TOMBSTONE) {
                let session = sessions.at(member.slot);
                let membership = session.and_then(|session| session.groups.get(member.index as usize));
                assert!(
                    membership.is_some_and(|m| m.group as usize == key && m.place as usize == place),
                    "a member's place and its session agree"
                );
                assert!(membership.is_some_and(|m| m.since <= group.since_max), "since_max covers every member");
            }
        }
        for (user, slots) in &self.users {
            for &slot in slots {
                assert!(sessions.at(slot).is_some_and(|session| session.user == *user), "a user's slots are hers");
            }
        }
    }
}
