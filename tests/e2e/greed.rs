//! Greedy clients with real sockets: whoever takes much waits, and the others do not notice.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use imgate::auth::Issuer;
use imgate::limits::{HEAD_BYTES_MAX, QUANTUM_FRAMES, TURN_HEAVY_FRAMES_MAX, TURN_LIGHT_FRAMES_MAX};
use imgate::node::Tuning;
use rustix::process::Signal;
use serde_json::json;

use crate::process::Process;
use crate::support::{Client, Gateway, PATIENCE, V2, connect, exchange};

/// A pong of a client that nobody asked for.
const PONG: [u8; 6] = [0x8A, 0x80, 0, 0, 0, 0];
/// The rest of the head of an upgrade.
const UPGRADE: &str = "Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// The beginning of a message of `claimed` bytes, of which `sent` come.
fn part_of_message(claimed: u16, sent: usize) -> Vec<u8> {
    let [high, low] = claimed.to_be_bytes();
    [&[0x81, 0xFE, high, low, 0, 0, 0, 0][..], &vec![b'x'; sent]].concat()
}

/// A message of 1,002 fragments of one byte, and empty ones between.
fn fragments() -> Vec<u8> {
    let mut bytes = vec![0x01, 0x81, 0, 0, 0, 0, b'x'];
    for n in 1..1002_u16 {
        let fin = if n == 1001 { 0x80 } else { 0 };
        let len = u8::from(n % 2 == 1);
        bytes.extend([fin, 0x80 | len, 0, 0, 0, 0]);
        bytes.extend(vec![b'x'; usize::from(len)]);
    }
    bytes
}

/// Looks at a metric until `done`, within [`PATIENCE`].
pub(crate) fn watch(gateway: &Gateway, metric: &str, done: impl Fn(f64) -> bool) -> f64 {
    let began = Instant::now();
    loop {
        let value = gateway.metric(metric);
        if done(value) {
            return value;
        }
        assert!(began.elapsed() < PATIENCE, "{metric} is {value}");
    }
}

