//! The thin shell around a shard: one thread, one poll, its sockets.
//!
//! Owns: the loop ([`Driver::run`]) and the order of a turn: sleep, take mail, accept, read, end
//! the turn, flush, settle the budgets, ring. The gate (`listener`, `preamble`, `addresses`,
//! `gate`, `heads`, `admission`, `handover`), the connections (`conn`, `table`, `transport`, `tls`,
//! `deadlines`), what is read (`ready`, `intake`, `inflating`, `echo`), what is kept of it
//! (`inbound`) and written (`flush`), the wishes of the shard (`wishes`), memory (`budget`,
//! `pressure`), the end of all sessions (`drain`), and what is told of it (`said`, `latencies`).
//! Never: decides anything about chat, and never calls the shard from inside one of its effects:
//! every step's effects are drained before the next event. Bounds: a turn by the `TURN_…` limits,
//! in bytes, steps and time of each of its parts; what is left stands on a list, and while a list
//! is not empty the loop does not sleep (edge-triggered polls do not repeat themselves). A
//! connection that used up its quantum is read last, and little.

mod addresses;
mod admission;
mod budget;
mod conn;
mod deadlines;
mod drain;
mod echo;
mod flush;
mod gate;
mod handover;
mod heads;
mod inbound;
mod inflating;
mod intake;
mod latencies;
mod listener;
mod preamble;
mod pressure;
mod ready;
mod said;
mod table;
mod tls;
mod transport;
mod wishes;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use std::{io, mem};

use mio::event::Event as Readiness;
use mio::{Events, Poll, Token};

use self::addresses::Addresses;
pub use self::addresses::{AddressCounts, AddressLimits};
use self::budget::Budget;
use self::conn::State;
use self::deadlines::Deadlines;
pub use self::handover::{HandOver, ReturnGate};
use self::latencies::Comers;
use self::listener::{Kind, Listener};
pub use self::listener::{bind, probe};
pub use self::pressure::Pressure;
use self::pressure::Shedding;
use self::ready::{Levels, Ready, Share};
use self::said::TooFastLines;
use self::table::{Table, id_of};
use self::tls::Tls;
pub use self::transport::Transport;
use crate::caller::Judge;
use crate::clock::{Clock, Now};
use crate::fair::{Holdings, Network, WaitingLine};
use crate::hooks::Hooks;
use crate::ids::ConnId;
use crate::limits::{
    BUDGET_LOOK_MS, CLOSE_MS_MAX, MEMORY_SHED_MS, POLL_EVENTS_MAX, READ_SCRATCH_BYTES, TURN_CALM_US, TURN_EXPIRES_MAX,
    TURN_FAR_MAX, TURN_HANDOVERS_MAX, TURN_MAIL_MAX, TURN_PART_PRESSED_US, TURN_PART_US, TURN_PRESSED_MS,
    TURN_SWEEP_MAX, WRITE_SCRATCH_BYTES,
};
use crate::log::trail::Trails;
use crate::mesh::{Adjusted, ControlPlane, MeshEndpoint, Order, StopProgress, WAKER};
use crate::metrics::top::{Top, TopReport};
use crate::metrics::{DriverTally, Publisher};
use crate::shard::{Effects, Event, Setup, Shard};
use crate::store::worker::Store;
use crate::threads;
use crate::wire::command::Parser;
use crate::ws::deflate::{Deflater, Inflater};

