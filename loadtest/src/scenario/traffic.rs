//! What the scenarios that send messages have in common: their bounds, and the verdict on them.
//!
//! Owns: [`Traffic`], the flags; [`Mode`], whether the server stores, as its acks show;
//! [`Traffic::judge`].
//! Never: calls a mode by its name without an ack that shows it.

use clap::{Args, ValueEnum};

use crate::exit::Exit;
use crate::goals::{Generator, milliseconds, within};
use crate::net::Plan;
use crate::report::Report;
use crate::split::control::Fleet;
use crate::tally::Tally;
use crate::upgrade::Profile;

/// The bound on the p99 of an open loop whose server is not killed, unless told otherwise: slower
/// is no chat.
const P99_MS: f64 = 1_000.0;
/// This program is at its limit when it is later than this, unless told otherwise.
const LAG_MS: f64 = 100.0;

/// Flags of the scenarios that send messages.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Traffic {
    /// Fail when the p99 of acks or deliveries is above so many milliseconds; `inf`: no bound.
    /// Without it 1000, if messages leave at a rate and nothing reconnects.
    #[arg(long, value_name = "MS", value_parser = milliseconds)]
    p99_ms: Option<f64>,
    /// Messages that the server may refuse, or not take, without failing the run.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) refused_max: u64,
    /// Fail unless the server stores (its acks have a `seq`), or unless it does not.
    #[arg(long, value_enum, conflicts_with = "legacy")]
    mode: Option<Wanted>,
    /// Messages may leave so many milliseconds later than meant (p99) before the run fails because
    /// this program was at its limit.
    #[arg(long, value_name = "MS", default_value = "100", value_parser = milliseconds)]
    lag_ms: f64,
}

/// Without bounds, for runs that another scenario judges.
impl Default for Traffic {
    fn default() -> Self {
        Self { p99_ms: None, refused_max: 0, mode: None, lag_ms: f64::INFINITY }
    }
}

impl Traffic {
    /// With the bound of an open loop, where none was given: of runs whose clients come and go
    /// while the server does not.
    pub(super) fn or_bounded(self) -> Self {
        Self { p99_ms: self.p99_ms.or(Some(P99_MS)), ..self }
    }

    /// With the bounds of a run that is to hold: a p99, and no message refused.
    pub(super) fn bounded(p99_ms: f64) -> Self {
        Self { p99_ms: Some(p99_ms), lag_ms: p99_ms.min(LAG_MS), ..Self::default() }
    }
}

/// What the server is meant to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Wanted {
    Stored,
    Volatile,
}

/// What the server turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    Legacy,
    Stored,
    Volatile,
    /// Some acks have a `seq` and some have none.
    Mixed,
    /// Nothing was acked.
    Unknown,
}

impl Mode {
    pub(super) fn of(profile: Profile, tally: &Tally) -> Self {
        match (profile, tally.acked_seqs, tally.acked_without_seq) {
            (Profile::Legacy, ..) => Self::Legacy,
            (Profile::V2, Some(_), 0) => Self::Stored,
            (Profile::V2, Some(_), _) => Self::Mixed,
            (Profile::V2, None, 0) => Self::Unknown,
            (Profile::V2, None, _) => Self::Volatile,
        }
    }

    const fn told(self) -> &'static str {
        match self {
            Self::Legacy => "legacy: no acks, checked by content",
            Self::Stored => "stored: checked by seq and content",
            Self::Volatile => "volatile: no seq, checked by content",
            Self::Mixed => "mixed: some acks have a seq and some have none",
            Self::Unknown => "unknown: nothing was acked",
        }
    }
}

/// What a run has shown.
pub(super) struct Found<'a> {
    pub(super) plan: &'a Plan,
    pub(super) tally: &'a Tally,
    /// CPU time of this program, in percent of one core.
    pub(super) client_percent: Option<f64>,
    /// Messages that an open loop was to send; `None`: a closed loop.
    pub(super) scheduled: Option<u64>,
    /// Whether a message may come to another process than the one that has sent it.
    pub(super) crosses: bool,
}

impl Found<'_> {
    /// How this program did itself.
    pub(super) fn generator(&self) -> Generator {
        let lag = &self.tally.lag_ns;
        let lag_ms = (!lag.is_empty()).then(|| lag.value_at_quantile(0.99) as f64 / 1e6);
        match &self.plan.fleet {
            Some(fleet) => Generator { lag_ms, ..fleet.busiest() },
            None => Generator {
                lag_ms,
                percent: self.client_percent,
                threads: self.plan.board.lanes.len(),
                clocks_ms: None,
            },
        }
    }
}

