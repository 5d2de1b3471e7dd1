//! The gate: from an accepted socket to a session, to the control plane, or to the door.
//!
//! Owns: accepting, which connections are let in at all, carrying out the verdict on a head (which
//! `heads` waits for), hand-over to the shard that owns the user.
//! Never: blocks, and never lets a connection that is refused hang: it is told, and ends. The one
//! that connects too often is not told.
//! Bounds: [`TURN_ACCEPTS_MAX`], [`crate::config::Config::max_connections`], the shares of an
//! address (`addresses`).

use std::net::IpAddr;

use socket2::SockRef;

use super::addresses::{NetworkCounter, Visitor};
use super::admission::{AdmissionRules, Verdict, judge};
use super::conn::{Closing, Head, Open, Reports, State};
use super::echo::Echo;
use super::heads::awaits_head;
use super::listener::{Accepted, Kind};
use super::pressure::Shedding;
use super::ready::Share;
use super::table::{Table, token_of};
use super::transport::{Got, Took, Transport};
use super::{Driver, HandOver, Stage};
use crate::caller::{Peer, tell_untrusted};
use crate::fair::Holding;
use crate::http::Response;
use crate::ids::{ConnId, shard_of};
use crate::limits::{HTTP_SEND_BUFFER, TURN_ACCEPTS_MAX, TURN_PART_US, UNREAD_BYTES_MAX};
use crate::mesh::Wire;
use crate::metrics::proxies::Heard;
use crate::metrics::tally::GateRefusal;
use crate::metrics::top::Weights;
use crate::shard::{Event, Hello};
use crate::wire::Profile;
use crate::ws::deflate::Window;

impl Driver {
    /// Accepts what the listeners have, together up to their share of the turn.
    pub(super) fn accept(&mut self) {
        let mut share = Share::new(usize::MAX, TURN_ACCEPTS_MAX, TURN_PART_US);
        for _ in 0..self.listeners.len() {
            // Each of them is the first in turn.
            self.next_listener = (self.next_listener + 1) % self.listeners.len();
            let i = self.next_listener;
            if let Some(listener) = self.listeners.get_mut(i) {
                listener.wake(self.now.mono_ms);
            }
            while !share.is_spent(|| self.clock.nanos()) {
                let Some(listener) = self.listeners.get_mut(i).filter(|listener| listener.ready) else { break };
                let accepted = listener.accept(self.now.mono_ms, self.poll.registry());
                share.take(0, 1);
                match accepted {
                    Accepted::Conn(stream, address) => {
                        let kind = listener.kind;
                        self.tally.accepted += 1;
                        self.meet(Wire { socket: stream.into(), tls: None }, address, kind);
                    }
                    Accepted::Lost => self.tally.gate_refuse(GateRefusal::Gone),
                    Accepted::Nothing => {}
                    Accepted::Exhausted => self.tally.gate_refuse(GateRefusal::Descriptors),
                }
            }
        }
    }

    /// An accepted connection: lets it in if its address does not connect too often.
    fn meet(&mut self, wire: Wire, address: IpAddr, kind: Kind) {
        let visitor = self.addresses.visitor(Some(address));
        if let Some(counted) = &mut self.counted {
            counted.note(visitor.network, &Weights { opened: 1, ..Weights::default() });
        }
        if self.addresses.may_connect(visitor, self.now.mono_ms) {
            let state = match (kind, &self.tls) {
                (Kind::Tls, Some(tls)) => tls.begin(self.now.mono_ms).map(State::Handshake),
                // It has no listener without what is needed for a handshake.
                (Kind::Tls, None) => None,
                (Kind::Proxied, _) => Some(State::Head(Some(Head::behind_preamble()))),
                (Kind::Plain, _) => Some(State::Head(None)),
            };
            match state {
                Some(state) => self.receive_stranger(wire, visitor, state, &[]),
                None => self.tally.gate_refuse(GateRefusal::Handshake),
            }
        } else {
            // Closed at once, without a word: an answer would cost as much as letting it in.
            self.tally.gate_refuse(GateRefusal::ConnectRate);
        }
    }

