//! What the handshakes of one thread share.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::server::NoServerSessionStorage;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::{Error, ServerConfig};

use crate::certificates::Certificates;
use crate::handshake::Handshake;
use crate::tap::Tap;
use crate::tickets::Tickets;

/// Begins handshakes. One for each thread: the handshakes of an acceptor are driven one at a time.
#[derive(Debug)]
pub struct Acceptor {
    config: Arc<ServerConfig>,
    tap: Arc<Tap>,
    own_records: bool,
}

/// What an acceptor is made of.
#[derive(Debug)]
pub struct Setup {
    /// Which certificate a client gets.
    pub certificates: Arc<Certificates>,
    /// The secret that tickets are sealed with; other nodes with it take them.
    pub ticket_secret: Vec<u8>,
    /// Records of this crate after the handshake, or those of rustls.
    pub own_records: bool,
}

impl Acceptor {
    /// An acceptor: TLS 1.3 and 1.2, `http/1.1`, no early data, one ticket.
    ///
    /// # Errors
    /// The library offers no version or cipher.
    pub fn new(setup: Setup) -> Result<Self, Error> {
        Self::with_time(setup, Arc::new(DefaultTimeProvider))
    }

    /// As [`Acceptor::new`], by another clock.
    ///
    /// # Errors
    /// As [`Acceptor::new`].
    pub fn with_time(setup: Setup, time: Arc<dyn TimeProvider>) -> Result<Self, Error> {
        let tap = Arc::new(Tap::default());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_details(provider, time.clone())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(setup.certificates);
        config.key_log = tap.clone();
        config.enable_secret_extraction = true;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.ticketer = Arc::new(Tickets::new(&setup.ticket_secret, time));
        config.send_tls13_tickets = 1;
        config.max_early_data_size = 0;
        // Whoever resumes has a ticket.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self { config: Arc::new(config), tap, own_records: setup.own_records })
    }

    /// Begins a handshake.
    ///
    /// # Errors
    /// The library refuses its configuration; it never has.
    pub fn accept(&self) -> Result<Handshake, Error> {
        Handshake::new(self)
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    pub(crate) fn tap(&self) -> Arc<Tap> {
        self.tap.clone()
    }

    pub(crate) const fn own_records(&self) -> bool {
        self.own_records
    }
}
