//! Two gateways on one MariaDB: people who talk through different ones have one history. And a gateway whose server is away.
//!
//! Live delivery between gateways is not promised yet, so nobody here waits for a push from the other side.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use imgate::api::control;
use imgate::api::services::operator::{Deed, DeedOutcome};
use imgate::auth::Issuer;
use imgate::ids::UserId;
use imgate::limits::FOLLOW_MS;
use imgate::node::Tuning;
use imgate::wire::CloseCode;
use serde_json::{Value, json};

use crate::mariadb::Server;
use crate::process::Process;
use crate::support::{Client, Gateway, PATIENCE, exchange};

/// Two gateways on a fresh database with `users` users.
fn two_gateways(server: &Server, users: u64) -> [Gateway; 2] {
    let url = server.url(&server.database());
    let start = |node: &str, users: u64| {
        let settings = [("store", url.as_str()), ("node", node)];
        Gateway::start_with(2, users, &settings, Tuning::default())
    };
    [start("1", users), start("2", 0)]
}

fn contents(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["content"].as_str().expect("a content")).collect()
}

fn seqs(rows: &[Value]) -> Vec<u64> {
    rows.iter().map(|row| row["seq"].as_u64().expect("a seq")).collect()
}

#[test]
fn two_gateways_have_one_history() {
    let Some(server) = Server::shared() else { return };
    let [here, there] = two_gateways(server, 2);
    let (mut a, mut b) = (here.v2(1), there.v2(2));
    for n in 0..10 {
        assert_eq!(a.say_acked(10, 2, &format!("a{n}"), &format!("from a {n}"))["seq"], 2 * n + 1);
        assert_eq!(b.say_acked(10, 1, &format!("b{n}"), &format!("from b {n}"))["seq"], 2 * n + 2);
    }
    let history = here.history(1, 10, 2);
    assert_eq!(seqs(&history), (1..=20).collect::<Vec<u64>>());
    assert_eq!(history, there.history(1, 10, 2), "the same on both");
    assert_eq!(there.history(2, 10, 1).len(), 20);
    for (n, row) in history.iter().enumerate() {
        assert_eq!(row["userid"], 1 + n % 2);
    }
    let sync = json!({"cmd": 4, "kind": 10, "dstid": 1, "after": 17});
    b.send(&sync);
    assert_eq!(contents(b.wait_for(4)["rows"].as_array().expect("rows")), ["from b 8", "from a 9", "from b 9"]);
}

#[test]
fn a_resend_through_the_other_gateway_is_stored_once() {
    let Some(server) = Server::shared() else { return };
    let [here, there] = two_gateways(server, 2);
    let first = here.v2(1).say_acked(10, 2, "same", "once");
    let again = there.v2(1).say_acked(10, 2, "same", "once");
    assert_eq!((&again["seq"], &again["id"], &again["dup"]), (&first["seq"], &first["id"], &json!(true)));
    assert_eq!(contents(&there.history(2, 10, 1)), ["once"]);
}

#[test]
fn a_home_hands_on_what_the_other_gateway_stored_before() {
    let Some(server) = Server::shared() else { return };
    let [here, there] = two_gateways(server, 2);
    let mut reader = here.v2(2);
    let mut a = here.v2(1);
    a.say_acked(10, 2, "c1", "first");
    there.v2(1).say_acked(10, 2, "c2", "second, elsewhere");
    // Its own number tells the home that one is missing; it is read before this one is handed on.
    a.say_acked(10, 2, "c3", "third");
    let heard: Vec<Value> = (0..3).map(|_| reader.wait_for(10)).collect();
    assert_eq!(contents(&heard), ["first", "second, elsewhere", "third"]);
    assert_eq!(seqs(&heard), [1, 2, 3]);
}

