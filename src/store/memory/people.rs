//! Users, in memory.
//!
//! Never: lets a change be seen in halves; one lock is one transaction.

use super::files::Referrer;
use super::{Connection, State};
use crate::ids::UserId;
use crate::store::changes::Note;
use crate::store::folding::fold;
use crate::store::{Error, NewUser, People, User, UserChange};

impl People for Connection {
    fn create_user(&mut self, user: &NewUser) -> Result<Option<User>, Error> {
        Ok(self.state.lock().create_user(user))
    }

    fn user(&mut self, id: UserId) -> Result<Option<User>, Error> {
        Ok(self.state.lock().user(id).cloned())
    }

    fn user_by_mobile(&mut self, mobile: &str) -> Result<Option<User>, Error> {
        let state = self.state.lock();
        Ok(state.mobiles.get(&fold(mobile)).and_then(|&id| state.user(id)).cloned())
    }

    fn users(&mut self, ids: &[UserId]) -> Result<Vec<User>, Error> {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids.dedup();
        let state = self.state.lock();
        Ok(ids.into_iter().filter_map(|id| state.user(id)).cloned().collect())
    }

    fn update_user(&mut self, user: UserId, change: &UserChange) -> Result<Option<User>, Error> {
        let state = &mut *self.state.lock();
        let Some(user) = state.users.get_mut(&user).filter(|user| !user.is_erased()) else { return Ok(None) };
        state.library.refer_anew(Referrer::Avatar(user.id), change.avatar.as_ref());
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

    fn log_out(&mut self, user: UserId, now_s: u32) -> Result<Option<u32>, Error> {
        let mut state = self.state.lock();
        let Some(kept) = state.users.get_mut(&user) else { return Ok(None) };
        kept.token_epoch = (kept.token_epoch + 1).max(now_s);
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
}

impl State {
    /// Above every number that was given: rows are never removed.
    pub(super) fn next_user(&self) -> u64 {
        self.users.last_key_value().map_or(1, |(id, _)| id.get() + 1)
    }

    pub(super) fn create_user(&mut self, new: &NewUser) -> Option<User> {
        let key = fold(&new.mobile);
        if self.mobiles.contains_key(&key) {
            return None;
        }
        let id = UserId::new(self.next_user().max(new.wanted.map_or(0, UserId::get)))?;
        let user = User {
            id,
            mobile: new.mobile.clone(),
            password: new.password.clone(),
            avatar: new.avatar.clone(),
            sex: new.sex.clone(),
            nickname: new.nickname.clone(),
            memo: new.memo.clone(),
            created_ms: new.created_ms,
            token_epoch: 0,
            banned: false,
        };
        self.library.refer(Referrer::Avatar(id), &user.avatar);
        self.mobiles.insert(key, id);
        self.users.insert(id, user.clone());
        Some(user)
    }
}

pub(super) fn set(field: &mut String, value: Option<&String>) {
    if let Some(value) = value {
        field.clone_from(value);
    }
}
