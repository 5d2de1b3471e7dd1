//! The loop of one engine thread: poll, read, let the actor act, flush, sleep until something is
//! due.
//!
//! Owns: [`Actor`], what a scenario implements, and [`run`]. A scenario never sees a socket.
//! Never: waits longer than [`TICK_NS`]; calls an actor for a connection that is not open.
//! Bounds: events, and bytes read from one connection, per turn.

use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use anyhow::{Context, Result};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::board::Phase;
use crate::deflate::Inflater;
use crate::frame::{Frame, Opcode};
use crate::limits::{AWAY_MS_MAX, CLOSE_NS_MAX, EVENTS_MAX, LEISURE_NS, READ_BYTES, TICK_NS, TURN_READ_BYTES_MAX};
use crate::net::{ConnStage, Net, Plan};
use crate::upgrade::Refused;

/// What a scenario does with the connections of one thread.
pub(crate) trait Actor: Send {
    /// A member's connection stands, for the first time or `again`.
    fn opened(&mut self, _net: &mut Net, _member: u32, _again: bool) {}
    /// A text message has come; `now_ns` is the time at which it was read.
    fn text(&mut self, net: &mut Net, member: u32, text: &str, now_ns: u64);
    /// An answer to a ping has come.
    fn pong(&mut self, _net: &mut Net, _member: u32) {}
    /// A connection that was open has gone, unwanted.
    fn closed(&mut self, _net: &mut Net, _member: u32) {}
    /// Once per turn. Returns when it wants to be called at the latest.
    fn turn(&mut self, net: &mut Net, now_ns: u64) -> u64;
}

/// The token of a [`Timer`]; no connection has it.
pub(crate) const TIMER: Token = Token(usize::MAX);

/// A timer of nanosecond resolution: `epoll_wait` itself rounds up to milliseconds, which would be
/// in every latency.
pub(crate) struct Timer {
    fd: OwnedFd,
    armed_ns: u64,
}

impl Timer {
    pub(crate) fn new(poll: &Poll) -> io::Result<Self> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        poll.registry().register(&mut SourceFd(&fd.as_raw_fd()), TIMER, Interest::READABLE)?;
        Ok(Self { fd, armed_ns: 0 })
    }

    /// Wakes the poll at `at_ns` or earlier. Being woken in vain is cheaper than setting the timer
    /// again each turn.
    pub(crate) fn arm(&mut self, at_ns: u64, now_ns: u64) -> io::Result<()> {
        if self.armed_ns > now_ns && self.armed_ns <= at_ns {
            return Ok(());
        }
        let wait = at_ns.saturating_sub(now_ns).max(1);
        let it_value =
            Timespec { tv_sec: (wait / 1_000_000_000) as i64, tv_nsec: (wait % 1_000_000_000) as rustix::time::Nsecs };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &Itimerspec { it_interval, it_value })?;
        self.armed_ns = at_ns;
        Ok(())
    }
}

struct Engine<A> {
    net: Net,
    actor: A,
    scratch: Vec<u8>,
    inflater: Inflater,
    /// Connections with more to read than one turn allows.
    unread: Vec<u32>,
    /// Whether the readers that stall were not reading in the last turn.
    asleep: bool,
    /// Whose turn it is among the members that are read at leisure, and since when.
    leisure: (usize, u64),
}

/// Runs one thread's connections until the board says stop, and gives the actor back with what it
/// has learnt. `logins`: for each member its place in the tokens file.
pub(crate) fn run<A: Actor>(plan: Arc<Plan>, lane: usize, logins: &[u32], actor: A) -> Result<A> {
    let mut poll = Poll::new().context("epoll")?;
    let mut timer = Timer::new(&poll).context("timerfd")?;
    let registry = poll.registry().try_clone().context("epoll")?;
    let seed = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(lane as u64 + 1);
    let net = Net::new(plan, lane, registry, logins, seed);
    let mut engine = Engine {
        net,
        actor,
        scratch: vec![0; READ_BYTES],
        inflater: Inflater::default(),
        unread: Vec::new(),
        asleep: false,
        leisure: (0, 0),
    };
    let mut events = Events::with_capacity(EVENTS_MAX);
    let mut stop_ns = None;
    loop {
        let now_ns = engine.net.plan().clock.nanos();
        let wake_ns = engine.turn(now_ns);
        match (engine.net.board().phase(), stop_ns) {
            (Phase::Stopping, None) => {
                engine.close_all();
                stop_ns = Some(now_ns + CLOSE_NS_MAX);
            }
            (_, Some(stop)) if stop <= now_ns || engine.net.lane().open.get() == 0 => return Ok(engine.actor),
            _ => {}
        }
        let timeout = (!engine.unread.is_empty() || wake_ns <= now_ns).then_some(std::time::Duration::ZERO);
        if timeout.is_none() {
            timer.arm(wake_ns, now_ns).context("timerfd")?;
        }
        match poll.poll(&mut events, timeout) {
            Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e).context("epoll"),
            _ => {}
        }
        for member in std::mem::take(&mut engine.unread) {
            engine.read(member, false);
        }
        for event in events.iter() {
            if let Some(member) = engine.net.member_of(event.token()) {
                engine.ready(member, event.is_writable(), event.is_read_closed() || event.is_error());
            }
        }
    }
}

