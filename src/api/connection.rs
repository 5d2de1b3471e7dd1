//! One HTTP/1 connection, from its first byte to its end or to its way back to the gate.
//!
//! Owns: the requests of one connection in their order, and the decision that a kept-alive
//! connection has become an upgrade.
//! Never: keeps a buffer for an idle connection: between two requests there is a socket and nothing
//! of hyper. Never answers an upgrade. hyper reads its head, the service keeps silent about it, and
//! the socket is taken back with the head written anew in front of what was read behind it: so the
//! gate sees what the client sent, and the 101 is its own.
//! Bounds: [`limits::HEAD_BYTES_MAX`] and [`limits::HEADERS_MAX`] per head, the [`Deadlines`], and
//! its slot.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use bytes::{Bytes, BytesMut};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::sync::futures::OwnedNotified;
use tokio::sync::watch;
use tower::ServiceExt;
use tracing::Level;

use super::current_judge::CurrentJudge;
use super::ending::Mortal;
use super::exchange::{BodyState, Coming, Exchange, Leaving, Phase, Watch};
use super::foreign::{ForeignTokens, Replaced};
use super::rewind::{self, Rewind};
use super::slots::{ConnectionSlots, Slot};
use super::stream::Stream;
use super::trails::{ConnName, TrailedRequest};
use super::uploads::intake::Intake;
use super::{cors, delivery, limiter};
use crate::caller::{Judge, Peer, Place, tell_untrusted};
use crate::clock::{self, Clock};
use crate::http::host;
use crate::http::value::elements;
use crate::limits;
use crate::log::trail::Trails;
use crate::mesh::Gate;
use crate::metrics::accounts::AccountCounts;
use crate::metrics::http::Refused;
use crate::metrics::proxies::Heard;
use crate::threads::Courtesy;

/// How long a connection may keep the control plane waiting. The defaults are the limits; tests are
/// less patient.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// For a whole head, from its first byte.
    pub head: Duration,
    /// Between two requests, as it is announced.
    pub idle: Duration,
    /// How much longer than announced an idle connection is kept.
    pub grace: Duration,
    /// From the end of the body to the beginning of the response.
    pub request: Duration,
    /// For [`limits::HTTP_STEP_BYTES`] of a body to come, or its rest.
    pub body: Duration,
    /// From the end of the head to the beginning of the response of an upload.
    pub upload: Duration,
    /// For a peer that does not read to take the next [`limits::HTTP_STEP_BYTES`].
    pub stall: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            head: Duration::from_millis(limits::HEAD_MS_MAX),
            idle: Duration::from_millis(limits::HTTP_IDLE_MS_DEFAULT),
            grace: Duration::from_millis(limits::HTTP_IDLE_GRACE_MS),
            request: Duration::from_millis(limits::HTTP_REQUEST_MS_MAX),
            body: Duration::from_millis(limits::HTTP_STALL_MS_MAX),
            upload: Duration::from_millis(limits::UPLOAD_MS_MAX),
            stall: Duration::from_millis(limits::HTTP_STALL_MS_MAX),
        }
    }
}

/// What every connection of one port shares.
#[derive(Clone)]
pub(super) struct ConnectionContext {
    /// Answers the requests.
    pub(super) router: Router,
    /// Where upgrades go back to; `None` at the admin listeners.
    pub(super) gate: Option<Arc<dyn Gate>>,
    /// Says where each request comes from.
    pub(super) judge: Arc<CurrentJudge>,
    /// Counts those of pages of other origins, whose cookies did not count.
    pub(super) counts: Arc<AccountCounts>,
    /// What browsers that came over TLS are told of it.
    pub(super) hsts: Option<HeaderValue>,
    /// Takes tokens of another system; not at the admin listeners.
    pub(super) foreign: Option<ForeignTokens>,
    /// How patient it is.
    pub(super) deadlines: Deadlines,
    /// Where requests are written down.
    pub(super) trails: Trails,
    /// How many connections there have been so far, of both ports.
    pub(super) numbers: Arc<AtomicU64>,
    /// Which connections may stay.
    pub(super) slots: Arc<ConnectionSlots>,
    /// Where descriptors come from when there are none left.
    pub(super) spare: Arc<ConnectionSlots>,
    /// Asked before each poll of a connection.
    pub(super) courtesy: Arc<Courtesy>,
    /// Says when the port ends, and it when the last connection has gone.
    pub(super) mortal: Mortal,
}

