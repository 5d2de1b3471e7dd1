//! Several gateways on one MariaDB that tell each other over NATS what they store.

use std::time::{Duration, Instant};

use imgate::node::{Node, Tuning};
use imgate::wire::CloseCode;
use serde_json::{Value, json};

use crate::autoclient;
use crate::backends::key;
use crate::mariadb::Server;
use crate::nats::Nats;
use crate::presence::told;
use crate::room::settled;
use crate::support::{Client, Gateway, PATIENCE, ask, config, exchange, post, register};
use crate::webhooks::{self, Endpoint};

/// What a message of another gateway may take with a bus, on a machine that compiles meanwhile.
const AT_ONCE: Duration = Duration::from_secs(2);
/// What it may take without one.
pub(crate) const ALONE: Duration = Duration::from_secs(10);
/// The same secret for all.
pub(crate) const SECRET: &str = "0101010101010101010101010101010101010101010101010101010101010101";

/// `count` gateways on a fresh database with `users` users.
fn gateways(server: &Server, nats: &Nats, count: usize, users: u64) -> Vec<Gateway> {
    gateways_with(server, nats, count, users, &[])
}

fn gateways_with(server: &Server, nats: &Nats, count: usize, users: u64, more: &[(&str, &str)]) -> Vec<Gateway> {
    let (url, bus) = (server.url(&server.database()), nats.url());
    let start = |node: usize| {
        let number = node.to_string();
        let mut settings =
            vec![("store", url.as_str()), ("node", number.as_str()), ("cluster", bus.as_str()), ("secret", SECRET)];
        settings.extend(more);
        let users = if node == 1 { users } else { 0 };
        Gateway::start_with(2, users, &settings, Tuning::default())
    };
    let gateways: Vec<Gateway> = (1..=count).map(start).collect();
    for gateway in &gateways {
        await_metric(gateway, "imgate_nodes", |nodes| nodes == count as f64);
        await_metric(gateway, "imgate_bus_up", |up| up == 1.0);
    }
    gateways
}

