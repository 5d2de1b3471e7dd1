//! Whom to believe that a server is the one it says: TLS on our side of a connection.
//!
//! Owns: the settings of a TLS client by the system's own authorities.

use std::io;
use std::sync::Arc;

/// TLS to servers that the system's authorities vouch for.
///
/// # Errors
/// The system has no certificates of authorities.
pub fn client() -> io::Result<Arc<rustls::ClientConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err(io::Error::other("the system has no certificates of authorities (ca-certificates)"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
