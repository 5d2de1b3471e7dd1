//! What is true: every committed row and membership, kept apart from the store under test and compared with its answers.
//!
//! Owns: [`Truth`]. It is told of each transaction when it really happens, so it knows what an honest answer may say.

use std::collections::{BTreeMap, BTreeSet};

use imgate::ids::{ConvId, GroupId, UserId};
use imgate::limits::{RECALL_MS_MAX, UNREAD_MAX};
use imgate::store::{Heads, PostKey, Recall, Refusal, Write, Written};
use serde_json::{Map, Value};

use crate::words::{Reach, Words};

/// A message as the store must give it back.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Message {
    pub(crate) id: u64,
    pub(crate) ts: u64,
    pub(crate) sender: UserId,
    /// The client's fields.
    pub(crate) fields: Map<String, Value>,
    /// The number of the post that made it; `None` for another gateway's.
    pub(crate) post: Option<usize>,
    /// Nobody was told how its commit ended.
    pub(crate) silent: bool,
    /// It was recalled: the step of the commit, and what it said before.
    pub(crate) was: Option<(u64, Map<String, Value>)>,
}

impl Message {
    /// Which message it takes back, whatever became of it.
    fn takes_back(&self) -> Option<u64> {
        let said = self.was.as_ref().map_or(&self.fields, |(_, said)| said);
        said.get("recall").and_then(Value::as_u64)
    }

    /// It takes another one back, or was taken back: old pages are not told.
    pub(crate) fn is_hidden(&self) -> bool {
        self.was.is_some() || self.fields.contains_key("recall")
    }
}

/// One time of being a member: may see what is after `since`, up to `until`.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) since: u64,
    pub(crate) until: Option<u64>,
    /// The world's step of the commit.
    pub(crate) step: u64,
    /// The commit was answered.
    pub(crate) clean: bool,
    /// The head when the control plane first heard that the membership is known everywhere.
    pub(crate) told: Option<u64>,
    /// The commit that ended it was not answered, and the head when the control plane heard of the end.
    silent_end: bool,
    pub(crate) end_step: u64,
    end_told: Option<u64>,
}

/// Where a user stands in one conversation.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Stand {
    pub(crate) head: u64,
    /// The oldest message that is kept and that the user may see.
    pub(crate) floor: u64,
    /// What the store keeps of the user's words.
    pub(crate) stored: Reach,
    /// The most that the user has said.
    pub(crate) said: Reach,
}

/// Where a user stood in all conversations at one moment.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Moment {
    pub(crate) step: u64,
    pub(crate) convs: BTreeMap<ConvId, Stand>,
}

impl Span {
    const fn new(since: u64, step: u64, clean: bool, told: Option<u64>) -> Self {
        Self { since, until: None, step, clean, told, silent_end: false, end_step: 0, end_told: None }
    }

    /// Whether the message at `seq` may be shown. An end that the store kept silent about holds from when it was told.
    fn covers(&self, seq: u64) -> bool {
        let ended = self.until.is_some_and(|until| until < seq);
        let known = !self.silent_end || self.end_told.is_some_and(|told| told < seq);
        self.since < seq && !(ended && known)
    }
}

/// Everything that was committed.
pub(crate) struct Truth {
    /// With this the content of this gateway's posts begins.
    letter: char,
    pub(crate) convs: BTreeMap<ConvId, Vec<Message>>,
    claims: BTreeMap<(UserId, String), (ConvId, u64)>,
    by_post: BTreeMap<usize, (ConvId, u64)>,
    ids: BTreeSet<u64>,
    pub(crate) spans: BTreeMap<(GroupId, UserId), Vec<Span>>,
    /// What users have said of how far they have come.
    pub(crate) words: Words,
    /// The oldest message kept of each conversation that has lost some.
    floors: BTreeMap<ConvId, u64>,
    users: BTreeSet<UserId>,
    groups: BTreeSet<GroupId>,
    owners: BTreeMap<GroupId, UserId>,
}

/// The text of a dedupe key: no client's `cid` starts with a slash.
pub(crate) fn key_text(key: &PostKey) -> String {
    match key {
        PostKey::Client(cid) => cid.to_string(),
        PostKey::Server { node, boot, counter } => format!("/{node}/{boot}/{counter}"),
    }
}

