//! The report: medians of all rounds, ratios to one shard of the same round, the model beside the
//! counters.
//!
//! Owns: [`ScalingSheet`], everything that was measured, and how it is written down.

use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::flow::{Heard, Stretch};
use super::scene::Scene;
use crate::median::median;

/// Above this share of its core the generator may be what is measured.
const GENERATOR_SHARE_MAX: f64 = 0.95;

/// The figures of one run.
#[derive(Clone, Copy, Debug)]
pub struct ScalingFigures {
    /// Gateway CPU per delivery, in microseconds.
    pub cpu_us: f64,
    /// Deliveries per second.
    pub rate: f64,
    /// Messages between shards for each message posted, by the gateway's counters.
    pub hops: f64,
    /// The same by the model.
    pub model: f64,
    /// The same if groups were sent to every shard.
    pub to_all: f64,
    /// Wake-ups between shards for each message posted.
    pub wakes: f64,
    /// Turns of the shards' loops for each message posted.
    pub turns: f64,
    /// Milliseconds from due to read, of the first flow: median, 99th percentile.
    pub latency_ms: (f64, f64),
    /// Deliveries that never came.
    pub lost: u64,
    /// Share of its core that the generator used.
    pub generator_share: f64,
}

impl ScalingFigures {
    /// Of a stretch, with what the model says of each flow.
    #[must_use]
    pub fn new(stretch: &Stretch, models: &[(f64, f64)]) -> Self {
        let posted: u64 = stretch.heard.iter().map(|heard| heard.posted).sum();
        let mean = |of: fn(&(f64, f64)) -> f64| {
            let parts = stretch.heard.iter().zip(models).map(|(heard, model)| heard.posted as f64 * of(model));
            parts.sum::<f64>() / posted.max(1) as f64
        };
        let millis = |latency: &Histogram<u64>, q| latency.value_at_quantile(q) as f64 / 1e6;
        let latency = |heard: &Heard| (millis(&heard.latency_ns, 0.5), millis(&heard.latency_ns, 0.99));
        let counters = stretch.counters;
        Self {
            cpu_us: stretch.cpu_us(),
            rate: stretch.delivered() as f64 * 1e9 / stretch.nanos.max(1) as f64,
            hops: counters.per_message(counters.hops),
            model: mean(|model| model.0),
            to_all: mean(|model| model.1),
            wakes: counters.per_message(counters.wakes),
            turns: counters.per_message(counters.turns),
            latency_ms: stretch.heard.first().map(latency).unwrap_or_default(),
            lost: stretch.heard.iter().map(|heard| heard.lost).sum(),
            generator_share: stretch.generator_share,
        }
    }

    fn json(&self) -> Value {
        json!({
            "cpu_us_per_delivery": self.cpu_us,
            "deliveries_per_second": self.rate,
            "hops_per_message": self.hops,
            "hops_per_message_by_model": self.model,
            "hops_per_message_to_all_shards": self.to_all,
            "wakes_per_message": self.wakes,
            "turns_per_message": self.turns,
            "latency_p50_ms": self.latency_ms.0,
            "latency_p99_ms": self.latency_ms.1,
            "lost": self.lost,
            "generator_share": self.generator_share,
        })
    }
}

/// One measurement.
#[derive(Clone, Debug)]
pub struct ScalingRun {
    /// From 0.
    pub round: usize,
    /// Shards of the gateway.
    pub shards: u16,
    /// What was done.
    pub scene: Scene,
    /// What came of it, or why nothing did.
    pub figures: Result<ScalingFigures, String>,
}

/// Everything that was measured.
pub struct ScalingSheet {
    /// `2026-11-21`.
    pub date: String,
    /// Processor, cores, kernel.
    pub machine: String,
    /// Version of the tree, as git says; empty: unknown.
    pub commit: String,
    /// How it was called.
    pub command: String,
    /// Cores that the gateway had.
    pub cores: usize,
    /// Shards, in the order of the table.
    pub shards: Vec<u16>,
    /// In the order in which it was done.
    pub runs: Vec<ScalingRun>,
}

