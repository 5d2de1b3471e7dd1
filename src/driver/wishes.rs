//! What the shard wants done: the only place where an [`Effect`] becomes an act.
//!
//! Owns: the full drain after every step, and the deferred end of broken connections.
//! Never: steps the shard inside a drain. A socket that breaks while an effect is carried out is
//! put on a list and reaped between two steps.

use std::mem;
use std::rc::Rc;

use imgate_tls::Session;

use super::Driver;
use super::conn::{Closing, Conn, State};
use super::ready::LAST_LEVEL;
use super::said::BY_GATEWAY;
use super::tls;
use super::transport::Took;
use crate::fair::Holding;
use crate::hooks::{GroupMessage, HookEvent};
use crate::ids::ConnId;
use crate::metrics::tally::GateRefusal;
use crate::shard::{Batch, Effect, Event, Form};
use crate::store::worker::Ticket;

/// The code of an end without a close frame, which is never sent (RFC 6455, section 7.4.1).
const CLOSED_ABNORMALLY: u16 = 1006;

impl Driver {
    /// Gives the shard one event and carries out everything that it wants.
    pub(super) fn give(&mut self, event: Event) {
        self.shard.step(self.now, event, &mut self.effects);
        self.carry_out();
    }

    /// Carries out everything that the shard wants.
    pub(super) fn carry_out(&mut self) {
        if self.effects.is_empty() {
            return;
        }
        let mut effects = mem::take(&mut self.effects);
        let mut spent: [Option<Vec<ConnId>>; Form::ALL.len()] = [None, None];
        for effect in effects.drain() {
            match effect {
                Effect::Broadcast { batch, form, conns } => {
                    self.broadcast(&batch, form, &conns);
                    // A step has at most one broadcast in each form, so as many lists come back.
                    if let Some(place) = spent.iter_mut().find(|place| place.is_none()) {
                        *place = Some(conns);
                    }
                }
                other => self.act(other),
            }
        }
        for conns in spent.into_iter().flatten() {
            effects.recycle(conns);
        }
        self.effects = effects;
    }

    fn act(&mut self, effect: Effect) {
        let shard = self.endpoint.me();
        match effect {
            Effect::Flush { conn } => self.mark_dirty(conn),
            Effect::Broadcast { batch, form, conns } => self.broadcast(&batch, form, &conns),
            Effect::Pause { conn } => self.pause(conn, true),
            Effect::Resume { conn } => self.pause(conn, false),
            Effect::Finish { conn, code, by_peer } => {
                self.say_closed(conn, code, if by_peer { "peer" } else { BY_GATEWAY });
                self.close(conn, Vec::new());
            }
            Effect::Peer { to, msg } => self.endpoint.say(to, msg),
            Effect::Far(what) => self.endpoint.tell_far(what),
            Effect::Write { ask, write } => {
                self.note_ask(ask);
                self.store.write(Ticket { shard, ask }, write);
            }
            Effect::Read { ask, read } => {
                self.note_ask(ask);
                self.store.read(Ticket { shard, ask }, read);
                self.asked = true;
            }
            Effect::Offline { user, conv, seq, packet } => {
                self.hooks.tell(HookEvent::MessageOffline { user, conv, seq, packet });
            }
            Effect::GroupStored { group, seq, packet } => self.hooks.group_stored(GroupMessage { group, seq, packet }),
            Effect::Answer { id, mut answer } => {
                self.add_sockets(&mut answer);
                self.endpoint.answer(id, answer);
            }
        }
    }

    /// Writes a group's batch to each connection at once. What a socket does not take stays with
    /// the shard.
    fn broadcast(&mut self, batch: &Rc<Batch>, form: Form, conns: &[ConnId]) {
        let bytes = batch.bytes_as(form);
        let len = bytes.len();
        let (mut sends, mut sent_bytes) = (0, 0);
        for &id in conns {
            let Some(conn) = self.table.get_mut(id).filter(|conn| !conn.closed) else { continue };
            let took = if conn.is_tls() {
                tls::write(&mut self.table, &mut self.tls, id, bytes, self.now.mono_ms)
            } else {
                conn.transport.write(bytes)
            };
            let written = match took {
                Took::All => len,
                Took::Part(n) => {
                    // All of it, if it is a record that was cut.
                    if n < len {
                        self.shard.broadcast_to(id, batch, form).sent(n);
                    }
                    self.block(id);
                    n
                }
                Took::Broken => {
                    self.mark_closed(id);
                    0
                }
            };
            sends += 1;
            sent_bytes += written as u64;
        }
        let tally = &mut self.tally;
        tally.sends += sends;
        tally.bytes_out += sent_bytes;
    }

    fn pause(&mut self, id: ConnId, paused: bool) {
        let Some(conn) = self.table.get_mut(id) else { return };
        let State::Open(open) = &mut conn.state else { return };
        open.paused = paused;
        if !paused {
            // The edge may have come and gone while nothing was read, and the decoder may hold what
            // an earlier read brought.
            self.list(id);
            self.comers.open(id);
        }
    }