/// The number of the post in a body's `content`: `m17 …`, with the letter of the gateway in question.
pub(crate) fn post_number(fields: &Map<String, Value>, letter: char) -> Option<usize> {
    fields.get("content")?.as_str()?.strip_prefix(letter)?.split(' ').next()?.parse().ok()
}

impl Truth {
    /// Nothing was committed yet.
    pub(crate) fn new(letter: char) -> Self {
        Self {
            letter,
            convs: BTreeMap::new(),
            claims: BTreeMap::new(),
            by_post: BTreeMap::new(),
            ids: BTreeSet::new(),
            spans: BTreeMap::new(),
            words: Words::default(),
            floors: BTreeMap::new(),
            users: BTreeSet::new(),
            groups: BTreeSet::new(),
            owners: BTreeMap::new(),
        }
    }

    /// Learns of a transaction that another gateway has committed. What its users say of themselves was heard there.
    pub(crate) fn elsewhere(&mut self, step: u64, writes: &[Write], written: &[Written]) -> Result<(), String> {
        for write in writes {
            if let Write::Cursor { user, conv, recv, read } = write {
                self.words.say(*user, *conv, (recv.get(), read.get()));
            }
        }
        self.commit(step, true, writes, written)
    }

    /// Users that exist, and groups with their owners.
    pub(crate) fn found(&mut self, users: &[UserId], groups: &BTreeMap<GroupId, UserId>) {
        self.users.extend(users);
        self.groups.extend(groups.keys());
        self.owners.extend(groups);
    }

    /// Whether `user` owns `group`.
    pub(crate) fn is_owner(&self, group: GroupId, user: UserId) -> bool {
        self.owners.get(&group) == Some(&user)
    }

    /// A membership from before the run.
    pub(crate) fn founding_member(&mut self, group: GroupId, user: UserId, since: u64) {
        let span = Span::new(since, 0, true, Some(0));
        self.spans.entry((group, user)).or_default().push(span);
    }

    /// The newest seq of a conversation.
    pub(crate) fn head(&self, conv: ConvId) -> u64 {
        self.convs.get(&conv).map_or(0, |rows| rows.len() as u64)
    }

    /// Messages in all conversations.
    pub(crate) fn stored(&self) -> usize {
        self.convs.values().map(Vec::len).sum()
    }

    /// All heads at this moment.
    pub(crate) fn heads(&self) -> BTreeMap<ConvId, u64> {
        self.convs.keys().map(|&conv| (conv, self.head(conv))).collect()
    }

    /// The message at a place.
    pub(crate) fn message(&self, conv: ConvId, seq: u64) -> Option<&Message> {
        self.convs.get(&conv)?.get(usize::try_from(seq.checked_sub(1)?).ok()?)
    }

    /// Where a post was stored.
    pub(crate) fn place_of(&self, post: usize) -> Option<(ConvId, u64)> {
        self.by_post.get(&post).copied()
    }

    /// Where a key was claimed.
    pub(crate) fn claim(&self, user: UserId, cid: &str) -> Option<(ConvId, u64)> {
        self.claims.get(&(user, cid.to_owned())).copied()
    }

    /// The present membership.
    pub(crate) fn membership(&self, group: GroupId, user: UserId) -> Option<&Span> {
        self.spans.get(&(group, user))?.last().filter(|span| span.until.is_none())
    }

    /// Whether a membership of `user` ended at that number.
    pub(crate) fn ended_at(&self, conv: ConvId, user: UserId, head: u64) -> bool {
        let ConvId::Group(group) = conv else { return false };
        self.spans.get(&(group, user)).is_some_and(|spans| spans.iter().any(|span| span.until == Some(head)))
    }

    /// Whether `user` may ever have been shown the message at `seq`.
    pub(crate) fn may_see(&self, conv: ConvId, user: UserId, seq: u64) -> bool {
        match conv {
            ConvId::Direct { .. } => conv.is_between(user),
            ConvId::Group(group) => {
                self.spans.get(&(group, user)).is_some_and(|spans| spans.iter().any(|span| span.covers(seq)))
            }
        }
    }

    /// The oldest message kept.
    pub(crate) fn floor(&self, conv: ConvId) -> u64 {
        self.floors.get(&conv).copied().unwrap_or(1)
    }

