//! A small chat server on 127.0.0.1:0 that can be told to do wrong, so that the load generator's checks are proved able to fail.
//!
//! Owns: a thread per connection (tungstenite's server role), one lock around the conversations, so that order is certain unless a fault says otherwise.
//! Never: is fast, or a model of the gateway beyond the few commands that `autoclient` uses.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::Role;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::{Message, WebSocket};

/// What to do wrong, and with which accepted message (counted from 1 over all conversations).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    None,
    /// One recipient does not get it.
    Lose(u64),
    /// One recipient gets it twice.
    Double(u64),
    /// One recipient gets it after the next one.
    Swap(u64),
    /// It gets the number after the next, which nobody has.
    SkipSeq(u64),
    /// It is delivered and not acked.
    NoAck(u64),
    /// It is refused, retry makes sense.
    Busy(u64),
    /// It is stored; then every connection breaks before anybody hears of it.
    Crash(u64),
    /// As `Crash`, and it is not recognised when it is sent again.
    CrashAndForget(u64),
    /// As `Crash`, and it is acked, but not stored.
    AckAndCrash(u64),
    /// Heartbeats are not answered.
    Deaf,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Conduct {
    pub(crate) fault: Fault,
    /// Whether messages get `id` and `seq`.
    pub(crate) stored: bool,
}

/// A conversation: `kind`, and the group or the pair of users.
type Conv = (u64, u64, u64);

#[derive(Default)]
struct State {
    conduct: Option<Conduct>,
    accepted: u64,
    /// Stored messages by conversation.
    history: HashMap<Conv, Vec<Value>>,
    /// Acks by sender and cid.
    acks: HashMap<(u64, String), Value>,
    /// Write halves by user.
    online: HashMap<u64, Vec<TcpStream>>,
    /// A push held back to be sent behind the next one to this user.
    held: Option<(u64, String)>,
}

pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Fake {
    /// Starts it; it lives as long as the test process.
    pub(crate) fn start(conduct: Conduct) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State { conduct: Some(conduct), ..State::default() }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&shared);
                // A connection that breaks is the client's business.
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        Self { address, state }
    }

    /// Takes a message out of the history, as a store that lost its tail would.
    pub(crate) fn forget_one(&self) {
        let mut state = lock(&self.state);
        let rows = state.history.values_mut().next().expect("a conversation");
        rows.pop();
    }

    /// How many messages are stored.
    pub(crate) fn stored(&self) -> usize {
        lock(&self.state).history.values().map(Vec::len).sum()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the request head, then either upgrades or answers a plain GET.
fn serve(mut stream: TcpStream, state: &Mutex<State>) -> Option<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let header = |name: &str| {
        head.lines()
            .find_map(|l| l.to_ascii_lowercase().starts_with(name).then(|| l.split_once(": ").map(|(_, v)| v))?)
    };
    let target = head.split(' ').nth(1)?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let query: HashMap<&str, &str> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
    match path {
        "/chat" => {
            let user: u64 = query.get("id")?.parse().ok()?;
            if *query.get("token")? != format!("token-{user}") {
                stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 10\r\n\r\nForbidden\n").ok()?;
                return None;
            }
            let accept = derive_accept_key(header("sec-websocket-key")?.as_bytes());
            let offered = header("sec-websocket-protocol");
            let v2 = offered.is_some();
            let protocol = offered.map(|p| format!("Sec-WebSocket-Protocol: {p}\r\n"));
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n{}\r\n",
                protocol.unwrap_or_default()
            );
            lock(state).online.entry(user).or_default().push(stream.try_clone().ok()?);
            stream.write_all(answer.as_bytes()).ok()?;
            chat(stream, user, v2, state)
        }
        "/message/history" => {
            let user: u64 = header("authorization")?.strip_prefix("Bearer token-")?.parse().ok()?;
            let number = |key: &str| query.get(key)?.parse::<u64>().ok();
            let conv = conversation(10, user, number("dstid")?);
            let page = page(&lock(state), conv, number("after")?, 3);
            let body = json!({"code": 0, "msg": "", "rows": page.0, "total": page.0.len(), "data": {"more": page.1}});
            let body = body.to_string();
            // Chunked, in two pieces, because the gateway may do so.
            let (a, b) = body.split_at(body.len() / 2);
            let answer = format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{a}\r\n{:x}\r\n{b}\r\n0\r\n\r\n",
                a.len(),
                b.len()
            );
            stream.write_all(answer.as_bytes()).ok()
        }
        _ => stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").ok(),
    }
}

fn conversation(kind: u64, user: u64, dstid: u64) -> Conv {
    if kind == 11 { (11, dstid, 0) } else { (10, user.min(dstid), user.max(dstid)) }
}

/// Rows behind `after`, and whether there are more: small pages, so that paging is used.
fn page(state: &State, conv: Conv, after: u64, limit: usize) -> (Vec<Value>, bool) {
    let rows = state.history.get(&conv).map_or(&[][..], Vec::as_slice);
    let mut behind = rows.iter().filter(|row| row["seq"].as_u64() > Some(after));
    let page: Vec<Value> = behind.by_ref().take(limit).cloned().collect();
    (page, behind.next().is_some())
}

