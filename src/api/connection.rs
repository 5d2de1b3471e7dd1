//! One HTTP/1 connection, from its first byte to its end or to its way back to the gate.
//!
//! Owns: the requests of one connection in their order, and the decision that a kept-alive connection has become an upgrade.
//! Never: answers an upgrade. hyper reads its head, the service keeps silent about it, and the socket is taken back with
//! the head written anew in front of what was read behind it: so the gate sees what the client sent, and the 101 is its own.
//! Bounds: [`limits::HEAD_BYTES_MAX`] and [`limits::HEADERS_MAX`] per head, and the [`Deadlines`].

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io::Write;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Request, Response, StatusCode, Version, header};
use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tower::ServiceExt;

use super::door::Hall;
use super::rewind::Rewind;
use super::uploads;
use crate::caller::{Judge, Peer};
use crate::limits;
use crate::mesh::Gate;
use crate::metrics::accounts::AccountCounts;

/// How long a connection may keep the control plane waiting. The defaults are the limits; tests are less patient.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// For a whole head, from the end of the request before it: an idle connection ends after it, too.
    pub head: Duration,
    /// From the end of the head to the beginning of the response, the body included.
    pub request: Duration,
    /// The same for uploads.
    pub upload: Duration,
    /// For a peer that does not read to take the next bytes.
    pub stall: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            head: Duration::from_millis(limits::HEAD_MS_MAX),
            request: Duration::from_millis(limits::HTTP_REQUEST_MS_MAX),
            upload: Duration::from_millis(limits::UPLOAD_MS_MAX),
            stall: Duration::from_millis(limits::HTTP_STALL_MS_MAX),
        }
    }
}

/// Serves `stream`, of which `ahead` has been read, until it ends, stops with the gateway or goes back to the hall's gate.
pub(super) async fn serve(stream: TcpStream, ahead: Bytes, peer: Peer, hall: Hall) {
    let Hall { router, gate, judge, counts, deadlines, mut stop, .. } = hall;
    let io = Rewind::new(stream, ahead, deadlines.stall);
    let stalled = io.stalled();
    let requests = Arc::new(Requests {
        router,
        deadlines,
        first: AtomicBool::new(true),
        upgrade: Mutex::new(None),
        gated: gate.is_some(),
        judge,
        counts,
        peer,
    });
    let service = {
        let requests = Arc::clone(&requests);
        hyper::service::service_fn(move |request| Arc::clone(&requests).answer(request))
    };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(deadlines.head)
        .max_buf_size(limits::HEAD_BYTES_MAX)
        .max_headers(limits::HEADERS_MAX)
        .serve_connection(TokioIo::new(io), service);

    let mut stopping = pin!(async move { drop(stop.wait_for(|stop| *stop).await) });
    let mut told = false;
    let upgraded = poll_fn(|cx| {
        if !told && stopping.as_mut().poll(cx).is_ready() {
            told = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        match Pin::new(&mut connection).poll(cx) {
            // An error is the peer's: a broken request, a time-out, a reset. hyper has answered what can be answered.
            Poll::Ready(_) => Poll::Ready(None),
            // One poll of the connection writes all it can, so "not stalled" means that no byte of an earlier
            // response is left behind in its buffer.
            Poll::Pending if !stalled.load(Ordering::Relaxed) => {
                requests.upgrade.lock().take().map_or(Poll::Pending, |head| Poll::Ready(Some(head)))
            }
            Poll::Pending => Poll::Pending,
        }
    })
    .await;

    if let (Some(head), Some(gate)) = (upgraded, gate) {
        let parts = connection.into_parts();
        let (stream, ahead) = parts.io.into_inner().into_parts();
        let read = rewritten(&head, &[&parts.read_buf, &ahead]);
        give_back(stream, read, peer, gate.as_ref());
    }
}

/// The requests of one connection, one after the other.
struct Requests {
    router: Router,
    deadlines: Deadlines,
    /// No request was heard yet: the gate has seen it and said that it is none of its own.
    first: AtomicBool,
    /// The head of an upgrade, until [`serve`] takes it.
    upgrade: Mutex<Option<Parts>>,
    /// Whether there is a gate to go back to.
    gated: bool,
    judge: Arc<Judge>,
    counts: Arc<AccountCounts>,
    /// The other end.
    peer: Peer,
}

impl Requests {
    async fn answer(self: Arc<Self>, mut request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let first = self.first.swap(false, Ordering::Relaxed);
        if self.gated && !first && request.body().is_end_stream() && is_upgrade(&request) {
            *self.upgrade.lock() = Some(request.into_parts().0);
            // Silence: `serve` sees the head after this poll and ends the connection's HTTP life.
            return std::future::pending().await;
        }
        let place = self.judge.place(request.headers(), self.peer);
        if place.foreign && self.judge.has_cookie(request.headers()) {
            self.counts.cross_origin();
        }
        request.extensions_mut().insert(place);
        let deadline = if uploads::is_upload(&request) { self.deadlines.upload } else { self.deadlines.request };
        let headers = request.headers();
        let two_lengths =
            headers.contains_key(header::TRANSFER_ENCODING) && headers.contains_key(header::CONTENT_LENGTH);
        let answer = self.router.clone().oneshot(request.map(Body::new));
        let mut answer = tokio::time::timeout(deadline, answer).await.unwrap_or_else(|_| Ok(too_late()));
        if let Ok(response) = &mut answer
            && two_lengths
        {
            // A proxy in front may have believed the other length: what follows may not be its next request (RFC 9112,
            // section 6.3).
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }
}

fn too_late() -> Response<Body> {
    let mut response = Response::new(Body::from("Request Timeout\n"));
    *response.status_mut() = StatusCode::REQUEST_TIMEOUT;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Whether a request asks for a WebSocket (RFC 6455, section 4.2.1). What else it lacks is for the gate to say.
fn is_upgrade<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_11
        && request.headers().get_all(header::UPGRADE).iter().any(|value| {
            let tokens = value.as_bytes().split(|&byte| byte == b',');
            tokens.map(<[u8]>::trim_ascii).any(|token| token.eq_ignore_ascii_case(b"websocket"))
        })
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
fn give_back(stream: TcpStream, read: Vec<u8>, peer: Peer, gate: &dyn Gate) {
    let Ok(stream) = stream.into_std() else { return };
    if let Err(mut refused) = gate.admit(stream, read, peer) {
        // Best effort: the socket's buffer is empty, so the few bytes fit, and nobody waits for them.
        drop(refused.write(BUSY));
    }
}

const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\nRetry-After: 1\r\n\r\n";

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
    fn an_upgrade_is_found_among_several_protocols() {
        assert!(is_upgrade(&request("websocket")));
        assert!(is_upgrade(&request("h2c, WebSocket")));
        assert!(!is_upgrade(&request("websockets")));
        assert!(!is_upgrade(&request("h2c")));
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
