//! What may be lost and what is taken back: typing, presence, hints, recalls, said and heard.
//!
//! Owns: what clients and the control plane have said of these; who may hear it: sessions of `imgate.v2` only, and of a conversation only those in it.
//! A recall is a message of the conversation, so all else that must hold of it is checked where messages are.

use std::collections::BTreeSet;

use imgate::ids::{ConvId, GroupId, ShardId, UserId, shard_of};
use imgate::shard::{Answer, Notice};
use imgate::wire::command::RecallCommand;
use imgate::wire::{Command, Hint, Reject, Target};
use serde_json::{Map, Value};

use crate::client::{Client, Sent, Waiting};
use crate::hear::{conv, number, seq_of, user};
use crate::world::{Checked, World, target_of};

/// What was said that may be heard.
#[derive(Default)]
pub(crate) struct Whispers {
    typed: BTreeSet<(UserId, ConvId)>,
    watched: BTreeSet<(usize, UserId)>,
    /// Hints that another gateway was given.
    hinted: Vec<Notice>,
    /// Hints heard by each client.
    hints: BTreeSet<(usize, u64)>,
    /// Recalls asked for by each client: of what, under which key.
    recalls: Vec<(usize, Target, u64, String)>,
}

impl World {
    // ---- said -----------------------------------------------------------------------------------

    /// A v2 client is typing. Into groups only where nobody joins or leaves: then nobody is refused.
    pub(crate) fn type_something(&mut self, client: usize) -> Checked {
        let (user, target) = (self.clients[client].user, self.target());
        let is_in = match target {
            Target::User(_) => true,
            Target::Group(group) => self.plan.joins == 0 && self.truth.membership(group, user).is_some(),
        };
        if is_in && self.clients[client].is_v2() {
            self.whispers.typed.insert((user, crate::world::conv_of(user, target)));
            self.queue(client, Sent::Command(Command::Typing(target), None));
        }
        Ok(())
    }

    /// A v2 client wants to know who of some users is here.
    pub(crate) fn watch(&mut self, client: usize) -> Checked {
        let wanted: BTreeSet<UserId> = (0..self.random.below(4)).map(|_| self.random.pick(&self.users)).collect();
        if self.clients[client].is_v2() {
            self.whispers.watched.extend(wanted.iter().map(|&user| (client, user)));
            self.queue(client, Sent::Command(Command::Watch(wanted.into_iter().collect()), None));
        }
        Ok(())
    }

    /// The control plane says that something has changed.
    pub(crate) fn hint(&mut self) -> Checked {
        let (user, group) = (self.random.pick(&self.users), self.random.pick(&self.groups));
        if self.random.chance(500) {
            let id = group.get();
            self.issue(shard_of(user, self.plan.shards), Notice::Changed { user, what: Hint::Groups, id });
        } else {
            for shard in 0..self.plan.shards {
                self.issue(ShardId(shard), Notice::GroupChanged { group });
            }
        }
        Ok(())
    }

    /// A v2 client takes a message back: mostly one of its user's, sometimes again, sometimes over HTTP.
    pub(crate) fn recall_something(&mut self, client: usize) -> Checked {
        let (author, keyed) = (self.clients[client].user, !self.clients[client].anonymous);
        // A legacy page is replayed the newest messages that it may be shown: those that are gone do not count.
        if self.plan.volatile || self.plan.crowd > 0 || !self.clients[client].is_v2() || !keyed {
            return Ok(());
        }
        let mut old = self.whispers.recalls.iter().filter(|(asker, ..)| *asker == client);
        let again = if self.random.chance(200) { old.next_back().cloned() } else { None };
        let (_, of, seq, cid) = match again {
            Some(again) => again,
            None => {
                let stored = |&post: &usize| self.truth.place_of(post);
                let own: Vec<(ConvId, u64)> =
                    self.clients[client].posts.iter().rev().filter_map(stored).take(6).collect();
                let (conv, seq) = if own.is_empty() || self.random.chance(150) {
                    let conv = crate::world::conv_of(author, self.target());
                    (conv, self.random.below(self.truth.head(conv) + 2))
                } else {
                    self.random.pick(&own)
                };
                let letter = self.plan.letter();
                let (of, cid) = (target_of(author, conv), format!("r{letter}{client}-{}", self.whispers.recalls.len()));
                self.whispers.recalls.push((client, of, seq.max(1), cid.clone()));
                (client, of, seq.max(1), cid)
            }
        };
        let seq = seq_of(seq);
        if self.random.chance(200) {
            let shard = u16::try_from(self.random.index(usize::from(self.plan.shards))).unwrap_or(0);
            self.issue(ShardId(shard), Notice::Recall { user: author, of, seq });
        } else {
            self.queue(client, Sent::Command(Command::Recall(RecallCommand { of, seq, cid: Some(cid.into()) }), None));
        }
        Ok(())
    }

