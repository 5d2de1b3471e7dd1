//! The gate: from an accepted socket to a session, to the control plane, or to the door.
//!
//! Owns: accepting, the wait for the request head, carrying out the verdict, hand-over to the shard that owns the user.
//! Never: blocks, and never lets a connection that is refused hang: it is told, and ends.
//! Bounds: [`TURN_ACCEPTS_MAX`], [`HEADS_PENDING_MAX`], [`crate::limits::HEAD_BYTES_MAX`], the head's deadline.

use std::mem;

use mio::Token;

use super::admission::{Bench, Verdict, judge};
use super::conn::{Head, Open, Parting, State};
use super::echo::Echo;
use super::listener::Accepted;
use super::table::Table;
use super::transport::{Got, Took, Transport};
use super::{Driver, HandOver, Stage};
use crate::caller::Peer;
use crate::http::Response;
use crate::ids::{ConnId, shard_of};
use crate::limits::{HEADS_PENDING_MAX, HTTP_SEND_BUFFER, TURN_ACCEPTS_MAX, UNREAD_BYTES_MAX};
use crate::metrics::tally::GateRefusal;
use crate::shard::{Event, Hello};
use crate::wire::Profile;
use crate::ws::Decoder;

impl Driver {
    /// Accepts what the listeners have, each up to its share of the turn.
    pub(super) fn accept(&mut self) {
        for i in 0..self.listeners.len() {
            if let Some(listener) = self.listeners.get_mut(i) {
                listener.wake(self.now.mono_ms);
            }
            for _ in 0..TURN_ACCEPTS_MAX {
                let Some(listener) = self.listeners.get_mut(i).filter(|listener| listener.ready) else { break };
                match listener.accept(self.now.mono_ms, self.poll.registry()) {
                    Accepted::Conn(transport) => {
                        let head = listener.proxied.then(Head::behind_preamble);
                        self.shard.tally().accepted += 1;
                        self.receive_stranger(transport, head, &[]);
                    }
                    Accepted::Lost => self.shard.tally().gate_refuse(GateRefusal::Gone),
                    Accepted::Nothing => {}
                    Accepted::Exhausted => self.shard.tally().gate_refuse(GateRefusal::Descriptors),
                }
            }
        }
    }

    /// Hears the head of a connection of which `read` has come already, or waits for it.
    ///
    /// Most clients have sent it when they are accepted, so it is read before the poll knows of the connection: that saves a turn, and for those who are handed over the
    /// poll never hears of them at all. What comes between that read and the registration is reported by the registration.
    fn receive_stranger(&mut self, transport: Transport, head: Option<Box<Head>>, read: &[u8]) {
        if self.heads_pending >= HEADS_PENDING_MAX || self.table.full() {
            // Closed at once: whoever floods the gate does not get our memory as well.
            self.shard.tally().gate_refuse(GateRefusal::Busy);
            return;
        }
        let id = self.table.insert(transport, State::Head(head));
        self.heads_pending += 1;
        if read.is_empty() {
            self.read_head(id);
        } else {
            self.hear_head(id, read);
        }
        self.register(id);
        let table = &self.table;
        if awaits_head(table, id) {
            self.heads.push(self.now.mono_ms, id, |id| awaits_head(table, id));
        }
    }

    /// Gives a connection a slot and has the kernel report on it.
    fn admit(&mut self, transport: Transport, state: State) -> ConnId {
        let id = self.table.insert(transport, state);
        self.register(id);
        id
    }

    /// Has the kernel report on a connection that is still here.
    fn register(&mut self, id: ConnId) {
        let Some(conn) = self.table.get_mut(id).filter(|conn| !conn.doomed) else { return };
        if conn.transport.register(self.poll.registry(), Token(id.slot as usize)).is_ok() {
            conn.registered = true;
        } else {
            self.shard.tally().gate_refuse(GateRefusal::Descriptors);
            self.doom(id);
        }
    }

