//! How a server wants to be spoken to: the adapter between the load generator and everybody whom it measures.
//!
//! Owns: [`Dialect`] and its makers: [`Raw`] (floor, baseline, Node), [`Imgate`], [`Nats`].

use std::fmt::Write as _;

use imgate::ws::frame::{BINARY, TEXT};

/// Whom a message is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum To {
    /// All members but the author.
    Group,
    /// The member of that number.
    Member(usize),
}

/// A server's language.
pub trait Dialect {
    /// The request target and further header lines (each with its line break) of a member's upgrade.
    fn request(&self, member: usize) -> (String, String);

    /// The opcode of the frames that a client sends.
    fn opcode(&self) -> u8 {
        TEXT
    }

    /// What a member says after its upgrade, one frame; empty: nothing.
    fn greeting(&self, _member: usize) -> String {
        String::new()
    }

    /// One message of `bytes` bytes in all (as far as the dialect has room), with `stamp` in it. `serial` is different for each message of a run.
    fn post(&self, out: &mut String, to: To, stamp: &str, serial: u64, bytes: usize);

    /// What has to be answered to a payload that the server sent, if anything.
    fn answer(&self, _payload: &[u8]) -> Option<&'static str> {
        None
    }
}

/// Appends filling until `out` has `bytes` bytes when `tail` follows.
fn fill(out: &mut String, bytes: usize, tail: &str) {
    while out.len() + tail.len() < bytes {
        out.push('x');
    }
    out.push_str(tail);
}

/// `g…` to the group, `d` and eight digits to a member; the path is the member's number.
#[derive(Debug)]
pub struct Raw;

impl Dialect for Raw {
    fn request(&self, member: usize) -> (String, String) {
        (format!("/{member}"), String::new())
    }

    fn post(&self, out: &mut String, to: To, stamp: &str, _serial: u64, bytes: usize) {
        let _ = match to {
            To::Group => write!(out, "g{stamp}"),
            To::Member(number) => write!(out, "d{number:08}{stamp}"),
        };
        fill(out, bytes, "");
    }
}

/// imgate: a token at the gate, `cmd` 11 and 10 in JSON.
#[derive(Debug)]
pub struct Imgate {
    /// User and token of each member.
    pub users: Vec<(u64, String)>,
    /// The group of all.
    pub group: u64,
    /// Subprotocol `imgate.v2`, with a `cid` and an ack for each message; otherwise as the old pages.
    pub v2: bool,
}

impl Dialect for Imgate {
    fn request(&self, member: usize) -> (String, String) {
        let (user, token) = &self.users[member];
        let offer = if self.v2 { "Sec-WebSocket-Protocol: imgate.v2\r\n" } else { "" };
        (format!("/chat?id={user}&token={token}"), offer.to_owned())
    }

    fn post(&self, out: &mut String, to: To, stamp: &str, serial: u64, bytes: usize) {
        let (cmd, dstid) = match to {
            To::Group => (11, self.group),
            To::Member(number) => (10, self.users[number].0),
        };
        let _ = write!(out, r#"{{"cmd":{cmd},"dstid":{dstid},"#);
        // The stamp is in the ack as well as in the message if it is the `cid`; in both it would be counted twice.
        let _ = match self.v2 {
            true => write!(out, r#""cid":"{stamp}{serial}","media":1,"content":""#),
            false => write!(out, r#""media":1,"content":"{stamp}"#),
        };
        fill(out, bytes, r#""}"#);
    }
}

/// The NATS protocol: everybody subscribes to the group's subject and to one of her own. Without echo, as nobody else echoes.
#[derive(Debug)]
pub struct Nats;

impl Dialect for Nats {
    fn request(&self, _member: usize) -> (String, String) {
        ("/".to_owned(), String::new())
    }

    fn opcode(&self) -> u8 {
        BINARY
    }

    fn greeting(&self, member: usize) -> String {
        format!("CONNECT {{\"verbose\":false,\"pedantic\":false,\"echo\":false}}\r\nSUB g 1\r\nSUB d.{member} 2\r\n")
    }

    fn post(&self, out: &mut String, to: To, stamp: &str, _serial: u64, bytes: usize) {
        let _ = match to {
            To::Group => write!(out, "PUB g {bytes}\r\n"),
            To::Member(number) => write!(out, "PUB d.{number} {bytes}\r\n"),
        };
        let whole = out.len() + bytes;
        out.push_str(stamp);
        fill(out, whole, "");
        out.push_str("\r\n");
    }

    fn answer(&self, payload: &[u8]) -> Option<&'static str> {
        payload.ends_with(b"PING\r\n").then_some("PONG\r\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_long_as_was_asked() {
        let imgate = Imgate { users: vec![(1, "t".to_owned()), (2, "t".to_owned())], group: 7, v2: true };
        let legacy = Imgate { users: imgate.users.clone(), group: 7, v2: false };
        for to in [To::Group, To::Member(1)] {
            for dialect in [&Raw as &dyn Dialect, &imgate, &legacy] {
                let mut out = String::new();
                dialect.post(&mut out, to, "~~stamp", 12, 150);
                assert_eq!(out.len(), 150, "{out}");
            }
            let mut out = String::new();
            Nats.post(&mut out, to, "~~stamp", 12, 150);
            let (head, body) = out.split_once("\r\n").expect("two lines");
            assert!(head.ends_with(" 150") && body.len() == 152, "{out}");
        }
    }

    #[test]
    fn imgate_understands_its_dialect() {
        let imgate = Imgate { users: vec![(1, "t".to_owned()), (2, "t".to_owned())], group: 7, v2: true };
        let mut out = String::new();
        imgate.post(&mut out, To::Member(1), "~~stamp", 12, 150);
        let parsed = imgate::wire::command::Parser::default().parse(out.as_bytes(), imgate::wire::Profile::V2);
        assert!(matches!(parsed, Ok(imgate::wire::Command::Post(_))), "{parsed:?}");
    }
}
