//! Compressed messages (RFC 7692) over real sockets: what is agreed upon, who gets what in which form, what clients send,
//! and what they may not send.
//!
//! The client's side is flate2's. Every wait has a deadline.

use std::io::{Read, Write};
use std::net::TcpStream;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use imgate::auth::Issuer;
use imgate::limits::{INFLATED_FREE_BYTES, MESSAGE_BYTES_MAX};
use imgate::node::Tuning;
use imgate::ws::frame;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::support::{Gateway, PATIENCE, connect, exchange};

pub(crate) const OFFER: &str = "permessage-deflate; client_max_window_bits";
const ANSWER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

fn start(shards: u16, users: u64) -> Gateway {
    Gateway::start_with(shards, users, &[("compression", "on")], Tuning::default())
}

/// Prose of so many bytes, another for each seed.
pub(crate) fn prose(seed: u64, len: usize) -> String {
    let words = ["and ", "the gateway ", "says ", "to all members ", "of a group, ", "again; ", "hello ", "0123 "];
    let mut at = seed * 7 + 1;
    let mut out = String::new();
    while out.len() < len {
        at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        out.push_str(words[(at >> 61) as usize]);
    }
    out.truncate(len);
    out
}

fn deflate(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 64);
    let mut state = Compress::new(Compression::new(6), false);
    state.compress_vec(message, &mut out, FlushCompress::Sync).expect("a vector has room");
    out.truncate(out.len() - 4);
    out
}

fn inflate(payload: &[u8]) -> Vec<u8> {
    let whole = [payload, &[0, 0, 0xff, 0xff]].concat();
    let (mut out, mut rest, mut state) = (Vec::with_capacity(1 << 20), &whole[..], Decompress::new(false));
    while !rest.is_empty() {
        let before = state.total_in();
        let status = state.decompress_vec(rest, &mut out, FlushDecompress::Sync).expect("a compressed message");
        rest = &rest[usize::try_from(state.total_in() - before).expect("small")..];
        if status == Status::StreamEnd {
            state.reset(false);
        }
    }
    out
}

/// A client that writes and reads frames itself.
pub(crate) struct Peer<S> {
    stream: S,
    bytes: Vec<u8>,
    /// The answer to its offer.
    pub(crate) answer: Option<String>,
}

impl<S: Read + Write> Peer<S> {
    fn upgrade(mut stream: S, target: &str, headers: &[(&str, &str)]) -> Result<Self, String> {
        let mut request = format!(
            "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).expect("the request is taken");
        let mut peer = Self { stream, bytes: Vec::new(), answer: None };
        let head = loop {
            if let Some(end) = peer.bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                let rest = peer.bytes.split_off(end + 4);
                break String::from_utf8(std::mem::replace(&mut peer.bytes, rest)).expect("ASCII");
            }
            peer.read();
        };
        if !head.starts_with("HTTP/1.1 101 ") {
            return Err(head);
        }
        let value = |line: &str| line.strip_prefix("Sec-WebSocket-Extensions: ").map(str::to_owned);
        peer.answer = head.lines().find_map(value);
        Ok(peer)
    }

    fn read(&mut self) {
        let mut more = [0; 16 * 1024];
        let read = self.stream.read(&mut more).expect("bytes in time");
        assert!(read > 0, "the end of the stream, after {:x?}", self.bytes);
        self.bytes.extend_from_slice(&more[..read]);
    }

