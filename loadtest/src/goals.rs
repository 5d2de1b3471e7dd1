//! Bounds on latencies, and whether a bound that was passed says something about the server.
//!
//! Owns: [`Goals`], the flag of all scenarios; [`Generator`], how late and busy this program was
//! itself; [`within`], the judgement.

use clap::Args;
use hdrhistogram::Histogram;

use crate::exit::Exit;
use crate::report::Report;

/// A generator that used this much of a core for each of its threads had no more to give.
pub(crate) const BUSY_PERCENT: f64 = 95.0;

/// Flags of the scenarios that measure a latency.
#[derive(Args, Clone, Copy, Default, Debug)]
pub(crate) struct Goals {
    /// Fail when the p99 of a latency in the report is above so many milliseconds.
    #[arg(long, value_name = "MS", value_parser = milliseconds)]
    pub(crate) p99_ms: Option<f64>,
}

/// Reads a number of milliseconds: not negative, and `inf` for no bound.
pub(crate) fn milliseconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ms) if ms >= 0.0 => Ok(ms),
        _ => Err(format!("{text:?} is not a number of milliseconds: write 250, 0.5, or inf for no bound")),
    }
}

/// How this program did itself.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Generator {
    /// p99 of how much later than meant messages left, in milliseconds.
    pub(crate) lag_ms: Option<f64>,
    /// CPU time, in percent of one core.
    pub(crate) percent: Option<f64>,
    pub(crate) threads: usize,
    /// By how much the clocks of sender and receiver may differ, in milliseconds, where they are
    /// not the same.
    pub(crate) clocks_ms: Option<f64>,
}

impl Generator {
    /// Why a time that it has measured may be its own, if it took `over_ms` too long.
    fn excuse(&self, over_ms: f64) -> Option<String> {
        if let Some(lag) = self.lag_ms.filter(|lag| *lag >= over_ms) {
            return Some(format!("this program was late itself: p99 {lag:.1} ms"));
        }
        if let Some(clocks) = self.clocks_ms.filter(|clocks| *clocks >= over_ms) {
            return Some(format!("the clocks of its workers differ by up to {clocks:.1} ms"));
        }
        let each = self.percent? / self.threads.max(1) as f64;
        (each >= BUSY_PERCENT).then(|| format!("this program used {each:.0} % of a core for each of its threads"))
    }
}

impl Goals {
    /// Tells a latency and judges it.
    pub(crate) fn tell(
        &self,
        report: &mut Report,
        key: &'static str,
        histogram: &Histogram<u64>,
        generator: &Generator,
    ) {
        report.latency(key, histogram);
        within(report, key, histogram, self.p99_ms, generator);
    }
}

/// Fails when the p99 is above the bound: because of the server, unless this program's own
/// lateness explains it. A latency that was never measured has no p99; that nothing was delivered
/// is found elsewhere.
pub(crate) fn within(
    report: &mut Report,
    key: &'static str,
    histogram: &Histogram<u64>,
    bound_ms: Option<f64>,
    generator: &Generator,
) {
    let Some(bound) = bound_ms.filter(|_| !histogram.is_empty()) else { return };
    let p99 = histogram.value_at_quantile(0.99) as f64 / 1e6;
    if p99 <= bound {
        return;
    }
    let what = format!("{key} p99 {p99:.1} ms, more than {bound}");
    match generator.excuse(p99 - bound) {
        Some(excuse) => report.fail(Exit::Limited, format!("{what}, but {excuse}")),
        None => report.fail(Exit::Exceeded, what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interrupt::Interrupt;

    fn judged(p99_ms: u64, bound: Option<f64>, generator: Generator) -> Exit {
        let mut report = Report::new("fanout", &Interrupt::default());
        let mut histogram = Histogram::new(3).expect("a histogram");
        histogram.record_n(p99_ms * 1_000_000, 100).expect("recorded");
        within(&mut report, "ack_latency", &histogram, bound, &generator);
        report.exit()
    }

    #[test]
    fn a_bound_is_the_servers_unless_the_generator_explains_it() {
        let calm = Generator { lag_ms: Some(1.0), percent: Some(50.0), threads: 1, clocks_ms: None };
        assert_eq!(judged(2_300, None, calm), Exit::Passed);
        assert_eq!(judged(900, Some(1_000.0), calm), Exit::Passed);
        assert_eq!(judged(2_300, Some(1_000.0), calm), Exit::Exceeded);
        let late = Generator { lag_ms: Some(1_400.0), ..calm };
        assert_eq!(judged(2_300, Some(1_000.0), late), Exit::Limited);
        assert_eq!(judged(9_000, Some(1_000.0), late), Exit::Exceeded, "more than it was late");
        assert_eq!(judged(1_001, Some(1_000.0), Generator { clocks_ms: Some(3.0), ..calm }), Exit::Limited);
        assert_eq!(judged(2_300, Some(1_000.0), Generator { percent: Some(191.0), threads: 2, ..calm }), Exit::Limited);
        assert_eq!(
            judged(2_300, Some(1_000.0), Generator { percent: Some(110.0), threads: 2, ..calm }),
            Exit::Exceeded
        );
    }

    #[test]
    fn bounds_are_numbers_that_can_hold() {
        assert_eq!((milliseconds("2.5"), milliseconds("inf")), (Ok(2.5), Ok(f64::INFINITY)));
        assert!(["", "-1", "NaN", "1s"].iter().all(|text| milliseconds(text).is_err()));
    }
}
