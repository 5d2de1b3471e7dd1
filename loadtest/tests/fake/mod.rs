//! A small chat server on 127.0.0.1:0 that can be told to do wrong, so that the load generator's
//! checks are proved able to fail.
//!
//! Owns: a thread per connection (tungstenite's server role), one lock around the conversations, so
//! that order is certain unless a fault says otherwise.
//! Never: is fast, or a model of the gateway beyond the few commands that `autoclient` uses.

mod desk;
mod room;

use std::collections::{BTreeSet, HashMap};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::{CloseFrame, Role};
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
    /// A stranger gets it, too; of a group's message, one of its members gets it once more under another group.
    Leak(u64),
    /// A stranger gets it, too, as if it had been said in a group.
    Misfile(u64),
    /// It gets the number after the next, which no message has.
    SkipSeq(u64),
    /// It is delivered and not acked.
    NoAck(u64),
    /// It is refused, retry makes sense.
    Busy(u64),
    /// Every post is refused, retry makes sense.
    BusyAll,
    /// It is stored; then every connection breaks before any client is told.
    Crash(u64),
    /// As `Crash`, and nobody is let in any more.
    CrashForGood(u64),
    /// As `Crash`, and it is not recognised when it is sent again.
    CrashAndForget(u64),
    /// As `Crash`, and it is acked, but not stored.
    AckAndCrash(u64),
    /// Heartbeats are not answered.
    Deaf,
    /// Lists of conversations are not answered.
    Listless,
    /// Lists of conversations are answered a second late.
    LateLists,
    /// The first list of each session is refused a second late.
    LateRefusal,
    /// One user hears nothing until 300 ms after the upgrade.
    LateListener,
    /// Users of every other pair hear it a second late.
    LateAcross(u64),
    /// From here on one user is told nothing of groups.
    Unsubscribe(u64),
    /// From here on no client is told of anything; it is stored and acked.
    Mute(u64),
    /// It is acked and delivered, but not stored.
    AckOnly(u64),
    /// It is stored twice.
    StoreTwice(u64),
    /// In the history it changes places with the one before it in its conversation.
    SwapRows(u64),
    /// Its ack names another message.
    Misack(u64),
    /// A letter of its content changes.
    Alter(u64),
    /// It is shown as another user's.
    Impostor(u64),
    /// From here on repetitions are acked as if they were new.
    NotDup(u64),
    /// From here on the database says that it is another one.
    Epoch(u64),
    /// Its recipients get something that is no JSON instead.
    Garble(u64),
    /// It is refused for good.
    Refuse(u64),
    /// Every post is refused for good.
    RefuseAll,
    /// A post is answered after a fifth of a second, one after another.
    Tardy,
    /// Every connection is closed with a code that forbids to come back.
    Banish(u64),
    /// All may post everywhere.
    Open,
    /// The store is asked for every user who connects.
    Query,
    /// A goodbye is never answered.
    Cling,
    /// Upgrades from this one on are never answered.
    Ignore(u64),
    /// Users from this one on do not get in: it says that it is overloaded.
    Shut(u64),
    /// In the chat room: markup is not escaped.
    Raw,
    /// Once it is flooded with pongs, heartbeats are answered three seconds late.
    Sluggish,
    /// Once it is flooded with pongs, no new client gets in.
    FullHouse,
    /// Once it is flooded with pongs, its memory grows, and stays.
    Fat,
    /// Once it is flooded with pongs, it tells of long turns.
    Stuck,
    /// In the chat room: with this message a connection that never reads is ended.
    Evict(u64),
    /// In the chat room: from this message on newcomers hear nothing.
    Deafen(u64),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Conduct {
    pub(crate) fault: Fault,
    /// Whether messages get `id` and `seq`.
    pub(crate) stored: bool,
}

