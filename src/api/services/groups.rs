//! Groups: making, joining, listing.
//!
//! Never: writes a membership around the group's home. Only there has it a place in the order of the messages (design,
//! promise 6), and only the home tells the sessions.

use super::accounts::{Field, within};
use super::{Services, Trouble};
use crate::ids::{ConvId, GroupId, UserId, home_of};
use crate::limits;
use crate::shard::{Answer, Notice};
use crate::store::{Group, NewGroup};
use crate::wire::Reject;

/// What the maker of a group says.
#[derive(Clone, Default, Debug)]
pub struct Wish {
    /// Shown name.
    pub name: String,
    /// URL.
    pub icon: String,
    /// Category.
    pub cate: i64,
    /// Description.
    pub memo: String,
}

/// Why a group is not made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotCreated {
    /// Without a name.
    #[error("no name")]
    Nameless,
    /// A field exceeds its column.
    #[error("too long")]
    TooLong(Field),
    /// The owner has [`limits::GROUPS_OWNED_MAX`] already.
    #[error("too many groups")]
    TooMany,
    /// Not the client's fault.
    #[error(transparent)]
    Trouble(#[from] Trouble),
}

/// Which group somebody wants to join.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// IMChat's way.
    Id(GroupId),
    /// fastIM's way: the oldest group of that name.
    Name(String),
}

/// Why somebody is not made a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotJoined {
    /// No such group.
    #[error("no such group")]
    NoSuchGroup,
    /// The home refused for another reason.
    #[error("refused")]
    Refused(Reject),
    /// Not the client's fault. [`Trouble::Unsure`]: joining again is harmless.
    #[error(transparent)]
    Trouble(#[from] Trouble),
}

/// Makes a group of which `owner` is the first member, and waits until the owner's live sessions receive from it.
///
/// # Errors
/// See [`NotCreated`]. When only the news to the sessions fails, the group is made all the same: a session that opens
/// later reads it from the store.
pub async fn create(services: &Services, owner: UserId, wish: Wish, now_ms: u64) -> Result<Group, NotCreated> {
    check(&wish)?;
    let group = NewGroup {
        name: wish.name.trim().to_owned(),
        owner,
        icon: wish.icon,
        cate: wish.cate,
        memo: wish.memo,
        created_ms: now_ms,
        owned_max: limits::GROUPS_OWNED_MAX,
    };
    let group = services.db.write(move |store| store.create_group(&group)).await?.ok_or(NotCreated::TooMany)?;
    if let Answer::Refused(why) = enter(services, group.id, owner).await {
        tracing::warn!(group = %group.id, why = why.label(), "the owner's sessions were not told of a new group");
    }
    Ok(group)
}

/// Whether a group may be made of `wish`, as far as that can be said without the store.
///
/// # Errors
/// [`NotCreated::Nameless`], [`NotCreated::TooLong`].
pub fn check(wish: &Wish) -> Result<(), NotCreated> {
    if wish.name.trim().is_empty() {
        return Err(NotCreated::Nameless);
    }
    within(wish.name.trim(), limits::GROUP_NAME_CHARS_MAX, Field::GroupName)
        .and_then(|()| within(&wish.icon, limits::ICON_CHARS_MAX, Field::Icon))
        .and_then(|()| within(&wish.memo, limits::GROUP_MEMO_CHARS_MAX, Field::Memo))
        .map_err(NotCreated::TooLong)
}

/// Makes `user` a member, and answers when the home has stored it and the user's shard knows. Being one is success.
///
/// # Errors
/// See [`NotJoined`].
pub async fn join(services: &Services, user: UserId, wanted: Wanted) -> Result<GroupId, NotJoined> {
    let group = match wanted {
        Wanted::Id(id) => id,
        Wanted::Name(name) => {
            let found = services.db.read(move |store| store.group_by_name(name.trim())).await?;
            found.ok_or(NotJoined::NoSuchGroup)?.id
        }
    };
    match enter(services, group, user).await {
        Answer::Done => Ok(group),
        Answer::Refused(Reject::NoSuchGroup) => Err(NotJoined::NoSuchGroup),
        Answer::Refused(Reject::Busy | Reject::Stopping) => Err(Trouble::Busy.into()),
        Answer::Refused(Reject::Retry) => Err(Trouble::Unsure.into()),
        Answer::Refused(why) => Err(NotJoined::Refused(why)),
    }
}

/// The groups of `user` in order of their numbers, each with the number of its members.
///
/// # Errors
/// The store's trouble.
pub async fn of(services: &Services, user: UserId) -> Result<Vec<(Group, u64)>, Trouble> {
    services.db.read(move |store| store.groups_of(user)).await
}

async fn enter(services: &Services, group: GroupId, user: UserId) -> Answer {
    let home = home_of(ConvId::Group(group), services.homes.shards());
    services.notify(home, Notice::Join { group, user }).await
}
