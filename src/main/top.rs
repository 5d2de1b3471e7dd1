//! `imgate top`: what a running gateway does, and which users take the most, in a terminal.
//!
//! Owns: the picture, drawn anew with two escape sequences, so that any terminal and any ssh shows
//! it. Never: asks for more than a scrape and a look in each period.

use std::fmt::Write as _;
use std::io::{self, Write};

use anyhow::Context;
use clap::Args;
use imgate::clock::Clock;
use imgate::config::Config;
use imgate::metrics::names;
use serde_json::Value;

use super::ask::{address, ask_well, ask_well_for};

/// The arguments.
#[derive(Args)]
pub(crate) struct TopArgs {
    /// Seconds of a picture, 1 to 30: shards count which users take the most meanwhile.
    #[arg(long, value_name = "S", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=30))]
    seconds: u64,
    /// By what users are sorted.
    #[arg(long, value_name = "WHAT", default_value = "cost", value_parser = ["cost", "messages", "bytes", "refused", "opened", "queued"])]
    by: String,
    /// Prints one picture and ends.
    #[arg(long)]
    once: bool,
}

/// Users that are shown; a terminal has 24 lines.
const USERS: usize = 8;
const OTHERS: usize = 3;

/// Draws until it is interrupted.
pub(crate) fn run(config: &Config, args: &TopArgs) -> anyhow::Result<()> {
    let to = address(config);
    let token = imgate::node::gateways_key(config)?.admin_token();
    let path = format!("/admin/top?seconds={}&by={}", args.seconds, args.by);
    let clock = Clock::start();
    let mut before = (Scrape::parse(&ask_well(to, "GET", "/metrics", None)?), clock.nanos());
    loop {
        let top = ask_well_for(to, "GET", &path, Some(&token), args.seconds)?;
        let top: Value = serde_json::from_str(&top).context("the answer is no JSON")?;
        let now = (Scrape::parse(&ask_well(to, "GET", "/metrics", None)?), clock.nanos());
        // What was asked for is not what it took: shards that do not answer are waited for.
        let seconds = now.1.saturating_sub(before.1) as f64 / 1e9;
        let picture = picture(&now.0, &before.0, seconds, &top);
        before = now;
        let mut out = io::stdout().lock();
        if args.once {
            return Ok(out.write_all(picture.as_bytes())?);
        }
        // Home, then the picture, each line cleared behind its end, and everything below.
        let lines = picture.replace('\n', "\x1b[K\n");
        write!(out, "\x1b[H{lines}\x1b[J")?;
        out.flush()?;
    }
}

/// The series of a scrape, as they are written.
struct Scrape(Vec<(String, f64)>);

impl Scrape {
    fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let series = lines.filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        });
        Self(series.collect())
    }

    /// The sum over all series of a metric whose labels hold `label`.
    fn sum(&self, name: &str, label: &str) -> f64 {
        let series = self.0.iter().filter(|(series, _)| {
            let (metric, labels) = series.split_once('{').unwrap_or((series, ""));
            metric == name && (label.is_empty() || labels.contains(label))
        });
        // The sum of nothing is -0.
        0.0 + series.map(|(_, value)| value).sum::<f64>()
    }

    /// The first series of a metric, with its labels.
    fn labels(&self, name: &str) -> &str {
        let found = self.0.iter().find_map(|(series, _)| series.strip_prefix(name)?.strip_prefix('{'));
        found.unwrap_or_default().trim_end_matches('}')
    }
}

/// The upper bound of the bucket in which a quantile of what came between two scrapes lies, in
/// seconds.
fn quantile(now: &Scrape, before: &Scrape, name: &str, q: f64) -> Option<f64> {
    let buckets = format!("{name}_bucket");
    let mut bounds: Vec<&str> = now
        .0
        .iter()
        .filter(|(series, _)| series.starts_with(&buckets))
        .filter_map(|(series, _)| bound(series))
        .collect();
    bounds.dedup();
    let count = |le: &str| {
        let label = format!("le=\"{le}\"");
        now.sum(&buckets, &label) - before.sum(&buckets, &label)
    };
    let total = count("+Inf");
    let le = bounds.into_iter().find(|le| count(le) >= q * total && total > 0.0)?;
    le.parse().ok()
}

