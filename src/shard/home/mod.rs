//! What a home does: takes posts, asks the store, hands on in order, answers the askers.
//!
//! Owns: the flow of a post from [`PeerMsg::Post`] to [`PeerMsg::Posted`].
//! Never: answers an ask twice or not at all; acks before the store has.

mod conversation;
mod far;
mod gaps;
mod listeners;
mod marks;
mod memberships;
mod ordering;
mod recent;
mod revisions;

use crate::shard::broken::broken;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::clock::Now;
use crate::ids::{ConvId, GroupId, MsgId, Seq, ShardId};
use crate::limits;
use crate::shard::asks::Purpose;
use crate::shard::effect::Effect;
use crate::shard::far::{FarOut, FarRow, FarSaid};
use crate::shard::home::conversation::{Conversations, HomePost, Late, Undelivered};
use crate::shard::home::listeners::Listeners;
use crate::shard::home::memberships::Notices;
use crate::shard::home::recent::Given;
use crate::shard::io::Io;
use crate::shard::peer::{Outcome, PeerMsg, PeerPost, Posted, Way};
use crate::shard::{PlantedBug, Setup};
use crate::store::{self, Appended, NewMessage, PostKey, Recall, Refusal, Row, Write};
use crate::wire::packet::{Milestones, Stored};
use crate::wire::{Packet, Reject, line, recall};

/// The conversations that this shard orders.
pub(in crate::shard) struct Home {
    conversations: Conversations,
    listeners: Listeners,
    notices: Notices,
}

impl Home {
    /// Nothing is under way.
    pub(in crate::shard) fn new(setup: &Setup) -> Self {
        let conversations = match setup.clustered && setup.planted_bug != Some(PlantedBug::ForgottenMemo) {
            true => Conversations::default().with_memo(),
            false => Conversations::default(),
        };
        Self { conversations, listeners: Listeners::new(setup.shards), notices: Notices::default() }
    }

    /// How many conversations are kept.
    pub(in crate::shard) fn len(&self) -> usize {
        self.conversations.len()
    }

    /// How many groups other shards listen to.
    pub(in crate::shard) fn listened(&self) -> usize {
        self.listeners.len()
    }

    /// Posts and changes of membership without an answer.
    pub(in crate::shard) fn outstanding(&self) -> usize {
        self.notices.len() + self.conversations.posts.len()
    }

    /// How far a conversation was handed on, as far as this home knows.
    pub(in crate::shard) fn delivered(&self, conv: ConvId) -> Option<Seq> {
        self.conversations.get(conv)?.delivered()
    }

    /// Forgets every conversation that nothing is under way in.
    pub(in crate::shard) fn forget_idle(&mut self, now: Now) {
        self.conversations.forget_idle(now);
    }

    /// Forgets conversations that were not used for long.
    pub(in crate::shard) fn rest(&mut self, now: Now) {
        self.conversations.rest(now);
    }

    /// When something is due.
    pub(in crate::shard) fn next_ms(&self, now_ms: u64) -> Option<u64> {
        let marks = (!self.conversations.marked.is_empty()).then_some(now_ms + MARK_RETRY_MS);
        let patience = self.conversations.patient.front().map(|&(until_ms, _)| until_ms);
        [self.conversations.rest_at(), marks, patience].into_iter().flatten().min()
    }

    /// Checks the next conversation: in every build, once a turn.
    pub(in crate::shard) fn check_next(&mut self) {
        self.conversations.check_next();
    }

    /// For `check_invariants`.
    pub(in crate::shard) fn check(&self) {
        self.conversations.check();
    }
}

/// How long marks wait for room before they are tried again, when nothing else wakes the shard.
const MARK_RETRY_MS: u64 = 5;

