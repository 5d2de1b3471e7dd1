//! The sessions of each user, and of each group the sessions of its members on this shard.
//!
//! Owns: the member list of a group, a group's packets on their way to the members.
//! Never: asks the store, and never decides memberships; it is told. Never tells a group's home
//! that it is here: it lists what `interest` has to tell.
//! Bounds: 4 bytes per place in a group here, and 20 in `places`; groups without a member here do
//! not exist here.

use std::collections::VecDeque;
use std::rc::Rc;

use hashbrown::HashMap;
use slab::Slab;
use smallvec::SmallVec;

use crate::ids::{ConnId, ConvId, GroupId, Seq, ShardId, UserId, home_of};
use crate::shard::Setup;
use crate::shard::coalescing::Pace;
use crate::shard::far::Whom;
use crate::shard::session::outbox::{Batch, BatchPart};
use crate::shard::session::places::{Membership, Places};
use crate::shard::session::{NO_SLOT, Phase, Session};
use crate::shard::sessions::online::Online;
use crate::shard::sessions::table::SessionTable;
use crate::wire::Profile;

/// The slot of one that left while sweeps were under way.
const TOMBSTONE: u32 = NO_SLOT;

/// The ack of a message of a batch: goes to its author in the message's place in the order.
#[derive(Debug)]
pub(in crate::shard) struct PendingAck {
    /// Index of the message in the batch.
    pub part: usize,
    /// The session that gets it.
    pub conn: ConnId,
    /// The frame, until it is given.
    pub frame: Option<Box<[u8]>>,
}

/// What a group's members are to be told next, in order.
#[derive(Debug)]
pub(in crate::shard) enum Work {
    /// Messages.
    Batch { batch: Rc<Batch>, acks: Vec<PendingAck> },
    /// Messages were lost on the way here: the members are behind.
    Mark { from: Seq, upto: Seq },
}

/// A [`Work`] and how far it has come. Whoever joined the roster later is not concerned.
#[derive(Debug)]
pub(in crate::shard) struct Sweep {
    /// What.
    pub work: Work,
    /// The next place.
    pub next: usize,
    /// The place after the last.
    pub end: usize,
    /// A member was given something of it.
    pub given: bool,
}

/// A group with members on this shard.
#[derive(Debug)]
pub(in crate::shard) struct Group {
    /// Which.
    pub id: GroupId,
    /// Their slots, by place; [`TOMBSTONE`] for one that left while sweeps were under way.
    pub members: Vec<u32>,
    /// Members that left while places could not move.
    tombstones: usize,
    /// The largest [`crate::shard::session::places::Membership::since`]: above it no member needs
    /// to be asked one by one.
    pub since_max: Seq,
    /// Messages that no sweep has taken yet, with the acks for their authors.
    pub pending: Vec<BatchPart>,
    /// The acks of `pending`.
    pub acks: Vec<PendingAck>,
    /// Bytes of `pending`.
    pub pending_bytes: usize,
    /// Sweeps under way and waiting.
    pub sweeps: VecDeque<Sweep>,
    /// Whether it is in the shard's list of groups with something to sweep, or of those that wait:
    /// no place moves meanwhile.
    pub queued: bool,
    /// Until when it waits, if it does.
    pub due_ms: Option<u64>,
    /// Whether its messages are worth a wait.
    pub pace: Pace,
    /// Its home certainly sends its messages here. Until then all members here are opening, and
    /// what comes all the same is of an earlier time: with gaps behind it, and known to the store
    /// before these members are told what they have missed.
    pub heard: bool,
}

