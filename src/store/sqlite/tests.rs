//! What only SQLite has: its settings, its migrations, its failures.

mod damage;
mod restore;

use std::fs;
use std::path::Path;

use rusqlite::{Connection, StatementStatus};
use tempfile::TempDir;

use super::migrate::{MIGRATIONS, migrate, prepare};
use std::os::unix::fs::MetadataExt;

use super::checkpoints::pass;
use super::*;
use crate::ids::ConvId;
use crate::limits::WAL_REWIND_PAGES;
use crate::store::location::Upkeep;
use crate::store::{NewMessage, Page, PageStart as Start, PostKey, Read, ReadAnswer};

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// A writing connection with users 1 and 2.
fn connect(dir: &Path, synchronous: Synchronous) -> Sqlite {
    let lock = Arc::new(DataLock::take(dir).expect("the directory is ours"));
    let path = dir.join(FILE);
    let epoch = prepare(&path).expect("a fresh database");
    let mut db = Sqlite::connect(&path, Role::Writer(synchronous), epoch, &lock).expect("a connection");
    db.seed(&Seed { users: 2, groups: 0, group_size: 0, created_ms: 0 }).expect("two users");
    db
}

fn conv() -> ConvId {
    ConvId::direct(UserId::new(1).expect("in range"), UserId::new(2).expect("in range"))
}

fn message(cid: &str, body: &str) -> Write {
    let sender = UserId::new(1).expect("in range");
    let (key, body) = (PostKey::Client(cid.into()), Arc::from(body));
    Write::Append(NewMessage { conv: conv(), sender, key, ts_ms: 1, body })
}

fn page(db: &mut Sqlite, from: Start) -> Page {
    let read = Read::Page { conv: conv(), reader: None, from, rows_max: 200, bytes_max: usize::MAX };
    match db.read(&[read]).expect("a page").remove(0) {
        ReadAnswer::Page(page) => page,
        other => panic!("{other:?}"),
    }
}

fn seqs(page: &Page) -> Vec<u64> {
    page.rows.iter().map(|row| row.seq.get()).collect()
}

fn pragma(conn: &Connection, name: &str) -> i64 {
    conn.pragma_query_value(None, name, |row| row.get(0)).expect("a pragma")
}

#[test]
fn an_ack_is_worth_what_was_asked_for() {
    // https://sqlite.org/pragma.html#pragma_synchronous: 1 is NORMAL, 2 is FULL.
    for (synchronous, level) in [(Synchronous::Full, 2), (Synchronous::Normal, 1)] {
        let dir = directory();
        let db = connect(dir.path(), synchronous);
        assert_eq!(pragma(&db.conn, "synchronous"), level);
        let mode: String = db.conn.pragma_query_value(None, "journal_mode", |row| row.get(0)).expect("a pragma");
        assert_eq!(mode, "wal");
    }
    assert_eq!(Synchronous::default(), Synchronous::Full);
}

#[test]
fn plans_do_not_depend_on_values() {
    let dir = directory();
    let db = connect(dir.path(), Synchronous::Normal);
    let reader = Role::Reader.connect(&dir.path().join(FILE)).expect("a connection");
    for conn in [&db.conn, &reader] {
        assert_eq!(conn.db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG), Ok(true));
        let sql = "SELECT id FROM messages WHERE conv = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3";
        let mut statement = conn.prepare(sql).expect("a statement");
        for n in 0..5 {
            assert!(!statement.exists([n, n + 1, n + 2]).expect("runs"));
        }
        assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
    }
}

