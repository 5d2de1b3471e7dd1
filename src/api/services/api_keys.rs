//! The keys of backends: who calls, what they may do, and how often.
//!
//! Owns: the scopes, the making and ending of keys, what is known of them, and the pace of each.
//! Never: lets a call in whose key has another scope, or shows a secret a second time.
//! Bounds: [`limits::API_KEYS_AGE_MS`] until an end is known everywhere; [`limits::API_CALLS_MAX`]
//! calls of a key under way, and as many a second as it says.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Db, StoreFailure};
use crate::auth::ShownKey;
use crate::clock::{self, Clock};
use crate::fair::{Flow, Purse};
use crate::limits;
use crate::metrics::backends::{BackendCounts, Called};
use crate::store::ApiKey;

/// What a key may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Scope {
    /// Send messages, as the system or as any user.
    Send = 1,
    /// Read, make and change users.
    Users = 1 << 1,
    /// Read, make, change and dissolve groups, and their members.
    Groups = 1 << 2,
    /// Ask who is online.
    Online = 1 << 3,
    /// Read conversations.
    History = 1 << 4,
    /// Disconnect and ban users.
    Moderate = 1 << 5,
    /// Export and delete what is kept about a user.
    Data = 1 << 6,
    /// Read the gateway's numbers.
    Stats = 1 << 7,
    /// Make login tokens of users.
    Tokens = 1 << 8,
}

impl Scope {
    /// Every scope with its name.
    pub const ALL: [(&'static str, Self); 9] = [
        ("send", Self::Send),
        ("users", Self::Users),
        ("groups", Self::Groups),
        ("online", Self::Online),
        ("history", Self::History),
        ("moderate", Self::Moderate),
        ("data", Self::Data),
        ("stats", Self::Stats),
        ("tokens", Self::Tokens),
    ];

    /// The scopes of a list with commas, a bit each; `None`: a name that is none, or no name.
    #[must_use]
    pub fn parse_list(list: &str) -> Option<u32> {
        let one =
            |name: &str| Self::ALL.iter().find(|(known, _)| *known == name.trim()).map(|(_, scope)| *scope as u32);
        list.split(',').try_fold(0, |all, name| Some(all | one(name)?))
    }

    /// The names of `scopes`.
    pub fn names(scopes: u32) -> impl Iterator<Item = &'static str> {
        Self::ALL.into_iter().filter(move |(_, scope)| scopes & *scope as u32 != 0).map(|(name, _)| name)
    }
}

/// Why a call is not let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotAdmitted {
    /// There is no such key, or not any more.
    #[error("no key")]
    NoKey,
    /// The key has another scope.
    #[error("not of this scope")]
    Scope,
    /// Too many calls in a second, or under way.
    #[error("too fast")]
    TooFast,
    /// The keys are not known.
    #[error(transparent)]
    Store(#[from] StoreFailure),
}

/// What is wished of a new key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyWish {
    /// See [`ApiKey::name`].
    pub name: String,
    /// See [`ApiKey::scopes`].
    pub scopes: u32,
    /// See [`ApiKey::rate`].
    pub rate: u32,
    /// See [`ApiKey::expires_ms`].
    pub expires_ms: u64,
}

/// Why a key is not replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotRotated {
    /// It was replaced already, and lives on for its grace: what takes its place would end with it.
    #[error("replaced already")]
    Replaced,
    /// Not the caller's fault.
    #[error(transparent)]
    Store(#[from] StoreFailure),
}

/// A call that was let in; its place is free again when it ends.
#[must_use]
pub struct Admitted {
    /// The key's name.
    pub name: Arc<str>,
    /// Its number.
    pub id: u32,
    _place: OwnedSemaphorePermit,
}

/// A key, and what its calls have used.
#[derive(Clone)]
struct Known {
    key: ApiKey,
    name: Arc<str>,
    used: Arc<Used>,
}

struct Used {
    calls: Mutex<Purse<1>>,
    places: Arc<Semaphore>,
}

#[derive(Default)]
struct Keys {
    /// When they were read; `None`: never.
    read_ms: Option<u64>,
    known: HashMap<u32, Known>,
}

/// All keys, as they were read lately.
pub struct Keyring {
    clock: Clock,
    counts: Arc<BackendCounts>,
    keys: Mutex<Keys>,
    /// One read at a time.
    reading: tokio::sync::Mutex<()>,
}

impl Keyring {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(counts: Arc<BackendCounts>) -> Self {
        Self { clock: Clock::start(), counts, keys: Mutex::default(), reading: tokio::sync::Mutex::default() }
    }

    /// Lets a call in that shows `text` and needs `scope`. `named` is told the number and the name
    /// of the key that it shows, also if that does not suffice.
    ///
    /// # Errors
    /// [`NotAdmitted`].
    pub async fn admit(
        &self,
        db: &Db,
        text: Option<&str>,
        scope: Scope,
        named: impl FnOnce(u32, &Arc<str>),
    ) -> Result<Admitted, NotAdmitted> {
        let admitted = self.judge(db, text, scope, named).await;
        self.counts.called(match &admitted {
            Ok(_) => Called::Admitted,
            Err(NotAdmitted::NoKey) => Called::NoKey,
            Err(NotAdmitted::Scope) => Called::Scope,
            Err(NotAdmitted::TooFast) => Called::TooFast,
            Err(NotAdmitted::Store(_)) => Called::Trouble,
        });
        admitted
    }