    /// Hears the head of a connection of which `read` has come already, or waits for it.
    ///
    /// Most clients have sent it when they are accepted, so it is read before the poll knows of the
    /// connection: that saves a turn, and for those that are handed over the poll never hears of
    /// them at all. What comes between that read and the registration is reported by the
    /// registration.
    fn receive_stranger(&mut self, wire: Wire, visitor: Visitor, state: State, read: &[u8]) {
        let speaks_tls = matches!(state, State::Handshake(_));
        if self.pressure.shedding() >= Shedding::Newcomers {
            return self.brush_off(wire, speaks_tls, GateRefusal::Memory);
        }
        if self.addresses.is_full(visitor.origin) {
            return self.brush_off(wire, speaks_tls, GateRefusal::Address);
        }
        if !self.make_place() {
            return self.brush_off(wire, speaks_tls, GateRefusal::Busy);
        }
        let holding = if let State::Handshake(newcomer) = &state { newcomer.holding() } else { Holding::default() };
        let id = self.insert(wire, visitor.origin, state);
        self.comers.come(id, self.began_ns);
        self.inbound.change(id, Holding::default(), holding);
        if speaks_tls {
            self.read_handshake(id);
        } else if read.is_empty() {
            self.read_head(id);
        } else {
            self.hear_head(id, read);
        }
        self.register(id);
        if awaits_head(&self.table, id) {
            self.await_head(id, self.named_visitor(id).unwrap_or(visitor));
        }
    }

    /// Whether the process may have one more connection. If it has as many as it may, another of
    /// this shard goes for it: one that has not finished its head, or else one that is about to end
    /// anyway.
    fn make_place(&mut self) -> bool {
        if !self.table.full(self.http.connections()) {
            return true;
        }
        if let Some(id) = self.heads.oldest_of_busiest() {
            self.evict_head(id);
        } else {
            let table = &self.table;
            self.closings.skip(|id| is_closing(table, id));
            let Some(id) = self.closings.first() else { return false };
            self.mark_closed(id);
        }
        self.reap();
        !self.table.full(self.http.connections())
    }

    /// Tells a connection for which there is no place: 503. It gets no slot and is not waited
    /// for. A handshake is not made to say no: a client of TLS (`speaks_tls`) without a session
    /// hears nothing.
    fn brush_off(&mut self, wire: Wire, speaks_tls: bool, why: GateRefusal) {
        self.tally.gate_refuse(why);
        let mut transport = Transport::from_socket(wire.socket);
        // What it has sent is read, because the kernel answers unread bytes with a reset, which
        // takes the answer along.
        let read = match transport.read(&mut self.read_scratch) {
            Got::Bytes { n, .. } => n,
            Got::Nothing | Got::End | Got::Broken => 0,
        };
        let asked = self.read_scratch.get(..read).unwrap_or_default();
        let words = Response::Unavailable.to(asked, self.now.wall_ms);
        match (wire.tls, &mut self.tls) {
            (Some(mut session), Some(tls)) => tls.tell(&mut transport, &mut session, &words),
            (None, _) if !speaks_tls => drop(transport.write(&words)),
            _ => {}
        }
        transport.finish();
    }

    /// Gives a connection a slot, counted.
    fn insert(&mut self, wire: Wire, origin: NetworkCounter, state: State) -> ConnId {
        self.addresses.enter(origin);
        self.table.insert(wire, origin, state)
    }

    /// Gives a connection a slot and has the kernel report on it.
    fn admit(&mut self, wire: Wire, origin: NetworkCounter, state: State) -> ConnId {
        let id = self.insert(wire, origin, state);
        self.register(id);
        id
    }

    /// Has the kernel report on a connection that is still here.
    fn register(&mut self, id: ConnId) {
        let Some(conn) = self.table.get_mut(id).filter(|conn| !conn.closed) else { return };
        if conn.transport.register(self.poll.registry(), token_of(id)).is_ok() {
            conn.reports = Reports::Bytes;
        } else {
            self.tally.gate_refuse(GateRefusal::Descriptors);
            self.mark_closed(id);
        }
    }

