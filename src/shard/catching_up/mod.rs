//! Sessions that lack messages, and how they get them.
//!
//! Owns: the reads that fill what sessions lack, shared by sessions that lack the same (`pages`).
//! Never: queues anything for a session in a conversation that it is behind in, except what it
//! lacks next.
//! Bounds: [`limits::BEHIND_CONVS_MAX`] conversations a session, one read a session at a time;
//! reads of all sessions: `pages`.

mod introduced;
pub(in crate::shard) mod pages;

use std::collections::VecDeque;
use std::rc::Rc;

use crate::ids::{ConnId, ConvId, Seq};
use crate::limits;
use crate::metrics::tally::Slowness;
use crate::shard::PlantedBug;
use crate::shard::asks::Purpose;
use crate::shard::catching_up::pages::{Pages, SharedPage, Turn};
use crate::shard::effect::Effect;
use crate::shard::io::Io;
use crate::shard::retries::Retry;
use crate::shard::session::behind::Missing;
use crate::shard::session::outbox::Outbox;
use crate::shard::session::{Phase, Session, Unfinished};
use crate::shard::sessions::Sessions;
use crate::store::{self, Page, PageStart, Read, Refusal};
use crate::wire::Profile;

/// What becomes of a message that has come for a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shard) enum Next {
    /// It is sent.
    Send,
    /// The session has it already, or gets it when it has caught up.
    Skip,
    /// The session lacks it from now on.
    Lacks,
}

/// The catching up of all sessions of a shard.
#[derive(Default)]
pub(in crate::shard) struct CatchingUp {
    pages: Pages,
}

impl CatchingUp {
    /// What becomes of the message `seq` of `conv`, which has come for a session; `fits`: its
    /// outbox has room. What the session lacks is noted, unless it has lacked nothing so far.
    pub(in crate::shard) fn judge(io: &mut Io, session: &mut Session, conv: ConvId, seq: Seq, fits: bool) -> Next {
        let was_behind = session.is_behind();
        let missing = session.unfinished.as_mut().and_then(|unfinished| unfinished.behind.missing.get_mut(&conv));
        let Some(missing) = missing else { return if fits { Next::Send } else { Next::Lacks } };
        missing.hear(seq);
        let send = seq == missing.next && fits;
        if send {
            missing.next = seq.next();
        }
        Self::settle_missing(io, session, conv, was_behind);
        if send { Next::Send } else { Next::Skip }
    }

    /// The session lacks `from..=upto` in `conv`.
    pub(in crate::shard) fn went_behind(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        conn: ConnId,
        conv: ConvId,
        from: Seq,
        upto: Seq,
    ) {
        if io.has_bug(PlantedBug::ForgottenBehindMark) {
            return;
        }
        let Some(session) = sessions.table.get_mut(conn) else { return };
        if session.phase() == Phase::Finishing {
            return;
        }
        let was_behind = session.is_behind();
        let missing = &mut session.unfinished_mut().behind.missing;
        let full = missing.len() >= limits::BEHIND_CONVS_MAX;
        match missing.get_mut(&conv) {
            Some(missing) => missing.hear(upto),
            None if full => return sessions.close_slow(io, conn, Slowness::Behind),
            None => {
                missing.insert(conv, Missing { next: from, head: upto, told: upto, own: VecDeque::new() });
                io.tally.went_behind += 1;
            }
        }
        Self::settle_missing(io, session, conv, was_behind);
        self.catch_up(io, sessions, conn);
    }

    /// The store knows of `from..=upto` that the session lacks in `conv`, perhaps more than is
    /// noted already. Pushes of these may still come. Nothing is read before the session is open.
    /// `false`: it is behind in as many conversations as it may be, and nothing is noted.
    #[must_use]
    pub(in crate::shard) fn lacks(io: &mut Io, session: &mut Session, conv: ConvId, from: Seq, upto: Seq) -> bool {
        let was_behind = session.is_behind();
        let fresh = Missing { next: from, head: upto, told: Seq::ZERO, own: VecDeque::new() };
        let Some(missing) = session.unfinished_mut().behind.note(conv, fresh) else { return false };
        (missing.next, missing.head) = (missing.next.min(from), missing.head.max(upto));
        Self::settle_missing(io, session, conv, was_behind);
        true
    }

