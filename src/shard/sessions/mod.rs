//! The sessions of a shard: by user and group, what is queued for each, whether it is read, how it
//! lives and ends.
//!
//! Owns: [`SessionTable`] and [`Roster`]; paces and shares of users, deadlines of pings, waiting
//! acks and responses, blocks.
//! Never: knows what a conversation is at its home, or what a session lacks; never asks the store.
//! Bounds: where each of its parts says so.

mod acks;
mod answers;
pub(in crate::shard) mod blocks;
mod checks;
mod closing;
mod confirming;
mod devices;
mod drain;
pub(in crate::shard) mod elsewhere;
mod far_devices;
mod flow;
mod liveness;
mod online;
mod pace;
pub(in crate::shard) mod prices;
mod responses;
pub(in crate::shard) mod roster;
mod rounds;
mod shares;
mod shown;
mod slow;
pub(in crate::shard) mod table;
mod whispers;

use std::collections::BTreeSet;

use crate::fair::Departures;
use crate::ids::{ConnId, UserId};
use crate::limits;
use crate::shard::Setup;
use crate::shard::coalescing::Waiting;
use crate::shard::io::Io;
use crate::shard::sessions::blocks::Blocks;
use crate::shard::sessions::drain::Draining;
use crate::shard::sessions::elsewhere::Elsewhere;
use crate::shard::sessions::far_devices::FarDevices;
use crate::shard::sessions::pace::Paces;
use crate::shard::sessions::responses::Responses;
use crate::shard::sessions::roster::Roster;
use crate::shard::sessions::rounds::Rounds;
use crate::shard::sessions::shares::Shares;
use crate::shard::sessions::table::SessionTable;

/// All sessions of a shard.
pub(in crate::shard) struct Sessions {
    /// By slot.
    pub table: SessionTable,
    /// By user and by group.
    pub roster: Roster,
    /// Between whom of their users and others a block stands.
    pub blocks: Blocks,
    /// Which of their users are on other gateways, too.
    pub elsewhere: Elsewhere,
    /// Users whose last session here has ended a moment ago; noted where other gateways leave it to
    /// this one to tell that they are away.
    departures: Departures<UserId>,
    far_devices: FarDevices,
    paces: Paces,
    shares: Shares,
    responses: Responses,
    rounds: Rounds,
    /// Sessions whose acks wait, by slot.
    acks_waiting: Waiting,
    /// Legacy sessions that were sent something, by the time at which they are to be asked whether
    /// it arrived.
    to_confirm: BTreeSet<(u64, ConnId)>,
    /// The end of all of them, when the gateway stops.
    draining: Option<Draining>,
    /// The slot that is checked next.
    next_check: u32,
}

impl Sessions {
    /// No session.
    pub(in crate::shard) fn new(setup: &Setup) -> Self {
        Self {
            table: SessionTable::default(),
            roster: Roster::new(setup),
            blocks: Blocks::default(),
            elsewhere: Elsewhere::default(),
            departures: Departures::new(limits::DEPARTED_MS, limits::DEPARTED_MAX),
            far_devices: FarDevices::default(),
            paces: Paces::new(setup.pace),
            shares: Shares::default(),
            responses: Responses::default(),
            rounds: Rounds::new(setup.ping_after_ms),
            acks_waiting: Waiting::default(),
            to_confirm: BTreeSet::new(),
            next_check: 0,
            draining: None,
        }
    }

    /// The settings of `io` have changed.
    pub(in crate::shard) fn adjust(&mut self, io: &Io) {
        self.paces.adjust(io.setup.pace, io.now_ms());
        self.rounds.adjust(io.setup.ping_after_ms, io.now_ms());
    }

    /// Monotonic milliseconds at which something of them is due.
    pub(in crate::shard) fn next_ms(&self, io: &Io) -> Option<u64> {
        let round = (io.tally.sessions > 0).then(|| self.rounds.next_ms());
        let confirm = self.to_confirm.first().map(|&(due_ms, _)| due_ms);
        let paces = self.paces.next_ms();
        let due = [
            round,
            self.close_due_ms(io),
            confirm,
            self.responses.next_ms(),
            self.acks_waiting.next_ms(),
            paces,
            self.far_devices.next_ms(),
        ];
        due.into_iter().flatten().min()
    }
}

/// What tests look at.
#[cfg(test)]
impl Sessions {
    pub(super) const fn shares(&self) -> &Shares {
        &self.shares
    }

    pub(super) const fn responses(&self) -> &Responses {
        &self.responses
    }
}
