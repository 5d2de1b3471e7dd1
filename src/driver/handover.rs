//! What moves from shard to shard, or from the control plane to a shard.
//!
//! Owns: [`HandOver`], and the control plane's way back ([`ReturnGate`]).
//! Never: a bare socket between shards: a [`Transport`] moves with whatever state it has.
//! Bounds: [`crate::limits::HANDOVERS_MAX`] waiting at one shard; a full queue gives the connection
//! back, and it is told 503.

use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::addresses::Origin;
use super::transport::Transport;
use crate::caller::Peer;
use crate::mesh::{Doors, Gate};
use crate::shard::Hello;

/// A connection on its way to another thread.
#[derive(Debug)]
pub enum HandOver {
    /// Its user is proven and lives on the addressee.
    Proven {
        /// The pipe, registered nowhere.
        transport: Transport,
        /// Whose share of the connections it takes.
        origin: Origin,
        /// What the peer has sent behind its request head.
        unread: Vec<u8>,
        /// The proof.
        hello: Hello,
        /// The 101, for the owner to write: so "upgraded" always means "owned".
        response: Vec<u8>,
    },
    /// It is at its beginning.
    Fresh {
        /// The pipe, registered nowhere.
        transport: Transport,
        /// A request head, perhaps with bytes behind it.
        read: Vec<u8>,
        /// Its other end.
        peer: Peer,
    },
}

impl HandOver {
    /// The pipe, when it was not taken.
    pub(super) fn into_transport(self) -> Transport {
        match self {
            Self::Proven { transport, .. } | Self::Fresh { transport, .. } => transport,
        }
    }
}

/// Where a kept-alive HTTP connection goes that turns out to be an upgrade: to the gates of all
/// shards in turn.
pub struct ReturnGate {
    doors: Doors<HandOver>,
    next: AtomicUsize,
}

impl ReturnGate {
    /// A gate in front of `doors`.
    #[must_use]
    pub const fn new(doors: Doors<HandOver>) -> Self {
        Self { doors, next: AtomicUsize::new(0) }
    }
}

impl Gate for ReturnGate {
    fn admit(&self, stream: TcpStream, read: Vec<u8>, peer: Peer) -> Result<(), TcpStream> {
        let index = self.next.fetch_add(1, Ordering::Relaxed) % self.doors.len();
        let handed = Box::new(HandOver::Fresh { transport: Transport::from_socket(stream), read, peer });
        self.doors.hand_over(index, handed).map_err(|handed| handed.into_transport().into_socket())
    }
}
