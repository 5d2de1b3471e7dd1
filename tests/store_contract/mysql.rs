//! MySQL only: several gateways on one database, and a server that fails in every way that it knows.
//!
//! Runs on a private MariaDB; where there is none, `mariadb` says so and the tests do nothing.

use std::collections::{BTreeMap, HashSet};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use imgate::clock::{Clock, wall_ms};
use imgate::ids::{ConvId, Seq};
use imgate::limits::CHANGES_SETTLE_S;
use imgate::store::worker::{Replies, Store};
use imgate::store::{
    Claim, Error, FileId, NewMessage, OpenError, PostKey, Refusal, Retention, Trimmed, Write, Written, clock_offset_ms,
};
use mysql::prelude::Queryable;

use super::mariadb::{PASSWORD, Server, USER};
use super::workers::{PATIENCE, Sink, ticket, written};
use super::*;

fn pair() -> ConvId {
    ConvId::direct(uid(1), uid(2))
}

/// A connection to a fresh database with users 1 to 9, and its URL.
fn fresh(server: &Server) -> (Box<dyn Backend>, String) {
    let url = server.url(&server.database());
    let mut db = open_mysql(&url, 1).remove(0);
    users(&mut *db, 9);
    (db, url)
}

fn contended(outcome: Result<impl std::fmt::Debug, Error>) -> String {
    match outcome {
        Err(Error::Contended(text)) => text,
        other => panic!("not held by another transaction: {other:?}"),
    }
}

fn unavailable(outcome: Result<impl std::fmt::Debug, Error>) -> String {
    match outcome {
        Err(Error::Unavailable(text)) => text,
        other => panic!("not unavailable: {other:?}"),
    }
}

/// Tries until it works; the pauses are the connection's own.
fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Result<T, Error>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(done) => return done,
            Err(error) => assert!(Instant::now() < until, "{what}: {error}"),
        }
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// Waits until `done`.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    eventually(what, || if done() { Ok(()) } else { Err(Error::Unavailable("not yet".into())) });
}