#[test]
fn everybody_at_once_through_both_gateways() {
    const EACH: usize = 60;
    let Some(server) = Server::shared() else { return };
    let gateways = two_gateways(server, 4);
    let group = gateways[0].group(1, &[2]);
    gateways[1].join(3, group);
    gateways[1].join(4, group);
    let acked: Vec<(u64, String)> = thread::scope(|scope| {
        let authors: Vec<_> = (1..=4u64)
            .map(|user| {
                let gateway = &gateways[user as usize % 2];
                scope.spawn(move || {
                    let mut client = gateway.v2(user);
                    let say = |client: &mut Client, n: usize| {
                        let content = format!("{user}-{n}");
                        let ack = client.say_acked(11, group, &content, &content);
                        (ack["seq"].as_u64().expect("a seq"), content)
                    };
                    (0..EACH).map(|n| say(&mut client, n)).collect::<Vec<_>>()
                })
            })
            .collect();
        authors.into_iter().flat_map(|author| author.join().expect("every post is acked")).collect()
    });
    let history = gateways[0].history(1, 11, group);
    assert_eq!(seqs(&history), (1..=4 * EACH as u64).collect::<Vec<_>>(), "no hole, nothing twice");
    for (seq, content) in &acked {
        assert_eq!(history[*seq as usize - 1]["content"], **content, "an ack tells the place");
    }
    assert_eq!(gateways[1].history(1, 11, group), history);
}

/// How long what is done on one gateway may take to end a session on another one that no word
/// reaches: the longest pause between two looks, and what a machine that compiles meanwhile takes.
const REVOKED_WITHIN: Duration = Duration::from_millis(FOLLOW_MS + 2_000);

