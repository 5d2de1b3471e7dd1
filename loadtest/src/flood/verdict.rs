//! Whether the well-behaved were served as if there were no flood.
//!
//! Owns: [`Bounds`], what is asked for; [`FloodOutcome`], what was; [`judge`], a function of the
//! two.

use serde_json::{Value, json};

use super::attack::Fates;
use super::errand::{ACTS, Act};
use super::gauges::{Reading, grown};
use super::measured::{Measured, at_ms};
use super::signals::FloodStage;
use super::watch::Findings;
use crate::exit::Exit;

const MIB: f64 = 1_048_576.0;
/// A generator that uses this much of a core for each of its threads had no more to give.
const GENERATOR_BUSY_PERCENT: f64 = 95.0;
/// … and a gateway that used less than this was not flooded by it.
const GATEWAY_IDLE_PERCENT: f64 = 50.0;
/// Attackers that must have stood at once, of those asked for, unless the gateway kept them out.
const STANDING_PERCENT: u64 = 90;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// p99 of heartbeats and direct messages: so many times the calm one,
    pub(crate) factor: f64,
    /// and so much more.
    pub(crate) slack_ms: f64,
    /// and not above this, whatever the calm was.
    pub(crate) p99_ms: Option<f64>,
    /// Every newcomer is in within this.
    pub(crate) within_ms: f64,
    /// p99.9 of a shard's turns.
    pub(crate) turn_ms: f64,
    /// Resident memory at any second.
    pub(crate) rss_mib: u64,
    /// How much of it may stay.
    pub(crate) rss_back_mib: u64,
    /// p99 of the measuring thread's own lateness.
    pub(crate) lag_ms: f64,
}

/// What happened in one flood.
#[derive(Debug)]
pub(crate) struct FloodOutcome {
    pub(crate) attackers: usize,
    /// Why the calm was none.
    pub(crate) unfit: Option<String>,
    pub(crate) findings: Findings,
    pub(crate) fates: Fates,
    /// The most attackers that stood at once, connections that stood, were ended, and could not be
    /// made here.
    pub(crate) standing_max: u64,
    pub(crate) stood: u64,
    pub(crate) ended: u64,
    pub(crate) short: u64,
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
    /// Attacking threads.
    pub(crate) threads: usize,
    /// How long the gateway's memory took to come back, if it did.
    pub(crate) back_seconds: Option<f64>,
    /// A signal came before its end.
    pub(crate) interrupted: bool,
}

/// The judgement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum FloodVerdict {
    Passed,
    /// What was not as it should be.
    Failed(Vec<String>),
    /// The generator was the bottleneck: nothing is proved.
    Limited(Vec<String>),
    /// No attacker got as far as to do what it came for: nothing is proved.
    Nothing(Vec<String>),
    /// The gateway was in trouble before there was a flood.
    Unfit(Vec<String>),
    /// There was no whole flood to judge.
    Interrupted,
}

impl FloodOutcome {
    pub(crate) fn stage(&self, stage: FloodStage) -> &Measured {
        &self.findings.stages[stage as usize]
    }

    fn readings(&self, stages: impl Fn(FloodStage) -> bool) -> impl Iterator<Item = &Reading> {
        self.findings.readings.iter().filter(move |reading| stages(reading.stage))
    }

