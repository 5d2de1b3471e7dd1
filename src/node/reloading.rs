//! Loading the configuration again while the gateway runs: at SIGHUP, and at `imgate reload`.
//!
//! Owns: what a running gateway takes up ([`Live`]), the order in which it does, and the line that
//! says which settings that were and which wait for a restart. Never: takes up a part of a
//! configuration that is not valid: then all of the old one stays. Never: more than the table of
//! settings says ([`TakesEffect::Reload`]); a test compares.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::bail;
use parking_lot::Mutex;
use serde_json::json;

use super::settings::{allowed, jwt_settings, upload_bounds};
use super::{Load, Node, address_limits, judge};
use crate::api;
use crate::api::admin::Reloaded;
use crate::auth::Key;
use crate::config::{self, Config, FIELDS, Layers, Shown, TakesEffect, in_force};
use crate::fair::Networks;
use crate::log::Log;
use crate::mesh::Adjusted;
use crate::shard::Adjustable;
use crate::store::Keep;

/// What was loaded so far.
pub(super) struct Reloading {
    load: Load,
    /// At the start: what cannot change meanwhile is still as it says.
    first: Layers,
    /// The last time.
    last: Layers,
    /// What of both is in force, for whoever asks at the admin port.
    settings: Arc<Mutex<Vec<Shown>>>,
}

impl Reloading {
    /// The gateway was started with `layers`.
    pub(super) fn new(layers: Layers, load: Load, settings: Arc<Mutex<Vec<Shown>>>) -> Self {
        Self { load, first: layers.clone(), last: layers, settings }
    }

    /// Loads the configuration again, because of a signal or an operator (`by`), and says in the
    /// log what became of it.
    ///
    /// # Errors
    /// Nothing has changed; why.
    pub(super) fn reload(&mut self, node: &mut Node, log: &Log, by: &str) -> Result<Reloaded, String> {
        let mut outcome = self.try_reload(node, log).map_err(|error| format!("{error:#}"));
        // Whatever the settings are, their files may have changed.
        let certificates = node.reload_certificates();
        if let Ok(reloaded) = &mut outcome {
            reloaded.read_again.extend(shown(&certificates.taken));
            reloaded.refused = certificates.refused.iter().map(ToString::to_string).collect();
        }
        match &outcome {
            Ok(Reloaded { in_force, needs_restart, read_again, .. }) if needs_restart.is_empty() => {
                tracing::info!(?in_force, ?read_again, "the configuration was loaded again");
            }
            Ok(Reloaded { in_force, needs_restart, read_again, .. }) => {
                tracing::warn!(
                    ?in_force,
                    ?needs_restart,
                    ?read_again,
                    "the configuration was loaded again; a part of it waits for a restart"
                );
            }
            Err(error) => tracing::error!("the configuration stays as it is: {error}"),
        }
        node.trails.reopen();
        node.trails.audit.say_deed("reload", || match &outcome {
            Ok(Reloaded { in_force, needs_restart, read_again, refused }) => json!({
                "outcome": "ok", "by": by, "in_force": in_force, "needs_restart": needs_restart,
                "read_again": read_again, "refused": refused,
            }),
            Err(_) => json!({ "outcome": "refused", "by": by }),
        });
        outcome
    }

    fn try_reload(&mut self, node: &mut Node, log: &Log) -> anyhow::Result<Reloaded> {
        let layers = (self.load)()?;
        let config = Config::from_layers(&layers)?;
        node.adjust(&config)?;
        log.set_filter(&config.log)?;
        let read_again = shown(&jwt_settings(&config).keys);
        let reloaded = Reloaded { read_again, ..compared(&self.first, &self.last, &layers) };
        self.last = layers;
        *self.settings.lock() = in_force(&self.first, &self.last);
        Ok(reloaded)
    }
}

fn shown(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|path| path.display().to_string()).collect()
}

