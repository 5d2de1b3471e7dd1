//! What legacy sessions were sent, and the pings by which they confirm it.
//!
//! Owns: the sessions that are to be asked whether what they were sent has arrived, and when.
//! Bounds: the sessions; [`limits::TURN_TIMERS_MAX`] of them a turn.

use crate::ids::{ConnId, ConvId, Seq};
use crate::limits;
use crate::shard::PlantedBug;
use crate::shard::io::{Io, Note};
use crate::shard::session::Phase;
use crate::shard::sessions::Sessions;
use crate::shard::sessions::prices::Price;
use crate::wire::push;

impl Sessions {
    /// A legacy session was sent everything up to `seq`.
    pub(in crate::shard) fn sent_legacy(&mut self, io: &mut Io, conn: ConnId, conv: ConvId, seq: Seq) {
        let Some(session) = self.table.get_mut(conn) else { return };
        if !session.is_legacy() {
            return;
        }
        let unconfirmed = session.unconfirmed.get_or_insert_default();
        if unconfirmed.sent.is_empty() && unconfirmed.pinged.is_empty() {
            self.to_confirm.insert((unconfirmed.rests_ms.max(io.now_ms()), conn));
        }
        if unconfirmed.sent.len() < limits::UNCONFIRMED_MAX || unconfirmed.sent.contains_key(&conv) {
            unconfirmed.sent.insert(conv, seq);
        }
    }

    pub(in crate::shard) fn ask_confirmation(&mut self, io: &mut Io) {
        for _ in 0..limits::TURN_TIMERS_MAX {
            let Some(&(due_ms, conn)) = self.to_confirm.first() else { break };
            if due_ms > io.now_ms() {
                break;
            }
            self.to_confirm.pop_first();
            let Some(session) = self.table.get_mut(conn) else { continue };
            if session.phase() != Phase::Open {
                continue;
            }
            let Some(unconfirmed) = session.unconfirmed.as_deref_mut() else { continue };
            if unconfirmed.pinged.is_empty() && !unconfirmed.sent.is_empty() {
                unconfirmed.pinged = std::mem::take(&mut unconfirmed.sent);
                unconfirmed.ping = unconfirmed.ping.wrapping_add(1);
                unconfirmed.rests_ms = io.now_ms() + limits::CURSOR_PACE_MS;
                let number = unconfirmed.ping.to_be_bytes();
                // Behind what it asks about, in the same outbox: TCP keeps the order.
                session.outbox_mut(&mut io.held, io.now.mono_ms).control(push::ping(&number), &mut io.held);
                Self::flush(io, conn, session);
                if io.has_bug(PlantedBug::UnprovenCursor) {
                    self.pong(io, conn, &number);
                }
            }
        }
    }

    /// A pong. If it answers the ping behind some messages, they have arrived.
    pub(in crate::shard) fn pong(&mut self, io: &mut Io, conn: ConnId, payload: &[u8]) {
        let Some(session) = self.table.get_mut(conn) else { return };
        // A ping of either sort is answered once; the answer to one that something else has
        // overtaken costs hardly anything.
        let asked = session.pings > 0 || session.awaits_pong(payload);
        session.hear(io.now_ms());
        if !asked {
            self.pay(io, conn, &Price::PONG);
        }
        let Some(session) = self.table.get_mut(conn) else { return };
        let user = session.user;
        let Some(unconfirmed) = session.unconfirmed.as_deref_mut() else { return };
        if !unconfirmed.is_asked_by(payload) {
            return;
        }
        let arrived = std::mem::take(&mut unconfirmed.pinged);
        if !unconfirmed.sent.is_empty() {
            self.to_confirm.insert((unconfirmed.rests_ms.max(io.now_ms()), conn));
        }
        for (conv, seq) in arrived {
            io.notes.push_back(Note::Arrived { user, conv, seq });
        }
    }
}
