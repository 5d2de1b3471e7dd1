//! What waits for an endpoint, on disk: a restart loses none of it.
//!
//! Owns: one file for each endpoint, below the data directory: a line for each event, and a line
//! for each batch that waits no more; it is read at the start, and written anew when most of it is
//! done. Never: stops the telling: what cannot be written waits in memory alone, and is counted.
//! Never waits for the disk (`fsync`): a process that is killed loses nothing, a machine that loses
//! its power perhaps the last seconds.
//! Bounds: [`limits::HOOK_EVENTS_MAX`] events and [`limits::HOOK_JOURNAL_LIVE_BYTES_MAX`] are read,
//! as many as may wait; what is done takes at most as much again and
//! [`limits::HOOK_JOURNAL_BYTES_MIN`].

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use data_encoding::HEXLOWER;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::endpoint::Endpoint;
use super::telling::Row;
use crate::limits;
use crate::metrics::backends::{BackendCounts, Hooked};

/// How the name of a file ends.
const ENDING: &str = ".journal";
/// How a line begins that is an event.
const EVENT: u8 = b'+';
/// How a line begins that says how many of the oldest wait no more.
const DONE: u8 = b'-';

/// See the module.
pub(super) struct Journal {
    path: PathBuf,
    /// `None`: it cannot be written.
    file: Option<File>,
    /// Batches since that was tried last.
    skipped: u32,
    /// Bytes in the file.
    bytes: u64,
    counts: Arc<BackendCounts>,
    /// The log has said that it cannot be written.
    told: bool,
}

impl Journal {
    /// The one of `endpoint` in the directory `folder`, and what waits in it.
    pub(super) fn open(folder: &Path, endpoint: &Endpoint, counts: Arc<BackendCounts>) -> (Self, VecDeque<Row>) {
        let path = folder.join(name(endpoint));
        let rows = match File::open(&path) {
            Ok(file) => read(BufReader::new(file.take(limits::HOOK_JOURNAL_BYTES_MAX)), &counts),
            Err(_) => VecDeque::new(),
        };
        if !rows.is_empty() {
            let (endpoint, events) = (endpoint.shown(), rows.len());
            tracing::info!(%endpoint, events, "a webhook is told what an earlier process has left");
        }
        let mut journal = Self { path, file: None, bytes: 0, counts, told: false, skipped: 0 };
        journal.rewrite(&rows);
        (journal, rows)
    }

    /// Of `rows` those from the place `from` on came in addition.
    pub(super) fn add(&mut self, rows: &VecDeque<Row>, from: usize) {
        if from >= rows.len() {
            return;
        }
        self.skipped += u32::from(self.file.is_none());
        if self.skipped >= limits::HOOK_JOURNAL_RETRY_BATCHES {
            return self.rewrite(rows);
        }
        self.append(&lines(rows.range(from..)));
    }

    /// So many of the oldest wait no more; `rows` are left.
    pub(super) fn done(&mut self, events: usize, rows: &VecDeque<Row>) {
        let live: u64 = rows.iter().map(line_bytes).sum();
        if self.file.is_none() || self.bytes > limits::HOOK_JOURNAL_BYTES_MIN + 2 * live {
            return self.rewrite(rows);
        }
        self.append(format!("-{events}\n").as_bytes());
    }

    fn append(&mut self, text: &[u8]) {
        let Some(file) = &mut self.file else {
            return self.failed(&io::Error::other("it could not be written before"));
        };
        match file.write_all(text) {
            Ok(()) => self.bytes += text.len() as u64,
            Err(error) => {
                // What stands there now is unknown: written anew when the next batch is done.
                self.file = None;
                self.failed(&error);
            }
        }
    }

    /// Writes a new file with `rows` alone, and puts it in the place of the old one.
    fn rewrite(&mut self, rows: &VecDeque<Row>) {
        self.skipped = 0;
        let text = lines(rows.iter());
        match self.try_rewrite(&text) {
            Ok(file) => {
                (self.file, self.bytes) = (Some(file), text.len() as u64);
                if std::mem::take(&mut self.told) {
                    tracing::info!(path = %self.path.display(), "what waits for a webhook is on disk again");
                }
            }
            Err(error) => {
                self.file = None;
                self.failed(&error);
            }
        }
    }

    fn try_rewrite(&self, text: &[u8]) -> io::Result<File> {
        if let Some(folder) = self.path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let new = self.path.with_extension("new");
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(text)?;
        fs::rename(&new, &self.path)?;
        Ok(file)
    }

    fn failed(&mut self, error: &io::Error) {
        self.counts.hook_journal_failed();
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!(%error, path = %self.path.display(), "what waits for a webhook is in memory alone");
        }
    }
}

/// Says in the log what waits for endpoints that are not told any more.
pub(super) fn look_for_others(folder: &Path, endpoints: &[Endpoint]) {
    let known: Vec<String> = endpoints.iter().map(name).collect();
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten().take(limits::HOOK_JOURNALS_LOOKED_MAX) {
        let name = entry.file_name();
        let name = name.to_str().filter(|name| name.ends_with(ENDING)).unwrap_or_default();
        let is_known = name.is_empty() || known.iter().any(|known| known == name);
        let waits = entry.metadata().is_ok_and(|file| file.is_file() && file.len() > 0);
        if waits && !is_known {
            tracing::warn!(path = %entry.path().display(), "it holds events for a webhook that is not told any more");
        }
    }
}