#[test]
fn the_conversations_of_many_users_are_found_through_indexes() {
    let dir = directory();
    let db = connect(dir.path(), Synchronous::Normal);
    let lists = [
        "USING INDEX convs_of_smaller (kind=? AND a=? AND a_ms=?)",
        "USING INDEX convs_of_larger (kind=? AND b=? AND b_ms=?",
        "USING INDEX convs_of_smaller (kind=? AND a=? AND a_ms<?)",
        "USING INDEX convs_of_larger (kind=? AND b=? AND b_ms<?)",
        "USING COVERING INDEX members_by_user (user_id=?)",
        "USING INDEX sqlite_autoindex_convs_1 (kind=? AND a=? AND b=?)",
        "SEARCH g USING INTEGER PRIMARY KEY (rowid=?)",
    ];
    for (sql, found) in [
        (standing::HEADS_SQL, &lists[..]),
        (standing::UNREAD_SQL, &["USING COVERING INDEX messages_by_seq (conv=? AND seq>? AND seq<?)"]),
        (changes::CHANGES_SQL, &["USING INTEGER PRIMARY KEY (rowid>?)"]),
    ] {
        let steps = plan(&db.conn, sql);
        for table in ["convs", "members", "cursors", "messages", "changes", "users", "blocks"] {
            let scan = |step: &&String| step.starts_with("SCAN") && step.contains(table);
            assert_eq!(steps.iter().find(scan), None, "{steps:#?}");
        }
        for found in found {
            assert!(steps.iter().any(|step| step.contains(found)), "{found}: {steps:#?}");
        }
        assert!(!steps.iter().any(|step| step.contains("AUTOMATIC")), "{steps:#?}");
        // Of what is in an index by time the newest come first; the page alone is sorted, and once
        // more behind its cursors.
        let sorted = steps.iter().filter(|step| step.contains("TEMP B-TREE FOR ORDER BY")).count();
        assert!(sorted <= 2, "{steps:#?}");
    }
}

/// The steps that SQLite takes for a statement.
fn plan(conn: &Connection, sql: &str) -> Vec<String> {
    let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a statement");
    let values = vec![1; explain.parameter_count()];
    let steps = explain.query_map(rusqlite::params_from_iter(values), |row| row.get(3)).expect("a plan");
    steps.map(|step| step.expect("a step")).collect()
}

#[test]
fn an_older_database_is_given_its_lists() {
    const CONVS: i64 = 600;
    let mut conn = Connection::open_in_memory().expect("a connection");
    migrate(&mut conn, &MIGRATIONS[..4]).expect("as it was before");
    // User 1000 has many conversations with smaller users and larger ones, each of these users has
    // one; a group of three.
    for n in 1..=CONVS {
        let (a, b) = if n < 300 { (n, 1000) } else { (1000, 1000 + n) };
        let sql = "INSERT INTO convs (conv, kind, a, b, head, floor, newest_ms) VALUES (?1, 10, ?2, ?3, 1, 1, ?4)";
        conn.execute(sql, [n, a, b, 5 * n]).expect("a conversation");
    }
    let rows = "INSERT INTO chat_groups (id, name, name_key, owner, icon, cate, memo, created_ms)
                VALUES (7, 'g', 'g', 1, '', 0, '', 0), (8, 'h', 'h', 1, '', 0, '', 0);
                INSERT INTO members (group_id, user_id, since) VALUES (7, 1, 0), (7, 2, 0), (7, 3, 0);
                INSERT INTO convs (conv, kind, a, b, head, floor, newest_ms) VALUES (5000, 11, 1000, 0, 1, 1, 9)";
    conn.execute_batch(rows).expect("as it was before");
    migrate(&mut conn, MIGRATIONS).expect("the rest");
    let count = |sql: &str| conn.query_one(sql, [], |row| row.get::<_, i64>(0)).expect("a number");
    assert_eq!(count("SELECT count(*) FROM convs WHERE a_ms = newest_ms AND a = 1000 AND kind = 10"), CONVS - 299);
    assert_eq!(count("SELECT count(*) FROM convs WHERE b_ms = newest_ms AND b = 1000"), 299);
    assert_eq!(
        count("SELECT count(*) FROM convs WHERE (a_ms IS NULL) = (b_ms IS NULL)"),
        1,
        "of one side each; no group"
    );
    assert_eq!(count("SELECT member_count FROM chat_groups WHERE id = 7"), 3);
    assert_eq!(count("SELECT member_count FROM chat_groups WHERE id = 8"), 0);
    let user = UserId::new(1000).expect("in range");
    let ask = standing::Ask { user, before: None, missed: false, max: 3 };
    let heads = standing::heads(&conn, 1, &[ask]).expect("listed");
    let times: Vec<u64> = heads[0].convs.iter().map(|state| state.ts_ms).collect();
    assert_eq!((times, heads[0].more), (vec![3000, 2995, 2990], true));
}

