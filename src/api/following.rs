//! What other gateways of the same database have changed about users: read every few seconds and
//! told to the shards here.
//!
//! Owns: how far this gateway has read ([`Following`]), and which notice follows from a change.
//! Never: writes, and never costs more than one question in [`limits::FOLLOW_MS`] while nothing
//! changes, or more than one in [`limits::FOLLOW_GAP_MS`] while other gateways say that something
//! does. What this gateway has changed itself comes back to it and changes nothing.
//! Bounds: [`limits::CHANGES_MAX`] changes in one answer, [`limits::FOLLOW_TELLING_MAX`] told at
//! once, each with [`limits::FOLLOW_TRIES_MAX`] tries.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::services::{Services, StoreFailure};
use crate::clock::Clock;
use crate::ids::{ConvId, ShardId, UserId, home_of, shard_of};
use crate::limits;
use crate::metrics::accounts::Followed;
use crate::shard::{Answer, Notice};
use crate::store::{Change, Changed, Following};
use crate::wire::Reject;

/// Follows until the gateway stops.
/// `heard`: another gateway says that there is something new.
pub(super) async fn follow(services: Arc<Services>, heard: Option<Arc<Notify>>, stop: watch::Receiver<bool>) {
    let teller = Arc::new(Teller { services, clock: Clock::start() });
    let mut follower = Follower { teller, following: Following::default(), heard_ms: 0, telling: JoinSet::new() };
    let mut stop = stop;
    loop {
        let round = async {
            follower.round().await;
            let pause = Duration::from_millis(limits::FOLLOW_MS);
            match &heard {
                None => tokio::time::sleep(pause).await,
                Some(heard) => {
                    tokio::time::sleep(Duration::from_millis(limits::FOLLOW_GAP_MS)).await;
                    // What was said meanwhile is not lost.
                    let _ = tokio::time::timeout(pause, heard.notified()).await;
                }
            }
        };
        tokio::select! {
            () = round => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

struct Follower {
    teller: Arc<Teller>,
    following: Following,
    /// When the last answer came.
    heard_ms: u64,
    /// Changes on their way to their shards: one that is busy holds up no other, unless it has very
    /// many.
    telling: JoinSet<()>,
}

/// Tells shards.
struct Teller {
    services: Arc<Services>,
    clock: Clock,
}

impl Follower {
    /// Reads and tells everything that is new.
    async fn round(&mut self) {
        loop {
            let asked_ms = self.teller.clock.now().mono_ms;
            if asked_ms.saturating_sub(self.heard_ms) > u64::from(limits::CHANGES_KEPT_S) * 1000 {
                tracing::error!(
                    "the database was away for longer than changes about users are kept: bans and log-outs by other gateways \
                     may have been missed; restart this gateway"
                );
                (self.following, self.heard_ms) = (Following::default(), asked_ms);
            }
            let after = self.following.after();
            let read = self.teller.services.db.read(move |store| store.changes(after, limits::CHANGES_MAX)).await;
            let counts = self.teller.services.attempts.counts();
            let Ok(changes) = read else {
                // The next round asks again.
                counts.follow(Followed::Failed);
                return;
            };
            self.heard_ms = self.teller.clock.now().mono_ms;
            let more = changes.more;
            for change in self.following.take(changes) {
                counts.follow(Followed::Told);
                while self.telling.len() >= limits::FOLLOW_TELLING_MAX {
                    self.telling.join_next().await;
                }
                let teller = Arc::clone(&self.teller);
                self.telling.spawn(async move { teller.tell(change, asked_ms).await });
            }
            // What has ended is let go of.
            while self.telling.try_join_next().is_some() {}
            if !more {
                return;
            }
        }
    }
}

impl Teller {
    /// Tells the shard that it concerns, again and again while that refuses. `asked_ms`: when the
    /// database was asked.
    async fn tell(&self, change: Change, asked_ms: u64) {
        let (mut change, mut asked_ms) = (change, asked_ms);
        for _ in 0..limits::FOLLOW_TRIES_MAX {
            let (shard, notice) = self.notice(change, asked_ms);
            if let Changed::Block { other, .. } = change.what {
                // The other one's shard, too; what is lost there is read at the next open.
                let others = shard_of(other, self.services.homes.shards());
                if others != shard {
                    self.services.tell(others, notice.clone());
                }
            }
            match self.services.notify(shard, notice).await {
                Answer::Refused(Reject::Stopping) => return,
                Answer::Refused(_) => {}
                Answer::Done
                | Answer::AsBefore
                | Answer::OwnerStays
                | Answer::Recalled { .. }
                | Answer::Posted { .. }
                | Answer::Online { .. }
                | Answer::Roster { .. } => return,
            }
            tokio::time::sleep(Duration::from_millis(limits::FOLLOW_RETRY_MS)).await;
            // How things stand may be something else by now.
            asked_ms = self.clock.now().mono_ms;
            match self.again(change.id).await {
                Ok(Some(now)) => change = now,
                Ok(None) => return,
                Err(_) => {}
            }
        }
        tracing::debug!(user = %change.user, what = ?change.what, "a change by another gateway could not be told to its shard");
        self.services.not_told("a change by another gateway", Reject::Busy);
    }

    /// The change of that number, as things stand now.
    async fn again(&self, id: u64) -> Result<Option<Change>, StoreFailure> {
        let changes = self.services.db.read(move |store| store.changes(Some(id.saturating_sub(1)), 1)).await?;
        Ok(changes.list.first().copied().filter(|change| change.id == id))
    }

    fn notice(&self, change: Change, asked_ms: u64) -> (ShardId, Notice) {
        let Change { user, what, .. } = change;
        let shards = self.services.homes.shards();
        let of = |user: UserId| shard_of(user, shards);
        match what {
            Changed::Standing { banned: true, .. } => (of(user), Notice::Banned { user }),
            Changed::Standing { token_epoch: epoch, .. } => (of(user), Notice::LoggedOut { user, epoch }),
            Changed::Member { group, since } => {
                let age_ms = self.clock.now().mono_ms.saturating_sub(asked_ms);
                (home_of(ConvId::Group(group), shards), Notice::MemberSeen { group, user, since, age_ms })
            }
            // The number was drawn again: there is nothing to end.
            Changed::Login { login, alive } => {
                (of(user), if alive { Notice::Hello } else { Notice::LoginEnded { user, login } })
            }
            Changed::Block { other, on } => (of(user), Notice::Block { owner: user, other, on }),
        }
    }
}
