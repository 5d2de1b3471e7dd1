//! From a token to an identity.
//!
//! Owns: the token format, its signature, and the only maker of an [`Identity`].
//! Never: asks the store. Epoch and ban are checked in the batched read at open (design, section 6).

use crate::ids::UserId;

/// Who made a token: decides the echo policy of legacy sessions (contract, part E).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Issuer {
    /// fastIM's routes (`/user/login`, `/user/register`), `imgate token`: no echo to the sending connection.
    FastIm = 1,
    /// IMChat's routes (`/login`, `/register`): the page waits for the echo of its own group messages.
    ImChat = 2,
    /// Our own API.
    Own = 3,
}

/// A proven user: only [`Key::verify`] makes one, so "logged in" is a type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    user: UserId,
    epoch: u32,
    issuer: Issuer,
    expires_ms: u64,
}

impl Identity {
    /// The user.
    #[must_use]
    pub const fn user(&self) -> UserId {
        self.user
    }

    /// The user's token epoch at the time of issue; "log out everywhere" raises the stored one.
    #[must_use]
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Who issued the token.
    #[must_use]
    pub const fn issuer(&self) -> Issuer {
        self.issuer
    }

    /// Unix milliseconds after which the token is void.
    #[must_use]
    pub const fn expires_ms(&self) -> u64 {
        self.expires_ms
    }
}

/// Why a token is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadToken {
    /// Not our format, or of another version.
    #[error("the token is malformed")]
    Malformed,
    /// The signature does not fit: another key, or tampered with.
    #[error("the token's signature is wrong")]
    Signature,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
}

/// The signing key, shared by the nodes of a cluster.
#[derive(Clone)]
pub struct Key {
    secret: [u8; 32],
}

impl Key {
    /// A key from 32 secret bytes.
    #[must_use]
    pub const fn new(secret: [u8; 32]) -> Self {
        Self { secret }
    }

    /// A token for `user`, at most [`crate::limits::TOKEN_CHARS_MAX`] characters of base64url.
    #[must_use]
    pub fn issue(&self, user: UserId, epoch: u32, issuer: Issuer, expires_ms: u64) -> String {
        let _ = (self.secret, user, epoch, issuer, expires_ms);
        String::new() // skeleton: replaced by the wire+auth step
    }

    /// The identity that `token` proves at wall time `now_ms`.
    ///
    /// # Errors
    /// [`BadToken`] says why not. The comparison takes the same time for every wrong signature.
    pub fn verify(&self, token: &str, now_ms: u64) -> Result<Identity, BadToken> {
        let _ = (self.secret, token, now_ms);
        let _ =
            Identity { user: UserId::new(1).ok_or(BadToken::Malformed)?, epoch: 0, issuer: Issuer::Own, expires_ms: 0 };
        Err(BadToken::Malformed) // skeleton: replaced by the wire+auth step
    }
}
