//! Copies, and what becomes of them when they are put in the place of the database.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::super::backup::RESTORED;
use super::*;
use crate::limits::RESTORE_SKIP;
use crate::store::{BackupError, Halt, NeverHalt, NewGroup, NewUser, backup};

fn never() -> Arc<dyn Halt> {
    Arc::new(NeverHalt)
}

fn copied(dir: &Path, name: &str) -> PathBuf {
    let file = dir.join(name);
    let bytes = backup("sqlite:", dir, &file, &never()).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(fs::metadata(&file).expect("it is there").len(), bytes);
    file
}

/// A data directory with nothing but that copy.
fn restored(copy: &Path) -> TempDir {
    let dir = directory();
    fs::copy(copy, dir.path().join(FILE)).expect("copied");
    dir
}

fn reopen(dir: &Path) -> Sqlite {
    let lock = Arc::new(DataLock::take(dir).expect("the directory is ours"));
    let epoch = prepare(&dir.join(FILE)).unwrap_or_else(|e| panic!("{e}"));
    Sqlite::connect(&dir.join(FILE), Role::Writer(Synchronous::Normal), epoch, &lock).expect("a connection")
}

fn new_user(mobile: &str) -> NewUser {
    NewUser { mobile: mobile.to_owned(), ..NewUser::default() }
}

#[test]
fn a_copy_holds_what_was_committed_and_becomes_another_epoch() {
    let dir = directory();
    let mut db = connect(dir.path(), Synchronous::Normal);
    db.commit(&[message("a", "x"), message("b", "x")]).expect("stored");
    let file = copied(dir.path(), "copy.db");
    db.commit(&[message("c", "x"), message("d", "x"), message("e", "x")]).expect("the database is not locked");
    assert_eq!(fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, 0o600);

    let place = restored(&file);
    let mut again = reopen(place.path());
    let lost = page(&mut again, Start::After(Seq::new(5).expect("in range")));
    assert_eq!((lost.head.get(), lost.rows.len(), lost.more), (2, 0, false), "after is above the head");
    assert_ne!(lost.epoch, db.epoch, "and the epoch is another");
    assert_eq!(seqs(&page(&mut again, Start::After(Seq::ZERO))), [1, 2]);
    let answers = again.commit(&[message("b", "x"), message("c", "x")]).expect("works");
    assert!(matches!(answers[0], Written::Duplicate { seq, .. } if seq.get() == 2), "keys came along: {answers:?}");
    assert!(matches!(answers[1], Written::Stored { seq, .. } if seq.get() == 3), "{answers:?}");
    let epoch = again.epoch;
    drop(again);
    assert_eq!(reopen(place.path()).epoch, epoch, "drawn once");
    drop(db);

    let twice = restored(&file);
    assert_ne!(reopen(twice.path()).epoch, epoch, "each time it is put in place");
    let live = Connection::open(dir.path().join(FILE)).expect("a connection");
    let marked: i64 =
        live.query_row("SELECT count(*) FROM meta WHERE name = ?1", [RESTORED], |row| row.get(0)).expect("a count");
    assert_eq!(marked, 0, "the database itself is as it was");
}

#[test]
fn numbers_that_were_lost_are_not_given_again() {
    let dir = directory();
    let mut db = connect(dir.path(), Synchronous::Normal);
    let file = copied(dir.path(), "copy.db");
    let lost = db.create_user(&new_user("lost")).expect("works").expect("free").id;
    assert_eq!(lost.get(), 3);
    db.commit(&[message("a", "x")]).expect("stored");
    let mut again = reopen(restored(&file).path());
    let next = again.create_user(&new_user("other")).expect("works").expect("free").id;
    assert_eq!(next.get(), 2 + RESTORE_SKIP + 1, "a token of the lost user fits nobody");
    let group = NewGroup {
        name: "g".into(),
        owner: next,
        icon: String::new(),
        cate: 0,
        memo: String::new(),
        created_ms: 0,
        owned_max: 1,
        wanted: None,
        rule: crate::store::Rule::Plain,
    };
    assert_eq!(again.create_group(&group).expect("works").expect("made").id.get(), RESTORE_SKIP + 1);
    again.commit(&[message("a", "x")]).expect("stored");
    assert!(page(&mut again, Start::After(Seq::ZERO)).rows[0].id.get() > RESTORE_SKIP);
}

