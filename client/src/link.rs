//! One WebSocket connection by tungstenite, which shares no code with the gateway, on a
//! non-blocking socket.
//!
//! Owns: [`Link`]: dialling, the handshake, reading and writing, and which errors are the network's
//! and which the server's fault.
//! Bounds: a message from the server by [`MESSAGE_BYTES_MAX`], what waits to be written by
//! [`OUT_BYTES_MAX`].

use std::io;
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};
use tungstenite::client::IntoClientRequest;
use tungstenite::error::ProtocolError;
use tungstenite::handshake::client::ClientHandshake;
use tungstenite::handshake::{HandshakeError, MidHandshake};
use tungstenite::http::HeaderValue;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, Message, WebSocket};

use crate::limits::{MESSAGE_BYTES_MAX, OUT_BYTES_MAX, READ_BYTES};
use crate::pipe::{Pipe, Tls};

/// Segments of a narrow connection: what every network carries (RFC 9293, section 3.7.1).
const NARROW_SEGMENT_BYTES: u32 = 536;

/// What is asked for in the upgrade.
#[derive(Clone, Debug)]
pub struct Upgrade {
    /// Host and port, as the `Host` header names them.
    pub host: String,
    /// Path and query, such as `/chat?device=phone`.
    pub path: String,
    /// A token for the `Authorization` header, if it is not in the path: it keeps it out of logs.
    pub bearer: Option<String>,
}

/// A connection on its way or standing, of the profile `imgate.v2`.
pub struct Link(Stage);

enum Stage {
    Dialling(Pipe),
    Shaking(Box<MidHandshake<ClientHandshake<Pipe>>>),
    Open(Box<WebSocket<Pipe>>),
}

/// Why a connection is over.
#[derive(Debug)]
pub enum Broken {
    /// It went, as connections do.
    Gone,
    /// The server (or what is in its place) did not upgrade: it is starting, stopping or full.
    Refused,
    /// The server broke RFC 6455.
    Fault(String),
}

/// What one attempt to read gave.
#[derive(Debug)]
pub enum Got {
    /// A text frame.
    Text(String),
    /// A close frame.
    Close {
        /// `None`: there was none.
        code: Option<u16>,
        /// Possibly empty.
        reason: String,
    },
    /// Something that does not matter here.
    Other,
    /// Nothing now.
    Nothing,
}

