//! The real binary: an orderly stop under traffic, and what survives `kill -9`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::process::Process;
use crate::support::{Client, PATIENCE, V2, connect, exchange, history, register};

/// Posts as fast as acks come, until the connection breaks: the acked content and its seq.
fn post_until_broken(client: &mut Client, dst: u64, author: usize, acked: &AtomicU64) -> Vec<(String, u64)> {
    let mut stored = Vec::new();
    for n in 0.. {
        let content = format!("{author}-{n}");
        let Some(ack) = client.try_say_acked(10, dst, &content) else { break };
        stored.push((content, ack["seq"].as_u64().expect("a seq")));
        acked.fetch_add(1, Ordering::Relaxed);
    }
    stored
}

#[test]
fn sigterm_under_traffic_closes_with_4000_and_exits_0() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let mut process = Process::start(data.path());
    let (ann, ann_token) = register(process.address, "/user/register", "13800000001");
    let (bob, bob_token) = register(process.address, "/user/register", "13800000002");
    let acked = AtomicU64::new(0);
    let mut readers = vec![Client::v2(process.address, &bob_token), Client::legacy(process.address, bob, &bob_token)];
    thread::scope(|scope| {
        let author = scope.spawn(|| {
            let mut client = Client::v2(process.address, &ann_token);
            let stored = post_until_broken(&mut client, bob, 0, &acked);
            (stored, client.close_code())
        });
        let until = Instant::now() + PATIENCE;
        while acked.load(Ordering::Relaxed) < 20 {
            assert!(Instant::now() < until && !author.is_finished(), "no traffic");
            thread::yield_now();
        }
        process.signal(Signal::TERM);
        for reader in &mut readers {
            assert_eq!(reader.closed(), 4000);
        }
        let (stored, code) = author.join().expect("the author ends well");
        assert_eq!(code, Some(4000));
        assert!(stored.len() >= 20);
    });
    let status = process.ended(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0), "{status}");

    let again = Process::start(data.path());
    let rows = history(again.address, &bob_token, 10, ann);
    assert!(rows.len() as u64 >= acked.load(Ordering::Relaxed));
}

#[test]
fn the_echo_of_a_signal_does_not_cut_the_stop_short() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let mut process = Process::start(data.path());
    let (_, token) = register(process.address, "/user/register", "13800000001");
    let mut reader = Client::v2(process.address, &token);
    // `timeout` signals its child and then its whole group. Two kinds, since two of one kind may melt into one.
    process.signal(Signal::TERM);
    process.signal(Signal::INT);
    assert_eq!(reader.closed(), 4000);
    let status = process.ended(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0), "{status}");
}

#[test]
fn kill_9_loses_no_acked_message_and_doubles_none() {
    const PAIRS: usize = 3;
    let data = tempfile::tempdir().expect("a temporary directory");
    let mut process = Process::start(data.path());
    let users: Vec<(u64, String)> =
        (0..2 * PAIRS).map(|n| register(process.address, "/user/register", &format!("1380000000{n}"))).collect();
    let acked = AtomicU64::new(0);
    let stored: Vec<Vec<(String, u64)>> = thread::scope(|scope| {
        let authors: Vec<_> = (0..PAIRS)
            .map(|pair| {
                let (address, acked, users) = (process.address, &acked, &users);
                scope.spawn(move || {
                    let mut client = Client::v2(address, &users[2 * pair].1);
                    post_until_broken(&mut client, users[2 * pair + 1].0, pair, acked)
                })
            })
            .collect();
        let until = Instant::now() + PATIENCE;
        while acked.load(Ordering::Relaxed) < 100 {
            assert!(Instant::now() < until, "no traffic");
            thread::yield_now();
        }
        process.signal(Signal::KILL);
        authors.into_iter().map(|author| author.join().expect("the author ends well")).collect()
    });
    process.ended(PATIENCE);

    let again = Process::start(data.path());
    for (pair, acked) in stored.iter().enumerate() {
        let (author, reader) = (&users[2 * pair], &users[2 * pair + 1]);
        let rows = history(again.address, &reader.1, 10, author.0);
        let mut by_content: BTreeMap<&str, u64> = BTreeMap::new();
        for (n, row) in rows.iter().enumerate() {
            assert_eq!(row["seq"], n + 1, "no hole");
            let twice = by_content.insert(row["content"].as_str().expect("a content"), n as u64 + 1);
            assert_eq!(twice, None, "{row} is there twice");
        }
        for (content, seq) in acked {
            assert_eq!(by_content.get(content.as_str()), Some(seq), "an acked message must be in the history");
        }
        // One more may have been stored without its ack having left. Its resend under the same cid is answered, not stored again.
        let content = format!("{pair}-{}", acked.len());
        let mut client = Client::v2(again.address, &author.1);
        let ack: Value = client.say_acked(10, reader.0, &content, &content);
        assert_eq!(ack["seq"], acked.len() + 1);
        assert_eq!(history(again.address, &reader.1, 10, author.0).len(), acked.len() + 1);
    }
}

#[test]
fn out_of_descriptors_is_survived_and_forgotten() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let process = Process::start_short_of_descriptors(data.path(), 80);
    let (ann, token) = register(process.address, "/user/register", "13800000001");
    let mut early = Client::v2(process.address, &token);
    // Far more than there are descriptors: the kernel keeps the rest in its queue.
    let crowd: Vec<_> = (0..150).map(|_| connect(process.address)).collect();
    assert_eq!(early.say_acked(10, ann, "c1", "who is in notices nothing")["seq"], 1);
    drop(crowd);
    // No edge announces those who wait in the queue: the listener tries again by itself. Until it has noticed that the crowd is gone,
    // who comes is told to come again.
    let (url, until) = (format!("ws://{}/chat?token={token}", process.address), Instant::now() + PATIENCE);
    let mut late = loop {
        match Client::open(connect(process.address), &url, &[V2]) {
            Ok(client) => break client.opened(),
            Err(told) => assert!(told.contains("503") && Instant::now() < until, "{told}"),
        }
    };
    assert_eq!(late.say_acked(10, ann, "c2", "who comes later is served")["seq"], 2);
}

