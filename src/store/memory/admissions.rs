//! Rules, roles, links and requests of groups, in memory.

use std::collections::{BTreeMap, BTreeSet};

use super::groups::beyond;
use super::{Connection, State};
use crate::ids::{GroupId, UserId};
use crate::limits::{GROUP_ADMINS_MAX, GROUPS_OWNED_MAX, REQUESTS_OF_GROUP_MAX, REQUESTS_OF_USER_MAX};
use crate::store::{Admissions, Asked, Error, Group, Role, Standing, User};

/// What is kept of groups beside their members.
#[derive(Default)]
pub(super) struct Doors {
    admins: BTreeMap<GroupId, BTreeSet<UserId>>,
    /// By their secret.
    invites: BTreeMap<String, GroupId>,
    requests: BTreeMap<GroupId, BTreeSet<UserId>>,
}

impl Doors {
    /// A membership has begun or ended.
    pub(super) fn moved(&mut self, group: GroupId, user: UserId) {
        for list in [&mut self.admins, &mut self.requests] {
            if let Some(users) = list.get_mut(&group) {
                users.remove(&user);
            }
        }
    }

    /// The group has ended.
    pub(super) fn end(&mut self, group: GroupId) {
        self.requests.remove(&group);
    }

    /// The user is gone.
    pub(super) fn forget(&mut self, user: UserId) {
        self.requests.values_mut().for_each(|users| _ = users.remove(&user));
    }
}

impl Admissions for Connection {
    fn standing(&mut self, group: GroupId, user: UserId) -> Result<Option<Standing>, Error> {
        Ok(self.state.lock().standing(group, user))
    }

    fn admins(&mut self, group: GroupId) -> Result<Vec<UserId>, Error> {
        let state = self.state.lock();
        let owner = state.group(group).map(|group| group.owner);
        let admins = state.doors.admins.get(&group).into_iter().flatten();
        Ok(admins.copied().filter(|admin| Some(*admin) != owner).collect())
    }

    fn set_role(&mut self, group: GroupId, actor: UserId, user: UserId, role: Role) -> Result<bool, Error> {
        Ok(self.state.lock().set_role(group, actor, user, role))
    }

    fn invite(&mut self, group: GroupId) -> Result<Option<String>, Error> {
        let state = self.state.lock();
        let found = state.doors.invites.iter().find(|(_, of)| **of == group && state.group(group).is_some());
        Ok(found.map(|(secret, _)| secret.clone()))
    }

    fn set_invite(&mut self, group: GroupId, secret: Option<&str>) -> Result<(), Error> {
        let mut state = self.state.lock();
        state.doors.invites.retain(|_, of| *of != group);
        state.doors.invites.extend(secret.map(|secret| (secret.to_owned(), group)));
        Ok(())
    }

    fn invited(&mut self, secret: &str) -> Result<Option<(Group, u64)>, Error> {
        let state = self.state.lock();
        let group = state.doors.invites.get(secret).and_then(|group| state.group(*group));
        Ok(group.map(|group| (group.clone(), state.members_count(group.id))))
    }

    fn ask(&mut self, group: GroupId, user: UserId, _: u64) -> Result<Asked, Error> {
        let mut state = self.state.lock();
        if state.living(user).is_none() {
            return Ok(Asked::NoSuchUser);
        }
        if state.group(group).is_none() {
            return Ok(Asked::NoSuchGroup);
        }
        if state.since(group, user).is_some() {
            return Ok(Asked::Standing);
        }
        let of_user = state.doors.requests.values().filter(|users| users.contains(&user)).count();
        let users = state.doors.requests.entry(group).or_default();
        if users.contains(&user) {
            return Ok(Asked::Standing);
        }
        if of_user >= REQUESTS_OF_USER_MAX as usize || users.len() >= REQUESTS_OF_GROUP_MAX as usize {
            return Ok(Asked::TooMany);
        }
        users.insert(user);
        Ok(Asked::Standing)
    }

    fn requests(&mut self, group: GroupId, after: Option<UserId>, max: u32) -> Result<Vec<User>, Error> {
        let state = self.state.lock();
        let users = state.doors.requests.get(&group).into_iter().flat_map(|users| users.range(beyond(after)));
        Ok(users.filter_map(|&id| state.user(id)).take(max as usize).cloned().collect())
    }

    fn forget_request(&mut self, group: GroupId, user: UserId) -> Result<bool, Error> {
        let mut state = self.state.lock();
        Ok(state.doors.requests.get_mut(&group).is_some_and(|users| users.remove(&user)))
    }
}

impl State {
    fn standing(&self, id: GroupId, user: UserId) -> Option<Standing> {
        let group = self.group(id)?.clone();
        let is_admin = self.doors.admins.get(&id).is_some_and(|admins| admins.contains(&user));
        let role = match self.since(id, user) {
            None => None,
            Some(_) if group.owner == user => Some(Role::Owner),
            Some(_) => Some(if is_admin { Role::Admin } else { Role::Member }),
        };
        let asked = self.doors.requests.get(&id).is_some_and(|users| users.contains(&user));
        let was_member = self.past_members.contains_key(&(id, user));
        Some(Standing { members: self.members_count(id), group, role, was_member, asked })
    }

    fn set_role(&mut self, id: GroupId, actor: UserId, user: UserId, role: Role) -> bool {
        let Some(owner) = self.group(id).map(|group| group.owner).filter(|owner| *owner == actor) else {
            return false;
        };
        // A member who was deleted may not have left yet.
        if self.since(id, user).is_none() || self.living(user).is_none() {
            return false;
        }
        let owned = self.groups.values().filter(|group| group.owner == user && group.id != id);
        let owned = owned.filter(|group| self.group(group.id).is_some()).count();
        let admins = self.doors.admins.entry(id).or_default();
        match role {
            Role::Owner if owned >= GROUPS_OWNED_MAX as usize => return false,
            Role::Owner => {
                admins.insert(owner);
                admins.insert(user);
                if let Some(group) = self.groups.get_mut(&id) {
                    group.owner = user;
                }
            }
            Role::Admin => {
                if admins.iter().filter(|admin| **admin != user && **admin != owner).count() >= GROUP_ADMINS_MAX {
                    return false;
                }
                admins.insert(user);
            }
            Role::Member => _ = admins.remove(&user),
        }
        true
    }
}
