//! How far users have received and read their conversations, on the way to the store.
//!
//! Owns: the newest word of each user about each conversation until it is stored; the pace at which it is stored and relayed; what a legacy session has been
//! sent and not confirmed.
//! Never: lets a cursor move back, and never writes for every message: the last value wins, one write per pace and conversation.
//! Bounds: [`limits::CURSORS_MAX`] words, [`limits::UNCONFIRMED_MAX`] conversations a legacy session.

use std::collections::{BTreeMap, BTreeSet};

use super::asks::Purpose;
use super::effect::{Effect, Effects};
use super::peer::PeerMsg;
use super::prices::Price;
use super::session::Phase;
use super::{PlantedBug, Shard};
use crate::clock::Now;
use crate::ids::{ConnId, ConvId, Seq, UserId, shard_of};
use crate::limits;
use crate::store::{self, Kept, Write};
use crate::wire::command::Cursor;
use crate::wire::{Profile, Reject, Target, push};

/// A user's word about a conversation.
#[derive(Clone, Copy, Debug)]
struct Word {
    recv: Seq,
    read: Seq,
    /// The conversation goes at least so far.
    head: Seq,
    /// What the store was asked to keep last: relayed when it has.
    asked: (Seq, Seq),
    /// Not asked to be stored since it has changed.
    dirty: bool,
    /// Asked to be stored, not answered.
    writing: bool,
    /// The end of its pause: it is not stored before.
    rests_ms: u64,
    /// When it is looked at next: to be stored, or to be forgotten.
    due_ms: u64,
}

/// The words of the users of this shard.
#[derive(Default)]
pub(super) struct Cursors {
    words: BTreeMap<(UserId, ConvId), Word>,
    due: BTreeSet<(u64, UserId, ConvId)>,
    /// Legacy sessions that were sent something, by the time at which they are to be asked whether it arrived.
    to_confirm: BTreeSet<(u64, ConnId)>,
}

impl Cursors {
    /// Takes a word about a conversation that goes at least up to `head`. `false`: there are too
    /// many, and this one is about something new.
    pub(super) fn say(
        &mut self,
        user: UserId,
        conv: ConvId,
        (recv, read): (Seq, Seq),
        head: Seq,
        due_ms: u64,
        now_ms: u64,
    ) -> bool {
        debug_assert!(recv <= head && read <= head, "a word is cut at the head before it is taken");
        if !self.words.contains_key(&(user, conv)) && self.words.len() >= limits::CURSORS_MAX {
            return false;
        }
        let fresh = Word {
            recv: Seq::ZERO,
            read: Seq::ZERO,
            head,
            asked: (Seq::ZERO, Seq::ZERO),
            dirty: false,
            writing: false,
            rests_ms: now_ms,
            due_ms: now_ms,
        };
        let word = self.words.entry((user, conv)).or_insert(fresh);
        word.head = word.head.max(head);
        if recv <= word.recv && read <= word.read {
            return true;
        }
        let was = word.due_ms;
        (word.recv, word.read) = (word.recv.max(recv), word.read.max(read));
        // A dirty word is only ever hurried, and never out of its pause.
        let due_ms = due_ms.max(word.rests_ms);
        word.due_ms = if word.dirty { was.min(due_ms) } else { due_ms };
        word.dirty = true;
        let due_ms = word.due_ms;
        self.due.remove(&(was, user, conv));
        self.due.insert((due_ms, user, conv));
        true
    }

    /// What is due, if anything is.
    fn pop(&mut self, now_ms: u64) -> Option<(UserId, ConvId)> {
        let &(due_ms, user, conv) = self.due.first()?;
        if due_ms > now_ms {
            return None;
        }
        self.due.pop_first();
        Some((user, conv))
    }

    /// When something is due next.
    pub(super) fn next_ms(&self) -> Option<u64> {
        let word = self.due.first().map(|&(due_ms, ..)| due_ms);
        let confirm = self.to_confirm.first().map(|&(due_ms, _)| due_ms);
        [word, confirm].into_iter().flatten().min()
    }

    /// What the user has said about a conversation lately, stored or not.
    pub(super) fn newest(&self, user: UserId, conv: ConvId) -> (Seq, Seq) {
        self.words.get(&(user, conv)).map_or((Seq::ZERO, Seq::ZERO), |word| (word.recv, word.read))
    }

    /// How far a conversation goes at least, as far as it is known from what was said; zero if it
    /// is not.
    fn head(&self, user: UserId, conv: ConvId) -> Seq {
        self.words.get(&(user, conv)).map_or(Seq::ZERO, |word| word.head)
    }

    /// Hurries everything that the user has said.
    fn hurry(&mut self, user: UserId, now_ms: u64) {
        let (first, last) = ConvId::ends();
        for (&(_, conv), word) in self.words.range_mut((user, first)..=(user, last)).filter(|(_, word)| word.dirty) {
            self.due.remove(&(word.due_ms, user, conv));
            word.due_ms = word.due_ms.min(now_ms);
            self.due.insert((word.due_ms, user, conv));
        }
    }

