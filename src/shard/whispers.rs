//! What may be lost on its last step: words about cursors, typing, presence and changes elsewhere.
//!
//! Owns: the one rule who is told such things: open sessions of our own protocol whose queue has room.
//! Never: lets what may be lost push out what may not, and never speaks to an old page, which would not understand it.

use smallvec::SmallVec;

use super::Shard;
use super::effect::Effects;
use super::session::Phase;
use crate::ids::{ConnId, GroupId, UserId};
use crate::wire::Profile;

impl Shard {
    /// Tells a session, if it speaks `imgate.v2` and has room.
    pub(super) fn whisper(&mut self, conn: ConnId, frame: Box<[u8]>, fx: &mut Effects) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let queued = session.outbox.as_ref().map_or(0, |outbox| outbox.bytes());
        if session.profile == Profile::V2 && session.phase == Phase::Open && queued < self.setup.outbox_bytes {
            session.outbox_mut(&self.held).control(frame);
            self.ask_flush(conn, fx);
        }
    }

    /// Tells all sessions of a user.
    pub(super) fn whisper_to(&mut self, user: UserId, frame: &[u8], fx: &mut Effects) {
        for slot in self.roster.sessions_of(&self.sessions, user) {
            if let Some(conn) = self.sessions.name(slot) {
                self.whisper(conn, frame.into(), fx);
            }
        }
    }

    /// Tells all sessions of a group's members here but those of the user `except`; nobody if they are more than `most`.
    pub(super) fn whisper_to_group(
        &mut self,
        id: GroupId,
        except: Option<UserId>,
        most: usize,
        frame: &[u8],
        fx: &mut Effects,
    ) {
        let Some((_, group)) = self.roster.group_mut(id) else { return };
        if group.members.len() > most {
            return;
        }
        let members: SmallVec<[u32; 16]> = group.members.iter().copied().collect();
        for slot in members {
            // A slot that was left while a sweep is under way is nobody's.
            if self.sessions.at(slot).is_some_and(|session| Some(session.user) != except)
                && let Some(conn) = self.sessions.name(slot)
            {
                self.whisper(conn, frame.into(), fx);
            }
        }
    }
}
