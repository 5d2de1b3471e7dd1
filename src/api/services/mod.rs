//! What the control plane can do, without HTTP: accounts, friends, groups, history. Routes are thin
//! adapters over it, the legacy ones and `/api/v1`.
//!
//! Owns: the control plane's way to the store ([`Db`]) and to the shards ([`ShardAccess`]), with
//! their deadlines.
//! Never: trusts a user number that a client names; whoever acts is a user that
//! [`accounts::acting`] has admitted.

pub mod accounts;
pub mod admissions;
pub mod api_keys;
pub mod attempts;
pub mod backends;
pub mod changes;
mod endings;
pub mod friends;
pub mod groups;
mod hashing;
pub mod history;
pub mod identities;
pub mod jwt;
pub mod logins;
pub mod operator;
pub mod passwords;
mod pings;
pub mod profiles;
pub mod pulse;
pub mod recalls;
pub mod subjects;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

use crate::auth::Key;
use crate::clock::Clock;
use crate::hooks::Hooks;
use crate::ids::{ShardId, UserId};
use crate::limits;
use crate::log::outage::{Outage, OutageLine};
use crate::log::trail::Trail;
use crate::mesh::{Full, Notices};
use crate::shard::{Answer, Notice};
use crate::store::worker::{Busy, Call, Lane, LanePlace, Store};
use crate::store::{Backend, Error, RetentionView};
use crate::wire::Reject;
use api_keys::Keyring;
use attempts::Attempts;
use passwords::Passwords;
use pings::Pings;
pub use pings::Promptness;

/// What every service needs.
pub struct Services {
    /// The store.
    pub db: Db,
    /// The homes of conversations.
    pub homes: Arc<dyn ShardAccess>,
    /// Signs and checks tokens.
    pub key: Key,
    /// Hashes and checks passwords.
    pub passwords: Passwords,
    /// Who tries too often.
    pub attempts: Attempts,
    /// How long a token lives, in milliseconds; see [`Services::token_ttl_ms`].
    pub token_ttl: AtomicU64,
    /// Shards do not take what they are told.
    pub untold: Outage,
    /// The keys of backends.
    pub keys: Keyring,
    /// What webhooks are told.
    pub hooks: Hooks,
    /// Nothing is stored, so the store judges no message.
    pub volatile: bool,
    /// The user in whose name the system speaks, once it is known.
    pub system: OnceLock<UserId>,
    /// When it was last looked for because a client asks who it is; Unix milliseconds.
    pub system_sought_ms: AtomicU64,
    /// Where logins, and what operators do to accounts, are written down.
    pub audit: Trail,
    /// Places for those whose sessions' end could not be told to their shard yet.
    pub ending: Arc<Semaphore>,
    /// Makes other gateways look sooner at what was changed here.
    pub tell_others: Option<Arc<dyn Fn() + Send + Sync>>,
}

/// Why a service could not do its work although the request was right.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StoreFailure {
    /// A queue is full, or the database is away: certainly not done. Try again.
    #[error("busy")]
    Busy,
    /// The answer did not come: done or not done.
    #[error("the outcome is unknown")]
    Unsure,
    /// The database holds what cannot be; trying again does not help.
    #[error("the store is broken")]
    Broken,
}

/// The homes of conversations, as the control plane sees them. The gateway's are behind
/// [`Notices`]; tests stand in for shards with their own.
pub trait ShardAccess: Send + Sync {
    /// How many shards there are.
    fn shards(&self) -> u16;

    /// As [`Notices::ask`].
    ///
    /// # Errors
    /// [`Full`]: nothing was sent.
    fn ask(&self, shard: ShardId, notice: Notice, then: Box<dyn FnOnce(Answer) + Send>) -> Result<(), Full>;
}

impl ShardAccess for Notices {
    fn shards(&self) -> u16 {
        Self::shards(self)
    }

    fn ask(&self, shard: ShardId, notice: Notice, then: Box<dyn FnOnce(Answer) + Send>) -> Result<(), Full> {
        Self::ask(self, shard, notice, then)
    }
}

