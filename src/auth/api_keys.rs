//! The keys of backends: `imk_`, eight hexadecimal digits that say which, and the secret.
//!
//! Owns: their format, and what is kept of them.
//! Never: keeps or prints a secret. What is kept is an HMAC under the secret (RFC 2104): whoever
//! reads the database cannot make a key of it, and 256 random bits are too many to try.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// How every key begins: people and scanners of repositories know it by that.
pub const API_KEY_PREFIX: &str = "imk_";
/// What the hash is for.
const PURPOSE: &[u8] = b"imgate api key\0";
/// Bytes of a secret.
const SECRET_BYTES: usize = 32;
/// Its characters in base64url without padding.
const SECRET_CHARS: usize = 43;
/// Hexadecimal digits of a number.
const ID_CHARS: usize = 8;

/// A key as it is shown: by its maker once, by a backend with each call.
pub struct ShownKey {
    /// Which; see [`crate::store::ApiKey::id`].
    pub id: u32,
    secret: [u8; SECRET_BYTES],
}

impl ShownKey {
    /// A new one.
    ///
    /// # Errors
    /// The operating system gave no randomness.
    pub fn make() -> Result<Self, getrandom::Error> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret)?;
        Ok(Self { id: getrandom::u32()?, secret })
    }

    /// What `text` shows; `None`: that is no key.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(API_KEY_PREFIX)?.split_once('_')?;
        if id.len() != ID_CHARS || secret.len() != SECRET_CHARS || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0; SECRET_BYTES];
        (URL_SAFE_NO_PAD.decode_slice(secret, &mut bytes) == Ok(SECRET_BYTES)).then_some(())?;
        Some(Self { id: u32::from_str_radix(id, 16).ok()?, secret: bytes })
    }

    /// The text that the backend shows.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{API_KEY_PREFIX}{:08x}_{}", self.id, URL_SAFE_NO_PAD.encode(self.secret))
    }

    /// What is kept of it.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        self.mac().finalize().into_bytes().into()
    }

    /// Whether `hash` is kept of this one. The comparison takes the same time for every other one.
    #[must_use]
    pub fn fits(&self, hash: &[u8; 32]) -> bool {
        self.mac().verify_slice(hash).is_ok()
    }

    fn mac(&self) -> Hmac<Sha256> {
        // As in `Key`: padded to the block of the hash, which is a size that cannot be wrong.
        let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
        block[..SECRET_BYTES].copy_from_slice(&self.secret);
        <Hmac<Sha256> as KeyInit>::new(&block).chain_update(PURPOSE).chain_update(self.id.to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_own_and_no_other() {
        let key = ShownKey::make().expect("random numbers");
        let text = key.text();
        assert_eq!(text.len(), API_KEY_PREFIX.len() + ID_CHARS + 1 + SECRET_CHARS);
        let shown = ShownKey::parse(&text).expect("a key");
        assert!(shown.id == key.id && shown.fits(&key.hash()));
        let other = ShownKey { id: key.id ^ 1, secret: key.secret };
        assert!(!other.fits(&key.hash()), "the number is part of it");
        assert!(!ShownKey::make().expect("random numbers").fits(&key.hash()));
    }

    #[test]
    fn what_only_looks_like_a_key_is_none() {
        let text = ShownKey::make().expect("random numbers").text();
        let cut = &text[..text.len() - 1];
        for bad in [
            "",
            "imk_",
            "imk_00000001_",
            cut,
            &text.replace('_', "-"),
            &format!("{text}A"),
            &text.replacen("imk", "imx", 1),
        ] {
            assert!(ShownKey::parse(bad).is_none(), "{bad}");
        }
        let plus = format!("imk_+0000001_{}", "A".repeat(SECRET_CHARS));
        assert!(ShownKey::parse(&plus).is_none());
    }
}
