//! What a writing connection knows without asking again: heads of conversations, and which users
//! may post to a pair.
//!
//! Owns: the memory, and when it must go: another connection has written, a transaction was rolled
//! back, or something else than a batch of writes was done.
//! Never: knows of memberships; those are looked up for every message.
//! Bounds: [`SQLITE_CONVS_KNOWN_MAX`] conversations and those of one batch.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use rusqlite::Connection;

use super::Error;
use super::append::conv_row;
use crate::ids::{ConvId, Seq, UserId};
use crate::limits::SQLITE_CONVS_KNOWN_MAX;

/// A conversation as far as the running transaction, or the last one, has come.
pub(super) struct KnownConv {
    /// Row of the conversation; `None` until it has its first message.
    pub(super) conv: Option<i64>,
    /// The highest number given.
    pub(super) seq: Seq,
    /// Whether its row is in the index by time.
    pub(super) listed: bool,
    /// The time of the message that got `seq`; zero before the first.
    pub(super) newest_ms: u64,
    /// The head as the row has it.
    pub(super) kept: Seq,
    /// Whether `seq` is newer than the row.
    moved: bool,
    /// Whether the judge has said that the smaller user of a pair may post to it.
    lo_passes: bool,
    /// The same of the larger one.
    hi_passes: bool,
}

impl KnownConv {
    /// Whether the judge has let `sender` post to `conv`, whose head this is.
    pub(super) fn passes(&self, conv: ConvId, sender: UserId) -> bool {
        let ConvId::Direct { lo, hi } = conv else { return false };
        (sender == lo && self.lo_passes) || (sender == hi && self.hi_passes)
    }

    /// Remembers that the judge does.
    pub(super) fn let_pass(&mut self, conv: ConvId, sender: UserId) {
        if let ConvId::Direct { lo, hi } = conv {
            self.lo_passes |= sender == lo;
            self.hi_passes |= sender == hi;
        }
    }
}

/// See the head of this file.
#[derive(Default)]
pub(super) struct KnownConvs {
    /// SQLite's own number for "another connection has written", as of the last look.
    version: i64,
    heads: HashMap<ConvId, KnownConv, FixedState>,
    /// Conversations whose heads the running transaction has moved.
    moved: Vec<ConvId>,
}

impl KnownConvs {
    /// Forgets everything.
    pub(super) fn forget(&mut self) {
        self.heads.clear();
        self.moved.clear();
    }

    /// At the beginning of a transaction, when no other connection can write any more: forgets
    /// everything if one has, or if it has become too much.
    pub(super) fn look_around(&mut self, conn: &Connection) -> Result<(), Error> {
        let version = conn.prepare_cached("PRAGMA data_version")?.query_one([], |row| row.get(0))?;
        if version != self.version || self.heads.len() > SQLITE_CONVS_KNOWN_MAX {
            self.forget();
            self.version = version;
        }
        Ok(())
    }

    /// The head of `conv`; read when it is not known.
    pub(super) fn head(&mut self, conn: &Connection, conv: ConvId) -> Result<&mut KnownConv, Error> {
        match self.heads.entry(conv) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let row = conv_row(conn, conv)?;
                let (conv, seq, listed, newest_ms) = row
                    .map_or((None, Seq::ZERO, false, 0), |row| (Some(row.conv), row.head, row.listed, row.newest_ms));
                let (moved, lo_passes, hi_passes) = (false, false, false);
                Ok(entry.insert(KnownConv { conv, seq, listed, newest_ms, kept: seq, moved, lo_passes, hi_passes }))
            }
        }
    }

    /// A message has got `seq`, the next number of a conversation that is known; the time of the
    /// one before it.
    pub(super) fn moved(&mut self, conv: ConvId, seq: Seq, newest_ms: u64) -> u64 {
        let Some(head) = self.heads.get_mut(&conv) else { return 0 };
        if !head.moved {
            self.moved.push(conv);
        }
        (head.seq, head.moved) = (seq, true);
        std::mem::replace(&mut head.newest_ms, newest_ms)
    }

    /// Gives every head that was moved since the last time to `write`, in the order of their rows.
    pub(super) fn each_moved(&mut self, mut write: impl FnMut(&KnownConv) -> Result<(), Error>) -> Result<(), Error> {
        let Self { heads, moved, .. } = self;
        moved.sort_unstable_by_key(|conv| heads.get(conv).and_then(|head| head.conv));
        for conv in moved.drain(..) {
            if let Some(head) = heads.get_mut(&conv) {
                write(head)?;
                (head.kept, head.moved) = (head.seq, false);
            }
        }
        Ok(())
    }
}
