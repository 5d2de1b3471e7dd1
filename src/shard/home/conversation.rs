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
    /// The post that it answers; `None`: another gateway's.
    pub post: Option<u32>,
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
    /// One did, here: a row that is read may be ours.
    pub gave_up: bool,
    /// Wall time in Unix milliseconds at which the first of the posts under way reached a fresh
    /// conversation: what is stored with an earlier time is no concern of this home's.
    pub began_ms: u64,
    /// A fresh conversation in which more than the posts that are ready may have been stored since
    /// `began_ms`: the store is to be read before anything is handed on.
    pub doubt: bool,
    /// The lowest number that the digest has told a fresh conversation: all from there on is to be
    /// handed on.
    pub told_from: Option<Seq>,
    /// Of a fresh conversation whose newest pages are read: up to where they were asked for. What
    /// was revealed since lies beyond them.
    pub base_upto: Seq,
    /// Of a fresh conversation whose newest pages are read one by one: what the pages so far say
    /// of where its order begins.
    pub base_so_far: Option<Seq>,
    /// While something on its way from another gateway is waited for: what was handed on when that
    /// began, and until when.
    pub patience: Option<(Seq, u64)>,
    /// The digest has told of more than was known, and nothing has come since.
    pub lost: bool,
    /// Shards that lack messages from a number on, because their lane was full.
    pub marks: SmallVec<[(ShardId, Seq); 1]>,
    /// Monotonic milliseconds of the last use.
    pub touched_ms: u64,
    /// The latest time of a message that was handed on: ahead of this gateway's clock if another
    /// gateway's is, or if this one was set back.
    pub newest_ms: u64,
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
            gave_up: false,
            began_ms: 0,
            doubt: false,
            told_from: None,
            base_upto: Seq::ZERO,
            base_so_far: None,
            patience: None,
            lost: false,
            marks: SmallVec::new(),
            touched_ms: now_ms,
            newest_ms: 0,
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
            // What is known to exist is still to be handed on, however long it is waited for.
            && self.delivered().is_none_or(|delivered| self.revealed <= delivered)
    }

    /// Whether it may be forgotten now: not before the time of its last message has passed, which a
    /// fresh home would take for one that was stored after it began. A clock that is wrong by more
    /// than [`limits::AHEAD_MS_MAX`] keeps nothing.
    const fn is_past(&self, now: Now) -> bool {
        let ahead_ms = self.newest_ms.saturating_sub(now.wall_ms);
        let is_ahead = self.newest_ms >= now.wall_ms && ahead_ms <= limits::AHEAD_MS_MAX;
        self.touched_ms < now.mono_ms && !is_ahead
    }

    /// A post has reached the home, or word of another gateway, which may have stored something
    /// that is to be handed on here `window_ms` ago.
    pub(in crate::shard) fn begin(&mut self, now: Now, window_ms: u64) {
        let is_first = self.delivered().is_none() && self.is_idle();
        let begins_ms = now.wall_ms.saturating_sub(window_ms);
        self.began_ms = if is_first { begins_ms } else { self.began_ms.min(begins_ms) };
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
    /// Bytes of other gateways' messages that wait for those before them.
    pub far_bytes: usize,
    /// Conversations in which something on its way is waited for, by when that ends.
    pub patient: VecDeque<(u64, ConvId)>,
    /// When everything that other gateways have stored was told last.
    covered_ms: u64,
    /// How far those were handed on that were forgotten lately, if there are other gateways.
    memo: Option<Memo>,
    /// The place in the order of rest that is checked next.
    next_check: usize,
}

impl Conversations {
    /// Remembers how far what it forgets was handed on: other gateways may send it again.
    pub(super) fn with_memo(mut self) -> Self {
        self.memo = Some(Memo::default());
        self
    }

    /// How far a conversation was handed on, also if it was forgotten since.
    pub(super) fn delivered(&self, conv: ConvId) -> Option<Seq> {
        match self.convs.get(&conv) {
            Some(state) => state.delivered(),
            None => self.memo.as_ref()?.get(conv),
        }
    }

    /// The conversation is forgotten, but for how far it was handed on.
    fn forget(&mut self, conv: ConvId) {
        let Some(state) = self.convs.remove(&conv) else { return };
        if let (Some(memo), Some(delivered)) = (&mut self.memo, state.delivered()) {
            memo.add(conv, delivered);
        }
    }

