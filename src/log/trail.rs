//! Trails: what happened, for machines and for later questions; a line of JSON for each event,
//! written by a thread of their own.
//!
//! Owns: [`Trail`], one of them: off, to stderr, or to a file that is opened again when it is asked
//! for, so that it can be rotated; [`Trails`], the two of a gateway. Never: blocks the thread that
//! says something, and never ends the process: what finds no place, comes too fast or cannot be
//! written (a full disk, a closed pipe) is left out and counted, and a later line says how many
//! were. Never: knows what is said in it; bodies, tokens, passwords and login names are left out
//! where it is said.
//! Bounds: [`TRAIL_LINES_MAX`] lines wait. Of what takes no right to cause (logins, requests),
//! [`TRAIL_LINES_PER_SECOND`] are taken in a second, and half of the places: a flood of it does not
//! push out what operators and users have done.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::fs::OFlags;
use serde_json::{Map, Value, json};

use crate::clock;
use crate::limits::{TRAIL_LINES_MAX, TRAIL_LINES_PER_SECOND};

/// What stands for the process's own stderr in the place of a file.
pub const STDERR: &str = "stderr";

/// The trails of a gateway.
#[derive(Clone, Debug, Default)]
pub struct Trails {
    /// Logins and those that failed; what users did to their accounts and groups, operators and
    /// backends to the gateway; reloads and the stop.
    pub audit: Trail,
    /// Requests, and sessions.
    pub access: Trail,
}

impl Trails {
    /// Both open their files again.
    pub fn reopen(&self) {
        self.audit.reopen();
        self.access.reopen();
    }

    /// Lines that were left out so far, of the audit trail and of the access trail.
    #[must_use]
    pub fn left_out(&self) -> [u64; 2] {
        [self.audit.left_out(), self.access.left_out()]
    }
}

/// What is to be written, or done.
enum Job {
    Line(String),
    /// Look whether the file is to be opened again.
    Look,
    /// Everything before it has been written when the other end of this closes.
    Flush(Sender<()>),
}

#[derive(Debug)]
struct Running {
    jobs: Sender<Job>,
    left_out: Arc<AtomicU64>,
    reopen: Arc<AtomicBool>,
    /// The second that is counted, in the upper half, and how many lines it has had, in the lower.
    second: AtomicU64,
}

/// A trail; copies share it. One that is off costs a look.
#[derive(Clone, Debug, Default)]
pub struct Trail(Option<Arc<Running>>);

impl Trail {
    /// Begins one that goes to `place`: a file, [`STDERR`], or nowhere if it is empty. `name` is
    /// its thread's.
    ///
    /// # Errors
    /// The file cannot be opened, or the thread not be had.
    pub fn start(name: &str, place: &str) -> io::Result<Self> {
        if place.is_empty() {
            return Ok(Self::default());
        }
        let target = if place == STDERR { Target::Stderr } else { Target::open(place.into())? };
        Self::to(name, target)
    }

    fn to(name: &str, target: Target) -> io::Result<Self> {
        let (jobs, told) = bounded(TRAIL_LINES_MAX);
        let (left_out, reopen) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let running =
            Running { jobs, left_out: Arc::clone(&left_out), reopen: Arc::clone(&reopen), second: AtomicU64::new(0) };
        let writer = Writer { target, left_out, reopen, said: 0, torn: false };
        thread::Builder::new().name(name.to_owned()).spawn(move || writer.run(&told))?;
        Ok(Self(Some(Arc::new(running))))
    }

    /// Whether anything is written at all.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Says that `event` has happened, which takes no right to cause. Its `particulars` are made
    /// only if they are to be written; those that are null are left out.
    pub fn say(&self, event: &str, particulars: impl FnOnce() -> Value) {
        let Some(running) = &self.0 else { return };
        let now_ms = clock::wall_ms();
        if running.jobs.len() >= TRAIL_LINES_MAX / 2 || !running.may_take(now_ms / 1000) {
            running.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        running.put(line(event, now_ms, particulars()));
    }

    /// As [`Trail::say`], of what takes a right: no flood keeps it out.
    pub fn say_deed(&self, event: &str, particulars: impl FnOnce() -> Value) {
        let Some(running) = &self.0 else { return };
        running.put(line(event, clock::wall_ms(), particulars()));
    }

    /// Opens its file again: the old one has been moved away.
    pub fn reopen(&self) {
        let Some(running) = &self.0 else { return };
        running.reopen.store(true, Ordering::Release);
        // Full: its thread has work, and looks after it.
        let _ = running.jobs.try_send(Job::Look);
    }

    /// Waits until what was said before is written, for at most `patience`.
    pub fn flush(&self, patience: Duration) {
        let Some(running) = &self.0 else { return };
        let (tell, written) = bounded::<()>(0);
        if running.jobs.send_timeout(Job::Flush(tell), patience).is_ok() {
            let _ = written.recv_timeout(patience);
        }
    }

    /// Lines that were left out so far.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.0.as_ref().map_or(0, |running| running.left_out.load(Ordering::Relaxed))
    }
}

