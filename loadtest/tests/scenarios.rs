//! The program itself, run against a fake server that behaves or misbehaves: a good server passes,
//! and every kind of wrong is found.

mod endings;
mod fake;
mod mixed;
mod split;

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use fake::{Conduct, Fake, Fault};
use serde_json::Value;

/// A directory of one test, removed at its end.
struct Place(PathBuf);

impl Place {
    /// Named after the server's port, which no other test has at the same time.
    fn beside(server: &Fake) -> Self {
        let name = format!("autoclient-{}-{}", std::process::id(), server.address.port());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        let tokens: String = (1..=64).map(|id| format!("{id} token-{id}\n")).collect();
        std::fs::write(path.join("tokens"), tokens).expect("tokens");
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn autoclient(&self, arguments: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_autoclient"));
        command.args(arguments.split_ascii_whitespace()).args(["--json", "--tokens", &self.file("tokens")]);
        command.output().expect("autoclient runs")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Left-overs in the temporary directory are no failure.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn start(fault: Fault, stored: bool) -> Fake {
    Fake::start(Conduct { fault, stored })
}

/// The exit code and the report.
fn verdict(output: &Output) -> (i32, Value) {
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().expect("an exit code"), report)
}

const FANOUT: &str = "fanout --group 5 --members 12 --publishers 3 --rate 40 --seconds 1 --drain 8 --p99-ms inf --lag-ms inf \
     --metrics off --target";

fn fanout(fault: Fault, stored: bool, more: &str) -> (i32, Value) {
    let server = start(fault, stored);
    let place = Place::beside(&server);
    verdict(&place.autoclient(&format!("{FANOUT} {} {more}", server.address)))
}

const DIRECT: &str = "direct --pairs 4 --seconds 1 --drain 8 --p99-ms inf --lag-ms inf --metrics off --target";

fn direct(fault: Fault, stored: bool, more: &str) -> (i32, Value) {
    let server = start(fault, stored);
    let place = Place::beside(&server);
    verdict(&place.autoclient(&format!("{DIRECT} {} {more}", server.address)))
}

/// Checks all cases at the same time: each is mostly waiting.
fn each<C: Send>(cases: impl IntoIterator<Item = C>, check: impl Fn(C) + Sync) {
    thread::scope(|scope| {
        for case in cases {
            scope.spawn(|| check(case));
        }
    });
}

/// Asserts that a run failed, and by which count.
#[track_caller]
fn failed_by(found: (i32, Value), key: &str, count: u64) {
    ended_with(1, found, key, count);
}

/// Asserts that a bound that was given did not hold.
#[track_caller]
fn exceeded(found: (i32, Value), key: &str) {
    ended_with(8, found, key, 1);
}

#[track_caller]
fn ended_with(wanted: i32, (code, report): (i32, Value), key: &str, count: u64) {
    assert_eq!((code, report["passed"].as_bool()), (wanted, Some(false)), "{report}");
    assert_eq!(report["exit_code"].as_i64(), Some(i64::from(wanted)), "{report}");
    assert_eq!(report[key].as_u64(), Some(count), "{report}");
}

#[test]
fn fanout_passes_with_a_good_server() {
    let cases = [(true, ""), (false, ""), (true, "--threads 3"), (false, "--legacy --threads 2")];
    each(cases, |(stored, more)| {
        let (code, report) = fanout(Fault::None, stored, more);
        assert_eq!(code, 0, "{report}");
        assert_eq!((report["sent"].as_u64(), report["acked"].as_u64()), (Some(40), Some(40)), "{report}");
        assert_eq!(report["delivered"].as_u64(), Some(40 * 11), "{report}");
        assert_eq!(report["delivery_latency"]["count"].as_u64(), Some(40 * 11), "{report}");
        assert!(report["delivery_latency"]["p99.9_ms"].as_f64().expect("a number") > 0.0);
    });
}

#[test]
fn a_server_that_does_not_compress_when_asked_to_gives_no_result() {
    let server = start(Fault::None, true);
    let place = Place::beside(&server);
    for scenario in [FANOUT, DIRECT] {
        let output = place.autoclient(&format!("{scenario} {} --compress --rate 40", server.address));
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{words}");
        assert!(words.contains("the server does not compress"), "{words}");
    }
}

#[test]
fn fanout_finds_the_group_by_itself() {
    let server = start(Fault::None, true);
    let place = Place::beside(&server);
    let line = FANOUT.replace("--group 5 ", "");
    let (code, report) = verdict(&place.autoclient(&format!("{line} {}", server.address)));
    assert_eq!((code, report["group"].as_u64(), report["delivered"].as_u64()), (0, Some(5), Some(440)), "{report}");
}

#[test]
fn more_members_than_the_group_has_are_refused_at_the_start() {
    let server = start(Fault::None, true);
    let place = Place::beside(&server);
    let output = place.autoclient(
        &FANOUT.replace("--members 12", "--members 61").replace("--target", &format!("--target {}", server.address)),
    );
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{words}");
    assert!(words.contains("user 61") && words.contains("it has 60 members"), "{words}");
    assert_eq!(server.progress().1, 0, "no connection was opened");
}

#[test]
fn a_page_that_cannot_be_written_is_refused_at_the_start() {
    let server = start(Fault::None, true);
    let place = Place::beside(&server);
    for page in [place.file("no/such/folder.html"), place.file("")] {
        let output = place.autoclient(&format!("{FANOUT} {} --html {page}", server.address));
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), words.contains("--html")), (Some(2), true), "{words}");
    }
    assert_eq!(server.progress().1, 0, "no connection was opened");
}

#[test]
fn fanout_finds_a_lost_message() {
    // The first and the last message are the ones that a check of holes alone would miss.
    each([(1, true), (20, true), (40, true), (40, false)], |(place, stored)| {
        failed_by(fanout(Fault::Lose(place), stored, ""), "lost", 1);
    });
}

#[test]
fn fanout_finds_a_doubled_message() {
    failed_by(fanout(Fault::Double(20), true, ""), "doubled", 1);
    failed_by(fanout(Fault::Double(20), false, "--threads 2"), "doubled", 1);
}

#[test]
fn fanout_finds_messages_out_of_order() {
    failed_by(fanout(Fault::Swap(20), true, ""), "out_of_order", 1);
    // Without seq only one sender's own messages have an order.
    failed_by(fanout(Fault::Swap(20), false, "--publishers 1"), "out_of_order", 1);
    failed_by(fanout(Fault::Swap(20), false, "--publishers 1 --legacy"), "out_of_order", 1);
}

