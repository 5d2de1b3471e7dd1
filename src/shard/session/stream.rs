//! Which acks of direct messages wait a little, so that several leave in one send.
//!
//! To the author of a stream (a bridge, a bot) an ack is a send of its own, and that send costs as
//! much as everything else that the message costs. So the acks of a session that posts *faster than
//! acks are worth sending* wait for each other, for the budget `coalesce_ms` at most, counted from
//! the first that waits; whatever else is to be sent to it takes them along. Messages never wait,
//! and acks to a session that posts as people do never wait: the latest posts have to come less
//! than a budget apart in the mean, and it takes some eighteen of them.
//!
//! A client that posts that fast may still be waiting for each ack before it goes on. That shows:
//! while its acks wait, it falls silent. Then they have waited in vain, and the acks of its next
//! [`REST_MIN`] posts do not wait, of twice as many each time that it happens again. See
//! `docs/decisions/0008-acks-of-a-stream-share-a-send.md`.
//!
//! Owns: [`Stream`], what a session knows of its own posts; when acks wait, and when they leave.
//! Never: reorders. What waits is in the outbox already, at its place.
//! Bounds: [`limits::ACKS_WAITING_MAX`] acks of a session; one entry per session that waits, and a
//! stale one for each whose acks went early.

use crate::limits;

/// Budgets between two posts from which on they are no stream; the mean begins there.
const PAUSE_BUDGETS: u8 = 8;
/// What the mean counts in: so many to a budget.
const STEPS: u8 = 16;
/// The weight of the latest gap in the mean is one in so many: long enough that one pause does not
/// end a stream.
const GAPS: u8 = 8;
/// After acks have waited in vain, the acks of so many posts do not wait; of twice as many each
/// time that it happens again.
const REST_MIN: u16 = 4;
/// How often that doubles.
const DOUBLINGS_MAX: u8 = 10;

/// How a session posts.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) struct Stream {
    /// Posts of which the acks will not wait.
    rest: u16,
    /// The mean of the latest gaps in [`STEPS`] of a budget.
    mean: u8,
    /// Times that acks have waited in vain since they last did not.
    in_vain: u8,
}

impl Default for Stream {
    fn default() -> Self {
        Self { rest: 0, mean: PAUSE_BUDGETS * STEPS, in_vain: 0 }
    }
}

impl Stream {
    /// A post has come, `gap_ms` after whatever was heard before.
    pub(in crate::shard) fn post(&mut self, gap_ms: u64, budget_ms: u32) {
        let share = gap_ms.saturating_mul(u64::from(STEPS / GAPS)) / u64::from(budget_ms).max(1);
        let share = u8::try_from(share).unwrap_or(u8::MAX);
        self.rest = self.rest.saturating_sub(1);
        self.mean = match share {
            share if share < PAUSE_BUDGETS * (STEPS / GAPS) => self.mean - self.mean / GAPS + share,
            _ => PAUSE_BUDGETS * STEPS,
        };
    }

    /// Whether the next ack may wait: posts come less than a budget apart in the mean.
    pub(in crate::shard) const fn is_fast(self) -> bool {
        self.mean < STEPS && self.rest == 0
    }

    /// The budget is used up, and for the last `silent_ms` of it nothing was heard. A client that
    /// goes on until late in it does not wait for acks; one that does has fallen silent as soon as
    /// the last of those came that had left before.
    pub(in crate::shard) fn settle(&mut self, silent_ms: u64, budget_ms: u32) {
        if silent_ms * 3 <= u64::from(budget_ms) * 2 {
            self.in_vain = 0;
        } else {
            self.rest = REST_MIN << self.in_vain;
            self.in_vain = (self.in_vain + 1).min(DOUBLINGS_MAX);
        }
    }
}

const _: () = assert!(REST_MIN.checked_mul(1 << DOUBLINGS_MAX).is_some(), "the longest rest can be counted");
const _: () = assert!(PAUSE_BUDGETS.checked_mul(STEPS + STEPS / GAPS).is_some(), "the longest mean can be counted");
const _: () =
    assert!(limits::ACKS_WAITING_MAX < limits::ANSWERS_PENDING_MAX / 2, "waiting acks keep no session from being read");

#[cfg(test)]
mod tests {
    use super::*;

    /// Posts with `gap_ms` between them until acks may wait; how many it took, at most `max`.
    fn posts_until_fast(stream: &mut Stream, gap_ms: u64, max: u32) -> Option<u32> {
        (1..=max).find(|_| {
            stream.post(gap_ms, 5);
            stream.is_fast()
        })
    }

    #[test]
    fn only_a_stream_waits() {
        assert_eq!(posts_until_fast(&mut Stream::default(), 6, 10_000), None);
        assert_eq!(posts_until_fast(&mut Stream::default(), 0, 10_000), Some(18));
        let mut stream = Stream::default();
        assert!(posts_until_fast(&mut stream, 4, 100).is_some_and(|posts| posts > 15));
        stream.post(39, 5);
        assert!(!stream.is_fast(), "a pause");
        assert!(posts_until_fast(&mut stream, 0, 100).is_some_and(|posts| posts < 10), "that the stream survives");
        stream.post(40, 5);
        assert_eq!(posts_until_fast(&mut stream, 0, 100), Some(18), "and one that it does not");
    }

    #[test]
    fn who_waits_for_acks_is_kept_waiting_ever_less() {
        let mut stream = Stream::default();
        posts_until_fast(&mut stream, 0, 100);
        for rest in [4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 4096] {
            stream.settle(4, 5);
            assert_eq!(posts_until_fast(&mut stream, 0, 5000), Some(rest));
        }
        stream.settle(3, 5);
        assert!(stream.is_fast(), "who goes on posting goes on waiting");
        stream.settle(4, 5);
        assert_eq!(posts_until_fast(&mut stream, 0, 5000), Some(4), "what was learnt of her is forgotten");
    }
}
