//! Where rustls says the traffic secrets that it does not hand out otherwise.

use std::sync::{Mutex, PoisonError};

use rustls::KeyLog;
use zeroize::Zeroizing;

/// A `KeyLog` of one thread: whoever has driven a handshake one step empties it before the next one
/// is driven, so what it holds is of that handshake.
#[derive(Default)]
pub(crate) struct Tap(Mutex<TappedSecrets>);

/// The application traffic secrets of a TLS 1.3 handshake.
#[derive(Default)]
pub(crate) struct TappedSecrets {
    pub(crate) server: Option<Zeroizing<Vec<u8>>>,
    pub(crate) client: Option<Zeroizing<Vec<u8>>>,
}

const SERVER: &str = "SERVER_TRAFFIC_SECRET_0";
const CLIENT: &str = "CLIENT_TRAFFIC_SECRET_0";

impl Tap {
    /// Moves what was said into `secrets`.
    pub(crate) fn drain(&self, secrets: &mut TappedSecrets) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = said.server.take() {
            secrets.server = Some(server);
        }
        if let Some(client) = said.client.take() {
            secrets.client = Some(client);
        }
    }
}

impl KeyLog for Tap {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = if label == SERVER { &mut said.server } else { &mut said.client };
        *place = Some(Zeroizing::new(secret.to_vec()));
    }

    fn will_log(&self, label: &str) -> bool {
        label == SERVER || label == CLIENT
    }
}

impl std::fmt::Debug for Tap {
    /// Names no secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tap")
    }
}
