//! Users of another system: a name that that system gives (the subject of a token, RFC 7519,
//! section 4.1.2) stands for one user here.
//!
//! Owns: which login name such a user has, and the making of one at first sight; the system's own
//! user, in whose name the gateway's backends speak.
//! Never: takes an account for such a user's that somebody has registered: their names begin as no
//! registered name may, and their password is a text that no password fits.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use data_encoding::BASE32_NOPAD;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::accounts::LOGIN;
use super::changes::HintedChange;
use super::{Services, StoreFailure, identities};
use crate::hooks::HookEvent;
use crate::ids::UserId;
use crate::limits;
use crate::store::{NewUser, User, UserChange};

/// How the login names of such users begin.
pub const RESERVED: char = '~';
/// In the place of a password; no password fits it.
const PASSWORD: &str = "!external";
/// What the name is a hash for.
const PURPOSE: &[u8] = b"imgate subject\0";
/// The user that is the system.
const SYSTEM: &str = "~system";

/// What the other system says of its user; what is `None` stays as it is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Portrait {
    /// Shown name.
    pub nickname: Option<String>,
    /// URL.
    pub avatar: Option<String>,
}

/// The login name of the user that `subject` stands for: 95 bits of its SHA-256, so that no two
/// subjects meet and nobody finds a second one for a name.
#[must_use]
pub fn login_name(subject: &str) -> String {
    let digest = Sha256::new().chain_update(PURPOSE).chain_update(subject).finalize();
    let mut name = BASE32_NOPAD.encode(&digest).to_ascii_lowercase();
    name.truncate(limits::MOBILE_CHARS_MAX - 1);
    name.insert(0, RESERVED);
    name
}

/// The user that `subject` stands for; `None`: it was not seen yet.
///
/// # Errors
/// The store's failure.
pub async fn find(services: &Services, subject: &str) -> Result<Option<User>, StoreFailure> {
    named(services, login_name(subject)).await
}

async fn named(services: &Services, name: String) -> Result<Option<User>, StoreFailure> {
    let found = services.db.read_in(LOGIN, move |store| store.people().user_by_mobile(&name)).await?;
    let Some(user) = found else { return Ok(None) };
    if user.password == PASSWORD {
        return Ok(Some(user));
    }
    tracing::warn!(user = %user.id, "an account has the login name of another system's user; it is not taken for it");
    Err(StoreFailure::Broken)
}

/// The user that `subject` stands for, made if it was not seen yet, with what is said of it; and
/// whether it is new. A name or address that does not fit is cut or left out.
///
/// # Errors
/// The store's failure.
pub async fn find_or_make(
    services: &Services,
    subject: &str,
    portrait: Portrait,
    now_ms: u64,
) -> Result<(User, bool), StoreFailure> {
    let portrait = fitting(portrait);
    if let Some(user) = find(services, subject).await? {
        return Ok((renewed(services, user, portrait).await?, false));
    }
    make(services, login_name(subject), portrait, now_ms).await
}

/// The user in whose name the system speaks.
///
/// # Errors
/// The store's failure.
pub async fn system(services: &Services, now_ms: u64) -> Result<UserId, StoreFailure> {
    if let Some(&user) = services.system.get() {
        return Ok(user);
    }
    let user = match named(services, SYSTEM.to_owned()).await? {
        Some(user) => user,
        None => {
            let portrait = Portrait { nickname: Some("System".to_owned()), avatar: None };
            make(services, SYSTEM.to_owned(), portrait, now_ms).await?.0
        }
    };
    let _ = services.system.set(user.id);
    Ok(user.id)
}

/// The same for whoever only wants to know; `None`: it is not known here, or has not been made.
/// Waits for nothing: the store is asked for those who ask later, a minute after the last time.
pub fn known_system(services: &Arc<Services>, now_ms: u64) -> Option<UserId> {
    let known = services.system.get().copied();
    let sought_ms = &services.system_sought_ms;
    let last_ms = sought_ms.load(Ordering::Relaxed);
    let is_due = known.is_none() && now_ms.abs_diff(last_ms) >= limits::SYSTEM_LOOK_MS;
    if is_due && sought_ms.compare_exchange(last_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
        let services = Arc::clone(services);
        tokio::spawn(async move { seek_system(&services).await });
    }
    known
}

/// Looks whether the system's user was made, here or by another gateway. A failure is as good as
/// not finding it: there is a next time.
pub async fn seek_system(services: &Services) {
    if services.system.get().is_none()
        && let Ok(Some(user)) = named(services, SYSTEM.to_owned()).await
    {
        let _ = services.system.set(user.id);
    }
}

async fn make(
    services: &Services,
    name: String,
    portrait: Portrait,
    now_ms: u64,
) -> Result<(User, bool), StoreFailure> {
    let new = NewUser {
        mobile: name.clone(),
        password: PASSWORD.to_owned(),
        nickname: portrait.nickname.unwrap_or_default(),
        avatar: portrait.avatar.unwrap_or_default(),
        created_ms: now_ms,
        ..NewUser::default()
    };
    match services.db.write_in(LOGIN, move |store| store.people().create_user(&new)).await? {
        Some(user) => {
            services.hooks.tell(HookEvent::Registered { user: user.id });
            services.audit.say("registration", || json!({ "outcome": "ok", "user": user.id.get(), "by": "subject" }));
            Ok((user, true))
        }
        // Made just now, by another request or gateway.
        None => Ok((named(services, name).await?.ok_or(StoreFailure::Unsure)?, false)),
    }
}

async fn renewed(services: &Services, user: User, portrait: Portrait) -> Result<User, StoreFailure> {
    let nickname = portrait.nickname.filter(|name| *name != user.nickname);
    let avatar = portrait.avatar.filter(|avatar| *avatar != user.avatar);
    if nickname.is_none() && avatar.is_none() {
        return Ok(user);
    }
    let (id, change) = (user.id, UserChange { nickname, avatar, ..UserChange::default() });
    let changed = services.db.write(move |store| store.people().update_user(id, &change)).await?;
    services.changed(HintedChange::Profile { user: id });
    Ok(changed.unwrap_or(user))
}

fn fitting(portrait: Portrait) -> Portrait {
    let nickname = portrait.nickname.and_then(|name| identities::name(&name));
    let nickname = nickname.map(|name| name.chars().take(limits::NICKNAME_CHARS_MAX).collect());
    let avatar = portrait.avatar.filter(|url| url.chars().nth(limits::ICON_CHARS_MAX).is_none());
    Portrait { nickname, avatar }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_one_name_that_nobody_may_register() {
        let name = login_name("auth0|5f7c");
        assert_eq!(name.chars().count(), limits::MOBILE_CHARS_MAX);
        assert!(name.starts_with(RESERVED) && name != login_name("auth0|5f7d"), "{name}");
        assert_eq!(name, login_name("auth0|5f7c"));
        for name in [&name, SYSTEM] {
            assert!(identities::is_reserved(&identities::mobile(name)), "{name}");
            assert!(identities::is_reserved(&identities::mobile(&format!(" \u{200b}{name}"))), "{name}");
        }
        assert!(!identities::is_reserved(&identities::mobile("system")));
    }

    #[test]
    fn what_does_not_fit_is_cut_or_left_out() {
        let (nickname, avatar) = (Some("n".repeat(100)), Some("h".repeat(1_000)));
        let cut = fitting(Portrait { nickname, avatar });
        assert_eq!((cut.nickname.map(|name| name.len()), cut.avatar), (Some(limits::NICKNAME_CHARS_MAX), None));
    }
}
