//! The healthy reader of a chat room, on tungstenite: receives every message of the others and of
//! its own, once, in each sender's order.
//!
//! Owns: [`Books`]. Now and then it says something with markup in it, which must come back
//! harmless.
//! Bounds: one bit of book for each message of the run.

use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::Value;
use tungstenite::protocol::Role;
use tungstenite::{Error, Message, WebSocket};

use super::{Room, frame};
use crate::clock::seconds_ns;
use crate::verify::crew::histogram;

/// How long one read waits.
const PATIENCE: Duration = Duration::from_millis(50);
/// Between two things that the observer says.
const TALK_NS: u64 = 500_000_000;
/// The token under which the observer speaks.
const TOKEN: &str = "observer";
/// Things that went wrong and are told one by one.
const TROUBLES_MAX: usize = 5;

/// What the observer has received.
#[derive(Debug)]
pub(crate) struct Books {
    /// Message `n` has come.
    seen: Vec<bool>,
    /// Per sender: the highest that has come.
    last: Vec<u64>,
    pub(crate) received: u64,
    pub(crate) doubled: u64,
    pub(crate) out_of_order: u64,
    /// Frames that are not exactly as the original's.
    pub(crate) misframed: u64,
    /// The observer's own: said, and come back.
    pub(crate) said: u64,
    pub(crate) heard: u64,
    /// From the intended time of sending.
    pub(crate) latency_ns: Histogram<u64>,
    /// Of its own messages, from saying to hearing.
    pub(crate) echo_ns: Histogram<u64>,
    said_ns: u64,
    /// The connection went.
    pub(crate) dropped: u64,
    pub(crate) troubles: Vec<String>,
}

impl Books {
    pub(crate) fn new(room: &Room) -> Self {
        Self {
            seen: vec![false; (room.rate * room.seconds + 2) as usize],
            last: vec![0; room.connections as usize],
            received: 0,
            doubled: 0,
            out_of_order: 0,
            misframed: 0,
            said: 0,
            heard: 0,
            latency_ns: histogram(),
            echo_ns: histogram(),
            said_ns: 0,
            dropped: 0,
            troubles: Vec::new(),
        }
    }

    /// Messages up to `sent` that have not come.
    pub(crate) fn lost(&self, unsent: u64, sent: u64) -> u64 {
        let seen = self.seen.iter().take(sent as usize + 1).filter(|seen| **seen).count() as u64;
        sent.saturating_sub(unsent).saturating_sub(seen)
    }

    fn trouble(&mut self, text: impl FnOnce() -> String) {
        if self.troubles.len() < TROUBLES_MAX {
            self.troubles.push(text());
        }
    }

    fn enter(&mut self, room: &Room, text: &str) {
        let now = room.clock.nanos();
        let parsed: Value = serde_json::from_str(text).unwrap_or_default();
        let (token, content) = (parsed["token"].as_str().unwrap_or(""), parsed["content"].as_str().unwrap_or(""));
        if text != frame(token, content) {
            self.misframed += 1;
            return self.trouble(|| format!("not a frame of the original: {text:?}"));
        }
        if token == TOKEN {
            self.heard += 1;
            return self.echo_ns.saturating_record(now.saturating_sub(self.said_ns));
        }
        let number = content.parse().ok().filter(|n: &u64| *n > 0 && token.len() == "2026-11-20T21:57:56Z".len());
        let Some(n) = number.filter(|n| (*n as usize) < self.seen.len()) else {
            self.misframed += 1;
            return self.trouble(|| format!("a message of nobody: {text:?}"));
        };
        let sender = room.sender(n);
        if std::mem::replace(&mut self.seen[n as usize], true) {
            self.doubled += 1;
            return self.trouble(|| format!("message {n} came twice"));
        }
        self.received += 1;
        if n < self.last[sender] {
            self.out_of_order += 1;
            let last = self.last[sender];
            self.trouble(|| format!("message {n} of connection {sender} came behind {last}"));
        }
        self.last[sender] = self.last[sender].max(n);
        let due = room.start_ns.load(Ordering::Acquire) + room.due_ns(n);
        self.latency_ns.saturating_record(now.saturating_sub(due));
    }
}

/// Reads until the run is judged.
pub(crate) fn observe(stream: TcpStream, room: &Room, told: impl Fn(&Books)) -> Books {
    let mut books = Books::new(room);
    if let Err(error) = stream.set_read_timeout(Some(PATIENCE)) {
        books.trouble(|| format!("the observer's socket: {error}"));
    }
    let mut socket = WebSocket::from_raw_socket(stream, Role::Client, None);
    let mut talk_ns = 0;
    while !room.done.load(Ordering::Acquire) {
        let (now, start) = (room.clock.nanos(), room.start_ns.load(Ordering::Acquire));
        let talks = start > 0 && !room.over.load(Ordering::Acquire) && now < start + seconds_ns(room.seconds);
        // One at a time: an answer that does not come is a finding, and no reason to ask on.
        if talks && now >= talk_ns && books.said == books.heard {
            // As the page does: a concatenation, without a line's end.
            let text = format!(r#"{{"token":"{TOKEN}","content":"<i>{now}</i> & all"}}"#);
            (books.said_ns, talk_ns) = (now, now + TALK_NS);
            books.said += u64::from(socket.send(Message::text(text)).is_ok());
        }
        match socket.read() {
            Ok(Message::Text(text)) => books.enter(room, &text),
            Ok(Message::Close(_)) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => {
                books.dropped = 1;
                books.trouble(|| "the server closed the observer's connection".to_owned());
                break;
            }
            Ok(_) => {}
            Err(Error::Io(error))
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(error) => {
                books.dropped = 1;
                books.trouble(|| format!("the observer's connection: {error}"));
                break;
            }
        }
        told(&books);
    }
    books
}