#[test]
fn what_is_revoked_on_one_gateway_ends_on_the_other() {
    let Some(server) = Server::shared() else { return };
    let [here, there] = two_gateways(server, 4);
    let group = here.group(1, &[2, 3]);
    let (mut ann, mut bob, mut carl) = (there.v2(1), there.v2(2), there.v2(3));
    let began = Instant::now();
    // Ann logs out everywhere, Bob is banned, Carl leaves the group: all on the other gateway.
    let headers = format!("Authorization: Bearer {}\r\nContent-Type: application/json\r\n", here.token(1, Issuer::Own));
    let body = r#"{"everywhere":true}"#;
    let request = format!(
        "POST /api/v1/logout HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert!(exchange(here.address(), request.as_bytes()).starts_with("HTTP/1.1 200 "));
    let banned = control::ask(here.data(), Deed::Ban, UserId::new(2).expect("an id")).expect("it answers");
    assert!(matches!(banned, Some(DeedOutcome::Account(account)) if account.banned));
    let headers = format!("Authorization: Bearer {}\r\n", here.token(3, Issuer::Own));
    let request =
        format!("DELETE /api/v1/groups/{group}/members/me HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    assert!(exchange(here.address(), request.as_bytes()).starts_with("HTTP/1.1 200 "));

    assert_eq!(ann.close_code(), Some(CloseCode::BadToken.code()));
    assert_eq!(bob.close_code(), Some(CloseCode::Banned.code()));
    assert!(began.elapsed() < REVOKED_WITHIN, "sessions that were ended elsewhere went on for {:?}", began.elapsed());
    // Typing in a group is for its members only, and the session is asked, not the database.
    loop {
        carl.send(&json!({"cmd": 6, "kind": 11, "dstid": group}));
        carl.send(&json!({"cmd": 0}));
        let answer = carl.json();
        if answer["cmd"] == 2 {
            break;
        }
        assert!(began.elapsed() < REVOKED_WITHIN, "a session of somebody who is no member any more goes on");
        thread::park_timeout(Duration::from_millis(100));
    }
    assert!(began.elapsed() < REVOKED_WITHIN);
    // And who joins elsewhere is heard here.
    let mut dora = there.v2(4);
    here.join(4, group);
    let began = Instant::now();
    loop {
        dora.send(&json!({"cmd": 6, "kind": 11, "dstid": group}));
        dora.send(&json!({"cmd": 0}));
        if dora.json()["cmd"] == 0 {
            break;
        }
        dora.wait_for(0);
        assert!(began.elapsed() < REVOKED_WITHIN, "a member is none here");
        thread::park_timeout(Duration::from_millis(100));
    }
}

/// The status of `/readyz`.
fn readiness(gateway: &Gateway) -> String {
    let answer = exchange(gateway.admin(), b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    answer.split(' ').nth(1).unwrap_or_else(|| panic!("no status: {answer:?}")).to_owned()
}

fn wait_until_ready(gateway: &Gateway) {
    let until = Instant::now() + PATIENCE;
    while readiness(gateway) != "200" {
        assert!(Instant::now() < until, "not ready in time");
        thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn a_gateway_outlives_its_server() {
    let Some(mut server) = Server::start(&[]) else { return };
    let url = server.url(&server.database());
    let mut gateway = Gateway::start_with(2, 2, &[("store", url.as_str())], Tuning::default());
    let mut a = gateway.v2(1);
    assert_eq!(a.say_acked(10, 2, "c1", "before")["seq"], 1);

    server.kill();
    a.say(10, 2, "c2", "during");
    let refusal = a.wait_for(2);
    assert_eq!((&refusal["cid"], &refusal["retry"]), (&json!("c2"), &json!(true)), "{refusal}");
    assert_eq!(readiness(&gateway), "503");
    a.send(&json!({"cmd": 0}));
    assert_eq!(a.wait_for(0)["cmd"], 0, "heartbeats are answered, the connection lives");

    // One that starts meanwhile waits for its server too.
    gateway.restart();
    assert_eq!(readiness(&gateway), "503");
    server.start_again();
    wait_until_ready(&gateway);
    let mut a = gateway.v2(1);
    assert_eq!(a.say_acked(10, 2, "c2", "during")["seq"], 2);
    assert_eq!(contents(&gateway.history(2, 10, 1)), ["before", "during"]);
}

#[test]
fn who_comes_when_the_gateway_is_ready_again_is_served() {
    let Some(mut server) = Server::start(&[]) else { return };
    let url = server.url(&server.database());
    let gateway = Gateway::start_with(2, 2, &[("store", url.as_str())], Tuning::default());
    let mut a = gateway.v2(1);
    a.say_acked(10, 2, "first", "before");
    for round in 0..3u64 {
        server.kill();
        let lost = format!("during {round}");
        a.say(10, 2, &lost, &lost);
        assert_eq!(a.wait_for(2)["cid"], *lost);
        server.start_again();
        let until = Instant::now() + PATIENCE;
        while readiness(&gateway) != "200" {
            assert!(Instant::now() < until, "not ready in time");
        }
        // Neither what is written nor what is read is refused.
        let cid = format!("after {round}");
        assert_eq!(a.say_acked(10, 2, &cid, &cid)["seq"], 2 + round);
        assert_eq!(gateway.history(2, 10, 1).len() as u64, 2 + round);
    }
}

#[test]
fn an_outage_of_the_database_is_a_few_lines_of_the_log() {
    const REQUESTS: usize = 100;
    let Some(mut server) = Server::start(&[]) else { return };
    let data = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
    command.env("IMGATE_STORE", server.url(&server.database()));
    let gateway = Process::launch(command, data.path());
    let login = || {
        let body = r#"{"mobile":"13800000001","password":"nobody's at all"}"#;
        let head = "POST /api/v1/login HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n";
        let answer =
            exchange(gateway.address, format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
        answer.split(' ').nth(1).map(ToOwned::to_owned)
    };
    let ready = || {
        let answer = exchange(gateway.admin, b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        answer.split(' ').nth(1).map(ToOwned::to_owned)
    };
    let until = Instant::now() + PATIENCE;
    while ready().as_deref() != Some("200") {
        assert!(Instant::now() < until, "not ready in time");
    }
    server.kill();
    for _ in 0..REQUESTS {
        assert_eq!(ready().as_deref(), Some("503"));
        assert_eq!(login().as_deref(), Some("503"));
    }
    server.start_again();
    let until = Instant::now() + PATIENCE;
    while ready().as_deref() != Some("200") || login().as_deref() != Some("401") {
        assert!(Instant::now() < until, "not ready in time");
    }
    let mut lines = gateway.lines_until("a login failed");
    // Its end is said by a call, once nothing has failed for a while.
    let (admin, told) = (gateway.admin, AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            let until = Instant::now() + 2 * PATIENCE;
            while !told.load(Ordering::Relaxed) && Instant::now() < until {
                exchange(admin, b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            }
        });
        lines.extend(gateway.lines_until("calls of the control plane work again"));
        told.store(true, Ordering::Relaxed);
    });
    let about = |words: &str| lines.iter().filter(|line| line.contains(words)).count();
    assert!(lines.len() < 12, "{lines:#?}");
    assert_eq!(about("calls of the control plane fail in the store"), 1, "{lines:#?}");
    assert_eq!(about("calls of the control plane work again"), 1, "{lines:#?}");
    assert_eq!(about("no connection to the database"), 1, "{lines:#?}");
    assert_eq!(about("connected to the database again"), 1, "{lines:#?}");
}
