//! A conversation at its home: which messages have been handed on, which wait for those before
//! them.
//!
//! Owns: `delivered` and the strict order `delivered + 1, + 2, …` of handing on; the marks for
//! shards whose lane was full; the posts that the store has not answered.
//! Never: hands on a message twice or out of order, and never guesses: whatever reveals a higher
//! number makes the home read the gap first.
//! Bounds: [`crate::limits::CONVS_ACTIVE_MAX`] conversations; each holds no more than the posts
//! under way.

use crate::shard::broken::broken;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use hashbrown::{Equivalent, HashMap};
use slab::Slab;
use smallvec::SmallVec;

use crate::clock::Now;
use crate::fair::Turns;
use crate::ids::{ConvId, ID_MAX, Seq, ShardId, UserId};
use crate::limits;
use crate::shard::home::marks::Marks;
use crate::shard::home::recent::RecentAnswers;
use crate::shard::peer::PeerPost;
use crate::store::PostKey;
use crate::wire::Packet;
use crate::wire::packet::Stored;

/// A post at its home, until it is answered.
#[derive(Debug)]
pub(in crate::shard) struct HomePost {
    /// The shard that asked.
    pub from: ShardId,
    /// What it asked.
    pub post: Box<PeerPost>,
    /// Wall time at which it reached the home.
    pub ts_ms: u64,
    /// Resends of the same post: shard and ask number. Bounded by [`limits::WAITERS_MAX`].
    pub waiters: SmallVec<[(ShardId, u32); 1]>,
    /// Times that the store was asked again because the outcome was unknown. Zero: it never was.
    pub unknown: u32,
}

/// A stored message that waits for those before it.
#[derive(Debug)]
pub(in crate::shard) struct Undelivered {
    /// Encoded once.
    pub packet: Arc<Packet>,
    /// What the database gave it.
    pub stored: Stored,
    /// Its time.
    pub ts_ms: u64,
    /// The post that it answers.
    pub post: u32,
}

/// A resend of a message that has not been handed on yet.
#[derive(Debug)]
pub(in crate::shard) struct Late {
    /// The message's place.
    pub stored: Stored,
    /// Its time.
    pub ts_ms: u64,
    /// The post to be answered `dup` when its place has been reached.
    pub post: u32,
}

/// What the home knows of how far it is.
#[derive(Debug)]
pub(in crate::shard) enum Base {
    /// Nothing: no post of this home is known to be stored.
    Fresh,
    /// Everything up to here has been handed on, or was stored before this home began.
    Delivered(Seq),
}

/// One conversation.
#[derive(Debug)]
pub(in crate::shard) struct Conversation {
    /// How far.
    pub base: Base,
    /// Stored, waiting for those before them.
    pub ready: BTreeMap<Seq, Undelivered>,
    /// Resends, waiting likewise.
    pub late: Vec<Late>,
    /// The highest number known to exist.
    pub revealed: Seq,
    /// Posts in the store, or in line for it.
    pub in_store: u32,
    /// Of these, posts whose outcome is unknown: nothing is read until they are settled, for their
    /// rows would look like another gateway's.
    pub unknown: u32,
    /// A read of the gap, or of the head, is under way or waits for its retry.
    pub reading: bool,
    /// An outcome stayed unknown: the head must be asked for before the conversation may rest.
    pub suspect: bool,
    /// Wall time in Unix milliseconds at which the first of the posts under way reached a fresh
    /// conversation: what is stored with an earlier time is no concern of this home's.
    pub began_ms: u64,
    /// A fresh conversation in which more than the posts that are ready may have been stored since
    /// `began_ms`: the store is to be read before anything is handed on.
    pub doubt: bool,
    /// Shards that lack messages from a number on, because their lane was full.
    pub marks: SmallVec<[(ShardId, Seq); 1]>,
    /// Monotonic milliseconds of the last use.
    pub touched_ms: u64,
}

impl Conversation {
    fn new(now_ms: u64) -> Self {
        Self {
            base: Base::Fresh,
            ready: BTreeMap::new(),
            late: Vec::new(),
            revealed: Seq::ZERO,
            in_store: 0,
            unknown: 0,
            reading: false,
            suspect: false,
            began_ms: 0,
            doubt: false,
            marks: SmallVec::new(),
            touched_ms: now_ms,
        }
    }

    /// Whether it could be forgotten without losing anything.
    fn is_idle(&self) -> bool {
        self.ready.is_empty()
            && self.late.is_empty()
            && self.in_store == 0
            && self.marks.is_empty()
            && !self.reading
            && !self.suspect
            && !self.doubt
    }

    /// Whether it may be forgotten now: not in the millisecond of its last message, which a fresh
    /// home could take for one that was stored after it began.
    fn may_go(&self, now_ms: u64) -> bool {
        self.is_idle() && self.touched_ms < now_ms
    }

