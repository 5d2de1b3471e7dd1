//! Handing messages on, in the order of their numbers.
//!
//! Owns: which shards are told of a message, the marks for those whose lane was full, and the
//! answers to authors.
//! Never: hands on a message twice or out of order.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::ids::{ConvId, Seq, ShardId, shard_of};
use crate::limits;
use crate::shard::broken::broken;
use crate::shard::effect::Effect;
use crate::shard::home::Home;
use crate::shard::home::conversation::{Base, HomePost, Undelivered};
use crate::shard::home::recent::Given;
use crate::shard::io::Io;
use crate::shard::lanes::MARK_BYTES;
use crate::shard::peer::{Delivery, Outcome, PeerMsg, Posted};
use crate::wire::Packet;

impl Home {
    /// Hands on what has its turn, answers what has been reached, and reads what is missing.
    pub(super) fn advance(&mut self, io: &mut Io, conv: ConvId) {
        self.find_base(io, conv);
        while let Some(state) = self.conversations.get_mut(conv) {
            let Some(delivered) = state.delivered() else { break };
            let Some(ready) = state.ready.remove(&delivered.next()) else { break };
            self.hand_on_ready(io, conv, ready);
        }
        self.answer_late(io, conv);
        self.look_for_gaps(io, conv);
    }

    /// Hands on a message that has waited for its turn: one that was posted through this node just
    /// now, or one of another gateway.
    pub(super) fn hand_on_ready(&mut self, io: &mut Io, conv: ConvId, ready: Undelivered) {
        let Undelivered { packet, stored, ts_ms, post } = ready;
        let Some(number) = post else {
            let bytes = packet.frame().len();
            let left = self.conversations.far_bytes.checked_sub(bytes);
            self.conversations.far_bytes = left.unwrap_or_else(|| broken("what has waited was counted"));
            io.tally.far_rows += 1;
            return self.hand_on(io, conv, (stored.seq, ts_ms), &packet, true, None);
        };
        let HomePost { from, post, waiters, .. } = self.conversations.remove_post(number);
        io.counting.delivery(conv, packet.frame().len());
        self.hand_on(io, conv, (stored.seq, ts_ms), &packet, false, Some(from));
        if let ConvId::Group(group) = conv
            && io.setup.tells_group
            && !packet.is_hidden()
        {
            io.push(Effect::GroupStored { group, seq: stored.seq, packet: Arc::clone(&packet) });
        }
        let missed = self.take_mark(from, conv);
        let given = Given { conv, stored: Some(stored), ts_ms };
        self.conversations.recent.remember(post.sender, post.key, given, limits::RECENT_POSTS_MAX);
        let outcome = Outcome::Done { stored: Some(stored), ts_ms, dup: false, packet: Some(packet), missed };
        io.send(from, PeerMsg::Posted(Box::new(Posted { ask: post.ask, outcome })));
        for (shard, ask) in waiters {
            let outcome = Outcome::Done { stored: Some(stored), ts_ms, dup: true, packet: None, missed: None };
            io.tally.duplicates += 1;
            io.send(shard, PeerMsg::Posted(Box::new(Posted { ask, outcome })));
        }
    }

    /// Sends a message to every shard concerned but `except`, which hears of it otherwise, and
    /// moves `delivered`. `ts_ms`: the message's time. `far`: see [`Delivery::far`].
    pub(super) fn hand_on(
        &mut self,
        io: &mut Io,
        conv: ConvId,
        (seq, ts_ms): (Seq, u64),
        packet: &Arc<Packet>,
        far: bool,
        except: Option<ShardId>,
    ) {
        for shard in self.concerned(io, conv) {
            if Some(shard) == except {
                continue;
            }
            // A mark covers everything after it, too.
            if self.conversations.get_mut(conv).is_some_and(|state| state.is_marked(shard)) {
                continue;
            }
            if !self.deliver(io, shard, conv, Some(seq), packet, far) {
                io.tally.marked += 1;
                self.conversations.marked.add(shard, conv);
                self.conversations.busy(conv).marks.push((shard, seq));
            }
        }
        if let Some(state) = self.conversations.get_mut(conv) {
            state.base = Base::Delivered(seq);
            state.lost = false;
            state.newest_ms = state.newest_ms.max(ts_ms);
            state.revealed = state.revealed.max(seq);
        }
    }