    async fn judge(
        &self,
        db: &Db,
        text: Option<&str>,
        scope: Scope,
        named: impl FnOnce(u32, &Arc<str>),
    ) -> Result<Admitted, NotAdmitted> {
        let shown = text.and_then(ShownKey::parse).ok_or(NotAdmitted::NoKey)?;
        self.renew(db).await?;
        let known = self.keys.lock().known.get(&shown.id).cloned().ok_or(NotAdmitted::NoKey)?;
        if !shown.fits(&known.key.hash) || clock::wall_ms() > known.key.expires_ms {
            return Err(NotAdmitted::NoKey);
        }
        named(known.key.id, &known.name);
        if known.key.scopes & scope as u32 == 0 {
            return Err(NotAdmitted::Scope);
        }
        let flow = [Flow { per_second: known.key.rate.into(), burst: known.key.rate.into() }];
        let mut calls = known.used.calls.lock();
        calls.refill(&flow, self.clock.now().mono_ms);
        if calls.overdrawn(&flow).is_some() {
            return Err(NotAdmitted::TooFast);
        }
        let place = Arc::clone(&known.used.places).try_acquire_owned().map_err(|_| NotAdmitted::TooFast)?;
        calls.spend(&flow, &[1]);
        drop(calls);
        Ok(Admitted { name: known.name, id: known.key.id, _place: place })
    }

    /// Reads the keys when what is known of them is old.
    async fn renew(&self, db: &Db) -> Result<(), StoreFailure> {
        if self.is_fresh() {
            return Ok(());
        }
        let _one = self.reading.lock().await;
        if self.is_fresh() {
            return Ok(());
        }
        let asked_ms = self.clock.now().mono_ms;
        let found = db.read(|store| store.api_keys().keys()).await?;
        let keys = &mut *self.keys.lock();
        let before = std::mem::take(&mut keys.known);
        keys.known = found.into_iter().map(|key| (key.id, Known::of(key, &before, asked_ms))).collect();
        keys.read_ms = Some(asked_ms);
        Ok(())
    }

    fn is_fresh(&self) -> bool {
        let now_ms = self.clock.now().mono_ms;
        self.keys.lock().read_ms.is_some_and(|read_ms| now_ms.saturating_sub(read_ms) < limits::API_KEYS_AGE_MS)
    }

    /// What is known is old from now on.
    fn forget(&self) {
        self.keys.lock().read_ms = None;
    }

    /// Makes a key. Its text is told this once; `None`: there are [`limits::API_KEYS_MAX`].
    ///
    /// # Errors
    /// The store's failure.
    pub async fn make(&self, db: &Db, wish: KeyWish) -> Result<Option<(ApiKey, String)>, StoreFailure> {
        let (key, text) = new_key(wish)?;
        let kept = key.clone();
        let added = db.write(move |store| store.api_keys().add_key(&kept)).await?;
        self.forget();
        Ok(added.then_some((key, text)))
    }

    /// Makes a key in the place of the one of that number, which ends at `old_ends_ms`. `None`:
    /// there is none, there are too many, or it was ended or replaced in this moment.
    ///
    /// # Errors
    /// [`NotRotated`]. Both keys are as they were then, unless the outcome is unknown.
    pub async fn rotate(&self, db: &Db, id: u32, old_ends_ms: u64) -> Result<Option<(ApiKey, String)>, NotRotated> {
        let now_ms = clock::wall_ms();
        let keys = self.all(db).await?;
        let Some(old) = keys.iter().find(|key| key.id == id && key.expires_ms >= now_ms) else { return Ok(None) };
        if old.is_replaced() {
            return Err(NotRotated::Replaced);
        }
        let (name, expires_ms) = (old.name.clone(), old.expires_ms);
        let (key, text) = new_key(KeyWish { name, scopes: old.scopes, rate: old.rate, expires_ms })?;
        let kept = key.clone();
        let made = db.write(move |store| store.api_keys().replace_key(id, old_ends_ms, &kept)).await;
        self.forget();
        Ok(made?.then_some((key, text)))
    }

    /// Lets a key end. Whether there is one of that number.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn end(&self, db: &Db, id: u32, at_ms: u64) -> Result<bool, StoreFailure> {
        let was = db.write(move |store| store.api_keys().end_key(id, at_ms)).await?;
        self.forget();
        Ok(was)
    }

    /// All keys.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn all(&self, db: &Db) -> Result<Vec<ApiKey>, StoreFailure> {
        db.read(|store| store.api_keys().keys()).await
    }
}

/// A key that nobody has yet, and its text.
fn new_key(wish: KeyWish) -> Result<(ApiKey, String), StoreFailure> {
    let shown = ShownKey::make().map_err(|_| StoreFailure::Busy)?;
    let KeyWish { name, scopes, rate, expires_ms } = wish;
    let (id, hash) = (shown.id, shown.hash());
    Ok((ApiKey { id, name, scopes, rate, hash, created_ms: clock::wall_ms(), expires_ms }, shown.text()))
}

impl Known {
    /// A key that was read; what its calls have used stays.
    fn of(key: ApiKey, before: &HashMap<u32, Self>, now_ms: u64) -> Self {
        let used = before.get(&key.id).map(|known| Arc::clone(&known.used));
        let fresh = || {
            let places = Arc::new(Semaphore::new(limits::API_CALLS_MAX));
            Arc::new(Used { calls: Mutex::new(Purse::new(now_ms)), places })
        };
        Self { name: key.name.as_str().into(), used: used.unwrap_or_else(fresh), key }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_named_in_lists() {
        assert_eq!(Scope::parse_list("send, online"), Some(Scope::Send as u32 | Scope::Online as u32));
        assert_eq!([Scope::parse_list(""), Scope::parse_list("send,all")], [None; 2]);
        let all: u32 = Scope::ALL.iter().map(|(_, scope)| *scope as u32).sum();
        assert_eq!(Scope::names(all).count(), Scope::ALL.len(), "each has a bit of its own");
        assert_eq!(Scope::parse_list(&Scope::names(all).collect::<Vec<_>>().join(",")), Some(all));
    }
}
