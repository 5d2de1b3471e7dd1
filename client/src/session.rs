//! The rules of `docs/protocol.md` for a correct client, without a socket, a clock or a thread:
//! time and what the gateway says go in, frames and events come out.
//!
//! Owns: what a correct client must remember: the place in each conversation, messages without
//! their ack, pauses, the window.
//! Never: shows a message out of turn or twice; forgets a message before its ack or its refusal.
//! Bounds: [`limits`]. What comes out is to be taken after each input.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde_json::{Map, Value, json};

use crate::event::{Conv, Event, Message};
use crate::jitter::Jitter;
use crate::limits;

/// How a session behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The user whose token opens the connection.
    pub user: u64,
    /// Where a conversation begins that the session has no place of: with its newest messages, so
    /// many of them. Zero: behind the newest one; the application asks for history.
    pub first_page: u32,
    /// Say what was received to the other users of direct conversations.
    pub receipts: bool,
    /// Where the randomness of pauses comes from.
    pub jitter: Jitter,
}

/// What is to be done.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Connect now, and call [`Session::opened`] or [`Session::closed`].
    Dial,
    /// Send this text frame.
    Send(String),
    /// Drop the connection: it is dead. [`Session::closed`] is not to be called for it.
    Drop,
    /// Tell the application.
    Tell(Event),
}

/// As many things wait as may.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("too much is waiting")]
pub struct Full;

/// A page that was asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    First,
    After,
    History { before: Option<u64>, limit: u32 },
}

struct Conversation {
    conv: Conv,
    /// Everything up to here was shown; none before the beginning was chosen.
    last: Option<u64>,
    /// The highest number that is known to exist.
    goal: u64,
    /// To be read although nothing is known to exist.
    wanted: bool,
    epoch: Option<u64>,
    /// Pushes that came before their turn.
    held: BTreeMap<u64, Message>,
    asked: Option<Ask>,
    /// The answer that is on its way is about what was forgotten.
    stale: bool,
    wishes: VecDeque<Ask>,
    queued: bool,
    due_ms: Option<u64>,
    tries: u32,
    refused: bool,
    recv: u64,
    recv_said: u64,
    read: u64,
    read_said: u64,
}

impl Conversation {
    fn new(conv: Conv) -> Self {
        Self {
            conv,
            last: None,
            goal: 0,
            wanted: false,
            epoch: None,
            held: BTreeMap::new(),
            asked: None,
            stale: false,
            wishes: VecDeque::new(),
            queued: false,
            due_ms: None,
            tries: 0,
            refused: false,
            recv: 0,
            recv_said: 0,
            read: 0,
            read_said: 0,
        }
    }
}

/// A message of the application that has no ack.
struct Item {
    conv: Conv,
    body: Map<String, Value>,
    recall: Option<u64>,
    /// When it came, to send what waits in that order.
    order: u64,
    tries: u32,
    /// It is unanswered on this connection.
    waiting: bool,
    queued: bool,
    due_ms: Option<u64>,
}

/// A command that waits for a place in the window.
enum Job {
    Post(String),
    Ask { at: usize, after: bool, history: bool },
}

/// One user's session over any number of connections. See the module.
pub struct Session {
    settings: Settings,
    now_ms: u64,
    online: bool,
    /// Whether it comes back.
    wanted: bool,
    online_since_ms: u64,
    failures: u32,
    reconnect_ms: Option<u64>,
    heartbeat_ms: Option<u64>,
    /// A heartbeat is unanswered.
    asking: bool,
    /// Connections in a row that ended so.
    unheard: u32,
    receipts_ms: Option<u64>,
    unanswered: usize,
    queue: VecDeque<Job>,
    conversations: Vec<Conversation>,
    places: HashMap<Conv, usize>,
    outbox: HashMap<String, Item>,
    posted: u64,
    outputs: VecDeque<Output>,
}

