//! The rules of `docs/protocol.md` for a correct client, without a socket, a clock or a thread:
//! time and what the gateway says go in, frames and events come out.
//!
//! Owns: what a correct client must remember: the place in each conversation, messages without
//! their ack, pauses, the window.
//! Never: shows a message out of turn or twice; forgets a message before its ack or its refusal.
//! Bounds: [`limits`]. What comes out is to be taken after each input.

mod incoming;
mod list;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde_json::{Map, Value, json};

use crate::event::{Conv, Event, Message};
use crate::jitter::Jitter;
use crate::limits;
use list::List;

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
    /// Once it has taken what was told before, the application is there: for [`Session::resume`],
    /// from here on raised by each [`Event::Message`] and [`Event::Gap`] and void after an
    /// [`Event::Reset`].
    Place {
        /// Where.
        conv: Conv,
        /// Everything up to here was shown.
        last: u64,
        /// Of which history.
        epoch: Option<u64>,
    },
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
    /// Of both what the gateway is known to have: the list or a relay has said so.
    recv_known: u64,
    read_known: u64,
    /// When a word about it that was refused for now is said again, and how often that was so.
    word_due_ms: Option<u64>,
    word_tries: u32,
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
            recv_known: 0,
            read_known: 0,
            word_due_ms: None,
            word_tries: 0,
        }
    }

    /// The gateway has said how far the user is.
    fn has_said(&mut self, recv: u64, read: u64) {
        (self.recv_known, self.read_known) = (self.recv_known.max(recv), self.read_known.max(read));
        (self.recv_said, self.read_said) = (self.recv_said.max(recv), self.read_said.max(read));
        (self.read, self.word_tries) = (self.read.max(read), 0);
    }

    /// What was said may not have come: it counts as unsaid.
    const fn unsay(&mut self) {
        (self.recv_said, self.read_said) = (self.recv_known, self.read_known);
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
    /// The server wants it to be sent again: what is newer in its conversation waits for its fate.
    again: bool,
    due_ms: Option<u64>,
}

/// A question that waits for a place in the window.
enum Job {
    Ask {
        at: usize,
        after: bool,
        history: bool,
    },
    /// The next page of the list of conversations.
    List,
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
    /// The names of messages that wait for a place in the window.
    posts: VecDeque<String>,
    asks: VecDeque<Job>,
    /// Whether the next place in the window is a question's.
    ask_is_next: bool,
    list: List,
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
            posts: VecDeque::new(),
            asks: VecDeque::new(),
            ask_is_next: false,
            list: List::default(),
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
        (one.last, one.epoch) = (Some(last), epoch);
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

    /// Whether a message of that name is without its ack.
    #[must_use]
    pub fn waits(&self, cid: &str) -> bool {
        self.outbox.contains_key(cid)
    }

    /// Whether it is connected, as far as it knows.
    #[must_use]
    pub const fn is_online(&self) -> bool {
        self.online
    }

