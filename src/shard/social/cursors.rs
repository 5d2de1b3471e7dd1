//! How far users have received and read their conversations, on the way to the store.
//!
//! Owns: the newest word of each user about each conversation until it is stored; the pace at which
//! it is stored and relayed. What a legacy session has not confirmed is in `sessions::confirming`.
//! Never: lets a cursor move back, and never writes for every message: the last value wins, one
//! write per pace and conversation.
//! Bounds: [`limits::CURSORS_MAX`] words, and [`limits::FAR_CURSORS_PACED_MAX`] pauses of those of
//! other gateways; one beyond them is relayed at once.

use crate::shard::broken::broken;
use std::collections::{BTreeMap, BTreeSet};

use crate::fair::{Brake, Braked};
use crate::ids::{ConnId, ConvId, Seq, UserId, shard_of};
use crate::limits;
use crate::metrics::tally::Merged;
use crate::shard::PlantedBug;
use crate::shard::asks::Purpose;
use crate::shard::effect::Effect;
use crate::shard::far::FarWord;
use crate::shard::home::Home;
use crate::shard::io::Io;
use crate::shard::peer::PeerMsg;
use crate::shard::sessions::Sessions;
use crate::shard::social::Social;
use crate::store::{self, Kept, Write};
use crate::wire::command::Cursor;
use crate::wire::{Reject, Target, push};