#[test]
fn messages_of_people_with_few_conversations_move_no_entry_by_time() {
    let dir = directory();
    let mut db = connect(dir.path(), Synchronous::Normal);
    db.commit(&[message("a", "x")]).expect("stored");
    let listed = "SELECT count(*) FROM convs WHERE a_ms IS NOT NULL OR b_ms IS NOT NULL";
    assert_eq!(db.conn.query_one(listed, [], |row| row.get::<_, i64>(0)), Ok(0));
}

#[test]
fn an_older_database_learns_when_each_conversation_was_last_used() {
    let mut conn = Connection::open_in_memory().expect("a connection");
    migrate(&mut conn, &MIGRATIONS[..1]).expect("the spine");
    let rows = "INSERT INTO convs (conv, kind, a, b, head, floor) VALUES (1, 10, 1, 2, 2, 1), (2, 11, 7, 0, 0, 1);
                INSERT INTO messages VALUES (10, 1, 1, 900, 1, 'x'), (11, 1, 2, 500, 2, 'x')";
    conn.execute_batch(rows).expect("as the spine wrote them");
    migrate(&mut conn, MIGRATIONS).expect("the rest");
    let mut newest = conn.prepare("SELECT newest_ms FROM convs ORDER BY conv").expect("a statement");
    let newest: Vec<i64> =
        newest.query_map([], |row| row.get(0)).expect("rows").map(|ms| ms.expect("a time")).collect();
    assert_eq!(newest, [500, 0], "of the last message, not the latest time");
}

#[test]
fn an_older_database_counts_unread_messages_in_its_index() {
    let mut conn = Connection::open_in_memory().expect("a connection");
    migrate(&mut conn, &MIGRATIONS[..12]).expect("as it was before");
    let rows = "INSERT INTO convs (conv, kind, a, b, head, floor, newest_ms) VALUES (1, 10, 1, 2, 5, 1, 9);
                INSERT INTO messages (id, conv, seq, ts_ms, sender, body, hidden) VALUES
                    (10, 1, 1, 9, 1, 'x', 0), (11, 1, 2, 9, 2, 'x', 0), (12, 1, 3, 9, 2, '', 1), (13, 1, 4, 9, 2, 'x', 0)";
    conn.execute_batch(rows).expect("as it was before");
    migrate(&mut conn, MIGRATIONS).expect("the rest");
    let ask = standing::Ask { user: UserId::new(1).expect("in range"), before: None, missed: false, max: 3 };
    let heads = standing::heads(&conn, 1, &[ask]).expect("listed");
    assert_eq!(heads[0].convs[0].unread, 2, "neither one's own nor what was taken back");
    let covered = "USING COVERING INDEX messages_by_seq (conv=? AND seq>? AND seq<?)";
    let steps = plan(&conn, standing::UNREAD_SQL);
    assert!(steps.iter().any(|step| step.contains(covered)), "{steps:#?}");
}

/// The index is not unique, so this is what keeps two messages from one number.
#[test]
fn a_head_that_is_not_where_it_was_known_to_be_takes_no_message() {
    let dir = directory();
    let mut db = connect(dir.path(), Synchronous::Normal);
    db.commit(&[message("a", "x")]).expect("stored");
    // By the same connection, so that nothing tells it that another one has written.
    db.conn.execute("UPDATE convs SET head = 2", []).expect("moved behind its back");
    assert!(matches!(db.commit(&[message("b", "x"), message("c", "x")]), Err(Error::Broken(_))));
    db.conn.execute("UPDATE convs SET head = 1", []).expect("and back");
    assert_eq!(seqs(&page(&mut db, Start::After(Seq::ZERO))), [1], "nothing was kept of it");
    db.commit(&[message("b", "x"), message("c", "x")]).expect("it goes on");
    assert_eq!(seqs(&page(&mut db, Start::After(Seq::ZERO))), [1, 2, 3]);
}

