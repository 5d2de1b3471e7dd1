//! `/admin/users/…` and `imgate sessions`: a user's sessions listed, one of them ended, a ban; each in the audit trail, and nothing without the token.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::process::Process;
use crate::support::{Client, ask, exchange, register};

/// A gateway, and the operator beside it.
struct Desk {
    data: tempfile::TempDir,
    process: Process,
    token: String,
}

impl Desk {
    fn start() -> Self {
        let data = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
        command.env("IMGATE_AUDIT_LOG", data.path().join("audit.log"));
        let process = Process::launch(command, data.path());
        let mut desk = Self { data, process, token: String::new() };
        desk.token = desk.imgate(&["token", "--operator"]).1.trim().to_owned();
        desk
    }

    fn imgate(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
        command.args(arguments).args(["--admin", &self.process.admin.to_string(), "--data"]).arg(self.data.path());
        let output = command.output().expect("the command runs");
        (output.status.code(), String::from_utf8(output.stdout).expect("text"))
    }

    fn ask(&self, method: &str, path: &str) -> (u16, Value) {
        ask(self.process.admin, method, &format!("/admin/users/{path}"), &self.token, &Value::Null)
    }

    /// The sessions of a user.
    fn list(&self, user: u64) -> Vec<Value> {
        let (status, answer) = self.ask("GET", &format!("{user}/sessions"));
        assert_eq!((status, &answer["user"]), (200, &json!(user)), "{answer}");
        answer["sessions"].as_array().expect("a list").clone()
    }

    fn users(&self) -> [(u64, String); 2] {
        ["13800000001", "13800000002"].map(|mobile| register(self.process.address, "/user/register", mobile))
    }
}

fn id(session: &Value) -> String {
    session["id"].as_str().unwrap_or_else(|| panic!("an id: {session}")).to_owned()
}

/// The lines of an event in the trail of a gateway that has ended.
fn events(data: &Path, event: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(data.join("audit.log")).expect("the trail");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.filter(|line| line["event"] == event).collect()
}