fn chat(stream: TcpStream, user: u64, v2: bool, state: &Mutex<State>) -> Option<()> {
    let mut own = stream.try_clone().ok()?;
    let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
    // On an error the connection has broken or was closed.
    while let Ok(message) = socket.read() {
        let Message::Text(text) = message else { continue };
        let command: Value = serde_json::from_str(&text).ok()?;
        // Answers are written under the lock, so that they do not mix with pushes of other threads.
        let mut state = lock(state);
        let conduct = state.conduct?;
        match command["cmd"].as_u64()? {
            0 if conduct.fault != Fault::Deaf => write(&mut own, &json!({"cmd": 0, "ts": 1}).to_string()),
            kind @ (10 | 11) => post(&mut state, v2.then_some(&mut own), user, kind, &command, conduct)?,
            4 => {
                let conv = conversation(command["kind"].as_u64()?, user, command["dstid"].as_u64()?);
                let (rows, more) = page(&state, conv, command["after"].as_u64()?, 3);
                write(&mut own, &json!({"cmd": 4, "kind": 10, "rows": rows, "more": more}).to_string());
            }
            _ => {}
        }
    }
    Some(())
}

fn post(
    state: &mut State,
    mut own: Option<&mut TcpStream>,
    user: u64,
    kind: u64,
    command: &Value,
    conduct: Conduct,
) -> Option<()> {
    let Conduct { fault, stored } = conduct;
    // The old protocol has no acks and no refusals.
    let mut answer = |text: &Value| own.iter_mut().for_each(|own| write(own, &text.to_string()));
    let (cid, dstid) = (command["cid"].as_str()?.to_owned(), command["dstid"].as_u64()?);
    if let Some(ack) = state.acks.get(&(user, cid.clone())) {
        answer(ack);
        return Some(());
    }
    state.accepted += 1;
    let place = state.accepted;
    if fault == Fault::Busy(place) {
        answer(&json!({"cmd": 2, "cid": cid, "code": 20, "msg": "busy", "retry": true}));
        return Some(());
    }
    let conv = conversation(kind, user, dstid);
    let rows = state.history.entry(conv).or_default();
    let mut seq = rows.last().map_or(0, |row| row["seq"].as_u64().unwrap_or(0)) + 1;
    if fault == Fault::SkipSeq(place) {
        seq += 1;
    }
    let mut row = command.clone();
    let mut ack = json!({"cmd": 1, "cid": cid, "kind": kind, "dstid": dstid, "ts": 1});
    row["userid"] = json!(user);
    if stored {
        for object in [&mut row, &mut ack] {
            object["id"] = json!(1000 + place);
            object["seq"] = json!(seq);
        }
    }
    if fault == Fault::AckAndCrash(place) {
        answer(&ack);
        return crash(state);
    }
    rows.push(row.clone());
    if fault != Fault::CrashAndForget(place) {
        state.acks.insert((user, cid), ack.clone());
    }
    if matches!(fault, Fault::Crash(p) | Fault::CrashAndForget(p) if p == place) {
        return crash(state);
    }
    if fault != Fault::NoAck(place) {
        answer(&ack);
    }
    push(state, user, kind, dstid, &row.to_string(), fault, place);
    Some(())
}

/// Delivers to everybody but the sender; the recipient with the lowest id is the victim of faults.
fn push(state: &mut State, user: u64, kind: u64, dstid: u64, text: &str, fault: Fault, place: u64) {
    let mut recipients: Vec<u64> =
        if kind == 11 { state.online.keys().copied().filter(|id| *id != user).collect() } else { vec![dstid] };
    recipients.sort_unstable();
    for (i, id) in recipients.into_iter().enumerate() {
        let victim = i == 0;
        if victim && fault == Fault::Swap(place) {
            state.held = Some((id, text.to_owned()));
            continue;
        }
        let copies = match fault {
            Fault::Lose(p) if victim && p == place => 0,
            Fault::Double(p) if victim && p == place => 2,
            _ => 1,
        };
        let held = state.held.take_if(|(to, _)| *to == id);
        for stream in state.online.get_mut(&id).into_iter().flatten() {
            (0..copies).for_each(|_| write(stream, text));
            if let Some((_, text)) = &held {
                write(stream, text);
            }
        }
    }
}

/// Every connection breaks at once; what is stored stays.
fn crash(state: &mut State) -> Option<()> {
    for stream in state.online.drain().flat_map(|(_, streams)| streams) {
        // It may be gone already.
        let _ = stream.shutdown(Shutdown::Both);
    }
    None
}

fn write(stream: &mut TcpStream, text: &str) {
    let mut frame = Vec::new();
    Frame::message(text.to_owned(), OpCode::Data(Data::Text), true)
        .format(&mut frame)
        .expect("a vector takes everything");
    // A client that has gone does not matter.
    let _ = stream.write_all(&frame);
}