impl Services {
    /// Something that other gateways follow in the database was changed: they look at once, as a
    /// rule, and in any case soon.
    pub(in crate::api) fn followed_change(&self) {
        if let Some(tell) = &self.tell_others {
            tell();
        }
    }

    /// How long a token lives that is issued now, in milliseconds.
    pub(super) fn token_ttl_ms(&self) -> u64 {
        self.token_ttl.load(Ordering::Relaxed)
    }

    /// A shard was not told something; what a request was for is done all the same.
    pub(super) fn not_told(&self, what: &str, why: Reject) {
        let now_ms = self.db.clock.now().mono_ms;
        match self.untold.failed(now_ms) {
            Some(OutageLine::Lasts { failures, .. } | OutageLine::Begins { untold: failures }) => {
                tracing::warn!(what, why = why.label(), failures, "a shard was not told");
            }
            Some(OutageLine::Ended { .. }) | None => {}
        }
    }

    /// Tells `shard` and waits for its answer, at most [`limits::NOTICE_MS_MAX`].
    pub(super) async fn notify(&self, shard: ShardId, notice: Notice) -> Answer {
        notify(self.homes.as_ref(), shard, notice).await
    }

    /// Tells `shard`, and where its answer comes.
    fn send(&self, shard: ShardId, notice: Notice) -> Result<oneshot::Receiver<Answer>, Full> {
        send(self.homes.as_ref(), shard, notice)
    }

    /// The answer to a notice, which is waited for at most [`limits::NOTICE_MS_MAX`].
    async fn told(told: oneshot::Receiver<Answer>) -> Answer {
        match tokio::time::timeout(Duration::from_millis(limits::NOTICE_MS_MAX), told).await {
            Ok(Ok(answer)) => answer,
            // Too late, or the shard ended: the notice may have been carried out.
            Ok(Err(_)) | Err(_) => Answer::Refused(Reject::Retry),
        }
    }
}

async fn notify(homes: &dyn ShardAccess, shard: ShardId, notice: Notice) -> Answer {
    match send(homes, shard, notice) {
        Ok(told) => Services::told(told).await,
        Err(Full) => Answer::Refused(Reject::Busy),
    }
}

fn send(homes: &dyn ShardAccess, shard: ShardId, notice: Notice) -> Result<oneshot::Receiver<Answer>, Full> {
    let (tell, told) = oneshot::channel();
    let then = Box::new(move |answer| {
        // This fails when the receiver has gone.
        let _ = tell.send(answer);
    });
    homes.ask(shard, notice, then)?;
    Ok(told)
}

/// A list of at most `max` rows and whether there are more, from one that was read with one row
/// more.
fn page<T>(mut rows: Vec<T>, max: u32) -> (Vec<T>, bool) {
    let more = rows.len() > max as usize;
    rows.truncate(max as usize);
    (rows, more)
}

/// The store with deadlines: runs a closure on one of its threads and waits at most
/// [`limits::STORE_CALL_MS_MAX`].
#[derive(Clone)]
pub struct Db {
    store: Store,
    clock: Clock,
    /// The database fails, as far as the control plane notices.
    outage: Arc<Outage>,
    pings: Arc<Pings>,
}

