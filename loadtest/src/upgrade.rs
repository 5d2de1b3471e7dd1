//! The HTTP upgrade as a client: the request, and what must be in the answer.
//!
//! Owns: [`Handshake`], one connection's key and the answer so far. Nothing of chat.
//! Bounds: the response head is at most [`HEAD_BYTES_MAX`].

use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;

use crate::deflate;
use crate::limits::HEAD_BYTES_MAX;

/// The subprotocol of our own clients.
const SUBPROTOCOL: &str = "imgate.v2";

/// As what we speak to the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Profile {
    /// `imgate.v2`: acks, refusals, heartbeats, sync.
    V2,
    /// As the old pages: messages and nothing else.
    Legacy,
}

/// Why an upgrade failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the server answered {0:?}")]
    Status(String),
    #[error("the response head is not HTTP, or too long")]
    Malformed,
    #[error("the accept key is wrong or missing")]
    Accept,
    #[error("no `Upgrade: websocket` with `Connection: upgrade` in the answer")]
    Upgrade,
    #[error("the server chose subprotocol {0:?}")]
    Subprotocol(Option<String>),
    #[error("the server chose an extension that was not offered")]
    Extension,
    #[error("the server does not compress (imgate: compression = \"on\")")]
    NotCompressed,
}

/// An upgrade in progress.
#[derive(Debug)]
pub(crate) struct Handshake {
    key: String,
    profile: Profile,
    /// Compressed messages are asked for.
    deflate: bool,
    head: Vec<u8>,
}

impl Handshake {
    /// A handshake with a fresh key, and its request.
    pub(crate) fn new(host: &str, user: u64, token: &str, profile: Profile) -> (Self, Vec<u8>) {
        let path = format!("/chat?id={user}&token={token}");
        Self::of(host, &path, profile, false)
    }

    /// As [`Handshake::new`], asking for compressed messages: a server that does not agree is
    /// refused.
    pub(crate) fn compressing(host: &str, user: u64, token: &str, profile: Profile) -> (Self, Vec<u8>) {
        let path = format!("/chat?id={user}&token={token}");
        Self::of(host, &path, profile, true)
    }

    /// Whether messages may come compressed.
    pub(crate) const fn deflates(&self) -> bool {
        self.deflate
    }

    /// A handshake with the room of guests, without an origin.
    pub(crate) fn guest(host: &str) -> (Self, Vec<u8>) {
        Self::of(host, "/chatroom", Profile::Legacy, false)
    }