/// A user's word about a conversation.
#[derive(Clone, Copy, Debug)]
struct CursorWord {
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
pub(in crate::shard) struct Cursors {
    words: BTreeMap<(UserId, ConvId), CursorWord>,
    due: BTreeSet<(u64, UserId, ConvId)>,
    /// What these users have said on other gateways, and the pause until it is relayed here.
    far: Brake<(UserId, ConvId), (Seq, Seq)>,
}

impl Default for Cursors {
    fn default() -> Self {
        let far = Brake::new(limits::CURSOR_PACE_MS, limits::FAR_CURSORS_PACED_MAX);
        Self { words: BTreeMap::new(), due: BTreeSet::new(), far }
    }
}

impl Cursors {
    /// Takes a word about a conversation that goes at least up to `head`. `false`: there are too
    /// many, and this one is about something new.
    pub(in crate::shard) fn say(
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
        let fresh = CursorWord {
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
    pub(in crate::shard) fn next_ms(&self) -> Option<u64> {
        [self.due.first().map(|&(due_ms, ..)| due_ms), self.far.next_ms()].into_iter().flatten().min()
    }

    /// What the user has said about a conversation lately, stored or not.
    pub(in crate::shard) fn newest(&self, user: UserId, conv: ConvId) -> (Seq, Seq) {
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
    pub(in crate::shard) fn check(&self) {
        assert!(self.words.len() <= limits::CURSORS_MAX, "words are bounded");
        assert_eq!(self.words.len(), self.due.len(), "every word is looked at again");
        for (&(user, conv), word) in &self.words {
            assert!(self.due.contains(&(word.due_ms, user, conv)), "at its time");
        }
    }
}

impl Social {
    /// `cmd` 3.
    pub(in crate::shard) fn cursor(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        home: &Home,
        conn: ConnId,
        cursor: &Cursor,
    ) {
        self.mark(io, sessions, home, conn, cursor.of, (cursor.recv, cursor.read));
    }

    /// Takes a word that can be true, or has the store asked whether it can be.
    pub(in crate::shard) fn mark(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        home: &Home,
        conn: ConnId,
        of: Target,
        (recv, read): (Seq, Seq),
    ) {
        let Some(session) = sessions.table.get(conn) else { return };
        let user = session.user;
        if let Target::Group(group) = of
            && !sessions.roster.is_member(&sessions.table, conn, group)
        {
            return sessions.tell_refusal(io, conn, Reject::NotMember, None, Some(of));
        }
        let conv = of.conv(user);
        if io.setup.volatile {
            return;
        }
        // What was handed on by this home exists, and so does what a word was cut at lately.
        let handed_on = home.delivered(conv).unwrap_or_default();
        let head = self.cursors.head(user, conv).max(handed_on);
        if recv.max(read) > head {
            return self.claim(io, sessions, conn, of, (recv, read));
        }
        if !self.cursors.say(user, conv, (recv, read), head, io.now_ms(), io.now_ms()) {
            sessions.tell_refusal(io, conn, Reject::Busy, None, Some(of));
        }
    }

    /// Stores and relays what is due, and asks legacy sessions whether they have got what they were
    /// sent.
    pub(super) fn move_cursors(&mut self, io: &mut Io) {
        for _ in 0..limits::TURN_CURSORS_MAX {
            let Some((user, conv)) = self.cursors.pop(io.now_ms()) else { return };
            let Some(word) = self.cursors.words.get_mut(&(user, conv)) else { broken("what is due is a word") };
            if !word.dirty && !word.writing {
                self.cursors.words.remove(&(user, conv));
                continue;
            }
            let (recv, read) = (word.recv, word.read);
            word.due_ms = io.now_ms() + limits::CURSOR_PACE_MS;
            word.rests_ms = word.due_ms;
            if word.dirty && !word.writing {
                match io.asks.take(Purpose::Cursor { user, conv }) {
                    Some(ask) => {
                        (word.dirty, word.writing, word.asked) = (false, true, (recv, read));
                        io.push(Effect::Write { ask, write: Write::Cursor { user, conv, recv, read } });
                    }
                    None => word.due_ms = io.now_ms() + limits::RETRY_MS,
                }
            }
            self.cursors.due.insert((word.due_ms, user, conv));
        }
    }

    /// The store has kept a cursor, which is told to those whom it concerns, or not.
    pub(in crate::shard) fn cursor_settled(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        user: UserId,
        conv: ConvId,
        reply: Result<Kept, store::Error>,
    ) {
        let Some(word) = self.cursors.words.get_mut(&(user, conv)) else { broken("a word is kept until it is stored") };
        word.writing = false;
        let (recv, read) = word.asked;
        let kept = reply.is_ok() || io.has_bug(PlantedBug::LostWord);
        self.cursors.due.remove(&(word.due_ms, user, conv));
        if kept {
            // The pause is between two relays, too, and this one may be late.
            word.rests_ms = io.now_ms() + limits::CURSOR_PACE_MS;
            word.due_ms = word.due_ms.max(word.rests_ms);
        } else {
            word.dirty = true;
            word.due_ms = io.now_ms() + limits::RETRY_MS;
        }
        self.cursors.due.insert((word.due_ms, user, conv));
        if kept {
            self.relay_cursor(io, sessions, user, conv, recv, read);
            io.tell_far(FarWord::Cursor { user, conv, recv, read });
        }
    }

    /// Tells the peer of a direct conversation, and the user's other devices.
    fn relay_cursor(&self, io: &mut Io, sessions: &mut Sessions, user: UserId, conv: ConvId, recv: Seq, read: Seq) {
        self.hear_cursor(io, sessions, user, user, conv, recv, read);
        let ConvId::Direct { lo, hi } = conv else { return };
        let peer = if user == lo { hi } else { lo };
        let to = shard_of(peer, io.setup.shards);
        let msg = PeerMsg::Cursor { user, conv, recv, read };
        if peer != user && !sessions.blocks.between(user, peer) {
            io.send_if_room(to, msg);
        }
    }

    /// Another gateway has kept a cursor of a user of this shard.
    pub(super) fn far_cursor(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        user: UserId,
        conv: ConvId,
        reach: (Seq, Seq),
    ) {
        match self.cursors.far.take((user, conv), reach, io.now_ms()) {
            Braked::Now(reach) => self.relay_far_cursor(io, sessions, user, conv, reach),
            Braked::Later(None) => {}
            Braked::Later(Some(dropped)) => {
                io.tally.merged[Merged::Mark as usize] += 1;
                // Of two devices one may have come further.
                let most = (reach.0.max(dropped.0), reach.1.max(dropped.1));
                let _ = self.cursors.far.take((user, conv), most, io.now_ms());
            }
        }
    }

    /// Relays those of other gateways whose pause is over.
    pub(super) fn move_far_cursors(&mut self, io: &mut Io, sessions: &mut Sessions) {
        for _ in 0..limits::TURN_CURSORS_MAX {
            let Some(((user, conv), reach)) = self.cursors.far.pop(io.now_ms()) else { return };
            self.relay_far_cursor(io, sessions, user, conv, reach);
        }
    }

    fn relay_far_cursor(&self, io: &mut Io, sessions: &mut Sessions, user: UserId, conv: ConvId, reach: (Seq, Seq)) {
        // What the user has said here lately may be more.
        let (recv, read) = self.cursors.newest(user, conv);
        self.relay_cursor(io, sessions, user, conv, recv.max(reach.0), read.max(reach.1));
    }

    /// The peer's shard hears of a cursor.
    pub(in crate::shard) fn peer_cursor(
        &mut self,
        io: &mut Io,
        sessions: &mut Sessions,
        user: UserId,
        conv: ConvId,
        recv: Seq,
        read: Seq,
    ) {
        let ConvId::Direct { lo, hi } = conv else { return };
        let listener = if user == lo { hi } else { lo };
        if !sessions.blocks.between(listener, user) {
            self.hear_cursor(io, sessions, listener, user, conv, recv, read);
        }
    }

    /// Tells the v2 sessions of `listener` that have room for it: the next word says as much.
    fn hear_cursor(
        &self,
        io: &mut Io,
        sessions: &mut Sessions,
        listener: UserId,
        user: UserId,
        conv: ConvId,
        recv: Seq,
        read: Seq,
    ) {
        for slot in sessions.roster.sessions_of(&sessions.table, listener) {
            let Some(conn) = sessions.table.name(slot) else { continue };
            sessions.whisper(io, conn, push::cursor(user, conv, listener, recv, read));
        }
    }

    /// A session of the user has ended: what it has confirmed is stored now.
    pub(super) fn hurry_cursors(&mut self, io: &mut Io, user: UserId) {
        let now_ms = io.now_ms();
        self.cursors.hurry(user, now_ms);
    }
}
