//! The connections of one shard, by slot and generation.
//!
//! Owns: the slots, their generations, and the share of the process's count of connections.
//! Never: reads or writes a socket.
//! Bounds: [`crate::config::Config::max_connections`] over all shards; the gate looks at [`Table::full`] before it accepts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use slab::Slab;

use super::conn::{Conn, State};
use super::transport::Transport;
use crate::ids::ConnId;

/// One shard's connections.
pub(super) struct Table {
    conns: Slab<Conn>,
    /// The generation of each slot that was ever used: outlives the connection, so that a late answer never reaches the next one.
    generations: Vec<u32>,
    /// Connections of the process.
    all: Arc<AtomicUsize>,
    all_max: usize,
}

impl Table {
    pub(super) const fn new(all: Arc<AtomicUsize>, all_max: usize) -> Self {
        Self { conns: Slab::new(), generations: Vec::new(), all, all_max }
    }

    /// Whether the process has as many connections as it may.
    pub(super) fn full(&self) -> bool {
        self.all.load(Ordering::Relaxed) >= self.all_max
    }

    /// Gives a connection a slot.
    pub(super) fn insert(&mut self, transport: Transport, state: State) -> ConnId {
        self.all.fetch_add(1, Ordering::Relaxed);
        let entry = self.conns.vacant_entry();
        let slot = entry.key();
        if slot >= self.generations.len() {
            self.generations.resize(slot + 1, 0);
        }
        let generation = self.generations[slot].wrapping_add(1);
        self.generations[slot] = generation;
        entry.insert(Conn::new(transport, generation, state));
        ConnId { slot: u32::try_from(slot).expect("descriptors, and so connections, are fewer than 2^32"), generation }
    }

    /// The connection, unless its generation has passed.
    pub(super) fn get(&self, id: ConnId) -> Option<&Conn> {
        self.conns.get(id.slot as usize).filter(|conn| conn.generation == id.generation)
    }

    /// As [`Table::get`].
    pub(super) fn get_mut(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(id.slot as usize).filter(|conn| conn.generation == id.generation)
    }

    /// The connection that lives in the slot now: for readiness, where a late event of a predecessor only causes a look in vain.
    pub(super) fn at(&mut self, slot: usize) -> Option<(ConnId, &mut Conn)> {
        let conn = self.conns.get_mut(slot)?;
        Some((ConnId { slot: u32::try_from(slot).ok()?, generation: conn.generation }, conn))
    }

    /// Takes the connection out; its generation has passed.
    pub(super) fn remove(&mut self, id: ConnId) -> Option<Conn> {
        self.get(id)?;
        self.all.fetch_sub(1, Ordering::Relaxed);
        Some(self.conns.remove(id.slot as usize))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.conns.len()
    }

    /// All of them.
    pub(super) fn ids(&self) -> impl Iterator<Item = (ConnId, &Conn)> {
        self.conns.iter().filter_map(|(slot, conn)| {
            Some((ConnId { slot: u32::try_from(slot).ok()?, generation: conn.generation }, conn))
        })
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        self.all.fetch_sub(self.conns.len(), Ordering::Relaxed);
    }
}