impl Traffic {
    /// The bound on the p99 of a run.
    pub(super) fn p99_ms(&self, found: &Found<'_>) -> Option<f64> {
        self.p99_ms.or_else(|| (found.scheduled.is_some() && !found.plan.reconnect).then_some(P99_MS))
    }

    /// The counts that every scenario with messages has, with the verdict on what was refused, on
    /// what did not come about, on the mode and on this program itself.
    pub(super) fn judge(&self, report: &mut Report, found: &Found<'_>) {
        let Found { plan, tally, scheduled, .. } = found;
        let board = &plan.board;
        let mode = Mode::of(plan.profile, tally);
        report.text("mode", mode.told());
        let (sent, delivered) = (board.sum(|l| &l.sent), board.sum(|l| &l.delivered));
        let refused = board.sum(|l| &l.refused);
        report.count("sent", sent);
        report.count("acked", board.sum(|l| &l.acked));
        report.count("delivered", delivered);
        report.count("refused", refused);
        report.refusals(&tally.refusals);
        report.count("unsent", tally.unsent);
        report.count("foreign", tally.foreign);
        report.must_be_zero("misdelivered", tally.misdelivered);
        // What was due when it was interrupted may have had no connection yet.
        let unsent = if plan.interrupt.is_set() { 0 } else { tally.unsent };
        for (what, n) in [("refused", refused), ("unsent", unsent)] {
            if n > self.refused_max {
                report.fail(Exit::Refused, format!("{what}: {n}"));
            }
        }
        report.must_not_be_zero("delivered", delivered);
        let other = match (mode, self.mode) {
            // Where nothing was acked, that is told.
            (Mode::Unknown | Mode::Legacy, _) => false,
            (Mode::Stored, wanted) => wanted == Some(Wanted::Volatile),
            (Mode::Volatile, wanted) => wanted == Some(Wanted::Stored),
            (Mode::Mixed, _) => true,
        };
        if other {
            report.fail(Exit::Mode, format!("mode: {}", mode.told()));
        }
        if let Some(scheduled) = scheduled {
            report.latency("lateness", &tally.lag_ns);
            self.judge_generator(report, found, *scheduled);
        }
    }

    fn judge_generator(&self, report: &mut Report, found: &Found<'_>, scheduled: u64) {
        if found.plan.interrupt.is_set() {
            return;
        }
        let due = found.plan.board.sum(|l| &l.scheduled);
        if due < scheduled {
            report.fail(Exit::Limited, format!("only {due} of {scheduled} messages left, or were tried, in time"));
        }
        let most = self.lag_ms;
        if let Some(lag) = found.generator().lag_ms.filter(|lag| *lag > most) {
            report.fail(Exit::Limited, format!("messages left late: p99 {lag:.1} ms, more than {most}"));
        }
        for late in found.plan.fleet.iter().flat_map(|fleet| fleet.late(most)) {
            report.fail(Exit::Limited, format!("messages left late: {late}, more than {most}"));
        }
    }

    /// Tells the latencies of acks and deliveries, with the verdict on their p99.
    pub(super) fn judge_latencies(&self, report: &mut Report, found: &Found<'_>) {
        let (bound, generator) = (self.p99_ms(found), found.generator());
        for (key, histogram) in [("ack_latency", &found.tally.ack_ns), ("delivery_latency", &found.tally.delivery_ns)] {
            report.latency(key, histogram);
            let clocks_ms = found.plan.fleet.as_ref().filter(|_| found.crosses && key == "delivery_latency");
            let generator = Generator { clocks_ms: clocks_ms.map(Fleet::clocks_ms), ..generator };
            within(report, key, histogram, bound, &generator);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_told_by_acks_alone() {
        let tally = |seqs, without| Tally { acked_seqs: seqs, acked_without_seq: without, ..Tally::new() };
        let of = |seqs, without| Mode::of(Profile::V2, &tally(seqs, without));
        assert_eq!(of(None, 0), Mode::Unknown, "refusals alone do not show a volatile server");
        assert_eq!(
            (of(Some((1, 2)), 0), of(None, 3), of(Some((1, 2)), 1)),
            (Mode::Stored, Mode::Volatile, Mode::Mixed)
        );
        assert_eq!(Mode::of(Profile::Legacy, &tally(None, 0)), Mode::Legacy);
    }
}