/// Serves `stream`, of which `ahead` has been read, until it ends, loses its slot, stops with the
/// gateway or goes back to the gate.
pub(super) async fn serve(mut stream: Stream, mut ahead: Bytes, peer: Peer, slot: Slot, context: ConnectionContext) {
    let ConnectionContext {
        router,
        gate,
        judge,
        counts,
        hsts,
        foreign,
        deadlines,
        trails,
        numbers,
        mortal: Mortal { stop, alive },
        courtesy,
        ..
    } = context;
    rewind::take_ahead(stream.socket(), limits::HTTP_UNSENT_BYTES);
    let mut evicted = slot.evicted();
    let requests = Arc::new(Requests {
        router,
        deadlines,
        first: AtomicBool::new(true),
        upgrade: Mutex::new(None),
        gated: gate.is_some(),
        judge,
        counts,
        hsts,
        foreign,
        trails,
        number: numbers.fetch_add(1, Ordering::Relaxed),
        clock: Clock::start(),
        peer,
        exchange: Exchange::new(slot, stream.is_tls()),
        courtesy,
    });
    let mut patience = deadlines.head;
    loop {
        if ahead.is_empty() && !requests.more(&mut stream, patience, &mut evicted, stop.clone()).await {
            stream.end();
            break;
        }
        match requests.drive(stream, ahead, &mut evicted, stop.clone()).await {
            Next::End => break,
            Next::More(socket, bytes) => (stream, ahead) = (socket, bytes),
            Next::Gate(socket, bytes) => {
                if let Some(gate) = gate {
                    give_back(socket, bytes, peer, gate.as_ref());
                }
                break;
            }
        }
        patience = deadlines.idle + deadlines.grace;
    }
    drop((requests, alive));
}

/// What becomes of a connection after a request.
enum Next {
    /// It has ended.
    End,
    /// It waits for the next one, of which these bytes are here.
    More(Stream, Bytes),
    /// It is the gate's, with these bytes.
    Gate(Stream, Vec<u8>),
}

/// Why hyper is left.
enum Outcome {
    Ended,
    Idle,
    Upgrade(Box<Parts>),
    /// The head did not come in time.
    Late,
    /// The head is not complete, and the gateway stops.
    Stopped,
    /// The request was answered; the rest of its body does not come, or is too much.
    GivenUp,
    Evicted,
}

/// The requests of one connection, one after the other.
struct Requests {
    router: Router,
    deadlines: Deadlines,
    /// No request was heard yet: the gate has seen it and said that it is none of its own.
    first: AtomicBool,
    /// The head of an upgrade, until [`Self::drive`] takes it.
    upgrade: Mutex<Option<Box<Parts>>>,
    /// Whether there is a gate to go back to.
    gated: bool,
    judge: Arc<CurrentJudge>,
    counts: Arc<AccountCounts>,
    /// See [`hsts`].
    hsts: Option<HeaderValue>,
    /// Takes tokens of another system.
    foreign: Option<ForeignTokens>,
    trails: Trails,
    /// Which connection this is, in the trails.
    number: u64,
    clock: Clock,
    /// The other end.
    peer: Peer,
    exchange: Arc<Exchange>,
    /// Whether to let shards run between two polls.
    courtesy: Arc<Courtesy>,
}

impl Requests {
    /// Waits for the first byte of a request. Answers whether there is anything to read.
    async fn more(
        &self,
        stream: &mut Stream,
        patience: Duration,
        evicted: &mut Pin<Box<OwnedNotified>>,
        mut stop: watch::Receiver<bool>,
    ) -> bool {
        self.exchange.rest();
        stream.rest();
        tokio::select! {
            biased;
            () = evicted => false,
            _ = stop.wait_for(|stop| *stop) => false,
            more = tokio::time::timeout(patience, stream.has_more()) => more == Ok(true),
        }
    }

