//! What a gateway says about itself, from its `/metrics`.
//!
//! Owns: [`Counters`], the few that are of interest here, and [`Inside`], what they come to for each delivery.
//! Never: is measured itself: whoever scrapes does it outside of the stretch.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// How long a scrape may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// One look, summed over the shards.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Counters {
    mail: f64,
    wakes: f64,
    sends: f64,
    turns: f64,
    /// Of the last one to two minutes, the slowest shard's.
    hop_p50: f64,
    hop_p99: f64,
}

/// For each delivery of a stretch.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Inside {
    /// Messages from shard to shard.
    pub hops: f64,
    /// Wake-ups that shards sent each other: an `eventfd` write each.
    pub wakes: f64,
    /// Sends.
    pub sends: f64,
    /// Turns of the shards' loops: a poll each.
    pub turns: f64,
    /// Microseconds of a hop: median, 99th percentile.
    pub hop_us: (f64, f64),
}

/// Looks at the gateway whose admin address is `admin`.
///
/// # Errors
/// It does not answer as it should.
pub fn scrape(admin: SocketAddr) -> Result<Counters> {
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE).context("no admin address")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    ensure!(page.starts_with("HTTP/1.1 200 "), "no metrics: {}", page.lines().next().unwrap_or_default());
    Ok(Counters::read(&page))
}

impl Counters {
    fn read(page: &str) -> Self {
        let mut counters = Self::default();
        for line in page.lines() {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            match name {
                "imgate_shard_mail_total" => counters.mail += value,
                "imgate_shard_wakes_total" => counters.wakes += value,
                "imgate_sends_total" => counters.sends += value,
                "imgate_turn_seconds_count" => counters.turns += value,
                "imgate_hop_seconds" if labels.contains("\"0.5\"") => counters.hop_p50 = counters.hop_p50.max(value),
                "imgate_hop_seconds" if labels.contains("\"0.99\"") => counters.hop_p99 = counters.hop_p99.max(value),
                _ => {}
            }
        }
        counters
    }

    /// What came since `before`, for each of `deliveries`.
    #[must_use]
    pub fn since(&self, before: &Self, deliveries: u64) -> Inside {
        let each = |now: f64, then: f64| (now - then) / deliveries.max(1) as f64;
        Inside {
            hops: each(self.mail, before.mail),
            wakes: each(self.wakes, before.wakes),
            sends: each(self.sends, before.sends),
            turns: each(self.turns, before.turns),
            hop_us: (self.hop_p50 * 1e6, self.hop_p99 * 1e6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_summed_up() {
        let page = "# HELP imgate_sends_total Send system calls of shards.\nimgate_sends_total 300\n\
                    imgate_turn_seconds{shard=\"0\",quantile=\"0.5\"} 0.1\nimgate_turn_seconds_count{shard=\"0\"} 20\n\
                    imgate_turn_seconds_count{shard=\"1\"} 30\nimgate_hop_seconds{shard=\"0\",quantile=\"0.5\"} 0.00002\n\
                    imgate_hop_seconds{shard=\"1\",quantile=\"0.5\"} 0.00003\nimgate_shard_mail_total 200\n";
        let inside = Counters::read(page).since(&Counters { mail: 100.0, ..Counters::default() }, 100);
        assert_eq!((inside.hops, inside.sends, inside.turns, inside.wakes), (1.0, 3.0, 0.5, 0.0));
        assert!((inside.hop_us.0 - 30.0).abs() < 1e-9);
    }
}
