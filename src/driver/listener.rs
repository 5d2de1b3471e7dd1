//! The listening sockets: one per shard and address, sharing the port.
//!
//! Owns: binding, what accepted sockets inherit, and when a listener is asked for connections: when
//! the kernel reports one, or, while many come, at a pace.
//! Never: waits. When the process is out of descriptors the listener rests for [`ACCEPT_RETRY_MS`].

use std::net::{IpAddr, SocketAddr, TcpListener as StdListener};
use std::{io, mem};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::{ACCEPT_PACE_MS, ACCEPT_RETRY_MS, LISTEN_BACKLOG};

/// What the connections of a listener begin with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// A request.
    Plain,
    /// A header of the PROXY protocol.
    Proxied,
    /// A TLS handshake.
    Tls,
}

/// One listening socket of one shard.
///
/// Every connection that the poll reports wakes the thread, and a thread that is woken for each of
/// thousands a second spends more on that than on accepting them. So while they come faster than
/// [`ACCEPT_PACE_MS`] the poll does not know of the listener, and it is asked once a pace: whoever
/// came meanwhile comes in one turn, most of them with their request. The first pace without a
/// connection gives it back to the poll.
pub(super) struct Listener {
    socket: TcpListener,
    token: Token,
    /// The kernel may have connections for us.
    pub(super) ready: bool,
    /// Whether the poll reports on it.
    polled: bool,
    /// Connections came since it was last seen to be empty.
    came: bool,
    /// Monotonic milliseconds of the last time that it was emptied of connections.
    emptied_ms: u64,
    /// Monotonic milliseconds at which it is asked again although nothing is reported.
    look_at_ms: Option<u64>,
    /// What its connections begin with.
    pub(super) kind: Kind,
}

/// What an accept gave.
pub(super) enum Accepted {
    /// A connection, and where it comes from.
    Conn(TcpStream, IpAddr),
    /// One that was gone before it was taken.
    Lost,
    /// There is none.
    Nothing,
    /// There may be one, but no descriptor for it.
    Exhausted,
}

impl Listener {
    /// Takes over a bound socket and reports its readiness under `token`.
    pub(super) fn new(socket: StdListener, registry: &Registry, token: Token, kind: Kind) -> io::Result<Self> {
        let mut socket = TcpListener::from_std(socket);
        registry.register(&mut socket, token, Interest::READABLE)?;
        Ok(Self { socket, token, ready: true, polled: true, came: false, emptied_ms: 0, look_at_ms: None, kind })
    }

    /// Accepts one connection. Nothing is set on it: what it needs, it has from the listening
    /// socket.
    pub(super) fn accept(&mut self, now_ms: u64, registry: &Registry) -> Accepted {
        match self.socket.accept() {
            Ok((stream, address)) => {
                self.came = true;
                Accepted::Conn(stream, address.ip())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.ready = false;
                self.keep_pace(now_ms, registry);
                Accepted::Nothing
            }
            Err(error) if is_exhaustion(&error) => {
                self.ready = false;
                self.look_at_ms = Some(now_ms + ACCEPT_RETRY_MS);
                Accepted::Exhausted
            }
            Err(_) => Accepted::Lost,
        }
    }

    /// It is empty: decides how it is known when it is not any more.
    fn keep_pace(&mut self, now_ms: u64, registry: &Registry) {
        let came = mem::take(&mut self.came);
        let crowd = came && (!self.polled || now_ms < self.emptied_ms + ACCEPT_PACE_MS);
        if came {
            self.emptied_ms = now_ms;
        }
        if crowd == self.polled {
            let changed = if crowd {
                registry.deregister(&mut self.socket)
            } else {
                // Reports what has come since the last look as well.
                registry.register(&mut self.socket, self.token, Interest::READABLE)
            };
            match changed {
                Ok(()) => self.polled = !crowd,
                Err(error) => tracing::warn!(%error, "the poll and a listener do not agree"),
            }
        }
        // Also when it could not be given back to the poll: it must be asked.
        self.look_at_ms = (!self.polled).then_some(now_ms + ACCEPT_PACE_MS);
    }

    /// When it wants to be asked again although the kernel says nothing new.
    pub(super) const fn look_ms(&self) -> Option<u64> {
        self.look_at_ms
    }

    /// Lets it be asked again when its rest is over.
    pub(super) fn wake(&mut self, now_ms: u64) {
        if self.look_at_ms.is_some_and(|at| at <= now_ms) {
            self.look_at_ms = None;
            self.ready = true;
        }
    }
}

/// No descriptor or no memory: the connection stays in the kernel's queue, and the edge that
/// announced it does not come again.
fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let Some(code) = error.raw_os_error() else { return false };
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].contains(&Errno::from_raw_os_error(code))
}

/// Binds `address` once for each of `shards` shards. Port 0 lets the kernel choose one port for
/// all. Connections that come get a send buffer of `send_buffer` bytes, or one of the kernel's
/// choice for 0.
///
/// # Errors
/// The address is taken (also by another gateway), not ours, or not allowed.
pub fn bind(address: SocketAddr, shards: u16, send_buffer: usize) -> io::Result<Vec<StdListener>> {
    probe(address)?;
    let first = socket(address, true, send_buffer)?;
    let resolved = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..shards {
        listeners.push(socket(resolved, true, send_buffer)?);
    }
    Ok(listeners)
}

