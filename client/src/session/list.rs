//! The list of conversations: what it says of each, and its further pages.
//!
//! Owns: what of the list has come on this connection, and which conversations are asked for
//! because of it.
//! Never: asks for thousands of conversations of which nothing says that they have news: the
//! gateway closes a session that asks for so much, and the next connection would begin anew.
//! Bounds: [`limits::ASKED_BLINDLY_MAX`].

use std::collections::HashSet;

use super::*;

/// The list on this connection.
#[derive(Default)]
pub(super) struct List {
    /// Known conversations are synced as it says, instead of one and all when the connection opens.
    pub(super) decides: bool,
    /// Nothing more is to be learned from it.
    pub(super) known: bool,
    /// Conversations of the pages so far.
    named: HashSet<usize>,
    /// The row behind which the next page begins: its time and its conversation.
    behind: Option<(u64, Conv)>,
    /// A further page is unanswered.
    asked: bool,
    tries: u32,
    /// When a page that was refused is asked for again.
    pub(super) due_ms: Option<u64>,
}

impl Session {
    /// Conversations begin where the list of conversations says.
    pub(super) const fn list_begins(&self) -> bool {
        self.settings.first_page == 0
    }

    pub(super) fn listed(&mut self, frame: &Map<String, Value>) {
        let epoch = number(frame, "epoch");
        let further = std::mem::take(&mut self.list.asked);
        let rows = frame.get("convs").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object);
        let mut behind = None;
        for row in rows {
            let Some(conv) = conv_of(row) else { continue };
            behind = number(row, "ts").map(|ts_ms| (ts_ms, conv));
            // A further page is asked for because of conversations that are known, and begins none.
            let Some(at) = (if further { self.find(conv) } else { self.conversation(conv) }) else { continue };
            self.list.named.insert(at);
            if self.has_other_history(at, epoch) {
                self.forget(at, epoch);
            }
            if self.list_begins() {
                self.begin_at(at, row, epoch);
            }
            let one = &mut self.conversations[at];
            let said = |field| number(row, field).unwrap_or(0);
            one.goal = one.goal.max(said("head"));
            one.recv = one.recv.max(said("recv"));
            if !self.list.known {
                // It also tells what of that a crash of the gateway has taken.
                (one.recv_known, one.read_known) = (0, 0);
                one.unsay();
            }
            one.has_said(said("recv"), said("read"));
            self.fill(at);
        }
        if !self.list.known {
            self.list.behind = behind.filter(|_| frame.get("more") == Some(&Value::Bool(true)));
            self.list_on(epoch);
        }
        if further {
            self.list.tries = 0;
            self.answered();
        }
    }

    /// Asks for the next page, or for what the list does not name.
    fn list_on(&mut self, epoch: Option<u64>) {
        let unnamed = |at: &usize| self.conversations[*at].last.is_some() && !self.list.named.contains(at);
        let unnamed: Vec<usize> = (0..self.conversations.len()).filter(unnamed).collect();
        let more = self.list.behind.is_some();
        if self.list.decides && more && unnamed.len() > limits::ASKED_BLINDLY_MAX {
            return self.ask_list();
        }
        self.list.known = true;
        self.list.named = HashSet::new();
        if !self.list.decides {
            return;
        }
        for at in unnamed {
            let one = &self.conversations[at];
            // The list is without the groups that the user has left. A direct conversation that the
            // whole of it does not name has no messages: nothing is missing there.
            if more || matches!(one.conv, Conv::Group(_)) || one.epoch.is_none() {
                self.ask(at, true);
            } else if self.has_other_history(at, epoch) {
                self.forget(at, epoch);
            }
        }
        for at in 0..self.conversations.len() {
            self.say_read(at);
        }
        self.gather_receipts();
    }

    pub(super) fn ask_list(&mut self) {
        self.asks.push_back(Job::List);
        self.pump();
    }

    /// Whether it takes a place in the window.
    pub(super) fn ask_list_now(&mut self) -> bool {
        let Some((ts_ms, conv)) = self.list.behind else { return false };
        self.list.asked = true;
        self.write(&json!({ "cmd": 5, "before": ts_ms, "kind": conv.kind(), "dstid": conv.dstid() }));
        true
    }

    /// A page is to be asked for again.
    pub(super) fn list_refused(&mut self) {
        if std::mem::take(&mut self.list.asked) {
            self.list.due_ms = Some(self.now_ms + self.pause_ms(self.list.tries));
            self.list.tries = self.list.tries.saturating_add(1);
            self.answered();
        }
    }

    /// It begins where its row of the list says; its newest message has been received with that.
    pub(super) fn begin_at(&mut self, at: usize, row: &Map<String, Value>, epoch: Option<u64>) {
        let head = number(row, "head").unwrap_or(0);
        let one = &mut self.conversations[at];
        let begins = one.last.is_none() && one.asked.is_none();
        if begins {
            one.last = Some(head);
        }
        if one.epoch.is_none() || begins {
            one.epoch = one.epoch.or(epoch);
            self.place(at);
        }
        if !begins {
            return;
        }
        let one = &mut self.conversations[at];
        let author = row.get("last").and_then(|last| last.get("userid")).and_then(Value::as_u64);
        if matches!(one.conv, Conv::Direct(_)) && author.is_some_and(|author| author != self.settings.user) {
            one.recv = one.recv.max(head);
            self.gather_receipts();
        }
    }
}
