//! Lines in panels: how a quantity grows with the connections.
//!
//! Owns: the SVG, written by hand: lines and texts need no library.

use std::fmt::Write as _;

const WIDTH: f64 = 260.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 36.0;
/// Marks on each axis, beside zero.
const MARKS: u32 = 4;

/// One quantity.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What it is, with its unit.
    pub title: &'static str,
    /// Connections, and how much of it there is with so many; rising.
    pub points: Vec<(f64, f64)>,
}

/// Panels beside each other, under a title.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was measured.
    pub title: String,
    /// From left to right.
    pub panels: Vec<Panel>,
}

/// Draws the rows, one below the other.
#[must_use]
pub fn svg(rows: &[Row]) -> String {
    let columns = rows.iter().map(|row| row.panels.len()).max().unwrap_or_default();
    let (width, height) = ((LEFT + WIDTH) * columns as f64 + 20.0, (TOP + HEIGHT + BOTTOM) * rows.len() as f64);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"sans-serif\" font-size=\"10\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (i, row) in rows.iter().enumerate() {
        let top = (TOP + HEIGHT + BOTTOM) * i as f64;
        let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"{:.0}\" font-size=\"13\">{}</text>", top + 18.0, row.title);
        for (j, panel) in row.panels.iter().enumerate() {
            draw(&mut out, panel, LEFT + (LEFT + WIDTH) * j as f64, top + TOP);
        }
    }
    out.push_str("</svg>\n");
    out
}

fn draw(out: &mut String, panel: &Panel, left: f64, top: f64) {
    let most = |of: fn(&(f64, f64)) -> f64| round_up(panel.points.iter().map(of).fold(0.0, f64::max));
    let (x_max, y_max) = (most(|point| point.0), most(|point| point.1));
    let place = |(x, y): (f64, f64)| (left + WIDTH * x / x_max, top + HEIGHT * (1.0 - y / y_max));
    let _ = writeln!(out, "<text x=\"{left:.0}\" y=\"{:.0}\">{}</text>", top - 6.0, panel.title);
    for mark in 0..=MARKS {
        let share = f64::from(mark) / f64::from(MARKS);
        let (x, y) = place((x_max * share, y_max * share));
        let _ = writeln!(
            out,
            "<line x1=\"{left:.1}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text><text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            left + WIDTH,
            left - 5.0,
            y + 3.0,
            label(y_max * share),
            top + HEIGHT + 14.0,
            label(x_max * share)
        );
    }
    let line: Vec<String> =
        panel.points.iter().map(|&point| place(point)).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(
        out,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#d55e00\" stroke-width=\"1.5\"/>",
        line.join(" ")
    );
    for &point in &panel.points {
        let (x, y) = place(point);
        let _ = writeln!(
            out,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"#d55e00\"><title>{}: {:.3}</title></circle>",
            label(point.0),
            point.1
        );
    }
}

/// The end of an axis: the next of 1, 2, 4, 6, 8 times a power of ten.
fn round_up(most: f64) -> f64 {
    if most <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(most.log10().floor());
    let steps = [1.0, 2.0, 4.0, 6.0, 8.0, 10.0];
    // A hair more than a step is that step: what is read is never so exact.
    steps.into_iter().map(|step| step * power).find(|&end| most <= end * 1.000_001).unwrap_or(10.0 * power)
}

fn label(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{}M", v / 1e6),
        v if v >= 1e3 => format!("{}k", v / 1e3),
        v => format!("{}", (v * 1000.0).round() / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        let ends = [(0.0, 1.0), (0.012, 0.02), (1.0, 1.0), (3.3, 4.0), (95.0, 100.0), (1e6, 1e6), (19_000.0, 20_000.0)];
        for (most, end) in ends {
            assert!((round_up(most) - end).abs() < end * 1e-9, "{most}: {}", round_up(most));
        }
        assert_eq!([label(1e6), label(2500.0), label(0.25), label(0.0)], ["1M", "2.5k", "0.25", "0"]);
    }

    #[test]
    fn every_point_is_drawn() {
        let panel = |title| Panel { title, points: vec![(0.0, 0.0), (500.0, 1.5), (1000.0, 4.0)] };
        let rows = [Row { title: "a run".to_owned(), panels: vec![panel("memory, MiB"), panel("time, s")] }];
        let picture = svg(&rows);
        assert_eq!(picture.matches("<circle").count(), 6);
        assert_eq!(picture.matches("<polyline points=\"60.0,194.0 190.0,137.8 320.0,44.0\"").count(), 1, "{picture}");
    }
}