#[test]
fn two_gateways_number_the_same_conversations() {
    const EACH: u32 = 1_500;
    let Some(server) = Server::shared() else { return };
    let (mut db, url) = fresh(server);
    let convs: Vec<ConvId> = (2..=6).map(|n| ConvId::direct(uid(1), uid(n))).collect();
    // Every third key is the same on both sides: one of them stores, the other one is told the numbers.
    let cid = |who: u32, n: u32| if n.is_multiple_of(3) { format!("both {n}") } else { format!("{who} {n}") };
    let running = AtomicBool::new(true);
    let answers: Vec<_> = thread::scope(|scope| {
        let gateways: Vec<_> = (0..2u32)
            .map(|who| {
                let (url, convs) = (&url, &convs);
                scope.spawn(move || {
                    let options = Options { writers: 2, readers: 1, ..Options::default() };
                    let opened = open(url, Path::new("."), None, options).unwrap_or_else(|e| panic!("{e}"));
                    let sink = Arc::new(Sink::default());
                    let replies: Arc<dyn Replies> = sink.clone();
                    let store = Store::start(opened, 2, replies, Clock::start()).expect("threads");
                    for n in 0..EACH {
                        store.write(ticket(n), post(convs[n as usize % convs.len()], 1, &cid(who, n)));
                    }
                    let answers = sink.wait(EACH as usize);
                    store.stop();
                    (0..EACH).map(|n| written(&answers[&ticket(n)])).collect::<Vec<_>>()
                })
            })
            .collect();
        // Meanwhile nobody ever sees a hole: numbers become visible in their order.
        let (url, watched, running) = (&url, convs[0], &running);
        let watcher = scope.spawn(move || {
            let mut db = open_mysql(url, 1).remove(0);
            let mut last = 0;
            while running.load(Ordering::SeqCst) {
                let page = page(&mut *db, watched, None, PageStart::After(Seq::new(last).expect("in range")), 200);
                assert_eq!(seqs(&page), (last + 1..).take(page.rows.len()).collect::<Vec<_>>());
                assert!(page.more || page.head.get() == last + page.rows.len() as u64, "head and rows agree");
                last += page.rows.len() as u64;
            }
        });
        let answers = gateways.into_iter().map(|gateway| gateway.join().expect("no panic")).collect();
        running.store(false, Ordering::SeqCst);
        watcher.join().expect("no hole");
        answers
    });

    let mut bodies = BTreeMap::new();
    for conv in &convs {
        let page = all(&mut *db, *conv);
        assert_eq!(seqs(&page), (1..=page.head.get()).collect::<Vec<_>>());
        for row in page.rows {
            assert_eq!(bodies.insert(row.body.to_string(), (*conv, row.seq, row.id)), None, "stored twice");
        }
    }
    let ids: HashSet<_> = bodies.values().map(|(_, _, id)| *id).collect();
    assert_eq!(ids.len(), bodies.len(), "ids are unique across gateways");
    for (who, answers) in (0..2).zip(&answers) {
        let mut last: BTreeMap<ConvId, Seq> = BTreeMap::new();
        for (n, answer) in (0..EACH).zip(answers) {
            let (conv, seq, id) = bodies[&cid(who, n)];
            match answer {
                // Unknown and unavailable are possible in principle, but nothing failed here.
                Ok(Written::Stored { seq: s, id: i, .. }) => {
                    assert_eq!((*s, *i), (seq, id));
                    assert!(last.insert(conv, seq) < Some(seq), "asked later, numbered later");
                }
                Ok(Written::Duplicate { conv: c, seq: s, id: i, .. }) => assert_eq!((*c, *s, *i), (conv, seq, id)),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Appends "0", "1", … until told to stop, each again until it is certain, and counts those that are.
fn append_all(url: &str, stop: &AtomicBool, acked: &AtomicUsize) -> (usize, usize) {
    let mut db = open_mysql(url, 1).remove(0);
    let mut failures = 0;
    let mut n = 0;
    while !stop.load(Ordering::SeqCst) {
        let batch = [post(pair(), 1, &n.to_string()), post(pair(), 2, &format!("also {n}"))];
        eventually("an append", || {
            let outcome = db.commit(&batch);
            failures += usize::from(outcome.is_err());
            assert!(!matches!(outcome, Err(Error::Broken(_))), "{outcome:?}");
            outcome
        });
        n += 1;
        acked.store(n, Ordering::SeqCst);
    }
    (n, failures)
}

fn assert_each_is_there_once(url: &str, n: usize) {
    let page = all(&mut *open_mysql(url, 1).remove(0), pair());
    let expected: Vec<String> = (0..n).flat_map(|n| [n.to_string(), format!("also {n}")]).collect();
    assert_eq!(page.rows.iter().map(|row| row.body.to_string()).collect::<Vec<_>>(), expected);
    assert_eq!(seqs(&page), (1..=expected.len() as u64).collect::<Vec<_>>());
}

#[test]
fn killed_connections_lose_and_double_nothing() {
    let Some(server) = Server::shared() else { return };
    let (db, url) = fresh(server);
    drop(db);
    let database = url.rsplit('/').next().expect("a name").to_owned();
    let (stop, acked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (n, failures) = thread::scope(|scope| {
        let appender = scope.spawn(|| append_all(&url, &stop, &acked));
        let mut admin = server.admin();
        let sql = format!("SELECT id FROM information_schema.processlist WHERE db = '{database}' AND user = '{USER}'");
        for round in 0..25 {
            let before = acked.load(Ordering::SeqCst);
            until("progress between two kills", || acked.load(Ordering::SeqCst) > before + round % 3);
            for id in admin.query::<u64, _>(&sql).expect("the connections") {
                // It may have ended by itself.
                let _ = admin.query_drop(format!("KILL CONNECTION {id}"));
            }
        }
        stop.store(true, Ordering::SeqCst);
        appender.join().expect("no panic")
    });
    assert!(failures > 0, "some were killed at work");
    assert_each_is_there_once(&url, n);
}

#[test]
fn a_killed_server_loses_nothing_acked() {
    let Some(mut server) = Server::start(&[]) else { return };
    let (db, url) = fresh(&server);
    drop(db);
    let (stop, acked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (n, failures) = thread::scope(|scope| {
        let appender = scope.spawn(|| append_all(&url, &stop, &acked));
        for _ in 0..3 {
            let before = acked.load(Ordering::SeqCst);
            until("progress", || acked.load(Ordering::SeqCst) > before + 20);
            server.kill();
            server.start_again();
        }
        let before = acked.load(Ordering::SeqCst);
        until("progress after the last start", || acked.load(Ordering::SeqCst) > before + 5);
        stop.store(true, Ordering::SeqCst);
        appender.join().expect("no panic")
    });
    assert!(failures >= 3);
    assert_each_is_there_once(&url, n);
}

#[test]
fn a_gateway_may_start_before_its_server() {
    let Some(mut server) = Server::start(&[]) else { return };
    let (db, url) = fresh(&server);
    drop(db);
    server.kill();
    let mut db = open_mysql(&url, 1).remove(0);
    let began = Instant::now();
    unavailable(db.commit(&[post(pair(), 1, "a")]));
    unavailable(db.ping());
    unavailable(db.read(&[Read::Open { user: uid(1) }]));
    unavailable(db.people().user(uid(1)));
    assert!(began.elapsed() < Duration::from_secs(5), "told at once");
    server.start_again();
    eventually("the server is back", || db.ping());
    assert_eq!(stored(&commit_one(&mut *db, post(pair(), 1, "a"))), 1);
}

#[test]
fn a_lock_that_is_held_too_long_is_told() {
    let Some(server) = Server::shared() else { return };
    let (mut db, url) = fresh(server);
    commit_one(&mut *db, post(pair(), 1, "a"));
    let mut other = server.admin();
    other.query_drop(format!("USE {}", url.rsplit('/').next().expect("a name"))).expect("a database");
    other.query_drop("START TRANSACTION").expect("works");
    other.query_drop("SELECT * FROM convs FOR UPDATE").expect("the locks");
    let began = Instant::now();
    assert_eq!(commit_one(&mut *db, post(pair(), 1, "b")), Written::Refused(Refusal::Held));
    assert!(began.elapsed() < Duration::from_secs(6), "in bounded time: {:?}", began.elapsed());
    assert_eq!(seqs(&all(&mut *db, pair())), [1], "reading waits for nobody");
    other.query_drop("ROLLBACK").expect("works");
    assert_eq!(stored(&commit_one(&mut *db, post(pair(), 1, "b"))), 2, "no hole, and the key is free");
}

#[test]
fn a_conversation_that_is_held_keeps_no_other_from_its_messages() {
    let Some(server) = Server::shared() else { return };
    let (mut db, url) = fresh(server);
    let (held, free) = (pair(), ConvId::direct(uid(1), uid(3)));
    commit(&mut *db, &[post(held, 1, "a"), post(free, 1, "b")]);
    let mut other = server.admin();
    for sql in [
        format!("USE {}", url.rsplit('/').next().expect("a name")),
        "START TRANSACTION".to_owned(),
        "SELECT * FROM convs WHERE conv = (SELECT MIN(conv) FROM messages) FOR UPDATE".to_owned(),
    ] {
        other.query_drop(&sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    let batch = |n: u32| [post(held, 1, &format!("held {n}")), post(free, 1, &format!("free {n}"))];
    let refused = Written::Refused(Refusal::Held);
    for n in 1..=3 {
        let written = commit(&mut *db, &batch(n));
        assert_eq!((&written[0], stored(&written[1])), (&refused, 1 + u64::from(n)));
    }
    // What is asked about the head, and a cursor, cannot be refused like a message: that part fails as a whole.
    let cursor = Write::Cursor { user: uid(1), conv: held, recv: Seq::new(1).expect("small"), read: Seq::ZERO };
    for write in [Write::Head(held), cursor] {
        contended(db.commit(&[post(free, 1, "not yet"), write]));
    }
    assert_eq!(stored(&commit_one(&mut *db, post(free, 1, "free 4"))), 5, "nothing of it was stored");
    // A new conversation is not taken for one that is held.
    assert_eq!(stored(&commit_one(&mut *db, post(ConvId::direct(uid(1), uid(4)), 1, "new"))), 1);
    other.query_drop("ROLLBACK").expect("works");
    assert_eq!(stored(&commit(&mut *db, &batch(1))[0]), 2, "nothing was stored, and there is no hole");
}

/// While one conversation is held for long, the ordinary commit of another gateway, which is over in a moment, refuses nothing.
#[test]
fn what_another_gateway_holds_for_a_moment_is_waited_for_while_one_is_held_for_long() {
    let Some(server) = Server::shared() else { return };
    let (mut db, url) = fresh(server);
    let database = url.rsplit('/').next().expect("a name");
    let (held, busy, free) = (pair(), ConvId::direct(uid(1), uid(3)), ConvId::direct(uid(1), uid(4)));
    for (conv, cid) in [(held, "a"), (busy, "b"), (free, "c")] {
        commit_one(&mut *db, post(conv, 1, cid));
    }
    let mut rows = server.admin();
    rows.query_drop(format!("USE {database}")).expect("works");
    let rows: Vec<u64> = rows.query("SELECT conv FROM messages ORDER BY conv").expect("works");
    let lock = |row: u64, how: &str| format!("SELECT * FROM convs WHERE conv = {row} FOR UPDATE {how}");
    let locking = |row: u64| {
        let mut other = server.admin();
        for sql in [format!("USE {database}"), "START TRANSACTION".to_owned(), lock(row, "")] {
            other.query_drop(&sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
        other
    };
    let mut long = locking(rows[0]);
    let refused = Written::Refused(Refusal::Held);
    assert_eq!(commit_one(&mut *db, post(held, 1, "held")), refused);
    // The machine may stand still for longer than the moment, but not each time.
    let is_waited_for = (0..50).any(|n| {
        // What was looked at in vain is found free once.
        commit_one(&mut *db, post(busy, 1, &format!("free again {n}")));
        let mut moment = locking(rows[1]);
        let batch = [post(held, 1, "held"), post(busy, 1, &format!("busy {n}")), post(free, 1, &format!("free {n}"))];
        let written = thread::scope(|scope| {
            let writing = scope.spawn(|| commit(&mut *db, &batch));
            let mut watcher = server.admin();
            watcher.query_drop(format!("USE {database}")).expect("works");
            // What is free is locked first; then the other gateway commits.
            while watcher.query_drop(lock(rows[2], "NOWAIT")).is_ok() && !writing.is_finished() {}
            moment.query_drop("COMMIT").expect("works");
            writing.join().expect("no panic")
        });
        assert_eq!(written[0], refused, "this one is still held");
        matches!(written[1], Written::Stored { .. })
    });
    assert!(is_waited_for);
    long.query_drop("ROLLBACK").expect("works");
    assert_eq!(stored(&commit_one(&mut *db, post(held, 1, "held"))), 2);
}

#[test]
fn a_deadlock_is_told_and_stores_nothing() {
    let Some(server) = Server::shared() else { return };
    // On a machine that stands still for a second, who waits for the lock gives up before there is a deadlock.
    let is_told = (0..20).any(|_| {
        let (mut db, url) = fresh(server);
        let (a, b) = (pair(), ConvId::direct(uid(1), uid(3)));
        commit(&mut *db, &[post(a, 1, "a"), post(b, 1, "b")]);
        let batch = [post(b, 1, "c"), post(a, 1, "d")];
        let Err(error) = crossed(server, &mut *db, url.rsplit('/').next().expect("a name"), &batch) else {
            return false;
        };
        let text = contended(Err::<(), _>(error));
        assert!(text.contains("1213"), "{text}");
        let again = commit(&mut *db, &batch);
        assert_eq!(again.iter().map(stored).collect::<Vec<_>>(), [2, 2], "nothing of it was stored");
        true
    });
    assert!(is_told);
}

/// Writes a batch while another one has the later of its two conversations, and takes the earlier one as soon as the batch waits.
fn crossed(server: &Server, db: &mut dyn Backend, database: &str, batch: &[Write]) -> Result<Vec<Written>, Error> {
    let mut other = server.admin();
    for sql in [
        format!("USE {database}"),
        "START TRANSACTION".to_owned(),
        // The one who has changed less is chosen as the victim, and that is not this one.
        "INSERT INTO blocks (owner, blocked) VALUES (7, 1), (7, 2), (7, 3), (7, 4), (7, 5)".to_owned(),
        "SELECT * FROM convs WHERE conv = (SELECT MAX(conv) FROM messages) FOR UPDATE".to_owned(),
    ] {
        other.query_drop(&sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    let outcome = thread::scope(|scope| {
        let waiting = scope.spawn(|| db.commit(batch));
        let mut watcher = server.admin();
        let sql = format!(
            "SELECT COUNT(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p \
             ON p.id = t.trx_mysql_thread_id WHERE t.trx_state = 'LOCK WAIT' AND p.db = '{database}'"
        );
        let until = Instant::now() + PATIENCE;
        while watcher.query_first::<u64, _>(&sql).expect("works") != Some(1) && !waiting.is_finished() {
            assert!(Instant::now() < until, "it waits for the second conversation");
            // InnoDB renews this table only for those who have not looked at it for a tenth of a second.
            thread::park_timeout(Duration::from_millis(150));
        }
        other.query_drop("SELECT * FROM convs WHERE conv = (SELECT MIN(conv) FROM messages) FOR UPDATE").expect("wins");
        waiting.join().expect("no panic")
    });
    other.query_drop("ROLLBACK").expect("works");
    outcome
}

#[test]
fn a_server_that_only_reads_is_told_and_found_well_again() {
    let Some(server) = Server::start(&[]) else { return };
    let (mut db, _) = fresh(&server);
    commit_one(&mut *db, post(pair(), 1, "a"));
    server.run("SET GLOBAL read_only = 1");
    let text = unavailable(db.commit(&[post(pair(), 1, "b")]));
    assert!(text.contains("only reads"), "{text}");
    unavailable(db.ping());
    unavailable(db.people().create_user(&new_user("1")));
    assert_eq!(seqs(&all(&mut *db, pair())), [1]);
    server.run("SET GLOBAL read_only = 0");
    assert_eq!(db.ping(), Ok(()));
    assert_eq!(stored(&commit_one(&mut *db, post(pair(), 1, "b"))), 2);
}

#[test]
fn a_server_tells_the_time_by_its_own_clock() {
    let Some(server) = Server::start(&[]) else { return };
    // Whatever its zone: in the hour that comes twice local time says less.
    server.run("SET GLOBAL time_zone = '+05:30'");
    let (mut db, _) = fresh(&server);
    let before_ms = wall_ms();
    let theirs_ms = db.wall_ms().expect("an answer").expect("a clock of its own");
    assert_eq!(clock_offset_ms(before_ms, theirs_ms, wall_ms()), 0, "one machine, one clock");
}

#[test]
fn a_full_table_space_stores_nothing_and_keeps_what_was_acked() {
    let extra = ["--innodb-file-per-table=0", "--innodb-data-file-path=ibdata1:12M:autoextend:max:24M"];
    let Some(server) = Server::start(&extra.map(str::to_owned)) else { return };
    let (mut db, _) = fresh(&server);
    let body: Arc<str> = "x".repeat(64 * 1024).into();
    let mut acked = 0u64;
    let text = loop {
        assert!(acked < 1_000, "24 MiB hold no more than 400 of these");
        let key = PostKey::Client(acked.to_string().into());
        let message = NewMessage { conv: pair(), sender: uid(1), key, ts_ms: 0, body: Arc::clone(&body) };
        match db.commit(&[Write::Append(message)]) {
            Ok(written) => acked = stored(&written[0]),
            refused => break unavailable(refused),
        }
    };
    assert!(text.contains("full"), "{text}");
    assert!(acked > 10);
    assert_eq!(seqs(&all(&mut *db, pair())), (1..=acked).collect::<Vec<_>>());
}

#[test]
fn too_many_connections_are_told() {
    let Some(server) = Server::start(&["--max-connections=10".to_owned()]) else { return };
    let (db, url) = fresh(&server);
    drop(db);
    // One more than the limit is kept for who may do everything.
    let mut taken = Vec::new();
    while taken.len() < 11
        && let Ok(conn) = mysql::Conn::new(url.as_str())
    {
        taken.push(conn);
    }
    let mut db = open_mysql(&url, 1).remove(0);
    let text = unavailable(db.ping());
    assert!(text.contains("no more connections"), "{text}");
    drop(taken);
    eventually("there is room again", || db.ping());
}

#[test]
fn a_wrong_password_is_told_and_never_shown() {
    let Some(server) = Server::shared() else { return };
    let (_db, url) = fresh(server);
    let wrong = url.replace("p%40ss", "hunter2-");
    let mut db = open_mysql(&wrong, 1).remove(0);
    let text = unavailable(db.ping());
    assert!(text.contains("Access denied") && text.contains("docs/operations.md"), "{text}");
    assert!(!text.contains("hunter2") && !text.contains(PASSWORD), "{text}");
    let mut nowhere = open_mysql(&server.url("im_nowhere"), 1).remove(0);
    assert!(!unavailable(nowhere.ping()).contains(PASSWORD));
}

#[test]
fn gateways_that_start_together_make_one_schema() {
    let Some(server) = Server::shared() else { return };
    let url = server.url(&server.database());
    let epochs: HashSet<u64> = thread::scope(|scope| {
        let one = || {
            let mut db = open_mysql(&url, 1).remove(0);
            eventually("a schema", || db.ping());
            page(&mut *db, pair(), None, PageStart::After(Seq::ZERO), 1).epoch
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert_eq!(epochs.len(), 1);
}

#[test]
fn a_newer_or_foreign_database_is_left_alone() {
    let Some(server) = Server::shared() else { return };
    let refused = |url: &str| match open(url, Path::new("."), None, Options::default()) {
        Err(OpenError::Store(Error::Broken(text))) => text,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("opened"),
    };
    let (_db, url) = fresh(server);
    let database = url.rsplit('/').next().expect("a name");
    server.run(&format!("UPDATE {database}.meta SET value = 9999 WHERE name IN ('schema', 'schema_min')"));
    assert!(refused(&url).contains("newer"));

    let foreign = server.database();
    server.run(&format!("CREATE TABLE {foreign}.recipes (x INT)"));
    assert!(refused(&server.url(&foreign)).contains("another program"));
    let tables: Vec<String> = server.admin().query(format!("SHOW TABLES FROM {foreign}")).expect("works");
    assert_eq!(tables, ["recipes"]);
}

#[test]
fn a_migration_that_was_cut_off_is_done_again() {
    let Some(server) = Server::shared() else { return };
    let (db, url) = fresh(server);
    drop(db);
    let database = url.rsplit('/').next().expect("a name");
    server.run(&format!("DROP TABLE {database}.claims"));
    server.run(&format!("UPDATE {database}.meta SET value = 0 WHERE name = 'schema'"));
    let db = &mut *open_mysql(&url, 1).remove(0);
    assert_eq!(stored(&commit_one(db, post(pair(), 1, "a"))), 1, "users and everything else are still there");
}

#[test]
fn a_database_of_the_first_schema_learns_its_newest_messages() {
    let Some(server) = Server::shared() else { return };
    let (mut db, url) = fresh(server);
    commit(&mut *db, &[post(pair(), 1, "a"), post(pair(), 1, "b")]);
    drop(db);
    let database = url.rsplit('/').next().expect("a name");
    server.run(&format!("DROP TABLE {database}.cursors"));
    undo_lists(server, database);
    server.run(&format!("ALTER TABLE {database}.convs DROP COLUMN newest_ms, DROP KEY convs_by_larger"));
    server.run(&format!("UPDATE {database}.meta SET value = 1 WHERE name = 'schema'"));
    let db = &mut *open_mysql(&url, 1).remove(0);
    let answers = db.read(&[Read::Heads { user: uid(2), before: None, missed: false, max: 9 }]).expect("read");
    let [ReadAnswer::Heads(heads)] = &answers[..] else { panic!("{answers:?}") };
    let told: Vec<_> = heads.convs.iter().map(|s| (s.conv, s.head.get(), s.ts_ms, s.unread)).collect();
    assert_eq!(told, [(pair(), 2, 1_000, 2)]);
}

/// Makes the database what it was before lists had indexes by time, and groups their sizes.
fn undo_lists(server: &Server, database: &str) {
    server.run(&format!(
        "ALTER TABLE {database}.convs DROP KEY convs_of_smaller, DROP KEY convs_of_larger, DROP COLUMN a_ms,
         DROP COLUMN b_ms, ADD KEY convs_by_larger (kind, b)"
    ));
    server.run(&format!("ALTER TABLE {database}.chat_groups DROP COLUMN member_count"));
}

#[test]
fn an_older_database_is_given_its_lists() {
    const CONVS: u64 = 600;
    let Some(server) = Server::shared() else { return };
    let url = server.url(&server.database());
    let mut db = open_mysql(&url, 1).remove(0);
    users(&mut *db, CONVS + 1);
    let said = |n: u64, cid: &str| post(ConvId::direct(uid(1), uid(n)), 1, cid);
    let writes: Vec<Write> = (2..=CONVS + 1).map(|n| said(n, &n.to_string())).collect();
    commit(&mut *db, &writes);
    let group = group(&mut *db, uid(1));
    commit(&mut *db, &[Write::Join { group, user: uid(2) }, Write::Join { group, user: uid(3) }]);
    drop(db);
    let database = url.rsplit('/').next().expect("a name");
    undo_lists(server, database);
    server.run(&format!("UPDATE {database}.meta SET value = 5 WHERE name = 'schema'"));
    let db = &mut *open_mysql(&url, 1).remove(0);
    let listed = format!("SELECT COUNT(*) FROM {database}.convs WHERE a_ms = newest_ms AND b_ms IS NULL AND kind = 10");
    assert_eq!(server.admin().query_first::<u64, _>(listed).expect("works"), Some(CONVS), "of whoever has many alone");
    assert_eq!(db.groups().groups_of(uid(2)).expect("works").iter().map(|(_, size)| *size).collect::<Vec<_>>(), [3]);
    let mut list = || {
        let read = Read::Heads { user: uid(1), before: None, missed: false, max: 2 };
        let ReadAnswer::Heads(heads) = db.read(&[read]).expect("read").remove(0) else { panic!("no list") };
        assert!(heads.more);
        heads.convs.iter().map(|state| state.conv).collect::<Vec<_>>()
    };
    let with = |n: u64| ConvId::direct(uid(1), uid(n));
    assert_eq!(list(), [with(CONVS + 1), with(CONVS)], "all are of one time");
    let plan = format!(
        "EXPLAIN SELECT conv FROM {database}.convs FORCE INDEX (convs_of_smaller) WHERE kind = 10 AND a = 1 \
         AND a_ms <= 18446744073709551615 AND head > 0 ORDER BY a_ms DESC, b DESC LIMIT 3"
    );
    let steps: Vec<mysql::Row> = server.admin().query(plan).expect("works");
    let extra: String = steps[0].get("Extra").expect("a text");
    assert!(!extra.contains("filesort"), "the newest come first from the index: {extra}");
}

#[test]
fn one_gateway_has_retention_until_it_is_gone() {
    const MESSAGES: usize = 60;
    let Some(server) = Server::shared() else { return };
    let (mut db, url) = fresh(server);
    let writes: Vec<Write> = (0..MESSAGES).map(|n| post(pair(), 1, &n.to_string())).collect();
    commit(&mut *db, &writes);
    let retention = Retention { before_ms: 0, count: 10, keys_before_ms: 0 };
    let mut trim = || eventually("a step", || db.trim(&retention, 20));
    let first = trim();
    assert!(first.messages > 0 && !first.done, "{first:?}");
    // Another gateway has it, by the clock of the database.
    let database = url.rsplit('/').next().expect("a name");
    let theirs = |seconds: &str| {
        server.run(&format!(
            "UPDATE {database}.meta SET value = ((value DIV 4294967296) ^ 1) * 4294967296 + UNIX_TIMESTAMP() {seconds}
             WHERE name = 'retention'"
        ));
    };
    theirs("+ 60");
    let mut db = open_mysql(&url, 1).remove(0);
    let mut trim = || eventually("a step", || db.trim(&retention, 20));
    assert_eq!([trim(), trim()], [Trimmed { done: true, elsewhere: true, ..Trimmed::default() }; 2]);
    // It is gone, and its time is over.
    theirs("- 1");
    let (mut messages, mut done) = (0, false);
    while !done {
        let step = trim();
        (messages, done) = (messages + step.messages, step.done);
    }
    assert!(messages > 0);
    let page = all(&mut *db, pair());
    let most = MESSAGES as u64;
    assert_eq!((seqs(&page), page.floor.get()), ((most - 9..=most).collect(), most - 9));
}

#[test]
fn an_older_program_goes_on_where_a_newer_one_has_only_added() {
    let Some(server) = Server::shared() else { return };
    let (db, url) = fresh(server);
    drop(db);
    let database = url.rsplit('/').next().expect("a name");
    let opened = || open(&url, Path::new("."), None, Options::default()).map(|mut opened| opened.writers[0].ping());
    server.run(&format!("UPDATE {database}.meta SET value = value + 2 WHERE name = 'schema'"));
    assert!(matches!(opened(), Ok(Ok(()))), "what is needed is known");
    // What is needed is as new as what there is.
    server.run(&format!(
        "UPDATE {database}.meta AS least JOIN {database}.meta AS newest ON newest.name = 'schema' \
         SET least.value = newest.value WHERE least.name = 'schema_min'"
    ));
    assert!(matches!(opened(), Err(OpenError::Store(Error::Broken(text))) if text.contains("newer imgate")));
    // As before there was such a row.
    server.run(&format!("DELETE FROM {database}.meta WHERE name = 'schema_min'"));
    assert!(opened().is_err(), "then all of it has to be known");
}

#[test]
fn a_database_that_was_put_back_is_noticed() {
    let Some(server) = Server::shared() else { return };
    let (mut db, url) = fresh(server);
    let (a, b) = (pair(), ConvId::direct(uid(1), uid(3)));
    commit(&mut *db, &[post(a, 1, "a"), post(b, 1, "b")]);
    // Another history, in which the rows of the two have changed places, while the connection lives.
    let database = url.rsplit('/').next().expect("a name");
    for sql in ["SET b = b + 100", "SET b = IF(b = 102, 3, 2) WHERE b > 100"] {
        server.run(&format!("UPDATE {database}.convs {sql}"));
    }
    unavailable(db.commit(&[post(a, 1, "c")]));
    let again = eventually("looked up anew", || db.commit(&[post(a, 1, "c")]));
    assert_eq!(stored(&again[0]), 2);
    assert_eq!(all(&mut *db, a).rows.iter().map(|row| row.body.to_string()).collect::<Vec<_>>(), ["b", "c"]);
}

#[test]
fn a_seed_is_a_matter_of_seconds() {
    let Some(server) = Server::shared() else { return };
    let db = &mut *open_mysql(&server.url(&server.database()), 1).remove(0);
    let began = Instant::now();
    let seed = Seed { users: 50_000, groups: 100, group_size: 500, created_ms: 1 };
    let seeded = db.seed(&seed).expect("seeded");
    assert_eq!((seeded.users, seeded.groups.len()), (50_000, 100));
    // A million took 7 to 16 s on two busy cores, so this bound leaves room for a busier machine.
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!(db.groups().groups_of(uid(50_000)).expect("listed").len(), 1);
}

/// An authority and a certificate of it for 127.0.0.1, as an operator would make them.
fn make_certificates(dir: &Path) {
    let script = "set -e
        for ca in ca other; do
            openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=$ca -keyout $ca.key -out $ca.pem
        done
        openssl req -newkey rsa:2048 -nodes -subj /CN=db -keyout db.key -out db.csr
        printf 'subjectAltName=IP:127.0.0.1\\nbasicConstraints=CA:FALSE\\n' > db.ext
        openssl x509 -req -in db.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile db.ext -out db.pem";
    let made = Command::new("sh").args(["-c", script]).current_dir(dir).output().expect("a shell");
    assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
}

#[test]
fn a_connection_is_protected_as_asked_for() {
    let Some(mut server) = Server::start(&[]) else { return };
    make_certificates(server.dir());
    let file = |name: &str| server.dir().join(name).to_str().expect("a path in UTF-8").to_owned();
    let (ca, other) = (file("ca.pem"), file("other.pem"));
    let extra = ["db.pem", "db.key"].map(file);
    let extra = [format!("--ssl-cert={}", extra[0]), format!("--ssl-key={}", extra[1])];
    server.restart_with(&extra);
    let url = server.url(&server.database());
    server.run(&format!("ALTER USER '{USER}'@'127.0.0.1' REQUIRE SSL"));
    let ping = |tail: &str| open_mysql(&format!("{url}{tail}"), 1).remove(0).ping();
    assert!(unavailable(ping("")).contains("Access denied"), "the server insists");
    assert_eq!(ping("?tls=require"), Ok(()));
    assert_eq!(ping(&format!("?tls=verify-ca&ca={ca}")), Ok(()));
    assert_eq!(ping(&format!("?tls=verify-full&ca={ca}")), Ok(()));
    unavailable(ping("?tls=verify-ca"));
    unavailable(ping(&format!("?tls=verify-full&ca={other}")));
    let elsewhere = url.replace("@127.0.0.1:", "@localhost:");
    let by_name = |mode: &str| open_mysql(&format!("{elsewhere}?tls={mode}&ca={ca}"), 1).remove(0).ping();
    assert_eq!(by_name("verify-ca"), Ok(()), "of the authority, whatever it is called");
    unavailable(by_name("verify-full"));
}

/// A gateway stands still in the middle of a transaction: here between two statements of the one
/// that forgets files.
#[test]
fn a_transaction_that_was_left_open_ends_with_its_locks() {
    let Some(server) = Server::shared() else { return };
    let (mut db, url) = fresh(server);
    let mut other = open_mysql(&url, 1).remove(0);
    let file = FileId([9; 32]);
    let claim = |until_ms| {
        let (digests, note) = (Vec::new(), String::new());
        Claim { user: None, digests, file, thumb: None, bytes: 1, note, until_ms }
    };
    assert_eq!(db.files().claim(&claim(5), 1), Ok(true));
    let began = Instant::now();
    let mut waited = 0;
    let mut stands_still = |_| {
        // Each try waits for the lock.
        eventually("the lock is gone", || other.files().claim(&claim(99), 1).inspect_err(|_| waited += 1));
        true
    };
    unavailable(db.files().retire(9, 9, &mut stands_still));
    assert!(waited > 0, "it was locked");
    let most = Duration::from_secs(CHANGES_SETTLE_S.into());
    assert!(began.elapsed() < most, "after {:?}", began.elapsed());
    assert_eq!(db.files().is_known(file), Ok(true), "nothing is forgotten");
    assert_eq!(db.files().retire(9, 9, &mut |_| true).map(|retired| retired.seen), Ok(0), "it is held until 99");
    assert_eq!(stored(&commit_one(&mut *db, post(pair(), 1, "goes on"))), 1);
}

/// That its user was not deleted is read beside it, without a lock.
#[test]
fn a_cursor_does_not_wait_for_its_user() {
    let Some(server) = Server::shared() else { return };
    let (mut db, url) = fresh(server);
    commit(&mut *db, &[post(pair(), 1, "a")]);
    let database = url.rsplit('/').next().expect("a name");
    let mut admin = server.admin();
    admin.query_drop("START TRANSACTION").expect("begun");
    let locked = admin.query::<u64, _>(format!("SELECT id FROM {database}.users WHERE id = 2 FOR UPDATE"));
    assert_eq!(locked.expect("locked"), [2]);
    let seq = Seq::new(1).expect("small");
    let cursor = Write::Cursor { user: uid(2), conv: pair(), recv: seq, read: seq };
    assert_eq!(commit_one(&mut *db, cursor), Written::Kept);
    let kept = admin.query::<u64, _>(format!("SELECT read_seq FROM {database}.cursors WHERE user_id = 2"));
    assert_eq!(kept.expect("read"), [1]);
}
