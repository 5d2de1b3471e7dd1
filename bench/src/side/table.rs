//! The report: medians of all rounds, ratios to the floor of the same round, as JSON and as a
//! Markdown page.
//!
//! Owns: [`Sheet`], everything that was measured, and how it is written down.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::scenario::{Figures, Scenario};
use super::server::Server;
use crate::median::median;

/// An open loop that got less than this share of its deliveries in time has fallen behind.
const BEHIND_SHARE: f64 = 0.95;
/// Above this share of its core the generator may be what is measured.
const GENERATOR_SHARE_MAX: f64 = 0.95;

/// One measurement.
#[derive(Clone, Debug)]
pub struct Run {
    /// From 0.
    pub round: usize,
    /// Who.
    pub server: Server,
    /// Under what.
    pub scenario: Scenario,
    /// What came of it, or why nothing did.
    pub figures: Result<Figures, String>,
}

/// A column: its heading, its unit, the scenario it comes from and the figure of that.
pub struct Column {
    /// Heading.
    pub name: &'static str,
    /// Of which scenario.
    pub scenario: &'static str,
    /// Digits after the point.
    digits: usize,
    /// Whether it is processor time, which the picture shows.
    pub is_cpu: bool,
    /// Which figure.
    figure: fn(&Figures) -> Option<f64>,
}

/// The columns of the table.
pub const COLUMNS: [Column; 10] = [
    Column::new("bytes per idle connection", "idle", 0, |f| f.bytes_per_connection).of_bytes(),
    Column::new("1,000 × 50/s", "group-1000", 2, |f| f.delivery_us),
    Column::new("10,000 × 10/s", "group-10000", 2, |f| f.delivery_us),
    Column::new("1,000 × 50/s, 1 KiB", "group-1000-long", 2, |f| f.delivery_us),
    Column::new("bytes of these", "group-1000-long", 0, |f| f.delivery_bytes).of_bytes(),
    Column::new("1,000, 10 publishers, 200/s", "busy", 2, |f| f.delivery_us),
    Column::new("saturated, window 16", "saturated", 2, |f| f.delivery_us),
    Column::new("direct, 100 pairs, window 1", "direct", 2, |f| f.delivery_us),
    Column::new("direct, 10,000/s", "direct-10000", 2, |f| f.delivery_us),
    Column::new("connect", "idle", 1, |f| f.connect_us),
];

impl Column {
    const fn new(
        name: &'static str,
        scenario: &'static str,
        digits: usize,
        figure: fn(&Figures) -> Option<f64>,
    ) -> Self {
        Self { name, scenario, digits, is_cpu: true, figure }
    }

    /// Bytes are no processor time.
    const fn of_bytes(mut self) -> Self {
        self.is_cpu = false;
        self
    }
}

/// Everything that was measured.
pub struct Sheet {
    /// `2026-11-20`.
    pub date: String,
    /// Processor, cores, kernel.
    pub machine: String,
    /// Version of the tree, as git says; empty: unknown.
    pub commit: String,
    /// How it was called.
    pub command: String,
    /// In the order in which it was done.
    pub runs: Vec<Run>,
    /// Who was not measured, and why.
    pub skipped: Vec<(Server, String)>,
}

impl Sheet {
    /// The median of a column for a server.
    #[must_use]
    pub fn median(&self, server: Server, column: &Column) -> Option<f64> {
        median(self.good(server, column.scenario).filter_map(|(_, figures)| (column.figure)(figures)).collect())
    }

    /// The median of the ratios to the floor of the same round.
    #[must_use]
    pub fn ratio(&self, server: Server, column: &Column) -> Option<f64> {
        let ratios = self.good(server, column.scenario).filter_map(|(round, figures)| {
            let mut floors = self.good(Server::Floor, column.scenario);
            let floor = floors.find(|(other, _)| *other == round)?.1;
            Some((column.figure)(figures)? / (column.figure)(floor)?)
        });
        median(ratios.collect())
    }