impl Db {
    /// A way to `store`.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, clock: Clock::start(), outage: Arc::default(), pings: Arc::default() }
    }

    /// What is kept, and how far retention is. Waits for nothing.
    pub(in crate::api) fn retention(&self) -> RetentionView {
        self.store.retention()
    }

    /// As [`Store::begin_retention`].
    pub(in crate::api) fn begin_retention(&self) -> bool {
        self.store.begin_retention()
    }

    /// Runs `work` on a writing connection.
    ///
    /// # Errors
    /// [`StoreFailure::Unsure`] when the answer is late or lost: the write may be done.
    pub async fn write<T, F>(&self, work: F) -> Result<T, StoreFailure>
    where
        T: Send + 'static,
        F: FnOnce(&mut dyn Backend) -> Result<T, Error> + Send + 'static,
    {
        self.write_in(LanePlace::of(Lane::Light), work).await
    }

    /// As [`Db::write`], in a lane, as one of a user's requests.
    ///
    /// # Errors
    /// As [`Db::write`].
    pub async fn write_in<T, F>(&self, place: LanePlace, work: F) -> Result<T, StoreFailure>
    where
        T: Send + 'static,
        F: FnOnce(&mut dyn Backend) -> Result<T, Error> + Send + 'static,
    {
        let (call, told) = asked(work);
        self.store.call(place, call).map_err(|Busy| StoreFailure::Busy)?;
        self.answered(told, limits::STORE_CALL_MS_MAX).await.unwrap_or(Err(StoreFailure::Unsure))
    }

    /// Runs `work`, which only reads, on a reading connection.
    ///
    /// # Errors
    /// [`StoreFailure::Busy`] also when the answer is late: a read may always be repeated.
    pub async fn read<T, F>(&self, work: F) -> Result<T, StoreFailure>
    where
        T: Send + 'static,
        F: FnOnce(&mut dyn Backend) -> Result<T, Error> + Send + 'static,
    {
        self.read_in(LanePlace::of(Lane::Light), work).await
    }

    /// As [`Db::read`], in a lane, as one of a user's requests: logins and lists do not wait for
    /// each other.
    ///
    /// # Errors
    /// As [`Db::read`].
    pub async fn read_in<T, F>(&self, place: LanePlace, work: F) -> Result<T, StoreFailure>
    where
        T: Send + 'static,
        F: FnOnce(&mut dyn Backend) -> Result<T, Error> + Send + 'static,
    {
        let (call, told) = asked(work);
        self.store.query(place, call).map_err(|Busy| StoreFailure::Busy)?;
        self.answered(told, limits::STORE_CALL_MS_MAX).await.unwrap_or(Err(StoreFailure::Busy))
    }

    /// The result of a call; `None` when it does not come in time, or never will.
    async fn answered<T>(
        &self,
        told: oneshot::Receiver<Result<T, Error>>,
        ms_max: u64,
    ) -> Option<Result<T, StoreFailure>> {
        let result = tokio::time::timeout(Duration::from_millis(ms_max), told).await.ok()?.ok()?;
        self.note(result.as_ref().err());
        Some(result.map_err(|error| match error {
            Error::Unavailable(_) | Error::Contended(_) => StoreFailure::Busy,
            Error::Unknown(_) => StoreFailure::Unsure,
            Error::Broken(_) => StoreFailure::Broken,
        }))
    }

    /// Says in the log what became of a call, if that is worth a line. The text is the database's
    /// and goes to the operator, never to a client.
    fn note(&self, error: Option<&Error>) {
        let now_ms = self.clock.now().mono_ms;
        let line = error.map_or_else(|| self.outage.worked_quietly(now_ms), |_| self.outage.failed(now_ms));
        match (line, error) {
            (Some(OutageLine::Begins { untold }), Some(error)) => {
                tracing::warn!(%error, untold, "calls of the control plane fail in the store");
            }
            (Some(OutageLine::Lasts { failures, seconds }), Some(error)) => {
                tracing::warn!(%error, failures, seconds, "calls of the control plane still fail in the store");
            }
            (Some(OutageLine::Ended { failures, seconds }), _) => {
                tracing::info!(failures, seconds, "calls of the control plane work again");
            }
            _ => {}
        }
    }
}

/// `work` as a call of the store, and where its result comes. Work that nobody waits for any more
/// is not begun.
fn asked<T, F>(work: F) -> (Call, oneshot::Receiver<Result<T, Error>>)
where
    T: Send + 'static,
    F: FnOnce(&mut dyn Backend) -> Result<T, Error> + Send + 'static,
{
    let (tell, told) = oneshot::channel();
    let call = Box::new(move |backend: &mut dyn Backend| {
        if !tell.is_closed() {
            let _ = tell.send(work(backend));
        }
    });
    (call, told)
}
