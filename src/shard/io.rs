//! What every part of a shard works with: the time, the settings, the counters, and the ways out.
//!
//! Owns: [`Io`], which is handed down to every method: what one step wants done ([`Effects`]), the
//! asks of the store, the credit of the lanes, what is tried again, what the shard says to itself,
//! and what parts above must hear of parts below ([`Note`]).
//! Never: knows a session or a conversation.

use std::collections::VecDeque;

use crate::clock::Now;
use crate::ids::{ConnId, ConvId, GroupId, Seq, ShardId, UserId};
use crate::metrics::Tally;
use crate::shard::asks::Asks;
use crate::shard::effect::{Effect, Effects};
use crate::shard::event::Answer;
use crate::shard::far::{FarOut, FarSaid, FarWord};
use crate::shard::lanes::Lanes;
use crate::shard::passages::Passages;
use crate::shard::peer::PeerMsg;
use crate::shard::retries::{Retries, Retry};
use crate::shard::session::held::Held;
use crate::shard::top::Counting;
use crate::shard::{PlantedBug, Setup};
use crate::store::PostKey;
use crate::ws::deflate::Deflater;

/// The context of a step.
pub(in crate::shard) struct Io {
    /// The time of the step under way.
    pub now: Now,
    pub setup: Setup,
    pub tally: Tally,
    /// What the readers of this shard keep alive.
    pub held: Held,
    /// Makes the compressed forms of messages.
    pub deflater: Deflater,
    pub asks: Asks,
    pub lanes: Lanes,
    pub retries: Retries,
    /// What the step wants done so far.
    pub effects: Effects,
    /// What this shard says to itself: handled before the step ends, in the order of one lane.
    pub local: VecDeque<PeerMsg>,
    /// What parts above must hear: handled before the step ends.
    pub notes: VecDeque<Note>,
    /// What takes the most, while an operator looks.
    pub counting: Counting,
    /// Messages that the sessions of this shard have been given.
    pub passages: Passages,
    /// Posts and requests are refused, and no session catches up any more.
    pub quiescing: bool,
    /// New sessions are closed at once.
    pub closing: bool,
    /// Server-made post keys so far.
    server_keys: u64,
}

/// What has happened below, for the parts above.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) enum Note {
    /// A session of the user is in full use from now on.
    Opened { user: UserId },
    /// A session of the user has ended.
    Ended { conn: ConnId, user: UserId },
    /// A legacy session of the user has received everything up to `seq`.
    Arrived { user: UserId, conv: ConvId, seq: Seq },
}

impl Io {
    /// Of a shard at its start.
    pub(in crate::shard) fn new(setup: Setup) -> Self {
        Self {
            now: Now { mono_ms: 0, wall_ms: 0, sub_us: 0 },
            tally: Tally::default(),
            held: Held::default(),
            deflater: Deflater::new(setup.compression_min_bytes),
            asks: Asks::default(),
            lanes: Lanes::new(setup.shards),
            retries: Retries::default(),
            effects: Effects::default(),
            local: VecDeque::new(),
            notes: VecDeque::new(),
            counting: Counting::default(),
            passages: Passages::default(),
            quiescing: false,
            closing: false,
            server_keys: 0,
            setup,
        }
    }

    /// Monotonic milliseconds of the step under way.
    pub(in crate::shard) const fn now_ms(&self) -> u64 {
        self.now.mono_ms
    }

    /// Whether a rule is to be broken.
    pub(in crate::shard) fn has_bug(&self, bug: PlantedBug) -> bool {
        self.setup.planted_bug == Some(bug)
    }

    /// Wants something done.
    pub(in crate::shard) fn push(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    /// Tries again after a pause.
    pub(in crate::shard) fn retry(&mut self, retry: Retry) {
        self.retries.add(self.now.mono_ms, retry);
    }

    /// Sends `msg`, to another shard or to this one.
    pub(in crate::shard) fn send(&mut self, to: ShardId, msg: PeerMsg) {
        if to == self.setup.id {
            self.local.push_back(msg);
        } else {
            self.effects.push(Effect::Peer { to, msg });
        }
    }

    /// Sends what may be lost, if there is room.
    pub(in crate::shard) fn send_if_room(&mut self, to: ShardId, msg: PeerMsg) {
        if to == self.setup.id || self.lanes.take_credit(to, msg.bytes()) {
            self.send(to, msg);
        }
    }

    /// Tells the other gateways, if there are any, what may be lost.
    pub(in crate::shard) fn tell_far(&mut self, word: FarWord) {
        if self.setup.clustered {
            self.effects.push(Effect::Far(FarOut::Word(word)));
        }
    }

    /// Tells the other gateways, if there are any, what is kept nowhere.
    pub(in crate::shard) fn say_far(&mut self, said: FarSaid) {
        if self.setup.clustered {
            self.effects.push(Effect::Far(FarOut::Said(Box::new(said))));
        }
    }

    /// Whether nothing of a conversation is kept: all are, or it is the room of the guests.
    pub(in crate::shard) fn is_volatile(&self, conv: ConvId) -> bool {
        self.setup.volatile || is_room(conv)
    }

    /// A key that no client can make and no later start of the process makes again.
    pub(in crate::shard) fn server_key(&mut self) -> PostKey {
        self.server_keys += 1;
        let counter = u64::from(self.setup.id.0) << 48 | self.server_keys;
        PostKey::Server { node: self.setup.node.0, boot: self.setup.boot, counter }
    }

    /// Where deliveries in `conv` are counted: what is said in `/chatroom` stands apart.
    pub(in crate::shard) fn delivered_in(&mut self, conv: ConvId) -> &mut u64 {
        if is_room(conv) { &mut self.tally.room_delivered } else { &mut self.tally.delivered }
    }

    /// A volatile message was dropped for all sessions of a shard.
    pub(in crate::shard) fn lane_dropped(&mut self, conv: ConvId) {
        let counter = if is_room(conv) { &mut self.tally.room_lane_dropped } else { &mut self.tally.lane_dropped };
        *counter += 1;
    }

    /// Posts at once answer the control plane.
    pub(in crate::shard) fn answer(&mut self, id: u64, answer: Answer) {
        self.effects.push(Effect::Answer { id, answer });
    }
}

fn is_room(conv: ConvId) -> bool {
    conv == ConvId::Group(GroupId::ROOM)
}
