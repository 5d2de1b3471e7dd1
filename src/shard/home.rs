//! What a home does: takes posts, asks the store, hands on in order, answers the askers.
//!
//! Owns: the flow of a post from [`PeerMsg::Post`] to [`PeerMsg::Posted`] (design, section 4).
//! Never: answers an ask twice or not at all; acks before the store has.

use std::sync::Arc;

use smallvec::SmallVec;

use super::asks::Purpose;
use super::conversation::{Base, Home, HomePost, Late, Ready};
use super::deadlines::Retry;
use super::effect::{Effect, Effects};
use super::lanes::MARK_BYTES;
use super::peer::{Delivery, Outcome, PeerMsg, PeerPost, Posted};
use super::recent::Given;
use super::{PlantedBug, Shard};
use crate::clock::Now;
use crate::ids::{ConvId, GroupId, MsgId, Seq, ShardId, shard_of};
use crate::limits;
use crate::store::{self, Appended, NewMessage, Page, PageStart, PostKey, Reached, Read, Recall, Refusal, Write};
use crate::wire::packet::Stored;
use crate::wire::{Packet, Reject, line, recall};

impl Shard {
    /// A post has reached its home.
    pub(super) fn home_post(&mut self, now: Now, from: ShardId, mut post: Box<PeerPost>, fx: &mut Effects) {
        if self.setup.planted_bug == Some(PlantedBug::SkippedDedupe) {
            self.server_keys += 1;
            post.key = PostKey::Server { node: u16::MAX, boot: self.setup.boot, counter: self.server_keys };
        }
        if let Some(given) = self.home.recent.find(post.sender, &post.key) {
            return self.answer_again(from, post.ask, post.conv, given, fx);
        }
        if let Some(number) = self.home.under_way(post.sender, &post.key) {
            return self.wait_for(number, from, &post, fx);
        }
        if self.is_volatile(post.conv) {
            return self.accept_volatile(now, from, *post, fx);
        }
        let (conv, ask) = (post.conv, post.ask);
        let Some(state) = self.home.get_or_make(conv, now.mono_ms) else {
            return self.refuse_post(from, ask, Reject::Busy, fx);
        };
        state.begin(now);
        let waiters = SmallVec::new();
        let Some(number) = self.home.add_post(HomePost { from, post, ts_ms: now.wall_ms, waiters, unknown: 0 }) else {
            return self.refuse_post(from, ask, Reject::Busy, fx);
        };
        if self.setup.planted_bug == Some(PlantedBug::AckBeforeCommit) {
            self.planted_early_ack(number, fx);
        }
        self.append(number, fx);
    }

    fn answer_again(&mut self, from: ShardId, ask: u32, conv: ConvId, given: Given, fx: &mut Effects) {
        if given.conv != conv {
            return self.refuse_post(from, ask, Reject::CidReused, fx);
        }
        self.tally.duplicates += 1;
        let outcome = Outcome::Done { stored: given.stored, ts_ms: given.ts_ms, dup: true, packet: None, missed: None };
        self.send(from, PeerMsg::Posted(Box::new(Posted { ask, outcome })), fx);
    }

    fn wait_for(&mut self, number: u32, from: ShardId, post: &PeerPost, fx: &mut Effects) {
        let refusal = match self.home.posts.get_mut(number as usize) {
            Some(first) if first.post.conv != post.conv => Reject::CidReused,
            Some(first) if first.waiters.len() < limits::WAITERS_MAX => {
                first.waiters.push((from, post.ask));
                return;
            }
            _ => Reject::Busy,
        };
        self.refuse_post(from, post.ask, refusal, fx);
    }

    fn accept_volatile(&mut self, now: Now, from: ShardId, post: PeerPost, fx: &mut Effects) {
        let in_room = post.conv == ConvId::Group(GroupId::ROOM);
        let counter = if in_room { &mut self.tally.room_messages } else { &mut self.tally.stored };
        *counter += 1;
        let packet = if in_room {
            // Guests' words have no key of their own, so none of them is ever a resend.
            Packet::room(&post.body)
        } else {
            let given = Given { conv: post.conv, stored: None, ts_ms: now.wall_ms };
            self.home.recent.remember(post.sender, post.key, given, limits::RECENT_POSTS_MAX);
            Packet::chat(post.conv, post.sender, None, now.wall_ms, &post.body)
        };
        let packet = Arc::new(packet);
        for shard in self.concerned(post.conv) {
            if shard != from && !self.deliver(shard, post.conv, None, &packet, fx) {
                self.lane_dropped(post.conv);
            }
        }
        let outcome =
            Outcome::Done { stored: None, ts_ms: now.wall_ms, dup: false, packet: Some(packet), missed: None };
        self.send(from, PeerMsg::Posted(Box::new(Posted { ask: post.ask, outcome })), fx);
    }