    /// Every word is due once, and every due entry is a word's. For `check_invariants`.
    pub(super) fn check(&self) {
        assert!(self.words.len() <= limits::CURSORS_MAX, "words are bounded");
        assert_eq!(self.words.len(), self.due.len(), "every word is looked at again");
        for (&(user, conv), word) in &self.words {
            assert!(self.due.contains(&(word.due_ms, user, conv)), "at its time");
        }
    }
}

/// What a legacy session was sent and has not confirmed (design, section 6: the pong to a ping sent after the message proves that it arrived).
#[derive(Debug, Default)]
pub(super) struct Unconfirmed {
    /// Sent since the last ping.
    sent: BTreeMap<ConvId, Seq>,
    /// Sent before the ping that is not answered yet.
    pinged: BTreeMap<ConvId, Seq>,
    /// The number of that ping.
    ping: u32,
    /// Monotonic milliseconds before which there is no further one. The first one goes at once: many a page lives only for seconds.
    rests_ms: u64,
}

impl Unconfirmed {
    /// Whether nothing of it is needed any more: everything is confirmed, and the pause is over.
    pub(super) fn is_over(&self, now_ms: u64) -> bool {
        self.sent.is_empty() && self.pinged.is_empty() && self.rests_ms <= now_ms
    }

    /// Whether a pong of that payload answers the ping under way.
    pub(super) fn is_asked_by(&self, payload: &[u8]) -> bool {
        payload == self.ping.to_be_bytes()
    }

    /// Whether there is a ping under way.
    pub(super) fn has_asked(&self) -> bool {
        !self.pinged.is_empty()
    }
}

impl Shard {
    /// `cmd` 3.
    pub(super) fn cursor(&mut self, now: Now, conn: ConnId, cursor: &Cursor, fx: &mut Effects) {
        self.mark(now, conn, cursor.of, (cursor.recv, cursor.read), fx);
    }

    /// Takes a word that can be true, or has the store asked whether it can be.
    pub(super) fn mark(&mut self, now: Now, conn: ConnId, of: Target, (recv, read): (Seq, Seq), fx: &mut Effects) {
        let Some(session) = self.sessions.get(conn) else { return };
        let user = session.user;
        if let Target::Group(group) = of
            && !self.roster.is_member(&self.sessions, conn, group)
        {
            return self.tell_refusal(conn, Reject::NotMember, None, Some(of), fx);
        }
        let conv = of.conv(user);
        if self.setup.volatile {
            return;
        }
        // What was handed on by this home exists, and so does what a word was cut at lately.
        let handed_on = self.home.get_mut(conv).and_then(|state| state.delivered()).unwrap_or_default();
        let head = self.cursors.head(user, conv).max(handed_on);
        if recv.max(read) > head {
            return self.claim(now, conn, of, (recv, read), fx);
        }
        if !self.cursors.say(user, conv, (recv, read), head, now.mono_ms, now.mono_ms) {
            self.tell_refusal(conn, Reject::Busy, None, Some(of), fx);
        }
    }

    /// Stores and relays what is due, and asks legacy sessions whether they have got what they were sent.
    pub(super) fn move_cursors(&mut self, now: Now, fx: &mut Effects) {
        self.ask_confirmation(now, fx);
        for _ in 0..limits::TURN_CURSORS_MAX {
            let Some((user, conv)) = self.cursors.pop(now.mono_ms) else { return };
            let Some(word) = self.cursors.words.get_mut(&(user, conv)) else { continue };
            if !word.dirty && !word.writing {
                self.cursors.words.remove(&(user, conv));
                continue;
            }
            let (recv, read) = (word.recv, word.read);
            word.due_ms = now.mono_ms + limits::CURSOR_PACE_MS;
            word.rests_ms = word.due_ms;
            if word.dirty && !word.writing {
                match self.asks.take(Purpose::Cursor { user, conv }) {
                    Some(ask) => {
                        (word.dirty, word.writing, word.asked) = (false, true, (recv, read));
                        fx.push(Effect::Write { ask, write: Write::Cursor { user, conv, recv, read } });
                    }
                    None => word.due_ms = now.mono_ms + limits::RETRY_MS,
                }
            }
            self.cursors.due.insert((word.due_ms, user, conv));
        }
    }

    /// The store has kept a cursor, which is told to those whom it concerns, or not.
    pub(super) fn cursor_settled(
        &mut self,
        now: Now,
        user: UserId,
        conv: ConvId,
        reply: Result<Kept, store::Error>,
        fx: &mut Effects,
    ) {
        let Some(word) = self.cursors.words.get_mut(&(user, conv)) else { return };
        word.writing = false;
        let (recv, read) = word.asked;
        let kept = reply.is_ok() || self.setup.planted_bug == Some(PlantedBug::LostWord);
        self.cursors.due.remove(&(word.due_ms, user, conv));
        if kept {
            // The pause is between two relays, too, and this one may be late.
            word.rests_ms = now.mono_ms + limits::CURSOR_PACE_MS;
            word.due_ms = word.due_ms.max(word.rests_ms);
        } else {
            word.dirty = true;
            word.due_ms = now.mono_ms + limits::RETRY_MS;
        }
        self.cursors.due.insert((word.due_ms, user, conv));
        if kept {
            self.relay_cursor(user, conv, recv, read, fx);
        }
    }

