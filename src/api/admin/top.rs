//! `GET /admin/top`: who takes the most, by user, group and network, counted while it is asked.
//!
//! Never: without the operator's token: it says who is here.
//! Bounds: one look at a time, of [`TOP_SECONDS_MAX`] at most; [`TOP_ROWS_MAX`] rows of each list.
//! A shard that does not answer is waited for [`READY_MS_MAX`](crate::limits::READY_MS_MAX) once,
//! and named.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{Insight, text};
use crate::api::services::{ShardAccess, pulse};
use crate::clock::Clock;
use crate::ids::ShardId;
use crate::limits::{TOP_ROWS_MAX, TOP_SECONDS_MAX};
use crate::metrics::Board;
use crate::metrics::top::{Top, Weights};

/// How long a look takes that does not say it.
const SECONDS_DEFAULT: u64 = 2;
/// A word, and what it sorts by.
type Order = (&'static str, fn(&Weights) -> u64);

/// What it may be sorted by.
const BY: [Order; 6] = [
    ("cost", |weights| weights.cost),
    ("messages", |weights| weights.messages),
    ("bytes", |weights| weights.bytes),
    ("refused", |weights| weights.refused),
    ("opened", |weights| weights.opened),
    ("queued", |weights| weights.queued),
];

/// Ends a look also when whoever asked has gone.
struct Look(Board);

impl Drop for Look {
    fn drop(&mut self) {
        self.0.look(false);
    }
}

/// Looks for a while, and answers.
pub(super) async fn top(State(insight): State<Insight>, Query(asked): Query<HashMap<String, String>>) -> Response {
    let seconds = asked.get("seconds").map_or(Some(SECONDS_DEFAULT), |text| text.parse().ok());
    let by = asked.get("by").map_or("cost", String::as_str);
    let by = BY.into_iter().find(|(name, _)| *name == by);
    let (Some(seconds @ 1..=TOP_SECONDS_MAX), Some((name, by))) = (seconds, by) else {
        let words = BY.map(|(name, _)| name).join(", ");
        let why = format!("seconds is 1 to {TOP_SECONDS_MAX}, by is one of {words}\n");
        return text(StatusCode::BAD_REQUEST, why);
    };
    let Ok(_place) = Arc::clone(&insight.looks).try_acquire_owned() else {
        return text(StatusCode::CONFLICT, "somebody else looks already\n");
    };
    let look = Look(insight.operator.board.clone());
    drop(look.0.take_tops());
    look.0.look(true);
    let clock = Clock::start();
    let mut shards = Turning::all(&insight);
    shards.turned().await;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    look.0.look(false);
    let counted_ms = clock.now().mono_ms;
    shards.turned().await;
    let (mut users, mut groups, mut networks) = (Top::default(), Top::default(), Top::default());
    for report in look.0.take_tops() {
        users.merge(report.users);
        groups.merge(report.groups);
        networks.merge(report.networks);
    }
    let of_groups: fn(&Weights) -> u64 =
        if name == "bytes" { |weights| weights.bytes } else { |weights| weights.messages };
    Json(json!({
        "seconds": seconds,
        // Longer where a shard had to be waited for.
        "counted_ms": counted_ms,
        "users": rows(users, "user", by, |user| json!(user.get())),
        "groups": rows(groups, "group", of_groups, |group| json!(group.get())),
        "networks": rows(networks, "network", |weights| weights.opened, |network| json!(network.to_string())),
        "silent_shards": shards.silent.iter().map(|shard| shard.0).collect::<Vec<_>>(),
    }))
    .into_response()
}

/// The shards, as far as they answer.
struct Turning<'a> {
    homes: &'a dyn ShardAccess,
    answering: Vec<ShardId>,
    /// Those that did not at least once: they are waited for no more.
    silent: Vec<ShardId>,
}

impl<'a> Turning<'a> {
    fn all(insight: &'a Insight) -> Self {
        let homes = insight.services.homes.as_ref();
        Self { homes, answering: (0..homes.shards()).map(ShardId).collect(), silent: Vec::new() }
    }

    /// Waits until each shard that answers has ended a turn: it answers in the middle of one, and
    /// what it has counted is shown at the end, so the second answer says that.
    async fn turned(&mut self) {
        for _ in 0..2 {
            let silent = pulse::silent_of(self.homes, &self.answering).await;
            self.answering.retain(|shard| !silent.contains(shard));
            self.silent.extend(silent);
        }
        self.silent.sort_unstable();
    }
}

fn rows<K: Copy + Eq + std::hash::Hash + Ord>(
    top: Top<K>,
    name: &str,
    by: fn(&Weights) -> u64,
    shown: impl Fn(K) -> Value,
) -> Value {
    let row = |(key, weights): (K, Weights)| {
        let Weights { cost, messages, bytes, refused, opened, queued } = weights;
        let mut row = json!({
            "cost": cost, "messages": messages, "bytes": bytes, "refused": refused, "opened": opened, "queued": queued,
        });
        row[name] = shown(key);
        row
    };
    top.first(TOP_ROWS_MAX, by).into_iter().map(row).collect()
}
