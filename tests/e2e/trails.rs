//! The audit trail and the access trail of a whole scenario, with the real binary: what happened is there, and no secret is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::process::Process;
use crate::support::{Client, ask, post};

const MOBILES: [&str; 4] = ["13800004711", "13800004712", "13800004713", "13800004714"];
const PASSWORD: &str = "open-sesame-4711";
const WRONG: &str = "open-barley-4712";
const BODY: &str = "words-for-two-4713";

/// A gateway with both trails, and what was secret of what it was told.
struct Scene {
    data: tempfile::TempDir,
    process: Process,
    secrets: Vec<String>,
}

impl Scene {
    fn start() -> Self {
        let data = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
        command.env("IMGATE_AUDIT_LOG", data.path().join("audit.log"));
        command.env("IMGATE_ACCESS_LOG", data.path().join("access.log"));
        command.env("IMGATE_LOG", "info,imgate::driver=debug");
        let process = Process::launch(command, data.path());
        let secrets = MOBILES.iter().chain(&[PASSWORD, WRONG, BODY, "open-nothing"]).map(|&text| text.to_owned());
        Self { secrets: secrets.collect(), data, process }
    }

    fn trail(&self, name: &str) -> PathBuf {
        self.data.path().join(name)
    }

    fn api(&self, method: &str, path: &str, token: &str, body: &Value) -> (u16, Value) {
        ask(self.process.address, method, path, token, body)
    }

    /// What a call hands out is a secret from now on.
    fn secret(&mut self, answer: &Value, field: &str) -> String {
        let secret = answer[field].as_str().unwrap_or_else(|| panic!("{field}: {answer}")).to_owned();
        self.secrets.push(secret.clone());
        secret
    }

    fn imgate(&self, args: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
        command.args(args).args(["--admin", &self.process.admin.to_string(), "--data"]).arg(self.data.path());
        let output = command.output().expect("the binary runs");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Two users, of whom one logs in again, wrongly and rightly, and an old page does.
    fn users(&mut self) -> [String; 3] {
        let [one, two] = [0, 1].map(|n| {
            let wish = json!({ "mobile": MOBILES[n], "password": PASSWORD, "nickname": "n" });
            let (status, answer) = self.api("POST", "/api/v1/register", "", &wish);
            assert_eq!(status, 201, "{answer}");
            self.secret(&answer, "token")
        });
        let login = |password: &str| json!({ "mobile": MOBILES[0], "password": password });
        assert_eq!(self.api("POST", "/api/v1/login", "", &login(WRONG)).0, 401);
        let (_, again) = self.api("POST", "/api/v1/login", "", &login(PASSWORD));
        let again = self.secret(&again, "token");
        post(self.process.address, "/user/login", "", &format!("mobile={}&passwd={PASSWORD}", MOBILES[1]));
        // The password in the wrong field.
        post(self.process.address, "/user/login", "", &format!("mobile={WRONG}&passwd={WRONG}"));
        [one, two, again]
    }

    /// What an operator and a backend do.
    fn backend(&mut self) {
        let operator = self.imgate(&["token", "--operator"]).trim().to_owned();
        self.secrets.push(operator.clone());
        let admin = self.process.admin;
        let made = ask(admin, "POST", "/admin/keys?name=shop&scopes=users,moderate,send", &operator, &Value::Null);
        let (key, id) = (self.secret(&made.1, "key"), made.1["id"].as_str().expect("an id").to_owned());
        let new = json!({ "mobile": MOBILES[2], "password": PASSWORD, "nickname": "n" });
        let (status, answer) = self.api("POST", "/api/v1/server/users", &key, &new);
        assert_eq!(status, 201, "{answer}");
        assert_eq!(self.api("GET", &format!("/api/v1/server/users/{}", MOBILES[3]), &key, &Value::Null).0, 404);
        for from in [Value::Null, json!(2)] {
            let message = json!({ "from": from, "to": { "user": 1 }, "message": { "media": 1, "content": BODY } });
            let (status, answer) = self.api("POST", "/api/v1/server/messages", &key, &json!({ "messages": [message] }));
            assert_eq!(status, 200, "{answer}");
        }
        assert_eq!(self.api("PUT", "/api/v1/server/users/2/ban", &key, &Value::Null).0, 200);
        assert_eq!(self.api("PUT", "/api/v1/server/users/1/ban", "open-nothing-4714", &Value::Null).0, 401);
        let forged = json!({ "messages": [] });
        assert_eq!(self.api("POST", "/api/v1/server/messages", "open-nothing-4716", &forged).0, 401);
        // It is a good key, of other scopes.
        assert_eq!(self.api("GET", "/api/v1/server/stats", &key, &Value::Null).0, 403);
        let rotated = ask(admin, "POST", &format!("/admin/keys/{id}/rotate"), &operator, &Value::Null);
        self.secret(&rotated.1, "key");
        let id = rotated.1["id"].as_str().expect("an id").to_owned();
        assert_eq!(ask(admin, "DELETE", &format!("/admin/keys/{id}"), &operator, &Value::Null).0, 200);
        assert_eq!(ask(admin, "POST", "/admin/drain", "open-nothing-4714", &Value::Null).0, 401);
        self.imgate(&["user", "unban", "2"]);
        self.imgate(&["reload"]);
    }
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("JSON: {line}"))).collect()
}

