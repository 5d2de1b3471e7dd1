//! The routes of fastIM and IMChat on one server (contract, A.3, B.2, E): their texts, typos included, and their objects.
//!
//! Owns: what differs between the two originals, and between them and our services.
//! Never: repeats their bugs (empty tokens, the wrong object, double documents), and never shows a user's token or
//! mobile number to anybody else.

mod accounts;
mod friends;
mod groups;
mod objects;

use axum::Router;
use axum::routing::any;

use super::App;
use super::services::Trouble;
use super::services::accounts::Field;

/// The routes. The originals look at no method, so every method is taken.
pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/user/register", any(accounts::register_fastim))
        .route("/register", any(accounts::register_imchat))
        .route("/user/login", any(accounts::login_fastim))
        .route("/login", any(accounts::login_imchat))
        .route("/user/find", any(accounts::find))
        .route("/modification", any(accounts::modify))
        .route("/contact/addfriend", any(friends::add))
        .route("/contact/loadfriend", any(friends::load))
        .route("/contact/createcommunity", any(groups::create))
        .route("/contact/joincommunity", any(groups::join))
        .route("/contact/loadcommunity", any(groups::load))
}

/// Not logged in as who acts.
pub(super) const NOT_LOGGED_IN: &str = "请先登录";

/// Neither a form nor JSON.
const UNBOUND: &str = "当前方法暂不支持";
/// Logins or registrations beyond what one address or one account may try.
pub(super) const TOO_OFTEN: &str = "操作过于频繁,请稍后再试";

/// What a client is told about [`Trouble`].
pub(super) const fn trouble(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::Busy => "系统繁忙,请稍后再试",
        Trouble::Unsure => "操作结果未知,请刷新后重试",
        Trouble::Broken => "系统错误,请联系管理员",
    }
}

/// What a client is told about a field that is too long. The originals pass the database's English text on.
const fn too_long(field: Field) -> &'static str {
    match field {
        Field::Mobile => "手机号过长",
        Field::Password => "密码过长",
        Field::Nickname => "昵称过长",
        Field::Icon => "图片地址过长",
        Field::Memo => "简介过长",
        Field::GroupName => "群名称过长",
    }
}
