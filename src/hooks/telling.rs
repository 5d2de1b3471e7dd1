//! The telling: one task for each endpoint takes what has gathered, and tells it until it is taken.
//!
//! Owns: connections to endpoints, TLS, the tries and their pauses.
//! Never: follows a redirect, believes a name twice (the address that was judged is the one that is
//! connected to), or reads more of an answer than its head.
//! Bounds: one request of an endpoint at a time, of [`limits::HOOK_BATCH_MAX`] events and
//! [`limits::HOOK_BODY_BYTES_MAX`], for [`limits::HOOK_MS_MAX`].

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::Full as Body;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsConnector;

use super::endpoint::{Endpoint, may_ask};
use super::event::Event;
use super::signing::Secrets;
use crate::clock;
use crate::fair::Networks;
use crate::limits;
use crate::metrics::backends::{BackendCounts, Hooked};

/// What all endpoints are told with.
pub(super) struct Teller {
    secrets: Secrets,
    private: Networks,
    counts: Arc<BackendCounts>,
    retry_ms: u64,
    /// Tells the events of this start from those of every other one.
    boot: u64,
    tls: Option<TlsConnector>,
}

/// Why a request was not taken.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Request(#[from] hyper::http::Error),
    #[error("its name leads to no address that may be asked (webhook_networks names private ones)")]
    Private,
    #[error("it answers {0}")]
    Status(StatusCode),
    #[error("it does not answer in time")]
    Late,
}

/// Some events in one body.
struct Batch {
    id: String,
    body: String,
    events: u64,
}

impl Teller {
    pub(super) fn new(
        secrets: Secrets,
        private: Networks,
        counts: Arc<BackendCounts>,
        retry_ms: u64,
        endpoints: &[Endpoint],
    ) -> io::Result<Self> {
        let tls = endpoints.iter().any(Endpoint::is_tls).then(connector).transpose()?;
        let boot = getrandom::u64().map_err(io::Error::other)?;
        Ok(Self { secrets, private, counts, retry_ms, boot, tls })
    }
}

