//! The real binary and what supervisors, terminals and collectors of logs do to it.

use std::io::{BufRead, BufReader, PipeReader};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::process::Process;
use crate::support::{Client, PATIENCE, exchange, register};

/// How long a stop may take.
const STOP: Duration = Duration::from_secs(10);

fn ends_within(child: &mut Child, within: Duration) -> Option<i32> {
    let until = std::time::Instant::now() + within;
    loop {
        if let Some(status) = child.try_wait().expect("it is our child") {
            return status.code();
        }
        assert!(std::time::Instant::now() < until, "the process still runs after {within:?}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn a_terminal_that_closes_ends_nothing_and_loads_the_configuration_again() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let file = data.path().join("imgate.toml");
    std::fs::write(&file, "log = \"info\"\n").expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
    command.env("IMGATE_CONFIG", &file);
    let mut process = Process::launch(command, data.path());
    let (user, token) = register(process.address, "/user/register", "13800000001");
    let mut client = Client::v2(process.address, &token);

    process.signal(Signal::HUP);
    process.says("the configuration was loaded again");
    for (text, words) in [
        ("log = \"verbose\"\n", "the configuration stays as it is"),
        ("log = \"info\"\nstore_writers = 2\n", "waits for a restart"),
        ("log = \"imgate::node=info\"\n", "the configuration was loaded again"),
    ] {
        std::fs::write(&file, text).expect("a file");
        process.signal(Signal::HUP);
        process.says(words);
    }
    process.signal(Signal::USR1);
    assert!(client.try_say_acked(10, user, "still here").is_some());
    process.signal(Signal::TERM);
    assert_eq!(client.closed(), 4000);
    assert_eq!(process.ended(STOP).code(), Some(0));
}

#[test]
fn a_collector_of_logs_is_given_an_object_a_line() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
    command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "2", "--log", "debug", "--data"]);
    let mut child = command.arg(data.path()).env("IMGATE_LOG_FORMAT", "json").stderr(Stdio::piped()).spawn();
    let child = child.as_mut().expect("the binary starts");
    let mut log = BufReader::new(child.stderr.take().expect("its log"));
    let mut next = || {
        let mut line = String::new();
        (log.read_line(&mut line).expect("UTF-8") > 0).then_some(line)
    };
    let object = |line: String| {
        let object: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for key in ["timestamp", "level", "message", "target"] {
            assert!(object[key].is_string(), "{key}: {line}");
        }
        assert!(!line.contains("open-nothing"), "no token: {line}");
        object
    };
    let address = loop {
        let said = object(next().expect("it says where it listens"));
        if said["message"] == "listening" {
            break said["address"].as_str().expect("a text").parse().expect("an address");
        }
    };
    let head = "GET /chat?token=open-nothing HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    assert!(!exchange(address, head.as_bytes()).starts_with("HTTP/1.1 101"), "that is no token");
    kill_process(Pid::from_child(child), Signal::TERM).expect("it runs");
    let rest: Vec<Value> = std::iter::from_fn(next).map(object).collect();
    assert!(rest.iter().any(|said| said["level"] == "DEBUG"), "the refusal is told: {rest:?}");
    assert_eq!(ends_within(child, STOP), Some(0));
}

#[test]
fn sigquit_stops_in_order() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let mut process = Process::start(data.path());
    let (_, token) = register(process.address, "/user/register", "13800000001");
    let mut client = Client::v2(process.address, &token);
    process.signal(Signal::QUIT);
    assert_eq!(client.closed(), 4000);
    assert_eq!(process.ended(STOP).code(), Some(0));
}

/// The binary with its log in a pipe as small as there are, of which nothing is read after the start.
struct Piped {
    child: Child,
    address: SocketAddr,
    reader: BufReader<PipeReader>,
}

