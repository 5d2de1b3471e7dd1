//! `cost`: what a direct message costs several gateways, stored and volatile, saturated and at half
//! of that, in interleaved rounds of one run.
//!
//! Owns: the rounds, the medians, the table. The traffic is that of `direct`, and judged as there.
//! Never: compares what was not measured in the same rounds.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Map, Value, json};

use super::direct::{self, Load, Outcome};
use super::fleet::{Folder, Gateway, keep};
use crate::clock::Clock;
use crate::exit::Exit;
use crate::goals::milliseconds;
use crate::interrupt::Interrupt;
use crate::limits::{CONNECTIONS_MAX, SECONDS_MAX, THREADS_MAX, WINDOW_MAX};
use crate::options::{Measure, Options};
use crate::report::Report;
use crate::say::say;
use crate::stamp::Run;

#[derive(Args, Clone, Debug)]
pub(crate) struct Flags {
    /// The program of the gateways that are started: `sqlite`, `mariadb` (with --mariadb) and
    /// `volatile`.
    #[arg(long, default_value = "imgate")]
    imgate: PathBuf,
    /// An empty database for `mariadb`: mysql://user:password@host:port/database. Without it there
    /// is no such gateway.
    #[arg(long)]
    mariadb: Option<String>,
    /// Shards of the gateways that are started.
    #[arg(long, default_value_t = 2)]
    shards: u16,
    /// Compare these instead: a name and a command line, in which {listen}, {admin} and {data}
    /// stand for two addresses and a folder. Repeatable.
    #[arg(long, num_args = 2, value_names = ["NAME", "COMMAND"], action = clap::ArgAction::Append)]
    server_cmd: Vec<String>,
    /// Compare this one, too, which runs already: a name, HOST:PORT, and the URL of its metrics or
    /// `off`. Repeatable.
    #[arg(long, num_args = 3, value_names = ["NAME", "TARGET", "METRICS"], action = clap::ArgAction::Append)]
    running: Vec<String>,
    /// Pairs of users.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=CONNECTIONS_MAX as i64 / 2))]
    pairs: u32,
    /// Messages that each pair keeps under way to saturate a gateway.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=WINDOW_MAX as i64))]
    window: u32,
    #[command(flatten)]
    measure: Measure,
    /// Rounds; the figures are the medians of them.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Engine threads.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=THREADS_MAX as i64))]
    threads: u16,
    /// Fail when the first gateway costs more than this factor of the last one's CPU for each
    /// message, saturated.
    #[arg(long)]
    cpu_factor: Option<f64>,
    /// Fail when the ack p99 of any gateway at half of saturation is above so many milliseconds.
    #[arg(long, alias = "p99-ms", value_name = "MS", value_parser = milliseconds)]
    ack_p99_ms: Option<f64>,
    /// Messages that the gateways may refuse, or not take, without failing the run.
    #[arg(long, value_name = "N", default_value_t = 0)]
    refused_max: u64,
    /// Allow a target that is not this machine.
    #[arg(long)]
    i_own_the_target: bool,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What one run showed.
#[derive(Clone, Copy, Default, Debug)]
struct Figures {
    acked_per_second: f64,
    cpu_us: Option<f64>,
    batch: Option<f64>,
    p50_ms: f64,
    p99_ms: f64,
    server_percent: Option<f64>,
    client_percent: Option<f64>,
    /// Lost, doubled, out of order, shown to a stranger, unanswered or dropped.
    faults: u64,
    /// Refused for good, or not taken.
    refused: u64,
}

impl Figures {
    fn of(outcome: &Outcome) -> Self {
        let Outcome { plan, steady, tally, lost, .. } = outcome;
        let ms = |quantile| tally.ack_ns.value_at_quantile(quantile) as f64 / 1e6;
        let unanswered = plan.board.sum(|l| &l.pending) + plan.board.sum(|l| &l.dropped);
        Self {
            acked_per_second: steady.acked_per_second,
            cpu_us: steady.server_percent.map(|percent| percent * 1e4 / steady.acked_per_second),
            batch: steady.mean_batch,
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            server_percent: steady.server_percent,
            client_percent: steady.client_percent,
            faults: lost + tally.doubled + tally.out_of_order + tally.misdelivered + unanswered,
            refused: plan.board.sum(|l| &l.refused) + tally.unsent,
        }
    }

    /// Of each figure the median; of faults and refusals the sum.
    fn median(all: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> Option<f64>| median(all.iter().filter_map(figure).collect());
        Self {
            acked_per_second: of(|f| Some(f.acked_per_second)).unwrap_or_default(),
            cpu_us: of(|f| f.cpu_us),
            batch: of(|f| f.batch),
            p50_ms: of(|f| Some(f.p50_ms)).unwrap_or_default(),
            p99_ms: of(|f| Some(f.p99_ms)).unwrap_or_default(),
            server_percent: of(|f| f.server_percent),
            client_percent: of(|f| f.client_percent),
            faults: all.iter().map(|f| f.faults).sum(),
            refused: all.iter().map(|f| f.refused).sum(),
        }
    }

