//! What this shard has asked the store, and why.
//!
//! Owns: the number of each ask and its purpose; the bound on how many there are.
//! Never: times out. A slot is freed by its answer alone, and every ask is answered, also when
//! nothing waits for it any more.

use slab::Slab;

use crate::ids::{ConnId, ConvId, Seq, UserId};
use crate::limits;
use crate::wire::Target;

/// Why the store was asked.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(in crate::shard) enum Purpose {
    /// A session opens.
    Open { conn: ConnId },
    /// A user has said how far a conversation was read: how far can that be?
    Mark { user: UserId, conv: ConvId },
    /// A client syncs; `after` is what it claims to have.
    Sync { conn: ConnId, of: Target, after: Option<u64> },
    /// Sessions catch up in a conversation, from `next` on.
    CatchUp { conv: ConvId, next: Seq },
    /// A session has opened: the conversations of its user.
    Heads { conn: ConnId },
    /// A client asks for a further page of its conversations.
    Convs { conn: ConnId, user: UserId },
    /// A user's cursor is stored.
    Cursor { user: UserId, conv: ConvId },
    /// A home must learn what an unknown outcome has left behind.
    Head { conv: ConvId },
    /// A home stores a post (its number there).
    Append { post: u32, bytes: usize },
    /// A home reads what was revealed and not delivered, or where its handing on begins.
    Gap { conv: ConvId },
    /// A home changes a membership for the control plane (the notice's number).
    Member { notice: u32 },
}

/// Asks that share a bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sort {
    /// Of sessions that open: nothing else fills their places.
    Opening,
    /// What clients want to read.
    Reading,
    /// Messages.
    Posting,
    /// The rest.
    Other,
}

impl Purpose {
    const fn sort(&self) -> Sort {
        match self {
            Self::Open { .. } | Self::Heads { .. } => Sort::Opening,
            Self::Sync { .. } | Self::Convs { .. } | Self::Mark { .. } => Sort::Reading,
            Self::Append { .. } => Sort::Posting,
            Self::CatchUp { .. } | Self::Cursor { .. } | Self::Head { .. } | Self::Gap { .. } | Self::Member { .. } => {
                Sort::Other
            }
        }
    }
}

/// The asks without an answer.
#[derive(Default)]
pub(in crate::shard) struct Asks {
    asks: Slab<Purpose>,
    /// By [`Sort`].
    counts: [usize; 4],
    append_bytes: usize,
}

impl Asks {
    /// Takes a slot. `None`: the shard has as many asks outstanding as it may.
    pub(in crate::shard) fn take(&mut self, purpose: Purpose) -> Option<u32> {
        let bytes = if let Purpose::Append { bytes, .. } = purpose { bytes } else { 0 };
        if !self.has_place(purpose.sort()) || self.append_bytes + bytes > limits::STORE_BYTES_MAX {
            return None;
        }
        self.append_bytes += bytes;
        if let Some(count) = self.counts.get_mut(purpose.sort() as usize) {
            *count += 1;
        }
        u32::try_from(self.asks.insert(purpose)).ok()
    }

    /// The answer has come.
    pub(in crate::shard) fn settle(&mut self, ask: u32) -> Option<Purpose> {
        let purpose = self.asks.try_remove(ask as usize)?;
        if let Some(count) = self.counts.get_mut(purpose.sort() as usize) {
            *count -= 1;
        }
        if let Purpose::Append { bytes, .. } = purpose {
            self.append_bytes -= bytes;
        }
        Some(purpose)
    }

    fn has_place(&self, sort: Sort) -> bool {
        let [opening, reading, posting, _] = self.counts;
        let of_all = limits::STORE_ASKS_MAX as usize - usize::from(sort != Sort::Opening) * limits::OPEN_ASKS_RESERVED;
        let taken = if sort == Sort::Opening { self.asks.len() } else { self.asks.len() - opening };
        let own = match sort {
            Sort::Reading => reading < limits::READ_ASKS_MAX,
            Sort::Posting => posting < limits::STORE_ASKS_MAX as usize / 2,
            Sort::Opening | Sort::Other => true,
        };
        taken < of_all && own
    }

    /// Whether a further post may go to the store now: more than the next transactions take
    /// only wait there, and better wait here, in turn by user. `fresh`: of a user of whom nothing
    /// else waits.
    pub(in crate::shard) fn has_place_for_post(&self, fresh: bool) -> bool {
        let [_, _, posting, _] = self.counts;
        let reserved = if fresh { 0 } else { limits::FRESH_APPENDS_RESERVED };
        posting < limits::APPENDS_UNDER_WAY_MAX - reserved
            && self.append_bytes < limits::STORE_BYTES_MAX / 2
            && self.has_place(Sort::Posting)
    }

    /// How many are outstanding.
    pub(in crate::shard) fn len(&self) -> usize {
        self.asks.len()
    }
}
