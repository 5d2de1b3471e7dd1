//! What waits for a writing worker when it is more than a batch.
//!
//! Owns: whose write and which call is next: users in turn, and for calls the lanes in turn first.
//! Never: changes the order of what is of one user, or of one conversation's home.
//! Bounds: it holds what was reserved in the worker's queue, and no more.

use super::lanes::{LANES, Whose};
use super::{Job, Queued, Ticket};
use crate::fair::Turns;
use crate::store::Write;

#[derive(Default)]
pub(super) struct Backlog {
    writes: Turns<Whose, (Ticket, Write)>,
    calls: [Turns<Whose, Queued>; LANES],
    /// The lane that had a call last.
    lane: usize,
    stopping: bool,
}

impl Backlog {
    pub(super) fn push(&mut self, job: Job<Write>) {
        match job {
            Job::Ask(ticket, write) => self.writes.push(whose(&write), (ticket, write)),
            Job::Call(call) => self.calls[call.lane as usize].push(call.whose, call),
            Job::Stop => self.stopping = true,
        }
    }

    pub(super) fn pop_write(&mut self) -> Option<(Ticket, Write)> {
        self.writes.pop().map(|(_, write)| write)
    }

    /// The next write of a user with none waiting, if there is one.
    pub(super) fn pop_fresh_write(&mut self) -> Option<(Ticket, Write)> {
        self.writes.pop_fresh().map(|(_, write)| write)
    }

    pub(super) fn pop_call(&mut self) -> Option<Queued> {
        for step in 1..=LANES {
            let lane = (self.lane + step) % LANES;
            if let Some((_, call)) = self.calls[lane].pop() {
                self.lane = lane;
                return Some(call);
            }
        }
        None
    }

    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.calls.iter().all(Turns::is_empty)
    }

    /// Whether everything is done and nothing comes any more.
    pub(super) fn is_over(&self) -> bool {
        self.stopping && self.is_empty()
    }

    /// Writes and calls that wait.
    pub(super) fn len(&self) -> usize {
        self.writes.len() + self.calls.iter().map(Turns::len).sum::<usize>()
    }

    /// For how many users (or conversations) writes wait.
    pub(super) fn keys(&self) -> usize {
        self.writes.keys()
    }
}

/// A user's writes stay in their order, whatever they are: a user that joins and then posts has
/// joined when the message is judged. Two users may change places, as long as nothing has a number.
fn whose(write: &Write) -> Whose {
    match write {
        Write::Append(message) | Write::Line(message) => Whose::User(message.sender),
        Write::Recall(recall) => Whose::User(recall.message.sender),
        Write::Join { user, .. } | Write::Leave { user, .. } | Write::Cursor { user, .. } => Whose::User(*user),
        Write::Head(conv) => Whose::Conv(*conv),
    }
}
