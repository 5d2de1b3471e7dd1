//! The 101 of a session while the store that knows the user is held up, answers late, fails, or is still held up when the gateway stops.
//!
//! The store is a MariaDB of which the test locks one table: `users`, without which nobody opens, or `cursors`, without which no list of conversations is made.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use imgate::auth::Issuer;
use imgate::node::Tuning;
use imgate::wire::CloseCode;
use mysql::Conn;
use mysql::prelude::Queryable;
use serde_json::{Value, json};

use crate::mariadb::Server;
use crate::support::{Client, Gateway, connect};

/// A 101 that waits until it has something to go with, or for longer than any test.
const PATIENT: u64 = 600_000;

/// A table that nobody but the test can read, until this is dropped.
struct Lock(Conn);

impl Lock {
    fn of(server: &Server, database: &str, table: &str) -> Self {
        let mut admin = server.admin();
        admin.query_drop(format!("LOCK TABLES {database}.{table} WRITE")).expect("a lock");
        Self(admin)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.query_drop("UNLOCK TABLES").expect("the end of a lock");
    }
}

/// A gateway of three users, and its database.
fn gateway(server: &Server, welcome_ms_max: u64, settings: &[(&str, &str)]) -> (Gateway, String) {
    let database = server.database();
    let url = server.url(&database);
    let settings: Vec<(&str, &str)> = [("store", url.as_str())].into_iter().chain(settings.iter().copied()).collect();
    (Gateway::start_with(2, 3, &settings, Tuning { welcome_ms_max, ..Tuning::default() }), database)
}

