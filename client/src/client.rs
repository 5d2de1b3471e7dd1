//! A session with a thread and a connection of its own, for applications that block.
//!
//! Owns: the thread, its socket and its clock.
//! Bounds: [`limits::EVENTS_MAX`] events and [`limits::CALLS_MAX`] calls wait; an application that
//! takes no events is not read for, its calls wait, and the gateway sends it the rest later.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token, Waker};
use serde_json::{Map, Value};

use crate::event::{Conv, Event, Message};
use crate::jitter::Jitter;
use crate::limits;
use crate::link::{Broken, Got, Link, Upgrade};
use crate::pipe::Tls;
use crate::session::{Full, Output, Session, Settings};

#[cfg(test)]
mod tests;

/// Whom to connect to, as whom.
#[derive(Clone, Debug)]
pub struct Options {
    /// Host and port of the gateway, or of a proxy in front of it.
    pub server: String,
    /// What the connections' TLS sessions are made of; `None`: plain HTTP.
    pub tls: Option<Tls>,
    /// The user's number.
    pub user: u64,
    /// The user's token, from a login over HTTP or from `imgate token`.
    pub token: String,
    /// A name for this device, so that a connection takes the place of its forerunner.
    pub device_id: Option<String>,
    /// As [`Settings::first_page`].
    pub first_page: u32,
    /// As [`Settings::receipts`].
    pub receipts: bool,
    /// Where an earlier client was ([`Client::places`]): it goes on there.
    pub places: Vec<(Conv, u64, Option<u64>)>,
}

impl Options {
    /// With the newest 50 messages of each conversation, and receipts.
    #[must_use]
    pub fn new(server: &str, user: u64, token: &str) -> Self {
        let (server, token) = (server.to_owned(), token.to_owned());
        let places = Vec::new();
        Self { server, tls: None, user, token, device_id: None, first_page: 50, receipts: true, places }
    }
}

/// What the application wants.
enum Call {
    Send { conv: Conv, body: Map<String, Value>, cid: String },
    Recall { conv: Conv, seq: u64, cid: String },
    Read { conv: Conv, seq: u64 },
    History { conv: Conv, before: Option<u64>, limit: u32 },
    Close,
}

/// What the thread has for the application.
enum Told {
    Event(Event),
    /// As [`Output::Place`].
    Place(Conv, u64, Option<u64>),
}

/// What the application and the thread share.
struct Shared {
    waker: Waker,
    /// Messages without their ack, calls under way included.
    unsent: AtomicUsize,
    /// The thread waits until an event is taken.
    full: AtomicBool,
}

/// A connected client. It comes back by itself until it is closed or dropped, or a close code
/// forbids it: then it ends.
pub struct Client {
    calls: SyncSender<Call>,
    /// Behind a lock so that one thread may post while another waits for events.
    events: Mutex<Receiver<Told>>,
    /// Where the application is, by what it has taken.
    places: Mutex<HashMap<Conv, (u64, Option<u64>)>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// The first half of every `cid`.
    boot: u64,
    posted: AtomicU64,
}

impl Client {
    /// Begins to connect. [`Event::Online`] says when it is.
    ///
    /// # Errors
    /// The operating system gives no thread or no poll; too many places to go on at.
    pub fn connect(options: Options) -> io::Result<Self> {
        let (calls, taken) = sync_channel(limits::CALLS_MAX);
        let (told, events) = sync_channel(limits::EVENTS_MAX);
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let shared = Arc::new(Shared { waker, unsent: AtomicUsize::new(0), full: AtomicBool::new(false) });
        let boot = random();
        let jitter = Jitter::Seeded(boot);
        let Options { server, tls, user, token, device_id, first_page, receipts, places } = options;
        let mut session = Session::new(Settings { user, first_page, receipts, jitter });
        for (conv, last, epoch) in &places {
            session.resume(*conv, *last, *epoch).map_err(io::Error::other)?;
        }
        let places = Mutex::new(places.into_iter().map(|(conv, last, epoch)| (conv, (last, epoch))).collect());
        let device = device_id.map(|id| format!("&device_id={}", encoded(&id))).unwrap_or_default();
        let upgrade = Upgrade { host: server, path: format!("/chat?id={user}{device}"), bearer: Some(token) };
        let worker = Worker {
            session,
            upgrade,
            tls,
            poll,
            line: Line::Off,
            generation: 0,
            readable: false,
            uncalled: false,
            closing: false,
            calls: taken,
            events: told,
            untold: VecDeque::new(),
            shared: Arc::clone(&shared),
            began: Instant::now(),
        };
        let thread = thread::Builder::new().name("imgate-client".to_owned()).spawn(move || worker.run())?;
        let events = Mutex::new(events);
        Ok(Self { calls, events, places, shared, thread: Some(thread), boot, posted: AtomicU64::new(0) })
    }