    /// Messages have gone: `floor` is the oldest kept now.
    pub(crate) fn trimmed(&mut self, conv: ConvId, floor: u64) {
        self.floors.insert(conv, floor);
    }

    /// The number after which `user` may read now; `None`: it is not the user's conversation.
    pub(crate) fn since(&self, conv: ConvId, user: UserId) -> Option<u64> {
        match conv {
            ConvId::Direct { .. } => conv.is_between(user).then_some(0),
            ConvId::Group(group) => self.membership(group, user).map(|span| span.since),
        }
    }

    /// Where `user` stands in each of its conversations that has messages.
    pub(crate) fn moment(&self, step: u64, user: UserId) -> Moment {
        let stand = |conv: ConvId, since: u64| {
            let (stored, said) = (self.words.stored(user, conv), self.words.most(user, conv));
            Stand {
                head: self.head(conv),
                floor: self.floor(conv).max(since + 1),
                stored: (stored.0.max(since), stored.1.max(since)),
                said: (said.0.max(since), said.1.max(since)),
            }
        };
        let convs = self.convs.keys().filter_map(|&conv| Some((conv, stand(conv, self.since(conv, user)?)))).collect();
        Moment { step, convs }
    }

    /// Messages of others that are kept, after `read` and up to `head`, and that could be read when that was the head: a
    /// recall takes back what it does at its own place of the order.
    pub(crate) fn unread(&self, conv: ConvId, user: UserId, (floor, read, head): (u64, u64, u64)) -> u64 {
        let first = floor.max(read + 1);
        let taken_back: BTreeSet<u64> =
            (first..=head).filter_map(|seq| self.message(conv, seq)?.takes_back()).collect();
        let counts = |seq: &u64| {
            let message = self.message(conv, *seq).filter(|message| message.sender != user);
            message.is_some_and(|message| message.takes_back().is_none()) && !taken_back.contains(seq)
        };
        ((first..=head).filter(counts).count() as u64).min(UNREAD_MAX)
    }

    /// Holds the store's list of a user's conversations against what it should be.
    pub(crate) fn check_heads(
        &self,
        user: UserId,
        before: Option<(u64, ConvId)>,
        (missed, max): (bool, u32),
        heads: &Heads,
    ) -> Result<(), String> {
        let moment = self.moment(0, user);
        let place = |conv: ConvId, stand: &Stand| self.message(conv, stand.head).map(|message| (message.ts, conv));
        let mut wanted: Vec<((u64, ConvId), &Stand)> =
            moment.convs.iter().filter_map(|(&conv, stand)| Some((place(conv, stand)?, stand))).collect();
        wanted.retain(|&(place, _)| before.is_none_or(|before| place < before));
        wanted.retain(|(_, stand)| !missed || stand.floor.max(stand.stored.0 + 1) <= stand.head);
        wanted.sort_by_key(|&(place, _)| std::cmp::Reverse(place));
        let more = wanted.len() > max as usize;
        wanted.truncate(max as usize);
        let wanted = wanted.into_iter().map(|((ts, conv), stand)| {
            let unread = self.unread(conv, user, (stand.floor, stand.stored.1, stand.head));
            (conv, ts, stand.head, stand.floor, stand.stored, unread)
        });
        let told = heads.convs.iter().map(|state| {
            let reach = (state.recv.get(), state.read.get());
            (state.conv, state.ts_ms, state.head.get(), state.floor.get(), reach, state.unread)
        });
        if !wanted.eq(told) || more != heads.more {
            return Err(format!("store: the conversations of {user:?} are not {heads:?}"));
        }
        Ok(())
    }

    /// The control plane hears that a membership, or its end, is known everywhere.
    /// `given`: the step in which the shard was given the notice; what was committed later is none of its doing.
    pub(crate) fn told(&mut self, group: GroupId, user: UserId, joined: bool, given: u64) {
        let head = self.head(ConvId::Group(group));
        for span in self.spans.get_mut(&(group, user)).into_iter().flatten() {
            match span.until {
                None if joined && span.step < given => span.told = span.told.or(Some(head)),
                Some(_) if !joined && span.end_step < given => span.end_told = span.end_told.or(Some(head)),
                _ => {}
            }
        }
    }