    /// Asks the store to store a post, now or when its sender's turn has come.
    fn append(&mut self, number: u32, fx: &mut Effects) {
        let Some(home_post) = self.home.posts.get(number as usize) else { return };
        let (sender, conv) = (home_post.post.sender, home_post.post.conv);
        if let Some(state) = self.home.get_mut(conv) {
            state.in_store += 1;
        }
        if self.home.turns.is_empty() && self.asks.has_place_for_post() {
            return self.append_now(number, fx);
        }
        self.home.turns.push(sender, number);
        self.append_in_turn(fx);
    }

    /// Asks the store for those in line, as far as there are places.
    pub(super) fn append_in_turn(&mut self, fx: &mut Effects) {
        while self.asks.has_place_for_post()
            && let Some((_, number)) = self.home.turns.pop()
        {
            self.append_now(number, fx);
        }
    }

    /// Asks the store to store a post. Refuses it when this shard has asked for too much already.
    fn append_now(&mut self, number: u32, fx: &mut Effects) {
        let Some(home_post) = self.home.posts.get(number as usize) else { return };
        let post = &home_post.post;
        let message = NewMessage {
            conv: post.conv,
            sender: post.sender,
            key: post.key.clone(),
            ts_ms: home_post.ts_ms,
            body: Arc::clone(&post.body),
        };
        let (recall, was_unknown) = (post.recall, home_post.unknown > 0);
        let bytes = size_of::<NewMessage>() + message.body.len();
        let conv = message.conv;
        let Some(ask) = self.asks.take(Purpose::Append { post: number, bytes }) else {
            if let Some(state) = self.home.get_mut(conv) {
                state.in_store = state.in_store.saturating_sub(1);
            }
            return if was_unknown {
                self.give_up(number, conv, fx);
            } else {
                self.finish_refused(number, Reject::Busy, fx);
            };
        };
        if let Some(state) = self.home.get_mut(conv) {
            state.unknown += u32::from(was_unknown);
        }
        let write = match recall {
            None if line::is_line(&message.body) => Write::Line(message),
            None => Write::Append(message),
            Some(seq) => {
                let (blank, within_ms) = (recall::BLANK.into(), limits::RECALL_MS_MAX);
                Write::Recall(Box::new(Recall { message, seq, blank, spared: line::LINE, within_ms }))
            }
        };
        fx.push(Effect::Write { ask, write });
    }

    /// Asks for the head through the writers' queue, so that the answer has its place among the appends. `false`: no slot.
    fn ask_head(&mut self, conv: ConvId, fx: &mut Effects) -> bool {
        let Some(ask) = self.asks.take(Purpose::Head { conv }) else { return false };
        fx.push(Effect::Write { ask, write: Write::Head(conv) });
        true
    }

    /// The store has answered for the head.
    pub(super) fn head_settled(
        &mut self,
        now: Now,
        conv: ConvId,
        reply: Result<Reached, store::Error>,
        fx: &mut Effects,
    ) {
        let Some(state) = self.home.get_mut(conv) else { return };
        let Ok(Reached(head)) = reply else {
            return self.retries.add(now.mono_ms, Retry::Gap(conv));
        };
        state.suspect = false;
        state.reading = false;
        state.revealed = state.revealed.max(head);
        self.advance(now, conv, fx);
    }

