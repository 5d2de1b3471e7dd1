//! The connections of one engine thread: opening them at a pace, queueing frames, losing them.
//!
//! Owns: [`Net`], what an [`crate::engine::Actor`] may do with its members' connections, and the
//! table behind it.
//! Never: blocks; reads the clock; knows what the messages mean.
//! Bounds: connection attempts under way and per second by the plan; bytes queued for one
//! connection by [`OUT_BYTES_MAX`].

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use imgate_client::link::narrow;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

use crate::board::{Board, Lane, Phase};
use crate::clock::Clock;
use crate::frame::{Decoder, Opcode, encode};
use crate::http::Door;
use crate::interrupt::Interrupt;
use crate::limits::{
    CONNECT_NS_MAX, CONNECT_TRIES_MAX, OUT_BYTES_MAX, RETRY_NS, RETRY_NS_MAX, SLOT_JITTER_NS, STALLED_RECEIVE_BYTES,
    TURN_DIALS_MAX,
};
use crate::report::Report;
use crate::split::control::Fleet;
use crate::stamp::Run;
use crate::timeline::Timeline;
use crate::tokens::Tokens;
use crate::upgrade::{Handshake, Profile};
use imgate_client::pipe::{Pipe, Tls};

/// What all threads of a run know about the target.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The gateways; at least one. Each connection goes to the next one, so that the two of a pair
    /// are on different ones.
    pub(crate) doors: Vec<Door>,
    /// Connections are TLS.
    pub(crate) tls: Option<Tls>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) profile: Profile,
    /// Messages are to come compressed.
    pub(crate) compress: bool,
    /// Nanoseconds between two attempts of one thread.
    pub(crate) dial_gap_ns: u64,
    /// Attempts under way of one thread.
    pub(crate) connecting_max: usize,
    /// Source addresses in 127.0.0.0/8; 0: the system chooses.
    pub(crate) sources: u8,
    /// Whether a connection that goes is opened again.
    pub(crate) reconnect: bool,
    /// Members from this place among all on are the readers that stall: their receive buffers are
    /// small.
    pub(crate) narrow_from: usize,
    /// Members from this place among all on are watched only if their place is a multiple of
    /// `watched_every`; the others are read at leisure.
    pub(crate) leisure_from: usize,
    pub(crate) watched_every: usize,
    pub(crate) interrupt: Interrupt,
    pub(crate) clock: Clock,
    /// What the messages of this run are called.
    pub(crate) run: Run,
    /// The lanes of all threads of a run, be they here or on workers.
    pub(crate) board: Board,
    /// Those of this process: on a control none.
    pub(crate) own: std::ops::Range<usize>,
    /// The workers that do the work, on a control.
    pub(crate) fleet: Option<Fleet>,
    /// The run second by second, if that is wanted.
    pub(crate) timeline: Option<Timeline>,
}

impl Plan {
    /// The gateway of a connection.
    pub(crate) fn door(&self, lane: usize, member: u32) -> &Door {
        &self.doors[(lane + member as usize) % self.doors.len()]
    }

    /// The first gateway, for what is not a connection.
    pub(crate) fn host(&self) -> &str {
        self.doors.first().map_or("", |door| &door.host)
    }

    /// An empty timeline, with room for each thread of this process or each worker.
    pub(crate) fn empty_timeline(&self) -> Timeline {
        Timeline::new(self.fleet.as_ref().map_or_else(|| self.own.len(), Fleet::len))
    }

    /// Tells about each worker, if there are any.
    pub(crate) fn tell_workers(&self, report: &mut Report) {
        if let Some(fleet) = &self.fleet {
            fleet.tell(report, self);
        }
    }
}

/// Where a connection stands.
#[derive(Debug)]
pub(crate) enum ConnStage {
    /// Not dialled yet, or waiting to be dialled again.
    Off,
    Connecting,
    Upgrading(Box<Handshake>),
    Open,
    /// We have sent our close frame.
    Closing,
    /// Will not be opened again.
    Gone,
}

