//! What backends do: speak as the system or as users, make users, ask who is online, end sessions,
//! put people into groups, export what is kept about somebody.
//!
//! Never: asks who may; a key says that. What the rules of users are for (friends, invitations,
//! paces) does not bind a backend; what keeps data whole (blocks, bounds of fields, owners of
//! groups) does.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::accounts::{self, NotRegistered, OverlongField, Registration};
use super::groups::{NotDone, NotJoined};
use super::passwords::Turn;
use super::{Services, StoreFailure, admissions, identities, subjects};
use crate::hooks::HookEvent;
use crate::ids::{ConvId, GroupId, ShardId, UserId, shard_of};
use crate::limits;
use crate::shard::{Answer, Notice, ONLINE_USERS_MAX, Way};
use crate::store::worker::{Lane, LanePlace};
use crate::store::{
    Friend, Group, Heads, LoginInfo, NewUser, Page, PageStart, Read, ReadAnswer, Standing, User, judge_unstored,
};
use crate::wire::packet::Stored;
use crate::wire::{Post, Reject, Target};

/// A message that a backend sends.
#[derive(Clone, PartialEq, Debug)]
pub struct Sending {
    /// Its author.
    pub from: UserId,
    /// Where to, under which `cid`, and what.
    pub post: Post,
    /// How it is treated.
    pub way: Way,
    /// A group takes it whoever its author is.
    pub as_server: bool,
}

/// What became of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// `None`: it was not to be stored.
    pub stored: Option<Stored>,
    /// Unix milliseconds.
    pub ts_ms: u64,
    /// It was there already.
    pub dup: bool,
}

/// Sends messages, some at once; those to one conversation by one author keep their order. The
/// results stand in the order of the messages.
pub async fn send(services: &Services, sendings: Vec<Sending>) -> Vec<Result<Sent, Reject>> {
    let mut results = Vec::with_capacity(sendings.len());
    let mut rest = sendings.into_iter().peekable();
    while rest.peek().is_some() {
        let some: Vec<Sending> = rest.by_ref().take(limits::API_POSTS_AT_ONCE).collect();
        let verdicts = judge(services, &some).await;
        let under_way: Vec<_> = std::iter::zip(some, verdicts)
            .map(|(sending, verdict)| {
                verdict?;
                let shard = shard_of(sending.from, services.homes.shards());
                services.send(shard, notice(sending)).map_err(|_| Reject::Busy)
            })
            .collect();
        for told in under_way {
            let answer = match told {
                Ok(told) => Services::told(told).await,
                Err(why) => Answer::Refused(why),
            };
            results.push(match answer {
                Answer::Posted { stored, ts_ms, dup } => Ok(Sent { stored, ts_ms, dup }),
                Answer::Refused(why) => Err(why),
                _ => Err(Reject::Retry),
            });
        }
    }
    results
}

/// What is stored is judged as it is stored; what is not is asked for here.
async fn judge(services: &Services, sendings: &[Sending]) -> Vec<Result<(), Reject>> {
    let is_kept = |sending: &Sending| !services.volatile && sending.way != Way::Fleeting;
    let asked: Vec<Option<(ConvId, UserId, bool)>> = sendings
        .iter()
        .map(|sending| match sending.post.to {
            _ if is_kept(sending) => None,
            // Everybody may speak in the room.
            Target::Group(GroupId::ROOM) => None,
            Target::Group(group) => Some((ConvId::Group(group), sending.from, sending.as_server)),
            Target::User(other) => Some((ConvId::direct(sending.from, other), sending.from, false)),
        })
        .collect();
    if asked.iter().all(Option::is_none) {
        return vec![Ok(()); sendings.len()];
    }
    let judged = services.db.read(move |store| {
        let one = |asked: Option<(ConvId, UserId, bool)>| match asked {
            Some((conv, sender, as_server)) => judge_unstored(store, conv, sender, as_server),
            None => Ok(Ok(())),
        };
        asked.into_iter().map(one).collect::<Result<Vec<_>, _>>()
    });
    match judged.await {
        Ok(verdicts) => verdicts.into_iter().map(|verdict| verdict.map_err(Reject::from)).collect(),
        Err(_) => vec![Err(Reject::Busy); sendings.len()],
    }
}

fn notice(sending: Sending) -> Notice {
    let Sending { from: user, post: Post { to, cid, body }, way, .. } = sending;
    Notice::Post { user, to, cid, body, way }
}

