//! The floor: the least that a broadcast server can do, to measure the others by.
//!
//! Owns: a bare epoll loop (mio) that upgrades, decodes, and hands on what it hears: to everybody
//! else (`g…`), or to one member (`d`, eight digits of the member's number, …). A member's number
//! is the path of its upgrade. Nothing is parsed, proven, stored, limited or pinged. Honest:
//! non-blocking, one preframed buffer per message, one send per delivery (or, coalescing, one
//! contiguous send per member of what has gathered), no allocation per delivery. What a socket does
//! not take waits in a backlog.
//! Bounds: [`BACKLOG_BYTES_MAX`] a member; beyond it the member is dropped, which no measurement
//! survives unnoticed.

use std::io::{self, Read, Write};
use std::time::Duration;

use imgate::ws::frame::{CLOSE, PING, PONG, TEXT, write_header};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use tungstenite::handshake::derive_accept_key;

use crate::clock;
use crate::frame;

/// Bytes that wait for a member whose socket is full.
const BACKLOG_BYTES_MAX: usize = 64 * 1024 * 1024;
const SCRATCH_BYTES: usize = 64 * 1024;
const EVENTS_MAX: usize = 1024;
const LISTENER: Token = Token(usize::MAX);

/// When a group's message leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FloorPace {
    /// At once, each on its own.
    Each,
    /// With what else has been read in the same turn of the loop.
    Turn,
    /// With what has been read in so many nanoseconds after the first.
    Wait(u64),
}

#[expect(clippy::box_collection, reason = "an idle member has neither, and a box is a third of a vector")]
struct Member {
    stream: TcpStream,
    /// Bytes that the socket did not take.
    backlog: Option<Box<Vec<u8>>>,
    /// A frame or a request head of which a part has come.
    stash: Option<Box<Vec<u8>>>,
    number: u32,
    open: bool,
    dead: bool,
}

/// A group message that waits for others: who wrote it, and where it begins in the batch.
struct Part {
    author: usize,
    begin: usize,
}

/// The server.
pub struct Floor {
    poll: Poll,
    listener: TcpListener,
    members: Slab<Member>,
    /// The slot of each member by its number.
    slots: Vec<usize>,
    pace: FloorPace,
    /// Frames that wait, contiguous.
    batch: Vec<u8>,
    parts: Vec<Part>,
    /// When the batch leaves.
    due_ns: u64,
    scratch: Vec<u8>,
    /// The frame that is being sent.
    sending: Vec<u8>,
}

