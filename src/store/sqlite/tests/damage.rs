//! What a crash and a full disk leave: logs cut anywhere, and a database without room.

use std::sync::mpsc;

use super::*;
use crate::clock::Clock;
use crate::ids::ShardId;
use crate::limits::COMMIT_RETRY_MS_MAX;
use crate::store::worker::{Replies, Reply, Store, Ticket};

/// SplitMix64, so that a failing offset comes back.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % n
    }
}

/// Two conversations of user 1: with user 2 and with itself.
fn convs() -> [ConvId; 2] {
    let user = |n| UserId::new(n).expect("in range");
    [conv(), ConvId::direct(user(1), user(1))]
}

fn head_of(db: &mut Sqlite, conv: ConvId) -> u64 {
    let mut numbers = Vec::new();
    loop {
        let after = Seq::new(numbers.len() as u64).expect("in range");
        let read = Read::Page { conv, reader: None, from: Start::After(after), rows_max: 200, bytes_max: usize::MAX };
        let Ok(mut answers) = db.read(&[read]) else { panic!("it reads") };
        let ReadAnswer::Page(page) = answers.remove(0) else { panic!("a page") };
        assert!(page.rows.iter().all(|row| row.body.starts_with(&format!("{} ", row.seq))), "each has its own text");
        numbers.extend(seqs(&page));
        if !page.more {
            assert_eq!(numbers, (1..=page.head.get()).collect::<Vec<_>>(), "a gapless prefix");
            return page.head.get();
        }
    }
}

#[test]
fn a_log_cut_anywhere_holds_a_gapless_prefix() {
    const CUTS: u64 = 200;
    let dir = directory();
    let log_of = |dir: &Path| dir.join(format!("{FILE}-wal"));
    let mut db = connect(dir.path(), Synchronous::Full);
    // The users are part of the database; the log has only what is counted below.
    db.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).expect("a checkpoint");
    let mut random = Random(1);
    // The log's length after each commit, and the heads by then.
    let mut commits: Vec<(u64, [u64; 2])> = Vec::new();
    let mut heads = [0; 2];
    for batch in 0..60 {
        let mut writes = Vec::new();
        for n in 0..=random.below(8) {
            let which = random.below(2) as usize;
            heads[which] += 1;
            let body = format!("{} {}", heads[which], "x".repeat(random.below(3_000) as usize));
            let Write::Append(mut new) = message(&format!("{batch}.{n}"), &body) else { panic!("an append") };
            new.conv = convs()[which];
            writes.push(Write::Append(new));
        }
        db.commit(&writes).expect("stored");
        commits.push((fs::metadata(log_of(dir.path())).expect("a log").len(), heads));
    }
    let (whole, log) = (fs::read(dir.path().join(FILE)).expect("a file"), fs::read(log_of(dir.path())).expect("a log"));
    assert_eq!(log.len() as u64, commits.last().expect("not empty").0, "nothing was moved into the database");
    for n in 0..CUTS {
        let cut = random.below(log.len() as u64 + 1) as usize;
        let place = directory();
        fs::write(place.path().join(FILE), &whole).expect("written");
        let mut kept = log[..cut].to_vec();
        // Every other time the rest is there, but was never written by us.
        if n % 2 == 1 {
            kept.resize_with(log.len(), || random.below(256) as u8);
        }
        fs::write(log_of(place.path()), kept).expect("written");

        let lock = Arc::new(DataLock::take(place.path()).expect("the directory is ours"));
        let epoch = prepare(&place.path().join(FILE)).unwrap_or_else(|e| panic!("cut at {cut}: {e}"));
        assert_eq!(epoch, db.epoch);
        let role = Role::Writer(Synchronous::Normal);
        let mut again = Sqlite::connect(&place.path().join(FILE), role, epoch, &lock).expect("a connection");
        let verdict: String = again.conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a verdict");
        assert_eq!(verdict, "ok", "cut at {cut}");
        let acked = commits.iter().rev().find(|(end, _)| *end <= cut as u64).map_or([0; 2], |(_, heads)| *heads);
        let found = convs().map(|conv| head_of(&mut again, conv));
        assert_eq!(found, acked, "cut at {cut}: every commit before it, and nothing of a later one");
        let answer = again.commit(&[message("next", "x")]).expect("it goes on").remove(0);
        assert!(matches!(answer, Written::Stored { seq, .. } if seq.get() == acked[0] + 1), "{answer:?}");
    }
}

