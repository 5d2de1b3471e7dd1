//! Webhooks against endpoints on real sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::*;
use crate::clock::Clock;
use crate::ids::{ConvId, MsgId, UserId};
use crate::wire::packet::Stored;

const PATIENCE: Duration = Duration::from_secs(20);
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// What an endpoint was told.
struct Told {
    id: String,
    signed: bool,
    events: Vec<Value>,
}

/// Something that listens, and its URL.
fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/in?x=1", listener.local_addr().expect("an address"));
    (listener, url)
}

/// Takes one request and answers it with `status`.
fn take(listener: &TcpListener, status: &str) -> Told {
    let (stream, _) = listener.accept().expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_owned());
    }
    assert_eq!(head.first().map(String::as_str), Some("POST /in?x=1 HTTP/1.1"));
    let value = |name: &str| {
        let line = head.iter().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.unwrap_or_else(|| panic!("{name} in {head:?}")).to_owned()
    };
    let mut body = vec![0; value("content-length").parse().expect("a length")];
    reader.read_exact(&mut body).expect("a body");
    let body = String::from_utf8(body).expect("text");
    answer(reader.into_inner(), status);
    let id = value("webhook-id");
    let time_s = value("webhook-timestamp").parse().expect("a time");
    let signed = value("webhook-signature") == Secrets::parse(SECRET).expect("a secret").sign(&id, time_s, &body);
    let events: Value = serde_json::from_str(&body).expect("JSON");
    Told { id, signed, events: events["events"].as_array().expect("events").clone() }
}

fn answer(mut stream: TcpStream, status: &str) {
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").expect("it reads");
}

/// With journals in a folder of its own.
fn start(urls: &[&str], private: &[&str], retry_ms: u64) -> (Hooks, Telling, Arc<BackendCounts>, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let (hooks, telling, counts) = start_in(folder.path(), urls, private, retry_ms);
    (hooks, telling, counts, folder)
}

fn start_in(
    journals: &std::path::Path,
    urls: &[&str],
    private: &[&str],
    retry_ms: u64,
) -> (Hooks, Telling, Arc<BackendCounts>) {
    let counts = Arc::<BackendCounts>::default();
    let setup = Setup {
        endpoints: urls.iter().map(|url| Endpoint::parse(url).expect("a URL")).collect(),
        secrets: Secrets::parse(SECRET).expect("a secret"),
        kinds: HookKinds::default(),
        private: Networks::parse(private.iter().copied()).expect("networks"),
        counts: Arc::clone(&counts),
        retry_ms,
        journals: journals.to_owned(),
    };
    let (hooks, telling) = Hooks::start(setup).expect("a thread");
    (hooks, telling, counts)
}

fn registered(raw: u64) -> HookEvent {
    HookEvent::Registered { user: UserId::new(raw).expect("an id") }
}

fn until(is_so: impl Fn() -> bool) {
    let clock = Clock::start();
    while !is_so() {
        assert!(u128::from(clock.now().mono_ms) < PATIENCE.as_millis(), "it is not so");
        std::thread::yield_now();
    }
}

/// In JSON a line break may stand between values; in a journal it begins another line.
#[test]
fn an_event_of_a_message_with_line_breaks_is_one_line() {
    let stored = Stored { id: MsgId::new(1).expect("an id"), seq: Seq::new(1).expect("small") };
    let (from, to) = (UserId::new(1).expect("an id"), UserId::new(2).expect("an id"));
    let conv = ConvId::direct(from, to);
    let body = "\"media\":1,\"content\":\"a\\nb\",\"x\":[1,\n-9999\r\n]";
    let packet = Some(Arc::new(Packet::chat(conv, from, Some(stored), 1, body)));
    let text = Event::now(HookEvent::MessageOffline { user: to, conv, seq: stored.seq, packet }, 1).json(7);
    assert!(!text.contains(['\n', '\r']), "{text:?}");
    let event: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&event["message"]["x"][1], &event["message"]["content"]), (&Value::from(-9999), &Value::from("a\nb")));
}

