//! Who gets into a group, and what they may do there: rules, roles, links and requests.
//!
//! Owns: the requests of the control plane about them; every one is one transaction.
//! Never: begins or ends a membership ([`super::Write::Join`], [`super::Write::Leave`]); a
//! membership that begins ends a request for it.
//! Bounds: [`crate::limits::GROUP_ADMINS_MAX`] admins of a group,
//! [`crate::limits::REQUESTS_OF_USER_MAX`] requests of a user and
//! [`crate::limits::REQUESTS_OF_GROUP_MAX`] of a group, unanswered.

use super::{Error, Group, User};
use crate::ids::{GroupId, UserId};

/// Who gets in by asking.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Rule {
    /// Everybody, and nothing is said about it: a group that was made on an old page, or before
    /// there were rules.
    #[default]
    Plain = 0,
    /// Whom the owner or an admin lets in.
    Approval = 1,
    /// Nobody: users are added, or have the link. Users that were never a member are told that
    /// there is no such group.
    Invitation = 2,
    /// Everybody.
    Open = 3,
}

impl Rule {
    /// From its number in the database.
    pub(super) const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Plain),
            1 => Some(Self::Approval),
            2 => Some(Self::Invitation),
            3 => Some(Self::Open),
            _ => None,
        }
    }
}

/// What a member may do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Role {
    /// Writes and reads.
    Member = 0,
    /// Also changes the group, lets people in and removes members.
    Admin = 1,
    /// Also makes admins, hands the group on and dissolves it. One of each group.
    Owner = 2,
}

/// A group as one user stands to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Which.
    pub group: Group,
    /// How many members it has.
    pub members: u64,
    /// What the user is there; `None`: no member.
    pub role: Option<Role>,
    /// The user was a member once.
    pub was_member: bool,
    /// The user has asked to be let in.
    pub asked: bool,
}

/// What became of the wish to be let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// It stands, perhaps since earlier.
    Standing,
    /// The user, or the group, has too many unanswered ones.
    TooMany,
    /// The user does not exist, or was deleted; nothing is noted.
    NoSuchUser,
    /// There is no such group, or not any more; nothing is noted.
    NoSuchGroup,
}

/// Rules, roles, links and requests, on one connection.
pub trait Admissions {
    /// How `user` stands to a group. `None`: there is no such group, or not any more.
    ///
    /// # Errors
    /// As the database says.
    fn standing(&mut self, group: GroupId, user: UserId) -> Result<Option<Standing>, Error>;

    /// The admins of a group, ascending; the owner is not among them.
    ///
    /// # Errors
    /// As the database says.
    fn admins(&mut self, group: GroupId) -> Result<Vec<UserId>, Error>;

    /// Has its owner `actor` give a member a role; [`Role::Owner`] makes `actor` an admin. `false`:
    /// the group is not that user's, no such member, one who was deleted, too many admins, or an
    /// heir who has [`crate::limits::GROUPS_OWNED_MAX`] groups.
    ///
    /// # Errors
    /// As the database says.
    fn set_role(&mut self, group: GroupId, actor: UserId, user: UserId, role: Role) -> Result<bool, Error>;

    /// The secret of the group's link, if it has one.
    ///
    /// # Errors
    /// As the database says.
    fn invite(&mut self, group: GroupId) -> Result<Option<String>, Error>;

    /// Replaces the secret of the group's link; an earlier one leads nowhere from now on. `None`:
    /// there is no link any more.
    ///
    /// # Errors
    /// As the database says.
    fn set_invite(&mut self, group: GroupId, secret: Option<&str>) -> Result<(), Error>;

    /// The group to which a link leads, with the number of its members.
    ///
    /// # Errors
    /// As the database says.
    fn invited(&mut self, secret: &str) -> Result<Option<(Group, u64)>, Error>;

    /// Notes that `user` asks to be let in. Asking again is success; of a member nothing is noted.
    ///
    /// # Errors
    /// As the database says.
    fn ask(&mut self, group: GroupId, user: UserId, now_ms: u64) -> Result<Asked, Error>;

    /// At most `max` of those who ask to be let in.
    ///
    /// # Errors
    /// As the database says.
    fn requests(&mut self, group: GroupId, after: Option<UserId>, max: u32) -> Result<Vec<User>, Error>;

    /// Forgets a request. Whether there was one.
    ///
    /// # Errors
    /// As the database says.
    fn forget_request(&mut self, group: GroupId, user: UserId) -> Result<bool, Error>;
}
