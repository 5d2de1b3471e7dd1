//! The responses to upgrades (101) that wait for what their sessions are told first.
//!
//! Owns: how long they wait. On loopback a send costs four to nine microseconds whatever it
//! carries, and a session that is told its conversations some milliseconds after the response can
//! be told them with it.
//! Never: lets anything leave before the response: it is the first item of its session's outbox.
//! Bounds: one entry for each session that opens, for
//! [`Setup::response_ms_max`](super::Setup::response_ms_max) at most; [`limits::TURN_EXPIRES_MAX`]
//! a turn.

use std::collections::VecDeque;

use crate::ids::ConnId;
use crate::limits;
use crate::shard::effect::Effect;
use crate::shard::io::Io;
use crate::shard::session::{Flag, Phase, Session};
use crate::shard::sessions::Sessions;
use crate::wire::Profile;

/// The sessions whose responses wait, in the order of their deadlines.
#[derive(Default)]
pub(in crate::shard) struct Responses {
    queue: VecDeque<(u64, ConnId)>,
}

impl Responses {
    /// When the first of them has waited long enough.
    pub(in crate::shard) fn next_ms(&self) -> Option<u64> {
        self.queue.front().map(|&(due_ms, _)| due_ms)
    }
}

/// Whether the response has not left, and the driver was not asked to send it.
fn waits(session: &Session) -> bool {
    session.phase() != Phase::Finishing
        && !session.is(Flag::Flushing)
        && session.outbox.as_ref().is_some_and(|outbox| outbox.has_response())
}

impl Sessions {
    /// The response of a session that has just been registered leaves now or, if the session will
    /// be told something unasked, with that.
    pub(in crate::shard) fn respond(&mut self, io: &mut Io, conn: ConnId, profile: Profile) {
        let is_told_something = match profile {
            Profile::Legacy(_) => true,
            Profile::V2 => !io.setup.volatile,
            Profile::Room => false,
        };
        if is_told_something {
            self.responses.queue.push_back((io.now_ms() + io.setup.response_ms_max, conn));
        } else {
            self.send_response(io, conn);
        }
    }

    /// Whether a session that has opened will be told something soon, and nothing else is to be
    /// sent to it than its response, which goes with that.
    pub(in crate::shard) fn has_more_to_tell(&self, io: &Io, conn: ConnId) -> bool {
        self.table.get(conn).is_some_and(|session| {
            session.profile == Profile::V2
                && !io.setup.volatile
                && session.outbox.as_ref().is_some_and(|outbox| outbox.is_only_response())
        })
    }

    /// Has the responses sent that have waited long enough, alone if the store has not answered yet
    /// for the session's user is.
    pub(in crate::shard) fn send_late_responses(&mut self, io: &mut Io) {
        for _ in 0..limits::TURN_EXPIRES_MAX {
            let due = self.responses.queue.pop_front_if(|&mut (due_ms, _)| due_ms <= io.now_ms());
            let Some((_, conn)) = due else { return };
            self.send_response(io, conn);
        }
    }

    /// A response has left, or its session is gone: the driver is not woken for what waits no
    /// longer.
    pub(super) fn skip_responses(&mut self) {
        while let Some(&(_, conn)) = self.responses.queue.front()
            && !self.table.get(conn).is_some_and(waits)
        {
            self.responses.queue.pop_front();
        }
    }

    fn send_response(&mut self, io: &mut Io, conn: ConnId) {
        if let Some(session) = self.table.get_mut(conn).filter(|session| waits(session))
            && let Some(outbox) = session.outbox.as_deref_mut()
        {
            outbox.offer(io.now_ms());
            session.set(Flag::Flushing, true);
            session.set(Flag::AcksWait, false);
            io.push(Effect::Flush { conn });
        }
    }
}
