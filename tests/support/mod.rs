//! What the socket tests share: a gateway in this process on a port of its own, an HTTP call, WebSocket clients that nobody here wrote.
//!
//! Every wait has a deadline; nothing sleeps to synchronise.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use imgate::auth::{Issuer, Key};
use imgate::config::{Config, FIELDS, Layers};
use imgate::ids::UserId;
use imgate::node::{self, Node, Tuning};
use imgate::store::Seed;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use tungstenite::client::IntoClientRequest;
use tungstenite::error::ProtocolError;
use tungstenite::http::HeaderValue;
use tungstenite::{Message, WebSocket};

/// How long anything may take that should happen at once. Generous: two cores may run all test binaries together.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Asks for our own protocol.
pub(crate) const V2: (&str, &str) = ("Sec-WebSocket-Protocol", "imgate.v2");

/// What a directory says that somebody else has.
pub(crate) const TAKEN: &str = "another gateway is running";

/// Takes a directory that this process has just let go of. Another test may be about to start a program: until that begins it holds
/// copies of all descriptors, the lock's included.
pub(crate) fn retaken<T, E: std::fmt::Display>(take: impl Fn() -> Result<T, E>) -> T {
    let began = Instant::now();
    loop {
        match take() {
            Ok(taken) => return taken,
            Err(error) if format!("{error:#}").contains(TAKEN) && began.elapsed() < PATIENCE => {
                std::thread::yield_now();
            }
            Err(error) => panic!("it does not start: {error:#}"),
        }
    }
}

fn started(config: &Config, tuning: Tuning) -> Node {
    retaken(|| Node::start(config, tuning))
}

/// A gateway in this process, with a data directory of its own.
pub(crate) struct Gateway {
    node: Option<Node>,
    config: Config,
    key: Key,
    pub(crate) tuning: Tuning,
    data: TempDir,
    seeded: u64,
    settings: Vec<(String, String)>,
}

impl Gateway {
    /// A running gateway with `users` users, whose ids are 1 to `users`.
    pub(crate) fn start(shards: u16, users: u64) -> Self {
        Self::start_with(shards, users, &[], Tuning::default())
    }

    /// As [`Gateway::start`], with more settings.
    pub(crate) fn start_with(shards: u16, users: u64, settings: &[(&str, &str)], tuning: Tuning) -> Self {
        Self::start_changed(shards, users, settings, tuning, |_| {})
    }

    /// As [`Gateway::start_with`], with what no setting may be.
    pub(crate) fn start_changed(
        shards: u16,
        users: u64,
        settings: &[(&str, &str)],
        tuning: Tuning,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let data = tempfile::tempdir().expect("a temporary directory");
        let mut config = config(data.path(), shards, settings);
        change(&mut config);
        let key = node::signing_key(&config).expect("a key");
        if users > 0 {
            let mut backend = node::open_backend(&config).expect("a database");
            let seed = Seed { users, groups: 0, group_size: 0, created_ms: 1 };
            assert_eq!(backend.seed(&seed).expect("users").first_user.get(), 1);
        }
        let node = Some(started(&config, tuning));
        let settings = settings.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        Self { node, config, key, tuning, data, seeded: users, settings }
    }

    fn node(&self) -> &Node {
        self.node.as_ref().expect("it runs between start and stop")
    }

