//! What a batch of writes does, decided in memory from what the database holds.
//!
//! Owns: the rules of appending, once for every backend: the judge, the numbering (the order of a
//! batch is the order of its numbers), duplicates, recalls, joining and leaving with their limits,
//! the clamp of cursors. The judge is also asked about what is not stored. A backend loads
//! [`Known`], calls [`decide`], and stores [`Decided`].
//! Never: asks the database. Deciding the same batch again, knowing more claims, is always allowed,
//! and changes nothing before the first message whose claim is news.

use std::collections::BTreeMap;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};

use super::{Error, NewMessage, PostKey, Recall, Refusal, Write, Written};
use crate::ids::{ConvId, GroupId, MsgId, Seq, UserId};
use crate::limits::GROUPS_JOINED_MAX;

/// A post key with its sender, as a batch names it.
pub(super) type Key<'a> = (UserId, &'a PostKey);

/// A membership or the place of one: which group, and whose.
pub(super) type MemberKey = (GroupId, UserId);

/// What the running transaction has read. Nothing of it changes while the transaction goes on.
#[derive(Default)]
pub(super) struct Known<'a> {
    /// Of the recipients of a batch, and of the users who join or leave, those that exist and were
    /// not deleted.
    pub(super) users: HashSet<UserId, FixedState>,
    /// Pairs of a user and one that this user has blocked.
    pub(super) blocks: HashSet<(UserId, UserId), FixedState>,
    /// Of the groups that a batch names, those that exist and are not dissolved.
    pub(super) groups: HashMap<GroupId, GroupRules, FixedState>,
    /// Of the groups that a batch lets somebody leave and that are not dissolved, the owners.
    pub(super) owners: HashMap<GroupId, UserId, FixedState>,
    /// Of the conversations that a batch names, those that another transaction holds.
    pub(super) held: HashSet<ConvId, FixedState>,
    /// Of the conversations that a batch names, those that have messages.
    pub(super) heads: HashMap<ConvId, ConvHead, FixedState>,
    /// Memberships with their beginning (exclusive), of dissolved groups, too.
    pub(super) members: HashMap<MemberKey, Seq, FixedState>,
    /// Of the places without a membership, those that had one.
    pub(super) past: HashSet<MemberKey, FixedState>,
    /// The number of groups of each user who is to join one.
    pub(super) joined: HashMap<UserId, u64, FixedState>,
    /// Keys that are claimed, with the message stored under each. A key that was not looked for is
    /// not here.
    pub(super) claims: HashMap<Key<'a>, Claimed, FixedState>,
    /// Of the messages that are to be recalled, those that are stored.
    pub(super) recalled: HashMap<(ConvId, Seq), Recalled, FixedState>,
}

/// A group that exists.
#[derive(Clone, Copy)]
pub(super) struct GroupRules {
    /// By invitation: to users that were never a member it does not exist.
    pub(super) hidden: bool,
}

/// How far a conversation has come.
#[derive(Clone, Copy, Default)]
pub(super) struct ConvHead {
    /// The highest number given.
    pub(super) seq: Seq,
    /// The time of the message with that number, zero before the first.
    pub(super) newest_ms: u64,
}

/// The message that is stored under a key.
#[derive(Clone, Copy)]
pub(super) struct Claimed {
    pub(super) conv: ConvId,
    pub(super) seq: Seq,
    pub(super) id: MsgId,
    pub(super) ts_ms: u64,
}

impl From<Claimed> for Written {
    fn from(Claimed { conv, seq, id, ts_ms }: Claimed) -> Self {
        Self::Duplicate { conv, seq, id, ts_ms }
    }
}

/// A stored message that is to be recalled.
pub(super) struct Recalled {
    pub(super) sender: UserId,
    pub(super) ts_ms: u64,
    pub(super) body: String,
}

/// A message with its place.
pub(super) struct Placed<'a> {
    pub(super) message: &'a NewMessage,
    pub(super) seq: Seq,
    pub(super) id: MsgId,
    /// A recall or a line of the server: it does not count as unread.
    pub(super) hidden: bool,
}

/// What a batch has made of a membership.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MemberChange {
    pub(super) group: GroupId,
    pub(super) user: UserId,
    /// Whether there was a membership before the batch; it goes, with its role.
    pub(super) was: bool,
    /// The beginning (exclusive) of the one that there is now.
    pub(super) since: Option<Seq>,
}

