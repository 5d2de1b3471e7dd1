//! WebSocket as a server speaks it (RFC 6455), without a socket and without a word about chat.
//!
//! Owns: the upgrade (`handshake`), frame headers and masking (`frame`), a connection's decoder
//! (`decoder`), compressed messages (`deflate`), and whose fault it is when a peer breaks the rules
//! (`violation`).
//! Never: reads or writes a socket, knows a command or a user, panics on what a peer sends, or
//! allocates for a message that arrived whole.
//! Bounds: [`Limits`] for messages, [`UNREAD_BYTES_MAX`](crate::limits::UNREAD_BYTES_MAX) for the
//! bytes of a stopped connection.
//!
//! The only extension is permessage-deflate (RFC 7692), for connections that agreed upon it; any
//! other reserved bit is a violation.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

pub mod decoder;
pub mod deflate;
pub mod frame;
pub mod handshake;
pub mod violation;

pub use decoder::{Decoder, Incoming, Progress};
pub use violation::Violation;

use crate::limits;

/// What one message may cost. The same for every connection of a route, so it is an argument and
/// not part of a [`Decoder`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Payload bytes of one message, all its fragments together. One byte more is
    /// [`Violation::MessageTooBig`].
    pub message_bytes: usize,
    /// Frames that one message may consist of. One more is [`Violation::TooManyFragments`].
    pub fragments: u32,
    /// permessage-deflate was agreed upon: messages may be compressed. Of these `message_bytes`
    /// bounds what comes; what becomes of it is bounded where it is inflated.
    pub deflate: bool,
}

impl Limits {
    /// The chat routes.
    pub const CHAT: Self =
        Self { message_bytes: limits::MESSAGE_BYTES_MAX, fragments: limits::FRAGMENTS_MAX, deflate: false };
    /// The hidden echo route that Autobahn talks to.
    pub const ECHO: Self =
        Self { message_bytes: limits::ECHO_MESSAGE_BYTES_MAX, fragments: limits::ECHO_FRAGMENTS_MAX, deflate: false };

    /// The same for a connection on which messages may be compressed, or may not.
    #[must_use]
    pub const fn with_deflate(self, deflate: bool) -> Self {
        Self { deflate, ..self }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::CHAT
    }
}