pub(crate) fn await_metric(gateway: &Gateway, name: &str, fits: impl Fn(f64) -> bool) -> f64 {
    let until = Instant::now() + PATIENCE;
    loop {
        let value = gateway.metric(name);
        if fits(value) {
            return value;
        }
        assert!(Instant::now() < until, "{name} is {value}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

pub(crate) fn readyz(gateway: &Gateway) -> String {
    exchange(gateway.admin(), b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
}

/// The next message of a client, and how long it took.
pub(crate) fn hears(client: &mut Client, kind: u64, content: &str, within: Duration) -> Duration {
    let began = Instant::now();
    let message: Value = client.wait_for(kind);
    let took = began.elapsed();
    assert_eq!(message["content"], content, "{message}");
    assert!(took < within, "{content} took {took:?}");
    took
}

#[test]
fn what_one_gateway_stores_is_heard_at_once_on_the_others() {
    let (Some(server), Some(nats)) = (Server::shared(), Nats::start()) else { return };
    let all = gateways(server, &nats, 3, 4);
    let group = all[0].group(1, &[2, 3]);
    let (mut a, mut b, mut c) = (all[0].v2(1), all[1].v2(2), all[2].v2(3));
    let mut longest = Duration::ZERO;
    for n in 0..20 {
        a.say_acked(10, 2, &format!("a{n}"), &format!("to you {n}"));
        longest = longest.max(hears(&mut b, 10, &format!("to you {n}"), AT_ONCE));
        b.say_acked(11, group, &format!("b{n}"), &format!("to all {n}"));
        longest = longest.max(hears(&mut a, 11, &format!("to all {n}"), AT_ONCE));
        longest = longest.max(hears(&mut c, 11, &format!("to all {n}"), AT_ONCE));
    }
    println!("the longest took {longest:?}");
    assert_eq!(all[1].history(2, 10, 1).len(), 20);
    // A device of the author elsewhere hears of it as well, after what was said a moment ago.
    let mut other = all[2].v2(1);
    a.say_acked(10, 2, "own", "from my other one");
    while other.wait_for(10)["content"] != "from my other one" {}
    let rows: f64 = all.iter().map(|gateway| gateway.metric("imgate_far_rows_total")).sum();
    assert!(rows >= 60.0, "{rows} rows were handed on as they came");
}

#[test]
fn a_load_test_with_several_targets_measures_what_passes_between_them() {
    let Some(program) = autoclient::program() else { return };
    let (Some(server), Some(nats)) = (Server::shared(), Nats::start()) else { return };
    let gateways = gateways(server, &nats, 2, 4);
    let targets = format!("{},{}", gateways[0].address(), gateways[1].address());
    let (code, report, said) = autoclient::run_at(&program, &gateways[0], &targets, &[]);
    assert_eq!(code, Some(0), "{said} {report}");
    assert_eq!((report["delivered"].as_u64(), report["lost"].as_u64()), (Some(80), Some(0)), "{report}");
    // Each pair is on two gateways, so each message has crossed.
    let crossed: f64 = gateways.iter().map(|gateway| gateway.metric("imgate_bus_rows_total{direction=\"in\"}")).sum();
    assert!(crossed >= 80.0, "{crossed}");
}

#[test]
fn authors_on_two_gateways_are_in_one_order_on_both() {
    const EACH: usize = 60;
    let (Some(server), Some(nats)) = (Server::shared(), Nats::start()) else { return };
    let all = gateways(server, &nats, 2, 4);
    let group = all[0].group(1, &[2, 3, 4]);
    let mut readers = [all[0].v2(3), all[1].v2(4)];
    std::thread::scope(|scope| {
        for (user, gateway) in (1..).zip(&all) {
            scope.spawn(move || {
                let mut client = gateway.v2(user);
                for n in 0..EACH {
                    let content = format!("{user}-{n}");
                    client.say_acked(11, group, &content, &content);
                }
            });
        }
        for reader in &mut readers {
            for n in 1..=2 * EACH {
                assert_eq!(reader.wait_for(11)["seq"], n, "each message once, in the order of the database");
            }
        }
    });
    let [reads, rows] = ["imgate_gap_reads_total", "imgate_far_rows_total"]
        .map(|name| all.iter().map(|gateway| gateway.metric(name)).sum::<f64>());
    println!("{reads} gap reads for {rows} rows of the other gateway");
    assert!(rows > 0.0);
}

#[test]
fn a_bus_that_goes_and_comes_costs_no_message_and_no_connection() {
    let (Some(server), Some(mut nats)) = (Server::shared(), Nats::start()) else { return };
    let all = gateways(server, &nats, 2, 3);
    let (mut a, mut b) = (all[0].v2(1), all[1].v2(2));
    a.say_acked(10, 2, "c0", "with the bus");
    hears(&mut b, 10, "with the bus", AT_ONCE);

    nats.kill();
    for gateway in &all {
        await_metric(gateway, "imgate_bus_up", |up| up == 0.0);
        let ready = readyz(gateway);
        assert!(ready.starts_with("HTTP/1.1 200") && ready.contains("degraded: the bus"), "{ready}");
    }
    for n in 1..4 {
        a.say_acked(10, 2, &format!("c{n}"), &format!("without it {n}"));
        let took = hears(&mut b, 10, &format!("without it {n}"), ALONE);
        println!("without the bus: {took:?}");
        b.say_acked(10, 1, &format!("d{n}"), &format!("and back {n}"));
        hears(&mut a, 10, &format!("and back {n}"), ALONE);
    }

    nats.start_again();
    for gateway in &all {
        await_metric(gateway, "imgate_bus_up", |up| up == 1.0);
        await_metric(gateway, "imgate_nodes", |nodes| nodes == 2.0);
    }
    for n in 4..8 {
        a.say_acked(10, 2, &format!("c{n}"), &format!("with it again {n}"));
        hears(&mut b, 10, &format!("with it again {n}"), AT_ONCE);
    }
    // Each of them once, on the same connections.
    assert_eq!(all[0].history(1, 10, 2).len(), 11);
    let ready = readyz(&all[0]);
    assert!(ready.ends_with("\r\n\r\nready\n"), "{ready}");
    for gateway in &all {
        assert_eq!(gateway.metric("imgate_sessions"), 1.0);
        assert_eq!(gateway.metric("imgate_sessions_opened_total"), 1.0);
    }
}

#[test]
fn a_connection_that_stands_and_brings_nothing_is_made_anew() {
    let (Some(server), Some(nats)) = (Server::shared(), Nats::start()) else { return };
    let (store, direct, relay) = (server.url(&server.database()), nats.url(), nats.relay());
    let start = |node: &str, bus: &str, users: u64| {
        let settings = [("store", store.as_str()), ("node", node), ("cluster", bus), ("secret", SECRET)];
        Gateway::start_with(2, users, &settings, Tuning::default())
    };
    let all = [start("1", &direct, 2), start("2", &relay.url(), 0)];
    for gateway in &all {
        await_metric(gateway, "imgate_nodes", |nodes| nodes == 2.0);
    }
    let (mut a, mut b) = (all[0].v2(1), all[1].v2(2));
    a.say_acked(10, 2, "c1", "before");
    hears(&mut b, 10, "before", AT_ONCE);
    // Some of its own words have come back to it: it knows that it can hear.
    let mut stranger = nats.stranger();
    for subject in ["im.imgate.1.n.2", "im.imgate.1.probe.2"].iter().cycle().take(10) {
        while stranger.hear().0 != *subject {}
    }
    relay.deafen();
    a.say_acked(10, 2, "c2", "meanwhile");
    hears(&mut b, 10, "meanwhile", ALONE);
    await_metric(&all[1], "imgate_bus_renewed_total", |times| times >= 1.0);
    await_metric(&all[1], "imgate_bus_up", |up| up == 1.0);
    a.say_acked(10, 2, "c3", "after");
    hears(&mut b, 10, "after", AT_ONCE);
    assert_eq!(all[0].metric("imgate_bus_renewed_total"), 0.0, "the other one has always heard");
    assert!(!readyz(&all[1]).contains("degraded"));
    // Where that does not help it counts as a bus that is away.
    relay.deafen_all(true);
    await_metric(&all[1], "imgate_bus_up", |up| up == 0.0);
    assert!(readyz(&all[1]).contains("degraded"));
    a.say_acked(10, 2, "c4", "all the same");
    hears(&mut b, 10, "all the same", ALONE);
    relay.deafen_all(false);
    await_metric(&all[1], "imgate_bus_up", |up| up == 1.0);
}

#[test]
fn nobody_without_the_key_speaks_on_the_bus() {
    let (Some(server), Some(nats)) = (Server::shared(), Nats::start()) else { return };
    let all = gateways(server, &nats, 2, 3);
    let (mut a, mut b) = (all[0].v2(1), all[1].v2(2));
    let mut stranger = nats.stranger();
    a.say_acked(10, 2, "c1", "sealed");
    hears(&mut b, 10, "sealed", AT_ONCE);
    let (subject, envelope) = loop {
        let (subject, bytes) = stranger.hear();
        if bytes.windows(6).any(|six| six == b"sealed") {
            break (subject, bytes);
        }
    };
    // To the other one alone, if it had just said that the reader has come.
    assert!(["im.imgate.1.all", "im.imgate.1.n.2"].contains(&subject.as_str()), "{subject}");
    let dropped =
        |gateway: &Gateway, reason: &str| gateway.metric(&format!("imgate_bus_dropped_total{{reason=\"{reason}\"}}"));
    // What was said is no news, whoever says it again.
    stranger.say(&subject, &envelope);
    // Another text under the old tag, another version, and what is nothing at all.
    let mut forged = envelope.clone();
    let at = forged.windows(6).position(|six| six == b"sealed").expect("it is there");
    forged[at..at + 6].copy_from_slice(b"forged");
    stranger.say(&subject, &forged);
    let mut newer = envelope;
    newer[4] = 9;
    stranger.say(&subject, &newer);
    stranger.say(&subject, b"nothing");
    stranger.say(&subject, b"");
    for (reason, times) in [("key", 1.0), ("version", 1.0), ("damaged", 2.0), ("stale", 1.0)] {
        let until = Instant::now() + PATIENCE;
        while dropped(&all[1], reason) < times {
            assert!(Instant::now() < until, "{reason}: {}", dropped(&all[1], reason));
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
    a.say_acked(10, 2, "c2", "after that");
    hears(&mut b, 10, "after that", AT_ONCE);
    assert_eq!(all[1].metric("imgate_sessions_opened_total"), 1.0);
}

#[test]
fn a_message_goes_to_the_gateway_of_its_reader_and_is_believed_on_no_other_way() {
    const EACH: usize = 20;
    let (Some(server), Some(nats)) = (Server::shared(), Nats::start()) else { return };
    let all = gateways(server, &nats, 4, 5);
    let (mut a, mut b, mut c) = (all[0].v2(1), all[1].v2(2), all[2].v2(3));
    let group = all[0].group(1, &[2]);
    for gateway in &all {
        await_metric(gateway, "imgate_users_elsewhere", |users| users >= 2.0);
    }
    // The first messages of the group go to all, until those without a member have said so.
    let to = |to: &str| all[0].metric(&format!("imgate_bus_addressed_total{{to=\"{to}\"}}"));
    let (mut n, mut alone) = (0, 0);
    while alone < 3 {
        let before = (to("all"), to("all") + to("node"));
        a.say_acked(11, group, &format!("f{n}"), &format!("who is there? {n}"));
        hears(&mut b, 11, &format!("who is there? {n}"), AT_ONCE);
        let until = Instant::now() + PATIENCE;
        while to("all") + to("node") <= before.1 {
            assert!(Instant::now() < until, "it was not counted");
            std::thread::park_timeout(Duration::from_millis(20));
        }
        alone = if to("all") == before.0 { alone + 1 } else { 0 };
        n += 1;
        assert!(n < 100, "nobody has said that no member is there");
    }
    let before = to("all");
    let mut stranger = nats.stranger();
    for n in 0..EACH {
        a.say_acked(10, 2, &format!("a{n}"), &format!("sealed {n}"));
        hears(&mut b, 10, &format!("sealed {n}"), AT_ONCE);
        a.say_acked(11, group, &format!("g{n}"), &format!("to the group {n}"));
        hears(&mut b, 11, &format!("to the group {n}"), AT_ONCE);
        // Both on one gateway: nothing is said at all.
        a.say_acked(10, 1, &format!("n{n}"), "a note");
    }
    for (way, times) in [("node", 2 * EACH), ("none", EACH)] {
        await_metric(&all[0], &format!("imgate_bus_addressed_total{{to=\"{way}\"}}"), |count| count >= times as f64);
    }
    assert_eq!(to("all"), before, "nothing of it has gone to all");
    let (subject, envelope) = loop {
        let (subject, bytes) = stranger.hear();
        if bytes.windows(6).any(|six| six == b"sealed") {
            break (subject, bytes);
        }
    };
    assert_eq!(subject, "im.imgate.1.n.2");
    // Said again to another one, to all, and as it was.
    for subject in ["im.imgate.1.n.3", "im.imgate.1.all", "im.imgate.1.n.2"] {
        stranger.say(subject, &envelope);
    }
    for (gateway, times) in [(&all[1], 2.0), (&all[2], 2.0)] {
        await_metric(gateway, "imgate_bus_dropped_total{reason=\"stale\"}", |stale| stale >= times);
    }
    // Somebody of the group comes where nobody was, and hears at once.
    all[0].join(3, group);
    all[0].join(4, group);
    let mut d = all[3].v2(4);
    a.say_acked(11, group, "w", "who has come?");
    a.say_acked(11, group, "h", "you have");
    for client in [&mut c, &mut d] {
        while client.wait_for(11)["content"] != "you have" {}
    }
    assert_eq!(b.wait_for(11)["content"], "who has come?");
}

#[test]
fn who_joins_through_one_gateway_hears_on_another() {
    let (Some(server), Some(nats)) = (Server::shared(), Nats::start()) else { return };
    let all = gateways(server, &nats, 2, 3);
    let group = all[0].group(1, &[]);
    let (mut a, mut b) = (all[0].v2(1), all[1].v2(2));
    all[0].join(2, group);
    // Said before the gateway of the new member knows: it comes all the same.
    a.say_acked(11, group, "c1", "welcome");
    hears(&mut b, 11, "welcome", ALONE);
    a.say_acked(11, group, "c2", "and now at once");
    hears(&mut b, 11, "and now at once", AT_ONCE);
}

#[test]
fn a_second_gateway_with_the_number_of_one_that_lives_does_not_start() {
    let (Some(server), Some(nats)) = (Server::shared(), Nats::start()) else { return };
    let (url, bus) = (server.url(&server.database()), nats.url());
    let settings = [("store", url.as_str()), ("node", "3"), ("cluster", bus.as_str()), ("secret", SECRET)];
    let first = Gateway::start_with(2, 2, &settings, Tuning::default());
    let data = tempfile::tempdir().expect("a directory");
    let second = config(data.path(), 2, &settings);
    let began = Instant::now();
    let error = Node::start(&second, Tuning::default()).err().expect("it does not start");
    let text = format!("{error:#}");
    println!("refused after {:?}: {text}", began.elapsed());
    assert!(text.contains("another gateway of the cluster `imgate` runs with the setting `node = 3`"), "{text}");
    // The first one has noticed nothing but that.
    assert!(first.metric("imgate_bus_dropped_total{reason=\"twin\"}") >= 1.0);
    let (mut a, mut b) = (first.v2(1), first.v2(2));
    a.say_acked(10, 2, "c1", "still here");
    hears(&mut b, 10, "still here", AT_ONCE);
    // When it is gone its number is free.
    drop((a, b));
    drop(first);
    let next = Node::start(&second, Tuning::default()).expect("it starts");
    next.stop();
}

#[test]
fn gateways_of_two_secrets_understand_each_other_while_one_is_replaced() {
    let (Some(server), Some(nats)) = (Server::shared(), Nats::start()) else { return };
    let (url, bus) = (server.url(&server.database()), nats.url());
    let new = SECRET.replace('1', "2");
    let start = |node: &str, users: u64, (secret, fallback): (&str, &str)| {
        let settings = [("store", url.as_str()), ("node", node), ("cluster", bus.as_str()), ("secret", secret)];
        let settings = [&settings[..], &[("secret_fallback", fallback)]].concat();
        Gateway::start_with(2, users, &settings, Tuning::default())
    };
    // The second step: one gateway signs with the new secret already, the other one not yet.
    let all = [start("1", 2, (SECRET, &new)), start("2", 0, (&new, SECRET))];
    for gateway in &all {
        await_metric(gateway, "imgate_nodes", |nodes| nodes == 2.0);
    }
    let (ann, old) = register(all[0].address(), "/user/register", "13800000001");
    let again = post(all[1].address(), "/user/login", "", "mobile=13800000001&passwd=secret");
    let fresh = again["data"]["token"].as_str().unwrap_or_else(|| panic!("a token: {again}")).to_owned();
    // Each token opens sessions on each gateway, and these hear each other at once.
    let mut sessions = [0, 1].map(|at: usize| [&old, &fresh].map(|token| Client::v2(all[at].address(), token)));
    let mut b = all[0].v2(2);
    b.say_acked(10, ann, "c1", "to all of them");
    for client in sessions.iter_mut().flatten() {
        hears(client, 10, "to all of them", AT_ONCE);
    }
    for gateway in &all {
        assert_eq!(gateway.metric("imgate_bus_dropped_total{reason=\"key\"}"), 0.0);
    }
    drop((sessions, b));
    let [first, second] = all;
    drop(first);
    drop(second);
    // Without the old one its tokens are void.
    let settings = [("store", url.as_str()), ("secret", new.as_str())];
    let last = Gateway::start_with(2, 0, &settings, Tuning::default());
    assert_eq!(Client::v2_at_once(last.address(), &old).close_code(), Some(CloseCode::BadToken.code()));
    let mut stays = Client::v2(last.address(), &fresh);
    stays.say_acked(10, 2, "c2", "still logged in");
}

/// Waits for a word of that command, and for how long.
fn is_told(client: &mut Client, word: &Value) {
    let began = Instant::now();
    let cmd = word["cmd"].as_u64().expect("a command");
    while client.wait_for(cmd) != *word {}
    let took = began.elapsed();
    assert!(took < AT_ONCE, "{word} took {took:?}");
}

#[test]
fn typing_what_was_read_and_hints_are_told_on_other_gateways() {
    let (Some(server), Some(nats)) = (Server::shared(), Nats::start()) else { return };
    let all = gateways(server, &nats, 2, 4);
    let group = all[0].group(1, &[2]);
    let (mut a, mut b) = (all[0].v2(1), all[1].v2(2));
    let mut other = all[0].v2(2);
    // The gateways have told each other nothing yet of the group; a message finds its members.
    a.say_acked(11, group, "c1", "hello");
    hears(&mut b, 11, "hello", AT_ONCE);
    a.say_acked(10, 2, "c2", "hello you");
    hears(&mut b, 10, "hello you", AT_ONCE);

    a.send(&json!({"cmd": 6, "kind": 11, "dstid": group}));
    is_told(&mut b, &json!({"cmd": 6, "kind": 11, "dstid": group, "userid": 1}));
    a.send(&json!({"cmd": 6, "kind": 10, "dstid": 2}));
    is_told(&mut b, &json!({"cmd": 6, "kind": 10, "dstid": 1, "userid": 1}));

    // To the author, and to the reader's other device.
    b.send(&json!({"cmd": 3, "kind": 10, "dstid": 1, "recv": 1, "read": 1}));
    is_told(&mut a, &json!({"cmd": 3, "kind": 10, "dstid": 2, "userid": 2, "recv": 1, "read": 1}));
    is_told(&mut other, &json!({"cmd": 3, "kind": 10, "dstid": 1, "userid": 2, "recv": 1, "read": 1}));

    // Something about the groups of 3, changed through another gateway.
    let mut c = all[1].v2(3);
    all[0].join(3, group);
    is_told(&mut c, &json!({"cmd": 9, "what": "groups", "id": group}));
    assert_eq!(all[0].metric("imgate_bus_words_dropped_total"), 0.0);
}

/// Both gateways tell one endpoint: what several of them know of one message is told by one.
#[test]
fn a_message_to_who_is_away_is_told_once_by_all_gateways() {
    let (Some(server), Some(nats)) = (Server::shared(), Nats::start()) else { return };
    let mut endpoint = Endpoint::start();
    let url = endpoint.url();
    let settings = [
        ("webhook_url", url.as_str()),
        ("webhook_secret", webhooks::SECRET),
        ("webhook_networks", "127.0.0.1"),
        ("webhook_events", "message.offline"),
    ];
    let all = gateways_with(server, &nats, 2, 3, &settings);
    let (mut one, mut other) = (all[0].v2(1), all[1].v2(1));
    for n in 1..=20 {
        one.say_acked(10, 2, &format!("c{n}"), &format!("{n}"));
        while other.wait_for(10)["content"] != json!(n.to_string()) {}
    }
    // What the other gateway has stored comes behind whatever it would have told of those.
    other.say_acked(10, 3, "last", "the last one");
    let mut seqs: Vec<(u64, u64)> = Vec::new();
    while seqs.len() < 21 {
        let event = endpoint.next();
        seqs.push((event["user"].as_u64().expect("a user"), event["seq"].as_u64().expect("a number")));
    }
    seqs.sort_unstable();
    let all_once: Vec<(u64, u64)> = (1..=20).map(|seq| (2, seq)).chain([(3, 1)]).collect();
    assert_eq!(seqs, all_once);
}

#[test]
fn who_is_online_is_known_on_every_gateway() {
    let (Some(server), Some(mut nats)) = (Server::shared(), Nats::start()) else { return };
    let all = gateways(server, &nats, 2, 4);
    let there = all[1].v2(3);
    await_metric(&all[0], "imgate_users_elsewhere", |users| users == 1.0);
    let mut a = all[0].v2(1);
    a.send(&json!({"cmd": 7, "users": [2, 3]}));
    told(&mut a, &[(2, false), (3, true)]);
    let here = all[0].v2(2);
    told(&mut a, &[(2, true)]);
    let elsewhere = all[1].v2(2);
    await_metric(&all[0], "imgate_users_elsewhere", |users| users == 2.0);
    here.close();
    elsewhere.close();
    told(&mut a, &[(2, false)]);

    // What changes while the bus is away is known when it is there again.
    nats.kill();
    await_metric(&all[1], "imgate_bus_up", |up| up == 0.0);
    there.close();
    let _again = all[1].v2(2);
    nats.start_again();
    let began = Instant::now();
    let mut wanted = std::collections::BTreeMap::from([(2, true), (3, false)]);
    while !wanted.is_empty() {
        for row in a.wait_for(7)["rows"].as_array().expect("rows") {
            let user = row["userid"].as_u64().expect("an id");
            assert_eq!(row["online"].as_bool(), wanted.remove(&user), "{row}");
        }
    }
    println!("after the bus was away: {:?}", began.elapsed());
}

#[test]
fn who_logs_out_on_one_gateway_is_logged_out_on_the_others_at_once() {
    let (Some(server), Some(nats)) = (Server::shared(), Nats::start()) else { return };
    let all = gateways(server, &nats, 2, 0);
    let (_, mut token) = register(all[0].address(), "/user/register", "13800000001");
    // Three times: without a word of the other gateway each takes 1.5 s as a rule.
    for _ in 0..3 {
        let mut session = Client::v2(all[1].address(), &token);
        let call = format!(
            "POST /api/v1/logout HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n"
        );
        let answer = exchange(all[0].address(), call.as_bytes());
        let began = Instant::now();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(session.close_code(), Some(CloseCode::BadToken.code()));
        let took = began.elapsed();
        println!("logged out after {took:?}");
        assert!(took < Duration::from_millis(900), "{took:?}");
        let again = post(all[0].address(), "/user/login", "", "mobile=13800000001&passwd=secret");
        token = again["data"]["token"].as_str().unwrap_or_else(|| panic!("a token: {again}")).to_owned();
    }
}

#[test]
fn devices_on_all_gateways_together_are_as_many_as_one_allows() {
    let (Some(server), Some(nats)) = (Server::shared(), Nats::start()) else { return };
    let all = gateways_with(server, &nats, 2, 2, &[("devices", "2")]);
    let mut first = all[0].v2(1);
    let mut second = all[1].v2(1);
    for gateway in &all {
        await_metric(gateway, "imgate_users_elsewhere", |users| users == 1.0);
    }
    let mut third = all[1].v2(1);
    let began = Instant::now();
    assert_eq!(first.close_code(), Some(CloseCode::Replaced.code()), "the oldest one goes");
    println!("replaced after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(3));
    let mut fourth = all[0].v2(1);
    assert_eq!(second.close_code(), Some(CloseCode::Replaced.code()));
    third.say_acked(10, 2, "c3", "still here");
    fourth.say_acked(10, 2, "c4", "and here");
}

#[test]
fn guests_of_all_gateways_are_in_one_room() {
    const EACH: usize = 40;
    let (Some(server), Some(nats)) = (Server::shared(), Nats::start()) else { return };
    let all = gateways(server, &nats, 3, 2);
    let mut guests: Vec<Client> = all.iter().enumerate().map(|(n, one)| settled(one, &format!("g{n}"))).collect();
    // Whoever is heard everywhere was heard by all that came before.
    guests[2].send_text("{\"token\":\"t\",\"content\":\"<all>\"}");
    let relayed = "{\"token\":\"t\",\"content\":\"\\u003call\\u003e\"}\n";
    let began = Instant::now();
    for guest in &mut guests {
        guest.wait_for_text(relayed);
    }
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    for n in 0..EACH {
        for (at, guest) in guests.iter_mut().enumerate() {
            guest.send_text(&format!("{{\"token\":\"{at}\",\"content\":\"{n}\"}}"));
        }
    }
    for guest in &mut guests {
        let mut next = [0; 3];
        while next.iter().sum::<usize>() < 3 * EACH {
            let said: Value = guest.json();
            let (author, number) = (said["token"].as_str(), said["content"].as_str());
            // Somebody's first word may come late.
            let Some(author) = author.and_then(|author| author.parse::<usize>().ok()) else { continue };
            assert_eq!(number, Some(next[author].to_string().as_str()), "once, and in its author's order");
            next[author] += 1;
        }
    }
    for gateway in &all {
        await_metric(gateway, "imgate_bus_said_total{direction=\"in\"}", |said| said >= 2.0 * EACH as f64);
        assert_eq!(gateway.metric("imgate_bus_said_dropped_total"), 0.0);
    }
    // Without the bus each room goes on for itself.
    drop(nats);
    for gateway in &all {
        await_metric(gateway, "imgate_bus_up", |up| up == 0.0);
    }
    guests[0].send_text("{\"token\":\"t\",\"content\":\"alone\"}");
    guests[0].wait_for_text("{\"token\":\"t\",\"content\":\"alone\"}\n");
    assert!(await_metric(&all[0], "imgate_bus_said_dropped_total", |dropped| dropped > 0.0) > 0.0);
}

#[test]
fn what_a_backend_says_and_ends_is_so_on_every_gateway() {
    let (Some(server), Some(nats)) = (Server::shared(), Nats::start()) else { return };
    let all = gateways(server, &nats, 2, 3);
    let (mut a, mut b) = (all[0].v2(1), all[1].v2(2));
    let (_, key) = key(&all[0], "all", "send,moderate", "&rate=10000");
    let call = |path: &str, json: Value| {
        let (status, answer) = ask(all[0].address(), "POST", &format!("/api/v1/server/{path}"), &key, &json);
        assert_eq!(status, 200, "{answer}");
    };
    let message = |to: Value, text: &str| json!({ "messages": [{ "to": to, "store": false, "message": { "media": 1, "content": text } }] });
    call("messages", message(json!({ "user": 2 }), "to you"));
    assert_eq!(b.wait_for(10)["content"], "to you");
    call("messages", message(json!({ "all": true }), "to all"));
    for client in [&mut a, &mut b] {
        assert_eq!(client.wait_for(10)["content"], "to all");
    }
    let began = Instant::now();
    call("users/2/disconnect", json!({}));
    assert_eq!(b.close_code(), Some(CloseCode::Shutdown.code()), "it may come back");
    println!("disconnected after {:?}", began.elapsed());
    let mut again = all[1].v2(2);
    a.say_acked(10, 2, "c1", "welcome back");
    hears(&mut again, 10, "welcome back", AT_ONCE);
    assert_eq!(all[0].metric("imgate_sessions"), 1.0, "others stay");
}
