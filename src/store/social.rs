//! What people are to each other, and what they may change: friends, blocks, profiles, groups.
//!
//! Owns: the requests of the control plane about people; every one is one transaction.
//! Never: changes a membership. That has its place in the order of a group's messages and goes
//! through the group's home ([`super::Write::Join`], [`super::Write::Leave`]).
//! Bounds: a list has at most as many rows as it is asked for, and a user has at most
//! [`crate::limits::FRIENDS_MAX`] friends.

use super::{Error, Group, Rule, User};
use crate::ids::{GroupId, UserId};

/// What became of the wish for a friend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Befriended {
    /// Friends from now on, both ways.
    New,
    /// They were friends before.
    Already,
    /// One of the two does not exist.
    NoSuchUser,
    /// The other one has blocked the user.
    Blocked,
    /// One of the two has [`crate::limits::FRIENDS_MAX`] friends.
    TooMany,
}

/// A friend as the other one sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Friend {
    /// The friend.
    pub user: User,
    /// Whether the asking user has blocked this one.
    pub blocked: bool,
}

/// New values of a user's profile; what is `None` stays.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UserChange {
    /// As [`User::nickname`].
    pub nickname: Option<String>,
    /// As [`User::avatar`].
    pub avatar: Option<String>,
    /// As [`User::sex`].
    pub sex: Option<String>,
    /// As [`User::memo`].
    pub memo: Option<String>,
}

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

/// People and groups, on one connection. Lists are in order of their numbers; those that go on are
/// asked for with the last number of the page before (`after`).
pub trait Social {
    /// Those of `ids` who exist, each once.
    ///
    /// # Errors
    /// As the database says.
    fn users(&mut self, ids: &[UserId]) -> Result<Vec<User>, Error>;

    /// Makes the two friends of each other. Neither is asked: two rows, one transaction. A user is
    /// never its own friend: that is [`Befriended::NoSuchUser`].
    ///
    /// # Errors
    /// As the database says.
    fn befriend(&mut self, user: UserId, other: UserId, now_ms: u64) -> Result<Befriended, Error>;

    /// Ends a friendship, both ways. Whether there was one.
    ///
    /// # Errors
    /// As the database says.
    fn unfriend(&mut self, user: UserId, other: UserId) -> Result<bool, Error>;

    /// At most `max` friends of `user`.
    ///
    /// # Errors
    /// As the database says.
    fn friends(&mut self, user: UserId, after: Option<UserId>, max: u32) -> Result<Vec<Friend>, Error>;

    /// At most `max` of those whom `owner` has blocked.
    ///
    /// # Errors
    /// As the database says.
    fn blocked(&mut self, owner: UserId, after: Option<UserId>, max: u32) -> Result<Vec<User>, Error>;

    /// Changes a profile. `None`: no such user.
    ///
    /// # Errors
    /// As the database says.
    fn update_user(&mut self, user: UserId, change: &UserChange) -> Result<Option<User>, Error>;

    /// Replaces the password `old` (as it is stored, so that of two changes at once one fails) by
    /// `new`. `log_out`: tokens that were issued before are void. The user's token epoch
    /// afterwards; `None`: no such user, or `old` is not stored.
    ///
    /// # Errors
    /// As the database says.
    fn set_password(&mut self, user: UserId, old: &str, new: &str, log_out: bool) -> Result<Option<u32>, Error>;

    /// Makes every token void that was issued so far. The new epoch; `None`: no such user.
    ///
    /// # Errors
    /// As the database says.
    fn log_out(&mut self, user: UserId) -> Result<Option<u32>, Error>;

    /// Bans `user`, or ends the ban. Whether there is such a user.
    ///
    /// # Errors
    /// As the database says.
    fn set_banned(&mut self, user: UserId, banned: bool) -> Result<bool, Error>;

    /// Deletes a user as far as the others' histories allow: the account keeps its number alone, is
    /// banned and its tokens are void; its mobile number is free again; profile, password,
    /// friendships, own blocks and cursors are gone; a group of the user belongs to its member of
    /// longest standing, or ends. The memberships are ended one by one by the groups' order, and
    /// the messages stay. Whether the user exists; doing it again is success.
    ///
    /// # Errors
    /// As the database says.
    fn erase(&mut self, user: UserId) -> Result<bool, Error>;

    /// What the uploads of `user` weigh.
    ///
    /// # Errors
    /// As the database says.
    fn uploaded(&mut self, user: UserId) -> Result<u64, Error>;

    /// At most `max` groups of that name with the numbers of their members, compared as in
    /// [`super::Backend::group_by_name`]; none of those that one is invited to.
    ///
    /// # Errors
    /// As the database says.
    fn groups_named(&mut self, name: &str, max: u32) -> Result<Vec<(Group, u64)>, Error>;

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

    /// Ends a group: from the next commit on nobody posts to it, joins it, reads it or finds it.
    /// Its number, its messages and, until they are ended one by one, its memberships stay. Whether
    /// it is this owner's; ending it again is success.
    ///
    /// # Errors
    /// As the database says.
    fn dissolve(&mut self, group: GroupId, owner: UserId) -> Result<bool, Error>;
}