#[test]
fn an_operator_sees_the_sessions_of_a_user_and_ends_one_of_them() {
    let mut desk = Desk::start();
    let address = desk.process.address;
    let [(ann, ann_token), (bob, bob_token)] = desk.users();
    assert_eq!(desk.list(ann), [] as [Value; 0]);
    let (mut ours, mut page) = (Client::v2(address, &ann_token), Client::legacy(address, ann, &ann_token));
    let mut bobs = Client::v2(address, &bob_token);
    let sessions = desk.list(ann);
    let seen = |one: &Value| ["profile", "transport", "address", "device"].map(|field| one[field].clone());
    assert_eq!(
        sessions.iter().map(seen).collect::<Vec<_>>(),
        [
            ["v2", "plain", "127.0.0.1", "web"].map(Value::from),
            ["legacy", "plain", "127.0.0.1", "web"].map(Value::from)
        ]
    );
    assert!(sessions.iter().all(|one| one["open"] == true && one["held_back"].is_null()), "{sessions:?}");
    assert!(sessions.iter().all(|one| one["login"]["created_ms"].is_u64()), "they belong to a login: {sessions:?}");
    let (first, bobs_id) = (id(&sessions[0]), id(&desk.list(bob)[0]));

    // As a person sees it, and by the command line.
    let (code, table) = desk.imgate(&["sessions", &ann.to_string()]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!((code, lines.len()), (Some(0), 3), "{table}");
    assert!(lines[0].starts_with("SESSION") && lines[1].starts_with(&first) && lines[2].contains("legacy"), "{table}");
    let end = |user: u64, session: &str| desk.imgate(&["sessions", &user.to_string(), "--end", session]);
    for other in [bobs_id.as_str(), "s0-4000-1", "s9-0-1", "nonsense", "../../keys", ""] {
        assert_eq!(end(ann, other).0, Some(3), "{other}: Ann has no such session");
    }
    assert_eq!(end(ann, &first), (Some(0), "1 ended\n".to_owned()));
    assert_eq!(ours.closed(), 4000);
    assert_eq!(end(ann, &first).0, Some(3), "it has ended");
    assert_eq!(desk.list(ann).len(), 1);
    page.say(10, bob, "p", "still here");
    assert_eq!(bobs.wait_for(10)["content"], "still here");
    bobs.say_acked(10, ann, "c", "and I am");

    // The client comes back, and all of them end.
    let mut back = Client::v2(address, &ann_token);
    let (code, said) = desk.imgate(&["sessions", &ann.to_string(), "--end-all", "--json"]);
    assert_eq!((code, serde_json::from_str(&said).ok()), (Some(0), Some(json!({ "ended": 2 }))), "{said}");
    assert_eq!((back.closed(), page.closed()), (4000, 4000));
    bobs.say_acked(10, ann, "c2", "I stay");
    assert_eq!(desk.imgate(&["sessions", &ann.to_string()]), (Some(0), String::new()));

    desk.imgate(&["drain", "--no-wait"]);
    desk.process.ended(std::time::Duration::from_secs(20));
    let ends = events(desk.data.path(), "disconnected");
    let done: Vec<_> = ends.iter().filter(|line| line["status"] == 200).collect();
    assert_eq!(done.len(), 2, "{ends:?}");
    assert_eq!((&done[0]["session"], &done[0]["ended"]), (&json!(first), &json!(1)), "{done:?}");
    assert_eq!((&done[1]["of"]["user"], &done[1]["ended"]), (&json!(ann.to_string()), &json!(2)), "{done:?}");
    assert!(ends.iter().all(|line| line["by"] == "operator"), "{ends:?}");
    assert!(!events(desk.data.path(), "sessions_listed").is_empty());
}

#[test]
fn nobody_sees_or_ends_sessions_without_the_operators_token() {
    let desk = Desk::start();
    let [(ann, ann_token), _] = desk.users();
    let mut session = Client::v2(desk.process.address, &ann_token);
    let first = id(&desk.list(ann)[0]);
    for (method, path) in [
        ("GET", "sessions".to_owned()),
        ("DELETE", "sessions".to_owned()),
        ("DELETE", format!("sessions/{first}")),
        ("POST", "ban".to_owned()),
        ("POST", "unban".to_owned()),
    ] {
        let path = format!("/admin/users/{ann}/{path}");
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        let bare = exchange(desk.process.admin, request.as_bytes());
        assert!(bare.starts_with("HTTP/1.1 401 "), "{method} {path}: {bare}");
        assert_eq!(ask(desk.process.admin, method, &path, &ann_token, &Value::Null).0, 401, "a user is no operator");
    }
    session.say_acked(10, ann, "c", "untouched");
    for (method, path, status) in [
        ("GET", "0/sessions", 400),
        ("GET", "x/sessions", 400),
        ("GET", "999999/sessions", 200),
        ("DELETE", "-1/sessions/s0-0-1", 400),
        ("POST", "x/ban", 400),
    ] {
        assert_eq!(desk.ask(method, path).0, status, "{method} {path}");
    }
}

#[test]
fn an_operator_bans_and_lets_in_again_through_the_admin_port() {
    let mut desk = Desk::start();
    let address = desk.process.address;
    let [(ann, ann_token), (bob, bob_token)] = desk.users();
    let (mut session, mut other) = (Client::v2(address, &ann_token), Client::v2(address, &bob_token));
    for _ in 0..2 {
        let (status, account) = desk.ask("POST", &format!("{ann}/ban"));
        assert_eq!((status, &account["banned"]), (200, &json!(true)), "{account}");
        assert!(!account.to_string().contains("argon2"), "{account}");
    }
    assert_eq!(session.closed(), 4503);
    assert_eq!(Client::v2_at_once(address, &ann_token).closed(), 4503);
    other.say_acked(10, bob, "c", "of another user");
    assert_eq!(desk.ask("POST", "999999/ban").0, 404);
    let (status, account) = desk.ask("POST", &format!("{ann}/unban"));
    assert_eq!((status, &account["banned"]), (200, &json!(false)), "{account}");
    Client::v2(address, &ann_token).say_acked(10, bob, "c", "in again");
    desk.imgate(&["drain", "--no-wait"]);
    desk.process.ended(std::time::Duration::from_secs(20));
    for (event, times) in [("banned", 2), ("unbanned", 1)] {
        let done: Vec<_> = events(desk.data.path(), event).into_iter().filter(|line| line["status"] == 200).collect();
        assert_eq!(done.len(), times, "{done:?}");
        let by_operator = |line: &Value| line["by"] == "operator" && line["of"]["user"] == json!(ann.to_string());
        assert!(done.iter().all(by_operator), "{done:?}");
    }
}
