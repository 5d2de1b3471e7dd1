//! A connection whose first bytes have already been read, and which gives up on a peer that does
//! not read.
//!
//! Owns: the bytes read ahead, the least rate of a peer that takes an answer, how much of it the
//! kernel takes ahead.
//! Bounds: [`limits::HTTP_STEP_BYTES`] must be taken within the pause it is given.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::exchange::{Exchange, Watch};
use super::stream::Stream;
use crate::limits;
use crate::metrics::http::Refused;

/// See the module.
pub(super) struct Rewind {
    stream: Stream,
    /// What the gate had read; served before the socket's own bytes.
    ahead: Bytes,
    watch: Watch,
    exchange: Arc<Exchange>,
    pace: Pace,
}

/// Whether the peer has proven fast.
enum Pace {
    /// Nothing was written yet.
    Unknown,
    /// So many bytes since then.
    Slow {
        since_ms: u64,
        bytes: usize,
    },
    Fast,
}

impl Rewind {
    /// `stream`, of which `ahead` has been read.
    pub(super) fn new(stream: Stream, ahead: Bytes, pause: Duration, exchange: Arc<Exchange>) -> Self {
        Self { stream, ahead, watch: Watch::new(pause), exchange, pace: Pace::Unknown }
    }

    /// The socket, and what was read ahead and not taken.
    pub(super) fn into_parts(self) -> (Stream, Bytes) {
        (self.stream, self.ahead)
    }

    /// Keeps the time of refused writes: the bytes that were taken, or 0 for a flush.
    fn watch(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.exchange.set_stalled(written.is_pending());
        let now_ms = self.exchange.slot().now_ms();
        let Poll::Ready(written) = written else {
            return self.watch.poll_wait(cx, now_ms).map(|()| {
                self.exchange.slot().slots().counts().refused(Refused::NotRead);
                Err(io::ErrorKind::TimedOut.into())
            });
        };
        if let Ok(bytes) = written {
            self.watch.moved(bytes, now_ms);
            self.exchange.slot().moved(bytes);
            self.pace(bytes, now_ms);
        }
        Poll::Ready(written)
    }

    fn pace(&mut self, more: usize, now_ms: u64) {
        match &mut self.pace {
            Pace::Unknown => self.pace = Pace::Slow { since_ms: now_ms, bytes: more },
            Pace::Slow { since_ms, bytes } => {
                *bytes += more;
                if now_ms.saturating_sub(*since_ms) > limits::HTTP_FAST_MS {
                    (*since_ms, *bytes) = (now_ms, 0);
                } else if *bytes >= limits::HTTP_FAST_BYTES {
                    take_ahead(self.stream.socket(), limits::HTTP_FAST_UNSENT_BYTES);
                    self.pace = Pace::Fast;
                }
            }
            Pace::Fast => {}
        }
    }
}

/// Lets the kernel take so many bytes that it cannot send yet; 0: as many as the system says.
/// Without it, what a socket accepts says nothing of what its peer has read, up to megabytes.
pub(super) fn take_ahead(stream: &TcpStream, bytes: u32) {
    // Where the system does not know it, slow peers are told from others in larger steps.
    if let Err(error) = SockRef::from(stream).set_tcp_notsent_lowat(bytes) {
        tracing::debug!(%error, "the unsent bytes of a connection cannot be bounded");
    }
}

impl AsyncRead for Rewind {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, into);
        }
        let n = self.ahead.len().min(into.remaining());
        into.put_slice(&self.ahead.slice(..n));
        self.ahead.advance(n);
        if self.ahead.is_empty() {
            // An empty slice would keep the whole buffer.
            self.ahead = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewind {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if !self.stream.is_tls() {
            return flushed;
        }
        // The rest of a record is bytes that the peer must take, like all others.
        self.watch(cx, flushed.map_ok(|()| 0)).map_ok(|_| ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        if !self.stream.is_tls() {
            return shut;
        }
        // The end is a record, too: the connection is not idle before the peer has taken it.
        self.watch(cx, shut.map_ok(|()| 0)).map_ok(|_| ())
    }
}
