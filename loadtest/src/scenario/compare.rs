//! `compare`: two reports beside each other, as `--json` has kept them.
//!
//! Owns: which figures are better when they are larger, and which when they are smaller.
//! Never: judges a figure whose better side it does not know, or takes one that is missing for
//! good.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::exit::Exit;
use crate::interrupt::Interrupt;
use crate::report::Report;

#[derive(Args, Clone, Debug)]
pub(crate) struct Flags {
    /// The earlier report.
    before: PathBuf,
    /// The later one.
    after: PathBuf,
    /// Fail when a latency, a rate, or what a message or a connection costs is worse by more than
    /// so many percent or is not there any more, or when the later verdict is worse.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=1_000))]
    worse_max: Option<u32>,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the report as one HTML page, too.
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

/// Which way is better.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Better {
    Larger,
    Smaller,
}

impl Better {
    /// Of a figure of that name, if it is known.
    fn of(name: &str) -> Option<Self> {
        let (of, last) = name.rsplit_once('/').unwrap_or(("", name));
        // How late the generator was itself.
        if of == "lateness" {
            return None;
        }
        match last {
            "capacity" => Some(Self::Larger),
            _ if last.ends_with("_per_second") => Some(Self::Larger),
            "p50_ms" | "p90_ms" | "p99_ms" | "p99.9_ms" | "ack_p50_ms" | "ack_p99_ms" => Some(Self::Smaller),
            _ => COSTS.iter().any(|of| last.ends_with(of)).then_some(Self::Smaller),
        }
    }
}

/// How the names of what something costs end.
const COSTS: [&str; 8] = [
    "_per_delivery",
    "_per_connection",
    "_per_connect",
    "_per_upgrade",
    "_per_message",
    "_per_client",
    "_per_going",
    "_per_coming",
];

fn read(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let report: Value = serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
    ensure!(report["scenario"].is_string(), "{} is no report of `autoclient --json`", path.display());
    Ok(report)
}

/// The numbers of a report by their names. What a run was like second by second or step by step is
/// not among them.
fn figures(report: &Value) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    let mut inside = vec![(String::new(), report)];
    while let Some((name, value)) = inside.pop() {
        match value {
            Value::Object(fields) => inside.extend(fields.iter().map(|(key, value)| {
                let name = if name.is_empty() { key.clone() } else { format!("{name}/{key}") };
                (name, value)
            })),
            Value::Number(number) => _ = found.insert(name, number.as_f64().unwrap_or_default()),
            _ => {}
        }
    }
    found.remove("exit_code");
    found
}

/// By how many percent `after` is worse; negative: it is better.
fn worse_percent(better: Better, before: f64, after: f64) -> Option<f64> {
    let more = (before > 0.0).then(|| (after / before - 1.0) * 100.0)?;
    Some(match better {
        Better::Smaller => more,
        Better::Larger => -more,
    })
}

pub(crate) fn run(flags: &Flags, interrupt: &Interrupt) -> Result<Report> {
    let (before, after) = (read(&flags.before)?, read(&flags.after)?);
    ensure!(
        before["scenario"] == after["scenario"],
        "the reports are of different scenarios: {} and {}",
        before["scenario"],
        after["scenario"]
    );
    for (path, report) in [(&flags.before, &before), (&flags.after, &after)] {
        let verdict = report["verdict"].as_str().unwrap_or_default();
        let whole = ![Exit::Interrupted, Exit::Worker].iter().any(|exit| exit.name() == verdict);
        ensure!(whole, "{} is of a run that was cut short ({verdict}): that is no comparison", path.display());
    }
    let mut report = Report::new("compare", interrupt);
    report.text("of", before["scenario"].as_str().unwrap_or_default());
    let verdicts = [&before, &after].map(|report| report["verdict"].as_str().unwrap_or("not known"));
    report.value("verdicts", json!(verdicts), verdicts.join(" > "));
    let judged = side_by_side(&mut report, &figures(&before), &figures(&after), flags.worse_max);
    if flags.worse_max.is_some() {
        if let [Some(was), is] = verdicts.map(Exit::named)
            && is.is_none_or(|is| is.is_worse_than(was))
        {
            // Of a run that failed no figure says how well it went.
            let exit = if is == Some(Exit::Exceeded) { Exit::Exceeded } else { Exit::Failed };
            report.fail(exit, format!("the verdict was {} and is {}", verdicts[0], verdicts[1]));
        }
        report.must_not_be_zero("figures that could be judged", judged);
    }
    Ok(report)
}