impl Session {
    /// A session that wants to connect.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            now_ms: 0,
            online: false,
            wanted: true,
            online_since_ms: 0,
            failures: 0,
            reconnect_ms: None,
            heartbeat_ms: None,
            asking: false,
            unheard: 0,
            receipts_ms: None,
            unanswered: 0,
            queue: VecDeque::new(),
            conversations: Vec::new(),
            places: HashMap::new(),
            outbox: HashMap::new(),
            posted: 0,
            outputs: VecDeque::from([Output::Dial]),
        }
    }

    /// Goes on where another session was: everything up to `last` was shown, of the history
    /// `epoch`, as [`Session::places`] has said. To be called before anything else.
    ///
    /// # Errors
    /// [`Full`]: [`limits::CONVERSATIONS_MAX`].
    pub fn resume(&mut self, conv: Conv, last: u64, epoch: Option<u64>) -> Result<(), Full> {
        let at = self.conversation(conv).ok_or(Full)?;
        let one = &mut self.conversations[at];
        (one.last, one.epoch, one.wanted) = (Some(last), epoch, true);
        Ok(())
    }

    /// Where it is in each conversation, and of which history, for [`Session::resume`].
    pub fn places(&self) -> impl Iterator<Item = (Conv, u64, Option<u64>)> + '_ {
        self.conversations.iter().filter_map(|one| Some((one.conv, one.last?, one.epoch)))
    }

    /// Messages without their ack.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.outbox.len()
    }

    /// Whether it is connected, as far as it knows.
    #[must_use]
    pub const fn is_online(&self) -> bool {
        self.online
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn write(&mut self, frame: &Value) {
        if self.online {
            self.outputs.push_back(Output::Send(frame.to_string()));
        }
    }

    fn tell(&mut self, event: Event) {
        self.outputs.push_back(Output::Tell(event));
    }

    fn find(&self, conv: Conv) -> Option<usize> {
        self.places.get(&conv).copied()
    }

    /// The conversation, made if there is room.
    fn conversation(&mut self, conv: Conv) -> Option<usize> {
        if let Some(at) = self.find(conv) {
            return Some(at);
        }
        let at = self.conversations.len();
        if at >= limits::CONVERSATIONS_MAX {
            return None;
        }
        self.conversations.push(Conversation::new(conv));
        self.places.insert(conv, at);
        Some(at)
    }

    // ---- the connection and the time ----

    /// The connection is open.
    pub fn opened(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.online = true;
        self.online_since_ms = now_ms;
        self.heartbeat_ms = Some(now_ms + limits::HEARTBEAT_MS);
        self.tell(Event::Online);
        for at in 0..self.conversations.len() {
            self.conversations[at].refused = false;
            match self.conversations[at].last {
                None => self.fill(at),
                Some(_) if self.list_begins() && !self.conversations[at].wanted => {}
                Some(_) => self.ask(at, true),
            }
        }
        let mut waiting: Vec<(u64, String)> = self.outbox.iter().map(|(cid, item)| (item.order, cid.clone())).collect();
        waiting.sort_unstable();
        for (_, cid) in waiting {
            self.post(&cid);
        }
        self.say_read();
        self.say_received();
    }

    fn lost(&mut self) {
        self.online = false;
        (self.unanswered, self.asking, self.heartbeat_ms) = (0, false, None);
        self.queue.clear();
        for one in &mut self.conversations {
            if let Some(wish @ Ask::History { .. }) = one.asked.take() {
                one.wishes.push_front(wish);
            }
            one.held.clear();
            (one.queued, one.stale, one.due_ms) = (false, false, None);
            (one.read_said, one.recv_said) = (0, 0);
        }
        for item in self.outbox.values_mut() {
            (item.waiting, item.queued, item.tries, item.due_ms) = (false, false, 0, None);
        }
    }

    /// The connection has ended, or could not be made. `code`: that of the close frame, 1006
    /// without one.
    pub fn closed(&mut self, now_ms: u64, code: u16, reason: &str) {
        self.now_ms = now_ms;
        if self.online && now_ms.saturating_sub(self.online_since_ms) >= limits::GOOD_CONNECTION_MS {
            self.failures = 0;
        }
        self.lost();
        let again = self.wanted && comes_back(code);
        self.wanted = again;
        if again {
            let tries = if code == 1011 { u32::MAX } else { self.failures };
            let mut wait_ms = self.pause_ms(tries);
            if let Some(asked_ms) = retry_ms(reason) {
                wait_ms = wait_ms.max(self.settings.jitter.beyond(asked_ms));
            }
            self.failures = self.failures.saturating_add(1);
            self.reconnect_ms = Some(now_ms.saturating_add(wait_ms));
        }
        self.tell(Event::Offline { code, reason: reason.to_owned(), again });
    }

    /// It is not to come back. Messages without their ack stay, and go out after
    /// [`Session::start`].
    pub fn stop(&mut self) {
        self.wanted = false;
        self.reconnect_ms = None;
    }

    /// It is to connect again, after [`Session::stop`] or a close code that forbade it.
    pub fn start(&mut self, now_ms: u64) {
        if !self.online && !self.wanted {
            self.now_ms = now_ms;
            self.wanted = true;
            self.outputs.push_back(Output::Dial);
        }
    }

    fn pause_ms(&mut self, tries: u32) -> u64 {
        let most = limits::PAUSE_MS.saturating_mul(1 << tries.min(10)).min(limits::PAUSE_MS_MAX);
        self.settings.jitter.within(most)
    }

    /// When [`Session::tick`] is to be called at the latest.
    #[must_use]
    pub fn due_ms(&self) -> Option<u64> {
        let own = [self.reconnect_ms, self.heartbeat_ms, self.receipts_ms];
        let items = self.outbox.values().map(|item| item.due_ms);
        let asks = self.conversations.iter().map(|one| one.due_ms);
        own.into_iter().chain(items).chain(asks).flatten().min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        while let Some(due_ms) = self.due_ms().filter(|due_ms| *due_ms <= now_ms) {
            self.fire(due_ms);
        }
    }

    fn fire(&mut self, due_ms: u64) {
        let due = Some(due_ms);
        if self.reconnect_ms == due {
            self.reconnect_ms = None;
            self.outputs.push_back(Output::Dial);
        } else if self.heartbeat_ms == due {
            if self.asking {
                self.unheard = (self.unheard + 1).min(8);
                self.outputs.push_back(Output::Drop);
                return self.closed(self.now_ms, 1006, "");
            }
            self.asking = true;
            let patience_ms = (limits::ANSWER_MS << self.unheard).min(limits::ANSWER_MS_MAX);
            self.heartbeat_ms = Some(self.now_ms + patience_ms);
            self.write(&json!({ "cmd": 0 }));
        } else if self.receipts_ms == due {
            self.receipts_ms = None;
            self.say_received();
        } else if let Some((cid, item)) = self.outbox.iter_mut().find(|(_, item)| item.due_ms == due) {
            item.due_ms = None;
            let cid = cid.clone();
            self.post(&cid);
        } else if let Some(at) = self.conversations.iter().position(|one| one.due_ms == due) {
            self.conversations[at].due_ms = None;
            let one = &self.conversations[at];
            if one.last.is_some_and(|last| one.goal <= last) {
                self.ask(at, true);
            }
            self.fill(at);
        }
    }

    fn pump(&mut self) {
        while self.online && self.unanswered < limits::WINDOW {
            let Some(job) = self.queue.pop_front() else { return };
            let counts = match job {
                Job::Post(cid) => self.post_now(&cid),
                Job::Ask { at, after, history } => self.ask_now(at, after, history),
            };
            self.unanswered += usize::from(counts);
        }
    }

    fn answered(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
        self.pump();
    }

    // ---- what the application does ----

    /// Sends a message, now or as soon as it can. `cid`: a name that no other message of this user
    /// will ever have, at most 64 bytes.
    ///
    /// # Errors
    /// [`Full`]: [`limits::OUTBOX_MAX`].
    pub fn send(&mut self, now_ms: u64, conv: Conv, body: Map<String, Value>, cid: &str) -> Result<(), Full> {
        self.add(now_ms, conv, body, None, cid)
    }

    /// Takes the user's own message `seq` back. `cid` as in [`Session::send`].
    ///
    /// # Errors
    /// As [`Session::send`].
    pub fn recall(&mut self, now_ms: u64, conv: Conv, seq: u64, cid: &str) -> Result<(), Full> {
        self.add(now_ms, conv, Map::new(), Some(seq), cid)
    }

    fn add(
        &mut self,
        now_ms: u64,
        conv: Conv,
        body: Map<String, Value>,
        recall: Option<u64>,
        cid: &str,
    ) -> Result<(), Full> {
        self.now_ms = now_ms;
        if self.outbox.len() >= limits::OUTBOX_MAX {
            return Err(Full);
        }
        self.posted += 1;
        let (order, tries, waiting, queued, due_ms) = (self.posted, 0, false, false, None);
        let item = Item { conv, body, recall, order, tries, waiting, queued, due_ms };
        self.outbox.entry(cid.to_owned()).or_insert(item);
        self.post(cid);
        Ok(())
    }

    /// The user has read up to `seq`.
    pub fn read(&mut self, now_ms: u64, conv: Conv, seq: u64) {
        self.now_ms = now_ms;
        if let Some(at) = self.conversation(conv) {
            self.conversations[at].read = self.conversations[at].read.max(seq);
            self.say_read();
        }
    }

    /// Asks for the last `limit` messages before `before`, or for the newest.
    ///
    /// # Errors
    /// [`Full`]: [`limits::HISTORY_WAITING_MAX`] of this conversation, or
    /// [`limits::CONVERSATIONS_MAX`].
    pub fn history(&mut self, now_ms: u64, conv: Conv, before: Option<u64>, limit: u32) -> Result<(), Full> {
        self.now_ms = now_ms;
        let at = self.conversation(conv).ok_or(Full)?;
        if self.conversations[at].wishes.len() >= limits::HISTORY_WAITING_MAX {
            return Err(Full);
        }
        self.conversations[at].wishes.push_back(Ask::History { before, limit });
        self.fill(at);
        Ok(())
    }

    fn say_read(&mut self) {
        for at in 0..self.conversations.len() {
            let one = &mut self.conversations[at];
            if !self.online || one.read <= one.read_said {
                continue;
            }
            one.read_said = one.read;
            one.recv_said = one.recv_said.max(one.read);
            let frame = json!({ "cmd": 3, "kind": one.conv.kind(), "dstid": one.conv.dstid(), "read": one.read });
            self.write(&frame);
        }
    }

    fn say_received(&mut self) {
        for at in 0..self.conversations.len() {
            let one = &mut self.conversations[at];
            let said = !matches!(one.conv, Conv::Direct(_)) || one.recv <= one.recv_said;
            if !self.online || !self.settings.receipts || said {
                continue;
            }
            one.recv_said = one.recv;
            let frame = json!({ "cmd": 3, "kind": one.conv.kind(), "dstid": one.conv.dstid(), "recv": one.recv });
            self.write(&frame);
        }
    }

    fn post(&mut self, cid: &str) {
        let online = self.online;
        let Some(item) = self.outbox.get_mut(cid) else { return };
        if online && !item.queued {
            item.queued = true;
            self.queue.push_back(Job::Post(cid.to_owned()));
            self.pump();
        }
    }

    /// Whether it takes a place in the window.
    fn post_now(&mut self, cid: &str) -> bool {
        let now_ms = self.now_ms;
        let Some(item) = self.outbox.get_mut(cid) else { return false };
        let first = !item.waiting;
        (item.queued, item.waiting) = (false, true);
        item.due_ms = Some(now_ms + (limits::ACK_MS << item.tries.min(8)).min(limits::PAUSE_MS_MAX));
        item.tries += 1;
        let mut frame = match item.recall {
            Some(seq) => json!({ "cmd": 8, "kind": item.conv.kind(), "seq": seq }),
            None => Value::Object(item.body.clone()),
        };
        if item.recall.is_none() {
            frame["cmd"] = item.conv.kind().into();
        }
        frame["dstid"] = item.conv.dstid().into();
        frame["cid"] = cid.into();
        self.write(&frame);
        first
    }

    fn settle(&mut self, cid: &str) -> Option<Item> {
        let item = self.outbox.remove(cid)?;
        if item.waiting {
            self.answered();
        }
        Some(item)
    }

    // ---- what the server says ----

    /// A text from the gateway. One that cannot be understood is ignored.
    pub fn heard(&mut self, now_ms: u64, text: &str) {
        self.now_ms = now_ms;
        if std::mem::take(&mut self.asking) {
            self.unheard = 0;
        }
        self.heartbeat_ms = Some(now_ms + limits::HEARTBEAT_MS);
        let Ok(Value::Object(frame)) = serde_json::from_str::<Value>(text) else { return };
        match number(&frame, "cmd") {
            Some(0) => {}
            Some(1) => self.acked(&frame),
            Some(2) => self.refused(&frame),
            Some(3) => self.receipt(&frame),
            Some(4) => self.page(&frame),
            Some(5) => self.listed(&frame),
            Some(10 | 11) => self.pushed(frame),
            _ => self.tell(Event::Other(frame)),
        }
    }

    fn acked(&mut self, frame: &Map<String, Value>) {
        let Some(conv) = conv_of(frame) else { return };
        let cid = text(frame, "cid");
        let seq = number(frame, "seq");
        let Some(item) = self.settle(cid) else {
            // Of a message that was sent twice, or of another time: its row is still to be shown.
            let Some(at) = self.conversation(conv) else { return };
            if seq > Some(self.conversations[at].last.unwrap_or(0)) {
                self.conversations[at].goal = self.conversations[at].goal.max(seq.unwrap_or(0));
                self.fill(at);
            }
            return;
        };
        self.tell(Event::Sent { cid: cid.to_owned(), conv, seq });
        let mut body = item.body;
        if let Some(seq) = item.recall {
            body.insert("media".to_owned(), 1.into());
            body.insert("recall".to_owned(), seq.into());
        }
        for field in ["id", "seq", "ts"] {
            if let Some(value) = frame.get(field) {
                body.insert(field.to_owned(), value.clone());
            }
        }
        body.insert("userid".to_owned(), self.settings.user.into());
        body.insert("cid".to_owned(), cid.into());
        self.arrived(conv, Message::new(body));
    }

    fn refused(&mut self, frame: &Map<String, Value>) {
        let retry = frame.get("retry") == Some(&Value::Bool(true));
        let code = number(frame, "code").unwrap_or(0);
        if let Some(cid) = frame.get("cid").and_then(Value::as_str) {
            if !retry {
                if let Some(item) = self.settle(cid) {
                    self.tell(Event::Refused { cid: Some(cid.to_owned()), conv: item.conv, code });
                }
                return;
            }
            let Some(tries) = self.outbox.get(cid).map(|item| item.tries) else { return };
            let due_ms = self.now_ms + self.pause_ms(tries.saturating_sub(1));
            let Some(item) = self.outbox.get_mut(cid) else { return };
            item.due_ms = Some(due_ms);
            if std::mem::take(&mut item.waiting) {
                self.answered();
            }
            return;
        }
        let Some(conv) = conv_of(frame) else { return };
        let Some(at) = self.find(conv) else { return };
        let Some(asked) = self.conversations[at].asked.take() else { return };
        if retry {
            if matches!(asked, Ask::History { .. }) {
                self.conversations[at].wishes.push_front(asked);
            }
            self.later(at);
        } else {
            self.conversations[at].refused = true;
            self.tell(Event::Refused { cid: None, conv, code });
        }
        self.answered();
    }

    fn pushed(&mut self, body: Map<String, Value>) {
        let message = Message::new(body);
        let told = number(&message.body, "dstid").unwrap_or(0);
        let conv = if number(&message.body, "cmd") == Some(11) {
            Conv::Group(told)
        } else if message.userid == self.settings.user {
            Conv::Direct(told)
        } else {
            Conv::Direct(message.userid)
        };
        self.arrived(conv, message);
    }

    /// Rule 1.
    fn arrived(&mut self, conv: Conv, message: Message) {
        let Some((seq, at)) = message.seq.and_then(|seq| Some((seq, self.conversation(conv)?))) else {
            return self.tell(Event::Message { conv, message });
        };
        let list_begins = self.list_begins();
        let one = &mut self.conversations[at];
        if one.last.is_none() && (seq == 1 || list_begins) && one.asked.is_none() {
            one.last = seq.checked_sub(1);
        }
        if one.last.is_some_and(|last| seq <= last) {
            return;
        }
        one.goal = one.goal.max(seq);
        if one.last.is_some_and(|last| seq == last.saturating_add(1)) {
            self.show(at, seq, message);
        } else if one.held.len() < limits::HELD_MAX {
            one.held.insert(seq, message);
        }
        self.drain(at);
        self.fill(at);
    }

    fn show(&mut self, at: usize, seq: u64, message: Message) {
        let one = &mut self.conversations[at];
        (one.last, one.goal) = (Some(seq), one.goal.max(seq));
        let conv = one.conv;
        let own = message.userid == self.settings.user;
        if matches!(conv, Conv::Direct(_)) && !own {
            one.recv = seq;
            self.gather_receipts();
        }
        let cid = text(&message.body, "cid");
        if own && self.settle(cid).is_some() {
            self.tell(Event::Sent { cid: cid.to_owned(), conv, seq: Some(seq) });
        }
        self.tell(Event::Message { conv, message });
    }

    fn gather_receipts(&mut self) {
        if self.settings.receipts {
            self.receipts_ms.get_or_insert(self.now_ms + limits::RECEIPTS_MS);
        }
    }

    /// Shows what was kept and has its turn now.
    fn drain(&mut self, at: usize) {
        while let Some(next) = self.conversations[at].last.map(|last| last.saturating_add(1)) {
            let Some(message) = self.conversations[at].held.remove(&next) else { break };
            self.show(at, next, message);
        }
        if let Some(last) = self.conversations[at].last {
            self.conversations[at].held.retain(|seq, _| *seq > last);
        }
    }

    /// Asks for what is missing.
    fn fill(&mut self, at: usize) {
        let one = &self.conversations[at];
        let (begin, behind) = (one.wanted || one.goal > 0, one.last.is_some_and(|last| last < one.goal));
        if one.last.is_none() && begin {
            self.ask(at, false);
        } else if behind {
            self.ask(at, true);
        }
        if !self.conversations[at].wishes.is_empty() {
            self.enqueue(at, false, true);
        }
    }

    fn ask(&mut self, at: usize, after: bool) {
        self.enqueue(at, after, false);
    }

    fn enqueue(&mut self, at: usize, after: bool, history: bool) {
        let one = &mut self.conversations[at];
        if !self.online || one.asked.is_some() || one.queued || one.due_ms.is_some() || one.refused {
            return;
        }
        one.queued = true;
        self.queue.push_back(Job::Ask { at, after, history });
        self.pump();
    }

    /// Whether it takes a place in the window.
    fn ask_now(&mut self, at: usize, after: bool, history: bool) -> bool {
        let one = &mut self.conversations[at];
        one.queued = false;
        let ask = if history {
            let Some(wish) = one.wishes.pop_front() else { return false };
            wish
        } else if after {
            Ask::After
        } else {
            Ask::First
        };
        let mut frame = json!({ "cmd": 4, "kind": one.conv.kind(), "dstid": one.conv.dstid() });
        match ask {
            Ask::First => frame["limit"] = self.settings.first_page.max(1).into(),
            Ask::After => {
                frame["after"] = one.last.unwrap_or(0).into();
                frame["limit"] = limits::SYNC_ROWS.into();
            }
            Ask::History { before, limit } => {
                if let Some(before) = before {
                    frame["before"] = before.into();
                }
                frame["limit"] = limit.into();
            }
        }
        one.asked = Some(ask);
        self.write(&frame);
        true
    }

    fn later(&mut self, at: usize) {
        let due_ms = self.now_ms + self.pause_ms(self.conversations[at].tries);
        let one = &mut self.conversations[at];
        one.due_ms = Some(due_ms);
        one.tries = one.tries.saturating_add(1);
    }

    fn page(&mut self, frame: &Map<String, Value>) {
        let Some(at) = conv_of(frame).and_then(|conv| self.find(conv)) else { return };
        let Some(asked) = self.conversations[at].asked.take() else { return };
        let before = self.conversations[at].last;
        let epoch = number(frame, "epoch");
        if std::mem::take(&mut self.conversations[at].stale) {
            self.wish_again(at, asked);
        } else if self.has_other_history(at, epoch) || frame.get("reset") == Some(&Value::Bool(true)) {
            self.wish_again(at, asked);
            self.forget(at, epoch);
            if asked == Ask::First { self.begin(at, frame) } else { self.conversations[at].wanted = true }
        } else {
            self.conversations[at].epoch = epoch;
            match asked {
                Ask::First => self.begin(at, frame),
                Ask::After => self.go_on(at, frame),
                Ask::History { .. } => {
                    let (conv, more) = (self.conversations[at].conv, frame.get("more") == Some(&Value::Bool(true)));
                    self.tell(Event::History { conv, rows: rows(frame).collect(), more });
                }
            }
        }
        self.drain(at);
        let one = &mut self.conversations[at];
        // A page that brings it no further is not asked for again at once.
        if asked == Ask::After && before.is_some() && one.last == before && one.last < Some(one.goal) {
            self.later(at);
        } else {
            one.tries = 0;
            self.fill(at);
        }
        self.answered();
    }

    fn wish_again(&mut self, at: usize, asked: Ask) {
        if matches!(asked, Ask::History { .. }) {
            self.conversations[at].wishes.push_front(asked);
        }
    }

    fn begin(&mut self, at: usize, frame: &Map<String, Value>) {
        let head = number(frame, "head").unwrap_or(0);
        let first = rows(frame).next().and_then(|row| row.seq).unwrap_or(head.saturating_add(1));
        self.conversations[at].last.get_or_insert(first.saturating_sub(1));
        self.take_rows(at, frame);
    }

    fn go_on(&mut self, at: usize, frame: &Map<String, Value>) {
        let one = &mut self.conversations[at];
        let (last, floor) = (one.last.unwrap_or(0), number(frame, "floor").unwrap_or(0));
        let next = last.saturating_add(1);
        if floor > next {
            one.last = Some(floor - 1);
            let conv = one.conv;
            self.tell(Event::Gap { conv, from: next, to: floor - 1 });
        }
        self.take_rows(at, frame);
    }

    fn take_rows(&mut self, at: usize, frame: &Map<String, Value>) {
        for row in rows(frame) {
            if let Some(seq) = row.seq.filter(|seq| Some(*seq) > self.conversations[at].last) {
                self.show(at, seq, row);
            }
        }
        let head = number(frame, "head").unwrap_or(0);
        self.conversations[at].goal = self.conversations[at].goal.max(head);
    }

    fn has_other_history(&self, at: usize, epoch: Option<u64>) -> bool {
        epoch.is_some() && self.conversations[at].epoch.is_some_and(|known| Some(known) != epoch)
    }

    fn forget(&mut self, at: usize, epoch: Option<u64>) {
        let conv = self.conversations[at].conv;
        let old = std::mem::replace(&mut self.conversations[at], Conversation::new(conv));
        let one = &mut self.conversations[at];
        one.epoch = epoch;
        (one.stale, one.asked, one.wishes, one.queued) = (old.asked.is_some(), old.asked, old.wishes, old.queued);
        self.tell(Event::Reset { conv });
    }

    /// Conversations begin where the list of conversations says.
    const fn list_begins(&self) -> bool {
        self.settings.first_page == 0
    }

    fn listed(&mut self, frame: &Map<String, Value>) {
        let epoch = number(frame, "epoch");
        let convs = frame.get("convs").and_then(Value::as_array);
        for row in convs.into_iter().flatten().filter_map(Value::as_object) {
            let Some(at) = conv_of(row).and_then(|conv| self.conversation(conv)) else { continue };
            if self.has_other_history(at, epoch) {
                self.forget(at, epoch);
            }
            if self.list_begins() {
                self.begin_at(at, row, epoch);
            }
            let one = &mut self.conversations[at];
            let said = |field| number(row, field).unwrap_or(0);
            one.goal = one.goal.max(said("head"));
            (one.recv, one.recv_said) = (one.recv.max(said("recv")), one.recv_said.max(said("recv")));
            (one.read, one.read_said) = (one.read.max(said("read")), one.read_said.max(said("read")));
            self.fill(at);
        }
    }

    /// It begins where its row of the list says; its newest message has been received with that.
    fn begin_at(&mut self, at: usize, row: &Map<String, Value>, epoch: Option<u64>) {
        let head = number(row, "head").unwrap_or(0);
        let one = &mut self.conversations[at];
        one.epoch = one.epoch.or(epoch);
        if one.last.is_some() || one.asked.is_some() {
            return;
        }
        one.last = Some(head);
        let author = row.get("last").and_then(|last| last.get("userid")).and_then(Value::as_u64);
        if matches!(one.conv, Conv::Direct(_)) && author.is_some_and(|author| author != self.settings.user) {
            one.recv = one.recv.max(head);
            self.gather_receipts();
        }
    }

    fn receipt(&mut self, frame: &Map<String, Value>) {
        let Some(conv) = conv_of(frame) else { return };
        let said = |field| number(frame, field).unwrap_or(0);
        let (userid, recv, read) = (said("userid"), said("recv"), said("read"));
        if userid == self.settings.user
            && let Some(at) = self.conversation(conv)
        {
            let one = &mut self.conversations[at];
            (one.read, one.read_said) = (one.read.max(read), one.read_said.max(read));
        }
        self.tell(Event::Receipt { userid, conv, recv, read });
    }
}

/// Whether a client comes back by itself after that close code (`docs/protocol.md`, close codes).
#[must_use]
pub const fn comes_back(code: u16) -> bool {
    !matches!(code, 1000 | 1002 | 1003 | 1007 | 1009 | 4500..=4999)
}

/// The pause in milliseconds that a close reason asks for.
#[must_use]
pub fn retry_ms(reason: &str) -> Option<u64> {
    reason.split_once("retry_ms=")?.1.split_whitespace().next()?.parse().ok()
}

fn number(frame: &Map<String, Value>, field: &str) -> Option<u64> {
    frame.get(field)?.as_u64()
}

fn text<'a>(frame: &'a Map<String, Value>, field: &str) -> &'a str {
    frame.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn conv_of(frame: &Map<String, Value>) -> Option<Conv> {
    Conv::new(number(frame, "kind")?, number(frame, "dstid")?)
}

fn rows(frame: &Map<String, Value>) -> impl Iterator<Item = Message> + '_ {
    let rows = frame.get("rows").and_then(Value::as_array).into_iter().flatten();
    rows.filter_map(Value::as_object).map(|row| Message::new(row.clone()))
}
