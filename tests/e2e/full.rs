//! The real binary on a disk that is full: senders are told, everybody else is served, and with room comes recovery.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use imgate::limits::{COMMIT_RETRY_MS_MAX, SQLITE_BUSY_MS};
use imgate::wire::Reject;
use serde_json::{Value, json};

use crate::process::Process;
use crate::support::{Client, PATIENCE, exchange, history, register};

/// The disk, and what of it a file takes that can be removed. What is left at first fills with some fifty messages, each of
/// which takes 60 KiB of the log; what is free later is enough for as many as a slow machine has refused meanwhile.
const DISK_KIB: u64 = 67 * 1024;
const BALLAST_KIB: u64 = 64 * 1024;
/// Bytes of a message: some hundred fill the disk.
const CONTENT: usize = 16 * 1024;
/// Messages refused before room is made.
const REFUSED: usize = 20;

/// How a mount of one's own is made here: as somebody who is root for herself, or as root. `None`: not at all.
fn unshare() -> Option<&'static str> {
    ["-rm", "-m"].into_iter().find(|how| {
        let mount = "mount -t tmpfs -o size=64k none /tmp";
        let tried = Command::new("unshare").args([how, "sh", "-c", mount]).stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    })
}

/// A gateway on a small disk that only it sees.
fn start_on_a_small_disk(how: &str, data: &Path) -> Process {
    let mut command = Command::new("unshare");
    // The last of the gateway's arguments is the directory.
    let script = format!(
        "for data; do :; done; mount -t tmpfs -o size={DISK_KIB}k none \"$data\" && \
         head -c {BALLAST_KIB}K /dev/zero > \"$data/ballast\" && exec \"$0\" \"$@\""
    );
    command.args([how, "sh", "-c", &script, env!("CARGO_BIN_EXE_imgate")]);
    Process::launch(command, data)
}

/// A file of the disk that only the gateway sees.
fn inside(process: &Process, data: &Path, file: &str) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{}/root", process.pid()));
    root.join(data.strip_prefix("/").expect("an absolute path")).join(file)
}

fn admin(process: &Process, path: &str) -> String {
    exchange(process.admin, format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes())
}

fn is_ready(process: &Process) -> bool {
    admin(process, "/readyz").starts_with("HTTP/1.1 200 ")
}

fn metric(process: &Process, name: &str) -> f64 {
    let page = admin(process, "/metrics");
    let line = page.lines().find(|line| line.split(' ').next() == Some(name));
    let value = line.and_then(|line| line.split(' ').nth(1)).and_then(|value| value.parse().ok());
    value.unwrap_or_else(|| panic!("no metric {name} in {page}"))
}

/// The answer to a post: an ack or a refusal.
fn answer(client: &mut Client, cid: &str) -> Value {
    loop {
        let message = client.json();
        if message["cid"] == cid && (message["cmd"] == 1 || message["cmd"] == 2) {
            return message;
        }
    }
}

/// Posts `content` to `dst`; the seq of the ack, or `None` if it was refused as it must be.
fn post(client: &mut Client, dst: u64, cid: &str, content: &str) -> Option<u64> {
    let began = Instant::now();
    client.say(10, dst, cid, content);
    let answer = answer(client, cid);
    if answer["cmd"] == 1 {
        return answer["seq"].as_u64();
    }
    assert_eq!((&answer["code"], &answer["retry"]), (&json!(Reject::Busy.code()), &json!(true)), "{answer}");
    // Half of the patience is for the machine, the rest is promised.
    let promised = Duration::from_millis(COMMIT_RETRY_MS_MAX + SQLITE_BUSY_MS) + PATIENCE / 2;
    assert!(began.elapsed() < promised, "refused after {:?}", began.elapsed());
    None
}

fn heartbeat_is_answered(client: &mut Client) {
    client.send(&json!({"cmd": 0}));
    client.wait_for(0);
}

#[test]
fn a_full_disk_refuses_and_recovers_by_itself() {
    let Some(how) = unshare() else {
        println!(
            "skipped: `unshare` may not make a mount of its own here (user namespaces are off, and this is not root)"
        );
        return;
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = dir.path().canonicalize().expect("its path");
    let process = start_on_a_small_disk(how, &data);
    let (ann, ann_token) = register(process.address, "/user/register", "13800000001");
    let (bob, bob_token) = register(process.address, "/user/register", "13800000002");
    let (mut author, mut reader) = (Client::v2(process.address, &ann_token), Client::v2(process.address, &bob_token));
    assert!(is_ready(&process));
    assert!((metric(&process, "imgate_store_up") - 1.0).abs() < f64::EPSILON);

    // Each content names itself at its beginning.
    let content = |n: usize| format!("{n} {}", "x".repeat(CONTENT));
    let (mut acked, mut refused) = (BTreeMap::new(), Vec::new());
    let (mut seen_not_ready, mut seen_down) = (false, false);
    let until = Instant::now() + 3 * PATIENCE;
    for n in 0.. {
        match post(&mut author, bob, &n.to_string(), &content(n)) {
            Some(seq) => {
                acked.insert(n, seq);
            }
            None => {
                refused.push(n);
                seen_not_ready |= !is_ready(&process);
                seen_down |= metric(&process, "imgate_store_up") < 0.5;
                heartbeat_is_answered(&mut author);
                heartbeat_is_answered(&mut reader);
            }
        }
        if refused.len() >= REFUSED && seen_not_ready && seen_down {
            break;
        }
        assert!(
            Instant::now() < until,
            "{} acked, {} refused, {seen_not_ready} {seen_down}",
            acked.len(),
            refused.len()
        );
    }
    assert!(acked.len() > 10, "there was room at first");
    assert!(metric(&process, "imgate_store_errors_total") >= 1.0);
    let rows = history(process.address, &bob_token, 10, ann);
    assert_eq!(rows.len(), acked.len(), "what is acked is read while there is no room");

    fs::remove_file(inside(&process, &data, "ballast")).expect("there is room again");
    let until = Instant::now() + PATIENCE;
    while !is_ready(&process) || metric(&process, "imgate_store_up") < 0.5 {
        assert!(Instant::now() < until, "it is not ready although there is room");
        std::thread::yield_now();
    }
    // The same key as before, as a client does.
    for n in refused {
        while !acked.contains_key(&n) {
            assert!(Instant::now() < until, "it never recovered");
            acked.extend(post(&mut author, bob, &n.to_string(), &content(n)).map(|seq| (n, seq)));
        }
    }
    heartbeat_is_answered(&mut reader);
    let rows = history(process.address, &bob_token, 10, ann);
    assert_eq!(rows.len(), acked.len(), "each once");
    let by_seq: BTreeMap<u64, usize> = acked.into_iter().map(|(n, seq)| (seq, n)).collect();
    for (row, place) in rows.iter().zip(1..) {
        assert_eq!(row["seq"], place, "no hole");
        let n = by_seq.get(&place).expect("every row was acked");
        assert_eq!(row["content"].as_str().and_then(|text| text.split(' ').next()), Some(n.to_string().as_str()));
    }
}
