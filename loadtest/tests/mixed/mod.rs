//! `mixed`: everything that users do is done, measured and judged.

use serde_json::Value;

use super::fake::Fault;
use super::{Place, ended_with, failed_by, start, verdict};

/// Eight users who do each thing some ten times in two seconds.
const MIX: &str = "direct = 40\ngroup = 20\ntyping = 20\nread = 20\nhistory = 20\nlist = 20\npresence = 20\nheartbeat = 20\n\
                   reconnect = 10\nlogin = 5\n";

fn mixed(fault: Fault, mix: &str, more: &str) -> (i32, Value) {
    let server = start(fault, true);
    let place = Place::beside(&server);
    std::fs::write(place.file("mix"), mix).expect("a mix");
    let line = format!(
        "mixed --users 8 --group 5 --speed 150 --seconds 2 --drain 3 --p99-ms inf --lag-ms inf --metrics off --mix {} \
         --target {} {more}",
        place.file("mix"),
        server.address
    );
    verdict(&place.autoclient(&line))
}

#[test]
fn everything_is_done_and_measured() {
    let (code, report) = mixed(Fault::None, MIX, "--threads 2");
    assert_eq!(code, 0, "{report}");
    let done = |kind: &str| report[kind]["done"].as_u64().unwrap_or_else(|| panic!("{kind}: {report}"));
    let answered = |kind: &str| report[kind]["answered"].as_u64();
    for kind in ["group", "history", "list", "presence", "heartbeat", "reconnect", "login"] {
        assert!(done(kind) >= 1, "{kind}: {report}");
        assert_eq!(report[kind]["unanswered"].as_u64(), Some(0), "{kind}: {report}");
        assert!(report[kind]["p99_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{kind}: {report}");
    }
    assert_eq!(
        (done("reconnect"), answered("reconnect")),
        (7, Some(7)),
        "8 users, 10 an hour, 150 times as fast: {report}"
    );
    // 27 messages to others, each answered once.
    assert_eq!((report["acked"].as_u64(), report["lost"].as_u64()), (Some(54), Some(0)), "{report}");
    assert!(report["group_delivery_latency"]["count"].as_u64().is_some_and(|count| count > 50), "{report}");
}

#[test]
fn without_a_group_nothing_happens_in_groups() {
    let server = start(Fault::None, true);
    let place = Place::beside(&server);
    let line = format!("mixed --users 4 --speed 600 --seconds 1 --metrics off --target {}", server.address);
    let (code, report) = verdict(&place.autoclient(&line));
    assert_eq!((code, &report["group"], &report["history"]), (0, &Value::Null, &Value::Null), "{report}");
    assert!(report["list"]["answered"].as_u64().is_some_and(|lists| lists > 0), "the mix of a day: {report}");
}

#[test]
fn what_went_wrong_is_found() {
    // The client asks for it when the next one comes, as any client would: it is not lost, and it is no good server either.
    failed_by(mixed(Fault::Lose(20), "direct = 40", ""), "gaps", 1);
    failed_by(mixed(Fault::Lose(10), "group = 40", ""), "group_lost", 1);
    failed_by(mixed(Fault::Leak(10), "group = 40", ""), "misdelivered", 1);
    failed_by(mixed(Fault::Leak(10), "direct = 40", ""), "misdelivered", 1);
    failed_by(mixed(Fault::Misfile(10), "direct = 40", ""), "misdelivered", 1);
    failed_by(mixed(Fault::Double(10), "group = 40", ""), "group_doubled", 1);
    let (code, report) = mixed(Fault::Listless, "direct = 10\nlist = 20", "");
    assert_eq!((code, report["list"]["answered"].as_u64()), (1, Some(0)), "{report}");
    assert!(report["list"]["unanswered"].as_u64().is_some_and(|n| n > 0), "{report}");
    ended_with(5, mixed(Fault::RefuseAll, "direct = 10\ngroup = 10", ""), "acked", 0);
}

#[test]
fn a_group_that_falls_silent_is_found() {
    let lost = |fault, mix| {
        let (code, report) = mixed(fault, mix, "");
        assert_eq!((code, report["verdict"].as_str()), (1, Some("failed")), "{report}");
        let lost = report["group_lost"].as_u64().expect("a count");
        assert!(report["failures"].to_string().contains("group_lost"), "{report}");
        lost
    };
    // 27 messages: the last eight come to none of the seven others, or to one of them, that has
    // sent one or more of them itself.
    let (all, one) = (lost(Fault::Mute(20), "group = 40"), lost(Fault::Unsubscribe(20), "group = 40"));
    assert_eq!(all, 8 * 7);
    assert!((6..=8).contains(&one), "{one}");
    // From the beginning: it has only its own.
    assert!(lost(Fault::Unsubscribe(1), "group = 40") > 20);
    assert_eq!(lost(Fault::Lose(27), "group = 40"), 1, "the last one");
}

#[test]
fn nothing_is_said_in_the_group_before_all_can_hear_it() {
    let (code, report) = mixed(Fault::LateListener, "group = 40", "");
    assert_eq!((code, report["group_lost"].as_u64()), (0, Some(0)), "{report}");
}

#[test]
fn what_would_have_waited_for_a_refused_one_is_not_in_the_figures_of_the_next() {
    // In the second that the refusal takes some four of each user are due.
    let (code, report) = mixed(Fault::LateRefusal, "direct = 10\nlist = 100", "");
    assert_eq!((code, report["list"]["refused"].as_u64()), (5, Some(8)), "{report}");
    assert!(report["list"]["skipped"].as_u64() > Some(8) && report["list"]["answered"].as_u64() > Some(0), "{report}");
    assert!(report["list"]["max_ms"].as_f64().is_some_and(|ms| ms < 600.0), "{report}");
}

#[test]
fn what_is_under_way_at_the_end_may_take_as_long_as_is_said() {
    let (code, report) = mixed(Fault::LateLists, "direct = 10\nlist = 20", "--drain 9");
    assert_eq!((code, report["list"]["unanswered"].as_u64()), (0, Some(0)), "{report}");
    assert!(report["list"]["answered"].as_u64() > Some(0), "{report}");
}

#[test]
fn a_bound_on_latency_is_one_on_all_that_the_server_answers() {
    let mix = "direct = 10\nlist = 100";
    let (code, report) = mixed(Fault::LateLists, mix, "--drain 9 --p99-ms 700");
    assert_eq!((code, report["verdict"].as_str()), (8, Some("bound exceeded")), "{report}");
    assert!(report["failures"].to_string().contains("list p99"), "{report}");
    // Each second some eight are due while one waits: these would have waited for a part of it.
    let list = |key: &str| report["list"][key].as_f64().unwrap_or_else(|| panic!("{key}: {report}"));
    assert!(list("skipped") > list("done") && list("answered") <= list("done"), "{report}");
    assert!(list("p50_ms") < 1_000.0 && list("p99_ms") >= 900.0, "{report}");
    let (code, report) = mixed(Fault::Tardy, "group = 10", "--drain 30 --p99-ms 100");
    assert_eq!(code, 8, "{report}");
    assert!(report["failures"].to_string().contains("group_delivery_latency p99"), "{report}");
}

#[test]
fn so_many_refusals_as_are_allowed_fail_nothing() {
    let (code, report) = mixed(Fault::Refuse(5), "group = 20", "");
    assert_eq!((code, report["group"]["refused"].as_u64()), (5, Some(1)), "{report}");
    let (code, report) = mixed(Fault::Refuse(5), "group = 20", "--refused-max 1");
    assert_eq!((code, report["group"]["refused"].as_u64()), (0, Some(1)), "{report}");
}

#[test]
fn a_wrong_mix_is_told_before_anything_begins() {
    let server = start(Fault::None, true);
    let place = Place::beside(&server);
    for (mix, more, why) in [
        ("dance = 1", "", "\"dance\" is nothing that users do: direct, group"),
        ("direct = 1", "--ramp 9", "--ramp is longer than --seconds"),
        ("direct = 1", "--drift", "--drift needs --seconds of 40 or more"),
        ("direct = 1", "--drift --seconds 40", "--drift is about the server's memory and CPU time: it needs --metrics"),
        ("direct = 1", "--speed 0", "is not a number above 0"),
    ] {
        std::fs::write(place.file("mix"), mix).expect("a mix");
        let line = format!(
            "mixed --users 2 --seconds 2 --metrics off --mix {} --target {} {more}",
            place.file("mix"),
            server.address
        );
        let output = place.autoclient(&line);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{mix} {more}: {told}");
        assert!(told.contains(why), "{mix} {more}: {told}");
    }
}
