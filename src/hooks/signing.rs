//! The proof that an event is ours: Standard Webhooks 1.0.0 (HMAC-SHA256 over number, time and
//! body), for which there are libraries in many languages.
//!
//! Never: prints a secret.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::limits;

/// Why a text is no list of secrets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("1 or 2 secrets with a comma between them, each `whsec_` and 24 to 64 bytes as base64")]
pub struct BadSecret;

/// What signs. While one secret is replaced by another, both do.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secrets(Vec<Vec<u8>>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

impl Secrets {
    /// Reads them.
    ///
    /// # Errors
    /// [`BadSecret`].
    pub fn parse(text: &str) -> Result<Self, BadSecret> {
        let one = |text: &str| {
            let bytes = text.trim().strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok());
            bytes.filter(|bytes| (limits::HOOK_SECRET_BYTES_MIN..=limits::HOOK_SECRET_BYTES_MAX).contains(&bytes.len()))
        };
        let secrets: Option<Vec<_>> = text.split(',').map(one).collect();
        secrets.filter(|secrets| secrets.len() <= limits::HOOK_SECRETS_MAX).map(Self).ok_or(BadSecret)
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of `webhook-signature`.
    #[must_use]
    pub fn sign(&self, id: &str, time_s: u64, body: &str) -> String {
        let said = format!("{id}.{time_s}.{body}");
        let signed = self.0.iter().filter_map(|secret| {
            let mac = Hmac::<Sha256>::new_from_slice(secret).ok()?.chain_update(&said);
            Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
        });
        signed.collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's own libraries.
    #[test]
    fn a_signature_is_that_of_the_standard() {
        let secrets = Secrets::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a secret");
        let signature = secrets.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn two_secrets_sign_side_by_side_and_bad_ones_are_refused() {
        let one = format!("whsec_{}", STANDARD.encode([1; 32]));
        let two = format!("{one}, whsec_{}", STANDARD.encode([2; 32]));
        assert_eq!(Secrets::parse(&two).expect("two").sign("a", 1, "b").split(' ').count(), 2);
        for bad in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_c2hvcnQ=", &format!("{two},{one}")] {
            assert_eq!(Secrets::parse(bad), Err(BadSecret), "{bad}");
        }
        assert!(!format!("{:?}", Secrets::parse(&one)).contains(&one[6..]));
    }
}
