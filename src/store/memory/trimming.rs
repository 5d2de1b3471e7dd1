//! Retention in memory.
//!
//! Owns: how a conversation loses its beginning, and which keys are forgotten.
//! Never: moves a head.
//! Bounds: messages by steps as everywhere; keys all at once, because nothing waits for a disk.

use std::ops::Bound;

use super::State;
use super::files::Referrer;
use crate::ids::ConvId;
use crate::store::{Retention, Trimmed};

/// One to look at a conversation, one to remove a message: with less there would be no progress.
const STEPS_MIN: u32 = 2;

impl State {
    /// See [`crate::store::Backend::trim`]. `after`: the conversation that the pass has done last;
    /// kept by the caller.
    pub(super) fn trim(&mut self, retention: &Retention, steps_max: u32, after: &mut Option<ConvId>) -> Trimmed {
        let mut left = u64::from(steps_max.max(STEPS_MIN));
        let mut trimmed = Trimmed::default();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        for (&conv, kept) in self.convs.range_mut((from, Bound::Unbounded)) {
            if left == 0 {
                return trimmed;
            }
            left -= 1;
            let old = kept.rows.partition_point(|row| row.seq < retention.floor_by_count(kept.head));
            let old = old.max(kept.rows.iter().take_while(|row| row.ts_ms < retention.before_ms).count());
            let gone = old.min(usize::try_from(left).unwrap_or(usize::MAX));
            for row in kept.rows.drain(..gone) {
                self.library.release(Referrer::Message(conv, row.seq));
                kept.hidden.remove(&row.seq);
            }
            kept.floor = kept.rows.first().map_or_else(|| kept.head.next(), |row| row.seq);
            trimmed.messages += gone as u64;
            left -= gone as u64;
            if gone < old {
                return trimmed;
            }
            *after = Some(conv);
        }
        *after = None;
        let before = self.claims.len();
        self.claims.retain(|_, claim| claim.ts_ms >= retention.keys_before_ms);
        Trimmed { keys: (before - self.claims.len()) as u64, done: true, ..trimmed }
    }
}
