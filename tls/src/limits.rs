//! Every bound of this crate, with its reason.
//!
//! Owns: the numbers.
//! Never: a bound without a unit in its name.

/// Plaintext of one record (RFC 8446 and RFC 5246, section 5.1 and 6.2.1).
pub const RECORD_PLAIN_BYTES_MAX: usize = 1 << 14;
/// What encryption may add to a record (RFC 8446, section 5.2). TLS 1.2 would allow 2,048, but its
/// AEAD suites add 24 at most.
pub const RECORD_EXPANSION_BYTES_MAX: usize = 256;
/// The header of a record.
pub const RECORD_HEADER_BYTES: usize = 5;
/// A whole record as it travels. So many bytes must be free in front of the bytes that
/// [`crate::Session::open`] is given.
pub const RECORD_WIRE_BYTES_MAX: usize = RECORD_HEADER_BYTES + RECORD_PLAIN_BYTES_MAX + RECORD_EXPANSION_BYTES_MAX;
/// Bytes behind the plaintext of a record of ours: type and tag, or explicit nonce and tag.
pub const RECORD_OVERHEAD_BYTES_MAX: usize = RECORD_HEADER_BYTES + 8 + 16;

/// Records that one key seals before it is replaced (TLS 1.3) or the connection ended (TLS 1.2):
/// the bound of AES-GCM in RFC 8446, section 5.5, is 2^24.5 full records; rustls takes 2^23 too.
pub const KEY_RECORDS_MAX: u64 = 1 << 23;
/// Records that say nothing, more than those that do: empty application data, and alerts that mean
/// nothing. OpenSSL and rustls bear 32 in a row.
pub const EMPTY_RECORDS_MAX: u8 = 32;
/// Key updates of the peer in one minute. A key update costs two derivations, and an answer.
pub const KEY_UPDATES_PER_MINUTE_MAX: u8 = 16;

/// Bytes of a peer that are kept while the handshake goes on: one whole record. A ClientHello with
/// a post-quantum key share is below 2 KiB.
pub const HANDSHAKE_INPUT_BYTES_MAX: usize = RECORD_WIRE_BYTES_MAX;
/// Bytes of a peer during the whole handshake.
pub const HANDSHAKE_BYTES_MAX: usize = 2 * RECORD_WIRE_BYTES_MAX;
/// Records of a peer during the handshake. Some clients cut their ClientHello into several.
pub const HANDSHAKE_RECORDS_MAX: u8 = 32;
/// What rustls keeps on the heap for a handshake on its way, measured with 0.23.46.
pub const HANDSHAKE_HEAP_BYTES: usize = 3_200;

/// Certificates that one gateway offers, one or two for each of its names.
pub const CERTIFICATES_MAX: usize = 64;
/// A file with a certificate chain or a key.
pub const CERTIFICATE_FILE_BYTES_MAX: u64 = 1 << 20;

/// How long a client may use a ticket: beyond half a day forward secrecy suffers, and the key
/// exchange is what a handshake costs, also when it is resumed.
pub const TICKET_SECONDS_MAX: u32 = 12 * 3600;
/// A ticket with its TLS 1.2 or 1.3 state. Larger ones are not ours and are not decrypted.
pub const TICKET_BYTES_MAX: usize = 16 * 1024;

const _: () = assert!(TICKET_SECONDS_MAX as u64 <= 86_400, "yesterday's key must open every ticket");
const _: () =
    assert!(HANDSHAKE_INPUT_BYTES_MAX <= RECORD_WIRE_BYTES_MAX, "the rest of a handshake is kept as a record");
