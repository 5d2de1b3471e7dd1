//! What an operator does about the database of a running gateway: `imgate backup --by-gateway`, `imgate retention`, and settings of retention
//! that are in force without a restart.

use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use crate::process::Process;
use crate::support::{Client, PATIENCE, ask, register};

#[test]
fn an_operator_backs_up_and_trims_a_running_gateway() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let file = data.path().join("imgate.toml");
    std::fs::write(&file, "log = \"info\"\n").expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
    command.env("IMGATE_CONFIG", &file).env("IMGATE_AUDIT_LOG", data.path().join("audit.log"));
    let mut process = Process::launch(command, data.path());
    let imgate = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
        command.args(arguments).args(["--admin", &process.admin.to_string(), "--data"]).arg(data.path());
        let output = command.output().expect("the command runs");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (output.status.success(), text(output.stdout), text(output.stderr))
    };
    let [(_, ann), (bob, _)] =
        ["13800000001", "13800000002"].map(|mobile| register(process.address, "/user/register", mobile));
    let mut client = Client::v2(process.address, &ann);
    for n in 0..205 {
        client.say_acked(10, bob, &n.to_string(), "hello");
    }

    let (made, said, why) = imgate(&["backup", "--by-gateway", "--name", "first.db"]);
    let said: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}{why}"));
    let copy = data.path().join("backups/first.db");
    assert_eq!((made, &said["file"]), (true, &json!(copy)), "{why}");
    assert_eq!(said["bytes"], std::fs::metadata(&copy).expect("it is there").len());
    let (made, _, why) = imgate(&["backup", "--by-gateway", "--name", "first.db"]);
    assert!(!made && why.contains("409") && why.contains("exists already"), "{why}");

    let (shown, said, _) = imgate(&["retention"]);
    assert_eq!((shown, said.as_str()), (true, "kept: everything\nno pass yet\n"));
    let (begun, _, why) = imgate(&["retention", "--now"]);
    assert!(!begun && why.contains("everything is kept"), "{why}");
    std::fs::write(&file, "log = \"info\"\nkeep_count = 200\n").expect("a file");
    let (_, said, why) = imgate(&["reload"]);
    assert!(said.contains("in force now: keep_count"), "{said}{why}");
    let gone = || {
        let (_, said, _) = imgate(&["retention", "--json"]);
        serde_json::from_str::<Value>(&said).expect("JSON")["messages"].as_u64()
    };
    let began = Instant::now();
    while gone() != Some(5) {
        assert!(began.elapsed() < PATIENCE, "five messages are too many: {:?}", gone());
    }
    client.say_acked(10, bob, "one more", "hello");
    let (begun, said, why) = imgate(&["retention", "--now"]);
    assert!(begun && said.starts_with("kept: the newest 200 messages of each conversation\n"), "{said}{why}");
    while gone() != Some(1) {
        assert!(began.elapsed() < PATIENCE, "one message is too many: {:?}", gone());
    }

    for (method, path) in [("POST", "/admin/backup"), ("GET", "/admin/retention"), ("POST", "/admin/retention")] {
        assert_eq!(ask(process.admin, method, path, "", &Value::Null).0, 401, "{method} {path}");
    }
    imgate(&["drain", "--no-wait"]);
    process.ended(PATIENCE);
    let trail = std::fs::read_to_string(data.path().join("audit.log")).expect("the trail");
    let lines: Vec<Value> = trail.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |event: &str, status: u16| lines.iter().find(|line| line["event"] == event && line["status"] == status);
    assert_eq!(of("backup_asked", 202).map(|line| &line["file"]), Some(&json!("first.db")));
    assert!(of("retention_asked", 202).is_some() && of("retention_asked", 409).is_some(), "{trail}");
}