    /// Takes a connection out, to be given to another thread.
    fn release(&mut self, id: ConnId) -> Option<Wire> {
        let (mut conn, tls) = self.remove(id)?;
        if conn.reports != Reports::Nothing
            && let Err(error) = conn.transport.deregister(self.poll.registry())
        {
            tracing::warn!(%error, "a connection could not be taken out of the poll");
            return None;
        }
        Some(Wire { socket: conn.transport.into_socket(), tls })
    }

    /// Takes what another thread hands over.
    pub(super) fn receive(&mut self, handed: HandOver) {
        if matches!(self.stage, Stage::Closing | Stage::Empty | Stage::Over) {
            return;
        }
        match handed {
            HandOver::Fresh { wire, read, peer } => {
                resize(&wire, self.send_buffer, self.send_buffer);
                let visitor = self.addresses.visitor(Some(peer.address));
                self.receive_stranger(wire, visitor, State::Head(Some(Head::of(peer))), &read);
            }
            HandOver::Proven { wire, origin, since_ns, unread, from, hello, response } => {
                let id = self.admit(wire, origin, State::Head(None));
                self.comers.come(id, since_ns);
                if self.table.get(id).is_some_and(|conn| !conn.closed) {
                    self.open(id, (hello, from), response, &unread);
                    self.note_records(id);
                }
            }
        }
    }

    /// Judges all that a connection has sent, and carries the verdict out. `told`: its other end,
    /// if it is not the socket's. Answers whether there was a verdict: whether the head is whole,
    /// or will never be.
    pub(super) fn judge_head(&mut self, id: ConnId, bytes: &[u8], told: Option<Peer>) -> bool {
        let Some(conn) = self.table.get(id) else { return true };
        let tls = conn.is_tls();
        let peer = || {
            let peer = told.or_else(|| conn.transport.peer())?;
            Some(Peer { tls: peer.tls || tls, ..peer })
        };
        let rules = AdmissionRules {
            judge: &self.judge,
            wall_ms: self.now.wall_ms,
            echo: self.echo,
            room: self.room,
            compression: self.compression,
        };
        match judge(bytes, rules, peer) {
            Verdict::Incomplete => return false,
            Verdict::Refused(why, response) => {
                self.say_refused(id, why, self.client_of(bytes, peer));
                self.refuse(id, why, response.to(bytes, self.now.wall_ms));
            }
            Verdict::BadToken { why, words } => {
                self.say_refused(id, why, self.client_of(bytes, peer));
                self.refuse(id, why, words);
            }
            Verdict::Http => match peer() {
                Some(peer) => self.give_to_http(id, bytes.to_vec(), peer),
                None => {
                    self.tally.gate_refuse(GateRefusal::Gone);
                    self.mark_closed(id);
                }
            },
            Verdict::Session { head_len, hello, response, heard } => {
                self.tally.proxied[heard as usize] += 1;
                self.tally.see(heard.sighting(), self.now.wall_ms);
                if matches!(heard, Heard::Untrusted | Heard::UntrustedPrivate)
                    && let Some(peer) = peer()
                {
                    tell_untrusted(peer, heard, self.tally.proxied[heard as usize]);
                }
                let from = self.client_of(bytes, peer);
                self.place(id, (hello, from), response, bytes.get(head_len..).unwrap_or_default());
            }
            Verdict::Echo { head_len, response, deflate } => {
                self.open_echo(id, &response, deflate, bytes.get(head_len..).unwrap_or_default());
            }
        }
        true
    }

    fn give_to_http(&mut self, id: ConnId, read: Vec<u8>, peer: Peer) {
        let Some(wire) = self.release(id) else { return };
        // Files are large, and their readers few.
        resize(&wire, self.send_buffer, HTTP_SEND_BUFFER);
        match self.http.serve(wire, read, peer) {
            Ok(()) => self.tally.http += 1,
            Err((wire, read)) => self.turn_away(wire, &read),
        }
    }

