//! One request and its answer on their way through a connection, as far as their bytes are
//! concerned.
//!
//! Owns: how far an exchange is, what it holds of memory, the bodies that count their bytes
//! ([`Coming`], [`Leaving`]), and what of a request's body an answer did not wait for.
//! Never: holds a body; it passes frame by frame.
//! Bounds: the [`Patience`] of a body that does not come: [`limits::HTTP_STEP_BYTES`] within the
//! pause it is given; [`limits::HTTP_BODY_BYTES_MAX`] of a rest that is passed over.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use parking_lot::Mutex;
use tokio::time::Sleep;

use super::bodies::BODY_ROOM;
use super::slots::{Short, Slot, Work};
use super::trails::TrailedRequest;
use super::user_requests::RequestPermit;
use crate::fair::{Hold, Patience};
use crate::limits;

/// How far an exchange is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// The head is not complete.
    Head,
    /// The answer is being made.
    Working,
    /// The answer is on its way.
    Answering,
    /// The whole answer is in the hands of hyper.
    Answered,
}

/// What has become of a request's body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BodyState {
    /// It is being read, or may be.
    Open,
    /// It was read to its end, or there was none.
    Ended,
    /// It was left before its end.
    Left,
}

/// See the module. One for each connection, used for one exchange after the other.
pub(super) struct Exchange {
    slot: Arc<Slot>,
    phase: AtomicU8,
    body: AtomicU8,
    /// The body did not come in time.
    too_slow: AtomicBool,
    /// The answer says that it is the last of its connection.
    last: AtomicBool,
    /// Whether the last write was refused by the socket: bytes wait in hyper's buffer.
    stalled: AtomicBool,
    /// Bytes of the connection's own while a request is under way.
    own: usize,
    /// Of an answer, bytes that are sealed at once, beside the answer itself.
    sealed: usize,
    /// Bytes that the exchange holds beside these.
    held: AtomicUsize,
    /// What of the request's body was not read when its answer was made.
    rest: Mutex<Option<Rest>>,
    /// What ends with the exchange: the request's part of the slots, and of its user's requests.
    lasting: Mutex<(Option<Work>, Option<RequestPermit>)>,
}

impl Exchange {
    pub(super) fn new(slot: Slot, is_tls: bool) -> Arc<Self> {
        let (tls, sealed) = if is_tls { (limits::HTTP_TLS_CONN_BYTES, limits::WRITE_SCRATCH_BYTES) } else { (0, 0) };
        Arc::new(Self {
            own: limits::HTTP_CONN_BYTES + tls,
            sealed,
            slot: Arc::new(slot),
            phase: AtomicU8::new(Phase::Head as u8),
            body: AtomicU8::new(BodyState::Ended as u8),
            too_slow: AtomicBool::new(false),
            last: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            held: AtomicUsize::new(0),
            rest: Mutex::new(None),
            lasting: Mutex::default(),
        })
    }

    pub(super) fn slot(&self) -> &Arc<Slot> {
        &self.slot
    }

    pub(super) fn phase(&self) -> Phase {
        let phases = [Phase::Head, Phase::Working, Phase::Answering, Phase::Answered];
        phases.get(usize::from(self.phase.load(Ordering::Relaxed))).copied().unwrap_or(Phase::Head)
    }

    pub(super) fn body(&self) -> BodyState {
        let states = [BodyState::Open, BodyState::Ended, BodyState::Left];
        states.get(usize::from(self.body.load(Ordering::Relaxed))).copied().unwrap_or(BodyState::Open)
    }

    /// No request is under way, and no byte of one is here.
    pub(super) fn rest(&self) {
        self.end();
        self.phase.store(Phase::Head as u8, Ordering::Relaxed);
        self.slot.hold(Hold::Idle, limits::HTTP_IDLE_CONN_BYTES);
    }

    /// A head is awaited whose first byte has come.
    pub(super) fn await_head(&self) {
        self.phase.store(Phase::Head as u8, Ordering::Relaxed);
        self.slot.hold(Hold::Waiting, self.own);
    }