    /// Serves requests until there is nothing to read. As many as are here at once.
    async fn drive(
        self: &Arc<Self>,
        stream: Stream,
        ahead: Bytes,
        evicted: &mut Pin<Box<OwnedNotified>>,
        mut stop: watch::Receiver<bool>,
    ) -> Next {
        let exchange = &self.exchange;
        exchange.await_head();
        let requests = Arc::clone(self);
        let service = hyper::service::service_fn(move |request| Arc::clone(&requests).call(request));
        let io = Rewind::new(stream, ahead, self.deadlines.stall, Arc::clone(exchange));
        // On the heap: the task of an idle connection has no room for it.
        let mut connection = Box::new(http1().serve_connection(TokioIo::new(io), service));
        let mut late = Box::pin(tokio::time::sleep(self.deadlines.head));
        let mut stopping = pin!(async move { drop(stop.wait_for(|stop| *stop).await) });
        let (mut stops, mut told) = (false, false);
        let outcome = poll_fn(|cx| {
            self.courtesy.step_aside();
            if evicted.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Outcome::Evicted);
            }
            stops = stops || stopping.as_mut().poll(cx).is_ready();
            // Not before its head was heard: hyper closes a connection without a word of which it
            // has read nothing yet, and what is ahead may be a request.
            if stops && !told && exchange.phase() != Phase::Head {
                told = true;
                Pin::new(&mut *connection).graceful_shutdown();
            }
            // An error is the peer's: a broken request, a time-out, a reset. hyper has answered
            // what can be answered.
            if Pin::new(&mut *connection).poll(cx).is_ready() {
                return Poll::Ready(Outcome::Ended);
            }
            if exchange.phase() == Phase::Head && stops {
                return Poll::Ready(Outcome::Stopped);
            }
            if exchange.phase() == Phase::Head && late.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Outcome::Late);
            }
            // One poll of the connection writes all it can, so "not stalled" means that no byte of
            // an earlier response is left behind in its buffer.
            if exchange.is_stalled() {
                return Poll::Pending;
            }
            if let Some(head) = self.upgrade.lock().take() {
                return Poll::Ready(Outcome::Upgrade(head));
            }
            match (exchange.phase(), exchange.body()) {
                (Phase::Answered, BodyState::Ended) => return Poll::Ready(Outcome::Idle),
                (Phase::Answered, BodyState::Left) => {
                    if let Poll::Ready(goes_on) = exchange.poll_rest(cx) {
                        return Poll::Ready(if goes_on { Outcome::Idle } else { Outcome::GivenUp });
                    }
                }
                (Phase::Head | Phase::Working | Phase::Answering | Phase::Answered, _) => {}
            }
            Poll::Pending
        })
        .await;
        if matches!(outcome, Outcome::Ended) {
            return Next::End;
        }
        // Before the connection is taken apart, which drops what is under way.
        let at = (exchange.phase(), exchange.body());
        let parts = connection.into_parts();
        let (stream, ahead) = parts.io.into_inner().into_parts();
        self.next(outcome, at, stream, &[&parts.read_buf, &ahead])
    }

    fn next(&self, outcome: Outcome, at: (Phase, BodyState), mut stream: Stream, read: &[&[u8]]) -> Next {
        let slot = self.exchange.slot();
        match outcome {
            Outcome::Ended => {}
            Outcome::Idle => {
                let bytes: BytesMut = read.iter().flat_map(|part| part.iter()).collect();
                return Next::More(stream, bytes.freeze());
            }
            Outcome::Upgrade(head) => return Next::Gate(stream, rewritten(&head, read)),
            Outcome::Late => {
                slot.slots().counts().refused(Refused::HeadTooSlow);
                stream.tell(&too_late());
            }
            Outcome::Stopped => stream.tell(&busy()),
            Outcome::GivenUp => stream.end(),
            Outcome::Evicted => match at {
                (Phase::Head, _) | (Phase::Working, BodyState::Open) => stream.tell(&too_late()),
                (Phase::Working, BodyState::Ended | BodyState::Left) => stream.tell(&busy()),
                // A part of an answer has left.
                (Phase::Answering | Phase::Answered, _) => {}
            },
        }
        Next::End
    }

    /// hyper has read a head. What is said of it here holds before the answer is first polled.
    fn call(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Leaving>, Infallible>> + Send + 'static {
        self.exchange.begin(!request.body().is_end_stream());
        async move { Ok(self.answer(request).await) }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Leaving> {
        let first = self.first.swap(false, Ordering::Relaxed);
        let (mut parts, body) = request.into_parts();
        let replaced = match &self.foreign {
            Some(foreign) => foreign.replace(&mut parts).await,
            None => Replaced::Nothing,
        };
        let is_gates = !first || replaced == Replaced::Token;
        if self.gated && is_gates && replaced != Replaced::NotNow && body.is_end_stream() && is_upgrade(&parts) {
            *self.upgrade.lock() = Some(Box::new(parts));
            // Silence: `drive` sees the head after this poll and ends the connection's HTTP life.
            return std::future::pending().await;
        }
        let judge = self.judge.get();
        let place = judge.place(&parts.headers, self.peer);
        if place.foreign && judge.has_cookie(&parts.headers) {
            self.counts.cross_origin();
        }
        if self.gated {
            self.note_proxy(&judge, &parts.headers);
        }
        let request = (&parts.method, parts.uri.path());
        let mut trailed = TrailedRequest::begin(&self.trails, self.clock, request, place.client, ConnName(self.number));
        if let Some(trailed) = &trailed {
            parts.extensions.insert(trailed.acting());
        }
        parts.extensions.insert(place);
        parts.extensions.insert(Arc::clone(&self.exchange));
        let asks = |token| says(&parts.headers, &header::CONNECTION, token);
        let is_coded = parts.headers.contains_key(header::TRANSFER_ENCODING);
        let lasts = if asks(b"close") || (parts.version != Version::HTTP_11 && !asks(b"keep-alive")) {
            Lasts::No
        } else if is_coded {
            // With a second length, which hyper may have removed, it is hyper that ends it.
            Lasts::Unsaid
        } else {
            Lasts::Yes
        };
        // A proxy in front may have believed the other length: what follows may not be its next
        // request (RFC 9112, section 6.3).
        let expects = parts.headers.contains_key(header::EXPECT);
        let two_lengths = is_coded && parts.headers.contains_key(header::CONTENT_LENGTH);
        // Costs nothing while debug lines are not written.
        let asked = tracing::enabled!(Level::DEBUG).then(|| (parts.method.clone(), shown_path(parts.uri.path())));
        let allowed = cors::allowed_early(&judge, parts.uri.path(), &parts.headers);
        let response = if replaced == Replaced::NotNow {
            Err(limiter::busy(parts.uri.path()))
        } else {
            self.respond(parts, body, place).await
        };
        let mut response = response.unwrap_or_else(|mut refusal| {
            refusal.headers_mut().extend(allowed);
            refusal
        });
        if let Some(trailed) = &mut trailed {
            trailed.answered(&response);
        }
        if let Some((method, path)) = asked {
            let (conn, status) = (ConnName(self.number), response.status().as_u16());
            tracing::debug!(%conn, %method, path, client = %place.client, status, "a request");
        }
        // A client that waits for `100 Continue` may send its body or not (RFC 9110, section
        // 10.1.1): what comes next is a body or a request, and nothing tells which. And a body in
        // chunks may be longer than what is passed over.
        let is_unsure = (expects || is_coded) && self.exchange.body() == BodyState::Left;
        self.exchange.set_last(two_lengths || is_unsure);
        self.keep_alive(response.headers_mut(), lasts, two_lengths || is_unsure);
        self.leaving(response, place, trailed)
    }

    /// Counts what a proxy in front says, and what it should have said.
    fn note_proxy(&self, judge: &Judge, headers: &HeaderMap) {
        let heard = judge.heard(headers, self.peer);
        let wall_ms = clock::wall_ms();
        let count = self.counts.proxies().hear(heard, wall_ms);
        match heard {
            Heard::UntrustedPrivate | Heard::Untrusted => tell_untrusted(self.peer, heard, count),
            _ => {
                if let Some(what) = judge.unsaid(headers, self.peer) {
                    self.counts.proxies().miss(what, wall_ms);
                }
            }
        }
    }

    /// An answer on its way out.
    fn leaving(
        &self,
        mut response: Response<Body>,
        place: Place,
        trailed: Option<Box<TrailedRequest>>,
    ) -> Response<Leaving> {
        if let Some(hsts) = self.hsts.as_ref().filter(|_| place.https) {
            response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
        let exact = response.body().size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
        let chunk = response.extensions().get::<delivery::Streamed>().map(|delivery::Streamed(bytes)| *bytes);
        let bytes = exact.filter(|_| chunk.is_none()).unwrap_or_else(|| 2 * chunk.unwrap_or(limits::FILE_CHUNK_BYTES));
        self.exchange.answer(bytes);
        response.map(|body| Leaving::new(body, Arc::clone(&self.exchange), trailed))
    }

    /// The answer of the router.
    ///
    /// # Errors
    /// The refusal, when there is not even a look at what is asked for, or no answer in time.
    async fn respond(&self, parts: Parts, body: Incoming, place: Place) -> Result<Response<Body>, Response<Body>> {
        let slot = self.exchange.slot();
        let counts = slot.slots().counts();
        let is_upload = limiter::is_upload(parts.uri.path());
        let watch = (!is_upload).then(|| Watch::new(self.deadlines.body));
        let coming = Body::new(Coming::new(body, Arc::clone(&self.exchange), watch));
        if !has_one_host(&parts) {
            counts.refused(Refused::Host);
            return Err(refused(StatusCode::BAD_REQUEST, "Bad Request: one Host header is wanted\n"));
        }
        if !is_plainly_chunked(&parts.headers) {
            counts.refused(Refused::Coding);
            return Err(refused(StatusCode::NOT_IMPLEMENTED, "Not Implemented: only `chunked` is understood\n"));
        }
        if is_encoded(&parts.headers) && !coming.is_end_stream() {
            counts.refused(Refused::Coding);
            Intake::new(&parts.headers, coming).linger();
            return Err(limiter::encoded(parts.uri.path()));
        }
        let too_large = declared(&parts.headers).filter(|bytes| *bytes > limits::HTTP_BODY_BYTES_MAX as u64);
        if let Some(bytes) = too_large.filter(|_| !is_upload) {
            counts.refused(Refused::TooLarge);
            Intake::new(&parts.headers, coming).linger();
            return Err(limiter::too_large(parts.uri.path(), bytes));
        }
        let Ok(work) = slot.begin(limiter::class(parts.uri.path()), place.client) else {
            return Err(limiter::busy(parts.uri.path()));
        };
        self.exchange.keep_work(work);
        let deadline = match (is_upload, coming.is_end_stream()) {
            (true, _) => self.deadlines.upload,
            (false, true) => self.deadlines.request,
            (false, false) => self.deadlines.request + self.deadlines.body * BODY_STEPS,
        };
        let answer = self.router.clone().oneshot(Request::from_parts(parts, coming));
        match tokio::time::timeout(deadline, answer).await {
            Ok(Ok(response)) if is_upload || !self.exchange.is_too_slow() => Ok(response),
            Ok(_) | Err(_) => {
                counts.refused(Refused::TooSlow);
                Err(refused(StatusCode::REQUEST_TIMEOUT, "Request Timeout\n"))
            }
        }
    }

    /// Says whether the connection lasts, and for how long.
    fn keep_alive(&self, headers: &mut HeaderMap, lasts: Lasts, is_unsure: bool) {
        let seconds = self.deadlines.idle.as_secs();
        if is_unsure || self.exchange.slot().slots().is_short() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        } else if lasts != Lasts::No && seconds > 0 && !headers.contains_key(header::CONNECTION) {
            if lasts == Lasts::Yes {
                headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
            }
            if let Ok(value) = HeaderValue::try_from(format!("timeout={seconds}")) {
                headers.insert(KEEP_ALIVE, value);
            }
        }
    }
}