    /// Whether it is to connect again, if it is not connected: not after [`Session::stop`], nor
    /// after a close code that forbids it.
    #[must_use]
    pub const fn is_wanted(&self) -> bool {
        self.wanted
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

    /// Says where a conversation is, where no event does.
    fn place(&mut self, at: usize) {
        let Conversation { conv, last, epoch, .. } = self.conversations[at];
        if let Some(last) = last {
            self.outputs.push_back(Output::Place { conv, last, epoch });
        }
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
        self.list.decides = self.list_begins() || self.conversations.len() > limits::ASKED_BLINDLY_MAX;
        for at in 0..self.conversations.len() {
            self.conversations[at].refused = false;
            match self.conversations[at].last {
                None => self.fill(at),
                Some(_) if self.list.decides && !self.conversations[at].wanted => {}
                Some(_) => self.ask(at, true),
            }
        }
        let mut waiting: Vec<(u64, String)> = self.outbox.iter().map(|(cid, item)| (item.order, cid.clone())).collect();
        waiting.sort_unstable();
        for (_, cid) in waiting {
            self.post(&cid);
        }
        for at in 0..self.conversations.len() {
            self.say_read(at);
        }
        self.say_received();
    }

    fn lost(&mut self) {
        self.online = false;
        (self.unanswered, self.asking, self.heartbeat_ms) = (0, false, None);
        self.list = List::default();
        self.posts.clear();
        self.asks.clear();
        for one in &mut self.conversations {
            if let Some(wish @ Ask::History { .. }) = one.asked.take() {
                one.wishes.push_front(wish);
            }
            one.held.clear();
            (one.queued, one.stale, one.due_ms) = (false, false, None);
            (one.word_due_ms, one.word_tries) = (None, 0);
            one.unsay();
        }
        for item in self.outbox.values_mut() {
            (item.waiting, item.queued, item.again) = (false, false, false);
            (item.tries, item.due_ms) = (0, None);
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
        let own = [self.reconnect_ms, self.heartbeat_ms, self.receipts_ms, self.list.due_ms];
        let items = self.outbox.values().map(|item| item.due_ms);
        let asks = self.conversations.iter().flat_map(|one| [one.due_ms, one.word_due_ms]);
        own.into_iter().chain(items).chain(asks).flatten().min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        while let Some(due_ms) = self.due_ms().filter(|due_ms| *due_ms <= now_ms) {
            self.fire(due_ms);
        }
    }

    /// Nothing is read, because the application does not take what it was told: it is to be called
    /// before each [`Session::tick`] of such a time. An answer that lies in the socket is not
    /// missing, and a connection more would only be a further one that is not read.
    pub fn deaf(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        if std::mem::take(&mut self.asking) {
            // Heartbeats go on: the gateway ends what it hears nothing of.
            self.heartbeat_ms = Some(now_ms + limits::HEARTBEAT_MS);
        }
        for item in self.outbox.values_mut().filter(|item| item.waiting) {
            item.due_ms = item.due_ms.max(Some(now_ms + limits::ACK_MS));
        }
        if self.reconnect_ms.is_some_and(|due_ms| due_ms <= now_ms) {
            self.reconnect_ms = Some(now_ms + limits::PAUSE_MS);
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
        } else if self.list.due_ms == due {
            self.list.due_ms = None;
            self.ask_list();
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
            self.say(at);
        } else if let Some(at) = self.conversations.iter().position(|one| one.word_due_ms == due) {
            self.conversations[at].word_due_ms = None;
            self.say_read(at);
            self.say_received_of(at);
        }
    }

    fn pump(&mut self) {
        while self.online && self.unanswered < limits::WINDOW {
            // They take turns: neither waits for thousands of the other.
            let job = if self.ask_is_next || self.posts.is_empty() { self.asks.pop_front() } else { None };
            let counts = match job {
                Some(Job::Ask { at, after, history }) => self.ask_now(at, after, history),
                Some(Job::List) => self.ask_list_now(),
                None => {
                    let Some(cid) = self.posts.pop_front() else { return };
                    self.post_now(&cid)
                }
            };
            self.ask_is_next = !self.ask_is_next;
            self.unanswered += usize::from(counts);
        }
    }

    fn answered(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
        self.pump();
    }

    // ---- what the application does ----

    /// Sends a message, now or as soon as it can. `cid`: a name that no other message of this user
    /// will ever have, at most 64 bytes; one that waits already is not sent once more. What the
    /// gateway could not even read (`limits`) is refused here.
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
        if self.outbox.contains_key(cid) {
            return Ok(());
        }
        if self.outbox.len() >= limits::OUTBOX_MAX {
            return Err(Full);
        }
        // The gateway's refusal of these names no message, and a frame that is too long ends it
        // all.
        if let Some(code) = unsayable(cid, &post_frame(conv, &body, recall, cid)) {
            self.tell(Event::Refused { cid: Some(cid.to_owned()), conv, code });
            return Ok(());
        }
        self.posted += 1;
        let (order, tries, due_ms) = (self.posted, 0, None);
        let (waiting, queued, again) = (false, false, false);
        let item = Item { conv, body, recall, order, tries, waiting, queued, again, due_ms };
        self.outbox.insert(cid.to_owned(), item);
        self.post(cid);
        Ok(())
    }

    /// The user has read up to `seq`. Of a group that the user has left this is refused, which
    /// looks like the refusal of a page: do not ask for its history right behind it.
    pub fn read(&mut self, now_ms: u64, conv: Conv, seq: u64) {
        self.now_ms = now_ms;
        if let Some(at) = self.conversation(conv) {
            self.conversations[at].read = self.conversations[at].read.max(seq);
            self.say_read(at);
        }
    }

    /// Asks for the last `limit` (1 to 200) messages before `before`, or for the newest.
    ///
    /// # Errors
    /// [`Full`]: [`limits::HISTORY_WAITING_MAX`] of this conversation, or
    /// [`limits::CONVERSATIONS_MAX`].
    pub fn history(&mut self, now_ms: u64, conv: Conv, before: Option<u64>, limit: u32) -> Result<(), Full> {
        self.now_ms = now_ms;
        if !(1..=limits::ID_MAX).contains(&conv.dstid()) {
            // The gateway's refusal would not name the conversation.
            self.tell(Event::Refused { cid: None, conv, code: BAD_FIELD });
            return Ok(());
        }
        let at = self.conversation(conv).ok_or(Full)?;
        if self.conversations[at].wishes.len() >= limits::HISTORY_WAITING_MAX {
            return Err(Full);
        }
        let (before, limit) = (before.map(|seq| seq.min(limits::ID_MAX)), limit.clamp(1, limits::SYNC_ROWS));
        self.conversations[at].wishes.push_back(Ask::History { before, limit });
        self.conversations[at].refused = false;
        self.fill(at);
        Ok(())
    }

    /// Whether a word about it may be said: the refusal of one looks like that of what is asked of
    /// its conversation, whose page would then not be known for what it is.
    fn may_say(&self, at: usize) -> bool {
        let one = &self.conversations[at];
        // The list may be the reason to ask, or says that there is nothing to be said.
        let to_be_asked = self.list.decides && !self.list.known;
        // One that was refused has a pause, whatever is said about other conversations meanwhile.
        let waits = one.queued || one.due_ms.is_some() || one.word_due_ms.is_some();
        self.online && one.asked.is_none() && !waits && !to_be_asked
    }

    /// A word about it was refused for now.
    fn say_later(&mut self, at: usize) {
        let due_ms = self.now_ms + self.pause_ms(self.conversations[at].word_tries);
        let one = &mut self.conversations[at];
        one.unsay();
        if one.word_due_ms.is_none() {
            (one.word_due_ms, one.word_tries) = (Some(due_ms), one.word_tries.saturating_add(1));
        }
    }

    /// Says what was read now, and what was received in a moment.
    fn say(&mut self, at: usize) {
        self.say_read(at);
        let one = &self.conversations[at];
        if matches!(one.conv, Conv::Direct(_)) && one.recv > one.recv_said {
            self.gather_receipts();
        }
    }

    fn say_read(&mut self, at: usize) {
        let may_say = self.may_say(at);
        let one = &mut self.conversations[at];
        if !may_say || one.read <= one.read_said {
            return;
        }
        one.read_said = one.read;
        one.recv_said = one.recv_said.max(one.read);
        let frame = json!({ "cmd": 3, "kind": one.conv.kind(), "dstid": one.conv.dstid(), "read": one.read });
        self.write(&frame);
    }

    fn say_received(&mut self) {
        for at in 0..self.conversations.len() {
            self.say_received_of(at);
        }
    }

    fn say_received_of(&mut self, at: usize) {
        let may_say = self.settings.receipts && self.may_say(at);
        let one = &mut self.conversations[at];
        if !may_say || !matches!(one.conv, Conv::Direct(_)) || one.recv <= one.recv_said {
            return;
        }
        one.recv_said = one.recv;
        let frame = json!({ "cmd": 3, "kind": one.conv.kind(), "dstid": one.conv.dstid(), "recv": one.recv });
        self.write(&frame);
    }

    fn post(&mut self, cid: &str) {
        let online = self.online;
        let Some(item) = self.outbox.get_mut(cid) else { return };
        if online && !item.queued {
            item.queued = true;
            self.posts.push_back(cid.to_owned());
            self.pump();
        }
    }

    /// Whether it takes a place in the window.
    fn post_now(&mut self, cid: &str) -> bool {
        let now_ms = self.now_ms;
        let held = self.is_held(cid);
        let Some(item) = self.outbox.get_mut(cid) else { return false };
        let first = !item.waiting;
        item.queued = false;
        if first && held {
            return false;
        }
        item.waiting = true;
        item.due_ms = Some(now_ms + (limits::ACK_MS << item.tries.min(8)).min(limits::PAUSE_MS_MAX));
        item.tries += 1;
        let frame = post_frame(item.conv, &item.body, item.recall, cid);
        self.write(&frame);
        first
    }

    /// Whether an older message of its conversation has to be sent again first.
    fn is_held(&self, cid: &str) -> bool {
        let Some(item) = self.outbox.get(cid) else { return false };
        self.outbox.values().any(|older| older.again && older.order < item.order && older.conv == item.conv)
    }

    /// The fate of a message that was to be sent again is known: those behind it go out, in their
    /// order, though a newer one may stand in the queue already.
    fn release(&mut self, conv: Conv) {
        let mut behind = Vec::new();
        for (cid, item) in &mut self.outbox {
            if item.conv == conv && !item.waiting && item.due_ms.is_none() {
                item.queued = false;
                behind.push((item.order, cid.clone()));
            }
        }
        behind.sort_unstable();
        self.posts.retain(|cid| !behind.iter().any(|(_, other)| other == cid));
        for (_, cid) in behind {
            self.post(&cid);
        }
    }

    fn settle(&mut self, cid: &str) -> Option<Item> {
        let item = self.outbox.remove(cid)?;
        if item.again {
            self.release(item.conv);
        }
        if item.waiting {
            self.answered();
        }
        Some(item)
    }

    // ---- what the server says ----
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

/// The refusal codes for what cannot be read, and for a field that cannot be.
const MALFORMED: u64 = 1;
const BAD_FIELD: u64 = 3;

/// A message, or a recall.
fn post_frame(conv: Conv, body: &Map<String, Value>, recall: Option<u64>, cid: &str) -> Value {
    let mut frame = match recall {
        Some(seq) => json!({ "cmd": 8, "kind": conv.kind(), "seq": seq }),
        None => Value::Object(body.clone()),
    };
    if recall.is_none() {
        frame["cmd"] = conv.kind().into();
    }
    frame["dstid"] = conv.dstid().into();
    frame["cid"] = cid.into();
    frame
}

/// The code with which the gateway would refuse a message without naming it. `None`: it would not.
fn unsayable(cid: &str, frame: &Value) -> Option<u64> {
    if !(1..=limits::CID_BYTES_MAX).contains(&cid.len()) {
        return Some(BAD_FIELD);
    }
    let readable = is_within(frame, limits::JSON_DEPTH_MAX) && frame.to_string().len() <= limits::FRAME_BYTES_MAX;
    (!readable).then_some(MALFORMED)
}

/// Whether a value is nested no deeper than that.
fn is_within(value: &Value, levels: usize) -> bool {
    let inner = |value: &Value| is_within(value, levels - 1);
    match value {
        Value::Array(values) => levels > 0 && values.iter().all(inner),
        Value::Object(fields) => levels > 0 && fields.values().all(inner),
        _ => true,
    }
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
