//! A running gateway takes up another configuration, and says what it does not.

use std::process::Command;
use std::time::{Duration, Instant};

use imgate::auth::Issuer;
use imgate::node::Tuning;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::process::Process;
use crate::support::{Client, Gateway, V2, ask, connect, exchange, post, register};
use crate::tls::write_pair;

/// Comes well within the patience of a test at any pace but the slow ones here.
const SOON: Duration = Duration::from_secs(10);

fn await_paced(gateway: &Gateway, users: f64) {
    let until = Instant::now() + SOON;
    while gateway.metric("imgate_paced") != users {
        assert!(Instant::now() < until, "{} users wait, not {users}", gateway.metric("imgate_paced"));
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn a_user_who_waits_for_a_slow_pace_goes_on_when_it_is_raised() {
    let slow = [("user_messages", "1"), ("user_messages_burst", "10")];
    let mut gateway = Gateway::start_with(2, 2, &slow, Tuning::default());
    let mut client = gateway.v2(1);
    for n in 0..90 {
        client.say(10, 2, &n.to_string(), "x");
    }
    await_paced(&gateway, 1.0);
    let began = Instant::now();
    gateway.adjust(&[("user_messages", "0")]).expect("a good configuration");
    client.say_acked(10, 2, "after", "more than a minute too early");
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    await_paced(&gateway, 0.0);
    gateway.adjust(&[("user_messages_burst", "5")]).expect("a good configuration");
    let mut other = gateway.v2(2);
    for n in 0..30 {
        other.say(10, 1, &n.to_string(), "x");
    }
    await_paced(&gateway, 1.0);
}

fn connect_with_origin(gateway: &Gateway, origin: &str) -> bool {
    let token = gateway.token(1, Issuer::Own);
    let url = format!("ws://{}/chat?id=1", gateway.address());
    let cookie = format!("{}1={token}", gateway.cookie_prefix());
    Client::open(connect(gateway.address()), &url, &[("Cookie", &cookie), ("Origin", origin)]).is_ok()
}

#[test]
fn policies_of_the_gate_and_of_the_api_are_taken_up_by_what_runs() {
    let mut gateway = Gateway::start_with(2, 2, &[], Tuning::default());
    let page = "https://page.example";
    assert!(connect_with_origin(&gateway, &format!("http://{}", gateway.address())), "the gateway's own page");
    assert!(!connect_with_origin(&gateway, page), "a page of another origin");
    let mut phones: Vec<Client> = (0..2).map(|_| gateway.v2(1)).collect();
    register(gateway.address(), "/user/register", "13800000001");
    gateway
        .adjust(&[("registration", "closed"), ("upload_max", "1KiB"), ("devices", "1"), ("cors_origins", page)])
        .expect("a good configuration");
    let answer = post(gateway.address(), "/user/register", "", "mobile=13800000002&passwd=secret&nickname=n");
    assert_ne!(answer["code"], 0, "{answer}");
    let about = ask(gateway.address(), "GET", "/api/v1/config", "", &Value::Null).1;
    assert_eq!(about["max_upload"], 1024, "{about}");
    let head = format!("GET /api/v1/config HTTP/1.1\r\nHost: x\r\nOrigin: {page}\r\nConnection: close\r\n\r\n");
    let shared = exchange(gateway.address(), head.as_bytes()).to_ascii_lowercase();
    assert!(shared.contains(&format!("access-control-allow-origin: {page}")), "{shared}");
    let _newest = gateway.v2(1);
    for phone in &mut phones {
        assert_eq!(phone.closed(), 4502, "one device of a user");
    }
    gateway.adjust(&[("origins", page)]).expect("a good configuration");
    let until = Instant::now() + SOON;
    // A shard takes its orders in its next turn.
    while !connect_with_origin(&gateway, page) {
        assert!(Instant::now() < until, "the page's cookies do not count");
    }
    register(gateway.address(), "/user/register", "13800000002");
}

#[test]
fn the_operator_hears_what_became_of_a_reload() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let file = data.path().join("imgate.toml");
    std::fs::write(&file, "log = \"info\"\n").expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
    command.env("IMGATE_CONFIG", &file);
    let process = Process::launch(command, data.path());
    let reload = |text: &str| {
        std::fs::write(&file, text).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
        command.args(["reload", "--json", "--admin", &process.admin.to_string(), "--data"]).arg(data.path());
        let output = command.output().expect("the binary runs");
        let [out, error] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        (output.status.code(), out, error)
    };
    let (code, out, error) = reload("log = \"info\"\nregistration = \"closed\"\nstore_writers = 2\n");
    assert_eq!(code, Some(0), "{error}");
    let reloaded: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(reloaded, json!({ "in_force": ["registration"], "needs_restart": ["store_writers"], "read_again": [] }));
    let line = process.says("waits for a restart");
    assert!(line.contains("registration") && line.contains("store_writers"), "{line}");
    let closed = |mobile: &str| {
        let form = format!("mobile={mobile}&passwd=secret&nickname=n");
        post(process.address, "/user/register", "", &form)["code"] != 0
    };
    assert!(closed("13800000001"));
    // Of a file that is wrong in one place nothing is taken up, also not by a signal.
    let wrong = "registration = \"open\"\nuser_cost = \"much\"\n";
    let (code, _, error) = reload(wrong);
    assert_eq!(code, Some(1));
    assert!(error.contains("user_cost") && error.contains("stays as it is"), "{error}");
    // One line for each of the two, so that the second is not waited for with the first.
    process.says("the configuration stays as it is");
    process.signal(Signal::HUP);
    process.says("the configuration stays as it is");
    assert!(closed("13800000002"));
    let (_, out, _) = reload("log = \"info\"\nregistration = \"open\"\n");
    let reloaded: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(reloaded, json!({ "in_force": ["registration"], "needs_restart": [], "read_again": [] }));
    let (_, token) = register(process.address, "/user/register", "13800000003");
    let url = format!("ws://{}/chat?token={token}", process.address);
    assert!(Client::open(connect(process.address), &url, &[V2]).is_ok());
}

#[test]
fn files_that_a_reload_has_read_again_are_named() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let [keys, certificate, private] = ["jwt.secret", "one.pem", "one.key"].map(|name| data.path().join(name));
    std::fs::write(&keys, "the first secret of the other system, long enough\n").expect("a file");
    write_pair(data.path(), "one");
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
    command.env("IMGATE_JWT_KEYS", &keys).env("IMGATE_LISTEN_TLS", "127.0.0.1:0");
    command.env("IMGATE_TLS_CERT", &certificate).env("IMGATE_TLS_KEY", &private);
    let process = Process::launch(command, data.path());
    let reload = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
        command.args(["reload", "--admin", &process.admin.to_string(), "--data"]).arg(data.path());
        String::from_utf8(command.output().expect("the binary runs").stdout).expect("text")
    };
    let [keys_shown, certificate_shown] = [&keys, &certificate].map(|path| path.display().to_string());
    std::fs::write(&keys, "the second secret of the other system, long enough\n").expect("a file");
    let said = reload();
    assert!(said.contains(&format!("read again and in force: {keys_shown}, {certificate_shown}\n")), "{said}");
    // What is refused is not taken.
    std::fs::write(&private, "no key").expect("a file");
    let said = reload();
    assert!(said.contains(&format!("read again and in force: {keys_shown}\n")), "{said}");
}