/// Whether `address` could be bound now, by this process alone.
///
/// # Errors
/// As [`bind`].
pub fn probe(address: SocketAddr) -> io::Result<()> {
    if address.port() != 0 {
        // SO_REUSEPORT lets two gateways of one user share a port silently; without it the kernel
        // refuses the second.
        drop(socket(address, false, 0)?);
    }
    Ok(())
}

fn socket(address: SocketAddr, share: bool, send_buffer: usize) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier process that linger in TIME_WAIT do not keep us from starting.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share)?;
    if address.is_ipv6() {
        // So that 0.0.0.0 and [::] can both be given.
        socket.set_only_v6(true)?;
    }
    // What is set from here on is inherited by what is accepted, and costs nothing there. Frames
    // leave when they are written: they are coalesced by us.
    socket.set_tcp_nodelay(true)?;
    if send_buffer > 0 {
        socket.set_send_buffer_size(send_buffer)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SEND_BUFFER_MIN;

    fn listener(registry: &Registry) -> (Listener, SocketAddr) {
        let socket =
            bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1, SEND_BUFFER_MIN).expect("loopback can be bound").remove(0);
        let address = socket.local_addr().expect("a bound socket has an address");
        (Listener::new(socket, registry, Token(7), Kind::Plain).expect("a poll takes a listener"), address)
    }

    /// Accepts all there are, and what came.
    fn empty(listener: &mut Listener, now_ms: u64, registry: &Registry) -> usize {
        let mut came = 0;
        loop {
            match listener.accept(now_ms, registry) {
                Accepted::Conn(..) => came += 1,
                Accepted::Nothing => return came,
                Accepted::Lost | Accepted::Exhausted => panic!("loopback loses nothing, and there are descriptors"),
            }
        }
    }

    #[test]
    fn the_poll_reports_who_comes_alone_and_a_crowd_is_looked_for() {
        let mut poll = mio::Poll::new().expect("a poll");
        let mut events = mio::Events::with_capacity(8);
        let (mut listener, address) = listener(poll.registry());
        let come = || std::net::TcpStream::connect(address).expect("a place in the line");
        let mut reported = |poll: &mut mio::Poll, wait_ms| {
            poll.poll(&mut events, Some(std::time::Duration::from_millis(wait_ms))).expect("a poll that works");
            events.iter().any(|event| event.token() == Token(7))
        };

        let first = come();
        assert!(reported(&mut poll, 10_000));
        assert_eq!(empty(&mut listener, 1_000, poll.registry()), 1);
        assert_eq!(listener.look_ms(), None, "the first one begins no crowd");

        let second = come();
        assert!(reported(&mut poll, 10_000));
        assert_eq!(empty(&mut listener, 1_001, poll.registry()), 1);
        assert_eq!(listener.look_ms(), Some(1_001 + ACCEPT_PACE_MS), "two in one pace do");

        let crowd = [come(), come(), come()];
        assert!(!reported(&mut poll, 0), "the thread is not woken for them");
        listener.wake(1_000 + ACCEPT_PACE_MS);
        assert!(!listener.ready, "not before the pace is over");
        listener.wake(1_001 + ACCEPT_PACE_MS);
        assert!(listener.ready);
        assert_eq!(empty(&mut listener, 1_010, poll.registry()), 3);
        assert_eq!(listener.look_ms(), Some(1_010 + ACCEPT_PACE_MS), "the crowd goes on");

        // None came: it is the poll's again, which also tells of those that come at that very
        // moment.
        let late = come();
        assert_eq!(empty(&mut listener, 1_020, poll.registry()), 1);
        assert_eq!(empty(&mut listener, 1_030, poll.registry()), 0);
        assert_eq!(listener.look_ms(), None);
        let alone = come();
        assert!(reported(&mut poll, 10_000));
        assert_eq!(empty(&mut listener, 1_040, poll.registry()), 1);
        assert_eq!(listener.look_ms(), None);
        drop((first, second, crowd, late, alone));
    }

    #[test]
    fn what_is_accepted_has_its_options_from_the_listener() {
        let poll = mio::Poll::new().expect("a poll");
        let (mut listener, address) = listener(poll.registry());
        let _peer = std::net::TcpStream::connect(address).expect("a place in the line");
        let Accepted::Conn(stream, _) = listener.accept(0, poll.registry()) else {
            panic!("a connection that was made is there")
        };
        assert!(stream.nodelay().expect("an option that can be read"));
        // The kernel doubles what it is told, for its own records.
        let buffer = socket2::SockRef::from(&stream).send_buffer_size().expect("an option that can be read");
        assert_eq!(buffer, 2 * SEND_BUFFER_MIN);
    }

    #[test]
    fn all_shards_share_one_port_and_a_second_gateway_is_refused() {
        let listeners = bind(SocketAddr::from(([127, 0, 0, 1], 0)), 3, 0).expect("loopback can be bound");
        let addresses: Vec<_> =
            listeners.iter().map(|l| l.local_addr().expect("a bound socket has an address")).collect();
        assert_eq!(addresses.len(), 3);
        assert!(addresses.iter().all(|&address| address == addresses[0] && address.port() != 0));
        let error = bind(addresses[0], 2, 0).expect_err("the port is taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