/// Whether a connection goes on after an answer, as far as its request says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lasts {
    No,
    /// It does unless hyper says otherwise, which alone writes a `Connection` then.
    Unsaid,
    Yes,
}

/// The value of `Strict-Transport-Security` (RFC 6797, section 6.1), which counts only over TLS;
/// none for 0 seconds, because that would be a word, too: to forget what was said.
pub(super) fn hsts(seconds: u64) -> Option<HeaderValue> {
    (seconds > 0).then(|| HeaderValue::try_from(format!("max-age={seconds}")).ok())?
}

/// How hyper is to speak.
fn http1() -> Builder {
    let mut builder = Builder::new();
    builder
        .header_read_timeout(None)
        // Whoever has said all closes its side and waits for the answer (`nc -N`, Erlang's and Go's
        // one-shot clients); only what is written tells that nobody is left.
        .half_close(true)
        .max_buf_size(limits::HEAD_BYTES_MAX)
        .max_headers(limits::HEADERS_MAX);
    builder
}

const KEEP_ALIVE: header::HeaderName = header::HeaderName::from_static("keep-alive");
/// Pauses of a body that comes as slowly as it may.
const BODY_STEPS: u32 = limits::HTTP_BODY_BYTES_MAX.div_ceil(limits::HTTP_STEP_BYTES) as u32;

