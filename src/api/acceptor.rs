//! Where connections come from: handed over by the gates of the public port, or accepted by the
//! admin listeners.
//!
//! Owns: the queue of connections that wait for a slot.
//! Never: blocks a shard's thread: [`HandoverQueue::serve`] puts a connection into the queue or
//! gives it back.
//! Bounds: [`limits::HTTP_HANDOVERS_MAX`] waiting; those that are served are [`super::slots`]'s.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::connection::{self, ConnectionContext};
use super::slots::ConnectionSlots;
use super::stream::Stream;
use crate::caller::Peer;
use crate::clock::Clock;
use crate::limits;
use crate::log::outage::{Outage, OutageLine};
use crate::mesh::{ControlPlane, Wire};

type Handed = (Wire, Vec<u8>, Peer);

/// Where shard threads leave what is no upgrade.
pub(super) struct HandoverQueue {
    queue: mpsc::Sender<Handed>,
    slots: Arc<ConnectionSlots>,
}

impl HandoverQueue {
    /// The queue, and its other end for [`serve_handovers`].
    pub(super) fn new(slots: Arc<ConnectionSlots>) -> (Self, mpsc::Receiver<Handed>) {
        let (queue, waiting) = mpsc::channel(limits::HTTP_HANDOVERS_MAX);
        (Self { queue, slots }, waiting)
    }
}

impl ControlPlane for HandoverQueue {
    fn serve(&self, wire: Wire, read: Vec<u8>, peer: Peer) -> Result<(), (Wire, Vec<u8>)> {
        self.queue.try_send((wire, read, peer)).map_err(|refused| match refused {
            TrySendError::Full((wire, read, _)) | TrySendError::Closed((wire, read, _)) => (wire, read),
        })
    }

    fn connections(&self) -> usize {
        self.slots.taken() + self.queue.max_capacity() - self.queue.capacity()
    }
}

/// Waits for a slot for a connection and serves it; `false` when the gateway stops first.
async fn slot(context: &ConnectionContext, mut stream: Stream, ahead: Bytes, peer: Peer) -> bool {
    let mut stop = context.mortal.stop.clone();
    let slot = tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => {
            stream.tell(&connection::busy());
            return false;
        }
        slot = context.slots.enter(peer.address) => slot,
    };
    match slot {
        Some(slot) => drop(tokio::spawn(connection::serve(stream, ahead, peer, slot, context.clone()))),
        None => stream.tell(&connection::busy()),
    }
    true
}

/// Serves the connections that the gates hand over, until the gateway stops.
pub(super) async fn serve_handovers(mut handovers: mpsc::Receiver<Handed>, context: ConnectionContext) {
    let mut stop = context.mortal.stop.clone();
    loop {
        let handed = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => None,
            handed = handovers.recv() => handed,
        };
        let Some((wire, read, peer)) = handed else { break };
        match Stream::new(wire) {
            Ok(stream) => {
                if !slot(&context, stream, read.into(), peer).await {
                    break;
                }
            }
            Err(error) => tracing::debug!(%error, "a handed-over connection was lost"),
        }
    }
    // Before the context: a stop that waits for the last connection finds the queue closed.
    handovers.close();
    while let Ok((wire, ..)) = handovers.try_recv() {
        // What it has asked for is not done, and it should not have to guess.
        if let Ok(mut stream) = Stream::new(wire) {
            stream.tell(&connection::busy());
        }
    }
    drop(handovers);
}

/// Serves the connections that `listener` accepts, until the gateway stops.
pub(super) async fn serve_listener(listener: TcpListener, context: ConnectionContext) {
    let mut stop = context.mortal.stop.clone();
    let (clock, outage) = (Clock::start(), Outage::default());
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                if let Some(OutageLine::Ended { failures, seconds }) = outage.worked(clock.now().mono_ms) {
                    tracing::info!(failures, seconds, "admin connections are accepted again");
                }
                if !slot(&context, stream.into(), Bytes::new(), Peer::plain(from.ip())).await {
                    return;
                }
            }
            Err(error) => {
                // Out of descriptors, most likely. The pause is for the connection that gives its
                // own to end, and for the loop not to spin when there is none.
                let spared = context.spare.spare();
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
    use crate::api::slots::SlotBounds;
    use crate::fair::Networks;

    #[test]
    fn a_full_queue_gives_the_connection_back() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let one = std::net::TcpStream::connect(address).expect("a listening port");
        let slots = ConnectionSlots::new(SlotBounds::admin(), Networks::loopback(), Arc::default());
        let (queue, handovers) = HandoverQueue::new(slots);
        let wire = || Wire { socket: one.try_clone().expect("a descriptor"), tls: None };
        for _ in 0..limits::HTTP_HANDOVERS_MAX {
            assert!(queue.serve(wire(), vec![1], Peer::GONE).is_ok());
        }
        let (back, read) = queue.serve(wire(), vec![1], Peer::GONE).expect_err("the queue is full");
        assert_eq!(read, [1], "what it has asked for comes back, too");
        assert_eq!(queue.connections(), limits::HTTP_HANDOVERS_MAX, "those in the queue hold descriptors, too");
        assert_eq!(back.socket.peer_addr().ok(), Some(address), "the gate can tell it 503");
        drop(handovers);
        assert!(queue.serve(wire(), Vec::new(), Peer::GONE).is_err(), "as does a queue that is not served");
    }
}