    /// Asks every shard which of the users are online; [`World::not_online_as`] looks at the answers.
    pub(crate) fn ask_who_is_online(&mut self) {
        for user in self.users.clone() {
            self.issue(shard_of(user, self.plan.shards), Notice::Online { users: [user].into() });
        }
    }

    /// The users with a session here.
    pub(crate) fn who_is_here(&self) -> BTreeSet<UserId> {
        let here = self.clients.iter().filter(|client| client.link.as_ref().is_some_and(|link| link.is_live()));
        here.map(|client| client.user).collect()
    }

    /// A user about whom the last answers say something else.
    pub(crate) fn not_online_as(&self, online: &BTreeSet<UserId>) -> Option<(UserId, bool)> {
        let answers = self.issued.values().filter_map(|issued| match (&issued.notice, &issued.answer) {
            (Notice::Online { users }, Some(Answer::Online { users: bits })) => Some((*users.first()?, bits & 1 == 1)),
            _ => None,
        });
        // In the order in which they were asked, so the last one counts.
        let last: std::collections::BTreeMap<UserId, bool> = answers.collect();
        last.into_iter().find(|&(user, is_online)| online.contains(&user) != is_online)
    }

    fn given_hints(&self) -> impl Iterator<Item = Notice> {
        let given = self.issued.values().filter(|issued| issued.given_step.is_some());
        given
            .map(|issued| issued.notice.clone())
            .filter(|notice| matches!(notice, Notice::Changed { .. } | Notice::GroupChanged { .. }))
    }

    /// What clients and the control plane of another gateway have said may be heard here.
    pub(crate) fn said_elsewhere(&mut self, other: &Self) {
        self.whispers.typed.extend(&other.whispers.typed);
        for notice in other.given_hints() {
            if !self.whispers.hinted.contains(&notice) {
                self.whispers.hinted.push(notice);
            }
        }
    }

    /// The control plane says that the profile of `user` has changed.
    pub(crate) fn hint_profile(&mut self, user: UserId, id: u64) {
        self.issue(shard_of(user, self.plan.shards), Notice::Changed { user, what: Hint::Profile, id });
    }

    /// The clients that ought to have heard of that, and have not.
    pub(crate) fn unheard_hint(&self, user: UserId, id: u64) -> Option<usize> {
        let owed = |client: &Client| {
            client.user == user
                && !client.frozen
                && client.is_v2()
                && client.link.as_ref().is_some_and(|link| link.is_live() && link.ready)
        };
        let mut unheard = (0..self.clients.len()).filter(|&client| owed(&self.clients[client]));
        unheard.find(|&client| !self.whispers.hints.contains(&(client, id)))
    }

    // ---- heard ----------------------------------------------------------------------------------

    pub(crate) fn hear_typing(&mut self, client: usize, object: &Map<String, Value>) -> Checked {
        let listener = self.clients[client].user;
        let typist = user(number(object, "userid")?)?;
        let conv = conv(number(object, "kind")?, number(object, "dstid")?, listener)?;
        let is_in = match conv {
            ConvId::Direct { .. } => conv.is_between(listener),
            ConvId::Group(group) => self.was_member(group, listener) && self.was_member(group, typist),
        };
        self.sights.typings += 1;
        if typist == listener || !is_in || !self.whispers.typed.contains(&(typist, conv)) {
            return Err(format!("P6: {listener:?} hears that {typist:?} types in {conv:?}"));
        }
        Ok(())
    }

    pub(crate) fn hear_presence(&mut self, client: usize, object: &Map<String, Value>) -> Checked {
        let rows = object.get("rows").and_then(Value::as_array).filter(|rows| !rows.is_empty());
        for row in rows.ok_or_else(|| format!("no rows in {object:?}"))? {
            let row = row.as_object().ok_or("a row that is no object")?;
            let seen = user(number(row, "userid")?)?;
            row.get("online").and_then(Value::as_bool).ok_or("a row that says nothing")?;
            self.sights.presences += 1;
            if !self.whispers.watched.contains(&(client, seen)) {
                return Err(format!("P6: client {client} hears of {seen:?}, whom it never watched"));
            }
        }
        Ok(())
    }

