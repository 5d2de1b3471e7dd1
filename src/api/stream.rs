//! The byte stream of an HTTP connection: a socket, and the TLS session on it if there is one.
//!
//! Owns: the buffers of a TLS session while bytes move, and what was opened and not taken yet.
//! Never: keeps a buffer between two requests ([`Stream::rest`]). Encrypts and decrypts on the
//! thread that asks, so that a large download burdens no shard. Bounds:
//! [`limits::HTTP_TLS_READ_BYTES`] of ciphertext at once, [`limits::WRITE_SCRATCH_BYTES`] of
//! plaintext; of a record that the socket took a part of, the rest.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use imgate_tls::limits::RECORD_WIRE_BYTES_MAX;
use imgate_tls::{End, KeyLife, Outgoing, Session};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::clock::Clock;
use crate::limits;
use crate::mesh::Wire;

/// See the module.
pub(super) struct Stream {
    socket: TcpStream,
    tls: Option<Box<Secure>>,
}

/// A TLS session, and what it needs while bytes move.
struct Secure {
    session: Session,
    clock: Clock,
    /// Plaintext that was opened and not taken.
    opened: Vec<u8>,
    /// The peer has ended its side.
    ended: bool,
    input: Vec<u8>,
    out: Option<Outgoing>,
}

impl From<TcpStream> for Stream {
    fn from(socket: TcpStream) -> Self {
        Self { socket, tls: None }
    }
}

impl Stream {
    /// The stream on what a gate hands over.
    ///
    /// # Errors
    /// The socket does not become tokio's.
    pub(super) fn new(wire: Wire) -> io::Result<Self> {
        wire.socket.set_nonblocking(true)?;
        let socket = TcpStream::from_std(wire.socket)?;
        let secure = |session: Session| {
            let (clock, opened, input) = (Clock::start(), Vec::new(), Vec::new());
            // It may have said so behind its request.
            let ended = session.has_ended();
            Box::new(Secure { session, clock, opened, ended, input, out: None })
        };
        Ok(Self { socket, tls: wire.tls.map(secure) })
    }

    /// The same for a gate, and what was read and belongs in front of what the gate will read.
    ///
    /// # Errors
    /// The socket does not leave tokio.
    pub(super) fn into_wire(self) -> io::Result<(Wire, Vec<u8>)> {
        let socket = self.socket.into_std()?;
        Ok(match self.tls {
            Some(secure) => (Wire { socket, tls: Some(secure.session) }, secure.opened),
            None => (Wire { socket, tls: None }, Vec::new()),
        })
    }

    /// Whether bytes are sealed on their way.
    pub(super) const fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The socket, for its options.
    pub(super) const fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// No bytes move for a while.
    pub(super) fn rest(&mut self) {
        if let Some(secure) = &mut self.tls {
            (secure.input, secure.out) = (Vec::new(), None);
            secure.opened.shrink_to_fit();
        }
    }

    /// Plaintext that was opened and not taken.
    #[cfg(test)]
    pub(super) fn opened(&self) -> &[u8] {
        self.tls.as_ref().map_or(&[], |secure| &secure.opened)
    }

    /// Waits until there is something to read. `false`: the peer has finished. Over TLS a record
    /// that says nothing, such as a key update, is not something; the beginning of one is.
    pub(super) async fn has_more(&mut self) -> bool {
        let mut byte = [0];
        let Some(secure) = &mut self.tls else {
            // Not `readable`, which may say so of a socket that has nothing.
            return matches!(self.socket.peek(&mut byte).await, Ok(1..));
        };
        let mut quiet = 0;
        while !secure.ended && secure.opened.is_empty() && !secure.session.is_amid_record() {
            let has_come = matches!(self.socket.peek(&mut byte).await, Ok(1..));
            quiet += 1;
            if !has_come || quiet > limits::HTTP_QUIET_READS_MAX || secure.read(&self.socket).is_err() {
                return false;
            }
            secure.input = Vec::new();
        }
        !secure.opened.is_empty() || !secure.ended
    }

    /// Sends a few bytes if the socket takes them at once; nobody waits for them.
    pub(super) fn tell(&mut self, text: &[u8]) {
        let socket = socket2::SockRef::from(&self.socket);
        // Not through tokio, which knows of a fresh socket only after a while that it can be
        // written to.
        let Some(secure) = &mut self.tls else { return drop(socket.send(text)) };
        let (session, out) = secure.out();
        // What was kept leaves first, perhaps alone.
        for last_word in [&[][..], text, &[]] {
            let sealed = session.seal(last_word, out);
            let sent = socket.send(sealed.bytes()).unwrap_or(0);
            if sealed.sent(sent) > 0 {
                session.close();
            }
        }
    }
}