    fn call(&self, call: Call) -> Result<(), Full> {
        self.calls.try_send(call).map_err(|_| Full)?;
        // A wake that fails is one of a thread that has ended.
        let _ = self.shared.waker.wake();
        Ok(())
    }

    /// Keeps a place in the outbox for a call, if there is one.
    fn call_unsent(&self, call: Call) -> Result<(), Full> {
        let place = |unsent: usize| (unsent < limits::OUTBOX_MAX).then_some(unsent + 1);
        self.shared.unsent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, place).map_err(|_| Full)?;
        self.call(call).inspect_err(|_| _ = self.shared.unsent.fetch_sub(1, Ordering::Relaxed))
    }

    /// A name that no other message of this user has.
    fn cid(&self) -> String {
        format!("{:016x}-{:x}", self.boot, self.posted.fetch_add(1, Ordering::Relaxed))
    }

    /// Sends a text. Its name (`cid`) comes back in [`Event::Sent`] or [`Event::Refused`]; it is
    /// sent again as often as it must, and stored once.
    ///
    /// # Errors
    /// [`Full`]: [`limits::OUTBOX_MAX`] messages wait for their ack; take events, and try again.
    /// Also of a client that has ended, of which [`Client::next`] says so.
    pub fn post(&self, conv: Conv, text: &str) -> Result<String, Full> {
        let mut body = Map::new();
        body.insert("media".to_owned(), 1.into());
        body.insert("content".to_owned(), text.into());
        self.post_body(conv, body)
    }

    /// As [`Client::post`], with all the fields of a message (`docs/protocol.md`, 10 and 11).
    ///
    /// # Errors
    /// As [`Client::post`].
    pub fn post_body(&self, conv: Conv, body: Map<String, Value>) -> Result<String, Full> {
        let cid = self.cid();
        self.call_unsent(Call::Send { conv, body, cid: cid.clone() })?;
        Ok(cid)
    }

    /// Sends a message again that an earlier client of this user has sent under that name, and of
    /// which it is not known whether it was stored. One that waits already is not sent once more,
    /// and answered once.
    ///
    /// # Errors
    /// As [`Client::post`].
    pub fn post_again(&self, conv: Conv, body: Map<String, Value>, cid: &str) -> Result<(), Full> {
        self.call_unsent(Call::Send { conv, body, cid: cid.to_owned() })
    }

    /// Takes the user's own message back. Answered as [`Client::post`].
    ///
    /// # Errors
    /// As [`Client::post`].
    pub fn recall(&self, conv: Conv, seq: u64) -> Result<String, Full> {
        let cid = self.cid();
        self.call_unsent(Call::Recall { conv, seq, cid: cid.clone() })?;
        Ok(cid)
    }

    /// Says that the user has read up to `seq`. Of a group that the user has left this is refused,
    /// which looks like the refusal of a page: do not call [`Client::history`] of it right behind.
    ///
    /// # Errors
    /// [`Full`]: [`limits::CALLS_MAX`].
    pub fn read(&self, conv: Conv, seq: u64) -> Result<(), Full> {
        self.call(Call::Read { conv, seq })
    }

    /// Asks for the last `limit` (1 to 200) messages before `before`, or for the newest:
    /// [`Event::History`]. [`Event::Refused`] with code 20: too many pages wait.
    ///
    /// # Errors
    /// [`Full`]: [`limits::CALLS_MAX`].
    pub fn history(&self, conv: Conv, before: Option<u64>, limit: u32) -> Result<(), Full> {
        self.call(Call::History { conv, before, limit })
    }

    /// The next event; waits for it. `None`: the client has ended and everything was told, as it
    /// does behind an [`Event::Offline`] that says that it does not come back.
    pub fn next(&self) -> Option<Event> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let event = std::iter::from_fn(|| events.recv().ok()).find_map(|told| self.note(told));
        drop(events);
        self.taken();
        event
    }

    /// As [`Client::next`], but waits no longer than that; `Ok(None)`: nothing came.
    ///
    /// # Errors
    /// [`Ended`]: the client has ended and everything was told.
    pub fn next_within(&self, patience: Duration) -> Result<Option<Event>, Ended> {
        let until = Instant::now().checked_add(patience);
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let event = loop {
            let left = until.map_or(patience, |until| until.saturating_duration_since(Instant::now()));
            match events.recv_timeout(left) {
                Ok(told) => {
                    if let Some(event) = self.note(told) {
                        break Some(event);
                    }
                }
                Err(RecvTimeoutError::Timeout) => break None,
                Err(RecvTimeoutError::Disconnected) => return Err(Ended),
            }
        };
        drop(events);
        self.taken();
        Ok(event)
    }

    /// Enters where the application is now, and gives it the event.
    fn note(&self, told: Told) -> Option<Event> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let event = match told {
            Told::Event(event) => event,
            Told::Place(conv, last, epoch) => {
                places.insert(conv, (last, epoch));
                drop(places);
                // It took a place, too: the application may wait for an event behind thousands.
                self.taken();
                return None;
            }
        };
        match &event {
            Event::Message { conv, message: Message { seq: Some(last), .. } } | Event::Gap { conv, to: last, .. } => {
                // Of a conversation beyond `CONVERSATIONS_MAX` no place is kept.
                if let Some(place) = places.get_mut(conv) {
                    place.0 = *last;
                }
            }
            Event::Reset { conv } => _ = places.remove(conv),
            _ => {}
        }
        Some(event)
    }

    /// Where the application is in each conversation, and of which history, by the events that it
    /// has taken: for [`Options::places`] of the next client. To be kept when what was taken last
    /// is safe.
    #[must_use]
    pub fn places(&self) -> Vec<(Conv, u64, Option<u64>)> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.iter().map(|(conv, (last, epoch))| (*conv, *last, *epoch)).collect()
    }

    /// Messages without their ack or their refusal. An event of one that is counted no more may
    /// still have to be taken.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.shared.unsent.load(Ordering::Relaxed)
    }

    /// The thread goes on if it has waited for room.
    fn taken(&self) {
        if self.shared.full.swap(false, Ordering::AcqRel) {
            let _ = self.shared.waker.wake();
        }
    }

    /// Closes the connection and ends the thread; events that were not taken are dropped. Waits at
    /// most [`limits::CLOSE_MS_MAX`].
    pub fn close(mut self) {
        self.end();
        if let Some(thread) = self.thread.take() {
            // It ends by itself; a panic in it has been told on stderr.
            let _ = thread.join();
        }
    }

    fn end(&mut self) {
        // Dropping the sender says as much to a thread whose queue is full.
        let (calls, _) = sync_channel(1);
        let calls = std::mem::replace(&mut self.calls, calls);
        let _ = calls.try_send(Call::Close);
        drop(calls);
        let (_, events) = sync_channel(1);
        self.events = Mutex::new(events);
        let _ = self.shared.waker.wake();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.end();
    }
}