    /// The public address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.node().addresses()[0]
    }

    /// The address for proxies that speak the PROXY protocol, if the settings have one.
    pub(crate) fn proxied(&self) -> SocketAddr {
        self.node().addresses()[1]
    }

    /// The address for TLS, if the settings have one.
    pub(crate) fn tls(&self) -> SocketAddr {
        *self.node().addresses().last().expect("there are addresses")
    }

    /// Reads the certificates again, as SIGHUP does.
    pub(crate) fn reload_certificates(&self) {
        self.node().reload_certificates();
    }

    /// Loads a configuration with other settings, as SIGHUP does. What is not named is as at its start.
    pub(crate) fn adjust(&mut self, settings: &[(&str, &str)]) -> Result<(), String> {
        let all: Vec<(&str, &str)> =
            // Of two values of a setting the first one counts.
            settings.iter().copied().chain(self.settings.iter().map(|(key, value)| (key.as_str(), value.as_str()))).collect();
        let shards = self.config.shards;
        let config = config(self.data.path(), shards, &all);
        let node = self.node.as_mut().expect("it runs between start and stop");
        node.adjust(&config).map_err(|error| format!("{error:#}"))
    }

    /// What the names of this gateway's login cookies have before the user.
    pub(crate) fn cookie_prefix(&self) -> String {
        format!("imgate_{}_", self.key.tag())
    }

    /// The admin address.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.node().admin_address()
    }

    /// Its data directory.
    pub(crate) fn data(&self) -> &Path {
        self.data.path()
    }

    /// Stops it in order and starts it again on the same data.
    pub(crate) fn restart(&mut self) {
        self.stop();
        self.node = Some(started(&self.config, self.tuning));
    }

    /// Stops it in order.
    pub(crate) fn stop(&mut self) {
        if let Some(node) = self.node.take() {
            node.stop();
        }
    }

    /// A token of one of the users.
    pub(crate) fn token(&self, user: u64, issuer: Issuer) -> String {
        self.key.issue(UserId::new(user).expect("in range"), 0, issuer, u64::MAX >> 12)
    }

    /// What an operator shows at the admin port.
    pub(crate) fn operator_token(&self) -> String {
        self.key.admin_token()
    }

    /// A session of our own protocol.
    pub(crate) fn v2(&self, user: u64) -> Client {
        Client::v2(self.address(), &self.token(user, Issuer::Own))
    }

    /// A session whose socket takes little before it blocks, so that an outbox fills quickly. The buffer is set before the connection is made, because it
    /// decides the window; smaller ones make loopback, with its segments of 64 KiB, crawl from one probe of a closed window to the next.
    pub(crate) fn narrow(&self, user: u64) -> Client {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(64 * 1024).expect("a socket option");
        socket.connect_timeout(&self.address().into(), PATIENCE).expect("the gateway accepts");
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket option");
        let url = format!("ws://{}/chat?token={}", self.address(), self.token(user, Issuer::Own));
        Client::open(stream, &url, &[V2]).expect("101").opened()
    }

    /// A session of our own protocol, as soon as the 101 is there.
    pub(crate) fn v2_at_once(&self, user: u64) -> Client {
        Client::v2_at_once(self.address(), &self.token(user, Issuer::Own))
    }

    /// A session of an old page.
    pub(crate) fn legacy(&self, user: u64, issuer: Issuer) -> Client {
        Client::legacy(self.address(), user, &self.token(user, issuer))
    }

    /// A group of `owner`, which `members` have joined over HTTP.
    pub(crate) fn group(&self, owner: u64, members: &[u64]) -> u64 {
        let form = format!("ownerid={owner}&name=g&cate=1");
        let made = self.post("/contact/createcommunity", owner, &form);
        let group = made["data"]["id"].as_u64().unwrap_or_else(|| panic!("a group: {made}"));
        for &member in members {
            self.join(member, group);
        }
        group
    }

    /// Makes `user` a member of `group`, over HTTP.
    pub(crate) fn join(&self, user: u64, group: u64) {
        let joined = self.post("/contact/joincommunity", user, &format!("userid={user}&dstid={group}"));
        assert_eq!(joined["code"], 0, "{joined}");
    }

    /// A form that a user sends.
    pub(crate) fn post(&self, path: &str, user: u64, form: &str) -> Value {
        let bearer = format!("Authorization: Bearer {}\r\n", self.token(user, Issuer::Own));
        post(self.address(), path, &bearer, form)
    }

    /// The newest messages of a conversation, over HTTP.
    pub(crate) fn history(&self, user: u64, kind: u8, dst: u64) -> Vec<Value> {
        history(self.address(), &self.token(user, Issuer::Own), kind, dst)
    }

    /// The value of a metric without labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let page = exchange(self.admin(), b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let of = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            let is_it = series == name || series.split_once('{').is_some_and(|(bare, _)| bare == name);
            if is_it { value.parse::<f64>().ok() } else { None }
        };
        let values: Vec<f64> = page.lines().filter_map(of).collect();
        assert!(!values.is_empty(), "no metric {name} in {page}");
        values.iter().sum()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A configuration for tests: ports that the kernel chooses, a directory of its own.
