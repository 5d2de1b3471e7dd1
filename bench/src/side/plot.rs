//! The picture of a report: CPU relative to the floor, a group of bars for each column.
//!
//! Owns: the SVG, written by hand: rectangles and texts need no library.

use std::fmt::Write as _;

use super::server::Server;
use super::table::{COLUMNS, Sheet};

const BAR: f64 = 14.0;
const GAP: f64 = 30.0;
const HEIGHT: f64 = 300.0;
const TOP: f64 = 40.0;
const LEFT: f64 = 50.0;
const LEGEND: f64 = 190.0;
/// Where the axis ends: taller bars are cut off there, and their figure says it.
const RATIO_MAX: f64 = 3.0;
/// Told apart also by those who do not see all colours, and in the order of [`Server::ALL`].
const COLOURS: [&str; Server::ALL.len()] = [
    "#000000", "#666666", "#aaaaaa", "#0072b2", "#56b4e9", "#009e73", "#004c7a", "#88b0d0", "#cc79a7", "#e69f00",
    "#d55e00", "#b8a800", "#7f3c8d", "#f2b701", "#3969ac",
];

/// Draws the sheet.
#[must_use]
pub fn svg(sheet: &Sheet) -> String {
    let servers: Vec<Server> = sheet.servers().collect();
    let columns: Vec<_> = COLUMNS.iter().filter(|column| column.is_cpu).collect();
    let group = BAR * servers.len() as f64 + GAP;
    let width = LEFT + group * columns.len() as f64 + LEGEND;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {:.0}\" font-family=\"sans-serif\" font-size=\"10\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"14\">CPU, relative to the floor ({})</text>\n",
        TOP + HEIGHT + 40.0,
        sheet.date
    );
    for tick in [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, RATIO_MAX] {
        let y = TOP + HEIGHT * (1.0 - tick / RATIO_MAX);
        let colour = if tick == 1.0 { "#000000" } else { "#dddddd" };
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{:.0}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"{colour}\"/><text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>",
            width - LEGEND,
            LEFT - 6.0,
            y + 3.0
        );
    }
    for (i, column) in columns.iter().enumerate() {
        let x = LEFT + GAP / 2.0 + group * i as f64;
        for (j, &server) in servers.iter().enumerate() {
            if let Some(ratio) = sheet.ratio(server, column) {
                bar(&mut out, x + BAR * j as f64, ratio, server);
            }
        }
        let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{:.0}\">{}</text>", TOP + HEIGHT + 16.0, column.name);
    }
    for (j, server) in servers.iter().enumerate() {
        let (x, y) = (width - LEGEND + 10.0, TOP + 16.0 * j as f64);
        let _ = writeln!(
            out,
            "<rect x=\"{x:.0}\" y=\"{y:.0}\" width=\"10\" height=\"10\" fill=\"{}\"/><text x=\"{:.0}\" y=\"{:.0}\">{}</text>",
            colour(*server),
            x + 15.0,
            y + 9.0,
            server.name()
        );
    }
    out.push_str("</svg>\n");
    out
}

fn bar(out: &mut String, x: f64, ratio: f64, server: Server) {
    let height = HEIGHT * ratio.min(RATIO_MAX) / RATIO_MAX;
    let y = TOP + HEIGHT - height;
    let _ = writeln!(
        out,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{height:.1}\" fill=\"{}\"><title>{}: {ratio:.2}</title></rect>\
         <text x=\"{:.1}\" y=\"{:.1}\" font-size=\"7\" text-anchor=\"middle\">{ratio:.2}</text>",
        BAR - 2.0,
        colour(server),
        server.name(),
        x + BAR / 2.0 - 1.0,
        y - 2.0
    );
}

fn colour(server: Server) -> &'static str {
    Server::ALL.iter().zip(COLOURS).find(|(other, _)| **other == server).map_or("#000000", |(_, colour)| colour)
}