    /// The store knows of messages up to `seq` in `conv`, and the session lacks none of them:
    /// pushes of these are to be skipped. What it does lack of them is told later. `false`: as in
    /// [`Self::lacks`].
    #[must_use]
    pub(in crate::shard) fn has_until(io: &mut Io, session: &mut Session, conv: ConvId, seq: Seq) -> bool {
        let was_behind = session.is_behind();
        let fresh = Missing { next: seq, head: seq, told: Seq::ZERO, own: VecDeque::new() };
        let Some(missing) = session.unfinished_mut().behind.note(conv, fresh) else { return false };
        (missing.next, missing.head) = (missing.next.max(seq.next()), missing.head.max(seq));
        Self::settle_missing(io, session, conv, was_behind);
        true
    }

    /// A message of the session's own has its turn: it counts as received, and is not sent to it.
    pub(in crate::shard) fn own_message(
        io: &mut Io,
        sessions: &mut Sessions,
        conn: ConnId,
        conv: ConvId,
        seq: Option<Seq>,
    ) {
        let (Some(seq), Some(session)) = (seq, sessions.table.get_mut(conn)) else { return };
        let was_behind = session.is_behind();
        let missing = session.unfinished.as_mut().and_then(|unfinished| unfinished.behind.missing.get_mut(&conv));
        let Some(missing) = missing else { return sessions.sent_legacy(io, conn, conv, seq) };
        missing.hear(seq);
        if missing.next == seq {
            missing.next = seq.next();
        } else if seq > missing.next {
            if missing.own.len() >= limits::BEHIND_OWN_MAX {
                missing.own.pop_front();
            }
            missing.own.push_back(seq);
        }
        Self::settle_missing(io, session, conv, was_behind);
    }

    /// Forgets what is over, and counts the session in or out.
    fn settle_missing(io: &mut Io, session: &mut Session, conv: ConvId, was_behind: bool) {
        if let Some(unfinished) = session.unfinished.as_mut()
            && unfinished.behind.missing.get(&conv).is_some_and(Missing::is_over)
        {
            unfinished.behind.missing.remove(&conv);
        }
        session.tidy(&mut io.held);
        match (was_behind, session.is_behind()) {
            (false, true) => io.tally.sessions_behind += 1,
            (true, false) => io.tally.sessions_behind -= 1,
            _ => {}
        }
    }

    /// Gives the session what it lacks, if nothing is queued for it and nothing is under way: from
    /// a page that was read lately, or by a read, which it shares with all that lack the same.
    pub(in crate::shard) fn catch_up(&mut self, io: &mut Io, sessions: &mut Sessions, conn: ConnId) {
        while let Some((conv, next)) = self.begin_catch_up(io, sessions, conn) {
            let Some(page) = self.pages.kept(conv, next) else { return self.want_page(io, conn, conv, next) };
            if !Self::take_page(io, sessions, conn, conv, &page) {
                return;
            }
        }
    }

    /// What the session is to be given now, if anything.
    fn begin_catch_up(&mut self, io: &mut Io, sessions: &mut Sessions, conn: ConnId) -> Option<(ConvId, Seq)> {
        // The gateway stops: what a session lacks it will read from the store when it has come
        // back.
        if io.quiescing {
            return None;
        }
        let session = sessions.table.get_mut(conn)?;
        let queued = session.outbox.as_ref().is_some_and(|outbox| outbox.push_bytes() > 0);
        if session.phase() != Phase::Open || queued || !session.takes_pushes() {
            return None;
        }
        let behind = &mut session.unfinished.as_mut()?.behind;
        if behind.reading {
            return None;
        }
        let (conv, next) = behind.next_read()?;
        (behind.reading, behind.last) = (true, Some(conv));
        Some((conv, next))
    }

    fn want_page(&mut self, io: &mut Io, conn: ConnId, conv: ConvId, next: Seq) {
        let reads_max = self.catch_up_reads_max(io);
        if self.pages.want(conn, conv, next, reads_max) != Turn::Ask {
            return;
        }
        let Some(ask) = io.asks.take(Purpose::CatchUp { conv, next }) else {
            return io.retry(Retry::CatchUp(conn));
        };
        self.pages.asked(conn, conv, next);
        io.tally.catch_up_reads += 1;
        // For no reader in particular: what a session may see of it is judged when it is taken, by
        // what this shard knows, as with pushes.
        let (from, bytes_max) = (PageStart::After(next.prev()), self.catch_up_bytes(io));
        io.push(Effect::Read {
            ask,
            read: Read::Page { conv, reader: None, from, rows_max: limits::SYNC_ROWS_MAX, bytes_max },
        });
    }

