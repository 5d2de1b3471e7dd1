//! What a legacy session was sent and has not confirmed.
//!
//! Owns: [`Unconfirmed`], for one session.
//! Bounds: [`crate::limits::UNCONFIRMED_MAX`] conversations.

use std::collections::BTreeMap;

use crate::ids::{ConvId, Seq};

/// What a legacy session was sent and has not confirmed (the pong to a ping sent
/// after the message proves that it arrived).
#[derive(Debug, Default)]
pub(in crate::shard) struct Unconfirmed {
    /// Sent since the last ping.
    pub(in crate::shard) sent: BTreeMap<ConvId, Seq>,
    /// Sent before the ping that is not answered yet.
    pub(in crate::shard) pinged: BTreeMap<ConvId, Seq>,
    /// The number of that ping.
    pub(in crate::shard) ping: u32,
    /// Monotonic milliseconds before which there is no further one. The first one goes at once:
    /// many a page lives only for seconds.
    pub(in crate::shard) rests_ms: u64,
}

impl Unconfirmed {
    /// Whether nothing of it is needed any more: everything is confirmed, and the pause is over.
    pub(in crate::shard) fn is_over(&self, now_ms: u64) -> bool {
        self.sent.is_empty() && self.pinged.is_empty() && self.rests_ms <= now_ms
    }

    /// Whether a pong of that payload answers the ping under way.
    pub(in crate::shard) fn is_asked_by(&self, payload: &[u8]) -> bool {
        payload == self.ping.to_be_bytes()
    }

    /// Whether there is a ping under way.
    pub(super) fn has_asked(&self) -> bool {
        !self.pinged.is_empty()
    }
}
