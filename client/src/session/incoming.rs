//! What a gateway says, taken in: acks, refusals, pushes, rows, lists and receipts.
//!
//! Owns: the order in which a conversation is shown, and what is asked for where something is
//! missing.

use super::*;

impl Session {
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

    pub(super) fn acked(&mut self, frame: &Map<String, Value>) {
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

    pub(super) fn refused(&mut self, frame: &Map<String, Value>) {
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
            (item.due_ms, item.again) = (Some(due_ms), true);
            if std::mem::take(&mut item.waiting) {
                self.answered();
            }
            return;
        }
        let Some(conv) = conv_of(frame) else {
            // Of all that is said here only a page of the list is refused so.
            if retry {
                self.list_refused();
            }
            return;
        };
        let Some(at) = self.find(conv) else { return };
        let Some(asked) = self.conversations[at].asked.take() else {
            // Nothing else that is said about a conversation is refused without a name.
            if retry {
                self.say_later(at);
            }
            return;
        };
        if retry {
            if matches!(asked, Ask::History { .. }) {
                self.conversations[at].wishes.push_front(asked);
            }
            self.later(at);
        } else {
            self.tell(Event::Refused { cid: None, conv, code });
            if matches!(asked, Ask::History { .. }) {
                self.fill(at);
            } else {
                // Who may not catch up may not look back either: nothing waits without an answer.
                self.conversations[at].refused = true;
                for _ in 0..std::mem::take(&mut self.conversations[at].wishes).len() {
                    self.tell(Event::Refused { cid: None, conv, code });
                }
            }
        }
        self.answered();
        self.say(at);
    }

    pub(super) fn pushed(&mut self, body: Map<String, Value>) {
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
    pub(super) fn arrived(&mut self, conv: Conv, message: Message) {
        let Some((seq, at)) = message.seq.and_then(|seq| Some((seq, self.conversation(conv)?))) else {
            return self.tell(Event::Message { conv, message });
        };
        let list_begins = self.list_begins();
        let one = &mut self.conversations[at];
        if one.last.is_none() && (seq == 1 || list_begins) && one.asked.is_none() {
            one.last = seq.checked_sub(1);
            self.place(at);
        }
        let one = &mut self.conversations[at];
        if one.last.is_some_and(|last| seq <= last) {
            return;
        }
        one.goal = one.goal.max(seq);
        // What is pushed may be read.
        one.refused = false;
        if one.last.is_some_and(|last| seq == last.saturating_add(1)) {
            self.show(at, seq, message);
        } else if one.held.len() < limits::HELD_MAX {
            one.held.insert(seq, message);
        }
        self.drain(at);
        self.fill(at);
    }

    pub(super) fn show(&mut self, at: usize, seq: u64, message: Message) {
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

    pub(super) fn gather_receipts(&mut self) {
        if self.settings.receipts {
            self.receipts_ms.get_or_insert(self.now_ms + limits::RECEIPTS_MS);
        }
    }

    /// Shows what was kept and has its turn now.
    pub(super) fn drain(&mut self, at: usize) {
        while let Some(next) = self.conversations[at].last.map(|last| last.saturating_add(1)) {
            let Some(message) = self.conversations[at].held.remove(&next) else { break };
            self.show(at, next, message);
        }
        if let Some(last) = self.conversations[at].last {
            self.conversations[at].held.retain(|seq, _| *seq > last);
        }
    }

    /// Asks for what is missing.
    pub(super) fn fill(&mut self, at: usize) {
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

    pub(super) fn ask(&mut self, at: usize, after: bool) {
        self.enqueue(at, after, false);
    }

    pub(super) fn enqueue(&mut self, at: usize, after: bool, history: bool) {
        let one = &mut self.conversations[at];
        if !self.online || one.asked.is_some() || one.queued || one.due_ms.is_some() || one.refused {
            return;
        }
        one.queued = true;
        self.asks.push_back(Job::Ask { at, after, history });
        self.pump();
    }

    /// Whether it takes a place in the window.
    pub(super) fn ask_now(&mut self, at: usize, after: bool, history: bool) -> bool {
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

    pub(super) fn later(&mut self, at: usize) {
        let due_ms = self.now_ms + self.pause_ms(self.conversations[at].tries);
        let one = &mut self.conversations[at];
        one.due_ms = Some(due_ms);
        one.tries = one.tries.saturating_add(1);
    }

    pub(super) fn page(&mut self, frame: &Map<String, Value>) {
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
            if std::mem::replace(&mut self.conversations[at].epoch, epoch) != epoch {
                self.place(at);
            }
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
        self.say(at);
    }

    pub(super) fn wish_again(&mut self, at: usize, asked: Ask) {
        if matches!(asked, Ask::History { .. }) {
            self.conversations[at].wishes.push_front(asked);
        }
    }

    pub(super) fn begin(&mut self, at: usize, frame: &Map<String, Value>) {
        let head = number(frame, "head").unwrap_or(0);
        let first = rows(frame).next().and_then(|row| row.seq).unwrap_or_else(|| head.saturating_add(1));
        self.conversations[at].last.get_or_insert_with(|| first.saturating_sub(1));
        self.place(at);
        self.take_rows(at, frame);
    }

    pub(super) fn go_on(&mut self, at: usize, frame: &Map<String, Value>) {
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

    pub(super) fn take_rows(&mut self, at: usize, frame: &Map<String, Value>) {
        for row in rows(frame) {
            if let Some(seq) = row.seq.filter(|seq| Some(*seq) > self.conversations[at].last) {
                self.show(at, seq, row);
            }
        }
        let head = number(frame, "head").unwrap_or(0);
        self.conversations[at].goal = self.conversations[at].goal.max(head);
    }

    pub(super) fn has_other_history(&self, at: usize, epoch: Option<u64>) -> bool {
        epoch.is_some() && self.conversations[at].epoch.is_some_and(|known| Some(known) != epoch)
    }

    pub(super) fn forget(&mut self, at: usize, epoch: Option<u64>) {
        let conv = self.conversations[at].conv;
        let old = std::mem::replace(&mut self.conversations[at], Conversation::new(conv));
        let one = &mut self.conversations[at];
        one.epoch = epoch;
        (one.stale, one.asked, one.wishes, one.queued) = (old.asked.is_some(), old.asked, old.wishes, old.queued);
        self.tell(Event::Reset { conv });
    }

    pub(super) fn receipt(&mut self, frame: &Map<String, Value>) {
        let Some(conv) = conv_of(frame) else { return };
        let said = |field| number(frame, field).unwrap_or(0);
        let (userid, recv, read) = (said("userid"), said("recv"), said("read"));
        if userid == self.settings.user
            && let Some(at) = self.conversation(conv)
        {
            self.conversations[at].has_said(recv, read);
        }
        self.tell(Event::Receipt { userid, conv, recv, read });
    }
}