    /// Bytes of messages in one page.
    fn catch_up_bytes(&self, io: &Io) -> usize {
        io.setup.outbox_bytes.min(limits::SYNC_BYTES_MAX)
    }

    /// Reads that may be under way: as many as this shard's part of the budget has room for, but
    /// always one.
    fn catch_up_reads_max(&self, io: &Io) -> usize {
        let room = io.setup.outbox_part.saturating_sub(io.held.bytes());
        (room / self.catch_up_bytes(io).max(1)).clamp(1, limits::CATCH_UP_READS_MAX)
    }

    /// Those in line have their turn, as far as it is their turn.
    pub(in crate::shard) fn catch_up_line(&mut self, io: &mut Io, sessions: &mut Sessions) {
        for _ in 0..limits::CATCH_UP_TAKERS_MAX {
            if !self.pages.is_due(self.catch_up_reads_max(io)) {
                break;
            }
            if let Some(conn) = self.pages.next_in_line() {
                self.retry_catch_up(io, sessions, conn);
            }
        }
        if io.tally.sessions_behind == 0 {
            self.pages.forget_kept(&mut io.held);
        }
    }

    /// A read that failed is due again, or it is the session's turn.
    pub(in crate::shard) fn retry_catch_up(&mut self, io: &mut Io, sessions: &mut Sessions, conn: ConnId) {
        if let Some(session) = sessions.table.get_mut(conn)
            && let Some(unfinished) = session.unfinished.as_mut()
        {
            unfinished.behind.reading = false;
            session.tidy(&mut io.held);
            self.catch_up(io, sessions, conn);
        }
    }

    /// The store has read what some sessions lack in `conv` from `next` on.
    pub(in crate::shard) fn catch_up_settled(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        (conv, next): (ConvId, Seq),
        reply: Result<Result<Page, Refusal>, store::Error>,
    ) {
        let takers = self.pages.answered(conv, next);
        match reply {
            Ok(Ok(page)) => {
                let page = Rc::new(SharedPage::new(conv, next, &page));
                self.pages.keep(conv, &page, &mut io.held);
                for conn in takers {
                    if Self::take_page(io, sessions, conn, conv, &page) {
                        self.catch_up(io, sessions, conn);
                    }
                }
            }
            // The conversation is no more: nothing is lacking.
            Ok(Err(_)) => {
                for conn in takers {
                    Self::lacks_nothing_in(io, sessions, conn, conv);
                    self.retry_catch_up(io, sessions, conn);
                }
            }
            Err(_) => takers.into_iter().for_each(|conn| io.retry(Retry::CatchUp(conn))),
        }
        self.catch_up_line(io, sessions);
    }

    /// A session takes from a page what it lacks. `false`: the page brought it no further, and it
    /// tries again later. A read that helped nothing is not repeated at once: that would be a busy
    /// loop through the store.
    fn take_page(io: &mut Io, sessions: &mut Sessions, conn: ConnId, conv: ConvId, page: &SharedPage) -> bool {
        let Some(session) = sessions.table.get(conn) else { return false };
        let was_behind = session.is_behind();
        // The membership began after some of it, or has ended: what is below is none of its
        // business.
        let since = match conv {
            ConvId::Group(group) => sessions.roster.sees_after(&sessions.table, conn, group),
            ConvId::Direct { .. } => Some(Seq::ZERO),
        };
        let progress = match since {
            Some(since) => {
                let progress = Self::send_lacking(io, sessions, conn, conv, since, page);
                if let Some(session) = sessions.table.get_mut(conn) {
                    Self::settle_missing(io, session, conv, was_behind);
                }
                progress
            }
            None => {
                Self::lacks_nothing_in(io, sessions, conn, conv);
                true
            }
        };
        let Some(unfinished) = sessions.table.get_mut(conn).and_then(|session| session.unfinished.as_mut()) else {
            return false;
        };
        if !progress {
            io.retry(Retry::CatchUp(conn));
            return false;
        }
        unfinished.behind.reading = false;
        if let Some(session) = sessions.table.get_mut(conn) {
            session.tidy(&mut io.held);
        }
        true
    }

