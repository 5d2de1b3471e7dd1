//! Groups: making, joining, listing, and what owners do with them.
//!
//! Never: writes a membership around the group's home. Only there has it a place in the order of
//! the messages, and only the home tells the sessions.

use std::sync::Arc;

use super::accounts::{OverlongField, within};
use super::changes::HintedChange;
use super::{Services, StoreFailure, admissions, identities};
use crate::hooks::HookEvent;
use crate::ids::{ConvId, GroupId, UserId, home_of};
use crate::limits;
use crate::shard::{Answer, Notice};
use crate::store::worker::{Lane, LanePlace};
use crate::store::{Asked, Group, GroupChange, NewGroup, Regrouped, Role, Rule, Standing, User};
use crate::wire::{Line, Reject};

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
    /// Who gets in by asking.
    pub rule: Rule,
}

/// Why a group is not made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotCreated {
    /// Without a name.
    #[error("no name")]
    Nameless,
    /// A field exceeds its column.
    #[error("too long")]
    TooLong(OverlongField),
    /// The owner has [`limits::GROUPS_OWNED_MAX`] already.
    #[error("too many groups")]
    TooMany,
    /// One of those who were to be in it from the beginning is no friend of the owner, or has
    /// blocked the user; or they are too many.
    #[error("not a friend")]
    NotFriends,
    /// Not the client's fault.
    #[error(transparent)]
    Store(#[from] StoreFailure),
}

/// Which group somebody wants to join.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WantedGroup {
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
    /// An admin is asked first; so it was noted.
    #[error("asked to be let in")]
    Asked,
    /// Too many such requests are unanswered.
    #[error("too many requests")]
    TooManyAsked,
    /// The home refused for another reason.
    #[error("refused")]
    Refused(Reject),
    /// Not the client's fault. [`StoreFailure::Unsure`]: joining again is harmless.
    #[error(transparent)]
    Store(#[from] StoreFailure),
}

/// Makes a group of which `owner` is the first member, and waits until the owner's live sessions
/// receive from it.
///
/// # Errors
/// See [`NotCreated`]. When only the news to the sessions fails, the group is made all the
/// same: a session that opens later reads it from the store.
pub async fn create(services: &Services, owner: UserId, wish: Wish, now_ms: u64) -> Result<Group, NotCreated> {
    check(&wish)?;
    let group = NewGroup {
        name: shown_name(&wish.name),
        owner,
        icon: wish.icon,
        cate: wish.cate,
        memo: wish.memo,
        created_ms: now_ms,
        owned_max: limits::GROUPS_OWNED_MAX,
        wanted: None,
        rule: wish.rule,
    };
    let group =
        services.db.write(move |store| store.groups().create_group(&group)).await?.ok_or(NotCreated::TooMany)?;
    if let Answer::Refused(why) = enter(services, group.id, owner).await {
        services.not_told("a new group of an owner", why);
    }
    services.changed(HintedChange::Membership { group: group.id, user: owner });
    services.hooks.tell(HookEvent::Joined { group: group.id, user: owner });
    Ok(group)
}

/// As [`create`], with friends of the owner as its first members. The group with the number of its
/// members.
///
/// # Errors
/// See [`NotCreated`]. A friend who cannot be added although it is one (in too many
/// groups) is left out.
pub async fn create_with(
    services: &Services,
    owner: UserId,
    wish: Wish,
    friends: Vec<UserId>,
    now_ms: u64,
) -> Result<(Group, u64), NotCreated> {
    check(&wish)?;
    let friends = admissions::friends_among(services, owner, friends).await?.ok_or(NotCreated::NotFriends)?;
    let group = create(services, owner, wish, now_ms).await?;
    let mut members = 1;
    for friend in friends {
        match admissions::let_in(services, &group, owner, friend).await {
            Ok(()) => members += 1,
            Err(why) => tracing::debug!(group = %group.id, %why, "a friend was left out of a new group"),
        }
    }
    Ok((group, members))
}

/// The normal form of a group's name; empty when nothing of it can be seen, or when there are
/// control characters in it: a name is shown as it was given or refused.
fn shown_name(name: &str) -> String {
    if name.chars().any(|c| c.is_control() && !c.is_whitespace()) {
        return String::new();
    }
    identities::name(name).unwrap_or_default()
}

