//! The byte pipe of one connection: a socket, and a TLS session on it if the run wants TLS.
//!
//! Owns: [`Pipe`], and what all of a run's sessions are made of ([`Tls`]).
//! Never: blocks. Answers fewer bytes than were asked for only when the socket has no more, as a
//! socket does, because the engine waits for readiness then.
//! Bounds: rustls keeps at most its own buffers.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// What the TLS sessions of a run are made of.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// Clients that believe the certificates in `trusted` (PEM) and want `host` (`HOST:PORT`) to
    /// have one. No tickets: every handshake is a whole one, so that it costs the server what a
    /// newcomer costs.
    pub(crate) fn trusting(trusted: &Path, host: &str) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_file_iter(trusted);
        for certificate in certificates.with_context(|| format!("cannot read {}", trusted.display()))? {
            let certificate = certificate.with_context(|| format!("{} is no PEM", trusted.display()))?;
            roots.add(certificate).with_context(|| format!("a certificate in {}", trusted.display()))?;
        }
        ensure!(!roots.is_empty(), "{} has no certificate", trusted.display());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = host.parse::<SocketAddr>().map_or_else(
            |_| host.rsplit_once(':').map_or(host, |(name, _)| name).to_owned(),
            |address| address.ip().to_string(),
        );
        let name = ServerName::try_from(name).context("the target's host is no name for TLS")?;
        Ok(Self { config: Arc::new(config), name })
    }

    fn begin(&self) -> io::Result<Box<ClientConnection>> {
        let session = ClientConnection::new(Arc::clone(&self.config), self.name.clone());
        session.map(Box::new).map_err(io::Error::other)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Pipe {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
}

impl Pipe {
    pub(crate) fn new(socket: TcpStream, tls: Option<&Tls>) -> io::Result<Self> {
        Ok(Self { socket, tls: tls.map(Tls::begin).transpose()? })
    }

    /// Whether the TCP connection stands.
    pub(crate) fn is_connected(&self) -> io::Result<bool> {
        match self.socket.take_error()? {
            Some(error) => Err(error),
            None => Ok(self.socket.peer_addr().is_ok()),
        }
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
        let file = std::env::temp_dir().join(format!("autoclient-pipe-{}-{}", std::process::id(), address.port()));
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