/// The user whose subscriptions are forgotten, or come late.
const FORGOTTEN: u64 = 3;
/// Pongs of one session that are a flood.
const FLOOD_PONGS: u64 = 100;

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
    /// Members of the groups that were made over HTTP; of others all are members.
    groups: HashMap<u64, BTreeSet<u64>>,
    /// Users that registered over HTTP.
    registered: u64,
    /// Upgrades to `/chat` so far.
    upgrades: u64,
    /// A session has sent many pongs that were not asked for.
    flooded: bool,
    /// The chat room's write halves, in the order of their coming; whether they came without an
    /// Origin.
    room: Vec<(TcpStream, bool)>,
    /// A frame of the chat room held back to be sent behind the next one.
    held_frame: Option<String>,
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

    /// How many posts were accepted, and how many upgrades there were: a run has come so far.
    pub(crate) fn progress(&self) -> (u64, u64) {
        let state = lock(&self.state);
        (state.accepted, state.upgrades)
    }

    /// Closes everybody as a gateway that stops does, with slots `step_ms` apart; without a step nobody is told of any.
    pub(crate) fn send_away(&self, step_ms: Option<u64>) {
        let reason = |place: u64| match step_ms {
            Some(step_ms) => format!("shutdown retry_ms={}", 1 + place * step_ms),
            None => "shutdown".to_owned(),
        };
        close_all(&mut lock(&self.state), 4000, reason);
    }

    /// How many messages are stored.
    pub(crate) fn stored(&self) -> usize {
        lock(&self.state).history.values().map(Vec::len).sum()
    }
}

/// Whether a fault shows only once there is a flood, and now there is one.
fn flooded(state: &State, fault: Fault) -> bool {
    state.flooded && state.conduct.is_some_and(|conduct| conduct.fault == fault)
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
            let shut = {
                let state = lock(state);
                match state.conduct?.fault {
                    Fault::Shut(from) => user >= from,
                    Fault::CrashForGood(place) => state.accepted >= place,
                    _ => flooded(&state, Fault::FullHouse),
                }
            };
            if shut {
                return stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n").ok();
            }
            let accept = derive_accept_key(header("sec-websocket-key")?.as_bytes());
            let offered = header("sec-websocket-protocol");
            let ignored = {
                let mut state = lock(state);
                state.upgrades += 1;
                matches!(state.conduct?.fault, Fault::Ignore(from) if state.upgrades >= from)
            };
            if ignored {
                // Until the client gives up.
                return stream.read_exact(&mut [0]).ok();
            }
            let v2 = offered.is_some();
            let protocol = offered.map(|p| format!("Sec-WebSocket-Protocol: {p}\r\n"));
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {accept}\r\n{}\r\n",
                protocol.unwrap_or_default()
            );
            // A reader that does not read loses its connection rather than hold the lock for ever.
            stream.set_write_timeout(Some(Duration::from_millis(200))).ok()?;
            stream.write_all(answer.as_bytes()).ok()?;
            let own = stream.peer_addr().ok()?;
            if user == FORGOTTEN && lock(state).conduct?.fault == Fault::LateListener {
                // Time is the fault itself here.
                std::thread::sleep(Duration::from_millis(300));
            }
            lock(state).online.entry(user).or_default().push(stream.try_clone().ok()?);
            let ended = chat(stream, user, v2, state);
            let mut state = lock(state);
            state.online.entry(user).or_default().retain(|other| other.peer_addr().is_ok_and(|peer| peer != own));
            ended
        }
        "/chatroom" => room::enter(stream, header("sec-websocket-key")?, header("origin").is_none(), state),
        "/metrics" => {
            let text = metrics(&lock(state));
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", text.len());
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(text.as_bytes())).ok()
        }
        _ => {
            let user = header("authorization").and_then(|value| value.strip_prefix("Bearer token-")?.parse().ok());
            let mut form = vec![0; header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)];
            stream.read_exact(&mut form).ok()?;
            let form = String::from_utf8(form).ok()?;
            let fields = query.into_iter().chain(form.split('&').filter_map(|pair| pair.split_once('='))).collect();
            let answer = desk::answer(&mut lock(state), path, user, &fields);
            let body = answer.unwrap_or_else(|| json!({"code": -1, "msg": "no"})).to_string();
            // Chunked, in two pieces, because the gateway may do so. A cut may lie within a
            // character.
            let (a, b) = body.as_bytes().split_at(body.len() / 2);
            let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for chunk in [a, b] {
                answer.extend(format!("{:x}\r\n", chunk.len()).bytes().chain(chunk.iter().copied()).chain(*b"\r\n"));
            }
            answer.extend(b"0\r\n\r\n");
            stream.write_all(&answer).ok()
        }
    }
}