/// One member's connection. Idle, it owns no heap memory.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) stream: Option<Pipe>,
    pub(crate) stage: ConnStage,
    pub(crate) decoder: Decoder,
    /// Messages may come compressed.
    pub(crate) deflate: bool,
    /// Bytes not yet taken by the kernel, and how many of them are done.
    out: Option<Box<(Vec<u8>, usize)>>,
    /// Which user, by place in the tokens file.
    login: u32,
    /// Tells readiness of this socket from that of an earlier one of the same member.
    generation: u32,
    /// When the attempt began that made or will make it.
    dialled_ns: u64,
    /// Attempts since it was last open.
    tries: u32,
    was_open: bool,
    /// For how many milliseconds the gateway wants it to stay away; 0: it has not said.
    away_ms: u32,
    /// It closes because it wants to be opened anew.
    comes_back: bool,
    dirty: bool,
}

/// The connections of one thread, by member: 0 up to their number.
#[derive(Debug)]
pub(crate) struct Net {
    plan: Arc<Plan>,
    lane: usize,
    registry: Registry,
    pub(crate) conns: Vec<Conn>,
    dirty: Vec<u32>,
    random: u64,
    dialer: Dialer,
}

#[derive(Debug, Default)]
struct Dialer {
    /// Members below have been dialled at least once.
    next: usize,
    /// When the pace allows the next attempt.
    at_ns: u64,
    connecting: usize,
    /// As fast as it goes, and all at once.
    unpaced: bool,
    /// When attempts under way end, oldest first: all have the same time.
    deadlines: VecDeque<(u64, u32, u32)>,
    /// Members to dial again, and when.
    again: BinaryHeap<Reverse<(u64, u32)>>,
}

impl Net {
    pub(crate) fn new(plan: Arc<Plan>, lane: usize, registry: Registry, logins: &[u32], random: u64) -> Self {
        let conn = |&login: &u32| Conn {
            stream: None,
            stage: ConnStage::Off,
            decoder: Decoder::default(),
            deflate: false,
            out: None,
            login,
            generation: 0,
            dialled_ns: 0,
            tries: 0,
            was_open: false,
            away_ms: 0,
            comes_back: false,
            dirty: false,
        };
        let conns = logins.iter().map(conn).collect();
        Self { plan, lane, registry, conns, dirty: Vec::new(), random: random | 1, dialer: Dialer::default() }
    }

    // ---- for actors ---------------------------------------------------------------------------

    pub(crate) fn board(&self) -> &Board {
        &self.plan.board
    }

    /// This thread's counters.
    pub(crate) fn lane(&self) -> &Lane {
        &self.plan.board.lanes[self.lane]
    }

    pub(crate) fn is_open(&self, member: u32) -> bool {
        matches!(self.conns[member as usize].stage, ConnStage::Open)
    }

    /// Queues a text. False: the connection is not open, or the server has not taken a megabyte of
    /// what was sent before.
    pub(crate) fn send(&mut self, member: u32, text: &str) -> bool {
        self.queue(member, Opcode::Text, text.as_bytes())
    }

    /// Queues a ping.
    pub(crate) fn ping(&mut self, member: u32) -> bool {
        self.queue(member, Opcode::Ping, b"")
    }

