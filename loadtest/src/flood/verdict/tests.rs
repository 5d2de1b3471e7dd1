//! The judgement on planted outcomes: what is good passes, and everything that can be wrong is
//! found.

use super::super::signals::STAGES;
use super::*;

const BOUNDS: Bounds = Bounds {
    factor: 3.0,
    slack_ms: 5.0,
    p99_ms: None,
    within_ms: 1_000.0,
    turn_ms: 20.0,
    rss_mib: 448,
    rss_back_mib: 16,
    lag_ms: 2.0,
};

fn reading(at_s: u64, stage: FloodStage, rss_mib: u64, cpu_seconds: f64) -> Reading {
    Reading {
        at_ns: at_s * 1_000_000_000,
        stage,
        rss_bytes: Some(rss_mib << 20),
        cpu_seconds: Some(cpu_seconds),
        turn_p999_seconds: Some(0.002),
        turn_max_seconds: Some(0.01),
    }
}

/// A flood that was not felt: 1 ms in the calm, 7 ms under it.
fn good() -> FloodOutcome {
    let stage = |ms: u64| {
        let mut measured = Measured::new();
        for _ in 0..200 {
            for histogram in [&mut measured.heartbeat_ns, &mut measured.ack_ns, &mut measured.delivery_ns] {
                histogram.record(ms * 1_000_000).expect("recorded");
            }
            measured.lag_ns.record(50_000).expect("recorded");
        }
        for act in ACTS {
            measured.visits_mut(act).done(20_000_000, 1_000_000_000);
        }
        measured
    };
    let mut stages: Vec<Measured> = (0..STAGES).map(|_| Measured::new()).collect();
    stages[FloodStage::Calm as usize] = stage(1);
    stages[FloodStage::Flooding as usize] = stage(7);
    FloodOutcome {
        attackers: 1_000,
        unfit: None,
        findings: Findings {
            stages,
            readings: vec![
                reading(1, FloodStage::Calm, 40, 0.1),
                reading(2, FloodStage::Flooding, 90, 1.0),
                reading(3, FloodStage::After, 50, 1.9),
            ],
            before: String::new(),
            after: String::new(),
        },
        fates: Fates { cpu_ns: 900, flood_ns: 1_000, ..Fates::default() },
        standing_max: 1_000,
        stood: 1_000,
        ended: 0,
        short: 0,
        sent_bytes: 0,
        received_bytes: 0,
        threads: 1,
        back_seconds: Some(1.0),
        interrupted: false,
    }
}

fn flood(outcome: &mut FloodOutcome) -> &mut Measured {
    &mut outcome.findings.stages[FloodStage::Flooding as usize]
}