/// What is to be written, and what will be answered once it is.
pub(super) struct Decided<'a> {
    /// The answers, in the order of the batch.
    pub(super) written: Vec<Written>,
    /// Messages to be inserted, in the order of the batch.
    pub(super) messages: Vec<Placed<'a>>,
    /// Messages that are recalled, and what is left of each.
    pub(super) blanked: BTreeMap<(ConvId, Seq), &'a str>,
    /// Memberships that have begun or ended, in the order of their places. One that has ended and
    /// begun again is another one, even at the same head.
    pub(super) members: Vec<MemberChange>,
    /// Memberships that end, from their beginning to their end; not those that begin anew.
    pub(super) past: BTreeMap<MemberKey, (Seq, Seq)>,
    /// The heads of the conversations that got messages.
    pub(super) moved: HashMap<ConvId, ConvHead, FixedState>,
    /// How far users have received and read; what is larger than before is kept.
    pub(super) cursors: HashMap<(UserId, ConvId), (Seq, Seq), FixedState>,
    /// Cursors that go before those are kept: of memberships that ended.
    pub(super) forgotten: HashSet<(UserId, ConvId), FixedState>,
    /// Keys of the messages that were refused: a resend is answered before it is judged, so they
    /// are to be looked for, and if one is claimed, the batch is to be decided again.
    pub(super) refused: Vec<Key<'a>>,
}

/// Decides `writes` in their order. Messages get the ids from `first_id` on.
///
/// # Errors
/// [`Error::Broken`] when no ids are left.
pub(super) fn decide<'a>(known: &Known<'a>, writes: &'a [Write], first_id: u64) -> Result<Decided<'a>, Error> {
    let mut batch = Batch {
        known,
        next_id: first_id,
        claims: HashMap::default(),
        joined: HashMap::default(),
        members: BTreeMap::new(),
        decided: Decided {
            written: Vec::with_capacity(writes.len()),
            messages: Vec::with_capacity(writes.len()),
            blanked: BTreeMap::new(),
            members: Vec::new(),
            past: BTreeMap::new(),
            moved: HashMap::default(),
            cursors: HashMap::default(),
            forgotten: HashSet::default(),
            refused: Vec::new(),
        },
    };
    for write in writes {
        let written = batch.apply(write)?;
        batch.decided.written.push(written);
    }
    let Batch { mut decided, members, .. } = batch;
    let change =
        |((group, user), since)| MemberChange { group, user, was: known.members.contains_key(&(group, user)), since };
    decided.members = members.into_iter().map(change).collect();
    Ok(decided)
}

/// Whether `sender` may post to the pair.
pub(super) fn judge_direct(known: &Known<'_>, lo: UserId, hi: UserId, sender: UserId) -> Result<(), Refusal> {
    if sender != lo && sender != hi {
        return Err(Refusal::NotMember);
    }
    let other = other_of(lo, hi, sender);
    if !known.users.contains(&other) {
        return Err(Refusal::NoSuchUser);
    }
    if other != sender && known.blocks.contains(&(other, sender)) {
        return Err(Refusal::Blocked);
    }
    Ok(())
}

/// Whether a user may write to a group and read there: the membership's beginning (exclusive).
/// `was`: the user was a member once. To all others a group by invitation does not exist.
pub(super) fn judge_member(group: Option<GroupRules>, since: Option<Seq>, was: bool) -> Result<Seq, Refusal> {
    let GroupRules { hidden } = group.ok_or(Refusal::NoSuchGroup)?;
    since.ok_or(if hidden && !was { Refusal::NoSuchGroup } else { Refusal::NotMember })
}

/// The recipient of what `sender` says to the pair.
pub(super) fn other_of(lo: UserId, hi: UserId, sender: UserId) -> UserId {
    if sender == lo { hi } else { lo }
}

/// The messages of a batch.
pub(super) fn appends(writes: &[Write]) -> impl Iterator<Item = &NewMessage> {
    writes.iter().filter_map(|write| match write {
        Write::Append(message) | Write::Line(message) => Some(message),
        Write::Recall(recall) => Some(&recall.message),
        Write::Head(_) | Write::Join { .. } | Write::Leave { .. } | Write::Cursor { .. } => None,
    })
}

/// Its recalls.
pub(super) fn recalls(writes: &[Write]) -> impl Iterator<Item = &Recall> {
    writes.iter().filter_map(|write| if let Write::Recall(recall) = write { Some(&**recall) } else { None })
}

/// The users that are to join a group, each once, sorted.
pub(super) fn joiners(writes: &[Write]) -> Vec<UserId> {
    sorted(writes.iter().filter_map(|write| if let Write::Join { user, .. } = write { Some(*user) } else { None }))
}

