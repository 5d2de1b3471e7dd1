//! How a run ends that is cut short or whose output is not read: signals, closed pipes, full disks.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{DIRECT, FANOUT, FLOOD, Fake, Fault, Place, SLOW, STORM, each, start, verdict};

/// Longer than any test waits: what ends before has been ended.
const LONG: &str = "--seconds 3000";
/// Longer than a loaded machine takes for anything that is waited for here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until something is so, which must come to be so by itself.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        thread::yield_now();
    }
}

pub(crate) fn spawn(place: &Place, line: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_autoclient"));
    command.args(line.split_ascii_whitespace()).arg("--json");
    // The other two take no tokens, or need none.
    if !line.starts_with("chatroom") && !line.starts_with("verify") {
        command.args(["--tokens", &place.file("tokens")]);
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("autoclient runs")
}

pub(crate) fn tell(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("it is told");
}

/// Waits until the server has seen so many posts and upgrades.
pub(crate) fn under_way(server: &Fake, posts: u64, upgrades: u64) {
    until("the run is under way", || {
        let seen = server.progress();
        seen.0 >= posts && seen.1 >= upgrades
    });
}

/// SIGHUP, or SIGTERM where this process ignores it (`nohup`): then those that it starts do, too.
fn hang_up() -> Signal {
    let status = std::fs::read_to_string("/proc/self/status").expect("of this process");
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("as the system tells it");
    let ignored = u64::from_str_radix(ignored.trim(), 16).expect("a mask");
    if ignored & 1 == 0 { Signal::HUP } else { Signal::TERM }
}

/// Runs until the server has seen that much, sends a signal, and gives the exit code and the
/// report.
fn interrupted(line: &str, signal: Signal, posts: u64, upgrades: u64) -> (i32, Value) {
    let server = start(Fault::None, true);
    let place = Place::beside(&server);
    let child = spawn(&place, &format!("{line} --target {}", server.address));
    under_way(&server, posts, upgrades);
    tell(&child, signal);
    verdict(&child.wait_with_output().expect("it ends"))
}

#[test]
fn an_interrupted_run_reports_what_it_has_measured() {
    let metrics = "--metrics off";
    let cases = [
        (format!("idle --connections 20 {LONG} {metrics}"), 0, 20, "connections"),
        (format!("{} {LONG}", without_target(FANOUT)), 5, 12, "acked"),
        (format!("{} --rate 40 {LONG}", without_target(DIRECT)), 5, 8, "acked"),
        (format!("{} --window 1 {LONG}", without_target(DIRECT)), 5, 8, "delivered"),
        (format!("{} --seconds 1500", without_target(SLOW)), 5, 12, "acked"),
        (format!("churn --connections 5 --connect-rate 200 {LONG} {metrics}"), 0, 30, "upgrades"),
        (format!("{STORM} --settle 60 {metrics}"), 0, 40, "clients"),
        (format!("chatroom --rate 300 {LONG}"), 20, 0, "received"),
        (format!("verify --users 4 --devices 1 --groups 1 --group-size 3 --rate 50 {LONG}"), 20, 4, "acked"),
    ];
    each(cases.into_iter().enumerate(), |(place, (line, posts, upgrades, key))| {
        let signal = [Signal::TERM, Signal::INT, hang_up()][place % 3];
        let (code, report) = interrupted(&line, signal, posts, upgrades);
        assert_eq!((code, report["verdict"].as_str()), (9, Some("interrupted")), "{line}: {report}");
        assert!(report[key].as_u64() > Some(0), "{line}: {report}");
        // What was under way is no failure.
        assert_eq!(report["failures"], serde_json::json!(["interrupted"]), "{line}: {report}");
    });
}

/// An admin port that answers so late; without a time never.
fn late_metrics(after: Option<Duration>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let Some(after) = after else { return drop(stream.read_to_end(&mut Vec::new())) };
                // Time is the fault itself here.
                thread::sleep(after);
                let text = "process_cpu_seconds_total 1\n";
                // The one that asked may have gone.
                let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
            });
        }
    });
    address
}

