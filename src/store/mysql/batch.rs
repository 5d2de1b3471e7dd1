//! What a batch of writes does, decided in memory from what was read and locked before.
//!
//! Owns: the judge and the numbering; the order of a batch is the order of its numbers.
//! Never: asks the database. Deciding the same batch again, knowing more claims, is always allowed.

use std::collections::BTreeMap;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};

use crate::ids::{ConvId, GroupId, MsgId, Seq, UserId};
use crate::limits::GROUPS_JOINED_MAX;
use crate::store::key::key_bytes;
use crate::store::{Error, NewMessage, Recall, Refusal, Write, Written};

/// A claimed key: whose, and as bytes.
pub(super) type Claim = (UserId, Vec<u8>);

/// Since when (exclusive) somebody is a member of a group.
pub(super) type Members = HashMap<(GroupId, UserId), Seq, FixedState>;

/// What the transaction has read. Heads and memberships stay as they are while it holds the conversations' locks.
#[derive(Default)]
pub(super) struct Known {
    /// Of the users that a batch speaks of, those who exist.
    pub(super) users: HashSet<UserId, FixedState>,
    /// Who refuses whom.
    pub(super) blocks: HashSet<(UserId, UserId), FixedState>,
    /// Row and head of the conversations that have a row: every group that exists has one.
    pub(super) heads: HashMap<ConvId, Head, FixedState>,
    /// Of the pairs that the batch speaks of, those who are members.
    pub(super) members: Members,
    /// Of those who are no members, those who were.
    pub(super) past: HashSet<(GroupId, UserId), FixedState>,
    /// In how many groups those are who want to join one.
    pub(super) joined: HashMap<UserId, u64, FixedState>,
    /// Keys that are claimed, with the answers to their resends. Those that were not looked for are not here.
    pub(super) claims: HashMap<Claim, Written, FixedState>,
    /// Of the messages that are to be recalled, by conversation's row, those that are stored.
    pub(super) recalled: HashMap<(u64, Seq), Recalled, FixedState>,
}

/// A stored message that somebody wants to recall.
pub(super) struct Recalled {
    pub(super) sender: UserId,
    pub(super) ts_ms: u64,
    pub(super) body: String,
}

/// A conversation's row.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) row: u64,
    pub(super) seq: Seq,
    /// A group that was dissolved.
    pub(super) closed: bool,
    /// A group by invitation: to whoever was never a member of it there is none.
    pub(super) hidden: bool,
}

/// A message with its place.
pub(super) struct Placed<'a> {
    /// Row of the conversation.
    pub(super) row: u64,
    pub(super) seq: Seq,
    pub(super) id: MsgId,
    pub(super) key: Vec<u8>,
    pub(super) message: &'a NewMessage,
    /// It takes another one back, or is a line: it does not count as unread.
    pub(super) hidden: bool,
}

/// How a conversation's head moves.
#[derive(Clone, Copy, Default)]
pub(super) struct Move {
    /// So many numbers.
    pub(super) by: u64,
    /// Time of the newest message.
    pub(super) newest_ms: u64,
}

/// What is to be written, and what will be answered once it is.
pub(super) struct Decided<'a> {
    pub(super) written: Vec<Written>,
    pub(super) messages: Vec<Placed<'a>>,
    /// Messages that are recalled, by conversation's row, and what is left of each.
    pub(super) blanked: BTreeMap<(u64, Seq), &'a str>,
    /// Memberships that the batch touches, as they are after it.
    pub(super) members: HashMap<(GroupId, UserId), Option<Seq>, FixedState>,
    /// Memberships that end, from their beginning to their end. Who leaves and comes back in a batch is none of them.
    pub(super) past: BTreeMap<(GroupId, UserId), (Seq, Seq)>,
    /// How each conversation's head moves, by its row.
    pub(super) moved: HashMap<u64, Move, FixedState>,
    /// How far users have received and read, by conversation's row; what is larger than before is kept.
    pub(super) cursors: HashMap<(UserId, u64), (Seq, Seq), FixedState>,
    /// Cursors that go before those are kept: of members who left.
    pub(super) forgotten: HashSet<(UserId, u64), FixedState>,
    /// Keys of the appends that were refused, in case they are claimed: a resend is answered before it is judged.
    pub(super) refused: Vec<Claim>,
}