    fn json(&self, gateway: &str, load: &str) -> Value {
        json!({
            "gateway": gateway,
            "load": load,
            "acked_per_second": self.acked_per_second,
            "cpu_us_per_message": self.cpu_us,
            "mean_batch": self.batch,
            "ack_p50_ms": self.p50_ms,
            "ack_p99_ms": self.p99_ms,
            "server_cpu_percent": self.server_percent,
            "client_cpu_percent": self.client_percent,
        })
    }

    fn row(&self, gateway: &str, load: &str, base: Option<f64>) -> String {
        let known = |value: Option<f64>, digits| value.map_or_else(|| "–".to_owned(), |v: f64| format!("{v:.digits$}"));
        let ratio = self.cpu_us.zip(base).map(|(own, base)| own / base);
        format!(
            "| {gateway} | {load} | {:.0} | {} | {} | {} | {:.2} | {:.2} | {} | {} |\n",
            self.acked_per_second,
            known(self.cpu_us, 1),
            known(ratio, 2),
            known(self.batch, 1),
            self.p50_ms,
            self.p99_ms,
            known(self.server_percent, 0),
            known(self.client_percent, 0),
        )
    }
}

/// The two loads of each gateway.
const LOADS: [&str; 2] = ["saturated", "half"];

/// The rows by gateway and load: figures that have names can be compared with those of another run.
fn by_name(rows: &[Value]) -> Value {
    let mut all = Map::new();
    for row in rows {
        let [gateway, load] = ["gateway", "load"].map(|key| row[key].as_str().unwrap_or_default());
        let of = all.entry(gateway).or_insert_with(|| json!({}));
        of[load] = row.clone();
    }
    Value::Object(all)
}

/// The middle one, or the mean of the middle two.
fn median(mut all: Vec<f64>) -> Option<f64> {
    all.sort_unstable_by(f64::total_cmp);
    let (low, high) = (all.get(all.len().checked_sub(1)? / 2)?, all.get(all.len() / 2)?);
    Some((low + high) / 2.0)
}

impl Flags {
    fn gateways(&self, folder: &Folder) -> Result<Vec<Gateway>> {
        let mut gateways = Vec::new();
        for two in self.server_cmd.chunks_exact(2) {
            gateways.push(Gateway::to_start(&two[0], &two[1], folder)?);
        }
        for three in self.running.chunks_exact(3) {
            gateways.push(Gateway::running(&three[0], &three[1], &three[2], self.i_own_the_target, folder)?);
        }
        if gateways.is_empty() {
            let program = self.imgate.to_str().context("--imgate is no text")?;
            let quoted = format!("'{}'", program.replace('\'', r"'\''"));
            let common =
                format!("{quoted} --listen {{listen}} --admin {{admin}} --data {{data}} --shards {}", self.shards);
            gateways.push(Gateway::to_start("sqlite", &common, folder)?);
            if let Some(url) = &self.mariadb {
                let url = url.replace('\'', r"'\''");
                gateways.push(Gateway::to_start("mariadb", &format!("{common} --store '{url}'"), folder)?);
            }
            gateways.push(Gateway::to_start("volatile", &format!("{common} --durability volatile"), folder)?);
        }
        let mut names: Vec<&str> = gateways.iter().map(|gateway| gateway.name.as_str()).collect();
        let plain = |name: &&str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        ensure!(names.iter().all(plain), "names are letters, digits and dashes");
        names.sort_unstable();
        names.dedup();
        ensure!(names.len() == gateways.len(), "two gateways of the same name");
        Ok(gateways)
    }

    fn one(&self, gateway: &Gateway, load: Load, interrupt: &Interrupt) -> Result<Figures> {
        let options = Options::inner(gateway.target.clone(), gateway.tokens.clone(), self.threads);
        let flags = direct::Flags::plain(options, self.measure, self.pairs, load);
        let probe = gateway.probe();
        let outcome =
            direct::measure(&flags, probe.as_ref(), interrupt).with_context(|| format!("gateway {}", gateway.name))?;
        Ok(Figures::of(&outcome))
    }