/// What a driver is told when it is made.
pub struct Parts {
    /// What the shard is told.
    pub setup: Setup,
    /// The process's clock.
    pub clock: Clock,
    /// The poll in which the waker is registered.
    pub poll: Poll,
    /// This shard's end of the mesh.
    pub endpoint: MeshEndpoint<HandOver>,
    /// One listening socket per public address.
    pub listeners: Vec<TcpListener>,
    /// The same for addresses whose connections begin with a header of the PROXY protocol.
    pub proxy_listeners: Vec<TcpListener>,
    /// The same for addresses whose connections are TLS.
    pub tls_listeners: Vec<TcpListener>,
    /// What begins their handshakes.
    pub acceptor: Option<imgate_tls::Acceptor>,
    /// The database.
    pub store: Store,
    /// The way to plain HTTP.
    pub http: Arc<dyn ControlPlane>,
    /// Judges heads: whose they are, and from where.
    pub judge: Arc<Judge>,
    /// What webhooks are told.
    pub hooks: Hooks,
    /// Where sessions are written down, and logins that failed.
    pub trails: Trails,
    /// Where the counters are published.
    pub publisher: Publisher,
    /// Connections of the process, and how many there may be.
    pub conns: Arc<AtomicUsize>,
    /// See [`crate::config::Config::max_connections`].
    pub conns_max: usize,
    /// Bytes that all outboxes of the process keep alive, and how many these may be.
    pub held: Arc<AtomicUsize>,
    /// See [`crate::config::Config::outbox_budget`].
    pub held_max: usize,
    /// Bytes that are kept of what clients have begun to send, and how many these may be.
    pub inbound: Arc<AtomicUsize>,
    /// See [`crate::config::Config::inbound_budget`].
    pub inbound_max: usize,
    /// What the process takes of memory, and what it may take.
    pub pressure: Arc<Pressure>,
    /// What an address may have of the gate.
    pub address_limits: AddressLimits,
    /// What each address has of it.
    pub address_counts: Arc<AddressCounts>,
    /// See [`crate::config::Config::send_buffer`].
    pub send_buffer: usize,
    /// How long a request head may take, at most [`crate::limits::HEAD_MS_MAX`].
    pub head_ms_max: u64,
    /// How long a message may take, at most [`crate::limits::MESSAGE_MS_MAX`].
    pub message_ms_max: u64,
    /// Whether messages are compressed for clients that ask for it.
    pub compression: bool,
    /// Whether the hidden echo route exists.
    pub echo: bool,
    /// Whether `/chatroom` exists.
    pub room: bool,
}

/// How far a stop has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Serving,
    /// Waits for its asks.
    Quiescing,
    /// All asks were settled, and the node knows.
    Quiet,
    /// Waits for its connections to end.
    Closing,
    /// None is left, and the node knows.
    Empty,
    /// The thread ends.
    Over,
}

/// One shard's thread.
pub struct Driver {
    shard: Shard,
    effects: Effects,
    now: Now,
    /// Monotonic nanoseconds at which the turn began, and at which the last one ended.
    began_ns: u64,
    ended_ns: u64,
    /// Until then the parts of a turn are short.
    pressed_until_ns: u64,
    clock: Clock,
    poll: Poll,
    endpoint: MeshEndpoint<HandOver>,
    store: Store,
    /// Something was asked of it in this turn.
    asked: bool,
    /// When each ask of the store was given to it, by its number: monotonic nanoseconds.
    asked_ns: Vec<u64>,
    http: Arc<dyn ControlPlane>,
    judge: Arc<Judge>,
    hooks: Hooks,
    trails: Trails,
    too_fast: TooFastLines,
    publisher: Publisher,
    tally: DriverTally,
    listeners: Vec<Listener>,
    table: Table,
    tls: Option<Tls>,
    budget: Budget,
    /// Time of a part of the turn, in microseconds.
    part_us: u64,
    /// Connections that may have bytes for us.
    ready: Ready,
    /// Connections that have bytes for the kernel, each once (`Conn::dirty`).
    dirty: Levels,
    /// What each connection has begun to send and is kept.
    inbound: Holdings<ConnId>,
    inbound_budget: Budget,
    pressure: Arc<Pressure>,
    /// Monotonic milliseconds before which nothing is let go again.
    shed_ms: u64,
    message_ms_max: u64,
    /// Frames decoded so far.
    frames: u64,
    /// Connections that are broken or done; reaped between steps, never inside one.
    closed: Vec<ConnId>,
    /// Connections without a whole head.
    heads: WaitingLine<ConnId>,
    head_deadlines: Deadlines,
    addresses: Addresses,
    comers: Comers,
    /// The listener that is asked first in this turn.
    next_listener: usize,
    closings: Deadlines,
    send_buffer: usize,
    read_scratch: Box<[u8]>,
    write_scratch: Box<[u8]>,
    parser: Parser,
    /// Opens compressed messages; made for the first one.
    inflater: Option<Box<Inflater>>,
    /// Compresses what the echo route says.
    echo_deflater: Deflater,
    compression: bool,
    echo: bool,
    room: bool,
    stage: Stage,
    /// While the connections that are no sessions are ended: the slot that is looked at next.
    sessionless: Option<usize>,
    /// Connections by network, while an operator looks at what takes the most.
    counted: Option<Box<Top<Network>>>,
}

