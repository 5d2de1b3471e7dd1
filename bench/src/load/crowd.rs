//! The connections of a run: dialling, upgrading, writing, reading; what arrives is told as stamps.
//!
//! Owns: [`Crowd`]. Idle, a member owns no heap memory here.
//! Never: blocks, but in the poll for as long as it was told.
//! Bounds: [`DIALS_MAX`] upgrades under way; what a socket does not take waits, and whoever posts
//! is bounded by its pace.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use imgate::ws::Incoming;
use imgate::ws::deflate::Inflater;
use imgate::ws::frame::{CLOSE, PING, PONG, TEXT, write_masked};
use imgate_client::pipe::{Pipe, Tls};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use tungstenite::handshake::client::generate_key;

use super::dialect::Dialect;
use super::stamp::{Scanner, Stamp};
use crate::clock;
use crate::frame;

/// Upgrades under way at once.
const DIALS_MAX: usize = 256;
const SCRATCH_BYTES: usize = 256 * 1024;
const EVENTS_MAX: usize = 1024;
/// Of a message that is compressed, inflated.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Who masks with a constant is not attacked here; servers unmask all the same.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// How long nothing may happen while members connect.
const STILL_NS_MAX: u64 = 10_000_000_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Dialling,
    Upgrading,
    Open,
}

#[derive(Debug)]
struct Conn {
    stream: Pipe,
    stage: Stage,
    dirty: bool,
    /// Bytes to be written.
    out: Vec<u8>,
    /// The part of a frame, or of a response head, that has come.
    stash: Vec<u8>,
}

/// What a member has been sent.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Who got it.
    pub member: usize,
    /// What it was.
    pub stamp: Stamp,
    /// When it was read.
    pub now_ns: u64,
}

/// The members of one server.
pub struct Crowd<'a> {
    poll: Poll,
    events: Events,
    server: SocketAddr,
    tls: Option<&'a Tls>,
    dialect: &'a dyn Dialect,
    conns: Vec<Conn>,
    open: usize,
    dirty: Vec<usize>,
    /// What has arrived since the last [`Crowd::turn`].
    pub arrivals: Vec<Arrival>,
    /// Bytes of frames that have come, ever, before they are inflated and after they are decrypted.
    pub frame_bytes: u64,
    scanner: Scanner,
    inflater: Inflater,
    scratch: Vec<u8>,
}

