//! People and groups in memory.
//!
//! Never: lets a change be seen in halves; one lock is one transaction.

use std::ops::Bound;

use super::files::Place;
use super::{Connection, State};
use crate::ids::{GroupId, UserId};
use crate::limits::FRIENDS_MAX;
use crate::store::changes::Note;
use crate::store::folding::fold;
use crate::store::{Befriended, Error, Friend, Group, GroupChange, Regrouped, Rule, Social, User, UserChange};

impl Social for Connection {
    fn users(&mut self, ids: &[UserId]) -> Result<Vec<User>, Error> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let state = self.state.lock();
        Ok(ids.into_iter().filter_map(|id| state.user(id)).cloned().collect())
    }

    fn befriend(&mut self, user: UserId, other: UserId, _: u64) -> Result<Befriended, Error> {
        Ok(self.state.lock().befriend(user, other))
    }

    fn unfriend(&mut self, user: UserId, other: UserId) -> Result<bool, Error> {
        let mut state = self.state.lock();
        let mut remove = |user, other| state.friends.get_mut(&user).is_some_and(|friends| friends.remove(&other));
        let was = remove(user, other);
        remove(other, user);
        Ok(was)
    }

    fn friends(&mut self, user: UserId, after: Option<UserId>, max: u32) -> Result<Vec<Friend>, Error> {
        let state = self.state.lock();
        let friends = state.friends.get(&user).into_iter().flat_map(|friends| friends.range(beyond(after)));
        let seen =
            |&id: &UserId| Some(Friend { user: state.user(id)?.clone(), blocked: state.blocks.contains(&(user, id)) });
        Ok(friends.filter_map(seen).take(max as usize).collect())
    }

    fn blocked(&mut self, owner: UserId, after: Option<UserId>, max: u32) -> Result<Vec<User>, Error> {
        let state = self.state.lock();
        let hers = state.blocks.iter().filter(|(by, other)| *by == owner && after.is_none_or(|after| *other > after));
        Ok(hers.filter_map(|&(_, other)| state.user(other)).take(max as usize).cloned().collect())
    }

    fn update_user(&mut self, user: UserId, change: &UserChange) -> Result<Option<User>, Error> {
        let state = &mut *self.state.lock();
        let Some(user) = state.users.get_mut(&user) else { return Ok(None) };
        state.library.refer_anew(Place::Avatar(user.id), change.avatar.as_ref());
        set(&mut user.nickname, change.nickname.as_ref());
        set(&mut user.avatar, change.avatar.as_ref());
        set(&mut user.sex, change.sex.as_ref());
        set(&mut user.memo, change.memo.as_ref());
        Ok(Some(user.clone()))
    }

    fn set_password(&mut self, user: UserId, old: &str, new: &str, log_out: bool) -> Result<Option<u32>, Error> {
        let mut state = self.state.lock();
        let Some(kept) = state.users.get_mut(&user).filter(|kept| kept.password == old) else { return Ok(None) };
        new.clone_into(&mut kept.password);
        kept.token_epoch += u32::from(log_out);
        let epoch = kept.token_epoch;
        if log_out {
            state.logins.remove(&user);
            state.note(user, Note::Standing);
        }
        Ok(Some(epoch))
    }

    fn log_out(&mut self, user: UserId) -> Result<Option<u32>, Error> {
        let mut state = self.state.lock();
        let Some(kept) = state.users.get_mut(&user) else { return Ok(None) };
        kept.token_epoch += 1;
        let epoch = kept.token_epoch;
        state.logins.remove(&user);
        state.note(user, Note::Standing);
        Ok(Some(epoch))
    }

    fn set_banned(&mut self, user: UserId, banned: bool) -> Result<bool, Error> {
        let mut state = self.state.lock();
        let Some(kept) = state.users.get_mut(&user) else { return Ok(false) };
        kept.banned = banned;
        state.note(user, Note::Standing);
        Ok(true)
    }

    fn erase(&mut self, user: UserId) -> Result<bool, Error> {
        Ok(self.state.lock().erase(user))
    }

    fn uploaded(&mut self, user: UserId) -> Result<u64, Error> {
        Ok(self.state.lock().uploads.get(&user).copied().unwrap_or(0))
    }

    fn groups_named(&mut self, name: &str, max: u32) -> Result<Vec<(Group, u64)>, Error> {
        let state = self.state.lock();
        Ok(state.named(name).take(max as usize).map(|group| (group.clone(), state.members_count(group.id))).collect())
    }

    fn members(&mut self, group: GroupId, after: Option<UserId>, max: u32) -> Result<Vec<User>, Error> {
        let state = self.state.lock();
        let members = state.members.get(&group).into_iter().flat_map(|members| members.range(beyond(after)));
        Ok(members.filter_map(|(&id, _)| state.user(id)).take(max as usize).cloned().collect())
    }

    fn membership(&mut self, group: GroupId, user: UserId) -> Result<(u64, bool), Error> {
        let state = self.state.lock();
        Ok((state.members_count(group), state.since(group, user).is_some()))
    }

    fn update_group(
        &mut self,
        group: GroupId,
        owner: UserId,
        change: &GroupChange,
    ) -> Result<Option<Regrouped>, Error> {
        let mut state = self.state.lock();
        if state.group(group).is_none_or(|group| group.owner != owner) {
            return Ok(None);
        }
        let state = &mut *state;
        let Some(kept) = state.groups.get_mut(&group) else { return Ok(None) };
        let renamed = change.name.as_ref().is_some_and(|name| *name != kept.name);
        if let Some(name) = &change.name {
            state.names.remove(&(fold(&kept.name), group));
            state.names.insert((fold(name), group));
        }
        set(&mut kept.name, change.name.as_ref());
        state.library.refer_anew(Place::Icon(group), change.icon.as_ref());
        set(&mut kept.icon, change.icon.as_ref());
        set(&mut kept.memo, change.memo.as_ref());
        kept.rule = change.rule.unwrap_or(kept.rule);
        kept.members_add = change.members_add.unwrap_or(kept.members_add);
        Ok(Some(Regrouped { group: kept.clone(), renamed }))
    }

    fn dissolve(&mut self, group: GroupId, owner: UserId) -> Result<bool, Error> {
        let mut state = self.state.lock();
        let Some(name) = state.groups.get(&group).filter(|group| group.owner == owner) else {
            return Ok(false);
        };
        let name = fold(&name.name);
        state.names.remove(&(name, group));
        state.dissolved.insert(group);
        Ok(true)
    }
}

