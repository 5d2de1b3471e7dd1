//! What the gateway says of itself at `/metrics`.
//!
//! Owns: [`Counters`], the few of them that tell what crosses between shards.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// How long a scrape may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Counts since the start of the gateway, all shards together, each from the end of its latest turn.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Counters {
    /// Messages accepted.
    pub posted: f64,
    /// Messages put on their way to a session.
    pub delivered: f64,
    /// Messages that shards took from other threads; of a volatile gateway, after everybody has connected, from other shards.
    pub hops: f64,
    /// Wake-ups that shards sent each other.
    pub wakes: f64,
    /// Turns of the shards' loops.
    pub turns: f64,
    /// Send system calls.
    pub sends: f64,
}

impl Counters {
    /// Asks the gateway whose admin address this is.
    ///
    /// # Errors
    /// It does not answer, or not with metrics.
    pub fn scrape(admin: SocketAddr) -> Result<Self> {
        let mut stream = TcpStream::connect_timeout(&admin, PATIENCE).context("cannot reach the admin address")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page).context("no metrics")?;
        ensure!(page.starts_with("HTTP/1.1 200"), "no metrics: {}", page.lines().next().unwrap_or_default());
        Ok(Self::read(&page))
    }

    fn read(page: &str) -> Self {
        // A metric with a label for each shard is summed.
        let sum = |name: &str| -> f64 {
            let lines = page.lines().filter_map(|line| line.strip_prefix(name)?.split_once(' '));
            let own = lines.filter(|(labels, _)| labels.is_empty() || labels.starts_with('{'));
            own.filter_map(|(_, value)| value.trim().parse::<f64>().ok()).sum()
        };
        Self {
            posted: sum("imgate_messages_stored_total"),
            delivered: sum("imgate_messages_delivered_total"),
            hops: sum("imgate_shard_mail_total"),
            wakes: sum("imgate_shard_wakes_total"),
            turns: sum("imgate_turn_seconds_count"),
            sends: sum("imgate_sends_total"),
        }
    }

    /// What was counted between `earlier` and now.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            posted: self.posted - earlier.posted,
            delivered: self.delivered - earlier.delivered,
            hops: self.hops - earlier.hops,
            wakes: self.wakes - earlier.wakes,
            turns: self.turns - earlier.turns,
            sends: self.sends - earlier.sends,
        }
    }

    /// `count` for each message posted.
    #[must_use]
    pub fn per_message(&self, count: f64) -> f64 {
        count / self.posted.max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_summed_and_longer_names_are_others() {
        let page = "HTTP/1.1 200 OK\r\n\r\n# TYPE imgate_sends_total counter\nimgate_sends_total 7\nimgate_sends_total_more 9\n\
                    imgate_turn_seconds_count{shard=\"0\"} 3\nimgate_turn_seconds_count{shard=\"1\"} 4\n";
        let counters = Counters::read(page);
        assert_eq!((counters.sends, counters.turns, counters.hops), (7.0, 7.0, 0.0));
        assert_eq!(counters.since(Counters { sends: 5.0, ..Counters::default() }).sends, 2.0);
    }
}
