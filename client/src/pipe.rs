//! The byte pipe of one connection: a socket, and a TLS session on it if there shall be one.
//!
//! Owns: [`Pipe`], and what TLS sessions are made of ([`Tls`]).
//! Never: blocks. Answers fewer bytes than were asked for only when the socket has no more, as a
//! socket does, because an event loop waits for readiness then.
//! Bounds: rustls keeps at most its own buffers.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::SockRef;

/// What TLS sessions are made of: whom they believe, and which name they want. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// Sessions that believe the certificates in the file `trusted` (PEM), want `server`
    /// (`HOST:PORT`, or a host) to have one, and keep no tickets: each handshake is a whole one,
    /// which is what a newcomer costs the server.
    ///
    /// # Errors
    /// The file cannot be read or has no certificate; the host is no name for TLS.
    pub fn trusting(trusted: &Path, server: &str) -> io::Result<Self> {
        let about = |error: &dyn std::fmt::Display| io::Error::other(format!("{}: {error}", trusted.display()));
        let pem = std::fs::read(trusted).map_err(|error| about(&error))?;
        Self::trusting_pem(&pem, server).map_err(|error| about(&error))
    }

    /// As [`Tls::trusting`], with what such a file has.
    ///
    /// # Errors
    /// There is no certificate in it; the host is no name for TLS.
    pub fn trusting_pem(trusted: &[u8], server: &str) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(trusted) {
            let certificate = certificate.map_err(io::Error::other)?;
            roots.add(certificate).map_err(io::Error::other)?;
        }
        if roots.is_empty() {
            return Err(io::Error::other("there is no certificate in it"));
        }
        let mut config = believing(roots)?;
        config.resumption = Resumption::disabled();
        Self::new(config, server)
    }

    /// Sessions that believe the authorities of the operating system, as a browser does, and
    /// resume earlier ones.
    ///
    /// # Errors
    /// The system has none; the host is no name for TLS.
    pub fn of_the_system(server: &str) -> io::Result<Self> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            return Err(io::Error::other("the system has no certificates of authorities"));
        }
        Self::new(believing(roots)?, server)
    }

    fn new(mut config: ClientConfig, server: &str) -> io::Result<Self> {
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = server.parse::<SocketAddr>().map_or_else(
            |_| server.rsplit_once(':').map_or(server, |(name, _)| name).to_owned(),
            |address| address.ip().to_string(),
        );
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        Ok(Self { config: Arc::new(config), name })
    }

    fn begin(&self) -> io::Result<Box<ClientConnection>> {
        let session = ClientConnection::new(Arc::clone(&self.config), self.name.clone());
        session.map(Box::new).map_err(io::Error::other)
    }
}

fn believing(roots: RootCertStore) -> io::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// A socket, with or without a TLS session on it.
#[derive(Debug)]
pub struct Pipe {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl Pipe {
    /// A pipe over a socket that connects; the handshake goes with the first bytes.
    ///
    /// # Errors
    /// rustls cannot make the session.
    pub fn new(socket: TcpStream, tls: Option<&Tls>) -> io::Result<Self> {
        Ok(Self { socket, tls: tls.map(Tls::begin).transpose()? })
    }

    /// Whether the TCP connection stands.
    ///
    /// # Errors
    /// It could not be made.
    pub fn is_connected(&self) -> io::Result<bool> {
        match self.socket.take_error()? {
            Some(error) => Err(error),
            None => Ok(self.socket.peer_addr().is_ok()),
        }
    }

    /// Has the connection end by a TCP reset when the pipe goes. It leaves no port in TIME_WAIT.
    pub fn end_by_reset(&self) {
        // Whether it ends by a reset or by an ordinary end is all that is at stake.
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }
}

/// Gives the socket what the session wants to send. A full socket is no error: what is left goes
/// with the next call.
fn send(socket: &mut TcpStream, tls: &mut ClientConnection) -> io::Result<()> {
    while tls.wants_write() {
        match tls.write_tls(socket) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Self { socket, tls } = self;
        let Some(tls) = tls else { return socket.read(buffer) };
        let mut n = 0;
        // Of an error that comes behind plaintext the next read tells.
        let told = |n, otherwise| if n > 0 { Ok(n) } else { otherwise };
        while n < buffer.len() {
            match tls.reader().read(&mut buffer[n..]) {
                Ok(0) => return told(n, Ok(0)),
                Ok(more) => n += more,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return told(n, Ok(0)),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return told(n, Err(error)),
                Err(_) => match tls.read_tls(socket) {
                    Ok(0) => return told(n, Ok(0)),
                    Ok(_) => {
                        let fed = tls.process_new_packets();
                        send(socket, tls)?;
                        fed.map_err(io::Error::other)?;
                    }
                    Err(error) => return told(n, Err(error)),
                },
            }
        }
        Ok(n)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Self { socket, tls } = self;
        let Some(tls) = tls else { return socket.write(bytes) };
        send(socket, tls)?;
        let taken = tls.writer().write(bytes)?;
        send(socket, tls)?;
        // As much as rustls keeps waits for the socket.
        if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    /// Sends what a session still keeps, as far as the socket takes it.
    fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => send(&mut self.socket, tls),
            None => Ok(()),
        }
    }
}

