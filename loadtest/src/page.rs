//! A report as one HTML page that needs nothing else: the verdict, the figures, plots.
//!
//! Owns: [`Chart`] and [`page`]. The plots are SVG inside the page (drawn by `plotters`), so that
//! it can be mailed, kept and opened without a network.
//! Never: shows a figure that the other forms of the report do not have.

use std::fmt::Write as _;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::cpus::described;
use crate::report::Report;
use crate::timeline::Point;

/// Size of a plot in pixels; it scales with the page.
const SIZE: (u32, u32) = (900, 300);
/// Colours of the lines, told apart by people who see red and green alike, too (Okabe and Ito,
/// "Color Universal Design").
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(90, 90, 90),
];

/// Workers with a line of their own: more could not be told apart.
const WORKERS_SHOWN_MAX: usize = 8;

/// Lines over one axis.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    pub(crate) title: &'static str,
    /// What the axes mean, with their units.
    pub(crate) across: &'static str,
    pub(crate) up: &'static str,
    /// A name and its points each.
    pub(crate) lines: Vec<(String, Vec<(f64, f64)>)>,
}

impl Chart {
    /// The plots of a run over time. A line without points is left out, and so is a plot without
    /// lines.
    pub(crate) fn over_time(points: &[Point]) -> Vec<Self> {
        let line = |name: &str, of: &dyn Fn(&Point) -> Option<f64>| {
            (name.to_owned(), points.iter().filter_map(|point| Some((point.at_s, of(point)?))).collect())
        };
        let chart = |title, up, lines: Vec<(String, Vec<(f64, f64)>)>| Self {
            title,
            across: "seconds",
            up,
            lines: lines.into_iter().filter(|(_, points)| !points.is_empty()).collect(),
        };
        let mut threads: Vec<&String> = points.iter().flat_map(|point| point.threads.keys()).collect();
        threads.sort_unstable();
        threads.dedup();
        let of_thread = |name: &String| line(name, &|point| point.threads.get(name).copied());
        let mut cpu =
            vec![line("server", &|point| point.server_percent), line("load generator", &|point| point.client_percent)];
        cpu.extend(threads.into_iter().map(of_thread));
        let workers = points.iter().map(|point| point.workers.len()).max().unwrap_or(0);
        cpu.extend(
            (0..workers.min(WORKERS_SHOWN_MAX)).map(|place| {
                line(&format!("worker {}", place + 1), &|point| point.workers.get(place).copied().flatten())
            }),
        );
        vec![
            chart(
                "Latency from the intended time of sending",
                "milliseconds",
                vec![
                    line("ack p50", &|point| Some(point.ack?.p50_ms)),
                    line("ack p99", &|point| Some(point.ack?.p99_ms)),
                    line("delivery p50", &|point| Some(point.delivery?.p50_ms)),
                    line("delivery p99", &|point| Some(point.delivery?.p99_ms)),
                ],
            ),
            chart(
                "Messages",
                "per second",
                vec![
                    line("sent", &|point| Some(point.sent)),
                    line("acked", &|point| Some(point.acked)),
                    line("delivered", &|point| Some(point.delivered)),
                    line("refused", &|point| Some(point.refused)),
                ],
            ),
            chart("CPU time", "percent of one core", cpu),
            chart("Memory of the server", "MiB resident", vec![line("resident", &|point| point.resident_mib)]),
        ]
    }

    /// As SVG; empty if there is nothing to draw.
    fn svg(&self) -> Result<String> {
        let all = || self.lines.iter().flat_map(|(_, points)| points);
        let most = |of: fn(&(f64, f64)) -> f64| all().map(of).fold(0.0_f64, f64::max);
        if all().next().is_none() {
            return Ok(String::new());
        }
        let failed = |error: &dyn std::fmt::Display| anyhow!("cannot draw {:?}: {error}", self.title);
        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            root.fill(&WHITE).map_err(|e| failed(&e))?;
            let mut chart = ChartBuilder::on(&root)
                .margin(10)
                .x_label_area_size(34)
                .y_label_area_size(64)
                .build_cartesian_2d(0.0..most(|p| p.0).max(1.0), 0.0..most(|p| p.1).max(1e-3) * 1.05)
                .map_err(|e| failed(&e))?;
            chart
                .configure_mesh()
                .x_desc(self.across)
                .y_desc(self.up)
                .light_line_style(TRANSPARENT)
                .bold_line_style(BLACK.mix(0.1))
                .draw()
                .map_err(|e| failed(&e))?;
            for ((name, points), colour) in self.lines.iter().zip(COLOURS.iter().cycle()) {
                chart
                    .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)).point_size(2))
                    .map_err(|e| failed(&e))?
                    .label(name)
                    .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], colour.stroke_width(2)));
            }
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperLeft)
                .background_style(WHITE.mix(0.85))
                .border_style(BLACK.mix(0.2))
                .draw()
                .map_err(|e| failed(&e))?;
            root.present().map_err(|e| failed(&e))?;
        }
        Ok(svg)
    }
}

