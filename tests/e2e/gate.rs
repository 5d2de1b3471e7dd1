//! Strangers at the port: every byte gets a defined answer and touches nobody else.

use std::io::{Read, Write};
use std::net::Shutdown;

use imgate::auth::Issuer;
use imgate::node::{Node, Tuning};
use serde_json::json;

use crate::support::{Client, Gateway, V2, config, connect, exchange};

const UPGRADE: &str = "Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn status(answer: &str) -> &str {
    answer.lines().next().unwrap_or_default()
}

#[test]
fn refusals_are_those_of_the_contract() {
    let gateway = Gateway::start(2, 1);
    let ask = |request: String| exchange(gateway.address(), request.as_bytes());
    let forbidden = ask(format!("GET /chat?id=1&token=wrong HTTP/1.1\r\n{UPGRADE}\r\n"));
    assert_eq!(status(&forbidden), "HTTP/1.1 403 Forbidden");
    assert!(
        forbidden.ends_with("\r\n\r\nForbidden\n") && forbidden.contains("Sec-Websocket-Version: 13\r\n"),
        "{forbidden}"
    );
    assert_eq!(status(&ask(format!("POST /chat HTTP/1.1\r\n{UPGRADE}\r\n"))), "HTTP/1.1 405 Method Not Allowed");
    assert_eq!(status(&ask("GET /chat HTTP/1.1\r\nHost: x\r\n\r\n".to_owned())), "HTTP/1.1 400 Bad Request");
    let nowhere = ask(format!("GET /nowhere HTTP/1.1\r\n{UPGRADE}Connection: close\r\n\r\n"));
    assert!(status(&nowhere).starts_with("HTTP/1.1 4"), "{nowhere}");
    let page = ask("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned());
    assert_eq!(status(&page), "HTTP/1.1 200 OK");
}

#[test]
fn what_the_gate_answers_to_head_has_no_content_and_everything_has_a_date() {
    let gateway = Gateway::start(2, 1);
    let large = format!("X: {}\r\n", "y".repeat(20_000));
    let upgrade = UPGRADE.to_owned();
    for (target, headers) in [("/chat", "Host: x\r\n"), ("/", large.as_str()), ("/chat", upgrade.as_str()), ("/", "")] {
        let ask = |method: &str| {
            exchange(
                gateway.address(),
                format!("{method} {target} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n").as_bytes(),
            )
        };
        for method in ["GET", "HEAD"] {
            let answer = ask(method);
            let (head, content) = answer.split_once("\r\n\r\n").expect("a head");
            let value = |name: &str| {
                let lines = head.lines().filter_map(|line| line.split_once(": "));
                lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
            };
            assert!(head.starts_with("HTTP/1.1 4"), "{answer}");
            assert!(value("date").is_some_and(|date| date.ends_with(" GMT")), "{method} {target}: {answer}");
            let length = value("content-length").and_then(|text| text.parse::<usize>().ok());
            if method == "HEAD" {
                assert_eq!(content, "", "{target}: {answer}");
            } else {
                assert_eq!(length, Some(content.len()), "{target}: {answer}");
            }
        }
    }
}

#[test]
fn a_v2_client_with_a_bad_token_is_closed_with_4501() {
    let gateway = Gateway::start(2, 1);
    let url = format!("ws://{}/chat?token=wrong", gateway.address());
    let mut client = Client::open(connect(gateway.address()), &url, &[V2]).expect("101");
    assert_eq!(client.closed(), 4501);
    assert_eq!(gateway.metric("imgate_sessions"), 0.0, "no session is made");
}

#[test]
fn garbage_is_answered_and_nobody_else_notices() {
    let gateway = Gateway::start(2, 2);
    let (mut a, mut b) = (gateway.v2(1), gateway.v2(2));
    let huge_head = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(100_000)).into_bytes();
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1000)).into_bytes();
    let garbage: [(&[u8], &str); 6] = [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "HTTP/1.1 400 Bad Request"),
        (b"\0\0\0\0\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        (b"GET / HTTP/3.7\r\n\r\n", "HTTP/1.1 400 Bad Request"),
        (b"\xff\xff\xff\xff", "HTTP/1.1 400 Bad Request"),
        (&huge_head, "HTTP/1.1 431 Request Header Fields Too Large"),
        (&many_headers, "HTTP/1.1 431 Request Header Fields Too Large"),
    ];
    for (n, (bytes, wanted)) in garbage.into_iter().enumerate() {
        assert_eq!(status(&exchange(gateway.address(), bytes)), wanted, "garbage {n}");
        assert_eq!(a.say_acked(10, 2, &format!("c{n}"), "still here")["seq"], n + 1);
        assert_eq!(b.wait_for(10)["seq"], n + 1);
    }
}

