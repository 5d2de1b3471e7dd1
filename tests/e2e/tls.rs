//! TLS over real sockets: sessions of both protocols, the HTTP API, hand-over, readers that are
//! slow, tickets, and certificates that change.
//!
//! The clients are rustls' in front of tungstenite, OpenSSL's and Python's. Every wait has a deadline.

mod cut;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use imgate::auth::Issuer;
use imgate::config::{Config, FIELDS, Layers};
use imgate::node::{Node, Tuning};
use imgate_client::pipe::Tls;
use imgate_client::{Client, Conv, Event, Options};
use rustix::process::Signal;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

use crate::compression::{self, OFFER};
use crate::process::Process;
use crate::support::{self, Gateway, PATIENCE, connect, exchange};

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A gateway with a TLS address and whom its clients trust.
struct Secure {
    gateway: Gateway,
    files: tempfile::TempDir,
    certificate: CertificateDer<'static>,
}

/// A self-signed certificate for `localhost` and its key as `stem.pem` and `stem.key`.
pub(crate) fn write_pair(folder: &Path, stem: &str) -> CertificateDer<'static> {
    write_pair_for(folder, stem, "localhost")
}

fn write_pair_for(folder: &Path, stem: &str, name: &str) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("it is a name");
    fs::write(folder.join(format!("{stem}.pem")), made.cert.pem()).expect("the folder is ours");
    fs::write(folder.join(format!("{stem}.key")), made.signing_key.serialize_pem()).expect("the folder is ours");
    made.cert.der().clone()
}

impl Secure {
    fn start(shards: u16, users: u64, more: &[(&str, &str)]) -> Self {
        Self::start_changed(shards, users, more, Tuning::default(), |_| {})
    }

    fn start_changed(
        shards: u16,
        users: u64,
        more: &[(&str, &str)],
        tuning: Tuning,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let files = tempfile::tempdir().expect("a temporary directory");
        let certificate = write_pair(files.path(), "one");
        let path = |name: &str| files.path().join(name).to_str().expect("UTF-8").to_owned();
        let (pem, key) = (path("one.pem"), path("one.key"));
        let mut settings = vec![("listen_tls", "127.0.0.1:0"), ("tls_cert", &pem), ("tls_key", &key)];
        settings.extend(more);
        Self { gateway: Gateway::start_changed(shards, users, &settings, tuning, change), files, certificate }
    }

    fn address(&self) -> SocketAddr {
        self.gateway.tls()
    }

    fn connect(&self) -> Stream {
        self.connect_by(connect(self.address()), &self.certificate)
    }

    fn connect_by(&self, socket: TcpStream, trusted: &CertificateDer<'static>) -> Stream {
        encrypt(socket, &trusting(trusted), "localhost")
    }

    fn session(&self, user: u64) -> Session {
        self.session_by(connect(self.address()), user)
    }

    fn session_by(&self, socket: TcpStream, user: u64) -> Session {
        let token = self.gateway.token(user, Issuer::Own);
        let mut request = format!("wss://localhost/chat?token={token}").into_client_request().expect("a good URL");
        request.headers_mut().insert("Sec-WebSocket-Protocol", "imgate.v2".parse().expect("a good header"));
        let stream = self.connect_by(socket, &self.certificate);
        let (ws, response) = tungstenite::client(request, stream).expect("the upgrade is accepted");
        assert_eq!(response.status(), 101);
        let mut session = Session(ws);
        // Past its opening.
        session.send(&json!({"cmd": 0}));
        session.wait_for(|message| message["cmd"] == 0);
        session
    }

