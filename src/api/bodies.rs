//! The body of a request, as one piece of memory.
//!
//! Owns: [`whole`], the one way in which a body is gathered.
//! Never: keeps a part as it came. Each part is a slice of the buffer that the connection read
//! into, and keeps all of it: a client that sends byte by byte would hold kilobytes for each, of
//! which only its own bytes were counted.
//! Bounds: [`crate::limits::HTTP_BODY_BYTES_MAX`]; the buffer grows by doubling, so that it is at
//! most [`BODY_ROOM`] times what has come, which is how [`super::exchange`] counts it.

use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};

/// By how much the buffer of a body may be larger than what has come of it.
pub(super) const BODY_ROOM: usize = 2;

/// Reads the body to its end.
///
/// # Errors
/// The answer to one that is too long, too slow or broken.
pub(super) async fn whole<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Response> {
    BytesMut::from_request(request, state).await.map(BytesMut::freeze).map_err(IntoResponse::into_response)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::BoxError;
    use axum::body::Body;
    use futures_util::stream;

    use super::*;

    /// A piece of a buffer, which tells when it is let go.
    struct Piece(Arc<AtomicUsize>);

    impl AsRef<[u8]> for Piece {
        fn as_ref(&self) -> &[u8] {
            b"x"
        }
    }

    impl Drop for Piece {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn a_body_that_comes_byte_by_byte_keeps_none_of_the_buffers_it_came_in() {
        let (alive, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counted, highest) = (Arc::clone(&alive), Arc::clone(&most));
        let pieces = (0..1_000).map(move |_| {
            highest.fetch_max(counted.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            Ok::<_, BoxError>(Bytes::from_owner(Piece(Arc::clone(&counted))))
        });
        let request = Request::new(Body::from_stream(stream::iter(pieces)));
        let body = whole(request, &()).await.unwrap_or_else(|answer| panic!("refused: {}", answer.status()));
        assert_eq!((body.len(), alive.load(Ordering::Relaxed)), (1_000, 0));
        assert!(most.load(Ordering::Relaxed) <= 2, "{most:?} at once");
    }
}