impl<A: Actor> Engine<A> {
    /// Everything that is not caused by a socket. Returns when the next turn is due.
    fn turn(&mut self, now_ns: u64) -> u64 {
        let phase = self.net.board().phase();
        let mut wake = now_ns + TICK_NS;
        if std::mem::replace(&mut self.asleep, self.net.board().asleep()) && !self.asleep {
            // The readiness of what they did not read has been told before.
            self.unread.extend((0..self.net.conns.len() as u32).filter(|member| self.net.is_narrow(*member)));
        }
        if phase < Phase::Stopping {
            for member in self.net.overdue(now_ns) {
                self.net.lane().timeouts.add(1);
                self.lose(member, false, &"no answer in time");
            }
            wake = wake.min(self.net.dial(now_ns));
            wake = wake.min(self.actor.turn(&mut self.net, now_ns));
        }
        self.read_at_leisure(now_ns);
        for (member, error) in self.net.flush() {
            self.lose(member, false, &error);
        }
        wake
    }

    /// Reads the next of the members that are not watched: all of them within [`LEISURE_NS`],
    /// evenly.
    fn read_at_leisure(&mut self, now_ns: u64) {
        let (place, since_ns) = self.leisure;
        let all = self.net.conns.len();
        let part = (u128::from(now_ns - since_ns) * all as u128 / u128::from(LEISURE_NS)).min(all as u128) as usize;
        if part == 0 || self.net.plan().leisure_from == usize::MAX {
            return;
        }
        self.leisure = ((place + part) % all, now_ns);
        for member in (place..place + part).map(|place| (place % all) as u32) {
            if self.net.is_watched(member) {
                continue;
            }
            match self.net.conns[member as usize].stage {
                ConnStage::Open | ConnStage::Closing => {}
                _ => continue,
            }
            // What could not be written when it was queued.
            match self.net.write(member) {
                Ok(()) => self.read(member, false),
                Err(error) => self.lose(member, false, &error),
            }
        }
    }

    fn ready(&mut self, member: u32, writable: bool, ended: bool) {
        if matches!(self.net.conns[member as usize].stage, ConnStage::Connecting) {
            match self.net.connected(member) {
                Ok(_) => return,
                Err(error) => return self.lose(member, false, &error),
            }
        }
        if writable && let Err(error) = self.net.write(member) {
            return self.lose(member, false, &error);
        }
        self.read(member, ended);
    }

