//! The originals' objects: `User` and `Community` with their keys in their order.

use serde::Serialize;

use super::date;
use crate::api::services::accounts::UserToken;
use crate::store::{Group, User};

/// A user as the pages know one.
#[derive(Serialize)]
pub(super) struct LegacyUser<'a> {
    id: u64,
    mobile: &'a str,
    avatar: &'a str,
    sex: &'a str,
    nickname: &'a str,
    online: u8,
    token: &'a str,
    memo: &'a str,
    createat: String,
}

impl<'a> LegacyUser<'a> {
    /// To its own user, who has just logged in.
    pub(super) fn own(account: &'a UserToken) -> Self {
        let shown = Self::shown(&account.user);
        Self { mobile: &account.user.mobile, token: &account.token, ..shown }
    }

    /// To its own user, later on.
    pub(super) fn mine(user: &'a User) -> Self {
        Self { mobile: &user.mobile, ..Self::shown(user) }
    }

    /// To anybody: without token and mobile number.
    pub(super) fn shown(user: &'a User) -> Self {
        Self {
            id: user.id.get(),
            mobile: "",
            avatar: &user.avatar,
            sex: &user.sex,
            nickname: &user.nickname,
            online: 0,
            token: "",
            memo: &user.memo,
            createat: date::rfc3339(user.created_ms),
        }
    }

    /// In the place of a user who does not exist: without an object the pages freeze.
    pub(super) fn stub(id: u64) -> Self {
        let createat = date::ZERO.to_owned();
        Self { id, mobile: "", avatar: "", sex: "", nickname: "", online: 0, token: "", memo: "", createat }
    }
}

/// A group as the pages know one.
#[derive(Serialize)]
pub(super) struct Community<'a> {
    id: u64,
    name: &'a str,
    ownerid: u64,
    icon: &'a str,
    cate: i64,
    memo: &'a str,
    createat: String,
}

impl<'a> Community<'a> {
    pub(super) fn new(group: &'a Group) -> Self {
        Self {
            id: group.id.get(),
            name: &group.name,
            ownerid: group.owner.get(),
            icon: &group.icon,
            cate: group.cate,
            memo: &group.memo,
            createat: date::rfc3339(group.created_ms),
        }
    }
}
