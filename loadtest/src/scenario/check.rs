//! `check`: is every message that `direct --acked-log` saw acked in the server's history, once, at
//! the place that its ack named?
//!
//! Owns: reading the log and the history, and the verdict on each conversation. It opens no
//! WebSocket and may run after any number of restarts.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use serde_json::Value;

use crate::clock::Clock;
use crate::goals::{Generator, Goals};
use crate::http::{self, Url};
use crate::interrupt::Interrupt;
use crate::limits::{PAGES_MAX, SYNC_ROWS, TROUBLES_MAX};
use crate::options::allow;
use crate::report::Report;
use crate::tokens::Tokens;
use crate::verify::crew::histogram;

#[derive(Args, Clone, Debug)]
pub(crate) struct Flags {
    /// The log that `direct --acked-log` wrote.
    #[arg(long)]
    acked_log: PathBuf,
    /// The gateway, as http://127.0.0.1:8081.
    #[arg(long, default_value = "http://127.0.0.1:8081")]
    base_url: String,
    /// The users' tokens.
    #[arg(long)]
    tokens: PathBuf,
    /// Allow a server that is not this machine.
    #[arg(long)]
    i_own_the_target: bool,
    #[command(flatten)]
    goals: Goals,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// One line of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Acked {
    sender: u64,
    cid: String,
    seq: u64,
    id: u64,
}

/// One row of the history, as far as it matters here.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Row {
    sender: u64,
    cid: String,
    seq: u64,
    id: u64,
}

/// What is wrong with a conversation.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Findings {
    rows: u64,
    /// Acked and not in the history.
    missing: u64,
    /// In the history with another `seq` or `id` than the ack's.
    moved: u64,
    /// More than once: the same `seq`, `id`, or sender and `cid`.
    doubled: u64,
    /// A `seq` that does not follow the one before it.
    gaps: u64,
}

pub(crate) fn run(flags: &Flags, interrupt: &Interrupt) -> Result<Report> {
    let conversations = read_log(&flags.acked_log)?;
    let tokens = Tokens::read(&flags.tokens)?;
    let base = Url::parse(flags.base_url.trim_end_matches('/'))?;
    allow(&base, flags.i_own_the_target)?;
    let (mut sum, mut acks, mut troubles) = (Findings::default(), 0, Vec::new());
    let (mut checked, mut page_ns) = (0, histogram());
    for (&(low, high), acked) in &conversations {
        if interrupt.is_set() {
            break;
        }
        checked += 1;
        acks += acked.len() as u64;
        let token = tokens.of(low).with_context(|| format!("no token of user {low}"))?;
        let rows = read_history(&base, token, high, &mut page_ns)?;
        let found = compare(acked, &rows);
        sum = sum.plus(found);
        if troubles.len() < TROUBLES_MAX && (Findings { rows: 0, ..found } != Findings::default()) {
            troubles.push(format!("conversation of {low} and {high}: {found:?}"));
        }
    }
    let mut report = Report::new("check", interrupt);
    report.count("conversations", conversations.len() as u64);
    report.count("checked", checked);
    report.count("acked", acks);
    report.count("rows", sum.rows);
    report.must_be_zero("missing", sum.missing);
    report.must_be_zero("moved", sum.moved);
    report.must_be_zero("doubled", sum.doubled);
    report.must_be_zero("gaps", sum.gaps);
    flags.goals.tell(&mut report, "page_latency", &page_ns, &Generator::default());
    report.troubles(&troubles);
    Ok(report)
}

impl Findings {
    fn plus(self, other: Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            missing: self.missing + other.missing,
            moved: self.moved + other.moved,
            doubled: self.doubled + other.doubled,
            gaps: self.gaps + other.gaps,
        }
    }
}

/// The acks of each conversation, which is a pair of users, the smaller one first.
fn read_log(path: &Path) -> Result<BTreeMap<(u64, u64), Vec<Acked>>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut conversations: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [sender, peer, cid, seq, id] = fields[..] else { bail!("line {}: not five fields", number + 1) };
        let parse = |field: &str| field.parse::<u64>().with_context(|| format!("line {}: {field:?}", number + 1));
        let (sender, peer, seq, id) = (parse(sender)?, parse(peer)?, parse(seq)?, parse(id)?);
        ensure!(seq > 0, "line {}: an ack without a seq: the server did not store", number + 1);
        let acked = Acked { sender, cid: cid.to_owned(), seq, id };
        conversations.entry((sender.min(peer), sender.max(peer))).or_default().push(acked);
    }
    ensure!(!conversations.is_empty(), "{} holds no acks", path.display());
    Ok(conversations)
}

