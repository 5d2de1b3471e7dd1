//! `/api/v1`: JSON for our own clients, described by an OpenAPI document that is generated from
//! these handlers.
//!
//! Owns: the paths, the shape of answers, the guard of calls that change something (`asking`).
//! Never: does anything itself; the work is the services', which the legacy routes share.

// What utoipa's macros write names its types in full.
#![allow(unused_qualifications)]

mod about;
mod accounts;
mod asking;
mod described;
mod doors;
mod files;
mod groups;
mod history;
mod objects;
mod people;
mod recalls;
mod refusal;
mod server;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any};
use bytes::Bytes;
use serde::Serialize;
use utoipa::OpenApi;

use super::app::App;
use super::family::{Family, ROWS_BYTES};
use super::json::json;
use super::slots::RequestClass;
use crate::limits;

/// Makes the router and the description of one list of calls. (`utoipa-axum` would do that, too,
/// by the crate `paste`, which is not maintained any more.)
macro_rules! calls {
    ($($path:literal: $($method:ident $module:ident::$handler:ident),+;)+) => {
        /// The routes.
        pub(super) fn routes() -> Router<App> {
            Router::new()
                $(.route($path, MethodRouter::new()$(.$method($module::$handler))+))+
                .method_not_allowed_fallback(async || refusal::METHOD_NOT_ALLOWED)
                .merge(Router::new().fallback(any(unknown)))
        }

        #[derive(OpenApi)]
        #[openapi(
            info(
                title = "imgate",
                description = "The HTTP API of the imgate gateway; the WebSocket is described in docs/protocol.md. \
                    Failures have the body of `Failure`.",
            ),
            paths($($($module::$handler),+),+),
            components(schemas(refusal::Failure)),
            security(("bearer" = []), ("cookie" = [])),
        )]
        struct Api;
    };
}

// A handler says its path once more, for its description; a test compares the two.
calls! {
    "/api/v1/register": post accounts::register;
    "/api/v1/login": post accounts::login;
    "/api/v1/logout": post accounts::logout;
    "/api/v1/me": get accounts::me, patch accounts::change_me;
    "/api/v1/me/password": post accounts::change_password;
    "/api/v1/me/delete": post accounts::delete_me;
    "/api/v1/me/logins": get accounts::my_logins;
    "/api/v1/me/logins/{id}": delete accounts::end_login;
    "/api/v1/users": get people::users;
    "/api/v1/users/{id}": get people::user;
    "/api/v1/friends": get people::friends;
    "/api/v1/friends/{id}": put people::befriend, delete people::unfriend;
    "/api/v1/blocks": get people::blocks;
    "/api/v1/blocks/{id}": put people::block, delete people::unblock;
    "/api/v1/groups": get groups::groups, post groups::create;
    "/api/v1/groups/{id}": get groups::group, patch groups::change, delete groups::dissolve;
    "/api/v1/groups/{id}/members": get groups::members;
    "/api/v1/groups/{id}/members/me": put groups::join, delete groups::leave;
    "/api/v1/groups/{id}/members/{user}": put doors::add, patch doors::set_role, delete groups::remove;
    "/api/v1/groups/{id}/requests": get doors::requests;
    "/api/v1/groups/{id}/requests/{user}": delete doors::forget_request;
    "/api/v1/groups/{id}/invite": get doors::invite, post doors::make_invite, delete doors::revoke_invite;
    "/api/v1/invites/{secret}": get doors::invited, put doors::join_by;
    "/api/v1/history": get history::history;
    "/api/v1/messages/recall": post recalls::recall;
    "/api/v1/files": post files::upload;
    "/api/v1/files/claim": post files::claim;
    "/api/v1/server/messages": post server::send;
    "/api/v1/server/users": get server::find_users, post server::create_user;
    "/api/v1/server/users/{id}": get server::user, patch server::change_user, delete server::erase_user;
    "/api/v1/server/users/{id}/ban": put server::ban, delete server::unban;
    "/api/v1/server/users/{id}/disconnect": post server::disconnect;
    "/api/v1/server/users/{id}/token": post server::issue_token;
    "/api/v1/server/users/{id}/data": get server::user_data;
    "/api/v1/server/groups": post server::create_group;
    "/api/v1/server/groups/{id}": get server::group, patch server::change_group, delete server::dissolve_group;
    "/api/v1/server/groups/{id}/members": get server::group_members;
    "/api/v1/server/groups/{id}/members/{user}": put server::add_member, patch server::set_member_role, delete server::remove_member;
    "/api/v1/server/online": post server::online;
    "/api/v1/server/history": get server::history;
    "/api/v1/server/stats": get server::stats;
    "/api/v1/config": get about::config;
    "/api/v1/openapi.json": get about::openapi;
}

