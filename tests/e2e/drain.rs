//! The orderly stop: who is told what, how evenly, and that its deadline is kept.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use imgate::auth::Issuer;
use imgate::limits::STOP_ECHO_MS;
use imgate::node::Tuning;
use rustix::process::Signal;

use crate::process::Process;
use crate::support::{Client, Gateway, PATIENCE, connect, exchange, register};

fn readiness(process: &Process) -> String {
    exchange(process.admin, b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
}

/// The milliseconds that a close frame asks its client to stay away.
fn slot(client: &mut Client) -> u64 {
    let (code, reason) = client.closed_for();
    assert_eq!(code, 4000, "{reason}");
    let digits = reason.strip_prefix("shutdown retry_ms=").unwrap_or_else(|| panic!("a slot: {reason}"));
    digits.parse().expect("milliseconds")
}

#[test]
fn every_session_of_a_gateway_that_stops_has_its_own_slot_to_come_back() {
    const USERS: u64 = 40;
    // At 10 a second 40 sessions come back within 4 s.
    let settings = [("drain_return_rate", "10"), ("drain_return_after", "2s")];
    let mut gateway = Gateway::start_with(2, USERS, &settings, Tuning::default());
    let mut clients: Vec<Client> = (1..=USERS).map(|user| gateway.v2(user)).collect();
    let mut slots = std::thread::scope(|scope| {
        let stop = scope.spawn(|| gateway.stop());
        let slots: Vec<u64> = clients.iter_mut().map(slot).collect();
        // They let go, so that the stop need not wait for them.
        clients.clear();
        stop.join().expect("it stops");
        slots
    });
    slots.sort_unstable();
    let (first, last) = (slots[0], slots[slots.len() - 1]);
    assert!((2_000 - 40..2_500).contains(&first), "not before the gateway is back: {slots:?}");
    assert!((4_500..=6_040).contains(&last), "spread over four seconds: {slots:?}");
    // Two shards divide the time among their own, so of ten slots some may fall together, but never a crowd.
    for window in slots.windows(8) {
        assert!(window[7] - window[0] >= 200, "eight within {} ms: {slots:?}", window[7] - window[0]);
    }
}

#[test]
fn a_stop_keeps_its_deadline_when_nobody_answers_the_close() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
    command.args(["--drain-deadline", "5s"]);
    let mut process = Process::launch(command, data.path());
    let (_, token) = register(process.address, "/user/register", "13800000001");
    // It is told, and never lets go.
    let mut deaf = Client::v2(process.address, &token);
    // A request that never becomes whole.
    let mut half = connect(process.address);
    half.write_all(b"GET /chat HTTP/1.1\r\n").expect("it is taken");
    let began = Instant::now();
    process.signal(Signal::TERM);
    while !readiness(&process).contains("stopping") {
        assert!(began.elapsed() < PATIENCE, "it never says that it stops");
    }
    let slot = slot(&mut deaf);
    assert!((1_000..1_100).contains(&slot), "alone it comes back as soon as a restart is done: {slot}");
    let status = process.ended(PATIENCE);
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(began.elapsed() < Duration::from_millis(6_000), "{:?}", began.elapsed());
    let summary = process.says("stopped");
    assert!(summary.contains("1 cut off, 0 not reached, 0 commands unanswered, the store has finished"), "{summary}");
}

/// A gateway that announces its stop for so long, with the deadline of three minutes.
fn announcing(announce: &str, data: &std::path::Path) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
    command.args(["--drain-announce", announce, "--drain-deadline", "3m", "--drain-spread", "1s"]);
    Process::launch(command, data)
}

fn wait_until_it_stops(process: &Process) {
    let until = Instant::now() + PATIENCE;
    while !readiness(process).contains("stopping") {
        assert!(Instant::now() < until, "it never says that it stops");
    }
}