impl State {
    /// The groups of that name, the oldest first.
    pub(super) fn named(&self, name: &str) -> impl Iterator<Item = &Group> {
        let key = fold(name);
        let first = (key.clone(), GroupId::new(1));
        let from = self.names.range((first.0, first.1.unwrap_or_else(|| unreachable!("1 is an id")))..);
        from.take_while(move |(name, _)| *name == key)
            .filter_map(|(_, id)| self.group(*id))
            .filter(|group| group.rule != Rule::Invitation)
    }

    fn befriend(&mut self, user: UserId, other: UserId) -> Befriended {
        if user == other || self.living(user).is_none() || self.living(other).is_none() {
            return Befriended::NoSuchUser;
        }
        if self.friends.get(&user).is_some_and(|friends| friends.contains(&other)) {
            return Befriended::Already;
        }
        if self.blocks.contains(&(other, user)) {
            return Befriended::Blocked;
        }
        let full = |user| self.friends.get(&user).is_some_and(|friends| friends.len() >= FRIENDS_MAX as usize);
        if full(user) || full(other) {
            return Befriended::TooMany;
        }
        self.friends.entry(user).or_default().insert(other);
        self.friends.entry(other).or_default().insert(user);
        Befriended::New
    }
}

pub(super) fn beyond(after: Option<UserId>) -> (Bound<UserId>, Bound<UserId>) {
    (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
}

fn set(field: &mut String, value: Option<&String>) {
    if let Some(value) = value {
        field.clone_from(value);
    }
}
