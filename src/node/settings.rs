//! What the control plane, the webhooks and the trails are told of the configuration.
//!
//! Owns: whether a start goes on when the object store is not as the settings say. It does not when
//! the store refuses, because no waiting mends that; it does when the store is away, because the
//! rest of the gateway does not need it.

use std::sync::Arc;

use anyhow::Context;

use crate::api;
use crate::config::Config;
use crate::hooks::{self, Hooks, Telling};
use crate::limits::{FILES_LOOK_MS, HOOK_RETRY_MS};
use crate::log::trail::{Trail, Trails};
use crate::metrics::accounts::AccountCounts;
use crate::metrics::http::HttpCounts;
use crate::object_store::ObjectStore;

/// What the control plane counts, and the object store, which counts for itself.
#[derive(Clone)]
pub(super) struct Counts {
    pub(super) accounts: Arc<AccountCounts>,
    pub(super) http: Arc<HttpCounts>,
    pub(super) files: Arc<api::FileCounters>,
    pub(super) objects: Option<Arc<ObjectStore>>,
}

impl Counts {
    /// Nothing was counted yet.
    ///
    /// # Errors
    /// The object store refuses what the settings say, or there can be no TLS to it.
    pub(super) fn new(config: &Config) -> anyhow::Result<Self> {
        let objects = object_store(config)?.map(Arc::new);
        Ok(Self { accounts: Arc::default(), http: Arc::default(), files: Arc::default(), objects })
    }
}

/// The object store of the settings, looked at once.
fn object_store(config: &Config) -> anyhow::Result<Option<ObjectStore>> {
    let Some(target) = &config.objects else { return Ok(None) };
    match ObjectStore::check_blocking(target.clone()) {
        Ok(()) => tracing::info!(store = target.shown(), "files are in an object store"),
        Err(failed) if failed.why.is_refusal() => {
            return Err(failed).context("cannot keep files in the object store (the setting `files`)");
        }
        Err(failed) => {
            tracing::warn!(error = %failed, "the object store of `files` is away; uploads wait until it is back");
        }
    }
    Ok(Some(ObjectStore::new(target.clone()).context("cannot use the object store")?))
}

pub(super) fn jwt_settings(config: &Config) -> api::JwtSettings {
    let of = config.foreign.clone();
    api::JwtSettings {
        keys: of.keys,
        issuer: of.issuer,
        audiences: of.audiences,
        leeway_s: of.leeway_ms / 1000,
        user_claim: of.user_claim,
        name_claim: of.name_claim,
        avatar_claim: of.avatar_claim,
    }
}

pub(super) fn start_hooks(config: &Config, counts: &Counts) -> std::io::Result<(Hooks, Telling)> {
    let of = config.webhooks.clone();
    Hooks::start(hooks::Setup {
        endpoints: of.endpoints,
        secrets: of.secrets,
        kinds: of.kinds,
        private: of.networks,
        counts: Arc::clone(counts.accounts.backends()),
        retry_ms: HOOK_RETRY_MS,
        journals: config.data.join("hooks"),
    })
}

/// The trails that the configuration wants.
pub(super) fn trails(config: &Config) -> anyhow::Result<Trails> {
    let start = |name, place: &str| {
        Trail::start(name, place).with_context(|| format!("cannot write to {place} (the setting {name}_log)"))
    };
    Ok(Trails { audit: start("audit", &config.audit_log)?, access: start("access", &config.access_log)? })
}

pub(super) const fn allowed(config: &Config) -> api::Allowed {
    let of = &config.accounts;
    api::Allowed {
        registration: of.registration,
        group_rule: of.group_rule,
        registrations_per_minute: of.registrations_per_minute,
        registrations_per_minute_all: of.registrations_per_minute_all,
        lookups_per_minute: of.lookups_per_minute,
        mobile_lookups_per_minute: of.mobile_lookups_per_minute,
    }
}

pub(super) const fn upload_bounds(config: &Config) -> api::UploadBounds {
    api::UploadBounds {
        bytes_max: config.upload_max,
        user_bytes_max: config.upload_user_max,
        per_minute: config.uploads_per_minute,
        grace_ms: config.file_grace_ms,
        look_ms: FILES_LOOK_MS,
    }
}