#[test]
fn a_stop_that_is_announced_serves_on_until_a_second_signal() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let mut process = announcing("90s", data.path());
    let (ann, token) = register(process.address, "/user/register", "13800000001");
    let mut early = Client::v2(process.address, &token);
    let began = Instant::now();
    process.signal(Signal::TERM);
    wait_until_it_stops(&process);
    let announced = Instant::now();
    assert!(readiness(&process).starts_with("HTTP/1.1 503 "));
    // Balancers have not heard of it yet: who they send comes in, by every way.
    let (bob, token) = register(process.address, "/user/register", "13800000002");
    let mut late = Client::v2(process.address, &token);
    let mut said = 0;
    // Long enough that the next signal is no echo of the first one.
    while said < 3 || announced.elapsed() < Duration::from_millis(STOP_ECHO_MS * 2) {
        said += 1;
        assert_eq!(late.say_acked(10, ann, &format!("late {said}"), "served")["seq"], said * 2 - 1);
        assert_eq!(early.say_acked(10, bob, &format!("early {said}"), "as before")["seq"], said * 2);
    }
    process.signal(Signal::TERM);
    // Its echo ends nothing.
    process.signal(Signal::INT);
    let slots = [slot(&mut early), slot(&mut late)];
    assert!(slots.iter().all(|slot| *slot < 1_200), "they are told when to come back: {slots:?}");
    drop((early, late));
    assert!(TcpStream::connect(process.address).is_err(), "newcomers are refused");
    let status = process.ended(PATIENCE);
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    process.says("a second signal: the rest of the announcement is left out");
    let summary = process.says("stopped");
    assert!(summary.contains("2 of 2 connections closed, 0 cut off, 0 not reached"), "{summary}");
}

/// As Kubernetes does it: `imgate drain --no-wait` in a hook, and SIGTERM when the hook has ended.
#[test]
fn the_first_signal_after_an_operators_drain_does_not_end_the_announcement() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let mut process = announcing("10s", data.path());
    let (_, token) = register(process.address, "/user/register", "13800000001");
    let began = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
    command.args(["drain", "--no-wait", "--admin", &process.admin.to_string(), "--data"]).arg(data.path());
    let asked = command.output().expect("the command runs");
    assert!(asked.status.success(), "{asked:?}");
    wait_until_it_stops(&process);
    process.signal(Signal::TERM);
    let mut client = Client::v2(process.address, &token);
    let slot = slot(&mut client);
    drop(client);
    assert!(began.elapsed() >= Duration::from_secs(10), "{:?}", began.elapsed());
    assert!((1_000..1_100).contains(&slot), "{slot}");
    let status = process.ended(PATIENCE);
    assert_eq!(status.code(), Some(0), "{status}");
}

#[test]
fn the_operators_drain_is_the_orderly_stop_and_needs_the_key() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    let mut process = Process::start(data.path());
    let (_, token) = register(process.address, "/user/register", "13800000001");
    let mut client = Client::v2(process.address, &token);
    let admin = process.admin.to_string();
    let drain = |data: &std::path::Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
        command.args(["drain", "--admin", &admin, "--data"]).arg(data);
        command.output().expect("the command runs")
    };
    // No key, and another one.
    let refused = drain(elsewhere.path());
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("there is no"), "{refused:?}");
    drop(Process::start(elsewhere.path()));
    let refused = drain(elsewhere.path());
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("another signing key"), "{refused:?}");
    assert!(readiness(&process).contains("200 OK"), "it still serves");
    let done = std::thread::scope(|scope| {
        let done = scope.spawn(|| drain(data.path()));
        assert!(slot(&mut client) < 1_100);
        drop(client);
        done.join().expect("the command ends")
    });
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert!(String::from_utf8_lossy(&done.stdout).contains("ended after"), "{done:?}");
    let status = process.ended(PATIENCE);
    assert_eq!(status.code(), Some(0), "{status}");
    process.says("the operator asks for a drain");
    let summary = process.says("stopped");
    assert!(summary.contains("1 of 1 connections closed, 0 cut off, 0 not reached"), "{summary}");
    let gone = drain(data.path());
    assert_eq!(gone.status.code(), Some(1), "{gone:?}");
    assert!(String::from_utf8_lossy(&gone.stderr).contains("no gateway answers"), "{gone:?}");
}

const FILE_BYTES: usize = 16 << 20;

