//! Which members of a group have no session when a message is stored there: found out for webhooks.
//!
//! Owns: the messages of groups that wait for that, by group ([`Waiting`]), and how often members
//! are read.
//! Never: is on the way of a message: it was stored and is delivered meanwhile. Never loses one of
//! those that wait: where the members cannot be found out it is told without them.
//! Bounds: [`limits::HOOK_GROUP_WAITING_MAX`] messages wait; the members of one group are read at a
//! time, at most [`limits::HOOK_GROUP_LOOKED_MAX`], with a pause of
//! [`limits::HOOK_GROUP_PAUSE_MS`] before the next group; one reading is for all messages of the
//! group that were here when it began. [`limits::HOOK_GROUP_USERS_MAX`] members are told of.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::services::{Services, StoreFailure, backends};
use crate::hooks::{GroupMessage, GroupMessages, HookEvent};
use crate::ids::{GroupId, UserId};
use crate::limits;

/// The messages that wait, by group, and the groups in the order in which their first one came.
#[derive(Default)]
struct Waiting {
    groups: VecDeque<GroupId>,
    messages: HashMap<GroupId, Vec<GroupMessage>>,
    count: usize,
}

impl Waiting {
    fn put(&mut self, message: GroupMessage) {
        let group = message.group;
        let of_group = self.messages.entry(group).or_default();
        if of_group.is_empty() {
            self.groups.push_back(group);
        }
        of_group.push(message);
        self.count += 1;
    }

    /// The group whose turn it is, with its messages in their order.
    fn next(&mut self) -> Option<(GroupId, Vec<GroupMessage>)> {
        let group = self.groups.pop_front()?;
        let messages = self.messages.remove(&group).unwrap_or_default();
        self.count -= messages.len();
        Some((group, messages))
    }
}

/// The members of a group that are away.
struct Absent {
    users: Vec<UserId>,
    /// There may be others.
    more: bool,
}

/// Tells until the gateway stops. `alive` is held as long.
pub(super) async fn tell(
    services: Arc<Services>,
    mut messages: GroupMessages,
    mut stop: watch::Receiver<bool>,
    alive: mpsc::Sender<()>,
) {
    let mut waiting = Waiting::default();
    loop {
        if waiting.count == 0 {
            tokio::select! {
                biased;
                message = messages.next() => match message {
                    Some(message) => waiting.put(message),
                    None => break,
                },
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        while waiting.count < limits::HOOK_GROUP_WAITING_MAX
            && let Some(message) = messages.try_next()
        {
            waiting.put(message);
        }
        let Some((group, of_group)) = waiting.next() else { continue };
        let (of_group, pause) = {
            let found = found(&services, group);
            tokio::select! {
                found = found => {
                    say(&services, of_group, &found);
                    (Vec::new(), Duration::from_millis(limits::HOOK_GROUP_PAUSE_MS))
                }
                _ = stop.wait_for(|stop| *stop) => (of_group, Duration::ZERO),
            }
        };
        // Cut short by the stop.
        of_group.into_iter().for_each(|message| waiting.put(message));
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            () = tokio::time::sleep(pause) => {}
        }
    }
    // The shards have ended: nothing comes any more.
    while let Some(message) = messages.try_next() {
        waiting.put(message);
    }
    while let Some((_, of_group)) = waiting.next() {
        say(&services, of_group, &Absent { users: Vec::new(), more: true });
    }
    drop(alive);
}

/// Puts the messages into the queues of the webhooks. Where nobody is away there is nothing to say.
fn say(services: &Services, messages: Vec<GroupMessage>, absent: &Absent) {
    for message in messages {
        let author = message.author();
        let users: Arc<[UserId]> = absent.users.iter().copied().filter(|user| Some(user.get()) != author).collect();
        if users.is_empty() && !absent.more {
            continue;
        }
        let GroupMessage { group, seq, packet } = message;
        services.hooks.tell(HookEvent::GroupOffline { group, seq, users, more: absent.more, packet });
    }
}

/// Which members are away, with several tries.
async fn found(services: &Services, group: GroupId) -> Absent {
    for attempt in 1..=limits::HOOK_GROUP_TRIES_MAX {
        match look(services, group).await {
            Ok(absent) => return absent,
            Err(why) if attempt == limits::HOOK_GROUP_TRIES_MAX => {
                tracing::warn!(%group, %why, "a webhook is told of a group's message without its members");
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(limits::HOOK_GROUP_RETRY_MS)).await,
        }
    }
    Absent { users: Vec::new(), more: true }
}

/// Reads the members, a page after the other, and asks the shards which of them are here.
async fn look(services: &Services, group: GroupId) -> Result<Absent, StoreFailure> {
    let mut users = Vec::new();
    let (mut after, mut looked) = (None, 0);
    loop {
        let page = limits::API_ONLINE_MAX.min(limits::HOOK_GROUP_LOOKED_MAX - looked);
        let asked = u32::try_from(page).unwrap_or(u32::MAX);
        let members = services.db.read(move |store| store.groups().members(group, after, asked)).await?;
        let members: Vec<UserId> = members.iter().map(|user| user.id).collect();
        looked += members.len();
        let is_last = members.len() < page;
        after = members.last().copied();
        let online = backends::online(services, members.clone()).await?;
        users.extend(members.into_iter().filter(|user| online.binary_search(user).is_err()));
        let is_full = users.len() > limits::HOOK_GROUP_USERS_MAX;
        if is_last || is_full || looked >= limits::HOOK_GROUP_LOOKED_MAX {
            users.truncate(limits::HOOK_GROUP_USERS_MAX);
            return Ok(Absent { users, more: is_full || !is_last });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ConvId, MsgId, Seq};
    use crate::wire::Packet;
    use crate::wire::packet::Stored;

    fn message(group: u64, seq: u64) -> GroupMessage {
        let (group, seq) = (GroupId::new(group).expect("an id"), Seq::new(seq).expect("small"));
        let stored = Stored { id: MsgId::new(seq.get()).expect("an id"), seq };
        let sender = UserId::new(1).expect("an id");
        let packet = Packet::chat(ConvId::Group(group), sender, Some(stored), 1, r#""media":1,"content":"x""#);
        GroupMessage { group, seq, packet: Arc::new(packet) }
    }

    #[test]
    fn groups_have_their_turns_in_order_and_each_takes_all_its_messages() {
        let mut waiting = Waiting::default();
        for (group, seq) in [(5, 1), (3, 1), (5, 2), (9, 1), (5, 3)] {
            waiting.put(message(group, seq));
        }
        let mut turns = Vec::new();
        while let Some((group, messages)) = waiting.next() {
            assert_eq!(messages.first().and_then(GroupMessage::author), Some(1));
            turns.push((group.get(), messages.iter().map(|message| message.seq.get()).collect::<Vec<_>>()));
        }
        assert_eq!(turns, [(5, vec![1, 2, 3]), (3, vec![1]), (9, vec![1])]);
        assert_eq!(waiting.count, 0);
    }
}