#[test]
fn fanout_finds_a_hole_in_the_numbers() {
    failed_by(fanout(Fault::SkipSeq(20), true, ""), "lost", 12);
}

#[test]
fn fanout_finds_a_message_without_an_answer() {
    failed_by(fanout(Fault::NoAck(20), false, ""), "unacked", 1);
}

#[test]
fn a_refusal_is_a_verdict_of_its_own_and_is_no_loss() {
    let (code, report) = fanout(Fault::Busy(20), true, "");
    assert_eq!((code, report["refused"].as_u64(), report["acked"].as_u64()), (5, Some(1), Some(39)), "{report}");
    assert_eq!((report["refusals"]["20"].as_u64(), report["lost"].as_u64()), (Some(1), Some(0)), "{report}");
    assert!(report["troubles"][0].as_str().expect("the first is told").contains("refused: {"), "{report}");
    // An overload on purpose says how many refusals are well.
    assert_eq!(fanout(Fault::Busy(20), true, "--refused-max 1").0, 0);
}

#[test]
fn a_run_that_can_prove_nothing_fails() {
    let refused = [fanout(Fault::RefuseAll, true, ""), direct(Fault::RefuseAll, true, "--rate 40")];
    for (code, report) in refused {
        assert_eq!((code, report["verdict"].as_str()), (5, Some("refused")), "{report}");
        assert_eq!((report["delivered"].as_u64(), report["acked"].as_u64()), (Some(0), Some(0)), "{report}");
        let failures = report["failures"].to_string();
        assert!(failures.contains("refused: 40") && failures.contains("delivered: 0"), "{report}");
        // No ack shows a mode, so none is claimed.
        assert_eq!(report["mode"].as_str(), Some("unknown: nothing was acked"), "{report}");
    }
    // All is acked, and there is no other member.
    ended_with(6, fanout(Fault::None, true, "--members 1 --publishers 1"), "delivered", 0);
}

#[test]
fn a_mode_that_was_not_meant_is_a_verdict_of_its_own() {
    let cases = [
        (true, "--mode stored", 0, "stored"),
        (false, "--mode volatile", 0, "volatile"),
        (true, "--mode volatile", 7, "stored"),
        (false, "--mode stored", 7, "volatile"),
    ];
    each(cases, |(stored, more, wanted, mode)| {
        for (code, report) in
            [fanout(Fault::None, stored, more), direct(Fault::None, stored, &format!("--rate 40 {more}"))]
        {
            assert_eq!(code, wanted, "{more}: {report}");
            assert!(report["mode"].as_str().is_some_and(|told| told.starts_with(mode)), "{report}");
        }
    });
    let server = start(Fault::None, false);
    let place = Place::beside(&server);
    let (code, report) = verdict(&place.autoclient(&format!("{SLOW} {}", server.address)));
    assert_eq!((code, report["verdict"].as_str()), (7, Some("wrong mode")), "{report}");
}

#[test]
fn a_server_that_is_too_slow_is_told_from_a_generator_that_is() {
    let slow = |more: &str| {
        let (code, report) = fanout(Fault::Tardy, true, &format!("--rate 20 --drain 20 {more}"));
        (code, report["failures"].to_string())
    };
    // Twenty messages, one each fifth of a second: the last are seconds late. `inf` stands in the
    // line already.
    let ((code, why), (unbounded, _)) = (slow("--p99-ms 1000"), slow(""));
    assert!(code == 8 && why.contains("ack_latency p99") && why.contains("more than 1000"), "{code}: {why}");
    assert_eq!(unbounded, 0);
    // No thread is woken without any delay.
    let (code, why) = slow("--lag-ms 0");
    assert!(code == 3 && why.contains("messages left late"), "{code}: {why}");
}

#[test]
fn an_open_loop_has_a_bound_on_its_latency_unless_told_otherwise() {
    let server = start(Fault::Tardy, true);
    let place = Place::beside(&server);
    let line = "fanout --group 5 --members 4 --publishers 1 --rate 20 --seconds 1 --drain 20 --metrics off";
    let (code, report) = verdict(&place.autoclient(&format!("{line} --target {}", server.address)));
    assert_eq!((code, report["verdict"].as_str()), (8, Some("bound exceeded")), "{report}");
}

#[test]
fn every_scenario_takes_a_bound_on_its_latency() {
    let p99 =
        |code, report: &Value| assert_eq!((code, report["verdict"].as_str()), (8, Some("bound exceeded")), "{report}");
    let server = start(Fault::None, true);
    let place = Place::beside(&server);
    let target = server.address;
    let (pid, log) = (std::process::id(), place.file("acked"));
    assert_eq!(direct(Fault::None, true, &format!("--rate 40 --acked-log {log}")).0, 0);
    for line in [
        format!("idle --connections 9 --seconds 0 --settle 0 --server-pid {pid} --target {target}"),
        format!("{STORM} --metrics off --target {target}"),
        format!("chatroom --rate 300 --seconds 1 --target {target}"),
        format!(
            "verify --users 4 --devices 1 --groups 1 --group-size 3 --rate 50 --seconds 1 --drain 5 --target {target}"
        ),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_autoclient"));
        command.args(line.split_ascii_whitespace()).args(["--json", "--p99-ms", "0"]);
        if !line.starts_with("chatroom") && !line.starts_with("verify") {
            command.args(["--tokens", &place.file("tokens")]);
        }
        let (code, report) = verdict(&command.output().expect("autoclient runs"));
        p99(code, &report);
    }
}

#[test]
fn fanout_finds_a_server_that_dies() {
    let (code, report) = fanout(Fault::Crash(20), true, "");
    assert_eq!(code, 1, "{report}");
    assert_eq!(report["dropped"].as_u64(), Some(12), "{report}");
}

#[test]
fn direct_passes_with_a_good_server() {
    let cases = [
        (true, "--rate 40"),
        (false, "--rate 40 --threads 2"),
        (true, "--window 1"),
        (true, "--rate 40 --reconnect"),
        (false, "--rate 40 --legacy"),
    ];
    each(cases, |(stored, more)| {
        let (code, report) = direct(Fault::None, stored, more);
        assert_eq!(code, 0, "{report}");
        let sent = report["sent"].as_u64().expect("a count");
        assert!(if more.contains("rate") { sent == 80 } else { sent > 100 }, "{report}");
        assert_eq!((report["acked"].as_u64(), report["delivered"].as_u64()), (Some(sent), Some(sent)), "{report}");
    });
}