    /// Everything that other gateways have stored was told up to now.
    pub(super) fn covered(&mut self, now_ms: u64) {
        let passed_ms = now_ms.saturating_sub(self.covered_ms);
        if let Some(memo) = &mut self.memo {
            memo.covered(passed_ms);
        }
        self.covered_ms = now_ms;
    }

    /// How long ago another gateway may have stored what a home that knows nothing of a
    /// conversation is to hand on: the longer, the longer nothing was told.
    pub(super) fn far_window_ms(&self, now_ms: u64) -> u64 {
        limits::FAR_WINDOW_MS + now_ms.saturating_sub(self.covered_ms)
    }

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
            let mut state = Conversation::new(now_ms);
            if let Some(delivered) = self.memo.as_mut().and_then(|memo| memo.take(conv)) {
                (state.base, state.revealed) = (Base::Delivered(delivered), delivered);
            }
            self.convs.insert(conv, state);
            self.resting.push_back((now_ms, conv));
        }
        self.convs.get_mut(&conv)
    }

    /// Forgets one idle conversation among the longest unused. Also one with a message of a time to
    /// come: where clocks are wrong, a message that comes twice is better than a post refused.
    fn evict_one(&mut self, now_ms: u64) -> bool {
        for _ in 0..EVICTION_TRIES {
            let Some((touched, conv)) = self.resting.pop_front() else { return false };
            if self.convs.get(&conv).is_some_and(|state| state.is_idle() && state.touched_ms < now_ms) {
                self.forget(conv);
                return true;
            }
            self.resting.push_back((touched, conv));
        }
        false
    }

    /// Forgets every conversation that nothing is under way in.
    pub(in crate::shard) fn forget_idle(&mut self, now: Now) {
        let idle = self.convs.iter().filter(|(_, state)| state.is_idle() && state.is_past(now)).map(|(&conv, _)| conv);
        for conv in idle.collect::<Vec<_>>() {
            self.forget(conv);
        }
        self.resting.retain(|(_, conv)| self.convs.contains_key(conv));
        self.convs.shrink_to_fit();
        self.resting.shrink_to_fit();
    }

    /// Forgets conversations that were not used for [`limits::CONV_IDLE_MS`].
    pub(in crate::shard) fn rest(&mut self, now: Now) {
        let now_ms = now.mono_ms;
        if let Some(memo) = &mut self.memo {
            memo.rest();
        }
        for _ in 0..EVICTION_TRIES {
            let Some(&(touched, conv)) = self.resting.front() else { return };
            if touched + limits::CONV_IDLE_MS > now_ms {
                return;
            }
            self.resting.pop_front();
            let Some(state) = self.convs.get(&conv) else { continue };
            if !state.is_idle() || !state.is_past(now) {
                self.resting.push_back((now_ms, conv));
            } else if state.touched_ms + limits::CONV_IDLE_MS > now_ms {
                let touched_ms = state.touched_ms.max(touched);
                self.resting.push_back((touched_ms, conv));
            } else {
                self.forget(conv);
            }
        }
        self.give_back();
    }

    /// Gives back the memory of many that have gone: what a flood of conversations took does not
    /// stay. Rarely more than a look, because what is left has room to become twice as many.
    fn give_back(&mut self) {
        let (left, room) = (self.convs.len(), self.convs.capacity());
        if room > CONVS_ROOM_KEPT && left * 8 < room {
            self.convs.shrink_to((left * 2).max(CONVS_ROOM_KEPT));
            self.resting.shrink_to(left * 2);
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
        let waiting = self.convs.values().flat_map(|state| state.ready.values()).filter(|ready| ready.post.is_none());
        let bytes: usize = waiting.map(|ready| ready.packet.frame().len()).sum();
        assert_eq!(bytes, self.far_bytes, "what waits of other gateways is counted");
        for (&conv, state) in &self.convs {
            self.check_one(conv, state);
        }
    }

    fn check_one(&self, conv: ConvId, state: &Conversation) {
        assert!(state.marks.iter().all(|&(shard, _)| self.marked.check(shard, conv)), "marks are listed");
        assert!(state.unknown <= state.in_store, "unknown outcomes are still in the store's hands");
        if let (Some(delivered), Some((&first, ready))) = (state.delivered(), state.ready.first_key_value()) {
            assert!(first > delivered.next(), "what can be handed on is handed on");
            let is_right = |post: u32| self.posts.get(post as usize).is_some_and(|post| post.post.conv == conv);
            assert!(
                ready.post.is_none_or(is_right),
                "what waits to be handed on answers a post, or is another gateway's"
            );
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

/// How far conversations were handed on that were forgotten lately.
#[derive(Default)]
struct Memo {
    delivered: HashMap<ConvId, (Seq, u64)>,
    /// Each entry once or more, in the order in which they end.
    ends: VecDeque<(u64, ConvId)>,
    /// Milliseconds in which this gateway has known what others store: while it does not, nothing
    /// is forgotten, because it will be told again of what came before.
    known_ms: u64,
}

impl Memo {
    fn covered(&mut self, passed_ms: u64) {
        self.known_ms += passed_ms.min(limits::DIGEST_ALONE_MS_MAX);
    }

    fn add(&mut self, conv: ConvId, delivered: Seq) {
        if self.ends.len() >= limits::FAR_MEMO_MAX {
            self.forget_oldest();
        }
        let ends_ms = self.known_ms + limits::FAR_MEMO_MS;
        self.delivered.insert(conv, (delivered, ends_ms));
        self.ends.push_back((ends_ms, conv));
    }

    fn get(&self, conv: ConvId) -> Option<Seq> {
        self.delivered.get(&conv).map(|&(delivered, _)| delivered)
    }

    fn take(&mut self, conv: ConvId) -> Option<Seq> {
        self.delivered.remove(&conv).map(|(delivered, _)| delivered)
    }

    /// Forgets what is old.
    fn rest(&mut self) {
        for _ in 0..EVICTION_TRIES {
            if self.ends.front().is_none_or(|(ends_ms, _)| *ends_ms > self.known_ms) {
                return;
            }
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((ends_ms, conv)) = self.ends.pop_front() else { return };
        if self.delivered.get(&conv).is_some_and(|&(_, own_ms)| own_ms == ends_ms) {
            self.delivered.remove(&conv);
        }
    }
}

/// What is said of a post that is not there.
const UNDER_WAY: &str = "a post without an answer is under way";

/// Entries looked at when room is needed, or in one turn: keeps a turn bounded when many are busy.
const EVICTION_TRIES: usize = 64;
/// Conversations for which the table keeps room: a megabyte.
const CONVS_ROOM_KEPT: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::UserId;

    #[test]
    fn a_message_of_a_time_to_come_keeps_its_conversation_if_that_time_is_near() {
        let (wall_ms, mut state) = (limits::AHEAD_MS_MAX * 2, Conversation::new(0));
        let mut is_past = |newest_ms| {
            state.newest_ms = newest_ms;
            state.is_past(Now { mono_ms: 1, wall_ms, sub_us: 0 })
        };
        assert!(is_past(0) && is_past(wall_ms - 1) && is_past(wall_ms + limits::AHEAD_MS_MAX + 1) && is_past(u64::MAX));
        assert!(!is_past(wall_ms) && !is_past(wall_ms + limits::AHEAD_MS_MAX));
    }

    #[test]
    fn the_memory_of_a_flood_of_conversations_comes_back() {
        let mut conversations = Conversations::default();
        let user = |n| UserId::new(n).expect("an id");
        for n in 2..50_000 {
            assert!(conversations.get_or_make(ConvId::direct(user(1), user(n)), 0).is_some());
        }
        let room = conversations.convs.capacity();
        // One that goes on being used stays, and everything of it.
        let kept = ConvId::direct(user(1), user(2));
        for now_ms in (0..2 * limits::CONV_IDLE_MS).step_by(20) {
            assert!(conversations.get_or_make(kept, now_ms).is_some());
            conversations.rest(Now { mono_ms: now_ms, wall_ms: 1, sub_us: 0 });
        }
        assert_eq!((conversations.len(), conversations.get(kept).is_some()), (1, true));
        let left = conversations.convs.capacity();
        assert!(left <= 2 * CONVS_ROOM_KEPT && left * 4 < room, "room for {left} of {room}");
    }
}
