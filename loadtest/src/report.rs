//! What a run says at its end: a table for people or one JSON document, and the exit code.
//!
//! Owns: [`Report`]. Both forms come from the same rows, so they cannot disagree.

use std::borrow::Cow;
use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::conduct::Steady;
use crate::exit::Exit;
use crate::interrupt::Interrupt;
use crate::page::Chart;
use crate::timeline::Point;

/// Rows in the order of their entry, and what failed.
#[derive(Debug)]
pub(crate) struct Report {
    scenario: &'static str,
    rows: Vec<(Cow<'static, str>, Value, String)>,
    /// The run second by second, for those forms that show it.
    points: Vec<Value>,
    charts: Vec<Chart>,
    failures: Vec<String>,
    exit: Exit,
}

impl Report {
    fn empty(scenario: &'static str) -> Self {
        Self {
            scenario,
            rows: Vec::new(),
            points: Vec::new(),
            charts: Vec::new(),
            failures: Vec::new(),
            exit: Exit::Passed,
        }
    }

    pub(crate) fn new(scenario: &'static str, interrupt: &Interrupt) -> Self {
        let mut report = Self::empty(scenario);
        if interrupt.has_signal() {
            report.fail(Exit::Interrupted, "interrupted".to_owned());
        }
        if let Some(why) = interrupt.failure() {
            report.fail(Exit::Worker, why.to_owned());
        }
        report
    }

    /// Of a run that was ended before it could measure anything.
    pub(crate) fn cut_short(scenario: &'static str, interrupt: &Interrupt, why: &str) -> Self {
        let mut report = Self::empty(scenario);
        if let Some(failure) = interrupt.failure() {
            report.fail(Exit::Worker, failure.to_owned());
        }
        if interrupt.has_signal() {
            report.fail(Exit::Interrupted, format!("interrupted: {why}"));
        }
        report
    }

    /// Whether the run was ended before its time: then what it has not come to is no failure.
    const fn is_cut_short(&self) -> bool {
        matches!(self.exit, Exit::Interrupted | Exit::Worker)
    }

    /// A count.
    pub(crate) fn count(&mut self, key: &'static str, n: u64) {
        self.rows.push((key.into(), json!(n), n.to_string()));
    }

    /// A count that must be zero.
    pub(crate) fn must_be_zero(&mut self, key: &'static str, n: u64) {
        self.count(key, n);
        if n > 0 {
            self.fail(Exit::Failed, format!("{key}: {n}"));
        }
    }

    /// A count that must be zero at the end of a whole run: of one that was cut short it is only
    /// told.
    pub(crate) fn must_be_zero_at_the_end(&mut self, key: &'static str, n: u64) {
        if self.is_cut_short() {
            self.count(key, n);
        } else {
            self.must_be_zero(key, n);
        }
    }

    /// Whether a bound that was given did not hold. One that could not be checked did not.
    pub(crate) fn exceeded(&mut self, key: &'static str, exceeded: bool) {
        self.count(key, u64::from(exceeded));
        if exceeded && !self.is_cut_short() {
            self.fail(Exit::Exceeded, format!("{key}: 1"));
        }
    }

    /// Fails a whole run in which nothing came about.
    pub(crate) fn must_not_be_zero(&mut self, what: &str, n: u64) {
        if n == 0 && !self.is_cut_short() {
            self.fail(Exit::Nothing, format!("{what}: 0"));
        }
    }

    /// Something that was promised did not hold, and the verdict that says so. Of several the
    /// weightiest is told.
    pub(crate) fn fail(&mut self, exit: Exit, why: String) {
        debug_assert!(exit.concerns(self.scenario), "{} in the --help of {}", exit.name(), self.scenario);
        self.failures.push(why);
        self.exit = self.exit.or(exit);
    }