/// What has changed since `last` and is in force, and what is not as at the start and cannot be.
fn compared(first: &Layers, last: &Layers, now: &Layers) -> Reloaded {
    let of = |change, keys: Vec<&'static str>| {
        let has = |key: &&str| FIELDS.iter().any(|field| field.key == *key && field.change == change);
        keys.into_iter().filter(has).collect()
    };
    Reloaded {
        in_force: of(TakesEffect::Reload, now.differing(last)),
        needs_restart: of(TakesEffect::Restart, now.differing(first)),
        read_again: Vec::new(),
        refused: Vec::new(),
    }
}

/// What those settings are seen with that a running gateway takes up.
pub(super) struct Fixed {
    pub(super) key: Key,
    /// Connections that there may be.
    pub(super) conns_max: usize,
    /// Also those parts go by them that are not told of other settings.
    pub(super) trusted_proxies: Networks,
}

/// The settings that a running gateway takes up, beside the filter of the log.
#[derive(Debug)]
struct Live {
    shards: Adjusted,
    api: api::ControlSettings,
    jwt: api::JwtSettings,
    drain: config::DrainPlan,
    keep: Keep,
}

impl Live {
    fn of(config: &Config, fixed: &Fixed) -> Self {
        let config = &Config { trusted_proxies: fixed.trusted_proxies.clone(), ..config.clone() };
        let judge = judge(config, &fixed.key);
        let gate = address_limits(config, fixed.conns_max);
        Self {
            shards: Adjusted {
                shard: Adjustable {
                    outbox_bytes: config.outbox_bytes,
                    coalesce_ms: config.coalesce_ms,
                    compression_min_bytes: config.compression_min_bytes,
                    ping_after_ms: config.ping_after_ms,
                    idle_after_ms: config.idle_after_ms,
                    devices: config.devices,
                    pace: config.pace,
                },
                judge: Arc::clone(&judge),
                compression: config.compression,
                connect_rate: gate.connect_rate,
                connect_burst: gate.connect_burst,
                connections_per_address: gate.connections,
                guests: gate.guests,
                guests_per_address: gate.guests_per_address,
            },
            api: api::ControlSettings {
                allowed: allowed(config),
                token_ttl_ms: config.token_ttl_ms,
                uploads: upload_bounds(config),
                judge,
            },
            jwt: jwt_settings(config),
            drain: config.drain,
            keep: config.keep,
        }
    }
}