impl ScalingSheet {
    fn good(&self, scene: Scene, shards: u16) -> impl Iterator<Item = (usize, &ScalingFigures)> {
        let runs = self.runs.iter().filter(move |run| run.scene == scene && run.shards == shards);
        runs.filter_map(|run| Some((run.round, run.figures.as_ref().ok()?)))
    }

    /// The median of a figure.
    #[must_use]
    pub fn median(&self, scene: Scene, shards: u16, of: fn(&ScalingFigures) -> f64) -> Option<f64> {
        median(self.good(scene, shards).map(|(_, figures)| of(figures)).collect())
    }

    /// The median of the ratios of CPU per delivery to that with the fewest shards in the same
    /// round.
    #[must_use]
    pub fn ratio(&self, scene: Scene, shards: u16) -> Option<f64> {
        let fewest = self.shards.iter().copied().filter(|&shards| scene.is_possible(shards)).min()?;
        let ratios = self.good(scene, shards).filter_map(|(round, figures)| {
            let (_, least) = self.good(scene, fewest).find(|&(other, _)| other == round)?;
            Some(figures.cpu_us / least.cpu_us)
        });
        median(ratios.collect())
    }

    /// All runs.
    #[must_use]
    pub fn json(&self) -> Value {
        let run = |run: &ScalingRun| {
            let mut object = match &run.figures {
                Ok(figures) => figures.json(),
                Err(error) => json!({ "error": error }),
            };
            object["round"] = json!(run.round);
            object["shards"] = json!(run.shards);
            object["scene"] = json!(run.scene.name());
            object
        };
        json!({
            "date": self.date,
            "machine": self.machine,
            "commit": self.commit,
            "command": self.command,
            "gateway_cores": self.cores,
            "runs": self.runs.iter().map(run).collect::<Vec<_>>(),
        })
    }