    /// For each gateway, all rounds: saturated, and at half of what the gateway had done in its
    /// saturated ones so far. What was interrupted is not among them.
    fn rounds(&self, gateways: &[Gateway], interrupt: &Interrupt) -> Result<Vec<[Vec<Figures>; 2]>> {
        let mut all = vec![[Vec::new(), Vec::new()]; gateways.len()];
        for round in 1..=self.rounds {
            for (gateway, [saturated, _]) in gateways.iter().zip(&mut all) {
                say(&format!("round {round} of {}: {}, saturated", self.rounds, gateway.name));
                let figures = self.one(gateway, Load::Window(self.window), interrupt)?;
                if interrupt.is_set() {
                    return Ok(all);
                }
                saturated.push(figures);
            }
            for (gateway, [saturated, half]) in gateways.iter().zip(&mut all) {
                say(&format!("round {round} of {}: {}, half", self.rounds, gateway.name));
                // Each message is answered, so half of the messages are a quarter as many
                // questions.
                let rate = (Figures::median(saturated).acked_per_second / 4.0) as u64;
                let figures = self.one(gateway, Load::Rate(rate.max(1)), interrupt)?;
                if interrupt.is_set() {
                    return Ok(all);
                }
                half.push(figures);
            }
        }
        Ok(all)
    }
}

pub(crate) fn run(flags: &Flags, interrupt: &Interrupt) -> Result<Report> {
    let seconds = u64::from(flags.rounds) * flags.measure.seconds;
    ensure!(seconds <= SECONDS_MAX, "--rounds x --seconds is {seconds}: at most {SECONDS_MAX}");
    let (run, clock) = (Run::new().number(), Clock::start());
    let folder = Folder::new(run)?;
    ensure!(folder.path().is_dir(), "no temporary folder");
    let gateways = flags.gateways(&folder)?;
    let all = keep(&gateways, flags.pairs as usize * 2, run, clock, interrupt, || flags.rounds(&gateways, interrupt))?;

    let mut report = Report::new("cost", interrupt);
    report.count("pairs", u64::from(flags.pairs));
    report.count("window", u64::from(flags.window));
    report.count("payload_bytes", u64::from(flags.measure.payload));
    report.count("seconds", flags.measure.seconds);
    report.count("rounds", u64::from(flags.rounds));
    let medians: Vec<[Figures; 2]> =
        all.iter().map(|[saturated, half]| [Figures::median(saturated), Figures::median(half)]).collect();
    let base = |load: usize| medians.last().and_then(|last| last[load].cpu_us);
    let last = gateways.last().map_or("", |gateway| gateway.name.as_str());
    let mut table = format!(
        "\n\n| gateway | load | acked/s | CPU µs each | × {last} | mean batch | ack p50 ms | ack p99 ms | server CPU % | client CPU % |\n\
         |---|---|---|---|---|---|---|---|---|---|\n"
    );
    let mut rows = Vec::new();
    for (gateway, figures) in gateways.iter().zip(&medians) {
        for ((load, name), figures) in LOADS.into_iter().enumerate().zip(figures) {
            table.push_str(&figures.row(&gateway.name, name, base(load)));
            rows.push(figures.json(&gateway.name, name));
        }
    }
    let names: Vec<&str> = gateways.iter().map(|gateway| gateway.name.as_str()).collect();
    report.value("gateways", by_name(&rows), names.join(", "));
    report.value("medians", json!(rows), table);
    report.must_be_zero("faults", medians.iter().flatten().map(|figures| figures.faults).sum());
    let refused = medians.iter().flatten().map(|figures| figures.refused).sum();
    report.count("refused", refused);
    if refused > flags.refused_max {
        report.fail(Exit::Refused, format!("refused: {refused}"));
    }
    for (gateway, figures) in gateways.iter().zip(&medians) {
        if figures.iter().any(|figures| figures.acked_per_second <= 0.0) {
            report.must_not_be_zero(&format!("acked by {}", gateway.name), 0);
        }
    }
    if let Some(most) = flags.cpu_factor {
        let first = medians.first().and_then(|first| first[0].cpu_us);
        let factor = first.zip(base(0)).map(|(first, base)| first / base);
        report.exceeded("cpu_factor_exceeded", factor.is_none_or(|factor| factor > most));
    }
    if let Some(most) = flags.ack_p99_ms {
        let slow = medians.iter().filter(|[_, half]| half.p99_ms > most).count();
        report.exceeded("ack_p99_exceeded", slow > 0);
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }

    #[test]
    fn rows_are_found_by_gateway_and_load() {
        let figures = Figures { acked_per_second: 7.0, cpu_us: Some(3.0), ..Figures::default() };
        let rows = [figures.json("sqlite", LOADS[0]), figures.json("sqlite", LOADS[1]), figures.json("b", LOADS[1])];
        let all = by_name(&rows);
        assert_eq!(all["sqlite"]["saturated"]["cpu_us_per_message"], 3.0);
        assert_eq!((&all["b"]["half"]["acked_per_second"], &all["b"]["saturated"]), (&json!(7.0), &Value::Null));
    }
}