pub(crate) fn config(data: &Path, shards: u16, settings: &[(&str, &str)]) -> Config {
    let mut layers = Layers::default();
    let mut set = |key: &str, value: &str| {
        let field = FIELDS.iter().find(|field| field.key == key).expect("a setting");
        layers.flag(field, vec![value.to_owned()]);
    };
    set("listen", "127.0.0.1:0");
    set("admin", "127.0.0.1:0");
    set("data", data.to_str().expect("a path in UTF-8"));
    set("shards", &shards.to_string());
    for (key, value) in settings {
        set(key, value);
    }
    Config::from_layers(&layers).expect("a good configuration")
}

/// Connects with deadlines.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the gateway accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    stream.set_write_timeout(Some(PATIENCE)).expect("a socket option");
    stream.set_nodelay(true).expect("a socket option");
    stream
}

/// Sends bytes and reads until the server ends the connection.
pub(crate) fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(address);
    stream.write_all(bytes).expect("the request is taken");
    let mut answer = Vec::new();
    // A reset after the answer is an end too.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Posts a form on a connection of its own.
pub(crate) fn post(address: SocketAddr, path: &str, headers: &str, form: &str) -> Value {
    let len = form.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len}\r\n\r\n{form}"
    );
    body(&exchange(address, request.as_bytes()))
}

/// The newest messages of a conversation.
pub(crate) fn history(address: SocketAddr, token: &str, kind: u8, dst: u64) -> Vec<Value> {
    let mut rows = Vec::new();
    let mut after = 0;
    loop {
        let request = format!(
            "GET /message/history?kind={kind}&dstid={dst}&after={after}&limit=200 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Authorization: Bearer {token}\r\n\r\n"
        );
        let page = body(&exchange(address, request.as_bytes()));
        rows.extend(page["rows"].as_array().unwrap_or_else(|| panic!("rows: {page}")).iter().cloned());
        if page["data"]["more"] != true {
            return rows;
        }
        after = rows.last().and_then(|row| row["seq"].as_u64()).expect("a page that has more has rows");
    }
}

fn body(response: &str) -> Value {
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP response: {response:?}"));
    assert!(head.starts_with("HTTP/1.1 200 "), "{response}");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {response}"))
}

/// Asks with a JSON body (none for `Value::Null`) and a bearer token: the status, and the JSON that is answered.
pub(crate) fn ask(address: SocketAddr, method: &str, path: &str, token: &str, json: &Value) -> (u16, Value) {
    let body = if json.is_null() { String::new() } else { json.to_string() };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(address, request.as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no HTTP response: {answer:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned())))
}

/// A user who registers over HTTP: id and token.
pub(crate) fn register(address: SocketAddr, route: &str, mobile: &str) -> (u64, String) {
    let password = if route == "/register" { "password" } else { "passwd" };
    let answer = post(address, route, "", &format!("mobile={mobile}&{password}=secret&nickname=n"));
    let data = &answer["data"];
    let (id, token) = (data["id"].as_u64(), data["token"].as_str());
    match (id, token) {
        (Some(id), Some(token)) => (id, token.to_owned()),
        _ => panic!("{route}: {answer}"),
    }
}

/// A WebSocket client.
pub(crate) struct Client {
    ws: WebSocket<TcpStream>,
    fences: u64,
    close_code: Option<u16>,
}

impl Client {
    /// A session of our own protocol, past its opening: the answer to a heartbeat tells that the shard knows who it is, and that it hears what is said in
    /// its groups from now on.
    pub(crate) fn v2(address: SocketAddr, token: &str) -> Self {
        Self::v2_at_once(address, token).opened()
    }

