//! `GET /admin/top` and `imgate top`: the loudest are found, and only for whoever has the key.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::process::Process;
use crate::support::{Client, exchange, register};

fn ask(process: &Process, path: &str, token: &str) -> (String, Value) {
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n");
    let answer = exchange(process.admin, request.as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.lines().next().unwrap_or_default().to_owned();
    (status, serde_json::from_str(body).unwrap_or_default())
}

#[test]
fn the_loudest_user_and_group_are_found_while_somebody_looks() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let process = Process::start(data.path());
    let (ann, ann_token) = register(process.address, "/user/register", "13800000001");
    let (bob, bob_token) = register(process.address, "/user/register", "13800000002");
    let imgate = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
        command.args(arguments).args(["--admin", &process.admin.to_string(), "--data"]).arg(data.path());
        command.output().expect("the command runs")
    };
    let token = String::from_utf8(imgate(&["token", "--operator"]).stdout).expect("text");
    let token = token.trim();
    assert!(ask(&process, "/admin/top", &ann_token).0.contains("401"), "a user is no operator");
    assert!(ask(&process, "/admin/top?seconds=0", token).0.contains("400"));
    assert!(ask(&process, "/admin/top?by=charm", token).0.contains("400"));
    let (mut loud, mut quiet) = (Client::v2(process.address, &ann_token), Client::v2(process.address, &bob_token));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let talk = scope.spawn(|| {
            let mut said = 0;
            while !over.load(Ordering::Relaxed) && said < 100_000 {
                loud.say_acked(10, bob, &format!("a{said}"), "a word");
                said += 1;
                if said % 10 == 0 {
                    quiet.say_acked(10, ann, &format!("b{said}"), "hm");
                }
            }
        });
        let (status, top) = ask(&process, "/admin/top?seconds=3&by=messages", token);
        assert!(status.contains("200"), "{status}");
        let users = top["users"].as_array().expect("a list");
        assert_eq!((users.len(), users[0]["user"].as_u64()), (2, Some(ann)), "{top}");
        assert!(users[0]["messages"].as_u64() > users[1]["messages"].as_u64().map(|n| n * 5), "{top}");
        assert!(users[0]["cost"].as_u64() > Some(10), "{top}");
        let picture = imgate(&["top", "--once", "--seconds", "1"]);
        over.store(true, Ordering::Relaxed);
        let shown = String::from_utf8_lossy(&picture.stdout).into_owned();
        assert!(picture.status.success() && shown.contains("ready") && shown.contains("cost/s"), "{picture:?}");
        assert!(shown.lines().any(|line| line.trim_start().starts_with(&format!("{ann} "))), "{shown}");
        talk.join().expect("they talk well");
    });
    let (_, calm) = ask(&process, "/admin/top?seconds=1", token);
    assert_eq!(calm["users"], serde_json::json!([]), "what was counted for another look is gone: {calm}");
}

#[test]
fn an_operator_changes_the_level_of_the_log_and_sees_which_settings_are_in_force() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let file = data.path().join("imgate.toml");
    std::fs::write(&file, "max_connections = 500\nuser_messages = 50\n").expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
    command.env("IMGATE_CONFIG", &file);
    let process = Process::launch(command, data.path());
    let imgate = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
        command.args(arguments).args(["--admin", &process.admin.to_string(), "--data"]).arg(data.path());
        let output = command.output().expect("the command runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let set = imgate(&["log", "info,imgate::api=debug"]);
    assert_eq!(set.0, Some(0), "{set:?}");
    let changes = "the operator changes the filter of the log";
    assert!(process.says(changes).contains("info,imgate::api=debug"));
    register(process.address, "/user/register", "13800000001");
    process.says("DEBUG imgate::api");
    // Less of it, of which nothing is said afterwards, and more again, which could not be said before.
    for filter in ["error", "info"] {
        assert_eq!(imgate(&["log", filter]).0, Some(0));
        assert!(process.says(changes).contains(&format!("\"{filter}\"")), "{filter}");
    }
    assert_eq!(imgate(&["log", "verbose"]).0, Some(1), "that is no level");
    assert!(ask(&process, "/admin/config", "no token").0.contains("401"));
    let running = |wanted: &[&str]| {
        let (code, text) = imgate(&["config", "running"]);
        assert_eq!(code, Some(0), "{text}");
        for start in wanted {
            assert!(text.lines().any(|line| line.starts_with(start)), "{start}: {text}");
        }
    };
    running(&["max_connections = 500  # ", "user_messages = 50  # ", "shards = 2  # --shards", "# secret is not set"]);
    std::fs::write(&file, "max_connections = 600\nuser_messages = 60\n").expect("a file");
    assert_eq!(imgate(&["reload"]).0, Some(0));
    running(&["max_connections = 500  # ", "user_messages = 60  # "]);
}

#[test]
fn a_picture_may_take_longer_than_other_answers() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let process = Process::start(data.path());
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
    // An answer of another sort is waited for 5 s.
    command.args(["top", "--once", "--seconds", "6", "--admin", &process.admin.to_string(), "--data"]);
    let picture = command.arg(data.path()).output().expect("the command runs");
    assert!(picture.status.success(), "{picture:?}");
}

#[test]
fn who_is_online_is_listed_once_each() {
    let data = tempfile::tempdir().expect("a temporary directory");
    let process = Process::start(data.path());
    let (ann, ann_token) = register(process.address, "/user/register", "13800000001");
    let (bob, bob_token) = register(process.address, "/user/register", "13800000002");
    register(process.address, "/user/register", "13800000003");
    let imgate = |command: &str| {
        let mut run = Command::new(env!("CARGO_BIN_EXE_imgate"));
        run.args([command, "--admin", &process.admin.to_string(), "--data"]).arg(data.path());
        String::from_utf8(run.output().expect("the command runs").stdout).expect("text")
    };
    assert_eq!(imgate("online"), "");
    let _sessions = [&ann_token, &ann_token, &bob_token].map(|token| Client::v2(process.address, token));
    let said = imgate("online");
    let mut online: Vec<u64> = said.lines().map(|line| line.parse().expect("a number")).collect();
    online.sort_unstable();
    assert_eq!(online, [ann, bob]);
    assert!(ask(&process, "/admin/online", &ann_token).0.contains("401"), "a user is no operator");
    let mut run = Command::new(env!("CARGO_BIN_EXE_imgate"));
    let token = run.args(["token", "--operator", "--data"]).arg(data.path()).output().expect("the command runs").stdout;
    let token = String::from_utf8(token).expect("text");
    for bad in ["x", "0", "0.x", "9999.0"] {
        assert!(ask(&process, &format!("/admin/online?after={bad}"), token.trim()).0.contains("400"), "{bad}");
    }
}
