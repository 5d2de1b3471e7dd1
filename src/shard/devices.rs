//! How many devices of one user may be here at once, and which one gives way.
//!
//! Owns: the policy, as data. The newest device stays, the oldest one of its class, or of all, is closed with [`CloseCode::Replaced`], which tells its client
//! not to come back by itself: so two devices cannot push each other out for ever.
//! Never: looks at the protocol. Browser tabs are devices, too, and live side by side (contract, part F, point 10).

use super::Shard;
use super::effect::Effects;
use super::event::Hello;
use crate::ids::{ConnId, UserId};
use crate::limits;
use crate::wire::{CloseCode, Device};

/// Which devices of one user may coexist.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DevicePolicy {
    /// Of all classes together, `1..=SESSIONS_PER_USER_MAX`.
    pub total: usize,
    /// Of each class, in the order of [`Device::ALL`].
    pub of_class: [usize; Device::ALL.len()],
}

impl Default for DevicePolicy {
    fn default() -> Self {
        Self { total: limits::DEVICES_DEFAULT, of_class: [limits::DEVICES_DEFAULT; Device::ALL.len()] }
    }
}

impl DevicePolicy {
    /// How many of `device`'s class may coexist.
    fn of(&self, device: Device) -> usize {
        let class = Device::ALL.iter().position(|&other| other == device);
        class.and_then(|class| self.of_class.get(class)).copied().unwrap_or(self.total)
    }
}

impl Shard {
    /// A session of the user has been registered: whoever is too many now is closed, the oldest first.
    pub(super) fn make_room(&mut self, user: UserId, newest: ConnId, hello: &Hello, fx: &mut Effects) {
        let (policy, device) = (self.setup.devices, hello.device);
        // A device that has come back without its old connection having been missed needs one place, not two.
        if hello.device_tag != 0 {
            for slot in self.roster.sessions_of(&self.sessions, user) {
                if let Some(conn) = self.sessions.name(slot).filter(|&conn| conn != newest)
                    && let Some(old) = self.sessions.get(conn)
                    && old.is_device_of(hello)
                {
                    self.close(conn, CloseCode::Replaced, fx);
                }
            }
        }
        // A user's sessions stand in the order in which they came.
        let here: Vec<(ConnId, Device)> =
            self.roster.sessions_of(&self.sessions, user).into_iter().filter_map(|slot| self.device_at(slot)).collect();
        let of_class: Vec<ConnId> = here.iter().filter(|&&(_, other)| other == device).map(|&(conn, _)| conn).collect();
        let mut leaving: Vec<ConnId> =
            of_class.iter().copied().take(of_class.len().saturating_sub(policy.of(device))).collect();
        let staying = here.iter().map(|&(conn, _)| conn).filter(|conn| !leaving.contains(conn));
        let surplus = (here.len() - leaving.len()).saturating_sub(policy.total);
        leaving.extend(staying.take(surplus).collect::<Vec<_>>());
        for conn in leaving {
            self.close(conn, CloseCode::Replaced, fx);
        }
    }

    fn device_at(&self, slot: u32) -> Option<(ConnId, Device)> {
        let conn = self.sessions.name(slot)?;
        Some((conn, self.sessions.get(conn)?.device))
    }
}
