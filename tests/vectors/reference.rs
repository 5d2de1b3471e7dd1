//! A small client of `imgate.v2` after the rules of `docs/protocol.md`: inputs in, frames and events out, time as an argument.
//!
//! Owns: what a correct client must remember.
//! Never: a socket, a clock or a thread; [`super`] plays the server, the application and the time.
//! Bounds: [`WINDOW`] unanswered commands, [`HELD`] pushes before their turn in each conversation.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Map, Value, json};

/// Commands unanswered at once; the server reads up to 64.
const WINDOW: usize = 32;
/// Pushes that are kept before their turn.
const HELD: usize = 256;
const ACK_TIMEOUT_MS: u64 = 10_000;
const BACKOFF_LAST_MS: u64 = 60_000;
const GOOD_CONNECTION_MS: u64 = 30_000;
/// How exactly the moment is kept that a gateway which stops gives a connection to come back.
const SLOT_JITTER_MS: u64 = 1_000;
const HEARTBEAT_MS: u64 = 12_000;
/// How long a heartbeat may go unanswered; doubled with each connection that ended so in a row.
const ANSWER_MS: u64 = 6_000;
const ANSWER_LAST_MS: u64 = 48_000;
const RECEIPTS_MS: u64 = 300;
const DIRECT: u64 = 10;

/// Doubles from a second to a minute. The vectors say that all random numbers are 0.5: three quarters of it.
fn delay(tries: u32) -> u64 {
    (1000 << tries.min(10)).min(BACKOFF_LAST_MS) * 3 / 4
}

fn number(frame: &Value, field: &str) -> Option<u64> {
    frame.get(field)?.as_u64()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    First,
    After,
    History { before: Option<u64>, limit: u64 },
}

#[derive(Default)]
struct Conversation {
    kind: u64,
    dstid: u64,
    /// Everything up to here was shown; none before the beginning was chosen.
    last: Option<u64>,
    /// The highest number that is known to exist.
    goal: u64,
    wanted: bool,
    epoch: Option<u64>,
    held: BTreeMap<u64, Value>,
    asked: Option<Ask>,
    /// The answer that is on its way speaks of what was forgotten.
    stale: bool,
    wishes: VecDeque<Ask>,
    queued: bool,
    due: Option<u64>,
    tries: u32,
    refused: bool,
    recv: u64,
    recv_said: u64,
    read: u64,
    read_said: u64,
}

struct Item {
    cid: String,
    kind: u64,
    dstid: u64,
    body: Map<String, Value>,
    recall: Option<u64>,
    tries: u32,
    waiting: bool,
    queued: bool,
    due: Option<u64>,
}

enum Job {
    Post(String),
    Ask(usize, bool, bool),
}

/// See the module.
pub(crate) struct Client {
    user: u64,
    first_page: u64,
    receipts: bool,
    now: u64,
    online: bool,
    wanted: bool,
    online_since: u64,
    failures: u32,
    reconnect_due: Option<u64>,
    heartbeat_due: Option<u64>,
    asking: bool,
    unheard: u32,
    receipts_due: Option<u64>,
    unanswered: usize,
    queue: VecDeque<Job>,
    conversations: Vec<Conversation>,
    outbox: Vec<Item>,
    /// How often it has dialled.
    pub(crate) dials: u32,
    /// Frames and events since they were last taken, as the vectors write them.
    pub(crate) outputs: Vec<Value>,
}

impl Client {
    /// One that has dialled for the first time.
    pub(crate) fn new(user: u64, first_page: u64, receipts: bool) -> Self {
        Self {
            user,
            first_page,
            receipts,
            now: 0,
            online: false,
            wanted: true,
            online_since: 0,
            failures: 0,
            reconnect_due: None,
            heartbeat_due: None,
            asking: false,
            unheard: 0,
            receipts_due: None,
            unanswered: 0,
            queue: VecDeque::new(),
            conversations: Vec::new(),
            outbox: Vec::new(),
            dials: 1,
            outputs: Vec::new(),
        }
    }

    fn write(&mut self, frame: Value) {
        if self.online {
            self.outputs.push(json!({ "client": frame }));
        }
    }

