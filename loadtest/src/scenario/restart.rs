//! `restart`: the gateway is stopped in order and started again by somebody else; how evenly do the
//! clients go, and come back?
//!
//! Owns: the times at which connections were closed and opened again, in buckets of [`BUCKET_MS`];
//! the plot.
//! Never: stops a gateway itself. A client comes back when the close told it to (4000, `retry_ms`),
//! and else after a pause that doubles, with jitter.
//! Bounds: [`BUCKETS_MAX`] buckets.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use crate::board::Phase;
use crate::conduct::{Conductor, deal, perform};
use crate::engine::Actor;
use crate::interrupt::Interrupt;
use crate::net::Net;
use crate::options::Options;
use crate::report::Report;
use crate::say::say;

/// Milliseconds of a bucket.
const BUCKET_MS: u64 = 250;
/// As long as the longest run.
const BUCKETS_MAX: usize = 4 * 3_600;

#[derive(Args, Clone, Debug)]
pub(crate) struct Flags {
    #[command(flatten)]
    pub(crate) options: Options,
    /// Clients, each a user of its own.
    #[arg(long, default_value_t = 15_000)]
    clients: usize,
    /// How long the gateway may take until it closes the last connection, seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=600))]
    stop_within: u64,
    /// How long all clients may take from then on until they are back, seconds.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=1_800))]
    drain: u64,
    /// Fail when more come back in the busiest second than so many times the average of the seconds
    /// in which they come.
    #[arg(long)]
    peak_max: Option<f64>,
    /// Draws closes and returns per second over time into this file (SVG).
    #[arg(long)]
    plot: Option<PathBuf>,
}

/// The clients of one thread.
struct Restart {
    closed: Vec<u64>,
    opened: Vec<u64>,
}

impl Restart {
    fn note(buckets: &mut Vec<u64>, net: &Net) {
        let since_ns = net.plan().clock.nanos().saturating_sub(net.board().started_ns());
        let place = (since_ns / 1_000_000 / BUCKET_MS) as usize;
        if net.board().phase() != Phase::Running || place >= BUCKETS_MAX {
            return;
        }
        if buckets.len() <= place {
            buckets.resize(place + 1, 0);
        }
        buckets[place] += 1;
    }
}

impl Actor for Restart {
    fn opened(&mut self, net: &mut Net, _member: u32, again: bool) {
        if again {
            Self::note(&mut self.opened, net);
        }
    }

    fn text(&mut self, _net: &mut Net, _member: u32, _text: &str, _now_ns: u64) {}

    fn closed(&mut self, net: &mut Net, _member: u32) {
        Self::note(&mut self.closed, net);
    }

    fn turn(&mut self, _net: &mut Net, _now_ns: u64) -> u64 {
        u64::MAX
    }
}

/// One series: events per bucket.
struct Series(Vec<u64>);

impl Series {
    fn of<'a>(parts: impl Iterator<Item = &'a Vec<u64>>) -> Self {
        let mut all = Vec::new();
        for part in parts {
            if all.len() < part.len() {
                all.resize(part.len(), 0);
            }
            all.iter_mut().zip(part).for_each(|(sum, one)| *sum += one);
        }
        Self(all)
    }

    fn sum(&self) -> u64 {
        self.0.iter().sum()
    }

    /// From the first event to the last, in seconds.
    fn span(&self) -> Option<(f64, f64)> {
        let first = self.0.iter().position(|n| *n > 0)?;
        let last = self.0.iter().rposition(|n| *n > 0)?;
        Some((seconds(first), seconds(last + 1)))
    }

    /// Events in the busiest second.
    fn peak(&self) -> u64 {
        let second = (1_000 / BUCKET_MS) as usize;
        self.0.windows(second).map(|window| window.iter().sum()).max().unwrap_or_else(|| self.sum())
    }

    /// How many times the average the busiest second has.
    fn peak_over_mean(&self) -> Option<f64> {
        let (from, to) = self.span()?;
        Some(self.peak() as f64 * (to - from).max(1.0) / self.sum() as f64)
    }
}

fn seconds(bucket: usize) -> f64 {
    bucket as f64 * BUCKET_MS as f64 / 1_000.0
}