    /// The store has answered for a post.
    pub(super) fn append_settled(
        &mut self,
        now: Now,
        number: u32,
        reply: Result<Appended, store::Error>,
        fx: &mut Effects,
    ) {
        let Some(home_post) = self.home.posts.get_mut(number as usize) else { return };
        let conv = home_post.post.conv;
        let (was_unknown, posted_ms) = (home_post.unknown > 0, home_post.ts_ms);
        if let Some(state) = self.home.get_mut(conv) {
            state.in_store = state.in_store.saturating_sub(1);
            state.unknown = state.unknown.saturating_sub(u32::from(was_unknown));
            state.touched_ms = now.mono_ms;
        }
        match reply {
            Ok(Appended::Stored { seq, id, ts_ms, before_ms }) => {
                self.stored(number, Stored { id, seq }, ts_ms, Some(before_ms));
            }
            Ok(Appended::Duplicate { conv: other, .. }) if other != conv => {
                self.finish_refused(number, Reject::CidReused, fx);
            }
            // Ours, from the time when the answer was lost. One of another time may have another text: the row of an earlier post that was given up, whose
            // cid the sender has used again. That one is read from the store.
            Ok(Appended::Duplicate { seq, id, ts_ms, .. })
                if was_unknown && ts_ms == posted_ms && !self.is_delivered(conv, seq) =>
            {
                self.stored(number, Stored { id, seq }, ts_ms, None);
            }
            Ok(Appended::Duplicate { seq, id, ts_ms, .. }) => self.duplicate(number, Stored { id, seq }, ts_ms),
            Ok(Appended::Refused(refusal)) => self.finish_refused(number, refusal.into(), fx),
            Err(store::Error::Unknown(_)) => self.unknown_outcome(number, conv, fx),
            Err(_) if was_unknown => self.give_up(number, conv, fx),
            Err(_) => self.finish_refused(number, Reject::Busy, fx),
        }
        self.append_in_turn(fx);
        self.advance(now, conv, fx);
    }

    fn is_delivered(&mut self, conv: ConvId, seq: Seq) -> bool {
        self.home.get_mut(conv).and_then(|state| state.delivered()).is_some_and(|delivered| seq <= delivered)
    }

    /// `before_ms`: the time of the message before it, if the store has said it.
    fn stored(&mut self, number: u32, stored: Stored, ts_ms: u64, before_ms: Option<u64>) {
        let Some(home_post) = self.home.posts.get(number as usize) else { return };
        let post = &home_post.post;
        let packet = Arc::new(Packet::chat(post.conv, post.sender, Some(stored), ts_ms, &post.body));
        let conv = post.conv;
        if self.is_delivered(conv, stored.seq) {
            debug_assert!(false, "a fresh row was handed on before its answer came");
            return self.duplicate(number, stored, ts_ms);
        }
        self.tally.stored += 1;
        if let Some(state) = self.home.get_mut(conv) {
            state.judge_first(before_ms);
            state.revealed = state.revealed.max(stored.seq);
            state.ready.insert(stored.seq, Ready { packet, stored, ts_ms, post: number });
        }
    }

    fn duplicate(&mut self, number: u32, stored: Stored, ts_ms: u64) {
        let Some(home_post) = self.home.posts.get(number as usize) else { return };
        let conv = home_post.post.conv;
        if let Some(state) = self.home.get_mut(conv) {
            state.revealed = state.revealed.max(stored.seq);
            state.late.push(Late { stored, ts_ms, post: number });
        }
    }

    /// Nobody knows whether it was stored: asking again under the same key tells.
    fn unknown_outcome(&mut self, number: u32, conv: ConvId, fx: &mut Effects) {
        self.tally.unknown_outcomes += 1;
        let Some(home_post) = self.home.posts.get_mut(number as usize) else { return };
        home_post.unknown += 1;
        if home_post.unknown > limits::UNKNOWN_RETRIES_MAX {
            return self.give_up(number, conv, fx);
        }
        // It has had its turn, and whoever reads this conversation waits for it.
        if let Some(state) = self.home.get_mut(conv) {
            state.in_store += 1;
        }
        self.append_now(number, fx);
    }

    /// The outcome stays unknown: the sender is told, and the conversation must look for itself.
    fn give_up(&mut self, number: u32, conv: ConvId, fx: &mut Effects) {
        if let Some(state) = self.home.get_mut(conv) {
            state.suspect = true;
            state.doubt |= state.delivered().is_none();
        }
        self.finish_refused(number, Reject::Retry, fx);
    }

    /// Hands on what has its turn, answers what has been reached, and reads what is missing.
    pub(super) fn advance(&mut self, now: Now, conv: ConvId, fx: &mut Effects) {
        self.find_base(now, conv, fx);
        while let Some(state) = self.home.get_mut(conv) {
            let Some(delivered) = state.delivered() else { break };
            let Some(ready) = state.ready.remove(&delivered.next()) else { break };
            self.hand_on_own(conv, ready, fx);
        }
        self.answer_late(conv, fx);
        self.look_for_gaps(now, conv, fx);
    }