    /// The page.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut page = format!("# Shards, {}\n\n{}.", self.date, self.machine);
        if !self.commit.is_empty() {
            let _ = write!(page, " Commit {}.", self.commit);
        }
        let _ = writeln!(page, " Made by:\n\n```\n{}\n```\n", self.command);
        let _ = writeln!(
            page,
            "A volatile gateway of 1 to 8 shards, always on {} core{}, the load generator on another; {} users are connected, messages have 150 bytes, the rounds are \
             interleaved. A cell is the median of all rounds; in parentheses the median of the ratios to the fewest shards of the same round. **With more shards \
             than cores this is what sharding costs, not what it gains**: the same work, cut into more pieces, on the same cores.\n",
            self.cores,
            if self.cores == 1 { "" } else { "s" },
            super::Town::MEMBERS,
        );
        page.push_str("## CPU per delivery\n\nMicroseconds of the whole process, all threads.\n\n");
        self.add_table(&mut page, |sheet, scene, shards| {
            let mut cell = format!("{:.2}", sheet.median(scene, shards, |f| f.cpu_us)?);
            if let Some(ratio) = sheet.ratio(scene, shards) {
                let _ = write!(cell, " ({ratio:.2})");
            }
            Some(cell)
        });
        page.push_str(
            "\n## Hops and wake-ups per message\n\nMessages from one shard to another, counted by the gateway, then what the model of docs/capacity.md says; in brackets \
             what it would be if groups were sent to every shard; then wake-ups of one shard by another, and turns of all shards.\n\n",
        );
        self.add_table(&mut page, |sheet, scene, shards| {
            let of = |of| sheet.median(scene, shards, of);
            let (hops, model, to_all) = (of(|f| f.hops)?, of(|f| f.model)?, of(|f| f.to_all)?);
            let (wakes, turns) = (of(|f| f.wakes)?, of(|f| f.turns)?);
            Some(format!("{hops:.2} / {model:.2} [{to_all:.2}], {wakes:.2} wakes, {turns:.2} turns"))
        });
        page.push_str("\n## Latency and throughput\n\nMilliseconds from when a message was due until it was read, p50 / p99 (of the calm shards, where there is a hot one), and deliveries per second.\n\n");
        self.add_table(&mut page, |sheet, scene, shards| {
            let of = |of| sheet.median(scene, shards, of);
            let (p50, p99) = (of(|f| f.latency_ms.0)?, of(|f| f.latency_ms.1)?);
            Some(format!("{p50:.2} / {p99:.2}, {:.0}/s", of(|f| f.rate)?))
        });
        self.add_troubles(&mut page);
        page
    }

    fn add_table(&self, page: &mut String, cell: impl Fn(&Self, Scene, u16) -> Option<String>) {
        let heads: Vec<String> =
            self.shards.iter().map(|n| format!("{n} shard{}", if *n == 1 { "" } else { "s" })).collect();
        let _ = writeln!(page, "| scene | {} |\n|---|{}", heads.join(" | "), "---|".repeat(heads.len()));
        for scene in Scene::ALL {
            let cells = self.shards.iter().map(|&shards| cell(self, scene, shards).unwrap_or_else(|| "–".to_owned()));
            let _ = writeln!(page, "| {} | {} |", scene.name(), cells.collect::<Vec<_>>().join(" | "));
        }
    }

    fn add_troubles(&self, page: &mut String) {
        let mut troubles = Vec::new();
        for ScalingRun { round, shards, scene, figures } in &self.runs {
            let what = match figures {
                Err(error) => format!("failed: {error}"),
                Ok(figures) if figures.lost > 0 => format!("lost {} deliveries", figures.lost),
                Ok(figures) if figures.generator_share > GENERATOR_SHARE_MAX => {
                    "kept the load generator's core full".to_owned()
                }
                Ok(_) => continue,
            };
            troubles.push(format!("{}, {shards} shards, round {}: {what}.", scene.name(), round + 1));
        }
        if !troubles.is_empty() {
            page.push_str("\n## To be known\n\n");
            for trouble in troubles {
                let _ = writeln!(page, "- {}", trouble.replace('\n', " "));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(cpu_us: f64) -> ScalingFigures {
        ScalingFigures {
            cpu_us,
            rate: 1000.0,
            hops: 2.0,
            model: 2.0,
            to_all: 8.0,
            wakes: 1.0,
            turns: 3.0,
            latency_ms: (1.0, 2.0),
            lost: 0,
            generator_share: 0.5,
        }
    }

    #[test]
    fn ratios_are_those_of_the_same_round() {
        let mut runs = Vec::new();
        // The machine is twice as slow in the second round; the ratio does not show it.
        for (round, speed) in [(0, 1.0), (1, 2.0), (2, 1.0)] {
            for (shards, cpu_us) in [(1, 4.0), (8, 5.0)] {
                runs.push(ScalingRun { round, shards, scene: Scene::Groups, figures: Ok(figures(cpu_us * speed)) });
            }
            runs.push(ScalingRun { round, shards: 8, scene: Scene::Calm, figures: Ok(figures(7.0)) });
        }
        runs.push(ScalingRun { round: 0, shards: 1, scene: Scene::Direct, figures: Err("it ended".to_owned()) });
        let text = String::new;
        let sheet = ScalingSheet {
            date: text(),
            machine: text(),
            commit: text(),
            command: text(),
            cores: 1,
            shards: vec![1, 8],
            runs,
        };
        assert_eq!(sheet.ratio(Scene::Groups, 8), Some(1.25));
        assert_eq!(sheet.ratio(Scene::Calm, 8), Some(1.0), "there is none with one shard");
        let page = sheet.markdown();
        assert!(page.contains("| 40 groups of 20 | 4.00 (1.00) | 5.00 (1.25) |"), "{page}");
        assert!(page.contains("2.00 / 2.00 [8.00], 1.00 wakes, 3.00 turns"), "{page}");
        assert!(page.contains("direct, saturated, 1 shards, round 1: failed: it ended."), "{page}");
    }
}
