//! Whether a run that lasts gets worse: memory that grows, work that gets dearer, latencies that
//! rise.
//!
//! Owns: [`judge`], which compares the second quarter of a run with its last. The first quarter is
//! warm-up: caches fill, pages are touched for the first time.

use crate::exit::Exit;
use crate::report::Report;
use crate::timeline::Point;

/// The shortest run in which drift can be told, in seconds: ten points in each quarter.
pub(super) const SECONDS_MIN: u64 = 40;
/// Memory may grow by this part, and by so many MiB: allocators keep what was freed.
const MEMORY: Bound = Bound { factor: 1.10, more: 16.0 };
/// CPU time for each delivery.
const CPU: Bound = Bound { factor: 1.25, more: 5.0 };
/// The p99 of deliveries, in milliseconds: a shared machine is noisy.
const LATENCY: Bound = Bound { factor: 1.5, more: 10.0 };

/// What the end of a run may be worse than its beginning.
struct Bound {
    factor: f64,
    more: f64,
}

/// Tells how the last quarter of a run differs from its second, with the verdict.
pub(super) fn judge(report: &mut Report, points: &[Point]) {
    let quarter = points.len() / 4;
    let (early, late) = (&points[quarter..2 * quarter], &points[points.len() - quarter..]);
    let cpu =
        |point: &Point| point.server_percent.filter(|_| point.delivered > 0.0).map(|cpu| cpu * 1e4 / point.delivered);
    let p99 = |point: &Point| point.delivery.map(|of| of.p99_ms);
    tell(report, ["resident_mib_early", "resident_mib_late"], "MiB", &MEMORY, (early, late), |p| p.resident_mib);
    tell(report, ["cpu_us_early", "cpu_us_late"], "us of the server per delivery", &CPU, (early, late), cpu);
    tell(report, ["delivery_p99_early", "delivery_p99_late"], "ms", &LATENCY, (early, late), p99);
}

fn tell(
    report: &mut Report,
    keys: [&'static str; 2],
    unit: &str,
    bound: &Bound,
    (early, late): (&[Point], &[Point]),
    of: impl Fn(&Point) -> Option<f64>,
) {
    let (early, late) = (median(early, &of), median(late, &of));
    report.figure(keys[0], early, unit);
    report.figure(keys[1], late, unit);
    match early.zip(late) {
        Some((early, late)) if late > early * bound.factor + bound.more => {
            report.fail(Exit::Exceeded, format!("{}: {late:.1} {unit}, in the beginning {early:.1}", keys[1]));
        }
        Some(_) => {}
        // A bound that could not be checked did not hold.
        None => report.fail(Exit::Exceeded, format!("{} and {} are not both known", keys[0], keys[1])),
    }
}

/// The median: a compaction or a neighbour's minute is no drift.
fn median(points: &[Point], of: impl Fn(&Point) -> Option<f64>) -> Option<f64> {
    let mut values: Vec<f64> = points.iter().filter_map(of).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interrupt::Interrupt;
    use crate::timeline::Quantiles;

    /// Sixty points of a run whose memory and p99 go from one value to another.
    fn points(memory: (f64, f64), p99: (f64, f64)) -> Vec<Point> {
        let between = |(from, to): (f64, f64), at: usize| from + (to - from) * at as f64 / 59.0;
        let one = |at: usize| Point {
            at_s: at as f64,
            delivered: 1_000.0,
            delivery: Some(Quantiles { p99_ms: between(p99, at), ..Quantiles::default() }),
            server_percent: Some(10.0),
            resident_mib: Some(between(memory, at)),
            ..Point::default()
        };
        (0..60).map(one).collect()
    }

    fn exit(points: &[Point]) -> Exit {
        let mut report = Report::new("mixed", &Interrupt::default());
        judge(&mut report, points);
        report.exit()
    }

    #[test]
    fn growth_is_found_and_noise_is_not() {
        assert_eq!(exit(&points((100.0, 104.0), (3.0, 12.0))), Exit::Passed);
        assert_eq!(exit(&points((100.0, 200.0), (3.0, 3.0))), Exit::Exceeded);
        assert_eq!(exit(&points((100.0, 100.0), (3.0, 90.0))), Exit::Exceeded);
    }

    #[test]
    fn what_could_not_be_read_may_have_drifted() {
        let blind: Vec<Point> =
            points((1.0, 9.0), (1.0, 1.0)).into_iter().map(|p| Point { resident_mib: None, ..p }).collect();
        assert_eq!(exit(&blind), Exit::Exceeded);
        assert_eq!(exit(&[]), Exit::Exceeded, "no run is that short");
        // Some that are missing are no harm: the medians are of the others.
        let mut some = points((100.0, 104.0), (3.0, 4.0));
        some.iter_mut().step_by(3).for_each(|point| point.resident_mib = None);
        assert_eq!(exit(&some), Exit::Passed);
    }

    #[test]
    fn one_bad_minute_is_no_drift() {
        let mut points = points((100.0, 100.0), (3.0, 3.0));
        for point in &mut points[50..55] {
            point.delivery = Some(Quantiles { p99_ms: 900.0, ..Quantiles::default() });
        }
        assert_eq!(exit(&points), Exit::Passed);
    }
}