    fn good<'a>(&'a self, server: Server, scenario: &'a str) -> impl Iterator<Item = (usize, &'a Figures)> + 'a {
        let runs = self.runs.iter().filter(move |run| run.server == server && run.scenario.name() == scenario);
        runs.filter_map(|run| Some((run.round, run.figures.as_ref().ok()?)))
    }

    /// Servers with at least one figure, in the order of the table.
    pub fn servers(&self) -> impl Iterator<Item = Server> + '_ {
        let measured = |server: &Server| self.runs.iter().any(|run| run.server == *server && run.figures.is_ok());
        Server::ALL.into_iter().filter(measured)
    }

    /// All runs, medians and ratios.
    #[must_use]
    pub fn json(&self) -> Value {
        let run = |run: &Run| {
            let mut object = match &run.figures {
                Ok(figures) => figures.json(),
                Err(error) => json!({ "error": error }),
            };
            object["round"] = json!(run.round);
            object["server"] = json!(run.server.name());
            object["scenario"] = json!(run.scenario.name());
            object
        };
        let summary = |server: Server| {
            let columns = COLUMNS.iter().map(|column| {
                let figures = json!({ "median": self.median(server, column), "to_floor": self.ratio(server, column) });
                (column.name.to_owned(), figures)
            });
            (server.name().to_owned(), Value::Object(columns.collect()))
        };
        json!({
            "date": self.date,
            "machine": self.machine,
            "commit": self.commit,
            "command": self.command,
            "skipped": self.skipped.iter().map(|(server, why)| (server.name(), why)).collect::<Vec<_>>(),
            "summary": self.servers().map(summary).collect::<serde_json::Map<_, _>>(),
            "runs": self.runs.iter().map(run).collect::<Vec<_>>(),
        })
    }

    /// The page; `plot` is the name of the picture beside it.
    #[must_use]
    pub fn markdown(&self, plot: &str) -> String {
        let mut page = format!("# Side by side, {}\n\n{}.", self.date, self.machine);
        if !self.commit.is_empty() {
            let _ = write!(page, " Commit {}.", self.commit);
        }
        let _ = writeln!(page, " Made by:\n\n```\n{}\n```\n", self.command);
        page.push_str(
            "Each server alone on one core, the load generator on another, interleaved; loopback, messages of 150 bytes if nothing else is said. CPU is that of the whole \
             process, all threads, in microseconds per delivery (last column: per connection and upgrade) over the steady stretch. A cell is the median of \
             all rounds; in parentheses the median of the ratios to the floor of the same round.\n\n",
        );
        let names: Vec<&str> = COLUMNS.iter().map(|column| column.name).collect();
        let _ = writeln!(page, "| server | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len()));
        for server in self.servers() {
            let cells: Vec<String> = COLUMNS.iter().map(|column| self.cell(server, column)).collect();
            let _ = writeln!(page, "| {} | {} |", server.name(), cells.join(" | "));
        }
        let _ = writeln!(page, "\n![CPU per delivery, relative to the floor]({plot})\n");
        self.add_latency(&mut page);
        self.add_inside(&mut page);
        page.push_str("\n## Who is who\n\n");
        for server in self.servers() {
            let _ = writeln!(page, "- **{}**: {}.", server.name(), server.describe());
        }
        self.add_troubles(&mut page);
        page
    }

    fn cell(&self, server: Server, column: &Column) -> String {
        let Some(value) = self.median(server, column) else { return "–".to_owned() };
        let mut cell = format!("{value:.*}", column.digits);
        if let Some(ratio) = self.ratio(server, column).filter(|_| server != Server::Floor) {
            let _ = write!(cell, " ({ratio:.2})");
        }
        if self.is_behind(server, column.scenario) {
            cell.push_str(" falls behind");
        }
        cell
    }

    /// Whether most rounds delivered clearly less than was asked.
    fn is_behind(&self, server: Server, scenario: &str) -> bool {
        let Some(offered) =
            self.runs.iter().find(|run| run.scenario.name() == scenario).and_then(|r| r.scenario.offered())
        else {
            return false;
        };
        median(self.good(server, scenario).filter_map(|(_, figures)| figures.rate).collect())
            .is_some_and(|rate| rate < offered * BEHIND_SHARE)
    }

    fn add_latency(&self, page: &mut String) {
        let columns: Vec<&Column> =
            COLUMNS.iter().filter(|column| column.is_cpu && column.scenario != "idle").collect();
        let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
        page.push_str("## Latency and throughput\n\nMilliseconds from when a message was due until it was read, p50 / p99, and deliveries per second.\n\n");
        let _ = writeln!(page, "| server | {} |\n|---|{}", names.join(" | "), "---|".repeat(names.len()));
        for server in self.servers() {
            let cell = |column: &&Column| {
                let of = |figure: fn(&Figures) -> Option<f64>| {
                    median(self.good(server, column.scenario).filter_map(|(_, figures)| figure(figures)).collect())
                };
                let latency = (of(|f| Some(f.latency_ms?.0)), of(|f| Some(f.latency_ms?.1)), of(|f| f.rate));
                let (Some(p50), Some(p99), Some(rate)) = latency else { return "–".to_owned() };
                format!("{p50:.2} / {p99:.2}, {rate:.0}/s")
            };
            let cells: Vec<String> = columns.iter().map(cell).collect();
            let _ = writeln!(page, "| {} | {} |", server.name(), cells.join(" | "));
        }
    }

    /// What the gateway counted under direct messages, and when their authors had their acks.
    fn add_inside(&self, page: &mut String) {
        let scenarios: Vec<&Column> = COLUMNS.iter().filter(|column| column.scenario.starts_with("direct")).collect();
        let rows: Vec<String> = self
            .servers()
            .flat_map(|server| scenarios.iter().filter_map(move |column| self.inside_row(server, column)))
            .collect();
        if rows.is_empty() {
            return;
        }
        page.push_str(
            "\n## Inside, under direct messages\n\nFor each delivery: messages from shard to shard, wake-ups of sleeping shards, sends, turns of the loops (a poll \
             each). A hop is the time from the end of the turn in which one shard said it until the other takes it; an ack, from when the message was due.\n\n\
             | server | load | hops | wake-ups | sends | turns | hop p50 / p99, µs | ack p50 / p99, ms |\n|---|---|---|---|---|---|---|---|\n",
        );
        rows.iter().for_each(|row| page.push_str(row));
    }

    fn inside_row(&self, server: Server, column: &Column) -> Option<String> {
        let of = |figure: fn(&Figures) -> Option<f64>| {
            median(self.good(server, column.scenario).filter_map(|(_, figures)| figure(figures)).collect())
        };
        let per = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"));
        let pair =
            |a: Option<f64>, b: Option<f64>| if a.is_some() { format!("{} / {}", per(a), per(b)) } else { per(a) };
        of(|f| Some(f.inside?.sends))?;
        // A gateway of one shard has no hops to time.
        let hop = |value: Option<f64>| value.filter(|&us| us > 0.0);
        Some(format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} |\n",
            server.name(),
            column.name,
            per(of(|f| Some(f.inside?.hops))),
            per(of(|f| Some(f.inside?.wakes))),
            per(of(|f| Some(f.inside?.sends))),
            per(of(|f| Some(f.inside?.turns))),
            pair(hop(of(|f| Some(f.inside?.hop_us.0))), hop(of(|f| Some(f.inside?.hop_us.1)))),
            pair(of(|f| Some(f.ack_ms?.0)), of(|f| Some(f.ack_ms?.1))),
        ))
    }

    fn add_troubles(&self, page: &mut String) {
        let mut troubles: Vec<String> =
            self.skipped.iter().map(|(server, why)| format!("{} was not measured: {why}.", server.name())).collect();
        for Run { round, server, scenario, figures } in &self.runs {
            let what = match figures {
                Err(error) => format!("failed: {error}"),
                Ok(figures) if figures.lost > 0 => format!("lost {} deliveries", figures.lost),
                Ok(figures) if figures.generator_share > GENERATOR_SHARE_MAX => {
                    "kept the load generator's core full".to_owned()
                }
                Ok(_) => continue,
            };
            troubles.push(format!("{} under {}, round {}: {what}.", server.name(), scenario.name(), round + 1));
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

    fn sheet() -> Sheet {
        let run = |round, server, us| {
            let figures = Figures {
                delivery_us: Some(us),
                rate: Some(49_000.0),
                latency_ms: Some((1.0, 2.0)),
                ..Figures::default()
            };
            Run { round, server, scenario: Scenario::Group1000, figures: Ok(figures) }
        };
        let mut runs = Vec::new();
        // The machine is twice as slow in the second round; the ratio does not show it.
        for (round, speed) in [(0, 1.0), (1, 2.0), (2, 1.0)] {
            runs.push(run(round, Server::Floor, 4.0 * speed));
            runs.push(run(round, Server::Volatile, 5.0 * speed));
        }
        let failed =
            Run { round: 0, server: Server::Node, scenario: Scenario::Direct, figures: Err("it ended".to_owned()) };
        runs.push(failed);
        let text = String::new;
        let skipped = vec![(Server::Nats, "is not there".to_owned())];
        Sheet { date: text(), machine: text(), commit: text(), command: text(), runs, skipped }
    }

    #[test]
    fn ratios_are_those_of_the_same_round() {
        let sheet = sheet();
        let column = COLUMNS.iter().find(|column| column.scenario == "group-1000").expect("a column");
        assert_eq!(sheet.median(Server::Volatile, column), Some(5.0));
        assert_eq!(sheet.ratio(Server::Volatile, column), Some(1.25));
        assert_eq!(sheet.json()["summary"]["imgate-volatile"]["1,000 × 50/s"]["to_floor"], 1.25);
        assert_eq!(median(vec![3.0, 1.0]), Some(2.0));
    }

    #[test]
    fn the_page_tells_what_went_wrong() {
        let page = sheet().markdown("x.svg");
        assert!(page.contains("| imgate-volatile | – | 5.00 (1.25) |"), "{page}");
        assert!(page.contains("node-ws under direct, round 1: failed: it ended."), "{page}");
        assert!(page.contains("nats-server was not measured: is not there."), "{page}");
        assert!(!page.contains("falls behind"), "{page}");
    }
}