    /// Waits for the answer to a heartbeat; what is said in its groups meanwhile is lost.
    pub(crate) fn opened(mut self) -> Self {
        self.send(&json!({"cmd": 0}));
        self.wait_for(0);
        self
    }

    /// A session of our own protocol, as soon as the 101 is there.
    pub(crate) fn v2_at_once(address: SocketAddr, token: &str) -> Self {
        let url = format!("ws://{address}/chat?token={token}");
        Self::open(connect(address), &url, &[V2]).expect("the upgrade is accepted")
    }

    /// A session of an old page, past its welcome.
    pub(crate) fn legacy(address: SocketAddr, user: u64, token: &str) -> Self {
        let url = format!("ws://{address}/chat?id={user}&token={token}");
        let mut client = Self::open(connect(address), &url, &[]).expect("the upgrade is accepted");
        let welcome = client.text();
        assert!(welcome == "welcome!" || welcome == "hello,world!", "{welcome}");
        client
    }

    /// Upgrades `stream`.
    pub(crate) fn open(stream: TcpStream, url: &str, headers: &[(&'static str, &str)]) -> Result<Self, String> {
        let mut request = url.into_client_request().expect("a good URL");
        for (name, value) in headers {
            request.headers_mut().insert(*name, HeaderValue::from_str(value).expect("a good header"));
        }
        match tungstenite::client(request, stream) {
            Ok((ws, _)) => Ok(Self { ws, fences: 0, close_code: None }),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The socket.
    pub(crate) fn stream(&self) -> &TcpStream {
        self.ws.get_ref()
    }

    /// Sends one JSON text.
    pub(crate) fn send(&mut self, message: &Value) {
        self.ws.send(Message::text(message.to_string())).expect("the message is taken");
    }

    /// Sends any text.
    pub(crate) fn send_text(&mut self, text: &str) {
        self.ws.send(Message::text(text)).expect("the message is taken");
    }

    /// Sends one JSON text, if the socket takes it within its write time-out.
    pub(crate) fn try_send(&mut self, message: &Value) -> bool {
        self.ws.send(Message::text(message.to_string())).is_ok()
    }

    /// A second handle on the same connection, so that one thread writes while another one reads. Only for sessions that are not pinged meanwhile.
    pub(crate) fn halves(self) -> (Self, Self) {
        let stream = self.ws.get_ref().try_clone().expect("a second descriptor");
        let writer = WebSocket::from_raw_socket(stream, tungstenite::protocol::Role::Client, None);
        (Self { ws: writer, fences: 0, close_code: None }, self)
    }

    /// Sends a chat message.
    pub(crate) fn say(&mut self, kind: u8, dst: u64, cid: &str, content: &str) {
        self.send(&json!({"cmd": kind, "dstid": dst, "cid": cid, "media": 1, "content": content}));
    }

    /// Reads on until `text` has come.
    pub(crate) fn wait_for_text(&mut self, text: &str) {
        while self.text() != text {}
    }

    /// The next text; pings are answered on the way.
    pub(crate) fn text(&mut self) -> String {
        loop {
            match self.ws.read() {
                Ok(Message::Text(text)) => return text.as_str().to_owned(),
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                other => panic!("a text was expected: {other:?}"),
            }
        }
    }

    /// The next JSON but the list of conversations that comes unasked, some time after the opening.
    pub(crate) fn json(&mut self) -> Value {
        loop {
            let json = self.any_json();
            if json["cmd"] != 5 {
                return json;
            }
        }
    }

    /// The list of conversations that comes unasked; what comes before it is skipped.
    pub(crate) fn ready(&mut self) -> Value {
        loop {
            let json = self.any_json();
            if json["cmd"] == 5 {
                return json;
            }
        }
    }

    fn any_json(&mut self) -> Value {
        let text = self.text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The next message with that `cmd`; others are skipped.
    pub(crate) fn wait_for(&mut self, cmd: u64) -> Value {
        loop {
            let message = self.json();
            if message["cmd"] == cmd {
                return message;
            }
        }
    }

    /// Sends a chat message and waits for its ack; what else comes is lost.
    pub(crate) fn say_acked(&mut self, kind: u8, dst: u64, cid: &str, content: &str) -> Value {
        self.say(kind, dst, cid, content);
        loop {
            let message = self.json();
            if message["cid"] == cid && (message["cmd"] == 1 || message["cmd"] == 2) {
                assert_eq!(message["cmd"], 1, "refused: {message}");
                return message;
            }
        }
    }

    /// As [`Client::say_acked`] with the content as `cid`; `None` when the connection ends or the server is stopping.
    pub(crate) fn try_say_acked(&mut self, kind: u8, dst: u64, content: &str) -> Option<Value> {
        let post = json!({"cmd": kind, "dstid": dst, "cid": content, "media": 1, "content": content});
        self.ws.send(Message::text(post.to_string())).ok()?;
        loop {
            match self.ws.read().ok()? {
                Message::Text(text) => {
                    let message: Value = serde_json::from_str(text.as_str()).expect("JSON");
                    if message["cid"] == content && message["cmd"] == 1 {
                        return Some(message);
                    }
                    if message["cid"] == content && message["cmd"] == 2 {
                        return None;
                    }
                }
                Message::Close(frame) => {
                    self.close_code = frame.map(|frame| frame.code.into());
                    return None;
                }
                _ => {}
            }
        }
    }

    /// The code with which the server has closed, or closes now.
    pub(crate) fn close_code(&mut self) -> Option<u16> {
        Some(self.close_code.unwrap_or_else(|| self.closed()))
    }

    /// Everything that the server has queued for this session so far: what comes before the pong to a ping of ours.
    pub(crate) fn drain(&mut self) -> Vec<String> {
        self.fences += 1;
        let fence = format!("fence {}", self.fences);
        self.ws.send(Message::Ping(fence.clone().into_bytes().into())).expect("the ping is taken");
        let mut texts = Vec::new();
        loop {
            match self.ws.read() {
                Ok(Message::Text(text)) => texts.push(text.as_str().to_owned()),
                Ok(Message::Pong(payload)) if payload[..] == *fence.as_bytes() => return texts,
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                other => panic!("a pong was expected: {other:?}"),
            }
        }
    }

    /// The next JSON but the list of conversations that comes unasked; or the code, if the server closes.
    pub(crate) fn next_json(&mut self) -> Result<Value, u16> {
        loop {
            match self.ws.read() {
                Ok(Message::Text(text)) => {
                    let json: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
                    if json["cmd"] != 5 {
                        return Ok(json);
                    }
                }
                Ok(Message::Close(frame)) => return Err(frame.map_or(1005, |frame| frame.code.into())),
                Ok(_) => {}
                Err(error) => panic!("a text or a close frame was expected: {error}"),
            }
        }
    }

    /// Waits until the server closes; the code. What comes before is skipped.
    pub(crate) fn closed(&mut self) -> u16 {
        self.closed_for().0
    }

    /// As [`Client::closed`], with the reason.
    pub(crate) fn closed_for(&mut self) -> (u16, String) {
        loop {
            match self.ws.read() {
                Ok(Message::Close(Some(frame))) => return (frame.code.into(), frame.reason.as_str().to_owned()),
                Ok(Message::Close(None)) => return (1005, String::new()),
                Ok(_) => {}
                Err(error) => panic!("a close frame was expected: {error}"),
            }
        }
    }

    /// Waits until the connection ends without a close frame. What comes before is skipped.
    pub(crate) fn lost(&mut self) {
        loop {
            match self.ws.read() {
                Ok(Message::Close(frame)) => panic!("no close frame was expected: {frame:?}"),
                Ok(_) => {}
                Err(tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => return,
                Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::ConnectionReset => return,
                Err(error) => panic!("the end of the connection was expected: {error}"),
            }
        }
    }

    /// Ends the session as a browser does, up to the end of the stream.
    pub(crate) fn close(mut self) {
        self.ws.close(None).expect("the close frame is taken");
        loop {
            match self.ws.read() {
                Ok(_) => {}
                Err(tungstenite::Error::ConnectionClosed) => return,
                Err(error) => panic!("the close handshake: {error}"),
            }
        }
    }
}
