//! Accounts: registration, login, and who may act.
//!
//! Owns: what a registration must fulfil, the making of tokens, the check of epoch and ban for HTTP calls.

use std::net::IpAddr;

use super::passwords::Passwords;
use super::{Services, Trouble};
use crate::auth::{Identity, Issuer};
use crate::ids::UserId;
use crate::limits;
use crate::store::worker::{Lane, Place};
use crate::store::{NewUser, User};

/// Who logs in or registers waits for nobody's lists.
const LOGIN: Place = Place::of(Lane::Login);

/// What somebody who registers says.
#[derive(Clone, Default)]
pub struct Registration {
    /// Login name, without leading and trailing blanks after [`register`] has taken it.
    pub mobile: String,
    /// In clear; never stored, never logged.
    pub password: String,
    /// Shown name.
    pub nickname: String,
    /// URL.
    pub avatar: String,
    /// `M`, `W`, `U` or empty; anything else is taken as `U`.
    pub sex: String,
    /// Free text.
    pub memo: String,
}

/// A user with a fresh token.
#[derive(Debug)]
pub struct Account {
    /// Who.
    pub user: User,
    /// The proof.
    pub token: String,
}

/// A field of a registration or a group that is too long for its column (contract, A.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    /// [`limits::MOBILE_CHARS_MAX`].
    Mobile,
    /// [`limits::PASSWORD_BYTES_MAX`].
    Password,
    /// [`limits::NICKNAME_CHARS_MAX`].
    Nickname,
    /// [`limits::ICON_CHARS_MAX`].
    Icon,
    /// [`limits::USER_MEMO_CHARS_MAX`], [`limits::GROUP_MEMO_CHARS_MAX`].
    Memo,
    /// [`limits::GROUP_NAME_CHARS_MAX`].
    GroupName,
}

/// Why a registration is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotRegistered {
    /// No login name or no password.
    #[error("login name or password missing")]
    Incomplete,
    /// A field exceeds its column.
    #[error("too long")]
    TooLong(Field),
    /// The login name is somebody's.
    #[error("taken")]
    Taken,
    /// Somebody at this address tried too often.
    #[error("too many attempts")]
    TooOften,
    /// Not the client's fault.
    #[error(transparent)]
    Trouble(#[from] Trouble),
}

/// Why a login is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotLoggedIn {
    /// No login name or no password.
    #[error("login name or password missing")]
    Incomplete,
    /// Nobody has that login name.
    #[error("unknown user")]
    Unknown,
    /// The password does not fit.
    #[error("wrong password")]
    WrongPassword,
    /// The user is banned. Said only to who knows the password.
    #[error("banned")]
    Banned,
    /// Tried too often, from this address or on this account.
    #[error("too many attempts")]
    TooOften,
    /// Not the client's fault.
    #[error(transparent)]
    Trouble(#[from] Trouble),
}

/// Who knocks, and how: what login and registration have in common.
#[derive(Clone, Copy, Debug)]
pub struct Knock {
    /// From where.
    pub from: IpAddr,
    /// For which pages the token is.
    pub issuer: Issuer,
    /// Unix milliseconds.
    pub now_ms: u64,
}

/// Makes a user who is logged in at once.
///
/// # Errors
/// See [`NotRegistered`].
pub async fn register(services: &Services, mut wish: Registration, knock: Knock) -> Result<Account, NotRegistered> {
    wish.mobile = wish.mobile.trim().to_owned();
    if wish.mobile.is_empty() || wish.password.is_empty() {
        return Err(NotRegistered::Incomplete);
    }
    fits(&wish).map_err(NotRegistered::TooLong)?;
    if !services.attempts.from_address(knock.from) {
        return Err(NotRegistered::TooOften);
    }
    let mobile = wish.mobile.clone();
    // Looked up before the expensive hash; the unique index decides when two register at once.
    if services.db.read_in(LOGIN, move |store| store.user_by_mobile(&mobile)).await?.is_some() {
        return Err(NotRegistered::Taken);
    }
    let password = services.passwords.hash(wish.password).await?;
    let user = NewUser {
        mobile: wish.mobile,
        password,
        avatar: wish.avatar,
        sex: known_sex(wish.sex),
        nickname: wish.nickname,
        memo: wish.memo,
        created_ms: knock.now_ms,
        wanted: None,
    };
    let user = services.db.write_in(LOGIN, move |store| store.create_user(&user)).await?.ok_or(NotRegistered::Taken)?;
    Ok(fresh(services, user, knock.issuer, knock.now_ms))
}

