//! The policy of devices across gateways.
//!
//! Owns: when each session here began, and for a moment which sessions of the same user other
//! gateways have. A session that comes while its user is on another gateway is told to the others;
//! whoever has sessions of that user answers with all of them. Each gateway then finds the same
//! surplus, the oldest first, and closes what of it is its own: so nothing is asked of another, and
//! what is lost leaves a session too many for a moment, never one too few. Clocks of gateways
//! differ, and a session that comes is the newest whatever they say: it is given a time behind that
//! of the sessions that it hears of in a gateway's first answer, once, and that is told. What that
//! gateway says later, or says because a session has come there, may be newer, and moves nothing.
//! Never: exists without other gateways.
//! Bounds: one entry for each session, [`limits::DEVICE_ROUNDS_MAX`] users of whom something is
//! known, for [`limits::DEVICES_AGAIN_MS`]; beyond it nothing is kept, and said once only.

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
    opened: HashMap<ConnId, Opened, RandomState>,
    rounds: BTreeMap<UserId, Round>,
    /// When these are said again and forgotten.
    again: VecDeque<(u64, UserId)>,
}

/// What other gateways have said of a user while it is asked.
#[derive(Debug)]
struct Round {
    /// When it was asked first, by this gateway's own count.
    began_ms: u64,
    /// Their sessions, since it was asked last.
    lists: BTreeMap<u16, Box<[FarDevice]>>,
    /// When each of them was heard last.
    heard_ms: BTreeMap<u16, u64>,
}

impl Round {
    /// Whether what `node` answers is the first that it has said since a session has come: then it
    /// knows of none that is newer.
    fn is_first_answer(&self, node: u16, opened: &Opened) -> bool {
        self.began_ms <= opened.mono_ms && self.heard_ms.get(&node).is_none_or(|&at_ms| at_ms < opened.mono_ms)
    }
}

/// When a session has begun.
#[derive(Clone, Copy, Debug)]
struct Opened {
    /// As it is told, in Unix milliseconds.
    told_ms: u64,
    /// By this gateway's own count.
    mono_ms: u64,
    /// It was put behind those of other gateways.
    moved: bool,
}

impl FarDevices {
    pub(super) fn forget(&mut self, conn: ConnId) {
        self.opened.remove(&conn);
    }

    /// When something is due.
    pub(super) fn next_ms(&self) -> Option<u64> {
        self.again.front().map(|&(due_ms, _)| due_ms)
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
    /// A session has been registered.
    pub(in crate::shard) fn has_come(&mut self, io: &mut Io, user: UserId, conn: ConnId) {
        if io.setup.clustered && self.table.get(conn).is_some() {
            let opened = Opened { told_ms: io.now.wall_ms, mono_ms: io.now_ms(), moved: false };
            self.far_devices.opened.insert(conn, opened);
            if self.elsewhere.has(user) {
                self.tell_devices(io, user, true);
            }
        }
    }

    /// Tells the other gateways the sessions of a user, if there are any.
    pub(in crate::shard) fn tell_devices(&mut self, io: &mut Io, user: UserId, asks: bool) {
        if self.say_devices(io, user, asks) && asks && self.far_devices.again.len() < limits::DEVICE_ROUNDS_MAX {
            let began_ms = io.now_ms();
            let new = || Round { began_ms, lists: BTreeMap::new(), heard_ms: BTreeMap::new() };
            self.far_devices.rounds.entry(user).or_insert_with(new).lists.clear();
            self.far_devices.again.push_back((io.now_ms() + limits::DEVICES_AGAIN_MS, user));
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

    /// Says once more what was said a little ago: the other gateways may not have heard it.
    pub(in crate::shard) fn tell_devices_again(&mut self, io: &mut Io) {
        for _ in 0..limits::TURN_TIMERS_MAX {
            let due = self.far_devices.again.front().filter(|(due_ms, _)| *due_ms <= io.now_ms());
            let Some(&(_, user)) = due else { return };
            self.far_devices.again.pop_front();
            if !self.elsewhere.has(user) {
                self.far_devices.rounds.remove(&user);
                continue;
            }
            // For the last time: what is known of it is what the answers say.
            if self.far_devices.rounds.remove(&user).is_some() {
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
        if self.devices_of(user).is_empty() {
            return;
        }
        let newest_ms = list.iter().map(|device| device.opened_ms).max().unwrap_or(0);
        let moved = !asks && self.move_newcomers(io, user, node, newest_ms);
        let mine = self.devices_of(user);
        if let Some(round) = self.far_devices.rounds.get_mut(&user) {
            if asks {
                // Answers to it are on their way; what was said before may be over.
                round.lists.clear();
            }
            if round.lists.len() < limits::NODES_MAX && round.heard_ms.len() < limits::NODES_MAX {
                round.lists.insert(node, list);
                round.heard_ms.insert(node, io.now_ms());
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
        if asks || moved {
            self.tell_devices(io, user, false);
        }
    }

    /// Sessions that have just come are newer than those that another gateway had then. Whether one
    /// was not.
    fn move_newcomers(&mut self, io: &Io, user: UserId, node: u16, newest_ms: u64) -> bool {
        let (now_ms, mut any) = (io.now_ms(), false);
        for (conn, _) in self.devices_of(user) {
            let Some(opened) = self.far_devices.opened.get_mut(&conn) else { continue };
            let round = self.far_devices.rounds.get(&user);
            let is_new = !opened.moved
                && now_ms < opened.mono_ms + limits::DEVICES_AGAIN_MS
                && round.is_some_and(|round| round.is_first_answer(node, opened));
            if is_new && opened.told_ms <= newest_ms {
                (opened.told_ms, opened.moved, any) = (newest_ms.saturating_add(1), true, true);
            }
        }
        any
    }

    fn devices_of(&self, user: UserId) -> Vec<(ConnId, FarDevice)> {
        let slots = self.roster.sessions_of(&self.table, user);
        let devices = slots.into_iter().filter_map(|slot| {
            let conn = self.table.name(slot)?;
            let session = self.table.get(conn)?;
            let opened_ms = self.far_devices.opened.get(&conn)?.told_ms;
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