/// Says something to every session, also those on other gateways; it is stored nowhere, and nobody
/// knows it again. So shards that are busy while others have taken it are asked again, they alone,
/// as often as there are `tries`, which all announcements of a call share.
///
/// # Errors
/// [`Reject::Busy`] or [`Reject::Stopping`]: no shard has taken it; [`Reject::Retry`]: some may
/// have.
pub async fn announce(
    services: &Services,
    from: UserId,
    body: &Arc<str>,
    ts_ms: u64,
    tries: &mut u32,
) -> Result<(), Reject> {
    let mut asked: Vec<ShardId> = (0..services.homes.shards()).map(ShardId).collect();
    let (mut is_said, mut refusal) = (false, None);
    loop {
        let notice = || Notice::Announce { user: from, body: Arc::clone(body), ts_ms };
        let under_way: Vec<_> = asked.drain(..).map(|shard| (shard, services.send(shard, notice()))).collect();
        for (shard, told) in under_way {
            let answer = match told {
                Ok(told) => Services::told(told).await,
                Err(_) => Answer::Refused(Reject::Busy),
            };
            match answer {
                Answer::Refused(Reject::Busy) => asked.push(shard),
                Answer::Refused(why) => {
                    // A shard that did not answer in time may have taken it.
                    is_said |= why == Reject::Retry;
                    refusal = Some(why);
                }
                _ => is_said = true,
            }
        }
        if asked.is_empty() || !is_said || *tries == 0 {
            break;
        }
        *tries -= 1;
        tokio::time::sleep(Duration::from_millis(limits::ANNOUNCE_RETRY_MS)).await;
    }
    match refusal.or_else(|| (!asked.is_empty()).then_some(Reject::Busy)) {
        None => Ok(()),
        Some(_) if is_said => Err(Reject::Retry),
        Some(why) => Err(why),
    }
}

/// Those of `users` who have a session, here or on another gateway, in order of their numbers.
///
/// # Errors
/// [`StoreFailure::Busy`]: a shard did not say.
pub async fn online(services: &Services, mut users: Vec<UserId>) -> Result<Vec<UserId>, StoreFailure> {
    users.sort_unstable();
    users.dedup();
    let shards = services.homes.shards();
    users.sort_by_key(|user| shard_of(*user, shards).0);
    let mut under_way = Vec::new();
    for of_shard in users.chunk_by(|a, b| shard_of(*a, shards) == shard_of(*b, shards)) {
        for some in of_shard.chunks(ONLINE_USERS_MAX) {
            let Some(&first) = some.first() else { continue };
            let told = services.send(shard_of(first, shards), Notice::Online { users: some.into() });
            under_way.push((some, told.map_err(|_| StoreFailure::Busy)?));
        }
    }
    let mut online = Vec::new();
    for (some, told) in under_way {
        let Answer::Online { users: bits } = Services::told(told).await else { return Err(StoreFailure::Busy) };
        online.extend(some.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1).map(|(_, user)| *user));
    }
    online.sort_unstable();
    Ok(online)
}

/// Ends the sessions of `user` on every gateway; they may come back.
///
/// # Errors
/// [`StoreFailure::Busy`]: the shard was not told.
pub async fn disconnect(services: &Services, user: UserId) -> Result<(), StoreFailure> {
    match services.notify(shard_of(user, services.homes.shards()), Notice::Disconnect { user }).await {
        Answer::Refused(_) => Err(StoreFailure::Busy),
        _ => Ok(()),
    }
}

/// Makes a user with a login name, and with a password or without one (then only a backend gets the
/// user in). Registration need not be open, and nothing is paced.
///
/// # Errors
/// As a registration.
pub async fn create_user(
    services: &Services,
    wish: Registration,
    from: IpAddr,
    now_ms: u64,
) -> Result<User, NotRegistered> {
    let Registration { mobile, password, nickname, avatar, sex, memo } = wish;
    let mobile = identities::mobile(&mobile);
    identities::check_mobile(&mobile).map_err(NotRegistered::BadMobile)?;
    let nickname = identities::name(&nickname).ok_or(NotRegistered::InvisibleName)?;
    let password = identities::password(&password);
    let fits = [
        accounts::within(&mobile, limits::MOBILE_CHARS_MAX, OverlongField::Mobile),
        accounts::within(&nickname, limits::NICKNAME_CHARS_MAX, OverlongField::Nickname),
        accounts::within(&avatar, limits::ICON_CHARS_MAX, OverlongField::Icon),
        accounts::within(&memo, limits::USER_MEMO_CHARS_MAX, OverlongField::Memo),
    ];
    fits.into_iter().collect::<Result<(), _>>().map_err(NotRegistered::TooLong)?;
    let password = if password.is_empty() {
        WITHOUT_PASSWORD.to_owned()
    } else {
        identities::check_password(&password, &mobile).map_err(NotRegistered::WeakPassword)?;
        services.passwords.hash(Turn::registration(from), password).await?
    };
    let new = NewUser {
        mobile,
        password,
        avatar,
        sex: accounts::known_sex(sex),
        nickname,
        memo,
        created_ms: now_ms,
        wanted: None,
    };
    let user = services.db.write(move |store| store.people().create_user(&new)).await?.ok_or(NotRegistered::Taken)?;
    services.hooks.tell(HookEvent::Registered { user: user.id });
    Ok(user)
}