#[test]
fn a_backup_under_traffic_is_restored_as_another_epoch() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let mut process = Process::start(data.path());
    let (author, token) = register(process.address, "/user/register", "13800000000");
    let (reader, reader_token) = register(process.address, "/user/register", "13800000001");
    let acked = AtomicU64::new(0);
    let until = Instant::now() + PATIENCE;
    let wait_for = |n: u64| {
        while acked.load(Ordering::Relaxed) < n {
            assert!(Instant::now() < until, "no traffic");
            thread::yield_now();
        }
    };
    let copy = data.path().join("copy.db");
    let backup = |data: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
        command.args(["backup", "--data"]).arg(data).arg(&copy).env("IMGATE_LOG", "warn").output().expect("it starts")
    };
    let (before, lost) = thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let mut client = Client::v2(process.address, &token);
            post_until_broken(&mut client, reader, 0, &acked)
        });
        wait_for(30);
        let before = acked.load(Ordering::Relaxed);
        let made = backup(data.path());
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let line: Value = serde_json::from_slice(&made.stdout).expect("one line of JSON");
        assert_eq!(line["bytes"], std::fs::metadata(&copy).expect("it is there").len());
        assert!(!backup(data.path()).status.success(), "nothing is overwritten");
        wait_for(acked.load(Ordering::Relaxed) + 30);
        process.signal(Signal::KILL);
        (before, traffic.join().expect("the author ends well"))
    });
    process.ended(PATIENCE);
    let sync = |address, after: u64| {
        let mut client = Client::v2(address, &reader_token);
        client.send(&serde_json::json!({ "cmd": 4, "kind": 10, "dstid": author, "after": after, "limit": 200 }));
        client.wait_for(4)
    };
    let last = lost.len() as u64;
    let old = Process::start(data.path());
    let (head, epoch) = (sync(old.address, last - 1), sync(old.address, 0)["epoch"].clone());
    assert!(head.get("reset").is_none() && head["rows"].as_array().is_some_and(|rows| !rows.is_empty()), "{head}");
    drop(old);

    // As docs/operations.md tells it: stop, put the copy in the place of the three files, start.
    for file in ["imgate.db", "imgate.db-wal", "imgate.db-shm"] {
        let _ = std::fs::remove_file(data.path().join(file));
    }
    std::fs::copy(&copy, data.path().join("imgate.db")).expect("copied");
    let restored = Process::start(data.path());
    let is_told = |line: &String| line.contains("the database is a backup that was put in place");
    assert!(restored.beginning.iter().any(is_told), "{:?}", restored.beginning);
    let rows = history(restored.address, &reader_token, 10, author);
    assert!(rows.len() as u64 >= before && (rows.len() as u64) < last, "{before} <= {} < {last}", rows.len());
    for (n, row) in rows.iter().enumerate() {
        assert_eq!(row["seq"], n + 1, "no hole");
    }
    let told = sync(restored.address, last);
    assert_eq!(told["reset"], true, "who has seen more is told to begin anew: {told}");
    assert_ne!(told["epoch"], epoch);
    let (next, _) = register(restored.address, "/user/register", "13800000002");
    assert!(next > reader + 1, "numbers that may have been lost are not given again");
    let mut client = Client::v2(restored.address, &token);
    assert_eq!(client.say_acked(10, reader, "after", "after")["seq"], rows.len() + 1);
}

#[test]
fn the_log_says_where_to_go_what_was_asked_and_which_login_failed() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
    command.env("IMGATE_LOG", "info,imgate=debug");
    let process = Process::launch(command, data.path());
    let line = process.says("in a browser");
    assert!(line.contains(&format!("open http://{}/ ", process.address)), "{line}");
    let get = "GET /files/0123.png?token=secret HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert!(exchange(process.address, get.as_bytes()).starts_with("HTTP/1.1 404 "));
    let line = process.says("a request");
    assert!(line.contains("path=\"/files/\"") && line.contains("status=404"), "{line}");
    // The first word is the time, which may have any digits.
    let (_, words) = line.trim_start().split_once(' ').expect("words");
    assert!(!words.contains("0123") && !line.contains("secret"), "{line}");
    let body = r#"{"mobile":"13800000001","password":"nobody's at all"}"#;
    let head = "POST /api/v1/login HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n";
    let login = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    assert!(exchange(process.address, login.as_bytes()).starts_with("HTTP/1.1 401 "));
    let line = process.says("a login failed");
    assert!(line.contains("from=127.0.0.1") && line.contains("138…01") && line.contains("unknown"), "{line}");
    assert!(!line.contains("13800000001") && !line.contains("nobody's"), "{line}");
}

/// What an alert is about: a gateway that is stopped and started again is no gateway that falls over.
#[test]
fn ends_without_a_stop_are_counted_over_restarts() {
    let data = tempfile::tempdir().expect("a temporary directory");
    for (unclean, end) in
        [(0, Signal::TERM), (0, Signal::KILL), (1, Signal::TERM), (1, Signal::KILL), (2, Signal::KILL)]
    {
        let mut process = Process::start(data.path());
        let page = exchange(process.admin, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let line = page.lines().find(|line| line.starts_with("imgate_unclean_ends_total "));
        assert_eq!(line, Some(format!("imgate_unclean_ends_total {unclean}").as_str()), "before {end:?}");
        process.signal(end);
        process.ended(PATIENCE);
    }
}
