//! Groups, in memory.
//!
//! Never: lets a change be seen in halves; one lock is one transaction.

use std::ops::Bound;

use super::files::Referrer;
use super::people::set;
use super::{Connection, State};
use crate::ids::{GroupId, Seq, UserId};
use crate::limits::GROUPS_JOINED_MAX;
use crate::store::changes::Note;
use crate::store::folding::fold;
use crate::store::{Error, Group, GroupChange, Groups, NewGroup, Regrouped, Rule, User};

impl Groups for Connection {
    fn create_group(&mut self, group: &NewGroup) -> Result<Option<Group>, Error> {
        Ok(self.state.lock().create_group(group))
    }

    fn group(&mut self, id: GroupId) -> Result<Option<Group>, Error> {
        Ok(self.state.lock().group(id).cloned())
    }

    fn group_by_name(&mut self, name: &str) -> Result<Option<Group>, Error> {
        Ok(self.state.lock().named(name).next().cloned())
    }

    fn groups_named(&mut self, name: &str, max: u32) -> Result<Vec<(Group, u64)>, Error> {
        let state = self.state.lock();
        Ok(state.named(name).take(max as usize).map(|group| (group.clone(), state.members_count(group.id))).collect())
    }

    fn groups_of(&mut self, user: UserId) -> Result<Vec<(Group, u64)>, Error> {
        let state = self.state.lock();
        let joined = state.joined.get(&user).into_iter().flatten();
        Ok(joined.filter_map(|&id| Some((state.group(id)?.clone(), state.members_count(id)))).collect())
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
        state.library.refer_anew(Referrer::Icon(group), change.icon.as_ref());
        set(&mut kept.icon, change.icon.as_ref());
        set(&mut kept.memo, change.memo.as_ref());
        kept.rule = change.rule.unwrap_or(kept.rule);
        kept.members_add = change.members_add.unwrap_or(kept.members_add);
        Ok(Some(Regrouped { group: kept.clone(), renamed }))
    }

    fn owner(&mut self, group: GroupId) -> Result<Option<UserId>, Error> {
        Ok(self.state.lock().groups.get(&group).map(|group| group.owner))
    }

    fn dissolve(&mut self, group: GroupId, owner: UserId) -> Result<bool, Error> {
        let mut state = self.state.lock();
        let is_owned = state.groups.get(&group).is_some_and(|group| group.owner == owner);
        if is_owned {
            state.end_group(group);
        }
        Ok(is_owned)
    }
}

impl State {
    /// Ends a group, and what it holds or waits for.
    pub(super) fn end_group(&mut self, id: GroupId) {
        if let Some(group) = self.groups.get(&id) {
            self.names.remove(&(fold(&group.name), id));
        }
        self.dissolved.insert(id);
        self.doors.end(id);
        self.library.release(Referrer::Icon(id));
    }

    /// As [`Self::next_user`].
    pub(super) fn next_group(&self) -> u64 {
        self.groups.last_key_value().map_or(1, |(id, _)| id.get() + 1)
    }

    pub(super) fn create_group(&mut self, new: &NewGroup) -> Option<Group> {
        self.living(new.owner)?;
        let owned = self.groups.values().filter(|g| g.owner == new.owner && !self.dissolved.contains(&g.id)).count();
        if owned >= new.owned_max as usize || self.joined_count(new.owner) >= GROUPS_JOINED_MAX as usize {
            return None;
        }
        let group = Group {
            id: GroupId::new(self.next_group().max(new.wanted.map_or(0, GroupId::get)))?,
            name: new.name.clone(),
            owner: new.owner,
            icon: new.icon.clone(),
            cate: new.cate,
            memo: new.memo.clone(),
            created_ms: new.created_ms,
            rule: new.rule,
            members_add: true,
        };
        self.library.refer(Referrer::Icon(group.id), &group.icon);
        self.names.insert((fold(&new.name), group.id));
        self.groups.insert(group.id, group.clone());
        self.add_member(group.id, group.owner, Seq::ZERO);
        self.note(group.owner, Note::Member(group.id));
        Some(group)
    }

    /// The groups of that name, the oldest first.
    fn named(&self, name: &str) -> impl Iterator<Item = &Group> {
        let key = fold(name);
        let first = (key.clone(), GroupId::new(1));
        let from = self.names.range((first.0, first.1.unwrap_or_else(|| unreachable!("1 is an id")))..);
        from.take_while(move |(name, _)| *name == key)
            .filter_map(|(_, id)| self.group(*id))
            .filter(|group| group.rule != Rule::Invitation)
    }
}

pub(super) fn beyond(after: Option<UserId>) -> (Bound<UserId>, Bound<UserId>) {
    (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
}