impl Running {
    fn put(&self, line: String) {
        if self.jobs.try_send(Job::Line(line)).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a line of this second; whether it may be taken.
    fn may_take(&self, second: u64) -> bool {
        let second = second & u64::from(u32::MAX);
        let count = |before: u64| if before >> 32 == second { before + 1 } else { second << 32 | 1 };
        let before = self.second.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| Some(count(before)));
        let lines = count(before.unwrap_or_default()) & u64::from(u32::MAX);
        lines <= TRAIL_LINES_PER_SECOND
    }
}

fn line(event: &str, now_ms: u64, particulars: Value) -> String {
    let mut line = Map::new();
    line.insert("ts_ms".to_owned(), now_ms.into());
    line.insert("event".to_owned(), event.into());
    if let Value::Object(particulars) = particulars {
        line.extend(particulars.into_iter().filter(|(_, value)| !value.is_null()));
    }
    let mut text = Value::Object(line).to_string();
    text.push('\n');
    text
}

/// Where the lines go.
enum Target {
    Stderr,
    File { path: PathBuf, file: File },
}

impl Target {
    fn open(path: PathBuf) -> io::Result<Self> {
        Ok(Self::File { file: open(&path)?, path })
    }
}

/// For its owner only: the lines say which people talk when. A named pipe is never waited for.
fn open(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    OpenOptions::new().create(true).append(true).mode(0o600).custom_flags(flags).open(path)
}

struct Writer {
    target: Target,
    left_out: Arc<AtomicU64>,
    reopen: Arc<AtomicBool>,
    /// How many of those that were left out have been spoken of.
    said: u64,
    /// The last write has failed: a part of a line may stand at the end.
    torn: bool,
}

impl Writer {
    /// Writes until all copies of the trail are gone.
    fn run(mut self, told: &Receiver<Job>) {
        let mut batch = String::new();
        while let Ok(first) = told.recv() {
            let (mut lines, mut waiting) = (0, Vec::new());
            batch.clear();
            for job in std::iter::once(first).chain(told.try_iter().take(TRAIL_LINES_MAX)) {
                match job {
                    Job::Line(line) => {
                        batch.push_str(&line);
                        lines += 1;
                    }
                    Job::Look => {}
                    Job::Flush(tell) => waiting.push(tell),
                }
            }
            self.write(&batch, lines);
            drop(waiting);
            if self.reopen.swap(false, Ordering::AcqRel) {
                self.open_again();
            }
        }
    }

    fn write(&mut self, batch: &str, lines: u64) {
        if batch.is_empty() {
            return;
        }
        let left_out = self.left_out.load(Ordering::Relaxed);
        let untold = left_out - self.said;
        let told =
            if untold > 0 { line("left_out", clock::wall_ms(), json!({ "lines": untold })) } else { String::new() };
        let text = [if self.torn { "\n" } else { "" }, &told, batch].concat();
        let written = match &mut self.target {
            Target::Stderr => io::stderr().write_all(text.as_bytes()),
            Target::File { file, .. } => file.write_all(text.as_bytes()),
        };
        self.torn = written.is_err();
        if self.torn {
            self.left_out.fetch_add(lines, Ordering::Relaxed);
        } else {
            self.said = left_out;
        }
    }

