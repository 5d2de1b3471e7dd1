//! What the server of the bus refuses a gateway, and what is said of it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use imgate::node::Tuning;
use rustix::process::Signal;
use serde_json::Value;

use crate::cluster::{ALONE, SECRET, await_metric, hears, readyz};
use crate::mariadb::Server;
use crate::nats::Nats;
use crate::process::Process;
use crate::support::{Gateway, PATIENCE, exchange};

/// Long enough for a dozen attempts to connect.
const SECONDS_OF_ATTEMPTS: Duration = Duration::from_secs(4);

/// The binary as one gateway of a cluster.
fn gateway(store: &str, bus: &str, node: &str, authority: Option<&Path>, data: &Path) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
    settings(&mut command, store, bus, node);
    if let Some(authority) = authority {
        command.env("SSL_CERT_FILE", authority).env_remove("SSL_CERT_DIR");
    }
    Process::launch(command, data)
}

fn settings(command: &mut Command, store: &str, bus: &str, node: &str) {
    let settings = [("STORE", store), ("CLUSTER", bus), ("NODE", node), ("SECRET", SECRET)];
    command.envs(settings.map(|(key, value)| (format!("IMGATE_{key}"), value)));
}

/// What `imgate doctor` says of the bus: how grave, and what it found.
fn doctor(store: &str, bus: &str, node: &str, data: &Path) -> (String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
    settings(&mut command, store, bus, node);
    command.args(["doctor", "--json", "--target-connections", "1", "--data"]).arg(data);
    let output = command.output().expect("the command runs");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let findings = report["findings"].as_array().expect("findings");
    let finding = findings.iter().find(|finding| finding["what"] == "cluster").expect("it is looked at");
    let text = |key: &str| finding[key].as_str().expect("a text").to_owned();
    (text("severity"), text("found"))
}