#[test]
fn nothing_is_overwritten_and_nothing_half_made_is_left() {
    let dir = directory();
    let db = connect(dir.path(), Synchronous::Normal);
    let file = dir.path().join("copy.db");
    let again = |file: &Path| backup("sqlite:", dir.path(), file, &never());
    fs::write(&file, "mine").expect("a file");
    assert_eq!(again(&file), Err(BackupError::Exists(file.clone())));
    assert_eq!(fs::read(&file).expect("it is there"), b"mine");
    fs::remove_file(&file).expect("removed");

    let partial = dir.path().join("copy.db.partial");
    fs::write(&partial, "another's").expect("a file");
    assert_eq!(again(&file), Err(BackupError::Exists(partial.clone())), "one at a time");
    assert_eq!(fs::read(&partial).expect("it is there"), b"another's");
    fs::remove_file(&partial).expect("removed");

    assert!(matches!(again(&dir.path().join("none/copy.db")), Err(BackupError::File { .. })));
    assert!(matches!(again(Path::new("/")), Err(BackupError::Exists(_) | BackupError::File { .. })));
    // A damaged database makes no backup.
    db.conn.execute_batch("DROP TABLE meta").expect("damaged");
    assert!(matches!(again(&file), Err(BackupError::Store(_))));
    assert!(!file.exists() && !partial.exists());
}

#[test]
fn a_copy_is_consistent_while_others_write() {
    let dir = directory();
    let mut db = connect(dir.path(), Synchronous::Normal);
    let body = "x".repeat(2_000);
    db.commit(&[message("first", &body)]).expect("stored");
    let files: Vec<(u64, PathBuf)> = std::thread::scope(|scope| {
        let (tell, told) = std::sync::mpsc::channel::<()>();
        let writer = scope.spawn(move || {
            let mut n = 0;
            while told.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                db.commit(&[message(&format!("{n} a"), &body), message(&format!("{n} b"), &body)]).expect("stored");
                n += 1;
            }
            db
        });
        let head = || {
            let conn = Connection::open(dir.path().join(FILE)).expect("a connection");
            conn.query_row("SELECT max(head) FROM convs", [], |row| row.get::<_, i64>(0)).expect("a head") as u64
        };
        let files = (0..5).map(|n| (head(), copied(dir.path(), &format!("{n}.db")))).collect();
        drop(tell);
        writer.join().expect("it wrote on");
        files
    });
    for (at_least, file) in files {
        let mut copy = reopen(restored(&file).path());
        let (mut numbers, mut head) = (Vec::new(), 1);
        while (numbers.len() as u64) < head {
            let after = numbers.last().map_or(Seq::ZERO, |&last| Seq::new(last).expect("in range"));
            let page = page(&mut copy, Start::After(after));
            head = page.head.get();
            numbers.extend(seqs(&page));
        }
        assert_eq!(numbers, (1..=head).collect::<Vec<_>>());
        assert!(head >= at_least && head % 2 == 1, "whole batches, and all that was there when it began: {head}");
    }
}

#[test]
fn the_log_of_another_database_is_not_written_into_a_copy() {
    let dir = directory();
    let mut db = connect(dir.path(), Synchronous::Normal);
    db.commit(&[message("a", "x")]).expect("stored");
    let file = copied(dir.path(), "copy.db");
    db.commit(&[message("b", "x")]).expect("stored");
    let place = restored(&file);
    let log = |dir: &Path| dir.join(format!("{FILE}-wal"));
    // As a gateway that was killed leaves it.
    fs::copy(log(dir.path()), log(place.path())).expect("copied");
    match prepare(&place.path().join(FILE)) {
        Err(Error::Broken(text)) => assert!(text.contains("imgate.db-wal"), "{text}"),
        other => panic!("{other:?}"),
    }
    fs::remove_file(log(place.path())).expect("removed");
    assert_eq!(seqs(&page(&mut reopen(place.path()), Start::After(Seq::ZERO))), [1]);
}
