//! Logins in memory.

use super::{Connection, State};
use crate::ids::{LoginId, UserId};
use crate::store::changes::Note;
use crate::store::logins::{free, give_way};
use crate::store::{Error, LoggedIn, LoginInfo, Logins, NewLogin};

impl Logins for Connection {
    fn log_in(&mut self, user: UserId, new: &NewLogin) -> Result<Option<LoggedIn>, Error> {
        Ok(self.state.lock().log_in(user, new))
    }

    fn login(&mut self, user: UserId, login: LoginId) -> Result<Option<LoginInfo>, Error> {
        Ok(self.state.lock().logins.get(&user).and_then(|logins| logins.get(&login)).cloned())
    }

    fn logins_of(&mut self, user: UserId) -> Result<Vec<LoginInfo>, Error> {
        Ok(self.state.lock().logins_of(user))
    }

    fn use_login(&mut self, user: UserId, login: LoginId, now_ms: u64) -> Result<(), Error> {
        let mut state = self.state.lock();
        if let Some(kept) = state.logins.get_mut(&user).and_then(|logins| logins.get_mut(&login)) {
            kept.used_ms = kept.used_ms.max(now_ms);
        }
        Ok(())
    }

    fn end_login(&mut self, user: UserId, login: LoginId) -> Result<bool, Error> {
        Ok(self.state.lock().end_login(user, login))
    }
}

impl State {
    fn logins_of(&self, user: UserId) -> Vec<LoginInfo> {
        let mut logins: Vec<_> =
            self.logins.get(&user).into_iter().flat_map(|logins| logins.values()).cloned().collect();
        logins.sort_by_key(|login| (std::cmp::Reverse(login.used_ms), login.login));
        logins
    }

    fn log_in(&mut self, user: UserId, new: &NewLogin) -> Option<LoggedIn> {
        self.user(user).filter(|user| user.token_epoch == new.epoch)?;
        let logins = self.logins_of(user);
        let ended = give_way(&logins, new.created_ms);
        for &login in &ended {
            self.end_login(user, login);
        }
        let login = free(&logins, new.wanted);
        let NewLogin { agent, address, created_ms, expires_ms, .. } = new.clone();
        let kept = LoginInfo { login, agent, address, created_ms, used_ms: created_ms, expires_ms };
        self.logins.entry(user).or_default().insert(login, kept);
        Some(LoggedIn { login, ended })
    }

    fn end_login(&mut self, user: UserId, login: LoginId) -> bool {
        let was = self.logins.get_mut(&user).is_some_and(|logins| logins.remove(&login).is_some());
        if was {
            self.note(user, Note::Login(login));
        }
        was
    }
}
