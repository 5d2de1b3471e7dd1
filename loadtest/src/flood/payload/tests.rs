//! What the floods send is what RFC 6455 and the protocol allow, as tungstenite and serde_json read
//! it; or is cut off where it shall be.

use std::collections::BTreeSet;
use std::io::{self, Cursor, Read, Write};

use serde_json::Value;
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

use super::*;

/// Reads from memory, swallows what is written.
struct Wire(Cursor<Vec<u8>>);

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            n => Ok(n),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn payload(kind: Kind) -> Payload {
    let users = (101..=400).map(|id| FloodUser { id, token: format!("token-{id}") }).collect();
    let accounts = vec![Account { mobile: "1".to_owned(), password: "right".to_owned() }];
    Payload::new(kind, "host:1", users, accounts, 77, 5).expect("a payload")
}

/// All whole messages of some bytes; they must end where the bytes end.
fn messages(bytes: &[u8]) -> Vec<Message> {
    let mut socket = WebSocket::from_raw_socket(Wire(Cursor::new(bytes.to_vec())), Role::Server, None);
    let mut all = Vec::new();
    loop {
        match socket.read() {
            Ok(message) => all.push(message),
            Err(tungstenite::Error::Io(e)) if e.kind() == io::ErrorKind::WouldBlock => return all,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The commands of the round of an attacker, from where the attacker begins.
fn commands(kind: Kind, attacker: usize) -> Vec<Value> {
    let payload = payload(kind);
    let mut scratch = Vec::new();
    let round = payload.round(attacker, &mut scratch);
    let start = payload.start(attacker);
    assert!(start < round.len() && round.len() >= ROUND_BYTES, "{kind:?}");
    let turned = [&round[start..], &round[..start]].concat();
    messages(&turned).iter().map(|one| serde_json::from_str(one.to_text().expect("a text")).expect("JSON")).collect()
}

#[test]
fn control_frames_are_control_frames() {
    let round = |kind| messages(payload(kind).round(0, &mut Vec::new()));
    let pongs = round(Kind::Pongs);
    assert!(pongs.len() >= ROUND_BYTES / 6 && pongs.iter().all(Message::is_pong));
    assert!(round(Kind::Pings).iter().all(Message::is_ping));
}

#[test]
fn fragments_make_messages_that_mean_something() {
    let payload = payload(Kind::Fragments);
    let round = payload.round(0, &mut Vec::new()).to_vec();
    let texts = messages(&round);
    assert!(texts.len() >= 2);
    for text in texts {
        let command: Value = serde_json::from_str(text.to_text().expect("a text")).expect("JSON");
        assert_eq!((&command["cmd"], &command["dstid"]), (&Value::from(6), &Value::from(102)));
    }
    // Every frame of the two messages is at most a byte, but for the first of the second.
    let frames = |bytes: &[u8]| bytes.len() / 7;
    assert!(frames(&round[..FRAGMENTS * 7]) == FRAGMENTS && round[FRAGMENTS * 7] == 1, "a second message begins there");
}

#[test]
fn commands_are_those_of_the_protocol() {
    for (kind, cmd) in [(Kind::Typing, 6), (Kind::Marks, 3), (Kind::Syncs, 4), (Kind::Lists, 5), (Kind::Posts, 10)] {
        for attacker in [0, 7] {
            let all = commands(kind, attacker);
            assert!(all.iter().all(|command| command["cmd"] == cmd), "{kind:?}");
            let named: BTreeSet<u64> = all.iter().filter_map(|command| command["dstid"].as_u64()).collect();
            let distinct = match kind {
                Kind::Marks => MARKS,
                Kind::Typing | Kind::Posts => 300,
                Kind::Syncs => 1,
                _ => 0,
            };
            assert_eq!(named.len(), distinct, "{kind:?}");
        }
    }
    assert_ne!(commands(Kind::Marks, 1)[0], commands(Kind::Marks, 2)[0], "attackers begin at different places");
}

#[test]
fn watch_lists_come_two_in_turn() {
    let all = commands(Kind::Presence, 3);
    let list = |n: usize| -> BTreeSet<u64> {
        all[n]["users"].as_array().expect("users").iter().filter_map(Value::as_u64).collect()
    };
    assert!(all.iter().all(|command| command["cmd"] == 7));
    assert_eq!((list(0).len(), list(1).len()), (LIST_USERS, LIST_USERS));
    assert!(list(0).is_disjoint(&list(1)) && list(0) == list(2) && list(1) == list(3));
}

#[test]
fn guests_say_what_the_room_takes() {
    assert_eq!(commands(Kind::Guests, 0)[0], serde_json::json!({"token": "flood", "content": "flood"}));
}

/// Head and body of what an attacker sends over HTTP.
fn request(payload: &Payload) -> (String, Vec<u8>) {
    let bytes = payload.opening(3);
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(bytes.len(), |end| end + 4);
    (String::from_utf8(bytes[..end].to_vec()).expect("a head"), bytes[end..].to_vec())
}

fn told_length(head: &str) -> usize {
    let line = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
    line.parse().expect("a number")
}

#[test]
fn half_heads_and_slow_bodies_are_cut_off_and_the_others_are_whole() {
    let (head, rest) = request(&payload(Kind::HalfHeads));
    assert!(!head.contains("\r\n\r\n") && head.ends_with("X-Half: ") && rest.is_empty(), "{head:?}");
    let (head, body) = request(&payload(Kind::SlowBodies));
    assert!(head.ends_with("\r\n\r\n") && body.len() < told_length(&head), "{head}");
    let chunked = String::from_utf8(payload(Kind::SlowBodies).opening(2)).expect("a form");
    assert_eq!(chunked.matches("1\r\n&\r\n").count(), CHUNKS);
    assert!(!chunked.contains("0\r\n\r\n"), "it does not end");
    let (head, rest) = request(&payload(Kind::IdleHttp));
    assert!(head.ends_with("\r\n\r\n") && !head.contains("close") && rest.is_empty(), "{head}");
    let deaf = payload(Kind::SlowReaders).opening(0);
    assert_eq!(String::from_utf8_lossy(&deaf).matches("\r\n\r\n").count(), DEAF_REQUESTS);
    for kind in [Kind::Logins, Kind::Registrations, Kind::Pictures] {
        let (head, body) = request(&payload(kind));
        assert_eq!(body.len(), told_length(&head), "{kind:?}");
    }
}

#[test]
fn every_second_login_is_wrong_and_every_registration_new() {
    let logins = payload(Kind::Logins);
    let bodies = [0; 2].map(|_| String::from_utf8(request(&logins).1).expect("a form"));
    assert_eq!(bodies, ["mobile=1&passwd=right", "mobile=1&passwd=right-wrong"]);
    let registrations = payload(Kind::Registrations);
    let all: BTreeSet<Vec<u8>> = (0..50).map(|_| request(&registrations).1).collect();
    assert_eq!(all.len(), 50);
    assert_ne!(mobile(1, 1), mobile(2, 1), "another run has other numbers");
}

#[test]
fn pictures_are_pictures_and_each_is_another() {
    let pictures = payload(Kind::Pictures);
    let (first, second) = (request(&pictures).1, request(&pictures).1);
    assert!(first != second && first.len() < 256 * 1024, "{} bytes", first.len());
    let reader = png::Decoder::new(Cursor::new(first)).read_info().expect("a PNG");
    assert_eq!((reader.info().width, reader.info().height), (PICTURE_SIDE, PICTURE_SIDE));
}
