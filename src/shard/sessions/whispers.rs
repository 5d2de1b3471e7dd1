//! What may be lost on its last step: words about cursors, typing, presence and changes elsewhere.
//!
//! Owns: the one rule which sessions are told such things: open sessions of our own protocol whose
//! queue has room.
//! Never: lets what may be lost push out what may not, and never speaks to an old page, which would
//! not understand it.

use smallvec::SmallVec;

use crate::ids::{ConnId, GroupId, UserId};
use crate::shard::io::Io;
use crate::shard::session::Phase;
use crate::shard::sessions::Sessions;
use crate::wire::Profile;

impl Sessions {
    /// Tells a session, if it speaks `imgate.v2` and has room.
    pub(in crate::shard) fn whisper(&mut self, io: &mut Io, conn: ConnId, frame: Box<[u8]>) {
        let Some(session) = self.table.get_mut(conn) else { return };
        let queued = session.outbox.as_ref().map_or(0, |outbox| outbox.bytes());
        if session.profile == Profile::V2 && session.phase() == Phase::Open && queued < io.setup.outbox_bytes {
            session.outbox_mut(&mut io.held, io.now.mono_ms).control(frame, &mut io.held);
            Self::flush(io, conn, session);
        }
    }

    /// Tells all sessions of a user.
    pub(in crate::shard) fn whisper_to(&mut self, io: &mut Io, user: UserId, frame: &[u8]) {
        for slot in self.roster.sessions_of(&self.table, user) {
            if let Some(conn) = self.table.name(slot) {
                self.whisper(io, conn, frame.into());
            }
        }
    }

    /// Tells all sessions of a group's members here but those of the user `except`; none if they
    /// are more than `most`.
    pub(in crate::shard) fn whisper_to_group(
        &mut self,
        io: &mut Io,
        id: GroupId,
        except: Option<UserId>,
        most: usize,
        frame: &[u8],
    ) {
        let Some((_, group)) = self.roster.group_mut(id) else { return };
        if group.members.len() > most {
            return;
        }
        let members: SmallVec<[u32; 16]> = group.members.iter().copied().collect();
        for slot in members {
            // A slot that was left while a sweep is under way has no session.
            if self.table.at(slot).is_some_and(|session| Some(session.user) != except)
                && let Some(conn) = self.table.name(slot)
            {
                self.whisper(io, conn, frame.into());
            }
        }
    }
}