/// Asks for a session of our own protocol, and does not wait for the answer.
fn knock(gateway: &Gateway, user: u64) -> TcpStream {
    let mut stream = connect(gateway.address());
    let token = gateway.token(user, Issuer::Own);
    let request = format!(
        "GET /chat?token={token} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: imgate.v2\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("the request is taken");
    stream
}

/// Reads a 101, and nothing behind it.
fn read_101(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a 101 comes");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
}

/// Reads one unmasked frame: its opcode and its payload.
fn read_frame(stream: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    stream.read_exact(&mut head).expect("a frame comes");
    let len = match head[1] {
        126 => {
            let mut len = [0; 2];
            stream.read_exact(&mut len).expect("a length comes");
            usize::from(u16::from_be_bytes(len))
        }
        len => usize::from(len),
    };
    let mut payload = vec![0; len];
    stream.read_exact(&mut payload).expect("a payload comes");
    (head[0] & 0x0f, payload)
}

/// The next text, as JSON.
fn read_json(stream: &mut TcpStream) -> Value {
    let (opcode, payload) = read_frame(stream);
    assert_eq!(opcode, 1, "a text");
    serde_json::from_slice(&payload).expect("JSON")
}

/// The code of the close frame that comes next.
fn read_close(stream: &mut TcpStream) -> u16 {
    let (opcode, payload) = read_frame(stream);
    assert_eq!(opcode, 8, "a close frame: {}", String::from_utf8_lossy(&payload));
    u16::from_be_bytes([payload[0], payload[1]])
}

/// A session that waits for nothing more.
fn informed(gateway: &Gateway, user: u64) -> Client {
    let mut client = gateway.v2_at_once(user);
    client.ready();
    client
}

/// Waits until `watcher` is told that `user` is online: the session is in full use.
fn see_online(watcher: &mut Client, user: u64) {
    watcher.send(&json!({"cmd": 7, "users": [user]}));
    while watcher.wait_for(7)["rows"] != json!([{"userid": user, "online": true}]) {}
}

#[test]
fn a_late_store_holds_up_no_101_and_everything_comes_in_order() {
    let Some(server) = Server::shared() else { return };
    let (gateway, database) = gateway(server, Tuning::default().welcome_ms_max, &[]);
    let group = gateway.group(1, &[2, 3]);
    let mut author = informed(&gateway, 1);
    author.say_acked(11, group, "c1", "1");

    let held = Lock::of(server, &database, "users");
    let mut late = gateway.v2_at_once(2);
    let url = format!("ws://{}/chat?id=3&token={}", gateway.address(), gateway.token(3, Issuer::FastIm));
    let mut page = Client::open(connect(gateway.address()), &url, &[]).expect("a 101");
    late.send(&json!({"cmd": 0}));
    for n in 2..=20 {
        author.say_acked(11, group, &format!("c{n}"), &n.to_string());
    }
    drop(held);

    // Nothing was told live before the user was known: what was missed is in the list.
    assert_eq!(late.ready()["convs"][0]["head"], 20);
    author.say_acked(11, group, "c21", "21");
    while late.json()["content"] != "21" {}
    assert_eq!(page.text(), "welcome!");
    for n in 1..=21 {
        assert_eq!(page.json()["content"], n.to_string(), "what a page has missed comes first, in order");
    }
    assert_eq!((page.drain(), late.drain()), (vec![], vec![]), "nothing comes twice");
}

#[test]
fn a_client_that_gives_up_while_the_store_is_slow_ends_no_session_of_its_user() {
    let Some(server) = Server::shared() else { return };
    let (gateway, database) = gateway(server, Tuning::default().welcome_ms_max, &[("devices", "1")]);
    let mut here = informed(&gateway, 1);
    let held = Lock::of(server, &database, "users");
    let mut given_up = knock(&gateway, 1);
    read_101(&mut given_up);
    given_up.shutdown(Shutdown::Write).expect("connected");
    // What the kernel says of both it says at once, or in this order.
    here.send(&json!({"cmd": 0}));
    here.wait_for(0);
    drop(held);
    // Its end is read when it has opened.
    given_up.read_to_end(&mut Vec::new()).expect("what a session is told, and its end");
    here.say_acked(10, 2, "c1", "still here");
}

#[test]
fn nothing_overtakes_a_101_that_waits() {
    const MESSAGES: u64 = 40;
    let Some(server) = Server::shared() else { return };
    for coalesce in ["0", "5ms"] {
        let (gateway, database) = gateway(server, PATIENT, &[("coalesce", coalesce)]);
        let group = gateway.group(1, &[2]);
        let mut author = informed(&gateway, 1);
        let held = Lock::of(server, &database, "cursors");
        let mut late = knock(&gateway, 2);
        // The session is open, and its list of conversations does not come: its 101 leaves with what is said first.
        see_online(&mut author, 2);
        for n in 1..=MESSAGES {
            author.say(11, group, &format!("c{n}"), &n.to_string());
        }
        read_101(&mut late);
        for n in 1..=MESSAGES {
            assert_eq!(read_json(&mut late)["content"], n.to_string(), "complete, in order, nothing twice");
        }
        drop(held);
        assert_eq!(read_json(&mut late)["cmd"], 5);
    }
}

#[test]
fn who_goes_before_her_101_leaves_nothing_behind() {
    let Some(server) = Server::shared() else { return };
    let (gateway, database) = gateway(server, PATIENT, &[]);
    let group = gateway.group(1, &[2]);
    let mut author = informed(&gateway, 1);
    let held = Lock::of(server, &database, "cursors");
    let gone = knock(&gateway, 2);
    see_online(&mut author, 2);
    drop(gone);
    while author.wait_for(7)["rows"] != json!([{"userid": 2, "online": false}]) {}
    drop(held);
    // Its slot is another session's now, which gets a 101 of its own.
    let mut next = knock(&gateway, 2);
    read_101(&mut next);
    assert_eq!(read_json(&mut next)["cmd"], 5);
    author.say_acked(11, group, "c1", "hello");
    assert_eq!(read_json(&mut next)["content"], "hello");
}

#[test]
fn who_has_finished_sending_gets_her_101_too() {
    let gateway = Gateway::start(2, 2);
    for user in 1..=2 {
        let mut half = knock(&gateway, user);
        half.shutdown(Shutdown::Write).expect("a half-closed stream");
        read_101(&mut half);
    }
}

#[test]
fn a_store_that_fails_gives_a_101_and_a_close_frame() {
    let Some(mut server) = Server::start(&[]) else { return };
    let (gateway, _) = gateway(&server, Tuning::default().welcome_ms_max, &[]);
    server.kill();
    let mut late = gateway.v2_at_once(2);
    assert_eq!(late.closed(), CloseCode::Unavailable.code());
}

#[test]
fn a_stop_ends_who_still_waits_for_her_101() {
    let Some(server) = Server::shared() else { return };
    let (mut gateway, database) = gateway(server, PATIENT, &[]);
    let mut author = informed(&gateway, 1);
    let held = [Lock::of(server, &database, "cursors")];
    let mut open = knock(&gateway, 2);
    see_online(&mut author, 2);
    thread::scope(|scope| {
        // The store ends when its last read does.
        scope.spawn(move || {
            read_101(&mut open);
            assert_eq!(read_close(&mut open), CloseCode::Shutdown.code());
            drop(held);
        });
        gateway.stop();
    });
}