    /// Queues rows for a session, as far as its outbox takes them. `false`: the page brought it no
    /// further.
    fn send_lacking(
        io: &mut Io,
        sessions: &mut Sessions,
        conn: ConnId,
        conv: ConvId,
        since: Seq,
        page: &SharedPage,
    ) -> bool {
        let cap = io.setup.outbox_bytes;
        let Some(session) = sessions.table.get_mut(conn) else { return true };
        let (profile, window) = (session.profile, session.deflate());
        let Some(Unfinished { behind, introductions, .. }) = session.unfinished.as_deref_mut() else { return true };
        let Some(missing) = behind.missing.get_mut(&conv) else { return true };
        let introduces = matches!(profile, Profile::Legacy(_));
        let before = missing.next;
        let mut compressible = limits::COMPRESSED_ANSWER_BYTES_MAX;
        // What is below the floor is not to be had: cut by retention, or from before the
        // membership.
        missing.next = missing.next.max(page.floor).max(since.next());
        let outbox = session.outbox.get_or_insert_with(|| Box::new(Outbox::new(&mut io.held, io.now.mono_ms)));
        // Not beyond what is known to exist: a later row may be a message of this very session
        // whose ack is still on its way.
        let wanted = missing.next..=missing.head;
        let (mut sent, mut hidden, mut complete, mut met) = (0, false, true, false);
        let rows = page.rows.iter().zip(&page.authors);
        for (&(seq, ref frame), &author) in rows.filter(|((seq, _), _)| wanted.contains(seq)) {
            missing.own.retain(|&own| own >= seq);
            if frame.is_hidden_from(profile) {
                hidden = true;
            } else if missing.own.front() != Some(&seq) {
                if met {
                    break;
                }
                if outbox.push_bytes() > 0 && outbox.push_bytes() + frame.bytes().len() > cap {
                    complete = false;
                    break;
                }
                let form = frame.form_within(window, &mut io.deflater, &mut compressible);
                outbox.push(frame.clone(), form, &mut io.held);
                sent += 1;
                met = introduces && introductions.meet(author);
            }
            missing.next = seq.next();
        }
        let progress = missing.next > before || !complete;
        let upto = missing.next.prev();
        io.tally.caught_up += sent;
        io.tally.delivered += sent;
        if sent > 0 || hidden {
            sessions.sent_legacy(io, conn, conv, upto);
        }
        if met {
            io.retry(Retry::Introduction(conn));
        }
        if let Some(session) = sessions.table.get_mut(conn) {
            session.tidy(&mut io.held);
        }
        sessions.ask_flush(io, conn);
        progress
    }

    /// What the session lacks in `conv` begins after `since`: its membership does.
    pub(in crate::shard) fn lacks_only_after(
        io: &mut Io,
        sessions: &mut Sessions,
        conn: ConnId,
        conv: ConvId,
        since: Seq,
    ) {
        let Some(session) = sessions.table.get_mut(conn) else { return };
        let was_behind = session.is_behind();
        if let Some(missing) =
            session.unfinished.as_mut().and_then(|unfinished| unfinished.behind.missing.get_mut(&conv))
        {
            missing.next = missing.next.max(since.next());
            Self::settle_missing(io, session, conv, was_behind);
        }
    }

    /// Whatever the session lacked in `conv` is none of its business any more.
    fn lacks_nothing_in(io: &mut Io, sessions: &mut Sessions, conn: ConnId, conv: ConvId) {
        let Some(session) = sessions.table.get_mut(conn) else { return };
        let was_behind = session.is_behind();
        if let Some(unfinished) = session.unfinished.as_mut() {
            unfinished.behind.missing.remove(&conv);
            Self::settle_missing(io, session, conv, was_behind);
        }
    }
}

impl CatchingUp {
    /// Forgets the pages that are only kept to be quick.
    pub(in crate::shard) fn forget_pages(&mut self, io: &mut Io) {
        self.pages.forget_kept(&mut io.held);
    }

    /// Whether the next one in line may be given what it lacks.
    pub(in crate::shard) fn is_due(&self, io: &Io) -> bool {
        self.pages.is_due(self.catch_up_reads_max(io))
    }

    /// For `check_invariants`.
    pub(in crate::shard) const fn pages(&self) -> &Pages {
        &self.pages
    }
}
