//! What is kept of what clients have begun to send: parts of messages, of heads and of TLS records,
//! and bytes of sessions that are not read now.
//!
//! Owns: which connection has to end when all shards together keep too much, and when a message or
//! a record was not whole in time. The account itself is a [`crate::fair::Holdings`]; whoever
//! changes what a connection keeps says so there.
//! Never: costs anything for a connection of which nothing is kept.
//! Bounds: [`crate::config::Config::inbound_budget`], but for what one turn of each shard adds;
//! [`TURN_EVICTIONS_MAX`] a turn.

use super::Driver;
use super::conn::State;
use super::tls::Tls;
use crate::fair::Holding;
use crate::ids::ConnId;
use crate::limits::{TURN_EVICTIONS_MAX, TURN_EXPIRES_MAX};
use crate::metrics::tally::InboundEnd;
use crate::shard::Event;
use crate::wire::CloseCode;

/// Pause before a session that was not read when its message was late is looked at again: its peer
/// could not finish meanwhile, and has that long once it is read.
const LOOK_AGAIN_MS: u64 = 5_000;

impl Driver {
    /// Ends those that have begun much and long ago, while all shards together keep more than they
    /// may and this one more than its equal part.
    pub(super) fn settle_inbound(&mut self) {
        let Some(excess) = self.inbound_budget.settle(self.inbound_bytes()) else { return };
        let enough = self.inbound_bytes().saturating_sub(excess);
        for _ in 0..TURN_EVICTIONS_MAX {
            if self.inbound_bytes() <= enough {
                break;
            }
            let records = self.tls.as_ref().map(Tls::begun).filter(|begun| begun.bytes() > self.inbound.bytes());
            let Some(id) = records.unwrap_or(&self.inbound).heaviest(self.now.mono_ms) else { break };
            if records.is_some() {
                // At once: while its end is waited for, what it has begun would still be kept.
                self.tally.inbound_ended[InboundEnd::Budget as usize] += 1;
                if matches!(self.table.get(id).map(|conn| &conn.state), Some(State::Open(_))) {
                    self.give(Event::Violation { conn: id, code: CloseCode::Incomplete });
                }
                self.mark_closed(id);
                self.reap();
                continue;
            }
            self.end_inbound(id, InboundEnd::Budget);
        }
        self.reap();
        self.inbound_budget.settle(self.inbound_bytes());
    }

    /// What is kept of messages, heads and TLS records that are not whole.
    pub(super) fn inbound_bytes(&self) -> usize {
        self.inbound.bytes() + self.tls.as_ref().map_or(0, |tls| tls.begun().bytes())
    }

    /// When the oldest of what is kept may have been too long.
    pub(super) fn message_due_ms(&self) -> Option<u64> {
        self.oldest_begun().map(|(since_ms, _)| since_ms + self.message_ms_max)
    }

    /// What was begun first of messages, heads and TLS records that are not whole.
    fn oldest_begun(&self) -> Option<(u64, ConnId)> {
        let record = self.tls.as_ref().and_then(|tls| tls.begun().oldest());
        [self.inbound.oldest(), record].into_iter().flatten().min()
    }

    /// Ends those whose message was not whole in time, also if they talk in between.
    pub(super) fn end_slow_messages(&mut self) {
        for _ in 0..TURN_EXPIRES_MAX {
            let Some((since_ms, id)) = self.oldest_begun() else { return };
            if since_ms + self.message_ms_max > self.now.mono_ms {
                return;
            }
            if self.waits_for_message(id) {
                self.end_inbound(id, InboundEnd::Slow);
            } else {
                self.look_later(id);
            }
        }
    }

    /// Whether the rest of a message is missing because the peer has not sent it, and not because
    /// it was not read.
    fn waits_for_message(&self, id: ConnId) -> bool {
        let Some(conn) = self.table.get(id) else { return false };
        match &conn.state {
            State::Open(open) => !open.paused && !open.held && !conn.listed,
            State::Handshake(_) | State::Head(_) | State::Echo(_) | State::Closing(_) => false,
        }
    }

    /// What is kept of it is looked at again in a while: a head has a deadline of its own, and a
    /// session that is not read now is not late.
    fn look_later(&mut self, id: ConnId) {
        let since_ms = (self.now.mono_ms + LOOK_AGAIN_MS).saturating_sub(self.message_ms_max);
        if let Some(tls) = &mut self.tls {
            tls.note_anew(id, since_ms);
        }
        let Some(conn) = self.table.get_mut(id) else { return };
        let before = conn.holding();
        match &mut conn.state {
            State::Open(open) => open.decoder.note_anew(since_ms),
            State::Head(Some(head)) => head.since_ms = since_ms,
            State::Echo(echo) => echo.note_anew(since_ms),
            State::Handshake(newcomer) => newcomer.note_anew(since_ms),
            State::Head(None) | State::Closing(_) => {}
        }
        let after = conn.holding();
        self.inbound.change(id, before, after);
    }

    /// Ends a connection because of what it has begun: a session is told with a close frame, a head
    /// with 408.
    fn end_inbound(&mut self, id: ConnId, why: InboundEnd) {
        self.tally.inbound_ended[why as usize] += 1;
        match self.table.get(id).map(|conn| &conn.state) {
            Some(State::Open(_)) => self.give(Event::Violation { conn: id, code: CloseCode::Incomplete }),
            Some(State::Handshake(_) | State::Head(_)) => self.evict_head(id),
            Some(State::Echo(_) | State::Closing(_)) | None => self.mark_closed(id),
        }
        // The next one is another in any case. Of a record that is cut the time begins anew, until
        // its connection has ended.
        if let Some(tls) = &mut self.tls {
            tls.note_anew(id, self.now.mono_ms);
        }
        if let Some(conn) = self.table.get_mut(id) {
            let before = conn.holding();
            if let State::Handshake(_) = conn.state {
                conn.state = State::Head(None);
            }
            match &mut conn.state {
                State::Open(open) => {
                    open.decoder = crate::ws::Decoder::default();
                    self.mark_closed(id);
                }
                State::Head(head) => *head = None,
                State::Echo(echo) => **echo = super::echo::Echo::default(),
                State::Handshake(_) | State::Closing(_) => {}
            }
            self.inbound.change(id, before, Holding::default());
        }
    }
}
