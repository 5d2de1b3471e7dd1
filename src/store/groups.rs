//! Groups, and who is in them.
//!
//! Owns: the requests of the control plane about groups; every one is one transaction.
//! Never: changes a membership. That has its place in the order of a group's messages and goes
//! through the group's home ([`super::Write::Join`], [`super::Write::Leave`]).
//! Bounds: a list has at most as many rows as it is asked for.

use super::{Error, Group, NewGroup, Rule, User};
use crate::ids::{GroupId, UserId};

/// New values of a group; what is `None` stays.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupChange {
    /// As [`Group::name`].
    pub name: Option<String>,
    /// As [`Group::icon`].
    pub icon: Option<String>,
    /// As [`Group::memo`].
    pub memo: Option<String>,
    /// As [`Group::rule`].
    pub rule: Option<Rule>,
    /// As [`Group::members_add`].
    pub members_add: Option<bool>,
}

/// A group that was changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Regrouped {
    /// As it is now.
    pub group: Group,
    /// It has another name than before.
    pub renamed: bool,
}

/// Groups, on one connection. Lists are in order of their numbers; those that go on are asked for
/// with the last number of the page before (`after`).
pub trait Groups {
    /// Makes a group with its owner as member. `Ok(None)`: the owner has [`NewGroup::owned_max`]
    /// already, is in [`crate::limits::GROUPS_JOINED_MAX`] groups, does not exist, or was deleted.
    ///
    /// # Errors
    /// As the database says.
    fn create_group(&mut self, group: &NewGroup) -> Result<Option<Group>, Error>;

    /// The group of that number, unless it was dissolved.
    ///
    /// # Errors
    /// As the database says.
    fn group(&mut self, id: GroupId) -> Result<Option<Group>, Error>;

    /// The oldest group of that name, compared without case and trailing blanks; none that one is
    /// invited to.
    ///
    /// # Errors
    /// As the database says.
    fn group_by_name(&mut self, name: &str) -> Result<Option<Group>, Error>;

    /// At most `max` groups of that name with the numbers of their members, compared as in
    /// [`Groups::group_by_name`]; none of those that one is invited to.
    ///
    /// # Errors
    /// As the database says.
    fn groups_named(&mut self, name: &str, max: u32) -> Result<Vec<(Group, u64)>, Error>;

    /// The groups of a user with the number of members of each, in order of their ids.
    ///
    /// # Errors
    /// As the database says.
    fn groups_of(&mut self, user: UserId) -> Result<Vec<(Group, u64)>, Error>;

    /// At most `max` members of a group, which may be one that does not exist.
    ///
    /// # Errors
    /// As the database says.
    fn members(&mut self, group: GroupId, after: Option<UserId>, max: u32) -> Result<Vec<User>, Error>;

    /// How many members a group has, and whether `user` is one of them.
    ///
    /// # Errors
    /// As the database says.
    fn membership(&mut self, group: GroupId, user: UserId) -> Result<(u64, bool), Error>;

    /// Changes a group. `None`: no such group, or not this owner's.
    ///
    /// # Errors
    /// As the database says.
    fn update_group(&mut self, group: GroupId, owner: UserId, change: &GroupChange)
    -> Result<Option<Regrouped>, Error>;

    /// The owner of a group, also of one that was dissolved.
    ///
    /// # Errors
    /// As the database says.
    fn owner(&mut self, group: GroupId) -> Result<Option<UserId>, Error>;

    /// Ends a group: from the next commit on nobody posts to it, joins it, reads it or finds it,
    /// its icon holds no file, and requests for it are gone. Its number, its messages and, until
    /// they are ended one by one, its memberships stay. Whether it is this owner's; ending it again
    /// is success.
    ///
    /// # Errors
    /// As the database says.
    fn dissolve(&mut self, group: GroupId, owner: UserId) -> Result<bool, Error>;
}
