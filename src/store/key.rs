//! Post keys as bytes, as every database keeps them.
//!
//! Owns: the one encoding; it is part of the schema, so it never changes.
//! Never: meets two sorts of keys with the same bytes.

use super::PostKey;

/// A key as bytes: its sort, then the client's text, or numbers that grow, so that the newest stand
/// side by side.
pub(super) fn key_bytes(key: &PostKey) -> Vec<u8> {
    match key {
        PostKey::Client(cid) => [&[KEY_CLIENT][..], cid.as_bytes()].concat(),
        PostKey::Server { node, boot, counter } => {
            [&[KEY_SERVER][..], &node.to_be_bytes(), &boot.to_be_bytes(), &counter.to_be_bytes()].concat()
        }
    }
}

const KEY_CLIENT: u8 = 0;
const KEY_SERVER: u8 = 1;
