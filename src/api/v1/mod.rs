//! `/api/v1`: JSON for our own clients, described by an OpenAPI document that is generated from these handlers.
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

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post, put};
use bytes::Bytes;
use serde::Serialize;
use utoipa::OpenApi;

use super::{App, envelope};
use crate::limits;

/// The routes. A test compares them with the description.
pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/api/v1/register", post(accounts::register))
        .route("/api/v1/login", post(accounts::login))
        .route("/api/v1/logout", post(accounts::logout))
        .route("/api/v1/me", get(accounts::me).patch(accounts::change_me))
        .route("/api/v1/me/password", post(accounts::change_password))
        .route("/api/v1/me/delete", post(accounts::delete_me))
        .route("/api/v1/me/logins", get(accounts::my_logins))
        .route("/api/v1/me/logins/{id}", axum::routing::delete(accounts::end_login))
        .route("/api/v1/users", get(people::users))
        .route("/api/v1/users/{id}", get(people::user))
        .route("/api/v1/friends", get(people::friends))
        .route("/api/v1/friends/{id}", put(people::befriend).delete(people::unfriend))
        .route("/api/v1/blocks", get(people::blocks))
        .route("/api/v1/blocks/{id}", put(people::block).delete(people::unblock))
        .route("/api/v1/groups", get(groups::groups).post(groups::create))
        .route("/api/v1/groups/{id}", get(groups::group).patch(groups::change).delete(groups::dissolve))
        .route("/api/v1/groups/{id}/members", get(groups::members))
        .route("/api/v1/groups/{id}/members/me", put(groups::join).delete(groups::leave))
        .route("/api/v1/groups/{id}/members/{user}", put(doors::add).patch(doors::set_role).delete(groups::remove))
        .route("/api/v1/groups/{id}/requests", get(doors::requests))
        .route("/api/v1/groups/{id}/requests/{user}", axum::routing::delete(doors::forget_request))
        .route("/api/v1/groups/{id}/invite", get(doors::invite).post(doors::make_invite).delete(doors::revoke_invite))
        .route("/api/v1/invites/{secret}", get(doors::invited).put(doors::join_by))
        .route("/api/v1/history", get(history::history))
        .route("/api/v1/messages/recall", post(recalls::recall))
        .route("/api/v1/files", post(files::upload))
        .route("/api/v1/files/claim", post(files::claim))
        .route("/api/v1/config", get(about::config))
        .route("/api/v1/openapi.json", get(about::openapi))
        .method_not_allowed_fallback(async || refusal::METHOD_NOT_ALLOWED)
        .merge(Router::new().fallback(any(unknown)))
}

/// What is no call of ours is told in our way below `/api/`, and as everywhere else otherwise.
async fn unknown(state: State<App>, request: Request) -> Response {
    if request.uri().path().starts_with("/api/") {
        refusal::NOT_FOUND.into_response()
    } else {
        super::unknown(state, request).await
    }
}

/// A user has too many requests under way.
pub(super) fn too_many() -> Response {
    refusal::TOO_MANY_REQUESTS.into_response()
}

/// Not now.
pub(super) fn busy() -> Response {
    refusal::BUSY.into_response()
}

/// A body that is not even read.
pub(super) fn too_large() -> Response {
    refusal::TOO_LARGE.into_response()
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
    envelope::json(body)
}

/// An answer of JSON.
fn answer<T: Serialize>(status: StatusCode, body: &T) -> Response {
    // Only a map with keys that are no texts could fail, and there is none.
    let mut response = envelope::json(serde_json::to_string(body).unwrap_or_else(|_| "{}".to_owned()));
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

#[derive(OpenApi)]
#[openapi(
    info(title = "imgate", description = "The HTTP API of the imgate gateway; the WebSocket is described in docs/protocol.md. \
        Failures have the body of `Failure`."),
    paths(
        accounts::register, accounts::login, accounts::logout, accounts::me, accounts::change_me,
        accounts::change_password, accounts::delete_me, accounts::my_logins, accounts::end_login,
        people::users, people::user, people::friends, people::befriend, people::unfriend, people::blocks, people::block,
        people::unblock,
        groups::groups, groups::create, groups::group, groups::change, groups::dissolve, groups::members, groups::join,
        groups::leave, groups::remove,
        doors::add, doors::set_role, doors::requests, doors::forget_request, doors::invite,
        doors::make_invite, doors::revoke_invite, doors::invited, doors::join_by,
        history::history, recalls::recall,
        files::upload, files::claim,
        about::config, about::openapi,
    ),
    components(schemas(refusal::Failure)),
    security(("bearer" = []), ("cookie" = [])),
)]
struct Api;
