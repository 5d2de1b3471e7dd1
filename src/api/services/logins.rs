//! Logins: the tokens of a user, each of which can be ended alone.
//!
//! Owns: the making of a token, and its end.
//! Never: leaves a session of an ended login open: the user's shard is told of every end.

use std::net::IpAddr;

use super::accounts::{LoginContext, UserToken};
use super::endings::Void;
use super::{Services, StoreFailure};
use crate::auth::Identity;
use crate::ids::{LoginId, UserId};
use crate::limits;
use crate::store::{LoginInfo, NewLogin, User};

/// From where, and with what: what a login is recognised by.
#[derive(Clone, Copy, Debug)]
pub struct LoginDevice<'a> {
    /// The address.
    pub from: IpAddr,
    /// What the program calls itself (`User-Agent`), as it was sent; may be empty.
    pub agent: &'a [u8],
}

/// `user` with a token made now. `None`: the tokens of the user were made void since `user` was
/// read.
///
/// # Errors
/// The store's trouble.
pub(super) async fn enter(
    services: &Services,
    user: User,
    context: LoginContext<'_>,
) -> Result<Option<UserToken>, StoreFailure> {
    let expires_ms = context.now_ms.saturating_add(services.token_ttl_ms());
    let new = NewLogin {
        epoch: user.token_epoch,
        wanted: LoginId::from_bits(getrandom::u32().map_err(|_| StoreFailure::Busy)?),
        agent: shown(context.device.agent),
        address: context.device.from.to_canonical().to_string(),
        created_ms: context.now_ms,
        expires_ms,
    };
    let id = user.id;
    let made = services.db.write_in(super::accounts::LOGIN, move |store| store.logins().log_in(id, &new)).await?;
    let Some(made) = made else { return Ok(None) };
    for login in made.ended {
        services.end_login(id, login).await;
    }
    let token = services.key.issue_login(id, user.token_epoch, context.issuer, expires_ms, made.login);
    Ok(Some(UserToken { user, token }))
}

/// What of a program's name for itself is kept: what can be seen of it, to a length. What is not
/// UTF-8 is U+FFFD: the rest of the name still tells its owner which device it is.
fn shown(agent: &[u8]) -> String {
    String::from_utf8_lossy(agent).chars().filter(|c| !c.is_control()).take(limits::AGENT_CHARS_MAX).collect()
}

/// The living logins of a user, the one used last first.
///
/// # Errors
/// The store's trouble.
pub async fn of(services: &Services, user: UserId, now_ms: u64) -> Result<Vec<LoginInfo>, StoreFailure> {
    let mut logins = services.db.read(move |store| store.logins().logins_of(user)).await?;
    logins.retain(|login| login.expires_ms >= now_ms);
    Ok(logins)
}

/// Ends one login of a user: its token is void, and the sessions that were opened with it end.
/// Whether there was one.
///
/// # Errors
/// The store's trouble.
pub async fn end(services: &Services, user: UserId, login: LoginId) -> Result<bool, StoreFailure> {
    let was = services.db.write(move |store| store.logins().end_login(user, login)).await;
    let was = services.end_if_unsure(user, Void::Of(login), was)?;
    if was {
        services.end_login(user, login).await;
    }
    Ok(was)
}

/// Whether the login that an identity names is alive; one that names none is as good as its epoch.
/// It is noted now and then that it is in use.
pub(super) fn is_alive(services: &Services, identity: Identity, found: Option<&LoginInfo>, now_ms: u64) -> bool {
    let Some(login) = identity.login() else { return true };
    let Some(found) = found else { return false };
    if found.used_ms.saturating_add(limits::LOGIN_USED_MS) <= now_ms {
        let (db, user) = (services.db.clone(), identity.user());
        // The result is not waited for: the next request tries again.
        tokio::spawn(async move { db.write(move |store| store.logins().use_login(user, login, now_ms)).await });
    }
    true
}
