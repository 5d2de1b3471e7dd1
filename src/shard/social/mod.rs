//! What users tell and show each other beside messages: what they have received and read, typing,
//! presence, hints at changes elsewhere.
//!
//! Owns: the words on their way to the store, to other shards and to sessions, each at its pace.
//! Never: delivers a message.
//! Bounds: where each of its parts says so.

mod blocking;
mod claims;
mod cursors;
pub(in crate::shard) mod hints;
mod presence;
mod typing;
mod watches;

use crate::ids::{ConnId, ConvId, Seq, UserId};
use crate::limits;
use crate::shard::far::FarWord;
use crate::shard::io::Io;
use crate::shard::sessions::Sessions;
use crate::shard::social::claims::Claims;
use crate::shard::social::cursors::Cursors;
use crate::shard::social::hints::{Concern, Hints};
use crate::shard::social::presence::Presences;
use crate::shard::social::typing::Typings;
use crate::shard::social::watches::Watches;
use crate::store::Heads;

/// All of it.
#[derive(Default)]
pub(in crate::shard) struct Social {
    claims: Claims,
    cursors: Cursors,
    hints: Hints,
    presences: Presences,
    typings: Typings,
    watches: Watches,
}

impl Social {
    /// When something is due.
    pub(in crate::shard) fn next_ms(&self) -> Option<u64> {
        let due = [self.hints.next_ms(), self.cursors.next_ms(), self.watches.next_ms(), self.presences.next_ms()];
        due.into_iter().flatten().min()
    }

    /// What is due at the end of a turn.
    pub(in crate::shard) fn end_turn(&mut self, io: &mut Io, sessions: &mut Sessions) {
        self.move_cursors(io);
        self.move_far_cursors(io, sessions);
        self.move_presence(io, sessions);
        self.move_hints(io, sessions);
    }

    /// A session in full use has come or gone.
    pub(in crate::shard) fn session_ended(&mut self, io: &mut Io, conn: ConnId, user: UserId) {
        self.end_watch(conn);
        self.presence_changed(io, user);
        self.hurry_cursors(io, user);
    }

    /// Another gateway says something. It is said here as one of its sessions would have said it.
    pub(in crate::shard) fn far_word(&mut self, io: &mut Io, sessions: &mut Sessions, word: FarWord) {
        match word {
            FarWord::Cursor { user, conv, recv, read } => self.far_cursor(io, sessions, user, conv, (recv, read)),
            FarWord::Typing { user, conv } => {
                self.relay_typing(io, sessions, user, conv);
            }
            FarWord::Hint { user, what, id } => self.hear_hint(io, sessions, Concern::User(user, what), id),
            FarWord::Disconnect { user } => {
                sessions.disconnect(io, user, None);
            }
            FarWord::Devices { user, node, asks, list } => sessions.far_devices(io, user, node, asks, list),
            FarWord::GroupHint { group } => self.hear_hint(io, sessions, Concern::Group(group), group.get()),
        }
    }

    /// A legacy session of the user has confirmed what it was sent.
    pub(in crate::shard) fn arrived(&mut self, io: &mut Io, user: UserId, conv: ConvId, seq: Seq) {
        // No room: the page gets these once more at its next login.
        let due_ms = io.now_ms() + limits::LEGACY_CURSOR_PACE_MS;
        self.cursors.say(user, conv, (seq, Seq::ZERO), seq, due_ms, io.now_ms());
    }

    /// What users have said lately may not be stored yet: adds it to what the store has listed.
    pub(in crate::shard) fn add_newest(&self, user: UserId, heads: &mut Heads) {
        for state in &mut heads.convs {
            let (recv, read) = self.cursors.newest(user, state.conv);
            state.recv = state.recv.max(recv);
            // What is unread after it only the store can count, unless it is nothing: else the pair
            // that it has read stays together.
            if read >= state.head {
                (state.read, state.unread) = (read, 0);
            }
        }
    }

    /// For `check_invariants`.
    pub(in crate::shard) fn check(&self, sessions: &Sessions) {
        self.claims.check();
        self.cursors.check();
        self.typings.check();
        self.watches.check(&sessions.table);
        self.presences.check();
    }
}

/// What tests look at.
#[cfg(test)]
impl Social {
    pub(super) const fn cursors(&self) -> &Cursors {
        &self.cursors
    }

    pub(super) const fn presences(&self) -> &Presences {
        &self.presences
    }

    pub(super) const fn watches(&self) -> &Watches {
        &self.watches
    }

    pub(super) const fn watches_mut(&mut self) -> &mut Watches {
        &mut self.watches
    }

    pub(super) fn forget_hints(&mut self) {
        self.hints = Hints::default();
    }
}
