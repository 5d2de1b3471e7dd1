//! What is due when: pings and idle ends of sessions by a coarse wheel, retries in order of their time.
//!
//! Owns: [`Wheel`] (one entry of 8 bytes per session, whatever it is waiting for) and [`Retries`].
//! Never: is exact. A ping a second late harms nobody; a million exact timers would.
//! The wheel is Varghese and Lauck's scheme 6 ("Hashed and Hierarchical Timing Wheels") with one level.

use std::collections::VecDeque;

use crate::ids::{ConnId, ConvId};
use crate::limits;

/// Milliseconds of one bucket.
const TICK_MS: u64 = 1024;
/// Buckets: the horizon must lie beyond every deadline that is ever set.
const BUCKETS: usize = 256;

const _: () = assert!(
    limits::IDLE_MS_MAX < TICK_MS * (BUCKETS as u64 - 2) && limits::STALL_MS_MAX < TICK_MS * (BUCKETS as u64 - 2),
    "an idle or stalled deadline lies within one round of the wheel"
);

/// The sessions by the time at which they are to be looked at.
pub(super) struct Wheel {
    buckets: Vec<Vec<ConnId>>,
    /// The tick whose bucket is taken next.
    tick: u64,
    entries: usize,
}

impl Default for Wheel {
    fn default() -> Self {
        Self { buckets: vec![Vec::new(); BUCKETS], tick: 0, entries: 0 }
    }
}

impl Wheel {
    /// Looks at `conn` at `at_ms` or up to a tick later. What is due already is looked at with the next tick.
    pub(super) fn set(&mut self, conn: ConnId, at_ms: u64) {
        let tick = (at_ms / TICK_MS + 1).clamp(self.tick, self.tick + BUCKETS as u64 - 1);
        if let Some(bucket) = self.buckets.get_mut(bucket(tick)) {
            bucket.push(conn);
            self.entries += 1;
        }
    }

    /// Takes up to `max` sessions of the next bucket that is due at `now_ms`, if there is one. To be called until it returns `None`; what `max` has left is
    /// due at once.
    pub(super) fn due(&mut self, now_ms: u64, max: usize) -> Option<Vec<ConnId>> {
        let now = now_ms / TICK_MS;
        if self.entries == 0 {
            self.tick = self.tick.max(now + 1);
            return None;
        }
        if max == 0 {
            return None;
        }
        while self.tick <= now {
            let bucket = self.buckets.get_mut(bucket(self.tick))?;
            if bucket.len() > max {
                self.entries -= max;
                return Some(bucket.split_off(bucket.len() - max));
            }
            let taken = std::mem::take(bucket);
            self.tick += 1;
            if !taken.is_empty() {
                self.entries -= taken.len();
                return Some(taken);
            }
        }
        None
    }

    /// When the next bucket is due.
    pub(super) fn next_ms(&self) -> Option<u64> {
        if self.entries == 0 {
            return None;
        }
        (self.tick..self.tick + BUCKETS as u64)
            .find(|&tick| self.buckets.get(bucket(tick)).is_some_and(|bucket| !bucket.is_empty()))
            .map(|tick| tick * TICK_MS)
    }
}

fn bucket(tick: u64) -> usize {
    (tick % BUCKETS as u64) as usize
}

/// What is tried again after [`limits::RETRY_MS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Retry {
    /// The read at open.
    Open(ConnId),
    /// The read of the conversations at open.
    Heads(ConnId),
    /// A session's parked posts.
    Parked(ConnId),
    /// A session's catching up.
    CatchUp(ConnId),
    /// A home's read of a gap, or of its head.
    Gap(ConvId),
}

/// Retries in order. All wait equally long, so the queue is sorted by itself. Bounded: at most one of each sort per session and conversation.
#[derive(Default)]
pub(super) struct Retries {
    queue: VecDeque<(u64, Retry)>,
}

impl Retries {
    /// Tries again after the pause.
    pub(super) fn add(&mut self, now_ms: u64, retry: Retry) {
        self.queue.push_back((now_ms + limits::RETRY_MS, retry));
    }