pub(crate) fn run(flags: &Flags, interrupt: &Interrupt) -> Result<Report> {
    flags.options.refuse_workers("`restart`")?;
    let Flags { options, clients, .. } = flags;
    let plan = options.plan(*clients, *clients, true, true, interrupt)?;
    let threads = plan.board.lanes.len();
    let actors = (0..threads)
        .map(|lane| {
            let logins: Vec<u32> = deal(*clients, threads, lane).map(|i| i as u32).collect();
            (logins, Restart { closed: Vec::new(), opened: Vec::new() })
        })
        .collect();
    let (reopened, actors) = perform(&plan, None, actors, |conductor| conduct(flags, conductor))?;
    let closed = Series::of(actors.iter().map(|actor| &actor.closed));
    let opened = Series::of(actors.iter().map(|actor| &actor.opened));

    let mut report = Report::new("restart", interrupt);
    report.count("clients", *clients as u64);
    let told = plan.board.sum(|l| &l.slotted);
    report.count("closed", closed.sum());
    report.must_be_zero_at_the_end("closed_without_a_slot", closed.sum().saturating_sub(told));
    report.must_be_zero_at_the_end("not_closed", (*clients as u64).saturating_sub(closed.sum()));
    report.must_be_zero_at_the_end("not_back", (*clients as u64).saturating_sub(reopened));
    for (key, peak, series) in
        [("closes_seconds", "closes_peak_over_mean", &closed), ("returns_seconds", "returns_peak_over_mean", &opened)]
    {
        report.figure(key, series.span().map(|(from, to)| to - from), "s");
        report.figure(peak, series.peak_over_mean(), "times the average in the busiest second");
    }
    let away = closed.span().zip(opened.span()).map(|((_, last), (_, back))| back - last);
    report.figure("seconds_from_the_last_close_until_all_are_back", away, "s");
    report.count("refused_attempts", plan.board.sum(|l| &l.retried));
    report.value(
        "per_second",
        json!({ "bucket_ms": BUCKET_MS, "closes": closed.0, "returns": opened.0 }),
        format!("\n    closes  {}\n    returns {}", bars(&closed.0), bars(&opened.0)),
    );
    if let Some(most) = flags.peak_max {
        report.exceeded("peak_max_exceeded", opened.peak_over_mean().is_none_or(|peak| peak > most));
    }
    if let Some(path) = &flags.plot {
        std::fs::write(path, svg(&closed, &opened)).with_context(|| format!("cannot write {}", path.display()))?;
    }
    report.troubles(&plan.board.troubles());
    Ok(report)
}

fn conduct(flags: &Flags, conductor: &Conductor<'_>) -> Result<u64> {
    let clients = flags.clients as u64;
    conductor.open(flags.clients)?;
    conductor.board().enter(Phase::Running, conductor.plan.clock.nanos());
    say("all are connected: stop the gateway now, and start it again");
    conductor.wait_for("everybody is sent away", flags.stop_within, |board| board.sum(|l| &l.dropped) >= clients);
    conductor.wait_for("everybody comes back", flags.drain, |board| board.sum(|l| &l.open) >= clients);
    Ok(conductor.board().sum(|l| &l.open))
}

/// A series as a line of blocks, a second each.
fn bars(buckets: &[u64]) -> String {
    const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let second = (1_000 / BUCKET_MS) as usize;
    let sums: Vec<u64> = buckets.chunks(second).map(|chunk| chunk.iter().sum()).collect();
    let top = sums.iter().copied().max().unwrap_or_default().max(1);
    let block = |n: &u64| BLOCKS.get((n * 8).div_ceil(top) as usize).copied().unwrap_or('█');
    sums.iter().map(block).collect()
}

/// Both series over time.
fn svg(closed: &Series, opened: &Series) -> String {
    const WIDTH: f64 = 720.0;
    const HEIGHT: f64 = 240.0;
    let per_second = 1_000 / BUCKET_MS;
    let buckets = closed.0.len().max(opened.0.len()).max(1);
    let top = closed.0.iter().chain(&opened.0).copied().max().unwrap_or_default().max(1);
    let mut out = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="-60 -30 800 320" font-family="sans-serif" font-size="12">
<rect x="-60" y="-30" width="800" height="320" fill="white"/>
<text x="0" y="-12">connections per second over time (s): closed by the gateway, and back again</text>
<path d="M0 0V{HEIGHT}H{WIDTH}" fill="none" stroke="#888"/>
<text x="-8" y="10" text-anchor="end">{}</text><text x="-8" y="{HEIGHT}" text-anchor="end">0</text>
<text x="{WIDTH}" y="{}" text-anchor="end">{:.1} s</text>
"##,
        top * per_second,
        HEIGHT + 18.0,
        seconds(buckets),
    );
    for (series, colour, name, place) in [(closed, "#c0392b", "closed", 0), (opened, "#2471a3", "back", 1)] {
        let mut line = String::new();
        for (place, n) in series.0.iter().enumerate() {
            let x = WIDTH * place as f64 / buckets as f64;
            let y = HEIGHT - HEIGHT * *n as f64 / top as f64;
            // Writing into a string cannot fail.
            let _ = write!(line, "{}{x:.1} {y:.1}", if place == 0 { "M" } else { "L" });
        }
        let _ = writeln!(out, r#"<path d="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>"#);
        let _ = writeln!(out, r#"<text x="{}" y="278" fill="{colour}">{name}</text>"#, place * 80);
    }
    out.push_str("</svg>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_tells_its_span_and_its_peak() {
        let flat = Series::of([vec![0, 0, 5, 5], vec![0, 0, 5, 5, 10, 10, 10, 10]].iter());
        assert_eq!((flat.sum(), flat.span(), flat.peak()), (60, Some((0.5, 2.0)), 40));
        assert_eq!(flat.peak_over_mean(), Some(1.0));
        let peaked = Series(vec![1, 0, 0, 0, 0, 0, 0, 99]);
        assert_eq!(peaked.peak_over_mean(), Some(1.98));
        let none = Series(Vec::new());
        assert_eq!((none.span(), none.peak_over_mean()), (None, None));
    }

    #[test]
    fn a_plot_has_both_lines() {
        let picture = svg(&Series(vec![4, 0, 0]), &Series(vec![0, 2, 2, 2]));
        assert_eq!(picture.matches("stroke-width").count(), 2);
        assert!(picture.contains(">16</text>") && picture.contains("1.0 s"), "{picture}");
        assert_eq!(bars(&[0, 0, 0, 0, 1, 1, 1, 1]), " █");
    }
}