impl Source for Pipe {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.socket.register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.socket.reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.socket.deregister(registry)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream as StdStream};
    use std::time::Duration;

    use mio::{Events, Poll};
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ServerConfig, ServerConnection, StreamOwned};

    use super::*;

    /// More than any buffer on the way holds at once.
    const BYTES: usize = 3 * 1024 * 1024;

    /// A server of another make that gives back what it gets, and the file that its clients trust.
    fn echo() -> (SocketAddr, std::path::PathBuf) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("it is a name");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("there are some")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("they fit");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let file = std::env::temp_dir().join(format!("imgate-pipe-{}-{}", std::process::id(), address.port()));
        std::fs::write(&file, made.cert.pem()).expect("a temporary file");
        std::thread::spawn(move || {
            let (socket, _) = listener.accept().expect("a client");
            let session = ServerConnection::new(Arc::new(config)).expect("it can be made");
            let mut stream = StreamOwned::new(session, socket);
            let mut all = vec![0; BYTES];
            stream.read_exact(&mut all).expect("the client's bytes");
            stream.write_all(&all).expect("the client takes them");
            stream.conn.send_close_notify();
            // The end comes with an error if the client is gone already.
            let _ = stream.conn.complete_io(&mut stream.sock);
        });
        (address, file)
    }

    /// A pipe to `address`, and what says when it can be read or written.
    fn dial(address: SocketAddr, tls: &Tls) -> (Pipe, Poll, Events) {
        let socket = StdStream::connect(address).expect("it listens");
        socket.set_nonblocking(true).expect("a socket option");
        let mut pipe = Pipe::new(TcpStream::from_std(socket), Some(tls)).expect("a session");
        let poll = Poll::new().expect("a poll");
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut pipe, Token(0), both).expect("it can be polled");
        (pipe, poll, Events::with_capacity(8))
    }

    #[test]
    fn bytes_pass_tls_whatever_the_socket_takes() {
        let (address, file) = echo();
        let tls = Tls::trusting(&file, &format!("localhost:{}", address.port())).expect("a certificate");
        std::fs::remove_file(&file).expect("it is ours");
        let (mut pipe, mut poll, mut events) = dial(address, &tls);
        let sent: Vec<u8> = (0..BYTES).map(|at| (at % 251) as u8).collect();
        let (mut done, mut heard, mut ended) = (0, Vec::new(), false);
        let mut scratch = vec![0; 64 * 1024];
        while !ended {
            poll.poll(&mut events, Some(Duration::from_secs(20))).expect("it can be polled");
            assert!(!events.is_empty(), "nothing comes: {done} sent, {} heard", heard.len());
            pipe.flush().expect("a socket");
            while done < BYTES {
                match pipe.write(&sent[done..]) {
                    Ok(n) => done += n,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
            loop {
                match pipe.read(&mut scratch) {
                    Ok(0) => {
                        ended = true;
                        break;
                    }
                    Ok(n) => heard.extend_from_slice(&scratch[..n]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        assert!(heard == sent, "{} bytes came back", heard.len());
    }

    #[test]
    fn a_certificate_that_is_not_trusted_is_refused() {
        let (address, file) = echo();
        let (_, other) = echo();
        let trusting = |file: &Path| Tls::trusting(file, &format!("localhost:{}", address.port()));
        let tls = trusting(&other).expect("a certificate");
        let missing = trusting(Path::new("/nowhere/at/all"));
        assert!(missing.is_err());
        for file in [file, other] {
            std::fs::remove_file(&file).expect("it is ours");
        }
        let (mut pipe, mut poll, mut events) = dial(address, &tls);
        let refused = loop {
            poll.poll(&mut events, Some(Duration::from_secs(20))).expect("it can be polled");
            assert!(!events.is_empty(), "nothing comes");
            let outcome = pipe.flush().and_then(|()| pipe.read(&mut [0; 16]));
            match outcome {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => break outcome,
            }
        };
        assert!(refused.is_err(), "{refused:?}");
    }
}