    /// Where a fresh conversation's handing on begins: just below the first message that was stored
    /// through this home. In doubt the store is read: what was stored since the home began, by
    /// another gateway or by a post of ours whose outcome stayed unknown, is still to be handed on.
    fn find_base(&mut self, now: Now, conv: ConvId, fx: &mut Effects) {
        let Some(state) = self.home.get_mut(conv) else { return };
        if state.delivered().is_some() || state.reading || state.unknown > 0 {
            return;
        }
        let first = state.ready.first_key_value().map(|(&seq, _)| seq);
        if !state.doubt {
            if let Some(first) = first {
                state.base = Base::Delivered(first.prev());
            }
            return;
        }
        // After a post that was given up only the head tells how far to look.
        if state.suspect || (first.is_none() && state.in_store > 0) {
            return;
        }
        let before = first.unwrap_or_else(|| state.revealed.next());
        state.reading = true;
        self.read_page(now, conv, PageStart::Before(before), fx);
    }

    /// The store has read the newest messages of a fresh conversation.
    fn base_settled(&mut self, now: Now, conv: ConvId, page: &Page, fx: &mut Effects) {
        let Some(state) = self.home.get_mut(conv) else { return };
        let upto = state.ready.first_key_value().map_or(state.revealed, |(&seq, _)| seq.prev());
        let old = page.rows.iter().rev().find(|row| row.ts_ms < state.began_ms).map(|row| row.seq);
        let base = old.or_else(|| page.rows.first().map(|row| row.seq.prev()));
        state.base = Base::Delivered(base.map_or(upto, |base| base.min(upto)));
        state.doubt = false;
        state.reading = false;
        self.advance(now, conv, fx);
    }

    /// Hands on a message that was posted through this node just now.
    fn hand_on_own(&mut self, conv: ConvId, ready: Ready, fx: &mut Effects) {
        let Some(HomePost { from, post, waiters, .. }) = self.home.remove_post(ready.post) else { return };
        let Ready { packet, stored, ts_ms, .. } = ready;
        self.counting.delivery(conv, packet.frame().len());
        self.hand_on(conv, stored.seq, &packet, Some(from), fx);
        let missed = self.take_mark(from, conv);
        let given = Given { conv, stored: Some(stored), ts_ms };
        self.home.recent.remember(post.sender, post.key, given, limits::RECENT_POSTS_MAX);
        let outcome = Outcome::Done { stored: Some(stored), ts_ms, dup: false, packet: Some(packet), missed };
        self.send(from, PeerMsg::Posted(Box::new(Posted { ask: post.ask, outcome })), fx);
        for (shard, ask) in waiters {
            let outcome = Outcome::Done { stored: Some(stored), ts_ms, dup: true, packet: None, missed: None };
            self.tally.duplicates += 1;
            self.send(shard, PeerMsg::Posted(Box::new(Posted { ask, outcome })), fx);
        }
    }

    /// Sends a message to every shard concerned but `except`, which hears of it otherwise, and moves `delivered`.
    fn hand_on(&mut self, conv: ConvId, seq: Seq, packet: &Arc<Packet>, except: Option<ShardId>, fx: &mut Effects) {
        for shard in self.concerned(conv) {
            if Some(shard) == except {
                continue;
            }
            // A mark covers everything after it, too.
            if self.home.get_mut(conv).is_some_and(|state| state.is_marked(shard)) {
                continue;
            }
            if !self.deliver(shard, conv, Some(seq), packet, fx) {
                self.tally.marked += 1;
                self.home.marked.add(shard, conv);
                if let Some(state) = self.home.get_mut(conv) {
                    state.marks.push((shard, seq));
                }
            }
        }
        if let Some(state) = self.home.get_mut(conv) {
            state.base = Base::Delivered(seq);
            state.revealed = state.revealed.max(seq);
        }
    }

    /// One delivery. `false`: the lane is full.
    fn deliver(&mut self, to: ShardId, conv: ConvId, seq: Option<Seq>, packet: &Arc<Packet>, fx: &mut Effects) -> bool {
        let msg = PeerMsg::Deliver(Delivery { conv, seq, packet: Arc::clone(packet) });
        if to != self.setup.id && !self.lanes.take_room(to, msg.bytes()) {
            return false;
        }
        self.send(to, msg, fx);
        true
    }