/// What is no call of ours is told in our way below `/api/`, and as everywhere else otherwise.
async fn unknown(State(app): State<App>, request: Request) -> Response {
    if ApiCalls.owns(request.uri().path()) { refusal::NOT_FOUND.into_response() } else { app.unrouted(request).await }
}

/// The calls below `/api/`.
pub(super) struct ApiCalls;

impl Family for ApiCalls {
    fn owns(&self, path: &str) -> bool {
        path.starts_with("/api/")
    }

    fn is_of_user(&self, path: &str) -> bool {
        self.owns(path) && !matches!(path, "/api/v1/config" | "/api/v1/openapi.json" | "/api/v1/files")
    }

    fn is_upload(&self, path: &str) -> bool {
        path == "/api/v1/files"
    }

    fn class(&self, path: &str) -> RequestClass {
        if matches!(path, "/api/v1/login" | "/api/v1/register") { RequestClass::Login } else { RequestClass::Other }
    }

    fn reading(&self, method: &Method, path: &str) -> usize {
        const LIST: usize = ROWS_BYTES + limits::HTTP_ANSWER_BYTES_MAX;
        match path {
            "/api/v1/history" | "/api/v1/server/history" => 3 * limits::SYNC_BYTES_MAX,
            "/api/v1/friends" | "/api/v1/blocks" | "/api/v1/groups" | "/api/v1/users" if method == Method::GET => LIST,
            path if is_list(path) => LIST,
            _ => 0,
        }
    }

    fn too_many(&self) -> Response {
        refusal::TOO_MANY_REQUESTS.into_response()
    }

    fn busy(&self) -> Response {
        refusal::BUSY.into_response()
    }

    fn too_large(&self, _: u64) -> Response {
        refusal::TOO_LARGE.into_response()
    }

    fn encoded(&self) -> Response {
        refusal::ENCODED.into_response()
    }
}

/// Whether a path with a number in it is that of a list.
fn is_list(path: &str) -> bool {
    let of = |start: &str, end: &str| path.starts_with(start) && path.ends_with(end);
    of("/api/v1/groups/", "/members")
        || of("/api/v1/server/groups/", "/members")
        || of("/api/v1/server/users/", "/data")
}

/// A page of a list: as many of `rows` as have room in an answer, and whether there are more.
fn page<T: Serialize>(rows: impl IntoIterator<Item = T>, mut more: bool) -> Response {
    let mut body = r#"{"rows":["#.to_owned();
    for (index, row) in rows.into_iter().enumerate() {
        // Only a map with keys that are no texts could fail, and there is none.
        let row = serde_json::to_string(&row).unwrap_or_else(|_| "null".to_owned());
        if body.len() + row.len() > limits::HTTP_ANSWER_BYTES_MAX {
            more = true;
            break;
        }
        if index > 0 {
            body.push(',');
        }
        body.push_str(&row);
    }
    body.push_str(if more { r#"],"more":true}"# } else { r#"],"more":false}"# });
    json(body)
}

/// An answer of JSON.
fn answer<T: Serialize>(status: StatusCode, body: &T) -> Response {
    // Only a map with keys that are no texts could fail, and there is none.
    let mut response = json(serde_json::to_string(body).unwrap_or_else(|_| "{}".to_owned()));
    *response.status_mut() = status;
    response
}

/// The OpenAPI document as it is sent.
pub(super) fn described() -> Bytes {
    // Only a map with keys that are no texts could fail, and there is none.
    let mut document = serde_json::to_value(Api::openapi()).unwrap_or_default();
    described::complete(&mut document);
    serde_json::to_vec(&document).unwrap_or_default().into()
}
