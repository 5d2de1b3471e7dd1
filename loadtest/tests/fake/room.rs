//! The fake server's chat room: simple-chatroom as `autoclient chatroom` needs it, and its faults.
//!
//! Owns: nothing; the members' write halves are in the state, and everything is sent under its
//! lock, so that order is certain.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::Value;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

use super::{Fault, State, lock, write};

/// Serves one connection until it ends.
pub(super) fn enter(mut stream: TcpStream, key: &str, bare: bool, state: &Mutex<State>) -> Option<()> {
    stream.set_write_timeout(Some(Duration::from_millis(200))).ok()?;
    let accept = derive_accept_key(key.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    let peer = stream.peer_addr().ok()?;
    {
        let mut state = lock(state);
        let deafened = matches!(state.conduct?.fault, Fault::Deafen(from) if state.accepted >= from);
        stream.write_all(answer.as_bytes()).ok()?;
        if !deafened {
            state.room.push((stream.try_clone().ok()?, bare));
        }
    }
    let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
    // On an error the connection has broken or was closed; reading on sends the answer to a
    // goodbye.
    while let Ok(message) = socket.read() {
        match message {
            Message::Text(text) => say(&mut lock(state), &text)?,
            Message::Close(_) => lock(state).room.retain(|(other, _)| other.peer_addr().ok() != Some(peer)),
            _ => {}
        }
    }
    lock(state).room.retain(|(other, _)| other.peer_addr().ok() != Some(peer));
    Some(())
}

fn say(state: &mut State, text: &str) -> Option<()> {
    let message: Value = serde_json::from_str(text).ok()?;
    let fault = state.conduct?.fault;
    state.accepted += 1;
    let place = state.accepted;
    let mut frame = format!("{{\"token\":{},\"content\":{}}}\n", message["token"], message["content"]);
    if fault != Fault::Raw {
        frame = frame.replace('&', "\\u0026").replace('<', "\\u003c").replace('>', "\\u003e");
    }
    if fault == Fault::Evict(place)
        && let Some((stream, _)) = state.room.iter().rfind(|(_, bare)| *bare)
    {
        // It may be gone already.
        let _ = stream.shutdown(Shutdown::Both);
    }
    if fault == Fault::Swap(place) {
        state.held_frame = Some(frame);
        return Some(());
    }
    let copies = match fault {
        Fault::Lose(p) if p == place => 0,
        Fault::Double(p) if p == place => 2,
        _ => 1,
    };
    let mut frames = vec![frame; copies];
    frames.extend(state.held_frame.take());
    state.room.retain_mut(|(stream, _)| frames.iter().all(|frame| write(stream, frame)));
    Some(())
}
