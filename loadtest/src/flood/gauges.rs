//! What the gateway says of itself on `/metrics`, each second.
//!
//! Owns: [`Reading`], the few figures that are judged, and [`grown`], which tells what a flood set
//! in motion.

use std::collections::BTreeMap;

use super::signals::FloodStage;

/// The figures of one second.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Reading {
    pub(crate) at_ns: u64,
    pub(crate) stage: FloodStage,
    pub(crate) rss_bytes: Option<u64>,
    pub(crate) cpu_seconds: Option<f64>,
    /// The 99.9th percentile of a shard's turns over the last one to two minutes, of the slowest
    /// shard.
    pub(crate) turn_p999_seconds: Option<f64>,
    /// The longest turn of any shard in that time.
    pub(crate) turn_max_seconds: Option<f64>,
}

impl Reading {
    /// Reads a scrape.
    pub(crate) fn of(text: &str, at_ns: u64, stage: FloodStage) -> Self {
        let one = |name: &str| series(text).find(|(key, _)| *key == name).map(|(_, value)| value);
        let most = |name: &str, label: &str| {
            series(text)
                .filter(|(key, _)| {
                    key.strip_prefix(name).is_some_and(|rest| rest.starts_with('{') && rest.contains(label))
                })
                .map(|(_, value)| value)
                .reduce(f64::max)
        };
        Self {
            at_ns,
            stage,
            rss_bytes: one("process_resident_memory_bytes").map(|bytes| bytes as u64),
            cpu_seconds: one("process_cpu_seconds_total"),
            turn_p999_seconds: most("imgate_turn_seconds", "quantile=\"0.999\""),
            turn_max_seconds: most("imgate_turn_max_seconds", ""),
        }
    }
}

/// The counters that grew between two scrapes, and by how much; of bytes and times those of the
/// process are enough.
pub(crate) fn grown(before: &str, after: &str) -> BTreeMap<String, u64> {
    let before: BTreeMap<&str, f64> = series(before).collect();
    series(after)
        .filter(|(key, _)| key.split('{').next().is_some_and(|name| name.ends_with("_total")))
        .map(|(key, value)| (key.to_owned(), (value - before.get(key).unwrap_or(&0.0)) as u64))
        .filter(|(_, more)| *more > 0)
        .collect()
}

/// Names with their labels, and values.
fn series(text: &str) -> impl Iterator<Item = (&str, f64)> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (key, value) = line.rsplit_once(' ')?;
        Some((key, value.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP x y\nprocess_resident_memory_bytes 1048576\nprocess_cpu_seconds_total 1.5\n\
        imgate_turn_seconds{shard=\"0\",quantile=\"0.99\"} 9\nimgate_turn_seconds{shard=\"0\",quantile=\"0.999\"} 0.001\n\
        imgate_turn_seconds{shard=\"1\",quantile=\"0.999\"} 0.25\nimgate_turn_seconds_sum{shard=\"1\"} 7\n\
        imgate_turn_max_seconds{shard=\"0\"} 0.5\nimgate_turn_max_seconds{shard=\"1\"} 0.75\n\
        imgate_gate_refused_total{reason=\"busy\"} 3\n";

    #[test]
    fn the_slowest_shard_counts() {
        let reading = Reading::of(TEXT, 5, FloodStage::Calm);
        let expected = Reading {
            at_ns: 5,
            stage: FloodStage::Calm,
            rss_bytes: Some(1_048_576),
            cpu_seconds: Some(1.5),
            turn_p999_seconds: Some(0.25),
            turn_max_seconds: Some(0.75),
        };
        assert_eq!(reading, expected);
        let nothing = Reading::of("", 5, FloodStage::Calm);
        assert_eq!((nothing.rss_bytes, nothing.turn_p999_seconds), (None, None));
    }

    #[test]
    fn growth_is_told_by_series() {
        let later = TEXT.replace("reason=\"busy\"} 3", "reason=\"busy\"} 8");
        assert_eq!(grown(TEXT, &later), BTreeMap::from([("imgate_gate_refused_total{reason=\"busy\"}".to_owned(), 5)]));
    }
}