    pub(crate) fn hear_hint(&mut self, client: usize, object: &Map<String, Value>) -> Checked {
        let (listener, id) = (self.clients[client].user, number(object, "id")?);
        let what = object.get("what").and_then(Value::as_str).unwrap_or_default();
        self.sights.hints += 1;
        self.whispers.hints.insert((client, id));
        let given = self.given_hints().chain(self.whispers.hinted.iter().cloned());
        let fine = { given }.any(|notice| match notice {
            Notice::Changed { user, what: told, id: of } => user == listener && told.what() == what && of == id,
            Notice::GroupChanged { group } => what == "groups" && group.get() == id && self.was_member(group, listener),
            _ => false,
        });
        if fine { Ok(()) } else { Err(format!("P6: {listener:?} is told of {what} {id} for no reason")) }
    }

    fn was_member(&self, group: GroupId, user: UserId) -> bool {
        self.truth.spans.contains_key(&(group, user))
    }

    /// The ack of a recall: stored, and what it names is blank.
    pub(crate) fn hear_recall_ack(&mut self, client: usize, cid: &str, object: &Map<String, Value>) -> Checked {
        let user = self.clients[client].user;
        let conv = conv(number(object, "kind")?, number(object, "dstid")?, user)?;
        let fits = |waiting: &Waiting| matches!(waiting, Waiting::Recall { cid: asked, conv: of, .. } if asked == cid && *of == conv);
        let Waiting::Recall { of, .. } = self.settle_waiting(client, "ack of a recall", fits)? else {
            return Err("simulation: not a recall".to_owned());
        };
        let (id, seq, ts) = (number(object, "id")?, number(object, "seq")?, number(object, "ts")?);
        let stored = self.truth.message(conv, seq);
        if stored.is_none_or(|message| (message.id, message.ts, message.sender) != (id, ts, user))
            || self.truth.claim(user, cid) != Some((conv, seq))
        {
            return Err(format!("P1: acked {object:?}, but stored is {stored:?}"));
        }
        if self.truth.message(conv, of).is_none_or(|message| message.was.is_none()) {
            return Err(format!("recall: acked {object:?}, but {conv:?} #{of} is as it was"));
        }
        self.sights.recalls += 1;
        self.there(client)?.acks.entry(conv).or_default().insert(seq);
        self.clients[client].apply(conv, seq, None).map(|_| ())
    }

    /// A client's recall was refused.
    pub(crate) fn hear_recall_refusal(&mut self, client: usize, cid: &str, reject: Reject) -> Checked {
        let fits = |waiting: &Waiting| matches!(waiting, Waiting::Recall { cid: asked, .. } if asked == cid);
        let Waiting::Recall { conv, step, .. } = self.settle_waiting(client, "refusal of a recall", fits)? else {
            return Err("simulation: not a recall".to_owned());
        };
        match reject {
            // The store's judgement, which was held against the truth of its moment.
            Reject::NoSuchMessage | Reject::NotYours | Reject::TooLate => Ok(()),
            reject => self.judge_refusal(client, reject, conv, step, false),
        }
    }

    /// The control plane hears what became of a recall.
    pub(crate) fn recall_answered(&self, author: UserId, of: Target, seq: u64, answer: Answer) -> Checked {
        let conv = crate::world::conv_of(author, of);
        match answer {
            Answer::Recalled { seq: by } => {
                let notice = self.truth.message(conv, by.get());
                let blank = self.truth.message(conv, seq).is_some_and(|message| message.was.is_some());
                if blank && notice.is_some_and(|message| message.sender == author && message.post.is_none()) {
                    Ok(())
                } else {
                    Err(format!("recall: {conv:?} #{seq} is said to be recalled by #{by:?}: {notice:?}"))
                }
            }
            Answer::Refused(_) => Ok(()),
            Answer::Done
            | Answer::AsBefore
            | Answer::OwnerStays
            | Answer::Posted { .. }
            | Answer::Online { .. }
            | Answer::Roster { .. }
            | Answer::Sessions(_)
            | Answer::Ended { .. } => Err(format!("contract: a recall of {conv:?} #{seq} is done, by no message")),
        }
    }
}
