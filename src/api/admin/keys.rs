//! `/admin/keys`: the keys of backends, listed, made, replaced and ended.
//!
//! Never: without the operator's token. Never shows a key but in the answer that makes it.

use std::collections::HashMap;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{Insight, store_reason, text};
use crate::api::services::StoreFailure;
use crate::api::services::api_keys::{KeyWish, NotRotated, Scope};
use crate::api::trails::Particulars;
use crate::clock;
use crate::limits;
use crate::store::ApiKey;

/// The longest life of a key that ends by itself, and the longest grace of one that is replaced, in
/// seconds: ten years.
const SECONDS_MAX: u64 = 3650 * 86_400;

/// The keys, without their secrets.
pub(super) async fn list(State(insight): State<Insight>) -> Response {
    match insight.services.keys.all(&insight.db).await {
        Ok(keys) => Json(json!({ "keys": keys.iter().map(shown).collect::<Vec<_>>() })).into_response(),
        Err(why) => failed(why),
    }
}

/// Makes one: `name`, `scopes` (names with commas), `rate`, `ttl_s`.
pub(super) async fn make(State(insight): State<Insight>, Query(asked): Query<HashMap<String, String>>) -> Response {
    let wish = match wish(&asked, clock::wall_ms()) {
        Ok(wish) => wish,
        Err(why) => return text(StatusCode::BAD_REQUEST, format!("{why}\n")),
    };
    told(
        insight.services.keys.make(&insight.db, wish).await,
        StatusCode::CONFLICT,
        "there are as many keys as there may be",
    )
}

/// Makes one in the place of another, which ends after `grace_s`.
pub(super) async fn rotate(
    State(insight): State<Insight>,
    Path(id): Path<String>,
    Query(asked): Query<HashMap<String, String>>,
) -> Response {
    let grace_s = asked.get("grace_s").map_or(Some(0), |text| text.parse().ok());
    let (Some(id), Some(grace_s @ 0..=SECONDS_MAX)) = (number(&id), grace_s) else {
        return text(StatusCode::BAD_REQUEST, "the id has eight hexadecimal digits; grace_s is at most ten years\n");
    };
    let ends_ms = clock::wall_ms() + grace_s * 1000;
    let made = match insight.services.keys.rotate(&insight.db, id, ends_ms).await {
        Ok(made) => Ok(made),
        Err(NotRotated::Store(why)) => Err(why),
        Err(NotRotated::Replaced) => {
            return text(StatusCode::CONFLICT, "this key was replaced already: rotate the one in its place\n");
        }
    };
    told(made, StatusCode::NOT_FOUND, "there is no such key, or no room for another one")
}

/// Ends one now.
pub(super) async fn end(State(insight): State<Insight>, Path(id): Path<String>) -> Response {
    let Some(id) = number(&id) else { return text(StatusCode::NOT_FOUND, "there is no such key\n") };
    // In the past: also for a clock that is a little behind.
    match insight.services.keys.end(&insight.db, id, 0).await {
        Ok(true) => {
            tracing::info!(id = format!("{id:08x}"), "a backend's key was ended");
            Json(json!({})).into_response()
        }
        Ok(false) => text(StatusCode::NOT_FOUND, "there is no such key\n"),
        Err(why) => failed(why),
    }
}

fn wish(asked: &HashMap<String, String>, now_ms: u64) -> Result<KeyWish, String> {
    let name = asked.get("name").map(|name| name.trim().to_owned()).unwrap_or_default();
    if name.is_empty() || name.chars().count() > limits::API_KEY_NAME_CHARS_MAX || name.chars().any(char::is_control) {
        return Err(format!("name has 1 to {} characters", limits::API_KEY_NAME_CHARS_MAX));
    }
    let scopes = asked.get("scopes").and_then(|list| Scope::parse_list(list)).ok_or_else(|| {
        format!("scopes are some of {}, with commas between them", Scope::ALL.map(|(name, _)| name).join(", "))
    })?;
    let rate = asked.get("rate").map_or(Some(limits::API_RATE_DEFAULT), |text| text.parse().ok());
    let rate = rate.filter(|rate| (1..=limits::API_RATE_MAX).contains(rate));
    let rate = rate.ok_or_else(|| format!("rate is 1 to {} calls a second", limits::API_RATE_MAX))?;
    let expires_ms = match asked.get("ttl_s").map(|text| text.parse::<u64>()) {
        None => ApiKey::NEVER,
        Some(Ok(seconds @ 1..=SECONDS_MAX)) => now_ms + seconds * 1000,
        Some(_) => return Err("ttl_s is 1 s to ten years".to_owned()),
    };
    Ok(KeyWish { name, scopes, rate, expires_ms })
}

fn number(text: &str) -> Option<u32> {
    let is_one = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_one.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

fn shown(key: &ApiKey) -> Value {
    let expires = (key.expires_ms != ApiKey::NEVER).then_some(key.expires_ms);
    json!({
        "id": format!("{:08x}", key.id), "name": key.name, "scopes": Scope::names(key.scopes).collect::<Vec<_>>(),
        "rate": key.rate, "created_ms": key.created_ms, "expires_ms": expires,
    })
}

fn told(made: Result<Option<(ApiKey, String)>, StoreFailure>, none: StatusCode, why: &str) -> Response {
    match made {
        Ok(Some((key, secret))) => {
            tracing::info!(id = format!("{:08x}", key.id), name = key.name, "a backend's key was made");
            let mut answer = shown(&key);
            answer["key"] = secret.into();
            let mut response = (StatusCode::CREATED, Json(answer)).into_response();
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            response.extensions_mut().insert(Particulars(json!({ "made": shown(&key) })));
            response
        }
        Ok(None) => text(none, format!("{why}\n")),
        Err(why) => failed(why),
    }
}

fn failed(why: StoreFailure) -> Response {
    text(StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", store_reason(why)))
}
