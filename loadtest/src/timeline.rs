//! A run second by second: rates, latencies, and what the server spends.
//!
//! Owns: [`Timeline`] with its points, and [`Recent`], the latencies of a lane since the last look.
//! A run that nobody wants to see has none, and then nothing is recorded twice.
//! Bounds: [`POINTS_MAX`] points; a longer run has points that are further apart.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::board::Board;
use crate::limits::POINTS_MAX;
use crate::probe::Sample;
use crate::tally::latencies;

/// Latencies of one engine thread since the last look.
#[derive(Debug)]
pub(crate) struct Recent {
    ack_ns: Histogram<u64>,
    delivery_ns: Histogram<u64>,
}

/// What an engine thread writes to.
pub(crate) type Shared = Arc<Mutex<Recent>>;

/// Records the latency of an ack.
pub(crate) fn note_ack(recent: &Shared, ns: u64) {
    recent.lock().unwrap_or_else(PoisonError::into_inner).ack_ns.saturating_record(ns);
}

/// Records the latency of a delivery.
pub(crate) fn note_delivery(recent: &Shared, ns: u64) {
    recent.lock().unwrap_or_else(PoisonError::into_inner).delivery_ns.saturating_record(ns);
}

/// The quantiles of one stretch in milliseconds, if anything came.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub(crate) struct Quantiles {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

impl Quantiles {
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let ms = |ns: u64| ns as f64 / 1e6;
        (!histogram.is_empty()).then(|| Self {
            p50_ms: ms(histogram.value_at_quantile(0.5)),
            p99_ms: ms(histogram.value_at_quantile(0.99)),
            max_ms: ms(histogram.max()),
        })
    }
}

/// What happened between two looks.
#[derive(Clone, Default, PartialEq, Debug)]
pub(crate) struct Point {
    /// Seconds from the start of the measurement to the end of the stretch.
    pub(crate) at_s: f64,
    /// Per second.
    pub(crate) sent: f64,
    pub(crate) acked: f64,
    pub(crate) delivered: f64,
    pub(crate) refused: f64,
    pub(crate) ack: Option<Quantiles>,
    pub(crate) delivery: Option<Quantiles>,
    /// CPU of the server, in percent of one core.
    pub(crate) server_percent: Option<f64>,
    /// Of it, by what its threads do.
    pub(crate) threads: BTreeMap<String, f64>,
    /// CPU of this program, or of all workers, in percent of one core.
    pub(crate) client_percent: Option<f64>,
    /// Of it, by worker.
    pub(crate) workers: Vec<Option<f64>>,
    /// Resident memory of the server in MiB.
    pub(crate) resident_mib: Option<f64>,
}

/// The counters at a look.
#[derive(Clone, Default, Debug)]
struct Look {
    at_ns: u64,
    counts: [u64; 4],
    server: Sample,
    client: ClientCpu,
}

impl Look {
    fn at(at_ns: u64, board: &Board, server: Sample, client: ClientCpu) -> Self {
        let counts =
            [board.sum(|l| &l.sent), board.sum(|l| &l.acked), board.sum(|l| &l.delivered), board.sum(|l| &l.refused)];
        Self { at_ns, counts, server, client }
    }
}

/// CPU seconds of the load generator so far.
#[derive(Clone, Default, Debug)]
pub(crate) struct ClientCpu {
    /// Of this process, or of all workers.
    pub(crate) total: Option<f64>,
    /// Of each worker, if there are any.
    pub(crate) workers: Vec<Option<f64>>,
}

/// The points of a run.
#[derive(Debug)]
pub(crate) struct Timeline {
    lanes: Vec<Shared>,
    seen: Mutex<Seen>,
}

#[derive(Default, Debug)]
struct Seen {
    start_ns: u64,
    last: Look,
    points: Vec<Point>,
}

impl Timeline {
    /// For so many engine threads.
    pub(crate) fn new(threads: usize) -> Self {
        let recent = || Recent { ack_ns: latencies(), delivery_ns: latencies() };
        Self { lanes: (0..threads).map(|_| Arc::new(Mutex::new(recent()))).collect(), seen: Mutex::default() }
    }

    /// Where thread `lane` records.
    pub(crate) fn lane(&self, lane: usize) -> Shared {
        Arc::clone(&self.lanes[lane])
    }

    /// How far apart the points of a run of that length are.
    pub(crate) fn gap_ns(seconds: u64) -> u64 {
        seconds.div_ceil(POINTS_MAX).max(1) * 1_000_000_000
    }

    /// The measurement begins.
    pub(crate) fn begin(&self, now_ns: u64, board: &Board, server: Sample, client: ClientCpu) {
        let _before = self.take_recent();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = Seen { start_ns: now_ns, last: Look::at(now_ns, board, server, client), points: Vec::new() };
    }

