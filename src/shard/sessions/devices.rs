//! How many devices of one user may be here at once, and which one gives way.
//!
//! Owns: the policy, as data. The newest device stays, the oldest one of its class, or of all, is
//! closed with [`CloseCode::Replaced`], which tells its client not to come back by itself: so two
//! devices cannot push each other out for ever. A session counts once it is open: one that the
//! store does not let in, or that is gone by then, costs no other its place.
//! Never: looks at the protocol. Browser tabs are devices, too, and live side by side (contract,
//! part F, point 10).

use crate::ids::{ConnId, UserId};
use crate::shard::io::Io;
use crate::shard::session::{Flag, Phase};
use crate::shard::sessions::Sessions;
use crate::wire::{CloseCode, Device};

impl Sessions {
    /// A session of the user opens: those that are too many then are closed, the oldest first.
    /// Sessions that are about to open have no place yet, and take none from others. `false`: it is
    /// itself the oldest, because all that came after it have opened sooner.
    #[must_use]
    pub(in crate::shard) fn make_room(&mut self, io: &mut Io, user: UserId, newest: ConnId) -> bool {
        let Some(new) = self.table.get(newest) else { return false };
        let (policy, device, tag) = (io.setup.devices, new.device, new.tag());
        // A device that has come back without its old connection having been missed needs one
        // place, not two.
        if tag != 0 {
            for slot in self.roster.sessions_of(&self.table, user) {
                if let Some(conn) = self.table.name(slot).filter(|&conn| conn != newest)
                    && let Some(old) = self.table.get(conn)
                    && (old.phase(), old.device, old.tag()) == (Phase::Open, device, tag)
                {
                    self.close(io, conn, CloseCode::Replaced);
                }
            }
        }
        // A user's sessions stand in the order in which they came.
        let here: Vec<(ConnId, Device)> = self
            .roster
            .sessions_of(&self.table, user)
            .into_iter()
            .filter_map(|slot| self.device_at(slot, newest))
            .collect();
        let of_class: Vec<ConnId> = here.iter().filter(|&&(_, other)| other == device).map(|&(conn, _)| conn).collect();
        let mut leaving: Vec<ConnId> =
            of_class.iter().copied().take(of_class.len().saturating_sub(policy.of(device))).collect();
        let staying = here.iter().map(|&(conn, _)| conn).filter(|conn| !leaving.contains(conn));
        let surplus = (here.len() - leaving.len()).saturating_sub(policy.total);
        leaving.extend(staying.take(surplus).collect::<Vec<_>>());
        let stays = !leaving.contains(&newest);
        for conn in leaving.into_iter().filter(|conn| *conn != newest) {
            self.close(io, conn, CloseCode::Replaced);
        }
        stays
    }

    /// The peer has finished sending. A session that opens after that is no device.
    pub(in crate::shard) fn peer_ended(&mut self, conn: ConnId) {
        if let Some(session) = self.table.get_mut(conn).filter(|session| session.phase() == Phase::Opening) {
            session.set(Flag::Ended, true);
        }
    }

    /// The device of a session that is open, or of the one that opens. One whose peer had left
    /// before it opened has taken no place, and is no reason for another to leave.
    fn device_at(&self, slot: u32, newest: ConnId) -> Option<(ConnId, Device)> {
        let conn = self.table.name(slot)?;
        let session = self.table.get(conn)?;
        let counts = session.phase() == Phase::Open && !session.is(Flag::Ended);
        (counts || conn == newest).then_some((conn, session.device))
    }

    /// Sessions of a user that are about to open.
    pub(in crate::shard) fn opening_of(&self, user: UserId) -> usize {
        let slots = self.roster.sessions_of(&self.table, user).into_iter();
        let sessions = slots.filter_map(|slot| self.table.get(self.table.name(slot)?));
        sessions.filter(|session| session.phase() == Phase::Opening).count()
    }
}
