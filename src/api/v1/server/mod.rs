//! `/api/v1/server`: what backends ask with their keys.
//!
//! Owns: the check of the key and its scope before anything else of a call is looked at.
//! Never: lets a user's token or cookie in, or a key whose scope is another.

mod about;
mod fields;
mod groups;
mod messages;
mod users;

pub(super) use self::about::{history, online, stats};
pub(super) use self::groups::{
    add_member, change_group, create_group, dissolve_group, group, group_members, remove_member, set_member_role,
};
pub(super) use self::messages::send;
pub(super) use self::users::{
    ban, change_user, create_user, disconnect, erase_user, find_users, issue_token, unban, user, user_data,
};
// The macros find a handler's description beside it.
pub(super) use self::about::{__path_history, __path_online, __path_stats};
pub(super) use self::groups::{
    __path_add_member, __path_change_group, __path_create_group, __path_dissolve_group, __path_group,
    __path_group_members, __path_remove_member, __path_set_member_role,
};
pub(super) use self::messages::__path_send;
pub(super) use self::users::{
    __path_ban, __path_change_user, __path_create_user, __path_disconnect, __path_erase_user, __path_find_users,
    __path_issue_token, __path_unban, __path_user, __path_user_data,
};

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;

use super::refusal::{self, Refusal};
use crate::api::app::App;
use crate::api::services::api_keys::{Admitted, NotAdmitted, Scope};
use crate::api::trails::Acting;
use crate::caller::bearer;

/// A call whose key has the scope of that bit.
pub(super) struct Keyed<const SCOPE: u32> {
    /// Keeps its place until the call has ended.
    pub(super) admitted: Admitted,
}

impl<const SCOPE: u32> FromRequestParts<App> for Keyed<SCOPE> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let scope = Scope::ALL.iter().map(|(_, scope)| *scope).find(|scope| *scope as u32 == SCOPE);
        let scope = scope.ok_or(refusal::NO_SCOPE)?;
        let services = &app.services;
        let acting = parts.extensions.get::<Arc<Acting>>();
        let named = |id, name: &Arc<str>| {
            if let Some(acting) = acting {
                acting.key(id, Arc::clone(name));
            }
        };
        let admitted = services.keys.admit(&services.db, shown(&parts.headers), scope, named).await?;
        tracing::debug!(key = %admitted.name, method = %parts.method, path = parts.uri.path(), "a backend calls");
        Ok(Self { admitted })
    }
}

/// The key as it is shown: as a bearer token, or in a header of its own.
fn shown(headers: &HeaderMap) -> Option<&str> {
    bearer(headers).or_else(|| headers.get("x-api-key").and_then(|value| value.to_str().ok()))
}

impl From<NotAdmitted> for Refusal {
    fn from(why: NotAdmitted) -> Self {
        match why {
            NotAdmitted::NoKey => refusal::NO_KEY,
            NotAdmitted::Scope => refusal::NO_SCOPE,
            NotAdmitted::TooFast => refusal::TOO_FAST,
            NotAdmitted::Store(why) => why.into(),
        }
    }
}

/// `Keyed` by what it is for.
pub(super) type MaySend = Keyed<{ Scope::Send as u32 }>;
pub(super) type MayUsers = Keyed<{ Scope::Users as u32 }>;
pub(super) type MayGroups = Keyed<{ Scope::Groups as u32 }>;
pub(super) type MayOnline = Keyed<{ Scope::Online as u32 }>;
pub(super) type MayHistory = Keyed<{ Scope::History as u32 }>;
pub(super) type MayModerate = Keyed<{ Scope::Moderate as u32 }>;
pub(super) type MayData = Keyed<{ Scope::Data as u32 }>;
pub(super) type MayStats = Keyed<{ Scope::Stats as u32 }>;
pub(super) type MayTokens = Keyed<{ Scope::Tokens as u32 }>;