    /// Resident memory before the flood, at its highest, and as it was seen last, in MiB.
    pub(crate) fn rss_mib(&self) -> [Option<f64>; 3] {
        let mib = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64 / MIB);
        let start = self.readings(|stage| stage <= FloodStage::Calm).filter_map(|reading| reading.rss_bytes).last();
        let most = self.readings(|stage| stage >= FloodStage::Gathering).filter_map(|reading| reading.rss_bytes).max();
        let last = self.readings(|stage| stage == FloodStage::After).filter_map(|reading| reading.rss_bytes).last();
        [mib(start), mib(most), mib(last)]
    }

    /// The worst p99.9 and the longest of the gateway's turns, as told during the flood and soon
    /// after, in milliseconds.
    pub(crate) fn turns_ms(&self) -> [Option<f64>; 2] {
        // One reading behind the end: a gateway that was too busy tells of it then.
        let ended = self.readings(|stage| stage == FloodStage::After).take(2);
        let all: Vec<&Reading> = self.readings(|stage| stage == FloodStage::Flooding).chain(ended).collect();
        let most = |of: fn(&Reading) -> Option<f64>| {
            all.iter().filter_map(|reading| of(reading)).reduce(f64::max).map(|seconds| seconds * 1e3)
        };
        [most(|reading| reading.turn_p999_seconds), most(|reading| reading.turn_max_seconds)]
    }

    /// What the gateway used of a core during the flood, in percent.
    pub(crate) fn gateway_percent(&self) -> Option<f64> {
        let begin = self.readings(|stage| stage < FloodStage::Flooding).last()?;
        let ended = self.readings(|stage| stage == FloodStage::After).take(1);
        let end = self.readings(|stage| stage == FloodStage::Flooding).chain(ended).last()?;
        let seconds = end.at_ns.saturating_sub(begin.at_ns) as f64 / 1e9;
        Some((end.cpu_seconds? - begin.cpu_seconds?) / seconds * 100.0)
    }

    /// What the attackers used of a core for each of their threads, in percent.
    pub(crate) fn attackers_percent(&self) -> Option<f64> {
        let Fates { cpu_ns, flood_ns, .. } = self.fates;
        (flood_ns > 0).then(|| cpu_ns as f64 / flood_ns as f64 * 100.0)
    }

    /// The calm and the flooded p99 of one thing, and what it may be.
    fn p99(&self, bounds: &Bounds, of: fn(&Measured) -> &hdrhistogram::Histogram<u64>) -> [Option<f64>; 3] {
        let [calm, flood] = [FloodStage::Calm, FloodStage::Flooding].map(|stage| at_ms(of(self.stage(stage)), 0.99));
        let most = calm.map(|calm| calm * bounds.factor + bounds.slack_ms);
        [calm, flood, most.map(|most| bounds.p99_ms.map_or(most, |bound| most.min(bound)))]
    }

    /// As JSON, with the judgement.
    pub(crate) fn json(&self, bounds: &Bounds, verdict: &FloodVerdict) -> Value {
        let [start, most, last] = self.rss_mib();
        let [p999, max] = self.turns_ms();
        let (name, reasons) = verdict.told();
        let codes = |counts: &std::collections::BTreeMap<u16, u64>| {
            counts.iter().map(|(code, n)| (code.to_string(), json!(n))).collect::<serde_json::Map<_, _>>()
        };
        json!({
            "verdict": name,
            "reasons": reasons,
            "attackers": self.attackers,
            "calm": self.stage(FloodStage::Calm).json(),
            "gathering": self.stage(FloodStage::Gathering).json(),
            "flood": self.stage(FloodStage::Flooding).json(),
            "after": self.stage(FloodStage::After).json(),
            "heartbeat_bound_ms": self.p99(bounds, |measured| &measured.heartbeat_ns)[2],
            "direct_ack_bound_ms": self.p99(bounds, |measured| &measured.ack_ns)[2],
            "direct_delivery_bound_ms": self.p99(bounds, |measured| &measured.delivery_ns)[2],
            "turn_p999_ms": p999,
            "turn_max_ms": max,
            "rss_mib": {"start": start, "max": most, "after": last, "back_seconds": self.back_seconds},
            "gateway_cpu_percent": self.gateway_percent(),
            "attackers_cpu_percent": self.attackers_percent(),
            "standing_max": self.standing_max,
            "stood": self.stood,
            "ended": self.ended,
            "short": self.short,
            "sent_bytes": self.sent_bytes,
            "received_bytes": self.received_bytes,
            "closes": codes(&self.fates.closes),
            "statuses": codes(&self.fates.statuses),
            "gateway_counted": grown(&self.findings.before, &self.findings.after),
        })
    }
}

impl FloodVerdict {
    /// What the program ends with because of it.
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::Passed => Exit::Passed,
            Self::Failed(_) => Exit::Failed,
            Self::Limited(_) => Exit::Limited,
            Self::Nothing(_) => Exit::Nothing,
            Self::Unfit(_) => Exit::Unfit,
            Self::Interrupted => Exit::Interrupted,
        }
    }

    /// Its name in reports, and its reasons.
    pub(crate) fn told(&self) -> (&'static str, &[String]) {
        match self {
            Self::Passed | Self::Interrupted => (self.exit().name(), &[]),
            Self::Failed(reasons) | Self::Limited(reasons) => (self.exit().name(), reasons),
            Self::Nothing(reasons) => ("no flood", reasons),
            Self::Unfit(reasons) => ("refused", reasons),
        }
    }
}

