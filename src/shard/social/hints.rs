//! Hints at changes elsewhere (`cmd` 9), at a pace.
//!
//! Owns: when which user or group was hinted at last, and the hint that waits for the end of that
//! pause.
//! Never: loses the last hint of a pause; the ones before it said to load the same list.
//! Bounds: [`limits::HINTS_PACED_MAX`] pauses, and as many of what other gateways are told; a hint
//! beyond them goes at once.

use crate::fair::{Brake, Braked};
use crate::ids::{ConvId, GroupId, UserId, home_of};
use crate::limits;
use crate::metrics::tally::Merged;
use crate::shard::far::FarWord;
use crate::shard::io::Io;
use crate::shard::sessions::Sessions;
use crate::shard::social::Social;
use crate::wire::{Hint, push};

/// Whom a hint concerns: one list of a user's, or the members of a group.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::shard) enum Concern {
    /// What of a user's.
    User(UserId, Hint),
    /// Name, icon or description of a group.
    Group(GroupId),
}

/// The hints of a shard.
pub(in crate::shard) struct Hints {
    brake: Brake<Concern, u64>,
    /// Of what other gateways are told.
    far: Brake<Concern, u64>,
}

impl Default for Hints {
    fn default() -> Self {
        let [brake, far] = [(); 2].map(|()| Brake::new(limits::HINT_PACE_MS, limits::HINTS_PACED_MAX));
        Self { brake, far }
    }
}

impl Hints {
    /// When a hint that waits is due.
    pub(in crate::shard) fn next_ms(&self) -> Option<u64> {
        [self.brake.next_ms(), self.far.next_ms()].into_iter().flatten().min()
    }
}

impl Social {
    /// Something has changed here: `id` is the one concerned.
    pub(in crate::shard) fn hint(&mut self, io: &mut Io, sessions: &mut Sessions, concern: Concern, id: u64) {
        self.hear_hint(io, sessions, concern, id);
        // Of a group every shard is told, and one of them tells the others.
        let tells = match concern {
            Concern::User(..) => true,
            Concern::Group(group) => home_of(ConvId::Group(group), io.setup.shards) == io.setup.id,
        };
        if io.setup.clustered && tells {
            match self.hints.far.take(concern, id, io.now_ms()) {
                Braked::Now(id) => io.tell_far(word(concern, id)),
                Braked::Later(dropped) => io.tally.merged[Merged::Hint as usize] += u64::from(dropped.is_some()),
            }
        }
    }

    /// The same, of whichever gateway.
    pub(super) fn hear_hint(&mut self, io: &mut Io, sessions: &mut Sessions, concern: Concern, id: u64) {
        match self.hints.brake.take(concern, id, io.now_ms()) {
            Braked::Now(id) => self.tell_hint(io, sessions, concern, id),
            Braked::Later(dropped) => io.tally.merged[Merged::Hint as usize] += u64::from(dropped.is_some()),
        }
    }

    /// Tells the hints that have waited.
    pub(super) fn move_hints(&mut self, io: &mut Io, sessions: &mut Sessions) {
        for _ in 0..limits::TURN_HINTS_MAX {
            let Some((concern, id)) = self.hints.brake.pop(io.now_ms()) else { break };
            self.tell_hint(io, sessions, concern, id);
        }
        for _ in 0..limits::TURN_HINTS_MAX {
            let Some((concern, id)) = self.hints.far.pop(io.now_ms()) else { break };
            io.tell_far(word(concern, id));
        }
    }

    fn tell_hint(&mut self, io: &mut Io, sessions: &mut Sessions, concern: Concern, id: u64) {
        match concern {
            Concern::User(user, what) => sessions.whisper_to(io, user, &push::hint(what, id)),
            Concern::Group(group) => {
                let frame = push::hint(Hint::Groups, id);
                sessions.whisper_to_group(io, group, None, limits::HINT_MEMBERS_MAX, &frame);
            }
        }
    }
}

fn word(concern: Concern, id: u64) -> FarWord {
    match concern {
        Concern::User(user, what) => FarWord::Hint { user, what, id },
        Concern::Group(group) => FarWord::GroupHint { group },
    }
}