    /// Tells the peer of a direct conversation, and the user's other devices.
    fn relay_cursor(&mut self, user: UserId, conv: ConvId, recv: Seq, read: Seq, fx: &mut Effects) {
        self.hear_cursor(user, user, conv, recv, read, fx);
        let ConvId::Direct { lo, hi } = conv else { return };
        let peer = if user == lo { hi } else { lo };
        let to = shard_of(peer, self.setup.shards);
        let msg = PeerMsg::Cursor { user, conv, recv, read };
        if peer != user && !self.blocks.between(user, peer) {
            self.send_if_room(to, msg, fx);
        }
    }

    /// The peer's shard hears of a cursor.
    pub(super) fn peer_cursor(&mut self, user: UserId, conv: ConvId, recv: Seq, read: Seq, fx: &mut Effects) {
        let ConvId::Direct { lo, hi } = conv else { return };
        let listener = if user == lo { hi } else { lo };
        if !self.blocks.between(listener, user) {
            self.hear_cursor(listener, user, conv, recv, read, fx);
        }
    }

    /// Tells the v2 sessions of `listener` that have room for it: the next word says as much.
    fn hear_cursor(&mut self, listener: UserId, user: UserId, conv: ConvId, recv: Seq, read: Seq, fx: &mut Effects) {
        for slot in self.roster.sessions_of(&self.sessions, listener) {
            let Some(conn) = self.sessions.name(slot) else { continue };
            self.whisper(conn, push::cursor(user, conv, listener, recv, read), fx);
        }
    }

    /// A legacy session was sent everything up to `seq`.
    pub(super) fn sent_legacy(&mut self, conn: ConnId, conv: ConvId, seq: Seq) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        if !matches!(session.profile, Profile::Legacy(_)) {
            return;
        }
        let unconfirmed = session.unconfirmed.get_or_insert_default();
        if unconfirmed.sent.is_empty() && unconfirmed.pinged.is_empty() {
            self.cursors.to_confirm.insert((unconfirmed.rests_ms.max(self.now_ms), conn));
        }
        if unconfirmed.sent.len() < limits::UNCONFIRMED_MAX || unconfirmed.sent.contains_key(&conv) {
            unconfirmed.sent.insert(conv, seq);
        }
    }

    fn ask_confirmation(&mut self, now: Now, fx: &mut Effects) {
        while let Some(&(due_ms, conn)) = self.cursors.to_confirm.first()
            && due_ms <= now.mono_ms
        {
            self.cursors.to_confirm.pop_first();
            let Some(session) = self.sessions.get_mut(conn) else { continue };
            if session.phase != Phase::Open {
                continue;
            }
            let Some(unconfirmed) = session.unconfirmed.as_deref_mut() else { continue };
            if unconfirmed.pinged.is_empty() && !unconfirmed.sent.is_empty() {
                unconfirmed.pinged = std::mem::take(&mut unconfirmed.sent);
                unconfirmed.ping = unconfirmed.ping.wrapping_add(1);
                unconfirmed.rests_ms = now.mono_ms + limits::CURSOR_PACE_MS;
                let number = unconfirmed.ping.to_be_bytes();
                // Behind what it asks about, in the same outbox: TCP keeps the order.
                session.outbox_mut(&self.held).control(push::ping(&number));
                self.ask_flush(conn, fx);
                if self.setup.planted_bug == Some(PlantedBug::UnprovenCursor) {
                    self.pong(now, conn, &number, fx);
                }
            }
        }
    }

    /// A pong. If it answers the ping behind some messages, they have arrived.
    pub(super) fn pong(&mut self, now: Now, conn: ConnId, payload: &[u8], fx: &mut Effects) {
        let Some(session) = self.sessions.get_mut(conn) else { return };
        // A ping of either sort is answered once; the answer to one that something else has
        // overtaken costs hardly anything.
        let asked = session.pings > 0 || session.awaits_pong(payload);
        session.hear(now.mono_ms);
        if !asked {
            self.pay(conn, &Price::PONG, fx);
        }
        let Some(session) = self.sessions.get_mut(conn) else { return };
        let user = session.user;
        let Some(unconfirmed) = session.unconfirmed.as_deref_mut() else { return };
        if !unconfirmed.is_asked_by(payload) {
            return;
        }
        let arrived = std::mem::take(&mut unconfirmed.pinged);
        if !unconfirmed.sent.is_empty() {
            self.cursors.to_confirm.insert((unconfirmed.rests_ms.max(now.mono_ms), conn));
        }
        for (conv, seq) in arrived {
            // No room: the page gets these once more at its next login.
            let due_ms = now.mono_ms + limits::LEGACY_CURSOR_PACE_MS;
            self.cursors.say(user, conv, (seq, Seq::ZERO), seq, due_ms, now.mono_ms);
        }
    }

    /// A session of the user has ended: what she has confirmed is stored now.
    pub(super) fn hurry_cursors(&mut self, user: UserId) {
        let now_ms = self.now_ms;
        self.cursors.hurry(user, now_ms);
    }
}
