//! What a control and a worker say to each other: JSON behind its length, four bytes, big-endian.
//!
//! Owns: [`ToWorker`], [`ToControl`], what they are made of, and the [`Link`] that carries them.
//! Never: believes a length, or waits without an end. Bytes that are none of this end the
//! connection with a sentence about what was wrong with them.
//! Bounds: [`GREETING_BYTES_MAX`] until both ends know each other, then [`FRAME_BYTES_MAX`].

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::limits::{FRAME_BYTES_MAX, GREETING_BYTES_MAX, READ_BYTES, SILENCE_MS_MAX};

/// The protocol's number: another one is refused.
pub(crate) const PROTOCOL: u32 = 3;
/// The program's: counters and flags go by its version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Bytes of the length in front of a message.
const LENGTH_BYTES: usize = 4;
/// How long an end that leaves waits for the other's close: so many looks of such a length.
const LEAVING_LOOKS: u32 = 20;
const LEAVING_LOOK: Duration = Duration::from_millis(50);
/// Reads meanwhile: all users of a run may be on their way.
const LEAVING_READS_MAX: u32 = 10_000;

/// Which program one end is, and a number that is used once.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Introduction {
    pub(crate) protocol: u32,
    pub(crate) version: String,
    pub(crate) nonce: String,
    /// That it has the secret; the worker's first word only says whether it wants one.
    pub(crate) proof: Option<String>,
}

/// The part of a run that a worker does.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Briefing {
    /// The command line of the control. Files that it names are the control's.
    pub(crate) arguments: Vec<String>,
    /// Threads of all workers together; the first of this one's, and how many they are.
    pub(crate) lanes: usize,
    pub(crate) first: usize,
    pub(crate) threads: usize,
    /// What the messages of this run are called.
    pub(crate) run: u64,
    /// How far the worker's clock is ahead of the control's, in nanoseconds.
    pub(crate) ahead_ns: i64,
    /// The group, where the gateway was asked for it.
    pub(crate) group: Option<u64>,
    /// Rate and seconds of this step, where the run has several.
    pub(crate) load: Option<(u64, u64)>,
    /// The certificates of `--tls`.
    pub(crate) certificates: Option<String>,
    /// The file of `--mix`.
    pub(crate) mix: Option<String>,
}

/// The control's board: what the engine threads look at.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Scene {
    /// [`crate::board::Phase`] as a number.
    pub(crate) phase: u8,
    /// By the control's clock.
    pub(crate) started_ns: u64,
    pub(crate) ended_ns: u64,
    pub(crate) goal: u64,
    pub(crate) roll_call: bool,
}

/// What all threads of a run have to know to judge their own books.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Whole {
    /// Messages that were acked.
    pub(crate) acked: u64,
    /// Lowest and highest `seq` of these.
    pub(crate) acked_seqs: Option<(u64, u64)>,
    /// The run was ended before its time.
    pub(crate) cut_short: bool,
}

/// What a worker has counted so far.
#[derive(Serialize, Deserialize, Clone, PartialEq, Default, Debug)]
pub(crate) struct WorkerCounts {
    /// Of each of its threads, in the order of [`crate::board::Lane::counters`].
    pub(crate) lanes: Vec<Vec<u64>>,
    /// CPU seconds of the process so far.
    pub(crate) cpu_seconds: f64,
    /// What went wrong since the last time, for people.
    pub(crate) troubles: Vec<String>,
    /// Latencies of acks and deliveries since the last time, where they are wanted over time.
    pub(crate) recent: Option<[String; 2]>,
}

/// What a control says.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub(crate) enum ToWorker {
    Hello(Introduction),
    /// What is your clock? Also: I am still here.
    Ping(u64),
    Briefing(Box<Briefing>),
    /// More users, as `place id token` lines; without a token only their ids are needed.
    Users(String),
    /// That was all: begin.
    Begin,
    Scene(Scene),
    Whole(Whole),
}

/// What a worker says.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub(crate) enum ToControl {
    Greeting(Introduction),
    /// We know each other.
    Welcome(Introduction),
    /// The question, and what the worker's clock says.
    Pong(u64, u64),
    /// Threads stand.
    Ready,
    Counts(WorkerCounts),
    /// Threads have ended: the last counts, and what [`Whole`] is made from.
    Ended(WorkerCounts, Option<(u64, u64)>),
    /// What they have found.
    Findings(Value),
    /// It does not do that, or not any more.
    Refused(String),
}

/// Bytes that have come and are no message yet.
#[derive(Debug)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    /// Bytes that have been read as messages.
    done: usize,
    most: usize,
}

impl Inbox {
    pub(crate) const fn new(most: usize) -> Self {
        Self { bytes: Vec::new(), done: 0, most }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..std::mem::take(&mut self.done));
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message, once all of it is there.
    ///
    /// # Errors
    /// It is longer than allowed, or none that this end understands.
    pub(crate) fn take<M: DeserializeOwned>(&mut self) -> Result<Option<M>> {
        let rest = &self.bytes[self.done..];
        let Some((head, rest)) = rest.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes(*head) as usize;
        ensure!(length <= self.most, "a message of {length} bytes: at most {} are taken", self.most);
        let Some(body) = rest.get(..length) else { return Ok(None) };
        self.done += LENGTH_BYTES + length;
        serde_json::from_slice(body).map(Some).context("no message of autoclient's")
    }
}

/// A connection between a control and a worker.
#[derive(Debug)]
pub(crate) struct Link {
    stream: TcpStream,
    inbox: Inbox,
    /// What reads wait for at most, as the socket was told last.
    patience: Duration,
    scratch: Vec<u8>,
}

