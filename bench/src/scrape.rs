//! What a gateway says about itself, from its `/metrics`.
//!
//! Owns: [`Counters`], the few that are of interest here, and [`Inside`], what they come to for
//! each delivery.
//! Never: is measured itself: whoever scrapes does it outside of the stretch.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// How long a scrape may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// One look, all shards together, each as it was at the end of its latest turn.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Counters {
    /// Messages accepted.
    pub posted: f64,
    /// Messages put on their way to a session.
    pub delivered: f64,
    /// Messages that shards took from other threads; of a volatile gateway, after everybody has
    /// connected, from other shards.
    pub hops: f64,
    /// Wake-ups that shards sent each other.
    pub wakes: f64,
    /// Send system calls.
    pub sends: f64,
    /// Turns of the shards' loops.
    pub turns: f64,
    /// Of the last one to two minutes, the slowest shard's, in seconds.
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
            // A metric with a label for each shard is summed.
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            match name {
                "imgate_messages_stored_total" | "imgate_room_messages_total" => counters.posted += value,
                "imgate_messages_delivered_total" | "imgate_room_delivered_total" => counters.delivered += value,
                "imgate_shard_mail_total" => counters.hops += value,
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

    /// What was counted between `earlier` and now.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            posted: self.posted - earlier.posted,
            delivered: self.delivered - earlier.delivered,
            hops: self.hops - earlier.hops,
            wakes: self.wakes - earlier.wakes,
            sends: self.sends - earlier.sends,
            turns: self.turns - earlier.turns,
            ..self
        }
    }

    /// `count` for each message posted.
    #[must_use]
    pub fn per_message(&self, count: f64) -> f64 {
        count / self.posted.max(1.0)
    }

    /// What these come to for each of `deliveries`.
    #[must_use]
    pub fn per_delivery(&self, deliveries: u64) -> Inside {
        let each = |count: f64| count / deliveries.max(1) as f64;
        Inside {
            hops: each(self.hops),
            wakes: each(self.wakes),
            sends: each(self.sends),
            turns: each(self.turns),
            hop_us: (self.hop_p50 * 1e6, self.hop_p99 * 1e6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_summed_and_longer_names_are_others() {
        let page = "# HELP imgate_sends_total Send system calls of shards.\nimgate_sends_total 300\nimgate_sends_total_more 9\n\
                    imgate_turn_seconds{shard=\"0\",quantile=\"0.5\"} 0.1\nimgate_turn_seconds_count{shard=\"0\"} 20\n\
                    imgate_turn_seconds_count{shard=\"1\"} 30\nimgate_hop_seconds{shard=\"0\",quantile=\"0.5\"} 0.00002\n\
                    imgate_hop_seconds{shard=\"1\",quantile=\"0.5\"} 0.00003\nimgate_shard_mail_total 200\n";
        let inside = Counters::read(page).since(Counters { hops: 100.0, ..Counters::default() }).per_delivery(100);
        assert_eq!((inside.hops, inside.sends, inside.turns, inside.wakes), (1.0, 3.0, 0.5, 0.0));
        assert!((inside.hop_us.0 - 30.0).abs() < 1e-9);
    }
}
