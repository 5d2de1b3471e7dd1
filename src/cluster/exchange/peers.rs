//! What one gateway knows of another, and whether it believes what that seems to say.
//!
//! Owns: the rule by which a word is new: of the same start by its count, of another start by its
//! time.
//! Bounds: [`STARTS_ENDED_MAX`] earlier starts of a gateway.

use crate::clock::Now;
use crate::cluster::envelope::From;
use crate::limits::{ENVELOPE_OLD_MS, STARTS_ENDED_MAX};

/// Another gateway.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) boot: u64,
    /// Which of all there were, from 0: a number for a set of gateways.
    pub(super) place: u16,
    /// The last envelope for all, and for this one: they come on two ways.
    counts: [u64; 2],
    /// The latest time at which anything was sent, but never further ahead than
    /// [`ENVELOPE_OLD_MS`]: a clock that was an hour ahead is set, and the gateway started anew,
    /// and it would not be heard for that hour.
    sent_ms: u64,
    /// How far ahead the times of this start are at most.
    ahead_ms: u64,
    /// When something was believed last.
    pub(super) heard_ms: u64,
    pub(super) gone: bool,
    /// The digest that comes in pieces: its end, and the next piece.
    pub(super) pieces: Option<(u64, u16)>,
    ended: Vec<Ended>,
}

/// An earlier start of a gateway.
#[derive(Debug)]
struct Ended {
    boot: u64,
    /// Until then, by this gateway's clock, something that it said may seem to be young.
    until_ms: u64,
}

impl Peer {
    pub(super) const fn new(boot: u64, place: u16) -> Self {
        Self {
            boot,
            place,
            counts: [0; 2],
            sent_ms: 0,
            ahead_ms: 0,
            heard_ms: 0,
            gone: false,
            pieces: None,
            ended: Vec::new(),
        }
    }

    /// Whether an envelope is young and new; then it was heard. `way`: 0, what is for all; 1, what
    /// is for this gateway.
    pub(super) fn believes(&mut self, now: Now, from: &From, way: usize) -> bool {
        let is_old = from.sent_ms.saturating_add(ENVELOPE_OLD_MS) < now.wall_ms;
        let is_next =
            if self.boot == from.boot { from.count > self.counts[way] } else { self.has_begun_anew(now, from) };
        if is_old || !is_next {
            return false;
        }
        if self.boot != from.boot {
            self.begin(now, from.boot);
        }
        self.counts[way] = from.count;
        self.sent_ms = self.sent_ms.max(from.sent_ms).min(now.wall_ms.saturating_add(ENVELOPE_OLD_MS));
        self.ahead_ms = self.ahead_ms.max(from.sent_ms.saturating_sub(now.wall_ms));
        (self.heard_ms, self.gone) = (now.mono_ms, false);
        true
    }

    /// Whether a word of another start is one of a later start. Whoever repeats what an earlier one
    /// has said must not be believed, though all of it was made with the key: what was sent no
    /// later than the last word is earlier, and when nothing was heard for as long as a word is
    /// young, whatever was sent before is too old by its own time. Neither is so with a clock
    /// that was ahead: what was said with it seems to be young for longer than that. So the starts
    /// that have ended are remembered until all that they can have said is old.
    fn has_begun_anew(&self, now: Now, from: &From) -> bool {
        let has_ended = self.ended.iter().any(|ended| ended.boot == from.boot && now.wall_ms <= ended.until_ms);
        let was_silent = self.heard_ms + ENVELOPE_OLD_MS <= now.mono_ms;
        !has_ended && (from.sent_ms > self.sent_ms || was_silent)
    }

    fn begin(&mut self, now: Now, boot: u64) {
        self.ended.retain(|ended| now.wall_ms <= ended.until_ms);
        if self.ended.len() >= STARTS_ENDED_MAX {
            let first = self.ended.iter().enumerate().min_by_key(|(_, ended)| ended.until_ms);
            first.map(|(index, _)| index).into_iter().for_each(|index| _ = self.ended.swap_remove(index));
        }
        // Once for the way that even the fastest word took, and once for being young.
        let until_ms = now.wall_ms.saturating_add(self.ahead_ms).saturating_add(2 * ENVELOPE_OLD_MS);
        self.ended.push(Ended { boot: self.boot, until_ms });
        (self.boot, self.counts, self.ahead_ms, self.pieces) = (boot, [0; 2], 0, None);
    }
}
