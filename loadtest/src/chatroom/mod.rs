//! simple-chatroom's clients, as strangers would write them: the load client that never reads, and
//! readers beside it.
//!
//! The map: `dial` (the bare handshake) · `talkers` (send and never read) · `observer`
//! (must receive everything) · `guests` (come, look and go). The scenario of that name puts them
//! together.

pub(crate) mod dial;
pub(crate) mod guests;
pub(crate) mod observer;
pub(crate) mod talkers;

use std::sync::atomic::{AtomicBool, AtomicU64};

use crate::clock::Clock;
use crate::interrupt::Interrupt;
use crate::verify::dice::mix;

/// What all threads of one run share.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) clock: Clock,
    /// Connections that never read; the last of them never sends either.
    pub(crate) connections: u64,
    /// Messages per second, all of them together.
    pub(crate) rate: u64,
    pub(crate) seconds: u64,
    /// When message 1 was due; 0: not yet.
    pub(crate) start_ns: AtomicU64,
    /// The number of the last message handed to a socket.
    pub(crate) sent: AtomicU64,
    /// Nothing more is sent.
    pub(crate) over: AtomicBool,
    /// The run is judged: every connection ends.
    pub(crate) done: AtomicBool,
    /// A signal has asked for the end.
    pub(crate) interrupt: Interrupt,
}

impl Room {
    /// Which connection sends message `n`: any but the last one, as the original's
    /// `rand.Intn(len-1)` has it.
    pub(crate) fn sender(&self, n: u64) -> usize {
        (mix(n) % (self.connections - 1)) as usize
    }

    /// When message `n` (from 1) is due, behind `start_ns`.
    pub(crate) fn due_ns(&self, n: u64) -> u64 {
        (u128::from(n - 1) * 1_000_000_000 / u128::from(self.rate)) as u64
    }
}

/// The frame that all must receive: both keys in this order, nothing that HTML would take for
/// markup, and a line's end.
pub(crate) fn frame(token: &str, content: &str) -> String {
    let escaped = |text: &str| {
        let quoted = serde_json::Value::from(text).to_string();
        quoted.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e")
    };
    format!("{{\"token\":{},\"content\":{}}}\n", escaped(token), escaped(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_is_that_of_the_original() {
        assert_eq!(frame("t", "3152"), "{\"token\":\"t\",\"content\":\"3152\"}\n");
        assert_eq!(frame("", "<b>&\""), "{\"token\":\"\",\"content\":\"\\u003cb\\u003e\\u0026\\\"\"}\n");
    }
}
