//! Accounts: registration, login, and who may act.
//!
//! Owns: what a registration must fulfil, the making of tokens, the check of epoch and ban for HTTP
//! calls.

use serde_json::json;

use super::identities::{BadMobile, Weak};
use super::logins::{self, LoginDevice};
use super::passwords::{Passwords, Turn};
use super::{Services, StoreFailure, identities};
use crate::auth::{Identity, Issuer};
use crate::clock;
use crate::hooks::HookEvent;
use crate::ids::UserId;
use crate::limits;
use crate::metrics::accounts::{Login, Registered};
use crate::store::worker::{Lane, LanePlace};
use crate::store::{Backend, Error, LoginInfo, NewUser, User};

/// Logins and registrations do not wait for lists.
pub(super) const LOGIN: LanePlace = LanePlace::of(Lane::Login);

/// What somebody who registers says.
#[derive(Clone, Default)]
pub struct Registration {
    /// Login name; kept in its normal form.
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
pub struct UserToken {
    /// Who.
    pub user: User,
    /// The proof.
    pub token: String,
}

/// A field of a registration or a group that is too long for its column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OverlongField {
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
    TooLong(OverlongField),
    /// The login name is somebody's.
    #[error("taken")]
    Taken,
    /// The operator makes the accounts.
    #[error("registration is closed")]
    Closed,
    /// What was given as login name is neither a number nor a name. Asked for by our own API only.
    #[error("no login name")]
    BadMobile(BadMobile),
    /// The password is one that others would try. Asked for by our own API only.
    #[error("the password is too weak")]
    WeakPassword(Weak),
    /// A nickname of which nothing can be seen.
    #[error("nothing of the nickname can be seen")]
    InvisibleName,
    /// Somebody at this address, or everybody together, tried too often.
    #[error("too many attempts")]
    TooOften,
    /// Not the client's fault.
    #[error(transparent)]
    Store(#[from] StoreFailure),
}

/// Why a login is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotLoggedIn {
    /// No login name or no password.
    #[error("login name or password missing")]
    Incomplete,
    /// There is no account of that login name.
    #[error("unknown user")]
    Unknown,
    /// The password does not fit.
    #[error("wrong password")]
    WrongPassword,
    /// The user is banned. Said only to who knows the password.
    #[error("banned")]
    Banned,
    /// Too many wrong passwords of this account from this network. From another one, or with a
    /// valid token, its owner still gets in.
    #[error("too many wrong passwords")]
    Locked,
    /// Tried too often from this network.
    #[error("too many attempts")]
    TooOften,
    /// Not the client's fault.
    #[error(transparent)]
    Store(#[from] StoreFailure),
}

/// Who knocks, and how: what login and registration have in common.
#[derive(Clone, Copy, Debug)]
pub struct LoginContext<'a> {
    /// What the request proves already: an account's own valid token spares its login the
    /// strangers' limits.
    pub presented: &'a [Identity],
    /// With what.
    pub device: LoginDevice<'a>,
    /// For which pages the token is.
    pub issuer: Issuer,
    /// Unix milliseconds.
    pub now_ms: u64,
}

/// Makes a user who is logged in at once.
///
/// # Errors
/// See [`NotRegistered`].
pub async fn register(
    services: &Services,
    wish: Registration,
    context: LoginContext<'_>,
) -> Result<UserToken, NotRegistered> {
    let done = try_to_register(services, wish, context).await;
    let how = match &done {
        Ok(_) => Registered::Ok,
        Err(NotRegistered::Closed) => Registered::Closed,
        Err(NotRegistered::TooOften) => Registered::TooOften,
        Err(NotRegistered::Taken) => Registered::Taken,
        Err(NotRegistered::Store(_)) => Registered::Trouble,
        Err(_) => Registered::BadField,
    };
    services.attempts.counts().registration(how);
    services.audit.say("registration", || {
        let user = done.as_ref().ok().map(|account| account.user.id.get());
        json!({ "outcome": Registered::LABELS.get(how as usize), "user": user, "from": context.device.from.to_string() })
    });
    done
}

async fn try_to_register(
    services: &Services,
    mut wish: Registration,
    context: LoginContext<'_>,
) -> Result<UserToken, NotRegistered> {
    if !services.attempts.registration_is_open() {
        return Err(NotRegistered::Closed);
    }
    let typed = std::mem::take(&mut wish.mobile);
    wish.mobile = identities::mobile(&typed);
    wish.password = identities::password(&wish.password);
    if wish.mobile.is_empty() || wish.password.is_empty() {
        return Err(NotRegistered::Incomplete);
    }
    if identities::is_reserved(&wish.mobile) {
        return Err(NotRegistered::Taken);
    }
    if context.issuer == Issuer::Own {
        identities::check_mobile(&wish.mobile).map_err(NotRegistered::BadMobile)?;
        identities::check_password(&wish.password, &wish.mobile).map_err(NotRegistered::WeakPassword)?;
    }
    wish.nickname = identities::name(&wish.nickname).ok_or(NotRegistered::InvisibleName)?;
    fits(&wish).map_err(NotRegistered::TooLong)?;
    if !services.attempts.registration(context.device.from) {
        return Err(NotRegistered::TooOften);
    }
    let made = make_account(services, &typed, wish, context).await;
    if matches!(made, Err(NotRegistered::Store(_))) {
        services.attempts.forgive_registration(context.device.from);
    }
    made
}