/// The users who are to join a group or to leave one, each once, sorted.
pub(super) fn movers(writes: &[Write]) -> Vec<UserId> {
    sorted(writes.iter().filter_map(|write| match write {
        Write::Join { user, .. } | Write::Leave { user, .. } => Some(*user),
        _ => None,
    }))
}

/// The groups that somebody is to leave, each once, sorted.
pub(super) fn left(writes: &[Write]) -> Vec<GroupId> {
    sorted(writes.iter().filter_map(|write| if let Write::Leave { group, .. } = write { Some(*group) } else { None }))
}

/// The memberships that decide something, each once, sorted. Every group that a batch names is
/// among them, except for [`Write::Head`].
pub(super) fn places(writes: &[Write]) -> Vec<MemberKey> {
    let of_message = |message: &NewMessage| match message.conv {
        ConvId::Group(group) => Some((group, message.sender)),
        ConvId::Direct { .. } => None,
    };
    sorted(writes.iter().filter_map(|write| match write {
        Write::Join { group, user }
        | Write::Leave { group, user }
        | Write::Cursor { conv: ConvId::Group(group), user, .. } => Some((*group, *user)),
        Write::Append(message) | Write::Line(message) => of_message(message),
        Write::Recall(recall) => of_message(&recall.message),
        Write::Head(_) | Write::Cursor { .. } => None,
    }))
}

/// A list, each once.
pub(super) fn sorted<T: Ord>(list: impl Iterator<Item = T>) -> Vec<T> {
    let mut list: Vec<T> = list.collect();
    list.sort_unstable();
    list.dedup();
    list
}

struct Batch<'k, 'a> {
    known: &'k Known<'a>,
    next_id: u64,
    /// Keys that this batch claims.
    claims: HashMap<Key<'a>, Claimed, FixedState>,
    /// Groups of a user, as far as the batch has changed their number.
    joined: HashMap<UserId, u64, FixedState>,
    /// Memberships that the batch touches, as they are after it.
    members: BTreeMap<MemberKey, Option<Seq>>,
    decided: Decided<'a>,
}

