//! Friends and blocks.
//!
//! Never: asks the other one. A friend is accepted at once, as the originals do it; who does not
//! want that blocks.

use super::changes::HintedChange;
use super::{Services, StoreFailure, accounts};
use crate::ids::UserId;
use crate::limits;
use crate::store::worker::{Lane, LanePlace};
use crate::store::{Befriended, Friend, User};

/// Whom somebody wants for a friend.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WantedFriend {
    /// IMChat's way, and ours.
    Id(UserId),
    /// fastIM's way: the login name.
    Mobile(String),
}

/// Why two are no friends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotFriends {
    /// The user who asks.
    #[error("oneself")]
    Yourself,
    /// There is no such user.
    #[error("no such user")]
    NoSuchUser,
    /// The other one has blocked the user.
    #[error("blocked")]
    Blocked,
    /// One of the two has [`limits::FRIENDS_MAX`] friends.
    #[error("too many friends")]
    TooMany,
    /// The user has blocked [`limits::BLOCKS_MAX`] others.
    #[error("too many blocks")]
    TooManyBlocks,
    /// The user has looked up too many others.
    #[error("too many look-ups")]
    TooOften,
    /// Not the client's fault. Trying again is harmless.
    #[error(transparent)]
    Store(#[from] StoreFailure),
}

/// Makes the two friends of each other. The friend, and whether they are friends only since now.
///
/// # Errors
/// See [`NotFriends`].
pub async fn add(
    services: &Services,
    user: UserId,
    wanted: WantedFriend,
    now_ms: u64,
) -> Result<(User, bool), NotFriends> {
    let may = match &wanted {
        WantedFriend::Id(_) => services.attempts.lookup(user, 1),
        WantedFriend::Mobile(_) => services.attempts.lookup_mobile(user),
    };
    if !may {
        return Err(NotFriends::TooOften);
    }
    let friend = match wanted {
        WantedFriend::Id(id) => services.db.read(move |store| store.people().user(id)).await?,
        WantedFriend::Mobile(mobile) => accounts::by_mobile(services, &mobile).await?,
    };
    let friend = friend.ok_or(NotFriends::NoSuchUser)?;
    let other = friend.id;
    if other == user {
        return Err(NotFriends::Yourself);
    }
    match services.db.write(move |store| store.social().befriend(user, other, now_ms)).await? {
        Befriended::New => {
            services.changed(HintedChange::Friends { user, other });
            Ok((friend, true))
        }
        Befriended::Already => Ok((friend, false)),
        Befriended::NoSuchUser => Err(NotFriends::NoSuchUser),
        Befriended::Blocked => Err(NotFriends::Blocked),
        Befriended::TooMany => Err(NotFriends::TooMany),
    }
}

/// Ends a friendship, both ways. Without one nothing happens.
///
/// # Errors
/// The store's trouble.
pub async fn remove(services: &Services, user: UserId, other: UserId) -> Result<(), StoreFailure> {
    if services.db.write(move |store| store.social().unfriend(user, other)).await? {
        services.changed(HintedChange::Friends { user, other });
    }
    Ok(())
}

/// The friends of `user` after the number `after`, at most `max` of them (clamped to
/// `1..=`[`limits::HTTP_LIST_ROWS_MAX`]), and whether there are more.
///
/// # Errors
/// The store's trouble.
pub async fn of(
    services: &Services,
    user: UserId,
    after: Option<UserId>,
    max: u32,
) -> Result<(Vec<Friend>, bool), StoreFailure> {
    let max = max.clamp(1, limits::HTTP_LIST_ROWS_MAX);
    let place = LanePlace::of_user(Lane::Heavy, user);
    let found = services.db.read_in(place, move |store| store.social().friends(user, after, max + 1)).await?;
    Ok(super::page(found, max))
}

/// Makes `user` refuse the direct messages of `other`, or take them again. Friends they stay.
///
/// # Errors
/// [`NotFriends::Yourself`], [`NotFriends::NoSuchUser`], [`NotFriends::TooManyBlocks`],
/// the store's trouble.
pub async fn block(services: &Services, user: UserId, other: UserId, on: bool) -> Result<(), NotFriends> {
    if user == other {
        return Err(NotFriends::Yourself);
    }
    if on && services.db.read(move |store| store.people().user(other)).await?.is_none() {
        return Err(NotFriends::NoSuchUser);
    }
    if on {
        let blocked = services.db.read(move |store| store.social().blocked(user, None, limits::BLOCKS_MAX)).await?;
        if blocked.len() >= limits::BLOCKS_MAX as usize && blocked.iter().all(|blocked| blocked.id != other) {
            return Err(NotFriends::TooManyBlocks);
        }
    }
    if !services.db.write(move |store| store.social().block(user, other, on)).await? {
        // The user was deleted since it was let in.
        return Err(NotFriends::NoSuchUser);
    }
    services.changed(HintedChange::Blocks { user, other, on });
    Ok(())
}

/// Those whom `user` has blocked, as [`of`] lists friends.
///
/// # Errors
/// The store's trouble.
pub async fn blocked(
    services: &Services,
    user: UserId,
    after: Option<UserId>,
    max: u32,
) -> Result<(Vec<User>, bool), StoreFailure> {
    let max = max.clamp(1, limits::HTTP_LIST_ROWS_MAX);
    let place = LanePlace::of_user(Lane::Heavy, user);
    let found = services.db.read_in(place, move |store| store.social().blocked(user, after, max + 1)).await?;
    Ok(super::page(found, max))
}