impl Node {
    /// Takes up what a running gateway can of another configuration.
    ///
    /// # Errors
    /// Nothing was taken up: the keys of tokens are none, or a shard does not answer.
    pub fn adjust(&mut self, config: &Config) -> anyhow::Result<()> {
        let Live { shards, api, jwt, drain, keep } = Live::of(config, &self.fixed);
        // First what may fail.
        if !self.orders.may_adjust() {
            bail!("a shard has not taken up the last settings yet");
        }
        let users = self.api.reload_jwt(jwt)?;
        if users > 0 {
            tracing::info!(users, "keys of tokens were removed; their users are disconnected");
        }
        self.orders.adjust(shards);
        self.api.adjust(api);
        self.store.keep(keep);
        self.drain = drain;
        *self.fingerprint.lock() = config.fingerprint();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Settings of which at least `key` is not as it is by default.
    fn others(key: &'static str) -> Vec<(&'static str, &'static str)> {
        let hook = ("webhook_secret", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        let value = match key {
            "listen_tls" | "tls_cert" | "tls_key" => {
                return vec![("listen_tls", "127.0.0.1:2"), ("tls_cert", "a"), ("tls_key", "b")];
            }
            "cluster" => return vec![(key, "nats://h:1"), ("store", "mysql://h/d")],
            "webhook_url" | "webhook_secret" => return vec![("webhook_url", "https://h.example/"), hook],
            "files" | "s3_access_key" | "s3_secret_key" => {
                return vec![("files", "s3://chat"), ("s3_access_key", "a"), ("s3_secret_key", "b")];
            }
            "s3_endpoint" => "https://h.example",
            "s3_path_style" => "false",
            "webhook_events" => "group.left",
            "store" => "memory:",
            "durability" => "volatile",
            "sqlite_synchronous" => "normal",
            "compression" => "on",
            "registration" => "closed",
            "group_rule" => "open",
            "tls_records" => "rustls",
            "hsts" | "keep_age" | "token_ttl" | "file_grace" => "2d",
            "coalesce" => "10ms",
            "idle_after" => "120s",
            "drain_announce" | "drain_spread" | "drain_return_after" | "jwt_leeway" => "3s",
            "outbox" => "128KiB",
            "send_buffer" => "32KiB",
            "compression_min" => "1KiB",
            "memory_max" => "128MiB",
            "keep_count" => "500",
            "log" => "warn",
            "log_format" => "json",
            "audit_log" | "access_log" => "stderr",
            "secret" | "secret_fallback" => "0123456789abcdef",
            "chatroom" => "false",
            "echo" => "true",
            "cors_origins" | "origins" => "https://a.example",
            _ => match FIELDS.iter().find(|field| field.key == key).expect("a setting").value {
                "ADDRESS" => "127.0.0.1:9",
                "NETWORK" => "10.0.0.0/8",
                "SIZE" => "16MiB",
                "TIME" => "20s",
                _ => "3",
            },
        };
        vec![(key, value)]
    }

    fn layers(settings: &[(&str, &str)]) -> Layers {
        let mut layers = Layers::default();
        for (key, value) in settings {
            let field = FIELDS.iter().find(|field| field.key == *key).expect("a setting");
            layers.flag(field, vec![(*value).to_owned()]);
        }
        layers
    }

    fn live(settings: &[(&str, &str)]) -> String {
        let config = Config::from_layers(&layers(settings)).unwrap_or_else(|error| panic!("{settings:?}: {error}"));
        let fixed = Fixed { key: Key::new([1; 32]), conns_max: 1_000_000, trusted_proxies: Networks::loopback() };
        format!("{:?}", Live::of(&config, &fixed))
    }

    #[test]
    fn the_table_of_settings_says_what_a_reload_takes_up() {
        let default = live(&[]);
        // The log is no part of the node.
        for field in FIELDS.iter().filter(|field| field.key != "log") {
            let taken_up = live(&others(field.key)) != default;
            assert_eq!(taken_up, field.change == TakesEffect::Reload, "{}", field.key);
        }
    }

    #[test]
    fn what_waits_for_a_restart_is_named_until_it_is_as_at_the_start() {
        let first = layers(&[("shards", "2"), ("upload_max", "1MiB")]);
        let second = layers(&[("shards", "3"), ("upload_max", "2MiB")]);
        let both = Reloaded { in_force: vec!["upload_max"], needs_restart: vec!["shards"], ..Reloaded::default() };
        assert_eq!(compared(&first, &first, &second), both);
        assert_eq!(compared(&first, &second, &second), Reloaded { in_force: vec![], ..both.clone() });
        assert_eq!(compared(&first, &second, &first), Reloaded { needs_restart: vec![], ..both });
    }

    #[test]
    fn a_line_with_a_default_value_that_is_removed_changes_nothing() {
        let default = |key| FIELDS.iter().find(|field| field.key == key).expect("a setting").default.trim_matches('"');
        let keys = ["outbox", "registration", "devices", "idle_after", "keep_count", "chatroom"];
        let written = layers(&keys.map(|key| (key, default(key))));
        let nothing = Reloaded::default();
        assert_eq!(compared(&written, &written, &layers(&[])), nothing);
        assert_eq!(compared(&layers(&[]), &layers(&[]), &written), nothing);
        // Nor does another spelling of the same value.
        let (one, other) = (layers(&[("outbox", "131072")]), layers(&[("outbox", "128KiB")]));
        assert_eq!(compared(&one, &one, &other), nothing);
        // Two that stand only together.
        let window = layers(&[("ping_after", "20s"), ("idle_after", "50s")]);
        let back = Reloaded { in_force: vec!["ping_after", "idle_after"], ..nothing };
        assert_eq!(compared(&window, &window, &layers(&[])), back);
    }
}