/// A direct conversation's whole history, page by page.
fn read_history(base: &Url, token: &str, peer: u64, page_ns: &mut Histogram<u64>) -> Result<Vec<Row>> {
    let clock = Clock::start();
    let mut rows: Vec<Row> = Vec::new();
    let mut after = 0;
    for _ in 0..PAGES_MAX {
        let prefix = base.path.trim_end_matches('/');
        let path = format!("{prefix}/message/history?kind=10&dstid={peer}&after={after}&limit={SYNC_ROWS}");
        let asked_ns = clock.nanos();
        let body = http::get(&Url { path, ..base.clone() }, Some(token))?;
        page_ns.saturating_record(clock.nanos() - asked_ns);
        let answer: Value = serde_json::from_slice(&body).context("the history is no JSON")?;
        ensure!(answer["code"].as_i64() == Some(0), "the history was refused: {}", answer["msg"]);
        let page = answer["rows"].as_array().context("no rows in the history")?;
        for row in page {
            rows.push(parse_row(row).with_context(|| format!("a row of the history: {row}"))?);
        }
        let last = rows.last().map_or(0, |row| row.seq);
        if answer["data"]["more"].as_bool() != Some(true) {
            return Ok(rows);
        }
        ensure!(last > after, "a page of history that does not go on, after {after}");
        after = last;
    }
    bail!("more than {PAGES_MAX} pages of history with {peer}")
}

fn parse_row(row: &Value) -> Option<Row> {
    Some(Row {
        sender: row["userid"].as_u64()?,
        cid: row["cid"].as_str().unwrap_or_default().to_owned(),
        seq: row["seq"].as_u64()?,
        id: row["id"].as_u64()?,
    })
}

/// Holds the history against the acks.
fn compare(acked: &[Acked], rows: &[Row]) -> Findings {
    let mut found = Findings { rows: rows.len() as u64, ..Findings::default() };
    let mut by_cid: HashMap<(u64, &str), &Row> = HashMap::new();
    let mut ids: HashMap<u64, u64> = HashMap::new();
    for row in rows {
        let again = !row.cid.is_empty() && by_cid.insert((row.sender, &row.cid), row).is_some();
        let id_again = ids.insert(row.id, row.seq).is_some();
        found.doubled += u64::from(again || id_again);
    }
    for two in rows.windows(2) {
        match two[1].seq.checked_sub(two[0].seq) {
            Some(1) => {}
            Some(0) => found.doubled += 1,
            _ => found.gaps += 1,
        }
    }
    for ack in acked {
        match by_cid.get(&(ack.sender, ack.cid.as_str())) {
            None => found.missing += 1,
            Some(row) if (row.seq, row.id) != (ack.seq, ack.id) => found.moved += 1,
            Some(_) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cid: &str, seq: u64) -> Row {
        Row { sender: 1, cid: cid.to_owned(), seq, id: 100 + seq }
    }

    fn ack(cid: &str, seq: u64) -> Acked {
        Acked { sender: 1, cid: cid.to_owned(), seq, id: 100 + seq }
    }

    #[test]
    fn a_whole_history_has_no_findings() {
        let found = compare(&[ack("a", 4), ack("c", 6)], &[row("a", 4), row("b", 5), row("c", 6)]);
        assert_eq!(found, Findings { rows: 3, ..Findings::default() });
    }

    #[test]
    fn each_kind_of_damage_is_found() {
        let of = |acked: &[Acked], rows: &[Row]| Findings { rows: 0, ..compare(acked, rows) };
        let none = Findings::default();
        assert_eq!(of(&[ack("a", 1), ack("b", 2)], &[row("a", 1)]), Findings { missing: 1, ..none });
        assert_eq!(of(&[ack("a", 1)], &[row("b", 1), row("a", 2)]), Findings { moved: 1, ..none });
        assert_eq!(of(&[ack("a", 1)], &[row("a", 1), row("c", 3)]), Findings { gaps: 1, ..none });
        // The later copy is the one that the ack is compared with.
        assert_eq!(of(&[ack("a", 2)], &[row("a", 1), row("a", 2)]), Findings { doubled: 1, ..none });
    }
}
