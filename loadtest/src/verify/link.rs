//! One WebSocket connection by tungstenite, a stranger to the gateway's codec and to ours, on a non-blocking socket.
//!
//! Owns: [`Link`]: dialling, the handshake, reading and writing, and which errors are the network's and which the server's fault.
//! Bounds: a message from the server by [`MESSAGE_BYTES_MAX`], what waits to be written by [`OUT_BYTES_MAX`].

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tungstenite::client::IntoClientRequest;
use tungstenite::error::ProtocolError;
use tungstenite::handshake::client::ClientHandshake;
use tungstenite::handshake::{HandshakeError, MidHandshake};
use tungstenite::http::HeaderValue;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, Message, WebSocket};

use crate::limits::{MESSAGE_BYTES_MAX, OUT_BYTES_MAX};

/// What tungstenite reads at once: small, because there are many connections.
const READ_BYTES: usize = 8 * 1024;

/// Segments of a narrow connection: what every network carries (RFC 9293, section 3.7.1).
const NARROW_SEGMENT_BYTES: u32 = 536;

/// A connection on its way or standing.
pub(crate) enum Link {
    Dialling(TcpStream),
    Shaking(Box<MidHandshake<ClientHandshake<TcpStream>>>),
    Open(Box<WebSocket<TcpStream>>),
}

/// Why a connection is over.
#[derive(Debug)]
pub(crate) enum Broken {
    /// It went, as connections do.
    Gone,
    /// The server (or what is in its place) did not upgrade: it is starting, stopping or full.
    Refused,
    /// The server broke RFC 6455.
    Fault(String),
}

/// What one attempt to read gave.
#[derive(Debug)]
pub(crate) enum Got {
    Text(String),
    /// A close frame; `None`: without a code.
    Close(Option<u16>),
    /// Something that does not matter here.
    Other,
    /// Nothing now.
    Nothing,
}

impl Link {
    /// Starts to connect. `narrow_bytes`: the small receive buffer of a reader that stalls.
    pub(crate) fn dial(
        address: SocketAddr,
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
        let mut stream = TcpStream::from_std(socket.into());
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self::Dialling(stream))
    }

    /// Goes on with connecting and upgrading, as far as it can.
    pub(crate) fn advance(self, host: &str, path: &str) -> Result<Self, Broken> {
        let outcome = match self {
            Self::Dialling(stream) => {
                if stream.take_error().ok().flatten().is_some() {
                    return Err(Broken::Gone);
                }
                if stream.peer_addr().is_err() {
                    return Ok(Self::Dialling(stream));
                }
                let mut request = format!("ws://{host}{path}").into_client_request().map_err(|_| Broken::Refused)?;
                request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("imgate.v2"));
                let config = WebSocketConfig::default()
                    .read_buffer_size(READ_BYTES)
                    .write_buffer_size(0)
                    .max_write_buffer_size(OUT_BYTES_MAX)
                    .max_message_size(Some(MESSAGE_BYTES_MAX))
                    .max_frame_size(Some(MESSAGE_BYTES_MAX));
                let mid = ClientHandshake::start(stream, request, Some(config)).map_err(|_| Broken::Refused)?;
                mid.handshake()
            }
            Self::Shaking(mid) => mid.handshake(),
            open @ Self::Open(_) => return Ok(open),
        };
        match outcome {
            Ok((socket, _)) => Ok(Self::Open(Box::new(socket))),
            Err(HandshakeError::Interrupted(mid)) => Ok(Self::Shaking(Box::new(mid))),
            Err(HandshakeError::Failure(Error::Http(_))) => Err(Broken::Refused),
            Err(HandshakeError::Failure(error)) => Err(classify(&error)),
        }
    }

    /// Reads one message.
    pub(crate) fn read(&mut self) -> Result<Got, Broken> {
        let Self::Open(socket) = self else { return Ok(Got::Nothing) };
        match socket.read() {
            Ok(Message::Text(text)) => Ok(Got::Text(text.as_str().to_owned())),
            Ok(Message::Close(frame)) => Ok(Got::Close(frame.map(|frame| frame.code.into()))),
            Ok(Message::Binary(_)) => Err(Broken::Fault("a binary frame, which the protocol never sends".to_owned())),
            Ok(_) => Ok(Got::Other),
            Err(error) if would_block(&error) => Ok(Got::Nothing),
            Err(error) => Err(classify(&error)),
        }
    }

    /// Queues a text and writes what the kernel takes. False: too much is waiting already.
    pub(crate) fn send(&mut self, text: String) -> Result<bool, Broken> {
        let Self::Open(socket) = self else { return Ok(false) };
        match socket.send(Message::text(text)) {
            Ok(()) => Ok(true),
            Err(error) if would_block(&error) => Ok(true),
            Err(Error::WriteBufferFull(_)) => Ok(false),
            Err(error) => Err(classify(&error)),
        }
    }

    /// Writes what is waiting, pongs included.
    pub(crate) fn flush(&mut self) -> Result<(), Broken> {
        let Self::Open(socket) = self else { return Ok(()) };
        match socket.flush() {
            Ok(()) => Ok(()),
            Err(error) if would_block(&error) => Ok(()),
            Err(error) => Err(classify(&error)),
        }
    }

    /// Sends our close frame.
    pub(crate) fn close(&mut self) -> Result<(), Broken> {
        let Self::Open(socket) = self else { return Ok(()) };
        match socket.close(None) {
            Ok(()) => Ok(()),
            Err(error) if would_block(&error) => Ok(()),
            Err(error) => Err(classify(&error)),
        }
    }

    /// Ends it by a TCP reset, without a close frame.
    pub(crate) fn reset(self) {
        if let Self::Open(socket) = self {
            // Whether it ends by a reset or by an ordinary end is all that is at stake.
            let _ = SockRef::from(socket.get_ref()).set_linger(Some(Duration::ZERO));
        }
    }
}

/// Makes a reader's way narrow, so that the server feels soon that nobody reads. Before the connection: a window is never announced larger again,
/// and small segments keep the server's send buffer small, which on loopback would otherwise take megabytes.
pub(crate) fn narrow(socket: &Socket, receive_bytes: usize) -> io::Result<()> {
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
