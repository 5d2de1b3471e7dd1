//! Which cipher a connection gets.
//!
//! A client with instructions for AES names AES first; then AES-128 is taken if the client has it:
//! its handshake hashes with SHA-256 instead of SHA-384, a seventh of the whole handshake's time,
//! its keys are shorter, and breaking it is as far away. A client that names ChaCha20 first has no
//! such instructions, and its order holds (as in Go's crypto/tls).

use rustls::crypto::aws_lc_rs::ALL_CIPHER_SUITES;
use rustls::{CipherSuite, SupportedCipherSuite};

use crate::limits::RECORD_HEADER_BYTES;

/// Sorts what a server offers, the cheapest first.
pub(crate) fn order_by_cost(suites: &mut [SupportedCipherSuite]) {
    suites.sort_by_key(|suite| !is_aes128(suite.suite()));
}

const fn is_aes128(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
    )
}

const fn is_chacha(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
    )
}

/// Whether the first cipher in a ClientHello that there is here is ChaCha20. `record` is the
/// client's first one; where it has no list of ciphers, or only its beginning, rustls says so.
pub(crate) fn prefers_chacha(record: &[u8]) -> bool {
    let known = |suite: CipherSuite| ALL_CIPHER_SUITES.iter().any(|ours| ours.suite() == suite);
    let suites = suites_of(record).unwrap_or_default().chunks_exact(2);
    suites
        .map(|id| CipherSuite::from(u16::from_be_bytes([id[0], id[1]])))
        .find(|suite| known(*suite))
        .is_some_and(is_chacha)
}

/// The list of ciphers of a ClientHello (RFC 8446, section 4.1.2), or what is there of it.
fn suites_of(record: &[u8]) -> Option<&[u8]> {
    const MESSAGE_HEADER_BYTES: usize = 4;
    const VERSION_AND_RANDOM_BYTES: usize = 2 + 32;
    let (session_bytes, rest) =
        record.get(RECORD_HEADER_BYTES + MESSAGE_HEADER_BYTES + VERSION_AND_RANDOM_BYTES..)?.split_first()?;
    let (bytes, rest) = rest.get(usize::from(*session_bytes)..)?.split_first_chunk()?;
    let bytes = usize::from(u16::from_be_bytes(*bytes));
    Some(rest.get(..bytes).unwrap_or(rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The beginning of a ClientHello with a session id of that length, and what follows the list.
    fn hello(session_bytes: u8, suites: &[u16], rest: &[u8]) -> Vec<u8> {
        let mut record = vec![0x16, 3, 1, 0, 0, 1, 0, 0, 0, 3, 3];
        record.extend([7; 32]);
        record.push(session_bytes);
        record.extend(vec![9; usize::from(session_bytes)]);
        record.extend(u16::try_from(2 * suites.len()).expect("few").to_be_bytes());
        record.extend(suites.iter().flat_map(|id| id.to_be_bytes()));
        record.extend(rest);
        record
    }

    #[test]
    fn the_first_cipher_that_there_is_here_decides() {
        let (grease, cbc, old) = (0x5a5a, 0xc009, 0x002f);
        for (suites, chacha) in [
            (&[0x1303, 0x1301][..], true),
            (&[0x1302, 0x1303, 0x1301], false),
            (&[grease, cbc, 0xcca8, 0xc02b], true),
            (&[grease, 0xc02f, 0xcca9], false),
            (&[old, cbc], false),
            (&[], false),
        ] {
            for session_bytes in [0, 32, 255] {
                assert_eq!(prefers_chacha(&hello(session_bytes, suites, &[0x13, 3])), chacha, "{suites:x?}");
            }
        }
        let cut = hello(32, &[0x1303, 0x1301], &[]);
        assert!(prefers_chacha(&cut[..cut.len() - 1]), "its beginning is enough");
    }

    #[test]
    fn what_a_server_offers_begins_with_the_cheap_and_loses_nothing() {
        let mut suites = ALL_CIPHER_SUITES.to_vec();
        order_by_cost(&mut suites);
        assert_eq!(suites.len(), ALL_CIPHER_SUITES.len());
        assert!(suites.iter().map(|suite| !is_aes128(suite.suite())).is_sorted());
        assert!(is_aes128(suites[0].suite()));
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prefers_chacha(&bytes);
        }
    }
}
