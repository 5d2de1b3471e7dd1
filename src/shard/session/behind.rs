//! What one session lacks: per conversation the first message that it has not been sent.
//!
//! Owns: [`Behind`], and which conversation has its turn to be read next.
//! Bounds: [`limits::BEHIND_CONVS_MAX`] conversations a session, one read at a time.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};

use crate::ids::{ConvId, Seq};
use crate::limits;

/// What a session lacks in one conversation.
#[derive(Debug)]
pub(in crate::shard) struct Missing {
    /// The first message that it lacks; above `head` if it has them all.
    pub(in crate::shard) next: Seq,
    /// The newest message that is known to exist.
    pub(in crate::shard) head: Seq,
    /// The newest message that this shard was told of by the home. Below `head` only after a read
    /// at open: pushes of what was read are still to come, and are to be skipped.
    pub(in crate::shard) told: Seq,
    /// Messages of its own, acked and so not to be sent to it: bounded by
    /// [`limits::BEHIND_OWN_MAX`].
    pub(in crate::shard) own: VecDeque<Seq>,
}

impl Missing {
    /// Whether something is to be read.
    fn is_open(&self) -> bool {
        self.next <= self.head
    }

    /// Whether pushes alone will do from now on.
    pub(in crate::shard) fn is_over(&self) -> bool {
        !self.is_open() && self.told >= self.head
    }

    /// The home has told of everything up to `seq`.
    pub(in crate::shard) fn hear(&mut self, seq: Seq) {
        self.told = self.told.max(seq);
        self.head = self.head.max(seq);
    }
}

/// All that one session lacks.
#[derive(Debug, Default)]
pub(in crate::shard) struct Behind {
    pub(in crate::shard) missing: BTreeMap<ConvId, Missing>,
    /// The conversation that was read last: the one after it has its turn, so that one that never
    /// rests does not keep the others from theirs.
    pub(in crate::shard) last: Option<ConvId>,
    /// A read is under way, or waits for its retry or its turn.
    pub(in crate::shard) reading: bool,
}

impl Behind {
    /// What it lacks in `conv`, `fresh` if nothing was noted there. `None`: nothing was, and it
    /// lacks something in as many conversations as it may.
    pub(in crate::shard) fn note(&mut self, conv: ConvId, fresh: Missing) -> Option<&mut Missing> {
        let full = self.missing.len() >= limits::BEHIND_CONVS_MAX && !self.missing.contains_key(&conv);
        (!full).then(|| self.missing.entry(conv).or_insert(fresh))
    }

    /// Whether every conversation reaches it by pushes alone, and nothing is under way for it.
    pub(in crate::shard) fn is_over(&self) -> bool {
        self.missing.is_empty() && !self.reading
    }

    /// Whether it lacks messages.
    pub(super) fn is_lacking(&self) -> bool {
        self.missing.values().any(Missing::is_open)
    }

    /// The next conversation that it lacks something in, and from where: after the last one, so
    /// that each has its turn.
    pub(in crate::shard) fn next_read(&self) -> Option<(ConvId, Seq)> {
        let after = self.last.map_or(Unbounded, Excluded);
        let open = |(&conv, missing): (&ConvId, &Missing)| missing.is_open().then_some((conv, missing.next));
        self.missing.range((after, Unbounded)).find_map(open).or_else(|| self.missing.iter().find_map(open))
    }

    /// For `check_invariants`.
    pub(in crate::shard) fn check(&self) {
        assert!(self.missing.len() <= limits::BEHIND_CONVS_MAX, "conversations to catch up in are bounded");
        for missing in self.missing.values() {
            assert!(!missing.is_over(), "a session that lacks nothing is not behind");
            assert!(missing.own.iter().is_sorted(), "own messages are in order");
        }
    }
}
