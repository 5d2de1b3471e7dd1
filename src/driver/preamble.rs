//! Listeners whose connections begin with a header of the PROXY protocol.
//!
//! Owns: what becomes of a connection until that header is whole, and of its share per address when
//! it is: the client's, not the proxy's.
//! Never: takes a header from a peer that is no trusted proxy, or goes on without one.
//! Bounds: [`crate::limits::PREAMBLE_BYTES_MAX`], and the deadline of the request head.

use super::Driver;
use super::addresses::Visitor;
use super::conn::{Head, State};
use crate::caller::Peer;
use crate::caller::preamble::{self, BadPreamble, Preamble};
use crate::fair::Holding;
use crate::http::Response;
use crate::ids::ConnId;
use crate::metrics::tally::GateRefusal;

/// What the log says of a peer of such a listener that is not trusted, beside its address.
const STRANGER: &str = "a connection to listen_proxy of an address that is not in trusted_proxies is closed; add it only if it is your own proxy";

impl Head {
    /// The state of a connection that must begin with such a header.
    pub(super) fn behind_preamble() -> Box<Self> {
        Box::new(Self { preamble: true, ..Self::default() })
    }

    /// The state of a connection whose other end is known.
    pub(super) fn of(peer: Peer) -> Box<Self> {
        Box::new(Self { peer: Some(peer), ..Self::default() })
    }

    /// Whether a part of the request has come.
    pub(super) fn is_begun(&self) -> bool {
        !self.preamble && !self.stash.is_empty()
    }
}

impl Driver {
    /// Hears the next piece of a header, and of what is behind it. What is none ends the connection
    /// without a word, because the other end does not speak HTTP yet.
    pub(super) fn hear_preamble(&mut self, id: ConnId, piece: &[u8]) {
        let Some(conn) = self.table.get_mut(id) else { return };
        let before = conn.holding();
        let peer = conn.transport.peer();
        let is_trusted = peer.is_some_and(|peer| self.judge.trusts(peer.address));
        let State::Head(head) = &mut conn.state else { return };
        let Some(mut kept) = head.take() else { return };
        self.inbound.change(id, before, Holding::default());
        if kept.stash.is_empty() {
            kept.since_ms = self.now.mono_ms;
        }
        kept.stash.extend_from_slice(piece);
        match if is_trusted { preamble::parse(&kept.stash) } else { Err(BadPreamble) } {
            Ok(None) => self.keep_head(id, *kept),
            Ok(Some(Preamble { len, client })) => {
                self.keep_head(id, Head { peer: client, ..Head::default() });
                let rest = kept.stash.get(len..).unwrap_or_default();
                if client.is_none_or(|client| self.comes_from(id, client, rest)) && !rest.is_empty() {
                    self.hear_head(id, rest);
                }
            }
            Err(BadPreamble) => {
                let stranger = peer.filter(|_| !is_trusted);
                let why = if stranger.is_some() { GateRefusal::ProxyPeer } else { GateRefusal::ProxyHeader };
                self.tally.gate_refuse(why);
                self.tally.see(why.sighting(), self.now.wall_ms);
                if let Some(stranger) = stranger {
                    self.name_stranger(stranger);
                }
                self.mark_closed(id);
            }
        }
    }

    /// Names a peer that would have to be trusted, now and then: twice as many later each time.
    fn name_stranger(&self, peer: Peer) {
        if self.tally.gate_refused[GateRefusal::ProxyPeer as usize].is_power_of_two() {
            tracing::warn!(address = %peer.address, "{STRANGER}");
        }
    }

    /// Whom a header has named as the other end of a connection that waits for its head.
    pub(super) fn named_visitor(&self, id: ConnId) -> Option<Visitor> {
        let State::Head(Some(head)) = &self.table.get(id)?.state else { return None };
        head.peer.map(|peer| self.addresses.visitor(Some(peer.address)))
    }

    /// From now on the connection is the client's, which has sent `asked`, and takes the share of
    /// its address. Answers whether it may stay.
    fn comes_from(&mut self, id: ConnId, client: Peer, asked: &[u8]) -> bool {
        let visitor = self.addresses.visitor(Some(client.address));
        if !self.addresses.may_connect(visitor, self.now.mono_ms) {
            self.tally.gate_refuse(GateRefusal::ConnectRate);
            self.mark_closed(id);
            return false;
        }
        if self.addresses.is_full(visitor.origin) {
            self.refuse(id, GateRefusal::Address, Response::Unavailable.to(asked, self.now.wall_ms));
            return false;
        }
        if let Some(conn) = self.table.get_mut(id) {
            self.addresses.leave(conn.origin);
            self.addresses.enter(visitor.origin);
            conn.origin = visitor.origin;
        }
        if self.heads.leave(&id) {
            self.line_up(id, visitor);
        }
        self.table.get(id).is_some_and(|conn| !conn.closed)
    }
}