    /// A number below `bound`, for jitter: a xorshift, since nothing here needs to be
    /// unpredictable.
    pub(crate) fn random_below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound.max(1)
    }

    /// When the attempt began that made a member's connection.
    pub(crate) fn dialled_ns(&self, member: u32) -> u64 {
        self.conns[member as usize].dialled_ns
    }

    /// Whether a member's messages are read as they come, so that their times mean something.
    pub(crate) fn is_watched(&self, member: u32) -> bool {
        let place = member as usize * self.plan.board.lanes.len() + self.lane;
        place < self.plan.leisure_from
            || place.is_multiple_of(self.plan.watched_every)
            || place >= self.plan.narrow_from
    }

    /// From now on connections are opened without a pace and without a bound on those under way.
    pub(crate) fn unpace(&mut self) {
        self.dialer.unpaced = true;
    }

    /// Lets a member's open connection go without a word. It stays away until it is told to
    /// [`Net::redial`].
    pub(crate) fn abandon(&mut self, member: u32) {
        if self.is_open(member) {
            self.release(member);
            self.lane().open.sub(1);
            self.conns[member as usize].stage = ConnStage::Off;
        }
    }

    /// Dials a member without a connection anew, as soon as the pace allows.
    pub(crate) fn redial(&mut self, member: u32, now_ns: u64) {
        self.conns[member as usize].stage = ConnStage::Off;
        self.dialer.again.push(Reverse((now_ns, member)));
    }

    /// Closes a member's connection as RFC 6455 wants it; when that is done, it is dialled anew.
    pub(crate) fn come_back(&mut self, member: u32) {
        self.close(member);
        self.conns[member as usize].comes_back = true;
    }

    // ---- for the engine -----------------------------------------------------------------------

    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Queues a frame; it leaves with everything else at the end of the turn.
    pub(crate) fn queue(&mut self, member: u32, opcode: Opcode, payload: &[u8]) -> bool {
        // The mask protects proxies from scripts in browsers (RFC 6455, section 10.3); here it only
        // has to be there.
        let mask = (self.random_below(u64::MAX) as u32).to_ne_bytes();
        let conn = &mut self.conns[member as usize];
        if !matches!(conn.stage, ConnStage::Open | ConnStage::Closing) {
            return false;
        }
        let out = conn.out.get_or_insert_default();
        if out.0.len() - out.1 + payload.len() > OUT_BYTES_MAX {
            return false;
        }
        encode(&mut out.0, opcode, payload, mask);
        self.mark(member);
        true
    }

    fn mark(&mut self, member: u32) {
        let conn = &mut self.conns[member as usize];
        if !conn.dirty {
            conn.dirty = true;
            self.dirty.push(member);
        }
    }

    /// Writes what is queued, one send per connection. Members whose socket failed are returned.
    pub(crate) fn flush(&mut self) -> Vec<(u32, io::Error)> {
        let mut broken = Vec::new();
        while let Some(member) = self.dirty.pop() {
            self.conns[member as usize].dirty = false;
            if let Err(error) = self.write(member) {
                broken.push((member, error));
            }
        }
        broken
    }

    /// Writes until nothing is left or the kernel takes no more; readiness brings us back.
    pub(crate) fn write(&mut self, member: u32) -> io::Result<()> {
        let conn = &mut self.conns[member as usize];
        let Some(stream) = &mut conn.stream else { return Ok(()) };
        stream.flush()?;
        let Some(out) = &mut conn.out else { return Ok(()) };
        let (bytes, done) = &mut **out;
        while *done < bytes.len() {
            match stream.write(&bytes[*done..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    *done += n;
                    self.plan.board.lanes[self.lane].bytes_sent.add(n as u64);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    bytes.drain(..std::mem::take(done));
                    return Ok(());
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        conn.out = None;
        Ok(())
    }

    /// Whether a member is one of the readers that stall.
    pub(crate) fn is_narrow(&self, member: u32) -> bool {
        member as usize * self.plan.board.lanes.len() + self.lane >= self.plan.narrow_from
    }

    /// The member whose present socket this token belongs to.
    pub(crate) fn member_of(&self, token: Token) -> Option<u32> {
        let (generation, member) = ((token.0 >> 32) as u32, token.0 as u32);
        let conn = self.conns.get(member as usize)?;
        (conn.generation == generation && conn.stream.is_some()).then_some(member)
    }

    /// Whether the TCP connection stands: then the upgrade is sent.
    pub(crate) fn connected(&mut self, member: u32) -> io::Result<bool> {
        let conn = &mut self.conns[member as usize];
        let Some(stream) = &conn.stream else { return Ok(false) };
        if !stream.is_connected()? {
            return Ok(false);
        }
        let (user, token) = self.plan.tokens.get(conn.login as usize);
        let begin = if self.plan.compress { Handshake::compressing } else { Handshake::new };
        let (handshake, request) = begin(&self.plan.door(self.lane, member).host, user, token, self.plan.profile);
        conn.deflate = handshake.deflates();
        conn.stage = ConnStage::Upgrading(Box::new(handshake));
        conn.out = Some(Box::new((request, 0)));
        self.mark(member);
        Ok(true)
    }

    /// The 101 has come. True: for the first time.
    pub(crate) fn upgraded(&mut self, member: u32) -> bool {
        let conn = &mut self.conns[member as usize];
        conn.stage = ConnStage::Open;
        conn.tries = 0;
        let first = !std::mem::replace(&mut conn.was_open, true);
        self.dialer.connecting -= 1;
        self.lane().open.add(1);
        if !first {
            self.lane().reopened.add(1);
        }
        first
    }

    /// Sends our close frame; what the server still sends is read until its own comes.
    pub(crate) fn close(&mut self, member: u32) {
        if self.is_open(member) && self.queue(member, Opcode::Close, &1000_u16.to_be_bytes()) {
            self.conns[member as usize].stage = ConnStage::Closing;
            self.lane().closing.add(1);
        }
    }

    /// Lets go of a socket and decides what becomes of the member. True: it was open, and nobody
    /// here wanted it closed. `last` says that trying again makes no sense.
    pub(crate) fn lose(&mut self, member: u32, now_ns: u64, last: bool, why: &dyn std::fmt::Display) -> bool {
        let stopping = self.board().phase() == Phase::Stopping;
        let Some(stage) = self.release(member) else { return false };
        let was_open = matches!(stage, ConnStage::Open | ConnStage::Closing);
        if matches!(stage, ConnStage::Closing) {
            self.lane().closing.sub(1);
        }
        if was_open {
            self.lane().open.sub(1);
        } else {
            self.dialer.connecting -= 1;
        }
        if stopping {
            return false;
        }
        if std::mem::take(&mut self.conns[member as usize].comes_back) {
            self.redial(member, now_ns);
            return false;
        }
        self.board().trouble(|| format!("{} {why}", if was_open { "a connection went:" } else { "cannot connect:" }));
        if was_open {
            self.lane().dropped.add(1);
        } else if self.conns[member as usize].was_open {
            self.lane().retried.add(1);
        }
        self.try_again(member, now_ns, last);
        was_open
    }

    /// Lets go of a member's socket. The stage in which it was; `None`: there was no socket.
    fn release(&mut self, member: u32) -> Option<ConnStage> {
        let conn = &mut self.conns[member as usize];
        let mut stream = conn.stream.take()?;
        // The socket closes anyway; a failure to deregister changes nothing.
        let _ = self.registry.deregister(&mut stream);
        (conn.decoder, conn.out) = (Decoder::default(), None);
        Some(std::mem::replace(&mut conn.stage, ConnStage::Gone))
    }

    /// This member is not polled from now on: the engine reads it now and then.
    pub(crate) fn read_at_leisure(&mut self, member: u32) {
        if let Some(stream) = &mut self.conns[member as usize].stream {
            // What is registered nevertheless is only read more often.
            let _ = self.registry.deregister(stream);
        }
    }

    /// The gateway has told a member when to come back.
    pub(crate) fn stay_away(&mut self, member: u32, ms: u64) {
        self.lane().slotted.add(1);
        self.conns[member as usize].away_ms = u32::try_from(ms).unwrap_or(u32::MAX);
    }

    /// Plans the next attempt, with a pause that doubles and jitter; or gives up.
    fn try_again(&mut self, member: u32, now_ns: u64, last: bool) {
        let jitter = self.random_below(1024);
        let reconnect = self.plan.reconnect;
        let conn = &mut self.conns[member as usize];
        conn.tries += 1;
        let hope = if conn.was_open { reconnect } else { conn.tries < CONNECT_TRIES_MAX };
        if last || !hope {
            if !conn.was_open || reconnect {
                self.lane().failed.add(1);
                self.lane().denied.add(u64::from(last));
            }
            return;
        }
        conn.stage = ConnStage::Off;
        let pause = (RETRY_NS << (conn.tries - 1).min(10)).min(RETRY_NS_MAX);
        // Between half of the pause and all of it, so that thousands do not come back at once.
        let mut wait = pause / 2 + pause / 2 * jitter / 1024;
        if conn.away_ms > 0 {
            let told = u64::from(std::mem::take(&mut conn.away_ms)) * 1_000_000;
            wait = wait.max(told + SLOT_JITTER_NS * jitter / 1024);
        }
        self.dialer.again.push(Reverse((now_ns + wait, member)));
    }

    /// Starts as many attempts as the pace allows, until the board's goal has been dialled. Returns
    /// when it wants to be called again.
    pub(crate) fn dial(&mut self, now_ns: u64) -> u64 {
        // Members are dealt to the threads in turn, so each dials its share of the goal.
        let lanes = self.board().lanes.len();
        let goal = self.board().goal().saturating_add(lanes - 1 - self.lane) / lanes;
        let gap = self.plan.dial_gap_ns;
        // After a pause the pace is not made up for by a burst.
        self.dialer.at_ns = self.dialer.at_ns.max(now_ns.saturating_sub(10_000_000));
        let mut dials = 0;
        while self.dialer.unpaced || self.dialer.connecting < self.plan.connecting_max {
            if dials == TURN_DIALS_MAX {
                return now_ns;
            }
            dials += 1;
            let due = self.dialer.again.peek().is_some_and(|Reverse((at, _))| *at <= now_ns);
            let fresh = self.dialer.next < goal.min(self.conns.len());
            if !due && !fresh {
                return self.dialer.again.peek().map_or(u64::MAX, |Reverse((at, _))| *at);
            }
            if self.dialer.at_ns > now_ns && !self.dialer.unpaced {
                return self.dialer.at_ns;
            }
            self.dialer.at_ns += gap;
            let again = if due { self.dialer.again.pop() } else { None };
            let member = match again {
                Some(Reverse((_, member))) => member,
                None => {
                    self.dialer.next += 1;
                    (self.dialer.next - 1) as u32
                }
            };
            if let Err(error) = self.start(member, now_ns) {
                self.board().trouble(|| format!("cannot connect: {error}"));
                self.try_again(member, now_ns, false);
            }
        }
        u64::MAX
    }

    /// Attempts whose time is over.
    pub(crate) fn overdue(&mut self, now_ns: u64) -> Vec<u32> {
        let mut late = Vec::new();
        while let Some((_, member, generation)) = self.dialer.deadlines.pop_front_if(|(at, _, _)| *at <= now_ns) {
            let conn = &self.conns[member as usize];
            if conn.generation == generation && matches!(conn.stage, ConnStage::Connecting | ConnStage::Upgrading(_)) {
                late.push(member);
            }
        }
        late
    }

    fn start(&mut self, member: u32, now_ns: u64) -> io::Result<()> {
        let address = self.plan.door(self.lane, member).address;
        let place = member as usize * self.plan.board.lanes.len() + self.lane;
        let source = (self.plan.sources > 0 && address.is_ipv4())
            .then(|| source((place % usize::from(self.plan.sources)) as u8));
        let socket = dial(address, source, self.is_narrow(member))?;
        let mut stream = Pipe::new(socket, self.plan.tls.as_ref())?;
        let conn = &mut self.conns[member as usize];
        conn.generation = conn.generation.wrapping_add(1) & 0x7fff_ffff;
        let token = Token((conn.generation as usize) << 32 | member as usize);
        self.registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        conn.stream = Some(stream);
        conn.stage = ConnStage::Connecting;
        conn.dialled_ns = now_ns;
        self.dialer.connecting += 1;
        self.dialer.deadlines.push_back((now_ns + CONNECT_NS_MAX, member, conn.generation));
        Ok(())
    }
}

/// Begins to connect, from `source` if there is one. `narrowed`: as a reader that stalls, with
/// small buffers.
pub(crate) fn dial(address: SocketAddr, source: Option<IpAddr>, narrowed: bool) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if narrowed {
        narrow(&socket, STALLED_RECEIVE_BYTES)?;
    }
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(e) => return Err(e),
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// The source address at a place: 127.0.0.1, 127.1.1.2, 127.2.2.3, … A local address has some
/// 28,000 ports to give.
pub(crate) fn source(place: u8) -> IpAddr {
    Ipv4Addr::new(127, place, place, place.saturating_add(1)).into()
}
