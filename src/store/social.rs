//! What users are to each other: friends, and whom they have blocked.
//!
//! Owns: the requests of the control plane about pairs of users; every one is one transaction.
//! Bounds: a list has at most as many rows as it is asked for, and a user has at most
//! [`crate::limits::FRIENDS_MAX`] friends.

use super::{Error, User};
use crate::ids::UserId;

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

/// Friends and blocks, on one connection. Lists are in order of their numbers; those that go on are
/// asked for with the last number of the page before (`after`).
pub trait Social {
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

    /// Makes `owner` refuse direct messages of `other` from the next commit on (`on`), or take them
    /// again. `false`: there is no such owner, or the owner was deleted, and nothing is kept.
    ///
    /// # Errors
    /// As the database says.
    fn block(&mut self, owner: UserId, other: UserId, on: bool) -> Result<bool, Error>;

    /// At most `max` of those whom `owner` has blocked.
    ///
    /// # Errors
    /// As the database says.
    fn blocked(&mut self, owner: UserId, after: Option<UserId>, max: u32) -> Result<Vec<User>, Error>;
}