    /// A post has reached the home.
    pub(in crate::shard) fn begin(&mut self, now: Now) {
        let is_first = self.delivered().is_none() && self.is_idle();
        self.began_ms = if is_first { now.wall_ms } else { self.began_ms.min(now.wall_ms) };
        self.touched_ms = now.mono_ms;
    }

    /// A message of this home's is stored; `before_ms` is the time of the one before it, `None` if
    /// that was not said. The first one of a fresh conversation tells where handing on begins,
    /// unless another gateway has stored something since this home began.
    pub(in crate::shard) fn judge_first(&mut self, before_ms: Option<u64>) {
        if self.delivered().is_none() && self.ready.is_empty() {
            self.doubt |= before_ms.is_none_or(|before_ms| before_ms > self.began_ms);
        }
    }

    /// Up to which number resends may be answered: their messages have been handed on. All of a
    /// fresh conversation in which nothing is under way: they are older than this home.
    pub(in crate::shard) fn reach(&self) -> Option<Seq> {
        let rests = self.in_store == 0 && self.ready.is_empty() && !self.doubt;
        self.delivered().or_else(|| rests.then(|| Seq::new(ID_MAX)).flatten())
    }

    /// The store has answered for a post of it, whose outcome was unknown before or not.
    pub(super) fn leave_store(&mut self, was_unknown: bool) {
        let left = self.in_store.checked_sub(1).zip(self.unknown.checked_sub(u32::from(was_unknown)));
        let Some((in_store, unknown)) = left else { broken("what the store has answered was in its hands") };
        (self.in_store, self.unknown) = (in_store, unknown);
    }

    /// How far it has handed on, once it knows.
    pub(in crate::shard) const fn delivered(&self) -> Option<Seq> {
        match self.base {
            Base::Delivered(seq) => Some(seq),
            Base::Fresh => None,
        }
    }

    /// The mark of `shard`, taken away.
    pub(super) fn take_mark(&mut self, shard: ShardId) -> Option<Seq> {
        let i = self.marks.iter().position(|&(other, _)| other == shard)?;
        Some(self.marks.swap_remove(i).1)
    }

    /// Whether `shard` has a mark.
    pub(super) fn is_marked(&self, shard: ShardId) -> bool {
        self.marks.iter().any(|&(other, _)| other == shard)
    }
}

/// A post as its author names it, to look it up without a copy of its key.
#[derive(PartialEq, Eq, Hash)]
struct Named<'a>(UserId, &'a PostKey);

impl Equivalent<(UserId, PostKey)> for Named<'_> {
    fn equivalent(&self, key: &(UserId, PostKey)) -> bool {
        self.0 == key.0 && *self.1 == key.1
    }
}

/// All that a shard orders.
#[derive(Default)]
pub(in crate::shard) struct Conversations {
    convs: HashMap<ConvId, Conversation>,
    /// Every conversation once, the longest unused first (roughly: it is put back when it turns out
    /// to have been used).
    resting: VecDeque<(u64, ConvId)>,
    /// Posts without an answer.
    pub posts: Slab<HomePost>,
    /// Of these, those that wait for a place in the store, in turn by their senders.
    pub turns: Turns<UserId, u32>,
    /// The same by their key.
    by_key: HashMap<(UserId, PostKey), u32>,
    /// Answers given lately.
    pub recent: RecentAnswers,
    /// Conversations with marks, by lane.
    pub marked: Marks,
    /// The place in the order of rest that is checked next.
    next_check: usize,
}

impl Conversations {
    /// The conversation, if the home keeps it.
    pub(in crate::shard) fn get(&self, conv: ConvId) -> Option<&Conversation> {
        self.convs.get(&conv)
    }

    /// As [`Conversations::get`], to change it.
    pub(in crate::shard) fn get_mut(&mut self, conv: ConvId) -> Option<&mut Conversation> {
        self.convs.get_mut(&conv)
    }

    /// The conversation, made if there is room. Idle ones give way.
    pub(super) fn get_or_make(&mut self, conv: ConvId, now_ms: u64) -> Option<&mut Conversation> {
        if !self.convs.contains_key(&conv) {
            if self.convs.len() >= limits::CONVS_ACTIVE_MAX && !self.evict_one(now_ms) {
                return None;
            }
            self.convs.insert(conv, Conversation::new(now_ms));
            self.resting.push_back((now_ms, conv));
        }
        self.convs.get_mut(&conv)
    }

    /// Forgets one idle conversation among the longest unused.
    fn evict_one(&mut self, now_ms: u64) -> bool {
        for _ in 0..EVICTION_TRIES {
            let Some((touched, conv)) = self.resting.pop_front() else { return false };
            if self.convs.get(&conv).is_some_and(|state| state.may_go(now_ms)) {
                self.convs.remove(&conv);
                return true;
            }
            self.resting.push_back((touched, conv));
        }
        false
    }

