//! Readers that are too slow for the memory there is, or do not read at all: which of them end, and
//! how.
//!
//! Owns: the order in which they go when all outboxes of the process keep more alive than
//! `outbox_budget`, and the end of every slow session.
//! Never: closes a volatile session, or a guest of `/chatroom`; what it has queued is dropped
//! instead, and counted. Never goes below this shard's equal part of the budget: then it is another
//! shard's turn.
//! Bounds: [`crate::limits::TURN_TIMERS_MAX`] sessions a turn.

use std::cmp::Reverse;

use crate::ids::{ConnId, UserId};
use crate::limits;
use crate::metrics::tally::Slowness;
use crate::shard::io::Io;
use crate::shard::session::{Phase, Session};
use crate::shard::sessions::Sessions;
use crate::wire::{CloseCode, Profile};

impl Sessions {
    /// Whose sessions have something queued, and how many bytes: each session by itself. Looks at
    /// all of them, for an operator.
    pub(in crate::shard) fn queued(&self) -> impl Iterator<Item = (UserId, u64)> {
        let queued = |(_, session): (_, &Session)| Some((session.user, session.outbox.as_ref()?.bytes() as u64));
        self.table.iter().filter_map(queued).filter(|(_, bytes)| *bytes > 0)
    }

    pub(in crate::shard) fn let_go_down_to(&mut self, io: &mut Io, target: usize, why: Slowness) {
        let mut slowest: Vec<(u128, ConnId)> = Vec::new();
        for (slot, session) in self.table.iter() {
            if session.phase() == Phase::Open
                && let Some(outbox) = &session.outbox
            {
                let waited_ms = io.now_ms().saturating_sub(outbox.moved_ms()) + 1;
                let slowness = outbox.bytes() as u128 * u128::from(waited_ms);
                slowest.push((slowness, ConnId { slot, generation: session.generation }));
            }
        }
        slowest.sort_unstable_by_key(|&(slowness, conn)| (Reverse(slowness), conn.slot));
        for (_, conn) in slowest.into_iter().take(limits::TURN_TIMERS_MAX) {
            if io.held.bytes() <= target {
                return;
            }
            self.make_way(io, conn, why);
        }
    }

    /// What is kept for a session has to go: it ends, or what it has queued is dropped.
    pub(in crate::shard) fn make_way(&mut self, io: &mut Io, conn: ConnId, why: Slowness) {
        let guest = self.table.get(conn).is_some_and(|session| session.profile == Profile::Room);
        if !io.setup.volatile && !guest {
            return self.close_slow(io, conn, why);
        }
        let outbox = self.table.get_mut(conn).and_then(|session| session.outbox.as_deref_mut());
        let dropped = outbox.map_or(0, |outbox| outbox.drop_pushes(&mut io.held));
        let counter = if guest { &mut io.tally.room_dropped } else { &mut io.tally.dropped };
        *counter += dropped;
    }

    /// Ends a session that is too slow. What it has not taken it will read from the store; only the
    /// frame that it has begun is finished.
    pub(in crate::shard) fn close_slow(&mut self, io: &mut Io, conn: ConnId, why: Slowness) {
        let Some(session) = self.table.get_mut(conn) else { return };
        if session.phase() == Phase::Finishing {
            return;
        }
        if let Some(outbox) = session.outbox.as_deref_mut() {
            outbox.cut(&mut io.held);
        }
        io.tally.slow[why as usize] += 1;
        self.close(io, conn, CloseCode::Slow);
    }
}
