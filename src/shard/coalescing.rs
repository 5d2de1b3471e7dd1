//! Which groups are busy, and how long their messages wait so that several leave in one send per
//! member.
//!
//! A send costs the kernel as much as everything else that a delivery costs, fifteen times over,
//! and hardly more for ten messages than for one. So the messages of a *busy* group may wait for
//! those that come soon, for the budget `coalesce_ms` at most, counted from the first that waits.
//! Busy is a group whose messages come, in the mean of the latest ones, at most [`BUSY_BUDGETS`]
//! budgets apart: then a wait is likely to gather something. A silence of [`QUIET_BUDGETS`] budgets
//! makes a group quiet again, and it takes some fifteen messages to make it busy. The messages of a
//! quiet group, and so the first of each burst, do not wait; nor do those that have waited for an
//! earlier sweep of their group, because they have gathered already; nor direct messages, ever.
//!
//! The ack of a group message stands at the message's place in the batch and leaves with it: in
//! front of it are messages that its author must be told first.
//!
//! Owns: [`Pace`], what a group knows of its own rate; [`Waiting`], the groups that wait, in the
//! order of their deadlines.
//! Never: reads a clock. All deadlines are in milliseconds of `now`; the driver sleeps no longer
//! than to the first.
//! Bounds: one entry per group that waits, and a stale one for each that went early, which takes
//! [`crate::limits::SWEEP_BATCH_BYTES_MAX`] bytes or a mark.

use std::collections::VecDeque;

/// Budgets between two messages, in the mean, at which a group is still busy: two messages in three
/// then find one that waits already.
const BUSY_BUDGETS: u32 = 2;
/// Budgets of silence after which a group starts anew, and the longest gap that the mean knows.
const QUIET_BUDGETS: u32 = 8;
/// The weight of the latest gap in the mean is one in so many: long enough that the chance of a few
/// gaps does not decide.
const GAPS: u32 = 8;

const _: () = assert!(QUIET_BUDGETS > BUSY_BUDGETS, "silence ends a burst");
const _: () = assert!(
    crate::limits::COALESCE_MS_MAX as u64 * QUIET_BUDGETS as u64 * 1000 < u32::MAX as u64,
    "gaps in microseconds fit 32 bits"
);

/// How fast a group's messages come.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct Pace {
    /// When the latest came.
    last_ms: u64,
    /// The mean of the latest gaps in microseconds, rounded down; the milliseconds of `now` are too
    /// coarse for a mean.
    gap_us: u32,
}

impl Default for Pace {
    fn default() -> Self {
        // A group without a message so far is quiet, also in the first milliseconds of the clock.
        Self { last_ms: 0, gap_us: u32::MAX }
    }
}

impl Pace {
    /// A message has come. Answers whether the group is busy. `budget_ms` is at most
    /// [`crate::limits::COALESCE_MS_MAX`], and with 0 no group ever is.
    pub(in crate::shard) fn hear(&mut self, now_ms: u64, budget_ms: u32) -> bool {
        if budget_ms == 0 {
            return false;
        }
        let quiet_us = budget_ms * QUIET_BUDGETS * 1000;
        let gap_us = now_ms.saturating_sub(self.last_ms).saturating_mul(1000);
        let gap_us = u32::try_from(gap_us).unwrap_or(u32::MAX).min(quiet_us);
        let mean_us = self.gap_us.min(quiet_us);
        self.gap_us = if gap_us == quiet_us { quiet_us } else { mean_us - mean_us / GAPS + gap_us / GAPS };
        self.last_ms = now_ms;
        self.gap_us <= budget_ms * BUSY_BUDGETS * 1000
    }
}

/// Groups whose messages wait, by their keys in the roster. All wait equally long, so the queue is
/// sorted by itself.
#[derive(Default)]
pub(in crate::shard) struct Waiting {
    queue: VecDeque<(u64, u32)>,
}

impl Waiting {
    /// The group `key` waits until `due_ms`, which is not before any deadline given earlier.
    pub(in crate::shard) fn add(&mut self, due_ms: u64, key: u32) {
        debug_assert!(self.queue.back().is_none_or(|&(last, _)| last <= due_ms), "deadlines come in order");
        self.queue.push_back((due_ms, key));
    }

    /// The next group whose time has come at `now_ms`, with its deadline: if the group's own is
    /// another one by now, it has gone early.
    pub(in crate::shard) fn due(&mut self, now_ms: u64) -> Option<(u64, u32)> {
        let &(due_ms, _) = self.queue.front()?;
        if due_ms > now_ms {
            return None;
        }
        self.queue.pop_front()
    }

    /// When the next one is due.
    pub(in crate::shard) fn next_ms(&self) -> Option<u64> {
        self.queue.front().map(|&(due_ms, _)| due_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hears messages at `times`; answers which of them found the group busy.
    fn busy_at(pace: &mut Pace, budget_ms: u32, times: impl IntoIterator<Item = u64>) -> Vec<bool> {
        times.into_iter().map(|now| pace.hear(now, budget_ms)).collect()
    }

    #[test]
    fn a_slow_group_is_never_busy() {
        let fifty_a_second = (0..500).map(|n| n * 20);
        assert!(busy_at(&mut Pace::default(), 5, fifty_a_second).iter().all(|busy| !busy));
    }

    #[test]
    fn a_fast_group_is_busy_after_its_first_messages() {
        let two_hundred_a_second = (0..200).map(|n| n * 5);
        let busy = busy_at(&mut Pace::default(), 5, two_hundred_a_second);
        let first = busy.iter().position(|&busy| busy).expect("it becomes busy");
        assert!((8..24).contains(&first), "busy from message {first} on");
        assert!(busy[first..].iter().all(|&busy| busy), "and it stays so");
    }

    #[test]
    fn a_crowd_at_once_is_no_busy_group_yet() {
        let busy = busy_at(&mut Pace::default(), 5, [1000; 8]);
        assert!(busy.iter().all(|busy| !busy), "{busy:?}");
    }

    #[test]
    fn silence_makes_quiet() {
        let mut pace = Pace::default();
        let end = busy_at(&mut pace, 5, (0..100).map(|n| 1000 + n));
        assert_eq!(end.last(), Some(&true));
        assert!(pace.hear(1099 + 39, 5), "a pause within the burst");
        assert!(!pace.hear(1138 + 40, 5), "the first of the next burst");
    }

    #[test]
    fn no_budget_no_wait() {
        assert!(busy_at(&mut Pace::default(), 0, (0..100).map(|n| n / 10)).iter().all(|busy| !busy));
    }

    #[test]
    fn deadlines_come_in_their_order_and_not_early() {
        let mut waiting = Waiting::default();
        waiting.add(5, 1);
        waiting.add(5, 2);
        waiting.add(7, 3);
        assert_eq!((waiting.due(4), waiting.next_ms()), (None, Some(5)));
        assert_eq!([waiting.due(6), waiting.due(6), waiting.due(6)], [Some((5, 1)), Some((5, 2)), None]);
        assert_eq!((waiting.due(u64::MAX), waiting.next_ms()), (Some((7, 3)), None));
    }
}