/// Checks login name and password and makes a token. An unknown name takes the same time as a wrong password.
///
/// # Errors
/// See [`NotLoggedIn`].
pub async fn login(services: &Services, mobile: &str, password: String, knock: Knock) -> Result<Account, NotLoggedIn> {
    let mobile = mobile.trim().to_owned();
    if mobile.is_empty() || password.is_empty() {
        return Err(NotLoggedIn::Incomplete);
    }
    if !services.attempts.from_address(knock.from) {
        return Err(NotLoggedIn::TooOften);
    }
    let too_long = mobile.chars().count() > limits::MOBILE_CHARS_MAX;
    if too_long {
        return Err(NotLoggedIn::Unknown);
    }
    let attempt = services.attempts.on_account(&mobile).ok_or(NotLoggedIn::TooOften)?;
    let user = services.db.read_in(LOGIN, move |store| store.user_by_mobile(&mobile)).await?;
    let stored = user.as_ref().map(|user| user.password.clone());
    let fits =
        password.len() <= limits::PASSWORD_BYTES_MAX && services.passwords.fits(password.clone(), stored).await?;
    let user = user.ok_or(NotLoggedIn::Unknown)?;
    if !fits {
        return Err(NotLoggedIn::WrongPassword);
    }
    services.attempts.forgive(attempt);
    if user.banned {
        return Err(NotLoggedIn::Banned);
    }
    if Passwords::is_old(&user.password) {
        // Of two logins at once one replaces it; the other one finds it replaced, which is as good.
        let (id, old, new) = (user.id, user.password.clone(), services.passwords.hash(password).await?);
        services.db.write_in(LOGIN, move |store| store.social().set_password(id, &old, &new, false)).await?;
    }
    Ok(fresh(services, user, knock.issuer, knock.now_ms))
}

/// The user of that number.
///
/// # Errors
/// The store's trouble.
pub async fn find(services: &Services, id: UserId) -> Result<Option<User>, Trouble> {
    services.db.read(move |store| store.user(id)).await
}

/// The user of that login name, without blanks around it.
///
/// # Errors
/// The store's trouble.
pub async fn by_mobile(services: &Services, mobile: String) -> Result<Option<User>, Trouble> {
    services.db.read(move |store| store.user_by_mobile(mobile.trim())).await
}

/// Those of `ids` who exist, in order of their numbers.
///
/// # Errors
/// The store's trouble.
pub async fn all_of(services: &Services, ids: Vec<UserId>) -> Result<Vec<User>, Trouble> {
    services.db.read(move |store| store.social().users(&ids)).await
}

/// The user who may act with `identity`: `None` when the user does not exist any more, is banned, or has logged out
/// everywhere since the token was made.
///
/// # Errors
/// The store's trouble.
pub async fn acting(services: &Services, identity: Identity) -> Result<Option<UserId>, Trouble> {
    let user = find(services, identity.user()).await?;
    Ok(user.filter(|user| !user.banned && user.token_epoch <= identity.epoch()).map(|user| user.id))
}

/// `user` with a token made now.
pub(super) fn fresh(services: &Services, user: User, issuer: Issuer, now_ms: u64) -> Account {
    let expires_ms = now_ms.saturating_add(services.token_ttl_ms);
    let token = services.key.issue(user.id, user.token_epoch, issuer, expires_ms);
    Account { user, token }
}

/// What the pages know: `M`, `W`, `U` or nothing. Anything else is `U`.
pub(super) fn known_sex(sex: String) -> String {
    if matches!(sex.as_str(), "" | "M" | "W") { sex } else { "U".to_owned() }
}

fn fits(wish: &Registration) -> Result<(), Field> {
    if wish.password.len() > limits::PASSWORD_BYTES_MAX {
        return Err(Field::Password);
    }
    within(&wish.mobile, limits::MOBILE_CHARS_MAX, Field::Mobile)?;
    within(&wish.nickname, limits::NICKNAME_CHARS_MAX, Field::Nickname)?;
    within(&wish.avatar, limits::ICON_CHARS_MAX, Field::Icon)?;
    within(&wish.memo, limits::USER_MEMO_CHARS_MAX, Field::Memo)
}

/// Whether `text` has at most `chars_max` characters.
pub(super) fn within(text: &str, chars_max: usize, field: Field) -> Result<(), Field> {
    if text.chars().nth(chars_max).is_some() { Err(field) } else { Ok(()) }
}
