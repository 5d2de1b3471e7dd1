//! Pages of history for sessions that catch up: one read and one encoding for all that lack the
//! same.
//!
//! Owns: the reads under way, which sessions wait for each of them, the line of those that wait for
//! a read of their own, and the pages that were read last.
//! Never: knows what a session lacks, or whether it may see a row: that is judged when a page is
//! taken (`catching_up`).
//! Bounds: [`limits::CATCH_UP_READS_MAX`] reads under way, fewer while the outboxes leave no room
//! for their pages; [`limits::CATCH_UP_TAKERS_MAX`] sessions for one of them;
//! [`limits::CATCH_UP_KEPT_BYTES_MAX`] kept. The line and the crowds behind reads hold a session
//! once, all together.

use crate::shard::broken::broken;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use crate::ids::{ConnId, ConvId, Seq, UserId};
use crate::limits;
use crate::shard::session::held::Held;
use crate::shard::session::outbox::Frame;
use crate::store::Page;
use crate::wire::Packet;
use crate::wire::packet::Stored;

/// A page of one conversation, encoded.
#[derive(Debug)]
pub(in crate::shard) struct SharedPage {
    /// The first number that was asked for.
    from: Seq,
    /// Messages below are not kept.
    pub floor: Seq,
    /// The messages, in order and without a hole.
    pub rows: Vec<(Seq, Frame)>,
    /// The author of each.
    pub authors: Vec<UserId>,
}

impl SharedPage {
    /// Encodes what the store has read from `from` on.
    pub(in crate::shard) fn new(conv: ConvId, from: Seq, page: &Page) -> Self {
        let rows = page.rows.iter().map(|row| {
            let stored = Stored { id: row.id, seq: row.seq };
            (row.seq, Frame::new(Arc::new(Packet::chat(conv, row.sender, Some(stored), row.ts_ms, &row.body))))
        });
        let authors = page.rows.iter().map(|row| row.sender).collect();
        Self { from, floor: page.floor, rows: rows.collect(), authors }
    }

    /// Whether a session that lacks `next` gets further with it.
    fn helps(&self, next: Seq) -> bool {
        self.from <= next && self.rows.last().is_some_and(|&(last, _)| next <= last)
    }

    fn kept(&self) -> usize {
        self.rows.iter().map(|(_, frame)| frame.bytes().len()).sum()
    }
}

/// The sessions that wait for a read under way.
#[derive(Debug, Default)]
struct Waiters {
    /// The page is for these.
    takers: Vec<ConnId>,
    /// These want the same and are too many for one step: in line when the page has come. In the
    /// line before that they would be asked in each turn, and could only be put back.
    crowd: VecDeque<ConnId>,
}

/// The pages of a shard.
#[derive(Default)]
pub(in crate::shard) struct Pages {
    under_way: BTreeMap<(ConvId, Seq), Waiters>,
    line: VecDeque<ConnId>,
    /// The last ones, the oldest first.
    kept: VecDeque<(ConvId, Rc<SharedPage>)>,
    kept_bytes: usize,
}

/// What became of a wish to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::shard) enum Turn {
    /// Another session has asked already: the answer is for both.
    Shared,
    /// Too many reads are under way, or too many sessions want the same.
    InLine,
    /// The store is to be asked.
    Ask,
}

impl Pages {
    /// A page that was read lately and has what `conv` has from `next` on.
    pub(in crate::shard) fn kept(&self, conv: ConvId, next: Seq) -> Option<Rc<SharedPage>> {
        let found = self.kept.iter().rev().find(|(of, page)| *of == conv && page.helps(next));
        found.map(|(_, page)| Rc::clone(page))
    }

    /// `conn` wants what `conv` has from `next` on; `reads_max` reads may be under way.
    pub(in crate::shard) fn want(&mut self, conn: ConnId, conv: ConvId, next: Seq, reads_max: usize) -> Turn {
        if let Some(waiters) = self.under_way.get_mut(&(conv, next)) {
            if waiters.takers.len() < limits::CATCH_UP_TAKERS_MAX {
                waiters.takers.push(conn);
                return Turn::Shared;
            }
            waiters.crowd.push_back(conn);
            return Turn::InLine;
        }
        if self.under_way.len() >= reads_max {
            self.line.push_back(conn);
            return Turn::InLine;
        }
        Turn::Ask
    }

    /// The store was asked for `conn`.
    pub(in crate::shard) fn asked(&mut self, conn: ConnId, conv: ConvId, next: Seq) {
        self.under_way.insert((conv, next), Waiters { takers: vec![conn], crowd: VecDeque::new() });
    }

    /// The store has answered: the sessions that the page is for. Others that want the same are
    /// the next in line: the page is likely to be kept that long.
    pub(in crate::shard) fn answered(&mut self, conv: ConvId, next: Seq) -> Vec<ConnId> {
        let waiters = self.under_way.remove(&(conv, next));
        let Waiters { takers, mut crowd } = waiters.unwrap_or_else(|| broken("a page that has come was asked for"));
        crowd.append(&mut self.line);
        self.line = crowd;
        takers
    }

    /// Keeps a page for sessions that come to its place soon.
    pub(in crate::shard) fn keep(&mut self, conv: ConvId, page: &Rc<SharedPage>, held: &mut Held) {
        if page.rows.is_empty() {
            return;
        }
        self.kept_bytes += page.kept();
        page.rows.iter().for_each(|(_, frame)| frame.enter(held));
        self.kept.push_back((conv, Rc::clone(page)));
        while self.kept_bytes > limits::CATCH_UP_KEPT_BYTES_MAX || self.kept.len() > limits::CATCH_UP_KEPT_MAX {
            self.forget_oldest(held);
        }
    }

    fn forget_oldest(&mut self, held: &mut Held) {
        let Some((_, page)) = self.kept.pop_front() else { return };
        self.kept_bytes -= page.kept();
        page.rows.iter().for_each(|(_, frame)| frame.leave(held));
    }

    /// Forgets the pages that are only kept.
    pub(super) fn forget_kept(&mut self, held: &mut Held) {
        while !self.kept.is_empty() {
            self.forget_oldest(held);
        }
    }

    /// Whether the next one in line may have its turn.
    pub(in crate::shard) fn is_due(&self, reads_max: usize) -> bool {
        !self.line.is_empty() && self.under_way.len() < reads_max
    }

    /// The next one in line.
    pub(super) fn next_in_line(&mut self) -> Option<ConnId> {
        self.line.pop_front()
    }

    /// The frames that are kept. For `check_invariants`.
    pub(in crate::shard) fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.kept.iter().flat_map(|(_, page)| page.rows.iter().map(|(_, frame)| frame))
    }

    /// The state agrees with itself. For `check_invariants`.
    pub(in crate::shard) fn check(&self) {
        assert!(self.under_way.len() <= limits::CATCH_UP_READS_MAX, "reads under way are bounded");
        assert!(self.under_way.values().all(|waiters| !waiters.takers.is_empty()), "a read is for a session");
        assert_eq!(self.kept_bytes, self.kept.iter().map(|(_, page)| page.kept()).sum::<usize>(), "kept is counted");
    }
}
