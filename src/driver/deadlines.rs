//! Deadlines that are all the same distance away: a queue in order of time is enough, and costs
//! nothing to leave early.
//!
//! Owns: the queue. Whether a connection is still waiting for its deadline is asked of its state
//! when the deadline comes.
//! Bounds: what has left early is swept out when the queue has doubled since the last sweep, so it
//! is at most twice what is really waiting, and a little more.

use std::collections::VecDeque;

use crate::ids::ConnId;

/// The queue of one kind of deadline.
pub(super) struct Deadlines {
    period_ms: u64,
    queue: VecDeque<(u64, ConnId)>,
    /// Length at which the next sweep is due.
    sweep_at: usize,
}

/// Below this a sweep is not worth its while.
const SWEEP_LEN_MIN: usize = 1024;

impl Deadlines {
    pub(super) const fn new(period_ms: u64) -> Self {
        Self { period_ms, queue: VecDeque::new(), sweep_at: SWEEP_LEN_MIN }
    }

    /// `id` has one period from now on. `waits` tells which are still waiting.
    pub(super) fn push(&mut self, now_ms: u64, id: ConnId, waits: impl Fn(ConnId) -> bool) {
        if self.queue.len() >= self.sweep_at {
            self.queue.retain(|&(_, id)| waits(id));
            self.sweep_at = (self.queue.len() * 2).max(SWEEP_LEN_MIN);
        }
        self.queue.push_back((now_ms + self.period_ms, id));
    }

    /// Forgets those that have left early, as far as none that still `waits` comes before them.
    pub(super) fn skip(&mut self, waits: impl Fn(ConnId) -> bool) {
        while self.queue.pop_front_if(|&mut (_, id)| !waits(id)).is_some() {}
    }

    /// The first one: it has waited longest, or has left early.
    pub(super) fn first(&self) -> Option<ConnId> {
        self.queue.front().map(|&(_, id)| id)
    }

    /// The next one whose time has come.
    pub(super) fn due(&mut self, now_ms: u64) -> Option<ConnId> {
        let &(at, id) = self.queue.front()?;
        if at > now_ms {
            return None;
        }
        self.queue.pop_front();
        Some(id)
    }

    /// When the next one comes, if any waits. One that has left early may make it too early, never
    /// too late.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.queue.front().map(|&(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(slot: u32) -> ConnId {
        ConnId { slot, generation: 1 }
    }

    #[test]
    fn deadlines_come_in_order_and_not_early() {
        let mut deadlines = Deadlines::new(10);
        deadlines.push(0, conn(1), |_| true);
        deadlines.push(5, conn(2), |_| true);
        assert_eq!(deadlines.due(9), None);
        assert_eq!(deadlines.due(10), Some(conn(1)));
        assert_eq!(deadlines.due(10), None);
        assert_eq!(deadlines.next_ms(), Some(15));
        assert_eq!(deadlines.due(100), Some(conn(2)));
        assert_eq!(deadlines.next_ms(), None);
    }

    #[test]
    fn those_who_left_early_do_not_pile_up() {
        let mut deadlines = Deadlines::new(1_000_000);
        for slot in 0..100_000 {
            deadlines.push(0, conn(slot), |id| id.slot % 1000 == 0);
        }
        assert!(deadlines.queue.len() <= 4 * SWEEP_LEN_MIN, "{} entries for 100 that wait", deadlines.queue.len());
    }
}
