//! What was stored lately, by whatever gateway: the question behind the digest of a cluster.
//!
//! Owns: the vocabulary. A gateway asks which conversations have got messages since a second of the
//! database's clock, and which numbers; so it finds what the bus between gateways has lost.
//! Never: says that nothing else was stored: a transaction that is under way appears with an
//! earlier second when it commits. Whoever asks goes back far enough for that.
//! Bounds: one answer has [`crate::limits::RECENT_CONVS_MAX`] conversations at most.

use crate::ids::{ConvId, Seq};

/// Where a look at what was stored lately begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Since {
    /// So many seconds ago.
    Ago(u32),
    /// At that second of the database's clock.
    At(u64),
}

/// A conversation that has got messages lately.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecentConv {
    /// Which.
    pub conv: ConvId,
    /// The lowest number of a message stored since then.
    pub lowest: Seq,
    /// The highest number.
    pub newest: Seq,
}

/// Conversations that have got messages since a second.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recent {
    /// As [`super::Page::epoch`].
    pub epoch: u64,
    /// The second that it begins with, of the database's clock.
    pub from_s: u64,
    /// That clock, read before the rows were.
    pub now_s: u64,
    /// Each conversation once.
    pub list: Vec<RecentConv>,
    /// Where the next page begins, if there may be one: with [`Since::At`] of `from_s`.
    pub next: Option<u64>,
}
