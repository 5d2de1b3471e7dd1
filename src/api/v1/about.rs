//! What a client must know of this gateway, and the description of the API itself.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::answer;
use crate::api::app::App;
use crate::api::json::json;
use crate::api::services::subjects;
use crate::ids::UserId;
use crate::{clock, limits};

/// What a client must know before it offers something.
#[derive(Serialize, ToSchema)]
pub(super) struct About {
    /// The largest file that may be uploaded, in bytes; 0 where none may.
    max_upload: u64,
    /// Sorts of files that may be uploaded.
    upload_kinds: Vec<&'static str>,
    /// How long a message may be recalled, in milliseconds.
    recall_ms: u64,
    /// What a new password must have, and a new login name.
    rules: Rules,
    /// The user in whose name backends speak that name no author; none before they have done so.
    system: Option<u64>,
    /// The gateway's.
    version: &'static str,
    /// Of our own pages.
    languages: [&'static str; 2],
}

/// What a registration must fulfil, to be said beforehand.
#[derive(Serialize, ToSchema)]
pub(super) struct Rules {
    /// Characters of a password at least.
    password_chars_min: usize,
    /// Bytes of a password in UTF-8 at most.
    password_bytes_max: usize,
    /// Characters of a login name at most.
    mobile_chars_max: usize,
    /// Digits of a login name that is a number, at least.
    number_digits_min: usize,
    /// The same at most.
    number_digits_max: usize,
    /// Characters of a nickname at most.
    nickname_chars_max: usize,
    /// Whether anybody may register.
    registration_open: bool,
}

/// Sorts of files: the first three are shown, the last one is saved.
const UPLOAD_KINDS: [&str; 4] = ["image", "audio", "video", "file"];

/// What a client must know of this gateway. Without a login.
#[utoipa::path(get, path = "/api/v1/config", tag = "about", security(()), responses((status = 200, body = About)))]
pub(super) async fn config(State(app): State<App>) -> Response {
    let about = About {
        max_upload: app.uploads.bytes_max(),
        upload_kinds: if app.uploads.bytes_max() == 0 { Vec::new() } else { UPLOAD_KINDS.to_vec() },
        recall_ms: limits::RECALL_MS_MAX,
        rules: Rules {
            password_chars_min: limits::PASSWORD_CHARS_MIN,
            password_bytes_max: limits::PASSWORD_BYTES_MAX,
            mobile_chars_max: limits::MOBILE_CHARS_MAX,
            number_digits_min: limits::NUMBER_DIGITS_MIN,
            number_digits_max: limits::NUMBER_DIGITS_MAX,
            nickname_chars_max: limits::NICKNAME_CHARS_MAX,
            registration_open: app.services.attempts.registration_is_open(),
        },
        system: subjects::known_system(&app.services, clock::wall_ms()).map(UserId::get),
        version: env!("CARGO_PKG_VERSION"),
        languages: ["en", "zh"],
    };
    answer(StatusCode::OK, &about)
}

/// This description.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "about", security(()),
    responses((status = 200, description = "An OpenAPI 3.1 document", body = Object)))]
pub(super) async fn openapi(State(app): State<App>) -> Response {
    // Made once: it takes milliseconds, and anybody may ask for it.
    json(app.description)
}