#[test]
fn a_reading_connection_cannot_write() {
    let dir = directory();
    let db = connect(dir.path(), Synchronous::Normal);
    let mut reader = Sqlite::connect(&dir.path().join(FILE), Role::Reader, db.epoch, &db._lock).expect("a connection");
    reader.commit(&[message("a", "x")]).expect_err("refused");
    reader.ping().expect("still works");
    assert_eq!(page(&mut reader, Start::After(Seq::ZERO)).head, Seq::ZERO);
}

#[test]
fn others_on_the_machine_cannot_read_what_is_said() {
    let dir = directory();
    // A directory that was there, and that everybody may look into.
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("ours");
    let modes = || -> Vec<(String, u32)> {
        let files = fs::read_dir(dir.path()).expect("a directory").map(|file| file.expect("a file"));
        files
            .map(|file| (file.file_name().display().to_string(), file.metadata().expect("ours").mode() & 0o777))
            .collect()
    };
    let mut db = connect(dir.path(), Synchronous::Normal);
    db.commit(&[message("a", "x")]).expect("stored");
    assert!(modes().len() >= 3 && modes().iter().all(|(_, mode)| *mode == 0o600), "{:?}", modes());
    drop(db);
    // As an earlier version has left it, and as an operator has set it.
    fs::set_permissions(dir.path().join(FILE), Permissions::from_mode(0o644)).expect("ours");
    let _db = connect(dir.path(), Synchronous::Normal);
    let mode = fs::metadata(dir.path().join(FILE)).expect("it is there").mode() & 0o777;
    assert_eq!(mode, 0o640, "a group that the operator has chosen stays");
}

#[test]
fn a_newer_or_foreign_database_is_left_alone() {
    let dir = directory();
    let path = dir.path().join(FILE);
    prepare(&path).expect("a fresh database");
    let newer = Connection::open(&path).expect("a connection");
    newer.pragma_update(None, "user_version", 9_999).expect("a pragma");
    assert!(matches!(prepare(&path), Err(Error::Broken(text)) if text.contains("newer")));
    assert_eq!(pragma(&newer, "user_version"), 9_999);

    let foreign = Connection::open(dir.path().join("other.db")).expect("a connection");
    foreign.execute_batch("CREATE TABLE recipes (x)").expect("a table");
    assert!(matches!(prepare(&dir.path().join("other.db")), Err(Error::Broken(_))));
    assert_eq!(pragma(&foreign, "user_version"), 0);

    fs::write(dir.path().join("text.db"), vec![b'x'; 8192]).expect("a file");
    assert!(matches!(prepare(&dir.path().join("text.db")), Err(Error::Broken(_))));
}

#[test]
fn migrations_are_applied_once_and_together() {
    let mut conn = Connection::open_in_memory().expect("a connection");
    let start = "CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER)";
    let epoch = migrate(&mut conn, &[start]).expect("the first");
    assert_eq!(migrate(&mut conn, &[start]), Ok(epoch), "applied once");

    let broken = [start, "CREATE TABLE second (x)", "CREATE TABLE second (x)"];
    migrate(&mut conn, &broken).expect_err("the third fails");
    assert_eq!(pragma(&conn, "user_version"), 1, "the second was taken back with it");
    assert_eq!(migrate(&mut conn, &broken[..2]), Ok(epoch), "the epoch stays");
    assert_eq!(pragma(&conn, "user_version"), 2);
}

