//! The heart: a pure state machine that owns users' sessions and orders conversations.
//!
//! Owns: the one way in, [`Shard::step`] ([`Event`]), and the ways out: [`Effects`], and
//! [`Shard::poll_send`] for what sockets are to be written; what shards say to each other is
//! [`PeerMsg`]. These files (`event`, `effect`, `peer`, `far`, `sending`) are the whole
//! behaviour.
//!
//! Inside, each part has private fields and is handed what it needs. A part calls only those that
//! stand above it in this list (`tests/tidy/parts.rs` has the table):
//!
//! * `io`: the context of a step: time, settings, counters, effects, asks of the store, credit of
//!   the lanes, retries;
//! * `session`: one session as data: its outbox, what it lacks, where it stands in rosters;
//! * `home`: the conversations that this shard orders;
//! * `sessions`: all sessions: by user and group, whether they are read, how they live and end;
//! * `catching_up`: what sessions lack, and how they get it;
//! * `delivery`: how a message reaches sessions: at once, or in a sweep over a group;
//! * `opening`: how sessions begin;
//! * `posting`: what clients ask for: posts, recalls, pages, lists;
//! * `social`: what users show each other beside messages.
//!
//! What a lower part has to tell the upper ones goes through [`io::Note`].
//! Never: a socket, a clock, a random source, a thread, a channel, a lock, a global. Time and bytes
//! are arguments.
//! Bounds: everything that can grow has its limit in [`crate::limits`]; the caller drains all
//! effects before the next event.

mod asks;
mod broken;
mod catching_up;
mod coalescing;
mod commands;
mod delivery;
pub mod effect;
pub mod event;
pub mod far;
mod home;
mod invariants;
mod io;
mod lanes;
mod notices;
mod opening;
mod passages;
pub mod peer;
mod posting;
mod retries;
mod sending;
mod session;
mod sessions;
mod setup;
mod social;
mod top;

#[cfg(test)]
mod tests;

use std::mem;

pub use effect::{Effect, Effects};
pub use event::{
    Answer, Drain, Event, HeldBack, Hello, Notice, ONLINE_USERS_MAX, ROSTER_SLOTS, SessionView, SocketView,
};
pub use far::{FarDevice, FarIn, FarOut, FarRow, FarSaid, FarWord, Whom};
pub use passages::Passage;
pub use peer::{PeerMsg, Way};
pub use sending::Transmit;
pub use session::outbox::{Batch, Form, Outbox};
pub use setup::{Adjustable, DevicePolicy, PaceLimits, PlantedBug, Setup};

use crate::clock::Now;
use crate::ids::{ConnId, ShardId, UserId};
use crate::limits;
use crate::metrics::Tally;
use crate::metrics::tally::Slowness;
use crate::metrics::top::TopReport;
use crate::store::worker::Reply;
use crate::store::{self, Heads};
use crate::wire::Profile;
use asks::Purpose;
use broken::broken;
use delivery::Deliveries;
use home::Home;
use io::{Io, Note};
use opening::Opening;
use posting::Posting;
use retries::Retry;
use sessions::Sessions;
use social::Social;

/// One shard's state.
pub struct Shard {
    io: Io,
    home: Home,
    sessions: Sessions,
    deliveries: Deliveries,
    opening: Opening,
    posting: Posting,
    social: Social,
    /// Steps of a debug build since the state was checked.
    unchecked_steps: u32,
}

