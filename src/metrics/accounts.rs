//! What becomes of logins, registrations, look-ups and login cookies, counted by the control plane.
//!
//! Owns: [`AccountCounts`], and the closed lists of outcomes, which are the label values.
//! Never: on the way of a message. The control plane has no thread of its own to count in, so these
//! are atomics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::backends::BackendCounts;
use super::labels::{Counters, labels};
use super::proxies::ProxyCounts;

labels! {
    /// How a login ended.
    Login {
        /// With a token.
        Ok = "ok",
        /// A password that does not fit.
        WrongPassword = "wrong_password",
        /// There is no account of that login name.
        Unknown = "unknown",
        /// The right password of a banned user.
        Banned = "banned",
        /// Too many wrong passwords of this account from this network.
        Locked = "locked",
        /// Too many logins from this network.
        TooOften = "too_often",
        /// No login name or no password.
        Incomplete = "incomplete",
        /// Not the client's fault.
        Trouble = "trouble",
    }
}

labels! {
    /// How a registration ended.
    Registered {
        /// With an account.
        Ok = "ok",
        /// Registration is closed.
        Closed = "closed",
        /// Too many from this network, or from all.
        TooOften = "too_often",
        /// The login name is somebody's.
        Taken = "taken",
        /// A field is missing, too long or too short, or cannot be seen.
        BadField = "bad_field",
        /// Not the client's fault.
        Trouble = "trouble",
    }
}

labels! {
    /// What became of a token that another system has signed.
    Foreign {
        /// Its user was let in, perhaps by what was known of it.
        Ok = "ok",
        /// It is too long, or cannot be read as what it is said to be.
        Malformed = "malformed",
        /// No key in force has its name, is for its algorithm and has signed it.
        Signature = "signature",
        /// Its time is over.
        Expired = "expired",
        /// Its time has not come.
        Early = "early",
        /// It is of another issuer.
        Issuer = "issuer",
        /// It is for others.
        Audience = "audience",
        /// A claim that it must have is missing or strange.
        Claim = "claim",
        /// Its user is banned.
        Banned = "banned",
        /// It was made before its user was logged out everywhere.
        LoggedOut = "logged_out",
        /// Not the client's fault.
        Trouble = "trouble",
    }
}

labels! {
    /// What was looked up.
    Lookup {
        /// A user's number.
        Id = "id",
        /// A mobile number.
        Mobile = "mobile",
    }
}

labels! {
    /// What became of changes that other gateways of the same database made about users.
    Followed {
        /// Told to the shard that it concerns.
        Told = "told",
        /// A look at the database that failed; the next one sees the same.
        Failed = "failed",
    }
}

/// The counters.
#[derive(Debug, Default)]
pub struct AccountCounts {
    logins: Counters<{ Login::LABELS.len() }>,
    registrations: Counters<{ Registered::LABELS.len() }>,
    lookups_refused: Counters<{ Lookup::LABELS.len() }>,
    followed: Counters<{ Followed::LABELS.len() }>,
    cross_origins: AtomicU64,
    group_lines_dropped: AtomicU64,
    backends: Arc<BackendCounts>,
    foreign: Counters<{ Foreign::LABELS.len() }>,
    proxies: ProxyCounts,
}

impl AccountCounts {
    /// Counts a login.
    pub fn login(&self, how: Login) {
        self.logins.add(how as usize);
    }

    /// Counts a registration.
    pub fn registration(&self, how: Registered) {
        self.registrations.add(how as usize);
    }

    /// Counts a token of another system.
    pub fn foreign(&self, how: Foreign) {
        self.foreign.add(how as usize);
    }

    /// By [`Foreign::ALL`].
    #[must_use]
    pub fn foreign_tokens(&self) -> [u64; Foreign::LABELS.len()] {
        self.foreign.read()
    }

    /// Counts a look-up that was refused.
    pub fn refuse(&self, what: Lookup) {
        self.lookups_refused.add(what as usize);
    }

    /// Counts a change by another gateway, or a look for some.
    pub fn follow(&self, what: Followed) {
        self.followed.add(what as usize);
    }

    /// Counts a request of a page of another origin, whose login cookies did not count.
    pub fn cross_origin(&self) {
        self.cross_origins.fetch_add(1, Ordering::Relaxed);
    }

    /// What a user has done in a group was not said there: too many of them lately.
    pub fn group_line_dropped(&self) {
        self.group_lines_dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// What becomes of the calls of backends, and of what webhooks are told.
    #[must_use]
    pub fn backends(&self) -> &Arc<BackendCounts> {
        &self.backends
    }

    /// What proxies in front say, and do not say.
    #[must_use]
    pub const fn proxies(&self) -> &ProxyCounts {
        &self.proxies
    }

    /// See [`AccountCounts::group_line_dropped`].
    #[must_use]
    pub fn group_lines_dropped(&self) -> u64 {
        self.group_lines_dropped.load(Ordering::Relaxed)
    }

    /// See [`AccountCounts::cross_origin`].
    #[must_use]
    pub fn cross_origins(&self) -> u64 {
        self.cross_origins.load(Ordering::Relaxed)
    }

    /// By [`Followed::ALL`].
    #[must_use]
    pub fn followed(&self) -> [u64; Followed::LABELS.len()] {
        self.followed.read()
    }

    /// By [`Login::ALL`].
    #[must_use]
    pub fn logins(&self) -> [u64; Login::LABELS.len()] {
        self.logins.read()
    }

    /// By [`Registered::ALL`].
    #[must_use]
    pub fn registrations(&self) -> [u64; Registered::LABELS.len()] {
        self.registrations.read()
    }

    /// By [`Lookup::ALL`].
    #[must_use]
    pub fn refused(&self) -> [u64; Lookup::LABELS.len()] {
        self.lookups_refused.read()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_has_a_place_of_its_own() {
        let counts = AccountCounts::default();
        for (times, &how) in Login::ALL.iter().enumerate() {
            (0..times).for_each(|_| counts.login(how));
        }
        assert_eq!(counts.logins(), [0, 1, 2, 3, 4, 5, 6, 7]);
        counts.registration(Registered::Trouble);
        counts.refuse(Lookup::Mobile);
        assert_eq!((counts.registrations(), counts.refused()), ([0, 0, 0, 0, 0, 1], [0, 1]));
    }
}
