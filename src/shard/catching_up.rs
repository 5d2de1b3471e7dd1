//! Sessions that lack messages, and how they get them (design, promise 5).
//!
//! Owns: per session, conversation → the first message it lacks; the reads that fill the hole.
//! Never: queues anything for a session in a conversation that it is behind in, except what it lacks next.
//! Bounds: [`crate::limits::BEHIND_CONVS_MAX`] conversations a session, one read a session at a time.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use super::asks::Purpose;
use super::deadlines::Retry;
use super::effect::{Effect, Effects};
use super::outbox::Frame;
use super::session::Phase;
use super::{PlantedBug, Shard};
use crate::clock::Now;
use crate::ids::{ConnId, ConvId, Seq};
use crate::limits;
use crate::store::{self, From, Page, Read, ReadAnswer};
use crate::wire::packet::Stored;
use crate::wire::{CloseCode, Packet};

/// What a session lacks in one conversation.
#[derive(Debug)]
pub(super) struct Lack {
    /// The first message that it lacks; above `head` if it has them all.
    next: Seq,
    /// The newest message that is known to exist.
    head: Seq,
    /// The newest message that this shard was told of by the home. Below `head` only after a read at open: pushes of what was read are still to come,
    /// and are to be skipped.
    told: Seq,
    /// Messages of its own, acked and so not to be sent to it: bounded by [`limits::BEHIND_OWN_MAX`].
    own: VecDeque<Seq>,
}

impl Lack {
    /// Whether something is to be read.
    fn is_open(&self) -> bool {
        self.next <= self.head
    }

    /// Whether pushes alone will do from now on.
    fn is_over(&self) -> bool {
        !self.is_open() && self.told >= self.head
    }

    /// The home has told of everything up to `seq`.
    fn hear(&mut self, seq: Seq) {
        self.told = self.told.max(seq);
        self.head = self.head.max(seq);
    }
}

/// All that one session lacks.
#[derive(Debug, Default)]
pub(super) struct Behind {
    lacks: BTreeMap<ConvId, Lack>,
    /// The conversation that was read last: the one after it has its turn, so that one that never rests does not keep the others from theirs.
    last: Option<ConvId>,
    /// A read is under way, or waits for its retry.
    reading: bool,
}

impl Behind {
    /// Whether every conversation reaches it by pushes alone.
    pub(super) fn is_empty(&self) -> bool {
        self.lacks.is_empty()
    }

    /// Whether it lacks messages.
    pub(super) fn is_lacking(&self) -> bool {
        self.lacks.values().any(Lack::is_open)
    }

    /// The next conversation that it lacks something in, and from where: after the last one, so that each has its turn.
    fn next_read(&self) -> Option<(ConvId, Seq)> {
        let after = self.last.map_or(Unbounded, Excluded);
        let open = |(&conv, lack): (&ConvId, &Lack)| lack.is_open().then_some((conv, lack.next));
        self.lacks.range((after, Unbounded)).find_map(open).or_else(|| self.lacks.iter().find_map(open))
    }

    /// For `check_invariants`.
    pub(super) fn check(&self) {
        assert!(self.lacks.len() <= limits::BEHIND_CONVS_MAX, "conversations to catch up in are bounded");
        for lack in self.lacks.values() {
            assert!(!lack.is_over(), "who lacks nothing is not behind");
            assert!(lack.own.iter().is_sorted(), "own messages are in order");
        }
    }
}

impl Shard {
    /// Whether the message `seq` is what the session gets next in `conv`, and `fits`. If not, what it lacks is noted.
    pub(super) fn is_next(&mut self, conn: ConnId, conv: ConvId, seq: Seq, fits: bool, fx: &mut Effects) -> bool {
        let Some(session) = self.sessions.get_mut(conn) else { return false };
        let was_behind = session.is_behind();
        let lack = session.trouble.as_mut().and_then(|trouble| trouble.behind.lacks.get_mut(&conv));
        let Some(lack) = lack else {
            if !fits {
                self.went_behind(conn, conv, seq, seq, fx);
            }
            return fits;
        };
        lack.hear(seq);
        let send = seq == lack.next && fits;
        if send {
            lack.next = seq.next();
        }
        self.settle_lack(conn, conv, was_behind);
        send
    }

