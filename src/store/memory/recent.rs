//! What was stored lately, once somebody has said what time it is.
//!
//! Owns: the second of each message of the last [`RECENT_KEPT_S`], by the clock that
//! [`super::Memory::set_clock`] tells.
//! Never: keeps anything as long as no time was told.

use std::collections::{BTreeMap, VecDeque};

use crate::ids::{ConvId, Seq};
use crate::limits::{RECENT_CONVS_MAX, RECENT_KEPT_S};
use crate::store::recent::{Recent, RecentConv, Since};

/// The database's clock, and what was stored by it.
#[derive(Default)]
pub(super) struct Lately {
    /// What whoever asks is told; `None`: no time was told.
    now_s: Option<u64>,
    /// What is written down for what is stored: in a server a transaction may have begun earlier.
    created_s: u64,
    rows: VecDeque<(u64, ConvId, Seq)>,
}

impl Lately {
    pub(super) fn set(&mut self, now_s: u64, created_s: u64) {
        (self.now_s, self.created_s) = (Some(now_s), created_s);
        while self.rows.front().is_some_and(|(at, ..)| at + RECENT_KEPT_S < now_s) {
            self.rows.pop_front();
        }
    }

    pub(super) fn stored(&mut self, conv: ConvId, seq: Seq) {
        if self.now_s.is_some() {
            self.rows.push_back((self.created_s, conv, seq));
        }
    }

    /// See [`crate::store::Backend::recent`]; pages are counted.
    pub(super) fn recent(&self, epoch: u64, since: Since, after: u64, max: u32) -> Recent {
        let now_s = self.now_s.unwrap_or_default();
        let from_s = match since {
            Since::Ago(seconds) => now_s.saturating_sub(seconds.into()),
            Since::At(second) => second,
        };
        let mut convs: BTreeMap<ConvId, (Seq, Seq)> = BTreeMap::new();
        for &(_, conv, seq) in self.rows.iter().filter(|(at, ..)| *at >= from_s) {
            let seen = convs.entry(conv).or_insert((seq, seq));
            *seen = (seen.0.min(seq), seen.1.max(seq));
        }
        let max = max.clamp(1, RECENT_CONVS_MAX) as usize;
        let skipped = usize::try_from(after).unwrap_or(usize::MAX);
        let page = convs.into_iter().skip(skipped).take(max);
        let list: Vec<_> = page.map(|(conv, (lowest, newest))| RecentConv { conv, lowest, newest }).collect();
        let next = (list.len() >= max).then_some(after + list.len() as u64);
        Recent { epoch, from_s, now_s, list, next }
    }
}
