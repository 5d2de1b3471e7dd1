//! The heart: a pure state machine that owns users' sessions and orders conversations.
//!
//! Owns: [`Shard::step`], the one door in ([`Event`]); [`Effects`], the one door out; what shards say to each other ([`PeerMsg`]). Who has read those three
//! files knows the whole behaviour. The rooms behind: `session` (a connection of a user), `expiry` (of its token), `arrivals` and `opening` (how sessions begin and end), `posting` (the
//! author's side), `recalls` (taking back), `home` and `conversation` (order), `sweep`, `coalescing`, `roster`, `places` and `online` (fan-out),
//! `interest` and `listeners` (which shards hear a group), `catching_up` and `pages`
//! (who lacks what), `held` and `slow` (what slow readers may cost), `ready` (what a session is told after it has opened), `cursors` (received and read),
//! `typing`, `watches` and `presence` (who is online),
//! `blocks` (who hears nothing of whom), `whispers` (what may be lost), `devices` (who gives way), `pace`, `prices` and `shares`
//! (what one user may take of all), `claims` (read marks that may not be true), `lists` and `hints` (one at a time, at a pace), `notices` (the control plane), `revisions` (what it has changed lately).
//! Never: a socket, a clock, a random source, a thread, a channel, a lock, a global. Time and bytes are arguments.
//! Bounds: everything that can grow has its limit in [`crate::limits`]; the caller drains all effects before the next event.

mod acks;
mod arrivals;
mod asks;
mod blocks;
mod catching_up;
mod claims;
mod coalescing;
mod conversation;
mod cursors;
mod deadlines;
pub mod devices;
mod drain;
pub mod effect;
pub mod event;
mod expiry;
mod held;
mod hints;
mod home;
mod interest;
mod introductions;
mod invariants;
mod lanes;
mod listeners;
mod lists;
mod marks;
mod notices;
mod online;
mod opening;
pub mod outbox;
mod pace;
mod pages;
pub mod peer;
mod places;
mod posting;
mod presence;
mod prices;
mod ready;
mod recalls;
mod recent;
mod revisions;
mod roster;
mod session;
mod shares;
mod slow;
mod sweep;
mod typing;
mod watches;
mod whispers;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::rc::Rc;

pub use devices::DevicePolicy;
pub use drain::Drain;
pub use effect::{Effect, Effects};
pub use event::{Answer, Event, Hello, Notice};
pub use outbox::{Batch, Outbox};
pub use pace::PaceLimits;
pub use peer::PeerMsg;

use crate::clock::Now;
use crate::ids::{ConnId, ConvId, GroupId, NodeId, ShardId};
use crate::limits;
use crate::metrics::Tally;
use crate::store::worker::Reply;
use asks::Purpose;
use deadlines::Retry;
use session::Flag;

/// What a shard is told when it is made.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Which shard this is.
    pub id: ShardId,
    /// Of how many.
    pub shards: u16,
    /// Of which node.
    pub node: NodeId,
    /// Random for each start of the process: part of server-made post keys, and the source of jitter.
    pub boot: u64,
    /// `durability = "volatile"`: no message is stored.
    pub volatile: bool,
    /// Pushes queued for one session before it is behind; at most [`crate::limits::OUTBOX_BYTES_MAX`].
    pub outbox_bytes: usize,
    /// This shard's equal part of what all outboxes of the process may keep alive. It is asked to let go of more only beyond it.
    pub outbox_part: usize,
    /// How long the messages of a busy group may wait for each other, in milliseconds; 0: they never do. At most [`crate::limits::COALESCE_MS_MAX`].
    pub coalesce_ms: u32,
    /// Silence in milliseconds after which the server pings; at most [`crate::limits::PING_AFTER_MS`].
    pub ping_after_ms: u64,
    /// Silence in milliseconds after which a connection is dead; at most [`crate::limits::IDLE_MS_MAX`], and more than twice `ping_after_ms`.
    pub idle_after_ms: u64,
    /// How many devices of one user may be here at once.
    pub devices: DevicePolicy,
    /// How fast users and guests may go.
    pub pace: PaceLimits,
    /// Breaks one rule on purpose, so that the simulation can prove that it would notice. `None` outside tests.
    pub planted_bug: Option<PlantedBug>,
}