#[test]
fn capacity_finds_a_rate_proves_it_and_says_it_on_a_page() {
    let server = start(Fault::None, true);
    let place = Place::beside(&server);
    let (page, target) = (place.file("page.html"), server.address);
    let flags = "capacity --pairs 4 --p99-ms 5000 --from-rate 20 --rate-max 40 --step-seconds 2 --verify-seconds 2 --metrics off";
    let output = place.autoclient(&format!("{flags} --html {page} --target {target}"));
    let (code, report) = verdict(&output);
    assert_eq!((code, report["capacity"].as_f64()), (0, Some(40.0)), "{report}");
    assert_eq!(report["steps"].as_array().map(Vec::len), Some(3), "two steps and the proof: {report}");
    assert_eq!(report["timeline"].as_array().map(Vec::len), Some(2), "a point a second of the proof: {report}");
    let text = std::fs::read_to_string(&page).expect("a page");
    for part in ["class=passed", "Latency by rate", "Latency from the intended time", "nothing up to --rate-max"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let kept = place.file("report.json");
    std::fs::write(&kept, &output.stdout).expect("written");
    let compared = Command::new(env!("CARGO_BIN_EXE_autoclient"))
        .args(["compare", &kept, &kept, "--json", "--worse-max", "0"])
        .output()
        .expect("autoclient runs");
    let (code, report) = verdict(&compared);
    assert_eq!((code, report["capacity"]["after"].as_f64()), (0, Some(40.0)), "{report}");
}

#[test]
fn capacity_finds_no_rate_where_none_holds_and_stops_where_something_is_lost() {
    let capacity = |fault, bound: &str| {
        let server = start(fault, true);
        let place = Place::beside(&server);
        let flags = "capacity --pairs 4 --from-rate 2 --rate-max 4 --step-seconds 2 --verify-seconds 2 --metrics off";
        verdict(&place.autoclient(&format!("{flags} --p99-ms {bound} --target {}", server.address)))
    };
    each([(Fault::None, "0", 8), (Fault::Double(1), "5000", 1)], |(fault, bound, wanted)| {
        let (code, report) = capacity(fault, bound);
        assert_eq!((code, report["capacity"].is_null()), (wanted, true), "{report}");
    });
}

#[test]
fn capacity_does_not_forgive_a_crash_and_tells_what_it_has_measured() {
    // The first rate has 8 messages, answers and all, and again 8 if it is tried again on a machine
    // that is busy; the second has 16: that one crashes.
    let flags = "capacity --pairs 4 --from-rate 2 --rate-max 4 --step-seconds 2 --verify-seconds 2 --metrics off";
    each(
        [(Fault::Crash(20), "dropped: 8"), (Fault::CrashForGood(20), "the next run could not be made")],
        |(fault, why)| {
            let server = start(fault, true);
            let place = Place::beside(&server);
            let (code, report) =
                verdict(&place.autoclient(&format!("{flags} --p99-ms 5000 --target {}", server.address)));
            assert_eq!((code, report["verdict"].as_str()), (1, Some("failed")), "{report}");
            assert!(report["failures"].to_string().contains(why), "{report}");
            let steps = report["steps"].as_array().expect("steps");
            let before = steps.iter().take_while(|step| step["verdict"] != "failed");
            assert!(before.clone().any(|step| step["verdict"] == "passed"), "{report}");
            assert!(before.count() < steps.len(), "{report}");
            // Below it the search went on, where there was a gateway.
            assert_eq!(report["capacity"].is_null(), fault == Fault::CrashForGood(20), "{report}");
        },
    );
}

#[test]
fn tokens_of_another_system_are_signed_for_users_that_the_gateway_knows() {
    let server = start(Fault::None, true);
    let place = Place::beside(&server);
    let tokens = |secret: &str, more: &str| {
        std::fs::write(place.file("secret"), secret).expect("written");
        let line = format!("tokens --users 3 --target {} --jwt-secret {} {more}", server.address, place.file("secret"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_autoclient"));
        command.args(line.split_ascii_whitespace()).output().expect("autoclient runs")
    };
    let output = tokens("0123456789abcdef0123456789abcdef\n", "--issuer https://id.example --audience chat");
    let lines = String::from_utf8(output.stdout).expect("text");
    assert_eq!((output.status.code(), lines.lines().count()), (Some(0), 3), "{lines}");
    for (place, line) in (1_u64..).zip(lines.lines()) {
        let (id, token) = line.split_once(' ').expect("an id and a token");
        assert_eq!((id, token.split('.').count()), (place.to_string().as_str(), 3), "{line}");
    }
    let output = tokens("short", "");
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_a_stranger_was_shown_is_found() {
    failed_by(direct(Fault::Leak(20), true, "--rate 40"), "misdelivered", 1);
    failed_by(direct(Fault::Leak(20), false, "--rate 40 --legacy"), "misdelivered", 1);
    failed_by(fanout(Fault::Leak(20), true, ""), "misdelivered", 1);
    let server = start(Fault::Leak(20), true);
    let place = Place::beside(&server);
    failed_by(verdict(&place.autoclient(&format!("{SLOW} {}", server.address))), "misdelivered", 1);
}

#[test]
fn direct_finds_what_went_wrong() {
    let faults = [(Fault::Lose(20), "lost"), (Fault::Double(20), "doubled"), (Fault::NoAck(20), "unacked")];
    let cases = faults.into_iter().flat_map(|fault| [(fault, true), (fault, false)]);
    each(cases, |((fault, key), stored)| failed_by(direct(fault, stored, "--rate 40"), key, 1));
    failed_by(direct(Fault::Swap(1), true, "--window 2 --pairs 1"), "out_of_order", 1);
}

#[test]
fn direct_sends_again_what_was_refused_for_now() {
    let (code, report) = direct(Fault::Busy(20), true, "--rate 40");
    assert_eq!((code, report["acked"].as_u64()), (0, Some(80)), "{report}");
    assert_eq!(report["refusals"]["20"].as_u64(), Some(1), "{report}");
}

#[test]
fn direct_waits_longer_each_time_it_is_refused() {
    each(["--rate 10 --drain 2", "--rate 10 --drain 2 --reconnect"], |more| {
        let (_, report) = direct(Fault::BusyAll, true, more);
        let (sent, refused) = (report["sent"].as_u64(), report["refusals"]["20"].as_u64().expect("a count"));
        assert_eq!(sent, Some(10), "{report}");
        // In a second of posts and two of waiting each is sent at 0 s, 1 s and, at the earliest, 3 s.
        assert!((11..=30).contains(&refused), "{report}");
    });
}

#[test]
fn direct_survives_a_crash_and_check_agrees() {
    let server = start(Fault::Crash(30), true);
    let place = Place::beside(&server);
    let log = place.file("acked");
    let run = format!("{DIRECT} {} --rate 40 --reconnect --drain 10 --acked-log {log}", server.address);
    let (code, report) = verdict(&place.autoclient(&run));
    assert_eq!(code, 0, "{report}");
    assert_eq!((report["acked"].as_u64(), report["delivered"].as_u64()), (Some(80), Some(80)), "{report}");
    assert_eq!((report["dropped"].as_u64(), report["reopened"].as_u64()), (Some(8), Some(8)), "{report}");
    assert_eq!(server.stored(), 80);

    let check = format!("check --base-url http://{} --acked-log {log}", server.address);
    let (code, report) = verdict(&place.autoclient(&check));
    assert_eq!((code, report["acked"].as_u64(), report["rows"].as_u64()), (0, Some(80), Some(80)), "{report}");

    server.forget_one();
    failed_by(verdict(&place.autoclient(&check)), "missing", 1);
}

#[test]
fn direct_finds_a_message_that_was_stored_twice() {
    let server = start(Fault::CrashAndForget(30), true);
    let place = Place::beside(&server);
    let log = place.file("acked");
    let run = format!("{DIRECT} {} --rate 40 --reconnect --drain 10 --acked-log {log}", server.address);
    failed_by(verdict(&place.autoclient(&run)), "doubled", 1);
    let check = format!("check --base-url http://{} --acked-log {log}", server.address);
    failed_by(verdict(&place.autoclient(&check)), "doubled", 1);
}

#[test]
fn direct_finds_an_ack_of_something_that_was_not_stored() {
    let (code, report) = direct(Fault::AckAndCrash(30), true, "--rate 40 --reconnect");
    assert_eq!(code, 1, "{report}");
    assert!(report["lost"].as_u64() >= Some(1), "{report}");
}

const VERIFY: &str = "verify --users 8 --devices 2 --groups 3 --group-size 5 --rate 150 --seconds 2 --churn 1s --seed 3 \
                      --drain 5 --target";

/// The tokens file makes no difference: the users are registered.
fn verify(fault: Fault, more: &str) -> (i32, Value) {
    let server = start(fault, true);
    let program = env!("CARGO_BIN_EXE_autoclient");
    let mut command = Command::new(program);
    command.args(VERIFY.split_ascii_whitespace()).arg(server.address.to_string()).arg("--json");
    verdict(&command.args(more.split_ascii_whitespace()).output().expect("autoclient runs"))
}

#[test]
fn verify_passes_with_a_good_server_and_with_what_a_client_must_bear() {
    let cases = [
        (Fault::None, ""),
        (Fault::None, "--threads 2 --churn 0s --devices 1"),
        (Fault::None, "--stalled 50%"),
        // All of these a correct client repairs.
        (Fault::Lose(50), ""),
        (Fault::Double(50), ""),
        (Fault::Swap(50), ""),
        (Fault::Busy(50), ""),
        (Fault::Crash(50), ""),
    ];
    each(cases, |(fault, more)| {
        let (code, report) = verify(fault, more);
        assert_eq!(code, 0, "{fault:?} {more}: {report}");
        let (sent, acked) = (report["sent"].as_u64(), report["acked"].as_u64());
        assert!(acked >= Some(100) && sent == acked, "{fault:?}: {report}");
        assert_eq!(report["rows_audited"].as_u64(), acked, "{fault:?}: {report}");
        assert!(report["counter_example"].is_null(), "{report}");
        if more.is_empty() {
            assert!(report["repeated"].as_u64() > Some(0) && report["abandoned"].as_u64() > Some(0), "{report}");
        }
    });
}

#[test]
fn verify_resends_what_is_not_answered() {
    let (code, report) = verify(Fault::NoAck(50), "--churn 0s");
    assert_eq!((code, report["resent"].as_u64()), (0, Some(1)), "{report}");
}

#[test]
fn verify_finds_every_kind_of_wrong() {
    let cases = [
        (Fault::AckOnly(50), "lost"),
        (Fault::AckAndCrash(50), "lost"),
        (Fault::StoreTwice(50), "doubled"),
        (Fault::CrashAndForget(50), "doubled"),
        (Fault::SwapRows(1), "out_of_order"),
        (Fault::SkipSeq(50), "gaps"),
        (Fault::Misack(50), "misacked"),
        (Fault::NotDup(1), "misacked"),
        (Fault::Alter(50), "altered"),
        (Fault::Impostor(50), "altered"),
        (Fault::Open, "foreign"),
        (Fault::Mute(1), "missed"),
        (Fault::Refuse(50), "refused"),
        (Fault::Epoch(50), "reset_histories"),
        (Fault::Banish(50), "banished"),
        (Fault::Garble(50), "protocol"),
    ];
    each(cases, |(fault, key)| {
        let more = if fault == Fault::Open { "--intrusions 20%" } else { "" };
        let (code, report) = verify(fault, more);
        assert_eq!((code, report["passed"].as_bool()), (1, Some(false)), "{fault:?}: {report}");
        assert!(report[key].as_u64() > Some(0), "{fault:?} is not found as {key}: {report}");
        let story = report["counter_example"]["what"].as_str().expect("a story");
        assert!(story.contains("user #") || story.contains("message"), "{fault:?}: {story}");
    });
}

#[test]
fn verify_runs_commands_at_their_times() {
    let server = start(Fault::None, true);
    let place = Place::beside(&server);
    let (once, again) = (place.file("once"), place.file("again"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_autoclient"));
    command.args(VERIFY.split_ascii_whitespace()).arg(server.address.to_string()).arg("--json");
    command.args(["--at", "100ms", &format!("echo x >> {once}"), "--every", "300ms", &format!("echo x >> {again}")]);
    let (code, report) = verdict(&command.output().expect("autoclient runs"));
    assert_eq!((code, report["failed_commands"].as_u64()), (0, Some(0)), "{report}");
    let lines = |path: &str| std::fs::read_to_string(path).expect("written").lines().count();
    assert!(lines(&once) == 1 && lines(&again) >= 3, "{} {}", lines(&once), lines(&again));
}

#[test]
fn verify_proves_nothing_where_every_command_fails() {
    let server = start(Fault::None, true);
    let mut command = Command::new(env!("CARGO_BIN_EXE_autoclient"));
    command.args(VERIFY.split_ascii_whitespace()).arg(server.address.to_string()).arg("--json");
    let (code, report) = verdict(&command.args(["--every", "300ms", "false"]).output().expect("autoclient runs"));
    assert_eq!((code, report["acked"].as_u64() > Some(0)), (6, true), "{report}");
    assert_eq!(report["failed_commands"], report["commands"], "{report}");
}

const SLOW: &str = "slow --group 5 --members 12 --stalled 4 --publishers 3 --rate 40 --seconds 1 --drain 3 --lag-ms inf --metrics off \
                    --target";

fn slow(fault: Fault, more: &str) -> (i32, Value) {
    let server = start(fault, true);
    let place = Place::beside(&server);
    verdict(&place.autoclient(&format!("{SLOW} {} {more}", server.address)))
}

#[test]
fn slow_passes_with_a_good_server() {
    // The second: more than the stalled connections hold, so that the server gives them up, and
    // they come back and sync.
    each(["", "--payload 20000 --rate 200 --drain 20", "--threads 2"], |more| {
        let (code, report) = slow(Fault::None, more);
        assert_eq!(code, 0, "{more}: {report}");
        let count = |key: &str| report[key].as_u64().expect("a count");
        assert!(count("sent") >= 80 && count("acked") == count("sent"), "{report}");
        let halves = ["latency_all_read", "latency_some_stalled"].map(|key| report[key]["count"].as_u64());
        // Each message reaches the seven other readers.
        assert_eq!(halves, [Some(count("sent") / 2 * 7); 2], "{report}");
        assert!(!more.contains("payload") || count("stalled_dropped") > 0, "{report}");
    });
}

#[test]
fn slow_finds_what_went_wrong() {
    each(
        [(Fault::Lose(60), "lost"), (Fault::Double(60), "doubled"), (Fault::Swap(60), "out_of_order")],
        |(fault, key)| {
            failed_by(slow(fault, ""), key, 1);
        },
    );
    let (code, report) = slow(Fault::Mute(60), "");
    assert_eq!(code, 1, "{report}");
    assert!(report["stalled_incomplete"].as_u64() == Some(4) && report["lost"].as_u64() > Some(0), "{report}");
    let (code, report) = slow(Fault::Crash(60), "");
    assert_eq!(code, 1, "{report}");
    assert!(report["readers_dropped"].as_u64() == Some(8), "{report}");
}

#[test]
fn slow_watches_some_and_checks_all_and_bounds_the_memory() {
    let server = start(Fault::None, true);
    let place = Place::beside(&server);
    let metrics = format!("http://{}/metrics", server.address);
    let run = |more: &str| {
        let line = format!("{SLOW} {} --metrics {metrics} --watched 4 {more}", server.address);
        verdict(&place.autoclient(&line))
    };
    let (code, report) = run("--rss-max 101");
    assert_eq!((code, report["resident_max"].as_f64()), (0, Some(100.0)), "{report}");
    let sent = report["sent"].as_u64().expect("a count");
    // Of the eight readers, the three that publish are watched and one or two of the others; all
    // are checked.
    let seen = report["latency_all_read"]["count"].as_u64().expect("a count");
    assert!(seen > sent / 2 && seen < sent / 2 * 7, "{report}");
    exceeded(run("--rss-max 99"), "rss_max_exceeded");

    let (code, report) = fanout(Fault::None, true, "--watched 2");
    assert_eq!((code, report["delivered"].as_u64()), (0, Some(40 * 11)), "{report}");
    failed_by(fanout(Fault::Lose(20), true, "--watched 2"), "lost", 1);
}

/// A run that has the fake server's metrics.
fn measured(fault: Fault, line: &str) -> (i32, Value) {
    let server = start(fault, true);
    let place = Place::beside(&server);
    let target = server.address;
    verdict(&place.autoclient(&format!("{line} --metrics http://{target}/metrics --target {target}")))
}

const CHURN: &str = "churn --connections 20 --seconds 1 --connect-rate 400 --drain 5";

#[test]
fn churn_tells_what_an_upgrade_costs() {
    // The server counts when it answers and we when we have read it, so the edges may differ: by few connections of many.
    let line = CHURN.replace("--connections 20", "--connections 4");
    each(["--cpu-us-max 130", "--threads 2"], |more| {
        let (code, report) = measured(Fault::None, &format!("{line} {more}"));
        assert_eq!(code, 0, "{report}");
        let upgrades = report["upgrades"].as_u64().expect("a count");
        assert!((50..=450).contains(&upgrades), "{report}");
        assert_eq!(report["upgrade_latency"]["count"].as_u64(), Some(upgrades), "{report}");
        let cpu = report["cpu_us_per_upgrade"].as_f64().expect("a figure");
        assert!((70.0..=130.0).contains(&cpu), "{report}");
    });
    exceeded(measured(Fault::None, &format!("{CHURN} --cpu-us-max 50")), "cpu_us_max_exceeded");
}

#[test]
fn churn_finds_a_server_that_does_not_answer() {
    let (code, report) = measured(Fault::Ignore(40), &format!("{CHURN} --drain 1"));
    assert_eq!((code, report["not_back"].as_u64()), (1, Some(20)), "{report}");
    let (code, report) = measured(Fault::Cling, &format!("{CHURN} --drain 1"));
    assert_eq!((code, report["not_back"].as_u64()), (1, Some(20)), "a goodbye that is not answered: {report}");
}

const STORM: &str = "storm --clients 40 --settle 0 --away 0 --drain 10";

#[test]
fn storm_brings_everybody_back() {
    each(["--back-within 10 --queries-max 0.5", "--threads 2 --connecting-max 1"], |more| {
        let (code, report) = measured(Fault::None, &format!("{STORM} {more}"));
        assert_eq!(code, 0, "{report}");
        assert_eq!(report["back_latency"]["count"].as_u64(), Some(40), "{report}");
        assert_eq!(report["store_queries_per_client"].as_f64(), Some(0.0), "{report}");
        assert_eq!(report["store_reads_per_client"].as_f64(), Some(1.0), "{report}");
        assert!(report["seconds_until_all_are_back"].as_f64() > Some(0.0), "{report}");
    });
}

#[test]
fn storm_tells_the_going_from_the_coming() {
    let (code, report) = measured(Fault::None, "storm --clients 40 --settle 0 --away 1 --drain 10");
    assert_eq!(code, 0, "{report}");
    let cost = |name: &str| report[name].as_f64();
    let (Some(going), Some(coming)) = (cost("cpu_us_per_going"), cost("cpu_us_per_coming")) else {
        panic!("both are told: {report}");
    };
    assert!((going + coming - cost("cpu_us_per_client").unwrap_or_default()).abs() < 1.0, "{report}");
    let (_, mixed) = measured(Fault::None, STORM);
    assert!(mixed["cpu_us_per_client"].is_number() && mixed["cpu_us_per_going"].is_null(), "{mixed}");
}

#[test]
fn storm_finds_who_is_not_back_and_who_asks_the_store() {
    failed_by(measured(Fault::Ignore(60), &format!("{STORM} --drain 5")), "not_back", 21);
    exceeded(measured(Fault::Query, &format!("{STORM} --queries-max 0.5")), "queries_max_exceeded");
    exceeded(measured(Fault::None, &format!("{STORM} --back-within 0")), "back_within_exceeded");
}

/// Runs `restart` and sends everybody away when it says so.
fn restart(step_ms: Option<u64>, more: &str) -> (i32, Value) {
    let server = start(Fault::None, true);
    let place = Place::beside(&server);
    let mut command = Command::new(env!("CARGO_BIN_EXE_autoclient"));
    let target = server.address.to_string();
    command.args(["restart", "--clients", "20", "--drain", "10", "--metrics", "off", "--json", "--target", &target]);
    command.args(["--tokens", &place.file("tokens")]).args(more.split_ascii_whitespace());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("autoclient runs");
    let told = BufReader::new(child.stderr.take().expect("standard error")).lines().map_while(Result::ok);
    assert!(told.into_iter().any(|line| line.contains("stop the gateway now")), "it says when");
    server.send_away(step_ms);
    verdict(&child.wait_with_output().expect("it ends"))
}

#[test]
fn restart_comes_back_when_it_is_told_to() {
    let (code, report) = restart(Some(100), "--peak-max 20");
    assert_eq!(code, 0, "{report}");
    assert_eq!((report["closed"].as_u64(), report["not_back"].as_u64()), (Some(20), Some(0)), "{report}");
    let returns = report["per_second"]["returns"].as_array().expect("a series");
    assert_eq!(returns.iter().filter_map(Value::as_u64).sum::<u64>(), 20, "{report}");
    assert!(report["returns_seconds"].as_f64() > Some(1.0), "20 slots lie 1.9 s apart: {report}");
}

#[test]
fn restart_finds_who_was_told_nothing_and_who_comes_in_a_crowd() {
    failed_by(restart(None, ""), "closed_without_a_slot", 20);
    exceeded(restart(Some(1), "--peak-max 0.5"), "peak_max_exceeded");
}

/// Compares two fake servers: the first stores, the second does not.
fn cost(faults: [Fault; 2], more: &str) -> (i32, Value) {
    let servers = [start(faults[0], true), start(faults[1], false)];
    let mut command = Command::new(env!("CARGO_BIN_EXE_autoclient"));
    command.args("cost --pairs 3 --window 2 --seconds 1 --rounds 2 --drain 2 --json".split(' '));
    for (server, name) in servers.iter().zip(["one", "two"]) {
        let target = server.address.to_string();
        command.args(["--running", name, &target, &format!("http://{target}/metrics")]);
    }
    verdict(&command.args(more.split_ascii_whitespace()).output().expect("autoclient runs"))
}

#[test]
fn cost_compares_gateways() {
    let (code, report) = cost([Fault::None; 2], "--cpu-factor 1.5 --ack-p99-ms 10000");
    assert_eq!(code, 0, "{report}");
    let rows = report["medians"].as_array().expect("rows");
    let names: Vec<_> = rows.iter().map(|row| (row["gateway"].as_str(), row["load"].as_str())).collect();
    let (one, two, all, half) = (Some("one"), Some("two"), Some("saturated"), Some("half"));
    assert_eq!(names, [(one, all), (one, half), (two, all), (two, half)]);
    for row in rows {
        let near = |key: &str, wanted: f64| (row[key].as_f64().expect("a figure") / wanted - 1.0).abs() < 0.2;
        assert!(near("cpu_us_per_message", 50.0) && near("mean_batch", 4.0), "{row}");
        assert!(row["ack_p99_ms"].as_f64() > Some(0.0), "{row}");
    }
    let rate = |place: usize| rows[place]["acked_per_second"].as_f64().expect("a rate");
    assert!(rate(1) < rate(0) * 0.75 && rate(3) < rate(2) * 0.75, "{report}");
}

#[test]
fn cost_finds_what_is_too_dear_too_slow_or_wrong() {
    exceeded(cost([Fault::None; 2], "--cpu-factor 0.5"), "cpu_factor_exceeded");
    exceeded(cost([Fault::None; 2], "--ack-p99-ms 0"), "ack_p99_exceeded");
    exceeded(cost([Fault::None; 2], "--p99-ms 0"), "ack_p99_exceeded");
    failed_by(cost([Fault::Double(20), Fault::None], ""), "faults", 1);
}

#[test]
fn cost_says_why_a_gateway_does_not_start() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_autoclient"));
    command.args(["cost", "--imgate", "/nonexistent/imgate", "--json", "--running", "a b", "127.0.0.1:1", "off"]);
    let output = command.output().expect("autoclient runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("names are letters"));
}

fn chatroom(fault: Fault) -> (i32, Value) {
    let server = start(fault, false);
    let mut command = Command::new(env!("CARGO_BIN_EXE_autoclient"));
    command.args("chatroom --rate 300 --seconds 3 --drain 3 --json --target".split(' '));
    verdict(&command.arg(server.address.to_string()).output().expect("autoclient runs"))
}

#[test]
fn chatroom_passes_with_a_good_server() {
    let (code, report) = chatroom(Fault::None);
    assert_eq!(code, 0, "{report}");
    let count = |key: &str| report[key].as_u64().expect("a count");
    assert_eq!((count("sent"), count("received"), count("connections")), (900, 900, 10), "{report}");
    assert!(count("said") >= 2 && count("guests") >= 2 && count("unread_bytes_max") > 900 * 40, "{report}");
}

#[test]
fn chatroom_finds_what_went_wrong() {
    let cases = [
        (Fault::Lose(200), "lost", Some(1)),
        (Fault::Double(200), "doubled", Some(1)),
        (Fault::Raw, "misframed", None),
        (Fault::Evict(200), "disconnected", Some(1)),
        (Fault::Deafen(200), "guests_failed", None),
    ];
    each(cases, |(fault, key, wanted)| {
        let (code, report) = chatroom(fault);
        let count = report[key].as_u64();
        assert_eq!((code, report["passed"].as_bool()), (1, Some(false)), "{fault:?}: {report}");
        assert!(count > Some(0) && (wanted.is_none() || count == wanted), "{fault:?}: {report}");
    });
}

#[test]
fn idle_connections_answer_or_are_found() {
    let idle = |fault, more: &str| {
        let server = start(fault, true);
        let place = Place::beside(&server);
        let pid = std::process::id();
        verdict(&place.autoclient(&format!(
            "idle --seconds 0 --settle 0 --answer-seconds 2 --server-pid {pid} --target {} {more}",
            server.address
        )))
    };
    let (code, report) = idle(Fault::None, "--steps 10,30,100 --threads 2 --connect-rate 1000");
    assert_eq!(code, 0, "{report}");
    let step = |i: usize, key: &str| report["steps"][i][key].as_u64().expect("a number");
    assert_eq!((step(0, "connections"), step(1, "connections"), step(3, "connections")), (0, 10, 100));
    assert!(step(3, "open_fds") >= step(0, "open_fds") + 100 && step(3, "resident_bytes") > 0, "{report}");
    assert!(report["bytes_per_connection"].is_number(), "{report}");

    assert_eq!(idle(Fault::None, "--connections 20 --legacy").0, 0);
    failed_by(idle(Fault::Deaf, "--connections 20"), "unanswered", 20);
}

#[test]
fn connections_are_shared_out_among_gateways_and_what_these_spend_is_summed() {
    let (one, other) = (start(Fault::None, true), start(Fault::None, true));
    let place = Place::beside(&one);
    let pid = std::process::id();
    let line = |pids: &str, more: &str| {
        format!(
            "idle --connections 9 --seconds 0 --settle 0 --server-pid {pids} --target {},{} {more}",
            one.address, other.address
        )
    };
    let (code, report) = verdict(&place.autoclient(&line(&format!("{pid},{pid}"), "")));
    assert_eq!((code, one.progress().1, other.progress().1), (0, 5, 4), "{report}");
    let open = |report: &Value| report["steps"][0]["resident_bytes"].as_f64().expect("it is this process");
    let (_, alone) = verdict(&place.autoclient(&line(&pid.to_string(), "")));
    let ratio = open(&report) / open(&alone);
    assert!((1.2..3.0).contains(&ratio), "{ratio}");
}

/// A process that stands for the server's; killed at the end of a test.
struct Stand(Child);

impl Drop for Stand {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_server_that_is_stopped_has_closed_everything_and_is_gone_in_time_or_has_failed() {
    let line = |server: &Fake, process: &Stand, within: u64| {
        let (pid, target) = (process.0.id(), server.address);
        format!(
            "idle --connections 20 --seconds 0 --settle 0 --server-pid {pid} --stop-within {within} --target {target}"
        )
    };
    let server = start(Fault::None, true);
    let place = Place::beside(&server);
    let mut process = Stand(Command::new("sleep").arg("600").spawn().expect("a process"));
    let line_ = line(&server, &process, 60);
    let (code, report) = thread::scope(|scope| {
        scope.spawn(|| {
            process.0.wait().expect("a child");
            server.send_away(None);
        });
        verdict(&place.autoclient(&line_))
    });
    assert_eq!((code, report["dropped"].as_u64(), report["still_open"].as_u64()), (0, Some(0), Some(0)), "{report}");
    assert!(report["all_closed_after"].is_number() && report["stopped_after"].is_number(), "{report}");

    let server = start(Fault::None, true);
    let place = Place::beside(&server);
    let mut deaf = Command::new("sh");
    deaf.args(["-c", "trap '' TERM; echo ready; read -r never"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut deaf = Stand(deaf.spawn().expect("a process"));
    let told = BufReader::new(deaf.0.stdout.take().expect("a pipe")).lines().next();
    assert_eq!(told.expect("a line").expect("a line"), "ready");
    let (code, report) = verdict(&place.autoclient(&line(&server, &deaf, 1)));
    assert_eq!((code, report["still_open"].as_u64()), (1, Some(20)), "{report}");
    assert!(report["stopped_after"].is_null(), "{report}");
}

/// Short, with room for a slow machine: what goes wrong in these tests goes wrong by seconds.
const FLOOD: &str = "--calm 1 --seconds 1 --recovery 20 --attackers 2 --pairs 2 --newcomers 2 --lag-ms 60000";
/// What a server that is to fail may take.
const STRICT: &str = "--slack-ms 2500 --within-ms 20000";
/// A good server passes on the slowest machine, too: only what is lost, refused or never answered
/// can fail it.
const LAX: &str = "--slack-ms 90000 --within-ms 90000";

fn flood(fault: Fault, line: &str) -> (i32, Value) {
    let server = start(fault, true);
    let place = Place::beside(&server);
    let target = server.address;
    let bounds = if matches!(fault, Fault::None) { LAX } else { STRICT };
    verdict(&place.autoclient(&format!("flood {FLOOD} {bounds} {line} --target {target} --admin {target}")))
}

#[test]
fn flood_passes_with_a_good_server() {
    let cases = [
        ("pongs", "--threads 2"),
        ("pings", ""),
        ("fragments", ""),
        ("presence", ""),
        ("syncs", ""),
        ("half-heads", ""),
        ("idle-http", "--sources 3 --connect-rate 100"),
        ("slow-bodies", ""),
        ("slow-readers", ""),
        ("connects", "--connect-rate 100"),
        ("logins", "--connect-rate 100"),
        ("registrations", "--connect-rate 100"),
    ];
    // A few at a time: each wants all of a core.
    cases.chunks(3).for_each(|few| {
        each(few, |(kind, more)| {
            let (code, report) = flood(Fault::None, &format!("{kind} {more}"));
            assert_eq!((code, report["passed"].as_bool()), (0, Some(true)), "{kind}: {report}");
            let found = &report[*kind];
            assert_eq!((found["verdict"].as_str(), found["attackers"].as_u64()), (Some("passed"), Some(2)), "{report}");
            assert!(
                found["stood"].as_u64() >= Some(2) && found["calm"]["heartbeat"]["count"].as_u64() > Some(30),
                "{report}"
            );
            let sends = *kind != "connects";
            assert!(!sends || found["sent_bytes"].as_u64() > Some(0), "{report}");
        });
    });
}

#[test]
fn floods_of_a_list_come_in_turn() {
    let (code, report) = flood(Fault::None, "typing lists");
    assert_eq!(code, 0, "{report}");
    assert_eq!(report["verdicts"], serde_json::json!([["typing", "passed"], ["lists", "passed"]]), "{report}");
}

#[test]
fn flood_finds_what_a_flood_does_to_others() {
    let cases = [
        (Fault::Sluggish, "heartbeat p99"),
        (Fault::FullHouse, "newcomer_ws"),
        (Fault::Fat, "RSS does not come back"),
        (Fault::Stuck, "turn p99.9 250.0 ms"),
    ];
    each(cases, |(fault, wanted)| {
        let (code, report) = flood(fault, "pongs");
        assert_eq!((code, report["passed"].as_bool()), (1, Some(false)), "{fault:?}: {report}");
        let reasons = report["pongs"]["reasons"].to_string();
        assert!(reasons.contains(wanted), "{fault:?}: {reasons}");
    });
    let (_, report) = flood(Fault::Fat, "pongs");
    assert!(report["pongs"]["reasons"].to_string().contains("RSS 600 MiB, more than 448"), "{report}");
}

#[test]
fn flood_tells_its_own_limits_from_the_servers() {
    // No thread is woken without any delay, so a bound of zero is always exceeded …
    let (code, report) = flood(Fault::None, "pongs --lag-ms 0");
    assert_eq!((code, report["pongs"]["verdict"].as_str()), (3, Some("generator at its limit")), "{report}");
    // … and excuses no server that answers seconds late.
    let (code, report) = flood(Fault::Sluggish, "pongs --lag-ms 0");
    assert_eq!((code, report["pongs"]["verdict"].as_str()), (1, Some("failed")), "{report}");
    let (code, report) = flood(Fault::Deaf, "pongs");
    assert_eq!((code, report["passed"].as_bool()), (4, Some(false)), "{report}");
    assert!(report["pongs"]["reasons"].to_string().contains("in trouble before"), "{report}");
}

#[test]
fn flood_reports_when_it_is_interrupted() {
    let server = start(Fault::None, true);
    let place = Place::beside(&server);
    let target = server.address;
    let line = format!("flood pongs lists {FLOOD} --seconds 600 --json --target {target} --admin {target} --tokens");
    let mut command = Command::new(env!("CARGO_BIN_EXE_autoclient"));
    command.args(line.split_ascii_whitespace()).arg(place.file("tokens"));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("autoclient runs");
    let errors = BufReader::new(child.stderr.take().expect("a pipe"));
    let pid = rustix::process::Pid::from_child(&child);
    for line in errors.lines().map_while(Result::ok) {
        if line.contains("attackers for 600 s") {
            rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it is told");
            break;
        }
    }
    let (code, report) = verdict(&child.wait_with_output().expect("it ends"));
    assert_eq!((code, report["verdicts"].to_string().as_str()), (9, r#"[["pongs","interrupted"]]"#), "{report}");
    assert!(report["pongs"]["calm"]["heartbeat"]["count"].as_u64() > Some(30), "{report}");
}

#[test]
fn without_a_result_the_exit_code_is_2() {
    let server = start(Fault::None, true);
    let place = Place::beside(&server);
    let nobody = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let target = format!("--metrics off --target {}", server.address);
    let foreign = place.file("foreign");
    std::fs::write(&foreign, "1 wrong\n").expect("tokens");
    for (arguments, reason) in [
        (format!("idle --connections 1 --metrics off --target {nobody}"), "refused"),
        ("idle --connections 1 --target 192.0.2.1:8081".to_owned(), "--i-own-the-target"),
        ("flood pongs --target 192.0.2.1:8081".to_owned(), "--i-own-the-target"),
        (format!("flood pongs --target {} --admin 192.0.2.1:8082", server.address), "--i-own-the-target"),
        (format!("flood pongs --attackers 2000 --target {}", server.address), "users are needed"),
        ("flood rain".to_owned(), "none of all, pongs"),
        (format!("idle --connections 5000000 {target}"), "at most 4000000"),
        (format!("idle --steps 20,10 {target}"), "must rise"),
        (format!("idle --connections 1 --server-pid 1,2 --stop-within 5 {target}"), "one process"),
        (format!("idle --connections 1 {target}{}", ",127.0.0.1:1".repeat(16)), "from 1 to 16"),
        (format!("fanout --group 1 --members 65 {target}"), "65 users are needed"),
        (format!("fanout --group 1 --members 5 --publishers 6 {target}"), "--publishers"),
        (format!("direct --pairs 1 {target}"), "--rate"),
        (format!("direct --pairs 1 --rate 1 --window 1 {target}"), "--window"),
        (format!("check --acked-log {foreign} --base-url http://{}", server.address), "not five fields"),
    ] {
        let output = place.autoclient(&arguments);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {complaint}");
        assert!(complaint.contains(reason), "{arguments}: {complaint}");
    }
    std::fs::copy(&foreign, place.file("tokens")).expect("tokens");
    let output = place.autoclient(&format!("idle --connections 1 {target}"));
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("403 Forbidden"));
}

#[test]
fn too_few_descriptors_are_said_clearly() {
    let place = Place::beside(&start(Fault::None, true));
    let program = env!("CARGO_BIN_EXE_autoclient");
    let line = format!("ulimit -n 100; {program} idle --connections 50 --tokens {}", place.file("tokens"));
    let output = Command::new("sh").args(["-c", &line]).output().expect("a shell");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{complaint}");
    assert!(
        complaint.contains("at most 100 (hard limit)") && complaint.contains("at most 36 connections"),
        "{complaint}"
    );
}