async fn make_account(
    services: &Services,
    typed: &str,
    wish: Registration,
    context: LoginContext<'_>,
) -> Result<UserToken, NotRegistered> {
    // Looked up before the expensive hash; the unique index decides when two register at once,
    // because both have one normal form.
    if by_mobile(services, typed).await?.is_some() {
        return Err(NotRegistered::Taken);
    }
    let password = services.passwords.hash(Turn::registration(context.device.from), wish.password).await?;
    let user = NewUser {
        mobile: wish.mobile,
        password,
        avatar: wish.avatar,
        sex: known_sex(wish.sex),
        nickname: wish.nickname,
        memo: wish.memo,
        created_ms: context.now_ms,
        wanted: None,
    };
    let user = services
        .db
        .write_in(LOGIN, move |store| store.people().create_user(&user))
        .await?
        .ok_or(NotRegistered::Taken)?;
    services.hooks.tell(HookEvent::Registered { user: user.id });
    logins::enter(services, user, context).await?.ok_or(NotRegistered::Store(StoreFailure::Unsure))
}

/// Checks login name and password and makes a token. An unknown name takes the same time as a wrong
/// password.
///
/// # Errors
/// See [`NotLoggedIn`].
pub async fn login(
    services: &Services,
    mobile: &str,
    password: String,
    context: LoginContext<'_>,
) -> Result<UserToken, NotLoggedIn> {
    let done = try_to_log_in(services, mobile, password, context).await;
    let how = outcome(&done);
    services.attempts.counts().login(how);
    services.audit.say("login", || {
        let user = done.as_ref().ok().map(|account| account.user.id.get());
        json!({ "outcome": Login::LABELS.get(how as usize), "user": user, "from": context.device.from.to_string() })
    });
    let is_news = !matches!(how, Login::Ok | Login::Incomplete | Login::Trouble);
    if is_news && let Some(untold) = services.attempts.line(context.device.from) {
        let (account, why) = (veiled(mobile), Login::LABELS.get(how as usize));
        tracing::info!(from = %context.device.from, account, why, untold, "a login failed");
    }
    done
}

const fn outcome(done: &Result<UserToken, NotLoggedIn>) -> Login {
    match done {
        Ok(_) => Login::Ok,
        Err(NotLoggedIn::Incomplete) => Login::Incomplete,
        Err(NotLoggedIn::Unknown) => Login::Unknown,
        Err(NotLoggedIn::WrongPassword) => Login::WrongPassword,
        Err(NotLoggedIn::Banned) => Login::Banned,
        Err(NotLoggedIn::Locked) => Login::Locked,
        Err(NotLoggedIn::TooOften) => Login::TooOften,
        Err(NotLoggedIn::Store(_)) => Login::Trouble,
    }
}

/// A login name as the log has it: enough to know whose it is for who knows it, and no list of
/// names for who does not. What was typed may be anything, a password in the wrong field included.
fn veiled(mobile: &str) -> String {
    let typed: Vec<char> = mobile.trim().chars().collect();
    match typed.as_slice() {
        [a, b, c, .., y, z] if typed.len() >= 8 && typed.iter().all(char::is_ascii_digit) => {
            format!("{a}{b}{c}…{y}{z}")
        }
        typed => format!("{} characters", typed.len()),
    }
}

async fn try_to_log_in(
    services: &Services,
    mobile: &str,
    password: String,
    context: LoginContext<'_>,
) -> Result<UserToken, NotLoggedIn> {
    if mobile.trim().is_empty() || password.is_empty() {
        return Err(NotLoggedIn::Incomplete);
    }
    // Who proves to be somebody is looked up first: their own account is not shut by what others do
    // at the same address.
    let mut counted = context.presented.is_empty();
    if counted && !services.attempts.from_address(context.device.from) {
        return Err(NotLoggedIn::TooOften);
    }
    let done = check(services, mobile, password, context, &mut counted).await;
    if counted && matches!(done, Err(NotLoggedIn::Store(_))) {
        services.attempts.forgive_address(context.device.from);
    }
    let user = done?;
    if user.banned {
        return Err(NotLoggedIn::Banned);
    }
    // All tokens were made void just now, perhaps with a new password.
    logins::enter(services, user, context).await?.ok_or(NotLoggedIn::WrongPassword)
}

