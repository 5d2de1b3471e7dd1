//! Files in an object store that several gateways share, against moto's S3.

use std::io::Write;
use std::time::{Duration, Instant};

use imgate::auth::Issuer;
use imgate::doctor::{Machine, Severity, examine};
use imgate::node::{Node, Tuning};
use serde_json::{Value, json};

use crate::files::{Answer, answer, ask};
use crate::mariadb::Server;
use crate::s3::{ACCESS_KEY, S3, SECRET_KEY};
use crate::support::{Gateway, PATIENCE, config, connect, register};

/// A look for files that nothing holds comes every 15 s, and removes some at once.
const REMOVED: Duration = Duration::from_secs(60);
const SECRET: &str = "0101010101010101010101010101010101010101010101010101010101010101";

/// The settings of a bucket.
fn settings<'a>(endpoint: &'a str, secret: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("files", "s3://chat/a/b"),
        ("s3_endpoint", endpoint),
        ("s3_access_key", ACCESS_KEY),
        ("s3_secret_key", secret),
        ("secret", SECRET),
    ]
}

fn upload(gateway: &Gateway, token: &str, body: &[u8]) -> Answer {
    let mut stream = connect(gateway.address());
    let head = format!(
        "POST /api/v1/files HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("sent");
    // A refusal may come before all of it was sent.
    let _ = stream.write_all(body);
    answer(&mut stream)
}

/// The URL of a 201.
fn url(made: &Answer) -> String {
    assert_eq!(made.status(), 201, "{} {}", made.head, made.text());
    let file: Value = serde_json::from_slice(&made.body).expect("JSON");
    file["url"].as_str().expect("a URL").to_owned()
}

fn code(refused: &Answer) -> (u16, Value) {
    let body: Value = serde_json::from_slice(&refused.body).expect("JSON");
    (refused.status(), body["error"]["code"].clone())
}

fn wait(patience: Duration, is_so: impl Fn() -> bool) {
    let until = Instant::now() + patience;
    while !is_so() {
        assert!(Instant::now() < until, "it is not so");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// A counter with two labels.
fn counted(gateway: &Gateway, operation: &str, outcome: &str) -> f64 {
    gateway.metric(&format!("imgate_object_store_requests_total{{operation=\"{operation}\",outcome=\"{outcome}\"}}"))
}

#[test]
fn what_one_gateway_took_every_other_one_serves_until_nothing_holds_it() {
    let (Some(server), Some(s3)) = (Server::shared(), S3::start()) else { return };
    let (store, endpoint) = (server.url(&server.database()), s3.endpoint());
    let start = |node: &str| {
        let mut settings = settings(&endpoint, SECRET_KEY);
        settings.extend([("store", store.as_str()), ("node", node)]);
        Gateway::start_with(2, 0, &settings, Tuning::default())
    };
    let (one, other) = (start("1"), start("2"));
    let ((_, ann), (_, bob)) =
        (register(one.address(), "/register", "13800000001"), register(other.address(), "/register", "13800000002"));
    let body: Vec<u8> = (0..700_001).map(|n| (n % 251) as u8).collect();
    let url = url(&upload(&one, &ann, &body));
    assert_eq!(s3.objects(), 1);
    for gateway in [&one, &other] {
        let served = ask(gateway, &format!("GET {url}"));
        assert_eq!((served.status(), served.body == body), (200, true));
        let part = ask(gateway, &format!("GET {url}\r\nRange: bytes=262140-600000\r\n"));
        assert_eq!((part.status(), part.body == body[262_140..=600_000]), (206, true));
        assert!(part.has("Content-Range: bytes 262140-600000/700001"), "{}", part.head);
        assert_eq!(ask(gateway, &format!("GET {url}\r\nRange: bytes=700001-\r\n")).status(), 416);
        let head = ask(gateway, &format!("HEAD {url}"));
        assert!(head.status() == 200 && head.has("Content-Length: 700001") && head.body.is_empty(), "{}", head.head);
        let tag = url.trim_start_matches("/files/");
        assert_eq!(ask(gateway, &format!("GET {url}\r\nIf-None-Match: \"{tag}\"\r\n")).status(), 304);
    }
    // The same content by another user through the other gateway is the same object.
    assert_eq!(self::url(&upload(&other, &bob, &body)), url);
    assert_eq!(s3.objects(), 1);
    let ends = |gateway: &Gateway, token: &str| {
        let password = json!({"password": "secret"});
        let (status, answer) = crate::support::ask(gateway.address(), "POST", "/api/v1/me/delete", token, &password);
        assert_eq!(status / 100, 2, "{answer}");
    };
    ends(&one, &ann);
    assert_eq!(ask(&other, &format!("GET {url}")).status(), 200, "Bob has it");
    ends(&other, &bob);
    wait(REMOVED, || s3.objects() == 0);
    for gateway in [&one, &other] {
        assert_eq!(ask(gateway, &format!("GET {url}")).status(), 404);
    }
    // The file and its mark. They are gone a moment before the gateway hears so.
    wait(PATIENCE, || counted(&one, "delete", "done") + counted(&other, "delete", "done") >= 2.0);
}

#[test]
fn a_store_that_goes_away_costs_files_and_nothing_else_and_comes_back() {
    let Some(s3) = S3::start() else { return };
    let endpoint = s3.endpoint();
    let gateway = Gateway::start_with(2, 2, &settings(&endpoint, SECRET_KEY), Tuning::default());
    let token = gateway.token(1, Issuer::Own);
    let url = url(&upload(&gateway, &token, b"before the storm"));
    let served = || ask(&gateway, &format!("GET {url}"));
    assert_eq!((served().status(), gateway.metric("imgate_object_store_up")), (200, 1.0));
    s3.close();
    let away = served();
    assert!(away.status() == 503 && away.has("Retry-After: 2"), "{}", away.head);
    assert_eq!(code(&upload(&gateway, &token, b"meanwhile")), (503, "files_away".into()));
    // People chat on.
    let (mut one, mut other) = (gateway.v2(1), gateway.v2(2));
    one.say_acked(10, 2, "a", "no pictures today");
    assert_eq!(other.wait_for(10)["content"], "no pictures today");
    assert!(counted(&gateway, "get", "unreachable") >= 1.0 && gateway.metric("imgate_object_store_up") == 0.0);
    s3.open();
    wait(REMOVED, || gateway.metric("imgate_object_store_up") == 1.0);
    assert_eq!(served().status(), 200, "it was found by itself that the store is back");
    let later = self::url(&upload(&gateway, &token, b"meanwhile"));
    assert_eq!(gateway.metric("imgate_object_store_up"), 1.0);
    // One that takes a request and never answers is given up, and the others hear of it at once.
    s3.hang();
    let began = Instant::now();
    assert_eq!(served().status(), 503);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    one.say_acked(10, 2, "b", "still none");
    s3.work();
    wait(PATIENCE, || served().status() == 200);
    assert_eq!(ask(&gateway, &format!("GET {later}")).text(), "meanwhile");
    // What the outages have refused is not there; a mark or two may be on their way out.
    wait(REMOVED, || s3.objects() == 2);
}

#[test]
fn a_wrong_setting_keeps_a_gateway_from_starting_and_the_doctor_names_it() {
    let Some(s3) = S3::start() else { return };
    let data = tempfile::tempdir().expect("a temporary directory");
    let endpoint = s3.endpoint();
    let with = |key: &'static str, value: &'static str| {
        let mut all = settings(&endpoint, SECRET_KEY);
        all.retain(|(other, _)| *other != key);
        all.push((key, value));
        config(data.path(), 1, &all)
    };
    for (key, value, word, names) in [
        ("s3_secret_key", "not-the-secret", "SignatureDoesNotMatch", "s3_secret_key"),
        ("s3_access_key", "nobodys", "InvalidAccessKeyId", "s3_access_key"),
        ("files", "s3://elsewhere", "NoSuchBucket", "`files`"),
        ("s3_region", "eu-west-7", "AuthorizationQueryParametersError", "s3_region"),
    ] {
        let config = with(key, value);
        let Err(error) = Node::start(&config, Tuning::default()) else { panic!("{key} is wrong") };
        let text = format!("{error:#}");
        assert!(text.contains(word) && text.contains(names) && text.contains(&endpoint), "{text}");
        assert!(!text.contains("not-the-secret") && !text.contains(SECRET_KEY), "{text}");
        let report = examine(&Machine::this(), &config, None, 10);
        let finding = report.findings.iter().find(|finding| finding.what == "files").expect("it is looked at");
        assert!(finding.severity == Severity::Stops && finding.found.contains(word), "{finding:?}");
    }
    let report = examine(&Machine::this(), &with("s3_region", "us-east-1"), None, 10);
    let finding = report.findings.iter().find(|finding| finding.what == "files").expect("it is looked at");
    assert_eq!((finding.severity, s3.objects()), (Severity::Ok, 0), "{finding:?}");
}

#[test]
fn a_gateway_starts_without_its_store_and_uses_it_when_it_is_there() {
    let Some(s3) = S3::start() else { return };
    let endpoint = s3.endpoint();
    s3.close();
    let gateway = Gateway::start_with(1, 1, &settings(&endpoint, SECRET_KEY), Tuning::default());
    let token = gateway.token(1, Issuer::Own);
    assert_eq!(code(&upload(&gateway, &token, b"too early")), (503, "files_away".into()));
    let report = examine(&Machine::this(), &config(gateway.data(), 1, &settings(&endpoint, SECRET_KEY)), None, 10);
    let finding = report.findings.iter().find(|finding| finding.what == "files").expect("it is looked at");
    assert_eq!(finding.severity, Severity::Warning, "{finding:?}");
    s3.open();
    wait(PATIENCE, || upload(&gateway, &token, b"in time").status() == 201);
    // A gateway without the setting has nothing of it.
    let plain = Gateway::start(1, 1);
    let page =
        crate::support::exchange(plain.admin(), b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(page.contains("imgate_uploads ") && !page.contains("imgate_object_store"));
}

#[test]
fn a_store_over_tls_is_believed_if_its_authority_is() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let [certificate, key, secret] = ["cert.pem", "key.pem", "s3-secret"].map(|name| data.path().join(name));
    std::fs::write(&certificate, made.cert.pem()).expect("room");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("room");
    std::fs::write(&secret, format!("{SECRET_KEY}\n")).expect("room");
    let Some(s3) = S3::start_tls(&certificate, &key) else { return };
    let doctor = |authorities: Option<&std::path::Path>| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_imgate"));
        command.args(["doctor", "--json", "--target-connections", "1", "--files", "s3://chat/a", "--s3-endpoint"]);
        command.arg(s3.endpoint()).arg("--data").arg(data.path().join("data"));
        command.env("IMGATE_S3_ACCESS_KEY", ACCESS_KEY).env("IMGATE_S3_SECRET_KEY_FILE", &secret);
        authorities.map(|file| command.env("SSL_CERT_FILE", file));
        let output = command.output().expect("the command runs");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        let findings = report["findings"].as_array().expect("findings").clone();
        findings.into_iter().find(|finding| finding["what"] == "files").expect("it is looked at")
    };
    let believed = doctor(Some(&certificate));
    assert_eq!(believed["severity"], "ok", "{believed}");
    let doubted = doctor(None);
    assert_eq!(doubted["severity"], "warning", "{doubted}");
    assert!(doubted["found"].as_str().is_some_and(|found| found.contains("ertificate")), "{doubted}");
}
