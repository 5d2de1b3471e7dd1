//! The control plane's doors: connections handed over by the gates of the public port, and the admin listeners.
//!
//! Owns: the line of connections that wait, and the seats of those that are served.
//! Never: blocks a shard's thread: [`Door::serve`] puts a connection into the line or gives it back.
//! Bounds: [`limits::HTTP_HANDOVERS_MAX`] waiting, [`limits::HTTP_CONNS_MAX`] served, [`limits::ADMIN_CONNS_MAX`] at the
//! admin listeners.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::connection::{self, Deadlines};
use crate::caller::{Judge, Peer};
use crate::limits;
use crate::mesh::{ControlPlane, Gate};
use crate::metrics::accounts::AccountCounts;

type Handed = (std::net::TcpStream, Vec<u8>, Peer);

/// Where shard threads leave what is no upgrade.
pub(super) struct Door {
    line: mpsc::Sender<Handed>,
}

impl Door {
    /// The door, and the line behind it for [`serve_line`].
    pub(super) fn new() -> (Self, mpsc::Receiver<Handed>) {
        let (line, waiting) = mpsc::channel(limits::HTTP_HANDOVERS_MAX);
        (Self { line }, waiting)
    }
}

impl ControlPlane for Door {
    fn serve(&self, stream: std::net::TcpStream, read: Vec<u8>, peer: Peer) -> Result<(), std::net::TcpStream> {
        self.line.try_send((stream, read, peer)).map_err(|refused| match refused {
            TrySendError::Full((stream, ..)) | TrySendError::Closed((stream, ..)) => stream,
        })
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
    /// One permit per connection that is served.
    pub(super) seats: Arc<Semaphore>,
}

impl Hall {
    /// Waits for a seat; `None` when the gateway stops first.
    async fn seat(&self) -> Option<OwnedSemaphorePermit> {
        let mut stop = self.stop.clone();
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => None,
            seat = Arc::clone(&self.seats).acquire_owned() => seat.ok(),
        }
    }

    fn serve(&self, stream: TcpStream, ahead: Bytes, peer: Peer, seat: OwnedSemaphorePermit) {
        let served = connection::serve(stream, ahead, peer, self.clone());
        tokio::spawn(async move {
            served.await;
            drop(seat);
        });
    }
}

/// Seats the connections that the gates hand over, until the gateway stops.
pub(super) async fn serve_line(mut line: mpsc::Receiver<Handed>, hall: Hall) {
    let mut stop = hall.stop.clone();
    while let Some(seat) = hall.seat().await {
        let handed = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => None,
            handed = line.recv() => handed,
        };
        let Some((stream, read, peer)) = handed else {
            // Before the seat is free: whoever holds all seats at a stop finds the line closed.
            drop(line);
            return;
        };
        match stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
            Ok(stream) => hall.serve(stream, read.into(), peer, seat),
            Err(error) => tracing::debug!(%error, "a handed-over connection was lost"),
        }
    }
}

/// Seats the connections that `listener` accepts, until the gateway stops.
pub(super) async fn serve_listener(listener: TcpListener, hall: Hall) {
    let mut stop = hall.stop.clone();
    while let Some(seat) = hall.seat().await {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => hall.serve(stream, Bytes::new(), Peer::plain(from.ip()), seat),
            // Out of descriptors, most likely: without the pause the loop would spin until one is free.
            Err(error) => {
                tracing::warn!(%error, "accepting an admin connection failed");
                tokio::time::sleep(Duration::from_millis(limits::RETRY_MS)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_line_gives_the_connection_back() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let one = std::net::TcpStream::connect(address).expect("a listening port");
        let (door, line) = Door::new();
        for _ in 0..limits::HTTP_HANDOVERS_MAX {
            assert!(door.serve(one.try_clone().expect("a descriptor"), vec![1], Peer::GONE).is_ok());
        }
        let back =
            door.serve(one.try_clone().expect("a descriptor"), vec![1], Peer::GONE).expect_err("the line is full");
        assert_eq!(back.peer_addr().ok(), Some(address), "the gate can tell it 503");
        drop(line);
        assert!(door.serve(one, Vec::new(), Peer::GONE).is_err(), "and so is a line that nobody serves");
    }
}