    /// The next one that is due.
    pub(super) fn due(&mut self, now_ms: u64) -> Option<Retry> {
        if self.queue.front()?.0 > now_ms {
            return None;
        }
        self.queue.pop_front().map(|(_, retry)| retry)
    }

    /// When the next one is due.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.queue.front().map(|&(at, _)| at)
    }
}

/// When a session is to be pinged that was heard last at `heard_ms` and has been pinged `pings` times since. Earlier by a jitter that
/// differs from session to session, so that those who came together do not stay together; at most [`limits::PING_JITTER_MS`] of
/// [`limits::PING_AFTER_MS`], and less in proportion of a shorter `after_ms`.
pub(super) fn ping_at(heard_ms: u64, pings: u8, conn: ConnId, seed: u64, after_ms: u64) -> u64 {
    let mixed = (u64::from(conn.slot) << 32 | u64::from(conn.generation))
        .wrapping_add(seed)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let jitter = (mixed >> 40) % (limits::PING_JITTER_MS * after_ms / limits::PING_AFTER_MS).max(1);
    heard_ms + after_ms * (u64::from(pings) + 1) - jitter
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(slot: u32) -> ConnId {
        ConnId { slot, generation: 0 }
    }

    #[test]
    fn the_wheel_gives_everything_once_and_never_early() {
        let mut wheel = Wheel::default();
        for (slot, at) in [(1, 100), (2, 5_000), (3, 129_000), (4, 1_023), (5, 1_024)] {
            wheel.set(conn(slot), at);
        }
        let mut seen = Vec::new();
        for now in (0..200_000).step_by(500) {
            // One at a time, so that every bucket of two is left half taken once.
            while let Some(due) = wheel.due(now, 1) {
                seen.extend(due.into_iter().map(|c| (c.slot, now)));
            }
        }
        seen.sort_unstable();
        assert_eq!(seen.len(), 5);
        for (&(slot, now), at) in seen.iter().zip([100, 5_000, 129_000, 1_023, 1_024]) {
            assert!(now >= at && now <= at + 2 * TICK_MS + 500, "slot {slot} set for {at} came at {now}");
        }
        assert_eq!(wheel.next_ms(), None);
    }

    #[test]
    fn what_a_turn_has_left_is_due_at_once() {
        let mut wheel = Wheel::default();
        (0..5).for_each(|slot| wheel.set(conn(slot), 100));
        let first = wheel.due(TICK_MS, 3).expect("a bucket is due");
        assert_eq!((first.len(), wheel.due(TICK_MS, 0)), (3, None));
        assert!(wheel.next_ms().is_some_and(|at| at <= TICK_MS), "the turn after comes without a pause");
        assert_eq!(wheel.due(TICK_MS, 3).map(|rest| rest.len()), Some(2));
        assert_eq!((wheel.due(TICK_MS, 3), wheel.next_ms()), (None, None));
    }

    #[test]
    fn an_empty_wheel_does_not_walk_the_past() {
        let mut wheel = Wheel::default();
        assert_eq!(wheel.due(10_000_000_000, 9), None);
        wheel.set(conn(1), 10_000_000_100);
        assert_eq!(wheel.due(10_000_000_000, 9), None);
        assert_eq!(wheel.due(10_000_002_048, 9), Some(vec![conn(1)]));
    }

    #[test]
    fn pings_are_spread_and_before_the_idle_end() {
        let mut times: Vec<u64> = (0..1000).map(|slot| ping_at(0, 0, conn(slot), 7, limits::PING_AFTER_MS)).collect();
        times.sort_unstable();
        times.dedup();
        assert!(times.len() > 500, "jitter spreads");
        assert!(
            times.iter().all(|&t| t <= limits::PING_AFTER_MS && t > limits::PING_AFTER_MS - limits::PING_JITTER_MS)
        );
        assert!(ping_at(0, 1, conn(1), 7, limits::PING_AFTER_MS) < limits::IDLE_MS_MAX);
    }
}