    /// One delivery. `false`: the lane is full.
    pub(in crate::shard) fn deliver(
        &mut self,
        io: &mut Io,
        to: ShardId,
        conv: ConvId,
        seq: Option<Seq>,
        packet: &Arc<Packet>,
        far: bool,
    ) -> bool {
        let msg = PeerMsg::Deliver(Delivery { conv, seq, packet: Arc::clone(packet), far });
        if to != io.setup.id && !io.lanes.take_credit(to, msg.bytes()) {
            return false;
        }
        io.send(to, msg);
        true
    }

    /// The shards that may have sessions of this conversation.
    pub(in crate::shard) fn concerned(&self, io: &Io, conv: ConvId) -> SmallVec<[ShardId; 8]> {
        match conv {
            ConvId::Direct { lo, hi } => {
                let (a, b) = (shard_of(lo, io.setup.shards), shard_of(hi, io.setup.shards));
                if a == b { SmallVec::from_slice(&[a]) } else { SmallVec::from_slice(&[a, b]) }
            }
            ConvId::Group(group) => {
                let mut shards = self.listeners.of(group);
                if !shards.contains(&io.setup.id) {
                    shards.push(io.setup.id);
                }
                shards
            }
        }
    }

    /// Answers resends whose message has been handed on by now.
    fn answer_late(&mut self, io: &mut Io, conv: ConvId) {
        let Some(state) = self.conversations.get_mut(conv) else { return };
        let Some(reach) = state.reach() else { return };
        let (reached, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.late).into_iter().partition(|late| late.stored.seq <= reach);
        state.late = waiting;
        for late in reached {
            let HomePost { from, post, waiters, .. } = self.conversations.remove_post(late.post);
            let given = Given { conv, stored: Some(late.stored), ts_ms: late.ts_ms };
            self.conversations.recent.remember(post.sender, post.key, given, limits::RECENT_POSTS_MAX);
            let askers = std::iter::once((from, post.ask)).chain(waiters);
            for (shard, ask) in askers {
                io.tally.duplicates += 1;
                let outcome = Outcome::Done {
                    stored: Some(late.stored),
                    ts_ms: late.ts_ms,
                    dup: true,
                    packet: None,
                    missed: None,
                };
                io.send(shard, PeerMsg::Posted(Box::new(Posted { ask, outcome })));
            }
        }
    }

    /// Sends the marks for which there is room now: each lane on its own, and of one the
    /// conversations in turn.
    pub(in crate::shard) fn send_marks(&mut self, io: &mut Io) {
        for shard in self.conversations.marked.lanes() {
            for _ in 0..limits::TURN_MARKS_MAX {
                let Some(conv) = self.conversations.marked.next(shard) else { break };
                let upto = self.conversations.get_mut(conv).and_then(|state| state.delivered());
                if upto.is_some() && !io.lanes.take_credit(shard, MARK_BYTES) {
                    break;
                }
                self.conversations.marked.had_turn(shard, conv);
                let Some(upto) = upto else { continue };
                if let Some(from) = self.take_mark(shard, conv) {
                    io.send(shard, PeerMsg::Mark { conv, from, upto });
                }
            }
        }
    }

    /// The mark of `shard` in `conv`, taken away.
    pub(super) fn take_mark(&mut self, shard: ShardId, conv: ConvId) -> Option<Seq> {
        self.conversations.marked.remove(shard, conv);
        self.conversations.get_mut(conv)?.take_mark(shard)
    }
}