/// The token of listener `i` counts down from below the waker; those of connections have a slot in
/// their lower half, and no slot is so high.
const fn listener_token(i: usize) -> Token {
    Token(WAKER.0 - 1 - i)
}

impl Driver {
    /// Takes its place in front of the sockets.
    ///
    /// # Errors
    /// A listener cannot be registered.
    pub fn new(parts: Parts) -> io::Result<Self> {
        let registry = parts.poll.registry();
        let shards = parts.setup.shards;
        let of_kind = |sockets: Vec<TcpListener>, kind| sockets.into_iter().map(move |socket| (socket, kind));
        let listeners = of_kind(parts.listeners, Kind::Plain)
            .chain(of_kind(parts.proxy_listeners, Kind::Proxied))
            .chain(of_kind(parts.tls_listeners, Kind::Tls))
            .enumerate()
            .map(|(i, (socket, kind))| Listener::new(socket, registry, listener_token(i), kind));
        Ok(Self {
            listeners: listeners.collect::<io::Result<_>>()?,
            shard: Shard::new(parts.setup),
            effects: Effects::default(),
            now: parts.clock.now(),
            began_ns: parts.clock.nanos(),
            ended_ns: parts.clock.nanos(),
            pressed_until_ns: 0,
            clock: parts.clock,
            poll: parts.poll,
            endpoint: parts.endpoint,
            store: parts.store,
            asked: false,
            asked_ns: Vec::new(),
            http: parts.http,
            judge: parts.judge,
            hooks: parts.hooks,
            trails: parts.trails,
            too_fast: TooFastLines::new(),
            publisher: parts.publisher,
            tally: DriverTally::default(),
            table: Table::new(parts.conns, parts.conns_max),
            tls: parts.acceptor.map(Tls::new),
            budget: Budget::new(parts.held, parts.held_max, parts.setup.outbox_part),
            part_us: TURN_PART_US,
            ready: Ready::default(),
            dirty: Levels::default(),
            inbound: Holdings::default(),
            inbound_budget: Budget::new(
                parts.inbound,
                parts.inbound_max,
                parts.inbound_max / usize::from(shards.max(1)),
            ),
            pressure: parts.pressure,
            shed_ms: 0,
            message_ms_max: parts.message_ms_max,
            frames: 0,
            closed: Vec::new(),
            heads: WaitingLine::default(),
            head_deadlines: Deadlines::new(parts.head_ms_max),
            addresses: Addresses::new(parts.address_limits, parts.address_counts, shards),
            comers: Comers::default(),
            next_listener: 0,
            closings: Deadlines::new(CLOSE_MS_MAX),
            send_buffer: parts.send_buffer,
            read_scratch: vec![0; READ_SCRATCH_BYTES].into(),
            write_scratch: vec![0; WRITE_SCRATCH_BYTES].into(),
            parser: Parser::default(),
            inflater: None,
            echo_deflater: Deflater::new(0),
            compression: parts.compression,
            echo: parts.echo,
            room: parts.room,
            stage: Stage::Serving,
            sessionless: None,
            counted: None,
        })
    }

