//! The routes of fastIM and IMChat on one server: their texts, typos included, their objects, and
//! their pages. Everything that is theirs alone is in this folder; the feature `legacy` builds it.
//!
//! Owns: what differs between the two originals, and between them and our services.
//! Never: repeats their bugs (empty tokens, the wrong object, double documents), and never shows a
//! user's token or mobile number to anybody else.

mod accounts;
mod attach;
mod binding;
mod date;
mod envelope;
mod form;
mod friends;
mod groups;
mod history;
mod multipart;
mod objects;
pub(super) mod pages;
#[cfg(test)]
mod tests;

use axum::Router;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use axum::routing::{any, get};

use super::app::App;
use super::family::{ENCODED, Family, ROWS_BYTES};
use super::services::StoreFailure;
use super::services::accounts::OverlongField;
use super::slots::RequestClass;
use super::{files, json};
use crate::limits;

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
        .route("/message/history", get(history::history))
        .route("/attach/upload", any(attach::upload))
        .route("/resource/{name}", any(files::file))
        .route("/mnt/{name}", any(files::file))
}

/// The routes of the old systems, whose pages know answers of status 200 only.
pub(super) struct LegacyCalls;

impl Family for LegacyCalls {
    fn owns(&self, path: &str) -> bool {
        let begins = ["/contact/", "/message/", "/modification", "/user/", "/attach/"];
        begins.iter().any(|begin| path.starts_with(begin)) || matches!(path, "/login" | "/register")
    }

    fn is_of_user(&self, path: &str) -> bool {
        self.owns(path) && !self.is_upload(path)
    }

    fn is_upload(&self, path: &str) -> bool {
        path == "/attach/upload"
    }

    fn class(&self, path: &str) -> RequestClass {
        let logs_in = matches!(path, "/user/login" | "/login" | "/user/register" | "/register");
        if logs_in { RequestClass::Login } else { RequestClass::Other }
    }

    fn reading(&self, _: &Method, path: &str) -> usize {
        match path {
            "/contact/loadfriend" | "/contact/loadcommunity" => ROWS_BYTES + limits::HTTP_LIST_BYTES_MAX,
            "/message/history" => 3 * limits::SYNC_BYTES_MAX,
            _ => 0,
        }
    }

    fn too_many(&self) -> Response {
        envelope::failure(TOO_OFTEN)
    }

    fn busy(&self) -> Response {
        envelope::failure(store_failure(StoreFailure::Busy))
    }

    fn too_large(&self, bytes: u64) -> Response {
        if bytes <= limits::HTTP_DECLARED_BYTES_MAX {
            envelope::failure(TOO_LARGE)
        } else {
            json::text(StatusCode::PAYLOAD_TOO_LARGE, "Payload Too Large\n")
        }
    }

    fn encoded(&self) -> Response {
        json::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, ENCODED)
    }
}

/// Not logged in as the user that is claimed.
const NOT_LOGGED_IN: &str = "请先登录";

/// Neither a form nor JSON.
const UNBOUND: &str = "当前方法暂不支持";
/// A body of more than [`crate::limits::HTTP_BODY_BYTES_MAX`].
const TOO_LARGE: &str = "请求内容过大";
/// Logins, registrations or uploads beyond what one address or one account may try.
const TOO_OFTEN: &str = "操作过于频繁,请稍后再试";

/// What a client is told about [`StoreFailure`].
const fn store_failure(trouble: StoreFailure) -> &'static str {
    match trouble {
        StoreFailure::Busy => "系统繁忙,请稍后再试",
        StoreFailure::Unsure => "操作结果未知,请刷新后重试",
        StoreFailure::Broken => "系统错误,请联系管理员",
    }
}

/// What a client is told about a field that is too long. The originals pass the database's English
/// text on.
const fn too_long(field: OverlongField) -> &'static str {
    match field {
        OverlongField::Mobile => "手机号过长",
        OverlongField::Password => "密码过长",
        OverlongField::Nickname => "昵称过长",
        OverlongField::Icon => "图片地址过长",
        OverlongField::Memo => "简介过长",
        OverlongField::GroupName => "群名称过长",
    }
}