/// Four messages a commit; 100 us of CPU time for each upgrade and 50 for each message.
fn metrics(state: &State) -> String {
    let State { accepted, upgrades, .. } = state;
    let queries = if state.conduct.is_some_and(|conduct| conduct.fault == Fault::Query) { *upgrades } else { 1 };
    let cpu = *upgrades as f64 * 100e-6 + *accepted as f64 * 50e-6;
    let resident: u64 = if flooded(state, Fault::Fat) { 629_145_600 } else { 104_857_600 };
    let turn = if flooded(state, Fault::Stuck) { 0.25 } else { 0.001 };
    format!(
        "process_cpu_seconds_total {cpu}\nprocess_resident_memory_bytes {resident}\n\
         imgate_turn_seconds{{shard=\"0\",quantile=\"0.999\"}} {turn}\nimgate_store_commits_total {}\n\
         imgate_store_committed_writes_total {accepted}\nimgate_store_user_reads_total {upgrades}\n\
         imgate_store_user_queries_total {queries}\n",
        accepted.div_ceil(4)
    )
}

fn conversation(kind: u64, user: u64, dstid: u64) -> Conv {
    if kind == 11 { (11, dstid, 0) } else { (10, user.min(dstid), user.max(dstid)) }
}

/// What the server says of a conversation behind `after`: in small pages, so that paging is used.
fn page(state: &State, conv: Conv, after: u64) -> Value {
    let rows = state.history.get(&conv).map_or(&[][..], Vec::as_slice);
    let mut behind = rows.iter().filter(|row| row["seq"].as_u64() > Some(after));
    let page: Vec<Value> = behind.by_ref().take(3.max(rows.len() / 8)).cloned().collect();
    let head = rows.last().map_or(0, |row| row["seq"].as_u64().unwrap_or(0));
    let restored = matches!(state.conduct, Some(Conduct { fault: Fault::Epoch(place), .. }) if state.accepted >= place);
    json!({"rows": page, "more": behind.next().is_some(), "floor": 1, "head": head, "epoch": 1 + u64::from(restored)})
}

/// Whether a user may post to and read a conversation.
fn belongs(state: &State, conv: Conv, user: u64) -> bool {
    let (kind, group, _) = conv;
    kind == 10 || state.groups.get(&group).is_none_or(|members| members.contains(&user))
}

