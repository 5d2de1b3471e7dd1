//! Messages that the sessions of this shard have been given: when their ways began.
//!
//! Owns: what of it was not taken yet. Whoever drives the shard takes it at the end of a turn, when
//! it is written, and knows what time it is then.
//! Never: an entry for each member: a message is one, whoever here has been given it.
//! Bounds: [`PASSAGES_MAX`] entries; those beyond count as the last one. Messages that came
//! together are one.

use crate::limits::PASSAGES_MAX;
use crate::wire::Packet;
use crate::wire::packet::Milestones;

/// Messages whose ways have come to their end at the same time, and began at the same time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Passage {
    /// When they were said, and known.
    pub milestones: Milestones,
    /// How many.
    pub count: u64,
}

/// Those that were not taken yet.
#[derive(Default)]
pub(in crate::shard) struct Passages(Vec<Passage>);

impl Passages {
    /// Takes them all.
    pub(in crate::shard) fn take(&mut self) -> impl Iterator<Item = Passage> {
        self.0.drain(..)
    }

    /// The last session of this shard that is given a message has been given it.
    pub(in crate::shard) fn add(&mut self, packet: &Packet) {
        let milestones = packet.milestones();
        if milestones == Milestones::default() {
            return;
        }
        let is_full = self.0.len() >= PASSAGES_MAX;
        match self.0.last_mut() {
            Some(last) if last.milestones == milestones || is_full => last.count += 1,
            _ => self.0.push(Passage { milestones, count: 1 }),
        }
    }
}