    /// Takes a connection out, to be given to another thread.
    fn release(&mut self, id: ConnId) -> Option<Transport> {
        let mut conn = self.table.remove(id)?;
        if matches!(conn.state, State::Head(_)) {
            self.heads_pending -= 1;
        }
        if !conn.registered {
            return Some(conn.transport);
        }
        match conn.transport.deregister(self.poll.registry()) {
            Ok(()) => Some(conn.transport),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be taken out of the poll");
                None
            }
        }
    }

    /// Takes what another thread hands over.
    pub(super) fn receive(&mut self, handed: HandOver) {
        if matches!(self.stage, Stage::Closing | Stage::Empty | Stage::Over) {
            return;
        }
        match handed {
            HandOver::Fresh { mut transport, read, peer } => {
                transport.resize(self.send_buffer, self.send_buffer);
                let head = Head { peer: Some(peer), ..Head::default() };
                self.receive_stranger(transport, Some(Box::new(head)), &read);
            }
            HandOver::Proven { transport, unread, hello, response } => {
                let id = self.admit(transport, State::Head(None));
                self.heads_pending += 1;
                if self.table.get(id).is_some_and(|conn| !conn.doomed) {
                    self.open(id, hello, response, &unread);
                }
            }
        }
    }

    /// Reads on until the head is whole.
    pub(super) fn read_head(&mut self, id: ConnId) {
        let mut scratch = mem::take(&mut self.read_scratch);
        if let Some(conn) = self.table.get_mut(id)
            && let State::Head(head) = &mut conn.state
        {
            let stash = head.as_deref().map_or(&[][..], |head| &head.stash);
            let stashed = stash.len();
            scratch[..stashed].copy_from_slice(stash);
            match conn.transport.read(&mut scratch[stashed..]) {
                Got::Bytes(n) => {
                    let again = conn.ending;
                    self.shard.tally().bytes_in += n as u64;
                    self.hear_head(id, &scratch[..stashed + n]);
                    if again {
                        self.list(id);
                    }
                }
                Got::Nothing => {}
                Got::End | Got::Broken => {
                    self.shard.tally().gate_refuse(GateRefusal::Gone);
                    self.doom(id);
                }
            }
        }
        self.read_scratch = scratch;
    }

    /// Judges all that a connection has sent, and carries the verdict out.
    fn hear_head(&mut self, id: ConnId, bytes: &[u8]) {
        let Some(bytes) = self.hear_preamble(id, bytes) else { return };
        let Some(conn) = self.table.get_mut(id) else { return };
        let (transport, State::Head(head)) = (&conn.transport, &mut conn.state) else { return };
        let told = head.as_ref().and_then(|head| head.peer);
        let plain = transport.is_plain();
        let bench = Bench { judge: &self.judge, wall_ms: self.now.wall_ms, plain, echo: self.echo, room: self.room };
        match judge(bytes, bench, || told.or_else(|| transport.peer())) {
            Verdict::Incomplete => head.get_or_insert_default().stash = bytes.to_vec(),
            Verdict::Refused(why, words) => self.refuse(id, why, words.to_vec()),
            Verdict::BadToken { why, words } => self.refuse(id, why, words),
            Verdict::Http => match told.or_else(|| transport.peer()) {
                Some(peer) => self.give_to_http(id, bytes.to_vec(), peer),
                None => {
                    self.shard.tally().gate_refuse(GateRefusal::Gone);
                    self.doom(id);
                }
            },
            Verdict::Session { head_len, hello, response } => {
                self.place(id, hello, response, bytes.get(head_len..).unwrap_or_default());
            }
            Verdict::Echo { head_len, response } => {
                self.open_echo(id, &response, bytes.get(head_len..).unwrap_or_default());
            }
        }
    }

    fn give_to_http(&mut self, id: ConnId, read: Vec<u8>, peer: Peer) {
        let Some(mut transport) = self.release(id) else { return };
        // Files are large, and those who read them few.
        transport.resize(self.send_buffer, HTTP_SEND_BUFFER);
        match self.http.serve(transport.into_socket(), read, peer) {
            Ok(()) => self.shard.tally().http += 1,
            Err(socket) => self.turn_away(Transport::from_socket(socket)),
        }
    }

    /// Brings a proven connection to the shard of its user.
    fn place(&mut self, id: ConnId, hello: Hello, response: Vec<u8>, unread: &[u8]) {
        if unread.len() > UNREAD_BYTES_MAX {
            // Only a connection that the control plane gives back could have as much; what a session may leave unread is less.
            self.refuse(id, GateRefusal::BadRequest, Response::BadRequest.bytes().to_vec());
            return;
        }
        let owner = shard_of(hello.identity.user(), self.seat.shards());
        // Guests stay where they have come in.
        if owner == self.seat.me() || hello.profile == Profile::Room {
            self.open(id, hello, response, unread);
            return;
        }
        let Some(transport) = self.release(id) else { return };
        let handed = Box::new(HandOver::Proven { transport, unread: unread.to_vec(), hello, response });
        match self.seat.hand_over(owner, handed) {
            Ok(()) => self.shard.tally().handed_over += 1,
            Err(handed) => self.turn_away(handed.into_transport()),
        }
    }

    /// Tells a connection that nobody took: 503.
    fn turn_away(&mut self, transport: Transport) {
        self.shard.tally().gate_refuse(GateRefusal::Busy);
        let words = Response::Unavailable.bytes().to_vec();
        let id = self.admit(transport, State::Parting(Box::new(Parting { words, ..Parting::default() })));
        self.begin_parting(id);
    }

    /// The owner's part: from now on the connection is a session. Its 101 leaves now, or with its first frames if those come soon.
    fn open(&mut self, id: ConnId, hello: Hello, response: Vec<u8>, unread: &[u8]) {
        let Some(conn) = self.table.get_mut(id) else { return };
        if hello.profile == Profile::Room {
            conn.transport.keep_alive();
        }
        let unwelcomed = self.welcomes.waits(hello.profile);
        if !unwelcomed && self.write_words(id, &response) < response.len() {
            self.doom(id);
            return;
        }
        let mut decoder = Decoder::default();
        decoder.keep(unread);
        let (held, profile) = (!unread.is_empty(), hello.profile);
        let Some(conn) = self.table.get_mut(id) else { return };
        conn.state = State::Open(Open { decoder, profile, paused: true, held, unwelcomed, farewell: false });
        self.heads_pending -= 1;
        if unwelcomed {
            self.welcomes.put(self.now.mono_ms, id, response, &self.table);
        }
        self.give(Event::Open { conn: id, hello });
    }

    fn open_echo(&mut self, id: ConnId, response: &[u8], unread: &[u8]) {
        let Some(conn) = self.table.get_mut(id) else { return };
        if conn.transport.write(response) != Took::All {
            self.doom(id);
            return;
        }
        conn.state = State::Echo(Box::new(Echo::new(unread)));
        self.heads_pending -= 1;
        self.list(id);
    }

    /// The head has not come in time.
    pub(super) fn head_expired(&mut self, id: ConnId) {
        let Some(conn) = self.table.get(id) else { return };
        let State::Head(head) = &conn.state else { return };
        if head.as_ref().is_none_or(|head| head.stash.is_empty() || head.preamble) {
            // A connection that never said anything, or only half for whom it asks, is not told anything.
            self.shard.tally().gate_refuse(GateRefusal::Timeout);
            self.doom(id);
        } else {
            self.refuse(id, GateRefusal::Timeout, Response::RequestTimeout.bytes().to_vec());
        }
    }
}

fn awaits_head(table: &Table, id: ConnId) -> bool {
    table.get(id).is_some_and(|conn| matches!(conn.state, State::Head(_)))
}