/// Whether a group may be made of `wish`, as far as that can be said without the store.
///
/// # Errors
/// [`NotCreated::Nameless`], [`NotCreated::TooLong`].
pub fn check(wish: &Wish) -> Result<(), NotCreated> {
    let name = shown_name(&wish.name);
    if name.is_empty() {
        return Err(NotCreated::Nameless);
    }
    within(&name, limits::GROUP_NAME_CHARS_MAX, OverlongField::GroupName)
        .and_then(|()| within(&wish.icon, limits::ICON_CHARS_MAX, OverlongField::Icon))
        .and_then(|()| within(&wish.memo, limits::GROUP_MEMO_CHARS_MAX, OverlongField::Memo))
        .map_err(NotCreated::TooLong)
}

/// Makes `user` a member if the group's rule lets everybody in, and answers when the home has
/// stored it and the user's shard knows. Being one is success.
///
/// # Errors
/// See [`NotJoined`].
pub async fn join(services: &Services, user: UserId, wanted: WantedGroup, now_ms: u64) -> Result<GroupId, NotJoined> {
    let group = match wanted {
        WantedGroup::Id(id) => id,
        WantedGroup::Name(name) => {
            let found = services.db.read(move |store| store.groups().group_by_name(name.trim())).await?;
            found.ok_or(NotJoined::NoSuchGroup)?.id
        }
    };
    let found = services.db.read(move |store| store.admissions().standing(group, user)).await?;
    let found = found.ok_or(NotJoined::NoSuchGroup)?;
    let rule = if found.role.is_some() { Rule::Plain } else { found.group.rule };
    match rule {
        Rule::Plain | Rule::Open => admissions::let_in(services, &found.group, user, user).await?,
        Rule::Approval => return Err(ask(services, found, user, now_ms).await?),
        Rule::Invitation => return Err(NotJoined::NoSuchGroup),
    }
    Ok(group)
}

/// Notes that `user` wants to be let in, and tells who may do it. What the user is told.
async fn ask(services: &Services, found: Standing, user: UserId, now_ms: u64) -> Result<NotJoined, StoreFailure> {
    let group = found.group.id;
    let (asked, admins) = services
        .db
        .write(move |store| Ok((store.admissions().ask(group, user, now_ms)?, store.admissions().admins(group)?)))
        .await?;
    match asked {
        Asked::Standing => {}
        Asked::TooMany => return Ok(NotJoined::TooManyAsked),
        Asked::NoSuchUser => return Ok(NotJoined::Refused(Reject::NoSuchUser)),
        Asked::NoSuchGroup => return Ok(NotJoined::NoSuchGroup),
    }
    for admin in admins.into_iter().chain([found.group.owner]) {
        services.changed(HintedChange::Requests { group, admin });
    }
    Ok(NotJoined::Asked)
}

/// The groups of `user` after the number `after`, each with the number of its members, at most
/// `max` of them (clamped to `1..=`[`limits::HTTP_LIST_ROWS_MAX`]), and whether there are more.
///
/// # Errors
/// The store's trouble.
pub async fn of(
    services: &Services,
    user: UserId,
    after: Option<GroupId>,
    max: u32,
) -> Result<(Vec<(Group, u64)>, bool), StoreFailure> {
    let max = max.clamp(1, limits::HTTP_LIST_ROWS_MAX);
    let place = LanePlace::of_user(Lane::Heavy, user);
    let found = services.db.read_in(place, move |store| {
        let groups = store.groups().groups_of(user)?.into_iter().filter(|(group, _)| Some(group.id) > after);
        Ok(groups.take(max as usize + 1).collect())
    });
    Ok(super::page(found.await?, max))
}

/// Why a group stays as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotDone {
    /// No such group.
    #[error("no such group")]
    NoSuchGroup,
    /// Only its owner may.
    #[error("not the owner")]
    NotOwner,
    /// Only its owner and its admins may.
    #[error("not an admin")]
    NotAdmin,
    /// Only its members may.
    #[error("not a member")]
    NotMember,
    /// The owner cannot leave: the group would have nobody who cares for it. It can be dissolved.
    #[error("the owner cannot leave")]
    OwnerLeaves,
    /// No name, or a field that exceeds its column.
    #[error("bad field")]
    Bad(NotCreated),
    /// Not the client's fault. Trying again is harmless.
    #[error(transparent)]
    Store(#[from] StoreFailure),
}

