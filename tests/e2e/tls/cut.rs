//! Records that are cut: what has come of them, and what was not taken of them.

use std::time::{Duration, Instant};

use super::*;
use crate::greed::watch;

const INBOUND: &str = "imgate_inbound_bytes";
const ENDED: &str = "imgate_inbound_ended_total";
const SLOW: &str = r#"imgate_inbound_ended_total{why="slow"}"#;
const OUTBOX: &str = "imgate_outbox_bytes";

fn gateway(users: u64, records: &str, message_ms_max: u64) -> Secure {
    let tuning = Tuning { message_ms_max, ..Tuning::default() };
    Secure::start_changed(1, users, &[("tls_records", records)], tuning, |_| {})
}

/// The code with which the session is closed.
fn closed(ws: &mut WebSocket<Stream>) -> u16 {
    loop {
        match ws.read() {
            Ok(Message::Close(Some(frame))) => return frame.code.into(),
            Ok(_) => {}
            Err(error) => panic!("not closed: {error}"),
        }
    }
}

/// A guest's has no other end: it may be silent as long as it likes.
#[test]
fn half_a_record_has_the_time_of_a_message() {
    for records in ["own", "rustls"] {
        let secure = gateway(1, records, 1_000);
        let Session(session) = secure.session(1);
        let room = "wss://localhost/chatroom".into_client_request().expect("a good URL");
        let (guest, _) = tungstenite::client(room, secure.connect()).expect("the upgrade is accepted");
        for mut ws in [session, guest] {
            ws.get_mut().sock.write_all(&[0x17, 0x03, 0x03, 0x40, 0x00, 1, 2, 3]).expect("it is taken");
            assert_eq!(closed(&mut ws), 1008, "{records}");
        }
        assert_eq!(secure.gateway.metric(SLOW), 2.0, "{records}");
        watch(&secure.gateway, INBOUND, |bytes| bytes == 0.0);
    }
}

/// Of the record that it has begun each read sees the end, and the beginning of the next.
#[test]
fn whoever_sends_on_may_always_be_amid_a_record() {
    // So long that a busy machine does not stand still for it.
    let secure = gateway(1, "own", 4_000);
    let Session(mut ws) = secure.session(1);
    let stream = ws.get_mut();
    let mut rest = Vec::new();
    let began = Instant::now();
    // So that it is pace, not work: nothing answers a pong.
    stream.sock.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket option");
    while began.elapsed() < Duration::from_secs(6) {
        stream.conn.writer().write_all(&[0x8a, 0x80, 0, 0, 0, 0]).expect("it is taken");
        let mut wire = std::mem::take(&mut rest);
        let whole = wire.len();
        stream.conn.write_tls(&mut wire).expect("it is taken");
        rest = wire.split_off(whole + 9);
        stream.sock.write_all(&wire).expect("it is taken");
        assert!(stream.sock.peek(&mut [0]).is_err(), "nothing is said to it");
    }
    stream.sock.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    stream.sock.write_all(&rest).expect("it is taken");
    let mut session = Session(ws);
    session.send(&json!({"cmd": 0}));
    session.wait_for(|message| message["cmd"] == 0);
    assert_eq!(secure.gateway.metric(SLOW), 0.0);
}

/// A socket that takes little.
fn narrow(secure: &Secure) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a socket option");
    socket.connect_timeout(&secure.address().into(), PATIENCE).expect("the gateway accepts");
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    socket
}

/// What a reader has not taken of a record is not something that it has begun to send.
#[test]
fn what_slow_readers_have_not_taken_is_of_their_budget() {
    const READERS: u64 = 40;
    for records in ["own", "rustls"] {
        let settings = [("tls_records", records), ("send_buffer", "16KiB")];
        let budget = |config: &mut Config| config.outbox_budget = 128 * 1024;
        let secure = Secure::start_changed(1, READERS + 1, &settings, Tuning::default(), budget);
        let members: Vec<u64> = (2..=READERS + 1).collect();
        let group = secure.gateway.group(1, &members);
        let _slow: Vec<_> = members.iter().map(|&user| secure.session_by(narrow(&secure), user)).collect();
        let mut author = secure.gateway.v2(1);
        let content = "x".repeat(3_900);
        let mut said = 0;
        while secure.gateway.metric(r#"imgate_slow_closed_total{why="budget"}"#) == 0.0 {
            said += 1;
            assert!(said < 2_000, "{} bytes", secure.gateway.metric(OUTBOX));
            author.say_acked(11, group, &said.to_string(), &content);
            assert_eq!(secure.gateway.metric(INBOUND), 0.0, "{records}: they have sent nothing");
        }
        watch(&secure.gateway, OUTBOX, |bytes| bytes <= 128.0 * 1024.0 + 64.0 * 1024.0);
        assert_eq!(secure.gateway.metric(&format!(r#"{ENDED}{{why="budget"}}"#)), 0.0, "{records}");
    }
}
