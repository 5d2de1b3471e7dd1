//! What is true: every committed row and membership, kept apart from the store under test and compared with its answers.
//!
//! Owns: [`Truth`]. It is told of each transaction when it really happens, so it knows what an honest answer may say.

use std::collections::{BTreeMap, BTreeSet};

use imgate::ids::{ConvId, GroupId, UserId};
use imgate::store::{PostKey, Refusal, Write, Written};
use serde_json::{Map, Value};

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
    end_step: u64,
    end_told: Option<u64>,
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
#[derive(Default)]
pub(crate) struct Truth {
    pub(crate) convs: BTreeMap<ConvId, Vec<Message>>,
    claims: BTreeMap<(UserId, String), (ConvId, u64)>,
    by_post: BTreeMap<usize, (ConvId, u64)>,
    ids: BTreeSet<u64>,
    pub(crate) spans: BTreeMap<(GroupId, UserId), Vec<Span>>,
    users: BTreeSet<UserId>,
    groups: BTreeSet<GroupId>,
}

/// The text of a dedupe key: no client's `cid` starts with a slash.
pub(crate) fn key_text(key: &PostKey) -> String {
    match key {
        PostKey::Client(cid) => cid.to_string(),
        PostKey::Server { node, boot, counter } => format!("/{node}/{boot}/{counter}"),
    }
}

/// The number of the post in a body's `content`: `m17 …`.
pub(crate) fn post_number(fields: &Map<String, Value>) -> Option<usize> {
    fields.get("content")?.as_str()?.strip_prefix('m')?.split(' ').next()?.parse().ok()
}

impl Truth {
    /// Users and groups that exist.
    pub(crate) fn found(&mut self, users: &[UserId], groups: &[GroupId]) {
        self.users.extend(users);
        self.groups.extend(groups);
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

    /// Whether `user` may ever have been shown the message at `seq`.
    pub(crate) fn may_see(&self, conv: ConvId, user: UserId, seq: u64) -> bool {
        match conv {
            ConvId::Direct { .. } => conv.is_between(user),
            ConvId::Group(group) => {
                self.spans.get(&(group, user)).is_some_and(|spans| spans.iter().any(|span| span.covers(seq)))
            }
        }
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
            (Write::Append(new), answer) => self.append(silent, new, answer),
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
                Ok(())
            }
            _ => Err("an answer that does not fit".to_owned()),
        }
    }

    fn append(&mut self, silent: bool, new: &imgate::store::NewMessage, answer: &Written) -> Result<(), String> {
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
            Written::Stored { seq, id, ts_ms } => {
                let allowed = match new.conv {
                    ConvId::Group(group) => self.membership(group, new.sender).is_some(),
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
                let post = post_number(&fields);
                if let Some(place) = post.and_then(|post| self.by_post.insert(post, (new.conv, seq.get()))) {
                    return Err(format!("P3: the same post is stored at {place:?} already"));
                }
                self.claims.insert(claim, (new.conv, seq.get()));
                let message = Message { id: id.get(), ts: *ts_ms, sender: new.sender, fields, post, silent };
                self.convs.entry(new.conv).or_default().push(message);
                Ok(())
            }
            _ => Err("an answer that does not fit".to_owned()),
        }
    }
}