impl<'a> Batch<'_, 'a> {
    fn apply(&mut self, write: &'a Write) -> Result<Written, Error> {
        if self.known.held.contains(&write.conv()) {
            return Ok(Written::Refused(Refusal::Held));
        }
        match write {
            Write::Append(message) => self.append(message, None, false),
            Write::Line(message) => self.append(message, None, true),
            Write::Recall(recall) => self.append(&recall.message, Some(recall), false),
            Write::Head(conv) => Ok(Written::Head { head: self.head(*conv).seq }),
            Write::Join { group, user } => Ok(self.join(*group, *user)),
            Write::Leave { group, user } => Ok(self.leave(*group, *user)),
            Write::Cursor { user, conv, recv, read } => Ok(self.cursor(*user, *conv, *recv, *read)),
        }
    }

    /// `line`: the server says it about a group.
    fn append(&mut self, message: &'a NewMessage, recall: Option<&'a Recall>, line: bool) -> Result<Written, Error> {
        let key = (message.sender, &message.key);
        if let Some(earlier) = self.known.claims.get(&key).or_else(|| self.claims.get(&key)) {
            return Ok((*earlier).into());
        }
        let standing = if line { self.judge_line(message.conv) } else { self.judge(message.conv, message.sender) };
        let judged = match recall {
            Some(recall) if Recall::is_judged_by_row(standing) => Recall::forgiven(standing, self.blank(recall)),
            _ => standing,
        };
        if let Err(refusal) = judged {
            self.decided.refused.push(key);
            return Ok(Written::Refused(refusal));
        }
        let id = MsgId::new(self.next_id).ok_or_else(|| Error::Broken("the message ids are used up".to_owned()))?;
        self.next_id += 1;
        let (conv, ts_ms) = (message.conv, message.ts_ms);
        let before = self.head(conv);
        let seq = before.seq.next();
        self.decided.moved.insert(conv, ConvHead { seq, newest_ms: ts_ms });
        self.claims.insert(key, Claimed { conv, seq, id, ts_ms });
        self.decided.messages.push(Placed { message, seq, id, hidden: line || recall.is_some() });
        Ok(Written::Stored { seq, id, ts_ms, before_ms: before.newest_ms })
    }

    /// Blanks what is recalled. Behind it nothing refuses.
    fn blank(&mut self, recall: &'a Recall) -> Result<(), Refusal> {
        let place = (recall.message.conv, recall.seq);
        let blanked = self.decided.blanked.get(&place).copied();
        let own = || self.decided.messages.iter().find(|placed| (placed.message.conv, placed.seq) == place);
        match (self.known.recalled.get(&place), own()) {
            (Some(found), _) => recall.judge(found.sender, found.ts_ms, blanked.unwrap_or(&found.body))?,
            (None, Some(placed)) => {
                let message = placed.message;
                recall.judge(message.sender, message.ts_ms, blanked.unwrap_or(&message.body))?;
            }
            (None, None) => return Err(Refusal::NoSuchMessage),
        }
        self.decided.blanked.insert(place, &recall.blank);
        Ok(())
    }

    /// Whether `sender` may post to `conv`.
    fn judge(&self, conv: ConvId, sender: UserId) -> Result<(), Refusal> {
        match conv {
            ConvId::Direct { lo, hi } => judge_direct(self.known, lo, hi, sender),
            ConvId::Group(group) => self.member_since(group, sender).map(|_| ()),
        }
    }

    /// Whether the server may say something about it.
    fn judge_line(&self, conv: ConvId) -> Result<(), Refusal> {
        match conv {
            ConvId::Group(group) if self.known.groups.contains_key(&group) => Ok(()),
            _ => Err(Refusal::NoSuchGroup),
        }
    }

    /// Since when (exclusive) `user` is a member of `group`.
    fn member_since(&self, group: GroupId, user: UserId) -> Result<Seq, Refusal> {
        let place = (group, user);
        let was = self.known.past.contains(&place) || self.decided.past.contains_key(&place);
        judge_member(self.known.groups.get(&group).copied(), self.since(place), was)
    }

    /// As [`Self::member_since`], whatever became of the group.
    fn since(&self, place: MemberKey) -> Option<Seq> {
        match self.members.get(&place) {
            Some(since) => *since,
            None => self.known.members.get(&place).copied(),
        }
    }

    fn join(&mut self, group: GroupId, user: UserId) -> Written {
        if !self.known.groups.contains_key(&group) {
            return Written::Refused(Refusal::NoSuchGroup);
        }
        if let Some(since) = self.since((group, user)) {
            return Written::Joined { since, already: true };
        }
        if !self.known.users.contains(&user) {
            return Written::Refused(Refusal::NoSuchUser);
        }
        let joined = self.joined(user);
        if *joined >= u64::from(GROUPS_JOINED_MAX) {
            return Written::Refused(Refusal::TooManyGroups);
        }
        *joined += 1;
        let since = self.head(ConvId::Group(group)).seq;
        self.members.insert((group, user), Some(since));
        self.decided.past.remove(&(group, user));
        Written::Joined { since, already: false }
    }

    fn leave(&mut self, group: GroupId, user: UserId) -> Written {
        if self.known.owners.get(&group) == Some(&user) {
            return Written::Refused(Refusal::Owner);
        }
        let conv = ConvId::Group(group);
        let since = self.since((group, user));
        let was_member = since.is_some();
        if let Some(since) = since {
            // Whoever was deleted leaves after that, and reads nothing any more.
            if self.known.users.contains(&user) {
                self.decided.past.insert((group, user), (since, self.head(conv).seq));
            }
            self.members.insert((group, user), None);
            let joined = self.joined(user);
            *joined = joined.saturating_sub(1);
            self.decided.cursors.remove(&(user, conv));
            self.decided.forgotten.insert((user, conv));
        }
        Written::Left { was_member }
    }

    fn cursor(&mut self, user: UserId, conv: ConvId, recv: Seq, read: Seq) -> Written {
        let own = match conv {
            ConvId::Direct { .. } => conv.is_between(user),
            ConvId::Group(group) => self.member_since(group, user).is_ok(),
        };
        let head = self.head(conv).seq;
        let (recv, read) = (recv.min(head), read.min(head));
        // Two zeros are as good as no cursor.
        if own && recv.max(read) > Seq::ZERO {
            let kept = self.decided.cursors.entry((user, conv)).or_default();
            *kept = (kept.0.max(recv), kept.1.max(read));
        }
        Written::Kept
    }

    fn joined(&mut self, user: UserId) -> &mut u64 {
        let before = self.known.joined.get(&user).copied().unwrap_or(0);
        self.joined.entry(user).or_insert(before)
    }

    /// How far the conversation has come, messages of this batch included.
    fn head(&self, conv: ConvId) -> ConvHead {
        self.decided.moved.get(&conv).or_else(|| self.known.heads.get(&conv)).copied().unwrap_or_default()
    }
}
