//! How many devices of one user may be here at once, and which one gives way.
//!
//! Owns: the policy, as data. The newest device stays, the oldest one of its class, or of all, is
//! closed with [`CloseCode::Replaced`], which tells its client not to come back by itself: so two
//! devices cannot push each other out for ever.
//! Never: looks at the protocol. Browser tabs are devices, too, and live side by side (contract,
//! part F, point 10).

use crate::ids::{ConnId, UserId};
use crate::shard::event::Hello;
use crate::shard::io::Io;
use crate::shard::sessions::Sessions;
use crate::wire::{CloseCode, Device};

impl Sessions {
    /// A session of the user has been registered: whoever is too many now is closed, the oldest
    /// first.
    pub(in crate::shard) fn make_room(&mut self, io: &mut Io, user: UserId, newest: ConnId, hello: &Hello) {
        let (policy, device) = (io.setup.devices, hello.device);
        // A device that has come back without its old connection having been missed needs one
        // place, not two.
        if hello.device_tag != 0 {
            for slot in self.roster.sessions_of(&self.table, user) {
                if let Some(conn) = self.table.name(slot).filter(|&conn| conn != newest)
                    && let Some(old) = self.table.get(conn)
                    && old.is_device_of(hello)
                {
                    self.close(io, conn, CloseCode::Replaced);
                }
            }
        }
        // A user's sessions stand in the order in which they came.
        let here: Vec<(ConnId, Device)> =
            self.roster.sessions_of(&self.table, user).into_iter().filter_map(|slot| self.device_at(slot)).collect();
        let of_class: Vec<ConnId> = here.iter().filter(|&&(_, other)| other == device).map(|&(conn, _)| conn).collect();
        let mut leaving: Vec<ConnId> =
            of_class.iter().copied().take(of_class.len().saturating_sub(policy.of(device))).collect();
        let staying = here.iter().map(|&(conn, _)| conn).filter(|conn| !leaving.contains(conn));
        let surplus = (here.len() - leaving.len()).saturating_sub(policy.total);
        leaving.extend(staying.take(surplus).collect::<Vec<_>>());
        for conn in leaving {
            self.close(io, conn, CloseCode::Replaced);
        }
    }

    fn device_at(&self, slot: u32) -> Option<(ConnId, Device)> {
        let conn = self.table.name(slot)?;
        Some((conn, self.table.get(conn)?.device))
    }
}