/// Judges one flood.
pub(crate) fn judge(bounds: &Bounds, outcome: &FloodOutcome) -> FloodVerdict {
    if outcome.interrupted {
        return FloodVerdict::Interrupted;
    }
    if let Some(why) = &outcome.unfit {
        return FloodVerdict::Unfit(vec![why.clone()]);
    }
    let mut late = latencies(bounds, outcome);
    late.extend(late_visits(bounds, outcome));
    let (own, slow): (Vec<Late>, Vec<Late>) = late.into_iter().partition(|late| late.is_own(bounds, outcome));
    let mut wrong: Vec<String> = slow.into_iter().map(|late| late.what).collect();
    wrong.extend(sessions(outcome));
    wrong.extend(failed_visits(outcome));
    wrong.extend(gateway(bounds, outcome));
    if !wrong.is_empty() {
        // The others are told as well: they are no less late.
        wrong.extend(own.into_iter().map(|late| late.what));
        return FloodVerdict::Failed(wrong);
    }
    if !own.is_empty() {
        let lag = at_ms(&outcome.stage(FloodStage::Flooding).lag_ns, 0.99).unwrap_or_default();
        let why = format!("the measuring thread was late itself: p99 {lag:.1} ms, more than {} ms", bounds.lag_ms);
        return FloodVerdict::Limited(std::iter::once(why).chain(own.into_iter().map(|late| late.what)).collect());
    }
    let limits = limits(bounds, outcome);
    if !limits.is_empty() {
        return FloodVerdict::Limited(limits);
    }
    if outcome.stood == 0 {
        let FloodOutcome { attackers, ended, .. } = outcome;
        let why = format!("none of {attackers} attackers got in; the gateway ended or refused {ended}");
        return FloodVerdict::Nothing(vec![why]);
    }
    FloodVerdict::Passed
}

/// Something that took too long.
struct Late {
    what: String,
    /// By how much, in milliseconds.
    over_ms: f64,
    /// Of which quantile: the measuring thread's lateness at the same one may explain it.
    quantile: f64,
}

impl Late {
    /// Whether the measuring thread's own lateness explains it: what is due leaves late, and what
    /// has come is read late. It explains no more than that: a gateway that takes seconds is not
    /// excused by milliseconds, and an answer that never came by nothing.
    fn is_own(&self, bounds: &Bounds, outcome: &FloodOutcome) -> bool {
        let lag_ns = &outcome.stage(FloodStage::Flooding).lag_ns;
        let late = at_ms(lag_ns, 0.99).is_some_and(|lag| lag > bounds.lag_ms);
        late && at_ms(lag_ns, self.quantile).is_some_and(|lag| self.over_ms <= 2.0 * lag)
    }
}

