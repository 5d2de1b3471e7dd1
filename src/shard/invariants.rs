//! What must hold between two steps. Checked after every step in debug builds while the shard is small; the simulation runs with it.
//!
//! Owns: the list. A broken one is our fault, never a client's, and ends the process.
//! Bounds: looks at every session, so it rests beyond [`CHECKED_SESSIONS_MAX`].

use std::collections::BTreeSet;

use super::Shard;
use super::outbox::Frame;
use super::pace::Payer;
use super::session::{Flag, Phase, Session};
use crate::ids::ConnId;
use crate::limits;

/// Sessions up to which every step is checked: a debug build with thousands of sessions must stay usable.
const CHECKED_SESSIONS_MAX: u64 = 256;
/// Bytes that are queued beyond which a debug build looks at one step in [`CHECKED_STEPS`].
const CHECKED_HELD_BYTES: usize = 64 * 1024;
/// See [`CHECKED_HELD_BYTES`].
const CHECKED_STEPS: u32 = 64;

impl Shard {
    /// [`Shard::check_invariants`] in debug builds of small shards; now and then only while much is queued, because each look counts all of it.
    pub(super) fn check_if_small(&mut self) {
        if !cfg!(debug_assertions) || self.tally.sessions > CHECKED_SESSIONS_MAX {
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
        assert!(self.local.is_empty(), "what the shard says to itself is said within the step");
        assert!(self.asks.len() <= limits::STORE_ASKS_MAX as usize, "asks are bounded");
        assert_eq!(self.posts.len(), self.lanes.posts() as usize, "each post under way holds one place");
        self.roster.check(&self.sessions, self.sweeps.bytes);
        self.home.check();
        self.cursors.check();
        self.claims.check();
        self.paces.check();
        self.shares.check(self.posts.len());
        self.typings.check();
        self.watches.check(&self.sessions);
        self.blocks.check(|user| !self.roster.sessions_of(&self.sessions, user).is_empty());
        self.presences.check();
        self.pages.check();
        self.interest.check();
        self.check_held();
        let mut open = 0;
        let mut behind = 0;
        for (slot, session) in self.sessions.iter() {
            if session.phase == Phase::Finishing {
                assert!(session.groups.is_none() && session.trouble.is_none(), "a finished session is in no list");
                continue;
            }
            open += 1;
            behind += u64::from(session.is_behind());
            let kept = session.outbox.as_ref().is_none_or(|outbox| session.is(Flag::Flushing) || !outbox.is_empty());
            assert!(kept, "nobody keeps an empty outbox, but until its flush is reported");
            if let Some(trouble) = &session.trouble {
                trouble.behind.check();
            }
            if session.phase == Phase::Open {
                let conn = ConnId { slot, generation: session.generation };
                let rests = self.paces.rests(Payer::of(session, conn));
                let wanted = session.wants_reading() && !rests;
                assert!(session.paused || wanted, "who may not be read is paused");
                let waits = session.is(Flag::Flushing) || self.shares.waits(session.user);
                assert!(!session.paused || !wanted || waits, "who may be read is resumed at its flush");
                let flushed = session.is(Flag::Flushing) || session.is(Flag::AcksWait);
                assert!(session.outbox.is_none() || flushed, "what is queued is to be flushed");
                assert!(
                    !session.is(Flag::AcksWait) || !session.is(Flag::Flushing),
                    "what is to be flushed does not wait"
                );
            }
        }
        assert_eq!(open, self.tally.sessions, "sessions are counted");
        assert_eq!(behind, self.tally.sessions_behind, "sessions that are behind are counted");
    }

    /// What readers keep alive, counted anew, is what the account says.
    fn check_held(&self) {
        let mut seen = BTreeSet::new();
        let queued = |session: &Session, seen: &mut _| session.outbox.as_ref().map_or(0, |outbox| outbox.kept(seen));
        let mut held: usize = self.sessions.iter().map(|(_, session)| queued(session, &mut seen)).sum();
        held += self.pages.frames().filter(|frame| seen.insert(frame.name())).map(Frame::kept).sum::<usize>();
        assert_eq!(held, self.held(), "what readers keep alive is counted");
    }
}
