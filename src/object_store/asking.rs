//! One request to an object store, from its turn to its answer: the wait, the deadline, the tries.
//!
//! Owns: the order of these, what is counted and logged of them, and which status means what.
//! Never: tries again what the store has refused, or what it was too slow for, nor a removal.
//! Bounds: [`limits::OBJECT_READS_MAX`], [`limits::OBJECT_WRITES_MAX`] and
//! [`limits::OBJECT_SMALL_MAX`] at once, the deadlines of [`Asked`], [`limits::OBJECT_TRIES_MAX`]
//! tries.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_LENGTH, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request};
use tokio::sync::Semaphore;
use url::Url;

use super::connection::{ObjectBody, Reply};
use super::failure::{ObjectError, Told};
use super::{ObjectDeadlines, ObjectStore};
use crate::clock::Clock;
use crate::limits;
use crate::log::outage::OutageLine;
use crate::metrics::objects::{ObjectOperation, ObjectOutcome};

/// A request.
pub(super) struct Asked<'a> {
    pub(super) operation: ObjectOperation,
    /// Signed.
    pub(super) url: Url,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// Makes the body anew for each try, and says how long it is.
    pub(super) body: Option<(&'a (dyn Fn() -> ObjectBody + Send + Sync), u64)>,
    /// It carries next to nothing: what waits for it does not wait for files on their way in.
    pub(super) is_small: bool,
    /// Bytes of the answer, if it is a success.
    pub(super) bytes_max: usize,
}

impl Asked<'_> {
    const fn method(&self) -> Method {
        match self.operation {
            ObjectOperation::Get | ObjectOperation::List => Method::GET,
            ObjectOperation::Head => Method::HEAD,
            ObjectOperation::Put => Method::PUT,
            ObjectOperation::Delete => Method::DELETE,
        }
    }

    const fn is_read(&self) -> bool {
        matches!(self.operation, ObjectOperation::Get | ObjectOperation::Head)
    }

    /// How long the answer may take from the last byte that was sent.
    const fn answer_ms_max(&self, deadlines: &ObjectDeadlines) -> u64 {
        match self.operation {
            ObjectOperation::Put => deadlines.put_ms,
            _ => deadlines.answer_ms,
        }
    }

    fn request(&self, progress: &Arc<Progress>) -> Result<Request<ObjectBody>, ObjectError> {
        let wrong = |_| ObjectError::Nonsense("the settings make no request");
        let target = format!("{}?{}", self.url.path(), self.url.query().unwrap_or_default());
        let host = self.url.host_str().unwrap_or_default();
        let host = self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let mut request = Request::builder()
            .method(self.method())
            .uri(target)
            .header(HOST, host)
            .header(USER_AGENT, concat!("imgate/", env!("CARGO_PKG_VERSION")));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let body = match &self.body {
            Some((make, bytes)) => {
                request = request.header(CONTENT_LENGTH, *bytes);
                Watched { inner: make(), progress: Arc::clone(progress) }.boxed_unsync()
            }
            None => Empty::new().map_err(|never| match never {}).boxed_unsync(),
        };
        request.body(body).map_err(wrong)
    }
}

/// When the last byte was sent, and how many are left to send.
struct Progress {
    clock: Clock,
    last_ms: AtomicU64,
    left: AtomicU64,
}

impl Progress {
    fn new(clock: Clock, bytes: u64) -> Self {
        Self { clock, last_ms: AtomicU64::new(clock.now().mono_ms), left: AtomicU64::new(bytes) }
    }

