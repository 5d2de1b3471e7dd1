//! Which acks of direct messages wait a little, so that several leave in one send.
//!
//! To the author of a stream (a bridge, a bot) an ack is a send of its own, and that send costs as much as everything else that her message costs. So the acks of
//! somebody who posts *faster than acks are worth sending* wait for each other, for the budget `coalesce_ms` at most, counted from the first that waits; whatever
//! else is to be sent to her takes them along. Messages never wait, and nobody waits who posts as people do: the latest posts have to come less than a budget apart
//! in the mean, and it takes some eighteen of them.
//!
//! Somebody who posts that fast may still be waiting for each ack before she goes on. That shows: while her acks wait, she falls silent. Then they have waited in
//! vain, and the acks of her next [`REST_MIN`] posts do not wait, of twice as many each time that it happens again. See
//! `docs/decisions/0008-acks-of-a-stream-share-a-send.md`.
//!
//! Owns: [`Stream`], what a session knows of its own posts; when acks wait, and when they leave.
//! Never: reorders. What waits is in the outbox already, at its place.
//! Bounds: [`limits::ACKS_WAITING_MAX`] acks of a session; one entry per session that waits, and a stale one for each whose acks went early.

use super::Shard;
use super::effect::Effects;
use super::session::{Flag, Phase};
use crate::ids::ConnId;
use crate::limits;

/// Budgets between two posts from which on they are no stream; the mean begins there.
const PAUSE_BUDGETS: u8 = 8;
/// What the mean counts in: so many to a budget.
const STEPS: u8 = 16;
/// The weight of the latest gap in the mean is one in so many: long enough that one pause does not end a stream.
const GAPS: u8 = 8;
/// After acks have waited in vain, the acks of so many posts do not wait; of twice as many each time that it happens again.
const REST_MIN: u16 = 4;
/// How often that doubles.
const DOUBLINGS_MAX: u8 = 10;

/// How a session posts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
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
    fn post(&mut self, gap_ms: u64, budget_ms: u32) {
        let share = gap_ms.saturating_mul(u64::from(STEPS / GAPS)) / u64::from(budget_ms).max(1);
        let share = u8::try_from(share).unwrap_or(u8::MAX);
        self.rest = self.rest.saturating_sub(1);
        self.mean = match share {
            share if share < PAUSE_BUDGETS * (STEPS / GAPS) => self.mean - self.mean / GAPS + share,
            _ => PAUSE_BUDGETS * STEPS,
        };
    }

    /// Whether the next ack may wait: posts come less than a budget apart in the mean.
    const fn is_fast(self) -> bool {
        self.mean < STEPS && self.rest == 0
    }

    /// The budget is used up, and for the last `silent_ms` of it nothing was heard. Whoever goes on until late in it does not wait for acks; who waits for them has
    /// fallen silent as soon as the last of those came that had left before.
    fn settle(&mut self, silent_ms: u64, budget_ms: u32) {
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
    assert!(limits::ACKS_WAITING_MAX < limits::ANSWERS_PENDING_MAX / 2, "waiting acks keep nobody from being read");

impl Shard {
    /// `conn` has posted, `gap_ms` after whatever was heard of it before.
    pub(super) fn note_post(&mut self, conn: ConnId, gap_ms: u64) {
        if self.setup.coalesce_ms > 0
            && let Some(session) = self.sessions.get_mut(conn)
        {
            session.stream.post(gap_ms, self.setup.coalesce_ms);
        }
    }

    /// The ack of a direct message; `None` for who gets none.
    pub(super) fn give_ack(&mut self, conn: ConnId, ack: Option<Box<[u8]>>, fx: &mut Effects) {
        match ack {
            Some(ack) if self.may_wait(conn) => self.keep_ack(conn, ack, fx),
            ack => self.give_answer(conn, ack, fx),
        }
    }

    fn may_wait(&self, conn: ConnId) -> bool {
        let Some(session) = self.sessions.get(conn) else { return false };
        // What is on its way already takes the ack along.
        session.stream.is_fast() && session.phase == Phase::Open && !session.is(Flag::Flushing) && !self.quiescing
    }

    fn keep_ack(&mut self, conn: ConnId, ack: Box<[u8]>, fx: &mut Effects) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        debug_assert!(session.unanswered > 0, "a command is answered once");
        session.unanswered = session.unanswered.saturating_sub(1);
        let first = !session.is(Flag::AcksWait);
        session.set(Flag::AcksWait, true);
        let outbox = session.outbox_mut(&self.held);
        outbox.answer(ack);
        let full = outbox.answers() >= limits::ACKS_WAITING_MAX;
        if first {
            outbox.offer();
            self.acks_waiting.add(self.now_ms + u64::from(self.setup.coalesce_ms), conn.slot);
        }
        self.tally.acks_waited += 1;
        if full {
            self.ask_flush(conn, fx);
        }
        self.regulate(conn, fx);
    }

    /// Sends the acks that have waited until `now_ms`.
    pub(super) fn send_waiting_acks(&mut self, now_ms: u64, fx: &mut Effects) {
        while let Some((_, slot)) = self.acks_waiting.due(now_ms) {
            // Its acks went early, or its session: what another of that slot keeps meanwhile leaves a little sooner.
            let Some(session) = self.sessions.at_mut(slot).filter(|session| session.is(Flag::AcksWait)) else {
                continue;
            };
            let silent_ms = session.silent_ms(self.now_ms);
            session.stream.settle(silent_ms, self.setup.coalesce_ms);
            let conn = ConnId { slot, generation: session.generation };
            self.ask_flush(conn, fx);
        }
    }
}

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