#[test]
fn a_full_disk_stores_nothing_and_is_survived() {
    let dir = directory();
    let mut db = connect(dir.path(), Synchronous::Normal);
    db.commit(&[message("first", "x")]).expect("there is room");
    let pages = pragma(&db.conn, "page_count");
    db.conn.pragma_update(None, "max_page_count", pages).expect("a pragma");
    let large = "x".repeat(64 * 1024);
    let batch = [message("small", "x"), message("large", &large)];
    assert!(matches!(db.commit(&batch), Err(Error::Unavailable(_))));
    assert_eq!(seqs(&page(&mut db, Start::After(Seq::ZERO))), [1], "all or nothing");

    db.conn.pragma_update(None, "max_page_count", pages + 10_000).expect("a pragma");
    let written = db.commit(&batch).expect("there is room again");
    assert!(written.iter().all(|w| matches!(w, Written::Stored { .. })), "no key stayed claimed: {written:?}");
    assert_eq!(seqs(&page(&mut db, Start::After(Seq::ZERO))), [1, 2, 3]);
}

#[test]
fn a_commit_that_fails_is_not_stored() {
    let dir = directory();
    let mut db = connect(dir.path(), Synchronous::Normal);
    // The hook turns every COMMIT into a ROLLBACK: SQLite leaves the transaction and reports an
    // error.
    db.conn.commit_hook(Some(|| true)).expect("a hook");
    assert!(matches!(db.commit(&[message("a", "x")]), Err(Error::Unavailable(_))), "found out: it is not there");
    assert!(matches!(db.commit(&[Write::Head(conv())]), Err(Error::Unknown(_))), "nothing tells");
    db.ping().expect_err("a ping writes");
    db.conn.commit_hook(None::<fn() -> bool>).expect("no hook");
    assert!(matches!(db.commit(&[message("a", "x")]).expect("works")[0], Written::Stored { .. }));
    db.ping().expect("works");
}

#[test]
fn a_lock_of_another_connection_is_unavailable() {
    let dir = directory();
    let mut db = connect(dir.path(), Synchronous::Normal);
    db.conn.busy_timeout(Duration::ZERO).expect("a time-out");
    let other = Connection::open(dir.path().join(FILE)).expect("a connection");
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    assert!(matches!(db.commit(&[message("a", "x")]), Err(Error::Unavailable(_))));
    other.execute_batch("ROLLBACK").expect("no lock");
    assert!(matches!(db.commit(&[message("a", "x")]).expect("works")[0], Written::Stored { .. }));
}

#[test]
fn a_transaction_left_open_is_ended_before_the_next() {
    let dir = directory();
    let mut db = connect(dir.path(), Synchronous::Normal);
    db.conn.execute_batch("BEGIN IMMEDIATE; DELETE FROM users").expect("a stray transaction");
    assert!(matches!(db.commit(&[message("a", "x")]).expect("works")[0], Written::Stored { .. }));
    db.conn.execute_batch("BEGIN IMMEDIATE; DELETE FROM messages").expect("a stray transaction");
    assert_eq!(seqs(&page(&mut db, Start::After(Seq::ZERO))), [1]);
}

#[test]
fn pages_end_at_the_floor() {
    let dir = directory();
    let mut db = connect(dir.path(), Synchronous::Normal);
    let writes: Vec<Write> = (0..10).map(|n| message(&n.to_string(), "x")).collect();
    db.commit(&writes).expect("stored");
    // As retention will do it.
    db.conn.execute_batch("DELETE FROM messages WHERE seq < 4; UPDATE convs SET floor = 4").expect("trimmed");
    let after = page(&mut db, Start::After(Seq::ZERO));
    assert_eq!((seqs(&after), after.floor.get(), after.head.get()), ((4..=10).collect(), 4, 10));
    let before = page(&mut db, Start::Before(Seq::new(6).expect("in range")));
    assert_eq!((seqs(&before), before.more), (vec![4, 5], false));
    assert!(
        matches!(db.commit(&[message("0", "x")]).expect("works")[0], Written::Duplicate { .. }),
        "keys outlive rows"
    );
}

