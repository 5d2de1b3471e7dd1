//! The line of sessions about which the store has not been asked yet.
//!
//! Owns: the pace of the reads at open. A session that comes alone is asked about at once; when
//! many come, all that came in one pace are asked about together, and the store answers them with
//! one query. Two threads are woken for each such read, which costs more than the read itself.
//! Never: holds a session up for longer than a pace, as long as there are fewer in line than a
//! batch takes.
//! Bounds: the sessions; [`limits::READS_GATHERED_MAX`] reads a pace.

use std::collections::VecDeque;

use crate::ids::ConnId;
use crate::limits;

/// The sessions in line.
#[derive(Default)]
pub(in crate::shard) struct Arrivals {
    waiting: VecDeque<ConnId>,
    /// Monotonic milliseconds before which the store is not asked.
    rests_ms: u64,
    /// How many may still go in the batch under way.
    left: usize,
}

impl Arrivals {
    /// A session has come. `true`: the store is asked about it now; else it stands in line.
    pub(in crate::shard) fn come(&mut self, now_ms: u64, conn: ConnId) -> bool {
        if self.waiting.is_empty() && now_ms >= self.rests_ms {
            self.rests_ms = now_ms + limits::OPEN_PACE_MS;
            return true;
        }
        self.waiting.push_back(conn);
        false
    }

    /// Begins a batch, if one is due. To be called at the end of a turn.
    pub(in crate::shard) fn begin(&mut self, now_ms: u64) {
        self.left = 0;
        if !self.waiting.is_empty() && now_ms >= self.rests_ms {
            self.rests_ms = now_ms + limits::OPEN_PACE_MS;
            self.left = limits::READS_GATHERED_MAX;
        }
    }

    /// The next one of the batch.
    pub(in crate::shard) fn next(&mut self) -> Option<ConnId> {
        self.left = self.left.checked_sub(1)?;
        self.waiting.pop_front()
    }

    /// When the next batch is due.
    pub(in crate::shard) fn next_ms(&self) -> Option<u64> {
        (!self.waiting.is_empty()).then_some(self.rests_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_goes_at_once_and_the_others_go_together() {
        let mut arrivals = Arrivals::default();
        let conn = |slot| ConnId { slot, generation: 1 };
        assert!(arrivals.come(100, conn(0)));
        let many = u32::try_from(limits::READS_GATHERED_MAX).expect("small") + 3;
        assert!((1..=many).all(|slot| !arrivals.come(100, conn(slot))));
        let mut turn = |now| {
            arrivals.begin(now);
            let mut asked = 0;
            while arrivals.next().is_some() {
                asked += 1;
            }
            (asked, arrivals.next_ms())
        };
        let pace = limits::OPEN_PACE_MS;
        assert_eq!(turn(100 + pace - 1), (0, Some(100 + pace)));
        assert_eq!(turn(100 + pace), (limits::READS_GATHERED_MAX, Some(100 + 2 * pace)));
        assert_eq!(turn(100 + 2 * pace), (3, None));
        assert!(!arrivals.come(100 + 2 * pace, conn(1)), "the pace is kept");
        assert!(Arrivals::default().come(0, conn(1)));
    }
}
