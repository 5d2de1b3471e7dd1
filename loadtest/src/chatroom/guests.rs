//! Guests of a chat room: each comes as a page does, waits for a message, says goodbye, and must be
//! let go.
//!
//! Owns: [`Visits`]. One guest at a time, one each second.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hdrhistogram::Histogram;
use tungstenite::protocol::{CloseFrame, Role};
use tungstenite::{Error, Message, WebSocket};

use super::Room;
use super::dial::{Guise, dial};
use crate::clock::{pause, seconds_ns};
use crate::verify::crew::histogram;

/// How long one read waits.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long a guest waits for a message, and again for the goodbye.
const WAIT_NS: u64 = 5_000_000_000;
/// From one guest to the next.
const EVERY_NS: u64 = 1_000_000_000;
/// Between two looks at the run.
const LOOK_MS: u64 = 20;
/// No guest comes so shortly before the end: it would hear nothing.
const LAST_NS: u64 = 500_000_000;

/// How the guests fared.
#[derive(Debug)]
pub(crate) struct Visits {
    pub(crate) guests: u64,
    /// Guests that could not come in, heard nothing, or were not let go.
    pub(crate) failed: u64,
    /// From dialling to the first message.
    pub(crate) first_ns: Histogram<u64>,
    pub(crate) troubles: Vec<String>,
}

/// Sends guests until the run is over.
pub(crate) fn visit(address: SocketAddr, host: &str, room: &Room) -> Visits {
    let mut visits = Visits { guests: 0, failed: 0, first_ns: histogram(), troubles: Vec::new() };
    let mut next = 0;
    while !room.over.load(Ordering::Acquire) {
        let (now, start) = (room.clock.nanos(), room.start_ns.load(Ordering::Acquire));
        let late = now + LAST_NS > start + seconds_ns(room.seconds);
        if start == 0 || now < next || late {
            pause(LOOK_MS);
            continue;
        }
        next = now + EVERY_NS;
        visits.guests += 1;
        match one(address, host, room, now) {
            Ok(first) => visits.first_ns.saturating_record(first),
            Err(why) => {
                visits.failed += 1;
                visits.troubles.push(format!("guest {}: {why}", visits.guests));
            }
        }
    }
    visits.troubles.truncate(5);
    visits
}

/// One visit. How long it took until the first message came.
fn one(address: SocketAddr, host: &str, room: &Room, from: u64) -> Result<u64, String> {
    let stream = dial(address, host, Guise::Page).map_err(|error| format!("{error:#}"))?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(|error| error.to_string())?;
    let mut socket = WebSocket::from_raw_socket(stream, Role::Client, None);
    let (mut first, mut until) = (None, from + WAIT_NS);
    loop {
        let now = room.clock.nanos();
        if now > until {
            return Err(if first.is_none() { "heard nothing" } else { "was not let go" }.to_owned());
        }
        match socket.read() {
            Ok(Message::Text(_)) if first.is_none() => {
                first = Some(now - from);
                until = now + WAIT_NS;
                let goodbye = CloseFrame { code: 1000.into(), reason: "".into() };
                socket.close(Some(goodbye)).map_err(|error| error.to_string())?;
            }
            Ok(_) => {}
            Err(Error::ConnectionClosed) => return first.ok_or_else(|| "was shown the door".to_owned()),
            Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}
