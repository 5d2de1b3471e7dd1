//! The attackers of one thread: as many as the gateway lets in, as fast as it takes what they send.
//!
//! Owns: [`run`], a loop with a poll of its own. It gives way to the measuring thread: its priority
//! is low, its turns are short, and it never waits longer than [`TICK_NS`].
//! Never: decodes what the gateway sends, but for the status of an answer and the code of a close
//! frame.
//! Bounds: attackers by the run, attempts under way and per second, reads, writes and attempts per
//! turn by constants.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::time::Duration;

use anyhow::{Context, Result};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

use super::kind::{Kind, Manner};
use super::payload::Payload;
use super::signals::{Counts, FloodStage, Signals};
use super::{FloodUser, Target};
use crate::clock::thread_cpu_ns;
use crate::limits::{EVENTS_MAX, FLOOD_CONNECTING_MAX, READ_BYTES, TURN_DIALS_MAX};
use crate::net::{dial, source};
use crate::upgrade::{Handshake, Profile, Refused};

/// Attackers that write, and that read, in one turn.
const TURN_ATTACKERS_MAX: usize = 128;
/// Holders that send a byte in one turn.
const TURN_TRICKLES_MAX: usize = 256;
/// Between two bytes of a holder.
const TRICKLE_NS: u64 = 1_000_000_000;
/// Longest wait: the stage is looked at so often.
const TICK_NS: u64 = 5_000_000;
/// Longest stretch for which a pace is made up.
const BURST_NS: u64 = 10_000_000;
/// A control frame from the server is not longer.
const CONTROL_BYTES_MAX: usize = 127;
/// How much lower than the measuring thread's the priority is.
const NICE: i32 = 10;

/// What became of the attackers of one thread.
#[derive(Clone, PartialEq, Default, Debug)]
pub(crate) struct Fates {
    /// Close codes of sessions that the gateway closed.
    pub(crate) closes: BTreeMap<u16, u64>,
    /// Statuses of HTTP answers, refused upgrades among them.
    pub(crate) statuses: BTreeMap<u16, u64>,
    /// CPU time of the thread while the flood lasted, and how long that was, in nanoseconds.
    pub(crate) cpu_ns: u64,
    pub(crate) flood_ns: u64,
}

#[derive(Debug)]
enum Step {
    Off,
    Connecting,
    Upgrading(Box<Handshake>),
    /// Connected, or, as a session or guest, upgraded.
    Standing,
}

/// One attacker's connection.
#[derive(Debug)]
struct Attacker {
    stream: Option<TcpStream>,
    step: Step,
    manner: Manner,
    /// Tells readiness of this socket from that of an earlier one.
    generation: u32,
    /// What is written before anything else.
    opening: Vec<u8>,
    /// The place in the round.
    offset: usize,
    /// Whether the status of the answer was seen.
    answered: bool,
    /// Whether it stands in the list of those that write, or read.
    writes: bool,
    reads: bool,
}

struct Attack<'a> {
    target: &'a Target,
    payload: &'a Payload,
    signals: &'a Signals,
    counts: &'a Counts,
    kind: Kind,
    lane: usize,
    poll: Poll,
    attackers: Vec<Attacker>,
    writable: VecDeque<u32>,
    readable: VecDeque<u32>,
    /// To be dialled, for the first time or again.
    off: VecDeque<u32>,
    connecting: usize,
    dial_at_ns: u64,
    trickle_at_ns: u64,
    trickled: usize,
    flooding: bool,
    scratch: Vec<u8>,
    round: Vec<u8>,
    fates: Fates,
}

/// Attacks with this thread's share of `attackers` until the flood is over.
pub(crate) fn run(
    target: &Target,
    payload: &Payload,
    kind: Kind,
    signals: &Signals,
    lane: usize,
    attackers: usize,
) -> Result<Fates> {
    // Of this thread alone. Without it measurements suffer, which they say themselves.
    let _ = rustix::process::nice(NICE);
    let places = (lane..attackers).step_by(target.threads);
    let attacker = |place| Attacker {
        stream: None,
        step: Step::Off,
        manner: kind.manner(place),
        generation: 0,
        opening: Vec::new(),
        offset: 0,
        answered: false,
        writes: false,
        reads: false,
    };
    let attackers: Vec<Attacker> = places.map(attacker).collect();
    let mut attack = Attack {
        target,
        payload,
        signals,
        counts: &signals.lanes[lane],
        kind,
        lane,
        poll: Poll::new().context("epoll")?,
        off: (0..attackers.len() as u32).collect(),
        attackers,
        writable: VecDeque::new(),
        readable: VecDeque::new(),
        connecting: 0,
        dial_at_ns: 0,
        trickle_at_ns: 0,
        trickled: 0,
        flooding: false,
        scratch: vec![0; READ_BYTES],
        round: Vec::new(),
        fates: Fates::default(),
    };
    attack.run()?;
    Ok(attack.fates)
}