    /// Learns of a committed transaction and holds the store's answers against what they should be. `silent`: nobody else will hear them.
    pub(crate) fn commit(
        &mut self,
        step: u64,
        silent: bool,
        writes: &[Write],
        written: &[Written],
    ) -> Result<(), String> {
        if writes.len() != written.len() {
            return Err(format!("store: {} answers to {} writes", written.len(), writes.len()));
        }
        for (write, answer) in writes.iter().zip(written) {
            self.write(step, silent, write, answer).map_err(|why| format!("store: {why}: {write:?} -> {answer:?}"))?;
        }
        Ok(())
    }

    fn write(&mut self, step: u64, silent: bool, write: &Write, answer: &Written) -> Result<(), String> {
        match (write, answer) {
            (Write::Append(new), answer) => self.append(silent, new, answer, false),
            (Write::Recall(recall), answer) => self.recall(step, silent, recall, answer),
            (Write::Head(conv), Written::Head { head }) if head.get() == self.head(*conv) => Ok(()),
            (Write::Join { group, .. }, Written::Refused(Refusal::NoSuchGroup)) if !self.groups.contains(group) => {
                Ok(())
            }
            (Write::Join { user, .. }, Written::Refused(Refusal::NoSuchUser)) if !self.users.contains(user) => Ok(()),
            (Write::Join { group, user }, Written::Joined { since, already }) => match self.membership(*group, *user) {
                Some(span) if *already && span.since == since.get() => Ok(()),
                None if !*already && since.get() == self.head(ConvId::Group(*group)) => {
                    let span = Span::new(since.get(), step, !silent, None);
                    self.spans.entry((*group, *user)).or_default().push(span);
                    Ok(())
                }
                span => Err(format!("the membership is {span:?}")),
            },
            (Write::Leave { group, .. }, Written::Refused(Refusal::NoSuchGroup)) if !self.groups.contains(group) => {
                Ok(())
            }
            (Write::Leave { group, user }, Written::Refused(Refusal::Owner)) if self.is_owner(*group, *user) => Ok(()),
            (Write::Leave { group, user }, _) if self.is_owner(*group, *user) => Err("owners stay".to_owned()),
            (Write::Leave { group, user }, Written::Left { was_member }) => {
                let head = self.head(ConvId::Group(*group));
                let span = self.spans.get_mut(&(*group, *user)).and_then(|spans| spans.last_mut());
                let span = span.filter(|span| span.until.is_none());
                if span.is_some() != *was_member {
                    return Err(format!("the membership is {span:?}"));
                }
                if let Some(span) = span {
                    (span.until, span.silent_end, span.end_step) = (Some(head), silent, step);
                }
                self.words.leave(*user, ConvId::Group(*group));
                Ok(())
            }
            (Write::Cursor { user, conv, recv, read }, Written::Kept) => {
                let reach = (recv.get(), read.get());
                if !self.words.has(*user, *conv, reach, |seq| self.ended_at(*conv, *user, seq)) {
                    return Err("P6: nobody has said so".to_owned());
                }
                if self.since(*conv, *user).is_some() {
                    let head = self.head(*conv);
                    self.words.keep(*user, *conv, reach, head);
                }
                Ok(())
            }
            _ => Err("an answer that does not fit".to_owned()),
        }
    }

