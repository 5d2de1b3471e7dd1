//! Builds everything, starts the threads in order, stops them in reverse.
//!
//! (Skeleton: the signature that the command line builds on; the driver step fills it.)

use anyhow::Context;

use crate::auth::Key;
use crate::config::Config;

/// Runs the gateway until it is told to stop.
///
/// # Errors
/// What kept it from starting, in words for the one who started it.
pub fn run(config: &Config) -> anyhow::Result<()> {
    anyhow::bail!("this build has no gateway for {:?} yet", config.listen)
}

/// The key of the configuration or of the data directory, which is made if it is missing.
///
/// # Errors
/// The directory or the key cannot be had.
pub fn signing_key(config: &Config) -> anyhow::Result<Key> {
    if let Some(secret) = &config.secret {
        return Key::from_secret(secret.expose()).context("the setting `secret`");
    }
    std::fs::create_dir_all(&config.data).with_context(|| format!("cannot make {}", config.data.display()))?;
    Ok(Key::load_or_create(&config.data.join("secret.key"))?.key)
}