impl Link {
    /// Starts to connect, over TLS if there is one. `narrow_bytes`: the small receive buffer of a
    /// reader that stalls.
    ///
    /// # Errors
    /// The operating system gives no socket, or refuses the address.
    pub fn dial(
        address: SocketAddr,
        tls: Option<&Tls>,
        narrow_bytes: Option<usize>,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        if let Some(bytes) = narrow_bytes {
            narrow(&socket, bytes)?;
        }
        match socket.connect(&address.into()) {
            Ok(()) => {}
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            Err(e) => return Err(e),
        }
        let mut stream = Pipe::new(TcpStream::from_std(socket.into()), tls)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self(Stage::Dialling(stream)))
    }

    /// Whether the upgrade is done.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.0, Stage::Open(_))
    }

    /// Goes on with connecting and upgrading, as far as it can.
    ///
    /// # Errors
    /// The connection is over.
    pub fn advance(self, upgrade: &Upgrade) -> Result<Self, Broken> {
        let outcome = match self.0 {
            Stage::Dialling(stream) => {
                if !stream.is_connected().map_err(|_| Broken::Gone)? {
                    return Ok(Self(Stage::Dialling(stream)));
                }
                let uri = format!("ws://{}{}", upgrade.host, upgrade.path);
                let mut request = uri.into_client_request().map_err(|_| Broken::Refused)?;
                let headers = request.headers_mut();
                headers.insert("Sec-WebSocket-Protocol", HeaderValue::from_static("imgate.v2"));
                if let Some(token) = &upgrade.bearer {
                    let value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| Broken::Refused)?;
                    headers.insert("Authorization", value);
                }
                let config = WebSocketConfig::default()
                    .read_buffer_size(READ_BYTES)
                    .write_buffer_size(0)
                    .max_write_buffer_size(OUT_BYTES_MAX)
                    .max_message_size(Some(MESSAGE_BYTES_MAX))
                    .max_frame_size(Some(MESSAGE_BYTES_MAX));
                let mid = ClientHandshake::start(stream, request, Some(config)).map_err(|_| Broken::Refused)?;
                mid.handshake()
            }
            Stage::Shaking(mid) => mid.handshake(),
            open @ Stage::Open(_) => return Ok(Self(open)),
        };
        match outcome {
            Ok((socket, _)) => Ok(Self(Stage::Open(Box::new(socket)))),
            Err(HandshakeError::Interrupted(mid)) => Ok(Self(Stage::Shaking(Box::new(mid)))),
            Err(HandshakeError::Failure(Error::Http(_))) => Err(Broken::Refused),
            Err(HandshakeError::Failure(error)) => Err(classify(&error)),
        }
    }

    /// Reads one message.
    ///
    /// # Errors
    /// The connection is over.
    pub fn read(&mut self) -> Result<Got, Broken> {
        let Stage::Open(socket) = &mut self.0 else { return Ok(Got::Nothing) };
        match socket.read() {
            Ok(Message::Text(text)) => Ok(Got::Text(text.as_str().to_owned())),
            Ok(Message::Close(frame)) => {
                let reason = frame.as_ref().map(|frame| frame.reason.as_str().to_owned()).unwrap_or_default();
                Ok(Got::Close { code: frame.map(|frame| frame.code.into()), reason })
            }
            Ok(Message::Binary(_)) => Err(Broken::Fault("a binary frame, which the protocol never sends".to_owned())),
            Ok(_) => Ok(Got::Other),
            Err(error) if would_block(&error) => Ok(Got::Nothing),
            Err(error) => Err(classify(&error)),
        }
    }

    /// Queues a text and writes what the kernel takes. False: too much is waiting already.
    ///
    /// # Errors
    /// The connection is over.
    pub fn send(&mut self, text: String) -> Result<bool, Broken> {
        let Stage::Open(socket) = &mut self.0 else { return Ok(false) };
        match socket.send(Message::text(text)) {
            Ok(()) => Ok(true),
            Err(error) if would_block(&error) => Ok(true),
            Err(Error::WriteBufferFull(_)) => Ok(false),
            Err(error) => Err(classify(&error)),
        }
    }

    /// Writes what is waiting, pongs included.
    ///
    /// # Errors
    /// The connection is over.
    pub fn flush(&mut self) -> Result<(), Broken> {
        let Stage::Open(socket) = &mut self.0 else { return Ok(()) };
        match socket.flush() {
            Ok(()) => Ok(()),
            Err(error) if would_block(&error) => Ok(()),
            Err(error) => Err(classify(&error)),
        }
    }

    /// Sends our close frame.
    ///
    /// # Errors
    /// The connection is over.
    pub fn close(&mut self) -> Result<(), Broken> {
        let Stage::Open(socket) = &mut self.0 else { return Ok(()) };
        match socket.close(None) {
            Ok(()) => Ok(()),
            Err(error) if would_block(&error) => Ok(()),
            Err(error) => Err(classify(&error)),
        }
    }

    /// Ends it by a TCP reset, without a close frame.
    pub fn reset(self) {
        if let Stage::Open(socket) = self.0 {
            socket.get_ref().end_by_reset();
        }
    }
}

/// Makes a reader's way narrow, so that the server feels soon that it does not read. To be called
/// before the connection: a window is never announced larger again, and small segments keep the
/// server's send buffer small, which on loopback would otherwise take megabytes.
///
/// # Errors
/// The operating system refuses it.
pub fn narrow(socket: &Socket, receive_bytes: usize) -> io::Result<()> {
    socket.set_recv_buffer_size(receive_bytes)?;
    socket.set_tcp_mss(NARROW_SEGMENT_BYTES)
}

fn would_block(error: &Error) -> bool {
    matches!(error, Error::Io(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted))
}

fn classify(error: &Error) -> Broken {
    match error {
        Error::Io(_)
        | Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Protocol(
            ProtocolError::ResetWithoutClosingHandshake
            | ProtocolError::HandshakeIncomplete
            | ProtocolError::SendAfterClosing
            | ProtocolError::ReceivedAfterClosing,
        ) => Broken::Gone,
        other => Broken::Fault(other.to_string()),
    }
}