    /// Whether the whole body was handed over: a store may answer before.
    fn is_sent(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    fn moves(&self) {
        self.last_ms.store(self.clock.now().mono_ms, Ordering::Relaxed);
    }

    /// How much is left of `ms_max`.
    fn left(&self, ms_max: u64) -> Duration {
        let due_ms = self.last_ms.load(Ordering::Relaxed).saturating_add(ms_max);
        Duration::from_millis(due_ms.saturating_sub(self.clock.now().mono_ms))
    }
}

/// A body that says when it moves.
struct Watched {
    inner: ObjectBody,
    progress: Arc<Progress>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        self.progress.moves();
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
            let left = self.progress.left.load(Ordering::Relaxed);
            self.progress.left.store(left.saturating_sub(bytes), Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl ObjectStore {
    /// Makes a request; `None`: there is no such object.
    ///
    /// # Errors
    /// See [`ObjectError`]. Whether a write was done is not known then.
    pub(super) async fn ask(&self, asked: Asked<'_>) -> Result<Option<Reply>, ObjectError> {
        let begun = self.clock.nanos();
        let outcome = if asked.is_read() {
            let most = Duration::from_millis(limits::OBJECT_READ_MS_MAX);
            let work = self.in_turn(&asked, &self.reads, self.deadlines.read_wait_ms);
            tokio::time::timeout(most, work).await.unwrap_or(Err(ObjectError::Late))
        } else {
            let permits = if asked.is_small { &self.small } else { &self.writes };
            self.in_turn(&asked, permits, self.deadlines.write_wait_ms).await
        };
        match &outcome {
            Ok(_) | Err(ObjectError::Refused(_)) => self.health.worked(),
            Err(error) if error.is_outage() => self.health.failed(self.clock.now().mono_ms),
            Err(_) => {}
        }
        let label = match &outcome {
            Ok(Some(_)) => ObjectOutcome::Done,
            Ok(None) => ObjectOutcome::Missing,
            Err(error) => error.outcome(),
        };
        self.counts.asked(asked.operation, label, self.clock.nanos().saturating_sub(begun));
        self.note(asked.operation, outcome.as_ref().err());
        outcome
    }

    async fn in_turn(
        &self,
        asked: &Asked<'_>,
        permits: &Semaphore,
        wait_ms: u64,
    ) -> Result<Option<Reply>, ObjectError> {
        if !self.health.may_ask(self.clock.now().mono_ms) {
            return Err(ObjectError::Away);
        }
        let permit = tokio::time::timeout(Duration::from_millis(wait_ms), permits.acquire()).await;
        let Ok(Ok(_permit)) = permit else { return Err(ObjectError::Busy) };
        self.tries(asked).await
    }

    async fn tries(&self, asked: &Asked<'_>) -> Result<Option<Reply>, ObjectError> {
        if asked.operation == ObjectOperation::Delete {
            // An earlier try may arrive when the name is in use again: see `uploads::removal`.
            return self.attempt(asked).await.0;
        }
        let mut pause_ms = limits::OBJECT_RETRY_MS;
        for _ in 1..limits::OBJECT_TRIES_MAX {
            match self.attempt(asked).await {
                // The connection had been ended while it was kept.
                (Err(ObjectError::Unreachable(_)), true) => self.connections.forget(),
                (Err(error), _) if error.is_passing() => {
                    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                    pause_ms *= 2;
                }
                (outcome, _) => return outcome,
            }
        }
        self.attempt(asked).await.0
    }

    /// One try, and whether it was made by a connection that had been kept.
    async fn attempt(&self, asked: &Asked<'_>) -> (Result<Option<Reply>, ObjectError>, bool) {
        let progress = Arc::new(Progress::new(self.clock, asked.body.as_ref().map_or(0, |(_, bytes)| *bytes)));
        let patience = Duration::from_millis(limits::OBJECT_REACH_MS_MAX);
        let mut connection = match tokio::time::timeout(patience, self.connections.take()).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return (Err(error), false),
            Err(_) => return (Err(ObjectError::Unreachable("no connection in time".to_owned())), false),
        };
        let is_used = connection.is_used;
        progress.moves();
        let replied = match asked.request(&progress) {
            Ok(request) => {
                let bytes_max = asked.bytes_max.max(limits::OBJECT_ANSWER_BYTES_MAX);
                in_time(&progress, asked.answer_ms_max(&self.deadlines), connection.exchange(request, bytes_max)).await
            }
            Err(error) => Err(error),
        };
        let outcome = replied.and_then(|reply| {
            // What is still being sent would be in the way of the next request.
            if progress.is_sent() {
                self.connections.keep(connection);
            }
            judge(asked.operation, reply)
        });
        (outcome, is_used)
    }

    /// Says in the log that the store fails, or works again, if that is worth a line.
    fn note(&self, operation: ObjectOperation, error: Option<&ObjectError>) {
        let now_ms = self.clock.now().mono_ms;
        let line = match error {
            None => self.outage.worked(now_ms),
            // It was not asked, or is not to blame.
            Some(ObjectError::Away | ObjectError::Busy | ObjectError::Disk(_)) => None,
            Some(_) => self.outage.failed(now_ms),
        };
        let operation = ObjectOperation::LABELS.get(operation as usize).copied().unwrap_or_default();
        match (line, error) {
            (Some(OutageLine::Begins { untold: failures } | OutageLine::Lasts { failures, .. }), Some(error)) => {
                let store = self.target.shown();
                tracing::warn!(%store, operation, %error, failures, "files cannot be kept or read: the object store does not do it");
            }
            (Some(OutageLine::Ended { failures, seconds }), _) => {
                tracing::info!(failures, seconds, "the object store keeps and gives files again");
            }
            _ => {}
        }
    }
}

/// The outcome of `exchange`, unless nothing of its body left for `ms_max`.
async fn in_time(
    progress: &Progress,
    ms_max: u64,
    exchange: impl Future<Output = Result<Reply, ObjectError>>,
) -> Result<Reply, ObjectError> {
    let mut exchange = pin!(exchange);
    loop {
        let left = progress.left(ms_max);
        if left.is_zero() {
            return Err(ObjectError::Late);
        }
        // Bytes may have left meanwhile: then there is more.
        if let Ok(outcome) = tokio::time::timeout(left, exchange.as_mut()).await {
            return outcome;
        }
    }
}

/// What a status says.
fn judge(operation: ObjectOperation, reply: Reply) -> Result<Option<Reply>, ObjectError> {
    let told = || Told::read(reply.status, &reply.body);
    match reply.status {
        200..=299 => Ok(Some(reply)),
        // Without a body there is no code, and a bucket that is not there looks the same.
        404 if operation != ObjectOperation::List && operation != ObjectOperation::Put => match told() {
            told if told.code() == "NoSuchBucket" => Err(ObjectError::Refused(told)),
            _ => Ok(None),
        },
        408 | 409 | 425 | 429 | 500..=599 => Err(ObjectError::Failed(told())),
        // Of a connection that was too slow, under a status that means something else.
        400 if told().code() == "RequestTimeout" => Err(ObjectError::Failed(told())),
        _ => Err(ObjectError::Refused(told())),
    }
}