    /// The next frame: its first byte and payload.
    fn frame(&mut self) -> (u8, Vec<u8>) {
        loop {
            if let [first, second, rest @ ..] = self.bytes.as_slice() {
                let (header, len) = match (second, rest) {
                    (126, [a, b, ..]) => (4, usize::from(u16::from_be_bytes([*a, *b]))),
                    (127, [a, b, c, d, e, f, g, h, ..]) => {
                        (10, u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]) as usize)
                    }
                    (126 | 127, _) => (2, usize::MAX >> 1),
                    (len, _) => (2, usize::from(*len)),
                };
                if self.bytes.len() >= header + len {
                    let (first, payload) = (*first, self.bytes[header..header + len].to_vec());
                    self.bytes.drain(..header + len);
                    return (first, payload);
                }
            }
            self.read();
        }
    }

    /// The next message that is no ping, inflated, and whether it was compressed.
    fn message(&mut self) -> (bool, String) {
        loop {
            let (first, payload) = self.frame();
            match first {
                0x81 => return (false, String::from_utf8(payload).expect("UTF-8")),
                0xC1 => return (true, String::from_utf8(inflate(&payload)).expect("UTF-8")),
                0x89 => self.send(0x8A, &payload),
                0x8A => {}
                other => panic!("{other:#x}: {payload:?}"),
            }
        }
    }

    /// The next chat message or answer of this `cmd`.
    pub(crate) fn wait_for(&mut self, cmd: u64) -> (bool, Value) {
        loop {
            let (deflated, text) = self.message();
            let message: Value = serde_json::from_str(&text).expect("JSON");
            if message["cmd"] == cmd {
                return (deflated, message);
            }
        }
    }

    /// The code of the close frame that comes next but one or two.
    fn close_code(&mut self) -> u16 {
        loop {
            if let (0x88, payload) = self.frame() {
                return u16::from_be_bytes([payload[0], payload[1]]);
            }
        }
    }

    fn send(&mut self, first: u8, payload: &[u8]) {
        let mut out = Vec::new();
        frame::write_masked(&mut out, first & 0x0F, payload, [1, 2, 3, 4]);
        out[0] = first;
        self.stream.write_all(&out).expect("the frame is taken");
    }

    fn say(&mut self, message: &Value) {
        self.send(0x81, message.to_string().as_bytes());
    }

    pub(crate) fn say_deflated(&mut self, message: &Value) {
        self.send(0xC1, &deflate(message.to_string().as_bytes()));
    }

    /// Past its opening.
    fn opened(mut self) -> Self {
        self.say(&json!({"cmd": 0}));
        let (deflated, _) = self.wait_for(0);
        assert!(!deflated, "heartbeats are plain");
        self
    }
}

/// A session of our own protocol.
fn session(gateway: &Gateway, user: u64, offer: Option<&str>) -> Peer<TcpStream> {
    session_by(connect(gateway.address()), gateway, user, offer)
}

pub(crate) fn session_by<S: Read + Write>(stream: S, gateway: &Gateway, user: u64, offer: Option<&str>) -> Peer<S> {
    let target = format!("/chat?token={}", gateway.token(user, Issuer::Own));
    let mut headers = vec![("Sec-WebSocket-Protocol", "imgate.v2")];
    headers.extend(offer.map(|offer| ("Sec-WebSocket-Extensions", offer)));
    Peer::upgrade(stream, &target, &headers).expect("101").opened()
}

pub(crate) fn post(cid: u64, kind: u64, dst: u64, content: &str) -> Value {
    json!({"cmd": kind, "dstid": dst, "cid": cid.to_string(), "media": 1, "content": content})
}

