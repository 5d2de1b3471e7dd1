//! What must hold of every session between two steps.
//!
//! Owns: the list, for one session and for all.

use crate::ids::ConnId;
use crate::shard::io::Io;
use crate::shard::session::{Flag, Phase, Session};
use crate::shard::sessions::Sessions;
use crate::shard::sessions::pace::Payer;

impl Sessions {
    /// Checks the session in the next slot, round and round: in every build, once a turn.
    pub(in crate::shard) fn check_next(&mut self, io: &Io) {
        if self.next_check >= self.table.span() {
            self.next_check = 0;
        }
        let slot = self.next_check;
        self.next_check += 1;
        if let Some(session) = self.table.at(slot) {
            self.check_session(io, slot, session);
            self.roster.check_session(&self.table, slot, session);
        }
    }

    /// For `check_invariants`: `backlog` bytes wait for sweeps, and `posts` are under way.
    pub(in crate::shard) fn check(&self, io: &Io, backlog: usize, posts: usize) {
        self.roster.check(&self.table, backlog);
        self.paces.check();
        self.shares.check(posts);
        self.blocks.check(|user| !self.roster.sessions_of(&self.table, user).is_empty());
        let (mut open, mut behind) = (0, 0);
        for (slot, session) in self.table.iter() {
            self.check_session(io, slot, session);
            open += u64::from(session.phase() != Phase::Finishing);
            behind += u64::from(session.is_behind());
        }
        assert_eq!(open, io.tally.sessions, "sessions are counted");
        assert_eq!(behind, io.tally.sessions_behind, "sessions that are behind are counted");
    }

    fn check_session(&self, io: &Io, slot: u32, session: &Session) {
        if let Some(outbox) = &session.outbox {
            outbox.check();
        }
        if session.phase() == Phase::Finishing {
            assert!(session.groups.is_none() && session.unfinished.is_none(), "a finished session is in no list");
            return;
        }
        let kept = session.outbox.as_ref().is_none_or(|outbox| session.is(Flag::Flushing) || !outbox.is_empty());
        assert!(kept, "no empty outbox is kept, but until its flush is over");
        if let Some(unfinished) = &session.unfinished {
            unfinished.check();
        }
        if session.phase() != Phase::Open {
            return;
        }
        let rests = self.paces.rests(Payer::of(session, ConnId { slot, generation: session.generation }));
        let wanted = session.wants_reading() && !rests;
        assert!(session.paused || wanted, "a session that may not be read is paused");
        let waits = session.is(Flag::Flushing) || self.shares.waits(session.user);
        assert!(!session.paused || !wanted || waits, "a session that may be read is resumed at its flush");
        let waits = session.outbox.as_ref().is_none_or(|outbox| outbox.is_only_response());
        let flushed = session.is(Flag::Flushing) || session.is(Flag::AcksWait) || waits;
        assert!(flushed, "what is queued is to be flushed");
        assert!(!session.is(Flag::AcksWait) || !session.is(Flag::Flushing), "what is to be flushed does not wait");
        // Counted here and not in the tally alone, so that a session that is checked alone is
        // judged as well.
        assert!(io.tally.sessions > 0, "an open session is counted");
    }
}
