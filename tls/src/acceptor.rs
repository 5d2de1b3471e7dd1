//! What the handshakes of one thread share.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::server::NoServerSessionStorage;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::{Error, ServerConfig};

use crate::certificates::Certificates;
use crate::choice;
use crate::handshake::Handshake;
use crate::tap::Tap;
use crate::tickets::Tickets;

/// Begins handshakes. One for each thread: the handshakes of an acceptor are driven one at a time.
#[derive(Debug)]
pub struct Acceptor {
    /// The cheapest cipher of those that a client has.
    cheapest: Arc<ServerConfig>,
    /// The one that a client would rather have.
    preferred: Arc<ServerConfig>,
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
        let mut provider = aws_lc_rs::default_provider();
        choice::order_by_cost(&mut provider.cipher_suites);
        let mut config = ServerConfig::builder_with_details(Arc::new(provider), time.clone())
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
        let preferred = Arc::new(config.clone());
        config.ignore_client_order = true;
        Ok(Self { cheapest: Arc::new(config), preferred, tap, own_records: setup.own_records })
    }

    /// Begins a handshake.
    ///
    /// # Errors
    /// The library refuses its configuration; it never has.
    pub fn accept(&self) -> Result<Handshake, Error> {
        Handshake::new(self)
    }

    pub(crate) fn cheapest(&self) -> Arc<ServerConfig> {
        self.cheapest.clone()
    }

    pub(crate) fn preferred(&self) -> Arc<ServerConfig> {
        self.preferred.clone()
    }

    pub(crate) fn tap(&self) -> Arc<Tap> {
        self.tap.clone()
    }

    pub(crate) const fn own_records(&self) -> bool {
        self.own_records
    }
}
