//! A body on its way in: chunk by chunk, as long as they come fast enough.
//!
//! Owns: the request's body. A form around the file is the old systems' (`legacy`).
//! Never: holds more than a chunk. When the file is refused, what still comes is read and thrown
//! away for a moment, so that the client reads the answer instead of a reset.
//! Bounds: [`limits::UPLOAD_STALL_MS_MAX`] of waiting for each [`limits::UPLOAD_STEP_BYTES`],
//! [`limits::LINGER_BYTES_MAX`], [`limits::LINGER_MS_MAX`].

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use tokio::time::timeout;

use crate::clock::Clock;
use crate::limits;

/// The body ended before the file did, or came too slowly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::api) struct Cut;

/// A file on its way in.
pub(in crate::api) trait Incoming {
    /// At least how many bytes the file has, as far as the client says.
    fn declared(&self) -> Option<u64>;

    /// The next bytes of the file; `None` at its end.
    ///
    /// # Errors
    /// [`Cut`].
    fn chunk(&mut self) -> impl Future<Output = Result<Option<Bytes>, Cut>> + Send;
}

/// A body; as [`Incoming`], the whole of it is the file.
pub(in crate::api) struct Intake {
    body: Body,
    /// What the body's head said of its length.
    declared: Option<u64>,
    clock: Clock,
    patience: Patience,
}

/// For how long the body may still keep us waiting. A pause for each chunk would be no bound: a
/// byte now and then holds the place of a whole upload.
#[derive(Debug)]
struct Patience {
    left_ms: u64,
    /// Bytes since it was whole.
    came: usize,
}

impl Patience {
    const WHOLE: Self = Self { left_ms: limits::UPLOAD_STALL_MS_MAX, came: 0 };

    const fn waited(&mut self, ms: u64) {
        self.left_ms = self.left_ms.saturating_sub(ms);
    }

    const fn came(&mut self, bytes: usize) {
        self.came = self.came.saturating_add(bytes);
        if self.came >= limits::UPLOAD_STEP_BYTES {
            *self = Self::WHOLE;
        }
    }
}

impl Incoming for Intake {
    fn declared(&self) -> Option<u64> {
        self.declared
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, Cut> {
        self.more().await
    }
}

impl Intake {
    /// The body of a request with these headers.
    pub(in crate::api) fn new(headers: &HeaderMap, body: Body) -> Self {
        Self { body, declared: declared(headers), clock: Clock::start(), patience: Patience::WHOLE }
    }

    /// The next bytes of the body; `None` at its end.
    ///
    /// # Errors
    /// [`Cut`].
    pub(in crate::api) async fn more(&mut self) -> Result<Option<Bytes>, Cut> {
        loop {
            let frame = poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx));
            let begun_ms = self.clock.now().mono_ms;
            // What is here already is taken in any case.
            let frame = timeout(Duration::from_millis(self.patience.left_ms), frame).await.map_err(|_| Cut)?;
            self.patience.waited(self.clock.now().mono_ms.saturating_sub(begun_ms));
            match frame {
                None => return Ok(None),
                Some(Err(_)) => return Err(Cut),
                // Trailers say nothing to us.
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        self.patience.came(bytes.len());
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// Reads on for a moment after the answer. A socket that is closed with bytes unread resets the
    /// connection, and takes the answer along (RFC 9112, section 9.6).
    ///
    /// Answers whether anything may still come: what a refusal leaves unread is no request, so it
    /// ends the connection.
    pub(in crate::api) fn linger(mut self) -> bool {
        if self.body.is_end_stream() {
            return false;
        }
        let reading = async move {
            let mut passed = 0;
            while let Ok(Some(bytes)) = self.more().await {
                passed += bytes.len();
                if passed > limits::LINGER_BYTES_MAX {
                    break;
                }
            }
        };
        // As many of them as there are connections, because each of these waits for its end.
        tokio::spawn(timeout(Duration::from_millis(limits::LINGER_MS_MAX), reading));
        true
    }
}

fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a body is patiently waited for that brings `bytes` every `pause_ms`.
    fn lasts(bytes: usize, pause_ms: u64) -> bool {
        let mut patience = Patience::WHOLE;
        (0..10_000).all(|_| {
            patience.waited(pause_ms);
            let lasts = patience.left_ms > 0;
            patience.came(bytes);
            lasts
        })
    }

    #[test]
    fn a_byte_now_and_then_is_no_upload() {
        assert!(!lasts(1, 1000));
        assert!(!lasts(0, 10));
        assert!(!lasts(limits::UPLOAD_STEP_BYTES, limits::UPLOAD_STALL_MS_MAX), "a long pause");
    }

    #[test]
    fn a_slow_line_is_one() {
        assert!(lasts(1400, 1000), "11 kbit/s");
        assert!(lasts(limits::UPLOAD_STEP_BYTES, limits::UPLOAD_STALL_MS_MAX - 1), "pauses, and a lot between them");
        assert!(lasts(1, 0), "little at a time, but at once");
    }
}
