//! Sessions that lack messages, and how they get them (design, promise 5).
//!
//! Owns: per session, conversation → the first message it lacks; the reads that fill the hole.
//! Never: queues anything for a session in a conversation that it is behind in, except what it lacks next.
//! Bounds: [`crate::limits::BEHIND_CONVS_MAX`] conversations a session, one read a session at a time; reads of all sessions: `pages`.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};
use std::rc::Rc;

use super::asks::Purpose;
use super::deadlines::Retry;
use super::effect::{Effect, Effects};
use super::outbox::Outbox;
use super::pages::{SharedPage, Turn};
use super::session::{Phase, Trouble};
use super::{PlantedBug, Shard};
use crate::clock::Now;
use crate::ids::{ConnId, ConvId, Seq};
use crate::limits;
use crate::metrics::tally::Slowness;
use crate::store::{self, Page, PageStart, Read, Refusal};
use crate::wire::Profile;

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
    /// A read is under way, or waits for its retry or its turn.
    reading: bool,
}

impl Behind {
    /// Whether every conversation reaches it by pushes alone.
    pub(super) fn is_empty(&self) -> bool {
        self.lacks.is_empty()
    }

    /// As [`Behind::is_empty`], and nothing is under way for it.
    pub(super) fn is_over(&self) -> bool {
        self.lacks.is_empty() && !self.reading
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
            None if full => return self.close_slow(conn, Slowness::Behind, fx),
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

    /// Gives the session what it lacks, if nothing is queued for it and nothing is under way: from a page that was read lately, or by a read, which it shares
    /// with all that lack the same.
    pub(super) fn catch_up(&mut self, conn: ConnId, fx: &mut Effects) {
        while let Some((conv, next)) = self.begin_catch_up(conn) {
            let Some(page) = self.pages.kept(conv, next) else { return self.want_page(conn, conv, next, fx) };
            if !self.take_page(conn, conv, &page, fx) {
                return;
            }
        }
    }

    /// What the session is to be given now, if anything.
    fn begin_catch_up(&mut self, conn: ConnId) -> Option<(ConvId, Seq)> {
        // The gateway stops: what a session lacks it will read from the store when it has come back.
        if self.quiescing {
            return None;
        }
        let session = self.sessions.get_mut(conn)?;
        let queued = session.outbox.as_ref().is_some_and(|outbox| outbox.push_bytes() > 0);
        if session.phase != Phase::Open || queued || !session.takes_pushes() {
            return None;
        }
        let behind = &mut session.trouble.as_mut()?.behind;
        if behind.reading {
            return None;
        }
        let (conv, next) = behind.next_read()?;
        (behind.reading, behind.last) = (true, Some(conv));
        Some((conv, next))
    }

    fn want_page(&mut self, conn: ConnId, conv: ConvId, next: Seq, fx: &mut Effects) {
        let reads_max = self.catch_up_reads_max();
        if self.pages.want(conn, conv, next, reads_max) != Turn::Ask {
            return;
        }
        let Some(ask) = self.asks.take(Purpose::CatchUp { conv, next }) else {
            return self.retries.add(self.now_ms, Retry::CatchUp(conn));
        };
        self.pages.asked(conn, conv, next);
        self.tally.catch_up_reads += 1;
        // For nobody in particular: who may see what of it is judged when it is taken, by what this shard knows, as with pushes.
        let (from, bytes_max) = (PageStart::After(next.prev()), self.catch_up_bytes());
        fx.push(Effect::Read {
            ask,
            read: Read::Page { conv, reader: None, from, rows_max: limits::SYNC_ROWS_MAX, bytes_max },
        });
    }

    /// Bytes of messages in one page.
    fn catch_up_bytes(&self) -> usize {
        self.setup.outbox_bytes.min(limits::SYNC_BYTES_MAX)
    }

    /// Reads that may be under way: as many as this shard's part of the budget has room for, but always one.
    pub(super) fn catch_up_reads_max(&self) -> usize {
        let room = self.setup.outbox_part.saturating_sub(self.held.bytes());
        (room / self.catch_up_bytes().max(1)).clamp(1, limits::CATCH_UP_READS_MAX)
    }

    /// Those in line have their turn, as far as it is their turn.
    pub(super) fn catch_up_line(&mut self, fx: &mut Effects) {
        for _ in 0..limits::CATCH_UP_TAKERS_MAX {
            if !self.pages.is_due(self.catch_up_reads_max()) {
                break;
            }
            if let Some(conn) = self.pages.next_in_line() {
                self.retry_catch_up(conn, fx);
            }
        }
        if self.tally.sessions_behind == 0 {
            self.pages.forget_kept(&self.held);
        }
    }

    /// A read that failed is due again, or it is the session's turn.
    pub(super) fn retry_catch_up(&mut self, conn: ConnId, fx: &mut Effects) {
        if let Some(session) = self.sessions.get_mut(conn)
            && let Some(trouble) = session.trouble.as_mut()
        {
            trouble.behind.reading = false;
            session.tidy();
            self.catch_up(conn, fx);
        }
    }

    /// The store has read what some sessions lack in `conv` from `next` on.
    pub(super) fn catch_up_settled(
        &mut self,
        now: Now,
        (conv, next): (ConvId, Seq),
        reply: Result<Result<Page, Refusal>, store::Error>,
        fx: &mut Effects,
    ) {
        let takers = self.pages.answered(conv, next);
        match reply {
            Ok(Ok(page)) => {
                let page = Rc::new(SharedPage::new(conv, next, &page));
                self.pages.keep(conv, &page, &self.held);
                for conn in takers {
                    if self.take_page(conn, conv, &page, fx) {
                        self.catch_up(conn, fx);
                    }
                }
            }
            // The conversation is no more: nothing is lacking.
            Ok(Err(_)) => {
                for conn in takers {
                    self.lacks_nothing_in(conn, conv);
                    self.retry_catch_up(conn, fx);
                }
            }
            Err(_) => takers.into_iter().for_each(|conn| self.retries.add(now.mono_ms, Retry::CatchUp(conn))),
        }
        self.catch_up_line(fx);
    }

    /// A session takes from a page what it lacks. `false`: the page brought it no further, and it tries again later. A read that helped nothing is not
    /// repeated at once: that would be a busy loop through the store.
    fn take_page(&mut self, conn: ConnId, conv: ConvId, page: &SharedPage, fx: &mut Effects) -> bool {
        let Some(session) = self.sessions.get(conn) else { return false };
        let was_behind = session.is_behind();
        // The membership began after some of it, or has ended: what is below is none of its business.
        let since = match conv {
            ConvId::Group(group) => self.roster.sees_after(&self.sessions, conn, group),
            ConvId::Direct { .. } => Some(Seq::ZERO),
        };
        let progress = match since {
            Some(since) => {
                let progress = self.send_lacking(conn, conv, since, page, fx);
                self.settle_lack(conn, conv, was_behind);
                progress
            }
            None => {
                self.lacks_nothing_in(conn, conv);
                true
            }
        };
        let Some(trouble) = self.sessions.get_mut(conn).and_then(|session| session.trouble.as_mut()) else {
            return false;
        };
        if !progress {
            self.retries.add(self.now_ms, Retry::CatchUp(conn));
            return false;
        }
        trouble.behind.reading = false;
        if let Some(session) = self.sessions.get_mut(conn) {
            session.tidy();
        }
        true
    }

    /// Queues rows for a session, as far as its outbox takes them. `false`: the page brought it no further.
    fn send_lacking(&mut self, conn: ConnId, conv: ConvId, since: Seq, page: &SharedPage, fx: &mut Effects) -> bool {
        let cap = self.setup.outbox_bytes;
        let Some(session) = self.sessions.get_mut(conn) else { return true };
        let profile = session.profile;
        let Some(Trouble { behind, introductions, .. }) = session.trouble.as_deref_mut() else { return true };
        let Some(lack) = behind.lacks.get_mut(&conv) else { return true };
        let introduces = matches!(profile, Profile::Legacy(_));
        let before = lack.next;
        // What is below the floor is not to be had: cut by retention, or from before the membership.
        lack.next = lack.next.max(page.floor).max(since.next());
        let outbox = session.outbox.get_or_insert_with(|| Box::new(Outbox::new(&self.held)));
        // Not beyond what is known to exist: a later row may be a message of this very session whose ack is still on its way.
        let wanted = lack.next..=lack.head;
        let (mut sent, mut hidden, mut complete, mut met) = (0, false, true, false);
        let rows = page.rows.iter().zip(&page.authors);
        for (&(seq, ref frame), &author) in rows.filter(|((seq, _), _)| wanted.contains(seq)) {
            lack.own.retain(|&own| own >= seq);
            if frame.is_hidden_from(profile) {
                hidden = true;
            } else if lack.own.front() != Some(&seq) {
                if met {
                    break;
                }
                if outbox.push_bytes() > 0 && outbox.push_bytes() + frame.bytes().len() > cap {
                    complete = false;
                    break;
                }
                outbox.push(frame.clone());
                sent += 1;
                met = introduces && introductions.meet(author);
            }
            lack.next = seq.next();
        }
        let progress = lack.next > before || !complete;
        let upto = lack.next.prev();
        self.tally.caught_up += sent;
        self.tally.delivered += sent;
        if sent > 0 || hidden {
            self.sent_legacy(conn, conv, upto);
        }
        if met {
            self.retries.add(self.now_ms, Retry::Introduction(conn));
        }
        if let Some(session) = self.sessions.get_mut(conn) {
            session.tidy();
        }
        self.ask_flush(conn, fx);
        progress
    }

    /// What the session lacks in `conv` begins after `since`: its membership does.
    pub(super) fn lacks_only_after(&mut self, conn: ConnId, conv: ConvId, since: Seq) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let was_behind = session.is_behind();
        if let Some(lack) = session.trouble.as_mut().and_then(|trouble| trouble.behind.lacks.get_mut(&conv)) {
            lack.next = lack.next.max(since.next());
            self.settle_lack(conn, conv, was_behind);
        }
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
