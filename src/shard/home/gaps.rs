//! What exists and was not handed on: the home asks how far a conversation goes, and reads what is
//! missing.
//!
//! Owns: the reads of gaps and heads.
//! Never: reads while the outcome of a post is unknown: its row would look like another gateway's.

use std::sync::Arc;

use crate::ids::{ConvId, Seq};
use crate::limits;
use crate::shard::asks::Purpose;
use crate::shard::effect::Effect;
use crate::shard::home::Home;
use crate::shard::home::conversation::Base;
use crate::shard::home::far::is_of;
use crate::shard::io::Io;
use crate::shard::retries::Retry;
use crate::store::{self, Page, PageStart, Reached, Read, Refusal, Row, Write};
use crate::wire::Packet;
use crate::wire::packet::Stored;

impl Home {
    /// Asks for the head through the writers' queue, so that the answer has its place among the
    /// appends. `false`: no slot.
    pub(super) fn ask_head(&mut self, io: &mut Io, conv: ConvId) -> bool {
        let Some(ask) = io.asks.take(Purpose::Head { conv }) else { return false };
        io.push(Effect::Write { ask, write: Write::Head(conv) });
        true
    }

    /// The store has answered for the head.
    pub(in crate::shard) fn head_settled(&mut self, io: &mut Io, conv: ConvId, reply: Result<Reached, store::Error>) {
        let Ok(Reached(head)) = reply else {
            return io.retry(Retry::Gap(conv));
        };
        let state = self.conversations.busy(conv);
        state.suspect = false;
        state.reading = false;
        state.revealed = state.revealed.max(head);
        self.advance(io, conv);
    }

    /// Where a fresh conversation's handing on begins: just below the first message that was stored
    /// through this home. In doubt the store is read: what was stored since the home began, by
    /// another gateway or by a post of ours whose outcome stayed unknown, is still to be handed on.
    pub(in crate::shard) fn find_base(&mut self, io: &mut Io, conv: ConvId) {
        let Some(state) = self.conversations.get_mut(conv) else { return };
        if state.delivered().is_some() || state.reading || state.unknown > 0 {
            return;
        }
        let first = state.ready.first_key_value().map(|(&seq, _)| seq);
        if !state.doubt {
            if let Some(first) = first {
                state.base = Base::Delivered(first.prev());
            }
            return;
        }
        // After a post that was given up only the head tells how far to look.
        if state.suspect || (first.is_none() && state.in_store > 0) {
            return;
        }
        let before = first.unwrap_or_else(|| state.revealed.next());
        (state.reading, state.base_upto) = (true, before.prev());
        self.read_page(io, conv, PageStart::Before(before));
    }

    /// The store has read the newest messages of a fresh conversation.
    pub(in crate::shard) fn base_settled(&mut self, io: &mut Io, conv: ConvId, page: Page) {
        let Some(state) = self.conversations.get_mut(conv) else { return };
        let first = state.ready.first_key_value();
        let upto = first.map_or(state.revealed, |(&seq, _)| seq.prev()).min(state.base_upto);
        // The first one that is not older: behind it may stand one of a gateway with a late clock.
        let (began_ms, told_from) = (state.began_ms, state.told_from);
        let is_fresh = |row: &Row| row.ts_ms >= began_ms || told_from.is_some_and(|from| row.seq >= from);
        let fresh = page.rows.iter().find(|row| is_fresh(row)).map(|row| row.seq.prev());
        let so_far = state.base_so_far.take();
        let base = fresh.or(so_far).map_or(upto, |base| base.min(upto));
        if let Some(first) = page.rows.first().filter(|row| page.more && is_fresh(row)) {
            // All of it is: what lies before may be, too.
            state.base_so_far = Some(base);
            return self.read_page(io, conv, PageStart::Before(first.seq));
        }
        state.base = Base::Delivered(base);
        state.told_from = None;
        state.doubt = false;
        // What told of its end may know less: a message that was committed late, under an earlier
        // time than the one before it, has gone out of its sight.
        if io.setup.clustered && state.in_store == 0 && state.unknown == 0 {
            state.revealed = state.revealed.max(page.head);
        }
        self.hand_on_rows(io, conv, page);
        self.conversations.busy(conv).reading = false;
        self.advance(io, conv);
    }

