//! What the threads of one run have found out, to be merged at its end.
//!
//! Owns: [`Tally`], the findings that need no look from outside while the run goes on (those are on
//! the [`crate::board::Board`]).

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::ledger::Verdict;
use crate::net::Plan;
use crate::split::packed;
use crate::stamp::{Run, Stamp};
use crate::timeline::{Shared, note_ack, note_delivery};

/// Latencies are kept from a microsecond to an hour, with three digits.
const LATENCY_NS: (u64, u64) = (1_000, 3_600_000_000_000);

/// The refusal that leaves open whether the message was stored (`retry`).
const OUTCOME_UNKNOWN: u64 = 21;

/// Findings of one thread, or of all.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub(crate) struct Tally {
    /// Messages that came twice.
    pub(crate) doubled: u64,
    /// Messages that came behind a later one.
    pub(crate) out_of_order: u64,
    /// Repetitions that a client which follows `seq` does not show (only counted where resends make
    /// them legitimate).
    pub(crate) hidden: u64,
    /// Pushes and acks before which something was missing, so that a client has to ask for it (only
    /// counted where clients do so).
    pub(crate) gaps: u64,
    /// Messages that were due and never given to a socket.
    pub(crate) unsent: u64,
    /// Messages that are not of this run.
    pub(crate) foreign: u64,
    /// Messages of this run that were shown to a user for whom they are not.
    pub(crate) misdelivered: u64,
    /// Refusals that say nothing about the outcome.
    pub(crate) unknown: u64,
    /// Refusals by code.
    pub(crate) refusals: BTreeMap<u64, u64>,
    /// Acks without a `seq`.
    pub(crate) acked_without_seq: u64,
    /// Lowest and highest `seq` acked.
    pub(crate) acked_seqs: Option<(u64, u64)>,
    /// From the intended time of sending to the ack.
    #[serde(with = "packed")]
    pub(crate) ack_ns: Histogram<u64>,
    /// From the intended time of sending to the arrival at another member.
    #[serde(with = "packed")]
    pub(crate) delivery_ns: Histogram<u64>,
    /// How much later than meant messages of an open loop left here.
    #[serde(with = "packed")]
    pub(crate) lag_ns: Histogram<u64>,
    /// Where the latencies go, too, if the run has a timeline.
    #[serde(skip)]
    pub(crate) recent: Option<Shared>,
}

/// An empty histogram of latencies. All have the same bounds.
pub(crate) fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(LATENCY_NS.0, LATENCY_NS.1, 3).expect("invariant: constant bounds that fit 3 digits")
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            doubled: 0,
            out_of_order: 0,
            hidden: 0,
            gaps: 0,
            unsent: 0,
            foreign: 0,
            misdelivered: 0,
            unknown: 0,
            refusals: BTreeMap::new(),
            acked_without_seq: 0,
            acked_seqs: None,
            ack_ns: latencies(),
            delivery_ns: latencies(),
            lag_ns: latencies(),
            recent: None,
        }
    }

    /// As [`Tally::new`], for thread `lane` of a run that may have a timeline.
    pub(crate) fn of(plan: &Plan, lane: usize) -> Self {
        // A worker's timeline has its own threads only.
        let lane = lane - plan.own.start;
        Self { recent: plan.timeline.as_ref().map(|timeline| timeline.lane(lane)), ..Self::new() }
    }

    /// Enters how long an ack took.
    pub(crate) fn acked_after(&mut self, ns: u64) {
        self.ack_ns.saturating_record(ns);
        if let Some(recent) = &self.recent {
            note_ack(recent, ns);
        }
    }

    /// Enters how long a delivery took.
    pub(crate) fn delivered_after(&mut self, ns: u64) {
        self.delivery_ns.saturating_record(ns);
        if let Some(recent) = &self.recent {
            note_delivery(recent, ns);
        }
    }

    /// Shows how long a delivery took in the timeline, and counts it nowhere.
    pub(crate) fn note_delivery(&self, ns: u64) {
        if let Some(recent) = &self.recent {
            note_delivery(recent, ns);
        }
    }

    /// Enters a message that has no business with the user who got it: another program's, or one of
    /// this run that was for others.
    pub(crate) fn strayed(&mut self, content: Option<&str>, run: Run) {
        // The group of a run has a name beside that of its pairs.
        let ours = |run| content.is_some_and(|content| Stamp::from_content(content, run).is_some());
        if ours(run) || ours(run.beside()) {
            self.misdelivered += 1;
        } else {
            self.foreign += 1;
        }
    }

    /// Enters a judgement.
    pub(crate) fn judge(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Fresh => {}
            Verdict::Late => self.out_of_order += 1,
            Verdict::Doubled => self.doubled += 1,
        }
    }

    /// Enters a refusal. True: the first with this code.
    pub(crate) fn refused(&mut self, code: u64) -> bool {
        let count = self.refusals.entry(code).or_default();
        *count += 1;
        self.unknown += u64::from(code == OUTCOME_UNKNOWN);
        *count == 1
    }

    /// Enters the `seq` of an acked message, or that it had none.
    pub(crate) fn acked_seq(&mut self, seq: Option<u64>) {
        self.acked_without_seq += u64::from(seq.is_none());
        self.acked_seqs = span(self.acked_seqs, seq.map(|seq| (seq, seq)));
    }

    /// All threads' findings as one.
    pub(crate) fn merged<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        let mut sum = Self::new();
        all.for_each(|one| sum.add(one));
        sum
    }

    /// Adds the findings of another thread, or of other threads.
    pub(crate) fn add(&mut self, one: &Self) {
        self.doubled += one.doubled;
        self.out_of_order += one.out_of_order;
        self.hidden += one.hidden;
        self.gaps += one.gaps;
        self.unsent += one.unsent;
        self.foreign += one.foreign;
        self.misdelivered += one.misdelivered;
        self.unknown += one.unknown;
        for (code, count) in &one.refusals {
            *self.refusals.entry(*code).or_default() += count;
        }
        self.acked_without_seq += one.acked_without_seq;
        self.acked_seqs = span(self.acked_seqs, one.acked_seqs);
        // All have the same bounds, so adding cannot fail.
        self.ack_ns.add(&one.ack_ns).expect("invariant: equal bounds");
        self.delivery_ns.add(&one.delivery_ns).expect("invariant: equal bounds");
        self.lag_ns.add(&one.lag_ns).expect("invariant: equal bounds");
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self::new()
    }
}

/// What threads have found that keep books of messages.
#[derive(Clone, Default, Serialize, Deserialize, Debug)]
pub(crate) struct Reckoning {
    pub(crate) tally: Tally,
    /// Messages that were acked and did not come.
    pub(crate) lost: u64,
}

impl Reckoning {
    /// Adds what other threads have found.
    pub(crate) fn add(&mut self, one: &Self) {
        self.tally.add(&one.tally);
        self.lost += one.lost;
    }
}

/// The smallest span that covers both.
pub(crate) fn span(a: Option<(u64, u64)>, b: Option<(u64, u64)>) -> Option<(u64, u64)> {
    match (a, b) {
        (Some((low, high)), Some((l, h))) => Some((low.min(l), high.max(h))),
        (one, other) => one.or(other),
    }
}