    /// The session lacks `from..=upto` in `conv`.
    pub(super) fn went_behind(&mut self, conn: ConnId, conv: ConvId, from: Seq, upto: Seq, fx: &mut Effects) {
        if self.setup.planted_bug == Some(PlantedBug::ForgottenBehindMark) {
            return;
        }
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if session.phase == Phase::Finishing {
            return;
        }
        let was_behind = session.is_behind();
        let lacks = &mut session.trouble_mut().behind.lacks;
        let full = lacks.len() >= limits::BEHIND_CONVS_MAX;
        match lacks.get_mut(&conv) {
            Some(lack) => lack.hear(upto),
            None if full => return self.close(conn, CloseCode::Slow, fx),
            None => {
                lacks.insert(conv, Lack { next: from, head: upto, told: upto, own: VecDeque::new() });
                self.tally.went_behind += 1;
            }
        }
        self.settle_lack(conn, conv, was_behind);
        self.catch_up(conn, fx);
    }

    /// The store knows of `from..=upto` that the session lacks in `conv`, perhaps more than is noted already. Pushes of these may still come. Nothing is
    /// read before the session is open.
    pub(super) fn lacks(&mut self, conn: ConnId, conv: ConvId, from: Seq, upto: Seq) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let was_behind = session.is_behind();
        let lacks = &mut session.trouble_mut().behind.lacks;
        let lack = lacks.entry(conv).or_insert(Lack { next: from, head: upto, told: Seq::ZERO, own: VecDeque::new() });
        (lack.next, lack.head) = (lack.next.min(from), lack.head.max(upto));
        self.settle_lack(conn, conv, was_behind);
    }

    /// A message of the session's own has its turn: it counts as received, and is not sent to it.
    pub(super) fn own_message(&mut self, conn: ConnId, conv: ConvId, seq: Option<Seq>) {
        let (Some(seq), Some(session)) = (seq, self.sessions.get_mut(conn)) else { return };
        let was_behind = session.is_behind();
        let lack = session.trouble.as_mut().and_then(|trouble| trouble.behind.lacks.get_mut(&conv));
        let Some(lack) = lack else { return self.sent_legacy(conn, conv, seq) };
        lack.hear(seq);
        if lack.next == seq {
            lack.next = seq.next();
        } else if seq > lack.next {
            if lack.own.len() >= limits::BEHIND_OWN_MAX {
                lack.own.pop_front();
            }
            lack.own.push_back(seq);
        }
        self.settle_lack(conn, conv, was_behind);
    }

    /// Forgets what is over, and counts the session in or out.
    fn settle_lack(&mut self, conn: ConnId, conv: ConvId, was_behind: bool) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if let Some(trouble) = session.trouble.as_mut()
            && trouble.behind.lacks.get(&conv).is_some_and(Lack::is_over)
        {
            trouble.behind.lacks.remove(&conv);
        }
        session.tidy();
        match (was_behind, session.is_behind()) {
            (false, true) => self.tally.sessions_behind += 1,
            (true, false) => self.tally.sessions_behind = self.tally.sessions_behind.saturating_sub(1),
            _ => {}
        }
    }

    /// Reads what the session lacks, if nothing is queued for it and no read is under way.
    pub(super) fn catch_up(&mut self, conn: ConnId, fx: &mut Effects) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if session.phase != Phase::Open || session.outbox.as_ref().is_some_and(|outbox| outbox.push_bytes() > 0) {
            return;
        }
        let user = session.user;
        let Some(trouble) = session.trouble.as_mut() else { return };
        if trouble.behind.reading {
            return;
        }
        let Some((conv, next)) = trouble.behind.next_read() else { return };
        trouble.behind.reading = true;
        trouble.behind.last = Some(conv);
        let Some(ask) = self.asks.take(Purpose::CatchUp { conn, conv }) else {
            return self.retries.add(self.now_ms, Retry::CatchUp(conn));
        };
        let read = Read::Page {
            conv,
            reader: Some(user),
            from: From::After(next.prev()),
            rows_max: limits::SYNC_ROWS_MAX,
            bytes_max: self.setup.outbox_bytes.min(limits::SYNC_BYTES_MAX),
        };
        fx.push(Effect::Read { ask, read });
    }

    /// A read that failed is due again.
    pub(super) fn retry_catch_up(&mut self, conn: ConnId, fx: &mut Effects) {
        if let Some(trouble) = self.sessions.get_mut(conn).and_then(|session| session.trouble.as_mut()) {
            trouble.behind.reading = false;
            self.catch_up(conn, fx);
        }
    }

    /// The store has read what the session lacks.
    pub(super) fn catch_up_settled(
        &mut self,
        now: Now,
        conn: ConnId,
        conv: ConvId,
        reply: Result<ReadAnswer, store::Error>,
        fx: &mut Effects,
    ) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let was_behind = session.is_behind();
        let Some(trouble) = session.trouble.as_mut() else { return };
        match reply {
            Ok(ReadAnswer::Page(page)) => {
                let progress = self.send_lacking(conn, conv, &page, fx);
                self.settle_lack(conn, conv, was_behind);
                // A read that helped nothing is not repeated at once: that would be a busy loop through the store.
                if !progress {
                    return self.retries.add(now.mono_ms, Retry::CatchUp(conn));
                }
            }
            // No member any more: nothing is lacking.
            Ok(_) => {
                trouble.behind.lacks.remove(&conv);
                self.settle_lack(conn, conv, was_behind);
            }
            Err(_) => return self.retries.add(now.mono_ms, Retry::CatchUp(conn)),
        }
        self.retry_catch_up(conn, fx);
    }

    /// Queues rows for a session, as far as its outbox takes them. `false`: the page brought it no further.
    fn send_lacking(&mut self, conn: ConnId, conv: ConvId, page: &Page, fx: &mut Effects) -> bool {
        let cap = self.setup.outbox_bytes;
        let Some(session) = self.sessions.get_mut(conn) else { return true };
        let lack = session.trouble.as_mut().and_then(|trouble| trouble.behind.lacks.get_mut(&conv));
        let Some(lack) = lack else { return true };
        let before = lack.next;
        // What is below the floor is not to be had: cut by retention, or from before the membership.
        lack.next = lack.next.max(page.floor);
        let outbox = session.outbox.get_or_insert_default();
        // Not beyond what is known to exist: a later row may be a message of this very session whose ack is still on its way.
        let wanted = lack.next..=lack.head;
        let (mut sent, mut complete) = (0, true);
        for row in page.rows.iter().filter(|row| wanted.contains(&row.seq)) {
            lack.own.retain(|&own| own >= row.seq);
            if lack.own.front() != Some(&row.seq) {
                let stored = Stored { id: row.id, seq: row.seq };
                let packet = Packet::chat(conv, row.sender, Some(stored), row.ts_ms, &row.body);
                if outbox.push_bytes() > 0 && outbox.push_bytes() + packet.frame().len() > cap {
                    complete = false;
                    break;
                }
                outbox.push(Frame::new(Arc::new(packet)));
                sent += 1;
            }
            lack.next = row.seq.next();
        }
        let progress = lack.next > before || !complete;
        let upto = lack.next.prev();
        self.tally.caught_up += sent;
        self.tally.delivered += sent;
        if sent > 0 {
            self.sent_legacy(conn, conv, upto);
        }
        if let Some(session) = self.sessions.get_mut(conn) {
            session.tidy();
        }
        self.ask_flush(conn, fx);
        progress
    }

    /// Whatever the session lacked in `conv` is none of its business any more.
    pub(super) fn lacks_nothing_in(&mut self, conn: ConnId, conv: ConvId) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let was_behind = session.is_behind();
        if let Some(trouble) = session.trouble.as_mut() {
            trouble.behind.lacks.remove(&conv);
            self.settle_lack(conn, conv, was_behind);
        }
    }
}