impl Attack<'_> {
    fn run(&mut self) -> Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let (mut cpu_ns, mut begun_ns) = (thread_cpu_ns(), self.target.clock.nanos());
        loop {
            let now_ns = self.target.clock.nanos();
            let stage = self.signals.stage();
            if stage >= FloodStage::After {
                self.fates.cpu_ns = thread_cpu_ns() - cpu_ns;
                self.fates.flood_ns = now_ns - begun_ns;
                return Ok(());
            }
            if stage == FloodStage::Flooding && !std::mem::replace(&mut self.flooding, true) {
                (cpu_ns, begun_ns) = (thread_cpu_ns(), now_ns);
                (0..self.attackers.len() as u32).for_each(|place| self.wants_to_write(place));
            }
            let dial_at = self.dial_some(now_ns, stage);
            self.trickle(now_ns);
            self.write_some();
            self.read_some();
            let busy = !self.writable.is_empty() || !self.readable.is_empty();
            let wait_ns = if busy { 0 } else { dial_at.saturating_sub(now_ns).min(TICK_NS) };
            match self.poll.poll(&mut events, Some(Duration::from_nanos(wait_ns))) {
                Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e).context("epoll"),
                _ => {}
            }
            for event in events.iter() {
                let (generation, place) = ((event.token().0 >> 32) as u32, event.token().0 as u32);
                if self.attackers[place as usize].generation == generation {
                    self.ready(place, event.is_writable(), event.is_read_closed() || event.is_error());
                }
            }
        }
    }

    /// The attacker's place among those of all threads.
    const fn overall(&self, place: u32) -> usize {
        place as usize * self.target.threads + self.lane
    }

    /// Begins as many connections as the pace allows. Returns when the next may begin.
    fn dial_some(&mut self, now_ns: u64, stage: FloodStage) -> u64 {
        self.dial_at_ns = self.dial_at_ns.max(now_ns.saturating_sub(BURST_NS));
        for _ in 0..TURN_DIALS_MAX {
            if self.connecting >= FLOOD_CONNECTING_MAX {
                return u64::MAX;
            }
            if self.dial_at_ns > now_ns {
                return self.dial_at_ns;
            }
            let Some(place) = self.off.front().copied() else { return u64::MAX };
            // All of a flood gather or none does.
            if stage < FloodStage::Gathering || (stage == FloodStage::Gathering && !self.kind.manner(1).gathers()) {
                return u64::MAX;
            }
            self.off.pop_front();
            self.dial_at_ns += self.target.connect_gap_ns;
            if self.dial(place).is_err() {
                // Want of ports or descriptors: whatever it is, it is not the gateway's doing.
                self.counts.short.add(1);
                self.off.push_back(place);
                return now_ns + TICK_NS;
            }
        }
        now_ns
    }

    fn dial(&mut self, place: u32) -> io::Result<()> {
        let overall = self.overall(place);
        let sources = self.target.sources;
        let source = (sources > 1).then(|| source((overall % usize::from(sources)) as u8));
        let attacker = &mut self.attackers[place as usize];
        let mut stream = dial(self.target.address, source, attacker.manner.is_deaf())?;
        attacker.generation = attacker.generation.wrapping_add(1) & 0x7fff_ffff;
        let token = Token((attacker.generation as usize) << 32 | place as usize);
        self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        attacker.stream = Some(stream);
        attacker.step = Step::Connecting;
        attacker.answered = false;
        attacker.offset = self.payload.start(overall);
        self.connecting += 1;
        Ok(())
    }

    /// A connection that the gateway has ended or refused; it is dialled again as soon as the pace
    /// allows.
    fn lose(&mut self, place: u32) {
        if self.let_go(place) {
            self.counts.ended.add(1);
        }
    }

    /// Lets go of a connection. False: there was none.
    fn let_go(&mut self, place: u32) -> bool {
        let attacker = &mut self.attackers[place as usize];
        if attacker.stream.take().is_none() {
            return false;
        }
        match std::mem::replace(&mut attacker.step, Step::Off) {
            Step::Standing => self.counts.standing.sub(1),
            _ => self.connecting -= 1,
        }
        attacker.opening = Vec::new();
        self.off.push_back(place);
        true
    }

    fn stands(&mut self, place: u32) {
        self.attackers[place as usize].step = Step::Standing;
        self.connecting -= 1;
        self.counts.standing.add(1);
        self.counts.stood.add(1);
    }

    fn ready(&mut self, place: u32, writable: bool, ended: bool) {
        let attacker = &self.attackers[place as usize];
        let Some(stream) = &attacker.stream else { return };
        if matches!(attacker.step, Step::Connecting) {
            match stream.take_error() {
                Ok(None) if stream.peer_addr().is_ok() => self.connected(place),
                Ok(None) => {}
                Ok(Some(_)) | Err(_) => self.lose(place),
            }
            return;
        }
        let reads = !(attacker.manner.is_deaf() && matches!(attacker.step, Step::Standing));
        if writable {
            self.wants_to_write(place);
        }
        if reads {
            self.wants_to_read(place);
        } else if ended {
            self.lose(place);
        }
    }

    fn wants_to_write(&mut self, place: u32) {
        let attacker = &mut self.attackers[place as usize];
        if attacker.stream.is_some() && !std::mem::replace(&mut attacker.writes, true) {
            self.writable.push_back(place);
        }
    }

    fn wants_to_read(&mut self, place: u32) {
        let attacker = &mut self.attackers[place as usize];
        if !std::mem::replace(&mut attacker.reads, true) {
            self.readable.push_back(place);
        }
    }

    /// The TCP connection stands.
    fn connected(&mut self, place: u32) {
        let overall = self.overall(place);
        let host = &self.target.public.host;
        let attacker = &mut self.attackers[place as usize];
        match attacker.manner {
            Manner::Session | Manner::DeafSession => {
                let FloodUser { id, token } = self.payload.user(overall);
                let (handshake, request) = Handshake::new(host, *id, token, Profile::V2);
                attacker.step = Step::Upgrading(Box::new(handshake));
                attacker.opening = request;
            }
            Manner::Guest => {
                let (handshake, request) = Handshake::guest(host);
                attacker.step = Step::Upgrading(Box::new(handshake));
                attacker.opening = request;
            }
            Manner::Knocker { resets } => {
                if let (true, Some(stream)) = (resets, &attacker.stream) {
                    // If it cannot be set, it goes without a reset.
                    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
                }
                self.stands(place);
                self.let_go(place);
                return;
            }
            Manner::Holder { .. } | Manner::Sitter | Manner::Deaf | Manner::Caller => {
                attacker.opening = self.payload.opening(overall);
                self.stands(place);
            }
        }
        self.wants_to_write(place);
    }

    fn write_some(&mut self) {
        for _ in 0..self.writable.len().min(TURN_ATTACKERS_MAX) {
            let Some(place) = self.writable.pop_front() else { return };
            self.attackers[place as usize].writes = false;
            match self.write(place) {
                Ok(true) => self.wants_to_write(place),
                Ok(false) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => self.wants_to_write(place),
                // What the gateway said before it went is read first.
                Err(_) if !self.attackers[place as usize].manner.is_deaf() => self.wants_to_read(place),
                Err(_) => self.lose(place),
            }
        }
    }

    /// One write. True: there is more to be written.
    fn write(&mut self, place: u32) -> io::Result<bool> {
        let overall = self.overall(place);
        let attacker = &mut self.attackers[place as usize];
        let Some(stream) = &mut attacker.stream else { return Ok(false) };
        if !attacker.opening.is_empty() {
            let n = stream.write(&attacker.opening)?;
            attacker.opening.drain(..n);
            self.counts.sent_bytes.add(n as u64);
            return Ok(!attacker.opening.is_empty());
        }
        if !(self.flooding && attacker.manner.gathers() && matches!(attacker.step, Step::Standing)) {
            return Ok(false);
        }
        let round = self.payload.round(overall, &mut self.round);
        // One write is a stretch of the round that is no longer than the scratch of a turn.
        let end = round.len().min(attacker.offset + READ_BYTES);
        let n = stream.write(&round[attacker.offset..end])?;
        attacker.offset = (attacker.offset + n) % round.len();
        self.counts.sent_bytes.add(n as u64);
        Ok(true)
    }

    fn read_some(&mut self) {
        for _ in 0..self.readable.len().min(TURN_ATTACKERS_MAX) {
            let Some(place) = self.readable.pop_front() else { return };
            self.attackers[place as usize].reads = false;
            self.read(place);
        }
    }

    /// One read. A full scratch means that there may be more.
    fn read(&mut self, place: u32) {
        let attacker = &mut self.attackers[place as usize];
        let Some(stream) = &mut attacker.stream else { return };
        let n = match stream.read(&mut self.scratch) {
            Ok(0) => return self.lose(place),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return self.wants_to_read(place),
            Err(_) => return self.lose(place),
        };
        self.counts.received_bytes.add(n as u64);
        self.wants_to_read(place);
        let attacker = &mut self.attackers[place as usize];
        let bytes = &self.scratch[..n];
        match (&mut attacker.step, attacker.manner) {
            (Step::Upgrading(handshake), _) => match handshake.feed(bytes) {
                Ok(None) => {}
                Ok(Some(rest)) => {
                    note(&mut self.fates.closes, close_code(rest));
                    self.stands(place);
                    self.wants_to_write(place);
                }
                Err(Refused::Status(line)) => {
                    note(&mut self.fates.statuses, status(line.as_bytes()));
                    self.lose(place);
                }
                Err(_) => self.lose(place),
            },
            (_, Manner::Session | Manner::DeafSession | Manner::Guest) => {
                note(&mut self.fates.closes, close_code(bytes));
            }
            _ if !std::mem::replace(&mut attacker.answered, true) => note(&mut self.fates.statuses, status(bytes)),
            _ => {}
        }
    }

    /// Holders that trickle send a byte each second, some of them in each turn.
    fn trickle(&mut self, now_ns: u64) {
        if now_ns < self.trickle_at_ns || !self.flooding {
            return;
        }
        for _ in 0..TURN_TRICKLES_MAX {
            let Some(attacker) = self.attackers.get_mut(self.trickled) else {
                self.trickled = 0;
                self.trickle_at_ns = now_ns + TRICKLE_NS;
                return;
            };
            self.trickled += 1;
            let trickles = attacker.manner == Manner::Holder { trickles: true } && attacker.opening.is_empty();
            if let (true, Some(stream)) = (trickles, &mut attacker.stream) {
                // A connection that is gone says so when it is read.
                let _ = stream.write(b"a");
            }
        }
    }
}

