//! The listening sockets: one per shard and address, sharing the port.
//!
//! Owns: binding, and whether a listener has (or may have) connections to give.
//! Never: waits. When the process is out of descriptors the listener rests for [`ACCEPT_RETRY_MS`].

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};

use mio::net::TcpListener;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

use super::transport::Transport;
use crate::limits::{ACCEPT_RETRY_MS, LISTEN_BACKLOG};

/// One listening socket of one shard.
pub(super) struct Listener {
    socket: TcpListener,
    /// The kernel may have connections for us.
    pub(super) ready: bool,
    /// Monotonic milliseconds before which it is not asked again.
    retry_at_ms: Option<u64>,
}

/// What an accept gave.
pub(super) enum Accepted {
    /// A connection.
    Conn(Transport),
    /// One that was gone before it was taken.
    Lost,
    /// There is none.
    Nothing,
    /// There may be one, but no descriptor for it.
    Exhausted,
}

impl Listener {
    /// Takes over a bound socket and reports its readiness under `token`.
    pub(super) fn new(socket: StdListener, registry: &Registry, token: Token) -> io::Result<Self> {
        let mut socket = TcpListener::from_std(socket);
        registry.register(&mut socket, token, Interest::READABLE)?;
        Ok(Self { socket, ready: true, retry_at_ms: None })
    }

    /// Accepts one connection.
    pub(super) fn accept(&mut self, now_ms: u64) -> Accepted {
        match self.socket.accept() {
            Ok((stream, _)) => {
                // Frames leave when they are written: they are coalesced by us. Fails only on a socket that is gone already.
                let _ = stream.set_nodelay(true);
                Accepted::Conn(Transport::Plain(stream))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.ready = false;
                Accepted::Nothing
            }
            Err(error) if is_exhaustion(&error) => {
                self.ready = false;
                self.retry_at_ms = Some(now_ms + ACCEPT_RETRY_MS);
                Accepted::Exhausted
            }
            Err(_) => Accepted::Lost,
        }
    }

    /// When it wants to be asked again although the kernel says nothing new.
    pub(super) const fn retry_ms(&self) -> Option<u64> {
        self.retry_at_ms
    }

    /// Lets it try again when its rest is over.
    pub(super) fn wake(&mut self, now_ms: u64) {
        if self.retry_at_ms.is_some_and(|at| at <= now_ms) {
            self.retry_at_ms = None;
            self.ready = true;
        }
    }
}

/// No descriptor or no memory: the connection stays in the kernel's queue, and the edge that announced it does not come again.
fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let Some(code) = error.raw_os_error() else { return false };
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].contains(&Errno::from_raw_os_error(code))
}

/// Binds `address` once for each of `shards` shards. Port 0 lets the kernel choose one port for all.
///
/// # Errors
/// The address is taken (also by another gateway), not ours, or not allowed.
pub fn bind(address: SocketAddr, shards: u16) -> io::Result<Vec<StdListener>> {
    probe(address)?;
    let first = socket(address, true)?;
    let resolved = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..shards {
        listeners.push(socket(resolved, true)?);
    }
    Ok(listeners)
}

/// Whether `address` could be bound now, by nobody else and by us.
///
/// # Errors
/// As [`bind`].
pub fn probe(address: SocketAddr) -> io::Result<()> {
    if address.port() != 0 {
        // SO_REUSEPORT lets two gateways of one user share a port silently; without it the kernel refuses the second.
        drop(socket(address, false)?);
    }
    Ok(())
}

fn socket(address: SocketAddr, share: bool) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier process that linger in TIME_WAIT do not keep us from starting.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share)?;
    if address.is_ipv6() {
        // So that 0.0.0.0 and [::] can both be given.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_shards_share_one_port_and_a_second_gateway_is_refused() {
        let listeners = bind(SocketAddr::from(([127, 0, 0, 1], 0)), 3).expect("loopback can be bound");
        let addresses: Vec<_> =
            listeners.iter().map(|l| l.local_addr().expect("a bound socket has an address")).collect();
        assert_eq!(addresses.len(), 3);
        assert!(addresses.iter().all(|&address| address == addresses[0] && address.port() != 0));
        let error = bind(addresses[0], 2).expect_err("the port is taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
