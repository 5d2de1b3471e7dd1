//! The orderly stop: who is told what, how evenly, and that its deadline is kept.

use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

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
    command.args(["--drain-deadline", "2s"]);
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
    assert!(began.elapsed() < Duration::from_millis(3_000), "{:?}", began.elapsed());
    let summary = process.says("stopped");
    assert!(summary.contains("1 cut off, 0 not reached, 0 commands unanswered, the store has finished"), "{summary}");
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
