//! What must hold between two steps.
//!
//! Owns: when the state is checked. All of it after every step in debug builds while the shard is
//! small (the simulation runs with it), and in every build one session and one conversation a turn
//! ([`Shard::check_next`]), so that a fault does not go on for long. A broken one is our fault,
//! never a client's, and ends the process.
//! Bounds: the whole looks at every session, so it rests beyond [`CHECKED_SESSIONS_MAX`].

use std::collections::BTreeSet;

use super::Shard;
use super::session::Session;
use super::session::outbox::Frame;
use crate::limits;

/// Sessions up to which every step is checked: a debug build with thousands of sessions must stay
/// usable.
const CHECKED_SESSIONS_MAX: u64 = 256;
/// Bytes that are queued beyond which a debug build looks at one step in [`CHECKED_STEPS`].
const CHECKED_HELD_BYTES: usize = 64 * 1024;
/// See [`CHECKED_HELD_BYTES`].
const CHECKED_STEPS: u32 = 64;

impl Shard {
    /// Checks the next session and the next conversation, in turn. To be called once a turn.
    pub fn check_next(&mut self) {
        self.sessions.check_next(&self.io);
        self.home.check_next();
    }

    /// [`Shard::check_invariants`] in debug builds of small shards; now and then only while much is
    /// queued, because each look counts all of it.
    pub(super) fn check_if_small(&mut self) {
        if !cfg!(debug_assertions) || self.io.tally.sessions > CHECKED_SESSIONS_MAX {
            return;
        }
        self.unchecked_steps += 1;
        if self.held() <= CHECKED_HELD_BYTES || self.unchecked_steps >= CHECKED_STEPS {
            self.unchecked_steps = 0;
            self.check_invariants();
        }
    }

    /// Panics if the shard's state does not agree with itself.
    pub fn check_invariants(&self) {
        assert!(self.io.local.is_empty(), "what the shard says to itself is said within the step");
        assert!(self.io.asks.len() <= limits::STORE_ASKS_MAX as usize, "asks are bounded");
        assert_eq!(self.posting.len(), self.io.lanes.posts() as usize, "each post under way holds one place");
        self.sessions.check(&self.io, self.deliveries.sweeps().bytes, self.posting.len());
        self.home.check();
        self.social.check(&self.sessions);
        self.deliveries.catching_up.pages().check();
        self.opening.check();
        self.check_held();
    }

    /// What readers keep alive, counted anew, is what the account says.
    fn check_held(&self) {
        let mut seen = BTreeSet::new();
        let queued = |session: &Session, seen: &mut _| session.outbox.as_ref().map_or(0, |outbox| outbox.kept(seen));
        let mut held: usize = self.sessions.table.iter().map(|(_, session)| queued(session, &mut seen)).sum();
        let pages = self.deliveries.catching_up.pages();
        held += pages.frames().filter(|frame| seen.insert(frame.name())).map(Frame::kept).sum::<usize>();
        assert_eq!(held, self.held(), "what readers keep alive is counted");
    }
}