/// The page of a report. `command`: the command line that made it, at `when`.
///
/// # Errors
/// A plot cannot be drawn.
pub(crate) fn page(report: &Report, command: &str, when: &str) -> Result<String> {
    let mut body = String::new();
    // Writing to a String cannot fail.
    let _ = write!(
        body,
        "<h1>autoclient {} <span class={}>{}</span></h1>\n<p><code>{}</code></p>\n<p>{}, {}, {}</p>\n",
        escape(report.scenario()),
        if report.passed() { "passed" } else { "failed" },
        escape(report.exit().name()),
        escape(command),
        escape(&kernel()),
        escape(&described()),
        escape(when),
    );
    let _ = writeln!(body, "<p>{}</p>", escape(report.exit().meaning()));
    if !report.failures().is_empty() {
        let items: String = report.failures().iter().map(|why| format!("<li>{}</li>", escape(why))).collect();
        let _ = writeln!(body, "<ul>{items}</ul>");
    }
    for chart in report.charts() {
        let svg = chart.svg()?;
        if !svg.is_empty() {
            let title = escape(chart.title);
            let _ = writeln!(body, "<h2>{title}</h2>\n<figure role=\"img\" aria-label=\"{title}\">{svg}</figure>");
        }
    }
    let rows: String = report
        .rows()
        .map(|(key, shown)| {
            let class = if shown.contains('\n') { " class=list" } else { "" };
            let (key, shown) = (escape(key), escape(shown.trim_start_matches('\n')));
            format!("<tr><th scope=\"row\">{key}</th><td{class}>{shown}</td></tr>\n")
        })
        .collect();
    let _ = writeln!(body, "<h2>Figures</h2>\n<table>\n{rows}</table>");
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>autoclient {}: {}</title>\n\
         <style>{STYLE}</style>\n<main>\n{body}</main>\n</html>\n",
        escape(report.scenario()),
        escape(report.exit().name()),
    ))
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:0;color:#222;background:#fff}\
    main{max-width:60rem;margin:auto;padding:1rem}h1 span{font-size:1rem;padding:.2em .6em;border-radius:.4em;\
    color:#fff;vertical-align:middle}.passed{background:#1b6e3c}.failed{background:#a8201a}\
    figure{margin:0}svg{width:100%;height:auto}code{overflow-wrap:anywhere}\
    table{border-collapse:collapse;width:100%}th{text-align:left;font-weight:400;vertical-align:top}\
    th,td{border-top:1px solid #ddd;padding:.2em .6em .2em 0}td{white-space:pre-wrap;font-variant-numeric:tabular-nums}\
    .list{font:13px/1.5 ui-monospace,monospace}";

fn kernel() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("Linux {}", release.trim())
}

/// Text inside an element or a quoted attribute.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;
    use crate::interrupt::Interrupt;
    use crate::timeline::Quantiles;

    fn report() -> Report {
        let point = |at_s| Point {
            at_s,
            sent: 100.0,
            ack: Some(Quantiles { p50_ms: 1.0, p99_ms: 2.0, max_ms: 3.0 }),
            threads: [("shard-0".to_owned(), 40.0)].into(),
            ..Point::default()
        };
        let mut report = Report::new("direct", &Interrupt::default());
        report.count("sent", 5);
        report.timeline(&[point(1.0), point(2.0)]);
        report
    }

    #[test]
    fn a_page_has_the_verdict_the_figures_and_the_plots_and_asks_nobody_for_anything() {
        let page = page(&report(), "autoclient direct --pairs 1", "2026-01-01T00:00:00Z").expect("drawn");
        for part in ["class=passed", ">5<", "shard-0", "ack p99", "aria-label=\"CPU time\"", "--pairs 1"] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert!(!page.contains("aria-label=\"Memory"), "a plot without a line is left out");
        let addresses: Vec<&str> = page.match_indices("http").map(|(at, _)| &page[at..at + 20]).collect();
        assert!(addresses.iter().all(|at| at.starts_with("http://www.w3.org/")), "only the name of SVG: {addresses:?}");
        assert!(!page.contains("<script"));
    }

    #[test]
    fn what_a_server_says_stays_text() {
        let mut report = report();
        report.troubles(&["<img src=x onerror=alert(1)>\"&".to_owned()]);
        report.fail(Exit::Failed, "<b>lost</b>".to_owned());
        let page = page(&report, "a \"<b>\"", "2026-01-01T00:00:00Z").expect("drawn");
        assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;&quot;&amp;"), "{page}");
        assert!(page.contains("&lt;b&gt;lost&lt;/b&gt;") && page.contains("class=failed") && !page.contains("<b>"));
    }
}
