//! The sessions of a shard, by slot.
//!
//! Owns: [`SessionTable`], in which a session is found by its connection.
//! Never: finds a session by the name of the one that had its slot before.

use crate::chunks::Chunks;
use crate::ids::ConnId;
use crate::shard::broken::broken;
use crate::shard::session::Session;

/// The sessions of a shard by slot. The driver gives the slots, densely, and reuses them.
#[derive(Default)]
pub(in crate::shard) struct SessionTable {
    slots: Chunks<Option<Session>>,
}

impl SessionTable {
    /// Puts a new session into its slot. The slot was left before.
    pub(in crate::shard) fn insert(&mut self, slot: u32, session: Session) {
        while self.slots.len() <= slot as usize {
            self.slots.push(None);
        }
        if let Some(place) = self.slots.get_mut(slot)
            && place.replace(session).is_some()
        {
            broken("a slot is reused after its connection was reported gone");
        }
    }

    /// The session of that name, unless its generation has passed.
    pub(in crate::shard) fn get(&self, conn: ConnId) -> Option<&Session> {
        self.at(conn.slot).filter(|session| session.generation == conn.generation)
    }

    /// As [`SessionTable::get`], to change it.
    pub(in crate::shard) fn get_mut(&mut self, conn: ConnId) -> Option<&mut Session> {
        self.at_mut(conn.slot).filter(|session| session.generation == conn.generation)
    }

    /// Whatever lives in the slot.
    pub(in crate::shard) fn at(&self, slot: u32) -> Option<&Session> {
        self.slots.get(slot)?.as_ref()
    }

    /// As [`SessionTable::at`], to change it.
    pub(in crate::shard) fn at_mut(&mut self, slot: u32) -> Option<&mut Session> {
        self.slots.get_mut(slot)?.as_mut()
    }

    /// The name of whatever lives in the slot.
    pub(in crate::shard) fn name(&self, slot: u32) -> Option<ConnId> {
        self.at(slot).map(|session| ConnId { slot, generation: session.generation })
    }

    /// Empties the slot.
    pub(in crate::shard) fn remove(&mut self, conn: ConnId) -> Option<Session> {
        let place = self.slots.get_mut(conn.slot)?;
        if place.as_ref()?.generation == conn.generation { place.take() } else { None }
    }

    /// All sessions, by slot.
    pub(in crate::shard) fn iter(&self) -> impl Iterator<Item = (u32, &Session)> {
        self.slots.iter().filter_map(|(slot, place)| place.as_ref().map(|session| (slot, session)))
    }

    /// Every slot that was ever used is below this.
    pub(in crate::shard) fn span(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }
}