impl Link {
    /// Over a connection, both ends of which do not know each other yet.
    ///
    /// # Errors
    /// The socket does not let itself be set.
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(Duration::from_millis(SILENCE_MS_MAX)))?;
        Ok(Self {
            stream,
            inbox: Inbox::new(GREETING_BYTES_MAX),
            patience: Duration::ZERO,
            scratch: vec![0; READ_BYTES],
        })
    }

    /// Both ends know each other: long messages are taken.
    pub(crate) const fn trust(&mut self) {
        self.inbox.most = FRAME_BYTES_MAX;
    }

    /// Sends a message.
    ///
    /// # Errors
    /// It is too long, or the other end does not take it in time.
    pub(crate) fn send(&mut self, message: &impl Serialize) -> Result<()> {
        let mut bytes = vec![0; LENGTH_BYTES];
        serde_json::to_writer(&mut bytes, message).context("a message")?;
        let length = bytes.len() - LENGTH_BYTES;
        ensure!(length <= FRAME_BYTES_MAX, "a message of {length} bytes is too long");
        bytes[..LENGTH_BYTES].copy_from_slice(&(length as u32).to_be_bytes());
        self.stream.write_all(&bytes).context("it does not take what is sent")
    }

    /// Says nothing more, and reads on for a while: an end that closes while the other still sends
    /// would take back its last words by a reset.
    pub(crate) fn leave(&mut self) {
        // The other end may have gone already.
        let _ = self.stream.shutdown(Shutdown::Write).and_then(|()| self.stream.set_read_timeout(Some(LEAVING_LOOK)));
        let mut patience = LEAVING_LOOKS;
        for _ in 0..LEAVING_READS_MAX {
            match self.stream.read(&mut self.scratch) {
                Ok(1..) => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) && patience > 0 => {
                    patience -= 1;
                }
                _ => return,
            }
        }
    }

    /// The next message; `None`: there is none within that time.
    ///
    /// # Errors
    /// The connection has ended or broken, or what came is no message.
    pub(crate) fn receive<M: DeserializeOwned>(&mut self, within: Duration) -> Result<Option<M>> {
        if let Some(message) = self.inbox.take()? {
            return Ok(Some(message));
        }
        // A time of zero would mean none.
        let within = within.max(Duration::from_millis(1));
        if within != self.patience {
            self.stream.set_read_timeout(Some(within))?;
            self.patience = within;
        }
        match self.stream.read(&mut self.scratch) {
            Ok(0) => bail!("the connection has ended"),
            Ok(n) => self.inbox.push(&self.scratch[..n]),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(None),
            Err(e) => return Err(e).context("the connection broke"),
        }
        self.inbox.take()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(message: &impl Serialize) -> Vec<u8> {
        let body = serde_json::to_vec(message).expect("JSON");
        [&(body.len() as u32).to_be_bytes()[..], &body].concat()
    }

    /// All messages of some bytes that come in pieces, up to what is none.
    fn taken<M: DeserializeOwned>(pieces: &[&[u8]]) -> (Vec<M>, Option<String>) {
        let (mut inbox, mut found) = (Inbox::new(GREETING_BYTES_MAX), Vec::new());
        for piece in pieces {
            inbox.push(piece);
            loop {
                match inbox.take() {
                    Ok(Some(message)) => found.push(message),
                    Ok(None) => break,
                    Err(error) => return (found, Some(format!("{error:#}"))),
                }
            }
            assert!(inbox.bytes.len() - inbox.done <= GREETING_BYTES_MAX + LENGTH_BYTES, "it keeps no more");
        }
        (found, None)
    }

    fn some() -> Vec<ToWorker> {
        let introduction =
            Introduction { protocol: 1, version: VERSION.to_owned(), nonce: "ab".to_owned(), proof: None };
        let scene = Scene { phase: 3, ended_ns: u64::MAX, goal: 7, ..Scene::default() };
        vec![ToWorker::Hello(introduction), ToWorker::Ping(9), ToWorker::Begin, ToWorker::Scene(scene)]
    }

    proptest! {
        #[test]
        fn messages_come_back_however_they_are_cut(cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
            let bytes: Vec<u8> = some().iter().flat_map(framed).collect();
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(taken::<ToWorker>(&pieces), (some(), None));
        }

        #[test]
        fn any_bytes_are_messages_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let (found, _) = taken::<ToWorker>(&[&bytes]);
            prop_assert!(found.is_empty());
            taken::<ToControl>(&[&bytes]);
        }

        #[test]
        fn a_damaged_message_never_panics(place in any::<prop::sample::Index>(), byte in any::<u8>(), which in 0..4_usize) {
            let mut bytes = framed(&some()[which]);
            let place = place.index(bytes.len());
            bytes[place] = byte;
            taken::<ToWorker>(&[&bytes]);
            taken::<ToControl>(&[&bytes]);
        }
    }

    #[test]
    fn what_is_too_long_or_something_else_is_said() {
        let told = |bytes: &[u8]| taken::<ToWorker>(&[bytes]).1.expect("refused");
        assert!(told(b"GET / HTTP/1.1\r\n\r\n").contains("at most 4096"));
        assert!(told(&framed(&"Begin!")).contains("no message of autoclient's"));
        assert!(told(&framed(&serde_json::json!({"Scene": {"phase": 256}}))).contains("256"));
        // Deep below where any JSON may stand: serde_json has a bound.
        let deep = format!("{{\"Findings\":{}{}}}", "[".repeat(2_000), "]".repeat(2_000));
        let bytes = [&(deep.len() as u32).to_be_bytes()[..], deep.as_bytes()].concat();
        assert!(taken::<ToControl>(&[&bytes]).1.expect("refused").contains("recursion"));
    }
}
