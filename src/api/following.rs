//! What other gateways of the same database have changed about users: read every few seconds and
//! told to the shards here.
//!
//! Owns: how far this gateway has read ([`Following`]), and which notice follows from a change.
//! Never: writes, and never costs more than one question in [`limits::FOLLOW_MS`] while nothing
//! changes, or more than one in [`limits::FOLLOW_GAP_MS`] while other gateways say that something
//! does; what these look for is what is new, not everything that is not settled yet. What this
//! gateway has changed itself comes back to it and changes nothing.
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
    let mut follower = Follower {
        teller,
        following: Following::default(),
        heard_ms: 0,
        whole_ms: 0,
        telling: JoinSet::new(),
        warned: false,
    };
    let (mut stop, mut quick) = (stop, false);
    loop {
        let round = async {
            let has_ended = follower.round(quick).await;
            let Some(heard) = &heard else {
                tokio::time::sleep(Duration::from_millis(limits::FOLLOW_MS)).await;
                return false;
            };
            if !has_ended {
                // The database does not answer: it is not asked for each word.
                tokio::time::sleep(Duration::from_millis(limits::FOLLOW_RETRY_MS)).await;
                return false;
            }
            tokio::time::sleep(Duration::from_millis(limits::FOLLOW_GAP_MS)).await;
            // What was said meanwhile is not lost.
            let pause = follower.until_whole();
            !pause.is_zero() && tokio::time::timeout(pause, heard.notified()).await.is_ok()
        };
        tokio::select! {
            is_heard = round => quick = is_heard,
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

struct Follower {
    teller: Arc<Teller>,
    following: Following,
    /// When the last answer came.
    heard_ms: u64,
    /// When the last round ended that was not quick.
    whole_ms: u64,
    /// Changes on their way to their shards: one that is busy holds up no other, unless it has very
    /// many.
    telling: JoinSet<()>,
    /// The log has it that there are changes of which this version does not know.
    warned: bool,
}

/// Tells shards.
struct Teller {
    services: Arc<Services>,
    clock: Clock,
}

/// A change on its way to its shard, as it was read last.
struct Known {
    change: Change,
    /// When the database was asked.
    asked_ms: u64,
    /// It could be read anew when that was last tried.
    is_fresh: bool,
}

impl Known {
    /// A block may be lifted by now, and that told: told again it would stand until the user's next
    /// open. Anything else ends no more than it must, or is told with its age.
    const fn may_be_told(&self) -> bool {
        self.is_fresh || !matches!(self.change.what, Changed::Block { .. })
    }

    /// The database was asked again at that time. `false`: it does not know the change any more.
    fn read_again(&mut self, answer: Result<Option<Change>, StoreFailure>, asked_ms: u64) -> bool {
        self.is_fresh = answer.is_ok();
        match answer {
            Ok(Some(change)) => (self.change, self.asked_ms) = (change, asked_ms),
            Ok(None) => return false,
            Err(_) => {}
        }
        true
    }
}

impl Follower {
    /// Reads and tells everything that is new; see [`Following::begin`]. `false`: the database did
    /// not answer, and the rest is read with the next one.
    async fn round(&mut self, quick: bool) -> bool {
        self.following.begin(quick);
        let has_ended = self.read_on().await;
        if has_ended && self.following.was_whole() {
            self.whole_ms = self.teller.clock.now().mono_ms;
        }
        has_ended
    }

    /// How long it is until the next round that is not quick.
    fn until_whole(&self) -> Duration {
        let next_ms = self.whole_ms + limits::FOLLOW_MS;
        Duration::from_millis(next_ms.saturating_sub(self.teller.clock.now().mono_ms))
    }

    /// Reads to the end. `false`: the database did not answer, and the next round asks again.
    async fn read_on(&mut self) -> bool {
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
                counts.follow(Followed::Failed);
                return false;
            };
            self.heard_ms = self.teller.clock.now().mono_ms;
            let more = changes.more;
            if changes.strange.is_some() && !std::mem::replace(&mut self.warned, true) {
                tracing::warn!("a gateway of a later version has made a change that this one does not understand");
            }
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
                return true;
            }
        }
    }
}

impl Teller {
    /// Tells the shard that it concerns, again and again while that refuses. `asked_ms`: when the
    /// database was asked.
    async fn tell(&self, change: Change, asked_ms: u64) {
        let mut known = Known { change, asked_ms, is_fresh: true };
        for _ in 0..limits::FOLLOW_TRIES_MAX {
            if known.may_be_told() && self.is_told(known.change, known.asked_ms).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(limits::FOLLOW_RETRY_MS)).await;
            // How things stand may be something else by now.
            let again_ms = self.clock.now().mono_ms;
            if !known.read_again(self.again(change.id).await, again_ms) {
                return;
            }
        }
        tracing::debug!(user = %change.user, what = ?change.what, "a change by another gateway could not be told to its shard");
        self.services.not_told("a change by another gateway", Reject::Busy);
    }

    /// Tells it once. `true`: there is no more to be done.
    async fn is_told(&self, change: Change, asked_ms: u64) -> bool {
        let (shard, notice) = self.notice(change, asked_ms);
        if let Changed::Block { other, .. } = change.what {
            // The other one's shard, too; what is lost there is read at the next open.
            let others = shard_of(other, self.services.homes.shards());
            if others != shard {
                self.services.tell(others, notice.clone());
            }
        }
        match self.services.notify(shard, notice).await {
            Answer::Refused(Reject::Stopping) => true,
            Answer::Refused(_) => false,
            Answer::Done
            | Answer::AsBefore
            | Answer::OwnerStays
            | Answer::Recalled { .. }
            | Answer::Posted { .. }
            | Answer::Online { .. }
            | Answer::Roster { .. }
            | Answer::Sessions(_)
            | Answer::Ended { .. } => true,
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::GroupId;

    fn known(what: Changed) -> Known {
        Known { change: Change { id: 4, user: UserId::new(1).expect("small"), what }, asked_ms: 100, is_fresh: true }
    }

    #[test]
    fn what_could_not_be_read_again_is_not_told_as_if_it_were_fresh() {
        let group = GroupId::new(3).expect("small");
        let mut member = known(Changed::Member { group, since: None });
        assert!(member.read_again(Err(StoreFailure::Busy), 1_100));
        assert!(member.may_be_told() && member.asked_ms == 100, "with its age");
        assert!(member.read_again(Ok(Some(member.change)), 2_100));
        assert_eq!(member.asked_ms, 2_100);
        assert!(!member.read_again(Ok(None), 3_100), "there is nothing to tell");

        let mut block = known(Changed::Block { other: UserId::new(2).expect("small"), on: true });
        assert!(block.may_be_told() && block.read_again(Err(StoreFailure::Busy), 1_100));
        assert!(!block.may_be_told(), "it may be lifted by now");
        assert!(block.read_again(Ok(Some(block.change)), 2_100) && block.may_be_told());
    }
}
