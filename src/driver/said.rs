//! What a shard's thread says of its connections in the trails and in the log.
//!
//! Owns: the name of a connection there: the same in every line, and no other connection's until
//! the process ends.
//! Never: is on the way of a message. A trail that is off costs a look at the begin and the end of
//! a session.

use std::fmt;
use std::net::IpAddr;

use serde_json::json;

use super::Driver;
use super::conn::{Conn, State};
use crate::caller::Peer;
use crate::http::Head;
use crate::ids::{ConnId, ShardId};
use crate::metrics::names;
use crate::metrics::tally::GateRefusal;
use crate::shard::Hello;
use crate::wire::Profile;

/// The name of a connection: shard, slot, generation.
pub(super) struct Name(ShardId, ConnId);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}-{}-{}", self.0.0, self.1.slot, self.1.generation)
    }
}

impl Driver {
    /// The name of a connection.
    pub(super) const fn named(&self, id: ConnId) -> Name {
        Name(self.seat.me(), id)
    }

    /// The address of the client whose head is in `bytes`, behind the proxies that are trusted;
    /// `None` if no trail wants to know.
    pub(super) fn client_of(&self, bytes: &[u8], peer: impl FnOnce() -> Option<Peer>) -> Option<IpAddr> {
        if !self.trails.access.is_on() && !self.trails.audit.is_on() {
            return None;
        }
        let head = Head::parse(bytes).ok().flatten()?;
        Some(self.judge.place(&head, peer()?).client)
    }

    /// A connection has become a session.
    pub(super) fn say_opened(&self, id: ConnId, hello: &Hello, from: Option<IpAddr>) {
        self.trails.access.say("session_opened", || {
            let user = (hello.profile != Profile::Room).then(|| hello.identity.user().get());
            let profile = names::PROFILE_LABELS.get(hello.profile.index());
            let tls = self.table.get(id).is_some_and(Conn::is_tls);
            json!({
                "conn": self.named(id).to_string(), "from": from.map(|from| from.to_string()), "user": user,
                "profile": profile, "tls": tls, "deflate": hello.deflate.is_some(),
            })
        });
    }

    /// The place of an open session's transport among those that are counted.
    pub(super) fn transport_of(conn: &Conn) -> Option<usize> {
        let State::Open(open) = &conn.state else { return None };
        Some(names::transport(conn.is_tls(), open.deflates))
    }

    /// A session's connection has been opened, or its end has begun.
    pub(super) fn count_transport(&mut self, place: usize, opened: bool) {
        let Some(count) = self.tally.transports.get_mut(place) else { return };
        *count = if opened { *count + 1 } else { count.saturating_sub(1) };
    }

    /// A session ends: with the `code` of its close frame, if there is one, and `by` whom.
    pub(super) fn say_closed(&self, id: ConnId, code: Option<u16>, by: &str) {
        self.trails
            .access
            .say("session_closed", || json!({ "conn": self.named(id).to_string(), "code": code, "by": by }));
    }

    /// An upgrade was refused for what it brought as proof.
    pub(super) fn say_refused(&self, id: ConnId, why: GateRefusal, from: Option<IpAddr>) {
        if !matches!(why, GateRefusal::Forbidden | GateRefusal::CrossOrigin) {
            return;
        }
        self.trails.audit.say("session_refused", || {
            json!({ "conn": self.named(id).to_string(), "from": from.map(|from| from.to_string()), "why": why.label() })
        });
    }
}