fn chat(stream: TcpStream, user: u64, v2: bool, state: &Mutex<State>) -> Option<()> {
    let mut own = stream.try_clone().ok()?;
    let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
    let (mut pongs, mut lists) = (0, 0);
    // On an error the connection has broken or was closed.
    while let Ok(message) = socket.read() {
        let Message::Text(text) = message else {
            if message.is_close() && lock(state).conduct?.fault == Fault::Cling {
                while own.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
                return None;
            }
            // A flood of locks would keep all others out.
            pongs += u64::from(message.is_pong());
            if pongs == FLOOD_PONGS {
                lock(state).flooded = true;
            }
            continue;
        };
        let command: Value = serde_json::from_str(&text).ok()?;
        if command["cmd"] == 0 && flooded(&lock(state), Fault::Sluggish) {
            // Time is the fault itself here.
            std::thread::sleep(Duration::from_secs(3));
        }
        lists += u64::from(command["cmd"] == 5);
        let fault = lock(state).conduct?.fault;
        let late = fault == Fault::LateLists || (fault == Fault::LateRefusal && lists == 1);
        if command["cmd"] == 5 && late {
            // As above.
            std::thread::sleep(Duration::from_secs(1));
        }
        // Answers are written under the lock, so that they do not mix with pushes of other threads.
        let mut state = lock(state);
        let conduct = state.conduct?;
        match command["cmd"].as_u64()? {
            0 if conduct.fault != Fault::Deaf => {
                write(&mut own, &json!({"cmd": 0, "ts": 1}).to_string());
            }
            // Told to the other user of a direct conversation.
            cmd @ (3 | 6) if command["kind"] == 10 => {
                let mut told = command.clone();
                (told["cmd"], told["userid"]) = (json!(cmd), json!(user));
                let streams = state.online.entry(command["dstid"].as_u64()?).or_default();
                streams.retain_mut(|stream| write(stream, &told.to_string()));
            }
            5 if conduct.fault == Fault::LateRefusal && lists == 1 => {
                write(&mut own, &json!({"cmd": 2, "code": 20, "msg": "no", "retry": true}).to_string());
            }
            5 if conduct.fault != Fault::Listless => {
                write(&mut own, &json!({"cmd": 5, "convs": [], "more": false, "epoch": 1}).to_string());
            }
            7 => {
                let wanted = command["users"].as_array()?;
                let online = |id: &Value| id.as_u64().is_some_and(|id| state.online.contains_key(&id));
                let rows: Vec<Value> = wanted.iter().map(|id| json!({"userid": id, "online": online(id)})).collect();
                write(&mut own, &json!({"cmd": 7, "rows": rows}).to_string());
            }
            kind @ (10 | 11) => post(&mut state, v2.then_some(&mut own), user, kind, &command, conduct)?,
            4 => {
                let conv = conversation(command["kind"].as_u64()?, user, command["dstid"].as_u64()?);
                // Without it the newest are asked for, of which this server gives the oldest.
                let mut answer = page(&state, conv, command["after"].as_u64().unwrap_or(0));
                if conduct.fault != Fault::Open && !belongs(&state, conv, user) {
                    answer = json!({"code": 10, "msg": "no", "retry": false});
                }
                let code = if answer["code"].is_null() { 4 } else { 2 };
                (answer["cmd"], answer["kind"], answer["dstid"]) =
                    (json!(code), json!(conv.0), command["dstid"].clone());
                write(&mut own, &answer.to_string());
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
    let fault = conduct.fault;
    let from = own.as_ref().and_then(|own| own.peer_addr().ok());
    // The old protocol has no acks and no refusals.
    let mut answer = |text: &Value| {
        if let Some(own) = &mut own {
            write(own, &text.to_string());
        }
    };
    let (cid, dstid) = (command["cid"].as_str()?.to_owned(), command["dstid"].as_u64()?);
    let refusal = |code: u64, retry: bool| json!({"cmd": 2, "cid": cid, "code": code, "msg": "no", "retry": retry});
    if let Some(ack) = state.acks.get(&(user, cid.clone())) {
        let mut ack = ack.clone();
        if !matches!(fault, Fault::NotDup(place) if state.accepted >= place) {
            ack["dup"] = json!(true);
        }
        answer(&ack);
        return Some(());
    }
    let conv = conversation(kind, user, dstid);
    if fault == Fault::RefuseAll || (fault != Fault::Open && !belongs(state, conv, user)) {
        answer(&refusal(10, false));
        return Some(());
    }
    if fault == Fault::BusyAll {
        answer(&refusal(20, true));
        return Some(());
    }
    if fault == Fault::Tardy {
        // Time is the fault itself here.
        std::thread::sleep(Duration::from_millis(200));
    }
    state.accepted += 1;
    let place = state.accepted;
    match fault {
        Fault::Busy(p) if p == place => answer(&refusal(20, true)),
        Fault::Refuse(p) if p == place => answer(&refusal(13, false)),
        _ => {
            let (row, ack) = record(state, user, conv, dstid, command, conduct);
            if fault == Fault::AckAndCrash(place) {
                answer(&ack);
                return crash(state);
            }
            if fault != Fault::CrashAndForget(place) {
                state.acks.insert((user, cid.clone()), ack.clone());
            }
            if matches!(fault, Fault::Crash(p) | Fault::CrashForGood(p) | Fault::CrashAndForget(p) if p == place) {
                return crash(state);
            }
            if fault == Fault::Banish(place) {
                return banish(state);
            }
            if fault != Fault::NoAck(place) {
                answer(&ack);
            }
            push(state, user, from, kind, dstid, &row.to_string(), fault, place);
        }
    }
    Some(())
}

/// Numbers a message and stores it. Gives what is pushed, and the ack.
fn record(state: &mut State, user: u64, conv: Conv, dstid: u64, command: &Value, conduct: Conduct) -> (Value, Value) {
    let Conduct { fault, stored } = conduct;
    let place = state.accepted;
    let rows = state.history.entry(conv).or_default();
    let mut seq = rows.last().map_or(0, |row| row["seq"].as_u64().unwrap_or(0)) + 1;
    if fault == Fault::SkipSeq(place) {
        seq += 1;
    }
    let mut row = command.clone();
    let mut ack = json!({"cmd": 1, "cid": command["cid"], "kind": conv.0, "dstid": dstid, "ts": 1});
    row["userid"] = json!(if fault == Fault::Impostor(place) { user + 1 } else { user });
    if fault == Fault::Alter(place) {
        row["content"] = json!(format!("{}!", row["content"].as_str().unwrap_or_default()));
    }
    if stored {
        for object in [&mut row, &mut ack] {
            object["id"] = json!(1000 + place);
            object["seq"] = json!(seq);
        }
    }
    if !matches!(fault, Fault::AckAndCrash(p) | Fault::AckOnly(p) if p == place) {
        rows.push(row.clone());
    }
    match fault {
        Fault::StoreTwice(p) if p == place => {
            let mut again = row.clone();
            (again["seq"], again["id"]) = (json!(seq + 1), json!(500_000));
            rows.push(again);
        }
        // The first one that has a predecessor.
        Fault::SwapRows(p) if p <= place && rows.len() == 2 => {
            let (first, second) = (rows[0]["seq"].clone(), rows[1]["seq"].clone());
            (rows[0]["seq"], rows[1]["seq"]) = (second, first);
            rows.swap(0, 1);
        }
        Fault::Misack(p) if p == place => ack["id"] = json!(500_000),
        _ => {}
    }
    (row, ack)
}

/// Delivers to all but the session that sent it; the recipient with the lowest id is the
/// victim of faults.
fn push(
    state: &mut State,
    user: u64,
    from: Option<SocketAddr>,
    kind: u64,
    dstid: u64,
    text: &str,
    fault: Fault,
    place: u64,
) {
    if matches!(fault, Fault::Mute(p) if p <= place) {
        return;
    }
    if matches!(fault, Fault::Leak(p) | Fault::Misfile(p) if p == place) {
        leak(state, user, kind, dstid, text, fault);
    }
    let conv = conversation(kind, user, dstid);
    let mut recipients: Vec<u64> = if kind == 11 {
        state.online.keys().copied().filter(|id| *id != user && belongs(state, conv, *id)).collect()
    } else {
        vec![dstid]
    };
    recipients.sort_unstable();
    if fault == Fault::LateAcross(place) {
        let near = |id: u64| (id - 1) / 2 % 2 == (user - 1) / 2 % 2;
        later(state, &recipients, |id| !near(id), text);
        recipients.retain(|id| near(*id));
    }
    // The sender's other sessions; never a victim unless it writes to itself.
    if !recipients.contains(&user) {
        recipients.push(user);
    }
    for (i, id) in recipients.into_iter().enumerate() {
        let victim = i == 0;
        if victim && fault == Fault::Swap(place) {
            state.held = Some((id, text.to_owned()));
            continue;
        }
        let copies = match fault {
            Fault::Lose(p) if victim && p == place => 0,
            Fault::Unsubscribe(p) if kind == 11 && id == FORGOTTEN && p <= place => 0,
            Fault::Double(p) if victim && p == place => 2,
            _ => 1,
        };
        let text = if fault == Fault::Garble(place) { "{" } else { text };
        let held = state.held.take_if(|(to, _)| *to == id && id != user);
        let texts = std::iter::repeat_n(text, copies).chain(held.as_ref().map(|(_, held)| held.as_str()));
        let texts: Vec<&str> = texts.collect();
        let streams = state.online.entry(id).or_default();
        streams.retain_mut(|stream| {
            // Legacy clients have no ack, and no other session in these tests.
            let own = id == user && (from.is_none() || stream.peer_addr().ok() == from);
            own || texts.iter().all(|text| write(stream, text))
        });
    }
}

/// Some of the recipients get it a second late.
fn later(state: &State, recipients: &[u64], some: impl Fn(u64) -> bool, text: &str) {
    let theirs = recipients.iter().filter(|id| some(**id)).filter_map(|id| state.online.get(id)).flatten();
    let streams: Vec<TcpStream> = theirs.filter_map(|stream| stream.try_clone().ok()).collect();
    let text = text.to_owned();
    std::thread::spawn(move || {
        // Time is the fault itself here.
        std::thread::sleep(Duration::from_secs(1));
        for mut stream in streams {
            write(&mut stream, &text);
        }
    });
}

/// Shows a message where it does not belong.
fn leak(state: &mut State, user: u64, kind: u64, dstid: u64, text: &str, fault: Fault) {
    let mut told: Value = serde_json::from_str(text).expect("it was made here");
    if kind == 11 {
        told["dstid"] = json!(dstid + 1);
    } else if matches!(fault, Fault::Misfile(_)) {
        (told["cmd"], told["dstid"]) = (json!(11), json!(100 + dstid));
    }
    let strangers = state.online.iter_mut().filter(|(id, _)| **id != user && (kind == 11 || **id != dstid));
    if let Some((_, streams)) = strangers.min_by_key(|(id, _)| **id) {
        streams.retain_mut(|stream| write(stream, &told.to_string()));
    }
}

/// Every connection is closed for good.
fn banish(state: &mut State) -> Option<()> {
    close_all(state, 4503, |_| "banned".to_owned())
}

/// Closes every connection, each for its own reason.
fn close_all(state: &mut State, code: u16, reason: impl Fn(u64) -> String) -> Option<()> {
    let mut frame = Vec::new();
    for (place, stream) in (0..).zip(state.online.values_mut().flatten()) {
        frame.clear();
        let last = CloseFrame { code: code.into(), reason: reason(place).into() };
        Frame::close(Some(last)).format(&mut frame).expect("a vector takes everything");
        // It may be gone already.
        let _ = stream.write_all(&frame);
    }
    crash(state)
}

/// Every connection breaks at once; what is stored stays.
fn crash(state: &mut State) -> Option<()> {
    for stream in state.online.drain().flat_map(|(_, streams)| streams) {
        // It may be gone already.
        let _ = stream.shutdown(Shutdown::Both);
    }
    None
}

/// False: the client has gone or does not read; then its connection breaks.
fn write(stream: &mut TcpStream, text: &str) -> bool {
    let mut frame = Vec::new();
    Frame::message(text.to_owned(), OpCode::Data(Data::Text), true)
        .format(&mut frame)
        .expect("a vector takes everything");
    let written = stream.write_all(&frame).is_ok();
    if !written {
        // It may be gone already.
        let _ = stream.shutdown(Shutdown::Both);
    }
    written
}
