//! The telling: one task for each endpoint takes what has gathered, and tells it until it is taken.
//!
//! Owns: connections to endpoints, TLS, the tries and their pauses.
//! Never: follows a redirect, believes a name twice (the address that was judged is the one that is
//! connected to), or reads more of an answer than its head.
//! Bounds: one request of an endpoint at a time, of [`limits::HOOK_BATCH_MAX`] events and
//! [`limits::HOOK_BODY_BYTES_MAX`], for [`limits::HOOK_MS_MAX`].

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
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

use super::Held;
use super::endpoint::{Endpoint, may_ask};
use super::event::Event;
use super::journal::Journal;
use super::signing::Secrets;
use super::story::Story;
use crate::clock;
use crate::fair::Networks;
use crate::http::authorities;
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
    events: usize,
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
    let config = authorities::client().map_err(|error| io::Error::other(format!("{error}, and a webhook is https")))?;
    Ok(TlsConnector::from(config))
}

/// An event as it is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Row {
    /// See [`Event::id`].
    pub(super) id: String,
    /// Its JSON.
    pub(super) json: String,
    /// What was counted in for it.
    pub(super) held: usize,
}

/// What waits for one endpoint on its thread, the oldest first.
pub(super) struct Waiting {
    rows: VecDeque<Row>,
    journal: Journal,
    held: Arc<Held>,
    counts: Arc<BackendCounts>,
}

impl Waiting {
    /// With what an earlier process has left.
    pub(super) fn new(journal: Journal, rows: VecDeque<Row>, held: Arc<Held>, counts: &Arc<BackendCounts>) -> Self {
        counts.hook_queued(rows.len() as u64);
        held.events.store(rows.len(), Ordering::Release);
        held.bytes.store(rows.iter().map(|row| row.held).sum(), Ordering::Release);
        Self { rows, journal, held, counts: Arc::clone(counts) }
    }

    /// Takes `first` and what has gathered behind it.
    fn take(&mut self, first: Event, events: &mut mpsc::Receiver<Event>, boot: u64) {
        let before = self.rows.len();
        self.put(&first, boot);
        for _ in 1..limits::HOOK_BATCH_MAX {
            let Ok(event) = events.try_recv() else { break };
            self.put(&event, boot);
        }
        self.journal.add(&self.rows, before);
    }

    fn put(&mut self, event: &Event, boot: u64) {
        let held = event.bytes();
        if event.is_worth_telling() {
            self.rows.push_back(Row { id: event.id(boot), json: event.json(boot), held });
        } else {
            self.left(1, held);
        }
    }

    fn left(&self, events: usize, bytes: usize) {
        self.held.leave(events, bytes);
        self.counts.hook_left(events as u64);
    }

    /// As many of the oldest as fit into one body.
    fn batch(&self) -> Option<Batch> {
        let mut size = 0;
        let fit = self.rows.iter().take(limits::HOOK_BATCH_MAX).take_while(|row| {
            let is_first = size == 0;
            size += row.json.len() + 1;
            is_first || size <= limits::HOOK_BODY_BYTES_MAX
        });
        let rows: Vec<&Row> = fit.collect();
        // With their number: after a restart the first may come in other company, which is another
        // request.
        let id = format!("{}-{}", rows.first()?.id, rows.len());
        let texts: Vec<&str> = rows.iter().map(|row| row.json.as_str()).collect();
        Some(Batch { id, body: format!(r#"{{"events":[{}]}}"#, texts.join(",")), events: rows.len() })
    }

    /// The `events` oldest wait no more.
    fn done(&mut self, events: usize) {
        let bytes = self.rows.drain(..events.min(self.rows.len())).map(|row| row.held).sum();
        self.left(events, bytes);
        self.journal.done(events, &self.rows);
    }
}

/// Tells one endpoint what comes, until the gateway stops and nothing waits any more, or it does
/// not take it.
pub(super) async fn tell(
    teller: Arc<Teller>,
    endpoint: Endpoint,
    mut events: mpsc::Receiver<Event>,
    mut waiting: Waiting,
    mut stopped: watch::Receiver<bool>,
) {
    let mut story = Story::new(endpoint.shown(), Arc::clone(&waiting.held));
    loop {
        let Some(batch) = waiting.batch() else {
            tokio::select! {
                biased;
                event = events.recv() => match event {
                    Some(event) => waiting.take(event, &mut events, teller.boot),
                    None => return,
                },
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
            continue;
        };
        let count = batch.events;
        let taken = {
            let mut telling = pin!(teller.tell_until_taken(&endpoint, batch, &mut story, stopped.clone()));
            loop {
                // What comes meanwhile is written down at once.
                tokio::select! {
                    biased;
                    taken = &mut telling => break taken,
                    Some(event) = events.recv() => waiting.take(event, &mut events, teller.boot),
                }
            }
        };
        match taken {
            Taken::Yes | Taken::GivenUp => waiting.done(count),
            Taken::NotNow => {
                while let Ok(event) = events.try_recv() {
                    waiting.take(event, &mut events, teller.boot);
                }
                return;
            }
        }
    }
}

/// What became of a batch.
enum Taken {
    Yes,
    GivenUp,
    /// The gateway stops: the next one tells it again.
    NotNow,
}

impl Teller {
    /// Tells a batch until it is taken or given up. From a stop on there is one try.
    async fn tell_until_taken(
        &self,
        endpoint: &Endpoint,
        batch: Batch,
        story: &mut Story,
        mut stopped: watch::Receiver<bool>,
    ) -> Taken {
        let mut pause_ms = self.retry_ms;
        for attempt in 1..=limits::HOOK_TRIES_MAX {
            let stops = *stopped.borrow();
            let why = match in_time(limits::HOOK_MS_MAX, self.ask(endpoint, &batch)).await {
                Ok(()) => {
                    story.taken();
                    self.counts.hooked(Hooked::Delivered, batch.events as u64);
                    return Taken::Yes;
                }
                Err(why) => why,
            };
            self.counts.hook_failed();
            story.failed(&why, batch.events, attempt);
            let is_last = attempt == limits::HOOK_TRIES_MAX;
            if is_last && !stops {
                story.given_up(&why, batch.events, attempt);
            }
            if stops {
                return Taken::NotNow;
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
        self.counts.hooked(Hooked::Dead, batch.events as u64);
        Taken::GivenUp
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