    /// Sends a request and reads until the server ends the connection.
    fn exchange(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).expect("the request is taken");
        let mut answer = Vec::new();
        // With a close_notify in front of the end, or it would be an error.
        stream.read_to_end(&mut answer).expect("the end is a regular one");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// A client that believes one certificate.
pub(crate) fn trusting(trusted: &CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).expect("it is a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("there are some")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

pub(crate) fn encrypt(socket: TcpStream, config: &Arc<ClientConfig>, name: &'static str) -> Stream {
    let name = name.try_into().expect("it is a name");
    StreamOwned::new(ClientConnection::new(Arc::clone(config), name).expect("it can be made"), socket)
}

/// A session of our own protocol.
struct Session(WebSocket<Stream>);

impl Session {
    fn send(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).expect("the message is taken");
    }

    fn say(&mut self, kind: u8, dst: u64, cid: &str, content: &str) {
        self.send(&json!({"cmd": kind, "dstid": dst, "cid": cid, "media": 1, "content": content}));
    }

    fn wait_for(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            match self.0.read().expect("a message in time") {
                Message::Text(text) => {
                    let message = serde_json::from_str(text.as_str()).expect("JSON");
                    if wanted(&message) {
                        return message;
                    }
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn hears(&mut self, content: &str) {
        self.wait_for(|message| message["content"] == content);
    }
}

/// With four shards, most sessions are handed over by the shard that made their handshake.
#[test]
fn sessions_over_tls_and_plain_ones_talk_to_each_other_with_both_record_layers() {
    for records in ["own", "rustls"] {
        let secure = Secure::start(4, 9, &[("tls_records", records)]);
        let mut plain = secure.gateway.v2(1);
        let mut others: Vec<(u64, Session)> = (2..10).map(|user| (user, secure.session(user))).collect();
        for (user, session) in &mut others {
            session.say(10, 1, &format!("from {user}"), &format!("from {user}"));
            while plain.json()["content"] != format!("from {user}") {}
            plain.say(10, *user, &format!("to {user}"), &format!("to {user}"));
            session.hears(&format!("to {user}"));
        }
        // New keys in both directions, and again: the gateway is asked for its own.
        let (user, session) = &mut others[0];
        for n in 0..3 {
            session.0.get_mut().conn.refresh_traffic_keys().expect("the version has them");
            session.say(10, 1, &format!("key {n}"), &format!("key {n}"));
            while plain.json()["content"] != format!("key {n}") {}
            plain.say(10, *user, &format!("new {n}"), &format!("new {n}"));
            session.hears(&format!("new {n}"));
        }
        // A long message is several records, and many short ones may share one.
        let long = "x".repeat(20_000);
        let (one, rest) = others.split_at_mut(1);
        let target = rest[0].0;
        one[0].1.say(10, target, "long", &long);
        rest[0].1.hears(&long);
        for (_, mut session) in others {
            session.0.close(None).expect("it is open");
            while session.0.read().is_ok() {}
        }
    }
}

#[test]
fn the_rust_client_talks_over_tls() {
    let secure = Secure::start(2, 2, &[]);
    let server = format!("localhost:{}", secure.address().port());
    let trusted = secure.files.path().join("one.pem");
    let [one, other] = [1, 2].map(|user| {
        let mut options = Options::new(&server, user, &secure.gateway.token(user, Issuer::Own));
        options.tls = Some(Tls::trusting(&trusted, &server).expect("a certificate"));
        Client::connect(options).expect("a thread")
    });
    let cid = one.post(Conv::Direct(2), "hello over TLS").expect("there is room");
    let until = |client: &Client, wanted: &dyn Fn(&Event) -> bool| {
        while !wanted(&client.next_within(PATIENCE).expect("the client goes on").expect("it comes in time")) {}
    };
    until(&one, &|event| matches!(event, Event::Sent { cid: sent, .. } if *sent == cid));
    until(&other, &|event| matches!(event, Event::Message { message, .. } if message.content() == "hello over TLS"));
}

#[test]
fn an_old_page_over_tls_is_welcomed() {
    let secure = Secure::start(2, 2, &[]);
    let token = secure.gateway.token(1, Issuer::FastIm);
    let url = format!("wss://localhost/chat?id=1&token={token}");
    let (mut ws, _) = tungstenite::client(url.as_str(), secure.connect()).expect("the upgrade is accepted");
    let welcome = ws.read().expect("a message in time");
    assert!(matches!(welcome.to_text(), Ok("welcome!" | "hello,world!")), "{welcome}");
}

#[test]
fn the_http_api_is_served_over_tls_with_cookies_for_it() {
    let secure = Secure::start(2, 0, &[("hsts", "30d")]);
    let form = "mobile=13800000001&password=secret&nickname=n";
    let length = form.len();
    let answer = secure.exchange(&format!(
        "POST /register HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nOrigin: https://localhost\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{form}"
    ));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let head = answer.split("\r\n\r\n").next().unwrap_or_default().to_ascii_lowercase();
    assert!(head.contains("strict-transport-security: max-age=2592000"), "{head}");
    assert!(head.contains("set-cookie: __host-imgate_") && head.contains("; secure"), "{head}");
    // Not on the plain port, where such a header would mean nothing and such a cookie would not come back.
    let plain = exchange(secure.gateway.address(), b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(plain.starts_with("HTTP/1.1 200 ") && !plain.to_ascii_lowercase().contains("strict-transport"), "{plain}");
}

/// A kept-alive connection goes to the control plane and comes back as an upgrade, with its session.
#[test]
fn a_kept_alive_connection_becomes_a_session() {
    let secure = Secure::start(2, 2, &[]);
    let mut stream = secure.connect();
    for _ in 0..3 {
        stream.write_all(b"GET /sdk/imgate.js HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("the request is taken");
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).expect("a head in time");
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).expect("ASCII").to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
        let mut body = vec![0; length.parse().expect("a number")];
        stream.read_exact(&mut body).expect("a body in time");
    }
    let token = secure.gateway.token(1, Issuer::Own);
    let mut request = format!("wss://localhost/chat?token={token}").into_client_request().expect("a good URL");
    request.headers_mut().insert("Sec-WebSocket-Protocol", "imgate.v2".parse().expect("a good header"));
    let (ws, _) = tungstenite::client(request, stream).expect("the upgrade is accepted");
    let mut session = Session(ws);
    session.send(&json!({"cmd": 0}));
    session.wait_for(|message| message["cmd"] == 0);
}

/// An end without a close_notify is an error to the client (`read_to_end`).
#[test]
fn a_kept_alive_connection_ends_with_a_close_notify() {
    let dial = |secure: &Secure, version| {
        let mut roots = RootCertStore::empty();
        roots.add(secure.certificate.clone()).expect("a certificate");
        let config = ClientConfig::builder_with_protocol_versions(&[version]).with_root_certificates(roots);
        encrypt(connect(secure.address()), &Arc::new(config.with_no_client_auth()), "localhost")
    };
    let one = |secure: &Secure, version| {
        let mut stream = dial(secure, version);
        stream.write_all(b"GET /api/v1/config HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("the request is taken");
        stream.read_exact(&mut [0]).expect("an answer");
        stream
    };
    for records in ["own", "rustls"] {
        let settings = [("tls_records", records), ("http_idle", "1s")];
        let mut secure = Secure::start(2, 0, &settings);
        let versions = [&rustls::version::TLS12, &rustls::version::TLS13];
        for mut stream in versions.map(|version| one(&secure, version)) {
            let ended = stream.read_to_end(&mut Vec::new());
            assert!(ended.is_ok(), "idle, {records}, {:?}: {ended:?}", stream.conn.protocol_version());
        }
        for second in
            ["nonsense\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"]
        {
            for mut stream in versions.map(|version| one(&secure, version)) {
                stream.write_all(second.as_bytes()).expect("the request is taken");
                let ended = stream.read_to_end(&mut Vec::new());
                assert!(ended.is_ok(), "{second}, {records}, {:?}: {ended:?}", stream.conn.protocol_version());
            }
        }
        let streams = versions.map(|version| one(&secure, version));
        // And one that has asked for nothing yet; in this version the gateway's word is the last one
        // of a handshake.
        let mut silent = dial(&secure, &rustls::version::TLS12);
        silent.conn.complete_io(&mut silent.sock).expect("a handshake");
        secure.gateway.stop();
        let ended = silent.read_to_end(&mut Vec::new());
        assert!(ended.is_ok(), "stopped without a request, {records}: {ended:?}");
        for mut stream in streams {
            let ended = stream.read_to_end(&mut Vec::new());
            assert!(ended.is_ok(), "stopped, {records}, {:?}: {ended:?}", stream.conn.protocol_version());
        }
    }
}

/// Its socket takes little, so records are cut again and again, and the group's batches are not for
/// it alone: it reads every message, in order, once.
#[test]
fn a_slow_reader_goes_on_to_the_byte_where_its_records_were_cut() {
    const MESSAGES: usize = 600;
    for records in ["own", "rustls"] {
        let secure = Secure::start(1, 3, &[("tls_records", records), ("send_buffer", "16KiB")]);
        let group = secure.gateway.group(1, &[2, 3]);
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(64 * 1024).expect("a socket option");
        socket.connect_timeout(&secure.address().into(), PATIENCE).expect("the gateway accepts");
        let socket = TcpStream::from(socket);
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        let mut slow = secure.session_by(socket, 2);
        let (mut author, mut quick) = (secure.gateway.v2(1), secure.session(3));
        let content = |n: usize| format!("{n} {}", "x".repeat(900 + n % 700));
        for n in 0..MESSAGES {
            author.say(11, group, &n.to_string(), &content(n));
            // As fast as others read: the slow one has not read anything yet.
            quick.hears(&content(n));
        }
        for n in 0..MESSAGES {
            let message = slow.wait_for(|message| message["content"].is_string());
            assert_eq!(message["content"], content(n), "{records}");
        }
    }
}

#[test]
fn a_renewed_certificate_is_served_and_open_connections_do_not_notice() {
    let secure = Secure::start(2, 2, &[]);
    let mut before = secure.session(1);
    let renewed = write_pair(secure.files.path(), "one");
    secure.gateway.reload_certificates();
    let peer_of = |trusted: &CertificateDer<'static>| {
        let mut stream = secure.connect_by(connect(secure.address()), trusted);
        let outcome = stream.conn.complete_io(&mut stream.sock);
        (outcome.is_ok(), stream.conn.peer_certificates().map(|chain| chain[0].clone()))
    };
    assert_eq!(peer_of(&renewed), (true, Some(renewed.clone())));
    assert!(!peer_of(&secure.certificate).0, "the old one is not served any more");
    before.send(&json!({"cmd": 0}));
    before.wait_for(|message| message["cmd"] == 0);

    // A key that belongs to another certificate: what was served stays.
    write_pair(secure.files.path(), "other");
    fs::copy(secure.files.path().join("other.key"), secure.files.path().join("one.key")).expect("the folder is ours");
    secure.gateway.reload_certificates();
    assert_eq!(peer_of(&renewed).1, Some(renewed.clone()));
}

#[test]
fn a_gateway_without_a_fitting_certificate_does_not_start() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    write_pair(folder.path(), "one");
    write_pair(folder.path(), "two");
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    for (certificate, key, said) in
        [("one.pem", "two.key", "do not fit together"), ("none.pem", "one.key", "cannot be read")]
    {
        let data = tempfile::tempdir().expect("a temporary directory");
        let (certificate, key) = (path(certificate), path(key));
        let settings = [("listen_tls", "127.0.0.1:0"), ("tls_cert", certificate.as_str()), ("tls_key", key.as_str())];
        let config = support::config(data.path(), 1, &settings);
        let error = Node::start(&config, Tuning::default()).err().expect("it does not start");
        assert!(format!("{error:#}").contains(said), "{error:#}");
    }
    let mut layers = Layers::default();
    let field = FIELDS.iter().find(|field| field.key == "listen_tls").expect("a setting");
    layers.flag(field, vec!["127.0.0.1:0".to_owned()]);
    let error = Config::from_layers(&layers).expect_err("it wants a certificate");
    assert!(error.to_string().contains("tls_cert"), "{error}");
}

#[test]
fn whoever_speaks_the_wrong_language_is_told() {
    let secure = Secure::start(1, 0, &[]);
    let answer = exchange(secure.address(), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https"), "{answer}");
    let answer = exchange(secure.address(), b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.ends_with("\r\n\r\n"), "a HEAD has no content: {answer}");
    // A ClientHello where HTTP is spoken.
    let mut stream = secure.connect_by(connect(secure.gateway.address()), &secure.certificate);
    stream.conn.complete_io(&mut stream.sock).expect_err("there is no TLS");
    let hello = exchange(secure.gateway.address(), b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03\r\n\r\n");
    assert!(hello.starts_with("HTTP/1.1 400 "), "{hello}");
    // TLS that breaks the rules is told by an alert.
    let mut bare = connect(secure.address());
    bare.write_all(b"\x17\x03\x03\x00\x01x").expect("it is taken");
    let mut alert = Vec::new();
    bare.read_to_end(&mut alert).expect("the end in time");
    assert_eq!(alert.first(), Some(&21), "{alert:?}");
}

/// The kernel resets a connection that is closed with bytes unread, and the alert would be lost.
#[test]
fn an_alert_arrives_whatever_stands_behind_the_record_that_is_bad() {
    for records in ["own", "rustls"] {
        let secure = Secure::start(1, 1, &[("tls_records", records)]);
        let Session(ws) = secure.session(1);
        let mut stream = ws.into_inner();
        let mut bad = vec![0x17, 0x03, 0x03, 0x01, 0x00];
        bad.resize(40 * 1024, 0x17);
        stream.sock.write_all(&bad).expect("it is taken");
        let error = stream.read_to_end(&mut Vec::new()).expect_err("it was bad");
        assert!(error.to_string().contains("BadRecordMac"), "{records}: {error}");
    }
}

#[test]
fn records_around_next_to_nothing_are_paid_for() {
    let mut settings = vec![("user_bytes", "64KiB"), ("user_bytes_burst", "64KiB")];
    for records in ["own", "rustls"] {
        settings.push(("tls_records", records));
        let secure = Secure::start(1, 2, &settings);
        let mut session = secure.session(1);
        let message =
            json!({"cmd": 10, "dstid": 2, "cid": records, "media": 1, "content": "a".repeat(3_900)}).to_string();
        let mut frame = vec![0x81, 0x80 | 126];
        frame.extend((message.len() as u16).to_be_bytes());
        // A mask of zeros leaves the message as it is.
        frame.extend([0; 4]);
        frame.extend(message.as_bytes());
        // Four kilobytes, each byte in a record of its own: below the pace by what they say, not by what they cost.
        // Sealed before the first is sent: a machine that is slow at that does not keep the pace by it.
        let stream = session.0.get_mut();
        let mut wire = Vec::new();
        for byte in frame {
            stream.conn.writer().write_all(&[byte]).expect("it is taken");
            while stream.conn.wants_write() {
                stream.conn.write_tls(&mut wire).expect("it is taken");
            }
        }
        stream.sock.write_all(&wire).expect("it is taken");
        session.wait_for(|message| message["cmd"] == 1);
        let pauses = secure.gateway.metric("imgate_pauses_total{what=\"bytes\"}");
        assert!(pauses >= 1.0, "{pauses} pauses with records of {records}");
        settings.pop();
    }
}

#[test]
fn a_client_that_ends_its_side_behind_its_upgrade_is_answered() {
    let secure = Secure::start(2, 3, &[]);
    for user in 1..=3 {
        let token = secure.gateway.token(user, Issuer::Own);
        let mut stream = secure.connect();
        stream.conn.complete_io(&mut stream.sock).expect("a handshake");
        let upgrade = format!(
            "GET /chat?token={token} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: imgate.v2\r\n\r\n"
        );
        stream.conn.writer().write_all(upgrade.as_bytes()).expect("it is taken");
        stream.conn.send_close_notify();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the end is a regular one");
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 101 "), "user {user}: {answer}");
    }
}

#[test]
fn handshakes_are_counted_by_their_outcome() {
    let secure = Secure::start(1, 1, &[]);
    let session = secure.session(1);
    exchange(secure.address(), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let page = exchange(secure.gateway.admin(), b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    for line in
        ["imgate_tls_handshakes_total{outcome=\"tls13\"} 1", "imgate_tls_handshakes_total{outcome=\"not_tls\"} 1"]
    {
        assert!(page.contains(line), "{line} in {page}");
    }
    assert!(secure.gateway.metric("imgate_tls_not_after_seconds") > 4e9);
    drop(session);
}

/// The secret of the tickets is made from the gateway's key, so it outlives the process.
#[test]
fn a_ticket_is_good_after_a_restart() {
    let mut secure = Secure::start(2, 0, &[]);
    let config = trusting(&secure.certificate);
    let kinds: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = encrypt(connect(secure.address()), &config, "localhost");
            stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("it is taken");
            stream.read_to_end(&mut Vec::new()).expect("the end is a regular one");
            let kind = stream.conn.handshake_kind();
            secure.gateway.restart();
            kind
        })
        .collect();
    assert!(matches!(kinds[..], [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)]), "{kinds:?}");
}

#[test]
fn a_client_gets_the_certificate_of_the_name_that_it_asks_for() {
    let (data, files) = (tempfile::tempdir(), tempfile::tempdir());
    let (data, files) = (data.expect("a temporary directory"), files.expect("a temporary directory"));
    let names = ["one.example", "two.example"];
    let certificates = names.map(|name| write_pair_for(files.path(), name, name));
    let path = |name: &str, kind: &str| files.path().join(format!("{name}.{kind}")).to_str().expect("UTF-8").to_owned();
    let mut layers = Layers::default();
    for (key, values) in [
        ("listen", vec!["127.0.0.1:0".to_owned()]),
        ("admin", vec!["127.0.0.1:0".to_owned()]),
        ("listen_tls", vec!["127.0.0.1:0".to_owned()]),
        ("tls_cert", names.map(|name| path(name, "pem")).to_vec()),
        ("tls_key", names.map(|name| path(name, "key")).to_vec()),
        ("data", vec![data.path().to_str().expect("UTF-8").to_owned()]),
        ("shards", vec!["1".to_owned()]),
    ] {
        layers.flag(FIELDS.iter().find(|field| field.key == key).expect("a setting"), values);
    }
    let node = Node::start(&Config::from_layers(&layers).expect("valid"), Tuning::default()).expect("it starts");
    let address = *node.addresses().last().expect("there are addresses");
    for (name, certificate) in names.into_iter().zip(&certificates) {
        let mut stream = encrypt(connect(address), &trusting(certificate), name);
        stream.conn.complete_io(&mut stream.sock).expect("the certificate is that of the name");
    }
    node.stop();
}

/// A beginning that does not go on is no reason to keep a connection.
#[test]
fn a_handshake_that_is_not_finished_in_time_ends() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    write_pair(folder.path(), "one");
    let path = |name: &str| folder.path().join(name).to_str().expect("UTF-8").to_owned();
    let (pem, key) = (path("one.pem"), path("one.key"));
    let settings = [("listen_tls", "127.0.0.1:0"), ("tls_cert", &*pem), ("tls_key", &*key)];
    let gateway = Gateway::start_with(1, 0, &settings, Tuning { head_ms_max: 200, ..Tuning::default() });
    let mut silent = connect(gateway.tls());
    let mut slow = connect(gateway.tls());
    slow.write_all(b"\x16\x03\x01\x02\x00\x01").expect("it is taken");
    for stream in [&mut silent, &mut slow] {
        assert!(matches!(stream.read(&mut [0; 16]), Ok(0)), "it ends without a word");
    }
    let page = exchange(gateway.admin(), b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(page.contains("imgate_tls_handshakes_total{outcome=\"unfinished\"} 2"), "{page}");
}

/// A process is told by SIGHUP, as certbot's hooks do it. Nothing ends because of it.
#[test]
fn sighup_loads_the_certificates_again_and_says_what_is_wrong_with_them() {
    let (data, files) = (tempfile::tempdir(), tempfile::tempdir());
    let (data, files) = (data.expect("a temporary directory"), files.expect("a temporary directory"));
    write_pair(files.path(), "one");
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgate"));
    command.args(["--listen-tls", "127.0.0.1:0", "--tls-cert"]).arg(files.path().join("one.pem"));
    command.arg("--tls-key").arg(files.path().join("one.key"));
    let process = Process::launch(command, data.path());
    let address = process.listening[1];
    let served = |trusted: &CertificateDer<'static>| {
        let mut stream = encrypt(connect(address), &trusting(trusted), "localhost");
        stream.conn.complete_io(&mut stream.sock).is_ok()
    };
    let renewed = write_pair(files.path(), "one");
    let readable = fs::Permissions::from_mode(0o644);
    fs::set_permissions(files.path().join("one.key"), readable).expect("the file is ours");
    process.signal(Signal::HUP);
    process.says("certificates were loaded");
    process.says("others may read the key of a certificate");
    assert!(served(&renewed));
    fs::write(files.path().join("one.key"), "no key").expect("the file is ours");
    process.signal(Signal::HUP);
    process.says("a certificate stays as it is");
    assert!(served(&renewed));
    // An operator sees it without the log, too.
    let told = |command: &str, more: &[&str]| {
        let mut told = Command::new(env!("CARGO_BIN_EXE_imgate"));
        told.arg(command).args(more).args([
            "--admin",
            &process.admin.to_string(),
            "--listen-tls",
            "127.0.0.1:0",
            "--data",
        ]);
        told.arg(data.path()).arg("--tls-cert").arg(files.path().join("one.pem"));
        let output = told.arg("--tls-key").arg(files.path().join("one.key")).output().expect("the binary runs");
        let words = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&words).into_owned())
    };
    let (code, words) = told("reload", &[]);
    assert!(code == Some(1) && words.contains("one.key"), "{words}");
    let page = exchange(process.admin, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(page.contains("\nimgate_tls_refused_certificates 1\n"), "{page}");
    let (code, words) = told("doctor", &["--target-connections", "1"]);
    assert!(code == Some(4) && words.contains("STOPS    certificate: "), "{words}");
    assert!(words.contains("the running gateway: refused 1 certificates"), "{words}");
    write_pair(files.path(), "one");
    fs::set_permissions(files.path().join("one.key"), fs::Permissions::from_mode(0o600)).expect("the file is ours");
    assert_eq!(told("reload", &[]).0, Some(0));
    let (_, words) = told("doctor", &["--target-connections", "1"]);
    assert!(!words.contains("STOPS    certificate: ") && !words.contains("refused"), "{words}");
}

/// Whether a program is there; tests that use one that is not are skipped with a word, and fail with
/// `CI` set.
fn is_there(program: &str) -> bool {
    let found = Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        assert!(std::env::var_os("CI").is_none(), "there is no {program}");
        eprintln!("SKIPPED: there is no {program}");
    }
    found
}

/// Two requests on one connection, with new keys in both directions in between, then the end.
#[test]
fn openssl_speaks_http_and_updates_its_keys_meanwhile() {
    if !is_there("openssl") {
        return;
    }
    let secure = Secure::start(2, 0, &[]);
    // What it does is said on its standard error.
    let mut child = Command::new("sh")
        .args(["-c", "exec openssl s_client -tls1_3 -servername localhost -verify_return_error \"$@\" 2>&1", "sh"])
        .arg("-CAfile")
        .arg(secure.files.path().join("one.pem"))
        .args(["-connect", &secure.address().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("there is a shell");
    let mut stdin = child.stdin.take().expect("it is piped");
    let mut stdout = child.stdout.take().expect("it is piped");
    let mut heard = String::new();
    let mut until = |end: &str| {
        let mut piece = [0; 4096];
        while !heard.contains(end) {
            let read = stdout.read(&mut piece).expect("it writes");
            assert!(read > 0, "{end:?} has not come: {heard}");
            heard.push_str(&String::from_utf8_lossy(&piece[..read]));
        }
        heard.clear();
    };
    // It looks at the first letter of each read only, so each waits for what the last one led to.
    stdin.write_all(b"GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it reads");
    until("HTTP/1.1 404 ");
    stdin.write_all(b"K\n").expect("it reads");
    until("KEYUPDATE");
    stdin.write_all(b"GET /none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("it reads");
    until("HTTP/1.1 404 ");
    // By the gateway's close_notify.
    stdout.read_to_end(&mut Vec::new()).expect("it ends");
    child.wait().expect("it ends");
}

/// One connection after the other, as many as there can be in a second: with whole handshakes, and
/// with tickets.
#[test]
fn openssls_s_time_is_served_again_and_again() {
    if !is_there("openssl") {
        return;
    }
    let secure = Secure::start(2, 0, &[("tls_records", "own")]);
    for how in ["-new", "-reuse"] {
        let output = Command::new("openssl")
            .args(["s_time", "-connect", &secure.address().to_string(), "-www", "/", how, "-time", "1", "-CAfile"])
            .arg(secure.files.path().join("one.pem"))
            .output()
            .expect("it was found");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{how}: {said}{}", String::from_utf8_lossy(&output.stderr));
        // "123 connections in 1 real seconds, 8342 bytes read per connection"
        let bytes = said.rsplit_once(" bytes read per connection").and_then(|(before, _)| before.rsplit(' ').next());
        assert!(bytes.and_then(|bytes| bytes.parse::<u64>().ok()).is_some_and(|bytes| bytes > 100), "{how}: {said}");
    }
}

/// Python refuses an end without a close_notify.
#[test]
fn pythons_ssl_speaks_http_in_both_versions() {
    const SCRIPT: &str = "
import socket, ssl, sys
port, authority = int(sys.argv[1]), sys.argv[2]
for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
    context = ssl.create_default_context(cafile=authority)
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(['h2', 'http/1.1'])
    with socket.create_connection(('127.0.0.1', port), timeout=20) as bare:
        tls = context.wrap_socket(bare, server_hostname='localhost', suppress_ragged_eofs=False)
        assert tls.selected_alpn_protocol() == 'http/1.1', tls.selected_alpn_protocol()
        tls.sendall(b'GET / HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n')
        answer = b''
        while piece := tls.recv(4096):
            answer += piece
        assert answer.startswith(b'HTTP/1.1 200 '), answer
        tls.unwrap()
    print(version.name)
";
    if !is_there("python3") {
        return;
    }
    let secure = Secure::start(2, 0, &[]);
    let output = Command::new("python3")
        .args(["-c", SCRIPT, &secure.address().port().to_string()])
        .arg(secure.files.path().join("one.pem"))
        .output()
        .expect("it was found");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "TLSv1_2\nTLSv1_3\n", "{said}");
}

#[test]
fn messages_are_compressed_inside_of_tls() {
    let secure = Secure::start(3, 3, &[("compression", "on")]);
    let mut ann = compression::session_by(secure.connect(), &secure.gateway, 1, Some(OFFER));
    let mut bob = compression::session_by(secure.connect(), &secure.gateway, 2, Some(OFFER));
    let mut plain = compression::session_by(secure.connect(), &secure.gateway, 3, None);
    assert!(ann.answer.is_some() && plain.answer.is_none());
    let group = secure.gateway.group(1, &[2, 3]);
    for n in 0..20 {
        let text = compression::prose(n, 600 + 300 * n as usize);
        ann.say_deflated(&compression::post(n, 11, group, &text));
        for (deflates, reader) in [(true, &mut bob), (false, &mut plain)] {
            let (deflated, message) = reader.wait_for(11);
            assert_eq!((deflated, &message["content"]), (deflates, &json!(text)));
        }
    }
}