#[test]
fn events_are_told_in_their_order_and_signed() {
    let (endpoint, url) = listener();
    let (hooks, telling, counts, _folder) = start(&[&url], &["127.0.0.0/8"], 1);
    (1..=250).for_each(|user| hooks.tell(registered(user)));
    let mut users = Vec::new();
    let mut ids = std::collections::BTreeSet::new();
    while users.len() < 250 {
        let told = take(&endpoint, "204 No Content");
        assert!(told.signed && told.events.len() <= limits::HOOK_BATCH_MAX);
        for event in told.events {
            assert_eq!(event["kind"], "user.registered");
            ids.insert(event["id"].to_string());
            users.push(event["user"].as_u64().expect("a user"));
        }
    }
    assert_eq!(users, (1..=250).collect::<Vec<u64>>());
    assert_eq!(ids.len(), 250, "each has an id of its own");
    until(|| counts.hooks() == [250, 0, 0] && counts.hook_queue() == 0);
    telling.stop(PATIENCE);
}

#[test]
fn what_is_not_taken_is_told_again_as_the_same() {
    let (endpoint, url) = listener();
    let (hooks, telling, counts, _folder) = start(&[&url], &["127.0.0.1"], 2);
    hooks.tell(registered(1));
    let first = take(&endpoint, "500 Internal Server Error");
    let second = take(&endpoint, "302 Found");
    // A connection that ends without an answer.
    drop(endpoint.accept().expect("a third try"));
    let last = take(&endpoint, "200 OK");
    assert!(last.signed && first.id == second.id && second.id == last.id && first.events == last.events);
    until(|| counts.hooks() == [1, 0, 0]);
    assert_eq!(counts.hook_failures(), 3);
    telling.stop(PATIENCE);
}

#[test]
fn an_endpoint_that_is_down_costs_nothing_but_itself() {
    // It takes connections and says nothing.
    let (silent, silent_url) = listener();
    let (good, good_url) = listener();
    let (hooks, telling, counts, _folder) = start(&[&silent_url, &good_url], &["127.0.0.1"], 60_000);
    hooks.tell(registered(1));
    let _held = silent.accept().expect("it is asked");
    assert_eq!(take(&good, "200 OK").events.len(), 1);
    until(|| counts.hook_queue() == 1);
    // Its queue runs full, and whoever tells does not wait.
    let more = limits::HOOK_EVENTS_MAX as u64 + 500;
    let taking = std::thread::spawn(move || {
        let mut taken = 0;
        while taken < more {
            taken += take(&good, "200 OK").events.len() as u64;
            // What was told above the queue's length may be lost, if telling is faster.
            if taken + 500 >= more {
                break;
            }
        }
    });
    let clock = Clock::start();
    for user in 2..more + 2 {
        hooks.tell(registered(user));
    }
    assert!(clock.now().mono_ms < 5_000, "telling is putting into queues");
    taking.join().expect("the good one was told");
    let [delivered, dead, full] = counts.hooks();
    assert!(delivered > 1 && dead == 0 && full >= 499, "{delivered} {dead} {full}");
    // Its first try still waits, and the log hears of them all at its end.
    assert!(hooks.queues[0].held.dropped.load(Ordering::Acquire) >= 499);
    telling.stop(Duration::from_millis(50));
}

#[test]
fn a_private_address_is_asked_only_if_the_operator_names_it() {
    let (endpoint, url) = listener();
    let by_name = url.replace("127.0.0.1", "localhost");
    let (hooks, telling, counts, _folder) = start(&[&url, &by_name], &["10.0.0.0/8"], 1);
    hooks.tell(registered(1));
    until(|| counts.hooks()[1] == 2);
    assert_eq!(counts.hook_failures(), 2 * u64::from(limits::HOOK_TRIES_MAX), "given up after all tries");
    endpoint.set_nonblocking(true).expect("a socket option");
    assert!(endpoint.accept().is_err(), "nobody came");
    telling.stop(PATIENCE);
}

#[test]
fn a_stop_tells_what_waits_once_and_ends() {
    let (endpoint, url) = listener();
    let (hooks, telling, counts, _folder) = start(&[&url], &["127.0.0.1"], 60_000);
    hooks.tell(registered(1));
    take(&endpoint, "503 Service Unavailable");
    hooks.tell(registered(2));
    let taking = std::thread::spawn(move || [take(&endpoint, "200 OK"), take(&endpoint, "200 OK")]);
    telling.stop(PATIENCE);
    let [first, second] = taking.join().expect("told");
    assert_eq!((&first.events[0]["user"], &second.events[0]["user"]), (&1.into(), &2.into()));
    assert_eq!(counts.hooks(), [2, 0, 0]);
}

