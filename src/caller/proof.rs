//! The identity that a request proves.
//!
//! Owns: the order (a token that the client presents itself, then the login cookies), and how a
//! claim chooses.
//! Never: takes a claim for a proof. A claim only chooses among what is proven, or contradicts it.
//! Bounds: [`COOKIES_TRIED_MAX`] signatures checked per request.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Headers, Judge, Place};
use crate::auth::Identity;
use crate::http::value::text;
use crate::ids::UserId;
use crate::limits::COOKIES_TRIED_MAX;

/// Whom a request says that it comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClaimedIdentity {
    /// It does not say. Then exactly one user must be proven.
    Any,
    /// This user.
    User(UserId),
    /// What it says is no user, or it should have said one: nothing proves that.
    Nobody,
}

/// Why no identity is proven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unproven {
    /// There is no valid token of the claimed user; without a claim there is none, or there
    /// are several.
    NoToken,
    /// Cookies might have done, but a page of another origin asks.
    Foreign,
}

impl ClaimedIdentity {
    /// What a number in a request claims.
    #[must_use]
    pub fn of(number: Option<u64>) -> Self {
        number.and_then(UserId::new).map_or(Self::Nobody, Self::User)
    }

    fn allows(self, user: UserId) -> bool {
        match self {
            Self::Any => true,
            Self::User(claimed) => claimed == user,
            Self::Nobody => false,
        }
    }
}

impl Judge {
    /// The identity that acts at wall time `now_ms`: that of `token`, which the client presents
    /// itself, if there is one, otherwise that of a login cookie. A bad token is not repaired by a
    /// cookie: a request that presents one wants to be that user. `place` is asked for only where
    /// it matters.
    ///
    /// # Errors
    /// [`Unproven`].
    pub fn acting(
        &self,
        head: &impl Headers,
        place: impl FnOnce() -> Place,
        token: Option<&str>,
        claim: ClaimedIdentity,
        now_ms: u64,
    ) -> Result<Identity, Unproven> {
        if let Some(token) = token {
            let identity = self.key.verify(token, now_ms).map_err(|_| Unproven::NoToken)?;
            return Some(identity).filter(|one| claim.allows(one.user())).ok_or(Unproven::NoToken);
        }
        let mut proven = self.proven(head, claim, now_ms);
        let (Some(identity), None) = (proven.pop(), proven.pop()) else { return Err(Unproven::NoToken) };
        if place().foreign { Err(Unproven::Foreign) } else { Ok(identity) }
    }

    /// Every identity that a request proves, each user once.
    #[must_use]
    pub fn presented(&self, head: &impl Headers, place: Place, token: Option<&str>, now_ms: u64) -> Vec<Identity> {
        match token {
            Some(token) => self.key.verify(token, now_ms).into_iter().collect(),
            None if place.foreign => Vec::new(),
            None => self.proven(head, ClaimedIdentity::Any, now_ms),
        }
    }

    /// Whether a request brings a login cookie of this gateway, valid or not.
    #[must_use]
    pub fn has_cookie(&self, head: &impl Headers) -> bool {
        self.logins(head).next().is_some()
    }

    /// The users whose cookies hold a valid token of their own, each once, with the token that
    /// lives longest.
    fn proven(&self, head: &impl Headers, claim: ClaimedIdentity, now_ms: u64) -> Vec<Identity> {
        let mut found = Vec::<Identity>::new();
        for login in self.logins(head).filter(|login| claim.allows(login.user)).take(COOKIES_TRIED_MAX) {
            let Ok(identity) = self.key.verify(login.token, now_ms) else { continue };
            if identity.user() != login.user {
                continue;
            }
            match found.iter_mut().find(|other| other.user() == identity.user()) {
                Some(other) if other.expires_ms() >= identity.expires_ms() => {}
                Some(other) => *other = identity,
                None => found.push(identity),
            }
        }
        found
    }
}

/// Whether a token may be one of another system (a JWT in its compact form: RFC 7519, section 3):
/// three parts, of which the first one is an object of JSON, however it is written. Ours have no
/// dot. What is looked at is bounded by the request head.
#[must_use]
pub fn is_jwt(token: &str) -> bool {
    let mut parts = token.split('.');
    let (Some(head), Some(_), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let json = URL_SAFE_NO_PAD.decode(head).unwrap_or_default();
    let json = json.trim_ascii();
    json.starts_with(b"{") && json.ends_with(b"}")
}

/// The token of `Authorization: Bearer <token>`; the scheme's case does not matter (RFC 9110,
/// section 11.1), and blanks may stand before the token. One that is not UTF-8 is a token, too, a
/// bad one.
#[must_use]
pub fn bearer(head: &impl Headers) -> Option<&str> {
    let line = head.values("authorization").next()?;
    let (scheme, token) = line.split_at_checked(memchr::memchr(b' ', line)?)?;
    scheme.eq_ignore_ascii_case(b"bearer").then(|| text(token.trim_ascii()))
}