/// A rule to break (design, section 3). Only `tests/simulation.rs` sets it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlantedBug {
    /// Home acks a post when it is sent to the store.
    AckBeforeCommit,
    /// Posts without a key that the store could know again.
    SkippedDedupe,
    /// A session that went behind is not woken when its socket drains.
    LostWake,
    /// Of a group's messages in one turn the last comes first.
    ReorderedFanOut,
    /// An overflow is forgotten: the session does not become behind.
    ForgottenBehindMark,
    /// A legacy session's messages count as received when the ping behind them is sent, not when its pong has come.
    UnprovenCursor,
    /// A legacy session opens without what it has missed.
    ForgottenReplay,
    /// A cursor that the store did not take is not stored again.
    LostWord,
    /// A session opens before the homes of its groups have confirmed that they send to its shard.
    UnheardInterest,
    /// A home believes a shard that nobody is there, although it has just told it of a member.
    StaleFarewell,
    /// What a user spends is not counted.
    UnpacedGreed,
    /// A session that was not read because its user went too fast is not read again.
    LostRefill,
}

/// How long marks wait for room before they are tried again, when nothing else wakes the shard.
const MARK_RETRY_MS: u64 = 5;

/// One shard's state.
pub struct Shard {
    setup: Setup,
    tally: Tally,
    /// Monotonic time of the step under way.
    now_ms: u64,
    held: held::Held,
    sessions: session::Sessions,
    pages: pages::Pages,
    roster: roster::Roster,
    interest: interest::Interest,
    listeners: listeners::Listeners,
    sweeps: sweep::Sweeps,
    home: conversation::Home,
    posts: posting::Posts,
    cursors: cursors::Cursors,
    readies: ready::Readies,
    typings: typing::Typings,
    watches: watches::Watches,
    blocks: blocks::Blocks,
    presences: presence::Presences,
    notices: notices::Notices,
    hints: hints::Hints,
    claims: claims::Claims,
    lists: lists::Lists,
    asks: asks::Asks,
    arrivals: arrivals::Arrivals,
    /// Sessions whose acks wait, by slot.
    acks_waiting: coalescing::Waiting,
    lanes: lanes::Lanes,
    paces: pace::Paces,
    shares: shares::Shares,
    rounds: deadlines::Rounds,
    retries: deadlines::Retries,
    /// What this shard says to itself: handled before the step ends, in the order of one lane.
    local: VecDeque<PeerMsg>,
    /// Server-made post keys so far.
    server_keys: u64,
    /// Posts and requests are refused, and nobody catches up any more.
    quiescing: bool,
    /// New sessions are closed at once.
    closing: bool,
    /// How the others are closed.
    draining: Option<drain::Draining>,
    /// Steps of a debug build since the state was checked.
    unchecked_steps: u32,
}

