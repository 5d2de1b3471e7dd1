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
    if config.listen_tls.is_empty() {
        return Ok(None);
    }
    let certificates = Certificates::load(&config.tls_pairs).context("cannot serve TLS")?;
    warn_of(&certificates);
    Ok(Some(Arc::new(certificates)))
}

/// Reads the certificates of the configuration as a start would, and says what a start would say.
///
/// # Errors
/// A pair of files cannot be served.
pub fn check_certificates(config: &Config) -> anyhow::Result<()> {
    certificates(config).map(drop)
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

/// Says what is allowed and not meant.
fn warn_of(certificates: &Certificates) {
    for key in certificates.exposed_keys() {
        tracing::warn!(path = %key.display(), "others may read the key of a certificate");
    }
    if certificates.not_after_s() * 1000 < clock::wall_ms() {
        tracing::warn!("a certificate has expired");
    }
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