/// A path as the log has it: without the name of a file or the secret of an invitation, which are
/// rights by themselves, however the folder before them is spelled, and without a query, which may
/// have a token. Nothing is shown from the first escaped character on: it may be the slash after
/// such a folder.
fn shown_path(path: &str) -> String {
    let plain = path.split_once(['%', '\\']).map_or(path, |(plain, _)| plain);
    let is_folder = |part: &str| SECRET_FOLDERS.iter().any(|folder| folder.eq_ignore_ascii_case(part));
    let mut end = 0;
    for part in plain.split_inclusive('/') {
        end += part.len();
        if is_folder(part.trim_end_matches('/')) {
            break;
        }
    }
    plain.chars().take(SHOWN_PATH_CHARS_MAX.min(plain.get(..end).unwrap_or_default().chars().count())).collect()
}

/// What stands behind these in a path gives a right.
const SECRET_FOLDERS: [&str; 5] = ["files", "resource", "mnt", "invites", "join"];

/// Characters of a path in the log.
const SHOWN_PATH_CHARS_MAX: usize = 100;

/// Whether a request says for which host it is, and for one only (RFC 9112, section 3.2).
fn has_one_host(parts: &Parts) -> bool {
    let hosts = parts.headers.get_all(header::HOST).iter().map(HeaderValue::as_bytes);
    host::is_right(hosts, parts.version >= Version::HTTP_11)
}

