//! News of what the control plane has changed about people and groups.
//!
//! Owns: the one place that hears of every such change, after it is stored.
//! Never: fails or delays a change; whoever misses a hint loads the lists again some time.

use super::Services;
use crate::ids::{GroupId, UserId};

/// What has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Changed {
    /// The two became friends or ended it.
    Friends { user: UserId, other: UserId },
    /// `user` blocks `other`, or does not any more; nobody but `user` is to hear of it.
    Blocks { user: UserId, other: UserId },
    /// A profile.
    Profile { user: UserId },
    /// `user` is a member of `group` from now on, or no longer.
    Membership { group: GroupId, user: UserId },
    /// Name, icon or description of a group.
    Group { group: GroupId },
}

impl Services {
    /// Hears of a change. Live sessions are not told yet: memberships reach them through the group's home all the same, and
    /// lists are loaded again by their clients.
    pub(super) fn changed(&self, what: Changed) {
        tracing::trace!(?what, "changed");
    }
}