impl<'a> Crowd<'a> {
    /// Nobody yet; over TLS if there is one.
    ///
    /// # Errors
    /// As the system says.
    pub fn new(server: SocketAddr, tls: Option<&'a Tls>, dialect: &'a dyn Dialect) -> Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS_MAX),
            server,
            tls,
            dialect,
            conns: Vec::new(),
            open: 0,
            dirty: Vec::new(),
            arrivals: Vec::new(),
            frame_bytes: 0,
            scanner: Scanner::default(),
            inflater: Inflater::default(),
            scratch: vec![0; SCRATCH_BYTES],
        })
    }

    /// The server's language.
    #[must_use]
    pub fn dialect(&self) -> &'a dyn Dialect {
        self.dialect
    }

    /// Connects until there are `members`.
    ///
    /// # Errors
    /// One of them is refused, or nothing happens for ten seconds.
    pub fn grow(&mut self, members: usize) -> Result<()> {
        let (mut moved_ns, mut open) = (clock::nanos(), self.open);
        while self.open < members {
            while self.conns.len() < members && self.conns.len() - self.open < DIALS_MAX {
                self.dial()?;
            }
            self.turn(Duration::from_millis(100))?;
            let now_ns = clock::nanos();
            if self.open != open {
                (moved_ns, open) = (now_ns, self.open);
            }
            if now_ns - moved_ns > STILL_NS_MAX {
                bail!("only {} of {members} connections stand, and nothing happens", self.open);
            }
        }
        Ok(())
    }

    fn dial(&mut self) -> Result<()> {
        let socket = TcpStream::connect(self.server).context("cannot connect")?;
        socket.set_nodelay(true)?;
        let mut stream = Pipe::new(socket, self.tls)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(self.conns.len()), interest)?;
        let (out, stash) = (Vec::new(), Vec::new());
        self.conns.push(Conn { stream, stage: Stage::Dialling, dirty: false, out, stash });
        Ok(())
    }

    /// Queues one message of a member; it leaves with the next [`Crowd::turn`].
    pub fn say(&mut self, member: usize, message: &str) {
        self.queue(member, self.dialect.opcode(), message.as_bytes());
    }

    fn queue(&mut self, member: usize, opcode: u8, payload: &[u8]) {
        let conn = &mut self.conns[member];
        write_masked(&mut conn.out, opcode, payload, MASK);
        if !std::mem::replace(&mut conn.dirty, true) {
            self.dirty.push(member);
        }
    }

    /// Writes what is queued, waits for the kernel no longer than `patience`, and reads.
    ///
    /// # Errors
    /// A member lost its connection: no measurement is worth anything then.
    pub fn turn(&mut self, patience: Duration) -> Result<()> {
        self.arrivals.clear();
        for member in std::mem::take(&mut self.dirty) {
            self.conns[member].dirty = false;
            self.write(member)?;
        }
        match self.poll.poll(&mut self.events, Some(patience)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error).context("poll"),
            _ => {}
        }
        let ready: Vec<_> = self.events.iter().map(|e| (e.token().0, e.is_writable(), e.is_read_closed())).collect();
        for (member, writable, ended) in ready {
            if writable {
                self.writable(member)?;
            }
            self.read(member, ended).with_context(|| format!("member {member}"))?;
        }
        Ok(())
    }

    fn writable(&mut self, member: usize) -> Result<()> {
        let conn = &mut self.conns[member];
        if conn.stage == Stage::Dialling {
            if !conn.stream.is_connected().context("cannot connect")? {
                return Ok(());
            }
            conn.stage = Stage::Upgrading;
            let (target, headers) = self.dialect.request(member);
            let request = format!(
                "GET {target} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: {}\r\n{headers}\r\n",
                self.server,
                generate_key()
            );
            conn.out.extend_from_slice(request.as_bytes());
        }
        self.write(member)
    }

    fn write(&mut self, member: usize) -> Result<()> {
        let conn = &mut self.conns[member];
        conn.stream.flush().context("cannot write")?;
        while !conn.out.is_empty() {
            match conn.stream.write(&conn.out) {
                Ok(n) if n == conn.out.len() => conn.out = Vec::new(),
                Ok(n) => drop(conn.out.drain(..n)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot write"),
            }
        }
        Ok(())
    }

    fn read(&mut self, member: usize, ended: bool) -> Result<()> {
        if self.conns[member].stage == Stage::Dialling {
            return Ok(());
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        loop {
            match self.conns[member].stream.read(&mut scratch) {
                Ok(0) => bail!("the server ended the connection"),
                Ok(n) => {
                    let mut stash = std::mem::take(&mut self.conns[member].stash);
                    if stash.is_empty() {
                        self.take(member, &mut scratch[..n])?;
                    } else {
                        stash.extend_from_slice(&scratch[..n]);
                        self.take(member, &mut stash)?;
                    }
                    if n < SCRATCH_BYTES && !ended {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot read"),
            }
        }
        self.scratch = scratch;
        Ok(())
    }

    fn take(&mut self, member: usize, bytes: &mut [u8]) -> Result<()> {
        let mut at = 0;
        if self.conns[member].stage == Stage::Upgrading {
            let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
                self.conns[member].stash = bytes.to_vec();
                return Ok(());
            };
            if !bytes.starts_with(b"HTTP/1.1 101 ") {
                let line = bytes.split(|&byte| byte == b'\r').next().unwrap_or_default();
                bail!("refused: {}", String::from_utf8_lossy(line));
            }
            self.conns[member].stage = Stage::Open;
            self.open += 1;
            let greeting = self.dialect.greeting(member);
            if !greeting.is_empty() {
                self.say(member, &greeting);
            }
            at = end + 4;
        }
        let now_ns = clock::nanos();
        let Self { arrivals, scanner, inflater, frame_bytes, .. } = self;
        let mut replies = Vec::new();
        while let Some(frame) = frame::next(&mut bytes[at..]) {
            *frame_bytes += frame.bytes as u64;
            match frame.opcode {
                CLOSE => bail!("the server said close: {:?}", String::from_utf8_lossy(frame.payload)),
                PING => replies.push((PONG, frame.payload.to_vec())),
                PONG => {}
                opcode => {
                    let payload = match frame.deflated {
                        false => frame.payload,
                        true => match inflater.open(opcode == TEXT, frame.payload, MESSAGE_BYTES_MAX) {
                            Ok(Incoming::Text(text)) => text.as_bytes(),
                            Ok(Incoming::Binary(bytes)) => bytes,
                            other => bail!("a compressed message is none: {other:?}"),
                        },
                    };
                    scanner.scan(payload, |stamp| arrivals.push(Arrival { member, stamp, now_ns }));
                    if let Some(answer) = self.dialect.answer(payload) {
                        replies.push((self.dialect.opcode(), answer.as_bytes().to_vec()));
                    }
                }
            }
            at += frame.bytes;
        }
        if at < bytes.len() {
            self.conns[member].stash = bytes[at..].to_vec();
        }
        for (opcode, payload) in replies {
            self.queue(member, opcode, &payload);
        }
        Ok(())
    }
}

impl Drop for Crowd<'_> {
    fn drop(&mut self) {
        for conn in &self.conns {
            // The next crowd needs the ports.
            conn.stream.end_by_reset();
        }
    }
}
