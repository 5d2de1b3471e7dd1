//! What users have said of how far they have received and read their conversations: v2 clients by `cmd` 3, legacy clients by their pongs.
//!
//! Owns: [`Words`], the model of every cursor: what was said, what must be stored once all is quiet, what the store was made to keep. [`Paces`], the times
//! at which a shard stored and relayed them.

use std::collections::{BTreeMap, BTreeSet};

use imgate::ids::{ConvId, UserId};
use imgate::limits::CURSOR_PACE_MS;

/// Received and read, as sequence numbers.
pub(crate) type Reach = (u64, u64);

/// One user in one conversation.
#[derive(Default)]
struct Said {
    recv: BTreeSet<u64>,
    read: BTreeSet<u64>,
    /// What must be stored in the end.
    owed: Reach,
    /// What the store keeps.
    stored: Reach,
    /// More was said than there was: it is cut at the head of the moment at which it comes in.
    lied: bool,
}

/// Of all users in all conversations.
#[derive(Default)]
pub(crate) struct Words {
    said: BTreeMap<(UserId, ConvId), Said>,
}

fn larger(one: Reach, other: Reach) -> Reach {
    (one.0.max(other.0), one.1.max(other.1))
}

impl Words {
    /// A user says something, true or not, heard or not.
    pub(crate) fn say(&mut self, user: UserId, conv: ConvId, (recv, read): Reach) {
        let said = self.said.entry((user, conv)).or_default();
        said.recv.insert(recv);
        said.read.insert(read);
    }

    /// What a user has just said is more than there is: it may be cut at any head until the store has answered.
    pub(crate) fn lie(&mut self, user: UserId, conv: ConvId) {
        self.said.entry((user, conv)).or_default().lied = true;
    }

    /// A shard has taken a word in; `head` is what exists.
    pub(crate) fn owe(&mut self, user: UserId, conv: ConvId, reach: Reach, head: u64) {
        let said = self.said.entry((user, conv)).or_default();
        said.lied |= reach.0 > head;
        said.owed = larger(said.owed, (reach.0.min(head), reach.1.min(head)));
    }

    /// Whether these two numbers were said, perhaps each in a word of its own. Zero needs no saying. Where a membership has `ended`
    /// a larger word is cut: the former member is shown no more.
    pub(crate) fn has(&self, user: UserId, conv: ConvId, (recv, read): Reach, ended: impl Fn(u64) -> bool) -> bool {
        let said = self.said.get(&(user, conv));
        let fits = |number: u64, of: &dyn Fn(&Said) -> &BTreeSet<u64>| {
            let cut = |said: &Said| (said.lied || ended(number)) && of(said).last() > Some(&number);
            number == 0 || said.is_some_and(|said| of(said).contains(&number) || cut(said))
        };
        fits(recv, &|said| &said.recv) && fits(read, &|said| &said.read)
    }

    /// The largest numbers said.
    pub(crate) fn most(&self, user: UserId, conv: ConvId) -> Reach {
        let last = |set: &BTreeSet<u64>| set.last().copied().unwrap_or(0);
        self.said.get(&(user, conv)).map_or((0, 0), |said| (last(&said.recv), last(&said.read)))
    }

    /// What the store keeps.
    pub(crate) fn stored(&self, user: UserId, conv: ConvId) -> Reach {
        self.said.get(&(user, conv)).map_or((0, 0), |said| said.stored)
    }

    /// All of whom something must be stored in the end.
    pub(crate) fn all_owed(&self) -> impl Iterator<Item = (UserId, ConvId, Reach)> {
        self.said.iter().map(|(&(user, conv), said)| (user, conv, said.owed)).filter(|&(.., owed)| owed != (0, 0))
    }

    /// The store keeps a cursor.
    pub(crate) fn keep(&mut self, user: UserId, conv: ConvId, (recv, read): Reach, head: u64) {
        let said = self.said.entry((user, conv)).or_default();
        said.stored = larger(said.stored, (recv.min(head), read.min(head)));
    }

    /// A membership ends, and the cursor with it.
    pub(crate) fn leave(&mut self, user: UserId, conv: ConvId) {
        if let Some(said) = self.said.get_mut(&(user, conv)) {
            (said.owed, said.stored) = ((0, 0), (0, 0));
        }
    }

    /// The process dies: what it had not stored is forgotten.
    pub(crate) fn crash(&mut self) {
        for said in self.said.values_mut() {
            said.owed = said.stored;
        }
    }
}

/// One thing that must not be done too often.
struct Last {
    ms: u64,
    ends: u64,
    ask: Option<(usize, u32)>,
}

/// When cursors were stored and relayed.
#[derive(Default)]
pub(crate) struct Paces {
    /// Users have devices on other gateways, whose words are relayed here at a pace of their own.
    pub(crate) spread: bool,
    /// The relay before the last one, where there are two paces.
    before: BTreeMap<(UserId, ConvId), Last>,
    last: BTreeMap<(bool, UserId, ConvId), Last>,
    /// Sessions of each user that have ended: each end may hurry what was said.
    ends: BTreeMap<UserId, u64>,
}

impl Paces {
    /// A session of `user` has ended.
    pub(crate) fn ended(&mut self, user: UserId) {
        *self.ends.entry(user).or_default() += 1;
    }

    /// A cursor is stored (`ask`: of this shard under this number), or relayed to another shard.
    pub(crate) fn moves(
        &mut self,
        user: UserId,
        conv: ConvId,
        ms: u64,
        ask: Option<(usize, u32)>,
    ) -> Result<(), String> {
        let ends = self.ends.get(&user).copied().unwrap_or(0);
        let mut last = self.last.insert((ask.is_some(), user, conv), Last { ms, ends, ask });
        if self.spread && ask.is_none() {
            last = last.and_then(|one| self.before.insert((user, conv), one));
        }
        match last {
            Some(last) if last.ends == ends && ms < last.ms + CURSOR_PACE_MS => Err(format!(
                "bounds: the cursor of {user:?} in {conv:?} is {} after {} ms again",
                if ask.is_some() { "stored" } else { "relayed" },
                ms - last.ms
            )),
            _ => Ok(()),
        }
    }

    /// The process dies, and knows nothing of what it did.
    pub(crate) fn crash(&mut self) {
        *self = Self { spread: self.spread, ..Self::default() };
    }

    /// The store has not kept what it was asked to: it may be asked again at once.
    pub(crate) fn failed(&mut self, node: usize, ask: u32) {
        self.last.retain(|_, last| last.ask != Some((node, ask)));
    }
}