    /// A stretch has passed.
    pub(crate) fn look(&self, now_ns: u64, board: &Board, server: Sample, client: ClientCpu) {
        let [ack_ns, delivery_ns] = self.take_recent();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Look::at(now_ns, board, server, client);
        let before = std::mem::replace(&mut seen.last, now.clone());
        let seconds = now_ns.saturating_sub(before.at_ns) as f64 / 1e9;
        if seconds <= 0.0 {
            return;
        }
        let [sent, acked, delivered, refused] =
            std::array::from_fn(|i| now.counts[i].saturating_sub(before.counts[i]) as f64 / seconds);
        let percent = |from: Option<f64>, to: Option<f64>| Some((to? - from?) * 100.0 / seconds);
        let threads = now.server.threads_since(&before.server).into_iter();
        let point = Point {
            at_s: now_ns.saturating_sub(seen.start_ns) as f64 / 1e9,
            sent,
            acked,
            delivered,
            refused,
            ack: Quantiles::of(&ack_ns),
            delivery: Quantiles::of(&delivery_ns),
            server_percent: percent(before.server.cpu_seconds, now.server.cpu_seconds),
            threads: threads.map(|(thread, cpu)| (thread, cpu * 100.0 / seconds)).collect(),
            client_percent: percent(before.client.total, now.client.total),
            workers: before.client.workers.iter().zip(&now.client.workers).map(|(a, b)| percent(*a, *b)).collect(),
            resident_mib: now.server.resident_bytes.map(|bytes| bytes as f64 / 1_048_576.0),
        };
        seen.points.push(point);
    }

    /// The points so far.
    pub(crate) fn points(&self) -> Vec<Point> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).points.clone()
    }

    /// What a worker has recorded since the last time.
    pub(crate) fn enter(&self, place: usize, [ack, delivery]: &[Histogram<u64>; 2]) {
        let mut recent = self.lanes[place].lock().unwrap_or_else(PoisonError::into_inner);
        // All have the same bounds, so adding cannot fail.
        recent.ack_ns.add(ack).expect("invariant: equal bounds");
        recent.delivery_ns.add(delivery).expect("invariant: equal bounds");
    }

    /// What the lanes have recorded since the last time, all together: acks and deliveries.
    pub(crate) fn take_recent(&self) -> [Histogram<u64>; 2] {
        let mut sums = [latencies(), latencies()];
        for lane in &self.lanes {
            let mut recent = lane.lock().unwrap_or_else(PoisonError::into_inner);
            let Recent { ack_ns, delivery_ns } = &mut *recent;
            for (sum, one) in sums.iter_mut().zip([ack_ns, delivery_ns]) {
                // All have the same bounds, so adding cannot fail.
                sum.add(&*one).expect("invariant: equal bounds");
                one.reset();
            }
        }
        sums
    }
}

impl Point {
    /// For the JSON form of a report.
    pub(crate) fn json(&self) -> Value {
        let quantiles =
            |of: Option<Quantiles>| of.map(|q| json!({ "p50_ms": q.p50_ms, "p99_ms": q.p99_ms, "max_ms": q.max_ms }));
        json!({
            "at_s": self.at_s,
            "sent": self.sent,
            "acked": self.acked,
            "delivered": self.delivered,
            "refused": self.refused,
            "ack": quantiles(self.ack),
            "delivery": quantiles(self.delivery),
            "server_cpu_percent": self.server_percent,
            "thread_cpu_percent": self.threads,
            "client_cpu_percent": self.client_percent,
            "worker_cpu_percent": self.workers,
            "resident_mib": self.resident_mib,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_what_came_since_the_one_before() {
        let (board, timeline) = (Board::new(2, 0), Timeline::new(2));
        let server = |cpu, shard| Sample {
            cpu_seconds: Some(cpu),
            threads: BTreeMap::from([("shard-0".to_owned(), shard)]),
            ..Sample::default()
        };
        let client = |cpu| ClientCpu { total: Some(cpu), workers: vec![Some(cpu - 1.0), None] };
        note_ack(&timeline.lane(0), 9_000_000);
        timeline.begin(1_000_000_000, &board, server(1.0, 0.5), ClientCpu::default());
        board.lanes[0].sent.add(10);
        board.lanes[1].sent.add(20);
        note_ack(&timeline.lane(0), 1_000_000);
        note_ack(&timeline.lane(1), 3_000_000);
        timeline.look(3_000_000_000, &board, server(2.0, 1.0), client(7.0));
        timeline.look(4_000_000_000, &board, server(2.0, 1.0), client(7.5));
        let points = timeline.points();
        assert_eq!((points.len(), points[0].at_s, points[0].sent, points[1].sent), (2, 2.0, 15.0, 0.0));
        let ack = points[0].ack.expect("two acks");
        assert!((ack.p50_ms - 1.0).abs() < 0.01 && (ack.max_ms - 3.0).abs() < 0.01, "none of before: {ack:?}");
        assert_eq!((points[1].ack, points[0].delivery), (None, None));
        assert_eq!((points[0].server_percent, points[0].threads["shard-0"]), (Some(50.0), 25.0));
        assert_eq!((points[0].client_percent, points[1].client_percent), (None, Some(50.0)), "not known at first");
        assert_eq!(points[1].workers, [Some(50.0), None]);
        timeline.look(4_000_000_000, &board, Sample::default(), ClientCpu::default());
        assert_eq!(timeline.points().len(), 2, "no time has passed");
    }

    #[test]
    fn a_long_run_has_no_more_points_than_a_page_can_show() {
        assert_eq!((Timeline::gap_ns(1), Timeline::gap_ns(POINTS_MAX)), (1_000_000_000, 1_000_000_000));
        assert_eq!(Timeline::gap_ns(POINTS_MAX + 1), 2_000_000_000);
    }
}
