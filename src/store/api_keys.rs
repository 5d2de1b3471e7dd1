//! The keys of backends that call the API for servers: what each may do, and until when.
//!
//! Owns: the requests about keys; every one is one transaction.
//! Never: sees a key itself. What is kept cannot be turned back into one.
//! Bounds: [`crate::limits::API_KEYS_MAX`] keys; those whose time is over are removed when one is
//! added.

use super::Error;

/// A key without its secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiKey {
    /// Drawn by lot. It stands in the key, so that one row is compared and not all of them.
    pub id: u32,
    /// What the operator calls it, at most [`crate::limits::API_KEY_NAME_CHARS_MAX`] characters.
    /// While one is replaced, two have the same name.
    pub name: String,
    /// What it may do, a bit each; which bit means what is the API's business, but for
    /// [`ApiKey::REPLACED`].
    pub scopes: u32,
    /// Calls in a second.
    pub rate: u32,
    /// What the secret is compared with.
    pub hash: [u8; 32],
    /// Unix milliseconds.
    pub created_ms: u64,
    /// Unix milliseconds after which it opens nothing; [`ApiKey::NEVER`]: it does not end by
    /// itself.
    pub expires_ms: u64,
}

impl ApiKey {
    /// See [`ApiKey::expires_ms`]. As large as every database keeps.
    pub const NEVER: u64 = i64::MAX as u64;
    /// The bit of [`ApiKey::scopes`] that says: another key was made in the place of this one,
    /// which lives on for its grace only.
    pub const REPLACED: u32 = 1 << 31;

    /// Whether another key was made in its place.
    #[must_use]
    pub const fn is_replaced(&self) -> bool {
        self.scopes & Self::REPLACED != 0
    }
}

/// Keys, on one connection.
pub trait ApiKeys {
    /// All that are kept, also those whose time is over, by age.
    ///
    /// # Errors
    /// As the database says.
    fn keys(&mut self) -> Result<Vec<ApiKey>, Error>;

    /// Adds a key, and removes those whose time was over when it was made. `false`: there are too
    /// many, or one has its number.
    ///
    /// # Errors
    /// As the database says.
    fn add_key(&mut self, key: &ApiKey) -> Result<bool, Error>;

    /// As [`ApiKeys::add_key`], and lets the key of the number `old` end at `ends_ms`, marked as
    /// [`ApiKey::REPLACED`], both or neither. `false`: as there, or there is no such key, or it has
    /// ended or was replaced already.
    ///
    /// # Errors
    /// As the database says.
    fn replace_key(&mut self, old: u32, ends_ms: u64, key: &ApiKey) -> Result<bool, Error>;

    /// Lets a key end at `at_ms`, or earlier if it does so anyway. Whether there is one of that
    /// number.
    ///
    /// # Errors
    /// As the database says.
    fn end_key(&mut self, id: u32, at_ms: u64) -> Result<bool, Error>;
}
