//! Users: their accounts, profiles and standing.
//!
//! Owns: the requests of the control plane about single users; every one is one transaction.
//! Never: ends a membership. That has its place in the order of a group's messages and goes through
//! the group's home ([`super::Write::Leave`]).

use super::{Error, NewUser, User};
use crate::ids::UserId;

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

/// Users, on one connection.
pub trait People {
    /// Makes a user. `Ok(None)`: the mobile number is taken.
    ///
    /// # Errors
    /// As the database says.
    fn create_user(&mut self, user: &NewUser) -> Result<Option<User>, Error>;

    /// The user of that number.
    ///
    /// # Errors
    /// As the database says.
    fn user(&mut self, id: UserId) -> Result<Option<User>, Error>;

    /// The user of that login name.
    ///
    /// # Errors
    /// As the database says.
    fn user_by_mobile(&mut self, mobile: &str) -> Result<Option<User>, Error>;

    /// Those of `ids` who exist, each once.
    ///
    /// # Errors
    /// As the database says.
    fn users(&mut self, ids: &[UserId]) -> Result<Vec<User>, Error>;

    /// Changes a profile. `None`: no such user, or one who was deleted.
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

    /// Makes every token void that was issued so far. The new epoch, which is the time `now_s`
    /// (Unix seconds) or the next number, whichever is larger: tokens of others that say when they
    /// were made are older than it. `None`: no such user.
    ///
    /// # Errors
    /// As the database says.
    fn log_out(&mut self, user: UserId, now_s: u32) -> Result<Option<u32>, Error>;

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
}
