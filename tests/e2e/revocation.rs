//! What ends a session that was open: the end of its token, and what the operator says on the command line.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Output, Stdio};

use imgate::auth::Issuer;
use imgate::clock;
use imgate::ids::UserId;
use imgate::node;
use imgate::wire::CloseCode;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::process::Process;
use crate::support::{Client, Gateway, TAKEN, config, connect, post, register, retaken};
use crate::tls::{encrypt, trusting, write_pair};

/// Runs `imgate user …` on the data of a gateway.
fn user(gateway: &Gateway, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
    command.arg("user").args(words).arg("--data").arg(gateway.data());
    command.env_clear().stdin(Stdio::null()).output().expect("the binary runs")
}

/// The exit code and the JSON line of a command that has done something.
fn done(gateway: &Gateway, what: &str, id: u64) -> (Option<i32>, Value) {
    // Of a gateway that has just stopped another test's new process may have the lock for a moment.
    let output = retaken(|| {
        let output = user(gateway, &[what, &id.to_string(), "--json"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if said.contains(TAKEN) { Err(said) } else { Ok(output) }
    });
    let line = String::from_utf8(output.stdout).expect("text");
    (output.status.code(), serde_json::from_str(&line).unwrap_or(Value::Null))
}

#[test]
fn a_session_ends_with_its_token() {
    let gateway = Gateway::start(2, 2);
    let key = node::signing_key(&config(gateway.data(), 2, &[])).expect("the key of the gateway");
    let token = |user: u64| {
        let user = UserId::new(user).expect("in range");
        key.issue(user, 0, Issuer::Own, clock::wall_ms() + 4_000)
    };
    let mut stays = gateway.v2(1);
    let (short, old) = (token(1), token(2));
    let mut ends = Client::v2(gateway.address(), &short);
    let mut legacy = Client::legacy(gateway.address(), 2, &old);
    // They wait for what comes, and the close comes.
    assert_eq!(ends.close_code(), Some(CloseCode::BadToken.code()));
    assert_eq!(legacy.close_code(), Some(CloseCode::BadToken.code()));
    let mut late = Client::v2_at_once(gateway.address(), &short);
    assert_eq!(late.close_code(), Some(CloseCode::BadToken.code()), "nor does a new one begin");
    stays.say_acked(10, 2, "c", "whose token lives on");
    let page =
        crate::support::exchange(gateway.admin(), b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(page.contains("imgate_sessions_revoked_total{reason=\"expired\"} 2"), "{page}");
}

#[test]
fn the_key_in_the_data_directory_is_replaced_without_logging_anybody_out() {
    let data = tempfile::tempdir().expect("a directory");
    let (key, fallback) = (data.path().join("secret.key"), data.path().join("secret.fallback.key"));
    let process = Process::start(data.path());
    let (ann, old) = register(process.address, "/user/register", "13800000001");
    drop(process);
    fs::rename(&key, &fallback).expect("its owner's");
    let process = Process::start(data.path());
    let mut session = Client::v2(process.address, &old);
    session.say_acked(10, ann, "c1", "to myself");
    let again = post(process.address, "/user/login", "", "mobile=13800000001&passwd=secret");
    let fresh = again["data"]["token"].as_str().unwrap_or_else(|| panic!("a token: {again}")).to_owned();
    drop(session);
    drop(process);
    fs::remove_file(&fallback).expect("its owner's");
    let process = Process::start(data.path());
    assert_eq!(Client::v2_at_once(process.address, &old).close_code(), Some(CloseCode::BadToken.code()));
    let mut session = Client::v2(process.address, &fresh);
    session.say_acked(10, ann, "c2", "with the new key");
}

/// A gateway that stood still works off what came meanwhile. A client that gave its upgrade up by then has connected elsewhere, or again.
#[test]
fn an_upgrade_that_its_client_has_given_up_ends_no_session() {
    let data = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
    let trusted = trusting(&write_pair(data.path(), "one"));
    let [pem, key] = ["one.pem", "one.key"].map(|name| data.path().join(name));
    command.args(["--devices", "1", "--listen-tls", "127.0.0.1:0", "--tls-cert"]).arg(pem).arg("--tls-key").arg(key);
    let process = Process::launch(command, data.path());
    let (ann, token) = register(process.address, "/user/register", "13800000001");
    let mut here = Client::v2(process.address, &token);
    let request = format!(
        "GET /chat?token={token} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: imgate.v2\r\n\r\n"
    );
    let is_accepted = |which: &str, mut stream: TcpStream| {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer and its end");
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{which}: {}", String::from_utf8_lossy(&answer));
    };
    let mut encrypted = encrypt(connect(process.listening[1]), &trusted, "localhost");
    while encrypted.conn.is_handshaking() {
        encrypted.conn.complete_io(&mut encrypted.sock).expect("a handshake");
    }
    process.stands_still();
    let mut bare = connect(process.address);
    bare.write_all(request.as_bytes()).expect("the kernel takes it");
    bare.shutdown(Shutdown::Write).expect("connected");
    // A part of a message stands between the request and the end, more than is read at once.
    let mut busy = connect(process.address);
    let part = [&b"\x81\xfe\xea\x60\0\0\0\0"[..], &[b'x'; 50_000]].concat();
    busy.write_all(&[request.as_bytes(), &part].concat()).expect("the kernel takes it");
    busy.shutdown(Shutdown::Write).expect("connected");
    // And here the alert that this is all.
    encrypted.write_all(request.as_bytes()).expect("the kernel takes it");
    encrypted.conn.send_close_notify();
    encrypted.conn.complete_io(&mut encrypted.sock).expect("the kernel takes it");
    encrypted.sock.shutdown(Shutdown::Write).expect("connected");
    process.signal(Signal::CONT);
    is_accepted("bare", bare);
    is_accepted("busy", busy);
    // It may have been told nothing: it has said that it would not listen.
    encrypted.read_to_end(&mut Vec::new()).expect("the end is a regular one");
    // The shard has dealt with all of them: one that stays is let in, and only now the older session gives way.
    here.say_acked(10, ann, "c1", "still here");
    let mut newer = Client::v2(process.address, &token);
    assert_eq!(here.closed(), CloseCode::Replaced.code());
    newer.say_acked(10, ann, "c2", "here now");
}

#[test]
fn logging_out_ends_the_sessions_of_that_token_and_no_other() {
    let gateway = Gateway::start(2, 0);
    let (ann, first) = register(gateway.address(), "/user/register", "13800000001");
    let again = post(gateway.address(), "/user/login", "", "mobile=13800000001&passwd=secret");
    let second = again["data"]["token"].as_str().unwrap_or_else(|| panic!("a token: {again}")).to_owned();
    let mut ends = Client::v2(gateway.address(), &first);
    let mut also = Client::legacy(gateway.address(), ann, &first);
    let mut stays = Client::v2(gateway.address(), &second);
    let call = format!(
        "POST /api/v1/logout HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {first}\r\nContent-Length: 0\r\n\
         Connection: close\r\n\r\n"
    );
    let answer = crate::support::exchange(gateway.address(), call.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(ends.close_code(), Some(CloseCode::BadToken.code()));
    assert_eq!(also.close_code(), Some(CloseCode::BadToken.code()));
    stays.say_acked(10, ann, "c", "still here");
    let mut late = Client::v2_at_once(gateway.address(), &first);
    assert_eq!(late.close_code(), Some(CloseCode::BadToken.code()), "nor does a new one begin");
}

#[test]
fn the_operator_bans_lets_in_again_and_deletes_through_a_running_gateway() {
    let gateway = Gateway::start(2, 0);
    let (ann, token) = register(gateway.address(), "/user/register", "13800000001");
    let (bob, bobs) = register(gateway.address(), "/user/register", "13800000002");
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let made = post(gateway.address(), "/contact/createcommunity", &bearer, &format!("ownerid={ann}&name=g&cate=1"));
    let group = made["data"]["id"].as_u64().expect("a group");
    gateway.join(bob, group);
    let mut session = Client::v2(gateway.address(), &token);
    session.say_acked(10, bob, "c1", "what Bob keeps");

    let (code, shown) = done(&gateway, "show", ann);
    assert_eq!(
        (code, &shown["mobile"], &shown["banned"], &shown["groups"]),
        (Some(0), &json!("13800000001"), &json!(false), &json!(1))
    );
    assert!(!shown.to_string().contains("argon2"), "{shown}");

    for _ in 0..2 {
        let (code, shown) = done(&gateway, "ban", ann);
        assert_eq!((code, &shown["banned"]), (Some(0), &json!(true)), "{shown}");
    }
    assert_eq!(session.close_code(), Some(CloseCode::Banned.code()), "at once");
    let mut refused = Client::v2_at_once(gateway.address(), &token);
    assert_eq!(refused.close_code(), Some(CloseCode::Banned.code()));

    let (code, shown) = done(&gateway, "unban", ann);
    assert_eq!((code, &shown["banned"]), (Some(0), &json!(false)));
    let mut session = Client::v2(gateway.address(), &token);
    session.say_acked(11, group, "c2", "in again");

    for _ in 0..2 {
        let (code, shown) = done(&gateway, "delete", ann);
        assert_eq!(
            (code, &shown["deleted"], &shown["groups"], &shown["mobile"]),
            (Some(0), &json!(true), &json!(0), &json!(""))
        );
    }
    assert_eq!(session.close_code(), Some(CloseCode::Banned.code()));
    let rows = crate::support::history(gateway.address(), &bobs, 10, ann);
    assert_eq!(rows.iter().map(|row| &row["content"]).collect::<Vec<_>>(), [&json!("what Bob keeps")]);
    let (again, _) = register(gateway.address(), "/user/register", "13800000001");
    assert!(again > bob, "the mobile number is free, and the account another one");
    let mut of_bob = Client::v2(gateway.address(), &bobs);
    of_bob.say_acked(11, group, "c3", "whose group it is now");

    assert_eq!(user(&gateway, &["ban", "77"]).status.code(), Some(3), "nobody");
    assert_eq!(user(&gateway, &["ban", "0"]).status.code(), Some(1));
    assert_eq!(user(&gateway, &["kick", "1"]).status.code(), Some(2));
}

#[test]
fn the_operator_does_the_same_without_a_gateway() {
    let mut gateway = Gateway::start(1, 2);
    gateway.stop();
    let (code, shown) = done(&gateway, "ban", 1);
    assert_eq!((code, &shown["banned"]), (Some(0), &json!(true)), "{shown}");
    let text = String::from_utf8(user(&gateway, &["show", "1"]).stdout).expect("text");
    assert!(text.starts_with("id: 1\nstate: banned\n"), "{text}");
    gateway.restart();
    let mut refused = gateway.v2_at_once(1);
    assert_eq!(refused.close_code(), Some(CloseCode::Banned.code()));
    gateway.stop();
    assert_eq!(done(&gateway, "unban", 1).0, Some(0));
    assert_eq!(done(&gateway, "delete", 2).1["deleted"], json!(true));
    assert_eq!(user(&gateway, &["show", "77"]).status.code(), Some(3));
    let nowhere = gateway.data().join("nowhere");
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
    let output = command.args(["user", "show", "1", "--data"]).arg(&nowhere).output().expect("the binary runs");
    assert!(output.status.code() == Some(1) && !nowhere.exists(), "a mistyped directory is not made: {output:?}");
    gateway.restart();
    gateway.v2(1).say_acked(10, 1, "c", "in again");
}
