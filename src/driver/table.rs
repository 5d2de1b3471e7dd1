//! The connections of one shard, by slot and generation.
//!
//! Owns: the slots, their generations, and the share of the process's count of connections.
//! Never: reads or writes a socket.
//! Bounds: [`crate::config::Config::max_connections`] over all shards; the gate looks at
//! [`Table::full`] before it accepts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use imgate_tls::Session;
use mio::Token;

use super::addresses::NetworkCounter;
use super::conn::{Conn, State};
use super::transport::Transport;
use crate::chunks::Chunks;
use crate::ids::ConnId;
use crate::mesh::Wire;

/// As what the poll knows a connection: an event that was taken from the kernel before the slot was
/// given to another one is none of that one's.
pub(super) const fn token_of(id: ConnId) -> Token {
    Token((id.generation as usize) << u32::BITS | id.slot as usize)
}

/// Whose token it is.
pub(super) const fn id_of(token: Token) -> ConnId {
    ConnId { slot: token.0 as u32, generation: (token.0 >> u32::BITS) as u32 }
}

const _: () = assert!(usize::BITS == 2 * u32::BITS, "a token has room for a slot and its generation");

/// One shard's connections.
pub(super) struct Table {
    conns: Chunks<Option<Conn>>,
    /// The TLS sessions of those that have one, by slot; empty where none ever had.
    sessions: Chunks<Option<Session>>,
    /// Slots that are free; the last one is given next.
    free: Vec<u32>,
    /// How many connections there are.
    len: usize,
    /// The generation of each slot that was ever used: outlives the connection, so that a late
    /// answer never reaches the next one.
    generations: Vec<u32>,
    /// Connections of the process.
    all: Arc<AtomicUsize>,
    all_max: usize,
}

impl Table {
    pub(super) const fn new(all: Arc<AtomicUsize>, all_max: usize) -> Self {
        Self {
            conns: Chunks::new(),
            sessions: Chunks::new(),
            free: Vec::new(),
            len: 0,
            generations: Vec::new(),
            all,
            all_max,
        }
    }

    /// Whether the process has as many connections as it may, with `others` that stand in no table.
    pub(super) fn full(&self, others: usize) -> bool {
        self.all.load(Ordering::Relaxed) + others >= self.all_max
    }

    /// Gives a connection a slot.
    pub(super) fn insert(&mut self, wire: Wire, origin: NetworkCounter, state: State) -> ConnId {
        let (transport, session) = (Transport::from_socket(wire.socket), wire.tls);
        self.all.fetch_add(1, Ordering::Relaxed);
        self.len += 1;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.generations.push(0);
                self.conns.push(None)
            }
        };
        let generation = self.generations[slot as usize].wrapping_add(1);
        self.generations[slot as usize] = generation;
        if let Some(place) = self.conns.get_mut(slot) {
            *place = Some(Conn::new(transport, generation, origin, state));
        }
        let id = ConnId { slot, generation };
        if let Some(session) = session {
            self.secure(id, session);
        }
        id
    }

    /// The connection, unless its generation has passed.
    pub(super) fn get(&self, id: ConnId) -> Option<&Conn> {
        self.conns.get(id.slot)?.as_ref().filter(|conn| conn.generation == id.generation)
    }

    /// As [`Table::get`].
    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(id.slot)?.as_mut().filter(|conn| conn.generation == id.generation)
    }

    /// The connection that lives in the slot now: for a look at all there are.
    pub(super) fn at(&mut self, slot: usize) -> Option<(ConnId, &mut Conn)> {
        let slot = u32::try_from(slot).ok()?;
        let conn = self.conns.get_mut(slot)?.as_mut()?;
        Some((ConnId { slot, generation: conn.generation }, conn))
    }

    /// Takes the connection out; its generation has passed.
    pub(super) fn remove(&mut self, id: ConnId) -> Option<(Conn, Option<Session>)> {
        self.get(id)?;
        let conn = self.conns.get_mut(id.slot)?.take()?;
        let session = if conn.is_tls() { self.sessions.get_mut(id.slot).and_then(Option::take) } else { None };
        self.all.fetch_sub(1, Ordering::Relaxed);
        self.len -= 1;
        self.free.push(id.slot);
        Some((conn, session))
    }

    /// From now on the connection's bytes pass `session`.
    pub(super) fn secure(&mut self, id: ConnId, session: Session) {
        let Some(conn) = self.get_mut(id) else { return };
        conn.set_tls();
        while self.sessions.len() <= id.slot as usize {
            self.sessions.push(None);
        }
        if let Some(place) = self.sessions.get_mut(id.slot) {
            *place = Some(session);
        }
    }

    /// The connection and its TLS session; `None` for one that has none.
    pub(super) fn secured(&mut self, id: ConnId) -> Option<(&mut Conn, &mut Session)> {
        let conn =
            self.conns.get_mut(id.slot)?.as_mut().filter(|conn| conn.generation == id.generation && conn.is_tls())?;
        Some((conn, self.sessions.get_mut(id.slot)?.as_mut()?))
    }

    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Every slot that was ever used is below this.
    pub(super) fn span(&self) -> usize {
        self.conns.len()
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.all.fetch_sub(self.len, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_late_event_of_a_connection_is_not_for_the_next_one_in_its_slot() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut table = Table::new(Arc::default(), 8);
        let come = |table: &mut Table| {
            let socket = TcpStream::connect(address).expect("a place in the line");
            table.insert(Wire { socket, tls: None }, NetworkCounter::default(), State::Head(None))
        };
        let first = come(&mut table);
        let token = token_of(first);
        assert_eq!(id_of(token), first);
        assert!(table.remove(first).is_some());
        let second = come(&mut table);
        assert_eq!(second.slot, first.slot);
        assert!(table.get(id_of(token)).is_none(), "it has gone");
        assert!(table.get(id_of(token_of(second))).is_some());
    }
}