/// Begins a download of [`FILE_BYTES`], far more than sockets hold, and reads the first byte of it.
fn begin_download(address: SocketAddr, token: &str) -> TcpStream {
    let mut upload = connect(address);
    let head = "POST /api/v1/files?name=a.bin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    let head = format!("{head}Authorization: Bearer {token}\r\nContent-Length: {FILE_BYTES}\r\n\r\n");
    upload.write_all(head.as_bytes()).expect("it is taken");
    upload.write_all(&vec![1; FILE_BYTES]).expect("it is taken");
    let mut answer = String::new();
    upload.read_to_string(&mut answer).expect("the server ends the stream");
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let file: serde_json::Value = serde_json::from_str(body).unwrap_or_else(|_| panic!("a file: {answer}"));
    let mut download = connect(address);
    let url = file["url"].as_str().unwrap_or_else(|| panic!("a URL: {file}"));
    download.write_all(format!("GET {url} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).expect("it is taken");
    download.read_exact(&mut [0]).expect("it begins");
    download
}

#[test]
fn a_download_may_take_what_is_left_of_the_deadline_and_idle_connections_end_at_once() {
    let mut gateway = Gateway::start(2, 1);
    let mut download = begin_download(gateway.address(), &gateway.token(1, Issuer::Own));
    let mut idle = connect(gateway.address());
    idle.write_all(b"GET /api/v1/config HTTP/1.1\r\nHost: x\r\n\r\n").expect("it is taken");
    idle.read_exact(&mut [0]).expect("it is answered");
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            gateway.stop();
            tell.send(()).expect("the test listens");
        });
        idle.read_to_end(&mut Vec::new()).expect("the server ends the stream");
        // Its reader takes longer than the sessions would.
        let early = told.recv_timeout(Duration::from_secs(3));
        assert!(early.is_err(), "a download is under way");
        let mut rest = Vec::new();
        download.read_to_end(&mut rest).expect("the server ends the stream");
        assert!(rest.len() > FILE_BYTES && rest.ends_with(&[1; 1024]), "cut off: {}", rest.len());
        told.recv_timeout(Duration::from_secs(3)).expect("nothing is under way any more");
    });
}

#[test]
fn what_the_deadline_cuts_of_downloads_is_in_the_summary() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
    command.args(["--drain-deadline", "2s"]);
    let mut process = Process::launch(command, data.path());
    let (_, token) = register(process.address, "/user/register", "13800000001");
    let _never_read = begin_download(process.address, &token);
    let began = Instant::now();
    process.signal(Signal::TERM);
    let status = process.ended(PATIENCE);
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(began.elapsed() < Duration::from_millis(6_000), "{:?}", began.elapsed());
    let summary = process.says("stopped, not in order");
    assert!(summary.contains("1 HTTP requests cut off, the store has finished"), "{summary}");
}

#[test]
fn the_drain_command_waits_for_the_end_of_the_process_and_the_admin_port_says_meanwhile_how_it_is() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
    command.args(["--drain-deadline", "3s"]);
    let mut process = Process::launch(command, data.path());
    let (_, token) = register(process.address, "/user/register", "13800000001");
    let never_read = begin_download(process.address, &token);
    let admin = process.admin.to_string();
    let mut drain = Command::new(env!("CARGO_BIN_EXE_imgate"));
    let mut drain = drain.args(["drain", "--admin", &admin, "--data"]).arg(data.path());
    drain = drain.stdout(std::process::Stdio::piped());
    let began = Instant::now();
    let drain = drain.spawn().expect("the command runs");
    // The store is the last thing before the downloads.
    while !readiness(&process).contains("store: ") {
        assert!(began.elapsed() < PATIENCE, "it never stops");
    }
    assert!(readiness(&process).contains("\nstopping\n"), "it says so to its end");
    let done = drain.wait_with_output().expect("the command ends");
    // Until just before its deadline a download holds the process.
    assert!(began.elapsed() >= Duration::from_millis(2_500), "{:?}: {done:?}", began.elapsed());
    process.ended(PATIENCE);
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && said.contains("ended after"), "{done:?}");
    process.says("1 HTTP requests cut off");
    drop(never_read);
}