/// Waits until the series of a process that begin with `name` have reached a sum.
fn await_sum(process: &Process, name: &str, wanted: usize) {
    let began = Instant::now();
    loop {
        let page = exchange(process.admin, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let values = page.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit(' ').next());
        let sum: f64 = values.filter_map(|value| value.parse::<f64>().ok()).sum();
        if sum >= wanted as f64 {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{name} is {sum}");
    }
}

#[test]
fn floods_that_need_no_answer_take_a_bounded_part_of_each_turn() {
    const FLOODERS: u64 = 12;
    const TURNS: &str = r#"imgate_turn_seconds_count{shard="0"}"#;
    let gateway = Gateway::start(1, FLOODERS + 2);
    let (mut a, mut b) = (gateway.v2(FLOODERS + 1), gateway.v2(FLOODERS + 2));
    let over = AtomicBool::new(false);
    let flooders: Vec<Client> = (1..=FLOODERS).map(|user| gateway.v2(user)).collect();
    thread::scope(|scope| {
        for (n, client) in flooders.iter().enumerate() {
            let block = if n % 2 == 0 { PONG.repeat(10_000) } else { fragments().repeat(10) };
            let over = &over;
            scope.spawn(move || {
                let mut stream: &TcpStream = client.stream();
                while !over.load(Ordering::Relaxed) {
                    let taken = stream.write_all(&block).is_ok();
                    assert!(taken || over.load(Ordering::Relaxed), "a flooder is slowed down, and not cut off");
                }
            });
        }
        watch(&gateway, "imgate_connections_heavy", |heavy| heavy > 0.0);
        let (turns, frames) = (gateway.metric(TURNS), gateway.metric("imgate_frames_total"));
        for n in 0..20 {
            a.send(&json!({"cmd": 0}));
            a.wait_for(0);
            a.say_acked(10, FLOODERS + 2, &format!("c{n}"), "hello");
            assert_eq!(b.wait_for(10)["seq"], n + 1);
        }
        let frames = gateway.metric("imgate_frames_total") - frames;
        let turns = gateway.metric(TURNS) - turns;
        // Newcomers, too.
        drop(Client::v2(gateway.address(), &gateway.token(FLOODERS + 1, Issuer::Own)));
        over.store(true, Ordering::Relaxed);
        let most = f64::from(TURN_LIGHT_FRAMES_MAX + QUANTUM_FRAMES + TURN_HEAVY_FRAMES_MAX);
        assert!(frames > 0.0 && frames <= most * (turns + 2.0), "{frames} frames in {turns} turns");
        for client in &flooders {
            // Whoever is blocked in a write gets an error now.
            let _ = client.stream().shutdown(std::net::Shutdown::Both);
        }
    });
}

#[test]
fn half_heads_give_way_to_newcomers() {
    const EVICTED: &str = r#"imgate_gate_refused_total{reason="evicted"}"#;
    let gateway = Gateway::start_with(1, 4, &[("max_connections", "16")], Tuning::default());
    let mut halves: Vec<TcpStream> = Vec::new();
    for _ in 0..40 {
        let mut half = connect(gateway.address());
        half.write_all(b"GET /chat HTTP/1.1\r\nHost:").expect("taken");
        halves.push(half);
    }
    let mut clients: Vec<Client> = (1..=4).map(|user| gateway.v2(user)).collect();
    assert_eq!(clients[0].say_acked(10, 2, "c", "hello")["seq"], 1);
    watch(&gateway, EVICTED, |evicted| evicted >= 28.0);
    let mut answer = String::new();
    halves[0].read_to_string(&mut answer).expect("the end of the stream");
    assert!(answer.starts_with("HTTP/1.1 408 "), "the oldest goes and is told: {answer:?}");
    assert!(gateway.metric(r#"imgate_connections{shard="0"}"#) <= 16.0);
}

/// What a connection has sent waits in the kernel when its place is needed: it hears so, and its socket is not reset.
#[test]
fn half_heads_that_were_not_read_yet_hear_that_they_go() {
    const PLACES: usize = 32;
    const NEWCOMERS: usize = 12;
    // A place that one shard makes may be taken by a newcomer of another.
    const EVICTED: usize = NEWCOMERS / 2;
    let data = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
    command.args(["--max-connections", &PLACES.to_string()]);
    let mut process = Process::launch(command, data.path());
    let mut halves: Vec<TcpStream> = (0..PLACES).map(|_| connect(process.address)).collect();
    await_sum(&process, "imgate_connections{", PLACES);
    process.stands_still();
    for half in &mut halves {
        half.write_all(b"GET /chat HTTP/1.1\r\nHost:").expect("the kernel takes it");
    }
    let newcomers: Vec<TcpStream> = (0..NEWCOMERS).map(|_| connect(process.address)).collect();
    process.signal(Signal::CONT);
    await_sum(&process, r#"imgate_gate_refused_total{reason="evicted"}"#, EVICTED);
    process.signal(Signal::TERM);
    process.ended(PATIENCE);
    let answers = halves.iter_mut().map(|half| {
        let mut answer = String::new();
        half.read_to_string(&mut answer).expect("the end of the stream, and no reset");
        answer
    });
    let told = answers.filter(|answer| answer.starts_with("HTTP/1.1 408 ")).count();
    assert!(told >= EVICTED, "{told}");
    drop(newcomers);
}

#[test]
fn a_connection_without_a_place_is_told_503() {
    let gateway = Gateway::start_with(1, 2, &[("max_connections", "2")], Tuning::default());
    let mut clients = [gateway.v2(1), gateway.v2(2)];
    let mut refused = connect(gateway.address());
    let mut answer = String::new();
    let _ = refused.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer:?}");
    assert_eq!(gateway.metric(r#"imgate_gate_refused_total{reason="busy"}"#), 1.0);
    assert_eq!(clients[0].say_acked(10, 2, "c", "hello")["seq"], 1);
    assert_eq!(clients[1].wait_for(10)["seq"], 1);
}

#[test]
fn a_message_must_be_whole_in_time_whatever_comes_between() {
    let tuning = Tuning { message_ms_max: 1_000, ..Tuning::default() };
    let gateway = Gateway::start_with(1, 2, &[], tuning);
    let (slow, guest) = (gateway.v2(2), guest(&gateway).expect("101"));
    for client in [slow, guest] {
        // The first fragment of a message, and pings for ever.
        client.stream().write_all(&[0x01, 0x81, 0, 0, 0, 0, b'{']).expect("taken");
        let began = Instant::now();
        let mut reader = client.stream().try_clone().expect("a descriptor");
        // So many that it stays below its pace: of whoever is not read for that nothing is late.
        reader.set_read_timeout(Some(Duration::from_millis(5))).expect("a socket");
        let mut heard = Vec::new();
        let mut buffer = [0; 4096];
        let closed =
            |heard: &[u8]| heard.windows(4).any(|bytes| bytes[0] == 0x88 && bytes[2..] == 1008_u16.to_be_bytes());
        while !closed(&heard) {
            assert!(began.elapsed() < PATIENCE, "not closed: {heard:?}");
            let _ = reader.write_all(&[0x89, 0x80, 0, 0, 0, 0]);
            while !closed(&heard) {
                match reader.read(&mut buffer) {
                    Ok(n) => {
                        assert!(n > 0, "ended without a close frame: {heard:?}");
                        heard.extend_from_slice(&buffer[..n]);
                    }
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                    Err(error) => panic!("{error} after {heard:?}"),
                }
            }
        }
        drop(client.stream().shutdown(std::net::Shutdown::Both));
    }
    assert_eq!(gateway.metric(r#"imgate_inbound_ended_total{why="slow"}"#), 2.0);
    assert_eq!(gateway.metric(r#"imgate_sessions_closed_total{code="incomplete"}"#), 2.0);
    // Messages that come in pieces and in time end nobody, also on a busy machine.
    let gateway = Gateway::start_with(1, 1, &[], Tuning { message_ms_max: 10_000, ..Tuning::default() });
    let mut other = gateway.v2(1);
    for _ in 0..3 {
        other.stream().write_all(&[0x01, 0x81, 0, 0, 0, 0, b'{']).expect("taken");
        watch(&gateway, "imgate_inbound_bytes", |bytes| bytes > 0.0);
        other.stream().write_all(b"\x80\x88\0\0\0\0\"cmd\":0}").expect("taken");
        other.wait_for(0);
    }
    watch(&gateway, "imgate_inbound_bytes", |bytes| bytes == 0.0);
}

#[test]
fn whoever_has_begun_the_most_for_the_longest_goes_when_memory_is_used_up() {
    const SESSIONS: u64 = 100;
    const BUDGET: f64 = 4.0 * 1024.0 * 1024.0;
    /// What one turn may add, and what is not the message itself.
    const SLACK: f64 = 1024.0 * 1024.0;
    const ENDED: &str = r#"imgate_inbound_ended_total{why="budget"}"#;
    let gateway = Gateway::start_with(2, SESSIONS + 2, &[("inbound_budget", "4MiB")], Tuning::default());
    let (mut a, mut b) = (gateway.v2(SESSIONS + 1), gateway.v2(SESSIONS + 2));
    let mut greedy = Vec::new();
    for user in 1..=SESSIONS {
        let client = gateway.v2(user);
        client.stream().write_all(&part_of_message(65_400, 60_000)).expect("taken");
        greedy.push(client);
        let held = gateway.metric("imgate_inbound_bytes");
        assert!(held <= BUDGET + SLACK, "{held} bytes after {user} sessions");
    }
    let ended = watch(&gateway, ENDED, |ended| ended >= 20.0);
    assert!(ended < SESSIONS as f64, "not all of them");
    assert_eq!(greedy[0].closed(), 1008, "the first one has it the longest");
    for n in 0..10 {
        assert_eq!(a.say_acked(10, SESSIONS + 2, &format!("c{n}"), "hello")["seq"], n + 1);
        assert_eq!(b.wait_for(10)["seq"], n + 1);
    }
    let last = greedy.last_mut().expect("there are some");
    last.stream().write_all(&vec![b'x'; 5_400]).expect("the youngest may finish");
    assert_eq!(last.wait_for(2)["code"], 1, "what it says is nonsense, but whole");
    drop(greedy);
    watch(&gateway, "imgate_inbound_bytes", |bytes| bytes == 0.0);
}

/// A guest of `/chatroom`.
fn guest(gateway: &Gateway) -> Result<Client, String> {
    Client::open(connect(gateway.address()), &format!("ws://{}/chatroom", gateway.address()), &[])
}

#[test]
fn guests_have_places_of_their_own() {
    let gateway = Gateway::start_with(2, 2, &[("chatroom_guests", "3")], Tuning::default());
    let mut guests: Vec<Client> = (0..3).map(|_| guest(&gateway).expect("101")).collect();
    let refused = guest(&gateway).err().expect("one too many");
    assert!(refused.contains("503"), "{refused}");
    assert_eq!(gateway.metric(r#"imgate_gate_refused_total{reason="guests"}"#), 1.0);
    assert_eq!(gateway.v2(1).say_acked(10, 2, "c", "hello")["seq"], 1, "users are no guests");
    guests.pop().expect("three").close();
    let began = Instant::now();
    while guest(&gateway).is_err() {
        assert!(began.elapsed() < PATIENCE, "the place of a guest who left is free");
    }
}

#[test]
fn a_head_that_comes_in_pieces_is_judged_when_it_ends() {
    let gateway = Gateway::start(1, 1);
    let token = gateway.token(1, Issuer::Own);
    let padding = format!("X: {}\r\n", "y".repeat(7000));
    let head = format!("GET /chat?token={token} HTTP/1.1\r\n{}: {}\r\n{padding}{UPGRADE}", V2.0, V2.1);
    for piece in [1, 7, 1000, 4096] {
        let mut stream = connect(gateway.address());
        for bytes in head.as_bytes().chunks(piece) {
            stream.write_all(bytes).expect("taken");
        }
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 101", "in pieces of {piece}");
    }
    // One that is too large is told before it ends.
    let mut stream = connect(gateway.address());
    for bytes in head.replace(&padding, &padding.repeat(4)).as_bytes()[..HEAD_BYTES_MAX + 100].chunks(500) {
        stream.write_all(bytes).expect("taken");
    }
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 431");
    watch(&gateway, "imgate_inbound_bytes", |bytes| bytes == 0.0);
}