    /// A measured figure, absent if it could not be read.
    pub(crate) fn figure(&mut self, key: &'static str, value: Option<f64>, unit: &str) {
        let shown = value.map_or_else(|| "not known".to_owned(), |v| format!("{v:.2} {unit}"));
        self.rows.push((key.into(), json!(value), shown));
    }

    /// A text.
    pub(crate) fn text(&mut self, key: &'static str, text: &str) {
        self.rows.push((key.into(), json!(text), text.to_owned()));
    }

    /// Anything: as JSON and as people read it.
    pub(crate) fn value(&mut self, key: &'static str, value: Value, shown: String) {
        self.rows.push((key.into(), value, shown));
    }

    /// A distribution of nanoseconds, shown in milliseconds.
    pub(crate) fn latency(&mut self, key: &'static str, histogram: &Histogram<u64>) {
        let points = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];
        let (mut object, mut shown) = (Map::new(), Vec::new());
        object.insert("count".to_owned(), json!(histogram.len()));
        for (name, quantile) in points {
            let ns = if histogram.is_empty() { None } else { Some(histogram.value_at_quantile(quantile)) };
            let ms = ns.map(|ns| ns as f64 / 1e6);
            object.insert(format!("{name}_ms"), json!(ms));
            shown.push(ms.map_or_else(|| format!("{name} -"), |ms| format!("{name} {ms:.3}")));
        }
        self.rows.push((key.into(), Value::Object(object), format!("{} ms", shown.join("  "))));
    }

    /// Refusals by code.
    pub(crate) fn refusals(&mut self, by_code: &BTreeMap<u64, u64>) {
        if !by_code.is_empty() {
            let shown: Vec<String> = by_code.iter().map(|(code, n)| format!("code {code}: {n}")).collect();
            self.rows.push(("refusals".into(), json!(by_code), shown.join("  ")));
        }
    }

    /// What the steady stretch cost.
    pub(crate) fn steady(&mut self, steady: &Steady) {
        self.figure("deliveries_per_second", Some(steady.deliveries_per_second), "/s");
        self.figure("cpu_us_per_delivery", steady.cpu_us_per_delivery, "us of the server");
        self.figure("server_cpu_percent", steady.server_percent, "% of one core");
        self.figure("client_cpu_percent", steady.client_percent, "% of one core");
        self.figure("machine_cpu_percent", steady.machine_percent, "% of this machine, all programs");
    }

    /// What went wrong on the way, for people.
    pub(crate) fn troubles(&mut self, troubles: &[String]) {
        if !troubles.is_empty() {
            self.rows.push(("troubles".into(), json!(troubles), troubles.join("\n  ")));
        }
    }

    /// A row whose name is known only now.
    pub(crate) fn named(&mut self, key: String, value: Value, shown: String) {
        self.rows.push((key.into(), value, shown));
    }

    /// The run second by second: in the JSON form as it is, and as plots.
    pub(crate) fn timeline(&mut self, points: &[Point]) {
        self.points = points.iter().map(Point::json).collect();
        self.charts.extend(Chart::over_time(points));
    }

    /// A plot.
    pub(crate) fn chart(&mut self, chart: Chart) {
        self.charts.push(chart);
    }