/// A line that has all of these fields.
fn find<'a>(lines: &'a [Value], wanted: &Value) -> &'a Value {
    let fits = |line: &&Value| wanted.as_object().expect("fields").iter().all(|(key, value)| line[key] == *value);
    lines.iter().find(fits).unwrap_or_else(|| panic!("no {wanted} in {lines:#?}"))
}

/// The names of connections in the lines of an event.
fn conns(lines: &[Value], event: &str) -> BTreeSet<String> {
    let of = lines.iter().filter(|line| line["event"] == event);
    of.map(|line| line["conn"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn the_trails_tell_what_happened_and_no_secrets() {
    let mut scene = Scene::start();
    let [one, two, again] = scene.users();
    let address = scene.process.address;
    let mut client = Client::v2(address, &one);
    client.say_acked(10, 2, BODY, BODY);
    assert_eq!(Client::v2_at_once(address, "open-nothing-4715").closed(), 4501);
    let refused = scene.process.says("a connection is refused");
    assert_eq!(scene.api("GET", &format!("/api/v1/users?mobile={}", MOBILES[1]), &one, &Value::Null).0, 200);
    let (_, group) = scene.api("POST", "/api/v1/groups", &one, &json!({ "name": "g", "rule": "open" }));
    let group = group["id"].as_u64().expect("a group");
    assert_eq!(scene.api("PUT", &format!("/api/v1/groups/{group}/members/me"), &two, &Value::Null).0, 200);
    let member = format!("/api/v1/groups/{group}/members/2");
    assert_eq!(scene.api("PATCH", &member, &one, &json!({ "role": "admin" })).0, 200);
    assert_eq!(scene.api("POST", "/api/v1/logout", &again, &Value::Null).0, 200);
    scene.backend();
    let mut lost = Client::v2(address, &one);
    lost.send_text("{}");
    lost.stream().shutdown(std::net::Shutdown::Both).expect("it is open");
    scene.imgate(&["log", "info,imgate::api=debug"]);
    scene.imgate(&["drain", "--no-wait"]);
    assert_eq!(client.closed(), 4000);
    scene.process.ended(std::time::Duration::from_secs(20));

    let [audit, access] = ["audit.log", "access.log"].map(|name| text(&scene.trail(name)));
    for secret in &scene.secrets {
        assert!(!audit.contains(secret), "`{secret}` is in the audit trail:\n{audit}");
        assert!(!access.contains(secret), "`{secret}` is in the access trail:\n{access}");
    }
    let (audit, access) = (lines(&audit), lines(&access));
    for wanted in [
        json!({ "event": "registration", "outcome": "ok", "user": 1, "from": "127.0.0.1" }),
        json!({ "event": "login", "outcome": "wrong_password", "from": "127.0.0.1" }),
        json!({ "event": "login", "outcome": "ok", "user": 1 }),
        json!({ "event": "login", "outcome": "ok", "user": 2 }),
        json!({ "event": "login", "outcome": "unknown" }),
        json!({ "event": "role_changed", "by": "user", "user": 1, "of": { "id": group.to_string(), "user": "2" } }),
        json!({ "event": "logout", "by": "user", "user": 1 }),
        json!({ "event": "key_made", "by": "operator", "status": 201, "from": "127.0.0.1" }),
        json!({ "event": "key_rotated", "by": "operator", "status": 201 }),
        json!({ "event": "key_revoked", "by": "operator", "status": 200 }),
        json!({ "event": "user_made", "by": "key", "key": "shop", "status": 201 }),
        json!({ "event": "sent_as_user", "by": "key", "key": "shop", "of": { "users": [2], "messages": 1 } }),
        json!({ "event": "banned", "by": "key", "key": "shop", "of": { "id": "2" }, "from": "127.0.0.1" }),
        json!({ "event": "banned", "status": 401, "by": null }),
        json!({ "event": "key_refused", "status": 401, "route": "/api/v1/server/messages", "by": null }),
        json!({ "event": "key_refused", "status": 403, "route": "/api/v1/server/stats", "by": "key", "key": "shop" }),
        json!({ "event": "unbanned", "by": "operator", "of": { "user": 2 }, "done": true }),
        json!({ "event": "drain_asked", "status": 401, "by": null }),
        json!({ "event": "drain_asked", "status": 202, "by": "operator" }),
        json!({ "event": "log_filter_changed", "status": 200, "by": "operator", "filter": "info,imgate::api=debug" }),
        json!({ "event": "reload", "by": "operator", "outcome": "ok" }),
        json!({ "event": "drain" }),
        json!({ "event": "stopped", "orderly": true }),
    ] {
        find(&audit, &wanted);
    }
    assert_eq!(find(&audit, &json!({ "event": "key_made" }))["made"]["name"], "shop");
    assert_eq!(find(&audit, &json!({ "event": "user_made" }))["of"]["new"], true);
    let as_users = audit.iter().filter(|line| line["event"] == "sent_as_user").count();
    assert_eq!(as_users, 1, "what the system says is nobody's");
    // The same name of a connection in the log and in the trails, from its beginning to its end.
    let conn = find(&audit, &json!({ "event": "session_refused", "why": "forbidden" }))["conn"].clone();
    assert!(refused.contains(conn.as_str().expect("a name")), "{conn} in {refused}");
    let opened = conns(&access, "session_opened");
    assert_eq!((opened.len(), &opened), (2, &conns(&access, "session_closed")));
    let first = find(&access, &json!({ "event": "session_opened", "user": 1, "profile": "v2", "from": "127.0.0.1" }));
    find(&access, &json!({ "event": "session_closed", "conn": first["conn"], "code": 4000, "by": "gateway" }));
    find(&access, &json!({ "event": "session_closed", "code": 1006, "by": "loss" }));
    let request = find(&access, &json!({ "route": "/api/v1/users", "status": 200, "user": 1, "method": "GET" }));
    assert!(request["ms"].is_f64() && request["ts_ms"].is_u64() && request["bytes"].as_u64() > Some(10), "{request}");
}

#[test]
fn a_trail_that_was_moved_away_is_begun_anew_at_sighup() {
    let scene = Scene::start();
    let login = || scene.api("POST", "/api/v1/login", "", &json!({ "mobile": MOBILES[0], "password": WRONG })).0;
    assert_eq!(login(), 401);
    let (path, moved) = (scene.trail("audit.log"), scene.trail("audit.log.1"));
    std::fs::rename(&path, &moved).expect("a name");
    scene.process.signal(Signal::HUP);
    scene.process.says("the configuration was loaded again");
    let until = std::time::Instant::now() + crate::support::PATIENCE;
    while !path.exists() {
        assert!(std::time::Instant::now() < until, "no new file");
        std::thread::park_timeout(std::time::Duration::from_millis(5));
    }
    assert_eq!(login(), 401);
    let mut process = scene.process;
    process.signal(Signal::TERM);
    process.ended(std::time::Duration::from_secs(20));
    let [before, after] = [&moved, &path].map(|path| {
        let lines = lines(&text(path));
        lines.iter().filter(|line| line["event"] == "login").count()
    });
    assert_eq!((before, after), (1, 1));
}

#[test]
fn a_disk_that_is_full_ends_nothing_and_is_counted() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
    command.env("IMGATE_AUDIT_LOG", "/dev/full");
    let process = Process::launch(command, data.path());
    let wrong = json!({ "mobile": MOBILES[0], "password": WRONG });
    let until = std::time::Instant::now() + crate::support::PATIENCE;
    loop {
        assert_eq!(ask(process.address, "POST", "/api/v1/login", "", &wrong).0, 401);
        let page =
            crate::support::exchange(process.admin, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let line = page.lines().find(|line| line.starts_with("imgate_trail_left_out_total{trail=\"audit\"}"));
        if line.is_some_and(|line| !line.ends_with(" 0")) {
            break;
        }
        assert!(std::time::Instant::now() < until, "{line:?}");
    }
}
