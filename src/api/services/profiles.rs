//! What a user changes about the own account: profile, password, logins.
//!
//! Never: leaves a session of a void token open: the user's shard is told of every new epoch.

use std::sync::Arc;
use std::time::Duration;

use super::accounts::{Fit, LoginContext, OverlongField, UserToken, fit, known_sex, within};
use super::changes::HintedChange;
use super::endings::Void;
use super::identities::Weak;
use super::operator::{self, Deed, DeedOutcome};
use super::passwords::Turn;
use super::{Services, StoreFailure, identities, logins};
use crate::clock;
use crate::ids::UserId;
use crate::limits;
use crate::store::{User, UserChange};

/// Why a user does not change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotChanged {
    /// A field exceeds its column.
    #[error("too long")]
    TooLong(OverlongField),
    /// The new password is one that others would try.
    #[error("the password is too weak")]
    WeakPassword(Weak),
    /// A nickname of which nothing can be seen.
    #[error("nothing of the nickname can be seen")]
    InvisibleName,
    /// The old password does not fit.
    #[error("wrong password")]
    WrongPassword,
    /// The password was tried too often.
    #[error("too many attempts")]
    TooOften,
    /// The user is gone.
    #[error("no such user")]
    Gone,
    /// Not the client's fault.
    #[error(transparent)]
    Store(#[from] StoreFailure),
}

/// Changes a profile; what `change` does not name stays.
///
/// # Errors
/// See [`NotChanged`].
pub async fn update(services: &Services, user: UserId, mut change: UserChange) -> Result<User, NotChanged> {
    if let Some(nickname) = change.nickname.as_mut() {
        *nickname = identities::name(nickname).ok_or(NotChanged::InvisibleName)?;
    }
    let fits = |text: &Option<String>, max, field| text.as_deref().map_or(Ok(()), |text| within(text, max, field));
    fits(&change.nickname, limits::NICKNAME_CHARS_MAX, OverlongField::Nickname)
        .and_then(|()| fits(&change.avatar, limits::ICON_CHARS_MAX, OverlongField::Icon))
        .and_then(|()| fits(&change.memo, limits::USER_MEMO_CHARS_MAX, OverlongField::Memo))
        .map_err(NotChanged::TooLong)?;
    change.sex = change.sex.map(known_sex);
    let changed = services.db.write(move |store| store.people().update_user(user, &change)).await?;
    let changed = changed.ok_or(NotChanged::Gone)?;
    services.changed(HintedChange::Profile { user });
    Ok(changed)
}

/// Replaces the password. Every token made so far is void, and its sessions end; the answer has a
/// new one.
///
/// # Errors
/// See [`NotChanged`].
pub async fn change_password(
    services: &Services,
    user: UserId,
    old: String,
    new: String,
    context: LoginContext<'_>,
) -> Result<UserToken, NotChanged> {
    let new = identities::password(&new);
    if new.len() > limits::PASSWORD_BYTES_MAX {
        return Err(NotChanged::TooLong(OverlongField::Password));
    }
    let mut known = services.db.read(move |store| store.people().user(user)).await?.ok_or(NotChanged::Gone)?;
    identities::check_password(&new, &known.mobile).map_err(NotChanged::WeakPassword)?;
    owner_says(services, &known, &old).await?;
    let (stored, hash) = (known.password.clone(), services.passwords.hash(Turn::Own(user), new).await?);
    let epoch = services.db.write(move |store| store.people().set_password(user, &stored, &hash, true)).await;
    // Somebody else was quicker with the same old password.
    known.token_epoch = services.end_if_unsure(user, Void::Older, epoch)?.ok_or(NotChanged::WrongPassword)?;
    services.end_older(user, known.token_epoch).await;
    logins::enter(services, known, context).await?.ok_or(NotChanged::WrongPassword)
}

/// Whether `password` is that of `user`, who has brought a valid token: no stranger's wrong
/// passwords count.
async fn owner_says(services: &Services, user: &User, password: &str) -> Result<(), NotChanged> {
    let attempt = services.attempts.of_owner(user.id).ok_or(NotChanged::TooOften)?;
    if fit(services, Turn::Own(user.id), password, Some(user.password.clone())).await? == Fit::No {
        attempt.wrong();
        return Err(NotChanged::WrongPassword);
    }
    Ok(())
}

/// Deletes the account of a user who says the password once more: as the operator's `delete` does.
/// What was begun goes on when the client goes away.
///
/// # Errors
/// See [`NotChanged`]; [`StoreFailure::Unsure`] also when the account is gone and a
/// membership may be left.
pub async fn delete(services: &Arc<Services>, user: UserId, password: &str) -> Result<(), NotChanged> {
    let known = services.db.read(move |store| store.people().user(user)).await?.ok_or(NotChanged::Gone)?;
    owner_says(services, &known, password).await?;
    let services = Arc::clone(services);
    let deletion = tokio::spawn(async move { delete_all(&services, user).await });
    deletion.await.unwrap_or_else(|_| Err(StoreFailure::Unsure.into()))
}

/// Again and again while something is busy: nobody else could ask for the rest, because every token
/// is void.
async fn delete_all(services: &Services, user: UserId) -> Result<(), NotChanged> {
    let mut tries = limits::FOLLOW_TRIES_MAX;
    loop {
        let why = match operator::on_gateway(services, Deed::Delete, user).await {
            DeedOutcome::Account(_) => return Ok(()),
            DeedOutcome::NoSuchUser => return Err(NotChanged::Gone),
            DeedOutcome::Broken => return Err(StoreFailure::Broken.into()),
            DeedOutcome::Busy => StoreFailure::Busy,
            DeedOutcome::Unsure => StoreFailure::Unsure,
        };
        tries -= 1;
        if tries == 0 {
            tracing::warn!(%user, ?why, "an account was not deleted altogether; `imgate user delete` ends what is left");
            return Err(why.into());
        }
        tokio::time::sleep(Duration::from_millis(limits::FOLLOW_RETRY_MS)).await;
    }
}

/// Makes every token of `user` void that was made so far, and ends the sessions that were opened
/// with them.
///
/// # Errors
/// The store's trouble.
pub async fn log_out_everywhere(services: &Services, user: UserId) -> Result<(), StoreFailure> {
    let now_s = u32::try_from(clock::wall_ms() / 1000).unwrap_or(u32::MAX);
    let epoch = services.db.write(move |store| store.people().log_out(user, now_s)).await;
    if let Some(epoch) = services.end_if_unsure(user, Void::Older, epoch)? {
        services.end_older(user, epoch).await;
    }
    Ok(())
}