    /// Reads what is known to exist and was not handed on. Not while an outcome is unknown: its row
    /// would look like another gateway's.
    pub(super) fn look_for_gaps(&mut self, io: &mut Io, conv: ConvId) {
        let Some(state) = self.conversations.get_mut(conv) else { return };
        if state.reading || state.unknown > 0 {
            return;
        }
        if state.suspect {
            state.reading = true;
            if !self.ask_head(io, conv) {
                io.retry(Retry::Gap(conv));
            }
            return;
        }
        let Some(delivered) = state.delivered() else { return };
        if state.revealed <= delivered || (io.setup.clustered && self.waits_patiently(io, conv, delivered)) {
            return;
        }
        let state = self.conversations.busy(conv);
        if std::mem::take(&mut state.lost) {
            io.tally.digest_repairs += 1;
        }
        state.reading = true;
        self.read_page(io, conv, PageStart::After(delivered));
    }

    /// Reads a page of the conversation for the home itself. One that fails is due again.
    pub(in crate::shard) fn read_page(&mut self, io: &mut Io, conv: ConvId, from: PageStart) {
        io.tally.gap_reads += 1;
        let Some(ask) = io.asks.take(Purpose::Gap { conv }) else {
            return io.retry(Retry::Gap(conv));
        };
        let read =
            Read::Page { conv, reader: None, from, rows_max: limits::SYNC_ROWS_MAX, bytes_max: limits::SYNC_BYTES_MAX };
        io.push(Effect::Read { ask, read });
    }

    /// A read or a head that failed is due again.
    pub(in crate::shard) fn retry_gap(&mut self, io: &mut Io, conv: ConvId) {
        if let Some(state) = self.conversations.get_mut(conv) {
            state.reading = false;
            self.advance(io, conv);
        }
    }

    /// The store has read what was missing.
    pub(in crate::shard) fn gap_settled(
        &mut self,
        io: &mut Io,
        conv: ConvId,
        reply: Result<Result<Page, Refusal>, store::Error>,
    ) {
        let Ok(Ok(page)) = reply else {
            return io.retry(Retry::Gap(conv));
        };
        let before = self.delivered(conv);
        if before.is_none() {
            return self.base_settled(io, conv, page);
        }
        let state = self.conversations.busy(conv);
        // Without a post of ours under way, all that the page has is to be handed on: what told of
        // its end may have gone past while no member was here.
        if io.setup.clustered && state.in_store == 0 && state.unknown == 0 {
            state.revealed = state.revealed.max(page.head);
        }
        self.hand_on_rows(io, conv, page);
        let helped = self.delivered(conv) > before;
        let state = self.conversations.busy(conv);
        // A read that helped nothing is not repeated at once: that would be a busy loop through the
        // store.
        if !helped && state.unknown == 0 {
            return io.retry(Retry::Gap(conv));
        }
        state.reading = false;
        self.advance(io, conv);
    }

    /// Hands on the rows of a gap, and between them our own that were waiting. Never beyond what is
    /// revealed: what comes after may be a post of ours whose answer is still on its way.
    fn hand_on_rows(&mut self, io: &mut Io, conv: ConvId, page: Page) {
        self.skip_to_floor(io, conv, page.floor);
        let own = self.own_under_way(io, conv);
        for row in page.rows {
            let Some(state) = self.conversations.get_mut(conv) else { return };
            let Some(delivered) = state.delivered() else { return };
            if row.seq > state.revealed || state.unknown > 0 {
                return;
            }
            if row.seq <= delivered {
                continue;
            }
            if let Some(ready) = state.ready.remove(&row.seq) {
                self.hand_on_ready(io, conv, ready);
                continue;
            }
            // One of ours, whose answer is still on its way.
            if own.iter().any(|post| is_of(&row, post)) {
                return;
            }
            let stored = Stored { id: row.id, seq: row.seq };
            // One that may be ours is told as ours, and so is one whose author asks here what
            // became of it: the gateway that has stored it may be gone. Rather twice than never.
            let is_asked_for = state.late.iter().any(|late| late.stored.seq == row.seq);
            let far = io.setup.clustered && !state.gave_up && !is_asked_for;
            let packet = Arc::new(Packet::chat(conv, row.sender, Some(stored), row.ts_ms, &row.body));
            self.hand_on(io, conv, (row.seq, row.ts_ms), &packet, far, None);
        }
    }

    /// Retention has cut what cannot be read any more: the order goes on behind it, but our own
    /// posts in it are still to be answered.
    fn skip_to_floor(&mut self, io: &mut Io, conv: ConvId, floor: Seq) {
        while let Some(state) = self.conversations.get_mut(conv) {
            let Some(delivered) = state.delivered() else { return };
            let reach = floor.prev().min(state.revealed);
            if reach <= delivered {
                return;
            }
            match state.ready.first_entry().filter(|first| *first.key() <= reach).map(|first| first.remove()) {
                Some(ready) => self.hand_on_ready(io, conv, ready),
                None => state.base = Base::Delivered(reach),
            }
        }
    }
}
