//! Sessions whose tokens are void: their shard is told until it has heard.
//!
//! Owns: the first word about it, and the further tries beside the request that made the tokens
//! void. Where several gateways share a database each follows it and tells its own shards, too; on
//! one alone nobody else does.
//! Never: ends a session of a good token: how things stand is read anew before each further try.
//! Bounds: [`limits::FOLLOW_TELLING_MAX`] at once, each with [`limits::FOLLOW_TRIES_MAX`] tries.

use std::sync::Arc;
use std::time::Duration;

use super::{Db, Services, ShardAccess, StoreFailure, notify};
use crate::ids::{LoginId, UserId, shard_of};
use crate::limits;
use crate::shard::{Answer, Notice};
use crate::wire::Reject;

/// Which tokens of a user are void.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Void {
    /// Those that are older than the user's epoch.
    Older,
    /// Those of one login.
    Of(LoginId),
}

impl Services {
    /// The tokens of `user` that are older than `epoch` are void, so their sessions end.
    pub(super) async fn end_older(&self, user: UserId, epoch: u32) {
        self.end_sessions(user, Void::Older, Notice::LoggedOut { user, epoch }).await;
    }

    /// The same of a login that has ended.
    pub(super) async fn end_login(&self, user: UserId, login: LoginId) {
        self.end_sessions(user, Void::Of(login), Notice::LoginEnded { user, login }).await;
    }

    async fn end_sessions(&self, user: UserId, void: Void, notice: Notice) {
        self.followed_change();
        if let Answer::Refused(why) = self.notify(shard_of(user, self.homes.shards()), notice).await {
            self.not_told("the end of a user's sessions", why);
            self.end_later(user, void, true);
        }
    }

    /// What made tokens void has ended as `done` says, which is given back: the sessions end also
    /// where the outcome is not known.
    pub(super) fn end_if_unsure<T>(
        &self,
        user: UserId,
        void: Void,
        done: Result<T, StoreFailure>,
    ) -> Result<T, StoreFailure> {
        if matches!(done, Err(StoreFailure::Unsure)) {
            self.followed_change();
            self.end_later(user, void, false);
        }
        done
    }

    /// Nobody waits for it. `is_certain`: the tokens are void; if they only may be, or will be in a
    /// moment, all tries are made.
    fn end_later(&self, user: UserId, void: Void, is_certain: bool) {
        let Ok(place) = Arc::clone(&self.ending).try_acquire_owned() else {
            tracing::warn!(%user, "sessions of void tokens may stay open: too many such users are to be told of");
            return;
        };
        let teller = EndTeller { db: self.db.clone(), homes: Arc::clone(&self.homes), user, void };
        tokio::spawn(async move {
            teller.tell(is_certain).await;
            drop(place);
        });
    }
}

/// Tells of one user.
struct EndTeller {
    db: Db,
    homes: Arc<dyn ShardAccess>,
    user: UserId,
    void: Void,
}

impl EndTeller {
    async fn tell(&self, is_certain: bool) {
        let shard = shard_of(self.user, self.homes.shards());
        for _ in 0..limits::FOLLOW_TRIES_MAX {
            tokio::time::sleep(Duration::from_millis(limits::FOLLOW_RETRY_MS)).await;
            let is_told = match self.notice().await {
                Err(_) => false,
                Ok(None) => true,
                Ok(Some(notice)) => match notify(self.homes.as_ref(), shard, notice).await {
                    Answer::Refused(Reject::Stopping) => return,
                    Answer::Refused(_) => false,
                    _ => true,
                },
            };
            if is_told && is_certain {
                return;
            }
        }
        if is_certain {
            tracing::warn!(user = %self.user, "sessions of void tokens may stay open: their shard could not be told");
        }
    }

    /// What follows from how things stand now; `None`: there is nothing to end.
    async fn notice(&self) -> Result<Option<Notice>, StoreFailure> {
        let user = self.user;
        match self.void {
            Void::Older => {
                let found = self.db.read(move |store| store.people().user(user)).await?;
                Ok(found.map(|found| Notice::LoggedOut { user, epoch: found.token_epoch }))
            }
            Void::Of(login) => {
                let logins = self.db.read(move |store| store.logins().logins_of(user)).await?;
                // One that lives was not ended, or its number was drawn again.
                let lives = logins.iter().any(|known| known.login == login);
                Ok((!lives).then_some(Notice::LoginEnded { user, login }))
            }
        }
    }
}