/// Tells every figure that both have, with the verdict on those whose better side is known. Gives
/// how many these are.
fn side_by_side(
    report: &mut Report,
    before: &BTreeMap<String, f64>,
    after: &BTreeMap<String, f64>,
    worse_max: Option<u32>,
) -> u64 {
    let mut judged = 0;
    for (name, &was) in before {
        let better = Better::of(name);
        judged += u64::from(better.is_some());
        let Some(&is) = after.get(name) else {
            // What was not measured may be anything.
            if better.is_some() && worse_max.is_some() {
                let value = json!({ "before": was, "after": null, "worse_percent": null });
                report.named(name.clone(), value, format!("{was:.3} > not known"));
                report.fail(Exit::Exceeded, format!("{name} was {was:.3} and is not known"));
            }
            continue;
        };
        let worse = better.and_then(|better| worse_percent(better, was, is));
        let change = if was == 0.0 { String::new() } else { format!("  ({:+.1} %)", (is / was - 1.0) * 100.0) };
        let value = json!({ "before": was, "after": is, "worse_percent": worse });
        if let (Some(worse), Some(most)) = (worse, worse_max)
            && worse > f64::from(most)
        {
            report.fail(Exit::Exceeded, format!("{name} is worse by {worse:.1} %"));
        }
        report.named(name.clone(), value, format!("{was:.3} > {is:.3}{change}"));
    }
    judged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(before: &Value, after: &Value, worse_max: Option<u32>) -> Result<Report> {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or_default().replace("::", "-");
        let dir = std::env::temp_dir().join(format!("autoclient-compare-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        let paths = [dir.join("before"), dir.join("after")];
        for (path, report) in paths.iter().zip([before, after]) {
            std::fs::write(path, report.to_string())?;
        }
        let [before, after] = paths;
        let report = run(&Flags { before, after, worse_max, json: false, html: None }, &Interrupt::default());
        std::fs::remove_dir_all(dir)?;
        report
    }

    fn direct(p99: f64, rate: f64) -> Value {
        json!({
            "scenario": "direct", "verdict": "passed", "exit_code": 0, "sent": 10, "lost": 0,
            "ack_latency": { "count": 9, "p99_ms": p99 }, "deliveries_per_second": rate, "cpu_us_per_delivery": null,
        })
    }

    #[test]
    fn figures_stand_beside_each_other_and_worse_ones_fail() {
        let report = compared(&direct(10.0, 100.0), &direct(12.0, 90.0), None).expect("two reports");
        assert_eq!(report.exit(), Exit::Passed, "without a bound nothing is judged");
        let text = report.render(false);
        assert!(text.contains("10.000 > 12.000  (+20.0 %)") && text.contains("lost"), "{text}");
        let report = compared(&direct(10.0, 100.0), &direct(12.0, 90.0), Some(15)).expect("two reports");
        assert_eq!((report.exit(), report.failures().len()), (Exit::Exceeded, 1), "{:?}", report.failures());
        let report = compared(&direct(10.0, 100.0), &direct(10.0, 90.0), Some(10)).expect("two reports");
        assert_eq!(report.exit(), Exit::Passed, "ten percent less, as the table says: {:?}", report.failures());
        let report = compared(&direct(10.0, 100.0), &direct(5.0, 200.0), Some(0)).expect("two reports");
        assert_eq!(report.exit(), Exit::Passed, "better is not worse");
    }

    #[test]
    fn what_cannot_be_compared_is_an_error() {
        assert!(compared(&direct(1.0, 1.0), &json!({ "scenario": "fanout" }), Some(1)).is_err());
        assert!(compared(&direct(1.0, 1.0), &json!([1]), Some(2)).is_err());
        for cut_short in [Exit::Interrupted, Exit::Worker] {
            let mut other = direct(1.0, 1.0);
            other["verdict"] = json!(cut_short.name());
            assert!(compared(&direct(1.0, 1.0), &other, Some(3)).is_err(), "{other}");
            assert!(compared(&other, &direct(1.0, 1.0), Some(4)).is_err(), "{other}");
        }
    }

    #[test]
    fn how_late_the_generator_was_is_no_figure_of_the_server() {
        let late = |ms: f64| {
            let mut report = direct(1.0, 1.0);
            report["lateness"] = json!({ "count": 9, "p99_ms": ms });
            report
        };
        let report = compared(&late(0.1), &late(5.0), Some(5)).expect("two reports");
        assert_eq!(report.exit(), Exit::Passed, "{:?}", report.failures());
        assert!(report.render(false).contains("lateness/p99_ms"), "told all the same");
    }

    #[track_caller]
    fn ends(before: &Value, after: &Value, exit: Exit, why: &str) {
        let report = compared(before, after, Some(5)).expect("two reports");
        let failures = report.failures().join(", ");
        assert_eq!(report.exit(), exit, "{failures}");
        assert!(failures.contains(why), "{failures}");
        assert_eq!(compared(before, after, None).expect("two reports").exit(), Exit::Passed, "nothing is asked for");
    }

    #[test]
    fn what_was_measured_before_and_is_not_any_more_is_worse() {
        let capacity = |found: Value| json!({ "scenario": "capacity", "verdict": "passed", "capacity": found });
        let why = "capacity was 8000.000 and is not known";
        ends(&capacity(json!(8_000)), &capacity(Value::Null), Exit::Exceeded, why);
        let mut costly = direct(1.0, 1.0);
        costly["cpu_us_per_delivery"] = json!(3.5);
        ends(&costly, &direct(1.0, 1.0), Exit::Exceeded, "cpu_us_per_delivery was 3.500 and is not known");
        ends(&direct(1.0, 1.0), &costly, Exit::Passed, "");
    }

    #[test]
    fn a_worse_verdict_fails_whatever_the_figures_are() {
        let with = |exit: Exit| {
            let mut report = direct(1.0, 1.0);
            report["verdict"] = json!(exit.name());
            report
        };
        ends(&with(Exit::Passed), &with(Exit::Failed), Exit::Failed, "the verdict was passed and is failed");
        ends(&with(Exit::Limited), &with(Exit::Exceeded), Exit::Exceeded, "is bound exceeded");
        ends(&with(Exit::Passed), &with(Exit::Limited), Exit::Failed, "is generator at its limit");
        ends(&with(Exit::Failed), &with(Exit::Failed), Exit::Passed, "");
        ends(&with(Exit::Failed), &with(Exit::Passed), Exit::Passed, "");
        let mut other = direct(1.0, 1.0);
        other["verdict"] = json!("splendid");
        ends(&with(Exit::Failed), &other, Exit::Failed, "is splendid");
    }

    #[test]
    fn a_comparison_of_nothing_proves_nothing() {
        let check = json!({ "scenario": "check", "verdict": "passed", "missing": 0 });
        ends(&check, &check, Exit::Nothing, "figures that could be judged: 0");
    }

    #[test]
    fn every_cost_that_a_scenario_tells_is_judged() {
        for name in [
            "cpu_us_per_delivery",
            "bytes_per_connection",
            "anonymous_bytes_per_connection",
            "cpu_us_per_connect",
            "cpu_us_per_upgrade",
            "cpu_us_per_client",
            "cpu_us_per_going",
            "cpu_us_per_coming",
            "store_queries_per_client",
            "gateways/sqlite/half/cpu_us_per_message",
            "gateways/sqlite/half/ack_p99_ms",
        ] {
            assert_eq!(Better::of(name), Some(Better::Smaller), "{name}");
        }
    }
}