    /// The shards that may have sessions of this conversation.
    pub(super) fn concerned(&self, conv: ConvId) -> SmallVec<[ShardId; 8]> {
        match conv {
            ConvId::Direct { lo, hi } => {
                let (a, b) = (shard_of(lo, self.setup.shards), shard_of(hi, self.setup.shards));
                if a == b { SmallVec::from_slice(&[a]) } else { SmallVec::from_slice(&[a, b]) }
            }
            ConvId::Group(group) => {
                let mut shards = self.listeners.of(group);
                if !shards.contains(&self.setup.id) {
                    shards.push(self.setup.id);
                }
                shards
            }
        }
    }

    /// Answers resends whose message has been handed on by now.
    fn answer_late(&mut self, conv: ConvId, fx: &mut Effects) {
        let Some(state) = self.home.get_mut(conv) else { return };
        let Some(reach) = state.reach() else { return };
        let (reached, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.late).into_iter().partition(|late| late.stored.seq <= reach);
        state.late = waiting;
        for late in reached {
            let Some(HomePost { from, post, waiters, .. }) = self.home.remove_post(late.post) else { continue };
            let given = Given { conv, stored: Some(late.stored), ts_ms: late.ts_ms };
            self.home.recent.remember(post.sender, post.key, given, limits::RECENT_POSTS_MAX);
            let askers = std::iter::once((from, post.ask)).chain(waiters);
            for (shard, ask) in askers {
                self.tally.duplicates += 1;
                let outcome = Outcome::Done {
                    stored: Some(late.stored),
                    ts_ms: late.ts_ms,
                    dup: true,
                    packet: None,
                    missed: None,
                };
                self.send(shard, PeerMsg::Posted(Box::new(Posted { ask, outcome })), fx);
            }
        }
    }

    /// Reads what is known to exist and was not handed on. Not while an outcome is unknown: its row would look like somebody else's.
    fn look_for_gaps(&mut self, now: Now, conv: ConvId, fx: &mut Effects) {
        let Some(state) = self.home.get_mut(conv) else { return };
        if state.reading || state.unknown > 0 {
            return;
        }
        if state.suspect {
            state.reading = true;
            if !self.ask_head(conv, fx) {
                self.retries.add(now.mono_ms, Retry::Gap(conv));
            }
            return;
        }
        let Some(delivered) = state.delivered() else { return };
        if state.revealed <= delivered {
            return;
        }
        state.reading = true;
        self.read_page(now, conv, PageStart::After(delivered), fx);
    }

    /// Reads a page of the conversation for the home itself. One that fails is due again.
    fn read_page(&mut self, now: Now, conv: ConvId, from: PageStart, fx: &mut Effects) {
        self.tally.gap_reads += 1;
        let Some(ask) = self.asks.take(Purpose::Gap { conv }) else {
            return self.retries.add(now.mono_ms, Retry::Gap(conv));
        };
        let read =
            Read::Page { conv, reader: None, from, rows_max: limits::SYNC_ROWS_MAX, bytes_max: limits::SYNC_BYTES_MAX };
        fx.push(Effect::Read { ask, read });
    }

    /// A read or a head that failed is due again.
    pub(super) fn retry_gap(&mut self, now: Now, conv: ConvId, fx: &mut Effects) {
        if let Some(state) = self.home.get_mut(conv) {
            state.reading = false;
            self.advance(now, conv, fx);
        }
    }

    /// The store has read what was missing.
    pub(super) fn gap_settled(
        &mut self,
        now: Now,
        conv: ConvId,
        reply: Result<Result<Page, Refusal>, store::Error>,
        fx: &mut Effects,
    ) {
        let Ok(Ok(page)) = reply else {
            return self.retries.add(now.mono_ms, Retry::Gap(conv));
        };
        let delivered = |home: &mut Home| home.get_mut(conv).and_then(|state| state.delivered());
        let before = delivered(&mut self.home);
        if before.is_none() {
            return self.base_settled(now, conv, &page, fx);
        }
        self.hand_on_rows(conv, page, fx);
        let helped = delivered(&mut self.home) > before;
        let Some(state) = self.home.get_mut(conv) else { return };
        // A read that helped nothing is not repeated at once: that would be a busy loop through the store.
        if !helped && state.unknown == 0 {
            return self.retries.add(now.mono_ms, Retry::Gap(conv));
        }
        state.reading = false;
        self.advance(now, conv, fx);
    }

