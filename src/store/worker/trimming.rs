//! When a writing worker takes a step of retention, or forgets old changes about users.
//!
//! Owns: the policy and the time of the next step.
//! Never: takes two steps without giving waiting writes a commit between them.
//! Bounds: [`TRIM_STEPS_MAX`] rows in a step.

use super::Counters;
use crate::clock::Now;
use crate::limits::{CHANGES_PAUSE_MS, TRIM_PASS_MS, TRIM_PAUSE_MS, TRIM_STEPS_MAX};
use crate::store::{Backend, Keep};

/// Retention of one database; one of its writing workers has it.
pub(super) struct Trimming {
    keep: Keep,
    /// When a step of retention is due, in monotonic milliseconds; never, where everything is kept.
    due_ms: u64,
    /// When old changes go.
    changes_due_ms: u64,
}

impl Trimming {
    /// The first pass begins at once.
    pub(super) fn new(keep: Keep) -> Self {
        let due_ms = if keep.is_everything() { u64::MAX } else { 0 };
        Self { keep, due_ms, changes_due_ms: 0 }
    }

    pub(super) fn due_ms(&self) -> u64 {
        self.due_ms.min(self.changes_due_ms)
    }

    /// One step, if it is time for one.
    pub(super) fn step(&mut self, backend: &mut dyn Backend, now: Now, counters: &Counters) {
        if now.mono_ms >= self.changes_due_ms {
            self.changes_due_ms = now.mono_ms + forget_changes(backend, counters);
            return;
        }
        if now.mono_ms < self.due_ms {
            return;
        }
        let pause_ms = match backend.trim(&self.keep.at(now.wall_ms), TRIM_STEPS_MAX) {
            Ok(trimmed) => {
                counters.trimmed(trimmed);
                let removed = trimmed.messages + trimmed.keys;
                match trimmed.done {
                    true => TRIM_PASS_MS,
                    // There is much to remove: as fast as it comes in, at least.
                    false if removed >= u64::from(TRIM_STEPS_MAX) / 2 => 0,
                    false => TRIM_PAUSE_MS,
                }
            }
            Err(why) => {
                counters.upkeep_failed();
                // Not more often than a pass begins.
                tracing::warn!(%why, "a step of retention fails");
                TRIM_PASS_MS
            }
        };
        self.due_ms = now.mono_ms + pause_ms;
    }
}

/// Forgets old changes; how long nothing needs to be done again.
fn forget_changes(backend: &mut dyn Backend, counters: &Counters) -> u64 {
    match backend.forget_changes(TRIM_STEPS_MAX) {
        Ok(gone) if gone >= u64::from(TRIM_STEPS_MAX) / 2 => TRIM_PAUSE_MS,
        Ok(_) => CHANGES_PAUSE_MS,
        Err(why) => {
            counters.upkeep_failed();
            tracing::warn!(%why, "old changes about users cannot be removed");
            CHANGES_PAUSE_MS
        }
    }
}
