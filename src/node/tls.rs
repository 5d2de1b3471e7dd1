//! What a gateway with TLS listeners needs besides them: certificates, and what begins handshakes.
//!
//! Owns: when the certificates are read, and what is said about them in the log.
//! Bounds: those of `imgate_tls`; a look at the files each [`crate::limits::SURROUNDINGS_LOOK_MS`].

use std::sync::Arc;

use anyhow::Context;
use imgate_tls::{Acceptor, Certificates, Reloaded};

use crate::clock;
use crate::config::Config;

/// The certificates of the configuration; `None` without a TLS listener.
///
/// # Errors
/// A pair of files cannot be served.
pub(super) fn certificates(config: &Config) -> anyhow::Result<Option<Arc<Certificates>>> {
    let loaded = load(config)?;
    loaded.iter().for_each(warn_of);
    Ok(loaded.map(Arc::new))
}

fn load(config: &Config) -> anyhow::Result<Option<Certificates>> {
    let wanted = (!config.listen_tls.is_empty()).then(|| Certificates::load(&config.tls_pairs));
    wanted.transpose().context("cannot serve TLS")
}

/// Reads the certificates of the configuration as a start would. What is allowed and not meant.
///
/// # Errors
/// A pair of files cannot be served.
pub fn check_certificates(config: &Config) -> anyhow::Result<Vec<String>> {
    Ok(load(config)?.map(|certificates| warnings(&certificates)).unwrap_or_default())
}

/// Reads them again.
pub(super) fn reload(certificates: &Certificates) -> Reloaded {
    let reloaded = certificates.reload();
    for why in &reloaded.refused {
        tracing::error!("a certificate stays as it is: {why}");
    }
    if !reloaded.taken.is_empty() {
        tracing::info!(certificates = reloaded.taken.len(), "certificates were loaded");
    }
    warn_of(certificates);
    reloaded
}

const EXPOSED: &str = "others may read the key of a certificate";
const EXPIRED: &str = "a certificate has expired";

/// Says what is allowed and not meant.
fn warn_of(certificates: &Certificates) {
    for key in certificates.exposed_keys() {
        tracing::warn!(path = %key.display(), "{EXPOSED}");
    }
    if has_expired(certificates) {
        tracing::warn!("{EXPIRED}");
    }
}

/// The same, as lines of text.
fn warnings(certificates: &Certificates) -> Vec<String> {
    let exposed = certificates.exposed_keys().into_iter().map(|key| format!("{EXPOSED}: {}", key.display()));
    exposed.chain(has_expired(certificates).then(|| EXPIRED.to_owned())).collect()
}

fn has_expired(certificates: &Certificates) -> bool {
    certificates.not_after_s() * 1000 < clock::wall_ms()
}

/// What begins the handshakes of one shard.
///
/// # Errors
/// The cryptographic library refuses the setup.
pub(super) fn acceptor(config: &Config, secret: &[u8], certificates: &Arc<Certificates>) -> anyhow::Result<Acceptor> {
    let setup = imgate_tls::Setup {
        certificates: Arc::clone(certificates),
        ticket_secret: secret.to_vec(),
        own_records: config.tls_own_records,
    };
    Acceptor::new(setup).context("cannot serve TLS")
}
