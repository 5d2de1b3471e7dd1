//! Readers that are too slow for the memory there is, or do not read at all: who has to go, and how.
//!
//! Owns: the order in which they go when all outboxes of the process keep more alive than `outbox_budget`, and the end of every slow session.
//! Never: closes a volatile session, or a guest of `/chatroom`; what it has queued is dropped instead, and counted. Never goes below this shard's equal part of the budget: then it is
//! another shard's turn.
//! Bounds: [`crate::limits::TURN_TIMERS_MAX`] sessions a turn.

use std::cmp::Reverse;

use super::Shard;
use super::effect::Effects;
use super::session::Phase;
use crate::ids::ConnId;
use crate::limits;
use crate::metrics::tally::Slowness;
use crate::wire::{CloseCode, Profile};

impl Shard {
    /// Bytes of memory that this shard keeps alive for its readers: everything queued in outboxes (shared frames and batches once), the lists themselves,
    /// and the pages of history that are kept for those who catch up.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.bytes()
    }

    /// All shards together keep `bytes` more alive than they may: the slowest go, until this shard has let go as much or is down to its equal part.
    /// Slowest is whose queued bytes times the time since its socket took the last one is the largest.
    pub(super) fn overdrawn(&mut self, bytes: usize, fx: &mut Effects) {
        let before = self.held.bytes();
        if before <= self.setup.outbox_part {
            return;
        }
        self.pages.forget_kept(&self.held);
        let target = before.saturating_sub(bytes).max(self.setup.outbox_part);
        // A little more than asked for, so that a shard at its bound does not look for the slowest in every turn.
        self.let_go_down_to(target - target / SLACK, Slowness::Budget, fx);
    }

    /// The process takes more memory than it may: forgets what can be read again, and lets go of `bytes` of what is queued, if there is
    /// as much, as in [`Self::overdrawn`].
    pub(super) fn shed(&mut self, bytes: usize, fx: &mut Effects) {
        self.tally.caches_shed += 1;
        self.pages.forget_kept(&self.held);
        self.home.forget_idle(self.now_ms);
        if bytes > 0 {
            self.let_go_down_to(self.held.bytes().saturating_sub(bytes), Slowness::Memory, fx);
        }
    }

    fn let_go_down_to(&mut self, target: usize, why: Slowness, fx: &mut Effects) {
        let mut slowest: Vec<(u128, ConnId)> = Vec::new();
        for (slot, session) in self.sessions.iter() {
            if session.phase == Phase::Open
                && let Some(outbox) = &session.outbox
            {
                let waited_ms = self.now_ms.saturating_sub(outbox.moved_ms()) + 1;
                let slowness = outbox.bytes() as u128 * u128::from(waited_ms);
                slowest.push((slowness, ConnId { slot, generation: session.generation }));
            }
        }
        slowest.sort_unstable_by_key(|&(slowness, conn)| (Reverse(slowness), conn.slot));
        for (_, conn) in slowest.into_iter().take(limits::TURN_TIMERS_MAX) {
            if self.held.bytes() <= target {
                return;
            }
            self.make_way(conn, why, fx);
        }
    }

    fn make_way(&mut self, conn: ConnId, why: Slowness, fx: &mut Effects) {
        let guest = self.sessions.get(conn).is_some_and(|session| session.profile == Profile::Room);
        if !self.setup.volatile && !guest {
            return self.close_slow(conn, why, fx);
        }
        let outbox = self.sessions.get_mut(conn).and_then(|session| session.outbox.as_deref_mut());
        let dropped = outbox.map_or(0, super::Outbox::drop_pushes);
        let counter = if guest { &mut self.tally.room_dropped } else { &mut self.tally.dropped };
        *counter += dropped;
    }

    /// Ends a session that is too slow. What it has not taken it will read from the store; only the frame that it has begun is finished.
    pub(super) fn close_slow(&mut self, conn: ConnId, why: Slowness, fx: &mut Effects) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if session.phase == Phase::Finishing {
            return;
        }
        if let Some(outbox) = session.outbox.as_deref_mut() {
            outbox.cut();
        }
        self.tally.slow[why as usize] += 1;
        self.close(conn, CloseCode::Slow, fx);
    }
}

/// Of what a shard may keep, one part in so many is let go beyond what was asked for.
const SLACK: usize = 16;
