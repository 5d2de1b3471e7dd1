//! Hints at changes elsewhere (`cmd` 9), at a pace.
//!
//! Owns: when which user or group was hinted at last, and the hint that waits for the end of that
//! pause.
//! Never: loses the last hint of a pause; the ones before it said to load the same list.
//! Bounds: [`limits::HINTS_PACED_MAX`] pauses; a hint beyond them goes at once.

use super::Shard;
use super::effect::Effects;
use crate::fair::{Brake, Braked};
use crate::ids::{GroupId, UserId};
use crate::limits;
use crate::metrics::tally::Merged;
use crate::wire::{Hint, push};

/// Whom a hint concerns: one list of a user's, or the members of a group.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Concern {
    /// What of a user's.
    User(UserId, Hint),
    /// Name, icon or description of a group.
    Group(GroupId),
}

/// The hints of a shard.
pub(super) struct Hints {
    brake: Brake<Concern, u64>,
}

impl Default for Hints {
    fn default() -> Self {
        Self { brake: Brake::new(limits::HINT_PACE_MS, limits::HINTS_PACED_MAX) }
    }
}

impl Hints {
    /// When a hint that waits is due.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.brake.next_ms()
    }
}

impl Shard {
    /// Something has changed: `id` is the one concerned.
    pub(super) fn hint(&mut self, concern: Concern, id: u64, fx: &mut Effects) {
        match self.hints.brake.take(concern, id, self.now_ms) {
            Braked::Now(id) => self.tell_hint(concern, id, fx),
            Braked::Later(dropped) => self.tally.merged[Merged::Hint as usize] += u64::from(dropped.is_some()),
        }
    }

    /// Tells the hints that have waited.
    pub(super) fn move_hints(&mut self, fx: &mut Effects) {
        for _ in 0..limits::TURN_HINTS_MAX {
            let Some((concern, id)) = self.hints.brake.pop(self.now_ms) else { break };
            self.tell_hint(concern, id, fx);
        }
    }

    fn tell_hint(&mut self, concern: Concern, id: u64, fx: &mut Effects) {
        match concern {
            Concern::User(user, what) => self.whisper_to(user, &push::hint(what, id), fx),
            Concern::Group(group) => {
                let frame = push::hint(Hint::Groups, id);
                self.whisper_to_group(group, None, limits::HINT_MEMBERS_MAX, &frame, fx);
            }
        }
    }
}
