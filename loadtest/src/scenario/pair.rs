//! One user of a pair: what it has sent, what it has received, and how it gets over a connection
//! that went.
//!
//! Owns: [`Side`]. Two ways of keeping the books: *strict* (every frame must be the next) and, with
//! reconnects, *to the eye* (what a client shows that follows `seq` and syncs),
//! because a resend or a sync may repeat a message without being shown twice.
//! Bounds: [`WINDOW_MAX`] unanswered messages, [`BACKLOG_MAX`] waiting.

use std::collections::VecDeque;

use crate::ledger::{Eye, OwnOrder, Sight, Stream, Verdict, Window};
use crate::limits::{BACKLOG_MAX, SYNC_ROWS, WINDOW_MAX};
use crate::scan::Fields;
use crate::stamp::{Run, Stamp};
use crate::tally::{Tally, span};

/// What one run's sides have in common.
#[derive(Clone, Copy, Debug)]
pub(super) struct PairTerms {
    pub(super) run: Run,
    pub(super) payload: usize,
    /// Reconnects are allowed: the books are kept to the eye.
    pub(super) eye: bool,
}

/// A message that is not answered yet.
#[derive(Clone, Copy, Debug)]
struct Unanswered {
    n: u32,
    intended_ns: u64,
    /// It was sent more than once, so its place in the order may lie behind us.
    again: bool,
    /// How often it was refused for now.
    refusals: u32,
    /// Its next try is planned.
    planned: bool,
}

/// An ack, for the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Acked {
    pub(super) stamp: Stamp,
    pub(super) seq: u64,
    pub(super) id: u64,
}

/// One user who talks to one other.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) user: u64,
    pub(super) peer: u64,
    /// Index among the run's users; the peer's is this one with the lowest bit flipped.
    sender: u32,
    last_n: u32,
    unanswered: VecDeque<Unanswered>,
    /// Intended times of messages that wait for a place or a connection.
    due: VecDeque<u64>,
    /// The peer's messages that have been received.
    window: Window,
    stream: Stream,
    eye: Eye,
    syncing: bool,
    /// Syncs that were refused since the last answer.
    syncs_refused: u32,
    acked: u32,
    acked_seqs: Option<(u64, u64)>,
    /// Of one's own messages that needed no second try.
    order: OwnOrder,
}

impl Side {
    pub(super) fn new(user: u64, peer: u64, sender: u32) -> Self {
        Self {
            user,
            peer,
            sender,
            last_n: 0,
            unanswered: VecDeque::new(),
            due: VecDeque::new(),
            window: Window::default(),
            stream: Stream::default(),
            eye: Eye::default(),
            syncing: false,
            syncs_refused: 0,
            acked: 0,
            acked_seqs: None,
            order: OwnOrder::default(),
        }
    }

    /// Index among the run's users.
    pub(super) const fn login(&self) -> u32 {
        self.sender
    }

    /// The newest message shown; 0: none, or one without a number.
    pub(super) const fn newest(&self) -> u64 {
        self.eye.last
    }

    // ---- sending ------------------------------------------------------------------------------

    /// A message is due. False: too many wait already.
    pub(super) fn due(&mut self, intended_ns: u64) -> bool {
        let room = self.due.len() < BACKLOG_MAX;
        if room {
            self.due.push_back(intended_ns);
        }
        room
    }

    /// Writes the next message that may leave into `text`. Call [`Self::sent`] if it did.
    pub(super) fn next(&self, terms: &PairTerms, text: &mut String) -> bool {
        let Some(&intended_ns) = self.due.front().filter(|_| self.unanswered.len() < WINDOW_MAX) else { return false };
        let stamp = Stamp { sender: self.sender, n: self.last_n + 1, intended_ns };
        stamp.write(text, terms.run, 10, self.peer, terms.payload);
        true
    }

    /// The message of [`Self::next`] has been handed to the socket. `answered`: this server answers
    /// nothing, so it counts as acked.
    pub(super) fn sent(&mut self, answered: bool) {
        let Some(intended_ns) = self.due.pop_front() else { return };
        self.last_n += 1;
        if answered {
            self.acked += 1;
        } else {
            self.unanswered.push_back(Unanswered {
                n: self.last_n,
                intended_ns,
                again: false,
                refusals: 0,
                planned: false,
            });
        }
    }