    /// What was run.
    pub(crate) const fn scenario(&self) -> &'static str {
        self.scenario
    }

    /// What failed.
    pub(crate) fn failures(&self) -> &[String] {
        &self.failures
    }

    /// The rows as people read them.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&str, &str)> {
        self.rows.iter().map(|(key, _, shown)| (&**key, shown.as_str()))
    }

    /// The plots.
    pub(crate) fn charts(&self) -> &[Chart] {
        &self.charts
    }

    /// Whether everything that was promised held.
    pub(crate) fn passed(&self) -> bool {
        self.exit == Exit::Passed
    }

    /// What the program ends with.
    pub(crate) const fn exit(&self) -> Exit {
        self.exit
    }

    /// The whole report, ready for standard output.
    pub(crate) fn render(&self, as_json: bool) -> String {
        if as_json {
            let mut document = Map::new();
            document.insert("scenario".to_owned(), json!(self.scenario));
            document.insert("passed".to_owned(), json!(self.passed()));
            document.insert("verdict".to_owned(), json!(self.exit.name()));
            document.insert("exit_code".to_owned(), json!(self.exit.code()));
            document.insert("failures".to_owned(), json!(self.failures));
            document.extend(self.rows.iter().map(|(key, value, _)| ((**key).to_owned(), value.clone())));
            if !self.points.is_empty() {
                document.insert("timeline".to_owned(), Value::Array(self.points.clone()));
            }
            return format!("{}\n", Value::Object(document));
        }
        let width = self.rows.iter().map(|(key, ..)| key.len()).max().unwrap_or(0);
        let mut out = format!("{}\n", self.scenario);
        for (key, _, shown) in &self.rows {
            out.push_str(&format!("  {key:width$}  {shown}\n"));
        }
        let (code, name, why) = (self.exit.code(), self.exit.name(), self.failures.join(", "));
        match self.exit {
            Exit::Passed => out.push_str("PASSED\n"),
            Exit::Failed => out.push_str(&format!("FAILED: {why}\n")),
            Exit::Interrupted => out.push_str(&format!("INTERRUPTED (exit code {code}): {why}\n")),
            _ => out.push_str(&format!("FAILED: {why}; verdict: {name} (exit code {code})\n")),
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let mut report = Report::new("fanout", &Interrupt::default());
        report.count("sent", 5);
        report.must_be_zero("lost", 0);
        report.figure("cpu_us_per_delivery", None, "us");
        let mut histogram = Histogram::new(3).expect("a histogram");
        report.latency("ack_latency", &histogram);
        histogram.record(2_000_000).expect("recorded");
        report.latency("delivery_latency", &histogram);
        assert!(report.passed() && report.render(false).ends_with("PASSED\n"));
        report.must_be_zero("doubled", 2);
        assert!(report.render(false).contains("FAILED: doubled: 2"));
        report.fail(Exit::Exceeded, "p99".to_owned());
        assert_eq!(report.exit(), Exit::Failed, "the weightiest is told");
        let document: Value = serde_json::from_str(&report.render(true)).expect("JSON");
        assert_eq!((&document["passed"], &document["doubled"]), (&json!(false), &json!(2)));
        assert_eq!(document["cpu_us_per_delivery"], Value::Null);
        assert_eq!(document["ack_latency"]["p99_ms"], Value::Null);
        assert!((document["delivery_latency"]["p50_ms"].as_f64().expect("a number") - 2.0).abs() < 0.01);
    }

    #[test]
    fn what_an_interrupted_run_has_not_come_to_is_no_failure() {
        let interrupt = Interrupt::default();
        interrupt.fail("worker 2 went".to_owned());
        let mut report = Report::cut_short("idle", &interrupt, "");
        report.must_be_zero_at_the_end("unanswered", 7);
        assert_eq!((report.exit(), report.failures.len()), (Exit::Worker, 1));
        let mut report = Report::empty("idle");
        report.fail(Exit::Interrupted, "interrupted: before it began".to_owned());
        report.must_be_zero_at_the_end("unanswered", 7);
        report.must_not_be_zero("delivered", 0);
        report.exceeded("p99_exceeded", true);
        assert_eq!(report.failures, ["interrupted: before it began"]);
        report.must_be_zero("doubled", 1);
        assert_eq!((report.exit(), report.failures.len()), (Exit::Interrupted, 2), "told, and still interrupted");
        let document: Value = serde_json::from_str(&report.render(true)).expect("JSON");
        assert_eq!((&document["verdict"], &document["exit_code"]), (&json!("interrupted"), &json!(9)));
        assert!(
            report.render(false).ends_with("INTERRUPTED (exit code 9): interrupted: before it began, doubled: 1\n")
        );
    }
}