    /// A message that takes an earlier one back, which is blank from the same moment.
    fn recall(&mut self, step: u64, silent: bool, recall: &Recall, answer: &Written) -> Result<(), String> {
        let (new, of) = (&recall.message, recall.seq.get());
        let known = self.message(new.conv, of).filter(|_| of >= self.floor(new.conv));
        let why = match known {
            None => Some(Refusal::NoSuchMessage),
            Some(message) if message.sender != new.sender => Some(Refusal::NotYours),
            Some(message) if message.was.is_some() => Some(Refusal::NoSuchMessage),
            Some(message) if new.ts_ms > message.ts + RECALL_MS_MAX => Some(Refusal::TooLate),
            Some(_) => None,
        };
        if let Written::Refused(refusal @ (Refusal::NoSuchMessage | Refusal::NotYours | Refusal::TooLate)) = answer {
            let claimed = self.claim(new.sender, &key_text(&new.key));
            let fine = why == Some(*refusal) && claimed.is_none();
            return if fine { Ok(()) } else { Err(format!("recall: {why:?} would be right, {claimed:?}")) };
        }
        if *answer == Written::Refused(Refusal::NotMember)
            && !matches!(why, Some(Refusal::NoSuchMessage | Refusal::NotYours))
        {
            return Err(format!("recall: what one has said one may take back, {why:?}"));
        }
        self.append(silent, new, answer, true)?;
        if !matches!(answer, Written::Stored { .. }) {
            return Ok(());
        }
        let at = usize::try_from(of - 1).map_err(|error| error.to_string())?;
        let message = self.convs.get_mut(&new.conv).and_then(|rows| rows.get_mut(at)).filter(|_| why.is_none());
        let message = message.ok_or_else(|| format!("recall: done, although {why:?}"))?;
        let blank = [("media", Value::from(1)), ("recalled", Value::from(true))];
        let blank = blank.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        message.was = Some((step, std::mem::replace(&mut message.fields, blank)));
        // An old page passes over both: what it confirms may reach that far, although it has never read them.
        let by = self.head(new.conv);
        for &user in &self.users {
            self.words.say(user, new.conv, (of, 0));
            self.words.say(user, new.conv, (by, 0));
        }
        Ok(())
    }

    /// `recalls`: it takes back what its sender has said, who may be no member any more.
    fn append(
        &mut self,
        silent: bool,
        new: &imgate::store::NewMessage,
        answer: &Written,
        recalls: bool,
    ) -> Result<(), String> {
        let claim = (new.sender, key_text(&new.key));
        let earlier = self.claims.get(&claim).copied();
        match answer {
            Written::Duplicate { conv, seq, id, ts_ms } => {
                let known = self.message(*conv, seq.get()).map(|known| (known.id, known.ts));
                if earlier == Some((*conv, seq.get())) && known == Some((id.get(), *ts_ms)) {
                    Ok(())
                } else {
                    Err(format!("claimed at {earlier:?}"))
                }
            }
            _ if earlier.is_some() => Err(format!("P3: the key was claimed at {earlier:?}")),
            Written::Refused(refusal) => match (refusal, new.conv) {
                (Refusal::NoSuchGroup, ConvId::Group(group)) if !self.groups.contains(&group) => Ok(()),
                (Refusal::NotMember, ConvId::Group(group)) if self.membership(group, new.sender).is_none() => Ok(()),
                (Refusal::NoSuchUser, ConvId::Direct { lo, hi })
                    if !(self.users.contains(&lo) && self.users.contains(&hi)) =>
                {
                    Ok(())
                }
                _ => Err("refused without a reason".to_owned()),
            },
            Written::Stored { seq, id, ts_ms, before_ms } => {
                let before = self.convs.get(&new.conv).and_then(|rows| rows.last()).map_or(0, |message| message.ts);
                if *before_ms != before {
                    return Err(format!("the message before is of {before} ms, not {before_ms}"));
                }
                let allowed = match new.conv {
                    ConvId::Group(group) => recalls || self.membership(group, new.sender).is_some(),
                    ConvId::Direct { lo, hi } => {
                        self.users.contains(&lo) && self.users.contains(&hi) && new.conv.is_between(new.sender)
                    }
                };
                if !allowed {
                    return Err("P6: the sender may not".to_owned());
                }
                if seq.get() != self.head(new.conv) + 1 {
                    return Err(format!("P2: the head was {}", self.head(new.conv)));
                }
                if !self.ids.insert(id.get()) {
                    return Err("the id was given before".to_owned());
                }
                let fields = serde_json::from_str::<Map<String, Value>>(&format!("{{{}}}", new.body))
                    .map_err(|error| error.to_string())?;
                let post = post_number(&fields, self.letter);
                if let Some(place) = post.and_then(|post| self.by_post.insert(post, (new.conv, seq.get()))) {
                    return Err(format!("P3: the same post is stored at {place:?} already"));
                }
                self.claims.insert(claim, (new.conv, seq.get()));
                let message = Message { id: id.get(), ts: *ts_ms, sender: new.sender, fields, post, silent, was: None };
                self.convs.entry(new.conv).or_default().push(message);
                Ok(())
            }
            _ => Err("an answer that does not fit".to_owned()),
        }
    }
}
