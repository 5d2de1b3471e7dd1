//! The load client of simple-chatroom, in one thread: a message each millisecond on any connection
//! but the last, and none ever reads.
//!
//! Owns: the connections that never read, until the end: then what lies in them is read, and a
//! connection that the server has ended is found.
//! Bounds: [`UNREAD_BYTES_MAX`] for each connection at the end.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

use super::Room;
use super::dial::{Guise, dial};
use crate::clock::{pause, rfc3339_now, seconds_ns};
use crate::frame::{Opcode, encode};
use crate::verify::crew::histogram;
use crate::verify::dice::mix;

/// Bytes read from one connection at the end: above what any kernel holds for it.
const UNREAD_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What became of the connections that never read.
#[derive(Clone, Debug)]
pub(crate) struct Fate {
    /// Connections that the server ended, or on which writing failed.
    pub(crate) ended: u64,
    /// Messages that could not be handed to a socket.
    pub(crate) unsent: u64,
    /// The most bytes that lay unread in one connection.
    pub(crate) unread_max: u64,
    /// How much later than meant messages left.
    pub(crate) lag_ns: Histogram<u64>,
    /// What went wrong, for people.
    pub(crate) troubles: Vec<String>,
}

/// The connections, opened one after another.
#[derive(Debug)]
pub(crate) struct Talkers {
    streams: Vec<TcpStream>,
}

impl Talkers {
    /// Opens them; as in the original, one failure ends everything.
    pub(crate) fn dial(address: SocketAddr, host: &str, connections: u64) -> Result<Self> {
        let one = |place| dial(address, host, Guise::Go).with_context(|| format!("connection {place}"));
        Ok(Self { streams: (1..=connections).map(one).collect::<Result<_>>()? })
    }

    /// Sends for as long as the run lasts. Returns which connections failed.
    pub(crate) fn talk(&mut self, room: &Room) -> Fate {
        let mut fate = Fate { ended: 0, unsent: 0, unread_max: 0, lag_ns: histogram(), troubles: Vec::new() };
        let mut broken = vec![false; self.streams.len()];
        let start = room.clock.nanos();
        room.start_ns.store(start, Ordering::Release);
        let mut bytes = Vec::new();
        for n in 1.. {
            let due = room.due_ns(n);
            if due >= seconds_ns(room.seconds) || room.interrupt.is_set() {
                break;
            }
            while room.clock.nanos() < start + due {
                pause(1);
            }
            fate.lag_ns.saturating_record(room.clock.nanos() - (start + due));
            let place = room.sender(n);
            if broken[place] {
                // The original prints an error and goes on.
                fate.unsent += 1;
                continue;
            }
            let text = format!("{{\"token\":\"{}\",\"content\":\"{n}\"}}\n", rfc3339_now());
            bytes.clear();
            encode(&mut bytes, Opcode::Text, text.as_bytes(), (mix(n) as u32).to_ne_bytes());
            match self.streams[place].write_all(&bytes) {
                Ok(()) => room.sent.store(n, Ordering::Release),
                Err(error) => {
                    broken[place] = true;
                    fate.unsent += 1;
                    fate.troubles.push(format!("message {n} on connection {place}: {error}"));
                }
            }
        }
        room.over.store(true, Ordering::Release);
        fate
    }

    /// Reads for the first time: the end of the stream means disconnected.
    pub(crate) fn judge(mut self, fate: &mut Fate) {
        for (place, stream) in self.streams.iter_mut().enumerate() {
            match unread(stream) {
                Ok(bytes) => fate.unread_max = fate.unread_max.max(bytes),
                Err(why) => {
                    fate.ended += 1;
                    fate.troubles.push(format!("connection {place} was ended by the server: {why}"));
                }
            }
        }
    }
}

/// How many bytes lie in a connection; an error if it has an end.
fn unread(stream: &mut TcpStream) -> Result<u64, String> {
    stream.set_nonblocking(true).map_err(|error| error.to_string())?;
    let (mut scratch, mut sum) = (vec![0; 64 * 1024], 0);
    while sum < UNREAD_BYTES_MAX {
        match stream.read(&mut scratch) {
            Ok(0) => return Err(format!("end of stream behind {sum} bytes")),
            Ok(n) => sum += n as u64,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(sum)
}
