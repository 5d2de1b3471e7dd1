//! What an operator is shown of a user's sessions.
//!
//! Never: keeps anything for it: only what the shard needs itself is there to be shown.
//! Bounds: [`limits::SESSIONS_SHOWN_MAX`] sessions of a user.

use crate::ids::UserId;
use crate::limits;
use crate::shard::event::{HeldBack, SessionView};
use crate::shard::io::Io;
use crate::shard::session::Phase;
use crate::shard::sessions::Sessions;
use crate::shard::sessions::pace::Payer;

impl Sessions {
    /// The sessions of `user`, in the order in which they came. One that is on its way out is none
    /// any more.
    pub(in crate::shard) fn shown_of(&self, io: &Io, user: UserId) -> Box<[SessionView]> {
        let slots = self.roster.sessions_of(&self.table, user).into_iter().take(limits::SESSIONS_SHOWN_MAX);
        slots.filter_map(|slot| self.shown(io, slot)).collect()
    }

    fn shown(&self, io: &Io, slot: u32) -> Option<SessionView> {
        let conn = self.table.name(slot)?;
        let session = self.table.get(conn)?;
        let open = session.phase() == Phase::Open;
        let held_back = if self.paces.rests(Payer::of(session, conn)) {
            Some(HeldBack::Pace)
        } else {
            (open && session.paused).then_some(HeldBack::Answers)
        };
        Some(SessionView {
            conn,
            profile: session.profile,
            device: session.device,
            login: session.login(),
            open,
            silent_ms: session.silent_ms(io.now_ms()),
            pings: session.pings,
            waiting_bytes: session.outbox.as_ref().map_or(0, |outbox| outbox.bytes()),
            unanswered: session.unanswered(),
            behind: session.is_behind(),
            held_back,
            deflates: session.deflate().is_some(),
            socket: None,
        })
    }
}
