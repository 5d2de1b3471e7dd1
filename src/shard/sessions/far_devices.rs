//! The policy of devices across gateways.
//!
//! Owns: when each session here began, and for a moment which sessions of the same user other
//! gateways have. A session that comes while its user is on another gateway is told to the others;
//! whoever has sessions of that user answers with all of them. Each gateway then finds the same
//! surplus, the oldest first, and closes what of it is its own: so nothing is asked of another, and
//! what is lost leaves a session too many for a moment, never one too few. When a session began is
//! said once, by the most advanced of all gateways' clocks, so that all find the same order; it is
//! later than whatever was known of its user when it came.
//! Never: exists without other gateways.
//! Bounds: one entry for each session, [`limits::DEVICE_ROUNDS_MAX`] users of whom something is
//! known, each for three times [`limits::DEVICES_AGAIN_MS`] at most; beyond it nothing is kept, and
//! said once only. [`limits::DEVICES_ANEW_MAX`] users are told anew when a gateway is not alone any
//! more.

use std::collections::{BTreeMap, VecDeque};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::ids::{ConnId, UserId};
use crate::limits;
use crate::shard::DevicePolicy;
use crate::shard::far::{FarDevice, FarWord};
use crate::shard::io::Io;
use crate::shard::sessions::Sessions;
use crate::wire::CloseCode;

/// See the head of this file.
#[derive(Default)]
pub(in crate::shard) struct FarDevices {
    /// When each session here has begun, as it is told, in Unix milliseconds.
    opened: HashMap<ConnId, u64, RandomState>,
    /// What other gateways say of users of whom a session has just come, here or there.
    rounds: BTreeMap<UserId, Round>,
    /// When these are looked at again, one entry each.
    again: VecDeque<(u64, UserId)>,
    /// Users whose sessions are told anew, and when, since what was said of them while this gateway
    /// was alone is lost.
    anew: VecDeque<(u64, UserId)>,
    /// How far the most advanced clock is ahead of this gateway's, in milliseconds.
    ahead_ms: u64,
}

/// What other gateways have said of a user since one of them, or this one, has asked.
#[derive(Debug, Default)]
struct Round {
    lists: BTreeMap<u16, Box<[FarDevice]>>,
    /// This gateway has asked, and does so once more.
    asked: bool,
    until_ms: u64,
}

impl FarDevices {
    pub(super) fn forget(&mut self, conn: ConnId) {
        self.opened.remove(&conn);
    }

    /// When something is due.
    pub(super) fn next_ms(&self) -> Option<u64> {
        [&self.again, &self.anew].into_iter().filter_map(|line| line.front()).map(|&(due_ms, _)| due_ms).min()
    }
}

/// The sessions that are too many, by gateway and id: of the same device the older ones, then of
/// each class, then of all.
fn surplus(policy: &DevicePolicy, mut all: Vec<(u16, FarDevice)>) -> Vec<(u16, u64)> {
    // The newest first.
    all.sort_unstable_by_key(|(node, one)| std::cmp::Reverse((one.opened_ms, *node, one.id)));
    let (mut staying, mut leaving) = (Vec::<FarDevice>::new(), Vec::new());
    for (node, one) in all {
        let again = |other: &FarDevice| one.tag != 0 && other.tag == one.tag && other.device == one.device;
        let of_class = staying.iter().filter(|other| other.device == one.device).count();
        if staying.iter().any(again) || of_class >= policy.of(one.device) || staying.len() >= policy.total {
            leaving.push((node, one.id));
        } else {
            staying.push(one);
        }
    }
    leaving
}

impl Sessions {
    /// A session has opened.
    pub(in crate::shard) fn has_come(&mut self, io: &mut Io, user: UserId, conn: ConnId) {
        if io.setup.clustered && self.table.get(conn).is_some() {
            let here = self.devices_of(user).into_iter().map(|(_, device)| device.opened_ms);
            let elsewhere =
                self.far_devices.rounds.get(&user).into_iter().flat_map(|round| round.lists.values()).flatten();
            let known_ms = here.chain(elsewhere.map(|device| device.opened_ms)).max().unwrap_or(0);
            let opened_ms = (io.now.wall_ms + self.far_devices.ahead_ms).max(known_ms.saturating_add(1));
            self.far_devices.opened.insert(conn, opened_ms);
            if self.elsewhere.has(user) {
                self.tell_devices(io, user, true);
            }
        }
    }

    /// The most advanced clock of all gateways is so far ahead of this one's.
    pub(in crate::shard) fn clocks_ahead(&mut self, ms: u64) {
        self.far_devices.ahead_ms = ms;
    }

    /// From now on nothing is heard of other gateways, or it is again.
    pub(in crate::shard) fn set_alone(&mut self, io: &Io, on: bool) {
        if self.elsewhere.is_stale() && !on {
            let mut users = self.roster.all_online(&self.table);
            users.retain(|&user| self.elsewhere.has(user));
            users.truncate(limits::DEVICES_ANEW_MAX);
            let (now_ms, count) = (io.now_ms(), users.len() as u64);
            let due = |(n, user)| (now_ms + n * limits::DEVICES_ANEW_MS / count, user);
            self.far_devices.anew = (0..).zip(users).map(due).collect();
        }
        self.elsewhere.set_stale(on);
    }

    /// Tells the other gateways the sessions of a user, if there are any.
    pub(in crate::shard) fn tell_devices(&mut self, io: &mut Io, user: UserId, asks: bool) {
        if self.say_devices(io, user, asks) && asks {
            self.listen(io, user, true);
        }
    }