impl Stream {
    /// Ends our side if the socket takes that at once; it is not waited for. Over TLS it is a
    /// close_notify: without one the peer cannot tell an end from a cut (RFC 8446, section 6.1).
    pub(super) fn end(&mut self) {
        let Some(secure) = &mut self.tls else { return };
        let socket = socket2::SockRef::from(&self.socket);
        let (session, out) = secure.out();
        session.close();
        let sealed = session.seal(&[], out);
        let sent = socket.send(sealed.bytes()).unwrap_or(0);
        sealed.sent(sent);
    }
}

impl Secure {
    fn out(&mut self) -> (&mut Session, &mut Outgoing) {
        let out = self.out.get_or_insert_with(|| Outgoing::new(limits::WRITE_SCRATCH_BYTES, KeyLife::default()));
        (&mut self.session, out)
    }

    /// Takes what was opened.
    fn take(&mut self, into: &mut ReadBuf<'_>) {
        let n = self.opened.len().min(into.remaining());
        into.put_slice(&self.opened[..n]);
        self.opened.drain(..n);
    }

    /// Reads once and opens what came.
    fn read(&mut self, socket: &TcpStream) -> io::Result<()> {
        const ROOM: usize = RECORD_WIRE_BYTES_MAX;
        self.input.resize(ROOM + limits::HTTP_TLS_READ_BYTES, 0);
        let read = socket.try_read(&mut self.input[ROOM..])?;
        if read == 0 {
            // As on a bare socket. What was said in HTTP has its own length.
            self.ended = true;
            return Ok(());
        }
        let minute = self.clock.now().mono_ms / 60_000;
        let opened = self.session.open(&mut self.input, ROOM..ROOM + read, minute);
        self.opened.extend_from_slice(&self.input[opened.plain]);
        self.ended = opened.end.is_some();
        match opened.end {
            None | Some(End::Closed) => Ok(()),
            Some(End::Alert(_) | End::Refused(_)) => {
                // It deserves an alert, and not that anybody waits for it to take one.
                let (session, out) = self.out();
                let sealed = session.seal(&[], out);
                let sent = socket.try_write(sealed.bytes()).unwrap_or(0);
                sealed.sent(sent);
                Err(io::ErrorKind::InvalidData.into())
            }
        }
    }

    /// Seals and sends once. Answers how much of `bytes` is done with: that is not to be sealed
    /// again.
    fn write(&mut self, socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
        let (session, out) = self.out();
        let sealed = session.seal(bytes, out);
        if sealed.refused().is_some() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        match socket.try_write(sealed.bytes()) {
            Ok(sent) => Ok(sealed.sent(sent)),
            // What was sealed may be kept, and leave later.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(sealed.sent(0)),
            Err(error) => Err(error),
        }
    }

    fn poll_flush(&mut self, socket: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            ready!(socket.poll_write_ready(cx))?;
            self.write(socket, &[])?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { socket, tls } = &mut *self;
        let Some(secure) = tls else { return Pin::new(socket).poll_read(cx, into) };
        loop {
            if !secure.opened.is_empty() || secure.ended {
                secure.take(into);
                return Poll::Ready(Ok(()));
            }
            ready!(socket.poll_read_ready(cx))?;
            match secure.read(socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => {
                    outcome?;
                    if secure.opened.is_empty() && !secure.ended {
                        // Records that say nothing: others have their turn between any two reads.
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { socket, tls } = &mut *self;
        let Some(secure) = tls else { return Pin::new(socket).poll_write(cx, bytes) };
        let bytes = bytes.get(..limits::WRITE_SCRATCH_BYTES).unwrap_or(bytes);
        // What is kept leaves first, so that nothing is sealed for a socket that does not even take
        // that.
        ready!(secure.poll_flush(socket, cx))?;
        loop {
            ready!(socket.poll_write_ready(cx))?;
            let taken = secure.write(socket, bytes)?;
            if taken > 0 || bytes.is_empty() {
                return Poll::Ready(Ok(taken));
            }
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.tls.is_none() {
            return Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        }
        let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| &**slice);
        self.poll_write(cx, first)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_none()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, tls } = &mut *self;
        match tls {
            Some(secure) => secure.poll_flush(socket, cx),
            None => Pin::new(socket).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, tls } = &mut *self;
        if let Some(secure) = tls {
            secure.session.close();
            ready!(secure.poll_flush(socket, cx))?;
        }
        Pin::new(socket).poll_shutdown(cx)
    }
}
