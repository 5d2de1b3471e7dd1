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
}

impl Elsewhere {
    /// A user has come to another gateway, or has left the last one. Whether that is news.
    pub(in crate::shard) fn set(&mut self, user: UserId, on: bool) -> bool {
        if on { self.users.insert(user) } else { self.users.remove(&user) }
    }

    /// Whether a user is on another gateway.
    pub(in crate::shard) fn has(&self, user: UserId) -> bool {
        self.users.contains(&user)
    }
}