/// The name of a file: the URL may hold a secret, and says nothing in it.
fn name(endpoint: &Endpoint) -> String {
    let digest = Sha256::digest(endpoint.text());
    format!("{}{ENDING}", HEXLOWER.encode(digest.get(..8).unwrap_or_default()))
}

/// A line for each. A line break inside of one would make further lines of it, and one that begins
/// with [`DONE`] would be believed: it is written as a blank, which in JSON says the same.
fn lines<'a>(rows: impl Iterator<Item = &'a Row>) -> Vec<u8> {
    let mut text = Vec::new();
    for row in rows {
        text.push(EVENT);
        text.extend(row.json.bytes().map(|byte| if byte == b'\n' { b' ' } else { byte }));
        text.push(b'\n');
    }
    text
}

const fn line_bytes(row: &Row) -> u64 {
    row.json.len() as u64 + 2
}

/// What waits, by the lines of a file. What is no line of ours (the last one may have been torn) is
/// passed over.
fn read(mut from: impl BufRead, counts: &BackendCounts) -> VecDeque<Row> {
    let (mut rows, mut bytes) = (VecDeque::<Row>::new(), 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let is_whole = match from.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => line.pop() == Some(b'\n'),
        };
        match line.split_first() {
            Some((&EVENT, json)) if is_whole => {
                let Some(row) = row(json) else { continue };
                if rows.len() < limits::HOOK_EVENTS_MAX && bytes + row.held <= limits::HOOK_JOURNAL_LIVE_BYTES_MAX {
                    bytes += row.held;
                    rows.push_back(row);
                } else {
                    counts.hooked(Hooked::Full, 1);
                }
            }
            Some((&DONE, count)) if is_whole => {
                let count = std::str::from_utf8(count).ok().and_then(|count| count.parse().ok()).unwrap_or(0);
                bytes -= rows.drain(..rows.len().min(count)).map(|row| row.held).sum::<usize>();
            }
            _ => {}
        }
    }
    rows
}

fn row(json: &[u8]) -> Option<Row> {
    let json = std::str::from_utf8(json).ok()?;
    let id = serde_json::from_str::<Value>(json).ok()?.get("id")?.as_str()?.to_owned();
    Some(Row { id, json: json.to_owned(), held: json.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(numbers: std::ops::Range<u64>) -> VecDeque<Row> {
        let json = |n| format!(r#"{{"id":"evt_{n}","kind":"user.registered"}}"#);
        numbers.map(|n| row(json(n).as_bytes()).expect("an event")).collect()
    }

    fn journal(folder: &Path) -> (Journal, VecDeque<Row>) {
        let endpoint = Endpoint::parse("https://hooks.example/in?secret=1").expect("a URL");
        Journal::open(folder, &endpoint, Arc::default())
    }

    #[test]
    fn what_waits_is_there_after_a_restart_and_what_is_done_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("hooks");
        let (mut first, none) = journal(&place);
        assert!(none.is_empty());
        first.add(&rows(0..5), 0);
        first.done(2, &rows(2..5));
        first.add(&rows(2..6), 3);
        // A line that the kill has cut.
        first.append(b"+{\"id\":\"evt_6\"");
        let (mut second, left) = journal(&place);
        assert_eq!(left, rows(2..6));
        second.done(4, &VecDeque::new());
        assert!(journal(&place).1.is_empty());
        look_for_others(&place, &[]);
    }

    #[test]
    fn a_line_break_inside_an_event_is_no_further_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let texts = [r#"{"id":"evt_1"}"#, "{\"id\":\"evt_2\",\"x\":[1,\n-9\n]}", r#"{"id":"evt_3"}"#];
        let rows: VecDeque<Row> = texts.iter().map(|text| row(text.as_bytes()).expect("an event")).collect();
        let ids = |rows: &VecDeque<Row>| rows.iter().map(|row| row.id.clone()).collect::<Vec<_>>();
        let (mut first, _) = journal(folder.path());
        first.add(&rows, 0);
        assert_eq!(ids(&journal(folder.path()).1), ["evt_1", "evt_2", "evt_3"]);
        let (mut second, mut left) = journal(folder.path());
        left.pop_front();
        second.done(1, &left);
        assert_eq!(ids(&journal(folder.path()).1), ["evt_2", "evt_3"]);
    }

    #[test]
    fn a_file_of_which_most_is_done_is_written_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut journal_, _) = journal(folder.path());
        let mut written = 0;
        for n in 0..40_000 {
            journal_.add(&rows(n..n + 1), 0);
            journal_.done(1, &VecDeque::new());
            written += line_bytes(&rows(n..n + 1)[0]);
        }
        assert!(written > 3 * limits::HOOK_JOURNAL_BYTES_MIN / 2, "{written}");
        assert!(journal_.bytes <= limits::HOOK_JOURNAL_BYTES_MIN + 100);
        assert_eq!(fs::metadata(&journal_.path).expect("a file").len(), journal_.bytes);
        assert!(journal(folder.path()).1.is_empty());
    }

    #[test]
    fn a_disk_that_takes_nothing_is_counted_and_found_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let place = folder.path().join("hooks");
        fs::write(&place, "no folder").expect("a file");
        let (mut journal_, _) = journal(&place);
        journal_.add(&rows(0..1), 0);
        assert_eq!(journal_.counts.hook_journal_failures(), 2);
        fs::remove_file(&place).expect("a file");
        for _ in 1..limits::HOOK_JOURNAL_RETRY_BATCHES {
            assert!(journal_.file.is_none());
            journal_.add(&rows(0..2), 1);
        }
        journal_.add(&rows(0..3), 2);
        assert_eq!(journal(&place).1, rows(0..3));
    }
}
