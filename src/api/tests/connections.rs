//! Connections of the public port: keep-alive, pages, limits, and the way back to the gate.

use std::io::{BufRead, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use super::rig::{Ask, FORM, PATIENCE, RETURNED_MAX, Rig};
use crate::api::Deadlines;
use crate::caller::Peer;
use crate::clock::Clock;
use crate::limits;
use crate::metrics::http::Refused;

const UPGRADE: &[(&str, &str)] = &[
    ("Connection", "keep-alive, Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

#[test]
fn pages_without_api() {
    let rig = Rig::start();
    let mut client = rig.client();
    let front = client.ask(Ask::get("/", &[]));
    assert_eq!((front.status, front.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(front.header("content-security-policy").is_some_and(|policy| policy.contains("default-src 'none'")));
    let tag = front.header("etag").expect("a tag").to_owned();
    assert_eq!(client.ask(Ask::get("/", &[("If-None-Match", &tag)])).status, 304);
    assert_eq!(
        client.ask(Ask::get("/sdk/imgate.js", &[])).header("content-type"),
        Some("text/javascript; charset=utf-8")
    );
    let none = client.ask(Ask::get("/favicon.ico", &[]));
    assert_eq!((none.status, none.body.as_str()), (404, "404 page not found\n"));
    let chat = client.ask(Ask::get("/chat?id=1&token=x", &[]));
    assert_eq!((chat.status, chat.body.as_str()), (400, "Bad Request\n"));
    assert_eq!(client.ask(Ask { method: "POST", ..Ask::get("/message/history", &[]) }).status, 405);
}

#[test]
fn a_kept_alive_connection_takes_request_after_request() {
    let rig = Rig::start();
    let mut client = rig.client();
    let find = Ask::form("/user/find", "id=1").text();
    for _ in 0..3 {
        client.send(find.as_bytes());
        assert_eq!(client.answer().at("/data/id"), 1);
    }
    // Pipelined, too.
    client.send(find.repeat(5).as_bytes());
    for _ in 0..5 {
        assert_eq!(client.answer().at("/data/id"), 1);
    }
    let last = client.ask(Ask { headers: &[FORM, ("Connection", "close")], ..Ask::form("/user/find", "id=2") });
    assert_eq!(last.at("/data/id"), 2);
    assert!(client.is_ended());
}

#[test]
fn an_upgrade_on_a_kept_alive_connection_goes_back_to_the_gate() {
    let rig = Rig::start();
    let mut client = rig.client();
    assert_eq!(client.ask(Ask::form("/user/find", "id=1")).at("/data/id"), 1);
    client.send(Ask::get("/chat?id=1&token=x%20y", UPGRADE).text().as_bytes());
    let (mut stream, read) = rig.returned.recv_timeout(PATIENCE).expect("the gate gets it");
    let expected = "GET /chat?id=1&token=x%20y HTTP/1.1\r\nhost: gate.example\r\nconnection: keep-alive, Upgrade\r\n\
        upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    assert_eq!(String::from_utf8_lossy(&read), expected);
    // The socket is whole: nothing was answered, and it speaks both ways. It is non-blocking, as
    // the gate expects.
    assert_eq!(stream.read(&mut [0]).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
    stream.set_nonblocking(false).expect("a socket");
    stream.write_all(b"from the gate").expect("open");
    client.send(b"to the gate");
    let (mut there, mut here) = ([0; 11], [0; 13]);
    stream.read_exact(&mut there).expect("open");
    client.stream.read_exact(&mut here).expect("open");
    assert_eq!((&there, &here), (b"to the gate", b"from the gate"));
}

#[test]
fn what_comes_behind_an_upgrade_goes_with_it_and_earlier_answers_are_not_lost() {
    let rig = Rig::start();
    let mut client = rig.client();
    let find = Ask::form("/user/find", "id=1").text();
    let behind = "\u{1}frames that did not wait for the 101";
    client.send((find.repeat(3) + &Ask::get("/chatroom", UPGRADE).text() + behind).as_bytes());
    let (_stream, read) = rig.returned.recv_timeout(PATIENCE).expect("the gate gets it");
    let read = String::from_utf8_lossy(&read).into_owned();
    assert!(read.starts_with("GET /chatroom HTTP/1.1\r\n"), "{read}");
    assert!(read.ends_with(&format!("\r\n\r\n{behind}")), "{read}");
    for _ in 0..3 {
        assert_eq!(client.answer().at("/data/id"), 1);
    }
}

#[test]
fn what_the_gate_did_not_want_does_not_come_back_to_it() {
    let rig = Rig::start();
    // The gate has seen a first request; sending it back would be a circle.
    let answer = rig.ask(Ask::get("/nowhere", UPGRADE));
    assert_eq!(answer.status, 404);
    assert!(rig.returned.try_recv().is_err());
}

#[test]
fn a_gate_without_room_is_a_503() {
    let rig = Rig::start();
    let upgrading = || {
        let mut client = rig.client();
        assert_eq!(client.ask(Ask::get("/", &[])).status, 200);
        client.send(Ask::get("/chat", UPGRADE).text().as_bytes());
        client
    };
    let kept: Vec<_> = (0..RETURNED_MAX).map(|_| upgrading()).collect();
    // Connections are served side by side: the gate is full when it has all of them, not when all
    // of them have asked.
    let clock = Clock::start();
    while rig.returned.len() < kept.len() {
        assert!(clock.now().mono_ms < 60_000, "the gate is given what asks for an upgrade");
        std::thread::yield_now();
    }
    assert_eq!(upgrading().answer().status, 503);
}

#[test]
fn limits_hold() {
    let rig = Rig::start();
    let long = format!("id=1&x={}", "y".repeat(limits::HTTP_BODY_BYTES_MAX));
    assert_eq!(rig.post("/user/find", &long).at("/code"), -1);
    let fits = format!("id=1&x={}", "y".repeat(limits::HTTP_BODY_BYTES_MAX - 7));
    assert_eq!(rig.post("/user/find", &fits).at("/data/id"), 1);
    let header = "z".repeat(limits::HEAD_BYTES_MAX);
    assert_eq!(rig.ask(Ask::get("/", &[("X-Long", &header)])).status, 431);
    let mut garbage = rig.client();
    garbage.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 no TLS here\r\n\r\n");
    assert_eq!(garbage.answer().status, 400);
    assert!(garbage.is_ended());
}

#[test]
fn nobody_waits_for_a_half_sent_request() {
    let rig = Rig::start();
    let mut half = rig.client();
    half.send(b"POST /user/find HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n");
    let mut body = rig.client();
    let form = Ask::form("/user/find", "id=7").text();
    let (sent, kept) = form.split_at(form.len() - 2);
    body.send(sent.as_bytes());
    assert_eq!(rig.post("/user/find", "id=1").at("/data/id"), 1);
    body.send(kept.as_bytes());
    assert_eq!(body.answer().at("/data/id"), 7);
    drop(half);
}

/// Deadlines that a test can wait for: one is short, the others never come.
fn short(which: impl FnOnce(&mut Deadlines, Duration)) -> Rig {
    let never = 2 * PATIENCE;
    let mut deadlines = Deadlines {
        head: never,
        idle: never,
        grace: Duration::ZERO,
        request: never,
        body: never,
        upload: never,
        stall: never,
    };
    which(&mut deadlines, Duration::from_millis(100));
    Rig::with(deadlines)
}

#[test]
fn a_head_that_does_not_come_ends_the_connection() {
    let rig = short(|deadlines, time| deadlines.head = time);
    let mut half = rig.client();
    half.send(b"POST /user/find HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n");
    assert_eq!(half.answer().status, 408);
    assert!(half.is_ended());
    assert_eq!(rig.http.refusals()[Refused::HeadTooSlow as usize], 1);
}

#[test]
fn an_idle_connection_lasts_as_long_as_is_announced() {
    let rig = short(|deadlines, time| deadlines.idle = 10 * time);
    let mut idle = rig.client();
    let answer = idle.ask(Ask::get("/", &[]));
    assert_eq!((answer.header("connection"), answer.header("keep-alive")), (Some("keep-alive"), Some("timeout=1")));
    assert!(idle.is_ended());
    let answer = rig.ask(Ask::get("/", &[("Connection", "close")]));
    assert_eq!((answer.header("connection"), answer.header("keep-alive")), (Some("close"), None));
}

#[test]
fn an_idle_connection_is_kept_for_a_request_that_was_sent_in_time() {
    let rig = short(|deadlines, time| (deadlines.idle, deadlines.grace) = (10 * time, 2 * PATIENCE));
    let mut proxy = rig.client();
    let announced = proxy.ask(Ask::get("/", &[])).header("keep-alive").map(ToOwned::to_owned);
    assert_eq!(announced.as_deref(), Some("timeout=1"));
    // The wait for bytes that do not come is the idle time, and a little more.
    proxy.stream.get_ref().set_read_timeout(Some(Duration::from_millis(1_100))).expect("a socket");
    let waited = proxy.stream.fill_buf().map(<[u8]>::len).map_err(|error| error.kind());
    assert_eq!(waited, Err(ErrorKind::WouldBlock), "it is still open");
    proxy.stream.get_ref().set_read_timeout(Some(PATIENCE)).expect("a socket");
    assert_eq!(proxy.ask(Ask::form("/user/find", "id=1")).at("/data/id"), 1);
}

#[test]
fn who_has_said_all_and_closes_its_side_gets_its_answers() {
    let rig = Rig::start();
    let find = Ask::form("/user/find", "id=1").text();
    for times in [1, 3] {
        let mut client = rig.client();
        client.send(find.repeat(times).as_bytes());
        client.stream.get_ref().shutdown(Shutdown::Write).expect("a socket");
        for _ in 0..times {
            assert_eq!(client.answer().at("/data/id"), 1);
        }
        assert!(client.is_ended());
    }
    let (_, token) = rig.user("13800000001");
    let mut upload = rig.client();
    let head = format!(
        "POST /api/v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: text/plain\r\n"
    );
    upload.send(format!("{head}Content-Length: 5\r\n\r\nhello").as_bytes());
    upload.stream.get_ref().shutdown(Shutdown::Write).expect("a socket");
    assert_eq!(upload.answer().status, 201);
    // What is cut off in the middle is no request.
    let mut cut = rig.client();
    cut.send(find.split_at(find.len() - 1).0.as_bytes());
    cut.stream.get_ref().shutdown(Shutdown::Write).expect("a socket");
    let mut rest = Vec::new();
    assert!(cut.stream.read_to_end(&mut rest).is_ok());
    assert!(!String::from_utf8_lossy(&rest).contains(" 200 "), "{rest:?}");
}

#[test]
fn http_1_0_is_told_for_how_long_its_connection_is_kept() {
    let rig = Rig::start();
    let mut old = rig.client();
    for _ in 0..2 {
        old.send(b"GET /api/v1/config HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
        let answer = old.answer();
        assert_eq!((answer.status, answer.header("connection")), (200, Some("keep-alive")));
        assert!(answer.header("keep-alive").is_some_and(|value| value.starts_with("timeout=")));
    }
    old.send(b"GET /api/v1/config HTTP/1.0\r\n\r\n");
    assert_eq!(old.answer().status, 200);
    assert!(old.is_ended());
}

#[test]
fn json_behind_a_byte_order_mark_is_json() {
    let rig = Rig::start();
    let body = "\u{feff}{\"mobile\":\"13800000001\",\"password\":\"none of theirs\"}";
    let json = [("Content-Type", "application/json")];
    let answer = rig.ask(Ask { method: "POST", body, ..Ask::get("/api/v1/login", &json) });
    assert_eq!(answer.status, 401, "{}", answer.body);
    let find = rig.ask(Ask { method: "POST", body: "\u{feff}{\"id\":1}", ..Ask::get("/user/find", &json) });
    assert_eq!(find.at("/data/id"), 1);
}

#[test]
fn a_body_that_does_not_come_is_a_408() {
    let rig = short(|deadlines, time| deadlines.body = time);
    for path in ["/user/find", "/api/v1/login"] {
        let mut slow = rig.client();
        slow.send(format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nid").as_bytes());
        assert_eq!(slow.answer().status, 408, "{path}");
        assert!(slow.is_ended());
    }
    assert_eq!(rig.http.refusals()[Refused::TooSlow as usize], 2);
}

#[test]
fn a_byte_of_a_body_now_and_then_is_a_408() {
    let rig = short(|deadlines, time| deadlines.body = 3 * time);
    let mut slow = rig.client();
    slow.stream.get_ref().set_read_timeout(Some(Duration::from_millis(20))).expect("a socket");
    slow.send(b"POST /user/find HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n");
    let clock = Clock::start();
    // The pause between two bytes is the wait for an answer, which ends the test.
    while slow.stream.fill_buf().is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
        assert!(clock.now().mono_ms < 60_000, "it is waited for as long as it likes");
        slow.send(b"x");
    }
    assert_eq!(slow.answer().status, 408);
}

#[test]
fn a_peer_that_never_reads_is_left_alone() {
    let rig = short(|deadlines, time| deadlines.stall = time);
    let mut deaf = rig.client();
    // The answers (about 300 B each) fill the sockets' buffers, then the requests do; a reset ends
    // the writing.
    let requests = Ask::get("/", &[]).text().repeat(1024);
    deaf.stream.get_mut().set_write_timeout(Some(PATIENCE)).expect("a socket");
    let ended = loop {
        if let Err(error) = deaf.stream.get_mut().write_all(requests.as_bytes()) {
            break error.kind();
        }
    };
    assert!(matches!(ended, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{ended:?}");
    assert_eq!(rig.ask(Ask::get("/", &[])).status, 200, "nobody else notices");
}

#[test]
fn a_peer_that_reads_a_byte_now_and_then_is_left_alone() {
    let rig = short(|deadlines, time| deadlines.stall = 3 * time);
    let mut slow = rig.client();
    // The wait for room, which there is none of, is the pause between two bytes: without it, a fast
    // machine reads byte by byte what a peer must at least read.
    slow.stream.get_ref().set_write_timeout(Some(Duration::from_millis(10))).expect("a socket");
    slow.stream.get_ref().set_read_timeout(Some(Duration::from_millis(10))).expect("a socket");
    let requests = Ask::get("/app/chat.js", &[]).text().repeat(1024);
    let clock = Clock::start();
    let mut byte = [0];
    // As many requests as the sockets take, over and over, and a byte of the answers in between.
    loop {
        assert!(clock.now().mono_ms < 60_000, "it is waited for as long as it likes");
        let _ = slow.stream.get_mut().read(&mut byte);
        match slow.stream.get_mut().write(requests.as_bytes()) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    assert_eq!(rig.http.refusals()[Refused::NotRead as usize], 1);
}

#[test]
fn a_length_that_is_far_too_large_is_refused_before_the_body_comes() {
    let rig = Rig::start();
    let declare = |path: &str, length: u64| {
        let mut client = rig.client();
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        client.send((head + "a=b").as_bytes());
        let answer = client.answer();
        assert_eq!(answer.header("connection"), Some("close"), "{path}");
        answer
    };
    for path in ["/user/login", "/api/v1/login", "/nowhere"] {
        assert_eq!(declare(path, 10_000_000_000).status, 413, "{path}");
    }
    assert!(declare("/api/v1/login", 100_000).body.contains(r#""code":"too_large""#));
    assert_eq!(declare("/user/login", 100_000).json(), r#"{"code":-1,"msg":"请求内容过大"}"#);
    assert_eq!(rig.http.refusals()[Refused::TooLarge as usize], 5);
}

#[test]
fn a_request_says_for_which_host_it_is_and_for_one_only() {
    let rig = Rig::start();
    for (head, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 200),
        ("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
    ] {
        let mut client = rig.client();
        client.send(head.as_bytes());
        assert_eq!(client.answer().status, status, "{head}");
        assert!(status == 200 || client.is_ended(), "{head}");
    }
}

#[test]
fn a_body_that_is_left_unread_ends_no_connection_that_goes_on() {
    let rig = Rig::start();
    let mut client = rig.client();
    for _ in 0..3 {
        let answer = client.ask(Ask { method: "POST", body: "nobody reads this", ..Ask::get("/nowhere", &[]) });
        assert_eq!(answer.status, 404);
        assert_eq!(client.ask(Ask::form("/user/find", "id=1")).at("/data/id"), 1);
    }
}

#[test]
fn a_body_that_comes_after_its_answer_is_no_request() {
    let rig = Rig::start();
    let mut client = rig.client();
    let body = "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n";
    for (head, status) in [("PATCH /api/v1/me", 401), ("DELETE /api/v1/me", 405), ("POST /nowhere", 404)] {
        let head = format!("{head} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ");
        client.send(format!("{head}{}\r\n\r\n", body.len()).as_bytes());
        let answer = client.answer();
        assert_eq!((answer.status, answer.header("connection")), (status, Some("keep-alive")));
        let (first, second) = body.split_at(body.len() / 2);
        client.send(first.as_bytes());
        client.send(second.as_bytes());
        assert_eq!(client.ask(Ask::form("/user/find", "id=1")).at("/data/id"), 1, "{status}");
    }
}

#[test]
fn a_body_that_may_come_or_not_or_have_any_length_ends_the_connection_with_its_refusal() {
    let rig = Rig::start();
    for (lines, body) in [
        ("Expect: 100-continue\r\nContent-Length: 5", "after"),
        ("Expect: 100-continue\r\nContent-Length: 5", ""),
        ("Transfer-Encoding: chunked", "5\r\nafter\r\n0\r\n\r\n"),
    ] {
        let mut client = rig.client();
        client.send(format!("PATCH /api/v1/me HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n").as_bytes());
        let answer = client.answer();
        assert_eq!((answer.status, answer.header("connection")), (401, Some("close")), "{lines}");
        client.send(body.as_bytes());
        if body.is_empty() {
            client.stream.get_ref().shutdown(Shutdown::Write).expect("a socket");
        }
        assert!(client.is_ended(), "{lines}");
    }
}

#[test]
fn a_stop_does_not_wait_for_half_a_head() {
    let mut rig = Rig::start();
    let mut client = rig.client();
    assert_eq!(client.ask(Ask::get("/", &[])).status, 200);
    // With the half of a second one, which is heard before the answer to the first is read.
    let first = Ask::get("/", &[]).text();
    client.send(format!("{first}GET / HT").as_bytes());
    assert_eq!(client.answer().status, 200);
    let clock = Clock::start();
    let cut = rig.api.take().expect("running").stop(PATIENCE);
    let took_ms = clock.now().mono_ms;
    assert_eq!(cut, 0, "nothing is under way");
    assert!(took_ms < limits::HEAD_MS_MAX / 2, "{took_ms} ms");
    assert_eq!(client.answer().status, 503, "it was not done");
    assert!(client.is_ended());
}

#[test]
fn stopping_answers_what_is_under_way_and_refuses_what_comes() {
    let mut rig = Rig::start();
    let mut idle = rig.client();
    assert_eq!(idle.ask(Ask::get("/", &[])).status, 200);
    let plane = rig.api.as_ref().expect("running").control_plane();
    rig.api.take().expect("running").stop(PATIENCE);
    assert!(idle.is_ended());
    let late = std::net::TcpStream::connect(rig.public).expect("the front still listens");
    assert!(
        plane.serve(crate::mesh::Wire { socket: late, tls: None }, Vec::new(), Peer::GONE).is_err(),
        "the gate can tell it 503"
    );
}

#[test]
fn a_request_with_two_lengths_is_the_last_of_its_connection() {
    let rig = Rig::start();
    let mut client = rig.client();
    let smuggled = "GET /api/v1/config HTTP/1.1\r\nHost: x\r\n\r\n";
    let head = "POST /user/find HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(format!("{head}0\r\n\r\n{smuggled}").as_bytes());
    let answer = client.answer();
    assert!(answer.status == 400 || answer.header("connection") == Some("close"), "{answer:?}");
    assert!(client.is_ended(), "what follows is not answered");
}

#[test]
fn a_body_in_chunks_leaves_the_connection_as_it_is_and_its_answer_says_for_how_long() {
    let rig = Rig::start();
    let mut client = rig.client();
    let head = "POST /user/find HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    for _ in 0..3 {
        client.send(format!("{head}Transfer-Encoding: Chunked\r\n\r\n4\r\nid=1\r\n0\r\n\r\n").as_bytes());
        let answer = client.answer();
        assert_eq!(answer.at("/data/id"), 1);
        assert_eq!((answer.header("connection"), answer.header("keep-alive")), (None, Some("timeout=75")));
    }
}

#[test]
fn a_transfer_coding_that_is_not_understood_is_a_501() {
    let rig = Rig::start();
    for (coding, status) in [
        ("gzip, chunked", 501),
        ("gzip\r\nTransfer-Encoding: chunked", 501),
        ("chunked, chunked", 501),
        // Where such a body ends nobody knows (RFC 9112, section 6.3).
        ("gzip", 400),
    ] {
        let mut client = rig.client();
        let head = format!("POST /api/v1/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: {coding}\r\n\r\n");
        client.send(format!("{head}0\r\n\r\n").as_bytes());
        assert_eq!(client.answer().status, status, "{coding}");
        assert!(client.is_ended(), "{coding}");
    }
    assert_eq!(rig.http.refusals()[Refused::Coding as usize], 3);
}

#[test]
fn a_body_in_a_content_coding_is_a_415() {
    let rig = Rig::start();
    let (_, token) = rig.user("1");
    let bearer = format!("Bearer {token}");
    let post = |target: &str, kind: &str, codings: &[&str]| {
        let mut headers = vec![("Authorization", bearer.as_str()), ("Content-Type", kind)];
        headers.extend(codings.iter().map(|coding| ("Content-Encoding", *coding)));
        let (method, body) = ("POST", "\x1f\x08 no such thing");
        let mut client = rig.client();
        let answer = client.ask(Ask { method, target, headers: &headers, body });
        if answer.status == 415 {
            assert_eq!(
                (answer.header("accept-encoding"), answer.header("connection")),
                (Some("identity"), Some("close"))
            );
            assert!(client.is_ended(), "{target}");
        }
        answer
    };
    for (target, kind) in [("/api/v1/login", "application/json"), ("/api/v1/files?name=a.png", "image/png")] {
        for codings in [&["gzip"][..], &["br"], &["identity, Deflate"], &["identity", "x"], &["\u{e9}"]] {
            let answer = post(target, kind, codings);
            assert!(answer.status == 415 && answer.body.contains(r#""code":"encoded""#), "{codings:?}: {answer:?}");
        }
        for codings in [&[][..], &["identity"], &["Identity", ""], &["identity, ,identity"]] {
            assert_ne!(post(target, kind, codings).status, 415, "{target} {codings:?}");
        }
    }
    for target in ["/user/login", "/attach/upload", "/none"] {
        assert_eq!(post(target, FORM.1, &["gzip"]).status, 415, "{target}");
    }
    let empty = Ask::get("/", &[("Content-Encoding", "gzip")]);
    assert_eq!(rig.ask(empty).status, 200, "there is nothing to undo");
    assert_eq!(rig.http.refusals()[Refused::Coding as usize], 13);
}

#[test]
fn an_old_page_is_told_of_a_body_that_is_too_large() {
    let rig = Rig::start();
    let large = "x".repeat(limits::HTTP_BODY_BYTES_MAX + 1);
    for path in ["/user/login", "/user/register", "/user/find", "/contact/loadfriend", "/modification"] {
        assert_eq!(rig.post(path, &large).json(), r#"{"code":-1,"msg":"请求内容过大"}"#, "{path}");
    }
}