    /// Writes an unanswered message once more, with the same `cid`. False: it has been answered
    /// meanwhile.
    pub(super) fn again(&mut self, n: u32, terms: &PairTerms, text: &mut String) -> bool {
        let Some(message) = self.unanswered.iter_mut().find(|message| message.n == n) else { return false };
        message.again = true;
        let stamp = Stamp { sender: self.sender, n, intended_ns: message.intended_ns };
        stamp.write(text, terms.run, 10, self.peer, terms.payload);
        true
    }

    /// The counters of all unanswered messages, oldest first.
    pub(super) fn unanswered(&self) -> Vec<u32> {
        self.unanswered.iter().map(|message| message.n).collect()
    }

    /// The message that is answered, and whether its place in the order may be another one than
    /// that of its counter.
    fn settle(&mut self, cid: Option<&str>, run: Run) -> Option<(Stamp, bool)> {
        let stamp = Stamp::from_cid(cid?, run).filter(|stamp| stamp.sender == self.sender)?;
        let place = self.unanswered.iter().position(|message| message.n == stamp.n)?;
        let Unanswered { intended_ns, again, refusals, .. } = self.unanswered.remove(place)?;
        Some((Stamp { intended_ns, ..stamp }, again || refusals > 0))
    }

    /// An ack has come. `None`: of nothing that waits.
    pub(super) fn acked(
        &mut self,
        terms: &PairTerms,
        fields: &Fields<'_>,
        now_ns: u64,
        tally: &mut Tally,
    ) -> Option<Acked> {
        let Some((stamp, again)) = self.settle(fields.cid, terms.run) else {
            // After a resend both sendings may be acked; otherwise nothing is acked twice.
            if terms.eye {
                tally.hidden += 1;
            } else {
                tally.judge(Verdict::Doubled);
            }
            return None;
        };
        self.acked += 1;
        tally.acked_after(now_ns.saturating_sub(stamp.intended_ns));
        tally.acked_seq(fields.seq);
        if let Some(seq) = fields.seq {
            self.acked_seqs = span(self.acked_seqs, Some((seq, seq)));
            let swapped = !again && !self.order.enter(stamp.n.into(), seq);
            let own = if swapped { Verdict::Late } else { Verdict::Fresh };
            if terms.eye {
                self.eye.see(seq);
                tally.judge(own);
            } else {
                let verdict = self.stream.ack(seq);
                // What was refused with an unknown outcome and sent again may have been stored the
                // first time.
                tally.judge(own.max(if again && verdict == Verdict::Late { Verdict::Fresh } else { verdict }));
            }
        }
        Some(Acked { stamp, seq: fields.seq.unwrap_or_default(), id: fields.id.unwrap_or_default() })
    }

    /// A refusal for good has come. The counter of the message, if it waits.
    pub(super) fn refused(&mut self, terms: &PairTerms, cid: Option<&str>) -> Option<u32> {
        self.settle(cid, terms.run).map(|(stamp, _)| stamp.n)
    }

    /// A refusal for now has come. The counter of the message and how often it was refused before,
    /// if it waits and its next try is not planned yet; now it is.
    pub(super) fn put_off(&mut self, terms: &PairTerms, cid: Option<&str>) -> Option<(u32, u32)> {
        let stamp = Stamp::from_cid(cid?, terms.run).filter(|stamp| stamp.sender == self.sender)?;
        let message = self.unanswered.iter_mut().find(|message| message.n == stamp.n)?;
        let before = message.refusals;
        message.refusals = before.saturating_add(1);
        (!std::mem::replace(&mut message.planned, true)).then_some((stamp.n, before))
    }

    /// The planned try of a message is due now.
    pub(super) fn try_is_due(&mut self, n: u32) {
        if let Some(message) = self.unanswered.iter_mut().find(|message| message.n == n) {
            message.planned = false;
        }
    }

    // ---- receiving ----------------------------------------------------------------------------

    /// A message of this conversation has come, pushed or as a row of a sync. `Some`: the peer's,
    /// for the first time.
    pub(super) fn arrived(&mut self, terms: &PairTerms, message: &Fields<'_>, tally: &mut Tally) -> Option<Stamp> {
        let by_seq = match message.seq {
            None => Verdict::Fresh,
            Some(seq) if !terms.eye => self.stream.push(seq),
            Some(seq) => match self.eye.see(seq) {
                Sight::Show => Verdict::Fresh,
                Sight::Skip => {
                    tally.hidden += 1;
                    return None;
                }
                Sight::Sync => return None,
            },
        };
        if message.userid == Some(self.user) {
            // One's own, read back by a sync. As a push it is a second delivery: the ack was the
            // first.
            tally.judge(if terms.eye { Verdict::Fresh } else { by_seq.max(Verdict::Doubled) });
            return None;
        }
        let stamp = message.content.and_then(|content| Stamp::from_content(content, terms.run));
        let Some(stamp) = stamp.filter(|stamp| stamp.sender == self.sender ^ 1) else {
            // Under the name of the peer, but not what the peer has sent.
            tally.strayed(message.content, terms.run);
            tally.judge(by_seq);
            return None;
        };
        let by_content = match self.window.enter(stamp.n) {
            // With a seq the order is the seq's; a refused message that was sent again comes behind
            // its successors.
            Verdict::Late if message.seq.is_some() => Verdict::Fresh,
            verdict => verdict,
        };
        let verdict = by_seq.max(by_content);
        tally.judge(verdict);
        (by_content != Verdict::Doubled).then_some(stamp)
    }