impl Floor {
    /// Listens on `address`, which the caller has chosen.
    ///
    /// # Errors
    /// As the system says.
    pub fn bind(address: std::net::SocketAddr, pace: FloorPace) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(address)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            poll,
            listener,
            members: Slab::new(),
            slots: Vec::new(),
            pace,
            batch: Vec::new(),
            parts: Vec::new(),
            due_ns: 0,
            scratch: vec![0; SCRATCH_BYTES],
            sending: Vec::new(),
        })
    }

    /// Serves until the process ends.
    ///
    /// # Errors
    /// The poll is broken.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        loop {
            match self.poll.poll(&mut events, self.patience()) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                if event.token() == LISTENER {
                    self.accept()?;
                    continue;
                }
                let slot = event.token().0;
                if event.is_writable() {
                    self.flush(slot);
                }
                if event.is_readable() || event.is_read_closed() {
                    self.read(slot, event.is_read_closed());
                }
            }
            if !self.parts.is_empty() && (self.pace == FloorPace::Turn || clock::nanos() >= self.due_ns) {
                self.send_batch();
            }
        }
    }

    fn patience(&self) -> Option<Duration> {
        // A poll rounds up to milliseconds.
        (!self.parts.is_empty()).then(|| Duration::from_nanos(self.due_ns.saturating_sub(clock::nanos())))
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((mut stream, _)) => {
                    stream.set_nodelay(true)?;
                    let entry = self.members.vacant_entry();
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    self.poll.registry().register(&mut stream, Token(entry.key()), interest)?;
                    entry.insert(Member { stream, backlog: None, stash: None, number: 0, open: false, dead: false });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn read(&mut self, slot: usize, ending: bool) {
        let mut scratch = std::mem::take(&mut self.scratch);
        while let Some(member) = self.members.get_mut(slot) {
            match member.stream.read(&mut scratch) {
                Ok(n) if n > 0 => {
                    match member.stash.take() {
                        Some(mut stash) => {
                            stash.extend_from_slice(&scratch[..n]);
                            self.take(slot, &mut stash);
                        }
                        None => self.take(slot, &mut scratch[..n]),
                    }
                    if n < SCRATCH_BYTES && !ending {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => member.dead = true,
            }
            if self.members.get(slot).is_some_and(|member| member.dead) {
                self.members.remove(slot);
            }
        }
        self.scratch = scratch;
    }

    /// Understands what has come, and keeps what is incomplete.
    fn take(&mut self, slot: usize, bytes: &mut [u8]) {
        let mut at = 0;
        if !self.members[slot].open {
            let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
                self.members[slot].stash = Some(Box::new(bytes.to_vec()));
                return;
            };
            self.upgrade(slot, &bytes[..end]);
            at = end + 4;
        }
        while let Some(frame) = frame::next(&mut bytes[at..]) {
            let (opcode, whole) = (frame.opcode, frame.bytes);
            match opcode {
                CLOSE => self.members[slot].dead = true,
                PING => {
                    write_frame(&mut self.sending, PONG, frame.payload);
                    send(&mut self.members[slot], &self.sending);
                }
                PONG => {}
                _ => self.hand_on(slot, frame.payload),
            }
            at += whole;
        }
        if at < bytes.len() {
            self.members[slot].stash = Some(Box::new(bytes[at..].to_vec()));
        }
    }

    fn upgrade(&mut self, slot: usize, head: &[u8]) {
        let member = &mut self.members[slot];
        let head = String::from_utf8_lossy(head);
        let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
        let number = head.split(' ').nth(1).and_then(|path| path.trim_start_matches('/').parse::<u32>().ok());
        let (Some(key), Some(number)) = (key, number) else {
            member.dead = true;
            return;
        };
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
            derive_accept_key(key.trim().as_bytes())
        );
        (member.open, member.number) = (true, number);
        send(member, answer.as_bytes());
        let number = number as usize;
        if self.slots.len() <= number {
            self.slots.resize(number + 1, usize::MAX);
        }
        self.slots[number] = slot;
    }

    fn hand_on(&mut self, author: usize, payload: &[u8]) {
        match payload.first() {
            Some(b'd') => {
                let number =
                    payload.get(1..9).and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<usize>().ok());
                let slot = number.and_then(|number| self.slots.get(number)).copied();
                write_frame(&mut self.sending, TEXT, payload);
                if let Some(member) = slot.and_then(|slot| self.members.get_mut(slot)) {
                    send(member, &self.sending);
                }
            }
            _ if self.pace == FloorPace::Each => {
                write_frame(&mut self.sending, TEXT, payload);
                for (slot, member) in &mut self.members {
                    if slot != author && member.open {
                        send(member, &self.sending);
                    }
                }
            }
            _ => {
                if self.parts.is_empty()
                    && let FloorPace::Wait(ns) = self.pace
                {
                    self.due_ns = clock::nanos() + ns;
                }
                self.parts.push(Part { author, begin: self.batch.len() });
                write_header(&mut self.batch, TEXT, payload.len());
                self.batch.extend_from_slice(payload);
            }
        }
    }

    /// One contiguous send to each member of everything that has gathered; authors get what others
    /// wrote.
    fn send_batch(&mut self) {
        for (slot, member) in &mut self.members {
            if !member.open {
                continue;
            }
            if !self.parts.iter().any(|part| part.author == slot) {
                send(member, &self.batch);
                continue;
            }
            self.sending.clear();
            for (i, part) in self.parts.iter().enumerate().filter(|(_, part)| part.author != slot) {
                let end = self.parts.get(i + 1).map_or(self.batch.len(), |next| next.begin);
                self.sending.extend_from_slice(&self.batch[part.begin..end]);
            }
            if !self.sending.is_empty() {
                send(member, &self.sending);
            }
        }
        self.batch.clear();
        self.parts.clear();
    }

    fn flush(&mut self, slot: usize) {
        let Some(member) = self.members.get_mut(slot) else { return };
        if let Some(backlog) = member.backlog.take() {
            send(member, &backlog);
        }
    }
}

fn write_frame(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.clear();
    write_header(out, opcode, payload.len());
    out.extend_from_slice(payload);
}

/// One send; what the socket does not take waits.
fn send(member: &mut Member, bytes: &[u8]) {
    if let Some(backlog) = &mut member.backlog {
        backlog.extend_from_slice(bytes);
        member.dead |= backlog.len() > BACKLOG_BYTES_MAX;
        return;
    }
    match member.stream.write(bytes) {
        Ok(n) if n == bytes.len() => {}
        Ok(n) => member.backlog = Some(Box::new(bytes[n..].to_vec())),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => member.backlog = Some(Box::new(bytes.to_vec())),
        // Its end is read as well, and buries it.
        Err(_) => member.dead = true,
    }
}