    /// Turns until the node orders the end.
    ///
    /// # Errors
    /// The poll is broken; the process cannot go on.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(POLL_EVENTS_MAX);
        while self.stage != Stage::Over {
            self.sleep(&mut events)?;
            self.turn(&events);
        }
        Ok(())
    }

    /// One turn. Its order matters where it says so, and nowhere else.
    fn turn(&mut self, events: &Events) {
        self.part_us = if self.began_ns < self.pressed_until_ns { TURN_PART_PRESSED_US } else { TURN_PART_US };
        // Before anything is said to another shard in this turn.
        self.tell_credits();
        // Answers before questions: they free places.
        self.take_mail();
        for event in events {
            self.note(event);
        }
        // New connections, and all that leave others time, the least busy first.
        self.accept();
        self.read_light();
        // After the sessions that stand, whatever it costs.
        self.step_handshakes();
        if !self.ready.is_empty() {
            // What the others are told does not wait for connections that take much.
            self.flush_dirty();
            self.read_heavy();
        }
        self.expire();
        if self.stage == Stage::Closing {
            self.close_some();
        }
        // After all events of the turn, before what they caused is written.
        self.end_turn();
        self.flush_dirty();
        self.settle_budget();
        self.settle_inbound();
        self.reap();
        self.report();
        self.ended_ns = self.clock.nanos();
        self.note_latencies();
        if !self.ready.is_empty() || self.ended_ns.saturating_sub(self.began_ns) > TURN_CALM_US * 1000 {
            self.pressed_until_ns = self.ended_ns + TURN_PRESSED_MS * NS_PER_MS;
        }
        // Last: whoever is woken finds everything.
        if mem::take(&mut self.asked) {
            self.store.ring();
        }
        let woken = self.endpoint.flush(self.ended_ns);
        self.publish(woken);
    }

    /// Waits for the kernel, another thread or the next deadline.
    fn sleep(&mut self, events: &mut Events) -> io::Result<()> {
        // Armed first, looked into afterwards: see `mesh::waker`.
        let timeout = if self.endpoint.arm() { self.patience() } else { Some(Duration::ZERO) };
        if !self.ready.is_empty() {
            // Whoever sends more than fits into a turn has threads of the store wait for this core,
            // perhaps.
            threads::step_aside();
        }
        let polled = self.poll.poll(events, timeout);
        self.endpoint.disarm();
        self.began_ns = self.clock.nanos();
        self.now = Clock::now_at(self.began_ns);
        self.publisher.begin_turn(self.began_ns);
        self.tally.asleep_ns += self.began_ns.saturating_sub(self.ended_ns);
        self.tally.events += events.iter().count() as u64;
        match polled {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    /// How long there is nothing to do.
    fn patience(&self) -> Option<Duration> {
        let busy = !self.ready.is_empty()
            || self.dirty.len() > 0
            || !self.closed.is_empty()
            || self.tls.as_ref().is_some_and(Tls::is_busy)
            || self.shard.sweep_due()
            || self.sessionless.is_some()
            || self.listeners.iter().any(|listener| listener.ready);
        if busy {
            return Some(Duration::ZERO);
        }
        let retry = self.endpoint.stuck().then_some(self.now.mono_ms + LANE_RETRY_MS);
        let sheds = self.pressure.shedding() > Shedding::Newcomers;
        let look = (sheds || self.budget.watches() || self.inbound_budget.watches())
            .then_some(self.now.mono_ms + BUDGET_LOOK_MS);
        let accepts = self.listeners.iter().filter_map(Listener::look_ms).min();
        let deadlines = [
            self.shard.deadline_ms(),
            self.head_deadlines.next_ms(),
            self.message_due_ms(),
            self.closings.next_ms(),
            accepts,
            retry,
            look,
        ];
        let next_ms = deadlines.into_iter().flatten().min()?;
        // From the end of the turn, not from its start: it may have swept for milliseconds. The
        // poll rounds up to its whole milliseconds, so the wake is up to one late and never early,
        // and a deadline that has come does not spin.
        let next_ns = next_ms.saturating_mul(NS_PER_MS);
        Some(Duration::from_nanos(next_ns.saturating_sub(self.ended_ns)))
    }

    /// Notes what the kernel says about a socket.
    fn note(&mut self, event: &Readiness) {
        if event.token() == WAKER {
            return;
        }
        let token = event.token();
        if let Some(listener) = self.listeners.get_mut(WAKER.0 - 1 - token.0) {
            listener.ready = true;
            return;
        }
        let id = id_of(token);
        let Some(conn) = self.table.get_mut(id) else { return };
        if event.is_read_closed() {
            conn.note_end();
        }
        let deaf = matches!(&conn.state, State::Open(open) if open.paused);
        if event.is_writable() && mem::take(&mut conn.blocked) {
            self.mark_dirty(id);
        }
        if deaf && (event.is_error() || event.is_write_closed()) {
            // A paused session is not read, so it would never be found out.
            self.mark_closed(id);
        } else if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.list(id);
        }
        if deaf && event.is_read_closed() {
            // It is read when it has opened, and must not have taken a place by then.
            self.give(Event::PeerEnded { conn: id });
        }
    }

    /// Tells the shard the credit of its lanes.
    fn tell_credits(&mut self) {
        let mut credits = Vec::new();
        self.endpoint.credits(|to, msgs, bytes| credits.push(Event::Credit { to, msgs, bytes }));
        for credit in credits {
            self.give(credit);
        }
    }

    /// Takes what other threads have sent, of each kind so much that none waits for another.
    fn take_mail(&mut self) {
        while let Some(order) = self.endpoint.order() {
            self.obey(order);
        }
        let mut share = Share::new(usize::MAX, TURN_MAIL_MAX, self.part_us);
        while !share.is_spent(|| self.clock.nanos()) {
            let Some((ask, reply)) = self.endpoint.settled() else { break };
            self.note_answer(ask);
            self.give(Event::Settled { ask, reply });
            self.count_mail(&mut share);
        }
        let mut share = Share::new(usize::MAX, TURN_MAIL_MAX, self.part_us);
        while !share.is_spent(|| self.clock.nanos()) {
            let Some((from, msg)) = self.endpoint.peer() else { break };
            if let Some(arrival) = self.endpoint.arrived() {
                let hop_ns = self.clock.nanos().saturating_sub(arrival.sent_ns);
                self.publisher.hopped(hop_ns, arrival.msgs, self.now.mono_ms);
            }
            self.give(Event::Peer { from, msg });
            self.count_mail(&mut share);
        }
        for _ in 0..TURN_FAR_MAX {
            let Some(far) = self.endpoint.heard_far() else { break };
            self.give(Event::Far(far));
            self.tally.mail += 1;
        }
        let mut share = Share::new(usize::MAX, TURN_MAIL_MAX, self.part_us);
        while !share.is_spent(|| self.clock.nanos()) {
            let Some((id, notice)) = self.endpoint.notice() else { break };
            self.give(Event::Notice { id, notice });
            self.count_mail(&mut share);
        }
        let mut share = Share::new(usize::MAX, TURN_HANDOVERS_MAX, self.part_us);
        while !share.is_spent(|| self.clock.nanos()) {
            let Some(handed) = self.endpoint.handed_over() else { break };
            self.receive(*handed);
            self.count_mail(&mut share);
        }
    }

    /// Notes when the store is asked; the answer has the same number.
    fn note_ask(&mut self, ask: u32) {
        let place = ask as usize;
        if self.asked_ns.len() <= place {
            self.asked_ns.resize(place + 1, 0);
        }
        if let Some(asked_ns) = self.asked_ns.get_mut(place) {
            *asked_ns = self.began_ns;
        }
    }

    fn note_answer(&mut self, ask: u32) {
        if let Some(&asked_ns) = self.asked_ns.get(ask as usize) {
            let took_ns = self.began_ns.saturating_sub(asked_ns);
            self.tally.answers.record(took_ns);
        }
    }

    fn count_mail(&mut self, share: &mut Share) {
        self.tally.mail += 1;
        share.take(0, 1);
    }

    /// Obeys the node.
    fn obey(&mut self, order: Order) {
        match order {
            Order::Adjust(to) => self.adjust(&to),
            Order::StopAccepting => self.listeners.clear(),
            Order::Quiesce => {
                self.stage = Stage::Quiescing;
                self.give(Event::Quiesce);
            }
            Order::CloseAll(drain) => {
                self.stage = Stage::Closing;
                self.begin_drain(drain);
            }
            Order::Exit => {
                self.stage = Stage::Over;
                self.leave();
            }
        }
    }

    /// Goes by other settings from now on.
    fn adjust(&mut self, to: &Adjusted) {
        self.judge = Arc::clone(&to.judge);
        self.compression = to.compression;
        self.addresses.adjust(to);
        self.give(Event::Adjusted(Box::new(to.shard)));
    }

    /// Ends what has taken too long.
    fn expire(&mut self) {
        self.end_slow_messages();
        for _ in 0..TURN_EXPIRES_MAX {
            let Some(id) = self.head_deadlines.due(self.now.mono_ms) else { break };
            self.head_expired(id);
        }
        for _ in 0..TURN_EXPIRES_MAX {
            let Some(id) = self.closings.due(self.now.mono_ms) else { break };
            if self.table.get(id).is_some_and(|conn| matches!(conn.state, State::Closing(_))) {
                self.mark_closed(id);
            }
        }
    }

    /// Lets the shard do what is due, and its sweeps as far as the turn's budget goes.
    fn end_turn(&mut self) {
        self.reap();
        self.give(Event::TurnEnd);
        if !self.shard.sweep_due() {
            return;
        }
        let end_ns = self.clock.nanos() + self.part_us * 1000;
        let mut reached = 0;
        while self.shard.sweep_due() && reached < TURN_SWEEP_MAX {
            self.give(Event::Sweep);
            // A chunk that reached no member still counts: a turn ends.
            reached += self.shard.swept().max(1);
            if self.clock.nanos() >= end_ns {
                break;
            }
        }
    }

    /// Tells the shard when all shards together keep too much alive for their readers, or the
    /// process takes too much memory. After the flush, so that only what the sockets did not take
    /// counts.
    fn settle_budget(&mut self) {
        if let Some(bytes) = self.budget.settle(self.held()) {
            self.give(Event::Overdrawn { bytes });
            // What the shard has no right to, or does not have, is in records.
            if let Some(bytes) = self.budget.settle(self.held()) {
                self.let_go_of_records(bytes);
                self.budget.settle(self.held());
            }
        }
        let bytes = match self.pressure.shedding() {
            Shedding::Nothing | Shedding::Newcomers => return,
            Shedding::Caches => 0,
            Shedding::Readers(excess) => usize::try_from(excess).unwrap_or(usize::MAX),
        };
        if self.now.mono_ms >= self.shed_ms {
            self.shed_ms = self.now.mono_ms + MEMORY_SHED_MS;
            self.give(Event::Shed { bytes });
        }
    }

    /// What is kept for readers: what the shard keeps, and rests of TLS records.
    fn held(&self) -> usize {
        self.shard.held() + self.unsent_bytes()
    }

    /// Tells the node when a stage of the stop is over.
    fn report(&mut self) {
        match self.stage {
            Stage::Quiescing if self.shard.outstanding() == 0 => {
                self.stage = Stage::Quiet;
                self.endpoint.report(StopProgress::Quiet(self.endpoint.me()));
            }
            Stage::Closing if self.table.len() == 0 => {
                self.stage = Stage::Empty;
                self.endpoint.report(StopProgress::Empty(self.endpoint.me()));
            }
            _ => {}
        }
    }

    /// Begins to count what takes the most, or ends it, as an operator wants it.
    fn look(&mut self, on: bool) {
        if on {
            self.counted = Some(Box::default());
        }
        let counted = self.shard.look(on);
        if let (false, Some(top)) = (on, counted) {
            let networks = self.counted.take().map(|counted| counted.rows()).unwrap_or_default();
            self.publisher.hand_in(TopReport { networks, ..top });
        }
    }

    /// Shows the counters.
    fn publish(&mut self, woken: u64) {
        let looked_at = self.publisher.is_looked_at();
        if looked_at != self.counted.is_some() {
            self.look(looked_at);
        }
        let (inbound, unsent) = (self.inbound_bytes() as u64, self.unsent_bytes() as u64);
        let tally = &mut self.tally;
        tally.turns += 1;
        tally.wakes += woken;
        tally.connections = self.table.len() as u64;
        tally.heads_pending = self.heads.len() as u64;
        tally.heavy = self.ready.heavy() as u64;
        tally.frames = self.frames;
        (tally.inbound, tally.unsent) = (inbound, unsent);
        tally.inbox = self.endpoint.waiting() as u64;
        self.publisher.publish(
            self.ended_ns.saturating_sub(self.began_ns),
            self.now.mono_ms,
            self.shard.tally(),
            tally,
        );
        self.publisher.end_turn();
    }
}

/// Nanoseconds in a millisecond.
const NS_PER_MS: u64 = 1_000_000;
/// Pause before a lane that had no room for a batch is tried again; its receiver works off a batch
/// in far less.
const LANE_RETRY_MS: u64 = 1;
