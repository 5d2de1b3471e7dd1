//! What the well-behaved met in one stage of a flood.
//!
//! Owns: [`Measured`] and [`MeasuredVisits`]. Every sample belongs to the stage in which it was
//! due, whenever its answer came.
//! Bounds: histograms; reasons of failure by [`REASONS_MAX`].

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::errand::{ACTS, Act};
use crate::limits::{NEVER_NS, REASONS_MAX};
use crate::verify::crew::histogram;

/// Visits of one sort.
#[derive(Clone, Debug)]
pub(crate) struct MeasuredVisits {
    /// From the intended beginning to the answer, of those that got one.
    pub(crate) took_ns: Histogram<u64>,
    /// Those that got it in time.
    pub(crate) in_time: u64,
    /// Those that got it later.
    pub(crate) late: u64,
    /// Those that did not get it, by reason.
    pub(crate) failed: BTreeMap<String, u64>,
}

/// Everything of one stage.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    /// From the intended sending of a heartbeat to its answer.
    pub(crate) heartbeat_ns: Histogram<u64>,
    /// From the intended sending of a direct message to its ack.
    pub(crate) ack_ns: Histogram<u64>,
    /// From the intended sending of a direct message to its arrival at the other user.
    pub(crate) delivery_ns: Histogram<u64>,
    /// Heartbeats and messages that had no answer: refused, lost with their connection, or not in
    /// time to be judged.
    pub(crate) unanswered: u64,
    /// Of these, messages that the gateway refused, by code.
    pub(crate) refused: BTreeMap<u64, u64>,
    /// Connections of the well-behaved that this machine refused, by reason: want of ports or
    /// descriptors, and no doing of the gateway's.
    pub(crate) short: BTreeMap<String, u64>,
    /// Sessions of the well-behaved that went, by reason.
    pub(crate) lost: BTreeMap<String, u64>,
    visits: Vec<MeasuredVisits>,
    /// How much too late the measuring thread itself was.
    pub(crate) lag_ns: Histogram<u64>,
}

impl Measured {
    pub(crate) fn new() -> Self {
        let visits = || MeasuredVisits { took_ns: histogram(), in_time: 0, late: 0, failed: BTreeMap::new() };
        Self {
            heartbeat_ns: histogram(),
            ack_ns: histogram(),
            delivery_ns: histogram(),
            unanswered: 0,
            refused: BTreeMap::new(),
            short: BTreeMap::new(),
            lost: BTreeMap::new(),
            visits: ACTS.iter().map(|_| visits()).collect(),
            lag_ns: histogram(),
        }
    }

    /// Visits of one sort.
    pub(crate) fn visits(&self, act: Act) -> &MeasuredVisits {
        &self.visits[act as usize]
    }

    /// The same, to enter one.
    pub(crate) fn visits_mut(&mut self, act: Act) -> &mut MeasuredVisits {
        &mut self.visits[act as usize]
    }

    /// A heartbeat or message without an answer: as slow as anything can be.
    pub(crate) fn never(&mut self, of: fn(&mut Self) -> &mut Histogram<u64>) {
        self.unanswered += 1;
        of(self).saturating_record(NEVER_NS);
    }

    /// As JSON.
    pub(crate) fn json(&self) -> Value {
        let mut value = json!({
            "heartbeat": latency(&self.heartbeat_ns),
            "direct_ack": latency(&self.ack_ns),
            "direct_delivery": latency(&self.delivery_ns),
            "unanswered": self.unanswered,
            "refused": self.refused.iter().map(|(code, n)| (code.to_string(), json!(n))).collect::<serde_json::Map<_, _>>(),
            "short": self.short,
            "lost": self.lost,
            "lag": latency(&self.lag_ns),
        });
        for act in ACTS {
            let visits = self.visits(act);
            let mut one = latency(&visits.took_ns);
            (one["in_time"], one["late"], one["failed"]) =
                (json!(visits.in_time), json!(visits.late), json!(visits.failed));
            value[act.name()] = one;
        }
        value
    }
}

impl MeasuredVisits {
    /// Enters one that got what it came for.
    pub(crate) fn done(&mut self, took_ns: u64, within_ns: u64) {
        self.took_ns.saturating_record(took_ns);
        *(if took_ns <= within_ns { &mut self.in_time } else { &mut self.late }) += 1;
    }

    /// Enters one that did not.
    pub(crate) fn failed(&mut self, why: &str) {
        count(&mut self.failed, why);
    }

    /// All of them.
    pub(crate) fn all(&self) -> u64 {
        self.in_time + self.late + self.failed.values().sum::<u64>()
    }
}

/// Counts a reason; beyond the first few they are one.
pub(crate) fn count(reasons: &mut BTreeMap<String, u64>, why: &str) {
    let known = reasons.contains_key(why) || reasons.len() < REASONS_MAX;
    *reasons.entry(if known { why.to_owned() } else { "other".to_owned() }).or_default() += 1;
}

/// Milliseconds at a quantile; `None` of nothing.
pub(crate) fn at_ms(histogram: &Histogram<u64>, quantile: f64) -> Option<f64> {
    (!histogram.is_empty()).then(|| histogram.value_at_quantile(quantile) as f64 / 1e6)
}

fn latency(histogram: &Histogram<u64>) -> Value {
    let at = |quantile| at_ms(histogram, quantile);
    json!({"count": histogram.len(), "p50_ms": at(0.5), "p99_ms": at(0.99), "max_ms": at(1.0)})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_bounded() {
        let mut reasons = BTreeMap::new();
        for n in 0..100 {
            count(&mut reasons, &format!("reason {n}"));
        }
        assert_eq!((reasons.len(), reasons["other"]), (REASONS_MAX + 1, 100 - REASONS_MAX as u64));
    }

    #[test]
    fn acts_have_their_places() {
        let mut measured = Measured::new();
        for (n, act) in ACTS.into_iter().enumerate() {
            for _ in 0..=n {
                measured.visits_mut(act).done(1, 2);
            }
            assert_eq!(measured.visits(act).all(), n as u64 + 1);
        }
        measured.never(|measured| &mut measured.ack_ns);
        assert_eq!((measured.unanswered, at_ms(&measured.ack_ns, 0.5).map(|ms| ms > 59_000.0)), (1, Some(true)));
        assert_eq!(measured.json()["metrics"]["in_time"], 6);
    }
}
