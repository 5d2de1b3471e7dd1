//! Connections to an object store: made, kept for the next request, given up.
//!
//! Owns: the addresses of the store's name, TLS, and the connections that wait for a request.
//! Never: waits without an end; whoever asks has a deadline around it. Never looks up a name more
//! than once at a time, so that a name service that hangs takes one thread.
//! Bounds: [`limits::OBJECT_IDLE_MAX`] kept, for [`limits::OBJECT_IDLE_MS_MAX`];
//! [`limits::OBJECT_ADDRESSES_MAX`] addresses, [`limits::OBJECT_CONNECT_MS_MAX`] each;
//! [`limits::OBJECT_HEAD_BYTES_MAX`] of an answer's head.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::failure::ObjectError;
use crate::clock::Clock;
use crate::http::authorities;
use crate::limits;

/// What a request carries.
pub type ObjectBody = UnsyncBoxBody<Bytes, io::Error>;

/// See the module.
pub(super) struct Connections {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    idle: Mutex<Vec<(Connection, u64)>>,
    lookups: Arc<Semaphore>,
    clock: Clock,
}

/// One connection. Gone when it is dropped.
pub(super) struct Connection {
    send: SendRequest<ObjectBody>,
    /// It has served a request before, so the other end may have ended it meanwhile.
    pub(super) is_used: bool,
    _driven: AbortOnDrop,
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An answer, as it came.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Connections {
    /// To the host of `url`.
    ///
    /// # Errors
    /// It is TLS, and the system has no authorities.
    pub(super) fn new(url: &Url, clock: Clock) -> io::Result<Self> {
        let host = match url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => return Err(io::Error::other("an endpoint without a host")),
        };
        let tls = (url.scheme() == "https").then(|| {
            let name = ServerName::try_from(host.clone()).map_err(io::Error::other)?;
            Ok::<_, io::Error>((TlsConnector::from(authorities::client()?), name))
        });
        Ok(Self {
            host,
            port: url.port_or_known_default().unwrap_or_default(),
            tls: tls.transpose()?,
            idle: Mutex::default(),
            lookups: Arc::new(Semaphore::new(1)),
            clock,
        })
    }

    /// A connection that takes a request: one that was kept, or a new one.
    ///
    /// # Errors
    /// No address answers.
    pub(super) async fn take(&self) -> Result<Connection, ObjectError> {
        while let Some(mut kept) = self.kept() {
            if kept.send.ready().await.is_ok() {
                kept.is_used = true;
                return Ok(kept);
            }
        }
        self.connect().await
    }

    /// The newest that was kept and is young enough; the older ones go.
    fn kept(&self) -> Option<Connection> {
        let mut idle = self.idle.lock();
        let now_ms = self.clock.now().mono_ms;
        idle.retain(|(kept, since_ms)| {
            !kept.send.is_closed() && now_ms.saturating_sub(*since_ms) < limits::OBJECT_IDLE_MS_MAX
        });
        idle.pop().map(|(kept, _)| kept)
    }

    /// Keeps a connection whose answer was read to its end.
    pub(super) fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock();
        if idle.len() < limits::OBJECT_IDLE_MAX && !connection.send.is_closed() {
            idle.push((connection, self.clock.now().mono_ms));
        }
    }

    /// One that was kept was found to be lost: the others are no better.
    pub(super) fn forget(&self) {
        let gone = std::mem::take(&mut *self.idle.lock());
        drop(gone);
    }

    async fn connect(&self) -> Result<Connection, ObjectError> {
        let mut outcome = Err(ObjectError::Unreachable("its name has no address".to_owned()));
        for address in self.addresses().await?.into_iter().take(limits::OBJECT_ADDRESSES_MAX) {
            let patience = Duration::from_millis(limits::OBJECT_CONNECT_MS_MAX);
            outcome = match tokio::time::timeout(patience, self.open(address)).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => Err(ObjectError::Unreachable(error.to_string())),
                Err(_) => Err(ObjectError::Unreachable(format!("{address} does not answer"))),
            };
        }
        outcome
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>, ObjectError> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        let unreachable = |error: String| ObjectError::Unreachable(format!("{}: {error}", self.host));
        // Held until the name service has answered, also if this call is given up before.
        let permit = Arc::clone(&self.lookups).acquire_owned().await.map_err(|error| unreachable(error.to_string()))?;
        let name = (self.host.clone(), self.port);
        let looking = tokio::task::spawn_blocking(move || {
            let found = name.to_socket_addrs().map(Vec::from_iter);
            drop(permit);
            found
        });
        looking.await.map_err(io::Error::other).flatten().map_err(|error| unreachable(error.to_string()))
    }

    async fn open(&self, address: SocketAddr) -> io::Result<Connection> {
        let socket = TcpStream::connect(address).await?;
        // A head and the first bytes behind it are two writes.
        socket.set_nodelay(true)?;
        match &self.tls {
            None => begin(socket).await,
            Some((connector, name)) => begin(connector.connect(name.clone(), socket).await?).await,
        }
    }
}

async fn begin(socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> io::Result<Connection> {
    let builder = Builder::new().max_buf_size(limits::OBJECT_HEAD_BYTES_MAX).handshake(TokioIo::new(socket));
    let (send, connection) = builder.await.map_err(io::Error::other)?;
    // Ends with `send`, at the latest when that is dropped.
    let driven = AbortOnDrop(tokio::spawn(async move {
        let _ = connection.await;
    }));
    Ok(Connection { send, is_used: false, _driven: driven })
}

impl Connection {
    /// Sends a request and reads the whole answer, whose body is not longer than `bytes_max`.
    ///
    /// # Errors
    /// The connection is lost, the body cannot be read, or the answer is too long.
    pub(super) async fn exchange(
        &mut self,
        request: Request<ObjectBody>,
        bytes_max: usize,
    ) -> Result<Reply, ObjectError> {
        let answer = self.send.send_request(request).await.map_err(broken)?;
        let (head, mut body) = answer.into_parts();
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(bytes) = frame.map_err(broken)?.into_data() else { continue };
            if read.len() + bytes.len() > bytes_max {
                return Err(ObjectError::Nonsense("it is longer than what was asked for"));
            }
            read.extend_from_slice(&bytes);
        }
        Ok(Reply { status: head.status.as_u16(), headers: head.headers, body: read.into() })
    }
}

fn broken(error: hyper::Error) -> ObjectError {
    if error.is_user() {
        return ObjectError::Disk(io::Error::other(error));
    }
    ObjectError::Unreachable(error.to_string())
}
