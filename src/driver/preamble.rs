//! Listeners whose connections begin with a header of the PROXY protocol.
//!
//! Owns: what becomes of a connection until that header is whole.
//! Never: takes a header from a peer that is no trusted proxy, or goes on without one.
//! Bounds: [`crate::limits::PREAMBLE_BYTES_MAX`], and the deadline of the request head.

use super::Driver;
use super::conn::{Head, State};
use crate::caller::preamble::{self, BadPreamble};
use crate::ids::ConnId;
use crate::metrics::tally::GateRefusal;

impl Head {
    /// The state of a connection that must begin with such a header.
    pub(super) fn behind_preamble() -> Box<Self> {
        Box::new(Self { preamble: true, ..Self::default() })
    }
}

impl Driver {
    /// What the client itself has sent, of all that the connection has; `None` while the header is not whole, and when it is
    /// none: then the connection is closed. Nobody is told, because who is at the other end does not speak HTTP yet.
    pub(super) fn hear_preamble<'a>(&mut self, id: ConnId, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let conn = self.table.get_mut(id)?;
        let State::Head(Some(head)) = &mut conn.state else { return Some(bytes) };
        if !head.preamble {
            return Some(bytes);
        }
        let is_trusted = conn.transport.peer().is_some_and(|peer| self.judge.trusts(peer.address));
        match if is_trusted { preamble::parse(bytes) } else { Err(BadPreamble) } {
            Ok(Some(found)) => {
                head.preamble = false;
                head.peer = found.client;
                bytes.get(found.len..)
            }
            Ok(None) => {
                head.stash = bytes.to_vec();
                None
            }
            Err(BadPreamble) => {
                self.shard.tally().gate_refuse(GateRefusal::ProxyHeader);
                self.doom(id);
                None
            }
        }
    }
}
