//! What an operator does to accounts: look, ban, let in again, delete.
//!
//! Owns: the deeds as they are asked for on the command line, what is shown of an account, and the
//! order in which a deletion goes.
//! Never: shows a password, a hash or a token; never removes what others have received.
//! Bounds: a deletion ends at most [`limits::GROUPS_JOINED_MAX`] memberships, one after the other.

use serde::{Deserialize, Serialize};

use super::{Services, StoreFailure, admissions};
use crate::hooks::{HookEvent, Hooks};
use crate::ids::{ConvId, GroupId, UserId, home_of, shard_of};
use crate::limits;
use crate::shard::{Answer, Notice};
use crate::store::{Backend, Error, Read, ReadAnswer, User, Write};
use crate::wire::{Line, Reject};

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deed {
    /// Nothing but to be shown.
    Show,
    /// No login and no session any more, until the ban is lifted.
    Ban,
    /// The end of a ban.
    Unban,
    /// Everything that is not in the others' histories goes; see [`crate::store::People::erase`].
    Delete,
}

/// An account, without its secrets.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AccountView {
    /// Number.
    pub id: u64,
    /// Login name; empty when deleted.
    pub mobile: String,
    /// Shown name.
    pub nickname: String,
    /// `M`, `W`, `U` or empty.
    pub sex: String,
    /// URL.
    pub avatar: String,
    /// Free text.
    pub memo: String,
    /// Unix milliseconds.
    pub created_ms: u64,
    /// Nobody gets in.
    pub banned: bool,
    /// Only the number is left.
    pub deleted: bool,
    /// Tokens of an older epoch are void.
    pub token_epoch: u32,
    /// How many friends.
    pub friends: usize,
    /// How many groups.
    pub groups: usize,
    /// What the uploads weigh.
    pub upload_bytes: u64,
}

/// How a deed ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeedOutcome {
    /// Done, or it was so before: the account as it stands now.
    Account(AccountView),
    /// There is no such user.
    NoSuchUser,
    /// Not done, or not all of it; it may be asked for again.
    Busy,
    /// Done or not done; it may be asked for again.
    Unsure,
    /// The database is broken.
    Broken,
}

/// Does it on the database itself, without a gateway that had to be told.
///
/// # Errors
/// As the database says. Whatever was begun may be asked for again.
pub fn on_database(store: &mut dyn Backend, deed: Deed, user: UserId) -> Result<Option<AccountView>, Error> {
    if !begin(store, deed, user)? {
        return Ok(None);
    }
    if deed == Deed::Delete {
        for group in memberships(store, user)? {
            store.commit(&[Write::Leave { group, user }])?;
        }
    }
    show(store, user)
}

/// Does it through a running gateway: sessions end at once, and memberships in the order of each
/// group.
pub(in crate::api) async fn on_gateway(services: &Services, deed: Deed, user: UserId) -> DeedOutcome {
    match through(services, deed, user).await {
        Ok(Some(shown)) => DeedOutcome::Account(shown),
        Ok(None) => DeedOutcome::NoSuchUser,
        Err(StoreFailure::Busy) => DeedOutcome::Busy,
        Err(StoreFailure::Unsure) => DeedOutcome::Unsure,
        Err(StoreFailure::Broken) => DeedOutcome::Broken,
    }
}

async fn through(services: &Services, deed: Deed, user: UserId) -> Result<Option<AccountView>, StoreFailure> {
    let hooks = services.hooks.clone();
    if deed != Deed::Show && !services.db.write(move |store| begin_and_tell(store, deed, user, &hooks)).await? {
        return Ok(None);
    }
    if deed != Deed::Show {
        services.followed_change();
    }
    if matches!(deed, Deed::Ban | Deed::Delete) {
        let told = services.notify(shard_of(user, services.homes.shards()), Notice::Banned { user }).await;
        if let Answer::Refused(_) = told {
            // The ban is stored, and no new session opens; that the open ones end is what was asked
            // for.
            return Err(StoreFailure::Busy);
        }
    }
    if deed == Deed::Delete {
        let groups = services.db.read(move |store| memberships(store, user)).await?;
        for id in groups {
            if !leave(services, id, user).await? {
                continue;
            }
            services.hooks.tell(HookEvent::Left { group: id, user });
            if let Some(group) = services.db.read(move |store| store.groups().group(id)).await? {
                admissions::say(services, &group, user, Line::Left { user }).await;
            }
        }
    }
    services.db.read(move |store| show(store, user)).await
}