    fn emit(&mut self, event: &str, mut detail: Value) {
        detail["emit"] = event.into();
        self.outputs.push(detail);
    }

    fn find(&self, kind: u64, dstid: u64) -> Option<usize> {
        self.conversations.iter().position(|one| (one.kind, one.dstid) == (kind, dstid))
    }

    fn conversation(&mut self, kind: u64, dstid: u64) -> usize {
        self.find(kind, dstid).unwrap_or_else(|| {
            self.conversations.push(Conversation { kind, dstid, ..Conversation::default() });
            self.conversations.len() - 1
        })
    }

    // ---- the connection and the time ----

    /// The connection is open.
    pub(crate) fn opened(&mut self) {
        self.online = true;
        self.online_since = self.now;
        self.heartbeat_due = Some(self.now + HEARTBEAT_MS);
        for at in 0..self.conversations.len() {
            self.conversations[at].refused = false;
            match self.conversations[at].last {
                None => self.fill(at),
                Some(_) if self.list_begins() && !self.conversations[at].wanted => {}
                Some(_) => self.ask(at, true),
            }
        }
        let cids: Vec<String> = self.outbox.iter().map(|item| item.cid.clone()).collect();
        for cid in cids {
            self.post(&cid);
        }
        self.say_read();
        self.say_received();
    }

    fn lost(&mut self) {
        self.online = false;
        (self.unanswered, self.asking, self.heartbeat_due) = (0, false, None);
        self.queue.clear();
        for one in &mut self.conversations {
            if let Some(wish @ Ask::History { .. }) = one.asked.take() {
                one.wishes.push_front(wish);
            }
            one.held.clear();
            (one.queued, one.stale, one.due) = (false, false, None);
            (one.read_said, one.recv_said) = (0, 0);
        }
        for item in &mut self.outbox {
            (item.waiting, item.queued, item.tries, item.due) = (false, false, 0, None);
        }
    }

    /// The connection has ended with this code.
    pub(crate) fn closed(&mut self, code: u64, reason: &str) {
        if self.online && self.now - self.online_since >= GOOD_CONNECTION_MS {
            self.failures = 0;
        }
        self.lost();
        if matches!(code, 1000 | 1002 | 1003 | 1007 | 1009 | 4500..=4999) {
            self.wanted = false;
            return;
        }
        let mut wait = if code == 1011 { delay(u32::MAX) } else { delay(self.failures) };
        if let Some(asked) = reason.split_once("retry_ms=").and_then(|(_, ms)| ms.parse::<u64>().ok()) {
            wait = wait.max(asked + SLOT_JITTER_MS / 2);
        }
        self.failures += 1;
        self.reconnect_due = Some(self.now + wait);
    }