/// The client has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the client has ended")]
pub struct Ended;

const WAKE: Token = Token(0);
/// The refusal code for "busy".
const BUSY: u64 = 20;

/// Where the connection stands.
enum Line {
    Off,
    Opening {
        link: Link,
        until: Instant,
    },
    Open(Link),
    /// Our close frame is sent.
    Closing {
        link: Link,
        until: Instant,
    },
}

/// The thread.
struct Worker {
    session: Session,
    upgrade: Upgrade,
    tls: Option<Tls>,
    poll: Poll,
    line: Line,
    /// Of the connection: what an earlier one has woken for is nothing.
    generation: usize,
    /// There may be more to read.
    readable: bool,
    /// There may be calls that were not taken, because of `untold`.
    uncalled: bool,
    /// The application wants no more.
    closing: bool,
    calls: Receiver<Call>,
    events: SyncSender<Told>,
    /// What there was no room for: no more than one message of the gateway brings, because nothing
    /// further is read and no call is taken meanwhile.
    untold: VecDeque<Told>,
    shared: Arc<Shared>,
    began: Instant,
}

impl Worker {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn run(mut self) {
        let mut ready = Events::with_capacity(8);
        loop {
            self.act();
            // What the application has not taken yet keeps the thread of one that is over.
            let over = self.closing || (!self.session.is_wanted() && self.untold.is_empty());
            if over && matches!(self.line, Line::Off) {
                return;
            }
            match self.poll.poll(&mut ready, self.patience()) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return,
                _ => {}
            }
            if ready.iter().any(|event| event.token() == Token(self.generation)) {
                self.readable = true;
                self.go_on();
            }
            self.take_calls();
            self.read();
            if !self.untold.is_empty() {
                self.session.deaf(self.now_ms());
            }
            self.session.tick(self.now_ms());
            self.give_up();
        }
    }

    /// Until something is due, or more is to be read.
    fn patience(&self) -> Option<Duration> {
        let reads_on = self.readable && matches!(self.line, Line::Open(_) | Line::Closing { .. });
        if self.untold.is_empty() && (reads_on || self.uncalled) {
            return Some(Duration::ZERO);
        }
        let now = Instant::now();
        let line = match self.line {
            Line::Opening { until, .. } | Line::Closing { until, .. } => Some(until.saturating_duration_since(now)),
            Line::Off | Line::Open(_) => None,
        };
        let due = self.session.due_ms().map(|due_ms| Duration::from_millis(due_ms.saturating_sub(self.now_ms())));
        line.into_iter().chain(due).min()
    }

    /// Does what the session wants.
    fn act(&mut self) {
        while let Some(output) = self.session.poll() {
            match output {
                Output::Dial => self.dial(),
                Output::Send(text) => {
                    let Line::Open(link) = &mut self.line else { continue };
                    match link.send(text) {
                        Ok(true) => {}
                        // So much is waiting that the connection is of no use.
                        Ok(false) | Err(_) => self.lost(1006, ""),
                    }
                }
                Output::Drop => self.line = Line::Off,
                Output::Tell(event) => {
                    if matches!(event, Event::Sent { .. } | Event::Refused { cid: Some(_), .. }) {
                        self.has_fewer();
                    }
                    self.untold.push_back(Told::Event(event));
                }
                Output::Place { conv, last, epoch } => self.untold.push_back(Told::Place(conv, last, epoch)),
            }
        }
        self.tell();
    }

    /// A place in the outbox is free.
    fn has_fewer(&self) {
        let fewer = |unsent: usize| unsent.checked_sub(1);
        let _ = self.shared.unsent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
    }

    /// Gives the application what it takes.
    fn tell(&mut self) {
        while let Some(told) = self.untold.pop_front() {
            match self.events.try_send(told) {
                Ok(()) => {}
                Err(TrySendError::Full(told)) => {
                    self.untold.push_front(told);
                    // What is taken between the two is not missed: the flag is set before the
                    // second try.
                    if self.shared.full.swap(true, Ordering::AcqRel) {
                        return;
                    }
                }
                Err(TrySendError::Disconnected(_)) => self.untold.clear(),
            }
        }
        self.shared.full.store(false, Ordering::Release);
    }

    fn dial(&mut self) {
        if self.closing {
            return;
        }
        self.generation += 1;
        self.readable = false;
        // A name may have addresses at which nothing listens, such as IPv6's: each attempt takes
        // the next.
        let found: Vec<SocketAddr> = self.upgrade.host.to_socket_addrs().into_iter().flatten().collect();
        let address = found.get(self.generation % found.len().max(1)).copied();
        let token = Token(self.generation);
        let (tls, registry) = (self.tls.as_ref(), self.poll.registry());
        let link = address.and_then(|address| Link::dial(address, tls, None, registry, token).ok());
        match link {
            Some(link) => {
                let until = Instant::now() + Duration::from_millis(limits::CONNECT_MS_MAX);
                self.line = Line::Opening { link, until };
            }
            None => self.session.closed(self.now_ms(), 1006, ""),
        }
    }

    fn lost(&mut self, code: u16, reason: &str) {
        self.line = Line::Off;
        let now_ms = self.now_ms();
        self.session.closed(now_ms, code, reason);
    }

    /// The socket is ready: connecting and writing go on.
    fn go_on(&mut self) {
        match std::mem::replace(&mut self.line, Line::Off) {
            Line::Opening { link, until } => match link.advance(&self.upgrade) {
                Ok(link) if link.is_open() => {
                    self.line = Line::Open(link);
                    self.session.opened(self.now_ms());
                }
                Ok(link) => self.line = Line::Opening { link, until },
                Err(_) => self.lost(1006, ""),
            },
            line => self.line = line,
        }
        if let Line::Open(link) | Line::Closing { link, .. } = &mut self.line
            && link.flush().is_err()
        {
            self.lost(1006, "");
        }
    }

    fn read(&mut self) {
        for _ in 0..limits::TURN_MESSAGES_MAX {
            self.act();
            let (Line::Open(link) | Line::Closing { link, .. }) = &mut self.line else { return };
            if !self.readable || !self.untold.is_empty() {
                return;
            }
            match link.read() {
                Ok(Got::Text(text)) => self.session.heard(self.now_ms(), &text),
                Ok(Got::Close { code, reason }) => {
                    // The answer to a close frame goes out with the next flush, if it can.
                    let _ = link.flush();
                    self.lost(code.unwrap_or(1006), &reason);
                }
                Ok(Got::Other) => {}
                Ok(Got::Nothing) => self.readable = false,
                Err(Broken::Fault(_)) => self.lost(1002, ""),
                Err(Broken::Gone | Broken::Refused) => self.lost(1006, ""),
            }
        }
    }

    fn take_calls(&mut self) {
        self.tell();
        self.uncalled = false;
        // A bounded number, although the application may call on.
        for _ in 0..limits::CALLS_MAX {
            // A call may have an event for an answer, for which there is no room.
            if !self.untold.is_empty() {
                self.uncalled = true;
                return;
            }
            let call = match self.calls.try_recv() {
                Ok(call) => call,
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => Call::Close,
            };
            let now_ms = self.now_ms();
            match call {
                // Its place is that of the one that waits.
                Call::Send { cid, .. } if self.session.waits(&cid) => self.has_fewer(),
                Call::Send { conv, body, cid } => {
                    let sent = self.session.send(now_ms, conv, body, &cid);
                    debug_assert!(sent.is_ok(), "the outbox has as many places as the client gives away");
                }
                Call::Recall { conv, seq, cid } => {
                    let sent = self.session.recall(now_ms, conv, seq, &cid);
                    debug_assert!(sent.is_ok(), "the outbox has as many places as the client gives away");
                }
                Call::Read { conv, seq } => self.session.read(now_ms, conv, seq),
                Call::History { conv, before, limit } => {
                    if self.session.history(now_ms, conv, before, limit).is_err() {
                        self.untold.push_back(Told::Event(Event::Refused { cid: None, conv, code: BUSY }));
                    }
                }
                Call::Close => return self.close(),
            }
            self.act();
        }
    }

    fn close(&mut self) {
        if std::mem::replace(&mut self.closing, true) {
            return;
        }
        self.session.stop();
        if let Line::Open(mut link) = std::mem::replace(&mut self.line, Line::Off) {
            // What cannot be written now is not worth more than the patience.
            let _ = link.close();
            let until = Instant::now() + Duration::from_millis(limits::CLOSE_MS_MAX);
            self.line = Line::Closing { link, until };
        }
    }

    /// What takes too long ends.
    fn give_up(&mut self) {
        if let Line::Opening { until, .. } | Line::Closing { until, .. } = &self.line
            && *until <= Instant::now()
        {
            self.lost(1006, "");
        }
    }
}

/// 64 bits that differ from client to client: the standard library seeds its hash maps with
/// randomness of the operating system.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

/// For a query: what is not a letter, a digit or `-` becomes `%XX`.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}