fn bound(series: &str) -> Option<&str> {
    series.split("le=\"").nth(1)?.split('"').next()
}

/// What there is to see, of two scrapes with `seconds` between them.
fn picture(now: &Scrape, before: &Scrape, seconds: f64, top: &Value) -> String {
    let seconds = seconds.max(1.0);
    let rate = |name: &str| (now.sum(name, "") - before.sum(name, "")).max(0.0) / seconds;
    let mut out = String::new();
    let ready = if now.sum(names::READY.name, "") > 0.0 { "ready" } else { "NOT READY" };
    // Writing into a string cannot fail.
    let _ = writeln!(out, "imgate {}  {ready}", now.labels(names::BUILD_INFO.name));
    let _ = writeln!(
        out,
        "sessions {}  users {}  behind {}  opened {:.1}/s  refused {:.1}/s",
        now.sum(names::SESSIONS.name, ""),
        now.sum(names::USERS_ONLINE.name, ""),
        now.sum(names::SESSIONS_BEHIND.name, ""),
        rate(names::SESSIONS_OPENED.name),
        rate(names::COMMANDS_REFUSED.name),
    );
    let ms =
        |name: &str| quantile(now, before, name, 0.99).map_or_else(|| "-".to_owned(), |s| format!("{:.1}", s * 1e3));
    let _ = writeln!(
        out,
        "stored {:.1}/s  delivered {:.1}/s  p99 ms: post {}  delivery {}  transaction {}  HTTP {}",
        rate(names::STORED.name),
        rate(names::DELIVERED.name),
        ms(names::POSTS.name),
        ms(names::DELIVERIES.name),
        ms(names::STORE_TRANSACTIONS.name),
        ms(names::HTTP_SECONDS.name),
    );
    let mib = |name: &str| now.sum(name, "") / 1_048_576.0;
    let _ = writeln!(
        out,
        "memory {:.0} of {:.0} MiB  outboxes {:.1}  inbound {:.1}  HTTP {:.1}  descriptors {} of {}",
        mib(names::PROCESS_RSS.name),
        mib(names::MEMORY_MAX.name),
        mib(names::HELD.name),
        mib(names::INBOUND.name),
        mib(names::HTTP_BYTES.name),
        now.sum(names::PROCESS_FDS.name, ""),
        now.sum(names::PROCESS_FDS_MAX.name, ""),
    );
    shards(&mut out, now, before, seconds);
    let silent: Vec<String> = top["silent_shards"].as_array().into_iter().flatten().map(Value::to_string).collect();
    if !silent.is_empty() {
        let _ = writeln!(out, "NO ANSWER from shard {}: its users are missing below", silent.join(", "));
    }
    list(&mut out, top, "users", "user", &["cost", "messages", "bytes", "refused", "opened", "queued"], USERS);
    list(&mut out, top, "groups", "group", &["messages", "bytes"], OTHERS);
    list(&mut out, top, "networks", "network", &["opened"], OTHERS);
    out
}

fn shards(out: &mut String, now: &Scrape, before: &Scrape, seconds: f64) {
    let _ = writeln!(out, "\n{:>8} {:>12} {:>6} {:>14} {:>8}", "shard", "connections", "busy", "longest turn", "inbox");
    for shard in 0..now.sum(names::SHARDS.name, "") as usize {
        let label = format!("shard=\"{shard}\"");
        let of = |name: &str| now.sum(name, &label);
        let asleep = of(names::SHARD_ASLEEP.name) - before.sum(names::SHARD_ASLEEP.name, &label);
        let busy = (1.0 - asleep / seconds).clamp(0.0, 1.0) * 100.0;
        let turn = of(names::TURN_MAX.name) * 1e3;
        let _ = writeln!(
            out,
            "{shard:>8} {:>12} {busy:>5.0}% {turn:>11.1} ms {:>8}",
            of(names::SHARD_CONNECTIONS.name),
            of(names::SHARD_INBOX.name)
        );
    }
}