/// The value of a sample with labels.
fn sample(gateway: &Gateway, name: &str) -> f64 {
    let page = exchange(gateway.admin(), b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {page}"))
}

#[test]
fn nothing_is_agreed_upon_unless_it_is_switched_on() {
    let gateway = Gateway::start(1, 1);
    let mut peer = session(&gateway, 1, Some(OFFER));
    assert_eq!(peer.answer, None);
    peer.say_deflated(&json!({"cmd": 0}));
    assert_eq!(peer.close_code(), 1002);
    // Nor is the header looked at.
    assert_eq!(session(&gateway, 1, Some("; what is this")).answer, None);
}

#[test]
fn offers_find_the_answer_of_the_rfc_on_every_route() {
    let gateway = Gateway::start_with(1, 1, &[("compression", "on"), ("echo", "true")], Tuning::default());
    let token = gateway.token(1, Issuer::Own);
    let old = gateway.token(1, Issuer::ImChat);
    let nine = format!("{ANSWER}; server_max_window_bits=9");
    for target in
        [format!("/chat?token={token}"), format!("/chat?id=1&token={old}"), "/chatroom".into(), "/echo".into()]
    {
        let ask = |offers: &[&str]| {
            let headers: Vec<_> = offers.iter().map(|offer| ("Sec-WebSocket-Extensions", *offer)).collect();
            let origin = [("Origin", "null")];
            let v2 = [("Sec-WebSocket-Protocol", "imgate.v2")];
            let more = match target.as_str() {
                "/chatroom" => &origin[..],
                old if old.contains("id=1") => &[],
                _ => &v2,
            };
            Peer::upgrade(connect(gateway.address()), &target, &[&headers[..], more].concat()).map(|peer| peer.answer)
        };
        assert_eq!(ask(&[]), Ok(None), "{target}");
        assert_eq!(ask(&[OFFER]), Ok(Some(ANSWER.to_owned())), "{target}");
        assert_eq!(ask(&["permessage-deflate; server_max_window_bits=7"]), Ok(None), "{target}");
        let offers = ["permessage-deflate; x, foo", "permessage-deflate; server_max_window_bits=9, permessage-deflate"];
        assert_eq!(ask(&offers), Ok(Some(nine.clone())), "{target}");
        let refused = ask(&["permessage-deflate;"]).expect_err("malformed");
        assert!(refused.starts_with("HTTP/1.1 400 "), "{target}: {refused}");
    }
}

/// One compressed form of a message serves all who asked for it, and the others get it plain.
#[test]
fn a_group_is_told_in_two_forms_and_each_message_is_compressed_once() {
    let gateway = start(1, 12);
    let members: Vec<u64> = (2..=12).collect();
    let group = gateway.group(1, &members);
    let mut author = session(&gateway, 1, Some(OFFER));
    let narrow = "permessage-deflate; server_max_window_bits=9";
    let offer = |user: u64| [Some(OFFER), None, Some(narrow)][user as usize % 3];
    let mut readers: Vec<_> = members.iter().map(|&user| (user, session(&gateway, user, offer(user)))).collect();
    let lengths = [30, 400, 600, 1000, 5000];
    let texts: Vec<String> = (0..).zip(lengths).map(|(seed, len)| prose(seed, len)).collect();
    for (n, text) in (0..).zip(&texts) {
        author.say_deflated(&post(n, 11, group, text));
    }
    for text in &texts {
        for (user, reader) in &mut readers {
            let (deflated, message) = reader.wait_for(11);
            assert_eq!(message["content"], **text);
            let wanted = offer(*user) == Some(OFFER) && text.len() >= 512;
            assert_eq!(deflated, wanted, "user {user}, {} bytes", text.len());
        }
        let (deflated, _) = author.wait_for(1);
        assert!(!deflated, "acks are plain");
    }
    let made = sample(&gateway, "imgate_compressed_messages_total{outcome=\"shorter\"}");
    assert_eq!(made, 3.0, "one for each message of 512 bytes and more");
    let plain = sample(&gateway, "imgate_compressed_bytes_total{form=\"plain\"}");
    let compressed = sample(&gateway, "imgate_compressed_bytes_total{form=\"compressed\"}");
    assert!(plain > 6600.0 && compressed < plain * 0.6, "{plain} -> {compressed}");
    assert_eq!(gateway.metric("imgate_inflated_messages_total"), 5.0);
}

#[test]
fn shards_share_messages_and_pages_of_history_are_compressed() {
    let gateway = start(3, 9);
    let group = gateway.group(1, &(2..=9).collect::<Vec<_>>());
    let mut peers: Vec<_> = (1..=9).map(|user| session(&gateway, user, (user != 4).then_some(OFFER))).collect();
    for n in 0..8 {
        let text = prose(n, 700);
        let said = post(n, 11, group, &text);
        if n == 3 {
            peers[3].say(&said);
        } else {
            peers[n as usize].say_deflated(&said);
        }
        for (at, peer) in peers.iter_mut().enumerate() {
            if at != n as usize {
                let (deflated, message) = peer.wait_for(11);
                assert_eq!((message["content"].as_str(), deflated), (Some(text.as_str()), at != 3));
            }
        }
    }
    // A direct message to another shard, in both directions.
    for (from, to) in [(0, 1), (1, 0), (2, 5), (8, 3)] {
        let text = prose(100 + from as u64, 900);
        peers[from].say_deflated(&post(77, 10, to as u64 + 1, &text));
        let (deflated, message) = peers[to].wait_for(10);
        assert_eq!((message["content"].as_str(), deflated), (Some(text.as_str()), to != 3));
    }
    let made = sample(&gateway, "imgate_compressed_messages_total{outcome=\"shorter\"}");
    assert!((11.0..=8.0 * 3.0 + 3.0).contains(&made), "{made}: at most one on each shard");
    for (at, wanted) in [(0, true), (3, false)] {
        peers[at].say(&json!({"cmd": 4, "kind": 11, "dstid": group, "after": 0, "limit": 5}));
        let (deflated, page) = peers[at].wait_for(4);
        assert_eq!(deflated, wanted, "{page}");
        assert_eq!(page["rows"].as_array().map(Vec::len), Some(5), "{page}");
    }
}

#[test]
fn what_clients_compress_is_understood_however_it_comes() {
    let gateway = start(1, 2);
    let mut ann = session(&gateway, 1, Some(OFFER));
    let mut bob = session(&gateway, 2, Some(OFFER));
    let mut say = |n: u64, send: &dyn Fn(&mut Peer<TcpStream>, &[u8])| {
        let text = prose(n, 600);
        send(&mut ann, post(n, 10, 2, &text).to_string().as_bytes());
        let (_, message) = bob.wait_for(10);
        assert_eq!(message["content"], text);
    };
    say(1, &|ann, message| ann.send(0xC1, &deflate(message)));
    say(2, &|ann, message| ann.send(0x81, message));
    say(3, &|ann, message| ann.send(0xC2, &deflate(message)));
    // In fragments, with a ping in their midst, and an empty one.
    say(4, &|ann, message| {
        let payload = deflate(message);
        let (start, rest) = payload.split_at(10);
        ann.send(0x41, start);
        ann.send(0x89, b"ping");
        ann.send(0x00, b"");
        ann.send(0x80, rest);
    });
    // Stored, and with a last block.
    say(5, &|ann, message| {
        let len = u16::try_from(message.len()).expect("short").to_le_bytes();
        let stored = [&[0x00, len[0], len[1], !len[0], !len[1]], message, &[0]].concat();
        ann.send(0xC1, &stored);
    });
    say(6, &|ann, message| {
        let len = u16::try_from(message.len()).expect("short").to_le_bytes();
        ann.send(0xC1, &[&[0x01, len[0], len[1], !len[0], !len[1]], message, &[0]].concat());
    });
    // An empty message is no command, compressed or not.
    for payload in [&[0x00][..], &[]] {
        ann.send(0xC1, payload);
        assert_eq!(ann.wait_for(2).1["code"], 1, "malformed");
    }
    assert!(sample(&gateway, "imgate_inflated_bytes_total{form=\"compressed\"}") > 500.0);
}

#[test]
fn what_no_compressed_message_is_ends_the_connection_with_its_code() {
    let gateway = start(1, 1);
    let blanks = |len: usize| json!({"cmd": 0, "x": " ".repeat(len)}).to_string();
    let refuse = |code: u16, send: &dyn Fn(&mut Peer<TcpStream>)| {
        let mut peer = session(&gateway, 1, Some(OFFER));
        send(&mut peer);
        assert_eq!(peer.close_code(), code);
    };
    refuse(1007, &|peer| peer.send(0xC1, &[0xff; 30]));
    refuse(1007, &|peer| peer.send(0xC1, &deflate(b"{\"cmd\":0}")[..5]));
    refuse(1007, &|peer| peer.send(0xC1, &deflate(&[0xff, 0xfe, 0xfd])));
    refuse(1009, &|peer| peer.send(0xC1, &deflate(prose(1, MESSAGE_BYTES_MAX + 1).as_bytes())));
    refuse(1009, &|peer| peer.send(0xC1, &deflate(&vec![b' '; 64 << 20])));
    refuse(1009, &|peer| peer.send(0xC1, &deflate(blanks(MESSAGE_BYTES_MAX - 100).as_bytes())));
    refuse(1009, &|peer| peer.send(0xC2, &vec![0xff; MESSAGE_BYTES_MAX + 1]));
    refuse(1002, &|peer| peer.send(0xC9, b"ping"));
    refuse(1002, &|peer| peer.send(0xA1, b"x"));
    refuse(1002, &|peer| {
        peer.send(0x41, &[0]);
        peer.send(0xC0, &[0]);
    });
    let mut peer = session(&gateway, 1, Some(OFFER));
    peer.send(0xC1, &deflate(blanks(INFLATED_FREE_BYTES - 100).as_bytes()));
    peer.wait_for(0);
    for (reason, count) in [("damaged", 3.0), ("size", 2.0), ("ratio", 1.0)] {
        let name = format!("imgate_inflate_refused_total{{reason=\"{reason}\"}}");
        assert_eq!(sample(&gateway, &name), count, "{reason}");
    }
}

/// A socket that takes a compressed message or batch in pieces gets the rest of just that.
#[test]
fn a_slow_reader_gets_every_compressed_byte() {
    const MESSAGES: u64 = 600;
    let gateway = start(2, 3);
    let group = gateway.group(1, &[2, 3]);
    let mut author = session(&gateway, 1, None);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(64 * 1024).expect("a socket option");
    socket.connect_timeout(&gateway.address().into(), PATIENCE).expect("the gateway accepts");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    let mut slow = session_by(stream, &gateway, 2, Some(OFFER));
    let mut other = session(&gateway, 3, None);
    for n in 0..MESSAGES {
        author.say(&post(n, 11, group, &prose(n, 2000)));
    }
    for n in 0..MESSAGES {
        assert_eq!(other.wait_for(11).1["content"], prose(n, 2000), "message {n}");
    }
    for n in 0..MESSAGES {
        assert_eq!(slow.wait_for(11).1["content"], prose(n, 2000), "message {n}");
    }
}

#[test]
fn a_connection_that_was_http_before_is_compressed_too() {
    let gateway = start(3, 2);
    for user in 1..=2 {
        let mut stream = connect(gateway.address());
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").expect("the request is taken");
        let mut answer = Vec::new();
        while !answer.windows(4).any(|four| four == b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer");
            answer.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).expect("a length");
        stream.read_exact(&mut vec![0; length]).expect("the body");
        let mut peer = session_by(stream, &gateway, user, Some(OFFER));
        assert_eq!(peer.answer.as_deref(), Some(ANSWER));
        let text = prose(user, 800);
        peer.say_deflated(&post(user, 10, user, &text));
        assert_eq!(peer.wait_for(1).1["cid"], user.to_string());
        peer.say(&json!({"cmd": 4, "kind": 10, "dstid": user, "after": 0, "limit": 1}));
        let (deflated, page) = peer.wait_for(4);
        assert!(deflated && page["rows"][0]["content"] == text, "{page}");
    }
}

#[test]
fn old_pages_and_guests_may_compress() {
    let gateway = start(2, 2);
    let token = gateway.token(2, Issuer::ImChat);
    let headers = [("Sec-WebSocket-Extensions", OFFER), ("Origin", "null")];
    let target = format!("/chat?id=2&token={token}");
    let mut page = Peer::upgrade(connect(gateway.address()), &target, &headers[..1]).expect("101");
    let welcome = page.message().1;
    assert!(welcome == "welcome!" || welcome == "hello,world!", "{welcome}");
    let mut ann = session(&gateway, 1, None);
    let text = prose(5, 900);
    ann.say(&post(1, 10, 2, &text));
    let (deflated, message) = page.wait_for(10);
    assert!(deflated && message["content"] == text, "{message}");
    let mut guest = Peer::upgrade(connect(gateway.address()), "/chatroom", &headers).expect("101");
    let words = json!({"token": "guest", "content": prose(6, 900)});
    guest.send(0xC1, &deflate(words.to_string().as_bytes()));
    let (deflated, heard) = guest.message();
    assert!(deflated);
    assert_eq!(serde_json::from_str::<Value>(&heard).expect("JSON"), words);
}