    /// Puts a connection on its ready list.
    pub(super) fn list(&mut self, id: ConnId) {
        if let Some(conn) = self.table.get_mut(id)
            && !conn.closed
            && !mem::replace(&mut conn.listed, true)
        {
            self.ready.put(id, conn.recent(), self.now.mono_ms);
        }
    }

    /// Puts a connection on the dirty list, unless the kernel has to speak first. One that has
    /// brought much lately stands behind the others.
    pub(super) fn mark_dirty(&mut self, id: ConnId) {
        if let Some(conn) = self.table.get_mut(id)
            && !conn.closed
            && !conn.blocked
            && !mem::replace(&mut conn.dirty, true)
        {
            self.dirty.put(id, conn.recent().level(self.now.mono_ms));
        }
    }

    /// Puts a connection that has used up its share of this turn's writing behind all others.
    pub(super) fn lag(&mut self, id: ConnId) {
        if let Some(conn) = self.table.get_mut(id)
            && !conn.closed
            && !conn.blocked
            && !mem::replace(&mut conn.dirty, true)
        {
            self.dirty.put(id, LAST_LEVEL);
        }
    }

    /// Lets a connection say its last `words` (or what a session's outbox holds) and end.
    pub(super) fn close(&mut self, id: ConnId, words: Vec<u8>) {
        let Some(conn) = self.table.get_mut(id).filter(|conn| !matches!(conn.state, State::Closing(_))) else { return };
        let (session, recent, holding) = (conn.is_session(), conn.recent(), conn.holding());
        let transport = Self::transport_of(conn);
        if conn.is_guest() {
            self.addresses.leave_guest(conn.origin);
        }
        let heard_end = matches!(&conn.state, State::Open(open) if open.close_received);
        if let Some(place) = transport {
            self.count_transport(place, false);
        }
        self.heads.leave(&id);
        self.inbound.change(id, holding, Holding::default());
        if let Some(conn) = self.table.get_mut(id) {
            conn.state = State::Closing(Box::new(Closing { words, session, heard_end, recent, ..Closing::default() }));
            self.begin_closing(id);
        }
    }

    /// A connection has entered [`State::Closing`].
    pub(super) fn begin_closing(&mut self, id: ConnId) {
        let table = &self.table;
        let waits = |id| table.get(id).is_some_and(|conn| matches!(conn.state, State::Closing(_)));
        self.closings.push(self.now.mono_ms, id, waits);
        self.mark_dirty(id);
        if !self.table.get(id).is_some_and(Conn::has_ended) {
            // Bytes that came meanwhile are of no interest, but the end of stream among them is.
            self.list(id);
        }
    }

    /// Refuses a connection that is no session, with the HTTP answer it deserves.
    pub(super) fn refuse(&mut self, id: ConnId, why: GateRefusal, words: Vec<u8>) {
        self.tally.gate_refuse(why);
        self.tally.see(why.sighting(), self.now.wall_ms);
        tracing::debug!(conn = %self.named(id), ?why, "a connection is refused");
        self.close(id, words);
    }

    /// Marks a connection as closed; it is reaped between two steps.
    pub(super) fn mark_closed(&mut self, id: ConnId) {
        if let Some(conn) = self.table.get_mut(id)
            && !mem::replace(&mut conn.closed, true)
        {
            self.closed.push(id);
        }
    }

    /// Ends the connections that broke or were done, and tells the shard.
    pub(super) fn reap(&mut self) {
        while let Some(id) = self.closed.pop() {
            // Dropping the transport closes the socket, and the kernel forgets its registration.
            let Some((mut conn, session)) = self.remove(id) else { continue };
            if let (State::Head(_), Some(mut session), Some(tls)) = (&conn.state, session, &mut self.tls) {
                // Nothing was begun that could be taken for cut.
                tls.tell(&mut conn.transport, &mut session, &[]);
            }
            if conn.is_session() {
                if let Some(place) = Self::transport_of(&conn) {
                    self.count_transport(place, false);
                    // Without a close frame of either side.
                    self.say_closed(id, Some(CLOSED_ABNORMALLY), "loss");
                }
                drop(conn);
                self.give(Event::Gone { conn: id });
            }
        }
    }

    /// Takes a connection out of the table and out of every account.
    pub(super) fn remove(&mut self, id: ConnId) -> Option<(Conn, Option<Session>)> {
        let (conn, session) = self.table.remove(id)?;
        if let Some(tls) = &mut self.tls {
            tls.forget(id);
        }
        self.heads.leave(&id);
        self.comers.leave(id);
        self.inbound.change(id, conn.holding(), Holding::default());
        self.addresses.leave(conn.origin);
        if conn.is_guest() {
            self.addresses.leave_guest(conn.origin);
        }
        Some((conn, session))
    }
}