/// A group as `reader` stands to it: for its members, for those who were, and for anybody who may
/// join it or ask to.
///
/// # Errors
/// [`NotDone::NoSuchGroup`], also for whoever has nothing to do with a group by
/// invitation; the store's trouble.
pub async fn card(services: &Services, reader: UserId, group: GroupId) -> Result<Standing, NotDone> {
    let found = services.db.read(move |store| store.admissions().standing(group, reader)).await?;
    let found = found.filter(|found| found.role.is_some() || found.was_member || found.group.rule != Rule::Invitation);
    found.ok_or(NotDone::NoSuchGroup)
}

/// As [`card`], for a member whose role is `least` or more.
///
/// # Errors
/// See [`NotDone`].
pub(super) async fn of_role(
    services: &Services,
    actor: UserId,
    group: GroupId,
    least: Role,
) -> Result<Standing, NotDone> {
    let found = card(services, actor, group).await?;
    match found.role {
        None => Err(NotDone::NotMember),
        Some(role) if role >= least => Ok(found),
        Some(_) if least == Role::Owner => Err(NotDone::NotOwner),
        Some(_) => Err(NotDone::NotAdmin),
    }
}

/// The oldest groups of that name, at most [`limits::GROUPS_FOUND_MAX`].
///
/// # Errors
/// The store's trouble.
pub async fn named(services: &Services, name: String) -> Result<Vec<(Group, u64)>, StoreFailure> {
    services
        .db
        .read_in(LanePlace::of(Lane::Heavy), move |store| {
            store.groups().groups_named(name.trim(), limits::GROUPS_FOUND_MAX)
        })
        .await
}

/// The members of a group after the number `after`, at most `max` of them (clamped to
/// `1..=`[`limits::USERS_LISTED_MAX`]), and whether there are more. For members only.
///
/// # Errors
/// See [`NotDone`].
pub async fn members(
    services: &Services,
    reader: UserId,
    group: GroupId,
    after: Option<UserId>,
    max: u32,
) -> Result<(Vec<(User, Role)>, bool), NotDone> {
    let max = max.clamp(1, limits::USERS_LISTED_MAX);
    let standing = of_role(services, reader, group, Role::Member).await?;
    let owner = standing.group.owner;
    let found = services.db.read_in(LanePlace::of_user(Lane::Heavy, reader), move |store| {
        let admins = store.admissions().admins(group)?;
        let role = |user: &User| match user.id {
            id if id == owner => Role::Owner,
            id if admins.contains(&id) => Role::Admin,
            _ => Role::Member,
        };
        let members = store.groups().members(group, after, max + 1)?;
        Ok(members.into_iter().map(|user| (role(&user), user)).map(|(role, user)| (user, role)).collect())
    });
    Ok(super::page(found.await?, max))
}

/// Changes name, icon or description, or, its owner only, who gets in; what `change` does not name
/// stays.
///
/// # Errors
/// See [`NotDone`].
pub async fn update(
    services: &Services,
    actor: UserId,
    group: GroupId,
    mut change: GroupChange,
) -> Result<Standing, NotDone> {
    change.name = change.name.map(|name| shown_name(&name));
    let wish = Wish {
        name: change.name.clone().unwrap_or_else(|| "unchanged".to_owned()),
        icon: change.icon.clone().unwrap_or_default(),
        memo: change.memo.clone().unwrap_or_default(),
        cate: 0,
        rule: Rule::default(),
    };
    check(&wish).map_err(NotDone::Bad)?;
    let of_owner = change.rule.is_some() || change.members_add.is_some();
    let least = if of_owner { Role::Owner } else { Role::Admin };
    let owner = of_role(services, actor, group, least).await?.group.owner;
    let changed = services.db.write(move |store| store.groups().update_group(group, owner, &change)).await?;
    let Regrouped { group: changed, renamed } = changed.ok_or(NotDone::NoSuchGroup)?;
    services.changed(HintedChange::Group { group });
    if renamed {
        admissions::say(services, &changed, actor, Line::Renamed { name: &changed.name }).await;
    }
    card(services, actor, group).await
}