impl Shard {
    /// An empty shard.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        Self {
            lanes: lanes::Lanes::new(setup.shards),
            paces: pace::Paces::new(setup.pace),
            shares: shares::Shares::default(),
            setup: Setup {
                outbox_bytes: setup.outbox_bytes.min(limits::OUTBOX_BYTES_MAX),
                coalesce_ms: setup.coalesce_ms.min(limits::COALESCE_MS_MAX),
                ..setup
            },
            tally: Tally::default(),
            now_ms: 0,
            held: held::Held::default(),
            sessions: session::Sessions::default(),
            pages: pages::Pages::default(),
            roster: roster::Roster::new(setup.id, setup.shards),
            interest: interest::Interest::default(),
            listeners: listeners::Listeners::new(setup.shards),
            sweeps: sweep::Sweeps::default(),
            home: conversation::Home::default(),
            posts: posting::Posts::default(),
            cursors: cursors::Cursors::default(),
            readies: ready::Readies::default(),
            typings: typing::Typings::default(),
            watches: watches::Watches::default(),
            blocks: blocks::Blocks::default(),
            presences: presence::Presences::default(),
            notices: notices::Notices::default(),
            hints: hints::Hints::default(),
            claims: claims::Claims::default(),
            lists: lists::Lists::default(),
            asks: asks::Asks::default(),
            arrivals: arrivals::Arrivals::default(),
            acks_waiting: coalescing::Waiting::default(),
            rounds: deadlines::Rounds::new(setup.ping_after_ms),
            retries: deadlines::Retries::default(),
            local: VecDeque::new(),
            server_keys: 0,
            quiescing: false,
            closing: false,
            draining: None,
            unchecked_steps: 0,
        }
    }

    /// Takes one event. The caller drains all effects before the next call.
    pub fn step(&mut self, now: Now, event: Event, effects: &mut Effects) {
        debug_assert!(effects.is_empty(), "all effects are drained before the next event");
        self.now_ms = now.mono_ms;
        self.held.set_now(now.mono_ms);
        self.handle(now, event, effects);
        while let Some(msg) = self.local.pop_front() {
            self.peer(now, self.setup.id, msg, effects);
        }
        self.check_if_small();
    }

    fn handle(&mut self, now: Now, event: Event, fx: &mut Effects) {
        match event {
            Event::Open { conn, hello } => self.open(now, conn, &hello, fx),
            Event::Command { conn, command } => self.command(now, conn, command, fx),
            Event::Unreadable { conn, refused } => self.unreadable(now, conn, &refused, fx),
            Event::Ping { conn, payload } => self.ping(now, conn, &payload, fx),
            Event::Pong { conn, payload } => self.pong(now, conn, &payload, fx),
            Event::Spent { conn, bytes, fragments, inflated } => self.spent(conn, bytes, fragments, inflated, fx),
            Event::PeerClosed { conn, code } => self.peer_closed(conn, code, fx),
            Event::Violation { conn, code } => self.close(conn, code, fx),
            Event::Gone { conn } => self.gone(conn),
            Event::Flushed { conn } => self.flushed(conn, fx),
            Event::Progress { conn } => self.progress(conn, fx),
            Event::Overdrawn { bytes } => self.overdrawn(bytes, fx),
            Event::Shed { bytes } => self.shed(bytes, fx),
            Event::Peer { from, msg } => self.peer(now, from, msg, fx),
            Event::Settled { ask, reply } => self.settled(now, ask, reply, fx),
            Event::Notice { id, notice } => self.notice(id, notice, fx),
            Event::Room { to, msgs, bytes } => self.lanes.set_room(to, msgs, bytes),
            Event::TurnEnd => self.turn_end(now, fx),
            Event::Sweep => self.sweep(fx),
            Event::Quiesce => self.quiesce(now, fx),
            Event::CloseAll(drain) => self.begin_drain(now, drain),
            Event::CloseSome { most } => self.close_some(now, most, fx),
        }
    }

    fn peer(&mut self, now: Now, from: ShardId, msg: PeerMsg, fx: &mut Effects) {
        match msg {
            PeerMsg::Post(post) => self.home_post(now, from, post, fx),
            PeerMsg::Posted(posted) => self.posted(now, *posted, fx),
            PeerMsg::Deliver(delivery) => {
                self.heard_for_nobody(delivery.conv);
                self.delivery(delivery, fx);
            }
            PeerMsg::Mark { conv, from, upto } => {
                self.heard_for_nobody(conv);
                self.missed(conv, from, upto, fx);
            }
            PeerMsg::Cursor { user, conv, recv, read } => self.peer_cursor(user, conv, recv, read, fx),
            PeerMsg::Typing { user, conv } => self.peer_typing(user, conv, fx),
            PeerMsg::Watch { users } => self.peer_watch(from, &users, fx),
            PeerMsg::Unwatch { users } => self.peer_unwatch(from, &users),
            PeerMsg::Presence { rows } => self.peer_presence(&rows, fx),
            PeerMsg::Member { ask, group, user, change } => {
                self.member(group, user, change);
                self.send(from, PeerMsg::MemberKnown { ask }, fx);
            }
            PeerMsg::MemberKnown { ask } => self.member_known(ask, fx),
            PeerMsg::Interest { rows } => self.peer_interest(from, &rows, fx),
            PeerMsg::InterestKnown => self.interest_known(now, fx),
        }
    }

    fn settled(&mut self, now: Now, ask: u32, reply: Reply, fx: &mut Effects) {
        let Some(purpose) = self.asks.settle(ask) else {
            debug_assert!(false, "the store answers each ask once");
            return;
        };
        match purpose {
            Purpose::Open { conn } => self.open_settled(now, conn, reply.of(), fx),
            Purpose::Heads { conn } => self.heads_settled(now, conn, reply.of(), fx),
            Purpose::Convs { conn, user } => self.convs_settled(conn, user, reply.of(), fx),
            Purpose::Mark { user, conv } => self.mark_settled(now, user, conv, reply.of(), fx),
            Purpose::Cursor { user, conv } => self.cursor_settled(now, user, conv, reply.of(), fx),
            Purpose::Sync { conn, of, after } => self.sync_settled(conn, of, after, reply.of(), fx),
            Purpose::CatchUp { conv, next } => self.catch_up_settled(now, (conv, next), reply.of(), fx),
            Purpose::Gap { conv } => self.gap_settled(now, conv, reply.of(), fx),
            Purpose::Head { conv } => self.head_settled(now, conv, reply.of(), fx),
            Purpose::Append { post, .. } => self.append_settled(now, post, reply.of(), fx),
            Purpose::Member { notice } => self.member_settled(notice, reply.of(), fx),
        }
    }

    /// Nothing more is asked of anybody from now on, and nothing waits any longer than it must.
    fn quiesce(&mut self, now: Now, fx: &mut Effects) {
        self.quiescing = true;
        self.refuse_parked(now, fx);
        self.sweep_what_has_waited(u64::MAX);
        self.send_waiting_acks(u64::MAX, fx);
    }

    fn turn_end(&mut self, now: Now, fx: &mut Effects) {
        self.sweep_what_has_waited(now.mono_ms);
        self.send_waiting_acks(now.mono_ms, fx);
        self.send_marks(fx);
        self.append_in_turn(fx);
        self.end_rests(fx);
        self.look_after(now, fx);
        self.ask_about_arrivals(now, fx);
        for _ in 0..limits::TURN_TIMERS_MAX {
            let Some(retry) = self.retries.due(now.mono_ms) else { break };
            match retry {
                Retry::Open(conn) => self.ask_open(now, conn, fx),
                Retry::Heads(conn) => self.ask_heads(now, conn, fx),
                Retry::Parked(conn) => self.retry_parked(now, conn, fx),
                Retry::CatchUp(conn) => self.retry_catch_up(conn, fx),
                Retry::Introduction(conn) => self.retry_introduction(conn, fx),
                Retry::Gap(conv) => self.retry_gap(now, conv, fx),
                Retry::Marks(user) => self.ask_marks(now, user, fx),
            }
        }
        self.catch_up_line(fx);
        self.move_cursors(now, fx);
        self.move_presence(fx);
        self.move_hints(fx);
        self.announce_interest(fx);
        self.home.rest(now.mono_ms);
    }

    /// Sends `msg`, to another shard or to itself.
    fn send(&mut self, to: ShardId, msg: PeerMsg, fx: &mut Effects) {
        if to == self.setup.id {
            self.local.push_back(msg);
        } else {
            fx.push(Effect::Peer { to, msg });
        }
    }

    /// Sends what may be lost, if there is room.
    fn send_if_room(&mut self, to: ShardId, msg: PeerMsg, fx: &mut Effects) {
        if to == self.setup.id || self.lanes.take_room(to, msg.bytes()) {
            self.send(to, msg, fx);
        }
    }

    /// Whether nothing of a conversation is kept: all are, or it is the room of the guests.
    fn is_volatile(&self, conv: ConvId) -> bool {
        self.setup.volatile || conv == ConvId::Group(GroupId::ROOM)
    }

    /// What is queued for a connection; `None` when nothing is.
    pub fn outbox(&mut self, conn: ConnId) -> Option<&mut Outbox> {
        self.sessions.get_mut(conn)?.outbox.as_deref_mut().filter(|outbox| !outbox.is_empty())
    }

    /// Gives back what a socket did not take of a broadcast: `written` bytes of `batch` were sent to `conn`.
    pub fn unsent(&mut self, conn: ConnId, batch: &Rc<Batch>, written: usize) {
        if let Some(session) = self.sessions.get_mut(conn) {
            session.outbox_mut(&self.held).push_rest(Rc::clone(batch), written);
            session.set(Flag::Flushing, true);
        }
    }

    /// Whether [`Event::Sweep`] has something to do.
    #[must_use]
    pub fn sweep_due(&self) -> bool {
        !self.sweeps.is_empty()
    }

    /// What the last [`Event::Sweep`] has cost: the members that it reached, those who were given its messages one by one as often as that.
    #[must_use]
    pub fn swept(&self) -> usize {
        self.sweeps.reached
    }

    /// Monotonic milliseconds at which [`Event::TurnEnd`] is due although nothing else happens; `None`: never.
    #[must_use]
    pub fn deadline_ms(&self) -> Option<u64> {
        if self.sweep_due() {
            return Some(self.now_ms);
        }
        if self.pages.is_due(self.catch_up_reads_max()) {
            return Some(self.now_ms);
        }
        let marks = (!self.home.marked.is_empty()).then_some(self.now_ms + MARK_RETRY_MS);
        let presence = [self.watches.next_ms(), self.presences.next_ms()].into_iter().flatten().min();
        let round = (self.tally.sessions > 0).then(|| self.rounds.next_ms());
        [
            round,
            self.close_due_ms(),
            self.arrivals.next_ms(),
            self.sweeps.next_ms(),
            self.acks_waiting.next_ms(),
            self.retries.next_ms(),
            self.paces.next_ms(),
            self.hints.next_ms(),
            self.cursors.next_ms(),
            self.home.rest_at(),
            marks,
            presence,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Asks of this shard that are not settled (store, posts, notices), and groups that are not swept. Zero after [`Event::Quiesce`] means that it may stop.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.asks.len() + self.posts.len() + self.notices.len() + self.home.posts.len() + self.sweeps.len()
    }

    /// The counters; the driver adds its own.
    pub fn tally(&mut self) -> &mut Tally {
        self.tally.store_pending = self.asks.len() as u64;
        self.tally.conversations = self.home.len() as u64;
        self.tally.listened_groups = self.listeners.len() as u64;
        self.tally.held = self.held.bytes() as u64;
        &mut self.tally
    }
}