fn note(counts: &mut BTreeMap<u16, u64>, key: Option<u16>) {
    if let Some(key) = key {
        *counts.entry(key).or_default() += 1;
    }
}

/// The status of an answer whose beginning this is.
fn status(bytes: &[u8]) -> Option<u16> {
    std::str::from_utf8(bytes.strip_prefix(b"HTTP/1.1 ")?.get(..3)?).ok()?.parse().ok()
}

/// The code of the close frame that these bytes end with, if they do.
fn close_code(bytes: &[u8]) -> Option<u16> {
    let from = bytes.len().saturating_sub(CONTROL_BYTES_MAX);
    (from..bytes.len()).find_map(|at| {
        let [0x88, length, high, low, reason @ ..] = &bytes[at..] else { return None };
        let code = u16::from_be_bytes([*high, *low]);
        (usize::from(*length) == reason.len() + 2 && (1_000..5_000).contains(&code)).then_some(code)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_frame_at_the_end_is_found() {
        assert_eq!(close_code(b"\x81\x02hi\x88\x06\x11\x94slow"), Some(4500));
        assert_eq!(close_code(b"\x88\x02\x03\xe8"), Some(1000));
        for other in [&b""[..], b"\x88\x00", b"\x88\x02\x03\xe8x", b"\x88\x02\x00\x01", b"hello"] {
            assert_eq!(close_code(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_status_is_found() {
        assert_eq!(status(b"HTTP/1.1 408 Request Timeout\r\n"), Some(408));
        assert_eq!(status(b"HTTP/1.1 4"), None);
        assert_eq!(status(b"\x88\x00"), None);
    }
}
