//! One run by several processes: what holds for one holds for all together, what goes wrong is found
//! wherever it happens, and whatever fails has its own end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::endings::{PATIENCE, spawn, tell, under_way, until};
use super::{Fault, Place, each, start, verdict};

/// Longer than any test waits.
const LONG: &str = "--seconds 3000";
const SECRET: &str = "sixteen letters and more";

/// A worker of a test's own; it goes with its owner.
struct Worker {
    child: Child,
    address: String,
    /// What it has said, line by line.
    said: Arc<Mutex<Vec<String>>>,
}

impl Worker {
    fn start() -> Self {
        Self::start_with(&mut Command::new(env!("CARGO_BIN_EXE_autoclient")))
    }

    fn start_with(command: &mut Command) -> Self {
        command.args(["worker", "--listen", "127.0.0.1:0"]).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("a worker starts");
        let mut lines = BufReader::new(child.stderr.take().expect("its words")).lines();
        let first = lines.next().expect("a line").expect("text");
        let address = first.rsplit_once(' ').expect("an address").1.to_owned();
        let said = Arc::new(Mutex::new(vec![first]));
        let more = Arc::clone(&said);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                more.lock().expect("a list").push(line);
            }
        });
        Self { child, address, said }
    }

    /// Waits until it has said something.
    fn says(&self, words: &str) {
        until(&format!("a worker says: {words}"), || {
            self.said.lock().expect("a list").iter().any(|line| line.contains(words))
        });
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have been ended by the test.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The flag that names some workers.
fn shared(workers: &[&Worker]) -> String {
    let addresses: Vec<&str> = workers.iter().map(|worker| worker.address.as_str()).collect();
    format!("--workers {}", addresses.join(","))
}

const FANOUT: &str = "fanout --group 5 --members 12 --publishers 3 --rate 40 --seconds 1 --drain 4 --p99-ms inf --lag-ms inf \
     --metrics off";
const DIRECT: &str = "direct --pairs 4 --seconds 1 --drain 4 --rate 40 --p99-ms inf --lag-ms inf --metrics off";

/// A run by two workers.
fn by_two(line: &str, fault: Fault, stored: bool) -> (i32, Value) {
    let (one, two) = (Worker::start(), Worker::start());
    let server = start(fault, stored);
    let place = Place::beside(&server);
    verdict(&place.autoclient(&format!("{line} --target {} {}", server.address, shared(&[&one, &two]))))
}

#[test]
fn several_processes_are_one_run() {
    let direct = |line: &'static str, stored| (line, stored, 80, 80);
    let cases = [
        (FANOUT, true, 40, 40 * 11),
        (FANOUT, false, 40, 40 * 11),
        direct(DIRECT, true),
        direct(
            "direct --pairs 4 --seconds 1 --drain 4 --rate 40 --p99-ms inf --lag-ms inf --metrics off --threads 2",
            false,
        ),
    ];
    each(cases, |(line, stored, sent, delivered)| {
        let (code, report) = by_two(line, Fault::None, stored);
        assert_eq!(code, 0, "{report}");
        assert_eq!((report["sent"].as_u64(), report["delivered"].as_u64()), (Some(sent), Some(delivered)), "{report}");
        assert_eq!(report["delivery_latency"]["count"].as_u64(), Some(delivered), "{report}");
        let workers = report["workers"].as_array().expect("rows");
        let sum = |key: &str| workers.iter().map(|one| one[key].as_u64().expect(key)).sum::<u64>();
        assert_eq!((workers.len(), sum("sent"), sum("delivered")), (2, sent, delivered), "{report}");
        let connections = if line == FANOUT { 12 } else { 8 };
        assert_eq!(sum("connections"), connections, "{report}");
        for worker in workers {
            assert!(worker["sent"].as_u64() > Some(0) && worker["connections"].as_u64() >= Some(4), "{report}");
            assert!(worker["cpu_percent"].as_f64().is_some_and(|percent| percent < 1000.0), "{report}");
            assert!(worker["clock_unsure_us"].as_f64().is_some_and(|us| us < 1e6), "{report}");
            assert_eq!(worker["failed"], Value::Null, "{report}");
        }
        assert!(report["clocks_differ_by"].as_f64().is_some_and(|ms| ms < 1e3), "{report}");
    });
}

#[test]
fn what_only_another_process_knows_of_a_group_may_still_come() {
    let (one, two) = (Worker::start(), Worker::start());
    // 27 messages: the last is from one worker's user, and comes late to those of the other.
    let server = start(Fault::LateAcross(27), true);
    let place = Place::beside(&server);
    std::fs::write(place.file("mix"), "group = 40").expect("a mix");
    let line = format!(
        "mixed --users 8 --group 5 --speed 150 --seconds 2 --p99-ms inf --lag-ms inf --metrics off --threads 1 --mix {} \
         --target {} {}",
        place.file("mix"),
        server.address,
        shared(&[&one, &two])
    );
    let (code, report) = verdict(&place.autoclient(&line));
    assert_eq!((code, report["group_lost"].as_u64()), (0, Some(0)), "{report}");
    assert!(report["group_delivery_latency"]["max_ms"].as_f64().is_some_and(|ms| ms >= 900.0), "{report}");
}

#[test]
fn every_scenario_that_can_be_shared_is() {
    let (one, two) = (Worker::start(), Worker::start());
    let server = start(Fault::None, true);
    let place = Place::beside(&server);
    let run = |line: &str| {
        let line = format!("{line} --metrics off --target {} {}", server.address, shared(&[&one, &two]));
        let (code, report) = verdict(&place.autoclient(&line));
        assert_eq!(code, 0, "{line}: {report}");
        report
    };
    let report = run("idle --steps 10,21 --seconds 0 --settle 0 --threads 2");
    assert_eq!(
        (report["unanswered"].as_u64(), report["answer_latency"]["count"].as_u64()),
        (Some(0), Some(21)),
        "{report}"
    );
    let report = run("direct --pairs 4 --seconds 1 --window 1 --p99-ms inf");
    assert!(report["sent"].as_u64() > Some(100), "{report}");
    let mix = "direct = 40\ngroup = 20\ntyping = 20\nread = 20\nhistory = 20\nlist = 20\npresence = 20\nheartbeat = 20\n\
               reconnect = 10\nlogin = 5\n";
    std::fs::write(place.file("mix"), mix).expect("a mix");
    let report = run(&format!(
        "mixed --users 8 --group 5 --speed 150 --seconds 2 --p99-ms inf --lag-ms inf --mix {}",
        place.file("mix")
    ));
    assert_eq!((report["acked"].as_u64(), report["reconnect"]["done"].as_u64()), (Some(54), Some(7)), "{report}");
    assert!(report["group_delivery_latency"]["count"].as_u64() > Some(50), "{report}");
    assert!(report["login"]["answered"].as_u64() > Some(0), "{report}");
    // Step after step, each by workers that are free again.
    let page = place.file("page.html");
    let report = run(&format!(
        "capacity --pairs 4 --p99-ms 5000 --from-rate 20 --rate-max 40 --step-seconds 2 --verify-seconds 2 --html {page}"
    ));
    assert_eq!(report["capacity"].as_f64(), Some(40.0), "{report}");
    let points = report["timeline"].as_array().expect("a point a second");
    assert!(points.iter().any(|point| point["ack"]["p99_ms"].as_f64() > Some(0.0)), "{report}");
    assert_eq!(points[0]["worker_cpu_percent"].as_array().map(Vec::len), Some(2), "{report}");
    let page = std::fs::read_to_string(page).expect("a page");
    for part in ["worker 1 (127.0.0.1:", "worker 2 (127.0.0.1:", "worker 2</text>"] {
        assert!(page.replace('\n', "").contains(part), "{part}: {page}");
    }
}

#[test]
fn what_goes_wrong_is_found_across_workers() {
    // The victim is the first user, whose connection is the first worker's; publishers are both's.
    let cases = [
        (FANOUT, Fault::Lose(1), true, "lost", 1),
        (FANOUT, Fault::Lose(20), true, "lost", 1),
        (FANOUT, Fault::Lose(40), true, "lost", 1),
        (FANOUT, Fault::Lose(40), false, "lost", 1),
        (FANOUT, Fault::SkipSeq(20), true, "lost", 12),
        (FANOUT, Fault::Double(20), true, "doubled", 1),
        (FANOUT, Fault::Swap(20), true, "out_of_order", 1),
        (DIRECT, Fault::Lose(20), true, "lost", 1),
        (DIRECT, Fault::Double(20), false, "doubled", 1),
        (DIRECT, Fault::NoAck(20), true, "unacked", 1),
    ];
    each(cases, |(line, fault, stored, key, count)| {
        let (code, report) = by_two(line, fault, stored);
        assert_eq!((code, report[key].as_u64()), (1, Some(count)), "{fault:?}: {report}");
    });
}

#[test]
fn a_worker_that_is_killed_or_stopped_ends_the_run_with_a_verdict_of_its_own() {
    each(
        [(Signal::KILL, "ended"), (Signal::TERM, "a signal ends the worker"), (Signal::STOP, "nothing for 10 s")],
        |(signal, why)| {
            let (one, two) = (Worker::start(), Worker::start());
            let server = start(Fault::None, true);
            let place = Place::beside(&server);
            let line = format!("{DIRECT} {LONG} --target {} {}", server.address, shared(&[&one, &two]));
            let child = spawn(&place, &line);
            under_way(&server, 20, 8);
            tell(&two.child, signal);
            let (code, report) = verdict(&child.wait_with_output().expect("it ends"));
            assert_eq!((code, report["verdict"].as_str()), (10, Some("worker failed")), "{report}");
            let failures = report["failures"].to_string();
            assert!(failures.contains(&format!("worker 2 ({})", two.address)), "{report}");
            assert!(report["workers"][1]["failed"].as_str().is_some_and(|told| told.contains(why)), "{why}: {report}");
            assert_eq!(report["workers"][0]["failed"], Value::Null, "{report}");
            // What is known until then is told, and what the lost worker did not come to is no loss.
            assert!(report["acked"].as_u64() > Some(0) && report["workers"][0]["sent"].as_u64() > Some(0), "{report}");
            assert_eq!(report["failures"].as_array().map(Vec::len), Some(1), "{report}");
            // The other one is free for the next.
            let again = format!("{DIRECT} --target {} {}", start(Fault::None, true).address, shared(&[&one]));
            assert_eq!(verdict(&place.autoclient(&again)).0, 0);
        },
    );
}

#[test]
fn a_worker_that_cannot_reach_the_server_is_named() {
    // Users 7 and 8 are a pair of the second worker.
    let (code, report) = by_two(DIRECT, Fault::Shut(7), true);
    assert_eq!((code, report["exit_code"].as_u64()), (10, Some(10)), "{report}");
    let why = report["failures"].to_string();
    assert!(
        why.contains("worker 2") && !why.contains("worker 1 ") && why.contains("cannot reach the server"),
        "{report}"
    );
    // Where all of them are refused, the server is not there for anyone, as in a run of one process.
    let (one, two) = (Worker::start(), Worker::start());
    let server = start(Fault::Shut(1), true);
    let output =
        Place::beside(&server).autoclient(&format!("{DIRECT} --target {} {}", server.address, shared(&[&one, &two])));
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_worker_that_was_late_is_named() {
    // No thread is woken without any delay.
    let (code, report) = by_two(&format!("{FANOUT} --lag-ms 0"), Fault::None, true);
    let why = report["failures"].to_string();
    assert_eq!((code, report["verdict"].as_str()), (3, Some("generator at its limit")), "{report}");
    assert!(
        why.contains("messages left late: worker 1 (") && why.contains("messages left late: worker 2 ("),
        "{report}"
    );
}

#[test]
fn more_connections_than_one_process_may_have_are_shared() {
    let short = || {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n 90 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_autoclient")]);
        Worker::start_with(&mut command)
    };
    let (one, two) = (short(), short());
    let server = start(Fault::None, true);
    let place = Place::beside(&server);
    let idle = |connections: u64, workers: &[&Worker]| {
        let line = format!("idle --connections {connections} --seconds 0 --settle 0 --metrics off");
        place.autoclient(&format!("{line} --target {} {}", server.address, shared(workers)))
    };
    let words = refused(&idle(40, &[&one]));
    assert!(words.contains("worker 1 (") && words.contains("40 connections need 104 descriptors"), "{words}");
    let (code, report) = verdict(&idle(40, &[&one, &two]));
    assert_eq!((code, report["answer_latency"]["count"].as_u64()), (0, Some(40)), "{report}");
}

#[test]
fn an_interrupted_control_reports_and_stops_its_workers() {
    let (one, two) = (Worker::start(), Worker::start());
    let server = start(Fault::None, true);
    let place = Place::beside(&server);
    for line in [DIRECT, FANOUT] {
        let (posts, upgrades) = server.progress();
        let child = spawn(&place, &format!("{line} {LONG} --target {} {}", server.address, shared(&[&one, &two])));
        under_way(&server, posts + 20, upgrades + 8);
        tell(&child, Signal::INT);
        let (code, report) = verdict(&child.wait_with_output().expect("it ends"));
        assert_eq!((code, report["failures"].to_string().as_str()), (9, r#"["interrupted"]"#), "{report}");
        assert!(report["acked"].as_u64() > Some(10), "{report}");
    }
}

#[test]
fn a_control_that_vanishes_ends_the_run_of_its_workers() {
    each(
        [(Signal::KILL, "the connection has ended"), (Signal::STOP, "the control has said nothing for 10 s")],
        vanishes,
    );
}

fn vanishes((signal, why): (Signal, &str)) {
    let worker = Worker::start();
    let server = start(Fault::None, true);
    let place = Place::beside(&server);
    let line = format!("{DIRECT} {LONG} --target {} {}", server.address, shared(&[&worker]));
    let mut child = spawn(&place, &line);
    under_way(&server, 10, 8);
    // Meanwhile it does not work for another one.
    let output = place.autoclient(&format!("{DIRECT} --target {} {}", server.address, shared(&[&worker])));
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && words.contains("busy with another run"), "{words}");
    tell(&child, signal);
    worker.says(why);
    child.kill().expect("it is ours");
    child.wait().expect("it has ended");
    assert_eq!(verdict(&place.autoclient(&line.replace(LONG, ""))).0, 0, "it is free again");
}

/// A run that cannot begin: the exit code and the words.
fn refused(output: &Output) -> String {
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{words}");
    words
}

#[test]
fn a_secret_is_shared_or_there_is_no_run() {
    let server = start(Fault::None, true);
    let place = Place::beside(&server);
    std::fs::write(place.file("secret"), SECRET).expect("a secret");
    std::fs::write(place.file("other"), "another secret of letters").expect("a secret");
    std::fs::write(place.file("short"), "guess me").expect("a secret");
    let mut command = Command::new(env!("CARGO_BIN_EXE_autoclient"));
    let worker = Worker::start_with(command.env("AUTOCLIENT_SECRET", SECRET));
    let open = Worker::start();
    let run = |worker: &Worker, more: &str| {
        place.autoclient(&format!("{DIRECT} --target {} {} {more}", server.address, shared(&[worker])))
    };
    let with = |name: &str| format!("--secret-file {}", place.file(name));
    assert!(refused(&run(&worker, "")).contains("it wants a secret: give --secret-file"));
    assert!(refused(&run(&worker, &with("other"))).contains("the control has another secret"));
    assert!(refused(&run(&worker, &with("short"))).contains("at least 16 letters"));
    assert!(refused(&run(&open, &with("secret"))).contains("it has no secret, and one was given"));
    assert_eq!(verdict(&run(&worker, &with("secret"))).0, 0);
    // Where others can reach it, there is no worker without one.
    let everywhere = Command::new(env!("CARGO_BIN_EXE_autoclient")).args(["worker", "--listen", "0.0.0.0:0"]).output();
    assert!(refused(&everywhere.expect("autoclient runs")).contains("a worker there wants a secret"));
}

fn frame(message: &Value) -> Vec<u8> {
    let body = message.to_string();
    [&(body.len() as u32).to_be_bytes()[..], body.as_bytes()].concat()
}

/// The next message of a connection.
fn next(stream: &mut TcpStream) -> Value {
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("a length");
    let mut body = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut body).expect("a message");
    serde_json::from_slice(&body).expect("JSON")
}

/// What both ends have to say beside their version (`split::wire::PROTOCOL`).
const PROTOCOL: u64 = 3;

fn introduction(version: &str, protocol: u64) -> Value {
    json!({"protocol": protocol, "version": version, "nonce": "ab", "proof": null})
}

#[test]
fn another_build_is_refused_by_either() {
    // A control of another version, and of another protocol.
    let worker = Worker::start();
    for hello in [introduction("0.0.0", 1), introduction(env!("CARGO_PKG_VERSION"), 0)] {
        let mut stream = connect(&worker);
        assert_eq!(next(&mut stream)["Greeting"]["version"], env!("CARGO_PKG_VERSION"));
        stream.write_all(&frame(&json!({"Hello": hello}))).expect("it is taken");
        let answer = next(&mut stream);
        assert!(answer["Refused"].as_str().is_some_and(|why| why.contains("take the same build for both")), "{answer}");
    }
    // A worker of another version, and one that is none at all.
    let server = start(Fault::None, true);
    let place = Place::beside(&server);
    for (bytes, why) in [
        (frame(&json!({"Greeting": introduction("0.0.0", 1)})), "it is autoclient 0.0.0 with protocol 1"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "at most 4096 are taken"),
        (frame(&json!({"Greeting": 7})), "no message of autoclient's"),
        (Vec::new(), "the connection has ended"),
    ] {
        let (address, _) = answering(bytes);
        let words = refused(&place.autoclient(&format!("{DIRECT} --target {} --workers {address}", server.address)));
        assert!(words.contains(&format!("worker {address}")) && words.contains(why), "{why}: {words}");
    }
    let words = refused(&place.autoclient(&format!("{DIRECT} --target {} --workers 127.0.0.1:1", server.address)));
    assert!(words.contains("worker 127.0.0.1:1: cannot be reached: start it there with"), "{words}");
}

fn connect(worker: &Worker) -> TcpStream {
    let stream = TcpStream::connect(&worker.address).expect("a worker");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    stream
}

/// Something that answers one connection with some bytes.
fn answering(bytes: Vec<u8>) -> (SocketAddr, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let thread = thread::spawn(move || {
        if let Ok((mut stream, _)) = listener.accept() {
            // The other end may have gone.
            let _ = stream.write_all(&bytes);
        }
    });
    (address, thread)
}

#[test]
fn whatever_comes_to_a_worker_it_says_what_was_wrong_and_waits_on() {
    let worker = Worker::start();
    let hello = frame(&json!({"Hello": introduction(env!("CARGO_PKG_VERSION"), PROTOCOL)}));
    let briefing = |arguments: &[&str]| {
        json!({"Briefing": {"arguments": arguments, "lanes": 2, "first": 0, "threads": 1, "run": 1, "ahead_ns": 0,
            "group": null, "load": null, "certificates": null, "mix": null}})
    };
    let known = |messages: &[Value]| [hello.clone(), messages.iter().flat_map(frame).collect()].concat();
    let begin =
        |arguments: &[&str], users: &str| known(&[briefing(arguments), json!({"Users": users}), json!("Begin")]);
    let direct = ["direct", "--tokens", "x", "--pairs", "1", "--rate", "1"];
    let place = Place::beside(&start(Fault::None, true));
    let secret = place.file("tokens");
    let cases = [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "at most 4096 are taken"),
        (frame(&json!("Begin")), "a control says hello first"),
        (frame(&json!({"Hello": {}})), "missing field"),
        (
            known(&[json!({"Whole": {"acked": 1, "acked_seqs": null, "cut_short": false}})]),
            "says what its part is first",
        ),
        (known(&[json!("Begin")]), "what the part is before it begins"),
        (begin(&["verify", "--users", "2", "--groups", "0"], ""), "cannot be shared"),
        (begin(&["worker"], ""), "a worker of a worker"),
        (begin(&["direct", "--pairs", "0"], ""), "--pairs"),
        (begin(&direct, ""), "no user for place 0"),
        (begin(&direct, "0 7 a\n0 8 b\n"), "places rise"),
        (begin(&[&direct[..], &["--acked-log", &secret]].concat(), "0 7 a\n1 8 b\n"), "--acked-log cannot be shared"),
        (begin(&[&direct[..], &["--tls", &secret]].concat(), "0 7 a\n1 8 b\n"), "has told no certificates"),
        (begin(&[&direct[..], &["--target", "192.0.2.1:1"]].concat(), "0 7 a\n1 8 b\n"), "not a loopback address"),
        (begin(&["fanout", "--tokens", "x", "--members", "0"], ""), "has told no group"),
        (begin(&["capacity", "--tokens", "x"], ""), "has told no rate"),
    ];
    for (bytes, why) in cases {
        // The one before may still be on its way out.
        let mut answer = None;
        until(why, || {
            let mut stream = connect(&worker);
            next(&mut stream);
            stream.write_all(&bytes).expect("it is taken");
            let told = loop {
                if let Some(told) = next(&mut stream)["Refused"].as_str() {
                    break told.to_owned();
                }
            };
            let busy = told.contains("busy with another run");
            answer = Some(told);
            !busy
        });
        assert!(answer.as_deref().is_some_and(|told| told.contains(why)), "{why}: {answer:?}");
    }
    // More at once than it greets at once.
    let many: Vec<TcpStream> = (0..20).map(|_| connect(&worker)).collect();
    drop(many);
    let server = start(Fault::None, true);
    let line = format!("{DIRECT} --target {} {}", server.address, shared(&[&worker]));
    assert_eq!(verdict(&Place::beside(&server).autoclient(&line)).0, 0, "and then it works");
}

#[test]
fn what_cannot_be_shared_says_so() {
    let server = start(Fault::None, true);
    let place = Place::beside(&server);
    for (line, what) in [
        ("slow --group 5 --members 4 --stalled 1 --seconds 2", "`slow` cannot be shared"),
        ("churn --connections 2 --connect-rate 10 --seconds 1", "`churn` cannot be shared"),
        ("storm --clients 2", "`storm` cannot be shared"),
        ("restart --clients 2", "`restart` cannot be shared"),
        (&format!("direct --pairs 1 --rate 1 --acked-log {}", place.file("acked")), "--acked-log cannot be shared"),
    ] {
        let words = refused(&place.autoclient(&format!("{line} --target {} --workers 127.0.0.1:1", server.address)));
        assert!(words.contains(what) && words.contains("idle, fanout, direct, mixed, capacity"), "{words}");
    }
    let words = refused(&place.autoclient("verify --users 2 --groups 0 --workers 127.0.0.1:1"));
    assert!(words.contains("unexpected argument '--workers'"), "{words}");
}

#[test]
fn a_worker_ends_by_a_signal_with_success() {
    let mut worker = Worker::start();
    // A connection that says nothing does not keep it.
    let _silent = connect(&worker);
    tell(&worker.child, Signal::TERM);
    let began = Instant::now();
    assert_eq!(worker.child.wait().expect("it ends").code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(60));
}
