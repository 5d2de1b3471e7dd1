//! How a server wants to be spoken to: the adapter between the load generator and everybody whom it
//! measures.
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
    /// The request target and further header lines (each with its line break) of a member's
    /// upgrade.
    fn request(&self, member: usize) -> (String, String);

    /// The opcode of the frames that a client sends.
    fn opcode(&self) -> u8 {
        TEXT
    }

    /// What a member says after its upgrade, one frame; empty: nothing.
    fn greeting(&self, _member: usize) -> String {
        String::new()
    }

    /// One message of `bytes` bytes in all (as far as the dialect has room), with `stamp` in it.
    /// `serial` is different for each message of a run.
    fn post(&self, out: &mut String, to: To, stamp: &str, serial: u64, bytes: usize);

    /// What has to be answered to a payload that the server sent, if anything.
    fn answer(&self, _payload: &[u8]) -> Option<&'static str> {
        None
    }
}

/// What people write, so that compression has what it has in life. ASCII, without quotation marks.
const TALK: &str = "Good morning, has anybody seen the agenda for today? I put it into the shared folder last night, but the link in the calendar \
    still points to the old one. Thanks, got it. Are we meeting in the small room or online? Online, two of us are on the train. The release went out at \
    nine, no alarms so far; latency is where it was and memory went down by a tenth. Nice! Did the migration take as long as we feared? Eleven minutes, most \
    of it waiting for the replica. Lunch at half past twelve? The place at the corner has dumplings again. I will be late, please order the green ones for me. \
    By the way, the customer from Thursday wrote back: they want to try it with two gateways next week, and asked how many connections one of them holds. I said \
    we would measure it on their machine. Can you look at the numbers before I send them? Sure, after the meeting. One more thing: who is on call tonight? ";

/// Appends filling until `out` has `bytes` bytes when `tail` follows; a different piece of the talk
/// for each `serial`.
fn fill(out: &mut String, serial: u64, bytes: usize, tail: &str) {
    // A prime, so that all beginnings come before one comes again.
    let mut at = serial as usize * 37 % TALK.len();
    while let left @ 1.. = bytes.saturating_sub(out.len() + tail.len()) {
        let piece = &TALK[at..TALK.len().min(at + left)];
        out.push_str(piece);
        at = 0;
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

    fn post(&self, out: &mut String, to: To, stamp: &str, serial: u64, bytes: usize) {
        let _ = match to {
            To::Group => write!(out, "g{stamp}"),
            To::Member(number) => write!(out, "d{number:08}{stamp}"),
        };
        fill(out, serial, bytes, "");
    }
}

/// imgate: a token at the gate, `cmd` 11 and 10 in JSON.
#[derive(Debug)]
pub struct Imgate {
    /// User and token of each member.
    pub users: Vec<(u64, String)>,
    /// The group of all.
    pub group: u64,
    /// Subprotocol `imgate.v2`, with a `cid` and an ack for each message; otherwise as the old
    /// pages.
    pub v2: bool,
    /// Whether members take compressed messages.
    pub deflate: bool,
}

impl Dialect for Imgate {
    fn request(&self, member: usize) -> (String, String) {
        let (user, token) = &self.users[member];
        let mut offers = String::new();
        if self.v2 {
            offers.push_str("Sec-WebSocket-Protocol: imgate.v2\r\n");
        }
        if self.deflate {
            offers.push_str("Sec-WebSocket-Extensions: permessage-deflate\r\n");
        }
        (format!("/chat?id={user}&token={token}"), offers)
    }

    fn post(&self, out: &mut String, to: To, stamp: &str, serial: u64, bytes: usize) {
        let (cmd, dstid) = match to {
            To::Group => (11, self.group),
            To::Member(number) => (10, self.users[number].0),
        };
        let _ = write!(out, r#"{{"cmd":{cmd},"dstid":{dstid},"#);
        // The stamp is in the ack as well as in the message if it is the `cid`; in both it would be
        // counted twice.
        let _ = match self.v2 {
            true => write!(out, r#""cid":"{stamp}{serial}","media":1,"content":""#),
            false => write!(out, r#""media":1,"content":"{stamp}"#),
        };
        fill(out, serial, bytes, r#""}"#);
    }
}

/// The NATS protocol: everybody subscribes to the group's subject and to one of its own. Without
/// echo, as nobody else echoes.
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

    fn post(&self, out: &mut String, to: To, stamp: &str, serial: u64, bytes: usize) {
        let _ = match to {
            To::Group => write!(out, "PUB g {bytes}\r\n"),
            To::Member(number) => write!(out, "PUB d.{number} {bytes}\r\n"),
        };
        let whole = out.len() + bytes;
        out.push_str(stamp);
        fill(out, serial, whole, "");
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
        let imgate =
            Imgate { users: vec![(1, "t".to_owned()), (2, "t".to_owned())], group: 7, v2: true, deflate: false };
        let legacy = Imgate { users: imgate.users.clone(), group: 7, v2: false, deflate: false };
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
        let imgate =
            Imgate { users: vec![(1, "t".to_owned()), (2, "t".to_owned())], group: 7, v2: true, deflate: false };
        let mut out = String::new();
        imgate.post(&mut out, To::Member(1), "~~stamp", 12, 900);
        let parsed = imgate::wire::command::Parser::default().parse(out.as_bytes(), imgate::wire::Profile::V2);
        assert!(matches!(parsed, Ok(imgate::wire::Command::Post(_))), "{parsed:?}");
    }
}
