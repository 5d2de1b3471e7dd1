//! What moves from shard to shard, or from the control plane to a shard.
//!
//! Owns: [`HandOver`], and the control plane's way back ([`ReturnGate`]).
//! Never: a bare socket between shards: a [`Wire`] moves with its TLS session.
//! Bounds: [`crate::limits::HANDOVERS_MAX`] waiting at one shard; a full queue gives the connection
//! back, and it is told 503.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::addresses::NetworkCounter;
use crate::caller::Peer;
use crate::mesh::{Gate, HandOverSenders, Wire};
use crate::shard::Hello;

/// A connection on its way to another thread.
#[derive(Debug)]
pub enum HandOver {
    /// Its user is proven and lives on the addressee.
    Proven {
        /// The socket, registered nowhere.
        wire: Wire,
        /// Whose share of the connections it takes.
        origin: NetworkCounter,
        /// When it was accepted, in nanoseconds of the gateway's clock.
        since_ns: u64,
        /// What the peer has sent behind its request head.
        unread: Vec<u8>,
        /// The client's address, if a trail wants to know.
        from: Option<IpAddr>,
        /// The proof.
        hello: Hello,
        /// The 101, for the owner to write: so "upgraded" always means "owned".
        response: Vec<u8>,
    },
    /// It is at its beginning.
    Fresh {
        /// The socket, registered nowhere.
        wire: Wire,
        /// A request head, perhaps with bytes behind it.
        read: Vec<u8>,
        /// Its other end.
        peer: Peer,
    },
}

impl HandOver {
    /// The socket and what belongs to it, when it was not taken.
    pub(super) fn into_wire(self) -> Wire {
        match self {
            Self::Proven { wire, .. } | Self::Fresh { wire, .. } => wire,
        }
    }
}

/// Where a kept-alive HTTP connection goes that turns out to be an upgrade: to the gates of all
/// shards in turn.
pub struct ReturnGate {
    senders: HandOverSenders<HandOver>,
    next: AtomicUsize,
}

impl ReturnGate {
    /// A gate in front of `senders`.
    #[must_use]
    pub const fn new(senders: HandOverSenders<HandOver>) -> Self {
        Self { senders, next: AtomicUsize::new(0) }
    }
}

impl Gate for ReturnGate {
    fn admit(&self, wire: Wire, read: Vec<u8>, peer: Peer) -> Result<(), Wire> {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.senders.len();
        let handed = Box::new(HandOver::Fresh { wire, read, peer });
        self.senders.hand_over(index, handed).map_err(|handed| handed.into_wire())
    }
}
