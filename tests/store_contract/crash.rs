//! SQLite only: one gateway per data directory, and a process that is killed between commit and answer.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use imgate::ids::ConvId;
use imgate::store::{OpenError, Opened, Options, Synchronous, open};

use super::*;

/// Tells the child where to write.
const DIR: &str = "IMGATE_TEST_CRASH_DIR";
/// Acks that the parent waits for before it kills.
const ACKS: usize = 300;
/// The child ends by itself after so many batches, should its parent be gone.
const BATCHES_MAX: u64 = 100_000;
/// Messages in one batch of the child.
const BATCH: u64 = 3;

fn pair() -> ConvId {
    ConvId::direct(uid(1), uid(2))
}

#[test]
fn a_data_directory_has_one_gateway() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let first = open_sqlite(dir.path(), 1);
    match open("sqlite", dir.path(), None, Options::default()) {
        Err(OpenError::Locked(path)) => assert_eq!(path, dir.path()),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("two gateways on one directory"),
    }
    drop(first);
    // A process that another test starts has a copy of the lock until it runs its program.
    let until = Instant::now() + Duration::from_secs(20);
    let again = loop {
        match open("sqlite", dir.path(), None, Options::default()) {
            Err(OpenError::Locked(_)) if Instant::now() < until => std::thread::yield_now(),
            other => break other,
        }
    };
    assert!(again.is_ok(), "free again: {:?}", again.err());
}

#[test]
fn a_killed_process_loses_nothing_acked() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    users(&mut *open_sqlite(dir.path(), 1).remove(0), 2);
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "crash::child_writes_until_it_is_killed", "--ignored", "--nocapture"])
        .env(DIR, dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let acked: Vec<u64> =
        lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("acked ")?.parse().ok()).take(ACKS).collect();
    child.kill().expect("killed");
    child.wait().expect("gone");
    assert_eq!(acked.len(), ACKS, "the child wrote until it was killed");

    // The lock went with the process.
    let db = &mut *open_sqlite(dir.path(), 1).remove(0);
    let page = all(db, pair());
    assert!(page.head.get() >= *acked.last().expect("not empty"), "an ack was lost");
    assert_eq!(seqs(&page), (1..=page.head.get()).collect::<Vec<_>>(), "no hole");
    assert_eq!(page.head.get() % BATCH, 0, "batches are whole");
    for (row, n) in page.rows.iter().zip(1..) {
        assert_eq!(*row.body, format!("{n}"));
    }
    let resend = commit_one(db, post(pair(), 1, &acked[0].to_string()));
    assert!(matches!(resend, Written::Duplicate { seq, .. } if seq.get() == acked[0]));
    assert_eq!(stored(&commit_one(db, post(pair(), 1, "next"))), page.head.get() + 1);
}

/// The parent has let go of the directory, but a process that another of its tests starts has a copy of the lock between its
/// fork and its exec.
fn open_once_free(dir: &Path) -> Opened {
    let options = Options { synchronous: Synchronous::Full, ..Options::default() };
    for _ in 0..1_000 {
        match open("sqlite", dir, None, options) {
            Err(OpenError::Locked(_)) => std::thread::yield_now(),
            opened => return opened.unwrap_or_else(|e| panic!("{e}")),
        }
    }
    panic!("somebody keeps the lock");
}

#[test]
#[ignore = "run by a_killed_process_loses_nothing_acked, as a process of its own"]
fn child_writes_until_it_is_killed() {
    let dir = PathBuf::from(std::env::var_os(DIR).expect("the parent says where"));
    let mut db = open_once_free(&dir).writers.remove(0);
    for batch in 0..BATCHES_MAX {
        let first = batch * BATCH + 1;
        let writes: Vec<_> = (first..first + BATCH).map(|n| post(pair(), 1, &n.to_string())).collect();
        for written in commit(&mut *db, &writes) {
            println!("acked {}", stored(&written));
        }
    }
}