#[test]
fn figures_that_come_late_are_not_in_the_measurement() {
    let server = start(Fault::None, true);
    let place = Place::beside(&server);
    let run = |after, more: &str| {
        let line = format!("{DIRECT} {} --rate 40 {more} --metrics http://{}/", server.address, late_metrics(after));
        let began = Instant::now();
        let child = spawn(&place, &line);
        (began, child)
    };
    let (_, child) = run(Some(Duration::from_secs(2)), "--seconds 3");
    let (code, report) = verdict(&child.wait_with_output().expect("it ends"));
    let rate = report["deliveries_per_second"].as_f64().expect("a figure");
    assert!(code == 0 && (55.0..100.0).contains(&rate), "40 and the answers: {report}");
    let (began, child) = run(None, &format!("--seconds 5 --html {}", place.file("page.html")));
    let (code, report) = verdict(&child.wait_with_output().expect("it ends"));
    assert!(code == 0 && report["cpu_us_per_delivery"].is_null(), "{report}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?} for five seconds", began.elapsed());
    let (posts, upgrades) = server.progress();
    let (_, child) = run(None, &format!("{LONG} --html {}", place.file("page.html")));
    under_way(&server, posts + 20, upgrades + 8);
    let told = Instant::now();
    tell(&child, Signal::INT);
    let (code, report) = verdict(&child.wait_with_output().expect("it ends"));
    assert_eq!((code, report["failures"].to_string().as_str()), (9, r#"["interrupted"]"#), "{report}");
    assert!(told.elapsed() < Duration::from_secs(9), "{:?}", told.elapsed());
}

#[test]
fn a_run_that_is_interrupted_while_it_connects_reports_too() {
    let line = "idle --connections 60 --connect-rate 5 --seconds 1 --metrics off";
    let (code, report) = interrupted(line, Signal::INT, 0, 3);
    assert_eq!((code, report["failures"].to_string().as_str()), (9, r#"["interrupted"]"#), "{report}");
    let opened = report["steps"][1]["connections"].as_u64();
    assert!((Some(1)..Some(60)).contains(&opened), "{report}");
    // Nothing listens on the target: there is nothing to report but that.
    let place = Place::beside(&start(Fault::None, true));
    let child = spawn(&place, "verify --target 127.0.0.1:9 --users 2 --groups 0");
    wait_for_handlers(&child);
    tell(&child, Signal::TERM);
    let (code, report) = verdict(&child.wait_with_output().expect("it ends"));
    assert_eq!((code, report["scenario"].as_str()), (9, Some("verify")), "{report}");
}

/// Waits until a process catches SIGTERM: as the system tells it.
fn wait_for_handlers(child: &Child) {
    let path = format!("/proc/{}/status", child.id());
    until("it catches SIGTERM", || {
        let status = std::fs::read_to_string(&path).expect("it runs");
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("a mask");
        u64::from_str_radix(caught.trim(), 16).expect("hexadecimal") & 1 << 14 != 0
    });
}

#[test]
fn the_second_signal_ends_at_once() {
    for (first, second) in [(Signal::INT, Signal::INT), (Signal::TERM, Signal::TERM), (Signal::INT, Signal::TERM)] {
        let server = start(Fault::NoAck(1), true);
        let place = Place::beside(&server);
        let line = format!("{} --rate 40 {LONG} --target {}", without_target(DIRECT), server.address);
        let mut child = spawn(&place, &line);
        under_way(&server, 5, 8);
        // The first message is never answered, so that the run waits for it when the second signal
        // comes.
        tell(&child, first);
        until("it ends at the second signal", || {
            // The same signal, sent twice before it is seen, is one.
            tell(&child, second);
            child.try_wait().expect("a child").is_some()
        });
        let output = child.wait_with_output().expect("it has ended");
        // Of two that come at the same moment, either is the second.
        let ended_by = output.status.signal();
        assert!([first, second].into_iter().any(|signal| ended_by == Some(signal.as_raw())), "{output:?}");
    }
}

#[test]
fn the_echo_of_a_signal_does_not_lose_the_report() {
    let server = start(Fault::None, true);
    let place = Place::beside(&server);
    let line = format!("{} --rate 40 {LONG} --target {}", without_target(DIRECT), server.address);
    let child = spawn(&place, &line);
    under_way(&server, 5, 8);
    // As `timeout` does, and with another one, since two of a kind may be one.
    for signal in [Signal::INT, Signal::INT, Signal::TERM] {
        tell(&child, signal);
    }
    let (code, report) = verdict(&child.wait_with_output().expect("it ends"));
    assert_eq!((code, report["failures"].to_string().as_str()), (9, r#"["interrupted"]"#), "{report}");
    assert!(report["acked"].as_u64() > Some(0), "{report}");
}

#[test]
fn whoever_reads_no_report_does_not_change_the_verdict() {
    let server = start(Fault::None, true);
    let place = Place::beside(&server);
    let full = || Stdio::from(OpenOptions::new().write(true).open("/dev/full").expect("a full disk"));
    let run = |line: &str, out: Stdio, errors: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_autoclient"));
        command.args(line.split_ascii_whitespace()).args(["--tokens", &place.file("tokens")]);
        command.stdout(out).stderr(errors).spawn().expect("autoclient runs")
    };
    let target = server.address;
    let good = format!("idle --connections 3 --seconds 0 --settle 0 --metrics off --target {target}");
    let bad = format!("fanout --group 5 --members 1 --publishers 1 --seconds 1 --metrics off --target {target}");
    let none = "idle --connections 3 --tokens /nonexistent".to_owned();
    // The metrics of a port where nothing listens are a warning each time.
    let warned = format!("idle --connections 3 --seconds 0 --settle 0 --metrics http://127.0.0.1:9/ --target {target}");
    for (line, wanted) in [(&good, 0), (&bad, 6), (&none, 2), (&warned, 0)] {
        let mut ended = Vec::new();
        for json in ["", " --json"] {
            let line = format!("{line}{json}");
            ended.push(run(&line, full(), full()));
            // The readers of both pipes have gone before anything is written.
            let mut child = run(&line, Stdio::piped(), Stdio::piped());
            drop((child.stdout.take(), child.stderr.take()));
            ended.push(child);
        }
        for mut child in ended {
            let code = child.wait().expect("it ends").code();
            assert_eq!(code, Some(wanted), "{line}");
        }
    }
    let mut help = run("--help", full(), Stdio::inherit());
    assert_eq!(help.wait().expect("it ends").code(), Some(0), "a page of help");
}

#[test]
fn an_interrupted_flood_names_the_ones_that_were_judged() {
    let server = start(Fault::None, true);
    let place = Place::beside(&server);
    let target = server.address;
    let line = format!("flood pongs lists {FLOOD} --seconds 600 --target {target} --admin {target}");
    let child = spawn(&place, &line);
    under_way(&server, 5, 6);
    tell(&child, Signal::TERM);
    let (code, report) = verdict(&child.wait_with_output().expect("it ends"));
    assert_eq!((code, report["exit_code"].as_u64()), (9, Some(9)), "{report}");
    assert!(report["lists"].is_null(), "{report}");
}

/// A line without the flag at its end, whose value each test adds.
fn without_target(line: &str) -> &str {
    line.strip_suffix("--target").expect("it ends so")
}
