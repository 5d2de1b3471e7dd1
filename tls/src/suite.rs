//! Cipher suites: what their keys measure, and how their secrets lead to keys.

use aws_lc_rs::{aead, hkdf};
use rustls::{ConnectionTrafficSecrets, ProtocolVersion};
use zeroize::Zeroize;

/// Version and cipher of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Suite {
    /// TLS_AES_128_GCM_SHA256.
    Tls13Aes128,
    /// TLS_AES_256_GCM_SHA384.
    Tls13Aes256,
    /// TLS_CHACHA20_POLY1305_SHA256.
    Tls13ChaCha,
    /// TLS 1.2 with AES-128-GCM.
    Tls12Aes128,
    /// TLS 1.2 with AES-256-GCM.
    Tls12Aes256,
    /// TLS 1.2 with ChaCha20-Poly1305.
    Tls12ChaCha,
}

impl Suite {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Tls13Aes128,
        Self::Tls13Aes256,
        Self::Tls13ChaCha,
        Self::Tls12Aes128,
        Self::Tls12Aes256,
        Self::Tls12ChaCha,
    ];

    /// What rustls has negotiated; `None` for what this crate does not offer.
    pub(crate) fn negotiated(version: ProtocolVersion, secrets: &ConnectionTrafficSecrets) -> Option<Self> {
        use ConnectionTrafficSecrets::{Aes128Gcm, Aes256Gcm, Chacha20Poly1305};
        Some(match (version, secrets) {
            (ProtocolVersion::TLSv1_3, Aes128Gcm { .. }) => Self::Tls13Aes128,
            (ProtocolVersion::TLSv1_3, Aes256Gcm { .. }) => Self::Tls13Aes256,
            (ProtocolVersion::TLSv1_3, Chacha20Poly1305 { .. }) => Self::Tls13ChaCha,
            (ProtocolVersion::TLSv1_2, Aes128Gcm { .. }) => Self::Tls12Aes128,
            (ProtocolVersion::TLSv1_2, Aes256Gcm { .. }) => Self::Tls12Aes256,
            (ProtocolVersion::TLSv1_2, Chacha20Poly1305 { .. }) => Self::Tls12ChaCha,
            _ => return None,
        })
    }

    /// Whether this is TLS 1.3.
    #[must_use]
    pub const fn is_tls13(self) -> bool {
        matches!(self, Self::Tls13Aes128 | Self::Tls13Aes256 | Self::Tls13ChaCha)
    }

    /// Bytes of a key.
    #[must_use]
    pub const fn key_bytes(self) -> usize {
        match self {
            Self::Tls13Aes128 | Self::Tls12Aes128 => 16,
            _ => 32,
        }
    }

    /// Bytes of a traffic secret; none in TLS 1.2, which has no key update.
    #[must_use]
    pub const fn secret_bytes(self) -> usize {
        match self {
            Self::Tls13Aes256 => 48,
            Self::Tls13Aes128 | Self::Tls13ChaCha => 32,
            _ => 0,
        }
    }

    /// Bytes of the nonce that travel with a record.
    pub(crate) const fn explicit_nonce_bytes(self) -> usize {
        match self {
            Self::Tls12Aes128 | Self::Tls12Aes256 => 8,
            _ => 0,
        }
    }

    /// What a record has besides its plaintext, header included.
    pub(crate) const fn overhead_bytes(self) -> usize {
        let inner_type = if self.is_tls13() { 1 } else { 0 };
        super::limits::RECORD_HEADER_BYTES + self.explicit_nonce_bytes() + inner_type + TAG_BYTES
    }

    /// The cipher.
    pub(crate) fn algorithm(self) -> &'static aead::Algorithm {
        match self {
            Self::Tls13Aes128 | Self::Tls12Aes128 => &aead::AES_128_GCM,
            Self::Tls13Aes256 | Self::Tls12Aes256 => &aead::AES_256_GCM,
            Self::Tls13ChaCha | Self::Tls12ChaCha => &aead::CHACHA20_POLY1305,
        }
    }

    fn hkdf(self) -> hkdf::Algorithm {
        match self {
            Self::Tls13Aes256 => hkdf::HKDF_SHA384,
            _ => hkdf::HKDF_SHA256,
        }
    }
}

/// Bytes of a tag; all ciphers here have the same.
pub(crate) const TAG_BYTES: usize = 16;
/// Bytes of a nonce, likewise.
pub(crate) const NONCE_BYTES: usize = 12;
/// The longest secret.
const SECRET_BYTES_MAX: usize = 48;

/// The next generation of a traffic secret, with its key and IV (RFC 8446, section 7.2 and 7.3).
pub(crate) fn advance(suite: Suite, secret: &mut [u8], key: &mut [u8], iv: &mut [u8]) {
    let mut next = [0; SECRET_BYTES_MAX];
    let next_secret = &mut next[..secret.len().min(SECRET_BYTES_MAX)];
    expand_label(suite, secret, b"traffic upd", next_secret);
    secret.copy_from_slice(next_secret);
    next.zeroize();
    expand_label(suite, secret, b"key", key);
    expand_label(suite, secret, b"iv", iv);
}

/// HKDF-Expand-Label without a context (RFC 8446, section 7.1). `out` is at most one hash long.
fn expand_label(suite: Suite, secret: &[u8], label: &[u8], out: &mut [u8]) {
    let length = u16::try_from(out.len()).unwrap_or_default().to_be_bytes();
    let label_length = [u8::try_from(PREFIX.len() + label.len()).unwrap_or_default()];
    let info: [&[u8]; 5] = [&length, &label_length, PREFIX, label, &[0]];
    hkdf::Prk::new_less_safe(suite.hkdf(), secret)
        .expand(&info, Length(out.len()))
        .and_then(|okm| okm.fill(out))
        .expect("an output of at most one hash is never refused");
}

const PREFIX: &[u8] = b"tls13 ";

/// The length of an output, in the form that the library asks for.
pub(crate) struct Length(pub(crate) usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}
