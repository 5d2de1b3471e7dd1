//! `imgate doctor` on this machine: exit codes, JSON, and that it leaves everything as it was.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::process::Process;
use crate::support::exchange;

fn doctor(data: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
    command.arg("doctor").arg("--data").arg(data).args(more);
    command.output().expect("the command runs")
}

fn findings(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn finding<'a>(report: &'a Value, what: &str) -> &'a Value {
    let all = report["findings"].as_array().expect("findings");
    all.iter().find(|finding| finding["what"] == what).unwrap_or_else(|| panic!("no {what}: {report}"))
}

#[test]
fn more_than_the_machine_has_is_told_by_the_exit_code() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let much = doctor(data.path(), &["--target-connections", "100000000", "--json"]);
    assert_eq!(much.status.code(), Some(4), "{much:?}");
    let report = findings(&much);
    assert_eq!(report["verdict"], "stops");
    assert_eq!(finding(&report, "max_connections")["wanted"], "100,000,000");
    let little = doctor(data.path(), &["--target-connections", "1", "--json"]);
    assert!(matches!(little.status.code(), Some(0 | 3)), "one connection is no question: {little:?}");
    let store = finding(&findings(&little), "store")["found"].as_str().expect("a text").to_owned();
    assert!(store.starts_with("SQLite 3."), "{store}");
    assert_eq!(std::fs::read_dir(data.path()).expect("a directory").count(), 0, "nothing is left behind");
}

#[test]
fn it_works_beside_a_gateway_and_says_what_acks_survive() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let gateway = Process::start(data.path());
    let admin = gateway.admin.to_string();
    let lax = ["--target-connections", "1", "--sqlite-synchronous", "normal", "--admin", &admin, "--json"];
    let lax = doctor(data.path(), &lax);
    assert_eq!(lax.status.code(), Some(3), "{lax:?}");
    let report = findings(&lax);
    let survives = finding(&report, "what an ack survives");
    assert_eq!(survives["severity"], "warning");
    assert!(survives["mend"].as_str().is_some_and(|mend| mend.contains("full")), "{survives}");
    assert!(finding(&report, "sync of --data")["found"].as_str().is_some_and(|found| found.contains("ms")), "{report}");
    assert_eq!(finding(&report, "the running gateway")["found"], "ready");
    assert_eq!(finding(&report, "settings")["severity"], "warning", "the gateway's are not those of this doctor");
    let same = findings(&doctor(data.path(), &["--target-connections", "1", "--admin", &admin, "--json"]));
    assert_eq!(finding(&same, "the running gateway")["found"], "ready");
    let all = same["findings"].as_array().expect("findings");
    assert!(all.iter().all(|finding| finding["what"] != "settings"), "its own are the same: {same}");
    assert_eq!(finding(&report, "descriptors of the running gateway")["severity"], "ok");
    assert!(all.iter().all(|finding| finding["what"] != "proxies"), "none was seen: {same}");
    assert_eq!(finding(&same, "trusted_proxies")["severity"], "ok");
    let told = "GET /api/v1/me HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Forwarded-Proto: https\r\n\r\n";
    exchange(gateway.address, told.as_bytes());
    let proxied = findings(&doctor(data.path(), &["--target-connections", "1", "--admin", &admin, "--json"]));
    let mend = finding(&proxied, "proxies")["mend"].as_str().expect("a text");
    assert!(mend.contains("X-Forwarded-For"), "{proxied}");
    let shown = finding(&proxied, "proxies")["found"].as_str().expect("a text");
    assert!(shown.contains("since its start; the last ") && shown.ends_with("s ago"), "{shown}");
    assert_eq!(finding(&proxied, "files in --data")["severity"], "ok", "all of it is the gateway's");
    let text = doctor(data.path(), &["--target-connections", "100000000"]);
    let shown = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(shown.starts_with("for 100,000,000 connections\nSTOPS "), "the worst comes first: {shown}");
    assert!(shown.ends_with("the target is not reached like this\n"), "{shown}");
}
