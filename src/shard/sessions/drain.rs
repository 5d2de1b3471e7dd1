//! The end of all sessions when the gateway stops: a few at a time, and each with a slot in which
//! to come back.
//!
//! Owns: whose turn it is ([`Draining`]), and the time after which a closed session is asked to
//! reconnect.
//! Never: closes more in one step than its caller allows, so that orders are seen in between.
//! Bounds: one step looks at [`limits::TURN_LOOKS_MAX`] slots.

use crate::ids::ConnId;
use crate::limits;
use crate::shard::event::Drain;
use crate::shard::io::Io;
use crate::shard::sessions::Sessions;
use crate::wire::{CloseCode, push};

/// A drain under way.
#[derive(Debug)]
pub(in crate::shard) struct Draining {
    drain: Drain,
    began_ms: u64,
    /// Slots that there were when it began; later ones are closed as they open.
    span: u32,
    /// The slot that is closed next.
    next: u32,
}

impl Draining {
    const fn new(drain: Drain, now_ms: u64, span: u32) -> Self {
        Self { drain, began_ms: now_ms, span, next: 0 }
    }

    /// Slots below this one should be closed by now.
    fn due(&self, now_ms: u64) -> u32 {
        let elapsed_ms = now_ms.saturating_sub(self.began_ms);
        if elapsed_ms >= self.drain.spread_ms {
            return self.span;
        }
        let part = u64::from(self.span) * elapsed_ms / self.drain.spread_ms;
        u32::try_from(part).unwrap_or(u32::MAX).saturating_add(1).min(self.span)
    }

    /// When the next slot is due: 0 when it is already, `None` when there is none.
    fn next_ms(&self, now_ms: u64) -> Option<u64> {
        if self.next >= self.span {
            return None;
        }
        if self.next < self.due(now_ms) {
            return Some(0);
        }
        // The earliest moment at which `due` is above `next`.
        Some(self.began_ms + (u64::from(self.next) * self.drain.spread_ms).div_ceil(u64::from(self.span)))
    }

    /// For how long whoever lives in `slot` stays away: the slots of all divide the time of the
    /// return evenly.
    fn away_ms(&self, slot: u32, now_ms: u64) -> u64 {
        let place = u64::from(slot.min(self.span));
        let within = self.drain.return_over_ms * place / u64::from(self.span.max(1));
        let at_ms = self.began_ms + self.drain.return_after_ms + within;
        at_ms.saturating_sub(now_ms).clamp(limits::DRAIN_AWAY_MS_MIN, limits::DRAIN_AWAY_MS_MAX)
    }
}

impl Sessions {
    /// The gateway stops: new sessions are closed at once from now on, and those that are there by
    /// [`Sessions::close_some`].
    pub(in crate::shard) fn begin_drain(&mut self, io: &mut Io, drain: Drain) {
        io.closing = true;
        self.draining = Some(Draining::new(drain, io.now_ms(), self.table.span()));
    }

    /// Closes up to `most` of the sessions whose time has come.
    pub(in crate::shard) fn close_some(&mut self, io: &mut Io, most: u32) {
        let Some(draining) = &mut self.draining else { return };
        let from = draining.next;
        let end = draining.due(io.now_ms()).min(from.saturating_add(limits::TURN_LOOKS_MAX));
        let mut left = most;
        let mut slot = from;
        while slot < end && left > 0 {
            if let Some(conn) = self.table.name(slot) {
                self.close(io, conn, CloseCode::Shutdown);
                left -= 1;
            }
            slot += 1;
        }
        if let Some(draining) = &mut self.draining {
            draining.next = slot;
        }
    }

    /// The close frame of a session whose gateway stops.
    pub(in crate::shard) fn shutdown_words(&self, io: &Io, conn: ConnId) -> Box<[u8]> {
        match &self.draining {
            Some(draining) => push::close_for(draining.away_ms(conn.slot, io.now_ms())),
            None => push::close(CloseCode::Shutdown),
        }
    }

    /// When [`Event::CloseSome`](crate::shard::Event::CloseSome) has something to do; `None`: never
    /// (again).
    pub(in crate::shard) fn close_due_ms(&self, io: &Io) -> Option<u64> {
        self.draining.as_ref()?.next_ms(io.now_ms())
    }

    /// See [`Shard::unreached`](crate::shard::Shard::unreached).
    pub(in crate::shard) fn unreached(&self) -> usize {
        let from = self.draining.as_ref().map_or(0, |draining| draining.next);
        let span = self.draining.as_ref().map_or_else(|| self.table.span(), |draining| draining.span);
        (from..span).filter(|&slot| self.table.at(slot).is_some()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAIN: Drain = Drain { spread_ms: 5_000, return_after_ms: 6_000, return_over_ms: 7_500 };

    #[test]
    fn closes_are_spread_evenly_and_none_is_left() {
        let mut draining = Draining::new(DRAIN, 1_000, 1_000);
        assert_eq!(draining.due(1_000), 1, "the first one at once");
        assert_eq!(draining.due(3_500), 501);
        assert_eq!(draining.due(5_999), 1_000);
        assert_eq!(draining.due(9_000), 1_000);
        let mut now_ms = 1_000;
        let mut times = Vec::new();
        while let Some(due_ms) = draining.next_ms(now_ms) {
            now_ms = now_ms.max(due_ms);
            assert!(draining.next < draining.due(now_ms), "the wake at {now_ms} was not in vain");
            times.push(now_ms);
            draining.next += 1;
        }
        assert_eq!((times.len(), times.first(), times.last()), (1_000, Some(&1_000), Some(&5_995)));
    }

    #[test]
    fn returns_are_spread_evenly_whenever_the_close_came() {
        let draining = Draining::new(DRAIN, 1_000, 1_000);
        let back = |slot: u32| {
            let closed_ms = 1_000 + u64::from(slot) * 5;
            closed_ms + draining.away_ms(slot, closed_ms)
        };
        assert_eq!(back(0), 7_000, "not before the gateway is back");
        assert_eq!(back(500), 10_750);
        let pauses: Vec<u64> = (1..1_000).map(|slot| back(slot) - back(slot - 1)).collect();
        assert!(pauses.iter().all(|pause| (7..=8).contains(pause)), "7.5 ms each: {pauses:?}");
        assert_eq!(draining.away_ms(0, 60_000), limits::DRAIN_AWAY_MS_MIN, "late is not never");
    }

    #[test]
    fn an_empty_shard_has_nothing_to_close() {
        let draining = Draining::new(Drain::default(), 5, 0);
        assert_eq!((draining.due(5), draining.next_ms(5)), (0, None));
        assert_eq!(draining.away_ms(7, 5), limits::DRAIN_AWAY_MS_MIN);
    }
}
