//! simple-chatroom's `/chatroom` by real sockets: its exact frames, its guests that never read, and what is no message (docs/protocol.md).

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::support::{Client, Gateway, connect, exchange};

fn enter(gateway: &Gateway) -> Client {
    let url = format!("ws://{}/chatroom", gateway.address());
    Client::open(connect(gateway.address()), &url, &[("Origin", "null")]).expect("anybody may enter")
}

/// Enters and waits until the room hears: whoever hears herself hears everybody.
pub(crate) fn settled(gateway: &Gateway, name: &str) -> Client {
    let mut client = enter(gateway);
    client.send_text(&json!({"token": name, "content": "here"}).to_string());
    client.wait_for_text(&format!("{{\"token\":\"{name}\",\"content\":\"here\"}}\n"));
    client
}

#[test]
fn everybody_hears_exactly_what_the_original_sends() {
    let gateway = Gateway::start(3, 0);
    let mut guests: Vec<Client> = (0..6).map(|n| settled(&gateway, &format!("g{n}"))).collect();
    let said = "{\"content\":\"<b>&\\u2028\",\"TOKEN\":\"2026-11-20T21:57:56Z\",\"more\":[1]}\n";
    guests[0].send_text(said);
    for guest in &mut guests {
        guest.wait_for_text("{\"token\":\"2026-11-20T21:57:56Z\",\"content\":\"\\u003cb\\u003e\\u0026\\u2028\"}\n");
    }
    guests.pop().expect("six guests").close();
    assert_eq!(gateway.metric("imgate_users_online"), 0.0, "guests are no users");
}

#[test]
fn a_frame_that_is_no_message_ends_its_connection_without_a_word() {
    let gateway = Gateway::start(2, 0);
    let mut observer = settled(&gateway, "observer");
    for wrong in ["hello", "[]", "{\"token\":1}", "", "{\"content\":\"a\"b\"}"] {
        let mut guest = settled(&gateway, "guest");
        guest.send_text(wrong);
        guest.lost();
    }
    observer.send_text("{}");
    observer.wait_for_text("{\"token\":\"\",\"content\":\"\"}\n");
}

#[test]
fn strangers_at_the_door_of_the_room() {
    let gateway = Gateway::start(1, 1);
    let bare = exchange(gateway.address(), b"GET /chatroom HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(bare.starts_with("HTTP/1.1 400 ") && bare.ends_with("Bad Request\n"), "{bare}");
    let url = format!("ws://{}/chatroom", gateway.address());
    let mut guest = Client::open(connect(gateway.address()), &url, &[]).expect("without an Origin, too");
    guest.send_text("{\"token\":\"t\",\"content\":\"x\"}");
    guest.wait_for_text("{\"token\":\"t\",\"content\":\"x\"}\n");
    // The room's number is nobody's group.
    let mut user = gateway.v2(1);
    user.send(&json!({"cmd": 11, "dstid": 9_007_199_254_740_991u64, "cid": "c", "media": 1, "content": "x"}));
    assert_eq!(user.wait_for(2)["code"], 10);
}

/// A guest with a small buffer that never reads: the bytes of its frames go out whatever comes back.
fn deaf(gateway: &Gateway) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a socket option");
    socket.connect(&gateway.address().into()).expect("a connection");
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(crate::support::PATIENCE)).expect("a socket option");
    let upgrade = "GET /chatroom HTTP/1.1\r\nHost: x\r\nUser-Agent: Go-http-client/1.1\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).expect("the upgrade is taken");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the 101");
        head.extend(byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    stream
}

/// A masked text frame; the mask is zero, which the protocol allows.
fn frame(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).ok().filter(|&length| length < 126).expect("a short text");
    let mut out = vec![0x81, 0x80 | length, 0, 0, 0, 0];
    out.extend(text.as_bytes());
    out
}

#[test]
fn guests_who_never_read_are_heard_for_ever_and_nobody_waits_for_them() {
    let gateway = Gateway::start_with(2, 0, &[("outbox", "131072")], imgate::node::Tuning::default());
    let mut observer = settled(&gateway, "observer");
    let mut deaf: Vec<TcpStream> = (0..10).map(|_| deaf(&gateway)).collect();
    const ROUNDS: usize = 200;
    let filler = "x".repeat(70);
    for round in 0..ROUNDS {
        // Nine speak, the tenth never says anything. Each round is awaited, so that the observer is never the slow one.
        for (n, guest) in deaf.iter_mut().take(9).enumerate() {
            for i in 0..40 {
                let text = format!("{{\"token\":\"{n}\",\"content\":\"{round} {i} {filler}\"}}\n");
                guest.write_all(&frame(&text)).expect("a guest who does not read is heard");
            }
        }
        let mut next = [0; 9];
        for _ in 0..9 * 40 {
            let said = observer.text();
            let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
            let n: usize = said["token"].as_str().and_then(|n| n.parse().ok()).expect("a speaker");
            let place = &mut next[n];
            assert_eq!(said["content"], format!("{round} {place} {filler}"), "everything, in each speaker's order");
            *place += 1;
        }
    }
    assert!(gateway.metric("imgate_room_dropped_total") > 0.0, "those who do not read lose messages, counted");
    assert_eq!(gateway.metric("imgate_sessions"), 11.0, "and are not closed");
    let mut late = settled(&gateway, "late");
    observer.send_text("{\"content\":\"still quick\"}");
    late.wait_for_text("{\"token\":\"\",\"content\":\"still quick\"}\n");
}
