//! News of what the control plane has changed about people and groups.
//!
//! Owns: the one place that hears of every such change, after it is stored.
//! Never: fails or delays a change; whoever misses a hint loads the lists again some time.

use super::Services;
use crate::ids::{GroupId, ShardId, UserId, shard_of};
use crate::shard::Notice;
use crate::wire::Hint;

/// What has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HintedChange {
    /// The two became friends or ended it.
    Friends { user: UserId, other: UserId },
    /// `user` blocks `other`, or does not any more; nobody but `user` is to hear of it.
    Blocks { user: UserId, other: UserId, on: bool },
    /// A profile.
    Profile { user: UserId },
    /// `user` is a member of `group` from now on, or no longer.
    Membership { group: GroupId, user: UserId },
    /// Somebody asks to be let into `group`; `admin` may do it.
    Requests { group: GroupId, admin: UserId },
    /// Name, icon or description of a group.
    Group { group: GroupId },
}

impl Services {
    /// Hears of a change, and hints at it to the sessions of whom it concerns (`cmd` 9).
    pub(super) fn changed(&self, what: HintedChange) {
        if matches!(what, HintedChange::Blocks { .. } | HintedChange::Membership { .. }) {
            self.followed_change();
        }
        match what {
            HintedChange::Friends { user, other } => {
                self.hint(user, Hint::Friends, other.get());
                self.hint(other, Hint::Friends, user.get());
            }
            HintedChange::Blocks { user, other, on } => {
                let notice = Notice::Block { owner: user, other, on };
                let [one, two] = [user, other].map(|user| shard_of(user, self.homes.shards()));
                self.tell(one, notice.clone());
                if two != one {
                    self.tell(two, notice);
                }
                self.hint(user, Hint::Friends, other.get());
            }
            HintedChange::Profile { user } => self.hint(user, Hint::Profile, user.get()),
            HintedChange::Membership { group, user } => self.hint(user, Hint::Groups, group.get()),
            HintedChange::Requests { group, admin } => self.hint(admin, Hint::Groups, group.get()),
            HintedChange::Group { group } => {
                // Only the shards know which of the members are here.
                for shard in 0..self.homes.shards() {
                    self.tell(ShardId(shard), Notice::GroupChanged { group });
                }
            }
        }
    }

    fn hint(&self, user: UserId, what: Hint, id: u64) {
        self.tell(shard_of(user, self.homes.shards()), Notice::Changed { user, what, id });
    }

    /// Tells `shard` what may be lost.
    pub(in crate::api) fn tell(&self, shard: ShardId, notice: Notice) {
        if self.homes.ask(shard, notice, Box::new(|_| ())).is_err() {
            tracing::trace!(?shard, "a hint found no room");
        }
    }
}
