//! What is due when: pings and idle ends of sessions, by rounds.
//!
//! Owns: [`Rounds`] (nothing per session: a deadline is computed when the session is looked at).
//! Never: is exact. A ping two seconds late does no harm; a million timers would cost more memory
//! than the rosters. Why rounds and no wheel: `docs/decisions/0007-rounds-instead-of-timers.md`.

use std::ops::Range;

use crate::ids::ConnId;
use crate::limits;

/// Ticks of a round: in each of them so many parts of the sessions are looked at.
const TICKS: u32 = 2;
/// Milliseconds of a tick, for the usual patience and longer ones; shorter in proportion to a
/// shorter one.
const TICK_MS: u64 = 1000;

const _: () = assert!(
    limits::PING_AFTER_MS + TICKS as u64 * TICK_MS + TICK_MS < 60_000,
    "a ping comes before common proxies give up, however late a round is"
);

/// Rounds through the table of sessions: each slot is looked at once a round.
#[derive(Default)]
pub(in crate::shard) struct Rounds {
    tick_ms: u64,
    /// When the next part is due.
    due_ms: u64,
    /// Slots that are left of the part under way.
    left: u32,
    /// The slot that is looked at next.
    next: u32,
}

impl Rounds {
    /// For sessions that are pinged after `ping_after_ms`.
    pub(in crate::shard) fn new(ping_after_ms: u64) -> Self {
        let tick_ms = (TICK_MS * ping_after_ms / limits::PING_AFTER_MS).clamp(1, TICK_MS);
        Self { tick_ms, ..Self::default() }
    }

    /// Sessions are pinged after `ping_after_ms` from now on.
    pub(in crate::shard) fn adjust(&mut self, ping_after_ms: u64, now_ms: u64) {
        self.tick_ms = Self::new(ping_after_ms).tick_ms;
        self.due_ms = self.due_ms.min(now_ms + self.tick_ms);
    }

    /// Up to `max` slots of `0..span` that are to be looked at now. To be called until there are
    /// none; what `max` has left is due at once.
    pub(in crate::shard) fn due(&mut self, now_ms: u64, span: u32, max: u32) -> Range<u32> {
        if self.left == 0 {
            if now_ms < self.due_ms {
                return 0..0;
            }
            self.due_ms = now_ms + self.tick_ms;
            self.left = span.div_ceil(TICKS);
        }
        if self.next >= span {
            self.next = 0;
        }
        let from = self.next;
        let len = self.left.min(max).min(span - from);
        self.next += len;
        self.left -= len;
        from..self.next
    }

    /// When it goes on. Only of interest while there are sessions.
    pub(in crate::shard) const fn next_ms(&self) -> u64 {
        if self.left > 0 { 0 } else { self.due_ms }
    }
}

/// The silence after which a session is pinged that has been pinged `pings` times since it was
/// heard. Shorter by a jitter that differs from session to session, so that sessions that came
/// together do not stay together; at most [`limits::PING_JITTER_MS`] of [`limits::PING_AFTER_MS`],
/// in proportion of another `after_ms`.
pub(in crate::shard) fn ping_after(pings: u8, conn: ConnId, seed: u64, after_ms: u64) -> u64 {
    let mixed = (u64::from(conn.slot) << 32 | u64::from(conn.generation))
        .wrapping_add(seed)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let jitter = (mixed >> 40) % (limits::PING_JITTER_MS * after_ms / limits::PING_AFTER_MS).max(1);
    after_ms * (u64::from(pings) + 1) - jitter
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(slot: u32) -> ConnId {
        ConnId { slot, generation: 0 }
    }

    /// The slots that are looked at in a turn at `now_ms`.
    fn turn(rounds: &mut Rounds, now_ms: u64, span: u32, max: u32) -> Vec<u32> {
        let mut slots = Vec::new();
        while let due = rounds.due(now_ms, span, max - slots.len() as u32)
            && !due.is_empty()
        {
            slots.extend(due);
        }
        slots
    }

    #[test]
    fn every_slot_is_looked_at_once_a_round() {
        for span in [1, 2, 7, 100] {
            let mut rounds = Rounds::new(limits::PING_AFTER_MS);
            let mut looks = vec![Vec::new(); span as usize];
            for now in (0..20_000).step_by(100) {
                turn(&mut rounds, now, span, 1000).into_iter().for_each(|slot| looks[slot as usize].push(now));
            }
            for times in looks {
                let pauses = times.windows(2).map(|pair| pair[1] - pair[0]);
                assert!(times[0] <= u64::from(TICKS) * TICK_MS, "the first look at one of {span}: {times:?}");
                assert!(pauses.max() <= Some(u64::from(TICKS) * TICK_MS), "one of {span}: {times:?}");
            }
        }
    }

    #[test]
    fn what_a_turn_has_left_is_due_at_once() {
        let mut rounds = Rounds::new(limits::PING_AFTER_MS);
        assert_eq!(turn(&mut rounds, 5_000, 10, 3), [0, 1, 2]);
        assert_eq!(rounds.next_ms(), 0, "the turn after comes without a pause");
        assert_eq!(turn(&mut rounds, 5_000, 10, 3), [3, 4]);
        assert_eq!((rounds.next_ms(), turn(&mut rounds, 5_999, 10, 9)), (6_000, vec![]));
        assert_eq!(turn(&mut rounds, 6_000, 12, 9), [5, 6, 7, 8, 9, 10], "the table has grown");
    }

    #[test]
    fn an_empty_table_is_not_walked_for_ever() {
        let mut rounds = Rounds::new(1);
        assert_eq!(rounds.due(10, 0, 9), 0..0);
        assert_eq!((rounds.due(11, 0, 9), rounds.next_ms()), (0..0, 12));
    }

    #[test]
    fn pings_are_spread_and_before_the_idle_end() {
        let mut times: Vec<u64> = (0..1000).map(|slot| ping_after(0, conn(slot), 7, limits::PING_AFTER_MS)).collect();
        times.sort_unstable();
        times.dedup();
        assert!(times.len() > 500, "jitter spreads");
        assert!(
            times.iter().all(|&t| t <= limits::PING_AFTER_MS && t > limits::PING_AFTER_MS - limits::PING_JITTER_MS)
        );
        assert!(ping_after(1, conn(1), 7, limits::PING_AFTER_MS) < limits::IDLE_MS);
    }
}