/// A number of a process's page of metrics.
fn metric(admin: SocketAddr, name: &str) -> Option<f64> {
    let page = exchange(admin, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

fn await_number(admin: SocketAddr, name: &str, wanted: f64) {
    let until = Instant::now() + PATIENCE;
    while metric(admin, name) != Some(wanted) {
        assert!(Instant::now() < until, "{name} is {:?}", metric(admin, name));
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// The second gateway may not hear what is for it alone, and no message may be long.
#[test]
fn what_the_account_may_not_do_is_counted_and_said() {
    let files = tempfile::tempdir().expect("a temporary directory");
    let config = files.path().join("nats.conf");
    let rules = r#"
        max_payload: 8192
        authorization { users: [
            { user: one, password: p, permissions: { publish: "im.>", subscribe: "im.>" } }
            { user: two, password: p, permissions: { publish: "im.>", subscribe: { allow: "im.>", deny: "im.imgate.1.n.2" } } }
        ] }
    "#;
    std::fs::write(&config, rules).expect("room");
    let (Some(server), Some(nats)) = (Server::shared(), Nats::configured(config)) else { return };
    let store = server.url(&server.database());
    let buses = ["one:p", "two:p"].map(|who| nats.url_of("nats", who));
    let start = |node: &str, bus: &str, users: u64| {
        let settings = [("store", store.as_str()), ("node", node), ("cluster", bus), ("secret", SECRET)];
        Gateway::start_with(2, users, &settings, Tuning::default())
    };
    let all = [start("1", &buses[0], 2), start("2", &buses[1], 0)];
    for gateway in &all {
        await_metric(gateway, "imgate_nodes", |nodes| nodes == 2.0);
    }
    await_metric(&all[1], "imgate_bus_refused_total{reason=\"permission\"}", |times| times >= 1.0);
    await_metric(&all[1], "imgate_bus_up", |up| up == 0.0);
    let ready = readyz(&all[1]);
    assert!(ready.starts_with("HTTP/1.1 200") && ready.contains("may not subscribe to `im.NAME.1.n.NODE`"), "{ready}");
    assert!(readyz(&all[0]).ends_with("\r\n\r\nready\n"));
    assert_eq!(all[0].metric("imgate_bus_up"), 1.0, "its account may");

    // The promise is kept all the same.
    let (mut a, mut b) = (all[0].v2(1), all[1].v2(2));
    let long = "long ".repeat(4_000);
    for (cid, text) in [("c1", "short"), ("c2", &long)] {
        a.say_acked(10, 2, cid, text);
        hears(&mut b, 10, text, ALONE);
    }
    await_metric(&all[0], "imgate_bus_refused_total{reason=\"size\"}", |times| times >= 1.0);

    let well = doctor(&store, &buses[0], "1", files.path());
    assert_eq!(well, ("ok".to_owned(), "the bus takes messages and brings them".to_owned()));
    let (severity, found) = doctor(&store, &buses[1], "2", files.path());
    assert!(severity == "warning" && found.contains("Subscription to \"im.imgate.1.n.2\""), "{found}");
}

#[test]
fn a_wrong_password_is_a_line_of_the_log_and_not_a_flood() {
    let files = tempfile::tempdir().expect("a temporary directory");
    let config = files.path().join("nats.conf");
    std::fs::write(&config, "authorization { user: im, password: sesame }").expect("room");
    let (Some(server), Some(nats)) = (Server::shared(), Nats::configured(config)) else { return };
    let (store, bus) = (server.url(&server.database()), nats.url_of("nats", "im:wrong"));
    let process = gateway(&store, &bus, "1", None, &files.path().join("data"));
    let until = Instant::now() + SECONDS_OF_ATTEMPTS;
    while Instant::now() < until {
        assert_eq!(metric(process.admin, "imgate_bus_up"), Some(0.0));
        std::thread::park_timeout(Duration::from_millis(100));
    }
    process.signal(Signal::TERM);
    let mut lines = process.beginning.clone();
    lines.extend(process.lines_until("stopping"));
    let about = |words: &str| lines.iter().filter(|line| line.to_lowercase().contains(words)).count();
    assert!((1..=2).contains(&about("authorization violation")), "{lines:#?}");
    assert_eq!(about("the bus between gateways is away"), 1, "{lines:#?}");
    assert_eq!(about("wrong"), 0, "a password is never shown: {lines:#?}");
    let (severity, found) = doctor(&store, &bus, "1", files.path());
    assert!(severity == "warning" && found.contains("authorization violation"), "{found}");
}

#[test]
fn words_of_another_version_are_a_line_of_the_log() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let (Some(server), Some(nats)) = (Server::shared(), Nats::start()) else { return };
    let process = gateway(&server.url(&server.database()), &nats.url(), "1", None, data.path());
    await_number(process.admin, "imgate_bus_up", 1.0);
    let mut envelope = b"IMGB\xff".to_vec();
    envelope.resize(200, 0);
    nats.stranger().say("im.imgate.1.all", &envelope);
    process.says("another version of envelopes");
}

/// The block of docs/cluster.md that configures a nats-server, with files and a password of this test.
fn documented(folder: &Path) -> String {
    let page = include_str!("../../docs/cluster.md");
    let (_, block) = page.split_once("# /etc/nats/nats.conf\n").expect("an example");
    let (block, _) = block.split_once("```").expect("its end");
    let replaced = block.replace("/etc/nats", folder.to_str().expect("a name")).replace("PASSWORD", "sesame");
    assert!(replaced.contains("sesame") && replaced.contains("nats.key"), "{replaced}");
    replaced
}

#[test]
fn the_documented_bus_with_tls_accounts_and_permissions_links_gateways() {
    let files = tempfile::tempdir().expect("a temporary directory");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("names");
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a name");
    let [certificate, key, stranger] = ["nats.pem", "nats.key", "other.pem"].map(|name| files.path().join(name));
    std::fs::write(&certificate, made.cert.pem()).expect("room");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("room");
    std::fs::write(&stranger, other.cert.pem()).expect("room");
    let config = files.path().join("nats.conf");
    std::fs::write(&config, documented(files.path())).expect("room");
    let (Some(server), Some(nats)) = (Server::shared(), Nats::configured(config)) else { return };
    let (store, bus) = (server.url(&server.database()), nats.url_of("tls", "im:sesame"));
    let start = |node: &str, authority: &Path| gateway(&store, &bus, node, Some(authority), &files.path().join(node));
    let all = [start("1", &certificate), start("2", &certificate)];
    for process in &all {
        await_number(process.admin, "imgate_nodes", 2.0);
        await_number(process.admin, "imgate_bus_up", 1.0);
        for reason in ["permission", "size", "other"] {
            let name = format!("imgate_bus_refused_total{{reason=\"{reason}\"}}");
            assert_eq!(metric(process.admin, &name), Some(0.0), "{name}");
        }
    }
    let doubts = start("3", &stranger);
    let said = doubts.beginning.iter().find(|line| line.contains("lets this one in")).cloned();
    let line = said.unwrap_or_else(|| doubts.says("lets this one in"));
    assert!(line.to_lowercase().contains("certificate"), "with the reason: {line}");
    assert_eq!(metric(doubts.admin, "imgate_bus_up"), Some(0.0));
}