#[allow(
    clippy::zombie_processes,
    reason = "the test that gets it waits for its end; one that does not serve has failed"
)]
fn piped(data: &Path, log: &str) -> Piped {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    rustix::pipe::fcntl_setpipe_size(&reader, 4096).expect("a size that every pipe may have");
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
    command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "2", "--data"]).arg(data);
    let child = command.env("IMGATE_LOG", log).stderr(writer).spawn().expect("the binary starts");
    drop(command);
    let mut reader = BufReader::new(reader);
    let mut address = None;
    loop {
        let mut line = String::new();
        assert!(reader.read_line(&mut line).expect("its log") > 0, "it ended before it served");
        if line.contains(" listening ") {
            let text = line.split_once("address=").and_then(|(_, rest)| rest.split(' ').next());
            address = text.and_then(|text| text.parse().ok());
        }
        if line.contains(" admin ") {
            return Piped { child, address: address.expect("it says where it listens"), reader };
        }
    }
}

#[test]
fn a_log_that_has_lost_its_reader_ends_nothing() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let Piped { mut child, address, reader } = piped(data.path(), "info");
    // The collector dies; what is logged from now on goes nowhere.
    drop(reader);
    let (user, token) = register(address, "/user/register", "13800000001");
    let mut client = Client::v2(address, &token);
    for signal in [Signal::USR1, Signal::HUP, Signal::USR2] {
        kill_process(Pid::from_child(&child), signal).expect("it runs");
        assert!(client.try_say_acked(10, user, "still here").is_some());
    }
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    assert_eq!(client.closed(), 4000);
    assert_eq!(ends_within(&mut child, STOP), Some(0));
}

#[test]
fn a_log_that_is_not_read_costs_lines_and_nothing_else() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let Piped { mut child, address, reader } = piped(data.path(), "trace");
    let (user, token) = register(address, "/user/register", "13800000001");
    let mut client = Client::v2(address, &token);
    for _ in 0..100 {
        assert!(client.try_say_acked(10, user, "still here").is_some());
    }
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    assert_eq!(client.closed(), 4000);
    assert_eq!(ends_within(&mut child, STOP), Some(0));
    drop(reader);
}

#[test]
fn a_stop_during_the_start_is_obeyed() {
    let data = tempfile::tempdir().expect("a temporary directory");
    // A database that takes connections and never says anything.
    let mute = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("mysql://root@{}/imgate", mute.local_addr().expect("an address"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
    command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "2", "--store", &url, "--data"]);
    let mut child = command.arg(data.path()).stderr(Stdio::null()).spawn().expect("the binary starts");
    // It has begun to open the database.
    let connection = mute.accept().expect("it connects");
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    assert_eq!(ends_within(&mut child, PATIENCE), Some(0));
    drop(connection);
}

#[test]
fn what_was_written_during_the_start_is_in_force_after_it_when_it_was_asked_for() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let file = data.path().join("imgate.toml");
    std::fs::write(&file, "store_writers = 2\n").expect("a file");
    let mute = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("mysql://root@{}/imgate", mute.local_addr().expect("an address"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
    command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "2", "--store", &url, "--data"]);
    command.env("IMGATE_CONFIG", &file).stderr(Stdio::piped());
    let mut child = command.arg(data.path()).spawn().expect("the binary starts");
    let connection = mute.accept().expect("it connects");
    std::fs::write(&file, "outbox = \"200KiB\"\nstore_writers = 2\n").expect("a file");
    kill_process(Pid::from_child(&child), Signal::HUP).expect("it runs");
    // From now on the database is away, which ends no start.
    drop((connection, mute));
    let (tell, told) = crossbeam_channel::bounded(64);
    let log = BufReader::new(child.stderr.take().expect("its log"));
    std::thread::spawn(move || {
        for line in log.lines().map_while(Result::ok).filter(|line| line.contains("loaded again")) {
            let _ = tell.send(line);
        }
    });
    let line = told.recv_timeout(PATIENCE);
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    assert_eq!(ends_within(&mut child, PATIENCE), Some(0));
    let line = line.expect("it says so");
    assert!(line.contains("outbox"), "{line}");
}