impl Group {
    fn new(id: GroupId, heard: bool) -> Self {
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
            heard,
        }
    }

    /// Makes a sweep over the present members of what is pending.
    pub(in crate::shard) fn close_batch(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let batch = Rc::new(Batch::new(std::mem::take(&mut self.pending)));
        let acks = std::mem::take(&mut self.acks);
        self.pending_bytes = 0;
        self.sweeps.push_back(Sweep {
            work: Work::Batch { batch, acks },
            next: 0,
            end: self.members.len(),
            given: false,
        });
    }

    /// Makes a sweep that leaves the present members behind, or lengthens the last one if it has
    /// just that to say to just them.
    pub(in crate::shard) fn add_mark(&mut self, from: Seq, upto: Seq) {
        let end = self.members.len();
        if let Some(Sweep { work: Work::Mark { upto: last, .. }, next: 0, end: last_end, .. }) = self.sweeps.back_mut()
            && *last_end == end
            && last.next() == from
        {
            *last = upto;
        } else {
            self.sweeps.push_back(Sweep { work: Work::Mark { from, upto }, next: 0, end, given: false });
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

    /// Whether no member is left.
    fn is_deserted(&self) -> bool {
        self.members.len() == self.tombstones && self.sweeps.is_empty() && self.pending.is_empty()
    }
}

/// Users and groups with sessions on this shard.
pub(in crate::shard) struct Roster {
    me: ShardId,
    shards: u16,
    online: Online,
    places: Places,
    by_id: HashMap<GroupId, u32>,
    groups: Slab<Group>,
    /// Groups of other homes that have come or gone, not yet taken by [`Roster::take_changed`] at
    /// the end of the turn.
    changed: Vec<GroupId>,
    /// Users and groups that have come or gone in this step, in that order, if other gateways are
    /// to be listened to for them.
    here: Option<Vec<(Whom, bool)>>,
}

impl Roster {
    /// An empty one.
    pub(in crate::shard) fn new(setup: &Setup) -> Self {
        Self {
            me: setup.id,
            shards: setup.shards,
            here: setup.clustered.then(Vec::new),
            online: Online::default(),
            places: Places::default(),
            by_id: HashMap::new(),
            groups: Slab::new(),
            changed: Vec::new(),
        }
    }

    /// Whether this shard is the home of a group: what it does itself it need not be told.
    fn is_home_of(&self, id: GroupId) -> bool {
        home_of(ConvId::Group(id), self.shards) == self.me
    }

    /// Whether the group has members here.
    pub(in crate::shard) fn has(&self, id: GroupId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// The groups of other homes that have come or gone since the last call, some perhaps both.
    pub(in crate::shard) fn take_changed(&mut self) -> Vec<GroupId> {
        std::mem::take(&mut self.changed)
    }

    /// The users and groups that have come or gone since the last call.
    pub(in crate::shard) fn take_here(&mut self) -> Vec<(Whom, bool)> {
        self.here.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn is_here(&mut self, whom: Whom, on: bool) {
        if let Some(here) = &mut self.here {
            here.push((whom, on));
        }
    }

    /// The home of a group sends its messages here from now on.
    pub(in crate::shard) fn set_heard(&mut self, id: GroupId) {
        if let Some((_, group)) = self.group_mut(id) {
            group.heard = true;
        }
    }

    /// Whether the messages of all groups of a session are certainly sent here.
    pub(in crate::shard) fn is_heard(&self, sessions: &SessionTable, conn: ConnId) -> bool {
        let Some(session) = sessions.get(conn) else { return true };
        self.places.of(&session.groups).all(|membership| self.at(membership.group).is_none_or(|group| group.heard))
    }

    /// Adds a session of `user`.
    pub(in crate::shard) fn add_session(&mut self, sessions: &mut SessionTable, user: UserId, slot: u32) {
        let before = self.online.len();
        self.online.add(sessions, user, slot);
        if self.online.len() > before {
            self.is_here(Whom::User(user), true);
        }
    }

    /// Removes a session of `user`.
    pub(super) fn remove_session(&mut self, sessions: &mut SessionTable, user: UserId, slot: u32) {
        let before = self.online.len();
        self.online.remove(sessions, user, slot);
        if self.online.len() < before {
            self.is_here(Whom::User(user), false);
        }
    }

    /// The sessions of `user`, in the order in which they came.
    pub(in crate::shard) fn sessions_of(&self, sessions: &SessionTable, user: UserId) -> SmallVec<[u32; 2]> {
        self.online.sessions_of(sessions, user)
    }

    /// Users with at least one session.
    pub(in crate::shard) const fn users_online(&self) -> usize {
        self.online.len()
    }

    /// These users.
    pub(in crate::shard) fn all_online(&self, sessions: &SessionTable) -> Vec<UserId> {
        self.online.users(sessions)
    }

    /// The group, if it has members here.
    pub(in crate::shard) fn group_mut(&mut self, id: GroupId) -> Option<(u32, &mut Group)> {
        let key = *self.by_id.get(&id)?;
        Some((key, self.groups.get_mut(key as usize)?))
    }

    /// The group of that key.
    pub(in crate::shard) fn at(&self, key: u32) -> Option<&Group> {
        self.groups.get(key as usize)
    }

    /// As [`Roster::at`], to change it.
    pub(in crate::shard) fn at_mut(&mut self, key: u32) -> Option<&mut Group> {
        self.groups.get_mut(key as usize)
    }

    /// Whether the session is in the group's roster.
    pub(in crate::shard) fn is_member(&self, sessions: &SessionTable, conn: ConnId, id: GroupId) -> bool {
        self.sees_after(sessions, conn, id).is_some()
    }

    /// What the session may see of a group: what comes after. `None` if it is not in the roster.
    pub(in crate::shard) fn sees_after(&self, sessions: &SessionTable, conn: ConnId, id: GroupId) -> Option<Seq> {
        let &key = self.by_id.get(&id)?;
        let session = sessions.get(conn)?;
        self.places.find(conn.slot, &session.groups, key).map(|membership| membership.since())
    }

    /// Puts a session into a group's roster; being there already is fine.
    pub(in crate::shard) fn join(&mut self, sessions: &mut SessionTable, conn: ConnId, id: GroupId, since: Seq) {
        let Some(session) = sessions.get_mut(conn) else { return };
        let key = match self.by_id.get(&id) {
            Some(&key) => key,
            None => {
                let heard = self.is_home_of(id);
                if !heard {
                    self.changed.push(id);
                }
                let key = u32::try_from(self.groups.insert(Group::new(id, heard))).unwrap_or(TOMBSTONE);
                self.by_id.insert(id, key);
                self.is_here(Whom::Group(id), true);
                key
            }
        };
        if self.places.find(conn.slot, &session.groups, key).is_some() {
            return;
        }
        let Some(group) = self.groups.get_mut(key as usize) else { return };
        // What has arrived before is for the members before.
        group.close_batch();
        let place = u32::try_from(group.members.len()).unwrap_or(TOMBSTONE);
        if group.members.len() == group.members.capacity() {
            // By an eighth, not twice: the room of a large group is then hardly larger than the
            // group.
            group.members.reserve_exact((group.members.len() / 8).max(4));
        }
        group.members.push(conn.slot);
        group.since_max = group.since_max.max(since);
        self.places.add(conn.slot, &mut session.groups, Membership::new(key, place, since));
    }

    /// Takes a session out of one group's roster. Returns whether it was there.
    pub(in crate::shard) fn leave(&mut self, sessions: &mut SessionTable, conn: ConnId, id: GroupId) -> bool {
        let Some(&key) = self.by_id.get(&id) else { return false };
        let Some(session) = sessions.get_mut(conn) else { return false };
        let Some(membership) = self.places.remove(conn.slot, &mut session.groups, key) else { return false };
        self.vacate(sessions, membership);
        true
    }

    /// Takes a session that is about to go out of all its groups.
    pub(super) fn leave_all(&mut self, sessions: &mut SessionTable, conn: ConnId) {
        self.places.forget_index(conn.slot);
        while let Some(membership) =
            sessions.get_mut(conn).and_then(|session| self.places.pop(conn.slot, &mut session.groups))
        {
            self.vacate(sessions, membership);
        }
    }

    fn vacate(&mut self, sessions: &mut SessionTable, membership: Membership) {
        let Some(group) = self.groups.get_mut(membership.group as usize) else { return };
        let place = membership.place as usize;
        if !group.queued {
            group.members.swap_remove(place);
            self.renumber(sessions, membership.group, place);
        } else if let Some(member) = group.members.get_mut(place) {
            // A sweep counts places: no member moves until it is over. (`sweeps` would not tell:
            // the one that is carried out now is not among them, and it is the one that may end a
            // session.)
            *member = TOMBSTONE;
            group.tombstones += 1;
        }
        self.forget_if_deserted(membership.group);
    }

    /// Tells the session at `place`, which has moved there, its new place.
    fn renumber(&mut self, sessions: &mut SessionTable, key: u32, place: usize) {
        if let Some(slot) = self.member(key, place)
            && let Some(session) = sessions.at_mut(slot)
        {
            self.places.moved(slot, &mut session.groups, key, u32::try_from(place).unwrap_or(TOMBSTONE));
        }
    }

    /// After the last sweep: fills the places of members that left meanwhile.
    pub(in crate::shard) fn compact(&mut self, sessions: &mut SessionTable, key: u32) {
        let Some(group) = self.groups.get_mut(key as usize) else { return };
        if !group.sweeps.is_empty() {
            return;
        }
        let mut place = 0;
        while let Some(group) = self.groups.get_mut(key as usize)
            && group.tombstones > 0
            && place < group.members.len()
        {
            if group.members.get(place) == Some(&TOMBSTONE) {
                group.members.swap_remove(place);
                group.tombstones -= 1;
                self.renumber(sessions, key, place);
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
            self.is_here(Whom::Group(id), false);
            if !self.is_home_of(id) {
                self.changed.push(id);
            }
        }
    }

    /// The slot of the member at a place of a group, unless it left.
    pub(in crate::shard) fn member(&self, key: u32, place: usize) -> Option<u32> {
        self.at(key)?.members.get(place).copied().filter(|&slot| slot != TOMBSTONE)
    }

    /// Only what is after this is for this member of the group.
    pub(in crate::shard) fn since(&self, session: &Session, slot: u32, key: u32) -> Seq {
        self.places.find(slot, &session.groups, key).map_or(Seq::ZERO, |membership| membership.since())
    }

    /// Steps along lists of memberships so far.
    #[cfg(test)]
    pub(in crate::shard) fn steps(&self) -> usize {
        self.places.steps.get()
    }

    /// The first of a session's places, and the one after it, are its own. Cheap enough for every
    /// build.
    pub(super) fn check_session(&self, sessions: &SessionTable, slot: u32, session: &Session) {
        for membership in self.places.of(&session.groups).take(2) {
            let stands = self.member(membership.group, membership.place as usize) == Some(slot);
            assert!(stands, "a session stands in its places");
        }
        if session.phase() != Phase::Finishing && session.profile != Profile::Room {
            let found = self.online.sessions_of(sessions, session.user).contains(&slot);
            assert!(found, "a session is found by its user");
        }
    }

    /// Every place and its occupant agree, and `backlog` is what waits for sweeps. For
    /// `check_invariants`.
    pub(in crate::shard) fn check(&self, sessions: &SessionTable, backlog: usize) {
        #[cfg(test)]
        let steps = self.steps();
        assert_eq!(
            self.groups.iter().map(|(_, group)| group.backlog()).sum::<usize>(),
            backlog,
            "what waits is counted"
        );
        let mut members = 0;
        for (key, group) in &self.groups {
            let key = u32::try_from(key).ok();
            assert_eq!(self.by_id.get(&group.id).copied(), key, "a group is found by its id");
            let dead = group.members.iter().filter(|&&slot| slot == TOMBSTONE).count();
            assert_eq!(dead, group.tombstones, "tombstones are counted");
            members += group.members.len() - dead;
            for (place, &slot) in (0u32..).zip(&group.members).filter(|&(_, &slot)| slot != TOMBSTONE) {
                let membership =
                    sessions.at(slot).zip(key).and_then(|(session, key)| self.places.find(slot, &session.groups, key));
                assert!(membership.is_some_and(|m| m.place == place), "a member's place and its session agree");
                assert!(membership.is_some_and(|m| m.since() <= group.since_max), "since_max covers every member");
            }
        }
        sessions.iter().for_each(|(slot, session)| self.places.check(slot, &session.groups));
        let memberships = sessions.iter().map(|(_, session)| self.places.of(&session.groups).count());
        assert_eq!(memberships.sum::<usize>(), members, "a member with a place stands in it");
        self.online.check(sessions);
        #[cfg(test)]
        self.places.steps.set(steps);
    }
}
