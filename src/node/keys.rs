//! The key that signs tokens, as the configuration or the data directory has it.
//!
//! Owns: when a key that is missing is made. Never: makes one where another gateway's is meant: its
//! tokens would open nothing.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::Context as _;

use crate::auth::{Key, KeyOrigin, LoadedKey};
use crate::config::Config;

/// The key of the configuration or of the data directory, which is made if it is missing.
///
/// # Errors
/// The directory or the key cannot be had.
pub fn signing_key(config: &Config) -> anyhow::Result<Key> {
    let key = own_key(config)?;
    let Some((fallback, origin)) = fallback_key(config)? else { return Ok(key) };
    if fallback.tag() == key.tag() {
        tracing::warn!(%origin, "the second key whose tokens are accepted is the first one again");
    } else {
        tracing::info!(%origin, "tokens of a second key are accepted, too");
    }
    Ok(key.accepting(&fallback))
}

/// The key by which is signed.
fn own_key(config: &Config) -> anyhow::Result<Key> {
    if let Some(secret) = &config.secret {
        return Key::from_secret(secret.expose()).context("the setting `secret`");
    }
    // Whoever comes first makes the directory, and that is here: what is said in it is private to
    // the gateway's account.
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&config.data);
    made.with_context(|| format!("cannot make {}", config.data.display()))?;
    let path = config.data.join("secret.key");
    Ok(told(&path, Key::load_or_create(&path)?))
}

/// The key by which is read, too, while keys are replaced, and where it comes from.
fn fallback_key(config: &Config) -> anyhow::Result<Option<(Key, String)>> {
    if let Some(secret) = &config.secret_fallback {
        let key = Key::from_secret(secret.expose()).context("the setting `secret_fallback`")?;
        return Ok(Some((key, "secret_fallback".to_owned())));
    }
    let path = config.data.join("secret.fallback.key");
    Ok(Key::load_if_there(&path)?.map(|loaded| (told(&path, loaded), path.display().to_string())))
}

/// The key, after the log was told how its file was found.
fn told(path: &Path, loaded: LoadedKey) -> Key {
    match loaded.origin {
        KeyOrigin::Created => tracing::info!(path = %path.display(), "made a new signing key"),
        KeyOrigin::Private => {}
        KeyOrigin::Exposed { mode } => {
            tracing::warn!(path = %path.display(), mode = format!("{mode:o}"), "others may read the signing key");
        }
    }
    loaded.key
}

/// The key of the gateway that is to be asked for something: as [`signing_key`] without a second
/// one, and one that is missing is not made, for a new one would be no gateway's.
///
/// # Errors
/// The key cannot be had.
pub fn gateways_key(config: &Config) -> anyhow::Result<Key> {
    let path = config.data.join("secret.key");
    if config.secret.is_none() && !path.exists() {
        anyhow::bail!("there is no {}: --data or IMGATE_SECRET must be the gateway's own", path.display());
    }
    own_key(config)
}

/// The key that signs tokens for users: as [`signing_key`] without a second one, and a directory
/// that is missing is not made, for it may be a mistyped one. In one that is there the key may be
/// made before the first start.
///
/// # Errors
/// The key cannot be had.
pub fn tokens_key(config: &Config) -> anyhow::Result<Key> {
    if config.secret.is_none() && !config.data.is_dir() {
        anyhow::bail!(
            "there is no directory {}: --data or IMGATE_SECRET must be the gateway's own",
            config.data.display()
        );
    }
    own_key(config)
}