/// No password fits it.
const WITHOUT_PASSWORD: &str = "!";

/// The user that acts for a message of `from`; without one it is the system.
///
/// # Errors
/// The store's failure.
pub async fn author(services: &Services, from: Option<UserId>, now_ms: u64) -> Result<UserId, StoreFailure> {
    match from {
        Some(user) => Ok(user),
        None => subjects::system(services, now_ms).await,
    }
}

/// A group with the number of its members, as its owner sees it.
///
/// # Errors
/// [`NotDone::NoSuchGroup`], or the store's failure.
pub async fn group(services: &Services, id: GroupId) -> Result<Standing, NotDone> {
    let found = services.db.read(move |store| {
        let Some(group) = store.groups().group(id)? else { return Ok(None) };
        store.admissions().standing(id, group.owner)
    });
    found.await?.ok_or(NotDone::NoSuchGroup)
}

/// The owner of a group, also of one that was dissolved and may have members left.
///
/// # Errors
/// [`NotDone::NoSuchGroup`], or the store's failure.
pub async fn owner(services: &Services, id: GroupId) -> Result<UserId, NotDone> {
    services.db.read(move |store| store.groups().owner(id)).await?.ok_or(NotDone::NoSuchGroup)
}

/// Makes `user` a member, whatever the group's rule. Being one is success.
///
/// # Errors
/// See [`NotJoined`].
pub async fn add_member(services: &Services, group: &Group, user: UserId) -> Result<(), NotJoined> {
    admissions::let_in(services, group, user, user).await
}

/// A page of a conversation, all that is kept of it.
///
/// # Errors
/// The store's failure.
pub async fn page(services: &Services, conv: ConvId, from: PageStart, rows: u32) -> Result<Page, StoreFailure> {
    let read = Read::Page {
        conv,
        reader: None,
        from,
        rows_max: rows.clamp(1, limits::SYNC_ROWS_MAX),
        bytes_max: limits::SYNC_BYTES_MAX,
    };
    match services.db.read_in(LanePlace::of(Lane::Heavy), move |store| store.read(&[read])).await?.pop() {
        Some(ReadAnswer::Page(page)) => Ok(page),
        _ => Err(StoreFailure::Broken),
    }
}

/// What is kept about a user, but for the messages themselves.
#[derive(Debug)]
pub struct Dossier {
    /// The account.
    pub user: User,
    /// Friends.
    pub friends: Vec<Friend>,
    /// Those whom the user has blocked.
    pub blocked: Vec<User>,
    /// Groups with the number of their members.
    pub groups: Vec<(Group, u64)>,
    /// Logins.
    pub logins: Vec<LoginInfo>,
    /// What the uploads weigh.
    pub upload_bytes: u64,
    /// A page of the conversations.
    pub convs: Heads,
}

/// Everything about a user; the conversations after `before`, the newest first.
///
/// # Errors
/// The store's failure.
pub async fn dossier(
    services: &Services,
    user: UserId,
    before: Option<(u64, ConvId)>,
) -> Result<Option<Dossier>, StoreFailure> {
    let found = services.db.read_in(LanePlace::of(Lane::Heavy), move |store| {
        let Some(account) = store.people().user(user)? else { return Ok(None) };
        let heads = Read::Heads { user, before, missed: false, max: limits::HEADS_MAX };
        let convs = match store.read(&[heads])?.pop() {
            Some(ReadAnswer::Heads(heads)) => heads,
            _ => Heads::default(),
        };
        Ok(Some(Dossier {
            user: account,
            friends: store.social().friends(user, None, limits::FRIENDS_MAX)?,
            blocked: store.social().blocked(user, None, limits::BLOCKS_MAX)?,
            groups: store.groups().groups_of(user)?,
            logins: store.logins().logins_of(user)?,
            upload_bytes: store.files().uploaded(user)?,
            convs,
        }))
    });
    found.await
}