impl Home {
    /// A post has reached its home.
    pub(in crate::shard) fn home_post(&mut self, io: &mut Io, from: ShardId, mut post: Box<PeerPost>) {
        if io.has_bug(PlantedBug::SkippedDedupe) {
            post.key = io.server_key();
        }
        let is_kept = !io.is_volatile(post.conv) && post.way != Way::Fleeting;
        // What was kept nowhere is no answer to what is to be stored.
        let given = self.conversations.recent.find(post.sender, &post.key);
        if let Some(given) = given.filter(|given| given.stored.is_some() || !is_kept) {
            return self.answer_again(io, from, post.ask, post.conv, given);
        }
        if let Some(number) = self.conversations.under_way(post.sender, &post.key) {
            return self.wait_for(io, number, from, &post);
        }
        if !is_kept {
            return self.accept_volatile(io, from, *post);
        }
        let (conv, ask) = (post.conv, post.ask);
        let window_ms = if io.setup.clustered { self.conversations.far_window_ms(io.now_ms()) } else { 0 };
        let Some(state) = self.conversations.get_or_make(conv, io.now_ms()) else {
            return self.refuse_post(io, from, ask, Reject::Busy);
        };
        state.begin(io.now, window_ms);
        let waiters = SmallVec::new();
        let Some(number) =
            self.conversations.add_post(HomePost { from, post, ts_ms: io.now.wall_ms, waiters, unknown: 0 })
        else {
            return self.refuse_post(io, from, ask, Reject::Busy);
        };
        if io.has_bug(PlantedBug::AckBeforeCommit) {
            self.planted_early_ack(io, number);
        }
        self.append(io, number);
    }

    fn answer_again(&mut self, io: &mut Io, from: ShardId, ask: u32, conv: ConvId, given: Given) {
        if given.conv != conv {
            return self.refuse_post(io, from, ask, Reject::CidReused);
        }
        io.tally.duplicates += 1;
        let outcome = Outcome::Done { stored: given.stored, ts_ms: given.ts_ms, dup: true, packet: None, missed: None };
        io.send(from, PeerMsg::Posted(Box::new(Posted { ask, outcome })));
    }

    fn wait_for(&mut self, io: &mut Io, number: u32, from: ShardId, post: &PeerPost) {
        let refusal = match self.conversations.posts.get_mut(number as usize) {
            Some(first) if first.post.conv != post.conv => Reject::CidReused,
            Some(first) if first.waiters.len() < limits::WAITERS_MAX => {
                first.waiters.push((from, post.ask));
                return;
            }
            // What becomes of the first one is open.
            _ => Reject::Retry,
        };
        self.refuse_post(io, from, post.ask, refusal);
    }

    fn accept_volatile(&mut self, io: &mut Io, from: ShardId, post: PeerPost) {
        let PeerPost { ask, conv, sender, key, body, said_us, .. } = post;
        let (in_room, ts_ms) = (conv == ConvId::Group(GroupId::ROOM), io.now.wall_ms);
        let counter = if in_room { &mut io.tally.room_messages } else { &mut io.tally.stored };
        *counter += 1;
        // Guests' words have no key of their own, so none of them is ever a resend.
        if !in_room {
            let given = Given { conv, stored: None, ts_ms };
            self.conversations.recent.remember(sender, key, given, limits::RECENT_POSTS_MAX);
        }
        let said = FarSaid { conv, to_all: false, sender, ts_ms, body };
        let packet = self.hand_on_unstored(io, &said, said_us, Some(from));
        io.say_far(said);
        let outcome = Outcome::Done { stored: None, ts_ms, dup: false, packet: Some(packet), missed: None };
        io.send(from, PeerMsg::Posted(Box::new(Posted { ask, outcome })));
    }

    /// Sends what is kept nowhere to every shard concerned but `except`, which hears of it
    /// otherwise. `said_us`: when it was read here; 0: another gateway has.
    pub(super) fn hand_on_unstored(
        &mut self,
        io: &mut Io,
        said: &FarSaid,
        said_us: u64,
        except: Option<ShardId>,
    ) -> Arc<Packet> {
        let FarSaid { conv, sender, ts_ms, body, .. } = said;
        let packet = match *conv == ConvId::Group(GroupId::ROOM) {
            true => Packet::room(body),
            false => Packet::chat(*conv, *sender, None, *ts_ms, body),
        };
        let packet = Arc::new(packet.passed(Milestones::new(said_us, io.now.mono_us())));
        for shard in self.concerned(io, *conv) {
            if Some(shard) != except && !self.deliver(io, shard, *conv, None, &packet, false) {
                io.lane_dropped(*conv);
            }
        }
        packet
    }

