//! Who gets into a group: adding friends, links, requests, roles.
//!
//! Never: writes a membership around the group's home.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::changes::HintedChange;
use super::groups::{NotDone, NotJoined, enter, of_role};
use super::{Services, StoreFailure};
use crate::hooks::HookEvent;
use crate::ids::{ConvId, GroupId, UserId, home_of};
use crate::limits;
use crate::shard::{Answer, Notice};
use crate::store::{Backend, Error, Group, Role, Rule, User};
use crate::wire::{Line, Reject};

/// Why somebody is not added.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotAdded {
    /// No friend of who adds, and has not asked to be let in.
    #[error("not a friend")]
    NotFriend,
    /// Has blocked who adds.
    #[error("blocked")]
    Blocked,
    /// Who adds may not.
    #[error(transparent)]
    NotDone(#[from] NotDone),
    /// The group is not joined.
    #[error(transparent)]
    NotJoined(#[from] NotJoined),
}

impl From<StoreFailure> for NotAdded {
    fn from(why: StoreFailure) -> Self {
        Self::NotDone(why.into())
    }
}

/// Makes `user` a member of a group whose rule has been looked at, by `actor`'s doing. Being one is
/// success.
///
/// # Errors
/// See [`NotJoined`].
pub(super) async fn let_in(services: &Services, group: &Group, actor: UserId, user: UserId) -> Result<(), NotJoined> {
    let id = group.id;
    let is_new = match enter(services, id, user).await {
        Answer::Done => true,
        Answer::AsBefore => false,
        Answer::Refused(Reject::NoSuchGroup) => return Err(NotJoined::NoSuchGroup),
        Answer::Refused(Reject::Busy | Reject::Stopping) => return Err(StoreFailure::Busy.into()),
        Answer::Refused(Reject::Retry) => return Err(StoreFailure::Unsure.into()),
        Answer::Refused(why) => return Err(NotJoined::Refused(why)),
        Answer::Recalled { .. }
        | Answer::Posted { .. }
        | Answer::Online { .. }
        | Answer::Roster { .. }
        | Answer::Sessions(_)
        | Answer::Ended { .. }
        | Answer::OwnerStays => {
            return Err(StoreFailure::Broken.into());
        }
    };
    services.changed(HintedChange::Membership { group: id, user });
    if is_new {
        services.hooks.tell(HookEvent::Joined { group: id, user });
        say(services, group, actor, Line::Joined { user }).await;
    }
    Ok(())
}

/// Says in the group what `actor` has done. A line that is lost changes nothing but what is read
/// there.
pub(super) async fn say(services: &Services, group: &Group, actor: UserId, line: Line<'_>) {
    if group.rule == Rule::Plain || !services.attempts.group_line(actor) {
        return;
    }
    let home = home_of(ConvId::Group(group.id), services.homes.shards());
    let notice = Notice::Line { user: actor, group: group.id, body: line.body() };
    if let Answer::Refused(why) = services.notify(home, notice).await {
        services.not_told("what happened in a group", why);
    }
}

/// `others`, each once, if all of them are friends of `user` who have not blocked that user, and
/// few enough.
///
/// # Errors
/// The store's failure.
pub(super) async fn friends_among(
    services: &Services,
    user: UserId,
    mut others: Vec<UserId>,
) -> Result<Option<Vec<UserId>>, StoreFailure> {
    others.retain(|other| *other != user);
    others.sort_unstable();
    others.dedup();
    if others.len() > limits::GROUP_ADDED_MAX {
        return Ok(None);
    }
    let asked = others.clone();
    let fine = services.db.read(move |store| {
        for other in asked {
            if of_friend(store, user, other)?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    });
    Ok(fine.await?.then_some(others))
}

/// What keeps `other` from being added by `user`; `None`: nothing, it is a friend.
fn of_friend(store: &mut dyn Backend, user: UserId, other: UserId) -> Result<Option<NotAdded>, Error> {
    let before = UserId::new(other.get() - 1);
    let is_friend = store.social().friends(user, before, 1)?.first().is_some_and(|friend| friend.user.id == other);
    if !is_friend {
        return Ok(Some(NotAdded::NotFriend));
    }
    let before = UserId::new(user.get() - 1);
    let is_blocked = store.social().blocked(other, before, 1)?.first().is_some_and(|blocked| blocked.id == user);
    Ok(is_blocked.then_some(NotAdded::Blocked))
}

/// Adds `user` to a group: a friend, as far as the group's rule lets `actor` add somebody; or one
/// who has asked to be let in, an admin only. Being a member is success.
///
/// # Errors
/// See [`NotAdded`].
pub async fn add(services: &Services, actor: UserId, group: GroupId, user: UserId) -> Result<(), NotAdded> {
    let standing = of_role(services, actor, group, Role::Member).await?;
    let is_admin = standing.role >= Some(Role::Admin);
    if !is_admin && !standing.group.members_add {
        return Err(NotDone::NotAdmin.into());
    }
    let hindered = services.db.read(move |store| {
        let of = store.admissions().standing(group, user)?;
        if of.as_ref().is_some_and(|of| of.role.is_some() || (is_admin && of.asked)) {
            return Ok(None);
        }
        of_friend(store, actor, user)
    });
    match hindered.await? {
        Some(why) => Err(why),
        None => Ok(let_in(services, &standing.group, actor, user).await?),
    }
}

/// Those who ask to be let into a group, after the number `after`, at most `max` of them (clamped
/// to `1..=`[`limits::USERS_LISTED_MAX`]), and whether there are more. For its admins.
///
/// # Errors
/// See [`NotDone`].
pub async fn requests(
    services: &Services,
    actor: UserId,
    group: GroupId,
    after: Option<UserId>,
    max: u32,
) -> Result<(Vec<User>, bool), NotDone> {
    of_role(services, actor, group, Role::Admin).await?;
    let max = max.clamp(1, limits::USERS_LISTED_MAX);
    let found = services.db.read(move |store| store.admissions().requests(group, after, max + 1)).await?;
    Ok(super::page(found, max))
}

/// Forgets a request: an admin does not let `user` in, or the user takes it back. There being none
/// is success.
///
/// # Errors
/// See [`NotDone`].
pub async fn forget_request(services: &Services, actor: UserId, group: GroupId, user: UserId) -> Result<(), NotDone> {
    if actor != user {
        of_role(services, actor, group, Role::Admin).await?;
    }
    if services.db.write(move |store| store.admissions().forget_request(group, user)).await? {
        services.changed(HintedChange::Requests { group, admin: user });
    }
    Ok(())
}

/// Why a role stays as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoRole {
    /// Whose role it would be is no member, or the group has [`limits::GROUP_ADMINS_MAX`] admins.
    #[error("no member, or too many admins")]
    Refused,
    /// Who gives it may not.
    #[error(transparent)]
    NotDone(#[from] NotDone),
}

/// Gives a member a role. The owner only, whose own role changes only by making another member the
/// owner.
///
/// # Errors
/// See [`NoRole`].
pub async fn set_role(
    services: &Services,
    actor: UserId,
    group: GroupId,
    user: UserId,
    role: Role,
) -> Result<(), NoRole> {
    of_role(services, actor, group, Role::Owner).await?;
    if user == actor {
        return if role == Role::Owner { Ok(()) } else { Err(NotDone::OwnerLeaves.into()) };
    }
    let set = services.db.write(move |store| store.admissions().set_role(group, actor, user, role));
    if !set.await.map_err(NotDone::from)? {
        return Err(NoRole::Refused);
    }
    services.changed(HintedChange::Group { group });
    Ok(())
}

/// The secret of the group's link, if there is one; for admins, and for members if they may add
/// friends.
///
/// # Errors
/// See [`NotDone`].
pub async fn invite(services: &Services, actor: UserId, group: GroupId) -> Result<Option<String>, NotDone> {
    let standing = of_role(services, actor, group, Role::Member).await?;
    if standing.role < Some(Role::Admin) && !standing.group.members_add {
        return Err(NotDone::NotAdmin);
    }
    Ok(services.db.read(move |store| store.admissions().invite(group)).await?)
}

/// Makes a new link to the group, or none; an earlier one leads nowhere from now on. Its secret.
///
/// # Errors
/// See [`NotDone`].
pub async fn set_invite(
    services: &Services,
    actor: UserId,
    group: GroupId,
    on: bool,
) -> Result<Option<String>, NotDone> {
    of_role(services, actor, group, Role::Admin).await?;
    let secret = if on { Some(new_secret()?) } else { None };
    let kept = secret.clone();
    services.db.write(move |store| store.admissions().set_invite(group, kept.as_deref())).await?;
    Ok(secret)
}

fn new_secret() -> Result<String, StoreFailure> {
    let mut bytes = [0; limits::INVITE_BYTES];
    getrandom::fill(&mut bytes).map_err(|_| StoreFailure::Busy)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// The group to which a link leads, with the number of its members.
///
/// # Errors
/// [`NotDone::NoSuchGroup`]: it leads nowhere.
pub async fn invited(services: &Services, secret: String) -> Result<(Group, u64), NotDone> {
    services.db.read(move |store| store.admissions().invited(&secret)).await?.ok_or(NotDone::NoSuchGroup)
}

/// Joins the group to which a link leads, whatever its rule.
///
/// # Errors
/// See [`NotJoined`].
pub async fn join_by(services: &Services, user: UserId, secret: String) -> Result<GroupId, NotJoined> {
    let found = services.db.read(move |store| store.admissions().invited(&secret)).await?;
    let (group, _) = found.ok_or(NotJoined::NoSuchGroup)?;
    let_in(services, &group, user, user).await?;
    Ok(group.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Seed;
    use crate::store::memory::Memory;

    /// Of whom a user is blocked by, a session knows no more than so many.
    #[test]
    fn one_of_very_many_who_block_a_user_is_not_added_by_it() {
        let memory = Memory::new();
        let store = &mut memory.connect();
        let last = u64::from(limits::BLOCKS_MAX) + 2;
        store.seed(&Seed { users: last, groups: 0, group_size: 0, created_ms: 0 }).expect("memory");
        let uid = |raw| UserId::new(raw).expect("an id");
        store.social().befriend(uid(1), uid(last), 0).expect("memory");
        assert_eq!(of_friend(store, uid(1), uid(last)), Ok(None));
        assert_eq!(of_friend(store, uid(1), uid(2)), Ok(Some(NotAdded::NotFriend)));
        for other in 2..=last {
            store.social().block(uid(other), uid(1), true).expect("memory");
        }
        assert_eq!(of_friend(store, uid(1), uid(last)), Ok(Some(NotAdded::Blocked)));
    }
}