    /// A head is complete.
    pub(super) fn begin(&self, has_body: bool) {
        self.end();
        self.phase.store(Phase::Working as u8, Ordering::Relaxed);
        let body = if has_body { BodyState::Open } else { BodyState::Ended };
        self.body.store(body as u8, Ordering::Relaxed);
        self.too_slow.store(false, Ordering::Relaxed);
    }

    fn end(&self) {
        // Outside of the lock: what is dropped takes locks of its own.
        let lasting = std::mem::take(&mut *self.lasting.lock());
        drop((lasting, self.rest.lock().take()));
        self.held.store(0, Ordering::Relaxed);
    }

    /// The answer is complete, as far as its head and its length go: `bytes` wait for the peer.
    pub(super) fn answer(&self, bytes: usize) {
        self.phase.store(Phase::Answering as u8, Ordering::Relaxed);
        self.held.store(bytes, Ordering::Relaxed);
        self.slot.weighs(self.own + bytes + bytes.min(self.sealed));
    }

    pub(super) fn keep_work(&self, work: Work) {
        self.lasting.lock().0 = Some(work);
    }

    pub(super) fn keep_permit(&self, pass: RequestPermit) {
        self.lasting.lock().1 = Some(pass);
    }

    /// Memory for what a request is about to read; it is the answer's from [`Self::answer`] on.
    ///
    /// # Errors
    /// [`Short`].
    pub(super) async fn reserve(&self, bytes: usize) -> Result<(), Short> {
        if bytes > 0 {
            self.slot.reserve(bytes).await?;
            self.held.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Passes over what an answer has left of its request's body: the next request is behind it,
    /// and a client that still sends it must not find the connection closed without a word. Ready
    /// with whether the connection goes on: it does not when its end was announced, or the rest is
    /// too long, too slow or broken.
    pub(super) fn poll_rest(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut kept = self.rest.lock();
        let Some(rest) = kept.as_mut() else { return Poll::Ready(false) };
        let now_ms = self.slot.now_ms();
        loop {
            let Poll::Ready(frame) = Pin::new(&mut rest.inner).poll_frame(cx) else {
                self.slot.waits(true);
                return rest.watch.poll_wait(cx, now_ms).map(|()| false);
            };
            let Some(Ok(frame)) = frame else {
                let ended = frame.is_none();
                self.body.store(if ended { BodyState::Ended } else { BodyState::Left } as u8, Ordering::Relaxed);
                return Poll::Ready(ended && !self.last.load(Ordering::Relaxed));
            };
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            self.slot.moved(bytes);
            rest.watch.moved(bytes, now_ms);
            rest.passed += bytes;
            if rest.passed > limits::HTTP_BODY_BYTES_MAX {
                return Poll::Ready(false);
            }
        }
    }

    pub(super) fn set_last(&self, last: bool) {
        self.last.store(last, Ordering::Relaxed);
    }

    fn collected(&self, bytes: usize) {
        let room = bytes * BODY_ROOM;
        let held = self.held.fetch_add(room, Ordering::Relaxed) + room;
        self.slot.weighs(self.own + held);
    }

    pub(super) fn is_too_slow(&self) -> bool {
        self.too_slow.load(Ordering::Relaxed)
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    pub(super) fn set_stalled(&self, stalled: bool) {
        // Also when it was: a further request of the same connection may have begun meanwhile.
        if self.stalled.swap(stalled, Ordering::Relaxed) || stalled {
            self.slot.waits(stalled);
        }
    }
}

/// Waits for a peer, as long as it is not too slow.
pub(super) struct Watch {
    patience: Patience,
    /// Since when, and until when.
    waiting: Option<(u64, Pin<Box<Sleep>>)>,
}

impl Watch {
    /// [`limits::HTTP_STEP_BYTES`] must pass within `pause`.
    pub(super) fn new(pause: Duration) -> Self {
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        Self { patience: Patience::new(limits::HTTP_STEP_BYTES, pause_ms), waiting: None }
    }

    /// The peer is waited for. Ready when it was too long.
    pub(super) fn poll_wait(&mut self, cx: &mut Context<'_>, now_ms: u64) -> Poll<()> {
        let left = Duration::from_millis(self.patience.left_ms());
        let (_, end) = self.waiting.get_or_insert_with(|| (now_ms, Box::pin(tokio::time::sleep(left))));
        end.as_mut().poll(cx)
    }

    /// The peer has moved so many bytes.
    pub(super) fn moved(&mut self, bytes: usize, now_ms: u64) {
        if let Some((since_ms, _)) = self.waiting.take() {
            self.patience.waited(now_ms.saturating_sub(since_ms));
        }
        self.patience.came(bytes);
    }
}

/// What of a body was not read.
struct Rest {
    inner: Incoming,
    watch: Watch,
    passed: usize,
}

/// The body of a request on its way in.
pub(super) struct Coming {
    /// Until it is dropped.
    inner: Option<Incoming>,
    exchange: Arc<Exchange>,
    /// `None`: whoever reads it is patient for itself, and holds nothing of it (uploads).
    watch: Option<Watch>,
    waits: bool,
    /// It was read to its end.
    ended: bool,
}

impl Coming {
    pub(super) fn new(inner: Incoming, exchange: Arc<Exchange>, watch: Option<Watch>) -> Self {
        Self { inner: Some(inner), exchange, watch, waits: false, ended: false }
    }

    fn set_waits(&mut self, waits: bool) {
        if self.waits != waits {
            self.waits = waits;
            self.exchange.slot.waits(waits);
        }
    }
}

/// A body came too slowly.
#[derive(Debug, thiserror::Error)]
#[error("the body came too slowly")]
struct TooSlow;

impl HttpBody for Coming {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let now_ms = this.exchange.slot.now_ms();
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        let Poll::Ready(frame) = Pin::new(inner).poll_frame(cx) else {
            this.set_waits(true);
            if this.watch.as_mut().is_none_or(|watch| watch.poll_wait(cx, now_ms).is_pending()) {
                return Poll::Pending;
            }
            this.exchange.too_slow.store(true, Ordering::Relaxed);
            return Poll::Ready(Some(Err(TooSlow.into())));
        };
        let bytes = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, Bytes::len);
        this.exchange.slot.moved(bytes);
        this.set_waits(false);
        this.ended = frame.is_none();
        if let Some(watch) = &mut this.watch {
            watch.moved(bytes, now_ms);
            this.exchange.collected(bytes);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        let state = if self.ended || self.is_end_stream() { BodyState::Ended } else { BodyState::Left };
        self.exchange.body.store(state as u8, Ordering::Relaxed);
        self.set_waits(false);
        // After the answer it is one that was read on for a while: its connection ends.
        if state == BodyState::Left
            && self.exchange.phase() == Phase::Working
            && let (Some(inner), Some(watch)) = (self.inner.take(), self.watch.take())
        {
            *self.exchange.rest.lock() = Some(Rest { inner, watch, passed: 0 });
        }
    }
}

/// The body of an answer on its way out.
pub(super) struct Leaving {
    inner: Body,
    exchange: Arc<Exchange>,
    /// Says in the access trail that it has left.
    trailed: Option<Box<TrailedRequest>>,
}

impl Leaving {
    pub(super) const fn new(inner: Body, exchange: Arc<Exchange>, trailed: Option<Box<TrailedRequest>>) -> Self {
        Self { inner, exchange, trailed }
    }
}

impl HttpBody for Leaving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if let (Some(trailed), Poll::Ready(Some(Ok(frame)))) = (&mut self.trailed, &polled) {
            trailed.took(frame.data_ref().map_or(0, Bytes::len));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.exchange.phase.store(Phase::Answered as u8, Ordering::Relaxed);
    }
}
