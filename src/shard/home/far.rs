//! What other gateways of the same database have stored, as the homes here hear of it.
//!
//! Owns: what a home does with a row of another gateway, and with what the digest says. A row that
//! has its turn is handed on at once; one above waits a little for those before it
//! ([`limits::FAR_PATIENCE_MS`]), which are on their way as a rule, and then they are read. A home
//! that knows nothing of a conversation has handed on nothing of it lately
//! ([`limits::FAR_MEMO_MS`]), so it begins below whatever is younger than
//! [`limits::FAR_WINDOW_MS`].
//! Never: hands on a message twice, or one of ours whose answer is still on its way as another
//! gateway's.
//! Bounds: [`limits::FAR_READY_MAX`] rows of a conversation, [`limits::FAR_READY_BYTES_MAX`] of
//! all.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::ids::{ConvId, Seq, UserId};
use crate::limits;
use crate::shard::PlantedBug;
use crate::shard::far::{FarRow, FarSaid};
use crate::shard::home::Home;
use crate::shard::home::conversation::{Base, Conversation, Undelivered};
use crate::shard::io::Io;
use crate::store::Row;
use crate::wire::Packet;
use crate::wire::packet::{Milestones, Stored};

/// What tells a post that is under way from rows of others: its author, time and body.
pub(super) type OwnPost = (UserId, u64, Arc<str>);

/// Whether a row may be that post's.
pub(super) fn is_of(row: &Row, (sender, ts_ms, body): &OwnPost) -> bool {
    row.sender == *sender && row.ts_ms == *ts_ms && row.body == *body
}

impl Home {
    /// Another gateway has stored something.
    pub(in crate::shard) fn far_row(&mut self, io: &mut Io, far: FarRow) {
        let FarRow { conv, row, before_ms } = far;
        if self.conversations.delivered(conv).is_some_and(|delivered| row.seq <= delivered) {
            io.tally.far_duplicates += 1;
            return;
        }
        let Some(state) = self.far_state(io, conv) else { return };
        if state.ready.contains_key(&row.seq) {
            io.tally.far_duplicates += 1;
            return;
        }
        state.judge_first(before_ms);
        if io.has_bug(PlantedBug::WrongBase) && state.delivered().is_none() && state.ready.is_empty() {
            state.base = Base::Delivered(row.seq.prev());
        }
        state.revealed = state.revealed.max(row.seq);
        let stored = Stored { id: row.id, seq: row.seq };
        let packet = Packet::chat(conv, row.sender, Some(stored), row.ts_ms, &row.body);
        let packet = Arc::new(packet.passed(Milestones::new(0, io.now.mono_us())));
        let bytes = packet.frame().len();
        let has_turn = state.delivered().is_some_and(|delivered| row.seq == delivered.next());
        let fits = state.ready.len() < limits::FAR_READY_MAX
            && self.conversations.far_bytes + bytes <= limits::FAR_READY_BYTES_MAX;
        if has_turn || fits {
            self.conversations.far_bytes += bytes;
            let ready = Undelivered { packet, stored, ts_ms: row.ts_ms, post: None };
            self.conversations.busy(conv).ready.insert(row.seq, ready);
        } else {
            // It is read with those before it.
            io.tally.far_dropped += 1;
        }
        self.advance(io, conv);
    }

    /// Something was said on another gateway that is kept nowhere.
    pub(in crate::shard) fn far_said(&mut self, io: &mut Io, said: &FarSaid) {
        self.hand_on_unstored(io, said, 0, None);
    }

    /// What is known of a conversation of which another gateway has word. `None`: no room, which is
    /// counted; the digest comes back to it.
    fn far_state(&mut self, io: &mut Io, conv: ConvId) -> Option<&mut Conversation> {
        let window_ms = self.conversations.far_window_ms(io.now_ms());
        let state = self.conversations.get_or_make(conv, io.now_ms());
        match state {
            Some(state) => {
                state.begin(io.now, window_ms);
                Some(state)
            }
            None => {
                io.tally.far_dropped += 1;
                None
            }
        }
    }

    /// The database has given those numbers lately, whoever has asked for them.
    pub(in crate::shard) fn far_head(&mut self, io: &mut Io, conv: ConvId, lowest: Seq, newest: Seq) {
        if io.has_bug(PlantedBug::IgnoredDigest)
            || self.conversations.delivered(conv).is_some_and(|delivered| newest <= delivered)
        {
            return;
        }
        let Some(state) = self.far_state(io, conv) else { return };
        state.lost |= newest > state.revealed;
        state.revealed = state.revealed.max(newest);
        if state.delivered().is_none() {
            state.doubt = true;
            state.told_from = Some(state.told_from.map_or(lowest, |from| from.min(lowest)));
        }
        self.advance(io, conv);
    }

    /// All gateways' messages have been told up to now.
    pub(in crate::shard) fn covered(&mut self, io: &Io) {
        self.conversations.covered(io.now_ms());
    }

    /// Whether what is missing behind `delivered` is still waited for.
    pub(super) fn waits_patiently(&mut self, io: &Io, conv: ConvId, delivered: Seq) -> bool {
        let now_ms = io.now_ms();
        let state = self.conversations.busy(conv);
        match state.patience {
            Some((from, until_ms)) if from == delivered => now_ms < until_ms,
            _ => {
                let until_ms = now_ms + limits::FAR_PATIENCE_MS;
                state.patience = Some((delivered, until_ms));
                self.conversations.patient.push_back((until_ms, conv));
                true
            }
        }
    }

    /// Reads what has been waited for long enough.
    pub(in crate::shard) fn end_patience(&mut self, io: &mut Io) {
        for _ in 0..limits::TURN_TIMERS_MAX {
            let due = self.conversations.patient.front().filter(|(until_ms, _)| *until_ms <= io.now_ms());
            let Some(&(_, conv)) = due else { return };
            self.conversations.patient.pop_front();
            self.look_for_gaps(io, conv);
        }
    }

    /// The posts of a conversation that the store has not answered for: their rows may be read
    /// before their answers come.
    pub(super) fn own_under_way(&self, io: &Io, conv: ConvId) -> SmallVec<[OwnPost; 4]> {
        let mut own = SmallVec::new();
        if io.setup.clustered && self.conversations.get(conv).is_some_and(|state| state.in_store > 0) {
            let posts = self.conversations.posts.iter().filter(|(_, post)| post.post.conv == conv);
            own.extend(posts.map(|(_, post)| (post.post.sender, post.ts_ms, Arc::clone(&post.post.body))));
        }
        own
    }
}
