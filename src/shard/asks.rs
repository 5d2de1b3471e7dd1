//! What this shard has asked the store, and why.
//!
//! Owns: the number of each ask and its purpose; the bound on how many there are.
//! Never: times out. A slot is freed by its answer alone, and every ask is answered, also when nobody waits for it any more.

use slab::Slab;

use crate::ids::{ConnId, ConvId, Seq, UserId};
use crate::limits;
use crate::wire::Target;

/// Why the store was asked.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Purpose {
    /// A session opens.
    Open { conn: ConnId },
    /// A client syncs; `after` is what it claims to have.
    Sync { conn: ConnId, of: Target, after: Option<u64> },
    /// Sessions catch up in a conversation, from `next` on.
    CatchUp { conv: ConvId, next: Seq },
    /// A session has opened: the conversations of its user.
    Heads { conn: ConnId },
    /// A client asks for a further page of its conversations.
    Convs { conn: ConnId },
    /// A user's cursor is stored.
    Cursor { user: UserId, conv: ConvId },
    /// A home starts, or must learn what an unknown outcome has left behind.
    Head { conv: ConvId },
    /// A home stores a post (its number there).
    Append { post: u32, bytes: usize },
    /// A home reads what was revealed and not delivered.
    Gap { conv: ConvId },
    /// A home changes a membership for the control plane (the notice's number).
    Member { notice: u32 },
}

/// The asks without an answer.
#[derive(Default)]
pub(super) struct Asks {
    asks: Slab<Purpose>,
    append_bytes: usize,
}

impl Asks {
    /// Takes a slot. `None`: the shard has as many asks outstanding as it may.
    pub(super) fn take(&mut self, purpose: Purpose) -> Option<u32> {
        let bytes = if let Purpose::Append { bytes, .. } = purpose { bytes } else { 0 };
        if self.asks.len() >= limits::STORE_ASKS_MAX as usize || self.append_bytes + bytes > limits::STORE_BYTES_MAX {
            return None;
        }
        self.append_bytes += bytes;
        u32::try_from(self.asks.insert(purpose)).ok()
    }

    /// The answer has come.
    pub(super) fn settle(&mut self, ask: u32) -> Option<Purpose> {
        let purpose = self.asks.try_remove(ask as usize)?;
        if let Purpose::Append { bytes, .. } = purpose {
            self.append_bytes -= bytes;
        }
        Some(purpose)
    }

    /// How many are outstanding.
    pub(super) fn len(&self) -> usize {
        self.asks.len()
    }
}