    /// Hands on the rows of a gap, and between them our own that were waiting. Never beyond what is revealed: what comes after may be a post of
    /// ours whose answer is still on its way.
    fn hand_on_rows(&mut self, conv: ConvId, page: Page, fx: &mut Effects) {
        self.skip_to_floor(conv, page.floor, fx);
        for row in page.rows {
            let Some(state) = self.home.get_mut(conv) else { return };
            let Some(delivered) = state.delivered() else { return };
            if row.seq > state.revealed || state.unknown > 0 {
                return;
            }
            if row.seq <= delivered {
                continue;
            }
            if let Some(ready) = state.ready.remove(&row.seq) {
                self.hand_on_own(conv, ready, fx);
                continue;
            }
            let stored = Stored { id: row.id, seq: row.seq };
            let packet = Arc::new(Packet::chat(conv, row.sender, Some(stored), row.ts_ms, &row.body));
            self.hand_on(conv, row.seq, &packet, None, fx);
        }
    }

    /// Retention has cut what nobody can read any more: the order goes on behind it, but our own posts in it are still to be answered.
    fn skip_to_floor(&mut self, conv: ConvId, floor: Seq, fx: &mut Effects) {
        while let Some(state) = self.home.get_mut(conv) {
            let Some(delivered) = state.delivered() else { return };
            let reach = floor.prev().min(state.revealed);
            if reach <= delivered {
                return;
            }
            match state.ready.first_entry().filter(|first| *first.key() <= reach).map(|first| first.remove()) {
                Some(ready) => self.hand_on_own(conv, ready, fx),
                None => state.base = Base::Delivered(reach),
            }
        }
    }

    /// Sends the marks for which there is room now: each lane on its own, and of one the conversations in turn.
    pub(super) fn send_marks(&mut self, fx: &mut Effects) {
        for shard in self.home.marked.lanes() {
            for _ in 0..limits::TURN_MARKS_MAX {
                let Some(conv) = self.home.marked.next(shard) else { break };
                let upto = self.home.get_mut(conv).and_then(|state| state.delivered());
                if upto.is_some() && !self.lanes.take_room(shard, MARK_BYTES) {
                    break;
                }
                self.home.marked.had_turn(shard, conv);
                let Some(upto) = upto else { continue };
                if let Some(from) = self.take_mark(shard, conv) {
                    self.send(shard, PeerMsg::Mark { conv, from, upto }, fx);
                }
            }
        }
    }

    /// The mark of `shard` in `conv`, taken away.
    fn take_mark(&mut self, shard: ShardId, conv: ConvId) -> Option<Seq> {
        self.home.marked.remove(shard, conv);
        self.home.get_mut(conv)?.take_mark(shard)
    }

    /// Refuses a post that the home has taken in, and everybody who waits for it.
    fn finish_refused(&mut self, number: u32, reject: Reject, fx: &mut Effects) {
        let Some(home_post) = self.home.remove_post(number) else { return };
        self.refuse_post(home_post.from, home_post.post.ask, reject, fx);
        for (shard, ask) in home_post.waiters {
            self.refuse_post(shard, ask, reject, fx);
        }
    }

    fn refuse_post(&mut self, to: ShardId, ask: u32, reject: Reject, fx: &mut Effects) {
        self.send(to, PeerMsg::Posted(Box::new(Posted { ask, outcome: Outcome::Refused(reject) })), fx);
    }

    /// [`PlantedBug::AckBeforeCommit`].
    fn planted_early_ack(&mut self, number: u32, fx: &mut Effects) {
        let Some(home_post) = self.home.posts.get(number as usize) else { return };
        let (from, ask, conv, ts_ms) = (home_post.from, home_post.post.ask, home_post.post.conv, home_post.ts_ms);
        let Some(state) = self.home.get_mut(conv) else { return };
        let seq = state.delivered().unwrap_or_default().next();
        let stored = MsgId::new(1).map(|id| Stored { id, seq });
        let outcome = Outcome::Done { stored, ts_ms, dup: false, packet: None, missed: None };
        self.send(from, PeerMsg::Posted(Box::new(Posted { ask, outcome })), fx);
        if let Some(home_post) = self.home.posts.get_mut(number as usize) {
            home_post.post.ask = u32::MAX;
        }
    }
}