    /// Lets time go on, and stops early when it has dialled.
    pub(crate) fn advance(&mut self, ms: u64) {
        let (end, dials) = (self.now + ms, self.dials);
        while let Some(due) = self.next_due().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.fire(due);
            if self.dials > dials {
                return;
            }
        }
        self.now = end;
    }

    fn next_due(&self) -> Option<u64> {
        let own = [self.reconnect_due, self.heartbeat_due, self.receipts_due];
        let items = self.outbox.iter().map(|item| item.due);
        let asks = self.conversations.iter().map(|one| one.due);
        own.into_iter().chain(items).chain(asks).flatten().min()
    }

    fn fire(&mut self, due: u64) {
        if self.reconnect_due == Some(due) {
            self.reconnect_due = None;
            self.dials += u32::from(self.wanted);
        } else if self.heartbeat_due == Some(due) {
            if self.asking {
                self.unheard = (self.unheard + 1).min(8);
                return self.closed(1006, "");
            }
            self.asking = true;
            self.heartbeat_due = Some(self.now + (ANSWER_MS << self.unheard).min(ANSWER_LAST_MS));
            self.write(json!({ "cmd": 0 }));
        } else if self.receipts_due == Some(due) {
            self.receipts_due = None;
            self.say_received();
        } else if let Some(item) = self.outbox.iter_mut().find(|item| item.due == Some(due)) {
            item.due = None;
            let cid = item.cid.clone();
            self.post(&cid);
        } else if let Some(at) = self.conversations.iter().position(|one| one.due == Some(due)) {
            self.conversations[at].due = None;
            let one = &self.conversations[at];
            if one.last.is_some_and(|last| one.goal <= last) {
                self.ask(at, true);
            }
            self.fill(at);
        }
    }

    fn pump(&mut self) {
        while self.online && self.unanswered < WINDOW {
            let Some(job) = self.queue.pop_front() else { return };
            let counts = match job {
                Job::Post(cid) => self.post_now(&cid),
                Job::Ask(at, after, history) => self.ask_now(at, after, history),
            };
            self.unanswered += usize::from(counts);
        }
    }

    fn answered(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
        self.pump();
    }

    // ---- what the application does ----

    /// Sends a message or, with `recall`, takes one back.
    pub(crate) fn send(&mut self, kind: u64, dstid: u64, body: &Value, recall: Option<u64>, cid: &str) {
        let body = body.as_object().cloned().unwrap_or_default();
        let cid = cid.to_owned();
        let (tries, waiting, queued, due) = (0, false, false, None);
        self.outbox.push(Item { cid: cid.clone(), kind, dstid, body, recall, tries, waiting, queued, due });
        self.post(&cid);
    }

    /// The user has read up to `seq`.
    pub(crate) fn read(&mut self, kind: u64, dstid: u64, seq: u64) {
        let at = self.conversation(kind, dstid);
        self.conversations[at].read = self.conversations[at].read.max(seq);
        self.say_read();
    }

    /// Wants a page of before.
    pub(crate) fn history(&mut self, kind: u64, dstid: u64, before: Option<u64>, limit: u64) {
        let at = self.conversation(kind, dstid);
        self.conversations[at].wishes.push_back(Ask::History { before, limit });
        self.fill(at);
    }

    fn say_read(&mut self) {
        for at in 0..self.conversations.len() {
            let one = &mut self.conversations[at];
            if !self.online || one.read <= one.read_said {
                continue;
            }
            one.read_said = one.read;
            one.recv_said = one.recv_said.max(one.read);
            let frame = json!({ "cmd": 3, "kind": one.kind, "dstid": one.dstid, "read": one.read });
            self.write(frame);
        }
    }

    fn say_received(&mut self) {
        for at in 0..self.conversations.len() {
            let one = &mut self.conversations[at];
            if !self.online || !self.receipts || one.kind != DIRECT || one.recv <= one.recv_said {
                continue;
            }
            one.recv_said = one.recv;
            let frame = json!({ "cmd": 3, "kind": DIRECT, "dstid": one.dstid, "recv": one.recv });
            self.write(frame);
        }
    }

    fn post(&mut self, cid: &str) {
        let online = self.online;
        let Some(item) = self.outbox.iter_mut().find(|item| item.cid == cid) else { return };
        if online && !item.queued {
            item.queued = true;
            self.queue.push_back(Job::Post(cid.to_owned()));
            self.pump();
        }
    }

    fn post_now(&mut self, cid: &str) -> bool {
        let now = self.now;
        let Some(item) = self.outbox.iter_mut().find(|item| item.cid == cid) else { return false };
        let first = !item.waiting;
        (item.queued, item.waiting) = (false, true);
        item.due = Some(now + (ACK_TIMEOUT_MS << item.tries.min(8)).min(BACKOFF_LAST_MS));
        item.tries += 1;
        let mut frame = match item.recall {
            Some(seq) => json!({ "cmd": 8, "kind": item.kind, "seq": seq }),
            None => Value::Object(item.body.clone()),
        };
        if item.recall.is_none() {
            frame["cmd"] = item.kind.into();
        }
        frame["dstid"] = item.dstid.into();
        frame["cid"] = item.cid.clone().into();
        self.write(frame);
        first
    }

    fn settle(&mut self, cid: &str) -> Option<Item> {
        let at = self.outbox.iter().position(|item| item.cid == cid)?;
        let item = self.outbox.remove(at);
        if item.waiting {
            self.answered();
        }
        Some(item)
    }

    // ---- what the server says ----

    /// A text from the server.
    pub(crate) fn heard(&mut self, text: &str) {
        if std::mem::take(&mut self.asking) {
            self.unheard = 0;
        }
        self.heartbeat_due = Some(self.now + HEARTBEAT_MS);
        let Ok(frame) = serde_json::from_str::<Value>(text) else { return };
        match number(&frame, "cmd") {
            Some(1) => self.acked(&frame),
            Some(2) => self.refused(&frame),
            Some(3) => self.receipt(&frame),
            Some(4) => self.page(&frame),
            Some(5) => self.listed(&frame),
            Some(10 | 11) => self.pushed(frame),
            _ => {}
        }
    }

    fn place(frame: &Value) -> (u64, u64) {
        (number(frame, "kind").unwrap_or(0), number(frame, "dstid").unwrap_or(0))
    }

    fn acked(&mut self, frame: &Value) {
        let (kind, dstid) = Self::place(frame);
        let cid = frame["cid"].as_str().unwrap_or_default();
        let Some(item) = self.settle(cid) else {
            let (at, seq) = (self.conversation(kind, dstid), number(frame, "seq").unwrap_or(0));
            if seq > self.conversations[at].last.unwrap_or(0) {
                self.conversations[at].goal = self.conversations[at].goal.max(seq);
                self.fill(at);
            }
            return;
        };
        self.emit("sent", json!({ "cid": cid, "kind": kind, "dstid": dstid, "seq": frame.get("seq") }));
        let mut message = Value::Object(item.body);
        if let Some(seq) = item.recall {
            message = json!({ "media": 1, "recall": seq });
        }
        for field in ["id", "seq", "ts"] {
            if let Some(value) = frame.get(field) {
                message[field] = value.clone();
            }
        }
        message["userid"] = self.user.into();
        message["cid"] = cid.into();
        match number(frame, "seq") {
            Some(seq) => {
                let at = self.conversation(kind, dstid);
                self.arrived(at, seq, message);
            }
            None => self.tell(kind, dstid, &message),
        }
    }

    fn refused(&mut self, frame: &Value) {
        let retry = frame["retry"] == true;
        let code = &frame["code"];
        if let Some(cid) = frame["cid"].as_str() {
            if !retry {
                if let Some(item) = self.settle(cid) {
                    self.emit("refused", json!({ "cid": cid, "kind": item.kind, "dstid": item.dstid, "code": code }));
                }
            } else if let Some(item) = self.outbox.iter_mut().find(|item| item.cid == cid) {
                item.due = Some(self.now + delay(item.tries - 1));
                if std::mem::take(&mut item.waiting) {
                    self.answered();
                }
            }
            return;
        }
        let (kind, dstid) = Self::place(frame);
        let Some(at) = self.find(kind, dstid) else { return };
        let Some(asked) = self.conversations[at].asked.take() else { return };
        if retry {
            if asked != Ask::First && asked != Ask::After {
                self.conversations[at].wishes.push_front(asked);
            }
            self.later(at);
        } else {
            self.conversations[at].refused = true;
            self.emit("refused", json!({ "kind": kind, "dstid": dstid, "code": code }));
        }
        self.answered();
    }

    fn pushed(&mut self, message: Value) {
        let kind = number(&message, "cmd").unwrap_or(0);
        let author = number(&message, "userid").unwrap_or(0);
        let told = number(&message, "dstid").unwrap_or(0);
        let dstid = if kind == DIRECT && author != self.user { author } else { told };
        match number(&message, "seq") {
            Some(seq) => {
                let at = self.conversation(kind, dstid);
                self.arrived(at, seq, message);
            }
            None => self.tell(kind, dstid, &message),
        }
    }

    fn tell(&mut self, kind: u64, dstid: u64, message: &Value) {
        let mut detail = json!({ "kind": kind, "dstid": dstid });
        for field in ["seq", "content", "recall"] {
            if let Some(value) = message.get(field) {
                detail[field] = value.clone();
            }
        }
        self.emit("message", detail);
    }

    /// Rule 1.
    fn arrived(&mut self, at: usize, seq: u64, message: Value) {
        let list_begins = self.list_begins();
        let one = &mut self.conversations[at];
        if one.last.is_none() && (seq == 1 || list_begins) && one.asked.is_none() {
            one.last = Some(seq - 1);
        }
        if one.last.is_some_and(|last| seq <= last) {
            return;
        }
        one.goal = one.goal.max(seq);
        if one.last.is_some_and(|last| seq == last + 1) {
            self.show(at, seq, &message);
        } else if one.held.len() < HELD {
            one.held.insert(seq, message);
        }
        self.drain(at);
        self.fill(at);
    }

    fn show(&mut self, at: usize, seq: u64, message: &Value) {
        let one = &mut self.conversations[at];
        (one.last, one.goal) = (Some(seq), one.goal.max(seq));
        let (kind, dstid) = (one.kind, one.dstid);
        let own = number(message, "userid") == Some(self.user);
        if kind == DIRECT && !own {
            one.recv = seq;
            if self.receipts {
                self.receipts_due.get_or_insert(self.now + RECEIPTS_MS);
            }
        }
        let cid = message["cid"].as_str().unwrap_or_default();
        if own && self.settle(cid).is_some() {
            self.emit("sent", json!({ "cid": cid, "kind": kind, "dstid": dstid, "seq": seq }));
        }
        self.tell(kind, dstid, message);
    }

    fn drain(&mut self, at: usize) {
        while let Some(next) = self.conversations[at].last.map(|last| last + 1) {
            let Some(message) = self.conversations[at].held.remove(&next) else { break };
            self.show(at, next, &message);
        }
        if let Some(last) = self.conversations[at].last {
            self.conversations[at].held.retain(|seq, _| *seq > last);
        }
    }

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
        if !self.online || one.asked.is_some() || one.queued || one.due.is_some() || one.refused {
            return;
        }
        one.queued = true;
        self.queue.push_back(Job::Ask(at, after, history));
        self.pump();
    }

    fn ask_now(&mut self, at: usize, after: bool, history: bool) -> bool {
        let first_page = self.first_page;
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
        let mut frame = json!({ "cmd": 4, "kind": one.kind, "dstid": one.dstid });
        match ask {
            Ask::First => frame["limit"] = first_page.max(1).into(),
            Ask::After => {
                frame["after"] = one.last.unwrap_or(0).into();
                frame["limit"] = 200.into();
            }
            Ask::History { before, limit } => {
                if let Some(before) = before {
                    frame["before"] = before.into();
                }
                frame["limit"] = limit.into();
            }
        }
        one.asked = Some(ask);
        self.write(frame);
        true
    }

    fn later(&mut self, at: usize) {
        let one = &mut self.conversations[at];
        one.due = Some(self.now + delay(one.tries));
        one.tries += 1;
    }

    fn page(&mut self, frame: &Value) {
        let (kind, dstid) = Self::place(frame);
        let Some(at) = self.find(kind, dstid) else { return };
        let Some(asked) = self.conversations[at].asked.take() else { return };
        let before = self.conversations[at].last;
        let epoch = number(frame, "epoch");
        if std::mem::take(&mut self.conversations[at].stale) {
            if matches!(asked, Ask::History { .. }) {
                self.conversations[at].wishes.push_front(asked);
            }
        } else if self.other_history(at, epoch) || frame["reset"] == true {
            if matches!(asked, Ask::History { .. }) {
                self.conversations[at].wishes.push_front(asked);
            }
            self.forget(at, epoch);
            if asked == Ask::First { self.begin(at, frame) } else { self.conversations[at].wanted = true }
        } else {
            self.conversations[at].epoch = epoch;
            match asked {
                Ask::First => self.begin(at, frame),
                Ask::After => self.go_on(at, frame),
                Ask::History { .. } => {
                    let seqs: Vec<&Value> = rows(frame).map(|row| &row["seq"]).collect();
                    self.emit("history", json!({ "seqs": seqs, "more": frame["more"] }));
                }
            }
        }
        self.drain(at);
        let one = &mut self.conversations[at];
        if asked == Ask::After && before.is_some() && one.last == before && one.last < Some(one.goal) {
            self.later(at);
        } else {
            one.tries = 0;
            self.fill(at);
        }
        self.answered();
    }

    fn begin(&mut self, at: usize, frame: &Value) {
        let head = number(frame, "head").unwrap_or(0);
        let first = rows(frame).next().and_then(|row| number(row, "seq")).unwrap_or(head + 1);
        self.conversations[at].last.get_or_insert(first - 1);
        self.take_rows(at, frame, head);
    }

    /// Conversations begin where the list of conversations says.
    fn list_begins(&self) -> bool {
        self.first_page == 0
    }

    /// It begins where its row of the list says; its newest message has been received with that.
    fn begin_at(&mut self, at: usize, row: &Value, epoch: Option<u64>) {
        let head = number(row, "head").unwrap_or(0);
        let one = &mut self.conversations[at];
        one.epoch = one.epoch.or(epoch);
        if one.last.is_some() || one.asked.is_some() {
            return;
        }
        one.last = Some(head);
        let author = number(&row["last"], "userid");
        if one.kind == DIRECT && author.is_some_and(|author| author != self.user) {
            one.recv = one.recv.max(head);
            if self.receipts {
                self.receipts_due.get_or_insert(self.now + RECEIPTS_MS);
            }
        }
    }

    fn go_on(&mut self, at: usize, frame: &Value) {
        let one = &mut self.conversations[at];
        let (last, floor) = (one.last.unwrap_or(0), number(frame, "floor").unwrap_or(0));
        if floor > last + 1 {
            one.last = Some(floor - 1);
            let detail = json!({ "kind": one.kind, "dstid": one.dstid, "from": last + 1, "to": floor - 1 });
            self.emit("gap", detail);
        }
        self.take_rows(at, frame, number(frame, "head").unwrap_or(0));
    }

    fn take_rows(&mut self, at: usize, frame: &Value, head: u64) {
        for row in rows(frame) {
            if let Some(seq) = number(row, "seq").filter(|seq| Some(*seq) > self.conversations[at].last) {
                self.show(at, seq, row);
            }
        }
        self.conversations[at].goal = self.conversations[at].goal.max(head);
    }

    fn other_history(&self, at: usize, epoch: Option<u64>) -> bool {
        epoch.is_some() && self.conversations[at].epoch.is_some_and(|known| Some(known) != epoch)
    }

    fn forget(&mut self, at: usize, epoch: Option<u64>) {
        let old = &mut self.conversations[at];
        let (kind, dstid) = (old.kind, old.dstid);
        let fresh = Conversation { kind, dstid, epoch, ..Conversation::default() };
        let old = std::mem::replace(old, fresh);
        let one = &mut self.conversations[at];
        (one.stale, one.asked, one.wishes, one.queued) = (old.asked.is_some(), old.asked, old.wishes, old.queued);
        self.emit("reset", json!({ "kind": kind, "dstid": dstid }));
    }

    fn listed(&mut self, frame: &Value) {
        let epoch = number(frame, "epoch");
        for row in frame["convs"].as_array().into_iter().flatten() {
            let (kind, dstid) = Self::place(row);
            let at = self.conversation(kind, dstid);
            if self.other_history(at, epoch) {
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

    fn receipt(&mut self, frame: &Value) {
        let (kind, dstid) = Self::place(frame);
        let said = |field| number(frame, field).unwrap_or(0);
        if said("userid") == self.user {
            let at = self.conversation(kind, dstid);
            let one = &mut self.conversations[at];
            (one.read, one.read_said) = (one.read.max(said("read")), one.read_said.max(said("read")));
        }
        let detail = json!({ "userid": said("userid"), "kind": kind, "dstid": dstid, "recv": said("recv"), "read": said("read") });
        self.emit("receipt", detail);
    }
}

fn rows(frame: &Value) -> impl Iterator<Item = &Value> {
    frame["rows"].as_array().into_iter().flatten()
}