/// TLS as the system's own authorities vouch for it.
fn connector() -> io::Result<TlsConnector> {
    let mut roots = rustls::RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err(io::Error::other(
            "the system has no certificates of authorities (ca-certificates), and a webhook is https",
        ));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Tells one endpoint what comes, until the gateway stops and nothing waits any more.
pub(super) async fn tell(
    teller: Arc<Teller>,
    endpoint: Endpoint,
    mut events: mpsc::Receiver<Event>,
    bytes: Arc<AtomicUsize>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut some = Vec::with_capacity(limits::HOOK_BATCH_MAX);
    // What did not fit into the last body.
    let mut held: Option<Event> = None;
    loop {
        if held.is_none() {
            tokio::select! {
                biased;
                event = events.recv() => match event {
                    Some(event) => held = Some(event),
                    None => return,
                },
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
        }
        let mut size = 0;
        while let Some(event) = held.take().or_else(|| events.try_recv().ok()) {
            size += event.bytes();
            if some.len() >= limits::HOOK_BATCH_MAX || (size > limits::HOOK_BODY_BYTES_MAX && !some.is_empty()) {
                held = Some(event);
                break;
            }
            some.push(event);
        }
        bytes.fetch_sub(some.iter().map(Event::bytes).sum(), Ordering::AcqRel);
        teller.counts.hook_left(some.len() as u64);
        some.retain(Event::is_worth_telling);
        if !some.is_empty() {
            teller.tell_until_taken(&endpoint, Batch::of(&some, teller.boot), &mut stopped).await;
            some.clear();
        }
    }
}

impl Batch {
    fn of(events: &[Event], boot: u64) -> Self {
        let rows: Vec<String> = events.iter().map(|event| event.json(boot)).collect();
        let id = events.first().map(|event| event.id(boot)).unwrap_or_default();
        Self { id, body: format!(r#"{{"events":[{}]}}"#, rows.join(",")), events: events.len() as u64 }
    }
}

impl Teller {
    /// Tells a batch until it is taken or given up. From a stop on there is one try.
    async fn tell_until_taken(&self, endpoint: &Endpoint, batch: Batch, stopped: &mut watch::Receiver<bool>) {
        let mut pause_ms = self.retry_ms;
        for attempt in 1..=limits::HOOK_TRIES_MAX {
            let stops = *stopped.borrow();
            let why = match in_time(limits::HOOK_MS_MAX, self.ask(endpoint, &batch)).await {
                Ok(()) => return self.counts.hooked(Hooked::Delivered, batch.events),
                Err(why) => why,
            };
            self.counts.hook_failed();
            let is_last = attempt == limits::HOOK_TRIES_MAX || stops;
            if is_last || attempt == 1 {
                let (endpoint, events) = (endpoint.shown(), batch.events);
                tracing::warn!(%endpoint, %why, events, attempt, given_up = is_last, "a webhook does not take its events");
            }
            if is_last {
                break;
            }
            // Half of it by lot: gateways that lost the same endpoint do not come back together.
            let lot = getrandom::u32().unwrap_or_default();
            let wait_ms = pause_ms / 2 + u64::from(lot) % (pause_ms / 2 + 1);
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
            pause_ms = (pause_ms * 2).min(limits::HOOK_RETRY_MS_MAX);
        }
        self.counts.hooked(Hooked::Dead, batch.events);
    }

    /// Makes one request.
    async fn ask(&self, endpoint: &Endpoint, batch: &Batch) -> Result<(), NotTaken> {
        let socket = self.connect(endpoint).await?;
        if !endpoint.is_tls() {
            return self.exchange(endpoint, batch, socket).await;
        }
        let name = ServerName::try_from(endpoint.host()).map_err(io::Error::other)?;
        let tls = self.tls.as_ref().ok_or_else(|| io::Error::other("no TLS"))?;
        self.exchange(endpoint, batch, tls.connect(name, socket).await?).await
    }

    /// Connects to the first address of the endpoint's name that may be asked and answers.
    async fn connect(&self, endpoint: &Endpoint) -> Result<TcpStream, NotTaken> {
        let addresses = tokio::net::lookup_host((endpoint.host(), endpoint.port())).await?;
        let mut outcome = Err(NotTaken::Private);
        for address in addresses.filter(|address| may_ask(address.ip(), &self.private)).take(limits::HOOK_ADDRESSES_MAX)
        {
            match in_time(limits::HOOK_CONNECT_MS_MAX, async { Ok(TcpStream::connect(address).await?) }).await {
                Ok(socket) => return Ok(socket),
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    async fn exchange(
        &self,
        endpoint: &Endpoint,
        batch: &Batch,
        socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<(), NotTaken> {
        let time_s = clock::wall_ms() / 1000;
        let request = Request::post(endpoint.target())
            .header(HOST, endpoint.authority())
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("imgate/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", &batch.id)
            .header("webhook-timestamp", time_s)
            .header("webhook-signature", self.secrets.sign(&batch.id, time_s, &batch.body))
            .body(Body::<bytes::Bytes>::from(batch.body.clone()))?;
        let handshake = hyper::client::conn::http1::Builder::new()
            .max_buf_size(limits::HOOK_ANSWER_BYTES_MAX)
            .handshake(TokioIo::new(socket));
        let (mut send, connection) = handshake.await?;
        // Ends with `send` and the answer, at the latest when this request is given up.
        let driven = AbortOnDrop(tokio::spawn(async move {
            let _ = connection.await;
        }));
        let answer = send.send_request(request).await?;
        drop(driven);
        if answer.status().is_success() { Ok(()) } else { Err(NotTaken::Status(answer.status())) }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn in_time<T>(ms: u64, work: impl Future<Output = Result<T, NotTaken>>) -> Result<T, NotTaken> {
    tokio::time::timeout(Duration::from_millis(ms), work).await.unwrap_or(Err(NotTaken::Late))
}
