//! The budget of all outboxes, with real sockets: the slowest reader goes, is told and counted, and the others get everything.

use std::time::Instant;

use imgate::node::Tuning;
use serde_json::json;

use crate::support::{Client, Gateway, PATIENCE};

const BUDGET: f64 = 8.0 * 1024.0 * 1024.0;
/// What one turn may add before the sum is settled: a session's answers, and what the quick have under way.
const SLACK: f64 = 2.0 * 1024.0 * 1024.0;
/// Syncs that a reader asks for and does not take: more than the kernel's buffers of a connection hold (a send buffer grows to 4 MB), and few enough to wait
/// there unread.
const SYNCS: usize = 40;

/// Looks at a metric until `done`, within [`PATIENCE`].
fn watch(gateway: &Gateway, metric: &str, done: impl Fn(f64) -> bool) -> f64 {
    let began = Instant::now();
    loop {
        let value = gateway.metric(metric);
        if done(value) {
            return value;
        }
        assert!(began.elapsed() < PATIENCE, "{metric} is {value}");
    }
}

#[test]
fn the_slowest_goes_when_the_budget_is_used_up_and_the_others_get_everything() {
    const USERS: u64 = 40;
    const CLOSED: &str = r#"imgate_slow_closed_total{why="budget"}"#;
    let gateway = Gateway::start_with(2, USERS, &[("outbox_budget", "8MiB")], Tuning::default());
    let (mut author, mut friend) = (gateway.v2(1), gateway.v2(2));
    let group = gateway.group(1, &(2..=USERS).collect::<Vec<_>>());
    let body = "x".repeat(60_000);
    for n in 0..4 {
        author.say_acked(11, group, &format!("c{n}"), &body);
    }
    let mut stalled = Vec::new();
    for user in 3..=USERS {
        let mut client = gateway.narrow(user);
        for _ in 0..SYNCS {
            client.send(&json!({"cmd": 4, "kind": 11, "dstid": group, "after": 0, "limit": 200}));
        }
        stalled.push(client);
        // All are paused with as many answers as they may have, or one has gone for it. The sum, and not what was
        // added: a moment's peak of the one before would be in the difference.
        let all = 200_000.0 * stalled.len() as f64;
        let more = |held: f64| held > all || gateway.metric(CLOSED) > 0.0;
        watch(&gateway, "imgate_outbox_bytes", more);
        assert!(gateway.metric("imgate_outbox_bytes") < BUDGET + SLACK);
        if gateway.metric(CLOSED) > 0.0 {
            break;
        }
    }
    watch(&gateway, CLOSED, |gone| gone > 0.0);
    assert!(stalled.len() > 10, "there is room for more than {}", stalled.len());
    watch(&gateway, "imgate_outbox_bytes", |held| held <= BUDGET);
    for n in 0..20 {
        let acked = author.say_acked(10, 2, &format!("d{n}"), "hello");
        assert_eq!(friend.wait_for(10)["seq"], acked["seq"], "the quick notice nothing");
    }
    let mut gone = Vec::new();
    for (at, client) in stalled.iter_mut().enumerate() {
        match answers(client) {
            Ok(all) => assert_eq!(all, SYNCS, "who stays gets every answer"),
            Err(code) => {
                assert_eq!(code, 4001);
                gone.push(at);
            }
        }
    }
    // They have about as much each, so who has waited longest goes first; on each of the two shards.
    let late = stalled.len() * 3 / 4;
    assert!(!gone.is_empty() && gone.iter().all(|&at| at < late), "{gone:?} of {} have gone", stalled.len());
    for counted in [CLOSED, r#"imgate_sessions_closed_total{code="slow"}"#] {
        assert_eq!(gateway.metric(counted), gone.len() as f64, "every one is told and counted");
    }
}

/// Reads the answers to all syncs; the close code, if that comes first.
fn answers(client: &mut Client) -> Result<usize, u16> {
    for _ in 0..SYNCS {
        match client.next_json() {
            Ok(message) => assert_eq!(message["rows"].as_array().map(Vec::len), Some(4), "{message}"),
            Err(code) => return Err(code),
        }
    }
    Ok(SYNCS)
}