    /// Brings a proven connection to the shard of its user.
    fn place(&mut self, id: ConnId, (hello, from): (Hello, Option<IpAddr>), response: Vec<u8>, unread: &[u8]) {
        if unread.len() > UNREAD_BYTES_MAX {
            // Only a connection that the control plane gives back could have as much; what a
            // session may leave unread is less.
            self.refuse(id, GateRefusal::BadRequest, Response::BadRequest.to(UPGRADE, self.now.wall_ms));
            return;
        }
        let Some(origin) = self.table.get(id).map(|conn| conn.origin) else { return };
        if hello.profile == Profile::Room && !self.addresses.takes_guest(origin) {
            self.refuse(id, GateRefusal::Guests, Response::Unavailable.to(UPGRADE, self.now.wall_ms));
            return;
        }
        let owner = shard_of(hello.identity.user(), self.endpoint.shards());
        // Guests stay where they have come in.
        if owner == self.endpoint.me() || hello.profile == Profile::Room {
            self.open(id, (hello, from), response, unread);
            return;
        }
        let since_ns = self.comers.since_ns(id).unwrap_or(self.began_ns);
        let Some(wire) = self.release(id) else { return };
        let unread = unread.to_vec();
        let handed = Box::new(HandOver::Proven { wire, origin, since_ns, unread, from, hello, response });
        match self.endpoint.hand_over(owner, handed) {
            Ok(()) => self.tally.handed_over += 1,
            Err(handed) => self.turn_away(handed.into_wire(), UPGRADE),
        }
    }

    /// Tells a connection that was not taken: 503. It has sent `asked`.
    fn turn_away(&mut self, wire: Wire, asked: &[u8]) {
        self.tally.gate_refuse(GateRefusal::Busy);
        let words = Response::Unavailable.to(asked, self.now.wall_ms);
        let id =
            self.admit(wire, NetworkCounter::NONE, State::Closing(Box::new(Closing { words, ..Closing::default() })));
        self.begin_closing(id);
    }

    /// The owner's part: from now on the connection is a session, which answers the upgrade with
    /// `response`.
    fn open(&mut self, id: ConnId, (hello, from): (Hello, Option<IpAddr>), response: Vec<u8>, unread: &[u8]) {
        let Some(conn) = self.table.get_mut(id) else { return };
        let ended = conn.transport.has_ended();
        if hello.profile == Profile::Room {
            conn.transport.keep_alive();
        }
        let open = Open::new(hello.profile, hello.deflate.is_some(), unread, self.now.mono_ms);
        let after = open.holding();
        conn.state = State::Open(open);
        if let Some(place) = Self::transport_of(conn) {
            self.count_transport(place, true);
        }
        let Some(conn) = self.table.get(id) else { return };
        if conn.is_guest() {
            self.addresses.enter_guest(conn.origin);
        }
        self.heads.leave(&id);
        self.inbound.change(id, Holding::default(), after);
        self.say_opened(id, &hello, from);
        self.give(Event::Open { conn: id, hello, response: response.into(), ended });
    }

    fn open_echo(&mut self, id: ConnId, response: &[u8], deflate: Option<Window>, unread: &[u8]) {
        if self.push(id, response) != Took::All {
            self.mark_closed(id);
            return;
        }
        let Some(conn) = self.table.get_mut(id) else { return };
        self.comers.leave(id);
        conn.state = State::Echo(Box::new(Echo::new(deflate, unread)));
        let after = conn.holding();
        self.heads.leave(&id);
        self.inbound.change(id, Holding::default(), after);
        self.list(id);
    }
}

/// What a connection has sent that asks for a session.
const UPGRADE: &[u8] = b"GET ";

/// Sets what the kernel may hold of what is sent, if a bound was asked for at all: a socket whose
/// buffer the kernel sizes itself is left alone.
fn resize(wire: &Wire, bound: usize, bytes: usize) {
    if bound > 0
        && let Err(error) = SockRef::from(&wire.socket).set_send_buffer_size(bytes)
    {
        tracing::debug!(%error, "a socket keeps its send buffer");
    }
}

/// A connection that ends.
fn is_closing(table: &Table, id: ConnId) -> bool {
    table.get(id).is_some_and(|conn| !conn.closed && matches!(conn.state, State::Closing(_)))
}