/// Whether a body has no transfer coding, or `chunked` alone: others are not understood, and what
/// they hide would be taken for the body (RFC 9112, section 6.1).
fn is_plainly_chunked(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::TRANSFER_ENCODING).iter();
    let only = values.next().is_none_or(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
    only && values.next().is_none()
}

/// Whether a body is in a content coding (RFC 9110, section 8.4). None is undone here: the coded
/// bytes would be kept, or read, as the thing itself.
fn is_encoded(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::CONTENT_ENCODING).iter();
    lines.flat_map(|line| elements(line.as_bytes())).any(|coding| !coding.eq_ignore_ascii_case("identity"))
}

fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A refusal that ends the connection.
fn refused(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Whether a header that is a list has `wanted` in it.
fn says(headers: &HeaderMap, name: &header::HeaderName, wanted: &[u8]) -> bool {
    headers.get_all(name).iter().any(|value| {
        let tokens = value.as_bytes().split(|&byte| byte == b',');
        tokens.map(<[u8]>::trim_ascii).any(|token| token.eq_ignore_ascii_case(wanted))
    })
}

/// Whether a request asks for a WebSocket (RFC 6455, section 4.2.1). What else it lacks is for the
/// gate to say.
fn is_upgrade(parts: &Parts) -> bool {
    parts.version == Version::HTTP_11 && says(&parts.headers, &header::UPGRADE, b"websocket")
}

/// The bytes of a request's head as a client could have sent them, and what came behind it.
fn rewritten(head: &Parts, behind: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(limits::HEAD_BYTES_MAX);
    bytes.extend_from_slice(head.method.as_str().as_bytes());
    bytes.push(b' ');
    bytes.extend_from_slice(head.uri.path_and_query().map_or("/", |target| target.as_str()).as_bytes());
    bytes.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in &head.headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    for part in behind {
        bytes.extend_from_slice(part);
    }
    bytes
}

/// Gives the socket to the gate; a gate without room is the same 503 as at the front door.
fn give_back(stream: Stream, mut read: Vec<u8>, peer: Peer, gate: &dyn Gate) {
    rewind::take_ahead(stream.socket(), 0);
    let Ok((wire, opened)) = stream.into_wire() else { return };
    read.extend_from_slice(&opened);
    let Err(refused) = gate.admit(wire, read, peer) else { return };
    // Best effort: the socket's buffer is empty, so the few bytes fit.
    if let Ok(mut stream) = Stream::new(refused) {
        stream.tell(&busy());
    }
}

/// For whoever finds no place.
pub(super) fn busy() -> Vec<u8> {
    bare("503 Service Unavailable", "Retry-After: 1\r\n")
}

fn too_late() -> Vec<u8> {
    bare("408 Request Timeout", "")
}

/// The last answer of a connection, without content: it may be one to HEAD.
fn bare(status: &str, headers: &str) -> Vec<u8> {
    let date = clock::http_date(clock::wall_ms());
    format!("HTTP/1.1 {status}\r\nDate: {date}\r\nConnection: close\r\nContent-Length: 0\r\n{headers}\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(upgrade: &str) -> Request<()> {
        Request::builder()
            .uri("http://gate.example/chat?id=1&token=x%20y")
            .header("Upgrade", upgrade)
            .header("Sec-WebSocket-Key", "a b")
            .body(())
            .expect("a well-formed request")
    }

    #[test]
    fn the_log_has_neither_names_of_files_nor_long_paths() {
        assert_eq!(shown_path("/api/v1/me"), "/api/v1/me");
        assert_eq!(shown_path("/files/0123.png"), "/files/");
        for (path, shown) in [
            ("/api/v1/invites/0123456789abcdefABCDEF", "/api/v1/invites/"),
            ("/API/v1//Invites//0123", "/API/v1//Invites/"),
            ("//files/0123", "//files/"),
            ("/Files/0123", "/Files/"),
            ("/files%2f0123", "/files"),
            ("/%66iles/0123", "/"),
            ("/api/v1/groups/7/members", "/api/v1/groups/7/members"),
        ] {
            assert_eq!(shown_path(path), shown);
        }
        assert_eq!(shown_path(&"/ü".repeat(200)).chars().count(), SHOWN_PATH_CHARS_MAX);
    }

    #[test]
    fn an_upgrade_is_found_among_several_protocols() {
        let is_upgrade = |upgrade| is_upgrade(&request(upgrade).into_parts().0);
        assert!(is_upgrade("websocket") && is_upgrade("h2c, WebSocket"));
        assert!(!is_upgrade("websockets") && !is_upgrade("h2c"));
    }

    #[test]
    fn a_head_is_rewritten_in_origin_form_before_what_was_read_behind_it() {
        let head = request("websocket").into_parts().0;
        let bytes = rewritten(&head, &[b"\x81\x80", b"abcd"]);
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.starts_with("GET /chat?id=1&token=x%20y HTTP/1.1\r\n"), "{text}");
        assert!(text.contains("\r\nsec-websocket-key: a b\r\n"), "{text}");
        assert!(bytes.ends_with(b"\r\n\r\n\x81\x80abcd"));
    }
}