    /// Asks the store to store a post, now or when its sender's turn has come.
    pub(in crate::shard) fn append(&mut self, io: &mut Io, number: u32) {
        let home_post = self.conversations.post(number);
        let (sender, conv) = (home_post.post.sender, home_post.post.conv);
        self.conversations.busy(conv).in_store += 1;
        if self.conversations.turns.is_empty() && io.asks.has_place_for_post(false) {
            return self.append_now(io, number);
        }
        self.conversations.turns.push(sender, number);
        self.append_in_turn(io);
    }

    /// Asks the store for those in line, as far as there are places.
    pub(in crate::shard) fn append_in_turn(&mut self, io: &mut Io) {
        while io.asks.has_place_for_post(false)
            && let Some((_, number)) = self.conversations.turns.pop()
        {
            self.append_now(io, number);
        }
        while io.asks.has_place_for_post(true)
            && let Some((_, number)) = self.conversations.turns.pop_fresh()
        {
            self.append_now(io, number);
        }
    }

    /// Asks the store to store a post. Refuses it when this shard has asked for too much already.
    fn append_now(&mut self, io: &mut Io, number: u32) {
        let home_post = self.conversations.post(number);
        let post = &home_post.post;
        let message = NewMessage {
            conv: post.conv,
            sender: post.sender,
            key: post.key.clone(),
            ts_ms: home_post.ts_ms,
            body: Arc::clone(&post.body),
        };
        let (recall, way, was_unknown) = (post.recall, post.way, home_post.unknown > 0);
        let bytes = size_of::<NewMessage>() + message.body.len();
        let conv = message.conv;
        let Some(ask) = io.asks.take(Purpose::Append { post: number, bytes }) else {
            self.conversations.busy(conv).leave_store(false);
            return if was_unknown {
                self.give_up(io, number, conv);
            } else {
                self.finish_refused(io, number, Reject::Busy);
            };
        };
        self.conversations.busy(conv).unknown += u32::from(was_unknown);
        let write = match recall {
            None if way == Way::Server || line::is_line(&message.body) => Write::Line(message),
            None => Write::Append(message),
            Some(seq) => {
                let (blank, within_ms) = (recall::BLANK.into(), limits::RECALL_MS_MAX);
                Write::Recall(Box::new(Recall { message, seq, blank, spared: line::LINE, within_ms }))
            }
        };
        io.push(Effect::Write { ask, write });
    }

    /// The store has answered for a post.
    pub(in crate::shard) fn append_settled(&mut self, io: &mut Io, number: u32, reply: Result<Appended, store::Error>) {
        let home_post = self.conversations.post_mut(number);
        let conv = home_post.post.conv;
        let (was_unknown, posted_ms) = (home_post.unknown > 0, home_post.ts_ms);
        let is_unnamed = matches!(home_post.post.key, PostKey::Server { .. });
        let state = self.conversations.busy(conv);
        state.leave_store(was_unknown);
        state.touched_ms = io.now_ms();
        match reply {
            Ok(Appended::Stored { seq, id, ts_ms, before_ms }) => {
                self.stored(io, number, Stored { id, seq }, ts_ms, Some(before_ms));
            }
            Ok(Appended::Duplicate { conv: other, .. }) if other != conv => {
                self.finish_refused(io, number, Reject::CidReused);
            }
            // Ours, from the time when the answer was lost. One of another time may have another
            // text: the row of an earlier post that was given up, whose cid the sender has used
            // again. That one is read from the store.
            Ok(Appended::Duplicate { seq, id, ts_ms, .. })
                if was_unknown && ts_ms == posted_ms && !self.is_delivered(conv, seq) =>
            {
                self.stored(io, number, Stored { id, seq }, ts_ms, None);
            }
            Ok(Appended::Duplicate { seq, id, ts_ms, .. }) => self.duplicate(number, Stored { id, seq }, ts_ms),
            // Perhaps by the first try, whose commit has no end yet.
            Ok(Appended::Refused(Refusal::Held)) if was_unknown => self.give_up(io, number, conv),
            // A key of ours is no other post's, so there was no earlier try.
            Ok(Appended::Refused(Refusal::Held)) if is_unnamed => self.finish_refused(io, number, Reject::Busy),
            Ok(Appended::Refused(refusal)) => self.finish_refused(io, number, refusal.into()),
            Err(store::Error::Unknown(_)) => self.unknown_outcome(io, number, conv),
            Err(_) if was_unknown => self.give_up(io, number, conv),
            Err(_) => self.finish_refused(io, number, Reject::Busy),
        }
        self.append_in_turn(io);
        self.advance(io, conv);
    }