    // ---- repair -------------------------------------------------------------------------------

    /// The connection went: a sync that was under way is void.
    pub(super) fn interrupted(&mut self) {
        self.syncing = false;
    }

    /// Whether something was heard of that has not been shown.
    pub(super) fn behind(&self) -> bool {
        self.eye.behind()
    }

    /// Whether something was heard of that has not been shown, and is not asked for yet.
    pub(super) fn wants_sync(&self) -> bool {
        self.eye.behind() && !self.syncing
    }

    /// The request for what follows the last message shown.
    pub(super) fn sync(&mut self) -> String {
        self.syncing = true;
        format!(r#"{{"cmd":4,"kind":10,"dstid":{},"after":{},"limit":{SYNC_ROWS}}}"#, self.peer, self.eye.last)
    }

    /// The sync was refused. How often that happened before, since the last answer.
    pub(super) fn sync_refused(&mut self) -> u32 {
        self.syncing = false;
        let before = self.syncs_refused;
        self.syncs_refused = before.saturating_add(1);
        before
    }

    /// A page of the answer has been entered. True: ask for the next one.
    pub(super) fn synced(&mut self, more: bool) -> bool {
        (self.syncing, self.syncs_refused) = (false, 0);
        more
    }

    // ---- the end ------------------------------------------------------------------------------

    /// Messages of `peer` that were acked to it and never came here, or, by `seq`, anything of the
    /// conversation that did not.
    pub(super) fn lost(&self, terms: &PairTerms, peer: &Self) -> u64 {
        let by_content = u64::from(peer.acked.saturating_sub(self.window.arrived));
        let both = span(self.acked_seqs, peer.acked_seqs);
        let by_seq = match both {
            Some((low, high)) if !terms.eye => self.stream.missing(low, high),
            Some((_, high)) => high.saturating_sub(self.eye.last),
            None => 0,
        };
        by_content.max(by_seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(eye: bool) -> PairTerms {
        PairTerms { run: Run::new(), payload: 0, eye }
    }

    /// A message of the peer (index 1) to the side with index 0.
    fn from_peer(terms: &PairTerms, n: u32) -> String {
        let mut text = String::new();
        Stamp { sender: 1, n, intended_ns: 5 }.write(&mut text, terms.run, 10, 7, 0);
        text
    }

    fn arrive(side: &mut Side, terms: &PairTerms, n: u32, seq: u64, tally: &mut Tally) -> bool {
        let text = from_peer(terms, n);
        let fields = crate::scan::scan(&text).expect("an object");
        side.arrived(terms, &Fields { seq: Some(seq), userid: Some(8), ..fields }, tally).is_some()
    }

    #[test]
    fn strictly_a_repetition_is_a_failure() {
        let (terms, mut side, mut tally) = (terms(false), Side::new(7, 8, 0), Tally::new());
        assert!(arrive(&mut side, &terms, 1, 1, &mut tally));
        assert!(!arrive(&mut side, &terms, 1, 1, &mut tally));
        assert_eq!((tally.doubled, tally.hidden), (1, 0));
    }

    #[test]
    fn to_the_eye_a_repetition_is_hidden_but_a_second_copy_is_not() {
        let (terms, mut side, mut tally) = (terms(true), Side::new(7, 8, 0), Tally::new());
        assert!(arrive(&mut side, &terms, 1, 1, &mut tally));
        assert!(!arrive(&mut side, &terms, 1, 1, &mut tally));
        assert_eq!((tally.doubled, tally.hidden), (0, 1));
        assert!(!arrive(&mut side, &terms, 1, 2, &mut tally), "stored twice under two numbers");
        assert_eq!(tally.doubled, 1);
    }

    #[test]
    fn to_the_eye_a_gap_asks_for_a_sync_and_is_filled_by_it() {
        let (terms, mut side, mut tally) = (terms(true), Side::new(7, 8, 0), Tally::new());
        assert!(arrive(&mut side, &terms, 1, 4, &mut tally));
        assert!(!arrive(&mut side, &terms, 3, 6, &mut tally));
        assert!(side.wants_sync());
        assert!(side.sync().contains(r#""after":4,"#) && !side.wants_sync());
        assert!(arrive(&mut side, &terms, 2, 5, &mut tally) && arrive(&mut side, &terms, 3, 6, &mut tally));
        assert!(!side.synced(false) && !side.wants_sync());
        assert_eq!((tally.doubled, tally.out_of_order), (0, 0));
    }

    #[test]
    fn what_is_refused_for_now_has_one_try_planned_and_counts_its_refusals() {
        let (terms, mut side, mut text) = (terms(true), Side::new(7, 8, 0), String::new());
        assert!(side.due(1) && side.next(&terms, &mut text));
        side.sent(false);
        let cid = Stamp { sender: 0, n: 1, intended_ns: 0 }.cid(terms.run);
        assert_eq!(side.put_off(&terms, Some(&cid)), Some((1, 0)));
        // Sent again because the connection came back, and refused again before its try was due.
        assert_eq!(side.put_off(&terms, Some(&cid)), None);
        side.try_is_due(1);
        assert_eq!(side.put_off(&terms, Some(&cid)), Some((1, 2)));
        assert_eq!((side.refused(&terms, Some(&cid)), side.put_off(&terms, Some(&cid))), (Some(1), None));
        assert_eq!((side.sync_refused(), side.sync_refused()), (0, 1));
        assert!(!side.synced(false));
        assert_eq!(side.sync_refused(), 0);
    }

    #[test]
    fn ones_own_messages_that_changed_places_are_out_of_order() {
        for (eye, [first, second]) in [(false, [1, 2]), (true, [1, 2]), (false, [2, 1]), (true, [2, 1])] {
            let (terms, mut side, mut tally, mut text) = (terms(eye), Side::new(7, 8, 0), Tally::new(), String::new());
            for _ in 0..3 {
                assert!(side.due(1) && side.next(&terms, &mut text));
                side.sent(false);
            }
            let ack = |side: &mut Side, tally: &mut Tally, n, seq| {
                let cid = Stamp { sender: 0, n, intended_ns: 0 }.cid(terms.run);
                let ack = Fields { cid: Some(&cid), seq: Some(seq), id: Some(seq), ..Fields::default() };
                side.acked(&terms, &ack, 2, tally).expect("it waited");
            };
            for n in [first, second] {
                ack(&mut side, &mut tally, n, 3 - u64::from(n));
            }
            assert_eq!(tally.out_of_order, 1, "in the order {first}, {second}, to the eye: {eye}");
            // What was sent again may stand where it was stored the first time.
            let mut side = Side::new(7, 8, 0);
            for _ in 0..2 {
                assert!(side.due(1) && side.next(&terms, &mut text));
                side.sent(false);
            }
            assert!(side.again(1, &terms, &mut text));
            ack(&mut side, &mut tally, 1, 2);
            ack(&mut side, &mut tally, 2, 1);
            assert_eq!(tally.out_of_order, if eye { 1 } else { 2 });
        }
    }

    #[test]
    fn what_was_acked_and_did_not_come_is_lost() {
        for eye in [false, true] {
            let terms = terms(eye);
            let (mut a, b, mut tally) = (Side::new(7, 8, 0), Side::new(8, 7, 1), Tally::new());
            let mut text = String::new();
            assert!(a.due(1) && a.next(&terms, &mut text));
            a.sent(false);
            assert_eq!((a.unanswered().len(), a.lost(&terms, &b), b.lost(&terms, &a)), (1, 0, 0));
            let cid = Stamp { sender: 0, n: 1, intended_ns: 0 }.cid(terms.run);
            let ack = Fields { cid: Some(&cid), seq: Some(9), id: Some(90), ..Fields::default() };
            let acked = a.acked(&terms, &ack, 2, &mut tally).expect("it waited");
            assert_eq!((acked.seq, acked.id, acked.stamp.n, a.unanswered().len()), (9, 90, 1, 0));
            assert_eq!(a.lost(&terms, &b), 0);
            assert!(b.lost(&terms, &a) > 0);
            assert!(a.acked(&terms, &ack, 3, &mut tally).is_none());
            assert_eq!((tally.doubled, tally.hidden), if eye { (0, 1) } else { (1, 0) });
        }
    }
}