/// A name, and where its times stand.
type Timed = (&'static str, fn(&Measured) -> &hdrhistogram::Histogram<u64>);

/// p99 against calm.
fn latencies(bounds: &Bounds, outcome: &FloodOutcome) -> Vec<Late> {
    let things: [Timed; 3] = [
        ("heartbeat", |measured| &measured.heartbeat_ns),
        ("direct ack", |measured| &measured.ack_ns),
        ("direct delivery", |measured| &measured.delivery_ns),
    ];
    let judged = things.into_iter().filter_map(|(name, of)| match outcome.p99(bounds, of) {
        [Some(calm), Some(flood), Some(most)] => (flood > most).then(|| Late {
            what: format!("{name} p99 {flood:.1} ms, more than {most:.1} (calm {calm:.1})"),
            over_ms: flood - most,
            quantile: 0.99,
        }),
        _ => Some(Late { what: format!("{name}: not measured"), over_ms: f64::INFINITY, quantile: 1.0 }),
    });
    judged.collect()
}

/// No well-behaved client is closed or refused.
fn sessions(outcome: &FloodOutcome) -> Vec<String> {
    let flood = outcome.stage(FloodStage::Flooding);
    let lost = flood.lost.iter().map(|(why, n)| format!("{n} well-behaved sessions went: {why}"));
    let refused = flood.refused.iter().map(|(code, n)| format!("{n} direct messages were refused with {code}"));
    lost.chain(refused).collect()
}

/// Every newcomer is in in time.
fn late_visits(bounds: &Bounds, outcome: &FloodOutcome) -> Vec<Late> {
    let flood = outcome.stage(FloodStage::Flooding);
    let late = ACTS.into_iter().filter(|act| flood.visits(*act).late > 0).map(|act| {
        let (visits, within) = (flood.visits(act), bounds.within_ms);
        let worst = at_ms(&visits.took_ns, 1.0).unwrap_or_default();
        let (name, late, all) = (act.name(), visits.late, visits.all());
        let what = format!("{name}: {late} of {all} later than {within} ms (worst {worst:.0})");
        Late { what, over_ms: worst - within, quantile: 1.0 }
    });
    late.collect()
}

/// Every newcomer is in.
fn failed_visits(outcome: &FloodOutcome) -> Vec<String> {
    let flood = outcome.stage(FloodStage::Flooding);
    let mut wrong = Vec::new();
    for act in ACTS {
        let visits = flood.visits(act);
        let name = act.name();
        for (why, n) in &visits.failed {
            wrong.push(format!("{name}: {n} of {} failed: {why}", visits.all()));
        }
        let measured = outcome.stage(FloodStage::Calm).visits(act).all() > 0;
        if act != Act::Metrics && measured && visits.all() == 0 {
            wrong.push(format!("{name}: not measured"));
        }
    }
    wrong
}

/// Turns and memory.
fn gateway(bounds: &Bounds, outcome: &FloodOutcome) -> Vec<String> {
    let mut wrong = Vec::new();
    match outcome.turns_ms()[0] {
        Some(turn) if turn > bounds.turn_ms => {
            wrong.push(format!("turn p99.9 {turn:.1} ms, more than {}", bounds.turn_ms));
        }
        Some(_) => {}
        None => wrong.push("turns: not told".to_owned()),
    }
    match outcome.rss_mib() {
        [Some(start), Some(most), last] => {
            if most > bounds.rss_mib as f64 {
                wrong.push(format!("RSS {most:.0} MiB, more than {}", bounds.rss_mib));
            }
            if outcome.back_seconds.is_none() {
                let last = last.map_or_else(|| "not told".to_owned(), |last| format!("{last:.0} MiB"));
                wrong.push(format!("RSS does not come back: {last}, {start:.0} + {} allowed", bounds.rss_back_mib));
            }
        }
        _ => wrong.push("RSS: not told".to_owned()),
    }
    wrong
}

/// Why a flood that did no harm proves nothing.
fn limits(bounds: &Bounds, outcome: &FloodOutcome) -> Vec<String> {
    let mut limits = Vec::new();
    if outcome.short > 0 && outcome.standing_max * 100 < outcome.attackers as u64 * STANDING_PERCENT {
        let FloodOutcome { short, standing_max, attackers, .. } = outcome;
        limits.push(format!(
            "only {standing_max} of {attackers} attackers stood at once, and this machine refused {short} connections"
        ));
    }
    for (stage, name) in [(FloodStage::Calm, "calm"), (FloodStage::Flooding, "flood")] {
        for (why, n) in &outcome.stage(stage).short {
            limits.push(format!("this machine refused {n} connections of the well-behaved in the {name}: {why}"));
        }
    }
    // A calm that is not measured well makes every bound a guess.
    if let Some(lag) = at_ms(&outcome.stage(FloodStage::Calm).lag_ns, 0.99).filter(|lag| *lag > 10.0 * bounds.lag_ms) {
        limits.push(format!("the measuring thread was late even in the calm: p99 {lag:.1} ms"));
    }
    let (Some(own), Some(gateway)) = (outcome.attackers_percent(), outcome.gateway_percent()) else { return limits };
    if own > GENERATOR_BUSY_PERCENT && gateway < GATEWAY_IDLE_PERCENT {
        let threads = outcome.threads;
        limits.push(format!(
            "{threads} attacking threads used {own:.0} % of a core each and the gateway only {gateway:.0} %"
        ));
    }
    limits
}

#[cfg(test)]
mod tests;