#[test]
fn what_waits_at_a_stop_is_told_by_the_next_process_and_nothing_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let (endpoint, url) = listener();
    let (hooks, telling, counts) = start_in(folder.path(), &[&url], &["127.0.0.1"], 60_000);
    hooks.tell(registered(1));
    let taken = take(&endpoint, "200 OK");
    until(|| counts.hooks() == [1, 0, 0]);
    hooks.tell(registered(2));
    let refused = take(&endpoint, "503 Service Unavailable");
    for user in 3..=150 {
        hooks.tell(registered(user));
    }
    // One try more, which fails as well.
    let taking = std::thread::spawn(move || {
        take(&endpoint, "503 Service Unavailable");
        endpoint
    });
    telling.stop(PATIENCE);
    let endpoint = taking.join().expect("it was asked");
    assert_eq!(counts.hooks(), [1, 0, 0], "given up is nothing");

    let (_, telling, counts) = start_in(folder.path(), &[&url], &["127.0.0.1"], 60_000);
    assert_eq!(counts.hook_queue(), 149);
    let (mut users, mut first) = (Vec::new(), None);
    while users.len() < 149 {
        let told = take(&endpoint, "200 OK");
        assert!(told.signed);
        users.extend(told.events.iter().map(|event| event["user"].as_u64().expect("a user")));
        first.get_or_insert_with(|| told.events[0]["id"].clone());
    }
    assert_eq!(users, (2..=150).collect::<Vec<u64>>());
    assert_eq!(first, Some(refused.events[0]["id"].clone()), "as the same");
    assert_ne!(first, Some(taken.events[0]["id"].clone()));
    until(|| counts.hooks() == [149, 0, 0] && counts.hook_queue() == 0);
    telling.stop(PATIENCE);
    let (_, telling, counts) = start_in(folder.path(), &[&url], &["127.0.0.1"], 60_000);
    assert_eq!(counts.hook_queue(), 0);
    telling.stop(PATIENCE);
}

#[test]
fn messages_of_groups_wait_within_bounds() {
    let (_endpoint, url) = listener();
    let (hooks, telling, counts, _folder) = start(&[&url], &["127.0.0.1"], 60_000);
    let message = |seq| {
        let (group, seq) = (GroupId::new(5).expect("an id"), Seq::new(seq).expect("small"));
        GroupMessage { group, seq, packet: Arc::new(Packet::room("{}")) }
    };
    assert!(hooks.wants_group_messages());
    for seq in 0..limits::HOOK_GROUP_WAITING_MAX as u64 + 3 {
        hooks.group_stored(message(seq + 1));
    }
    assert_eq!(counts.hooks(), [0, 0, 3], "what finds no room is counted");
    let mut messages = hooks.group_messages().expect("it was not asked for yet");
    assert!(hooks.group_messages().is_none());
    let mut came = 0;
    while messages.try_next().is_some() {
        came += 1;
    }
    assert_eq!(came, limits::HOOK_GROUP_WAITING_MAX);
    telling.stop(PATIENCE);
}

#[test]
fn a_message_is_told_as_its_recipients_get_it() {
    let message = r#"{"cmd":11,"userid":7,"long":12345678901234567890123,"b":0.30000000000000004441,"a":1}"#;
    let (group, seq) = (GroupId::new(5).expect("an id"), Seq::new(9).expect("small"));
    let users = [UserId::new(8).expect("an id")].into();
    let event = HookEvent::GroupOffline { group, seq, users, more: false, packet: Arc::new(Packet::room(message)) };
    let told = Event::now(event, 1).json(2);
    assert!(told.contains(&format!("\"message\":{message},")), "{told}");
    let read: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((&read["group"], &read["users"][0], &read["message"]["userid"]), (&5.into(), &8.into(), &7.into()));
}

#[test]
fn without_endpoints_nothing_is_done() {
    let (hooks, telling, counts, _folder) = start(&[], &[], 1);
    hooks.tell(registered(1));
    assert!(!hooks.wants_messages() && counts.hook_queue() == 0);
    telling.stop(Duration::ZERO);
}
