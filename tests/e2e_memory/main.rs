//! What a gateway takes of memory, and does when memory is short. A target of its own, because the tests beside it would be measured, or would keep it waiting.

#[path = "../support/process.rs"]
mod process;
#[path = "../support/mod.rs"]
mod support;

mod hostile;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use imgate::auth::Issuer;
use imgate::metrics::process::resident_bytes;
use imgate::node::Tuning;

use support::{Client, Gateway, PATIENCE, connect};

const MIB: usize = 1024 * 1024;

/// One test at a time: each looks at the memory of all, or wants all of the machine.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    // Another test may have failed meanwhile.
    ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Bytes of this process in memory now.
fn resident() -> usize {
    usize::try_from(resident_bytes().expect("Linux tells it")).expect("it fits")
}

/// An upload whose body is to follow.
fn upload(gateway: &Gateway, length: &str) -> TcpStream {
    let mut stream = connect(gateway.address());
    let token = gateway.token(1, Issuer::Own);
    let head = format!("POST /api/v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{length}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    stream
}

fn answer(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        // A reset after the answer is an end too.
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("no answer: {error}"),
    }
    String::from_utf8(bytes).expect("text")
}

fn files_in(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries.map(|path| if path.is_dir() { files_in(&path) } else { 1 }).sum()
}

#[test]
fn a_body_without_end_is_refused_and_costs_no_memory() {
    let _alone = alone();
    let gateway = Gateway::start_with(1, 1, &[("upload_max", "160MiB")], Tuning::default());
    let mut stream = upload(&gateway, "Content-Length: 10000000000");
    let refused = answer(&mut stream);
    assert!(refused.starts_with("HTTP/1.1 413 "), "before the first byte: {refused}");

    let before = resident();
    let mut most = before;
    let mut stream = upload(&gateway, "Transfer-Encoding: chunked");
    let chunk = vec![b'x'; MIB];
    // As long as it is taken: a little more than is allowed, and what is read for the answer's sake.
    for sent in 0..1000 {
        let written = stream
            .write_all(format!("{:x}\r\n", chunk.len()).as_bytes())
            .and_then(|()| stream.write_all(&chunk))
            .and_then(|()| stream.write_all(b"\r\n"));
        most = most.max(resident());
        if written.is_err() {
            assert!(sent >= 160, "{sent} MiB");
            break;
        }
        assert!(sent < 900, "a body without end is taken");
    }
    assert!(most - before < 64 * MIB, "{} MiB more", (most - before) / MIB);
    assert_eq!(files_in(&gateway.data().join("files")), 0);
}

/// A guest of `/chatroom`.
fn guest(gateway: &Gateway) -> Result<Client, String> {
    Client::open(connect(gateway.address()), &format!("ws://{}/chatroom", gateway.address()), &[])
}

#[test]
fn when_memory_is_short_newcomers_are_refused_and_whoever_is_in_stays() {
    const REFUSED: &str = r#"imgate_gate_refused_total{reason="memory"}"#;
    let _alone = alone();
    let max = resident() + 256 * MIB;
    let gateway = Gateway::start_with(1, 2, &[("memory_max", &max.to_string())], Tuning::default());
    let (mut a, mut b) = (gateway.v2(1), gateway.v2(2));
    assert_eq!(gateway.metric("imgate_memory_max_bytes"), max as f64);
    assert!(guest(&gateway).is_ok(), "there is room");
    let until = |what: &str, is_so: &dyn Fn() -> bool| {
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed() < PATIENCE, "{what}");
        }
    };
    // The gateway is a part of this process. What earlier tests have freed goes back to the system at
    // a time of the allocator's choice, so the ballast grows until it is felt, and is kept as heavy.
    let mut ballast: Vec<Vec<u8>> = Vec::new();
    let mut press_until = |what: &str, is_so: &dyn Fn() -> bool| {
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed() < PATIENCE, "{what}, at {} of {max} bytes", resident());
            if resident() < max + 32 * MIB {
                ballast.push(std::hint::black_box(vec![1_u8; 32 * MIB]));
            }
        }
    };
    press_until("newcomers are told", &|| guest(&gateway).err().is_some_and(|refused| refused.contains("503")));
    assert!(gateway.metric(REFUSED) >= 1.0);
    press_until("caches are shed", &|| gateway.metric("imgate_caches_shed_total") >= 1.0);
    assert_eq!(a.say_acked(10, 2, "c", "hello")["seq"], 1);
    assert_eq!(b.wait_for(10)["seq"], 1, "whoever takes what is sent keeps nothing alive");
    drop(ballast);
    until("newcomers come in again", &|| guest(&gateway).is_ok());
}