    /// Reads until the socket is drained: a short read says so, unless the end of the stream stands
    /// behind it.
    fn read(&mut self, member: u32, ended: bool) {
        if self.asleep && self.net.is_narrow(member) && self.net.is_open(member) {
            return;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut budget = TURN_READ_BYTES_MAX;
        while let Some(stream) = &mut self.net.conns[member as usize].stream {
            match stream.read(&mut scratch) {
                Ok(0) => self.lose(member, false, &"the server ended the connection"),
                Ok(n) => {
                    self.net.lane().bytes_received.add(n as u64);
                    self.take(member, &scratch[..n]);
                    if n < scratch.len() && !ended {
                        break;
                    }
                    budget = budget.saturating_sub(n);
                    if budget == 0 {
                        self.unread.push(member);
                        break;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => self.lose(member, false, &e),
            }
        }
        self.scratch = scratch;
    }

    fn take(&mut self, member: u32, bytes: &[u8]) {
        match &mut self.net.conns[member as usize].stage {
            ConnStage::Upgrading(handshake) => match handshake.feed(bytes) {
                Ok(None) => {}
                Ok(Some(rest)) => {
                    let again = !self.net.upgraded(member);
                    if !self.net.is_watched(member) {
                        self.net.read_at_leisure(member);
                    }
                    self.actor.opened(&mut self.net, member, again);
                    self.frames(member, rest);
                }
                Err(refused) => {
                    // Only an overloaded server may change its mind.
                    let last = !matches!(&refused, Refused::Status(line) if line.contains(" 503"));
                    self.lose(member, last, &refused);
                }
            },
            ConnStage::Open | ConnStage::Closing => self.frames(member, bytes),
            ConnStage::Off | ConnStage::Connecting | ConnStage::Gone => {}
        }
    }

    fn frames(&mut self, member: u32, bytes: &[u8]) {
        let now_ns = self.net.plan().clock.nanos();
        let Self { net, actor, inflater, .. } = self;
        let (deflate, mut damaged) = (net.conns[member as usize].deflate, false);
        let mut decoder = std::mem::take(&mut net.conns[member as usize].decoder);
        let mut closed = None;
        let fed = decoder.feed_as(deflate, bytes, |frame| match frame {
            Frame::Text(text) => actor.text(net, member, text, now_ns),
            Frame::Packed(payload) => match inflater.open(payload).and_then(|bytes| std::str::from_utf8(bytes).ok()) {
                Some(text) => {
                    net.lane().packed.add(1);
                    net.lane().packed_bytes.add(payload.len() as u64);
                    net.lane().inflated_bytes.add(text.len() as u64);
                    actor.text(net, member, text, now_ns);
                }
                None => damaged = true,
            },
            Frame::Ping(payload) => {
                net.queue(member, Opcode::Pong, payload);
            }
            Frame::Pong(_) => actor.pong(net, member),
            Frame::Close(code, reason) => closed = Some((code, away_ms(code, reason))),
            Frame::Binary(_) => {}
        });
        net.conns[member as usize].decoder = decoder;
        if let Err(fault) = fed {
            return self.lose(member, true, &format_args!("the server broke RFC 6455: {fault}"));
        }
        if damaged {
            return self.lose(member, true, &"a compressed message that is none (RFC 7692)");
        }
        if let Some((code, away_ms)) = closed {
            if let Some(away_ms) = away_ms {
                self.net.stay_away(member, away_ms);
            }
            self.close_by_server(member, code);
        }
    }

    /// Answers the server's close frame and lets go. 4500 and above mean: do not come back.
    fn close_by_server(&mut self, member: u32, code: Option<u16>) {
        if self.net.is_open(member) {
            let echo = code.map(u16::to_be_bytes);
            self.net.queue(member, Opcode::Close, echo.as_ref().map_or(&[], |code| &code[..]));
            // Whether the last frame still leaves is the server's luck.
            let _ = self.net.write(member);
        }
        let last = code.is_some_and(|code| code >= 4500);
        match code {
            Some(code) => self.lose(member, last, &format_args!("the server closed with code {code}")),
            None => self.lose(member, last, &"the server closed without a code"),
        }
    }

    fn lose(&mut self, member: u32, last: bool, why: &dyn std::fmt::Display) {
        let now_ns = self.net.plan().clock.nanos();
        if self.net.lose(member, now_ns, last, why) {
            self.actor.closed(&mut self.net, member);
        }
    }

    fn close_all(&mut self) {
        for member in 0..self.net.conns.len() as u32 {
            self.net.close(member);
        }
        for (member, error) in self.net.flush() {
            self.lose(member, false, &error);
        }
    }
}

/// How long a gateway that stops wants the client to stay away: each is told its own time.
fn away_ms(code: Option<u16>, reason: &str) -> Option<u64> {
    let digits = reason.split_once("retry_ms=").filter(|_| code == Some(4000))?.1;
    digits.parse().ok().filter(|ms| *ms <= AWAY_MS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_gateway_that_stops_sends_somebody_away_for_a_time() {
        assert_eq!(away_ms(Some(4000), "shutdown retry_ms=7312"), Some(7312));
        for (code, reason) in [
            (Some(4000), "shutdown"),
            (Some(4000), "shutdown retry_ms="),
            (Some(4000), "shutdown retry_ms=1000000000"),
            (Some(4001), "slow retry_ms=5"),
            (None, ""),
        ] {
            assert_eq!(away_ms(code, reason), None, "{reason}");
        }
    }
}
