//! The pause of an old page's replay until it knows an author (`session::introductions`).
//!
//! Owns: when that pause ends.

use crate::ids::{ConnId, UserId};
use crate::shard::catching_up::CatchingUp;
use crate::shard::io::Io;
use crate::shard::retries::Retry;
use crate::shard::sessions::Sessions;

impl CatchingUp {
    /// The control plane has told a page of `reader` the name of `of`.
    pub(in crate::shard) fn introduced(&mut self, sessions: &mut Sessions, reader: UserId, of: UserId) {
        for slot in sessions.roster.sessions_of(&sessions.table, reader) {
            if let Some(unfinished) = sessions.table.at_mut(slot).and_then(|session| session.unfinished.as_mut()) {
                unfinished.introductions.found(of);
            }
        }
    }

    /// A retry of a session's pause is due.
    pub(in crate::shard) fn retry_introduction(&mut self, io: &mut Io, sessions: &mut Sessions, conn: ConnId) {
        let Some(unfinished) = sessions.table.get_mut(conn).and_then(|session| session.unfinished.as_mut()) else {
            return;
        };
        if unfinished.introductions.tick() {
            if let Some(session) = sessions.table.get_mut(conn) {
                session.tidy(&mut io.held);
            }
            self.catch_up(io, sessions, conn);
        } else if unfinished.introductions.wait() {
            io.retry(Retry::Introduction(conn));
        }
    }
}
