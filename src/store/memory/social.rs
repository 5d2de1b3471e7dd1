//! Friends and blocks, in memory.
//!
//! Never: lets a change be seen in halves; one lock is one transaction.

use super::groups::beyond;
use super::{Connection, State};
use crate::ids::UserId;
use crate::limits::FRIENDS_MAX;
use crate::store::changes::Note;
use crate::store::{Befriended, Error, Friend, Social, User};

impl Social for Connection {
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

    fn block(&mut self, owner: UserId, other: UserId, on: bool) -> Result<bool, Error> {
        let mut state = self.state.lock();
        if state.living(owner).is_none() {
            return Ok(false);
        }
        let changed = if on { state.blocks.insert((owner, other)) } else { state.blocks.remove(&(owner, other)) };
        if on {
            state.blocked_by.insert((other, owner));
        } else {
            state.blocked_by.remove(&(other, owner));
        }
        if changed {
            state.note(owner, Note::Block(other));
        }
        Ok(true)
    }

    fn blocked(&mut self, owner: UserId, after: Option<UserId>, max: u32) -> Result<Vec<User>, Error> {
        let state = self.state.lock();
        let hers = state.blocks.iter().filter(|(by, other)| *by == owner && after.is_none_or(|after| *other > after));
        Ok(hers.filter_map(|&(_, other)| state.user(other)).take(max as usize).cloned().collect())
    }
}

impl State {
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