/// The user of that login name and password. `counted`: the try has been counted for its address.
async fn check(
    services: &Services,
    mobile: &str,
    password: String,
    context: LoginContext<'_>,
    counted: &mut bool,
) -> Result<User, NotLoggedIn> {
    if identities::spellings(mobile).is_empty() {
        // Too long for anybody's, which is no secret.
        return Err(NotLoggedIn::Unknown);
    }
    let user = by_mobile(services, mobile).await?;
    let owner = match &user {
        Some(user) => proven(services, user, context.presented).await?,
        None => None,
    };
    if owner.is_none() && !*counted {
        *counted = true;
        if !services.attempts.from_address(context.device.from) {
            return Err(NotLoggedIn::TooOften);
        }
    }
    let attempt = services.attempts.on_account(&identities::mobile(mobile), context.device.from, owner);
    let attempt = attempt.ok_or(NotLoggedIn::Locked)?;
    let stored = user.as_ref().map(|user| user.password.clone());
    let turn = Turn::login(context.device.from, user.as_ref().map(|user| user.id));
    let fit = fit(services, turn, &password, stored).await?;
    let Some(user) = user else {
        attempt.wrong();
        return Err(NotLoggedIn::Unknown);
    };
    if fit == Fit::No {
        attempt.wrong();
        return Err(NotLoggedIn::WrongPassword);
    }
    if !user.banned && (fit == Fit::OldForm || Passwords::is_old(&user.password)) {
        // Of two logins at once one replaces it; the other one finds it replaced, which is as good.
        let new = services.passwords.hash(turn, identities::password(&password)).await?;
        let (id, old) = (user.id, user.password.clone());
        services.db.write(move |store| store.people().set_password(id, &old, &new, false)).await?;
    }
    Ok(user)
}

/// `user`, if one of these identities is the user's own and good, banned or not.
async fn proven(services: &Services, user: &User, presented: &[Identity]) -> Result<Option<UserId>, StoreFailure> {
    let id = user.id;
    let hers = |proof: &&Identity| proof.user() == id && proof.epoch() >= user.token_epoch;
    let Some(&proof) = presented.iter().find(hers) else { return Ok(None) };
    let Some(login) = proof.login() else { return Ok(Some(id)) };
    let found = services.db.read_in(LOGIN, move |store| store.logins().login(id, login)).await?;
    Ok(found.map(|_| id))
}

/// Whether a password fits, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fit {
    /// It does not.
    No,
    /// In its normal form.
    Yes,
    /// In a form of before there was a normal one; to be replaced.
    OldForm,
}

/// Whether `password` fits what is `stored`, in its normal form or, at the cost of a further hash
/// for each and for texts that have several forms, in an old one or as an old page sends it.
/// Without anything stored the answer is no, after the same time.
///
/// # Errors
/// As [`Passwords::fits`].
pub(super) async fn fit(
    services: &Services,
    turn: Turn,
    password: &str,
    stored: Option<String>,
) -> Result<Fit, StoreFailure> {
    let normal = identities::password(password);
    if normal.len() > limits::PASSWORD_BYTES_MAX {
        return Ok(Fit::No);
    }
    let old = identities::old_password(password, &normal).filter(|old| old.len() <= OLD_FORM_BYTES_MAX);
    if services.passwords.fits(turn, normal, stored.clone()).await? {
        return Ok(Fit::Yes);
    }
    if let Some(old) = old
        && services.passwords.fits(turn, old, stored.clone()).await?
    {
        return Ok(Fit::OldForm);
    }
    // As an old page has sent it when the account was made; it stays so, because that page goes on
    // sending it so.
    let Some(cut) = identities::cut_password(password) else { return Ok(Fit::No) };
    Ok(if services.passwords.fits(turn, cut, stored).await? { Fit::Yes } else { Fit::No })
}

/// Decomposed, a text is at most three times as long (Unicode Standard Annex 15, section 9).
const OLD_FORM_BYTES_MAX: usize = 3 * limits::PASSWORD_BYTES_MAX;

/// The user of that number.
///
/// # Errors
/// The store's trouble.
pub async fn find(services: &Services, id: UserId) -> Result<Option<User>, StoreFailure> {
    services.db.read(move |store| store.people().user(id)).await
}

/// The user of that login name, however it is spelled; the normal spelling first.
///
/// # Errors
/// The store's trouble.
pub async fn by_mobile(services: &Services, typed: &str) -> Result<Option<User>, StoreFailure> {
    let spellings = identities::spellings(typed);
    let first = |store: &mut dyn Backend| {
        for spelling in spellings {
            if let Some(user) = store.people().user_by_mobile(&spelling)? {
                return Ok(Some(user));
            }
        }
        Ok(None)
    };
    services.db.read_in(LOGIN, first).await
}