    fn is_delivered(&mut self, conv: ConvId, seq: Seq) -> bool {
        self.conversations.get_mut(conv).and_then(|state| state.delivered()).is_some_and(|delivered| seq <= delivered)
    }

    /// `before_ms`: the time of the message before it, if the store has said it.
    pub(in crate::shard) fn stored(
        &mut self,
        io: &mut Io,
        number: u32,
        stored: Stored,
        ts_ms: u64,
        before_ms: Option<u64>,
    ) {
        let home_post = self.conversations.post(number);
        let post = &home_post.post;
        let milestones = Milestones::new(post.said_us, io.now.mono_us());
        let packet = Packet::chat(post.conv, post.sender, Some(stored), ts_ms, &post.body);
        let packet = Arc::new(packet.passed(milestones));
        let conv = post.conv;
        if io.setup.clustered {
            let row = Row { seq: stored.seq, id: stored.id, ts_ms, sender: post.sender, body: Arc::clone(&post.body) };
            io.push(Effect::Far(FarOut::Row(Box::new(FarRow { conv, row, before_ms }))));
        }
        if self.is_delivered(conv, stored.seq) {
            broken("a fresh row is not handed on before its answer has come");
        }
        io.tally.stored += 1;
        let state = self.conversations.busy(conv);
        state.judge_first(before_ms);
        state.revealed = state.revealed.max(stored.seq);
        state.ready.insert(stored.seq, Undelivered { packet, stored, ts_ms, post: Some(number) });
    }

    fn duplicate(&mut self, number: u32, stored: Stored, ts_ms: u64) {
        let home_post = self.conversations.post(number);
        let conv = home_post.post.conv;
        let state = self.conversations.busy(conv);
        state.revealed = state.revealed.max(stored.seq);
        state.late.push(Late { stored, ts_ms, post: number });
    }

    /// It is not known whether it was stored: asking again under the same key tells.
    fn unknown_outcome(&mut self, io: &mut Io, number: u32, conv: ConvId) {
        io.tally.unknown_outcomes += 1;
        let home_post = self.conversations.post_mut(number);
        home_post.unknown += 1;
        if home_post.unknown > limits::UNKNOWN_RETRIES_MAX {
            return self.give_up(io, number, conv);
        }
        // It has had its turn, and whoever reads this conversation waits for it.
        self.conversations.busy(conv).in_store += 1;
        self.append_now(io, number);
    }

    /// The outcome stays unknown: the sender is told, and the conversation must look for itself.
    fn give_up(&mut self, io: &mut Io, number: u32, conv: ConvId) {
        let state = self.conversations.busy(conv);
        (state.suspect, state.gave_up) = (true, true);
        state.doubt |= state.delivered().is_none();
        self.finish_refused(io, number, Reject::Retry);
    }

    /// Refuses a post that the home has taken in, and all that wait for it.
    fn finish_refused(&mut self, io: &mut Io, number: u32, reject: Reject) {
        let home_post = self.conversations.remove_post(number);
        self.refuse_post(io, home_post.from, home_post.post.ask, reject);
        for (shard, ask) in home_post.waiters {
            self.refuse_post(io, shard, ask, reject);
        }
    }

    fn refuse_post(&mut self, io: &mut Io, to: ShardId, ask: u32, reject: Reject) {
        io.send(to, PeerMsg::Posted(Box::new(Posted { ask, outcome: Outcome::Refused(reject) })));
    }

    /// [`PlantedBug::AckBeforeCommit`].
    fn planted_early_ack(&mut self, io: &mut Io, number: u32) {
        let home_post = self.conversations.post(number);
        let (from, ask, conv, ts_ms) = (home_post.from, home_post.post.ask, home_post.post.conv, home_post.ts_ms);
        let Some(state) = self.conversations.get_mut(conv) else { return };
        let seq = state.delivered().unwrap_or_default().next();
        let stored = MsgId::new(1).map(|id| Stored { id, seq });
        let outcome = Outcome::Done { stored, ts_ms, dup: false, packet: None, missed: None };
        io.send(from, PeerMsg::Posted(Box::new(Posted { ask, outcome })));
        if let Some(home_post) = self.conversations.posts.get_mut(number as usize) {
            home_post.post.ask = u32::MAX;
        }
    }
}
