//! Which logins of a user are alive: a token that names one is good as long as the store knows it.
//!
//! Owns: the requests of the control plane about logins; every one is one transaction.
//! Never: sees a token. A login is a number, and what people need to recognise it by.
//! Bounds: [`crate::limits::LOGINS_PER_USER_MAX`] of one user; beyond it the one goes that was used
//! least recently.

use super::Error;
use crate::ids::{LoginId, UserId};

/// A login to be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewLogin {
    /// The user's token epoch as it was when the password was checked. If it is another one by now,
    /// there is no login: what was checked may not be the password any more.
    pub epoch: u32,
    /// A number drawn by lot; the next free one is taken.
    pub wanted: LoginId,
    /// What the program calls itself that logs in, at most [`crate::limits::AGENT_CHARS_MAX`]
    /// characters.
    pub agent: String,
    /// The address that it came from, as text.
    pub address: String,
    /// Unix milliseconds.
    pub created_ms: u64,
    /// Until when the token is good, in Unix milliseconds.
    pub expires_ms: u64,
}

/// What became of a login.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoggedIn {
    /// Its number.
    pub login: LoginId,
    /// Those that had to go for it. Their tokens are void, and their sessions are to be ended.
    pub ended: Vec<LoginId>,
}

/// A living login.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LoginInfo {
    /// Its number.
    pub login: LoginId,
    /// As [`NewLogin::agent`].
    pub agent: String,
    /// As [`NewLogin::address`].
    pub address: String,
    /// Unix milliseconds.
    pub created_ms: u64,
    /// When it was used last, in Unix milliseconds, to [`crate::limits::LOGIN_USED_MS`] exact.
    pub used_ms: u64,
    /// As [`NewLogin::expires_ms`].
    pub expires_ms: u64,
}

/// Logins, on one connection. Those whose token has expired are forgotten when the user logs in
/// again; until then they are listed like the others.
pub trait Logins {
    /// Makes a login. `None`: no such user, or the epoch has changed.
    ///
    /// # Errors
    /// As the database says.
    fn log_in(&mut self, user: UserId, new: &NewLogin) -> Result<Option<LoggedIn>, Error>;

    /// The login of that number.
    ///
    /// # Errors
    /// As the database says.
    fn login(&mut self, user: UserId, login: LoginId) -> Result<Option<LoginInfo>, Error>;

    /// All of a user, the one used last first.
    ///
    /// # Errors
    /// As the database says.
    fn logins_of(&mut self, user: UserId) -> Result<Vec<LoginInfo>, Error>;

    /// It is being used at `now_ms`, which is kept if it is later than what is known.
    ///
    /// # Errors
    /// As the database says.
    fn use_login(&mut self, user: UserId, login: LoginId, now_ms: u64) -> Result<(), Error>;

    /// Ends a login: its token is void from the next commit on. Whether there was one.
    ///
    /// # Errors
    /// As the database says.
    fn end_login(&mut self, user: UserId, login: LoginId) -> Result<bool, Error>;
}

/// Which of these logins must go so that one more has room: the expired ones, then those used least
/// recently.
pub(super) fn give_way(logins: &[LoginInfo], now_ms: u64) -> Vec<LoginId> {
    let (old, mut alive): (Vec<_>, Vec<_>) = logins.iter().partition(|login| login.expires_ms < now_ms);
    alive.sort_unstable_by_key(|login| (login.used_ms, login.login));
    let too_many = (alive.len() + 1).saturating_sub(crate::limits::LOGINS_PER_USER_MAX);
    old.into_iter().chain(alive.into_iter().take(too_many)).map(|login| login.login).collect()
}

/// The first free number from `wanted` on. There always is one: the living are few among 2^24.
pub(super) fn free(logins: &[LoginInfo], wanted: LoginId) -> LoginId {
    let mut number = wanted;
    while logins.iter().any(|login| login.login == number) {
        number = number.next();
    }
    number
}