/// What somebody is shown who asks for a user's card on an old page.
#[derive(Debug)]
pub enum Card {
    /// The card, and those of whom the request is who may act: a browser may hold the logins of
    /// several users, and does not say which of them asks.
    Of(User, Vec<UserId>),
    /// Nobody has that number; or nobody knows who asks, and then it is all the same.
    Blank,
    /// Too many were asked for.
    TooOften,
}

/// The card of the user `id` for whoever has `presented` something.
///
/// # Errors
/// The store's trouble.
pub async fn card(services: &Services, presented: &[Identity], id: UserId) -> Result<Card, StoreFailure> {
    if presented.is_empty() {
        return Ok(Card::Blank);
    }
    let readers = presented.to_vec();
    let read = move |store: &mut dyn Backend| {
        let stand = readers.into_iter().map(|reader| Ok((reader, stands(store, reader)?)));
        Ok((stand.collect::<Result<Vec<_>, Error>>()?, store.people().user(id)?))
    };
    let (stand, shown) = services.db.read(read).await?;
    let now_ms = clock::wall_ms();
    let may = |(reader, (user, login)): (Identity, (Option<User>, Option<LoginInfo>))| {
        let may = user.is_some_and(|user| may_act(&user, reader));
        (may && logins::is_alive(services, reader, login.as_ref(), now_ms)).then_some(reader.user())
    };
    let readers: Vec<UserId> = stand.into_iter().filter_map(may).collect();
    let Some(&reader) = readers.first() else { return Ok(Card::Blank) };
    if !services.attempts.lookup(reader, 1) {
        return Ok(Card::TooOften);
    }
    Ok(shown.map_or(Card::Blank, |shown| Card::Of(shown, readers)))
}

/// Those of `ids` who exist, in order of their numbers.
///
/// # Errors
/// The store's trouble.
pub async fn all_of(services: &Services, ids: Vec<UserId>) -> Result<Vec<User>, StoreFailure> {
    services.db.read(move |store| store.people().users(&ids)).await
}

/// The user who may act with `identity`: `None` when the user does not exist any more, is banned,
/// or has logged out with that token, or everywhere, since it was made.
///
/// # Errors
/// The store's trouble.
pub async fn acting(services: &Services, identity: Identity) -> Result<Option<UserId>, StoreFailure> {
    let (user, login) = services.db.read(move |store| stands(store, identity)).await?;
    let now_ms = clock::wall_ms();
    let user = user.filter(|user| may_act(user, identity));
    Ok(user.filter(|_| logins::is_alive(services, identity, login.as_ref(), now_ms)).map(|user| user.id))
}

/// What the store knows of an identity.
fn stands(store: &mut dyn Backend, identity: Identity) -> Result<(Option<User>, Option<LoginInfo>), Error> {
    let login = match identity.login() {
        Some(login) => store.logins().login(identity.user(), login)?,
        None => None,
    };
    Ok((store.people().user(identity.user())?, login))
}

fn may_act(user: &User, identity: Identity) -> bool {
    user.id == identity.user() && !user.banned && user.token_epoch <= identity.epoch()
}

/// What the pages know: `M`, `W`, `U` or nothing. Anything else is `U`.
pub(super) fn known_sex(sex: String) -> String {
    if matches!(sex.as_str(), "" | "M" | "W") { sex } else { "U".to_owned() }
}

fn fits(wish: &Registration) -> Result<(), OverlongField> {
    if wish.password.len() > limits::PASSWORD_BYTES_MAX {
        return Err(OverlongField::Password);
    }
    within(&wish.mobile, limits::MOBILE_CHARS_MAX, OverlongField::Mobile)?;
    within(&wish.nickname, limits::NICKNAME_CHARS_MAX, OverlongField::Nickname)?;
    within(&wish.avatar, limits::ICON_CHARS_MAX, OverlongField::Icon)?;
    within(&wish.memo, limits::USER_MEMO_CHARS_MAX, OverlongField::Memo)
}

/// Whether `text` has at most `chars_max` characters.
pub(super) fn within(text: &str, chars_max: usize, field: OverlongField) -> Result<(), OverlongField> {
    if text.chars().nth(chars_max).is_some() { Err(field) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::veiled;

    #[test]
    fn the_log_has_no_login_name_as_it_was_typed() {
        assert_eq!(veiled("13812345601 "), "138…01");
        assert_eq!(veiled("my password!"), "12 characters");
        assert_eq!(veiled("1234567"), "7 characters");
        assert_eq!(veiled(&"9".repeat(100_000)), "999…99");
    }
}
