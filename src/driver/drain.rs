//! The last stage of a stop: closing what is left, in portions between which orders are seen.
//!
//! Owns: the portion of a turn, and the walk over the connections that are no sessions.
//! Never: gives the shard more to close than what the sockets have taken of the closes before.
//! Bounds: [`TURN_CLOSES_MAX`] closes, and as many of no session, of [`TURN_LOOKS_MAX`] slots
//! looked at.

use super::Driver;
use super::conn::State;
use crate::limits::{TURN_CLOSES_MAX, TURN_LOOKS_MAX};
use crate::mesh::StopProgress;
use crate::shard::{Drain, Event};

impl Driver {
    /// Sessions are closed from now on; whoever is none is not waited for.
    pub(super) fn begin_drain(&mut self, drain: Drain) {
        self.give(Event::CloseAll(drain));
        self.sessionless = Some(0);
    }

    /// Closes a portion. What is still unwritten of the last ones is taken off it.
    pub(super) fn close_some(&mut self) {
        self.end_sessionless();
        let waiting = u32::try_from(self.dirty.len()).unwrap_or(u32::MAX);
        let most = TURN_CLOSES_MAX.saturating_sub(waiting);
        if most > 0 {
            self.give(Event::CloseSome { most });
        }
    }

    /// Ends some of the connections that are no sessions.
    fn end_sessionless(&mut self) {
        let Some(from) = self.sessionless else { return };
        let span = self.table.span();
        let (mut slot, mut left) = (from, TURN_CLOSES_MAX);
        let end = span.min(from + TURN_LOOKS_MAX as usize);
        while slot < end && left > 0 {
            if let Some((id, conn)) = self.table.at(slot)
                && matches!(conn.state, State::Handshake(_) | State::Head(_) | State::Echo(_))
            {
                self.mark_closed(id);
                left -= 1;
            }
            slot += 1;
        }
        self.sessionless = (slot < span).then_some(slot);
    }

    /// Leaves, whatever is left, and says how much that is.
    pub(super) fn leave(&mut self) {
        let progress = StopProgress::Over {
            shard: self.endpoint.me(),
            open: self.table.len(),
            unreached: self.shard.unreached(),
            unanswered: self.shard.outstanding(),
        };
        self.endpoint.report(progress);
    }
}