#[test]
fn broken_frames_are_closed_with_their_code() {
    let gateway = Gateway::start(2, 1);
    let token = gateway.token(1, Issuer::FastIm);
    let upgrade = format!("GET /chat?id=1&token={token} HTTP/1.1\r\n{UPGRADE}\r\n");
    let cases: [(&[u8], u16); 5] = [
        (b"\x81\x02hi", 1002),
        (b"\xc1\x80abcd", 1002),
        (b"\x83\x80abcd", 1002),
        (b"\x81\x81\0\0\0\0\xff", 1007),
        (b"\x82\xff\0\0\0\0\x7f\xff\xff\xffabcd", 1009),
    ];
    for (frame, code) in cases {
        let mut stream = connect(gateway.address());
        // The frame comes with the request: it is kept until the session is open.
        stream.write_all(&[upgrade.as_bytes(), frame].concat()).expect("the request is taken");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the server ends the stream in order");
        let close = [&[0x88][..], &[], &code.to_be_bytes()].concat();
        let found = answer.windows(4).any(|w| w[0] == close[0] && w[2..] == close[1..]);
        assert!(found, "{frame:?} should be closed with {code}: {answer:?}");
    }
}

#[test]
fn a_half_sent_request_ends_at_the_deadline() {
    let gateway = Gateway::start_with(2, 2, &[], Tuning { head_ms_max: 2_000, ..Tuning::default() });
    let mut half = connect(gateway.address());
    half.write_all(b"GET /chat HTTP/1.1\r\nHost:").expect("taken");
    let mut silent = connect(gateway.address());
    let mut slow = connect(gateway.address());
    slow.write_all(b"G").expect("taken");
    // Meanwhile others chat.
    let (mut a, mut b) = (gateway.v2(1), gateway.v2(2));
    a.say_acked(10, 2, "c", "hello");
    assert_eq!(b.wait_for(10)["content"], "hello");
    for stream in [&mut half, &mut slow] {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the server ends the stream");
        assert_eq!(status(&answer), "HTTP/1.1 408 Request Timeout");
    }
    let mut answer = String::new();
    silent.read_to_string(&mut answer).expect("the server ends the stream");
    assert_eq!(answer, "", "who says nothing is told nothing");
    // The sessions outlive the deadline of their heads.
    assert_eq!(a.say_acked(10, 2, "d", "still")["seq"], 2);
}

#[test]
fn a_head_may_come_byte_by_byte_and_half_closed() {
    let gateway = Gateway::start(2, 1);
    let token = gateway.token(1, Issuer::FastIm);
    let mut stream = connect(gateway.address());
    for byte in format!("GET /chat?id=1&token={token} HTTP/1.1\r\n{UPGRADE}\r\n").bytes() {
        stream.write_all(&[byte]).expect("taken");
    }
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 101");

    let mut stream = connect(gateway.address());
    stream.write_all(b"garbage\r\n\r\n").expect("taken");
    stream.shutdown(Shutdown::Write).expect("a half-closed stream");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("whoever has finished sending still gets the answer");
    assert_eq!(status(&answer), "HTTP/1.1 400 Bad Request");
}

#[test]
fn a_kept_alive_http_connection_may_become_a_session() {
    let gateway = Gateway::start(2, 8);
    for user in 1..=8 {
        let mut stream = connect(gateway.address());
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("taken");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a response");
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).expect("ASCII").to_ascii_lowercase();
        let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        let mut body = vec![0; len.parse().expect("a number")];
        stream.read_exact(&mut body).expect("a body");
        let url = format!("ws://{}/chat?token={}", gateway.address(), gateway.token(user, Issuer::Own));
        let mut client = Client::open(stream, &url, &[V2]).expect("101");
        client.send(&json!({"cmd": 0}));
        assert!(client.wait_for(0)["ts"].is_u64());
    }
}

