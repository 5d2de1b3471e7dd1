//! Retention: how much is kept, and what that means at a given time.
//!
//! Owns: the policy ([`Keep`]), the lines that it draws ([`Retention`]), the plan of what goes from
//! one conversation.
//! Never: reads a clock, or removes anything itself; a [`Backend`](super::Backend) does, in bounded
//! steps.

use crate::ids::Seq;
use crate::limits::CID_DAYS_MIN;

/// How much is kept. The default keeps everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Keep {
    /// Messages younger than this, in milliseconds; zero: of any age.
    pub age_ms: u64,
    /// The newest messages of each conversation; zero: all.
    pub count: u64,
}

impl Keep {
    /// Whether nothing ever goes.
    #[must_use]
    pub const fn is_everything(self) -> bool {
        self.age_ms == 0 && self.count == 0
    }

    /// What may go at that wall time. A post key lives at least [`CID_DAYS_MIN`] days, and at least
    /// as long as a message may for its age: a resend of what can still be read is always
    /// recognised.
    #[must_use]
    pub fn at(self, wall_ms: u64) -> Retention {
        if self.is_everything() {
            return Retention::default();
        }
        let before = |age_ms: u64| wall_ms.saturating_sub(age_ms);
        Retention {
            before_ms: if self.age_ms == 0 { 0 } else { before(self.age_ms) },
            count: self.count,
            keys_before_ms: before(self.age_ms.max(CID_DAYS_MIN * DAY_MS)),
        }
    }
}

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// What may go now. The default lets nothing go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Retention {
    /// From the beginning of a conversation, messages of before this time (Unix milliseconds), up
    /// to the first that is not: what is kept has no hole, although times may step back.
    pub before_ms: u64,
    /// Messages of a conversation beyond so many newer ones; zero: none.
    pub count: u64,
    /// Post keys that were claimed before this time (Unix milliseconds).
    pub keys_before_ms: u64,
}

impl Retention {
    /// The floor that the number of messages alone asks for.
    pub(super) fn floor_by_count(&self, head: Seq) -> Seq {
        let gone = if self.count == 0 { 0 } else { head.get().saturating_sub(self.count) };
        Seq::new(gone).unwrap_or(head).next()
    }
}

/// What one step removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Trimmed {
    /// Messages.
    pub messages: u64,
    /// Post keys.
    pub keys: u64,
    /// The step came to the end of everything; the next one begins again.
    pub done: bool,
    /// Nothing was looked at: another gateway of the database has its retention.
    pub elsewhere: bool,
}

/// What is kept, and the pass of retention that is under way, or the last one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RetentionView {
    /// How much is kept.
    pub keep: Keep,
    /// A pass is under way.
    pub running: bool,
    /// When it began, Unix milliseconds. `None`: there was none since the start.
    pub began_ms: Option<u64>,
    /// When it ended, Unix milliseconds. `None`: it has not.
    pub ended_ms: Option<u64>,
    /// Messages that it has removed.
    pub messages: u64,
    /// Post keys that it has removed.
    pub keys: u64,
    /// A step of it failed; the next pass begins anew.
    pub failed: bool,
    /// Another gateway of the database has retention, so that there are no passes here.
    pub elsewhere: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_outlive_messages() {
        let now = 100 * DAY_MS;
        assert_eq!(Keep::default().at(now), Retention::default());
        let week = Keep { age_ms: DAY_MS, count: 0 }.at(now);
        assert_eq!((week.before_ms, week.keys_before_ms), (99 * DAY_MS, 93 * DAY_MS));
        let month = Keep { age_ms: 30 * DAY_MS, count: 5 }.at(now);
        assert_eq!((month.before_ms, month.count, month.keys_before_ms), (70 * DAY_MS, 5, 70 * DAY_MS));
        let counted = Keep { age_ms: 0, count: 5 }.at(now);
        assert_eq!((counted.before_ms, counted.keys_before_ms), (0, 93 * DAY_MS));
    }

    #[test]
    fn the_newest_stay() {
        let floor = |count, head| {
            let retention = Retention { count, ..Retention::default() };
            retention.floor_by_count(Seq::new(head).expect("in range")).get()
        };
        assert_eq!([floor(0, 9), floor(3, 0), floor(3, 2), floor(3, 3), floor(3, 4), floor(3, 9)], [1, 1, 1, 1, 2, 7]);
    }
}