/// Whether the user was a member.
async fn leave(services: &Services, group: GroupId, user: UserId) -> Result<bool, StoreFailure> {
    let home = home_of(ConvId::Group(group), services.homes.shards());
    match services.notify(home, Notice::Leave { group, user }).await {
        Answer::Done => {
            services.followed_change();
            Ok(true)
        }
        Answer::AsBefore | Answer::Refused(Reject::NoSuchGroup) => Ok(false),
        // `OwnerStays`: the group was handed to the user after the account was erased. To erase it
        // once more hands it on.
        Answer::Refused(Reject::Retry) | Answer::OwnerStays => Err(StoreFailure::Unsure),
        Answer::Refused(_) => Err(StoreFailure::Busy),
        Answer::Recalled { .. }
        | Answer::Posted { .. }
        | Answer::Online { .. }
        | Answer::Roster { .. }
        | Answer::Sessions(_)
        | Answer::Ended { .. } => Err(StoreFailure::Broken),
    }
}

/// The groups whose member the user is, those that have ended included: a group that the deletion
/// has ended has its last member still.
fn memberships(store: &mut dyn Backend, user: UserId) -> Result<Vec<GroupId>, Error> {
    match store.read(&[Read::Open { user }])?.pop() {
        Some(ReadAnswer::Open(state)) => Ok(state.groups.into_iter().map(|(group, _)| group).collect()),
        _ => Err(Error::Broken("a user's groups were not told".to_owned())),
    }
}

/// As [`begin`], on a thread of the store. Who is deleted by it is told of once, however often that
/// is asked for, and also when whoever has asked does not wait any more.
fn begin_and_tell(store: &mut dyn Backend, deed: Deed, user: UserId, hooks: &Hooks) -> Result<bool, Error> {
    let is_erased = |found: Option<User>| found.is_some_and(|user| user.is_erased());
    let is_news = deed == Deed::Delete && !is_erased(store.people().user(user)?);
    let done = begin(store, deed, user);
    let is_deleted = match &done {
        Ok(exists) => *exists,
        Err(Error::Unknown(_)) => is_news && store.people().user(user).is_ok_and(is_erased),
        Err(_) => false,
    };
    if is_news && is_deleted {
        hooks.tell(HookEvent::Deleted { user });
    }
    done
}

/// The part that is one transaction. Whether the user exists.
fn begin(store: &mut dyn Backend, deed: Deed, user: UserId) -> Result<bool, Error> {
    match deed {
        Deed::Show => Ok(store.people().user(user)?.is_some()),
        Deed::Ban => store.people().set_banned(user, true),
        // Who was deleted stays so.
        Deed::Unban if store.people().user(user)?.is_some_and(|user| user.is_erased()) => Ok(true),
        Deed::Unban => store.people().set_banned(user, false),
        Deed::Delete => store.people().erase(user),
    }
}

fn show(store: &mut dyn Backend, id: UserId) -> Result<Option<AccountView>, Error> {
    let Some(user) = store.people().user(id)? else { return Ok(None) };
    let deleted = user.is_erased();
    Ok(Some(AccountView {
        id: id.get(),
        mobile: if deleted { String::new() } else { user.mobile },
        nickname: user.nickname,
        sex: user.sex,
        avatar: user.avatar,
        memo: user.memo,
        created_ms: user.created_ms,
        banned: user.banned,
        deleted,
        token_epoch: user.token_epoch,
        friends: store.social().friends(id, None, limits::FRIENDS_MAX)?.len(),
        groups: store.groups().groups_of(id)?.len(),
        upload_bytes: store.files().uploaded(id)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::rig::group_of;
    use crate::store::NewUser;
    use crate::store::memory::Memory;

    fn uid(raw: u64) -> UserId {
        UserId::new(raw).expect("an id")
    }

    #[test]
    fn a_deed_may_be_asked_for_twice() {
        let memory = Memory::new();
        let store = &mut memory.connect();
        let new =
            |mobile: &str| NewUser { mobile: mobile.to_owned(), nickname: "Ann".to_owned(), ..NewUser::default() };
        for mobile in ["1", "2"] {
            store.people().create_user(&new(mobile)).expect("memory").expect("a free number");
        }
        let group = group_of(uid(1));
        let group = store.groups().create_group(&group).expect("memory").expect("made").id;
        let mut ask = |deed, user| on_database(store, deed, uid(user)).expect("memory");
        assert_eq!([Deed::Show, Deed::Ban, Deed::Unban, Deed::Delete].map(|deed| ask(deed, 9)), [const { None }; 4]);
        for _ in 0..2 {
            assert!(ask(Deed::Ban, 1).is_some_and(|ann| ann.banned && !ann.deleted && ann.mobile == "1"));
        }
        for _ in 0..2 {
            assert!(ask(Deed::Unban, 1).is_some_and(|ann| !ann.banned && ann.groups == 1));
        }
        for _ in 0..2 {
            let ann = ask(Deed::Delete, 1).expect("still there");
            assert!(ann.deleted && ann.banned && (ann.groups, ann.mobile.as_str()) == (0, ""), "{ann:?}");
        }
        assert_eq!(memory.members(group), [], "of a group that has ended with her, too");
        assert!(ask(Deed::Unban, 1).is_some_and(|ann| ann.banned), "a deleted account does not come back");
        assert!(ask(Deed::Show, 2).is_some_and(|bob| bob.nickname == "Ann"));
    }
}