#[test]
fn the_close_handshake_ends_both_ways() {
    let gateway = Gateway::start(2, 4);
    for user in 1..=4 {
        gateway.v2(user).close();
        gateway.legacy(user, Issuer::FastIm).close();
        drop(gateway.v2(user));
    }
}

#[test]
fn after_both_close_frames_the_gateway_waits_for_nothing() {
    let gateway = Gateway::start(2, 2);
    for user in [1, 2] {
        let mut stream = connect(gateway.address());
        let token = gateway.token(user, Issuer::Own);
        let request = format!("GET /chat?token={token} HTTP/1.1\r\n{UPGRADE}Sec-WebSocket-Protocol: imgate.v2\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("the request is taken");
        let mut heard = Vec::new();
        let mut buffer = [0; 4096];
        while !heard.windows(7).any(|bytes| bytes == b"\"cmd\":5") {
            let n = stream.read(&mut buffer).expect("the list of conversations");
            assert!(n > 0, "closed after {}", String::from_utf8_lossy(&heard));
            heard.extend_from_slice(&buffer[..n]);
        }
        assert!(heard.starts_with(b"HTTP/1.1 101 "), "nothing leaves before the 101");

        stream.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]).expect("our close frame is taken");
        let mut last = Vec::new();
        stream.read_to_end(&mut last).expect("the end of the stream, and no reset");
        assert!(last.ends_with(&[0x88, 0x02, 0x03, 0xe8]), "its close frame comes before: {last:?}");
        // Our end is still open, but nobody is there any more: the first byte is answered with a reset, so that the second cannot be sent.
        let refused = (0..1000).any(|_| stream.write_all(b"x").is_err());
        assert!(refused, "the socket is closed, not half of it");
    }
}

#[test]
fn the_process_takes_no_more_connections_than_it_may() {
    let gateway = Gateway::start_with(2, 4, &[("max_connections", "3")], Tuning::default());
    let sessions: Vec<Client> = (1..=3).map(|user| gateway.v2(user)).collect();
    let mut refused = connect(gateway.address());
    let mut answer = String::new();
    let _ = refused.read_to_string(&mut answer);
    assert_eq!(status(&answer), "HTTP/1.1 503 Service Unavailable");
    drop(sessions);
}

#[test]
fn a_second_gateway_on_the_same_port_or_data_is_refused() {
    let gateway = Gateway::start(2, 0);
    let data = tempfile::tempdir().expect("a temporary directory");
    let address = gateway.address().to_string();
    let mut second = config(data.path(), 2, &[]);
    second.listen = vec![address.parse().expect("an address")];
    let error = Node::start(&second, Tuning::default()).err().expect("the port is taken");
    assert!(format!("{error:#}").contains(&address), "{error:#}");
    let third = config(gateway.data(), 2, &[]);
    let error = Node::start(&third, Tuning::default()).err().expect("the data are locked");
    assert!(format!("{error:#}").contains("another gateway"), "{error:#}");
}

#[test]
fn the_hidden_echo_route_echoes() {
    let gateway = Gateway::start_with(2, 0, &[("echo", "true")], Tuning::default());
    let url = format!("ws://{}/echo", gateway.address());
    let mut client = Client::open(connect(gateway.address()), &url, &[]).expect("101");
    for len in [0, 1, 125, 126, 65_535, 65_536, 3_000_000] {
        let text = "é".repeat(len);
        client.send_text(&text);
        assert_eq!(client.text(), text);
    }
    assert_eq!(client.drain(), [""; 0]);
    client.close();
}

#[test]
fn a_device_that_comes_back_takes_the_place_of_its_old_connection() {
    let gateway = Gateway::start(2, 1);
    let as_device = |name: &str| {
        let token = gateway.token(1, Issuer::FastIm);
        let url = format!("ws://{}/chat?token={token}&device=phone&device_id={name}", gateway.address());
        Client::open(connect(gateway.address()), &url, &[V2]).expect("101").opened()
    };
    let (mut old, mut other) = (as_device("mine"), as_device("other"));
    let mut nameless = gateway.v2(1);
    let mut new = as_device("mine");
    assert_eq!(old.closed(), 4502);
    for client in [&mut other, &mut nameless, &mut new] {
        client.drain();
    }
    assert_eq!(gateway.metric("imgate_sessions"), 3.0);
}
