//! The control plane's doors: connections handed over by the gates of the public port, and the admin listeners.
//!
//! Owns: the line of connections that wait for a seat.
//! Never: blocks a shard's thread: [`Door::serve`] puts a connection into the line or gives it back.
//! Bounds: [`limits::HTTP_HANDOVERS_MAX`] waiting; those that are served are [`super::seating`]'s.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};

use super::connection::{self, Deadlines};
use super::seating::Seating;
use crate::caller::{Judge, Peer};
use crate::clock::Clock;
use crate::limits;
use crate::log::outage::{Line, Outage};
use crate::mesh::{ControlPlane, Gate};
use crate::metrics::accounts::AccountCounts;

type Handed = (std::net::TcpStream, Vec<u8>, Peer);

/// Where shard threads leave what is no upgrade.
pub(super) struct Door {
    line: mpsc::Sender<Handed>,
    seating: Arc<Seating>,
}

impl Door {
    /// The door, and the line behind it for [`serve_line`].
    pub(super) fn new(seating: Arc<Seating>) -> (Self, mpsc::Receiver<Handed>) {
        let (line, waiting) = mpsc::channel(limits::HTTP_HANDOVERS_MAX);
        (Self { line, seating }, waiting)
    }
}

impl ControlPlane for Door {
    fn serve(&self, stream: std::net::TcpStream, read: Vec<u8>, peer: Peer) -> Result<(), std::net::TcpStream> {
        self.line.try_send((stream, read, peer)).map_err(|refused| match refused {
            TrySendError::Full((stream, ..)) | TrySendError::Closed((stream, ..)) => stream,
        })
    }

    fn connections(&self) -> usize {
        self.seating.taken() + self.line.max_capacity() - self.line.capacity()
    }
}

/// What every connection through one door shares.
#[derive(Clone)]
pub(super) struct Hall {
    /// Who answers.
    pub(super) router: Router,
    /// Where upgrades go back to; `None` at the admin listeners.
    pub(super) gate: Option<Arc<dyn Gate>>,
    /// Says where each request comes from.
    pub(super) judge: Arc<Judge>,
    /// Counts those of pages of other origins, whose cookies did not count.
    pub(super) counts: Arc<AccountCounts>,
    /// How patient it is.
    pub(super) deadlines: Deadlines,
    /// Turns true once.
    pub(super) stop: watch::Receiver<bool>,
    /// Who may stay.
    pub(super) seating: Arc<Seating>,
    /// Where descriptors come from when there are none left.
    pub(super) spare: Arc<Seating>,
    /// Closed when the last connection has gone: each has a copy.
    pub(super) alive: mpsc::Sender<()>,
}

impl Hall {
    /// Waits for a seat; `false` when the gateway stops first.
    async fn seat(&self, stream: TcpStream, ahead: Bytes, peer: Peer) -> bool {
        let mut stop = self.stop.clone();
        let seat = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return false,
            seat = self.seating.enter(peer.address) => seat,
        };
        match seat {
            Some(seat) => drop(tokio::spawn(connection::serve(stream, ahead, peer, seat, self.clone()))),
            None => connection::tell(&stream, connection::BUSY),
        }
        true
    }
}

/// Seats the connections that the gates hand over, until the gateway stops.
pub(super) async fn serve_line(mut line: mpsc::Receiver<Handed>, hall: Hall) {
    let mut stop = hall.stop.clone();
    loop {
        let handed = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => None,
            handed = line.recv() => handed,
        };
        let Some((stream, read, peer)) = handed else { break };
        match stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
            Ok(stream) => {
                if !hall.seat(stream, read.into(), peer).await {
                    break;
                }
            }
            Err(error) => tracing::debug!(%error, "a handed-over connection was lost"),
        }
    }
    // Before the hall: whoever waits for the last connection at a stop finds the line closed.
    drop(line);
}

/// Seats the connections that `listener` accepts, until the gateway stops.
pub(super) async fn serve_listener(listener: TcpListener, hall: Hall) {
    let mut stop = hall.stop.clone();
    let (clock, outage) = (Clock::start(), Outage::default());
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                if let Some(Line::Ended { failures, seconds }) = outage.worked(clock.now().mono_ms) {
                    tracing::info!(failures, seconds, "admin connections are accepted again");
                }
                if !hall.seat(stream, Bytes::new(), Peer::plain(from.ip())).await {
                    return;
                }
            }
            Err(error) => {
                // Out of descriptors, most likely. The pause is for the connection that gives its
                // own to end, and for the loop not to spin when there is none.
                let spared = hall.spare.spare();
                if outage.failed(clock.now().mono_ms).is_some() {
                    tracing::warn!(%error, spared, "accepting admin connections fails");
                }
                tokio::time::sleep(Duration::from_millis(limits::RETRY_MS)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::seating::SeatBounds;
    use crate::fair::Networks;

    #[test]
    fn a_full_line_gives_the_connection_back() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let one = std::net::TcpStream::connect(address).expect("a listening port");
        let seating = Seating::new(SeatBounds::admin(), Networks::loopback(), Arc::default());
        let (door, line) = Door::new(seating);
        for _ in 0..limits::HTTP_HANDOVERS_MAX {
            assert!(door.serve(one.try_clone().expect("a descriptor"), vec![1], Peer::GONE).is_ok());
        }
        let back =
            door.serve(one.try_clone().expect("a descriptor"), vec![1], Peer::GONE).expect_err("the line is full");
        assert_eq!(door.connections(), limits::HTTP_HANDOVERS_MAX, "those in the line hold descriptors, too");
        assert_eq!(back.peer_addr().ok(), Some(address), "the gate can tell it 503");
        drop(line);
        assert!(door.serve(one, Vec::new(), Peer::GONE).is_err(), "and so is a line that nobody serves");
    }
}
