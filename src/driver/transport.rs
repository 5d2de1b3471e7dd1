//! The byte pipe under a connection. What it carries may be sealed: that is [`super::tls`]'s.
//!
//! Owns: the socket, and how its errors are read: [`Took`] and [`Got`] have no error that a caller
//! could forget to sort.
//! Never: buffers. What a socket does not take stays with the session.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream as StdStream};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{SockRef, TcpKeepalive};

use crate::caller::Peer;
use crate::limits::{KEEPALIVE_INTERVAL_S, KEEPALIVE_RETRIES, KEEPALIVE_TIME_S, UNREAD_LOOK_BYTES, UNREAD_LOOKS_MAX};

/// A connection's pipe.
#[derive(Debug)]
pub enum Transport {
    /// TCP.
    Plain(TcpStream),
}

/// What became of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Took {
    /// The socket took all of it.
    All,
    /// So many bytes, and no more before it becomes writable again.
    Part(usize),
    /// The connection is broken.
    Broken,
}

/// What became of a read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Got {
    /// Something has come.
    Bytes {
        /// How many bytes of it are for the reader. None: it was sealed, and says nothing yet.
        n: usize,
        /// What came on the wire.
        wire: usize,
        /// Bytes around what was sealed: records cost as much when little is in them.
        wrapping: usize,
        /// There was no more when they were read.
        drained: bool,
    },
    /// Nothing is there now.
    Nothing,
    /// The peer has finished sending.
    End,
    /// The connection is broken.
    Broken,
}

impl Transport {
    /// The other end as the kernel names it; `None` when the connection is gone.
    pub(super) fn peer(&self) -> Option<Peer> {
        match self {
            Self::Plain(stream) => stream.peer_addr().ok().map(|address| Peer::plain(address.ip())),
        }
    }

    /// Starts to report readiness under `token`, edge-triggered, for reading only: a new socket is
    /// writable, and that report alone would wake the thread once for each.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Self::Plain(stream) => registry.register(stream, token, Interest::READABLE),
        }
    }

    /// From now on room for writing is reported too, also if there is some already. For the few
    /// that were full once; it costs as much as three polls.
    pub(super) fn report_room(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match self {
            Self::Plain(stream) => registry.reregister(stream, token, Interest::READABLE | Interest::WRITABLE),
        }
    }

    /// Stops to report readiness, before the transport moves to another thread.
    pub(super) fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Self::Plain(stream) => registry.deregister(stream),
        }
    }

    /// Whether the peer has finished sending, or the connection is lost, whatever is still to be
    /// read. One system call.
    pub(super) fn has_ended(&self) -> bool {
        let Self::Plain(stream) = self;
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        // What cannot be asked is read later, and ends then.
        poll(&mut [PollFd::new(stream, PollFlags::RDHUP)], Some(&at_once)).is_ok_and(|ended| ended > 0)
    }

    /// Reads once.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Got {
        let Self::Plain(stream) = self;
        loop {
            return match stream.read(buffer) {
                Ok(0) => Got::End,
                Ok(n) => Got::Bytes { n, wire: n, wrapping: 0, drained: n < buffer.len() },
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Got::Nothing,
                Err(_) => Got::Broken,
            };
        }
    }

    /// Reads what has come and is not wanted any more, before the end: the kernel answers bytes
    /// that nothing has read with a reset, which takes along what was said last. Answers how many
    /// bytes the first read has put into `buffer`, which keeps them; the others are forgotten.
    pub(super) fn empty(&mut self, buffer: &mut [u8]) -> usize {
        let Got::Bytes { n: said, drained, .. } = self.read(buffer) else { return 0 };
        if !drained {
            let mut forgotten = [0; UNREAD_LOOK_BYTES];
            let is_more = |_: &usize| matches!(self.read(&mut forgotten), Got::Bytes { drained: false, .. });
            (1..UNREAD_LOOKS_MAX).take_while(is_more).for_each(drop);
        }
        said
    }

    /// Writes once. A stream socket that takes less than it was given is full, and says when it is
    /// not any more: no second call is needed to learn that.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Took {
        let Self::Plain(stream) = self;
        loop {
            return match stream.write(bytes) {
                Ok(n) if n == bytes.len() => Took::All,
                Ok(n) => Took::Part(n),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Took::Part(0),
                Err(_) => Took::Broken,
            };
        }
    }

    /// Tells the peer that nothing more comes. The socket stays open for reading, so that the
    /// kernel does not answer late bytes with a reset, which would take the last frame from the
    /// peer's hands.
    pub(super) fn finish(&mut self) {
        match self {
            // Fails only when the connection is gone already.
            Self::Plain(stream) => drop(stream.shutdown(Shutdown::Write)),
        }
    }

    /// Has the kernel ask now and then whether the peer is still there: for connections to which we
    /// send no pings.
    pub(super) fn keep_alive(&mut self) {
        let Self::Plain(stream) = self;
        let probes = TcpKeepalive::new()
            .with_time(Duration::from_secs(KEEPALIVE_TIME_S))
            .with_interval(Duration::from_secs(KEEPALIVE_INTERVAL_S))
            .with_retries(KEEPALIVE_RETRIES);
        if let Err(error) = SockRef::from(&*stream).set_tcp_keepalive(&probes) {
            tracing::debug!(%error, "a socket has no keepalive");
        }
    }

    /// The bare non-blocking socket, for the control plane.
    pub(super) fn into_socket(self) -> StdStream {
        match self {
            Self::Plain(stream) => StdStream::from(stream),
        }
    }

    /// A pipe on a non-blocking socket that came back from the control plane.
    pub(super) fn from_socket(socket: StdStream) -> Self {
        Self::Plain(TcpStream::from_std(socket))
    }
}