/// One list of those that take the most, a second each.
fn list(out: &mut String, top: &Value, name: &str, key: &str, columns: &[&str], most: usize) {
    let counted = top["counted_ms"].as_f64().map(|ms| ms / 1e3).or_else(|| top["seconds"].as_f64());
    let seconds = counted.unwrap_or(1.0).max(1.0);
    let Some(rows) = top[name].as_array().filter(|rows| !rows.is_empty()) else { return };
    // What waits is as it stands at the end, and no rate.
    let title = |column: &&str| if is_rate(column) { format!("{column}/s") } else { format!("{column} B") };
    let head: String = columns.iter().map(|column| format!(" {:>11}", title(column))).collect();
    let _ = writeln!(out, "\n{key:>18}{head}");
    for row in rows.iter().take(most) {
        let who = row[key].as_str().map_or_else(|| row[key].to_string(), str::to_owned);
        let cells: String = columns
            .iter()
            .map(|column| (row[*column].as_f64().unwrap_or_default(), is_rate(column)))
            .map(|(value, is_rate)| format!(" {:>11.1}", if is_rate { value / seconds } else { value }))
            .collect();
        let _ = writeln!(out, "{who:>18}{cells}");
    }
}

fn is_rate(column: &str) -> bool {
    column != "queued"
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "imgate_ready 1\nimgate_shards 2\nimgate_build_info{version=\"0.1.0\"} 1\nimgate_sessions 5\n\
         imgate_messages_stored_total 100\nimgate_shard_asleep_seconds_total{shard=\"1\"} 10\n\
         imgate_post_seconds_bucket{shard=\"0\",le=\"0.001\"} 0\nimgate_post_seconds_bucket{shard=\"0\",le=\"+Inf\"} 0\n";

    #[test]
    fn a_picture_says_rates_shards_and_who_takes_the_most() {
        let now = BEFORE
            .replace("stored_total 100", "stored_total 140")
            .replace("{shard=\"1\"} 10", "{shard=\"1\"} 11.5")
            .replace("le=\"0.001\"} 0", "le=\"0.001\"} 9")
            .replace("le=\"+Inf\"} 0", "le=\"+Inf\"} 9");
        let top = serde_json::json!({
            "seconds": 2, "groups": [],
            "users": [{"user": 7, "cost": 400, "messages": 100, "bytes": 2000, "refused": 2, "opened": 1, "queued": 4096}],
            "networks": [{"network": "203.0.113.9", "opened": 3}],
        });
        let picture = picture(&Scrape::parse(&now), &Scrape::parse(BEFORE), 2.0, &top);
        for words in [
            "imgate version=\"0.1.0\"  ready",
            "stored 20.0/s",
            "post 1.0",
            "       1            0    25%",
            "                 7       200.0        50.0      1000.0         1.0         0.5      4096.0",
            "       203.0.113.9         1.5",
        ] {
            assert!(picture.contains(words), "`{words}` in\n{picture}");
        }
        assert!(!picture.contains("group"), "an empty list is left out");
        assert!(!picture.contains("NO ANSWER"), "{picture}");
    }

    #[test]
    fn a_picture_names_the_shards_that_do_not_answer() {
        let top = serde_json::json!({ "seconds": 2, "users": [], "silent_shards": [1, 3] });
        let picture = picture(&Scrape::parse(BEFORE), &Scrape::parse(BEFORE), 2.0, &top);
        assert!(picture.contains("NO ANSWER from shard 1, 3"), "{picture}");
    }

    #[test]
    fn rates_are_of_the_time_that_it_took() {
        let now =
            BEFORE.replace("stored_total 100", "stored_total 140").replace("{shard=\"1\"} 10", "{shard=\"1\"} 13");
        let top = serde_json::json!({
            "seconds": 2, "counted_ms": 4_000,
            "users": [{"user": 7, "cost": 400, "messages": 100, "bytes": 2000, "refused": 2, "opened": 1}],
        });
        let picture = picture(&Scrape::parse(&now), &Scrape::parse(BEFORE), 4.0, &top);
        for words in ["stored 10.0/s", "       1            0    25%", "                 7       100.0        25.0"] {
            assert!(picture.contains(words), "`{words}` in\n{picture}");
        }
    }
}