    /// Forgets every conversation that nothing is under way in.
    pub(in crate::shard) fn forget_idle(&mut self, now_ms: u64) {
        self.convs.retain(|_, conv| !conv.may_go(now_ms));
        self.resting.retain(|(_, conv)| self.convs.contains_key(conv));
        self.convs.shrink_to_fit();
        self.resting.shrink_to_fit();
    }

    /// Forgets conversations that were not used for [`limits::CONV_IDLE_MS`].
    pub(in crate::shard) fn rest(&mut self, now_ms: u64) {
        for _ in 0..EVICTION_TRIES {
            let Some(&(touched, conv)) = self.resting.front() else { return };
            if touched + limits::CONV_IDLE_MS > now_ms {
                return;
            }
            self.resting.pop_front();
            let Some(state) = self.convs.get(&conv) else { continue };
            if !state.is_idle() {
                self.resting.push_back((now_ms, conv));
            } else if state.touched_ms + limits::CONV_IDLE_MS > now_ms {
                let touched_ms = state.touched_ms.max(touched);
                self.resting.push_back((touched_ms, conv));
            } else {
                self.convs.remove(&conv);
            }
        }
    }

    /// When [`Conversations::rest`] may have something to do.
    pub(super) fn rest_at(&self) -> Option<u64> {
        self.resting.front().map(|&(touched, _)| touched + limits::CONV_IDLE_MS)
    }

    /// How many conversations are kept.
    pub(in crate::shard) fn len(&self) -> usize {
        self.convs.len()
    }

    /// The post of that key that is under way.
    pub(in crate::shard) fn under_way(&self, sender: UserId, key: &PostKey) -> Option<u32> {
        self.by_key.get(&Named(sender, key)).copied()
    }

    /// Takes a post in.
    pub(super) fn add_post(&mut self, post: HomePost) -> Option<u32> {
        let key = (post.post.sender, post.post.key.clone());
        let number = u32::try_from(self.posts.insert(post)).ok()?;
        self.by_key.insert(key, number);
        Some(number)
    }

    /// Lets a post go: it is answered now.
    pub(super) fn remove_post(&mut self, number: u32) -> HomePost {
        let Some(post) = self.posts.try_remove(number as usize) else { broken(UNDER_WAY) };
        if self.by_key.remove(&Named(post.post.sender, &post.post.key)) != Some(number) {
            broken("a post is found by its key");
        }
        post
    }

    /// A post that is under way.
    pub(in crate::shard) fn post(&self, number: u32) -> &HomePost {
        self.posts.get(number as usize).unwrap_or_else(|| broken(UNDER_WAY))
    }

    /// As [`Conversations::post`], to change it.
    pub(super) fn post_mut(&mut self, number: u32) -> &mut HomePost {
        self.posts.get_mut(number as usize).unwrap_or_else(|| broken(UNDER_WAY))
    }

    /// A conversation in which something is under way.
    pub(in crate::shard) fn busy(&mut self, conv: ConvId) -> &mut Conversation {
        self.convs.get_mut(&conv).unwrap_or_else(|| broken("a conversation in which something is under way is kept"))
    }

    /// The state agrees with itself. For `check_invariants`.
    pub(in crate::shard) fn check(&self) {
        assert_eq!(self.by_key.len(), self.posts.len(), "every post is found by its key");
        assert!(self.turns.len() <= self.posts.len(), "what waits for the store is a post");
        assert_eq!(self.resting.len(), self.convs.len(), "every conversation rests once");
        let marks: usize = self.convs.values().map(|state| state.marks.len()).sum();
        assert_eq!(marks, self.marked.len(), "what is listed is a mark");
        for (&conv, state) in &self.convs {
            self.check_one(conv, state);
        }
    }

    fn check_one(&self, conv: ConvId, state: &Conversation) {
        assert!(state.marks.iter().all(|&(shard, _)| self.marked.check(shard, conv)), "marks are listed");
        assert!(state.unknown <= state.in_store, "unknown outcomes are still in the store's hands");
        if let (Some(delivered), Some((&first, ready))) = (state.delivered(), state.ready.first_key_value()) {
            assert!(first > delivered.next(), "what can be handed on is handed on");
            let post = self.posts.get(ready.post as usize);
            assert!(post.is_some_and(|post| post.post.conv == conv), "what waits to be handed on answers a post");
        }
        assert!(state.delivered() <= Some(state.revealed), "what was handed on is known to exist");
    }

    /// Checks the next conversation, round and round: in every build, once a turn.
    pub(in crate::shard) fn check_next(&mut self) {
        if self.next_check >= self.resting.len() {
            self.next_check = 0;
        }
        let next = self.resting.get(self.next_check).map(|&(_, conv)| conv);
        self.next_check += 1;
        if let Some(conv) = next
            && let Some(state) = self.convs.get(&conv)
        {
            self.check_one(conv, state);
        }
    }
}

/// What is said of a post that is not there.
const UNDER_WAY: &str = "a post without an answer is under way";

/// Entries looked at when room is needed, or in one turn: keeps a turn bounded when many are busy.
const EVICTION_TRIES: usize = 64;
