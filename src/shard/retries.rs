//! What is tried again a little later, in the order of its time.
//!
//! Owns: [`Retries`].
//! Bounds: one retry of each sort for a session, a conversation or a user.

use std::collections::VecDeque;

use crate::ids::{ConnId, ConvId, UserId};
use crate::limits;

/// What is tried again after [`limits::RETRY_MS`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shard) enum Retry {
    /// The read at open.
    Open(ConnId),
    /// The read of the conversations at open.
    Heads(ConnId),
    /// A session's parked posts.
    Parked(ConnId),
    /// A session's catching up.
    CatchUp(ConnId),
    /// The pause of an old page's replay.
    Introduction(ConnId),
    /// A home's read of a gap, or of its head.
    Gap(ConvId),
    /// A user's words about conversations that are not known to exist.
    Marks(UserId),
}

/// Retries in order. All wait equally long, so the queue is sorted by itself. Bounded: at most one
/// of each sort per session and conversation.
#[derive(Default)]
pub(in crate::shard) struct Retries {
    queue: VecDeque<(u64, Retry)>,
}

impl Retries {
    /// Tries again after the pause.
    pub(in crate::shard) fn add(&mut self, now_ms: u64, retry: Retry) {
        self.queue.push_back((now_ms + limits::RETRY_MS, retry));
    }

    /// The next one that is due.
    pub(in crate::shard) fn due(&mut self, now_ms: u64) -> Option<Retry> {
        if self.queue.front()?.0 > now_ms {
            return None;
        }
        self.queue.pop_front().map(|(_, retry)| retry)
    }

    /// When the next one is due.
    pub(in crate::shard) fn next_ms(&self) -> Option<u64> {
        self.queue.front().map(|&(at, _)| at)
    }
}