    fn of(host: &str, path: &str, profile: Profile, deflate: bool) -> (Self, Vec<u8>) {
        let key = generate_key();
        let offer = match profile {
            Profile::V2 => format!("Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n"),
            Profile::Legacy => String::new(),
        };
        let extension =
            if deflate { format!("Sec-WebSocket-Extensions: {}\r\n", deflate::OFFER) } else { String::new() };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{offer}{extension}\r\n"
        );
        (Self { key, profile, deflate, head: Vec::new() }, request.into_bytes())
    }

    /// Takes what was read. `Some(rest)`: the server has upgraded, and `rest` are its first frames.
    pub(crate) fn feed<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, Refused> {
        let before = self.head.len();
        self.head.extend_from_slice(&bytes[..bytes.len().min(HEAD_BYTES_MAX)]);
        let from = before.saturating_sub(3);
        let Some(end) = self.head[from..].windows(4).position(|four| four == b"\r\n\r\n").map(|at| from + at) else {
            return if self.head.len() >= HEAD_BYTES_MAX { Err(Refused::Malformed) } else { Ok(None) };
        };
        let head = std::str::from_utf8(&self.head[..end]).map_err(|_| Refused::Malformed)?;
        self.judge(head)?;
        // The head ended within these bytes, otherwise it would have been found before.
        Ok(bytes.get(end + 4 - before..))
    }

    /// RFC 6455, section 4.1, the client's six checks.
    fn judge(&self, head: &str) -> Result<(), Refused> {
        let status = head.split("\r\n").next().unwrap_or_default();
        if status.strip_prefix("HTTP/1.1 ").ok_or(Refused::Malformed)?.split(' ').next() != Some("101") {
            return Err(Refused::Status(status.to_owned()));
        }
        let header = |name: &str| {
            head.split("\r\n").skip(1).find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then_some(value.trim())
            })
        };
        let has = |name: &str, word: &str| {
            header(name).is_some_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
        };
        if !has("upgrade", "websocket") || !has("connection", "upgrade") {
            return Err(Refused::Upgrade);
        }
        if header("sec-websocket-accept") != Some(derive_accept_key(self.key.as_bytes()).as_str()) {
            return Err(Refused::Accept);
        }
        match header("sec-websocket-extensions") {
            None if self.deflate => return Err(Refused::NotCompressed),
            Some(answer) if !self.deflate || !deflate::is_agreement(answer) => return Err(Refused::Extension),
            _ => {}
        }
        let wanted = (self.profile == Profile::V2).then_some(SUBPROTOCOL);
        let chosen = header("sec-websocket-protocol");
        if chosen != wanted {
            return Err(Refused::Subprotocol(chosen.map(str::to_owned)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(handshake: &Handshake, more: &str) -> Vec<u8> {
        let accept = derive_accept_key(handshake.key.as_bytes());
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n{more}\r\n"
        )
        .into_bytes()
    }

    #[test]
    fn a_server_that_is_asked_to_compress_must_agree() {
        let extension = format!("Sec-WebSocket-Extensions: {}\r\n", deflate::OFFER);
        let judged = |compressing: bool, more: &str| {
            let (mut h, request) = match compressing {
                true => Handshake::compressing("h", 7, "t", Profile::Legacy),
                false => Handshake::new("h", 7, "t", Profile::Legacy),
            };
            assert_eq!(String::from_utf8_lossy(&request).contains(&extension), compressing);
            let bytes = answer(&h, more);
            h.feed(&bytes).map(|_| ())
        };
        assert_eq!(judged(true, &extension), Ok(()));
        assert_eq!(judged(true, ""), Err(Refused::NotCompressed));
        assert_eq!(judged(true, "Sec-WebSocket-Extensions: permessage-deflate\r\n"), Err(Refused::Extension));
        assert_eq!(judged(false, &extension), Err(Refused::Extension));
    }

    #[test]
    fn an_answer_cut_anywhere_is_accepted_and_the_rest_given_back() {
        for cut in 0..100 {
            let (mut h, request) = Handshake::new("127.0.0.1:1", 7, "abc", Profile::V2);
            assert!(request.starts_with(b"GET /chat?id=7&token=abc HTTP/1.1\r\n") && request.ends_with(b"\r\n\r\n"));
            let mut bytes = answer(&h, "Sec-WebSocket-Protocol: imgate.v2\r\n");
            bytes.extend_from_slice(b"\x81\x02hi");
            // The cut lies inside the head: the four bytes of the frame and at least one of the
            // head come second.
            let (a, b) = bytes.split_at(bytes.len() - 5 - cut);
            assert_eq!(h.feed(a), Ok(None));
            assert_eq!(h.feed(b), Ok(Some(&b"\x81\x02hi"[..])));
        }
    }

    #[test]
    fn each_wrong_answer_has_its_name() {
        let judge = |profile, answer: &dyn Fn(&Handshake) -> Vec<u8>| {
            let (mut h, _) = Handshake::new("h", 7, "t", profile);
            let bytes = answer(&h);
            h.feed(&bytes).map(|rest| rest.map(<[u8]>::len)).expect_err("refused")
        };
        let (v2, old) = (Profile::V2, Profile::Legacy);
        assert_eq!(judge(v2, &|h| answer(h, "")), Refused::Subprotocol(None));
        assert_eq!(
            judge(old, &|h| answer(h, "Sec-WebSocket-Protocol: x\r\n")),
            Refused::Subprotocol(Some("x".to_owned()))
        );
        assert_eq!(judge(old, &|h| answer(h, "Sec-WebSocket-Extensions: x\r\n")), Refused::Extension);
        let forbidden = "HTTP/1.1 403 Forbidden";
        assert_eq!(judge(v2, &|_| format!("{forbidden}\r\n\r\n").into_bytes()), Refused::Status(forbidden.to_owned()));
        assert_eq!(judge(v2, &|_| b"HTTP/1.1 101 X\r\n\r\n".to_vec()), Refused::Upgrade);
        let upgrade = "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n";
        let wrong = format!("{upgrade}Sec-WebSocket-Accept: x\r\n\r\n");
        assert_eq!(judge(v2, &|_| wrong.clone().into_bytes()), Refused::Accept);
        assert_eq!(judge(v2, &|_| b"SSH-2.0-x\r\n\r\n".to_vec()), Refused::Malformed);
        assert_eq!(judge(v2, &|_| vec![b'x'; HEAD_BYTES_MAX + 1]), Refused::Malformed);
    }
}
