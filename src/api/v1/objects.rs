//! The objects of `/api/v1`.
//!
//! Never: shows a user's mobile number to anybody else.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::LoginId;
use crate::store;

/// A user, as everybody sees one.
#[derive(Serialize, ToSchema)]
pub(super) struct User {
    /// Below 2^53.
    id: u64,
    nickname: String,
    /// URL.
    avatar: String,
    /// `M`, `W`, `U` or empty.
    sex: String,
    /// About oneself.
    memo: String,
    /// When the user registered, in Unix milliseconds.
    created_ms: u64,
}

impl From<store::User> for User {
    fn from(user: store::User) -> Self {
        let store::User { nickname, avatar, sex, memo, created_ms, .. } = user;
        Self { id: user.id.get(), nickname, avatar, sex, memo, created_ms }
    }
}

/// The user who asks.
#[derive(Serialize, ToSchema)]
pub(super) struct Me {
    #[serde(flatten)]
    user: User,
    /// The login name; nobody else sees it.
    mobile: String,
}

impl From<store::User> for Me {
    fn from(user: store::User) -> Self {
        let mobile = user.mobile.clone();
        Self { user: user.into(), mobile }
    }
}

/// A login: a device, or a program, whose token is good.
#[derive(Serialize, ToSchema)]
pub(super) struct Login {
    /// Among those of its user.
    id: u32,
    /// It is the one that asks.
    current: bool,
    /// What the program called itself that logged in; may be empty.
    agent: String,
    /// The address from which it logged in.
    address: String,
    /// Unix milliseconds.
    created_ms: u64,
    /// When it was used last, to an hour exact, in Unix milliseconds.
    used_ms: u64,
    /// When its token ends, in Unix milliseconds.
    expires_ms: u64,
}

impl Login {
    /// As the login `asks` is shown it.
    pub(super) fn of(login: store::LoginInfo, asks: Option<LoginId>) -> Self {
        let store::LoginInfo { login, agent, address, created_ms, used_ms, expires_ms } = login;
        let current = asks == Some(login);
        Self { id: login.get(), current, agent, address, created_ms, used_ms, expires_ms }
    }
}

/// A friend.
#[derive(Serialize, ToSchema)]
pub(super) struct Friend {
    #[serde(flatten)]
    user: User,
    /// Whether the user who asks has blocked this friend.
    blocked: bool,
}

impl From<store::Friend> for Friend {
    fn from(friend: store::Friend) -> Self {
        Self { user: friend.user.into(), blocked: friend.blocked }
    }
}

/// A group.
#[derive(Serialize, ToSchema)]
pub(super) struct Group {
    /// Below 2^53.
    id: u64,
    /// Not unique.
    name: String,
    /// URL.
    icon: String,
    /// Category, as the maker likes.
    cate: i64,
    memo: String,
    /// The user who made it.
    owner: u64,
    /// How many there are.
    members: u64,
    /// Unix milliseconds.
    created_ms: u64,
    /// Who gets in by asking.
    rule: Rule,
    /// Members may add their friends and have the link, not only admins.
    members_add: bool,
    /// What one is there oneself; absent for who is no member, and in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<Role>,
    /// One has asked to be let in; absent otherwise.
    #[serde(skip_serializing_if = "is_false")]
    asked: bool,
}

fn is_false(value: &bool) -> bool {
    !*value
}

impl From<(store::Group, u64)> for Group {
    fn from((group, members): (store::Group, u64)) -> Self {
        let store::Group { id, name, owner, icon, cate, memo, created_ms, rule, members_add } = group;
        let (id, owner, rule) = (id.get(), owner.get(), rule.into());
        Self { id, name, icon, cate, memo, owner, members, created_ms, rule, members_add, role: None, asked: false }
    }
}

impl From<store::Standing> for Group {
    fn from(found: store::Standing) -> Self {
        let store::Standing { group, members, role, asked, .. } = found;
        Self { role: role.map(Role::from), asked, ..Self::from((group, members)) }
    }
}

/// Who gets into a group by asking.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Rule {
    /// Everybody.
    Open,
    /// Whom the owner or an admin lets in.
    Approval,
    /// Nobody: one is added, or has the link.
    Invitation,
}

impl From<store::Rule> for Rule {
    fn from(rule: store::Rule) -> Self {
        match rule {
            store::Rule::Plain | store::Rule::Open => Self::Open,
            store::Rule::Approval => Self::Approval,
            store::Rule::Invitation => Self::Invitation,
        }
    }
}

impl From<Rule> for store::Rule {
    fn from(rule: Rule) -> Self {
        match rule {
            Rule::Open => Self::Open,
            Rule::Approval => Self::Approval,
            Rule::Invitation => Self::Invitation,
        }
    }
}

/// What a member of a group may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    /// Writes and reads.
    Member,
    /// Also changes the group, lets people in and removes members.
    Admin,
    /// Also makes admins, hands the group on and dissolves it.
    Owner,
}

impl From<store::Role> for Role {
    fn from(role: store::Role) -> Self {
        match role {
            store::Role::Member => Self::Member,
            store::Role::Admin => Self::Admin,
            store::Role::Owner => Self::Owner,
        }
    }
}

impl From<Role> for store::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Member => Self::Member,
            Role::Admin => Self::Admin,
            Role::Owner => Self::Owner,
        }
    }
}

/// A member of a group.
#[derive(Serialize, ToSchema)]
pub(super) struct Member {
    #[serde(flatten)]
    user: User,
    role: Role,
}

impl From<(store::User, store::Role)> for Member {
    fn from((user, role): (store::User, store::Role)) -> Self {
        Self { user: user.into(), role: role.into() }
    }
}

/// A list of members, as `page` writes it. Only the description is used.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description")]
pub(super) struct Members {
    rows: Vec<Member>,
    /// Whether there are more behind the last one.
    more: bool,
}

/// The link to a group.
#[derive(Serialize, ToSchema)]
pub(super) struct Invite {
    /// Its secret: `/api/v1/invites/{secret}`. `null`: there is no link.
    secret: Option<String>,
    /// Where our own client opens it, below the gateway's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
}

impl From<Option<String>> for Invite {
    fn from(secret: Option<String>) -> Self {
        let path = secret.as_ref().map(|secret| format!("/#/join/{secret}"));
        Self { secret, path }
    }
}

/// A list of users, as `page` writes it. Only the description is used.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description")]
pub(super) struct Users {
    rows: Vec<User>,
    /// Whether there are more behind the last one.
    more: bool,
}

/// The logins of a user, as `page` writes them. Only the description is used.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description")]
pub(super) struct Logins {
    rows: Vec<Login>,
    /// Never: there are few.
    more: bool,
}

/// A list of friends, as `page` writes it. Only the description is used.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description")]
pub(super) struct Friends {
    rows: Vec<Friend>,
    /// Whether there are more behind the last one.
    more: bool,
}

/// A list of groups, as `page` writes it. Only the description is used.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a description")]
pub(super) struct Groups {
    rows: Vec<Group>,
    /// Whether there are more behind the last one.
    more: bool,
}

/// Nothing to tell but that it is done: `{}`.
#[derive(Serialize, ToSchema)]
pub(super) struct Done {}

/// A user who is logged in now.
#[derive(Serialize, ToSchema)]
pub(super) struct LoggedIn {
    pub(super) user: Me,
    /// For `Authorization: Bearer` and for the WebSocket. The answer also sets it as a cookie.
    pub(super) token: String,
}

/// A token that replaces those before it.
#[derive(Serialize, ToSchema)]
pub(super) struct Token {
    pub(super) token: String,
}
