//! Which users of this shard have a session on another gateway.
//!
//! Owns: the users, as the thread of the cluster has told them.
//! Never: exists without other gateways: an empty set takes no memory.
//! Bounds: [`crate::limits::WHEREABOUTS_MAX`] users on all shards together, which that thread sees
//! to.

use foldhash::fast::RandomState;
use hashbrown::HashSet;

use crate::ids::UserId;

/// See the head of this file.
#[derive(Default)]
pub(in crate::shard) struct Elsewhere {
    users: HashSet<UserId, RandomState>,
    /// It is not told any more which of them have left.
    stale: bool,
}

impl Elsewhere {
    /// A user has come to another gateway, or has left the last one. Whether that is news.
    pub(in crate::shard) fn set(&mut self, user: UserId, on: bool) -> bool {
        if on { self.users.insert(user) } else { self.users.remove(&user) }
    }

    /// From now on it is not told which users have left another gateway, or it is told again.
    pub(in crate::shard) const fn set_stale(&mut self, stale: bool) {
        self.stale = stale;
    }

    /// Whether some of them may have left long ago.
    pub(in crate::shard) const fn is_stale(&self) -> bool {
        self.stale
    }

    /// Whether a user is on another gateway, as far as it was told.
    pub(in crate::shard) fn has(&self, user: UserId) -> bool {
        self.users.contains(&user)
    }
}