    fn open_again(&mut self) {
        let Target::File { path, file } = &mut self.target else { return };
        match open(path) {
            Ok(new) => (*file, self.torn) = (new, false),
            // What is said from now on goes where it went before. A line that cannot be written is
            // no reason to stop either.
            Err(error) => {
                let _ = writeln!(io::stderr(), "imgate: {} cannot be opened again: {error}", path.display());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::Instant;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn trail_to(path: &Path) -> Trail {
        Trail::start("trail", path.to_str().expect("UTF-8")).expect("a file")
    }

    /// What stands in a file after everything that was said is written.
    fn lines(trail: &Trail, path: &Path) -> Vec<Value> {
        trail.flush(PATIENCE);
        let text = std::fs::read_to_string(path).expect("a file");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, moved) = (folder.path().join("audit.log"), folder.path().join("audit.log.1"));
        let trail = trail_to(&path);
        trail.say("login", || json!({ "user": 7, "why": null }));
        let first = lines(&trail, &path);
        assert_eq!((&first[0]["event"], &first[0]["user"]), (&"login".into(), &7.into()));
        assert!(first[0].get("why").is_none() && first[0]["ts_ms"].as_u64() > Some(0), "{first:?}");
        std::fs::rename(&path, &moved).expect("a name");
        trail.reopen();
        // The order has been seen when this is written, and is carried out before the next batch.
        trail.flush(PATIENCE);
        trail.say_deed("logout", || json!({}));
        assert_eq!(lines(&trail, &path).len(), 1);
        assert_eq!(lines(&trail, &moved), first);
    }

    #[test]
    fn what_comes_too_fast_is_left_out_counted_and_spoken_of() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("access.log");
        let trail = trail_to(&path);
        let many = 3 * TRAIL_LINES_PER_SECOND;
        for n in 0..many {
            trail.say("request", || json!({ "n": n }));
        }
        let left_out = trail.left_out();
        assert!(left_out > 0, "three seconds' worth at once");
        trail.flush(PATIENCE);
        // What takes a right gets through in the same second.
        trail.say_deed("banned", || json!({}));
        let all = lines(&trail, &path);
        let said: u64 =
            all.iter().filter(|line| line["event"] == "left_out").filter_map(|line| line["lines"].as_u64()).sum();
        assert_eq!(said, left_out);
        assert_eq!(trail.left_out(), left_out);
        assert_eq!(all.iter().filter(|line| line["event"] == "request").count() as u64, many - left_out);
        assert_eq!(all.last().expect("lines")["event"], "banned");
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_ends_nothing() {
        let trail = trail_to(Path::new("/dev/full"));
        trail.say("login", || json!({}));
        trail.say("login", || json!({}));
        trail.flush(PATIENCE);
        assert_eq!(trail.left_out(), 2);
    }

    #[test]
    fn a_line_that_was_torn_spoils_no_other_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.log");
        std::fs::write(&path, "{\"a part of").expect("a file");
        let target = Target::open(path.clone()).expect("a file");
        let (left_out, reopen) = (Arc::default(), Arc::default());
        let mut writer = Writer { target, left_out, reopen, said: 0, torn: true };
        writer.write(&line("login", 1, json!({})), 1);
        let text = std::fs::read_to_string(&path).expect("a file");
        assert_eq!(text, "{\"a part of\n{\"event\":\"login\",\"ts_ms\":1}\n");
    }

    #[test]
    fn a_named_pipe_without_a_reader_is_not_waited_for_and_one_whose_reader_is_slow_loses_lines() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a pipe");
        let began = Instant::now();
        assert!(Trail::start("trail", path.to_str().expect("UTF-8")).is_err());
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).expect("flags");
        let mut reader = OpenOptions::new().read(true).custom_flags(flags).open(&path).expect("a reader");
        let trail = trail_to(&path);
        let long = "x".repeat(4096);
        for _ in 0..64 {
            trail.say("login", || json!({ "long": long }));
        }
        trail.flush(PATIENCE);
        assert!(trail.left_out() > 0, "a pipe holds 64 KiB");
        assert!(began.elapsed() < PATIENCE);
        let mut start = [0; 8];
        reader.read_exact(&mut start).expect("what fits has come");
    }

    #[test]
    fn a_trail_that_is_off_makes_nothing() {
        let trail = Trail::start("trail", "").expect("nothing to open");
        trail.say("login", || unreachable!("it is off"));
        trail.flush(PATIENCE);
        assert!(!trail.is_on() && trail.left_out() == 0);
        assert!(Trail::start("trail", "/nowhere/at/all").is_err());
    }
}