/// Hands each answer on.
struct Sink(mpsc::Sender<(u32, Reply)>);

impl Replies for Sink {
    fn settle(&self, _shard: ShardId, replies: Vec<(u32, Reply)>) {
        for reply in replies {
            // A test that has failed does not listen any more.
            let _ = self.0.send(reply);
        }
    }
}

/// A test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_gateway_without_room_refuses_and_recovers_by_itself() {
    let dir = directory();
    let db = connect(dir.path(), Synchronous::Normal);
    let path = dir.path().join(FILE);
    let other = Connection::open(&path).expect("a connection");
    // Large enough for what is stored below, with its indexes.
    let filler =
        "CREATE TABLE filler (x); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)
                  INSERT INTO filler SELECT zeroblob(4000) FROM n";
    other.execute_batch(filler).expect("filled");
    let pages: i64 = other.pragma_query_value(None, "page_count", |row| row.get(0)).expect("a pragma");
    db.conn.pragma_update(None, "max_page_count", pages).expect("a pragma");
    let reader = Sqlite::connect(&path, Role::Reader, db.epoch, &db._lock).expect("a connection");
    let opened =
        Opened { writers: vec![Box::new(db)], readers: vec![Box::new(reader)], upkeep: None, keep: Keep::default() };
    let (tell, told) = mpsc::channel();
    let clock = Clock::start();
    let store = Store::start(opened, 1, Arc::new(Sink(tell)), clock).expect("threads");
    let ticket = |ask| Ticket { shard: ShardId(0), ask };
    let ask = |n: u32| {
        store.write(ticket(n), message(&n.to_string(), &"x".repeat(16 * 1024)));
        let began = clock.now().mono_ms;
        match told.recv_timeout(PATIENCE).expect("an answer") {
            (ask, Reply::Written(answer)) if ask == n => (answer, clock.now().mono_ms - began),
            other => panic!("{other:?}"),
        }
    };
    let mut acked = 0;
    let refused = loop {
        match ask(acked) {
            (Ok(Written::Stored { seq, .. }), _) => {
                acked += 1;
                assert_eq!(seq.get(), u64::from(acked));
            }
            (Err(Error::Unavailable(_)), waited_ms) => break waited_ms,
            other => panic!("{other:?}"),
        }
        assert!(acked < 1_000, "it has an end");
    };
    let most = COMMIT_RETRY_MS_MAX + SQLITE_BUSY_MS;
    assert!(refused < most, "told within {most} ms, not {refused}");
    assert!(!store.gauges().is_ready(), "and everybody may know");
    let read = Read::Page { conv: conv(), reader: None, from: Start::After(Seq::ZERO), rows_max: 200, bytes_max: 1 };
    store.read(ticket(7_777), read);
    store.ring();
    assert!(matches!(told.recv_timeout(PATIENCE), Ok((7_777, Reply::Read(Ok(_))))), "reading needs no room");

    other.execute_batch("DROP TABLE filler").expect("there is room again");
    let until = clock.now().mono_ms + PATIENCE.as_millis() as u64;
    // The same key each time, as a client does.
    let seq = loop {
        match ask(acked).0 {
            Ok(Written::Stored { seq, .. }) => break seq.get(),
            Err(Error::Unavailable(_)) => std::thread::yield_now(),
            other => panic!("{other:?}"),
        }
        assert!(clock.now().mono_ms < until, "it never recovered");
    };
    assert_eq!(seq, u64::from(acked) + 1, "nothing was lost and nothing left a hole");
    assert!(store.gauges().is_ready());
    store.stop();
}