/// Whether `sender` may post to the pair. Depends on nothing that a conversation's lock protects.
pub(super) fn judge_direct(known: &Known, lo: UserId, hi: UserId, sender: UserId) -> Result<(), Refusal> {
    if sender != lo && sender != hi {
        return Err(Refusal::NotMember);
    }
    let other = if sender == lo { hi } else { lo };
    if !known.users.contains(&other) {
        return Err(Refusal::NoSuchUser);
    }
    if other != sender && known.blocks.contains(&(other, sender)) {
        return Err(Refusal::Blocked);
    }
    Ok(())
}

/// Decides `writes` in their order. Messages get ids from `first_id` on.
pub(super) fn decide<'a>(known: &Known, writes: &'a [Write], first_id: u64) -> Result<Decided<'a>, Error> {
    let mut batch = Batch {
        known,
        next_id: first_id,
        claims: HashMap::default(),
        joined: HashMap::default(),
        decided: Decided {
            written: Vec::with_capacity(writes.len()),
            messages: Vec::with_capacity(writes.len()),
            blanked: BTreeMap::new(),
            members: HashMap::default(),
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
    Ok(batch.decided)
}

struct Batch<'k, 'a> {
    known: &'k Known,
    next_id: u64,
    /// Keys that this batch claims.
    claims: HashMap<Claim, Written, FixedState>,
    /// Groups of a user, as far as the batch has changed their number.
    joined: HashMap<UserId, u64, FixedState>,
    decided: Decided<'a>,
}

impl<'a> Batch<'_, 'a> {
    fn apply(&mut self, write: &'a Write) -> Result<Written, Error> {
        match write {
            Write::Append(message) => self.append(message, None, false),
            Write::Line(message) => self.append(message, None, true),
            Write::Recall(recall) => self.append(&recall.message, Some(recall), false),
            Write::Head(conv) => Ok(Written::Head { head: self.head(*conv) }),
            Write::Join { group, user } => Ok(self.join(*group, *user)),
            Write::Leave { group, user } => Ok(self.leave(*group, *user)),
            Write::Cursor { user, conv, recv, read } => Ok(self.cursor(*user, *conv, *recv, *read)),
        }
    }

    /// `line`: the server says it about a group.
    fn append(&mut self, message: &'a NewMessage, recall: Option<&'a Recall>, line: bool) -> Result<Written, Error> {
        let claim = (message.sender, key_bytes(&message.key));
        if let Some(earlier) = self.known.claims.get(&claim).or_else(|| self.claims.get(&claim)) {
            return Ok(earlier.clone());
        }
        let standing = match message.conv {
            ConvId::Group(group) if line && self.has_group(group) => Ok(()),
            _ => self.judge(message.conv, message.sender),
        };
        let judged = match recall {
            Some(recall) if Recall::is_judged_by_row(standing) => Recall::forgiven(standing, self.blank(recall)),
            _ => standing,
        };
        if let Err(refusal) = judged {
            self.decided.refused.push(claim);
            return Ok(Written::Refused(refusal));
        }
        let Some(head) = self.known.heads.get(&message.conv) else {
            return Err(Error::Broken(format!("{:?} has no row", message.conv)));
        };
        let id = MsgId::new(self.next_id).ok_or_else(|| Error::Broken("the message ids are used up".to_owned()))?;
        self.next_id += 1;
        let seq = self.head(message.conv).next();
        let moved = self.decided.moved.entry(head.row).or_default();
        *moved = Move { by: moved.by + 1, newest_ms: message.ts_ms };
        let (conv, ts_ms) = (message.conv, message.ts_ms);
        let key = claim.1.clone();
        self.claims.insert(claim, Written::Duplicate { conv, seq, id, ts_ms });
        let hidden = line || recall.is_some();
        self.decided.messages.push(Placed { row: head.row, seq, id, key, message, hidden });
        Ok(Written::Stored { seq, id, ts_ms })
    }

    /// Blanks what is recalled. What refuses behind it ends the whole batch.
    fn blank(&mut self, recall: &'a Recall) -> Result<(), Refusal> {
        let Some(head) = self.known.heads.get(&recall.message.conv) else { return Err(Refusal::NoSuchMessage) };
        let place = (head.row, recall.seq);
        let blanked = self.decided.blanked.get(&place).copied();
        let own = || self.decided.messages.iter().find(|placed| (placed.row, placed.seq) == place);
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

    /// Since when (exclusive) `user` is a member of `group`.
    fn member_since(&self, group: GroupId, user: UserId) -> Result<Seq, Refusal> {
        let Some(head) = self.known.heads.get(&ConvId::Group(group)).filter(|head| !head.closed) else {
            return Err(Refusal::NoSuchGroup);
        };
        let place = (group, user);
        let was = self.known.past.contains(&place) || self.decided.past.contains_key(&place);
        self.since(place).ok_or(if head.hidden && !was { Refusal::NoSuchGroup } else { Refusal::NotMember })
    }

    fn has_group(&self, group: GroupId) -> bool {
        self.known.heads.get(&ConvId::Group(group)).is_some_and(|head| !head.closed)
    }

    /// As [`Self::member_since`], whatever became of the group.
    fn since(&self, place: (GroupId, UserId)) -> Option<Seq> {
        match self.decided.members.get(&place) {
            Some(since) => *since,
            None => self.known.members.get(&place).copied(),
        }
    }

    fn join(&mut self, group: GroupId, user: UserId) -> Written {
        if !self.has_group(group) {
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
        let since = self.head(ConvId::Group(group));
        self.decided.members.insert((group, user), Some(since));
        self.decided.past.remove(&(group, user));
        Written::Joined { since, already: false }
    }

    fn leave(&mut self, group: GroupId, user: UserId) -> Written {
        let since = self.since((group, user));
        let was_member = since.is_some();
        if let Some(since) = since {
            self.decided.past.insert((group, user), (since, self.head(ConvId::Group(group))));
            self.decided.members.insert((group, user), None);
            let joined = self.joined(user);
            *joined = joined.saturating_sub(1);
            if let Some(head) = self.known.heads.get(&ConvId::Group(group)) {
                self.decided.cursors.remove(&(user, head.row));
                self.decided.forgotten.insert((user, head.row));
            }
        }
        Written::Left { was_member }
    }

    fn cursor(&mut self, user: UserId, conv: ConvId, recv: Seq, read: Seq) -> Written {
        let own = match conv {
            ConvId::Direct { .. } => conv.is_between(user),
            ConvId::Group(group) => self.member_since(group, user).is_ok(),
        };
        let head = self.head(conv);
        let (recv, read) = (recv.min(head), read.min(head));
        // Without a row there is no message, so both are zero, which is as good as no cursor.
        if let Some(place) = self.known.heads.get(&conv).filter(|_| own && recv.max(read) > Seq::ZERO) {
            let kept = self.decided.cursors.entry((user, place.row)).or_default();
            *kept = (kept.0.max(recv), kept.1.max(read));
        }
        Written::Kept
    }

    fn joined(&mut self, user: UserId) -> &mut u64 {
        let before = self.known.joined.get(&user).copied().unwrap_or(0);
        self.joined.entry(user).or_insert(before)
    }

    /// The highest number given, those of this batch included.
    fn head(&self, conv: ConvId) -> Seq {
        let Some(head) = self.known.heads.get(&conv) else {
            return Seq::ZERO;
        };
        let moved = self.decided.moved.get(&head.row).map_or(0, |moved| moved.by);
        Seq::new(head.seq.get().saturating_add(moved)).unwrap_or(head.seq)
    }
}
