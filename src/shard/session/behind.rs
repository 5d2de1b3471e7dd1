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
pub(in crate::shard) struct Lack {
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

impl Lack {
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
    pub(in crate::shard) lacks: BTreeMap<ConvId, Lack>,
    /// The conversation that was read last: the one after it has its turn, so that one that never
    /// rests does not keep the others from theirs.
    pub(in crate::shard) last: Option<ConvId>,
    /// A read is under way, or waits for its retry or its turn.
    pub(in crate::shard) reading: bool,
}

impl Behind {
    /// What it lacks in `conv`, `fresh` if nothing was noted there. `None`: nothing was, and it
    /// lacks something in as many conversations as it may.
    pub(in crate::shard) fn note(&mut self, conv: ConvId, fresh: Lack) -> Option<&mut Lack> {
        let full = self.lacks.len() >= limits::BEHIND_CONVS_MAX && !self.lacks.contains_key(&conv);
        (!full).then(|| self.lacks.entry(conv).or_insert(fresh))
    }

    /// Whether every conversation reaches it by pushes alone, and nothing is under way for it.
    pub(in crate::shard) fn is_over(&self) -> bool {
        self.lacks.is_empty() && !self.reading
    }

    /// Whether it lacks messages.
    pub(super) fn is_lacking(&self) -> bool {
        self.lacks.values().any(Lack::is_open)
    }

    /// The next conversation that it lacks something in, and from where: after the last one, so
    /// that each has its turn.
    pub(in crate::shard) fn next_read(&self) -> Option<(ConvId, Seq)> {
        let after = self.last.map_or(Unbounded, Excluded);
        let open = |(&conv, lack): (&ConvId, &Lack)| lack.is_open().then_some((conv, lack.next));
        self.lacks.range((after, Unbounded)).find_map(open).or_else(|| self.lacks.iter().find_map(open))
    }

    /// For `check_invariants`.
    pub(in crate::shard) fn check(&self) {
        assert!(self.lacks.len() <= limits::BEHIND_CONVS_MAX, "conversations to catch up in are bounded");
        for lack in self.lacks.values() {
            assert!(!lack.is_over(), "a session that lacks nothing is not behind");
            assert!(lack.own.iter().is_sorted(), "own messages are in order");
        }
    }
}