/// Ends the membership of `user`: the user's own wish, the owner's, or an admin's of who is none.
/// Not being a member is success.
///
/// # Errors
/// See [`NotDone`].
pub async fn remove(services: &Services, actor: UserId, group: GroupId, user: UserId) -> Result<(), NotDone> {
    let found = if actor == user {
        card(services, actor, group).await?
    } else {
        let found = of_role(services, actor, group, Role::Admin).await?;
        let of = services.db.read(move |store| store.admissions().standing(group, user)).await?;
        if of.is_some_and(|of| of.role >= Some(Role::Admin)) && found.role != Some(Role::Owner) {
            return Err(NotDone::NotOwner);
        }
        found
    };
    if user == found.group.owner {
        return Err(NotDone::OwnerLeaves);
    }
    let home = home_of(ConvId::Group(group), services.homes.shards());
    match services.notify(home, Notice::Leave { group, user }).await {
        Answer::Done => {
            services.changed(HintedChange::Membership { group, user });
            services.hooks.tell(HookEvent::Left { group, user });
            let line = if actor == user { Line::Left { user } } else { Line::Removed { user } };
            admissions::say(services, &found.group, actor, line).await;
            Ok(())
        }
        Answer::AsBefore => {
            services.changed(HintedChange::Membership { group, user });
            Ok(())
        }
        Answer::OwnerStays => Err(NotDone::OwnerLeaves),
        Answer::Refused(Reject::NoSuchGroup) => Err(NotDone::NoSuchGroup),
        Answer::Refused(Reject::Retry) => Err(StoreFailure::Unsure.into()),
        Answer::Refused(_) => Err(StoreFailure::Busy.into()),
        Answer::Recalled { .. }
        | Answer::Posted { .. }
        | Answer::Online { .. }
        | Answer::Roster { .. }
        | Answer::Sessions(_)
        | Answer::Ended { .. } => Err(StoreFailure::Broken.into()),
    }
}

/// Dissolves a group: at once nobody posts to it, joins it, reads it or finds it; then every
/// membership ends at its home, so that live sessions lose it. Goes on when the client goes away.
/// When a home cannot be told, doing it again ends the rest.
///
/// # Errors
/// See [`NotDone`].
pub async fn dissolve(services: &Arc<Services>, actor: UserId, group: GroupId) -> Result<(), NotDone> {
    if !services.db.write(move |store| store.groups().dissolve(group, actor)).await? {
        // Another user's, or none: the read tells.
        of_role(services, actor, group, Role::Owner).await?;
        return Err(NotDone::NoSuchGroup);
    }
    let services = Arc::clone(services);
    tokio::spawn(async move { end_memberships(&services, group).await }).await.unwrap_or(Err(StoreFailure::Unsure))?;
    Ok(())
}

async fn end_memberships(services: &Services, group: GroupId) -> Result<(), StoreFailure> {
    let home = home_of(ConvId::Group(group), services.homes.shards());
    loop {
        // Who has left is not in the next list. With no progress the first error ends it.
        let step = limits::DISSOLVE_STEP_MAX;
        let members = services.db.read(move |store| store.groups().members(group, None, step)).await?;
        if members.is_empty() {
            return Ok(());
        }
        let wanted = members.len();
        let ask = |user| services.send(home, Notice::Leave { group, user }).ok().map(|told| (user, told));
        let under_way: Vec<_> = members.into_iter().map_while(|member| ask(member.id)).collect();
        let mut outcome = if under_way.len() < wanted { Err(StoreFailure::Busy) } else { Ok(()) };
        // All are heard out, whatever one of them says: whoever has left is told of here or never.
        for (user, told) in under_way {
            match Services::told(told).await {
                Answer::Done => services.hooks.tell(HookEvent::Left { group, user }),
                Answer::AsBefore => {}
                _ => {
                    outcome = Err(StoreFailure::Unsure);
                    continue;
                }
            }
            services.changed(HintedChange::Membership { group, user });
        }
        outcome?;
    }
}

/// Has the home of the group store the membership and tell the user's shard.
pub(super) async fn enter(services: &Services, group: GroupId, user: UserId) -> Answer {
    let home = home_of(ConvId::Group(group), services.homes.shards());
    services.notify(home, Notice::Join { group, user }).await
}
