//! What a shard's thread says of its connections in the trails, in the log and to the operator.
//!
//! Owns: the name of a connection there: the same in every line, and no other connection's until
//! the process ends.
//! Never: is on the way of a message. A trail that is off costs a look at the begin and the end of
//! a session.

use std::net::IpAddr;

use serde_json::json;

use super::Driver;
use super::conn::{Conn, State};
use crate::caller::Peer;
use crate::fair::{Rate, Rates};
use crate::http::Head;
use crate::ids::{ConnId, SessionName, UserId};
use crate::limits::{PACED_USERS_MAX, TOO_FAST_LINE_MS, TOO_FAST_LINES_MAX, TOO_FAST_USER_MS};
use crate::metrics::names;
use crate::metrics::tally::GateRefusal;
use crate::shard::{Answer, Hello, SocketView};
use crate::wire::{CloseCode, Profile};

/// In the trail, of a session that was not ended by its peer.
pub(super) const BY_GATEWAY: &str = "gateway";

/// When the log names a user that was closed for going too fast.
pub(super) struct TooFastLines {
    users: Rates<Option<UserId>>,
    all: Rates<()>,
    /// Ends since the last line that had none.
    untold: u64,
}

const USER_RATE: Rate = Rate { most: 1, pause_ms: TOO_FAST_USER_MS };
const ALL_RATE: Rate = Rate { most: TOO_FAST_LINES_MAX, pause_ms: TOO_FAST_LINE_MS };

impl TooFastLines {
    /// Nothing was said so far.
    pub(super) fn new() -> Self {
        Self { users: Rates::new(PACED_USERS_MAX), all: Rates::new(1), untold: 0 }
    }

    /// A session of `user`, or of a guest, was closed for it. If there is to be a line: how many
    /// ends before it have none.
    fn line(&mut self, user: Option<UserId>, now_ms: u64) -> Option<u64> {
        if self.users.take(user, USER_RATE, now_ms) && self.all.take((), ALL_RATE, now_ms) {
            return Some(std::mem::take(&mut self.untold));
        }
        self.untold += 1;
        None
    }
}

impl Driver {
    /// The name of a connection.
    pub(super) const fn named(&self, id: ConnId) -> SessionName {
        SessionName(self.endpoint.me(), id)
    }

    /// Adds what only the sockets tell to what an operator is shown of sessions.
    pub(super) fn add_sockets(&self, answer: &mut Answer) {
        let Answer::Sessions(sessions) = answer else { return };
        for session in sessions {
            session.socket = self.table.get(session.conn).map(|conn| SocketView {
                address: conn.transport.peer().map(|peer| peer.address.to_canonical().to_string().into()),
                tls: conn.is_tls(),
            });
        }
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
    pub(super) fn say_closed(&mut self, id: ConnId, code: Option<u16>, by: &str) {
        if code == Some(CloseCode::TooFast.code()) && by == BY_GATEWAY {
            let user = self.shard.user_of(id);
            if let Some(untold) = self.too_fast.line(user, self.now.mono_ms) {
                let (conn, user) = (self.named(id), user.map(UserId::get));
                tracing::info!(%conn, user, untold, "a user is closed for going too fast");
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_that_is_too_fast_is_named_and_none_fills_the_log() {
        let user = |raw| UserId::new(raw);
        let mut lines = TooFastLines::new();
        assert_eq!(lines.line(user(1), 0), Some(0));
        assert!((0..4).all(|_| lines.line(user(1), 10).is_none()), "one's other sessions");
        assert_eq!(lines.line(None, 20), Some(4), "a guest, with the count of those without a line");
        assert!(lines.line(user(1), TOO_FAST_USER_MS - 1).is_none());
        assert_eq!(lines.line(user(1), TOO_FAST_USER_MS), Some(1), "who comes back is named again");
        let told = (100..1100).filter(|&raw| lines.line(user(raw), TOO_FAST_USER_MS).is_some()).count() as u64;
        assert_eq!(told, TOO_FAST_LINES_MAX - 1);
    }
}