impl Shard {
    /// An empty shard.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let setup = setup.bounded();
        Self {
            home: Home::new(&setup),
            sessions: Sessions::new(&setup),
            deliveries: Deliveries::default(),
            opening: Opening::default(),
            posting: Posting::default(),
            social: Social::default(),
            io: Io::new(setup),
            unchecked_steps: 0,
        }
    }

    /// Takes one event. The caller drains all effects before the next call.
    pub fn step(&mut self, now: Now, event: Event, effects: &mut Effects) {
        debug_assert!(effects.is_empty(), "all effects are drained before the next event");
        self.io.now = now;
        mem::swap(&mut self.io.effects, effects);
        self.handle(event);
        self.finish();
        self.check_if_small();
        mem::swap(&mut self.io.effects, effects);
    }

    /// Handles what the parts have to say to each other and this shard to itself.
    fn finish(&mut self) {
        loop {
            while let Some(note) = self.io.notes.pop_front() {
                self.note(note);
            }
            let Some(msg) = self.io.local.pop_front() else { break };
            self.peer(self.io.setup.id, msg);
        }
        if self.io.setup.clustered {
            for (whom, on) in self.sessions.roster.take_here() {
                self.io.push(Effect::Far(FarOut::Here { whom, on }));
            }
        }
    }

    fn note(&mut self, note: Note) {
        match note {
            Note::Opened { user } => self.social.presence_changed(&mut self.io, user),
            Note::Ended { conn, user } => self.social.session_ended(&mut self.io, conn, user),
            Note::Arrived { user, conv, seq } => self.social.arrived(&mut self.io, user, conv, seq),
        }
    }

    /// Goes by other settings from now on.
    fn adjust(&mut self, to: &Adjustable) {
        let Self { io, sessions, .. } = self;
        io.setup = io.setup.adjusted(to);
        io.deflater.set_min_bytes(io.setup.compression_min_bytes);
        sessions.adjust(io);
    }

    fn handle(&mut self, event: Event) {
        let Self { io, sessions, deliveries, opening, social, .. } = self;
        match event {
            Event::Open { conn, hello, response, ended } => {
                opening.open(io, sessions, &mut deliveries.catching_up, conn, &hello, (response, ended));
            }
            Event::PeerEnded { conn } => sessions.peer_ended(conn),
            Event::Command { conn, command } => self.command(conn, command),
            Event::Unreadable { conn, refused } => self.unreadable(conn, &refused),
            Event::Ping { conn, payload } => sessions.ping(io, conn, &payload),
            Event::Pong { conn, payload } => sessions.pong(io, conn, &payload),
            Event::Spent { conn, bytes, fragments, inflated } => sessions.spent(io, conn, bytes, fragments, inflated),
            Event::PeerClosed { conn, code } => sessions.peer_closed(io, conn, code),
            Event::Violation { conn, code } => sessions.close(io, conn, code),
            Event::RecordUntaken { conn } => sessions.make_way(io, conn, Slowness::Budget),
            Event::Gone { conn } => sessions.gone(io, conn),
            Event::Overdrawn { bytes } => self.overdrawn(bytes),
            Event::Shed { bytes } => self.shed(bytes),
            Event::Peer { from, msg } => self.peer(from, msg),
            Event::Far(FarIn::Row(row)) => self.home.far_row(io, *row),
            Event::Far(FarIn::Head { conv, lowest, newest }) => self.home.far_head(io, conv, lowest, newest),
            Event::Far(FarIn::Word(word)) => social.far_word(io, sessions, word),
            Event::Far(FarIn::Said(said)) if said.to_all => {
                if deliveries.announce(io, sessions, said.sender, &said.body, said.ts_ms) != Answer::Done {
                    io.lane_dropped(said.conv);
                }
            }
            Event::Far(FarIn::Said(said)) => self.home.far_said(io, &said),
            Event::Far(FarIn::Elsewhere { rows }) => social.far_presence(io, sessions, &rows),
            Event::Far(FarIn::Census) => {
                let users = sessions.roster.all_online(&sessions.table).into();
                io.push(Effect::Far(FarOut::Census { users }));
            }
            Event::Far(FarIn::Covered) => self.home.covered(io),
            Event::Far(FarIn::Ahead { ms }) => self.sessions.clocks_ahead(ms),
            Event::Far(FarIn::Alone { on }) => self.sessions.set_alone(io, on),
            Event::Settled { ask, reply } => self.settled(ask, reply),
            Event::Notice { id, notice } => self.notice(id, notice),
            Event::Credit { to, msgs, bytes } => io.lanes.set_credit(to, msgs, bytes),
            Event::Adjusted(to) => self.adjust(&to),
            Event::TurnEnd => self.turn_end(),
            Event::Sweep => deliveries.sweep(io, sessions),
            Event::Quiesce => self.quiesce(),
            Event::CloseAll(drain) => sessions.begin_drain(io, drain),
            Event::CloseSome { most } => sessions.close_some(io, most),
        }
    }

    fn peer(&mut self, from: ShardId, msg: PeerMsg) {
        let Self { io, home, sessions, deliveries, opening, posting, social, .. } = self;
        match msg {
            PeerMsg::Post(post) => home.home_post(io, from, post),
            PeerMsg::Posted(posted) => posting.posted(io, sessions, deliveries, *posted),
            PeerMsg::Deliver(delivery) => {
                opening.heard_for_nobody(io, sessions, delivery.conv);
                deliveries.delivery(io, sessions, delivery);
            }
            PeerMsg::Mark { conv, from, upto } => {
                opening.heard_for_nobody(io, sessions, conv);
                deliveries.missed(io, sessions, conv, from, upto);
            }
            PeerMsg::Cursor { user, conv, recv, read } => social.peer_cursor(io, sessions, user, conv, recv, read),
            PeerMsg::Typing { user, conv } => social.peer_typing(io, sessions, home, user, conv),
            PeerMsg::Watch { users } => social.peer_watch(io, sessions, from, &users),
            PeerMsg::Unwatch { users } => social.peer_unwatch(from, &users),
            PeerMsg::Presence { rows } => social.peer_presence(io, sessions, &rows),
            PeerMsg::Member { ask, group, user, change } => {
                opening.member(io, sessions, &mut deliveries.catching_up, (group, user), change);
                io.send(from, PeerMsg::MemberKnown { ask });
            }
            PeerMsg::MemberKnown { ask } => home.member_known(io, ask),
            PeerMsg::Interest { rows } => home.peer_interest(io, from, &rows),
            PeerMsg::InterestKnown => opening.interest_known(io, sessions, &mut deliveries.catching_up),
        }
    }

    fn settled(&mut self, ask: u32, reply: Reply) {
        let Self { io, home, sessions, deliveries, opening, posting, social, .. } = self;
        let catching_up = &mut deliveries.catching_up;
        let Some(purpose) = io.asks.settle(ask) else { broken("the store answers each ask once") };
        match purpose {
            Purpose::Open { conn } => opening.open_settled(io, sessions, catching_up, conn, reply.of()),
            Purpose::Heads { conn } => {
                let mut reply: Result<Heads, store::Error> = reply.of();
                if let (Ok(heads), Some(session)) = (&mut reply, sessions.table.get(conn)) {
                    social.add_newest(session.user, heads);
                }
                opening.heads_settled(io, sessions, catching_up, conn, reply);
            }
            Purpose::Convs { conn, user } => {
                let mut reply: Result<Heads, store::Error> = reply.of();
                if let Ok(heads) = &mut reply {
                    social.add_newest(user, heads);
                }
                posting.convs_settled(io, sessions, conn, user, reply);
            }
            Purpose::Mark { user, conv } => social.mark_settled(io, sessions, user, conv, reply.of()),
            Purpose::Cursor { user, conv } => social.cursor_settled(io, sessions, user, conv, reply.of()),
            Purpose::Sync { conn, of, after } => posting.sync_settled(io, sessions, conn, of, after, reply.of()),
            Purpose::CatchUp { conv, next } => {
                catching_up.catch_up_settled(io, sessions, (conv, next), reply.of());
            }
            Purpose::Gap { conv } => home.gap_settled(io, conv, reply.of()),
            Purpose::Head { conv } => home.head_settled(io, conv, reply.of()),
            Purpose::Append { post, .. } => home.append_settled(io, post, reply.of()),
            Purpose::Member { notice } => home.member_settled(io, notice, reply.of()),
        }
    }

    /// Nothing more is asked from now on, and nothing waits any longer than it must.
    fn quiesce(&mut self) {
        let Self { io, sessions, deliveries, posting, .. } = self;
        io.quiescing = true;
        posting.refuse_parked(io, sessions);
        deliveries.sweep_what_has_waited(sessions, u64::MAX);
        sessions.send_waiting_acks(io, u64::MAX);
    }

    fn turn_end(&mut self) {
        let Self { io, home, sessions, deliveries, opening, .. } = self;
        deliveries.sweep_what_has_waited(sessions, io.now_ms());
        deliveries.announce_some(io, sessions);
        sessions.send_waiting_acks(io, io.now_ms());
        home.send_marks(io);
        home.append_in_turn(io);
        home.end_patience(io);
        sessions.end_rests(io);
        sessions.tell_devices_again(io);
        sessions.look_after(io);
        opening.ask_about_arrivals(io, sessions);
        sessions.send_late_responses(io);
        for _ in 0..limits::TURN_TIMERS_MAX {
            let Some(retry) = self.io.retries.due(self.io.now_ms()) else { break };
            self.retry(retry);
        }
        let Self { io, home, sessions, deliveries, opening, social, .. } = self;
        deliveries.catching_up.catch_up_line(io, sessions);
        sessions.ask_confirmation(io);
        social.end_turn(io, sessions);
        opening.announce_interest(io, sessions);
        home.rest(io.now);
        self.check_next();
    }

    fn retry(&mut self, retry: Retry) {
        let Self { io, home, sessions, deliveries, opening, posting, social, .. } = self;
        match retry {
            Retry::Open(conn) => opening.ask_open(io, sessions, conn),
            Retry::Heads(conn) => opening.ask_heads(io, sessions, conn),
            Retry::Parked(conn) => posting.retry_parked(io, sessions, conn),
            Retry::CatchUp(conn) => deliveries.catching_up.retry_catch_up(io, sessions, conn),
            Retry::Introduction(conn) => deliveries.catching_up.retry_introduction(io, sessions, conn),
            Retry::Gap(conv) => home.retry_gap(io, conv),
            Retry::Marks(user) => social.ask_marks(io, user),
        }
    }

    /// All shards together keep `bytes` more alive than they may: the slowest go, until this shard
    /// has let go as much or is down to its equal part. Slowest is whose queued bytes times the
    /// time since its socket took the last one is the largest.
    fn overdrawn(&mut self, bytes: usize) {
        let Self { io, sessions, deliveries, .. } = self;
        let (before, part) = (io.held.bytes(), io.setup.outbox_part);
        if before <= part {
            return;
        }
        deliveries.catching_up.forget_pages(io);
        let target = before.saturating_sub(bytes).max(part);
        // A little more than asked for, so that a shard at its bound does not look for the slowest
        // in every turn.
        sessions.let_go_down_to(io, target - target / SLACK, Slowness::Budget);
    }

    /// The process takes more memory than it may: forgets what can be read again, and lets go of
    /// `bytes` of what is queued, if there is as much, as in [`Self::overdrawn`].
    fn shed(&mut self, bytes: usize) {
        let Self { io, home, sessions, deliveries, .. } = self;
        io.tally.caches_shed += 1;
        deliveries.catching_up.forget_pages(io);
        home.forget_idle(io.now);
        if bytes > 0 {
            sessions.let_go_down_to(io, io.held.bytes().saturating_sub(bytes), Slowness::Memory);
        }
    }

    /// Whose a session is, also while its end is under way; `None` for a guest's.
    #[must_use]
    pub fn user_of(&self, conn: ConnId) -> Option<UserId> {
        let session = self.sessions.table.get(conn)?;
        (session.profile != Profile::Room).then_some(session.user)
    }

    /// What is queued for a connection, to be looked at; `None` when nothing is.
    #[must_use]
    pub fn outbox(&self, conn: ConnId) -> Option<&Outbox> {
        self.sessions.table.get(conn)?.outbox.as_deref().filter(|outbox| !outbox.is_empty())
    }

    /// Bytes of memory that this shard keeps alive for its readers: everything queued in outboxes
    /// (shared frames and batches once), the lists themselves, and the pages of history that are
    /// kept for sessions that catch up.
    #[must_use]
    pub const fn held(&self) -> usize {
        self.io.held.bytes()
    }

    /// Whether [`Event::Sweep`] has something to do.
    #[must_use]
    pub fn sweep_due(&self) -> bool {
        !self.deliveries.sweeps().is_empty()
    }

    /// What the last [`Event::Sweep`] has cost: the members that it reached; one that was given its
    /// messages one by one counts as often.
    #[must_use]
    pub const fn swept(&self) -> usize {
        self.deliveries.sweeps().reached
    }

    /// Monotonic milliseconds at which [`Event::TurnEnd`] is due although nothing else happens;
    /// `None`: never.
    #[must_use]
    pub fn deadline_ms(&self) -> Option<u64> {
        let now_ms = self.io.now_ms();
        if self.sweep_due() || self.deliveries.announces() || self.deliveries.catching_up.is_due(&self.io) {
            return Some(now_ms);
        }
        [
            self.io.retries.next_ms(),
            self.home.next_ms(now_ms),
            self.sessions.next_ms(&self.io),
            self.deliveries.sweeps().next_ms(),
            self.opening.next_ms(),
            self.social.next_ms(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Asks of this shard that are not settled (store, posts, notices), and groups that are not
    /// swept. Zero after [`Event::Quiesce`] means that it may stop.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.io.asks.len() + self.posting.len() + self.home.outstanding() + self.deliveries.sweeps().len()
    }

    /// Slots whose sessions, if there are any, have not been told to end. Only of interest once
    /// [`Event::CloseAll`] was given.
    #[must_use]
    pub fn unreached(&self) -> usize {
        self.sessions.unreached()
    }

    /// Begins to count what takes the most, or ends it and gives what was counted.
    pub fn look(&mut self, on: bool) -> Option<TopReport> {
        let Self { io, sessions, .. } = self;
        io.counting.look(on, || sessions.queued())
    }

    /// The counters, with the gauges as they stand now.
    pub fn tally(&mut self) -> &Tally {
        let Self { io, home, .. } = self;
        io.tally.store_pending = io.asks.len() as u64;
        io.tally.conversations = home.len() as u64;
        io.tally.listened_groups = home.listened() as u64;
        io.tally.held = io.held.bytes() as u64;
        let deflated = io.deflater.counts();
        (io.tally.deflated, io.tally.deflated_vain) = (deflated.messages, deflated.vain);
        io.tally.deflated_bytes = [deflated.bytes, deflated.deflated_bytes];
        &io.tally
    }

    /// The messages that have come to their end here since the last call: each once, when the last
    /// session here was given it. To be called when a turn has been written.
    pub fn passages(&mut self) -> impl Iterator<Item = Passage> {
        self.io.passages.take()
    }
}

/// Of what a shard may keep, one part in so many is let go beyond what was asked for.
const SLACK: usize = 16;