    /// From now on what gateways say of a user is put together: all of them answer what this one,
    /// or another one, has asked.
    fn listen(&mut self, io: &Io, user: UserId, asked: bool) {
        let FarDevices { rounds, again, .. } = &mut self.far_devices;
        let until_ms = io.now_ms() + limits::DEVICES_AGAIN_MS;
        if let Some(round) = rounds.get_mut(&user) {
            // What was said before may be over.
            round.lists.clear();
            (round.asked, round.until_ms) = (round.asked || asked, until_ms);
        } else if again.len() < limits::DEVICE_ROUNDS_MAX {
            rounds.insert(user, Round { lists: BTreeMap::new(), asked, until_ms });
            again.push_back((until_ms, user));
        }
    }

    /// Says which sessions of a user are here. `false`: none is.
    fn say_devices(&self, io: &mut Io, user: UserId, asks: bool) -> bool {
        let list: Box<[FarDevice]> = self.devices_of(user).into_iter().map(|(_, device)| device).collect();
        let any = !list.is_empty();
        if any {
            io.tell_far(FarWord::Devices { user, node: io.setup.node.0, asks, list });
        }
        any
    }

    /// Says once more what was said a little ago, which the other gateways may not have heard, and
    /// forgets what they have said.
    pub(in crate::shard) fn tell_devices_again(&mut self, io: &mut Io) {
        let now_ms = io.now_ms();
        for _ in 0..limits::TURN_TIMERS_MAX {
            let due = self.far_devices.anew.front().filter(|(due_ms, _)| *due_ms <= now_ms);
            let Some(&(_, user)) = due else { break };
            self.far_devices.anew.pop_front();
            if self.elsewhere.has(user) {
                self.tell_devices(io, user, true);
            }
        }
        for _ in 0..limits::TURN_TIMERS_MAX {
            let due = self.far_devices.again.front().filter(|(due_ms, _)| *due_ms <= now_ms);
            let Some(&(_, user)) = due else { return };
            self.far_devices.again.pop_front();
            let Some(round) = self.far_devices.rounds.get_mut(&user) else { continue };
            let asks = std::mem::take(&mut round.asked) && self.elsewhere.has(user);
            if asks {
                round.lists.clear();
                round.until_ms = now_ms + limits::DEVICES_AGAIN_MS;
            }
            if round.until_ms <= now_ms {
                self.far_devices.rounds.remove(&user);
                continue;
            }
            self.far_devices.again.push_back((now_ms + limits::DEVICES_AGAIN_MS, user));
            if asks {
                self.say_devices(io, user, true);
            }
        }
    }

    /// Another gateway says which sessions of a user it has.
    pub(in crate::shard) fn far_devices(
        &mut self,
        io: &mut Io,
        user: UserId,
        node: u16,
        asks: bool,
        list: Box<[FarDevice]>,
    ) {
        let mut all: Vec<(u16, FarDevice)> = list.iter().map(|&device| (node, device)).collect();
        let mine = self.devices_of(user);
        if mine.is_empty() {
            return;
        }
        if asks {
            self.listen(io, user, false);
        }
        if let Some(round) = self.far_devices.rounds.get_mut(&user) {
            if round.lists.len() < limits::NODES_MAX {
                round.lists.insert(node, list);
            }
            let others = round.lists.iter().filter(|(other, _)| **other != node);
            all.extend(others.flat_map(|(&other, list)| list.iter().map(move |&device| (other, device))));
        }
        let me = io.setup.node.0;
        all.extend(mine.iter().map(|&(_, device)| (me, device)));
        let leaving = surplus(&io.setup.devices, all);
        for (conn, device) in mine {
            if leaving.contains(&(me, device.id)) {
                self.close(io, conn, CloseCode::Replaced);
            }
        }
        if asks {
            self.tell_devices(io, user, false);
        }
    }

    fn devices_of(&self, user: UserId) -> Vec<(ConnId, FarDevice)> {
        let slots = self.roster.sessions_of(&self.table, user);
        let devices = slots.into_iter().filter_map(|slot| {
            let conn = self.table.name(slot)?;
            let session = self.table.get(conn)?;
            let opened_ms = *self.far_devices.opened.get(&conn)?;
            let id = u64::from(conn.generation) << 32 | u64::from(conn.slot);
            Some((conn, FarDevice { device: session.device, tag: session.tag(), opened_ms, id }))
        });
        devices.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Device;

    fn one(device: Device, tag: u32, opened_ms: u64) -> FarDevice {
        FarDevice { device, tag, opened_ms, id: opened_ms }
    }

    #[test]
    fn the_oldest_are_too_many_wherever_they_are() {
        let policy = DevicePolicy { total: 3, of_class: [1, 1, 1, 3] };
        let all = vec![
            (1, one(Device::Web, 0, 10)),
            (2, one(Device::Phone, 0, 20)),
            (1, one(Device::Phone, 0, 30)),
            (3, one(Device::Web, 0, 40)),
            (2, one(Device::Web, 0, 50)),
        ];
        let mut leaving = surplus(&policy, all.clone());
        leaving.sort_unstable();
        assert_eq!(leaving, [(1, 10), (2, 20)], "a phone of two, and the oldest of what is left");
        let mut turned = all;
        turned.reverse();
        let mut same = surplus(&policy, turned);
        same.sort_unstable();
        assert_eq!(same, leaving, "in whichever order it is heard");
    }

    #[test]
    fn a_device_that_came_back_elsewhere_needs_one_place() {
        let policy = DevicePolicy::default();
        let all = vec![(1, one(Device::Web, 7, 10)), (2, one(Device::Web, 7, 20)), (1, one(Device::Phone, 7, 5))];
        assert_eq!(surplus(&policy, all), [(1, 10)], "another class is another device");
    }
}