/// The reasons for which a good outcome fails once something has gone wrong.
fn failed(wrong: impl FnOnce(&mut FloodOutcome)) -> Vec<String> {
    let mut outcome = good();
    wrong(&mut outcome);
    match judge(&BOUNDS, &outcome) {
        FloodVerdict::Failed(reasons) => reasons,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_nobody_felt_passes() {
    assert_eq!(judge(&BOUNDS, &good()), FloodVerdict::Passed);
}

/// What a verdict says, and what it says it of.
type Wrong = (&'static str, fn(&mut FloodOutcome));

#[test]
fn each_thing_that_goes_wrong_is_the_one_reason() {
    let cases: [Wrong; 12] = [
        // Three of two hundred are above the 99th percentile.
        ("heartbeat p99 9.0 ms", |outcome| flood(outcome).heartbeat_ns.record_n(9_000_000, 3).expect("recorded")),
        ("direct ack p99 9.0 ms", |outcome| flood(outcome).ack_ns.record_n(9_000_000, 3).expect("recorded")),
        ("direct delivery p99 9.0 ms", |outcome| {
            flood(outcome).delivery_ns.record_n(9_000_000, 3).expect("recorded");
        }),
        ("newcomer_ws: 1 of 2 later", |outcome| {
            flood(outcome).visits_mut(Act::Websocket).done(1_100_000_000, 1_000_000_000);
        }),
        ("newcomer_http: 1 of 2 failed: 503", |outcome| flood(outcome).visits_mut(Act::Http).failed("503")),
        ("login: 1 of 2 failed", |outcome| flood(outcome).visits_mut(Act::Login).failed("no answer in 5 s")),
        ("readyz: 1 of 2 failed", |outcome| flood(outcome).visits_mut(Act::Readyz).failed("503")),
        ("1 well-behaved sessions went", |outcome| {
            flood(outcome).lost.insert("closed with 4001".to_owned(), 1);
        }),
        ("direct messages were refused with 20", |outcome| {
            flood(outcome).refused.insert(20, 2);
        }),
        ("turn p99.9 250.0 ms", |outcome| outcome.findings.readings[2].turn_p999_seconds = Some(0.25)),
        ("RSS 500 MiB", |outcome| outcome.findings.readings[1].rss_bytes = Some(500 << 20)),
        ("RSS does not come back: 50 MiB", |outcome| outcome.back_seconds = None),
    ];
    for (reason, wrong) in cases {
        let reasons = failed(wrong);
        assert!(reasons.len() == 1 && reasons[0].contains(reason), "{reason}: {reasons:?}");
    }
}

#[test]
fn what_was_not_measured_does_not_pass() {
    let reasons = failed(|outcome| *flood(outcome) = Measured::new());
    assert!(reasons.iter().filter(|reason| reason.ends_with("not measured")).count() >= 8, "{reasons:?}");
    let reasons = failed(|outcome| outcome.findings.readings.clear());
    assert_eq!(reasons, ["turns: not told", "RSS: not told"]);
}

#[test]
fn answers_that_never_came_are_slow() {
    let reasons = failed(|outcome| (0..5).for_each(|_| flood(outcome).never(|measured| &mut measured.heartbeat_ns)));
    assert!(reasons[0].starts_with("heartbeat p99 6"), "{reasons:?}");
}

/// Plants a generator that was late, and what else went wrong.
fn lagging(wrong: impl FnOnce(&mut FloodOutcome)) -> FloodVerdict {
    let mut outcome = good();
    flood(&mut outcome).lag_ns.record_n(30_000_000, 10).expect("recorded");
    wrong(&mut outcome);
    judge(&BOUNDS, &outcome)
}

#[test]
fn a_late_generator_proves_no_slowness_but_hides_nothing_else() {
    let slow = lagging(|outcome| flood(outcome).ack_ns.record_n(9_000_000, 3).expect("recorded"));
    let FloodVerdict::Limited(reasons) = slow else { panic!("{slow:?}") };
    assert!(reasons[0].contains("late itself: p99 30.") && reasons[1].contains("direct ack"), "{reasons:?}");
    // What milliseconds of its own do not explain is the gateway's, an answer that never came above
    // all.
    for wrong in [
        (|outcome| flood(outcome).ack_ns.record_n(900_000_000, 3).expect("recorded")) as fn(&mut FloodOutcome),
        |outcome| (0..5).for_each(|_| flood(outcome).never(|measured| &mut measured.heartbeat_ns)),
        |outcome| flood(outcome).visits_mut(Act::Login).done(1_900_000_000, 1_000_000_000),
    ] {
        let found = lagging(wrong);
        assert!(matches!(&found, FloodVerdict::Failed(reasons) if reasons.len() == 1), "{found:?}");
    }
    // A visit that was late by less than the thread was late at its worst may be its own.
    let visit = lagging(|outcome| flood(outcome).visits_mut(Act::Login).done(1_030_000_000, 1_000_000_000));
    assert!(
        matches!(&visit, FloodVerdict::Limited(reasons) if reasons[1].contains("login: 1 of 2 later")),
        "{visit:?}"
    );
    // Times look longer than they were: what is fast enough nevertheless was fast enough.
    assert_eq!(lagging(|_| {}), FloodVerdict::Passed);
    let refused = lagging(|outcome| flood(outcome).visits_mut(Act::Http).failed("503"));
    assert!(matches!(refused, FloodVerdict::Failed(_)), "{refused:?}");
}

#[test]
fn a_flood_that_was_none_proves_nothing() {
    let limited = |wrong: fn(&mut FloodOutcome)| {
        let mut outcome = good();
        wrong(&mut outcome);
        judge(&BOUNDS, &outcome)
    };
    let few = limited(|outcome| (outcome.short, outcome.standing_max) = (5, 500));
    assert!(matches!(&few, FloodVerdict::Limited(reasons) if reasons[0].contains("500 of 1000")), "{few:?}");
    // The gateway kept them out: that is not the generator's doing.
    assert_eq!(limited(|outcome| outcome.standing_max = 500), FloodVerdict::Passed);
    let weak = limited(|outcome| {
        outcome.fates.cpu_ns = 990;
        outcome.findings.readings[2].cpu_seconds = Some(0.5);
    });
    assert!(matches!(&weak, FloodVerdict::Limited(reasons) if reasons[0].contains("99 % of a core")), "{weak:?}");
    let short = limited(|outcome| {
        flood(outcome).short.insert("no port".to_owned(), 3);
    });
    assert!(matches!(&short, FloodVerdict::Limited(reasons) if reasons[0].contains("3 connections")), "{short:?}");
    let none = limited(|outcome| (outcome.stood, outcome.standing_max, outcome.ended) = (0, 0, 900));
    assert!(matches!(&none, FloodVerdict::Nothing(reasons) if reasons[0].contains("refused 900")), "{none:?}");
    let unfit = limited(|outcome| outcome.unfit = Some("no answer".to_owned()));
    assert_eq!((unfit.exit(), unfit.told()), (Exit::Unfit, ("refused", &["no answer".to_owned()][..])));
    assert_eq!(limited(|outcome| outcome.interrupted = true), FloodVerdict::Interrupted);
}

#[test]
fn the_document_says_what_was_judged() {
    let outcome = good();
    let document = outcome.json(&BOUNDS, &judge(&BOUNDS, &outcome));
    assert_eq!((&document["verdict"], &document["attackers"]), (&json!("passed"), &json!(1_000)));
    assert_eq!(document["rss_mib"], json!({"start": 40.0, "max": 90.0, "after": 50.0, "back_seconds": 1.0}));
    let bound = document["heartbeat_bound_ms"].as_f64().expect("a bound");
    assert!((8.0..8.1).contains(&bound), "{bound}");
    assert_eq!(document["flood"]["newcomer_ws"]["in_time"], 1);
}