#[test]
fn the_log_does_not_grow_under_upkeep() {
    let dir = directory();
    let mut db = connect(dir.path(), Synchronous::Normal);
    let path = dir.path().join(FILE);
    let mut upkeep =
        Checkpoints::connect(&path, Synchronous::Normal, db.rewind.clone(), &db._lock).expect("a connection");
    let log = dir.path().join(format!("{FILE}-wal"));
    let size = || fs::metadata(&log).expect("a log").len();
    let body = "x".repeat(4096);
    let mut largest = Vec::new();
    for round in 0..20 {
        for n in 0..20 {
            db.commit(&[message(&format!("{round}.{n}"), &body)]).expect("stored");
        }
        upkeep.tend().expect("a checkpoint");
        largest.push(size());
    }
    assert!(size() < 3 * largest[0], "rewound after each checkpoint: {largest:?}");
}

#[test]
fn a_log_that_upkeep_could_not_finish_is_begun_anew_at_the_next_commit() {
    let dir = directory();
    let mut db = connect(dir.path(), Synchronous::Normal);
    let path = dir.path().join(FILE);
    let mut upkeep =
        Checkpoints::connect(&path, Synchronous::Normal, db.rewind.clone(), &db._lock).expect("a connection");
    let pages = || {
        let conn = Role::Writer(Synchronous::Normal).connect(&path).expect("a connection");
        let log = pass(&conn).expect("a checkpoint");
        (log.moved, log.pages)
    };
    let body = "x".repeat(16 * 1024);
    let say = |db: &mut Sqlite, round: u32| {
        let writes: Vec<_> = (0..400).map(|n| message(&format!("{round}.{n}"), &body)).collect();
        db.commit(&writes).expect("stored");
    };
    for round in 0..6 {
        say(&mut db, round);
    }
    // What the reader does not see yet cannot be moved while it reads, as what is written
    // meanwhile.
    let reader = Role::Reader.connect(&path).expect("a connection");
    reader.execute_batch("BEGIN; SELECT count(*) FROM messages").expect("it reads");
    say(&mut db, 6);
    upkeep.tend().expect("a checkpoint");
    let (moved, before) = pages();
    assert!(moved < before && before > WAL_REWIND_PAGES, "{moved} of {before}");
    reader.execute_batch("COMMIT").expect("it has read");
    say(&mut db, 7);
    let (_, after) = pages();
    assert!(after < WAL_REWIND_PAGES / 2, "{after} pages");
}

#[test]
fn message_ids_come_from_reserved_blocks() {
    let dir = directory();
    let mut db = connect(dir.path(), Synchronous::Normal);
    let next = |db: &Sqlite| -> i64 {
        let sql = "SELECT value FROM meta WHERE name = 'next_id'";
        db.conn.query_row(sql, [], |row| row.get(0)).expect("the counter")
    };
    let block = int(ID_BLOCK);
    assert_eq!(next(&db), 1);
    db.commit(&[message("a", "x"), message("b", "x")]).expect("stored");
    assert_eq!(next(&db), 1 + block, "one block for many messages");
    page(&mut db, Start::After(Seq::ZERO));
    db.commit(&[message("c", "x")]).expect("stored");
    assert_eq!(next(&db), 1 + block, "a read between does not cost one");
    assert_eq!(page(&mut db, Start::After(Seq::ZERO)).rows[2].id.get(), 3);
}

#[test]
fn a_read_that_takes_too_long_is_ended_and_the_next_one_is_not() {
    const COUNT: &str =
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT ?1) SELECT max(n) FROM n";
    let dir = directory();
    let db = connect(dir.path(), Synchronous::Normal);
    let path = dir.path().join(FILE);
    let mut reader = Sqlite::connect(&path, Role::Reader, db.epoch, &db._lock).expect("a connection");
    let count = |reader: &Sqlite, most: i64| -> Result<i64, Error> {
        Ok(reader.conn.prepare_cached(COUNT)?.query_one([most], |row| row.get(0))?)
    };
    reader.limit(5);
    assert!(matches!(count(&reader, i64::MAX), Err(Error::Unavailable(_))), "it would run for ever");
    reader.limit(60_000);
    assert_eq!(count(&reader, 100_000), Ok(100_000));
    let mut page_of = |from| page(&mut reader, from);
    assert_eq!(seqs(&page_of(Start::After(Seq::ZERO))), [0; 0]);
}
